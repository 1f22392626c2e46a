//! S27 to S29 and A3: races for one stream, exactly and at random.

use super::*;

#[test]
fn a3_s27_two_orders_race_and_the_loser_decides_again_on_fresh_state() {
    let conn = memory();
    let repo = conn.repository::<Item>();
    repo.dispatch("123", ItemCommand::Receive { amount: 5 }, Dispatch::new()).unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let (other, seen) = (repo.clone(), runs.clone());
    // While the order of 4 is being decided on version 1, the order of 3 goes through.
    annals_tests::domain::stock::on_handle(move |c| {
        if matches!(c, ItemCommand::Order { amount: 4 }) && seen.fetch_add(1, Ordering::SeqCst) == 0 {
            other.dispatch("123", ItemCommand::Order { amount: 3 }, Dispatch::new()).unwrap();
        }
    });
    let four = repo.dispatch("123", ItemCommand::Order { amount: 4 }, Dispatch::new());
    annals_tests::domain::stock::on_handle(|_| {});
    let e = four.unwrap_err();
    assert_eq!(e.rejection(), Some(&ItemError::OutOfStock { asked: 4, left: 2 }));
    assert_eq!(e.code(), "item/out-of-stock");
    assert_eq!(runs.load(Ordering::SeqCst), 2, "the loser's rule ran twice");
    assert_eq!(events_of(&conn, "item-123"), ["Received", "OrderPlaced"]);
    assert_eq!(repo.load("123").unwrap().version, Version(2));
    let stats = conn.command_stats();
    assert_eq!((stats.conflicts, stats.rejected, stats.done, stats.gave_up), (1, 1, 2, 0));
}

#[test]
fn a3_at_random_one_order_and_one_refusal_each_time() {
    let conn = memory();
    let repo = conn.repository::<Item>();
    for round in 0..100 {
        let id = format!("r{round}");
        repo.dispatch(&id, ItemCommand::Receive { amount: 5 }, Dispatch::new()).unwrap();
        let barrier = Barrier::new(2);
        let answers: Vec<_> = std::thread::scope(|s| {
            let racers = [3, 4].map(|amount| {
                let (repo, id, barrier) = (&repo, &id, &barrier);
                s.spawn(move || {
                    barrier.wait();
                    repo.dispatch(id, ItemCommand::Order { amount }, Dispatch::new())
                })
            });
            racers.into_iter().map(|r| r.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1, "round {round}");
        let refused = answers.iter().find_map(|a| a.as_ref().err()).unwrap();
        assert!(matches!(refused.rejection(), Some(ItemError::OutOfStock { .. })), "{refused}");
        assert_eq!(repo.load(&id).unwrap().version, Version(2));
    }
}

#[test]
fn s28_a_command_held_to_a_stale_version_is_refused_with_the_present_one() {
    let conn = memory();
    let repo = conn.repository::<Account>();
    repo.dispatch("7", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    repo.dispatch("7", AccountCommand::Deposit { amount: 50 }, Dispatch::new()).unwrap();
    let id = command(28);
    let stale = Dispatch::id(id.0).if_version(1);
    let e = repo.dispatch("7", AccountCommand::Withdraw { amount: 5 }, stale).unwrap_err();
    assert!(matches!(e, DispatchError::WrongVersion { actual: Version(2), expected: Version(1), .. }), "{e}");
    assert_eq!(e.to_string(), "stream account-7 is at version 2, expected 1");
    assert_eq!(conn.command_stats().conflicts, 0, "it is never retried");
    assert_eq!(conn.command_status(id).unwrap(), None, "nothing is stored, so it may be sent anew");
    let fresh = Dispatch::id(id.0).if_version(2);
    let done = repo.dispatch("7", AccountCommand::Withdraw { amount: 5 }, fresh).unwrap();
    assert_eq!(done.version, Version(3));
}

#[test]
fn s28_a_version_lost_between_reading_and_writing_is_not_retried_either() {
    let conn = memory();
    let repo = conn.repository::<Item>();
    repo.dispatch("9", ItemCommand::Receive { amount: 5 }, Dispatch::new()).unwrap();
    let other = repo.clone();
    let once = AtomicU32::new(0);
    annals_tests::domain::stock::on_handle(move |c| {
        if matches!(c, ItemCommand::Order { amount: 2 }) && once.fetch_add(1, Ordering::SeqCst) == 0 {
            other.dispatch("9", ItemCommand::Order { amount: 1 }, Dispatch::new()).unwrap();
        }
    });
    let held = repo.dispatch("9", ItemCommand::Order { amount: 2 }, Dispatch::new().if_version(1));
    annals_tests::domain::stock::on_handle(|_| {});
    assert!(matches!(held, Err(DispatchError::WrongVersion { actual: Version(2), .. })), "{held:?}");
}

#[test]
fn s29_of_32_writers_on_one_stream_none_is_lost() {
    let conn = memory();
    let repo = conn.repository::<Account>();
    repo.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    let (ok, gave_up) = (AtomicU32::new(0), AtomicU32::new(0));
    let barrier = Barrier::new(32);
    std::thread::scope(|s| {
        for _ in 0..32 {
            s.spawn(|| {
                barrier.wait();
                for _ in 0..10 {
                    match repo.dispatch("1", AccountCommand::Deposit { amount: 1 }, Dispatch::new()) {
                        Ok(_) => ok.fetch_add(1, Ordering::SeqCst),
                        Err(DispatchError::TooManyConflicts { attempts: 3, .. }) => {
                            gave_up.fetch_add(1, Ordering::SeqCst)
                        }
                        Err(e) => panic!("{e}"),
                    };
                }
            });
        }
    });
    let (ok, gave_up) = (ok.into_inner(), gave_up.into_inner());
    assert_eq!(ok + gave_up, 320);
    let loaded = repo.load("1").unwrap();
    assert_eq!((loaded.state.balance, loaded.version), (i64::from(ok), Version(u64::from(ok) + 1)));
    assert_eq!(conn.command_stats().gave_up, u64::from(gave_up));
}
