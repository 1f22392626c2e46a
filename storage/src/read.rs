//! Reading: the rows of a key range from all layers, as one view of time shows them.
//!
//! 1. The layers of a read are one LMDB snapshot and the deltas over it, oldest
//!    first. Together they hold every record up to the newest, each exactly once.
//! 2. A read is done in chunks. Each chunk sees all layers at one moment; two
//!    chunks may see different moments, but a basis and a view always show the
//!    same facts, so the reader cannot tell.
//! 3. Chunks end between groups (an entity, or an attribute with a value), so
//!    what is sorted within a chunk is sorted over all.
//! 4. History is not touched unless the view can see it, and then from the
//!    first interval that ended late enough.
//!
//! Not here: what was asked (`scan`), columns.

use crate::error::{Damage, Res, StorageError};
use crate::key::{self, HASH, Key, Parts, Tree};
use crate::kv::{Db, Snapshot, Step};
use crate::novelty::{Below, Delta, Known, Open};
use crate::types::{At, Hints};
use annals_model::{AttrId, T, codec};
use parking_lot::{RwLock, RwLockReadGuard};
use smallvec::SmallVec;
use std::{cmp::Ordering, collections::BTreeMap, ops::Bound, sync::Arc};

/// A delta shared between the writer and readers.
pub(crate) type SharedDelta = Arc<RwLock<Delta>>;

/// Where facts are at one moment.
pub(crate) struct Layers {
    /// LMDB, unless the store is in memory.
    pub base: Option<Snapshot>,
    /// Last record in `base`.
    pub base_t: T,
    /// Newest record that closed an interval at an older t than its own.
    pub late_end: T,
    /// What the schema promises.
    pub hints: Arc<Hints>,
    /// Novelty, oldest first.
    pub deltas: SmallVec<[SharedDelta; 2]>,
}

/// A range of keys: `from <= key < to`.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub from: Key,
    pub to: Option<Key>,
}

impl Range {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Range {
        Range { from: Key::from_slice(prefix), to: key::after(prefix) }
    }
    fn bounds(&self) -> (Bound<&Key>, Bound<&Key>) {
        (Bound::Included(&self.from), self.to.as_ref().map_or(Bound::Unbounded, Bound::Excluded))
    }
    /// The rows of a tree in memory within the range. (Looks for its beginning only; finding the end as
    /// well would double the cost of a short range.)
    fn of<'t, V>(&'t self, tree: &'t BTreeMap<Key, V>) -> impl Iterator<Item = (&'t Key, &'t V)> {
        let found = (!tree.is_empty()).then(|| tree.range::<Key, _>(&self.from..));
        found.into_iter().flatten().take_while(|(k, _)| self.to.as_ref().is_none_or(|to| *k < to))
    }
    fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| *to <= self.from)
    }
}

/// What to read: matching ranges of a current tree and of its history tree.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    /// `Eav` or `Ave`.
    pub tree: Tree,
    pub current: Range,
    pub closed: Range,
    /// Is `closed` all that begins with one entity and attribute, or attribute and value?
    pub one: bool,
    /// Only this value (as in keys), where the history range cannot say so.
    pub value: Option<Vec<u8>>,
}

impl Want {
    fn history(&self) -> Tree {
        if self.tree == Tree::Eav { Tree::Heav } else { Tree::Have }
    }
    fn family(&self) -> usize {
        self.tree as usize
    }
}

/// The order rows come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Eavt,
    Aevt,
    Avet,
}

/// One interval. `v` is a range of [`Rows::arena`] holding the full encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub e: u64,
    pub a: u32,
    v: (u32, u32),
    pub start: T,
    pub end: T,
    known: Known,
    layer: u8,
    dead: bool,
}

/// Intervals of one chunk, values in one arena.
#[derive(Default)]
pub(crate) struct Rows {
    arena: Vec<u8>,
    pub rows: Vec<Row>,
    n_dead: usize,
}

impl Rows {
    /// The full encoding of a row's value.
    pub fn value(&self, r: &Row) -> &[u8] {
        &self.arena[r.v.0 as usize..(r.v.0 + r.v.1) as usize]
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.rows.clear();
        self.n_dead = 0;
    }

    fn compare(&self, sort: Sort, x: &Row, y: &Row) -> Ordering {
        let v = || self.value(x).cmp(self.value(y));
        match sort {
            Sort::Eavt => x.e.cmp(&y.e).then(x.a.cmp(&y.a)).then_with(v),
            Sort::Aevt => x.a.cmp(&y.a).then(x.e.cmp(&y.e)).then_with(v),
            Sort::Avet => x.a.cmp(&y.a).then_with(v).then(x.e.cmp(&y.e)),
        }
        .then(x.start.cmp(&y.start))
    }

    /// Sorts, lets masks cancel what they mask, and keeps what the view shows
    /// with ends as the basis knows them.
    fn settle(&mut self, at: &At, sort: Sort) {
        let mut rows = std::mem::take(&mut self.rows);
        let by =
            |x: &Row, y: &Row| self.compare(sort, x, y).then(x.layer.cmp(&y.layer)).then(y.dead.cmp(&x.dead));
        if !rows.is_sorted_by(|x, y| by(x, y) != Ordering::Greater) {
            rows.sort_by(by);
        }
        if self.n_dead > 0 {
            let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
            for r in rows {
                if r.dead {
                    // Closed rows of the same start carry an end of their own and stay.
                    let same = |k: &Row| self.compare(sort, k, &r) == Ordering::Equal;
                    let mut i = kept.len();
                    while i > 0 && same(&kept[i - 1]) {
                        i -= 1;
                        if kept[i].end == T::MAX {
                            kept.remove(i);
                            break;
                        }
                    }
                } else {
                    kept.push(r);
                }
            }
            rows = kept;
        }
        let basis = at.basis;
        rows.retain_mut(|r| {
            if r.known.start > basis {
                return false;
            }
            if r.known.end > basis {
                r.end = T::MAX;
            }
            match at.view.history {
                true => at.view.shows(r.start, basis) || (r.end != T::MAX && at.view.shows(r.end, basis)),
                false => at.view.holds(r.start, r.end, basis),
            }
        });
        self.rows = rows;
    }

    /// The datoms that a view shows of the settled rows, in order: row, t, op.
    pub fn datoms(&self, at: &At, sort: Sort) -> Vec<(u32, T, bool)> {
        let rows = &self.rows;
        if !at.view.history {
            return rows.iter().enumerate().map(|(i, r)| (i as u32, r.start, true)).collect();
        }
        let mut out = Vec::with_capacity(2 * rows.len());
        let mut first = 0;
        while first < rows.len() {
            // The intervals of one fact stand together; only their datoms may have to change places.
            let fact = Row { start: T(0), ..rows[first] };
            let more = rows[first + 1..].iter();
            let n = 1 + more
                .take_while(|r| self.compare(sort, &fact, &Row { start: T(0), ..**r }).is_eq())
                .count();
            let from = out.len();
            for (i, r) in rows.iter().enumerate().skip(first).take(n) {
                if at.view.shows(r.start, at.basis) {
                    out.push((i as u32, r.start, true));
                }
                if r.end != T::MAX && at.view.shows(r.end, at.basis) {
                    out.push((i as u32, r.end, false));
                }
            }
            let when = |x: &(u32, T, bool)| (x.1, x.2);
            if !out[from..].is_sorted_by_key(when) {
                out[from..].sort_by_key(when);
            }
            first += n;
        }
        out
    }
}

/// Bytes of an LMDB row that say which records made it known; empty when its own t do.
pub(crate) fn known_bytes(start: T, end: T, known: Known) -> SmallVec<[u8; 20]> {
    let mut out = Vec::new();
    if known.start != start || known.end != end {
        codec::put_uint(known.start.0, &mut out);
        if end != T::MAX {
            codec::put_uint(known.end.0, &mut out);
        }
    }
    SmallVec::from_vec(out)
}

pub(crate) fn read_known(start: T, end: T, bytes: &[u8]) -> Res<Known> {
    if bytes.is_empty() {
        return Ok(Known { start, end });
    }
    let (s, n) = codec::get_uint(bytes).map_err(StorageError::index)?;
    let e =
        if end == T::MAX { T::MAX } else { T(codec::get_uint(&bytes[n..]).map_err(StorageError::index)?.0) };
    Ok(Known { start: T(s), end: e })
}

impl Layers {
    /// Locks the deltas for one chunk.
    pub fn lock(&self) -> Locked<'_> {
        Locked { layers: self, deltas: self.deltas.iter().map(|d| d.read()).collect() }
    }
}

/// All layers at one moment.
pub(crate) struct Locked<'l> {
    layers: &'l Layers,
    deltas: SmallVec<[RwLockReadGuard<'l, Delta>; 2]>,
}

impl Locked<'_> {
    /// Fills `out` with what the view shows of the ranges, sorted.
    pub fn gather(&self, at: &At, want: &Want, sort: Sort, out: &mut Rows) -> Res<()> {
        out.clear();
        let upto = at.view.upto(at.basis);
        let family = want.family();
        if want.current.is_empty() {
            return Ok(());
        }
        if let Some(base) = &self.layers.base {
            let to = want.current.to.as_deref();
            base.walk(want.tree.into(), &want.current.from, to, false, &mut |k, known| {
                let p = key::parse(want.tree, k)?;
                if p.start <= upto {
                    let known = read_known(p.start, T::MAX, known)?;
                    self.push(out, p, known, 0, false)?;
                }
                Ok(Step::Next)
            })?;
        }
        for (i, d) in self.deltas.iter().enumerate() {
            let layer = i as u8 + 1;
            for (k, ()) in want.current.of(&d.dead[family]) {
                let p = key::parse(want.tree, k)?;
                if p.start <= upto {
                    self.push(out, p, Known { start: p.start, end: T::MAX }, layer, true)?;
                }
            }
            for (k, known) in want.current.of(&d.trees[family]) {
                let p = key::parse(want.tree, k)?;
                if p.start <= upto {
                    self.push(out, p, *known, layer, false)?;
                }
            }
        }
        if !self.found_alone(at, want, out) {
            self.gather_closed(at, want, out)?;
        }
        out.settle(at, sort);
        Ok(())
    }

    /// Is the fact that holds now the one that held then, and can no other have?
    fn found_alone(&self, at: &At, want: &Want, out: &Rows) -> bool {
        let plain = !at.view.history && self.layers.late_end == T(0) && out.n_dead == 0;
        let alone = |r: &Row| self.layers.hints.single.contains(&AttrId::new(r.a));
        plain && want.one && want.tree == Tree::Eav && out.rows.len() == 1 && alone(&out.rows[0])
    }

    fn gather_closed(&self, at: &At, want: &Want, out: &mut Rows) -> Res<()> {
        let upto = at.view.upto(at.basis);
        let tree = want.history();
        // Intervals that ended by `upto` cannot show, unless their end is news to the basis.
        let by_end = !at.view.history && at.basis >= self.layers.late_end;
        let mut from = want.closed.from.clone();
        if by_end && want.one {
            from = key::built(|out| {
                out.extend_from_slice(&from);
                codec::put_uint(upto.0 + 1, out);
            });
        }
        // Looks at a row, and says where to go from there.
        let mut passed = 0;
        let mut look = |out: &mut Rows, k: &[u8], known: &dyn Fn(T, T) -> Res<Known>, layer| -> Res<Step> {
            let p = key::parse(tree, k)?;
            let ended = by_end && p.end <= upto;
            if p.start <= upto && !ended && want.value.as_ref().is_none_or(|v| p.v == &v[..]) {
                self.push(out, p, known(p.start, p.end)?, layer, false)?;
            }
            passed = if ended { passed + 1 } else { 0 };
            if passed > 4 {
                passed = 0;
                return Ok(Step::Seek(first_ended_after(tree, k, upto)?));
            }
            // Facts of such an attribute follow one another: those that ended later began later.
            let alone = by_end && !ended && p.start < p.end && tree == Tree::Heav;
            if alone && self.layers.hints.single.contains(&p.a) && self.layers.late_end == T(0) {
                if want.one {
                    return Ok(Step::Stop);
                }
                let group = &k[..key::before_end(tree, k)?];
                return Ok(key::after(group).map_or(Step::Stop, Step::Seek));
            }
            Ok(Step::Next)
        };
        let to = want.closed.to.as_deref();
        if let Some(base) = &self.layers.base
            && !(by_end && upto >= self.layers.base_t)
        {
            base.walk(tree.into(), &from, to, false, &mut |k, known| {
                look(out, k, &|start, end| read_known(start, end, known), 0)
            })?;
        }
        for (i, d) in self.deltas.iter().enumerate() {
            if by_end && upto >= d.newest_end {
                continue;
            }
            let mut left = Range { from: from.clone(), to: want.closed.to.clone() };
            loop {
                let mut seek = None;
                for (k, known) in left.of(&d.trees[tree as usize]) {
                    match look(out, k, &|_, _| Ok(*known), i as u8 + 1)? {
                        Step::Next => continue,
                        Step::Stop => {}
                        Step::Seek(key) => seek = Some(key),
                    }
                    break;
                }
                match seek {
                    Some(key) => left.from = key,
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn push(&self, out: &mut Rows, p: Parts<'_>, known: Known, layer: u8, dead: bool) -> Res<()> {
        let from = out.arena.len();
        match key::cut_hash(p.v) {
            None => out.arena.extend_from_slice(p.v),
            Some(hash) => out.arena.extend_from_slice(&self.blob(&hash)?),
        }
        let Ok(len) = u32::try_from(out.arena.len()) else {
            return Err(StorageError::index(Damage::Layout("a chunk of values over 4 GiB")));
        };
        let v = (from as u32, len - from as u32);
        out.n_dead += usize::from(dead);
        out.rows.push(Row { e: p.e.raw(), a: p.a.raw(), v, start: p.start, end: p.end, known, layer, dead });
        Ok(())
    }

    fn blob(&self, hash: &[u8; HASH]) -> Res<Arc<[u8]>> {
        for d in &self.deltas {
            if let Some(full) = d.blob(hash) {
                return Ok(full);
            }
        }
        let stored = match &self.layers.base {
            Some(base) => base.get(Db::Blob, hash)?,
            None => None,
        };
        stored.map(Arc::from).ok_or(StorageError::index(Damage::MissingBlob))
    }

    /// Where a chunk of about `n` rows from the start of the ranges ends: the
    /// same group boundary for both trees, or none when the ranges are shorter.
    pub fn chunk_end(&self, want: &Want, closed: bool, n: usize) -> Res<Option<Key>> {
        let mut end: Option<Key> = None;
        let mut trees = vec![(want.tree, &want.current)];
        if closed {
            trees.push((want.history(), &want.closed));
        }
        for (tree, range) in trees {
            let mut stop = Stop { tree, n, seen: 0, group: Key::new() };
            if let Some(base) = &self.layers.base {
                base.walk(tree.into(), &range.from, range.to.as_deref(), false, &mut |k, _| {
                    Ok(if stop.here(k, &mut end)? { Step::Stop } else { Step::Next })
                })?;
            }
            for d in &self.deltas {
                let mut stop = Stop { tree, n, seen: 0, group: Key::new() };
                if !range.is_empty() {
                    for (k, _) in range.of(&d.trees[tree as usize]) {
                        if stop.here(k, &mut end)? {
                            break;
                        }
                    }
                }
            }
        }
        Ok(end)
    }

    /// The same from the end of the ranges backwards: where the last chunk begins.
    pub fn chunk_start(&self, want: &Want, closed: bool, n: usize) -> Res<Option<Key>> {
        let mut start: Option<Key> = None;
        let mut trees = vec![(want.tree, &want.current)];
        if closed {
            trees.push((want.history(), &want.closed));
        }
        for (tree, range) in trees {
            let mut seen = 0;
            let mut here = |k: &[u8]| -> Res<bool> {
                seen += 1;
                if seen >= n {
                    let group = Key::from_slice(&k[..key::group_len(tree, k)?]);
                    start = Some(start.take().map_or(group.clone(), |s| s.max(group)));
                }
                Ok(seen >= n)
            };
            if let Some(base) = &self.layers.base {
                base.walk(tree.into(), &range.from, range.to.as_deref(), true, &mut |k, _| {
                    Ok(if here(k)? { Step::Stop } else { Step::Next })
                })?;
            }
            for d in &self.deltas {
                let mut seen = 0;
                if !range.is_empty() {
                    for (k, _) in d.trees[tree as usize].range::<Key, _>(range.bounds()).rev() {
                        seen += 1;
                        if seen >= n {
                            let group = Key::from_slice(&k[..key::group_len(tree, k)?]);
                            start = Some(start.take().map_or(group.clone(), |s| s.max(group)));
                            break;
                        }
                    }
                }
            }
        }
        Ok(start)
    }

    /// The newest version of a side row that the basis knows.
    pub fn side_row(&self, basis: T, table: u8, k: &[u8]) -> Res<Option<Vec<u8>>> {
        let (lo, hi) = (key::row_prefix(table, k), key::of_row(table, k, basis));
        for d in self.deltas.iter().rev() {
            let bounds = (Bound::Included(&lo[..]), Bound::Included(&hi[..]));
            if let Some((_, value)) = d.rows.range::<[u8], _>(bounds).next_back() {
                return Ok(value.as_ref().map(|v| v.to_vec()));
            }
        }
        let Some(base) = &self.layers.base else { return Ok(None) };
        let mut to = hi;
        to.push(0);
        let mut found = None;
        base.walk(Db::Rows, &lo, Some(&to), true, &mut |_, value| {
            found = read_row(value)?.map(<[u8]>::to_vec);
            Ok(Step::Stop)
        })?;
        Ok(found)
    }

    /// Up to about `n` versions of side rows in a range of keys, newest version
    /// of each row last; and where the next chunk begins (or, backwards, ends).
    pub fn side_rows(&self, range: &Range, back: bool, n: usize) -> Res<(Versions, Option<Key>)> {
        let mut found: Versions = BTreeMap::new();
        let mut end: Option<Key> = None;
        let mut take = |seen: &mut usize, group: &mut Key, k: &[u8], v: Option<&[u8]>| -> Res<bool> {
            let prefix = &k[..key::parse_row(k)?.0];
            if *seen >= n && prefix != &group[..] {
                // Forward, the next chunk begins here; backward, it ends at the group just done.
                let edge = if back { group.clone() } else { Key::from_slice(prefix) };
                let old = end.take();
                end = Some(old.map_or(edge.clone(), |o| if back { o.max(edge) } else { o.min(edge) }));
                return Ok(true);
            }
            if prefix != &group[..] {
                *group = Key::from_slice(prefix);
            }
            *seen += 1;
            found.insert(Key::from_slice(k), v.map(Arc::from));
            Ok(false)
        };
        if let Some(base) = &self.layers.base {
            let (mut seen, mut group) = (0, Key::new());
            base.walk(Db::Rows, &range.from, range.to.as_deref(), back, &mut |k, v| {
                Ok(if take(&mut seen, &mut group, k, read_row(v)?)? { Step::Stop } else { Step::Next })
            })?;
        }
        for d in &self.deltas {
            if range.is_empty() {
                break;
            }
            let (mut seen, mut group) = (0, Key::new());
            let rows = d.rows.range::<Key, _>(range.bounds());
            let rows: Box<dyn Iterator<Item = _>> = if back { Box::new(rows.rev()) } else { Box::new(rows) };
            for (k, v) in rows {
                if take(&mut seen, &mut group, k, v.as_deref())? {
                    break;
                }
            }
        }
        // What lies past the nearest edge was only read by some layers.
        if let Some(edge) = &end {
            if back {
                found = found.split_off(edge);
            } else {
                found.split_off(edge);
            }
        }
        Ok((found, end))
    }
}

/// Versions of side rows by their full keys.
pub(crate) type Versions = BTreeMap<Key, Option<Arc<[u8]>>>;

/// Notices the first group that begins after `n` rows, and keeps the nearest such.
struct Stop {
    tree: Tree,
    n: usize,
    seen: usize,
    group: Key,
}

impl Stop {
    fn here(&mut self, k: &[u8], end: &mut Option<Key>) -> Res<bool> {
        self.seen += 1;
        if self.seen < self.n {
            return Ok(false);
        }
        let group = &k[..key::group_len(self.tree, k)?];
        if self.seen == self.n {
            self.group = Key::from_slice(group);
        } else if group != &self.group[..] {
            let group = Key::from_slice(group);
            *end = Some(end.take().map_or(group.clone(), |e| e.min(group)));
            return Ok(true);
        }
        Ok(end.as_ref().is_some_and(|e| **e <= *group))
    }
}

fn first_ended_after(tree: Tree, k: &[u8], upto: T) -> Res<Key> {
    let group = &k[..key::before_end(tree, k)?];
    Ok(key::built(|out| {
        out.extend_from_slice(group);
        codec::put_uint(upto.0 + 1, out);
    }))
}

/// The bytes of a stored side row: none for a deletion.
pub(crate) fn read_row(stored: &[u8]) -> Res<Option<&[u8]>> {
    match stored.split_first() {
        Some((0, [])) => Ok(None),
        Some((1, value)) => Ok(Some(value)),
        _ => Err(StorageError::index(Damage::Layout("a side row is neither bytes nor a deletion"))),
    }
}

/// The layers below the active delta, for the writer.
pub(crate) struct Lower<'l> {
    pub base: Option<&'l Snapshot>,
    pub frozen: Option<RwLockReadGuard<'l, Delta>>,
}

impl Below for Lower<'_> {
    fn open(&self, p: &Parts<'_>, dead: &BTreeMap<Key, ()>) -> Res<Option<Open>> {
        let lo = key::of(Tree::Eav, &Parts { start: T(0), ..*p });
        let hi = key::of(Tree::Eav, p);
        let mut best: Option<Open> = None;
        if let Some(f) = &self.frozen {
            for (k, known) in f.trees[Tree::Eav as usize].range(lo.clone()..=hi.clone()).rev() {
                if !dead.contains_key(k) {
                    best = Some(Open { start: key::parse(Tree::Eav, k)?.start, known: known.start });
                    break;
                }
            }
        }
        let Some(base) = self.base else { return Ok(best) };
        let mut to = hi;
        to.push(0);
        base.walk(Db::Eav, &lo, Some(&to), true, &mut |k, known| {
            let masked = |dead: &BTreeMap<Key, ()>| !dead.is_empty() && dead.contains_key(k);
            if masked(dead) || self.frozen.as_ref().is_some_and(|f| masked(&f.dead[0])) {
                return Ok(Step::Next);
            }
            let start = key::parse(Tree::Eav, k)?.start;
            if best.is_none_or(|b| b.start < start) {
                best = Some(Open { start, known: read_known(start, T::MAX, known)?.start });
            }
            Ok(Step::Stop)
        })?;
        Ok(best)
    }
}
