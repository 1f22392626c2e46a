//! Pull patterns.
//!
//! ```text
//! pattern = [item+]
//! item    = * | attr | {key sub …} | [attr option …] | (attr option …)
//! key     = attr | [attr option …]        sub = pattern | n | ...
//! option  = :as value | :default value | :limit n | :limit nil | :xform name
//! ```
//! The older `(limit attr n)` and `(default attr v)` are read too.

use super::complain;
use crate::ast::{PullAttr, PullItem, PullLimit, PullPattern, PullSub, Spanned};
use crate::edn::{Form, FormKind};
use crate::error::Complaints;
use annals_model::{Diagnostic, Keyword, Value};

/// The options of an attribute, for messages.
const OPTIONS: [&str; 4] = ["as", "default", "limit", "xform"];

pub(super) fn pattern(f: &Form, c: &mut Complaints) -> Option<PullPattern> {
    let f = f.unquoted();
    let Some(items) = f.as_vector() else {
        complain(c, "pull/form", f, "a pull pattern is a vector", "write [:attribute …] or [*]");
        return None;
    };
    if items.is_empty() {
        complain(c, "pull/form", f, "an empty pull pattern", "write [*] for everything");
        return None;
    }
    let mut out = Vec::new();
    for item in items {
        match &item.kind {
            FormKind::Map(entries) => {
                if entries.is_empty() {
                    complain(
                        c,
                        "pull/form",
                        item,
                        "an empty map in a pattern",
                        "write {:attribute [pattern]}",
                    );
                }
                for (key, sub) in entries {
                    let Some(PullItem::Attr(mut attr)) = one(key, c) else {
                        if key.is_symbol("*") || key.as_keyword() == Some("db/id") {
                            complain(
                                c,
                                "pull/form",
                                key,
                                "only a reference can have a pattern below it",
                                "name an attribute",
                            );
                        }
                        continue;
                    };
                    if let Some(sub) = below(sub, c) {
                        attr.sub = sub;
                        out.push(PullItem::Attr(attr));
                    }
                }
            }
            _ => out.extend(one(item, c)),
        }
    }
    Some(PullPattern { items: out, span: f.span })
}

fn below(f: &Form, c: &mut Complaints) -> Option<PullSub> {
    match &f.kind {
        _ if f.is_symbol("...") => Some(PullSub::Recursion(None)),
        FormKind::Atom(Value::Long(n)) => match usize::try_from(*n) {
            Ok(n) if n > 0 => Some(PullSub::Recursion(Some(n))),
            _ => {
                complain(
                    c,
                    "pull/recursion",
                    f,
                    "a recursion goes at least one level deep",
                    "write a number from 1, or ...",
                );
                None
            }
        },
        _ => pattern(f, c).map(PullSub::Pattern),
    }
}

fn one(f: &Form, c: &mut Complaints) -> Option<PullItem> {
    if f.is_symbol("*") || matches!(f.as_atom(), Some(Value::String(s)) if &**s == "*") {
        return Some(PullItem::Wildcard(f.span));
    }
    if let Some(name) = f.as_keyword() {
        return Some(plain(f, name));
    }
    let Some(parts) = f.as_sequence().filter(|p| !p.is_empty()) else {
        let help = "write :attribute, *, {:attribute [pattern]} or [:attribute :limit 10]";
        complain(c, "pull/form", f, format!("a {} is no part of a pull pattern", f.noun()), help);
        return None;
    };
    match parts {
        [word, attr, n] if f.as_list().is_some() && word.is_symbol("limit") => {
            options(f, attr, &[(word, "limit", n)], c)
        }
        [word, attr, v] if f.as_list().is_some() && word.is_symbol("default") => {
            options(f, attr, &[(word, "default", v)], c)
        }
        [attr, rest @ ..] => {
            let mut named = Vec::new();
            for pair in rest.chunks(2) {
                let [word, value] = pair else {
                    complain(
                        c,
                        "pull/option",
                        &pair[0],
                        "an option without a value",
                        "options come in pairs",
                    );
                    return None;
                };
                match word.as_keyword() {
                    Some(name) => named.push((word, name, value)),
                    None => {
                        let known = OPTIONS.map(|o| format!(":{o}")).join(", ");
                        complain(
                            c,
                            "pull/option",
                            word,
                            "an option is a keyword",
                            format!("there are {known}"),
                        );
                        return None;
                    }
                }
            }
            options(f, attr, &named, c)
        }
        [] => None,
    }
}

fn plain(f: &Form, name: &str) -> PullItem {
    if name == "db/id" {
        return PullItem::Id { key: Value::keyword("db/id"), span: f.span };
    }
    let written = Keyword::new(name);
    let (attr, reverse) = match written.name().strip_prefix('_') {
        Some(forward) if !forward.is_empty() => (Keyword::from_parts(written.namespace(), forward), true),
        _ => (written.clone(), false),
    };
    PullItem::Attr(Box::new(PullAttr {
        attr: Spanned::new(attr, f.span),
        reverse,
        key: Value::Keyword(written),
        limit: PullLimit::Default,
        default: None,
        xform: None,
        sub: PullSub::None,
        span: f.span,
    }))
}

fn options(f: &Form, attr: &Form, named: &[(&Form, &str, &Form)], c: &mut Complaints) -> Option<PullItem> {
    let mut item = match attr.as_keyword() {
        Some(name) => plain(attr, name),
        // `[(limit :a 10) :as :b]` nests the older form.
        None if attr.as_sequence().is_some() => one(attr, c)?,
        None => {
            complain(c, "pull/form", attr, "options follow an attribute", "write [:attribute :limit 10]");
            return None;
        }
    };
    let mut ok = true;
    for (word, name, value) in named {
        let mut wrong = |what: String, help: &str| {
            c.push(Diagnostic::new("pull/option", what).at(value.span, "here").help(help));
            ok = false;
        };
        match (&mut item, *name) {
            (PullItem::Id { key, .. }, "as") => *key = value.to_value(),
            (PullItem::Attr(a), "as") => a.key = value.to_value(),
            (PullItem::Attr(a), "default") => a.default = Some(value.to_value()),
            (PullItem::Attr(a), "limit") => match value.as_atom() {
                Some(Value::Nil) => a.limit = PullLimit::All,
                Some(Value::Long(n)) if *n > 0 => a.limit = PullLimit::N(*n as usize),
                _ => wrong("a limit is a positive number, or nil for none".into(), "write :limit 10"),
            },
            (PullItem::Attr(a), "xform") => match value.unquoted().as_symbol() {
                Some(s) => a.xform = Some(Spanned::new(s.clone(), value.span)),
                None => wrong("an xform is the name of a function".into(), "write :xform upper-case"),
            },
            (PullItem::Id { .. }, "default" | "limit" | "xform") => {
                wrong(format!(":{name} says nothing about :db/id"), "only :as may follow it");
            }
            _ => {
                let near = annals_model::diagnostic::nearest(name, OPTIONS);
                let help = near.map_or_else(
                    || "there are :as, :default, :limit, :xform".to_owned(),
                    |n| format!("did you mean :{n}?"),
                );
                c.push(
                    Diagnostic::new("pull/option", format!("unknown option :{name}"))
                        .at(word.span, "here")
                        .help(help),
                );
                ok = false;
            }
        }
    }
    if let PullItem::Attr(a) = &mut item {
        a.span = f.span;
    }
    ok.then_some(item)
}
