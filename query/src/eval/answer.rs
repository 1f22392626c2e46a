//! `:find`: from the rows of `:where` to the answer.
//!
//! 1. Rows are a set first: the distinct values of find and `:with` variables.
//!    Only then are they grouped and aggregated.
//! 2. Groups are keyed by every find element that is no aggregate.
//! 3. Without `:with` the shown rows are a set; with it, a bag.
//! 4. Pulls come last, for the rows that are shown only.

use super::Run;
use super::rel::{Col, Hasher, Rel, Var, hash_row};
use crate::ast::{self, FindSpec, HavingArg, PullArg};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::query::{Input, QueryOptions, basis, pattern_input};
use crate::resolve::ir::{AggArg, Elem, Resolved};
use crate::rows::{Answer, Column, Rows, Shape, Stats, sort};
use annals_model::{Cell, Diagnostic, Span, Value};
use hashbrown::{HashTable, hash_table};

/// Runs `:where` and builds the answer.
pub(crate) fn answer(
    run: &Run<'_>,
    q: &ast::Query,
    r: &Resolved,
    given: &[Input],
    parts: Vec<Rel>,
    options: &QueryOptions,
) -> Result<Answer, QueryError> {
    let needed = needed(r);
    let constants = constants(run, r, &parts)?;
    let rows = run.body(&r.body, parts, &needed)?.distinct(run.budget)?;
    let shown = if r.find.iter().any(|e| matches!(e, Elem::Aggregate { .. })) {
        grouped(run, r, &rows, &constants)?
    } else {
        plain(run, r, &rows)
    };
    finish(run, q, r, given, shown, options)
}

/// The variables of `:find` and `:with`, each once.
pub(crate) fn needed(r: &Resolved) -> Vec<Var> {
    let mut needed: Vec<Var> = Vec::new();
    let found = r.find.iter().map(|e| {
        let (Elem::Var(v) | Elem::Pull { var: v, .. } | Elem::Aggregate { var: v, .. }) = e;
        *v
    });
    for v in found.chain(r.with.iter().copied()) {
        if !needed.contains(&v) {
            needed.push(v);
        }
    }
    needed
}

/// Some of the rows of `:where` as rows of the answer, for a query without aggregates, `:having`
/// and `:order-by`.
pub(crate) fn block(
    run: &Run<'_>,
    q: &ast::Query,
    r: &Resolved,
    given: &[Input],
    rows: &Rel,
) -> Result<Rows, QueryError> {
    let Shown { cols, len } = plain(run, r, rows);
    let (cols, order) = pulls(run, q, r, given, cols, None, len)?;
    Ok(Rows::new(run.dict.clone(), cols, order, len))
}

/// The shape that `:find` and the keys of a map ask for.
pub(crate) fn shape(q: &ast::Query) -> Shape {
    match (&q.ret, q.find.spec) {
        (Some(ret), FindSpec::Rel) => Shape::Maps(ret.keys()),
        (Some(ret), _) => Shape::Map(ret.keys()),
        (None, FindSpec::Rel) => Shape::Rel,
        (None, FindSpec::Coll) => Shape::Coll,
        (None, FindSpec::Tuple) => Shape::Tuple,
        (None, FindSpec::Scalar) => Shape::Scalar,
    }
}

/// Columns of the answer before ordering.
struct Shown {
    cols: Vec<Column>,
    len: usize,
}

/// Constant arguments of aggregates: those bound by `:in` are read from the inputs.
fn constants(run: &Run<'_>, r: &Resolved, parts: &[Rel]) -> Result<Vec<Vec<Value>>, QueryError> {
    let mut out = Vec::new();
    for e in &r.find {
        let Elem::Aggregate { args, name, span, .. } = e else {
            out.push(Vec::new());
            continue;
        };
        let mut values = Vec::new();
        for a in args {
            values.push(match a {
                AggArg::Const(v) => v.clone(),
                AggArg::Var(v) => match parts.iter().find_map(|p| p.col(*v)) {
                    Some(col) if col.len() == 1 => run.dict.decode(col[0]),
                    _ => {
                        let d = Diagnostic::new(
                            "query/aggregate",
                            format!("an argument of {name} is not one value"),
                        )
                        .at(*span, "needs an input ?x with one value");
                        return Err(QueryError::Invalid(vec![d]));
                    }
                },
            });
        }
        out.push(values);
    }
    Ok(out)
}

fn plain(run: &Run<'_>, r: &Resolved, rows: &Rel) -> Shown {
    let vars: Vec<Var> = r
        .find
        .iter()
        .map(|e| {
            let (Elem::Var(v) | Elem::Pull { var: v, .. } | Elem::Aggregate { var: v, .. }) = e;
            *v
        })
        .collect();
    let len = rows.len;
    let cols = vars.iter().map(|v| column(rows, *v, run)).collect();
    Shown { cols, len }
}

fn column(rows: &Rel, v: Var, run: &Run<'_>) -> Column {
    Column::Cells(rows.col(v).cloned().unwrap_or_else(|| Col::new(vec![], run.budget)))
}

fn grouped(run: &Run<'_>, r: &Resolved, rows: &Rel, constants: &[Vec<Value>]) -> Result<Shown, QueryError> {
    let keys: Vec<Var> = r
        .find
        .iter()
        .filter_map(|e| match e {
            Elem::Var(v) | Elem::Pull { var: v, .. } => Some(*v),
            Elem::Aggregate { .. } => None,
        })
        .collect();
    let key_cols: Vec<&[Cell]> = keys.iter().map(|v| &**rows.col(*v).expect("needed")).collect();
    let (group_of, first) = groups(run, &key_cols, rows.len)?;
    let n = first.len();
    let mut cols = Vec::new();
    for (e, args) in r.find.iter().zip(constants) {
        let made = match e {
            Elem::Var(v) | Elem::Pull { var: v, .. } => {
                let c = rows.col(*v).expect("needed");
                Column::Cells(Col::new(first.iter().map(|i| c[*i as usize]).collect(), run.budget))
            }
            Elem::Aggregate { name, var, span, .. } => {
                let fail = |error| QueryError::Function { name: name.to_string(), error, at: *span };
                let agg =
                    run.library.aggregate(name.as_str()).ok_or_else(|| unknown(run, name.as_str(), *span))?;
                agg.check_args(args).map_err(fail)?;
                let col = rows.col(*var).expect("needed");
                let values = if keys.is_empty() {
                    let mut g = agg.start(args);
                    for chunk in col.chunks(64 * BATCH) {
                        g.push_all(chunk, &run.dict).map_err(fail)?;
                        run.budget.spend(0, g.heap_bytes())?;
                    }
                    if n == 0 { vec![] } else { vec![g.finish(&run.dict).map_err(fail)?] }
                } else {
                    if let Some(counts) = agg.counts(&group_of, n) {
                        cols.push(Column::Values(counts));
                        continue;
                    }
                    let mut gs = vec![agg.start(args); n];
                    let size = n * std::mem::size_of::<super::aggregate::Group>();
                    for (i, (g, c)) in group_of.iter().zip(col.iter()).enumerate() {
                        gs[*g as usize].push(*c, &run.dict).map_err(fail)?;
                        if i % BATCH == 0 {
                            run.budget.spend(0, size + i * 8)?;
                        }
                    }
                    gs.into_iter().map(|g| g.finish(&run.dict).map_err(fail)).collect::<Result<_, _>>()?
                };
                Column::Values(values)
            }
        };
        cols.push(made);
    }
    Ok(Shown { cols, len: n })
}

/// The group of each row, and the first row of each group.
pub(super) type Groups = (Vec<u32>, Vec<u32>);

pub(super) fn groups(run: &Run<'_>, keys: &[&[Cell]], len: usize) -> Result<Groups, QueryError> {
    if keys.is_empty() {
        return Ok((vec![], if len == 0 { vec![] } else { vec![0] }));
    }
    if let [key] = keys
        && let Some(found) = dense_groups(run, key)?
    {
        return Ok(found);
    }
    let hasher = Hasher::default();
    let mut table: HashTable<u32> = HashTable::new();
    let (mut group_of, mut first): (Vec<u32>, Vec<u32>) = (Vec::with_capacity(len), Vec::new());
    for i in 0..len {
        // Rows of one group often lie together.
        if i > 0 && keys.iter().all(|k| k[i] == k[i - 1]) {
            group_of.push(group_of[i - 1]);
            continue;
        }
        let h = hash_row(&hasher, keys, i);
        let eq = |g: &u32| keys.iter().all(|k| k[first[*g as usize] as usize] == k[i]);
        match table.entry(h, eq, |g| hash_row(&hasher, keys, first[*g as usize] as usize)) {
            hash_table::Entry::Occupied(e) => group_of.push(*e.get()),
            hash_table::Entry::Vacant(e) => {
                e.insert(first.len() as u32);
                group_of.push(first.len() as u32);
                first.push(i as u32);
            }
        }
        if i % BATCH == 0 {
            run.budget.spend(0, group_of.len() * 4 + first.len() * 9)?;
        }
    }
    Ok((group_of, first))
}

/// Groups by one key whose words lie close together, as numbers of a dictionary do: by array.
fn dense_groups(run: &Run<'_>, key: &[Cell]) -> Result<Option<Groups>, QueryError> {
    const NONE: u32 = u32::MAX;
    let (Some(&min), Some(&max)) = (key.iter().min(), key.iter().max()) else { return Ok(None) };
    if max - min > 2 * key.len() as u64 + 1024 || key.len() >= NONE as usize {
        return Ok(None);
    }
    run.budget.spend(0, (max - min) as usize * 4 + key.len() * 4)?;
    let mut number = vec![NONE; (max - min) as usize + 1];
    let (mut group_of, mut first): (Vec<u32>, Vec<u32>) = (Vec::with_capacity(key.len()), Vec::new());
    for (i, c) in key.iter().enumerate() {
        let g = &mut number[(c - min) as usize];
        if *g == NONE {
            *g = first.len() as u32;
            first.push(i as u32);
        }
        group_of.push(*g);
    }
    Ok(Some((group_of, first)))
}

fn unknown(run: &Run<'_>, name: &str, span: Span) -> QueryError {
    let d = Diagnostic::new("query/unknown-aggregate", format!("unknown aggregate {name}"))
        .at(span, "not an aggregate");
    QueryError::Invalid(vec![match run.library.nearest_aggregate(name) {
        Some(near) => d.help(format!("did you mean {near}?")),
        None => d,
    }])
}

/// `:having`, order, limits, duplicates, pulls, shape.
fn finish(
    run: &Run<'_>,
    q: &ast::Query,
    r: &Resolved,
    given: &[Input],
    shown: Shown,
    options: &QueryOptions,
) -> Result<Answer, QueryError> {
    let Shown { cols, len } = shown;
    let mut rows: Option<Vec<u32>> = having(run, q, &cols, len)?;
    // Sort by the keys asked for, then by the columns from left to right.
    let mut keys: Vec<(&Column, bool)> = Vec::new();
    for k in &q.order_by {
        match cols.get(k.column) {
            Some(c) => keys.push((c, k.descending)),
            None => {
                let d = Diagnostic::new("query/order", "an order key is not a column of the answer")
                    .at(k.span, "cannot order by this");
                return Err(QueryError::Invalid(vec![d]));
            }
        }
    }
    let limit = options.limit.or(q.limit.as_ref().map(|l| l.node));
    let offset = options.offset.or(q.offset.as_ref().map(|o| o.node)).unwrap_or(0);
    let first_only = matches!(q.find.spec, FindSpec::Tuple | FindSpec::Scalar);
    if options.sorted || !keys.is_empty() {
        keys.extend(cols.iter().map(|c| (c, false)));
        run.budget.check()?;
        let order = if first_only && q.order_by.is_empty() && rows.is_none() && len > 0 {
            Some(vec![least(&cols, len, run)])
        } else {
            sort(&keys, len, &run.dict)
        };
        rows = match (order, rows) {
            (Some(order), Some(kept)) => {
                let kept: hashbrown::HashSet<u32> = kept.into_iter().collect();
                Some(order.into_iter().filter(|i| kept.contains(i)).collect())
            }
            (order, kept) => order.or(kept),
        };
    }
    let mut n = rows.as_ref().map_or(len, Vec::len);
    let want = limit.unwrap_or(usize::MAX).min(if first_only { 1 } else { usize::MAX });
    if offset > 0 || n > want {
        let all = rows.unwrap_or_else(|| (0..len as u32).collect());
        let cut: Vec<u32> = all.into_iter().skip(offset).take(want).collect();
        n = cut.len();
        rows = Some(cut);
    }
    let (cols, rows) = pulls(run, q, r, given, cols, rows, n)?;
    Ok(Answer {
        shape: shape(q),
        rows: Rows::new(run.dict.clone(), cols, rows, n),
        basis_t: basis(given),
        stats: Stats::default(),
        warnings: r.warnings.clone(),
    })
}

/// The first row in the order of values.
fn least(cols: &[Column], len: usize, run: &Run<'_>) -> u32 {
    let value = |c: &Column, i: usize| match c {
        Column::Cells(c) => run.dict.decode(c[i]),
        Column::Values(v) => v[i].clone(),
    };
    let mut best = 0;
    for i in 1..len {
        let order = cols
            .iter()
            .map(|c| match c {
                Column::Cells(c) if c[i] == c[best] => std::cmp::Ordering::Equal,
                c => value(c, i).cmp(&value(c, best)),
            })
            .find(|o| o.is_ne());
        if order == Some(std::cmp::Ordering::Less) {
            best = i;
        }
    }
    best as u32
}

fn having(
    run: &Run<'_>,
    q: &ast::Query,
    cols: &[Column],
    len: usize,
) -> Result<Option<Vec<u32>>, QueryError> {
    if q.having.is_empty() {
        return Ok(None);
    }
    let mut kept: Vec<u32> = (0..len as u32).collect();
    for h in &q.having {
        let f = run.library.function(h.name.as_str()).ok_or_else(|| {
            let d = Diagnostic::new("query/unknown-function", format!("unknown function {}", h.name.node))
                .at(h.name.span, "not a predicate");
            QueryError::Invalid(vec![match run.library.nearest_function(h.name.as_str()) {
                Some(near) => d.help(format!("did you mean {near}?")),
                None => d,
            }])
        })?;
        let mut next = Vec::new();
        for i in kept {
            let args: Vec<Value> = h
                .args
                .iter()
                .map(|a| match &a.node {
                    HavingArg::Const(v) => v.clone(),
                    HavingArg::Column(c) => match &cols[*c] {
                        Column::Cells(c) => run.dict.decode(c[i as usize]),
                        Column::Values(v) => v[i as usize].clone(),
                    },
                })
                .collect();
            let keep = f.call(&args).map_err(|error| QueryError::Function {
                name: h.name.to_string(),
                error,
                at: h.span,
            })?;
            if !keep.is_falsy() {
                next.push(i);
            }
        }
        kept = next;
    }
    Ok(Some(kept))
}

/// Replaces the columns of pulls by what was pulled, for the rows shown.
fn pulls(
    run: &Run<'_>,
    q: &ast::Query,
    r: &Resolved,
    given: &[Input],
    cols: Vec<Column>,
    rows: Option<Vec<u32>>,
    n: usize,
) -> Result<(Vec<Column>, Option<Vec<u32>>), QueryError> {
    if !r.find.iter().any(|e| matches!(e, Elem::Pull { .. })) {
        return Ok((cols, rows));
    }
    let at = |i: usize| rows.as_ref().map_or(i, |o| o[i] as usize);
    let mut out = Vec::new();
    for (e, c) in r.find.iter().zip(cols) {
        let (slot, pattern) = match e {
            Elem::Pull { src, pattern, .. } => (*src, pattern),
            Elem::Var(_) | Elem::Aggregate { .. } => {
                out.push(match c {
                    Column::Cells(c) => {
                        Column::Cells(Col::new((0..n).map(|i| c[at(i)]).collect(), run.budget))
                    }
                    Column::Values(v) => Column::Values((0..n).map(|i| v[at(i)].clone()).collect()),
                });
                continue;
            }
        };
        let pattern = match pattern {
            PullArg::Literal(p) => p.clone(),
            PullArg::Input(name) => match pattern_input(q, given, &name.node) {
                Some(v) => std::sync::Arc::new(crate::parse::pull_value(&v)?),
                None => {
                    let d = Diagnostic::new(
                        "query/inputs",
                        format!("no input is the pull pattern {}", name.node),
                    )
                    .at(name.span, "not among the inputs");
                    return Err(QueryError::Invalid(vec![d]));
                }
            },
        };
        let super::Given::Db(db) = &run.slots[slot] else {
            let d = Diagnostic::new("query/inputs", "pull needs a database");
            return Err(QueryError::Invalid(vec![d]));
        };
        let Column::Cells(cells) = c else { unreachable!("a pull shows a variable") };
        let mut entities = Vec::with_capacity(n);
        for i in 0..n {
            entities.push(run.entity_of(slot, cells[at(i)])?);
        }
        out.push(Column::Values(crate::pull::pull_many(
            db.as_ref(),
            &pattern,
            &entities,
            run.library,
            run.budget,
        )?));
    }
    Ok((out, None))
}
