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
    collections::{BTreeMap, HashMap},
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

/// What one datom did to a delta, so that it can be undone.
pub(crate) enum Undo {
    Opened { eav: Key, ave: Key },
    Closed { heav: Key, have: Key, eav: Key, ave: Key, known: Known, was_here: bool },
    Row(Key),
    Blob([u8; HASH]),
}

impl Delta {
    /// Applies one datom of record `t`; says which attribute row counts change.
    pub fn apply(&mut self, t: T, d: &Datom, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
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
        let p = Parts { e: d.e, a: d.a, v: &v, start: d.t, end: T::MAX };
        if d.t > t {
            return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) });
        }
        if d.added { self.open(t, d, p, below, undo) } else { self.close(t, d, p, below, undo) }
    }

    fn open(&mut self, t: T, d: &Datom, p: Parts<'_>, below: &dyn Below, undo: &mut Vec<Undo>) -> Res<()> {
        let (eav, ave) = (key::of(Tree::Eav, &p), key::of(Tree::Ave, &p));
        // Only a late fact can meet its own key in a lower layer.
        let twice = self.trees[Tree::Eav as usize].contains_key(&eav)
            || (d.t < t && below.open(&p, &self.dead[0])?.is_some_and(|o| o.start == d.t));
        if twice {
            return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) });
        }
        let known = Known { start: t, end: T::MAX };
        self.trees[Tree::Eav as usize].insert(copy(&eav), known);
        self.trees[Tree::Ave as usize].insert(copy(&ave), known);
        self.n_facts += 1;
        undo.push(Undo::Opened { eav, ave });
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
        if self.trees[Tree::Heav as usize].contains_key(&heav) {
            // Asserted and retracted twice under the same pair of transactions.
            return Err(StorageError::BadDatom { t, datom: Box::new(d.clone()) });
        }
        if was_here {
            self.trees[Tree::Eav as usize].remove(&eav);
            self.trees[Tree::Ave as usize].remove(&ave);
        } else {
            self.dead[0].insert(copy(&eav), ());
            self.dead[1].insert(copy(&ave), ());
        }
        self.trees[Tree::Heav as usize].insert(copy(&heav), known);
        self.trees[Tree::Have as usize].insert(copy(&have), known);
        self.newest_end = self.newest_end.max(d.t);
        if d.t < t {
            self.late_end = self.late_end.max(t);
        }
        self.n_facts += 1;
        undo.push(Undo::Closed { heav, have, eav, ave, known, was_here });
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
    pub fn apply_rows(&mut self, r: &Record, undo: &mut Vec<Undo>) {
        for row in &r.rows {
            let k = key::of_row(row.table, &row.key, r.t);
            self.n_facts += 1;
            self.rows.insert(k.clone(), row.value.as_deref().map(Arc::from));
            undo.push(Undo::Row(k));
        }
    }

    /// Takes back what was done, newest first.
    pub fn undo(&mut self, done: Vec<Undo>) {
        for u in done.into_iter().rev() {
            self.n_facts -= usize::from(!matches!(u, Undo::Blob(_)));
            match u {
                Undo::Blob(hash) => {
                    self.blobs.remove(&hash);
                }
                Undo::Opened { eav, ave } => {
                    self.trees[Tree::Eav as usize].remove(&eav);
                    self.trees[Tree::Ave as usize].remove(&ave);
                }
                Undo::Closed { heav, have, eav, ave, known, was_here } => {
                    self.trees[Tree::Heav as usize].remove(&heav);
                    self.trees[Tree::Have as usize].remove(&have);
                    if was_here {
                        let open = Known { start: known.start, end: T::MAX };
                        self.trees[Tree::Eav as usize].insert(eav, open);
                        self.trees[Tree::Ave as usize].insert(ave, open);
                    } else {
                        self.dead[0].remove(&eav);
                        self.dead[1].remove(&ave);
                    }
                }
                Undo::Row(k) => {
                    self.rows.remove(&k);
                }
            }
        }
    }

    /// The full encoding behind a cut value, if this delta has it.
    pub fn blob(&self, hash: &[u8; HASH]) -> Option<Arc<[u8]>> {
        self.blobs.get(hash).cloned()
    }
}

/// As `clone`, which copies byte by byte.
fn copy(k: &Key) -> Key {
    Key::from_slice(k)
}

/// A value's bytes as they stand in keys.
pub(crate) fn key_value(v: &Value) -> Vec<u8> {
    key::value_in_key(codec::encoded(v)).0
}
