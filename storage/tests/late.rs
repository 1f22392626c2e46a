//! Many late facts in one record, over indexes that hold others.

use annals_model::*;
use annals_storage::*;
use std::ops::ControlFlow;

const A: AttrId = AttrId::new(40);
const MANY: u64 = 400;

fn late(e: u64, v: u64, t: u64) -> Datom {
    let e = EntityId::new(Partition::User, e);
    Datom { e, a: A, v: Value::Long(v as i64), t: T(t), added: true }
}

fn record(t: u64, datoms: Vec<Datom>) -> Record {
    Record { t: T(t), instant: Instant(t as i64), datoms, rows: vec![] }
}

fn shown(store: &Store, as_of: u64) -> Vec<(u64, Value, T)> {
    let mut got = Vec::new();
    let at = At { basis: store.basis(), view: View { as_of: Some(T(as_of)), ..View::NOW } };
    store
        .scan(at, &Prefix::A(A), &mut |d| {
            got.push((d.e.counter(), d.v, d.t));
            ControlFlow::Continue(())
        })
        .unwrap();
    got
}

#[test]
fn late_facts_of_new_entities_are_filed_and_a_fact_recorded_twice_is_refused() {
    for checkpoint in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { checkpoint: Checkpoint::Never, ..StoreOptions::default() };
        let store = Store::create_or_open(dir.path(), options, || record(0, vec![])).unwrap();
        let put = |r: Record| {
            store.stage(r).unwrap();
            store.flush().unwrap();
        };
        // Others of another partition, and of a longer counter, must not be taken for new ones.
        let old = |e: u64| late(e, e, 1);
        let tx = Datom { e: T(1).entity(), ..late(1, 7, 1) };
        put(record(1, (1..=MANY).map(old).chain([tx, old(70_000)]).collect()));
        put(record(2, vec![]));
        if checkpoint {
            store.checkpoint().unwrap();
        }
        let new = |e: u64| late(e, e, 2);
        put(record(3, (1..=MANY).map(|n| new(80_000 + n)).collect()));
        assert_eq!(shown(&store, 1).len() as u64, MANY + 2);
        assert_eq!(shown(&store, 2).len() as u64, 2 * MANY + 2);
        // Recorded already: by the indexes, or by the record before; behind new ones, or first.
        for twice in [old(5), old(70_000), new(80_007)] {
            let mut datoms: Vec<_> = (1..=MANY).map(|n| new(90_000 + n)).collect();
            for at in [0, 1, MANY as usize] {
                datoms.insert(at, twice.clone());
                let refused = store.stage(record(4, datoms.clone()));
                assert!(
                    matches!(refused, Err(StorageError::BadDatom { .. })),
                    "{twice:?} at {at}: {refused:?}"
                );
                datoms.remove(at);
            }
        }
        // A late fact of an old entity among those of new ones, and one that closes the old.
        let mut datoms: Vec<_> = (1..=MANY).map(|n| new(90_000 + n)).collect();
        datoms.push(Datom { added: false, ..late(5, 5, 2) });
        datoms.push(late(5, 500, 2));
        put(record(4, datoms));
        let fifth = |as_of| shown(&store, as_of).into_iter().find(|s| s.0 == 5).map(|s| s.1);
        assert_eq!((fifth(1), fifth(2)), (Some(Value::Long(5)), Some(Value::Long(500))));
        assert!(store.verify().unwrap().is_sound());
    }
}

#[test]
fn a_fact_filed_twice_under_one_transaction_stands_once_in_a_history() {
    for (checkpoint, cache_bytes) in [(false, 0), (false, 1 << 20), (true, 0), (true, 1 << 20)] {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { checkpoint: Checkpoint::Never, cache_bytes, ..StoreOptions::default() };
        let store = Store::create_or_open(dir.path(), options, || record(0, vec![])).unwrap();
        let put = |r: Record| {
            store.stage(r).unwrap();
            store.flush().unwrap();
        };
        put(record(1, vec![late(1, 1, 1)]));
        put(record(2, vec![late(2, 2, 2)]));
        // Asserted, retracted and asserted under one t, and ended by a later record.
        let ends = |d: Datom| Datom { added: false, ..d };
        put(record(3, vec![late(3, 3, 2), ends(late(3, 3, 2)), late(3, 3, 2)]));
        put(record(4, vec![ends(late(3, 3, 4))]));
        if checkpoint {
            store.checkpoint().unwrap();
        }
        let third = |t: u64, added| Datom { added, ..late(3, 3, t) };
        let want = [third(2, false), third(2, true), third(4, false)];
        let at = At { basis: store.basis(), view: View { history: true, ..View::NOW } };
        let all = [late(1, 1, 1), late(2, 2, 2)].into_iter().chain(want.clone()).collect::<Vec<_>>();
        let e = want[0].e;
        let of_value = Prefix::Av(A, Value::Long(3));
        for (prefix, want) in [
            (Prefix::All, &all[..]),
            (Prefix::A(A), &all[..]),
            (Prefix::E(e), &want[..]),
            (Prefix::Ea(e, A), &want[..]),
            (of_value, &want[..]),
        ] {
            let mut got = Vec::new();
            store
                .scan(at, &prefix, &mut |d| {
                    got.push(d);
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(got, want, "{prefix:?}, checkpoint {checkpoint}, cache {cache_bytes}");
            assert_eq!(store.count(at, &prefix).unwrap(), want.len() as u64);
        }
        let dict = Dict::current();
        for order in [Order::Eav, Order::Ave] {
            let c = store.column(at, A, order, &dict).unwrap();
            let got: Vec<(u64, bool)> = (0..c.len()).map(|i| (c.t[i], c.op(i))).collect();
            assert_eq!(got, [(1, true), (2, true), (2, false), (2, true), (4, false)], "{order:?}");
        }
        assert!(store.verify().unwrap().is_sound());
    }
}

#[test]
fn a_late_end_finds_the_fact_that_began_last_before_it_wherever_that_is() {
    // Of one entity, a fact that began at 1 or 5 in the indexes, and at 3 in novelty; and the other way round.
    for (below, above) in [(1, 3), (5, 3), (3, 5), (3, 1)] {
        for reopen in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let options = StoreOptions { checkpoint: Checkpoint::Never, ..StoreOptions::default() };
            let open = || Store::create_or_open(dir.path(), options.clone(), || record(0, vec![])).unwrap();
            let mut store = open();
            let put = |store: &Store, r: Record| store.stage(r).and_then(|()| store.flush());
            for t in 1..8 {
                put(&store, record(t, vec![])).unwrap();
            }
            put(&store, record(8, vec![late(1, 7, below)])).unwrap();
            store.checkpoint().unwrap();
            if reopen {
                drop(store);
                store = open();
            }
            put(&store, record(9, vec![late(1, 7, above), late(2, 7, above)])).unwrap();
            // What is there already is refused, wherever it is.
            for there in [below, above] {
                let twice = put(&store, record(10, vec![late(1, 7, there)]));
                assert!(matches!(twice, Err(StorageError::BadDatom { .. })), "{below} {above}: {twice:?}");
            }
            let end = Datom { added: false, ..late(1, 7, 6) };
            put(&store, record(10, vec![end])).unwrap();
            let left = T(below.min(above));
            let expected = vec![(1, Value::Long(7), left), (2, Value::Long(7), T(above))];
            for checkpoint in [false, true] {
                if checkpoint {
                    store.checkpoint().unwrap();
                }
                assert_eq!(shown(&store, 10), expected, "{below} {above} {reopen} {checkpoint}");
            }
        }
    }
}
