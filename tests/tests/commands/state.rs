//! S51b: state without events.

use super::*;

#[test]
fn s51b_the_same_aggregate_stored_as_state_and_as_events_is_the_same() {
    let conn = memory();
    conn.transact(annals_tests::domain::bank::SCHEMA).unwrap();
    let by_events = conn.repository::<Account>();
    let by_state = conn.state_repository::<Account>();
    let mut listener = conn.listen();
    let commands = [
        AccountCommand::Open { owner: "Ada".into() },
        AccountCommand::Deposit { amount: 70 },
        AccountCommand::Withdraw { amount: 80 },
        AccountCommand::Withdraw { amount: 30 },
        AccountCommand::Deposit { amount: 0 },
        AccountCommand::Close,
        AccountCommand::Deposit { amount: 9 },
    ];
    let mut versions = vec![Version(0)];
    for (n, c) in commands.into_iter().enumerate() {
        let a = by_events.dispatch("e", c.clone(), Dispatch::id(command(100 + n as u128).0));
        let b = by_state.dispatch("s", c, Dispatch::id(command(200 + n as u128).0));
        match (&a, &b) {
            (Ok(_), Ok(_)) => {}
            (Err(a), Err(b)) => assert_eq!(a.rejection(), b.rejection()),
            other => panic!("{other:?}"),
        }
        let (e, s) = (by_events.load("e").unwrap(), by_state.load("s").unwrap());
        assert_eq!(e.state, s.state, "after command {n}");
        if s.version != *versions.last().unwrap() {
            assert_eq!(b.unwrap().version, s.version, "its version is the t that changed it");
            versions.push(s.version);
        }
    }
    assert_eq!(versions.len(), 6, "opened, deposited, withdrawn, closed, declined: {versions:?}");
    assert!(events_of(&conn, "account-s").is_empty(), "no events are kept");
    let mut facts = 0;
    while let Some(report) = listener.try_next().unwrap() {
        facts += report.tx_data().iter().filter(|d| d.e.as_t().is_none()).count();
    }
    assert!(facts > 5, "who listens is told: {facts} facts");
    // As of each version, the state of then.
    let then = by_state.load_in(&conn.db().as_of(annals::T(versions[2].0)), "s").unwrap();
    assert_eq!((then.state.balance, then.version), (70, versions[2]));
    let stale = by_state.dispatch("s", AccountCommand::Deposit { amount: 1 }, Dispatch::new().if_version(1));
    assert!(matches!(stale, Err(DispatchError::WrongVersion { .. })), "{stale:?}");
}

#[test]
fn s51b_a_version_is_moved_by_the_state_alone_and_a_lost_one_is_412_also_in_a_race() {
    let conn = memory();
    conn.transact(annals_tests::domain::bank::SCHEMA).unwrap();
    conn.transact(
        "[{:db/ident :note/text :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]",
    )
    .unwrap();
    let repo = conn.state_repository::<Account>();
    let opened = repo.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    // What others say of the entity is no change of the account.
    conn.transact(r#"[{:account/id "1" :note/text "a good customer"}]"#).unwrap();
    assert_eq!(repo.load("1").unwrap().version, opened.version);
    let deposit = || AccountCommand::Deposit { amount: 1 };
    let held = |v: Version| Dispatch::new().if_version(v.0);
    let done = repo.dispatch("1", deposit(), held(opened.version)).unwrap();
    assert!(done.version > opened.version);
    let stale = repo.dispatch("1", deposit(), held(opened.version)).unwrap_err();
    assert_eq!(stale.code(), "command/wrong-version");
    // Eight who saw one version: one is done, the others are told the version, none a mere conflict.
    for _ in 0..20 {
        let seen = repo.load("1").unwrap().version;
        let barrier = Barrier::new(8);
        let answers: Vec<_> = std::thread::scope(|s| {
            let all: Vec<_> = (0..8)
                .map(|_| {
                    s.spawn(|| {
                        barrier.wait();
                        conn.state_repository::<Account>().dispatch("1", deposit(), held(seen))
                    })
                })
                .collect();
            all.into_iter().map(|a| a.join().unwrap()).collect()
        });
        let now = repo.load("1").unwrap().version;
        assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
        for e in answers.iter().filter_map(|a| a.as_ref().err()) {
            assert!(matches!(e, DispatchError::WrongVersion { actual, .. } if *actual == now), "{e}");
        }
    }
}

#[test]
fn s51b_writers_of_one_state_lose_nothing() {
    let conn = memory();
    conn.transact(annals_tests::domain::bank::SCHEMA).unwrap();
    let repo = conn.state_repository::<Account>();
    repo.dispatch("1", AccountCommand::Open { owner: "Ada".into() }, Dispatch::new()).unwrap();
    let ok = AtomicI64::new(0);
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for _ in 0..10 {
                    match conn.state_repository::<Account>().dispatch(
                        "1",
                        AccountCommand::Deposit { amount: 1 },
                        Dispatch::new().retry(50),
                    ) {
                        Ok(_) => ok.fetch_add(1, Ordering::SeqCst),
                        Err(e) => panic!("{e}"),
                    };
                }
            });
        }
    });
    assert_eq!(repo.load("1").unwrap().state.balance, ok.into_inner());
}
