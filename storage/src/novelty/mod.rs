//! Novelty: what the log has and LMDB has not, in memory, in the same keys.
//!
//! 1. A delta covers the records after its base, in order. Facts asserted in it
//!    and still open are in its current trees; intervals closed in it are in its
//!    history trees, whole.
//! 2. A fact that a lower layer (LMDB, or an older delta) holds as open and this
//!    delta has closed is in its current trees as a mask: it hides the lower row.
//! 3. Rows carry the *records* that made them known, so a read at an older basis,
//!    and every reader while a record is staged, sees right through newer ones.
//! 4. A delta changes only under its lock, one record at a time; after it is
//!    frozen for a checkpoint it never changes.
//! 5. What a record changes is put in order when somebody reads in order
//!    (`buffered`, `changes`). To apply a record takes none: what it must know of
//!    a fact is found by entity and attribute (`grouped`).
//! 6. A record says it once, by entity. The keys by value are made from those when
//!    somebody reads by value (`mirror`).

mod buffered;
mod changes;
mod grouped;
mod mirror;

use crate::error::{Res, StorageError};
use crate::key::{self, HASH, Key, Parts, Tree};
use crate::read::Range;
use crate::starts::Starts;
use crate::types::Record;
use annals_model::{AttrId, Datom, EntityId, T, Value, codec};
use buffered::Buffered;
use grouped::Grouped;
use hashbrown::{HashMap, HashSet};
use mirror::{Mirror, Mirrored};
use std::{collections::BTreeMap, hash::BuildHasher, num::NonZeroU64, sync::Arc};

/// Which records made an interval known: its start, and its end ([`T::MAX`] while open).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub start: T,
    pub end: T,
}

/// What a delta says of a fact with a start: whether it is open and which record opened it, and whether
/// a lower layer has it as open, and it is closed; or both, when it was opened anew under that start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current(NonZeroU64);

/// There is a row of a lower layer to hide.
const MASKS: u64 = 1;
/// The record that opened it follows.
const OPENED: u64 = 2;

impl Current {
    /// None where nothing needs to be said.
    fn of(masks: bool, opened: Option<T>) -> Option<Current> {
        let opened = opened.map_or(0, |t| OPENED | t.0 << 2);
        NonZeroU64::new(opened | if masks { MASKS } else { 0 }).map(Current)
    }
    /// The record that opened it here, if it is open.
    pub fn opened(self) -> Option<T> {
        (self.0.get() & OPENED != 0).then_some(T(self.0.get() >> 2))
    }
    /// Does it hide a row of a lower layer?
    pub fn masks(self) -> bool {
        self.0.get() & MASKS != 0
    }
}

impl Mirrored for Current {
    const TREE: Tree = Tree::Eav;
}

impl Mirrored for Known {
    const TREE: Tree = Tree::Heav;
}

/// The contents of a delta.
#[derive(Default)]
pub(crate) struct Delta {
    eav: Grouped<Current>,
    ave: Mirror<Current>,
    heav: Buffered<Known>,
    have: Mirror<Known>,
    /// Hashes of the keys that were put into `heav`: those that are not here were not.
    ended: HashSet<u64>,
    /// Versions of side rows.
    pub rows: BTreeMap<Key, Option<Arc<[u8]>>>,
    /// Full encodings of long values.
    pub blobs: HashMap<[u8; HASH], Arc<[u8]>>,
    /// By partition, the largest counter of an entity of which a fact was opened; not lowered by undoing.
    largest: [u64; 4],
    /// When the facts that were opened begin; not lowered by undoing.
    pub starts: Starts,
    /// Newest end of a closed interval.
    pub newest_end: T,
    /// Newest record that closed an interval at an older t than its own.
    pub late_end: T,
    /// Changes made, for the checkpoint's threshold.
    pub n_facts: usize,
    /// Room for a value.
    scratch: Vec<u8>,
}

/// An open fact found: its start, and the record that made it known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub start: T,
    pub known: T,
}

/// Open facts of layers below a delta.
pub(crate) trait Below {
    /// The open fact with this entity, attribute and value (as in keys) with the
    /// newest start up to `p.start`, leaving out those whose key is masked.
    fn open(&self, p: &Parts<'_>, masked: &dyn Fn(&[u8]) -> bool) -> Res<Option<Open>>;

    /// Do all facts of an attribute begin before `t`?
    fn precede(&self, a: AttrId, t: T) -> bool;
}

/// What one datom did to a delta, and with the datom enough to undo it.
#[derive(Clone, Copy)]
pub(crate) enum Undo {
    Opened,
    Closed {
        start: T,
        known: T,
        was_here: bool,
    },
    /// Its long value was new. Comes before what the datom did.
    Blob([u8; HASH]),
}

/// Datoms of a record that are many: nobody asks for most of the facts that they open.
const MANY: usize = 256;

/// The number of the group of keys of one attribute of one entity.
fn group(e: EntityId, a: AttrId) -> u64 {
    e.raw().rotate_left(20) ^ u64::from(a.raw())
}

impl Delta {
    /// An empty one, with room for about as much as another holds: for the one that follows it.
    pub fn after(other: &Delta) -> Delta {
        let heav = other.heav.with_room_of();
        Delta { eav: other.eav.with_room_of(), heav, ..Delta::default() }
    }

    /// Applies a record, and notes in `undo` what its datoms did. After an error, what is noted
    /// is to be undone; side rows are not touched then.
    pub fn apply_record(&mut self, r: &Record, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
        let many = r.datoms.len() >= MANY;
        for d in &r.datoms {
            self.apply(r.t, d, many, below, undo)?;
        }
        self.apply_rows(r);
        Ok(())
    }

    /// Applies one datom of record `t`, one of many or not.
    fn apply(&mut self, t: T, d: &Datom, many: bool, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
        let mut v = std::mem::take(&mut self.scratch);
        self.key_value_of(t, d, &mut v, undo)?;
        let p = Parts { e: d.e, a: d.a, v: &v, start: d.t, end: T::MAX };
        if d.t > t {
            return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) });
        }
        let newest = d.added && below.precede(d.a, d.t);
        if newest && self.starts.precede(d.a, d.t) {
            self.open_newest(t, d, p, many, undo);
        } else {
            self.eav.fasten();
            match d.added {
                true => self.open(t, d, p, newest, below, undo)?,
                false => self.close(t, d, p, below, undo)?,
            }
        }
        self.scratch = v;
        Ok(())
    }

    /// The value of a datom as it stands in keys, in place of what `full` holds; a long one is kept in full aside.
    fn key_value_of(&mut self, t: T, d: &Datom, full: &mut Vec<u8>, undo: &mut Vec<Undo>) -> Res<()> {
        full.clear();
        codec::encode(&d.v, full);
        let nested = matches!(
            d.v,
            Value::Vector(_)
                | Value::List(_)
                | Value::Set(_)
                | Value::Map(_)
                | Value::Tagged(_)
                | Value::BigDec(_)
        );
        if nested && codec::skip(full).is_err() {
            // Too deep, or a decimal with too many zeros: it could never be read again.
            return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) });
        }
        if full.len() > key::VALUE_MAX {
            let (v, cut) = key::value_in_key(std::mem::take(full));
            *full = v;
            if let Some((hash, whole)) = cut
                && !self.blobs.contains_key(&hash)
            {
                self.blobs.insert(hash, whole.into());
                undo.push(Undo::Blob(hash));
            }
        }
        Ok(())
    }

    /// Opens a fact that begins after all others of its attribute: it is nowhere yet.
    fn open_newest(&mut self, t: T, d: &Datom, p: Parts<'_>, many: bool, undo: &mut Vec<Undo>) {
        self.make_room();
        match Current::of(false, Some(t)) {
            Some(to) if many => {
                self.eav.push_new(group(p.e, p.a), |out| key::write(Tree::Eav, &p, out), to);
            }
            to => self.eav.push(group(p.e, p.a), &key::of(Tree::Eav, &p), to, None),
        }
        self.opened(d, undo);
    }

    /// Opens a fact. Does it begin after all others of its attribute below (`newest`)?
    fn open(
        &mut self,
        t: T,
        d: &Datom,
        p: Parts<'_>,
        newest: bool,
        below: &dyn Below,
        undo: &mut Vec<Undo>,
    ) -> Res<()> {
        let twice = || StorageError::BadDatom { t, datom: Box::new(d.clone()) };
        let group = group(p.e, p.a);
        let eav = key::of(Tree::Eav, &p);
        // Only a late fact can meet its own key in a lower layer.
        if d.t < t && !newest {
            let masked = |k: &[u8]| self.eav.get(group, k).is_some_and(Current::masks);
            if below.open(&p, &masked)?.is_some_and(|o| o.start == d.t) {
                return Err(twice());
            }
        }
        let is = self.eav.get(group, &eav);
        if is.and_then(Current::opened).is_some() {
            return Err(twice());
        }
        self.set(group, &eav, Current::of(is.is_some_and(Current::masks), Some(t)));
        self.opened(d, undo);
        Ok(())
    }

    /// Notes that a fact was opened.
    fn opened(&mut self, d: &Datom, undo: &mut Vec<Undo>) {
        if let Some(partition) = d.e.partition() {
            let largest = &mut self.largest[partition as usize];
            *largest = d.e.counter().max(*largest);
        }
        self.starts.saw(d.a, d.t);
        self.n_facts += 1;
        undo.push(Undo::Opened);
    }

    fn close(&mut self, t: T, d: &Datom, p: Parts<'_>, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
        let group = group(p.e, p.a);
        let masked = |k: &[u8]| self.eav.get(group, k).is_some_and(Current::masks);
        let here = self.newest_open(&p, &|_| false)?;
        let lower = match here {
            // A newer one cannot lie below.
            Some(o) if below.precede(d.a, o.start) => None,
            _ => below.open(&p, &masked)?,
        };
        let (open, was_here) = match (here, lower) {
            (Some(h), Some(l)) if l.start > h.start => (l, false),
            (Some(h), _) => (h, true),
            (None, Some(l)) => (l, false),
            (None, None) => return Err(StorageError::RetractsNothing { t, datom: Box::new(d.clone()) }),
        };
        let closed = Parts { start: open.start, end: d.t, ..p };
        let heav = key::of(Tree::Heav, &closed);
        let seen = !self.ended.insert(self.ended.hasher().hash_one(&heav[..]));
        if seen && self.heav.get(&heav).is_some() {
            // Asserted and retracted twice under the same pair of transactions.
            return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) });
        }
        let known = Known { start: open.known, end: t };
        self.set_closed(&heav, Some(known));
        let old = Parts { start: open.start, ..p };
        let eav = key::of(Tree::Eav, &old);
        let is = self.eav.get(group, &eav);
        let to = match was_here {
            true => Current::of(is.is_some_and(Current::masks), None),
            false => Current::of(true, is.and_then(Current::opened)),
        };
        self.set(group, &eav, to);
        self.newest_end = self.newest_end.max(d.t);
        if d.t < t {
            self.late_end = self.late_end.max(t);
        }
        self.n_facts += 1;
        undo.push(Undo::Closed { start: open.start, known: open.known, was_here });
        Ok(())
    }

    /// Says something of a fact in the current trees.
    fn set(&mut self, group: u64, eav: &[u8], to: Option<Current>) {
        self.make_room();
        match self.eav.find(group, eav) {
            Some(found) if self.ave.waits(found.number) => {
                self.eav.amend(group, found, to);
                self.ave.amend(found.number, to);
            }
            older => self.eav.push(group, eav, to, older),
        }
    }

    /// Before a change of the current trees.
    fn make_room(&mut self) {
        self.ave.make_room(self.eav.map());
        self.eav.make_room();
    }

    /// Says something of a closed interval.
    fn set_closed(&mut self, heav: &[u8], to: Option<Known>) {
        self.have.make_room(&self.heav);
        self.heav.set(|out| out.extend_from_slice(heav), to);
    }

    /// The open fact of this delta with the newest start up to `p.start`, leaving out those whose
    /// key is masked by a newer one.
    pub fn newest_open(&self, p: &Parts<'_>, masked: &dyn Fn(&[u8]) -> bool) -> Res<Option<Open>> {
        let mut to = key::of(Tree::Eav, p);
        to.push(0);
        let range = Range { from: key::of(Tree::Eav, &Parts { start: T(0), ..*p }), to: Some(to) };
        let mut newest: Option<Open> = None;
        self.eav.each(group(p.e, p.a), &range, &mut |k, is| {
            if let Some(known) = is.opened()
                && !masked(k)
            {
                let start = key::parse(Tree::Eav, k)?.start;
                if newest.is_none_or(|n| n.start < start) {
                    newest = Some(Open { start, known });
                }
            }
            Ok(())
        })?;
        Ok(newest)
    }

    /// Does this delta mask the row of a lower layer under a key of an entity's attribute?
    pub fn masks(&self, e: EntityId, a: AttrId, eav: &[u8]) -> bool {
        self.eav.get(group(e, a), eav).is_some_and(Current::masks)
    }

    /// Has this delta opened no fact of the entity, nor of any after it in its partition?
    pub fn nothing_from(&self, e: EntityId) -> bool {
        e.partition().is_some_and(|p| self.largest[p as usize] < e.counter())
    }

    /// What is said of the facts of an entity's attribute whose keys of [`Tree::Eav`] lie in a range;
    /// in any order.
    pub fn current_of(
        &self,
        e: EntityId,
        a: AttrId,
        range: &Range,
        visit: &mut dyn FnMut(&[u8], Current) -> Res<()>,
    ) -> Res<()> {
        self.eav.each(group(e, a), range, visit)
    }

    /// What is said in a range of a current tree, in order.
    pub fn current<'d>(&'d self, tree: Tree, range: &'d Range) -> buffered::Rows<'d, Current> {
        if tree == Tree::Eav { self.eav.range(range) } else { self.ave.range(self.eav.map(), range) }
    }

    /// The closed intervals in a range of a history tree, in order.
    pub fn closed<'d>(&'d self, tree: Tree, range: &'d Range) -> buffered::Rows<'d, Known> {
        if tree == Tree::Heav { self.heav.range(range) } else { self.have.range(&self.heav, range) }
    }

    /// The keys of a range, in order or backwards; those of masks too.
    pub fn keys<'d>(
        &'d self,
        tree: Tree,
        range: &'d Range,
        back: bool,
    ) -> Box<dyn Iterator<Item = &'d [u8]> + 'd> {
        fn keys<'d, V: Copy>(rows: buffered::Rows<'d, V>) -> Box<dyn Iterator<Item = &'d [u8]> + 'd> {
            Box::new(rows.map(|(k, _)| k))
        }
        match (tree, back) {
            (Tree::Eav, false) => keys(self.eav.range(range)),
            (Tree::Eav, true) => keys(self.eav.range_back(range)),
            (Tree::Ave, false) => keys(self.ave.range(self.eav.map(), range)),
            (Tree::Ave, true) => keys(self.ave.range_back(self.eav.map(), range)),
            (Tree::Heav, false) => keys(self.heav.range(range)),
            (Tree::Heav, true) => keys(self.heav.range_back(range)),
            (Tree::Have, false) => keys(self.have.range(&self.heav, range)),
            (Tree::Have, true) => keys(self.have.range_back(&self.heav, range)),
        }
    }

    /// What a current tree says, in order.
    pub fn all_current(&self, tree: Tree) -> buffered::Rows<'_, Current> {
        if tree == Tree::Eav { self.eav.iter() } else { self.ave.iter(self.eav.map()) }
    }

    /// The closed intervals of a history tree, in order.
    pub fn all_closed(&self, tree: Tree) -> buffered::Rows<'_, Known> {
        if tree == Tree::Heav { self.heav.iter() } else { self.have.iter(&self.heav) }
    }

    /// The rows that this delta adds to a tree, in order.
    pub fn added(&self, tree: Tree) -> Box<dyn Iterator<Item = (&[u8], Known)> + '_> {
        match tree {
            Tree::Eav | Tree::Ave => Box::new(
                self.all_current(tree)
                    .filter_map(|(k, is)| is.opened().map(|start| (k, Known { start, end: T::MAX }))),
            ),
            Tree::Heav | Tree::Have => Box::new(self.all_closed(tree)),
        }
    }

    /// Applies the side rows of a record.
    fn apply_rows(&mut self, r: &Record) {
        for row in &r.rows {
            self.rows.insert(key::of_row(row.table, &row.key, r.t), row.value.as_deref().map(Arc::from));
        }
        self.n_facts += r.rows.len();
    }

    /// Takes the side rows of a record out again.
    pub fn undo_rows(&mut self, r: &Record) {
        for row in &r.rows {
            self.rows.remove(&key::of_row(row.table, &row.key, r.t));
        }
        self.n_facts -= r.rows.len();
    }

    /// Takes back what the first datoms of a record did, as [`Delta::apply_record`] told.
    pub fn undo(&mut self, datoms: &[Datom], done: &[Undo]) {
        let n = done.iter().filter(|u| !matches!(u, Undo::Blob(_))).count();
        let mut datoms = datoms[..n].iter().rev();
        for u in done.iter().rev() {
            let (start, closed) = match u {
                Undo::Blob(hash) => {
                    self.blobs.remove(hash);
                    continue;
                }
                Undo::Opened => (None, None),
                Undo::Closed { start, known, was_here } => (Some(*start), Some((*known, *was_here))),
            };
            let d = datoms.next().expect("one for each that did something");
            let v = key_value(&d.v);
            let p = Parts { e: d.e, a: d.a, v: &v, start: start.unwrap_or(d.t), end: T::MAX };
            let (group, eav) = (group(d.e, d.a), key::of(Tree::Eav, &p));
            let is = self.eav.get(group, &eav);
            let (masks, opened) = (is.is_some_and(Current::masks), is.and_then(Current::opened));
            self.n_facts -= 1;
            let Some((known, was_here)) = closed else {
                self.set(group, &eav, Current::of(masks, None));
                continue;
            };
            self.set_closed(&key::of(Tree::Heav, &Parts { end: d.t, ..p }), None);
            let was = match was_here {
                true => Current::of(masks, Some(known)),
                false => Current::of(false, opened),
            };
            self.set(group, &eav, was);
        }
    }

    /// The full encoding behind a cut value, if this delta has it.
    pub fn blob(&self, hash: &[u8; HASH]) -> Option<Arc<[u8]>> {
        self.blobs.get(hash).cloned()
    }
}

/// A value's bytes as they stand in keys.
pub(crate) fn key_value(v: &Value) -> Vec<u8> {
    key::value_in_key(codec::encoded(v)).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Nothing;
    use annals_model::{AttrId, EntityId, Instant, Partition};

    fn datom(e: u64, v: u64, t: u64, added: bool) -> Datom {
        let v = if v.is_multiple_of(7) {
            Value::string("v".repeat(400 + v as usize))
        } else {
            Value::Long(v as i64)
        };
        let e = EntityId::new(Partition::User, e);
        Datom { e, a: AttrId::new(70 + v.value_type().map_or(0, |t| t as u32)), v, t: T(t), added }
    }

    fn record(t: u64, datoms: Vec<Datom>) -> Record {
        Record { t: T(t), instant: Instant(0), datoms, rows: vec![] }
    }

    /// Everything a delta says.
    fn told(d: &Delta) -> impl PartialEq + std::fmt::Debug + use<> {
        let mut blobs: Vec<_> = d.blobs.keys().copied().collect();
        blobs.sort_unstable();
        let current = |tree| d.all_current(tree).map(|(k, is)| (k.to_vec(), is)).collect::<Vec<_>>();
        let closed = |tree| d.all_closed(tree).map(|(k, known)| (k.to_vec(), known)).collect::<Vec<_>>();
        let current = [Tree::Eav, Tree::Ave].map(current);
        (current, [Tree::Heav, Tree::Have].map(closed), blobs, d.n_facts)
    }

    /// Layers below that hold some facts as open.
    struct Held(Vec<Datom>);

    impl Below for Held {
        fn open(&self, p: &Parts<'_>, masked: &dyn Fn(&[u8]) -> bool) -> Res<Option<Open>> {
            let same = |d: &&Datom| (d.e, d.a) == (p.e, p.a) && key_value(&d.v) == p.v && d.t <= p.start;
            let starts = self.0.iter().filter(same).map(|d| d.t);
            let shown = starts.filter(|t| !masked(&key::of(Tree::Eav, &Parts { start: *t, ..*p })));
            Ok(shown.max().map(|t| Open { start: t, known: t }))
        }

        fn precede(&self, a: AttrId, t: T) -> bool {
            self.0.iter().all(|d| d.a != a || d.t < t)
        }
    }

    #[test]
    fn a_record_undone_was_never_there_whoever_read_in_between() {
        let below = Held((1..300).map(|n| datom(n, n, 3, true)).collect());
        // Facts of below are closed, some of them are opened anew under the same start; facts of this
        // delta, of this record too, are closed; some are late.
        let first: Vec<Datom> = (1..200).map(|n| datom(n, n, 5, false)).collect();
        let mut second: Vec<Datom> = (1..100).map(|n| datom(n, n, 3, true)).collect();
        second.extend((400..800).map(|n| datom(n * 37 % 400, n, 6, true)));
        second.extend((400..500).map(|n| datom(n * 37 % 400, n, 6, false)));
        let mut third: Vec<Datom> = (1..100).map(|n| datom(n, n, 4, false)).collect();
        third.extend((200..300).map(|n| datom(n, n, 7, false)));
        third.extend((500..800).map(|n| datom(n * 37 % 400, n, 7, false)));
        let records = [record(5, first), record(6, second), record(7, third)];
        // Once without reading, once reading after each step: `told` reads everything in order.
        let mut all = Vec::new();
        for read in [false, true] {
            let (mut delta, mut undos) = (Delta::default(), Vec::new());
            let mut before = Vec::new();
            for r in &records {
                let mut undo = Vec::new();
                if read {
                    before.push(told(&delta));
                }
                delta.apply_record(r, &below, &mut undo).unwrap();
                // And again, after it was taken back.
                delta.undo(&r.datoms, &undo);
                if read {
                    assert_eq!(&told(&delta), before.last().unwrap());
                }
                undo.clear();
                delta.apply_record(r, &below, &mut undo).unwrap();
                undos.push(undo);
            }
            all.push(told(&delta));
            for (r, undo) in records.iter().zip(&undos).rev() {
                delta.undo(&r.datoms, undo);
                if read {
                    assert_eq!(told(&delta), before.pop().unwrap());
                }
            }
            assert_eq!(told(&delta), told(&Delta::default()));
        }
        assert_eq!(all[0], all[1]);
    }

    #[test]
    fn a_fact_closed_twice_under_the_same_pair_is_refused() {
        let mut delta = Delta::default();
        let mut undo = Vec::new();
        let r = record(4, vec![datom(1, 1, 2, true), datom(1, 1, 3, false), datom(1, 1, 2, true)]);
        delta.apply_record(&r, &Nothing, &mut undo).unwrap();
        let again = record(5, vec![datom(1, 1, 3, false)]);
        let e = delta.apply_record(&again, &Nothing, &mut undo).unwrap_err();
        assert!(matches!(e, StorageError::BadDatom { .. }), "{e:?}");
        // It may end at another time.
        delta.apply_record(&record(5, vec![datom(1, 1, 4, false)]), &Nothing, &mut undo).unwrap();
    }

    #[test]
    fn a_fact_asserted_twice_by_one_record_is_refused() {
        let mut datoms: Vec<Datom> = (1..400).map(|n| datom(n, n, 1, true)).collect();
        datoms.push(datom(200, 200, 1, true));
        let mut delta = Delta::default();
        let mut undo = Vec::new();
        let r = record(1, datoms);
        let e = delta.apply_record(&r, &Nothing, &mut undo).unwrap_err();
        assert!(matches!(e, StorageError::BadDatom { datom: d, .. } if *d == datom(200, 200, 1, true)));
        delta.undo(&r.datoms, &undo);
        assert_eq!(told(&delta), told(&Delta::default()));
    }
}
