//! What the rows of a pattern must pass besides being found: constants, variables that
//! are bound already or stand twice, and comparisons pushed down to where rows are read.
//!
//! 1. A guard is a hint: the predicate it was made from still runs as a clause, so a
//!    guard may let rows pass but never turns one away wrongly.

use super::access::Slab;
use super::pattern::{Place, Probe4};
use super::quick::Comparison;
use annals_model::{Cell, Dict};
use std::ops::Range;

/// A comparison of the value place with a constant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    pub(crate) how: Comparison,
    pub(crate) with: Cell,
    /// The constant stands first.
    pub(crate) flipped: bool,
}

impl Guard {
    #[inline]
    pub(crate) fn pass(&self, v: Cell, dict: &Dict) -> bool {
        if self.flipped { self.how.holds(self.with, v, dict) } else { self.how.holds(v, self.with, dict) }
    }
}

/// All that is asked of a row.
pub(crate) struct Tests<'a> {
    constants: Vec<(usize, Cell)>,
    bound: Vec<(usize, &'a [Cell])>,
    same: Vec<(usize, usize)>,
    guards: &'a [Guard],
    dict: &'a Dict,
}

impl<'a> Tests<'a> {
    /// `known`: the place that rows were found by. `bound`: places whose variable has a column.
    pub(crate) fn new(
        probe: &Probe4,
        known: Option<usize>,
        bound: &[(usize, &'a [Cell])],
        guards: &'a [Guard],
        dict: &'a Dict,
    ) -> Tests<'a> {
        let mut constants = Vec::new();
        let mut same = Vec::new();
        for (at, x) in probe.places.iter().enumerate() {
            match x {
                Place::Is(c) if Some(at) != known => constants.push((at, *c)),
                Place::Var(_) => {
                    if let Some(first) = probe.places[..at].iter().position(|y| y == x) {
                        same.push((first, at));
                    }
                }
                Place::Is(_) | Place::Any => {}
            }
        }
        Tests { constants, bound: bound.to_vec(), same, guards, dict }
    }

    /// Is nothing asked?
    pub(crate) fn is_empty(&self) -> bool {
        self.constants.is_empty() && self.bound.is_empty() && self.same.is_empty() && self.guards.is_empty()
    }

    /// Does row `i` of the slab pass, for row `row` of the relation it is joined to?
    #[inline]
    pub(crate) fn pass(&self, slab: &Slab, i: usize, row: usize) -> bool {
        self.constants.iter().all(|(at, c)| slab.cell(*at, i) == *c)
            && self.bound.iter().all(|(at, col)| slab.cell(*at, i) == col[row])
            && self.same.iter().all(|(a, b)| slab.cell(*a, i) == slab.cell(*b, i))
            && self.guards.iter().all(|g| g.pass(slab.v()[i], self.dict))
    }

    /// The rows of a range that pass, for a pattern joined to nothing.
    pub(crate) fn select(&self, slab: &Slab, rows: Range<usize>, out: &mut Vec<u32>) {
        if let ([guard], true) =
            (self.guards, self.constants.is_empty() && self.bound.is_empty() && self.same.is_empty())
        {
            let first = rows.start;
            let hits = slab.v()[rows].iter().enumerate().filter(|(_, v)| guard.pass(**v, self.dict));
            out.extend(hits.map(|(i, _)| (first + i) as u32));
            return;
        }
        out.extend(rows.filter(|&i| self.pass(slab, i, 0)).map(|i| i as u32));
    }
}
