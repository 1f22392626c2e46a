//! Linear recursion that grows pairs at both ends: same generation and its like.
//!
//! `p(x y) <- base(x y)` with `p(x y) <- left(x z) p(z w) right(w y)`, where nothing but the
//! recursive call connects the two ends: the least `p` that holds `base` and `left . p . right`.
//! Either end may stay as it is, and there may be several such rules. A general fixpoint joins
//! the delta with one end, then with the other, and hashes every pair that comes out; here a
//! round goes from first node to first node, and the second nodes that one first node has are
//! numbers in a dense set.
//!
//! 1. A pair enters the delta of one round only: no derivation is made twice.
//! 2. A round reads the delta of the round before and writes the rows of first nodes, each on
//!    one thread. So rows are in order of first node, and for one in order of arrival,
//!    whatever the threads.
//! 3. What is known of a first node costs at most a few words a pair, however many nodes there are.
//!
//! Not here: calls with a bound argument, which derive what is asked only (`fixpoint`).

use super::all::{Adjacency, Found};
use super::{Edges, Way, calls_of, safe};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::rel::{Hasher, Rel, Var};
use crate::resolve::ir::{Body, Pred, Program, Rule};
use annals_model::Cell;
use hashbrown::{HashMap, HashSet};
use std::cell::OnceCell;
use std::sync::{Mutex, PoisonError};

/// A predicate recognised as growing at its ends.
pub(crate) struct Both {
    base: Edges,
    steps: Vec<Step>,
    rows: OnceCell<Rel>,
}

/// One recursive rule: the relation before the call and the one after it; none where the
/// column passes through.
struct Step {
    left: Option<Edges>,
    right: Option<Edges>,
}

impl Both {
    /// The growth that a predicate is, if it is one.
    pub(crate) fn of(program: &Program, pred: Pred) -> Option<Both> {
        let p = &program.preds[pred];
        if p.arity != 2 || p.required.iter().any(|r| *r) || p.best.iter().any(Option::is_some) {
            return None;
        }
        if program.preds.iter().enumerate().any(|(i, q)| i != pred && q.component == p.component) {
            return None;
        }
        let (mut base, mut steps) = (Edges::new(), Vec::new());
        for r in &p.rules {
            let [x, y] = r.head[..] else { return None };
            match calls_of(&r.body, pred)[..] {
                [] => base.push((r.body.clone(), x, y)),
                [(at, Some((a, b)))] => steps.push(Step::of(r, at, (x, y), (a, b))?),
                _ => return None,
            }
        }
        let ends = steps.iter().flat_map(|s| s.left.iter().chain(&s.right));
        if base.is_empty()
            || steps.is_empty()
            || !safe(&base, program)
            || !ends.into_iter().all(|e| safe(e, program))
        {
            return None;
        }
        Some(Both { base, steps, rows: OnceCell::new() })
    }
}

impl Step {
    /// From a rule with head `(x y)` whose clause `at` calls the predicate for `(a b)`.
    fn of(rule: &Rule, at: usize, (x, y): (Var, Var), (a, b): (Var, Var)) -> Option<Step> {
        if a == y || b == x || (a == x && b == y) {
            return None;
        }
        let mut rest: Vec<_> = rule.body.clauses.clone();
        rest.remove(at);
        // The clauses that hang together with these variables.
        let mut take = |vars: [Var; 2]| -> Body {
            let (mut known, mut taken) = (vars.to_vec(), Vec::new());
            while let Some(i) = rest.iter().position(|c| c.vars.iter().any(|v| known.contains(v))) {
                known.extend(&rest[i].vars);
                taken.push(rest.remove(i));
            }
            Body { clauses: taken }
        };
        let (before, after) = (take([x, a]), take([b, y]));
        let mentions = |body: &Body, v: Var| body.clauses.iter().any(|c| c.vars.contains(&v));
        // What connects the ends otherwise, or nothing at all, is for the general fixpoint.
        if !rest.is_empty() || mentions(&before, b) || mentions(&before, y) {
            return None;
        }
        let end = |body: Body, from: Var, to: Var| match (from == to, body.clauses.is_empty()) {
            (true, true) => Some(None),
            (false, false) => Some(Some(vec![(body, from, to)])),
            _ => None,
        };
        Some(Step { left: end(before, x, a)?, right: end(after, b, y)? })
    }
}

/// Cells numbered in their order.
struct Numbers {
    cells: Vec<Cell>,
    find: Find,
}

enum Find {
    /// One more than the number, by the cell less the least.
    Dense(Vec<u32>),
    Sparse(HashMap<Cell, u32, Hasher>),
}

impl Numbers {
    fn new(mut cells: Vec<Cell>) -> Numbers {
        cells.sort_unstable();
        cells.dedup();
        let span = cells.last().map_or(0, |last| last - cells[0]);
        let find = if span <= 8 * cells.len() as u64 + 1024 {
            let mut at = vec![0; span as usize + 1];
            cells.iter().zip(1..).for_each(|(c, i)| at[(c - cells[0]) as usize] = i);
            Find::Dense(at)
        } else {
            Find::Sparse(cells.iter().copied().zip(0..).collect())
        };
        Numbers { cells, find }
    }
    fn of(&self, c: Cell) -> u32 {
        match &self.find {
            Find::Dense(at) => at[(c - self.cells[0]) as usize] - 1,
            Find::Sparse(at) => at[&c],
        }
    }
    fn len(&self) -> usize {
        self.cells.len()
    }
}

/// A step over numbered nodes; none where a column passes through.
struct Hops {
    /// By first node: the first nodes whose pairs it takes over.
    left: Option<Adjacency>,
    /// By first node: those that take over its pairs.
    takers: Option<Adjacency>,
    /// By second node: what it becomes.
    right: Option<Adjacency>,
}

/// The second nodes known of one first node.
#[derive(Default)]
struct Row {
    /// In order of arrival.
    all: Vec<u32>,
    seen: Seen,
}

/// Which second nodes those are.
#[derive(Default)]
enum Seen {
    /// As many as are quickly marked anew.
    #[default]
    Few,
    Set(HashSet<u32, Hasher>),
    Bits(Vec<u64>),
}

impl Row {
    /// Makes asking quick for a row that grows again.
    fn settle(&mut self, nodes: usize) {
        const FEW: usize = 32;
        if self.all.len() <= FEW || !matches!(self.seen, Seen::Few) {
            return;
        }
        self.seen = if nodes / 128 <= self.all.len() {
            let mut bits = vec![0; nodes.div_ceil(64)];
            self.all.iter().for_each(|y| bits[*y as usize / 64] |= 1 << (y % 64));
            Seen::Bits(bits)
        } else {
            Seen::Set(self.all.iter().copied().collect())
        };
    }

    fn bytes(&self) -> usize {
        4 * self.all.capacity()
            + match &self.seen {
                Seen::Few => 0,
                Seen::Set(s) => s.capacity() * 5,
                Seen::Bits(b) => b.len() * 8,
            }
    }
}

/// Marks that need no clearing, for rows with few nodes. A thread takes some from what others
/// have put back, so that a round costs what it touches and not what there is.
struct Marks {
    mark: Vec<u32>,
    number: u32,
}

impl Marks {
    fn begin(&mut self, row: &Row) {
        if self.number == u32::MAX {
            self.mark.fill(0);
            self.number = 0;
        }
        self.number += 1;
        if let Seen::Few = row.seen {
            row.all.iter().for_each(|y| self.mark[*y as usize] = self.number);
        }
    }
    /// Enters a node into the row; was it new?
    #[inline]
    fn enter(&mut self, row: &mut Row, y: u32) {
        let new = match &mut row.seen {
            Seen::Few => std::mem::replace(&mut self.mark[y as usize], self.number) != self.number,
            Seen::Set(s) => s.insert(y),
            Seen::Bits(bits) => {
                let (word, bit) = (&mut bits[y as usize / 64], 1 << (y % 64));
                let new = *word & bit == 0;
                *word |= bit;
                new
            }
        };
        if new {
            row.all.push(y);
        }
    }
}

/// What a round found: second nodes by first node.
struct Delta {
    /// The first nodes that have any, ascending.
    active: Vec<u32>,
    /// Where those of a first node are in `ys`.
    at: Vec<(u32, u32)>,
    ys: Vec<u32>,
}

impl Delta {
    fn of(&self, x: u32) -> &[u32] {
        let (from, to) = self.at[x as usize];
        &self.ys[from as usize..to as usize]
    }
    /// Puts what pieces of the next round found in its place.
    fn replace(&mut self, found: Vec<Found>) {
        for x in self.active.drain(..) {
            self.at[x as usize] = (0, 0);
        }
        self.ys.clear();
        for piece in found {
            let mut from = self.ys.len() as u32;
            for (x, n) in piece.xs {
                self.active.push(x);
                self.at[x as usize] = (from, from + n);
                from += n;
            }
            self.ys.extend(piece.ys);
        }
    }
}

impl Run<'_> {
    /// All pairs, over variables 0 and 1.
    pub(crate) fn grow(&self, both: &Both) -> Result<Rel, QueryError> {
        if let Some(rows) = both.rows.get() {
            return Ok(rows.clone());
        }
        let mut base = self.neighbours(&both.base, None, Way::Forward)?;
        base.sort_unstable();
        let read = |edges: &Option<Edges>| match edges {
            Some(e) => self.neighbours(e, None, Way::Forward).map(Some),
            None => Ok(None),
        };
        let mut ends = Vec::new();
        for s in &both.steps {
            ends.push((read(&s.left)?, read(&s.right)?));
        }
        let edges =
            base.len() + ends.iter().flat_map(|(l, r)| l.iter().chain(r)).map(Vec::len).sum::<usize>();
        self.budget.spend(edges, edges * 64)?;
        let of = |first: bool| {
            let own = base.iter().map(move |(x, y)| if first { *x } else { *y });
            let more = ends.iter().filter_map(move |(l, r)| if first { l.as_ref() } else { r.as_ref() });
            Numbers::new(own.chain(more.flatten().flat_map(|(a, b)| [*a, *b])).collect())
        };
        let (xs, ys) = (of(true), of(false));
        let numbered = |pairs: &[(Cell, Cell)], n: &Numbers| -> Vec<(u32, u32)> {
            pairs.iter().map(|(a, b)| (n.of(*a), n.of(*b))).collect()
        };
        let hops: Vec<Hops> = ends
            .iter()
            .map(|(l, r)| {
                let left = l.as_ref().map(|l| numbered(l, &xs));
                let back = left.as_ref().map(|l| l.iter().map(|(x, z)| (*z, *x)).collect::<Vec<_>>());
                let right = r.as_ref().map(|r| numbered(r, &ys));
                Hops {
                    left: left.map(|l| Adjacency::of(&l, xs.len())),
                    takers: back.map(|l| Adjacency::of(&l, xs.len())),
                    right: right.map(|r| Adjacency::of(&r, ys.len())),
                }
            })
            .collect();
        let rows: Vec<Mutex<Row>> = (0..xs.len()).map(|_| Mutex::default()).collect();
        let mut delta = Delta { active: Vec::new(), at: vec![(0, 0); xs.len()], ys: Vec::new() };
        let mut first = Found::default();
        for of_x in base.chunk_by(|a, b| a.0 == b.0) {
            let x = xs.of(of_x[0].0);
            first.xs.push((x, of_x.len() as u32));
            first.ys.extend(of_x.iter().map(|(_, y)| ys.of(*y)));
            let mut row = rows[x as usize].lock().unwrap_or_else(PoisonError::into_inner);
            row.all.extend_from_slice(&first.ys[first.ys.len() - of_x.len()..]);
        }
        delta.replace(vec![first]);
        let spare: Mutex<Vec<Marks>> = Mutex::default();
        while !delta.active.is_empty() {
            let found = self.round(&hops, &delta, &rows, &spare, ys.len())?;
            delta.replace(found);
        }
        let out = self.pairs(&rows, &xs, &ys)?;
        Ok(both.rows.get_or_init(|| out).clone())
    }

    /// Carries the delta through every step once.
    fn round(
        &self,
        hops: &[Hops],
        delta: &Delta,
        rows: &[Mutex<Row>],
        spare: &Mutex<Vec<Marks>>,
        nodes: usize,
    ) -> Result<Vec<Found>, QueryError> {
        let mut touched: Vec<u32> = Vec::new();
        let mut work = 0;
        for z in &delta.active {
            for h in hops {
                let takers = h.takers.as_ref().map_or(std::slice::from_ref(z), |t| t.next(*z));
                touched.extend(takers);
                work += takers.len() * delta.of(*z).len();
            }
        }
        touched.sort_unstable();
        touched.dedup();
        self.budget.spend(0, touched.len() * 4 + delta.ys.len() * 4)?;
        let budget = self.budget;
        self.threads.map(touched.len(), work, |piece| {
            let mut held = budget.held();
            let pool = || spare.lock().unwrap_or_else(PoisonError::into_inner);
            let mut marks = pool().pop().unwrap_or_else(|| Marks { mark: vec![0; nodes], number: 0 });
            let mut found = Found::default();
            let (mut tried, mut paid, mut bytes) = (0, 0, nodes * 4);
            for &x in &touched[piece] {
                let mut row = rows[x as usize].lock().unwrap_or_else(PoisonError::into_inner);
                let row = &mut *row;
                row.settle(nodes);
                marks.begin(row);
                let had = row.all.len();
                for h in hops {
                    let sources = h.left.as_ref().map_or(std::slice::from_ref(&x), |l| l.next(x));
                    for z in sources {
                        for w in delta.of(*z) {
                            let ends = h.right.as_ref().map_or(std::slice::from_ref(w), |r| r.next(*w));
                            ends.iter().for_each(|y| marks.enter(row, *y));
                            tried += ends.len() + 1;
                            if tried > 16 * BATCH {
                                budget.check()?;
                                tried = 0;
                            }
                        }
                    }
                }
                if row.all.len() > had {
                    found.xs.push((x, (row.all.len() - had) as u32));
                    found.ys.extend_from_slice(&row.all[had..]);
                    bytes += row.bytes();
                }
                if found.ys.len() - paid > 16 * BATCH {
                    held.spend(found.ys.len() - paid, bytes + found.ys.len() * 4)?;
                    paid = found.ys.len();
                }
            }
            held.spend(found.ys.len() - paid, bytes + found.ys.len() * 4)?;
            pool().push(marks);
            Ok(found)
        })
    }

    /// What all rows hold, as a relation.
    fn pairs(&self, rows: &[Mutex<Row>], xs: &Numbers, ys: &Numbers) -> Result<Rel, QueryError> {
        let budget = self.budget;
        let lock = |x: usize| rows[x].lock().unwrap_or_else(PoisonError::into_inner);
        let lens: Vec<usize> = (0..rows.len()).map(|x| lock(x).all.len()).collect();
        let n: usize = lens.iter().sum();
        if n >= u32::MAX as usize {
            return Err(QueryError::RowLimit { limit: u64::from(u32::MAX), used: budget.usage() });
        }
        budget.spend(0, n * 20)?;
        let cols = self.threads.filled(&lens, |x, [first, second]| {
            first.fill(xs.cells[x]);
            second.iter_mut().zip(&lock(x).all).for_each(|(cell, y)| *cell = ys.cells[*y as usize]);
        });
        Ok(Rel::new(vec![0, 1], cols.into(), budget).keyed(Some(vec![0, 1])).sorted_by(Some(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_set_however_it_is_held() {
        for (nodes, rounds) in [(10, 3), (4000, 9), (1_000_000, 9)] {
            let mut row = Row::default();
            let mut marks = Marks { mark: vec![0; nodes], number: u32::MAX - 3 };
            let mut known = std::collections::BTreeSet::new();
            for round in 0..rounds {
                row.settle(nodes);
                marks.begin(&row);
                for i in 0..8 {
                    // Half of them were there before.
                    let y = (round * 4 + i) * 7919 % nodes;
                    let had = row.all.len();
                    marks.enter(&mut row, y as u32);
                    assert_eq!(
                        row.all.len() > had,
                        known.insert(y as u32),
                        "{y} of {nodes} in round {round}"
                    );
                }
            }
            let mut all = row.all.clone();
            all.sort_unstable();
            assert!(all.iter().eq(&known));
            let held = match row.seen {
                Seen::Few => 10,
                Seen::Bits(_) => 4000,
                Seen::Set(_) => 1_000_000,
            };
            assert_eq!(held, nodes);
        }
    }
}
