//! The walk through the tries of a cyclic join: one variable bound after another.
//!
//! 1. A walk belongs to one thread; the tries are shared.
//! 2. Room for lists is taken from what earlier bindings have put back.

use super::trie::{Leap, List, Trie};
use crate::budget::{BATCH, Held};
use crate::error::QueryError;
use annals_model::Cell;
use std::ops::Range;

/// Which tries have a variable as their heads, and which as their leaves.
pub(super) struct Level {
    pub(super) heads: Vec<usize>,
    pub(super) leaves: Vec<usize>,
}

pub(super) struct Join {
    pub(super) tries: Vec<Trie>,
    pub(super) levels: Vec<Level>,
    /// If two tries have the last variable, and the leaves of one stay while those of the other
    /// change with each binding: that one, and the other.
    pub(super) marked: Option<(usize, usize)>,
}

impl Join {
    pub(super) fn new(tries: Vec<Trie>, levels: usize) -> Join {
        let mut join = Join { tries, levels: Vec::with_capacity(levels), marked: None };
        let which = |of: &dyn Fn(&Trie) -> usize, l: usize| -> Vec<usize> {
            (0..join.tries.len()).filter(|t| of(&join.tries[*t]) == l).collect()
        };
        let made =
            (0..levels).map(|l| Level { heads: which(&|t| t.first, l), leaves: which(&|t| t.second, l) });
        join.levels = made.collect();
        if let Some([a, b]) = join.levels.last().map(|l| &l.leaves[..]) {
            let (kept, moves) = if join.tries[*a].first < join.tries[*b].first { (*a, *b) } else { (*b, *a) };
            let changes = join.tries[kept].first + 2 < levels && join.tries[moves].first + 2 == levels;
            if changes && join.tries[kept].leaf_span().is_some() {
                join.marked = Some((kept, moves));
            }
        }
        join
    }
}

/// The leaves of one head as bits, so that another list is intersected with them word by word
/// however long they are.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) rows: Range<usize>,
    pub(super) least: Cell,
    pub(super) bits: Vec<u64>,
}

impl Marks {
    /// Marks the leaves at these rows of a trie, which is the same in every call.
    pub(super) fn of(&mut self, trie: &Trie, rows: &Range<usize>) {
        if self.rows == *rows {
            return;
        }
        if self.bits.is_empty() {
            let (least, span) = trie.leaf_span().expect("looked at before");
            (self.least, self.bits) = (least, vec![0; (span / 64 + 1) as usize]);
        }
        let place = |w: &u64, tag: u64| ((w | tag) - self.least) as usize;
        let old = trie.leaves(std::mem::replace(&mut self.rows, rows.clone()));
        old.words.iter().map(|w| place(w, old.tag)).for_each(|at| self.bits[at / 64] = 0);
        let new = trie.leaves(rows.clone());
        new.words.iter().map(|w| place(w, new.tag)).for_each(|at| self.bits[at / 64] |= 1 << (at % 64));
    }

    /// Adds the words of a list that are marked.
    pub(super) fn select(&self, list: List<'_>, out: &mut Vec<Cell>) {
        // Written whether marked or not: what comes next writes over it, and nothing is guessed.
        let mut n = out.len();
        out.resize(n + list.words.len(), 0);
        for w in list.words {
            let word = w | list.tag;
            let at = word.wrapping_sub(self.least);
            let bits = self.bits.get((at / 64) as usize).copied().unwrap_or(0);
            out[n] = word;
            n += (bits >> (at % 64) & 1) as usize;
        }
        out.truncate(n);
    }
}

/// The walk through all tries of one thread.
pub(super) struct Walk<'j, 'b> {
    pub(super) join: &'j Join,
    /// Rows under the head that each trie stands at.
    pub(super) range: Vec<Range<usize>>,
    pub(super) cols: Vec<Vec<Cell>>,
    /// Lists that are not in use, for their room.
    pub(super) spare: Vec<Leap<'j>>,
    pub(super) marks: Marks,
    pub(super) steps: usize,
    pub(super) spent: usize,
    pub(super) held: Held<'b>,
}

impl<'j, 'b> Walk<'j, 'b> {
    pub(super) fn new(join: &'j Join, held: Held<'b>) -> Walk<'j, 'b> {
        Walk {
            join,
            range: vec![0..0; join.tries.len()],
            cols: vec![Vec::new(); join.levels.len()],
            spare: Vec::new(),
            marks: Marks::default(),
            steps: 0,
            spent: 0,
            held,
        }
    }

    /// Binds variable `level` to `c`, which its leaves have, and finds what follows.
    pub(super) fn bind(&mut self, level: usize, c: Cell) -> Result<(), QueryError> {
        for &t in &self.join.levels[level].heads {
            match self.join.tries[t].rows(c) {
                Some(rows) => self.range[t] = rows,
                None => return Ok(()),
            }
        }
        self.steps += 1;
        if self.steps.is_multiple_of(BATCH) || self.made() - self.spent >= BATCH {
            self.spend()?;
        }
        if level + 2 == self.join.levels.len() {
            self.last();
        } else {
            let mut leap = self.lists(level + 1);
            while let Some(c) = leap.next() {
                self.bind(level + 1, c)?;
            }
            self.spare.push(leap);
        }
        let made = self.made();
        self.cols[level].resize(made, c);
        Ok(())
    }

    /// The leaves that the variable of a level must be among, the shortest first.
    pub(super) fn lists(&mut self, level: usize) -> Leap<'j> {
        let join = self.join;
        let mut leap = self.spare.pop().unwrap_or_default();
        leap.lists.clear();
        for t in &join.levels[level].leaves {
            leap.lists.push(join.tries[*t].leaves(self.range[*t].clone()));
        }
        leap.lists.sort_by_key(|l| l.words.len());
        leap.at.clear();
        leap.at.resize(leap.lists.len(), 0);
        leap
    }

    /// Every value of the last variable, under those of the others.
    pub(super) fn last(&mut self) {
        let join = self.join;
        let level = join.levels.len() - 1;
        if let Some((kept, moves)) = join.marked {
            let (kept_rows, rows) = (&self.range[kept], &self.range[moves]);
            if rows.len() <= 8 * kept_rows.len() {
                self.marks.of(&join.tries[kept], kept_rows);
                self.marks.select(join.tries[moves].leaves(rows.clone()), &mut self.cols[level]);
                return;
            }
        }
        let mut leap = self.lists(level);
        let out = &mut self.cols[level];
        while let Some(c) = leap.next() {
            out.push(c);
        }
        self.spare.push(leap);
    }

    /// Rows so far.
    pub(super) fn made(&self) -> usize {
        self.cols.last().map_or(0, Vec::len)
    }

    pub(super) fn spend(&mut self) -> Result<(), QueryError> {
        let made = self.made();
        self.held.spend(made - self.spent, made * 8 * self.cols.len())?;
        self.spent = made;
        Ok(())
    }
}
