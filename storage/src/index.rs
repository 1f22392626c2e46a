//! The indexes in LMDB: what a checkpoint writes and what it says about itself.
//!
//! | tree | key → value |
//! |---|---|
//! | `eav` `ave` `heav` `have` | as in `key`; empty, or the records that made the interval known |
//! | `rows` | table · key · t → 1 · bytes, or 0 for a deletion |
//! | `blob` | hash → encoding of a long value |
//! | `times` | t of each 64th record → instants of the 64 from there |
//! | `meta` | `checkpoint` → position in the log; `stats` → counts; `dropped` → attributes, see 3 |
//!
//! 1. A checkpoint is one LMDB transaction: everything of the records up to a
//!    position, and that position.
//! 2. The trees hold nothing that the log up to that position does not say
//!    (`verify` compares them with a fold of it).
//! 3. They hold all that it says, but for ended intervals of attributes that once had no history.

use crate::counts::{AttrRows, Stats};
use crate::error::{Damage, Res, StorageError};
use crate::key::{self, Tree};
use crate::kv::{Db, Env, Snapshot, WriteTxn, Writer};
use crate::log::Position;
use crate::novelty::{Delta, Known};
use crate::pages::Pages;
use crate::record::{Bytes, put_signed, put_varint};
use crate::rows::put_known;
use crate::types::Hints;
use annals_model::{AttrId, Instant, T, codec};
use hashbrown::HashMap;
use std::{collections::BTreeSet, sync::Arc};

const CHECKPOINT: &[u8] = b"checkpoint";
const STATS: &[u8] = b"stats";
const DROPPED: &[u8] = b"dropped";
/// Records whose instants share a row.
const BLOCK: u64 = 64;

/// All that the indexes say about themselves.
#[derive(Clone)]
pub(crate) struct About {
    pub position: Position,
    pub stats: Stats,
    pub late_end: T,
}

/// Moves a delta and the instants of its records into LMDB; the number of the commit.
pub(crate) fn write(
    env: &Arc<Env>,
    d: &Delta,
    instants: &[(T, Instant)],
    about: &About,
    hints: &Hints,
) -> Res<u64> {
    let mut w = env.write()?;
    let mut value = Vec::new();
    for tree in [Tree::Eav, Tree::Ave] {
        let mut rows = Appender::new(&mut w, tree.into())?;
        for (k, is) in d.all_current(tree) {
            if is.masks() && !rows.rows.del(k)? {
                return Err(StorageError::index(Damage::Layout(
                    "a fact that was retracted is not in a tree",
                )));
            }
            if let Some(start) = is.opened() {
                let p = key::parse(tree, k)?;
                put_known(p.start, T::MAX, Known { start, end: T::MAX }, &mut value);
                rows.put(k, &value)?;
            }
        }
    }
    for tree in [Tree::Heav, Tree::Have] {
        let mut rows = Appender::new(&mut w, tree.into())?;
        for (k, known) in d.all_closed(tree) {
            let p = key::parse(tree, k)?;
            if !hints.no_history.contains(&p.a) {
                put_known(p.start, p.end, known, &mut value);
                rows.put(k, &value)?;
            }
        }
    }
    let mut rows = Appender::new(&mut w, Db::Rows)?;
    for (k, v) in &d.rows {
        value.clear();
        value.push(u8::from(v.is_some()));
        value.extend_from_slice(v.as_deref().unwrap_or_default());
        rows.put(k, &value)?;
    }
    drop(rows);
    for (hash, full) in &d.blobs {
        w.put(Db::Blob, hash, full)?;
    }
    put_instants(&mut w, instants)?;
    let mut dropped = read_attrs(&w.get(Db::Meta, DROPPED)?.unwrap_or_default())?;
    let before = dropped.len();
    dropped.extend(&hints.no_history);
    if dropped.len() > before {
        w.put(Db::Meta, DROPPED, &write_attrs(&dropped))?;
    }
    w.put(Db::Meta, CHECKPOINT, &write_position(&about.position))?;
    w.put(Db::Meta, STATS, &write_stats(about))?;
    w.commit()
}

/// Puts rows in rising order of keys, appending where they lie past the tree's end:
/// appended pages are full, split ones half empty.
struct Appender<'w> {
    rows: Writer<'w>,
    last: Option<Vec<u8>>,
    past: bool,
}

impl Appender<'_> {
    fn new(w: &mut WriteTxn, db: Db) -> Res<Appender<'_>> {
        let last = w.last_key(db)?;
        Ok(Appender { rows: w.rows(db)?, last, past: false })
    }
    fn put(&mut self, k: &[u8], v: &[u8]) -> Res<()> {
        self.past = self.past || self.last.as_ref().is_none_or(|last| k > &last[..]);
        if self.past { self.rows.append(k, v) } else { self.rows.put(k, v) }
    }
}

/// The key of the row that holds a record's instant.
pub(crate) fn block_key(t: T) -> Vec<u8> {
    let mut k = Vec::new();
    codec::put_uint(t.0 / BLOCK * BLOCK, &mut k);
    k
}

fn put_instants(w: &mut WriteTxn, instants: &[(T, Instant)]) -> Res<()> {
    for block in instants.chunk_by(|x, y| x.0.0 / BLOCK == y.0.0 / BLOCK) {
        let k = block_key(block[0].0);
        let mut all = match block[0].0.0 % BLOCK {
            0 => Vec::new(),
            _ => read_block(&w.get(Db::Times, &k)?.unwrap_or_default())?,
        };
        all.truncate((block[0].0.0 % BLOCK) as usize);
        all.extend(block.iter().map(|b| b.1));
        w.put(Db::Times, &k, &write_block(all))?;
    }
    Ok(())
}

/// The rows that the instants of all records make.
pub(crate) fn instant_rows(instants: &[(T, Instant)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let blocks = instants.chunk_by(|x, y| x.0.0 / BLOCK == y.0.0 / BLOCK);
    blocks.map(|b| (block_key(b[0].0), write_block(b.iter().map(|x| x.1)))).collect()
}

fn write_block(instants: impl IntoIterator<Item = Instant>) -> Vec<u8> {
    let mut v = Vec::new();
    let mut before = 0;
    for i in instants {
        put_signed(i.0.wrapping_sub(before), &mut v);
        before = i.0;
    }
    v
}

fn read_block(bytes: &[u8]) -> Res<Vec<Instant>> {
    let mut r = Bytes { b: bytes, at: 0 };
    let (mut all, mut before) = (Vec::new(), 0i64);
    while r.at < bytes.len() {
        before = before.wrapping_add(r.signed().map_err(StorageError::index)?);
        all.push(Instant(before));
    }
    Ok(all)
}

/// The instant of a record that the indexes cover.
pub(crate) fn instant_of(s: &Snapshot, t: T) -> Res<Option<Instant>> {
    let Some(block) = s.get(Db::Times, &block_key(t))? else { return Ok(None) };
    Ok(read_block(&block)?.get((t.0 % BLOCK) as usize).copied())
}

/// The newest record up to `upto` that is not after an instant.
pub(crate) fn t_at(s: &Snapshot, i: Instant, upto: T) -> Res<T> {
    let first = |block: u64| -> Res<Option<Instant>> { instant_of(s, T(block * BLOCK)) };
    // The first block that begins after `i`.
    let (mut lo, mut hi) = (0, upto.0 / BLOCK + 1);
    while lo < hi {
        let mid = (lo + hi) / 2;
        match first(mid)? {
            Some(x) if x <= i => lo = mid + 1,
            _ => hi = mid,
        }
    }
    let Some(block) = lo.checked_sub(1) else { return Ok(T(0)) };
    let bytes = s.get(Db::Times, &block_key(T(block * BLOCK)))?.unwrap_or_default();
    let n = read_block(&bytes)?.partition_point(|x| *x <= i) as u64;
    Ok(T((block * BLOCK + n).saturating_sub(1)).min(upto))
}

pub(crate) fn write_position(p: &Position) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(p.t.map_or(0, |t| t.0 + 1), &mut out);
    put_varint(p.segment.0, &mut out);
    put_varint(p.record_at, &mut out);
    put_varint(p.offset, &mut out);
    out.extend_from_slice(&p.chain);
    out
}

pub(crate) fn read_position(b: &[u8]) -> Result<Position, Damage> {
    let mut r = Bytes { b, at: 0 };
    let t = r.varint()?;
    Ok(Position {
        t: t.checked_sub(1).map(T),
        segment: T(r.varint()?),
        record_at: r.varint()?,
        offset: r.varint()?,
        chain: r.take(32)?.try_into().expect("took 32 bytes"),
    })
}

fn write_attrs(attrs: &BTreeSet<AttrId>) -> Vec<u8> {
    let mut out = Vec::new();
    attrs.iter().for_each(|a| put_varint(u64::from(a.raw()), &mut out));
    out
}

fn read_attrs(bytes: &[u8]) -> Res<BTreeSet<AttrId>> {
    let mut r = Bytes { b: bytes, at: 0 };
    let mut all = BTreeSet::new();
    while r.at < bytes.len() {
        let a = r.varint().map_err(StorageError::index)?;
        let a = u32::try_from(a)
            .map_err(|_| StorageError::index(Damage::Layout("an attribute id is too large")))?;
        all.insert(AttrId::new(a));
    }
    Ok(all)
}

/// Attributes of which ended intervals may be missing, in a file that may be damaged.
pub(crate) fn dropped_in_pages(pages: &mut Pages) -> Res<BTreeSet<AttrId>> {
    let mut dropped = BTreeSet::new();
    pages.rows("meta", &mut |k, v| {
        if k == DROPPED {
            dropped = read_attrs(v)?;
        }
        Ok(())
    })?;
    Ok(dropped)
}

fn write_stats(about: &About) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(about.late_end.0, &mut out);
    for c in about.stats.counters {
        put_varint(c, &mut out);
    }
    let mut attrs: Vec<_> = about.stats.attrs.iter().collect();
    attrs.sort_by_key(|(a, _)| **a);
    for (a, rows) in attrs {
        put_varint(u64::from(a.raw()), &mut out);
        put_varint(rows.current, &mut out);
        put_varint(rows.closed, &mut out);
        put_varint(rows.late.0, &mut out);
    }
    out
}

fn read_stats(b: &[u8]) -> Result<(T, Stats), Damage> {
    let mut r = Bytes { b, at: 0 };
    let late_end = T(r.varint()?);
    let mut counters = [0; 4];
    for c in &mut counters {
        *c = r.varint()?;
    }
    let mut attrs = HashMap::new();
    while r.at < b.len() {
        let a = u32::try_from(r.varint()?).map_err(|_| Damage::Layout("an attribute id is too large"))?;
        let rows = AttrRows { current: r.varint()?, closed: r.varint()?, late: T(r.varint()?) };
        attrs.insert(AttrId::new(a), rows);
    }
    Ok((late_end, Stats { counters, attrs }))
}

/// What the indexes say about themselves; none before the first checkpoint.
pub(crate) fn about(s: &Snapshot) -> Res<Option<About>> {
    let Some(position) = s.get(Db::Meta, CHECKPOINT)? else { return Ok(None) };
    let stats =
        s.get(Db::Meta, STATS)?.ok_or(StorageError::index(Damage::Layout("the counts are missing")))?;
    let (late_end, stats) = read_stats(&stats).map_err(StorageError::index)?;
    Ok(Some(About { position: read_position(&position).map_err(StorageError::index)?, stats, late_end }))
}

/// As [`about`], of a file that may be damaged.
pub(crate) fn about_in_pages(pages: &mut Pages) -> Res<Option<About>> {
    let (mut position, mut stats) = (None, None);
    pages.rows("meta", &mut |k, v| {
        if k == CHECKPOINT {
            position = Some(read_position(v).map_err(StorageError::index)?);
        } else if k == STATS {
            stats = Some(read_stats(v).map_err(StorageError::index)?);
        }
        Ok(())
    })?;
    let Some(position) = position else { return Ok(None) };
    let (late_end, stats) = stats.ok_or(StorageError::index(Damage::Layout("the counts are missing")))?;
    Ok(Some(About { position, stats, late_end }))
}
