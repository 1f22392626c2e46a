//! Novelty: what the log has and LMDB has not, in memory, in the same keys.
//!
//! 1. A delta covers the records after its base, in order. Facts asserted in it
//!    and still open are in its current trees; intervals closed in it are in its
//!    history trees, whole.
//! 2. A fact that a lower layer (LMDB, or an older delta) holds as open and this
//!    delta has closed is also in `dead`: it masks the lower row.
//! 3. Rows carry the *records* that made them known, so a read at an older basis,
//!    and every reader while a record is staged, sees right through newer ones.
//! 4. A delta changes only under its lock, one record at a time; after it is
//!    frozen for a checkpoint it never changes.

use crate::error::{Res, StorageError};
use crate::key::{self, HASH, Key, Parts, Tree};
use crate::types::Record;
use annals_model::{Datom, T, Value, codec};
use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::Arc,
};

/// Which records made an interval known: its start, and its end ([`T::MAX`] while open).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub start: T,
    pub end: T,
}

/// The contents of a delta.
#[derive(Default)]
pub(crate) struct Delta {
    /// By [`Tree`].
    pub trees: [BTreeMap<Key, Known>; 4],
    /// Masks over lower layers: by `Tree::Eav` and `Tree::Ave`.
    pub dead: [BTreeMap<Key, ()>; 2],
    /// Versions of side rows.
    pub rows: BTreeMap<Key, Option<Arc<[u8]>>>,
    /// Full encodings of long values.
    pub blobs: HashMap<[u8; HASH], Arc<[u8]>>,
    /// Newest end of a closed interval.
    pub newest_end: T,
    /// Newest record that closed an interval at an older t than its own.
    pub late_end: T,
    /// Changes made, for the checkpoint's threshold.
    pub n_facts: usize,
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
    /// newest start up to `upto`, leaving out those in `dead`.
    fn open(&self, parts: &Parts<'_>, dead: &BTreeMap<Key, ()>) -> Res<Option<Open>>;
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

/// Datoms of a record from which on its assertions go into the trees together.
pub(crate) const MANY: usize = 256;

/// Keys of what a record asserts, on their way into the current trees.
#[derive(Default)]
struct Fresh {
    eav: Vec<Key>,
    ave: Vec<Key>,
}

impl Delta {
    /// Applies a record, and notes in `undo` what its datoms did. After an error, what is noted
    /// is to be undone; side rows are not touched then.
    pub fn apply_record(&mut self, r: &Record, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
        if r.datoms.len() < MANY {
            for d in &r.datoms {
                self.apply(r.t, d, below, undo)?;
            }
        } else {
            let mut fresh = Fresh::default();
            for d in &r.datoms {
                if d.added && d.t == r.t {
                    let v = self.key_value_of(r.t, d, undo)?;
                    let p = Parts { e: d.e, a: d.a, v: &v, start: d.t, end: T::MAX };
                    fresh.eav.push(key::of(Tree::Eav, &p));
                    fresh.ave.push(key::of(Tree::Ave, &p));
                    self.n_facts += 1;
                    undo.push(Undo::Opened);
                } else {
                    // It may concern what the record has asserted.
                    self.absorb(r, &mut fresh)?;
                    self.apply(r.t, d, below, undo)?;
                }
            }
            self.absorb(r, &mut fresh)?;
        }
        self.apply_rows(r);
        Ok(())
    }

    /// Moves fresh keys into the trees: in order, and all at once where they are not few.
    fn absorb(&mut self, r: &Record, fresh: &mut Fresh) -> Res<()> {
        let known = Known { start: r.t, end: T::MAX };
        for (tree, keys) in [(Tree::Eav, &mut fresh.eav), (Tree::Ave, &mut fresh.ave)] {
            if keys.is_empty() {
                continue;
            }
            let keys = sorted(std::mem::take(keys));
            let tree = &mut self.trees[tree as usize];
            let twice = if keys.len() < MANY || tree.len() > 2 * keys.len() {
                let mut twice = false;
                for k in keys {
                    twice |= tree.insert(k, known).is_some();
                }
                twice
            } else {
                let (n, before) = (keys.len(), tree.len());
                tree.append(&mut keys.into_iter().map(|k| (k, known)).collect());
                tree.len() < n + before
            };
            if twice {
                // The datom is found by looking, since nobody records the same fact twice.
                let mut seen = std::collections::HashSet::new();
                let datom = r.datoms.iter().find(|&d| d.added && !seen.insert((d.e, d.a, &d.v, d.t)));
                let datom = datom.unwrap_or(&r.datoms[0]).clone();
                return Err(StorageError::BadDatom { t: r.t, datom: Box::new(datom) });
            }
        }
        Ok(())
    }

    /// Applies one datom of record `t`.
    fn apply(&mut self, t: T, d: &Datom, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
        let v = self.key_value_of(t, d, undo)?;
        let p = Parts { e: d.e, a: d.a, v: &v, start: d.t, end: T::MAX };
        if d.t > t {
            return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) });
        }
        if d.added { self.open(t, d, p, below, undo) } else { self.close(t, d, p, below, undo) }
    }

    /// The value of a datom as it stands in keys; a long one is kept in full aside.
    fn key_value_of(&mut self, t: T, d: &Datom, undo: &mut Vec<Undo>) -> Res<Vec<u8>> {
        let full = codec::encoded(&d.v);
        let nested = matches!(
            d.v,
            Value::Vector(_)
                | Value::List(_)
                | Value::Set(_)
                | Value::Map(_)
                | Value::Tagged(_)
                | Value::BigDec(_)
        );
        if nested && codec::skip(&full).is_err() {
            // Too deep, or a decimal with too many zeros: it could never be read again.
            return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) });
        }
        let (v, cut) = key::value_in_key(full);
        if let Some((hash, full)) = cut
            && !self.blobs.contains_key(&hash)
        {
            self.blobs.insert(hash, full.into());
            undo.push(Undo::Blob(hash));
        }
        Ok(v)
    }

    fn open(&mut self, t: T, d: &Datom, p: Parts<'_>, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
        let (eav, ave) = (key::of(Tree::Eav, &p), key::of(Tree::Ave, &p));
        let twice = || StorageError::BadDatom { t, datom: Box::new(d.clone()) };
        // Only a late fact can meet its own key in a lower layer.
        if d.t < t && below.open(&p, &self.dead[0])?.is_some_and(|o| o.start == d.t) {
            return Err(twice());
        }
        let known = Known { start: t, end: T::MAX };
        match self.trees[Tree::Eav as usize].entry(eav) {
            Entry::Vacant(slot) => slot.insert(known),
            Entry::Occupied(_) => return Err(twice()),
        };
        self.trees[Tree::Ave as usize].insert(ave, known);
        self.n_facts += 1;
        undo.push(Undo::Opened);
        Ok(())
    }

    fn close(&mut self, t: T, d: &Datom, p: Parts<'_>, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
        let here = self.newest_open(&p)?;
        // A fact asserted by its own record starts after all that lie below.
        let lower = match here {
            Some(o) if o.start == o.known => None,
            _ => below.open(&p, &self.dead[0])?,
        };
        let (open, was_here) = match (here, lower) {
            (Some(h), Some(l)) if l.start > h.start => (l, false),
            (Some(h), _) => (h, true),
            (None, Some(l)) => (l, false),
            (None, None) => return Err(StorageError::RetractsNothing { t, datom: Box::new(d.clone()) }),
        };
        let old = Parts { start: open.start, ..p };
        let (eav, ave) = (key::of(Tree::Eav, &old), key::of(Tree::Ave, &old));
        let closed = Parts { start: open.start, end: d.t, ..p };
        let (heav, have) = (key::of(Tree::Heav, &closed), key::of(Tree::Have, &closed));
        let known = Known { start: open.known, end: t };
        match self.trees[Tree::Heav as usize].entry(heav) {
            Entry::Vacant(slot) => slot.insert(known),
            // Asserted and retracted twice under the same pair of transactions.
            Entry::Occupied(_) => return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) }),
        };
        self.trees[Tree::Have as usize].insert(have, known);
        if was_here {
            self.trees[Tree::Eav as usize].remove(&eav);
            self.trees[Tree::Ave as usize].remove(&ave);
        } else {
            self.dead[0].insert(eav, ());
            self.dead[1].insert(ave, ());
        }
        self.newest_end = self.newest_end.max(d.t);
        if d.t < t {
            self.late_end = self.late_end.max(t);
        }
        self.n_facts += 1;
        undo.push(Undo::Closed { start: open.start, known: open.known, was_here });
        Ok(())
    }

    /// The open fact of this delta with the newest start up to `p.start`.
    pub fn newest_open(&self, p: &Parts<'_>) -> Res<Option<Open>> {
        let hi = key::of(Tree::Eav, p);
        let lo = key::of(Tree::Eav, &Parts { start: T(0), ..*p });
        match self.trees[Tree::Eav as usize].range(lo..=hi).next_back() {
            Some((k, known)) => Ok(Some(Open { start: key::parse(Tree::Eav, k)?.start, known: known.start })),
            None => Ok(None),
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
            let (eav, ave) = (key::of(Tree::Eav, &p), key::of(Tree::Ave, &p));
            self.n_facts -= 1;
            let Some((known, was_here)) = closed else {
                self.trees[Tree::Eav as usize].remove(&eav);
                self.trees[Tree::Ave as usize].remove(&ave);
                continue;
            };
            let ended = Parts { end: d.t, ..p };
            self.trees[Tree::Heav as usize].remove(&key::of(Tree::Heav, &ended));
            self.trees[Tree::Have as usize].remove(&key::of(Tree::Have, &ended));
            if was_here {
                let open = Known { start: known, end: T::MAX };
                self.trees[Tree::Eav as usize].insert(eav, open);
                self.trees[Tree::Ave as usize].insert(ave, open);
            } else {
                self.dead[0].remove(&eav);
                self.dead[1].remove(&ave);
            }
        }
    }

    /// The full encoding behind a cut value, if this delta has it.
    pub fn blob(&self, hash: &[u8; HASH]) -> Option<Arc<[u8]>> {
        self.blobs.get(hash).cloned()
    }
}

/// Keys in order. Their first two words are sorted instead of them, and decide nearly always.
fn sorted(keys: Vec<Key>) -> Vec<Key> {
    if keys.is_sorted() {
        return keys;
    }
    let word = |k: &Key, at: usize| {
        let bytes = k.get(at..).unwrap_or_default();
        let mut word = [0; 8];
        let n = bytes.len().min(8);
        word[..n].copy_from_slice(&bytes[..n]);
        u64::from_be_bytes(word)
    };
    let mut order: Vec<(u64, u64, u32)> =
        keys.iter().enumerate().map(|(i, k)| (word(k, 0), word(k, 8), i as u32)).collect();
    order.sort_unstable_by(|x, y| {
        let words = (x.0, x.1).cmp(&(y.0, y.1));
        words.then_with(|| keys[x.2 as usize].cmp(&keys[y.2 as usize]))
    });
    let mut keys = keys;
    order.iter().map(|(_, _, i)| std::mem::replace(&mut keys[*i as usize], Key::new())).collect()
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
        (d.trees.clone(), d.dead.clone(), blobs, d.n_facts)
    }

    #[test]
    fn many_datoms_together_do_what_they_do_one_by_one() {
        let first = (1..400).map(|n| datom(n * 37 % 400, n, 1, true)).collect();
        // Retractions among assertions, of this record's own facts too, and a late one.
        let mut second: Vec<Datom> = (400..800).map(|n| datom(n * 37 % 400, n, 2, true)).collect();
        second.insert(50, datom(37, 1, 2, false));
        second.insert(100, datom(400 * 37 % 400, 400, 2, false));
        second.push(datom(5, 9_000, 1, true));
        let (mut one, mut many) = (Delta::default(), Delta::default());
        let mut undo = Vec::new();
        for r in [record(1, first), record(2, second)] {
            assert!(r.datoms.len() >= MANY);
            for d in &r.datoms {
                one.apply(r.t, d, &Nothing, &mut Vec::new()).unwrap();
            }
            let before = told(&many);
            many.apply_record(&r, &Nothing, &mut undo).unwrap();
            assert_eq!(told(&many), told(&one));
            many.undo(&r.datoms, &undo);
            assert_eq!(told(&many), before);
            undo.clear();
            many.apply_record(&r, &Nothing, &mut undo).unwrap();
            undo.clear();
        }
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
