//! A conjunction answered block by block, as far as somebody asks.
//!
//! `body` makes whole relations, each from all rows of the one before. Here a part that a clause
//! would make too much of is *cut*: some of its rows go on to the end of the body, the others wait
//! on a stack until the rows before them have been handed out. That is the same answer, since a
//! conjunction of a union is the union of the conjunctions, and the same operators make it.
//!
//! 1. What is held is the parts as they were cut, one a clause at most, and a block; what is made
//!    for a block is about `limit` rows a clause, however many the whole would be.
//! 2. The first blocks are small, so that they come soon; the more is asked for, the larger they
//!    get, so that an answer taken to its end costs little more than one made at once.
//! 3. No row comes twice. Rows of different pieces of a part differ if the part's key is shown.
//!    Where it is not, rows handed out are remembered, and paid for, until that part is at its end.
//! 4. A clause that must see all its input at once, or answers for all of it at once (a recursive
//!    rule, a fold, a nested query), has run before anything is cut.

use super::Run;
use super::body::State;
use super::facts::{Facts, Hashed, Part};
use super::rel::{Rel, Var};
use crate::error::QueryError;
use crate::resolve::VarSet;
use crate::resolve::ir::{Body, Clause, Expr, Kind};

/// Rows that a clause may make for the first block.
const FIRST: usize = 4096;
/// By how much that grows from one block to the next.
const GROWTH: usize = 4;
/// Rows that a clause may make for any block.
const LARGEST: usize = 1 << 18;
/// Rows of a part that are worth a step of their own, where the rows they make are estimated.
const PIECE: usize = 256;

/// The rest of a conjunction's answer.
pub(crate) struct Pipe {
    needed: Vec<Var>,
    waiting: Vec<Waiting>,
    /// Rows handed out of parts whose key is not shown.
    seen: Option<Hashed>,
    limit: usize,
}

/// A state of the conjunction to go on from.
struct Waiting {
    parts: Vec<Rel>,
    left: Vec<usize>,
    bound: VarSet,
    /// A part of which the first rows are done.
    cut: Option<Cut>,
    /// May its rows be those of other states?
    repeats: bool,
}

#[derive(Clone, Copy)]
struct Cut {
    part: usize,
    /// Rows of it that are done.
    done: usize,
    /// Rows that one of its rows is expected to make.
    each: f64,
    /// Never fewer rows at a time.
    least: usize,
    /// The clause it was cut for, unless for the product of what is found.
    clause: Option<usize>,
}

impl Pipe {
    /// All of the body's answer over `needed`, with these relations bound outside.
    pub(crate) fn new(body: &Body, outside: Vec<Rel>, needed: Vec<Var>) -> Pipe {
        let s = State::new(body, outside, &needed);
        let first = Waiting { left: s.left, bound: s.bound, parts: s.parts, cut: None, repeats: false };
        Pipe { waiting: vec![first], needed, seen: None, limit: FIRST }
    }

    /// The next rows of the answer, none of which came before; none at the end.
    pub(crate) fn next(&mut self, run: &Run<'_>, body: &Body) -> Result<Option<Rel>, QueryError> {
        while let Some(mut w) = self.waiting.pop() {
            if let Some(cut) = w.cut.take() {
                self.piece(&mut w, cut, run);
            }
            let block = run.deeper(|| self.advance(run, body, w))?;
            self.limit = (self.limit * GROWTH).min(LARGEST);
            if !self.waiting.iter().any(|w| w.repeats) {
                self.seen = None;
            }
            if let Some(block) = block
                && !block.is_empty()
            {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// Leaves in a state the next rows of its cut part; the rest waits.
    fn piece(&mut self, w: &mut Waiting, cut: Cut, run: &Run<'_>) {
        let part = &w.parts[cut.part];
        let rows = ((self.limit as f64 / cut.each) as usize).max(cut.least).max(1);
        let end = part.len.min(cut.done.saturating_add(rows));
        let piece = part.slice(cut.done..end, run.budget);
        if end < part.len {
            self.waiting.push(Waiting {
                parts: w.parts.clone(),
                left: w.left.clone(),
                bound: w.bound.clone(),
                cut: Some(Cut { done: end, ..cut }),
                repeats: w.repeats,
            });
        }
        w.parts[cut.part] = piece;
    }

    /// Runs a state to its end, cutting on the way what gets too large.
    fn advance(&mut self, run: &Run<'_>, body: &Body, w: Waiting) -> Result<Option<Rel>, QueryError> {
        let needed = self.needed.clone();
        let mut repeats = w.repeats;
        let mut s = State::new(body, w.parts, &needed);
        (s.left, s.bound) = (w.left, w.bound);
        let mut cut_for: Option<usize> = None;
        loop {
            if s.empty {
                return Ok(None);
            }
            run.budget.check()?;
            if s.left.is_empty() {
                if let Some(cut) = self.product(run, &mut s)? {
                    self.cut(run, &mut s, cut, &mut repeats)?;
                    continue;
                }
                let block = run.finish(s, true)?;
                return self.unseen(run, block, repeats).map(Some);
            }
            let (i, estimated) = run.choose(&s)?;
            let core = run.core(&s, i)?;
            let whole = core.is_some() || s.left.iter().any(|c| sees_all(&body.clauses[*c]));
            if !whole
                && let Some(cut) = self.growth(&s, i, estimated)
                && (cut.clause.is_none() || cut_for != cut.clause)
            {
                cut_for = cut.clause;
                self.cut(run, &mut s, cut, &mut repeats)?;
                continue;
            }
            match core {
                Some(core) => run.core_step(&mut s, &core)?,
                None => {
                    s.left.retain(|x| *x != i);
                    run.step(&mut s, i, estimated)?;
                }
            }
            run.prune(&mut s)?;
        }
    }

    /// Cuts a part: its first rows stay in the state, which goes on.
    fn cut(
        &mut self,
        run: &Run<'_>,
        s: &mut State<'_>,
        cut: Cut,
        repeats: &mut bool,
    ) -> Result<(), QueryError> {
        let needed = s.needed;
        let shown = |vars: &[Var]| vars.iter().all(|v| needed.contains(v));
        let part = &mut s.parts[cut.part];
        if part.key.is_none() && shown(&part.vars) {
            *part = part.clone().distinct(run.budget)?;
        }
        *repeats |= !part.key.as_ref().is_some_and(|k| shown(k));
        let mut w = Waiting {
            parts: std::mem::take(&mut s.parts),
            left: s.left.clone(),
            bound: s.bound.clone(),
            cut: None,
            repeats: *repeats,
        };
        self.piece(&mut w, cut, run);
        s.parts = w.parts;
        Ok(())
    }

    /// Where to cut before clause `i` runs, if it would make too many rows of what is there.
    fn growth(&self, s: &State<'_>, i: usize, estimated: f64) -> Option<Cut> {
        let c = &s.body.clauses[i];
        // What is multiplied out is known; what is found is estimated.
        let multiplied = match &c.kind {
            Kind::Predicate(e) | Kind::Function(e, _) => Some(e.vars()),
            Kind::Meaning { from, .. } => Some(vec![*from]),
            Kind::Not { join, .. } => Some(join.clone()),
            _ => None,
        };
        let vars = multiplied.as_ref().unwrap_or(&c.vars);
        let touched = |p: &Rel| p.vars.iter().any(|v| vars.contains(v));
        let part = (0..s.parts.len()).filter(|p| touched(&s.parts[*p])).max_by_key(|p| s.parts[*p].len)?;
        let len = s.parts[part].len as f64;
        let made = match multiplied {
            Some(_) => s.parts.iter().filter(|p| touched(p)).map(|p| p.len as f64).product(),
            None => estimated.max(len),
        };
        let exact = multiplied.is_some();
        let least = if exact { 1 } else { PIECE };
        let large = made > self.limit as f64 && len > least as f64;
        large.then_some(Cut {
            part,
            done: 0,
            each: made / len,
            least,
            // The product has other factors to cut; an estimate may stay what it is.
            clause: if exact { None } else { Some(i) },
        })
    }

    /// Where to cut what has been found before it is multiplied out.
    fn product(&self, run: &Run<'_>, s: &mut State<'_>) -> Result<Option<Cut>, QueryError> {
        for p in &mut s.parts {
            *p = p.project(s.needed).distinct(run.budget)?;
        }
        s.parts.retain(|p| !p.vars.is_empty());
        let made: f64 = s.parts.iter().map(|p| p.len as f64).product();
        let Some(part) = (0..s.parts.len()).max_by_key(|p| s.parts[*p].len) else { return Ok(None) };
        let len = s.parts[part].len;
        let large = s.parts.len() > 1 && len > 1 && made > self.limit as f64;
        Ok(large.then(|| Cut { part, done: 0, each: made / len as f64, least: 1, clause: None }))
    }

    /// The rows that have not been handed out, where that is not known.
    fn unseen(&mut self, run: &Run<'_>, block: Rel, repeats: bool) -> Result<Rel, QueryError> {
        if !repeats || block.is_empty() {
            return Ok(block);
        }
        let seen = self.seen.get_or_insert_with(|| Hashed::new(block.vars.len()));
        let cols: Vec<&[annals_model::Cell]> = block.cols.iter().map(|c| &**c).collect();
        seen.derive(&cols, block.len, run.budget)?;
        Ok(match seen.advance(run.budget)? {
            true => seen.rows(Part::Delta, &block.vars, run.budget).keyed(Some(block.vars.clone())),
            false => Rel::empty(&block.vars, run.budget),
        })
    }
}

/// Must the clause have all its input at once, or does running it for pieces repeat its work?
fn sees_all(c: &Clause) -> bool {
    let within = |b: &Body| b.clauses.iter().any(sees_all);
    match &c.kind {
        Kind::Call { .. } | Kind::Facts { .. } | Kind::Fold(_) => true,
        Kind::Predicate(e) | Kind::Function(e, _) => matches!(e, Expr::Query { .. }),
        Kind::Not { body, .. } => within(body),
        Kind::Or { branches, .. } => branches.iter().any(within),
        Kind::Pattern(_) | Kind::Tuples { .. } | Kind::Meaning { .. } | Kind::Never(_) => false,
    }
}
