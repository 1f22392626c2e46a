//! What a projection knows of its own facts, and how a transaction's work is taken out again.
//!
//! 1. Exact: only the projection writes its attributes, and whatever refuses or drops a
//!    transaction gives its [`Undo`] back.

use annals_model::{AttrId, EntityId, Value};
use hashbrown::HashMap;
use smallvec::SmallVec;

/// The values an entity holds of an attribute: mostly one.
pub(super) type Values = SmallVec<[Value; 1]>;

/// What a projection knows of its own facts: exact, because nobody else writes them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(super) values: HashMap<(EntityId, AttrId), Values>,
    pub(super) holders: HashMap<(AttrId, Value), Option<EntityId>>,
    /// Every value the projection ever wrote is here: what is not, does not exist.
    pub(super) all_values: bool,
    /// Every holder is.
    pub(super) all_holders: bool,
    /// Of entities that no unique value names. Few come back to such an entity: what is known
    /// of it is let go after the transaction.
    pub(super) nameless: Vec<(EntityId, AttrId)>,
}

/// Entries after which a cache is emptied between transactions: some 150 MB.
const CACHE_ENTRIES: usize = 1_000_000;

impl Cache {
    /// The cache of a projection that has written nothing yet.
    pub fn of_new_projection() -> Cache {
        Cache { all_values: true, all_holders: true, ..Cache::default() }
    }
    /// Every fact that holds: of one that was never trimmed, all the projection ever said and still does.
    pub fn facts(&self) -> impl Iterator<Item = (EntityId, AttrId, &Value)> {
        self.values.iter().flat_map(|((e, a), values)| values.iter().map(|v| (*e, *a, v)))
    }
    /// Entities' attributes that are remembered: at least one for each fact but those of one with many values.
    pub fn entries(&self) -> usize {
        self.values.len()
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
    /// Keeps memory bounded. Called when what the last transaction said can be read from the
    /// database that the next one is made from.
    pub fn trim(&mut self) {
        for key in std::mem::take(&mut self.nameless) {
            self.values.remove(&key);
            self.all_values = false;
        }
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
    pub(super) values: Vec<Before<(EntityId, AttrId), Values>>,
    pub(super) holders: Vec<Before<(AttrId, Value), Option<EntityId>>>,
}
