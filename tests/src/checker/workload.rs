//! The requests of a run, from a seed: accounts whose balances change by
//! compare-and-swap, transfers between two of them, sets that grow and shrink, upserts,
//! entities of several facts.
//!
//! 1. Few accounts, many clients: requests collide all the time.
//! 2. Every transaction asserts [`OP`] of its own number about itself, so that it can
//!    be found in the log whatever its client was told.
//! 3. A question has one meaning written twice: as a query for the database, and in
//!    [`Question::answer`] over the model's facts.

use crate::{generate::Rng, txmodel::Model};
use annals_model::{AttrId, Schema, T, Value};
use std::collections::BTreeSet;

/// A row of an answer.
pub type Row = Vec<Value>;

/// The attribute with a request's number, on its transaction.
pub const OP: &str = "op/id";

/// The schema of the workload.
pub const SCHEMA: &str = "[
 {:db/ident :op/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :acct/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :acct/balance :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :acct/note :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
 {:db/ident :acct/tag :db/valueType :db.type/long :db/cardinality :db.cardinality/many}]";

/// How many accounts a run has.
pub const ACCOUNTS: usize = 6;

/// The attributes of the workload, found in a schema.
pub fn attributes(schema: &Schema) -> BTreeSet<AttrId> {
    [OP, "acct/id", "acct/balance", "acct/note", "acct/tag"]
        .iter()
        .map(|name| attribute(schema, name))
        .collect()
}

pub(super) fn attribute(schema: &Schema, name: &str) -> AttrId {
    schema.attribute_named(&annals_model::Keyword::new(name)).expect("the workload's schema is installed").id
}

/// A question about the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Every account with its balance.
    Balances,
    /// The tags of an account.
    Tags(String),
    /// The note of an account.
    Note(String),
    /// Every change of an account's balance: value, transaction, added or not.
    Changes(String),
}

impl Question {
    /// Any question.
    pub fn any(rng: &mut Rng) -> Question {
        match rng.below(4) {
            0 => Question::Balances,
            1 => Question::Tags(account(rng)),
            2 => Question::Note(account(rng)),
            _ => Question::Changes(account(rng)),
        }
    }

    /// The question in Datalog.
    pub fn query(&self) -> String {
        match self {
            Question::Balances => "[:find ?id ?b :where [?e :acct/id ?id] [?e :acct/balance ?b]]".into(),
            Question::Tags(id) => format!("[:find ?m :where [?e :acct/id {id:?}] [?e :acct/tag ?m]]"),
            Question::Note(id) => format!("[:find ?n :where [?e :acct/id {id:?}] [?e :acct/note ?n]]"),
            Question::Changes(id) => {
                format!("[:find ?b ?t ?op :where [?e :acct/id {id:?}] [?e :acct/balance ?b ?t ?op]]")
            }
        }
    }

    /// Whether it is asked of the history rather than of a moment.
    pub fn of_history(&self) -> bool {
        matches!(self, Question::Changes(_))
    }

    /// The answer after the model's last transaction.
    pub fn answer(&self, model: &Model) -> BTreeSet<Row> {
        let schema = model.schema();
        let (id, balance) = (attribute(schema, "acct/id"), attribute(schema, "acct/balance"));
        let holder = |name: &str| {
            let named = |(_, a, v, _): &&_| (*a, v) == (id, &Value::string(name));
            model.facts().iter().find(named).map(|f| f.0)
        };
        let values = |name: &str, a: AttrId| -> BTreeSet<Row> {
            holder(name).into_iter().flat_map(|e| model.values(e, a)).map(|v| vec![v.clone()]).collect()
        };
        match self {
            Question::Balances => model
                .facts()
                .iter()
                .filter(|f| f.1 == id)
                .flat_map(|f| model.values(f.0, balance).into_iter().map(|b| vec![f.2.clone(), b.clone()]))
                .collect(),
            Question::Tags(name) => values(name, attribute(schema, "acct/tag")),
            Question::Note(name) => values(name, attribute(schema, "acct/note")),
            Question::Changes(name) => {
                let e = holder(name);
                let of = model.log().iter().filter(|d| Some(d.e) == e && d.a == balance);
                of.map(|d| vec![d.v.clone(), Value::Ref(d.t.entity()), Value::Bool(d.added)]).collect()
            }
        }
    }
}

fn account(rng: &mut Rng) -> String {
    format!("a{}", rng.below(ACCOUNTS))
}

/// What a client remembers: the balances it last saw.
#[derive(Clone, Debug, Default)]
pub struct Memory(std::collections::BTreeMap<String, i64>);

impl Memory {
    /// Takes note of an answer to [`Question::Balances`].
    pub fn saw(&mut self, rows: &BTreeSet<Row>) {
        for row in rows {
            if let [Value::String(id), Value::Long(b)] = &row[..] {
                self.0.insert(id.to_string(), *b);
            }
        }
    }
}

/// What a client does next.
#[derive(Clone, Debug)]
pub enum Request {
    /// Send this transaction.
    Write(i64, Vec<Value>),
    /// Ask this, of the newest database or of an earlier time.
    Read(Question, Option<T>),
}

/// The next request of a client, which has seen `memory` and knows that `known` is past.
pub fn next(rng: &mut Rng, op: i64, memory: &Memory, start: T, known: T) -> Request {
    if rng.chance(45) {
        let question = if rng.chance(40) { Question::Balances } else { Question::any(rng) };
        let past = rng.chance(35) && known > start && !question.of_history();
        let as_of = past.then(|| T(start.0 + 1 + rng.draw() % (known.0 - start.0)));
        return Request::Read(question, as_of);
    }
    let k = |name: &str| Value::keyword(name);
    let lookup = |id: &str| Value::vector([k("acct/id"), Value::string(id)]);
    let add = |e: Value, a: &str, v: Value| Value::vector([k("db/add"), e, k(a), v]);
    let mut forms = vec![add(Value::string("datomic.tx"), OP, Value::Long(op))];
    let id = account(rng);
    let cas = |id: &str, by: i64| {
        // Now and then from a balance that cannot be.
        let old = memory.0.get(id).copied();
        let new = Value::Long(old.unwrap_or(0) + by);
        Value::vector([k("db/cas"), lookup(id), k("acct/balance"), old.map_or(Value::Nil, Value::Long), new])
    };
    match rng.below(8) {
        0 | 1 => forms.push(cas(&id, 1 + op % 7)),
        2 => {
            let other = format!(
                "a{}",
                (rng.below(ACCOUNTS - 1) + 1 + id[1..].parse::<usize>().unwrap_or(0)) % ACCOUNTS
            );
            forms.extend([cas(&id, -1), cas(&other, 1)]);
        }
        3 => forms.push(add(lookup(&id), "acct/tag", Value::Long(rng.within(0, 9)))),
        4 => forms.push(Value::vector([
            k("db/retract"),
            lookup(&id),
            k("acct/tag"),
            Value::Long(rng.within(0, 9)),
        ])),
        5 => forms.push(Value::map([
            (k("db/id"), Value::string("x")),
            (k("acct/id"), Value::string(&id)),
            (k("acct/note"), Value::string(format!("note {op}"))),
        ])),
        6 => forms.push(Value::map([
            (k("db/id"), Value::string("x")),
            (k("acct/id"), Value::string(format!("new {op}"))),
            (k("acct/note"), Value::string(format!("made by {op}"))),
            (k("acct/tag"), Value::vector([Value::Long(op), Value::Long(-op)])),
        ])),
        _ => forms.push(Value::vector([k("db/retract"), lookup(&id), k("acct/note")])),
    }
    Request::Write(op, forms)
}

/// The transaction that opens every account, sent before the run.
pub fn opening() -> String {
    let accounts: Vec<String> =
        (0..ACCOUNTS).map(|i| format!("{{:db/id \"a{i}\" :acct/id \"a{i}\" :acct/balance 100}}")).collect();
    format!("[[:db/add \"datomic.tx\" :op/id 0] {}]", accounts.join(" "))
}
