//! Events: streams, and the projections that make facts of them.
//!
//! An append is one transaction: its events, the facts of inline projections, its
//! own facts, its tracking and its command's outcome are in one record of the log,
//! or none of them is. Words: **t** is the number of a transaction, the axis of
//! as-of; a **position** is the number of an event over all streams, the axis of
//! subscriptions; a **version** is the number of events in one stream.
//!
//! ```
//! use annals::event::Append;
//! let conn = annals::in_memory()?;
//! let done = conn.append(Append::to("order-A-1").expect_new().event("OrderPlaced", r#"{"total": 12}"#)?)?;
//! assert_eq!((done.version().0, done.first.0), (1, 1));
//! let q = "[:find ?total . :where [?e :event/type \"OrderPlaced\"] [?e :event/data ?d] [(get ?d :total) ?total]]";
//! assert_eq!(conn.db().query(q, ())?.scalar(), Some(annals::Value::Long(12)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order: names ([`id`]) and payloads ([`data`]); `stream` (what is appended, judged,
//! stored and read); `personal` (sealed values, erasure); [`command`] (aggregates, decisions, their
//! outcomes); [`process`] (what follows from events: commands, timers, effects); [`projection`]
//! (facts made of events). `registry` is what one connection knows of all of them.

pub mod command;
pub mod data;
pub mod id;
mod personal;
pub mod process;
pub mod projection;
mod registry;
mod stream;

// The parts are named without their folders, inside and outside: `event::append`, `event::log`.
pub use command::{aggregate, decision, dispatch, event_type, fixture, repository, state};
pub(crate) use command::{dispatch_error, domain, door, outcomes, refusal, snapshot, wire, wire_name};
pub use personal::seal;
pub(crate) use personal::{clear, erase, keys, marks, redact};
pub(crate) use process::{outbox, queued, status, step, wants, work};
pub use process::{reactor, runner, timer};
pub(crate) use projection::{
    batch, driver, error as projection_error, inline, parked, preview, register, runtime, skip, steer,
    support,
};
pub use projection::{facts, language};
pub use stream::{append, face, import, log, record, subscribe, table, upcast};
pub(crate) use stream::{async_feed, commit, judge, one};

pub use aggregate::{Aggregate, LoadError, Loaded};
pub use append::{
    Append, AppendError, Appended, Condition, Expected, Guard, GuardQuery, Item, StreamWrite, Tracking,
};
pub use async_feed::EventStream;
pub use batch::Parked;
pub use clear::TextErasure;
pub use command::{CommandOutcome, CommandStatus, CommandTo, Dispatch, Retry, WaitFor};
pub use data::{Data, DataError, IntoData, of_json, to_json};
pub use decision::{Decide, Decision, ReadError, ReadQuery, Reads};
pub use dispatch::Dispatched;
pub use dispatch_error::{CommandError, DispatchError};
pub use door::{CommandAnswer, CommandRequest};
pub use driver::Runner;
pub use erase::Erased;
pub use event_type::{Event, EventTypeError};
pub use facts::{Facts, Object, Subject};
pub use fixture::{Fixture, ProcessFixture, Taken, When};
pub use id::{BadName, CommandId, EventId, EventType, Position, StreamId, Tag, Version};
pub use import::{ImportError, Imported};
pub use language::{Definition, Mode, OnError};
pub use log::{EventLog, StreamError};
pub use outbox::QueuedCommand;
pub use outcomes::CommandStats;
pub use parked::Replayed;
pub use preview::{FactDiff, PreviewFact, PreviewOptions};
pub use process::{Out, Outgoing, ProcessError, ProcessManager, Route};
pub use projection::{Before, Projection, ProjectionSpec};
pub use projection_error::ProjectionError;
pub use reactor::Reactor;
pub use record::{BadEvent, Meta, NewEvent, Recorded};
pub use refusal::Refusal;
pub use register::Dropped;
pub(crate) use registry::Events;
pub use repository::Repository;
pub use runner::ProcessRunner;
pub use runtime::ProjectionState;
pub use seal::{SealError, personal};
pub use skip::Skipped;
pub use snapshot::SnapshotPolicy;
pub use state::{StateRepository, StateStored};
pub use status::{ProcessState, ProcessStatus, Step};
pub use steer::ProjectionStatus;
pub use subscribe::{Feed, Start, Subscription};
pub use support::{Cause, Support};
pub use table::{Head, StreamState};
pub use timer::PendingTimer;
pub use upcast::{UpcastError, Upcaster};

pub use futures_core::Stream;

use crate::Db;
use annals_model::{Diagnostic, Value};

/// A stored event could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Its bytes.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its personal values.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Its old shape.
    #[error(transparent)]
    Upcast(#[from] UpcastError),
}

impl EventError {
    /// Whose fault.
    pub fn class(&self) -> crate::ErrorClass {
        use crate::ErrorClass::{Damaged, Environment, Meaning};
        match self {
            EventError::Data(_) | EventError::Seal(SealError::Damaged { .. } | SealError::Data(_)) => Damaged,
            EventError::Seal(SealError::Io { .. }) => Environment,
            EventError::Seal(SealError::Erased(_) | SealError::BadSubject(_) | SealError::Unplaced)
            | EventError::Upcast(_) => Meaning,
        }
    }
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            EventError::Data(_) => "event/damaged",
            EventError::Seal(e) => e.code(),
            EventError::Upcast(_) => "event/upcast",
        }
    }
}

macro_rules! into_db_error {
    ($($name:ident)*) => {$(
        impl From<$name> for crate::DbError {
            fn from(e: $name) -> crate::DbError {
                crate::DbError::Event(e.into())
            }
        }
    )*};
}
into_db_error!(DataError SealError UpcastError);

/// Reads one EDN value.
pub(crate) fn read_edn(text: &str) -> Result<Value, Vec<Diagnostic>> {
    match annals_query::edn::read_one(text) {
        Ok(form) => Ok(form.into_value()),
        Err(e) => Err(e.0),
    }
}

/// Longest run of a query that a commit waits for, in milliseconds, and its most memory: all other
/// writers wait meanwhile.
const GUARD_MS: u64 = 2_000;
const GUARD_BYTES: u64 = 256 << 20;

/// The limits of a query that runs inside a commit.
pub(crate) fn guard_options() -> crate::QueryOptions {
    crate::QueryOptions {
        timeout_ms: Some(GUARD_MS),
        max_bytes: GUARD_BYTES,
        ..crate::QueryOptions::default()
    }
}

/// The rows of a query inside a commit as values, sorted.
pub(crate) fn query_rows(db: &Db, query: &str, args: &[Value]) -> Result<Vec<Value>, String> {
    let inputs: Vec<crate::Input> = args.iter().cloned().map(crate::Input::Value).collect();
    let answer = db.query_with(query, inputs, &guard_options()).map_err(|e| e.to_string())?;
    let mut rows: Vec<Value> = answer.rows.iter().map(Value::vector).collect();
    rows.sort();
    Ok(rows)
}
