//! The facts of a recursive rule that folds: the best so far of each group.
//!
//! 1. A row that arrives is compared with the row of its key. Only one that is better enters,
//!    and what it replaces is dead from then on. So `delta` holds improvements, and the fixpoint
//!    ends when nothing gets better.
//! 2. Rows are never changed, only superseded: row numbers, and indexes on them, stay valid.
//! 3. Several folded columns get better each by itself: the row of a key holds the best of each.
//!
//! What was derived from a dead row is not taken back. It need not be: resolution made sure that
//! a better value derives at least what a worse one did (`resolve::monotone`).

use crate::budget::Budget;
use crate::error::QueryError;
use crate::eval::aggregate::Best;
use crate::eval::facts::{Facts, Matches, Part};
use crate::eval::rel::{Rel, Var};
use crate::eval::table::Table;
use annals_model::{Cell, Dict, Span};
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Rows with at most one that is alive for each key.
pub(super) struct BestFacts {
    /// The rule, for messages.
    name: Arc<str>,
    /// How each column is folded; none for keys.
    best: Vec<Option<Best>>,
    dict: Arc<Dict>,
    table: Table,
    dead: Vec<bool>,
    /// The row of each key that is alive.
    alive: HashMap<Box<[Cell]>, u32>,
    /// The best of this round, in order of arrival.
    pending: Vec<Vec<Cell>>,
    pending_of: HashMap<Box<[Cell]>, u32>,
    stable: usize,
    known: usize,
}

impl BestFacts {
    pub(super) fn new(name: &str, best: &[Option<Best>], dict: Arc<Dict>) -> BestFacts {
        BestFacts {
            name: name.into(),
            best: best.to_vec(),
            dict,
            table: Table::new(best.len()),
            dead: Vec::new(),
            alive: HashMap::new(),
            pending: Vec::new(),
            pending_of: HashMap::new(),
            stable: 0,
            known: 0,
        }
    }

    fn range(&self, part: Part) -> Range<usize> {
        part.of(self.stable, self.known)
    }

    /// Improves `row` by `other`, column by column. Did it get better?
    fn improve(&self, row: &mut [Cell], other: &[Cell]) -> Result<bool, QueryError> {
        let mut better = false;
        for (i, best) in self.best.iter().enumerate() {
            let Some(best) = best else { continue };
            let beats = best.improves(other[i], row[i], &self.dict);
            if beats.map_err(|e| QueryError::Function {
                name: self.name.to_string(),
                error: e,
                at: Span::default(),
            })? {
                row[i] = other[i];
                better = true;
            }
        }
        Ok(better)
    }
}

impl Facts for BestFacts {
    fn derive(&mut self, cols: &[&[Cell]], len: usize, budget: &Budget) -> Result<(), QueryError> {
        let width = 8 * self.best.len();
        for i in 0..len {
            let row: Vec<Cell> = cols.iter().map(|c| c[i]).collect();
            let key: Box<[Cell]> =
                row.iter().zip(&self.best).filter(|(_, b)| b.is_none()).map(|(c, _)| *c).collect();
            match self.pending_of.get(&key) {
                Some(&at) => {
                    let mut had = std::mem::take(&mut self.pending[at as usize]);
                    let done = self.improve(&mut had, &row);
                    self.pending[at as usize] = had;
                    done?;
                }
                None => {
                    // A first value is looked at too: it may be none that the fold takes.
                    self.improve(&mut row.clone(), &row)?;
                    self.pending_of.insert(key, self.pending.len() as u32);
                    self.pending.push(row);
                }
            }
            if i % 1024 == 0 {
                budget.spend(0, self.pending.len() * (2 * width + 48))?;
            }
        }
        budget.spend(len, self.pending.len() * (2 * width + 48))
    }

    fn advance(&mut self, budget: &Budget) -> Result<bool, QueryError> {
        self.stable = self.known;
        let mut fresh: Vec<Vec<Cell>> = Vec::new();
        self.pending_of.clear();
        for row in std::mem::take(&mut self.pending) {
            let key: Box<[Cell]> =
                row.iter().zip(&self.best).filter(|(_, b)| b.is_none()).map(|(c, _)| *c).collect();
            let number = (self.known + fresh.len()) as u32;
            match self.alive.get(&key).copied() {
                Some(old) => {
                    let mut best: Vec<Cell> =
                        (0..self.best.len()).map(|c| self.table.col(c)[old as usize]).collect();
                    if !self.improve(&mut best, &row)? {
                        continue;
                    }
                    self.dead[old as usize] = true;
                    fresh.push(best);
                }
                None => fresh.push(row),
            }
            self.alive.insert(key, number);
        }
        if !fresh.is_empty() {
            let cols: Vec<Vec<Cell>> =
                (0..self.best.len()).map(|c| fresh.iter().map(|r| r[c]).collect()).collect();
            let views: Vec<&[Cell]> = cols.iter().map(Vec::as_slice).collect();
            self.table.insert(&views, fresh.len(), budget)?;
            debug_assert_eq!(
                self.table.len(),
                self.known + fresh.len(),
                "no row comes twice: each is better"
            );
            budget.meter().take((fresh.len() * (16 + 8 * self.best.len())) as u64);
        }
        self.known = self.table.len();
        self.dead.resize(self.known, false);
        Ok(self.known > self.stable)
    }

    fn len(&self, part: Part) -> usize {
        self.range(part).len()
    }

    fn rows(&self, part: Part, vars: &[Var], budget: &Budget) -> Rel {
        let range = self.range(part);
        let all = self.table.rows(vars, range.clone(), budget);
        let keep: Vec<u32> =
            (0..range.len() as u32).filter(|i| !self.dead[range.start + *i as usize]).collect();
        if keep.len() == range.len() { all } else { all.take(&keep, true, true, budget) }
    }

    fn probe(
        &mut self,
        part: Part,
        on: &[usize],
        keys: &[&[Cell]],
        len: usize,
        budget: &Budget,
    ) -> Option<Result<Matches, QueryError>> {
        self.table.index(on, budget);
        Some(self.table.probe(on, keys, len, self.range(part), budget).map(|(left, right)| {
            left.into_iter().zip(right).filter(|(_, r)| !self.dead[*r as usize]).unzip()
        }))
    }

    fn fetch(&self, col: usize, rows: &[u32]) -> Vec<Cell> {
        self.table.fetch(col, rows)
    }
}
