//! Reading events: by stream, over all streams, by id; always at a fixed basis.
//!
//! 1. A reader shows the events with `t` up to its view's, and nothing newer.
//! 2. [`EventLog::all`] gives events and head from one basis, so a decision made
//!    on them can be guarded from exactly there.
//! 3. Everything handed out has been upcast, and what is sealed has been opened
//!    or stands as erased.

use crate::event::{
    append::{Item, matches},
    id::{EventId, Position, StreamId, Version},
    record::{Names, Recorded},
    seal::Seals,
    table::{self, Head, Key, StreamState, Tables},
    upcast::Upcasters,
};
use crate::{DbError, snapshot::Snapshot};
use annals_model::{Instant, T, View};
use std::{ops::ControlFlow, sync::Arc};

/// Positions of an index that are listed in one go, when fewer events are asked for.
const PAGE: usize = 64;

/// A stream that is there no longer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// There is no such stream.
    #[error("there is no stream {0}")]
    Missing(StreamId),
    /// It was closed for good.
    #[error("stream {0} is tombstoned")]
    Tombstoned(StreamId),
    /// Reading failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl StreamError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            StreamError::Missing(_) => "event/no-stream",
            StreamError::Tombstoned(_) => "event/tombstoned",
            StreamError::Db(e) => e.code(),
        }
    }
}

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

    fn stored_t(&self, p: Position) -> Result<Option<T>, DbError> {
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
    fn present_to(&self, r: Recorded, events: &mut Vec<Recorded>) -> Result<(), DbError> {
        let r = self.seals.open_event(r)?;
        if self.upcasters.is_empty() {
            events.push(r);
        } else {
            events.append(&mut self.upcasters.apply(r)?);
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

    /// A stream at a glance. An as-of view counts the events of its time.
    pub fn stream_head(&self, stream: &StreamId) -> Result<Head, DbError> {
        let mut head = self.tables.head(stream)?;
        if self.upto < self.tables.snap.t() {
            // Versions and t rise together.
            let (mut low, mut high) = (0, head.version.0);
            while low < high {
                let mid = low + (high - low).div_ceil(2);
                let p = self.position(stream, Version(mid))?;
                match p.map(|p| self.stored_t(p)).transpose()?.flatten() {
                    Some(t) if t <= self.upto => low = mid,
                    _ => high = mid - 1,
                }
            }
            head.version = Version(low);
            head.last = self.position(stream, Version(low))?.unwrap_or_default();
        }
        Ok(head)
    }

    /// How many events a stream was ever given; zero when it does not exist.
    pub fn version(&self, stream: &StreamId) -> Result<Version, DbError> {
        Ok(self.stream_head(stream)?.version)
    }

    fn position(&self, stream: &StreamId, v: Version) -> Result<Option<Position>, DbError> {
        let key = Key::new().text(stream.as_str()).number(v.0);
        Ok(match self.tables.row(table::STREAM, key)? {
            Some(bytes) => Some(Position(table::read_number(&bytes)?)),
            None => None,
        })
    }

    /// The positions of the versions of a stream, whatever is shown of it.
    pub(crate) fn positions_in(
        &self,
        stream: &StreamId,
        from: Version,
        to: Version,
    ) -> Result<Vec<Position>, DbError> {
        let mut found = Vec::new();
        for v in from.0..=to.0 {
            found.extend(self.position(stream, Version(v))?);
        }
        Ok(found)
    }

    /// Up to `limit` events of a stream from version `from` on (zero counts as one), in order.
    pub fn stream(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Recorded>, StreamError> {
        self.read(stream, from, Version(u64::MAX), limit, false)
    }

    /// Up to `limit` events of a stream, newest first, from version `from` down.
    pub fn stream_back(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<Vec<Recorded>, StreamError> {
        self.read(stream, Version::ZERO, from, limit, true)
    }

    /// The events of a stream with `from <= version <= to`.
    pub fn stream_range(
        &self,
        stream: &StreamId,
        from: Version,
        to: Version,
    ) -> Result<Vec<Recorded>, StreamError> {
        self.read(stream, from, to, usize::MAX, false)
    }

    /// Every event of a stream that is shown, as it is stored.
    pub(crate) fn stored_stream(&self, stream: &StreamId) -> Result<Vec<Recorded>, StreamError> {
        let mut all = Vec::new();
        self.read_stored(stream, Version::ZERO, Version(u64::MAX), usize::MAX, false, &mut |r| {
            all.push(r);
            Ok(())
        })?;
        Ok(all)
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Version,
        to: Version,
        limit: usize,
        back: bool,
    ) -> Result<Vec<Recorded>, StreamError> {
        let mut events = Vec::new();
        self.read_stored(stream, from, to, limit, back, &mut |r| {
            let before = events.len();
            self.present_to(r, &mut events)?;
            if back {
                events[before..].reverse();
            }
            Ok(())
        })?;
        Ok(events)
    }

    fn read_stored(
        &self,
        stream: &StreamId,
        from: Version,
        to: Version,
        limit: usize,
        back: bool,
        give: &mut dyn FnMut(Recorded) -> Result<(), DbError>,
    ) -> Result<(), StreamError> {
        let head = self.tables.head(stream)?;
        match head.state {
            StreamState::Tombstoned => return Err(StreamError::Tombstoned(stream.clone())),
            _ if head.version == Version::ZERO => return Err(StreamError::Missing(stream.clone())),
            StreamState::Deleted if head.shown_from() > head.version => {
                return Err(StreamError::Missing(stream.clone()));
            }
            StreamState::Deleted | StreamState::Live => {}
        }
        let from = from.max(head.shown_from());
        let to = to.min(head.version);
        if from > to {
            return Ok(());
        }
        let prefix = Key::new().text(stream.as_str());
        let (low, high) = (prefix.clone().number(from.0).done(), prefix.number(to.0 + 1).done());
        let mut positions = Vec::new();
        let mut damaged = None;
        self.tables.rows(table::STREAM, &low, &high, back, &mut |_, v| {
            match table::read_number(v) {
                Ok(p) => positions.push(Position(p)),
                Err(e) => damaged = Some(e),
            }
            if positions.len() < limit && damaged.is_none() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        if let Some(e) = damaged {
            return Err(DbError::from(e).into());
        }
        let oldest = self.oldest(&head)?;
        let (mut names, mut failed) = (Names::default(), None);
        self.tables.events_at(&positions, &mut |p, bytes| {
            let r = match Recorded::decode_with(p, bytes, &mut names) {
                Ok(r) => r,
                Err(e) => {
                    failed = Some(DbError::from(e));
                    return ControlFlow::Break(());
                }
            };
            if r.t > self.upto {
                return if back { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            }
            if oldest.is_some_and(|oldest| r.recorded_at < oldest) {
                return ControlFlow::Continue(());
            }
            match give(r) {
                Ok(()) => ControlFlow::Continue(()),
                Err(e) => {
                    failed = Some(e);
                    ControlFlow::Break(())
                }
            }
        })?;
        match failed {
            Some(e) => Err(e.into()),
            None => Ok(()),
        }
    }

    /// Before which instant the events of a stream are no longer shown, if any are not.
    fn oldest(&self, head: &Head) -> Result<Option<Instant>, DbError> {
        let Some(age) = i64::try_from(head.max_age_secs).ok().filter(|s| *s > 0) else { return Ok(None) };
        let now = self.tables.snap.instant_of(self.tables.snap.t())?;
        Ok(now.map(|now| Instant(now.0.saturating_sub(age.saturating_mul(1_000_000)))))
    }

    /// The first version of a stream that is shown, by number and by age; the one after the
    /// newest, when none is.
    pub(crate) fn shown_from(&self, stream: &StreamId, head: &Head) -> Result<Version, DbError> {
        let (mut low, mut high) = (head.shown_from().0.max(1), head.version.0 + 1);
        let Some(oldest) = self.oldest(head)? else { return Ok(Version(low)) };
        // Versions and instants rise together.
        while low < high {
            let mid = low + (high - low) / 2;
            let at = match self.position(stream, Version(mid))? {
                Some(p) => self.tables.event(p)?.map(|e| e.recorded_at),
                None => None,
            };
            if at.is_some_and(|at| at >= oldest) { high = mid } else { low = mid + 1 }
        }
        Ok(Version(low))
    }

    /// Up to `limit` events after a position that match one of the items (all, when
    /// there are none), and the position up to which nothing was left out.
    pub fn all(
        &self,
        items: &[Item],
        after: Position,
        limit: usize,
    ) -> Result<(Vec<Recorded>, Position), DbError> {
        let head = self.head()?;
        let mut events = Vec::new();
        if after >= head || limit == 0 {
            return Ok((events, head));
        }
        let mut seen = after;
        while seen < head {
            // Whoever asks for one event of a long backlog does not have all of it listed.
            let Some((positions, upto)) = self.some_candidates(items, seen, head, limit.max(PAGE))? else {
                let reached = self.each(after, head, &mut |r| {
                    let before = events.len();
                    self.present_to(r, &mut events)?;
                    if !items.is_empty() {
                        let parts = events.split_off(before);
                        events.extend(parts.into_iter().filter(|e| matches(items, e)));
                    }
                    Ok(if events.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
                })?;
                return Ok((events, reached));
            };
            for p in positions {
                events.extend(self.at(p)?.into_iter().filter(|e| matches(items, e)));
                if events.len() >= limit {
                    return Ok((events, p));
                }
            }
            seen = upto;
        }
        Ok((events, head))
    }

    /// The last event before a position that matches, looking backwards.
    pub fn all_back(&self, items: &[Item], before: Position, limit: usize) -> Result<Vec<Recorded>, DbError> {
        let mut events = Vec::new();
        let end = before.0.min(self.head()?.0 + 1);
        for p in (1..end).rev() {
            let mut found: Vec<_> = self.at(Position(p))?.into_iter().filter(|e| matches(items, e)).collect();
            found.reverse();
            events.append(&mut found);
            if events.len() >= limit {
                break;
            }
        }
        Ok(events)
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

    /// Positions in `(after, upto]` that may match, from the indexes by type and
    /// tag; none when only reading everything will do.
    pub(crate) fn candidates(
        &self,
        items: &[Item],
        after: Position,
        upto: Position,
    ) -> Result<Option<Vec<Position>>, DbError> {
        Ok(self.some_candidates(items, after, upto, usize::MAX)?.map(|(all, _)| all))
    }

    /// The first of them, some `most` for each index that is looked at, and the position up to
    /// which there are no others.
    fn some_candidates(
        &self,
        items: &[Item],
        after: Position,
        upto: Position,
        most: usize,
    ) -> Result<Option<(Vec<Position>, Position)>, DbError> {
        if items.is_empty() || items.iter().any(|i| i.types.is_empty() && i.tags.is_empty()) {
            return Ok(None);
        }
        let mut found = Vec::new();
        let mut whole = upto;
        let mut look = |table, name: &str| -> Result<(), DbError> {
            whole = whole.min(self.index(table, name, (after, upto), most, &mut found)?);
            Ok(())
        };
        for item in items {
            if let Some(tag) = item.tags.first() {
                look(table::TAG, tag.as_str())?;
            } else {
                for ty in &item.types {
                    look(table::TYPE, ty.as_str())?;
                }
            }
        }
        // Whatever an upcaster takes may come out as anything.
        for ty in self.upcasters.sources() {
            look(table::TYPE, ty)?;
        }
        found.retain(|p| *p <= whole);
        found.sort_unstable();
        found.dedup();
        Ok(Some((found, whole)))
    }

    /// Positions in `(after, upto]` under a name, at most so many; up to where they are all.
    fn index(
        &self,
        table: u8,
        name: &str,
        (after, upto): (Position, Position),
        most: usize,
        found: &mut Vec<Position>,
    ) -> Result<Position, DbError> {
        let (mut left, mut whole) = (most, upto);
        let prefix = Key::new().text(name);
        let n = prefix.clone().done().len();
        let (from, to) = (prefix.clone().number(after.0 + 1).done(), prefix.number(upto.0 + 1).done());
        self.tables.rows(table, &from, &to, false, &mut |k, _| {
            let Some(p) = table::last_number(k, n).map(Position) else { return ControlFlow::Continue(()) };
            found.push(p);
            left -= 1;
            if left > 0 {
                return ControlFlow::Continue(());
            }
            whole = p;
            ControlFlow::Break(())
        })?;
        Ok(whole)
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
    pub fn tracking(&self, source: &StreamId) -> Result<u64, DbError> {
        match self.tables.row(table::TRACKING, Key::new().text(source.as_str()))? {
            Some(bytes) => Ok(table::read_number(&bytes)?),
            None => Ok(0),
        }
    }
}
