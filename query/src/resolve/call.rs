//! Calls of rules: written out where they are called, or kept as predicates when they are
//! recursive or too many.

use super::check::{closure, culprits};
use super::ir::*;
use super::monotone::best_of;
use super::param::Handed;
use super::*;
use crate::eval::aggregate::Best;

impl Resolver<'_> {
    pub(super) fn call(&mut self, call: &ast::RuleCall, scope: &mut Scope, src: &Src, out: &mut Vec<Clause>) {
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
        let large = self.depth >= MAX_INLINE || self.count > MAX_WRITTEN_OUT;
        if self.graph.is_recursive(name) || large {
            if defs[0].0.is_folded() && !self.graph.is_recursive(name) {
                return self.folded_call(call, &src, &defs, true, scope, out);
            }
            return self.recursive_call(call, &src, scope, out);
        }
        if defs[0].0.is_folded() {
            return self.folded_call(call, &src, &defs, false, scope, out);
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

    pub(super) fn recursive_call(
        &mut self,
        call: &ast::RuleCall,
        src: &Src,
        scope: &mut Scope,
        out: &mut Vec<Clause>,
    ) {
        let mut entries = Vec::new();
        for a in &call.args {
            entries.push(match &a.node {
                ast::Term::Const(c) => Some(Entry::Const(c.clone())),
                ast::Term::Blank | ast::Term::Src(_) => None,
                ast::Term::Var(v) => Some(self.enter(scope, v)),
            });
        }
        let Some((pred, args)) = self.called(call, entries, src) else {
            return self.no_entity(call, scope, out);
        };
        let mut vars = Vec::new();
        for v in args.iter().filter_map(Term::var) {
            if !vars.contains(&v) {
                vars.push(v);
            }
        }
        out.push(clause(Kind::Call { pred, args }, call.span, &rule_text(call), vars));
    }

    /// The predicate for a call with these arguments, and what it gets of each; none (without
    /// complaint) if one of them means nothing where the rule uses it.
    pub(super) fn called(
        &mut self,
        call: &ast::RuleCall,
        entries: Vec<Option<Entry>>,
        src: &Src,
    ) -> Option<(Pred, Vec<Term>)> {
        let name = &call.name.node;
        let (mut given, mut args) = (Vec::new(), Vec::new());
        for (i, e) in entries.into_iter().enumerate() {
            let at = call.args.get(i).map_or(call.span, |a| a.span);
            let (as_given, term) = match e {
                None => (false, Term::Blank),
                Some(e) => self.argument(name, i, e, src, at)?,
            };
            given.push(as_given);
            args.push(term);
        }
        Some((self.predicate(name, src, given), args))
    }

    /// What an argument of a rule is to its predicate, and whether that is the argument as it was
    /// given although the rule uses it in several meanings.
    fn argument(
        &mut self,
        rule: &Symbol,
        column: usize,
        e: Entry,
        src: &Src,
        at: Span,
    ) -> Option<(bool, Term)> {
        let handed = match (&e, self.handed(rule, column, src)) {
            // What clauses of the query find is an entity where it is one.
            (Entry::Var(v), _) if !self.raw.contains(v) => Handed::Data,
            // A folded argument is compared with results, which have one meaning.
            _ if self.graph.rules[rule][0].0.folds().nth(column).flatten().is_some() => {
                let slot = self.folded_entity(rule, column, src);
                slot.map_or(Handed::Data, |slot| Handed::Meaning(Meaning::Entity(slot)))
            }
            (_, handed) => handed,
        };
        let term = match (e, handed) {
            (e, Handed::AsGiven) => {
                if let Entry::Const(c) = &e {
                    // What cannot be an entity is a mistake, wherever the rule looks at it.
                    let (meanings, _) = self.meanings(rule, column, src);
                    for m in meanings {
                        if let Meaning::Entity(slot) = m {
                            self.entity_const(c, slot, at);
                        }
                    }
                }
                return Some((true, plain(e)));
            }
            (e, Handed::Data) => plain(e),
            (Entry::Var(v), Handed::Meaning(m)) => Term::Var(self.meaning(v, m)),
            (Entry::Const(c), Handed::Meaning(Meaning::Entity(slot))) => self.entity_const(&c, slot, at)?,
            (Entry::Const(c), Handed::Meaning(Meaning::Typed(t))) => Term::Const(fit(&c, t)?),
            (Entry::Const(c), Handed::Meaning(Meaning::Tx)) => {
                let slot = self.slots.iter().position(|(s, _)| s == src)?;
                self.tx_const(&c, slot, at)?
            }
        };
        Some((false, term))
    }

    /// A call with an argument that means nothing where the rule uses it: nothing matches, so every
    /// variable of the call is as good as bound.
    pub(super) fn no_entity(&mut self, call: &ast::RuleCall, scope: &mut Scope, out: &mut Vec<Clause>) {
        let all: Vec<Var> = (call.args.iter())
            .filter_map(|a| a.as_var())
            .filter_map(|v| match self.enter(scope, v) {
                Entry::Var(v) => Some(v),
                Entry::Const(_) => None,
            })
            .collect();
        let why = "an argument means nothing where the rule uses it";
        out.push(clause(Kind::Never(why), call.span, &rule_text(call), all));
    }

    /// The number of a rule that is called, under a source, with these arguments handed over as
    /// given. Its definitions are resolved the first time.
    fn predicate(&mut self, name: &Symbol, src: &Src, given: Vec<bool>) -> Pred {
        let key = (name.clone(), src.clone(), given);
        if let Some(p) = self.known.get(&key) {
            return *p;
        }
        let given = key.2.clone();
        let defs = self.graph.rules[name].clone();
        let pred = self.preds.len();
        let declared = defs[0].0.required.len();
        // A rule that folds outside of recursion is a predicate of the rows to be folded.
        let best: Vec<Option<Best>> = match self.graph.is_recursive(name) {
            true => (0..defs[0].0.arity()).map(|i| best_of(defs[0].0, i)).collect(),
            false => vec![None; defs[0].0.arity() + defs[0].0.with.len()],
        };
        let arity = best.len();
        let component = self.graph.component(name);
        self.known.insert(key, pred);
        self.preds.push(Predicate {
            name: name.clone(),
            arity,
            // What is handed over as given is known at every call, and its meanings come from it.
            required: (0..arity).map(|i| i < declared || given[i]).collect(),
            best: best.clone(),
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
            // What only keeps rows apart does not matter to a fold that keeps one of them.
            let columns: Vec<&Name> =
                rule.head_vars().chain(&rule.with).take(arity).map(|h| &h.node).collect();
            for (h, given) in columns.iter().zip(&given) {
                let v = self.fresh(h.as_str());
                head.push(v);
                if *given {
                    self.raw.insert(v);
                }
            }
            // Of a name that stands twice the body sees what was given, if either was.
            let by_given = |i: &usize| !given[*i];
            let mut order: Vec<usize> = (0..arity).collect();
            order.sort_by_key(by_given);
            for i in order {
                match scope.get(columns[i]) {
                    None => drop(scope.insert(columns[i].clone(), Entry::Var(head[i]))),
                    Some(first) => extra.extend(unify(first.clone(), Entry::Var(head[i]))),
                }
            }
            let mut body = self.body(&rule.clauses, &mut scope, src);
            body.clauses.extend(extra);
            // What the arguments mean is computed here, from what the call gave.
            let mine = |c: &Clause| matches!(c.kind, Kind::Meaning { from, .. } if head.contains(&from));
            body.clauses.extend(self.pending.extract_if(.., |c| mine(c)));
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
    pub(super) fn flatten(&mut self, body: Body, component: usize) -> Vec<Body> {
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

    pub(super) fn calls_back(&self, body: &Body, component: usize) -> bool {
        body.clauses.iter().any(|c| match &c.kind {
            Kind::Call { pred, .. } => self.preds[*pred].component == component,
            Kind::Or { branches, .. } => branches.iter().any(|b| self.calls_back(b, component)),
            _ => false,
        })
    }

    /// Finds which arguments must be bound for every definition to be safe. Run
    /// again for the whole component until nothing changes.
    pub(super) fn require(&mut self, pred: Pred, defs: &[(&ast::Rule, bool)]) {
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
                        let folded = self.preds[p].best[i].is_some();
                        if !required[i]
                            && !folded
                            && (missing.contains(h) || (stuck.is_empty() && !after.has(*h)))
                        {
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
            self.bound_folds(&program, pred, rule, defs);
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

/// An argument that is handed over as it is.
fn plain(e: Entry) -> Term {
    match e {
        Entry::Var(v) => Term::Var(v),
        Entry::Const(c) => Term::Const(c),
    }
}

/// What makes two entries of one head variable equal.
pub(super) fn unify(a: Entry, b: Entry) -> Option<Clause> {
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

pub(super) fn rule_text(r: &ast::RuleCall) -> String {
    Ast::Rule(r.clone()).to_string()
}
