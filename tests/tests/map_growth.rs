//! A map for the indexes that is too small: writers are told, readers go on, nothing
//! acknowledged is lost, and the same folder opens with a larger map and goes on.
//!
//! `ANNALS_MAP_MIB` says how large the map becomes, doubling from 8 MiB (default 8: once).

use annals::{Checkpoint, Connection, Options};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

const SCHEMA: &str = "[{:db/ident :k/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :k/v :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}]";
/// Entities a transaction makes, each of two facts.
const A_TX: u64 = 500;
const READERS: usize = 4;

fn open(path: &Path, map_mib: usize) -> Connection {
    let checkpoint = Checkpoint::Auto { facts: 4_000, idle_ms: 50 };
    Options::new().map_size_bytes(map_mib << 20).checkpoint(checkpoint).open(path).expect("the folder opens")
}

fn count(conn: &Connection) -> u64 {
    match conn.db().query("[:find (count ?e) . :where [?e :k/n]]", ()).expect("reads go on").scalar() {
        Some(annals::Value::Long(n)) => n as u64,
        _ => 0,
    }
}

/// Writes until a refusal or until `most` entities are there. What was acknowledged, and the refusal's code.
fn fill(conn: &Connection, from: u64, most: u64) -> (u64, Option<String>) {
    let (acknowledged, over) = (AtomicU64::new(from), AtomicBool::new(false));
    let mut refused = None;
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    let least = acknowledged.load(SeqCst);
                    let found = count(conn);
                    assert!(
                        found >= least && found.is_multiple_of(A_TX),
                        "{found} seen, {least} acknowledged"
                    );
                }
            });
        }
        while acknowledged.load(SeqCst) < most {
            let first = acknowledged.load(SeqCst);
            let maps: Vec<String> = (first..first + A_TX)
                .map(|i| format!("{{:k/n {i} :k/v \"{}\"}}", format!("{i} ").repeat(12)))
                .collect();
            match conn.transact(format!("[{}]", maps.join(" "))) {
                Ok(_) => acknowledged.fetch_add(A_TX, SeqCst),
                Err(e) => {
                    refused = Some(e.code().to_string());
                    break;
                }
            };
        }
        over.store(true, SeqCst);
    });
    (acknowledged.into_inner(), refused)
}

#[test]
fn a_full_map_loses_nothing_and_a_larger_one_goes_on() {
    let largest = std::env::var("ANNALS_MAP_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (mut map_mib, mut there, mut full) = (8, 0, 0);
    while map_mib <= largest {
        let conn = open(&path, map_mib);
        if there == 0 {
            conn.transact(SCHEMA).unwrap();
        }
        assert_eq!(count(&conn), there, "all that was acknowledged, at {map_mib} MiB");
        // More than fits: an entity takes some 200 bytes in the trees.
        let (now, refused) = fill(&conn, there, (map_mib as u64) << 13);
        println!("map of {map_mib} MiB: {now} entities, {refused:?}");
        there = now;
        if let Some(code) = refused {
            full += 1;
            // A writer meets it itself, or hears of the checkpoint that did.
            assert!(["storage/map-full", "storage/checkpoint-failed"].contains(&code.as_str()), "{code}");
        }
        assert_eq!(count(&conn), there, "reads go on");
        drop(conn);
        map_mib *= 2;
    }
    let conn = open(&path, map_mib * 4);
    assert_eq!(count(&conn), there);
    assert!(conn.verify().unwrap().is_sound(), "the indexes are those of the log");
    assert!(full > 0, "the map never filled: the test shows nothing");
}
