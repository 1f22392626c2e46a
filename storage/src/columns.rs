//! The column cache: attributes as arrays of cells, patched as records are published.
//!
//! 1. A cached attribute is the facts that hold at `upto`, and, once a view of
//!    the past was asked for, its closed intervals. What was staged since waits
//!    in `pending` and is merged at the next use, up to the published basis.
//! 2. A column that leaves is immutable. A patch happens in place when nobody
//!    holds the column any more, else on a copy.
//! 3. Reads the cache cannot answer exactly (a basis with staged records, or one
//!    that precedes a late-filed fact of the attribute) go to the layers.
//! 4. With no bytes to use, everything goes to the layers.
//! 5. A column of the past stays when it is asked for again (`pins`); a read that says so (`keep` is false)
//!    leaves none behind.
//! 6. What is kept never exceeds the limit; of columns of the present, and of the past that were asked for
//!    again, those leave first that were used longest ago.
//!
//! Locks: a slot's data, then the writer, then the map. Staging takes only the map.

mod data;
mod pins;
mod points;
mod probe;

use crate::cells::Cells;
use crate::error::Res;
use crate::rows::Rows;
use crate::scan::plan_by_value;
use crate::store::Core;
use crate::types::At;
use annals_model::{AttrId, Column, Datom, Dict, Order, T, View};
use data::{Closed, Data, Triple, from_triples};
use hashbrown::HashMap;
use parking_lot::Mutex;
use pins::Pins;
use std::{ops::ControlFlow, sync::Arc};

const MAX_PENDING: usize = 16_384;

/// Cached columns of a store.
pub(crate) struct Cache {
    limit: usize,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    slots: HashMap<AttrId, Slot>,
    pins: Pins,
    /// What probes of the present have cost since an attribute last changed, or was last loaded for
    /// them, in rows of a scan: `SCAN_RATIO` a key, 1 a row found.
    asked: HashMap<AttrId, u64>,
    /// The same of probes of the past, by view: many of one view make its column worth having, one each of
    /// many views do not.
    asked_past: HashMap<Past, u64>,
    /// The same of points of any past, since intervals were last read for them.
    asked_points: HashMap<AttrId, u64>,
    clock: u64,
}

/// An attribute's data, once it is loaded.
type Shared = Arc<Mutex<Option<Data>>>;

struct Slot {
    /// Changes in records not yet merged, in order.
    pending: Vec<(T, Datom)>,
    data: Shared,
    /// Can points of the past be read from it?
    intervals: bool,
    bytes: usize,
    used: u64,
    /// Newest merged record that changed the attribute.
    changed: T,
}

/// An attribute as a view of the past shows it: what decides which rows it has.
type Past = (AttrId, T, View);

/// A column of the past, by all that decides what is in it.
type Pin = (AttrId, Order, T, View);

fn past(at: &At, a: AttrId) -> Past {
    let upto = at.view.upto(at.basis);
    (a, upto, View { as_of: Some(upto), ..at.view })
}

impl Cache {
    pub fn new(limit: usize) -> Cache {
        Cache { limit, map: Mutex::default() }
    }

    /// Notes what a staged record changes.
    pub fn stage(&self, t: T, datoms: &[Datom]) {
        let mut map = self.map.lock();
        if map.slots.is_empty() && map.pins.is_empty() && map.asked.is_empty() {
            return;
        }
        for d in datoms {
            map.asked.remove(&d.a);
            if d.t < t {
                map.pins.forget(d.a);
                map.asked_past.retain(|past, _| past.0 != d.a);
            }
            if let Some(slot) = map.slots.get_mut(&d.a) {
                slot.pending.push((t, d.clone()));
                if slot.pending.len() > MAX_PENDING {
                    map.slots.remove(&d.a);
                }
            }
        }
    }

    /// Forgets what was staged after `basis`.
    pub fn unstage(&self, basis: T) {
        for slot in self.map.lock().slots.values_mut() {
            slot.pending.retain(|(t, _)| *t <= basis);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.map.lock() = Map::default();
    }

    pub fn bytes(&self) -> usize {
        let map = self.map.lock();
        map.slots.values().map(|s| s.bytes).sum::<usize>() + map.pins.bytes()
    }

    /// Lets go of what was used longest ago until the rest fits.
    fn shrink(&self, map: &mut Map) {
        let mut slots = map.slots.values().map(|s| s.bytes).sum::<usize>();
        while slots + map.pins.bytes() > self.limit {
            let slot = map.slots.iter().filter(|(_, s)| s.bytes > 0).min_by_key(|(_, s)| s.used);
            match (slot.map(|(a, s)| (*a, s.used, s.bytes)), map.pins.oldest()) {
                (Some((_, used, _)), Some(oldest)) if oldest <= used => drop(map.pins.drop_oldest()),
                (Some((a, _, bytes)), _) => {
                    map.slots.remove(&a);
                    slots -= bytes;
                }
                (None, Some(_)) => drop(map.pins.drop_oldest()),
                (None, None) => return,
            }
        }
    }
}

impl Core {
    /// Is the column of this view in memory?
    pub fn is_cached(&self, at: &At, a: AttrId) -> bool {
        let map = self.cache.map.lock();
        let (_, upto, view) = past(at, a);
        // The present is every view behind the last change, merged or waiting.
        let present = |s: &Slot| {
            let waiting = s.pending.last().map_or(T(0), |(t, _)| *t);
            s.bytes > 0 && at.is_moment() && upto >= s.changed.max(waiting)
        };
        map.slots.get(&a).is_some_and(present) || map.pins.has(a, upto, view)
    }

    /// May the cache answer for this basis?
    fn cacheable(&self, at: &At, a: AttrId) -> bool {
        let late = self.stats.read().attrs.get(&a).map_or(T(0), |r| r.late);
        self.cache.limit > 0 && at.basis >= late && at.basis <= self.basis()
    }

    /// `keep`: whether a column of the past is worth memory after this read.
    pub fn column(&self, at: &At, a: AttrId, order: Order, dict: &Arc<Dict>, keep: bool) -> Res<Arc<Column>> {
        if !self.cacheable(at, a) {
            return Ok(Arc::new(self.build(at, a, order, dict)?));
        }
        let (_, upto, view) = past(at, a);
        let pin: Pin = (a, order, upto, view);
        // Late facts may have come in since it was asked whether the cache may answer. Whoever put them into what is
        // found here knew of them before, so that asking again tells.
        if let Some(c) = self.pinned(&pin, dict).filter(|_| self.cacheable(at, a)) {
            return Ok(c);
        }
        let cell = self.slot(a);
        let mut data = cell.lock();
        self.refresh(a, &cell, &mut data, dict)?;
        if !self.cacheable(at, a) {
            drop(data);
            return Ok(Arc::new(self.build(at, a, order, dict)?));
        }
        let d = data.as_mut().expect("just refreshed");
        let present = at.is_moment() && upto >= d.changed;
        if present {
            let c = d.current(order).clone();
            self.account(at, a, &cell, d, None);
            return Ok(c);
        }
        if d.closed.is_none() {
            let rows = self.load_closed(d.upto, a, dict)?;
            d.closed = Some(Closed::new(rows));
        }
        let c = Arc::new(d.past(at, order));
        self.account(at, a, &cell, d, keep.then_some((pin, &c)));
        Ok(c)
    }

    fn pinned(&self, pin: &Pin, dict: &Arc<Dict>) -> Option<Arc<Column>> {
        let mut map = self.cache.map.lock();
        map.clock += 1;
        let clock = map.clock;
        map.pins.get(pin, dict, clock)
    }

    /// The slot of an attribute, made when there is none. A new slot's pending
    /// changes begin with what is staged already.
    fn slot(&self, a: AttrId) -> Shared {
        if let Some(s) = self.cache.map.lock().slots.get(&a) {
            return s.data.clone();
        }
        let w = self.writer.lock();
        let mut map = self.cache.map.lock();
        let slot = map.slots.entry(a).or_insert_with(|| Slot {
            pending: w.staged_of(a),
            data: Arc::default(),
            intervals: false,
            bytes: 0,
            used: 0,
            changed: T(0),
        });
        slot.data.clone()
    }

    /// Loads a slot, or merges what was published since its last use.
    fn refresh(&self, a: AttrId, cell: &Shared, data: &mut Option<Data>, dict: &Arc<Dict>) -> Res<()> {
        // Read before the pending changes are taken: all up to it are among them.
        let basis = self.basis();
        if data.as_ref().is_none_or(|d| !Arc::ptr_eq(&d.dict, dict)) {
            let column = self.build(&At::now(basis), a, Order::Eav, dict)?;
            *data = Some(Data {
                dict: dict.clone(),
                upto: basis,
                changed: basis,
                eav: Arc::new(column),
                ave: None,
                closed: None,
            });
        }
        let d = data.as_mut().expect("loaded above");
        let pending = {
            let mut map = self.cache.map.lock();
            let ours = |s: &&mut Slot| Arc::ptr_eq(&s.data, cell);
            let Some(slot) = map.slots.get_mut(&a).filter(ours) else {
                // Evicted meanwhile: what the slot would have told is lost.
                drop(map);
                let column = self.build(&At::now(basis), a, Order::Eav, dict)?;
                (d.upto, d.changed, d.eav, d.ave, d.closed) = (basis, basis, Arc::new(column), None, None);
                return Ok(());
            };
            let n = slot.pending.partition_point(|(t, _)| *t <= basis);
            slot.pending.drain(..n).collect::<Vec<_>>()
        };
        d.merge(pending, basis.max(d.upto));
        Ok(())
    }

    /// Notes the size of what was used, and keeps a column of the past.
    fn account(&self, at: &At, a: AttrId, cell: &Shared, d: &Data, pin: Option<(Pin, &Arc<Column>)>) {
        let mut map = self.cache.map.lock();
        map.clock += 1;
        let used = map.clock;
        if let Some(slot) = map.slots.get_mut(&a).filter(|s| Arc::ptr_eq(&s.data, cell)) {
            (slot.bytes, slot.used, slot.changed) = (d.bytes().max(1), used, d.changed);
            slot.intervals = d.has_intervals();
        }
        // Asked again under the lock: a late fact staged meanwhile will change the past,
        // and `Cache::stage` has dropped, or is about to drop, the pins it knows.
        if let Some((pin, column)) = pin
            && self.cacheable(at, a)
        {
            map.pins.put(pin, &d.dict, column, used, self.cache.limit);
        }
        self.cache.shrink(&mut map);
    }

    /// A column straight from the layers.
    fn build(&self, at: &At, a: AttrId, order: Order, dict: &Arc<Dict>) -> Res<Column> {
        let plan = plan_by_value(a);
        let sort = plan.sort;
        let mut rows: Vec<Triple> = Vec::new();
        let mut ops: Vec<(Triple, bool)> = Vec::new();
        let mut cells = Cells::new(dict);
        self.chunks(at, plan, false, &mut |chunk| {
            let key = |e, v, t| match order {
                Order::Eav => [e, v, t],
                Order::Ave => [v, e, t],
            };
            if at.view.history {
                for (i, t, added) in chunk.datoms(at, sort) {
                    let r = &chunk.rows[i as usize];
                    ops.push((key(r.e, cells.of(chunk.value(r))?, t.0), added));
                }
            } else {
                for r in &chunk.rows {
                    rows.push(key(r.e, cells.of(chunk.value(r))?, r.start.0));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if at.view.history {
            ops.sort_unstable();
            rows.extend(ops.iter().map(|o| o.0));
        } else if !rows.is_sorted() {
            rows.sort_unstable();
        }
        let mut c = from_triples(order, &rows);
        c.added = at.view.history.then(|| ops.iter().map(|o| o.1).collect());
        Ok(c)
    }

    fn load_closed(&self, upto: T, a: AttrId, dict: &Arc<Dict>) -> Res<Vec<[u64; 4]>> {
        let at = At { basis: upto, view: View { history: true, ..View::NOW } };
        let mut out = Vec::new();
        let mut cells = Cells::new(dict);
        self.chunks(&at, plan_by_value(a), false, &mut |chunk: &Rows| {
            for r in chunk.rows.iter().filter(|r| r.end != T::MAX) {
                out.push([r.e, cells.of(chunk.value(r))?, r.start.0, r.end.0]);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(out)
    }
}
