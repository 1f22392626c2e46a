//! Relations over time: rows of cells, each with the times at which it holds.

use super::spans::Spans;
use crate::budget::{BATCH, Budget};
use crate::error::QueryError;
use crate::eval::rel::{Hasher, Var};
use annals_model::Cell;
use hashbrown::HashMap;

/// A row: one cell a variable.
pub(super) type Row = Box<[Cell]>;

/// Rows over variables with their times; no row stands twice, none is without times.
#[derive(Clone, Debug, Default)]
pub(super) struct TimeRel {
    pub vars: Vec<Var>,
    pub rows: HashMap<Row, Spans, Hasher>,
}

impl TimeRel {
    /// No rows.
    pub fn new(vars: Vec<Var>) -> TimeRel {
        TimeRel { vars, rows: HashMap::with_hasher(Hasher::default()) }
    }
    /// Without variables: true at these times.
    pub fn unit(times: Spans) -> TimeRel {
        let mut r = TimeRel::new(Vec::new());
        r.add(Box::default(), times);
        r
    }
    pub fn position(&self, v: Var) -> Option<usize> {
        self.vars.iter().position(|x| *x == v)
    }
    /// Adds times to a row; true if it grew.
    pub fn add(&mut self, row: Row, times: Spans) -> bool {
        if times.is_empty() {
            return false;
        }
        match self.rows.entry(row) {
            hashbrown::hash_map::Entry::Occupied(mut e) => {
                let both = e.get().or(&times);
                let grew = both != *e.get();
                e.insert(both);
                grew
            }
            hashbrown::hash_map::Entry::Vacant(e) => {
                e.insert(times);
                true
            }
        }
    }
    /// The columns of `vars` (each must be here), rows that become equal merged.
    pub fn project(&self, vars: &[Var]) -> TimeRel {
        let at: Vec<usize> = vars.iter().filter_map(|v| self.position(*v)).collect();
        debug_assert_eq!(at.len(), vars.len());
        let mut out = TimeRel::new(vars.to_vec());
        for (row, times) in &self.rows {
            out.add(at.iter().map(|i| row[*i]).collect(), times.clone());
        }
        out
    }
    /// The natural join: equal on shared variables, at the times of both.
    pub fn join(&self, other: &TimeRel, budget: &Budget) -> Result<TimeRel, QueryError> {
        let shared: Vec<Var> = self.vars.iter().copied().filter(|v| other.vars.contains(v)).collect();
        let mine: Vec<usize> = shared.iter().filter_map(|v| self.position(*v)).collect();
        let theirs: Vec<usize> = shared.iter().filter_map(|v| other.position(*v)).collect();
        let extra: Vec<usize> = (0..other.vars.len()).filter(|i| !theirs.contains(i)).collect();
        let mut index: HashMap<Row, Vec<(&Row, &Spans)>, Hasher> = HashMap::with_hasher(Hasher::default());
        for (row, times) in &other.rows {
            index.entry(theirs.iter().map(|i| row[*i]).collect()).or_default().push((row, times));
        }
        let mut out =
            TimeRel::new(self.vars.iter().copied().chain(extra.iter().map(|i| other.vars[*i])).collect());
        let mut made = 0;
        for (row, times) in &self.rows {
            let key: Row = mine.iter().map(|i| row[*i]).collect();
            for (found, theirs) in index.get(&key).into_iter().flatten() {
                let both = times.and(theirs);
                if !both.is_empty() {
                    out.add(row.iter().copied().chain(extra.iter().map(|i| found[*i])).collect(), both);
                }
                made += 1;
                if made % BATCH == 0 {
                    budget.spend(BATCH, out.bytes())?;
                }
            }
        }
        budget.spend(made % BATCH, out.bytes())?;
        Ok(out)
    }
    /// Rows minus the times at which `other` has the row's part over `other`'s variables.
    pub fn minus(&self, other: &TimeRel) -> TimeRel {
        let at: Vec<usize> = other.vars.iter().filter_map(|v| self.position(*v)).collect();
        debug_assert_eq!(at.len(), other.vars.len());
        let mut out = TimeRel::new(self.vars.clone());
        for (row, times) in &self.rows {
            let key: Row = at.iter().map(|i| row[*i]).collect();
            let left = match other.rows.get(&key) {
                Some(gone) => times.minus(gone),
                None => times.clone(),
            };
            out.add(row.clone(), left);
        }
        out
    }
    /// Roughly what it occupies.
    pub fn bytes(&self) -> usize {
        self.rows.len() * (self.vars.len() * 8 + 64)
    }
}
