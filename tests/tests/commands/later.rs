//! A18, A20: accepted now, decided later; waiting for projections.

use super::*;

fn drain(conn: &Connection) {
    while conn.step_processes().unwrap().is_some() {}
}

#[test]
fn a18_a_submitted_command_is_accepted_then_done_or_rejected_and_an_unknown_one_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let conn = reopen(&Options::new(), dir.path().join("db"));
    conn.register_commands::<Account>().unwrap();
    let owner = Value::map([(Value::keyword("owner"), Value::from("Ada"))]);
    conn.command(request(1, "Open", owner)).unwrap();
    let deposit = || conn.submit(request(2, "Deposit", amount(10)));
    assert_eq!(deposit().unwrap(), command(2));
    assert_eq!(deposit().unwrap(), command(2), "accepted once");
    conn.submit(request(3, "Withdraw", amount(11))).unwrap();
    let status = |conn: &Connection, n| conn.command_status(command(n)).unwrap().map(|o| o.status);
    assert_eq!(status(&conn, 2), Some(CommandStatus::Accepted));
    assert_eq!(conn.queued_commands().unwrap().len(), 2);
    assert!(matches!(conn.submit(request(2, "Deposit", amount(11))), Err(DispatchError::Reused { .. })));
    drop(conn);

    // What was accepted is carried out after a restart, each command once.
    let conn = reopen(&Options::new(), dir.path().join("db"));
    conn.register_commands::<Account>().unwrap();
    drain(&conn);
    let Some(CommandStatus::Done(done)) = status(&conn, 2) else { panic!("{:?}", status(&conn, 2)) };
    assert_eq!(done.version(), Version(2));
    let Some(CommandStatus::Rejected { code, message, .. }) = status(&conn, 3) else { panic!() };
    assert_eq!((&*code, &*message), ("account/overdrawn", "only 10 left"));
    assert_eq!(status(&conn, 4), None);
    assert!(conn.queued_commands().unwrap().is_empty());
    drain(&conn);
    assert_eq!(conn.repository::<Account>().load("1").unwrap().state.balance, 10);
}

/// The principal that the transaction deciding a command names.
fn principal_of(conn: &Connection, id: CommandId) -> Option<Value> {
    let q = "[:find ?who . :in $ ?tx :where [?tx :tx/principal ?who]]";
    let stored = conn.command_status(id).unwrap()?;
    let t = match stored.status {
        CommandStatus::Done(done) => done.t,
        // A refusal is the last transaction of these tests.
        _ => conn.db().basis_t(),
    };
    conn.db().query(q, (t.entity(),)).unwrap().scalar()
}

#[test]
fn facts_of_a_commands_transaction_are_in_it_whatever_was_decided_and_whoever_decided() {
    let conn = memory();
    conn.transact(
        "[{:db/ident :tx/principal :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]",
    )
    .unwrap();
    conn.register_commands::<Account>().unwrap();
    let by = |id, ty, payload, who: &str| {
        let r = request(id, ty, payload);
        CommandRequest { dispatch: r.dispatch.clone().tx(":tx/principal", who), ..r }
    };
    let owner = Value::map([(Value::keyword("owner"), Value::from("Ada"))]);
    conn.command(by(1, "Open", owner, "ada")).unwrap();
    assert_eq!(principal_of(&conn, command(1)), Some(Value::from("ada")));
    conn.command(by(2, "Withdraw", amount(1), "bob")).unwrap_err();
    assert_eq!(principal_of(&conn, command(2)), Some(Value::from("bob")), "a refusal too");
    // What goes with it is no part of what it asks.
    assert!(matches!(
        conn.command(by(2, "Withdraw", amount(1), "eve")),
        Err(DispatchError::Rejected { replayed: true, .. })
    ));
    conn.submit(by(3, "Deposit", amount(5), "cyd")).unwrap();
    drain(&conn);
    assert_eq!(principal_of(&conn, command(3)), Some(Value::from("cyd")), "kept in the queue");
    let unknown = request(4, "Deposit", amount(5));
    let unknown = CommandRequest { dispatch: unknown.dispatch.clone().tx(":tx/shoe-size", 44), ..unknown };
    let before = conn.db().basis_t();
    assert_eq!(conn.command(unknown).unwrap_err().code(), "tx/unknown-attribute");
    assert_eq!((conn.db().basis_t(), conn.command_status(command(4)).unwrap()), (before, None));
}

#[test]
fn a20_a_command_waits_for_the_projections_it_names_and_is_done_all_the_same() {
    let conn = memory();
    conn.register_commands::<Account>().unwrap();
    conn.add_projection(
        r#"{:projection/name :deposits, :projection/version 1, :projection/mode :async
            :projection/schema [{:db/ident :deposit/amount :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
            :projection/on [{:event "MoneyDeposited" :assert [{:deposit/amount $data.amount}]}]}"#,
    )
    .unwrap();
    let seen = || conn.db().query("[:find (count ?e) . :where [?e :deposit/amount]]", ()).unwrap().scalar();
    let accounts = conn.repository::<Account>();
    let wait = |id, names: &[&'static str], ms| {
        Dispatch::id(command(id).0).wait_for(names.iter().copied(), Duration::from_millis(ms))
    };
    let open = AccountCommand::Open { owner: "Ada".into() };
    let e = accounts.dispatch("1", open.clone(), wait(1, &["deposit"], 1)).unwrap_err();
    assert_eq!(
        (e.code(), conn.db().events().head().unwrap().0),
        ("projection/unknown", 0),
        "nothing was decided"
    );

    accounts.dispatch("1", open, wait(2, &["deposits"], 0)).unwrap();
    let deposit = AccountCommand::Deposit { amount: 1 };
    let done = accounts.dispatch("1", deposit.clone(), wait(3, &["deposits"], 30)).unwrap();
    assert_eq!(
        (done.version, done.behind.len(), seen()),
        (Version(2), 1, None),
        "done, and not yet to be seen"
    );
    let runner = conn.run_projections().unwrap();
    for n in 0..20 {
        let done = accounts.dispatch("1", deposit.clone(), wait(10 + n, &["deposits"], 20_000)).unwrap();
        assert!(done.behind.is_empty());
        assert_eq!(seen(), Some(Value::Long(n as i64 + 2)));
    }
    drop(runner);
    // Nothing to do is nothing to wait for, though the projection lags.
    accounts.dispatch("1", deposit, wait(50, &["deposits"], 0)).unwrap();
    let began = std::time::Instant::now();
    let nothing = AccountCommand::Deposit { amount: 0 };
    let done = accounts.dispatch("1", nothing, wait(51, &["deposits"], 60_000)).unwrap();
    assert_eq!((done.appended.last.0, done.behind.len()), (0, 0));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn a18_a_runner_carries_out_what_is_submitted_and_stops_when_dropped() {
    let conn = memory();
    conn.register_commands::<Account>().unwrap();
    let runner = conn.run_processes();
    let owner = Value::map([(Value::keyword("owner"), Value::from("Ada"))]);
    conn.submit(request(1, "Open", owner)).unwrap();
    for n in 0..20 {
        conn.submit(request(10 + n, "Deposit", amount(1))).unwrap();
    }
    let done = || conn.repository::<Account>().load("1").unwrap().state.balance == 20;
    for _ in 0..1000 {
        if done() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(done(), "{:?}", runner.trouble());
    drop(runner);
    conn.submit(request(40, "Deposit", amount(1))).unwrap();
    assert_eq!(conn.queued_commands().unwrap().len(), 1, "nobody carries it out any more");
}

#[test]
fn s52_a_new_aggregate_gets_its_id_from_the_command() {
    let conn = memory();
    conn.register_commands::<Account>().unwrap();
    let open = || CommandRequest {
        id: None,
        ..request(1, "Open", Value::map([(Value::keyword("owner"), Value::from("Ada"))]))
    };
    let first = conn.command(open()).unwrap();
    assert!(first.created && !first.appended.replayed);
    let again = conn.command(open()).unwrap();
    assert_eq!((again.key, again.appended.replayed), (first.key.clone(), true));
    let typed = AccountCommand::Open { owner: "Ada".into() };
    let (id, done) = conn.repository::<Account>().create(typed, Dispatch::id(command(1).0)).unwrap();
    assert_eq!((id, done.is_replay()), (first.key, true), "both doors lead to one command");
}
