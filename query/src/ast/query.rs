//! The query: what to find, from which inputs, and how to show it.

use super::{Binding, Clause, PullPattern, RuleSet, Spanned, Src, Var};
use annals_model::{Keyword, Span, Symbol, Value};
use std::sync::Arc;

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// `:find`.
    pub find: Find,
    /// `:keys`, `:strs` or `:syms`: rows as maps.
    pub ret: Option<ReturnMap>,
    /// `:with`: variables that take part in the row and are then dropped.
    pub with: Vec<Spanned<Var>>,
    /// `:in`. Without one it is `[$]`, or empty when no clause reads a source.
    pub inputs: Vec<Spanned<Input>>,
    /// Was `:in` written?
    pub explicit_in: bool,
    /// `:where`.
    pub clauses: Vec<Clause>,
    /// `:rules`: rules that the query brings or names, beside those of `%`.
    pub rules: Rules,
    /// `:order-by`.
    pub order_by: Vec<OrderKey>,
    /// `:limit`.
    pub limit: Option<Spanned<usize>>,
    /// `:offset`.
    pub offset: Option<Spanned<usize>>,
    /// `:timeout`, milliseconds.
    pub timeout_ms: Option<Spanned<u64>>,
    /// `:having`: a conjunction of predicates on the rows of the answer.
    pub having: Vec<Having>,
    /// The whole query.
    pub span: Span,
    /// The text that the spans point into.
    pub text: Option<Arc<str>>,
}

/// The `:find` part.
#[derive(Clone, Debug, PartialEq)]
pub struct Find {
    /// The shape of the answer.
    pub spec: FindSpec,
    /// The columns; exactly one for collection and scalar.
    pub elems: Vec<FindElem>,
    /// From the first element to the last.
    pub span: Span,
}

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindSpec {
    /// `?a ?b`: a set of tuples.
    Rel,
    /// `[?a ...]`: a set of values.
    Coll,
    /// `[?a ?b]`: one tuple, or nil.
    Tuple,
    /// `?a .`: one value, or nil.
    Scalar,
}

/// A column of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum FindElem {
    /// `?x`.
    Var(Spanned<Var>),
    /// `(pull src? ?e pattern)`.
    Pull {
        /// Where to pull from; `$` when not said.
        src: Option<Spanned<Src>>,
        /// The entity.
        var: Spanned<Var>,
        /// What to pull.
        pattern: PullArg,
        /// The list.
        span: Span,
    },
    /// `(name arg* ?x)`.
    Aggregate {
        /// The aggregate.
        name: Spanned<Symbol>,
        /// What comes before the variable: `2` in `(min 2 ?x)`.
        args: Vec<Spanned<AggArg>>,
        /// What is aggregated.
        var: Spanned<Var>,
        /// The list.
        span: Span,
    },
}

impl FindElem {
    /// Its place.
    pub fn span(&self) -> Span {
        match self {
            FindElem::Var(v) => v.span,
            FindElem::Pull { span, .. } | FindElem::Aggregate { span, .. } => *span,
        }
    }
    /// The variable it shows, pulls or aggregates.
    pub fn var(&self) -> &Spanned<Var> {
        match self {
            FindElem::Var(var) | FindElem::Pull { var, .. } | FindElem::Aggregate { var, .. } => var,
        }
    }
    /// Is it an aggregate?
    pub fn is_aggregate(&self) -> bool {
        matches!(self, FindElem::Aggregate { .. })
    }
}

/// A pull pattern in `:find`.
#[derive(Clone, Debug, PartialEq)]
pub enum PullArg {
    /// Written in place.
    Literal(Arc<PullPattern>),
    /// A plain symbol, or a variable, that `:in` binds to a pattern.
    Input(Spanned<Symbol>),
}

/// An argument of an aggregate other than the aggregated variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AggArg {
    /// A constant.
    Const(Value),
    /// A variable that `:in` binds to one value.
    Var(Var),
}

/// `:keys`, `:strs`, `:syms`: as many names as find elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnMap {
    /// What the keys become.
    pub kind: ReturnKind,
    /// The names, as symbols.
    pub names: Vec<Spanned<Symbol>>,
}

impl ReturnMap {
    /// The keys of the maps, in order of the columns.
    pub fn keys(&self) -> Vec<Value> {
        let key = |n: &Spanned<Symbol>| match self.kind {
            ReturnKind::Keys => Value::Keyword(Keyword::new(n.as_str())),
            ReturnKind::Strs => Value::string(n.as_str()),
            ReturnKind::Syms => Value::Symbol(n.node.clone()),
        };
        self.names.iter().map(key).collect()
    }
}

/// What the keys of a return map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnKind {
    /// Keywords.
    Keys,
    /// Strings.
    Strs,
    /// Symbols.
    Syms,
}

/// An element of `:in`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// `$`, `$name`: a database, or a collection of tuples.
    Src(Src),
    /// `%`: a rule set.
    Rules,
    /// `?x`, `[?x ...]`, `[?x ?y]`, `[[?x ?y]]`: data.
    Binding(Binding),
    /// `name`: a pull pattern for use in `:find`.
    Pattern(Symbol),
}

/// Rules that come with the query itself: `:rules [[(name ?x) …] :stored/rules …]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Written in place.
    pub inline: RuleSet,
    /// Names of rule sets stored in the database.
    pub stored: Vec<Spanned<Keyword>>,
}

impl Rules {
    /// Does the query bring no rules of its own?
    pub fn is_empty(&self) -> bool {
        self.inline.rules.is_empty() && self.stored.is_empty()
    }
}

/// One key of `:order-by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderKey {
    /// The column of the answer, from 0. A find variable is turned into its column.
    pub column: usize,
    /// `:desc`.
    pub descending: bool,
    /// The key.
    pub span: Span,
}

/// One predicate of `:having`.
#[derive(Clone, Debug, PartialEq)]
pub struct Having {
    /// The predicate.
    pub name: Spanned<Symbol>,
    /// Its arguments.
    pub args: Vec<Spanned<HavingArg>>,
    /// The clause.
    pub span: Span,
}

/// An argument of a `:having` predicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HavingArg {
    /// A column of the answer, from 0: a find variable or an aggregate written again.
    Column(usize),
    /// A constant.
    Const(Value),
}

impl Query {
    /// What the terms of a database pattern are, in order.
    pub const PLACES: [&'static str; 5] = ["entity", "attribute", "value", "transaction", "op"];

    /// The first place where a variable of this name stands in `:find`, `:with` or `:where`.
    pub fn place_of(&self, var: &Var) -> Option<Span> {
        let heads = self.find.elems.iter().map(FindElem::var).chain(&self.with);
        if let Some(v) = heads.into_iter().find(|v| v.node == *var) {
            return Some(v.span);
        }
        let mut found = None;
        for c in &self.clauses {
            c.for_each_var(&mut |v, span| {
                if v == var && found.is_none() {
                    found = Some(span);
                }
            });
        }
        found
    }
}
