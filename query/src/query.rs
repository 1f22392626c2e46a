//! The prepared query: read once, resolved once a schema, run against any inputs.
//!
//! 1. A [`Query`] is immutable and cheap to clone; what it learns about a schema
//!    is kept in a cache that all clones share. The key is the identity of the
//!    schemas and of the rule sets, so a changed schema is never mistaken for an old one.
//! 2. Inputs are matched with `:in` one to one, in order.

use crate::ast::{self, RuleSet, Src};
use crate::budget::{Budget, Cancel};
use crate::error::{ParseErrors, QueryError};
use crate::eval::function::Library;
use crate::eval::rel::Rel;
use crate::eval::{FixpointChoice, Given, JoinChoice, Run, Threads, answer};
use crate::naive::{self, Verdict};
use crate::plan::Plan;
use crate::resolve::ir::{self, Resolved, SlotKind};
use crate::resolve::resolve;
use crate::rows::{Answer, Stats};
use crate::source::Source;
use annals_model::{Cell, Diagnostic, Dict, Keyword, Schema, Span, Symbol, T, Value};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Resolved forms a query keeps.
const CACHE: usize = 8;

/// A query, ready to run. Cloning shares everything.
#[derive(Clone)]
pub struct Query {
    inner: Arc<Inner>,
}

struct Inner {
    ast: Arc<ast::Query>,
    cache: Mutex<Vec<(Key, Arc<Resolved>)>>,
}

/// What a resolved form depends on besides the query. Holding the schemas and rule
/// sets keeps their addresses from being used again.
#[derive(Clone)]
struct Key {
    slots: Vec<Option<Arc<Schema>>>,
    rules: Vec<Arc<RuleSet>>,
    library: Arc<Library>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        let same_slot = |(a, b): (&Option<Arc<Schema>>, &Option<Arc<Schema>>)| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        self.slots.len() == other.slots.len()
            && self.slots.iter().zip(&other.slots).all(same_slot)
            && self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(a, b)| Arc::ptr_eq(a, b))
            && Arc::ptr_eq(&self.library, &other.library)
    }
}

/// A query with its inputs, resolved and ready to run.
pub(crate) struct Ready<'o> {
    pub(crate) budget: Budget,
    pub(crate) library: &'o Arc<Library>,
    pub(crate) given: Vec<Input>,
    pub(crate) resolved: Arc<Resolved>,
    pub(crate) slots: Vec<Given>,
}

impl Ready<'_> {
    fn begin(&self, options: &QueryOptions) -> Run<'_> {
        let program = self.resolved.program.clone();
        let mut run = Run::new(&self.slots, Dict::current(), &self.budget, program, self.library);
        run.configure(options);
        run
    }
}

impl Run<'_> {
    /// Runs as these options say.
    pub(crate) fn configure(&mut self, options: &QueryOptions) {
        self.optimise = options.optimise;
        self.operator = options.fixpoint;
        self.threads = options.threads;
        self.joins = options.joins;
    }
}

/// One input of a query.
#[derive(Clone)]
pub enum Input {
    /// A database, for `$`.
    Source(Arc<dyn Source>),
    /// Data; for `$x` a collection of tuples, for `%` rules as data.
    Value(Value),
    /// Rules, for `%`, read before.
    Rules(Arc<RuleSet>),
}

impl Input {
    /// Rules from their text.
    pub fn rules(text: &str) -> Result<Input, ParseErrors> {
        crate::parse::rules(text).map(|r| Input::Rules(Arc::new(r)))
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Source(s) => write!(f, "database at {:?}", s.basis_t()),
            Input::Value(v) => v.fmt(f),
            Input::Rules(r) => write!(f, "{} rules", r.rules.len()),
        }
    }
}

impl From<Value> for Input {
    fn from(v: Value) -> Input {
        Input::Value(v)
    }
}
impl From<Arc<dyn Source>> for Input {
    fn from(s: Arc<dyn Source>) -> Input {
        Input::Source(s)
    }
}

/// The inputs of a run, one for each element of `:in`, in order.
pub type Inputs = Vec<Input>;

/// How a query is to run.
#[derive(Clone)]
pub struct QueryOptions {
    /// Milliseconds before it is stopped; the smaller of this and the query's own `:timeout`.
    pub timeout_ms: Option<u64>,
    /// Rows that all operators together may make.
    pub max_rows: u64,
    /// Bytes of relations alive at one moment.
    pub max_bytes: u64,
    /// Stops it from another thread.
    pub cancel: Cancel,
    /// Replaces the query's `:limit`.
    pub limit: Option<usize>,
    /// Replaces the query's `:offset`.
    pub offset: Option<usize>,
    /// Choose the order of clauses and pass demand to rules. Off: as written, everything derived.
    pub optimise: bool,
    /// Which operator runs recursive rules.
    pub fixpoint: FixpointChoice,
    /// How cyclic patterns are joined.
    pub joins: JoinChoice,
    /// How many threads an operator may use; the answer is the same with any number.
    pub threads: Threads,
    /// Use what was resolved before.
    pub cache: bool,
    /// Put rows in order of their values when the query asks for no order.
    pub sorted: bool,
    /// Run the naive evaluator too and compare: slow, for small databases. A difference
    /// is [`QueryError::Disagreement`]; what could not be compared is a warning.
    pub check: bool,
    /// Functions and aggregates; the standard ones when none are given.
    pub library: Option<Arc<Library>>,
    /// Rule sets that `:rules` may name.
    pub stored_rules: Vec<(Keyword, Arc<RuleSet>)>,
}

impl Default for QueryOptions {
    fn default() -> QueryOptions {
        QueryOptions {
            timeout_ms: None,
            max_rows: u64::MAX,
            max_bytes: 4 << 30,
            cancel: Cancel::new(),
            limit: None,
            offset: None,
            optimise: true,
            fixpoint: FixpointChoice::Best,
            joins: JoinChoice::Best,
            threads: Threads::Auto,
            cache: true,
            sorted: true,
            check: false,
            library: None,
            stored_rules: Vec::new(),
        }
    }
}

impl QueryOptions {
    /// Compare the answer with the naive evaluator's.
    pub fn check(mut self, yes: bool) -> QueryOptions {
        self.check = yes;
        self
    }
}

impl QueryOptions {
    /// What one run of `ast` may use; of two deadlines the earlier counts.
    pub(crate) fn budget(&self, ast: &ast::Query) -> Budget {
        let timeout = match (self.timeout_ms, &ast.timeout_ms) {
            (Some(a), Some(b)) => Some(a.min(b.node)),
            (a, b) => a.or(b.as_ref().map(|b| b.node)),
        };
        Budget::new(timeout, self.max_rows, self.max_bytes, self.cancel.clone())
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner.ast)
    }
}

impl Query {
    /// Reads a query, in list or map form.
    pub fn parse(text: &str) -> Result<Query, ParseErrors> {
        crate::parse::query(text).map(Query::of)
    }
    /// Reads a query from EDN data.
    pub fn from_value(v: &Value) -> Result<Query, ParseErrors> {
        crate::parse::query_value(v).map(Query::of)
    }
    /// Prepares a tree.
    pub fn of(ast: ast::Query) -> Query {
        Query { inner: Arc::new(Inner { ast: Arc::new(ast), cache: Mutex::default() }) }
    }
    /// The tree.
    pub fn ast(&self) -> &Arc<ast::Query> {
        &self.inner.ast
    }

    /// Runs the query.
    pub fn run(&self, inputs: &[Input], options: &QueryOptions) -> Result<Answer, QueryError> {
        let start = Instant::now();
        let ready = self.ready(inputs, options)?;
        let prepare_us = start.elapsed().as_micros() as u64;
        let (ast, resolved) = (&self.inner.ast, &ready.resolved);
        let run = ready.begin(options);
        let parts = bind_inputs(&run, ast, resolved, &ready.given)?;
        let mut answer = answer::answer(&run, ast, resolved, &ready.given, parts, options)?;
        answer.stats = Stats { used: ready.budget.usage(), steps: run.trace.take().into_steps(), prepare_us };
        if options.check
            && let Verdict::Skipped(why) = naive::check(ast, &ready.given, options, ready.library, &answer)?
        {
            answer
                .warnings
                .push(Diagnostic::new("query/not-checked", format!("the answer was not checked: {why}")));
        }
        Ok(answer)
    }

    /// The steps a run would take, with the rows it expects at each. Reads counts, and samples of
    /// columns that are in memory already, and no more: a run, which has to read, may count better
    /// and take other steps.
    pub fn explain(&self, inputs: &[Input], options: &QueryOptions) -> Result<Plan, QueryError> {
        let ready = self.ready(inputs, options)?;
        let run = ready.begin(options);
        let parts = bind_inputs(&run, &self.inner.ast, &ready.resolved, &ready.given)?;
        run.counts_only.set(true);
        crate::plan::dry::body(&run, &ready.resolved.body, parts, &[])?;
        Ok(Plan { steps: run.trace.take().into_steps() })
    }

    /// Resolves the query against these inputs without running it: every complaint
    /// about names, types and bindings that can be known before.
    pub fn check(&self, inputs: &[Input], options: &QueryOptions) -> Result<Vec<Diagnostic>, QueryError> {
        Ok(self.ready(inputs, options)?.resolved.warnings.clone())
    }

    /// Matches inputs, reads rules and resolves: all that comes before a run.
    pub(crate) fn ready<'o>(
        &self,
        inputs: &[Input],
        options: &'o QueryOptions,
    ) -> Result<Ready<'o>, QueryError> {
        let ast = &self.inner.ast;
        let budget = options.budget(ast);
        let library = options.library.as_ref().unwrap_or_else(|| Library::standard());
        let given = matched(ast, inputs)?;
        let rules = rule_sets(ast, &given, options)?;
        let (resolved, slots) = self.resolved(&given, &rules, library, options.cache)?;
        Ok(Ready { budget, library, given, resolved, slots })
    }

    pub(crate) fn resolved(
        &self,
        given: &[Input],
        rules: &[Arc<RuleSet>],
        library: &Arc<Library>,
        use_cache: bool,
    ) -> Result<(Arc<Resolved>, Vec<Given>), QueryError> {
        let ast = &self.inner.ast;
        let mut slots: Vec<(Src, SlotKind)> = Vec::new();
        let mut values: Vec<Given> = Vec::new();
        let mut key = Key { slots: Vec::new(), rules: rules.to_vec(), library: library.clone() };
        for (i, g) in ast.inputs.iter().zip(given) {
            let ast::Input::Src(src) = &i.node else { continue };
            match g {
                Input::Source(s) => {
                    slots.push((src.clone(), SlotKind::Db(s.schema().clone())));
                    key.slots.push(Some(s.schema().clone()));
                    values.push(Given::Db(s.clone()));
                }
                Input::Value(v @ (Value::Vector(_) | Value::List(_) | Value::Set(_))) => {
                    slots.push((src.clone(), SlotKind::Tuples));
                    key.slots.push(None);
                    values.push(Given::Tuples(v.clone()));
                }
                Input::Value(v) => {
                    let what =
                        format!("{src} needs a database or a collection of tuples, not a {}", v.kind());
                    return Err(misfit(what, i.span));
                }
                Input::Rules(_) => return Err(misfit(format!("{src} needs a database, not rules"), i.span)),
            }
        }
        if use_cache {
            let cache = self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, r)) = cache.iter().find(|(k, _)| *k == key) {
                return Ok((r.clone(), values));
            }
        }
        let mut sets: Vec<(&RuleSet, bool)> = rules.iter().map(|r| (&**r, false)).collect();
        sets.push((&ast.rules.inline, true));
        let r = Arc::new(resolve(ast, &slots, &sets, library).map_err(QueryError::Invalid)?);
        if use_cache {
            let mut cache = self.inner.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= CACHE {
                cache.remove(0);
            }
            cache.push((key, r.clone()));
        }
        Ok((r, values))
    }
}

fn misfit(what: String, span: Span) -> QueryError {
    let d = Diagnostic::new("query/inputs", what);
    QueryError::Invalid(vec![if span == Span::default() { d } else { d.at(span, "this input") }])
}

/// The inputs, after checking that there are as many as `:in` wants.
pub(crate) fn matched(ast: &ast::Query, inputs: &[Input]) -> Result<Vec<Input>, QueryError> {
    if inputs.len() == ast.inputs.len() {
        return Ok(inputs.to_vec());
    }
    // A query that reads no database may be run against one all the same.
    if !ast.explicit_in && ast.inputs.is_empty() && matches!(inputs, [Input::Source(_)]) {
        return Ok(Vec::new());
    }
    let what = format!(
        "the query takes {} input{} and was given {}",
        ast.inputs.len(),
        if ast.inputs.len() == 1 { "" } else { "s" },
        inputs.len()
    );
    let names: Vec<String> = ast.inputs.iter().map(|i| i.node.to_string()).collect();
    let d = Diagnostic::new("query/inputs", what).help(format!(":in is [{}]", names.join(" ")));
    Err(QueryError::Invalid(vec![d]))
}

pub(crate) fn rule_sets(
    ast: &ast::Query,
    given: &[Input],
    options: &QueryOptions,
) -> Result<Vec<Arc<RuleSet>>, QueryError> {
    let mut out = Vec::new();
    for (i, g) in ast.inputs.iter().zip(given) {
        if !matches!(i.node, ast::Input::Rules) {
            continue;
        }
        match g {
            Input::Rules(r) => out.push(r.clone()),
            Input::Value(Value::String(text)) => out.push(Arc::new(crate::parse::rules(text)?)),
            Input::Value(v) => out.push(Arc::new(crate::parse::rules_value(v)?)),
            Input::Source(_) => return Err(misfit("% needs rules, not a database".to_owned(), i.span)),
        }
    }
    for name in &ast.rules.stored {
        match options.stored_rules.iter().find(|(k, _)| *k == name.node) {
            Some((_, r)) => out.push(r.clone()),
            None => {
                let d =
                    Diagnostic::new("query/unknown-rule", format!("no rules are stored as {}", name.node))
                        .at(name.span, "not in the database");
                return Err(QueryError::Invalid(vec![d]));
            }
        }
    }
    Ok(out)
}

/// The data inputs as relations that share no variables.
pub(crate) fn bind_inputs(
    run: &Run<'_>,
    ast: &ast::Query,
    resolved: &Resolved,
    given: &[Input],
) -> Result<Vec<Rel>, QueryError> {
    let mut parts: Vec<Rel> = Vec::new();
    for ((i, g), r) in ast.inputs.iter().zip(given).zip(&resolved.inputs) {
        let ir::Input::Bind(bind) = r else { continue };
        let Input::Value(v) = g else {
            return Err(misfit(format!("{} needs a value", i.node), i.span));
        };
        let mut rel = run.input(bind, v).map_err(|m| {
            misfit(format!("the input for {} is a {}, and {} is needed", i.node, m.found, m.wanted), i.span)
        })?;
        while let Some(at) = parts.iter().position(|p| p.vars.iter().any(|v| rel.has(*v))) {
            rel = run.join(&parts.remove(at), &rel)?;
        }
        parts.push(rel.distinct(run.budget)?);
    }
    Ok(parts)
}

/// Runs a query from within a row of another; its answer as one value.
pub(crate) fn nested(
    outer: &Run<'_>,
    query: &Arc<ast::Query>,
    args: &[ir::Arg],
    cells: &[Cell],
) -> Result<Value, QueryError> {
    let inputs: Vec<Input> = args
        .iter()
        .zip(cells)
        .map(|(a, c)| match a {
            ir::Arg::Src(slot) => match &outer.slots[*slot] {
                Given::Db(db) => Input::Source(db.clone()),
                Given::Tuples(v) => Input::Value(v.clone()),
            },
            ir::Arg::Const(v) => Input::Value(v.clone()),
            ir::Arg::Var(_) => Input::Value(outer.dict.decode(*c)),
        })
        .collect();
    let q = Query { inner: Arc::new(Inner { ast: query.clone(), cache: Mutex::default() }) };
    let given = matched(query, &inputs)?;
    let rules = rule_sets(query, &given, &QueryOptions::default())?;
    let library = outer.library;
    let (resolved, slots) = q.resolved(&given, &rules, library, false)?;
    let mut run = Run::new(&slots, outer.dict.clone(), outer.budget, resolved.program.clone(), library);
    run.optimise = outer.optimise;
    run.operator = outer.operator;
    run.threads = outer.threads;
    run.joins = outer.joins;
    run.enter_from(outer);
    let parts = bind_inputs(&run, query, &resolved, &given)?;
    Ok(answer::answer(&run, query, &resolved, &given, parts, &QueryOptions::default())?.value())
}

/// The pull pattern that an input named `name` holds.
pub(crate) fn pattern_input(ast: &ast::Query, given: &[Input], name: &Symbol) -> Option<Value> {
    ast.inputs.iter().zip(given).find_map(|(i, g)| match (&i.node, g) {
        (ast::Input::Pattern(s), Input::Value(v)) if s == name => Some(v.clone()),
        (ast::Input::Binding(ast::Binding::Var(var)), Input::Value(v)) if var.as_str() == name.as_str() => {
            Some(v.clone())
        }
        _ => None,
    })
}

/// The newest transaction of the first database.
pub(crate) fn basis(given: &[Input]) -> T {
    given
        .iter()
        .find_map(|g| match g {
            Input::Source(s) => Some(s.basis_t()),
            _ => None,
        })
        .unwrap_or(T::GENESIS)
}
