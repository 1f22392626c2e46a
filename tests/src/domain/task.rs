//! A task: created, renamed, completed, reopened, cancelled.

use annals::event::{Aggregate, Decide, Event};
use serde::{Deserialize, Serialize};

/// A task's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// Its name; none when it is not created.
    pub name: String,
    created: bool,
    done: bool,
    cancelled: bool,
}

/// What may be asked of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TaskCommand {
    /// Begin it.
    Create {
        /// Its name.
        name: String,
    },
    /// Call it otherwise.
    Rename {
        /// Its name.
        name: String,
    },
    /// Finish it.
    Complete,
    /// Take it up again.
    Reopen,
    /// Give it up.
    Cancel,
}

/// What can happen to a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TaskEvent {
    /// It began.
    Created {
        /// Its name.
        name: String,
    },
    /// It has another name.
    Renamed {
        /// Its name.
        name: String,
    },
    /// It is finished.
    Completed,
    /// It is not finished after all.
    Reopened,
    /// It was given up.
    Cancelled,
}

impl Event for TaskEvent {
    const TYPES: &'static [(&'static str, u32)] =
        &[("Created", 1), ("Renamed", 1), ("Completed", 1), ("Reopened", 1), ("Cancelled", 1)];
}

/// Why a task refuses.
#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum TaskError {
    /// There is no such task.
    #[error("the task is not yet created")]
    NotYetCreated,
    /// There is one already.
    #[error("the task is created already")]
    AlreadyCreated,
    /// A name of nothing but space.
    #[error("a task has a name")]
    NoName,
    /// It is finished or given up.
    #[error("the task is closed")]
    Closed,
}

impl Aggregate for Task {
    const CATEGORY: &'static str = "task";
    type Command = TaskCommand;
    type Event = TaskEvent;
    type Error = TaskError;

    fn apply(&mut self, e: &TaskEvent) {
        match e {
            TaskEvent::Created { name } => {
                self.created = true;
                self.name.clone_from(name);
            }
            TaskEvent::Renamed { name } => self.name.clone_from(name),
            TaskEvent::Completed => self.done = true,
            TaskEvent::Reopened => self.done = false,
            TaskEvent::Cancelled => self.cancelled = true,
        }
    }

    fn handle(&self, c: TaskCommand, _: &Decide<'_>) -> Result<Vec<TaskEvent>, TaskError> {
        if !self.created {
            return match c {
                TaskCommand::Create { name } if name.trim().is_empty() => Err(TaskError::NoName),
                TaskCommand::Create { name } => Ok(vec![TaskEvent::Created { name }]),
                _ => Err(TaskError::NotYetCreated),
            };
        }
        match c {
            TaskCommand::Create { .. } => Err(TaskError::AlreadyCreated),
            TaskCommand::Cancel if self.cancelled => Ok(vec![]),
            _ if self.cancelled => Err(TaskError::Closed),
            TaskCommand::Rename { .. } if self.done => Err(TaskError::Closed),
            TaskCommand::Rename { name } if name.trim().is_empty() => Err(TaskError::NoName),
            TaskCommand::Rename { name } if name == self.name => Ok(vec![]),
            TaskCommand::Rename { name } => Ok(vec![TaskEvent::Renamed { name }]),
            TaskCommand::Complete if self.done => Ok(vec![]),
            TaskCommand::Complete => Ok(vec![TaskEvent::Completed]),
            TaskCommand::Reopen if self.done => Ok(vec![TaskEvent::Reopened]),
            TaskCommand::Reopen => Ok(vec![]),
            TaskCommand::Cancel => Ok(vec![TaskEvent::Cancelled]),
        }
    }
}
