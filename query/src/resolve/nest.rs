//! Bodies within bodies: `not`, `or` and their joins.

use super::ir::*;
use super::*;

impl Resolver<'_> {
    pub(super) fn not(&mut self, n: &ast::Not, scope: &mut Scope, src: &Src, out: &mut Vec<Clause>) {
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
        // Meanings of outer variables are computed outside: they are shared like those variables.
        let meanings = self.foreign_meanings(&body);
        if n.join.is_none() {
            join = used.iter().copied().filter(|v| outer.contains(v)).collect();
            let constant = used.is_empty() || inner.values().any(|e| matches!(e, Entry::Const(_)));
            if join.is_empty() && meanings.is_empty() && !constant {
                let d = Diagnostic::new("query/unbound", "this not shares no variable with the rest of the query")
                    .help("a not removes rows: it needs a variable of theirs; use not-join [] to test for existence alone");
                self.error(d, n.span, "removes either nothing or everything");
            }
        }
        for v in meanings {
            if !join.contains(&v) {
                join.push(v);
            }
        }
        let text = not_text(n);
        out.push(clause(Kind::Not { join: join.clone(), body }, n.span, &text, join));
    }

    /// The meanings that a body uses and does not compute itself.
    pub(super) fn foreign_meanings(&self, body: &Body) -> Vec<Var> {
        let own = |v: Var| body.clauses.iter().any(|c| matches!(c.kind, Kind::Meaning { to, .. } if to == v));
        used(body).into_iter().filter(|v| self.meant.values().any(|m| m == v) && !own(*v)).collect()
    }

    pub(super) fn or(&mut self, o: &ast::Or, scope: &mut Scope, src: &Src, out: &mut Vec<Clause>) {
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
    pub(super) fn close_or(
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
}

fn not_text(n: &ast::Not) -> String {
    Ast::Not(n.clone()).to_string()
}

fn or_text(o: &ast::Or) -> String {
    Ast::Or(o.clone()).to_string()
}
