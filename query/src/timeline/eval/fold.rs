//! Folds in rule heads, over time.
//!
//! Outside of recursion the rows of a group are aggregated anew for each stretch of time in
//! which the same rows are there. In recursion, of the rows of one key each holds only while no
//! better one does: a row that comes takes the times at which it is better from the others.

use super::*;
use crate::eval::aggregate::Best;
use crate::resolve::ir::Fold;
use crate::timeline::stretches;

/// The rows of a recursive rule that folds.
pub(super) struct BestRows {
    pub(super) best: Vec<Option<Best>>,
    /// The rows of each key that are the best at some time.
    by_key: HashMap<Row, Vec<Row>, Hasher>,
}

impl BestRows {
    pub(super) fn new(best: &[Option<Best>]) -> Option<BestRows> {
        best.iter()
            .any(Option::is_some)
            .then(|| BestRows { best: best.to_vec(), by_key: HashMap::with_hasher(Hasher::default()) })
    }

    /// Adds a row where it is better than what is known, to `found`; the answer is what was
    /// added: the row, and those made of the best of two. `stale` gets the rows that are the best at no time any more.
    pub(super) fn improve(
        &mut self,
        found: &mut TimeRel,
        row: Row,
        times: Spans,
        run: &Run<'_>,
        name: &str,
        stale: &mut Vec<Row>,
    ) -> Result<Vec<Row>, QueryError> {
        let key: Row = row.iter().zip(&self.best).filter(|(_, b)| b.is_none()).map(|(c, _)| *c).collect();
        let known = self.by_key.entry(key).or_default();
        let (mut left, mut merged) = (times, Vec::new());
        for had in known.clone() {
            let (mut both, mut worse, mut better) = (had.clone(), false, false);
            for (i, best) in self.best.iter().enumerate() {
                let Some(best) = best else { continue };
                let fail = |error| QueryError::Function { name: name.to_owned(), error, at: Span::default() };
                if best.improves(row[i], had[i], &run.dict).map_err(fail)? {
                    both[i] = row[i];
                    better = true;
                } else if row[i] != had[i] {
                    worse = true;
                }
            }
            let Some(its) = found.rows.get(&had).cloned() else { continue };
            let overlap = its.and(&left);
            if overlap.is_empty() {
                continue;
            }
            left = left.minus(&overlap);
            if !better {
                continue;
            }
            let rest = its.minus(&overlap);
            if rest.is_empty() {
                found.rows.remove(&had);
                known.retain(|r| *r != had);
                stale.push(had);
            } else {
                found.rows.insert(had, rest);
            }
            merged.push((if worse { both } else { row.clone() }, overlap));
        }
        if !left.is_empty() {
            merged.push((row, left));
        }
        let mut added = Vec::new();
        for (row, times) in merged {
            stale.retain(|s| *s != row);
            if !known.contains(&row) {
                known.push(row.clone());
            }
            found.add(row.clone(), times);
            added.push(row);
        }
        Ok(added)
    }
}

impl Timeline<'_, '_> {
    /// The rows of a rule that folds and is not recursive, joined with `rel`.
    pub(super) fn fold(&mut self, f: &Fold, rel: TimeRel, at: Span) -> Result<TimeRel, QueryError> {
        let rows = self.members(f, &rel)?;
        let grouped = self.grouped(f, &rows, at)?;
        rel.join(&grouped, self.run.budget)
    }

    /// The rows that are grouped, for the keys in `rel`; complete, also within a fixpoint.
    pub(super) fn members(&mut self, f: &Fold, rel: &TimeRel) -> Result<TimeRel, QueryError> {
        let bound: Vec<Var> = f.keys.iter().copied().filter(|v| rel.position(*v).is_some()).collect();
        let inner = f.inner();
        let mut all = TimeRel::new(inner.clone());
        for b in &f.branches {
            let found = self.complete(b, rel.project(&bound))?;
            for (row, times) in found.project(&inner).rows {
                all.add(row, times);
            }
        }
        self.run.budget.spend(all.rows.len(), all.bytes())?;
        Ok(all)
    }

    /// The rows of a body whose rules belong to lower strata, computed to their end.
    pub(in crate::timeline) fn complete(
        &mut self,
        body: &Body,
        seed: TimeRel,
    ) -> Result<TimeRel, QueryError> {
        if self.depth == 0 && self.below.is_none() {
            return self.body(body, seed);
        }
        let (run, all) = (self.run, self.all.clone());
        self.lower.get_or_insert_with(|| Box::new(Timeline::new(run, all))).body(body, seed)
    }

    /// One row for each group and stretch of time in which its members stay the same.
    fn grouped(&self, f: &Fold, rows: &TimeRel, at: Span) -> Result<TimeRel, QueryError> {
        let n_keys = f.keys.len();
        let outs: Vec<Var> = f.columns.iter().filter_map(|c| c.to).collect();
        let mut out = TimeRel::new(f.keys.iter().chain(&outs).copied().collect());
        let mut groups: HashMap<Row, Vec<(&Row, &Spans)>, Hasher> = HashMap::with_hasher(Hasher::default());
        for (row, times) in &rows.rows {
            groups.entry(row[..n_keys].into()).or_default().push((row, times));
        }
        for (key, mut members) in groups {
            stretches(self.run, &mut members, |span, there| {
                let mut made: Vec<Cell> = key.to_vec();
                for (i, c) in f.columns.iter().enumerate() {
                    let cells: Vec<Cell> = there.iter().map(|row| row[n_keys + i]).collect();
                    let aggregate = self.run.library.aggregate(c.name.as_str()).expect("resolution found it");
                    let value = aggregate.of_cells(&c.args, &cells, &self.run.dict);
                    let value = value.map_err(|error| QueryError::Function {
                        name: c.name.to_string(),
                        error,
                        at,
                    })?;
                    if c.to.is_some() {
                        made.push(self.run.dict.encode(&value));
                    }
                }
                out.add(made.into(), span);
                Ok(())
            })?;
        }
        Ok(out)
    }
}
