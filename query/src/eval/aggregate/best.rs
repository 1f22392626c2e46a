//! Folds that keep one of their values: `min`, `max`, `shortest`.
//!
//! 1. Of two different values exactly one is better, so the best of a set does not depend on the
//!    order in which its members come, nor on how often.
//! 2. Being better is transitive. With 1 this makes the values a chain, along which a recursive
//!    rule may improve what it has found until nothing better comes (`fixpoint`).

use super::bag::order_cells;
use crate::eval::function::{FnError, compare_cells, size};
use annals_model::{Cell, Dict, Value};
use std::cmp::Ordering;

/// Which of several values is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Best {
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// That with the fewest elements or characters, and the least of those.
    Shortest,
}

impl Best {
    /// The fold of this name and these arguments, if it keeps one of its values.
    pub(crate) fn of(name: &str, args: &[Value]) -> Option<Best> {
        match (name, args) {
            ("min", []) => Some(Best::Min),
            ("max", []) => Some(Best::Max),
            ("shortest", []) => Some(Best::Shortest),
            _ => None,
        }
    }

    /// Is `a` better than `b`?
    ///
    /// # Errors
    /// `shortest` of what has no length.
    pub(crate) fn beats(self, a: Cell, b: Cell, dict: &Dict) -> Result<bool, FnError> {
        Ok(a != b && self.order(a, b, dict)?.is_lt())
    }

    /// Is `a` better than `b`, where a recursive rule goes on with the better one?
    ///
    /// Functions and comparisons pass over values that they cannot compare. A number that gave way
    /// to a text would then lose answers that it had, and how many would depend on the order in
    /// which values come: so those of one group must be comparable.
    ///
    /// # Errors
    /// Those of [`Best::beats`], and of `min` and `max` two values that do not compare.
    pub(crate) fn improves(self, a: Cell, b: Cell, dict: &Dict) -> Result<bool, FnError> {
        if a != b && self != Best::Shortest && compare_cells(a, b, dict).is_none() {
            return Err(FnError::Incomparable(dict.decode(a).kind(), dict.decode(b).kind()));
        }
        self.beats(a, b, dict)
    }

    /// The better one first.
    fn order(self, a: Cell, b: Cell, dict: &Dict) -> Result<Ordering, FnError> {
        Ok(match self {
            Best::Min => order_cells(a, b, dict),
            Best::Max => order_cells(b, a, dict),
            Best::Shortest => {
                let (x, y) = (size(&dict.decode(a))?, size(&dict.decode(b))?);
                x.cmp(&y).then_with(|| order_cells(a, b, dict))
            }
        })
    }

    /// The best of these; none of none.
    ///
    /// # Errors
    /// Those of [`Best::beats`], for a single value too.
    pub(crate) fn among(self, cells: &[Cell], dict: &Dict) -> Result<Option<Cell>, FnError> {
        let Some((&first, rest)) = cells.split_first() else { return Ok(None) };
        self.order(first, first, dict)?;
        let mut best = first;
        for &c in rest {
            if self.beats(c, best, dict)? {
                best = c;
            }
        }
        Ok(Some(best))
    }
}
