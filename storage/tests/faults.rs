//! Damage, loss and failing disks: each has a name, and nothing acknowledged is lost.

use annals_model::*;
use annals_storage::*;
use std::{fs, ops::ControlFlow, path::Path};

fn ent(n: u64) -> EntityId {
    EntityId::new(Partition::User, n)
}

fn record(t: u64) -> Record {
    let datom = |a, v| Datom { e: ent(t), a: AttrId::new(a), v, t: T(t), added: true };
    Record {
        t: T(t),
        instant: Instant(t as i64 * 1000),
        datoms: vec![datom(40, Value::Long(t as i64)), datom(41, Value::string(format!("name {t}")))],
        rows: vec![Row { table: 1, key: t.to_be_bytes().to_vec(), value: Some(vec![7; 5]) }],
    }
}

fn genesis() -> Record {
    Record { t: T(0), instant: Instant(-1), datoms: vec![], rows: vec![] }
}

fn never() -> StoreOptions {
    StoreOptions { checkpoint: Checkpoint::Never, map_size_bytes: 1 << 28, ..StoreOptions::default() }
}

/// A database with records 1 to `n`, each flushed on its own.
fn make(dir: &Path, n: u64, options: &StoreOptions) -> Store {
    let store = Store::create_or_open(dir, options.clone(), genesis).unwrap();
    for t in 1..=n {
        store.stage(record(t)).unwrap();
        store.flush().unwrap();
    }
    store
}

fn count(store: &Store) -> u64 {
    store.count(At::now(store.basis()), &Prefix::All).unwrap()
}

fn copy_dir(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn segment(dir: &Path, i: usize) -> std::path::PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir.join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.remove(i)
}

#[test]
fn a_torn_end_is_dropped_at_every_byte() {
    let tmp = tempfile::tempdir().unwrap();
    let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
    drop(make(&a, 3, &never()));
    let before = Store::open(&a, never()).unwrap().stats().unwrap().log_bytes;
    let store = Store::open(&a, never()).unwrap();
    store.stage(record(4)).unwrap();
    store.flush().unwrap();
    let after = store.stats().unwrap().log_bytes;
    drop(store);
    let whole = fs::read(segment(&a, 0)).unwrap();
    for cut in before..=after {
        for tail in 0..3 {
            copy_dir(&a, &b);
            let mut bytes = whole[..cut as usize].to_vec();
            match tail {
                0 => {}
                1 => bytes.resize(whole.len(), 0),
                // A hole in the middle of a sector: no write leaves one.
                _ => {
                    bytes.resize((cut as usize + 3).min(after as usize), 0);
                    bytes.extend_from_slice(&whole[bytes.len()..]);
                }
            }
            fs::write(segment(&b, 0), &bytes).unwrap();
            // Where the length still says how far the record goes, the hole is seen.
            let (len, bytes_differ) = (before as usize..before as usize + 4, bytes != whole[..bytes.len()]);
            let hole = tail == 2 && cut + 3 < after && bytes_differ && bytes[len.clone()] == whole[len];
            let store = match Store::open(&b, never()) {
                Err(StorageError::BadRecord { t, .. }) => {
                    assert!(hole && t == T(4), "cut at {cut}, tail {tail}");
                    continue;
                }
                opened => opened.unwrap(),
            };
            assert!(!hole, "cut at {cut} went unseen");
            let got = store.basis();
            if cut == after {
                assert_eq!(got, T(4));
            } else {
                assert!(got == T(3) || (got == T(4) && bytes[..after as usize] == whole[..after as usize]));
            }
            assert_eq!(count(&store), got.0 * 2);
            // Writing goes on where the sound part ended.
            store.stage(record(got.0 + 1)).unwrap();
            store.flush().unwrap();
            drop(store);
            assert_eq!(Store::open(&b, never()).unwrap().basis(), got.next());
        }
    }
}

#[test]
fn a_flipped_bit_in_what_was_synced_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
    let options = StoreOptions { segment_bytes: 300, ..never() };
    drop(make(&a, 12, &options));
    let n = fs::read_dir(a.join("log")).unwrap().count();
    assert!(n > 2);
    copy_dir(&a, &b);
    for i in 0..n {
        let file = segment(&b, i);
        let whole = fs::read(&file).unwrap();
        // Of the last segment, up to the zeros written ahead: its last record included.
        let end = whole.iter().rposition(|b| *b != 0).unwrap() + 1;
        for byte in 0..end {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << (byte % 8);
            fs::write(&file, &bytes).unwrap();
            match Store::open(&b, options.clone()) {
                Err(StorageError::BadRecord { .. } | StorageError::BadSegment { .. }) => {}
                Err(StorageError::NewerFormat { .. } | StorageError::Foreign { .. }) if byte < 72 => {}
                Err(e) => panic!("byte {byte} of segment {i}: {e}"),
                Ok(s) => panic!("byte {byte} of segment {i} went unseen at {:?}", s.basis()),
            }
        }
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(Store::open(&b, options).unwrap().basis(), T(12));
}

#[test]
fn what_precedes_damage_can_be_saved() {
    let tmp = tempfile::tempdir().unwrap();
    let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
    drop(make(&a, 5, &never()));
    let file = segment(&a, 0);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[last - 20] ^= 4;
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(Store::open(&a, never()), Err(StorageError::BadRecord { t: T(5), .. })));
    for upto in [None, Some(T(5))] {
        let refused = Store::restore(&a, &b, upto, &never());
        assert!(matches!(refused, Err(StorageError::BadRecord { t: T(5), .. })), "{refused:?}");
        fs::remove_dir_all(&b).unwrap();
    }
    assert_eq!(Store::restore(&a, &b, Some(T(4)), &never()).unwrap().t, T(4));
    assert_eq!(count(&Store::open(&b, never()).unwrap()), 8);
}

#[test]
fn a_log_that_lost_what_the_indexes_know_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let store = make(tmp.path(), 5, &never());
    store.checkpoint().unwrap();
    drop(store);
    let file = segment(tmp.path(), 0);
    let bytes = fs::read(&file).unwrap();
    let len = bytes.iter().rposition(|b| *b != 0).unwrap();
    fs::write(&file, &bytes[..len - 4]).unwrap();
    let e = Store::open(tmp.path(), never()).err().unwrap();
    assert_eq!(e.class(), Class::Damage, "{e}");
    // The log alone is still good, up to its torn end.
    assert_eq!(Store::rebuild(tmp.path(), &never()).unwrap().t, T(4));
    assert_eq!(count(&Store::open(tmp.path(), never()).unwrap()), 8);
}

#[test]
fn missing_empty_and_strange_files_are_never_a_fresh_database() {
    let tmp = tempfile::tempdir().unwrap();
    let (a, b) = (tmp.path().join("a"), tmp.path().join("b"));
    let store = make(&a, 3, &never());
    store.checkpoint().unwrap();
    drop(store);
    let open = || Store::create_or_open(&b, never(), genesis).err().map(|e| e.code());
    let seg = "log/00000000000000000000.seg";
    for (file, removed, emptied, garbage) in [
        ("identity", "storage/missing-file", "storage/missing-file", "storage/not-a-database"),
        ("index/data.mdb", "storage/missing-file", "storage/missing-file", "storage/bad-index"),
        (seg, "storage/missing-file", "storage/bad-segment", "storage/bad-segment"),
    ] {
        copy_dir(&a, &b);
        fs::remove_file(b.join(file)).unwrap();
        assert_eq!(open(), Some(removed), "{file} removed");
        fs::write(b.join(file), "").unwrap();
        assert_eq!(open(), Some(emptied), "{file} emptied");
        fs::write(b.join(file), [b'x'; 9000]).unwrap();
        assert_eq!(open(), Some(garbage), "{file} garbage");
    }
    copy_dir(&a, &b);
    let data = fs::read(b.join("index/data.mdb")).unwrap();
    fs::write(b.join("index/data.mdb"), &data[..data.len() / 2]).unwrap();
    assert_eq!(open(), Some("storage/bad-index"), "data cut off");
    assert_eq!(Store::rebuild(&b, &never()).unwrap().t, T(3));
    assert_eq!(open(), None);

    copy_dir(&a, &b);
    let identity = fs::read_to_string(b.join("identity")).unwrap();
    fs::write(b.join("identity"), identity.replace("format 1", "format 2")).unwrap();
    assert_eq!(open(), Some("storage/newer-format"));
    fs::write(
        b.join("identity"),
        identity
            .replace("uuid ", "uuid 00000000-0000-4000-8000-000000000000 ")
            .lines()
            .map(|l| if l.starts_with("uuid") { "uuid 00000000-0000-4000-8000-000000000000" } else { l })
            .collect::<Vec<_>>()
            .join("\n"),
    )
    .unwrap();
    assert_eq!(open(), Some("storage/foreign-file"));

    // Something else's folder, a file, nothing at all.
    let c = tmp.path().join("c");
    fs::create_dir(&c).unwrap();
    fs::write(c.join("notes.txt"), "hello").unwrap();
    assert_eq!(Store::create_or_open(&c, never(), genesis).err().unwrap().code(), "storage/not-a-database");
    let file = c.join("notes.txt");
    assert_eq!(
        Store::create_or_open(&file, never(), genesis).err().unwrap().code(),
        "storage/not-a-database"
    );
    let d = tmp.path().join("d");
    assert_eq!(Store::open(&d, never()).err().unwrap().code(), "storage/no-database");
    assert!(!d.exists());
}

#[test]
fn an_interrupted_creation_leaves_no_trace() {
    let tmp = tempfile::tempdir().unwrap();
    drop(make(tmp.path(), 2, &never()));
    fs::remove_file(tmp.path().join("identity")).unwrap();
    fs::write(tmp.path().join("identity.tmp"), "annals").unwrap();
    fs::write(tmp.path().join("creating"), "").unwrap();
    let store = Store::create_or_open(tmp.path(), never(), genesis).unwrap();
    assert_eq!(store.basis(), T(0));
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    let tmp = tempfile::tempdir().unwrap();
    let store = make(tmp.path(), 1, &never());
    for result in [Store::open(tmp.path(), never()).err(), Store::rebuild(tmp.path(), &never()).err()] {
        match result {
            Some(StorageError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
    }
    let read_only = StoreOptions { read_only: true, ..never() };
    assert_eq!(Store::open(tmp.path(), read_only.clone()).err().unwrap().code(), "storage/locked");
    drop(store);
    // Readers share, and keep writers out.
    let first = Store::open(tmp.path(), read_only.clone()).unwrap();
    assert_eq!(first.stage(record(2)).unwrap_err().code(), "storage/read-only");
    assert_eq!(count(&first), 2);
    assert_eq!(Store::open(tmp.path(), never()).err().unwrap().code(), "storage/locked");
    drop(first);
    assert!(Store::open(tmp.path(), never()).is_ok());
}

#[test]
fn every_failing_write_and_sync_poisons_and_loses_nothing() {
    for op in [FileOp::Write, FileOp::Sync] {
        for n in 1..14 {
            for (errno, code) in [(5, "storage/io"), (28, "storage/disk-full")] {
                let tmp = tempfile::tempdir().unwrap();
                drop(make(tmp.path(), 1, &never()));
                let options =
                    StoreOptions { faults: Faults::nth(op, n, errno), segment_bytes: 260, ..never() };
                let store = Store::open(tmp.path(), options).unwrap();
                let mut acked = 1;
                let error = loop {
                    store.stage(record(acked + 1)).unwrap();
                    match store.flush() {
                        Ok(()) => acked += 1,
                        Err(e) => break e,
                    }
                };
                assert_eq!(error.code(), code);
                assert_eq!(store.basis(), T(acked));
                assert_eq!(store.flush().unwrap_err().code(), "storage/poisoned");
                assert_eq!(store.stage(record(acked + 2)).unwrap_err().code(), "storage/poisoned");
                assert_eq!(count(&store), acked * 2);
                drop(store);
                let store = Store::open(tmp.path(), never()).unwrap();
                // What was not acknowledged may be there whole, or not at all.
                assert!(store.basis() == T(acked) || store.basis() == T(acked + 1));
                assert_eq!(count(&store), store.basis().0 * 2);
                assert!(store.verify().unwrap().is_sound());
            }
        }
    }
}

#[test]
fn a_full_map_is_named_and_reads_go_on() {
    let tmp = tempfile::tempdir().unwrap();
    let options = StoreOptions { map_size_bytes: 1 << 18, ..never() };
    let store = make(tmp.path(), 1, &options);
    let mut t = 1;
    let error = loop {
        for _ in 0..500 {
            t += 1;
            store.stage(record(t)).unwrap();
        }
        store.flush().unwrap();
        if let Err(e) = store.checkpoint() {
            break e;
        }
    };
    assert!(
        matches!(error, StorageError::MapFull { map_size_bytes } if map_size_bytes == 1 << 18),
        "{error}"
    );
    assert_eq!(count(&store), t * 2);
    drop(store);
    let store = Store::open(tmp.path(), never()).unwrap();
    assert_eq!(count(&store), t * 2);
    store.checkpoint().unwrap();
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn when_checkpoints_fail_writers_are_told_at_the_limit() {
    let tmp = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::Auto { facts: 200, idle_ms: 5 };
    let options = StoreOptions { map_size_bytes: 1 << 17, checkpoint, ..never() };
    let store = make(tmp.path(), 1, &options);
    let mut t = 1;
    let error = loop {
        match store.stage(record(t + 1)) {
            Ok(()) => t += 1,
            Err(e) => break e,
        }
        store.flush().unwrap();
        assert!(t < 1_000_000);
    };
    assert_eq!(error.code(), "storage/checkpoint-failed");
    assert_eq!(count(&store), t * 2);
    drop(store);
    assert_eq!(count(&Store::open(tmp.path(), never()).unwrap()), t * 2);
}

#[test]
fn verify_survives_any_damage_to_the_index_file() {
    let tmp = tempfile::tempdir().unwrap();
    let store = make(tmp.path(), 400, &never());
    let long =
        Datom { e: ent(1), a: AttrId::new(50), v: Value::string("x".repeat(9000)), t: T(401), added: true };
    store.stage(Record { t: T(401), instant: Instant(900_000), datoms: vec![long], rows: vec![] }).unwrap();
    store.flush().unwrap();
    store.checkpoint().unwrap();
    let report = store.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    // In parts it compares the same rows, and tells how far it is.
    let in_parts = || {
        let mut told = Vec::new();
        let progress = &mut |p: VerifyProgress| told.push(p);
        let options = VerifyOptions { memory_bytes: 40_000, progress: Some(progress) };
        let report = store.verify_with(options).unwrap();
        (report, told)
    };
    let (parts, told) = in_parts();
    assert!(parts.is_sound(), "{parts:?}");
    assert_eq!((parts.rows, parts.records, parts.chain), (report.rows, report.records, report.chain));
    let last = told.last().unwrap();
    assert!(last.passes > 3 && last.pass == last.passes, "{last:?}");
    assert_eq!((last.t, last.upto), (T(401), T(401)));
    let file = tmp.path().join("index/data.mdb");
    let whole = fs::read(&file).unwrap();
    let (mut seen, mut state) = (0, 1u64);
    for round in 0..600 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // Not the meta pages: the running LMDB reads those.
        let i = 8192 + (state >> 33) as usize % (whole.len() - 8192);
        let mut bytes = whole.clone();
        bytes[i] ^= 1 << (state >> 60 & 7);
        use std::os::unix::fs::FileExt;
        let f = fs::OpenOptions::new().write(true).open(&file).unwrap();
        f.write_all_at(&bytes[i..=i], i as u64).unwrap();
        let sound = store.verify().unwrap().is_sound();
        seen += usize::from(!sound);
        if round % 8 == 0 {
            assert_eq!(in_parts().0.is_sound(), sound, "byte {i}");
        }
        f.write_all_at(&whole[i..=i], i as u64).unwrap();
    }
    // The rest hit free space.
    assert!(seen > 200, "{seen}");
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn what_had_no_history_once_may_be_missing_for_ever() {
    let tmp = tempfile::tempdir().unwrap();
    let store = make(tmp.path(), 3, &never());
    let a = AttrId::new(40);
    let change = |t: u64, old: i64, new: i64| {
        let d = |v, added| Datom { e: ent(1), a, v: Value::Long(v), t: T(t), added };
        let datoms = vec![d(old, false), d(new, true)];
        store.stage(Record { t: T(t), instant: Instant(t as i64 * 1000), datoms, rows: vec![] }).unwrap();
        store.flush().unwrap();
        store.checkpoint().unwrap();
    };
    let ops = || {
        let at = At { basis: store.basis(), view: View { history: true, ..View::NOW } };
        store.count(at, &Prefix::Ea(ent(1), a)).unwrap()
    };
    change(4, 1, 4);
    assert_eq!(ops(), 3);
    store.set_hints(Hints { no_history: [a].into(), ..Hints::default() });
    change(5, 4, 5);
    assert_eq!(ops(), 3, "the interval that ended is not kept, older ones stay");
    assert!(store.verify().unwrap().is_sound());
    // With history again, what was dropped stays so, and is no damage.
    store.set_hints(Hints::default());
    change(6, 5, 6);
    assert_eq!(ops(), 5);
    assert!(store.verify().unwrap().is_sound());
    drop(store);
    assert_eq!(Store::rebuild(tmp.path(), &never()).unwrap().datoms, 12);
    let store = Store::open(tmp.path(), never()).unwrap();
    let at = At { basis: store.basis(), view: View { history: true, ..View::NOW } };
    assert_eq!(store.count(at, &Prefix::Ea(ent(1), a)).unwrap(), 7, "the log has kept everything");
}

#[test]
fn excised_facts_are_gone_everywhere() {
    let tmp = tempfile::tempdir().unwrap();
    let store = make(tmp.path(), 20, &StoreOptions { segment_bytes: 400, ..never() });
    let secret = "secret ".repeat(100);
    let d = |t, added| Datom { e: ent(3), a: AttrId::new(60), v: Value::string(&secret), t: T(t), added };
    for (t, added) in [(21, true), (22, false), (23, true)] {
        let r =
            Record { t: T(t), instant: Instant(t as i64 * 1000), datoms: vec![d(t, added)], rows: vec![] };
        store.stage(r).unwrap();
        store.flush().unwrap();
        store.checkpoint().unwrap();
    }
    let backup = tmp.path().join("backup");
    store.backup(&backup).unwrap();
    let what = [
        Excise::Facts { e: Some(ent(3)), a: None, v: None, before: None },
        Excise::Facts { e: None, a: Some(AttrId::new(40)), v: None, before: Some(T(10)) },
        Excise::Row { table: 1, key: 7u64.to_be_bytes().to_vec() },
    ];
    assert!(store.still_there(&what).unwrap() > 0);
    let signed = Record { t: T(24), instant: Instant(24_000), datoms: vec![], rows: vec![] };
    let report = store.excise(&what, signed).unwrap();
    // Entity 3: two facts of its own and three datoms of the secret; attribute 40 of t1..t9 but e3.
    assert_eq!((report.datoms, report.rows), (5 + 8, 1));
    let check = |store: &Store| {
        assert_eq!(store.basis(), T(24));
        assert_eq!(store.still_there(&what).unwrap(), 0);
        assert!(store.verify().unwrap().is_sound());
        assert_eq!(count(store), 20 * 2 - 2 - 8);
        let mut signed = 0;
        store
            .rows(T(24), Row::STORAGE, &[], &[], false, &mut |_, _| {
                signed += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(signed, 1);
    };
    check(&store);
    let report = store.backup(&backup).unwrap();
    assert!(!report.incremental);
    store.stage(Record { instant: Instant(25_000), ..record(25) }).unwrap();
    store.unstage();
    drop(store);
    fn contains(dir: &Path, needle: &[u8]) -> bool {
        fs::read_dir(dir).unwrap().any(|e| {
            let path = e.unwrap().path();
            if path.is_dir() {
                contains(&path, needle)
            } else {
                fs::read(path).unwrap().windows(needle.len()).any(|w| w == needle)
            }
        })
    }
    assert!(!contains(tmp.path(), b"secret secret"));
    check(&Store::open(tmp.path(), never()).unwrap());
}

#[test]
fn backups_go_on_where_they_ended_and_restore_to_any_t() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("db");
    let backup = tmp.path().join("backup");
    let store = make(&dir, 10, &StoreOptions { segment_bytes: 500, ..never() });
    let first = store.backup(&backup).unwrap();
    assert_eq!((first.t, first.incremental), (T(10), false));
    for t in 11..=30 {
        store.stage(record(t)).unwrap();
        store.flush().unwrap();
    }
    let second = store.backup(&backup).unwrap();
    assert_eq!((second.t, second.incremental), (T(30), true));
    assert_eq!(first.copied_bytes + second.copied_bytes, store.stats().unwrap().log_bytes);
    assert_eq!(store.backup(&backup).unwrap().copied_bytes, 0);
    for t in [0, 1, 10, 17, 30] {
        let to = tmp.path().join(format!("to{t}"));
        Store::restore(&backup, &to, Some(T(t)), &never()).unwrap();
        let restored = Store::open(&to, never()).unwrap();
        assert_eq!(restored.basis(), T(t));
        assert_eq!(count(&restored), t * 2);
        let report = restored.verify().unwrap();
        assert!(report.is_sound(), "{report:?}");
    }
    let e = Store::restore(&backup, &tmp.path().join("far"), Some(T(31)), &never()).unwrap_err();
    assert_eq!(e.code(), "storage/unknown-t");
    let whole = tmp.path().join("whole");
    Store::restore(&backup, &whole, None, &never()).unwrap();
    assert_eq!(Store::restore(&backup, &whole, None, &never()).unwrap_err().code(), "storage/not-empty");
    let strange = tmp.path().join("db/log");
    assert_eq!(store.backup(&strange).unwrap_err().code(), "storage/not-empty");
    let other = make(&tmp.path().join("other"), 1, &never());
    assert_eq!(other.backup(&backup).unwrap_err().code(), "storage/foreign-file");
}

#[test]
fn bad_records_are_refused_and_leave_nothing() {
    let store = Store::in_memory(never(), genesis()).unwrap();
    store.stage(record(1)).unwrap();
    store.flush().unwrap();
    let with = |datoms: Vec<Datom>| Record { datoms, ..record(2) };
    let d = |v: i64, t, added| Datom { e: ent(1), a: AttrId::new(40), v: v.into(), t: T(t), added };
    let code = |r: Record| store.stage(r).unwrap_err().code();
    assert_eq!(code(record(3)), "storage/out-of-order");
    assert_eq!(code(Record { instant: Instant(999), ..record(2) }), "storage/clock-back");
    assert_eq!(code(with(vec![d(9, 2, true), d(8, 2, false)])), "storage/retracts-nothing");
    assert_eq!(code(with(vec![d(9, 2, true), d(9, 2, true)])), "storage/bad-datom");
    assert_eq!(code(with(vec![d(9, 3, true)])), "storage/bad-datom");
    let row = Row { table: 1, key: vec![0; 300], value: None };
    assert_eq!(code(Record { rows: vec![row], ..record(2) }), "storage/row-key-too-long");
    store.stage(with(vec![d(1, 2, false)])).unwrap();
    store.flush().unwrap();
    assert_eq!(count(&store), 1);
}

#[test]
fn an_excision_that_was_decided_is_finished_and_one_that_was_not_is_dropped() {
    let tmp = tempfile::tempdir().unwrap();
    let (a, b, c) = (tmp.path().join("a"), tmp.path().join("b"), tmp.path().join("c"));
    drop(make(&a, 5, &never()));
    copy_dir(&a, &b);
    let store = Store::open(&b, never()).unwrap();
    let what = [Excise::Facts { e: Some(ent(2)), a: None, v: None, before: None }];
    let signed = Record { t: T(6), instant: Instant(6_000), datoms: vec![], rows: vec![] };
    store.excise(&what, signed).unwrap();
    drop(store);
    // The states a crash can leave: before the decision, and after each rename that follows it.
    for (step, decided) in [(0, false), (0, true), (1, true), (2, true)] {
        copy_dir(&a, &c);
        for (i, part) in ["log", "index"].into_iter().enumerate() {
            let to = if i < step { part.to_owned() } else { format!("{part}.next") };
            copy_dir(&b.join(part), &c.join(to));
        }
        if decided {
            fs::write(c.join("swap"), "log\nindex").unwrap();
        }
        let store = Store::open(&c, never()).unwrap();
        assert_eq!(store.basis(), if decided { T(6) } else { T(5) }, "step {step}");
        assert_eq!(store.still_there(&what).unwrap() == 0, decided);
        assert!(store.verify().unwrap().is_sound());
        drop(store);
        assert!(!c.join("swap").exists() && !c.join("log.next").exists() && !c.join("index.next").exists());
    }
}

#[test]
fn relaxed_durability_survives_the_process_and_checkpoints_sync_first() {
    let tmp = tempfile::tempdir().unwrap();
    let options = StoreOptions { durability: Durability::Relaxed, segment_bytes: 400, ..never() };
    let store = make(tmp.path(), 20, &options);
    store.checkpoint().unwrap();
    drop(store);
    let store = make_more(tmp.path(), 21..=30, &options);
    drop(store);
    assert_eq!(count(&Store::open(tmp.path(), never()).unwrap()), 60);
}

fn make_more(dir: &Path, ts: std::ops::RangeInclusive<u64>, options: &StoreOptions) -> Store {
    let store = Store::open(dir, options.clone()).unwrap();
    for t in ts {
        store.stage(record(t)).unwrap();
        store.flush().unwrap();
    }
    store
}
