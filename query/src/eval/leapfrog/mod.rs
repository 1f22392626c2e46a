//! Cyclic joins all at once: Leapfrog Triejoin (Veldhuizen, *Leapfrog Triejoin: a simple,
//! worst-case optimal join algorithm*, ICDT 2014).
//!
//! Joining two patterns of a triangle at a time first makes every path of two edges, of
//! which there may be far more than edges or triangles. Here one *variable* at a time is
//! bound: a value for it must stand in every pattern that has it, which is an intersection
//! of sorted lists, leapfrogging over what the others do not have.
//!
//! A pattern over two variables is a trie of two levels: its column sorted by whichever
//! place comes first in the order of variables, the heads, each with a sorted run of leaves.
//!
//! 1. Only patterns of a known attribute with two different variables take part, in views
//!    without history: there no pair stands twice, so no row does.
//! 2. Departing from the paper, heads met after the first variable are not leapt over but
//!    looked up, in an array when they lie close together.
//!    The last variable, when two lists have it and one of them stays, is found by bits.
//! 3. Rows come out in order of the variables, whatever the threads: they share the values
//!    of the first variable.
//!
//! Here: which patterns are joined so, and in which order of variables. `trie` holds a pattern,
//! `walk` goes through all of them.

mod trie;
mod walk;

use super::Run;
use super::body::State;
use super::parallel::joined;
use super::rel::{Rel, Var};
use crate::error::QueryError;
use crate::plan::estimate;
use crate::resolve::ir::{Attr, Kind, Pattern, Term};
use annals_model::{Cell, Order};
use trie::{Leap, List, Trie};
use walk::{Join, Walk};

/// How cyclic patterns are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum JoinChoice {
    /// By what either way is expected to cost.
    #[default]
    Best,
    /// Two relations at a time, always.
    Pairwise,
    /// All at once wherever it can be done.
    Leapfrog,
}

/// Patterns whose variables form cycles, to be joined at once.
pub(crate) struct Core {
    /// Their clauses.
    pub(crate) clauses: Vec<usize>,
    /// Their variables, in the order in which they are bound.
    pub(crate) vars: Vec<Var>,
    /// Rows that are expected.
    pub(crate) rows: f64,
}

/// A pattern that can be a trie: its two variables, entity first.
fn edge(run: &Run<'_>, kind: &Kind) -> Option<(Var, Var)> {
    let Kind::Pattern(p) = kind else { return None };
    let (Attr::Known(_), Term::Blank, Term::Blank) = (&p.a, &p.tx, &p.op) else { return None };
    match (&p.e, &p.v) {
        (Term::Var(e), Term::Var(v)) if e != v && !run.db(p.src).view().history => Some((*e, *v)),
        _ => None,
    }
}

/// Patterns to be joined, as far as counting tells.
struct Paths {
    /// Their rows, added up.
    rows: f64,
    /// Rows that the first join of two of them would leave at the least.
    count: f64,
    /// Where those paths begin, and what is in their middle.
    along: [Var; 2],
}

impl Run<'_> {
    /// The cyclic patterns that clause `first`, which is the best to begin with, is one of, if
    /// joining them at once is expected to be less work.
    pub(crate) fn core(&self, s: &State<'_>, first: usize) -> Result<Option<Core>, QueryError> {
        if self.joins == JoinChoice::Pairwise || !self.optimise || s.left.len() < 3 {
            return Ok(None);
        }
        let clauses = &s.body.clauses;
        if edge(self, &clauses[first].kind).is_none() {
            return Ok(None);
        }
        // Patterns that touch what is bound are better extended from there.
        let free = |(e, v): &(Var, Var)| !s.bound.has(*e) && !s.bound.has(*v);
        let mut edges: Vec<(usize, (Var, Var))> = s
            .left
            .iter()
            .filter_map(|&i| edge(self, &clauses[i].kind).filter(free).map(|vars| (i, vars)))
            .collect();
        // What hangs on a cycle by one variable is no part of it.
        let degree = |edges: &[(usize, (Var, Var))], v: Var| {
            edges.iter().filter(|(_, (a, b))| *a == v || *b == v).count()
        };
        loop {
            let before = edges.len();
            let kept: Vec<_> = edges
                .iter()
                .copied()
                .filter(|(_, (a, b))| degree(&edges, *a) > 1 && degree(&edges, *b) > 1)
                .collect();
            edges = kept;
            if edges.len() == before {
                break;
            }
        }
        if !edges.iter().any(|(i, _)| *i == first) {
            return Ok(None);
        }
        // The part that hangs together with the first.
        let (_, (a, b)) = *edges.iter().find(|(i, _)| *i == first).expect("just seen");
        let mut part = vec![a, b];
        while let Some(v) = edges.iter().find_map(|(_, (x, y))| match (part.contains(x), part.contains(y)) {
            (true, false) => Some(*y),
            (false, true) => Some(*x),
            _ => None,
        }) {
            part.push(v);
        }
        edges.retain(|(_, (x, _))| part.contains(x));
        if part.len() < 3 {
            return Ok(None);
        }
        let paths = self.paths(s, &edges)?;
        if self.joins == JoinChoice::Best && paths.count <= 2.0 * paths.rows {
            return Ok(None);
        }
        // Along the fewest paths of two edges, then where a variable meets as many earlier ones as
        // can be: so whichever clause is written first, the order is the same.
        let mut vars = paths.along.to_vec();
        loop {
            let meets = |v: Var| {
                let to = |(_, (x, y)): &&(usize, (Var, Var))| {
                    (*x == v && vars.contains(y)) || (*y == v && vars.contains(x))
                };
                edges.iter().filter(to).count()
            };
            let next = edges
                .iter()
                .flat_map(|(_, (x, y))| [*x, *y])
                .filter(|v| !vars.contains(v) && meets(*v) > 0)
                .max_by_key(|v| (meets(*v), std::cmp::Reverse(*v)));
            match next {
                Some(v) => vars.push(v),
                None => break,
            }
        }
        let clauses = edges.into_iter().map(|(i, _)| i).collect();
        Ok(Some(Core { clauses, vars, rows: paths.rows }))
    }

    /// What is known of the patterns together before they are joined.
    fn paths(&self, s: &State<'_>, edges: &[(usize, (Var, Var))]) -> Result<Paths, QueryError> {
        let pattern = |i: usize| -> &Pattern {
            match &s.body.clauses[i].kind {
                Kind::Pattern(p) => p,
                _ => unreachable!("edges are patterns"),
            }
        };
        let (_, (e, v)) = edges[0];
        let mut paths = Paths { rows: 0.0, count: f64::INFINITY, along: [e, v] };
        for (i, (e, v)) in edges {
            let (n, _) = estimate::fanout(self, pattern(*i), None)?;
            paths.rows += n;
            for (j, (e2, v2)) in edges {
                for (mine, theirs, order) in [(v, e2, Order::Eav), (v, v2, Order::Ave), (e, e2, Order::Eav)] {
                    if i == j || mine != theirs {
                        continue;
                    }
                    let from = if mine == v { Order::Ave } else { Order::Eav };
                    let (_, each) = estimate::fanout(self, pattern(*j), Some((pattern(*i), from, order)))?;
                    if n * each < paths.count {
                        let other = if mine == v { *e } else { *v };
                        (paths.count, paths.along) = (n * each, [other, *mine]);
                    }
                }
            }
        }
        Ok(paths)
    }

    /// The rows of a core over its variables.
    pub(crate) fn leapfrog(&self, s: &State<'_>, core: &Core) -> Result<Rel, QueryError> {
        let mut tries = Vec::new();
        let at = |v: Var| core.vars.iter().position(|x| *x == v).expect("a variable of the core");
        for &i in &core.clauses {
            let Kind::Pattern(p) = &s.body.clauses[i].kind else { unreachable!("edges are patterns") };
            let (Attr::Known(a), Some(e), Some(v)) = (&p.a, p.e.var(), p.v.var()) else {
                unreachable!("edges have an attribute and two variables")
            };
            let order = if at(e) < at(v) { Order::Eav } else { Order::Ave };
            let (first, second) = if order == Order::Eav { (at(e), at(v)) } else { (at(v), at(e)) };
            tries.push(Trie::new(self.column(p.src, *a, order)?, first, second));
        }
        let join = Join::new(tries, core.vars.len());
        let budget = self.budget;
        // The first variable has heads only.
        let mut starts: Vec<Cell> = Vec::new();
        let lists = join.levels[0].heads.iter().map(|t| List { words: &join.tries[*t].heads, tag: 0 });
        let mut leap = Leap::new(lists.collect());
        while let Some(c) = leap.next() {
            starts.push(c);
        }
        let rows: usize = join.tries.iter().map(|t| t.column.len()).sum();
        budget.spend(0, starts.len() * 8 + rows * 8)?;
        let pieces = self.threads.map(starts.len(), rows, |piece| {
            let mut walk = Walk::new(&join, budget.held());
            for c in &starts[piece] {
                walk.bind(0, *c)?;
            }
            walk.spend()?;
            Ok(walk.cols)
        })?;
        let mut cols: Vec<Vec<Vec<Cell>>> = vec![Vec::new(); core.vars.len()];
        for piece in pieces {
            for (col, part) in cols.iter_mut().zip(piece) {
                col.push(part);
            }
        }
        let cols = cols.into_iter().map(joined).collect();
        Ok(Rel::new(core.vars.clone(), cols, self.budget)
            .keyed(Some(core.vars.clone()))
            .sorted_by(core.vars.first().copied()))
    }
}
