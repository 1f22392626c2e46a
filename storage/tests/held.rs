//! What the writer has been told of the layers below novelty changes no answer: a store that is asked what
//! holds before each record goes the way of one that never is.

use annals_model::{AttrId, Datom, EntityId, Instant, Partition, T, Value, View};
use annals_storage::{At, Checkpoint, Prefix, Record, Store, StoreOptions};
use proptest::prelude::*;
use std::ops::ControlFlow;

const ENTITIES: u64 = 3;
const ATTRS: u32 = 2;

#[derive(Clone, Debug)]
enum Step {
    /// Datoms: entity, attribute, value, how much older than the record, op; and whether the twin is asked
    /// before, and whether the record is flushed.
    Record(Vec<(u64, u32, i64, u64, bool)>, bool, bool),
    Flush,
    Unstage,
    /// What novelty holds becomes the layer below.
    Checkpoint,
    /// Asked, and no record follows at once.
    Ask,
}

fn step() -> impl Strategy<Value = Step> {
    let older = prop_oneof![4 => Just(0u64), 1 => 0u64..4];
    let datom = (0..ENTITIES, 0..ATTRS, 0i64..3, older, any::<bool>());
    let record =
        (proptest::collection::vec(datom, 1..4), prop::bool::weighted(0.8), prop::bool::weighted(0.7));
    prop_oneof![
        12 => record.prop_map(|(d, ask, flush)| Step::Record(d, ask, flush)),
        1 => Just(Step::Flush),
        1 => Just(Step::Unstage),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Ask),
    ]
}

fn pairs() -> Vec<(EntityId, AttrId)> {
    let entity = |e| EntityId::new(Partition::User, 1 + e);
    (0..ENTITIES).flat_map(|e| (0..ATTRS).map(move |a| (entity(e), AttrId::new(70 + a)))).collect()
}

fn scanned(store: &Store, at: At, p: &Prefix) -> Vec<Datom> {
    let mut out = Vec::new();
    store
        .scan(at, p, &mut |d| {
            out.push(d);
            ControlFlow::Continue(())
        })
        .unwrap();
    out
}

/// What is held, which must be what a scan shows.
fn ask(store: &Store) {
    let at = At::now(store.newest());
    let mut held = vec![None; pairs().len()];
    store.held(at.basis, &pairs(), &mut |i, v| held[i] = Some(v)).unwrap();
    for ((e, a), held) in pairs().into_iter().zip(held) {
        assert_eq!(scanned(store, at, &Prefix::Ea(e, a)).into_iter().next().map(|d| d.v), held);
    }
}

fn opened(dir: &std::path::Path) -> Store {
    let options = StoreOptions { checkpoint: Checkpoint::Never, ..StoreOptions::default() };
    let genesis = || Record { t: T(0), instant: Instant(0), datoms: vec![], rows: vec![] };
    Store::create_or_open(dir, options, genesis).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn asking_changes_nothing(steps in proptest::collection::vec(step(), 1..60)) {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [plain, asked] = [opened(dirs[0].path()), opened(dirs[1].path())];
        for step in steps {
            match step {
                Step::Record(datoms, before, flush) => {
                    let t = plain.newest().next();
                    let datoms = datoms.into_iter().map(|(e, a, v, older, added)| Datom {
                        e: EntityId::new(Partition::User, 1 + e),
                        a: AttrId::new(70 + a),
                        v: if v == 2 { Value::string("v".repeat(500)) } else { Value::Long(v) },
                        t: T(t.0.saturating_sub(older)),
                        added,
                    });
                    let r = Record { t, instant: Instant(0), datoms: datoms.collect(), rows: vec![] };
                    if before {
                        ask(&asked);
                    }
                    let (one, other) = (plain.stage(r.clone()), asked.stage(r));
                    prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
                    if flush {
                        plain.flush().unwrap();
                        asked.flush().unwrap();
                    }
                }
                Step::Flush => [&plain, &asked].into_iter().for_each(|s| s.flush().unwrap()),
                Step::Unstage => [&plain, &asked].into_iter().for_each(Store::unstage),
                Step::Checkpoint => for s in [&plain, &asked] {
                    s.flush().unwrap();
                    s.checkpoint().unwrap();
                },
                Step::Ask => ask(&asked),
            }
        }
        let all = |s: &Store| {
            let history = At { basis: s.newest(), view: View { history: true, ..View::NOW } };
            (scanned(s, history, &Prefix::All), scanned(s, At::now(s.newest()), &Prefix::All))
        };
        prop_assert_eq!(all(&plain), all(&asked));
        for s in [&plain, &asked] {
            s.flush().unwrap();
            s.checkpoint().unwrap();
        }
        prop_assert_eq!(all(&plain), all(&asked));
        let problems = |s: &Store| format!("{:?}", s.verify().map(|r| r.problems));
        prop_assert_eq!(problems(&plain), problems(&asked));
    }
}
