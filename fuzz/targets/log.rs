//! The log: a database whose log has other bytes in it opens with what was sound
//! before them, or says what is wrong. Input: triples of an offset (two bytes) and
//! a byte to be put there; an odd length cuts the log at the first offset instead.

#![no_main]

use annals::{Checkpoint, Options, T};
use libfuzzer_sys::fuzz_target;
use std::{fs, path::Path, sync::LazyLock};

/// The files of a small database, by path within its folder.
static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let conn = options().open(dir.path()).expect("a new database");
    conn.transact("[{:db/ident :n :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]")
        .expect("sound");
    for i in 0..8 {
        conn.transact(format!("[{{:n \"{}\"}}]", "x".repeat(i * 7))).expect("sound");
    }
    conn.close();
    drop(conn);
    let mut files = Vec::new();
    gather(dir.path(), dir.path(), &mut files);
    files
});

fn options() -> Options {
    // What is not in the indexes is read from the log.
    Options::new().checkpoint(Checkpoint::Never).map_size_bytes(1 << 20)
}

fn gather(root: &Path, dir: &Path, out: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(root, &path, out);
        } else {
            let name = path.strip_prefix(root).expect("it is below").to_string_lossy().into_owned();
            out.push((name, fs::read(&path).expect("readable")));
        }
    }
}

fn is_log(name: &str) -> bool {
    name.starts_with("log")
}

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, bytes) in FILES.iter() {
        let mut bytes = bytes.clone();
        if is_log(name) && !bytes.is_empty() {
            for patch in data.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % bytes.len();
                if data.len() % 2 == 1 && data.len() > 3 {
                    bytes.truncate(at);
                    break;
                }
                bytes[at] = patch[2];
            }
        }
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
        fs::write(path, bytes).expect("writable");
    }
    match options().open(dir.path()) {
        Ok(conn) => {
            for report in conn.tx_range(T(0), conn.db().t().next()).into_iter().flatten() {
                let _ = report;
            }
            let _ = conn.verify();
            let _ = conn.transact("[{:n \"after\"}]");
        }
        Err(e) => assert!(!e.to_string().is_empty() && e.code().contains('/')),
    }
});
