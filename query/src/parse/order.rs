//! What is done with the rows at the end: `:order-by`, `:having`, `:limit` and its kin.

use super::{complain, find::elem, query::Parts, var_of};
use crate::ast::{FindElem, Having, HavingArg, OrderKey, Spanned};
use crate::edn::Form;
use crate::error::Complaints;
use crate::eval::function::Library;
use annals_model::{Diagnostic, Span, Value};

pub(super) fn order_by(at: Span, forms: &[Form], columns: &[FindElem], c: &mut Complaints) -> Vec<OrderKey> {
    // In list form the keys may stand in a vector of their own.
    let forms = match forms {
        [one] => one.as_vector().unwrap_or(forms),
        _ => forms,
    };
    let mut out: Vec<OrderKey> = Vec::new();
    for f in forms {
        match f.as_keyword() {
            Some(word @ ("asc" | "desc")) => match out.last_mut() {
                Some(last) => last.descending = word == "desc",
                None => {
                    complain(c, "query/order", f, format!(":{word} follows a variable"), "write [?x :desc]")
                }
            },
            _ => match column(f, columns) {
                Some(column) => out.push(OrderKey { column, descending: false, span: f.span }),
                None => {
                    let help = "order by something in :find, or by the number of its column from 0";
                    complain(c, "query/order", f, "not a column of the answer", help);
                }
            },
        }
    }
    if forms.is_empty() {
        c.push(Diagnostic::new("query/order", ":order-by names no column").at(at, "here"));
    }
    out
}

pub(super) fn having(forms: &[Form], columns: &[FindElem], c: &mut Complaints) -> Vec<Having> {
    // In list form the predicates may stand in a vector of their own.
    let forms = match forms {
        [one] => one.as_vector().filter(|v| v.iter().all(|f| f.as_vector().is_some())).unwrap_or(forms),
        _ => forms,
    };
    let mut out = Vec::new();
    for f in forms {
        // `[(> ?n 1)]` as in :where, or the call alone.
        let call = match f.as_vector() {
            Some([call]) => call,
            _ => f,
        };
        let Some([head, args @ ..]) = call.as_list() else {
            complain(c, "query/order", f, "a :having clause is a predicate", "write [(> ?n 1)]");
            continue;
        };
        let Some(name) = head.as_symbol() else {
            complain(c, "query/order", head, "a predicate begins with its name", "write [(> ?n 1)]");
            continue;
        };
        if Library::standard().function(name.as_str()).is_none() {
            let near = Library::standard().nearest_function(name.as_str());
            let d = Diagnostic::new("query/unknown-function", format!("unknown predicate {name}"))
                .at(head.span, "no such function");
            c.push(match near {
                Some(n) => d.help(format!("did you mean {n}?")),
                None => d,
            });
            continue;
        }
        let mut terms = Vec::new();
        for a in args {
            if a.as_symbol().is_some() || a.as_list().is_some() {
                match column(a, columns) {
                    Some(i) => terms.push(Spanned::new(HavingArg::Column(i), a.span)),
                    None => complain(
                        c,
                        "query/order",
                        a,
                        "not a column of the answer",
                        "compare something in :find",
                    ),
                }
            } else {
                terms.push(Spanned::new(HavingArg::Const(a.to_value()), a.span));
            }
        }
        if terms.len() == args.len() {
            out.push(Having { name: Spanned::new(name.clone(), head.span), args: terms, span: f.span });
        }
    }
    out
}

/// The number of `:limit`, `:offset` or `:timeout`.
pub(super) fn number(parts: &Parts<'_>, key: &str, c: &mut Complaints) -> Option<Spanned<u64>> {
    let (at, forms) = parts.get(key)?;
    let help = format!("write :{key} 10");
    let [n] = forms else {
        c.push(Diagnostic::new("query/order", format!(":{key} takes one number")).at(at, "here").help(help));
        return None;
    };
    match n.as_atom() {
        Some(Value::Long(v)) if *v >= 0 => Some(Spanned::new(v.unsigned_abs(), n.span)),
        _ => {
            complain(c, "query/order", n, format!(":{key} takes a number from 0"), help);
            None
        }
    }
}

/// A number of rows; more than this machine can count is all of them.
pub(super) fn count(n: Spanned<u64>) -> Spanned<usize> {
    n.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// The column that a form names: a find variable, an element written again, or a number.
fn column(f: &Form, columns: &[FindElem]) -> Option<usize> {
    if let Some(Value::Long(n)) = f.as_atom() {
        return usize::try_from(*n).ok().filter(|n| *n < columns.len());
    }
    if let Some(v) = var_of(f) {
        return columns.iter().position(|e| matches!(e, FindElem::Var(x) if x.node == v.node));
    }
    f.as_list()?;
    let written = elem(f, &mut Complaints::default())?;
    columns.iter().position(|e| same(e, &written))
}

fn same(a: &FindElem, b: &FindElem) -> bool {
    match (a, b) {
        (FindElem::Var(a), FindElem::Var(b)) => a.node == b.node,
        (
            FindElem::Aggregate { name, args, var, .. },
            FindElem::Aggregate { name: n, args: xs, var: v, .. },
        ) => {
            name.node == n.node
                && var.node == v.node
                && args.iter().map(|a| &a.node).eq(xs.iter().map(|a| &a.node))
        }
        _ => false,
    }
}
