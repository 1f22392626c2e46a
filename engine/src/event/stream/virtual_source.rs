//! Events as entities: `:event/*` attributes computed from the event rows.
//!
//! 1. The entity of an event is its position in the event partition; all of its
//!    facts carry the t of the transaction that stored it and are never retracted,
//!    so a history view shows them once, asserted.
//! 2. `:event/data` and `:event/meta` are EDN maps with keyword keys:
//!    `[?e :event/data ?d] [(get ?d :amount) ?amount]`.
//! 3. An event that an upcaster splits is several entities: the first is that of its position, the
//!    others have the number of their part above it. All have the same id, stream, version and
//!    position; of type, data and tags each has its own.

use crate::event::{
    id::{EventId, Position},
    log::EventLog,
    record::Recorded,
    registry::Events,
    table,
};
use crate::{
    Db, DbError, bootstrap as boot,
    hook::Hook,
    snapshot::Visit,
    store::{Prefix, StorageError},
};
use annals_model::{AttrId, Datom, EntityId, Partition, Value, id::COUNTER_BITS};
use std::{ops::ControlFlow, sync::Arc};

/// Bits of an event's entity that hold its position; those above hold the part.
const POSITION_BITS: u32 = 36;

/// The entity of an event, or of a part of one; none for a part beyond the 256th.
fn entity_of(r: &Recorded) -> Option<EntityId> {
    let part = u64::from(r.part);
    let room = part < 1 << (COUNTER_BITS - POSITION_BITS) && r.position.0 < 1 << POSITION_BITS;
    match part {
        0 => Some(r.position.entity()),
        _ => room.then(|| EntityId::new(Partition::Event, part << POSITION_BITS | r.position.0)),
    }
}

/// The position and the part that an entity is of.
fn part_of(e: EntityId) -> Option<(Position, u16)> {
    let Position(n) = Position::of_entity(e)?;
    Some((Position(n & ((1 << POSITION_BITS) - 1)), (n >> POSITION_BITS) as u16))
}

/// Which field of an event an attribute shows.
fn values(r: &Recorded, a: AttrId) -> Result<Vec<Value>, DbError> {
    let m = &r.event.meta;
    let text = |s: &Option<Arc<str>>| s.iter().cloned().map(Value::String).collect();
    Ok(match a.raw() - boot::EVENT_BASE {
        0 => vec![Value::string(r.event.id.to_string())],
        1 => vec![Value::String(r.event.ty.shared())],
        2 => vec![Value::String(r.stream.shared())],
        3 => vec![Value::Long(r.version.0 as i64)],
        4 => vec![Value::Long(r.position.0 as i64)],
        5 => vec![Value::Ref(r.t.entity())],
        6 => vec![Value::Instant(r.recorded_at)],
        7 => r.event.occurred_at.map(Value::Instant).into_iter().collect(),
        8 => {
            let mut tags: Vec<Value> = r.event.tags.iter().map(|t| Value::String(t.shared())).collect();
            tags.sort();
            tags.dedup();
            tags
        }
        9 => vec![r.event.data.value()?],
        10 => text(&m.correlation),
        11 => m.causation.map(|c| Value::string(c.to_string())).into_iter().collect(),
        12 => text(&m.actor),
        13 => vec![Value::Long(r.event.schema.into())],
        14 if !m.more.is_empty() => {
            vec![Value::map(m.more.iter().map(|(k, v)| (Value::keyword(k), v.clone())))]
        }
        _ => Vec::new(),
    })
}

/// Every computed attribute.
fn attributes() -> impl Iterator<Item = AttrId> {
    (0..15).map(|i| AttrId::new(boot::EVENT_BASE + i))
}

impl Events {
    fn shown(&self, db: &Db, r: &Recorded) -> bool {
        let (view, newest) = (db.view(), db.basis_t());
        if view.history { view.shows(r.t, newest) } else { view.holds(r.t, annals_model::T::MAX, newest) }
    }

    fn emit(
        &self,
        db: &Db,
        r: &Recorded,
        a: AttrId,
        want: Option<&Value>,
        visit: &mut dyn FnMut(Datom) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DbError> {
        if !self.shown(db, r) {
            return Ok(ControlFlow::Continue(()));
        }
        for v in values(r, a)? {
            if want.is_some_and(|w| *w != v) {
                continue;
            }
            let Some(e) = entity_of(r) else { continue };
            let d = Datom { e, a, v, t: r.t, added: true };
            if visit(d).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The event, or the part of one, that an entity is.
    fn one(&self, log: &EventLog, e: EntityId) -> Result<Option<Recorded>, DbError> {
        let Some((p, part)) = part_of(e) else { return Ok(None) };
        Ok(log.at(p)?.into_iter().find(|r| r.part == part))
    }

    /// The events that have a value, when an index knows; none when all must be looked at.
    fn holders(&self, log: &EventLog, a: AttrId, v: &Value) -> Result<Option<Vec<Position>>, DbError> {
        let head = log.head()?;
        let found = match (a.raw() - boot::EVENT_BASE, v) {
            (0, Value::String(id)) => match uuid::Uuid::parse_str(id) {
                Ok(id) => log.tables.position_of(EventId(id))?.into_iter().collect(),
                Err(_) => Vec::new(),
            },
            (4, Value::Long(n)) => u64::try_from(*n).map(Position).into_iter().collect(),
            (1, Value::String(ty)) => self.by_item(log, crate::event::append::Item::types([ty]), head)?,
            (8, Value::String(tag)) => self.by_item(log, crate::event::append::Item::tags([tag]), head)?,
            (2, Value::String(stream)) => {
                let Ok(stream) = crate::event::id::StreamId::new(stream) else { return Ok(Some(Vec::new())) };
                let mut found = Vec::new();
                for (_, value) in log.tables.under(table::STREAM, table::Key::new().text(stream.as_str()))? {
                    found.push(Position(table::read_number(&value)?));
                }
                found
            }
            (5, Value::Ref(tx)) => match tx.as_t().map(|t| log.positions_of(t)).transpose()?.flatten() {
                Some((first, last)) => (first.0..=last.0).map(Position).collect(),
                None => Vec::new(),
            },
            _ => return Ok(None),
        };
        Ok(Some(found.into_iter().filter(|p| *p <= head).collect()))
    }

    fn by_item(
        &self,
        log: &EventLog,
        item: Result<crate::event::append::Item, crate::event::id::BadName>,
        head: Position,
    ) -> Result<Vec<Position>, DbError> {
        let Ok(item) = item else { return Ok(Vec::new()) };
        Ok(log.candidates(&[item], Position::ZERO, head)?.unwrap_or_default())
    }

    fn visit_all(
        &self,
        db: &Db,
        log: &EventLog,
        a: AttrId,
        visit: &mut dyn FnMut(Datom) -> ControlFlow<()>,
    ) -> Result<(), DbError> {
        log.each(Position::ZERO, log.head()?, &mut |r| {
            let opened = self.seals.open_event(r)?;
            for r in log.upcasters.apply(opened)? {
                if self.emit(db, &r, a, None, visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }

    fn try_scan(
        &self,
        db: &Db,
        p: &Prefix,
        visit: &mut dyn FnMut(Datom) -> ControlFlow<()>,
    ) -> Result<(), DbError> {
        let log = self.log(db);
        match p {
            Prefix::All => Ok(()),
            Prefix::E(e) => {
                let Some(r) = self.one(&log, *e)? else {
                    return Ok(());
                };
                for a in attributes() {
                    if self.emit(db, &r, a, None, visit)?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Prefix::Ea(e, a) => {
                let Some(r) = self.one(&log, *e)? else {
                    return Ok(());
                };
                self.emit(db, &r, *a, None, visit).map(|_| ())
            }
            Prefix::Eav(e, a, v) => {
                let Some(r) = self.one(&log, *e)? else {
                    return Ok(());
                };
                self.emit(db, &r, *a, Some(v), visit).map(|_| ())
            }
            Prefix::A(a) => self.visit_all(db, &log, *a, visit),
            Prefix::Av(a, v) => match self.holders(&log, *a, v)? {
                Some(found) => {
                    for p in found {
                        for r in log.at(p)? {
                            if self.emit(db, &r, *a, Some(v), visit)?.is_break() {
                                return Ok(());
                            }
                        }
                    }
                    Ok(())
                }
                None => self.visit_all(db, &log, *a, &mut |d| {
                    if d.v == *v { visit(d) } else { ControlFlow::Continue(()) }
                }),
            },
        }
    }
}

impl Hook for Events {
    fn scan(&self, db: &Db, p: &Prefix, visit: Visit) -> Result<(), StorageError> {
        self.try_scan(db, p, visit).map_err(storage_error)
    }

    fn rows(&self, db: &Db, a: AttrId) -> u64 {
        match a.raw() - boot::EVENT_BASE {
            // Tags and optional fields: as many as events is a fair guess.
            0..=14 => self.log(db).head().map_or(0, |p| p.0),
            _ => 0,
        }
    }

    fn owner(&self, a: AttrId) -> Option<Arc<str>> {
        self.owner_of(a)
    }
}

fn storage_error(e: DbError) -> StorageError {
    match e {
        DbError::Storage(e) => (*e).clone(),
        other => StorageError::Io {
            op: "read the events of",
            path: "the database".into(),
            error: Arc::new(std::io::Error::other(other.to_string())),
        },
    }
}
