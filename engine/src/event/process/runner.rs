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

use crate::event::{
    append::AppendError,
    id::Position,
    process::{AnyProcess, ProcessError, Work, checkpoint, checkpoint_key},
    reactor::AnyReactor,
    status::{ProcessState, Step},
    table,
    timer::{self, Look},
};
use crate::{Connection, DbError};
use annals_model::Instant;
use hashbrown::HashMap;
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

    pub(super) fn step(&self, batch: usize) -> Result<Option<Step>, ProcessError> {
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
    pub(super) fn commit_rows(
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
        let mut work = Work::new(log.clone(), p.name());
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
        let timer = timer::find(&log, &id)?;
        let fired = id.clone();
        self.commit_rows(move |t| {
            let mut rows = timer::change(&log, &id, None)?;
            if let Some(timer) = timer {
                rows.extend(timer.send.rows(&log, t, 0)?);
            }
            Ok(rows)
        })?;
        Ok(Some(Step::Fired { process: fired.process, instance: fired.instance, name: fired.name }))
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

/// When to try again after so many attempts.
pub(super) fn later(now: Instant, attempts: u32) -> Instant {
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
