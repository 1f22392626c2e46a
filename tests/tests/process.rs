//! Process managers, timers, reactors and decisions: the scenarios of the acceptance
//! list by their numbers, with a stop between any two steps.

use annals::{
    Connection, Input, Instant, Options, Value,
    event::{
        Append, CommandId, CommandRequest, CommandStatus, CommandTo, Decide, Decision, Dispatch,
        DispatchError, Event, Item, ProcessFixture, ProcessManager, ProcessState, Reactor, Recorded, Start,
        Step, StreamId, Version,
    },
};
use annals_tests::domain::{
    bank::{Account, AccountCommand, AccountEvent, Transfer, TransferEvent},
    orders::{
        DAY, Order, OrderCommand, OrderEvent, OrderProcess, Payment, PaymentCommand, PaymentEvent, Standing,
    },
    reopen,
};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    process::Command,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

const NOON: i64 = 1_767_268_800_000_000;

fn command(n: u128) -> CommandId {
    CommandId(Uuid::from_u128(n))
}
fn drain(conn: &Connection) -> usize {
    let mut n = 0;
    while conn.step_processes().unwrap().is_some() {
        n += 1;
        assert!(n < 10_000, "it does not come to rest");
    }
    n
}
fn types(conn: &Connection, stream: &str) -> Vec<String> {
    let all =
        conn.db().events().stream(&StreamId::new(stream).unwrap(), Version(1), 1000).unwrap_or_default();
    all.iter().map(|e| e.ty().to_owned()).collect()
}

/// A clock that the test sets.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);
impl Hand {
    fn at(now: i64) -> Hand {
        Hand(Arc::new(AtomicI64::new(now)))
    }
    fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }
    fn options(&self) -> Options {
        let hand = self.0.clone();
        Options::new().clock(move || Instant(hand.load(Ordering::SeqCst)))
    }
}

// A21: the order example, stopped between any two steps.

fn shop(path: &Path, hand: &Hand) -> Connection {
    let conn = reopen(&hand.options(), path);
    conn.register_commands::<Order>().unwrap();
    conn.register_commands::<Payment>().unwrap();
    conn.register_process(OrderProcess).unwrap();
    conn
}

/// What the customers do, with the processes' steps between. Each thing done under its own
/// command id, so that the play may be begun again after a stop. Answers the number of
/// steps; `stop` is asked after each.
fn play(conn: &Connection, hand: &Hand, stop: &mut dyn FnMut() -> bool) -> Option<()> {
    let orders = conn.repository::<Order>();
    let payments = conn.repository::<Payment>();
    let mut step = || if stop() { None } else { Some(()) };
    let rest = |step: &mut dyn FnMut() -> Option<()>| -> Option<()> {
        while conn.step_processes().unwrap().is_some() {
            step()?;
        }
        Some(())
    };
    let place = |n, id: &str| {
        drop(orders.dispatch(id, OrderCommand::Place { total: 10 }, Dispatch::id(command(n).0)).unwrap())
    };
    let pay = |n, id: &str| {
        let receive = PaymentCommand::Receive { order: id.into(), amount: 10 };
        drop(payments.dispatch(&format!("p{id}"), receive, Dispatch::id(command(n).0)).unwrap())
    };
    hand.set(NOON);
    // A: paid, then cancelled by the customer.
    place(1, "A");
    step()?;
    rest(&mut step)?;
    pay(2, "A");
    step()?;
    rest(&mut step)?;
    let cancel = OrderCommand::Cancel { reason: "changed my mind".into() };
    orders.dispatch("A", cancel, Dispatch::id(command(3).0)).unwrap();
    step()?;
    rest(&mut step)?;
    // B: not paid within a day, and paid too late. C: paid in time.
    place(4, "B");
    step()?;
    place(5, "C");
    step()?;
    pay(6, "C");
    step()?;
    rest(&mut step)?;
    hand.set(NOON + DAY + 60_000_000);
    rest(&mut step)?;
    pay(7, "B");
    step()?;
    rest(&mut step)
}

fn check_play(conn: &Connection, about: &str) {
    assert_eq!(types(conn, "order-A"), ["OrderPlaced", "OrderPaid", "OrderCancelled"], "{about}");
    assert_eq!(types(conn, "payment-pA"), ["PaymentReceived", "PaymentReversed"], "{about}");
    assert_eq!(types(conn, "order-B"), ["OrderPlaced", "OrderCancelled"], "{about}");
    assert_eq!(types(conn, "payment-pB"), ["PaymentReceived", "PaymentReversed"], "{about}");
    assert_eq!(types(conn, "order-C"), ["OrderPlaced", "OrderPaid"], "{about}");
    assert_eq!(types(conn, "payment-pC"), ["PaymentReceived"], "{about}");
    assert!(conn.timers().unwrap().is_empty(), "{about}: {:?}", conn.timers());
    assert!(conn.queued_commands().unwrap().is_empty(), "{about}");
    assert_eq!(conn.process_state::<OrderProcess>("A").unwrap(), None, "{about}: it has stopped");
    let c = conn.process_state::<OrderProcess>("C").unwrap();
    assert_eq!(c, Some(Standing { payment: Some("pC".into()), cancelled: false }), "{about}");
    // The chain from effect to cause in one recursive query: event, command, event, command.
    let rules = "[[(caused ?a ?b) [?b :event/causation ?id] [?a :event/id ?id]]
                  [(caused ?a ?c) (caused ?a ?b) (caused ?b ?c)]]";
    let chain = "[:find ?type ?command :in $ % ?stream ?last
                  :where [?z :event/stream ?stream] [?z :event/type ?last]
                         (or-join [?e ?z] (caused ?e ?z) [(identity ?z) ?e])
                         [?e :event/type ?type] [?e :event/meta ?m] [(get ?m :command-type) ?command]]";
    let rows = |stream: &str, last: &str| -> Vec<String> {
        let inputs = vec![Input::Rules(rules.into()), stream.into(), last.into()];
        let answer = conn.db().query(chain, inputs).unwrap();
        let mut rows: Vec<String> =
            answer.rows.iter().map(|r| annals::edn::print(&Value::vector(r))).collect();
        rows.sort();
        rows
    };
    assert_eq!(
        rows("payment-pA", "PaymentReversed"),
        [r#"["OrderCancelled" "order/Cancel"]"#, r#"["PaymentReversed" "payment/Reverse"]"#],
        "{about}"
    );
    assert_eq!(
        rows("order-B", "OrderCancelled"),
        [r#"["OrderCancelled" "order/Cancel"]"#, r#"["OrderPlaced" "order/Place"]"#],
        "{about}"
    );
    // Every event has a cause that is known: an event, or a command with a stored outcome.
    let log = conn.db().events();
    let (all, _) = log.all(&[], annals::event::Position::ZERO, 1000).unwrap();
    for e in all {
        let cause = e.event.meta.causation.expect("each has a cause");
        let event = !log.event(annals::event::EventId(cause)).unwrap().is_empty();
        let done = conn.command_status(CommandId(cause)).unwrap().is_some_and(|o| o.status.is_final());
        assert!(event || done, "{about}: the cause of {} is unknown", e.ty());
    }
}

#[test]
fn a21_the_order_process_stopped_between_any_two_steps_reverses_once() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let mut total = 0;
    let conn = shop(&dir.path().join("clean"), &hand);
    play(&conn, &hand, &mut || {
        total += 1;
        false
    });
    check_play(&conn, "never stopped");
    assert!(total > 20, "{total} steps");
    for at in 1..=total {
        let path = dir.path().join(format!("at-{at}"));
        let mut n = 0;
        hand.set(NOON);
        {
            let conn = shop(&path, &hand);
            let mut stop = || {
                n += 1;
                n == at
            };
            play(&conn, &hand, &mut stop);
        }
        let conn = shop(&path, &hand);
        play(&conn, &hand, &mut || false).expect("it is played to the end");
        check_play(&conn, &format!("stopped after step {at} of {total}"));
    }
}

/// The child of the next test: plays, and is gone without a word after so many steps.
#[test]
fn a21_child_plays_until_it_aborts() {
    let (Ok(path), Ok(at)) = (std::env::var("ANNALS_A21_FOLDER"), std::env::var("ANNALS_A21_STEPS")) else {
        return;
    };
    let at: u32 = at.parse().unwrap();
    let hand = Hand::at(NOON);
    let conn = shop(Path::new(&path), &hand);
    let mut n = 0;
    play(&conn, &hand, &mut || {
        n += 1;
        if n == at {
            // As by kill -9: no destructor runs, nothing is flushed.
            std::process::abort();
        }
        false
    });
}

#[test]
fn a21_a_process_that_is_killed_again_and_again_reverses_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let child = |steps: u32| {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a21_child_plays_until_it_aborts"])
            .env("ANNALS_A21_FOLDER", &path)
            .env("ANNALS_A21_STEPS", steps.to_string())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        status.success()
    };
    // Each run gets a few steps further, and dies. What was done is replayed without a step of its own.
    let mut deaths = 0;
    while !child(9) {
        deaths += 1;
        assert!(deaths < 40, "it gets no further");
    }
    assert!(deaths >= 2, "{deaths}");
    let hand = Hand::at(NOON + DAY + 60_000_000);
    let conn = shop(&path, &hand);
    drain(&conn);
    check_play(&conn, &format!("killed {deaths} times"));
}

#[test]
fn s54_the_order_process_given_when_then() {
    let at = Instant(NOON);
    let day = Instant(NOON + DAY);
    let f = || ProcessFixture::of(OrderProcess).at(at);
    let placed = || OrderEvent::OrderPlaced { total: 10 };
    let received = || PaymentEvent::PaymentReceived { order: "7".into(), amount: 10 };
    let cancelled = || OrderEvent::OrderCancelled { reason: "late".into() };
    let reverse = || CommandTo::new::<Payment>("p7", &PaymentCommand::Reverse).unwrap();
    f().when("order-7", placed()).then_sent([]).then_timers([("7", "unpaid", day)]);
    let paid = CommandTo::new::<Order>("7", &OrderCommand::MarkPaid).unwrap();
    f().given("order-7", placed()).when("payment-p7", received()).then_sent([paid]).then_timers([]);
    f().given("order-7", placed())
        .given("payment-p7", received())
        .when("order-7", cancelled())
        .then_sent([reverse()]);
    f().given("order-7", placed())
        .given("order-7", cancelled())
        .when("payment-p7", received())
        .then_sent([reverse()])
        .then_timers([("7", "unpaid", day)]);
    // Nobody placed it: there is no instance to go on with.
    let taken = f().when("payment-p7", received()).then_sent([]);
    assert_eq!(taken.state("7"), None);
}

// Timers.

#[test]
fn timers_are_moved_cancelled_and_fire_once_even_when_nobody_ran_at_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let path = dir.path().join("db");
    {
        let conn = shop(&path, &hand);
        let orders = conn.repository::<Order>();
        for id in ["1", "2"] {
            orders.dispatch(id, OrderCommand::Place { total: 1 }, Dispatch::new()).unwrap();
        }
        drain(&conn);
        let set: Vec<_> = conn.timers().unwrap().into_iter().map(|t| (t.instance, t.name, t.when)).collect();
        assert_eq!(set.len(), 2);
        assert_eq!(set[0].1, "unpaid");
        hand.set(NOON + DAY / 2);
        assert_eq!(drain(&conn), 0, "it is not yet time");
        // Paid while the process does not run: the event is taken before the timer.
        let receive = PaymentCommand::Receive { order: "2".into(), amount: 1 };
        conn.repository::<Payment>().dispatch("p2", receive, Dispatch::new()).unwrap();
    }
    hand.set(NOON + 3 * DAY);
    let conn = shop(&path, &hand);
    drain(&conn);
    assert_eq!(types(&conn, "order-1"), ["OrderPlaced", "OrderCancelled"]);
    assert_eq!(types(&conn, "order-2"), ["OrderPlaced", "OrderPaid"]);
    assert_eq!(drain(&conn), 0);
    assert!(conn.timers().unwrap().is_empty());
}

#[test]
fn a_runner_fires_timers_by_the_clock() {
    let hand = Hand::at(NOON);
    let conn = hand.options().in_memory().unwrap();
    conn.register_commands::<Order>().unwrap();
    conn.register_process(OrderProcess).unwrap();
    let _runner = conn.run_processes();
    conn.repository::<Order>().dispatch("1", OrderCommand::Place { total: 1 }, Dispatch::new()).unwrap();
    let until = |what: &str, done: &dyn Fn() -> bool| {
        for _ in 0..1500 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what} does not come");
    };
    until("the timer", &|| conn.timers().unwrap().len() == 1);
    hand.set(NOON + DAY + 1_000_000);
    until("the end of the order", &|| types(&conn, "order-1") == ["OrderPlaced", "OrderCancelled"]);
}

// S7, S1: money moved between two accounts, by one append and by a process.

fn bank(path: &Path) -> Connection {
    let conn = reopen(&Options::new(), path);
    conn.register_commands::<Account>().unwrap();
    conn.register_process(Transfer).unwrap();
    conn
}
fn balance(conn: &Connection, id: &str) -> i64 {
    conn.repository::<Account>().load(id).unwrap().state.balance
}
fn transfer(conn: &Connection, n: u128, from: &str, to: &str, amount: i64) {
    let e = TransferEvent::Requested { from: from.into(), to: to.into(), amount }.to_new().unwrap();
    let id = annals::event::EventId(Uuid::from_u128(n));
    conn.append(Append::to(format!("transfer-{n}")).push(e.id(id))).unwrap();
}

#[test]
fn s7_a_transfer_as_a_saga_ends_balanced_after_a_stop_at_any_step() {
    let dir = tempfile::tempdir().unwrap();
    let run = |path: &Path, at: usize| -> usize {
        let mut n = 0;
        for life in 0..2 {
            let conn = bank(path);
            let repo = conn.repository::<Account>();
            for (i, id) in ["a", "b", "closed"].into_iter().enumerate() {
                let open = AccountCommand::Open { owner: id.into() };
                repo.dispatch(id, open, Dispatch::id(command(10 + i as u128).0)).unwrap();
            }
            repo.dispatch("a", AccountCommand::Deposit { amount: 100 }, Dispatch::id(command(20).0)).unwrap();
            repo.dispatch("closed", AccountCommand::Close, Dispatch::id(command(21).0)).unwrap();
            transfer(&conn, 1, "a", "b", 30); // goes through
            transfer(&conn, 2, "a", "b", 500); // too much
            transfer(&conn, 3, "a", "closed", 20); // declined, comes back
            transfer(&conn, 4, "a", "nobody", 10); // refused, comes back
            while conn.step_processes().unwrap().is_some() {
                if life == 0 {
                    n += 1;
                    if n == at {
                        break;
                    }
                }
            }
            if n < at {
                return n;
            }
        }
        n
    };
    let check = |path: &Path, about: &str| {
        let conn = bank(path);
        assert_eq!(drain(&conn), 0, "{about}: it has come to rest");
        assert_eq!(
            (balance(&conn, "a"), balance(&conn, "b"), balance(&conn, "closed")),
            (70, 30, 0),
            "{about}"
        );
        let a = types(&conn, "account-a");
        assert_eq!(a.iter().filter(|t| *t == "MoneyWithdrawn").count(), 3, "{about}: {a:?}");
        assert_eq!(
            types(&conn, "account-closed"),
            ["AccountOpened", "AccountClosed", "PaymentDeclined"],
            "{about}"
        );
        // The transfer that was too much waits for nothing; the others are over.
        assert_eq!(conn.processes().unwrap()[0].instances, 1, "{about}");
    };
    let clean = dir.path().join("clean");
    let total = run(&clean, usize::MAX);
    check(&clean, "never stopped");
    assert!(total > 10, "{total}");
    for at in 1..=total {
        let path = dir.path().join(format!("at-{at}"));
        run(&path, at);
        check(&path, &format!("stopped after step {at} of {total}"));
    }
}

#[test]
fn s7_a_transfer_as_one_append_over_two_streams_is_whole_or_not_at_all() {
    let conn = annals::in_memory().unwrap();
    let repo = conn.repository::<Account>();
    for id in ["a", "b"] {
        repo.dispatch(id, AccountCommand::Open { owner: id.into() }, Dispatch::new()).unwrap();
        repo.dispatch(id, AccountCommand::Deposit { amount: 1000 }, Dispatch::new()).unwrap();
    }
    let move_money = |from: &str, to: &str, amount: i64| {
        let (a, b) = (repo.load(from).unwrap(), repo.load(to).unwrap());
        conn.append(
            Append::to(format!("account-{from}"))
                .expect_version(a.version.0)
                .push(AccountEvent::Withdrawn { amount }.to_new().unwrap())
                .and_to(format!("account-{to}"))
                .expect_version(b.version.0)
                .push(AccountEvent::Deposited { amount }.to_new().unwrap()),
        )
    };
    let moved = AtomicI64::new(0);
    std::thread::scope(|s| {
        for (from, to, sign) in [("a", "b", 1), ("b", "a", -1)] {
            let (move_money, moved) = (&move_money, &moved);
            s.spawn(move || {
                for n in 1..=50 {
                    if move_money(from, to, n).is_ok() {
                        moved.fetch_add(sign * n, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let moved = moved.into_inner();
    assert_eq!((balance(&conn, "a"), balance(&conn, "b")), (1000 - moved, 1000 + moved));
}

// How processes fail, and how they stop.

struct Picky(Arc<AtomicU32>);
impl ProcessManager for Picky {
    const NAME: &'static str = "picky";
    type State = u32;
    fn start(&self) -> Start {
        Start::Beginning
    }
    fn route(&self, e: &Recorded) -> Vec<annals::event::Route> {
        use annals::event::Route;
        match e.ty() {
            "Begun" => vec![Route::Start(e.stream.to_string())],
            "Gone" => vec![Route::Stop(e.stream.to_string())],
            _ => vec![Route::Continue(e.stream.to_string())],
        }
    }
    fn handle(&self, _: &u32, e: &Recorded, out: &mut annals::event::Out) {
        assert!(e.ty() != "Bad" || self.0.load(Ordering::SeqCst) > 0, "not this one");
        if e.ty() == "Begun" {
            out.send_at::<Account>(Instant(NOON + DAY), "later", "x", &AccountCommand::Close);
        }
    }
    fn apply(&self, s: &mut u32, _: &Recorded) {
        *s += 1;
    }
}

#[test]
fn a_process_that_cannot_take_an_event_halts_there_alone_and_goes_on_when_resumed() {
    let hand = Hand::at(NOON);
    let conn = hand.options().in_memory().unwrap();
    let mended = Arc::new(AtomicU32::new(0));
    conn.register_process(Picky(mended.clone())).unwrap();
    conn.register_process(OrderProcess).unwrap();
    assert_eq!(conn.register_process(OrderProcess).unwrap_err().code(), "process/registered-twice");
    conn.append(
        Append::to("s-1")
            .event("Begun", "{}")
            .unwrap()
            .event("Fine", "{}")
            .unwrap()
            .event("Bad", "{}")
            .unwrap(),
    )
    .unwrap();
    conn.append(Append::to("s-1").event("Fine", "{}").unwrap()).unwrap();
    conn.append(Append::to("order-1").push(OrderEvent::OrderPlaced { total: 1 }.to_new().unwrap())).unwrap();
    drain(&conn);
    let all = conn.processes().unwrap();
    let ProcessState::Halted { at, why } = &all[0].state else { panic!("{all:?}") };
    assert_eq!((at.0, why.as_str()), (3, "handle panicked: not this one"));
    assert_eq!((all[0].position.0, all[0].lag), (2, 3));
    assert_eq!((all[1].state.clone(), all[1].lag), (ProcessState::Running, 0), "the other goes on");
    assert_eq!(conn.process_state::<Picky>("s-1").unwrap(), Some(2));
    mended.store(1, Ordering::SeqCst);
    conn.resume_process("picky").unwrap();
    drain(&conn);
    assert_eq!(conn.process_state::<Picky>("s-1").unwrap(), Some(4));
    assert_eq!(conn.processes().unwrap()[0].lag, 0);
    assert_eq!(conn.resume_process("nobody").unwrap_err().code(), "process/unknown");
}

#[test]
fn stopping_an_instance_that_is_not_in_memory_deletes_its_state_and_its_timers() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let open = || {
        let conn = reopen(&hand.options(), dir.path().join("db"));
        conn.register_process(Picky(Arc::default())).unwrap();
        conn
    };
    {
        let conn = open();
        conn.append(Append::to("s-1").event("Begun", "{}").unwrap()).unwrap();
        conn.append(Append::to("s-2").event("Begun", "{}").unwrap()).unwrap();
        drain(&conn);
        assert_eq!((conn.processes().unwrap()[0].instances, conn.timers().unwrap().len()), (2, 2));
    }
    let conn = open();
    conn.append(Append::to("s-1").event("Gone", "{}").unwrap().event("Fine", "{}").unwrap()).unwrap();
    drain(&conn);
    assert_eq!(conn.process_state::<Picky>("s-1").unwrap(), None);
    let left: Vec<_> = conn.timers().unwrap().into_iter().map(|t| t.instance).collect();
    assert_eq!((conn.processes().unwrap()[0].instances, left), (1, vec!["s-2".to_owned()]));
}

#[test]
fn a_command_nobody_handles_waits_in_the_queue_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let conn = reopen(&hand.options(), dir.path().join("db"));
    conn.register_process(Picky(Arc::default())).unwrap();
    conn.append(Append::to("s-1").event("Begun", "{}").unwrap()).unwrap();
    drain(&conn);
    hand.set(NOON + 2 * DAY);
    assert_eq!(drain(&conn), 2, "fired, tried once");
    let waiting = conn.queued_commands().unwrap();
    let id = waiting[0].id;
    let Some(CommandStatus::Failed { code, attempts: 1, retry_at, .. }) =
        conn.command_status(id).unwrap().map(|o| o.status)
    else {
        panic!("{waiting:?}")
    };
    assert_eq!((&*code, retry_at), ("command/unknown-category", Instant(NOON + 2 * DAY + 100_000)));
    assert_eq!(waiting[0].sender, Some(("picky".into(), "s-1".into())));
    // Once somebody handles it, and its time has come, it is decided.
    conn.register_commands::<Account>().unwrap();
    assert_eq!(drain(&conn), 0);
    hand.set(NOON + 2 * DAY + 100_000);
    drain(&conn);
    let status = conn.command_status(id).unwrap().unwrap().status;
    assert!(
        matches!(&status, CommandStatus::Rejected { code, .. } if &**code == "account/not-open"),
        "{status:?}"
    );
    assert!(conn.queued_commands().unwrap().is_empty());
}

#[test]
fn a_timer_waits_for_its_process_which_may_have_something_to_cancel_it_with() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let path = dir.path().join("db");
    {
        let conn = shop(&path, &hand);
        conn.repository::<Order>().dispatch("1", OrderCommand::Place { total: 1 }, Dispatch::new()).unwrap();
        drain(&conn);
    }
    hand.set(NOON + 2 * DAY);
    let conn = reopen(&hand.options(), &path);
    conn.register_commands::<Order>().unwrap();
    assert_eq!(drain(&conn), 0, "its process is not there");
    assert_eq!(conn.timers().unwrap().len(), 1);
    conn.register_process(OrderProcess).unwrap();
    drain(&conn);
    assert_eq!(types(&conn, "order-1"), ["OrderPlaced", "OrderCancelled"]);
}

/// A bank where the money of a transfer is under way to `to`, and the process that sent it gone.
fn underway(path: &Path, hand: &Hand, to: &str) -> Connection {
    {
        let conn = reopen(&hand.options(), path);
        conn.register_commands::<Account>().unwrap();
        conn.register_process(Transfer).unwrap();
        let repo = conn.repository::<Account>();
        for id in ["a", "b"] {
            repo.dispatch(id, AccountCommand::Open { owner: id.into() }, Dispatch::new()).unwrap();
        }
        repo.dispatch("a", AccountCommand::Deposit { amount: 100 }, Dispatch::new()).unwrap();
        transfer(&conn, 1, "a", to, 30);
        let under_way = || conn.queued_commands().unwrap().iter().any(|q| q.to.ty == "Deposit");
        while !under_way() {
            assert!(conn.step_processes().unwrap().is_some(), "it never gets under way");
        }
        assert_eq!(balance(&conn, "a"), 70);
    }
    let conn = reopen(&hand.options(), path);
    conn.register_commands::<Account>().unwrap();
    conn
}

#[test]
fn a_refusal_waits_until_the_process_that_sent_the_command_hears_it() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let conn = underway(&dir.path().join("db"), &hand, "nobody");
    assert_eq!(drain(&conn), 1, "tried once");
    let id = conn.queued_commands().unwrap()[0].id;
    let status = conn.command_status(id).unwrap().unwrap().status;
    assert!(
        matches!(&status, CommandStatus::Failed { code, .. } if &**code == "command/unheard"),
        "{status:?}"
    );
    hand.set(NOON + 60_000_000);
    conn.register_process(Transfer).unwrap();
    drain(&conn);
    let status = conn.command_status(id).unwrap().unwrap().status;
    assert!(
        matches!(&status, CommandStatus::Rejected { code, .. } if &**code == "account/not-open"),
        "{status:?}"
    );
    assert_eq!(balance(&conn, "a"), 100, "the money came back");
}

#[test]
fn a_command_dropped_by_hand_is_a_refusal_to_who_sent_it() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let conn = underway(&dir.path().join("db"), &hand, "b");
    conn.register_process(Transfer).unwrap();
    let id = conn.queued_commands().unwrap()[0].id;
    assert!(conn.drop_command(id, "the other bank is closed").unwrap());
    assert!(!conn.drop_command(id, "again").unwrap());
    let status = conn.command_status(id).unwrap().unwrap().status;
    let CommandStatus::Rejected { code, message, .. } = status else { panic!("{status:?}") };
    assert_eq!((&*code, &*message), ("command/dropped", "the other bank is closed"));
    drain(&conn);
    assert_eq!((balance(&conn, "a"), balance(&conn, "b")), (100, 0));
}

/// Sends a command each time it is asked, and is asked twice for one event.
struct Twice;
impl ProcessManager for Twice {
    const NAME: &'static str = "twice";
    type State = ();
    fn route(&self, e: &Recorded) -> Vec<annals::event::Route> {
        use annals::event::Route;
        let id = e.stream.key().to_owned();
        if e.ty() == "Asked" { vec![Route::Start(id.clone()), Route::Stop(id)] } else { vec![] }
    }
    fn handle(&self, (): &(), _: &Recorded, out: &mut annals::event::Out) {
        out.send::<Account>("a", &AccountCommand::Deposit { amount: 1 });
    }
    fn apply(&self, (): &mut (), _: &Recorded) {}
}

#[test]
fn an_event_that_is_for_one_instance_twice_sends_two_commands() {
    let conn = annals::in_memory().unwrap();
    conn.register_commands::<Account>().unwrap();
    conn.register_process(Twice).unwrap();
    let repo = conn.repository::<Account>();
    repo.dispatch("a", AccountCommand::Open { owner: "a".into() }, Dispatch::new()).unwrap();
    conn.append(Append::to("s-1").event("Asked", "{}").unwrap()).unwrap();
    drain(&conn);
    assert_eq!(balance(&conn, "a"), 2);
    assert_eq!(conn.processes().unwrap()[0].instances, 0);
}

// Reactors.

type Told = Arc<Mutex<Vec<(String, Uuid)>>>;
struct Mail {
    told: Told,
    failing: Arc<AtomicU32>,
}
impl Reactor for Mail {
    const NAME: &'static str = "mail";
    fn react(&self, e: &Recorded, key: Uuid) -> Result<(), String> {
        self.told.lock().unwrap().push((e.stream.to_string(), key));
        match self.failing.load(Ordering::SeqCst) {
            0 => Ok(()),
            1 => Err("the post office is closed".into()),
            _ => panic!("the post office is on fire"),
        }
    }
}

#[test]
fn a_reactor_is_told_at_least_once_under_one_key_and_never_by_a_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let (told, failing) = (Told::default(), Arc::new(AtomicU32::new(0)));
    let open = || {
        let conn = reopen(&hand.options(), dir.path().join("db"));
        conn.register_reactor(Mail { told: told.clone(), failing: failing.clone() }).unwrap();
        conn
    };
    let say = |conn: &Connection, stream: &str| {
        conn.append(Append::to(stream).event("Said", r#"{"n": 1}"#).unwrap()).unwrap();
    };
    let streams = || told.lock().unwrap().iter().map(|(s, _)| s.clone()).collect::<Vec<_>>();
    {
        let conn = reopen(&hand.options(), dir.path().join("db"));
        say(&conn, "before-1");
    }
    {
        let conn = open();
        say(&conn, "a-1");
        drain(&conn);
        assert_eq!(streams(), ["a-1"], "what was before it is not its business");
        failing.store(1, Ordering::SeqCst);
        say(&conn, "a-2");
        say(&conn, "a-3");
        assert_eq!(drain(&conn), 1, "the first fails, the second waits behind it");
        let ProcessState::Waiting { why, attempts: 1, retry_at, .. } =
            conn.processes().unwrap()[0].state.clone()
        else {
            panic!()
        };
        assert_eq!((why.as_str(), retry_at), ("the post office is closed", Instant(NOON + 100_000)));
        failing.store(2, Ordering::SeqCst);
        hand.set(NOON + 100_000);
        drain(&conn);
        let ProcessState::Waiting { why, attempts: 2, retry_at, .. } =
            conn.processes().unwrap()[0].state.clone()
        else {
            panic!()
        };
        assert_eq!(
            (why.as_str(), retry_at),
            ("it panicked: the post office is on fire", Instant(NOON + 300_000))
        );
    }
    // The process was down when this was said.
    failing.store(0, Ordering::SeqCst);
    {
        let conn = reopen(&hand.options(), dir.path().join("db"));
        say(&conn, "a-4");
    }
    let conn = open();
    drain(&conn);
    assert_eq!(streams(), ["a-1", "a-2", "a-2", "a-2", "a-3", "a-4"]);
    let keys: Vec<Uuid> = told.lock().unwrap().iter().map(|(_, k)| *k).collect();
    assert!(keys[1] == keys[2] && keys[2] == keys[3] && keys[3] != keys[4], "one event, one key");
    // A projection is built over everything, and built again: the reactor hears nothing.
    const SAID: &str = r#"{:projection/name :said :projection/version 1
      :projection/schema [{:db/ident :said/stream :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}]
      :projection/on [{:event "Said" :assert [{:said/stream $stream}]}]}"#;
    conn.add_projection(SAID).unwrap();
    conn.add_projection(&SAID.replace("version 1", "version 2")).unwrap();
    drain(&conn);
    assert_eq!(told.lock().unwrap().len(), 6);
}

/// Counts events that come to it, and those that were let through.
struct Gate {
    open: &'static AtomicU32,
    came: &'static AtomicU32,
    told: Arc<AtomicU32>,
}
impl Gate {
    fn new(open: bool) -> (Gate, &'static AtomicU32, Arc<AtomicU32>) {
        let gate: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(u32::from(open))));
        let came: &'static AtomicU32 = Box::leak(Box::default());
        let told = Arc::new(AtomicU32::new(0));
        (Gate { open: gate, came, told: told.clone() }, gate, told)
    }
    fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        while self.open.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.told.fetch_add(1, Ordering::SeqCst);
    }
}
struct Hangs(Gate);
impl Reactor for Hangs {
    const NAME: &'static str = "hangs";
    fn react(&self, _: &Recorded, _: Uuid) -> Result<(), String> {
        self.0.pass();
        Ok(())
    }
}
struct Works(Gate);
impl Reactor for Works {
    const NAME: &'static str = "works";
    fn react(&self, _: &Recorded, _: Uuid) -> Result<(), String> {
        self.0.pass();
        Ok(())
    }
}

/// Waits until it is so.
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(std::time::Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_reactor_that_hangs_stops_neither_other_reactors_nor_processes_nor_the_queue() {
    let conn = annals::in_memory().unwrap();
    conn.register_commands::<Account>().unwrap();
    conn.register_process(Picky(Arc::new(AtomicU32::new(1)))).unwrap();
    let (hangs, gate, _) = Gate::new(false);
    conn.register_reactor(Hangs(hangs)).unwrap();
    let runner = conn.run_processes();
    let (works, _, told) = Gate::new(true);
    // One that is registered while the runner is at work has its thread too.
    conn.register_reactor(Works(works)).unwrap();
    for _ in 0..20 {
        conn.append(Append::to("s-1").event("Begun", "{}").unwrap()).unwrap();
    }
    soon("the other reactor is told", || told.load(Ordering::SeqCst) == 20);
    soon("the process goes on", || conn.process_state::<Picky>("s-1").unwrap() == Some(20));
    let payload = Value::map([(Value::keyword("owner"), Value::from("Ada"))]);
    let open = CommandRequest {
        category: "account".into(),
        id: Some("1".into()),
        ty: "Open".into(),
        payload,
        dispatch: Dispatch::id(command(1).0),
    };
    conn.submit(open).unwrap();
    soon("the queue goes on", || conn.queued_commands().unwrap().is_empty());
    assert!(!conn.drop_command(command(2), "there is none").unwrap(), "and can be looked after");
    let all = conn.processes().unwrap();
    let lag = |name| all.iter().find(|p| p.name == name).unwrap().lag;
    assert!(lag("hangs") >= 20 && lag("picky") <= 1, "{all:?}");
    gate.store(1, Ordering::SeqCst);
    soon("it goes on where it hung", || conn.processes().unwrap().iter().all(|p| p.lag == 0));
    drop(runner);
}

#[test]
fn a_runner_that_is_dropped_waits_five_seconds_for_a_reactor_and_no_longer() {
    let conn = annals::in_memory().unwrap();
    let (hangs, gate, told) = Gate::new(false);
    let came = hangs.came;
    conn.register_reactor(Hangs(hangs)).unwrap();
    let runner = conn.run_processes();
    conn.append(Append::to("s-1").event("Begun", "{}").unwrap()).unwrap();
    soon("it is told", || came.load(Ordering::SeqCst) == 1);
    let began = std::time::Instant::now();
    drop(runner);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(30), "{took:?}");
    gate.store(1, Ordering::SeqCst);
    soon("it ends by itself, and what it did is kept", || conn.processes().unwrap()[0].lag == 0);
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[test]
fn events_of_which_nothing_follows_are_passed_over_without_a_transaction_each() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let told = Arc::new(AtomicU32::new(0));
    struct Rare(Arc<AtomicU32>);
    impl Reactor for Rare {
        const NAME: &'static str = "rare";
        fn wants(&self) -> Vec<Item> {
            vec![Item::types(["Begun"]).unwrap()]
        }
        fn react(&self, _: &Recorded, _: Uuid) -> Result<(), String> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }
    let open = || {
        let conn = reopen(&hand.options(), dir.path().join("db"));
        conn.register_process(Picky(Arc::new(AtomicU32::new(1)))).unwrap();
        conn.register_reactor(Rare(told.clone())).unwrap();
        conn
    };
    // With a runner, which takes many events a step.
    let rest = |conn: &Connection| {
        let runner = conn.run_processes();
        soon("all is looked at", || conn.processes().unwrap().iter().all(|p| p.lag == 0));
        drop(runner);
    };
    let append = |conn: &Connection, count: u32| {
        let events = (0..count).fold(Append::to("other-1"), |a, _| a.event("Fine", "{}").unwrap());
        conn.append(events).unwrap();
    };
    let conn = open();
    append(&conn, 3_000);
    let before = conn.db().basis_t();
    rest(&conn);
    assert_eq!(conn.db().basis_t(), before.next(), "nothing followed: only the places are kept at the end");
    assert!(conn.processes().unwrap().iter().all(|p| p.position.0 == 3_000 && p.lag == 0));
    drop(conn);
    let conn = open();
    assert!(conn.processes().unwrap().iter().all(|p| p.position.0 == 3_000), "where it stopped");
    // Ended without a word, it looks at them again, and at no more than some thousand.
    append(&conn, 20);
    drain(&conn);
    drop(conn);
    let conn = open();
    assert!(conn.processes().unwrap().iter().all(|p| p.position.0 == 3_000));
    append(&conn, 9_000);
    let before = conn.db().basis_t();
    rest(&conn);
    let written = conn.db().basis_t().0 - before.0;
    assert!((2..=8).contains(&written), "{written} transactions for 12,000 events and two who look");
    drop(conn);
    let conn = open();
    assert!(conn.processes().unwrap().iter().all(|p| p.lag == 0), "{:?}", conn.processes());
    // What has an effect moves the checkpoint at once.
    conn.append(Append::to("s-1").event("Begun", "{}").unwrap()).unwrap();
    rest(&conn);
    assert_eq!(told.load(Ordering::SeqCst), 1);
    drop(conn);
    let conn = open();
    assert!(conn.processes().unwrap().iter().all(|p| p.lag == 0));
    rest(&conn);
    assert_eq!((told.load(Ordering::SeqCst), conn.process_state::<Picky>("s-1").unwrap()), (1, Some(1)));
}

/// Writes about what it is given to want.
struct Letters {
    wants: &'static [&'static str],
    told: Arc<AtomicU32>,
}
impl Reactor for Letters {
    const NAME: &'static str = "letters";
    fn wants(&self) -> Vec<Item> {
        vec![Item::types(self.wants).unwrap()]
    }
    fn react(&self, _: &Recorded, _: Uuid) -> Result<(), String> {
        self.told.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_program_that_wants_more_is_not_offered_what_the_one_before_passed_over() {
    for with_runner in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let told = Arc::new(AtomicU32::new(0));
        let open = |wants: &'static [&'static str]| {
            let conn = reopen(&Options::new(), dir.path().join("db"));
            conn.register_reactor(Letters { wants, told: told.clone() }).unwrap();
            conn
        };
        let conn = open(&["Shipped"]);
        let placed = (0..300).fold(Append::to("order-1"), |a, _| a.event("Placed", "{}").unwrap());
        conn.append(placed).unwrap();
        if with_runner {
            let runner = conn.run_processes();
            soon("all is looked at", || conn.processes().unwrap()[0].lag == 0);
            drop(runner);
        } else {
            drain(&conn);
            conn.close();
        }
        drop(conn);
        let conn = open(&["Placed"]);
        drain(&conn);
        assert_eq!(told.load(Ordering::SeqCst), 0, "no letters about old orders");
        conn.append(Append::to("order-2").event("Placed", "{}").unwrap()).unwrap();
        drain(&conn);
        assert_eq!(told.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_program_that_wants_more_after_a_crash_does_what_was_left_to_do_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(AtomicU32::new(0));
    let open = |wants: &'static [&'static str]| {
        let conn = reopen(&Options::new(), dir.path().join("db"));
        conn.register_reactor(Letters { wants, told: told.clone() }).unwrap();
        conn
    };
    let add = |conn: &Connection, ty: &str, n: usize| {
        let all = (0..n).fold(Append::to("order-1"), |a, _| a.event(ty, "{}").unwrap());
        conn.append(all).unwrap();
    };
    let conn = open(&["Shipped"]);
    add(&conn, "Placed", 300);
    drain(&conn);
    add(&conn, "Shipped", 1);
    // Neither closed nor run by a runner: nothing is stored of how far it has looked.
    drop(conn);
    let conn = open(&["Placed", "Shipped"]);
    drain(&conn);
    assert_eq!(told.load(Ordering::SeqCst), 1, "the shipment, and none of the old orders");
    add(&conn, "Placed", 1);
    drain(&conn);
    assert_eq!(told.load(Ordering::SeqCst), 2);
}

/// Does not know what it wants, until it is told.
struct Undecided(Arc<AtomicU32>);
impl Reactor for Undecided {
    const NAME: &'static str = "undecided";
    fn wants(&self) -> Vec<Item> {
        assert!(self.0.load(Ordering::SeqCst) > 0, "who knows");
        vec![]
    }
    fn react(&self, _: &Recorded, _: Uuid) -> Result<(), String> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_reactor_that_panics_over_what_it_wants_waits_and_is_asked_again() {
    let hand = Hand::at(NOON);
    let conn = hand.options().in_memory().unwrap();
    let decided = Arc::new(AtomicU32::new(0));
    conn.register_reactor(Undecided(decided.clone())).unwrap();
    conn.append(Append::to("s-1").event("Begun", "{}").unwrap()).unwrap();
    let runner = conn.run_processes();
    soon("it is seen to fail", || {
        let state = conn.processes().unwrap()[0].state.clone();
        matches!(state, ProcessState::Waiting { why, .. } if why == "wants panicked: who knows")
    });
    decided.store(1, Ordering::SeqCst);
    conn.resume_process("undecided").unwrap();
    soon("it goes on", || decided.load(Ordering::SeqCst) == 2);
    drop(runner);
    assert_eq!(conn.processes().unwrap()[0].lag, 0);
}

#[test]
fn timers_that_a_halted_process_holds_back_are_in_nobodys_way_and_a_restart_tries_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::at(NOON);
    let mended = Arc::new(AtomicU32::new(0));
    let open = |mended: &Arc<AtomicU32>| {
        let conn = reopen(&hand.options(), dir.path().join("db"));
        conn.register_commands::<Order>().unwrap();
        conn.register_process(Picky(mended.clone())).unwrap();
        conn.register_process(OrderProcess).unwrap();
        conn
    };
    let conn = open(&mended);
    for n in 0..300 {
        conn.append(Append::to(format!("s-{n}")).event("Begun", "{}").unwrap()).unwrap();
    }
    conn.append(Append::to("s-0").event("Bad", "{}").unwrap()).unwrap();
    conn.append(Append::to("order-1").push(OrderEvent::OrderPlaced { total: 1 }.to_new().unwrap())).unwrap();
    drain(&conn);
    let halted =
        |conn: &Connection| matches!(conn.processes().unwrap()[0].state, ProcessState::Halted { .. });
    assert!(halted(&conn));
    assert_eq!(conn.timers().unwrap().len(), 301);
    hand.set(NOON + 2 * DAY);
    drain(&conn);
    assert_eq!(conn.timers().unwrap().len(), 300, "that of the other process has fired");
    drop(conn);
    // Being halted is not stored: a restart tries the event again, and halts at it again.
    let conn = open(&mended);
    assert_eq!(conn.processes().unwrap()[0].state, ProcessState::Running);
    drain(&conn);
    assert!(halted(&conn));
    assert_eq!(conn.timers().unwrap().len(), 300, "and nothing of it has happened meanwhile");
    drop(conn);
    mended.store(1, Ordering::SeqCst);
    let conn = open(&mended);
    drain(&conn);
    assert!(!halted(&conn) && conn.timers().unwrap().is_empty());
}

#[test]
fn a_step_names_what_it_did() {
    let conn = annals::in_memory().unwrap();
    conn.register_commands::<Account>().unwrap();
    conn.register_process(Transfer).unwrap();
    transfer(&conn, 1, "a", "b", 5);
    assert!(matches!(conn.step_processes().unwrap(), Some(Step::Took { process: "transfer", .. })));
    assert!(matches!(conn.step_processes().unwrap(), Some(Step::Decided(_))));
    assert_eq!(conn.step_processes().unwrap(), None);
}

// The dynamic consistency boundary: the seven examples, each as a race.

fn tagged(conn: &Connection, tag: &str) -> usize {
    conn.db().query("[:find ?e :in $ ?t :where [?e :event/tag ?t]]", (tag,)).unwrap().rows.len()
}
/// Runs `n` of a thing at once; how many were done, and the codes of the refusals.
fn race<E: std::error::Error + Send>(
    n: usize,
    f: impl Fn(usize) -> Result<annals::event::Dispatched, DispatchError<E>> + Sync,
) -> (usize, Vec<String>) {
    let barrier = Barrier::new(n);
    let answers: Vec<_> = std::thread::scope(|s| {
        let all: Vec<_> = (0..n)
            .map(|i| {
                let (f, barrier) = (&f, &barrier);
                s.spawn(move || {
                    barrier.wait();
                    f(i).map_err(|e| e.code().to_owned())
                })
            })
            .collect();
        all.into_iter().map(|a| a.join().unwrap()).collect()
    });
    let done = answers.iter().filter(|a| a.is_ok()).count();
    (done, answers.into_iter().filter_map(Result::err).collect())
}

const TAGGED: &str = "[:find ?e :in $ ?tag ?type :where [?e :event/tag ?tag] [?e :event/type ?type]]";

macro_rules! happenings {
    ($name:ident { $($variant:ident { $($field:ident : $ty:ty),* } => $tags:expr;)* }) => {
        #[derive(Clone, Debug, Serialize, Deserialize)]
        enum $name { $($variant { $($field: $ty),* }),* }
        impl Event for $name {
            const TYPES: &'static [(&'static str, u32)] = &[$((stringify!($variant), 1)),*];
            #[allow(unused_variables, reason = "not every tag needs every field")]
            fn tags(&self) -> Vec<String> {
                match self { $($name::$variant { $($field),* } => $tags),* }
            }
        }
    };
}

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum No {
    #[error("the course is full")]
    Full,
    #[error("the student has too many courses")]
    TooMany,
    #[error("the name is taken")]
    Taken,
    #[error("no such token")]
    UnknownToken,
    #[error("the token was used")]
    Used,
    #[error("the price is not valid any more")]
    OldPrice,
    #[error("it is recorded already")]
    Duplicate,
}

happenings!(Course {
    CourseDefined { course: String, capacity: usize } => vec![format!("course:{course}")];
    Subscribed { course: String, student: String } => vec![format!("course:{course}"), format!("student:{student}")];
});

#[derive(Serialize)]
struct Subscribe {
    course: String,
    student: String,
}
impl Decision for Subscribe {
    const NAME: &'static str = "subscription";
    type Event = Course;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Course)>, No> {
        let capacity = "[:find (max ?n) . :in $ ?tag :where [?e :event/tag ?tag] [?e :event/type \"CourseDefined\"] [?e :event/data ?d] [(get ?d :capacity) ?n]]";
        let course = format!("course:{}", self.course);
        let Some(Value::Long(capacity)) = cx.db.scalar(capacity, (course.as_str(),)) else {
            return Err(No::Full);
        };
        if cx.db.count(TAGGED, (course.as_str(), "Subscribed")) as i64 >= capacity {
            return Err(No::Full);
        }
        if cx.db.count(TAGGED, (format!("student:{}", self.student), "Subscribed")) >= 2 {
            return Err(No::TooMany);
        }
        let e = Course::Subscribed { course: self.course.clone(), student: self.student.clone() };
        Ok(vec![(format!("student-{}", self.student), e)])
    }
}

#[test]
fn dcb_1_course_subscription_holds_both_limits_under_a_race() {
    let conn = annals::in_memory().unwrap();
    for (course, capacity) in [("logic", 3), ("music", 99), ("dance", 99)] {
        let e = Course::CourseDefined { course: course.into(), capacity }.to_new().unwrap();
        conn.append(Append::to(format!("course-{course}")).push(e)).unwrap();
    }
    let subscribe = |course: &str, student: String| {
        conn.decide(&Subscribe { course: course.into(), student }, Dispatch::new().retry(100))
    };
    let (done, refused) = race(12, |i| subscribe("logic", format!("s{i}")));
    assert_eq!((done, refused.len()), (3, 9));
    assert!(refused.iter().all(|c| c == "subscription/full"), "{refused:?}");
    // One student, many courses: two at most, whichever they are.
    let (done, refused) = race(6, |i| subscribe(["music", "dance"][i % 2], "ann".into()));
    assert_eq!(done, 2);
    assert!(refused.iter().all(|c| c == "subscription/too-many"), "{refused:?}");
    // Another course does not get in the way: nobody had to decide twice for it.
    let before = conn.command_stats().conflicts;
    subscribe("music", "ben".into()).unwrap();
    assert_eq!(conn.command_stats().conflicts, before);
}

happenings!(User {
    UserRegistered { name: String } => vec![format!("username:{name}")];
    UserLeft { name: String } => vec![format!("username:{name}")];
});
#[derive(Serialize)]
struct Register {
    name: String,
    user: usize,
}
impl Decision for Register {
    const NAME: &'static str = "users";
    type Event = User;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, User)>, No> {
        // Read as events: the condition is then by tag, and costs an index lookup.
        let said = cx
            .db
            .events(vec![annals::event::Item::tags([format!("username:{}", self.name)]).expect("a tag")]);
        match said.last().map(|e| e.ty()) {
            Some("UserRegistered") => Err(No::Taken),
            _ => Ok(vec![(format!("user-{}", self.user), User::UserRegistered { name: self.name.clone() })]),
        }
    }
}

#[test]
fn dcb_2_a_username_is_unique_and_free_again_when_its_user_has_left() {
    let conn = annals::in_memory().unwrap();
    let register = |user: usize| conn.decide(&Register { name: "ada".into(), user }, Dispatch::new());
    let (done, refused) = race(16, register);
    assert_eq!((done, refused.len()), (1, 15));
    assert!(refused.iter().all(|c| c == "users/taken"), "{refused:?}");
    conn.append(Append::to("user-0").push(User::UserLeft { name: "ada".into() }.to_new().unwrap())).unwrap();
    register(99).unwrap();
    assert_eq!(tagged(&conn, "username:ada"), 3);
}

happenings!(Invoice {
    InvoiceIssued { number: i64 } => vec!["invoice".to_owned()];
});
#[derive(Serialize)]
struct Issue(usize);
impl Decision for Issue {
    const NAME: &'static str = "invoices";
    type Event = Invoice;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Invoice)>, No> {
        let last = cx.db.scalar("[:find (max ?n) . :where [?e :event/type \"InvoiceIssued\"] [?e :event/data ?d] [(get ?d :number) ?n]]", ());
        let number = match last {
            Some(Value::Long(n)) => n + 1,
            _ => 1,
        };
        Ok(vec![(format!("invoice-{number}"), Invoice::InvoiceIssued { number })])
    }
}

#[test]
fn dcb_3_invoice_numbers_have_no_gaps_and_no_doubles() {
    let conn = annals::in_memory().unwrap();
    let (done, _) = race(8, |i| {
        let issue = |n| conn.decide(&Issue(i * 10 + n), Dispatch::new().retry(1000));
        (0..5).map(issue).collect::<Result<Vec<_>, _>>().map(|mut five| five.remove(4))
    });
    assert_eq!(done, 8);
    let (all, _) = conn.db().events().all(&[], annals::event::Position::ZERO, 1000).unwrap();
    let numbers: Vec<i64> = all
        .iter()
        .map(|e| match e.read().unwrap() {
            Invoice::InvoiceIssued { number } => number,
        })
        .collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
}

happenings!(OptIn {
    OptInAsked { token: String, mail: String } => vec![format!("token:{token}")];
    OptInConfirmed { token: String } => vec![format!("token:{token}")];
});
#[derive(Serialize)]
struct Confirm {
    token: String,
}
impl Decision for Confirm {
    const NAME: &'static str = "opt-in";
    type Event = OptIn;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, OptIn)>, No> {
        let tag = format!("token:{}", self.token);
        if cx.db.count(TAGGED, (tag.as_str(), "OptInAsked")) == 0 {
            return Err(No::UnknownToken);
        }
        if cx.db.count(TAGGED, (tag.as_str(), "OptInConfirmed")) > 0 {
            return Err(No::Used);
        }
        Ok(vec![(format!("optin-{}", self.token), OptIn::OptInConfirmed { token: self.token.clone() })])
    }
}

#[test]
fn dcb_4_an_opt_in_token_is_used_once_and_must_have_been_given() {
    let conn = annals::in_memory().unwrap();
    let confirm = |token: &str| conn.decide(&Confirm { token: token.into() }, Dispatch::new());
    assert_eq!(confirm("x").unwrap_err().code(), "opt-in/unknown-token");
    conn.append(
        Append::to("optin-x")
            .push(OptIn::OptInAsked { token: "x".into(), mail: "a@b".into() }.to_new().unwrap()),
    )
    .unwrap();
    let (done, refused) = race(8, |_| confirm("x"));
    assert_eq!(done, 1);
    assert!(refused.iter().all(|c| c == "opt-in/used"), "{refused:?}");
}

happenings!(Price {
    PriceSet { product: String, price: i64 } => vec![format!("product:{product}")];
    Ordered { product: String, price: i64 } => vec![format!("ordered:{product}")];
});
/// The customer saw a price. The old one is honoured for ten minutes after a change.
#[derive(Serialize)]
struct Buy {
    product: String,
    seen: i64,
}
impl Decision for Buy {
    const NAME: &'static str = "prices";
    type Event = Price;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Price)>, No> {
        let said = cx
            .db
            .events(vec![annals::event::Item::tags([format!("product:{}", self.product)]).expect("a tag")]);
        let prices: Vec<(i64, Instant)> = said
            .iter()
            .filter_map(|e| match e.read() {
                Ok(Price::PriceSet { price, .. }) => Some((price, e.recorded_at)),
                _ => None,
            })
            .collect();
        let valid = prices.iter().enumerate().any(|(i, (price, _))| {
            let replaced = prices.get(i + 1).map(|(_, at)| *at);
            *price == self.seen && replaced.is_none_or(|at| cx.now.0 - at.0 <= 600_000_000)
        });
        if !valid {
            return Err(No::OldPrice);
        }
        let e = Price::Ordered { product: self.product.clone(), price: self.seen };
        Ok(vec![(format!("orders-{}", self.product), e)])
    }
}

#[test]
fn dcb_5_a_changed_price_is_honoured_for_ten_minutes() {
    let hand = Hand::at(NOON);
    let conn = hand.options().in_memory().unwrap();
    let set = |price| {
        let e = Price::PriceSet { product: "lamp".into(), price }.to_new().unwrap();
        conn.append(Append::to("product-lamp").push(e)).unwrap();
    };
    let buy = |seen| {
        conn.decide(&Buy { product: "lamp".into(), seen }, Dispatch::new()).map_err(|e| e.code().to_owned())
    };
    set(100);
    buy(100).unwrap();
    hand.set(NOON + 1_000_000);
    set(120);
    hand.set(NOON + 300_000_000);
    buy(100).unwrap();
    buy(120).unwrap();
    hand.set(NOON + 700_000_000);
    assert_eq!(buy(100).unwrap_err(), "prices/old-price");
    buy(120).unwrap();
    assert_eq!(buy(99).unwrap_err(), "prices/old-price");
    // That others order meanwhile is no change of the price: nobody decides twice.
    let (done, _) =
        race(8, |_| conn.decide(&Buy { product: "lamp".into(), seen: 120 }, Dispatch::new().retry(0)));
    assert_eq!((done, conn.command_stats().conflicts), (8, 0));
}

happenings!(Record {
    Recorded_ { key: String } => vec![format!("record:{key}")];
});
#[derive(Serialize)]
struct Note {
    key: String,
}
impl Decision for Note {
    const NAME: &'static str = "records";
    type Event = Record;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Record)>, No> {
        if cx.db.count("[:find ?e :in $ ?tag :where [?e :event/tag ?tag]]", (format!("record:{}", self.key),))
            > 0
        {
            return Err(No::Duplicate);
        }
        Ok(vec![("log-1".into(), Record::Recorded_ { key: self.key.clone() })])
    }
}

#[test]
fn dcb_6_a_record_sent_twice_is_recorded_once() {
    let conn = annals::in_memory().unwrap();
    let (done, refused) =
        race(12, |i| conn.decide(&Note { key: format!("k{}", i % 3) }, Dispatch::new().retry(100)));
    assert_eq!(done, 3);
    assert!(refused.iter().all(|c| c == "records/duplicate"), "{refused:?}");
    // The same client, sending the same again under its own id, is answered what it was answered.
    let again = |n| conn.decide(&Note { key: "own".into() }, Dispatch::id(command(n).0));
    assert!(!again(1).unwrap().is_replay());
    assert!(again(1).unwrap().is_replay());
    assert_eq!(again(2).unwrap_err().code(), "records/duplicate");
}

/// An aggregate, said as a decision: its boundary is the events of its tag.
#[derive(Serialize)]
struct Pay {
    account: String,
    amount: i64,
}
happenings!(Ledger {
    Paid { account: String, amount: i64 } => vec![format!("account:{account}")];
});
impl Decision for Pay {
    const NAME: &'static str = "ledger";
    type Event = Ledger;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Ledger)>, No> {
        let of = annals::event::Item::tags([format!("account:{}", self.account)]).expect("a tag");
        let balance: i64 = cx
            .db
            .events(vec![of])
            .iter()
            .filter_map(|e| e.read().ok())
            .map(|Ledger::Paid { amount, .. }| amount)
            .sum();
        if balance + self.amount < 0 {
            return Err(No::TooMany);
        }
        let e = Ledger::Paid { account: self.account.clone(), amount: self.amount };
        Ok(vec![(format!("ledger-{}", self.account), e)])
    }
}

#[test]
fn dcb_7_an_aggregate_as_a_decision_is_never_overdrawn() {
    let conn = annals::in_memory().unwrap();
    let pay = |account: &str, amount| {
        conn.decide(&Pay { account: account.into(), amount }, Dispatch::new().retry(100))
    };
    pay("a", 100).unwrap();
    let (done, refused) = race(16, |_| pay("a", -30));
    assert_eq!((done, refused.len()), (3, 13));
    assert!(refused.iter().all(|c| c == "ledger/too-many"), "{refused:?}");
}

// What a late projection says is not what the rule read.

#[derive(Serialize)]
struct Late<'a> {
    #[serde(skip)]
    conn: &'a Connection,
    #[serde(skip)]
    runs: &'a AtomicU32,
}
happenings!(Closing {
    Closed { sum: i64 } => vec![];
});
impl Decision for Late<'_> {
    const NAME: &'static str = "closing";
    type Event = Closing;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Closing)>, No> {
        let sum = cx.db.scalar("[:find (sum ?n) . :with ?e :where [?e :entry/amount ?n]]", ());
        if self.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            // The facts of an event from before the decision come now, under that event's t.
            self.conn.catch_up("entries").unwrap();
        }
        let sum = if let Some(Value::Long(n)) = sum { n } else { 0 };
        Ok(vec![("closing-1".into(), Closing::Closed { sum })])
    }
}

#[test]
fn facts_that_a_late_projection_files_under_the_past_make_a_rule_decide_again() {
    const ENTRIES: &str = r#"
    {:projection/name :entries :projection/mode :async
     :projection/schema [{:db/ident :entry/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                         {:db/ident :entry/amount :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
     :projection/on [{:event "Entered" :assert [{:entry/id (str $id) :entry/amount $data.amount}]}]}"#;
    let conn = annals::in_memory().unwrap();
    conn.add_projection(ENTRIES).unwrap();
    conn.append(Append::to("book-1").event("Entered", r#"{"amount": 40}"#).unwrap()).unwrap();
    let runs = AtomicU32::new(0);
    conn.decide(&Late { conn: &conn, runs: &runs }, Dispatch::new()).unwrap();
    assert_eq!(runs.into_inner(), 2);
    let closed = conn.db().events().stream(&StreamId::new("closing-1").unwrap(), Version(1), 9).unwrap();
    let Closing::Closed { sum } = closed[0].read().unwrap();
    assert_eq!((closed.len(), sum), (1, 40));
}
