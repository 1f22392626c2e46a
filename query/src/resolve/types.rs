//! Types known before a query runs: from the attributes that a variable stands
//! under. A call that no value of those types can satisfy is an error.
//!
//! 1. A variable may be of every type that some pattern gives it, wherever in the
//!    query: a complaint is made only when all of them are wrong.
//! 2. Values that come from outside (inputs, functions, rules) may be anything.

use super::ir::*;
use super::{Resolver, VarSet};
use crate::eval::function::Kinds;
use crate::eval::rel::Var;
use annals_model::{Diagnostic, ValueType};
use std::collections::HashMap;

/// What is known of variables.
#[derive(Default)]
pub(super) struct Types {
    of: HashMap<Var, Kinds>,
    open: VarSet,
}

impl Types {
    /// The variable holds values of this type where it stands.
    pub(super) fn see(&mut self, v: Var, t: ValueType) {
        let k = Kinds::of_type(t);
        self.of.entry(v).and_modify(|had| *had = had.or(k)).or_insert(k);
    }

    fn kinds(&self, a: &Arg) -> Kinds {
        match a {
            Arg::Const(c) => Kinds::of_value(c),
            Arg::Var(v) if !self.open.has(*v) => self.of.get(v).copied().unwrap_or(Kinds::ANY),
            Arg::Var(_) | Arg::Src(_) => Kinds::ANY,
        }
    }

    /// Variables bound otherwise than by patterns with known attributes.
    fn open(&mut self, body: &Body) {
        for c in &body.clauses {
            match &c.kind {
                Kind::Function(_, b) => {
                    let mut vars = Vec::new();
                    b.vars(&mut vars);
                    self.open.extend(vars);
                }
                Kind::Pattern(p) => {
                    if !matches!(p.a, Attr::Known(_)) {
                        self.open.extend(c.vars.iter().copied());
                    }
                    self.open.extend([&p.tx, &p.op].into_iter().filter_map(|t| t.var()));
                }
                Kind::Tuples { .. } | Kind::Call { .. } | Kind::Facts { .. } | Kind::Never(_) => {
                    self.open.extend(c.vars.iter().copied());
                }
                Kind::Meaning { from, .. } => self.open.extend([*from]),
                Kind::Predicate(_) => {}
                Kind::Not { body, .. } => self.open(body),
                Kind::Or { branches, .. } => branches.iter().for_each(|b| self.open(b)),
                Kind::Fold(f) => {
                    self.open.extend(f.columns.iter().filter_map(|c| c.to));
                    f.branches.iter().for_each(|b| self.open(b));
                }
            }
        }
    }
}

impl Resolver<'_> {
    /// Complains about calls that can never have an answer.
    pub(super) fn check_types(&mut self, body: &Body, outside: &[Var]) {
        let mut types = std::mem::take(&mut self.types);
        types.open.extend(outside.iter().copied());
        types.open(body);
        self.check_calls(body, &types);
    }

    fn check_calls(&mut self, body: &Body, types: &Types) {
        for c in &body.clauses {
            match &c.kind {
                Kind::Predicate(Expr::Call { name, args }) | Kind::Function(Expr::Call { name, args }, _) => {
                    let kinds: Vec<Kinds> = args.iter().map(|a| types.kinds(a)).collect();
                    let Some(f) = self.library.function(name.as_str()) else { continue };
                    if let Err(e) = f.check_kinds(&kinds) {
                        let d = Diagnostic::new(e.code(), format!("{name}: {e}"))
                            .help("the types of the attributes make this call meaningless for every row");
                        self.error(d, c.span, "can never hold");
                    }
                }
                Kind::Not { body, .. } => self.check_calls(body, types),
                Kind::Or { branches, .. } => branches.iter().for_each(|b| self.check_calls(b, types)),
                Kind::Fold(f) => {
                    for column in &f.columns {
                        let found = types.kinds(&Arg::Var(column.from));
                        let takes = self.library.aggregate(column.name.as_str()).map(|a| a.takes);
                        if takes.is_some_and(|t| !t.meets(found)) {
                            let d = Diagnostic::new(
                                "query/type",
                                format!(
                                    "rule {}: {} cannot take what its variable holds",
                                    f.name, column.name
                                ),
                            )
                            .help("the types of the attributes make this fold fail for every row");
                            self.error(d, c.span, "can never be folded");
                        }
                    }
                    f.branches.iter().for_each(|b| self.check_calls(b, types));
                }
                _ => {}
            }
        }
    }
}
