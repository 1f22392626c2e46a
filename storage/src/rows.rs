//! The rows of one chunk of a read: gathered from all layers, then settled into what one view shows.
//!
//! 1. A row is an interval with the records that made its ends known. What a basis does not know yet is
//!    as if it were not there, and an end it does not know is open.
//! 2. A mask of a newer layer cancels the row of an older one with the same fact and start.
//! 3. Values stand in one arena, in full, so that rows sort exactly even where keys are cut.
//! 4. A history is a set: two intervals of a fact with an end in common show it as one datom.
//!
//! Not here: where rows come from (`read`).

use crate::error::{Damage, Res, StorageError};
use crate::key::Parts;
use crate::novelty::Known;
use crate::types::At;
use annals_model::{T, codec};
use std::cmp::Ordering;

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
    /// What the value's encoding begins with: decides most comparisons, and all of short values.
    head: u64,
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
    /// The newest layer that a mask is of.
    masked_by: u8,
}

impl Rows {
    /// The full encoding of a row's value.
    pub fn value(&self, r: &Row) -> &[u8] {
        &self.arena[r.v.0 as usize..(r.v.0 + r.v.1) as usize]
    }

    /// Adds a row; `full` is its value's whole encoding.
    pub fn push(&mut self, p: &Parts<'_>, full: &[u8], known: Known, layer: u8, dead: bool) -> Res<()> {
        let from = self.arena.len();
        self.arena.extend_from_slice(full);
        let Ok(len) = u32::try_from(self.arena.len()) else {
            return Err(StorageError::index(Damage::Layout("a chunk of values over 4 GiB")));
        };
        let v = (from as u32, len - from as u32);
        let head = full.first_chunk().map_or_else(|| head_of_short(full), |b| u64::from_be_bytes(*b));
        self.n_dead += usize::from(dead);
        self.masked_by = if dead { layer.max(self.masked_by) } else { self.masked_by };
        let (e, a, start, end) = (p.e.raw(), p.a.raw(), p.start, p.end);
        self.rows.push(Row { e, a, v, head, start, end, known, layer, dead });
        Ok(())
    }

    /// Is what they take worth keeping for the next read?
    pub fn is_small(&self) -> bool {
        self.rows.capacity() <= 1 << 10 && self.arena.capacity() <= 1 << 16
    }

    /// The only row, if it is one that is open, and neither it nor a mask is of this layer or a newer one:
    /// what lies below the layer is this row. Which record made it known comes with it.
    pub fn only_below(&self, layer: u8) -> Option<(&Row, T)> {
        let [row] = &self.rows[..] else { return None };
        let below = row.layer < layer && self.masked_by < layer && row.end == T::MAX;
        below.then_some((row, row.known.start))
    }

    /// Is there a mask among them?
    pub fn is_masked(&self) -> bool {
        self.n_dead > 0
    }

    pub fn clear(&mut self) {
        self.arena.clear();
        self.rows.clear();
        self.n_dead = 0;
        self.masked_by = 0;
    }

    #[inline]
    fn compare(&self, sort: Sort, x: &Row, y: &Row) -> Ordering {
        self.compare_facts(sort, x, y).then(x.start.cmp(&y.start))
    }

    #[inline]
    fn compare_facts(&self, sort: Sort, x: &Row, y: &Row) -> Ordering {
        // No encoding is the beginning of another: where both end within equal heads, they are one.
        let v = || {
            x.head.cmp(&y.head).then_with(|| match x.v.1 <= 8 && y.v.1 <= 8 {
                true => Ordering::Equal,
                false => self.value(x).cmp(self.value(y)),
            })
        };
        match sort {
            Sort::Eavt => x.e.cmp(&y.e).then(x.a.cmp(&y.a)).then_with(v),
            Sort::Aevt => x.a.cmp(&y.a).then(x.e.cmp(&y.e)).then_with(v),
            Sort::Avet => x.a.cmp(&y.a).then_with(v).then(x.e.cmp(&y.e)),
        }
    }

    /// Sorts, lets masks cancel what they mask, and keeps what the view shows
    /// with ends as the basis knows them.
    pub fn settle(&mut self, at: &At, sort: Sort) {
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

    /// Calls with each datom that a view shows of the settled rows, in order: row, t, op.
    pub fn visit(&self, at: &At, sort: Sort, each: &mut dyn FnMut(&Row, T, bool) -> Res<()>) -> Res<()> {
        if !at.view.history {
            return self.rows.iter().try_for_each(|r| each(r, r.start, true));
        }
        self.datoms(at, sort).into_iter().try_for_each(|(i, t, added)| each(&self.rows[i as usize], t, added))
    }

    /// The datoms that a view shows of the settled rows, in order, each once: row, t, op.
    pub fn datoms(&self, at: &At, sort: Sort) -> Vec<(u32, T, bool)> {
        let rows = &self.rows;
        if !at.view.history {
            return rows.iter().enumerate().map(|(i, r)| (i as u32, r.start, true)).collect();
        }
        let mut out = Vec::with_capacity(2 * rows.len());
        let mut first = 0;
        while first < rows.len() {
            // The intervals of one fact stand together; only their datoms may have to change places.
            let more = rows[first + 1..].iter();
            let n = 1 + more.take_while(|r| self.compare_facts(sort, &rows[first], r).is_eq()).count();
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
            if n > 1 {
                // Filed anew under the t at which it had begun and ended, it says so no second time.
                let mut kept = from;
                for i in from..out.len() {
                    if kept == from || when(&out[kept - 1]) != when(&out[i]) {
                        out[kept] = out[i];
                        kept += 1;
                    }
                }
                out.truncate(kept);
            }
            first += n;
        }
        out
    }
}

/// A value of fewer than eight bytes as a head: zeros follow it.
fn head_of_short(full: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..full.len()].copy_from_slice(full);
    u64::from_be_bytes(bytes)
}

/// Bytes of an LMDB row that say which records made it known, in place of what `out` holds; none when its own
/// t do.
pub(crate) fn put_known(start: T, end: T, known: Known, out: &mut Vec<u8>) {
    out.clear();
    if known.start != start || known.end != end {
        codec::put_uint(known.start.0, out);
        if end != T::MAX {
            codec::put_uint(known.end.0, out);
        }
    }
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
