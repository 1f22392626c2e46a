//! Parked events: listed, and replayed after what was wrong is mended.
//!
//! 1. Replaying gives what a clean run would have given, or nothing at all: facts are filed
//!    under the transactions of their events, in order. Where a fact that an event reads or
//!    writes has changed since, in place is too late, and the projection is to be rebuilt.
//! 2. An event that still cannot be taken stays parked, with later ones of its stream.

use super::{
    batch::{Parked, Taken, park_row},
    commit::{Staged, write_supports},
    facts::{ProjectError, Target, Watched},
    id::Position,
    projection_error::ProjectionError,
    registry::{Events, parked_key, parked_streams},
    runtime::Runtime,
    table::{self, Tables},
};
use crate::{Connection, DbError, snapshot::Snapshot, store::Prefix, transact::Txn};
use annals_model::{AttrId, T, View};
use hashbrown::HashMap;
use std::{cell::Cell, ops::ControlFlow, sync::Arc};

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
    /// parked: nothing is written, and [`Connection::rebuild_projection`] does what was wanted.
    pub fn replay_parked(&self, name: &str) -> Result<Replayed, ProjectionError> {
        let r = self.projection(name)?;
        if matches!(r.code(), super::projection::Code::Absent) {
            return Err(ProjectionError::NotRegistered(r.name.clone()));
        }
        let events = self.shared().events().clone();
        let _driving = r.driving.lock();
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

impl Events {
    fn replay_parked(&self, txn: &mut Txn, r: &Arc<Runtime>) -> Result<Replayed, ProjectionError> {
        drop(self.memory(txn.t()));
        let before = txn.db_before().clone();
        let log = self.log(&before);
        let mut batch: Vec<Taken> = Vec::new();
        for p in list(&log.tables, r)? {
            let Some(stored) = log.tables.event(p.position)? else { continue };
            let shared = log.positions_of(stored.t)?.is_some_and(|(first, last)| first != last);
            batch.push(self.taken(stored, shared));
        }
        let schema = before.info().schema.clone();
        let binding = r.binding(&schema)?;
        let staged = Staged { snap: before.snapshot(), next: Cell::new(txn.next_user()) };
        let (code, skipped) = (r.code(), self.skipped(&r.name));
        let names: HashMap<AttrId, _> = r.attrs.iter().map(|(name, a)| (*a, name.clone())).collect();
        let mut left: Vec<Parked> = Vec::new();
        let mut taken = 0;
        let mut cache = r.cache.lock();
        let mut undone = Vec::new();
        let mut made = Vec::new();
        for e in &batch {
            let at = &e.stored;
            let gone = table::put(table::PARKED, parked_key(r).number(at.position.0), Vec::new());
            let gone = annals_storage::Row { value: None, ..gone };
            if skipped.contains(&at.position) {
                txn.row(gone);
                continue;
            }
            if left.iter().any(|p| p.stream == at.stream) {
                left.push(Parked::of(at, super::batch::BEHIND));
                continue;
            }
            let mut target = Target::new(&staged, &binding, &schema, &mut cache, e.shared);
            target.watch();
            let said = match e.parts() {
                Ok(parts) => {
                    parts.iter().filter(|e| code.wants(e)).try_for_each(|e| code.project(e, &mut target))
                }
                Err(why) => Err(ProjectError::Said(why.to_owned())),
            };
            let watched = target.watched();
            match said {
                Ok(()) => {
                    let changed = changed_after(before.snapshot(), &watched, at.t)?;
                    let (datoms, supports, undo) = target.finish(at.t);
                    undone.push(undo);
                    if let Some(a) = changed {
                        for u in undone.into_iter().rev() {
                            cache.undo(u);
                        }
                        let attr = names.get(&a).cloned().unwrap_or_else(|| r.name.clone());
                        return Err(ProjectionError::Entangled {
                            name: r.name.clone(),
                            at: at.position,
                            attr,
                        });
                    }
                    made.push((datoms, supports));
                    txn.row(gone);
                    taken += 1;
                }
                Err(why) => {
                    target.abandon();
                    left.push(Parked::of(at, &why.to_string()));
                }
            }
        }
        let next = staged.next.get();
        txn.set_next_user(next);
        for (datoms, supports) in made {
            for d in datoms {
                txn.raw(d);
            }
            write_supports(txn, supports);
        }
        for p in &left {
            txn.row(park_row(r, p));
        }
        drop(cache);
        self.memory(txn.t()).t = txn.t();
        Ok(Replayed { taken, left })
    }
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
