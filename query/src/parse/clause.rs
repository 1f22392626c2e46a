//! Clauses: patterns, predicates and functions, `not`, `or`, rule calls.

use super::{complain, query, src_of, var_of};
use crate::ast::{
    Binding, Branch, Call, Clause, Expr, JoinVars, Not, Or, Pattern, RuleCall, Spanned, Src, Term, Var,
};
use crate::edn::{Form, FormKind};
use crate::error::Complaints;
use crate::eval::function::Library;
use annals_model::{Diagnostic, Symbol, Value};
use std::sync::Arc;

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
            Some(FormKind::List(call)) => expression(f, &items[0], call, &items[1..], c),
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
                    f,
                    "a list clause begins with a name",
                    "a predicate stands in [( … )]",
                );
                return None;
            };
            match name.as_str() {
                "not" => not(f, src, None, args, c),
                "not-join" => {
                    let vars = plain_vars(head, args.first(), c)?;
                    not(f, src, Some(vars), &args[1..], c)
                }
                "or" => or(f, src, None, args, c),
                "or-join" => {
                    let vars = join_vars(head, args.first(), c)?;
                    or(f, src, Some(vars), &args[1..], c)
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

fn term(f: &Form, c: &mut Complaints) -> Option<Spanned<Term>> {
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
    let mut terms = Vec::with_capacity(rest.len());
    for t in rest {
        let t = term(t, c)?;
        match &t.node {
            Term::Src(s) => {
                c.push(
                    Diagnostic::new("query/pattern", format!("{s} cannot stand inside a pattern"))
                        .at(t.span, "a source")
                        .help("a source comes first: [$name ?e :a ?v]"),
                );
                return None;
            }
            Term::Const(Value::Symbol(s)) => {
                c.push(
                    Diagnostic::new("query/pattern", format!("{s} is neither a variable nor a value"))
                        .at(t.span, "a plain symbol")
                        .help(format!("a variable begins with a question mark: ?{s}")),
                );
                return None;
            }
            Term::Const(Value::Nil) => {
                c.push(
                    Diagnostic::new("query/pattern", "nil is never stored, so nothing can match it")
                        .at(t.span, "nil")
                        .help("use (missing? $ ?e :attribute), or _ for anything"),
                );
                return None;
            }
            _ => terms.push(t),
        }
    }
    Some(Clause::Pattern(Pattern { src, terms, span: f.span }))
}

/// `[(f arg*)]` and `[(f arg*) binding]`.
fn expression(f: &Form, list: &Form, call: &[Form], rest: &[Form], c: &mut Complaints) -> Option<Clause> {
    let expr = expr(list, call, c);
    match rest {
        [] => {
            let expr = expr?;
            Some(Clause::Predicate(Call { expr, span: list.span }))
        }
        [b] => {
            let b = binding(b, c);
            let expr = expr?;
            Some(Clause::Function(Call { expr, span: list.span }, b?))
        }
        _ => {
            complain(c, "query/clause", f, "a call is followed by one binding at most", "write [(f ?x) ?y]");
            None
        }
    }
}

fn expr(list: &Form, call: &[Form], c: &mut Complaints) -> Option<Expr> {
    let Some((head, args)) = call.split_first() else {
        complain(c, "query/clause", list, "an empty call", "write (function argument …)");
        return None;
    };
    let Some(name) = head.as_symbol() else {
        complain(c, "query/clause", head, "a call begins with the name of a function", "write [(< ?a ?b)]");
        return None;
    };
    if Var::of(name).is_some() || Src::of(name).is_some() {
        let what = format!("{name} cannot be called");
        complain(
            c,
            "query/unknown-function",
            head,
            what,
            "functions are known by their names, not by variables",
        );
        return None;
    }
    match name.as_str() {
        "get-else" => {
            let [src, e, a, default] = sized(list, name, args, "(get-else $ ?e :attribute default)", c)?;
            let default = term(default, c)?;
            if default.node == Term::Const(Value::Nil) {
                c.push(
                    Diagnostic::new("query/type", "the default of get-else cannot be nil")
                        .at(default.span, "nil")
                        .help("use missing? to ask whether there is a value"),
                );
                return None;
            }
            Some(Expr::GetElse { src: source(src, c)?, e: term(e, c)?, a: attribute(a, c)?, default })
        }
        "get-some" => {
            let Some((src, rest)) = args.split_first() else {
                return wrong_size(list, name, args, "(get-some $ ?e :a :b …)", c);
            };
            let Some((e, attrs)) = rest.split_first().filter(|(_, attrs)| !attrs.is_empty()) else {
                return wrong_size(list, name, args, "(get-some $ ?e :a :b …)", c);
            };
            let attrs: Option<Vec<_>> = attrs.iter().map(|a| attribute(a, c)).collect();
            Some(Expr::GetSome { src: source(src, c)?, e: term(e, c)?, attrs: attrs? })
        }
        "missing?" => {
            let [src, e, a] = sized(list, name, args, "(missing? $ ?e :attribute)", c)?;
            Some(Expr::Missing { src: source(src, c)?, e: term(e, c)?, a: attribute(a, c)? })
        }
        "ground" => {
            let [v] = sized(list, name, args, "(ground constant)", c)?;
            if let Some(s) = v.as_symbol()
                && (Var::of(s).is_some() || Src::of(s).is_some())
            {
                complain(
                    c,
                    "query/clause",
                    v,
                    "ground takes a constant",
                    "[(identity ?x) ?y] copies a variable",
                );
                return None;
            }
            Some(Expr::Ground(Spanned::new(v.unquoted().to_value(), v.span)))
        }
        "q" => {
            let Some((q, rest)) = args.split_first() else {
                return wrong_size(list, name, args, "(q [:find …] $ ?x …)", c);
            };
            let inner = match q.unquoted().as_atom() {
                Some(Value::String(text)) => match super::query(text) {
                    Ok(inner) => Some(inner),
                    Err(e) => {
                        for d in e.0 {
                            c.push(Diagnostic { labels: Vec::new(), ..d }.at(q.span, "in this query"));
                        }
                        None
                    }
                },
                _ => query::query(q.unquoted(), c),
            };
            let args: Option<Vec<_>> = rest.iter().map(|a| term(a, c)).collect();
            Some(Expr::Query { query: Arc::new(inner?), args: args? })
        }
        "tx-ids" => {
            let [src, from, to] = sized(list, name, args, "(tx-ids $ from to)", c)?;
            Some(Expr::TxIds { src: source(src, c)?, from: term(from, c)?, to: term(to, c)? })
        }
        "tx-data" => {
            let [src, tx] = sized(list, name, args, "(tx-data $ ?tx)", c)?;
            Some(Expr::TxData { src: source(src, c)?, tx: term(tx, c)? })
        }
        "fulltext" => {
            let [src, a, text] = sized(list, name, args, "(fulltext $ :attribute \"words\")", c)?;
            Some(Expr::Fulltext { src: source(src, c)?, a: attribute(a, c)?, text: term(text, c)? })
        }
        _ => {
            let args: Option<Vec<_>> = args.iter().map(|a| term(a, c)).collect();
            Some(Expr::Call { name: Spanned::new(name.clone(), head.span), args: args? })
        }
    }
}

fn sized<'a, const N: usize>(
    list: &Form,
    name: &Symbol,
    args: &'a [Form],
    usage: &str,
    c: &mut Complaints,
) -> Option<&'a [Form; N]> {
    match args.try_into() {
        Ok(args) => Some(args),
        Err(_) => wrong_size(list, name, args, usage, c),
    }
}

fn wrong_size<R>(list: &Form, name: &Symbol, args: &[Form], usage: &str, c: &mut Complaints) -> Option<R> {
    let what = format!("{name} was given {} argument{}", args.len(), if args.len() == 1 { "" } else { "s" });
    c.push(Diagnostic::new("query/arity", what).at(list.span, "this call").help(format!("write {usage}")));
    None
}

fn source(f: &Form, c: &mut Complaints) -> Option<Spanned<Src>> {
    let found = src_of(f);
    if found.is_none() {
        complain(c, "query/clause", f, "a source is needed here", "write $, or $name as in :in");
    }
    found
}

/// An attribute as argument: a keyword, an id, or a variable.
fn attribute(f: &Form, c: &mut Complaints) -> Option<Spanned<Term>> {
    let t = term(f, c)?;
    match &t.node {
        Term::Var(_) | Term::Const(Value::Keyword(_) | Value::Long(_)) => Some(t),
        _ => {
            complain(c, "query/type", f, "an attribute is needed here", "write its name, a keyword");
            None
        }
    }
}

/// `?x`, `_`, `[?x ...]`, `[?a _]`, `[[?a ?b]]`.
pub(super) fn binding(f: &Form, c: &mut Complaints) -> Option<Spanned<Binding>> {
    let help = "write ?x, [?x ...], [?a ?b] or [[?a ?b]]";
    if let Some(v) = var_of(f) {
        return Some(v.map(Binding::Var));
    }
    if f.is_symbol("_") {
        return Some(Spanned::new(Binding::Blank, f.span));
    }
    let Some(items) = f.as_vector() else {
        complain(c, "query/binding", f, format!("a {} cannot be bound to", f.noun()), help);
        return None;
    };
    let dots = |f: &Form| f.is_symbol("...");
    let node = match items {
        [] => {
            complain(c, "query/binding", f, "an empty binding", help);
            return None;
        }
        [one, d] if dots(d) => Binding::Coll(Box::new(binding(one, c)?)),
        [tuple] if tuple.as_vector().is_some() => Binding::Coll(Box::new(binding(tuple, c)?)),
        slots => {
            if let Some(d) = slots.iter().find(|s| dots(s)) {
                complain(c, "query/binding", d, "... follows exactly one binding", help);
                return None;
            }
            let slots: Option<Vec<_>> = slots.iter().map(|s| binding(s, c)).collect();
            Binding::Tuple(slots?)
        }
    };
    Some(Spanned::new(node, f.span))
}

fn not(
    f: &Form,
    src: Option<Spanned<Src>>,
    join: Option<Vec<Spanned<Var>>>,
    body: &[Form],
    c: &mut Complaints,
) -> Option<Clause> {
    if body.is_empty() {
        complain(c, "query/clause", f, "a negation without clauses", "say what must not hold");
        return None;
    }
    let inner = clauses(body, c);
    let not = Not { src, join, clauses: inner, span: f.span };
    if not.join.is_none() {
        let mut any = false;
        not.clauses.iter().for_each(|c| c.for_each_var(&mut |_, _| any = true));
        if !any && !not.clauses.is_empty() {
            return Some(Clause::Not(not));
        }
    }
    if let Some(vars) = &not.join {
        used(vars.iter(), &not.clauses, c);
    }
    Some(Clause::Not(not))
}

/// Every listed variable must be used inside.
fn used<'a>(vars: impl Iterator<Item = &'a Spanned<Var>>, clauses: &[Clause], c: &mut Complaints) {
    for v in vars {
        let mut found = false;
        clauses.iter().for_each(|c| c.for_each_var(&mut |x, _| found |= *x == v.node));
        if !found {
            c.push(
                Diagnostic::new("query/join-vars", format!("{} is listed and not used inside", v.node))
                    .at(v.span, "used nowhere below")
                    .help("leave it out of the list"),
            );
        }
    }
}

fn plain_vars(head: &Form, list: Option<&Form>, c: &mut Complaints) -> Option<Vec<Spanned<Var>>> {
    let join = join_vars(head, list, c)?;
    if let Some(v) = join.required.first() {
        c.at("query/join-vars", v.span, "not-join has no required variables", "write [?x …]");
        return None;
    }
    Some(join.free)
}

/// `[?x …]` or `[[?required …] ?x …]`.
fn join_vars(head: &Form, list: Option<&Form>, c: &mut Complaints) -> Option<JoinVars> {
    let name = head.as_symbol().map_or("", Symbol::as_str);
    let Some((list, items)) = list.and_then(|l| l.as_vector().map(|items| (l, items))) else {
        complain(
            c,
            "query/join-vars",
            head,
            format!("{name} needs a vector of variables"),
            format!("write ({name} [?x] …)"),
        );
        return None;
    };
    let (mut required, mut free): (Vec<Spanned<Var>>, Vec<Spanned<Var>>) = (Vec::new(), Vec::new());
    let put = |f: &Form, into: &mut Vec<Spanned<Var>>, c: &mut Complaints| match var_of(f) {
        Some(v) => into.push(v),
        None => complain(c, "query/join-vars", f, "only variables can be joined on", "write ?x"),
    };
    for (i, f) in items.iter().enumerate() {
        match f.as_vector() {
            Some(inner) if i == 0 => inner.iter().for_each(|f| put(f, &mut required, c)),
            _ => put(f, &mut free, c),
        }
    }
    if items.is_empty() || (required.is_empty() && free.is_empty()) {
        complain(
            c,
            "query/join-vars",
            list,
            format!("{name} needs at least one variable"),
            "list what it shares",
        );
        return None;
    }
    Some(JoinVars { required, free, span: list.span })
}

fn or(
    f: &Form,
    src: Option<Spanned<Src>>,
    join: Option<JoinVars>,
    body: &[Form],
    c: &mut Complaints,
) -> Option<Clause> {
    if body.is_empty() {
        complain(c, "query/clause", f, "an or without branches", "give it alternatives");
        return None;
    }
    let mut branches = Vec::new();
    for b in body {
        let inner = match b.as_list() {
            Some([head, inner @ ..]) if head.is_symbol("and") => {
                if inner.is_empty() {
                    complain(c, "query/clause", b, "(and) without clauses", "put clauses into it");
                }
                clauses(inner, c)
            }
            _ => clauses(std::slice::from_ref(b), c),
        };
        branches.push(Branch { clauses: inner, span: b.span });
    }
    let or = Or { src, join, branches, span: f.span };
    match &or.join {
        None => same_vars(&or, c),
        Some(join) => {
            for b in &or.branches {
                used(join.all(), &b.clauses, c);
            }
        }
    }
    Some(Clause::Or(or))
}

/// Without a list, every branch of an `or` uses the same variables.
fn same_vars(or: &Or, c: &mut Complaints) {
    let vars = |b: &Branch| {
        let mut found: Vec<Var> = Vec::new();
        for clause in &b.clauses {
            outer_vars(clause, &mut |v| {
                if !found.contains(v) {
                    found.push(v.clone());
                }
            });
        }
        found.sort();
        found
    };
    let Some(first) = or.branches.first() else { return };
    let wanted = vars(first);
    for b in &or.branches[1..] {
        let have = vars(b);
        if have != wanted {
            let names = |vs: &[Var]| vs.iter().map(Var::to_string).collect::<Vec<_>>().join(" ");
            c.push(
                Diagnostic::new("query/join-vars", "the branches of an or use different variables")
                    .at(b.span, format!("uses {}", names(&have)))
                    .at(first.span, format!("uses {}", names(&wanted)))
                    .help("use or-join and list the variables that the branches share with the outside"),
            );
        }
    }
}

/// The variables of a clause that are its surroundings' too: not those that a list keeps inside.
fn outer_vars<'a>(clause: &'a Clause, f: &mut dyn FnMut(&'a Var)) {
    match clause {
        Clause::Not(Not { join: Some(join), .. }) => join.iter().for_each(|v| f(&v.node)),
        Clause::Not(n) => n.clauses.iter().for_each(|c| outer_vars(c, f)),
        Clause::Or(Or { join: Some(join), .. }) => join.all().for_each(|v| f(&v.node)),
        Clause::Or(o) => o.branches.iter().flat_map(|b| &b.clauses).for_each(|c| outer_vars(c, f)),
        other => other.for_each_var(&mut |v, _| f(v)),
    }
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
            FormKind::List(_) => {
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
