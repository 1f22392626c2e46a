//! What transacting costs without the disk: small maps one by one, and batches.
//!
//! `cargo run --release -p annals --example bench_transact`

use annals::{Options, Value, tx};
use std::time::Instant;

const SCHEMA: &str = r#"[
  {:db/ident :p/id   :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
  {:db/ident :p/age  :db/valueType :db.type/long   :db/cardinality :db.cardinality/one}
  {:db/ident :p/ok   :db/valueType :db.type/boolean :db/cardinality :db.cardinality/one}
  {:db/ident :p/pay  :db/valueType :db.type/double :db/cardinality :db.cardinality/one}]"#;

fn person(i: i64) -> [(&'static str, Value); 5] {
    [
        ("p/id", format!("id-{i}").into()),
        ("p/name", format!("name {i}").into()),
        ("p/age", Value::Long(i % 90)),
        ("p/ok", Value::Bool(i % 2 == 0)),
        ("p/pay", Value::Double(i as f64 / 3.0)),
    ]
}

fn main() -> Result<(), annals::Error> {
    let conn = Options::new().in_memory()?;
    conn.transact(SCHEMA)?;
    let n = 100_000;
    let data: Vec<_> = (0..n).map(|i| tx().entity(person(i))).collect();
    let start = Instant::now();
    for d in data {
        conn.transact(d)?;
    }
    println!("new 5-fact map: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / n as f64);

    let data: Vec<_> = (0..n)
        .map(|i| tx().entity([("p/id", format!("id-{i}").into()), ("p/age", Value::Long(1000 + i))]))
        .collect();
    let start = Instant::now();
    for d in data {
        conn.transact(d)?;
    }
    println!("upsert of one fact: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / n as f64);

    let conn = Options::new().in_memory()?;
    conn.transact(SCHEMA)?;
    let batches = 500;
    let data: Vec<_> =
        (0..batches).map(|b| (0..200).fold(tx(), |d, i| d.entity(person(b * 200 + i)))).collect();
    let start = Instant::now();
    for d in data {
        conn.transact(d)?;
    }
    let facts = batches as f64 * 1000.0;
    println!("batches of 1000 facts: {:.0} facts/s", facts / start.elapsed().as_secs_f64());
    let text = "[".to_owned()
        + &(0..200).map(|i| format!("{{:p/id \"t{i}\" :p/name \"n{i}\" :p/age {i} :p/ok true :p/pay 1.5}}")).collect::<Vec<_>>().join(" ")
        + "]";
    let start = Instant::now();
    for _ in 0..20 {
        annals::read_transactions(&text)?;
    }
    println!("reading text: {:.0} facts/s", 20_000.0 / start.elapsed().as_secs_f64());
    Ok(())
}
