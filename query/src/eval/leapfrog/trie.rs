//! A pattern of a cyclic join as a trie of two levels, and the intersection of its lists.

use crate::eval::rel::Hasher;
use annals_model::{Cell, Column, Order, cell};
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Where a head is, for lookups.
pub(super) enum Heads {
    /// One more than the number of a head, by its word less the least; 0 where there is none.
    Dense(u64, Vec<u32>),
    Sparse(HashMap<u64, u32, Hasher>),
}

/// A pattern as a trie of two levels.
pub(super) struct Trie {
    pub(super) column: Arc<Column>,
    /// Which variable its heads are, and which its leaves.
    pub(super) first: usize,
    pub(super) second: usize,
    /// Distinct heads as words, ascending.
    pub(super) heads: Vec<Cell>,
    /// Where the leaves of each head start, and the end of the last.
    pub(super) starts: Vec<u32>,
    pub(super) find: Heads,
}

impl Trie {
    pub(super) fn new(column: Arc<Column>, first: usize, second: usize) -> Trie {
        let tag = tag_of(column.order == Order::Eav);
        let (mut heads, mut starts) = (Vec::new(), Vec::new());
        let keys = column.keys();
        for (row, k) in keys.iter().enumerate() {
            if row == 0 || keys[row - 1] != *k {
                heads.push(k | tag);
                starts.push(row as u32);
            }
        }
        starts.push(keys.len() as u32);
        let span = heads.last().map_or(0, |last| last - heads[0]);
        let find = if span <= 8 * heads.len() as u64 + 1024 {
            let least = heads.first().copied().unwrap_or(0);
            let mut number = vec![0; span as usize + 1];
            for (i, h) in heads.iter().enumerate() {
                number[(h - least) as usize] = i as u32 + 1;
            }
            Heads::Dense(least, number)
        } else {
            Heads::Sparse(heads.iter().copied().zip(0..).collect())
        };
        Trie { column, first, second, heads, starts, find }
    }

    /// The rows of a head.
    #[inline]
    pub(super) fn rows(&self, head: Cell) -> Option<Range<usize>> {
        let i = match &self.find {
            Heads::Dense(least, number) => {
                let i = *number.get(usize::try_from(head.checked_sub(*least)?).ok()?)?;
                i.checked_sub(1)? as usize
            }
            Heads::Sparse(map) => *map.get(&head)? as usize,
        };
        Some(self.starts[i] as usize..self.starts[i + 1] as usize)
    }

    /// The least word among the leaves, and how far the greatest is from it; none if the words lie
    /// too far apart for an array of bits.
    pub(super) fn leaf_span(&self) -> Option<(Cell, u64)> {
        let all = self.leaves(0..self.column.len());
        let (min, max) = (all.words.iter().min()?, all.words.iter().max()?);
        (max - min <= 64 * all.words.len() as u64 + 4096).then_some((min | all.tag, max - min))
    }

    pub(super) fn leaves(&self, rows: Range<usize>) -> List<'_> {
        match self.column.order {
            Order::Eav => List { words: &self.column.v[rows], tag: tag_of(false) },
            Order::Ave => List { words: &self.column.e[rows], tag: tag_of(true) },
        }
    }
}

/// What makes the word of an id: nothing for what is a word already.
pub(super) const fn tag_of(id: bool) -> u64 {
    if id { cell::TAG_REF << 60 } else { 0 }
}

/// Words in ascending order, without repeats.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    pub(super) words: &'a [u64],
    pub(super) tag: u64,
}

/// The intersection of lists, one word after another.
#[derive(Default)]
pub(super) struct Leap<'a> {
    pub(super) lists: Vec<List<'a>>,
    pub(super) at: Vec<usize>,
}

impl<'a> Leap<'a> {
    pub(super) fn new(lists: Vec<List<'a>>) -> Leap<'a> {
        let at = vec![0; lists.len()];
        Leap { lists, at }
    }

    /// The next word that all lists have.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Cell> {
        let (first, rest) = self.lists.split_first()?;
        let mut word = first.words.get(self.at[0])? | first.tag;
        'word: loop {
            for (i, list) in rest.iter().enumerate() {
                let at = &mut self.at[i + 1];
                *at = seek(list, *at, word);
                let found = list.words.get(*at)? | list.tag;
                if found != word {
                    self.at[0] = seek(first, self.at[0], found);
                    word = first.words.get(self.at[0])? | first.tag;
                    continue 'word;
                }
            }
            self.at[0] += 1;
            return Some(word);
        }
    }
}

/// The first place at or after `from` whose word is not less.
#[inline]
pub(super) fn seek(list: &List<'_>, from: usize, word: Cell) -> usize {
    let below = |i: usize| list.words[i] | list.tag < word;
    let n = list.words.len();
    let mut at = from;
    // Most leaps are short.
    while at < n && at < from + 4 {
        if !below(at) {
            return at;
        }
        at += 1;
    }
    let mut step = 4;
    while at + step < n && below(at + step) {
        at += step;
        step *= 2;
    }
    let (mut lo, mut hi) = (at, (at + step).min(n));
    while lo < hi {
        let mid = (lo + hi) / 2;
        if below(mid) { lo = mid + 1 } else { hi = mid }
    }
    lo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaping_finds_what_all_lists_have() {
        let a: Vec<u64> = (0..1000).map(|i| i * 2).collect();
        let b: Vec<u64> = (0..1000).map(|i| i * 3).collect();
        let c: Vec<u64> = vec![0, 5, 6, 7, 600, 1200, 1998, 4000];
        for lists in [[&a, &b, &c], [&c, &a, &b], [&b, &c, &a]] {
            let lists = lists.iter().map(|l| List { words: l, tag: 0 }).collect();
            let mut leap = Leap::new(lists);
            let found: Vec<u64> = std::iter::from_fn(|| leap.next()).collect();
            assert_eq!(found, [0, 6, 600, 1200, 1998]);
        }
        let mut nothing = Leap::new(vec![List { words: &a, tag: 0 }, List { words: &[], tag: 0 }]);
        assert_eq!(nothing.next(), None);
    }
}
