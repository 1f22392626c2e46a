//! What a connection knows of the domain: the handlers of its commands, the
//! commands being carried out, and what was counted. None of it is stored.
//!
//! 1. A category has one handler; a second is an error when it is registered.
//! 2. One command is carried out at a time under one id: who sends it again
//!    meanwhile waits and is answered the stored outcome, or, when that takes long, that
//!    it is being carried out. That saves work; what makes it happen once is the commit.

use crate::event::{
    door::Handler,
    id::{CommandId, Position},
    process::AnyProcess,
    reactor::AnyReactor,
    status::ProcessState,
    timer::TimerId,
};
use annals_model::Instant;
use hashbrown::{HashMap, HashSet};
use parking_lot::{Condvar, Mutex, RwLock};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant as Clock},
};

/// Longest wait for the same command in another thread: who waits holds a thread of its caller.
const WAIT: Duration = Duration::from_secs(5);

/// The domain's code as registered with one connection.
#[derive(Default)]
pub(crate) struct Domain {
    pub handlers: RwLock<BTreeMap<&'static str, Arc<dyn Handler>>>,
    running: Mutex<HashSet<CommandId>>,
    done: Condvar,
    pub counts: Counts,
    processes: RwLock<Arc<Vec<Arc<dyn AnyProcess>>>>,
    reactors: RwLock<Arc<Vec<Arc<ReactorSeat>>>>,
    /// How far processes and reactors have looked, when more than is stored.
    looked: Mutex<HashMap<String, Position>>,
    /// Instances of processes that ended because of an erasure.
    ended: Mutex<HashMap<String, u64>>,
    /// Those that do not run; the others do.
    states: Mutex<HashMap<String, ProcessState>>,
    /// Queued commands that failed and wait.
    troubles: Mutex<HashMap<CommandId, Trouble>>,
    /// Steps of processes, timers and the queue are made one at a time.
    pub stepping: Mutex<()>,
    /// Whose turn it is to be looked at first in the next step.
    pub turn: AtomicUsize,
    /// How far a process must get before its timers that are due may fire.
    fences: Mutex<HashMap<String, Fence>>,
}

/// A reactor, which is told of one event at a time.
pub(crate) struct ReactorSeat {
    pub reactor: Box<dyn AnyReactor>,
    /// Held while it is told.
    pub one: Mutex<()>,
}

/// A timer that was seen due, and the newest event at that moment.
struct Fence {
    timer: TimerId,
    when: Instant,
    upto: Position,
}

/// Why a queued command waits.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub code: Arc<str>,
    pub message: Arc<str>,
    pub attempts: u32,
    pub retry_at: Instant,
}

/// What has happened to commands since the database was opened.
#[derive(Default)]
pub(crate) struct Counts {
    pub dispatched: AtomicU64,
    pub done: AtomicU64,
    pub rejected: AtomicU64,
    pub replayed: AtomicU64,
    pub conflicts: AtomicU64,
    pub gave_up: AtomicU64,
}

impl Counts {
    /// One more.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Holds a command as running until dropped.
pub(crate) struct Running<'d> {
    domain: &'d Domain,
    id: CommandId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.domain.running.lock().remove(&self.id);
        self.domain.done.notify_all();
    }
}

impl Domain {
    /// Marks a command as running; waits while another thread is at it. None when that takes long.
    pub fn run(&self, id: CommandId) -> Option<Running<'_>> {
        let until = Clock::now() + WAIT;
        let mut running = self.running.lock();
        while running.contains(&id) {
            if self.done.wait_until(&mut running, until).timed_out() {
                return None;
            }
        }
        running.insert(id);
        Some(Running { domain: self, id })
    }

    /// Is a thread of this process carrying it out?
    pub fn is_running(&self, id: CommandId) -> bool {
        self.running.lock().contains(&id)
    }

    /// Is a process or reactor of this name registered?
    pub fn knows(&self, name: &str) -> bool {
        self.processes().iter().any(|p| p.name() == name)
            || self.reactors().iter().any(|r| r.reactor.name() == name)
    }

    /// The names of all processes and reactors.
    pub fn names(&self) -> Vec<&'static str> {
        let (processes, reactors) = (self.processes(), self.reactors());
        processes.iter().map(|p| p.name()).chain(reactors.iter().map(|r| r.reactor.name())).collect()
    }

    /// Adds a process; its name, when it is in use.
    pub fn add_process(&self, p: Arc<dyn AnyProcess>) -> Result<(), &'static str> {
        let mut held = self.processes.write();
        if held.iter().any(|x| x.name() == p.name()) {
            return Err(p.name());
        }
        let mut next = held.to_vec();
        next.push(p);
        *held = Arc::new(next);
        Ok(())
    }

    /// Adds a reactor; its name, when it is in use.
    pub fn add_reactor(&self, r: Box<dyn AnyReactor>) -> Result<(), &'static str> {
        let mut held = self.reactors.write();
        if held.iter().any(|x| x.reactor.name() == r.name()) {
            return Err(r.name());
        }
        let mut next = held.to_vec();
        next.push(Arc::new(ReactorSeat { reactor: r, one: Mutex::new(()) }));
        *held = Arc::new(next);
        Ok(())
    }

    pub fn processes(&self) -> Arc<Vec<Arc<dyn AnyProcess>>> {
        self.processes.read().clone()
    }

    pub fn reactors(&self) -> Arc<Vec<Arc<ReactorSeat>>> {
        self.reactors.read().clone()
    }

    /// How far a process or reactor has looked, given what is stored of it.
    pub fn looked(&self, name: &str, stored: Position) -> Position {
        self.looked.lock().get(name).map_or(stored, |p| stored.max(*p))
    }

    /// Notes how far it has looked.
    pub fn note_looked(&self, name: &str, upto: Position) {
        let mut looked = self.looked.lock();
        match looked.get_mut(name) {
            Some(p) => *p = upto,
            None => {
                looked.insert(name.to_owned(), upto);
            }
        }
    }

    /// How many instances of a process ended because of an erasure.
    pub fn ended(&self, name: &str) -> u64 {
        self.ended.lock().get(name).copied().unwrap_or(0)
    }

    /// Notes that so many more did.
    pub fn note_ended(&self, name: &str, more: u64) {
        if more > 0 {
            *self.ended.lock().entry(name.to_owned()).or_default() += more;
        }
    }

    /// Is this a process of this program that takes events?
    pub fn runs(&self, process: &str) -> bool {
        self.processes().iter().any(|p| p.name() == process) && self.state(process) == ProcessState::Running
    }

    /// How a process or reactor fares.
    pub fn state(&self, name: &str) -> ProcessState {
        self.states.lock().get(name).cloned().unwrap_or(ProcessState::Running)
    }

    pub fn set_state(&self, name: &str, state: ProcessState) {
        let mut states = self.states.lock();
        match state {
            ProcessState::Running => states.remove(name),
            state => states.insert(name.to_owned(), state),
        };
    }

    /// May a timer that is due fire, with its process at `at` and the newest event at `head`?
    /// Not before the process has taken all that was stored when this was asked first, so that
    /// neither a payment in time is overlooked nor a busy log holds timers back for ever.
    pub fn may_fire(&self, timer: &TimerId, when: Instant, at: Position, head: Position) -> bool {
        let mut fences = self.fences.lock();
        let seen = fences.get(&timer.process).filter(|f| f.timer == *timer && f.when == when);
        let upto = seen.map_or(head, |f| f.upto);
        if at >= upto {
            fences.remove(&timer.process);
            return true;
        }
        fences.insert(timer.process.clone(), Fence { timer: timer.clone(), when, upto });
        false
    }

    /// Why a queued command waits, if it does.
    pub fn trouble(&self, id: CommandId) -> Option<Trouble> {
        self.troubles.lock().get(&id).cloned()
    }

    pub fn set_trouble(&self, id: CommandId, trouble: Option<Trouble>) {
        let mut troubles = self.troubles.lock();
        match trouble {
            Some(t) => troubles.insert(id, t),
            None => troubles.remove(&id),
        };
    }

    /// Lets queued commands that wait for one reason be tried again at once.
    pub fn retry_those(&self, code: &str) {
        for t in self.troubles.lock().values_mut().filter(|t| &*t.code == code) {
            t.retry_at = Instant(i64::MIN);
        }
    }

    /// Does anything wait for the clock to go on?
    pub fn has_trouble(&self) -> bool {
        let waits = |s: &ProcessState| matches!(s, ProcessState::Waiting { .. });
        !self.troubles.lock().is_empty() || self.states.lock().values().any(waits)
    }
}
