//! What can go wrong between a text and its answer, and the codes users see.
//!
//! 1. Programs branch on the variant, on [`QueryError::code`] and on
//!    [`QueryError::fault`]; people read the diagnostics.
//! 2. Every code is a row of [`CODES`]: nothing else may stand in a diagnostic
//!    of this crate (checked by a test here and by the tests of each stage).

use crate::budget::Usage;
use crate::eval::function::FnError;
use crate::source::SourceError;
use annals_model::{Diagnostic, Span};
use std::fmt;

/// Every code of this crate with what it means, in order of stage.
pub const CODES: &[(&str, &str)] = &[
    ("edn/too-large", "the text is longer than the reader's limit"),
    ("edn/too-deep", "forms are nested deeper than the reader's limit"),
    ("edn/unclosed", "a bracket or a string is opened and never closed"),
    ("edn/mismatched", "a closing bracket does not fit the one that is open"),
    ("edn/syntax", "a character that begins no form, or a tag or discard without its form"),
    ("edn/number", "a token that begins like a number is not one"),
    ("edn/number-range", "a number that its type cannot hold"),
    ("edn/ratio", "a ratio; there is no such type here"),
    ("edn/nan", "not-a-number; there is no such value here"),
    ("edn/symbol", "a token that is neither a symbol, a keyword nor a number"),
    ("edn/character", "an unknown character name"),
    ("edn/string-escape", "an unknown escape in a string"),
    ("edn/tag", "a known tag before a value it does not fit"),
    ("edn/map-odd", "a map with a key that has no value"),
    ("edn/duplicate", "a key of a map or an element of a set occurs twice"),
    ("edn/one-form", "one form was expected, and there is none or more than one"),
    ("query/form", "a query is a vector, a map, or a string that holds one"),
    ("query/unknown-key", "a keyword that begins no part of a query"),
    ("query/duplicate-key", "a part of a query is given twice"),
    ("query/no-find", "a query without :find, or with an empty one"),
    ("query/find", "a find element or a find shape that is not in the grammar"),
    ("query/return-map", "as many :keys, :strs or :syms as find elements, once, with tuples"),
    ("query/with", "an element of :with that is not a variable, or that :find has too"),
    ("query/in", "an element of :in that is not in the grammar"),
    ("query/binding", "a binding form that is not in the grammar"),
    ("query/duplicate-var", "a variable stands twice where it may stand once"),
    ("query/clause", "a clause that is not in the grammar"),
    ("query/pattern", "a data pattern with no terms, too many, or a term that cannot stand there"),
    ("query/arity", "a call with the wrong number of arguments"),
    ("query/unknown-function", "a function or predicate that does not exist"),
    ("query/unknown-aggregate", "an aggregate that does not exist"),
    ("query/aggregate", "an aggregate with wrong arguments"),
    ("query/join-vars", "the variable list of not-join or or-join is empty or malformed"),
    ("query/rule", "a rule definition that is not in the grammar"),
    ("query/rule-heads", "definitions of one rule disagree in arity, required variables or folds"),
    ("query/order", "a malformed :order-by, :limit, :offset, :timeout or :having"),
    ("query/unknown-rule", "a rule that is called and not defined"),
    ("query/unknown-attribute", "an attribute that the database does not have"),
    ("query/unknown-source", "a source that :in does not name"),
    ("query/unbound", "a variable that no clause and no input binds"),
    (
        "query/not-stratified",
        "a rule depends on its own negation, or on a fold of itself that keeps no value",
    ),
    ("query/not-monotone", "a recursive rule uses a folded value that may still get better"),
    ("query/type", "a value or an argument of a type that cannot fit there"),
    ("query/cardinality", "the operation needs an attribute of cardinality one"),
    ("query/inputs", "the inputs do not fit :in"),
    ("query/unsupported", "a part of the dialect that this release does not run"),
    ("query/function", "a function failed on the values of a row"),
    ("query/overflow", "a number left the range of its type"),
    ("query/timeout", "the deadline passed"),
    ("query/row-limit", "more rows were made than the budget allows"),
    ("query/memory-limit", "more bytes were alive than the budget allows"),
    ("query/cancelled", "somebody stopped the query"),
    ("query/disagreement", "the engine and its oracle gave different answers; please report it"),
    ("query/not-checked", "a warning: the answer could not be compared with the oracle's"),
    ("pull/form", "a pull pattern that is not in the grammar"),
    ("pull/option", "an unknown or malformed option of a pull attribute"),
    ("pull/reverse", "a reverse reference through an attribute that is not a reference"),
    ("pull/nested", "a pattern below an attribute that is not a reference"),
    ("pull/recursion", "recursion without a pattern around it, or of depth zero"),
    ("pull/unknown-xform", "an xform function that does not exist"),
    ("pull/history", "pull on a history view"),
    ("pull/too-large", "a pulled tree larger than its limit"),
    ("tx/form", "a transaction form that is not in the grammar"),
    ("storage/failed", "reading the database failed"),
];

/// Complaints about a text: all of one stage, in order of place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseErrors(pub Vec<Diagnostic>);

impl ParseErrors {
    /// A single complaint.
    pub fn one(d: Diagnostic) -> ParseErrors {
        ParseErrors(vec![d])
    }
    /// The code of the first complaint.
    pub fn code(&self) -> &'static str {
        self.0.first().map_or("query/form", |d| d.code)
    }
}

impl fmt::Display for ParseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
impl std::error::Error for ParseErrors {}

/// Gathers the complaints of a stage.
#[derive(Debug, Default)]
pub struct Complaints {
    list: Vec<Diagnostic>,
}

impl Complaints {
    /// Adds one, unless the same was said already.
    pub fn push(&mut self, d: Diagnostic) {
        if !self.list.contains(&d) {
            self.list.push(d);
        }
    }
    /// Adds one with its place.
    pub fn at(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.push(Diagnostic::new(code, message).at(span, label));
    }
    /// None so far?
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
    /// How many so far.
    pub fn len(&self) -> usize {
        self.list.len()
    }
    /// `value`, if there were no complaints.
    pub fn or<V>(self, value: Option<V>) -> Result<V, ParseErrors> {
        match value {
            Some(v) if self.list.is_empty() => Ok(v),
            _ => Err(self.into_errors()),
        }
    }
    /// The complaints in order of place.
    pub fn into_errors(mut self) -> ParseErrors {
        self.list.sort_by_key(|d| d.labels.first().map(|l| l.span.start));
        ParseErrors(self.list)
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is not a query.
    #[error("{0}")]
    Parse(ParseErrors),
    /// The query cannot be run against these inputs: unknown names, unbound variables,
    /// types that clash. Everything that was found, in order of place.
    #[error("{}", ParseErrors(.0.clone()))]
    Invalid(Vec<Diagnostic>),
    /// A function failed on the values of some row.
    #[error("{name}: {error}")]
    Function {
        /// The function as written.
        name: String,
        /// What it says.
        error: FnError,
        /// The call.
        at: Span,
    },
    /// A pull failed.
    #[error("{0}")]
    Pull(#[from] crate::pull::PullError),
    /// The deadline passed.
    #[error("the deadline of {limit_ms} ms passed after {} rows", used.rows)]
    Timeout {
        /// The deadline.
        limit_ms: u64,
        /// What had been used.
        used: Usage,
    },
    /// More rows were made than allowed.
    #[error("more than {limit} rows were made")]
    RowLimit {
        /// The limit.
        limit: u64,
        /// What had been used.
        used: Usage,
    },
    /// More memory was needed than allowed.
    #[error("more than {limit} bytes were needed")]
    MemoryLimit {
        /// The limit.
        limit: u64,
        /// What had been used.
        used: Usage,
    },
    /// Stopped from outside.
    #[error("the query was cancelled")]
    Cancelled {
        /// What had been used.
        used: Usage,
    },
    /// The engine and the oracle disagree: an error of ours.
    #[error("the engine and the oracle disagree: {detail}")]
    Disagreement {
        /// The rows that only one of them has.
        detail: String,
    },
    /// Reading the database failed.
    #[error("reading the database failed: {0}")]
    Source(#[from] SourceError),
}

impl From<ParseErrors> for QueryError {
    fn from(e: ParseErrors) -> QueryError {
        QueryError::Parse(e)
    }
}

/// Whose fault a failure is; decides what a caller may do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The text cannot be read.
    Syntax,
    /// The text is readable and asks for something that cannot be.
    Meaning,
    /// The query needs more than it may use.
    Budget,
    /// Time ran out.
    Deadline,
    /// The caller stopped it.
    Cancelled,
    /// The database or this program is damaged.
    Internal,
}

impl QueryError {
    /// The stable code, a row of [`CODES`].
    pub fn code(&self) -> &'static str {
        match self {
            QueryError::Parse(e) => e.code(),
            QueryError::Invalid(list) => list.first().map_or("query/form", |d| d.code),
            QueryError::Function { error, .. } => error.code(),
            QueryError::Pull(e) => e.code(),
            QueryError::Timeout { .. } => "query/timeout",
            QueryError::RowLimit { .. } => "query/row-limit",
            QueryError::MemoryLimit { .. } => "query/memory-limit",
            QueryError::Cancelled { .. } => "query/cancelled",
            QueryError::Disagreement { .. } => "query/disagreement",
            QueryError::Source(_) => "storage/failed",
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            QueryError::Parse(_) => Fault::Syntax,
            QueryError::Invalid(_) | QueryError::Function { .. } => Fault::Meaning,
            QueryError::Pull(e) => e.fault(),
            QueryError::RowLimit { .. } | QueryError::MemoryLimit { .. } => Fault::Budget,
            QueryError::Timeout { .. } => Fault::Deadline,
            QueryError::Cancelled { .. } => Fault::Cancelled,
            QueryError::Disagreement { .. } | QueryError::Source(_) => Fault::Internal,
        }
    }

    /// Everything there is to say about it.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let used = |d: Diagnostic, u: &Usage| {
            d.help(format!(
                "it had read {} rows and made {} in {} ms, and held at most {} bytes",
                u.rows_read,
                u.rows,
                u.elapsed_us / 1_000,
                u.peak_bytes
            ))
        };
        let plain = || Diagnostic::new(self.code(), self.to_string());
        match self {
            QueryError::Parse(e) => e.0.clone(),
            QueryError::Invalid(list) => list.clone(),
            QueryError::Function { name, error, at } => {
                let d = Diagnostic::new(self.code(), format!("{name}: {error}"));
                let d = if *at == Span::default() { d } else { d.at(*at, "in this call") };
                vec![match error.help() {
                    Some(help) => d.help(help),
                    None => d,
                }]
            }
            QueryError::Pull(e) => e.diagnostics(),
            QueryError::Timeout { used: u, .. }
            | QueryError::RowLimit { used: u, .. }
            | QueryError::MemoryLimit { used: u, .. }
            | QueryError::Cancelled { used: u } => vec![used(plain(), u)],
            QueryError::Disagreement { .. } | QueryError::Source(_) => vec![plain()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_explained() {
        let mut names: Vec<_> = CODES.iter().map(|(c, _)| *c).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), CODES.len());
        assert!(CODES.iter().all(|(_, what)| !what.is_empty() && !what.ends_with('.')));
    }
}
