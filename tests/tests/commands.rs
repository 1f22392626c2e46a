//! Aggregates, decisions and commands: the scenarios of the acceptance list by their
//! numbers. The domains stand in `tests/src/domain.rs`.

use annals::{
    Connection, Instant, Options, Value,
    event::{
        Aggregate, Append, CommandId, CommandRequest, CommandStatus, Decide, Dispatch, DispatchError, Event,
        EventId, Fixture, LoadError, NewEvent, SnapshotPolicy, StreamId, Tracking, Version,
    },
};
use annals_tests::domain::{
    bank::{Account, AccountCommand, AccountError, AccountEvent},
    reopen,
    stock::{Item, ItemCommand, ItemError, ItemEvent},
    task::{Task, TaskCommand, TaskError, TaskEvent},
};
use proptest::prelude::*;
use serde_json::json;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

fn memory() -> Connection {
    annals::in_memory().expect("a database in memory opens")
}
fn events_of(conn: &Connection, stream: &str) -> Vec<String> {
    let stream = StreamId::new(stream).unwrap();
    let all = conn.db().events().stream(&stream, Version(1), 10_000).unwrap_or_default();
    all.iter().map(|e| e.ty().to_owned()).collect()
}
fn command(n: u128) -> CommandId {
    CommandId(Uuid::from_u128(n))
}

// S1: the task list of the framework's examples, thirteen times given, when, then.

type Tasks = Fixture<Task>;
fn named(name: &str) -> TaskEvent {
    TaskEvent::Created { name: name.into() }
}
fn create(name: &str) -> TaskCommand {
    TaskCommand::Create { name: name.into() }
}
fn rename(name: &str) -> TaskCommand {
    TaskCommand::Rename { name: name.into() }
}

#[test]
fn s1_01_a_task_is_created() {
    Tasks::given([]).when(create("wash")).then([named("wash")]);
}
#[test]
fn s1_02_a_task_is_created_once() {
    Tasks::given([named("wash")]).when(create("iron")).then_error(TaskError::AlreadyCreated);
}
#[test]
fn s1_03_a_task_has_a_name() {
    Tasks::given([]).when(create(" ")).then_error(TaskError::NoName);
}
#[test]
fn s1_04_what_is_not_created_is_not_completed() {
    Tasks::given([]).when(TaskCommand::Complete).then_error(TaskError::NotYetCreated);
}
#[test]
fn s1_05_a_task_is_completed() {
    Tasks::given([named("wash")]).when(TaskCommand::Complete).then([TaskEvent::Completed]);
}
#[test]
fn s1_06_completing_again_is_nothing_to_do() {
    Tasks::given([named("wash"), TaskEvent::Completed]).when(TaskCommand::Complete).then_nothing();
}
#[test]
fn s1_07_a_task_is_renamed() {
    let done = Tasks::given([named("wash")]).when(rename("iron"));
    assert_eq!(done.then([TaskEvent::Renamed { name: "iron".into() }]).state().name, "iron");
}
#[test]
fn s1_08_the_same_name_is_nothing_to_do() {
    Tasks::given([named("wash")]).when(rename("wash")).then_nothing();
}
#[test]
fn s1_09_a_completed_task_keeps_its_name() {
    Tasks::given([named("wash"), TaskEvent::Completed]).when(rename("iron")).then_error(TaskError::Closed);
}
#[test]
fn s1_10_a_completed_task_is_reopened() {
    Tasks::given([named("wash"), TaskEvent::Completed]).when(TaskCommand::Reopen).then([TaskEvent::Reopened]);
}
#[test]
fn s1_11_an_open_task_is_not_reopened() {
    Tasks::given([named("wash")]).when(TaskCommand::Reopen).then_nothing();
}
#[test]
fn s1_12_a_task_is_cancelled_and_stays_so() {
    let cancelled = [named("wash"), TaskEvent::Cancelled];
    Tasks::given([named("wash")]).when(TaskCommand::Cancel).then([TaskEvent::Cancelled]);
    Tasks::given(cancelled.clone()).when(TaskCommand::Complete).then_error(TaskError::Closed);
    Tasks::given(cancelled).when(TaskCommand::Cancel).then_nothing();
}
#[test]
fn s1_13_a_reopened_task_is_completed_again() {
    Tasks::given([named("wash"), TaskEvent::Completed, TaskEvent::Reopened])
        .when(TaskCommand::Complete)
        .then([TaskEvent::Completed]);
}

// S3, S59, S6: the fixture itself.

#[test]
fn s59_the_fixture_fails_for_an_event_too_many_and_for_another_error() {
    let fails = |f: fn()| std::panic::catch_unwind(f).is_err();
    assert!(fails(|| {
        Tasks::given([]).when(create("wash")).then([named("wash"), TaskEvent::Completed]);
    }));
    assert!(fails(|| {
        Tasks::given([]).when(create("wash")).then([]);
    }));
    assert!(fails(|| {
        Tasks::given([]).when(create("wash")).then_error(TaskError::NoName);
    }));
    assert!(fails(|| {
        Tasks::given([]).when(TaskCommand::Complete).then_error(TaskError::Closed);
    }));
}

#[test]
fn s6_the_fixture_finds_rules_that_are_not_pure() {
    use annals_tests::domain::impure::{Ask, Clockwork};
    let said = |ask: Ask| {
        let ran = std::panic::catch_unwind(|| Fixture::<Clockwork>::given([]).when(ask));
        *ran.err().expect("an impure rule fails").downcast::<String>().expect("it says why")
    };
    assert!(said(Ask::Count).starts_with("handle is not pure"), "{}", said(Ask::Count));
    assert!(said(Ask::Remember).starts_with("handle changed the state"));
    assert!(said(Ask::Drift).starts_with("apply is not pure"));
    // A state that a snapshot would lose a part of.
    use annals_tests::domain::impure::{BrittleEvent, Lossy};
    let lost = std::panic::catch_unwind(|| {
        Fixture::<Lossy>::given([BrittleEvent::Held]).when(()).then_snapshot();
    });
    assert!(lost.unwrap_err().downcast::<String>().unwrap().starts_with("the snapshot lost something"));
    Fixture::<Account>::given([AccountEvent::Opened { owner: "Ada".into() }])
        .when(AccountCommand::Deposit { amount: 7 })
        .then_snapshot();
}

#[test]
fn the_fixture_asks_rows_of_facts_and_projections() {
    const TASKS: &str = r#"
    {:projection/name :tasks
     :projection/schema [{:db/ident :task/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                          :db/unique :db.unique/identity}
                         {:db/ident :task/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
     :projection/on [{:event ["Created" "Renamed"] :assert [{:task/id $stream.key :task/name $data.name}]}]}"#;
    Tasks::given([named("wash")])
        .given_facts("[{:db/ident :color/red}]")
        .given_projection(TASKS)
        .when(rename("iron"))
        .then_rows("[:find ?n :where [_ :task/name ?n]]", (), [vec!["iron".into()]])
        .then_rows(
            "[:find ?k :where [?e :db/ident ?k] [(= ?k :color/red)]]",
            (),
            [vec![Value::keyword("color/red")]],
        );
}

// S27 and A3: the race that the notes tell of, exactly and at random.

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

// A17: one command, however often it is sent.

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

// A18: accepted now, decided later.

fn request(id: u128, ty: &str, payload: Value) -> CommandRequest {
    let dispatch = Dispatch::id(command(id).0);
    CommandRequest { category: "account".into(), id: Some("1".into()), ty: ty.into(), payload, dispatch }
}
fn amount(n: i64) -> Value {
    Value::map([(Value::keyword("amount"), Value::Long(n))])
}
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

// S4, S36, S42, S39: folding.

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
        .args(["--exact", "s4_child_deposits_until_killed", "--nocapture"])
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

// S12, S58: names and schemas.

#[test]
fn s58_a_renamed_enum_reads_the_old_file() {
    mod old {
        use super::*;
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum DoorEvent {
            Opened { by: String },
        }
        impl Event for DoorEvent {
            const TYPES: &'static [(&'static str, u32)] = &[("Opened", 1)];
        }
    }
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum GateHappening {
        #[serde(rename = "Opened")]
        SwungOpen { by: String },
    }
    impl Event for GateHappening {
        const TYPES: &'static [(&'static str, u32)] = &[("Opened", 1)];
    }
    let conn = memory();
    let e = old::DoorEvent::Opened { by: "Ada".into() }.to_new().unwrap();
    conn.append(Append::to("door-1").push(e)).unwrap();
    let stored = conn.db().events().stream(&StreamId::new("door-1").unwrap(), Version(1), 1).unwrap();
    assert_eq!(stored[0].read::<GateHappening>().unwrap(), GateHappening::SwungOpen { by: "Ada".into() });
}

#[test]
fn s58_a_renamed_decision_is_the_same_request() {
    use annals::event::Decision;
    #[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
    #[error("shut")]
    struct Shut;
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    enum Rung {
        Rung,
    }
    impl Event for Rung {
        const TYPES: &'static [(&'static str, u32)] = &[("Rung", 1)];
    }
    #[derive(serde::Serialize)]
    struct Ring {
        times: u32,
    }
    #[derive(serde::Serialize)]
    #[serde(rename = "Ring")]
    struct PressTheBell {
        times: u32,
    }
    impl Decision for Ring {
        const NAME: &'static str = "bell";
        type Event = Rung;
        type Error = Shut;
        fn decide(&self, _: &Decide<'_>) -> Result<Vec<(String, Rung)>, Shut> {
            Ok((0..self.times).map(|_| ("bell-1".to_owned(), Rung::Rung)).collect())
        }
    }
    impl Decision for PressTheBell {
        const NAME: &'static str = "bell";
        type Event = Rung;
        type Error = Shut;
        fn decide(&self, _: &Decide<'_>) -> Result<Vec<(String, Rung)>, Shut> {
            Ok((0..self.times).map(|_| ("bell-1".to_owned(), Rung::Rung)).collect())
        }
    }
    let conn = memory();
    conn.decide(&Ring { times: 2 }, Dispatch::id(command(1).0)).unwrap();
    let again = conn.decide(&PressTheBell { times: 2 }, Dispatch::id(command(1).0)).unwrap();
    assert!(again.is_replay() && conn.db().events().head().unwrap().0 == 2);
}

#[test]
fn unknown_types_and_missing_upcasters_are_errors_of_their_own() {
    let conn = memory();
    let load = |id: &str| conn.repository::<Account>().load(id).unwrap_err();
    conn.append(Append::to("account-1").push(NewEvent::new("Melted", json!({})).unwrap())).unwrap();
    let e = load("1");
    assert_eq!(e.code(), "event/unknown-type");
    assert!(
        e.to_string().contains("event #1 is of type Melted")
            || e.to_string().contains("event 1 is of type Melted"),
        "{e}"
    );
    let old = NewEvent::new("AccountOpened", json!({"name": "Ada"})).unwrap().schema(0);
    conn.append(Append::to("account-2").push(old)).unwrap();
    assert_eq!(load("2").code(), "event/not-upcast");
    let newer = NewEvent::new("AccountOpened", json!({"owner": "Ada"})).unwrap().schema(9);
    conn.append(Append::to("account-3").push(newer)).unwrap();
    assert_eq!(load("3").code(), "event/newer-schema");
    let other = NewEvent::new("AccountOpened", json!({"owner": 7})).unwrap();
    conn.append(Append::to("account-4").push(other)).unwrap();
    assert_eq!(load("4").code(), "event/other-shape");
}

// A24, for typed events: what is personal is sealed, and no snapshot keeps it.

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

// S57, A5: reading in a rule.

#[test]
fn s57_what_a_rule_reads_is_held_at_the_commit() {
    use annals_tests::domain::guarded::{Ask, Guarded, on_handle};
    let conn = memory();
    conn.transact("[{:db/ident :limit/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                    {:db/ident :limit/value :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]").unwrap();
    conn.transact("[{:limit/name \"day\" :limit/value 10} {:limit/name \"week\" :limit/value 1}]").unwrap();
    let repo = conn.repository::<Guarded>();
    let (other, runs) = (conn.clone(), Arc::new(AtomicU32::new(0)));
    let seen = runs.clone();
    // Between reading and writing another limit changes, then (second run) the one that was read.
    on_handle(move || match seen.fetch_add(1, Ordering::SeqCst) {
        0 => drop(other.transact("[{:limit/name \"week\" :limit/value 2}]").unwrap()),
        1 => drop(other.transact("[{:limit/name \"day\" :limit/value 3}]").unwrap()),
        _ => {}
    });
    repo.dispatch("1", Ask { amount: 5 }, Dispatch::new()).unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1, "what was not read does not matter");
    let e = repo.dispatch("1", Ask { amount: 5 }, Dispatch::new()).unwrap_err();
    assert_eq!(e.code(), "guarded/over-limit");
    assert_eq!(runs.load(Ordering::SeqCst), 3, "decided again with what had changed");
    on_handle(|| {});
    // A read that fails is no empty answer.
    let e = repo.dispatch("broken", Ask { amount: 1 }, Dispatch::id(command(9).0)).unwrap_err();
    assert!(matches!(e, DispatchError::Read(_)), "{e}");
    assert_eq!(conn.command_status(command(9)).unwrap(), None);
}

// S51b: state without events.

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

/// Names what a rule is given, so that an unused import is not needed above.
#[test]
fn ids_made_in_a_rule_follow_from_the_command() {
    use annals_tests::domain::guarded::{Made, MadeAsk};
    let conn = memory();
    let repo = conn.repository::<Made>();
    let id_of = |stream: &str, n: u128| {
        repo.dispatch(stream, MadeAsk, Dispatch::id(command(n).0)).unwrap();
        repo.load(stream).unwrap().state.ids
    };
    let (a, b) = (id_of("1", 1), id_of("2", 2));
    assert_eq!(a.len(), 2);
    assert_ne!(a[0], a[1]);
    assert_ne!(a, b);
    let again = memory();
    again.repository::<Made>().dispatch("1", MadeAsk, Dispatch::id(command(1).0)).unwrap();
    assert_eq!(again.repository::<Made>().load("1").unwrap().state.ids, a);
    let _ = |cx: &Decide<'_>| cx.new_id();
}
