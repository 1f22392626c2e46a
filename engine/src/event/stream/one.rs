//! Reading one stream: its head, and its events forward, backward and between versions.
//!
//! 1. What is shown of a stream begins after what was deleted, and after what its limits of number and age
//!    leave out.
//! 2. Versions, positions, t and instants of a stream rise together: where something begins is found by
//!    halving.

use crate::DbError;
use crate::event::{
    id::{Position, StreamId, Version},
    log::EventLog,
    record::{Names, Recorded},
    table::{self, Head, Key, StreamState},
};
use annals_model::Instant;
use std::ops::ControlFlow;

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

impl EventLog {
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
        self.read_stored(stream, Version::ZERO, Version(u64::MAX), usize::MAX, false, &mut |r, _| {
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
        self.read_stored(stream, from, to, limit, back, &mut |r, of| {
            if events.capacity() == 0 {
                events.reserve_exact(of);
            }
            let before = events.len();
            self.present_to(r, &mut events)?;
            if back {
                events[before..].reverse();
            }
            Ok(())
        })?;
        Ok(events)
    }

    /// Gives each event, and how many there may be.
    fn read_stored(
        &self,
        stream: &StreamId,
        from: Version,
        to: Version,
        limit: usize,
        back: bool,
        give: &mut dyn FnMut(Recorded, usize) -> Result<(), DbError>,
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
            match give(r, positions.len()) {
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
}
