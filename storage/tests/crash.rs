//! kill -9 at any moment loses nothing that was acknowledged.
//!
//! The test starts itself as a child that commits, checkpoints and compacts, and
//! says which records were flushed; it kills the child and looks at what is left.

use annals_model::*;
use annals_storage::*;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

fn record(t: u64) -> Record {
    let d = |e: u64, v: u64, added| Datom {
        e: EntityId::new(Partition::User, e),
        a: AttrId::new(40),
        v: Value::Long(v as i64),
        t: T(t),
        added,
    };
    let mut datoms = vec![d(t, t, true)];
    if t > 0 {
        datoms.push(d(t - 1, t - 1, false));
    }
    Record { t: T(t), instant: Instant(t as i64), datoms, rows: vec![] }
}

fn options() -> StoreOptions {
    StoreOptions {
        checkpoint: Checkpoint::Auto { facts: 40, idle_ms: 1 },
        segment_bytes: 3_000,
        map_size_bytes: 1 << 30,
        ..StoreOptions::default()
    }
}

/// Not a test of its own: the child's part, when the parent says so.
#[test]
fn child() {
    let Ok(dir) = std::env::var("ANNALS_CRASH_DIR") else { return };
    let store = Store::create_or_open(dir.as_ref(), options(), || record(0)).unwrap();
    let mut out = std::io::stdout();
    let mut newest = store.basis().0;
    loop {
        for _ in 0..3 {
            newest += 1;
            let t = T(newest);
            store.stage(record(t.0)).unwrap();
        }
        store.flush().unwrap();
        writeln!(out, "acknowledged {}", store.basis().0).unwrap();
        if store.basis().0 % 50 < 3 {
            store.compact().unwrap();
        }
    }
}

/// As [`child`], for scripts that kill it at a chosen system call: is what is left sound?
#[test]
fn check() {
    let Ok(dir) = std::env::var("ANNALS_CHECK_DIR") else { return };
    let acknowledged: u64 = std::env::var("ANNALS_CHECK_T").unwrap().parse().unwrap();
    look(dir.as_ref(), acknowledged, "killed at a system call");
}

fn look(dir: &Path, acknowledged: u64, context: &str) {
    let store = Store::create_or_open(dir, options(), || record(0)).unwrap();
    let basis = store.basis().0;
    assert!(basis >= acknowledged, "{context}: t {acknowledged} was acknowledged, t {basis} is there");
    for t in [0, basis / 2, basis] {
        let at = At { basis: T(basis), view: View { as_of: Some(T(t)), ..View::NOW } };
        assert_eq!(store.count(at, &Prefix::All).unwrap(), 1, "{context}, as of {t}");
    }
    let report = store.verify().unwrap();
    assert!(report.is_sound(), "{context}: {report:?}");
    assert_eq!(report.records, basis + 1);
}

#[test]
fn kill_at_any_moment_loses_nothing_acknowledged() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("db");
    let mut state = 7u64;
    for round in 0..12 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let lines = (state >> 33) % 60;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("ANNALS_CRASH_DIR", &dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut last = 0;
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        while let Some(Ok(line)) = out.next() {
            if let Some(t) = line.strip_prefix("acknowledged ") {
                last = t.parse().unwrap();
            }
            if line.starts_with("acknowledged") && last % 180 >= lines * 3 {
                break;
            }
        }
        child.kill().unwrap();
        // What it said before it died counts too.
        for line in out.map_while(Result::ok) {
            if let Some(t) = line.strip_prefix("acknowledged ").and_then(|t| t.parse().ok()) {
                last = t;
            }
        }
        child.wait().unwrap();
        look(&dir, last, &format!("round {round}"));
    }
}
