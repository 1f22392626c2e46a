//! A batch of events through one version of a projection, after the fact: facts filed
//! under their origin, and the checkpoint, in one transaction.
//!
//! 1. A batch ends with a transaction of events: a checkpoint never stands inside one.
//! 2. An event that cannot be taken refuses the whole batch, unless the batch parks:
//!    then the event and later ones of its stream are set aside, others are taken.
//! 3. Skipped events are passed over, whoever takes the batch.

use crate::event::{
    facts::{Target, Undo},
    id::{EventId, EventType, Position, StreamId},
    inline::{Staged, write_supports},
    log::EventLog,
    projection::Code,
    record::Recorded,
    registry::{Events, Skips, checkpoint_key, parked_key},
    runtime::{ParkedStreams, Runtime},
    seal, table,
    upcast::Upcasters,
};
use crate::{DbError, TransactError, transact::Txn};
use annals_model::View;
use annals_storage::Row;
use hashbrown::HashMap;
use std::{cell::Cell, ops::ControlFlow, sync::Arc};

/// An event set aside by a projection that parks.
#[derive(Clone, Debug, PartialEq)]
pub struct Parked {
    /// Its position.
    pub position: Position,
    /// Its stream: later events of it are parked too.
    pub stream: StreamId,
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub ty: EventType,
    /// Why it could not be taken.
    pub why: Arc<str>,
}

/// What is said of an event that could be taken, had one before it been.
pub(crate) const BEHIND: &str = "an earlier event of its stream is parked";

impl Parked {
    pub(crate) fn of(e: &Recorded, why: &str) -> Parked {
        Parked {
            position: e.position,
            stream: e.stream.clone(),
            id: e.event.id,
            ty: e.event.ty.clone(),
            why: Arc::from(why),
        }
    }
}

/// A stored event as projections take it.
pub(crate) struct Taken {
    /// As it is stored, or as it reads when that is the same.
    pub stored: Recorded,
    /// Do several events share its transaction?
    pub shared: bool,
    read: Read,
}

enum Read {
    /// As it is stored.
    Same,
    /// Opened and upcast.
    Parts(Vec<Recorded>),
    /// It could not be read.
    Failed(String),
}

impl Taken {
    /// What projections are given, or why there is nothing to give.
    pub fn parts(&self) -> Result<&[Recorded], &str> {
        match &self.read {
            Read::Same => Ok(std::slice::from_ref(&self.stored)),
            Read::Parts(parts) => Ok(parts),
            Read::Failed(why) => Err(why),
        }
    }
}

impl Events {
    /// An event as projections take it.
    pub(crate) fn taken(&self, stored: Recorded, shared: bool) -> Taken {
        self.taken_by(&self.upcasters.read().clone(), stored, shared)
    }

    fn taken_by(&self, upcasters: &Upcasters, stored: Recorded, shared: bool) -> Taken {
        let sealed = seal::is_sealed(&stored.event.data);
        if !sealed && upcasters.is_empty() {
            return Taken { stored, shared, read: Read::Same };
        }
        let opened = if sealed { self.seals.open_event(stored.clone()) } else { Ok(stored.clone()) };
        let read = match opened
            .map_err(|e| e.to_string())
            .and_then(|r| upcasters.apply(r).map_err(|e| e.to_string()))
        {
            Ok(parts) => Read::Parts(parts),
            Err(why) => Read::Failed(why),
        };
        Taken { stored, shared, read }
    }

    /// At least `size` events after a position, up to the end of a transaction, and the
    /// position of the last.
    pub(crate) fn complete_batch(
        &self,
        log: &EventLog,
        after: Position,
        size: usize,
    ) -> Result<(Vec<Taken>, Position), DbError> {
        let head = log.head()?;
        let upcasters = self.upcasters.read().clone();
        let room = usize::try_from(head.0.saturating_sub(after.0)).unwrap_or(size).min(size);
        let mut batch: Vec<Taken> = Vec::with_capacity(room);
        let mut upto = after;
        log.each(after, head, &mut |r| {
            let shared = batch.last().is_some_and(|b| b.stored.t == r.t);
            if batch.len() >= size && !shared {
                return Ok(ControlFlow::Break(()));
            }
            upto = r.position;
            if let Some(before) = batch.last_mut().filter(|_| shared) {
                before.shared = true;
            }
            batch.push(self.taken_by(&upcasters, r, shared));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((batch, upto))
    }

    /// Takes a batch: facts, support, parked events and the checkpoint become part of the
    /// transaction. Answers what was parked; the caller notes it, and the checkpoint, once
    /// the transaction is durable.
    pub(crate) fn project_batch(
        &self,
        txn: &mut Txn,
        r: &Arc<Runtime>,
        batch: &[Taken],
        upto: Position,
        park: bool,
    ) -> Result<Vec<Parked>, BatchError> {
        drop(self.memory(txn.t()));
        self.settle_instant(txn)?;
        let before = txn.db_before().clone();
        let schema = before.info().schema.clone();
        let binding = r.binding(&schema)?;
        let staged = Staged { snap: before.snapshot(), view: View::NOW, next: Cell::new(txn.next_user()) };
        let (code, skipped) = (r.code(), self.skipped(&r.name));
        let mut aside = Aside { from: r.parked.lock().clone(), why: HashMap::new() };
        let mut parked: Vec<Parked> = Vec::new();
        let mut cache = r.cache.lock();
        let mut undone: Vec<Undo> = Vec::with_capacity(batch.len());
        let (mut datoms, mut supports) = (Vec::with_capacity(4 * batch.len()), Vec::new());
        for group in batch.chunk_by(|a, b| a.stored.t == b.stored.t) {
            let parked_before = parked.len();
            // Again without an event that cannot be taken, until the rest can.
            loop {
                let mut target = Target::new(&staged, &binding, &schema, &mut cache, group[0].shared);
                let Err(poison) = take_group(&code, group, &mut target, &skipped, &aside, &mut parked) else {
                    undone.push(target.finish(group[0].stored.t, &mut datoms, &mut supports));
                    break;
                };
                target.abandon();
                parked.truncate(parked_before);
                if !park {
                    for u in undone.into_iter().rev() {
                        cache.undo(u);
                    }
                    return Err(BatchError::Poison(poison));
                }
                aside.set(poison);
            }
        }
        let next = staged.next.get();
        txn.set_next_user(next);
        txn.raw_all(datoms);
        write_supports(txn, supports);
        for p in &parked {
            txn.row(park_row(r, p));
        }
        txn.row(table::put(table::COUNTER, checkpoint_key(&r.name, r.version), table::number(upto.0)));
        cache.trim();
        drop(cache);
        self.memory(txn.t()).t = txn.t();
        Ok(parked)
    }
}

/// Streams set aside, from which event on, and what was wrong with that one.
#[derive(Default)]
pub(crate) struct Aside {
    from: ParkedStreams,
    why: HashMap<Position, String>,
}

impl Aside {
    /// Sets a stream aside from an event on.
    pub fn set(&mut self, poison: Poison) {
        self.from.insert(poison.stream.shared(), poison.at);
        self.why.insert(poison.at, poison.why);
    }
}

/// Takes the events of one transaction in order; those set aside are noted as parked.
pub(crate) fn take_group(
    code: &Code,
    group: &[Taken],
    target: &mut Target<'_>,
    skipped: &Skips,
    aside: &Aside,
    parked: &mut Vec<Parked>,
) -> Result<(), Poison> {
    for taken in group {
        let e = &taken.stored;
        if skipped.contains(&e.position) {
            continue;
        }
        let poison = |why: String| Poison { at: e.position, stream: e.stream.clone(), why };
        let set_aside =
            !aside.from.is_empty() && aside.from.get(e.stream.as_str()).is_some_and(|p| *p <= e.position);
        match taken.parts() {
            Ok(parts) if set_aside => {
                if parts.iter().any(|e| code.wants(e)) {
                    parked.push(Parked::of(e, aside.why.get(&e.position).map_or(BEHIND, String::as_str)));
                }
            }
            Ok(parts) => {
                for part in parts.iter().filter(|e| code.wants(e)) {
                    code.project(part, target).map_err(|why| poison(why.to_string()))?;
                }
            }
            Err(why) if set_aside => parked.push(Parked::of(e, why)),
            Err(why) => return Err(poison(why.to_owned())),
        }
    }
    Ok(())
}

/// The row of a parked event.
pub(crate) fn park_row(r: &Runtime, p: &Parked) -> Row {
    table::put(table::PARKED, parked_key(r).number(p.position.0), p.why.as_bytes())
}

/// An event of a batch that could not be taken.
#[derive(Clone, Debug)]
pub(crate) struct Poison {
    pub at: Position,
    pub stream: StreamId,
    pub why: String,
}

/// Why a batch was not taken.
pub(crate) enum BatchError {
    /// An event.
    Poison(Poison),
    /// Everything else.
    Db(DbError),
    /// The commit.
    Transact(TransactError),
}
impl From<DbError> for BatchError {
    fn from(e: DbError) -> BatchError {
        BatchError::Db(e)
    }
}
impl From<TransactError> for BatchError {
    fn from(e: TransactError) -> BatchError {
        BatchError::Transact(e)
    }
}
