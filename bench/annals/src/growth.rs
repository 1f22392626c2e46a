//! How cost grows: `annals-bench growth CURVE X` measures the same few operations at size `X`
//! and prints a JSON line a figure, for `bench/growth.py`, which draws the curves.
//!
//! | curve | x | what is measured |
//! |---|---|---|
//! | facts | facts in the database | load, a lookup, a join, a scan's rate, a transaction, memory, disk, opening |
//! | versions | versions of each fact | as-of lookups at the end and in the middle, the present, one history |
//! | streams | streams of 10,000 events | an append, a read of one stream, events |
//! | replay | events in the log | two projections over all of them, the first time and again |
//! | clients | threads | acknowledged transactions a second, reads a second, the slowest hundredth |

use crate::harness::{disk, rss_mb, scratch};
use annals::{
    Connection, Options, Query, Value,
    event::{Append, Version},
    tx,
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const SCHEMA: &str = "[
 {:db/ident :p/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}
 {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :p/city :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one :db/index true}
 {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}]";
/// Facts of one person.
const FACTS: u64 = 5;

/// Measures one point of a curve.
pub fn run(curve: &str, x: u64) {
    match curve {
        "facts" => facts(x),
        "versions" => versions(x),
        "streams" => streams(x),
        "clients" => clients(x),
        "replay" => crate::read_models::growth(x, |metric, y| point("replay", x, metric, y)),
        other => {
            eprintln!("no curve {other:?}: facts versions streams clients replay");
            std::process::exit(2);
        }
    }
}

fn point(curve: &str, x: u64, metric: &str, y: f64) {
    println!("{{\"curve\": \"{curve}\", \"x\": {x}, \"metric\": \"{metric}\", \"y\": {y:.4}}}");
}

/// The median time of a call in microseconds: for half a second, and at least 20 times.
fn median_us(mut f: impl FnMut(u64)) -> f64 {
    let (mut times, begun) = (Vec::new(), Instant::now());
    while times.len() < 20 || (begun.elapsed() < Duration::from_millis(500) && times.len() < 20_000) {
        let t = Instant::now();
        f(times.len() as u64);
        times.push(t.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn new(name: &str) -> (Connection, PathBuf) {
    let path = scratch(name);
    (Options::new().open(&path).expect("a new database opens"), path)
}

/// A number that looks random and is the same each time.
fn mix(i: u64) -> u64 {
    let z = (i.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 31)) >> 1
}

fn person(i: u64) -> String {
    let (age, city) = (mix(i) % 100, mix(i * 7) % 1_000);
    format!(
        "{{:p/id {i} :p/name \"name {}\" :p/age {age} :p/city :city/c{city} :p/boss {{:p/id {}}}}}",
        mix(i) % 10_000,
        i / 10
    )
}

fn people(conn: &Connection, n: u64) {
    conn.transact(SCHEMA).expect("the schema is sound");
    conn.transact("[{:p/id 0 :p/name \"root\"}]").expect("the first person");
    let all: Vec<u64> = (1..=n).collect();
    for some in all.chunks(20_000) {
        let txs = some.chunks(1_000).map(|part| {
            let text = format!("[{}]", part.iter().map(|i| person(*i)).collect::<Vec<_>>().join(" "));
            annals::IntoTx::into_tx(text.as_str()).expect("a sound transaction")
        });
        let (_, failed) = conn.transact_all(txs.collect());
        assert!(failed.is_none(), "{failed:?}");
    }
}

fn facts(n: u64) {
    let say = |metric: &str, y: f64| point("facts", n, metric, y);
    let (conn, path) = new("growth-facts");
    let t = Instant::now();
    people(&conn, n / FACTS);
    say("load, facts a second", n as f64 / t.elapsed().as_secs_f64());
    drop(conn);
    let t = Instant::now();
    let conn = annals::open(&path).expect("it opens again");
    say("open, ms", t.elapsed().as_secs_f64() * 1e3);
    let people = n / FACTS;
    let db = conn.db();
    let lookup = Query::parse("[:find ?n . :in $ ?id :where [?e :p/id ?id] [?e :p/name ?n]]").expect("sound");
    say(
        "lookup by key, µs",
        median_us(|i| {
            let id = Value::Long((1 + mix(i) % people) as i64);
            assert!(db.query(&lookup, [id]).expect("it runs").scalar().is_some());
        }),
    );
    let join = Query::parse(
        "[:find ?id ?boss :in $ ?c :where [?e :p/city ?c] [?e :p/id ?id] [?e :p/boss ?b] [?b :p/id ?boss]]",
    )
    .expect("sound");
    let mut rows = 0;
    let us = median_us(|i| {
        let city = Value::keyword(&format!("city/c{}", mix(i) % 1_000));
        rows = rows.max(db.query(&join, [city]).expect("it runs").rows.len());
    });
    say("join of one city, µs a row", us / (people as f64 / 1_000.0).max(1.0));
    let scan = Query::parse("[:find (count ?e) . :where [?e :p/age ?a] [(< ?a 50)]]").expect("sound");
    let us = median_us(|_| drop(db.query(&scan, ()).expect("it runs")));
    say("scan, million facts a second", people as f64 / us);
    let mut next = people;
    say(
        "transaction of five facts, µs",
        median_us(|_| {
            next += 1;
            conn.transact(format!("[{}]", person(next))).expect("a sound transaction");
        }),
    );
    say("memory, MB", rss_mb() as f64);
    say("disk, bytes a fact", disk(&path) as f64 / n as f64);
}

fn versions(v: u64) {
    const ENTITIES: u64 = 1_000;
    let say = |metric: &str, y: f64| point("versions", v, metric, y);
    let (conn, path) = new("growth-versions");
    conn.transact(SCHEMA).expect("the schema is sound");
    for round in 0..v {
        let all: Vec<String> =
            (0..ENTITIES).map(|i| format!("{{:p/id {i} :p/age {}}}", round * ENTITIES + i)).collect();
        conn.transact(format!("[{}]", all.join(" "))).expect("a sound transaction");
    }
    let (newest, middle) = (conn.db(), conn.db().as_of(annals::T(2 + v / 2)));
    let q = Query::parse("[:find ?a . :in $ ?id :where [?e :p/id ?id] [?e :p/age ?a]]").expect("sound");
    let key = |i: u64| [Value::Long((mix(i) % ENTITIES) as i64)];
    say("lookup now, µs", median_us(|i| drop(newest.query(&q, key(i)).expect("it runs"))));
    say("lookup as of the middle, µs", median_us(|i| drop(middle.query(&q, key(i)).expect("it runs"))));
    let history = newest.history();
    let h = Query::parse("[:find ?a ?t ?op :in $ ?id :where [?e :p/id ?id] [?e :p/age ?a ?t ?op]]")
        .expect("sound");
    say(
        "history of one, µs a version",
        median_us(|i| drop(history.query(&h, key(i)).expect("it runs"))) / v as f64,
    );
    let scan = Query::parse("[:find (sum ?a) . :where [?e :p/age ?a]]").expect("sound");
    say("scan now, µs", median_us(|_| drop(newest.query(&scan, ()).expect("it runs"))));
    say("scan as of the middle, µs", median_us(|_| drop(middle.query(&scan, ()).expect("it runs"))));
    say("disk, bytes a version", disk(&path) as f64 / (ENTITIES * v) as f64);
}

fn streams(n: u64) {
    const EVENTS: u64 = 10_000;
    let say = |metric: &str, y: f64| point("streams", n, metric, y);
    let (conn, path) = new("growth-streams");
    let data = serde_json::json!({"amount": 12, "note": "thirty characters of payload.."});
    let payload = annals::event::Data::from_json(&data).expect("payload");
    for first in (0..EVENTS).step_by(100) {
        // Event i belongs to stream i mod n; within a transaction those of a stream go together.
        let mut of: BTreeMap<u64, u64> = BTreeMap::new();
        (first..first + 100).for_each(|i| *of.entry(i % n).or_default() += 1);
        let mut a = Append::new();
        for (stream, count) in of {
            a = a.and_to(format!("s-{stream}").as_str());
            for _ in 0..count {
                a = a.event("Added", &payload).expect("an event");
            }
        }
        conn.append(a).expect("append");
    }
    say(
        "append of one event, µs",
        median_us(|i| {
            let a = Append::new().and_to(format!("s-{}", mix(i) % n).as_str());
            conn.append(a.event("Added", &payload).expect("an event")).expect("append");
        }),
    );
    let events = conn.db().events();
    let mut read = 0;
    let us = median_us(|i| {
        let id = annals::event::StreamId::new(format!("s-{}", mix(i) % n)).expect("a name");
        read += events.stream(&id, Version(1), usize::MAX).expect("a stream is read").len();
    });
    say("read of a stream, µs", us);
    say("disk, bytes an event", disk(&path) as f64 / EVENTS as f64);
    assert!(read > 0, "every stream has events");
}

fn clients(n: u64) {
    let (conn, _path) = new("growth-clients");
    people(&conn, 20_000);
    let q = Query::parse("[:find ?n . :in $ ?id :where [?e :p/id ?id] [?e :p/name ?n]]").expect("sound");
    let next = AtomicI64::new(1 << 30);
    for (what, writes) in [("transactions a second", true), ("lookups a second", false)] {
        let (over, slow) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for c in 0..n {
                let (conn, q, over, slow, next) = (conn.clone(), &q, &over, &slow, &next);
                scope.spawn(move || {
                    let (mut times, mut i) = (Vec::new(), c << 32);
                    while !over.load(SeqCst) {
                        let t = Instant::now();
                        i += 1;
                        if writes {
                            let id = next.fetch_add(1, SeqCst);
                            let data =
                                tx().add("x", "p/id", Value::Long(id)).add("x", "p/age", Value::Long(1));
                            conn.transact(data).expect("a sound transaction");
                        } else {
                            let id = Value::Long((1 + mix(i) % 20_000) as i64);
                            assert!(conn.db().query(q, [id]).expect("it runs").scalar().is_some());
                        }
                        times.push(t.elapsed().as_secs_f64() * 1e3);
                    }
                    slow.lock().expect("no client panics").extend(times);
                });
            }
            std::thread::sleep(Duration::from_secs(2));
            over.store(true, SeqCst);
        });
        let mut times = slow.into_inner().expect("no client panics");
        times.sort_by(f64::total_cmp);
        point("clients", n, what, times.len() as f64 / begun.elapsed().as_secs_f64());
        let slowest = times[times.len() * 99 / 100];
        point(
            "clients",
            n,
            if writes { "transaction, slowest hundredth, ms" } else { "lookup, slowest hundredth, ms" },
            slowest,
        );
    }
}
