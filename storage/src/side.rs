//! Side rows: bytes under keys, by transaction, read as of a basis.
//!
//! 1. Every version is a row of its own, `table · key · t`; the newest up to the basis counts.
//! 2. A deletion is a version too.
//! 3. A range is read in chunks: each sees all layers at one moment, is copied out, and holds
//!    nothing of the store while its rows are visited. Chunks end between rows, never between
//!    the versions of one, after so many versions or `CHUNK_BYTES`.
//! 4. Of a row only the newest version that the basis knows is copied: a row that was written
//!    ten thousand times is as large, in a chunk, as one that was written once.

use crate::error::{Damage, Res, StorageError};
use crate::key::{self, Key};
use crate::kv::{Db, Snapshot, Step};
use crate::read::{Locked, Range};
use crate::scan::VisitRow;
use annals_model::{T, codec};
use smallvec::SmallVec;
use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

/// A chunk ends at the row with which a layer has put so many bytes into it.
const CHUNK_BYTES: usize = 16 << 20;

impl Locked<'_> {
    /// Side rows one by one, in all layers as they are now.
    pub fn each_side_row(&self, basis: T) -> EachSideRow<'_> {
        let novelty = self.deltas.iter().rev().filter(|d| !d.rows.is_empty());
        EachSideRow {
            basis,
            base: self.layers.base.as_ref(),
            novelty: novelty.map(|d| Ahead { rows: &d.rows, asked: None, next: None }).collect(),
        }
    }

    /// Puts up to about `n` versions of side rows in a range of keys into `chunk`, those that
    /// the basis knows; and says where the next chunk begins (or, backwards, ends).
    pub fn side_rows(
        &self,
        basis: T,
        range: &Range,
        back: bool,
        n: usize,
        chunk: &mut SideRows,
    ) -> Res<Option<Key>> {
        chunk.clear();
        let (mut edge, mut layers): (Option<Key>, usize) = (None, 0);
        if let Some(base) = &self.layers.base {
            let mut seen = Seen::default();
            chunk.begin_layer();
            base.walk(Db::Rows, &range.from, range.to.as_deref(), back, &mut |k, v| match seen.next(
                k,
                n,
                chunk.is_full(),
                back,
            )? {
                Some(end) => {
                    edge = Some(end);
                    Ok(Step::Stop)
                }
                None => {
                    chunk.push(basis, k, &seen, read_row(v)?, back)?;
                    Ok(Step::Next)
                }
            })?;
            layers += usize::from(seen.n > 0);
        }
        for d in self.deltas.iter().filter(|d| !d.rows.is_empty()) {
            let mut seen = Seen::default();
            chunk.begin_layer();
            // Of what lies past the edge the next chunk will tell.
            let mut range = range.clone();
            match &edge {
                Some(edge) if back => range.from = edge.clone().max(range.from),
                Some(edge) => range.to = Some(edge.clone()),
                None => {}
            }
            if range.is_empty() {
                continue;
            }
            let rows = d.rows.range::<Key, _>(range.bounds());
            let mut rows: Box<dyn Iterator<Item = _>> =
                if back { Box::new(rows.rev()) } else { Box::new(rows) };
            for (k, v) in &mut rows {
                if let Some(end) = seen.next(k, n, chunk.is_full(), back)? {
                    // What lies past it was only read by the layers before.
                    edge = Some(end);
                    break;
                }
                chunk.push(basis, k, &seen, v.as_deref(), back)?;
            }
            layers += usize::from(seen.n > 0);
        }
        chunk.order(layers > 1, back, edge.as_deref());
        Ok(edge)
    }
}

/// Side rows looked for by their keys.
pub(crate) struct EachSideRow<'l> {
    basis: T,
    base: Option<&'l Snapshot>,
    /// Newest first.
    novelty: SmallVec<[Ahead<'l>; 2]>,
}

/// The rows of a delta, and the first of them that is not before what was asked for last: whoever asks for
/// rising keys of which it has none, as for events of long ago, searches it once.
struct Ahead<'l> {
    rows: &'l BTreeMap<Key, Option<Arc<[u8]>>>,
    asked: Option<Key>,
    next: Option<&'l Key>,
}

impl<'l> Ahead<'l> {
    /// The last row from `low` to `high`.
    fn last(&mut self, low: &Key, high: &Key) -> Option<&'l Option<Arc<[u8]>>> {
        if self.asked.as_ref().is_none_or(|asked| asked > low || self.next.is_some_and(|next| next < low)) {
            self.next = self.rows.range::<Key, _>(low..).next().map(|(k, _)| k);
            self.asked = Some(low.clone());
        }
        if self.next.is_none_or(|next| next > high) {
            return None;
        }
        self.rows.range::<Key, _>(low..=high).next_back().map(|(_, value)| value)
    }
}

impl EachSideRow<'_> {
    /// Appends the newest version of a row that the basis knows to `out`. False when there is none, or it is
    /// deleted.
    pub fn get(&mut self, table: u8, k: &[u8], out: &mut Vec<u8>) -> Res<bool> {
        let (low, mut high) = (key::row_prefix(table, k), key::of_row(table, k, self.basis));
        let (from, to) = (Key::from_slice(&low), Key::from_slice(&high));
        for layer in &mut self.novelty {
            if let Some(value) = layer.last(&from, &to) {
                out.extend_from_slice(value.as_deref().unwrap_or_default());
                return Ok(value.is_some());
            }
        }
        let Some(base) = self.base else { return Ok(false) };
        high.push(0);
        let mut found = false;
        base.walk(Db::Rows, &low, Some(&high), true, &mut |_, value| {
            if let Some(value) = read_row(value)? {
                out.extend_from_slice(value);
                found = true;
            }
            Ok(Step::Stop)
        })?;
        Ok(found)
    }
}

/// How many versions of a layer were seen, and in which row it is.
#[derive(Default)]
struct Seen {
    n: usize,
    /// The last key seen, of which so many bytes are the row's.
    key: Vec<u8>,
    prefix: usize,
    /// Does it belong to the same row as the one before it?
    same: bool,
}

impl Seen {
    /// Moves on to a key; after `n` versions, or in a full chunk, the next row ends it, and the edge
    /// is told.
    fn next(&mut self, k: &[u8], n: usize, full: bool, back: bool) -> Res<Option<Key>> {
        self.same = self.prefix > 0 && k.get(..self.prefix) == Some(&self.key[..self.prefix]);
        if !self.same {
            let prefix = key::row_prefix_len(k)?;
            if self.n >= n || (full && self.n > 0) {
                // Forward, the next chunk begins here; backward, it ends at the row just done.
                let edge = if back { &self.key[..self.prefix] } else { &k[..prefix] };
                return Ok(Some(Key::from_slice(edge)));
            }
            self.key.clear();
            self.key.extend_from_slice(&k[..prefix]);
            self.prefix = prefix;
        }
        self.n += 1;
        Ok(None)
    }
}

/// A version of a side row in a chunk: ranges of the chunk's bytes.
#[derive(Clone, Copy)]
struct Version {
    key: (u32, u32),
    /// So many bytes of the key are the row's; what follows is the record.
    prefix: u32,
    /// Its bytes; none for a deletion.
    value: Option<(u32, u32)>,
}

/// Versions of side rows, copied out of the layers in order of their keys.
#[derive(Default)]
pub(crate) struct SideRows {
    bytes: Vec<u8>,
    rows: Vec<Version>,
    /// The layer that is being copied begins with this version, and at this byte.
    layer: (usize, usize),
    /// Has the row that is being copied a version here?
    has: bool,
    /// Are there versions of several layers, so that some may be of one row?
    several: bool,
}

impl SideRows {
    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
        self.layer = (0, 0);
        (self.has, self.several) = (false, false);
    }

    fn begin_layer(&mut self) {
        self.layer = (self.rows.len(), self.bytes.len());
        self.has = false;
    }

    /// Has the layer put all into it that it may?
    fn is_full(&self) -> bool {
        self.bytes.len() - self.layer.1 >= CHUNK_BYTES
    }

    fn part(&self, (from, to): (u32, u32)) -> &[u8] {
        &self.bytes[from as usize..to as usize]
    }

    fn put(&mut self, bytes: &[u8]) -> Res<(u32, u32)> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        match (u32::try_from(from), u32::try_from(self.bytes.len())) {
            (Ok(from), Ok(to)) => Ok((from, to)),
            _ => Err(StorageError::index(Damage::Layout("a chunk of side rows over 4 GiB"))),
        }
    }

    /// Takes in a version, unless the basis does not know it or the layer has given a newer one.
    /// Forward, the versions of a row come oldest first; backward, newest first.
    fn push(&mut self, basis: T, key: &[u8], seen: &Seen, value: Option<&[u8]>, back: bool) -> Res<()> {
        let prefix = seen.prefix;
        self.has &= seen.same;
        let (t, _) = codec::get_uint(&key[prefix..]).map_err(StorageError::index)?;
        if T(t) > basis {
            return Ok(());
        }
        if self.has {
            if back {
                return Ok(());
            }
            if let Some(last) = self.rows.pop() {
                self.bytes.truncate(last.key.0 as usize);
            }
        }
        self.has = true;
        let key = self.put(key)?;
        let value = value.map(|v| self.put(v)).transpose()?;
        self.rows.push(Version { key, prefix: prefix as u32, value });
        Ok(())
    }

    /// Brings the versions of several layers into one order, without those past the edge.
    fn order(&mut self, several: bool, back: bool, edge: Option<&[u8]>) {
        let mut rows = std::mem::take(&mut self.rows);
        self.several = several;
        if several {
            // A run a layer: merged, not sorted.
            match back {
                true => rows.sort_by(|x, y| self.part(y.key).cmp(self.part(x.key))),
                false => rows.sort_by(|x, y| self.part(x.key).cmp(self.part(y.key))),
            }
            if let Some(edge) = edge {
                rows.retain(|r| (self.part(r.key) >= edge) == back);
            }
        }
        self.rows = rows;
    }

    /// Visits the rows by their own keys and newest versions, in the order read.
    pub fn visit(&self, back: bool, visit: &mut VisitRow<'_>) -> Res<ControlFlow<()>> {
        // A layer has one version of a row here.
        let same = |x: &Version, y: &Version| {
            self.several && self.part(x.key)[..x.prefix as usize] == self.part(y.key)[..y.prefix as usize]
        };
        let mut own = Vec::new();
        for versions in self.rows.chunk_by(same) {
            let newest = if back { versions.first() } else { versions.last() };
            let Some(Version { key, prefix, value: Some(value) }) = newest else { continue };
            let text = &self.part(*key)[1..*prefix as usize];
            let own = match text.split_last() {
                // Most stand there as they are.
                Some((_, plain)) if !plain.contains(&1) => plain,
                _ => {
                    codec::get_text_into(text, &mut own).map_err(StorageError::index)?;
                    &own
                }
            };
            if visit(own, self.part(*value)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The bytes of a stored side row: none for a deletion.
pub(crate) fn read_row(stored: &[u8]) -> Res<Option<&[u8]>> {
    match stored.split_first() {
        Some((0, [])) => Ok(None),
        Some((1, value)) => Ok(Some(value)),
        _ => Err(StorageError::index(Damage::Layout("a side row is neither bytes nor a deletion"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_written_often_is_copied_once() {
        let value = vec![7; 100_000];
        for back in [false, true] {
            let mut chunk = SideRows::default();
            chunk.begin_layer();
            let mut ts: Vec<u64> = (1..=500).collect();
            if back {
                ts.reverse();
            }
            let mut seen = Seen::default();
            for t in ts {
                let key = key::of_row(1, b"state", T(t));
                assert!(seen.next(&key, usize::MAX, false, back).unwrap().is_none());
                // The last that the basis knows is a shorter one; what is newer is not looked at.
                let value = if t == 400 { &value[..10] } else { &value };
                chunk.push(T(400), &key, &seen, Some(value), back).unwrap();
            }
            assert!(chunk.bytes.len() < 200, "{} bytes", chunk.bytes.len());
            let mut seen = Vec::new();
            let _ = chunk
                .visit(back, &mut |k, v| {
                    seen.push((k.to_vec(), v.len()));
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(seen, [(b"state".to_vec(), 10)]);
        }
    }

    #[test]
    fn a_chunk_is_full_after_so_many_bytes() {
        let mut chunk = SideRows::default();
        for layer in 0..2u8 {
            chunk.begin_layer();
            let mut seen = Seen::default();
            let mut rows = 0;
            for i in 0..100u8 {
                let key = key::of_row(1, &[b'a' + layer, i + 3], T(1));
                if seen.next(&key, usize::MAX, chunk.is_full(), false).unwrap().is_some() {
                    break;
                }
                chunk.push(T(9), &key, &seen, Some(&vec![0; 1 << 20]), false).unwrap();
                rows += 1;
            }
            assert_eq!(rows, 16);
        }
    }
}
