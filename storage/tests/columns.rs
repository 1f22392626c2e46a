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
        store.is_cached(At::now(store.basis()), A)
    })
}

#[test]
fn small_probes_add_up_to_one_load() {
    let store = Store::in_memory(StoreOptions::default(), record(0, (1..=ENTITIES).map(|e| (e, e)))).unwrap();
    assert!(!store.is_cached(At::now(store.basis()), A));
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
    assert!(!store.is_cached(At::now(store.basis()), A));
}

/// Entity 1 gets one more value at every odd t and loses it at the next.
fn coming_and_going(times: u64) -> Store {
    let options = StoreOptions::default();
    let store = Store::in_memory(options, record(0, (1..=ENTITIES).map(|e| (e, e)))).unwrap();
    (1..=times).for_each(|t| come_or_go(&store, t));
    store
}

fn come_or_go(store: &Store, t: u64) {
    let mut r = record(t, std::iter::once((1, ENTITIES + t.div_ceil(2))));
    r.datoms[0].added = t % 2 == 1;
    store.stage(r).unwrap();
    store.flush().unwrap();
}

fn point(store: &Store, t: u64, e: u64) -> Vec<(Value, T)> {
    let mut found = Vec::new();
    let at = At { basis: store.basis(), view: View { as_of: Some(T(t)), ..View::NOW } };
    store
        .scan(at, &Prefix::Ea(ent(e), A), &mut |d| {
            assert!(d.added && d.e == ent(e) && d.a == A);
            found.push((d.v, d.t));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    found
}

/// What entity 1 has as of each t.
fn expected(t: u64) -> Vec<(Value, T)> {
    let mut values = vec![(Value::Long(1), T(0))];
    if t % 2 == 1 {
        values.push((Value::Long((ENTITIES + t.div_ceil(2)) as i64), T(t)));
    }
    values
}

#[test]
fn points_of_many_times_read_the_intervals_once_and_see_every_write() {
    let store = coming_and_going(100);
    let bytes = || store.stats().unwrap().cache_bytes;
    let asked = (0..100u64).find(|t| {
        assert_eq!(point(&store, *t, 1), expected(*t), "t {t}");
        bytes() > 0
    });
    assert_eq!(asked, Some(23), "when 16 rows a point are more than 371 facts and intervals");
    for t in (0..100).rev() {
        assert_eq!(point(&store, t, 1), expected(t), "t {t}");
        assert_eq!(point(&store, t, 2), [(Value::Long(2), T(0))]);
        assert_eq!(point(&store, t, ENTITIES + 1), []);
    }
    // Each write is waiting there when the points of the next time come; more of them make it worth while.
    for now in 101..160 {
        come_or_go(&store, now);
        for t in [now - 1, now - 2, 50] {
            assert_eq!(point(&store, t, 1), expected(t), "t {t} at {now}");
        }
    }
    for t in 0..159 {
        assert_eq!(point(&store, t, 1), expected(t), "t {t} in the end");
    }
}

#[test]
fn points_of_an_entity_with_many_intervals_are_left_to_the_layers() {
    let store = coming_and_going(400);
    for t in 0..400 {
        assert_eq!(point(&store, t, 1), expected(t), "t {t}");
        assert_eq!(point(&store, t, 3), [(Value::Long(3), T(0))]);
    }
}

#[test]
fn points_of_an_uncached_handle_or_without_a_cache_load_nothing() {
    let store = coming_and_going(60);
    for t in 0..60 {
        assert_eq!(point(&store.uncached(), t, 1), expected(t));
    }
    assert_eq!(store.stats().unwrap().cache_bytes, 0);
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

const TIMES: u64 = 60;

fn with_a_past() -> Store {
    let store = Store::in_memory(StoreOptions::default(), record(0, (1..=ENTITIES).map(|e| (e, e)))).unwrap();
    for t in 1..=TIMES {
        store.stage(record(t, std::iter::once((1, ENTITIES + t)))).unwrap();
        store.flush().unwrap();
    }
    store
}

fn as_of(store: &Store, t: u64) -> At {
    At { basis: store.basis(), view: View { as_of: Some(T(t)), ..View::NOW } }
}

fn probe_at(store: &Store, at: At, e: u64) -> usize {
    let mut out = ProbeOut::default();
    store.probe(at, A, Order::Eav, &[ent(e).raw()], &Dict::current(), &mut out).unwrap();
    out.v.len()
}

#[test]
fn probes_of_many_pasts_read_the_intervals_once_and_keep_no_column_of_any() {
    let store = with_a_past();
    let bytes = || store.stats().unwrap().cache_bytes;
    let mut held = Vec::new();
    for round in 0..ENTITIES * 2 {
        let at = as_of(&store, round % TIMES);
        let expected = if round % ENTITIES == 0 { 1 + round % TIMES } else { 1 };
        assert_eq!(probe_at(&store, at, round % ENTITIES + 1) as u64, expected, "round {round}");
        assert!(!store.is_cached(at, A), "round {round}");
        if held.last() != Some(&bytes()) {
            held.push(bytes());
        }
    }
    assert_eq!(held.len(), 2, "nothing, then the intervals: {held:?}");
}

#[test]
fn probes_of_one_past_add_up_to_its_column() {
    let store = with_a_past();
    let at = as_of(&store, 1);
    // The entity whose facts are many: the column says what the seeks said.
    let loaded = (0..ENTITIES).position(|_| {
        assert_eq!(probe_at(&store, at, 1), 2);
        store.is_cached(at, A)
    });
    assert_eq!(
        loaded,
        Some(21),
        "16 rows a probe, and the two found, against 380 in the column and its past"
    );
    assert!(!store.is_cached(as_of(&store, 2), A), "another time is another column");
    let walked = with_a_past().uncached();
    assert!((0..ENTITIES).all(|_| probe_at(&walked, at, 1) == 2 && !walked.is_cached(at, A)));
}

#[test]
fn a_cached_present_is_cached_for_every_view_behind_the_last_change() {
    let store = with_a_past();
    let now = At::now(store.basis());
    let column = store.column(now, A, Order::Eav, &Dict::current()).unwrap();
    assert!(store.is_cached(now, A) && store.is_cached(as_of(&store, TIMES), A));
    assert!(!store.is_cached(as_of(&store, TIMES - 1), A), "the past is another column");
    let history = At { view: View { history: true, ..View::NOW }, ..now };
    assert!(!store.is_cached(history, A));
    // A record that changes something else leaves the present as it is; one that changes the attribute does not.
    let other = Datom { e: ent(1), a: AttrId::new(41), v: Value::Long(1), t: T(TIMES + 1), added: true };
    store.stage(Record { datoms: vec![other], ..record(TIMES + 1, std::iter::empty()) }).unwrap();
    store.flush().unwrap();
    assert!(store.is_cached(now, A) && store.is_cached(At::now(store.basis()), A));
    store.stage(record(TIMES + 2, std::iter::once((2, 0)))).unwrap();
    store.flush().unwrap();
    assert!(!store.is_cached(now, A), "its change waits to be merged");
    let newer = store.column(At::now(store.basis()), A, Order::Eav, &Dict::current()).unwrap();
    assert_eq!(newer.len(), column.len() + 1);
    assert!(store.is_cached(At::now(store.basis()), A) && !store.is_cached(now, A));
}

/// A store that keeps a megabyte of columns, of which two of the past fit into the room of the young.
fn with_a_long_past() -> Store {
    let options = StoreOptions { cache_bytes: 1 << 20, ..StoreOptions::default() };
    let store = Store::in_memory(options, record(0, (1..=ENTITIES).map(|e| (e, e)))).unwrap();
    for t in 1..=400 {
        store.stage(record(t, std::iter::once((1, ENTITIES + t)))).unwrap();
        store.flush().unwrap();
    }
    store
}

#[test]
fn moments_that_are_asked_about_once_leave_the_cache_as_small_as_it_was() {
    let store = with_a_long_past();
    let dict = Dict::current();
    let read = |at: At| store.column(at, A, Order::Eav, &dict).unwrap();
    read(as_of(&store, 0));
    let present = store.stats().unwrap().cache_bytes;
    for t in 1..400 {
        assert_eq!(read(as_of(&store, t)).len() as u64, ENTITIES + t);
        let since = View { since: Some(T(t)), ..View::NOW };
        let since = read(At { basis: store.basis(), view: since });
        assert_eq!(since.len() as u64, 400 - t);
        assert!(since.e.capacity() <= since.len() + since.len() / 8, "room for all is not kept for a few");
        read(At { basis: T(t), view: View { history: true, ..View::NOW } });
        let bytes = store.stats().unwrap().cache_bytes;
        assert!(bytes <= present + (1 << 20) / 64, "t {t}: {present} before, {bytes}");
    }
}

#[test]
fn moments_that_are_come_back_to_are_kept_whoever_passes_in_between() {
    let store = with_a_long_past();
    let dict = Dict::current();
    let read = |t: u64| store.column(as_of(&store, t), A, Order::Eav, &dict).unwrap();
    let back = [100, 200, 300];
    for round in 0..3 {
        for t in back {
            assert_eq!(read(t).len() as u64, ENTITIES + t);
            assert!(store.is_cached(as_of(&store, t), A), "whoever asks twice in a row finds it");
        }
        for t in (1 + 90 * round..90 + 90 * round).filter(|t| !back.contains(t)) {
            read(t);
        }
        assert!(back.iter().all(|t| store.is_cached(as_of(&store, *t), A) == (round > 0)), "round {round}");
    }
    assert!(store.is_cached(At::now(store.basis()), A), "the present was never let go");
}
