//! What can be asked: prefixes, value ranges, counts and side rows, at any
//! basis and view.

use crate::cells::Cells;
use crate::error::Res;
use crate::key::{self, Key, Tree};
use crate::novelty::key_value;
use crate::read::{Layers, Range, Want};
use crate::rows::{Rows, Sort};
use crate::side::SideRows;
use crate::store::Core;
use crate::types::{At, Prefix};
use annals_model::{AttrId, Cell, Datom, Dict, EntityId, T, Value, codec};
use std::{
    cell::RefCell,
    ops::{Bound, ControlFlow},
};

/// Rows of a chunk. Large enough to pay for a snapshot, small enough to stop early.
const CHUNK: usize = 2048;
/// The first chunk is small: many a range is asked for its first row.
const FIRST_CHUNK: usize = 64;
const ROW_CHUNK: usize = 512;

/// What a scan calls with each datom.
pub type Visit<'v> = dyn FnMut(Datom) -> ControlFlow<()> + 'v;

/// What a scan of one entity calls with each attribute, cell of a value, t and op.
pub type VisitCells<'v> = dyn FnMut(AttrId, Cell, T, bool) + 'v;

/// What a scan of side rows calls with each key and value.
pub type VisitRow<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

thread_local! {
    /// Room for the rows of a chunk, between one small read and the next: to allot it would cost as much as
    /// they do. (A read within a read finds it taken, and allots its own.)
    static IDLE: RefCell<Rows> = RefCell::default();
}

/// A question in terms of keys.
pub(crate) struct Plan {
    pub want: Want,
    pub sort: Sort,
    /// May it be read a chunk at a time? Else it is one group, or must be sorted whole.
    chunked: bool,
}

/// The keys that a prefix asks for.
pub(crate) fn plan(p: &Prefix) -> Plan {
    let put_a = |a: &AttrId, out: &mut Vec<u8>| codec::put_uint(u64::from(a.raw()), out);
    let put_ea = |e: &EntityId, a: &AttrId, out: &mut Vec<u8>| {
        codec::put_entity(*e, out);
        put_a(a, out);
    };
    let all_with = |tree, prefix: &[u8], sort, chunked, one| {
        let range = Range::prefix(prefix);
        let want = Want { tree, current: range.clone(), closed: range, one, value: None };
        Plan { want, sort, chunked }
    };
    match p {
        Prefix::All => all_with(Tree::Eav, &[], Sort::Eavt, true, false),
        Prefix::E(e) => {
            let e = key::built(|out| codec::put_entity(*e, out));
            all_with(Tree::Eav, &e, Sort::Eavt, false, false)
        }
        Prefix::Ea(e, a) => {
            all_with(Tree::Eav, &key::built(|out| put_ea(e, a, out)), Sort::Eavt, false, true)
        }
        Prefix::Eav(e, a, v) => {
            let closed = key::built(|out| put_ea(e, a, out));
            let v = key_value(v);
            let current = key::built(|out| {
                out.extend_from_slice(&closed);
                out.extend_from_slice(&v);
            });
            let want = Want {
                tree: Tree::Eav,
                current: Range::prefix(&current),
                closed: Range::prefix(&closed),
                one: true,
                value: Some(v),
            };
            Plan { want, sort: Sort::Eavt, chunked: false }
        }
        Prefix::A(a) => all_with(Tree::Ave, &key::built(|out| put_a(a, out)), Sort::Aevt, false, false),
        Prefix::Av(a, v) => {
            let v = key_value(v);
            let prefix = key::built(|out| {
                put_a(a, out);
                out.extend_from_slice(&v);
            });
            all_with(Tree::Ave, &prefix, Sort::Avet, false, true)
        }
    }
}

/// An attribute in the order of values, in chunks.
pub(crate) fn plan_by_value(a: AttrId) -> Plan {
    let mut prefix = Vec::new();
    codec::put_uint(u64::from(a.raw()), &mut prefix);
    let range = Range::prefix(&prefix);
    let want = Want { tree: Tree::Ave, current: range.clone(), closed: range, one: false, value: None };
    Plan { want, sort: Sort::Avet, chunked: true }
}

impl Core {
    /// Visits the datoms of a prefix in its order.
    pub fn scan(&self, at: At, p: &Prefix, visit: &mut Visit<'_>) -> Res<()> {
        self.run(&at, plan(p), false, visit)
    }

    /// Calls with each datom of an entity in order of attribute, value and t, its value as a cell.
    pub fn entity_cells(&self, at: &At, e: EntityId, dict: &Dict, each: &mut VisitCells<'_>) -> Res<()> {
        let mut cells = Cells::new(dict);
        self.chunks(at, plan(&Prefix::E(e)), false, &mut |rows| {
            rows.visit(at, Sort::Eavt, &mut |r, t, added| {
                each(AttrId::new(r.a), cells.of(rows.value(r))?, t, added);
                Ok(())
            })?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Visits the datoms of an entity and of those after it; or of it and those before, backwards.
    pub fn seek(&self, at: At, e: EntityId, reverse: bool, visit: &mut Visit<'_>) -> Res<()> {
        let mut plan = plan(&Prefix::All);
        let e = key::built(|out| codec::put_entity(e, out));
        for range in [&mut plan.want.current, &mut plan.want.closed] {
            match reverse {
                true => range.to = key::after(&e),
                false => range.from = e.clone(),
            }
        }
        self.run(&at, plan, reverse, visit)
    }

    /// Visits the datoms of an attribute whose values lie between bounds, in the
    /// order of values, then entities; or exactly backwards.
    pub fn range(
        &self,
        at: At,
        a: AttrId,
        from: Bound<&Value>,
        to: Bound<&Value>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Res<()> {
        let mut prefix = Vec::new();
        codec::put_uint(u64::from(a.raw()), &mut prefix);
        let (lo, hi) = (from.map(codec::encoded), to.map(codec::encoded));
        // Cut values sort by their prefix only: take all that share it, and look at each.
        let cut = |v: &Vec<u8>| [&prefix[..], &v[..v.len().min(key::VALUE_MAX)]].concat();
        let all = Range::prefix(&prefix);
        let from = match &lo {
            Bound::Unbounded => all.from,
            Bound::Excluded(v) if v.len() <= key::VALUE_MAX => {
                key::after(&cut(v)).expect("a key that begins with an attribute has one after it")
            }
            Bound::Included(v) | Bound::Excluded(v) => Key::from_slice(&cut(v)),
        };
        let to = match &hi {
            Bound::Unbounded => all.to,
            Bound::Excluded(v) if v.len() <= key::VALUE_MAX => Some(Key::from_slice(&cut(v))),
            Bound::Included(v) | Bound::Excluded(v) => key::after(&cut(v)),
        };
        let range = Range { from, to };
        let want = Want { tree: Tree::Ave, current: range.clone(), closed: range, one: false, value: None };
        let inside = |v: &[u8]| {
            (match &lo {
                Bound::Unbounded => true,
                Bound::Included(lo) => v >= &lo[..],
                Bound::Excluded(lo) => v > &lo[..],
            }) && (match &hi {
                Bound::Unbounded => true,
                Bound::Included(hi) => v <= &hi[..],
                Bound::Excluded(hi) => v < &hi[..],
            })
        };
        let plan = Plan { want, sort: Sort::Avet, chunked: true };
        self.chunks(&at, plan, reverse, &mut |rows| {
            let mut flow = ControlFlow::Continue(());
            visit_rows(rows, &at, Sort::Avet, reverse, &mut |d, v| {
                if inside(v) {
                    flow = visit(d()?);
                }
                Ok(flow)
            })
        })
    }

    fn run(&self, at: &At, plan: Plan, reverse: bool, visit: &mut Visit<'_>) -> Res<()> {
        let sort = plan.sort;
        self.chunks(at, plan, reverse, &mut |rows| {
            visit_rows(rows, at, sort, reverse, &mut |d, _| Ok(visit(d()?)))
        })
    }

    /// Reads what a plan wants, a chunk at a time, with no lock held while `each` runs.
    pub fn chunks(
        &self,
        at: &At,
        plan: Plan,
        reverse: bool,
        each: &mut dyn FnMut(&Rows) -> Res<ControlFlow<()>>,
    ) -> Res<()> {
        let Plan { mut want, sort, chunked } = plan;
        let mut rows = IDLE.take();
        let mut n = FIRST_CHUNK;
        loop {
            let mut rest = None;
            {
                let layers: Layers = self.layers()?;
                let locked = layers.lock();
                let closed = at.view.history || at.view.upto(at.basis) < self.newest();
                let mut now = want.clone();
                if chunked && !reverse {
                    if let Some(end) = locked.chunk_end(&want, closed, n)? {
                        now.current.to = Some(end.clone());
                        now.closed.to = Some(end.clone());
                        want.current.from = end.clone();
                        want.closed.from = end;
                        rest = Some(());
                    }
                } else if chunked
                    && let Some(start) = locked.chunk_start(&want, closed, n)?
                    && start > want.current.from
                {
                    now.current.from = start.clone();
                    now.closed.from = start.clone();
                    want.current.to = Some(start.clone());
                    want.closed.to = Some(start);
                    rest = Some(());
                }
                locked.gather(at, &now, sort, &mut rows)?;
            }
            if each(&rows)?.is_break() || rest.is_none() {
                if rows.is_small() {
                    IDLE.set(rows);
                }
                return Ok(());
            }
            n = CHUNK;
        }
    }

    /// How many datoms a prefix has.
    pub fn count(&self, at: At, p: &Prefix) -> Res<u64> {
        if let Prefix::A(a) = p
            && let Some(n) = self.settled_rows(&at, *a)
        {
            return Ok(n);
        }
        let mut n = 0;
        let plan = plan(p);
        let sort = plan.sort;
        self.chunks(&at, plan, false, &mut |rows| {
            n += if at.view.history { rows.datoms(&at, sort).len() } else { rows.rows.len() } as u64;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(n)
    }

    /// The newest version of a side row known at a basis.
    pub fn row(&self, basis: T, table: u8, k: &[u8]) -> Res<Option<Vec<u8>>> {
        let (layers, mut found) = (self.layers()?, Vec::new());
        Ok(layers.lock().each_side_row(basis).get(table, k, &mut found)?.then_some(found))
    }

    /// Visits side rows by keys, each with its place among the keys; those that are not there
    /// are passed over. Keys that rise are found fastest.
    pub fn rows_of(
        &self,
        basis: T,
        table: u8,
        keys: &[Vec<u8>],
        visit: &mut dyn FnMut(usize, &[u8]) -> ControlFlow<()>,
    ) -> Res<()> {
        let (mut found, mut bytes): (Vec<(usize, usize)>, _) = (Vec::new(), Vec::new());
        for (chunk, keys) in keys.chunks(ROW_CHUNK).enumerate() {
            found.clear();
            bytes.clear();
            {
                let layers = self.layers()?;
                let locked = layers.lock();
                let mut rows = locked.each_side_row(basis);
                for (i, k) in keys.iter().enumerate() {
                    if rows.get(table, k, &mut bytes)? {
                        found.push((chunk * ROW_CHUNK + i, bytes.len()));
                    }
                }
            }
            let mut from = 0;
            for (i, to) in &found {
                if visit(*i, &bytes[from..*to]).is_break() {
                    return Ok(());
                }
                from = *to;
            }
        }
        Ok(())
    }

    /// Visits the side rows with `from <= key < to` (no end when `to` is empty) as of a basis.
    pub fn rows(
        &self,
        basis: T,
        table: u8,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: &mut VisitRow<'_>,
    ) -> Res<()> {
        let mut range = Range {
            from: Key::from_slice(&key::row_prefix(table, from)),
            to: if to.is_empty() {
                key::after(&[table])
            } else {
                Some(Key::from_slice(&key::row_prefix(table, to)))
            },
        };
        let (mut n, mut chunk) = (FIRST_CHUNK, SideRows::default());
        loop {
            let edge = self.layers()?.lock().side_rows(basis, &range, reverse, n, &mut chunk)?;
            n = ROW_CHUNK;
            if chunk.visit(reverse, visit)?.is_break() {
                return Ok(());
            }
            match edge {
                None => return Ok(()),
                Some(edge) if reverse => range.to = Some(edge),
                Some(edge) => range.from = edge,
            }
        }
    }
}

type Make<'m> = dyn Fn() -> Res<Datom> + 'm;
type VisitLazily<'v> = dyn FnMut(&Make<'_>, &[u8]) -> Res<ControlFlow<()>> + 'v;

/// Calls with each datom of a chunk (made on demand) and its value's encoding.
fn visit_rows(
    rows: &Rows,
    at: &At,
    sort: Sort,
    reverse: bool,
    visit: &mut VisitLazily<'_>,
) -> Res<ControlFlow<()>> {
    let one = |row: u32, t, added, visit: &mut VisitLazily<'_>| {
        let row = &rows.rows[row as usize];
        let v = rows.value(row);
        let make = || -> Res<Datom> {
            let (v, _) = codec::decode(v).map_err(crate::error::StorageError::index)?;
            Ok(Datom { e: EntityId::from_raw(row.e), a: AttrId::new(row.a), v, t, added })
        };
        visit(&make, v)
    };
    let turned = |i: usize, n: usize| if reverse { n - 1 - i } else { i };
    if at.view.history {
        let datoms = rows.datoms(at, sort);
        for i in 0..datoms.len() {
            let (row, t, added) = datoms[turned(i, datoms.len())];
            if one(row, t, added, visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    } else {
        // A row shows as its assertion, and nothing else.
        for i in 0..rows.rows.len() {
            let row = turned(i, rows.rows.len());
            if one(row as u32, rows.rows[row].start, true, visit)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}
