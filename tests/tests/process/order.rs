//! A21, S54: the order example, stopped between any two steps.

use super::*;

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
            .args(["--exact", "order::a21_child_plays_until_it_aborts"])
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
