//! Safety: in some order every clause has what it needs.
//!
//! 1. Readiness is monotone: a clause that is ready stays ready when more is bound.
//!    So any order found greedily shows that one exists, and the order of writing
//!    cannot matter.

use super::ir::{Body, Clause, Kind, Program, Term};
use super::varset::VarSet;
use crate::eval::rel::Var;

/// Can the clause run when these variables are bound?
pub(crate) fn ready(c: &Clause, bound: &VarSet, program: &Program) -> bool {
    match &c.kind {
        Kind::Pattern(_) | Kind::Tuples { .. } | Kind::Facts { .. } | Kind::Never(_) => true,
        Kind::Predicate(e) | Kind::Function(e, _) => bound.all(&e.vars()),
        Kind::Meaning { from, .. } => bound.has(*from),
        Kind::Not { join, .. } => bound.all(join),
        Kind::Or { vars, required, branches, .. } => {
            bound.all(required)
                && branches.iter().all(|b| {
                    let start: VarSet = vars.iter().copied().filter(|v| bound.has(*v)).collect();
                    let (after, stuck) = closure(b, &start, program);
                    stuck.is_empty() && after.all(vars)
                })
        }
        Kind::Fold(f) => {
            bound.all(&f.required)
                && f.branches.iter().all(|b| {
                    let start: VarSet = f.keys.iter().copied().filter(|v| bound.has(*v)).collect();
                    let (after, stuck) = closure(b, &start, program);
                    stuck.is_empty() && after.all(&f.inner())
                })
        }
        Kind::Call { pred, args } => args.iter().zip(&program.preds[*pred].required).all(|(a, r)| match a {
            Term::Var(v) => !r || bound.has(*v),
            Term::Blank => !r,
            Term::Const(_) | Term::Ent(_) => true,
        }),
    }
}

/// What the clause binds once it has run.
pub(crate) fn provides(c: &Clause) -> Vec<Var> {
    match &c.kind {
        Kind::Function(_, b) => {
            let mut out = Vec::new();
            b.vars(&mut out);
            out
        }
        Kind::Meaning { to, .. } => vec![*to],
        Kind::Not { .. } | Kind::Predicate(_) => vec![],
        Kind::Pattern(_)
        | Kind::Tuples { .. }
        | Kind::Or { .. }
        | Kind::Fold(_)
        | Kind::Call { .. }
        | Kind::Facts { .. }
        | Kind::Never(_) => c.vars.clone(),
    }
}

/// Runs a body symbolically: what is bound in the end, and the clauses never ready.
pub(crate) fn closure(body: &Body, bound: &VarSet, program: &Program) -> (VarSet, Vec<usize>) {
    let mut bound = bound.clone();
    let mut left: Vec<usize> = (0..body.clauses.len()).collect();
    // Disjunctions last: whether one is ready is a question about all its branches.
    left.sort_by_key(|&i| matches!(body.clauses[i].kind, Kind::Or { .. } | Kind::Fold(_)));
    loop {
        let before = left.len();
        left.retain(|&i| {
            let c = &body.clauses[i];
            if !ready(c, &bound, program) {
                return true;
            }
            bound.extend(provides(c));
            false
        });
        if left.len() == before {
            return (bound, left);
        }
    }
}

/// Variables that keep these clauses from running: used by them and bound by none.
pub(crate) fn culprits(body: &Body, stuck: &[usize], bound: &VarSet, program: &Program) -> Vec<Var> {
    let mut out: Vec<Var> = Vec::new();
    let mut add = |v: Var| {
        if !bound.has(v) && !out.contains(&v) {
            out.push(v);
        }
    };
    for &i in stuck {
        match &body.clauses[i].kind {
            Kind::Predicate(e) | Kind::Function(e, _) => e.vars().into_iter().for_each(&mut add),
            Kind::Meaning { from, .. } => add(*from),
            Kind::Not { join, .. } => join.iter().copied().for_each(&mut add),
            Kind::Or { vars, required, branches, .. } => {
                required.iter().copied().for_each(&mut add);
                for b in branches {
                    let start: VarSet = vars.iter().copied().filter(|v| bound.has(*v)).collect();
                    let (after, stuck) = closure(b, &start, program);
                    culprits(b, &stuck, &after, program).into_iter().for_each(&mut add);
                    vars.iter().copied().filter(|v| !after.has(*v)).for_each(&mut add);
                }
            }
            Kind::Fold(f) => {
                f.required.iter().copied().for_each(&mut add);
                for b in &f.branches {
                    let start: VarSet = f.keys.iter().copied().filter(|v| bound.has(*v)).collect();
                    let (after, stuck) = closure(b, &start, program);
                    culprits(b, &stuck, &after, program).into_iter().for_each(&mut add);
                    f.inner().into_iter().filter(|v| !after.has(*v)).for_each(&mut add);
                }
            }
            Kind::Call { pred, args } => {
                for (a, r) in args.iter().zip(&program.preds[*pred].required) {
                    if let (Term::Var(v), true) = (a, r) {
                        add(*v);
                    }
                }
            }
            Kind::Pattern(_) | Kind::Tuples { .. } | Kind::Facts { .. } | Kind::Never(_) => {}
        }
    }
    out
}
