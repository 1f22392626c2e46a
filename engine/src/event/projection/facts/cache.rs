//! What a projection knows of its own facts, and how a transaction's work is taken out again.
//!
//! 1. Exact: only the projection writes its attributes, and whatever refuses or drops a
//!    transaction gives its [`Undo`] back.

use annals_model::{AttrId, EntityId, Value};
use hashbrown::HashMap;

/// What a projection knows of its own facts: exact, because nobody else writes them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(super) values: HashMap<(EntityId, AttrId), Vec<Value>>,
    pub(super) holders: HashMap<(AttrId, Value), Option<EntityId>>,
    /// Everything the projection ever wrote is here: what is not, does not exist.
    pub(super) complete: bool,
}

/// Entries after which a cache is emptied between transactions.
const CACHE_ENTRIES: usize = 4_000_000;

impl Cache {
    /// The cache of a projection that has written nothing yet.
    pub fn of_new_projection() -> Cache {
        Cache { complete: true, ..Cache::default() }
    }
    /// Every fact that holds: of one that is complete, all the projection ever said and still does.
    pub fn facts(&self) -> impl Iterator<Item = (EntityId, AttrId, &Value)> {
        self.values.iter().flat_map(|((e, a), values)| values.iter().map(|v| (*e, *a, v)))
    }
    /// Takes back what a refused transaction did.
    pub fn undo(&mut self, undo: Undo) {
        for (key, old) in undo.values.into_iter().rev() {
            match old {
                Some(values) => self.values.insert(key, values),
                None => self.values.remove(&key),
            };
        }
        for (key, old) in undo.holders.into_iter().rev() {
            match old {
                Some(holder) => self.holders.insert(key, holder),
                None => self.holders.remove(&key),
            };
        }
    }
    /// Keeps memory bounded; called between transactions.
    pub fn trim(&mut self) {
        if self.values.len() + self.holders.len() > CACHE_ENTRIES {
            *self = Cache::default();
        }
    }
}

/// A key and what stood under it, if anything did.
pub(super) type Before<K, V> = (K, Option<V>);

/// How to take a transaction's work back out of a cache.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    pub(super) values: Vec<Before<(EntityId, AttrId), Vec<Value>>>,
    pub(super) holders: Vec<Before<(AttrId, Value), Option<EntityId>>>,
}
