//! Rules over time: demand, and rounds until no row and no time is new.

use super::*;

impl Timeline<'_, '_> {
    pub(super) fn call(
        &mut self,
        pred: Pred,
        args: &[Term],
        mut rel: TimeRel,
    ) -> Result<TimeRel, QueryError> {
        let vars = rel.vars.clone();
        // A lookup ref becomes a variable of its own: what it means depends on the time.
        let mut args = args.to_vec();
        for (i, t) in args.iter_mut().enumerate() {
            if let Term::Ent(e @ Ent::Lookup(..)) = t {
                let hidden = Var::MAX - 1 - i as Var;
                let mut meant = TimeRel::new(vec![hidden]);
                for (e, times) in self.entities(e)? {
                    meant.add([cell::of_ref(EntityId::from_raw(e))].into(), times);
                }
                rel = rel.join(&meant, self.run.budget)?;
                *t = Term::Var(hidden);
            }
        }
        let out = self.call_plain(pred, &args, rel)?;
        let hidden = |v: &Var| *v >= Var::MAX - 1 - args.len() as Var;
        let keep: Vec<Var> = out.vars.iter().copied().filter(|v| vars.contains(v) || !hidden(v)).collect();
        Ok(out.project(&keep))
    }

    pub(super) fn call_plain(
        &mut self,
        pred: Pred,
        args: &[Term],
        rel: TimeRel,
    ) -> Result<TimeRel, QueryError> {
        let value = |t: &Term| match t {
            Term::Const(c) => Some(self.run.dict.encode(c)),
            Term::Ent(Ent::Id(raw)) => Some(cell::of_ref(EntityId::from_raw(*raw))),
            Term::Ent(Ent::Lookup(..)) | Term::Var(_) | Term::Blank => None,
        };
        let fixed: Vec<Option<Cell>> = args.iter().map(value).collect();
        if let Some(rank) = self.below {
            let usable = |at: &(Pred, Row)| at.0 == pred && (rank < u64::MAX || !self.stale.contains(at));
            let derived =
                self.ranks.iter().filter(|(at, r)| **r < rank && usable(at)).map(|((_, row), _)| row);
            let found = derived.map(|row| (row.clone(), self.all.clone())).collect();
            let found = TimeRel { vars: (0..args.len() as Var).collect(), rows: found };
            return rel.join(&as_called(args, &fixed, &found), self.run.budget);
        }
        let at: Vec<Option<usize>> = args.iter().map(|t| t.var().and_then(|v| rel.position(v))).collect();
        // The best of a group is known when all of it is: nothing of it can be asked for.
        let best = &self.run.program.preds[pred].best;
        let bound: Vec<bool> =
            (0..args.len()).map(|i| best[i].is_none() && (fixed[i].is_some() || at[i].is_some())).collect();
        let goal: Goal = (pred, bound.clone());
        let n = args.len() as Var;
        let asked_vars: Vec<Var> = (0..n).filter(|i| bound[*i as usize]).collect();
        let table = self.tables.entry(goal.clone()).or_insert_with(|| Table {
            asked: TimeRel::new(asked_vars.clone()),
            found: TimeRel::new((0..n).collect()),
            best: fold::BestRows::new(best),
        });
        for row in rel.rows.keys() {
            let key: Row = asked_vars
                .iter()
                .map(|i| fixed[*i as usize].unwrap_or_else(|| row[at[*i as usize].expect("bound by either")]))
                .collect();
            // What is asked is asked for all times: times of the answer come from the facts.
            self.grew |= table.asked.add(key, self.all.clone());
        }
        if self.depth == 0 {
            self.fixpoint()?;
        }
        let found = as_called(args, &fixed, &self.tables[&goal].found);
        rel.join(&found, self.run.budget)
    }

    /// Runs every goal asked so far, and those they ask, until nothing is new.
    pub(super) fn fixpoint(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        let program = self.run.program.clone();
        let done = loop {
            self.grew = false;
            let goals: Vec<Goal> = self.tables.keys().cloned().collect();
            let known = goals.len();
            for goal in goals {
                for rule in &program.preds[goal.0].rules {
                    let seed = {
                        let asked = &self.tables[&goal].asked;
                        let vars: Vec<Var> = asked.vars.iter().map(|i| rule.head[*i as usize]).collect();
                        TimeRel { vars, rows: asked.rows.clone() }
                    };
                    let rows = match self.body(&rule.body, seed) {
                        Ok(r) => r.project(&rule.head),
                        Err(e) => {
                            self.depth -= 1;
                            return Err(e);
                        }
                    };
                    let table = self.tables.get_mut(&goal).expect("goals are never removed");
                    self.n_applied += 1;
                    for (row, times) in rows.rows {
                        let Some(best) = &mut table.best else {
                            self.ranks.entry((goal.0, row.clone())).or_insert(self.n_applied);
                            self.grew |= table.found.add(row, times);
                            continue;
                        };
                        let (mut stale, name) = (Vec::new(), program.preds[goal.0].name.as_str());
                        let added = best.improve(&mut table.found, row, times, self.run, name, &mut stale);
                        let added = match added {
                            Ok(added) => added,
                            Err(e) => {
                                self.depth -= 1;
                                return Err(e);
                            }
                        };
                        for row in added {
                            self.grew = true;
                            self.ranks.entry((goal.0, row)).or_insert(self.n_applied);
                        }
                        self.stale.extend(stale.into_iter().map(|row| (goal.0, row)));
                    }
                    let bytes = table.found.bytes();
                    self.run.budget.spend(BATCH, bytes)?;
                }
            }
            if !self.grew && self.tables.len() == known {
                break Ok(());
            }
        };
        self.depth -= 1;
        done
    }
}

/// Tuples of a rule as rows over the variables of a call; those that do not fit it are left out.
fn as_called(args: &[Term], fixed: &[Option<Cell>], found: &TimeRel) -> TimeRel {
    let mut vars: Vec<Var> = Vec::new();
    for v in args.iter().filter_map(Term::var) {
        if !vars.contains(&v) {
            vars.push(v);
        }
    }
    let mut out = TimeRel::new(vars.clone());
    for (row, times) in &found.rows {
        if fixed.iter().zip(row.iter()).all(|(f, c)| f.is_none_or(|f| f == *c)) {
            let places: Vec<(Option<Var>, Cell)> =
                args.iter().zip(row.iter()).map(|(t, c)| (t.var(), *c)).collect();
            if let Some(row) = unify(&vars, &places) {
                out.add(row, times.clone());
            }
        }
    }
    out
}
