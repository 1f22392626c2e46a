//! Clauses: patterns and rule calls here; predicates and functions in `call`,
//! `not` and `or` in `scope`.

use super::{call, complain, scope, src_of};
use crate::ast::{Clause, Pattern, RuleCall, Spanned, Src, Term, Var};
use crate::edn::{Form, FormKind};
use crate::error::Complaints;
use crate::eval::function::Library;
use annals_model::{Diagnostic, Symbol, Value};

/// A conjunction; `(and …)` is part of the conjunction around it.
pub(super) fn clauses(forms: &[Form], c: &mut Complaints) -> Vec<Clause> {
    let mut out = Vec::new();
    for f in forms {
        match f.as_list() {
            Some([head, inner @ ..]) if head.is_symbol("and") => {
                if inner.is_empty() {
                    complain(c, "query/clause", f, "(and) without clauses", "put clauses into it");
                }
                out.extend(clauses(inner, c));
            }
            _ => out.extend(clause(f, c)),
        }
    }
    out
}

fn clause(f: &Form, c: &mut Complaints) -> Option<Clause> {
    match &f.kind {
        FormKind::Vector(items) => match items.first().map(|i| &i.kind) {
            Some(FormKind::List(inner)) => call::expression(f, &items[0], inner, &items[1..], c),
            _ => pattern(f, items, c),
        },
        FormKind::List(items) => {
            let (src, rest) = match items.first().and_then(src_of) {
                Some(s) => (Some(s), &items[1..]),
                None => (None, &items[..]),
            };
            let Some((head, args)) = rest.split_first() else {
                complain(
                    c,
                    "query/clause",
                    f,
                    "an empty list is no clause",
                    "write (rule ?x), (not …) or (or …)",
                );
                return None;
            };
            let Some(name) = head.as_symbol() else {
                complain(
                    c,
                    "query/clause",
                    head,
                    "a list clause begins with a name",
                    "a predicate stands in [( … )]",
                );
                return None;
            };
            match name.as_str() {
                "not" => scope::not(f, src, None, args, c),
                "not-join" => {
                    let vars = scope::plain_vars(head, args.first(), c)?;
                    scope::not(f, src, Some(vars), &args[1..], c)
                }
                "or" => scope::or(f, src, None, args, c),
                "or-join" => {
                    let vars = scope::join_vars(head, args.first(), c)?;
                    scope::or(f, src, Some(vars), &args[1..], c)
                }
                _ if Var::of(name).is_some() || name.as_str() == "%" => {
                    complain(
                        c,
                        "query/clause",
                        head,
                        format!("{name} is not the name of a rule"),
                        "write (rule ?x)",
                    );
                    None
                }
                _ => rule_call(f, src, head, name, args, c),
            }
        }
        _ => {
            let help =
                "a clause is [entity attribute value …], [(function …) …], (not …), (or …) or (rule …)";
            complain(c, "query/clause", f, format!("a {} is no clause", f.noun()), help);
            None
        }
    }
}

pub(super) fn term(f: &Form, c: &mut Complaints) -> Option<Spanned<Term>> {
    let node = match f.as_symbol() {
        Some(s) if s.as_str() == "_" => Term::Blank,
        Some(s) if Var::of(s).is_some() => Term::Var(Var::of(s)?),
        Some(s) if Src::of(s).is_some() => Term::Src(Src::of(s)?),
        Some(s) if s.as_str() == "%" => {
            complain(c, "query/clause", f, "% cannot stand here", "rules are called by name");
            return None;
        }
        _ => Term::Const(f.unquoted().to_value()),
    };
    Some(Spanned::new(node, f.span))
}

fn pattern(f: &Form, items: &[Form], c: &mut Complaints) -> Option<Clause> {
    let (src, rest) = match items.first().and_then(src_of) {
        Some(s) => (Some(s), &items[1..]),
        None => (None, items),
    };
    if rest.is_empty() {
        complain(c, "query/pattern", f, "a pattern without terms", "write [?entity :attribute ?value]");
        return None;
    }
    if rest.len() > 5 && src.as_ref().is_none_or(|s| s.is_default()) {
        let what = format!("a pattern has at most five places, this has {}", rest.len());
        complain(c, "query/pattern", f, what, "entity, attribute, value, transaction, op");
        return None;
    }
    let terms: Vec<_> = rest.iter().filter_map(|t| place(t, c)).collect();
    if terms.len() < rest.len() {
        return None;
    }
    Some(Clause::Pattern(Pattern { src, terms, span: f.span }))
}

/// A term that can stand in a place of a pattern.
fn place(f: &Form, c: &mut Complaints) -> Option<Spanned<Term>> {
    let t = term(f, c)?;
    let (what, label, help) = match &t.node {
        Term::Src(s) => (
            format!("{s} cannot stand inside a pattern"),
            "a source",
            "a source comes first: [$name ?e :a ?v]".to_owned(),
        ),
        Term::Const(Value::Symbol(s)) if f.as_symbol().is_some() => (
            format!("{s} is neither a variable nor a value"),
            "a plain symbol",
            format!("a variable begins with a question mark: ?{s}; a symbol as a value is quoted: '{s}"),
        ),
        Term::Const(Value::Nil) => (
            "nil is never stored, so nothing can match it".to_owned(),
            "nil",
            "use (missing? $ ?e :attribute), or _ for anything".to_owned(),
        ),
        _ => return Some(t),
    };
    c.push(Diagnostic::new("query/pattern", what).at(t.span, label).help(help));
    None
}

fn rule_call(
    f: &Form,
    src: Option<Spanned<Src>>,
    head: &Form,
    name: &Symbol,
    args: &[Form],
    c: &mut Complaints,
) -> Option<Clause> {
    if args.is_empty() {
        let d = Diagnostic::new("query/arity", format!("the rule {name} is called without arguments"));
        c.push(
            d.at(f.span, "this call").help("a rule has at least one argument; (not …), (or …) take clauses"),
        );
        return None;
    }
    let mut terms = Vec::with_capacity(args.len());
    for a in args {
        let t = match a.kind {
            FormKind::List(_) if std::ptr::eq(a, a.unquoted()) => {
                let known = Library::standard().function(name.as_str()).is_some();
                let help = if known {
                    "a predicate stands in a vector: [(f ?x)]"
                } else {
                    "arguments are variables and constants"
                };
                complain(c, "query/clause", a, "a list cannot be an argument of a rule", help);
                return None;
            }
            _ => term(a, c)?,
        };
        if let Term::Src(s) = &t.node {
            c.push(
                Diagnostic::new("query/rule", format!("the database {s} cannot be an argument of a rule"))
                    .at(t.span, "a source")
                    .help(format!("put it before the name: ({s} {name} …)")),
            );
            return None;
        }
        terms.push(t);
    }
    Some(Clause::Rule(RuleCall {
        src,
        name: Spanned::new(name.clone(), head.span),
        args: terms,
        span: f.span,
    }))
}

impl Clause {
    /// Does anything in it read the default source?
    pub(super) fn reads_default(&self) -> bool {
        let is_default = |s: &Option<Spanned<Src>>| s.as_ref().is_none_or(|s| s.is_default());
        match self {
            Clause::Pattern(p) => is_default(&p.src),
            Clause::Predicate(call) | Clause::Function(call, _) => {
                call.expr.src().is_some_and(|s| s.is_default())
                    || call.expr.args().iter().any(|t| matches!(&t.node, Term::Src(s) if s.is_default()))
            }
            Clause::Not(n) => is_default(&n.src) && n.clauses.iter().any(Clause::reads_default),
            Clause::Or(o) => {
                is_default(&o.src) && o.branches.iter().flat_map(|b| &b.clauses).any(Clause::reads_default)
            }
            Clause::Rule(r) => is_default(&r.src),
        }
    }
}
