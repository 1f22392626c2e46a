//! W1 (queries and loads over people) and W2 (transactions of five facts).

use crate::harness::{Bench, Ids, Line, Tsv, disk, options, run, scratch};
use annals::{Connection, Query, TxData, Value};

const SCHEMA: &str = "[{:db/ident :name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
 {:db/ident :last-name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
 {:db/ident :sex :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
 {:db/ident :age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :salary :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";

fn person(r: &Line<'_>) -> [(&'static str, Value); 5] {
    [
        ("name", Value::string(&r[1])),
        ("last-name", Value::string(&r[2])),
        ("sex", Value::keyword(&r[3])),
        ("age", Value::Long(r[4].parse().expect("age"))),
        ("salary", Value::Long(r[5].parse().expect("salary"))),
    ]
}

fn entities(rows: &[Line<'_>]) -> TxData {
    let mut tx = annals::tx();
    for r in rows {
        let id = Value::string(&r[0]);
        tx = tx.entity(std::iter::once(("db/id", id)).chain(person(r)));
    }
    tx
}

fn open(name: &str, durable: bool) -> (Connection, std::path::PathBuf) {
    let path = scratch(name);
    let durability = if durable { annals::Durability::Full } else { annals::Durability::Relaxed };
    let conn = options().durability(durability).open(&path).expect("open");
    conn.transact(SCHEMA).expect("schema");
    (conn, path)
}

pub fn queries(b: &Bench) {
    let people = b.tsv("people");
    let n = people.len() as u64 * 5;
    if b.small() {
        b.op(
            "add-1",
            || open("w1", false),
            |(conn, _)| {
                for r in people.rows() {
                    let mut e = None;
                    for (a, v) in person(&r) {
                        let tx = match e {
                            None => annals::tx().add("p", a, v),
                            Some(e) => annals::tx().add(Value::Ref(e), a, v),
                        };
                        let report = conn.transact(tx).expect("add-1");
                        e = e.or_else(|| report.tempid("p"));
                    }
                }
                (n, 0)
            },
        );
        b.op(
            "add-5",
            || open("w1", false),
            |(conn, _)| {
                for r in people.rows() {
                    conn.transact(annals::tx().entity(person(&r))).expect("add-5");
                }
                (n, 0)
            },
        );
    }
    b.op(
        "add-all",
        || open("w1", false),
        |(conn, _)| {
            for part in people.parts() {
                conn.transact(entities(&part)).expect("add-all");
            }
            (n, 0)
        },
    );
    let (conn, _path) = open("w1q", false);
    let mut ids = Ids::default();
    for part in people.parts() {
        let report = conn.transact(entities(&part)).expect("load");
        for r in part {
            ids.enter(r[0].parse().expect("id"), report.tempid(&r[0]).expect("tempid"));
        }
    }
    drop(people);
    let db = conn.db();
    let q = |op: &str, text: &str| {
        let query = Query::parse(text).expect("query parses");
        b.op(op, || (), |_| run(&db, &query, (), |r| ids.number(&r.get(0))));
    };
    q("q1", r#"[:find ?e :where [?e :name "Ivan"]]"#);
    q("q2", r#"[:find ?e ?a :where [?e :name "Ivan"] [?e :age ?a]]"#);
    q("q2-switch", r#"[:find ?e ?a :where [?e :age ?a] [?e :name "Ivan"]]"#);
    q("q3", r#"[:find ?e ?a :where [?e :name "Ivan"] [?e :age ?a] [?e :sex :male]]"#);
    q("q4", r#"[:find ?e ?l ?a :where [?e :name "Ivan"] [?e :last-name ?l] [?e :age ?a] [?e :sex :male]]"#);
    q("qpred1", "[:find ?e ?s :where [?e :salary ?s] [(> ?s 50000)]]");
    let query =
        Query::parse("[:find ?e ?s :in $ ?min :where [?e :salary ?s] [(> ?s ?min)]]").expect("parses");
    b.op("qpred2", || (), |_| run(&db, &query, (50_000,), |r| ids.number(&r.get(0))));
    let pulled: Vec<_> = (9000..11000).map(|i| ids.entity(i)).collect();
    b.op(
        "pull",
        || (),
        |_| {
            let trees = db
                .pull_many("[*]", pulled.iter().map(|e| annals::Eid::from(*e)), &Default::default())
                .expect("pull");
            let facts: usize =
                trees.iter().map(|t| if let Value::Map(m) = t { m.len() - 1 } else { 0 }).sum();
            (facts as u64, 0)
        },
    );
}

pub fn transactions(b: &Bench) {
    let file = Tsv::read("people", "S");
    let people: Vec<Line<'_>> = file.rows().collect();
    let n = if b.small() { 500 } else { 2000 };
    for (op, durable, per, m) in [
        ("durable-1", true, 1, n),
        ("durable-100", true, 100, 20_000),
        ("nosync-1", false, 1, 5 * n),
        ("nosync-100", false, 100, 20_000),
    ] {
        b.op(
            op,
            || open("w2", durable),
            |(conn, path)| {
                for part in people[..m].chunks(per) {
                    conn.transact(entities(part)).expect("transact");
                }
                let facts = m as u64 * 5;
                let extra = format!(
                    ", \"tx\": {}, \"bytes_per_fact\": {:.1}",
                    m.div_ceil(per),
                    disk(path) as f64 / facts as f64
                );
                crate::harness::Outcome(facts, 0, extra)
            },
        );
    }
    // Many writers share one sync.
    for writers in [16usize, 256] {
        b.op(
            &format!("durable-1-x{writers}"),
            || open("w2", true),
            |(conn, _)| {
                let m = n.max(writers * 8);
                std::thread::scope(|s| {
                    for w in 0..writers {
                        let (conn, people) = (&*conn, &people);
                        s.spawn(move || {
                            for r in people[..m].iter().skip(w).step_by(writers) {
                                conn.transact(annals::tx().entity(person(r))).expect("transact");
                            }
                        });
                    }
                });
                crate::harness::Outcome(m as u64 * 5, 0, format!(", \"tx\": {m}"))
            },
        );
    }
}
