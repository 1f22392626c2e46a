//! Points of the past: an attribute of a few entities as of an earlier t, from the intervals in memory.
//!
//! 1. In the layers a point of the past costs a search of what holds now and one of what has held. Once the points
//!    of an attribute have cost what reading its intervals does, these are read, and a point is a search of arrays:
//!    of any t, not only of one whose column is kept.
//! 2. What the cache cannot answer exactly goes to the layers: whatever `columns` says, and an attribute that
//!    changes between one point and the next.
//! 3. An entity with many intervals is left to the layers, which seek by t; here they stand by value.

use super::{
    Shared,
    data::{Closed, Data},
    probe::SCAN_RATIO,
};
use crate::error::Res;
use crate::scan::Visit;
use crate::store::Core;
use crate::types::At;
use annals_model::{AttrId, Cell, Datom, Dict, EntityId, T};
use smallvec::SmallVec;
use std::sync::Arc;

/// Intervals of one entity that are looked at one by one.
const FEW_INTERVALS: usize = 128;
/// Intervals closed of late, in no order, that are looked at for each point.
const FEW_RECENT: usize = 64;
/// The part of the cache, of how many, that the intervals of one attribute may take.
const PART: u64 = 4;
/// About what an interval takes.
const INTERVAL_BYTES: u64 = 32;

impl Data {
    /// May points be read from here?
    pub(super) fn has_intervals(&self) -> bool {
        self.closed.as_ref().is_some_and(|c| c.unsorted() <= FEW_RECENT)
    }
}

impl Core {
    /// Visits what [`crate::Prefix::Ea`] shows of a past time, in its order; or says that the layers are to be asked.
    pub fn point(&self, at: &At, e: EntityId, a: AttrId, keep: bool, visit: &mut Visit<'_>) -> Res<bool> {
        if !self.is_past(at) {
            return Ok(false);
        }
        let dict = Dict::current();
        let mut found: SmallVec<[(Cell, T); 4]> = SmallVec::new();
        if !self.points(at, a, &[e.raw()], &dict, keep, &mut |_, v, t| found.push((v, t)))? {
            return Ok(false);
        }
        let mut datoms: SmallVec<[Datom; 4]> =
            found.into_iter().map(|(v, t)| Datom { e, a, v: dict.decode(v), t, added: true }).collect();
        if datoms.len() > 1 {
            datoms.sort_unstable();
        }
        let _ = datoms.into_iter().try_for_each(visit);
        Ok(true)
    }

    /// Calls with the place of an entity among `entities`, and the cell and t of each fact of the attribute that
    /// held then: in a view of the past. False when the layers are to be asked instead; nothing counts that was called until then.
    pub fn points(
        &self,
        at: &At,
        a: AttrId,
        entities: &[u64],
        dict: &Arc<Dict>,
        keep: bool,
        each: &mut dyn FnMut(usize, Cell, T),
    ) -> Res<bool> {
        debug_assert!(self.is_past(at));
        if !self.cacheable(at, a) {
            return Ok(false);
        }
        let ready = self.ready(a);
        if ready.is_none() && !self.points_pay(a, entities.len(), keep) {
            return Ok(false);
        }
        let load = ready.is_none();
        let cell = ready.unwrap_or_else(|| self.slot(a));
        let mut data = cell.lock();
        if load {
            self.refresh(a, &cell, &mut data, dict)?;
            let d = data.as_mut().expect("just refreshed");
            match &mut d.closed {
                Some(closed) => closed.sort(),
                None => d.closed = Some(Closed::new(self.load_closed(d.upto, a, dict)?)),
            }
            self.account(at, a, &cell, d, None);
        }
        // Whoever came between may have taken them away.
        let readable = |d: &&Data| d.has_intervals() && Arc::ptr_eq(&d.dict, dict);
        let Some(d) = data.as_ref().filter(readable) else { return Ok(false) };
        let upto = at.view.upto(at.basis);
        let mut found = true;
        for (i, e) in entities.iter().enumerate() {
            found = found && d.then(*e, upto.0, FEW_INTERVALS, &mut |v, t| each(i, v, T(t)));
        }
        // As for columns: who put late facts into what is found here knew of them before.
        Ok(found && self.cacheable(at, a))
    }

    /// The attribute in the cache, if its intervals are there and up to date.
    fn ready(&self, a: AttrId) -> Option<Shared> {
        let mut map = self.cache.map.lock();
        map.clock += 1;
        let clock = map.clock;
        let slot = map.slots.get_mut(&a).filter(|s| s.intervals && s.pending.is_empty())?;
        slot.used = clock;
        Some(slot.data.clone())
    }

    /// Have points by now cost what it costs to read the intervals of the attribute?
    fn points_pay(&self, a: AttrId, n: usize, keep: bool) -> bool {
        let rows = self.stats.read().attrs.get(&a).map_or(0, |r| r.current + r.closed);
        if !keep || rows * INTERVAL_BYTES * PART > self.cache.limit as u64 {
            return false;
        }
        // As one rents skis: what is spent on points before is at most what is spent on the intervals.
        let mut map = self.cache.map.lock();
        let asked = map.asked_points.entry(a).or_default();
        *asked += n as u64 * SCAN_RATIO;
        let pays = *asked > rows;
        if pays {
            *asked = 0;
        }
        pays
    }
}
