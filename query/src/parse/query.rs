//! The query: its parts in list or map form.

use super::{clause, complain, find, input, order};
use crate::ast::{Clause, FindElem, Input, Query, Rules, Spanned, Src};
use crate::edn::{Form, FormKind};
use crate::error::Complaints;
use annals_model::{Diagnostic, Span, diagnostic::nearest};

/// The parts of a query.
const KEYS: [&str; 13] = [
    "find", "keys", "strs", "syms", "with", "in", "where", "rules", "order-by", "limit", "offset", "timeout",
    "having",
];

/// The parts as written: key, its place, and its forms.
pub(super) struct Parts<'f>(Vec<(&'f str, Span, &'f [Form])>);

impl<'f> Parts<'f> {
    pub(super) fn get(&self, key: &str) -> Option<(Span, &'f [Form])> {
        self.0.iter().find(|(k, _, _)| *k == key).map(|(_, s, f)| (*s, *f))
    }
}

pub(super) fn query(f: &Form, c: &mut Complaints) -> Option<Query> {
    let f = f.unquoted();
    let parts = parts(f, c)?;
    let find = match parts.get("find").filter(|(_, forms)| !forms.is_empty()) {
        Some((at, forms)) => find::find(at, forms, c),
        None => {
            let at = parts.get("find").map_or(f.span, |(s, _)| s);
            c.push(
                Diagnostic::new("query/no-find", "the query finds nothing")
                    .at(at, "no :find")
                    .help("begin with :find ?x"),
            );
            None
        }
    };
    let clauses = parts.get("where").map_or_else(Vec::new, |(_, forms)| clause::clauses(forms, c));
    let rules = parts.get("rules").map_or_else(Rules::default, |(_, forms)| input::stored_rules(forms, c));
    let explicit = parts.get("in");
    let given = explicit.map(|(_, forms)| input::inputs(forms, c));
    let limit = order::number(&parts, "limit", c).map(order::count);
    let offset = order::number(&parts, "offset", c).map(order::count);
    let timeout_ms = order::number(&parts, "timeout", c);
    // What follows speaks of the columns, and would only echo a complaint about them.
    let find = find?;
    let ret = find::return_map(&parts, &find, c);
    let with = parts.get("with").map_or_else(Vec::new, |(at, forms)| find::with(at, forms, &find, c));
    let order_by =
        parts.get("order-by").map_or_else(Vec::new, |(at, forms)| order::order_by(at, forms, &find.elems, c));
    let having = parts.get("having").map_or_else(Vec::new, |(_, forms)| order::having(forms, &find.elems, c));
    let inputs = given.unwrap_or_else(|| {
        let reads = clauses.iter().any(Clause::reads_default) || find.elems.iter().any(pulls_from_default);
        let source = || Spanned::new(Input::Src(Src::default()), Span::default());
        reads.then(source).into_iter().collect()
    });
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
                    _ => {
                        let what = "a part of a query in map form is a vector";
                        complain(c, "query/form", v, what, "wrap it: [ … ]");
                        enter(k, std::slice::from_ref(v), c);
                    }
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
