//! Facts as sorted batches, kept by datafrog: the general semi-naive store, and
//! what the others are compared with.
//!
//! A row is an array of words whose length is a type parameter, so one variable
//! type serves each arity up to six. datafrog sorts what was derived,
//! drops what is known, and merges batches geometrically; joins are ours.
//!
//! The only file that names datafrog.

use super::facts::{Facts, Matches, Part};
use super::rel::{Rel, Var};
use crate::budget::{BATCH, Budget};
use crate::error::QueryError;
use annals_model::Cell;
use datafrog::{Iteration, Relation, Variable};

/// Facts of this arity, if datafrog can keep them.
pub(crate) fn sorted(arity: usize) -> Option<Box<dyn Facts>> {
    Some(match arity {
        1 => Box::new(Sorted::<1>::new()),
        2 => Box::new(Sorted::<2>::new()),
        3 => Box::new(Sorted::<3>::new()),
        4 => Box::new(Sorted::<4>::new()),
        5 => Box::new(Sorted::<5>::new()),
        6 => Box::new(Sorted::<6>::new()),
        _ => return None,
    })
}

struct Sorted<const N: usize> {
    iteration: Iteration,
    variable: Variable<[Cell; N]>,
}

impl<const N: usize> Sorted<N> {
    fn new() -> Self {
        let mut iteration = Iteration::new();
        let variable = iteration.variable("facts");
        Sorted { iteration, variable }
    }

    fn each(&self, part: Part, mut f: impl FnMut(&[Cell; N])) {
        if part != Part::Delta {
            for batch in self.variable.stable.borrow().iter() {
                batch.elements.iter().for_each(&mut f);
            }
        }
        if part != Part::Stable {
            self.variable.recent.borrow().elements.iter().for_each(&mut f);
        }
    }
}

impl<const N: usize> Facts for Sorted<N> {
    fn derive(&mut self, cols: &[&[Cell]], len: usize, budget: &Budget) -> Result<(), QueryError> {
        for start in (0..len).step_by(64 * BATCH) {
            let end = len.min(start + 64 * BATCH);
            budget.spend(end - start, (end - start) * 8 * N)?;
            let rows: Vec<[Cell; N]> = (start..end).map(|i| std::array::from_fn(|c| cols[c][i])).collect();
            self.variable.insert(Relation::from_vec(rows));
        }
        Ok(())
    }
    fn advance(&mut self, budget: &Budget) -> Result<bool, QueryError> {
        let rows = self.len(Part::Known);
        budget.spend(0, rows * 8 * N)?;
        Ok(self.iteration.changed())
    }
    fn len(&self, part: Part) -> usize {
        let stable = || self.variable.stable.borrow().iter().map(|b| b.elements.len()).sum::<usize>();
        let recent = || self.variable.recent.borrow().elements.len();
        match part {
            Part::Stable => stable(),
            Part::Delta => recent(),
            Part::Known => stable() + recent(),
        }
    }
    fn rows(&self, part: Part, vars: &[Var], budget: &Budget) -> Rel {
        let mut cols: Vec<Vec<Cell>> = vec![Vec::with_capacity(self.len(part)); N];
        self.each(part, |row| cols.iter_mut().zip(row).for_each(|(c, x)| c.push(*x)));
        Rel::new(vars.to_vec(), cols, budget).keyed(Some(vars.to_vec()))
    }
    fn probe(
        &mut self,
        _: Part,
        _: &[usize],
        _: &[&[Cell]],
        _: usize,
        _: &Budget,
    ) -> Option<Result<Matches, QueryError>> {
        None
    }
    fn fetch(&self, _: usize, _: &[u32]) -> Vec<Cell> {
        Vec::new()
    }
}
