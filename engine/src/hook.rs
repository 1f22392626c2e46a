//! The seam between facts and events: attributes whose datoms are computed, and
//! attributes that belong to a projection.

use crate::{
    Db,
    snapshot::Visit,
    store::{Prefix, StorageError},
};
use annals_model::AttrId;
use std::sync::Arc;

/// Answers for computed attributes (`:event/*`) and for ownership.
///
/// Datoms must come in the order of the prefix's index and obey the view of the
/// database, like any others. Each is asked with an attribute that
/// [`crate::bootstrap::is_virtual`] says is computed, or with the prefix of an
/// entity of the event partition.
pub(crate) trait Hook: Send + Sync {
    /// The computed datoms with this prefix.
    fn scan(&self, db: &Db, p: &Prefix, visit: Visit) -> Result<(), StorageError>;
    /// How many datoms a computed attribute has.
    fn rows(&self, db: &Db, a: AttrId) -> u64;
    /// The projection an attribute belongs to.
    fn owner(&self, a: AttrId) -> Option<Arc<str>>;
}
