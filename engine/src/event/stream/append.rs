//! What is appended, and what comes back. Why it may be refused: `append_error`.
//!
//! One [`Append`] is one transaction: all of its events, the facts of inline
//! projections, its own facts, tracking and command outcome, or nothing.

use crate::event::{
    command::CommandOutcome,
    data::IntoData,
    id::{BadName, EventType, Position, StreamId, Tag, Version},
    record::{BadEvent, NewEvent, Recorded},
};
use annals_model::{Instant, T, Value, tx::TxData};
use std::{fmt, sync::Arc};

pub use super::append_error::AppendError;

/// Which version a stream must have for an append to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Expected {
    /// Any, or none.
    #[default]
    Any,
    /// The stream must be new.
    NoStream,
    /// The stream must hold events.
    Exists,
    /// Exactly this many events.
    Exact(Version),
}

impl Expected {
    /// Does a stream at `actual` meet this?
    pub fn holds(self, actual: Version) -> bool {
        match self {
            Expected::Any => true,
            Expected::NoStream => actual == Version::ZERO,
            Expected::Exists => actual > Version::ZERO,
            Expected::Exact(v) => actual == v,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Any => f.write_str("any version"),
            Expected::NoStream => f.write_str("no stream"),
            Expected::Exists => f.write_str("an existing stream"),
            Expected::Exact(v) => write!(f, "{v}"),
        }
    }
}

/// Events for one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamWrite {
    /// The stream.
    pub stream: StreamId,
    /// What it must be like before.
    pub expected: Expected,
    /// The events, in order.
    pub events: Vec<NewEvent>,
}

/// A choice of events: any of the types, all of the tags. No types: every type.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Item {
    /// One of these, if any are given.
    pub types: Vec<EventType>,
    /// All of these.
    pub tags: Vec<Tag>,
}

impl Item {
    /// Events of one of these types.
    pub fn types<I: IntoIterator>(types: I) -> Result<Item, BadName>
    where
        I::Item: AsRef<str>,
    {
        Ok(Item { types: types.into_iter().map(EventType::new).collect::<Result<_, _>>()?, tags: Vec::new() })
    }
    /// Events with all of these tags.
    pub fn tags<I: IntoIterator>(tags: I) -> Result<Item, BadName>
    where
        I::Item: AsRef<str>,
    {
        Ok(Item { types: Vec::new(), tags: tags.into_iter().map(Tag::new).collect::<Result<_, _>>()? })
    }
    /// Does the event fit?
    pub fn matches(&self, e: &NewEvent) -> bool {
        (self.types.is_empty() || self.types.contains(&e.ty)) && self.tags.iter().all(|t| e.tags.contains(t))
    }
}

/// Does the event fit one of the items? No items: every event fits.
pub fn matches(items: &[Item], e: &Recorded) -> bool {
    items.is_empty() || items.iter().any(|i| i.matches(&e.event))
}

/// What must be so at the commit: the dynamic consistency boundary.
#[derive(Clone, Debug)]
pub enum Guard {
    /// No event after `after` matches one of the items.
    NoneMatch(Vec<Item>),
    /// The query has the same answer as at `after`.
    Unchanged(GuardQuery),
    /// The query has at least one row.
    Holds(GuardQuery),
    /// The query still has exactly the rows that a decision read ([`crate::event::Reads`]).
    Same(crate::event::decision::ReadQuery),
}

/// A Datalog query over the database, with its inputs after `$`.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardQuery {
    /// The query's text.
    pub query: Arc<str>,
    /// Its inputs.
    pub args: Vec<Value>,
}

impl GuardQuery {
    /// A query and its inputs.
    pub fn new(query: impl AsRef<str>, args: impl IntoIterator<Item = Value>) -> GuardQuery {
        GuardQuery { query: Arc::from(query.as_ref()), args: args.into_iter().collect() }
    }
}

/// A guard and the t the decision was made at.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What must be so.
    pub guard: Guard,
    /// The basis the caller read.
    pub after: T,
}

/// The number of a message from an outside source, stored with what it caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// The source's name.
    pub source: StreamId,
    /// The number. It must be larger than the last one stored.
    pub number: u64,
    /// Must it be exactly one larger?
    pub gapless: bool,
}

/// Events to be appended, with everything that goes with them.
///
/// ```
/// use annals::event::{Append, Expected};
/// let a = Append::to("order-A-1").expect_version(3).event("OrderShipped", r#"{"carrier": "DHL"}"#)?;
/// assert_eq!(a.writes()[0].expected, Expected::Exact(annals::event::Version(3)));
/// # Ok::<(), annals::event::AppendError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Append {
    pub(crate) writes: Vec<StreamWrite>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) facts: TxData,
    pub(crate) command: Option<CommandOutcome>,
    pub(crate) tracking: Option<Tracking>,
    pub(crate) instant: Option<Instant>,
    /// An instant earlier than that of the transaction before is moved up to it.
    pub(crate) not_before_last: bool,
    /// Rows of other side tables that belong to it: snapshots, the states of processes.
    pub(crate) rows: Vec<annals_storage::Row>,
    wrong: Option<BadEvent>,
}

impl Append {
    /// An append without streams: conditions and facts only, until [`Append::and_to`].
    pub fn new() -> Append {
        Append::default()
    }
    /// Appends to a stream, expecting nothing of it. A bad name is reported when the append is carried out.
    pub fn to(stream: impl AsRef<str>) -> Append {
        Append::new().and_to(stream)
    }
    /// What follows goes to another stream of the same transaction.
    pub fn and_to(mut self, stream: impl AsRef<str>) -> Append {
        match StreamId::new(stream) {
            Ok(stream) => {
                self.writes.push(StreamWrite { stream, expected: Expected::Any, events: Vec::new() })
            }
            Err(e) => self.wrong = self.wrong.or(Some(e.into())),
        }
        self
    }
    /// Several events of one stream.
    pub fn write(mut self, write: StreamWrite) -> Append {
        self.writes.push(write);
        self
    }
    /// The stream must be like this.
    pub fn expect(mut self, expected: Expected) -> Append {
        if let Some(w) = self.writes.last_mut() {
            w.expected = expected;
        }
        self
    }
    /// The stream must hold exactly this many events.
    pub fn expect_version(self, version: u64) -> Append {
        self.expect(Expected::Exact(Version(version)))
    }
    /// The stream must be new.
    pub fn expect_new(self) -> Append {
        self.expect(Expected::NoStream)
    }
    /// Adds an event with a fresh id to the stream named last.
    pub fn event<N>(self, ty: N, data: impl IntoData) -> Result<Append, AppendError>
    where
        N: TryInto<EventType, Error: Into<BadEvent>>,
    {
        Ok(self.push(NewEvent::new(ty, data)?))
    }
    /// Adds an event to the stream named last.
    pub fn push(mut self, event: NewEvent) -> Append {
        if let Some(w) = self.writes.last_mut() {
            w.events.push(event);
        }
        self
    }
    /// Adds a condition.
    pub fn condition(mut self, guard: Guard, after: T) -> Append {
        self.conditions.push(Condition { guard, after });
        self
    }
    /// Refuses the append when an event after `after` matches one of the items.
    pub fn none_match(self, items: Vec<Item>, after: T) -> Append {
        self.condition(Guard::NoneMatch(items), after)
    }
    /// Refuses the append when the query's answer is not what it was at `after`.
    pub fn unchanged(self, query: GuardQuery, after: T) -> Append {
        self.condition(Guard::Unchanged(query), after)
    }
    /// Refuses the append unless the query has a row at the commit.
    pub fn holds(self, query: GuardQuery) -> Append {
        self.condition(Guard::Holds(query), T::GENESIS)
    }
    /// Asserts facts in the same transaction.
    pub fn facts(mut self, facts: TxData) -> Append {
        self.facts.forms.extend(facts.forms);
        self
    }
    /// Stores the number of the outside message this comes from; an old number is refused.
    pub fn tracking(mut self, tracking: Tracking) -> Append {
        self.tracking = Some(tracking);
        self
    }
    /// Stores a command's outcome in the same transaction.
    pub fn command(mut self, outcome: CommandOutcome) -> Append {
        self.command = Some(outcome);
        self
    }
    /// Sets the transaction's instant: for imports into a new database.
    pub fn instant(mut self, at: Instant) -> Append {
        self.instant = Some(at);
        self
    }
    /// Sets the transaction's instant, or that of the transaction before when it is later.
    pub(crate) fn instant_not_before_last(mut self, at: Instant) -> Append {
        self.not_before_last = true;
        self.instant(at)
    }
    /// The writes so far.
    pub fn writes(&self) -> &[StreamWrite] {
        &self.writes
    }
    /// Was something wrong with it already when it was built?
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        if let Some(e) = &self.wrong {
            return Err(e.clone().into());
        }
        for (i, w) in self.writes.iter().enumerate() {
            if self.writes[..i].iter().any(|x| x.stream == w.stream) {
                return Err(AppendError::StreamTwice(w.stream.clone()));
            }
            for e in &w.events {
                for v in e.meta.more.values() {
                    crate::event::data::Data::of(v).map_err(BadEvent::from)?;
                }
            }
        }
        Ok(())
    }
}

/// What an append did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The transaction.
    pub t: T,
    /// Position of the first event; zero when there was none.
    pub first: Position,
    /// Position of the last event; zero when there was none.
    pub last: Position,
    /// The streams with their versions after it.
    pub versions: Vec<(StreamId, Version)>,
    /// It had been done before: this is the first answer again.
    pub replayed: bool,
}

impl Appended {
    /// The version of the first stream named; zero when there was none.
    pub fn version(&self) -> Version {
        self.versions.first().map_or(Version::ZERO, |(_, v)| *v)
    }
}
