//! What a clause would cost and leave, judged from exact counts where they are
//! free and from samples where they are cheap.

use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::rel::Rel;
use crate::eval::{Sampled, body::State};
use crate::resolve::ir::{Arg, Attr, Bind, Body, Clause, Fold, Kind, Pattern, Term};
use annals_model::{AttrId, Order};

/// The cost of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    /// Rows afterwards.
    pub(crate) rows: f64,
    /// Rows touched on the way.
    pub(crate) work: f64,
}

impl Estimate {
    const FREE: Estimate = Estimate { rows: 0.0, work: -1.0 };

    /// Runs at once, whatever else there is to do.
    pub(crate) fn is_free(&self) -> bool {
        self.work < 0.0
    }
    /// Lower is sooner.
    pub(crate) fn cost(&self) -> f64 {
        self.rows + self.work * 0.05
    }
}

/// Rows that a scan of a pattern gives, by its constants alone.
pub(crate) fn scan(run: &Run<'_>, p: &Pattern, a: AttrId) -> Result<u64, QueryError> {
    let rows = run.db(p.src).stats(a).rows;
    let constant = |t: &Term| matches!(t, Term::Const(_) | Term::Ent(_));
    if constant(&p.e) {
        return Ok(if p.one || constant(&p.v) { 1 } else { 8.min(rows) });
    }
    if constant(&p.v) {
        if p.unique {
            return Ok(1);
        }
        if let Some(crate::eval::Place::Is(c)) = run.place(&p.v)? {
            return Ok(run.count_value(p.src, a, c)?.unwrap_or(rows / 100 + 1));
        }
        return Ok(0);
    }
    Ok(rows)
}

/// Rows of a pattern over two variables, and how many of them a row of another meets on
/// average: `through` is that pattern, the order in which its shared place is the key, and the
/// order in which this one's is.
pub(crate) fn fanout(
    run: &Run<'_>,
    p: &Pattern,
    through: Option<(&Pattern, Order, Order)>,
) -> Result<(f64, f64), QueryError> {
    let Attr::Known(a) = p.a else { return Ok((0.0, 0.0)) };
    let rows = run.db(p.src).stats(a).rows as f64;
    let (Some((from, key, order)), Attr::Known(b)) =
        (through, through.map_or(Attr::Any, |(p, ..)| p.a.clone()))
    else {
        return Ok((rows, rows));
    };
    Ok((rows, run.meets((from.src, b, key), (p.src, a, order))?))
}

/// The cost of running `c` next.
pub(crate) fn clause(run: &Run<'_>, s: &State<'_>, c: &Clause) -> Result<Estimate, QueryError> {
    let len = |i: Option<usize>| i.map_or(1.0, |i| s.parts[i].len as f64);
    let parts_of = |vars: &[u32]| -> Vec<usize> {
        (0..s.parts.len()).filter(|&i| vars.iter().any(|v| s.parts[i].has(*v))).collect()
    };
    Ok(match &c.kind {
        Kind::Never(_) | Kind::Meaning { .. } => Estimate::FREE,
        Kind::Predicate(e) => {
            let parts = parts_of(&e.vars());
            if parts.len() <= 1 {
                return Ok(Estimate::FREE);
            }
            let product: f64 = parts.iter().map(|&i| s.parts[i].len as f64).product();
            Estimate { rows: product * 0.5, work: product }
        }
        Kind::Function(e, b) => {
            let parts = parts_of(&e.vars());
            if e.args().iter().all(|a| !matches!(a, Arg::Var(_))) {
                return Ok(Estimate::FREE);
            }
            let n: f64 = parts.iter().map(|&i| s.parts[i].len as f64).product();
            match (b, parts.len()) {
                (Bind::Var(v), 1) if s.bound.has(*v) => Estimate { rows: n * 0.1, work: n },
                (Bind::Var(_) | Bind::Blank, 1) => Estimate { rows: n * 0.95, work: n },
                (Bind::Coll(_) | Bind::Tuple(_), _) => Estimate { rows: n * 8.0, work: n * 8.0 },
                _ => Estimate { rows: n, work: n * 4.0 },
            }
        }
        Kind::Facts { facts, at, .. } => {
            let n = run.frame.borrow().as_ref().map_or(0, |f| f.rows(*at, *facts)) as f64;
            match parts_of(&c.vars)
                .iter()
                .map(|&i| s.parts[i].len as f64)
                .fold(None, |a: Option<f64>, n| Some(a.map_or(n, |a| a.min(n))))
            {
                Some(part) => Estimate { rows: part.min(n * 4.0), work: part.min(n) },
                None if s.parts.is_empty() => Estimate { rows: n, work: n },
                None => Estimate { rows: n * 10.0, work: n },
            }
        }
        Kind::Tuples { .. } => Estimate { rows: 1.0, work: 1.0 },
        Kind::Pattern(p) => pattern(run, s, p)?,
        Kind::Not { join, .. } => {
            let n: f64 = parts_of(join).iter().map(|&i| s.parts[i].len as f64).product();
            Estimate { rows: n * 0.9, work: n }
        }
        Kind::Or { branches, .. } | Kind::Fold(Fold { branches, .. }) => {
            let mut sum = Estimate { rows: 1.0, work: 0.0 };
            for b in branches {
                let e = branch(run, s, b)?;
                sum.rows += e.rows;
                sum.work += e.work;
            }
            sum
        }
        Kind::Call { args, .. } => {
            let bound: Vec<&Term> = args
                .iter()
                .filter(|a| match a {
                    Term::Var(v) => s.bound.has(*v),
                    Term::Const(_) | Term::Ent(_) => true,
                    Term::Blank => false,
                })
                .collect();
            if bound.is_empty() {
                return Ok(Estimate { rows: 1e6, work: 1e6 });
            }
            let n = bound.iter().filter_map(|t| t.var()).map(|v| len(s.part_of(v))).fold(1.0, f64::max);
            Estimate { rows: n * 20.0, work: n * 20.0 }
        }
    })
}

/// The least a branch of an `or` costs: its cheapest clause.
fn branch(run: &Run<'_>, s: &State<'_>, b: &Body) -> Result<Estimate, QueryError> {
    let mut best: Option<Estimate> = None;
    for c in &b.clauses {
        if matches!(
            c.kind,
            Kind::Pattern(_) | Kind::Call { .. } | Kind::Or { .. } | Kind::Fold(_) | Kind::Tuples { .. }
        ) {
            let e = clause(run, s, c)?;
            if best.is_none_or(|b| e.cost() < b.cost()) {
                best = Some(e);
            }
        }
    }
    // Only tests: it filters what is there.
    let all: f64 = s.parts.iter().map(|p| p.len as f64).fold(1.0, f64::max);
    Ok(best.unwrap_or(Estimate { rows: all, work: all }))
}

fn pattern(run: &Run<'_>, s: &State<'_>, p: &Pattern) -> Result<Estimate, QueryError> {
    let e_part = p.e.var().and_then(|v| s.part_of(v));
    let v_part = p.v.var().and_then(|v| s.part_of(v));
    let Attr::Known(a) = p.a else {
        let attrs = 16.0;
        return Ok(match (e_part, &p.e, p.a.var().and_then(|v| s.part_of(v))) {
            (Some(i), _, _) => {
                let rows = s.parts[i].len as f64 * attrs;
                Estimate { rows, work: rows }
            }
            (None, Term::Ent(_), _) => Estimate { rows: attrs, work: attrs },
            (None, _, Some(i)) => {
                let rows = s.parts[i].len as f64 * 1e5;
                Estimate { rows, work: rows }
            }
            _ => Estimate { rows: 1e7, work: 1e7 },
        });
    };
    let alone = scan(run, p, a)? as f64;
    let total = (run.db(p.src).stats(a).rows as f64).max(1.0);
    let constants = (alone / total).min(1.0);
    let guarded = guarded(run, s, p, a)?;
    let (e_var, v_var) = (p.e.var(), p.v.var());
    Ok(match (e_part, v_part) {
        (Some(i), Some(j)) if i == j => {
            let n = s.parts[i].len as f64;
            Estimate { rows: n * 0.3, work: n }
        }
        (Some(i), Some(j)) => {
            let (e, v) = ends(run, s, p, a, i, j)?;
            let least = if e.rows <= v.rows { e } else { v };
            Estimate { rows: least.rows * 0.7, work: least.work + s.parts[i].len.min(s.parts[j].len) as f64 }
        }
        (Some(i), None) => {
            let e = joined(run, p, a, &s.parts[i], Order::Eav, e_var.expect("has a part"))?;
            Estimate {
                rows: (e.rows * constants).min(alone * s.parts[i].len as f64) * guarded,
                work: e.work.min(alone + e.work),
            }
        }
        (None, Some(j)) => joined(run, p, a, &s.parts[j], Order::Ave, v_var.expect("has a part"))?,
        (None, None) => {
            // Something unconnected waits until it is connected, unless there is little of it.
            let penalty = match (alone < total || s.parts.is_empty(), guarded < 1.0) {
                (true, _) => 1.0,
                (false, true) => GUARDED_APART,
                (false, false) => APART,
            };
            Estimate { rows: alone * guarded * penalty, work: alone }
        }
    })
}

/// How much a row of an attribute that nothing found so far is connected with counts: it will be
/// multiplied or, at best, looked up once more. More when nothing restricts the attribute, as then
/// having read it early saves nothing.
const GUARDED_APART: f64 = 10.0;
const APART: f64 = 40.0;

/// Joining a pattern through the variable in one place: its rows without constants and guards.
fn joined(
    run: &Run<'_>,
    p: &Pattern,
    a: AttrId,
    part: &Rel,
    by: Order,
    var: u32,
) -> Result<Estimate, QueryError> {
    let n = part.len as f64;
    let history = run.db(p.src).view().history;
    let sampled = Sampled { slot: p.src, a, order: by };
    let fanout = match by {
        Order::Eav if p.one && !history && n <= 4096.0 => 1.0,
        Order::Eav if p.one && !history => run.sample(sampled, part, var)?.min(1.0),
        Order::Ave if p.unique && !history => 1.0,
        _ => run.sample(sampled, part, var)?,
    };
    Ok(Estimate { rows: n * fanout, work: n })
}

/// Joining a pattern whose entity is in part `i` and whose value is in part `j`: through the
/// entity, and through the value, before the other part is joined.
pub(crate) fn ends(
    run: &Run<'_>,
    s: &State<'_>,
    p: &Pattern,
    a: AttrId,
    i: usize,
    j: usize,
) -> Result<(Estimate, Estimate), QueryError> {
    let e = joined(run, p, a, &s.parts[i], Order::Eav, p.e.var().expect("has a part"))?;
    let v = joined(run, p, a, &s.parts[j], Order::Ave, p.v.var().expect("has a part"))?;
    Ok((e, v))
}

/// The share of an attribute's rows that comparisons still to run will leave: counted for some
/// rows when the column is in memory, else a guess. 1 without such comparisons.
fn guarded(run: &Run<'_>, s: &State<'_>, p: &Pattern, a: AttrId) -> Result<f64, QueryError> {
    const ROWS: usize = 64;
    const GUESS: f64 = 0.5;
    let guards = run.guards(s, p);
    if guards.is_empty() {
        return Ok(1.0);
    }
    let Some(values) = run.values_at_hand(p.src, a)? else { return Ok(GUESS) };
    let take = values.v.len().min(ROWS);
    if take == 0 {
        return Ok(1.0);
    }
    let passes = |i: usize| guards.iter().all(|g| g.pass(values.v[i * values.v.len() / take], &run.dict));
    let left = (0..take).filter(|&i| passes(i)).count();
    // None of a few is not none of all.
    Ok((left as f64).max(0.5) / take as f64)
}
