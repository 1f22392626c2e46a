//! Folds through recursion: which have a meaning.
//!
//! A rule that folds and leads back to itself is computed by improving: the best value
//! so far of each group is used in the bodies, and a better one replaces it. The result is
//! the one least fixpoint if using a better value never loses an answer (Ross and Sagiv,
//! "Monotonic aggregation in deductive databases", 1992; the meet aggregates of later
//! systems). So within its own recursion a folded value may only
//!
//! 1. pass through functions whose result gets better with it (`+`, `inc`, the first
//!    argument of `-`, `conj` on a path, …), or worse in a known way (the second of `-`);
//! 2. be compared on the side on which a better value stays good: `(< ?d 10)` under `min`;
//! 3. be folded again in a head by the fold that goes its way.
//!
//! Everything else (joining on it, negating it, keeping it in a plain head variable) would
//! depend on values that are not final: such rules are refused with the place and the reason.
//! Only `min`, `max` and `shortest` keep one of their values; others are refused in recursion.

use super::Resolver;
use super::rules::Graph;
use crate::ast::{Binding, Call, Clause, Expr, Rule, Spanned, Term, Var};
use crate::eval::aggregate::Best;
use crate::eval::function::Library;
use annals_model::{Diagnostic, Span, Symbol, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which way a value moves as the search goes on.
type Way = Best;

/// Down for what goes up, and the reverse; paths have no reverse.
fn reverse(way: Way) -> Option<Way> {
    match way {
        Best::Min => Some(Best::Max),
        Best::Max => Some(Best::Min),
        Best::Shortest => None,
    }
}

/// The fold of a head variable that keeps one of its values.
pub(super) fn best_of(rule: &Rule, column: usize) -> Option<Best> {
    let fold = rule.folds().nth(column).flatten()?;
    let args: Vec<Value> = fold.args.iter().map(|a| a.node.clone()).collect();
    Best::of(fold.name.as_str(), &args)
}

impl Resolver<'_> {
    /// Complains about folds that are unknown, and about recursive ones without a meaning.
    pub(super) fn check_folds(&mut self) {
        let all: Vec<(Symbol, Vec<(&Rule, bool)>)> =
            self.graph.rules.iter().map(|(n, r)| (n.clone(), r.clone())).collect();
        for (name, defs) in &all {
            let recursive = self.graph.is_recursive(name);
            for (rule, own) in defs {
                self.rule = (!own).then(|| name.clone());
                self.check_heads(name, rule, recursive);
                if recursive && self.component_folds(name) {
                    for (what, at, here) in complaints(&self.graph, self.library, name, rule) {
                        let d = Diagnostic::new("query/not-monotone", what).help(
                            "within its own recursion a folded value may be added to, compared where a better \
                             one stays good, and folded again; do everything else in a rule outside of it",
                        );
                        self.error(d, at, here);
                    }
                }
            }
        }
        self.rule = None;
    }

    /// Does any rule of the component fold?
    fn component_folds(&self, name: &Symbol) -> bool {
        let c = self.graph.component(name);
        self.graph.rules.iter().any(|(n, defs)| self.graph.component(n) == c && defs[0].0.is_folded())
    }

    fn check_heads(&mut self, name: &Symbol, rule: &Rule, recursive: bool) {
        for (column, fold) in rule.folds().enumerate() {
            let Some(fold) = fold else { continue };
            let known = self.library.aggregate(fold.name.as_str()).map(|a| {
                let args: Vec<Value> = fold.args.iter().map(|a| a.node.clone()).collect();
                (a.check_args(&args), a.usage.clone())
            });
            match known {
                None => {
                    let mut d = Diagnostic::new(
                        "query/unknown-aggregate",
                        format!("unknown aggregate {}", fold.name.node),
                    );
                    if let Some(near) = self.library.nearest_aggregate(fold.name.as_str()) {
                        d = d.help(format!("did you mean {near}?"));
                    }
                    self.error(d, fold.name.span, "not an aggregate");
                    continue;
                }
                Some((Err(e), usage)) => {
                    let d = Diagnostic::new("query/aggregate", format!("{}: {e}", fold.name.node))
                        .help(format!("write ({} {usage})", fold.name.node));
                    self.error(d, fold.name.span, "this fold");
                    continue;
                }
                Some((Ok(()), _)) => {}
            }
            if recursive && best_of(rule, column).is_none() {
                let cycle = self.graph.cycle(name);
                let d = Diagnostic::new(
                    "query/not-stratified",
                    format!("rule {name} depends on its own {}: {cycle}", fold.name.node),
                )
                .help(
                    "only (min ?x), (max ?x) and (shortest ?x) may stand in a recursion; take the others out \
                     of it: fold in a rule that does not lead back to itself",
                );
                self.error(d, fold.name.span, "folded within its own recursion");
            }
        }
    }
}

/// Alternatives of one definition beyond which it is refused instead of looked through.
const MAX_ALTERNATIVES: usize = 1_000;

type Complaint = (String, Span, &'static str);

/// What is wrong with the folded values of a definition.
fn complaints(graph: &Graph<'_>, library: &Library, name: &Symbol, rule: &Rule) -> Vec<Complaint> {
    let Some(bodies) = alternatives(graph, name, rule.clauses.iter().collect()) else {
        let what = format!("rule {name} has more than {MAX_ALTERNATIVES} alternatives in its recursion");
        return vec![(what, rule.head, "write several definitions")];
    };
    let mut out: Vec<Complaint> = Vec::new();
    for body in bodies {
        for c in Values::of(graph, library, name, rule, body).complaints() {
            if !out.contains(&c) {
                out.push(c);
            }
        }
    }
    out
}

/// The body once for each branch of every `or` that leads back into the recursion; none when
/// there are too many.
fn alternatives<'a>(graph: &Graph<'_>, name: &Symbol, body: Vec<&'a Clause>) -> Option<Vec<Vec<&'a Clause>>> {
    let (mut done, mut left) = (Vec::new(), vec![body]);
    while let Some(body) = left.pop() {
        let back = |c: &&Clause| matches!(c, Clause::Or(_)) && leads_back(graph, name, c);
        match body.iter().position(back) {
            None => done.push(body),
            Some(at) => {
                let Clause::Or(o) = body[at] else { continue };
                for b in o.branches.iter().rev() {
                    let others = body.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, c)| *c);
                    left.push(others.chain(&b.clauses).collect());
                }
            }
        }
        if done.len() + left.len() > MAX_ALTERNATIVES {
            return None;
        }
    }
    Some(done)
}

fn leads_back(graph: &Graph<'_>, name: &Symbol, c: &Clause) -> bool {
    match c {
        Clause::Rule(call) => graph.component(&call.name.node) == graph.component(name),
        Clause::Or(o) => o.branches.iter().flat_map(|b| &b.clauses).any(|c| leads_back(graph, name, c)),
        _ => false,
    }
}

/// The values of one body that may still get better, and what happens to them.
struct Values<'a> {
    graph: &'a Graph<'a>,
    library: &'a Library,
    name: &'a Symbol,
    rule: &'a Rule,
    body: Vec<&'a Clause>,
    /// Variables that hold such values, and which way they move.
    moving: BTreeMap<&'a Var, Way>,
    complaints: Vec<Complaint>,
}

impl<'a> Values<'a> {
    fn of(
        graph: &'a Graph<'a>,
        library: &'a Library,
        name: &'a Symbol,
        rule: &'a Rule,
        body: Vec<&'a Clause>,
    ) -> Values<'a> {
        Values { graph, library, name, rule, body, moving: BTreeMap::new(), complaints: Vec::new() }
    }

    fn complain(&mut self, v: &Var, what: &str, at: Span, here: &'static str) {
        let text = format!("in rule {}, {v} may still get better: {what}", self.name);
        if self.complaints.iter().all(|(had, ..)| *had != text) {
            self.complaints.push((text, at, here));
        }
    }

    fn complaints(mut self) -> Vec<Complaint> {
        let body = self.body.clone();
        self.gather(&body);
        // A function makes one moving value of others; the order of writing has no meaning.
        loop {
            let before = self.moving.len();
            self.derive(&body);
            if self.moving.len() == before {
                break;
            }
        }
        if !self.moving.is_empty() {
            body.iter().for_each(|c| self.uses(c));
            self.head();
        }
        self.complaints
    }

    /// What a call reads from the recursion: the fold of each column; none for other rules.
    fn folds_of(&self, name: &Symbol) -> Option<Vec<Option<Way>>> {
        let defs = self.graph.rules.get(name)?;
        let same = self.graph.component(name) == self.graph.component(self.name);
        same.then(|| (0..defs[0].0.arity()).map(|i| best_of(defs[0].0, i)).collect())
    }

    /// The variables that recursive calls bind to folded values.
    fn gather(&mut self, clauses: &[&'a Clause]) {
        for c in clauses {
            match c {
                Clause::Rule(call) => {
                    let Some(folds) = self.folds_of(&call.name.node) else { continue };
                    for (arg, way) in call.args.iter().zip(folds) {
                        let Some(way) = way else { continue };
                        match &arg.node {
                            Term::Var(v) => {
                                let had = *self.moving.entry(v).or_insert(way);
                                if had != way || self.bound(v) > 1 {
                                    self.complain(
                                        v,
                                        "it cannot be joined on",
                                        arg.span,
                                        "bound elsewhere too",
                                    );
                                }
                            }
                            Term::Const(c) => {
                                let what = format!(
                                    "in rule {}, {} may still get better than {}",
                                    self.name,
                                    call.name.node,
                                    crate::edn::print(c)
                                );
                                self.complaints.push((what, arg.span, "compared before it is final"));
                            }
                            Term::Blank | Term::Src(_) => {}
                        }
                    }
                }
                Clause::Or(_)
                | Clause::Not(_)
                | Clause::Pattern(_)
                | Clause::Predicate(_)
                | Clause::Function(..) => {}
            }
        }
    }

    /// The variables that functions of moving values bind.
    fn derive(&mut self, clauses: &[&'a Clause]) {
        for c in clauses {
            if let Clause::Function(call, b) = c
                && let (Binding::Var(to), Some(Ok(way))) = (&b.node, self.result(call))
                && !self.moving.contains_key(to)
            {
                self.moving.insert(to, way);
            }
        }
    }

    fn way(&self, t: &Spanned<Term>) -> Option<Way> {
        t.as_var().and_then(|v| self.moving.get(v).copied())
    }

    /// Which way the result of a call moves, if a moving value goes into it; or where it
    /// cannot be said.
    fn result(&self, call: &Call) -> Option<Result<Way, &'static str>> {
        if !call.expr.vars().any(|v| self.moving.contains_key(v.node)) {
            return None;
        }
        const UNKNOWN: &str = "this function is not known to keep its order";
        let Expr::Call { name, args } = &call.expr else { return Some(Err(UNKNOWN)) };
        // What is known of the standard functions does not hold for one registered in their place.
        let standard = Library::standard().function(name.as_str());
        let Some(f) =
            standard.filter(|s| self.library.function(name.as_str()).is_some_and(|f| Arc::ptr_eq(f, s)))
        else {
            return Some(Err(UNKNOWN));
        };
        let mut all: Option<Way> = None;
        for (i, a) in args.iter().enumerate() {
            let Some(way) = self.way(a) else { continue };
            let others = || args.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, a)| a);
            let moved = match (&*f.name, way) {
                ("identity", way) => Some(way),
                ("+" | "inc" | "dec" | "min" | "max", Best::Min | Best::Max) => Some(way),
                ("-", _) if i > 0 || args.len() == 1 => reverse(way),
                ("-", Best::Min | Best::Max) => Some(way),
                ("*", Best::Min | Best::Max) => match others().map(sign).collect::<Option<Vec<bool>>>() {
                    Some(signs) if signs.iter().filter(|negative| **negative).count() % 2 == 1 => {
                        reverse(way)
                    }
                    Some(_) => Some(way),
                    None => return Some(Err("it is multiplied by what may be negative")),
                },
                ("conj", Best::Shortest) if i == 0 => Some(way),
                ("count", Best::Shortest) => Some(Best::Min),
                _ => return Some(Err(UNKNOWN)),
            };
            match (moved, all) {
                (None, _) => return Some(Err("this function turns its order around")),
                (Some(way), None) => all = Some(way),
                (Some(way), Some(had)) if way == had => {}
                _ => return Some(Err("it meets a value that moves the other way")),
            }
        }
        all.map(Ok)
    }

    /// Every clause that a moving value stands in must bear it.
    fn uses(&mut self, c: &'a Clause) {
        match c {
            Clause::Rule(call) => {
                let folds = self.folds_of(&call.name.node).unwrap_or_default();
                for (i, a) in call.args.iter().enumerate() {
                    let folded = folds.get(i).copied().flatten().is_some();
                    if let (Some(v), Some(_), false) = (a.as_var(), self.way(a), folded) {
                        self.complain(
                            v,
                            "no other rule can be asked for it",
                            a.span,
                            "used before it is final",
                        );
                    }
                }
            }
            Clause::Function(call, b) => {
                if let Some(Err(why)) = self.result(call)
                    && let Some(v) = call.expr.vars().find(|v| self.moving.contains_key(v.node))
                {
                    self.complain(v.node, why, call.span, "used before it is final");
                }
                self.binding(call, b);
            }
            Clause::Predicate(call) => self.test(call),
            Clause::Or(_) | Clause::Pattern(_) | Clause::Not(_) => {
                let mut found = None;
                c.for_each_var(&mut |v, at| {
                    if self.moving.contains_key(v) && found.is_none() {
                        found = Some((v, at));
                    }
                });
                if let Some((v, at)) = found {
                    let what = match c {
                        Clause::Not(_) => "it cannot be negated",
                        Clause::Or(_) => "it cannot be asked for in an or that leads elsewhere",
                        _ => "no fact can be matched with it",
                    };
                    self.complain(v, what, at, "used before it is final");
                }
            }
        }
    }

    /// A moving value is bound in one place only.
    fn binding(&mut self, call: &'a Call, b: &'a Spanned<Binding>) {
        let made = matches!(self.result(call), Some(Ok(_)));
        if made && let Binding::Var(v) = &b.node {
            let v: &Var = v;
            if self.bound(v) > 1 {
                self.complain(
                    v,
                    "it is bound elsewhere too, and would be compared",
                    b.span,
                    "bound again here",
                );
            }
            return;
        }
        let mut again = None;
        b.for_each_var(&mut |v, at| {
            if self.moving.contains_key(v) {
                again = Some((v, at));
            }
        });
        match again {
            Some((v, at)) => {
                self.complain(v, "it is bound elsewhere too, and would be compared", at, "bound again here")
            }
            None if made && !matches!(b.node, Binding::Blank) => {
                if let Some(v) = call.expr.vars().find(|v| self.moving.contains_key(v.node)) {
                    self.complain(v.node, "the result must go to one variable", b.span, "taken apart here");
                }
            }
            None => {}
        }
    }

    /// In how many places recursive calls and functions bind a variable.
    fn bound(&self, v: &Var) -> usize {
        let places = self.body.iter().map(|c| match c {
            Clause::Rule(call) => {
                let folds = self.folds_of(&call.name.node).unwrap_or_default();
                call.args.iter().zip(folds).filter(|(a, f)| f.is_some() && a.as_var() == Some(v)).count()
            }
            Clause::Function(_, b) => usize::from(b.vars().contains(&v)),
            Clause::Or(_) | Clause::Pattern(_) | Clause::Predicate(_) | Clause::Not(_) => 0,
        });
        places.sum()
    }

    /// A comparison keeps what it let through when its moving side gets better.
    fn test(&mut self, call: &'a Call) {
        let moving: Vec<Spanned<&Var>> =
            call.expr.vars().filter(|v| self.moving.contains_key(v.node)).collect();
        let Some(first) = moving.first() else { return };
        let ordered = match &call.expr {
            Expr::Call { name, args } => match name.as_str() {
                "<" | "<=" => Some((args, Best::Min, Best::Max)),
                ">" | ">=" => Some((args, Best::Max, Best::Min)),
                _ => None,
            },
            _ => None,
        };
        let Some((args, at_first, at_last)) = ordered else {
            self.complain(
                first.node,
                "this test may change its mind",
                call.span,
                "tested before it is final",
            );
            return;
        };
        for (i, a) in args.iter().enumerate() {
            let (Some(way), Some(v)) = (self.way(a), a.as_var()) else { continue };
            let good = (i == 0 && way == at_first) || (i + 1 == args.len() && way == at_last);
            if !good || args.len() < 2 {
                self.complain(v, "a better value may fail this test", call.span, "tested before it is final");
            }
        }
    }

    fn head(&mut self) {
        for (i, v) in self.rule.head_vars().enumerate() {
            let Some(way) = self.moving.get(&v.node).copied() else { continue };
            match best_of(self.rule, i) {
                Some(fold) if fold == way => {}
                Some(_) => self.complain(&v.node, "this fold goes the other way", v.span, "folded here"),
                None => self.complain(&v.node, "the head must fold it", v.span, "kept here"),
            }
        }
    }
}

/// Whether a constant is negative; none for what is no number, and for variables.
fn sign(t: &Spanned<Term>) -> Option<bool> {
    match t.as_const()? {
        Value::Long(n) => Some(*n < 0),
        Value::Double(d) => Some(*d < 0.0),
        Value::BigInt(n) => Some(n.to_string().starts_with('-')),
        Value::BigDec(n) => Some(n.to_string().starts_with('-')),
        _ => None,
    }
}
