//! What the parameters of rules are for: which of an argument's meanings a definition uses.
//!
//! An argument that comes from outside (a constant, an input) is what it was given as where it
//! stands as data, and an entity, a transaction or a number of some type where the place says so.
//! A rule that is written out finds that out place by place. A rule that is called is resolved once
//! for all its calls, so the call must know what to hand over:
//!
//! 1. A parameter with one meaning gets what the argument means: then rows of the rule and rows of
//!    its callers hold the same, and the operators for paths apply.
//! 2. A parameter with several meanings gets the argument as given ([`Handed::AsGiven`]), by a
//!    predicate of its own whose definitions compute each meaning where they need it.
//! 3. Uses are found by name before anything is resolved, through all rules in reach; what they
//!    mean under the source of one call is decided at the call.

use super::Resolver;
use super::ir::{Meaning, Slot, SlotKind};
use super::monotone::best_of;
use super::rules::Graph;
use crate::ast::{Clause, Expr, JoinVars, Rule, Spanned, Src, Term, Var as Name};
use annals_model::{Symbol, Value, ValueType};
use std::collections::{BTreeMap, BTreeSet};

/// A place where a parameter stands. The source is that of the call unless the clause names one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// A place of an entity or an attribute.
    Entity(Option<Src>),
    /// The value place of this attribute.
    ValueOf(Option<Src>, Value),
    /// A place of a transaction.
    Tx(Option<Src>),
    /// Anywhere else; or nowhere, so that it is what the call says it is.
    Data,
}

impl Use {
    /// The same use, seen from where the source of the clause is `src`.
    fn within(&self, src: Option<&Src>) -> Use {
        let or = |s: &Option<Src>| s.as_ref().or(src).cloned();
        match self {
            Use::Entity(s) => Use::Entity(or(s)),
            Use::ValueOf(s, a) => Use::ValueOf(or(s), a.clone()),
            Use::Tx(s) => Use::Tx(or(s)),
            Use::Data => Use::Data,
        }
    }
}

/// The uses of every parameter, by rule.
#[derive(Default)]
pub(super) struct Params(BTreeMap<Symbol, Vec<BTreeSet<Use>>>);

/// What a rule that is called gets of an argument from outside.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Handed {
    /// It is data.
    Data,
    /// What it means.
    Meaning(Meaning),
    /// As it was given: it has several meanings.
    AsGiven,
}

impl Params {
    /// The uses of the parameters of all rules in reach.
    pub(super) fn of(graph: &Graph<'_>) -> Params {
        // Rules come after those they call, so one pass is enough outside of recursion.
        let mut rules: Vec<(&Symbol, &Vec<(&Rule, bool)>)> = graph.rules.iter().collect();
        rules.sort_by_key(|(name, _)| graph.component(name));
        let none = |defs: &Vec<(&Rule, bool)>| vec![BTreeSet::new(); defs[0].0.arity()];
        let mut params = Params(rules.iter().map(|(n, defs)| ((*n).clone(), none(defs))).collect());
        loop {
            let mut changed = false;
            for (name, defs) in &rules {
                for (rule, _) in *defs {
                    for (i, h) in rule.head_vars().enumerate() {
                        // A count of entities is no entity.
                        if rule.folds().nth(i).flatten().is_some() && best_of(rule, i).is_none() {
                            continue;
                        }
                        let mut found = BTreeSet::new();
                        uses(&rule.clauses, None, &h.node, &params, &mut found);
                        let repeated = rule.head_vars().filter(|o| o.node == h.node).count() > 1;
                        if repeated || !mentioned(&rule.clauses, &h.node) {
                            found.insert(Use::Data);
                        }
                        let known = params.0.get_mut(*name).and_then(|p| p.get_mut(i));
                        if let Some(known) = known {
                            let before = known.len();
                            known.extend(found);
                            changed |= known.len() > before;
                        }
                    }
                }
            }
            if !changed {
                return params;
            }
        }
    }

    fn get(&self, rule: &Symbol, column: usize) -> Option<&BTreeSet<Use>> {
        self.0.get(rule).and_then(|p| p.get(column))
    }
}

impl Resolver<'_> {
    /// What a call of the rule under this source hands over in a column.
    pub(super) fn handed(&self, rule: &Symbol, column: usize, src: &Src) -> Handed {
        let (mut meanings, data) = self.meanings(rule, column, src);
        match (meanings.pop(), data) {
            (None, _) => Handed::Data,
            (Some(m), false) if meanings.is_empty() => Handed::Meaning(m),
            (Some(_), _) => Handed::AsGiven,
        }
    }

    /// The database whose entities a folded parameter holds, if it holds entities.
    pub(super) fn folded_entity(&self, rule: &Symbol, column: usize, src: &Src) -> Option<Slot> {
        let (meanings, _) = self.meanings(rule, column, src);
        meanings.into_iter().find_map(|m| match m {
            Meaning::Entity(slot) => Some(slot),
            Meaning::Tx | Meaning::Typed(_) => None,
        })
    }

    /// The meanings that the rule uses of what a call under this source gives it, and whether it
    /// uses that as data too.
    pub(super) fn meanings(&self, rule: &Symbol, column: usize, src: &Src) -> (Vec<Meaning>, bool) {
        let (mut meanings, mut data): (Vec<Meaning>, bool) = (Vec::new(), false);
        for u in self.params.get(rule, column).into_iter().flatten() {
            let meaning = match u {
                Use::Data => None,
                Use::Entity(s) => self.database(s, src).map(Meaning::Entity),
                Use::Tx(s) => self.database(s, src).map(|_| Meaning::Tx),
                Use::ValueOf(s, a) => self.database(s, src).and_then(|slot| self.value_meaning(slot, a)),
            };
            match meaning {
                None => data = true,
                Some(m) if meanings.contains(&m) => {}
                Some(m) => meanings.push(m),
            }
        }
        (meanings, data)
    }

    /// The slot of a source, if a database is there: in a collection all places are data.
    fn database(&self, named: &Option<Src>, of_call: &Src) -> Option<Slot> {
        let src = named.as_ref().unwrap_or(of_call);
        self.slots.iter().position(|(s, kind)| s == src && matches!(kind, SlotKind::Db(_)))
    }

    /// What a value means under an attribute; none where it can only mean itself.
    fn value_meaning(&self, slot: Slot, attribute: &Value) -> Option<Meaning> {
        let schema = self.schema(slot)?;
        let a = match attribute {
            Value::Keyword(k) => schema.attribute_named(k)?,
            Value::Long(n) => {
                schema.attribute_of(annals_model::EntityId::from_raw(u64::try_from(*n).ok()?))?
            }
            Value::Ref(e) => schema.attribute_of(*e)?,
            _ => return None,
        };
        match a.value_type {
            ValueType::Ref => Some(Meaning::Entity(slot)),
            t @ (ValueType::Long
            | ValueType::Double
            | ValueType::BigInt
            | ValueType::BigDec
            | ValueType::Uri) => Some(Meaning::Typed(t)),
            _ => None,
        }
    }
}

/// Gathers the uses of `v` in a conjunction whose source is `src`.
fn uses(clauses: &[Clause], src: Option<&Src>, v: &Name, params: &Params, out: &mut BTreeSet<Use>) {
    let is = |t: &Spanned<Term>| t.as_var() == Some(v);
    for c in clauses {
        match c {
            Clause::Pattern(p) => {
                let src = p.src.as_ref().map(|s| &s.node).or(src).cloned();
                for (i, _) in p.terms.iter().enumerate().filter(|(_, t)| is(t)) {
                    out.insert(match (i, p.terms.get(1).map(|t| &t.node)) {
                        (0 | 1, _) => Use::Entity(src.clone()),
                        (2, Some(Term::Const(a))) => Use::ValueOf(src.clone(), a.clone()),
                        (3, _) => Use::Tx(src.clone()),
                        _ => Use::Data,
                    });
                }
            }
            Clause::Rule(r) => {
                let src = r.src.as_ref().map(|s| &s.node).or(src);
                for (i, _) in r.args.iter().enumerate().filter(|(_, a)| is(a)) {
                    out.extend(params.get(&r.name.node, i).into_iter().flatten().map(|u| u.within(src)));
                }
            }
            Clause::Not(n) => {
                let listed = n.join.as_ref().is_none_or(|j| j.iter().any(|l| l.node == *v));
                if listed {
                    uses(&n.clauses, n.src.as_ref().map(|s| &s.node).or(src), v, params, out);
                }
            }
            Clause::Or(o) => {
                if is_listed(o.join.as_ref(), v) {
                    let src = o.src.as_ref().map(|s| &s.node).or(src);
                    o.branches.iter().for_each(|b| uses(&b.clauses, src, v, params, out));
                }
            }
            Clause::Predicate(call) => in_call(&call.expr, v, out),
            Clause::Function(call, binding) => {
                in_call(&call.expr, v, out);
                binding.for_each_var(&mut |b, _| {
                    if b == v {
                        out.insert(Use::Data);
                    }
                });
            }
        }
    }
}

fn in_call(e: &Expr, v: &Name, out: &mut BTreeSet<Use>) {
    // The entity of these is resolved as in a pattern; their other arguments are data.
    let entity = match e {
        Expr::GetElse { src, e, default, .. } => {
            if default.as_var() == Some(v) {
                out.insert(Use::Data);
            }
            Some((src, e))
        }
        Expr::GetSome { src, e, .. } | Expr::Missing { src, e, .. } => Some((src, e)),
        _ => None,
    };
    match entity {
        Some((src, e)) if e.as_var() == Some(v) => drop(out.insert(Use::Entity(Some(src.node.clone())))),
        Some(_) => {}
        None => {
            if e.vars().any(|a| a.node == v) {
                out.insert(Use::Data);
            }
        }
    }
}

fn is_listed(join: Option<&JoinVars>, v: &Name) -> bool {
    join.is_none_or(|j| j.all().any(|l| l.node == *v))
}

/// Does a conjunction say anything of `v`? If not, it is what the call says it is.
fn mentioned(clauses: &[Clause], v: &Name) -> bool {
    let mut found = false;
    for c in clauses {
        c.for_each_var(&mut |b, _| found |= b == v);
    }
    found
}
