//! `:find`, and what depends on its columns alone: return maps and `:with`.

use super::{complain, pull, query::Parts, src_of, var_of};
use crate::ast::{AggArg, Find, FindElem, FindSpec, PullArg, ReturnKind, ReturnMap, Spanned, Var};
use crate::edn::{Form, FormKind};
use crate::error::Complaints;
use crate::eval::function::Library;
use annals_model::{Diagnostic, Span, Value};
use std::sync::Arc;

pub(super) fn find(at: Span, forms: &[Form], c: &mut Complaints) -> Option<Find> {
    let span = forms.iter().fold(at, |s, f| s.to(f.span));
    let dot = |f: &Form| f.is_symbol(".");
    let (spec, elems): (FindSpec, &[Form]) = match forms {
        [one, d] if dot(d) => (FindSpec::Scalar, std::slice::from_ref(one)),
        [v] if v.as_vector().is_some() => match v.as_vector().unwrap_or_default() {
            [one, d] if d.is_symbol("...") => (FindSpec::Coll, std::slice::from_ref(one)),
            [] => {
                complain(c, "query/find", v, "an empty tuple", "write [?a ?b]");
                return None;
            }
            inner => (FindSpec::Tuple, inner),
        },
        _ => (FindSpec::Rel, forms),
    };
    let found: Vec<FindElem> = elems.iter().filter_map(|f| elem(f, c)).collect();
    (found.len() == elems.len()).then_some(Find { spec, elems: found, span })
}

pub(super) fn elem(f: &Form, c: &mut Complaints) -> Option<FindElem> {
    if let Some(v) = var_of(f) {
        return Some(FindElem::Var(v));
    }
    let help = "find ?x, (count ?x) or (pull ?e [*])";
    let Some([head, args @ ..]) = f.as_list() else {
        complain(c, "query/find", f, format!("a {} cannot be found", f.noun()), help);
        return None;
    };
    let Some(name) = head.as_symbol() else {
        complain(c, "query/find", head, "an aggregate begins with its name", help);
        return None;
    };
    if name.as_str() == "pull" {
        return pull_elem(f, args, c);
    }
    if Library::standard().aggregate(name.as_str()).is_none() && !name.as_str().contains('/') {
        let near = Library::standard().nearest_aggregate(name.as_str());
        let help = near.map_or_else(
            || "see the table of aggregates in docs/functions.md".to_owned(),
            |n| format!("did you mean {n}?"),
        );
        c.push(
            Diagnostic::new("query/unknown-aggregate", format!("unknown aggregate {name}"))
                .at(head.span, "no such aggregate")
                .help(help),
        );
        return None;
    }
    let Some((last, before)) = args.split_last() else {
        complain(c, "query/aggregate", f, format!("{name} aggregates nothing"), format!("write ({name} ?x)"));
        return None;
    };
    let Some(var) = var_of(last) else {
        complain(
            c,
            "query/aggregate",
            last,
            "an aggregate ends with a variable",
            format!("write ({name} ?x)"),
        );
        return None;
    };
    let mut constants = Vec::new();
    for a in before {
        constants.push(match var_of(a) {
            Some(v) => v.map(AggArg::Var),
            None if a.as_symbol().is_some() || matches!(a.kind, FormKind::List(_)) => {
                complain(
                    c,
                    "query/aggregate",
                    a,
                    "an argument is a constant or a variable from :in",
                    "write a number",
                );
                return None;
            }
            None => Spanned::new(AggArg::Const(a.to_value()), a.span),
        });
    }
    if let Some(aggregate) = Library::standard().aggregate(name.as_str()) {
        let fixed: Option<Vec<Value>> = constants
            .iter()
            .map(|a| match &a.node {
                AggArg::Const(v) => Some(v.clone()),
                AggArg::Var(_) => None,
            })
            .collect();
        let wrong = match fixed {
            Some(values) => aggregate.check_args(&values).err(),
            None => None,
        };
        if let Some(e) = wrong {
            c.push(
                Diagnostic::new("query/aggregate", format!("{name}: {e}"))
                    .at(f.span, "this aggregate")
                    .help(format!("write {}", aggregate.usage)),
            );
            return None;
        }
    }
    Some(FindElem::Aggregate {
        name: Spanned::new(name.clone(), head.span),
        args: constants,
        var,
        span: f.span,
    })
}

fn pull_elem(f: &Form, args: &[Form], c: &mut Complaints) -> Option<FindElem> {
    let (src, rest) = match args.first().and_then(src_of) {
        Some(s) => (Some(s), &args[1..]),
        None => (None, args),
    };
    let [v, p] = rest else {
        complain(c, "query/find", f, "pull takes an entity and a pattern", "write (pull ?e [*])");
        return None;
    };
    let Some(var) = var_of(v) else {
        complain(c, "query/find", v, "pull needs a variable", "write (pull ?e [*])");
        return None;
    };
    let pattern = match p.as_symbol() {
        Some(s) if s.as_str() != "*" => PullArg::Input(Spanned::new(s.clone(), p.span)),
        _ => PullArg::Literal(Arc::new(pull::pattern(p, c)?)),
    };
    Some(FindElem::Pull { src, var, pattern, span: f.span })
}

pub(super) fn return_map(parts: &Parts<'_>, find: &Find, c: &mut Complaints) -> Option<ReturnMap> {
    let mut found: Option<ReturnMap> = None;
    for (key, kind) in [("keys", ReturnKind::Keys), ("strs", ReturnKind::Strs), ("syms", ReturnKind::Syms)] {
        let Some((at, forms)) = parts.get(key) else { continue };
        let mut complain_at = |what: String, help: &str| {
            c.push(Diagnostic::new("query/return-map", what).at(at, "here").help(help));
        };
        if found.is_some() {
            complain_at("only one of :keys, :strs and :syms".into(), "leave one of them out");
            continue;
        }
        if !matches!(find.spec, FindSpec::Rel | FindSpec::Tuple) {
            complain_at(
                format!(":{key} needs rows, and this :find gives single values"),
                "write :find ?a ?b",
            );
            continue;
        }
        if forms.len() != find.elems.len() {
            let what = format!("{} names for {} find elements", forms.len(), find.elems.len());
            complain_at(what, "give one name for each element of :find");
            continue;
        }
        let mut names = Vec::new();
        for f in forms {
            match f.as_symbol() {
                Some(s) => names.push(Spanned::new(s.clone(), f.span)),
                None => {
                    complain(c, "query/return-map", f, "a key is written as a symbol", "write :keys name age")
                }
            }
        }
        if names.len() == forms.len() {
            found = Some(ReturnMap { kind, names });
        }
    }
    found
}

pub(super) fn with(at: Span, forms: &[Form], find: &Find, c: &mut Complaints) -> Vec<Spanned<Var>> {
    let mut out: Vec<Spanned<Var>> = Vec::new();
    if forms.is_empty() {
        c.push(Diagnostic::new("query/with", ":with names no variable").at(at, "here").help("leave it out"));
    }
    for f in forms {
        let Some(v) = var_of(f) else {
            complain(c, "query/with", f, ":with holds variables", "write :with ?x");
            continue;
        };
        let in_find = find.elems.iter().any(|e| matches!(e, FindElem::Var(x) if x.node == v.node));
        if in_find || out.iter().any(|x| x.node == v.node) {
            let what = if in_find { "is in :find already" } else { "stands twice in :with" };
            c.push(
                Diagnostic::new("query/with", format!("{} {what}", v.node))
                    .at(v.span, "here")
                    .help("leave it out"),
            );
            continue;
        }
        out.push(v);
    }
    out
}
