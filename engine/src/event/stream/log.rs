//! Reading events: over all streams, by position and by id; always at a fixed basis. `one` reads one stream,
//! `matching` what has a type or a tag.
//!
//! 1. A reader shows the events with `t` up to its view's, and nothing newer.
//! 2. [`EventLog::all`] gives events and head from one basis, so a decision made
//!    on them can be guarded from exactly there.
//! 3. Everything handed out has been upcast, and what is sealed has been opened
//!    or stands as erased.

use crate::event::{
    id::{EventId, Position},
    record::{Names, Recorded},
    seal::{self, Seals},
    table::{self, Key, Tables},
    upcast::Upcasters,
};
use crate::{DbError, snapshot::Snapshot};
use annals_model::{T, View};
use std::{ops::ControlFlow, sync::Arc};

pub use crate::event::one::StreamError;

/// The events of a database value.
#[derive(Clone)]
pub struct EventLog {
    pub(crate) tables: Tables,
    pub(crate) upto: T,
    pub(crate) upcasters: Arc<Upcasters>,
    pub(crate) seals: Arc<Seals>,
}

impl EventLog {
    pub(crate) fn new(snap: Snapshot, view: View, upcasters: Arc<Upcasters>, seals: Arc<Seals>) -> EventLog {
        let upto = view.upto(snap.t());
        EventLog { tables: Tables::new(snap), upto, upcasters, seals }
    }

    /// The newest t whose events it shows.
    pub fn t(&self) -> T {
        self.upto
    }

    /// The newest position it shows; zero when there is no event.
    pub fn head(&self) -> Result<Position, DbError> {
        let last = self.tables.last_position()?;
        if self.upto >= self.tables.snap.t() {
            return Ok(last);
        }
        // Positions and t rise together: the last position whose t is not newer.
        let (mut low, mut high) = (0, last.0);
        while low < high {
            let mid = low + (high - low).div_ceil(2);
            match self.stored_t(Position(mid))? {
                Some(t) if t <= self.upto => low = mid,
                _ => high = mid - 1,
            }
        }
        Ok(Position(low))
    }

    pub(super) fn stored_t(&self, p: Position) -> Result<Option<T>, DbError> {
        Ok(self.tables.event(p)?.map(|e| e.t))
    }

    /// The transaction of a position.
    pub fn t_of(&self, p: Position) -> Result<Option<T>, DbError> {
        Ok(self.stored_t(p)?.filter(|t| *t <= self.upto))
    }

    /// The positions of one transaction's events: first and last, if it has any.
    pub fn positions_of(&self, t: T) -> Result<Option<(Position, Position)>, DbError> {
        let at = EventLog { upto: t.min(self.upto), ..self.clone() };
        let last = at.head()?;
        if last == Position::ZERO || self.stored_t(last)? != Some(t) {
            return Ok(None);
        }
        let before = EventLog { upto: T(t.0.saturating_sub(1)), ..self.clone() }.head()?;
        Ok(Some((before.next(), last)))
    }

    /// What the stored event is to readers.
    fn present(&self, r: Recorded) -> Result<Vec<Recorded>, DbError> {
        Ok(self.upcasters.apply(self.seals.open_event(r)?)?)
    }

    /// Adds to `events` what the stored event is to readers.
    pub(super) fn present_to(&self, r: Recorded, events: &mut Vec<Recorded>) -> Result<(), DbError> {
        if self.upcasters.is_empty() && !seal::is_sealed(&r.event.data) {
            events.push(r);
        } else {
            events.append(&mut self.upcasters.apply(self.seals.open_event(r)?)?);
        }
        Ok(())
    }

    /// The event at a position: several when an upcaster splits it, none when there is none.
    pub fn at(&self, p: Position) -> Result<Vec<Recorded>, DbError> {
        match self.tables.event(p)?.filter(|r| r.t <= self.upto) {
            Some(r) => self.present(r),
            None => Ok(Vec::new()),
        }
    }

    /// The event with an id.
    pub fn event(&self, id: EventId) -> Result<Vec<Recorded>, DbError> {
        match self.tables.position_of(id)? {
            Some(p) => self.at(p),
            None => Ok(Vec::new()),
        }
    }

    /// Visits stored events after a position up to another, as they are stored.
    pub(crate) fn each(
        &self,
        after: Position,
        upto: Position,
        visit: &mut dyn FnMut(Recorded) -> Result<ControlFlow<()>, DbError>,
    ) -> Result<Position, DbError> {
        let (from, to) = (Key::new().number(after.0 + 1).done(), Key::new().number(upto.0 + 1).done());
        let mut reached = upto;
        let (mut failed, mut names) = (None, Names::default());
        self.tables.rows(table::EVENT, &from, &to, false, &mut |k, v| {
            let Some(p) = table::last_number(k, 0).map(Position) else { return ControlFlow::Continue(()) };
            match Recorded::decode_with(p, v, &mut names).map_err(DbError::from).and_then(&mut *visit) {
                Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
                Ok(ControlFlow::Break(())) => {
                    reached = p;
                    ControlFlow::Break(())
                }
                Err(e) => {
                    failed = Some(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        match failed {
            Some(e) => Err(e),
            None => Ok(reached),
        }
    }

    /// The stored outcome of a command.
    pub fn command(
        &self,
        id: crate::event::id::CommandId,
    ) -> Result<Option<crate::event::command::CommandOutcome>, DbError> {
        match self.tables.row(table::COMMAND, Key::new().bytes(id.0.as_bytes()))? {
            Some(bytes) => Ok(Some(crate::event::command::CommandOutcome::decode(id, &bytes)?)),
            None => Ok(None),
        }
    }

    /// The last number stored for a source of outside messages; zero when none.
    pub fn tracking(&self, source: &crate::event::id::StreamId) -> Result<u64, DbError> {
        match self.tables.row(table::TRACKING, Key::new().text(source.as_str()))? {
            Some(bytes) => Ok(table::read_number(&bytes)?),
            None => Ok(0),
        }
    }
}
