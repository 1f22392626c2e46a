//! Values taken apart into variables: inputs, and the results of functions.
//!
//! 1. Binding is unification: a variable that has a value already, in the same
//!    row or the same binding, tests for equality.
//! 2. A collection gives a row for each element; an empty one, or nil, gives none.

use super::Run;
use super::anyattr::elements;
use super::rel::{Rel, Var};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::resolve::ir::{Bind, Meaning};
use annals_model::{Cell, Value, cell};

/// Rows under construction: for each, the row of the input it extends and new cells.
pub(crate) struct Binder {
    /// Variables the binding gives, each once.
    pub(crate) vars: Vec<Var>,
    /// Row of the input, for each row made.
    pub(crate) left: Vec<u32>,
    /// Cells, a column a variable.
    pub(crate) cols: Vec<Vec<Cell>>,
}

/// The value does not have the shape of the binding.
pub(crate) struct Misfit {
    /// What the binding wanted.
    pub(crate) wanted: &'static str,
    /// What there was.
    pub(crate) found: &'static str,
}

impl Binder {
    pub(crate) fn new(bind: &Bind) -> Binder {
        let mut vars = Vec::new();
        bind.vars(&mut vars);
        let cols = vec![Vec::new(); vars.len()];
        Binder { vars, left: Vec::new(), cols }
    }

    /// Adds the rows that `value` gives for input row `row`.
    pub(crate) fn add(&mut self, bind: &Bind, value: &Value, row: u32, run: &Run<'_>) -> Result<(), Misfit> {
        let mut slots = vec![None; self.vars.len()];
        self.expand(&mut vec![(bind, value)], &mut slots, row, run)
    }

    fn expand<'v>(
        &mut self,
        work: &mut Vec<(&'v Bind, &'v Value)>,
        slots: &mut Vec<Option<Cell>>,
        row: u32,
        run: &Run<'_>,
    ) -> Result<(), Misfit> {
        let Some((bind, value)) = work.pop() else {
            self.left.push(row);
            for (col, s) in self.cols.iter_mut().zip(slots.iter()) {
                col.push(s.unwrap_or(cell::NIL));
            }
            return Ok(());
        };
        let out = match bind {
            Bind::Blank => self.expand(work, slots, row, run),
            Bind::Var(v) => {
                let at = self.vars.iter().position(|x| x == v).expect("a variable of the binding");
                let c = run.dict.encode(value);
                match slots[at] {
                    Some(had) if had == c => self.expand(work, slots, row, run),
                    Some(_) => Ok(()),
                    None => {
                        slots[at] = Some(c);
                        let out = self.expand(work, slots, row, run);
                        slots[at] = None;
                        out
                    }
                }
            }
            Bind::Tuple(binds) => {
                let Some(items) = elements(value) else {
                    return Err(Misfit { wanted: "a tuple", found: value.kind() });
                };
                if items.len() < binds.len() {
                    return Err(Misfit { wanted: "a longer tuple", found: "too short a one" });
                }
                let depth = work.len();
                for pair in binds.iter().zip(items).rev() {
                    work.push(pair);
                }
                let out = self.expand(work, slots, row, run);
                work.truncate(depth);
                out
            }
            Bind::Coll(inner) => {
                if matches!(value, Value::Nil) {
                    work.push((bind, value));
                    return Ok(());
                }
                let pairs: Vec<Value>;
                let items = match value {
                    Value::Map(m) => {
                        pairs = m.iter().map(|(k, v)| Value::vector([k.clone(), v.clone()])).collect();
                        &pairs[..]
                    }
                    _ => match elements(value) {
                        Some(items) => items,
                        None => return Err(Misfit { wanted: "a collection", found: value.kind() }),
                    },
                };
                for item in items {
                    let mut inner_work: Vec<(&Bind, &Value)> = work.clone();
                    inner_work.push((inner, item));
                    self.expand(&mut inner_work, slots, row, run)?;
                }
                Ok(())
            }
        };
        work.push((bind, value));
        out
    }
}

impl Run<'_> {
    /// What one input gives.
    pub(crate) fn input(&self, bind: &Bind, value: &Value) -> Result<Rel, Misfit> {
        let mut b = Binder::new(bind);
        b.add(bind, value, 0, self)?;
        if b.vars.is_empty() {
            return Ok(if b.left.is_empty() { Rel::empty(&[], self.budget) } else { Rel::unit() });
        }
        Ok(Rel::new(b.vars, b.cols, self.budget))
    }

    /// Joins what `binder` made back to the rows it was made for.
    pub(crate) fn bound(&self, rel: &Rel, binder: Binder) -> Result<Rel, QueryError> {
        let Binder { vars, left, cols } = binder;
        // Variables that the input has already are tests.
        let mut keep: Vec<u32> = Vec::with_capacity(left.len());
        for (i, row) in left.iter().enumerate() {
            if i % BATCH == 0 {
                self.budget.spend(0, left.len() * (4 + 8 * (rel.vars.len() + vars.len())))?;
            }
            if vars.iter().zip(&cols).all(|(v, c)| rel.col(*v).is_none_or(|had| had[*row as usize] == c[i])) {
                keep.push(i as u32);
            }
        }
        self.budget.spend(keep.len(), 0)?;
        let rows: Vec<u32> = keep.iter().map(|i| left[*i as usize]).collect();
        let identity = rows.len() == rel.len && rows.iter().enumerate().all(|(i, r)| i == *r as usize);
        let distinct = rows.windows(2).all(|w| w[0] < w[1]);
        let mut out = if identity { rel.clone() } else { rel.take(&rows, distinct, true, self.budget) };
        let mut key = out.key.clone();
        if rel.vars.is_empty() {
            out = Rel { vars: vec![], cols: vec![], len: rows.len(), sorted: None, key: None };
            key = None;
        }
        for (v, c) in vars.iter().zip(&cols) {
            if !rel.has(*v) {
                out = out.with(*v, keep.iter().map(|i| c[*i as usize]).collect(), self.budget);
            }
        }
        if out.vars.is_empty() {
            out.len = out.len.min(1);
        }
        Ok(out.keyed(key))
    }

    /// Adds a column of what `from` means, or a test when that is bound already.
    pub(crate) fn meaning(
        &self,
        rel: &Rel,
        from: Var,
        to: Var,
        as_what: &Meaning,
    ) -> Result<Rel, QueryError> {
        let col = rel.col(from).expect("bound before its meaning");
        let mut keep = Vec::with_capacity(col.len());
        let mut cells = Vec::with_capacity(col.len());
        let mut last: Option<(Cell, Cell)> = None;
        for (i, c) in col.iter().enumerate() {
            if i % BATCH == 0 {
                self.budget.check()?;
            }
            // Rows of one given value often lie together.
            let m = match last {
                Some((given, m)) if given == *c => m,
                _ => self.meant(*c, as_what)?,
            };
            last = Some((*c, m));
            if rel.col(to).is_none_or(|had| had[i] == m) {
                keep.push(i as u32);
                cells.push(m);
            }
        }
        let out = if keep.len() == rel.len { rel.clone() } else { rel.take(&keep, true, true, self.budget) };
        if rel.has(to) {
            return Ok(out);
        }
        let key = out.key.clone();
        Ok(out.with(to, cells, self.budget).keyed(key))
    }

    /// What a value means. What means nothing is nil, which no datom holds: it matches no pattern,
    /// and so within a not it removes nothing.
    fn meant(&self, c: Cell, as_what: &Meaning) -> Result<Cell, QueryError> {
        let meant = match as_what {
            Meaning::Entity(slot) => self.entity_of(*slot, c)?.map(cell::of_ref),
            Meaning::Tx => match cell::as_long(c) {
                Some(n) => crate::resolve::tx_entity(n).map(cell::of_ref),
                None => cell::as_ref(c).map(cell::of_ref),
            },
            Meaning::Typed(t) => crate::resolve::fit(&self.dict.decode(c), *t).map(|v| self.dict.encode(&v)),
        };
        Ok(meant.unwrap_or(cell::NIL))
    }
}
