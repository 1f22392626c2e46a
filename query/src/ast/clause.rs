//! Clauses: what stands in `:where` and in rule bodies, and how results bind.
//!
//! 1. A list of clauses is a conjunction; `(and …)` outside `or` is flattened
//!    into the list around it while parsing.
//! 2. A clause without a source of its own (`src: None`) asks the source of the
//!    `not`, `or` or rule call around it, in the end `$`.

use super::{Query, Spanned, Src, Var};
use annals_model::{Span, Symbol, Value};
use std::sync::Arc;

/// What may stand in a place of a pattern or an argument list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// `?x`.
    Var(Var),
    /// A literal. What it means as an entity depends on the place it stands in.
    Const(Value),
    /// `_`: anything, not bound.
    Blank,
    /// `$db` as an argument of a call; never within a pattern.
    Src(Src),
}

impl Term {
    /// The variable, if it is one.
    pub fn as_var(&self) -> Option<&Var> {
        match self {
            Term::Var(v) => Some(v),
            _ => None,
        }
    }
    /// The literal, if it is one.
    pub fn as_const(&self) -> Option<&Value> {
        match self {
            Term::Const(v) => Some(v),
            _ => None,
        }
    }
}

/// One conjunct.
#[derive(Clone, Debug, PartialEq)]
pub enum Clause {
    /// `[src? e a v tx op]`.
    Pattern(Pattern),
    /// `[(pred arg+)]`: keeps rows for which the result is neither nil nor false.
    Predicate(Call),
    /// `[(fn arg*) binding]`.
    Function(Call, Spanned<Binding>),
    /// `(not …)` and `(not-join [?x …] …)`.
    Not(Not),
    /// `(or …)` and `(or-join [?x …] …)`.
    Or(Or),
    /// `(name arg+)`.
    Rule(RuleCall),
}

/// A data pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// The source it names, if any.
    pub src: Option<Spanned<Src>>,
    /// One to five terms for a database: entity, attribute, value, transaction, op.
    /// For a relation as source, one for each column.
    pub terms: Vec<Spanned<Term>>,
    /// The whole clause.
    pub span: Span,
}

/// An expression with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is computed.
    pub expr: Expr,
    /// The list `(f …)`.
    pub span: Span,
}

/// What can be computed for a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A function or predicate of the table in `eval::function`, or a registered one.
    Call {
        /// As written, `+` or `clojure.string/blank?`.
        name: Spanned<Symbol>,
        /// Its arguments.
        args: Vec<Spanned<Term>>,
    },
    /// `(get-else src e a default)`.
    GetElse {
        /// Where to look.
        src: Spanned<Src>,
        /// The entity.
        e: Spanned<Term>,
        /// The attribute; cardinality one.
        a: Spanned<Term>,
        /// The answer when there is no value; never nil.
        default: Spanned<Term>,
    },
    /// `(get-some src e a+)`.
    GetSome {
        /// Where to look.
        src: Spanned<Src>,
        /// The entity.
        e: Spanned<Term>,
        /// The attributes in order of preference.
        attrs: Vec<Spanned<Term>>,
    },
    /// `(missing? src e a)`.
    Missing {
        /// Where to look.
        src: Spanned<Src>,
        /// The entity.
        e: Spanned<Term>,
        /// The attribute.
        a: Spanned<Term>,
    },
    /// `(ground constant)`.
    Ground(Spanned<Value>),
    /// `(q query arg*)`: a nested query, its answer a relation, a collection, a tuple
    /// or a scalar by its find specification.
    Query {
        /// The query; its variables are its own.
        query: Arc<Query>,
        /// One for each of its inputs.
        args: Vec<Spanned<Term>>,
    },
    /// `(tx-ids log from to)`: the transactions of `[from, to)`.
    TxIds {
        /// The database whose log is read.
        src: Spanned<Src>,
        /// First transaction: t, transaction entity, instant, or nil for the beginning.
        from: Spanned<Term>,
        /// First transaction not included, or nil for no end.
        to: Spanned<Term>,
    },
    /// `(tx-data log tx)`: the datoms of a transaction as `[e a v tx op]`.
    TxData {
        /// The database whose log is read.
        src: Spanned<Src>,
        /// The transaction.
        tx: Spanned<Term>,
    },
    /// `(fulltext src a text)`: `[e v tx score]` of values that match.
    Fulltext {
        /// Where to look.
        src: Spanned<Src>,
        /// The attribute.
        a: Spanned<Term>,
        /// The words looked for.
        text: Spanned<Term>,
    },
}

impl Expr {
    /// The function's name as users write it.
    pub fn name(&self) -> &str {
        match self {
            Expr::Call { name, .. } => name.as_str(),
            Expr::GetElse { .. } => "get-else",
            Expr::GetSome { .. } => "get-some",
            Expr::Missing { .. } => "missing?",
            Expr::Ground(_) => "ground",
            Expr::Query { .. } => "q",
            Expr::TxIds { .. } => "tx-ids",
            Expr::TxData { .. } => "tx-data",
            Expr::Fulltext { .. } => "fulltext",
        }
    }

    /// Every argument in order, sources excepted (see [`Expr::src`]).
    pub fn args(&self) -> Vec<&Spanned<Term>> {
        match self {
            Expr::Call { args, .. } | Expr::Query { args, .. } => args.iter().collect(),
            Expr::GetElse { e, a, default, .. } => vec![e, a, default],
            Expr::GetSome { e, attrs, .. } => std::iter::once(e).chain(attrs).collect(),
            Expr::Missing { e, a, .. } => vec![e, a],
            Expr::Ground(_) => Vec::new(),
            Expr::TxIds { from, to, .. } => vec![from, to],
            Expr::TxData { tx, .. } => vec![tx],
            Expr::Fulltext { a, text, .. } => vec![a, text],
        }
    }

    /// The variables among the arguments, in order, with repetitions.
    pub fn vars(&self) -> impl Iterator<Item = Spanned<&Var>> {
        self.args().into_iter().filter_map(|t| t.as_var().map(|v| Spanned::new(v, t.span)))
    }

    /// The source it reads, if it reads one by itself.
    pub fn src(&self) -> Option<&Spanned<Src>> {
        match self {
            Expr::GetElse { src, .. }
            | Expr::GetSome { src, .. }
            | Expr::Missing { src, .. }
            | Expr::TxIds { src, .. }
            | Expr::TxData { src, .. }
            | Expr::Fulltext { src, .. } => Some(src),
            Expr::Call { .. } | Expr::Ground(_) | Expr::Query { .. } => None,
        }
    }
}

/// How a value is taken apart into variables. Binding a variable that is bound
/// already is a test for equality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `?x`.
    Var(Var),
    /// `_`.
    Blank,
    /// `[b ...]`: each element of a collection. `[[?a ?b]]` and `[[?a ?b] ...]` are
    /// relations: a collection of tuples.
    Coll(Box<Spanned<Binding>>),
    /// `[b+]`: the elements of one tuple; further elements are ignored.
    Tuple(Vec<Spanned<Binding>>),
}

impl Binding {
    /// Every variable in it, in order, with repetitions.
    pub fn vars(&self) -> Vec<&Var> {
        fn walk<'a>(b: &'a Binding, out: &mut Vec<&'a Var>) {
            match b {
                Binding::Var(v) => out.push(v),
                Binding::Blank => {}
                Binding::Coll(inner) => walk(inner, out),
                Binding::Tuple(items) => items.iter().for_each(|b| walk(b, out)),
            }
        }
        let mut out = Vec::new();
        walk(self, &mut out);
        out
    }
    /// The columns, when it is a relation: a collection of tuples.
    pub fn as_relation(&self) -> Option<&[Spanned<Binding>]> {
        match self {
            Binding::Coll(inner) => match &inner.node {
                Binding::Tuple(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }
}

/// `(src? not clause+)`, `(src? not-join [var+] clause+)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Not {
    /// The source of the clauses within.
    pub src: Option<Spanned<Src>>,
    /// `not-join`: the variables that unify with the outside.
    pub join: Option<Vec<Spanned<Var>>>,
    /// What must have no answer.
    pub clauses: Vec<Clause>,
    /// The whole clause.
    pub span: Span,
}

/// `(src? or branch+)`, `(src? or-join [[req*] var*] branch+)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Or {
    /// The source of the clauses within.
    pub src: Option<Spanned<Src>>,
    /// `or-join`: the variables that unify with the outside.
    pub join: Option<JoinVars>,
    /// The alternatives, at least one.
    pub branches: Vec<Branch>,
    /// The whole clause.
    pub span: Span,
}

/// The variable list of an `or-join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinVars {
    /// Those that must be bound outside.
    pub required: Vec<Spanned<Var>>,
    /// The others.
    pub free: Vec<Spanned<Var>>,
    /// The vector.
    pub span: Span,
}

impl JoinVars {
    /// All of them, required ones first.
    pub fn all(&self) -> impl Iterator<Item = &Spanned<Var>> {
        self.required.iter().chain(&self.free)
    }
}

/// One alternative of an `or`.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Its clauses: one, or those of `(and …)`.
    pub clauses: Vec<Clause>,
    /// The branch.
    pub span: Span,
}

/// `(src? name arg+)`.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleCall {
    /// The source of the rule's body.
    pub src: Option<Spanned<Src>>,
    /// The rule.
    pub name: Spanned<Symbol>,
    /// Variables, constants and blanks.
    pub args: Vec<Spanned<Term>>,
    /// The whole clause.
    pub span: Span,
}

impl Clause {
    /// The whole clause.
    pub fn span(&self) -> Span {
        match self {
            Clause::Pattern(p) => p.span,
            Clause::Predicate(c) => c.span,
            Clause::Function(c, b) => c.span.to(b.span),
            Clause::Not(n) => n.span,
            Clause::Or(o) => o.span,
            Clause::Rule(r) => r.span,
        }
    }

    /// Calls `f` for every variable in it, whatever its scope, in order of writing,
    /// with repetitions. The variables of nested queries are not the clause's own.
    pub fn for_each_var<'a>(&'a self, f: &mut dyn FnMut(&'a Var, Span)) {
        let terms = |terms: &'a [Spanned<Term>], f: &mut dyn FnMut(&'a Var, Span)| {
            for t in terms {
                if let Term::Var(v) = &t.node {
                    f(v, t.span);
                }
            }
        };
        match self {
            Clause::Pattern(p) => terms(&p.terms, f),
            Clause::Rule(r) => terms(&r.args, f),
            Clause::Predicate(c) => c.expr.vars().for_each(|v| f(v.node, v.span)),
            Clause::Function(c, b) => {
                c.expr.vars().for_each(|v| f(v.node, v.span));
                b.for_each_var(f);
            }
            Clause::Not(n) => {
                n.join.iter().flatten().for_each(|v| f(&v.node, v.span));
                n.clauses.iter().for_each(|c| c.for_each_var(f));
            }
            Clause::Or(o) => {
                o.join.iter().flat_map(|j| j.all()).for_each(|v| f(&v.node, v.span));
                o.branches.iter().flat_map(|b| &b.clauses).for_each(|c| c.for_each_var(f));
            }
        }
    }
}

impl Spanned<Binding> {
    /// Calls `f` for every variable in it, in order, with its place.
    pub fn for_each_var<'a>(&'a self, f: &mut dyn FnMut(&'a Var, Span)) {
        match &self.node {
            Binding::Var(v) => f(v, self.span),
            Binding::Blank => {}
            Binding::Coll(inner) => inner.for_each_var(f),
            Binding::Tuple(items) => items.iter().for_each(|b| b.for_each_var(f)),
        }
    }
}
