//! What a connection offers for streams: append, read, end, retain.
//!
//! Not here: projections (`register`, `steer`), subscriptions, imports.

use crate::event::{
    append::{Append, AppendError, Appended},
    commit::Stop,
    id::StreamId,
    log::EventLog,
    registry::Events,
    seal::Seals,
    table::{self, Key, StreamState, Tables},
    upcast::{UpcastError, Upcaster},
};
use crate::{Connection, Db, DbError, OpenError, shared::Shared, snapshot::Snapshot};
use annals_model::T;
use std::{path::Path, sync::Arc};

impl Events {
    /// Reads what a database knows of its events.
    pub(crate) fn open(shared: &Arc<Shared>, path: Option<&Path>) -> Result<Arc<Events>, OpenError> {
        let seals = match path {
            Some(path) => Seals::open(path).map_err(DbError::from)?,
            None => Seals::in_memory(),
        };
        let events = Events::new(seals);
        let store = shared.store().clone();
        let basis = store.basis();
        events.load(&Tables::new(Snapshot { store, basis, overlay: None }))?;
        Ok(Arc::new(events))
    }
}

impl Db {
    /// The events of this database value.
    pub fn events(&self) -> EventLog {
        self.shared().events().log(self)
    }
}

impl Connection {
    /// Appends events, with everything that goes with them, in one transaction.
    pub fn append(&self, a: Append) -> Result<Appended, AppendError> {
        let events = self.shared().events().clone();
        let done = self.write(move |txn| events.append(txn, &a));
        match done {
            Ok((_, done)) => {
                self.shared().events().announce();
                Ok(done)
            }
            Err(Stop::Replayed(done)) => Ok(done),
            Err(Stop::Refused(e)) => Err(e),
        }
    }

    /// Appends in order with one sync for all; stops at the first refused one.
    pub fn append_all(&self, appends: Vec<Append>) -> (Vec<Appended>, Option<AppendError>) {
        let mut done = Vec::with_capacity(appends.len());
        let mut rest: std::collections::VecDeque<Append> = appends.into();
        while !rest.is_empty() {
            let events = self.shared().events();
            let jobs: Vec<_> =
                rest.iter().map(|a| move |txn: &mut crate::transact::Txn| events.append(txn, a)).collect();
            let (made, stopped) = self.write_each(jobs);
            rest.drain(..made.len());
            done.extend(made);
            match stopped {
                None => break,
                Some(Stop::Replayed(a)) => {
                    rest.pop_front();
                    done.push(a);
                }
                Some(Stop::Refused(e)) => {
                    self.shared().events().announce();
                    return (done, Some(e));
                }
            }
        }
        self.shared().events().announce();
        (done, None)
    }

    /// Registers an upcaster, for every read from now on.
    pub fn upcast(&self, u: impl Upcaster + 'static) -> Result<(), UpcastError> {
        let mut held = self.shared().events().upcasters.write();
        let mut next = (**held).clone();
        next.add(Arc::new(u))?;
        *held = Arc::new(next);
        Ok(())
    }

    /// Ends a stream: softly (its versions go on, `tombstone` false) or for good.
    pub fn delete_stream(&self, stream: &StreamId, tombstone: bool) -> Result<T, AppendError> {
        self.change_head(stream.clone(), move |head| {
            head.first = head.version.next();
            head.state = if tombstone { StreamState::Tombstoned } else { StreamState::Deleted };
        })
    }

    /// Shows only the newest events of a technical stream: at most this many, of the last so many seconds; 0 keeps all.
    pub fn retain(&self, stream: &StreamId, max_count: u64, max_age_secs: u64) -> Result<T, AppendError> {
        self.change_head(stream.clone(), move |head| {
            head.max_count = max_count;
            head.max_age_secs = max_age_secs;
        })
    }

    fn change_head(
        &self,
        stream: StreamId,
        change: impl FnOnce(&mut crate::event::table::Head) + Send + 'static,
    ) -> Result<T, AppendError> {
        let events = self.shared().events().clone();
        let (report, ()) = self.write(move |txn| -> Result<(), AppendError> {
            let mut memory = events.memory(txn.t());
            let tables = Tables::new(txn.db_before().snapshot().clone());
            let mut head = match memory.heads.get(&stream) {
                Some(h) => *h,
                None => tables.head(&stream)?,
            };
            if head.state == StreamState::Tombstoned {
                return Err(AppendError::Tombstoned(stream));
            }
            change(&mut head);
            txn.row(table::put(table::HEAD, Key::new().text(stream.as_str()), head.encode()));
            memory.t = txn.t();
            memory.heads.insert(stream, head);
            Ok(())
        })?;
        Ok(report.t())
    }

    /// Forgets the key of a subject: what was stored as personal under its name can
    /// no longer be read, in any copy of the log. Facts that projections made of it are
    /// not touched by this: [`Connection::erase_subject`] takes them too.
    pub fn forget_subject(&self, subject: &str) -> Result<bool, DbError> {
        Ok(self.shared().events().seals.forget(subject)?)
    }
}
