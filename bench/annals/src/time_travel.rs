//! W4: as-of points and scans, one entity's history, who had a value then, what changed between two times.

use crate::harness::{Bench, Ids, Outcome, Tsv, disk, run, scratch};
use annals::{Connection, Options, Query, T, Value};
use std::path::PathBuf;

const SCHEMA: &str = "[{:db/ident :status :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :balance :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";

fn number(s: &str) -> u64 {
    s.parse().expect("number")
}

/// Replays the history, a transaction for each of its transactions.
fn load(conn: &Connection, file: &Tsv) -> (Ids, T) {
    conn.transact(SCHEMA).expect("schema");
    let mut ids = Ids::default();
    let mut known = std::collections::HashMap::new();
    let first = conn.db().basis_t();
    let mut rows = file.rows().peekable();
    while let Some(head) = rows.next() {
        let mut part = vec![head];
        while let Some(r) = rows.next_if(|r| r[0] == head[0]) {
            part.push(r);
        }
        let mut tx = annals::tx();
        for r in &part {
            let attr = if &r[2] == "0" { "status" } else { "balance" };
            let e = known.get(r.field(1)).map_or_else(|| Value::string(&r[1]), |e| Value::Ref(*e));
            tx = tx.add(e, attr, Value::Long(number(&r[3]) as i64));
        }
        let report = conn.transact(tx).expect("load");
        for r in part {
            if let Some(e) = report.tempid(&r[1]) {
                ids.enter(number(&r[1]), e);
                known.insert(r.field(1), e);
            }
        }
    }
    (ids, first)
}

pub fn run_workload(b: &Bench) {
    let rows = b.tsv("hist");
    let probes = b.tsv("probe");
    let n = rows.len() as u64;
    let transactions = number(rows.rows().last().expect("rows").field(0));
    let open = || -> (Connection, PathBuf) {
        let path = scratch("w4");
        (Options::new().durability(annals::Durability::Relaxed).open(&path).expect("open"), path)
    };
    b.op("load", open, |(conn, path)| {
        load(conn, &rows);
        Outcome(n, 0, format!(", \"bytes_per_fact\": {:.1}", disk(path) as f64 / n as f64))
    });
    let (conn, _path) = open();
    let (ids, first) = load(&conn, &rows);
    drop(rows);
    let db = conn.db();
    let at = |t: u64| db.as_of(T(first.0 + t));
    let points: Vec<_> = probes.rows().map(|r| (ids.entity(number(&r[0])), number(&r[1]))).collect();
    b.op(
        "asof-point",
        || (),
        |_| {
            let (mut n, mut sum) = (0, 0);
            for (e, t) in &points {
                if let Some(Value::Long(v)) = at(*t).value(*e, "status").expect("read") {
                    n += 1;
                    sum += v as u64;
                }
            }
            (n, sum)
        },
    );
    let query = Query::parse("[:find ?v . :in $ ?e :where [?e :status ?v]]").expect("parses");
    b.op(
        "asof-point-query",
        || (),
        |_| {
            let (mut n, mut sum) = (0, 0);
            for (e, t) in &points {
                let (k, s) = run(&at(*t), &query, (*e,), |r| r.long(0));
                n += k;
                sum += s;
            }
            (n, sum)
        },
    );
    let counts = Query::parse("[:find ?v (count ?e) :where [?e :status ?v]]").expect("parses");
    for percent in [10, 50, 100] {
        let then = at(transactions * percent / 100);
        b.op(
            &format!("asof-scan-{percent}"),
            || (),
            |_| run(&then, &counts, (), |r| (ids.number(&r.get(0)) + 1) * ids.number(&r.get(1))),
        );
    }
    let history = db.history();
    let life = Query::parse("[:find ?a ?v ?t :in $ ?e :where [?e ?a ?v ?t true]]").expect("parses");
    b.op(
        "history",
        || (),
        |_| {
            let (mut n, mut sum) = (0, 0);
            for i in 1..=1000 {
                let (k, s) = run(&history, &life, (ids.entity(i),), |r| r.long(1));
                n += k;
                sum += s;
            }
            (n, sum)
        },
    );
    let who = Query::parse("[:find ?e :where [?e :status 3]]").expect("parses");
    let then = at(transactions / 2);
    b.op("who", || (), |_| run(&then, &who, (), |r| ids.number(&r.get(0))));
    b.op(
        "changes",
        || (),
        |_| {
            let width = transactions / 100;
            let mut changed = 0;
            for k in 0..100 {
                let from = T(first.0 + 1 + k * width);
                for tx in conn.tx_range(from, T(from.0 + width)).expect("log") {
                    // One assertion a change; the retraction of the value before it and the instant are not counted.
                    changed += tx.expect("record").tx_data().iter().filter(|d| d.added).count() as u64 - 1;
                }
            }
            (100, changed)
        },
    );
    // What follows no peer does in this form: histories and changes as one question each, as SQL asks it.
    let lives = Query::parse("[:find ?e ?a ?v ?t :in $ [?e ...] :where [?e ?a ?v ?t true]]").expect("parses");
    b.op(
        "history-query",
        || (),
        |_| {
            let entities = Value::Vector((1..=1000).map(|i| Value::Ref(ids.entity(i))).collect());
            run(&history, &lives, (entities,), |r| r.long(2))
        },
    );
    // What was asserted in the history, grouped by the part of the log it lies in.
    let grouped = Query::parse(
        "[:find ?part (count ?e) :with ?a ?tx :in $ ?first ?width [?a ...]
          :where [?e ?a _ ?tx true] [(long ?tx) ?n] [(- ?n ?first) ?since] [(quot ?since ?width) ?part]]",
    )
    .expect("parses");
    b.op(
        "changes-query",
        || (),
        |_| {
            let begin = Value::Long(T(first.0 + 1).entity().raw() as i64);
            let attrs = Value::Vector(["status", "balance"].map(Value::keyword).into());
            let inputs = (begin, Value::Long((transactions / 100) as i64), attrs);
            run(&history, &grouped, inputs, |r| if r.long(0) < 100 { r.long(1) } else { 0 })
        },
    );
}
