//! The resolved query: names have become numbers, attributes are known to exist,
//! scopes are flat.
//!
//! 1. A variable number stands for one variable of one scope; equal numbers
//!    unify, different ones never do, whatever they were called.
//! 2. Literals in entity places are [`Ent`]s; literals in value places have the
//!    attribute's type, or the clause is [`Kind::Never`].
//! 3. Every body can be run from the variables bound around it (checked by `check`).
//! 4. Calls of rules that are left are recursive, or of rules too many to write out.

use crate::ast;
use crate::eval::aggregate::Best;
use crate::eval::rel::Var;
use annals_model::{AttrId, Keyword, Span, Symbol, Value, ValueType};
use std::sync::Arc;

/// A data source by its place among the inputs.
pub(crate) type Slot = usize;
/// A rule predicate under one source, by its number in [`Program`].
pub(crate) type Pred = usize;

/// A literal in an entity place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ent {
    /// An id.
    Id(u64),
    /// A lookup ref into this source, answered when the query runs.
    Lookup(Slot, AttrId, Value),
}

/// What stands in a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    Var(Var),
    /// A literal that is data.
    Const(Value),
    /// A literal that is an entity.
    Ent(Ent),
    Blank,
}

impl Term {
    pub(crate) fn var(&self) -> Option<Var> {
        match self {
            Term::Var(v) => Some(*v),
            _ => None,
        }
    }
}

/// The attribute place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attr {
    Known(AttrId),
    Var(Var),
    Any,
}

impl Attr {
    pub(crate) fn var(&self) -> Option<Var> {
        match self {
            Attr::Var(v) => Some(*v),
            _ => None,
        }
    }
}

/// A data pattern over a database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pattern {
    pub(crate) src: Slot,
    pub(crate) e: Term,
    pub(crate) a: Attr,
    pub(crate) v: Term,
    pub(crate) tx: Term,
    pub(crate) op: Term,
    /// Of a known attribute: one value an entity, outside of history.
    pub(crate) one: bool,
    /// Of a known attribute: no two entities share a value, outside of history.
    pub(crate) unique: bool,
    /// Of a known attribute: values are entities.
    pub(crate) is_ref: bool,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arg {
    Var(Var),
    Const(Value),
    Src(Slot),
}

/// What is computed for a row.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    /// A function of the table.
    Call {
        name: Symbol,
        args: Vec<Arg>,
    },
    GetElse {
        src: Slot,
        e: Arg,
        a: AttrId,
        default: Arg,
    },
    GetSome {
        src: Slot,
        e: Arg,
        attrs: Vec<AttrId>,
    },
    Missing {
        src: Slot,
        e: Arg,
        a: AttrId,
    },
    Ground(Value),
    Query {
        query: Arc<ast::Query>,
        args: Vec<Arg>,
    },
    TxIds {
        src: Slot,
        from: Arg,
        to: Arg,
    },
    TxData {
        src: Slot,
        tx: Arg,
    },
}

impl Expr {
    pub(crate) fn args(&self) -> Vec<&Arg> {
        match self {
            Expr::Call { args, .. } | Expr::Query { args, .. } => args.iter().collect(),
            Expr::GetElse { e, default, .. } => vec![e, default],
            Expr::GetSome { e, .. } | Expr::Missing { e, .. } => vec![e],
            Expr::Ground(_) => vec![],
            Expr::TxIds { from, to, .. } => vec![from, to],
            Expr::TxData { tx, .. } => vec![tx],
        }
    }
    pub(crate) fn vars(&self) -> Vec<Var> {
        let mut out = Vec::new();
        for a in self.args() {
            if let Arg::Var(v) = a
                && !out.contains(v)
            {
                out.push(*v);
            }
        }
        out
    }
    pub(crate) fn name(&self) -> &str {
        match self {
            Expr::Call { name, .. } => name.as_str(),
            Expr::GetElse { .. } => "get-else",
            Expr::GetSome { .. } => "get-some",
            Expr::Missing { .. } => "missing?",
            Expr::Ground(_) => "ground",
            Expr::Query { .. } => "q",
            Expr::TxIds { .. } => "tx-ids",
            Expr::TxData { .. } => "tx-data",
        }
    }
}

/// How a value is taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bind {
    Var(Var),
    Blank,
    Coll(Box<Bind>),
    Tuple(Vec<Bind>),
}

impl Bind {
    pub(crate) fn vars(&self, out: &mut Vec<Var>) {
        match self {
            Bind::Var(v) if !out.contains(v) => out.push(*v),
            Bind::Var(_) | Bind::Blank => {}
            Bind::Coll(b) => b.vars(out),
            Bind::Tuple(bs) => bs.iter().for_each(|b| b.vars(out)),
        }
    }
}

/// What a value means where it is used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Meaning {
    /// An entity of this source: ids, idents and lookup refs.
    Entity(Slot),
    /// A transaction: its entity or its t.
    Tx,
    /// A value of this type, numbers converted when nothing is lost.
    Typed(ValueType),
}

/// A clause.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Pattern(Pattern),
    /// A pattern over a collection of tuples.
    Tuples {
        src: Slot,
        terms: Vec<Term>,
    },
    Predicate(Expr),
    Function(Expr, Bind),
    /// `to` is what `from` means in a certain place.
    Meaning {
        from: Var,
        to: Var,
        as_what: Meaning,
    },
    Not {
        join: Vec<Var>,
        body: Body,
    },
    Or {
        vars: Vec<Var>,
        required: Vec<Var>,
        branches: Vec<Body>,
        name: Option<Symbol>,
    },
    /// Rows of bodies, grouped and aggregated: a rule that folds and is not recursive.
    Fold(Fold),
    Call {
        pred: Pred,
        args: Vec<Term>,
    },
    /// Facts of the fixpoint being run, read by the rule's atom `at`.
    Facts {
        facts: usize,
        at: usize,
        args: Vec<Term>,
    },
    /// Matches nothing, and why.
    Never(&'static str),
}

/// A rule with folds, written out.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    /// The rule.
    pub(crate) name: Symbol,
    /// What groups: the arguments that are not folded, and what is computed from them.
    pub(crate) keys: Vec<Var>,
    /// Keys that must be bound outside.
    pub(crate) required: Vec<Var>,
    /// What is folded, in the order of the head.
    pub(crate) columns: Vec<FoldColumn>,
    /// What keeps rows apart besides.
    pub(crate) with: Vec<Var>,
    /// The definitions; each binds all of the above, and nothing in them is seen outside but keys.
    pub(crate) branches: Vec<Body>,
}

impl Fold {
    /// The variables of the rows that are grouped.
    pub(crate) fn inner(&self) -> Vec<Var> {
        let folded = self.columns.iter().map(|c| c.from);
        self.keys.iter().copied().chain(folded).chain(self.with.iter().copied()).collect()
    }
}

/// A folded argument.
#[derive(Clone, Debug)]
pub(crate) struct FoldColumn {
    /// The aggregate; resolution made sure that it exists and takes `args`.
    pub(crate) name: Symbol,
    pub(crate) args: Vec<Value>,
    /// What is aggregated: a variable of the definitions.
    pub(crate) from: Var,
    /// What the result is bound to; none for an argument that nobody asks for.
    pub(crate) to: Option<Var>,
}

/// A clause with its place.
#[derive(Clone, Debug)]
pub(crate) struct Clause {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
    /// As the user wrote it, for `explain`.
    pub(crate) text: Arc<str>,
    /// Every variable that the clause shares with its surroundings.
    pub(crate) vars: Vec<Var>,
}

/// A conjunction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) clauses: Vec<Clause>,
}

/// One definition of a recursive predicate.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Head variables: distinct.
    pub(crate) head: Vec<Var>,
    pub(crate) body: Body,
}

/// A recursive predicate.
#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    pub(crate) name: Symbol,
    pub(crate) arity: usize,
    /// Arguments that must be bound at a call.
    pub(crate) required: Vec<bool>,
    /// For each argument, which of its values is kept for one setting of the others. A call
    /// cannot ask for such a value: it is compared when it has been found.
    pub(crate) best: Vec<Option<Best>>,
    pub(crate) rules: Vec<Rule>,
    /// Strongly connected component: a number; equal for mutually recursive predicates.
    pub(crate) component: usize,
}

/// All predicates, and how many variables there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) preds: Vec<Predicate>,
}

/// An element of `:in`.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Source,
    Rules,
    Bind(Bind),
    Pattern,
}

/// A column of the answer.
#[derive(Clone, Debug)]
pub(crate) enum Elem {
    Var(Var),
    Pull { src: Slot, var: Var, pattern: ast::PullArg },
    Aggregate { name: Symbol, args: Vec<AggArg>, var: Var, span: Span },
}

/// An argument of an aggregate.
#[derive(Clone, Debug)]
pub(crate) enum AggArg {
    Const(Value),
    Var(Var),
}

/// A query ready to be planned.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) inputs: Vec<Input>,
    pub(crate) body: Body,
    pub(crate) program: Arc<Program>,
    pub(crate) find: Vec<Elem>,
    pub(crate) with: Vec<Var>,
    /// Names of variables, by number.
    pub(crate) names: Vec<Arc<str>>,
    /// What the user should know although the query runs.
    pub(crate) warnings: Vec<annals_model::Diagnostic>,
}

/// What resolution needs of one data source.
#[derive(Clone, Debug)]
pub(crate) enum SlotKind {
    Db(Arc<annals_model::Schema>),
    Tuples,
}

/// Idents are looked up in the schema of the source.
pub(crate) fn entid(schema: &annals_model::Schema, k: &Keyword) -> Option<u64> {
    schema.entid(k).map(annals_model::EntityId::raw)
}
