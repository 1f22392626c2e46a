//! Copying a stream, transformed, into a new one: how a log is mended without rewriting it.
//!
//! 1. The copies and the end of the original are one transaction: readers see one or the other.
//! 2. Each copy has the event it comes from as its cause, and an id that follows from that
//!    event's, the new stream and its number: the same copy made again has the same ids.
//! 3. The original is tombstoned, not removed: its events stay in the log, at their positions.

use crate::event::{
    append::{Append, AppendError, Appended, Expected},
    commit::Stop,
    id::{EventId, StreamId, Version},
    log::StreamError,
    record::{NewEvent, Recorded},
    table::{self, Key, StreamState, Tables},
};
use crate::{Connection, DbError, TransactError};

/// How often a copy begins again when the original grew meanwhile.
const ATTEMPTS: u32 = 3;

enum Refused {
    /// The original has grown since it was read.
    Grew(Version),
    Stop(Stop),
}
impl From<TransactError> for Refused {
    fn from(e: TransactError) -> Refused {
        Refused::Stop(e.into())
    }
}
impl From<Stop> for Refused {
    fn from(e: Stop) -> Refused {
        Refused::Stop(e)
    }
}
impl From<DbError> for Refused {
    fn from(e: DbError) -> Refused {
        Refused::Stop(e.into())
    }
}

impl Connection {
    /// Copies the events of a stream into a new one through `f`, which gives none, one or
    /// several for each, and tombstones the original, in one transaction. Ids and causation of
    /// the copies are set here; the time an event happened is kept unless `f` says another.
    ///
    /// `f` is handed events as they are stored: in their old shapes (so that a copy can bring
    /// them up to date for good), and with personal values marked as such (so that they are
    /// sealed again). It may be called again when the original grows meanwhile.
    ///
    /// # Errors
    /// `event/wrong-version` when the original has no events, when the new stream has some, or
    /// when the original kept growing; `event/tombstoned` when it has ended for good; and what
    /// any append may be refused with.
    pub fn copy_stream(
        &self,
        from: &StreamId,
        to: &StreamId,
        mut f: impl FnMut(&Recorded) -> Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        let events = self.shared().events().clone();
        let (mut last, mut expected) = (Version::ZERO, Version::ZERO);
        for _ in 0..ATTEMPTS {
            let log = self.db().events();
            let stored = log.stored_stream(from).map_err(|e| match e {
                StreamError::Missing(stream) => {
                    AppendError::wrong_version(stream, Expected::Exists, Version::ZERO)
                }
                StreamError::Tombstoned(stream) => AppendError::Tombstoned(stream),
                StreamError::Db(e) => e.into(),
            })?;
            let read = log.version(from)?;
            let mut copy = Append::to(to.as_str()).expect_new();
            for r in stored {
                let r = events.seals.unsealed(r).map_err(DbError::from)?;
                for (n, mut made) in f(&r).into_iter().enumerate() {
                    made.id = EventId::derived(r.event.id.0, to.as_str(), n as u64);
                    made.meta.causation = Some(r.event.id.0);
                    made.occurred_at = made.occurred_at.or(Some(r.time()));
                    copy = copy.push(made);
                }
            }
            let (events2, source) = (events.clone(), from.clone());
            let done = self.write(move |txn| -> Result<Appended, Refused> {
                // The staged database: appends before this one in the same group are in it.
                let mut head = Tables::new(txn.db_before().snapshot().clone()).head(&source)?;
                if head.version != read {
                    return Err(Refused::Grew(head.version));
                }
                let done = events2.append(txn, &copy)?;
                head.first = head.version.next();
                head.state = StreamState::Tombstoned;
                txn.row(table::put(table::HEAD, Key::new().text(source.as_str()), head.encode()));
                events2.remember_head(source, head);
                Ok(done)
            });
            match done {
                Ok((_, done)) => {
                    events.announce();
                    return Ok(done);
                }
                Err(Refused::Grew(version)) => (last, expected) = (version, read),
                Err(Refused::Stop(Stop::Replayed(done))) => return Ok(done),
                Err(Refused::Stop(Stop::Refused(e))) => return Err(e),
            }
        }
        Err(AppendError::wrong_version(from.clone(), Expected::Exact(expected), last))
    }
}
