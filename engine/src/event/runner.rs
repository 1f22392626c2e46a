//! Driving process managers, timers, queued commands and reactors: step by step, or
//! in a thread.
//!
//! 1. One step is one transaction (and, of a reactor, the effect before it). Whoever
//!    stops between two steps goes on with the next one.
//! 2. Processes, timers, the queue and reactors have their turns in a round, so that a
//!    backlog of one does not keep the others waiting. A timer does not fire before its
//!    process has taken the events stored when it was seen due, nor while that is halted,
//!    waits to be registered, or is behind.
//! 3. Steps are made one at a time, whoever makes them: states, timers and checkpoints
//!    have one writer.
//! 4. What fails waits and is tried again: twice the pause each time, from 100 ms to a
//!    minute, by the connection's clock. A process that faults halts until it is resumed
//!    or registered by another run of the program.

use super::{
    append::AppendError,
    command::{CommandOutcome, CommandStatus},
    dispatch::{CommandError, DispatchError, Extra, Refusal, UNHEARD, Unheard},
    domain::Trouble,
    id::{CommandId, EventId, Position},
    outbox::{self, Queued, gone},
    process::{self, AnyProcess, Fault, ProcessError, Work, checkpoint, checkpoint_key},
    reactor::AnyReactor,
    table::{self, Key},
    timer::{self, Look},
};
use crate::{Connection, DbError, ErrorClass};
use annals_model::{Instant, Value};
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// The code of a command that was dropped from the queue.
const DROPPED: &str = "command/dropped";
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
        events.domain.retry_those(UNHEARD);
        events.announce();
        Ok(())
    }

    fn step(&self, batch: usize) -> Result<Option<Step>, ProcessError> {
        let events = self.shared().events().clone();
        let _one = events.domain.stepping.lock();
        let (processes, reactors) = (events.domain.processes(), events.domain.reactors());
        let (timers, queue) = (processes.len(), processes.len() + 1);
        let all = queue + 1 + reactors.len();
        // Whoever made the last step is looked at last.
        let first = events.domain.turn.load(Ordering::Relaxed);
        for n in 0..all {
            let who = first.wrapping_add(n) % all;
            let step = match who {
                n if n < timers => self.step_process(&processes[n], batch),
                n if n == timers => self.step_timer(),
                n if n == queue => self.step_queue(),
                n => self.step_reactor(&*reactors[n - queue - 1]),
            };
            if !matches!(step, Ok(None)) {
                events.domain.turn.store(who + 1, Ordering::Relaxed);
                return step;
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
        let (log, now) = (self.db().events(), self.shared().now());
        let domain = &self.shared().events().domain;
        let (tables, head) = (log.tables.clone(), log.head()?);
        let mut asked: HashMap<String, bool> = HashMap::new();
        let mut failed = None;
        let due = timer::first(&tables, &mut |when, id| {
            if when > now {
                return Look::End;
            }
            let may = *asked.entry_ref(id.process.as_str()).or_insert_with(|| {
                if !domain.runs(&id.process) {
                    return false;
                }
                match checkpoint(&tables, &id.process) {
                    Ok(at) => domain.may_fire(id, when, at, head),
                    Err(e) => {
                        failed = Some(e);
                        false
                    }
                }
            });
            match (may, &failed) {
                (_, Some(_)) => Look::End,
                (true, _) => Look::Take,
                (false, _) => Look::PassOver,
            }
        })?;
        if let Some(e) = failed {
            return Err(e.into());
        }
        let Some(id) = due else { return Ok(None) };
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
        // Behind a command that waits, those for the same aggregate wait too.
        let mut held = HashSet::new();
        let ready = outbox::first(&self.db().events().tables, &mut |q: &Queued| {
            let to = (q.to.category.clone(), q.to.id.clone());
            if domain.trouble(q.id).is_some_and(|t| t.retry_at > now) {
                held.insert(to);
                return false;
            }
            !held.contains(&to)
        })?;
        let Some((key, queued)) = ready else { return Ok(None) };
        let id = queued.id;
        match self.send(key, &queued) {
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
        }
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
            // It was decided another way while it waited: only who sent it is to be told.
            Ok(_) | Err(DispatchError::Forgotten { .. }) => {
                self.commit_rows(move |_| Ok(vec![gone(table::OUTBOX, key)]))?;
                return Ok(());
            }
            Err(DispatchError::Rejected { error: refusal, .. } | DispatchError::RejectedBefore(refusal)) => {
                let mut rows = self.refused(queued, &refusal)?;
                rows.push(gone(table::OUTBOX, key));
                self.commit_rows(move |_| Ok(rows))?;
                return Ok(());
            }
            Err(e) => e,
        };
        if !is_for_good(&e) {
            return Err(e);
        }
        // It can never succeed: that is its outcome.
        let refusal = Refusal { code: e.code().to_owned(), message: e.to_string(), detail: Value::Nil };
        let told = self.refused(queued, &refusal)?;
        self.end_refused(key, queued, &refusal, told)
    }

    /// Takes a command out of the queue with a refusal as its outcome, and with rows for who
    /// sent it.
    fn end_refused(
        &self,
        key: Vec<u8>,
        queued: &Queued,
        refusal: &Refusal,
        told: Vec<annals_storage::Row>,
    ) -> Result<(), CommandError> {
        let status = CommandStatus::Rejected {
            code: Arc::from(refusal.code.as_str()),
            message: Arc::from(refusal.message.as_str()),
            detail: refusal.detail.clone(),
        };
        let (id, digest) = (queued.id, queued.to.digest(queued.if_version)?);
        let outcome =
            CommandOutcome { keep_until: queued.keep_until, ..CommandOutcome::of(id, digest, status) };
        let outcome = table::put(table::COMMAND, Key::new().bytes(id.0.as_bytes()), outcome.encode()?);
        let events = self.shared().events().clone();
        self.write(move |txn| -> Result<(), AppendError> {
            let stored = events.log(txn.db_before()).command(id)?;
            // The outcome of another request under this id stays, and one that somebody else came to.
            if stored.is_none_or(|s| s.request == digest && !s.status.is_final()) {
                txn.row(outcome);
            }
            for row in told {
                txn.row(row);
            }
            txn.row(gone(table::OUTBOX, key));
            Ok(())
        })?;
        self.shared().events().announce();
        Ok(())
    }

    /// Takes a command out of the queue without carrying it out, for `why`: one that can never
    /// succeed and holds up those behind it, say. Its outcome is a rejection with the code
    /// `command/dropped`, and the process that sent it is told, if it is registered and running.
    /// False when the command is not in the queue: it is decided, or was never there.
    ///
    /// # Errors
    /// The database cannot be read or written.
    ///
    /// ```
    /// use annals::{Value, event::{CommandRequest, CommandId, Dispatch}};
    ///
    /// let conn = annals::in_memory()?;
    /// assert!(!conn.drop_command(CommandId::fresh(), "nobody wants it")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drop_command(&self, id: CommandId, why: &str) -> Result<bool, CommandError> {
        let events = self.shared().events().clone();
        let _one = events.domain.stepping.lock();
        let Some((key, queued)) = outbox::first(&self.db().events().tables, &mut |q| q.id == id)? else {
            return Ok(false);
        };
        let refusal = Refusal { code: DROPPED.to_owned(), message: why.to_owned(), detail: Value::Nil };
        let told = match self.refused(&queued, &refusal) {
            Ok(rows) => rows,
            Err(Unheard::Sender { .. }) => Vec::new(),
            Err(Unheard::Db(e)) => return Err(e.into()),
        };
        self.end_refused(key, &queued, &refusal, told)?;
        events.domain.set_trouble(id, None);
        Ok(true)
    }

    /// What the process that sent a command makes of its refusal.
    fn refused(&self, queued: &Queued, refusal: &Refusal) -> Result<Vec<annals_storage::Row>, Unheard> {
        let domain = &self.shared().events().domain;
        let Some((process, instance)) = &queued.sender else { return Ok(Vec::new()) };
        let unheard = |why: String| Unheard::Sender { process: process.clone(), why };
        let Some(p) = domain.processes().iter().find(|p| p.name() == process.as_str()).cloned() else {
            return Err(unheard("it is not registered in this program".to_owned()));
        };
        if let ProcessState::Halted { at, why } = domain.state(p.name()) {
            return Err(unheard(format!("it halted at event {}: {why}", at.0)));
        }
        let log = self.db().events();
        let mut work = Work::new(log.tables.clone(), p.name());
        match p.refused(instance, queued, refusal, &mut work) {
            Ok(()) => Ok(work.rows(log.t().next(), 0)?),
            Err(Fault::Db(e)) => Err(e.into()),
            Err(e) => {
                let at = checkpoint(&log.tables, p.name())?;
                domain.set_state(p.name(), ProcessState::Halted { at, why: e.to_string() });
                Err(unheard(e.to_string()))
            }
        }
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
        let timer = timer::first(&self.db().events().tables, &mut |_, _| Look::Take);
        let none = timer.is_ok_and(|t| t.is_none());
        if none && !domain.has_trouble() { SLEEP } else { TICK }
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
            | DispatchError::Reused { .. }
            | DispatchError::UnknownCommand { .. }
            | DispatchError::BadPayload { .. }
            | DispatchError::Data(_)
            | DispatchError::Event(_)
            | DispatchError::Load(LoadError::Tombstoned(_) | LoadError::Name(_))
            | DispatchError::Append(AppendError::Tombstoned(_))
    ) || matches!(e, DispatchError::Append(AppendError::Db(e)) if e.class() == ErrorClass::Meaning)
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
