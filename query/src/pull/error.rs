//! Why a pull has no answer.

use super::MAX_DEPTH;
use crate::error::Fault;
use crate::eval::function::FnError;
use annals_model::{Diagnostic, Keyword, Span, Symbol};

/// Why a pull has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The database has no such attribute.
    #[error("unknown attribute {attr}")]
    UnknownAttribute {
        /// As written.
        attr: Keyword,
        /// Where.
        at: Span,
        /// The attribute with the most similar name.
        nearest: Option<Keyword>,
    },
    /// `:a/_b` or a pattern below an attribute that is not a reference.
    #[error("{attr} is not a reference")]
    NotRef {
        /// The attribute.
        attr: Keyword,
        /// Followed backwards?
        reverse: bool,
        /// Where.
        at: Span,
    },
    /// No function of this name for `:xform`.
    #[error("unknown function {name}")]
    UnknownXform {
        /// As written.
        name: Symbol,
        /// Where.
        at: Span,
        /// The function with the most similar name.
        nearest: Option<String>,
    },
    /// The `:xform` function failed on a value.
    #[error("{name}: {error}")]
    Xform {
        /// The function.
        name: Symbol,
        /// What it says.
        error: FnError,
        /// Where.
        at: Span,
    },
    /// The source is a history view: an entity has no single state there.
    #[error("a history view cannot be pulled from")]
    History,
    /// The tree is nested too deep.
    #[error("the tree is deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl PullError {
    /// The stable code, a row of [`crate::error::CODES`].
    pub fn code(&self) -> &'static str {
        match self {
            PullError::UnknownAttribute { .. } => "query/unknown-attribute",
            PullError::NotRef { reverse: true, .. } => "pull/reverse",
            PullError::NotRef { reverse: false, .. } => "pull/nested",
            PullError::UnknownXform { .. } => "pull/unknown-xform",
            PullError::Xform { error, .. } => error.code(),
            PullError::History => "pull/history",
            PullError::TooDeep => "pull/too-large",
        }
    }
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            PullError::TooDeep => Fault::Budget,
            PullError::UnknownAttribute { .. }
            | PullError::NotRef { .. }
            | PullError::UnknownXform { .. }
            | PullError::Xform { .. }
            | PullError::History => Fault::Meaning,
        }
    }
    /// What there is to say about it.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let d = Diagnostic::new(self.code(), self.to_string());
        let placed = |d: Diagnostic, at: &Span, label: &str| {
            if *at == Span::default() { d } else { d.at(*at, label) }
        };
        vec![match self {
            PullError::UnknownAttribute { at, nearest, .. } => {
                let d = placed(d, at, "not installed in this view");
                match nearest {
                    Some(n) => d.help(format!("did you mean {n}?")),
                    None => d,
                }
            }
            PullError::NotRef { at, reverse, attr } => {
                placed(d, at, "its values are not entities").help(match reverse {
                    true => format!("only references lead back to who points here; {attr} is plain data"),
                    false => format!("only references take a pattern; write {attr} alone for its value"),
                })
            }
            PullError::UnknownXform { at, nearest, .. } => {
                let d = placed(d, at, "no such function");
                d.help(match nearest {
                    Some(n) => format!("did you mean {n}?"),
                    None => "the functions are those of docs/functions.md and those registered".to_owned(),
                })
            }
            PullError::Xform { at, .. } => placed(d, at, "in this transformation"),
            PullError::History => d.help("pull from the present, or from as-of a time"),
            PullError::TooDeep => d.help("give the recursion a depth: {:a/next 20}"),
        }]
    }
}
