//! Registering projections: attributes installed, versions built beside the live one,
//! the flip, rebuilds, and taking a projection out of use.
//!
//! 1. A version is built from the first event in batches of their own transactions, while
//!    others write; its tail and the flip are one transaction, with nobody else writing.
//! 2. States that inline projections are run by change inside that transaction: the
//!    appends after it, of the same group commit too, see them.
//! 3. `registering` is held throughout: one registration, rebuild, drop or change of
//!    state at a time.

use crate::event::{
    batch::BatchError,
    id::Position,
    language::{BATCH, Mode, OnError},
    projection::ProjectionSpec,
    projection_error::ProjectionError,
    registry::{Events, projection_row},
    runtime::{ProjectionState, Runtime},
    steer::ProjectionStatus,
};
use crate::{
    Connection, Db, DbError,
    store::Prefix,
    transact::{Author, Txn},
};
use annals_model::{AttrId, Datom, Keyword, Value, View, tx::TxData};
use std::{ops::ControlFlow, sync::Arc};

/// Most facts that one transaction of a drop retracts.
const RETRACTED: usize = 20_000;

/// What dropping a projection did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its name.
    pub name: Keyword,
    /// Facts retracted, those of earlier versions included.
    pub facts: u64,
}

impl Connection {
    /// Registers a projection written as EDN and brings it up to date.
    ///
    /// # Errors
    /// As [`Connection::register`]; `projection/malformed` and its kin for the text.
    pub fn add_projection(&self, text: &str) -> Result<ProjectionStatus, ProjectionError> {
        self.register(ProjectionSpec::edn(text).map_err(ProjectionError::Malformed)?)
    }

    /// Registers a projection and brings it up to the newest event. A higher version of
    /// one that is live is built beside it and takes its place in one transaction. The
    /// same version again gives it the code of this process, and lets a halted one go on.
    ///
    /// While the database holds no event, registering does not move its clock: old events
    /// can still be imported with the instants they happened at.
    ///
    /// # Errors
    /// `projection/version-taken` when the version is stored with another definition,
    /// `projection/version-old` when a later one is live, `projection/owned` when an
    /// attribute belongs to somebody else, `projection/poison` when an event cannot be taken,
    /// `projection/inline-parks` when an inline one is to park.
    pub fn register(&self, spec: ProjectionSpec) -> Result<ProjectionStatus, ProjectionError> {
        if spec.mode == Mode::Inline && matches!(spec.on_error, OnError::Park | OnError::RetryThenPark(_)) {
            return Err(ProjectionError::InlineParks(spec.name));
        }
        let events = self.shared().events().clone();
        let _one = events.registering.lock();
        let all = events.runtimes();
        let in_use = all.iter().filter(|r| r.name == spec.name && r.state() != ProjectionState::Dropped);
        let Some(newest) = in_use.max_by_key(|r| r.version).cloned() else {
            return self.build_new(&events, &spec);
        };
        if newest.declared > spec.version {
            let (name, version, live) = (spec.name, spec.version, newest.declared);
            return Err(ProjectionError::VersionOld { name, version, live });
        }
        if newest.declared < spec.version {
            return self.build_new(&events, &spec);
        }
        if newest.source != spec.source {
            if newest.state() != ProjectionState::Building {
                return Err(ProjectionError::VersionTaken { name: spec.name, version: spec.version });
            }
            // It never answered: a mended definition may take its number.
            self.put_aside(&events, &[newest])?;
            return self.build_new(&events, &spec);
        }
        newest.set_code(spec.code);
        match newest.state() {
            ProjectionState::Building => self.build(&events, &newest)?,
            ProjectionState::Halted { .. } => {
                self.change_state(&events, &newest, ProjectionState::Live)?;
                self.drive_all(&newest)?;
            }
            ProjectionState::Live if !newest.is_inline() => self.drive_all(&newest)?,
            _ => {}
        }
        self.status(&newest)
    }

    /// Builds the version that answers anew, from the first event, beside itself: same
    /// definition, next version. Queries see the old one until the new one takes its place
    /// in one transaction. This is how skipped events, mended upcasters and erased values
    /// come into effect for what was made before them. Returns after the flip.
    ///
    /// # Errors
    /// `projection/unknown`; `projection/not-registered` for one written in Rust that this
    /// process has not registered; `projection/poison` when an event cannot be taken.
    pub fn rebuild_projection(&self, name: &str) -> Result<ProjectionStatus, ProjectionError> {
        let live = self.projection(name)?;
        let events = self.shared().events().clone();
        let _one = events.registering.lock();
        let spec = live.spec().ok_or_else(|| ProjectionError::NotRegistered(live.name.clone()))?;
        // What an earlier rebuild left unfinished is in the way of nothing but names.
        let unfinished: Vec<_> = events
            .runtimes()
            .iter()
            .filter(|r| r.name == live.name && r.version > live.version)
            .filter(|r| r.state() == ProjectionState::Building)
            .cloned()
            .collect();
        if !unfinished.is_empty() {
            self.put_aside(&events, &unfinished)?;
        }
        self.build_new(&events, &spec)
    }

    /// Takes a projection out of use: its facts are retracted as of now, and its attributes
    /// belong to nobody. The past keeps them: `as_of` shows what was so, under the names of
    /// that time. Its plain names are free for a new registration; the attributes stay under
    /// the names of their versions (`:order.v1/status`). Dropping again what a crash left
    /// half dropped finishes it.
    ///
    /// # Errors
    /// `projection/unknown`, or what a transaction may fail with.
    pub fn drop_projection(&self, name: &str) -> Result<Dropped, ProjectionError> {
        let name = named(name);
        let events = self.shared().events().clone();
        let _one = events.registering.lock();
        let all = events.runtimes();
        let versions: Vec<_> = all.iter().filter(|r| r.name == name).cloned().collect();
        if versions.is_empty() {
            return Err(ProjectionError::Unknown(name));
        }
        let attrs: Vec<AttrId> = versions.iter().flat_map(|r| r.attrs.iter().map(|(_, a)| *a)).collect();
        let in_use: Vec<_> =
            versions.iter().filter(|r| r.state() != ProjectionState::Dropped).cloned().collect();
        self.leave(&events, &in_use)?;
        let mut facts = 0;
        loop {
            let attrs = attrs.clone();
            let (_, n) =
                self.write(move |txn| -> Result<u64, ProjectionError> { Ok(retract_some(txn, &attrs)?) })?;
            facts += n;
            if n < RETRACTED as u64 {
                break;
            }
        }
        // Only now: until here nobody else could write them.
        events.replace(all.to_vec());
        for r in &versions {
            *r.cache.lock() = Default::default();
        }
        events.announce();
        Ok(Dropped { name, facts })
    }

    /// Versions that answer nobody are taken out of use, with what they have made so far.
    fn put_aside(&self, events: &Arc<Events>, versions: &[Arc<Runtime>]) -> Result<(), ProjectionError> {
        self.leave(events, versions)?;
        let attrs: Vec<AttrId> = versions.iter().flat_map(|r| r.attrs.iter().map(|(_, a)| *a)).collect();
        while {
            let attrs = attrs.clone();
            let (_, n) =
                self.write(move |txn| -> Result<u64, ProjectionError> { Ok(retract_some(txn, &attrs)?) })?;
            n == RETRACTED as u64
        } {}
        events.replace(events.runtimes().to_vec());
        Ok(())
    }

    /// Frees the plain names of versions and marks them as dropped.
    fn leave(&self, events: &Arc<Events>, versions: &[Arc<Runtime>]) -> Result<(), ProjectionError> {
        let Some(first) = versions.first() else { return Ok(()) };
        let _driving: Vec<_> = versions.iter().map(|r| r.driving.lock()).collect();
        let (name, list, versions) = (first.name.clone(), events.runtimes(), versions.to_vec());
        let events = events.clone();
        self.write(move |txn| -> Result<(), ProjectionError> {
            events.settle_instant(txn)?;
            let renames = versions.iter().flat_map(|r| {
                r.attrs.iter().map(|(attr, id)| rename(*id, &Runtime::side_name(attr, r.version)))
            });
            let data = TxData { forms: renames.collect(), text: None };
            txn.facts(&data, Author::Projection(name.as_str()))?;
            let was: Vec<_> = versions.iter().map(|r| r.state()).collect();
            for r in &versions {
                *r.state.lock() = ProjectionState::Dropped;
            }
            let row = version_row(&name, &list).inspect_err(|_| {
                for (r, was) in versions.iter().zip(was) {
                    *r.state.lock() = was;
                }
            })?;
            txn.row(row);
            Ok(())
        })?;
        Ok(())
    }

    /// Installs and builds a version after all those there are.
    fn build_new(
        &self,
        events: &Arc<Events>,
        spec: &ProjectionSpec,
    ) -> Result<ProjectionStatus, ProjectionError> {
        let all = events.runtimes();
        let same = || all.iter().filter(|r| r.name == spec.name);
        let next = same().map(|r| r.version + 1).max().unwrap_or(1);
        let version = next.max(spec.version);
        let beside = same().any(|r| r.state() != ProjectionState::Dropped);
        let fresh = self.install(events, spec, version, beside)?;
        let mut list = all.to_vec();
        list.push(fresh.clone());
        events.replace(list);
        self.build(events, &fresh)?;
        self.status(&fresh)
    }

    /// Installs the attributes of a version, under their own names for a first one and beside
    /// them for a later one, and the version itself, in one transaction: attributes that belong
    /// to nobody would be in the way of the next attempt.
    fn install(
        &self,
        events: &Arc<Events>,
        spec: &ProjectionSpec,
        version: u32,
        beside: bool,
    ) -> Result<Arc<Runtime>, ProjectionError> {
        let (events, spec) = (events.clone(), spec.clone());
        let (_, fresh) = self.write(move |txn| -> Result<Arc<Runtime>, ProjectionError> {
            events.settle_instant(txn)?;
            let names = names_beside(txn.db_before(), &events, &spec, version, beside)?;
            txn.facts(&TxData { forms: attribute_forms(&spec, &names), text: None }, Author::User)?;
            let schema = txn.db().schema().clone();
            let attrs = names.into_iter().map(|(attr, installed)| match schema.attribute_named(&installed) {
                Some(a) => Ok((attr, a.id)),
                None => Err(DbError::UnknownAttribute { attr: installed, nearest: None }),
            });
            let attrs = attrs.collect::<Result<_, _>>()?;
            let fresh = Arc::new(Runtime::new(&spec, version, attrs));
            let mut list = events.runtimes().to_vec();
            list.push(fresh.clone());
            txn.row(version_row(&spec.name, &list)?);
            Ok(fresh)
        })?;
        Ok(fresh)
    }

    /// Replays the events a version has not seen, then makes it the one that answers. Also
    /// how a paused inline projection goes on. `registering` is held by the caller.
    pub(crate) fn build(&self, events: &Arc<Events>, r: &Arc<Runtime>) -> Result<(), ProjectionError> {
        let _driving = r.driving.lock();
        // Nobody reads what is being built, so small batches would serve nobody; and where each is a commit,
        // writers that go on may be faster for ever.
        let size = match r.mode {
            Mode::Inline => BATCH * 8,
            Mode::Async { batch } => batch.max(BATCH * 8),
        };
        loop {
            let log = self.db().events();
            let after = *r.checkpoint.lock();
            if after.0 + size as u64 >= log.head()?.0 {
                match self.flip(events, r) {
                    Err(BatchError::Poison(_)) => {
                        // By its policy: again, or halted with an error.
                        let (batch, upto) = events.complete_batch(&log, after, usize::MAX)?;
                        self.take(events, r, batch, upto)?;
                    }
                    Err(e) => return Err(ProjectionError::of_batch(r, e)),
                    Ok(()) => return Ok(()),
                }
            } else {
                let (batch, upto) = events.complete_batch(&log, after, size)?;
                self.take(events, r, batch, upto)?;
            }
        }
    }

    /// Takes the tail and makes a version the one that answers, with nobody else writing.
    fn flip(&self, events: &Arc<Events>, r: &Arc<Runtime>) -> Result<(), BatchError> {
        let list = events.runtimes();
        let is_older = |o: &&Arc<Runtime>| o.name == r.name && o.version < r.version;
        let in_use =
            |o: &&Arc<Runtime>| !matches!(o.state(), ProjectionState::Retired | ProjectionState::Dropped);
        let older: Vec<_> = list.iter().filter(is_older).filter(in_use).cloned().collect();
        let _held: Vec<_> = older.iter().map(|o| o.driving.lock()).collect();
        let (events2, r2, list, older) = (events.clone(), r.clone(), list.clone(), older.clone());
        let flip = move |txn: &mut Txn| -> Result<(Position, Vec<_>), BatchError> {
            let log = events2.log(txn.db_before());
            let park = matches!(r2.on_error, OnError::Park) && !r2.is_inline();
            let (batch, upto) = events2.complete_batch(&log, *r2.checkpoint.lock(), usize::MAX)?;
            let parked = events2.project_batch(txn, &r2, &batch, upto, park)?;
            let mut renames = Vec::new();
            for o in &older {
                renames.extend(o.attrs.iter().map(|(n, a)| rename(*a, &Runtime::side_name(n, o.version))));
            }
            renames.extend(r2.attrs.iter().map(|(name, id)| rename(*id, name)));
            if !older.is_empty() {
                txn.facts(&TxData { forms: renames, text: None }, Author::Projection(r2.name.as_str()))?;
            }
            let was: Vec<_> = older.iter().map(|o| o.state()).collect();
            for o in &older {
                *o.state.lock() = ProjectionState::Retired;
            }
            let was_mine = std::mem::replace(&mut *r2.state.lock(), ProjectionState::Live);
            match version_row(&r2.name, &list) {
                Ok(row) => txn.row(row),
                Err(e) => {
                    for (o, was) in older.iter().zip(was) {
                        *o.state.lock() = was;
                    }
                    *r2.state.lock() = was_mine;
                    return Err(BatchError::Db(e));
                }
            }
            Ok((upto, parked))
        };
        let (_, (upto, parked)) = self.write(flip)?;
        r.took(upto, &parked);
        events.announce();
        Ok(())
    }
}

/// A projection's name as a keyword, with or without its colon.
pub(crate) fn named(name: &str) -> Keyword {
    Keyword::new(name.strip_prefix(':').unwrap_or(name))
}

/// By which names the attributes of a version are to be installed: their own for a first one,
/// which nobody else may have taken, and beside them for a later one.
pub(crate) fn names_beside(
    db: &Db,
    events: &Events,
    spec: &ProjectionSpec,
    version: u32,
    beside: bool,
) -> Result<Vec<(Keyword, Keyword)>, ProjectionError> {
    let mut names = Vec::new();
    for attr in spec.attributes() {
        // A former name is free: what a dropped version left goes by another now.
        let taken = db.schema().attribute_named(&attr).filter(|a| a.ident == attr);
        if !beside && let Some(a) = taken {
            let owner =
                events.owner_of(a.id).map_or_else(|| "plain transactions".to_owned(), |o| o.to_string());
            return Err(ProjectionError::Owned { attr, owner });
        }
        let installed = if beside { Runtime::side_name(&attr, version) } else { attr.clone() };
        names.push((attr, installed));
    }
    Ok(names)
}

/// The attribute maps of a projection under the names they are to be installed by.
pub(crate) fn attribute_forms(spec: &ProjectionSpec, names: &[(Keyword, Keyword)]) -> Vec<Value> {
    let ident = Value::keyword("db/ident");
    let mut forms = Vec::with_capacity(names.len());
    for (form, (_, installed)) in spec.schema.iter().zip(names) {
        let Value::Map(entries) = form else { continue };
        forms.push(Value::map(entries.iter().map(|(k, v)| {
            let v = if *k == ident { Value::Keyword(installed.clone()) } else { v.clone() };
            (k.clone(), v)
        })));
    }
    forms
}

pub(crate) fn version_row(name: &Keyword, list: &[Arc<Runtime>]) -> Result<annals_storage::Row, DbError> {
    let order = list.iter().position(|r| r.name == *name).unwrap_or(list.len());
    let versions: Vec<_> = list.iter().filter(|r| r.name == *name).cloned().collect();
    projection_row(name, order, &versions)
}

/// Retracts facts of the attributes that hold now, up to a number of them; how many.
fn retract_some(txn: &mut Txn, attrs: &[AttrId]) -> Result<u64, DbError> {
    let (db, t) = (txn.db_before().clone(), txn.t());
    let mut n = 0;
    for a in attrs {
        db.snapshot().scan(View::NOW, &Prefix::A(*a), &mut |d| {
            txn.raw(Datom { t, added: false, ..d });
            n += 1;
            if n < RETRACTED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if n >= RETRACTED {
            break;
        }
    }
    Ok(n as u64)
}

fn rename(a: AttrId, to: &Keyword) -> Value {
    Value::vector([
        Value::keyword("db/add"),
        Value::Ref(a.entity()),
        Value::keyword("db/ident"),
        Value::Keyword(to.clone()),
    ])
}
