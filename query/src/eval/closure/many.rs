//! Everything reached from each of several nodes: the part of the graph that any of them can
//! reach is read once, then each walks by itself.

use super::all::{Adjacency, Walk};
use super::{Path, Way};
use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::rel::Hasher;
use annals_model::Cell;
use hashbrown::HashMap;

/// Numbers nodes in order of first sight.
#[derive(Default)]
struct Numbers {
    of: HashMap<Cell, u32, Hasher>,
    cells: Vec<Cell>,
}

impl Numbers {
    fn of(&mut self, c: Cell) -> u32 {
        match self.of.entry(c) {
            hashbrown::hash_map::Entry::Occupied(e) => *e.get(),
            hashbrown::hash_map::Entry::Vacant(e) => {
                let n = self.cells.len() as u32;
                e.insert(n);
                self.cells.push(c);
                n
            }
        }
    }
}

impl Run<'_> {
    /// Everything reached from each of several nodes: first the part of the graph that any
    /// of them can reach, then a walk for each.
    pub(super) fn walk_many(
        &self,
        path: &Path,
        sources: &[Cell],
        way: Way,
        base_first: bool,
    ) -> Result<(Vec<Cell>, Vec<Cell>), QueryError> {
        let mut numbers = Numbers::default();
        let mut step: Vec<(u32, u32)> = Vec::new();
        let first: Vec<(Cell, Cell)> =
            if base_first { self.neighbours(&path.base, Some(sources), way)? } else { Vec::new() };
        let mut frontier: Vec<Cell> =
            if base_first { first.iter().map(|(_, b)| *b).collect() } else { sources.to_vec() };
        frontier.sort_unstable();
        frontier.dedup();
        for c in &frontier {
            numbers.of(*c);
        }
        while !frontier.is_empty() {
            let edges = self.neighbours(&path.step, Some(&frontier), way)?;
            frontier.clear();
            for (a, b) in edges {
                let known = numbers.cells.len();
                let (from, to) = (numbers.of(a), numbers.of(b));
                if numbers.cells.len() > known {
                    frontier.push(b);
                }
                step.push((from, to));
            }
            frontier.sort_unstable();
            self.budget.spend(frontier.len(), step.len() * 8 + numbers.cells.len() * 32)?;
        }
        let last: Vec<(u32, u32)> = if base_first {
            Vec::new()
        } else {
            let mut all = numbers.cells.clone();
            all.sort_unstable();
            self.neighbours(&path.base, Some(&all), way)?
                .into_iter()
                .map(|(a, b)| (numbers.of(a), numbers.of(b)))
                .collect()
        };
        let nodes = numbers.cells.len();
        let step = Adjacency::of(&step, nodes);
        let last = (!base_first).then(|| Adjacency::of(&last, nodes));
        let mut walk = Walk::new(nodes);
        let (mut xs, mut ys): (Vec<Cell>, Vec<Cell>) = (Vec::new(), Vec::new());
        let mut at = 0;
        for s in sources {
            let starts: Vec<u32> = if base_first {
                at += first[at..].partition_point(|(a, _)| a < s);
                let end = at + first[at..].partition_point(|(a, _)| a <= s);
                let sorted = first.is_sorted_by_key(|(a, _)| *a);
                if sorted {
                    first[at..end].iter().map(|(_, b)| numbers.of(*b)).collect()
                } else {
                    first.iter().filter(|(a, _)| a == s).map(|(_, b)| numbers.of(*b)).collect()
                }
            } else {
                vec![numbers.of(*s)]
            };
            let reached = walk.from(&starts, &step, last.as_ref());
            let begin = ys.len();
            xs.resize(begin + reached.len(), *s);
            ys.extend(reached.iter().map(|n| numbers.cells[*n as usize]));
            ys[begin..].sort_unstable();
            self.budget.spend(ys.len() - begin, ys.len() * 16)?;
        }
        Ok((xs, ys))
    }
}
