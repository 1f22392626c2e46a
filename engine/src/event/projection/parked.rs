//! Parked events: listed, and replayed after what was wrong is mended.
//!
//! 1. Replaying gives what a clean run would have given, or nothing at all: facts are filed
//!    under the transactions of their events, in order. Where a fact that an event reads or
//!    writes has changed since, or an event taken since has read what it writes, in place is
//!    too late, and the projection is to be rebuilt.
//! 2. An event that still cannot be taken stays parked, with later ones of its stream.
//! 3. The events of one transaction are taken as one, as they are in a clean run.

use crate::event::{
    batch::{BEHIND, Parked, Taken, park_row},
    facts::{Cache, ProjectError, Support, Target, Watched},
    id::Position,
    inline::{Staged, write_supports},
    outbox::gone,
    projection::Code,
    projection_error::ProjectionError,
    registry::{Events, Skips, parked_key, parked_streams},
    runtime::Runtime,
    table::{self, Tables},
};
use crate::{Connection, Db, DbError, snapshot::Snapshot, store::Prefix, transact::Txn};
use annals_model::{AttrId, Datom, EntityId, Keyword, Partition, T, View};
use annals_storage::Row;
use hashbrown::HashMap;
use std::{cell::Cell, ops::ControlFlow, sync::Arc};

/// Events looked at in one go for what they read.
const BATCH: usize = 1000;

/// What a replay of parked events did.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// Events taken.
    pub taken: u64,
    /// Events that stay parked.
    pub left: Vec<Parked>,
}

impl Connection {
    /// The events that a projection has set aside, in order of position.
    ///
    /// # Errors
    /// `projection/unknown`; or the database could not be read.
    pub fn parked(&self, name: &str) -> Result<Vec<Parked>, ProjectionError> {
        let r = self.projection(name)?;
        Ok(list(&Tables::new(self.db().snapshot().clone()), &r)?)
    }

    /// Takes the parked events of a projection again, in one transaction: after the code was
    /// registered anew, an upcaster was, or the event was put on the skip list. The outcome
    /// is that of a run in which they had never been parked.
    ///
    /// # Errors
    /// `projection/unknown`; `projection/not-registered` when its code is not in this process;
    /// `projection/entangled` when facts that an event is about have changed since it was
    /// parked, or were read by an event taken since: nothing is written, and
    /// [`Connection::rebuild_projection`] does what was wanted.
    pub fn replay_parked(&self, name: &str) -> Result<Replayed, ProjectionError> {
        let r = self.projection(name)?;
        if matches!(r.code(), Code::Absent) {
            return Err(ProjectionError::NotRegistered(r.name.clone()));
        }
        let events = self.shared().events().clone();
        let _driving = r.driving.lock();
        // While `driving` is held the projection's facts stay as they are, and its reading of
        // others' is of the past: what is found here, beside the writers, holds in the commit.
        let db = self.db();
        let plan = events.plan_replay(&db, &r, db.counters().user)?;
        events.read_since(&db, &r, &plan)?;
        let (events2, r2) = (events.clone(), r.clone());
        let (_, done) = self.write(move |txn| events2.replay_parked(txn, &r2))?;
        *r.parked.lock() = parked_streams(&Tables::new(self.db().snapshot().clone()), &r)?;
        events.announce();
        Ok(done)
    }
}

/// What a version has set aside.
fn list(tables: &Tables, r: &Runtime) -> Result<Vec<Parked>, DbError> {
    let prefix = parked_key(r).done().len();
    let mut found = Vec::new();
    for (k, why) in tables.under(table::PARKED, parked_key(r))? {
        let Some(p) = table::last_number(&k, prefix).map(Position) else { continue };
        if let Some(e) = tables.event(p)? {
            found.push(Parked::of(&e, &String::from_utf8_lossy(&why)));
        }
    }
    Ok(found)
}

/// What a replay is going to do.
struct Plan {
    datoms: Vec<Datom>,
    supports: Vec<Support>,
    /// Which facts each event writes that is taken.
    writes: Vec<Writes>,
    /// The parked events that are parked no longer.
    gone: Vec<Row>,
    left: Vec<Parked>,
    next: u64,
}

/// Which facts an event writes.
type Writes = (Position, T, Watched);

impl Plan {
    /// Takes the parked events of one transaction in order: together, since what is both said and taken back
    /// within one was never so. Answers what each event writes that is taken; or the first that cannot be,
    /// and why.
    #[expect(clippy::too_many_arguments, reason = "each is what one step of the plan needs")]
    fn take_group(
        &mut self,
        r: &Runtime,
        code: &Code,
        group: &[Taken],
        target: &mut Target<'_>,
        skipped: &Skips,
        failed: &HashMap<Position, String>,
        before: &Db,
    ) -> Result<Result<Vec<Writes>, (Position, String)>, ProjectionError> {
        let mut writes = Vec::new();
        for e in group {
            let at = &e.stored;
            let gone = gone(table::PARKED, parked_key(r).number(at.position.0).done());
            if skipped.contains(&at.position) {
                self.gone.push(gone);
                continue;
            }
            let behind = self.left.iter().any(|p| p.stream == at.stream);
            if let Some(why) = failed.get(&at.position).map(String::as_str).or(behind.then_some(BEHIND)) {
                self.left.push(Parked::of(at, why));
                continue;
            }
            let said = match e.parts() {
                Ok(parts) => parts.iter().filter(|e| code.wants(e)).try_for_each(|e| code.project(e, target)),
                Err(why) => Err(ProjectError::Said(why.to_owned())),
            };
            if let Err(why) = said {
                return Ok(Err((at.position, why.to_string())));
            }
            if let Some(a) = changed_after(before.snapshot(), &target.watched(), at.t)? {
                return Err(entangled(r, at.position, a));
            }
            // What it has changed may be changed back by the next: an event between them has met it all the same.
            writes.push((at.position, at.t, target.written()));
            self.gone.push(gone);
        }
        Ok(Ok(writes))
    }
}

impl Events {
    fn replay_parked(&self, txn: &mut Txn, r: &Arc<Runtime>) -> Result<Replayed, ProjectionError> {
        drop(self.memory(txn.t()));
        let before = txn.db_before().clone();
        let plan = self.plan_replay(&before, r, txn.next_user())?;
        txn.set_next_user(plan.next);
        let taken = plan.writes.len() as u64;
        txn.raw_all(plan.datoms);
        write_supports(txn, plan.supports);
        for row in plan.gone {
            txn.row(row);
        }
        for p in &plan.left {
            txn.row(park_row(r, p));
        }
        // Read again: what was planned is not part of it until it is durable.
        *r.cache.lock() = Cache::default();
        self.memory(txn.t()).t = txn.t();
        Ok(Replayed { taken, left: plan.left })
    }

    /// Takes the parked events in order, on what the projection says now.
    fn plan_replay(&self, before: &Db, r: &Arc<Runtime>, next: u64) -> Result<Plan, ProjectionError> {
        let log = self.log(before);
        let mut batch: Vec<Taken> = Vec::new();
        for p in list(&log.tables, r)? {
            let Some(stored) = log.tables.event(p.position)? else { continue };
            let shared = log.positions_of(stored.t)?.is_some_and(|(first, last)| first != last);
            batch.push(self.taken(stored, shared));
        }
        let schema = before.info().schema.clone();
        let binding = r.binding(&schema)?;
        let staged = Staged { snap: before.snapshot(), view: View::NOW, next: Cell::new(next) };
        let (code, skipped) = (r.code(), self.skipped(&r.name));
        let mut plan =
            Plan { datoms: vec![], supports: vec![], writes: vec![], gone: vec![], left: vec![], next };
        let mut cache = Cache::default();
        for group in batch.chunk_by(|a, b| a.stored.t == b.stored.t) {
            let (gone, left) = (plan.gone.len(), plan.left.len());
            let mut failed = HashMap::new();
            // Again without an event that cannot be taken, until the rest can.
            loop {
                let mut target = Target::new(&staged, &binding, &schema, &mut cache, group[0].shared);
                target.watch();
                match plan.take_group(r, &code, group, &mut target, &skipped, &failed, before)? {
                    Ok(writes) => {
                        if !writes.is_empty() {
                            target.finish(group[0].stored.t, &mut plan.datoms, &mut plan.supports);
                            plan.writes.extend(writes);
                        }
                        break;
                    }
                    Err((at, why)) => {
                        target.abandon();
                        plan.gone.truncate(gone);
                        plan.left.truncate(left);
                        failed.insert(at, why);
                    }
                }
            }
        }
        plan.next = staged.next.get();
        Ok(plan)
    }

    /// Refuses when an event that was taken after a parked one has read what that one writes:
    /// had it been there, the later one might have said something else. What an event read is
    /// found by running it again on the facts of its time, and writing nothing.
    fn read_since(&self, db: &Db, r: &Arc<Runtime>, plan: &Plan) -> Result<(), ProjectionError> {
        let Some((first, ..)) = plan.writes.first() else { return Ok(()) };
        let (log, taken_to) = (self.log(db), *r.checkpoint.lock());
        let fresh = db.counters().user;
        let schema = db.info().schema.clone();
        let binding = r.binding(&schema)?;
        let (code, skipped) = (r.code(), self.skipped(&r.name));
        let mut aside: Vec<Position> = list(&log.tables, r)?.into_iter().map(|p| p.position).collect();
        aside.sort_unstable();
        let mut after = *first;
        while after < taken_to {
            let (batch, upto) = self.complete_batch(&log, after, BATCH)?;
            for group in batch.chunk_by(|a, b| a.stored.t == b.stored.t) {
                let t = group[0].stored.t;
                let then = View { as_of: Some(T(t.0.saturating_sub(1))), ..View::NOW };
                let staged = Staged { snap: db.snapshot(), view: then, next: Cell::new(fresh) };
                let mut cache = Cache::default();
                let mut target = Target::new(&staged, &binding, &schema, &mut cache, group[0].shared);
                target.watch();
                let passed = |p: &Position| skipped.contains(p) || aside.binary_search(p).is_ok();
                for e in group.iter().filter(|e| !passed(&e.stored.position)) {
                    for part in e.parts().unwrap_or_default().iter().filter(|e| code.wants(e)) {
                        // It was taken: should it fail now, what it read until then counts.
                        let _ = code.project(part, &mut target);
                    }
                }
                let read = target.watched();
                target.abandon();
                for (at, _, written) in plan.writes.iter().filter(|(_, of, _)| *of <= t) {
                    if let Some(a) = meets(written, &read, fresh) {
                        return Err(entangled(r, *at, a));
                    }
                }
            }
            after = upto;
        }
        Ok(())
    }
}

/// An attribute of which something written was read. Entities numbered from `fresh` on were made up by
/// one run or the other: the same number is not the same entity, and who they are is in `holders`.
fn meets(written: &Watched, read: &Watched, fresh: u64) -> Option<AttrId> {
    let made_up = |e: EntityId| e.partition() == Some(Partition::User) && e.counter() >= fresh;
    let value = written.values.iter().find(|key| !made_up(key.0) && read.values.contains(*key));
    let value = value.map(|(_, a)| *a);
    value.or_else(|| written.holders.iter().find(|key| read.holders.contains(*key)).map(|(a, _)| *a))
}

fn entangled(r: &Runtime, at: Position, a: AttrId) -> ProjectionError {
    let own = r.attrs.iter().find(|(_, id)| *id == a);
    let attr: Keyword = own.map_or_else(|| r.name.clone(), |(name, _)| name.clone());
    ProjectionError::Entangled { name: r.name.clone(), at, attr }
}

/// An attribute of which something that was read or written has changed after a transaction.
fn changed_after(snap: &Snapshot, watched: &Watched, t: T) -> Result<Option<AttrId>, DbError> {
    let history = View { history: true, ..View::NOW };
    let values = watched.values.iter().map(|(e, a)| (*a, Prefix::Ea(*e, *a)));
    let holders = watched.holders.iter().map(|(a, v)| (*a, Prefix::Av(*a, v.clone())));
    for (a, prefix) in values.chain(holders) {
        let mut later = false;
        snap.scan(history, &prefix, &mut |d| {
            later = d.t > t;
            if later { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if later {
            return Ok(Some(a));
        }
    }
    Ok(None)
}
