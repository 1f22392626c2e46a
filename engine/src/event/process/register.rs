//! Registering processes and reactors: where they begin, what they want, how far they have got.
//!
//! 1. The place and what is wanted are stored when a name is registered for the first time; later
//!    it goes on where it stopped, and what is wanted now is stored beside what was (`wants`).

use super::{
    manager::{ProcessManager, guarded},
    wants::Wants,
    work::{Kept, stored_state},
};
use crate::event::{
    append::Item,
    id::{BadName, Position, Tag},
    subscribe::Start,
    table::{self, Key, Tables},
    wire,
};
use crate::{Connection, DbError};
use std::sync::Arc;

/// Where a process or reactor has got to.
pub(crate) fn checkpoint_key(name: &str) -> Key {
    Key::new().text("process").text(name)
}

/// A process or reactor could not be registered or steered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The name is in use.
    #[error("{0} is registered already")]
    Twice(&'static str),
    /// There is none of this name in this program.
    #[error("there is no process or reactor {0} in this program")]
    Unknown(String),
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A stored state does not have the type's shape.
    #[error("the state of instance {instance} of {process} cannot be read: {why}")]
    State {
        /// The process.
        process: &'static str,
        /// The instance.
        instance: String,
        /// What does not fit.
        why: String,
    },
    /// The database could not be written.
    #[error(transparent)]
    Append(#[from] crate::event::append::AppendError),
    /// The database could not be read.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl ProcessError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ProcessError::Twice(_) => "process/registered-twice",
            ProcessError::Unknown(_) => "process/unknown",
            ProcessError::Name(_) => "event/bad-name",
            ProcessError::State { .. } => "process/bad-state",
            ProcessError::Append(e) => e.code(),
            ProcessError::Db(e) => e.code(),
        }
    }
}

impl Connection {
    /// Registers a process manager; [`Connection::run_processes`] or
    /// [`Connection::step_processes`] drives it. The first time, its place in the log is stored.
    ///
    /// # Errors
    /// A name in use or that is not one; a database that cannot be written.
    pub fn register_process<P: ProcessManager>(&self, process: P) -> Result<(), ProcessError> {
        let start = process.start();
        self.begin(P::NAME, start, guarded("wants", || process.wants()).ok())?;
        let domain = &self.shared().events().domain;
        domain.add_process(Arc::new(process)).map_err(ProcessError::Twice)?;
        domain.retry_those(crate::event::refusal::UNHEARD);
        self.shared().events().announce();
        Ok(())
    }

    /// Stores where a process or reactor begins, unless it has begun, and what it wants, unless that
    /// cannot be told.
    pub(crate) fn begin(
        &self,
        name: &'static str,
        start: Start,
        wants: Option<Vec<Item>>,
    ) -> Result<(), ProcessError> {
        Tag::new(name)?;
        if self.shared().events().domain.knows(name) {
            return Err(ProcessError::Twice(name));
        }
        let log = self.db().events();
        let mut rows = Vec::new();
        let done = match log.tables.row(table::COUNTER, checkpoint_key(name))? {
            Some(bytes) => Position(table::read_number(&bytes).map_err(DbError::from)?),
            None => {
                let at = self.subscribe(Vec::new(), start)?.position();
                rows.push(table::put(table::COUNTER, checkpoint_key(name), table::number(at.0)));
                at
            }
        };
        if let Some(wants) = wants {
            rows.extend(Wants::register(Wants::stored(&log.tables, name)?, name, wants, done, log.head()?)?);
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.write(move |txn| -> Result<(), crate::event::append::AppendError> {
            for row in rows {
                txn.row(row);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The state of an instance of a process; none when it is not there.
    pub fn process_state<P: ProcessManager>(&self, instance: &str) -> Result<Option<P::State>, ProcessError> {
        let stored = stored_state(&self.db().events(), P::NAME, instance)?;
        let read = |kept: Kept| {
            wire::from_value(&kept.state).map_err(|e| ProcessError::State {
                process: P::NAME,
                instance: instance.to_owned(),
                why: e.0,
            })
        };
        stored.map(read).transpose()
    }
}

/// Where a process or reactor has got to.
pub(crate) fn checkpoint(tables: &Tables, name: &str) -> Result<Position, DbError> {
    match tables.row(table::COUNTER, checkpoint_key(name))? {
        Some(bytes) => Ok(Position(table::read_number(&bytes)?)),
        None => Ok(Position::ZERO),
    }
}
