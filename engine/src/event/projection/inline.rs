//! Inline projections: run inside the append's transaction, over events that are not stored yet.
//!
//! 1. They run in the order of registration, each seeing the facts of those before it.
//! 2. One that refuses an event refuses the append, and every cache is as it was.

use crate::event::{
    append::AppendError,
    commit::{Purpose, Stop},
    facts::{Cache, FactBase, ProjectError, Support, Target, Undo},
    projection::Code,
    record::Recorded,
    registry::Events,
    runtime::{ProjectionState, Runtime},
    table::{self, Key},
};
use crate::{Db, DbError, snapshot::Snapshot, store::Prefix, transact::Txn};
use annals_model::{AttrId, EntityId, Partition, Schema, T, Value, View};
use std::{cell::Cell, ops::ControlFlow, sync::Arc};

/// The staged database as projections read it.
pub(crate) struct Staged<'a> {
    pub snap: &'a Snapshot,
    /// The present, but for those who ask what was.
    pub view: View,
    pub next: Cell<u64>,
}

impl Staged<'_> {
    /// The view as of a transaction; what is newest anyway is read as the present.
    fn at(&self, t: Option<T>) -> View {
        match t {
            Some(t) if t < self.view.upto(self.snap.t()) => View { as_of: Some(t), ..self.view },
            _ => self.view,
        }
    }
}

impl FactBase for Staged<'_> {
    fn values(&self, e: EntityId, a: AttrId, at: Option<T>) -> Result<Vec<Value>, DbError> {
        let mut found = Vec::new();
        self.snap.scan(self.at(at), &Prefix::Ea(e, a), &mut |d| {
            found.push(d.v);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
    fn holder(&self, a: AttrId, v: &Value, at: Option<T>) -> Result<Option<EntityId>, DbError> {
        Ok(self.snap.first(self.at(at), &Prefix::Av(a, v.clone()))?.map(|d| d.e))
    }
    fn fresh(&self) -> EntityId {
        let n = self.next.get();
        self.next.set(n + 1);
        EntityId::new(Partition::User, n)
    }
    fn next_fresh(&self) -> EntityId {
        EntityId::new(Partition::User, self.next.get())
    }
}

impl Events {
    /// Runs the inline projections over the events of one append.
    pub(crate) fn run_inline(
        &self,
        purpose: Purpose,
        txn: &mut Txn,
        before: &Db,
        recorded: &[Recorded],
        shared: bool,
    ) -> Result<Vec<(Arc<Runtime>, Undo)>, Stop> {
        let runtimes = self.runtimes();
        let mut undo: Vec<(Arc<Runtime>, Undo)> = Vec::new();
        let mut parts: Option<Vec<Recorded>> = None;
        for r in runtimes.iter().filter(|r| r.is_inline()) {
            match r.state() {
                ProjectionState::Live => {}
                // It catches up later, from its checkpoint.
                ProjectionState::Building | ProjectionState::Paused | ProjectionState::Halted { .. } => {
                    continue;
                }
                ProjectionState::Retired | ProjectionState::Dropped => continue,
            }
            if parts.is_none() {
                parts = match self.presented(recorded) {
                    Ok(parts) => Some(parts),
                    Err(e) => {
                        undo_all(undo);
                        return Err(e.into());
                    }
                };
            }
            let code = r.code();
            let events: Vec<&Recorded> = parts.iter().flatten().filter(|e| code.wants(e)).collect();
            if events.is_empty() {
                continue;
            }
            match self.project_inline(purpose, txn, before, r, &code, &events, shared) {
                Ok(u) => undo.push((r.clone(), u)),
                Err(e) => {
                    undo_all(undo);
                    return Err(e);
                }
            }
        }
        Ok(undo)
    }

    /// Events as projections see them: opened and upcast.
    pub(crate) fn presented(&self, recorded: &[Recorded]) -> Result<Vec<Recorded>, DbError> {
        let upcasters = self.upcasters.read().clone();
        let mut out = Vec::with_capacity(recorded.len());
        for r in recorded {
            let r = self.seals.open_event(r.clone())?;
            out.append(&mut upcasters.apply(r)?);
        }
        Ok(out)
    }

    #[expect(clippy::too_many_arguments, reason = "one call, and no two of a type")]
    fn project_inline(
        &self,
        purpose: Purpose,
        txn: &mut Txn,
        before: &Db,
        r: &Arc<Runtime>,
        code: &Code,
        events: &[&Recorded],
        shared: bool,
    ) -> Result<Undo, Stop> {
        // Facts given with the append, and those of projections before this one, are seen too.
        let seen = if txn.has_facts() { txn.db().clone() } else { before.clone() };
        let schema: &Arc<Schema> = &seen.info().schema;
        let binding = r.binding(schema)?;
        let staged = Staged { snap: seen.snapshot(), view: View::NOW, next: Cell::new(txn.next_user()) };
        let (mut shared_cache, mut own_cache);
        let cache: &mut Cache = match purpose {
            Purpose::Commit => {
                shared_cache = r.cache.lock();
                shared_cache.trim();
                &mut shared_cache
            }
            Purpose::Speculate => {
                own_cache = Cache::default();
                &mut own_cache
            }
        };
        let mut target = Target::new(&staged, &binding, schema, cache, shared);
        for e in events {
            if let Err(why) = code.project(e, &mut target) {
                target.abandon();
                return Err(refusal(r, e, why));
            }
        }
        let (mut datoms, mut supports) = (Vec::new(), Vec::new());
        let undo = target.finish(txn.t(), &mut datoms, &mut supports);
        let next = staged.next.get();
        txn.set_next_user(next);
        txn.raw_all(datoms);
        write_supports(txn, supports);
        Ok(undo)
    }
}

/// Takes the work of inline projections back.
pub(crate) fn undo_all(undo: Vec<(Arc<Runtime>, Undo)>) {
    for (r, u) in undo.into_iter().rev() {
        r.cache.lock().undo(u);
    }
}

fn refusal(r: &Runtime, e: &Recorded, why: ProjectError) -> Stop {
    match why {
        ProjectError::Db(e) => Stop::Refused(e.into()),
        why => Stop::Refused(AppendError::InlineProjection {
            projection: Arc::from(r.name.as_str()),
            id: e.event.id,
            ty: e.event.ty.clone(),
            why: why.to_string(),
        }),
    }
}

pub(crate) fn write_supports(txn: &mut Txn, supports: Vec<Support>) {
    for s in supports {
        let key = support_key(s.e, s.a, &s.v).number(s.position.0);
        txn.row(table::put(table::SUPPORT, key, Vec::new()));
    }
}

/// Under which the events that support a fact are noted.
pub(crate) fn support_key(e: EntityId, a: AttrId, v: &Value) -> Key {
    let mut bytes = Vec::with_capacity(32);
    // Stored values are never deeper than a payload may be.
    let _ = crate::event::data::encode(v, &mut bytes, 0);
    let hash = blake3::hash(&bytes);
    Key::new().number(e.raw()).number(a.raw().into()).bytes(&hash.as_bytes()[..8])
}
