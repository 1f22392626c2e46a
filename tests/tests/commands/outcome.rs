//! A17, S65, S55: one command however often it is sent, and what its answer may be.

use super::*;

#[test]
fn a17_the_same_command_eight_times_at_once_is_carried_out_once() {
    let dir = tempfile::tempdir().unwrap();
    let conn = reopen(&Options::new(), dir.path().join("db"));
    let repo = conn.repository::<Account>();
    repo.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    for round in 0..20u128 {
        let barrier = Barrier::new(8);
        let answers: Vec<_> = std::thread::scope(|s| {
            let all: Vec<_> = (0..8)
                .map(|_| {
                    s.spawn(|| {
                        barrier.wait();
                        repo.dispatch(
                            "1",
                            AccountCommand::Deposit { amount: 10 },
                            Dispatch::id(command(100 + round).0),
                        )
                    })
                })
                .collect();
            all.into_iter().map(|a| a.join().unwrap().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|a| !a.is_replay()).count(), 1);
        assert!(
            answers.iter().all(|a| (a.appended.t, a.version) == (answers[0].appended.t, answers[0].version))
        );
    }
    assert_eq!(repo.load("1").unwrap().state.balance, 200);

    let refused = || repo.dispatch("1", AccountCommand::Withdraw { amount: 900 }, Dispatch::id(command(5).0));
    let first = refused().unwrap_err();
    assert!(matches!(first, DispatchError::Rejected { replayed: false, .. }));
    // With the money there, the answer to this command is still the first one.
    repo.dispatch("1", AccountCommand::Deposit { amount: 1000 }, Dispatch::new()).unwrap();
    assert!(matches!(refused(), Err(DispatchError::Rejected { replayed: true, .. })));
    let other = repo.dispatch("1", AccountCommand::Withdraw { amount: 901 }, Dispatch::id(command(5).0));
    assert!(matches!(other, Err(DispatchError::Reused { .. })), "{other:?}");
    let t = conn.db().basis_t();

    drop((repo, conn));
    let conn = reopen(&Options::new(), dir.path().join("db"));
    let repo = conn.repository::<Account>();
    let again =
        repo.dispatch("1", AccountCommand::Deposit { amount: 10 }, Dispatch::id(command(100).0)).unwrap();
    assert!(again.is_replay() && again.version == Version(2));
    let e =
        repo.dispatch("1", AccountCommand::Withdraw { amount: 900 }, Dispatch::id(command(5).0)).unwrap_err();
    assert_eq!(e.rejection(), Some(&AccountError::Overdrawn { balance: 200 }));
    assert_eq!(conn.db().basis_t(), t, "answers from the store write nothing");
}

#[test]
fn a17_an_outcome_is_kept_as_long_as_stated_and_then_known_to_be_forgotten() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let shown = clock.clone();
    let conn = Options::new().clock(move || Instant(shown.load(Ordering::SeqCst))).in_memory().unwrap();
    let repo = conn.repository::<Account>();
    let open = || {
        let d = Dispatch::id(command(1).0).keep_until(Instant(5_000_000));
        repo.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, d)
    };
    open().unwrap();
    assert!(open().unwrap().is_replay());
    clock.store(5_000_001, Ordering::SeqCst);
    let e = open().unwrap_err();
    assert!(matches!(e, DispatchError::Forgotten { until: Instant(5_000_000), .. }), "{e}");
    assert_eq!(e.code(), "command/forgotten");
    let status = conn.command_status(command(1)).unwrap().unwrap().status;
    assert_eq!(status, CommandStatus::Forgotten { since: Instant(5_000_000) });
    assert_eq!(repo.load("1").unwrap().version, Version(1), "it was not carried out again");
    // Freed, it is still known to be forgotten.
    repo.dispatch("2", AccountCommand::Open { owner: "Ben".into() }, Dispatch::id(command(2).0)).unwrap();
    assert_eq!((conn.forget_commands().unwrap(), conn.forget_commands().unwrap()), (1, 0));
    assert_eq!(open().unwrap_err().code(), "command/forgotten");
    assert!(matches!(conn.command_status(command(2)).unwrap().unwrap().status, CommandStatus::Done(_)));
}

#[test]
fn s65_commands_nobody_knows_are_errors_that_name_those_known() {
    let conn = memory();
    let e = conn.command(request(1, "Open", Value::Nil)).unwrap_err();
    assert_eq!(e.code(), "command/unknown-category");
    conn.register_commands::<Account>().unwrap();
    assert!(matches!(conn.register_commands::<Account>(), Err(DispatchError::CategoryTwice { .. })));
    let e = conn.command(request(1, "Opne", Value::Nil)).unwrap_err();
    assert_eq!(e.to_string(), "account knows no command Opne; it knows Open, Deposit, Withdraw, Close");
    let e = conn.command(request(1, "Deposit", Value::map([]))).unwrap_err();
    assert_eq!(e.to_string(), "the payload of account/Deposit does not fit: missing field `amount`");
    assert_eq!(conn.db().events().head().unwrap().0, 0);
    let known = conn.command_categories();
    assert_eq!(
        known,
        [("account".to_owned(), ["Open", "Deposit", "Withdraw", "Close"].map(str::to_owned).to_vec())]
    );
}

// S55: no events is no error, and a refusal the business keeps is an event.

#[test]
fn s55_nothing_to_do_is_success_and_a_kept_refusal_is_an_event() {
    let conn = memory();
    let tasks = conn.repository::<Task>();
    tasks.dispatch("1", create("wash"), Dispatch::new()).unwrap();
    let first = tasks.dispatch("1", TaskCommand::Complete, Dispatch::new()).unwrap();
    let id = command(3);
    let again = tasks.dispatch("1", TaskCommand::Complete, Dispatch::id(id.0)).unwrap();
    assert_eq!((first.version, again.version), (Version(2), Version(2)));
    assert_eq!((again.appended.first.0, again.is_replay()), (0, false));
    assert!(matches!(conn.command_status(id).unwrap().unwrap().status, CommandStatus::Done(_)));

    let e = tasks.dispatch("2", TaskCommand::Complete, Dispatch::id(command(4).0)).unwrap_err();
    assert_eq!(e.code(), "task/not-yet-created");
    assert_eq!(tasks.load("2").unwrap().version, Version(0), "a refusal writes nothing but itself");
    assert!(matches!(
        conn.command_status(command(4)).unwrap().unwrap().status,
        CommandStatus::Rejected { .. }
    ));

    // The bank writes down that it declined: that is an event, and the command is done.
    let accounts = conn.repository::<Account>();
    accounts.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    accounts.dispatch("1", AccountCommand::Close, Dispatch::new()).unwrap();
    let declined = accounts.dispatch("1", AccountCommand::Deposit { amount: 1 }, Dispatch::new()).unwrap();
    assert_eq!(declined.version, Version(3));
    assert_eq!(events_of(&conn, "account-1"), ["AccountOpened", "AccountClosed", "PaymentDeclined"]);
}
