//! The query around its clauses: inputs, `:find` and `:with`, and whether all of it is bound.

use super::check::{closure, culprits};
use super::ir::*;
use super::*;

impl Resolver<'_> {
    /// The query, resolved; complaints are gathered.
    pub(super) fn query(&mut self, q: &ast::Query) -> Resolved {
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
}
