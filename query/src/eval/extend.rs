//! A pattern joined to a relation through its entity or its value: the join that most
//! queries are made of.
//!
//! 1. Rows come out in the order of the relation, and for one row in the order of the slab. Many
//!    rows that meet a large attribute are put in its order first (`arrange`).
//! 2. Pieces of the relation are joined by threads, and put together in order.

use super::Run;
use super::access::{Hint, Locator, Slab, entity_key};
use super::guard::{Guard, Tests};
use super::parallel::joined;
use super::pattern::{By, Place, Probe4, pattern_vars};
use super::rel::{Rel, Var};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::resolve::ir::Pattern;
use annals_model::{AttrId, Cell, Order, cell};

impl Run<'_> {
    /// Joins `rel`, which has the variable in place `by`, with a pattern. Variables
    /// of the pattern that `rel` has are tests, the others become columns.
    pub(crate) fn extend(
        &self,
        rel: &Rel,
        p: &Pattern,
        a: AttrId,
        by: By,
        guards: &[Guard],
    ) -> Result<Rel, QueryError> {
        let fresh: Vec<Var> = pattern_vars(p).into_iter().filter(|v| !rel.has(*v)).collect();
        let all: Vec<Var> = rel.vars.iter().chain(&fresh).copied().collect();
        let Some(probe) = self.places(p)? else { return Ok(Rel::empty(&all, self.budget)) };
        let (place, order) = match by {
            By::Entity => (0, Order::Eav),
            By::Value => (1, Order::Ave),
        };
        let var = probe.places[place].var().expect("joined by a variable");
        let whole =
            if self.probes(p.src, a, order, rel.len) { None } else { Some(self.column(p.src, a, order)?) };
        let arranged = match &whole {
            Some(column) => self.arranged(rel, var, column.len())?,
            None => None,
        };
        let rel = arranged.as_ref().unwrap_or(rel);
        let col: &[Cell] = rel.col(var).expect("joined by a variable it has");
        let key_of = |c: Cell| if by == By::Entity { entity_key(c) } else { c };
        // Words ascend; ids do too if all of the words are entities, which stand together. Looked at
        // again: advancing through rows that do not ascend would lose some.
        let refs = |c: Option<&Cell>| c.is_some_and(|c| cell::as_ref(*c).is_some());
        let ascending = rel.sorted == Some(var)
            && col.is_sorted()
            && (by == By::Value || (refs(col.first()) && refs(col.last())));
        let slab = match whole {
            Some(column) => Slab::Whole(column),
            None => {
                let keys: Vec<u64> = col.iter().map(|c| key_of(*c)).collect();
                self.probe(p.src, a, order, &keys, ascending)?
            }
        };
        let history = self.db(p.src).view().history;
        let one = !history && if by == By::Entity { p.one } else { p.unique };
        let locator = Locator::new(slab.keys(), col.len(), ascending);
        let bound: Vec<(usize, &[Cell])> = probe
            .places
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != place)
            .filter_map(|(at, x)| x.var().and_then(|v| rel.col(v)).map(|c| (at, &**c)))
            .collect();
        let tests = Tests::new(&probe, Some(place), &bound, guards, &self.dict);
        let free = tests.is_empty();
        let exists = fresh.is_empty();
        let width = 8 * all.len();
        let budget = self.budget;
        let pieces = self.threads.map(col.len(), col.len(), |piece| {
            let mut held = budget.held();
            let mut hint = Hint::default();
            let (mut left, mut right): (Vec<u32>, Vec<u32>) = (Vec::with_capacity(piece.len()), Vec::new());
            let mut spent = 0;
            for row in piece {
                let (lo, hi) = locator.find(key_of(col[row]), &mut hint);
                for i in lo..hi {
                    if free || tests.pass(&slab, i, row) {
                        left.push(row as u32);
                        if exists {
                            break;
                        }
                        right.push(i as u32);
                    }
                }
                if row % BATCH == 0 || left.len() - spent >= BATCH {
                    held.spend(left.len() - spent, left.len() * (8 + width))?;
                    spent = left.len();
                }
            }
            held.spend(left.len() - spent, left.len() * (8 + width))?;
            Ok((left, right))
        })?;
        let (left, right): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
        let (left, right) = (joined(left), joined(right));
        self.budget.spend(0, left.len() * width)?;
        // A value that is the only one of its entity says no more than the entity does.
        let entity = match (probe.places[0].var(), &rel.key) {
            (Some(e), Some(key)) if p.one && !history && by == By::Value && key[..] == [var] => Some(vec![e]),
            _ => None,
        };
        let key = match entity {
            _ if exists || one => rel.key.clone(),
            Some(entity) => Some(entity),
            None => key_with(rel, &probe, by, history),
        };
        let identity = left.len() == rel.len && left.iter().enumerate().all(|(i, row)| i == *row as usize);
        let mut out = if identity { rel.clone() } else { self.pick(rel, &left) };
        for v in fresh {
            let at = probe.place_of(v);
            let cells = self.threads.column(right.len(), |i| slab.cell(at, right[i] as usize));
            out = out.with(v, cells, self.budget);
        }
        Ok(out.keyed(key))
    }

    /// The rows at `idx`, which ascend; claims no key.
    fn pick(&self, rel: &Rel, idx: &[u32]) -> Rel {
        let len = if rel.vars.is_empty() { usize::from(!idx.is_empty()) } else { idx.len() };
        let cols = rel.cols.iter().map(|c| super::rel::Col::new(self.threads.gather(c, idx), self.budget));
        Rel { vars: rel.vars.clone(), cols: cols.collect(), len, sorted: rel.sorted, key: None }
    }
}

/// What rows differ on when each row of `rel` may have met several.
fn key_with(rel: &Rel, probe: &Probe4, by: By, history: bool) -> Option<Vec<Var>> {
    let mut key = rel.key.clone().filter(|_| !history)?;
    match if by == By::Entity { probe.places[1] } else { probe.places[0] } {
        Place::Var(v) => {
            if !key.contains(&v) {
                key.push(v);
            }
            Some(key)
        }
        Place::Is(_) => Some(key),
        Place::Any => None,
    }
}
