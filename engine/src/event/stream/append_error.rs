//! Why an append was refused: code, class, what to do about it.

use super::append::Expected;
use crate::event::{
    id::{BadName, EventId, EventType, Position, StreamId, Version},
    record::BadEvent,
};
use crate::{DbError, ErrorClass, TransactError};
use annals_model::{Diagnostic, T};
use std::sync::Arc;

/// Why an append was refused. Nothing of it is stored.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The stream is not at the version expected.
    #[error("stream {stream} is at version {actual}, expected {expected}")]
    WrongVersion {
        /// The stream.
        stream: StreamId,
        /// What the caller expected.
        expected: Expected,
        /// What it is.
        actual: Version,
        /// The events that came after the version expected, the first few of them.
        since: Vec<Position>,
    },
    /// A condition does not hold.
    #[error("condition {which} does not hold at t{t}{}", witnesses(witness))]
    ConditionFailed {
        /// Its index among the conditions.
        which: usize,
        /// Events that broke it, when it was about events.
        witness: Vec<Position>,
        /// The t it was judged at: read again from here.
        t: T,
    },
    /// The id is stored with other content.
    #[error("event id {id} is stored at position {at} with other content")]
    IdReused {
        /// The id.
        id: EventId,
        /// Where it is.
        at: Position,
    },
    /// Some of the events are stored and some are not.
    #[error("{} of the events are already stored and the others are not: {stored:?}", stored.len())]
    PartlyStored {
        /// Those that are.
        stored: Vec<EventId>,
    },
    /// All events are stored, but not in this order or not in these streams.
    #[error("the events are already stored in another order or stream; first at position {at}")]
    OtherOrder {
        /// The first event that stands elsewhere.
        id: EventId,
        /// Where it stands.
        at: Position,
    },
    /// The same id twice in one append.
    #[error("event id {0} occurs twice in one append")]
    IdTwice(EventId),
    /// The same stream twice in one append.
    #[error("stream {0} is written twice in one append")]
    StreamTwice(StreamId),
    /// The stream has been closed for good.
    #[error("stream {0} is tombstoned: its name cannot be used again")]
    Tombstoned(StreamId),
    /// The command is stored with another request.
    #[error("command {id} was used for another request")]
    CommandReused {
        /// The command.
        id: crate::event::id::CommandId,
    },
    /// The number from the source is not larger than the last.
    #[error("source {source_name} is already at {stored}, got {number}")]
    TrackingBehind {
        /// The source.
        source_name: StreamId,
        /// The last number stored.
        stored: u64,
        /// The number given.
        number: u64,
    },
    /// The number from the source leaves a gap.
    #[error("source {source_name} is at {stored}: expected {}, got {number}", stored + 1)]
    TrackingGap {
        /// The source.
        source_name: StreamId,
        /// The last number stored.
        stored: u64,
        /// The number given.
        number: u64,
    },
    /// An inline projection could not take an event.
    #[error("inline projection {projection} refused event {id} ({ty}): {why}")]
    InlineProjection {
        /// Which.
        projection: Arc<str>,
        /// The event.
        id: EventId,
        /// Its type.
        ty: EventType,
        /// What was wrong.
        why: String,
    },
    /// An event or a name is malformed.
    #[error(transparent)]
    Bad(#[from] BadEvent),
    /// A guard's query is wrong or failed.
    #[error("condition {which}: {why}")]
    Guard {
        /// Its index among the conditions.
        which: usize,
        /// What the query said.
        why: String,
    },
    /// The facts that go with the events were refused.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// Reading the database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

fn witnesses(witness: &[Position]) -> String {
    if witness.is_empty() { String::new() } else { format!(": broken by the events at {witness:?}") }
}

impl From<BadName> for AppendError {
    fn from(e: BadName) -> AppendError {
        AppendError::Bad(e.into())
    }
}
impl From<crate::event::data::DataError> for AppendError {
    fn from(e: crate::event::data::DataError) -> AppendError {
        AppendError::Bad(e.into())
    }
}

impl AppendError {
    /// A stream that is not at the version expected.
    pub(crate) fn wrong_version(stream: StreamId, expected: Expected, actual: Version) -> AppendError {
        AppendError::WrongVersion { stream, expected, actual, since: Vec::new() }
    }
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            AppendError::WrongVersion { .. } => "event/wrong-version",
            AppendError::ConditionFailed { .. } => "event/condition-failed",
            AppendError::IdReused { .. } => "event/id-reused",
            AppendError::PartlyStored { .. } => "event/partly-stored",
            AppendError::OtherOrder { .. } => "event/other-order",
            AppendError::IdTwice(_) => "event/id-twice",
            AppendError::StreamTwice(_) => "event/stream-twice",
            AppendError::Tombstoned(_) => "event/tombstoned",
            AppendError::CommandReused { .. } => "event/command-reused",
            AppendError::TrackingBehind { .. } => "event/tracking-behind",
            AppendError::TrackingGap { .. } => "event/tracking-gap",
            AppendError::InlineProjection { .. } => "event/inline-projection",
            AppendError::Bad(BadEvent::Name(_)) => "event/bad-name",
            AppendError::Bad(BadEvent::Data(_)) => "event/bad-data",
            AppendError::Guard { .. } => "event/bad-guard",
            AppendError::Transact(e) => e.code(),
            AppendError::Db(e) => e.code(),
        }
    }
    /// Whose fault.
    pub fn class(&self) -> ErrorClass {
        match self {
            AppendError::WrongVersion { .. }
            | AppendError::ConditionFailed { .. }
            | AppendError::IdReused { .. }
            | AppendError::PartlyStored { .. }
            | AppendError::OtherOrder { .. }
            | AppendError::CommandReused { .. }
            | AppendError::TrackingBehind { .. }
            | AppendError::TrackingGap { .. } => ErrorClass::Conflict,
            AppendError::Tombstoned(_) => ErrorClass::NotFound,
            AppendError::IdTwice(_)
            | AppendError::StreamTwice(_)
            | AppendError::InlineProjection { .. }
            | AppendError::Guard { .. } => ErrorClass::Meaning,
            AppendError::Bad(_) => ErrorClass::Syntax,
            AppendError::Transact(e) => e.class(),
            AppendError::Db(e) => e.class(),
        }
    }
    /// May a decision made again on fresh state succeed? Only then is it retried.
    pub fn is_conflict(&self) -> bool {
        matches!(self, AppendError::WrongVersion { .. } | AppendError::ConditionFailed { .. })
    }
    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            AppendError::WrongVersion { .. } => {
                "read the stream again, decide again, append with its version"
            }
            AppendError::ConditionFailed { .. } => "read again at the t given, decide again",
            AppendError::IdReused { .. } => "an id names one event for ever: give new content a new id",
            AppendError::PartlyStored { .. } => {
                "send the batch as it was sent first, or only the events that are missing"
            }
            AppendError::OtherOrder { .. } => "send the batch as it was sent first",
            AppendError::Tombstoned(_) => "use another stream name",
            AppendError::CommandReused { .. } => "a command id names one request: use a new id",
            AppendError::TrackingBehind { .. } => "the message is already in: go on with the next",
            AppendError::TrackingGap { .. } => "deliver the missing messages first",
            AppendError::InlineProjection { .. } => {
                "correct the event, or change the projection: an inline projection must take every event it asks for"
            }
            _ => return None,
        })
    }
    /// What to show.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        if let AppendError::Transact(e) = self {
            return e.diagnostics();
        }
        let d = Diagnostic::new(self.code(), self.to_string());
        vec![match self.help() {
            Some(help) => d.help(help),
            None => d,
        }]
    }
}
