//! Expressions: `(f arg …)` in a clause, and the calls that read a database.

use super::{binding::binding, clause::term, complain, query, src_of};
use crate::ast::{Call, Clause, Expr, Query, Spanned, Src, Term, Var};
use crate::edn::{self, Form, FormKind};
use crate::error::Complaints;
use annals_model::{Diagnostic, Span, Symbol, Value};
use std::sync::Arc;

/// `[(f arg*)]` and `[(f arg*) binding]`.
pub(super) fn expression(
    f: &Form,
    list: &Form,
    call: &[Form],
    rest: &[Form],
    c: &mut Complaints,
) -> Option<Clause> {
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
                Some(Value::String(text)) => written(q, text, c),
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

/// A nested query given as a string. Its places are those of the string: the outer
/// text is the one that messages point into.
fn written(at: &Form, text: &str, c: &mut Complaints) -> Option<Query> {
    match edn::read_one(text) {
        Ok(mut inner) => {
            place(&mut inner, at.span);
            query::query(&inner, c)
        }
        Err(errors) => {
            for d in errors.0 {
                c.push(Diagnostic { labels: Vec::new(), ..d }.at(at.span, "in this query"));
            }
            None
        }
    }
}

/// Says of a form and of all within that they stand at `span`.
fn place(f: &mut Form, span: Span) {
    f.span = span;
    match &mut f.kind {
        FormKind::Atom(_) => {}
        FormKind::Vector(items) | FormKind::List(items) | FormKind::Set(items) => {
            items.iter_mut().for_each(|f| place(f, span));
        }
        FormKind::Map(entries) => entries.iter_mut().for_each(|(k, v)| {
            place(k, span);
            place(v, span);
        }),
        FormKind::Tagged(_, inner) => place(inner, span),
    }
}
