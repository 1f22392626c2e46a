//! The rules of a query as a graph: who calls whom, which call themselves, and
//! whether negation stays outside of recursion.

use crate::ast::{Clause, Rule, RuleSet, Var as Name};
use annals_model::{Diagnostic, Span, Symbol};
use std::collections::BTreeMap;

/// All rules in reach of a query, by name.
pub(crate) struct Graph<'a> {
    pub(crate) rules: BTreeMap<Symbol, Vec<(&'a Rule, bool)>>,
    components: BTreeMap<Symbol, usize>,
    recursive: Vec<bool>,
    edges: BTreeMap<Symbol, Vec<Edge>>,
}

#[derive(Clone)]
struct Edge {
    to: Symbol,
    negated: bool,
    span: Span,
}

impl<'a> Graph<'a> {
    /// From rule sets in order; definitions of one name add up across sets. The
    /// flag of a set says whether its spans point into the query's own text.
    pub(crate) fn new(sets: &[(&'a RuleSet, bool)]) -> Graph<'a> {
        let mut rules: BTreeMap<Symbol, Vec<(&Rule, bool)>> = BTreeMap::new();
        let mut edges: BTreeMap<Symbol, Vec<Edge>> = BTreeMap::new();
        for (set, own) in sets {
            for r in &set.rules {
                rules.entry(r.name.node.clone()).or_default().push((r, *own));
                calls(&r.clauses, false, edges.entry(r.name.node.clone()).or_default());
            }
        }
        let mut g = Graph { rules, components: BTreeMap::new(), recursive: Vec::new(), edges };
        g.find_components();
        g
    }

    /// Does a call of this rule lead back to it?
    pub(crate) fn is_recursive(&self, name: &Symbol) -> bool {
        self.components.get(name).is_some_and(|c| self.recursive[*c])
    }
    /// The strongly connected component of a rule.
    pub(crate) fn component(&self, name: &Symbol) -> usize {
        self.components.get(name).copied().unwrap_or(usize::MAX)
    }

    /// Tarjan's algorithm with a stack of its own: rule graphs may be deep.
    fn find_components(&mut self) {
        let names: Vec<Symbol> = self.rules.keys().cloned().collect();
        let number: BTreeMap<&Symbol, usize> = names.iter().enumerate().map(|(i, n)| (n, i)).collect();
        let next: Vec<Vec<usize>> = names
            .iter()
            .map(|n| self.edges[n].iter().filter_map(|e| number.get(&e.to).copied()).collect())
            .collect();
        let n = names.len();
        let (mut index, mut low) = (vec![usize::MAX; n], vec![0; n]);
        let (mut on_stack, mut stack, mut clock) = (vec![false; n], Vec::new(), 0);
        for root in 0..n {
            if index[root] != usize::MAX {
                continue;
            }
            let mut work = vec![(root, 0)];
            while let Some(&mut (v, ref mut at)) = work.last_mut() {
                if *at == 0 {
                    (index[v], low[v]) = (clock, clock);
                    clock += 1;
                    stack.push(v);
                    on_stack[v] = true;
                }
                if let Some(&w) = next[v].get(*at) {
                    *at += 1;
                    if index[w] == usize::MAX {
                        work.push((w, 0));
                    } else if on_stack[w] {
                        low[v] = low[v].min(index[w]);
                    }
                    continue;
                }
                work.pop();
                if let Some((parent, _)) = work.last() {
                    low[*parent] = low[*parent].min(low[v]);
                }
                if low[v] == index[v] {
                    let c = self.recursive.len();
                    let mut size = 0;
                    while let Some(w) = stack.pop() {
                        on_stack[w] = false;
                        size += 1;
                        self.components.insert(names[w].clone(), c);
                        if w == v {
                            break;
                        }
                    }
                    self.recursive.push(size > 1 || next[v].contains(&v));
                }
            }
        }
    }

    /// A complaint for every component that negates itself, naming the cycle.
    pub(crate) fn stratify(&self) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        for (name, edges) in &self.edges {
            for e in edges.iter().filter(|e| e.negated && self.component(name) == self.component(&e.to)) {
                if !self.rules.contains_key(&e.to) {
                    continue;
                }
                let path = self.path(&e.to, name);
                let mut cycle = format!("{name} -> not {}", e.to);
                path.iter().skip(1).for_each(|s| cycle.push_str(&format!(" -> {s}")));
                let mut d = Diagnostic::new(
                    "query/not-stratified",
                    format!("rule {name} depends on its own negation: {cycle}"),
                )
                .help("take the negated part out of the recursion: a rule may only negate rules that do not lead back to it");
                if self.rules[name].iter().all(|(_, own)| *own) {
                    d = d.at(e.span, "negated within its own recursion");
                } else {
                    d = d.path(format!("rule {name}"));
                }
                out.push(d);
            }
        }
        out
    }

    /// How a recursive rule leads back to itself.
    pub(crate) fn cycle(&self, name: &Symbol) -> String {
        let same = |e: &&Edge| self.component(&e.to) == self.component(name);
        let ways = self.edges.get(name).into_iter().flatten().filter(same);
        let shortest = ways.map(|e| self.path(&e.to, name)).min_by_key(Vec::len).unwrap_or_default();
        shortest.iter().fold(name.to_string(), |text, s| text + " -> " + s.as_str())
    }

    /// A shortest way from one rule to another along calls, both ends included.
    fn path(&self, from: &Symbol, to: &Symbol) -> Vec<Symbol> {
        let mut came: BTreeMap<&Symbol, &Symbol> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            if at == to {
                let mut path = vec![to.clone()];
                let mut at = to;
                while at != from {
                    at = came[at];
                    path.push(at.clone());
                }
                path.reverse();
                return path;
            }
            for e in self.edges.get(at).into_iter().flatten() {
                if &e.to != from && !came.contains_key(&e.to) {
                    came.insert(&e.to, at);
                    queue.push_back(&e.to);
                }
            }
        }
        vec![from.clone(), to.clone()]
    }
}

fn calls(clauses: &[Clause], negated: bool, out: &mut Vec<Edge>) {
    for c in clauses {
        match c {
            Clause::Rule(r) => out.push(Edge { to: r.name.node.clone(), negated, span: r.span }),
            Clause::Not(n) => calls(&n.clauses, true, out),
            Clause::Or(o) => o.branches.iter().for_each(|b| calls(&b.clauses, negated, out)),
            Clause::Pattern(_) | Clause::Predicate(_) | Clause::Function(..) => {}
        }
    }
}

/// The variables by which an `or` branch or a body can meet its surroundings:
/// all but those that stand only within a `not` or within a join with a list of its own.
pub(crate) fn exported<'a>(clauses: &'a [Clause], out: &mut Vec<&'a Name>) {
    let mut add = |v: &'a Name| {
        if !out.contains(&v) {
            out.push(v);
        }
    };
    for c in clauses {
        match c {
            Clause::Not(n) => n.join.iter().flatten().for_each(|v| add(&v.node)),
            Clause::Or(o) => match &o.join {
                Some(j) => j.all().for_each(|v| add(&v.node)),
                None => {
                    for b in &o.branches {
                        let mut inner = Vec::new();
                        exported(&b.clauses, &mut inner);
                        inner.into_iter().for_each(&mut add);
                    }
                }
            },
            _ => c.for_each_var(&mut |v, _| add(v)),
        }
    }
}
