//! Reading attributes: whole columns, or the rows of a few keys, whichever is less work.
//!
//! 1. A column is fetched from its source at most once a run.
//! 2. Keys are sorted before they reach a source.

use super::Run;
use super::rel::Hasher;
use crate::error::QueryError;
use crate::mem::entity_cell;
use crate::resolve::ir::Slot;
use crate::source::{Probe, Source};
use annals_model::{AttrId, Cell, Column, Order, T, cell};
use hashbrown::HashMap;
use std::sync::Arc;

/// Rows a probe must save against a scan to be worth it.
const PROBE_FACTOR: u64 = 12;

/// Rows of one attribute, sorted by their keys.
pub(crate) enum Slab {
    Whole(Arc<Column>),
    Some(Probe, Order),
}

impl Slab {
    pub(crate) fn len(&self) -> usize {
        self.e().len()
    }
    pub(crate) fn e(&self) -> &[u64] {
        match self {
            Slab::Whole(c) => &c.e,
            Slab::Some(p, _) => &p.e,
        }
    }
    pub(crate) fn v(&self) -> &[Cell] {
        match self {
            Slab::Whole(c) => &c.v,
            Slab::Some(p, _) => &p.v,
        }
    }
    pub(crate) fn t(&self) -> &[u64] {
        match self {
            Slab::Whole(c) => &c.t,
            Slab::Some(p, _) => &p.t,
        }
    }
    pub(crate) fn op(&self, i: usize) -> bool {
        match self {
            Slab::Whole(c) => c.op(i),
            Slab::Some(p, _) => p.added[i],
        }
    }
    /// What stands in a place (entity, value, tx, op) of row `i`.
    #[inline]
    pub(crate) fn cell(&self, place: usize, i: usize) -> Cell {
        match place {
            0 => entity_cell(self.e()[i]),
            1 => self.v()[i],
            2 => entity_cell(T(self.t()[i]).entity().raw()),
            _ => cell::of_bool(self.op(i)),
        }
    }
    /// The sorted array that rows are found by.
    pub(crate) fn keys(&self) -> &[u64] {
        match self {
            Slab::Whole(c) => c.keys(),
            Slab::Some(p, Order::Eav) => &p.e,
            Slab::Some(p, Order::Ave) => &p.v,
        }
    }
}

impl Run<'_> {
    /// The whole attribute.
    pub(crate) fn column(&self, slot: Slot, a: AttrId, order: Order) -> Result<Arc<Column>, QueryError> {
        if let Some(c) = self.columns.borrow().get(&(slot, a, order)) {
            return Ok(c.clone());
        }
        self.budget.check()?;
        let c = self.db(slot).column(a, order, &self.dict)?;
        self.budget.read(c.len());
        self.columns.borrow_mut().insert((slot, a, order), c.clone());
        Ok(c)
    }

    /// Is it less work to read a few keys of the attribute than all of it?
    pub(crate) fn probes(&self, slot: Slot, a: AttrId, order: Order, n_keys: usize) -> bool {
        if self.columns.borrow().contains_key(&(slot, a, order)) {
            return false;
        }
        let stats = self.db(slot).stats(a);
        !stats.cached && (n_keys as u64).saturating_mul(PROBE_FACTOR) < stats.rows
    }

    /// Rows of the attribute whose key is among `keys` (and perhaps others).
    /// `keys` need not be sorted or distinct.
    pub(crate) fn slab(
        &self,
        slot: Slot,
        a: AttrId,
        order: Order,
        keys: &[u64],
        sorted: bool,
    ) -> Result<Slab, QueryError> {
        if self.probes(slot, a, order, keys.len()) {
            return self.probe(slot, a, order, keys, sorted);
        }
        self.column(slot, a, order).map(Slab::Whole)
    }

    pub(crate) fn probe(
        &self,
        slot: Slot,
        a: AttrId,
        order: Order,
        keys: &[u64],
        sorted: bool,
    ) -> Result<Slab, QueryError> {
        self.budget.check()?;
        let mut distinct = keys.to_vec();
        if !sorted {
            distinct.sort_unstable();
        }
        distinct.dedup();
        let mut out = Probe::default();
        self.db(slot).probe(a, order, &distinct, &self.dict, &mut out)?;
        self.budget.read(out.e.len());
        self.budget.spend(out.e.len(), out.e.len() * 29)?;
        Ok(Slab::Some(out, order))
    }

    /// The attribute by entity, if reading it costs nothing.
    pub(crate) fn values_at_hand(&self, slot: Slot, a: AttrId) -> Result<Option<Arc<Column>>, QueryError> {
        if !self.db(slot).stats(a).cached && !self.columns.borrow().contains_key(&(slot, a, Order::Eav)) {
            return Ok(None);
        }
        self.column(slot, a, Order::Eav).map(Some)
    }

    /// Exact number of rows with one value, if finding out costs next to nothing.
    pub(crate) fn count_value(&self, slot: Slot, a: AttrId, v: Cell) -> Result<Option<u64>, QueryError> {
        if !self.db(slot).stats(a).cached {
            return Ok(None);
        }
        let c = self.column(slot, a, Order::Ave)?;
        let from = c.v.partition_point(|x| *x < v);
        Ok(Some(gallop_end(&c.v, from, v) as u64 - from as u64))
    }
}

/// First index at or after `from` whose key is greater than `key`.
pub(crate) fn gallop_end(keys: &[u64], from: usize, key: u64) -> usize {
    if keys.get(from).is_none_or(|k| *k > key) {
        return from;
    }
    let mut step = 1;
    while from + step < keys.len() && keys[from + step] <= key {
        step *= 2;
    }
    let (lo, hi) = (from + step / 2, (from + step).min(keys.len()));
    lo + keys[lo..hi].partition_point(|k| *k <= key)
}

/// First index at or after `from` whose key is not less than `key`.
pub(crate) fn gallop_start(keys: &[u64], from: usize, key: u64) -> usize {
    if keys.get(from).is_none_or(|k| *k >= key) {
        return from;
    }
    let mut step = 1;
    while from + step < keys.len() && keys[from + step] < key {
        step *= 2;
    }
    let (lo, hi) = (from + step / 2, (from + step).min(keys.len()));
    lo + keys[lo..hi].partition_point(|k| *k < key)
}

/// First index whose key is not less than `key`, which the key at `from` is not either.
fn gallop_back(keys: &[u64], from: usize, key: u64) -> usize {
    let mut step = 1;
    while step <= from && keys[from - step] >= key {
        step *= 2;
    }
    let (lo, hi) = (from.saturating_sub(step), from - step / 2);
    lo + keys[lo..hi].partition_point(|k| *k < key)
}

/// Keys that are looked at to see whether all are evenly spaced.
const EVEN_SAMPLES: usize = 16;
/// How far, in rows, an estimate may be off.
const EVEN_WITHIN: usize = 16;

/// About where a key stands among evenly spaced ones.
#[inline]
fn estimate(key: u64, min: u64, scale: f64) -> usize {
    (key.saturating_sub(min) as f64 * scale) as usize
}

/// Do some of the keys stand about where they would if all were evenly spaced?
fn is_even(keys: &[u64], min: u64, scale: f64) -> bool {
    (0..EVEN_SAMPLES).all(|i| {
        let at = i * keys.len() / EVEN_SAMPLES;
        estimate(keys[at], min, scale).abs_diff(at) <= EVEN_WITHIN
    })
}

/// Finds where a key's rows are in a sorted array; built for the shape of the lookups to come.
/// Shared by threads: what a lookup learns for the next one is in a [`Hint`].
pub(crate) enum Locator<'a> {
    /// Every key from the first to the last stands once: a row is found by subtraction.
    Row(u64, usize),
    /// Keys come in ascending order: advance through the array.
    Gallop(&'a [u64]),
    /// Few lookups: binary search.
    Binary(&'a [u64]),
    /// Few lookups, keys about evenly spaced: interpolation search, from the least key and how many rows a unit of
    /// the key is (as entities of one kind, made one after another, are).
    Even(&'a [u64], u64, f64),
    /// Many lookups, keys close together: first row by key.
    Dense(u64, Vec<u32>),
    /// Many lookups, keys far apart.
    Hash(HashMap<u64, (u32, u32), Hasher>),
}

/// Where the last lookup of one thread ended.
#[derive(Default)]
pub(crate) struct Hint(usize);

impl<'a> Locator<'a> {
    pub(crate) fn new(keys: &'a [u64], lookups: usize, ascending: bool) -> Locator<'a> {
        let few = lookups.saturating_mul(8) < keys.len() || keys.len() > u32::MAX as usize;
        match (keys.first(), keys.last()) {
            // Looking at every key is worth it when many are asked for.
            (Some(&min), Some(&max))
                if !few && max - min == keys.len() as u64 - 1 && keys.windows(2).all(|w| w[0] < w[1]) =>
            {
                return Locator::Row(min, keys.len());
            }
            (Some(&min), Some(&max)) if few && lookups > EVEN_SAMPLES && max > min => {
                let scale = (keys.len() - 1) as f64 / (max - min) as f64;
                if is_even(keys, min, scale) {
                    return Locator::Even(keys, min, scale);
                }
            }
            _ => {}
        }
        match (ascending, few) {
            (true, _) => return Locator::Gallop(keys),
            (_, true) => return Locator::Binary(keys),
            _ => {}
        }
        let (Some(&min), Some(&max)) = (keys.first(), keys.last()) else { return Locator::Binary(keys) };
        let span = max - min;
        if span <= 4 * keys.len() as u64 + 1024 {
            // The keys are sorted: of the rows of a key the last one says where the next begin.
            let mut first = vec![0u32; span as usize + 2];
            for (row, k) in keys.iter().enumerate() {
                first[(k - min) as usize + 1] = row as u32 + 1;
            }
            let mut end = 0;
            for f in &mut first {
                end = end.max(*f);
                *f = end;
            }
            return Locator::Dense(min, first);
        }
        let mut map = HashMap::with_capacity_and_hasher(keys.len(), Hasher::default());
        let mut i = 0;
        while i < keys.len() {
            let end = gallop_end(keys, i, keys[i]);
            map.insert(keys[i], (i as u32, end as u32));
            i = end;
        }
        Locator::Hash(map)
    }

    /// The rows of `key`: `[start, end)`.
    #[inline]
    pub(crate) fn find(&self, key: u64, hint: &mut Hint) -> (usize, usize) {
        match self {
            Locator::Row(min, rows) => match key.wrapping_sub(*min) as usize {
                row if row < *rows => (row, row + 1),
                _ => (0, 0),
            },
            Locator::Gallop(keys) => {
                let start = gallop_start(keys, hint.0, key);
                hint.0 = start;
                (start, gallop_end(keys, start, key))
            }
            Locator::Binary(keys) => {
                let start = keys.partition_point(|k| *k < key);
                (start, gallop_end(keys, start, key))
            }
            Locator::Even(keys, min, scale) => {
                let near = estimate(key, *min, *scale).min(keys.len() - 1);
                let start = match keys[near] < key {
                    true => gallop_start(keys, near, key),
                    false => gallop_back(keys, near, key),
                };
                (start, gallop_end(keys, start, key))
            }
            Locator::Dense(min, first) => match key.checked_sub(*min) {
                Some(k) if (k as usize) < first.len() - 1 => {
                    (first[k as usize] as usize, first[k as usize + 1] as usize)
                }
                _ => (0, 0),
            },
            Locator::Hash(map) => map.get(&key).map_or((0, 0), |(a, b)| (*a as usize, *b as usize)),
        }
    }
}

/// The key of a cell in an entity place; one that no row has if it is no entity.
pub(crate) fn entity_key(c: Cell) -> u64 {
    cell::as_ref(c).map_or(u64::MAX, |e| e.raw())
}

/// The database's `Source` behind a slot.
pub(crate) type Db = Arc<dyn Source>;

/// An attribute in one order, as something to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sampled {
    pub(crate) slot: Slot,
    pub(crate) a: AttrId,
    pub(crate) order: Order,
}

impl Run<'_> {
    /// How many rows of the attribute a row of `rel` meets through `var`, on average:
    /// counted for a few rows when the column is in memory, else a guess.
    pub(crate) fn sample(&self, of: Sampled, rel: &super::rel::Rel, var: u32) -> Result<f64, QueryError> {
        const KEYS: usize = 32;
        if !self.in_memory((of.slot, of.a, of.order)) {
            return Ok(guessed(of.order, self.db(of.slot).stats(of.a).rows));
        }
        let Some(col) = rel.col(var) else { return Ok(1.0) };
        if rel.len == 0 {
            return Ok(0.0);
        }
        let column = self.column(of.slot, of.a, of.order)?;
        let keys = column.keys();
        // A plan knows sizes only: then any key is as good as another.
        let col: &[Cell] = if col.is_empty() { keys } else { col };
        let raw = std::ptr::eq(col, keys);
        if col.is_empty() {
            return Ok(0.0);
        }
        let take = col.len().min(KEYS);
        let mut hits = 0;
        for i in 0..take {
            let c = col[i * col.len() / take];
            let key = if of.order == Order::Eav && !raw { entity_key(c) } else { c };
            let from = keys.partition_point(|k| *k < key);
            hits += gallop_end(keys, from, key) - from;
        }
        Ok(hits as f64 / take as f64)
    }

    /// Does reading the whole column cost nothing?
    fn in_memory(&self, (slot, a, order): (Slot, AttrId, Order)) -> bool {
        self.db(slot).stats(a).cached || self.columns.borrow().contains_key(&(slot, a, order))
    }

    /// How many rows of one attribute a row of another meets on average, each by the key of
    /// its order: counted for some rows. A plan guesses where that would read a column.
    pub(crate) fn meets(
        &self,
        from: (Slot, AttrId, Order),
        to: (Slot, AttrId, Order),
    ) -> Result<f64, QueryError> {
        const ROWS: usize = 256;
        if self.counts_only.get() && !(self.in_memory(from) && self.in_memory(to)) {
            return Ok(guessed(to.2, self.db(to.0).stats(to.1).rows));
        }
        let (mine, theirs) = (self.column(from.0, from.1, from.2)?, self.column(to.0, to.1, to.2)?);
        let (mine, keys) = (mine.keys(), theirs.keys());
        let take = mine.len().min(ROWS);
        let mut hits = 0;
        for i in 0..take {
            let key = mine[i * mine.len() / take];
            let key = match (from.2, to.2) {
                (Order::Ave, Order::Eav) => entity_key(key),
                (Order::Eav, Order::Ave) => entity_cell(key),
                _ => key,
            };
            let at = keys.partition_point(|k| *k < key);
            hits += gallop_end(keys, at, key) - at;
        }
        Ok(if take == 0 { 0.0 } else { hits as f64 / take as f64 })
    }
}

/// Rows that a key is taken to have in a column of this size that was not read.
fn guessed(order: Order, rows: u64) -> f64 {
    match order {
        Order::Eav => 2.0,
        Order::Ave => (rows as f64 / 100.0).clamp(1.0, 16.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_locator_finds_the_rows_of_a_key() {
        let lists: [Vec<u64>; 7] = [
            // Evenly spaced where one looks, and not in between.
            (0..4000).map(|i| if (510..740).contains(&i) { 510 } else { i }).collect(),
            (5..500).collect(),
            // As many as between the first and the last, but one stands twice and one is missing.
            (5..500).map(|k| if k == 100 { 101 } else { k }).collect(),
            (0..300).map(|i| 7 + i / 3 * 2).collect(),
            (0..300).map(|i| i << 20).collect(),
            vec![9],
            vec![],
        ];
        let mut kinds = std::collections::BTreeSet::new();
        for keys in &lists {
            for (lookups, ascending) in
                [(1, false), (1, true), (30, false), (30, true), (1 << 20, false), (1 << 20, true)]
            {
                let locator = Locator::new(keys, lookups, ascending);
                kinds.insert(match locator {
                    Locator::Row(..) => "row",
                    Locator::Gallop(_) => "gallop",
                    Locator::Binary(_) => "binary",
                    Locator::Even(..) => "even",
                    Locator::Dense(..) => "dense",
                    Locator::Hash(_) => "hash",
                });
                let mut hint = Hint::default();
                for key in (0..700).chain([3 << 20, 299 << 20, u64::MAX]) {
                    let rows = keys.partition_point(|k| *k < key)..keys.partition_point(|k| *k <= key);
                    let (from, to) = locator.find(key, &mut hint);
                    assert!((from..to) == rows || (from == to && rows.is_empty()), "{key} of {keys:?}");
                }
            }
        }
        assert_eq!(kinds.len(), 6, "{kinds:?}");
    }
}
