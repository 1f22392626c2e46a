//! All that a query may ask of a database.
//!
//! 1. Every method answers for one fixed view of one fixed basis: the same
//!    question gets the same answer for the life of the `Source`.
//! 2. Columns and probes hold visible datoms only, sorted, without duplicates.
//!    In a history view that is assertions and retractions, elsewhere facts.
//! 3. Cells are coded in the dictionary passed in, whatever the source keeps.
//!
//! Not here: clocks, files, threads, storage.

use annals_model::{AttrId, Cell, Column, Datom, Dict, EntityId, Instant, Keyword, Order, Schema, T, View};
use std::{fmt, sync::Arc};

/// Matches of sorted probes: parallel arrays, one entry a datom.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Index of the key (in the keys given) that this datom matches.
    pub key: Vec<u32>,
    /// Raw entity ids.
    pub e: Vec<u64>,
    /// Value cells.
    pub v: Vec<Cell>,
    /// Transactions.
    pub t: Vec<u64>,
    /// Ops.
    pub added: Vec<bool>,
}

/// The datoms of one entity: parallel arrays, one entry a datom.
#[derive(Clone, Debug, Default)]
pub struct EntityRows {
    /// Attributes.
    pub a: Vec<AttrId>,
    /// Value cells.
    pub v: Vec<Cell>,
    /// Transactions.
    pub t: Vec<u64>,
    /// Ops.
    pub added: Vec<bool>,
}

impl EntityRows {
    /// No datoms yet, and room for some.
    pub fn with_capacity(n: usize) -> EntityRows {
        EntityRows {
            a: Vec::with_capacity(n),
            v: Vec::with_capacity(n),
            t: Vec::with_capacity(n),
            added: Vec::with_capacity(n),
        }
    }
    /// Number of datoms.
    pub fn len(&self) -> usize {
        self.a.len()
    }
    /// Has the entity none?
    pub fn is_empty(&self) -> bool {
        self.a.is_empty()
    }
    /// Are two of the datoms the same?
    pub fn same(&self, i: usize, j: usize) -> bool {
        (self.t[i], self.v[i], self.a[i], self.added[i]) == (self.t[j], self.v[j], self.a[j], self.added[j])
    }
    /// Adds a datom.
    pub fn push(&mut self, a: AttrId, v: Cell, t: T, added: bool) {
        self.a.push(a);
        self.v.push(v);
        self.t.push(t.0);
        self.added.push(added);
    }
    /// Holds these datoms, in place of what it held.
    pub fn fill(&mut self, datoms: &[Datom], dict: &Dict) {
        self.clear();
        for d in datoms {
            self.push(d.a, dict.encode(&d.v), d.t, d.added);
        }
    }
    /// Takes all datoms out and keeps the room they had.
    pub fn clear(&mut self) {
        self.a.clear();
        self.v.clear();
        self.t.clear();
        self.added.clear();
    }
}

/// What is known of an attribute without reading it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttrStats {
    /// Visible datoms, exact or nearly so: an attribute that has none now may show some in the past.
    pub rows: u64,
    /// Reading the whole column costs nothing: it is in memory.
    pub cached: bool,
}

/// A failure below the query: storage damaged, I/O, closed.
#[derive(Clone, Debug)]
pub struct SourceError(pub Arc<dyn std::error::Error + Send + Sync>);

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl std::error::Error for SourceError {}

/// One database value.
pub trait Source: Send + Sync {
    /// The newest transaction this source knows.
    fn basis_t(&self) -> T;
    /// The view of time it shows.
    fn view(&self) -> View;
    /// The schema as of the view.
    fn schema(&self) -> &Arc<Schema>;
    /// Size of an attribute.
    fn stats(&self, a: AttrId) -> AttrStats;
    /// May the attribute show datoms in some view, of this time or another? `false` only for one that has
    /// never had any.
    fn may_have(&self, a: AttrId) -> bool;
    /// All visible datoms of an attribute.
    fn column(&self, a: AttrId, order: Order, dict: &Arc<Dict>) -> Result<Arc<Column>, SourceError>;
    /// The datoms of attribute `a` whose entity ([`Order::Eav`]) or value cell
    /// ([`Order::Ave`]) is among `keys` (sorted, distinct), appended in the order of keys.
    fn probe(
        &self,
        a: AttrId,
        by: Order,
        keys: &[u64],
        dict: &Arc<Dict>,
        out: &mut Probe,
    ) -> Result<(), SourceError>;
    /// Every visible datom of one entity, by attribute, value, t.
    fn entity(&self, e: EntityId) -> Result<Vec<Datom>, SourceError>;
    /// The same datoms in the same order, as cells, in place of what `out` holds.
    fn entity_rows(&self, e: EntityId, dict: &Arc<Dict>, out: &mut EntityRows) -> Result<(), SourceError> {
        out.fill(&self.entity(e)?, dict);
        Ok(())
    }
    /// The entity that an ident means in this view.
    fn entid(&self, ident: &Keyword) -> Option<EntityId> {
        self.schema().entid(ident)
    }
    /// The newest t whose instant is not after `i` (genesis if none).
    fn t_at(&self, i: Instant) -> Result<T, SourceError>;
    /// The transactions of `[from, to)` with their datoms: the log, for `tx-ids` and `tx-data`.
    fn log(&self, from: T, to: T) -> Result<Vec<(T, Vec<Datom>)>, SourceError>;
}
