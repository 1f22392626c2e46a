//! What a run did, clause by clause.

use crate::resolve::ir::Clause;
use hashbrown::HashMap;
use std::{sync::Arc, time::Duration};

/// One clause of a run. A clause that ran several times (in rules, in branches) is one step.
#[derive(Clone, Debug)]
pub struct Step {
    /// The clause as written.
    pub clause: Arc<str>,
    /// How it was run: the index read, or the operator.
    pub how: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// Rows it left, all runs together.
    pub rows: u64,
    /// Microseconds, all runs together; those of a clause include the clauses within it.
    pub micros: u64,
    /// Nesting: 0 for a clause of `:where`.
    pub depth: u32,
}

/// The steps of a run in the order of their first start.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    steps: Vec<Step>,
    index: HashMap<usize, usize>,
}

impl Trace {
    pub(crate) fn step(&mut self, c: &Clause, how: &'static str, rows: usize, took: Duration) {
        let at = *self.index.entry(std::ptr::from_ref(c) as usize).or_insert_with(|| {
            self.steps.push(Step { clause: c.text.clone(), how, runs: 0, rows: 0, micros: 0, depth: 0 });
            self.steps.len() - 1
        });
        let s = &mut self.steps[at];
        s.how = how;
        s.runs += 1;
        s.rows += rows as u64;
        s.micros += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    }
    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}
