//! Concurrent clients, with crashes: what they were told is what a serial database
//! would have said. And the checker that says so sees faults when there are some.

use annals::{Checkpoint, Options};
use annals_tests::checker::{self, History, http, library, plant};
use std::time::Duration;

fn sound(history: &History, least: usize) {
    let (summary, violations) = checker::check(history);
    println!("{summary}");
    assert!(violations.is_empty(), "{summary}: {violations:#?}");
    assert!(summary.acknowledged >= least && summary.answers >= least, "too little happened: {summary}");
    assert!(summary.refused > 0, "the clients collide: {summary}");
}

#[test]
fn threads_over_memory_are_serial() {
    let conn = annals::in_memory().unwrap();
    sound(&library::run(&conn, 8, 120, 1), 100);
}

#[test]
fn threads_over_files_are_serial_while_checkpoints_run() {
    let dir = tempfile::tempdir().unwrap();
    let conn =
        Options::new().checkpoint(Checkpoint::Auto { facts: 40, idle_ms: 5 }).open(dir.path()).unwrap();
    sound(&library::run(&conn, 8, 80, 2), 60);
}

#[test]
fn clients_over_http_are_serial_while_the_server_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let plan = http::Plan {
        server: [env!("CARGO_BIN_EXE_checker"), "serve", "{dir}", "{address}"].map(String::from).to_vec(),
        dir: dir.path().join("checked"),
        clients: 6,
        kills: 6,
        between: Duration::from_millis(400),
        seed: 3,
    };
    let (history, storm) = http::run(&plan);
    assert_eq!(storm.kills, 6);
    sound(&history, 50);
}

#[test]
fn planted_faults_are_found() {
    let conn = annals::in_memory().unwrap();
    let history = library::run(&conn, 6, 80, 4);
    sound(&history, 60);
    for (fault, planted, found) in plant::trial(&history, 6, 4) {
        assert!(planted > 0, "{fault:?}: the history has no place for it");
        assert_eq!(found, planted, "{fault:?} was not always found");
    }
}
