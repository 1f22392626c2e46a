//! Commands: what was asked, once; and what came of it, for as long as stated.
//!
//! 1. An outcome is stored in the same transaction as the events it stands for.
//! 2. Rejections by a rule are stored too; failures that may pass are not.
//! 3. The same id with the same request answers the stored outcome; with
//!    another request it is refused.

use super::{
    append::Appended,
    data::{DataError, Reader, put_bytes, put_signed, put_varint},
    id::{CommandId, Position, StreamId, Version},
};
use annals_model::{Instant, T, Value};
use std::sync::Arc;
use uuid::Uuid;

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandStatus {
    /// Carried out. `appended` names no event when there was nothing to do.
    Done(Appended),
    /// Refused by a rule of the domain.
    Rejected {
        /// Stable code of the rule.
        code: Arc<str>,
        /// What it said.
        detail: Value,
    },
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

impl CommandOutcome {
    /// The outcome of carrying out a request; the commit fills in t, positions and versions.
    pub fn done(id: CommandId, request: &[u8]) -> CommandOutcome {
        let appended = Appended {
            t: T::GENESIS,
            first: Position::ZERO,
            last: Position::ZERO,
            versions: Vec::new(),
            replayed: false,
        };
        CommandOutcome {
            id,
            request: *blake3::hash(request).as_bytes(),
            status: CommandStatus::Done(appended),
            keep_until: None,
        }
    }
    /// The outcome of refusing a request.
    pub fn rejected(id: CommandId, request: &[u8], code: &str, detail: Value) -> CommandOutcome {
        CommandOutcome {
            status: CommandStatus::Rejected { code: Arc::from(code), detail },
            ..CommandOutcome::done(id, request)
        }
    }
    pub(crate) fn encode(&self) -> Result<Vec<u8>, DataError> {
        let mut out = vec![1];
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
            CommandStatus::Rejected { code, detail } => {
                out.push(1);
                put_bytes(&mut out, code.as_bytes());
                super::data::encode(detail, &mut out, 0)?;
            }
        }
        Ok(out)
    }
    pub(crate) fn decode(id: CommandId, bytes: &[u8]) -> Result<CommandOutcome, DataError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != 1 {
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
            1 => CommandStatus::Rejected { code: Arc::from(r.text()?), detail: r.value(0)? },
            _ => return Err(DataError::Damaged(r.at)),
        };
        Ok(CommandOutcome { id, request, status, keep_until: (keep != i64::MAX).then_some(Instant(keep)) })
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
    pub meta: super::record::Meta,
    /// The version the user saw; if the stream has another, the command is refused and never retried.
    pub if_version: Option<Version>,
    /// Retries after a conflict.
    pub retry: Retry,
    /// Until when the outcome is kept; for ever when none.
    pub keep_until: Option<Instant>,
}

impl Default for Dispatch {
    fn default() -> Dispatch {
        Dispatch {
            id: CommandId::fresh(),
            meta: super::record::Meta::default(),
            if_version: None,
            retry: Retry::default(),
            keep_until: None,
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
            ..CommandOutcome::rejected(CommandId::fresh(), b"x", "bank/overdrawn", Value::Long(3))
        };
        for o in [done, rejected] {
            assert_eq!(CommandOutcome::decode(o.id, &o.encode().unwrap()).unwrap(), o);
        }
    }
}
