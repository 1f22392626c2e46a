//! One attribute in the cache: what holds, what has held, and how both are brought up to date and looked back on.
//!
//! 1. Rows stand in the order of their sort keys: entity, cell, t; or cell, entity, t.
//! 2. A column that somebody holds is never changed: what changes is a copy.
//!
//! Not here: which attributes are kept, and when (`columns`).

use crate::types::At;
use annals_model::{Column, Datom, Dict, Order, T};
use std::sync::Arc;

/// A row by its sort key: entity, cell, t; or cell, entity, t.
pub(super) type Triple = [u64; 3];

const BLOCK: usize = 1024;

/// One attribute as of `upto`.
pub(super) struct Data {
    pub dict: Arc<Dict>,
    pub upto: T,
    /// Newest record that changed it; from there on, every view of a later t shows the same.
    pub changed: T,
    pub eav: Arc<Column>,
    pub ave: Option<Arc<Column>>,
    pub closed: Option<Closed>,
}

/// Intervals that have ended: entity, cell, start, end.
pub(super) struct Closed {
    /// By entity, cell, start.
    rows: Vec<[u64; 4]>,
    /// Newest end in each block of [`BLOCK`] rows.
    newest: Vec<u64>,
    /// Closed since, in no order.
    recent: Vec<[u64; 4]>,
}

impl Closed {
    pub fn new(mut rows: Vec<[u64; 4]>) -> Closed {
        rows.sort_unstable();
        let newest = rows.chunks(BLOCK).map(|b| b.iter().map(|r| r[3]).max().unwrap_or(0)).collect();
        Closed { rows, newest, recent: Vec::new() }
    }

    /// How many stand in no order.
    pub fn unsorted(&self) -> usize {
        self.recent.len()
    }

    /// Puts all in order.
    pub fn sort(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.append(&mut self.recent);
        *self = Closed::new(rows);
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
    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let closed = self.closed.as_ref().map_or(0, |c| (c.rows.len() + c.recent.len()) * 32);
        self.eav.bytes() + self.ave.as_ref().map_or(0, |c| c.bytes()) + closed
    }

    /// Calls with the cell and t of each fact of an entity that held at `upto`, in no order. False, and nothing
    /// called, if the entity has more than `most` intervals that ended.
    pub fn then(&self, e: u64, upto: u64, most: usize, each: &mut dyn FnMut(u64, u64)) -> bool {
        let Some(closed) = &self.closed else { return false };
        let rows = &closed.rows[closed.rows.partition_point(|r| r[0] < e)..];
        if rows.get(most).is_some_and(|r| r[0] == e) {
            return false;
        }
        let recent = closed.recent.iter().filter(|r| r[0] == e);
        for r in rows.iter().take_while(|r| r[0] == e).chain(recent) {
            if r[2] <= upto && upto < r[3] {
                each(r[1], r[2]);
            }
        }
        let c = &self.eav;
        let first = c.e.partition_point(|x| *x < e);
        for i in (first..c.len()).take_while(|i| c.e[*i] == e) {
            if c.t[i] <= upto {
                each(c.v[i], c.t[i]);
            }
        }
        true
    }

    /// What holds, in an order.
    pub fn current(&mut self, order: Order) -> &Arc<Column> {
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
    pub fn merge(&mut self, pending: Vec<(T, Datom)>, upto: T) {
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
                c.sort();
            }
        }
    }

    /// The column of a view that is not the present.
    pub fn past(&mut self, at: &At, order: Order) -> Column {
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
            // Two intervals of a fact may have an end in common: of late facts alone.
            rows.dedup();
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
        // Of a view that shows little, room for all of it must not be kept.
        for xs in [&mut out.e, &mut out.v, &mut out.t] {
            if xs.capacity() > xs.len() + xs.len() / 8 {
                xs.shrink_to_fit();
            }
        }
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

/// A column of rows in the order of its keys.
pub(super) fn from_triples(order: Order, rows: &[Triple]) -> Column {
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
pub(super) fn gallop(from: usize, n: usize, below: impl Fn(usize) -> bool) -> usize {
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
