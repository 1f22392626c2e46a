//! The scenarios of the acceptance list that need threads, kills or many events, by their numbers.
//!
//! Counts are those of the list when `ANNALS_FULL` is set (`tests/long-events.sh`), and smaller
//! otherwise: the same code, so that a fault shows in either.

use annals::{
    Connection, Options, T, Value,
    event::{
        Append, CommandId, CommandOutcome, Feed, NewEvent, Position, ProjectionState, Start, StreamId,
        Tracking, Version,
    },
};
use serde_json::json;
use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

fn memory() -> Connection {
    annals::in_memory().expect("a database in memory opens")
}
fn event(ty: &str, data: serde_json::Value) -> NewEvent {
    NewEvent::new(ty, data).unwrap()
}
fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}
/// The count of the list, or a smaller one.
fn count(full: u64, quick: u64) -> u64 {
    if std::env::var_os("ANNALS_FULL").is_some() { full } else { quick }
}
fn long(db: &annals::Db, q: &str) -> i64 {
    match db.query(q, ()).unwrap().scalar() {
        Some(Value::Long(n)) => n,
        None => 0,
        other => panic!("{q}: {other:?}"),
    }
}

const SUMS: &str = r#"{:projection/name :sums :projection/version 1 :projection/mode MODE :projection/batch 7
    :projection/schema [{:db/ident :sum/key :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                         :db/unique :db.unique/identity}
                        {:db/ident :sum/total :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
                        {:db/ident :sum/events :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
    :projection/on [{:event "Paid" :assert [{:sum/key $stream.key
                                             :sum/total (+ (current :sum/total 0) $data.amount)
                                             :sum/events (+ (current :sum/events 0) 1)}]}]}"#;

#[test]
fn a2_of_two_writers_at_one_version_exactly_one_succeeds_in_each_of_500_rounds() {
    let conn = memory();
    let rounds = 500;
    let barrier = Arc::new(Barrier::new(2));
    let racers: Vec<_> = (0..2)
        .map(|_| {
            let (conn, barrier) = (conn.clone(), barrier.clone());
            std::thread::spawn(move || -> Vec<bool> {
                let race = |round| {
                    barrier.wait();
                    let a = Append::to("s-1").expect_version(round).push(event("E", json!({})));
                    let won = conn.append(a).is_ok();
                    barrier.wait();
                    won
                };
                (0..rounds).map(race).collect()
            })
        })
        .collect();
    let won: Vec<Vec<bool>> = racers.into_iter().map(|r| r.join().unwrap()).collect();
    for (round, (a, b)) in won[0].iter().zip(&won[1]).enumerate() {
        assert!(a ^ b, "round {round}");
    }
    let all = conn.db().events().stream(&stream("s-1"), Version(1), usize::MAX).unwrap();
    let numbers: Vec<_> = all.iter().map(|e| (e.version.0, e.position.0)).collect();
    assert_eq!(numbers, (1..=rounds).map(|n| (n, n)).collect::<Vec<_>>());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for e in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(e.file_name());
        if e.file_type().unwrap().is_dir() {
            copy(&e.path(), &target);
        } else {
            std::fs::copy(e.path(), target).unwrap();
        }
    }
}

/// A kill leaves the files as the last write left them. Whatever was made of an append before its
/// record was written is in memory alone; so every kill is one of these: the record cut anywhere,
/// or whole.
#[test]
fn a8_an_append_cut_off_at_any_step_is_there_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let conn = Options::new().open(&live).unwrap();
    conn.add_projection(&SUMS.replace("MODE", ":inline")).unwrap();
    let send = |n: u64| {
        let tracking = Tracking { source: stream("shop-1"), number: n, gapless: true };
        let id = CommandId::derived(uuid::Uuid::from_u128(7), "pay", n);
        let two = Append::to("acc-1")
            .push(event("Paid", json!({"amount": n})))
            .and_to("acc-2")
            .push(event("Paid", json!({"amount": n})));
        conn.append(two.tracking(tracking).command(CommandOutcome::done(id, b"pay"))).unwrap();
        id
    };
    send(1);
    let before = dir.path().join("before");
    copy(&live, &before);
    let second = send(2);
    let after = dir.path().join("after");
    copy(&live, &after);
    // The one file of the log that grew, and from where on.
    let grown = |folder: &Path| -> Vec<(std::path::PathBuf, u64)> {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(f) = folders.pop() {
            for e in std::fs::read_dir(f).unwrap().map(Result::unwrap) {
                if e.file_type().unwrap().is_dir() {
                    folders.push(e.path());
                } else {
                    found.push((
                        e.path().strip_prefix(folder).unwrap().to_owned(),
                        e.metadata().unwrap().len(),
                    ));
                }
            }
        }
        found.sort();
        found
    };
    let (old, new) = (grown(&before), grown(&after));
    let changed: Vec<_> = new
        .iter()
        .filter(|(path, _)| std::fs::read(before.join(path)).ok() != std::fs::read(after.join(path)).ok())
        .collect();
    assert_eq!(changed.len(), 1, "an append writes to the log alone: {changed:?}");
    let (log, _) = changed[0];
    let (was, is) = (std::fs::read(before.join(log)).unwrap(), std::fs::read(after.join(log)).unwrap());
    let from = was.iter().zip(&is).position(|(a, b)| a != b).unwrap_or(was.len());
    let zeros = if was.len() == is.len() { is.iter().rev().take_while(|b| **b == 0).count() } else { 0 };
    let to = is.len() - zeros;
    assert!(to > from + 200, "a record of {} bytes ({old:?})", to - from);
    let step = usize::try_from(count(1, 29)).unwrap();
    for cut in (from..to).step_by(step).chain([to - 1, to]) {
        let crashed = dir.path().join("crashed");
        let _ = std::fs::remove_dir_all(&crashed);
        copy(&after, &crashed);
        let mut bytes = is[..cut].to_vec();
        if was.len() == is.len() {
            // Space that was laid out before, and not yet written, reads as zeros.
            bytes.resize(is.len(), 0);
        }
        std::fs::write(crashed.join(log), bytes).unwrap();
        let again = Options::new().open(&crashed).unwrap();
        let (db, all) = (again.db(), cut == to);
        let n = if all { 2 } else { 1 };
        assert_eq!(db.events().head().unwrap(), Position(2 * n), "cut at {cut} of {to}");
        assert_eq!(
            long(&db, "[:find (sum ?t) . :with ?e :where [?e :sum/total ?t]]"),
            if all { 6 } else { 2 }
        );
        assert_eq!(db.events().command(second).unwrap().is_some(), all);
        assert_eq!(db.events().tracking(&stream("shop-1")).unwrap(), n);
    }
}

#[test]
fn a9_fifty_consumers_joining_at_random_see_every_event_once_in_order() {
    let conn = memory();
    let (writers, batch) = (4, 5);
    let each = count(1000, 50);
    let total = writers * each * batch;
    let consumers: Vec<_> = (0..50u64)
        .map(|i| {
            let conn = conn.clone();
            std::thread::spawn(move || {
                // Some join before the first event, some in the middle, some late.
                while conn.db().events().head().unwrap().0 < total * (i % 10) / 10 {
                    std::thread::yield_now();
                }
                let mut feed = conn.subscribe(Vec::new(), Start::Beginning).unwrap();
                let (mut last, mut caught_up_at) = (0, 0);
                while last < total || caught_up_at < total {
                    match feed.next_within(Duration::from_secs(120)).unwrap().expect("more to come") {
                        Feed::Event(e) => {
                            assert_eq!(e.position.0, last + 1);
                            last += 1;
                        }
                        Feed::CaughtUp(p) => {
                            assert_eq!(p.0, last, "caught up means everything was handed out");
                            caught_up_at = p.0;
                        }
                        Feed::Checkpoint(p) => assert!(p.0 <= last),
                    }
                }
                assert_eq!(feed.next_within(Duration::from_millis(1)).unwrap(), None, "one CaughtUp");
            })
        })
        .collect();
    let appenders: Vec<_> = (0..writers)
        .map(|w| {
            let conn = conn.clone();
            std::thread::spawn(move || {
                for _ in 0..each {
                    let to = Append::to(format!("w-{w}"));
                    conn.append((0..batch).fold(to, |a, _| a.push(event("E", json!({}))))).unwrap();
                }
            })
        })
        .collect();
    for t in appenders.into_iter().chain(consumers) {
        t.join().unwrap();
    }
}

#[test]
fn a10_a_consumer_that_stops_for_5000_events_holds_nobody_up_and_misses_none() {
    let conn = memory();
    conn.append(Append::to("w-1").push(event("E", json!({})))).unwrap();
    let mut feed = conn.subscribe(Vec::new(), Start::Beginning).unwrap();
    assert!(matches!(feed.next_within(Duration::ZERO).unwrap(), Some(Feed::Event(_))));
    // Nobody reads: every append below returns all the same, on this very thread.
    for _ in 0..50 {
        let hundred = (0..100).fold(Append::to("w-1"), |a, _| a.push(event("E", json!({}))));
        conn.append(hundred).unwrap();
    }
    let mut last = 1;
    while last < 5001 {
        match feed.next_within(Duration::from_secs(60)).unwrap() {
            Some(Feed::Event(e)) => {
                assert_eq!(e.position.0, last + 1);
                last += 1;
            }
            Some(_) => {}
            None => panic!("events wait at {last}"),
        }
    }
}

/// The child of `a11`: appends and projects until it is killed. A test like others when it is
/// not asked to be one.
#[test]
fn a11_child() {
    let Some(path) = std::env::var_os("ANNALS_A11") else { return };
    let conn = Options::new().open(Path::new(&path)).unwrap();
    conn.add_projection(&SUMS.replace("MODE", ":async")).unwrap();
    let _runner = conn.run_projections().unwrap();
    for i in 0u64.. {
        let a = Append::to(format!("acc-{}", i % 5)).push(event("Paid", json!({"amount": 1})));
        conn.append(a).unwrap();
    }
}

#[test]
fn a11_an_async_projection_killed_at_random_counts_every_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let mut seen = 0;
    for round in 0..count(100, 5) {
        let mut child = Command::new(&exe)
            .args(["a11_child", "--exact", "--nocapture"])
            .env("ANNALS_A11", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // At a different moment each time: while opening, catching up, or at work.
        std::thread::sleep(Duration::from_millis(40 + (round * 53) % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        let conn = Options::new().open(dir.path()).unwrap();
        let registered = conn.projections().unwrap().iter().any(|p| p.state == ProjectionState::Live);
        let head = conn.db().events().head().unwrap().0;
        assert!(head >= seen, "no event is lost");
        seen = head;
        if registered {
            let p = conn.projections().unwrap().remove(0).position.0;
            // The checkpoint is the facts'.
            let n = long(&conn.db(), "[:find (sum ?n) . :with ?e :where [?e :sum/events ?n]]");
            assert_eq!(n, i64::try_from(p).unwrap(), "round {round}: checkpoint equals the facts");
        }
    }
    let conn = Options::new().open(dir.path()).unwrap();
    conn.add_projection(&SUMS.replace("MODE", ":async")).unwrap();
    let head = conn.db().events().head().unwrap().0;
    assert!(head > 0, "the children got to work");
    let db = conn.db();
    assert_eq!(long(&db, "[:find (sum ?n) . :with ?e :where [?e :sum/events ?n]]"), head as i64);
    for k in 0..5 {
        let fold = db.events().stream(&stream(&format!("acc-{k}")), Version(1), usize::MAX);
        let fold = fold.map_or(0, |events| events.len() as i64);
        let q = format!("[:find ?t . :where [?e :sum/key \"{k}\"] [?e :sum/total ?t]]");
        assert_eq!(long(&db, &q), fold);
    }
}

#[test]
fn a14_a_rebuild_while_two_append_and_two_query_flips_at_once() {
    let conn = memory();
    let v1 = SUMS.replace("MODE", ":inline");
    conn.add_projection(&v1).unwrap();
    for i in 0..count(3000, 300) {
        conn.append(Append::to(format!("acc-{}", i % 5)).push(event("Paid", json!({"amount": 1})))).unwrap();
    }
    // Version 2 counts everything a thousandfold: which version answered can be told from a sum.
    let v2 = v1
        .replace(":projection/version 1", ":projection/version 2")
        .replace("$data.amount", "(* 1000 $data.amount)");
    let stop = Arc::new(AtomicBool::new(false));
    let appenders: Vec<_> = (0..2)
        .map(|w| {
            let (conn, stop) = (conn.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let to = format!("acc-{}", 5 + w);
                    conn.append(Append::to(to).push(event("Paid", json!({"amount": 1})))).unwrap();
                    n += 1;
                }
                n
            })
        })
        .collect();
    let queriers: Vec<_> = (0..2)
        .map(|_| {
            let (conn, stop) = (conn.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut by = vec![1];
                while !stop.load(Ordering::Relaxed) {
                    let db = conn.db();
                    let total = long(&db, "[:find (sum ?t) . :with ?e :where [?e :sum/total ?t]]");
                    let n = long(&db, "[:find (sum ?n) . :with ?e :where [?e :sum/events ?n]]");
                    assert_eq!(
                        n,
                        db.events().head().unwrap().0 as i64,
                        "every event of the value is counted"
                    );
                    let version = if total == n { 1 } else { 2 };
                    assert_eq!(total, if version == 1 { n } else { 1000 * n }, "one version answers");
                    if by.last() != Some(&version) {
                        by.push(version);
                    }
                }
                by
            })
        })
        .collect();
    conn.add_projection(&v2).unwrap();
    let flipped = conn.db();
    stop.store(true, Ordering::Relaxed);
    let appended: u64 = appenders.into_iter().map(|t| t.join().unwrap()).sum();
    for q in queriers {
        let by = q.join().unwrap();
        assert!(by == [1] || by == [1, 2], "first one, then the other: {by:?}");
    }
    let db = conn.db();
    assert_eq!(db.events().head().unwrap().0, count(3000, 300) + appended);
    let total = long(&db, "[:find (sum ?t) . :with ?e :where [?e :sum/total ?t]]");
    assert_eq!(total, 1000 * db.events().head().unwrap().0 as i64);
    assert!(flipped.t() > T(1));
}
