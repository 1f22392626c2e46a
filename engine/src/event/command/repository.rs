//! Repositories: aggregates loaded from their streams and commands dispatched to them.

use crate::event::{
    aggregate::{Aggregate, LoadError, Loaded, apply, fold, stream_of},
    append::{Append, Expected, StreamWrite},
    command::{CommandTo, Dispatch},
    dispatch::{Dispatched, Extra, Request, carry_out, command_event, event_meta, guarded},
    dispatch_error::DispatchError,
    event_type,
    id::{CommandId, EventId, StreamId, Version},
    snapshot::{SnapshotPolicy, Snapshots},
    table::StreamState,
};
use crate::{Connection, Db};
use annals_model::T;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// Aggregates of one kind in one database.
pub struct Repository<A: Aggregate> {
    conn: Connection,
    plan: Plan<A>,
}

/// How aggregates of one kind are kept.
pub(crate) struct Plan<A> {
    pub snapshots: Option<Snapshots<A>>,
    kind: PhantomData<fn() -> A>,
}

impl<A> Clone for Plan<A> {
    fn clone(&self) -> Plan<A> {
        Plan { snapshots: self.snapshots.clone(), kind: PhantomData }
    }
}

impl<A> Default for Plan<A> {
    fn default() -> Plan<A> {
        Plan { snapshots: None, kind: PhantomData }
    }
}

impl<A: Aggregate> Clone for Repository<A> {
    fn clone(&self) -> Repository<A> {
        Repository { conn: self.conn.clone(), plan: self.plan.clone() }
    }
}

impl Connection {
    /// The aggregates of one kind, loaded from their streams. See [`Aggregate`] for an example.
    pub fn repository<A: Aggregate>(&self) -> Repository<A> {
        Repository { conn: self.clone(), plan: Plan::default() }
    }
}

impl<A: Aggregate> Repository<A> {
    /// Takes snapshots, so that a load folds the events since the newest one only. None are
    /// taken, or looked for, of aggregates whose events are personal ([`crate::event::Event::PERSONAL`]).
    pub fn snapshots(mut self, policy: SnapshotPolicy) -> Repository<A>
    where
        A: Serialize + DeserializeOwned,
    {
        let plain = !<A::Event as crate::event::event_type::Event>::PERSONAL;
        self.plan.snapshots = plain.then(|| Snapshots::new(policy));
        self
    }

    /// The aggregate now. One that has no events is its default at version 0.
    ///
    /// # Errors
    /// A tombstoned stream, an event that cannot be read or that `apply` panics at.
    pub fn load(&self, id: &str) -> Result<Loaded<A>, LoadError> {
        self.plan.load(&self.conn.db(), &stream_of::<A>(id)?, None)
    }

    /// The aggregate as of a transaction.
    pub fn load_at(&self, id: &str, t: T) -> Result<Loaded<A>, LoadError> {
        self.plan.load(&self.conn.db().as_of(t), &stream_of::<A>(id)?, None)
    }

    /// The aggregate in a database value, whatever its view of time.
    pub fn load_in(&self, db: &Db, id: &str) -> Result<Loaded<A>, LoadError> {
        self.plan.load(db, &stream_of::<A>(id)?, None)
    }

    /// The aggregate after its first `version` events.
    ///
    /// # Errors
    /// [`LoadError::NoVersion`] when it has fewer.
    pub fn load_version(&self, id: &str, version: Version) -> Result<Loaded<A>, LoadError> {
        self.plan.load(&self.conn.db(), &stream_of::<A>(id)?, Some(version))
    }

    /// Carries out a command: loads the aggregate, lets it decide, appends what it decides,
    /// and begins again when another writer was faster.
    ///
    /// The same command id answers the stored outcome, also after a restart. Events carry
    /// the command in their metadata. `Ok` without events is success: the version stays.
    ///
    /// # Errors
    /// [`DispatchError::Rejected`] with the aggregate's own error, stored like a success;
    /// [`DispatchError::WrongVersion`] when held to a version; and see [`DispatchError`].
    pub fn dispatch(
        &self,
        id: &str,
        command: A::Command,
        dispatch: Dispatch,
    ) -> Result<Dispatched, DispatchError<A::Error>> {
        self.plan.dispatch(&self.conn, id, command, &dispatch, Extra::default())
    }

    /// Carries out a command on a new aggregate, whose id is made from the command's: sent
    /// again, it is the same aggregate. Answers the id too.
    pub fn create(
        &self,
        command: A::Command,
        dispatch: Dispatch,
    ) -> Result<(String, Dispatched), DispatchError<A::Error>> {
        let id = made_id(dispatch.id);
        let done = self.plan.dispatch(&self.conn, &id, command, &dispatch, Extra::default())?;
        Ok((id, done))
    }
}

impl<A: Aggregate> Repository<A> {
    /// The database, and how the aggregates are kept.
    pub(crate) fn parts(&self) -> (&Connection, &Plan<A>) {
        (&self.conn, &self.plan)
    }
}

/// The id of an aggregate that a command makes.
pub(crate) fn made_id(command: CommandId) -> String {
    EventId::derived(command.0, "aggregate", 0).to_string()
}

impl<A: Aggregate> Plan<A> {
    pub fn load(&self, db: &Db, stream: &StreamId, upto: Option<Version>) -> Result<Loaded<A>, LoadError> {
        event_type::check::<A::Event>().map_err(LoadError::Types)?;
        let log = db.events();
        let head = log.stream_head(stream)?;
        if head.state == StreamState::Tombstoned {
            return Err(LoadError::Tombstoned(stream.clone()));
        }
        let version = upto.unwrap_or(head.version);
        if version > head.version {
            return Err(LoadError::NoVersion {
                stream: stream.clone(),
                wanted: version,
                actual: head.version,
            });
        }
        let mut loaded = Loaded {
            state: A::default(),
            version,
            t: log.t(),
            stream: stream.clone(),
            from_snapshot: Version::ZERO,
        };
        // What a soft deletion hid is not part of the aggregate's life.
        let born = Version(head.first.0.max(1));
        if let Some(s) = &self.snapshots
            && let Some((state, at)) = s.find(&log.tables, stream, version)?
            && at >= born
        {
            (loaded.state, loaded.from_snapshot) = (state, at);
        }
        let from = loaded.from_snapshot.next().max(born);
        if from > version {
            return Ok(loaded);
        }
        let shown_from = log.shown_from(stream, &head)?;
        if shown_from > from {
            return Err(LoadError::Retained { stream: stream.clone(), from, shown_from });
        }
        let events = log.stream_range(stream, from, version)?;
        loaded.state = fold(loaded.state, &events)?;
        Ok(loaded)
    }

    pub fn dispatch(
        &self,
        conn: &Connection,
        id: &str,
        command: A::Command,
        d: &Dispatch,
        extra: Extra<'_>,
    ) -> Result<Dispatched, DispatchError<A::Error>> {
        let stream = stream_of::<A>(id)?;
        let to = CommandTo::new::<A>(id, &command)?;
        let meta = event_meta(d, A::CATEGORY, &to.ty);
        let request = Request { dispatch: d, digest: to.digest(d.if_version)?, area: A::CATEGORY, extra };
        carry_out(conn, &request, &mut |db, cx| {
            let loaded = self.load(db, &stream, None)?;
            if let Some(expected) = d.if_version.filter(|v| *v != loaded.version) {
                let (stream, actual) = (stream.clone(), loaded.version);
                return Err(DispatchError::WrongVersion { stream, expected, actual });
            }
            let about = || (stream.to_string(), to.ty.clone());
            let events = match guarded(about, || loaded.state.handle(command.clone(), cx))? {
                Ok(events) => events,
                Err(refused) => return Ok(Err(refused)),
            };
            self.append(&stream, loaded, &events, d, &meta).map(Ok)
        })
    }

    /// The events of a decision as an append, with a snapshot when one is due.
    fn append<E>(
        &self,
        stream: &StreamId,
        loaded: Loaded<A>,
        events: &[A::Event],
        d: &Dispatch,
        meta: &crate::event::record::Meta,
    ) -> Result<Append, DispatchError<E>> {
        let mut new = Vec::with_capacity(events.len());
        for (n, e) in events.iter().enumerate() {
            new.push(command_event(d, meta, n as u64, e)?);
        }
        // With nothing to do there is nothing that others could have got in the way of.
        let expected = if new.is_empty() { Expected::Any } else { Expected::Exact(loaded.version) };
        let after = Version(loaded.version.0 + new.len() as u64);
        let mut rows = Vec::new();
        if let (Some(s), Some(last)) = (&self.snapshots, new.last())
            && s.is_due(loaded.version, after)
        {
            let mut state = loaded.state;
            for (e, n) in events.iter().zip(&new) {
                state = apply(state, e).map_err(|message| DispatchError::Panicked {
                    about: stream.to_string(),
                    command: format!("apply of {}", n.ty),
                    message,
                })?;
            }
            rows.extend(s.row(stream, after, last.id, &state));
        }
        let mut append = Append::new().write(StreamWrite { stream: stream.clone(), expected, events: new });
        append.rows = rows;
        Ok(append)
    }
}
