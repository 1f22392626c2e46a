//! The dialect as data: what a query, a rule set and a pull pattern say.
//!
//! 1. A tree here is well formed by grammar: the right number of terms, known
//!    shapes of bindings, return-map keys that fit. Whether variables are bound
//!    and attributes exist is asked later, by `resolve`.
//! 2. Every node that a message may point at carries the span of its text. A
//!    node that was built from values and not from text has an empty span.
//! 3. Nesting is bounded by the reader's depth limit, so walking a tree
//!    recursively is safe.
//!
//! Not here: reading text (`edn`), checking and building trees (`parse`).

mod clause;
mod print;
mod pull;
mod query;
mod rule;

pub use clause::{Binding, Branch, Call, Clause, Expr, JoinVars, Not, Or, Pattern, RuleCall, Term};
pub use pull::{PullAttr, PullItem, PullLimit, PullPattern, PullSub};
pub use query::{
    AggArg, Find, FindElem, FindSpec, Having, HavingArg, Input, OrderKey, PullArg, Query, ReturnKind,
    ReturnMap, Rules,
};
pub use rule::{HeadFold, HeadVar, Rule, RuleSet};

use annals_model::{Span, Symbol};
use std::{fmt, ops::Deref};

/// A node with its place in the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spanned<N> {
    /// What stands there.
    pub node: N,
    /// Where.
    pub span: Span,
}

impl<N> Spanned<N> {
    /// `node` at `span`.
    pub const fn new(node: N, span: Span) -> Spanned<N> {
        Spanned { node, span }
    }
    /// The same place, another node.
    pub fn map<M>(self, f: impl FnOnce(N) -> M) -> Spanned<M> {
        Spanned { node: f(self.node), span: self.span }
    }
}

impl<N> Deref for Spanned<N> {
    type Target = N;
    fn deref(&self) -> &N {
        &self.node
    }
}

/// A variable, `?x`; the name includes the question mark.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Var(Symbol);

impl Var {
    /// The variable a symbol is, if it begins with `?`.
    pub fn of(symbol: &Symbol) -> Option<Var> {
        symbol.as_str().starts_with('?').then(|| Var(symbol.clone()))
    }
    /// A variable by its name, with or without the question mark.
    pub fn new(name: &str) -> Var {
        match name.strip_prefix('?') {
            Some(_) => Var(Symbol::new(name)),
            None => Var(Symbol::new(format!("?{name}"))),
        }
    }
    /// The name with the question mark.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a data source, `$` or `$name`; the name includes the dollar sign.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Src(Symbol);

impl Src {
    /// The source a symbol names, if it begins with `$`.
    pub fn of(symbol: &Symbol) -> Option<Src> {
        symbol.as_str().starts_with('$').then(|| Src(symbol.clone()))
    }
    /// The name with the dollar sign.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
    /// Is it `$`?
    pub fn is_default(&self) -> bool {
        self.as_str() == "$"
    }
}

impl Default for Src {
    /// `$`.
    fn default() -> Src {
        Src(Symbol::new("$"))
    }
}

impl fmt::Display for Src {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for Src {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
