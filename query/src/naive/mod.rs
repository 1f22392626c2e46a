//! The naive evaluator: nested loops over a list of datoms.
//!
//! It says what a query means. It is slow on purpose, shares nothing with the
//! planner or the operators, reads the query from its EDN form and not from
//! the parser's tree, and is what the engine is tested against. Users reach it
//! through `QueryOptions::check`.
//!
//! 1. A database is a list of the datoms that its view shows; a pattern is a
//!    loop over all of them.
//! 2. A conjunction takes its clauses in whatever order can be evaluated: one
//!    that lacks bindings waits ([`NaiveError::Unbound`] says it has to).
//!    Negations come last.
//! 3. Binding is equality, wherever a variable is bound.
//! 4. Rules are tabled per call and iterated until nothing changes; a rule
//!    under a negation is first computed to its end.
//! 5. A rule that folds is computed to its end, and then folded, before it is
//!    used. Only where it leads back to itself, and keeps one of its values
//!    (`min`, `max`, `shortest`), the best so far is used, and what follows from
//!    it is computed again whenever a better one is found.
//!
//! Not here: parsing mistakes (a query is run here only after the parser took
//! it), `sample` and `rand` (chance), pulls within queries, `:order-by` and limits.

mod check;
mod clause;
mod find;
mod fold;
mod function;
mod pattern;
mod pull;
mod rule;

use crate::source::{Source, SourceError};
use annals_model::{AttrId, Datom, Dict, EntityId, Order, Schema, Symbol, T, Value, View};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use check::{Verdict, bag, check};
pub use find::{Naive, Shape};
pub use pull::pull;

/// Why the naive evaluator gives no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NaiveError {
    /// A variable is needed and no clause binds it.
    Unbound(String),
    /// The query asks for something that has no meaning (or that only the parser refuses).
    Wrong(String),
    /// Left out here; see the module's head.
    Unsupported(String),
    /// More rows or rounds than the evaluator is willing to make.
    TooLarge,
}

type Result<T> = std::result::Result<T, NaiveError>;

/// Rows or derived tuples after which the evaluator gives up.
const ROWS_MAX: usize = 300_000;
/// Rounds of a fixpoint after which it gives up: a recursive `min` may go down for ever.
const ROUNDS_MAX: usize = 10_000;

fn wrong<T>(what: impl Into<String>) -> Result<T> {
    Err(NaiveError::Wrong(what.into()))
}

/// A database value as the list of datoms that it shows.
#[derive(Clone, Debug)]
pub struct NaiveDb {
    datoms: Vec<Datom>,
    schema: Arc<Schema>,
}

impl NaiveDb {
    /// What `source` shows, read attribute by attribute.
    pub fn read(source: &dyn Source) -> std::result::Result<NaiveDb, SourceError> {
        let dict = Dict::current();
        let mut datoms = Vec::new();
        for attribute in source.schema().attributes() {
            let column = source.column(attribute.id, Order::Eav, &dict)?;
            for i in 0..column.len() {
                datoms.push(Datom {
                    e: EntityId::from_raw(column.e[i]),
                    a: attribute.id,
                    v: dict.decode(column.v[i]),
                    t: T(column.t[i]),
                    added: column.op(i),
                });
            }
        }
        Ok(NaiveDb { datoms, schema: source.schema().clone() })
    }

    /// What a view shows of a log, by replaying it: the meaning of `as-of`,
    /// `since` and `history` as the documentation words it.
    pub fn of_log(log: &[Datom], schema: Arc<Schema>, view: View) -> NaiveDb {
        let upto = view.as_of.unwrap_or(T::MAX);
        let since = |t: T| view.since.is_none_or(|s| t > s);
        let visible = log.iter().filter(|d| d.t <= upto);
        let mut datoms: Vec<Datom> = Vec::new();
        if view.history {
            datoms.extend(visible.filter(|d| since(d.t)).cloned());
        } else {
            for d in visible {
                if d.added {
                    datoms.push(d.clone());
                } else {
                    datoms.retain(|held| (held.e, held.a, &held.v) != (d.e, d.a, &d.v));
                }
            }
            datoms.retain(|d| since(d.t));
        }
        NaiveDb { datoms, schema }
    }

    /// The datoms shown.
    pub fn datoms(&self) -> &[Datom] {
        &self.datoms
    }

    /// The entity that a value means where an entity is meant.
    fn entity(&self, v: &Value) -> Option<EntityId> {
        match v {
            Value::Ref(e) => Some(*e),
            Value::Long(n) => u64::try_from(*n).ok().map(EntityId::from_raw),
            Value::Keyword(k) => self.schema.entid(k),
            Value::Vector(items) => match &items[..] {
                [Value::Keyword(a), key] => {
                    let a = self.schema.attribute_named(a).filter(|a| a.unique.is_some())?;
                    let key = if a.is_ref() { Value::Ref(self.entity(key)?) } else { key.clone() };
                    // A history may show several holders: the first of them is meant.
                    let holds = |d: &&Datom| d.a == a.id && d.v == key && d.added;
                    self.datoms.iter().filter(holds).min_by_key(|d| d.t).map(|d| d.e)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The attribute that a value means where an attribute is meant.
    fn attribute(&self, v: &Value) -> Result<Option<AttrId>> {
        match v {
            Value::Keyword(k) => match self.schema.attribute_named(k) {
                Some(a) => Ok(Some(a.id)),
                None => wrong(format!("unknown attribute {k}")),
            },
            v => Ok(self.entity(v).and_then(AttrId::of_entity)),
        }
    }

    fn is_ref(&self, a: AttrId) -> bool {
        self.schema.attribute(a).is_some_and(|a| a.is_ref())
    }

    fn values(&self, e: EntityId, a: AttrId) -> impl Iterator<Item = &Value> {
        self.datoms.iter().filter(move |d| d.e == e && d.a == a).map(|d| &d.v)
    }
}

/// What stands in one place of `:in`.
#[derive(Clone, Debug)]
pub enum Given {
    /// A database, for `$` or `$name`.
    Db(Arc<NaiveDb>),
    /// A value for a variable or a binding form, rules for `%`, or a vector of tuples for `$name`.
    Value(Value),
}

/// Calls a function or predicate that the evaluator does not know itself; none if there is no such function.
pub type Library<'a> = &'a dyn Fn(&str, &[Value]) -> Option<std::result::Result<Value, String>>;

/// A library without functions.
pub fn no_library(_: &str, _: &[Value]) -> Option<std::result::Result<Value, String>> {
    None
}

/// Evaluates a query given as an EDN value, vector or map form.
pub fn run(query: &Value, inputs: &[Given], library: Library<'_>) -> Result<Naive> {
    let query = sections(query)?;
    let default_in = if inputs.is_empty() { vec![] } else { vec![symbol("$")] };
    let bindings = query.get("in").unwrap_or(&default_in);
    if bindings.len() != inputs.len() {
        return wrong("as many inputs as :in names");
    }
    let mut world = World { sources: BTreeMap::new(), rules: Vec::new(), library };
    let mut rows = Rows::from([Env::new()]);
    for (binding, given) in bindings.iter().zip(inputs) {
        match (binding, given) {
            (Value::Symbol(s), Given::Db(db)) if s.as_str().starts_with('$') => {
                world.sources.insert(s.clone(), From::Db(db.clone()));
            }
            (Value::Symbol(s), Given::Value(v)) if s.as_str().starts_with('$') => {
                let Some(tuples) = items(v) else { return wrong("a source is a collection") };
                world.sources.insert(s.clone(), From::Rows(tuples.to_vec()));
            }
            (Value::Symbol(s), Given::Value(v)) if s.as_str() == "%" => {
                let Some(rules) = items(v) else { return wrong("rules are a vector") };
                for r in rules {
                    world.rules.push(rule::Rule::of(r)?);
                }
            }
            (binding, Given::Value(v)) => {
                rows = each(&rows, |env| Ok(bind(env, binding, v)?.into_iter().collect()))?;
            }
            (_, Given::Db(_)) => return wrong("a database goes to a source variable"),
        }
    }
    let none = Vec::new();
    let clauses = query.get("where").unwrap_or(&none);
    let find = query.get("find").unwrap_or(&none);
    let with = query.get("with").unwrap_or(&none);
    let mut outside: BTreeSet<Symbol> = BTreeSet::new();
    for form in find.iter().chain(with).chain(bindings) {
        clause::variables(form, &mut outside);
    }
    let mut eval = clause::Eval::new(&world);
    let rows = eval.conjunction(&symbol_of("$"), clauses, rows, &outside)?;
    find::shape(find, with, rows)
}

/// The sections of a query by name.
fn sections(query: &Value) -> Result<BTreeMap<String, Vec<Value>>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    match query {
        Value::Map(entries) => {
            for (k, v) in entries.iter() {
                let (Value::Keyword(k), Some(v)) = (k, items(v)) else { continue };
                all.insert(k.as_str().to_owned(), v.to_vec());
            }
        }
        Value::Vector(parts) => {
            let mut at = String::new();
            for part in parts.iter() {
                match part {
                    Value::Keyword(k) => {
                        at = k.as_str().to_owned();
                        all.insert(at.clone(), Vec::new());
                    }
                    v => match all.get_mut(&at) {
                        Some(section) => section.push(v.clone()),
                        None => return wrong("a query begins with a keyword"),
                    },
                }
            }
        }
        _ => return wrong("a query is a vector or a map"),
    }
    Ok(all)
}

/// Where the datoms of a source variable come from.
enum From {
    Db(Arc<NaiveDb>),
    Rows(Vec<Value>),
}

/// What stays the same while a query runs.
struct World<'a> {
    sources: BTreeMap<Symbol, From>,
    rules: Vec<rule::Rule>,
    library: Library<'a>,
}

impl World<'_> {
    fn source(&self, name: &Symbol) -> Result<&From> {
        self.sources.get(name).ok_or_else(|| NaiveError::Wrong(format!("no source {name}")))
    }
    fn db(&self, name: &Symbol) -> Result<&NaiveDb> {
        match self.source(name)? {
            From::Db(db) => Ok(db),
            From::Rows(_) => wrong(format!("{name} is not a database")),
        }
    }
}

/// What the variables are bound to.
type Env = BTreeMap<Symbol, Value>;
/// The ways to bind the variables that are left.
type Rows = BTreeSet<Env>;

fn each(rows: &Rows, mut f: impl FnMut(&Env) -> Result<Vec<Env>>) -> Result<Rows> {
    let mut out = Rows::new();
    for env in rows {
        out.extend(f(env)?);
        if out.len() > ROWS_MAX {
            return Err(NaiveError::TooLarge);
        }
    }
    Ok(out)
}

fn symbol_of(name: &str) -> Symbol {
    Symbol::new(name)
}
fn symbol(name: &str) -> Value {
    Value::Symbol(symbol_of(name))
}
fn is(v: &Value, name: &str) -> bool {
    matches!(v, Value::Symbol(s) if s.as_str() == name)
}
fn variable(v: &Value) -> Option<&Symbol> {
    match v {
        Value::Symbol(s) if s.as_str().starts_with('?') => Some(s),
        _ => None,
    }
}
fn items(v: &Value) -> Option<&[Value]> {
    match v {
        Value::Vector(v) | Value::List(v) | Value::Set(v) => Some(v),
        _ => None,
    }
}

/// `env` with `var` bound to `v`, unless it is bound to something else.
fn unify(env: &Env, var: &Symbol, v: &Value) -> Option<Env> {
    match env.get(var) {
        Some(bound) => (bound == v).then(|| env.clone()),
        None => {
            let mut env = env.clone();
            env.insert(var.clone(), v.clone());
            Some(env)
        }
    }
}

/// Binds the variables of a binding form to the parts of a value: a variable,
/// `_`, a tuple `[?a ?b]`, a collection `[?x ...]`, a relation `[[?a ?b]]`.
fn bind(env: &Env, form: &Value, v: &Value) -> Result<Vec<Env>> {
    if is(form, "_") {
        return Ok(vec![env.clone()]);
    }
    if let Some(var) = variable(form) {
        return Ok(unify(env, var, v).into_iter().collect());
    }
    let Value::Vector(form) = form else { return wrong(format!("not a binding form: {form:?}")) };
    let Some(parts) = items(v) else { return wrong(format!("{v:?} has no parts to bind")) };
    let several = |form: &Value| -> Result<Vec<Env>> {
        let mut out = Vec::new();
        for part in parts {
            out.extend(bind(env, form, part)?);
        }
        Ok(out)
    };
    match &form[..] {
        [each, dots] if is(dots, "...") => several(each),
        [tuple @ Value::Vector(_)] => several(tuple),
        slots => {
            if parts.len() < slots.len() {
                return wrong("fewer parts than the tuple has slots");
            }
            let mut envs = vec![env.clone()];
            for (slot, part) in slots.iter().zip(parts) {
                let mut next = Vec::new();
                for env in &envs {
                    next.extend(bind(env, slot, part)?);
                }
                envs = next;
            }
            Ok(envs)
        }
    }
}

#[cfg(test)]
mod tests;
