//! What came of commands: looked up, counted, and forgotten when their time is over.

use crate::event::{
    append::AppendError,
    command::{CommandOutcome, CommandStatus},
    id::CommandId,
    table::{self, Key},
};
use crate::{Connection, DbError};
use std::sync::atomic::Ordering;

/// How commands have fared since the database was opened by this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandStats {
    /// Commands taken up.
    pub dispatched: u64,
    /// Carried out.
    pub done: u64,
    /// Refused by a rule.
    pub rejected: u64,
    /// Answered with a stored outcome.
    pub replayed: u64,
    /// Conflicts met.
    pub conflicts: u64,
    /// Given up after the last retry.
    pub gave_up: u64,
}

impl Connection {
    /// How commands have fared since the database was opened by this process.
    pub fn command_stats(&self) -> CommandStats {
        let c = &self.shared().events().domain.counts;
        let get = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        CommandStats {
            dispatched: get(&c.dispatched),
            done: get(&c.done),
            rejected: get(&c.rejected),
            replayed: get(&c.replayed),
            conflicts: get(&c.conflicts),
            gave_up: get(&c.gave_up),
        }
    }

    /// What came of a command, or how far it is; none when it was never seen.
    pub fn command_status(&self, id: CommandId) -> Result<Option<CommandOutcome>, DbError> {
        let stored = self.db().events().command(id)?;
        let running = self.shared().events().domain.is_running(id);
        let Some(mut outcome) = stored.map(|o| o.at(self.shared().now())) else {
            let status = CommandStatus::Running;
            return Ok(running.then(|| CommandOutcome::of(id, [0; 32], status)));
        };
        if !outcome.status.is_final() {
            let trouble = self.shared().events().domain.trouble(id);
            outcome.status = match trouble {
                _ if running => CommandStatus::Running,
                Some(t) => t.status(),
                None => outcome.status,
            };
        }
        Ok(Some(outcome))
    }
}

impl Connection {
    /// Frees what outcomes past their `keep_until` take up: what is left of each is that it
    /// is forgotten. Answers how many there were. (They answer "forgotten" without this too.)
    ///
    /// # Errors
    /// A database that cannot be read or written.
    pub fn forget_commands(&self) -> Result<u64, AppendError> {
        let (events, now) = (self.shared().events().clone(), self.shared().now());
        let (_, n) = self.write(move |txn| -> Result<u64, AppendError> {
            let mut n = 0;
            for (key, bytes) in events.log(txn.db_before()).tables.under(table::COMMAND, Key::new())? {
                let Ok(id) = uuid::Uuid::from_slice(&key) else { continue };
                let stored = CommandOutcome::decode(CommandId(id), &bytes)?;
                let was = matches!(stored.status, CommandStatus::Forgotten { .. });
                let outcome = stored.at(now);
                if !was && matches!(outcome.status, CommandStatus::Forgotten { .. }) {
                    txn.row(table::put(table::COMMAND, Key::new().bytes(&key), outcome.encode()?));
                    n += 1;
                }
            }
            Ok(n)
        })?;
        Ok(n)
    }
}
