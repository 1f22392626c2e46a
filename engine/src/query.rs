//! Asking a [`Db`]: queries, pulls, and what changed in an answer.
//!
//! 1. `$` is the database asked, unless a database is given for it.
//! 2. Text is parsed once a database: prepared queries, pull patterns and rule sets
//!    are kept by their text.
//! 3. `diff` names, for every row gained or lost, the transaction that did it.

use crate::{Db, DbError, Eid, Error, Input, IntoInputs, IntoTimePoint, store::Prefix};
use annals_model::{Diagnostic, EntityId, T, Value};
use annals_query::{
    ast::{self, PullPattern, RuleSet},
    budget::Budget,
    error::{ParseErrors, QueryError},
    eval::function::Library,
    plan::Plan,
    pull as pulling,
    query::{self as prepared, Query, QueryOptions},
    rows::Answer,
    source::Source,
    stream::RowStream,
    timeline::{Missing, Proof, TimelineRow},
};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::{collections::BTreeSet, sync::Arc};

/// Prepared queries and pull patterns kept by text.
const KEPT: usize = 256;

/// What was prepared from text.
#[derive(Default)]
pub(crate) struct Prepared {
    queries: Mutex<HashMap<Arc<str>, Query>>,
    patterns: Mutex<HashMap<Arc<str>, Arc<PullPattern>>>,
    /// The same text gives the same set, so that a query resolved against it is not resolved again.
    rules: Mutex<HashMap<Arc<str>, Arc<RuleSet>>>,
}

impl Prepared {
    /// Forgets everything prepared.
    pub fn clear(&self) {
        self.queries.lock().clear();
        self.patterns.lock().clear();
        self.rules.lock().clear();
    }
}

fn kept<V: Clone, E>(
    cache: &Mutex<HashMap<Arc<str>, V>>,
    text: &str,
    make: impl FnOnce() -> Result<V, E>,
) -> Result<V, E> {
    if let Some(found) = cache.lock().get(text) {
        return Ok(found.clone());
    }
    let made = make()?;
    let mut cache = cache.lock();
    if cache.len() >= KEPT {
        cache.clear();
    }
    cache.insert(Arc::from(text), made.clone());
    Ok(made)
}

/// Anything that is a query: text, a prepared [`Query`], or EDN data.
pub trait IntoQuery {
    /// The query. `kept` keeps what was prepared from text.
    fn into_query(self, db: &Db) -> Result<Query, ParseErrors>;
}
impl IntoQuery for &str {
    fn into_query(self, db: &Db) -> Result<Query, ParseErrors> {
        kept(&db.shared().prepared().queries, self, || Query::parse(self))
    }
}
impl IntoQuery for &String {
    fn into_query(self, db: &Db) -> Result<Query, ParseErrors> {
        self.as_str().into_query(db)
    }
}
impl IntoQuery for String {
    fn into_query(self, db: &Db) -> Result<Query, ParseErrors> {
        self.as_str().into_query(db)
    }
}
impl IntoQuery for Query {
    fn into_query(self, _: &Db) -> Result<Query, ParseErrors> {
        Ok(self)
    }
}
impl IntoQuery for &Query {
    fn into_query(self, _: &Db) -> Result<Query, ParseErrors> {
        Ok(self.clone())
    }
}
impl IntoQuery for &Value {
    fn into_query(self, _: &Db) -> Result<Query, ParseErrors> {
        Query::from_value(self)
    }
}

/// Anything that is a pull pattern: text, or a parsed [`PullPattern`].
pub trait IntoPattern {
    /// The pattern.
    fn into_pattern(self, db: &Db) -> Result<Arc<PullPattern>, ParseErrors>;
}
impl IntoPattern for &str {
    fn into_pattern(self, db: &Db) -> Result<Arc<PullPattern>, ParseErrors> {
        kept(&db.shared().prepared().patterns, self, || annals_query::parse::pull(self).map(Arc::new))
    }
}
impl IntoPattern for &String {
    fn into_pattern(self, db: &Db) -> Result<Arc<PullPattern>, ParseErrors> {
        self.as_str().into_pattern(db)
    }
}
impl IntoPattern for Arc<PullPattern> {
    fn into_pattern(self, _: &Db) -> Result<Arc<PullPattern>, ParseErrors> {
        Ok(self)
    }
}

/// A row that an answer gained or lost between two times.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffRow {
    /// The row.
    pub values: Vec<Value>,
    /// Gained, or else lost.
    pub gained: bool,
    /// The transaction since which it is so.
    pub t: T,
}

impl Db {
    /// Runs a query. Inputs other than this database are given in the order of
    /// `:in`.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// conn.transact("[{:db/ident :color/red} {:db/ident :color/blue}]")?;
    /// let rows = conn.db().query("[:find ?e . :in $ ?k :where [?e :db/ident ?k]]", (annals::Keyword::new("color/red"),))?;
    /// assert_eq!(rows.scalar(), conn.db().entid("color/red").map(annals::Value::Ref));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn query(&self, q: impl IntoQuery, inputs: impl IntoInputs) -> Result<Answer, QueryError> {
        self.query_with(q, inputs, &QueryOptions::default())
    }

    /// Runs a query within limits of time, rows and memory.
    pub fn query_with(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        options: &QueryOptions,
    ) -> Result<Answer, QueryError> {
        let q = q.into_query(self)?;
        q.run(&self.matched(&q, inputs.into_inputs())?, &*self.with_rules(&q, options)?)
    }

    /// Runs a query whose answer is too large to hold, or that need not be taken to its end: its
    /// rows come a batch of at most `rows` at a time, and are made as they are asked for.
    ///
    /// What is held meanwhile is what the joins work on, not the answer, unless rows must be
    /// remembered so that none comes twice (docs/library.md says when). A query that aggregates,
    /// orders or limits is run to its end at the first batch's cost; it is still given in batches.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// let pairs = "[:find ?a ?b :where [?a :db/ident _] [?b :db/ident _]]";
    /// let whole = conn.db().query(pairs, ())?;
    /// let mut rows = 0;
    /// for batch in conn.db().query_stream(pairs, (), &Default::default(), 10)? {
    ///     let batch = batch?; // a limit or the deadline may be reached on the way
    ///     assert!(batch.len() <= 10);
    ///     rows += batch.len();
    /// }
    /// assert_eq!(rows, whole.rows.len());
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those that are known before anything runs. Later ones are the last item of the stream.
    pub fn query_stream(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        options: &QueryOptions,
        rows: usize,
    ) -> Result<RowStream, QueryError> {
        let q = q.into_query(self)?;
        q.stream(&self.matched(&q, inputs.into_inputs())?, &*self.with_rules(&q, options)?, rows)
    }

    /// The steps a query would take, with the rows expected at each. (What a run
    /// really did is in the [`Answer`]'s `stats`.)
    pub fn explain(&self, q: impl IntoQuery, inputs: impl IntoInputs) -> Result<Plan, QueryError> {
        self.explain_with(q, inputs, &QueryOptions::default())
    }

    /// The same, for a run with these options.
    pub fn explain_with(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        options: &QueryOptions,
    ) -> Result<Plan, QueryError> {
        let q = q.into_query(self)?;
        q.explain(&self.matched(&q, inputs.into_inputs())?, &*self.with_rules(&q, options)?)
    }

    /// What there is to say about a query without running it: warnings, or all
    /// that is wrong with it.
    pub fn check(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
    ) -> Result<Vec<annals_model::Diagnostic>, QueryError> {
        let q = q.into_query(self)?;
        let options = QueryOptions::default();
        q.check(&self.matched(&q, inputs.into_inputs())?, &*self.with_rules(&q, &options)?)
    }

    /// The answer over all of time up to this view, each row with the times at
    /// which it was one.
    pub fn timeline(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
    ) -> Result<Vec<TimelineRow>, QueryError> {
        self.timeline_with(q, inputs, &QueryOptions::default())
    }

    /// The same, within limits.
    pub fn timeline_with(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        options: &QueryOptions,
    ) -> Result<Vec<TimelineRow>, QueryError> {
        let (q, inputs) = self.over_history(q, inputs)?;
        q.timeline(&inputs, self.t(), &*self.with_rules(&q, options)?)
    }

    /// Why a row is in the answer of a query: the datoms, rules and tests it rests
    /// on. None if it is not in the answer.
    pub fn prove(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        row: &[Value],
    ) -> Result<Option<Proof>, QueryError> {
        self.prove_with(q, inputs, row, &QueryOptions::default())
    }

    /// The same, within limits.
    pub fn prove_with(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        row: &[Value],
        options: &QueryOptions,
    ) -> Result<Option<Proof>, QueryError> {
        let (q, inputs) = self.over_history(q, inputs)?;
        q.why(&inputs, self.t(), row, &*self.with_rules(&q, options)?)
    }

    /// Why a row is not in the answer: the first clause that cannot be satisfied
    /// together with those before it. None if it is in the answer.
    pub fn why_not(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        row: &[Value],
    ) -> Result<Option<Missing>, QueryError> {
        self.why_not_with(q, inputs, row, &QueryOptions::default())
    }

    /// The same, within limits.
    pub fn why_not_with(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        row: &[Value],
        options: &QueryOptions,
    ) -> Result<Option<Missing>, QueryError> {
        let (q, inputs) = self.over_history(q, inputs)?;
        q.why_not(&inputs, self.t(), row, &*self.with_rules(&q, options)?)
    }

    /// A query with its inputs, every database as its history.
    fn over_history(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
    ) -> Result<(Query, Vec<prepared::Input>), QueryError> {
        let q = q.into_query(self)?;
        let given = inputs.into_inputs();
        let filtered = |i: &Input| matches!(i, Input::Db(db) if db.is_filtered());
        if self.is_filtered() || given.iter().any(filtered) {
            let d = Diagnostic::new("query/unsupported", "a filtered database has no timeline")
                .help("a filter may tell an assertion from its retraction; ask for single times with as-of");
            return Err(QueryError::Invalid(vec![d]));
        }
        let history = |db: Db| if db.view().history { db } else { db.history() };
        let given = given.into_iter().map(|i| match i {
            Input::Db(db) => Input::Db(history(db)),
            other => other,
        });
        let inputs = history(self.clone()).matched(&q, given.collect())?;
        Ok((q, inputs))
    }

    /// The inputs of a run: this database for `$` where none is given.
    fn matched(&self, q: &Query, given: Vec<Input>) -> Result<Vec<prepared::Input>, QueryError> {
        let wanted = &q.ast().inputs;
        let is_source = |i: &ast::Input| matches!(i, ast::Input::Src(_));
        let missing = wanted.len().saturating_sub(given.len());
        let mut given = given.into_iter().peekable();
        let mut matched = Vec::with_capacity(wanted.len());
        let mut filled = 0;
        for w in wanted {
            let db_given = matches!(given.peek(), Some(Input::Db(_)));
            if is_source(&w.node) && !db_given && filled < missing {
                filled += 1;
                matched.push(self.as_input());
                continue;
            }
            match given.next() {
                Some(i) => matched.push(i.prepared(self)?),
                None => break,
            }
        }
        for extra in given {
            matched.push(extra.prepared(self)?);
        }
        Ok(matched)
    }

    fn as_input(&self) -> prepared::Input {
        prepared::Input::Source(Arc::new(self.clone()) as Arc<dyn Source>)
    }

    /// Pulls a tree of facts about an entity; nil when there is nothing to show.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// conn.transact("[{:db/ident :color/red :db/doc \"warm\"}]")?;
    /// let tree = conn.db().pull("[:db/doc]", annals::Keyword::new("color/red"))?;
    /// assert_eq!(annals::edn::print(&tree), "{:db/doc \"warm\"}");
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn pull(&self, pattern: impl IntoPattern, eid: impl Into<Eid>) -> Result<Value, Error> {
        let pattern = pattern.into_pattern(self).map_err(QueryError::from)?;
        let e = self.resolve(eid)?;
        Ok(self.pull_ids(&pattern, &[e], &QueryOptions::default())?.pop().unwrap_or(Value::Nil))
    }

    /// Pulls several entities at once; nil for one that is not found.
    pub fn pull_many(
        &self,
        pattern: impl IntoPattern,
        eids: impl IntoIterator<Item = Eid>,
        options: &QueryOptions,
    ) -> Result<Vec<Value>, Error> {
        let pattern = pattern.into_pattern(self).map_err(QueryError::from)?;
        let ids: Vec<Option<EntityId>> =
            eids.into_iter().map(|e| self.resolve(e)).collect::<Result<_, _>>()?;
        Ok(self.pull_ids(&pattern, &ids, options)?)
    }

    fn pull_ids(
        &self,
        pattern: &PullPattern,
        ids: &[Option<EntityId>],
        options: &QueryOptions,
    ) -> Result<Vec<Value>, QueryError> {
        let library = options.library.clone().unwrap_or_else(|| Library::standard().clone());
        let budget =
            Budget::new(options.timeout_ms, options.max_rows, options.max_bytes, options.cancel.clone());
        pulling::pull_many(self, pattern, ids, &library, &budget)
    }

    /// The rows that an answer gained and lost between two times, each with the
    /// transaction that did it, oldest first.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// let red = conn.transact("[{:db/ident :color/red}]")?.t();
    /// let blue = conn.transact("[{:db/ident :color/blue}]")?.t();
    /// let rows = conn.db().diff("[:find ?k :where [_ :db/ident ?k]]", (), red, blue)?;
    /// assert_eq!((rows.len(), rows[0].gained, rows[0].t), (1, true, blue));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn diff(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        from: impl IntoTimePoint,
        to: impl IntoTimePoint,
    ) -> Result<Vec<DiffRow>, Error> {
        self.diff_with(q, inputs, from, to, &QueryOptions::default())
    }

    /// The same, within limits.
    pub fn diff_with(
        &self,
        q: impl IntoQuery,
        inputs: impl IntoInputs,
        from: impl IntoTimePoint,
        to: impl IntoTimePoint,
        options: &QueryOptions,
    ) -> Result<Vec<DiffRow>, Error> {
        let q = q.into_query(self).map_err(QueryError::from)?;
        let inputs = inputs.into_inputs();
        let (t1, t2) = (self.t_of(from)?, self.t_of(to)?);
        let (early, late) = (t1.min(t2), t1.max(t2));
        let mut rows = match self.as_of(late).timeline_with(&q, inputs.clone(), options) {
            Ok(timeline) => changed(&timeline, early, late),
            Err(QueryError::Invalid(why)) if why.iter().all(|d| d.code == "query/unsupported") => {
                Search { db: self, q: &q, inputs, options, answers: HashMap::new() }.run(early, late)?
            }
            Err(e) => return Err(e.into()),
        };
        if t1 > t2 {
            rows.iter_mut().for_each(|r| r.gained = !r.gained);
        }
        rows.sort_by(|x, y| (x.t, x.gained, &x.values).cmp(&(y.t, y.gained, &y.values)));
        Ok(rows)
    }

    /// A rule set, read once for each text.
    pub(crate) fn prepared_rules(&self, text: &str) -> Result<Arc<RuleSet>, QueryError> {
        let read = || annals_query::parse::rules(text).map(Arc::new);
        Ok(kept(&self.shared().prepared().rules, text, read)?)
    }

    /// Does any fact mention this entity, as itself or as a value?
    pub fn is_mentioned(&self, e: EntityId) -> Result<bool, DbError> {
        if !self.collect(&Prefix::E(e))?.is_empty() {
            return Ok(true);
        }
        let mut found = false;
        self.visit_datoms(crate::Index::Vaet, &[Value::Ref(e)], &mut |_| {
            found = true;
            std::ops::ControlFlow::Break(())
        })?;
        Ok(found)
    }
}

impl Input {
    fn prepared(self, db: &Db) -> Result<prepared::Input, QueryError> {
        Ok(match self {
            Input::Db(db) => db.as_input(),
            Input::Value(v) => prepared::Input::Value(v),
            Input::Rules(text) => prepared::Input::Rules(db.prepared_rules(&text)?),
        })
    }
}

/// Rows whose presence differs, with the start or end of the interval that did it.
fn changed(timeline: &[TimelineRow], early: T, late: T) -> Vec<DiffRow> {
    let spanning = |row: &TimelineRow, t: T| row.times.iter().find(|(start, end)| *start <= t && t < *end);
    timeline
        .iter()
        .filter_map(|row| match (spanning(row, early), spanning(row, late)) {
            (None, Some((start, _))) => Some((row, true, start)),
            (Some(_), None) => {
                // The last time it stopped being a row is what made it lost.
                let end = row.times.iter().map(|(_, end)| end).filter(|end| *end <= late).max()?;
                Some((row, false, end))
            }
            _ => None,
        })
        .map(|(row, gained, t)| DiffRow { values: row.values.clone(), gained, t })
        .collect()
}

/// The fallback for queries without a timeline: halving the time between, for all
/// rows at once. Finds a transaction at which a row came or went for good within
/// the half that is looked at; exact for rows that change once.
struct Search<'a> {
    db: &'a Db,
    q: &'a Query,
    inputs: Vec<Input>,
    options: &'a QueryOptions,
    answers: HashMap<T, Arc<BTreeSet<Vec<Value>>>>,
}

impl Search<'_> {
    fn run(&mut self, early: T, late: T) -> Result<Vec<DiffRow>, Error> {
        let (a, b) = (self.at(early)?, self.at(late)?);
        let mut rows: Vec<DiffRow> = Vec::new();
        for (gained, values) in
            b.difference(&a).map(|v| (true, v)).chain(a.difference(&b).map(|v| (false, v)))
        {
            let (mut lo, mut hi) = (early, late);
            while lo.next() < hi {
                let mid = T(lo.0 + (hi.0 - lo.0) / 2);
                match self.at(mid)?.contains(values) == gained {
                    true => hi = mid,
                    false => lo = mid,
                }
            }
            rows.push(DiffRow { values: values.clone(), gained, t: hi });
        }
        Ok(rows)
    }

    fn at(&mut self, t: T) -> Result<Arc<BTreeSet<Vec<Value>>>, Error> {
        if let Some(found) = self.answers.get(&t) {
            return Ok(found.clone());
        }
        let answer = self.db.as_of(t).query_with(self.q, self.inputs.clone(), self.options)?;
        let rows = Arc::new(answer.rows.iter().collect::<BTreeSet<_>>());
        self.answers.insert(t, rows.clone());
        Ok(rows)
    }
}
