//! Trees back to text: for plans, proofs and messages.
//!
//! The text reads back as the same tree, spans apart.

use super::*;
use crate::edn;
use annals_model::Value;
use std::fmt::{Display, Formatter, Result};

/// Items with a space before each.
fn each<T: Display>(f: &mut Formatter<'_>, items: impl IntoIterator<Item = T>) -> Result {
    items.into_iter().try_for_each(|item| write!(f, " {item}"))
}

/// Items with a space between them.
fn spaced<T: Display>(f: &mut Formatter<'_>, items: impl IntoIterator<Item = T>) -> Result {
    let mut items = items.into_iter();
    if let Some(first) = items.next() {
        write!(f, "{first}")?;
    }
    each(f, items)
}

fn prefix(f: &mut Formatter<'_>, src: &Option<Spanned<Src>>) -> Result {
    src.iter().try_for_each(|s| write!(f, "{s} "))
}

/// A literal; a symbol or a list is quoted, so that it is no name and no call.
fn constant(f: &mut Formatter<'_>, v: &Value) -> Result {
    if matches!(v, Value::Symbol(_) | Value::List(_)) {
        f.write_str("'")?;
    }
    edn::write(f, v)
}

struct Edn<'a>(&'a Value);
impl Display for Edn<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        edn::write(f, self.0)
    }
}

impl<N: Display> Display for Spanned<N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.node.fmt(f)
    }
}

impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Term::Var(v) => v.fmt(f),
            Term::Const(v) => constant(f, v),
            Term::Blank => f.write_str("_"),
            Term::Src(s) => s.fmt(f),
        }
    }
}

impl Display for Binding {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Binding::Var(v) => v.fmt(f),
            Binding::Blank => f.write_str("_"),
            Binding::Coll(inner) => write!(f, "[{inner} ...]"),
            Binding::Tuple(items) => {
                f.write_str("[")?;
                spaced(f, items)?;
                f.write_str("]")
            }
        }
    }
}

impl Display for Pattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("[")?;
        prefix(f, &self.src)?;
        spaced(f, &self.terms)?;
        f.write_str("]")
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Expr::Call { name, args } => {
                write!(f, "({name}")?;
                each(f, args)?;
            }
            Expr::Ground(v) => {
                f.write_str("(ground ")?;
                constant(f, v)?;
            }
            Expr::Query { query, args } => {
                write!(f, "(q {query}")?;
                each(f, args)?;
            }
            _ => {
                write!(f, "({}", self.name())?;
                each(f, self.src())?;
                each(f, self.args())?;
            }
        }
        f.write_str(")")
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.expr.fmt(f)
    }
}

impl Display for JoinVars {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("[")?;
        if !self.required.is_empty() {
            f.write_str("[")?;
            spaced(f, &self.required)?;
            f.write_str(if self.free.is_empty() { "]" } else { "] " })?;
        }
        spaced(f, &self.free)?;
        f.write_str("]")
    }
}

impl Display for Branch {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.clauses[..] {
            [one] => one.fmt(f),
            many => {
                f.write_str("(and")?;
                each(f, many)?;
                f.write_str(")")
            }
        }
    }
}

impl Display for Not {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("(")?;
        prefix(f, &self.src)?;
        match &self.join {
            None => f.write_str("not")?,
            Some(vars) => {
                f.write_str("not-join [")?;
                spaced(f, vars)?;
                f.write_str("]")?;
            }
        }
        each(f, &self.clauses)?;
        f.write_str(")")
    }
}

impl Display for Or {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("(")?;
        prefix(f, &self.src)?;
        match &self.join {
            None => f.write_str("or")?,
            Some(vars) => write!(f, "or-join {vars}")?,
        }
        each(f, &self.branches)?;
        f.write_str(")")
    }
}

impl Display for RuleCall {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("(")?;
        prefix(f, &self.src)?;
        write!(f, "{}", self.name)?;
        each(f, &self.args)?;
        f.write_str(")")
    }
}

impl Display for Clause {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Clause::Pattern(p) => p.fmt(f),
            Clause::Predicate(c) => write!(f, "[{c}]"),
            Clause::Function(c, b) => write!(f, "[{c} {b}]"),
            Clause::Not(n) => n.fmt(f),
            Clause::Or(o) => o.fmt(f),
            Clause::Rule(r) => r.fmt(f),
        }
    }
}

impl Display for HeadVar {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.fold {
            Some(fold) => {
                write!(f, "({}", fold.name)?;
                each(f, fold.args.iter().map(|a| Edn(&a.node)))?;
                write!(f, " {})", self.var)
            }
            None => self.var.fmt(f),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "[({}", self.name)?;
        if !self.required.is_empty() {
            f.write_str(" [")?;
            spaced(f, &self.required)?;
            f.write_str("]")?;
        }
        each(f, &self.free)?;
        if !self.with.is_empty() {
            f.write_str(" :with")?;
            each(f, &self.with)?;
        }
        f.write_str(")")?;
        each(f, &self.clauses)?;
        f.write_str("]")
    }
}

impl Display for RuleSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("[")?;
        spaced(f, &self.rules)?;
        f.write_str("]")
    }
}

impl Display for PullPattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("[")?;
        spaced(f, &self.items)?;
        f.write_str("]")
    }
}

impl Display for PullItem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            PullItem::Wildcard(_) => f.write_str("*"),
            PullItem::Id { key, .. } if *key == Value::keyword("db/id") => f.write_str(":db/id"),
            PullItem::Id { key, .. } => write!(f, "[:db/id :as {}]", Edn(key)),
            PullItem::Attr(a) => a.fmt(f),
        }
    }
}

impl PullAttr {
    /// The attribute as written, with the underscore of a reverse reference.
    pub fn name(&self) -> annals_model::Keyword {
        match self.reverse {
            true => {
                annals_model::Keyword::from_parts(self.attr.namespace(), &format!("_{}", self.attr.name()))
            }
            false => self.attr.node.clone(),
        }
    }
}

impl Display for PullAttr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let name = self.name();
        let renamed = self.key != Value::Keyword(name.clone());
        let plain =
            !renamed && self.limit == PullLimit::Default && self.default.is_none() && self.xform.is_none();
        if self.sub != PullSub::None {
            f.write_str("{")?;
        }
        if plain {
            write!(f, "{name}")?;
        } else {
            write!(f, "[{name}")?;
            if renamed {
                write!(f, " :as {}", Edn(&self.key))?;
            }
            match self.limit {
                PullLimit::Default => {}
                PullLimit::All => f.write_str(" :limit nil")?,
                PullLimit::N(n) => write!(f, " :limit {n}")?,
            }
            if let Some(d) = &self.default {
                write!(f, " :default {}", Edn(d))?;
            }
            if let Some(x) = &self.xform {
                write!(f, " :xform {x}")?;
            }
            f.write_str("]")?;
        }
        match &self.sub {
            PullSub::None => Ok(()),
            PullSub::Pattern(p) => write!(f, " {p}}}"),
            PullSub::Recursion(Some(n)) => write!(f, " {n}}}"),
            PullSub::Recursion(None) => f.write_str(" ...}"),
        }
    }
}

impl Display for AggArg {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            AggArg::Const(v) => edn::write(f, v),
            AggArg::Var(v) => v.fmt(f),
        }
    }
}

impl Display for FindElem {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            FindElem::Var(v) => v.fmt(f),
            FindElem::Pull { src, var, pattern, .. } => {
                f.write_str("(pull ")?;
                prefix(f, src)?;
                match pattern {
                    PullArg::Literal(p) => write!(f, "{var} {p})"),
                    PullArg::Input(name) => write!(f, "{var} {name})"),
                }
            }
            FindElem::Aggregate { name, args, var, .. } => {
                write!(f, "({name}")?;
                each(f, args)?;
                write!(f, " {var})")
            }
        }
    }
}

impl Display for Find {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (open, close) = match self.spec {
            FindSpec::Rel => ("", ""),
            FindSpec::Coll => ("[", " ...]"),
            FindSpec::Tuple => ("[", "]"),
            FindSpec::Scalar => ("", " ."),
        };
        f.write_str(open)?;
        spaced(f, &self.elems)?;
        f.write_str(close)
    }
}

impl Display for Input {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Input::Src(s) => s.fmt(f),
            Input::Rules => f.write_str("%"),
            Input::Binding(b) => b.fmt(f),
            Input::Pattern(p) => p.fmt(f),
        }
    }
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "[:find {}", self.find)?;
        if let Some(ret) = &self.ret {
            f.write_str(match ret.kind {
                ReturnKind::Keys => " :keys",
                ReturnKind::Strs => " :strs",
                ReturnKind::Syms => " :syms",
            })?;
            each(f, &ret.names)?;
        }
        if !self.with.is_empty() {
            f.write_str(" :with")?;
            each(f, &self.with)?;
        }
        if self.explicit_in {
            f.write_str(" :in")?;
            each(f, &self.inputs)?;
        }
        if !self.rules.is_empty() {
            f.write_str(" :rules [")?;
            spaced(f, &self.rules.inline.rules)?;
            if !self.rules.inline.rules.is_empty() && !self.rules.stored.is_empty() {
                f.write_str(" ")?;
            }
            spaced(f, &self.rules.stored)?;
            f.write_str("]")?;
        }
        if !self.clauses.is_empty() {
            f.write_str(" :where")?;
            each(f, &self.clauses)?;
        }
        if !self.having.is_empty() {
            f.write_str(" :having [")?;
            for (i, h) in self.having.iter().enumerate() {
                write!(f, "{}[({}", if i == 0 { "" } else { " " }, h.name)?;
                for arg in &h.args {
                    match &arg.node {
                        HavingArg::Const(v) => write!(f, " {}", Edn(v))?,
                        HavingArg::Column(c) => write!(f, " {}", self.find.elems[*c])?,
                    }
                }
                f.write_str(")]")?;
            }
            f.write_str("]")?;
        }
        if !self.order_by.is_empty() {
            f.write_str(" :order-by [")?;
            for (i, k) in self.order_by.iter().enumerate() {
                let direction = if k.descending { ":desc" } else { ":asc" };
                write!(f, "{}{} {direction}", if i == 0 { "" } else { " " }, k.column)?;
            }
            f.write_str("]")?;
        }
        for (key, n) in [(":offset", &self.offset), (":limit", &self.limit)] {
            if let Some(n) = n {
                write!(f, " {key} {n}")?;
            }
        }
        if let Some(ms) = &self.timeout_ms {
            write!(f, " :timeout {ms}")?;
        }
        f.write_str("]")
    }
}
