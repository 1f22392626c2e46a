//! The datom: one fact, asserted or retracted by one transaction.

use crate::{AttrId, EntityId, T, Value};

/// `[e a v t added]`.
///
/// `t` is the transaction the fact is *filed under*. It equals the number of
/// the log record that carries the datom, except for facts that a late or
/// rebuilt projection files under the transaction of their origin event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Datom {
    /// The entity.
    pub e: EntityId,
    /// The attribute.
    pub a: AttrId,
    /// The value.
    pub v: Value,
    /// The transaction the fact is filed under.
    pub t: T,
    /// True for an assertion, false for a retraction.
    pub added: bool,
}
