//! `rules = [[(name var+ | name [var+] var*) clause+]+]`.

use super::{clause, complain, var_of};
use crate::ast::{HeadVar, Rule, RuleSet, Spanned};
use crate::edn::Form;
use crate::error::Complaints;
use annals_model::{Diagnostic, Symbol};

/// Names that mean something else where a rule could be called.
const RESERVED: [&str; 5] = ["not", "not-join", "or", "or-join", "and"];

pub(super) fn rules(f: &Form, c: &mut Complaints) -> Option<RuleSet> {
    let Some(items) = f.unquoted().as_sequence() else {
        complain(c, "query/rule", f, "a rule set is a vector of rules", "write [[(name ?x) clause …] …]");
        return None;
    };
    // A single definition is taken for the set of it.
    let single = items.first().is_some_and(|i| i.as_list().is_some());
    let defs: Vec<&Form> = if single { vec![f] } else { items.iter().collect() };
    let rules: Vec<Rule> = defs.into_iter().filter_map(|d| rule(d, c)).collect();
    agree(&rules, c);
    Some(RuleSet { rules, text: None })
}

fn rule(f: &Form, c: &mut Complaints) -> Option<Rule> {
    let shape = "a rule is [(name ?x …) clause …]";
    let Some([head, body @ ..]) = f.as_sequence() else {
        complain(c, "query/rule", f, shape, "begin with the head in parentheses");
        return None;
    };
    let Some([name, args @ ..]) = head.as_sequence() else {
        complain(c, "query/rule", head, shape, "the head is a list: a name, then variables");
        return None;
    };
    let Some(symbol) = name.as_symbol().filter(|s| !s.as_str().starts_with(['?', '$', '%'])) else {
        complain(c, "query/rule", name, "a rule's name is a plain symbol", "write (name ?x)");
        return None;
    };
    if RESERVED.contains(&symbol.as_str()) {
        complain(
            c,
            "query/rule",
            name,
            format!("{symbol} cannot be the name of a rule"),
            "choose another name",
        );
        return None;
    }
    if body.is_empty() {
        complain(c, "query/rule", f, format!("the rule {symbol} has no clauses"), "say when it holds");
        return None;
    }
    let (mut required, mut free) = (Vec::new(), Vec::new());
    for (i, a) in args.iter().enumerate() {
        match a.as_vector() {
            Some(vars) if i == 0 => {
                for v in vars {
                    match var_of(v) {
                        Some(v) => required.push(v),
                        None => complain(c, "query/rule", v, "a head holds variables", "write ?x"),
                    }
                }
                if vars.is_empty() {
                    complain(c, "query/rule", a, "no required variables", "leave out the empty vector");
                }
            }
            _ => free.extend(head_var(a, c)),
        }
    }
    if args.is_empty() {
        complain(
            c,
            "query/rule",
            head,
            format!("the rule {symbol} has no variables"),
            "a head needs at least one",
        );
    }
    let mut seen: Vec<&Spanned<crate::ast::Var>> = Vec::new();
    for v in required.iter().chain(free.iter().map(|h: &HeadVar| &h.var)) {
        if seen.iter().any(|s| s.node == v.node) {
            c.push(
                Diagnostic::new("query/duplicate-var", format!("{} stands twice in the head", v.node))
                    .at(v.span, "again here")
                    .help("use two names, and [(= ?a ?b)] in the body"),
            );
        }
        seen.push(v);
    }
    let clauses = clause::clauses(body, c);
    Some(Rule {
        name: Spanned::new(symbol.clone(), name.span),
        required,
        free,
        clauses,
        head: head.span,
        span: f.span,
    })
}

/// `?x`, or a fold `(min ?x)`.
fn head_var(f: &Form, c: &mut Complaints) -> Option<HeadVar> {
    if let Some(var) = var_of(f) {
        return Some(HeadVar { var, fold: None });
    }
    if let Some([fold, v]) = f.as_list()
        && let (Some(name), Some(var)) = (fold.as_symbol(), var_of(v))
        && ["min", "max", "shortest"].contains(&name.as_str())
    {
        return Some(HeadVar { var, fold: Some(Spanned::new(name.clone(), fold.span)) });
    }
    complain(c, "query/rule", f, "a head holds variables", "write ?x, or bind the constant in the body");
    None
}

fn agree(rules: &[Rule], c: &mut Complaints) {
    for (i, r) in rules.iter().enumerate() {
        let Some(first) = rules[..i].iter().find(|o| o.name.node == r.name.node) else { continue };
        let folds = |r: &Rule| -> Vec<Option<Symbol>> {
            r.free.iter().map(|h| h.fold.as_ref().map(|f| f.node.clone())).collect()
        };
        if first.arity() != r.arity() || first.required.len() != r.required.len() || folds(first) != folds(r)
        {
            c.push(
                Diagnostic::new(
                    "query/rule-heads",
                    format!("the definitions of {} do not agree", r.name.node),
                )
                .at(r.head, format!("{} variables, {} required", r.arity(), r.required.len()))
                .at(first.head, format!("{} variables, {} required", first.arity(), first.required.len()))
                .help("give all definitions the same number of variables and the same required ones"),
            );
        }
    }
}
