//! Files written by format 1 open, and read as they did. `UPDATE=1` writes them
//! again: only when no release has written the old ones.

use annals_model::*;
use annals_storage::*;
use std::{fs, path::PathBuf, sync::Arc};

fn records() -> Vec<Record> {
    let e = |n| EntityId::new(Partition::User, n);
    let d = |n, a, v, t, added| Datom { e: e(n), a: AttrId::new(a), v, t: T(t), added };
    let row = |k: &str, v: Option<&str>| Row {
        table: 2,
        key: k.as_bytes().to_vec(),
        value: v.map(|v| v.as_bytes().to_vec()),
    };
    let values = [
        Value::Bool(true),
        Value::Long(-7),
        Value::BigInt(Arc::new("123456789012345678901234567890".parse().unwrap())),
        Value::double(2.5).unwrap(),
        Value::BigDec(Arc::new("-1.500".parse().unwrap())),
        Value::Instant(Instant(1_700_000_000_000_000)),
        Value::Uuid("6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap()),
        Value::keyword("order.status/placed"),
        Value::Symbol(Symbol::new("a/b")),
        Value::string("zero \0, é"),
        Value::string("long ".repeat(100)),
        Value::Uri("https://example.org/".into()),
        Value::Ref(e(2)),
        Value::Bytes(Arc::from([0u8, 1, 2, 255])),
        Value::vector([Value::Nil, Value::Long(3)]),
    ];
    let all = values.into_iter().enumerate().map(|(i, v)| d(1, 20 + i as u32, v, 1, true)).collect();
    let record = |t, datoms, rows| Record { t: T(t), instant: Instant(1_000_000 * t as i64), datoms, rows };
    vec![
        record(0, vec![], vec![]),
        record(1, all, vec![row("k\0", Some("v"))]),
        record(2, vec![d(1, 21, Value::Long(-7), 2, false), d(1, 21, Value::Long(8), 2, true)], vec![]),
        record(3, vec![d(2, 70, "late".into(), 1, true)], vec![row("k\0", None)]),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format1")
}

#[test]
fn a_backup_of_format_1_restores() {
    let tmp = tempfile::tempdir().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        let mut all = records().into_iter();
        let genesis = all.next().unwrap();
        let store =
            Store::create_or_open(&tmp.path().join("new"), StoreOptions::default(), || genesis).unwrap();
        for r in all {
            store.stage(r).unwrap();
            store.flush().unwrap();
        }
        let _ = fs::remove_dir_all(folder());
        store.backup(&folder()).unwrap();
    }
    let dir = tmp.path().join("db");
    Store::restore(&folder(), &dir, None, &StoreOptions::default()).unwrap();
    let store = Store::open(&dir, StoreOptions::default()).unwrap();
    let log: Vec<Record> = store.log(T(0), T(9)).unwrap().map(Result::unwrap).collect();
    assert_eq!(log, records());
    // The chain hash covers every byte of the log's records.
    let report = store.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    let chain: String = report.chain.iter().map(|b| format!("{b:02x}")).collect();
    let file = folder().join("chain");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &chain).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), chain);
}
