//! A proof read off the tuples that rules derived: each application by tuples of smaller rank.

use super::{Proof, Step};
use crate::budget::Held;
use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::aggregate::Best;
use crate::eval::rel::Var;
use crate::resolve::ir::{Attr, Body, Clause, Ent, Fold, Kind, Pattern, Pred, Resolved, Term};
use crate::timeline::eval::Timeline;
use crate::timeline::rel::{Row, TimeRel};
use annals_model::{AttrId, Cell, Datom, EntityId, Order, T, Value, cell};
use std::collections::{BTreeMap, HashSet};

pub(super) struct Proofs<'t, 'r, 'q> {
    pub(super) timeline: Timeline<'r, 'q>,
    run: &'r Run<'q>,
    r: &'t Resolved,
    /// Applications of recursive rules that the proof shows already.
    shown: HashSet<(Pred, Row)>,
    /// What the steps made so far occupy.
    held: Held<'r>,
    bytes: usize,
}

/// What a step is taken to occupy beside the text of its clause: itself, and values.
const STEP_BYTES: usize = 256;

impl<'t, 'r, 'q> Proofs<'t, 'r, 'q> {
    /// Nothing proved yet of this run at the timeline's time.
    pub(super) fn new(timeline: Timeline<'r, 'q>, run: &'r Run<'q>, r: &'t Resolved) -> Proofs<'t, 'r, 'q> {
        Proofs { timeline, run, r, shown: HashSet::new(), held: run.budget.held(), bytes: 0 }
    }
}

impl Proofs<'_, '_, '_> {
    /// Why a body holds for this row over `vars`, using rule tuples below `rank`.
    pub(super) fn body(
        &mut self,
        body: &Body,
        vars: &[Var],
        row: &Row,
        rank: u64,
    ) -> Result<Proof, QueryError> {
        let mut steps = Vec::new();
        for c in &body.clauses {
            self.bytes += STEP_BYTES + c.text.len();
            self.held.spend(1, self.bytes)?;
            steps.extend(self.run.deeper(|| self.clause(c, vars, row, rank))?);
        }
        Ok(Proof { steps })
    }

    fn value_of(&self, v: Var, vars: &[Var], row: &Row) -> Option<Cell> {
        vars.iter().position(|x| *x == v).map(|i| row[i])
    }

    fn clause(&mut self, c: &Clause, vars: &[Var], row: &Row, rank: u64) -> Result<Option<Step>, QueryError> {
        let clause = c.text.to_string();
        Ok(match &c.kind {
            Kind::Pattern(p) => self.fact(p, vars, row)?.map(|datom| Step::Fact { clause, datom }),
            Kind::Predicate(_) | Kind::Function(..) | Kind::Tuples { .. } => {
                let bindings = c.vars.iter().filter_map(|v| {
                    let c = self.value_of(*v, vars, row)?;
                    Some((self.r.names[*v as usize].to_string(), self.run.dict.decode(c)))
                });
                Some(Step::Test { clause, bindings: bindings.collect() })
            }
            // What an input means in its place says nothing that the clause using it does not.
            Kind::Meaning { .. } | Kind::Never(_) | Kind::Facts { .. } => None,
            Kind::Not { .. } => Some(Step::Absent { clause }),
            Kind::Or { vars: shared, branches, name, .. } => {
                let mut found = None;
                for b in branches {
                    let seed = self.seed(shared, vars, row);
                    let rows = self.timeline.body_below(rank, b, seed)?;
                    if let Some(r) = rows.rows.keys().min() {
                        found = Some(self.body(b, &rows.vars, r, rank)?);
                        break;
                    }
                }
                found.map(|proof| Step::Branch {
                    rule: name.as_ref().map(ToString::to_string),
                    clause,
                    proof,
                })
            }
            Kind::Fold(f) => self.folded(f, clause, vars, row)?,
            Kind::Call { pred, args } => self.call(*pred, args, vars, row, rank)?,
        })
    }

    /// The part of a row that a nested body starts from.
    fn seed(&self, shared: &[Var], vars: &[Var], row: &Row) -> TimeRel {
        let bound: Vec<(Var, Cell)> =
            shared.iter().filter_map(|v| self.value_of(*v, vars, row).map(|c| (*v, c))).collect();
        let mut seed = TimeRel::new(bound.iter().map(|(v, _)| *v).collect());
        seed.add(bound.iter().map(|(_, c)| *c).collect(), self.timeline.all().clone());
        seed
    }

    fn fact(&self, p: &Pattern, vars: &[Var], row: &Row) -> Result<Option<Datom>, QueryError> {
        let cell_of = |t: &Term| -> Result<Option<Cell>, QueryError> {
            Ok(match t {
                Term::Var(v) => self.value_of(*v, vars, row),
                Term::Const(c) => Some(self.run.dict.encode(c)),
                Term::Ent(e) => self.entity(e)?,
                Term::Blank => None,
            })
        };
        let (e, v, tx) = (cell_of(&p.e)?, cell_of(&p.v)?, cell_of(&p.tx)?);
        let attrs: Vec<AttrId> = match &p.a {
            Attr::Known(a) => vec![*a],
            Attr::Var(a) => {
                let e = self.value_of(*a, vars, row).and_then(cell::as_ref);
                e.and_then(AttrId::of_entity).into_iter().collect()
            }
            Attr::Any => self.run.db(p.src).schema().attributes().map(|a| a.id).collect(),
        };
        let keys = match (e.and_then(cell::as_ref), v) {
            (Some(e), _) => Some((Order::Eav, vec![e.raw()])),
            (None, Some(v)) => Some((Order::Ave, vec![v])),
            (None, None) => None,
        };
        let at = self.time();
        for a in attrs {
            for f in self.timeline.facts(p.src, a, keys.clone())? {
                let fits = f.start <= at
                    && at < f.end
                    && e.is_none_or(|e| e == cell::of_ref(EntityId::from_raw(f.e)))
                    && v.is_none_or(|v| v == f.v)
                    && tx.is_none_or(|tx| tx == cell::of_ref(f.start.entity()));
                if fits {
                    let v = self.run.dict.decode(f.v);
                    return Ok(Some(Datom { e: EntityId::from_raw(f.e), a, v, t: f.start, added: true }));
                }
            }
        }
        Ok(None)
    }

    /// What an entity literal means at the time of the proof.
    fn entity(&self, e: &Ent) -> Result<Option<Cell>, QueryError> {
        let at = self.time();
        let found = self.timeline.entities(e)?;
        Ok(found
            .iter()
            .find(|(_, times)| times.contains(at))
            .map(|(e, _)| cell::of_ref(EntityId::from_raw(*e))))
    }

    fn time(&self) -> T {
        self.timeline.all().iter().next().map_or(T::GENESIS, |(start, _)| start)
    }

    fn call(
        &mut self,
        pred: Pred,
        args: &[Term],
        vars: &[Var],
        row: &Row,
        rank: u64,
    ) -> Result<Option<Step>, QueryError> {
        // Arguments that the call leaves open take those of the earliest tuple that fits.
        let known: Vec<Option<Cell>> = args
            .iter()
            .map(|t| match t {
                Term::Var(v) => Ok(self.value_of(*v, vars, row)),
                Term::Const(c) => Ok(Some(self.run.dict.encode(c))),
                Term::Ent(e) => self.entity(e),
                Term::Blank => Ok::<_, QueryError>(None),
            })
            .collect::<Result<_, _>>()?;
        let Some((tuple, own)) = self.timeline.earliest(pred, &known, rank) else { return Ok(None) };
        let program = self.run.program.clone();
        let predicate = &program.preds[pred];
        let args: Vec<Value> = tuple.iter().map(|c| self.run.dict.decode(*c)).collect();
        let name = predicate.name.to_string();
        if self.shown.contains(&(pred, tuple.clone())) {
            return Ok(Some(Step::Rule { name, args, proof: Proof { steps: Vec::new() } }));
        }
        let folded: Vec<usize> = (0..args.len()).filter(|i| predicate.best[*i].is_some()).collect();
        if folded.len() < 2 {
            let proof = self.derived(pred, &tuple, |_| true, own)?;
            if proof.is_some() {
                self.shown.insert((pred, tuple));
            }
            return Ok(proof.map(|proof| Step::Rule { name, args, proof }));
        }
        // Each folded value got to be the best by itself, and has a derivation of its own.
        let mut steps = Vec::new();
        for i in folded {
            let wanted = |c: usize| c == i || predicate.best[c].is_none();
            if let Some(proof) = self.derived(pred, &tuple, wanted, own)? {
                let clause = format!("({name} …): {}", crate::edn::print(&args[i]));
                steps.push(Step::Branch { rule: Some(name.clone()), clause, proof });
            }
        }
        self.shown.insert((pred, tuple));
        Ok(Some(Step::Rule { name, args, proof: Proof { steps } }))
    }

    /// A derivation of a tuple by tuples below `rank`, as far as its `wanted` columns go.
    fn derived(
        &mut self,
        pred: Pred,
        tuple: &Row,
        wanted: impl Fn(usize) -> bool,
        rank: u64,
    ) -> Result<Option<Proof>, QueryError> {
        let program = self.run.program.clone();
        for rule in &program.preds[pred].rules {
            let columns: Vec<usize> = (0..tuple.len()).filter(|c| wanted(*c)).collect();
            let mut seed = TimeRel::new(columns.iter().map(|c| rule.head[*c]).collect());
            seed.add(columns.iter().map(|c| tuple[*c]).collect(), self.timeline.all().clone());
            let rows = self.timeline.body_below(rank, &rule.body, seed)?;
            if let Some(r) = rows.rows.keys().min() {
                return self.body(&rule.body, &rows.vars, r, rank).map(Some);
            }
        }
        Ok(None)
    }

    /// What a rule that folds, and is not recursive, made its values from.
    fn folded(
        &mut self,
        f: &Fold,
        clause: String,
        vars: &[Var],
        row: &Row,
    ) -> Result<Option<Step>, QueryError> {
        /// Rows of a group that a proof shows.
        const SHOWN: usize = 100;
        let seed = self.seed(&f.keys, vars, row);
        let inner = f.inner();
        // For each row of the group the first way to derive it.
        let mut ways: BTreeMap<Row, (usize, Vec<Var>, Row)> = BTreeMap::new();
        for (i, b) in f.branches.iter().enumerate() {
            let rows = self.timeline.complete(b, seed.clone())?;
            let at: Vec<usize> = inner.iter().filter_map(|v| rows.position(*v)).collect();
            for r in rows.rows.keys() {
                let member: Row = at.iter().map(|i| r[*i]).collect();
                let first = ways.get(&member).is_none_or(|(j, _, had)| (*j, had) > (i, r));
                if first {
                    ways.insert(member, (i, rows.vars.clone(), r.clone()));
                }
            }
            self.run.budget.spend(rows.rows.len(), rows.bytes())?;
        }
        let n = ways.len();
        let mut chosen: Vec<Row> = Vec::new();
        for (i, c) in f.columns.iter().enumerate() {
            let at = f.keys.len() + i;
            let cells: Vec<Cell> = ways.keys().map(|m| m[at]).collect();
            let kept = match Best::of(c.name.as_str(), &c.args) {
                Some(best) => best.among(&cells, &self.run.dict).ok().flatten(),
                None => None,
            };
            let Some(kept) = kept else {
                chosen = ways.keys().take(SHOWN).cloned().collect();
                break;
            };
            chosen.extend(ways.keys().find(|m| m[at] == kept).cloned());
        }
        chosen.sort_unstable();
        chosen.dedup();
        let mut steps = Vec::new();
        let shown = chosen.len();
        for member in chosen {
            let (i, vars, row) = &ways[&member];
            let proof = self.body(&f.branches[*i], vars, row, u64::MAX)?;
            if shown == 1 {
                steps = proof.steps;
                continue;
            }
            steps.push(Step::Branch { rule: None, clause: format!("one of {n} rows of {clause}"), proof });
        }
        if (2..n).contains(&shown) && shown == SHOWN {
            let clause = format!("{} more rows of {clause}", n - shown);
            steps.push(Step::Test { clause, bindings: Vec::new() });
        }
        Ok(Some(Step::Branch { rule: Some(f.name.to_string()), clause, proof: Proof { steps } }))
    }
}
