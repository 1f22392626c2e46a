//! Asking: a query's text, its inputs by name, a run that Ctrl-C stops, rows.
//!
//! 1. Values for `:in` come by position (`--in`) or by name (`:let ?x`); a query
//!    that calls a stored rule gets the stored rules without naming `%`.
//! 2. Places in errors are places in the text as the user wrote it.

use crate::{
    backend::Db,
    fail::{Exit, Failure, Outcome},
    form::{self, Names, Wanted, WithRules, names},
    interrupt,
    output::{Column, Rows, Shape},
    term::Screen,
};
use annals::{Answer, Cancel, Input, Missing, Proof, Query, QueryOptions, T, Value, edn};
use annals_server::client::PlanStep;
use std::collections::{BTreeMap, VecDeque};

/// What a query is given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Values by position, for what `:in` names besides databases and rules.
    pub values: VecDeque<Value>,
    /// Values by name.
    pub named: BTreeMap<String, Value>,
    /// Rules, each `[(head) clause …]`.
    pub rules: Vec<Value>,
    /// Longest time.
    pub timeout_ms: Option<u64>,
    /// Most rows.
    pub limit_rows: Option<u64>,
    /// Where progress is shown.
    pub watched: Option<Screen>,
}

/// An answer with what it cost.
pub struct Answered {
    /// The rows.
    pub rows: Rows,
    /// Microseconds.
    pub elapsed_us: u64,
    /// Rows made by all operators together.
    pub made: u64,
    /// Rows of attributes that were read.
    pub read: u64,
}

/// A query ready to run: parsed, with its inputs.
pub struct Prepared {
    query: Query,
    inputs: Vec<Input>,
    rewritten: Option<WithRules>,
    text: String,
}

/// Parses a query and finds its inputs.
pub fn prepare(text: &str, given: &Given) -> Outcome<Prepared> {
    let mut names = names(text);
    let calls_rule = rule_names(&given.rules).iter().any(|r| names.heads.contains(r));
    let rewritten =
        (calls_rule && !names.inputs.contains(&Wanted::Rules)).then(|| WithRules::new(text, &names));
    if rewritten.is_some() {
        if names.inputs.is_empty() {
            names.inputs.push(Wanted::Source("$".into()));
        }
        names.inputs.push(Wanted::Rules);
    }
    let parsed = Query::parse(rewritten.as_ref().map_or(text, |w| &w.text));
    let query = parsed.map_err(|e| placed(annals::QueryError::from(e).into(), rewritten.as_ref(), text))?;
    let inputs = inputs(&names, given, text)?;
    Ok(Prepared { query, inputs, rewritten, text: text.to_owned() })
}

/// The inputs after the database asked, in the order of `:in`.
fn inputs(n: &Names, given: &Given, text: &str) -> Outcome<Vec<Input>> {
    let mut values = given.values.clone();
    let mut out = Vec::new();
    for w in &n.inputs {
        match w {
            Wanted::Source(_) => {}
            Wanted::Rules => {
                out.push(Input::Rules(edn::print(&Value::vector(given.rules.iter().cloned())).into()))
            }
            Wanted::Value(name) => match values.pop_front().or_else(|| given.named.get(name).cloned()) {
                Some(v) => out.push(Input::Value(v)),
                None => {
                    let f = Failure::refused(
                        "shell/missing-input",
                        format!("the query wants a value for {name}"),
                    );
                    let at = text.find(name.as_str()).unwrap_or(0);
                    let mut f = f.help(format!(
                        "give it with --in EDN on the command line, or :let {name} VALUE in the shell"
                    ));
                    f.diagnostics[0] =
                        f.diagnostics[0].clone().at(annals::Span::new(at, at + name.len()), "no value");
                    return Err(f.of("query", text));
                }
            },
        }
    }
    if let Some(extra) = values.front() {
        return Err(Failure::usage(format!("--in {} is one value more than :in names", edn::print(extra)))
            .help("each --in is for one name after $ in :in, in order"));
    }
    Ok(out)
}

impl Prepared {
    /// Does something with the query on its own thread; Ctrl-C stops it.
    fn on<R: Send>(
        &self,
        given: &Given,
        f: impl FnOnce(&Query, Vec<Input>, &QueryOptions) -> Outcome<R> + Send,
    ) -> Outcome<R> {
        let result = interrupt::cancellable(given.watched.as_ref(), |cancel| {
            f(&self.query, self.inputs.clone(), &options(given, cancel))
        });
        result.map_err(|f| placed(f, self.rewritten.as_ref(), &self.text))
    }

    /// The query's text as it is run: with the stored rules among its inputs.
    fn text(&self) -> &str {
        self.rewritten.as_ref().map_or(&self.text, |w| &w.text)
    }
}

/// Runs a prepared query.
pub fn run(p: &Prepared, db: &Db, given: &Given) -> Outcome<Answered> {
    let started = std::time::Instant::now();
    let answer = p.on(given, |q, inputs, options| db.query_with(q, p.text(), inputs, options))?;
    let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let used = answer.stats.used;
    let mut rows = rows_of(&answer, &p.text);
    // A ceiling over whatever :limit the query has itself.
    if let Some(n) = given.limit_rows {
        rows.rows.truncate(usize::try_from(n).unwrap_or(usize::MAX));
    }
    Ok(Answered { rows, elapsed_us, made: used.rows, read: used.rows_read })
}

/// Parses and runs.
pub fn ask(text: &str, db: &Db, given: &Given) -> Outcome<Answered> {
    run(&prepare(text, given)?, db, given)
}

/// What each clause of a run did: index or operator, rows, time.
pub fn explain(text: &str, db: &Db, given: &Given) -> Outcome<Answer> {
    let p = prepare(text, given)?;
    p.on(given, |q, inputs, options| db.query_with(q, p.text(), inputs, options))
}

/// How a run went, as a server tells it: `:text` for people; none for a database of this process.
pub fn explained(text: &str, db: &Db, given: &Given) -> Outcome<Option<Value>> {
    let p = prepare(text, given)?;
    p.on(given, |_, inputs, _| db.explained(p.text(), inputs).transpose())
}

/// What each clause would do, and how many rows are expected of it; nothing is run.
pub fn plan(text: &str, db: &Db, given: &Given) -> Outcome<Vec<PlanStep>> {
    let p = prepare(text, given)?;
    p.on(given, |q, inputs, options| db.plan(q, p.text(), inputs, options))
}

/// Why a row is in the answer; none if it is not.
pub fn prove(text: &str, db: &Db, given: &Given, row: &[Value]) -> Outcome<Option<Proof>> {
    let p = prepare(text, given)?;
    p.on(given, |q, inputs, o| db.prove(q, p.text(), inputs, row, o))
}

/// Why a row is not in the answer; none if it is.
pub fn why_not(text: &str, db: &Db, given: &Given, row: &[Value]) -> Outcome<Option<Missing>> {
    let p = prepare(text, given)?;
    p.on(given, |q, inputs, o| db.why_not(q, p.text(), inputs, row, o))
}

fn options(given: &Given, cancel: &Cancel) -> QueryOptions {
    let mut options = QueryOptions { cancel: cancel.clone(), ..QueryOptions::default() };
    options.timeout_ms = given.timeout_ms;
    options
}

/// Points a failure into the text as the user wrote it.
fn placed(mut f: Failure, rewritten: Option<&WithRules>, text: &str) -> Failure {
    if let Some(w) = rewritten {
        for label in f.diagnostics.iter_mut().flat_map(|d| &mut d.labels) {
            label.span = w.back(label.span);
        }
    }
    if f.exit == Exit::Refused { f.of("query", text) } else { f }
}

/// The names of rules, each `[(head …) …]`.
pub fn rule_names(rules: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = rules.iter().filter_map(rule_name).collect();
    names.dedup();
    names
}

/// The name of one rule.
pub fn rule_name(rule: &Value) -> Option<String> {
    let (Value::Vector(clauses) | Value::List(clauses)) = rule else { return None };
    match clauses.first() {
        Some(Value::List(head) | Value::Vector(head)) => match head.first() {
            Some(Value::Symbol(s)) => Some(s.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Rules from text: a vector of them.
pub fn read_rules(text: &str, name: &str) -> Outcome<Vec<Value>> {
    let v = crate::session::read_edn(text, name)?;
    match &v {
        Value::Vector(rules) if rules.iter().all(|r| rule_name(r).is_some()) => Ok(rules.to_vec()),
        _ => {
            Err(Failure::refused("query/rule", "rules are a vector of [(name ?x …) clause …]").of(name, text))
        }
    }
}

/// The rows of an answer with the headings the query gives them.
fn rows_of(a: &Answer, text: &str) -> Rows {
    let (shape, mut names) = match &a.shape {
        annals::Shape::Rel => (Shape::Relation, form::find_names(text)),
        annals::Shape::Coll => (Shape::Collection, form::find_names(text)),
        annals::Shape::Tuple => (Shape::Tuple, form::find_names(text)),
        annals::Shape::Scalar => (Shape::Scalar, form::find_names(text)),
        annals::Shape::Maps(keys) => (Shape::Maps, keys.iter().map(edn::print).collect()),
        annals::Shape::Map(keys) => (Shape::Map, keys.iter().map(edn::print).collect()),
    };
    let width = a.rows.width();
    names.truncate(width);
    names.extend((names.len()..width).map(|i| format!("{i}")));
    let one = matches!(shape, Shape::Tuple | Shape::Scalar | Shape::Map);
    let n = if one { a.rows.len().min(1) } else { a.rows.len() };
    Rows {
        columns: names.into_iter().map(|name| Column { name }).collect(),
        rows: (0..n).map(|i| a.rows.row(i)).collect(),
        shape,
        listed: false,
    }
}

/// Rows gained and lost between two transactions, each with the transaction that
/// did it: columns `:change`, the query's own, `:t`.
pub fn diff(text: &str, db: &Db, from: T, to: T, given: &Given) -> Outcome<Rows> {
    let p = prepare(text, given)?;
    let changes = p.on(given, |q, inputs, o| db.diff_with(q, p.text(), inputs, (from, to), o))?;
    let mut names = vec![":change".to_owned()];
    names.extend(form::find_names(text));
    names.push(":t".to_owned());
    let mut rows = Rows::new(names.iter().map(String::as_str), Shape::Relation);
    for c in changes {
        let mut row = vec![Value::keyword(if c.gained { "gained" } else { "lost" })];
        row.extend(c.values);
        row.resize(names.len() - 1, Value::Nil);
        row.push(Value::Long(i64::try_from(c.t.0).unwrap_or(i64::MAX)));
        rows.rows.push(row);
    }
    Ok(rows)
}
