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

pub(crate) mod check;
pub(crate) mod ir;
mod rules;
mod term;
mod types;
mod varset;

pub(crate) use term::{fit, tx_entity};
pub(crate) use varset::VarSet;

use crate::ast::{self, Clause as Ast, Spanned, Src, Var as Name};
use crate::eval::function::Library;
use crate::eval::rel::Var;
use annals_model::{Diagnostic, Span, Symbol, Value};
use check::{closure, culprits};
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
/// Bodies within bodies, in the query and in rules written out.
const MAX_NESTING: usize = 64;

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
        entity_params: HashMap::new(),
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
        return Err(r.errors);
    }
    r.infer_entity_params();
    let out = r.query(query);
    if r.errors.is_empty() { Ok(out) } else { Err(r.errors) }
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
    known: BTreeMap<(Symbol, Src), Pred>,
    /// Which parameters of a rule stand in entity places.
    entity_params: HashMap<Symbol, Vec<bool>>,
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

    fn query(&mut self, q: &ast::Query) -> Resolved {
        let mut scope = Scope::new();
        let mut inputs = Vec::new();
        let mut bound = VarSet::default();
        for i in &q.inputs {
            inputs.push(match &i.node {
                ast::Input::Src(_) => Input::Source,
                ast::Input::Rules => Input::Rules,
                ast::Input::Pattern(_) => Input::Pattern,
                ast::Input::Binding(b) => {
                    let b = self.input_binding(&mut scope, b);
                    let mut vars = Vec::new();
                    b.vars(&mut vars);
                    bound.extend(vars.iter().copied());
                    self.raw.extend(vars);
                    Input::Bind(b)
                }
            });
        }
        let src = self.default.clone();
        // Variables of :find and :with belong to the scope of :where.
        for v in q.find.elems.iter().map(ast::FindElem::var).chain(&q.with) {
            self.enter(&mut scope, v);
        }
        let mut body = self.body(&q.clauses, &mut scope, &src);
        body.clauses.append(&mut self.pending);
        let outside: Vec<Var> = self.raw.iter().copied().collect();
        self.check_types(&body, &outside);
        let program = Arc::new(Program { preds: std::mem::take(&mut self.preds) });
        let (after, stuck) = closure(&body, &bound, &program);
        let mut named: Vec<Var> = culprits(&body, &stuck, &after, &program);
        // A clause with an error binds nothing: what it would have bound is no error of its own.
        let mut of_broken: HashSet<&Name> = HashSet::new();
        if !self.errors.is_empty() {
            for c in &q.clauses {
                c.for_each_var(&mut |v, _| {
                    of_broken.insert(v);
                });
            }
        }
        for &i in stuck.iter().filter(|_| of_broken.is_empty()) {
            self.unbound_clause(&body.clauses[i], &named);
        }
        named.retain(|_| stuck.is_empty());
        let find: Vec<Elem> = q.find.elems.iter().map(|e| self.elem(e, &mut scope)).collect();
        let with: Vec<Var> = q.with.iter().filter_map(|v| self.top_var(&mut scope, v)).collect();
        if stuck.is_empty() {
            for v in q.find.elems.iter().map(ast::FindElem::var).chain(&q.with) {
                if let Some(id) = self.top_var(&mut scope, v)
                    && !after.has(id)
                    && !of_broken.contains(&v.node)
                {
                    let d =
                        Diagnostic::new("query/unbound", format!("{} is not bound by any clause", v.node))
                            .help(format!("mention {} in a :where clause outside of not, or in :in", v.node));
                    self.error(d, v.span, "bound by no clause");
                }
            }
        }
        Resolved {
            inputs,
            body,
            program,
            find,
            with,
            names: std::mem::take(&mut self.names),
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    fn top_var(&mut self, scope: &mut Scope, v: &Spanned<Name>) -> Option<Var> {
        match self.enter(scope, &v.node) {
            Entry::Var(id) => Some(id),
            Entry::Const(_) => None,
        }
    }

    fn elem(&mut self, e: &ast::FindElem, scope: &mut Scope) -> Elem {
        let var = self.top_var(scope, e.var()).unwrap_or_default();
        match e {
            ast::FindElem::Var(_) => Elem::Var(var),
            ast::FindElem::Pull { src, pattern, span, .. } => {
                let default = self.default.clone();
                let (s, at) = src.as_ref().map_or((&default, *span), |s| (&s.node, s.span));
                let src = self.slot(s, at).unwrap_or(0);
                Elem::Pull { src, var, pattern: pattern.clone() }
            }
            ast::FindElem::Aggregate { name, args, span, .. } => {
                let args = args
                    .iter()
                    .map(|a| match &a.node {
                        ast::AggArg::Const(c) => AggArg::Const(c.clone()),
                        ast::AggArg::Var(v) => match self.enter(scope, v) {
                            Entry::Var(v) => AggArg::Var(v),
                            Entry::Const(c) => AggArg::Const(c),
                        },
                    })
                    .collect();
                Elem::Aggregate { name: name.node.clone(), args, var, span: *span }
            }
        }
    }

    fn input_binding(&mut self, scope: &mut Scope, b: &ast::Binding) -> Bind {
        match b {
            ast::Binding::Var(v) => match self.enter(scope, v) {
                Entry::Var(v) => Bind::Var(v),
                Entry::Const(_) => Bind::Blank,
            },
            ast::Binding::Blank => Bind::Blank,
            ast::Binding::Coll(b) => Bind::Coll(Box::new(self.input_binding(scope, &b.node))),
            ast::Binding::Tuple(bs) => {
                Bind::Tuple(bs.iter().map(|b| self.input_binding(scope, &b.node)).collect())
            }
        }
    }

    fn unbound_clause(&mut self, c: &Clause, culprits: &[Var]) {
        let mine: Vec<String> = match &c.kind {
            Kind::Or { .. } => culprits.iter().map(|v| self.name(*v).to_owned()).collect(),
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

    fn not(&mut self, n: &ast::Not, scope: &mut Scope, src: &Src, out: &mut Vec<Clause>) {
        let src = n.src.as_ref().map_or(src, |s| &s.node);
        let mut outer: HashSet<Var> = HashSet::new();
        let mut inner = Scope::new();
        let mut join = Vec::new();
        match &n.join {
            Some(list) => {
                for v in list {
                    let e = self.enter(scope, &v.node);
                    if let Entry::Var(v) = e {
                        join.push(v);
                    }
                    inner.insert(v.node.clone(), e);
                }
            }
            None => {
                inner = scope.clone();
                outer.extend(inner.values().filter_map(|e| match e {
                    Entry::Var(v) => Some(*v),
                    Entry::Const(_) => None,
                }));
            }
        }
        let body = self.body(&n.clauses, &mut inner, src);
        let used = used(&body);
        if n.join.is_none() {
            join = used.iter().copied().filter(|v| outer.contains(v)).collect();
            let constant = used.is_empty() || inner.values().any(|e| matches!(e, Entry::Const(_)));
            if join.is_empty() && !constant {
                let d = Diagnostic::new("query/unbound", "this not shares no variable with the rest of the query")
                    .help("a not removes rows: it needs a variable of theirs; use not-join [] to test for existence alone");
                self.error(d, n.span, "removes either nothing or everything");
            }
        }
        // Meanings of outer variables are computed outside.
        for v in self.foreign_meanings(&body) {
            if !join.contains(&v) {
                join.push(v);
            }
        }
        let text = not_text(n);
        out.push(clause(Kind::Not { join: join.clone(), body }, n.span, &text, join));
    }

    /// The meanings that a body uses and does not compute itself.
    fn foreign_meanings(&self, body: &Body) -> Vec<Var> {
        let own = |v: Var| body.clauses.iter().any(|c| matches!(c.kind, Kind::Meaning { to, .. } if to == v));
        used(body).into_iter().filter(|v| self.meant.values().any(|m| m == v) && !own(*v)).collect()
    }

    fn or(&mut self, o: &ast::Or, scope: &mut Scope, src: &Src, out: &mut Vec<Clause>) {
        let src = o.src.as_ref().map_or(src, |s| &s.node);
        let (mut vars, mut required, mut branches) = (Vec::new(), Vec::new(), Vec::new());
        match &o.join {
            Some(list) => {
                let mut inner = Scope::new();
                for (i, v) in list.all().enumerate() {
                    let e = self.enter(scope, &v.node);
                    if let Entry::Var(id) = e {
                        if !vars.contains(&id) {
                            vars.push(id);
                        }
                        if i < list.required.len() {
                            required.push(id);
                        }
                    }
                    inner.insert(v.node.clone(), e);
                }
                for b in &o.branches {
                    branches.push(self.body(&b.clauses, &mut inner.clone(), src));
                }
            }
            None => {
                let mut sets: Vec<Vec<&Name>> = Vec::new();
                for b in &o.branches {
                    let mut names = Vec::new();
                    exported(&b.clauses, &mut names);
                    names.sort();
                    sets.push(names);
                }
                if let Some(i) = (1..sets.len()).find(|&i| sets[i] != sets[0]) {
                    let show = |s: &[&Name]| s.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" ");
                    let d = Diagnostic::new(
                        "query/join-vars",
                        format!(
                            "every branch of an or must use the same variables: [{}] against [{}]",
                            show(&sets[0]),
                            show(&sets[i])
                        ),
                    )
                    .help("use or-join [?x …] and list the variables that leave the or");
                    self.error(d, o.branches[i].span, "uses other variables than the first branch");
                    return;
                }
                for n in sets.first().into_iter().flatten() {
                    if let Entry::Var(v) = self.enter(scope, n) {
                        vars.push(v);
                    }
                }
                for b in &o.branches {
                    branches.push(self.body(&b.clauses, &mut scope.clone(), src));
                }
            }
        }
        self.close_or(vars, required, branches, None, o.span, &or_text(o), out);
    }

    /// Emits an `or`, after adding to its variables the meanings that its branches use.
    #[expect(clippy::too_many_arguments, reason = "the parts of one clause")]
    fn close_or(
        &mut self,
        mut vars: Vec<Var>,
        required: Vec<Var>,
        branches: Vec<Body>,
        name: Option<Symbol>,
        span: Span,
        text: &str,
        out: &mut Vec<Clause>,
    ) {
        for b in &branches {
            for v in self.foreign_meanings(b) {
                if !vars.contains(&v) {
                    vars.push(v);
                }
            }
        }
        out.push(clause(Kind::Or { vars: vars.clone(), required, branches, name }, span, text, vars));
    }

    fn call(&mut self, call: &ast::RuleCall, scope: &mut Scope, src: &Src, out: &mut Vec<Clause>) {
        let src = call.src.as_ref().map_or(src, |s| &s.node).clone();
        let name = &call.name.node;
        let Some(defs) = self.graph.rules.get(name).cloned() else {
            let near =
                annals_model::diagnostic::nearest(name.as_str(), self.graph.rules.keys().map(Symbol::as_str))
                    .map(str::to_owned);
            let mut d = Diagnostic::new("query/unknown-rule", format!("no rule is called {name}"));
            d = d.help(match near {
                Some(n) => format!("did you mean {n}?"),
                None if self.graph.rules.is_empty() => {
                    "rules are given as the input %: add % to :in".to_owned()
                }
                None => "the rule set given has no such rule".to_owned(),
            });
            self.error(d, call.name.span, "not defined");
            return;
        };
        let arity = defs[0].0.arity();
        if arity != call.args.len() {
            let d = Diagnostic::new(
                "query/arity",
                format!("rule {name} takes {arity} arguments, not {}", call.args.len()),
            );
            self.error(d, call.span, "wrong number of arguments");
            return;
        }
        if defs.iter().any(|(r, _)| r.free.iter().any(|h| h.fold.is_some())) {
            let d = Diagnostic::new("query/unsupported", format!("rule {name} folds a head variable"))
                .help("aggregate in :find, or in a nested query");
            self.error(d, call.span, "folded heads are not supported");
            return;
        }
        let large = self.depth >= MAX_INLINE || self.count > MAX_WRITTEN_OUT;
        if self.graph.is_recursive(name) || large {
            return self.recursive_call(call, &src, scope, out);
        }
        self.depth += 1;
        let outer_rule = self.rule.clone();
        let (mut vars, mut required, mut branches) = (Vec::new(), Vec::new(), Vec::new());
        let mut entries = Vec::new();
        for a in &call.args {
            entries.push(match &a.node {
                ast::Term::Var(v) => self.enter(scope, v),
                ast::Term::Const(c) => Entry::Const(c.clone()),
                ast::Term::Blank | ast::Term::Src(_) => Entry::Var(self.fresh("_")),
            });
            if let (Some(Entry::Var(v)), ast::Term::Var(_)) = (entries.last(), &a.node)
                && !vars.contains(v)
            {
                vars.push(*v);
            }
        }
        for (i, e) in entries.iter().enumerate() {
            if let Entry::Var(v) = e
                && i < defs[0].0.required.len()
            {
                required.push(*v);
            }
        }
        for (rule, own) in &defs {
            if !own {
                self.rule = Some(name.clone());
            }
            let mut inner = Scope::new();
            let mut extra = Vec::new();
            for (head, e) in rule.head_vars().zip(&entries) {
                match inner.get(&head.node) {
                    None => drop(inner.insert(head.node.clone(), e.clone())),
                    Some(first) => extra.extend(unify(first.clone(), e.clone())),
                }
            }
            let mut body = self.body(&rule.clauses, &mut inner, &src);
            body.clauses.extend(extra);
            branches.push(body);
            self.rule.clone_from(&outer_rule);
        }
        self.depth -= 1;
        if let ([_], []) = (&branches[..], &required[..]) {
            out.extend(branches.remove(0).clauses);
            return;
        }
        let name = Some(name.clone());
        self.close_or(vars, required, branches, name, call.span, &rule_text(call), out);
    }

    fn recursive_call(&mut self, call: &ast::RuleCall, src: &Src, scope: &mut Scope, out: &mut Vec<Clause>) {
        let pred = self.predicate(&call.name.node, src);
        let entity = self.entity_params.get(&call.name.node).cloned().unwrap_or_default();
        let slot = self.slots.iter().position(|(s, _)| s == src);
        let (mut args, mut vars) = (Vec::new(), Vec::new());
        for (i, a) in call.args.iter().enumerate() {
            let is_entity = entity.get(i).copied().unwrap_or(false);
            let constant = |r: &mut Self, c: &Value| match slot {
                Some(slot) if is_entity => r.entity_const(c, slot, a.span),
                _ => Some(Term::Const(c.clone())),
            };
            let term = match &a.node {
                ast::Term::Const(c) => constant(self, c),
                ast::Term::Blank | ast::Term::Src(_) => Some(Term::Blank),
                ast::Term::Var(v) => match self.enter(scope, v) {
                    Entry::Const(c) => constant(self, &c),
                    Entry::Var(v) => Some(Term::Var(match slot {
                        Some(slot) if is_entity => self.meaning(v, Meaning::Entity(slot)),
                        _ => v,
                    })),
                },
            };
            let Some(term) = term else {
                // Nothing matches, so every variable of the call is as good as bound.
                let all: Vec<Var> = (call.args.iter())
                    .filter_map(|a| a.as_var())
                    .filter_map(|v| match self.enter(scope, v) {
                        Entry::Var(v) => Some(v),
                        Entry::Const(_) => None,
                    })
                    .collect();
                let why = "an argument names no entity";
                out.push(clause(Kind::Never(why), call.span, &rule_text(call), all));
                return;
            };
            if let Term::Var(v) = term
                && !vars.contains(&v)
            {
                vars.push(v);
            }
            args.push(term);
        }
        out.push(clause(Kind::Call { pred, args }, call.span, &rule_text(call), vars));
    }

    /// The number of a recursive rule under a source, resolving its definitions the first time.
    fn predicate(&mut self, name: &Symbol, src: &Src) -> Pred {
        if let Some(p) = self.known.get(&(name.clone(), src.clone())) {
            return *p;
        }
        let defs = self.graph.rules[name].clone();
        let pred = self.preds.len();
        let declared = defs[0].0.required.len();
        let arity = defs[0].0.arity();
        let component = self.graph.component(name);
        self.known.insert((name.clone(), src.clone()), pred);
        self.preds.push(Predicate {
            name: name.clone(),
            arity,
            required: (0..arity).map(|i| i < declared).collect(),
            rules: Vec::new(),
            component,
        });
        let outer_rule = self.rule.clone();
        let depth = std::mem::replace(&mut self.depth, 0);
        let mut resolved = Vec::new();
        for (rule, own) in &defs {
            if !own {
                self.rule = Some(name.clone());
            }
            let (mut scope, mut head, mut extra) = (Scope::new(), Vec::new(), Vec::new());
            for h in rule.head_vars() {
                let v = self.fresh(h.as_str());
                head.push(v);
                match scope.get(&h.node) {
                    None => drop(scope.insert(h.node.clone(), Entry::Var(v))),
                    Some(first) => extra.extend(unify(first.clone(), Entry::Var(v))),
                }
            }
            let mut body = self.body(&rule.clauses, &mut scope, src);
            body.clauses.extend(extra);
            for body in self.flatten(body, component) {
                resolved.push(Rule { head: head.clone(), body });
            }
            self.rule.clone_from(&outer_rule);
        }
        self.depth = depth;
        self.preds[pred].rules = resolved;
        self.require(pred, &defs);
        pred
    }

    /// Splits a body at each `or` that calls back into the component, so that recursive
    /// calls stand at the top of a body.
    fn flatten(&mut self, body: Body, component: usize) -> Vec<Body> {
        let at = body.clauses.iter().position(
            |c| matches!(&c.kind, Kind::Or { branches, .. } if branches.iter().any(|b| self.calls_back(b, component))),
        );
        let Some(at) = at else { return vec![body] };
        let mut rest = body.clauses;
        let or = rest.remove(at);
        let Kind::Or { branches, .. } = or.kind else { unreachable!("just matched") };
        let mut out = Vec::new();
        for b in branches {
            let clauses = rest.iter().cloned().chain(b.clauses).collect();
            out.extend(self.flatten(Body { clauses }, component));
            if out.len() > MAX_CLAUSES {
                break;
            }
        }
        out
    }

    fn calls_back(&self, body: &Body, component: usize) -> bool {
        body.clauses.iter().any(|c| match &c.kind {
            Kind::Call { pred, .. } => self.preds[*pred].component == component,
            Kind::Or { branches, .. } => branches.iter().any(|b| self.calls_back(b, component)),
            _ => false,
        })
    }

    /// Finds which arguments must be bound for every definition to be safe. Run
    /// again for the whole component until nothing changes.
    fn require(&mut self, pred: Pred, defs: &[(&ast::Rule, bool)]) {
        let component = self.preds[pred].component;
        loop {
            let mut changed = false;
            let program = Program { preds: self.preds.clone() };
            for p in 0..self.preds.len() {
                if program.preds[p].component != component {
                    continue;
                }
                for rule in &program.preds[p].rules {
                    let required = self.preds[p].required.clone();
                    let bound: VarSet =
                        rule.head.iter().zip(&required).filter(|(_, r)| **r).map(|(v, _)| *v).collect();
                    let (after, stuck) = closure(&rule.body, &bound, &program);
                    let missing = culprits(&rule.body, &stuck, &after, &program);
                    for (i, h) in rule.head.iter().enumerate() {
                        if !required[i] && (missing.contains(h) || (stuck.is_empty() && !after.has(*h))) {
                            self.preds[p].required[i] = true;
                            changed = true;
                        }
                    }
                }
            }
            if !changed {
                break;
            }
        }
        let program = Program { preds: self.preds.clone() };
        for rule in &program.preds[pred].rules {
            let bound: VarSet = rule.head.iter().copied().collect();
            let (after, stuck) = closure(&rule.body, &bound, &program);
            let named = culprits(&rule.body, &stuck, &after, &program);
            let outer = self.rule.clone();
            if defs.iter().any(|(_, own)| !own) {
                self.rule = Some(program.preds[pred].name.clone());
            }
            for s in stuck {
                // A call within the component may be waiting for its own definitions.
                if !matches!(rule.body.clauses[s].kind, Kind::Call { .. }) {
                    self.unbound_clause(&rule.body.clauses[s], &named);
                }
            }
            self.rule = outer;
        }
    }
}

/// What makes two entries of one head variable equal.
fn unify(a: Entry, b: Entry) -> Option<Clause> {
    let arg = |e: Entry| match e {
        Entry::Var(v) => Arg::Var(v),
        Entry::Const(c) => Arg::Const(c),
    };
    let (a, b) = match (a, b) {
        (Entry::Var(x), Entry::Var(y)) if x == y => return None,
        (a, Entry::Var(v)) | (Entry::Var(v), a) => (arg(a), v),
        (Entry::Const(x), Entry::Const(y)) if x == y => return None,
        (Entry::Const(_), Entry::Const(_)) => {
            let why = "a head variable stands for two different constants";
            return Some(clause(Kind::Never(why), Span::default(), "never", vec![]));
        }
    };
    let mut vars = vec![b];
    if let Arg::Var(v) = a {
        vars.push(v);
    }
    let expr = Expr::Call { name: Symbol::new("identity"), args: vec![a] };
    Some(clause(Kind::Function(expr, Bind::Var(b)), Span::default(), "[(identity …)]", vars))
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

fn not_text(n: &ast::Not) -> String {
    Ast::Not(n.clone()).to_string()
}
fn or_text(o: &ast::Or) -> String {
    Ast::Or(o.clone()).to_string()
}
fn rule_text(r: &ast::RuleCall) -> String {
    Ast::Rule(r.clone()).to_string()
}
