//! Driving process managers, timers, queued commands and reactors: step by step, or
//! in a thread.
//!
//! 1. One step is one transaction (and, of a reactor, the effect before it). Whoever
//!    stops between two steps goes on with the next one.
//! 2. Order of a step: events for processes, then timers that are due, then the queue,
//!    then reactors. So a timer does not fire before the events stored by then are taken.
//! 3. Steps are made one at a time, whoever makes them: states, timers and checkpoints
//!    have one writer.
//! 4. What fails waits and is tried again: twice the pause each time, from 100 ms to a
//!    minute, by the connection's clock. A process that faults halts until it is resumed
//!    or registered by another run of the program.

use super::{
    append::AppendError,
    command::{CommandOutcome, CommandStatus},
    dispatch::{CommandError, DispatchError, Extra, Refusal},
    domain::Trouble,
    id::{CommandId, EventId, Position},
    outbox::{self, Queued, gone},
    process::{self, AnyProcess, ProcessError, Work, checkpoint, checkpoint_key},
    reactor::AnyReactor,
    table::{self, Key},
    timer,
};
use crate::{Connection, DbError, ErrorClass};
use annals_model::{Instant, Value};
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Events of one step of a runner.
const BATCH: usize = 64;
/// Longest sleep of a runner that nobody wakes.
const SLEEP: Duration = Duration::from_secs(60);
/// How often a runner looks at the clock while a timer or a retry is due.
const TICK: Duration = Duration::from_millis(500);

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A process took events up to a position.
    Took {
        /// The process.
        process: &'static str,
        /// The last event it has looked at.
        upto: Position,
    },
    /// A process halted at an event it could not take.
    Halted {
        /// The process.
        process: &'static str,
        /// The event.
        at: Position,
    },
    /// A timer fired: its command is in the queue.
    Fired {
        /// The process.
        process: String,
        /// The instance.
        instance: String,
        /// The timer.
        name: String,
    },
    /// A queued command was decided: done or rejected.
    Decided(CommandId),
    /// A queued command failed and waits.
    Delayed(CommandId),
    /// A reactor has done what an event asks for.
    Reacted {
        /// The reactor.
        reactor: &'static str,
        /// The event; none when it looked at events that it does not want.
        event: Option<EventId>,
    },
    /// A reactor failed and waits.
    Failed {
        /// The reactor.
        reactor: &'static str,
        /// The event.
        at: Position,
    },
}

/// Where a process or reactor stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessStatus {
    /// Its name.
    pub name: &'static str,
    /// It is a reactor, else a process manager.
    pub is_reactor: bool,
    /// The last event it has looked at.
    pub position: Position,
    /// Events it has still to look at.
    pub lag: u64,
    /// Instances of a process.
    pub instances: u64,
    /// How it fares.
    pub state: ProcessState,
}

/// How a process or reactor fares.
#[derive(Clone, Debug, PartialEq)]
pub enum ProcessState {
    /// It takes events as they come.
    Running,
    /// It stopped at an event, until it is resumed.
    Halted {
        /// The event.
        at: Position,
        /// What went wrong.
        why: String,
    },
    /// A reactor waits before it tries an event again.
    Waiting {
        /// The event.
        at: Position,
        /// What went wrong.
        why: String,
        /// How often it was tried.
        attempts: u32,
        /// When it is tried again.
        retry_at: Instant,
    },
}

impl Connection {
    /// Makes one step of one event, timer or command, in this thread: for tests, and for
    /// programs with a loop of their own. None when there is nothing to do now.
    ///
    /// # Errors
    /// A database that cannot be read or written. Faults of processes, commands and
    /// reactors are not errors here: they are in what [`Connection::processes`] and
    /// [`Connection::queued_commands`] list.
    pub fn step_processes(&self) -> Result<Option<Step>, ProcessError> {
        self.step(1)
    }

    /// Drives processes, timers, queued commands and reactors in a thread, until what is
    /// returned is dropped.
    pub fn run_processes(&self) -> ProcessRunner {
        let stop = Arc::new(AtomicBool::new(false));
        let trouble = Arc::new(Mutex::new(None));
        let (conn, stopped, said) = (self.clone(), stop.clone(), trouble.clone());
        let thread = std::thread::Builder::new()
            .name("annals-processes".into())
            .spawn(move || conn.run(&stopped, &said))
            .map_err(|e| *trouble.lock() = Some(e.to_string()))
            .ok();
        ProcessRunner { conn: self.clone(), stop, thread, trouble }
    }

    /// Every process and reactor of this program.
    pub fn processes(&self) -> Result<Vec<ProcessStatus>, DbError> {
        let domain = &self.shared().events().domain;
        let log = self.db().events();
        let head = log.head()?;
        let mut all = Vec::new();
        let names = domain.processes().iter().map(|p| (p.name(), false)).collect::<Vec<_>>();
        let reactors = domain.reactors().iter().map(|r| (r.name(), true)).collect::<Vec<_>>();
        for (name, is_reactor) in names.into_iter().chain(reactors) {
            let position = checkpoint(&log.tables, name)?;
            all.push(ProcessStatus {
                name,
                is_reactor,
                position,
                lag: head.0.saturating_sub(position.0),
                instances: if is_reactor { 0 } else { process::instances(&log.tables, name)? },
                state: domain.state(name),
            });
        }
        Ok(all)
    }

    /// Lets a halted process, or a reactor that waits, try again now.
    pub fn resume_process(&self, name: &str) -> Result<(), ProcessError> {
        let events = self.shared().events();
        if !events.domain.knows(name) {
            return Err(ProcessError::Unknown(name.to_owned()));
        }
        events.domain.set_state(name, ProcessState::Running);
        events.announce();
        Ok(())
    }

    fn step(&self, batch: usize) -> Result<Option<Step>, ProcessError> {
        let events = self.shared().events().clone();
        let _one = events.domain.stepping.lock();
        for p in events.domain.processes().iter() {
            if let Some(step) = self.step_process(p, batch)? {
                return Ok(Some(step));
            }
        }
        if let Some(step) = self.step_timer()? {
            return Ok(Some(step));
        }
        if let Some(step) = self.step_queue()? {
            return Ok(Some(step));
        }
        for r in events.domain.reactors().iter() {
            if let Some(step) = self.step_reactor(&**r)? {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    /// Commits rows made for the transaction that will hold them.
    fn commit_rows(
        &self,
        rows: impl FnOnce(annals_model::T) -> Result<Vec<annals_storage::Row>, DbError> + Send + 'static,
    ) -> Result<(), AppendError> {
        self.write(move |txn| -> Result<(), AppendError> {
            for row in rows(txn.t())? {
                txn.row(row);
            }
            Ok(())
        })?;
        self.shared().events().announce();
        Ok(())
    }

    fn step_process(&self, p: &Arc<dyn AnyProcess>, batch: usize) -> Result<Option<Step>, ProcessError> {
        let domain = &self.shared().events().domain;
        if domain.state(p.name()) != ProcessState::Running {
            return Ok(None);
        }
        let log = self.db().events();
        let after = checkpoint(&log.tables, p.name())?;
        if after >= log.head()? {
            return Ok(None);
        }
        let (found, mut upto) = log.all(&p.wants(), after, batch)?;
        let mut work = Work::new(log.tables.clone(), p.name());
        let mut halted = None;
        for parts in found.chunk_by(|a, b| a.position == b.position) {
            // Faults leave no trace of the event: what came before it is kept.
            let mut next = work.clone();
            let taken = parts.iter().try_for_each(|e| p.take(e, &mut next));
            match taken {
                Ok(()) => work = next,
                Err(e) => {
                    let at = parts[0].position;
                    upto = Position(at.0 - 1);
                    halted = Some(at);
                    domain.set_state(p.name(), ProcessState::Halted { at, why: e.to_string() });
                    break;
                }
            }
        }
        let name = p.name();
        if upto > after {
            self.commit_rows(move |t| {
                let mut rows = work.rows(t, 0)?;
                rows.push(table::put(table::COUNTER, checkpoint_key(name), table::number(upto.0)));
                Ok(rows)
            })?;
        }
        Ok(Some(match halted {
            Some(at) => Step::Halted { process: name, at },
            None => Step::Took { process: name, upto },
        }))
    }

    fn step_timer(&self) -> Result<Option<Step>, ProcessError> {
        let tables = self.db().events().tables;
        let Some((when, id)) = timer::next(&tables)? else { return Ok(None) };
        if when > self.shared().now() {
            return Ok(None);
        }
        let timer = timer::find(&tables, &id)?;
        let fired = id.clone();
        self.commit_rows(move |t| {
            let mut rows = timer::change(&tables, &id, None)?;
            if let Some(timer) = timer {
                rows.extend(timer.send.rows(&tables, t, 0)?);
            }
            Ok(rows)
        })?;
        Ok(Some(Step::Fired { process: fired.process, instance: fired.instance, name: fired.name }))
    }

    fn step_queue(&self) -> Result<Option<Step>, ProcessError> {
        let domain = &self.shared().events().domain;
        let now = self.shared().now();
        let mut held = HashSet::new();
        for (key, queued) in outbox::all(&self.db().events().tables)? {
            let to = (queued.to.category.clone(), queued.to.id.clone());
            if held.contains(&to) {
                continue;
            }
            if domain.trouble(queued.id).is_some_and(|t| t.retry_at > now) {
                held.insert(to);
                continue;
            }
            let id = queued.id;
            return match self.send(key, &queued) {
                Ok(()) => {
                    domain.set_trouble(id, None);
                    Ok(Some(Step::Decided(id)))
                }
                Err(DispatchError::Append(AppendError::Db(e))) if e.class() != ErrorClass::Damaged => {
                    Err(e.into())
                }
                Err(DispatchError::Append(AppendError::Transact(e))) if is_closing(e.class()) => {
                    Err(AppendError::Transact(e).into())
                }
                Err(e) => {
                    let attempts = domain.trouble(id).map_or(0, |t| t.attempts) + 1;
                    let trouble = Trouble {
                        code: Arc::from(e.code()),
                        message: Arc::from(e.to_string()),
                        attempts,
                        retry_at: later(now, attempts),
                    };
                    domain.set_trouble(id, Some(trouble));
                    Ok(Some(Step::Delayed(id)))
                }
            };
        }
        Ok(None)
    }

    /// Carries out a queued command and takes it out of the queue, in one transaction.
    fn send(&self, key: Vec<u8>, queued: &Queued) -> Result<(), CommandError> {
        let d = queued.dispatch();
        let on_refusal = |refusal: &Refusal| self.refused(queued, refusal);
        let rows = vec![gone(table::OUTBOX, key.clone())];
        let extra = Extra { rows, on_refusal: Some(&on_refusal) };
        let e = match self.handler(&queued.to.category)?.carry_out(self, &queued.to, &d, extra) {
            Ok(done) if !done.is_replay() => return Ok(()),
            Err(DispatchError::Rejected { replayed: false, .. }) => return Ok(()),
            // It was decided another way while it waited: nothing is left to do.
            Ok(_) | Err(DispatchError::Rejected { .. } | DispatchError::RejectedBefore(_)) => {
                self.commit_rows(move |_| Ok(vec![gone(table::OUTBOX, key)]))?;
                return Ok(());
            }
            Err(e) => e,
        };
        if !is_for_good(&e) {
            return Err(e);
        }
        // It can never succeed: that is its outcome.
        let refusal = Refusal { code: e.code().to_owned(), message: e.to_string(), detail: Value::Nil };
        let status = CommandStatus::Rejected {
            code: Arc::from(refusal.code.as_str()),
            message: Arc::from(refusal.message.as_str()),
            detail: Value::Nil,
        };
        let digest = queued.to.digest(queued.if_version)?;
        let outcome =
            CommandOutcome { keep_until: queued.keep_until, ..CommandOutcome::of(queued.id, digest, status) };
        let mut rows = self.refused(queued, &refusal)?;
        rows.push(table::put(table::COMMAND, Key::new().bytes(queued.id.0.as_bytes()), outcome.encode()?));
        rows.push(gone(table::OUTBOX, key));
        self.commit_rows(move |_| Ok(rows))?;
        Ok(())
    }

    /// What the process that sent a command makes of its refusal.
    fn refused(&self, queued: &Queued, refusal: &Refusal) -> Result<Vec<annals_storage::Row>, DbError> {
        let domain = &self.shared().events().domain;
        let Some((process, instance)) = &queued.sender else { return Ok(Vec::new()) };
        let Some(p) = domain.processes().iter().find(|p| p.name() == process.as_str()).cloned() else {
            return Ok(Vec::new());
        };
        let log = self.db().events();
        let mut work = Work::new(log.tables.clone(), p.name());
        if let Err(e) = p.refused(instance, queued, refusal, &mut work) {
            let at = checkpoint(&log.tables, p.name())?;
            domain.set_state(p.name(), ProcessState::Halted { at, why: e.to_string() });
            return Ok(Vec::new());
        }
        work.rows(log.t().next(), 0)
    }

    fn step_reactor(&self, r: &dyn AnyReactor) -> Result<Option<Step>, ProcessError> {
        let domain = &self.shared().events().domain;
        let now = self.shared().now();
        let mut attempts = 0;
        match domain.state(r.name()) {
            ProcessState::Running => {}
            ProcessState::Waiting { retry_at, .. } if retry_at > now => return Ok(None),
            ProcessState::Waiting { attempts: n, .. } => attempts = n,
            ProcessState::Halted { .. } => return Ok(None),
        }
        let log = self.db().events();
        let after = checkpoint(&log.tables, r.name())?;
        if after >= log.head()? {
            return Ok(None);
        }
        let (found, upto) = log.all(&r.wants(), after, 1)?;
        let name = r.name();
        for e in &found {
            if let Err(why) = r.react(e) {
                let (at, attempts) = (e.position, attempts + 1);
                let retry_at = later(now, attempts);
                domain.set_state(name, ProcessState::Waiting { at, why, attempts, retry_at });
                return Ok(Some(Step::Failed { reactor: name, at }));
            }
        }
        self.commit_rows(move |_| {
            Ok(vec![table::put(table::COUNTER, checkpoint_key(name), table::number(upto.0))])
        })?;
        domain.set_state(name, ProcessState::Running);
        Ok(Some(Step::Reacted { reactor: name, event: found.first().map(|e| e.id()) }))
    }

    fn run(&self, stop: &AtomicBool, trouble: &Mutex<Option<String>>) {
        let events = self.shared().events().clone();
        let over = || stop.load(Ordering::Acquire) || events.closed.load(Ordering::Acquire);
        while !over() {
            let beat = events.beat();
            match self.step(BATCH) {
                Ok(Some(_)) => *trouble.lock() = None,
                Ok(None) => {
                    events.wait_unless(beat, self.pause(), &over);
                }
                Err(e) => {
                    *trouble.lock() = Some(e.to_string());
                    events.wait_unless(beat, TICK, &over);
                }
            }
        }
    }

    /// How long a runner may sleep when nobody wakes it.
    fn pause(&self) -> Duration {
        let domain = &self.shared().events().domain;
        let timers = timer::next(&self.db().events().tables).is_ok_and(|t| t.is_none());
        if timers && !domain.has_trouble() { SLEEP } else { TICK }
    }
}

fn is_closing(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Poisoned | ErrorClass::Environment | ErrorClass::Locked)
}

/// Can the command never succeed as it is?
fn is_for_good(e: &CommandError) -> bool {
    use super::aggregate::LoadError;
    matches!(
        e,
        DispatchError::WrongVersion { .. }
            | DispatchError::Load(LoadError::Tombstoned(_) | LoadError::Name(_))
            | DispatchError::Append(AppendError::Tombstoned(_))
    )
}

fn later(now: Instant, attempts: u32) -> Instant {
    let pause = 100_000i64 << attempts.min(10).saturating_sub(1);
    Instant(now.0.saturating_add(pause.min(60_000_000)))
}

/// Drives processes and reactors until it is dropped.
#[must_use = "it stops when it is dropped"]
pub struct ProcessRunner {
    conn: Connection,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl ProcessRunner {
    /// What the last step failed with, if it failed; it is tried again.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

impl Drop for ProcessRunner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.conn.shared().events().announce();
        if let Some(thread) = self.thread.take() {
            // A panic in a step is a fault of this crate; it has been printed.
            let _ = thread.join();
        }
    }
}
