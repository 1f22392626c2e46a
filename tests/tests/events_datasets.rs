//! The real event logs of the acceptance list and their known answers (A15, A25): each imported
//! twice, the second time in halves by two writers, and asked of a view, an inline and an async
//! projection alike. Skipped where the logs are not at hand.

use annals::{Connection, Db, Instant, Value};
use std::{
    io::{BufRead, BufReader, Cursor},
    path::PathBuf,
    process::Command,
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/datasets").join(name)
}

fn dataset(name: &str) -> Option<Vec<u8>> {
    if !path(name).exists() {
        eprintln!("skipped: {} is not here", path(name).display());
        return None;
    }
    let out = Command::new("gzip").arg("-dc").arg(path(name)).output().ok()?;
    out.status.success().then_some(out.stdout)
}

fn long(db: &Db, q: &str) -> i64 {
    match db.query(q, ()).unwrap().scalar() {
        Some(Value::Long(n)) => n,
        None => 0,
        other => panic!("{q}: {other:?}"),
    }
}

/// Imports the log, and once more in halves by two writers at once; nothing may come twice. Async
/// projections are driven to the end.
fn import_twice(conn: &Connection, log: &[u8], events: u64) {
    let first = conn.import_events(Cursor::new(log)).unwrap();
    assert_eq!((first.stored, first.known), (events, 0));
    let lines: Vec<String> = BufReader::new(Cursor::new(log)).lines().map(Result::unwrap).collect();
    let again: Vec<_> = std::thread::scope(|s| {
        let halves: Vec<_> = lines
            .chunks(lines.len().div_ceil(2))
            .map(|half| s.spawn(move || conn.import_events(Cursor::new(half.join("\n"))).unwrap()))
            .collect();
        halves.into_iter().map(|h| h.join().unwrap()).collect()
    });
    assert_eq!(
        again.iter().map(|i| (i.stored, i.known)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (0, events)
    );
    assert_eq!(conn.db().events().head().unwrap().0, events);
    catch_up(conn);
    assert_eq!(conn.db().complete_to().unwrap(), conn.db().t());
}

/// Drives every async projection to the end.
fn catch_up(conn: &Connection) {
    for p in conn.projections().unwrap() {
        conn.catch_up(p.name.as_str()).unwrap();
    }
}

/// The database just before a day begins.
fn before(conn: &Connection, day: &str) -> Db {
    conn.db().as_of(Instant(Instant::parse(day).unwrap().0 - 1)).unwrap()
}

/// A projection once inline and once async, under attributes of its own each.
fn both(conn: &Connection, definition: &str) {
    for mode in ["inline", "async"] {
        conn.add_projection(&definition.replace("MODE", mode)).unwrap();
    }
}

const PERMITS: &str = r#"
{:projection/name :permits-MODE :projection/mode :MODE
 :projection/schema [{:db/ident :MODE/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                      :db/unique :db.unique/identity}
                     {:db/ident :MODE/confirmed :db/valueType :db.type/boolean :db/cardinality :db.cardinality/one}
                     {:db/ident :MODE/checked :db/valueType :db.type/boolean :db/cardinality :db.cardinality/one}]
 :projection/on [{:event "ConfirmationOfReceipt" :assert [{:MODE/id $stream :MODE/confirmed true}]}
                 {:event "T02CheckConfirmationOfReceipt" :assert [{:MODE/id $stream :MODE/checked true}]}]}"#;

#[test]
fn a25_receipt_answers_as_known_from_view_inline_and_async() {
    let Some(log) = dataset("receipt.events.ndjson.gz") else { return };
    let conn = annals::in_memory().unwrap();
    both(&conn, PERMITS);
    import_twice(&conn, &log, 8_577);
    for (day, events, confirmed, unchecked) in
        [("2011-01-01", 1_351, 221, 14), ("2011-06-01", 4_683, 768, 60), ("2012-01-01", 8_245, 1_378, 116)]
    {
        let db = before(&conn, day);
        assert_eq!(db.events().head().unwrap().0, events, "events before {day}");
        let q = "[:find (count-distinct ?s) . :where [?e :event/type \"ConfirmationOfReceipt\"] [?e :event/stream ?s]]";
        assert_eq!(long(&db, q), confirmed, "confirmed before {day}, from the events");
        let q = "[:find (count-distinct ?s) . :where [?e :event/type \"ConfirmationOfReceipt\"] [?e :event/stream ?s]
                  (not-join [?s] [?c :event/stream ?s] [?c :event/type \"T02CheckConfirmationOfReceipt\"])]";
        assert_eq!(long(&db, q), unchecked, "unchecked before {day}, from the events");
        for mode in ["inline", "async"] {
            let q = format!("[:find (count ?p) . :where [?p :{mode}/confirmed true]]");
            assert_eq!(long(&db, &q), confirmed, "confirmed before {day}, {mode}");
            let q = format!(
                "[:find (count ?p) . :where [?p :{mode}/confirmed true] (not [?p :{mode}/checked true])]"
            );
            assert_eq!(long(&db, &q), unchecked, "unchecked before {day}, {mode}");
        }
    }
}

const TICKETS: &str = r#"
{:projection/name :tickets-MODE :projection/mode :MODE
 :projection/schema [{:db/ident :MODE/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                      :db/unique :db.unique/identity}
                     {:db/ident :MODE/last :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
                     {:db/ident :MODE/reopened :db/valueType :db.type/boolean :db/cardinality :db.cardinality/one}]
 :projection/on [{:event :any
                  :assert [{:MODE/id $stream
                            :MODE/reopened (if (and (= (current :MODE/last "") "Closed") (not= $type "Closed"))
                                             true (current :MODE/reopened false))}
                           {:MODE/id $stream :MODE/last $type}]}]}"#;

#[test]
fn a25_helpdesk_answers_as_known_from_view_inline_and_async() {
    let Some(log) = dataset("helpdesk.events.ndjson.gz") else { return };
    let conn = annals::in_memory().unwrap();
    both(&conn, TICKETS);
    import_twice(&conn, &log, 21_348);
    for (day, events, tickets, open) in [
        ("2011-01-01", 4_601, 977, 147),
        ("2012-01-01", 11_677, 2_495, 200),
        ("2013-01-01", 17_924, 3_907, 49),
    ] {
        let db = before(&conn, day);
        assert_eq!(db.events().head().unwrap().0, events, "events before {day}");
        let q = "[:find (count-distinct ?s) . :where [?e :event/stream ?s]]";
        assert_eq!(long(&db, q), tickets, "tickets before {day}, from the events");
        let q = "[:find (count-distinct ?s) . :where [?e :event/stream ?s] [?e :event/version ?v] [?e :event/type ?ty]
                  [(!= ?ty \"Closed\")]
                  (not-join [?s ?v] [?l :event/stream ?s] [?l :event/version ?w] [(> ?w ?v)])]";
        assert_eq!(long(&db, q), open, "open before {day}, from the events");
        for mode in ["inline", "async"] {
            let q = format!("[:find (count ?t) . :where [?t :{mode}/id]]");
            assert_eq!(long(&db, &q), tickets, "tickets before {day}, {mode}");
            let q = format!("[:find (count ?t) . :where [?t :{mode}/last ?l] [(!= ?l \"Closed\")]]");
            assert_eq!(long(&db, &q), open, "open before {day}, {mode}");
        }
    }
    // Tickets that went on after a Closed: with another event than a second Closed, and with any.
    let after = |more: &str| {
        let q = format!(
            "[:find (count-distinct ?s) . :where [?c :event/type \"Closed\"] [?c :event/stream ?s] [?c :event/version ?v]
              [?l :event/stream ?s] [?l :event/version ?w] [(> ?w ?v)] {more}]"
        );
        long(&conn.db(), &q)
    };
    assert_eq!(after("[?l :event/type ?ty] [(!= ?ty \"Closed\")]"), 3);
    assert_eq!(after(""), 17);
    for mode in ["inline", "async"] {
        assert_eq!(
            long(&conn.db(), &format!("[:find (count ?t) . :where [?t :{mode}/reopened true]]")),
            3,
            "{mode}"
        );
    }
}

const FILES: &str = r#"
{:projection/name :files-MODE :projection/version 1 :projection/mode :MODE
 :projection/schema [{:db/ident :MODE/path :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                      :db/unique :db.unique/identity}
                     {:db/ident :MODE/blob :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
 :projection/on [{:event ["FileAdded" "FileModified"] :assert [{:MODE/path $data.path :MODE/blob $data.blob}]}
                 {:event "FileDeleted" :retract-entity [[:MODE/path $data.path]]}]}"#;

/// The digest of the tree at every commit, from rows of path and blob.
fn check_git(conn: &Connection, oracle: &serde_json::Value, about: &str) {
    let commits = oracle.as_array().unwrap();
    assert_eq!(commits.len(), 30);
    for commit in commits {
        let name = commit["commit"].as_str().unwrap();
        let q = "[:find ?t . :in $ ?c :where [?e :event/correlation ?c] [?e :event/t ?t]]";
        let t = match conn.db().query(q, (name,)).unwrap().scalar() {
            Some(Value::Ref(e)) => e.as_t().unwrap(),
            other => panic!("{name}: {other:?}"),
        };
        let db = conn.db().as_of(t);
        // The view: the newest event of each path, unless it is a deletion.
        let view = "[:find ?p ?b :where [?e :event/data ?d] [(get ?d :path) ?p] [(get ?d :blob) ?b] [?e :event/position ?n]
                     [?e :event/type ?ty] [(!= ?ty \"FileDeleted\")]
                     (not-join [?p ?n] [?l :event/data ?f] [(get ?f :path) ?p] [?l :event/position ?m] [(> ?m ?n)])]";
        let stored = |mode: &str| format!("[:find ?p ?b :where [?f :{mode}/path ?p] [?f :{mode}/blob ?b]]");
        for (source, q) in
            [("view", view.to_owned()), ("inline", stored("inline")), ("async", stored("async"))]
        {
            let rows = db.query(q.as_str(), ()).unwrap();
            assert_eq!(
                rows.rows.len() as u64,
                commit["files"].as_u64().unwrap(),
                "{about}, {source}: files at {t:?}"
            );
            let text = |v: &Value| match v {
                Value::String(s) => s.to_string(),
                v => panic!("{v:?}"),
            };
            let mut lines: Vec<String> =
                rows.rows.iter().map(|r| format!("{}\t{}\n", text(&r[0]), text(&r[1]))).collect();
            lines.sort();
            let digest = sha256(lines.concat().as_bytes());
            assert_eq!(digest, commit["sha256"].as_str().unwrap(), "{about}, {source}: digest at {t:?}");
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use std::io::Write;
    let mut child = Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sha256sum is there");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a15_a25_the_git_history_is_reproduced_at_every_commit_before_and_after_a_rebuild() {
    let Some(log) = dataset("chronicle.git.events.ndjson.gz") else { return };
    let oracle: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path("chronicle.git.asof-oracle.json")).unwrap()).unwrap();
    let conn = annals::in_memory().unwrap();
    both(&conn, FILES);
    import_twice(&conn, &log, 164);
    check_git(&conn, &oracle, "as imported");
    for mode in ["inline", "async"] {
        conn.rebuild_projection(&format!("files-{mode}")).unwrap();
    }
    check_git(&conn, &oracle, "rebuilt");
    for mode in ["inline", "async"] {
        conn.add_projection(
            &FILES.replace(":projection/version 1", ":projection/version 2").replace("MODE", mode),
        )
        .unwrap();
    }
    catch_up(&conn);
    check_git(&conn, &oracle, "as version 2");
}
