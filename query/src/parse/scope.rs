//! `not`, `or`, and the variables that they share with what is around them.
//!
//! 1. Without a list, the branches of an `or` use the same variables.
//! 2. A listed variable is used in the body, in every branch.

use super::{clause::clauses, complain, var_of};
use crate::ast::{Branch, Clause, JoinVars, Not, Or, Spanned, Src, Var};
use crate::edn::Form;
use crate::error::Complaints;
use annals_model::{Diagnostic, Symbol};

pub(super) fn not(
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
    let before = c.len();
    let inner = clauses(body, c);
    if c.len() > before {
        return None;
    }
    let not = Not { src, join, clauses: inner, span: f.span };
    if let Some(vars) = &not.join {
        used(vars.iter(), &not.clauses, c);
    }
    Some(Clause::Not(not))
}

pub(super) fn or(
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
    let (before, mut branches) = (c.len(), Vec::new());
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
    if c.len() > before {
        return None;
    }
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

pub(super) fn plain_vars(head: &Form, list: Option<&Form>, c: &mut Complaints) -> Option<Vec<Spanned<Var>>> {
    let join = join_vars(head, list, c)?;
    if let Some(v) = join.required.first() {
        c.at("query/join-vars", v.span, "not-join has no required variables", "write [?x …]");
        return None;
    }
    Some(join.free)
}

/// `[?x …]` or `[[?required …] ?x …]`.
pub(super) fn join_vars(head: &Form, list: Option<&Form>, c: &mut Complaints) -> Option<JoinVars> {
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
    let empty = |f: &Form| f.as_vector().is_some_and(<[Form]>::is_empty);
    if items.iter().all(empty) {
        complain(
            c,
            "query/join-vars",
            list,
            format!("{name} needs at least one variable"),
            "list what it shares",
        );
        return None;
    }
    if required.is_empty() && free.is_empty() {
        return None;
    }
    Some(JoinVars { required, free, span: list.span })
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
