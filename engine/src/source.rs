//! A [`Db`] as the query engine sees it: the only place where query meets storage.

use crate::{
    Db, bootstrap as boot,
    store::{At, Prefix, ProbeOut},
};
use annals_model::{AttrId, Cell, Column, Datom, Dict, EntityId, Instant, Order, Partition, Schema, T, View};
use annals_query::source::{AttrStats, EntityRows, Probe, Source, SourceError};
use std::sync::Arc;

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> SourceError {
    SourceError(Arc::new(e))
}

fn is_event(e: EntityId) -> bool {
    e.partition() == Some(Partition::Event)
}

impl Db {
    fn at(&self) -> At {
        At { basis: self.snapshot().basis, view: self.view() }
    }

    /// Can storage answer for this attribute alone?
    fn is_plain(&self, a: AttrId) -> bool {
        !boot::is_virtual(a) && !self.is_filtered() && !self.snapshot().overlays(a)
    }

    /// Can storage answer for this entity alone?
    fn is_stored(&self, e: EntityId) -> bool {
        !is_event(e) && !self.is_filtered() && self.snapshot().overlay.is_none()
    }
}

impl Source for Db {
    fn basis_t(&self) -> T {
        Db::basis_t(self)
    }

    fn view(&self) -> View {
        Db::view(self)
    }

    fn schema(&self) -> &Arc<Schema> {
        self.named_schema()
    }

    fn stats(&self, a: AttrId) -> AttrStats {
        if boot::is_virtual(a) {
            let rows = self.shared().hook().map_or(0, |h| h.rows(self, a));
            return AttrStats { rows, cached: false };
        }
        let rows = self.snapshot().attr_rows(self.view(), a);
        AttrStats { rows, cached: self.is_plain(a) && self.shared().store().is_cached(self.at(), a) }
    }

    fn may_have(&self, a: AttrId) -> bool {
        boot::is_virtual(a) || self.snapshot().attr_rows(View { history: true, ..View::NOW }, a) > 0
    }

    fn column(&self, a: AttrId, order: Order, dict: &Arc<Dict>) -> Result<Arc<Column>, SourceError> {
        if self.is_plain(a) {
            return self.snapshot().store.column(self.at(), a, order, dict).map_err(failed);
        }
        let datoms = self.collect(&Prefix::A(a)).map_err(failed)?;
        let mut rows: Vec<(u64, Cell, u64, bool)> =
            datoms.iter().map(|d| (d.e.raw(), dict.encode(&d.v), d.t.0, d.added)).collect();
        match order {
            Order::Eav => rows.sort_unstable(),
            Order::Ave => rows.sort_unstable_by_key(|(e, v, t, added)| (*v, *e, *t, *added)),
        }
        let mut column = Column::empty(order);
        if self.view().history {
            column.added = Some(rows.iter().map(|r| r.3).collect());
        }
        column.e = rows.iter().map(|r| r.0).collect();
        column.v = rows.iter().map(|r| r.1).collect();
        column.t = rows.iter().map(|r| r.2).collect();
        Ok(Arc::new(column))
    }

    fn probe(
        &self,
        a: AttrId,
        by: Order,
        keys: &[u64],
        dict: &Arc<Dict>,
        out: &mut Probe,
    ) -> Result<(), SourceError> {
        if self.is_plain(a) {
            let mut found = ProbeOut {
                key: std::mem::take(&mut out.key),
                e: std::mem::take(&mut out.e),
                v: std::mem::take(&mut out.v),
                t: std::mem::take(&mut out.t),
                added: std::mem::take(&mut out.added),
            };
            let done = self.snapshot().store.probe(self.at(), a, by, keys, dict, &mut found);
            *out = Probe { key: found.key, e: found.e, v: found.v, t: found.t, added: found.added };
            return done.map_err(failed);
        }
        for (i, key) in keys.iter().enumerate() {
            let prefix = match by {
                // Nothing but an event has an attribute that is computed from one: a wildcard asks of every entity.
                Order::Eav if boot::is_virtual(a) && !is_event(EntityId::from_raw(*key)) => continue,
                Order::Eav => Prefix::Ea(EntityId::from_raw(*key), a),
                Order::Ave => Prefix::Av(a, dict.decode(*key)),
            };
            let mut rows: Vec<(u64, Cell, u64, bool)> = self
                .collect(&prefix)
                .map_err(failed)?
                .iter()
                .map(|d| (d.e.raw(), dict.encode(&d.v), d.t.0, d.added))
                .collect();
            rows.sort_unstable();
            for (e, v, t, added) in rows {
                out.key.push(i as u32);
                out.e.push(e);
                out.v.push(v);
                out.t.push(t);
                out.added.push(added);
            }
        }
        Ok(())
    }

    fn entity(&self, e: EntityId) -> Result<Vec<Datom>, SourceError> {
        self.collect(&Prefix::E(e)).map_err(failed)
    }

    fn entity_rows(&self, e: EntityId, dict: &Arc<Dict>, out: &mut EntityRows) -> Result<(), SourceError> {
        if !self.is_stored(e) {
            out.fill(&Source::entity(self, e)?, dict);
            return Ok(());
        }
        out.clear();
        let store = &self.snapshot().store;
        let each = &mut |a, v, t, added| out.push(a, v, t, added);
        store.entity_cells(self.at(), e, dict, each).map_err(failed)
    }

    fn t_at(&self, i: Instant) -> Result<T, SourceError> {
        self.snapshot().t_at(i).map_err(failed)
    }

    fn log(&self, from: T, to: T) -> Result<Vec<(T, Vec<Datom>)>, SourceError> {
        let records = self.snapshot().log(from, to).map_err(failed)?;
        Ok(records.into_iter().map(|r| (r.t, r.datoms.clone())).collect())
    }
}
