//! The rows derived for one predicate of a fixpoint, behind one trait.
//!
//! Rows go through three states: *pending* (derived in this round), *delta* (new
//! since the last round), *stable* (older). [`Facts::advance`] moves them on.
//! Implementations: [`Hashed`] here, and sorted batches in `seminaive`.

use super::rel::{Rel, Var};
use super::table::Table;
use crate::budget::Budget;
use crate::error::QueryError;
use annals_model::Cell;
use std::ops::Range;

/// Which rows of a predicate an atom reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Stable,
    Delta,
    /// Both.
    Known,
}

impl Part {
    /// Its rows, where `stable` of the `known` ones were known before the last round.
    pub(crate) fn of(self, stable: usize, known: usize) -> Range<usize> {
        match self {
            Part::Stable => 0..stable,
            Part::Delta => stable..known,
            Part::Known => 0..known,
        }
    }
}

/// Pairs of rows that match: left of the probing relation, right of the facts.
pub(crate) type Matches = (Vec<u32>, Vec<u32>);

/// A set of rows that grows in rounds.
pub(crate) trait Facts {
    /// Adds derived rows; those known already are dropped.
    fn derive(&mut self, cols: &[&[Cell]], len: usize, budget: &Budget) -> Result<(), QueryError>;
    /// Ends a round: delta becomes stable, pending becomes delta. Is there a delta?
    fn advance(&mut self, budget: &Budget) -> Result<bool, QueryError>;
    /// Number of rows in a part.
    fn len(&self, part: Part) -> usize;
    /// The rows of a part over these variables.
    fn rows(&self, part: Part, vars: &[Var], budget: &Budget) -> Rel;
    /// Rows of a part that agree with `keys` on the columns `on`, and one column of
    /// them at a time through `fetch`; none if there is no index for it.
    fn probe(
        &mut self,
        part: Part,
        on: &[usize],
        keys: &[&[Cell]],
        len: usize,
        budget: &Budget,
    ) -> Option<Result<Matches, QueryError>>;
    /// Column `col` of the rows that a probe found.
    fn fetch(&self, col: usize, rows: &[u32]) -> Vec<Cell>;
}

/// Facts in a hash table; parts are ranges of row numbers.
pub(crate) struct Hashed {
    table: Table,
    stable: usize,
    known: usize,
}

impl Hashed {
    pub(crate) fn new(arity: usize) -> Hashed {
        Hashed { table: Table::new(arity), stable: 0, known: 0 }
    }
    fn range(&self, part: Part) -> Range<usize> {
        part.of(self.stable, self.known)
    }
}

impl Facts for Hashed {
    fn derive(&mut self, cols: &[&[Cell]], len: usize, budget: &Budget) -> Result<(), QueryError> {
        self.table.insert(cols, len, budget)
    }
    fn advance(&mut self, _: &Budget) -> Result<bool, QueryError> {
        self.stable = self.known;
        self.known = self.table.len();
        Ok(self.known > self.stable)
    }
    fn len(&self, part: Part) -> usize {
        self.range(part).len()
    }
    fn rows(&self, part: Part, vars: &[Var], budget: &Budget) -> Rel {
        self.table.rows(vars, self.range(part), budget)
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
        Some(self.table.probe(on, keys, len, self.range(part), budget))
    }
    fn fetch(&self, col: usize, rows: &[u32]) -> Vec<Cell> {
        self.table.fetch(col, rows)
    }
}
