//! A transaction is a set: its forms in every order do the same, or are refused alike.
//!
//! Each case has its outcome written down: `+`/`-` datoms about named entities, or the
//! code of the refusal. `{x}` is the entity a tempid became, `[a]` one that was there.

use annals::{Connection, TxReport, Value};
use std::collections::BTreeSet;

const SCHEMA: &str = "[
 {:db/ident :k :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :u :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/value}
 {:db/ident :n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :m :db/valueType :db.type/long :db/cardinality :db.cardinality/many}
 {:db/ident :r :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}]";
const FACTS: &str = r#"[{:k "a" :n 1 :m [1 2] :u "ua"} {:k "b" :n 2 :u "ub"}]"#;

/// Forms, and what they do in any order.
const CASES: [(&[&str], &str); 16] = [
    // Facts that hold are not written again; those that do not are not retracted.
    (&[r#"[:db/add [:k "a"] :n 1]"#, r#"[:db/retract [:k "b"] :n 9]"#], ""),
    (
        &[r#"[:db/add [:k "a"] :n 7]"#, r#"[:db/add [:k "b"] :n 8]"#],
        "+[a] :n 7 +[b] :n 8 -[a] :n 1 -[b] :n 2",
    ),
    // Adding and retracting one fact, and two values for one place.
    (&[r#"[:db/add [:k "a"] :n 7]"#, r#"[:db/retract [:k "a"] :n 7]"#], "tx/add-retract-conflict"),
    (&[r#"[:db/add [:k "a"] :n 7]"#, r#"[:db/add [:k "a"] :n 8]"#], "tx/datoms-conflict"),
    (&[r#"[:db/add [:k "a"] :m 7]"#, r#"[:db/add [:k "a"] :m 8]"#], "+[a] :m 7 +[a] :m 8"),
    // A retraction of the old value beside the new one.
    (&[r#"[:db/retract [:k "a"] :n 1]"#, r#"[:db/add [:k "a"] :n 5]"#], "+[a] :n 5 -[a] :n 1"),
    // Compare-and-swap sees the database before: two alike agree, two apart conflict.
    (&[r#"[:db/cas [:k "a"] :n 1 5]"#, r#"[:db/cas [:k "a"] :n 1 5]"#], "+[a] :n 5 -[a] :n 1"),
    (&[r#"[:db/cas [:k "a"] :n 1 5]"#, r#"[:db/cas [:k "a"] :n 5 6]"#], "tx/cas-failed"),
    (&[r#"[:db/cas [:k "a"] :n 1 5]"#, r#"[:db/cas [:k "a"] :n 1 6]"#], "tx/datoms-conflict"),
    (&[r#"[:db/add [:k "a"] :n 5]"#, r#"[:db/cas [:k "a"] :n 1 5]"#], "+[a] :n 5 -[a] :n 1"),
    // Tempids: one entity through one identity, whichever form says so.
    (
        &[
            r#"[:db/add "x" :k "c"]"#,
            r#"[:db/add "y" :k "c"]"#,
            r#"[:db/add "x" :n 3]"#,
            r#"[:db/add "y" :m 4]"#,
        ],
        r#"+{x} :k "c" +{x} :m 4 +{x} :n 3"#,
    ),
    (
        &[r#"[:db/add "x" :k "a"]"#, r#"[:db/add "x" :m 3]"#, r#"[:db/add "z" :r "x"]"#],
        "+[a] :m 3 +{z} :r [a]",
    ),
    (&[r#"[:db/add "x" :k "a"]"#, r#"[:db/add "x" :k "b"]"#], "tx/upsert-conflict"),
    // Uniqueness is judged on the database after.
    (
        &[r#"[:db/add [:k "a"] :u "ub"]"#, r#"[:db/add [:k "b"] :u "ua"]"#],
        r#"+[a] :u "ub" +[b] :u "ua" -[a] :u "ua" -[b] :u "ub""#,
    ),
    (&[r#"[:db/add "x" :u "new"]"#, r#"[:db/add "y" :u "new"]"#], "tx/unique-conflict"),
    // An entity that goes, beside a fact about it.
    (
        &[r#"[:db/retractEntity [:k "b"]]"#, r#"[:db/add [:k "a"] :n 4]"#],
        r#"+[a] :n 4 -[a] :n 1 -[b] :k "b" -[b] :n 2 -[b] :u "ub""#,
    ),
];

#[test]
fn forms_in_every_order_do_the_same() {
    let conn = annals::in_memory().unwrap();
    conn.transact(SCHEMA).unwrap();
    conn.transact(FACTS).unwrap();
    let mut wrong = Vec::new();
    for (forms, expected) in CASES {
        for order in orders(forms.len()) {
            let text: Vec<&str> = order.iter().map(|i| forms[*i]).collect();
            let text = format!("[{}]", text.join(" "));
            let outcome = match conn.db().with(text.as_str()) {
                Ok(report) => shown(&conn, &report),
                Err(e) => e.code().to_string(),
            };
            if outcome != expected {
                wrong.push(format!("{text}\n  is       {outcome}\n  expected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every order of `n` things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1);
    shorter.iter().flat_map(|o| (0..n).map(|at| [&o[..at], &[n - 1], &o[at..]].concat())).collect()
}

/// The datoms of a report in one order, entities by name.
fn shown(conn: &Connection, report: &TxReport) -> String {
    let db = conn.db();
    let name = |e: annals::EntityId| {
        for known in ["a", "b"] {
            if db.resolve(("k", known)).unwrap() == Some(e) {
                return format!("[{known}]");
            }
        }
        let mut names: Vec<&str> = report.tempids().filter(|(_, x)| *x == e).map(|(n, _)| n).collect();
        names.sort_unstable();
        names.first().map_or_else(|| format!("{e:?}"), |n| format!("{{{n}}}"))
    };
    let line = |d: &annals::Datom| {
        let attr = db.ident(d.a.entity()).map_or_else(|| format!("{:?}", d.a), ToString::to_string);
        let v = match &d.v {
            Value::Ref(e) => name(*e),
            v => annals::edn::print(v),
        };
        format!("{}{} {attr} {v}", if d.added { '+' } else { '-' }, name(d.e))
    };
    let lines: BTreeSet<String> = report.tx_data().iter().filter(|d| d.e != report.tx()).map(line).collect();
    lines.into_iter().collect::<Vec<_>>().join(" ")
}
