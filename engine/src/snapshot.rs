//! What every read goes through: a store at a fixed basis, and on top of it the
//! transactions of a speculative database that were never written.
//!
//! 1. A snapshot answers the same for ever: the store ignores what is newer than
//!    `basis`, and an overlay is immutable.
//! 2. Overlay transactions have the numbers `basis + 1 ..`; their datoms are
//!    already diffed (no redundant assertion, every replaced value retracted).
//!
//! Not here: which facts a view shows ([`annals_model::view`]), schema.

use crate::store::{At, Prefix, Record, StorageError, Store};
use annals_model::{AttrId, Datom, EntityId, Instant, T, Value, View};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, ControlFlow},
    sync::Arc,
};

/// Datoms read at a time, at least, where speculation is merged into a seek.
const SEEK: usize = 2048;

/// Receives datoms until it breaks.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(Datom) -> ControlFlow<()>;

/// A fact of an overlay, and when it was asserted and retracted.
type Entry<'a> = (&'a (EntityId, AttrId, Value), &'a Vec<(T, bool)>);
/// A fact that an overlay asserts or retracts.
type Touched<'a> = (EntityId, AttrId, &'a Value);

/// A store at a basis, with what was speculated on top.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub store: Store,
    /// The newest transaction of the store that is visible.
    pub basis: T,
    pub overlay: Option<Arc<Overlay>>,
}

/// Transactions held in memory only.
#[derive(Default)]
pub(crate) struct Overlay {
    records: Vec<Arc<Record>>,
    changes: BTreeMap<(EntityId, AttrId, Value), Vec<(T, bool)>>,
    by_value: BTreeSet<(AttrId, Value, EntityId)>,
}

impl Overlay {
    /// This overlay and one transaction more.
    pub fn with(base: Option<&Arc<Overlay>>, record: Arc<Record>) -> Overlay {
        let mut o = match base {
            Some(o) => Overlay {
                records: o.records.clone(),
                changes: o.changes.clone(),
                by_value: o.by_value.clone(),
            },
            None => Overlay::default(),
        };
        for d in &record.datoms {
            o.changes.entry((d.e, d.a, d.v.clone())).or_default().push((d.t, d.added));
            o.by_value.insert((d.a, d.v.clone(), d.e));
        }
        o.records.push(record);
        o
    }

    fn touched<'a>(&'a self, p: &Prefix) -> Box<dyn Iterator<Item = Touched<'a>> + 'a> {
        let least = Value::Nil;
        let flat = |((e, a, v), _): Entry<'a>| (*e, *a, v);
        match p {
            Prefix::All => Box::new(self.changes.iter().map(flat)),
            Prefix::E(e) => {
                let e = *e;
                let from = (e, AttrId::new(0), least);
                Box::new(self.changes.range(from..).map(flat).take_while(move |k| k.0 == e))
            }
            Prefix::Ea(e, a) => {
                let (e, a) = (*e, *a);
                Box::new(
                    self.changes.range((e, a, least)..).map(flat).take_while(move |k| k.0 == e && k.1 == a),
                )
            }
            Prefix::Eav(e, a, v) => {
                Box::new(self.changes.get_key_value(&(*e, *a, v.clone())).map(flat).into_iter())
            }
            Prefix::A(a) => {
                let a = *a;
                let from = (a, least, EntityId::from_raw(0));
                Box::new(
                    self.by_value.range(from..).take_while(move |k| k.0 == a).map(|(a, v, e)| (*e, *a, v)),
                )
            }
            Prefix::Av(a, v) => {
                let (a, v) = (*a, v.clone());
                let from = (a, v.clone(), EntityId::from_raw(0));
                Box::new(
                    self.by_value
                        .range(from..)
                        .take_while(move |k| k.0 == a && k.1 == v)
                        .map(|(a, v, e)| (*e, *a, v)),
                )
            }
        }
    }
}

impl Snapshot {
    /// The newest transaction, speculated ones included.
    pub fn t(&self) -> T {
        match &self.overlay {
            Some(o) => T(self.basis.0 + o.records.len() as u64),
            None => self.basis,
        }
    }

    fn at(&self, view: View) -> At {
        At { basis: self.basis, view }
    }

    /// Every visible datom with the prefix, in the order of the index that serves it.
    pub fn scan(&self, view: View, p: &Prefix, visit: Visit) -> Result<(), StorageError> {
        let Some(overlay) = &self.overlay else {
            return self.store.scan(self.at(view), p, visit);
        };
        if overlay.touched(p).next().is_none() {
            return self.store.scan(self.at(view), p, visit);
        }
        let mut found = Vec::new();
        self.store.scan(self.at(view), p, &mut |d| {
            found.push(d);
            ControlFlow::Continue(())
        })?;
        self.merge(view, overlay.touched(p), &mut found);
        match p {
            Prefix::A(_) => found.sort_by(|x, y| (x.e, &x.v, x.t, x.added).cmp(&(y.e, &y.v, y.t, y.added))),
            _ => found.sort(),
        }
        for d in found {
            if visit(d).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn merge<'a>(&self, view: View, touched: impl Iterator<Item = Touched<'a>>, found: &mut Vec<Datom>) {
        let Some(overlay) = &self.overlay else { return };
        let newest = self.t();
        let upto = view.upto(newest);
        let mut gone = BTreeSet::new();
        let mut fresh = Vec::new();
        for (e, a, v) in touched {
            let key = (e, a, v.clone());
            let ops = overlay.changes.get(&key).map_or(&[][..], Vec::as_slice);
            if view.history {
                let shown = ops.iter().filter(|(t, _)| view.shows(*t, newest));
                fresh.extend(shown.map(|(t, added)| Datom { e, a, v: v.clone(), t: *t, added: *added }));
                continue;
            }
            let Some((t, added)) = ops.iter().rfind(|(t, _)| *t <= upto) else { continue };
            if *added && view.since.is_none_or(|s| *t > s) {
                fresh.push(Datom { e, a, v: v.clone(), t: *t, added: true });
            }
            gone.insert(key);
        }
        if !gone.is_empty() {
            found.retain(|d| !gone.contains(&(d.e, d.a, d.v.clone())));
        }
        found.append(&mut fresh);
    }

    /// Every visible datom of an entity and of those after it, by entity, attribute and value; or,
    /// backwards, of it and those before.
    pub fn seek(&self, view: View, e: EntityId, back: bool, visit: Visit) -> Result<(), StorageError> {
        let Some(overlay) = &self.overlay else {
            return self.store.seek(self.at(view), e, back, visit);
        };
        let mut from = e;
        loop {
            // Whole entities, a few at a time; the rest begins with `next`.
            let (mut found, mut next) = (Vec::<Datom>::new(), None);
            self.store.seek(self.at(view), from, back, &mut |d| {
                if found.len() >= SEEK && found.last().is_some_and(|last| last.e != d.e) {
                    next = Some(d.e);
                    return ControlFlow::Break(());
                }
                found.push(d);
                ControlFlow::Continue(())
            })?;
            let inside = |e: EntityId| match back {
                true => e <= from && next.is_none_or(|next| e > next),
                false => e >= from && next.is_none_or(|next| e < next),
            };
            let touched = overlay.changes.keys().filter(|k| inside(k.0)).map(|(e, a, v)| (*e, *a, v));
            self.merge(view, touched, &mut found);
            found.sort();
            if back {
                found.reverse();
            }
            if found.into_iter().try_for_each(&mut *visit).is_break() {
                return Ok(());
            }
            match next {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    /// Every visible datom of an attribute with a value in the range, in order of value.
    pub fn range(
        &self,
        view: View,
        a: AttrId,
        from: Bound<&Value>,
        to: Bound<&Value>,
        reverse: bool,
        visit: Visit,
    ) -> Result<(), StorageError> {
        use std::ops::RangeBounds;
        let Some(overlay) = &self.overlay else {
            return self.store.range(self.at(view), a, from, to, reverse, visit);
        };
        let mut found = Vec::new();
        self.store.range(self.at(view), a, from, to, false, &mut |d| {
            found.push(d);
            ControlFlow::Continue(())
        })?;
        let touched = overlay.touched(&Prefix::A(a)).filter(|(_, _, v)| (from, to).contains(*v));
        self.merge(view, touched, &mut found);
        found.sort_by(|x, y| (&x.v, x.e, x.t, x.added).cmp(&(&y.v, y.e, y.t, y.added)));
        if reverse {
            found.reverse();
        }
        for d in found {
            if visit(d).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The visible datoms with the prefix, collected.
    pub fn datoms(&self, view: View, p: &Prefix) -> Result<Vec<Datom>, StorageError> {
        let mut found = Vec::new();
        self.scan(view, p, &mut |d| {
            found.push(d);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The first visible datom with the prefix.
    pub fn first(&self, view: View, p: &Prefix) -> Result<Option<Datom>, StorageError> {
        let mut found = None;
        self.scan(view, p, &mut |d| {
            found = Some(d);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The value of the first fact that holds now of each of these attributes of entities. Cheaper than
    /// [`Snapshot::first`] for each, most so when they are in order, and for the record that changes them.
    pub fn held(&self, pairs: &[(EntityId, AttrId)]) -> Result<Vec<Option<Value>>, StorageError> {
        if self.overlay.is_some() {
            let first = |(e, a): &(EntityId, AttrId)| self.first(View::NOW, &Prefix::Ea(*e, *a));
            return pairs.iter().map(|pair| Ok(first(pair)?.map(|d| d.v))).collect();
        }
        let mut held = vec![None; pairs.len()];
        self.store.held(self.basis, pairs, &mut |i, v| held[i] = Some(v))?;
        Ok(held)
    }

    /// How many visible datoms an attribute has, nearly.
    pub fn attr_rows(&self, view: View, a: AttrId) -> u64 {
        let more = self.overlay.as_ref().map_or(0, |o| o.touched(&Prefix::A(a)).count() as u64);
        self.store.attr_rows(self.at(view), a) + more
    }

    /// Does the overlay say anything of this attribute?
    pub fn overlays(&self, a: AttrId) -> bool {
        self.overlay.as_ref().is_some_and(|o| o.touched(&Prefix::A(a)).next().is_some())
    }

    /// The instant of a transaction.
    pub fn instant_of(&self, t: T) -> Result<Option<Instant>, StorageError> {
        if t > self.basis {
            let found = self.overlay.as_ref().and_then(|o| o.records.iter().find(|r| r.t == t));
            return Ok(found.map(|r| r.instant));
        }
        self.store.instant_of(t)
    }

    /// The newest transaction whose instant is not later.
    pub fn t_at(&self, i: Instant) -> Result<T, StorageError> {
        let over = self.overlay.as_ref().and_then(|o| o.records.iter().rfind(|r| r.instant <= i));
        match over {
            Some(r) => Ok(r.t),
            None => Ok(self.store.t_at(i)?.min(self.basis)),
        }
    }

    /// The side rows that speculated transactions changed, oldest first.
    pub fn speculated_rows(&self) -> impl DoubleEndedIterator<Item = &crate::store::Row> {
        self.overlay.iter().flat_map(|o| o.records.iter().flat_map(|r| r.rows.iter()))
    }

    /// The log of `[from, to)`.
    pub fn log(&self, from: T, to: T) -> Result<Vec<Arc<Record>>, StorageError> {
        let mut found = Vec::new();
        if from <= self.basis {
            for r in self.store.log(from, to.min(self.basis.next()))? {
                found.push(Arc::new(r?));
            }
        }
        if let Some(o) = &self.overlay {
            found.extend(o.records.iter().filter(|r| r.t >= from && r.t < to).cloned());
        }
        Ok(found)
    }
}
