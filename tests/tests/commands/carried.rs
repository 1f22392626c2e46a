//! A24, S32, S46, S50: what events carry, and what they must not.

use super::*;

#[test]
fn a24_an_erased_subject_reads_as_none_and_no_snapshot_has_kept_it() {
    use annals_tests::domain::guarded::{Person, PersonAsk};
    let dir = tempfile::tempdir().unwrap();
    let secret = "Ada Augusta King-Noel";
    let name = |conn: &Connection| {
        let people = conn.repository::<Person>().snapshots(SnapshotPolicy { every: 1, schema: 1 });
        let loaded = people.load("7").unwrap();
        assert_eq!((loaded.version, loaded.from_snapshot), (Version(2), Version(0)));
        loaded.state.name
    };
    {
        let conn = reopen(&Options::new(), dir.path().join("db"));
        let people = conn.repository::<Person>().snapshots(SnapshotPolicy { every: 1, schema: 1 });
        for n in [1, 2] {
            let ask = PersonAsk { name: format!("{secret} {n}") };
            people.dispatch("7", ask, Dispatch::new()).unwrap();
        }
        assert_eq!(name(&conn), Some(format!("{secret} 2")));
        conn.forget_subject("person-7").unwrap();
        assert_eq!(name(&conn), None);
    }
    let conn = reopen(&Options::new(), dir.path().join("db"));
    assert_eq!(name(&conn), None);
    drop(conn);
    let mut folders = vec![dir.path().to_path_buf()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            files += 1;
            let bytes = std::fs::read(entry.path()).unwrap();
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "the name is in {}", entry.path().display());
        }
    }
    assert!(files > 1);
}

// S24, S32: what events carry.

#[test]
fn s32_events_name_the_command_the_cause_and_who_asked() {
    let conn = memory();
    let repo = conn.repository::<Account>();
    let d = Dispatch::id(command(1).0).actor("ada").correlation("visit-1");
    let open = || AccountCommand::Open { owner: "Ada".into() };
    repo.dispatch("1", open(), d).unwrap();
    let cause = Uuid::from_u128(77);
    repo.dispatch("2", open(), Dispatch::id(command(2).0).caused_by(cause)).unwrap();
    let of = |stream: &str| {
        conn.db().events().stream(&StreamId::new(stream).unwrap(), Version(1), 1).unwrap().remove(0)
    };
    let (first, second) = (of("account-1"), of("account-2"));
    assert_eq!(first.event.meta.causation, Some(command(1).0));
    assert_eq!(first.event.meta.actor.as_deref(), Some("ada"));
    assert_eq!(second.event.meta.causation, Some(cause));
    assert_eq!(first.id(), EventId::derived(command(1).0, "event", 0));
    let q = "[:find ?c ?ty :where [?e :event/stream \"account-2\"] [?e :event/meta ?m] [(get ?m :command) ?c] [(get ?m :command-type) ?ty]]";
    let row = conn.db().query(q, ()).unwrap().rows.row(0);
    assert_eq!(row, [Value::from(command(2).to_string()), Value::from("account/Open")]);
}

// S46, S50: two databases, one feed, a restart in the middle.

#[test]
fn s46_s50_a_feed_between_two_databases_is_carried_over_once() {
    let dir = tempfile::tempdir().unwrap();
    let source = memory();
    let repo = source.repository::<Account>();
    repo.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    for n in 1..100 {
        repo.dispatch("1", AccountCommand::Deposit { amount: n }, Dispatch::new()).unwrap();
    }
    // Carries over from where the receiver is, in steps, and stops without having said so.
    let carry = |from: Option<u64>, upto: usize| {
        let target = reopen(&Options::new(), dir.path().join("db"));
        let feed = StreamId::new("bank").unwrap();
        let mut at = from.unwrap_or_else(|| target.db().events().tracking(&feed).unwrap());
        let (events, _) = source.db().events().all(&[], annals::event::Position(at), upto).unwrap();
        for e in events {
            let copy = Append::to(e.stream.as_str()).push(e.event.clone()).tracking(Tracking {
                source: feed.clone(),
                number: e.position.0,
                gapless: true,
            });
            match target.append(copy) {
                Ok(_) => {}
                // Redelivered: known by its number, or (asked first) by its id.
                Err(annals::event::AppendError::TrackingBehind { .. }) => {}
                Err(other) => panic!("{other}"),
            }
            at = e.position.0;
        }
        (at, target.db().events().head().unwrap().0)
    };
    assert_eq!(carry(None, 40), (40, 40));
    assert_eq!(carry(None, 30), (70, 70));
    // The sender has lost its place and begins again.
    assert_eq!(carry(Some(0), 100), (100, 100));
    let target = reopen(&Options::new(), dir.path().join("db"));
    let copied = target.repository::<Account>().load("1").unwrap();
    assert_eq!((copied.state.balance, copied.version), (4950, Version(100)));
}
