//! Readers, one writer and background checkpoints at once: every read is of one moment.

use annals_model::*;
use annals_storage::*;
use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

const ENTITIES: u64 = 20;
const LAST: u64 = 250;
const A: AttrId = AttrId::new(40);

fn ent(n: u64) -> EntityId {
    EntityId::new(Partition::User, n)
}

/// Record `t` gives every entity the value `t` in place of `t - 1`.
fn record(t: u64) -> Record {
    let d = |e, v: u64, added| Datom { e: ent(e), a: A, v: Value::Long(v as i64), t: T(t), added };
    let mut datoms = Vec::new();
    for e in 1..=ENTITIES {
        if t > 0 {
            datoms.push(d(e, t - 1, false));
        }
        datoms.push(d(e, t, true));
    }
    let row = Row { table: 3, key: vec![9], value: Some(t.to_be_bytes().to_vec()) };
    Record { t: T(t), instant: Instant(t as i64), datoms, rows: vec![row] }
}

/// At any `at`, each entity has one value, and it is the t looked at.
fn look(store: &Store, at: At, dict: &std::sync::Arc<Dict>) {
    let t = at.view.upto(at.basis);
    let mut seen = 0;
    store
        .scan(at, &Prefix::A(A), &mut |d| {
            seen += 1;
            assert_eq!((d.e, d.v, d.t), (ent(seen), Value::Long(t.0 as i64), t), "{at:?}");
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, ENTITIES, "{at:?}");
    assert_eq!(store.count(at, &Prefix::Av(A, Value::Long(t.0 as i64))).unwrap(), ENTITIES, "{at:?}");
    assert_eq!(store.count(at, &Prefix::Ea(ent(1 + t.0 % ENTITIES), A)).unwrap(), 1, "{at:?}");
    let cell = dict.encode(&Value::Long(t.0 as i64));
    for order in [Order::Eav, Order::Ave] {
        let c = store.column(at, A, order, dict).unwrap();
        assert_eq!(c.len() as u64, ENTITIES, "{at:?}");
        assert!(c.v.iter().all(|v| *v == cell) && c.t.iter().all(|x| *x == t.0), "{at:?}");
    }
    let mut out = ProbeOut::default();
    store.probe(at, A, Order::Eav, &[ent(3).raw(), ent(5).raw()], dict, &mut out).unwrap();
    assert_eq!(out.v, [cell, cell], "{at:?}");
    let row = store.row(at.basis, 3, &[9]).unwrap().unwrap();
    assert_eq!(row, at.basis.0.to_be_bytes());
    assert_eq!(store.instant_of(t).unwrap(), Some(Instant(t.0 as i64)));
    assert_eq!(store.t_at(Instant(t.0 as i64)).unwrap(), t);
}

fn storm(store: &Store, single: bool) {
    if single {
        store.set_hints(Hints { single: [A].into(), ..Hints::default() });
    }
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        for reader in 0..3u64 {
            let (store, done) = (store.clone(), &done);
            s.spawn(move || {
                let dict = Dict::current();
                let mut n = reader;
                let mut held = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let basis = store.basis();
                    look(&store, At::now(basis), &dict);
                    let t = T((n >> 33) % (basis.0 + 1));
                    look(&store, At { basis, view: View { as_of: Some(t), ..View::NOW } }, &dict);
                    // A handle kept for long goes on answering as it did.
                    held.push(At::now(basis));
                    look(&store, held[(n >> 40) as usize % held.len()], &dict);
                    let from = T(t.0.saturating_sub(3));
                    let log: Vec<T> = store.log(from, t.next()).unwrap().map(|r| r.unwrap().t).collect();
                    assert_eq!(log, (from.0..=t.0).map(T).collect::<Vec<_>>());
                }
            });
        }
        for t in store.basis().0 + 1..=LAST {
            store.stage(record(t)).unwrap();
            let staged = At::now(T(t));
            assert_eq!(store.count(staged, &Prefix::Av(A, Value::Long(t as i64))).unwrap(), ENTITIES);
            if t % 7 == 0 {
                store.unstage();
                store.stage(record(t)).unwrap();
            }
            store.flush().unwrap();
            match t % 100 {
                30 => store.compact().unwrap(),
                60 => assert!(store.verify().unwrap().is_sound()),
                _ => {}
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn every_read_is_of_one_moment() {
    for (cache_bytes, single) in [(0, false), (1 << 20, true)] {
        let tmp = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            checkpoint: Checkpoint::Auto { facts: 150, idle_ms: 1 },
            map_size_bytes: 1 << 30,
            segment_bytes: 4000,
            cache_bytes,
            ..StoreOptions::default()
        };
        let store = Store::create_or_open(tmp.path(), options, || record(0)).unwrap();
        storm(&store, single);
    }
}

#[test]
fn a_handle_outlives_excision() {
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::create_or_open(tmp.path(), StoreOptions::default(), || record(0)).unwrap();
    let mut log = store.log(T(0), T(9)).unwrap();
    let what = [Excise::Facts { e: Some(ent(1)), a: None, v: None, before: None }];
    store.excise(&what, Record { t: T(1), instant: Instant(5), datoms: vec![], rows: vec![] }).unwrap();
    assert_eq!(log.next().unwrap().unwrap().datoms.len() as u64, ENTITIES);
    assert_eq!(store.count(At::now(T(1)), &Prefix::A(A)).unwrap(), ENTITIES - 1);
}

#[test]
fn values_that_could_not_be_read_again_are_refused() {
    let genesis = Record { t: T(0), instant: Instant(0), datoms: vec![], rows: vec![] };
    let store = Store::in_memory(StoreOptions::default(), genesis).unwrap();
    let mut deep = Value::Nil;
    for _ in 0..300 {
        deep = Value::vector([deep]);
    }
    let d = Datom { e: ent(1), a: A, v: deep, t: T(1), added: true };
    let r = Record { t: T(1), instant: Instant(1), datoms: vec![d], rows: vec![] };
    assert_eq!(store.stage(r).unwrap_err().code(), "storage/bad-datom");
}

#[test]
fn attributes_without_history_leave_none_in_the_indexes() {
    let tmp = tempfile::tempdir().unwrap();
    let options = StoreOptions { checkpoint: Checkpoint::Never, ..StoreOptions::default() };
    let store = Store::create_or_open(tmp.path(), options, || record(0)).unwrap();
    store.set_hints(Hints { no_history: [A].into(), ..Hints::default() });
    for t in 1..=5 {
        store.stage(record(t)).unwrap();
    }
    store.flush().unwrap();
    store.checkpoint().unwrap();
    let closed = |s: &Store| s.stats().unwrap().trees.iter().find(|t| t.0 == "heav").unwrap().1;
    assert_eq!(closed(&store), 0);
    assert_eq!(store.count(At::now(T(5)), &Prefix::A(A)).unwrap(), ENTITIES);
    assert!(store.verify().unwrap().is_sound());
    // What was not kept is no damage when the attribute keeps its history again.
    store.set_hints(Hints::default());
    assert!(store.verify().unwrap().is_sound());
}
