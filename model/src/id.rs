//! Ids: entities, attributes, and `t`, the dense number of a transaction.
//!
//! 1. An entity id is `partition << 44 | counter`. Eight bits of partition keep
//!    every id below 2^53, so JSON readers hold it exactly.
//! 2. Attributes live in [`Partition::Db`]; an [`AttrId`] is the counter alone.
//! 3. The entity of transaction `t` is `(Partition::Tx, t)`: tx ids and t are
//!    interchangeable without a lookup.

use std::fmt;

/// Bits of an entity id that hold its counter.
pub const COUNTER_BITS: u32 = 44;
const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

/// What an entity id was allotted for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Partition {
    /// Attributes, built-in idents, and other parts of the database itself.
    Db = 0,
    /// Transactions; the counter is `t`.
    Tx = 1,
    /// Everything users make.
    User = 2,
    /// Domain events; the counter is the global position.
    Event = 3,
}

/// An entity: the `e` of a datom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(u64);

impl EntityId {
    /// The `counter`-th entity of `partition`.
    pub const fn new(partition: Partition, counter: u64) -> EntityId {
        EntityId(((partition as u64) << COUNTER_BITS) | (counter & COUNTER_MASK))
    }

    /// An id as it stands in storage or in user input. Any number below 2^52 is well formed.
    #[inline]
    pub const fn from_raw(raw: u64) -> EntityId {
        EntityId(raw)
    }

    /// The number users see.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The counter within the partition.
    pub const fn counter(self) -> u64 {
        self.0 & COUNTER_MASK
    }

    /// The partition, unless the number was never an id of ours.
    pub const fn partition(self) -> Option<Partition> {
        match self.0 >> COUNTER_BITS {
            0 => Some(Partition::Db),
            1 => Some(Partition::Tx),
            2 => Some(Partition::User),
            3 => Some(Partition::Event),
            _ => None,
        }
    }

    /// `t`, when this entity is a transaction.
    pub const fn as_t(self) -> Option<T> {
        match self.partition() {
            Some(Partition::Tx) => Some(T(self.counter())),
            _ => None,
        }
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An attribute: an entity of [`Partition::Db`], by its counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttrId(u32);

impl AttrId {
    /// The attribute whose entity has this counter.
    pub const fn new(counter: u32) -> AttrId {
        AttrId(counter)
    }
    /// The number stored in keys.
    pub const fn raw(self) -> u32 {
        self.0
    }
    /// The attribute as an entity, so that schema can be queried.
    pub const fn entity(self) -> EntityId {
        EntityId::new(Partition::Db, self.0 as u64)
    }
    /// The attribute an entity would be, if it lies in the schema partition.
    pub fn of_entity(e: EntityId) -> Option<AttrId> {
        match e.partition() {
            Some(Partition::Db) => u32::try_from(e.counter()).ok().map(AttrId),
            _ => None,
        }
    }
}

impl fmt::Debug for AttrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", self.0)
    }
}

/// A transaction number, and so a point in database time: dense, from 0 (the
/// genesis transaction, which installs the attributes that describe attributes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct T(pub u64);

impl T {
    /// The genesis transaction.
    pub const GENESIS: T = T(0);
    /// Later than any transaction: the end of an interval that is still open.
    pub const MAX: T = T((1 << COUNTER_BITS) - 1);
    /// The transaction after this one.
    pub const fn next(self) -> T {
        T(self.0 + 1)
    }
    /// The transaction as an entity.
    pub const fn entity(self) -> EntityId {
        EntityId::new(Partition::Tx, self.0)
    }
}

impl fmt::Debug for T {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl fmt::Display for T {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
