//! The datoms of some keys: by seeks, or from the whole column once that is the cheaper way.

use super::{data::gallop, past};
use crate::error::{Res, StorageError};
use crate::rows::Rows;
use crate::scan::plan;
use crate::store::Core;
use crate::types::{At, Prefix, ProbeOut};
use annals_model::{AttrId, Column, Dict, EntityId, Order, codec};
use std::sync::Arc;

/// Keys of a probe for which seeks beat bringing a stale column up to date.
const FEW_KEYS: usize = 64;
/// A probe reads the whole column when it asks for more than one row in this many.
pub(super) const SCAN_RATIO: u64 = 16;
/// Views of the past whose probes are counted.
const MAX_PAST: usize = 1024;

impl Core {
    /// `keep`: whether a column of the past is worth memory after this read.
    #[expect(clippy::too_many_arguments, reason = "each is a part of one question")]
    pub fn probe(
        &self,
        at: &At,
        a: AttrId,
        order: Order,
        keys: &[u64],
        dict: &Arc<Dict>,
        keep: bool,
        out: &mut ProbeOut,
    ) -> Res<()> {
        if self.cacheable(at, a) && self.column_pays(at, a, keys.len(), keep) {
            let c = self.column(at, a, order, dict, keep)?;
            gallop_keys(&c, keys, out);
            return Ok(());
        }
        let had = out.e.len();
        if order == Order::Eav && self.is_past(at) {
            let mut found = Vec::new();
            if self.points(at, a, keys, dict, keep, &mut |i, v, t| found.push((i as u32, v, t.0)))? {
                found.sort_unstable();
                for (i, v, t) in found {
                    out.push(i, keys[i as usize], v, t, true);
                }
                return Ok(());
            }
        }
        // A few keys a snapshot, so that no reader is held for long.
        let mut rows = Rows::default();
        let mut found = Vec::new();
        for (n, some) in keys.chunks(256).enumerate() {
            let layers = self.layers()?;
            let locked = layers.lock();
            for (i, key) in some.iter().enumerate() {
                let plan = plan(&match order {
                    Order::Eav => Prefix::Ea(EntityId::from_raw(*key), a),
                    Order::Ave => Prefix::Av(a, dict.decode(*key)),
                });
                locked.gather(at, &plan.want, plan.sort, &mut rows)?;
                found.clear();
                for (row, t, added) in rows.datoms(at, plan.sort) {
                    let r = &rows.rows[row as usize];
                    let v = match order {
                        Order::Ave => *key,
                        Order::Eav => {
                            dict.encode(&codec::decode(rows.value(r)).map_err(StorageError::index)?.0)
                        }
                    };
                    found.push((r.e, v, t.0, added));
                }
                found.sort_unstable();
                for (e, v, t, added) in &found {
                    out.push((n * 256 + i) as u32, *e, *v, *t, *added);
                }
            }
        }
        let mut map = self.cache.map.lock();
        let asked = match self.is_present(at) {
            true => map.asked.get_mut(&a),
            false => map.asked_past.get_mut(&past(at, a)),
        };
        if let Some(asked) = asked {
            *asked += (out.e.len() - had) as u64;
        }
        Ok(())
    }

    /// Does the view show what holds now?
    fn is_present(&self, at: &At) -> bool {
        at.is_moment() && at.view.upto(at.basis) >= self.basis()
    }

    /// Does the view show what held at a t before the newest?
    pub(super) fn is_past(&self, at: &At) -> bool {
        at.is_moment() && at.view.upto(at.basis) < self.basis()
    }

    /// Is the whole column the cheaper way to answer a probe?
    fn column_pays(&self, at: &At, a: AttrId, keys: usize, keep: bool) -> bool {
        let rows = self.stats.read().attrs.get(&a).map_or(0, |r| r.current + r.closed);
        if keys as u64 * SCAN_RATIO > rows && rows > 0 {
            return true;
        }
        let present = self.is_present(at);
        let mut map = self.cache.map.lock();
        let map = &mut *map;
        let asked = if present {
            if map.slots.get(&a).is_some_and(|s| s.bytes > 0 && (s.pending.is_empty() || keys > FEW_KEYS)) {
                return true;
            }
            // Between two changes of the attribute only, so that writing never loads a column.
            map.asked.entry(a).or_default()
        } else {
            let (_, upto, view) = past(at, a);
            if map.pins.has(a, upto, view) {
                return true;
            }
            if !keep {
                return false;
            }
            if map.asked_past.len() >= MAX_PAST {
                map.asked_past.clear();
            }
            map.asked_past.entry((a, upto, view)).or_default()
        };
        // Small probes add up: once they have cost what loading does, load (as one rents skis).
        *asked += keys as u64 * SCAN_RATIO;
        let pays = *asked > rows && rows > 0;
        if pays {
            *asked = 0;
        }
        pays
    }
}

fn gallop_keys(c: &Column, keys: &[u64], out: &mut ProbeOut) {
    let have = c.keys();
    let mut at = 0;
    for (i, key) in keys.iter().enumerate() {
        at = gallop(at, have.len(), |j| have[j] < *key);
        let mut j = at;
        while j < have.len() && have[j] == *key {
            out.push(i as u32, c.e[j], c.v[j], c.t[j], c.op(j));
            j += 1;
        }
        at = j;
    }
}
