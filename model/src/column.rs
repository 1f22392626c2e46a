//! Columns: all visible datoms of one attribute as parallel arrays of words.
//!
//! The exchange format between storage (which builds and caches them) and
//! queries (which merge, probe and leapfrog over them).

use crate::Cell;

/// Which key an attribute's rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// By entity, then value cell, then t: the AEVT index.
    Eav,
    /// By value *cell* (word order, not value order), then entity, then t: the AVET index.
    Ave,
}

/// Parallel arrays, one entry a datom; sorted by `order`.
#[derive(Clone, Debug)]
pub struct Column {
    /// How the rows are sorted.
    pub order: Order,
    /// Raw entity ids.
    pub e: Vec<u64>,
    /// Values as cells of one dictionary.
    pub v: Vec<Cell>,
    /// The transaction each datom is filed under.
    pub t: Vec<u64>,
    /// Op of each datom, in history views only; elsewhere everything is an assertion.
    pub added: Option<Vec<bool>>,
}

impl Column {
    /// No rows.
    pub fn empty(order: Order) -> Column {
        Column { order, e: Vec::new(), v: Vec::new(), t: Vec::new(), added: None }
    }
    /// Number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.e.len()
    }
    /// True when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.e.is_empty()
    }
    /// The sorted-by array: entities or value cells.
    #[inline]
    pub fn keys(&self) -> &[u64] {
        match self.order {
            Order::Eav => &self.e,
            Order::Ave => &self.v,
        }
    }
    /// Op of row `i`.
    #[inline]
    pub fn op(&self, i: usize) -> bool {
        self.added.as_ref().is_none_or(|a| a[i])
    }
    /// Bytes of the arrays.
    pub fn bytes(&self) -> usize {
        self.len() * (24 + usize::from(self.added.is_some()))
    }
}
