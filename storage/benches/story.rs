//! Stories of storage, timed against floors on the same machine (LMDB by hand is in `bench/floors`):
//! `cargo bench -p annals-storage`. Prints; asserts nothing.

use annals_model::*;
use annals_storage::*;
use std::{
    fs::File,
    ops::ControlFlow,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant as Clock},
};

const ATTRS: u32 = 5;

/// Person `n` in the people workload: five attributes.
fn person(n: u64, t: u64) -> impl Iterator<Item = Datom> {
    let e = EntityId::new(Partition::User, n);
    let h = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let first =
        ["Ivan", "Petr", "Sergei", "Oleg", "Yuri", "Dmitry", "Fedor", "Denis"][(h >> 60) as usize & 7];
    let last = ["Ivanov", "Petrov", "Sidorov", "Kovalev", "Kuznetsov", "Voronoi"][(h >> 50) as usize % 6];
    let values = [
        Value::string(first),
        Value::string(last),
        Value::keyword(if h >> 40 & 1 == 0 { "male" } else { "female" }),
        Value::Long((h >> 20) as i64 % 100),
        Value::Long((h >> 8) as i64 % 100_000),
    ];
    values.into_iter().enumerate().map(move |(i, v)| Datom {
        e,
        a: AttrId::new(64 + i as u32),
        v,
        t: T(t),
        added: true,
    })
}

fn record(t: u64, datoms: Vec<Datom>) -> Record {
    Record { t: T(t), instant: Instant(1_700_000_000_000_000 + t as i64 * 1_000), datoms, rows: vec![] }
}

fn time<A>(name: &str, n: u64, f: impl FnOnce() -> A) -> A {
    let start = Clock::now();
    let out = f();
    report(name, n, start.elapsed());
    out
}

fn report(name: &str, n: u64, d: Duration) {
    let each = d.as_nanos() as f64 / n as f64;
    println!("{name:<44} {:>10.1} ns each {:>12.0} /s  ({n} in {d:.2?})", each, 1e9 / each);
}

/// Floor and store in turns, so that a busy disk slows both.
fn commits(dir: &Path) {
    let n = 2_000;
    let f = File::create(dir.join("floor")).unwrap();
    f.write_all_at(&vec![0; 4 << 20], 0).unwrap();
    f.sync_all().unwrap();
    let options = StoreOptions { checkpoint: Checkpoint::Never, ..StoreOptions::default() };
    let store = Store::create_or_open(&dir.join("commits"), options, || record(0, vec![])).unwrap();
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for t in 1..=n {
        let start = Clock::now();
        f.write_all_at(&[7; 130], t * 130).unwrap();
        f.sync_data().unwrap();
        floor.push(start.elapsed());
        let r = record(t, person(t, t).collect());
        let start = Clock::now();
        store.stage(r).unwrap();
        store.flush().unwrap();
        ours.push(start.elapsed());
        bytes = store.stats().unwrap().log_bytes;
    }
    for (name, times) in
        [("append 130 bytes + fdatasync (floor)", &mut floor), ("stage + flush of 5 facts", &mut ours)]
    {
        times.sort();
        println!("{name:<44} median {:?}, 99th {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    }
    println!("log: {:.1} bytes a fact in transactions of 5", bytes as f64 / (5 * n) as f64);
    time("256 x (stage 5 facts), one flush", 256 * 100, || {
        let mut t = n;
        for _ in 0..100 {
            for _ in 0..256 {
                t += 1;
                store.stage(record(t, person(t, t).collect())).unwrap();
            }
            store.flush().unwrap();
        }
    });
}

fn people(dir: &Path, people: u64) -> Store {
    let dir = dir.join("people");
    let facts = people * u64::from(ATTRS);
    let store = Store::create_or_open(&dir, StoreOptions::default(), || record(0, vec![])).unwrap();
    let mut t = 0;
    let records: Vec<Record> = (0..people / 1000)
        .map(|b| {
            t += 1;
            record(t, (b * 1000..(b + 1) * 1000).flat_map(|n| person(n + 1, t)).collect())
        })
        .collect();
    time("bulk load, 5,000 facts a record", facts, || {
        for r in records {
            store.stage(r).unwrap();
            store.flush().unwrap();
        }
        store.checkpoint().unwrap();
    });
    sizes("after bulk load", &store, facts);
    store
}

/// Opening when nothing has reached the indexes: the whole log is replayed.
fn recovery(dir: &Path, people: u64) {
    let dir = dir.join("recovery");
    let options = StoreOptions { checkpoint: Checkpoint::Never, ..StoreOptions::default() };
    let store = Store::create_or_open(&dir, options.clone(), || record(0, vec![])).unwrap();
    for b in 0..people / 1000 {
        let t = b + 1;
        store.stage(record(t, (b * 1000..(b + 1) * 1000).flat_map(|n| person(n + 1, t)).collect())).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let facts = people * u64::from(ATTRS);
    time("recovery: open with all facts in the log alone", facts, || {
        Store::open(&dir, options.clone()).unwrap();
    });
}

fn sizes(what: &str, store: &Store, facts: u64) {
    let s = store.stats().unwrap();
    println!(
        "{what}: log {:.1} + index {:.1} = {:.1} bytes a fact",
        s.log_bytes as f64 / facts as f64,
        s.index_bytes as f64 / facts as f64,
        (s.log_bytes + s.index_bytes) as f64 / facts as f64
    );
    for (name, rows, bytes) in s.trees {
        if rows > 0 {
            println!("    {name:<6} {rows:>9} rows {:>6.1} bytes each", bytes as f64 / rows as f64);
        }
    }
}

fn reads(store: &Store, people: u64) {
    let dict = Dict::current();
    let now = At::now(store.basis());
    let a = AttrId::new(67);
    let n = 200_000;
    let pick = |i: u64| EntityId::new(Partition::User, i.wrapping_mul(0x9E37_79B9) % people + 1);
    let point = |at: At, e| {
        let mut seen = 0;
        store
            .scan(at, &Prefix::Ea(e, a), &mut |_| {
                seen += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen, 1);
    };
    time("point read (e a), random", n, || (0..n).for_each(|i| point(now, pick(i))));
    let first = At { basis: store.basis(), view: View { as_of: Some(store.basis()), ..View::NOW } };
    time("point read as of the newest t, 1 version", n, || (0..n).for_each(|i| point(first, pick(i))));
    time("entity read, 5 facts, random", n, || {
        (0..n).for_each(|i| {
            store.scan(now, &Prefix::E(pick(i)), &mut |_| ControlFlow::Continue(())).unwrap();
        })
    });
    let c = time("load a column from LMDB", people, || store.column(now, a, Order::Eav, &dict).unwrap());
    time("column again, and sum it", people, || {
        let c = store.column(now, a, Order::Eav, &dict).unwrap();
        std::hint::black_box(c.v.iter().fold(0u64, |s, v| s.wrapping_add(*v)))
    });
    let plain: Vec<u64> = c.v.clone();
    time("sum a plain Vec (floor)", people, || {
        std::hint::black_box(plain.iter().fold(0u64, |s, v| s.wrapping_add(*v)))
    });
    let keys: Vec<u64> = (1..people / 20).map(|i| EntityId::new(Partition::User, i * 20).raw()).collect();
    time("probe by entity, sorted, cached", keys.len() as u64, || {
        let mut out = ProbeOut::default();
        store.probe(now, a, Order::Eav, &keys, &dict, &mut out).unwrap();
    });
    let cold = AttrId::new(68);
    time("probe by entity, sorted, LMDB", keys.len() as u64, || {
        let mut out = ProbeOut::default();
        store.probe(now, cold, Order::Eav, &keys, &dict, &mut out).unwrap();
    });
    time("scan everything", people * u64::from(ATTRS), || {
        store.scan(now, &Prefix::All, &mut |_| ControlFlow::Continue(())).unwrap();
    });
}

fn history(dir: &Path) {
    let store =
        Store::create_or_open(&dir.join("history"), StoreOptions::default(), || record(0, vec![])).unwrap();
    let (a, n, versions) = (AttrId::new(64), 1000u64, 500u64);
    let d = |e, v: u64, t, added| Datom {
        e: EntityId::new(Partition::User, e),
        a,
        v: Value::Long(v as i64),
        t: T(t),
        added,
    };
    time("replace a value: 500 versions of 1,000 facts", n * versions, || {
        for t in 1..=versions {
            let mut datoms = Vec::new();
            for e in 1..=n {
                if t > 1 {
                    datoms.push(d(e, t - 1, t, false));
                }
                datoms.push(d(e, t, t, true));
            }
            store.stage(record(t, datoms)).unwrap();
            store.flush().unwrap();
        }
        store.checkpoint().unwrap();
    });
    let facts = n * versions;
    sizes("500 versions", &store, facts);
    store.set_hints(Hints { single: [a].into(), ..Hints::default() });
    let last = store.basis();
    let reads = 100_000;
    for (name, as_of) in
        [("now", None), ("as of the far past", Some(T(5))), ("as of the middle", Some(T(250)))]
    {
        let at = At { basis: last, view: View { as_of, ..View::NOW } };
        time(&format!("point read, 500 versions, {name}"), reads, || {
            for i in 0..reads {
                let e = EntityId::new(Partition::User, i * 7 % n + 1);
                let mut seen = 0;
                store
                    .scan(at, &Prefix::Ea(e, a), &mut |_| {
                        seen += 1;
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                assert_eq!(seen, 1);
            }
        });
    }
    let dict = Dict::current();
    let at = |t| At { basis: last, view: View { as_of: Some(T(t)), ..View::NOW } };
    time("as-of column, first (loads 499,000 intervals)", facts, || {
        store.column(at(5), a, Order::Eav, &dict).unwrap()
    });
    time("as-of column, another t", facts, || store.column(at(250), a, Order::Eav, &dict).unwrap());
    time("as-of column, pinned", n, || store.column(at(250), a, Order::Eav, &dict).unwrap());
}

fn main() {
    // STORY=commits, people, recovery or history runs one story; PEOPLE sets the size.
    let story = std::env::var("STORY").ok();
    let wanted = |name: &str| story.as_ref().is_none_or(|s| s == name);
    let people_n: u64 = std::env::var("PEOPLE").ok().and_then(|s| s.parse().ok()).unwrap_or(200_000);
    let dir = std::env::var("BENCH_DIR").map(Into::into).unwrap_or_else(|_| std::env::temp_dir());
    let dir = dir.join(format!("annals-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    if wanted("commits") {
        commits(&dir);
    }
    if wanted("people") {
        let store = people(&dir, people_n);
        reads(&store, people_n);
        maintenance(&dir, store, people_n * u64::from(ATTRS));
    }
    if wanted("recovery") {
        recovery(&dir, people_n);
    }
    if wanted("history") {
        history(&dir);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

fn maintenance(dir: &Path, store: Store, facts: u64) {
    store.compact().unwrap();
    sizes("compacted", &store, facts);
    drop(store);
    let path = dir.join("people");
    let start = Clock::now();
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    println!("open with {facts} facts: {:.2?}", start.elapsed());
    time("verify", facts, || assert!(store.verify().unwrap().is_sound()));
    drop(store);
    time("rebuild from the log", facts, || Store::rebuild(&path, &StoreOptions::default()).unwrap());
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    sizes("rebuilt", &store, facts);
}
