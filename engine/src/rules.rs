//! Rule sets by name: those stored in the database, and those that come with it.
//!
//! A query names them in its `:rules` part. A stored set is a fact like any other: the
//! string `:db/rules` of an entity with a `:db/ident`. So it is installed, changed and
//! retracted by transactions, has a history, and a query as of a past time uses the rules
//! of that time.
//!
//! 1. A text that does not read as rules is refused by the transaction that asserts it.
//! 2. A set in the database comes before one of the same name given in [`QueryOptions`],
//!    and both before a built-in one.
//!
//! The relations of intervals are those of J. F. Allen, "Maintaining Knowledge about
//! Temporal Intervals" (1983), over half-open intervals `[start, end)`.

use crate::{Db, bootstrap as boot, store::Prefix};
use annals_model::{Datom, Diagnostic, Keyword, Value, View};
use annals_query::{
    error::QueryError,
    query::{Query, QueryOptions},
};
use std::{borrow::Cow, sync::Arc};

/// Rule sets that every database knows.
pub const BUILTIN_RULES: &[(&str, &str)] = &[("annals/allen", ALLEN)];

/// Allen's thirteen relations between `[?s1 ?e1)` and `[?s2 ?e2)`, and `intersects` for
/// those in which the two share a moment. All four arguments must be bound, and be of
/// one type that has an order: instants, numbers, transactions.
const ALLEN: &str = "[
 [(before        [?s1 ?e1 ?s2 ?e2]) [(< ?e1 ?s2)]]
 [(after         [?s1 ?e1 ?s2 ?e2]) [(< ?e2 ?s1)]]
 [(meets         [?s1 ?e1 ?s2 ?e2]) [(= ?e1 ?s2)] [(< ?s1 ?e1)] [(< ?s2 ?e2)]]
 [(met-by        [?s1 ?e1 ?s2 ?e2]) [(= ?e2 ?s1)] [(< ?s1 ?e1)] [(< ?s2 ?e2)]]
 [(overlaps      [?s1 ?e1 ?s2 ?e2]) [(< ?s1 ?s2)] [(< ?s2 ?e1)] [(< ?e1 ?e2)]]
 [(overlapped-by [?s1 ?e1 ?s2 ?e2]) [(< ?s2 ?s1)] [(< ?s1 ?e2)] [(< ?e2 ?e1)]]
 [(starts        [?s1 ?e1 ?s2 ?e2]) [(= ?s1 ?s2)] [(< ?e1 ?e2)]]
 [(started-by    [?s1 ?e1 ?s2 ?e2]) [(= ?s1 ?s2)] [(< ?e2 ?e1)]]
 [(during        [?s1 ?e1 ?s2 ?e2]) [(< ?s2 ?s1)] [(< ?e1 ?e2)]]
 [(contains      [?s1 ?e1 ?s2 ?e2]) [(< ?s1 ?s2)] [(< ?e2 ?e1)]]
 [(finishes      [?s1 ?e1 ?s2 ?e2]) [(= ?e1 ?e2)] [(< ?s2 ?s1)]]
 [(finished-by   [?s1 ?e1 ?s2 ?e2]) [(= ?e1 ?e2)] [(< ?s1 ?s2)]]
 [(same-interval [?s1 ?e1 ?s2 ?e2]) [(= ?s1 ?s2)] [(= ?e1 ?e2)]]
 [(intersects    [?s1 ?e1 ?s2 ?e2]) [(< ?s1 ?e2)] [(< ?s2 ?e1)]]]";

impl Db {
    /// The text of a rule set by its name, as of this view: a stored one, or one of
    /// [`BUILTIN_RULES`]. None when there is none of this name.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// conn.transact(r#"[{:db/ident :rules/family :db/rules "[[(kin ?a ?b) [?a :p/parent ?b]]]"}]"#)?;
    /// assert!(conn.db().rules("rules/family")?.is_some());
    /// assert!(conn.db().rules("annals/allen")?.is_some());
    /// assert!(conn.db().rules("rules/work")?.is_none());
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn rules(&self, name: impl AsRef<str>) -> Result<Option<Arc<str>>, crate::DbError> {
        let name = name.as_ref();
        let name = name.strip_prefix(':').unwrap_or(name);
        let whole = self.as_schema();
        if let Some(e) = whole.named_schema().entid(&Keyword::new(name))
            && let Some(Datom { v: Value::String(text), .. }) =
                whole.collect(&Prefix::Ea(e, boot::RULES))?.into_iter().next()
        {
            return Ok(Some(text));
        }
        let builtin = BUILTIN_RULES.iter().find(|(n, _)| *n == name);
        Ok(builtin.map(|(_, text)| Arc::from(*text)))
    }

    /// The names of the rule sets stored as of this view, with their texts, by name.
    pub fn rule_sets(&self) -> Result<Vec<(Keyword, Arc<str>)>, crate::DbError> {
        let whole = self.as_schema();
        let mut all = Vec::new();
        for d in whole.collect(&Prefix::A(boot::RULES))? {
            if let (Some(name), Value::String(text)) = (whole.ident(d.e), d.v) {
                all.push((name.clone(), text));
            }
        }
        all.sort();
        Ok(all)
    }

    /// What rules are read from: like the schema, they are those as of the view, whatever else
    /// the view or a filter hides.
    fn as_schema(&self) -> Db {
        self.with_filter(None).viewed(View { as_of: self.view().as_of, ..View::NOW })
    }

    /// The options of a run, with the rule sets that the query names.
    pub(crate) fn with_rules<'a>(
        &self,
        q: &Query,
        options: &'a QueryOptions,
    ) -> Result<Cow<'a, QueryOptions>, QueryError> {
        let named = &q.ast().rules.stored;
        if named.is_empty() {
            return Ok(Cow::Borrowed(options));
        }
        let mut options = options.clone();
        for name in named {
            let text = self
                .rules(name.node.as_str())
                .map_err(|e| QueryError::Source(annals_query::source::SourceError(Arc::new(e))))?;
            let given = options.stored_rules.iter().any(|(n, _)| *n == name.node);
            if let Some(text) = text
                && !(given && BUILTIN_RULES.iter().any(|(n, t)| *n == name.node.as_str() && **t == *text))
            {
                options.stored_rules.insert(0, (name.node.clone(), self.prepared_rules(&text)?));
            }
        }
        Ok(Cow::Owned(options))
    }
}

/// What is wrong with a text that should be rules.
pub(crate) fn check(text: &str) -> Result<(), Diagnostic> {
    match annals_query::parse::rules(text) {
        Ok(_) => Ok(()),
        Err(e) => Err(e.0.into_iter().next().unwrap_or_else(|| Diagnostic::new("query/rule", "not rules"))),
    }
}
