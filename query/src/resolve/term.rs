//! Terms by their place: patterns and calls. What a literal means there is in `literal`.

use super::literal::fit;
use super::{Entry, Resolver, Scope, clause, ir::*};
use crate::ast::{self, Spanned, Src};
use crate::eval::function::Kinds;
use crate::eval::rel::Var;
use annals_model::{AttrId, Attribute, Diagnostic, Span, Value, ValueType};
use std::sync::Arc;

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
            (Some(Entry::Const(c)), span) => match self.tx_const(&c, slot, span) {
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
