//! The queue of commands that are accepted and wait to be carried out: from process
//! managers, from timers, and from callers that do not wait for the answer.
//!
//! Stored in table `event::table::OUTBOX` under the t that queued it, its number in that transaction and
//! its id, in the form of `queued`.
//!
//! 1. A command is queued in the transaction that decided on it, together with its
//!    outcome "accepted"; a command that is known already is not queued again.
//! 2. It leaves the queue in the transaction that stores its outcome. So it is carried
//!    out once, whenever the process stops.
//! 3. Commands leave in order; one that fails for a reason that may pass stays, with
//!    growing pauses, and those for the same aggregate wait behind it.

use crate::event::{
    append::AppendError,
    command::{CommandOutcome, CommandStatus, CommandTo},
    data::Data,
    dispatch_error::{CommandError, DispatchError},
    domain::Trouble,
    door::CommandRequest,
    id::{CommandId, StreamId},
    log::EventLog,
    marks::Marks,
    queued::Queued,
    seal::{Seals, unmarked},
    table,
};
use crate::{Connection, DbError};
use annals_storage::Row;
use std::ops::ControlFlow;

/// A command that waits to be carried out, as [`Connection::queued_commands`] lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedCommand {
    /// Its id.
    pub id: CommandId,
    /// Whom it is for and what it asks.
    pub to: CommandTo,
    /// Accepted, running or failed.
    pub status: CommandStatus,
    /// The process manager and the instance that sent it.
    pub sender: Option<(String, String)>,
}

/// The row that takes an entry out of a table.
pub(crate) fn gone(table: u8, key: Vec<u8>) -> Row {
    Row { table, key, value: None }
}

/// The first entry of the queue that is wanted, with its key.
pub(crate) fn first(
    log: &EventLog,
    wanted: &mut dyn FnMut(&Queued) -> bool,
) -> Result<Option<(Vec<u8>, Queued)>, DbError> {
    let mut found = Ok(None);
    log.tables.rows(table::OUTBOX, &[], &[0xff], false, &mut |key, bytes| {
        match decode(bytes, &log.seals) {
            Ok(queued) if wanted(&queued) => found = Ok(Some((key.to_vec(), queued))),
            Ok(_) => return ControlFlow::Continue(()),
            Err(e) => found = Err(e),
        }
        ControlFlow::Break(())
    })?;
    found
}

fn decode(bytes: &[u8], seals: &Seals) -> Result<Queued, DbError> {
    let damaged = || DbError::from(crate::event::data::DataError::Damaged(0));
    Queued::opened(&Data::stored(bytes).value()?, seals)?.ok_or_else(damaged)
}

impl Connection {
    /// Accepts a command without carrying it out: it is stored, and the runner
    /// ([`Connection::run_processes`]) carries it out. [`Connection::command_status`] tells
    /// how far it is. Sent again under the same id it is accepted once.
    ///
    /// Personal values in the payload are stored sealed when they are marked ([`crate::event::personal`]).
    ///
    /// # Errors
    /// A category or type nobody handles, a payload that does not fit, an id that was used
    /// for another request, or one whose outcome is forgotten.
    pub fn submit(&self, request: CommandRequest) -> Result<CommandId, CommandError> {
        let to = self.handler(&request.category)?.understand(&request.to())?;
        let mut marks = Marks::default();
        unmarked(&request.payload, &mut marks);
        StreamId::of(&to.category, &to.id).map_err(crate::event::aggregate::LoadError::from)?;
        let d = request.dispatch;
        let id = d.id;
        let digest = to.digest(d.if_version)?;
        let queued = Queued {
            to,
            id,
            meta: d.meta,
            if_version: d.if_version,
            retry: d.retry,
            keep_until: d.keep_until,
            tx: d.tx,
            marks,
            erased: false,
            sender: None,
        };
        let events = self.shared().events().clone();
        let known = |conn: &Connection| -> Result<bool, CommandError> {
            let Some(stored) = conn.db().events().command(id)? else { return Ok(false) };
            match stored.at(conn.shared().now()) {
                o if o.request != digest => Err(DispatchError::Reused { id }),
                CommandOutcome { status: CommandStatus::Forgotten { since }, .. } => {
                    Err(DispatchError::Forgotten { id, until: since })
                }
                _ => Ok(true),
            }
        };
        if known(self)? {
            return Ok(id);
        }
        self.write(move |txn| -> Result<(), AppendError> {
            let log = events.log(txn.db_before());
            let t = txn.t();
            for row in queued.rows(&log, t, 0)? {
                txn.row(row);
            }
            Ok(())
        })?;
        self.shared().events().announce();
        // Somebody may have used the id for another request a moment before.
        known(self)?;
        Ok(id)
    }

    /// The commands that are accepted and wait to be carried out, in order.
    pub fn queued_commands(&self) -> Result<Vec<QueuedCommand>, DbError> {
        let domain = &self.shared().events().domain;
        let mut queued = Vec::new();
        first(&self.db().events(), &mut |q| {
            queued.push(q.clone());
            false
        })?;
        let listed = queued.into_iter().map(|q| {
            let status = match domain.trouble(q.id) {
                _ if domain.is_running(q.id) => CommandStatus::Running,
                Some(t) => t.status(),
                None => CommandStatus::Accepted,
            };
            QueuedCommand { id: q.id, to: q.to, status, sender: q.sender }
        });
        Ok(listed.collect())
    }
}

impl Trouble {
    pub fn status(&self) -> CommandStatus {
        CommandStatus::Failed {
            code: self.code.clone(),
            message: self.message.clone(),
            attempts: self.attempts,
            retry_at: self.retry_at,
        }
    }
}
