//! The query: its parts in list or map form, `:find`, `:in`, and the extensions.

use super::{clause, complain, pull, rule, src_of, var_of};
use crate::ast::{
    AggArg, Clause, Find, FindElem, FindSpec, Having, HavingArg, Input, OrderKey, PullArg, Query, ReturnKind,
    ReturnMap, RuleSet, Rules, Spanned, Src, Var,
};
use crate::edn::{Form, FormKind};
use crate::error::Complaints;
use crate::eval::function::Library;
use annals_model::{Diagnostic, Keyword, Span, Value, diagnostic::nearest};
use std::sync::Arc;

/// The parts of a query.
const KEYS: [&str; 13] = [
    "find", "keys", "strs", "syms", "with", "in", "where", "rules", "order-by", "limit", "offset", "timeout",
    "having",
];

/// The parts as written: key, its place, and its forms.
struct Parts<'f>(Vec<(&'f str, Span, &'f [Form])>);

impl<'f> Parts<'f> {
    fn get(&self, key: &str) -> Option<(Span, &'f [Form])> {
        self.0.iter().find(|(k, _, _)| *k == key).map(|(_, s, f)| (*s, *f))
    }
}

pub(super) fn query(f: &Form, c: &mut Complaints) -> Option<Query> {
    let f = f.unquoted();
    let parts = parts(f, c)?;
    let Some((find_at, find_forms)) = parts.get("find").filter(|(_, forms)| !forms.is_empty()) else {
        let at = parts.get("find").map_or(f.span, |(s, _)| s);
        c.push(
            Diagnostic::new("query/no-find", "the query finds nothing")
                .at(at, "no :find")
                .help("begin with :find ?x"),
        );
        return None;
    };
    let clauses = parts.get("where").map_or_else(Vec::new, |(_, forms)| clause::clauses(forms, c));
    let rules = parts.get("rules").map_or_else(Rules::default, |(_, forms)| stored_rules(forms, c));
    let find = find(find_at, find_forms, c)?;
    let ret = return_map(&parts, &find, c);
    let with = parts.get("with").map_or_else(Vec::new, |(at, forms)| with(at, forms, &find, c));
    let reads = clauses.iter().any(Clause::reads_default) || find.elems.iter().any(pulls_from_default);
    let explicit = parts.get("in");
    let inputs = match explicit {
        Some((_, forms)) => inputs(forms, c),
        None if reads => vec![Spanned::new(Input::Src(Src::default()), Span::default())],
        None => Vec::new(),
    };
    let columns: Vec<&FindElem> = find.elems.iter().collect();
    let order_by =
        parts.get("order-by").map_or_else(Vec::new, |(at, forms)| order_by(at, forms, &columns, c));
    let having = parts.get("having").map_or_else(Vec::new, |(_, forms)| having(forms, &columns, c));
    let number = |key: &str, c: &mut Complaints| -> Option<Spanned<u64>> {
        let (at, forms) = parts.get(key)?;
        match forms {
            [n] => match n.as_atom() {
                Some(Value::Long(v)) if *v >= 0 => Some(Spanned::new(*v as u64, n.span)),
                _ => {
                    complain(
                        c,
                        "query/order",
                        n,
                        format!(":{key} takes a number from 0"),
                        format!("write :{key} 10"),
                    );
                    None
                }
            },
            _ => {
                c.push(Diagnostic::new("query/order", format!(":{key} takes one number")).at(at, "here"));
                None
            }
        }
    };
    let count = |n: Spanned<u64>| n.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let (limit, offset) = (number("limit", c).map(count), number("offset", c).map(count));
    let timeout_ms = number("timeout", c);
    Some(Query {
        find,
        ret,
        with,
        inputs,
        explicit_in: explicit.is_some(),
        clauses,
        rules,
        order_by,
        limit,
        offset,
        timeout_ms,
        having,
        span: f.span,
        text: None,
    })
}

fn pulls_from_default(e: &FindElem) -> bool {
    matches!(e, FindElem::Pull { src, .. } if src.as_ref().is_none_or(|s| s.is_default()))
}

fn parts<'f>(f: &'f Form, c: &mut Complaints) -> Option<Parts<'f>> {
    let mut out: Vec<(&str, Span, &[Form])> = Vec::new();
    let mut enter = |key: &'f Form, forms: &'f [Form], c: &mut Complaints| {
        let name = key.as_keyword().unwrap_or("");
        if !KEYS.contains(&name) {
            let help = nearest(name, KEYS).map_or_else(
                || format!("there are {}", KEYS.map(|k| format!(":{k}")).join(" ")),
                |n| format!("did you mean :{n}?"),
            );
            c.push(
                Diagnostic::new("query/unknown-key", format!(":{name} is no part of a query"))
                    .at(key.span, "unknown")
                    .help(help),
            );
        } else if out.iter().any(|(k, _, _)| *k == name) {
            c.push(
                Diagnostic::new("query/duplicate-key", format!(":{name} is given twice"))
                    .at(key.span, "again here"),
            );
        } else {
            out.push((name, key.span, forms));
        }
    };
    match &f.kind {
        FormKind::Vector(items) | FormKind::List(items) => {
            let starts: Vec<usize> = (0..items.len()).filter(|i| is_key(items, *i)).collect();
            if starts.first() != Some(&0) {
                let help = "write [:find ?x :where [?x :attribute]]";
                match items.first() {
                    Some(first) => {
                        complain(c, "query/form", first, "a query begins with a keyword, :find", help)
                    }
                    None => complain(c, "query/form", f, "an empty query", help),
                }
                return None;
            }
            for (n, start) in starts.iter().enumerate() {
                let end = starts.get(n + 1).copied().unwrap_or(items.len());
                enter(&items[*start], &items[start + 1..end], c);
            }
        }
        FormKind::Map(entries) => {
            for (k, v) in entries {
                if k.as_keyword().is_none() {
                    complain(
                        c,
                        "query/form",
                        k,
                        "the keys of a query are keywords",
                        "write {:find [?x] :where […]}",
                    );
                    continue;
                }
                let single = matches!(k.as_keyword(), Some("limit" | "offset" | "timeout"));
                match v.unquoted().as_sequence() {
                    Some(forms) if !single => enter(k, forms, c),
                    _ if single => enter(k, std::slice::from_ref(v), c),
                    _ => complain(
                        c,
                        "query/form",
                        v,
                        "a part of a query in map form is a vector",
                        "wrap it: [ … ]",
                    ),
                }
            }
        }
        _ => {
            let help = "write [:find ?x :where [?x :attribute]]";
            complain(c, "query/form", f, format!("a query is a vector or a map, not a {}", f.noun()), help);
            return None;
        }
    }
    Some(Parts(out))
}

/// Does a part of the list form begin here? A keyword does, unless it is within an
/// `:order-by` (`:asc`, `:desc`) or names stored rules.
fn is_key(items: &[Form], i: usize) -> bool {
    let Some(name) = items[i].as_keyword() else { return false };
    if KEYS.contains(&name) {
        return true;
    }
    let part = items[..i].iter().rev().find_map(|f| f.as_keyword().filter(|k| KEYS.contains(k)));
    !matches!(part, Some("order-by" | "rules"))
}

fn find(at: Span, forms: &[Form], c: &mut Complaints) -> Option<Find> {
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
    let elems: Vec<FindElem> = elems.iter().filter_map(|f| elem(f, c)).collect();
    if elems.is_empty() { None } else { Some(Find { spec, elems, span }) }
}

fn elem(f: &Form, c: &mut Complaints) -> Option<FindElem> {
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
            || "see the table of aggregates in docs/query.md".to_owned(),
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

fn return_map(parts: &Parts<'_>, find: &Find, c: &mut Complaints) -> Option<ReturnMap> {
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

fn with(at: Span, forms: &[Form], find: &Find, c: &mut Complaints) -> Vec<Spanned<Var>> {
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

fn inputs(forms: &[Form], c: &mut Complaints) -> Vec<Spanned<Input>> {
    let mut out: Vec<Spanned<Input>> = Vec::new();
    for f in forms {
        let node = match f.as_symbol() {
            Some(s) if Src::of(s).is_some() => Src::of(s).map(Input::Src),
            Some(s) if s.as_str() == "%" => Some(Input::Rules),
            Some(s) if Var::of(s).is_none() && !["_", "...", "."].contains(&s.as_str()) => {
                Some(Input::Pattern(s.clone()))
            }
            Some(s) if s.as_str() == "_" => Some(Input::Binding(crate::ast::Binding::Blank)),
            _ if f.as_symbol().is_some() || f.as_vector().is_some() => {
                clause::binding(f, c).map(|b| Input::Binding(b.node))
            }
            _ => {
                complain(
                    c,
                    "query/in",
                    f,
                    format!("a {} cannot be an input", f.noun()),
                    "write $, %, ?x, [?x ...] or [[?a ?b]]",
                );
                None
            }
        };
        out.extend(node.map(|n| Spanned::new(n, f.span)));
    }
    let mut seen: Vec<String> = Vec::new();
    for i in &out {
        let names: Vec<String> = match &i.node {
            Input::Src(s) => vec![s.to_string()],
            Input::Rules => vec!["%".to_owned()],
            Input::Binding(b) => b.vars().iter().map(ToString::to_string).collect(),
            Input::Pattern(s) => vec![s.to_string()],
        };
        for n in names {
            if seen.contains(&n) {
                c.push(
                    Diagnostic::new("query/duplicate-var", format!("{n} stands twice in :in"))
                        .at(i.span, "again here"),
                );
            }
            seen.push(n);
        }
    }
    out
}

fn stored_rules(forms: &[Form], c: &mut Complaints) -> Rules {
    // `:rules [[(r ?x) …] :stored/set]` in map form arrives without its outer vector.
    let forms = match forms {
        [one]
            if one.as_vector().is_some_and(|items| {
                items.iter().all(|i| i.as_vector().is_some() || i.as_keyword().is_some())
            }) =>
        {
            one.as_vector().unwrap_or_default()
        }
        other => other,
    };
    let mut out = Rules::default();
    let mut inline = Vec::new();
    for f in forms {
        match f.as_keyword() {
            Some(name) => out.stored.push(Spanned::new(Keyword::new(name), f.span)),
            None => inline.push(f.clone()),
        }
    }
    if !inline.is_empty() {
        let span = inline.iter().fold(inline[0].span, |s, f| s.to(f.span));
        let set = Form { kind: FormKind::Vector(inline), span };
        out.inline = rule::rules(&set, c).unwrap_or_else(RuleSet::default);
    }
    out
}

/// The column that a form names: a find variable, an element written again, or a number.
fn column(f: &Form, columns: &[&FindElem], c: &mut Complaints) -> Option<usize> {
    if let Some(Value::Long(n)) = f.as_atom() {
        return usize::try_from(*n).ok().filter(|n| *n < columns.len());
    }
    if let Some(v) = var_of(f) {
        return columns.iter().position(|e| matches!(e, FindElem::Var(x) if x.node == v.node));
    }
    f.as_list()?;
    let mut quiet = Complaints::default();
    let written = elem(f, &mut quiet)?;
    let _ = c;
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

fn order_by(at: Span, forms: &[Form], columns: &[&FindElem], c: &mut Complaints) -> Vec<OrderKey> {
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
            _ => match column(f, columns, c) {
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

fn having(forms: &[Form], columns: &[&FindElem], c: &mut Complaints) -> Vec<Having> {
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
                match column(a, columns, c) {
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
