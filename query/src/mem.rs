//! A [`Source`] over a plain list of datoms: for tests, examples, and data that
//! never was in a database.
//!
//! 1. The list is the history, in order of t. A fact is asserted at most once
//!    before it is retracted again.
//! 2. Columns are built on first use and kept.

use crate::source::{AttrStats, Probe, Source, SourceError};
use annals_model::{AttrId, Cell, Column, Datom, Dict, EntityId, Instant, Order, Schema, T, View, cell};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// Transactions with their datoms, oldest first.
type Log = Vec<(T, Vec<Datom>)>;
type Columns = HashMap<(AttrId, Order), (Arc<Dict>, Arc<Column>)>;

/// Datoms in memory under one view.
pub struct MemSource {
    schema: Arc<Schema>,
    log: Arc<Log>,
    view: View,
    basis: T,
    visible: BTreeMap<AttrId, Vec<Datom>>,
    columns: Mutex<Columns>,
}

impl MemSource {
    /// The present of these datoms.
    pub fn new(schema: Schema, datoms: Vec<Datom>) -> MemSource {
        let mut log: BTreeMap<T, Vec<Datom>> = BTreeMap::new();
        for d in datoms {
            log.entry(d.t).or_default().push(d);
        }
        MemSource::of(Arc::new(schema), Arc::new(log.into_iter().collect()), View::NOW)
    }

    /// The same datoms under another view.
    pub fn view_as(&self, view: View) -> MemSource {
        MemSource::of(self.schema.clone(), self.log.clone(), view)
    }

    fn of(schema: Arc<Schema>, log: Arc<Log>, view: View) -> MemSource {
        let basis = log.last().map_or(T::GENESIS, |(t, _)| *t);
        let visible = visible(&log, view, basis);
        MemSource { schema, log, view, basis, visible, columns: Mutex::default() }
    }

    fn build(&self, a: AttrId, order: Order, dict: &Arc<Dict>) -> Column {
        let mut rows: Vec<(u64, Cell, u64, bool)> = self
            .visible
            .get(&a)
            .into_iter()
            .flatten()
            .map(|d| (d.e.raw(), dict.encode(&d.v), d.t.0, d.added))
            .collect();
        match order {
            Order::Eav => rows.sort_unstable(),
            Order::Ave => rows.sort_unstable_by_key(|r| (r.1, r.0, r.2, r.3)),
        }
        let mut c = Column::empty(order);
        let mut added = Vec::new();
        for (e, v, t, op) in rows {
            c.e.push(e);
            c.v.push(v);
            c.t.push(t);
            added.push(op);
        }
        c.added = self.view.history.then_some(added);
        c
    }
}

/// Replays the log into the datoms a view shows, grouped by attribute.
fn visible(log: &Log, view: View, basis: T) -> BTreeMap<AttrId, Vec<Datom>> {
    let mut out: BTreeMap<AttrId, Vec<Datom>> = BTreeMap::new();
    if view.history {
        for d in log.iter().flat_map(|(_, ds)| ds).filter(|d| view.shows(d.t, basis)) {
            out.entry(d.a).or_default().push(d.clone());
        }
        return out;
    }
    let mut open: BTreeMap<(EntityId, AttrId, &annals_model::Value), (T, T)> = BTreeMap::new();
    for d in log.iter().flat_map(|(_, ds)| ds).filter(|d| d.t <= view.upto(basis)) {
        let fact = (d.e, d.a, &d.v);
        if d.added {
            open.insert(fact, (d.t, T::MAX));
        } else if let Some((_, end)) = open.get_mut(&fact) {
            *end = d.t;
        }
    }
    for ((e, a, v), (start, end)) in open {
        if view.holds(start, end, basis) {
            out.entry(a).or_default().push(Datom { e, a, v: v.clone(), t: start, added: true });
        }
    }
    out
}

impl Source for MemSource {
    fn basis_t(&self) -> T {
        self.basis
    }
    fn view(&self) -> View {
        self.view
    }
    fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }
    fn stats(&self, a: AttrId) -> AttrStats {
        AttrStats { rows: self.visible.get(&a).map_or(0, |v| v.len() as u64), cached: true }
    }
    fn may_have(&self, a: AttrId) -> bool {
        self.visible.contains_key(&a)
    }
    fn column(&self, a: AttrId, order: Order, dict: &Arc<Dict>) -> Result<Arc<Column>, SourceError> {
        let mut columns = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((d, c)) = columns.get(&(a, order))
            && Arc::ptr_eq(d, dict)
        {
            return Ok(c.clone());
        }
        let c = Arc::new(self.build(a, order, dict));
        columns.insert((a, order), (dict.clone(), c.clone()));
        Ok(c)
    }
    fn probe(
        &self,
        a: AttrId,
        by: Order,
        keys: &[u64],
        dict: &Arc<Dict>,
        out: &mut Probe,
    ) -> Result<(), SourceError> {
        let c = self.column(a, by, dict)?;
        let sorted = c.keys();
        for (k, key) in keys.iter().enumerate() {
            let from = sorted.partition_point(|x| x < key);
            for i in (from..c.len()).take_while(|&i| sorted[i] == *key) {
                out.key.push(k as u32);
                out.e.push(c.e[i]);
                out.v.push(c.v[i]);
                out.t.push(c.t[i]);
                out.added.push(c.op(i));
            }
        }
        Ok(())
    }
    fn entity(&self, e: EntityId) -> Result<Vec<Datom>, SourceError> {
        let mut found: Vec<Datom> = self.visible.values().flatten().filter(|d| d.e == e).cloned().collect();
        found.sort();
        Ok(found)
    }
    fn t_at(&self, i: Instant) -> Result<T, SourceError> {
        let at = |ds: &[Datom], t: T| {
            ds.iter()
                .find(|d| d.e == t.entity() && matches!(&d.v, annals_model::Value::Instant(x) if *x <= i))
                .is_some()
        };
        Ok(self.log.iter().rev().find(|(t, ds)| at(ds, *t)).map_or(T::GENESIS, |(t, _)| *t))
    }
    fn log(&self, from: T, to: T) -> Result<Log, SourceError> {
        Ok(self.log.iter().filter(|(t, _)| *t >= from && *t < to).cloned().collect())
    }
}

/// The cell of an entity's raw id.
pub(crate) const fn entity_cell(raw: u64) -> Cell {
    cell::of_ref(EntityId::from_raw(raw))
}
