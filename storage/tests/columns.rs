//! When columns are loaded: many small probes add up to one load, and writing never does.

use annals_model::*;
use annals_storage::*;

const A: AttrId = AttrId::new(40);
const ENTITIES: u64 = 320;

fn ent(n: u64) -> EntityId {
    EntityId::new(Partition::User, n)
}

fn record(t: u64, facts: impl Iterator<Item = (u64, u64)>) -> Record {
    let fact = |(e, v): (u64, u64)| Datom { e: ent(e), a: A, v: Value::Long(v as i64), t: T(t), added: true };
    Record { t: T(t), instant: Instant(t as i64), datoms: facts.map(fact).collect(), rows: vec![] }
}

fn probe(store: &Store, e: u64) -> usize {
    let mut out = ProbeOut::default();
    store.probe(At::now(store.basis()), A, Order::Eav, &[ent(e).raw()], &Dict::current(), &mut out).unwrap();
    out.v.len()
}

/// Probes, one entity after another, until the column is in memory.
fn probes_until_loaded(store: &Store) -> Option<u64> {
    (1..=ENTITIES).find(|e| {
        assert!(probe(store, *e) >= 1);
        store.is_cached(A)
    })
}

#[test]
fn small_probes_add_up_to_one_load() {
    let store = Store::in_memory(StoreOptions::default(), record(0, (1..=ENTITIES).map(|e| (e, e)))).unwrap();
    assert!(!store.is_cached(A));
    assert_eq!(
        probes_until_loaded(&store),
        Some(19),
        "when 16 rows a probe, and the row found, are more than the column has"
    );
}

#[test]
fn probes_between_writes_load_nothing_and_see_every_write() {
    let store = Store::in_memory(StoreOptions::default(), record(0, (1..=ENTITIES).map(|e| (e, e)))).unwrap();
    for t in 1..=100 {
        store.stage(record(t, std::iter::once((1, ENTITIES + t)))).unwrap();
        store.flush().unwrap();
        assert_eq!(probe(&store, 1), 1 + t as usize);
    }
    assert!(!store.is_cached(A));
}

#[test]
fn an_uncached_walk_over_the_past_leaves_the_cache_as_it_was() {
    let store = Store::in_memory(StoreOptions::default(), record(0, (1..=ENTITIES).map(|e| (e, e)))).unwrap();
    for t in 1..=50 {
        store.stage(record(t, std::iter::once((1, ENTITIES + t)))).unwrap();
        store.flush().unwrap();
    }
    let dict = Dict::current();
    let read = |store: &Store, t: u64| store.column(At::now(T(t)), A, Order::Eav, &dict).unwrap();
    // The first look at the past loads the attribute's closed intervals: those are of the present's slot.
    read(&store.uncached(), 10);
    let before = store.stats().unwrap().cache_bytes;
    assert!(before > 0);
    for t in 1..50 {
        assert_eq!(read(&store.uncached(), t).len() as u64, ENTITIES + t);
        assert_eq!(store.stats().unwrap().cache_bytes, before, "t {t}");
    }
    // Kept by others, it serves the uncached handle too; and says the same.
    let kept = read(&store, 20);
    assert!(store.stats().unwrap().cache_bytes > before);
    assert_eq!(read(&store.uncached(), 20).v, kept.v);
}

#[test]
fn probes_of_the_past_load_nothing_however_many() {
    let store = Store::in_memory(StoreOptions::default(), record(0, (1..=ENTITIES).map(|e| (e, e)))).unwrap();
    for t in 1..=3 {
        store.stage(record(t, std::iter::once((1, ENTITIES + t)))).unwrap();
        store.flush().unwrap();
    }
    probe(&store, 1);
    for round in 0..ENTITIES * 2 {
        let mut out = ProbeOut::default();
        let at = At { basis: store.basis(), view: View { as_of: Some(T(1)), ..View::NOW } };
        let e = ent(round % ENTITIES + 1).raw();
        store.probe(at, A, Order::Eav, &[e], &Dict::current(), &mut out).unwrap();
        assert!(!out.v.is_empty());
    }
    probe(&store, 1);
    assert!(!store.is_cached(A));
}
