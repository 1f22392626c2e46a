//! The meaning of time: which facts a view of the database shows.
//!
//! A fact holds over the half-open interval `[start, end)` of transactions;
//! `end` is [`T::MAX`] while it still holds.
//!
//! 1. `as_of t` is inclusive: facts with `start <= t < end`.
//! 2. `since t` is exclusive: of the facts so visible, those with `start > t`.
//! 3. `history` shows datoms instead of facts: the assertion at `start` and, when
//!    the interval is closed, the retraction at `end`, each if its own t lies
//!    within `(since, as_of]`.

use crate::T;

/// A view of time over a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct View {
    /// Show the database as it was right after this transaction (inclusive).
    pub as_of: Option<T>,
    /// Show only what was asserted after this transaction (exclusive).
    pub since: Option<T>,
    /// Show every assertion and retraction instead of what holds.
    pub history: bool,
}

impl View {
    /// The present.
    pub const NOW: View = View { as_of: None, since: None, history: false };

    /// Last visible transaction of a database whose basis is `basis`.
    pub fn upto(&self, basis: T) -> T {
        self.as_of.map_or(basis, |t| t.min(basis))
    }

    /// Does the fact `[start, end)` hold in this (non-history) view at `basis`?
    pub fn holds(&self, start: T, end: T, basis: T) -> bool {
        let at = self.upto(basis);
        start <= at && at < end && self.since.is_none_or(|s| start > s)
    }

    /// Does a history view show a datom of transaction `t`?
    pub fn shows(&self, t: T, basis: T) -> bool {
        t <= self.upto(basis) && self.since.is_none_or(|s| t > s)
    }
}
