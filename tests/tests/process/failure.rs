//! How processes fail, wait and stop.

use super::*;

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
