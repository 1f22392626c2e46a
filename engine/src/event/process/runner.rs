//! Driving process managers, timers, queued commands and reactors: step by step, or in threads.
//!
//! 1. One thread makes the steps of processes, timers and the queue; each reactor has a thread of
//!    its own, also one that is registered later. What hangs in one of them holds up no other.
//! 2. They sleep until something is stored, and look at the clock only while a timer or a
//!    retry is due.
//! 3. Dropping the runner ends them between two steps, and stores how far they have looked. A reactor that is in the middle of an effect
//!    is waited for `GRACE`; then it is left to end by itself, with the database open until it does.
//!
//! Not here: what a step is (`step`, `send`).

use crate::Connection;
use crate::event::{
    domain::ReactorSeat,
    process::ProcessError,
    registry::Events,
    status::{ProcessState, Step},
    step::Reactors,
    timer,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant as Clock},
};

/// Events of one step of a runner.
const BATCH: usize = 64;
/// Longest sleep of a runner that nobody wakes.
const SLEEP: Duration = Duration::from_secs(60);
/// How often a runner looks at the clock while a timer or a retry is due.
const TICK: Duration = Duration::from_millis(500);
/// How long a reactor in the middle of an effect is waited for when its runner is dropped.
const GRACE: Duration = Duration::from_secs(5);

impl Connection {
    /// Makes one step of one event, timer or command, in this thread: for tests, and for
    /// programs with a loop of their own. None when there is nothing to do now.
    ///
    /// # Errors
    /// A database that cannot be read or written. Faults of processes, commands and
    /// reactors are not errors here: they are in what [`Connection::processes`] and
    /// [`Connection::queued_commands`] list.
    pub fn step_processes(&self) -> Result<Option<Step>, ProcessError> {
        self.step(1, Reactors::Here)
    }

    /// Drives processes, timers and queued commands in a thread, and each reactor in one of its own,
    /// until what is returned is dropped.
    pub fn run_processes(&self) -> ProcessRunner {
        let shared: Arc<Shared> = Arc::default();
        let (conn, own) = (self.clone(), shared.clone());
        let main = spawn("annals-processes", &shared, move || conn.run(&own));
        ProcessRunner { conn: self.clone(), shared, main }
    }

    fn run(&self, shared: &Arc<Shared>) {
        let events = self.shared().events().clone();
        while !shared.is_over(&events) {
            let beat = events.beat();
            self.run_reactors(shared);
            match self.step(BATCH, Reactors::Apart) {
                Ok(Some(_)) => shared.well(MAIN),
                Ok(None) => events.wait_unless(beat, self.pause(), &|| shared.is_over(&events)),
                Err(e) => {
                    shared.ill(MAIN, e.to_string());
                    events.wait_unless(beat, TICK, &|| shared.is_over(&events));
                }
            }
        }
    }

    /// A thread for each reactor that has none, or none any more.
    fn run_reactors(&self, shared: &Arc<Shared>) {
        let mut threads = shared.reactors.lock();
        for seat in self.shared().events().domain.reactors().iter() {
            let name = seat.reactor.name();
            if threads.get(name).is_some_and(|t| !t.is_finished()) {
                continue;
            }
            let (conn, own, seat) = (self.clone(), shared.clone(), seat.clone());
            if let Some(t) = spawn("annals-reactor", shared, move || conn.run_reactor(&seat, &own)) {
                threads.insert(name, t);
            }
        }
    }

    fn run_reactor(&self, seat: &ReactorSeat, shared: &Shared) {
        let (events, name) = (self.shared().events().clone(), seat.reactor.name());
        while !shared.is_over(&events) {
            let beat = events.beat();
            let pause = match self.step_reactor(seat) {
                Ok(Some(Step::Failed { .. })) => TICK,
                Ok(Some(_)) => {
                    shared.well(name);
                    continue;
                }
                Ok(None) if events.domain.state(name) == ProcessState::Running => SLEEP,
                Ok(None) => TICK,
                Err(e) => {
                    shared.ill(name, e.to_string());
                    TICK
                }
            };
            events.wait_unless(beat, pause, &|| shared.is_over(&events));
        }
    }

    /// How long a runner may sleep when nobody wakes it.
    fn pause(&self) -> Duration {
        let domain = &self.shared().events().domain;
        let tables = self.db().events().tables;
        let ticks = |name| timer::next(&tables, name).map_or(true, |t| t.is_some());
        match domain.has_trouble() || domain.processes().iter().any(|p| ticks(p.name())) {
            true => TICK,
            false => SLEEP,
        }
    }
}

/// Under which the trouble of the thread of processes, timers and the queue is kept.
const MAIN: &str = "";

/// What the threads of one runner share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// What the last step of a thread failed with.
    troubles: Mutex<BTreeMap<&'static str, String>>,
    reactors: Mutex<BTreeMap<&'static str, JoinHandle<()>>>,
}

impl Shared {
    fn is_over(&self, events: &Events) -> bool {
        self.stop.load(Ordering::Acquire) || events.closed.load(Ordering::Acquire)
    }
    fn ill(&self, who: &'static str, why: String) {
        self.troubles.lock().insert(who, why);
    }
    fn well(&self, who: &'static str) {
        self.troubles.lock().remove(who);
    }
}

fn spawn(name: &'static str, shared: &Shared, f: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(f);
    thread.map_err(|e| shared.ill(name, e.to_string())).ok()
}

/// Drives processes and reactors until it is dropped. A reactor in the middle of an effect is then
/// waited for five seconds, and left to end by itself.
#[must_use = "it stops when it is dropped"]
pub struct ProcessRunner {
    conn: Connection,
    shared: Arc<Shared>,
    main: Option<JoinHandle<()>>,
}

impl ProcessRunner {
    /// What the last step failed with, if it failed; it is tried again.
    pub fn trouble(&self) -> Option<String> {
        self.shared.troubles.lock().values().next().cloned()
    }
}

impl Drop for ProcessRunner {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.conn.shared().events().announce();
        if let Some(main) = self.main.take() {
            // A panic in a step is a fault of this crate; it has been printed.
            let _ = main.join();
        }
        let until = Clock::now() + GRACE;
        for (_, thread) in std::mem::take(&mut *self.shared.reactors.lock()) {
            while !thread.is_finished() && Clock::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
        // Where it cannot be written, as in a database that is closed, it is looked at again.
        let _ = self.conn.keep_places();
    }
}
