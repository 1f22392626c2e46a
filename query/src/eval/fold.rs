//! Rules that fold, outside of recursion: the rows of their definitions, grouped.
//!
//! 1. What is bound outside restricts keys only, so a group is whole or absent.
//! 2. The rows of all definitions are one set before anything is aggregated.

use super::Run;
use super::answer::groups;
use super::rel::{Rel, Var};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::resolve::ir::{Fold, FoldColumn};
use annals_model::{Cell, Span};

impl Run<'_> {
    /// The groups that can join `parts`: keys, and what each folded argument becomes.
    pub(crate) fn fold(&self, f: &Fold, parts: &[Rel], at: Span) -> Result<Rel, QueryError> {
        let inner = f.inner();
        let refs: Vec<Rel> =
            parts.iter().filter(|p| p.vars.iter().any(|v| f.keys.contains(v))).cloned().collect();
        let seeds = self.seeds(&refs, &f.keys)?;
        let mut found = Vec::new();
        for b in &f.branches {
            found.push(self.body(b, seeds.clone(), &inner)?.project(&inner));
        }
        let rows = Rel::union(found, &inner, self.budget)?.distinct(self.budget)?;
        let keys: Vec<&[Cell]> =
            f.keys.iter().map(|v| &**rows.col(*v).expect("a row has its keys")).collect();
        let (group_of, first) = groups(self, &keys, rows.len)?;
        let mut cols: Vec<Vec<Cell>> =
            keys.iter().map(|k| first.iter().map(|i| k[*i as usize]).collect()).collect();
        let mut vars: Vec<Var> = f.keys.clone();
        for c in &f.columns {
            let values = rows.col(c.from).expect("a row has what is folded");
            let made = self.fold_column(c, values, &group_of, first.len(), at)?;
            if let Some(to) = c.to {
                vars.push(to);
                cols.push(made);
            }
        }
        self.budget.spend(first.len(), first.len() * 8 * vars.len())?;
        if vars.is_empty() {
            return Ok(if first.is_empty() { Rel::empty(&[], self.budget) } else { Rel::unit() });
        }
        Ok(Rel::new(vars, cols, self.budget).keyed(Some(f.keys.clone())))
    }

    /// One aggregate of each group. Without keys there is one group, and `group_of` is empty.
    fn fold_column(
        &self,
        c: &FoldColumn,
        values: &[Cell],
        group_of: &[u32],
        n: usize,
        at: Span,
    ) -> Result<Vec<Cell>, QueryError> {
        let fail = |error| QueryError::Function { name: c.name.to_string(), error, at };
        let aggregate = self.library.aggregate(c.name.as_str()).expect("resolution found it");
        let mut groups = vec![aggregate.start(&c.args); n];
        let size = n * std::mem::size_of::<super::aggregate::Group>();
        for (i, v) in values.iter().enumerate() {
            let g = group_of.get(i).copied().unwrap_or(0);
            groups[g as usize].push(*v, &self.dict).map_err(fail)?;
            if i % BATCH == 0 {
                self.budget.spend(0, size + i * 8)?;
            }
        }
        groups.into_iter().map(|g| Ok(self.dict.encode(&g.finish(&self.dict).map_err(fail)?))).collect()
    }
}
