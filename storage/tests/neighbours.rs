//! Databases of one process that have nothing to do with one another.

use annals_model::{Datom, EntityId, Instant, Partition, T, Value};
use annals_storage::{At, Checkpoint, Prefix, Record, Store, StoreOptions};
use std::ops::ControlFlow;

fn record(t: u64) -> Record {
    let e = EntityId::new(Partition::User, t + 1);
    let a = annals_model::AttrId::new(300);
    let datom = Datom { e, a, v: Value::Long(t as i64), t: T(t), added: true };
    Record { t: T(t), instant: Instant(t as i64), datoms: vec![datom], rows: Vec::new() }
}

/// Compaction removes the old index folder while a reader still has its environment. The
/// number of that folder is free for the file system to give away, and must not make the
/// folder that gets it look like a database that is open.
#[test]
fn compacting_one_database_does_not_lock_another() {
    let one = tempfile::tempdir().unwrap();
    let options = StoreOptions { map_size_bytes: 1 << 26, ..StoreOptions::default() };
    let store = Store::create_or_open(one.path(), options.clone(), || record(0)).unwrap();
    store.checkpoint().unwrap();
    let mut seen = 0;
    store
        .scan(At::now(store.basis()), &Prefix::All, &mut |_| {
            seen += 1;
            store.compact().unwrap();
            for i in 0..40 {
                let path = one.path().join(format!("other-{i}"));
                drop(Store::create_or_open(&path, options.clone(), || record(0)).unwrap());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, 1);
}

/// Lines of this process's memory map that show an index file of the folder.
fn mapped(dir: &std::path::Path) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let dir = dir.to_str().unwrap();
    maps.lines().filter(|l| l.contains(dir)).map(str::to_owned).collect()
}

#[test]
fn a_closed_database_leaves_nothing_mapped() {
    for (checkpoint, name) in [
        (Checkpoint::Never, "never"),
        (Checkpoint::Always, "always"),
        (Checkpoint::Auto { facts: 1, idle_ms: 1 }, "auto"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { map_size_bytes: 1 << 26, checkpoint, ..StoreOptions::default() };
        for round in 0..3 {
            let store = Store::create_or_open(dir.path(), options.clone(), || record(0)).unwrap();
            for _ in 0..4 {
                let t = store.basis().0 + 1;
                store.stage(record(t)).unwrap();
                store.flush().unwrap();
            }
            let at = At::now(store.basis());
            assert!(store.count(at, &Prefix::All).unwrap() > 0);
            let a = annals_model::AttrId::new(300);
            store.column(at, a, annals_model::Order::Eav, &annals_model::Dict::current()).unwrap();
            store.verify().unwrap();
            assert!(mapped(dir.path()).len() < 3, "{name} {round} before: {:?}", mapped(dir.path()));
            store.compact().unwrap();
            assert!(store.count(at, &Prefix::All).unwrap() > 0);
            assert!(mapped(dir.path()).len() < 3, "{name} {round} compacted: {:?}", mapped(dir.path()));
            drop(store);
            assert!(mapped(dir.path()).is_empty(), "{name} {round} closed: {:?}", mapped(dir.path()));
            Store::rebuild(dir.path(), &options).unwrap();
            assert!(mapped(dir.path()).is_empty(), "{name} {round} rebuilt: {:?}", mapped(dir.path()));
        }
    }
}
