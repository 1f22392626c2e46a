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
//! 5. A read that says so (`keep` is false) leaves no column of the past behind: who walks over many
//!    times, each once, would push out what others come back to.
//!
//! Locks: a slot's data, then the writer, then the map. Staging takes only the map.

use crate::error::{Res, StorageError};
use crate::rows::Rows;
use crate::scan::{plan, plan_by_value};
use crate::store::Core;
use crate::types::{At, Prefix, ProbeOut};
use annals_model::{AttrId, Column, Datom, Dict, EntityId, Order, T, View, codec};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::{ops::ControlFlow, sync::Arc};

/// A row by its sort key: entity, cell, t; or cell, entity, t.
type Triple = [u64; 3];

/// Keys of a probe for which seeks beat bringing a stale column up to date.
const FEW_KEYS: usize = 64;
/// A probe reads the whole column when it asks for more than one row in this many.
const SCAN_RATIO: u64 = 16;
const BLOCK: usize = 1024;
const MAX_PENDING: usize = 16_384;

/// Cached columns of a store.
pub(crate) struct Cache {
    limit: usize,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    slots: HashMap<AttrId, Slot>,
    pins: HashMap<Pin, Pinned>,
    /// What probes of the present have cost since an attribute last changed, or was last loaded for
    /// them, in rows of a scan: [`SCAN_RATIO`] a key, 1 a row found.
    asked: HashMap<AttrId, u64>,
    clock: u64,
}

struct Slot {
    /// Changes in records not yet merged, in order.
    pending: Vec<(T, Datom)>,
    data: Arc<Mutex<Option<Data>>>,
    bytes: usize,
    used: u64,
}

/// A column of the past, by all that decides what is in it.
type Pin = (AttrId, Order, T, View);

struct Pinned {
    dict: Arc<Dict>,
    column: Arc<Column>,
    used: u64,
}

/// One attribute as of `upto`.
struct Data {
    dict: Arc<Dict>,
    upto: T,
    /// Newest record that changed it; from there on, every view of a later t shows the same.
    changed: T,
    eav: Arc<Column>,
    ave: Option<Arc<Column>>,
    closed: Option<Closed>,
}

/// Intervals that have ended: entity, cell, start, end.
struct Closed {
    /// By entity, cell, start.
    rows: Vec<[u64; 4]>,
    /// Newest end in each block of [`BLOCK`] rows.
    newest: Vec<u64>,
    /// Closed since, in no order.
    recent: Vec<[u64; 4]>,
}

impl Closed {
    fn new(mut rows: Vec<[u64; 4]>) -> Closed {
        rows.sort_unstable();
        let newest = rows.chunks(BLOCK).map(|b| b.iter().map(|r| r[3]).max().unwrap_or(0)).collect();
        Closed { rows, newest, recent: Vec::new() }
    }

    /// The intervals that `hit`, which can only be so when they end after `after`.
    fn filter(&self, after: u64, mut hit: impl FnMut(&[u64; 4]) -> bool) -> Vec<[u64; 4]> {
        let mut out = Vec::new();
        for (block, newest) in self.rows.chunks(BLOCK).zip(&self.newest) {
            if *newest > after {
                out.extend(block.iter().filter(|r| hit(r)));
            }
        }
        out.extend(self.recent.iter().filter(|r| hit(r)));
        out
    }
}

impl Data {
    fn bytes(&self) -> usize {
        let closed = self.closed.as_ref().map_or(0, |c| (c.rows.len() + c.recent.len()) * 32);
        self.eav.bytes() + self.ave.as_ref().map_or(0, |c| c.bytes()) + closed
    }

    fn current(&mut self, order: Order) -> &Arc<Column> {
        match order {
            Order::Eav => &self.eav,
            Order::Ave => {
                let c = &self.eav;
                self.ave.get_or_insert_with(|| {
                    let mut rows: Vec<Triple> = (0..c.len()).map(|i| [c.v[i], c.e[i], c.t[i]]).collect();
                    rows.sort_unstable();
                    Arc::new(from_triples(Order::Ave, &rows))
                })
            }
        }
    }

    /// Brings the columns up to date with records up to `upto`.
    fn merge(&mut self, pending: Vec<(T, Datom)>, upto: T) {
        let (mut added, mut removed): (Vec<Triple>, Vec<Triple>) = (Vec::new(), Vec::new());
        let mut closed = Vec::new();
        for (t, d) in pending {
            if t <= self.upto {
                continue;
            }
            self.changed = self.changed.max(t);
            let (e, v) = (d.e.raw(), self.dict.encode(&d.v));
            if d.added {
                added.push([e, v, d.t.0]);
                continue;
            }
            let fits = |r: &Triple| r[0] == e && r[1] == v && r[2] <= d.t.0;
            let new = added.iter().enumerate().filter(|(_, r)| fits(r)).max_by_key(|(_, r)| r[2]);
            let new = new.map(|(i, r)| (i, r[2]));
            let c = &self.eav;
            let upper = partition(c.len(), |i| [c.e[i], c.v[i], c.t[i]] <= [e, v, d.t.0]);
            let old = (0..upper)
                .rev()
                .map(|i| [c.e[i], c.v[i], c.t[i]])
                .take_while(fits)
                .find(|r| !removed.contains(r));
            let start = match (new, old) {
                (Some((i, start)), old) if old.is_none_or(|o| o[2] < start) => {
                    added.swap_remove(i);
                    start
                }
                (_, Some(old)) => {
                    removed.push(old);
                    old[2]
                }
                // Staging refuses retractions of what does not hold.
                _ => continue,
            };
            closed.push([e, v, start, d.t.0]);
        }
        self.upto = upto;
        if added.is_empty() && removed.is_empty() && closed.is_empty() {
            return;
        }
        patch(&mut self.eav, &added, &removed);
        if let Some(ave) = &mut self.ave {
            let turn = |rows: &[Triple]| rows.iter().map(|r| [r[1], r[0], r[2]]).collect::<Vec<_>>();
            patch(ave, &turn(&added), &turn(&removed));
        }
        if let Some(c) = &mut self.closed {
            c.recent.append(&mut closed);
            if c.recent.len() > BLOCK.max(c.rows.len() / 16) {
                let mut rows = std::mem::take(&mut c.rows);
                rows.append(&mut c.recent);
                *c = Closed::new(rows);
            }
        }
    }

    /// The column of a view that is not the present.
    fn past(&mut self, at: &At, order: Order) -> Column {
        let view = at.view;
        let current = self.current(order).clone();
        let closed = self.closed.as_ref().expect("loaded before the past is asked for");
        let key = |e: u64, v: u64, t: u64| match order {
            Order::Eav => [e, v, t],
            Order::Ave => [v, e, t],
        };
        let upto = view.upto(at.basis);
        if view.history {
            let shows = |t: u64| view.shows(T(t), at.basis);
            let mut rows: Vec<(Triple, bool)> = Vec::new();
            for i in 0..current.len() {
                if shows(current.t[i]) {
                    rows.push((key(current.e[i], current.v[i], current.t[i]), true));
                }
            }
            for r in closed.rows.iter().chain(&closed.recent) {
                if shows(r[2]) {
                    rows.push((key(r[0], r[1], r[2]), true));
                }
                if shows(r[3]) {
                    rows.push((key(r[0], r[1], r[3]), false));
                }
            }
            rows.sort_unstable();
            let triples: Vec<Triple> = rows.iter().map(|r| r.0).collect();
            let mut c = from_triples(order, &triples);
            c.added = Some(rows.iter().map(|r| r.1).collect());
            return c;
        }
        let since = view.since.map_or(-1, |t| t.0 as i64);
        let hits = closed.filter(upto.0, |r| r[2] <= upto.0 && upto.0 < r[3] && r[2] as i64 > since);
        let mut hits: Vec<Triple> = hits.iter().map(|r| key(r[0], r[1], r[2])).collect();
        if !hits.is_sorted() {
            hits.sort_unstable();
        }
        // Current rows in runs between the hits; a run is copied as it is when all of it shows.
        let n = current.len() + hits.len();
        let mut out = Column {
            order,
            e: Vec::with_capacity(n),
            v: Vec::with_capacity(n),
            t: Vec::with_capacity(n),
            added: None,
        };
        let mut from = 0;
        let mut run = |out: &mut Column, to: usize| {
            for i in from..to {
                let t = current.t[i];
                if t <= upto.0 && t as i64 > since {
                    out.e.push(current.e[i]);
                    out.v.push(current.v[i]);
                    out.t.push(t);
                }
            }
            from = to;
        };
        let mut at_row = 0;
        for h in &hits {
            at_row = gallop(at_row, current.len(), |i| triple(&current, i) < *h);
            run(&mut out, at_row);
            push(&mut out, h);
        }
        run(&mut out, current.len());
        out
    }
}

fn triple(c: &Column, i: usize) -> Triple {
    match c.order {
        Order::Eav => [c.e[i], c.v[i], c.t[i]],
        Order::Ave => [c.v[i], c.e[i], c.t[i]],
    }
}

fn push(c: &mut Column, r: &Triple) {
    let (e, v) = match c.order {
        Order::Eav => (r[0], r[1]),
        Order::Ave => (r[1], r[0]),
    };
    c.e.push(e);
    c.v.push(v);
    c.t.push(r[2]);
}

fn from_triples(order: Order, rows: &[Triple]) -> Column {
    let pick = |i: usize| rows.iter().map(|r| r[i]).collect::<Vec<u64>>();
    let (first, second) = (pick(0), pick(1));
    let (e, v) = if order == Order::Eav { (first, second) } else { (second, first) };
    Column { order, e, v, t: pick(2), added: None }
}

/// The number of leading indexes below `n` for which `below` holds.
fn partition(n: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut lo, mut hi) = (0, n);
    while lo < hi {
        let mid = (lo + hi) / 2;
        if below(mid) { lo = mid + 1 } else { hi = mid }
    }
    lo
}

/// As [`partition`], for an answer expected near `from`.
fn gallop(from: usize, n: usize, below: impl Fn(usize) -> bool) -> usize {
    let mut step = 1;
    let mut lo = from;
    while lo + step <= n && below(lo + step - 1) {
        lo += step;
        step *= 2;
    }
    let hi = (lo + step).min(n);
    lo + partition(hi - lo, |i| below(lo + i))
}

/// Adds and removes rows (as sort keys); only what lies behind the first change moves.
fn patch(column: &mut Arc<Column>, added: &[Triple], removed: &[Triple]) {
    let mut added = added.to_vec();
    added.sort_unstable();
    let mut removed = removed.to_vec();
    removed.sort_unstable();
    let Some(first) = added.first().into_iter().chain(removed.first()).min().copied() else { return };
    let c = Arc::make_mut(column);
    let from = partition(c.len(), |i| triple(c, i) < first);
    let tail = Column {
        order: c.order,
        e: c.e.split_off(from),
        v: c.v.split_off(from),
        t: c.t.split_off(from),
        added: None,
    };
    for xs in [&mut c.e, &mut c.v, &mut c.t] {
        xs.reserve(tail.len() + added.len());
    }
    let (mut next, mut gone) = (0, 0);
    for i in 0..tail.len() {
        let r = triple(&tail, i);
        while added.get(next).is_some_and(|a| *a < r) {
            push(c, &added[next]);
            next += 1;
        }
        if removed.get(gone) == Some(&r) {
            gone += 1;
        } else {
            push(c, &r);
        }
    }
    for a in &added[next..] {
        push(c, a);
    }
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
                map.pins.retain(|pin, _| pin.0 != d.a);
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
        map.slots.values().map(|s| s.bytes).sum::<usize>()
            + map.pins.values().map(|p| p.column.bytes()).sum::<usize>()
    }

    /// Lets go of what was used longest ago until the rest fits.
    fn shrink(&self, map: &mut Map) {
        loop {
            let slots = map.slots.values().map(|s| s.bytes).sum::<usize>();
            let pins = map.pins.values().map(|p| p.column.bytes()).sum::<usize>();
            if slots + pins <= self.limit {
                return;
            }
            let slot = map.slots.iter().filter(|(_, s)| s.bytes > 0).min_by_key(|(_, s)| s.used);
            let pin = map.pins.iter().min_by_key(|(_, p)| p.used);
            match (slot.map(|(a, s)| (*a, s.used)), pin.map(|(k, p)| (*k, p.used))) {
                (Some((_, s)), Some((k, p))) if p <= s => drop(map.pins.remove(&k)),
                (Some((a, _)), _) => drop(map.slots.remove(&a)),
                (None, Some((k, _))) => drop(map.pins.remove(&k)),
                (None, None) => return,
            }
        }
    }
}

impl Core {
    pub fn is_cached(&self, a: AttrId) -> bool {
        self.cache.map.lock().slots.get(&a).is_some_and(|s| s.bytes > 0)
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
        let upto = at.view.upto(at.basis);
        let view = View { as_of: Some(upto), ..at.view };
        let pin: Pin = (a, order, upto, view);
        if let Some(c) = self.pinned(&pin, dict) {
            return Ok(c);
        }
        let cell = self.slot(a);
        let mut data = cell.lock();
        self.refresh(a, &cell, &mut data, dict)?;
        let d = data.as_mut().expect("just refreshed");
        let present = !at.view.history && at.view.since.is_none() && upto >= d.changed;
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
        let p = map.pins.get_mut(pin).filter(|p| Arc::ptr_eq(&p.dict, dict))?;
        p.used = clock;
        Some(p.column.clone())
    }

    /// The slot of an attribute, made when there is none. A new slot's pending
    /// changes begin with what is staged already.
    fn slot(&self, a: AttrId) -> Arc<Mutex<Option<Data>>> {
        if let Some(s) = self.cache.map.lock().slots.get(&a) {
            return s.data.clone();
        }
        let w = self.writer.lock();
        let mut map = self.cache.map.lock();
        let slot = map.slots.entry(a).or_insert_with(|| Slot {
            pending: w.staged_of(a),
            data: Arc::default(),
            bytes: 0,
            used: 0,
        });
        slot.data.clone()
    }

    /// Loads a slot, or merges what was published since its last use.
    fn refresh(
        &self,
        a: AttrId,
        cell: &Arc<Mutex<Option<Data>>>,
        data: &mut Option<Data>,
        dict: &Arc<Dict>,
    ) -> Res<()> {
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
    fn account(
        &self,
        at: &At,
        a: AttrId,
        cell: &Arc<Mutex<Option<Data>>>,
        d: &Data,
        pin: Option<(Pin, &Arc<Column>)>,
    ) {
        let mut map = self.cache.map.lock();
        map.clock += 1;
        let used = map.clock;
        if let Some(slot) = map.slots.get_mut(&a).filter(|s| Arc::ptr_eq(&s.data, cell)) {
            (slot.bytes, slot.used) = (d.bytes().max(1), used);
        }
        // Asked again under the lock: a late fact staged meanwhile will change the past,
        // and `Cache::stage` has dropped, or is about to drop, the pins it knows.
        if let Some((pin, column)) = pin
            && self.cacheable(at, a)
        {
            map.pins.insert(pin, Pinned { dict: d.dict.clone(), column: column.clone(), used });
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

    #[expect(clippy::too_many_arguments, reason = "each is a part of one question")]
    pub fn probe(
        &self,
        at: &At,
        a: AttrId,
        order: Order,
        keys: &[u64],
        dict: &Arc<Dict>,
        keep: bool,
        out: &mut ProbeOut,
    ) -> Res<()> {
        if self.cacheable(at, a) && self.column_pays(at, a, keys.len()) {
            let c = self.column(at, a, order, dict, keep)?;
            gallop_keys(&c, keys, out);
            return Ok(());
        }
        let had = out.e.len();
        // A few keys a snapshot, so that no reader is held for long.
        let mut rows = Rows::default();
        let mut found = Vec::new();
        for (n, some) in keys.chunks(256).enumerate() {
            let layers = self.layers()?;
            let locked = layers.lock();
            for (i, key) in some.iter().enumerate() {
                let plan = plan(&match order {
                    Order::Eav => Prefix::Ea(EntityId::from_raw(*key), a),
                    Order::Ave => Prefix::Av(a, dict.decode(*key)),
                });
                locked.gather(at, &plan.want, plan.sort, &mut rows)?;
                found.clear();
                for (row, t, added) in rows.datoms(at, plan.sort) {
                    let r = &rows.rows[row as usize];
                    let v = match order {
                        Order::Ave => *key,
                        Order::Eav => {
                            dict.encode(&codec::decode(rows.value(r)).map_err(StorageError::index)?.0)
                        }
                    };
                    found.push((r.e, v, t.0, added));
                }
                found.sort_unstable();
                for (e, v, t, added) in &found {
                    out.push((n * 256 + i) as u32, *e, *v, *t, *added);
                }
            }
        }
        if self.is_present(at)
            && let Some(asked) = self.cache.map.lock().asked.get_mut(&a)
        {
            *asked += (out.e.len() - had) as u64;
        }
        Ok(())
    }

    /// Does the view show what holds now? Only such reads count towards loading a column: one of
    /// the past would be made anew for every t.
    fn is_present(&self, at: &At) -> bool {
        !at.view.history && at.view.since.is_none() && at.view.upto(at.basis) >= self.basis()
    }

    /// Is the whole column the cheaper way to answer a probe?
    fn column_pays(&self, at: &At, a: AttrId, keys: usize) -> bool {
        let rows = self.stats.read().attrs.get(&a).map_or(0, |r| r.current + r.closed);
        if keys as u64 * SCAN_RATIO > rows && rows > 0 {
            return true;
        }
        if !self.is_present(at) {
            return false;
        }
        let mut map = self.cache.map.lock();
        if map.slots.get(&a).is_some_and(|s| s.bytes > 0 && (s.pending.is_empty() || keys > FEW_KEYS)) {
            return true;
        }
        // Small probes add up: once they have cost what loading does, load (as one rents skis). Probes
        // between two changes of the attribute count only, so that writing never loads a column.
        let asked = map.asked.entry(a).or_default();
        *asked += keys as u64 * SCAN_RATIO;
        let pays = *asked > rows && rows > 0;
        if pays {
            *asked = 0;
        }
        pays
    }
}

/// Cells of values that come sorted: equal ones are decoded once.
struct Cells<'d> {
    dict: &'d Dict,
    last: Vec<u8>,
    cell: u64,
}

impl Cells<'_> {
    fn new(dict: &Dict) -> Cells<'_> {
        Cells { dict, last: Vec::new(), cell: 0 }
    }

    fn of(&mut self, bytes: &[u8]) -> Res<u64> {
        if self.last != bytes {
            self.last.clear();
            self.last.extend_from_slice(bytes);
            self.cell = self.dict.encode(&codec::decode(bytes).map_err(StorageError::index)?.0);
        }
        Ok(self.cell)
    }
}

fn gallop_keys(c: &Column, keys: &[u64], out: &mut ProbeOut) {
    let have = c.keys();
    let mut at = 0;
    for (i, key) in keys.iter().enumerate() {
        at = gallop(at, have.len(), |j| have[j] < *key);
        let mut j = at;
        while j < have.len() && have[j] == *key {
            out.push(i as u32, c.e[j], c.v[j], c.t[j], c.op(j));
            j += 1;
        }
        at = j;
    }
}
