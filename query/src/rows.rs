//! The rows of an answer: columns of cells, decoded when somebody looks.
//!
//! 1. Rows are in a fixed order: that of `:order-by` if there is one, and among
//!    equals, or without one, by the values of the columns from left to right.
//! 2. A cell is decoded by the dictionary of the run that made it, which the rows keep.

use crate::budget::Usage;
use crate::eval::rel::Col;
use crate::plan::{Plan, Step};
use annals_model::{Cell, Diagnostic, Dict, EntityId, T, Value, cell};
use hashbrown::HashMap;
use std::sync::Arc;

/// The shape of an answer, as its `:find` asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A set of tuples.
    Rel,
    /// A collection: one column.
    Coll,
    /// One tuple, or nothing.
    Tuple,
    /// One value, or nothing.
    Scalar,
    /// A set of maps with these keys, one a column.
    Maps(Vec<Value>),
    /// One map, or nothing.
    Map(Vec<Value>),
}

/// One column of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    Cells(Col),
    Values(Vec<Value>),
}

/// Rows of an answer.
#[derive(Clone)]
pub struct Rows {
    dict: Arc<Dict>,
    cols: Vec<Column>,
    /// Row numbers in order, if not all as they lie.
    order: Option<Vec<u32>>,
    len: usize,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Rows {
    pub(crate) fn new(dict: Arc<Dict>, cols: Vec<Column>, order: Option<Vec<u32>>, len: usize) -> Rows {
        Rows { dict, cols, order, len }
    }
    /// Rows of values at hand, in this order: an answer that was computed elsewhere.
    /// Every row has `width` values; a missing one is nil, one too many is left out.
    ///
    /// ```
    /// use annals_model::Value;
    /// let rows = annals_query::rows::Rows::of_values(2, vec![vec![Value::Long(1), "a".into()]]);
    /// assert_eq!(rows.row(0), [Value::Long(1), "a".into()]);
    /// ```
    pub fn of_values(width: usize, rows: Vec<Vec<Value>>) -> Rows {
        let len = rows.len();
        let mut cols: Vec<Vec<Value>> = (0..width).map(|_| Vec::with_capacity(len)).collect();
        for row in rows {
            let mut row = row.into_iter();
            for col in &mut cols {
                col.push(row.next().unwrap_or(Value::Nil));
            }
        }
        let cols = cols.into_iter().map(Column::Values).collect();
        Rows { dict: Arc::default(), cols, order: None, len }
    }
    /// How many rows.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// How many columns.
    pub fn width(&self) -> usize {
        self.cols.len()
    }
    fn at(&self, row: usize) -> usize {
        self.order.as_ref().map_or(row, |o| o[row] as usize)
    }
    /// The value at a row and a column, if there are such.
    pub fn get(&self, row: usize, col: usize) -> Option<Value> {
        if row >= self.len {
            return None;
        }
        Some(match self.cols.get(col)? {
            Column::Cells(c) => self.dict.decode(c[self.at(row)]),
            Column::Values(v) => v[self.at(row)].clone(),
        })
    }
    /// The cell at a row and a column, unless the column was computed after the joins.
    pub fn cell(&self, row: usize, col: usize) -> Option<Cell> {
        if row >= self.len {
            return None;
        }
        match self.cols.get(col)? {
            Column::Cells(c) => Some(c[self.at(row)]),
            Column::Values(_) => None,
        }
    }
    /// One row.
    pub fn row(&self, row: usize) -> Vec<Value> {
        (0..self.width()).filter_map(|c| self.get(row, c)).collect()
    }
    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Vec<Value>> + '_ {
        (0..self.len).map(|r| self.row(r))
    }
    /// A column as entities, without making values of them; none unless every cell of the
    /// column is one. For large results: a value costs what a dozen of these do.
    pub fn entities(&self, col: usize) -> Option<impl ExactSizeIterator<Item = EntityId> + '_> {
        let Column::Cells(cells) = self.cols.get(col)? else { return None };
        if !(0..self.len).all(|row| cell::as_ref(cells[self.at(row)]).is_some()) {
            return None;
        }
        Some((0..self.len).map(|row| cell::as_ref(cells[self.at(row)]).expect("every cell was looked at")))
    }
    /// A column as integers, without making values of them; none unless every cell of the
    /// column holds one below 2^59.
    pub fn longs(&self, col: usize) -> Option<impl ExactSizeIterator<Item = i64> + '_> {
        let Column::Cells(cells) = self.cols.get(col)? else { return None };
        if !(0..self.len).all(|row| cell::as_long(cells[self.at(row)]).is_some()) {
            return None;
        }
        Some((0..self.len).map(|row| cell::as_long(cells[self.at(row)]).expect("every cell was looked at")))
    }
    /// The rows a batch at a time, for results too large to hold as values.
    ///
    /// What is held meanwhile is what the joins left: eight bytes a value, and the values of
    /// aggregates and pulls, which are made before the first batch. The rest is decoded as it
    /// is asked for. Batches have `size` rows (at least 1), the last perhaps fewer.
    pub fn batches(self, size: usize) -> Batches {
        Batches { rows: self, at: 0, size: size.max(1) }
    }
    /// The dictionary of the cells.
    pub fn dict(&self) -> &Arc<Dict> {
        &self.dict
    }
}

/// Rows on their way out, a batch at a time; see [`Rows::batches`].
pub struct Batches {
    rows: Rows,
    at: usize,
    size: usize,
}

impl Batches {
    /// Rows still to come.
    pub fn remaining(&self) -> usize {
        self.rows.len() - self.at
    }
}

impl Iterator for Batches {
    type Item = Vec<Vec<Value>>;
    fn next(&mut self) -> Option<Vec<Vec<Value>>> {
        let batch = self.at..self.rows.len().min(self.at + self.size);
        self.at = batch.end;
        (!batch.is_empty()).then(|| batch.map(|row| self.rows.row(row)).collect())
    }
}

/// What a run used and did.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// What was used of the budget.
    pub used: Usage,
    /// The steps in order, with actual rows and times.
    pub steps: Vec<Step>,
    /// Microseconds spent on names, types and rules before the first step.
    pub prepare_us: u64,
}

impl Stats {
    /// The steps as a plan, to be shown.
    pub fn plan(&self) -> Plan {
        Plan { steps: self.steps.clone() }
    }
}

/// The answer of a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its shape.
    pub shape: Shape,
    /// Its rows. Of a tuple or a scalar at most the first counts.
    pub rows: Rows,
    /// The newest transaction that the first database of the query knew.
    pub basis_t: T,
    /// What the run used and did.
    pub stats: Stats,
    /// What the user should know although there is an answer.
    pub warnings: Vec<Diagnostic>,
}

impl Answer {
    /// The answer as one value: a set of vectors or maps, a vector, a vector or nil, a value or nil.
    pub fn value(&self) -> Value {
        let map = |keys: &[Value], row: usize| Value::map(keys.iter().cloned().zip(self.rows.row(row)));
        let first = |f: &dyn Fn() -> Value| if self.rows.is_empty() { Value::Nil } else { f() };
        match &self.shape {
            Shape::Rel => Value::vector(self.rows.iter().map(Value::vector)),
            Shape::Coll => Value::vector((0..self.rows.len()).filter_map(|r| self.rows.get(r, 0))),
            Shape::Tuple => first(&|| Value::vector(self.rows.row(0))),
            Shape::Scalar => first(&|| self.rows.get(0, 0).unwrap_or(Value::Nil)),
            Shape::Maps(keys) => Value::vector((0..self.rows.len()).map(|r| map(keys, r))),
            Shape::Map(keys) => first(&|| map(keys, 0)),
        }
    }
    /// The value of a scalar answer, or the first value of any other; none without rows.
    pub fn scalar(&self) -> Option<Value> {
        self.rows.get(0, 0)
    }
}

/// Words that order as the values of a column do.
fn ranks(col: &Column, dict: &Dict) -> Vec<u64> {
    let cells = match col {
        Column::Values(values) => {
            let mut sorted: Vec<&Value> = values.iter().collect();
            sorted.sort_unstable();
            sorted.dedup();
            return values.iter().map(|v| sorted.partition_point(|s| *s < v) as u64).collect();
        }
        Column::Cells(c) => c,
    };
    let Some(first) = cells.first() else { return Vec::new() };
    let tag = cell::tag(*first);
    if tag <= cell::TAG_DOUBLE && cells.iter().all(|c| cell::tag(*c) == tag) {
        return cells.to_vec();
    }
    let mut distinct: Vec<Cell> = cells.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    // Values of the dictionary are compared where they lie.
    let inline: Vec<Option<Value>> = distinct
        .iter()
        .map(|c| if dict.entry(*c).is_none() { Some(dict.decode(*c)) } else { None })
        .collect();
    let value = |i: usize| -> &Value {
        match &inline[i] {
            Some(v) => v,
            None => dict.entry(distinct[i]).expect("not inline, so in the dictionary"),
        }
    };
    let mut order: Vec<u32> = (0..distinct.len() as u32).collect();
    order.sort_unstable_by(|a, b| value(*a as usize).cmp(value(*b as usize)));
    let mut rank = vec![0u64; distinct.len()];
    for (r, i) in order.iter().enumerate() {
        rank[*i as usize] = r as u64;
    }
    if distinct.len() * 4 > cells.len() {
        let map: HashMap<Cell, u64, crate::eval::rel::Hasher> = distinct.iter().copied().zip(rank).collect();
        return cells.iter().map(|c| map[c]).collect();
    }
    cells.iter().map(|c| rank[distinct.binary_search(c).expect("one of them")]).collect()
}

/// Row numbers sorted by columns: each with its direction, the earlier the more important.
/// None when the rows lie in that order already.
pub(crate) fn sort(cols: &[(&Column, bool)], len: usize, dict: &Dict) -> Option<Vec<u32>> {
    let keys: Vec<Vec<u64>> = cols
        .iter()
        .map(|(c, descending)| {
            let mut r = ranks(c, dict);
            if *descending {
                r.iter_mut().for_each(|x| *x = !*x);
            }
            r
        })
        .collect();
    let compare = |a: usize, b: usize| {
        keys.iter().map(|k| k[a].cmp(&k[b])).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    if (1..len).all(|i| compare(i - 1, i).is_le()) {
        return None;
    }
    match &keys[..] {
        [a] => {
            let mut rows: Vec<(u64, u32)> = a.iter().copied().zip(0..).collect();
            rows.sort_unstable();
            Some(rows.into_iter().map(|(_, i)| i).collect())
        }
        [a, b] => {
            let mut rows: Vec<(u64, u64, u32)> =
                a.iter().zip(b).zip(0..).map(|((a, b), i)| (*a, *b, i)).collect();
            rows.sort_unstable();
            Some(rows.into_iter().map(|(_, _, i)| i).collect())
        }
        _ => {
            let mut rows: Vec<u32> = (0..len as u32).collect();
            rows.sort_unstable_by(|a, b| compare(*a as usize, *b as usize).then(a.cmp(b)));
            Some(rows)
        }
    }
}
