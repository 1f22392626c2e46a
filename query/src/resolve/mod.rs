//! From the tree of a query to its resolved form: names to numbers, attributes
//! and idents to ids, rules written out, scopes flat. All complaints of this
//! stage are gathered and reported together.
//!
//! 1. A rule that does not lead back to itself is replaced by its definitions
//!    (an `or` when there are several), each in a fresh scope; constants in the
//!    call stand in the body where the head variable stood.
//! 2. What a literal or an input means depends on where it stands: idents,
//!    lookup refs and numbers are entities only in entity places. An input used
//!    in such a place gets a second variable, what it means there.
//!
//! Not here: reading data. Lookup refs are answered when the query runs.

mod call;
pub(crate) mod check;
mod fold;
pub(crate) mod ir;
mod literal;
mod monotone;
mod nest;
mod param;
mod rules;
mod term;
mod types;
mod varset;
mod whole;

pub(crate) use literal::{fit, tx_entity};
pub(crate) use varset::VarSet;

use crate::ast::{self, Clause as Ast, Spanned, Src, Var as Name};
use crate::eval::function::Library;
use crate::eval::rel::Var;
use annals_model::{Diagnostic, Span, Symbol, Value};
use ir::*;
use rules::{Graph, exported};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Clauses a query may have once its rules are written out.
const MAX_CLAUSES: usize = 20_000;
/// Clauses after which further rules are called instead of written out: rules that share
/// rules could otherwise grow exponentially.
const MAX_WRITTEN_OUT: usize = 400;
/// Depth to which calls of rules are written out.
const MAX_INLINE: usize = 32;
/// Complaints shown that say the same: a mistake may stand in every clause of a long query.
const MAX_ALIKE: usize = 20;
/// Bodies within bodies, in the query and in rules written out: fewer than a run can take, so
/// that the complaint has a place.
const MAX_NESTING: usize = crate::eval::MAX_DEPTH as usize - 8;

/// Resolves a query against these sources (by name, in order of slots) and rule
/// sets. The flag of a rule set says that its spans point into the query's text.
pub(crate) fn resolve(
    query: &ast::Query,
    slots: &[(Src, SlotKind)],
    sets: &[(&ast::RuleSet, bool)],
    library: &Library,
) -> Result<Resolved, Vec<Diagnostic>> {
    let graph = Graph::new(sets);
    let mut r = Resolver {
        slots,
        library,
        default: Src::default(),
        errors: graph.stratify(),
        graph,
        names: Vec::new(),
        warnings: Vec::new(),
        preds: Vec::new(),
        known: BTreeMap::new(),
        params: param::Params::default(),
        raw: HashSet::new(),
        types: types::Types::default(),
        meant: BTreeMap::new(),
        pending: Vec::new(),
        depth: 0,
        nesting: 0,
        count: 0,
        rule: None,
    };
    if !r.errors.is_empty() {
        return Err(capped(r.errors));
    }
    r.check_folds();
    if !r.errors.is_empty() {
        return Err(capped(r.errors));
    }
    r.params = param::Params::of(&r.graph);
    let out = r.query(query);
    if r.errors.is_empty() { Ok(out) } else { Err(capped(r.errors)) }
}

/// The complaints that are shown: of those that say the same in many places the first
/// [`MAX_ALIKE`], and how many more there are.
fn capped(errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut alike: HashMap<(&'static str, String), (usize, usize)> = HashMap::new();
    let mut shown: Vec<Diagnostic> = Vec::new();
    for d in errors {
        let (n, last) = alike.entry((d.code, d.message.clone())).or_default();
        *n += 1;
        if *n <= MAX_ALIKE {
            *last = shown.len();
            shown.push(d);
        }
    }
    for (n, last) in alike.into_values().filter(|(n, _)| *n > MAX_ALIKE) {
        let more = format!("… and {} more like this", n - MAX_ALIKE);
        let d = &mut shown[last];
        d.help = Some(d.help.take().map_or(more.clone(), |help| format!("{help} ({more})")));
    }
    shown
}

/// What a name means within a scope.
#[derive(Clone, Debug)]
enum Entry {
    Var(Var),
    /// A head variable of a rule written out, called with a constant.
    Const(Value),
}

type Scope = BTreeMap<Name, Entry>;

struct Resolver<'a> {
    slots: &'a [(Src, SlotKind)],
    library: &'a Library,
    default: Src,
    graph: Graph<'a>,
    names: Vec<Arc<str>>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    preds: Vec<Predicate>,
    /// The predicates of rules, by their source and by the arguments that are handed over as given.
    known: BTreeMap<(Symbol, Src, Vec<bool>), Pred>,
    /// What the parameters of rules are for.
    params: param::Params,
    /// Variables whose values come from outside and mean what their place says.
    raw: HashSet<Var>,
    types: types::Types,
    /// The variable that stands for a raw one in places of one meaning.
    meant: BTreeMap<(Var, String), Var>,
    /// Clauses that compute those.
    pending: Vec<Clause>,
    depth: usize,
    /// Bodies within bodies, rules written out included.
    nesting: usize,
    count: usize,
    /// The rule being resolved whose text is not the query's.
    rule: Option<Symbol>,
}

impl<'a> Resolver<'a> {
    fn error(&mut self, d: Diagnostic, span: Span, here: &str) {
        let d = match &self.rule {
            None => d.at(span, here),
            Some(rule) => d.path(format!("rule {rule}")),
        };
        if !self.errors.contains(&d) {
            self.errors.push(d);
        }
    }

    fn fresh(&mut self, name: &str) -> Var {
        self.names.push(name.into());
        (self.names.len() - 1) as Var
    }

    fn name(&self, v: Var) -> &str {
        &self.names[v as usize]
    }

    fn enter(&mut self, scope: &mut Scope, name: &Name) -> Entry {
        if let Some(e) = scope.get(name) {
            return e.clone();
        }
        let e = Entry::Var(self.fresh(name.as_str()));
        scope.insert(name.clone(), e.clone());
        e
    }

    /// The variable of a name, for places where a constant cannot stand: a constant
    /// gets a variable of its own and a clause that grounds it.
    fn var(&mut self, scope: &mut Scope, name: &Name, extra: &mut Vec<Clause>) -> Var {
        match self.enter(scope, name) {
            Entry::Var(v) => v,
            Entry::Const(c) => {
                let v = self.fresh(name.as_str());
                extra.push(clause(
                    Kind::Function(Expr::Ground(c), Bind::Var(v)),
                    Span::default(),
                    &format!("[(ground …) {name}]"),
                    vec![v],
                ));
                v
            }
        }
    }

    fn slot(&mut self, src: &Src, span: Span) -> Option<Slot> {
        let found = self.slots.iter().position(|(s, _)| s == src);
        if found.is_none() {
            let mut d = Diagnostic::new("query/unknown-source", format!("no input is called {src}"));
            d = d.help(format!("add {src} to :in and give the query a database for it"));
            self.error(d, span, "not among the inputs");
        }
        found
    }

    fn unbound_clause(&mut self, c: &Clause, culprits: &[Var]) {
        let mine: Vec<String> = match &c.kind {
            Kind::Or { .. } | Kind::Fold(_) => culprits.iter().map(|v| self.name(*v).to_owned()).collect(),
            _ => culprits.iter().filter(|v| c.vars.contains(v)).map(|v| self.name(*v).to_owned()).collect(),
        };
        let what = if mine.is_empty() { "its variables".to_owned() } else { mine.join(", ") };
        let d = Diagnostic::new("query/unbound", format!("nothing binds {what} for {}", c.text))
            .help(format!("add a clause that binds {what}, or an input"));
        self.error(d, c.span, "cannot be evaluated");
    }

    /// Resolves a conjunction. `scope` gains the names it binds.
    fn body(&mut self, clauses: &[Ast], scope: &mut Scope, src: &Src) -> Body {
        self.nesting += 1;
        let body = if self.nesting > MAX_NESTING {
            let d = Diagnostic::new(
                "query/unsupported",
                format!("clauses and rules are nested deeper than {MAX_NESTING}"),
            );
            self.error(d, clauses.first().map_or(Span::default(), Ast::span), "too deep");
            Body::default()
        } else {
            self.conjunction(clauses, scope, src)
        };
        self.nesting -= 1;
        body
    }

    fn conjunction(&mut self, clauses: &[Ast], scope: &mut Scope, src: &Src) -> Body {
        let mut names = Vec::new();
        exported(clauses, &mut names);
        // Names that only a `not` with a list mentions must come from elsewhere, but
        // naming them here does no harm: `check` finds that nothing binds them.
        for n in names {
            self.enter(scope, n);
        }
        let mut grounds = Vec::new();
        for c in clauses {
            if let Ast::Function(call, binding) = c
                && matches!(call.expr, ast::Expr::Ground(_))
            {
                for name in binding.vars() {
                    if let Entry::Var(v) = self.enter(scope, name) {
                        self.raw.insert(v);
                        grounds.push(v);
                    }
                }
            }
        }
        let mut out = Vec::new();
        for c in clauses {
            self.count += 1;
            if self.count > MAX_CLAUSES {
                let d = Diagnostic::new(
                    "query/unsupported",
                    format!("the query has more than {MAX_CLAUSES} clauses once its rules are written out"),
                );
                self.error(d, c.span(), "too much");
                break;
            }
            self.clause(c, scope, src, &mut out);
        }
        // What grounded values mean is computed where they are grounded.
        let mine = |c: &Clause| matches!(c.kind, Kind::Meaning { from, .. } if grounds.contains(&from));
        out.extend(self.pending.extract_if(.., |c| mine(c)));
        Body { clauses: out }
    }

    fn clause(&mut self, c: &Ast, scope: &mut Scope, src: &Src, out: &mut Vec<Clause>) {
        match c {
            Ast::Pattern(p) => self.pattern(p, scope, src, out),
            Ast::Predicate(call) => {
                if let Some(expr) = self.expr(&call.expr, call.span, scope, src, out) {
                    let vars = expr.vars();
                    out.push(clause(Kind::Predicate(expr), call.span, &format!("[{}]", call.expr), vars));
                }
            }
            Ast::Function(call, binding) => {
                if let Some(expr) = self.expr(&call.expr, call.span, scope, src, out) {
                    let bind = self.binding(&binding.node, scope, out);
                    let mut vars = expr.vars();
                    bind.vars(&mut vars);
                    let text = format!("[{} {}]", call.expr, binding.node);
                    out.push(clause(Kind::Function(expr, bind), c.span(), &text, vars));
                }
            }
            Ast::Not(n) => self.not(n, scope, src, out),
            Ast::Or(o) => self.or(o, scope, src, out),
            Ast::Rule(call) => self.call(call, scope, src, out),
        }
    }

    fn binding(&mut self, b: &ast::Binding, scope: &mut Scope, out: &mut Vec<Clause>) -> Bind {
        match b {
            ast::Binding::Var(v) => Bind::Var(self.var(scope, v, out)),
            ast::Binding::Blank => Bind::Blank,
            ast::Binding::Coll(b) => Bind::Coll(Box::new(self.binding(&b.node, scope, out))),
            ast::Binding::Tuple(bs) => {
                Bind::Tuple(bs.iter().map(|b| self.binding(&b.node, scope, out)).collect())
            }
        }
    }
}

pub(crate) fn clause(kind: Kind, span: Span, text: &str, vars: Vec<Var>) -> Clause {
    Clause { kind, span, text: text.into(), vars }
}

/// Every variable that a body mentions, nested ones by what they share.
pub(crate) fn used(body: &Body) -> Vec<Var> {
    let mut out = Vec::new();
    for c in &body.clauses {
        for v in &c.vars {
            if !out.contains(v) {
                out.push(*v);
            }
        }
    }
    out
}
