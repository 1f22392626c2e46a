//! The store against a naive model: a list of datoms and nested loops.

use annals_model::*;
use annals_storage::*;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    path::Path,
    sync::Arc,
};

/// An interval and the records that made it known.
#[derive(Clone, Debug)]
struct Fact {
    e: EntityId,
    a: AttrId,
    v: Value,
    start: T,
    end: T,
    known: T,
    known_end: T,
}

#[derive(Clone, Debug, Default)]
struct Model {
    facts: Vec<Fact>,
    log: Vec<Record>,
    rows: Vec<(T, Row)>,
}

impl Model {
    fn apply(&mut self, r: &Record) {
        for d in &r.datoms {
            if d.added {
                self.facts.push(Fact {
                    e: d.e,
                    a: d.a,
                    v: d.v.clone(),
                    start: d.t,
                    end: T::MAX,
                    known: r.t,
                    known_end: T::MAX,
                });
            } else {
                let open = self
                    .facts
                    .iter_mut()
                    .filter(|f| (f.e, f.a, &f.v) == (d.e, d.a, &d.v) && f.end == T::MAX && f.start <= d.t);
                let f = open.max_by_key(|f| f.start).expect("the generator retracts what holds");
                (f.end, f.known_end) = (d.t, r.t);
            }
        }
        for row in &r.rows {
            self.rows.push((r.t, row.clone()));
        }
        self.log.push(r.clone());
    }

    fn datoms(&self, at: At, p: &Prefix) -> Vec<Datom> {
        let mut out = Vec::new();
        for f in &self.facts {
            let matches = match p {
                Prefix::All => true,
                Prefix::E(e) => f.e == *e,
                Prefix::Ea(e, a) => f.e == *e && f.a == *a,
                Prefix::Eav(e, a, v) => f.e == *e && f.a == *a && f.v == *v,
                Prefix::A(a) => f.a == *a,
                Prefix::Av(a, v) => f.a == *a && f.v == *v,
            };
            if !matches || f.known > at.basis {
                continue;
            }
            let end = if f.known_end > at.basis { T::MAX } else { f.end };
            let datom = |t, added| Datom { e: f.e, a: f.a, v: f.v.clone(), t, added };
            if at.view.history {
                if at.view.shows(f.start, at.basis) {
                    out.push(datom(f.start, true));
                }
                if end != T::MAX && at.view.shows(end, at.basis) {
                    out.push(datom(end, false));
                }
            } else if at.view.holds(f.start, end, at.basis) {
                out.push(datom(f.start, true));
            }
        }
        match p {
            Prefix::A(_) => {
                out.sort_by(|x, y| (x.a, x.e, &x.v, x.t, x.added).cmp(&(y.a, y.e, &y.v, y.t, y.added)))
            }
            Prefix::Av(..) => out.sort_by(by_value),
            _ => out.sort(),
        }
        // A history is a set of datoms: what was filed twice under one transaction stands in it once.
        out.dedup();
        out
    }

    fn rows(&self, basis: T, table: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut now = BTreeMap::new();
        for (t, row) in &self.rows {
            if row.table == table && *t <= basis {
                now.insert(row.key.clone(), row.value.clone());
            }
        }
        now.into_iter().filter_map(|(k, v)| Some((k, v?))).collect()
    }
}

fn by_value(x: &Datom, y: &Datom) -> std::cmp::Ordering {
    (x.a, &x.v, x.e, x.t, x.added).cmp(&(y.a, &y.v, y.e, y.t, y.added))
}

fn ent(n: u64) -> EntityId {
    EntityId::new(Partition::User, n)
}

/// Few entities, attributes and values, so that they meet; some values too long for a key.
fn value(n: u8) -> Value {
    match n {
        0..=3 => Value::Long(i64::from(n) - 2),
        4..=5 => Value::string(format!("s{n}")),
        6..=8 => Value::string(format!("{}{n}", "long ".repeat(80))),
        _ => Value::Ref(ent(u64::from(n))),
    }
}

/// One change: entity, attribute, value, and how far back it is filed (0: not).
type Change = (u64, u32, u8, u64);

/// Table, key, value.
type RowChange = (u8, u8, Option<u8>);

#[derive(Clone, Debug)]
enum Op {
    /// Several records flushed as a group.
    Commit(Vec<(Vec<Change>, Vec<RowChange>)>),
    /// Staged, looked at, and dropped.
    Drop(Vec<Change>),
    Checkpoint,
    Reopen,
}

fn change() -> impl Strategy<Value = Change> {
    (1u64..5, 10u32..13, 0u8..12, prop_oneof![4 => Just(0u64), 1 => 1u64..4])
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let row = (1u8..3, any::<u8>().prop_map(|k| k % 5), any::<Option<u8>>());
    let record = (proptest::collection::vec(change(), 0..6), proptest::collection::vec(row, 0..3));
    let op = prop_oneof![
        6 => proptest::collection::vec(record, 1..4).prop_map(Op::Commit),
        1 => proptest::collection::vec(change(), 1..5).prop_map(Op::Drop),
        2 => Just(Op::Checkpoint),
        2 => Just(Op::Reopen),
    ];
    proptest::collection::vec(op, 1..14)
}

/// Makes the record that toggles each change: asserts what does not hold, retracts what does.
fn record(model: &Model, changes: &[Change], rows: &[RowChange]) -> Record {
    let t = T(model.log.len() as u64);
    let mut datoms = Vec::new();
    let mut touched = Vec::new();
    for (e, a, v, back) in changes {
        let (e, a, v) = (ent(*e), AttrId::new(*a), value(*v));
        if touched.contains(&(e, a, v.clone())) {
            continue;
        }
        touched.push((e, a, v.clone()));
        let mut filed = T(t.0.saturating_sub(*back));
        let same = |f: &&Fact| (f.e, f.a, &f.v) == (e, a, &v);
        let open = model.facts.iter().filter(same).find(|f| f.end == T::MAX);
        let added = open.is_none();
        match open {
            Some(f) => {
                filed = filed.max(f.start);
                // Ended where it had ended before, the interval would be the same one.
                if model.facts.iter().filter(same).any(|g| (g.start, g.end) == (f.start, filed)) {
                    filed = t;
                }
            }
            // It may be filed where it was filed before, if it ended there; not where it held.
            None if model.facts.iter().filter(same).any(|f| f.end > filed) => filed = t,
            None => {}
        }
        datoms.push(Datom { e, a, v, t: filed, added });
    }
    let row =
        |(table, k, v): &RowChange| Row { table: *table, key: vec![*k, 0, 1], value: v.map(|v| vec![v; 3]) };
    let mut rows: Vec<Row> = rows.iter().map(row).collect();
    rows.dedup_by(|x, y| (x.table, &x.key) == (y.table, &y.key));
    rows.sort_by(|x, y| (x.table, &x.key).cmp(&(y.table, &y.key)));
    rows.dedup_by(|x, y| (x.table, &x.key) == (y.table, &y.key));
    Record { t, instant: Instant(1000 + t.0 as i64 * 10), datoms, rows }
}

fn genesis() -> Record {
    Record { t: T(0), instant: Instant(1000), datoms: vec![], rows: vec![] }
}

fn views(last: T) -> Vec<View> {
    let mut views = vec![View::NOW, View { history: true, ..View::NOW }];
    for t in [0, last.0 / 2, last.0.saturating_sub(1)] {
        views.push(View { as_of: Some(T(t)), ..View::NOW });
        views.push(View { since: Some(T(t)), ..View::NOW });
        views.push(View { as_of: Some(T(last.0 / 2 + 1)), since: Some(T(t / 2)), history: t % 2 == 0 });
    }
    views
}

fn collect(scan: impl FnOnce(&mut Visit<'_>) -> Result<(), StorageError>) -> Vec<Datom> {
    let mut out = Vec::new();
    scan(&mut |d| {
        out.push(d);
        ControlFlow::Continue(())
    })
    .unwrap();
    out
}

/// The attributes of which no entity ever had two values at once.
fn hints(model: &Model) -> Hints {
    let single = |a: &AttrId| {
        let of: Vec<&Fact> = model.facts.iter().filter(|f| f.a == *a).collect();
        // To a basis that does not know of a late end, the fact goes on.
        let end = |f: &Fact| if f.known_end > f.end { T::MAX } else { f.end };
        let twice = |x: &&Fact| {
            of.iter().any(|y| {
                !std::ptr::eq(*x, *y) && x.e == y.e && (x.start.max(y.start).0 < end(x).min(end(y)).0)
            })
        };
        !of.iter().any(twice)
    };
    Hints { single: (10..13).map(AttrId::new).filter(single).collect(), ..Hints::default() }
}

/// Every question, at every basis and view.
fn compare(store: &Store, model: &Model) {
    let last = store.basis();
    assert_eq!(last, T(model.log.len() as u64 - 1));
    store.set_hints(hints(model));
    let dict = Dict::current();
    let bases = [last, T(last.0.saturating_sub(1)), T(last.0 / 2)];
    for basis in bases {
        for view in views(last) {
            let at = At { basis, view };
            let ctx = format!("{at:?}");
            let mut prefixes = vec![Prefix::All];
            for e in 1..5 {
                prefixes.push(Prefix::E(ent(e)));
                prefixes.push(Prefix::Ea(ent(e), AttrId::new(10 + e as u32 % 3)));
                prefixes.push(Prefix::Eav(ent(e), AttrId::new(11), value(e as u8 * 2)));
            }
            for a in 10..13 {
                prefixes.push(Prefix::A(AttrId::new(a)));
                prefixes.push(Prefix::Av(AttrId::new(a), value(a as u8 - 4)));
            }
            for p in prefixes {
                let want = model.datoms(at, &p);
                assert_eq!(collect(|v| store.scan(at, &p, v)), want, "{ctx} {p:?}");
                assert_eq!(store.count(at, &p).unwrap(), want.len() as u64, "{ctx} count {p:?}");
            }
            for a in 10..13 {
                let a = AttrId::new(a);
                let bounds = [
                    Bound::Unbounded,
                    Bound::Included(value(1)),
                    Bound::Excluded(value(7)),
                    Bound::Included(value(6)),
                ];
                for from in &bounds {
                    for to in &bounds {
                        let mut want = model.datoms(at, &Prefix::A(a));
                        want.retain(|d| std::ops::RangeBounds::contains(&(from.as_ref(), to.as_ref()), &d.v));
                        want.sort_by(by_value);
                        let got = collect(|v| store.range(at, a, from.as_ref(), to.as_ref(), false, v));
                        assert_eq!(got, want, "{ctx} {from:?} {to:?}");
                        let mut got = collect(|v| store.range(at, a, from.as_ref(), to.as_ref(), true, v));
                        got.reverse();
                        assert_eq!(got, want, "{ctx} reverse {from:?} {to:?}");
                    }
                }
                columns(store, model, at, a, &dict);
            }
        }
        for table in 1..3u8 {
            let want = model.rows(basis, table);
            for reverse in [false, true] {
                let mut got = vec![];
                store
                    .rows(basis, table, &[], &[], reverse, &mut |k, v| {
                        got.push((k.to_vec(), v.to_vec()));
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                if reverse {
                    got.reverse();
                }
                assert_eq!(got, want);
            }
            for k in 0..5u8 {
                let k = vec![k, 0, 1];
                let found = want.iter().find(|r| r.0 == k).map(|r| r.1.clone());
                assert_eq!(store.row(basis, table, &k).unwrap(), found);
            }
        }
    }
    let log: Vec<Record> = store.log(T(0), T(1 << 30)).unwrap().map(Result::unwrap).collect();
    assert_eq!(log, model.log);
    for r in &model.log {
        assert_eq!(store.instant_of(r.t).unwrap(), Some(r.instant));
        assert_eq!(store.t_at(r.instant).unwrap(), r.t);
        assert_eq!(store.t_at(Instant(r.instant.0 + 9)).unwrap(), r.t);
    }
    assert_eq!(store.t_at(Instant(0)).unwrap(), T(0));
    assert_eq!(store.instant_of(last.next()).unwrap(), None);
    let from = T(last.0 / 2);
    let log: Vec<Record> = store.log(from, last).unwrap().map(Result::unwrap).collect();
    assert_eq!(log, model.log[from.0 as usize..last.0 as usize]);
}

fn columns(store: &Store, model: &Model, at: At, a: AttrId, dict: &Arc<Dict>) {
    let mut want: Vec<(u64, u64, u64, bool)> = model
        .datoms(at, &Prefix::A(a))
        .iter()
        .map(|d| (d.e.raw(), dict.encode(&d.v), d.t.0, d.added))
        .collect();
    for order in [Order::Eav, Order::Ave] {
        match order {
            Order::Eav => want.sort(),
            Order::Ave => want.sort_by_key(|r| (r.1, r.0, r.2, r.3)),
        }
        let c = store.column(at, a, order, dict).unwrap();
        assert_eq!(c.added.is_some(), at.view.history);
        let got: Vec<_> = (0..c.len()).map(|i| (c.e[i], c.v[i], c.t[i], c.op(i))).collect();
        assert_eq!(got, want, "{at:?} {a:?} {order:?}");
        let mut keys: Vec<u64> = match order {
            Order::Eav => (1..6).map(|e| ent(e).raw()).collect(),
            Order::Ave => (0..12).step_by(2).map(|v| dict.encode(&value(v))).collect(),
        };
        keys.sort();
        keys.dedup();
        let mut out = ProbeOut::default();
        store.probe(at, a, order, &keys, dict, &mut out).unwrap();
        let key = |r: &(u64, u64, u64, bool)| if order == Order::Eav { r.0 } else { r.1 };
        let want: Vec<_> = want
            .iter()
            .filter_map(|r| keys.iter().position(|k| *k == key(r)).map(|k| (k as u32, *r)))
            .collect();
        let got: Vec<_> =
            (0..out.key.len()).map(|i| (out.key[i], (out.e[i], out.v[i], out.t[i], out.added[i]))).collect();
        assert_eq!(got, want, "{at:?} {a:?} {order:?} probe");
    }
}

fn run(ops: &[Op], options: &StoreOptions, dir: Option<&Path>) {
    let open = || match dir {
        Some(dir) => Store::create_or_open(dir, options.clone(), genesis).unwrap(),
        None => Store::in_memory(options.clone(), genesis()).unwrap(),
    };
    let mut store = open();
    let mut model = Model::default();
    model.apply(&genesis());
    for op in ops {
        match op {
            Op::Commit(records) => {
                let before = store.basis();
                let was = collect(|v| store.scan(At::now(before), &Prefix::All, v));
                for (changes, rows) in records {
                    let r = record(&model, changes, rows);
                    store.stage(r.clone()).unwrap();
                    model.apply(&r);
                    let staged = At::now(r.t);
                    assert_eq!(
                        collect(|v| store.scan(staged, &Prefix::All, v)),
                        model.datoms(staged, &Prefix::All)
                    );
                }
                assert_eq!(store.basis(), before);
                assert_eq!(collect(|v| store.scan(At::now(before), &Prefix::All, v)), was);
                store.flush().unwrap();
            }
            Op::Drop(changes) => {
                let before = store.max_counter(Partition::User);
                let mut r = record(&model, changes, &[(1, 1, Some(1))]);
                let late: Vec<Datom> = r.datoms.split_off(r.datoms.len() / 2);
                store.stage(r.clone()).unwrap();
                store
                    .stage(Record {
                        t: r.t.next(),
                        instant: Instant(r.instant.0 + 1),
                        datoms: late,
                        rows: vec![],
                    })
                    .unwrap();
                store.unstage();
                assert_eq!(store.max_counter(Partition::User), before);
            }
            Op::Checkpoint => store.checkpoint().unwrap(),
            Op::Reopen => {
                if dir.is_some() {
                    drop(store);
                    store = open();
                }
            }
        }
        let at = At::now(store.basis());
        assert_eq!(collect(|v| store.scan(at, &Prefix::All, v)), model.datoms(at, &Prefix::All));
        columns(&store, &model, at, AttrId::new(11), &Dict::current());
        let past = View { as_of: Some(T(at.basis.0 / 2)), ..View::NOW };
        columns(&store, &model, At { view: past, ..at }, AttrId::new(11), &Dict::current());
        columns(&store, &model, At::now(T(at.basis.0 / 2)), AttrId::new(11), &Dict::current());
    }
    compare(&store, &model);
    let report = store.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.records, model.log.len() as u64);
    let Some(dir) = dir else { return };
    store.compact().unwrap();
    compare(&store, &model);
    drop(store);
    let rebuilt = Store::rebuild(dir, options).unwrap();
    assert_eq!(rebuilt.t, T(model.log.len() as u64 - 1));
    let store = open();
    compare(&store, &model);
    let report = store.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
}

fn options(checkpoint: Checkpoint, cache_bytes: usize) -> StoreOptions {
    StoreOptions {
        checkpoint,
        cache_bytes,
        segment_bytes: 700,
        map_size_bytes: 1 << 28,
        ..StoreOptions::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn in_memory(ops in ops()) {
        run(&ops, &options(Checkpoint::Never, 1 << 20), None);
    }

    #[test]
    fn checkpoints_when_asked(ops in ops(), cache in prop_oneof![Just(0usize), Just(1 << 20)]) {
        let dir = tempfile::tempdir().unwrap();
        run(&ops, &options(Checkpoint::Never, cache), Some(&dir.path().join("db")));
    }

    #[test]
    fn checkpoints_always(ops in ops(), cache in prop_oneof![Just(0usize), Just(1 << 20)]) {
        let dir = tempfile::tempdir().unwrap();
        run(&ops, &options(Checkpoint::Always, cache), Some(dir.path()));
    }

    #[test]
    fn checkpoints_in_the_background(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        run(&ops, &options(Checkpoint::Auto { facts: 3, idle_ms: 1 }, 1 << 20), Some(dir.path()));
    }
}
