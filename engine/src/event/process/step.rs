//! One step of a process, a timer, the queue or a reactor.
//!
//! 1. One step is at most one transaction (and, of a reactor, the effect before it). Whoever stops
//!    between two steps goes on with the next one.
//! 2. Processes, timers, the queue and reactors have their turns in a round, so that a
//!    backlog of one does not keep the others waiting. A timer does not fire before its
//!    process has taken the events stored when it was seen due, nor while that is halted,
//!    waits to be registered, or is behind.
//! 3. Steps of processes, timers and the queue are made one at a time, whoever makes them: states,
//!    timers and checkpoints have one writer. Each reactor has a lock of its own: one that hangs
//!    holds up nobody else.
//! 4. Events of which nothing follows are passed over without a transaction, but for one in
//!    `RARELY`. The place is stored when a runner is dropped and when the database is closed; after
//!    a crash at most so many are looked at again, by a program that is not offered what the one before
//!    did not want (`wants`). What has
//!    an effect, in the database or outside, moves the checkpoint at once.
//! 5. What fails waits and is tried again: twice the pause each time, from 100 ms to a
//!    minute, by the connection's clock. A process that faults halts until it is resumed
//!    or registered by another run of the program.

use crate::event::{
    append::AppendError,
    domain::ReactorSeat,
    id::Position,
    process::{AnyProcess, ProcessError, Work, checkpoint, checkpoint_key, guarded},
    status::{ProcessState, Step},
    table, timer,
    wants::Wants,
};
use crate::{Connection, DbError};
use annals_model::Instant;
use annals_storage::Row;
use std::sync::{Arc, atomic::Ordering};

/// Positions a process or reactor may look at without a word of it being stored.
const RARELY: u64 = 4_096;

/// Who drives reactors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reactors {
    /// Whoever makes the step.
    Here,
    /// Threads of their own.
    Apart,
}

impl Connection {
    /// The next step of whose turn it is; none when there is nothing to do now.
    pub(super) fn step(&self, batch: usize, who: Reactors) -> Result<Option<Step>, ProcessError> {
        let events = self.shared().events().clone();
        let (processes, reactors) = (events.domain.processes(), events.domain.reactors());
        let (timers, queue) = (processes.len(), processes.len() + 1);
        let all = queue + 1 + if who == Reactors::Here { reactors.len() } else { 0 };
        // Whoever made the last step is looked at last.
        let first = events.domain.turn.load(Ordering::Relaxed);
        for n in 0..all {
            let who = first.wrapping_add(n) % all;
            let step = match who {
                n if n > queue => self.step_reactor(&reactors[n - queue - 1]),
                n => {
                    let _one = events.domain.stepping.lock();
                    match n {
                        n if n < timers => self.step_process(&processes[n], batch),
                        n if n == timers => self.step_timer(&processes),
                        _ => self.step_queue(),
                    }
                }
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
        rows: impl FnOnce(annals_model::T) -> Result<Vec<Row>, DbError> + Send + 'static,
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

    /// Stores how far processes and reactors have looked, where that is more than is stored: so
    /// that a program which comes after this one, and may want other events, begins there.
    pub(crate) fn keep_places(&self) -> Result<(), AppendError> {
        let events = self.shared().events().clone();
        let tables = self.db().events().tables;
        let mut places = Vec::new();
        for name in events.domain.names() {
            let stored = checkpoint(&tables, name)?;
            let looked = events.domain.looked(name, stored);
            if looked > stored {
                places.push((name, looked));
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        self.write(move |txn| -> Result<(), AppendError> {
            let tables = events.log(txn.db_before()).tables;
            for (name, looked) in places {
                // A reactor may have got further meanwhile.
                if looked > checkpoint(&tables, name)? {
                    txn.row(checkpoint_row(name, looked));
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    fn step_process(&self, p: &Arc<dyn AnyProcess>, batch: usize) -> Result<Option<Step>, ProcessError> {
        let domain = &self.shared().events().domain;
        if domain.state(p.name()) != ProcessState::Running {
            return Ok(None);
        }
        let log = self.db().events();
        let stored = checkpoint(&log.tables, p.name())?;
        let after = domain.looked(p.name(), stored);
        if after >= log.head()? {
            return Ok(None);
        }
        let wants = match guarded("wants", || p.wants()) {
            Ok(wants) => wants,
            Err(e) => {
                let at = after.next();
                domain.set_state(p.name(), ProcessState::Halted { at, why: e.to_string() });
                return Ok(Some(Step::Halted { process: p.name(), at }));
            }
        };
        let (mut found, mut upto) = log.all(&wants, after, batch)?;
        if let Some(wants) = Wants::stored(&log.tables, p.name())? {
            found.retain(|e| !wants.passes_over(e));
        }
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
        let (name, ended) = (p.name(), work.ended);
        if !work.is_empty() || upto.0 >= stored.0 + RARELY {
            self.commit_rows(move |t| {
                let mut rows = work.rows(t, 0)?;
                rows.push(checkpoint_row(name, upto));
                Ok(rows)
            })?;
        }
        domain.note_looked(name, upto);
        domain.note_ended(name, ended);
        Ok(Some(match halted {
            Some(at) => Step::Halted { process: name, at },
            None => Step::Took { process: name, upto },
        }))
    }

    fn step_timer(&self, processes: &[Arc<dyn AnyProcess>]) -> Result<Option<Step>, ProcessError> {
        let (log, now) = (self.db().events(), self.shared().now());
        let domain = &self.shared().events().domain;
        let head = log.head()?;
        let mut due = None;
        // The first timer of each process that runs: what others hold back is not even looked at.
        for p in processes.iter().filter(|p| domain.runs(p.name())) {
            let Some((when, id)) = timer::next(&log.tables, p.name())?.filter(|(when, _)| *when <= now)
            else {
                continue;
            };
            let at = domain.looked(p.name(), checkpoint(&log.tables, p.name())?);
            let sooner = due.as_ref().is_none_or(|(first, _)| when < *first);
            if domain.may_fire(&id, when, at, head) && sooner {
                due = Some((when, id));
            }
        }
        let Some((_, id)) = due else { return Ok(None) };
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

    /// The next event of a reactor; none when there is none, or another thread is at it.
    pub(super) fn step_reactor(&self, seat: &ReactorSeat) -> Result<Option<Step>, ProcessError> {
        let Some(_one) = seat.one.try_lock() else { return Ok(None) };
        let r = &*seat.reactor;
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
        let stored = checkpoint(&log.tables, r.name())?;
        let after = domain.looked(r.name(), stored);
        if after >= log.head()? {
            return Ok(None);
        }
        let name = r.name();
        let failed = |at: Position, why: String| {
            let attempts = attempts + 1;
            let retry_at = later(now, attempts);
            domain.set_state(name, ProcessState::Waiting { at, why, attempts, retry_at });
            Ok(Some(Step::Failed { reactor: name, at }))
        };
        let wants = match guarded("wants", || r.wants()) {
            Ok(wants) => wants,
            Err(e) => return failed(after.next(), e.to_string()),
        };
        let (mut found, upto) = log.all(&wants, after, 1)?;
        if let Some(wants) = Wants::stored(&log.tables, name)? {
            found.retain(|e| !wants.passes_over(e));
        }
        for e in &found {
            if let Err(why) = r.react(e) {
                return failed(e.position, why);
            }
        }
        if !found.is_empty() || upto.0 >= stored.0 + RARELY {
            self.commit_rows(move |_| Ok(vec![checkpoint_row(name, upto)]))?;
        }
        domain.note_looked(name, upto);
        domain.set_state(name, ProcessState::Running);
        Ok(Some(Step::Reacted { reactor: name, event: found.first().map(|e| e.id()) }))
    }
}

/// When to try again after so many attempts.
pub(super) fn later(now: Instant, attempts: u32) -> Instant {
    let pause = 100_000i64 << attempts.min(10).saturating_sub(1);
    Instant(now.0.saturating_add(pause.min(60_000_000)))
}

fn checkpoint_row(name: &str, upto: Position) -> Row {
    table::put(table::COUNTER, checkpoint_key(name), table::number(upto.0))
}
