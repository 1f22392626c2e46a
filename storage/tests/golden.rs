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

/// Folder and files of a database, its indexes included: what a release leaves behind.
fn database() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/database1")
}

const FILES: [&str; 3] = ["identity", "log/00000000000000000000.seg", "index/data.mdb"];

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for file in FILES {
        fs::create_dir_all(to.join(file).parent().unwrap()).unwrap();
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

#[test]
fn a_database_of_format_1_opens() {
    let tmp = tempfile::tempdir().unwrap();
    let options =
        StoreOptions { checkpoint: Checkpoint::Never, map_size_bytes: 1 << 28, ..StoreOptions::default() };
    if std::env::var_os("UPDATE").is_some() {
        let (made, mut all) = (tmp.path().join("made"), records().into_iter());
        let genesis = all.next().unwrap();
        let store = Store::create_or_open(&made, options.clone(), || genesis).unwrap();
        for r in all {
            // The last record is behind the checkpoint: in the log alone.
            if r.t == T(3) {
                store.checkpoint().unwrap();
            }
            store.stage(r).unwrap();
            store.flush().unwrap();
        }
        drop(store);
        let _ = fs::remove_dir_all(database());
        copy(&made, &database());
    }
    for read_only in [true, false] {
        let dir = tmp.path().join(format!("copy-{read_only}"));
        copy(&database(), &dir);
        let options = StoreOptions { read_only, ..options.clone() };
        let store = Store::open(&dir, options).unwrap();
        assert_eq!(store.basis(), T(3));
        assert_eq!(store.stats().unwrap().indexed, T(2));
        let log: Vec<Record> = store.log(T(0), T(9)).unwrap().map(Result::unwrap).collect();
        assert_eq!(log, records());
        assert!(store.verify().unwrap().is_sound());
        // As of each t, what the records up to it say.
        for t in 0..=3 {
            let at = At { basis: T(3), view: View { as_of: Some(T(t)), ..View::NOW } };
            let mut held: Vec<Datom> = Vec::new();
            // A fact filed under an older t belongs to that time.
            let mut datoms: Vec<Datom> =
                records().into_iter().flat_map(|r| r.datoms).filter(|d| d.t <= T(t)).collect();
            datoms.sort_by_key(|d| (d.t, d.added));
            for d in datoms {
                match d.added {
                    true => held.push(d),
                    false => held.retain(|h| (h.e, h.a, &h.v) != (d.e, d.a, &d.v)),
                }
            }
            held.sort();
            let mut found = Vec::new();
            store
                .scan(at, &Prefix::All, &mut |d| {
                    found.push(d);
                    std::ops::ControlFlow::Continue(())
                })
                .unwrap();
            found.sort();
            assert_eq!(found, held, "as of {t}, read-only {read_only}");
        }
        assert_eq!(store.row(T(2), 2, b"k\0").unwrap(), Some(b"v".to_vec()));
        assert_eq!(store.row(T(3), 2, b"k\0").unwrap(), None);
        if !read_only {
            store.checkpoint().unwrap();
            assert!(store.verify().unwrap().is_sound());
        }
    }
}
