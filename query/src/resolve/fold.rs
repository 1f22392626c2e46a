//! Calls of rules that fold, outside of recursion: written out as one clause that groups.
//!
//! 1. A key of the call is the variable of the definitions itself, so what is bound outside
//!    restricts whole groups, never their members.
//! 2. A folded argument is a variable that only the definitions know. What the call says in
//!    its place is compared with the result.

use super::call::{rule_text, unify};
use super::check::closure;
use super::ir::*;
use super::monotone::best_of;
use super::*;

impl Resolver<'_> {
    /// Emits the clause for a call. `called`: the definitions become a predicate instead of
    /// standing in the clause, since there are too many clauses already.
    pub(super) fn folded_call(
        &mut self,
        call: &ast::RuleCall,
        src: &Src,
        defs: &[(&ast::Rule, bool)],
        called: bool,
        scope: &mut Scope,
        out: &mut Vec<Clause>,
    ) {
        let name = &call.name.node;
        let rule = defs[0].0;
        let (mut keys, mut required, mut columns, mut equal) = (vec![], vec![], vec![], vec![]);
        // What each head variable is within the definitions.
        let mut entries: Vec<Entry> = Vec::new();
        for (i, (a, fold)) in call.args.iter().zip(rule.folds()).enumerate() {
            let Some(fold) = fold else {
                let entry = match &a.node {
                    ast::Term::Var(v) => self.enter(scope, v),
                    ast::Term::Const(c) => Entry::Const(c.clone()),
                    ast::Term::Blank | ast::Term::Src(_) => Entry::Var(self.fresh("_")),
                };
                if let Entry::Var(v) = entry {
                    if !keys.contains(&v) {
                        keys.push(v);
                    }
                    if i < rule.required.len() {
                        required.push(v);
                    }
                }
                entries.push(entry);
                continue;
            };
            let from = self.fresh(rule.head_vars().nth(i).map_or("_", |v| v.as_str()));
            entries.push(Entry::Var(from));
            let to = match &a.node {
                ast::Term::Blank | ast::Term::Src(_) => None,
                ast::Term::Var(_) | ast::Term::Const(_) => {
                    let asked = match &a.node {
                        ast::Term::Var(v) => self.enter(scope, v),
                        ast::Term::Const(c) => Entry::Const(c.clone()),
                        ast::Term::Blank | ast::Term::Src(_) => Entry::Var(from),
                    };
                    let to = self.fresh("_");
                    let entity = best_of(rule, i).and_then(|_| self.folded_entity(name, i, src));
                    equal.extend(self.compared(asked, to, entity));
                    Some(to)
                }
            };
            let args = fold.args.iter().map(|a| a.node.clone()).collect();
            columns.push(FoldColumn { name: fold.name.node.clone(), args, from, to });
        }
        let with: Vec<Var> = rule.with.iter().map(|v| self.fresh(v.as_str())).collect();
        entries.extend(with.iter().map(|v| Entry::Var(*v)));
        let mut branches = Vec::new();
        if called {
            // A key that means nothing has no group.
            let entries = entries.into_iter().map(Some).collect();
            let Some((pred, terms)) = self.called(call, entries, src) else {
                return self.no_entity(call, scope, out);
            };
            let vars: Vec<Var> = terms.iter().filter_map(Term::var).collect();
            let clauses = vec![clause(Kind::Call { pred, args: terms }, call.span, &rule_text(call), vars)];
            branches.push(Body { clauses });
        } else {
            self.depth += 1;
            let outer_rule = self.rule.clone();
            for (rule, own) in defs {
                if !own {
                    self.rule = Some(name.clone());
                }
                let mut inner = Scope::new();
                for (head, e) in rule.head_vars().chain(&rule.with).zip(&entries) {
                    inner.insert(head.node.clone(), e.clone());
                }
                branches.push(self.body(&rule.clauses, &mut inner, src));
                self.rule.clone_from(&outer_rule);
            }
            self.depth -= 1;
        }
        for b in &branches {
            for v in self.foreign_meanings(b) {
                if !keys.contains(&v) {
                    keys.push(v);
                }
            }
        }
        let outs: Vec<Var> = columns.iter().filter_map(|c: &FoldColumn| c.to).collect();
        let vars: Vec<Var> = keys.iter().chain(&outs).copied().collect();
        let fold = Fold { name: name.clone(), keys, required, columns, with, branches };
        self.bound_columns(&fold, call.span);
        out.push(clause(Kind::Fold(fold), call.span, &rule_text(call), vars));
        out.append(&mut equal);
    }

    /// What makes the result `to` equal to what the call says in its place, as an entity of this
    /// source or else as data.
    fn compared(&mut self, asked: Entry, to: Var, entity: Option<Slot>) -> Vec<Clause> {
        match (asked, entity) {
            (Entry::Const(c), Some(slot)) => {
                let raw = self.fresh("_");
                let ground = Kind::Function(Expr::Ground(c), Bind::Var(raw));
                let meaning = Kind::Meaning { from: raw, to, as_what: Meaning::Entity(slot) };
                vec![
                    clause(ground, Span::default(), "[(ground …)]", vec![raw]),
                    clause(meaning, Span::default(), "an entity", vec![raw, to]),
                ]
            }
            (Entry::Var(v), Some(slot)) => {
                let meant = self.meaning(v, Meaning::Entity(slot));
                unify(Entry::Var(to), Entry::Var(meant)).into_iter().collect()
            }
            (Entry::Var(v), None) => unify(Entry::Var(to), Entry::Var(v)).into_iter().collect(),
            (Entry::Const(c), None) => unify(Entry::Const(c), Entry::Var(to)).into_iter().collect(),
        }
    }

    /// Complains about what a definition folds, or keeps apart by, and does not bind.
    fn bound_columns(&mut self, f: &Fold, at: Span) {
        let program = Program { preds: self.preds.clone() };
        let all: VarSet = f.keys.iter().copied().collect();
        let mut missing: Vec<Var> = Vec::new();
        for b in &f.branches {
            let (after, stuck) = closure(b, &all, &program);
            let wanted = f.columns.iter().map(|c| c.from).chain(f.with.iter().copied());
            missing.extend(wanted.filter(|v| stuck.is_empty() && !after.has(*v)));
        }
        missing.dedup();
        for v in missing {
            let v = self.name(v).to_owned();
            let d = Diagnostic::new(
                "query/unbound",
                format!("rule {} folds {v}, and no clause of it binds {v}", f.name),
            )
            .help(format!("mention {v} in a clause of each definition, outside of not"));
            self.error(d, at, "called here");
        }
    }

    /// The same for a definition of a recursive rule.
    pub(super) fn bound_folds(
        &mut self,
        program: &Program,
        pred: Pred,
        rule: &Rule,
        defs: &[(&ast::Rule, bool)],
    ) {
        let p = &program.preds[pred];
        let bound: VarSet =
            rule.head.iter().zip(&p.best).filter(|(_, b)| b.is_none()).map(|(v, _)| *v).collect();
        let (after, stuck) = closure(&rule.body, &bound, program);
        for (i, v) in rule.head.iter().enumerate() {
            if p.best[i].is_none() || !stuck.is_empty() || after.has(*v) {
                continue;
            }
            let v = self.name(*v).to_owned();
            let d = Diagnostic::new(
                "query/unbound",
                format!("rule {} folds {v}, and no clause of it binds {v}", p.name),
            )
            .help(format!("mention {v} in a clause of each definition, outside of not"));
            let own = defs.iter().all(|(_, own)| *own);
            let outer = self.rule.clone();
            self.rule = (!own).then(|| p.name.clone()).or(outer.clone());
            self.error(d, defs[0].0.head, "folded here");
            self.rule = outer;
        }
    }
}
