//! Columns: an attribute's datoms as arrays of cells.

use crate::error::{Res, StorageError};
use crate::scan::plan;
use crate::store::Core;
use crate::types::{At, Prefix, ProbeOut};
use annals_model::{AttrId, Column, Dict, EntityId, Order, codec};
use std::{ops::ControlFlow, sync::Arc};

impl Core {
    pub fn is_cached(&self, _a: AttrId) -> bool {
        false
    }

    pub fn column(&self, at: &At, a: AttrId, order: Order, dict: &Arc<Dict>) -> Res<Arc<Column>> {
        let plan = plan(&Prefix::A(a));
        let sort = plan.sort;
        let mut rows: Vec<(u64, u64, u64, bool)> = Vec::new();
        self.chunks(at, plan, false, &mut |chunk| {
            for (i, t, added) in chunk.datoms(at, sort) {
                let r = &chunk.rows[i as usize];
                let (v, _) = codec::decode(chunk.value(r)).map_err(StorageError::index)?;
                rows.push((r.e, dict.encode(&v), t.0, added));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        match order {
            Order::Eav => rows.sort(),
            Order::Ave => rows.sort_by_key(|r| (r.1, r.0, r.2, r.3)),
        }
        Ok(Arc::new(Column {
            order,
            e: rows.iter().map(|r| r.0).collect(),
            v: rows.iter().map(|r| r.1).collect(),
            t: rows.iter().map(|r| r.2).collect(),
            added: at.view.history.then(|| rows.iter().map(|r| r.3).collect()),
        }))
    }

    pub fn probe(
        &self,
        at: &At,
        a: AttrId,
        order: Order,
        keys: &[u64],
        dict: &Arc<Dict>,
        out: &mut ProbeOut,
    ) -> Res<()> {
        for (i, key) in keys.iter().enumerate() {
            let prefix = match order {
                Order::Eav => Prefix::Ea(EntityId::from_raw(*key), a),
                Order::Ave => Prefix::Av(a, dict.decode(*key)),
            };
            let mut found = Vec::new();
            self.scan(*at, &prefix, &mut |d| {
                found.push((d.e.raw(), dict.encode(&d.v), d.t.0, d.added));
                ControlFlow::Continue(())
            })?;
            found.sort_unstable();
            for (e, v, t, added) in found {
                out.push(i as u32, e, v, t, added);
            }
        }
        Ok(())
    }
}
