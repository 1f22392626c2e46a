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
//! Not here: what was asked (`scan`), how rows become what a view shows (`rows`), side rows (`side`), columns.

use crate::error::{Damage, Res, StorageError};
use crate::key::{self, HASH, Key, Parts, Tree};
use crate::kv::{Db, Snapshot, Step};
use crate::novelty::{Current, Delta, Known};
use crate::rows::{Row, Rows, Sort, read_known};
use crate::types::{At, Hints};
use annals_model::{AttrId, EntityId, T, View, codec};
use parking_lot::{RwLock, RwLockReadGuard};
use smallvec::SmallVec;
use std::{ops::Bound, sync::Arc};

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
    pub fn bounds(&self) -> (Bound<&Key>, Bound<&Key>) {
        (Bound::Included(&self.from), self.to.as_ref().map_or(Bound::Unbounded, Bound::Excluded))
    }
    pub fn is_empty(&self) -> bool {
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
}

impl Layers {
    /// Locks the deltas for one chunk.
    pub fn lock(&self) -> Locked<'_> {
        let deltas: SmallVec<[RwLockReadGuard<'_, Delta>; 2]> =
            self.deltas.iter().map(|d| d.read()).collect();
        let late_end = deltas.iter().fold(self.late_end, |late, d| late.max(d.late_end));
        Locked { layers: self, deltas, late_end }
    }
}

/// All layers at one moment.
pub(crate) struct Locked<'l> {
    pub layers: &'l Layers,
    pub deltas: SmallVec<[RwLockReadGuard<'l, Delta>; 2]>,
    /// The newest record among them that ended facts before its own t: to a basis before it, that is not known.
    late_end: T,
}

impl Locked<'_> {
    /// Fills `out` with what the view shows of the ranges, sorted.
    pub fn gather(&self, at: &At, want: &Want, sort: Sort, out: &mut Rows) -> Res<()> {
        out.clear();
        let upto = at.view.upto(at.basis);
        if want.current.is_empty() {
            return Ok(());
        }
        // One attribute of one entity is found without an order.
        let pair = match want.one && want.tree == Tree::Eav {
            true => Some(key::entity_and_attr(&want.current.from)?),
            false => None,
        };
        if let Some(pair) = pair
            && at.view == View::NOW
            && self.gather_newest(pair, upto, want, out)?
        {
            out.settle(at, sort);
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
            let mut say = |k: &[u8], is: Current| -> Res<()> {
                let p = key::parse(want.tree, k)?;
                if p.start > upto {
                    return Ok(());
                }
                if is.masks() {
                    self.push(out, p, Known { start: p.start, end: T::MAX }, layer, true)?;
                }
                match is.opened() {
                    Some(start) => self.push(out, p, Known { start, end: T::MAX }, layer, false),
                    None => Ok(()),
                }
            };
            match pair {
                Some((e, a)) => d.current_of(e, a, &want.current, &mut say)?,
                None => d.current(want.tree, &want.current).try_for_each(|(k, is)| say(k, is))?,
            }
        }
        if !self.found_alone(at, want, out) {
            self.gather_closed(at, want, out)?;
        }
        out.settle(at, sort);
        Ok(())
    }

    /// Puts the fact that a single attribute of an entity holds now into `out`, if novelty knows it: no
    /// other can hold beside it, so that the layers below need not be looked at. Says whether it did.
    fn gather_newest(&self, (e, a): (EntityId, AttrId), upto: T, want: &Want, out: &mut Rows) -> Res<bool> {
        if !self.layers.hints.single.contains(&a) {
            return Ok(false);
        }
        for (i, d) in self.deltas.iter().enumerate().rev() {
            let (mut found, mut masks) = (false, false);
            d.current_of(e, a, &want.current, &mut |k, is| {
                masks |= is.masks();
                let p = key::parse(Tree::Eav, k)?;
                match is.opened() {
                    // What is newer than the basis, `settle` would take out again.
                    Some(start) if !found && p.start <= upto && start <= upto => {
                        found = true;
                        self.push(out, p, Known { start, end: T::MAX }, i as u8 + 1, false)
                    }
                    _ => Ok(()),
                }
            })?;
            if found || masks {
                return Ok(found);
            }
        }
        Ok(false)
    }

    /// Is the fact that holds now the one that held then, and can no other have?
    fn found_alone(&self, at: &At, want: &Want, out: &Rows) -> bool {
        let plain = !at.view.history && self.late_end == T(0) && !out.is_masked();
        let alone = |r: &Row| self.layers.hints.single.contains(&AttrId::new(r.a));
        plain && want.one && want.tree == Tree::Eav && out.rows.len() == 1 && alone(&out.rows[0])
    }

    fn gather_closed(&self, at: &At, want: &Want, out: &mut Rows) -> Res<()> {
        let upto = at.view.upto(at.basis);
        let tree = want.history();
        // Intervals that ended by `upto` cannot show, unless their end is news to the basis.
        let by_end = !at.view.history && at.basis >= self.late_end;
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
            if alone && self.layers.hints.single.contains(&p.a) && self.late_end == T(0) {
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
                for (k, known) in d.closed(tree, &left) {
                    match look(out, k, &|_, _| Ok(known), i as u8 + 1)? {
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
        match key::cut_hash(p.v) {
            None => out.push(&p, p.v, known, layer, dead),
            Some(hash) => out.push(&p, &self.blob(&hash)?, known, layer, dead),
        }
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
                    for k in d.keys(tree, range, false) {
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
                    for k in d.keys(tree, range, true) {
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
}

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
