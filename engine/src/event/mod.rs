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
//! Modules in reading order: names ([`id`]), payloads ([`data`]), records
//! ([`record`]), what is appended ([`append`]), reading ([`log`]), projections as
//! data ([`language`]) and as Rust ([`projection`]), old shapes ([`upcast`]),
//! erasure ([`seal`]), imports ([`import`]), subscriptions ([`subscribe`]).

pub mod aggregate;
pub mod append;
mod batch;
pub mod command;
mod commit;
mod copy;
pub mod data;
pub mod decision;
pub mod dispatch;
mod domain;
mod door;
mod driver;
mod erase;
pub mod event_type;
pub mod face;
pub mod facts;
pub mod fixture;
pub mod id;
pub mod import;
mod keys;
pub mod language;
pub mod log;
mod outbox;
mod parked;
mod preview;
pub mod process;
pub mod projection;
mod projection_error;
pub mod reactor;
pub mod record;
mod register;
mod registry;
pub mod repository;
pub mod runner;
mod runtime;
pub mod seal;
mod skip;
mod snapshot;
mod speculate;
pub mod state;
mod steer;
pub mod subscribe;
mod support;
pub mod table;
pub mod timer;
pub mod upcast;
mod virtual_source;
mod wire;

pub use aggregate::{Aggregate, LoadError, Loaded};
pub use append::{
    Append, AppendError, Appended, Condition, Expected, Guard, GuardQuery, Item, StreamWrite, Tracking,
};
pub use batch::Parked;
pub use command::{CommandOutcome, CommandStatus, CommandTo, Dispatch, Retry};
pub use data::{Data, DataError, IntoData, of_json, to_json};
pub use decision::{Decide, Decision, ReadError, ReadQuery, Reads};
pub use dispatch::{CommandError, CommandStats, DispatchError, Dispatched, Refusal};
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
pub use parked::Replayed;
pub use preview::{FactDiff, PreviewFact};
pub use process::{Out, Outgoing, ProcessError, ProcessManager, Route};
pub use projection::{Before, Projection, ProjectionSpec};
pub use projection_error::ProjectionError;
pub use reactor::Reactor;
pub use record::{BadEvent, Meta, NewEvent, Recorded};
pub use register::Dropped;
pub(crate) use registry::Events;
pub use repository::Repository;
pub use runner::{ProcessRunner, ProcessState, ProcessStatus, Step};
pub use runtime::ProjectionState;
pub use seal::{SealError, personal};
pub use skip::Skipped;
pub use snapshot::SnapshotPolicy;
pub use state::{StateRepository, StateStored};
pub use steer::ProjectionStatus;
pub use subscribe::{Feed, Start, Subscription};
pub use support::{Cause, Support};
pub use table::{Head, StreamState};
pub use timer::PendingTimer;
pub use upcast::{UpcastError, Upcaster};

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
