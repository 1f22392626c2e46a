//! `rules = [[(name var+ | name [var+] var* (fold const* var)* (:with var+)?) clause+]+]`.

use super::{clause, complain, var_of};
use crate::ast::{HeadFold, HeadVar, Rule, RuleSet, Spanned, Var};
use crate::edn::Form;
use crate::error::Complaints;
use crate::eval::function::Library;
use annals_model::{Diagnostic, Value};

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
    let (args, with) = match args.iter().position(|a| a.as_keyword() == Some("with")) {
        Some(at) => (&args[..at], with(&args[at], &args[at + 1..], c)),
        None => (args, Vec::new()),
    };
    let (mut required, mut free) = (Vec::new(), Vec::new());
    for (i, a) in args.iter().enumerate() {
        match a.as_vector() {
            Some(vars) if i == 0 => {
                for v in vars {
                    match var_of(v) {
                        Some(v) => required.push(v),
                        None if v.as_list().is_some() => complain(
                            c,
                            "query/rule",
                            v,
                            "what a call must have bound cannot be folded",
                            "put the fold after the vector: (name [?a] (min ?b))",
                        ),
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
    if !with.is_empty() && free.iter().all(|h: &HeadVar| h.fold.is_none()) {
        complain(
            c,
            "query/rule",
            head,
            format!("the rule {symbol} has :with and folds nothing"),
            "leave :with out, or fold a variable: (sum ?x)",
        );
    }
    let mut seen: Vec<&Spanned<Var>> = Vec::new();
    for v in required.iter().chain(free.iter().map(|h| &h.var)).chain(&with) {
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
        with,
        clauses,
        head: head.span,
        span: f.span,
    })
}

/// `?x`, or a fold `(min ?x)`, `(max 3 ?x)`.
fn head_var(f: &Form, c: &mut Complaints) -> Option<HeadVar> {
    if let Some(var) = var_of(f) {
        return Some(HeadVar { var, fold: None });
    }
    let Some([name, args @ .., v]) = f.as_list() else {
        complain(c, "query/rule", f, "a head holds variables", "write ?x, or bind the constant in the body");
        return None;
    };
    let (Some(symbol), Some(var)) = (name.as_symbol(), var_of(v)) else {
        complain(c, "query/rule", f, "a head holds variables and folds", "write ?x or (min ?x)");
        return None;
    };
    if let Some(odd) = args.iter().find(|a| a.as_symbol().is_some()) {
        complain(c, "query/rule", odd, "an argument of a fold is a constant", "write a number");
        return None;
    }
    let args: Vec<Spanned<Value>> = args.iter().map(|a| Spanned::new(a.to_value(), a.span)).collect();
    if let Some(aggregate) = Library::standard().aggregate(symbol.as_str()) {
        let values: Vec<Value> = args.iter().map(|a| a.node.clone()).collect();
        if let Err(e) = aggregate.check_args(&values) {
            c.push(
                Diagnostic::new("query/aggregate", format!("{symbol}: {e}"))
                    .at(f.span, "this fold")
                    .help(format!("write ({symbol} {})", aggregate.usage)),
            );
            return None;
        }
    }
    Some(HeadVar { var, fold: Some(HeadFold { name: Spanned::new(symbol.clone(), name.span), args }) })
}

/// The variables after `:with`.
fn with(at: &Form, forms: &[Form], c: &mut Complaints) -> Vec<Spanned<Var>> {
    if forms.is_empty() {
        complain(c, "query/rule", at, ":with names no variable", "leave it out");
    }
    let mut out = Vec::new();
    for f in forms {
        match var_of(f) {
            Some(v) => out.push(v),
            None => complain(
                c,
                "query/rule",
                f,
                ":with holds variables",
                "write :with ?x, at the end of the head",
            ),
        }
    }
    out
}

fn agree(rules: &[Rule], c: &mut Complaints) {
    for (i, r) in rules.iter().enumerate() {
        let Some(first) = rules[..i].iter().find(|o| o.name.node == r.name.node) else { continue };
        let folds = |a: &Rule, b: &Rule| {
            a.folds().zip(b.folds()).all(|pair| match pair {
                (None, None) => true,
                (Some(a), Some(b)) => a.agrees(b),
                _ => false,
            })
        };
        let same = first.arity() == r.arity() && first.required.len() == r.required.len();
        if !same || !folds(first, r) || first.with.len() != r.with.len() {
            c.push(
                Diagnostic::new(
                    "query/rule-heads",
                    format!("the definitions of {} do not agree", r.name.node),
                )
                .at(r.head, shape(r))
                .at(first.head, shape(first))
                .help("give all definitions the same number of variables, required ones, folds and :with"),
            );
        }
    }
}

/// A head in words.
fn shape(r: &Rule) -> String {
    let mut out = format!("{} variables, {} required", r.arity(), r.required.len());
    let folds: Vec<String> = r.folds().flatten().map(|f| f.name.to_string()).collect();
    if !folds.is_empty() {
        out.push_str(&format!(", folded by {}", folds.join(" ")));
    }
    if !r.with.is_empty() {
        out.push_str(&format!(", {} :with", r.with.len()));
    }
    out
}
