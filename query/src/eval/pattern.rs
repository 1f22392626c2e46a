//! Data patterns with a known attribute: as a scan, or joined to a relation
//! through its entity or its value.

use super::Run;
use super::access::{Locator, Slab, entity_key};
use super::rel::{Rel, Var};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::mem::entity_cell;
use crate::resolve::ir::{Ent, Pattern, Term};
use annals_model::{AttrId, Cell, Order, T, cell};

/// The place of a pattern that a relation is joined by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Entity,
    Value,
}

/// A place after its literal has been looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Var(Var),
    Is(Cell),
    Any,
}

impl Place {
    fn var(self) -> Option<Var> {
        match self {
            Place::Var(v) => Some(v),
            _ => None,
        }
    }
}

/// A pattern ready to run: literals are cells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe4 {
    pub(crate) places: [Place; 4],
}

impl Run<'_> {
    /// The cell of a literal; none if it names nothing.
    pub(crate) fn place(&self, slot: usize, t: &Term) -> Result<Option<Place>, QueryError> {
        Ok(Some(match t {
            Term::Var(v) => Place::Var(*v),
            Term::Blank => Place::Any,
            Term::Const(c) => Place::Is(self.dict.encode(c)),
            Term::Ent(e) => match self.ent(slot, e)? {
                Some(raw) => Place::Is(entity_cell(raw)),
                None => return Ok(None),
            },
        }))
    }

    /// The id that an entity literal means here.
    pub(crate) fn ent(&self, slot: usize, e: &Ent) -> Result<Option<u64>, QueryError> {
        match e {
            Ent::Id(raw) => Ok(Some(*raw)),
            Ent::Lookup(a, v) => match self.dict.lookup(v) {
                Some(c) => self.lookup(slot, *a, c),
                None => self.lookup(slot, *a, self.dict.encode(v)),
            },
        }
    }

    /// The entity that has a unique value; in a history, the one that had it first.
    pub(crate) fn lookup(&self, slot: usize, a: AttrId, v: Cell) -> Result<Option<u64>, QueryError> {
        let slab = self.slab(slot, a, Order::Ave, &[v], true)?;
        let (lo, hi) = Locator::new(slab.keys(), 1, false).find(v);
        Ok((lo..hi).filter(|&i| slab.op(i)).min_by_key(|&i| (slab.t()[i], slab.e()[i])).map(|i| slab.e()[i]))
    }

    /// Literals looked up; none if one of them names nothing.
    pub(crate) fn places(&self, p: &Pattern) -> Result<Option<Probe4>, QueryError> {
        let mut places = [Place::Any; 4];
        for (at, t) in [&p.e, &p.v, &p.tx, &p.op].into_iter().enumerate() {
            match self.place(p.src, t)? {
                Some(x) => places[at] = x,
                None => return Ok(None),
            }
        }
        Ok(Some(Probe4 { places }))
    }

    /// All rows of a pattern, over its variables.
    pub(crate) fn scan(&self, p: &Pattern, a: AttrId) -> Result<Rel, QueryError> {
        let vars = pattern_vars(p);
        let Some(probe) = self.places(p)? else { return Ok(Rel::empty(&vars, self.budget)) };
        let [e, v, tx, op] = probe.places;
        let history = self.db(p.src).view().history;
        let (slab, lo, hi) = match (e, v) {
            (Place::Is(c), _) => self.range(p.src, a, Order::Eav, entity_key(c))?,
            (_, Place::Is(c)) => self.range(p.src, a, Order::Ave, c)?,
            _ => {
                let c = self.column(p.src, a, Order::Eav)?;
                let n = c.len();
                (Slab::Whole(c), 0, n)
            }
        };
        let single = matches!((e, v), (Place::Is(_), _) | (_, Place::Is(_)));
        let tests = Tests::new(&probe, &[]);
        let width = vars.len();
        self.budget.spend(0, (hi - lo) * 8 * width)?;
        let rows: Option<Vec<u32>> =
            if tests.none(if single { if matches!(e, Place::Is(_)) { 0 } else { 1 } } else { 4 }) {
                None
            } else {
                let mut rows = Vec::new();
                for i in lo..hi {
                    if tests.pass(&slab, i, 0) {
                        rows.push(i as u32);
                    }
                    if i % BATCH == 0 {
                        self.budget.check()?;
                    }
                }
                Some(rows)
            };
        let n = rows.as_ref().map_or(hi - lo, Vec::len);
        self.budget.spend(n, n * 8 * width)?;
        if vars.is_empty() {
            return Ok(if n == 0 { Rel::empty(&[], self.budget) } else { Rel::unit() });
        }
        let read = |f: &dyn Fn(usize) -> Cell| -> Vec<Cell> {
            match &rows {
                None => (lo..hi).map(f).collect(),
                Some(r) => r.iter().map(|i| f(*i as usize)).collect(),
            }
        };
        let cols = vars
            .iter()
            .map(|var| {
                let at = probe
                    .places
                    .iter()
                    .position(|x| x.var() == Some(*var))
                    .expect("a variable of the pattern");
                match at {
                    0 => read(&|i| entity_cell(slab.e()[i])),
                    1 if rows.is_none() => slab.v()[lo..hi].to_vec(),
                    1 => read(&|i| slab.v()[i]),
                    2 => read(&|i| entity_cell(T(slab.t()[i]).entity().raw())),
                    _ => read(&|i| cell::of_bool(slab.op(i))),
                }
            })
            .collect();
        let sorted = match (e, v) {
            (Place::Is(_), Place::Var(v)) => Some(v),
            (Place::Var(e), _) => Some(e),
            _ => None,
        };
        let key = self.pattern_key(p, &probe, history);
        let _ = (tx, op);
        Ok(Rel::new(vars, cols, self.budget).keyed(key).sorted_by(sorted))
    }

    /// Variables that no two rows of a scan agree on.
    fn pattern_key(&self, p: &Pattern, probe: &Probe4, history: bool) -> Option<Vec<Var>> {
        if history {
            return None;
        }
        let [e, v, ..] = probe.places;
        match (e, v) {
            (Place::Var(e), _) if p.one => Some(vec![e]),
            (_, Place::Var(v)) if p.unique => Some(vec![v]),
            (Place::Var(e), Place::Is(_)) => Some(vec![e]),
            (Place::Is(_), Place::Var(v)) => Some(vec![v]),
            (Place::Var(e), Place::Var(v)) => Some(if e == v { vec![e] } else { vec![e, v] }),
            (Place::Is(_), Place::Is(_)) => Some(vec![]),
            _ => None,
        }
    }

    fn range(
        &self,
        slot: usize,
        a: AttrId,
        order: Order,
        key: u64,
    ) -> Result<(Slab, usize, usize), QueryError> {
        let slab = self.slab(slot, a, order, &[key], true)?;
        let (lo, hi) = Locator::new(slab.keys(), 1, false).find(key);
        Ok((slab, lo, hi))
    }

    /// Joins `rel`, which has the variable in place `by`, with a pattern. Variables
    /// of the pattern that `rel` has are tests, the others become columns.
    pub(crate) fn extend(&self, rel: &Rel, p: &Pattern, a: AttrId, by: By) -> Result<Rel, QueryError> {
        let fresh: Vec<Var> = pattern_vars(p).into_iter().filter(|v| !rel.has(*v)).collect();
        let all: Vec<Var> = rel.vars.iter().chain(&fresh).copied().collect();
        let Some(probe) = self.places(p)? else { return Ok(Rel::empty(&all, self.budget)) };
        let (place, order) = match by {
            By::Entity => (0, Order::Eav),
            By::Value => (1, Order::Ave),
        };
        let var = probe.places[place].var().expect("joined by a variable");
        let col = rel.col(var).expect("joined by a variable it has");
        let ascending = rel.sorted == Some(var);
        let keys: Vec<u64> = match by {
            By::Entity => col.iter().map(|c| entity_key(*c)).collect(),
            By::Value => col.to_vec(),
        };
        let ascending = ascending && keys.is_sorted();
        self.budget.spend(0, keys.len() * 8)?;
        let slab = self.slab(p.src, a, order, &keys, ascending)?;
        let mut locator = Locator::new(slab.keys(), keys.len(), ascending);
        let bound: Vec<(usize, &[Cell])> = probe
            .places
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != place)
            .filter_map(|(at, x)| x.var().and_then(|v| rel.col(v)).map(|c| (at, &**c)))
            .collect();
        let tests = Tests::new(&probe, &bound);
        let free = tests.none(place);
        let exists = fresh.is_empty();
        let (mut left, mut right): (Vec<u32>, Vec<u32>) = (Vec::with_capacity(keys.len()), Vec::new());
        let (mut spent, mut identity) = (0, true);
        let width = 8 * all.len();
        for (row, key) in keys.iter().enumerate() {
            let (lo, hi) = locator.find(*key);
            for i in lo..hi {
                if free || tests.pass(&slab, i, row) {
                    identity &= left.len() == row;
                    left.push(row as u32);
                    if exists {
                        break;
                    }
                    right.push(i as u32);
                }
            }
            if row % BATCH == 0 || left.len() - spent >= BATCH {
                self.budget.spend(left.len() - spent, left.len() * (8 + width))?;
                spent = left.len();
            }
        }
        self.budget.spend(left.len() - spent, left.len() * (8 + width))?;
        let history = self.db(p.src).view().history;
        let at_most_one =
            exists || (!history && ((by == By::Entity && p.one) || (by == By::Value && p.unique)));
        let mut key = rel.key.clone();
        if !at_most_one {
            let missing = match by {
                By::Entity => probe.places[1],
                By::Value => probe.places[0],
            };
            key = match (key, missing) {
                (Some(mut k), Place::Var(v)) if !history => {
                    if !k.contains(&v) {
                        k.push(v);
                    }
                    Some(k)
                }
                (Some(k), Place::Is(_)) if !history => Some(k),
                _ => None,
            };
        }
        let identity = identity && left.len() == rel.len;
        let mut out = if identity { rel.clone() } else { rel.take(&left, false, true, self.budget) };
        for v in fresh {
            let at = probe.places.iter().position(|x| x.var() == Some(v)).expect("a variable of the pattern");
            let cells = match at {
                0 => right.iter().map(|i| entity_cell(slab.e()[*i as usize])).collect(),
                1 => right.iter().map(|i| slab.v()[*i as usize]).collect(),
                2 => right.iter().map(|i| entity_cell(T(slab.t()[*i as usize]).entity().raw())).collect(),
                _ => right.iter().map(|i| cell::of_bool(slab.op(*i as usize))).collect(),
            };
            out = out.with(v, cells, self.budget);
        }
        Ok(out.keyed(key))
    }
}

/// Variables of a pattern, each once.
pub(crate) fn pattern_vars(p: &Pattern) -> Vec<Var> {
    let mut out = Vec::new();
    for t in [&p.e, &p.v, &p.tx, &p.op] {
        if let Term::Var(v) = t
            && !out.contains(v)
        {
            out.push(*v);
        }
    }
    out
}

/// What a row must pass besides its key.
struct Tests<'a> {
    constants: Vec<(usize, Cell)>,
    bound: Vec<(usize, &'a [Cell])>,
    same: Vec<(usize, usize)>,
}

impl<'a> Tests<'a> {
    fn new(probe: &Probe4, bound: &[(usize, &'a [Cell])]) -> Tests<'a> {
        let mut constants = Vec::new();
        let mut same = Vec::new();
        for (at, x) in probe.places.iter().enumerate() {
            match x {
                Place::Is(c) => constants.push((at, *c)),
                Place::Var(_) => {
                    if let Some(first) = probe.places[..at].iter().position(|y| y == x) {
                        same.push((first, at));
                    }
                }
                Place::Any => {}
            }
        }
        Tests { constants, bound: bound.to_vec(), same }
    }
    /// Nothing to test apart from the place `keyed`?
    fn none(&self, keyed: usize) -> bool {
        self.constants.iter().all(|(at, _)| *at == keyed) && self.bound.is_empty() && self.same.is_empty()
    }
    fn pass(&self, slab: &Slab, i: usize, row: usize) -> bool {
        self.constants.iter().all(|(at, c)| cell_at(slab, *at, i) == *c)
            && self.bound.iter().all(|(at, col)| cell_at(slab, *at, i) == col[row])
            && self.same.iter().all(|(a, b)| cell_at(slab, *a, i) == cell_at(slab, *b, i))
    }
}

fn cell_at(slab: &Slab, place: usize, i: usize) -> Cell {
    match place {
        0 => entity_cell(slab.e()[i]),
        1 => slab.v()[i],
        2 => entity_cell(T(slab.t()[i]).entity().raw()),
        _ => cell::of_bool(slab.op(i)),
    }
}
