//! What a transaction did.

use crate::{Db, store::Record};
use annals_model::{Datom, EntityId, Instant, T};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// The outcome of one transaction. Cheap to clone.
///
/// ```
/// let conn = annals::in_memory()?;
/// let report = conn.transact(r#"[{:db/id "red" :db/ident :color/red}]"#)?;
/// assert_eq!(report.t(), annals::T(1));
/// assert_eq!(report.tempid("red"), report.db_after().entid(":color/red"));
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct TxReport(Arc<Inner>);

struct Inner {
    record: Arc<Record>,
    before: Db,
    after: Db,
    tempids: Vec<(Arc<str>, EntityId)>,
    /// The tempids by name, made when the first one is asked for.
    by_name: OnceLock<HashMap<Arc<str>, EntityId>>,
}

impl TxReport {
    pub(crate) fn new(
        record: Arc<Record>,
        before: Db,
        after: Db,
        tempids: Vec<(Arc<str>, EntityId)>,
    ) -> TxReport {
        TxReport(Arc::new(Inner { record, before, after, tempids, by_name: OnceLock::new() }))
    }
    /// The number of the transaction.
    pub fn t(&self) -> T {
        self.0.record.t
    }
    /// The transaction as an entity.
    pub fn tx(&self) -> EntityId {
        self.0.record.t.entity()
    }
    /// Its `:db/txInstant`.
    pub fn tx_instant(&self) -> Instant {
        self.0.record.instant
    }
    /// The database it was judged against.
    pub fn db_before(&self) -> &Db {
        &self.0.before
    }
    /// The database right after it.
    pub fn db_after(&self) -> &Db {
        &self.0.after
    }
    /// What it asserted and retracted, its instant first.
    pub fn tx_data(&self) -> &[Datom] {
        &self.0.record.datoms
    }
    /// The entity a tempid became.
    pub fn tempid(&self, name: &str) -> Option<EntityId> {
        let by_name = self.0.by_name.get_or_init(|| self.0.tempids.iter().cloned().collect());
        by_name.get(name).copied()
    }
    /// Every tempid with its entity, in the order they were met.
    pub fn tempids(&self) -> impl Iterator<Item = (&str, EntityId)> {
        self.0.tempids.iter().map(|(n, e)| (&**n, *e))
    }
}

impl std::fmt::Debug for TxReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxReport")
            .field("t", &self.0.record.t)
            .field("tx_instant", &self.0.record.instant)
            .field("tx_data", &self.0.record.datoms)
            .field("tempids", &self.0.tempids)
            .finish_non_exhaustive()
    }
}
