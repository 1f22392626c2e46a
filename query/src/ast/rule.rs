//! Rules: named sets of clauses, several definitions to a name.

use super::{Clause, Spanned, Var};
use annals_model::{Span, Symbol};
use std::sync::Arc;

/// One definition, `[(name [?req …] ?var …) clause+]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The name that calls use.
    pub name: Spanned<Symbol>,
    /// Head variables that a call must have bound; they come first in a call.
    pub required: Vec<Spanned<Var>>,
    /// The other head variables.
    pub free: Vec<HeadVar>,
    /// The body: a conjunction, in a scope of its own.
    pub clauses: Vec<Clause>,
    /// The head list.
    pub head: Span,
    /// The whole definition.
    pub span: Span,
}

impl Rule {
    /// How many arguments a call has.
    pub fn arity(&self) -> usize {
        self.required.len() + self.free.len()
    }
    /// All head variables in order of the call's arguments.
    pub fn head_vars(&self) -> impl Iterator<Item = &Spanned<Var>> {
        self.required.iter().chain(self.free.iter().map(|h| &h.var))
    }
}

/// A head variable, perhaps folded: of the derived values for one setting of the
/// other head variables only the best is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadVar {
    /// The variable.
    pub var: Spanned<Var>,
    /// `min`, `max` or `shortest`, when written `(min ?x)`.
    pub fold: Option<Spanned<Symbol>>,
}

/// Definitions in the order written. Those of one name agree in arity, in the
/// number of required variables and in folds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// The definitions.
    pub rules: Vec<Rule>,
    /// The text that the spans point into, when it is not the query's own.
    pub text: Option<Arc<str>>,
}
