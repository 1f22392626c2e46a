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
        + &(0..200)
            .map(|i| format!("{{:p/id \"t{i}\" :p/name \"n{i}\" :p/age {i} :p/ok true :p/pay 1.5}}"))
            .collect::<Vec<_>>()
            .join(" ")
        + "]";
    let start = Instant::now();
    for _ in 0..20 {
        annals::read_transactions(&text)?;
    }
    println!("reading text: {:.0} facts/s", 20_000.0 / start.elapsed().as_secs_f64());
    if let Some(folder) = std::env::args_os().nth(1) {
        durable(folder.as_ref())?;
    }
    Ok(())
}

/// One durable 5-fact commit at a time, beside a bare append and sync of as many
/// bytes, and many writers.
fn durable(folder: &std::path::Path) -> Result<(), annals::Error> {
    use std::io::Write;
    let conn = annals::open(folder.join("db"))?;
    conn.transact(SCHEMA)?;
    let n = 1000;
    let start = Instant::now();
    for i in 0..n {
        conn.transact(tx().entity(person(i)))?;
    }
    let ours = start.elapsed().as_secs_f64() * 1e6 / n as f64;
    let mut file = std::fs::File::create(folder.join("bare")).expect("the folder is there");
    file.set_len(1 << 20).expect("room");
    let start = Instant::now();
    for _ in 0..n {
        file.write_all(&[7; 256]).and_then(|()| file.sync_data()).expect("writable");
    }
    let bare = start.elapsed().as_secs_f64() * 1e6 / n as f64;
    println!(
        "durable 5-fact commit: {ours:.0} us; bare append and sync: {bare:.0} us; ratio {:.2}",
        ours / bare
    );
    for writers in [1, 16, 256] {
        let each = if writers == 1 { 2_000 } else { 25_600 / writers };
        let start = Instant::now();
        std::thread::scope(|s| {
            for w in 0..writers {
                let conn = &conn;
                s.spawn(move || {
                    for i in 0..each {
                        conn.transact(tx().entity(person((writers * 1_000_000 + w * 10_000 + i) as i64)))
                            .expect("no conflict");
                    }
                });
            }
        });
        let rate = (each * writers) as f64 / start.elapsed().as_secs_f64();
        println!("{writers} writers: {rate:.0} commits/s");
    }
    drop(conn);
    let conn = annals::open(folder.join("bulk"))?;
    conn.transact(SCHEMA)?;
    let batches: Vec<Vec<_>> = (0..50)
        .map(|c| {
            let batch = |b: i64| (0..200).fold(tx(), |d, i| d.entity(person((c * 20 + b) * 200 + i)));
            (0..20).map(batch).collect()
        })
        .collect();
    let start = Instant::now();
    for b in batches {
        let (_, refused) = conn.transact_all(b);
        assert!(refused.is_none());
    }
    println!("bulk load of 1,000,000 facts: {:.0} facts/s", 1e6 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    conn.checkpoint()?;
    println!("then a checkpoint: {:.1} s", start.elapsed().as_secs_f64());
    let stats = conn.stats()?;
    let bytes = (stats.log_bytes + stats.index_bytes) as f64;
    println!("{:.0} bytes a fact on disk", bytes / (stats.current + stats.closed) as f64);
    drop(conn);
    let start = Instant::now();
    let conn = annals::open(folder.join("db"))?;
    println!("reopen at t {}: {:.1} ms", conn.db().t(), start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
