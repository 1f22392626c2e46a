//! Work cut into pieces that threads take in turn.
//!
//! 1. What comes out never depends on the threads: pieces are cut by size alone, and
//!    their results are put together in the order of the pieces.
//! 2. The budget is shared: what one thread spends stops all of them at their next batch.
//! 3. Threads are started for one operator and joined before it returns. Starting one
//!    costs about 30 microseconds, so small inputs stay on the caller's thread; a pool
//!    would save that and cost a dependency, idle threads, and work that outlives its query.
//!
//! Not here: which operators are cut. They read shared columns and write their own.

use crate::error::QueryError;
use annals_model::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Rows that are worth a thread.
const ROWS: usize = 32 * 1024;
/// Most threads of one operator: past that, memory is what operators wait for.
const MOST: usize = 8;
/// Pieces a thread, so that one with more work than another evens out.
const PIECES: usize = 4;

/// How many threads an operator may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Threads {
    /// As many as pay for the rows at hand.
    #[default]
    Auto,
    /// This many for any number of rows, for tests and measurements; 1 is none but the caller's.
    Exactly(usize),
}

/// Threads that the machine has, asked once.
fn available() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST)))
}

impl Threads {
    /// How many to use for `rows` rows of work.
    fn for_rows(self, rows: usize) -> usize {
        match self {
            Threads::Auto if rows < 2 * ROWS => 1,
            Threads::Auto => available().min(rows / ROWS),
            Threads::Exactly(n) => n.clamp(1, MOST).min(rows.max(1)),
        }
    }

    /// `f` of consecutive ranges that cover `0..len`, in order; `rows` is how much work
    /// there is in all. On several threads if that pays.
    pub(crate) fn map<R: Send>(
        self,
        len: usize,
        rows: usize,
        f: impl Fn(Range<usize>) -> Result<R, QueryError> + Sync,
    ) -> Result<Vec<R>, QueryError> {
        let threads = self.for_rows(rows).min(len.max(1));
        if threads == 1 {
            return Ok(vec![f(0..len)?]);
        }
        let pieces = (threads * PIECES).min(len);
        let cut = |i: usize| i * len / pieces;
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= pieces {
                    return done;
                }
                let out = f(cut(i)..cut(i + 1));
                let failed = out.is_err();
                done.push((i, out));
                if failed {
                    // The others need not begin another piece.
                    next.store(pieces, Ordering::Relaxed);
                    return done;
                }
            }
        };
        let mut all = on_all(threads, work).into_iter().flatten().collect::<Vec<_>>();
        all.sort_unstable_by_key(|(i, _)| *i);
        all.into_iter().map(|(_, out)| out).collect()
    }
}

/// What `work` returns on each of some threads, one of them the caller's.
fn on_all<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    std::thread::scope(|s| {
        let others: Vec<_> = (1..threads).map(|_| s.spawn(&work)).collect();
        let mut all = vec![work()];
        for other in others {
            match other.join() {
                Ok(more) => all.push(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

impl Threads {
    /// Columns written in place, part by part: `lens` are the lengths of the parts, and `f` fills part `i` of
    /// every column. So nothing is held twice, as it is when pieces are made first and then put end to end.
    pub(crate) fn filled<const N: usize>(
        self,
        lens: &[usize],
        f: impl Fn(usize, [&mut [Cell]; N]) + Sync,
    ) -> [Vec<Cell>; N] {
        let total = lens.iter().sum();
        let mut out: [Vec<Cell>; N] = std::array::from_fn(|_| vec![0; total]);
        let mut rest = out.each_mut().map(|column| &mut column[..]);
        let mut parts = lens.iter().enumerate().map(|(i, len)| {
            let part = rest.each_mut().map(|left| {
                let (part, after) = std::mem::take(left).split_at_mut(*len);
                *left = after;
                part
            });
            (i, part)
        });
        let threads = self.for_rows(total).min(lens.len().max(1));
        if threads == 1 {
            parts.for_each(|(i, part)| f(i, part));
            return out;
        }
        // A part may be a row or two: a piece is as many as are worth taking.
        let mut pieces = Vec::new();
        while let Some(first) = parts.next() {
            let mut cells = lens[first.0];
            let mut piece = vec![first];
            while cells < total / (threads * PIECES)
                && let Some(part) = parts.next()
            {
                cells += lens[part.0];
                piece.push(part);
            }
            pieces.push(piece);
        }
        let pieces = Mutex::new(pieces.into_iter());
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        on_all(threads, || {
            while let Some(piece) = next() {
                piece.into_iter().for_each(|(i, part)| f(i, part));
            }
        });
        out
    }

    /// A column made cell by cell.
    pub(crate) fn column(self, len: usize, f: impl Fn(usize) -> Cell + Sync) -> Vec<Cell> {
        let threads = self.for_rows(len);
        if threads == 1 {
            return (0..len).map(f).collect();
        }
        let pieces = (threads * PIECES).min(len);
        let cut = |i: usize| i * len / pieces;
        let lens: Vec<usize> = (0..pieces).map(|i| cut(i + 1) - cut(i)).collect();
        let [out] = self.filled(&lens, |i, [part]| {
            part.iter_mut().zip(cut(i)..).for_each(|(cell, row)| *cell = f(row));
        });
        out
    }

    /// The cells at `idx`.
    pub(crate) fn gather(self, cells: &[Cell], idx: &[u32]) -> Vec<Cell> {
        self.column(idx.len(), |i| cells[idx[i] as usize])
    }
}

/// Pieces of one column, end to end.
pub(crate) fn joined<T: Copy>(mut pieces: Vec<Vec<T>>) -> Vec<T> {
    if pieces.len() == 1 {
        return pieces.pop().expect("one piece");
    }
    let mut out = Vec::with_capacity(pieces.iter().map(Vec::len).sum());
    for p in pieces {
        out.extend_from_slice(&p);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_back_in_order_whoever_did_them() {
        for threads in [Threads::Auto, Threads::Exactly(1), Threads::Exactly(3), Threads::Exactly(100)] {
            for len in [0, 1, 2, 7, 1000] {
                let parts = threads.map(len, len, |r| Ok(r.collect::<Vec<usize>>())).unwrap();
                assert_eq!(joined(parts), (0..len).collect::<Vec<_>>(), "{threads:?} {len}");
            }
        }
    }

    #[test]
    fn parts_are_written_where_they_belong_whoever_does_them() {
        for threads in [Threads::Auto, Threads::Exactly(1), Threads::Exactly(3), Threads::Exactly(100)] {
            for lens in [&[][..], &[0], &[3], &[2, 0, 5, 1], &[40_000, 50_000]] {
                let [a, b] = threads.filled(lens, |i, [a, b]| {
                    a.fill(i as Cell);
                    b.iter_mut().zip(0..).for_each(|(cell, n)| *cell = n);
                });
                let parts = lens.iter().enumerate();
                let expected = parts.flat_map(|(i, len)| (0..*len as Cell).map(move |n| (i as Cell, n)));
                assert!(a.into_iter().zip(b).eq(expected), "{threads:?} {lens:?}");
            }
            for len in [0, 1, 7, 100_000] {
                assert!(
                    threads.column(len, |i| 3 * i as Cell).into_iter().eq((0..len as Cell).map(|i| 3 * i))
                );
            }
        }
    }

    #[test]
    fn the_first_failure_is_the_answer() {
        let budget = crate::budget::Budget::new(None, 3, u64::MAX, crate::budget::Cancel::new());
        let out = Threads::Exactly(3).map(100, 100, |r| budget.spend(r.len(), 0));
        assert_eq!(out.unwrap_err().code(), "query/row-limit");
    }
}
