//! Reactors: at least once under one key, never by a rebuild, in nobody's way.

use super::*;

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
