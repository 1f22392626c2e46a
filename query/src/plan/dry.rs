//! The steps a run would take, by estimates alone.
//!
//! Relations stand in by their variables and expected sizes, without rows.

use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::body::State;
use crate::eval::rel::{Rel, Var};
use crate::resolve::check::provides;
use crate::resolve::ir::{Body, Kind};

/// Records the steps of a body in the run's trace; the answer is its expected size.
pub(crate) fn body(run: &Run<'_>, body: &Body, outside: Vec<Rel>, needed: &[Var]) -> Result<f64, QueryError> {
    run.deeper(|| {
        let mut s = State::new(body, outside, needed);
        while !s.left.is_empty() {
            let (i, rows) = run.choose(&s)?;
            if let Some(core) = run.core(&s, i)? {
                s.left.retain(|i| !core.clauses.contains(i));
                s.bound.extend(core.vars.iter().copied());
                run.trace.borrow_mut().together(&core.clauses, body, core.rows, "leapfrog", 0, None);
                s.parts.push(shadow(run, core.vars, core.rows as usize));
                continue;
            }
            s.left.retain(|x| *x != i);
            let c = &body.clauses[i];
            run.trace.borrow_mut().begin(c, rows);
            let vars = |v: &[Var]| -> Vec<Rel> {
                s.parts
                    .iter()
                    .filter(|p| p.vars.iter().any(|x| v.contains(x)))
                    .map(|p| shadow(run, v.iter().copied().filter(|x| p.has(*x)).collect(), p.len))
                    .collect()
            };
            match &c.kind {
                Kind::Not { join, body: inner } => {
                    self::body(run, inner, vars(join), join)?;
                }
                Kind::Or { vars: shared, branches, .. } => {
                    for b in branches {
                        self::body(run, b, vars(shared), shared)?;
                    }
                }
                Kind::Fold(f) => {
                    for b in &f.branches {
                        self::body(run, b, vars(&f.keys), &f.inner())?;
                    }
                }
                Kind::Call { pred, .. } if run.first_visit(*pred) => {
                    for r in &run.program.clone().preds[*pred].rules {
                        let _ = self::body(run, &r.body, vec![shadow(run, r.head.clone(), 1)], &r.head)?;
                    }
                }
                _ => {}
            }
            let how = run.how(&s, c);
            let size = rows.clamp(0.0, 1e15) as usize;
            run.trace.borrow_mut().end(how, 0, None);
            let mut merged: Vec<Var> = provides(c);
            let mut len = size.max(1);
            s.parts.retain(|p| {
                let meets = p.vars.iter().any(|v| c.vars.contains(v));
                if meets {
                    merged.extend(p.vars.iter().filter(|v| !provides(c).contains(v)));
                    if rows <= 0.0 {
                        len = len.max(p.len);
                    }
                }
                !meets
            });
            merged.sort_unstable();
            merged.dedup();
            s.bound.extend(provides(c));
            if !merged.is_empty() {
                s.parts.push(shadow(run, merged, len));
            }
        }
        Ok(s.parts.iter().map(|p| p.len as f64).product())
    })
}

/// A relation of an expected size, without rows.
fn shadow(run: &Run<'_>, vars: Vec<Var>, len: usize) -> Rel {
    Rel { len, ..Rel::empty(&vars, run.budget) }
}
