//! Reading an index from a place on, forwards or backwards.
//!
//! 1. Components that are given say where to begin; those that are not are before everything forwards, after
//!    everything backwards.
//! 2. Nothing before the place is read: entities are found in their tree, values in that of their attribute.
//!    (AEVT has no tree of its own. There the first attribute is read whole, and what precedes the place in it
//!    is left out.)
//! 3. VAET is a merge of the reference attributes, each read some values at a time.

use crate::{
    Db, DbError,
    read::{Components, Found, Index, IntoIndex},
    snapshot::Visit,
    store::Prefix,
};
use annals_model::{AttrId, Datom, EntityId, Value};
use std::{
    cmp::Ordering,
    collections::VecDeque,
    ops::{Bound, ControlFlow},
};

/// Datoms that a merge of attributes reads of each at a time, at least.
const SOME: usize = 256;

impl Db {
    /// The visible datoms from these components to the end of the index, across
    /// entities and attributes, until `visit` breaks.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// let conn = annals::in_memory()?;
    /// let db = conn.transact("[{:db/ident :color/red} {:db/ident :color/blue}]")?.db_after().clone();
    /// let red = annals::Value::Ref(db.entid("color/red").unwrap());
    /// let mut found = Vec::new();
    /// db.seek_datoms("eavt", &[red], &mut |d| {
    ///     found.push(d.v);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(found, [annals::Value::keyword("color/red"), annals::Value::keyword("color/blue")]);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn seek_datoms(
        &self,
        index: impl IntoIndex,
        components: &[Value],
        visit: &mut dyn FnMut(Datom) -> ControlFlow<()>,
    ) -> Result<(), DbError> {
        self.seek_index(index.into_index()?, components, false, visit)
    }

    /// The same from these components back to the beginning of the index: datoms that
    /// begin with them come first, in reverse.
    pub fn rseek_datoms(
        &self,
        index: impl IntoIndex,
        components: &[Value],
        visit: &mut dyn FnMut(Datom) -> ControlFlow<()>,
    ) -> Result<(), DbError> {
        self.seek_index(index.into_index()?, components, true, visit)
    }

    fn seek_index(
        &self,
        index: Index,
        components: &[Value],
        back: bool,
        visit: Visit<'_>,
    ) -> Result<(), DbError> {
        let Found::Components(c) = self.components(index, components)? else { return Ok(()) };
        let too_soon = if back { Ordering::Greater } else { Ordering::Less };
        let visit = &mut |d: Datom| match compare(&d, &c, index) == too_soon {
            true => ControlFlow::Continue(()),
            false => visit(d),
        };
        match index {
            Index::Eavt => {
                let end = if back { EntityId::from_raw(u64::MAX) } else { EntityId::from_raw(0) };
                self.seek(c.e.unwrap_or(end), back, visit)
            }
            Index::Aevt => {
                let all = self.schema().attributes().map(|a| a.id).collect();
                for a in from(all, &c, back) {
                    let stopped = match back {
                        false => self.stopping(&Prefix::A(a), visit)?,
                        true => self
                            .collect(&Prefix::A(a))?
                            .into_iter()
                            .rev()
                            .try_for_each(&mut *visit)
                            .is_break(),
                    };
                    if stopped {
                        break;
                    }
                }
                Ok(())
            }
            Index::Avet => {
                for a in from(self.indexed_attributes(), &c, back) {
                    let first = c.v.as_ref().filter(|_| c.a.as_ref().is_some_and(|of| of.id == a));
                    let (lo, hi) = bounds(first, back);
                    let mut stopped = false;
                    self.range(a, lo, hi, back, &mut |d| {
                        let flow = visit(d);
                        stopped = flow.is_break();
                        flow
                    })?;
                    if stopped {
                        break;
                    }
                }
                Ok(())
            }
            Index::Vaet => self.by_reference(c.v.as_ref(), back, visit),
        }
    }

    /// Every visible reference, by referenced entity, from `first` on.
    pub(crate) fn by_reference(
        &self,
        first: Option<&Value>,
        back: bool,
        visit: Visit<'_>,
    ) -> Result<(), DbError> {
        let mut all = Vec::new();
        for a in self.ref_attributes() {
            let left = Some(first.map_or(Bound::Unbounded, |v| Bound::Included(v.clone())));
            all.push(Values { db: self, a, back, left, read: VecDeque::new() });
        }
        loop {
            let mut next: Option<(usize, Value)> = None;
            for (i, values) in all.iter_mut().enumerate() {
                let Some(v) = values.first()? else { continue };
                // Attributes are in order, so of equal values the first is next; backwards, the last.
                let nearer = next.as_ref().is_none_or(|(_, best)| if back { v >= best } else { v < best });
                if nearer {
                    next = Some((i, v.clone()));
                }
            }
            let Some((i, v)) = next else { return Ok(()) };
            let read = &mut all[i].read;
            while read.front().is_some_and(|d| d.v == v) {
                if read.pop_front().map(&mut *visit) == Some(ControlFlow::Break(())) {
                    return Ok(());
                }
            }
        }
    }
}

/// Attributes from the given one on.
fn from(mut all: Vec<AttrId>, c: &Components, back: bool) -> Vec<AttrId> {
    all.sort_unstable();
    if let Some(a) = &c.a {
        all.retain(|x| if back { *x <= a.id } else { *x >= a.id });
    }
    if back {
        all.reverse();
    }
    all
}

fn bounds<V>(first: Option<V>, back: bool) -> (Bound<V>, Bound<V>) {
    let first = first.map_or(Bound::Unbounded, Bound::Included);
    if back { (Bound::Unbounded, first) } else { (first, Bound::Unbounded) }
}

/// A datom against the components that are given, in the order of the index.
fn compare(d: &Datom, c: &Components, index: Index) -> Ordering {
    let e = || c.e.map_or(Ordering::Equal, |e| d.e.cmp(&e));
    let a = || c.a.as_ref().map_or(Ordering::Equal, |a| d.a.cmp(&a.id));
    let v = || c.v.as_ref().map_or(Ordering::Equal, |v| d.v.cmp(v));
    let t = || c.t.map_or(Ordering::Equal, |t| d.t.cmp(&t));
    match index {
        Index::Eavt => e().then_with(a).then_with(v).then_with(t),
        Index::Aevt => a().then_with(e).then_with(v).then_with(t),
        Index::Avet => a().then_with(v).then_with(e).then_with(t),
        Index::Vaet => v().then_with(a).then_with(e).then_with(t),
    }
}

/// One attribute in the order of values, whole values at a time.
struct Values<'d> {
    db: &'d Db,
    a: AttrId,
    back: bool,
    /// Where the unread part begins; none when all is read.
    left: Option<Bound<Value>>,
    read: VecDeque<Datom>,
}

impl Values<'_> {
    /// The next value.
    fn first(&mut self) -> Result<Option<&Value>, DbError> {
        if self.read.is_empty()
            && let Some(left) = self.left.take()
        {
            let (lo, hi) = match self.back {
                true => (Bound::Unbounded, left.as_ref()),
                false => (left.as_ref(), Bound::Unbounded),
            };
            // What is speculated is merged with all that is stored: read that once.
            let some = if self.db.snapshot().overlay.is_some() { usize::MAX } else { SOME };
            let (read, mut rest) = (&mut self.read, None);
            self.db.range(self.a, lo, hi, self.back, &mut |d| {
                if read.len() >= some && read.back().is_some_and(|last: &Datom| last.v != d.v) {
                    rest = read.back().map(|last| Bound::Excluded(last.v.clone()));
                    return ControlFlow::Break(());
                }
                read.push_back(d);
                ControlFlow::Continue(())
            })?;
            self.left = rest;
        }
        Ok(self.read.front().map(|d| &d.v))
    }
}
