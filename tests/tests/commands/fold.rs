//! S4, S36, S42, S39: folding, with snapshots and without.

use super::*;

#[test]
fn s36_s42_an_aggregate_is_loaded_at_a_version_and_as_of_a_transaction() {
    let conn = memory();
    for snapshots in [false, true] {
        let mut repo = conn.repository::<Account>();
        if snapshots {
            repo = repo.snapshots(SnapshotPolicy { every: 3, schema: 1 });
        }
        let id = format!("s{snapshots}");
        repo.dispatch(&id, AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
        let mut at = Vec::new();
        for n in 1..=10 {
            let done = repo.dispatch(&id, AccountCommand::Deposit { amount: n }, Dispatch::new()).unwrap();
            at.push((done.version, done.appended.t, (1..=n).sum::<i64>()));
        }
        for (version, t, balance) in at {
            assert_eq!(repo.load_version(&id, version).unwrap().state.balance, balance);
            let then = repo.load_at(&id, t).unwrap();
            assert_eq!((then.state.balance, then.version), (balance, version));
        }
        let now = repo.load(&id).unwrap();
        assert_eq!(now.from_snapshot, Version(if snapshots { 9 } else { 0 }));
        let e = repo.load_version(&id, Version(12)).unwrap_err();
        assert!(matches!(e, LoadError::NoVersion { actual: Version(11), .. }), "{e}");
    }
}

#[test]
fn snapshots_of_another_schema_are_ignored_and_states_are_the_same_without_them() {
    let conn = memory();
    let old = conn.repository::<Account>().snapshots(SnapshotPolicy { every: 4, schema: 1 });
    old.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    for _ in 0..9 {
        old.dispatch("1", AccountCommand::Deposit { amount: 2 }, Dispatch::new()).unwrap();
    }
    assert_eq!(old.load("1").unwrap().from_snapshot, Version(8));
    let new = conn.repository::<Account>().snapshots(SnapshotPolicy { every: 4, schema: 2 });
    let loaded = new.load("1").unwrap();
    assert_eq!((loaded.from_snapshot, loaded.version, loaded.state.balance), (Version(0), Version(10), 18));
    new.dispatch("1", AccountCommand::Deposit { amount: 2 }, Dispatch::new()).unwrap();
    new.dispatch("1", AccountCommand::Deposit { amount: 2 }, Dispatch::new()).unwrap();
    assert_eq!(new.load("1").unwrap().from_snapshot, Version(12));
    assert_eq!(old.load("1").unwrap().from_snapshot, Version(0), "and the other way round");
    // A stream that was ended softly begins anew; its snapshot is of a life that is over.
    conn.delete_stream(&StreamId::new("account-1").unwrap(), false).unwrap();
    let gone = new.load("1").unwrap();
    assert_eq!((gone.state, gone.from_snapshot), (Account::default(), Version(0)));
    conn.delete_stream(&StreamId::new("account-1").unwrap(), true).unwrap();
    assert!(matches!(new.load("1"), Err(LoadError::Tombstoned(_))));
}

#[test]
fn an_aggregate_whose_stream_has_a_retention_is_not_half_folded() {
    let conn = memory();
    let repo = conn.repository::<Account>();
    repo.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    repo.dispatch("1", AccountCommand::Deposit { amount: 2 }, Dispatch::new()).unwrap();
    conn.retain(&StreamId::new("account-1").unwrap(), 1, 0).unwrap();
    let e = repo.load("1").unwrap_err();
    assert_eq!(
        (e.code(), e.to_string().as_str()),
        ("event/retained", "account-1 no longer shows the events from version 1 to 1: it has a retention")
    );
}

/// The child of the next test: deposits until it is killed, saying each that is durable.
#[test]
fn s4_child_deposits_until_killed() {
    let Ok(folder) = std::env::var("ANNALS_S4_FOLDER") else { return };
    let conn = annals::open(folder).unwrap();
    let repo = conn.repository::<Account>().snapshots(SnapshotPolicy { every: 50, schema: 1 });
    for id in 0..10 {
        repo.dispatch(&id.to_string(), AccountCommand::Open { owner: "Ada".into() }, Dispatch::new())
            .unwrap();
        println!("acked");
    }
    for n in 0.. {
        let id = (n % 10).to_string();
        repo.dispatch(&id, AccountCommand::Deposit { amount: n % 7 + 1 }, Dispatch::new()).unwrap();
        println!("acked");
    }
}

#[test]
fn s4_after_a_kill_every_aggregate_equals_a_fold_from_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fold::s4_child_deposits_until_killed", "--nocapture"])
        .env("ANNALS_S4_FOLDER", &folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acked = lines.map_while(Result::ok).filter(|l| l.ends_with("acked")).take(1000).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acked, 1000);

    let conn = reopen(&Options::new(), &folder);
    let full = conn.repository::<Account>();
    let fast = full.clone().snapshots(SnapshotPolicy { every: 50, schema: 1 });
    let mut total = 0;
    for id in 0..10 {
        let (a, b) = (full.load(&id.to_string()).unwrap(), fast.load(&id.to_string()).unwrap());
        assert_eq!(a.state, b.state);
        assert_eq!((a.version, a.from_snapshot), (b.version, Version(0)));
        assert!(b.from_snapshot >= Version(50), "{}", b.from_snapshot);
        // The fold of what the log says, by hand.
        let stream = StreamId::new(format!("account-{id}")).unwrap();
        let events = conn.db().events().stream(&stream, Version(1), 100_000).unwrap();
        let mut by_hand = Account::default();
        events.iter().for_each(|e| by_hand.apply(&e.read::<AccountEvent>().unwrap()));
        assert_eq!((by_hand, events.len() as u64), (a.state, a.version.0));
        total += a.version.0;
    }
    assert!(total >= 1000, "{total} of 1000 acknowledged events are there");
}

fn any_item_event() -> impl Strategy<Value = ItemEvent> {
    prop_oneof![
        any::<u32>().prop_map(|amount| ItemEvent::Received { amount }),
        any::<u32>().prop_map(|amount| ItemEvent::OrderPlaced { amount }),
        any::<u32>().prop_map(|amount| ItemEvent::Reserved { amount }),
        any::<u32>().prop_map(|amount| ItemEvent::Released { amount }),
        any::<u32>().prop_map(|amount| ItemEvent::Shipped { amount }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    /// S39: whatever happened, in whatever order, it folds; what cannot be is a flag.
    #[test]
    fn s39_any_list_of_events_folds_without_a_panic(events in prop::collection::vec(any_item_event(), 0..40)) {
        let mut item = Item::default();
        for e in &events {
            item.apply(e);
        }
        let reserved: u64 = u64::from(item.reserved);
        prop_assert!(item.over_reserved || reserved <= u64::from(item.in_stock));
    }
}

#[test]
fn s39_a_panic_in_apply_is_caught_and_names_the_event() {
    use annals_tests::domain::impure::{Brittle, BrittleEvent};
    let conn = memory();
    let id = EventId::of_text("the one");
    let bad = BrittleEvent::Broke.to_new().unwrap().id(id);
    conn.append(Append::to("brittle-1").push(BrittleEvent::Held.to_new().unwrap()).push(bad)).unwrap();
    let e = conn.repository::<Brittle>().load("1").unwrap_err();
    assert!(matches!(&e, LoadError::Panicked { id: found, .. } if *found == id), "{e}");
    let said = format!("apply panicked at event 2 (Broke {id}, version 2 of brittle-1): I cannot take it");
    assert_eq!((e.code(), e.to_string()), ("event/apply-panicked", said));
    let refused = conn.repository::<Brittle>().dispatch("2", (), Dispatch::id(command(1).0)).unwrap_err();
    assert_eq!(refused.to_string(), "the rule for command of brittle-2 panicked: no rule for this");
    assert_eq!(conn.command_status(command(1)).unwrap(), None);
}
