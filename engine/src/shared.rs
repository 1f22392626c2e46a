//! What all values of one database share: its store, its schemas over time, what the program has
//! registered, and the newest durable transaction.
//!
//! 1. The newest transaction moves on only when it is durable ([`Shared::published`]).

use crate::{
    Db, DbError,
    hook::Hook,
    options::Clock,
    query::Prepared,
    schema_cache::{SchemaCache, SchemaInfo},
    snapshot::Snapshot,
    store::Store,
    transact::{Counters, function::Registry},
};
use annals_model::{Instant, T};
use parking_lot::RwLock;
use std::sync::{Arc, OnceLock};

/// What all values of one database share.
pub(crate) struct Shared {
    store: Store,
    schemas: SchemaCache,
    registry: Registry,
    clock: Arc<dyn Clock>,
    hook: OnceLock<Arc<dyn Hook>>,
    events: OnceLock<Arc<crate::event::Events>>,
    prepared: Prepared,
    newest: RwLock<Newest>,
}

/// The newest durable transaction and what it left behind.
struct Newest {
    t: T,
    info: SchemaInfo,
    counters: Counters,
}

impl Shared {
    pub fn new(store: Store, registry: Registry, clock: Arc<dyn Clock>) -> Result<Shared, DbError> {
        let snap = Snapshot { store: store.clone(), basis: store.basis(), overlay: None };
        let schemas = SchemaCache::load(&snap)?;
        let info = schemas.at(snap.t());
        store.set_hints(info.hints());
        let newest = RwLock::new(Newest { t: snap.t(), info, counters: Counters::of(&store) });
        Ok(Shared {
            store,
            schemas,
            registry,
            clock,
            hook: OnceLock::new(),
            events: OnceLock::new(),
            prepared: Prepared::default(),
            newest,
        })
    }
    pub fn store(&self) -> &Store {
        &self.store
    }
    pub fn schemas(&self) -> &SchemaCache {
        &self.schemas
    }
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
    pub fn now(&self) -> Instant {
        self.clock.now()
    }
    pub fn hook(&self) -> Option<&Arc<dyn Hook>> {
        self.hook.get()
    }
    /// Installs the events' answers; once, at open.
    pub fn set_hook(&self, hook: Arc<dyn Hook>) {
        let _ = self.hook.set(hook);
    }
    /// Installs the events of the database; once, at open.
    pub fn set_events(&self, events: Arc<crate::event::Events>) {
        self.set_hook(events.clone());
        let _ = self.events.set(events);
    }
    /// The events of the database.
    pub fn events(&self) -> &Arc<crate::event::Events> {
        self.events.get().expect("set when the connection is made")
    }
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }
    pub fn counters(&self) -> Counters {
        self.newest.read().counters
    }
    /// Notes a transaction that has become durable.
    pub fn published(&self, t: T, counters: Counters, schema: Option<&SchemaInfo>) {
        let mut newest = self.newest.write();
        newest.t = t;
        newest.counters = counters;
        if let Some(info) = schema {
            self.store.set_hints(info.hints());
            newest.info = info.clone();
        }
    }
    /// The present, at the newest durable transaction.
    pub fn newest(self: &Arc<Shared>) -> Db {
        let newest = self.newest.read();
        self.db_with(newest.t, newest.info.clone())
    }
    /// The database as it stood when `basis` was its newest transaction.
    pub fn db_at(self: &Arc<Shared>, basis: T) -> Db {
        self.db_with(basis, self.schemas.at(basis))
    }
    /// The same, for callers that know the schema.
    pub fn db_with(self: &Arc<Shared>, basis: T, info: SchemaInfo) -> Db {
        Db::new(self.clone(), basis, info)
    }
}
