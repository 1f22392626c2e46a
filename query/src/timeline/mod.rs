//! Timeline: a query's answer over all of time at once.
//!
//! Each row comes with the intervals of t during which `as-of t` would have shown
//! it. One evaluation, not one a transaction: facts carry their intervals, and
//! joins, negation, rules and aggregates combine them (an interval-annotated
//! semi-naive evaluation; the annotations form the boolean algebra in [`Spans`]).
//!
//! 1. Exact or refused: `timeline` at t equals a run as of t, for every t; what
//!    cannot be computed so (pull, nested queries, the log) is an error.
//! 2. Intervals of a row are maximal, disjoint and in order.
//!
//! The sources given are history views, since the present does not know the past.

mod eval;
mod rel;
mod spans;
mod why;

pub use spans::Spans;
pub use why::{Missing, Proof, Step};

use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::function::Library;
use crate::eval::rel::{Hasher, Var};
use crate::query::{Input, Query, QueryOptions, bind_inputs, matched, rule_sets};
use crate::resolve::ir::{AggArg, Elem, Resolved};
use annals_model::{Cell, Diagnostic, Dict, T, Value};
use hashbrown::HashMap;
use rel::{Row, TimeRel};

/// A row and when it was an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineRow {
    /// The values of `:find`.
    pub values: Vec<Value>,
    /// When, as intervals of t. An interval that is still open ends after the basis.
    pub times: Spans,
}

impl Query {
    /// The answer over all times up to `upto`, each row with the times at which it
    /// is one. Databases among the inputs must be history views.
    ///
    /// # Errors
    /// Those of a run, and `query/unsupported` for what has no exact timeline: pull, nested
    /// queries, `tx-ids`, `tx-data`, `get-some`, patterns of retractions, collections as sources.
    pub fn timeline(
        &self,
        inputs: &[Input],
        upto: T,
        options: &QueryOptions,
    ) -> Result<Vec<TimelineRow>, QueryError> {
        let all = Spans::one(T::GENESIS, upto.next());
        self.over(inputs, &all, options, |run, r, start| timeline(run, r, start, all.clone()))
    }

    /// Prepares an evaluation over these times, and hands over what the inputs bind.
    fn over<R>(
        &self,
        inputs: &[Input],
        times: &Spans,
        options: &QueryOptions,
        f: impl FnOnce(&Run<'_>, &Resolved, TimeRel) -> Result<R, QueryError>,
    ) -> Result<R, QueryError> {
        let ast = self.ast();
        let budget = options.budget(ast);
        let library = options.library.as_ref().unwrap_or_else(|| Library::standard());
        let given = matched(ast, inputs)?;
        let rules = rule_sets(ast, &given, options)?;
        let (r, slots) = self.resolved(&given, &rules, library, options.cache)?;
        let run = Run::new(&slots, Dict::current(), &budget, r.program.clone(), library);
        let mut start = TimeRel::unit(times.clone());
        for p in bind_inputs(&run, ast, &r, &given)? {
            let mut rel = TimeRel::new(p.vars.clone());
            for i in 0..p.len {
                rel.add(p.cols.iter().map(|c| c[i]).collect(), times.clone());
            }
            start = start.join(&rel, &budget)?;
        }
        f(&run, &r, start)
    }
}

/// Evaluates over `all`, from what the inputs bind.
fn timeline(run: &Run<'_>, r: &Resolved, start: TimeRel, all: Spans) -> Result<Vec<TimelineRow>, QueryError> {
    if r.find.iter().any(|e| matches!(e, Elem::Pull { .. })) {
        let d = Diagnostic::new("query/unsupported", "pull has no timeline")
            .help("find the entity, and pull it as of the times that matter");
        return Err(QueryError::Invalid(vec![d]));
    }
    let constants = constants(run, r, &start)?;
    let rows = eval::Timeline::new(run, all).body(&r.body, start)?;
    let mut needed: Vec<Var> = Vec::new();
    for v in r.find.iter().map(var_of).chain(r.with.iter().copied()) {
        if !needed.contains(&v) {
            needed.push(v);
        }
    }
    let rows = rows.project(&needed);
    let found: HashMap<Vec<Value>, Spans, Hasher> =
        if r.find.iter().any(|e| matches!(e, Elem::Aggregate { .. })) {
            aggregated(run, r, &rows, &constants)?
        } else {
            let shown: Vec<Var> = r.find.iter().map(var_of).collect();
            let at: Vec<usize> = shown.iter().filter_map(|v| rows.position(*v)).collect();
            let mut found: HashMap<Vec<Value>, Spans, Hasher> = HashMap::with_hasher(Hasher::default());
            for (row, times) in rows.rows {
                let values = at.iter().map(|i| run.dict.decode(row[*i])).collect();
                let entry = found.entry(values).or_default();
                *entry = entry.or(&times);
            }
            found
        };
    let mut out: Vec<TimelineRow> =
        found.into_iter().map(|(values, times)| TimelineRow { values, times }).collect();
    out.sort_by(|a, b| a.values.cmp(&b.values));
    Ok(out)
}

fn var_of(e: &Elem) -> Var {
    let (Elem::Var(v) | Elem::Pull { var: v, .. } | Elem::Aggregate { var: v, .. }) = e;
    *v
}

/// Constant arguments of aggregates; a variable must have one value from the inputs.
fn constants(run: &Run<'_>, r: &Resolved, inputs: &TimeRel) -> Result<Vec<Vec<Value>>, QueryError> {
    let mut out = Vec::new();
    for e in &r.find {
        let Elem::Aggregate { args, name, .. } = e else {
            out.push(Vec::new());
            continue;
        };
        let mut values = Vec::new();
        for a in args {
            values.push(match a {
                AggArg::Const(v) => v.clone(),
                AggArg::Var(v) => {
                    let mut cells: Vec<Cell> =
                        inputs.position(*v).map_or(vec![], |i| inputs.rows.keys().map(|r| r[i]).collect());
                    cells.sort_unstable();
                    cells.dedup();
                    let [c] = cells[..] else {
                        let what = format!("an argument of {name} is not one value");
                        return Err(QueryError::Invalid(vec![Diagnostic::new("query/aggregate", what)]));
                    };
                    run.dict.decode(c)
                }
            });
        }
        out.push(values);
    }
    Ok(out)
}

/// Aggregates change whenever a row of their group comes or goes: each stretch
/// between two such times is aggregated by itself, and equal results are joined.
fn aggregated(
    run: &Run<'_>,
    r: &Resolved,
    rows: &TimeRel,
    constants: &[Vec<Value>],
) -> Result<HashMap<Vec<Value>, Spans, Hasher>, QueryError> {
    let position = |v: Var| rows.position(v).expect("rows hold every variable of :find");
    let keys: Vec<usize> =
        r.find.iter().filter(|e| !matches!(e, Elem::Aggregate { .. })).map(|e| position(var_of(e))).collect();
    let mut groups: HashMap<Row, Vec<(&Row, &Spans)>, Hasher> = HashMap::with_hasher(Hasher::default());
    for (row, times) in &rows.rows {
        groups.entry(keys.iter().map(|i| row[*i]).collect()).or_default().push((row, times));
    }
    let mut out: HashMap<Vec<Value>, Spans, Hasher> = HashMap::with_hasher(Hasher::default());
    for members in groups.values_mut() {
        stretches(run, members, |span, alive| {
            let first = alive[0];
            let mut values = Vec::with_capacity(r.find.len());
            for (e, args) in r.find.iter().zip(constants) {
                let at = position(var_of(e));
                values.push(match e {
                    Elem::Aggregate { name, span, .. } => {
                        let cells: Vec<Cell> = alive.iter().map(|row| row[at]).collect();
                        let f = run.library.aggregate(name.as_str()).expect("resolution found it");
                        f.of_cells(args, &cells, &run.dict).map_err(|error| QueryError::Function {
                            name: name.to_string(),
                            error,
                            at: *span,
                        })?
                    }
                    Elem::Var(_) | Elem::Pull { .. } => run.dict.decode(first[at]),
                });
            }
            let entry = out.entry(values).or_default();
            *entry = entry.or(&span);
            Ok(())
        })?;
    }
    Ok(out)
}

/// Calls `each` for every stretch of time in which the same members of a group are there, with those
/// members in order. Stretches in which none is there are passed over.
fn stretches(
    run: &Run<'_>,
    members: &mut [(&Row, &Spans)],
    mut each: impl FnMut(Spans, &[&Row]) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    members.sort_by(|a, b| a.0.cmp(b.0));
    let mut edges: Vec<T> =
        members.iter().flat_map(|(_, times)| times.iter()).flat_map(|(s, e)| [s, e]).collect();
    edges.sort_unstable();
    edges.dedup();
    for stretch in edges.windows(2) {
        let there: Vec<&Row> =
            members.iter().filter(|(_, times)| times.contains(stretch[0])).map(|(row, _)| *row).collect();
        run.budget.spend(there.len(), 0)?;
        if !there.is_empty() {
            each(Spans::one(stretch[0], stretch[1]), &there)?;
        }
    }
    Ok(())
}
