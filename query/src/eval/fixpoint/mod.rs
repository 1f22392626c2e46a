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
//! 3. Linear rules with a column that only passes through do not come here but to `closure`, nor do
//!    those whose two columns grow apart from one another when nothing is bound.
//! 4. A folded column is never bound by a call: the best of a group is known when all of it is.
//!
//! Here: a call, and the rounds. The rules as they are run (`magic`), the atoms of their
//! bodies (`atom`), facts of which the best are kept (`best`).

mod atom;
mod best;
mod magic;

use super::FixpointChoice;
use super::Run;
use super::body::State;
use super::closure::{Both, Path};
use super::facts::{Facts, Part};
use super::rel::{Rel, Var};
use crate::error::QueryError;
use crate::resolve::ir::{Body, Kind, Pred, Term};
use annals_model::Cell;
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
    both: HashMap<Pred, Option<Rc<Both>>>,
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
        let (required, best) = (&self.program.preds[pred].required, &self.program.preds[pred].best);
        // What a call can ask for: nothing that is folded.
        let asked = || args.iter().zip(best).filter(|(_, best)| best.is_none()).map(|(a, _)| a);
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
            let best =
                asked().filter_map(|a| a.var().and_then(|v| s.part_of(v))).min_by_key(|i| s.parts[*i].len);
            parts.extend(best);
        }
        let vars: Vec<Var> = asked().filter_map(Term::var).collect();
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
            Term::Ent(e) => Ok(self.ent(e)?.map(crate::mem::entity_cell)),
            Term::Var(_) | Term::Blank => Ok::<_, QueryError>(None),
        };
        // Columns of bindings, one a bound argument.
        let mut bound = Vec::new();
        let mut cols: Vec<Vec<Cell>> = Vec::new();
        for ((a, r), best) in args.iter().zip(required).zip(best) {
            let col = match a {
                _ if best.is_some() => None,
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
        let grows = if bound.contains(&true) { None } else { self.both(pred) };
        let mut answers = match (self.path(pred)?, grows) {
            (Some(path), _) => self.closure(&path, &bound, &cols)?,
            (None, Some(both)) => self.grow(&both)?,
            (None, None) => {
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

    fn both(&self, pred: Pred) -> Option<Rc<Both>> {
        if self.operator != FixpointChoice::Best {
            return None;
        }
        let known = self.calls.borrow().both.get(&pred).cloned();
        known.unwrap_or_else(|| {
            let both = Both::of(&self.program, pred).map(Rc::new);
            self.calls.borrow_mut().both.insert(pred, both.clone());
            both
        })
    }

    fn fixpoint(&self, pred: Pred, bound: &[bool]) -> Rc<Fixpoint> {
        let key = (pred, bound.to_vec());
        if let Some(f) = self.calls.borrow().fixpoints.get(&key) {
            return f.clone();
        }
        let f = Rc::new(Fixpoint::new(&self.program, pred, bound, self.operator, &self.dict));
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
        // Rows that repeat are found out where all rows are known.
        let out = self.body_bag(&r.body, &needed);
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
                Term::Ent(e) => {
                    Ok(self.ent(e)?.map(|raw| vec![crate::mem::entity_cell(raw); len]).unwrap_or_default())
                }
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
