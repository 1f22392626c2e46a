//! Every pair of a walk: nodes numbered densely, and a walk from each.
//!
//! 1. Numbers ascend with cells, so what is in order of number is in order of word.
//! 2. A visited mark is a word compare: marks need no clearing between walks.
//! 3. Walks from different nodes share nothing but the graph: threads take them in turn.

use super::{Path, Side, Way};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::rel::{Hasher, Rel};
use annals_model::Cell;
use hashbrown::HashMap;
use std::rc::Rc;

/// Adjacency by node number.
#[derive(Default)]
pub(super) struct Adjacency {
    first: Vec<u32>,
    to: Vec<u32>,
}

impl Adjacency {
    pub(super) fn of(pairs: &[(u32, u32)], nodes: usize) -> Adjacency {
        let mut first = vec![0u32; nodes + 1];
        for (a, _) in pairs {
            first[*a as usize + 1] += 1;
        }
        for i in 0..nodes {
            first[i + 1] += first[i];
        }
        let mut at = first.clone();
        let mut to = vec![0; pairs.len()];
        for (a, b) in pairs {
            to[at[*a as usize] as usize] = *b;
            at[*a as usize] += 1;
        }
        Adjacency { first, to }
    }
    #[inline]
    pub(super) fn next(&self, n: u32) -> &[u32] {
        match self.first.get(n as usize + 1) {
            Some(end) => &self.to[self.first[n as usize] as usize..*end as usize],
            None => &[],
        }
    }
}

/// The whole of base and step with numbered nodes; numbers ascend with cells.
pub(super) struct Graph {
    cells: Vec<Cell>,
    base: Adjacency,
    step: Adjacency,
    /// Base and step are the same edges.
    same: bool,
}

impl Run<'_> {
    pub(super) fn whole(&self, path: &Path) -> Result<Rc<Graph>, QueryError> {
        if let Some(g) = path.whole.get() {
            return Ok(g.clone());
        }
        let mut base = self.neighbours(&path.base, None, Way::Forward)?;
        let mut step = self.neighbours(&path.step, None, Way::Forward)?;
        base.sort_unstable();
        step.sort_unstable();
        let same = base == step;
        let mut cells: Vec<Cell> =
            base.iter().chain(if same { &[][..] } else { &step[..] }).flat_map(|(a, b)| [*a, *b]).collect();
        self.budget.spend(base.len() + step.len(), cells.len() * 16)?;
        cells.sort_unstable();
        cells.dedup();
        let mut number: HashMap<Cell, u32, Hasher> =
            HashMap::with_capacity_and_hasher(cells.len(), Hasher::default());
        number.extend(cells.iter().enumerate().map(|(i, c)| (*c, i as u32)));
        let numbered = |pairs: &[(Cell, Cell)]| -> Vec<(u32, u32)> {
            pairs.iter().map(|(a, b)| (number[a], number[b])).collect()
        };
        let n = cells.len();
        let base = Adjacency::of(&numbered(&base), n);
        let step = if same { Adjacency::default() } else { Adjacency::of(&numbered(&step), n) };
        let g = Rc::new(Graph { cells, base, step, same });
        let _ = path.whole.set(g.clone());
        Ok(g)
    }

    /// Every pair.
    pub(super) fn walk_all(&self, side: Side, g: &Graph) -> Result<Rel, QueryError> {
        let n = g.cells.len();
        let step = if g.same { &g.base } else { &g.step };
        let budget = self.budget;
        // Each source reaches many: a small graph is work enough.
        let work = 64 * n.max(step.to.len());
        let pieces = self.threads.map(n, work, |sources| {
            let mut walk = Walk::new(n);
            let mut held = budget.held();
            let mut found = Found::default();
            let mut spent = 0;
            for source in sources {
                let source = source as u32;
                let reached = if side == Side::Left || g.same {
                    let starts = g.base.next(source);
                    if starts.is_empty() {
                        continue;
                    }
                    walk.from(starts, step, None)
                } else {
                    walk.from(&[source], step, Some(&g.base))
                };
                let count = reached.len();
                if count * 8 > n {
                    // Looking at every node is quicker than putting most of them in order.
                    walk.each_in_order(|node| found.ys.push(node as u32));
                } else {
                    reached.sort_unstable();
                    found.ys.extend_from_slice(reached);
                }
                found.xs.push((source, count as u32));
                if found.ys.len() - spent > 16 * BATCH || source.is_multiple_of(256) {
                    held.spend(found.ys.len() - spent, found.bytes())?;
                    spent = found.ys.len();
                }
            }
            held.spend(found.ys.len() - spent, found.bytes())?;
            Ok(found)
        })?;
        let pairs: usize = pieces.iter().map(|found| found.ys.len()).sum();
        // Twenty bytes a pair: its two cells, and the number that becomes the second.
        budget.spend(0, pairs * 20)?;
        let lens: Vec<usize> = pieces.iter().map(|found| found.ys.len()).collect();
        let cols = self.threads.filled(&lens, |i, part| pieces[i].write(&g.cells, &g.cells, part));
        Ok(Rel::new(vec![0, 1], cols.into(), self.budget).keyed(Some(vec![0, 1])).sorted_by(Some(0)))
    }
}

/// Pairs of numbered nodes: first nodes with how many second nodes each has, and those.
#[derive(Default)]
pub(super) struct Found {
    pub(super) xs: Vec<(u32, u32)>,
    pub(super) ys: Vec<u32>,
}

impl Found {
    fn bytes(&self) -> usize {
        8 * self.xs.capacity() + 4 * self.ys.capacity()
    }

    /// Writes the pairs as cells into columns of their number.
    fn write(&self, first: &[Cell], second: &[Cell], [mut xs, ys]: [&mut [Cell]; 2]) {
        for (x, count) in &self.xs {
            let (these, rest) = xs.split_at_mut(*count as usize);
            these.fill(first[*x as usize]);
            xs = rest;
        }
        ys.iter_mut().zip(&self.ys).for_each(|(cell, y)| *cell = second[*y as usize]);
    }
}

/// A walk with marks that need no clearing: a node is seen when its mark is this walk's number.
pub(super) struct Walk {
    mark: Vec<u32>,
    end_mark: Vec<u32>,
    /// The last walk ended at ends, not at the nodes it met.
    to_ends: bool,
    number: u32,
    queue: Vec<u32>,
    ends: Vec<u32>,
}

impl Walk {
    pub(super) fn new(nodes: usize) -> Walk {
        Walk {
            mark: vec![0; nodes],
            end_mark: vec![0; nodes],
            to_ends: false,
            number: 0,
            queue: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The nodes reached from `starts` (which are among them) by steps, or what `last`
    /// leads to from those.
    pub(super) fn from(
        &mut self,
        starts: &[u32],
        step: &Adjacency,
        last: Option<&Adjacency>,
    ) -> &mut Vec<u32> {
        self.number += 1;
        self.queue.clear();
        for s in starts {
            if std::mem::replace(&mut self.mark[*s as usize], self.number) != self.number {
                self.queue.push(*s);
            }
        }
        let mut at = 0;
        while let Some(&n) = self.queue.get(at) {
            at += 1;
            for next in step.next(n) {
                if std::mem::replace(&mut self.mark[*next as usize], self.number) != self.number {
                    self.queue.push(*next);
                }
            }
        }
        self.to_ends = last.is_some();
        let Some(last) = last else { return &mut self.queue };
        self.ends.clear();
        for n in &self.queue {
            for end in last.next(*n) {
                if std::mem::replace(&mut self.end_mark[*end as usize], self.number) != self.number {
                    self.ends.push(*end);
                }
            }
        }
        &mut self.ends
    }

    /// Visits what the last walk reached, in order of number.
    fn each_in_order(&self, visit: impl FnMut(usize)) {
        let marks = if self.to_ends { &self.end_mark } else { &self.mark };
        let here = |(node, mark): (usize, &u32)| (*mark == self.number).then_some(node);
        marks.iter().enumerate().filter_map(here).for_each(visit);
    }
}
