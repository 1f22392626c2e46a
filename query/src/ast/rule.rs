//! Rules: named sets of clauses, several definitions to a name.

use super::{Clause, Spanned, Var};
use annals_model::{Span, Symbol, Value};
use std::sync::Arc;

/// One definition, `[(name [?req …] ?var … (fold ?var) … :with ?var …) clause+]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The name that calls use.
    pub name: Spanned<Symbol>,
    /// Head variables that a call must have bound; they come first in a call.
    pub required: Vec<Spanned<Var>>,
    /// The other head variables.
    pub free: Vec<HeadVar>,
    /// `:with` at the end of the head: variables that keep rows apart before they are
    /// folded, as `:with` does beside `:find`. Only where something is folded.
    pub with: Vec<Spanned<Var>>,
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
    /// How each argument of a call is folded, in order; required ones never are.
    pub fn folds(&self) -> impl Iterator<Item = Option<&HeadFold>> {
        self.required.iter().map(|_| None).chain(self.free.iter().map(|h| h.fold.as_ref()))
    }
    /// Is any head variable folded?
    pub fn is_folded(&self) -> bool {
        self.free.iter().any(|h| h.fold.is_some())
    }
}

/// A head variable, perhaps folded: the values derived for one setting of the head
/// variables that are not folded become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadVar {
    /// The variable.
    pub var: Spanned<Var>,
    /// How its values become one, when written `(min ?x)` or `(max 3 ?x)`.
    pub fold: Option<HeadFold>,
}

/// An aggregate in a rule's head, without the variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadFold {
    /// The aggregate, as in `:find`.
    pub name: Spanned<Symbol>,
    /// Constants before the variable.
    pub args: Vec<Spanned<Value>>,
}

impl HeadFold {
    /// Does it say the same, wherever it stands?
    pub fn agrees(&self, other: &HeadFold) -> bool {
        self.name.node == other.name.node
            && self.args.iter().map(|a| &a.node).eq(other.args.iter().map(|a| &a.node))
    }
}

/// Definitions in the order written. Those of one name agree in arity, in the
/// number of required variables, in folds and in the number of `:with` variables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// The definitions.
    pub rules: Vec<Rule>,
    /// The text that the spans point into, when it is not the query's own.
    pub text: Option<Arc<str>>,
}
