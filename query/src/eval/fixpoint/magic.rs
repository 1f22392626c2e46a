//! The rules of a call specialised to its bindings: adorned predicates with their demands
//! (magic sets), and what a call finds in them.
//!
//! Sideways information: the demand of a recursive call is what is known before it, from the
//! demand of the rule itself, the clauses that are connected to it, and the calls before.

use super::best::BestFacts;
use super::{Adorned, Derivation, Fixpoint, Run};
use crate::error::QueryError;
use crate::eval::facts::{Facts, Hashed, Part};
use crate::eval::join::natural;
use crate::eval::rel::{Rel, Var};
use crate::eval::{FixpointChoice, seminaive};
use crate::resolve::VarSet;
use crate::resolve::check::{provides, ready};
use crate::resolve::ir::{Body, Clause, Kind, Pred, Program, Rule, Term};
use annals_model::{Cell, Dict, Span};
use std::cell::RefCell;
use std::sync::Arc;

impl Fixpoint {
    pub(super) fn new(
        program: &Program,
        pred: Pred,
        bound: &[bool],
        choice: FixpointChoice,
        dict: &Arc<Dict>,
    ) -> Fixpoint {
        let mut f = Fixpoint {
            adorned: Vec::new(),
            rules: Vec::new(),
            facts: Vec::new(),
            started: std::cell::Cell::new(false),
        };
        f.adorn(program, pred, bound, choice, dict);
        let mut done = 0;
        while done < f.adorned.len() {
            let (pred, bound) = (f.adorned[done].pred, f.adorned[done].bound.clone());
            for rule in &program.preds[pred].rules {
                f.specialise(program, done, rule, &bound, choice, dict);
            }
            done += 1;
        }
        f
    }

    fn store(&mut self, arity: usize, choice: FixpointChoice) -> usize {
        let facts: Box<dyn Facts> = match choice {
            FixpointChoice::Sorted => {
                seminaive::sorted(arity).unwrap_or_else(|| Box::new(Hashed::new(arity)))
            }
            FixpointChoice::Best | FixpointChoice::Hash => Box::new(Hashed::new(arity)),
        };
        self.facts.push(RefCell::new(facts));
        self.facts.len() - 1
    }

    /// The number of a predicate under an adornment.
    fn adorn(
        &mut self,
        program: &Program,
        pred: Pred,
        bound: &[bool],
        choice: FixpointChoice,
        dict: &Arc<Dict>,
    ) -> usize {
        if let Some(i) = self.adorned.iter().position(|a| a.pred == pred && a.bound == bound) {
            return i;
        }
        let p = &program.preds[pred];
        let rows = if p.best.iter().any(Option::is_some) {
            self.facts.push(RefCell::new(Box::new(BestFacts::new(p.name.as_str(), &p.best, dict.clone()))));
            self.facts.len() - 1
        } else {
            self.store(p.arity, choice)
        };
        let n_bound = bound.iter().filter(|b| **b).count();
        let demand = (n_bound > 0).then(|| self.store(n_bound, choice));
        self.adorned.push(Adorned { pred, bound: bound.to_vec(), rows, demand });
        self.adorned.len() - 1
    }

    /// Adds the specialised rule, and a rule for the demand of each recursive call in it.
    fn specialise(
        &mut self,
        program: &Program,
        head: usize,
        rule: &Rule,
        bound: &[bool],
        choice: FixpointChoice,
        dict: &Arc<Dict>,
    ) {
        let component = program.preds[self.adorned[head].pred].component;
        let recursive = |c: &Clause| match c.kind {
            Kind::Call { pred, .. } => program.preds[pred].component == component,
            _ => false,
        };
        let mut known: VarSet = rule.head.iter().zip(bound).filter(|(_, b)| **b).map(|(v, _)| *v).collect();
        let demanded: Vec<Term> =
            rule.head.iter().zip(bound).filter(|(_, b)| **b).map(|(v, _)| Term::Var(*v)).collect();
        let demand_atom = self.adorned[head].demand.map(|facts| facts_clause(facts, demanded));
        let any_demand = demand_atom.is_some();
        let mut sideways: Vec<Clause> = demand_atom.into_iter().collect();
        let mut rest: Vec<&Clause> = rule.body.clauses.iter().collect();
        let mut all: Vec<Clause> = sideways.clone();
        while !rest.is_empty() {
            // What restricts the demand further: clauses ready and connected to what is known.
            let next = rest.iter().position(|c| {
                !recursive(c)
                    && ready(c, &known, program)
                    && c.vars.iter().any(|v| known.has(*v))
                    && !matches!(
                        c.kind,
                        Kind::Not { .. } | Kind::Call { .. } | Kind::Or { .. } | Kind::Fold(_)
                    )
            });
            if let Some(i) = next {
                let c = rest.remove(i);
                known.extend(provides(c));
                sideways.push(c.clone());
                all.push(c.clone());
                continue;
            }
            let score = |c: &Clause| match &c.kind {
                Kind::Call { args, .. } => {
                    args.iter().filter(|a| a.var().is_none_or(|v| known.has(v)) && **a != Term::Blank).count()
                }
                _ => 0,
            };
            let next = (0..rest.len())
                .filter(|&i| recursive(rest[i]) && ready(rest[i], &known, program))
                .max_by_key(|&i| (score(rest[i]), std::cmp::Reverse(i)));
            let Some(i) = next else {
                // Only clauses that restrict no demand are left, unless one of them binds
                // what a recursive call requires.
                let i = rest.iter().position(|c| !recursive(c) && ready(c, &known, program)).unwrap_or(0);
                let c = rest.remove(i);
                known.extend(provides(c));
                if rest.iter().any(|c| recursive(c)) {
                    sideways.push(c.clone());
                }
                all.push(c.clone());
                continue;
            };
            let c = rest.remove(i);
            let Kind::Call { pred, args } = &c.kind else { unreachable!("recursive clauses are calls") };
            let (required, best) = (&program.preds[*pred].required, &program.preds[*pred].best);
            let bound: Vec<bool> = args
                .iter()
                .zip(required)
                .zip(best)
                .map(|((a, r), best)| match a {
                    // The best is known when all of its group is: nothing of it can be asked for.
                    _ if best.is_some() => false,
                    Term::Var(v) => known.has(*v) && (any_demand || *r),
                    Term::Const(_) | Term::Ent(_) => any_demand || *r,
                    Term::Blank => false,
                })
                .collect();
            let callee = self.adorn(program, *pred, &bound, choice, dict);
            if let Some(demand) = self.adorned[callee].demand {
                let vars: Vec<Term> =
                    args.iter().zip(&bound).filter(|(_, b)| **b).map(|(a, _)| a.clone()).collect();
                let trivial = callee == head && sideways.len() == 1 && is_demand(&sideways[0], demand, &vars);
                if !trivial {
                    self.push(demand, vars, sideways.clone());
                }
            }
            let atom = facts_clause(self.adorned[callee].rows, args.clone());
            known.extend(provides(c));
            sideways.push(atom.clone());
            all.push(atom);
        }
        let rows = self.adorned[head].rows;
        self.push(rows, rule.head.iter().map(|v| Term::Var(*v)).collect(), all);
    }

    fn push(&mut self, head: usize, vars: Vec<Term>, clauses: Vec<Clause>) {
        let atoms = (0..clauses.len()).filter(|&i| matches!(clauses[i].kind, Kind::Facts { .. })).collect();
        let mut clauses = clauses;
        for (i, c) in clauses.iter_mut().enumerate() {
            if let Kind::Facts { at, .. } = &mut c.kind {
                *at = i;
            }
        }
        self.rules.push(Derivation { head, vars, body: Body { clauses }, atoms });
    }

    /// The rows derived for these bindings, over `fresh`.
    pub(super) fn answers(
        &self,
        bound: &[bool],
        cols: &[Vec<Cell>],
        fresh: &[Var],
        run: &Run<'_>,
    ) -> Result<Rel, QueryError> {
        let mut store = self.facts[self.adorned[0].rows].borrow_mut();
        let on: Vec<usize> = (0..bound.len()).filter(|i| bound[*i]).collect();
        if on.is_empty() {
            return Ok(store.rows(Part::Known, fresh, run.budget));
        }
        let keys: Vec<&[Cell]> = cols.iter().map(Vec::as_slice).collect();
        let n = cols[0].len();
        match store.probe(Part::Known, &on, &keys, n, run.budget) {
            Some(found) => {
                let (_, right) = found?;
                let cols = (0..bound.len()).map(|c| store.fetch(c, &right)).collect();
                Ok(Rel::new(fresh.to_vec(), cols, run.budget))
            }
            None => {
                let all = store.rows(Part::Known, fresh, run.budget);
                let vars: Vec<Var> = on.iter().map(|i| *i as Var).collect();
                let asked = Rel::new(vars, cols.to_vec(), run.budget).distinct(run.budget)?;
                let out = natural(&all, &asked, run.budget)?;
                Ok(out.project(fresh))
            }
        }
    }
}

fn is_demand(c: &Clause, demand: usize, vars: &[Term]) -> bool {
    matches!(&c.kind, Kind::Facts { facts, args, .. } if *facts == demand && args == vars)
}

/// A clause that reads facts of the fixpoint being run.
fn facts_clause(facts: usize, args: Vec<Term>) -> Clause {
    let mut vars: Vec<Var> = Vec::new();
    for v in args.iter().filter_map(Term::var) {
        if !vars.contains(&v) {
            vars.push(v);
        }
    }
    Clause {
        kind: Kind::Facts { facts, at: 0, args },
        span: Span::default(),
        text: "derived facts".into(),
        vars,
    }
}
