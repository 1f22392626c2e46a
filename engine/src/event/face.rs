//! What a connection offers for events: append, read, register projections.

use super::{
    append::{Append, AppendError, Appended},
    commit::{BatchError, Stop},
    facts::Cache,
    id::{Position, StreamId},
    log::EventLog,
    projection::{ProjectionSpec, ProjectionState, Runtime},
    record::Recorded,
    registry::{Events, projection_row},
    seal::Seals,
    table::{self, Key, StreamState, Tables},
    upcast::{UpcastError, Upcaster},
};
use crate::{
    Connection, Db, DbError, OpenError, TransactError, db::Shared, snapshot::Snapshot, transact::Author,
};
use annals_model::{AttrId, Diagnostic, Keyword, T, Value, tx::TxData};
use parking_lot::Mutex;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant as Clock},
};

/// A projection could not be registered or steered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// Its text is wrong.
    #[error("the projection is malformed: {}", .0.first().map(|d| d.message.as_str()).unwrap_or_default())]
    Malformed(Vec<Diagnostic>),
    /// This version is stored with another definition.
    #[error("projection {name} version {version} is stored with another definition")]
    VersionTaken {
        /// Its name.
        name: Keyword,
        /// Its version.
        version: u32,
    },
    /// A later version is live.
    #[error("projection {name} is at version {live}; version {version} is older")]
    VersionOld {
        /// Its name.
        name: Keyword,
        /// The version given.
        version: u32,
        /// The version that answers.
        live: u32,
    },
    /// An attribute belongs to somebody else.
    #[error("{attr} belongs to {owner}: an attribute belongs to one projection")]
    Owned {
        /// The attribute.
        attr: Keyword,
        /// Whose it is.
        owner: String,
    },
    /// There is no such projection.
    #[error("there is no projection {0}")]
    Unknown(Keyword),
    /// An event could not be taken.
    #[error("projection {name} stopped at event {at}: {why}")]
    Poison {
        /// Its name.
        name: Keyword,
        /// The event.
        at: Position,
        /// What was wrong.
        why: String,
    },
    /// The schema was refused.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// The database could not be read.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl ProjectionError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ProjectionError::Malformed(all) => all.first().map_or("projection/malformed", |d| d.code),
            ProjectionError::VersionTaken { .. } => "projection/version-taken",
            ProjectionError::VersionOld { .. } => "projection/version-old",
            ProjectionError::Owned { .. } => "projection/owned",
            ProjectionError::Unknown(_) => "projection/unknown",
            ProjectionError::Poison { .. } => "projection/poison",
            ProjectionError::Transact(e) => e.code(),
            ProjectionError::Db(e) => e.code(),
        }
    }
}

/// A version of a projection as `projections` lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: Keyword,
    /// Its version.
    pub version: u32,
    /// Inline or async.
    pub mode: super::language::Mode,
    /// Where it stands.
    pub state: ProjectionState,
    /// The last event it has taken.
    pub position: Position,
    /// Events it has still to look at.
    pub lag: u64,
    /// Its attributes.
    pub attributes: Vec<Keyword>,
}

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
            let events = self.shared().events().clone();
            let jobs: Vec<_> = rest
                .iter()
                .cloned()
                .map(|a| {
                    let events = events.clone();
                    move |txn: &mut crate::transact::Txn| events.append(txn, &a)
                })
                .collect();
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
        let (stream, events) = (stream.clone(), self.shared().events().clone());
        self.change_head(stream, move |head| {
            let _ = &events;
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
        change: impl FnOnce(&mut super::table::Head) + Send + 'static,
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

    /// Registers a projection written as EDN and brings it up to date.
    pub fn add_projection(&self, text: &str) -> Result<ProjectionStatus, ProjectionError> {
        self.register(ProjectionSpec::edn(text).map_err(ProjectionError::Malformed)?)
    }

    /// Registers a projection and brings it up to the newest event. A higher version of
    /// one that is live is built beside it and takes its place in one transaction.
    pub fn register(&self, spec: ProjectionSpec) -> Result<ProjectionStatus, ProjectionError> {
        let events = self.shared().events().clone();
        let _one = events.registering.lock();
        let all = events.runtimes();
        let same: Vec<_> = all.iter().filter(|r| r.name == spec.name).cloned().collect();
        if let Some(newest) = same.iter().max_by_key(|r| r.version) {
            if newest.version > spec.version {
                let (name, version, live) = (spec.name, spec.version, newest.version);
                return Err(ProjectionError::VersionOld { name, version, live });
            }
            if newest.version == spec.version {
                if newest.source != spec.source {
                    return Err(ProjectionError::VersionTaken { name: spec.name, version: spec.version });
                }
                let again = Arc::new(Runtime {
                    name: newest.name.clone(),
                    version: newest.version,
                    mode: newest.mode,
                    on_error: newest.on_error,
                    source: newest.source.clone(),
                    code: spec.code,
                    attrs: newest.attrs.clone(),
                    state: Mutex::new(newest.state()),
                    checkpoint: Mutex::new(*newest.checkpoint.lock()),
                    cache: Mutex::new(Cache::default()),
                    parked: Mutex::new(newest.parked.lock().clone()),
                });
                let list = all.iter().map(|r| if Arc::ptr_eq(r, newest) { again.clone() } else { r.clone() });
                events.replace(list.collect());
                if *again.state.lock() != ProjectionState::Live || !again.is_inline() {
                    self.build(&events, &again, &same)?;
                }
                return self.status(&again);
            }
        }
        let attrs = self.install(&events, &spec, !same.is_empty())?;
        let fresh = Arc::new(Runtime {
            name: spec.name,
            version: spec.version,
            mode: spec.mode,
            on_error: spec.on_error,
            source: spec.source,
            code: spec.code,
            attrs,
            state: Mutex::new(ProjectionState::Building),
            checkpoint: Mutex::new(Position::ZERO),
            cache: Mutex::new(Cache::of_new_projection()),
            parked: Mutex::default(),
        });
        let mut list = all.to_vec();
        list.push(fresh.clone());
        self.store_versions(&fresh.name, &list)?;
        events.replace(list);
        self.build(&events, &fresh, &same)?;
        self.status(&fresh)
    }

    fn store_versions(&self, name: &Keyword, list: &[Arc<Runtime>]) -> Result<(), ProjectionError> {
        let row = version_row(name, list)?;
        self.write(move |txn| -> Result<(), TransactError> {
            txn.row(row);
            Ok(())
        })?;
        Ok(())
    }

    /// Installs the attributes of a version: under their own names for a first one, beside them for a later one.
    fn install(
        &self,
        events: &Arc<Events>,
        spec: &ProjectionSpec,
        beside: bool,
    ) -> Result<Vec<(Keyword, AttrId)>, ProjectionError> {
        let ident = Value::keyword("db/ident");
        let db = self.db();
        let mut forms = Vec::new();
        let mut names = Vec::new();
        for attr in spec.attributes() {
            if !beside && let Some(a) = db.schema().attribute_named(&attr) {
                let owner =
                    events.owner_of(a.id).map_or_else(|| "plain transactions".to_owned(), |o| o.to_string());
                return Err(ProjectionError::Owned { attr, owner });
            }
            let installed = if beside { Runtime::side_name(&attr, spec.version) } else { attr.clone() };
            names.push((attr, installed));
        }
        for (form, (_, installed)) in spec.schema.iter().zip(&names) {
            let Value::Map(entries) = form else { continue };
            forms.push(Value::map(entries.iter().map(|(k, v)| {
                let v = if *k == ident { Value::Keyword(installed.clone()) } else { v.clone() };
                (k.clone(), v)
            })));
        }
        let data = TxData { forms, text: None };
        let (report, ()) = self.write(move |txn| txn.facts(&data, Author::User))?;
        let schema = report.db_after().schema().clone();
        names
            .into_iter()
            .map(|(attr, installed)| match schema.attribute_named(&installed) {
                Some(a) => Ok((attr, a.id)),
                None => Err(DbError::UnknownAttribute { attr: installed, nearest: None }.into()),
            })
            .collect()
    }

    /// Replays the events a version has not seen, then makes it the one that answers.
    fn build(
        &self,
        events: &Arc<Events>,
        r: &Arc<Runtime>,
        older: &[Arc<Runtime>],
    ) -> Result<(), ProjectionError> {
        let batch = match r.mode {
            super::language::Mode::Inline => super::language::BATCH * 8,
            super::language::Mode::Async { batch } => batch,
        };
        loop {
            let log = self.db().events();
            let after = *r.checkpoint.lock();
            if after.0 + batch as u64 >= log.head()?.0 {
                break;
            }
            let (batch, upto) = complete_batch(events, &log, after, batch)?;
            let (events, r2) = (events.clone(), r.clone());
            self.write(move |txn| events.project_batch(txn, &r2, &batch, upto)).map_err(|e| poison(r, e))?;
            *r.checkpoint.lock() = upto;
        }
        // The tail and the flip, with nobody else writing.
        let (events2, r2) = (events.clone(), r.clone());
        let older: Vec<_> = older.iter().filter(|o| o.version != r.version).cloned().collect();
        let list = events.runtimes();
        let flip = move |txn: &mut crate::transact::Txn| -> Result<Position, BatchError> {
            let log = events2.log(txn.db_before());
            let (batch, upto) = complete_batch(&events2, &log, *r2.checkpoint.lock(), usize::MAX)?;
            events2.project_batch(txn, &r2, &batch, upto)?;
            let mut renames = Vec::new();
            for (name, id) in &r2.attrs {
                for o in &older {
                    let taken =
                        o.attrs.iter().filter(|(n, _)| n == name && o.state() != ProjectionState::Retired);
                    for (_, old) in taken {
                        renames.push(rename(*old, &Runtime::side_name(name, o.version)));
                    }
                }
                if !older.is_empty() {
                    renames.push(rename(*id, name));
                }
            }
            if !renames.is_empty() {
                txn.facts(&TxData { forms: renames, text: None }, Author::Projection(r2.name.as_str()))?;
            }
            let before: Vec<_> = older.iter().map(|o| o.state()).collect();
            for o in &older {
                *o.state.lock() = ProjectionState::Retired;
            }
            let was = std::mem::replace(&mut *r2.state.lock(), ProjectionState::Live);
            match version_row(&r2.name, &list) {
                Ok(row) => txn.row(row),
                Err(e) => {
                    for (o, s) in older.iter().zip(before) {
                        *o.state.lock() = s;
                    }
                    *r2.state.lock() = was;
                    return Err(BatchError::Db(e));
                }
            }
            Ok(upto)
        };
        let (_, upto) = self.write(flip).map_err(|e| poison(r, e))?;
        *r.checkpoint.lock() = upto;
        events.announce();
        Ok(())
    }

    fn status(&self, r: &Runtime) -> Result<ProjectionStatus, ProjectionError> {
        let head = self.db().events().head()?;
        let state = r.state();
        let position =
            if r.is_inline() && state == ProjectionState::Live { head } else { *r.checkpoint.lock() };
        Ok(ProjectionStatus {
            name: r.name.clone(),
            version: r.version,
            mode: r.mode,
            state,
            position,
            lag: head.0.saturating_sub(position.0),
            attributes: r.attrs.iter().map(|(k, _)| k.clone()).collect(),
        })
    }

    /// Every version of every projection.
    pub fn projections(&self) -> Result<Vec<ProjectionStatus>, ProjectionError> {
        self.shared().events().runtimes().iter().map(|r| self.status(r)).collect()
    }

    /// Brings an async projection up to the newest event, a batch a transaction. Stops with an
    /// error at an event that it cannot take, unless its policy is to park.
    pub fn catch_up(&self, name: &str) -> Result<ProjectionStatus, ProjectionError> {
        let name = Keyword::new(name.strip_prefix(':').unwrap_or(name));
        let events = self.shared().events().clone();
        let r = events.live(&name).ok_or(ProjectionError::Unknown(name))?;
        if r.is_inline() || r.state() == ProjectionState::Paused {
            return self.status(&r);
        }
        let size = match r.mode {
            super::language::Mode::Async { batch } => batch,
            super::language::Mode::Inline => super::language::BATCH,
        };
        loop {
            let log = self.db().events();
            let after = *r.checkpoint.lock();
            if after >= log.head()? {
                return self.status(&r);
            }
            let (batch, upto) = complete_batch(&events, &log, after, size)?;
            let (events2, r2) = (events.clone(), r.clone());
            self.write(move |txn| events2.project_batch(txn, &r2, &batch, upto))
                .map_err(|e| poison(&r, e))?;
            *r.checkpoint.lock() = upto;
            events.announce();
        }
    }

    /// Holds an async projection back.
    pub fn pause_projection(&self, name: &str) -> Result<(), ProjectionError> {
        self.steer(name, ProjectionState::Paused)
    }

    /// Lets a projection go on.
    pub fn resume_projection(&self, name: &str) -> Result<(), ProjectionError> {
        self.steer(name, ProjectionState::Live)
    }

    fn steer(&self, name: &str, state: ProjectionState) -> Result<(), ProjectionError> {
        let name = Keyword::new(name.strip_prefix(':').unwrap_or(name));
        let events = self.shared().events().clone();
        let r = events.live(&name).ok_or_else(|| ProjectionError::Unknown(name.clone()))?;
        *r.state.lock() = state;
        self.store_versions(&name, &events.runtimes())
    }

    /// Waits until a projection has taken the event at a position. False when time runs out.
    pub fn wait_for(
        &self,
        name: &str,
        position: Position,
        timeout: Duration,
    ) -> Result<bool, ProjectionError> {
        let name = Keyword::new(name.strip_prefix(':').unwrap_or(name));
        let events = self.shared().events().clone();
        let until = Clock::now() + timeout;
        loop {
            let beat = events.beat();
            let r = events.live(&name).ok_or_else(|| ProjectionError::Unknown(name.clone()))?;
            if self.status(&r)?.position >= position {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Clock::now());
            if left.is_zero() || !events.wait(beat, left) {
                return Ok(self.status(&r)?.position >= position);
            }
        }
    }

    /// Forgets the key of a subject: what was stored as personal under its name can
    /// no longer be read, in any copy of the log. Facts that projections made of it are
    /// not touched by this.
    pub fn forget_subject(&self, subject: &str) -> Result<bool, DbError> {
        Ok(self.shared().events().seals.forget(subject)?)
    }
}

fn version_row(name: &Keyword, list: &[Arc<Runtime>]) -> Result<annals_storage::Row, DbError> {
    let order = list.iter().position(|r| r.name == *name).unwrap_or(list.len());
    let versions: Vec<_> = list.iter().filter(|r| r.name == *name).cloned().collect();
    projection_row(name, order, &versions)
}

fn rename(a: AttrId, to: &Keyword) -> Value {
    Value::vector([
        Value::keyword("db/add"),
        Value::Ref(a.entity()),
        Value::keyword("db/ident"),
        Value::Keyword(to.clone()),
    ])
}

fn poison(r: &Runtime, e: BatchError) -> ProjectionError {
    match e {
        BatchError::Poison(p) => ProjectionError::Poison { name: r.name.clone(), at: p.at, why: p.why },
        BatchError::Db(e) => e.into(),
        BatchError::Transact(e) => e.into(),
    }
}

/// At least `size` events after a position, up to the end of a transaction, as
/// projections see them; each with whether its transaction has several.
pub(crate) fn complete_batch(
    events: &Events,
    log: &EventLog,
    after: Position,
    size: usize,
) -> Result<(Vec<(Recorded, bool)>, Position), DbError> {
    let head = log.head()?;
    let mut stored: Vec<Recorded> = Vec::new();
    let mut upto = after;
    log.each(after, head, &mut |r| {
        if stored.len() >= size && stored.last().is_some_and(|l| l.t != r.t) {
            return Ok(std::ops::ControlFlow::Break(()));
        }
        upto = r.position;
        stored.push(r);
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    let mut out = Vec::with_capacity(stored.len());
    for group in stored.chunk_by(|a, b| a.t == b.t) {
        let shared = group.len() > 1;
        out.extend(events.presented(group)?.into_iter().map(|r| (r, shared)));
    }
    Ok((out, upto))
}
