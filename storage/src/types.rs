//! What goes into a store and how to ask for it: plain data.

use crate::fault::Faults;
use annals_model::{AttrId, Cell, Datom, EntityId, Instant, T, Value, View};
use hashbrown::HashSet;

/// One transaction as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number: one more than the record before.
    pub t: T,
    /// When it was made; not before the record before.
    pub instant: Instant,
    /// Its facts, already free of redundancy. A datom's own `t` equals the
    /// record's, or is older for facts filed under the transaction of their
    /// origin event. A retraction closes the open fact of the same entity,
    /// attribute and value with the newest start that is not after it.
    pub datoms: Vec<Datom>,
    /// Changes to the side tables.
    pub rows: Vec<Row>,
}

/// One change to a side table: bytes under a key, by transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which table. Storage keeps [`Row::STORAGE`] for itself.
    pub table: u8,
    /// The key, at most [`Row::MAX_KEY`] bytes (each byte 00 or 01 counts twice).
    pub key: Vec<u8>,
    /// The bytes, or none to delete the row.
    pub value: Option<Vec<u8>>,
}

impl Row {
    /// The table in which storage itself writes what was excised.
    pub const STORAGE: u8 = 255;
    /// Longest key of a row.
    pub const MAX_KEY: usize = 480;
}

/// A question's place in time: what was known, and which part of it to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// Records after this one are not known.
    pub basis: T,
    /// Of what is known, what to show.
    pub view: View,
}

impl At {
    /// Everything that holds at `basis`.
    pub const fn now(basis: T) -> At {
        At { basis, view: View::NOW }
    }
    /// Does the view show what holds at one t, and all of it?
    pub(crate) fn is_moment(&self) -> bool {
        !self.view.history && self.view.since.is_none()
    }
}

/// Which datoms, and in which order.
#[derive(Clone, Debug, PartialEq)]
pub enum Prefix {
    /// Everything, by entity, attribute, value, t.
    All,
    /// One entity, by attribute, value, t.
    E(EntityId),
    /// One attribute of one entity, by value, t.
    Ea(EntityId, AttrId),
    /// One fact, by t.
    Eav(EntityId, AttrId, Value),
    /// One attribute, by entity, value, t.
    A(AttrId),
    /// Who has this value, by entity, t.
    Av(AttrId, Value),
}

/// Matches of sorted probes: parallel arrays, one entry a datom, in the order of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeOut {
    /// Index of the key that this datom matches.
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

impl ProbeOut {
    pub(crate) fn push(&mut self, key: u32, e: u64, v: Cell, t: u64, added: bool) {
        self.key.push(key);
        self.e.push(e);
        self.v.push(v);
        self.t.push(t);
        self.added.push(added);
    }
}

/// What the schema promises of attributes, for speed and space. None is ever
/// needed for a right answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Never, at any t, did two facts of one entity hold together: cardinality
    /// one since the attribute was installed. Reads as of a past t stop at the
    /// first interval that can hold.
    pub single: HashSet<AttrId>,
    /// Intervals that have ended need not be kept in the indexes. (The log keeps them.)
    pub no_history: HashSet<AttrId>,
}

/// When novelty moves into the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// Only when asked to.
    Never,
    /// With every flush, before it returns. For tests.
    Always,
    /// In the background: after so many facts, or when nothing was written for so long.
    Auto {
        /// Facts in memory that start a checkpoint; writers wait at four to ten times as many, at the more the
        /// larger the database is.
        facts: usize,
        /// Milliseconds without a write that start one.
        idle_ms: u64,
    },
}

/// What a flush promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// What is flushed survives a power cut.
    Full,
    /// What is flushed survives the end of the process, not of the machine.
    Relaxed,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Refuse every write; works in folders that cannot be written.
    pub read_only: bool,
    /// Address space reserved for the indexes; their greatest size.
    pub map_size_bytes: usize,
    /// When novelty moves into the indexes.
    pub checkpoint: Checkpoint,
    /// What a flush promises.
    pub durability: Durability,
    /// Size at which a log segment is closed.
    pub segment_bytes: u64,
    /// Memory for columns; 0 turns the cache off.
    pub cache_bytes: usize,
    /// Failures to provoke, for tests.
    #[doc(hidden)]
    pub faults: Faults,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            read_only: false,
            map_size_bytes: 1 << 40,
            checkpoint: Checkpoint::Auto { facts: 50_000, idle_ms: 5_000 },
            durability: Durability::Full,
            segment_bytes: 64 << 20,
            cache_bytes: 1 << 30,
            faults: Faults::default(),
        }
    }
}
