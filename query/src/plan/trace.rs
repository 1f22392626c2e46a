//! What a run did, clause by clause.

use crate::resolve::ir::{Body, Clause};
use hashbrown::HashMap;
use std::{fmt, sync::Arc, time::Duration};

/// One clause of a run. A clause that ran several times (in rules, in branches) is one step.
#[derive(Clone, Debug)]
pub struct Step {
    /// The clause as written.
    pub clause: Arc<str>,
    /// How it was run: the index read, or the operator.
    pub how: &'static str,
    /// How often it ran; 0 in a plan.
    pub runs: u64,
    /// Rows that the planner expected, all runs together.
    pub estimated: u64,
    /// Rows it left, all runs together.
    pub rows: u64,
    /// Microseconds, all runs together; those of a clause include the clauses within it.
    pub micros: u64,
    /// Nesting: 0 for a clause of `:where`.
    pub depth: u32,
}

/// Steps as a tree, parents first: what a run did, or (with no runs) what one would do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.steps.iter().map(|s| s.how.len() + 2 * s.depth as usize).max().unwrap_or(0);
        for s in &self.steps {
            let how = format!("{}{}", "  ".repeat(s.depth as usize), s.how);
            write!(f, "{how:width$}  {}  ~{}", s.clause, s.estimated)?;
            if s.runs > 0 {
                write!(f, " rows={} ms={:.3}", s.rows, s.micros as f64 / 1e3)?;
            }
            if s.runs > 1 {
                write!(f, " runs={}", s.runs)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The steps of a run. Those within another have it as their parent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    steps: Vec<(Step, Option<usize>)>,
    /// By the clause and the step it runs in.
    index: HashMap<(usize, Option<usize>), usize>,
    open: Vec<usize>,
}

impl Trace {
    /// A clause begins to run.
    pub(crate) fn begin(&mut self, c: &Clause, estimated: f64) {
        let parent = self.open.last().copied();
        let at = *self.index.entry((std::ptr::from_ref(c) as usize, parent)).or_insert_with(|| {
            let depth = self.open.len() as u32;
            let step =
                Step { clause: c.text.clone(), how: "", runs: 0, estimated: 0, rows: 0, micros: 0, depth };
            self.steps.push((step, parent));
            self.steps.len() - 1
        });
        let s = &mut self.steps[at].0;
        s.estimated = s.estimated.saturating_add(estimated.max(0.0) as u64);
        self.open.push(at);
    }

    /// The clause that began last has run. After an error steps stay open; nobody looks then.
    pub(crate) fn end(&mut self, how: &'static str, rows: usize, took: Option<Duration>) {
        let Some(at) = self.open.pop() else { return };
        let s = &mut self.steps[at].0;
        s.how = how;
        s.rows += rows as u64;
        if let Some(took) = took {
            s.runs += 1;
            s.micros += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        }
    }

    /// Clauses ran as one: each is a step that left these rows; the first took the time.
    pub(crate) fn together(
        &mut self,
        clauses: &[usize],
        body: &Body,
        estimated: f64,
        how: &'static str,
        rows: usize,
        mut took: Option<Duration>,
    ) {
        for i in clauses {
            self.begin(&body.clauses[*i], estimated);
            self.end(how, rows, took);
            took = took.map(|_| Duration::ZERO);
        }
    }

    /// All steps, each after its parent, otherwise in order of their first start.
    pub(crate) fn into_steps(self) -> Vec<Step> {
        let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
        for (i, (_, parent)) in self.steps.iter().enumerate() {
            children.entry(*parent).or_default().push(i);
        }
        let mut out = Vec::with_capacity(self.steps.len());
        let mut todo: Vec<usize> = children.remove(&None).unwrap_or_default();
        todo.reverse();
        let mut steps: Vec<Option<Step>> = self.steps.into_iter().map(|(s, _)| Some(s)).collect();
        while let Some(i) = todo.pop() {
            out.extend(steps[i].take());
            let mut inner = children.remove(&Some(i)).unwrap_or_default();
            inner.reverse();
            todo.extend(inner);
        }
        out
    }
}
