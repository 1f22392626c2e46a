//! Aggregates: state folded from a stream, and the rules that decide on it.
//!
//! 1. `apply` is total and pure: what happened cannot be refused. A panic in it is
//!    caught, and the error names the event.
//! 2. `handle` is pure: it sees the state, the command and what [`Decide`] gives,
//!    and answers events. It is run again on fresh state after a conflict.
//! 3. The stream of an aggregate is `CATEGORY-id`; its version counts its events.
//! 4. Loading folds from the newest usable snapshot; that gives the same state as
//!    folding from version 1 (`snapshot`).

use crate::event::{
    decision::Decide,
    event_type::{Event, EventTypeError},
    id::{BadName, EventId, Position, StreamId, Version},
    log::StreamError,
    projection::panic_text,
    record::Recorded,
};
use crate::{DbError, ErrorClass};
use annals_model::T;
use serde::{Serialize, de::DeserializeOwned};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A consistency boundary: what is decided about one thing, on its own history.
///
/// ```
/// use annals::event::{Aggregate, Decide, Dispatch, Event};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default)]
/// struct Door { open: bool }
/// #[derive(Clone, Serialize, Deserialize)]
/// enum Turn { Open, Close }
/// #[derive(Serialize, Deserialize)]
/// enum Turned { Opened, Closed }
/// impl Event for Turned {
///     const TYPES: &'static [(&'static str, u32)] = &[("Opened", 1), ("Closed", 1)];
/// }
/// #[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
/// enum Stuck {
///     #[error("the door is open already")]
///     AlreadyOpen,
/// }
/// impl Aggregate for Door {
///     const CATEGORY: &'static str = "door";
///     type Command = Turn;
///     type Event = Turned;
///     type Error = Stuck;
///     fn apply(&mut self, e: &Turned) {
///         self.open = matches!(e, Turned::Opened);
///     }
///     fn handle(&self, c: Turn, _: &Decide) -> Result<Vec<Turned>, Stuck> {
///         match (c, self.open) {
///             (Turn::Open, true) => Err(Stuck::AlreadyOpen),
///             (Turn::Open, false) => Ok(vec![Turned::Opened]),
///             (Turn::Close, true) => Ok(vec![Turned::Closed]),
///             (Turn::Close, false) => Ok(vec![]), // accepted: there is nothing to do
///         }
///     }
/// }
///
/// let conn = annals::in_memory()?;
/// let doors = conn.repository::<Door>();
/// let done = doors.dispatch("front", Turn::Open, Dispatch::new())?;
/// assert_eq!(done.version.0, 1);
/// let again = doors.dispatch("front", Turn::Open, Dispatch::new()).unwrap_err();
/// assert_eq!((again.code(), again.rejection()), ("door/already-open", Some(&Stuck::AlreadyOpen)));
/// assert!(doors.load("front")?.state.open);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Aggregate: Default + 'static {
    /// What its streams' names begin with. Written to disk: never change it, and never
    /// name it after a Rust type that may be renamed. It holds no `-`.
    const CATEGORY: &'static str;
    /// What may be asked of it: usually an enum.
    type Command: Serialize + DeserializeOwned + Clone + 'static;
    /// What can happen to it.
    type Event: Event;
    /// Why it refuses. The code of a refusal is `CATEGORY/variant-name` (of a type that is no
    /// enum, the type's name), in lower case with dashes; the error itself is stored as data.
    type Error: std::error::Error + Serialize + DeserializeOwned + 'static;

    /// Takes in what happened.
    fn apply(&mut self, event: &Self::Event);

    /// Decides on a command. No events: accepted, and there is nothing to do.
    fn handle(&self, command: Self::Command, cx: &Decide<'_>) -> Result<Vec<Self::Event>, Self::Error>;
}

/// An aggregate as it was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded<A> {
    /// Its state.
    pub state: A,
    /// How many events its stream holds; of a state-stored aggregate, the t that changed it last.
    pub version: Version,
    /// The newest transaction that was looked at.
    pub t: T,
    /// Its stream.
    pub stream: StreamId,
    /// The version of the snapshot that the fold began with; zero when with the first event.
    pub from_snapshot: Version,
}

/// An aggregate could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its stream was closed for good.
    #[error("stream {0} is tombstoned")]
    Tombstoned(StreamId),
    /// An event has not the shape the aggregate knows.
    #[error("{stream} cannot be folded: {error}")]
    Event {
        /// The stream.
        stream: StreamId,
        /// What is wrong.
        error: EventTypeError,
    },
    /// `apply` panicked: it must be total.
    #[error("apply panicked at event {position} ({ty} {id}, version {version} of {stream}): {message}")]
    Panicked {
        /// The stream.
        stream: StreamId,
        /// Its version after the event.
        version: Version,
        /// Where the event stands.
        position: Position,
        /// Its id.
        id: EventId,
        /// Its type.
        ty: String,
        /// What the panic said.
        message: String,
    },
    /// Events that the fold needs are no longer shown: the stream has a retention.
    #[error("{stream} no longer shows the events from version {from} to {}: it has a retention", shown_from.0 - 1)]
    Retained {
        /// The stream.
        stream: StreamId,
        /// The first version needed.
        from: Version,
        /// The first version shown.
        shown_from: Version,
    },
    /// The stream has fewer events than the version asked for.
    #[error("{stream} is at version {actual}; version {wanted} is still to come")]
    NoVersion {
        /// The stream.
        stream: StreamId,
        /// The version asked for.
        wanted: Version,
        /// How many events there are.
        actual: Version,
    },
    /// The facts of a state-stored aggregate do not fit its state.
    #[error("the state of {stream} cannot be read: {why}")]
    State {
        /// Category and id, as a stream's name.
        stream: StreamId,
        /// What does not fit.
        why: String,
    },
    /// The category or the id do not make a name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A category holds a dash, so that category and id could not be told apart.
    #[error("category {0} holds a dash: streams are split at the first one")]
    Category(&'static str),
    /// The variants of the event type and its names on disk do not agree.
    #[error(transparent)]
    Types(EventTypeError),
    /// Reading failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl LoadError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            LoadError::Tombstoned(_) => "event/tombstoned",
            LoadError::Event { error, .. } | LoadError::Types(error) => error.code(),
            LoadError::Panicked { .. } => "event/apply-panicked",
            LoadError::Retained { .. } => "event/retained",
            LoadError::NoVersion { .. } => "event/no-version",
            LoadError::State { .. } => "command/bad-state",
            LoadError::Name(_) => "event/bad-name",
            LoadError::Category(_) => "command/bad-category",
            LoadError::Db(e) => e.code(),
        }
    }
    /// Whose fault.
    pub fn class(&self) -> ErrorClass {
        match self {
            LoadError::Tombstoned(_) | LoadError::NoVersion { .. } => ErrorClass::NotFound,
            LoadError::Name(_) => ErrorClass::Syntax,
            LoadError::Event { .. } | LoadError::Panicked { .. } | LoadError::State { .. } => {
                ErrorClass::Damaged
            }
            LoadError::Retained { .. } | LoadError::Category(_) | LoadError::Types(_) => ErrorClass::Meaning,
            LoadError::Db(e) => e.class(),
        }
    }
    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            LoadError::Event { error, .. } | LoadError::Types(error) => error.help(),
            LoadError::Panicked { .. } => Some("apply must take every event that is stored: correct it"),
            LoadError::Retained { .. } => {
                Some("retention is for technical streams, not for those of aggregates")
            }
            LoadError::Category(_) => Some("name the category without a dash"),
            LoadError::State { .. } => {
                Some("the attributes of the category must have the types of the state's fields")
            }
            LoadError::Tombstoned(_) => Some("use another id"),
            LoadError::NoVersion { .. } | LoadError::Name(_) | LoadError::Db(_) => None,
        }
    }
}

impl From<StreamError> for LoadError {
    fn from(e: StreamError) -> LoadError {
        match e {
            StreamError::Tombstoned(s) => LoadError::Tombstoned(s),
            StreamError::Missing(stream) => {
                LoadError::NoVersion { stream, wanted: Version(1), actual: Version::ZERO }
            }
            StreamError::Db(e) => LoadError::Db(e),
        }
    }
}

/// The state after more events.
pub(crate) fn fold<A: Aggregate>(state: A, events: &[Recorded]) -> Result<A, LoadError> {
    let mut state = state;
    for r in events {
        let e: A::Event = r.read().map_err(|error| LoadError::Event { stream: r.stream.clone(), error })?;
        state = apply(state, &e).map_err(|message| LoadError::Panicked {
            stream: r.stream.clone(),
            version: r.version,
            position: r.position,
            id: r.id(),
            ty: r.ty().to_owned(),
            message,
        })?;
    }
    Ok(state)
}

/// The state after one more event, or what the panic in `apply` said.
pub(crate) fn apply<A: Aggregate>(mut state: A, e: &A::Event) -> Result<A, String> {
    catch_unwind(AssertUnwindSafe(move || {
        state.apply(e);
        state
    }))
    .map_err(|panic| panic_text(&*panic))
}

/// The stream of one aggregate.
pub(crate) fn stream_of<A: Aggregate>(id: &str) -> Result<StreamId, LoadError> {
    if A::CATEGORY.contains('-') || A::CATEGORY.is_empty() {
        return Err(LoadError::Category(A::CATEGORY));
    }
    Ok(StreamId::of(A::CATEGORY, id)?)
}
