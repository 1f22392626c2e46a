//! W6: appends with a version check, stream reads, replay; projections, commands, processes (`read_models`, `domain`).

use crate::{
    domain,
    harness::{Bench, Outcome, disk, scratch},
    read_models,
};
use annals::event::{Append, Data, Position, StreamId, Version};
use annals::{Connection, Options};
use std::{collections::HashMap, path::PathBuf};

pub struct Event {
    stream: String,
    kind: String,
    data: Data,
    bytes: u64,
}

/// A new database for this workload.
pub fn open(durable: bool) -> (Connection, PathBuf) {
    let path = scratch("w6");
    let durability = if durable { annals::Durability::Full } else { annals::Durability::Relaxed };
    (Options::new().durability(durability).open(&path).expect("open"), path)
}

/// Appends in order, `per` events a transaction; within one, the events of a stream go together.
pub fn append(conn: &Connection, events: &[Event], per: usize) {
    let mut versions: HashMap<&str, u64> = HashMap::new();
    for part in events.chunks(per) {
        let mut streams: Vec<(&str, Vec<&Event>)> = Vec::new();
        for e in part {
            match streams.iter_mut().find(|(s, _)| *s == e.stream) {
                Some((_, list)) => list.push(e),
                None => streams.push((&e.stream, vec![e])),
            }
        }
        let mut a = Append::new();
        for (stream, list) in streams {
            let version = versions.entry(stream).or_insert(0);
            a = a.and_to(stream).expect_version(*version);
            *version += list.len() as u64;
            for e in list {
                a = a.event(e.kind.as_str(), &e.data).expect("an event");
            }
        }
        conn.append(a).expect("append");
    }
}

pub fn run_workload(b: &Bench) {
    let events: Vec<Event> = b
        .tsv("events")
        .rows()
        .map(|r| Event {
            stream: format!("s-{}", &r[0]),
            kind: r[1].to_owned(),
            data: Data::from_json(&serde_json::from_str(&r[2]).expect("JSON")).expect("payload"),
            bytes: r[2].len() as u64,
        })
        .collect();
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
    concurrent(b, &events, n);
    // What peers do too comes before what they do not, so that peaks of memory can be compared.
    let (conn, _path) = open(false);
    append(&conn, &events, 1);
    let log_before = conn.db().events();
    let names: Vec<StreamId> = (1..=1000).map(|i| StreamId::new(format!("s-{i}")).expect("a name")).collect();
    let whole = StreamId::new("whole").expect("a name");
    if b.wants("read-one-stream") {
        for part in events.chunks(1000) {
            let a = part
                .iter()
                .fold(Append::to("whole"), |a, e| a.event(e.kind.as_str(), &e.data).expect("an event"));
            conn.append(a).expect("append");
        }
    }
    let (log, now) = (log_before, conn.db().events());
    b.op(
        "read-stream",
        || (),
        |_| {
            let (mut rows, mut sum) = (0, 0);
            for name in &names {
                for e in log.stream(name, Version(1), usize::MAX).unwrap_or_default() {
                    rows += 1;
                    sum += events[e.position.0 as usize - 1].bytes;
                }
            }
            (rows, sum)
        },
    );
    b.op(
        "replay",
        || (),
        |_| {
            let (mut rows, mut sum, mut after) = (0, 0, Position(0));
            loop {
                let (page, _) = log.all(&[], after, 4096).expect("read");
                let Some(last) = page.last() else { break };
                after = last.position;
                for e in &page {
                    rows += 1;
                    sum += events[e.position.0 as usize - 1].bytes;
                }
            }
            (rows, sum)
        },
    );
    b.op(
        "read-one-stream",
        || (),
        |_| {
            let (mut rows, mut sum, mut from) = (0, 0, Version(1));
            loop {
                let page = now.stream(&whole, from, 4096).expect("read");
                let Some(last) = page.last() else { break };
                from = last.version.next();
                rows += page.len() as u64;
                sum += page.iter().map(|e| u64::from(e.event.schema)).sum::<u64>();
            }
            (rows, sum)
        },
    );
    read_models::replays(b, &conn);
    drop((log, now, conn));
    read_models::inline(b, &events, n);
    domain::run(b, n);
}

/// 256 writers at a time, each with a stream of its own and the version it expects.
fn concurrent(b: &Bench, events: &[Event], n: usize) {
    const WRITERS: usize = 256;
    let each = (n * 8).div_ceil(WRITERS);
    b.op(
        "append-durable-x256",
        || open(true),
        |(conn, _)| {
            std::thread::scope(|scope| {
                for w in 0..WRITERS {
                    let conn = conn.clone();
                    scope.spawn(move || {
                        for i in 0..each {
                            let e = &events[(w * each + i) % events.len()];
                            let a = Append::to(format!("w-{w}")).expect_version(i as u64);
                            conn.append(a.event(e.kind.as_str(), &e.data).expect("an event"))
                                .expect("append");
                        }
                    });
                }
            });
            ((WRITERS * each) as u64, 0)
        },
    );
}
