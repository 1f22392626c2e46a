//! Projections at work: how far they are, driving them on, pausing, and what is complete.
//!
//! 1. One driver a version at a time (`Runtime::driving`): a batch is taken once.
//! 2. Of a database value, everything up to [`Db::complete_to`] is final; what is later
//!    may still gain facts of async projections.

use crate::event::{
    batch::{BatchError, Taken},
    facts::Cache,
    id::Position,
    language::{Mode, OnError},
    projection_error::ProjectionError,
    register::{named, version_row},
    registry::{Events, checkpoint_key, parked_key, parked_under, serving},
    runtime::{ProjectionState, Runtime},
    table::{self, Key, Tables},
};
use crate::{Connection, Db, DbError};
use annals_model::{Keyword, T};
use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant as Clock},
};

/// A version of a projection as `projections` lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: Keyword,
    /// Its number among the versions built, rebuilds included.
    pub version: u32,
    /// The version its author wrote.
    pub declared: u32,
    /// Inline or async.
    pub mode: Mode,
    /// What it does with an event it cannot take.
    pub on_error: OnError,
    /// Where it stands.
    pub state: ProjectionState,
    /// The last event it has taken.
    pub position: Position,
    /// Events it has still to look at.
    pub lag: u64,
    /// Events set aside.
    pub parked: u64,
    /// Why its runner waits before trying again; none when all is well.
    pub trouble: Option<String>,
    /// Its attributes.
    pub attributes: Vec<Keyword>,
}

impl Runtime {
    /// Notes that a batch has become durable.
    pub(crate) fn took(&self, upto: Position, parked: &[crate::event::batch::Parked]) {
        *self.checkpoint.lock() = upto;
        let mut streams = self.parked.lock();
        for p in parked {
            streams.entry(p.stream.shared()).or_insert(p.position);
        }
    }

    /// How many events a transaction of it takes.
    pub(crate) fn batch_size(&self) -> usize {
        match self.mode {
            Mode::Async { batch } => batch,
            Mode::Inline => crate::event::language::BATCH,
        }
    }
}

impl Connection {
    /// The version that answers under a name.
    pub(crate) fn projection(&self, name: &str) -> Result<Arc<Runtime>, ProjectionError> {
        let name = named(name);
        self.shared().events().live(&name).ok_or(ProjectionError::Unknown(name))
    }

    pub(crate) fn status(&self, r: &Runtime) -> Result<ProjectionStatus, ProjectionError> {
        let db = self.db();
        let head = db.events().head()?;
        let state = r.state();
        let position = match (&state, r.is_inline()) {
            (ProjectionState::Live, true) => head,
            _ => *r.checkpoint.lock(),
        };
        let parked = match r.parked.lock().is_empty() {
            true => 0,
            false => Tables::new(db.snapshot().clone()).under(table::PARKED, parked_key(r))?.len() as u64,
        };
        let over = matches!(state, ProjectionState::Retired | ProjectionState::Dropped);
        Ok(ProjectionStatus {
            name: r.name.clone(),
            version: r.version,
            declared: r.declared,
            mode: r.mode,
            on_error: r.on_error,
            state,
            position,
            lag: if over { 0 } else { head.0.saturating_sub(position.0) },
            parked,
            trouble: r.trouble.lock().clone(),
            attributes: r.attrs.iter().map(|(k, _)| k.clone()).collect(),
        })
    }

    /// Every version of every projection, in order of registration.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn projections(&self) -> Result<Vec<ProjectionStatus>, ProjectionError> {
        self.shared().events().runtimes().iter().map(|r| self.status(r)).collect()
    }

    /// Brings an async projection up to the newest event, a batch a transaction. One that
    /// halted before tries the event again only after it was resumed.
    ///
    /// # Errors
    /// `projection/unknown`; `projection/poison` when it stops, or stood, at an event it cannot
    /// take; `projection/not-registered` when its code is not in this process.
    pub fn catch_up(&self, name: &str) -> Result<ProjectionStatus, ProjectionError> {
        let r = self.projection(name)?;
        if !r.is_inline() {
            self.drive_all(&r)?;
        }
        self.status(&r)
    }

    /// Takes batches until there are no more.
    pub(crate) fn drive_all(&self, r: &Arc<Runtime>) -> Result<(), ProjectionError> {
        while self.drive(r)? {}
        Ok(())
    }

    /// Takes one batch of an async projection that answers. False when there is nothing to do.
    pub(crate) fn drive(&self, r: &Arc<Runtime>) -> Result<bool, ProjectionError> {
        let _one = r.driving.lock();
        match r.state() {
            ProjectionState::Live => {}
            ProjectionState::Halted { at, why } => {
                return Err(ProjectionError::Poison { name: r.name.clone(), at, why });
            }
            _ => return Ok(false),
        }
        let events = self.shared().events().clone();
        let log = self.db().events();
        let after = *r.checkpoint.lock();
        if after >= log.head()? {
            return Ok(false);
        }
        if matches!(r.code(), crate::event::projection::Code::Absent) {
            return Err(ProjectionError::NotRegistered(r.name.clone()));
        }
        let (batch, upto) = events.complete_batch(&log, after, r.batch_size())?;
        self.take(&events, r, batch, upto)?;
        Ok(true)
    }

    /// Takes a batch as the projection's policy has it. `driving` is held by the caller.
    pub(crate) fn take(
        &self,
        events: &Arc<Events>,
        r: &Arc<Runtime>,
        batch: Vec<Taken>,
        upto: Position,
    ) -> Result<(), ProjectionError> {
        let (retries, parks) = match r.on_error {
            OnError::Halt => (0, false),
            OnError::Park => (0, true),
            OnError::RetryThenHalt(n) => (n, false),
            OnError::RetryThenPark(n) => (n, true),
        };
        // The append that goes on after the gap would not look at what is parked.
        let parks = parks && !r.is_inline();
        let batch = Arc::new(batch);
        for attempt in 0..=retries {
            let park = parks && attempt == retries;
            let (events2, r2, batch2) = (events.clone(), r.clone(), batch.clone());
            let made = self.write(move |txn| events2.project_batch(txn, &r2, &batch2, upto, park));
            match made {
                Ok((_, parked)) => {
                    r.took(upto, &parked);
                    events.announce();
                    return Ok(());
                }
                Err(BatchError::Poison(_)) if attempt < retries => {
                    // What it reads may change meanwhile; nothing else can help a pure function.
                    std::thread::sleep(Duration::from_millis(10 << attempt.min(6)));
                }
                Err(BatchError::Poison(p)) => return Err(self.halt(events, r, &batch, p)),
                Err(e) => {
                    // What it took to be said may not be stored.
                    *r.cache.lock() = Cache::default();
                    return Err(ProjectionError::of_batch(r, e));
                }
            }
        }
        Ok(())
    }

    /// Takes what comes before an event that cannot be taken, and stops there. A version that
    /// is not the one that answers stays as it is.
    fn halt(
        &self,
        events: &Arc<Events>,
        r: &Arc<Runtime>,
        batch: &Arc<Vec<Taken>>,
        poison: crate::event::batch::Poison,
    ) -> ProjectionError {
        let error = ProjectionError::Poison { name: r.name.clone(), at: poison.at, why: poison.why.clone() };
        let first = || {
            let all = events.runtimes();
            !all.iter().any(|o| o.name == r.name && o.version < r.version && o.state().serves())
        };
        let stops = !r.is_inline() && (r.state().serves() || first());
        let t = batch.iter().find(|b| b.stored.position == poison.at).map(|b| b.stored.t);
        let n = batch.iter().take_while(|b| Some(b.stored.t) != t).count();
        let upto = match n.checked_sub(1) {
            Some(last) => batch[last].stored.position,
            None => *r.checkpoint.lock(),
        };
        let (events2, r2, batch) = (events.clone(), r.clone(), batch.clone());
        let list = events.runtimes();
        let made = self.write(move |txn| -> Result<_, BatchError> {
            let parked = events2.project_batch(txn, &r2, &batch[..n], upto, false)?;
            if stops {
                let halted = ProjectionState::Halted { at: poison.at, why: poison.why };
                let was = std::mem::replace(&mut *r2.state.lock(), halted);
                let row = version_row(&r2.name, &list).inspect_err(|_| *r2.state.lock() = was)?;
                txn.row(row);
            }
            Ok(parked)
        });
        match made {
            Ok((_, parked)) => {
                r.took(upto, &parked);
                events.announce();
                error
            }
            Err(e) => ProjectionError::of_batch(r, e),
        }
    }

    /// Holds a projection back: nothing is projected until it is resumed, and then everything
    /// it missed is, an inline one's too.
    ///
    /// # Errors
    /// `projection/unknown`, or what a transaction may fail with.
    pub fn pause_projection(&self, name: &str) -> Result<(), ProjectionError> {
        let events = self.shared().events().clone();
        let _one = events.registering.lock();
        let r = self.projection(name)?;
        match r.state() {
            ProjectionState::Paused => Ok(()),
            ProjectionState::Live | ProjectionState::Halted { .. } => {
                let _driving = r.driving.lock();
                self.change_state(&events, &r, ProjectionState::Paused)
            }
            _ => Ok(()),
        }
    }

    /// Lets a projection go on, from where it was paused or halted. An inline one has taken
    /// all it missed when this returns; an async one is driven by its runner, or by
    /// [`Connection::catch_up`].
    ///
    /// # Errors
    /// `projection/unknown`; for an inline one `projection/poison`, when it cannot take an event.
    pub fn resume_projection(&self, name: &str) -> Result<(), ProjectionError> {
        let events = self.shared().events().clone();
        let _one = events.registering.lock();
        let r = self.projection(name)?;
        match (r.state(), r.is_inline()) {
            (ProjectionState::Paused | ProjectionState::Halted { .. }, true) => self.build(&events, &r)?,
            (ProjectionState::Paused | ProjectionState::Halted { .. }, false) => {
                self.change_state(&events, &r, ProjectionState::Live)?;
            }
            (ProjectionState::Building, _) => self.build(&events, &r)?,
            _ => {}
        }
        events.announce();
        Ok(())
    }

    /// Stores and takes on a state, between two appends. A live inline projection has taken
    /// everything before: its checkpoint is the newest event.
    pub(crate) fn change_state(
        &self,
        events: &Arc<Events>,
        r: &Arc<Runtime>,
        to: ProjectionState,
    ) -> Result<(), ProjectionError> {
        let (events, r, list) = (events.clone(), r.clone(), events.runtimes());
        self.write(move |txn| -> Result<(), ProjectionError> {
            events.settle_instant(txn)?;
            if r.is_inline() && r.state() == ProjectionState::Live {
                let head = Tables::new(txn.db_before().snapshot().clone()).last_position()?;
                *r.checkpoint.lock() = head;
                let key = checkpoint_key(&r.name, r.version);
                txn.row(table::put(table::COUNTER, key, table::number(head.0)));
            }
            let was = std::mem::replace(&mut *r.state.lock(), to);
            let row = version_row(&r.name, &list).inspect_err(|_| *r.state.lock() = was)?;
            txn.row(row);
            Ok(())
        })?;
        Ok(())
    }

    /// Waits until a projection has taken the event at a position. False when time runs out.
    ///
    /// # Errors
    /// `projection/unknown`; or the database could not be read.
    pub fn wait_for(
        &self,
        name: &str,
        position: Position,
        timeout: Duration,
    ) -> Result<bool, ProjectionError> {
        let events = self.shared().events().clone();
        let until = Clock::now() + timeout;
        loop {
            let beat = events.beat();
            let r = self.projection(name)?;
            if self.status(&r)?.position >= position {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Clock::now());
            if left.is_zero() || !events.wait(beat, left) {
                return Ok(self.status(&r)?.position >= position);
            }
        }
    }
}

impl Db {
    /// The newest transaction up to which every projection that answers has taken every event:
    /// as of it and before, what this value shows is final. Equal to [`Db::t`] when nothing
    /// lags; a paused, halted or parking projection holds it back.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn complete_to(&self) -> Result<T, DbError> {
        let log = self.events();
        let (head, tables) = (log.head()?, &log.tables);
        let mut complete = self.t();
        // What projections do now is not what they did at this value's basis.
        for r in serving(tables)? {
            let mut missing = None;
            if !r.is_complete {
                let row = tables.row(table::COUNTER, checkpoint_key(&r.name, r.version))?;
                let at = row.map_or(Ok(0), |bytes| table::read_number(&bytes))?;
                missing = (at < head.0).then_some(Position(at + 1));
            }
            let under = parked_under(&r.name, r.version);
            let (from, to) = (under.clone().done(), under.after());
            let mut first = None;
            tables.rows(table::PARKED, &from, &to, false, &mut |k, _| {
                first = table::last_number(k, from.len()).map(Position);
                ControlFlow::Break(())
            })?;
            let missing = missing.into_iter().chain(first).min();
            let Some(missing) = missing else { continue };
            if let Some(t) = log.t_of(missing)? {
                complete = complete.min(T(t.0.saturating_sub(1)));
            }
        }
        Ok(complete)
    }
}

/// Where the outcome of a command is kept that its events do not name.
pub(crate) fn by_key(t: T) -> Key {
    Key::new().number(t.0)
}
