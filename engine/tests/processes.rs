//! Process managers when something is wrong: timers that must wait, refusals nobody can be
//! told yet, commands that can never be carried out, and backlogs.

use annals::{
    Connection, Instant, Options, Value,
    event::{
        Aggregate, Append, CommandStatus, CommandTo, Decide, Event, Item, LoadError, Out, Outgoing,
        ProcessManager, ProcessState, Recorded, Refusal, Route, Start, Step, StreamId, Version,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

const DAY: i64 = 86_400_000_000;

/// A clock that the test sets.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);
impl Hand {
    fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }
    fn options(&self) -> Options {
        let hand = self.0.clone();
        Options::new().clock(move || Instant(hand.load(Ordering::SeqCst)))
    }
}

// Tickets: what processes send commands to.

#[derive(Default)]
struct Ticket {
    closed: bool,
}
#[derive(Clone, Serialize, Deserialize)]
enum Ask {
    Open,
    Close,
    Note { text: String },
}
#[derive(Serialize, Deserialize)]
enum Happened {
    Opened,
    Closed,
    Noted { text: String },
}
impl Event for Happened {
    const TYPES: &'static [(&'static str, u32)] = &[("Opened", 1), ("Closed", 1), ("Noted", 1)];
}
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
enum No {
    #[error("the ticket is closed")]
    IsClosed,
}
impl Aggregate for Ticket {
    const CATEGORY: &'static str = "ticket";
    type Command = Ask;
    type Event = Happened;
    type Error = No;
    fn apply(&mut self, e: &Happened) {
        self.closed |= matches!(e, Happened::Closed);
    }
    fn handle(&self, c: Ask, _: &Decide<'_>) -> Result<Vec<Happened>, No> {
        match c {
            Ask::Note { text } => Ok(vec![Happened::Noted { text }]),
            _ if self.closed => Err(No::IsClosed),
            Ask::Open => Ok(vec![Happened::Opened]),
            Ask::Close => Ok(vec![Happened::Closed]),
        }
    }
}

/// Does what its events say, so that each test shows what it is about.
struct Clerk {
    failing: Arc<AtomicBool>,
}
#[derive(Default, Serialize, Deserialize)]
struct Seen {
    events: u32,
}
impl Clerk {
    fn new(failing: &Arc<AtomicBool>) -> Clerk {
        Clerk { failing: failing.clone() }
    }
}
impl ProcessManager for Clerk {
    const NAME: &'static str = "clerk";
    type State = Seen;
    fn wants(&self) -> Vec<Item> {
        let types = ["Ordered", "Paid", "Poison", "Refuse", "Twice", "Nonsense", "Nobody"];
        let types = types.map(|t| annals::event::EventType::new(t).unwrap()).to_vec();
        vec![Item { types, tags: Vec::new() }]
    }
    fn start(&self) -> Start {
        Start::Beginning
    }
    fn route(&self, e: &Recorded) -> Vec<Route> {
        let key = e.stream.key().to_owned();
        match e.ty() {
            "Twice" => vec![Route::Start(key.clone()), Route::Stop(key)],
            _ => vec![Route::Start(key)],
        }
    }
    fn handle(&self, s: &Seen, e: &Recorded, out: &mut Out) {
        let key = e.stream.key();
        let raw = |category: &str, ty: &str| {
            let payload = Value::map([]);
            Outgoing::Command(CommandTo { category: category.into(), id: key.into(), ty: ty.into(), payload })
        };
        match e.ty() {
            "Ordered" => out.send_at::<Ticket>(Instant(DAY), "unpaid", key, &Ask::Close),
            "Paid" => out.cancel("unpaid"),
            "Poison" => assert!(!self.failing.load(Ordering::SeqCst), "it is poison"),
            "Refuse" => out.send::<Ticket>(key, &Ask::Open),
            "Twice" => out.send::<Ticket>(key, &Ask::Note { text: format!("after {}", s.events) }),
            "Nonsense" => {
                out.push(raw("ticket", "Eat"));
                out.push(raw("ticket", "Note"));
                out.send::<Ticket>(key, &Ask::Note { text: "behind".into() });
            }
            "Nobody" => out.push(raw("nobody", "Eat")),
            _ => {}
        }
    }
    fn apply(&self, s: &mut Seen, _: &Recorded) {
        s.events += 1;
    }
    fn rejected(&self, _: &Seen, command: &CommandTo, refusal: &Refusal, out: &mut Out) {
        assert!(!self.failing.load(Ordering::SeqCst), "it cannot take a refusal");
        out.send::<Ticket>("told", &Ask::Note { text: format!("{} {}", command.ty, refusal.code) });
    }
}

fn say(conn: &Connection, stream: &str, ty: &str) {
    conn.append(Append::to(stream).event(ty, "{}").unwrap()).unwrap();
}
fn drain(conn: &Connection) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = conn.step_processes().unwrap() {
        steps.push(step);
        assert!(steps.len() < 10_000, "it does not come to rest");
    }
    steps
}
fn types(conn: &Connection, stream: &str) -> Vec<String> {
    let all = conn.db().events().stream(&StreamId::new(stream).unwrap(), Version(1), 1000);
    all.unwrap_or_default().iter().map(|e| e.ty().to_owned()).collect()
}
fn texts(conn: &Connection, stream: &str) -> Vec<String> {
    let all = conn.db().events().stream(&StreamId::new(stream).unwrap(), Version(1), 1000);
    let text = |e: &Recorded| match e.event.data.value().unwrap().get(&Value::keyword("text")) {
        Some(Value::String(s)) => s.to_string(),
        other => panic!("{other:?}"),
    };
    all.unwrap_or_default().iter().map(text).collect()
}
fn clerk(path: &Path, hand: &Hand, failing: &Arc<AtomicBool>) -> Connection {
    let conn = hand.options().open(path).unwrap();
    conn.register_commands::<Ticket>().unwrap();
    conn.register_process(Clerk::new(failing)).unwrap();
    conn
}

#[test]
fn a_timer_waits_while_its_process_is_not_registered() {
    let (dir, hand, failing) = (tempfile::tempdir().unwrap(), Hand::default(), Arc::default());
    let path = dir.path().join("db");
    {
        let conn = clerk(&path, &hand, &failing);
        say(&conn, "order-1", "Ordered");
        drain(&conn);
        assert_eq!(conn.timers().unwrap().len(), 1);
    }
    {
        // A program without the process drives what it knows.
        let conn = hand.options().open(&path).unwrap();
        conn.register_commands::<Ticket>().unwrap();
        say(&conn, "order-1", "Paid");
        hand.set(2 * DAY);
        assert_eq!(drain(&conn), []);
        assert_eq!(conn.timers().unwrap().len(), 1);
    }
    let conn = clerk(&path, &hand, &failing);
    drain(&conn);
    assert!(conn.timers().unwrap().is_empty());
    assert_eq!(types(&conn, "ticket-1"), [""; 0], "it was paid");
}

#[test]
fn a_timer_waits_while_its_process_is_halted() {
    let (hand, failing) = (Hand::default(), Arc::new(AtomicBool::new(true)));
    let conn = hand.options().in_memory().unwrap();
    conn.register_commands::<Ticket>().unwrap();
    conn.register_process(Clerk::new(&failing)).unwrap();
    for ty in ["Ordered", "Poison", "Paid"] {
        say(&conn, "order-1", ty);
    }
    say(&conn, "order-2", "Ordered");
    hand.set(2 * DAY);
    drain(&conn);
    assert!(matches!(conn.processes().unwrap()[0].state, ProcessState::Halted { .. }));
    assert_eq!((conn.timers().unwrap().len(), conn.queued_commands().unwrap().len()), (1, 0));
    failing.store(false, Ordering::SeqCst);
    conn.resume_process("clerk").unwrap();
    drain(&conn);
    assert_eq!(types(&conn, "ticket-1"), [""; 0], "paid before its time was noticed");
    assert_eq!(types(&conn, "ticket-2"), ["Closed"]);
}

#[test]
fn a_timer_waits_for_the_events_stored_when_it_came_due_and_for_no_later_ones() {
    let (hand, failing) = (Hand::default(), Arc::default());
    let conn = hand.options().in_memory().unwrap();
    conn.register_commands::<Ticket>().unwrap();
    conn.register_process(Clerk::new(&failing)).unwrap();
    for order in ["order-1", "order-2"] {
        say(&conn, order, "Ordered");
    }
    drain(&conn);
    hand.set(2 * DAY);
    for _ in 0..5 {
        say(&conn, "other-1", "Poison");
    }
    say(&conn, "order-1", "Paid");
    // Whoever goes on writing does not hold the timer back.
    for n in 0.. {
        assert!(n < 100, "the timer never fires");
        if let Some(Step::Fired { instance, .. }) = conn.step_processes().unwrap() {
            assert_eq!(instance, "2");
            break;
        }
        say(&conn, "other-1", "Poison");
    }
    drain(&conn);
    assert_eq!((types(&conn, "ticket-1").len(), types(&conn, "ticket-2")), (0, vec!["Closed".into()]));
}

#[test]
fn a_backlog_of_one_process_keeps_neither_timers_nor_the_queue_waiting() {
    struct Slow;
    impl ProcessManager for Slow {
        const NAME: &'static str = "slow";
        type State = Seen;
        fn route(&self, _: &Recorded) -> Vec<Route> {
            Vec::new()
        }
        fn handle(&self, _: &Seen, _: &Recorded, _: &mut Out) {}
        fn apply(&self, _: &mut Seen, _: &Recorded) {}
    }
    let (hand, failing) = (Hand::default(), Arc::default());
    let conn = hand.options().in_memory().unwrap();
    conn.register_commands::<Ticket>().unwrap();
    conn.register_process(Slow).unwrap();
    conn.register_process(Clerk::new(&failing)).unwrap();
    say(&conn, "order-1", "Ordered");
    drain(&conn);
    for _ in 0..200 {
        say(&conn, "noise-1", "Noise");
    }
    hand.set(2 * DAY);
    let steps: Vec<_> = (0..12).map(|_| conn.step_processes().unwrap().unwrap()).collect();
    assert!(steps.iter().any(|s| matches!(s, Step::Fired { .. })), "{steps:?}");
    assert_eq!(types(&conn, "ticket-1"), ["Closed"], "{steps:?}");
    assert!(conn.processes().unwrap()[0].lag > 150);
}

#[test]
fn a_refusal_that_the_sender_cannot_take_is_kept_until_it_can() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let failing = Arc::new(AtomicBool::new(true));
    let path = dir.path().join("db");
    let conn = clerk(&path, &hand, &failing);
    conn.repository::<Ticket>().dispatch("1", Ask::Close, annals::event::Dispatch::new()).unwrap();
    say(&conn, "order-1", "Refuse");
    drain(&conn);
    assert!(matches!(conn.processes().unwrap()[0].state, ProcessState::Halted { .. }));
    let waiting = conn.queued_commands().unwrap();
    assert_eq!(waiting.len(), 1);
    let id = waiting[0].id;
    let failed = |conn: &Connection| match conn.command_status(id).unwrap().unwrap().status {
        CommandStatus::Failed { code, message, .. } => (code.to_string(), message.to_string()),
        other => panic!("{other:?}"),
    };
    let (code, message) = failed(&conn);
    assert_eq!(code, "command/unheard");
    assert!(message.contains("clerk") && message.contains("it cannot take a refusal"), "{message}");
    // A program without the process keeps it as well.
    drop(conn);
    let conn = hand.options().open(&path).unwrap();
    conn.register_commands::<Ticket>().unwrap();
    assert_eq!(drain(&conn), [Step::Delayed(id)]);
    assert_eq!(failed(&conn).0, "command/unheard");
    failing.store(false, Ordering::SeqCst);
    conn.register_process(Clerk::new(&failing)).unwrap();
    drain(&conn);
    assert!(conn.queued_commands().unwrap().is_empty());
    assert!(matches!(conn.command_status(id).unwrap().unwrap().status, CommandStatus::Rejected { .. }));
    assert_eq!(texts(&conn, "ticket-told"), ["Open ticket/is-closed"]);
}

#[test]
fn an_event_that_names_an_instance_twice_sends_two_commands() {
    let (hand, failing) = (Hand::default(), Arc::default());
    let conn = hand.options().in_memory().unwrap();
    conn.register_commands::<Ticket>().unwrap();
    conn.register_process(Clerk::new(&failing)).unwrap();
    say(&conn, "order-1", "Twice");
    conn.step_processes().unwrap();
    let ids: Vec<_> = conn.queued_commands().unwrap().iter().map(|q| q.id).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    drain(&conn);
    assert_eq!(texts(&conn, "ticket-1"), ["after 0", "after 1"]);
    assert_eq!(conn.process_state::<Clerk>("1").unwrap().map(|s| s.events), None, "and then it stops");
}

#[test]
fn a_command_that_can_never_be_carried_out_is_refused_and_holds_up_nobody() {
    let (hand, failing) = (Hand::default(), Arc::default());
    let conn = hand.options().in_memory().unwrap();
    conn.register_commands::<Ticket>().unwrap();
    conn.register_process(Clerk::new(&failing)).unwrap();
    say(&conn, "order-1", "Nonsense");
    drain(&conn);
    assert!(conn.queued_commands().unwrap().is_empty());
    assert_eq!(texts(&conn, "ticket-1"), ["behind"]);
    assert_eq!(texts(&conn, "ticket-told"), ["Eat command/unknown-type", "Note command/bad-payload"]);
}

#[test]
fn a_queued_command_can_be_dropped_and_its_sender_is_told() {
    let (hand, failing) = (Hand::default(), Arc::default());
    let conn = hand.options().in_memory().unwrap();
    conn.register_commands::<Ticket>().unwrap();
    conn.register_process(Clerk::new(&failing)).unwrap();
    say(&conn, "order-1", "Nobody");
    drain(&conn);
    let id = conn.queued_commands().unwrap()[0].id;
    assert!(conn.drop_command(id, "nobody will ever handle it").unwrap());
    assert!(conn.queued_commands().unwrap().iter().all(|q| q.id != id));
    let CommandStatus::Rejected { code, message, .. } = conn.command_status(id).unwrap().unwrap().status
    else {
        panic!()
    };
    assert_eq!((&*code, &*message), ("command/dropped", "nobody will ever handle it"));
    assert!(!conn.drop_command(id, "again").unwrap());
    drain(&conn);
    assert_eq!(texts(&conn, "ticket-told"), ["Eat command/dropped"]);
}

#[test]
fn an_aggregate_is_not_folded_from_what_a_retention_by_age_left_over() {
    let hand = Hand::default();
    let conn = hand.options().in_memory().unwrap();
    let tickets = conn.repository::<Ticket>();
    let ask = |c| tickets.dispatch("1", c, annals::event::Dispatch::new()).map(|d| d.version);
    ask(Ask::Close).unwrap();
    conn.retain(&StreamId::new("ticket-1").unwrap(), 0, 3600).unwrap();
    assert!(tickets.load("1").unwrap().state.closed);
    hand.set(DAY);
    say(&conn, "other-1", "Noise");
    let Err(LoadError::Retained { from, shown_from, .. }) = tickets.load("1").map(|l| l.state.closed) else {
        panic!("it is loaded without what is no longer shown")
    };
    assert_eq!((from, shown_from), (Version(1), Version(2)));
    assert_eq!(ask(Ask::Open).unwrap_err().code(), "event/retained");
}
