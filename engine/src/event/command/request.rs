//! Commands: what was asked, once; and what came of it, for as long as stated.
//!
//! ```text
//! submit ──> Accepted ──> Running ──> Done | Rejected ──keep_until──> Forgotten
//!                            └─ a failure that may pass ─> Failed ──> Running …
//! ```
//!
//! 1. An outcome is stored in the same transaction as the events it stands for.
//! 2. Rejections by a rule are stored too; failures that may pass are not.
//! 3. The same id with the same request answers the stored outcome; with
//!    another request it is refused.
//! 4. An outcome past its `keep_until` answers "forgotten", and the command is not
//!    carried out again: nobody knows any more what came of it.

use crate::TxData;
use crate::event::{
    append::Appended,
    data::{DataError, Reader, put_bytes, put_signed, put_varint},
    id::{CommandId, Position, StreamId, Version},
    wire,
};
use annals_model::{Instant, Keyword, T, Value};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CommandStatus {
    /// Stored, to be carried out by the runner (`Connection::run_processes`).
    Accepted,
    /// This process is carrying it out now.
    Running,
    /// Carried out. `appended` names no event when there was nothing to do.
    Done(Appended),
    /// Refused by a rule of the domain.
    Rejected {
        /// Stable code of the rule.
        code: Arc<str>,
        /// What it said to people.
        message: Arc<str>,
        /// What it said to programs: the error as data.
        detail: Value,
    },
    /// Accepted, tried, and not carried out yet for a reason that may pass.
    Failed {
        /// Stable code of the failure.
        code: Arc<str>,
        /// What went wrong.
        message: Arc<str>,
        /// How often it was tried.
        attempts: u32,
        /// When it is tried again.
        retry_at: Instant,
    },
    /// Its outcome was kept until then, and no longer.
    Forgotten {
        /// The end of the time it was kept for.
        since: Instant,
    },
}

impl CommandStatus {
    /// Its name, for rows and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            CommandStatus::Accepted => "accepted",
            CommandStatus::Running => "running",
            CommandStatus::Done(_) => "done",
            CommandStatus::Rejected { .. } => "rejected",
            CommandStatus::Failed { .. } => "failed",
            CommandStatus::Forgotten { .. } => "forgotten",
        }
    }
    /// Has it been decided for good?
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            CommandStatus::Done(_) | CommandStatus::Rejected { .. } | CommandStatus::Forgotten { .. }
        )
    }
}

/// A command's outcome as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandOutcome {
    /// The command.
    pub id: CommandId,
    /// Hash of the request, so that another request under the same id is noticed.
    pub request: [u8; 32],
    /// What came of it.
    pub status: CommandStatus,
    /// Until when the outcome may be asked for; for ever when none.
    pub keep_until: Option<Instant>,
}

const FORMAT: u8 = 2;

impl CommandOutcome {
    /// The outcome of carrying out a request; the commit fills in t, positions and versions.
    pub fn done(id: CommandId, request: &[u8]) -> CommandOutcome {
        CommandOutcome::of(id, *blake3::hash(request).as_bytes(), CommandStatus::Done(nothing()))
    }
    /// The outcome of refusing a request.
    pub fn rejected(
        id: CommandId,
        request: &[u8],
        code: &str,
        message: &str,
        detail: Value,
    ) -> CommandOutcome {
        let status = CommandStatus::Rejected { code: Arc::from(code), message: Arc::from(message), detail };
        CommandOutcome::of(id, *blake3::hash(request).as_bytes(), status)
    }
    pub(crate) fn of(id: CommandId, request: [u8; 32], status: CommandStatus) -> CommandOutcome {
        CommandOutcome { id, request, status, keep_until: None }
    }
    /// The outcome as it is at `now`: forgotten once its time is over.
    pub(crate) fn at(mut self, now: Instant) -> CommandOutcome {
        if let Some(since) = self.keep_until.filter(|until| *until < now && self.status.is_final()) {
            self.status = CommandStatus::Forgotten { since };
        }
        self
    }
    pub(crate) fn encode(&self) -> Result<Vec<u8>, DataError> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.request);
        put_signed(&mut out, self.keep_until.map_or(i64::MAX, |i| i.0));
        match &self.status {
            CommandStatus::Done(a) => {
                out.push(0);
                put_varint(&mut out, a.t.0);
                put_varint(&mut out, a.first.0);
                put_varint(&mut out, a.last.0);
                put_varint(&mut out, a.versions.len() as u64);
                for (stream, version) in &a.versions {
                    put_bytes(&mut out, stream.as_str().as_bytes());
                    put_varint(&mut out, version.0);
                }
            }
            CommandStatus::Rejected { code, message, detail } => {
                out.push(1);
                put_bytes(&mut out, code.as_bytes());
                put_bytes(&mut out, message.as_bytes());
                crate::event::data::encode(detail, &mut out, 0)?;
            }
            // Running and Failed are known to the process alone; to the file it waits.
            CommandStatus::Accepted | CommandStatus::Running | CommandStatus::Failed { .. } => out.push(2),
            CommandStatus::Forgotten { since } => {
                out.push(3);
                put_signed(&mut out, since.0);
            }
        }
        Ok(out)
    }
    pub(crate) fn decode(id: CommandId, bytes: &[u8]) -> Result<CommandOutcome, DataError> {
        let mut r = Reader::new(bytes);
        let format = r.u8()?;
        if !(1..=FORMAT).contains(&format) {
            return Err(DataError::Damaged(0));
        }
        let request = r.take(32)?.try_into().map_err(|_| DataError::Damaged(1))?;
        let keep = r.signed()?;
        let status = match r.u8()? {
            0 => {
                let (t, first, last) = (T(r.varint()?), Position(r.varint()?), Position(r.varint()?));
                let mut versions = Vec::new();
                for _ in 0..r.varint()? {
                    versions.push((StreamId::stored(r.text()?), Version(r.varint()?)));
                }
                CommandStatus::Done(Appended { t, first, last, versions, replayed: true })
            }
            1 => {
                let code: Arc<str> = Arc::from(r.text()?);
                // The first format had no message.
                let message = if format == 1 { code.clone() } else { Arc::from(r.text()?) };
                CommandStatus::Rejected { code, message, detail: r.value(0)? }
            }
            2 => CommandStatus::Accepted,
            3 => CommandStatus::Forgotten { since: Instant(r.signed()?) },
            _ => return Err(DataError::Damaged(r.at)),
        };
        Ok(CommandOutcome { id, request, status, keep_until: (keep != i64::MAX).then_some(Instant(keep)) })
    }
}

/// An append that appended nothing.
pub(crate) fn nothing() -> Appended {
    Appended {
        t: T::GENESIS,
        first: Position::ZERO,
        last: Position::ZERO,
        versions: Vec::new(),
        replayed: false,
    }
}

/// How often a decision that lost a race is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry(pub u32);

impl Default for Retry {
    /// Twice. Needing more means that the boundary is drawn too wide.
    fn default() -> Retry {
        Retry(2)
    }
}

/// How to carry out a command.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Its id: sent again with the same id, the first outcome is answered.
    pub id: CommandId,
    /// The conversation, actor and cause to write on its events.
    pub meta: crate::event::record::Meta,
    /// The version the user saw; if the stream has another, the command is refused and never retried.
    pub if_version: Option<Version>,
    /// Retries after a conflict.
    pub retry: Retry,
    /// Until when the outcome is kept; for ever when none.
    pub keep_until: Option<Instant>,
    /// Facts about the transaction that stores the outcome, done or rejected: attribute and
    /// value of the transaction's entity. They are no part of what the command asks: sent again
    /// under its id with others, it is the same command.
    pub tx: Vec<(Keyword, Value)>,
    /// Projections to wait for once its events are stored, and for how long.
    pub wait_for: Option<WaitFor>,
}

/// Projections that are to have taken a command's events before it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitFor {
    /// Their names.
    pub projections: Vec<Keyword>,
    /// How long at most, for all of them together.
    pub timeout: Duration,
}

impl Default for Dispatch {
    fn default() -> Dispatch {
        Dispatch {
            id: CommandId::fresh(),
            meta: crate::event::record::Meta::default(),
            if_version: None,
            retry: Retry::default(),
            keep_until: None,
            tx: Vec::new(),
            wait_for: None,
        }
    }
}

impl Dispatch {
    /// With a fresh command id.
    pub fn new() -> Dispatch {
        Dispatch::default()
    }
    /// With this command id.
    pub fn id(id: impl Into<CommandId>) -> Dispatch {
        Dispatch { id: id.into(), ..Dispatch::default() }
    }
    /// Refused unless the stream is at this version.
    pub fn if_version(mut self, version: u64) -> Dispatch {
        self.if_version = Some(Version(version));
        self
    }
    /// Caused by this event or command.
    pub fn caused_by(mut self, cause: Uuid) -> Dispatch {
        self.meta.causation = Some(cause);
        self
    }
    /// Asked for by this user.
    pub fn actor(mut self, actor: impl AsRef<str>) -> Dispatch {
        self.meta.actor = Some(Arc::from(actor.as_ref()));
        self
    }
    /// Part of this conversation.
    pub fn correlation(mut self, id: impl AsRef<str>) -> Dispatch {
        self.meta.correlation = Some(Arc::from(id.as_ref()));
        self
    }
    /// Made again at most so often after a conflict.
    pub fn retry(mut self, times: u32) -> Dispatch {
        self.retry = Retry(times);
        self
    }
    /// Its outcome may be asked for until then.
    pub fn keep_until(mut self, until: Instant) -> Dispatch {
        self.keep_until = Some(until);
        self
    }
    /// States a fact about the command's transaction: `.tx(":tx/principal", "ada")`. The
    /// attribute must be installed.
    pub fn tx(mut self, attr: &str, value: impl Into<Value>) -> Dispatch {
        self.tx.push((Keyword::new(attr.strip_prefix(':').unwrap_or(attr)), value.into()));
        self
    }
    /// Answers when these projections have taken the command's events, or when the time is over:
    /// then it is done all the same, and [`Dispatched::behind`](crate::event::Dispatched::behind)
    /// names those that lag. Does not wait when there are no events.
    pub fn wait_for<'a>(mut self, names: impl IntoIterator<Item = &'a str>, timeout: Duration) -> Dispatch {
        let projections = names.into_iter().map(|n| Keyword::new(n.strip_prefix(':').unwrap_or(n))).collect();
        self.wait_for = Some(WaitFor { projections, timeout });
        self
    }
    /// The facts about its transaction, as transaction data.
    pub(crate) fn tx_facts(&self) -> TxData {
        let of_tx = (Value::keyword("db/id"), Value::string("datomic.tx"));
        match self.tx.is_empty() {
            true => TxData::default(),
            false => TxData::default().form(Value::map(
                std::iter::once(of_tx)
                    .chain(self.tx.iter().map(|(a, v)| (Value::Keyword(a.clone()), v.clone()))),
            )),
        }
    }
}

/// A command and the aggregate it is for, as data: what a process manager sends.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandTo {
    /// The category of the aggregate.
    pub category: String,
    /// The aggregate's id within the category.
    pub id: String,
    /// The command's type: the name of its variant.
    pub ty: String,
    /// What it holds.
    pub payload: Value,
}

impl CommandTo {
    /// A command for an aggregate.
    ///
    /// # Errors
    /// A command that serde cannot write, or not read back, is [`DataError::Serialize`].
    pub fn new<A: crate::event::aggregate::Aggregate>(
        id: impl Into<String>,
        command: &A::Command,
    ) -> Result<CommandTo, DataError> {
        let (ty, payload) = wire::write(command).map_err(|e| DataError::Serialize(e.0))?;
        let ty = ty.unwrap_or_else(|| "command".to_owned());
        Ok(CommandTo { category: A::CATEGORY.to_owned(), id: id.into(), ty, payload })
    }
    /// What is hashed to tell one request from another.
    pub(crate) fn digest(&self, if_version: Option<Version>) -> Result<[u8; 32], DataError> {
        let mut bytes = Vec::with_capacity(128);
        for text in [&self.category, &self.id, &self.ty] {
            put_bytes(&mut bytes, text.as_bytes());
        }
        put_varint(&mut bytes, if_version.map_or(0, |v| v.0 + 1));
        crate::event::data::encode(&self.payload, &mut bytes, 0)?;
        Ok(*blake3::hash(&bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read_back() {
        let mut done = CommandOutcome::done(CommandId::fresh(), b"x");
        done.status = CommandStatus::Done(Appended {
            t: T(4),
            first: Position(2),
            last: Position(3),
            versions: vec![(StreamId::new("a-1").unwrap(), Version(2))],
            replayed: true,
        });
        let rejected = CommandOutcome {
            keep_until: Some(Instant(5)),
            ..CommandOutcome::rejected(
                CommandId::fresh(),
                b"x",
                "bank/overdrawn",
                "too little",
                Value::Long(3),
            )
        };
        let accepted = CommandOutcome { status: CommandStatus::Accepted, ..done.clone() };
        let gone = CommandOutcome { status: CommandStatus::Forgotten { since: Instant(9) }, ..done.clone() };
        for o in [done, rejected, accepted, gone] {
            assert_eq!(CommandOutcome::decode(o.id, &o.encode().unwrap()).unwrap(), o);
        }
    }

    #[test]
    fn an_outcome_of_the_first_format_is_read() {
        let mut old = vec![1];
        old.extend_from_slice(&[7; 32]);
        put_signed(&mut old, i64::MAX);
        old.push(1);
        put_bytes(&mut old, b"bank/overdrawn");
        crate::event::data::encode(&Value::Long(3), &mut old, 0).unwrap();
        let read = CommandOutcome::decode(CommandId::fresh(), &old).unwrap();
        let code: Arc<str> = Arc::from("bank/overdrawn");
        let status = CommandStatus::Rejected { code: code.clone(), message: code, detail: Value::Long(3) };
        assert_eq!(read.status, status);
    }

    #[test]
    fn only_what_was_decided_is_forgotten() {
        let kept =
            CommandOutcome { keep_until: Some(Instant(5)), ..CommandOutcome::done(CommandId::fresh(), b"x") };
        assert!(matches!(kept.clone().at(Instant(5)).status, CommandStatus::Done(_)));
        assert_eq!(kept.clone().at(Instant(6)).status, CommandStatus::Forgotten { since: Instant(5) });
        let waiting = CommandOutcome { status: CommandStatus::Accepted, ..kept };
        assert_eq!(waiting.at(Instant(6)).status, CommandStatus::Accepted);
    }
}
