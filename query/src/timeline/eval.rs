//! A body over time: relations whose rows carry the times at which they hold.
//!
//! A fact holds at its interval; a join holds where both sides do, a negation
//! where the inside does not, an alternative where any branch does. What does
//! not look at the database (comparisons, arithmetic, binding) is the same at
//! every time and is left to the ordinary operators.
//!
//! 1. Sources are history views: their columns hold every assertion and
//!    retraction, from which the intervals are made.
//! 2. Rules run semi-naively in rounds until no row and no time is new; a call
//!    with bound arguments asks only for those (demand).
//! 3. What cannot be said exactly is refused ([`unsupported`]), never guessed.
//!
//! Here: bodies and their clauses. Patterns are read in `read`, rules run in `rules`.

mod fold;
mod read;
mod rules;

use read::{Extended, unify};

use super::rel::{Row, TimeRel};
use super::spans::Spans;
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::rel::{Hasher, Rel, Var};
use crate::resolve::VarSet;
use crate::resolve::check::ready;
use crate::resolve::ir::{
    Arg, Attr, Bind, Body, Clause, Ent, Expr, Kind, Meaning, Pattern, Pred, Slot, Term,
};
use annals_model::{AttrId, Cell, Diagnostic, EntityId, Order, Span, T, Value, cell};
use hashbrown::HashMap;

/// A call of a rule: which, and which of its arguments are bound.
type Goal = (Pred, Vec<bool>);

/// What is known of a goal: the argument tuples asked for, and the rows found.
struct Table {
    asked: TimeRel,
    found: TimeRel,
    /// For rules that fold through themselves: of `found`, what is the best when.
    best: Option<fold::BestRows>,
}

/// One evaluation over time.
pub(super) struct Timeline<'r, 'q> {
    run: &'r Run<'q>,
    /// All times looked at.
    all: Spans,
    tables: HashMap<Goal, Table, Hasher>,
    grew: bool,
    /// Fixpoints that are running: 0 or 1.
    depth: u32,
    /// For what a running fixpoint negates: its rules belong to lower strata and
    /// are computed to their end before they are used.
    lower: Option<Box<Timeline<'r, 'q>>>,
    /// When each tuple of a rule was first derived, counted in rule applications.
    /// A derivation uses only tuples of smaller rank.
    ranks: HashMap<(Pred, Row), u64, Hasher>,
    /// Tuples that were derived and then bettered: steps on the way, not answers.
    stale: hashbrown::HashSet<(Pred, Row), Hasher>,
    n_applied: u64,
    /// While a proof is looked for: calls are answered from tuples of smaller rank.
    below: Option<u64>,
}

/// A part of the language whose answer over time is not computed.
fn unsupported(what: &str, at: Span) -> QueryError {
    let d = Diagnostic::new("query/unsupported", format!("{what} has no timeline"))
        .help("ask for single times with as-of, or leave it out");
    QueryError::Invalid(vec![if at == Span::default() {
        d
    } else {
        d.at(at, "cannot be followed through time")
    }])
}

impl<'r, 'q> Timeline<'r, 'q> {
    pub fn new(run: &'r Run<'q>, all: Spans) -> Self {
        Timeline {
            run,
            all,
            tables: HashMap::with_hasher(Hasher::default()),
            grew: false,
            depth: 0,
            lower: None,
            ranks: HashMap::with_hasher(Hasher::default()),
            stale: hashbrown::HashSet::with_hasher(Hasher::default()),
            n_applied: 0,
            below: None,
        }
    }

    /// All times looked at.
    pub(super) fn all(&self) -> &Spans {
        &self.all
    }

    /// The tuple of a rule that fits `known`, of smallest rank below `rank`, with its rank. One
    /// that was bettered later is taken only within the recursion, and if there is no other.
    pub(super) fn earliest(&self, pred: Pred, known: &[Option<Cell>], rank: u64) -> Option<(Row, u64)> {
        let fits = |row: &Row| known.iter().zip(row.iter()).all(|(k, c)| k.is_none_or(|k| k == *c));
        self.ranks
            .iter()
            .filter(|((p, row), r)| *p == pred && **r < rank && fits(row))
            .map(|(at, r)| (self.stale.contains(at), *r, &at.1))
            .filter(|(stale, ..)| !stale || rank < u64::MAX)
            .min()
            .map(|(_, r, row)| (row.clone(), r))
    }

    /// The rows of a body, with rule calls answered from what has been derived before `rank`.
    pub(super) fn body_below(
        &mut self,
        rank: u64,
        body: &Body,
        start: TimeRel,
    ) -> Result<TimeRel, QueryError> {
        let before = self.below.replace(rank);
        let out = self.body(body, start);
        self.below = before;
        out
    }

    /// The rows of a body, extending the rows of `start`.
    pub fn body(&mut self, body: &Body, start: TimeRel) -> Result<TimeRel, QueryError> {
        let mut bound: VarSet = start.vars.iter().copied().collect();
        let mut left: Vec<&Clause> = body.clauses.iter().collect();
        let mut rel = start;
        while !left.is_empty() {
            self.run.budget.spend(0, rel.bytes())?;
            let Some(at) = self.next(&left, &bound)? else {
                // Resolution shows that an order exists; no guess is made if that fails.
                return Err(unsupported("a clause whose variables are not bound", left[0].span));
            };
            let c = left.remove(at);
            rel = self.clause(c, rel)?;
            bound.extend(rel.vars.iter().copied());
        }
        Ok(rel)
    }

    /// The cheapest clause that is ready: tests, then patterns with most bound
    /// and the fewest datoms, then rules, then negations.
    pub(super) fn next(&self, left: &[&Clause], bound: &VarSet) -> Result<Option<usize>, QueryError> {
        let mut best: Option<((u8, u64), usize)> = None;
        for (i, c) in left.iter().enumerate() {
            if !ready(c, bound, &self.run.program) {
                continue;
            }
            let cost = match &c.kind {
                Kind::Predicate(_) | Kind::Meaning { .. } | Kind::Never(_) => (0, 0),
                Kind::Function(..) => (1, 0),
                Kind::Tuples { .. } => (2, 0),
                Kind::Pattern(p) => {
                    let known = |t: &Term| match t {
                        Term::Var(v) => bound.has(*v),
                        Term::Blank => false,
                        Term::Const(_) | Term::Ent(_) => true,
                    };
                    let rows = match p.a {
                        Attr::Known(a) => self.run.db(p.src).stats(a).rows,
                        Attr::Var(_) | Attr::Any => u64::MAX / 2,
                    };
                    match (known(&p.e), known(&p.v)) {
                        (true, true) => (2, rows),
                        (true, false) | (false, true) => (3, rows),
                        (false, false) => (if p.e.var().is_some_and(|v| bound.has(v)) { 4 } else { 6 }, rows),
                    }
                }
                Kind::Or { .. } | Kind::Fold(_) => (5, 0),
                Kind::Call { .. } | Kind::Facts { .. } => (7, 0),
                Kind::Not { .. } => (8, 0),
            };
            if best.is_none_or(|(b, _)| cost < b) {
                best = Some((cost, i));
            }
        }
        Ok(best.map(|(_, i)| i))
    }

    pub(super) fn clause(&mut self, c: &Clause, rel: TimeRel) -> Result<TimeRel, QueryError> {
        match &c.kind {
            Kind::Pattern(p) => self.pattern(p, rel),
            Kind::Tuples { .. } => Err(unsupported("a collection as a source", c.span)),
            Kind::Predicate(Expr::Missing { src, e, a }) => {
                let (rel, held) = self.held(rel, *src, e, *a)?;
                let mut out = TimeRel::new(rel.vars.clone());
                for (row, times) in rel.rows {
                    let gone =
                        held.get(&row).into_iter().flatten().fold(Spans::default(), |s, (_, t)| s.or(t));
                    out.add(row, times.minus(&gone));
                }
                Ok(out)
            }
            Kind::Predicate(e) => {
                self.timeless(e, c.span)?;
                self.ordinary(rel, |run, r| run.filter(e, r, c.span))
            }
            Kind::Function(Expr::GetElse { src, e, a, default }, bind) => {
                let (rel, held) = self.held(rel, *src, e, *a)?;
                let Bind::Var(to) = bind else { return Err(unsupported("get-else into a pattern", c.span)) };
                let default_at = match default {
                    Arg::Var(v) => rel.position(*v),
                    _ => None,
                };
                let constant = match default {
                    Arg::Const(v) => self.run.dict.encode(v),
                    _ => cell::NIL,
                };
                let mut out = Extended::new(&rel, *to);
                for (row, times) in &rel.rows {
                    let mut rest = times.clone();
                    for (v, t) in held.get(row).into_iter().flatten() {
                        out.add(row, *v, times.and(t));
                        rest = rest.minus(t);
                    }
                    out.add(row, default_at.map_or(constant, |i| row[i]), rest);
                }
                Ok(out.rel)
            }
            Kind::Function(e, bind) => {
                self.timeless(e, c.span)?;
                self.ordinary(rel, |run, r| run.function(e, bind, r, c.span))
            }
            Kind::Meaning { from, to, as_what } => self.meaning(rel, *from, *to, as_what),
            Kind::Not { join, body } => {
                let seed = rel.project(join);
                let inside = self.complete(body, seed)?;
                Ok(rel.minus(&inside.project(join)))
            }
            Kind::Or { vars, branches, .. } => {
                let bound: Vec<Var> = vars.iter().copied().filter(|v| rel.position(*v).is_some()).collect();
                let mut all = TimeRel::new(vars.clone());
                for b in branches {
                    let seed = rel.project(&bound);
                    for (row, times) in self.body(b, seed)?.project(vars).rows {
                        all.add(row, times);
                    }
                }
                rel.join(&all, self.run.budget)
            }
            Kind::Fold(f) => self.fold(f, rel, c.span),
            Kind::Call { pred, args } => self.call(*pred, args, rel),
            Kind::Facts { .. } => {
                unreachable!("only the fixpoint operators put these into bodies of their own")
            }
            Kind::Never(_) => {
                Ok(TimeRel::new(rel.vars.iter().chain(&c.vars).copied().collect::<Vec<_>>()).deduped())
            }
        }
    }

    /// Refuses expressions whose value changes with the time asked.
    fn timeless(&self, e: &Expr, at: Span) -> Result<(), QueryError> {
        match e {
            Expr::Call { .. } | Expr::Ground(_) => Ok(()),
            Expr::GetElse { .. } | Expr::Missing { .. } | Expr::GetSome { .. } => {
                Err(unsupported(&format!("{} in this place", e.name()), at))
            }
            Expr::Query { .. } | Expr::TxIds { .. } | Expr::TxData { .. } => Err(unsupported(e.name(), at)),
        }
    }

    /// Runs an operator that does not look at times: rows go through it with a
    /// number, by which the results find their times again.
    fn ordinary(
        &self,
        rel: TimeRel,
        f: impl FnOnce(&Run<'_>, &Rel) -> Result<Rel, QueryError>,
    ) -> Result<TimeRel, QueryError> {
        const NUMBER: Var = Var::MAX;
        let rows: Vec<(Row, Spans)> = rel.rows.into_iter().collect();
        let mut cols: Vec<Vec<Cell>> =
            (0..rel.vars.len()).map(|i| rows.iter().map(|(r, _)| r[i]).collect()).collect();
        cols.push((0..rows.len() as u64).collect());
        let vars: Vec<Var> = rel.vars.iter().copied().chain([NUMBER]).collect();
        let out = f(self.run, &Rel::new(vars, cols, self.run.budget))?;
        let vars: Vec<Var> = out.vars.iter().copied().filter(|v| *v != NUMBER).collect();
        let mut back = TimeRel::new(vars.clone());
        let numbers = out.col(NUMBER).expect("operators keep the columns they are given");
        for i in 0..out.len {
            let row = vars.iter().map(|v| out.col(*v).expect("its own variable")[i]).collect();
            back.add(row, rows[numbers[i] as usize].1.clone());
        }
        Ok(back)
    }

    // -- rules ---------------------------------------------------------------------------------
}

impl TimeRel {
    /// Without repeated variables; only for relations without rows.
    fn deduped(mut self) -> TimeRel {
        let mut seen = VarSet::default();
        self.vars.retain(|v| seen.insert(*v));
        self
    }
}
