//! Subscriptions as asynchronous streams, for events and for transactions: the promises of the
//! blocking ones (A9, A10, A12), on an executor of a few lines that polls a task only when it
//! was woken. A lost wake-up would leave such a task asleep, and the test would fail by its clock.

use annals::{
    Connection, Options, T,
    event::{Append, EventStream, Feed, Item, NewEvent, Position, Start, Stream},
};
use serde_json::json;
use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant as Clock},
};

/// Longest run of a test that works.
const PATIENCE: Duration = Duration::from_secs(120);

/// A task's alarm: set when it is to be polled, and the thread that polls it.
struct Alarm {
    rings: AtomicBool,
    count: AtomicU64,
    thread: Thread,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rings.store(true, Ordering::Release);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// Something that is polled until it is done.
type Task<'a> = Box<dyn FnMut(&mut Context<'_>) -> Poll<()> + 'a>;

/// Polls every task that was woken, until each has said that it is done.
fn run(tasks: &mut [Task<'_>]) -> Vec<u64> {
    let alarm = || Alarm { rings: true.into(), count: AtomicU64::new(0), thread: std::thread::current() };
    let alarms: Vec<Arc<Alarm>> = tasks.iter().map(|_| Arc::new(alarm())).collect();
    let mut done = vec![false; tasks.len()];
    let until = Clock::now() + PATIENCE;
    while done.contains(&false) {
        for (n, task) in tasks.iter_mut().enumerate() {
            if done[n] || !alarms[n].rings.swap(false, Ordering::AcqRel) {
                continue;
            }
            let waker = Waker::from(alarms[n].clone());
            done[n] = task(&mut Context::from_waker(&waker)).is_ready();
        }
        let asleep = |a: &Arc<Alarm>| !a.rings.load(Ordering::Acquire);
        if alarms.iter().all(asleep) && done.contains(&false) {
            assert!(
                Clock::now() < until,
                "asleep: {:?} of {} done",
                done.iter().filter(|d| **d).count(),
                done.len()
            );
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }
    alarms.iter().map(|a| a.count.load(Ordering::Relaxed)).collect()
}

/// Polls once, without anybody to be woken.
fn now<S: Stream>(stream: Pin<&mut S>) -> Poll<Option<S::Item>> {
    stream.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn event(n: u64) -> NewEvent {
    NewEvent::new(if n.is_multiple_of(10) { "Tenth" } else { "Other" }, json!({ "n": n })).unwrap()
}

fn append(conn: &Connection, stream: &str, count: u64) {
    let a = (0..count).fold(Append::to(stream), |a, n| a.push(event(n)));
    conn.append(a).unwrap();
}

fn events(conn: &Connection, start: Start) -> EventStream {
    conn.subscribe(vec![], start).unwrap().into_stream()
}

#[test]
fn a9_fifty_streams_on_one_thread_see_every_event_once_in_order_while_four_append() {
    fn may_move_between_threads<S: Send + 'static>(_: &S) {}
    const EACH: u64 = 1_000;
    let conn = annals::in_memory().unwrap();
    append(&conn, "before-1", 37);
    let total = 37 + 4 * EACH;
    std::thread::scope(|s| {
        for writer in 0..4 {
            let conn = conn.clone();
            s.spawn(move || {
                let mut left = EACH;
                while left > 0 {
                    let batch = (left % 7 + 1).min(left);
                    append(&conn, &format!("writer-{writer}"), batch);
                    left -= batch;
                }
            });
        }
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for joins_after in 0..50u64 {
            let after = Position(joins_after * 11 % 37);
            let mut stream = events(&conn, Start::After(after));
            may_move_between_threads(&stream);
            let (mut seen, mut caught_up) = (after.0, false);
            tasks.push(Box::new(move |cx| {
                while let Poll::Ready(item) = pin!(&mut stream).poll_next(cx) {
                    match item.expect("it is not closed").unwrap() {
                        Feed::Event(e) => {
                            assert_eq!(e.position.0, seen + 1, "no gap and no repeat");
                            seen = e.position.0;
                            caught_up = false;
                        }
                        Feed::CaughtUp(p) => {
                            assert_eq!(p.0, seen);
                            assert!(!caught_up, "said once until there is more");
                            caught_up = true;
                        }
                        Feed::Checkpoint(p) => assert_eq!(p.0, seen),
                    }
                }
                if seen == total && caught_up { Poll::Ready(()) } else { Poll::Pending }
            }));
        }
        run(&mut tasks);
    });
    assert_eq!(conn.db().events().head().unwrap().0, total);
}

#[test]
fn a10_a_stream_that_is_not_polled_holds_nobody_up_misses_nothing_and_resumes_where_it_stood() {
    let conn = annals::in_memory().unwrap();
    let mut stream = events(&conn, Start::Beginning);
    assert!(matches!(now(pin!(&mut stream)), Poll::Ready(Some(Ok(Feed::CaughtUp(Position(0)))))));
    assert!(now(pin!(&mut stream)).is_pending());
    for n in 0..50 {
        append(&conn, &format!("s-{n}"), 100);
    }
    for n in 1..=1_234 {
        let Poll::Ready(Some(Ok(Feed::Event(e)))) = now(pin!(&mut stream)) else { panic!("event {n}") };
        assert_eq!(e.position.0, n);
    }
    // What was read ahead and not handed out is read again.
    drop(stream);
    let mut stream = events(&conn, Start::After(Position(1_234)));
    for n in 1_235..=5_000 {
        let Poll::Ready(Some(Ok(Feed::Event(e)))) = now(pin!(&mut stream)) else { panic!("event {n}") };
        assert_eq!(e.position.0, n);
    }
    assert!(matches!(now(pin!(&mut stream)), Poll::Ready(Some(Ok(Feed::CaughtUp(Position(5_000)))))));
    assert!(now(pin!(&mut stream)).is_pending());
    assert_eq!(stream.position(), Position(5_000));
    // And from there as a blocking iterator.
    append(&conn, "s-1", 1);
    let mut blocking = stream.into_blocking();
    let next = blocking.next_within(Duration::from_secs(20)).unwrap();
    assert!(matches!(next, Some(Feed::Event(e)) if e.position == Position(5_001)));
}

#[test]
fn a12_a_filtered_streams_checkpoint_moves_without_a_match() {
    let conn = annals::in_memory().unwrap();
    append(&conn, "s-1", 10_000);
    let tenth = Item::types(["Tenth"]).unwrap();
    let mut stream = conn.subscribe(vec![tenth], Start::After(Position(9_991))).unwrap().into_stream();
    assert!(matches!(now(pin!(&mut stream)), Poll::Ready(Some(Ok(Feed::Checkpoint(Position(10_000)))))));
    assert!(matches!(now(pin!(&mut stream)), Poll::Ready(Some(Ok(Feed::CaughtUp(_))))));
    assert!(now(pin!(&mut stream)).is_pending());
}

#[test]
fn a_stream_is_polled_when_something_was_stored_and_ends_with_the_database() {
    let conn = annals::in_memory().unwrap();
    let mut stream = events(&conn, Start::Now);
    let (mut polls, mut seen) = (0u64, 0u64);
    let woken = std::thread::scope(|s| {
        let writer = conn.clone();
        s.spawn(move || {
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(60));
                append(&writer, "s-1", 1);
            }
            std::thread::sleep(Duration::from_millis(60));
            writer.close();
        });
        let task: Task<'_> = Box::new(|cx| {
            polls += 1;
            loop {
                match pin!(&mut stream).poll_next(cx) {
                    Poll::Ready(Some(Ok(Feed::Event(_)))) => seen += 1,
                    Poll::Ready(Some(item)) => drop(item.unwrap()),
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        run(&mut [task])[0]
    });
    assert_eq!(seen, 5);
    assert!(polls <= woken + 1, "{polls} polls for {woken} wake-ups");
    assert!(woken <= 12, "woken {woken} times by 5 appends and a close");
}

#[test]
fn transactions_come_as_a_stream_once_each_also_to_who_lags_and_resumes() {
    let conn = Options::new().listener_capacity(4).in_memory().unwrap();
    let mut stream = conn.listen().into_stream();
    assert!(now(pin!(&mut stream)).is_pending());
    for n in 0..300 {
        conn.transact(format!("[{{:db/ident :color/c{n}}}]").as_str()).unwrap();
    }
    for n in 1..=150 {
        let Poll::Ready(Some(Ok(report))) = now(pin!(&mut stream)) else { panic!("transaction {n}") };
        assert_eq!(report.t(), T(n));
    }
    assert_eq!(stream.position(), T(151));
    drop(stream);
    let mut stream = conn.listen_from(T(151)).into_stream();
    let mut next = 151;
    std::thread::scope(|s| {
        let writer = conn.clone();
        s.spawn(move || {
            for n in 300..400 {
                writer.transact(format!("[{{:db/ident :color/c{n}}}]").as_str()).unwrap();
            }
            writer.close();
        });
        let task: Task<'_> = Box::new(|cx| {
            loop {
                match pin!(&mut stream).poll_next(cx) {
                    Poll::Ready(Some(report)) => {
                        assert_eq!(report.unwrap().t(), T(next));
                        next += 1;
                    }
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        run(&mut [task]);
    });
    assert_eq!(next, 401);
}

#[test]
fn a_position_is_what_was_handed_out_and_not_what_was_read() {
    let conn = annals::in_memory().unwrap();
    for n in 0..3 {
        conn.append(Append::to("s").event("E", &json!({"n": n})).unwrap()).unwrap();
    }
    // A page holds all three; one is taken.
    let mut first = conn.subscribe(vec![], Start::Beginning).unwrap();
    let Some(Ok(Feed::Event(e))) = first.next() else { panic!("an event") };
    assert_eq!((e.position, first.position()), (Position(1), Position(1)));
    let mut rest = pin!(conn.subscribe(vec![], Start::After(first.position())).unwrap().into_stream());
    let mut cx = Context::from_waker(Waker::noop());
    for expected in [2, 3] {
        let Poll::Ready(Some(Ok(Feed::Event(e)))) = rest.as_mut().poll_next(&mut cx) else {
            panic!("an event")
        };
        assert_eq!((e.position, rest.position()), (Position(expected), Position(expected)));
    }
}
