//! What steps report and where processes and reactors stand.

use crate::event::{
    id::{CommandId, EventId, Position},
    process::{self, ProcessError, checkpoint},
    refusal::UNHEARD,
};
use crate::{Connection, DbError};
use annals_model::Instant;

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
    /// Instances that ended, since the database was opened, because their state cannot be read
    /// without a value that was erased. An optional field, or one with a default, avoids it.
    pub ended: u64,
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
    /// Every process and reactor of this program.
    pub fn processes(&self) -> Result<Vec<ProcessStatus>, DbError> {
        let domain = &self.shared().events().domain;
        let log = self.db().events();
        let head = log.head()?;
        let mut all = Vec::new();
        let names = domain.processes().iter().map(|p| (p.name(), false)).collect::<Vec<_>>();
        let reactors = domain.reactors().iter().map(|r| (r.reactor.name(), true)).collect::<Vec<_>>();
        for (name, is_reactor) in names.into_iter().chain(reactors) {
            let position = domain.looked(name, checkpoint(&log.tables, name)?);
            all.push(ProcessStatus {
                name,
                is_reactor,
                position,
                lag: head.0.saturating_sub(position.0),
                instances: if is_reactor { 0 } else { process::instances(&log.tables, name)? },
                ended: domain.ended(name),
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
}
