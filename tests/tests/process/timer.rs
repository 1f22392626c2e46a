//! Timers: moved, cancelled, late, held back.

use super::*;

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
