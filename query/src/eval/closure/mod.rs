//! Linear recursion with a column that passes through: paths.
//!
//! `p(x y) <- base(x y)` with `p(x y) <- p(x z) step(z y)` carries `x` along
//! unchanged, so `p = base . step*`; the mirror image `p(x y) <- step(x z) p(z y)`
//! gives `p = step* . base`; `p(x y) <- p(x z) p(z y)` is `base . base*`. Instead of
//! joining pairs again and again, each value of the untouched column walks the
//! graph of `step` by itself, with a dense set of visited nodes (sequestration).
//!
//! 1. With a column bound, only the part of the graph that can be reached from the
//!    bindings is read, from either end.
//! 2. Nodes are numbered densely per walk; a visited mark is a word compare.

use super::Run;
use super::rel::{Hasher, Rel, Var};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::resolve::ir::{Body, Kind, Pred, Program, Term};
use annals_model::Cell;
use hashbrown::HashMap;
use std::cell::OnceCell;
use std::rc::Rc;

/// On which side of the walk the base stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// `base . step*`
    Left,
    /// `step* . base`
    Right,
}

/// A binary relation given by bodies over two variables each.
type Edges = Vec<(Body, Var, Var)>;

/// A predicate recognised as a walk.
pub(crate) struct Path {
    side: Side,
    base: Edges,
    step: Edges,
    whole: OnceCell<Rc<Graph>>,
}

/// Which way edges are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
}

impl Path {
    /// The walk that a predicate is, if it is one.
    pub(crate) fn of(program: &Program, pred: Pred) -> Option<Path> {
        let p = &program.preds[pred];
        if p.arity != 2 || p.required.iter().any(|r| *r) {
            return None;
        }
        if program.preds.iter().enumerate().any(|(i, q)| i != pred && q.component == p.component) {
            return None;
        }
        let (mut base, mut left, mut right, mut double) = (Edges::new(), Edges::new(), Edges::new(), 0);
        for r in &p.rules {
            let [x, y] = r.head[..] else { return None };
            let calls: Vec<usize> =
                (0..r.body.clauses.len()).filter(|&i| is_call(&r.body.clauses[i].kind, pred)).collect();
            let args = |i: usize| match &r.body.clauses[i].kind {
                Kind::Call { args, .. } => match args[..] {
                    [Term::Var(a), Term::Var(b)] if a != b => Some((a, b)),
                    _ => None,
                },
                _ => None,
            };
            let mut rest = r.body.clone();
            match calls[..] {
                [] => base.push((rest, x, y)),
                [i] => {
                    let (a, b) = args(i)?;
                    rest.clauses.remove(i);
                    let mentions = |v: Var| rest.clauses.iter().any(|c| c.vars.contains(&v));
                    if a == x && b != y && !mentions(x) && mentions(b) && mentions(y) {
                        left.push((rest, b, y));
                    } else if b == y && a != x && !mentions(y) && mentions(a) && mentions(x) {
                        right.push((rest, x, a));
                    } else {
                        return None;
                    }
                }
                [i, j] if r.body.clauses.len() == 2 => {
                    let ((a, b), (c, d)) = (args(i)?, args(j)?);
                    let chain = (a == x && b == c && d == y) || (c == x && d == a && b == y);
                    if !chain || b == y || a == y {
                        return None;
                    }
                    double += 1;
                }
                _ => return None,
            }
        }
        // Every body must be safe without any binding, and read no facts of others' fixpoints.
        let safe = |edges: &Edges| {
            edges.iter().all(|(b, x, y)| {
                let (after, stuck) = crate::resolve::check::closure(b, &Default::default(), program);
                stuck.is_empty() && after.has(*x) && after.has(*y)
            })
        };
        if base.is_empty() || !safe(&base) || !safe(&left) || !safe(&right) {
            return None;
        }
        let (side, step) = match (left.is_empty(), right.is_empty(), double) {
            (false, true, 0) => (Side::Left, left),
            (true, false, 0) => (Side::Right, right),
            (true, true, 1..) => (Side::Left, base.clone()),
            _ => return None,
        };
        Some(Path { side, base, step, whole: OnceCell::new() })
    }
}

fn is_call(k: &Kind, pred: Pred) -> bool {
    matches!(k, Kind::Call { pred: p, .. } if *p == pred)
}

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

/// Adjacency by node number.
#[derive(Default)]
struct Adjacency {
    first: Vec<u32>,
    to: Vec<u32>,
}

impl Adjacency {
    fn of(pairs: &[(u32, u32)], nodes: usize) -> Adjacency {
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
    fn next(&self, n: u32) -> &[u32] {
        match self.first.get(n as usize + 1) {
            Some(end) => &self.to[self.first[n as usize] as usize..*end as usize],
            None => &[],
        }
    }
}

/// The whole of base and step with numbered nodes; numbers ascend with cells.
struct Graph {
    cells: Vec<Cell>,
    base: Adjacency,
    step: Adjacency,
    /// Base and step are the same edges.
    same: bool,
}

impl Run<'_> {
    /// Edges of a relation that leave these nodes (or arrive, backward): pairs (node, neighbour).
    fn neighbours(
        &self,
        edges: &Edges,
        from: Option<&[Cell]>,
        way: Way,
    ) -> Result<Vec<(Cell, Cell)>, QueryError> {
        let mut out = Vec::new();
        for (body, x, y) in edges {
            let (here, there) = if way == Way::Forward { (*x, *y) } else { (*y, *x) };
            let outside = match from {
                Some(nodes) => {
                    let sorted = nodes.is_sorted().then_some(here);
                    vec![
                        Rel::new(vec![here], vec![nodes.to_vec()], self.budget)
                            .keyed(Some(vec![here]))
                            .sorted_by(sorted),
                    ]
                }
                None => vec![],
            };
            let r = self.body(body, outside, &[here, there])?;
            if r.is_empty() {
                continue;
            }
            let (a, b) = (r.col(here).expect("needed"), r.col(there).expect("needed"));
            self.budget.spend(0, r.len * 16)?;
            out.extend(a.iter().copied().zip(b.iter().copied()));
        }
        if edges.len() > 1 {
            out.sort_unstable();
            out.dedup();
        }
        Ok(out)
    }

    /// The pairs of the walk for these bindings of its bound columns, over variables 0 and 1.
    pub(crate) fn closure(&self, path: &Path, bound: &[bool], cols: &[Vec<Cell>]) -> Result<Rel, QueryError> {
        let (xs, ys) = match (bound[0], bound[1]) {
            (false, false) => {
                let g = self.whole(path)?;
                return self.walk_all(path.side, &g);
            }
            (true, true) => (Some(&cols[0]), Some(&cols[1])),
            (true, false) => (Some(&cols[0]), None),
            (false, true) => (None, Some(&cols[0])),
        };
        let way = if xs.is_some() { Way::Forward } else { Way::Backward };
        let mut sources = xs.or(ys).expect("one is bound").clone();
        sources.sort_unstable();
        sources.dedup();
        // Forward on a Left path, or backward on a Right one, the base comes first.
        let base_first = (path.side == Side::Left) == (way == Way::Forward);
        let pairs = match &sources[..] {
            [one] => self.walk_one(path, *one, way, base_first)?,
            _ => self.walk_many(path, &sources, way, base_first)?,
        };
        let (mut a, mut b): (Vec<Cell>, Vec<Cell>) = pairs.into_iter().unzip();
        if way == Way::Backward {
            std::mem::swap(&mut a, &mut b);
        }
        let out = Rel::new(vec![0, 1], vec![a, b], self.budget).keyed(Some(vec![0, 1]));
        if xs.is_some() && ys.is_some() {
            let asked = Rel::new(vec![0, 1], cols.to_vec(), self.budget);
            return super::join::semi(&out, &asked, true, self.budget);
        }
        Ok(out)
    }

    /// Everything reached from one node.
    fn walk_one(
        &self,
        path: &Path,
        from: Cell,
        way: Way,
        base_first: bool,
    ) -> Result<Vec<(Cell, Cell)>, QueryError> {
        let mut seen: hashbrown::HashSet<Cell, Hasher> = hashbrown::HashSet::with_hasher(Hasher::default());
        let mut order: Vec<Cell> = Vec::new();
        let mut frontier: Vec<Cell> = if base_first {
            self.neighbours(&path.base, Some(&[from]), way)?.into_iter().map(|(_, b)| b).collect()
        } else {
            vec![from]
        };
        frontier.retain(|c| seen.insert(*c));
        while !frontier.is_empty() {
            frontier.sort_unstable();
            order.extend_from_slice(&frontier);
            self.budget.spend(frontier.len(), order.len() * 24)?;
            let mut next: Vec<Cell> =
                self.neighbours(&path.step, Some(&frontier), way)?.into_iter().map(|(_, b)| b).collect();
            next.retain(|c| seen.insert(*c));
            frontier = next;
        }
        if base_first {
            order.sort_unstable();
            return Ok(order.into_iter().map(|to| (from, to)).collect());
        }
        order.sort_unstable();
        let mut ends: Vec<Cell> =
            self.neighbours(&path.base, Some(&order), way)?.into_iter().map(|(_, b)| b).collect();
        ends.sort_unstable();
        ends.dedup();
        Ok(ends.into_iter().map(|to| (from, to)).collect())
    }

    /// Everything reached from each of several nodes: first the part of the graph that any
    /// of them can reach, then a walk for each.
    fn walk_many(
        &self,
        path: &Path,
        sources: &[Cell],
        way: Way,
        base_first: bool,
    ) -> Result<Vec<(Cell, Cell)>, QueryError> {
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
        let mut out = Vec::new();
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
            let begin = out.len();
            out.extend(reached.iter().map(|n| (*s, numbers.cells[*n as usize])));
            out[begin..].sort_unstable();
            self.budget.spend(out.len() - begin, out.len() * 16)?;
        }
        Ok(out)
    }

    fn whole(&self, path: &Path) -> Result<Rc<Graph>, QueryError> {
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
    fn walk_all(&self, side: Side, g: &Graph) -> Result<Rel, QueryError> {
        let n = g.cells.len();
        let step = if g.same { &g.base } else { &g.step };
        let mut walk = Walk::new(n);
        let (mut xs, mut ys): (Vec<Cell>, Vec<Cell>) = (Vec::new(), Vec::new());
        let mut spent = 0;
        for source in 0..n as u32 {
            let reached = if side == Side::Left || g.same {
                let starts = g.base.next(source);
                if starts.is_empty() {
                    continue;
                }
                walk.from(starts, step, None)
            } else {
                walk.from(&[source], step, Some(&g.base))
            };
            reached.sort_unstable();
            xs.extend(std::iter::repeat_n(g.cells[source as usize], reached.len()));
            ys.extend(reached.iter().map(|n| g.cells[*n as usize]));
            if xs.len() - spent > 16 * BATCH || source % 256 == 0 {
                self.budget.spend(xs.len() - spent, xs.len() * 16)?;
                spent = xs.len();
            }
        }
        Ok(Rel::new(vec![0, 1], vec![xs, ys], self.budget).keyed(Some(vec![0, 1])).sorted_by(Some(0)))
    }
}

/// A walk with marks that need no clearing: a node is seen when its mark is this walk's number.
struct Walk {
    mark: Vec<u32>,
    end_mark: Vec<u32>,
    number: u32,
    queue: Vec<u32>,
    ends: Vec<u32>,
}

impl Walk {
    fn new(nodes: usize) -> Walk {
        Walk {
            mark: vec![0; nodes],
            end_mark: vec![0; nodes],
            number: 0,
            queue: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The nodes reached from `starts` (which are among them) by steps, or what `last`
    /// leads to from those.
    fn from(&mut self, starts: &[u32], step: &Adjacency, last: Option<&Adjacency>) -> &mut Vec<u32> {
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
}
