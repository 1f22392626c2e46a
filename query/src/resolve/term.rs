//! Terms by their place: what a literal means in an entity, attribute, value,
//! transaction or op place, and in a call.

use super::{Entry, Resolver, Scope, clause, ir::*};
use crate::ast::{self, Clause as Ast, Spanned, Src};
use crate::eval::function::Kinds;
use crate::eval::rel::Var;
use annals_model::{AttrId, Attribute, Diagnostic, EntityId, Keyword, Schema, Span, T, Value, ValueType};
use std::sync::Arc;

/// The transaction's entity, from what may stand for one: its entity or its t.
pub(crate) fn tx_entity(n: i64) -> Option<EntityId> {
    let raw = u64::try_from(n).ok()?;
    let e = EntityId::from_raw(raw);
    match e.partition() {
        Some(annals_model::Partition::Db) => Some(T(raw).entity()),
        _ => Some(e),
    }
}

/// A value as one of this type: itself, or a number converted without loss.
pub(crate) fn fit(v: &Value, to: ValueType) -> Option<Value> {
    use num_traits::ToPrimitive;
    if v.value_type() == Some(to) {
        return Some(v.clone());
    }
    match (v, to) {
        (Value::Long(n), ValueType::Double) => {
            let d = *n as f64;
            (d as i128 == i128::from(*n)).then(|| Value::double(d)).flatten()
        }
        (Value::Long(n), ValueType::BigInt) => Some(Value::BigInt(Arc::new((*n).into()))),
        (Value::Long(n), ValueType::BigDec) => Some(Value::BigDec(Arc::new((*n).into()))),
        (Value::Long(n), ValueType::Ref) => u64::try_from(*n).ok().map(|n| Value::Ref(EntityId::from_raw(n))),
        (Value::Double(d), ValueType::Long) if d.fract() == 0.0 && d.abs() < 9.0e15 => {
            Some(Value::Long(*d as i64))
        }
        (Value::BigInt(n), ValueType::Long) => n.to_i64().map(Value::Long),
        (Value::String(s), ValueType::Uri) => Some(Value::Uri(s.clone())),
        _ => None,
    }
}

impl Resolver<'_> {
    /// The variable that is what `v` means; `v` itself unless its values come from outside.
    pub(super) fn meaning(&mut self, v: Var, as_what: Meaning) -> Var {
        if !self.raw.contains(&v) {
            return v;
        }
        let key = (v, format!("{as_what:?}"));
        if let Some(to) = self.meant.get(&key) {
            return *to;
        }
        let name = self.name(v).to_owned();
        let to = self.fresh(&name);
        self.meant.insert(key, to);
        let text = format!("{name} as {}", describe(&as_what));
        self.pending.push(clause(
            Kind::Meaning { from: v, to, as_what },
            Span::default(),
            &text,
            vec![v, to],
        ));
        to
    }

    fn schema(&self, slot: Slot) -> Option<Arc<Schema>> {
        match &self.slots[slot].1 {
            SlotKind::Db(s) => Some(s.clone()),
            SlotKind::Tuples => None,
        }
    }

    /// A literal as an entity; none (without complaint) if it names no entity.
    pub(super) fn entity_const(&mut self, c: &Value, slot: Slot, span: Span) -> Option<Term> {
        let Some(schema) = self.schema(slot) else { return Some(Term::Const(c.clone())) };
        match c {
            Value::Long(n) => u64::try_from(*n).ok().map(|n| Term::Ent(Ent::Id(n))),
            Value::Ref(e) => Some(Term::Ent(Ent::Id(e.raw()))),
            Value::Keyword(k) => entid(&schema, k).map(|e| Term::Ent(Ent::Id(e))),
            Value::Vector(pair) => match &pair[..] {
                [a, v] => {
                    let attr = match a {
                        Value::Keyword(k) => match schema.attribute_named(k) {
                            Some(a) => a.clone(),
                            None => {
                                self.unknown_attribute(&schema, k, span);
                                return None;
                            }
                        },
                        Value::Long(n) => {
                            let e = EntityId::from_raw(u64::try_from(*n).ok()?);
                            schema.attribute_of(e)?.clone()
                        }
                        _ => {
                            self.not_an_entity(c, span);
                            return None;
                        }
                    };
                    if attr.unique.is_none() {
                        let d = Diagnostic::new(
                            "query/type",
                            format!("{} is not unique, so it cannot identify an entity", attr.ident),
                        )
                        .help("a lookup ref needs an attribute with :db/unique");
                        self.error(d, span, "not a lookup ref");
                        return None;
                    }
                    if attr.is_ref() {
                        return match self.entity_const(v, slot, span)? {
                            Term::Ent(Ent::Id(e)) => {
                                Some(Term::Ent(Ent::Lookup(attr.id, Value::Ref(EntityId::from_raw(e)))))
                            }
                            _ => None,
                        };
                    }
                    fit(v, attr.value_type).map(|v| Term::Ent(Ent::Lookup(attr.id, v)))
                }
                _ => {
                    self.not_an_entity(c, span);
                    None
                }
            },
            _ => {
                self.not_an_entity(c, span);
                None
            }
        }
    }

    fn not_an_entity(&mut self, c: &Value, span: Span) {
        let d = Diagnostic::new("query/type", format!("a {} cannot be an entity", c.kind()))
            .help("an entity is an id, an ident keyword, or a lookup ref [:unique/attribute value]");
        self.error(d, span, "in an entity place");
    }

    fn unknown_attribute(&mut self, schema: &Schema, k: &Keyword, span: Span) {
        let d = Diagnostic::new("query/unknown-attribute", format!("unknown attribute {k}"));
        let d = match schema.nearest(k) {
            Some(near) => d.help(format!("did you mean {near}?")),
            None => {
                d.help("install it in a transaction, or check the database and the view that the query reads")
            }
        };
        self.error(d, span, "not installed at this basis");
    }

    /// The attribute that a literal names.
    fn attr_const(&mut self, c: &Value, slot: Slot, span: Span) -> Option<Arc<Attribute>> {
        let schema = self.schema(slot)?;
        let found = match c {
            Value::Keyword(k) => {
                let a = schema.attribute_named(k).cloned();
                if a.is_none() {
                    self.unknown_attribute(&schema, k, span);
                }
                return a;
            }
            Value::Long(n) => u64::try_from(*n).ok().map(EntityId::from_raw),
            Value::Ref(e) => Some(*e),
            _ => None,
        };
        let a = found.and_then(|e| schema.attribute_of(e)).cloned();
        if a.is_none() {
            let d = Diagnostic::new("query/unknown-attribute", format!("{c:?} is not an attribute"));
            self.error(d, span, "in an attribute place");
        }
        a
    }

    pub(super) fn pattern(&mut self, p: &ast::Pattern, scope: &mut Scope, src: &Src, out: &mut Vec<Clause>) {
        let src = p.src.as_ref().map_or(src, |s| &s.node);
        let Some(slot) = self.slot(src, p.src.as_ref().map_or(p.span, |s| s.span)) else { return };
        let text = p.to_string();
        let entries: Vec<(Option<Entry>, Span)> = p
            .terms
            .iter()
            .map(|t| {
                let e = match &t.node {
                    ast::Term::Var(v) => Some(self.enter(scope, v)),
                    ast::Term::Const(c) => Some(Entry::Const(c.clone())),
                    ast::Term::Blank | ast::Term::Src(_) => None,
                };
                (e, t.span)
            })
            .collect();
        if matches!(self.slots[slot].1, SlotKind::Tuples) {
            let terms: Vec<Term> = entries
                .into_iter()
                .map(|(e, _)| match e {
                    Some(Entry::Var(v)) => Term::Var(v),
                    Some(Entry::Const(c)) => Term::Const(c),
                    None => Term::Blank,
                })
                .collect();
            let vars = vars_of(&terms);
            out.push(clause(Kind::Tuples { src: slot, terms }, p.span, &text, vars));
            return;
        }
        let never = |out: &mut Vec<Clause>, vars: Vec<Var>, why: &'static str| {
            out.push(clause(Kind::Never(why), p.span, &text, vars));
        };
        let mut places = entries.iter().map(|(e, s)| (e.clone(), *s));
        let mut next = || places.next().unwrap_or((None, p.span));
        let (e, a, v, tx, op) = (next(), next(), next(), next(), next());
        let all_vars: Vec<Var> = entries
            .iter()
            .filter_map(|(e, _)| match e {
                Some(Entry::Var(v)) => Some(*v),
                _ => None,
            })
            .collect();

        let mut known: Option<Arc<Attribute>> = None;
        let attr = match a {
            (None, _) => Attr::Any,
            (Some(Entry::Var(v)), _) => Attr::Var(self.meaning(v, Meaning::Entity(slot))),
            (Some(Entry::Const(c)), span) => match self.attr_const(&c, slot, span) {
                Some(found) => {
                    let id = found.id;
                    known = Some(found);
                    Attr::Known(id)
                }
                None => return,
            },
        };
        let errors = self.errors.len();
        let e = match e {
            (None, _) => Term::Blank,
            (Some(Entry::Var(v)), _) => Term::Var(self.meaning(v, Meaning::Entity(slot))),
            (Some(Entry::Const(c)), span) => match self.entity_const(&c, slot, span) {
                Some(t) => t,
                None if self.errors.len() > errors => return,
                None => return never(out, all_vars, "no entity has this name"),
            },
        };
        let is_ref = known.as_ref().is_some_and(|a| a.is_ref());
        let value = match v {
            (None, _) => Term::Blank,
            (Some(Entry::Var(v)), _) => Term::Var(match &known {
                Some(a) if a.is_ref() => self.meaning(v, Meaning::Entity(slot)),
                Some(a) => self.meaning(v, Meaning::Typed(a.value_type)),
                None => v,
            }),
            (Some(Entry::Const(c)), span) => match &known {
                None => Term::Const(c),
                Some(a) if a.is_ref() => match self.entity_const(&c, slot, span) {
                    Some(t) => t,
                    None if self.errors.len() > errors => return,
                    None => return never(out, all_vars, "no entity has this name"),
                },
                Some(a) => match fit(&c, a.value_type) {
                    Some(c) => Term::Const(c),
                    None => {
                        let d = Diagnostic::new(
                            "query/type",
                            format!("{} holds {} values, never a {}", a.ident, a.value_type.name(), c.kind()),
                        )
                        .help("write a value of the attribute's type, or compare with a predicate");
                        // A number that the type cannot hold is still a number: no row, no error.
                        let number = Kinds::of_type(a.value_type).meets(Kinds::NUMBER);
                        if !(number && Kinds::of_value(&c).meets(Kinds::NUMBER)) {
                            self.error(d, span, "can match nothing");
                            return;
                        }
                        self.warnings.push(d.at(span, "can match nothing"));
                        return never(out, all_vars, "no value of the attribute has this type");
                    }
                },
            },
        };
        let tx = match tx {
            (None, _) => Term::Blank,
            (Some(Entry::Var(v)), _) => Term::Var(self.meaning(v, Meaning::Tx)),
            (Some(Entry::Const(Value::Long(n))), _) => match tx_entity(n) {
                Some(e) => Term::Ent(Ent::Id(e.raw())),
                None => return never(out, all_vars, "no transaction has this number"),
            },
            (Some(Entry::Const(c)), span) => match self.entity_const(&c, slot, span) {
                Some(t) => t,
                None if self.errors.len() > errors => return,
                None => return never(out, all_vars, "no transaction has this name"),
            },
        };
        let op = match op {
            (None, _) => Term::Blank,
            (Some(Entry::Var(v)), _) => Term::Var(v),
            (Some(Entry::Const(c)), _) => Term::Const(c),
        };
        if let Term::Var(e) = e {
            self.types.see(e, ValueType::Ref);
        }
        if let (Term::Var(v), Some(a)) = (&value, &known) {
            self.types.see(*v, a.value_type);
        }
        let one = known.as_ref().is_some_and(|a| !a.is_many());
        let unique = known.as_ref().is_some_and(|a| a.unique.is_some());
        let mut vars = vars_of(&[e.clone(), value.clone(), tx.clone(), op.clone()]);
        if let Attr::Var(a) = attr
            && !vars.contains(&a)
        {
            vars.push(a);
        }
        let p2 = Pattern { src: slot, e, a: attr, v: value, tx, op, one, unique, is_ref };
        out.push(clause(Kind::Pattern(p2), p.span, &text, vars));
    }

    fn arg(&mut self, t: &Spanned<ast::Term>, scope: &mut Scope) -> Option<Arg> {
        Some(match &t.node {
            ast::Term::Const(c) => Arg::Const(c.clone()),
            ast::Term::Src(s) => Arg::Src(self.slot(s, t.span)?),
            ast::Term::Blank => {
                let d = Diagnostic::new("query/clause", "_ cannot be an argument of a call");
                self.error(d, t.span, "stands for no value");
                return None;
            }
            ast::Term::Var(v) => match self.enter(scope, v) {
                Entry::Var(v) => Arg::Var(v),
                Entry::Const(c) => Arg::Const(c),
            },
        })
    }

    fn call_attr(&mut self, t: &Spanned<ast::Term>, slot: Slot, scope: &mut Scope) -> Option<Arc<Attribute>> {
        match self.arg(t, scope)? {
            Arg::Const(c) if self.schema(slot).is_some() => self.attr_const(&c, slot, t.span),
            _ => {
                let d =
                    Diagnostic::new("query/type", "the attribute of this call must be written as a keyword");
                self.error(d, t.span, "not an attribute");
                None
            }
        }
    }

    pub(super) fn expr(
        &mut self,
        e: &ast::Expr,
        span: Span,
        scope: &mut Scope,
        _src: &Src,
        _out: &mut Vec<Clause>,
    ) -> Option<Expr> {
        match e {
            ast::Expr::Call { name, args } => {
                let all: Option<Vec<Arg>> = args.iter().map(|a| self.arg(a, scope)).collect();
                let args = all?;
                self.known_function(&name.node, &args, span)?;
                Some(Expr::Call { name: name.node.clone(), args })
            }
            ast::Expr::GetElse { src, e, a, default } => {
                let slot = self.slot(&src.node, src.span)?;
                let attr = self.call_attr(a, slot, scope)?;
                if attr.is_many() {
                    let d = Diagnostic::new(
                        "query/cardinality",
                        format!(
                            "get-else needs an attribute of cardinality one, and {} has many values",
                            attr.ident
                        ),
                    );
                    self.error(d, a.span, "cardinality many");
                    return None;
                }
                let e = self.arg(e, scope)?;
                let at = default.span;
                let default = self.arg(default, scope)?;
                if default == Arg::Const(Value::Nil) {
                    let d = Diagnostic::new("query/type", "the default of get-else may not be nil")
                        .help("use missing? to find entities without a value");
                    self.error(d, at, "nil");
                    return None;
                }
                Some(Expr::GetElse { src: slot, e, a: attr.id, default })
            }
            ast::Expr::GetSome { src, e, attrs } => {
                let slot = self.slot(&src.node, src.span)?;
                let e = self.arg(e, scope)?;
                let ids: Option<Vec<AttrId>> =
                    attrs.iter().map(|a| self.call_attr(a, slot, scope).map(|a| a.id)).collect();
                Some(Expr::GetSome { src: slot, e, attrs: ids? })
            }
            ast::Expr::Missing { src, e, a } => {
                let slot = self.slot(&src.node, src.span)?;
                let attr = self.call_attr(a, slot, scope)?;
                Some(Expr::Missing { src: slot, e: self.arg(e, scope)?, a: attr.id })
            }
            ast::Expr::Ground(c) => Some(Expr::Ground(c.node.clone())),
            ast::Expr::Query { query, args } => {
                let all: Option<Vec<Arg>> = args.iter().map(|a| self.arg(a, scope)).collect();
                Some(Expr::Query { query: query.clone(), args: all? })
            }
            ast::Expr::TxIds { src, from, to } => Some(Expr::TxIds {
                src: self.slot(&src.node, src.span)?,
                from: self.arg(from, scope)?,
                to: self.arg(to, scope)?,
            }),
            ast::Expr::TxData { src, tx } => {
                Some(Expr::TxData { src: self.slot(&src.node, src.span)?, tx: self.arg(tx, scope)? })
            }
            ast::Expr::Fulltext { .. } => {
                let d = Diagnostic::new("query/unsupported", "fulltext is not available in this release")
                    .help("contains?, starts-with? and re-find test strings");
                self.error(d, span, "not supported");
                None
            }
        }
    }

    /// Is there such a function, and does it take so many arguments?
    fn known_function(&mut self, name: &annals_model::Symbol, args: &[Arg], span: Span) -> Option<()> {
        let Some(f) = self.library.function(name.as_str()) else {
            let d = Diagnostic::new("query/unknown-function", format!("unknown function {name}"));
            let d = match self.library.nearest_function(name.as_str()) {
                Some(near) => d.help(format!("did you mean {near}?")),
                None => d.help("the table of functions is in docs/functions.md"),
            };
            self.error(d, span, "not a function");
            return None;
        };
        let kinds: Vec<Kinds> = args
            .iter()
            .map(|a| match a {
                Arg::Const(c) => Kinds::of_value(c),
                Arg::Var(_) | Arg::Src(_) => Kinds::ANY,
            })
            .collect();
        if let Err(e) = f.check_arity(args.len()).and_then(|()| f.check_kinds(&kinds)) {
            let mut d = Diagnostic::new(e.code(), format!("{name}: {e}"));
            if let Some(help) = e.help() {
                d = d.help(help);
            }
            self.error(d, span, "in this call");
            return None;
        }
        Some(())
    }

    /// Finds the rule parameters that stand in entity places, directly or through other rules.
    pub(super) fn infer_entity_params(&mut self) {
        let names: Vec<_> = self.graph.rules.keys().cloned().collect();
        for n in &names {
            let arity = self.graph.rules[n][0].0.arity();
            self.entity_params.insert(n.clone(), vec![false; arity]);
        }
        let schemas: Vec<Arc<Schema>> = (0..self.slots.len()).filter_map(|s| self.schema(s)).collect();
        let is_ref = |k: &Keyword| schemas.iter().any(|s| s.attribute_named(k).is_some_and(|a| a.is_ref()));
        loop {
            let mut changed = false;
            for n in &names {
                for (rule, _) in self.graph.rules[n].clone() {
                    for (i, h) in rule.head_vars().enumerate() {
                        // A count of entities is no entity.
                        let kept = rule.folds().nth(i).flatten().is_none()
                            || super::monotone::best_of(rule, i).is_some();
                        if !self.entity_params[n][i]
                            && kept
                            && stands_for_entity(&rule.clauses, &h.node, &self.entity_params, &is_ref)
                        {
                            self.entity_params.get_mut(n).expect("entered above")[i] = true;
                            changed = true;
                        }
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }
}

fn stands_for_entity(
    clauses: &[Ast],
    v: &ast::Var,
    params: &std::collections::HashMap<annals_model::Symbol, Vec<bool>>,
    is_ref: &dyn Fn(&Keyword) -> bool,
) -> bool {
    let is = |t: Option<&Spanned<ast::Term>>| t.is_some_and(|t| t.as_var() == Some(v));
    clauses.iter().any(|c| match c {
        Ast::Pattern(p) => {
            is(p.terms.first())
                || is(p.terms.get(1))
                || (is(p.terms.get(2))
                    && matches!(p.terms.get(1).map(|t| &t.node), Some(ast::Term::Const(Value::Keyword(k))) if is_ref(k)))
        }
        Ast::Rule(r) => r
            .args
            .iter()
            .enumerate()
            .any(|(i, a)| is(Some(a)) && params.get(&r.name.node).is_some_and(|p| p.get(i) == Some(&true))),
        Ast::Not(n) => stands_for_entity(&n.clauses, v, params, is_ref),
        Ast::Or(o) => o.branches.iter().any(|b| stands_for_entity(&b.clauses, v, params, is_ref)),
        Ast::Predicate(_) | Ast::Function(..) => false,
    })
}

fn vars_of(terms: &[Term]) -> Vec<Var> {
    let mut out = Vec::new();
    for t in terms {
        if let Term::Var(v) = t
            && !out.contains(v)
        {
            out.push(*v);
        }
    }
    out
}

fn describe(m: &Meaning) -> String {
    match m {
        Meaning::Entity(_) => "an entity".to_owned(),
        Meaning::Tx => "a transaction".to_owned(),
        Meaning::Typed(t) => format!("a {}", t.name()),
    }
}
