//! What a transaction did.

use crate::{
    Db,
    shared::Shared,
    store::{Record, Row},
};
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
    before: Lazy,
    after: Lazy,
    tempids: Vec<(Arc<str>, EntityId)>,
    /// The tempids by name, made when the first one is asked for.
    by_name: OnceLock<HashMap<Arc<str>, EntityId>>,
}

/// A database value, perhaps not made before somebody asks.
struct Lazy {
    made: OnceLock<Db>,
    /// What makes it, and as of when.
    from: Option<(Arc<Shared>, T)>,
}

impl Lazy {
    fn of(db: Db) -> Lazy {
        Lazy { made: OnceLock::from(db), from: None }
    }
    fn later(shared: &Arc<Shared>, t: T) -> Lazy {
        Lazy { made: OnceLock::new(), from: Some((shared.clone(), t)) }
    }
    fn get(&self) -> &Db {
        self.made.get_or_init(|| {
            let (shared, t) = self.from.as_ref().expect("a value is made, or there is what makes it");
            shared.db_at(*t)
        })
    }
}

impl TxReport {
    /// The report of a record of the log, whose tempids nobody remembers. Reading a log is
    /// about the datoms; the databases around them are made when asked for.
    pub(crate) fn of_log(shared: &Arc<Shared>, record: Record) -> TxReport {
        let t = record.t;
        TxReport(Arc::new(Inner {
            record: Arc::new(record),
            before: Lazy::later(shared, T(t.0.saturating_sub(1))),
            after: Lazy::later(shared, t),
            tempids: Vec::new(),
            by_name: OnceLock::new(),
        }))
    }

    pub(crate) fn new(
        record: Arc<Record>,
        before: Db,
        after: Db,
        tempids: Vec<(Arc<str>, EntityId)>,
    ) -> TxReport {
        let (before, after) = (Lazy::of(before), Lazy::of(after));
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
        self.0.before.get()
    }
    /// The database right after it.
    pub fn db_after(&self) -> &Db {
        self.0.after.get()
    }
    /// What it asserted and retracted, its instant first.
    pub fn tx_data(&self) -> &[Datom] {
        &self.0.record.datoms
    }
    /// Did it take facts or events out of the log itself? Then what was read before it, of any t, may have held
    /// what is gone; its own datoms are only the reason given.
    pub fn excises(&self) -> bool {
        self.0.record.rows.iter().any(|row| row.table == Row::STORAGE)
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
