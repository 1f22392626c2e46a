//! Side rows over several chunks, layers and versions, against a map.

use annals_model::*;
use annals_storage::*;
use std::{collections::BTreeMap, ops::ControlFlow};

const TABLE: u8 = 3;
/// More than two chunks of a scan.
const ROWS: u64 = 1_700;

/// Zeros and ones are escaped in keys, and keys are prefixes of each other.
fn key(n: u64) -> Vec<u8> {
    let mut key = (n / 3).to_be_bytes().to_vec();
    key.extend(std::iter::repeat_n(1, (n % 3) as usize));
    key
}

/// What one record does: every `step`-th row from `first` on gets a value, or goes.
fn record(t: u64, first: u64, step: usize, value: Option<u8>) -> Record {
    let row = |n| Row { table: TABLE, key: key(n), value: value.map(|v| vec![v, n as u8]) };
    let mut rows: Vec<Row> = (first..ROWS).step_by(step).map(row).collect();
    // A neighbouring table must not be seen.
    rows.push(Row { table: TABLE + 1, key: vec![], value: Some(vec![9]) });
    Record { t: T(t), instant: Instant(t as i64), datoms: vec![], rows }
}

fn all(store: &Store, basis: T, from: &[u8], to: &[u8], reverse: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut got = Vec::new();
    let mut put = |k: &[u8], v: &[u8]| {
        got.push((k.to_vec(), v.to_vec()));
        ControlFlow::Continue(())
    };
    store.rows(basis, TABLE, from, to, reverse, &mut put).unwrap();
    if reverse {
        got.reverse();
    }
    got
}

#[test]
fn ranges_and_keys_at_every_basis_over_all_layers() {
    let dir = tempfile::tempdir().unwrap();
    let genesis = Record { t: T(0), instant: Instant(0), datoms: vec![], rows: vec![] };
    let options = StoreOptions { checkpoint: Checkpoint::Never, ..StoreOptions::default() };
    let stores = [
        Store::create_or_open(dir.path(), options.clone(), || genesis.clone()).unwrap(),
        Store::in_memory(options, genesis).unwrap(),
    ];
    // Each step, and whether the indexes take what there is after it.
    let steps = [
        (0, 1, Some(1), true),
        (5, 7, Some(2), false),
        (0, 2, None, true),
        (1, 3, Some(3), false),
        (4, 11, None, false),
        (900, 1, Some(4), false),
    ];
    let mut at: Vec<BTreeMap<Vec<u8>, Vec<u8>>> = vec![BTreeMap::new()];
    for (i, (first, step, value, checkpoint)) in steps.into_iter().enumerate() {
        let r = record(i as u64 + 1, first, step, value);
        let mut model = at.last().unwrap().clone();
        for row in r.rows.iter().filter(|r| r.table == TABLE) {
            match &row.value {
                Some(v) => model.insert(row.key.clone(), v.clone()),
                None => model.remove(&row.key),
            };
        }
        at.push(model);
        for store in &stores {
            store.stage(r.clone()).unwrap();
            store.flush().unwrap();
            if checkpoint {
                store.checkpoint().unwrap();
            }
            assert_eq!(store.newest(), r.t);
        }
    }
    let keys: Vec<Vec<u8>> = (0..ROWS).map(key).collect();
    let (low, high) = (key(130), key(1_500));
    for store in &stores {
        for (t, model) in at.iter().enumerate() {
            let basis = T(t as u64);
            for reverse in [false, true] {
                let want: Vec<_> = model.clone().into_iter().collect();
                assert_eq!(all(store, basis, &[], &[], reverse), want, "t{t} {reverse}");
                let want: Vec<_> =
                    model.range(low.clone()..high.clone()).map(|(k, v)| (k.clone(), v.clone())).collect();
                assert_eq!(all(store, basis, &low, &high, reverse), want, "t{t} {reverse}");
                // Whoever stops early has seen the first.
                let mut first = None;
                let mut stop = |k: &[u8], _: &[u8]| {
                    first = Some(k.to_vec());
                    ControlFlow::Break(())
                };
                store.rows(basis, TABLE, &low, &high, reverse, &mut stop).unwrap();
                let ends = if reverse { want.last() } else { want.first() };
                assert_eq!(first.as_ref(), ends.map(|(k, _)| k), "t{t} {reverse}");
            }
            let mut got = BTreeMap::new();
            let mut put = |i: usize, v: &[u8]| {
                got.insert(keys[i].clone(), v.to_vec());
                ControlFlow::Continue(())
            };
            store.rows_of(basis, TABLE, &keys, &mut put).unwrap();
            assert_eq!(&got, model, "t{t}");
            for k in keys.iter().step_by(97) {
                assert_eq!(store.row(basis, TABLE, k).unwrap().as_ref(), model.get(k), "t{t}");
            }
        }
    }
}
