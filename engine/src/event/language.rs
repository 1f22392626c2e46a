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

use super::{
    append::Item,
    facts::{ProjectError, Subject, Target, is_erased, is_identity},
    id::{EventType, Tag},
    record::Recorded,
};
use annals_model::{Attribute, Diagnostic, Instant, Keyword, Symbol, Value, diagnostic::nearest};
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

#[derive(Clone, Debug)]
struct Rule {
    types: Option<Vec<EventType>>,
    category: Option<Arc<str>>,
    schema: Option<u32>,
    tags: Vec<Tag>,
    when: Vec<Cond>,
    each: Option<Expr>,
    forget: Vec<Entity>,
    retract: Vec<(Entity, Keyword, Option<Expr>)>,
    assert: Vec<Template>,
}

#[derive(Clone, Debug)]
enum Entity {
    Lookup(Keyword, Expr),
    Name(u32),
    Event,
}

#[derive(Clone, Debug)]
struct Template {
    entity: Option<Entity>,
    attrs: Vec<(Keyword, Slot)>,
    /// Number of the new entity, when neither `:db/id` nor an identity names one.
    fresh: u32,
}

#[derive(Clone, Debug)]
enum Slot {
    Expr(Expr),
    Nested(Template),
    Lookup(Keyword, Expr, Expr),
    Many(Vec<Slot>),
    Name(Arc<str>, u32),
}

#[derive(Clone, Debug)]
enum Expr {
    Const(Value),
    Data(Vec<Arc<str>>),
    Meta(Vec<Arc<str>>),
    Item(Vec<Arc<str>>),
    Of(Part),
    Call(Fun, Vec<Expr>),
    Vector(Vec<Expr>),
    If(Box<Cond>, Box<Expr>, Box<Expr>),
    Current(Keyword, Option<Box<Expr>>),
    Get(Box<Expr>, Vec<Value>),
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Stream,
    Category,
    Key,
    Type,
    Schema,
    Id,
    Version,
    Position,
    Tags,
    Time,
    RecordedAt,
    OccurredAt,
    Actor,
    Correlation,
    Causation,
    Event,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fun {
    String,
    Long,
    Double,
    Boolean,
    Instant,
    Uuid,
    BigDec,
    Keyword,
    Or,
    Maybe,
    Str,
    Lower,
    Upper,
    Trim,
    Split,
    Add,
    Sub,
    Mul,
    Count,
}

const FUNCTIONS: [(&str, Fun, usize, usize); 19] = [
    ("string", Fun::String, 1, 1),
    ("long", Fun::Long, 1, 1),
    ("double", Fun::Double, 1, 1),
    ("boolean", Fun::Boolean, 1, 1),
    ("instant", Fun::Instant, 1, 1),
    ("uuid", Fun::Uuid, 1, 1),
    ("bigdec", Fun::BigDec, 1, 1),
    ("keyword", Fun::Keyword, 1, 2),
    ("or", Fun::Or, 1, usize::MAX),
    ("maybe", Fun::Maybe, 1, 1),
    ("str", Fun::Str, 1, usize::MAX),
    ("lower", Fun::Lower, 1, 1),
    ("upper", Fun::Upper, 1, 1),
    ("trim", Fun::Trim, 1, 1),
    ("split", Fun::Split, 3, 3),
    ("+", Fun::Add, 2, usize::MAX),
    ("-", Fun::Sub, 2, 2),
    ("*", Fun::Mul, 2, usize::MAX),
    ("count", Fun::Count, 1, 1),
];

#[derive(Clone, Debug)]
enum Cond {
    Compare(Cmp, Expr, Expr),
    Present(Expr),
    In(Expr, Vec<Value>),
    StartsWith(Expr, Arc<str>),
    Not(Box<Cond>),
    All(Vec<Cond>),
    AnyOf(Vec<Cond>),
}

#[derive(Clone, Copy, Debug)]
enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Events a transaction, unless the definition says otherwise.
pub const BATCH: usize = 512;

impl Definition {
    /// Reads a definition; reports everything that is wrong with it.
    pub fn parse(source: &Value) -> Result<Definition, Vec<Diagnostic>> {
        let mut p = Parser { errors: Vec::new(), names: HashMap::new(), fresh: 0, each: None };
        let definition = p.definition(source);
        match definition {
            Some(d) if p.errors.is_empty() => Ok(d),
            _ => Err(p.errors),
        }
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

impl Rule {
    fn run(&self, e: &Recorded, out: &mut Target<'_>) -> Result<(), ProjectError> {
        if self.category.as_deref().is_some_and(|c| c != e.stream.category())
            || self.schema.is_some_and(|s| s != e.event.schema)
            || !self.tags.iter().all(|t| e.event.tags.contains(t))
        {
            return Ok(());
        }
        match &self.each {
            None => self.once(&Scope { event: e, item: None }, out, 0),
            Some(items) => {
                let scope = Scope { event: e, item: None };
                match items.value(&scope, out, None)? {
                    None => Ok(()),
                    Some(Value::Vector(items) | Value::Set(items) | Value::List(items)) => {
                        for (i, item) in items.iter().enumerate() {
                            self.once(&Scope { event: e, item: Some(item) }, out, (i as u32 + 1) << 12)?;
                        }
                        Ok(())
                    }
                    Some(value) => Err(ProjectError::Convert { value, wanted: "vector", by: ":each".into() }),
                }
            }
        }
    }

    /// `round` keeps the new entities of each item apart.
    fn once(&self, scope: &Scope<'_>, out: &mut Target<'_>, round: u32) -> Result<(), ProjectError> {
        for c in &self.when {
            if !c.holds(scope, out, None)? {
                return Ok(());
            }
        }
        for entity in &self.forget {
            if let Some(e) = entity.existing(scope, out, round)? {
                out.forget(e)?;
            }
        }
        for (entity, attr, value) in &self.retract {
            let a = out.owned(attr)?;
            let Some(e) = entity.existing(scope, out, round)? else { continue };
            match value {
                None => out.clear(e, attr, a)?,
                Some(v) => {
                    let v = v.needed(scope, out, Some(e), || format!(":retract {attr}"))?;
                    out.retract(e, attr, a, v)?;
                }
            }
        }
        for template in &self.assert {
            match template.assert(scope, out, round) {
                // Of an entity that only an erased value could name, nothing is said.
                Ok(_) | Err(ProjectError::Erased) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

struct Scope<'a> {
    event: &'a Recorded,
    item: Option<&'a Value>,
}

impl Entity {
    fn subject(&self, scope: &Scope<'_>, out: &mut Target<'_>, round: u32) -> Result<Subject, ProjectError> {
        Ok(match self {
            Entity::Lookup(attr, v) => {
                Subject::Lookup(attr.clone(), v.named(scope, out, None, || format!("lookup {attr}"))?)
            }
            Entity::Name(n) => Subject::New(n + round),
            Entity::Event => Subject::Id(scope.event.position.entity()),
        })
    }
    /// For retraction: what is not there is not made.
    fn existing(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        round: u32,
    ) -> Result<Option<annals_model::EntityId>, ProjectError> {
        match self.subject(scope, out, round) {
            Ok(Subject::Lookup(attr, v)) => out.find(&attr, &v),
            Ok(s) => out.entity(&s).map(Some),
            Err(ProjectError::Erased) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Template {
    fn assert(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        round: u32,
    ) -> Result<annals_model::EntityId, ProjectError> {
        let subject = match &self.entity {
            Some(entity) => entity.subject(scope, out, round)?,
            None => self.identity(scope, out)?.unwrap_or(Subject::New(self.fresh + round)),
        };
        let e = out.entity(&subject)?;
        for (attr, slot) in &self.attrs {
            let a = out.owned(attr)?.clone();
            slot.assert(e, attr, &a, scope, out, round)?;
        }
        Ok(e)
    }
    fn identity(&self, scope: &Scope<'_>, out: &mut Target<'_>) -> Result<Option<Subject>, ProjectError> {
        let mut erased = false;
        for (attr, slot) in &self.attrs {
            if !is_identity(out.owned(attr)?) {
                continue;
            }
            if let Slot::Expr(v) = slot {
                match v.named(scope, out, None, || attr.to_string()) {
                    Ok(v) => return Ok(Some(Subject::Lookup(attr.clone(), v))),
                    // Another identity may still name it.
                    Err(ProjectError::Erased) => erased = true,
                    Err(e) => return Err(e),
                }
            }
        }
        if erased {
            return Err(ProjectError::Erased);
        }
        Ok(None)
    }
}

impl Slot {
    fn assert(
        &self,
        e: annals_model::EntityId,
        attr: &Keyword,
        a: &Arc<Attribute>,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        round: u32,
    ) -> Result<(), ProjectError> {
        let value = match self {
            Slot::Expr(Expr::Call(Fun::Maybe, args)) => match args[0].value(scope, out, Some(e))? {
                Some(v) => v,
                None => return Ok(()),
            },
            Slot::Expr(expr) => expr.needed(scope, out, Some(e), || attr.to_string())?,
            Slot::Nested(t) => match t.assert(scope, out, round) {
                Ok(e) => Value::Ref(e),
                Err(ProjectError::Erased) => return Ok(()),
                Err(e) => return Err(e),
            },
            // A pair of keyword and expression is a lookup under a reference, and a value elsewhere.
            Slot::Lookup(unique, v, whole) => {
                if a.is_ref() {
                    let v = match v.named(scope, out, Some(e), || format!("{attr} [{unique} …]")) {
                        Err(ProjectError::Erased) => return Ok(()),
                        v => v?,
                    };
                    Value::Ref(out.entity(&Subject::Lookup(unique.clone(), v))?)
                } else {
                    whole.needed(scope, out, Some(e), || attr.to_string())?
                }
            }
            Slot::Name(text, n) => {
                if a.is_ref() {
                    Value::Ref(out.entity(&Subject::New(n + round))?)
                } else {
                    Value::String(text.clone())
                }
            }
            Slot::Many(slots) => {
                if !a.is_many() {
                    return Err(ProjectError::ManyForOne { attr: attr.clone() });
                }
                for slot in slots {
                    slot.assert(e, attr, a, scope, out, round)?;
                }
                return Ok(());
            }
        };
        match value {
            Value::Vector(items) | Value::Set(items) if a.is_many() => {
                for item in items.iter() {
                    out.assert(e, attr, a, item.clone())?;
                }
                Ok(())
            }
            v => out.assert(e, attr, a, v),
        }
    }
}

type Here = Option<annals_model::EntityId>;

impl Expr {
    fn needed(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        here: Here,
        what: impl Fn() -> String,
    ) -> Result<Value, ProjectError> {
        match self.value(scope, out, here)? {
            Some(v) => Ok(v),
            None => Err(ProjectError::Missing { what: what(), field: self.name() }),
        }
    }

    /// The value that names an entity.
    fn named(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        here: Here,
        what: impl Fn() -> String,
    ) -> Result<Value, ProjectError> {
        let v = self.needed(scope, out, here, what)?;
        if is_erased(&v) { Err(ProjectError::Erased) } else { Ok(v) }
    }

    /// The value; none when it is missing or nil.
    fn value(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        here: Here,
    ) -> Result<Option<Value>, ProjectError> {
        let e = scope.event;
        let found = match self {
            Expr::Const(v) => Some(v.clone()),
            Expr::Data(path) => e.event.data.path(path)?,
            Expr::Meta(path) => {
                path.split_first().and_then(|(first, rest)| dig(e.event.meta.more.get(first)?.clone(), rest))
            }
            Expr::Item(path) => scope.item.and_then(|v| dig(v.clone(), path)),
            Expr::Of(part) => part.value(e),
            Expr::Vector(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.push(item.needed(scope, out, here, || "vector".into())?);
                }
                Some(Value::Vector(values.into()))
            }
            Expr::If(c, yes, no) => {
                let chosen = if c.holds(scope, out, here)? { yes } else { no };
                chosen.value(scope, out, here)?
            }
            Expr::Current(attr, default) => {
                let Some(entity) = here else {
                    return Err(ProjectError::Said(format!(
                        "(current {attr}) needs an entity: use it in a map"
                    )));
                };
                let held = out.read(entity, attr)?;
                match held.len() {
                    0 => match default {
                        Some(d) => d.value(scope, out, here)?,
                        None => None,
                    },
                    1 => held.into_iter().next(),
                    _ => Some(Value::set(held)),
                }
            }
            Expr::Get(from, keys) => {
                let mut at = from.value(scope, out, here)?;
                for key in keys {
                    at = at.and_then(|v| entry(&v, key));
                }
                at
            }
            Expr::Call(Fun::Or, args) => {
                for arg in args {
                    if let Some(v) = arg.value(scope, out, here)? {
                        return Ok(Some(v));
                    }
                }
                None
            }
            Expr::Call(f, args) => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    match arg.value(scope, out, here)? {
                        // What is made of an erased value is erased.
                        Some(v) if is_erased(&v) => return Ok(Some(v)),
                        Some(v) => values.push(v),
                        None => return Ok(None),
                    }
                }
                Some(f.call(values)?)
            }
        };
        Ok(found.filter(|v| *v != Value::Nil))
    }

    /// What to call it in a message.
    fn name(&self) -> String {
        let path = |root: &str, path: &[Arc<str>]| {
            path.iter().fold(root.to_owned(), |mut name, part| {
                name.push('.');
                name.push_str(part);
                name
            })
        };
        match self {
            Expr::Data(p) => path("$data", p),
            Expr::Meta(p) => path("$meta", p),
            Expr::Item(p) => path("?item", p),
            Expr::Of(part) => format!("${part:?}").to_lowercase(),
            Expr::Call(_, args) => args.iter().map(Expr::name).collect::<Vec<_>>().join(" or "),
            Expr::Current(attr, _) => format!("(current {attr})"),
            Expr::Get(from, _) => from.name(),
            Expr::Const(v) => format!("{v:?}"),
            Expr::Vector(_) => "vector".into(),
            Expr::If(..) => "(if …)".into(),
        }
    }
}

fn dig(v: Value, path: &[Arc<str>]) -> Option<Value> {
    path.iter().try_fold(v, |v, key| entry(&v, &Value::keyword(key)))
}

fn entry(v: &Value, key: &Value) -> Option<Value> {
    match (v, key) {
        (Value::Vector(items) | Value::List(items), Value::Long(i)) => {
            usize::try_from(*i).ok().and_then(|i| items.get(i)).cloned()
        }
        _ => v.get(key).cloned(),
    }
}

impl Part {
    fn value(self, e: &Recorded) -> Option<Value> {
        let m = &e.event.meta;
        Some(match self {
            Part::Stream => Value::String(e.stream.shared()),
            Part::Category => Value::string(e.stream.category()),
            Part::Key => Value::string(e.stream.key()),
            Part::Type => Value::String(e.event.ty.shared()),
            Part::Schema => Value::Long(e.event.schema.into()),
            Part::Id => Value::Uuid(e.event.id.0),
            Part::Version => Value::Long(e.version.0 as i64),
            Part::Position => Value::Long(e.position.0 as i64),
            Part::Tags => Value::set(e.event.tags.iter().map(|t| Value::String(t.shared()))),
            Part::Time => Value::Instant(e.time()),
            Part::RecordedAt => Value::Instant(e.recorded_at),
            Part::OccurredAt => Value::Instant(e.event.occurred_at?),
            Part::Actor => Value::String(m.actor.clone()?),
            Part::Correlation => Value::String(m.correlation.clone()?),
            Part::Causation => Value::Uuid(m.causation?),
            Part::Event => Value::Ref(e.position.entity()),
        })
    }
}

impl Fun {
    fn call(self, mut args: Vec<Value>) -> Result<Value, ProjectError> {
        let name = FUNCTIONS.iter().find(|f| f.1 == self).map_or("", |f| f.0);
        let refuse = |value: Value, wanted: &'static str| ProjectError::Convert {
            value,
            wanted,
            by: format!("({name} …)"),
        };
        let text = |v: Value| match v {
            Value::String(s) => Ok(s),
            v => Err(refuse(v, "string")),
        };
        let mut first = || args.swap_remove(0);
        Ok(match self {
            Fun::Or | Fun::Maybe => first(),
            Fun::String => Value::string(plain(&first())),
            Fun::Long => match first() {
                Value::Long(n) => Value::Long(n),
                Value::Double(d) if d.fract() == 0.0 && d.abs() < 9.0e15 => Value::Long(d as i64),
                Value::String(s) => match s.trim().parse() {
                    Ok(n) => Value::Long(n),
                    Err(_) => return Err(refuse(Value::String(s), "long")),
                },
                Value::Instant(i) => Value::Long(i.0.div_euclid(1000)),
                v => return Err(refuse(v, "long")),
            },
            Fun::Double => match first() {
                Value::Double(d) => Value::Double(d),
                Value::Long(n) => Value::double(n as f64).ok_or_else(|| refuse(Value::Long(n), "double"))?,
                Value::String(s) => s
                    .trim()
                    .parse()
                    .ok()
                    .and_then(Value::double)
                    .ok_or_else(|| refuse(Value::String(s), "double"))?,
                v => return Err(refuse(v, "double")),
            },
            Fun::Boolean => match first() {
                Value::Bool(b) => Value::Bool(b),
                Value::String(s) if &*s == "true" => Value::Bool(true),
                Value::String(s) if &*s == "false" => Value::Bool(false),
                v => return Err(refuse(v, "boolean")),
            },
            Fun::Instant => match first() {
                Value::Instant(i) => Value::Instant(i),
                Value::String(s) => {
                    Value::Instant(instant(&s).ok_or_else(|| refuse(Value::String(s), "instant"))?)
                }
                Value::Long(ms) => Value::Instant(Instant::from_millis(ms)),
                v => return Err(refuse(v, "instant")),
            },
            Fun::Uuid => match first() {
                Value::Uuid(u) => Value::Uuid(u),
                Value::String(s) => Value::Uuid(s.parse().map_err(|_| refuse(Value::String(s), "uuid"))?),
                v => return Err(refuse(v, "uuid")),
            },
            Fun::BigDec => match first() {
                v @ Value::BigDec(_) => v,
                Value::Long(n) => Value::BigDec(Arc::new(n.into())),
                Value::String(s) => {
                    Value::BigDec(Arc::new(s.trim().parse().map_err(|_| refuse(Value::String(s), "bigdec"))?))
                }
                v => return Err(refuse(v, "bigdec")),
            },
            Fun::Keyword => {
                let last = args.pop().unwrap_or(Value::Nil);
                let name = match last {
                    Value::Keyword(k) if args.is_empty() => return Ok(Value::Keyword(k)),
                    Value::Keyword(k) => k.name().to_owned(),
                    v => text(v)?
                        .trim()
                        .trim_start_matches(':')
                        .to_lowercase()
                        .replace(char::is_whitespace, "-"),
                };
                if name.is_empty() {
                    return Err(refuse(Value::string(""), "keyword"));
                }
                match args.pop() {
                    Some(ns) => Value::Keyword(Keyword::from_parts(Some(&text(ns)?), &name)),
                    None => Value::Keyword(Keyword::new(name)),
                }
            }
            Fun::Str => Value::string(args.iter().map(plain).collect::<String>()),
            Fun::Lower => Value::string(text(first())?.to_lowercase()),
            Fun::Upper => Value::string(text(first())?.to_uppercase()),
            Fun::Trim => Value::string(text(first())?.trim()),
            Fun::Split => {
                let (n, sep, from) = (args.pop(), args.pop(), args.pop());
                let (Some(Value::Long(n)), Some(sep), Some(from)) = (n, sep, from) else {
                    return Err(refuse(Value::Nil, "text, a separator and a number"));
                };
                let (sep, from) = (text(sep)?, text(from)?);
                match usize::try_from(n).ok().and_then(|n| from.split(&*sep).nth(n)) {
                    Some(part) => Value::string(part),
                    None => Value::Nil,
                }
            }
            Fun::Count => match first() {
                Value::Vector(v) | Value::List(v) | Value::Set(v) => Value::Long(v.len() as i64),
                Value::Map(m) => Value::Long(m.len() as i64),
                Value::String(s) => Value::Long(s.chars().count() as i64),
                v => return Err(refuse(v, "collection")),
            },
            Fun::Add | Fun::Sub | Fun::Mul => {
                let mut rest = args.into_iter();
                let mut sum = rest.next().unwrap_or(Value::Nil);
                for v in rest {
                    sum = arithmetic(self, name, sum, v)?;
                }
                sum
            }
        })
    }
}

fn arithmetic(f: Fun, name: &str, a: Value, b: Value) -> Result<Value, ProjectError> {
    let wrong =
        || ProjectError::Arithmetic(format!("({name} {a:?} {b:?}) is out of range or not about numbers"));
    let double = |a: f64, b: f64| {
        Value::double(match f {
            Fun::Add => a + b,
            Fun::Sub => a - b,
            _ => a * b,
        })
        .ok_or_else(wrong)
    };
    match (&a, &b) {
        (Value::Long(x), Value::Long(y)) => match f {
            Fun::Add => x.checked_add(*y),
            Fun::Sub => x.checked_sub(*y),
            _ => x.checked_mul(*y),
        }
        .map(Value::Long)
        .ok_or_else(wrong),
        (Value::Double(x), Value::Double(y)) => double(*x, *y),
        (Value::Long(x), Value::Double(y)) => double(*x as f64, *y),
        (Value::Double(x), Value::Long(y)) => double(*x, *y as f64),
        (Value::BigDec(x), Value::BigDec(y)) => Ok(Value::BigDec(Arc::new(match f {
            Fun::Add => x.as_ref() + y.as_ref(),
            Fun::Sub => x.as_ref() - y.as_ref(),
            _ => x.as_ref() * y.as_ref(),
        }))),
        _ => Err(wrong()),
    }
}

/// Dates as people and JSON write them; a space may stand for the `T`.
fn instant(text: &str) -> Option<Instant> {
    Instant::parse(text).or_else(|| Instant::parse(&text.replacen(' ', "T", 1)))
}

/// A value as text, strings without quotes.
fn plain(v: &Value) -> String {
    match v {
        Value::String(s) | Value::Uri(s) => s.to_string(),
        Value::Instant(i) => i.to_string(),
        Value::Uuid(u) => u.to_string(),
        Value::BigInt(n) => n.to_string(),
        Value::BigDec(n) => n.to_string(),
        Value::Ref(e) => e.to_string(),
        v => format!("{v:?}"),
    }
}

impl Cond {
    fn holds(&self, scope: &Scope<'_>, out: &mut Target<'_>, here: Here) -> Result<bool, ProjectError> {
        Ok(match self {
            Cond::Present(e) => e.value(scope, out, here)?.is_some(),
            Cond::In(e, set) => e.value(scope, out, here)?.is_some_and(|v| set.contains(&v)),
            Cond::StartsWith(e, start) => {
                matches!(e.value(scope, out, here)?, Some(Value::String(s)) if s.starts_with(&**start))
            }
            Cond::Not(c) => !c.holds(scope, out, here)?,
            Cond::All(all) => {
                for c in all {
                    if !c.holds(scope, out, here)? {
                        return Ok(false);
                    }
                }
                true
            }
            Cond::AnyOf(any) => {
                for c in any {
                    if c.holds(scope, out, here)? {
                        return Ok(true);
                    }
                }
                false
            }
            Cond::Compare(cmp, a, b) => {
                let (a, b) = (a.value(scope, out, here)?, b.value(scope, out, here)?);
                match cmp {
                    Cmp::Eq => same(&a, &b),
                    Cmp::Ne => !same(&a, &b),
                    // What is missing is neither smaller nor larger.
                    _ => match (a, b) {
                        (Some(a), Some(b)) => order(&a, &b).is_some_and(|o| match cmp {
                            Cmp::Lt => o.is_lt(),
                            Cmp::Le => o.is_le(),
                            Cmp::Gt => o.is_gt(),
                            _ => o.is_ge(),
                        }),
                        _ => false,
                    },
                }
            }
        })
    }
}

fn same(a: &Option<Value>, b: &Option<Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || order(a, b).is_some_and(std::cmp::Ordering::is_eq),
        (None, None) => true,
        _ => false,
    }
}

/// Values of one type, and numbers among each other, have an order.
fn order(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Long(x), Value::Double(y)) => (*x as f64).partial_cmp(y),
        (Value::Double(x), Value::Long(y)) => x.partial_cmp(&(*y as f64)),
        _ if a.kind() == b.kind() => Some(a.cmp(b)),
        _ => None,
    }
}

struct Parser {
    errors: Vec<Diagnostic>,
    names: HashMap<Arc<str>, u32>,
    fresh: u32,
    each: Option<Arc<str>>,
}

const HEAD: [&str; 8] = [
    "projection/name",
    "projection/version",
    "projection/mode",
    "projection/on-error",
    "projection/batch",
    "projection/schema",
    "projection/on",
    "projection/doc",
];
const RULE: [&str; 9] =
    ["event", "category", "schema", "tag", "when", "each", "assert", "retract", "retract-entity"];

impl Parser {
    fn error(&mut self, path: &str, message: impl Into<String>, help: &str) {
        let d = Diagnostic::new("projection/malformed", message).path(path);
        self.errors.push(if help.is_empty() { d } else { d.help(help) });
    }

    fn unknown(&mut self, path: &str, what: &str, given: &str, known: &[&str]) {
        let help = match nearest(given, known.iter().copied()) {
            Some(n) => format!("did you mean {n}?"),
            None => format!("known: {}", known.join(" ")),
        };
        self.error(path, format!("unknown {what} {given}"), &help);
    }

    fn keys(&mut self, path: &str, map: &[(Value, Value)], known: &[&str]) {
        for (k, _) in map {
            match k {
                Value::Keyword(k) if known.contains(&k.as_str()) => {}
                other => {
                    let given = format!("{other:?}");
                    self.unknown(path, "key", given.trim_start_matches(':'), known);
                }
            }
        }
    }

    fn definition(&mut self, source: &Value) -> Option<Definition> {
        let Value::Map(map) = source else {
            self.error(
                "",
                format!("a projection is a map, got {}", source.kind()),
                "write {:projection/name …}",
            );
            return None;
        };
        self.keys("", map, &HEAD);
        let get = |key: &str| source.get(&Value::keyword(key));
        let name = match get("projection/name") {
            Some(Value::Keyword(k)) => Some(k.clone()),
            Some(Value::String(s)) if !s.is_empty() => Some(Keyword::new(s)),
            other => {
                self.error(":projection/name", format!("expected a keyword, got {other:?}"), "");
                None
            }
        };
        let version = match get("projection/version") {
            None => 1,
            Some(Value::Long(n)) if (1..=i64::from(u32::MAX)).contains(n) => *n as u32,
            Some(other) => {
                self.error(":projection/version", format!("expected a number from 1 on, got {other:?}"), "");
                1
            }
        };
        let batch = match get("projection/batch") {
            None => BATCH,
            Some(Value::Long(n)) if (1..=100_000).contains(n) => *n as usize,
            Some(other) => {
                self.error(":projection/batch", format!("expected 1 to 100000, got {other:?}"), "");
                BATCH
            }
        };
        let mode = match get("projection/mode") {
            None => Mode::Inline,
            Some(Value::Keyword(k)) if k.as_str() == "inline" => Mode::Inline,
            Some(Value::Keyword(k)) if k.as_str() == "async" => Mode::Async { batch },
            Some(other) => {
                self.error(":projection/mode", format!("expected :inline or :async, got {other:?}"), "");
                Mode::Inline
            }
        };
        let on_error = self.on_error(get("projection/on-error"));
        let schema = match get("projection/schema") {
            Some(Value::Vector(v)) if !v.is_empty() => v.to_vec(),
            other => {
                let got = other.map_or("nothing", Value::kind);
                self.error(
                    ":projection/schema",
                    format!("expected a vector of attribute maps, got {got}"),
                    "declare every attribute the projection writes: {:db/ident … :db/valueType … :db/cardinality …}",
                );
                Vec::new()
            }
        };
        let mut declared = Vec::new();
        for (i, a) in schema.iter().enumerate() {
            match a.get(&Value::keyword("db/ident")) {
                Some(Value::Keyword(k)) => declared.push(k.clone()),
                _ => self.error(&format!(":projection/schema[{i}]"), "an attribute map needs :db/ident", ""),
            }
        }
        let mut rules = Vec::new();
        match get("projection/on") {
            Some(Value::Vector(v)) if !v.is_empty() => {
                for (i, rule) in v.iter().enumerate() {
                    if let Some(rule) = self.rule(&format!(":projection/on[{i}]"), rule, &declared) {
                        rules.push(rule);
                    }
                }
            }
            _ => self.error(
                ":projection/on",
                "expected a vector of rules",
                "write [{:event \"Type\" :assert [{…}]}]",
            ),
        }
        let (mut by_type, mut any) = (HashMap::<Arc<str>, Vec<usize>>::new(), Vec::new());
        for (i, rule) in rules.iter().enumerate() {
            match &rule.types {
                None => any.push(i),
                Some(types) => {
                    for ty in types {
                        by_type.entry(ty.shared()).or_default().push(i);
                    }
                }
            }
        }
        Some(Definition {
            name: name?,
            version,
            mode,
            on_error,
            schema,
            source: source.clone(),
            rules,
            by_type,
            any,
        })
    }

    fn on_error(&mut self, given: Option<&Value>) -> OnError {
        let plain = |v: &Value| match v {
            Value::Keyword(k) if k.as_str() == "halt" => Some(OnError::Halt),
            Value::Keyword(k) if k.as_str() == "park" => Some(OnError::Park),
            _ => None,
        };
        let Some(given) = given else { return OnError::Halt };
        if let Some(policy) = plain(given) {
            return policy;
        }
        if let Value::Vector(v) = given
            && let [Value::Keyword(k), Value::Long(n @ 1..=255), then] = &v[..]
            && k.as_str() == "retry"
        {
            match plain(then) {
                Some(OnError::Halt) => return OnError::RetryThenHalt(*n as u8),
                Some(OnError::Park) => return OnError::RetryThenPark(*n as u8),
                _ => {}
            }
        }
        self.error(
            ":projection/on-error",
            format!("expected :halt, :park or [:retry n :park], got {given:?}"),
            "",
        );
        OnError::Halt
    }

    fn rule(&mut self, path: &str, rule: &Value, declared: &[Keyword]) -> Option<Rule> {
        let Value::Map(map) = rule else {
            self.error(path, format!("a rule is a map, got {}", rule.kind()), "");
            return None;
        };
        self.keys(path, map, &RULE);
        self.names.clear();
        self.fresh = 0;
        self.each = None;
        let get = |key: &str| rule.get(&Value::keyword(key));
        let types = match get("event") {
            Some(Value::Keyword(k)) if k.as_str() == "any" => None,
            Some(Value::String(s)) => Some(vec![self.event_type(path, s)?]),
            Some(Value::Vector(v) | Value::Set(v)) if !v.is_empty() => {
                let mut types = Vec::new();
                for ty in v.iter() {
                    match ty {
                        Value::String(s) => types.extend(self.event_type(path, s)),
                        other => self.error(path, format!(":event holds type names, got {other:?}"), ""),
                    }
                }
                Some(types)
            }
            other => {
                self.error(
                    path,
                    format!("expected :event with a type name, got {other:?}"),
                    "write :event \"Type\" or :event :any",
                );
                None
            }
        };
        let category = match get("category") {
            None => None,
            Some(Value::String(s)) => Some(s.clone()),
            Some(other) => {
                self.error(path, format!(":category is a string, got {other:?}"), "");
                None
            }
        };
        let schema = match get("schema") {
            None => None,
            Some(Value::Long(n)) if u32::try_from(*n).is_ok() => Some(*n as u32),
            Some(other) => {
                self.error(path, format!(":schema is a number, got {other:?}"), "");
                None
            }
        };
        let mut tags = Vec::new();
        for tag in one_or_many(get("tag")) {
            match tag {
                Value::String(s) => match Tag::new(s) {
                    Ok(t) => tags.push(t),
                    Err(e) => self.error(path, e.to_string(), ""),
                },
                other => self.error(path, format!(":tag is a string, got {other:?}"), ""),
            }
        }
        let each = match get("each") {
            None => None,
            Some(Value::Vector(v)) => match &v[..] {
                [Value::Symbol(s), e] if s.as_str().starts_with('?') && s.as_str().len() > 1 => {
                    let e = self.expr(&format!("{path} :each"), e);
                    self.each = Some(Arc::from(s.as_str()));
                    e
                }
                _ => {
                    self.error(path, ":each is [?name expression]", "");
                    None
                }
            },
            Some(other) => {
                self.error(path, format!(":each is [?name expression], got {}", other.kind()), "");
                None
            }
        };
        let mut when = Vec::new();
        let conditions = match get("when") {
            Some(Value::Vector(v)) => v.to_vec(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        };
        for (i, c) in conditions.iter().enumerate() {
            when.extend(self.cond(&format!("{path} :when[{i}]"), c));
        }
        let mut assert = Vec::new();
        for (i, form) in self.forms(path, ":assert", get("assert")).iter().enumerate() {
            assert.extend(self.template(&format!("{path} :assert[{i}]"), form, declared));
        }
        let mut retract = Vec::new();
        for (i, form) in self.forms(path, ":retract", get("retract")).iter().enumerate() {
            let path = format!("{path} :retract[{i}]");
            let parts = match form {
                Value::Vector(v) => v.to_vec(),
                _ => Vec::new(),
            };
            match &parts[..] {
                [e, Value::Keyword(attr), value @ ..] if value.len() <= 1 => {
                    self.attr(&path, attr, declared);
                    let e = self.entity(&path, e);
                    let v = value.first().map(|v| self.expr(&path, v));
                    match (e, v) {
                        (Some(e), None) => retract.push((e, attr.clone(), None)),
                        (Some(e), Some(Some(v))) => retract.push((e, attr.clone(), Some(v))),
                        _ => {}
                    }
                }
                _ => self.error(&path, "expected [entity attribute] or [entity attribute value]", ""),
            }
        }
        let mut forget = Vec::new();
        for (i, form) in self.forms(path, ":retract-entity", get("retract-entity")).iter().enumerate() {
            forget.extend(self.entity(&format!("{path} :retract-entity[{i}]"), form));
        }
        if assert.is_empty() && retract.is_empty() && forget.is_empty() && self.errors.is_empty() {
            self.error(path, "the rule says nothing", "give it :assert, :retract or :retract-entity");
        }
        Some(Rule { types, category, schema, tags, when, each, forget, retract, assert })
    }

    fn forms(&mut self, path: &str, key: &str, given: Option<&Value>) -> Vec<Value> {
        match given {
            None => Vec::new(),
            Some(Value::Vector(v)) => v.to_vec(),
            Some(other) => {
                self.error(path, format!("{key} is a vector, got {}", other.kind()), "");
                Vec::new()
            }
        }
    }

    fn event_type(&mut self, path: &str, s: &str) -> Option<EventType> {
        EventType::new(s).map_err(|e| self.error(path, e.to_string(), "")).ok()
    }

    fn attr(&mut self, path: &str, attr: &Keyword, declared: &[Keyword]) {
        if declared.contains(attr) {
            return;
        }
        let help = match nearest(attr.as_str(), declared.iter().map(Keyword::as_str)) {
            Some(n) => format!("did you mean :{n}?"),
            None => format!("add {{:db/ident {attr} …}} to :projection/schema"),
        };
        self.errors.push(
            Diagnostic::new("projection/not-owned", format!("{attr} is not in :projection/schema"))
                .path(path)
                .help(help),
        );
    }

    fn name(&mut self, s: &Arc<str>) -> u32 {
        match self.names.get(s) {
            Some(n) => *n,
            None => {
                let n = self.next();
                self.names.insert(s.clone(), n);
                n
            }
        }
    }

    fn next(&mut self) -> u32 {
        self.fresh += 1;
        self.fresh
    }

    fn entity(&mut self, path: &str, v: &Value) -> Option<Entity> {
        match v {
            Value::Vector(pair) => {
                if let [Value::Keyword(attr), e] = &pair[..] {
                    return Some(Entity::Lookup(attr.clone(), self.expr(path, e)?));
                }
            }
            Value::String(s) => return Some(Entity::Name(self.name(s))),
            Value::Symbol(s) if s.as_str() == "$event" => return Some(Entity::Event),
            _ => {}
        }
        self.error(
            path,
            format!("{v:?} names no entity"),
            "write a lookup [:order/id $data.id], a \"name\", or $event",
        );
        None
    }

    fn template(&mut self, path: &str, form: &Value, declared: &[Keyword]) -> Option<Template> {
        let Value::Map(map) = form else {
            self.error(path, format!("expected a map about one entity, got {}", form.kind()), "");
            return None;
        };
        let (mut entity, mut attrs) = (None, Vec::new());
        for (k, v) in map.iter() {
            let Value::Keyword(attr) = k else {
                self.error(path, format!("attributes are keywords, got {k:?}"), "");
                continue;
            };
            if attr.as_str() == "db/id" {
                entity = self.entity(path, v);
                continue;
            }
            self.attr(path, attr, declared);
            if let Some(slot) = self.slot(&format!("{path} {attr}"), v, declared) {
                attrs.push((attr.clone(), slot));
            }
        }
        Some(Template { entity, attrs, fresh: self.next() })
    }

    fn slot(&mut self, path: &str, v: &Value, declared: &[Keyword]) -> Option<Slot> {
        Some(match v {
            Value::Map(_) => Slot::Nested(self.template(path, v, declared)?),
            Value::String(s) => match self.names.get(s) {
                Some(n) => Slot::Name(s.clone(), *n),
                None => Slot::Expr(Expr::Const(v.clone())),
            },
            Value::Vector(items) => match &items[..] {
                [Value::Keyword(attr), value] => {
                    let value = self.expr(path, value)?;
                    let whole = Expr::Vector(vec![Expr::Const(Value::Keyword(attr.clone())), value.clone()]);
                    Slot::Lookup(attr.clone(), value, whole)
                }
                _ => {
                    let mut slots = Vec::with_capacity(items.len());
                    for (i, item) in items.iter().enumerate() {
                        slots.push(self.slot(&format!("{path}[{i}]"), item, declared)?);
                    }
                    Slot::Many(slots)
                }
            },
            _ => Slot::Expr(self.expr(path, v)?),
        })
    }

    fn expr(&mut self, path: &str, v: &Value) -> Option<Expr> {
        Some(match v {
            Value::Symbol(s) => self.symbol(path, s)?,
            Value::List(list) => {
                let Some((Value::Symbol(head), args)) = list.split_first() else {
                    self.error(path, format!("{v:?} is not a call"), "write (function argument …)");
                    return None;
                };
                self.call(path, head.as_str(), args)?
            }
            Value::Vector(items) => {
                let mut all = Vec::with_capacity(items.len());
                for item in items.iter() {
                    all.push(self.expr(path, item)?);
                }
                Expr::Vector(all)
            }
            literal => Expr::Const(literal.clone()),
        })
    }

    fn symbol(&mut self, path: &str, s: &Symbol) -> Option<Expr> {
        let mut parts = s.as_str().split('.');
        let root = parts.next().unwrap_or_default();
        let rest: Vec<Arc<str>> = parts.map(Arc::from).collect();
        if rest.iter().any(|p| p.is_empty()) {
            self.error(path, format!("{s} has an empty part"), "");
            return None;
        }
        match root {
            "$data" => return Some(Expr::Data(rest)),
            "$meta" if !rest.is_empty() => return Some(Expr::Meta(rest)),
            _ if self.each.as_deref() == Some(root) => return Some(Expr::Item(rest)),
            _ => {}
        }
        let part = match s.as_str() {
            "$stream" => Part::Stream,
            "$stream.category" => Part::Category,
            "$stream.key" => Part::Key,
            "$type" => Part::Type,
            "$schema" => Part::Schema,
            "$id" => Part::Id,
            "$version" => Part::Version,
            "$position" => Part::Position,
            "$tags" => Part::Tags,
            "$time" => Part::Time,
            "$recorded-at" => Part::RecordedAt,
            "$occurred-at" => Part::OccurredAt,
            "$actor" => Part::Actor,
            "$correlation" => Part::Correlation,
            "$causation" => Part::Causation,
            "$event" => Part::Event,
            other => {
                const KNOWN: [&str; 19] = [
                    "$data",
                    "$meta.name",
                    "$stream",
                    "$stream.category",
                    "$stream.key",
                    "$type",
                    "$schema",
                    "$id",
                    "$version",
                    "$position",
                    "$tags",
                    "$time",
                    "$recorded-at",
                    "$occurred-at",
                    "$actor",
                    "$correlation",
                    "$causation",
                    "$event",
                    "?item",
                ];
                self.unknown(path, "symbol", other, &KNOWN);
                return None;
            }
        };
        Some(Expr::Of(part))
    }

    fn call(&mut self, path: &str, head: &str, args: &[Value]) -> Option<Expr> {
        match head {
            "field" => {
                let mut keys = Vec::new();
                for a in args {
                    match a {
                        Value::Keyword(k) => keys.push(Arc::from(k.as_str())),
                        Value::String(s) => keys.push(s.clone()),
                        other => {
                            self.error(path, format!("(field …) takes keywords, got {other:?}"), "");
                            return None;
                        }
                    }
                }
                return Some(Expr::Data(keys));
            }
            "get" if args.len() >= 2 => {
                return Some(Expr::Get(Box::new(self.expr(path, &args[0])?), args[1..].to_vec()));
            }
            "current" => {
                return match args {
                    [Value::Keyword(a)] => Some(Expr::Current(a.clone(), None)),
                    [Value::Keyword(a), d] => {
                        Some(Expr::Current(a.clone(), Some(Box::new(self.expr(path, d)?))))
                    }
                    _ => {
                        self.error(path, "expected (current :attribute) or (current :attribute default)", "");
                        None
                    }
                };
            }
            "if" => {
                return match args {
                    [c, a, b] => Some(Expr::If(
                        Box::new(self.cond(path, c)?),
                        Box::new(self.expr(path, a)?),
                        Box::new(self.expr(path, b)?),
                    )),
                    _ => {
                        self.error(path, "expected (if condition then else)", "");
                        None
                    }
                };
            }
            _ => {}
        }
        let Some((_, fun, least, most)) = FUNCTIONS.iter().find(|f| f.0 == head) else {
            let mut known: Vec<&str> = FUNCTIONS.iter().map(|f| f.0).collect();
            known.extend(["field", "get", "current", "if"]);
            self.unknown(path, "function", head, &known);
            return None;
        };
        if args.len() < *least || args.len() > *most {
            self.error(path, format!("({head} …) takes {least} or more arguments, got {}", args.len()), "");
            return None;
        }
        let mut all = Vec::with_capacity(args.len());
        for a in args {
            all.push(self.expr(path, a)?);
        }
        Some(Expr::Call(*fun, all))
    }

    fn cond(&mut self, path: &str, v: &Value) -> Option<Cond> {
        let parts = match v {
            Value::List(l) => l.to_vec(),
            _ => Vec::new(),
        };
        let Some((Value::Symbol(head), args)) = parts.split_first() else {
            self.error(path, format!("{v:?} is not a condition"), "write (= $data.kind \"web\")");
            return None;
        };
        let compare = |cmp| move |a, b| Cond::Compare(cmp, a, b);
        let cmp = match head.as_str() {
            "=" => Some(Cmp::Eq),
            "not=" => Some(Cmp::Ne),
            "<" => Some(Cmp::Lt),
            "<=" => Some(Cmp::Le),
            ">" => Some(Cmp::Gt),
            ">=" => Some(Cmp::Ge),
            _ => None,
        };
        match (head.as_str(), args) {
            (_, [a, b]) if cmp.is_some() => {
                let make = compare(cmp?);
                Some(make(self.expr(path, a)?, self.expr(path, b)?))
            }
            ("present", [e]) => Some(Cond::Present(self.expr(path, e)?)),
            ("missing", [e]) => Some(Cond::Not(Box::new(Cond::Present(self.expr(path, e)?)))),
            ("in", [e, Value::Set(s) | Value::Vector(s)]) => Some(Cond::In(self.expr(path, e)?, s.to_vec())),
            ("starts-with", [e, Value::String(s)]) => Some(Cond::StartsWith(self.expr(path, e)?, s.clone())),
            ("not", [c]) => Some(Cond::Not(Box::new(self.cond(path, c)?))),
            ("and" | "or", all) => {
                let mut conds = Vec::with_capacity(all.len());
                for c in all {
                    conds.push(self.cond(path, c)?);
                }
                Some(if head.as_str() == "and" { Cond::All(conds) } else { Cond::AnyOf(conds) })
            }
            (other, args) => {
                const KNOWN: [&str; 13] = [
                    "=",
                    "not=",
                    "<",
                    "<=",
                    ">",
                    ">=",
                    "present",
                    "missing",
                    "in",
                    "starts-with",
                    "not",
                    "and",
                    "or",
                ];
                if KNOWN.contains(&other) {
                    self.error(path, format!("({other} …) does not take {} such arguments", args.len()), "");
                } else {
                    self.unknown(path, "condition", other, &KNOWN);
                }
                None
            }
        }
    }
}

fn one_or_many(v: Option<&Value>) -> Vec<Value> {
    match v {
        None => Vec::new(),
        Some(Value::Vector(v) | Value::Set(v)) => v.to_vec(),
        Some(one) => vec![one.clone()],
    }
}
