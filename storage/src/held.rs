//! What the writer asks: which facts of some attributes of some entities hold now. Asked for many at once,
//! and with a note of what lies below novelty, since the record that follows asks for the same rows again.
//!
//! 1. A note says of an attribute of an entity: the layers below the active delta have one open fact of
//!    it, and this is it. A checkpoint moves facts among these layers and changes none, so a note is true
//!    for as long as the delta is the active one.
//! 2. Notes last until the next record is staged. Without them the answer is the same, and costs a search
//!    in LMDB for each fact that is retracted.

use crate::error::{Res, StorageError};
use crate::key::VALUE_MAX;
use crate::novelty::{Delta, Open};
use crate::read::SharedDelta;
use crate::rows::Rows;
use crate::scan::plan;
use crate::store::Core;
use crate::types::{At, Prefix};
use annals_model::{AttrId, EntityId, T, Value, codec};
use hashbrown::HashMap;
use parking_lot::RwLock;
use smallvec::SmallVec;
use std::sync::{Arc, Weak};

/// Pairs looked for under one lock.
const CHUNK: usize = 256;
/// Notes kept at most: speculation leaves some that no record takes.
const MAX_NOTES: usize = 1 << 16;

/// What was found below a delta, by entity and attribute.
#[derive(Default)]
pub(crate) struct Notes {
    /// The active delta when it was found.
    above: Weak<RwLock<Delta>>,
    found: HashMap<(EntityId, AttrId), Note>,
}

/// The one open fact of an attribute of an entity.
pub(crate) struct Note {
    /// Its value as it stands in keys.
    pub v: SmallVec<[u8; 16]>,
    pub open: Open,
}

impl Notes {
    /// What is noted of the layers below a delta.
    pub fn below(&self, active: &SharedDelta) -> Option<&Notes> {
        std::ptr::eq(self.above.as_ptr(), Arc::as_ptr(active)).then_some(self)
    }

    /// The only open fact of an attribute of an entity below, where that is known.
    pub fn of(&self, e: EntityId, a: AttrId) -> Option<&Note> {
        self.found.get(&(e, a))
    }
}

impl Core {
    /// Calls for each pair that has one with the place of the pair and the value of its first fact that
    /// holds at a basis. Cheapest when the pairs are in order.
    pub fn held(
        &self,
        basis: T,
        pairs: &[(EntityId, AttrId)],
        each: &mut dyn FnMut(usize, Value),
    ) -> Res<()> {
        let at = At::now(basis);
        let mut rows = Rows::default();
        let mut found: Vec<(usize, Value)> = Vec::with_capacity(pairs.len().min(CHUNK));
        for (chunk, pairs) in pairs.chunks(CHUNK).enumerate() {
            let layers = self.layers()?;
            let active = layers.deltas.last().expect("a store always has an active delta");
            let mut notes: Vec<((EntityId, AttrId), Note)> = Vec::new();
            {
                let locked = layers.lock();
                // What is newer than the basis would be missing from a note.
                let newest = basis >= self.newest();
                for (i, (e, a)) in pairs.iter().enumerate() {
                    let plan = plan(&Prefix::Ea(*e, *a));
                    locked.gather(&at, &plan.want, plan.sort, &mut rows)?;
                    let Some(row) = rows.rows.first() else { continue };
                    let v = rows.value(row);
                    if let Some((row, known)) = rows.only_below(layers.deltas.len() as u8)
                        && newest
                        && v.len() <= VALUE_MAX
                    {
                        let open = Open { start: row.start, known };
                        notes.push(((*e, *a), Note { v: SmallVec::from_slice(v), open }));
                    }
                    let (v, _) = codec::decode(v).map_err(StorageError::index)?;
                    found.push((chunk * CHUNK + i, v));
                }
            }
            self.note(active, notes);
            for (i, v) in found.drain(..) {
                each(i, v);
            }
        }
        Ok(())
    }

    fn note(&self, active: &SharedDelta, new: Vec<((EntityId, AttrId), Note)>) {
        let mut notes = self.notes.lock();
        if notes.below(active).is_none() {
            *notes = Notes { above: Arc::downgrade(active), found: HashMap::new() };
        }
        if notes.found.len() + new.len() > MAX_NOTES {
            notes.found.clear();
        }
        notes.found.extend(new);
    }
}
