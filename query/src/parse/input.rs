//! `:in`, and the rules that a query brings or names.

use super::{binding::binding, complain, rule};
use crate::ast::{Binding, Input, Rules, Spanned, Src, Var};
use crate::edn::{Form, FormKind};
use crate::error::Complaints;
use annals_model::{Diagnostic, Keyword};

pub(super) fn inputs(forms: &[Form], c: &mut Complaints) -> Vec<Spanned<Input>> {
    let mut out: Vec<Spanned<Input>> = Vec::new();
    for f in forms {
        let node = match f.as_symbol() {
            Some(s) if Src::of(s).is_some() => Src::of(s).map(Input::Src),
            Some(s) if s.as_str() == "%" => Some(Input::Rules),
            Some(s) if Var::of(s).is_none() && !["_", "...", "."].contains(&s.as_str()) => {
                Some(Input::Pattern(s.clone()))
            }
            Some(s) if s.as_str() == "_" => Some(Input::Binding(Binding::Blank)),
            _ if f.as_symbol().is_some() || f.as_vector().is_some() => {
                binding(f, c).map(|b| Input::Binding(b.node))
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

pub(super) fn stored_rules(forms: &[Form], c: &mut Complaints) -> Rules {
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
        out.inline = rule::rules(&set, c).unwrap_or_default();
    }
    out
}
