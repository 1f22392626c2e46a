//! Linear recursion with a column that passes through: paths.
//!
//! `p(x y) <- base(x y)` with `p(x y) <- p(x z) step(z y)` carries `x` along
//! unchanged, so `p = base . step*`; the mirror image `p(x y) <- step(x z) p(z y)`
//! gives `p = step* . base`; `p(x y) <- p(x z) p(z y)` is `base . base*`. Instead of
//! joining pairs again and again, each value of the untouched column walks the
//! graph of `step` by itself, with a dense set of visited nodes (sequestration).
//!
//! With a column bound, only the part of the graph that can be reached from the
//! bindings is read, from either end: from one node in `one`, from several in `many`;
//! all pairs in `all`. `edges` reads the graph. Recursion that changes both columns is `both`.

mod all;
mod both;
mod edges;
mod many;
mod one;

use super::Run;
use super::rel::{Rel, Var};
use crate::error::QueryError;
use crate::resolve::ir::{Body, Kind, Pred, Program, Term};
use all::Graph;
use annals_model::Cell;
pub(crate) use both::Both;
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
        if p.arity != 2 || p.required.iter().any(|r| *r) || p.best.iter().any(Option::is_some) {
            return None;
        }
        if program.preds.iter().enumerate().any(|(i, q)| i != pred && q.component == p.component) {
            return None;
        }
        let (mut base, mut left, mut right, mut double) = (Edges::new(), Edges::new(), Edges::new(), 0);
        for r in &p.rules {
            let [x, y] = r.head[..] else { return None };
            let calls = calls_of(&r.body, pred);
            let mut rest = r.body.clone();
            match calls[..] {
                [] => base.push((rest, x, y)),
                [(i, args)] => {
                    let (a, b) = args?;
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
                [(_, one), (_, other)] if r.body.clauses.len() == 2 => {
                    let ((a, b), (c, d)) = (one?, other?);
                    let chain = (a == x && b == c && d == y) || (c == x && d == a && b == y);
                    if !chain || b == y || a == y {
                        return None;
                    }
                    double += 1;
                }
                _ => return None,
            }
        }
        if base.is_empty() || !safe(&base, program) || !safe(&left, program) || !safe(&right, program) {
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

/// The clauses of a body that call a predicate of two columns, with the variables they call it
/// for if those are two.
fn calls_of(body: &Body, pred: Pred) -> Vec<(usize, Option<(Var, Var)>)> {
    let called = |(i, c): (usize, &crate::resolve::ir::Clause)| match &c.kind {
        Kind::Call { pred: p, args } if *p == pred => Some(match args[..] {
            [Term::Var(a), Term::Var(b)] if a != b => (i, Some((a, b))),
            _ => (i, None),
        }),
        _ => None,
    };
    body.clauses.iter().enumerate().filter_map(called).collect()
}

/// Can every body be run without any binding, and does it bind both its ends?
fn safe(edges: &Edges, program: &Program) -> bool {
    edges.iter().all(|(b, x, y)| {
        let (after, stuck) = crate::resolve::check::closure(b, &Default::default(), program);
        stuck.is_empty() && after.has(*x) && after.has(*y)
    })
}

impl Run<'_> {
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
        let (mut a, mut b) = match &sources[..] {
            [one] => {
                let reached = self.walk_one(path, *one, way, base_first)?;
                (vec![*one; reached.len()], reached)
            }
            _ => self.walk_many(path, &sources, way, base_first)?,
        };
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
}
