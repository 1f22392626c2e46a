//! How to open a database: limits, durability, the clock, and the host
//! functions that transactions may call.
//!
//! The clock comes in here and nowhere else, so that tests own time.

use crate::{
    Connection, Db, OpenError,
    transact::function::{AttrPredicate, EntityPredicate, Registry, TxFunction},
};
use annals_model::{EntityId, Instant, Keyword, Value, tx::TxData};
use std::{path::Path, sync::Arc};

pub use crate::store::{Checkpoint, Durability};

/// Where transaction instants come from.
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Instant;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Instant(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

impl<F: Fn() -> Instant + Send + Sync> Clock for F {
    fn now(&self) -> Instant {
        self()
    }
}

/// What a host function may answer with when it refuses.
pub type HostError = String;

/// How to open a database.
///
/// ```
/// let conn = annals::Options::new().cache_bytes(64 << 20).in_memory()?;
/// assert_eq!(conn.db().t(), annals::T::GENESIS);
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) storage: crate::store::StoreOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) create: bool,
    pub(crate) listener_capacity: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            storage: crate::store::StoreOptions::default(),
            clock: Arc::new(SystemClock),
            registry: Registry::default(),
            create: true,
            listener_capacity: 1024,
        }
    }
}

impl Options {
    /// The defaults: create when absent, full durability, the machine's clock.
    pub fn new() -> Options {
        Options::default()
    }
    /// Opens without the right to write; several processes may.
    pub fn read_only(mut self, yes: bool) -> Options {
        self.storage.read_only = yes;
        self
    }
    /// Whether a missing database is created (the default) or an error.
    pub fn create(mut self, yes: bool) -> Options {
        self.create = yes;
        self
    }
    /// Address space reserved for the indexes, in bytes: their largest size.
    pub fn map_size_bytes(mut self, bytes: usize) -> Options {
        self.storage.map_size_bytes = bytes;
        self
    }
    /// Memory for cached columns, in bytes.
    pub fn cache_bytes(mut self, bytes: usize) -> Options {
        self.storage.cache_bytes = bytes;
        self
    }
    /// When the indexes on disk catch up with the log.
    pub fn checkpoint(mut self, when: Checkpoint) -> Options {
        self.storage.checkpoint = when;
        self
    }
    /// What a commit promises when the machine loses power.
    pub fn durability(mut self, durability: Durability) -> Options {
        self.storage.durability = durability;
        self
    }
    /// Size of one log segment, in bytes.
    pub fn segment_bytes(mut self, bytes: u64) -> Options {
        self.storage.segment_bytes = bytes;
        self
    }
    /// Makes writes or syncs fail on purpose, for tests of failures.
    #[doc(hidden)]
    pub fn faults(mut self, faults: crate::store::Faults) -> Options {
        self.storage.faults = faults;
        self
    }
    /// Takes transaction instants from `clock`.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Options {
        self.clock = Arc::new(clock);
        self
    }
    /// Reports a listener may lag behind before it is served from the log.
    pub fn listener_capacity(mut self, reports: usize) -> Options {
        self.listener_capacity = reports.max(1);
        self
    }
    /// Registers a transaction function: `[:bank/transfer from to 10]` becomes the
    /// forms that `f` returns for the database before the transaction and the arguments.
    pub fn tx_function(
        mut self,
        name: &str,
        f: impl Fn(&Db, &[Value]) -> Result<TxData, HostError> + Send + Sync + 'static,
    ) -> Options {
        self.registry.functions.insert(keyword(name), Arc::new(f) as Arc<TxFunction>);
        self
    }
    /// Registers a predicate for `:db.attr/preds`: does this value pass?
    pub fn attr_predicate(
        mut self,
        name: &str,
        f: impl Fn(&Value) -> Result<(), HostError> + Send + Sync + 'static,
    ) -> Options {
        self.registry.attr_predicates.insert(keyword(name), Arc::new(f) as Arc<AttrPredicate>);
        self
    }
    /// Registers a predicate for `:db.entity/preds`: does this entity of the
    /// database after the transaction pass?
    pub fn entity_predicate(
        mut self,
        name: &str,
        f: impl Fn(&Db, EntityId) -> Result<(), HostError> + Send + Sync + 'static,
    ) -> Options {
        self.registry.entity_predicates.insert(keyword(name), Arc::new(f) as Arc<EntityPredicate>);
        self
    }
    /// Opens the database in this folder.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Connection, OpenError> {
        Connection::open(path.as_ref(), self)
    }
    /// Makes a database without files.
    pub fn in_memory(self) -> Result<Connection, OpenError> {
        Connection::in_memory(self)
    }
}

fn keyword(name: &str) -> Keyword {
    Keyword::new(name.strip_prefix(':').unwrap_or(name))
}
