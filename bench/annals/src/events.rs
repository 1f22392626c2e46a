//! W6: appends with a version check, stream reads, replay.

use crate::harness::{Bench, Outcome, disk, scratch};
use annals::{Append, Connection, Options};
use std::{collections::HashMap, path::PathBuf};

struct Event {
    stream: String,
    kind: String,
    data: serde_json::Value,
    bytes: u64,
}

fn append(conn: &Connection, events: &[Event], per: usize) {
    let mut versions: HashMap<&str, u64> = HashMap::new();
    for part in events.chunks(per) {
        let mut a = Append::new();
        for e in part {
            let v = versions.entry(&e.stream).or_insert(0);
            a = a.stream(&e.stream).expect_version(*v).event(&e.kind, e.data.clone()).expect("event");
            *v += 1;
        }
        conn.append(a).expect("append");
    }
}

pub fn run_workload(b: &Bench) {
    let events: Vec<Event> = b
        .tsv("events")
        .into_iter()
        .map(|r| Event {
            stream: format!("s-{}", r[0]),
            kind: r[1].clone(),
            data: serde_json::from_str(&r[2]).expect("payload"),
            bytes: r[2].len() as u64,
        })
        .collect();
    let open = |durable: bool| -> (Connection, PathBuf) {
        let path = scratch("w6");
        let durability = if durable { annals::Durability::Full } else { annals::Durability::Relaxed };
        (Options::new().durability(durability).open(&path).expect("open"), path)
    };
    let n = if b.small() { 1000 } else { 2000 };
    for (op, durable, count, per) in [
        ("append-durable", true, n, 1),
        ("append-nosync", false, events.len(), 1),
        ("append-durable-100", true, events.len(), 100),
    ] {
        b.op(
            op,
            || open(durable),
            |(conn, path)| {
                append(conn, &events[..count], per);
                let size = disk(path) as f64 / count as f64;
                Outcome(count as u64, 0, format!(", \"bytes_per_event\": {size:.1}"))
            },
        );
    }
    let (conn, _path) = open(false);
    append(&conn, &events, 1);
    let payload: HashMap<(&str, u64), u64> = {
        let mut seen: HashMap<&str, u64> = HashMap::new();
        events
            .iter()
            .map(|e| {
                let v = seen.entry(&e.stream).or_insert(0);
                *v += 1;
                ((e.stream.as_str(), *v), e.bytes)
            })
            .collect()
    };
    let names: Vec<String> = (1..=1000).map(|i| format!("s-{i}")).collect();
    b.op(
        "read-stream",
        || (),
        |_| {
            let (mut rows, mut sum) = (0, 0);
            for name in &names {
                for e in conn.stream(name).expect("read") {
                    let e = e.expect("event");
                    rows += 1;
                    sum += payload[&(name.as_str(), e.version.0)];
                }
            }
            (rows, sum)
        },
    );
    b.op(
        "replay",
        || (),
        |_| {
            let (mut rows, mut sum) = (0, 0);
            for e in conn.events().expect("read") {
                let e = e.expect("event");
                rows += 1;
                sum += payload[&(e.stream.as_str(), e.version.0)];
            }
            (rows, sum)
        },
    );
}
