//! Runs one case on a database of its own.

use super::{
    Case,
    case::items,
    compare::{Shape, same},
};
use annals::{Connection, Db, Input, T, Value};
use annals_model::EntityId;
use annals_query::edn::print;
use std::collections::BTreeMap;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As expected.
    Pass,
    /// Not as expected.
    Fail {
        /// What the case says.
        expected: String,
        /// What came.
        actual: String,
    },
}

fn fail(expected: impl Into<String>, actual: impl Into<String>) -> Outcome {
    Outcome::Fail { expected: expected.into(), actual: actual.into() }
}

/// A database with what the case did to it.
struct Prepared {
    conn: Connection,
    /// The entity that each tempid got, the latest use winning.
    names: BTreeMap<String, EntityId>,
    /// `t` after the schema, and after each transaction.
    points: Vec<T>,
}

/// Runs a case.
pub fn run(case: &Case) -> Outcome {
    match try_run(case) {
        Ok(outcome) => outcome,
        Err(why) => fail("the case's transactions succeed", why),
    }
}

fn try_run(case: &Case) -> Result<Outcome, String> {
    let schema = schema_of(case, "schema");
    let one = prepare(schema.clone(), case.get("schema-instant"), case.list("tx"))?;
    let two = match (case.get("schema2"), case.get("tx2")) {
        (None, None) => None,
        (Some(_), _) => Some(prepare(schema_of(case, "schema2"), None, case.list("tx2"))?),
        (None, Some(_)) => Some(prepare(schema, None, case.list("tx2"))?),
    };
    let world = World { case, one, two };
    if let Some(bad) = case.get("bad-tx") {
        return world.refused(bad);
    }
    let (expected_shape, expected) = (case.get("shape"), case.get_even_nil("expect"));
    let actual = match (case.get("query"), case.get("pull")) {
        (Some(query), _) => world.query(query, case.get("args"), &world.view()?),
        (None, Some(pattern)) => {
            let eid = world.fill(case.get("eid").ok_or("a pull needs an :eid")?);
            pull(&world.view()?, pattern, &eid)
        }
        (None, None) => return Err("the case asks nothing".into()),
    };
    Ok(if case.is("error") {
        match actual {
            Err(_) => Outcome::Pass,
            Ok(v) => fail("an error", print(&v)),
        }
    } else {
        match actual {
            Ok(v) => world.check(expected_shape, expected, &v),
            Err(why) => fail(print(&world.fill(expected.unwrap_or(&Value::Nil))), format!("error: {why}")),
        }
    })
}

fn schema_of(case: &Case, key: &str) -> Vec<Value> {
    case.list(key).to_vec()
}

fn prepare(schema: Vec<Value>, instant: Option<&Value>, txs: &[Value]) -> Result<Prepared, String> {
    let conn = annals::in_memory().map_err(|e| e.to_string())?;
    let mut prepared = Prepared { conn, names: BTreeMap::new(), points: Vec::new() };
    let mut schema = schema;
    if let Some(instant) = instant {
        let kw = Value::keyword;
        schema.push(Value::map([(kw("db/id"), "datomic.tx".into()), (kw("db/txInstant"), instant.clone())]));
    }
    if !schema.is_empty() {
        prepared.transact(schema).map_err(|e| format!("schema: {e}"))?;
    }
    prepared.points.push(prepared.conn.db().t());
    for (i, tx) in txs.iter().enumerate() {
        let forms = items(tx).ok_or("a transaction is a vector")?;
        let forms = forms.iter().map(|f| fill(f, &prepared.names)).collect();
        prepared.transact(forms).map_err(|e| format!("transaction {}: {e}", i + 1))?;
        prepared.points.push(prepared.conn.db().t());
    }
    Ok(prepared)
}

impl Prepared {
    /// Transacts the forms as text, so that the printer and the reader take part.
    fn transact(&mut self, forms: Vec<Value>) -> Result<(), String> {
        let text = print(&Value::vector(forms));
        let report = self.conn.transact(text).map_err(|e| e.to_string())?;
        for (name, e) in report.tempids() {
            self.names.insert(name.to_owned(), e);
        }
        Ok(())
    }
    fn point(&self, v: &Value) -> Result<T, String> {
        let out_of_range = || format!("no time point {v:?}");
        match v {
            Value::Long(n) => {
                let n = usize::try_from(*n).map_err(|_| out_of_range())?;
                self.points.get(n).copied().ok_or_else(out_of_range)
            }
            v => Err(format!("{v:?} is not the number of a transaction")),
        }
    }
    /// The view that `:as-of`, `:since` and `:history` describe.
    fn view(&self, get: &dyn Fn(&str) -> Option<Value>) -> Result<Db, String> {
        let mut db = self.conn.db();
        for key in ["basis", "as-of"] {
            db = match get(key) {
                None => Ok(db),
                Some(Value::Instant(i)) => db.as_of(i),
                Some(v) => Ok(db.as_of(self.point(&v)?)),
            }
            .map_err(|e| e.to_string())?;
        }
        db = match get("since") {
            None => Ok(db),
            Some(Value::Instant(i)) => db.since(i),
            Some(v) => Ok(db.since(self.point(&v)?)),
        }
        .map_err(|e| e.to_string())?;
        Ok(if get("history") == Some(Value::Bool(true)) { db.history() } else { db })
    }
}

struct World<'c> {
    case: &'c Case,
    one: Prepared,
    two: Option<Prepared>,
}

impl World<'_> {
    fn view(&self) -> Result<Db, String> {
        self.one.view(&|key| self.case.get(key).cloned())
    }
    fn fill(&self, v: &Value) -> Value {
        fill(v, &self.one.names)
    }

    /// One argument of a query.
    fn argument(&self, v: &Value, db: &Db) -> Result<Input, String> {
        if *v == Value::keyword("conf/db") {
            return Ok(Input::Db(db.clone()));
        }
        if *v == Value::keyword("conf/db2") {
            let two = self.two.as_ref().ok_or("the case has no second database")?;
            return Ok(Input::Db(two.conn.db()));
        }
        if let Some(view) = v.get(&Value::keyword("conf/db")) {
            return Ok(Input::Db(self.one.view(&|key| view.get(&Value::keyword(key)).cloned())?));
        }
        Ok(Input::Value(self.fill(v)))
    }

    fn query(&self, query: &Value, args: Option<&Value>, db: &Db) -> Result<Value, String> {
        let inputs = match args {
            None => vec![Input::Db(db.clone())],
            Some(args) => {
                let args = items(args).ok_or(":args is a vector")?;
                args.iter().map(|a| self.argument(a, db)).collect::<Result<Vec<_>, _>>()?
            }
        };
        let text = print(&self.fill(query));
        let answer = db.query(text.as_str(), inputs).map_err(|e| e.to_string())?;
        Ok(answer.value())
    }

    fn check(&self, shape: Option<&Value>, expected: Option<&Value>, actual: &Value) -> Outcome {
        let shape = match shape {
            Some(Value::Keyword(k)) => Shape::named(k.as_str()),
            _ => None,
        };
        let (Some(shape), Some(expected)) = (shape, expected) else {
            return fail("a case with a :shape and an :expect", "neither");
        };
        let expected = self.fill(expected);
        if same(shape, &expected, actual) { Outcome::Pass } else { fail(print(&expected), print(actual)) }
    }

    /// A transaction that must be rejected whole.
    fn refused(&self, bad: &Value) -> Result<Outcome, String> {
        let forms = items(bad).ok_or(":bad-tx is a vector")?;
        let text = print(&Value::vector(forms.iter().map(|f| self.fill(f))));
        let before = self.one.conn.db().t();
        if let Ok(report) = self.one.conn.transact(text) {
            return Ok(fail("the transaction is rejected", format!("it became t {}", report.t())));
        }
        let db = self.one.conn.db();
        if db.t() != before {
            return Ok(fail("nothing is written", format!("t went from {before} to {}", db.t())));
        }
        let Some(query) = self.case.get("then-query") else { return Ok(Outcome::Pass) };
        Ok(match self.query(query, self.case.get("then-args"), &db) {
            Ok(v) => self.check(self.case.get("then-shape"), self.case.get_even_nil("then-expect"), &v),
            Err(why) => fail("an answer after the rejection", format!("error: {why}")),
        })
    }
}

fn pull(db: &Db, pattern: &Value, eid: &Value) -> Result<Value, String> {
    let eid = annals::Eid::from_value(eid).ok_or_else(|| format!("not an entity: {eid:?}"))?;
    db.pull(print(pattern).as_str(), eid).map_err(|e| e.to_string())
}

/// Puts entity ids in the place of `[:conf/eid "name"]`.
fn fill(v: &Value, names: &BTreeMap<String, EntityId>) -> Value {
    let all = |v: &[Value]| v.iter().map(|v| fill(v, names)).collect::<Vec<_>>();
    match v {
        Value::Vector(parts) => match &parts[..] {
            [Value::Keyword(k), Value::String(name)] if k.as_str() == "conf/eid" => {
                names.get(name.as_ref()).map_or_else(|| v.clone(), |e| Value::Ref(*e))
            }
            parts => Value::vector(all(parts)),
        },
        Value::List(parts) => Value::List(all(parts).into()),
        Value::Set(parts) => Value::set(all(parts)),
        Value::Map(m) => Value::map(m.iter().map(|(k, v)| (fill(k, names), fill(v, names)))),
        v => v.clone(),
    }
}
