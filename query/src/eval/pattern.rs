//! Data patterns with a known attribute: what their places mean, and reading them by a scan.
//!
//! Not here: joining a pattern to a relation (`extend`), what its rows must pass (`tests`).

use super::Run;
use super::access::{Hint, Locator, Slab, entity_key};
use super::guard::{Guard, Tests};
use super::parallel::joined;
use super::rel::{Rel, Var};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::mem::entity_cell;
use crate::resolve::ir::{Ent, Pattern, Term};
use annals_model::{AttrId, Cell, Order};

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
    pub(crate) fn var(self) -> Option<Var> {
        match self {
            Place::Var(v) => Some(v),
            _ => None,
        }
    }
}

/// A pattern ready to run: literals are cells. The places are entity, value, tx, op.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe4 {
    pub(crate) places: [Place; 4],
}

impl Probe4 {
    /// The first place of one of its variables.
    pub(crate) fn place_of(&self, v: Var) -> usize {
        self.places.iter().position(|x| x.var() == Some(v)).expect("a variable of the pattern")
    }
}

impl Run<'_> {
    /// The cell of a literal; none if it names nothing.
    pub(crate) fn place(&self, t: &Term) -> Result<Option<Place>, QueryError> {
        Ok(Some(match t {
            Term::Var(v) => Place::Var(*v),
            Term::Blank => Place::Any,
            Term::Const(c) => Place::Is(self.dict.encode(c)),
            Term::Ent(e) => match self.ent(e)? {
                Some(raw) => Place::Is(entity_cell(raw)),
                None => return Ok(None),
            },
        }))
    }

    /// The id that an entity literal means in its source.
    pub(crate) fn ent(&self, e: &Ent) -> Result<Option<u64>, QueryError> {
        match e {
            Ent::Id(raw) => Ok(Some(*raw)),
            Ent::Lookup(slot, a, v) => match self.dict.lookup(v) {
                Some(c) => self.lookup(*slot, *a, c),
                None => self.lookup(*slot, *a, self.dict.encode(v)),
            },
        }
    }

    /// The entity that has a unique value; in a history, the one that had it first.
    pub(crate) fn lookup(&self, slot: usize, a: AttrId, v: Cell) -> Result<Option<u64>, QueryError> {
        let slab = self.slab(slot, a, Order::Ave, &[v], true)?;
        let (lo, hi) = Locator::new(slab.keys(), 1, false).find(v, &mut Hint::default());
        Ok((lo..hi).filter(|&i| slab.op(i)).min_by_key(|&i| (slab.t()[i], slab.e()[i])).map(|i| slab.e()[i]))
    }

    /// Literals looked up; none if one of them names nothing.
    pub(crate) fn places(&self, p: &Pattern) -> Result<Option<Probe4>, QueryError> {
        let mut places = [Place::Any; 4];
        for (at, t) in [&p.e, &p.v, &p.tx, &p.op].into_iter().enumerate() {
            match self.place(t)? {
                Some(x) => places[at] = x,
                None => return Ok(None),
            }
        }
        Ok(Some(Probe4 { places }))
    }

    /// All rows of a pattern that pass the guards, over its variables.
    pub(crate) fn scan(&self, p: &Pattern, a: AttrId, guards: &[Guard]) -> Result<Rel, QueryError> {
        let vars = pattern_vars(p);
        let Some(probe) = self.places(p)? else { return Ok(Rel::empty(&vars, self.budget)) };
        let [e, v, ..] = probe.places;
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
        // The rows of one key have that key; the other place is still to be tested.
        let known = match (e, v) {
            (Place::Is(_), _) => Some(0),
            (_, Place::Is(_)) => Some(1),
            _ => None,
        };
        let tests = Tests::new(&probe, known, &[], guards, &self.dict);
        let width = 8 * vars.len();
        self.budget.spend(0, (hi - lo) * width)?;
        let rows: Option<Vec<u32>> = if tests.is_empty() {
            None
        } else {
            let budget = self.budget;
            let pieces = self.threads.map(hi - lo, hi - lo, |piece| {
                let mut rows = Vec::new();
                let mut held = budget.held();
                for start in piece.clone().step_by(BATCH) {
                    let batch = lo + start..lo + piece.end.min(start + BATCH);
                    tests.select(&slab, batch, &mut rows);
                    held.spend(0, rows.len() * 4)?;
                }
                Ok(rows)
            })?;
            Some(joined(pieces))
        };
        let n = rows.as_ref().map_or(hi - lo, Vec::len);
        self.budget.spend(n, n * width)?;
        if vars.is_empty() {
            return Ok(if n == 0 { Rel::empty(&[], self.budget) } else { Rel::unit() });
        }
        let at = |i: usize| match &rows {
            None => lo + i,
            Some(r) => r[i] as usize,
        };
        let cols = vars
            .iter()
            .map(|var| match probe.place_of(*var) {
                1 if rows.is_none() => slab.v()[lo..hi].to_vec(),
                place => self.threads.column(n, |i| slab.cell(place, at(i))),
            })
            .collect();
        let sorted = match (e, v) {
            (Place::Is(_), Place::Var(v)) => Some(v),
            (Place::Var(e), _) => Some(e),
            _ => None,
        };
        let key = self.pattern_key(p, &probe, history);
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
        let (lo, hi) = Locator::new(slab.keys(), 1, false).find(key, &mut Hint::default());
        Ok((slab, lo, hi))
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
