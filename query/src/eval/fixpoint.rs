//! Recursive rules: demand first, then a fixpoint.
//!
//! A call with some arguments bound is answered by the rules specialised to that
//! pattern of bindings (its *adornment*): each specialised predicate gets a second
//! one, its *demand* (magic set), which holds the bindings asked for, and each
//! rule only derives rows that somebody asked for.
//!
//! One stratum runs semi-naively. For each rule and each atom `k` of its body that
//! is derived here (demands included), `k` reads the delta, atoms before it all
//! that is known, atoms after it only what is stable: no derivation is made twice.
//!
//! 1. A [`Fixpoint`] lives as long as the run. Asking for more bindings later adds
//!    to the demand and goes on from there; nothing is derived again.
//! 2. Rules of lower components are called from bodies like any clause, so they
//!    are complete (for what is asked of them) whenever a negation looks at them.
//! 3. Linear rules with a column that only passes through do not come here but to `closure`.

use super::Run;
use super::body::State;
use super::closure::Path;
use super::facts::{Facts, Hashed, Part};
use super::join::natural;
use super::rel::{Rel, Var};
use super::{FixpointChoice, seminaive};
use crate::error::QueryError;
use crate::resolve::VarSet;
use crate::resolve::check::{provides, ready};
use crate::resolve::ir::{Body, Clause, Kind, Pred, Program, Rule, Term};
use annals_model::{Cell, Span};
use hashbrown::HashMap;
use std::cell::RefCell;
use std::rc::Rc;

/// Bindings beyond which a call asks for everything instead.
const MANY: usize = 50_000;

/// Fixpoints of a run by predicate and adornment.
#[derive(Default)]
pub(crate) struct Calls {
    fixpoints: HashMap<(Pred, Vec<bool>), Rc<Fixpoint>>,
    paths: HashMap<Pred, Option<Rc<Path>>>,
}

/// One predicate under one adornment: rows, and the demand for them.
struct Adorned {
    pred: Pred,
    bound: Vec<bool>,
    rows: usize,
    /// No demand when nothing is bound: everything is wanted.
    demand: Option<usize>,
}

/// A specialised rule: derives into `head`.
struct Derivation {
    head: usize,
    vars: Vec<Term>,
    body: Body,
    /// The clauses of the body that read facts of this fixpoint.
    atoms: Vec<usize>,
}

/// A set of mutually recursive adorned predicates with what they have derived.
pub(crate) struct Fixpoint {
    adorned: Vec<Adorned>,
    rules: Vec<Derivation>,
    facts: Vec<RefCell<Box<dyn Facts>>>,
    started: std::cell::Cell<bool>,
}

/// The fixpoint whose rule is being run, and which atom reads the delta.
#[derive(Clone)]
pub(crate) struct Frame {
    fixpoint: Rc<Fixpoint>,
    delta: usize,
}

impl Run<'_> {
    /// The answers of a recursive call that can join what is bound.
    pub(crate) fn call_rule(&self, s: &State<'_>, pred: Pred, args: &[Term]) -> Result<Rel, QueryError> {
        let required = &self.program.preds[pred].required;
        // The bindings to pass: constants, and variables of the parts that must be passed
        // or else of the smallest part.
        let mut parts: Vec<usize> = Vec::new();
        for (a, r) in args.iter().zip(required) {
            if let (Term::Var(v), true) = (a, *r)
                && let Some(i) = s.part_of(*v)
                && !parts.contains(&i)
            {
                parts.push(i);
            }
        }
        if parts.is_empty() && self.optimise {
            let best = args
                .iter()
                .filter_map(|a| a.var().and_then(|v| s.part_of(v)))
                .min_by_key(|i| s.parts[*i].len);
            parts.extend(best);
        }
        let vars: Vec<Var> = args.iter().filter_map(Term::var).collect();
        let chosen: Vec<Rel> = parts.iter().map(|i| s.parts[*i].project(&vars)).collect();
        let mut seeds = Rel::unit();
        for p in self.seeds(&chosen, &vars)? {
            seeds = super::join::product(&seeds, &p, self.budget)?;
        }
        if seeds.len > MANY && !required.iter().any(|r| *r) {
            seeds = Rel::unit();
        }
        let constant = |t: &Term| match t {
            Term::Const(c) => Ok(Some(self.dict.encode(c))),
            Term::Ent(e) => Ok(self.ent(self.any_slot(), e)?.map(crate::mem::entity_cell)),
            Term::Var(_) | Term::Blank => Ok::<_, QueryError>(None),
        };
        // Columns of bindings, one a bound argument.
        let mut bound = Vec::new();
        let mut cols: Vec<Vec<Cell>> = Vec::new();
        for (a, r) in args.iter().zip(required) {
            let col = match a {
                Term::Var(v) => seeds.col(*v).map(|c| c.to_vec()),
                Term::Const(_) | Term::Ent(_) => match constant(a)? {
                    Some(c) if self.optimise || *r => Some(vec![c; seeds.len]),
                    Some(_) => None,
                    None => return self.no_answers(args),
                },
                Term::Blank => None,
            };
            bound.push(col.is_some());
            cols.extend(col);
        }
        let arity = args.len();
        let fresh: Vec<Var> = (0..arity as Var).collect();
        let mut answers = match self.path(pred)? {
            Some(path) => self.closure(&path, &bound, &cols)?,
            None => {
                let f = self.fixpoint(pred, &bound);
                self.saturate(&f, &cols, seeds.len)?;
                f.answers(&bound, &cols, &fresh, self)?
            }
        };
        // Answers are over 0..arity: apply constants and repeated variables, then name.
        let mut keep: Option<Vec<u32>> = None;
        for (i, a) in args.iter().enumerate() {
            let test: Box<dyn Fn(usize) -> bool> = match a {
                Term::Blank => continue,
                Term::Const(_) | Term::Ent(_) => {
                    let Some(c) = constant(a)? else { return self.no_answers(args) };
                    let col = answers.cols[i].clone();
                    Box::new(move |row| col[row] == c)
                }
                Term::Var(_) => match args[..i].iter().position(|b| b == a) {
                    None => continue,
                    Some(first) => {
                        let (x, y) = (answers.cols[i].clone(), answers.cols[first].clone());
                        Box::new(move |row| x[row] == y[row])
                    }
                },
            };
            let rows: Vec<u32> = match keep.take() {
                None => (0..answers.len as u32).filter(|r| test(*r as usize)).collect(),
                Some(rows) => rows.into_iter().filter(|r| test(*r as usize)).collect(),
            };
            keep = Some(rows);
        }
        if let Some(rows) = keep
            && rows.len() < answers.len
        {
            answers = answers.take(&rows, true, true, self.budget);
        }
        let mut shown: Vec<Var> = Vec::new();
        let mut names: Vec<Var> = Vec::new();
        for (i, a) in args.iter().enumerate() {
            if let Term::Var(v) = a
                && !names.contains(v)
            {
                shown.push(i as Var);
                names.push(*v);
            }
        }
        if answers.is_empty() {
            return Ok(Rel::empty(&names, self.budget));
        }
        let out = answers.project(&shown).distinct(self.budget)?;
        Ok(out.rename(|v| names[shown.iter().position(|s| *s == v).expect("projected")]))
    }

    fn no_answers(&self, args: &[Term]) -> Result<Rel, QueryError> {
        let mut vars: Vec<Var> = Vec::new();
        for v in args.iter().filter_map(Term::var) {
            if !vars.contains(&v) {
                vars.push(v);
            }
        }
        Ok(Rel::empty(&vars, self.budget))
    }

    /// The slot that lookup refs in rule arguments mean: the first database.
    fn any_slot(&self) -> usize {
        self.slots.iter().position(|s| matches!(s, super::Given::Db(_))).unwrap_or(0)
    }

    fn path(&self, pred: Pred) -> Result<Option<Rc<Path>>, QueryError> {
        if self.operator != FixpointChoice::Best {
            return Ok(None);
        }
        if let Some(p) = self.calls.borrow().paths.get(&pred) {
            return Ok(p.clone());
        }
        let p = Path::of(&self.program, pred).map(Rc::new);
        self.calls.borrow_mut().paths.insert(pred, p.clone());
        Ok(p)
    }

    fn fixpoint(&self, pred: Pred, bound: &[bool]) -> Rc<Fixpoint> {
        let key = (pred, bound.to_vec());
        if let Some(f) = self.calls.borrow().fixpoints.get(&key) {
            return f.clone();
        }
        let f = Rc::new(Fixpoint::new(&self.program, pred, bound, self.operator));
        self.calls.borrow_mut().fixpoints.insert(key, f.clone());
        f
    }

    /// Adds demand for `n` bindings to the first predicate and derives what follows.
    fn saturate(&self, f: &Rc<Fixpoint>, cols: &[Vec<Cell>], n: usize) -> Result<(), QueryError> {
        if let Some(d) = f.adorned[0].demand {
            let views: Vec<&[Cell]> = cols.iter().map(Vec::as_slice).collect();
            f.facts[d].borrow_mut().derive(&views, n, self.budget)?;
        }
        if !f.started.replace(true) {
            for r in f.rules.iter().filter(|r| r.atoms.is_empty()) {
                self.derive(f, r, None)?;
            }
        }
        loop {
            self.budget.check()?;
            let mut any = false;
            for facts in &f.facts {
                any |= facts.borrow_mut().advance(self.budget)?;
            }
            if !any {
                return Ok(());
            }
            for r in &f.rules {
                for &k in &r.atoms {
                    let Kind::Facts { facts, .. } = r.body.clauses[k].kind else { continue };
                    if f.facts[facts].borrow().len(Part::Delta) > 0 {
                        self.derive(f, r, Some(k))?;
                    }
                }
            }
        }
    }

    /// Runs one rule with atom `delta` reading the delta.
    fn derive(&self, f: &Rc<Fixpoint>, r: &Derivation, delta: Option<usize>) -> Result<(), QueryError> {
        let mut needed: Vec<Var> = Vec::new();
        for v in r.vars.iter().filter_map(Term::var) {
            if !needed.contains(&v) {
                needed.push(v);
            }
        }
        let frame = Frame { fixpoint: f.clone(), delta: delta.unwrap_or(usize::MAX) };
        let outer = self.frame.replace(Some(frame));
        let out = self.body(&r.body, vec![], &needed);
        self.frame.replace(outer);
        let out = out?;
        if out.is_empty() {
            return Ok(());
        }
        let len = if out.vars.is_empty() { 1 } else { out.len };
        let constants: Vec<Vec<Cell>> = r
            .vars
            .iter()
            .map(|t| match t {
                Term::Const(c) => Ok(vec![self.dict.encode(c); len]),
                Term::Ent(e) => Ok(self
                    .ent(self.any_slot(), e)?
                    .map(|raw| vec![crate::mem::entity_cell(raw); len])
                    .unwrap_or_default()),
                Term::Var(_) | Term::Blank => Ok::<_, QueryError>(vec![]),
            })
            .collect::<Result<_, _>>()?;
        let mut cols: Vec<&[Cell]> = Vec::with_capacity(r.vars.len());
        for (t, c) in r.vars.iter().zip(&constants) {
            match t {
                Term::Var(v) => cols.push(out.col(*v).expect("needed")),
                _ if c.len() < len => return Ok(()),
                _ => cols.push(c),
            }
        }
        f.facts[r.head].borrow_mut().derive(&cols, len, self.budget)
    }

    /// Joins the state with an atom of the running fixpoint; the part it starts from is
    /// taken out of the state.
    pub(crate) fn facts_step(
        &self,
        s: &mut State<'_>,
        at: usize,
        facts: usize,
        args: &[Term],
    ) -> Result<Rel, QueryError> {
        let frame = self.frame.borrow().clone().expect("facts are read within a fixpoint only");
        let part = frame.part(at);
        let mut store = frame.fixpoint.facts[facts].borrow_mut();
        // The part with most of the atom's variables, if joining through it is less work than a scan.
        let vars: Vec<Var> = args.iter().filter_map(Term::var).collect();
        let best = (0..s.parts.len())
            .map(|i| (vars.iter().filter(|v| s.parts[i].has(**v)).count(), i))
            .filter(|(n, _)| *n > 0)
            .max_by_key(|(n, i)| (*n, std::cmp::Reverse(s.parts[*i].len)));
        if let Some((_, i)) = best
            && s.parts[i].len < 4 * store.len(part)
        {
            let mut on = Vec::new();
            for (c, a) in args.iter().enumerate() {
                if let Term::Var(v) = a
                    && s.parts[i].has(*v)
                {
                    on.push(c);
                }
            }
            let rel = s.parts[i].clone();
            let keys: Vec<&[Cell]> = on
                .iter()
                .map(|c| &**rel.col(args[*c].var().expect("a variable")).expect("it has it"))
                .collect();
            if let Some(found) = store.probe(part, &on, &keys, rel.len, self.budget) {
                let (left, right) = found?;
                s.parts.swap_remove(i);
                let mut out = rel.take(&left, false, true, self.budget);
                let mut key = rel.key.clone();
                let mut tests: Vec<(&Term, Vec<Cell>)> = Vec::new();
                for (c, a) in args.iter().enumerate() {
                    match a {
                        Term::Var(v) if !out.has(*v) => {
                            out = out.with(*v, store.fetch(c, &right), self.budget);
                            if let Some(k) = &mut key {
                                k.push(*v);
                            }
                        }
                        Term::Var(_) if on.contains(&c) => {}
                        Term::Var(_) | Term::Const(_) | Term::Ent(_) => {
                            tests.push((a, store.fetch(c, &right)))
                        }
                        Term::Blank => key = None,
                    }
                }
                let out = out.keyed(key);
                let mut keep: Vec<u32> = (0..left.len() as u32).collect();
                for (a, cells) in tests {
                    match self.fact_test(a, &out)? {
                        Some(test) => keep.retain(|i| test(*i as usize, cells[*i as usize])),
                        None => keep.clear(),
                    }
                }
                return Ok(if keep.len() < left.len() {
                    out.take(&keep, true, true, self.budget)
                } else {
                    out
                });
            }
        }
        let fresh: Vec<Var> = (0..args.len() as Var).collect();
        let all = store.rows(part, &fresh, self.budget);
        drop(store);
        self.name_columns(all, args)
    }

    /// What a term demands of a cell in a row of `rel`.
    #[expect(clippy::type_complexity, reason = "a closure")]
    fn fact_test(&self, t: &Term, rel: &Rel) -> Result<Option<Box<dyn Fn(usize, Cell) -> bool>>, QueryError> {
        Ok(match t {
            Term::Const(c) => {
                let c = self.dict.encode(c);
                Some(Box::new(move |_, x| x == c))
            }
            Term::Ent(e) => self.ent(self.any_slot(), e)?.map(|raw| -> Box<dyn Fn(usize, Cell) -> bool> {
                Box::new(move |_, x| x == crate::mem::entity_cell(raw))
            }),
            Term::Var(v) => {
                let col = rel.col(*v).expect("bound").clone();
                Some(Box::new(move |i, x| col[i] == x))
            }
            Term::Blank => Some(Box::new(|_, _| true)),
        })
    }

    /// Rows over column numbers, filtered by constants and repeated variables, over the variables of `args`.
    fn name_columns(&self, all: Rel, args: &[Term]) -> Result<Rel, QueryError> {
        let mut out = all;
        for (i, a) in args.iter().enumerate() {
            let keep: Vec<u32> = match a {
                Term::Blank => continue,
                Term::Const(_) | Term::Ent(_) => match self.fact_test(a, &out)? {
                    Some(test) => {
                        (0..out.len).filter(|r| test(*r, out.cols[i][*r])).map(|r| r as u32).collect()
                    }
                    None => vec![],
                },
                Term::Var(_) => match args[..i].iter().position(|b| b == a) {
                    None => continue,
                    Some(first) => (0..out.len)
                        .filter(|r| out.cols[i][*r] == out.cols[first][*r])
                        .map(|r| r as u32)
                        .collect(),
                },
            };
            if keep.len() < out.len {
                out = out.take(&keep, true, true, self.budget);
            }
        }
        let (mut shown, mut names): (Vec<Var>, Vec<Var>) = (vec![], vec![]);
        for (i, a) in args.iter().enumerate() {
            if let Term::Var(v) = a
                && !names.contains(v)
            {
                shown.push(i as Var);
                names.push(*v);
            }
        }
        if out.is_empty() {
            return Ok(Rel::empty(&names, self.budget));
        }
        let out = out.project(&shown);
        Ok(out.rename(|v| names[shown.iter().position(|s| *s == v).expect("projected")]))
    }
}

impl Frame {
    fn part(&self, at: usize) -> Part {
        match at.cmp(&self.delta) {
            std::cmp::Ordering::Less => Part::Known,
            std::cmp::Ordering::Equal => Part::Delta,
            std::cmp::Ordering::Greater => Part::Stable,
        }
    }
    /// Rows that the atom at `at` would read.
    pub(crate) fn rows(&self, at: usize, facts: usize) -> usize {
        self.fixpoint.facts[facts].borrow().len(self.part(at))
    }
}

impl Fixpoint {
    fn new(program: &Program, pred: Pred, bound: &[bool], choice: FixpointChoice) -> Fixpoint {
        let mut f = Fixpoint {
            adorned: Vec::new(),
            rules: Vec::new(),
            facts: Vec::new(),
            started: std::cell::Cell::new(false),
        };
        f.adorn(program, pred, bound, choice);
        let mut done = 0;
        while done < f.adorned.len() {
            let (pred, bound) = (f.adorned[done].pred, f.adorned[done].bound.clone());
            for rule in &program.preds[pred].rules {
                f.specialise(program, done, rule, &bound, choice);
            }
            done += 1;
        }
        f
    }

    fn store(&mut self, arity: usize, choice: FixpointChoice) -> usize {
        let facts: Box<dyn Facts> = match choice {
            FixpointChoice::Sorted => {
                seminaive::sorted(arity).unwrap_or_else(|| Box::new(Hashed::new(arity)))
            }
            FixpointChoice::Best | FixpointChoice::Hash => Box::new(Hashed::new(arity)),
        };
        self.facts.push(RefCell::new(facts));
        self.facts.len() - 1
    }

    /// The number of a predicate under an adornment.
    fn adorn(&mut self, program: &Program, pred: Pred, bound: &[bool], choice: FixpointChoice) -> usize {
        if let Some(i) = self.adorned.iter().position(|a| a.pred == pred && a.bound == bound) {
            return i;
        }
        let rows = self.store(program.preds[pred].arity, choice);
        let n_bound = bound.iter().filter(|b| **b).count();
        let demand = (n_bound > 0).then(|| self.store(n_bound, choice));
        self.adorned.push(Adorned { pred, bound: bound.to_vec(), rows, demand });
        self.adorned.len() - 1
    }

    /// Adds the specialised rule, and a rule for the demand of each recursive call in it.
    fn specialise(
        &mut self,
        program: &Program,
        head: usize,
        rule: &Rule,
        bound: &[bool],
        choice: FixpointChoice,
    ) {
        let component = program.preds[self.adorned[head].pred].component;
        let recursive = |c: &Clause| match c.kind {
            Kind::Call { pred, .. } => program.preds[pred].component == component,
            _ => false,
        };
        let mut known: VarSet = rule.head.iter().zip(bound).filter(|(_, b)| **b).map(|(v, _)| *v).collect();
        let demanded: Vec<Term> =
            rule.head.iter().zip(bound).filter(|(_, b)| **b).map(|(v, _)| Term::Var(*v)).collect();
        let demand_atom = self.adorned[head].demand.map(|facts| facts_clause(facts, demanded));
        let any_demand = demand_atom.is_some();
        let mut sideways: Vec<Clause> = demand_atom.into_iter().collect();
        let mut rest: Vec<&Clause> = rule.body.clauses.iter().collect();
        let mut all: Vec<Clause> = sideways.clone();
        while !rest.is_empty() {
            // What restricts the demand further: clauses ready and connected to what is known.
            let next = rest.iter().position(|c| {
                !recursive(c)
                    && ready(c, &known, program)
                    && c.vars.iter().any(|v| known.has(*v))
                    && !matches!(c.kind, Kind::Not { .. } | Kind::Call { .. } | Kind::Or { .. })
            });
            if let Some(i) = next {
                let c = rest.remove(i);
                known.extend(provides(c));
                sideways.push(c.clone());
                all.push(c.clone());
                continue;
            }
            let score = |c: &Clause| match &c.kind {
                Kind::Call { args, .. } => {
                    args.iter().filter(|a| a.var().is_none_or(|v| known.has(v)) && **a != Term::Blank).count()
                }
                _ => 0,
            };
            let next = (0..rest.len())
                .filter(|&i| recursive(rest[i]) && ready(rest[i], &known, program))
                .max_by_key(|&i| (score(rest[i]), std::cmp::Reverse(i)));
            let Some(i) = next else {
                // Only clauses that restrict no demand are left, unless one of them binds
                // what a recursive call requires.
                let i = rest.iter().position(|c| !recursive(c) && ready(c, &known, program)).unwrap_or(0);
                let c = rest.remove(i);
                known.extend(provides(c));
                if rest.iter().any(|c| recursive(c)) {
                    sideways.push(c.clone());
                }
                all.push(c.clone());
                continue;
            };
            let c = rest.remove(i);
            let Kind::Call { pred, args } = &c.kind else { unreachable!("recursive clauses are calls") };
            let required = &program.preds[*pred].required;
            let bound: Vec<bool> = args
                .iter()
                .zip(required)
                .map(|(a, r)| match a {
                    Term::Var(v) => known.has(*v) && (any_demand || *r),
                    Term::Const(_) | Term::Ent(_) => any_demand || *r,
                    Term::Blank => false,
                })
                .collect();
            let callee = self.adorn(program, *pred, &bound, choice);
            if let Some(demand) = self.adorned[callee].demand {
                let vars: Vec<Term> =
                    args.iter().zip(&bound).filter(|(_, b)| **b).map(|(a, _)| a.clone()).collect();
                let trivial = callee == head && sideways.len() == 1 && is_demand(&sideways[0], demand, &vars);
                if !trivial {
                    self.push(demand, vars, sideways.clone());
                }
            }
            let atom = facts_clause(self.adorned[callee].rows, args.clone());
            known.extend(provides(c));
            sideways.push(atom.clone());
            all.push(atom);
        }
        let rows = self.adorned[head].rows;
        self.push(rows, rule.head.iter().map(|v| Term::Var(*v)).collect(), all);
    }

    fn push(&mut self, head: usize, vars: Vec<Term>, clauses: Vec<Clause>) {
        let atoms = (0..clauses.len()).filter(|&i| matches!(clauses[i].kind, Kind::Facts { .. })).collect();
        let mut clauses = clauses;
        for (i, c) in clauses.iter_mut().enumerate() {
            if let Kind::Facts { at, .. } = &mut c.kind {
                *at = i;
            }
        }
        self.rules.push(Derivation { head, vars, body: Body { clauses }, atoms });
    }

    /// The rows derived for these bindings, over `fresh`.
    fn answers(
        &self,
        bound: &[bool],
        cols: &[Vec<Cell>],
        fresh: &[Var],
        run: &Run<'_>,
    ) -> Result<Rel, QueryError> {
        let mut store = self.facts[self.adorned[0].rows].borrow_mut();
        let on: Vec<usize> = (0..bound.len()).filter(|i| bound[*i]).collect();
        if on.is_empty() {
            return Ok(store.rows(Part::Known, fresh, run.budget));
        }
        let keys: Vec<&[Cell]> = cols.iter().map(Vec::as_slice).collect();
        let n = cols[0].len();
        match store.probe(Part::Known, &on, &keys, n, run.budget) {
            Some(found) => {
                let (_, right) = found?;
                let cols = (0..bound.len()).map(|c| store.fetch(c, &right)).collect();
                Ok(Rel::new(fresh.to_vec(), cols, run.budget))
            }
            None => {
                let all = store.rows(Part::Known, fresh, run.budget);
                let vars: Vec<Var> = on.iter().map(|i| *i as Var).collect();
                let asked = Rel::new(vars, cols.to_vec(), run.budget).distinct(run.budget)?;
                let out = natural(&all, &asked, run.budget)?;
                Ok(out.project(fresh))
            }
        }
    }
}

fn is_demand(c: &Clause, demand: usize, vars: &[Term]) -> bool {
    matches!(&c.kind, Kind::Facts { facts, args, .. } if *facts == demand && args == vars)
}

/// A clause that reads facts of the fixpoint being run.
fn facts_clause(facts: usize, args: Vec<Term>) -> Clause {
    let mut vars: Vec<Var> = Vec::new();
    for v in args.iter().filter_map(Term::var) {
        if !vars.contains(&v) {
            vars.push(v);
        }
    }
    Clause {
        kind: Kind::Facts { facts, at: 0, args },
        span: Span::default(),
        text: "derived facts".into(),
        vars,
    }
}
