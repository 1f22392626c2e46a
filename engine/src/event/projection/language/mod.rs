//! Projections as data: what an event says, written as EDN.
//!
//! ```edn
//! {:projection/name    :orders
//!  :projection/version 1
//!  :projection/mode    :inline                       ; or :async
//!  :projection/schema  [{:db/ident :order/id :db/valueType :db.type/string
//!                        :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
//!                       {:db/ident :order/status :db/valueType :db.type/keyword
//!                        :db/cardinality :db.cardinality/one}]
//!  :projection/on
//!  [{:event  "OrderPlaced"
//!    :when   [(= $data.channel "web")]
//!    :assert [{:order/id $stream.key, :order/status :placed, :order/at $time}]}
//!   {:event  ["OrderCancelled" "OrderExpired"]
//!    :assert [{:order/id $stream.key, :order/status :cancelled}]
//!    :retract [[[:order/id $stream.key] :order/courier]]}]}
//! ```
//!
//! **The head.** `:projection/name` and `:projection/version` (a number, 1 or more) name it.
//! `:projection/schema` holds the attributes it installs and from then on *owns*: nobody
//! else writes them. `:projection/mode` is `:inline` (in the append's own transaction; an event
//! it cannot take refuses the append) or `:async` (on its own thread). `:projection/on-error`
//! is `:halt`, `:park`, or `[:retry n :halt]`, `[:retry n :park]`; `:projection/batch` is the
//! number of events a transaction of an async projection takes. `:projection/doc` is for people.
//!
//! **A rule** has `:event` (a type, a vector of types, or `:any`) and may have `:category`
//! (of the stream), `:schema` (number), `:tag` (one or several, all wanted), `:when`
//! (a condition or several, all wanted), `:each [?x expression]` (once for each item of a
//! vector), and then what is so: `:retract-entity`, `:retract`, `:assert`, carried out in this order,
//! each line seeing what the lines before it did.
//!
//! - `:assert [{…} …]`: each map is about one entity: the one under `:db/id` (a lookup
//!   `[:order/id expression]`, a `"name"` shared within the rule, or `$event`), else the one its
//!   `:db.unique/identity` attribute names, made when there is none, else a new one. Under a
//!   reference, a map or a lookup names the entity pointed to. Under an attribute of
//!   cardinality many, a vector or set gives several values.
//! - `:retract [[entity attribute] [entity attribute expression] …]`: every value, or one.
//! - `:retract-entity [entity …]`: all that this projection says of the entity.
//!
//! **Expressions.** Literals stand for themselves.
//!
//! | written | is |
//! |---|---|
//! | `$data` `$data.a.b` `(field :a :b)` | the payload, or a field of it |
//! | `$meta.x` | an entry of the metadata |
//! | `$stream` `$stream.category` `$stream.key` | the stream, the part before and after its first `-` |
//! | `$type` `$schema` `$id` `$version` `$position` `$tags` | of the event |
//! | `$time` `$recorded-at` `$occurred-at` | when it happened (else was recorded), was recorded, was said to happen |
//! | `$actor` `$correlation` `$causation` `$event` | who, which conversation, caused by, the event as an entity |
//! | `?x` `?x.a` | the item of `:each`, or a field of it |
//! | `(string e)` `(long e)` `(double e)` `(boolean e)` `(instant e)` `(uuid e)` `(bigdec e)` | converted, or refused |
//! | `(keyword e)` `(keyword "ns" e)` | a keyword from text: lower case, spaces to dashes |
//! | `(or a b …)` | the first that is there: a default |
//! | `(maybe e)` | `e`, and when it is missing the attribute is left alone |
//! | `(if condition a b)` | one or the other |
//! | `(str a b …)` `(lower e)` `(upper e)` `(trim e)` `(split e "sep" n)` | text |
//! | `(+ a b …)` `(- a b)` `(* a b …)` `(count e)` | numbers |
//! | `(current :attr)` `(current :attr default)` | what the map's entity holds now; another's attribute, as of the event |
//! | `(get e :key …)` | a field of a computed map |
//!
//! **Conditions:** `(= a b)` `(not= a b)` `(< a b)` `(<= a b)` `(> a b)` `(>= a b)` `(present e)` `(missing e)`
//! `(in e #{…})` `(starts-with e "…")` `(not c)` `(and c …)` `(or c …)`.
//!
//! A value that was erased, what is computed of it, and a map whose entity only it could
//! name, are left out.
//!
//! A field that is missing (or null) where a value is needed is an error that names it: write
//! `(or …)` or `(maybe …)` where it may be. Nothing is converted unasked, except long to double.

mod expr;
mod function;
mod parse;
mod parse_expr;
mod rule;

use self::rule::Rule;
use crate::event::{
    append::Item,
    facts::{ProjectError, Target},
    record::Recorded,
};
use annals_model::{Diagnostic, Keyword, Value};
use hashbrown::HashMap;
use std::sync::Arc;

/// When a projection runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// In the transaction of the append.
    #[default]
    Inline,
    /// On its own thread, after the append, this many events a transaction.
    Async {
        /// Events a transaction.
        batch: usize,
    },
}

/// What an async projection does with an event it cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// Stops there and says so.
    #[default]
    Halt,
    /// Sets the event and later ones of its stream aside and goes on.
    Park,
    /// Tries again this often, then halts.
    RetryThenHalt(u8),
    /// Tries again this often, then parks.
    RetryThenPark(u8),
}

/// A projection written as EDN, checked as far as it can be without a database.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name.
    pub name: Keyword,
    /// Its version.
    pub version: u32,
    /// When it runs.
    pub mode: Mode,
    /// What happens on an error.
    pub on_error: OnError,
    /// The attributes it installs and owns, as transaction data.
    pub schema: Vec<Value>,
    /// The definition as written.
    pub source: Value,
    rules: Vec<Rule>,
    by_type: HashMap<Arc<str>, Vec<usize>>,
    any: Vec<usize>,
}

/// Events a transaction, unless the definition says otherwise.
pub const BATCH: usize = 2048;

impl Definition {
    /// Reads a definition; reports everything that is wrong with it.
    pub fn parse(source: &Value) -> Result<Definition, Vec<Diagnostic>> {
        parse::Parser::read(source)
    }

    /// Which events it asks for.
    pub fn wants(&self) -> Vec<Item> {
        let mut types = Vec::new();
        for rule in &self.rules {
            match &rule.types {
                None => return vec![Item::default()],
                Some(t) => types.extend(t.iter().cloned()),
            }
        }
        types.sort();
        types.dedup();
        vec![Item { types, tags: Vec::new() }]
    }

    /// Does any rule ask for events of this type?
    pub(crate) fn wants_type(&self, ty: &str) -> bool {
        !self.any.is_empty() || self.by_type.contains_key(ty)
    }

    /// Says what the event means.
    pub(crate) fn project(&self, e: &Recorded, out: &mut Target<'_>) -> Result<(), ProjectError> {
        let named = self.by_type.get(e.ty()).map_or(&[][..], Vec::as_slice);
        let (mut a, mut b) = (named.iter().copied().peekable(), self.any.iter().copied().peekable());
        // Both lists are in the order written: merged, rules run in that order.
        while let Some(i) = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x < y => a.next(),
            (_, Some(_)) => b.next(),
            (_, None) => a.next(),
        } {
            self.rules[i].run(e, out)?;
        }
        Ok(())
    }
}
