//! Why a row is an answer, and why another is not.
//!
//! The query is evaluated at a single time, with the row's values bound, and every
//! tuple of a rule gets the rank at which it was first derived. A proof is then read
//! off: each rule application is justified by tuples of smaller rank, so proofs are
//! finite and never circular, also over cyclic data and recursion of every shape.
//!
//! An application that a proof needs in several places is proved at the first of them, and only
//! named at the others: a proof is as long as what it rests on, where a tree that repeats itself
//! would double with each round. Its steps are paid for as rows and as bytes of the budget.
//!
//! Here: what is asked, and the answer. Reading the proof off is in `proof`.
//!
//! Not here: what made the datoms (events, projections); the database knows that.

mod proof;

use super::eval::Timeline;
use super::rel::TimeRel;
use super::spans::Spans;
use crate::error::QueryError;
use crate::eval::Run;
use crate::query::{Input, Query, QueryOptions};
use crate::resolve::VarSet;
use crate::resolve::ir::{Clause, Elem, Resolved};
use annals_model::{Datom, Diagnostic, EntityId, Span, T, Value, cell};
use proof::Proofs;

/// What a row rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// One step for each clause, in the order written.
    pub steps: Vec<Step>,
}

/// Why one clause holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A fact, with the transaction that asserted it.
    Fact {
        /// The clause.
        clause: String,
        /// The datom that matches it.
        datom: Datom,
    },
    /// A comparison, a function, a binding.
    Test {
        /// The clause.
        clause: String,
        /// What its variables are.
        bindings: Vec<(String, Value)>,
    },
    /// A negation: nothing matches what is inside.
    Absent {
        /// The clause.
        clause: String,
    },
    /// A branch of an `or`, or one definition of a rule that is not recursive. Of a rule that
    /// folds, what the value was made from: by `min`, `max` and `shortest` the row that has it,
    /// else a branch for each row of the group, for the first hundred of them.
    Branch {
        /// The rule's name, if it is one.
        rule: Option<String>,
        /// The clause.
        clause: String,
        /// Why the branch holds.
        proof: Proof,
    },
    /// An application of a recursive rule. Where it folds several values, the proof has a
    /// branch for each. The proof of one that was proved before, further up in the same proof,
    /// has no steps.
    Rule {
        /// The rule.
        name: String,
        /// Its arguments.
        args: Vec<Value>,
        /// Why it holds.
        proof: Proof,
    },
}

/// Where a row that is not an answer fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Missing {
    /// The clause after which nothing is left.
    pub clause: String,
    /// Where it stands in the query.
    pub span: Span,
    /// How many ways there were to satisfy the clauses before it.
    pub rows_before: usize,
    /// The clauses that could be satisfied, in the order they were tried.
    pub satisfied: Vec<String>,
}

impl Query {
    /// Why `row` is in the answer as of `at`: none if it is not. Databases among the
    /// inputs are history views. Aggregates are explained by the group's first row.
    ///
    /// # Errors
    /// Those of a run; what has no timeline has no proof either.
    pub fn why(
        &self,
        inputs: &[Input],
        at: T,
        row: &[Value],
        options: &QueryOptions,
    ) -> Result<Option<Proof>, QueryError> {
        self.at_one_time(inputs, at, row, options, |run, r, start| {
            let mut proofs = Proofs::new(Timeline::new(run, instant(at)), run, r);
            let rows = proofs.timeline.body(&r.body, start)?;
            match rows.rows.keys().min() {
                Some(found) => proofs.body(&r.body, &rows.vars, found, u64::MAX).map(Some),
                None => Ok(None),
            }
        })
    }

    /// The first clause that cannot be satisfied together with those before it, when
    /// the values of `:find` are those of `row`; none if the row is in the answer.
    ///
    /// # Errors
    /// Those of [`Query::why`].
    pub fn why_not(
        &self,
        inputs: &[Input],
        at: T,
        row: &[Value],
        options: &QueryOptions,
    ) -> Result<Option<Missing>, QueryError> {
        self.at_one_time(inputs, at, row, options, |run, r, start| {
            let mut timeline = Timeline::new(run, instant(at));
            let mut left: Vec<&Clause> = r.body.clauses.iter().collect();
            let mut rel = start;
            let mut satisfied = Vec::new();
            while !left.is_empty() {
                let bound: VarSet = rel.vars.iter().copied().collect();
                let Some(i) = timeline.next(&left, &bound)? else { break };
                let c = left.remove(i);
                let rows_before = rel.rows.len();
                rel = timeline.clause(c, rel)?;
                if rel.rows.is_empty() {
                    let clause = c.text.to_string();
                    return Ok(Some(Missing { clause, span: c.span, rows_before, satisfied }));
                }
                satisfied.push(c.text.to_string());
            }
            Ok(None)
        })
    }

    /// Prepares an evaluation at `at` with the variables of `:find` bound to `row`.
    fn at_one_time<R>(
        &self,
        inputs: &[Input],
        at: T,
        row: &[Value],
        options: &QueryOptions,
        f: impl FnOnce(&Run<'_>, &Resolved, TimeRel) -> Result<R, QueryError>,
    ) -> Result<R, QueryError> {
        self.over(inputs, &instant(at), options, |run, r, mut start| {
            if row.len() != r.find.len() {
                let what = format!("the row has {} values and :find has {}", row.len(), r.find.len());
                return Err(QueryError::Invalid(vec![Diagnostic::new("query/inputs", what)]));
            }
            for (e, v) in r.find.iter().zip(row) {
                let Elem::Var(var) = e else { continue };
                // A number may stand for an entity: both are tried.
                let mut rel = TimeRel::new(vec![*var]);
                rel.add([run.dict.encode(v)].into(), instant(at));
                if let Value::Long(n) = v
                    && let Ok(n) = u64::try_from(*n)
                {
                    rel.add([cell::of_ref(EntityId::from_raw(n))].into(), instant(at));
                }
                start = start.join(&rel, run.budget)?;
            }
            f(run, r, start)
        })
    }
}

fn instant(at: T) -> Spans {
    Spans::one(at, at.next())
}
