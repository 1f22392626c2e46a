//! Relations: what operators take and give. Columns of cells, one a variable.
//!
//! 1. All columns have `len` rows. Without columns, `len` is 0 or 1: false or true.
//! 2. No variable stands twice.
//! 3. `key` names variables on which no two rows agree; with a key the rows are
//!    distinct. No key says nothing.
//! 4. `sorted` names a column that never descends, in word order.
//! 5. Columns are shared and immutable once built, and pay their bytes to the
//!    budget's meter while they live.

use crate::budget::{BATCH, Budget, Meter};
use crate::error::QueryError;
use annals_model::Cell;
use hashbrown::HashTable;
use std::{hash::BuildHasher, ops::Deref, sync::Arc};

/// A variable, numbered within one query.
pub(crate) type Var = u32;

/// The hasher of all joins: fast, and the same in every run so that the order of rows is too.
pub(crate) type Hasher = foldhash::fast::FixedState;

/// One column; derefs to its cells.
#[derive(Clone, Debug)]
pub(crate) struct Col(Arc<Metered>);

#[derive(Debug)]
struct Metered {
    cells: Vec<Cell>,
    meter: Arc<Meter>,
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.give_back(self.cells.capacity() as u64 * 8);
    }
}

impl Col {
    /// A column paid to `budget`.
    pub(crate) fn new(cells: Vec<Cell>, budget: &Budget) -> Col {
        budget.meter().take(cells.capacity() as u64 * 8);
        Col(Arc::new(Metered { cells, meter: budget.meter().clone() }))
    }
}

impl Deref for Col {
    type Target = [Cell];
    #[inline]
    fn deref(&self) -> &[Cell] {
        &self.0.cells
    }
}

/// A relation over variables.
#[derive(Clone, Debug)]
pub(crate) struct Rel {
    pub(crate) vars: Vec<Var>,
    pub(crate) cols: Vec<Col>,
    pub(crate) len: usize,
    pub(crate) sorted: Option<Var>,
    pub(crate) key: Option<Vec<Var>>,
}

impl Rel {
    /// The relation with no variables and one row: true.
    pub(crate) fn unit() -> Rel {
        Rel { vars: vec![], cols: vec![], len: 1, sorted: None, key: Some(vec![]) }
    }
    /// No rows, over these variables.
    pub(crate) fn empty(vars: &[Var], budget: &Budget) -> Rel {
        Rel {
            vars: vars.to_vec(),
            cols: vars.iter().map(|_| Col::new(vec![], budget)).collect(),
            len: 0,
            sorted: vars.first().copied(),
            key: Some(vec![]),
        }
    }
    /// From columns; nothing is claimed of their order. Without columns: true.
    pub(crate) fn new(vars: Vec<Var>, cols: Vec<Vec<Cell>>, budget: &Budget) -> Rel {
        let len = cols.first().map_or(1, Vec::len);
        debug_assert!(cols.iter().all(|c| c.len() == len) && vars.len() == cols.len());
        Rel {
            vars,
            cols: cols.into_iter().map(|c| Col::new(c, budget)).collect(),
            len,
            sorted: None,
            key: None,
        }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub(crate) fn has(&self, v: Var) -> bool {
        self.vars.contains(&v)
    }
    pub(crate) fn position(&self, v: Var) -> Option<usize> {
        self.vars.iter().position(|x| *x == v)
    }
    pub(crate) fn col(&self, v: Var) -> Option<&Col> {
        self.position(v).map(|i| &self.cols[i])
    }
    /// Says that rows differ on `key`.
    pub(crate) fn keyed(mut self, key: Option<Vec<Var>>) -> Rel {
        self.key = key;
        self
    }
    /// Says that `var`'s column ascends.
    pub(crate) fn sorted_by(mut self, var: Option<Var>) -> Rel {
        self.sorted = var;
        self
    }
    /// Adds a column.
    pub(crate) fn with(mut self, var: Var, cells: Vec<Cell>, budget: &Budget) -> Rel {
        debug_assert!(!self.has(var) && (cells.len() == self.len));
        self.vars.push(var);
        self.cols.push(Col::new(cells, budget));
        self
    }

    /// The rows at `idx`, in that order. Keeps the key if no row repeats, which
    /// `distinct_rows` asserts, and the order if `idx` ascends.
    pub(crate) fn take(&self, idx: &[u32], distinct_rows: bool, ascending: bool, budget: &Budget) -> Rel {
        let cols = self
            .cols
            .iter()
            .map(|c| Col::new(idx.iter().map(|&i| c[i as usize]).collect(), budget))
            .collect();
        let len = if self.vars.is_empty() { usize::from(!idx.is_empty()) } else { idx.len() };
        Rel {
            vars: self.vars.clone(),
            cols,
            len,
            sorted: if ascending { self.sorted } else { None },
            key: if distinct_rows { self.key.clone() } else { None },
        }
    }

    /// The rows of a range.
    pub(crate) fn slice(&self, rows: std::ops::Range<usize>, budget: &Budget) -> Rel {
        let cols = self.cols.iter().map(|c| Col::new(c[rows.clone()].to_vec(), budget)).collect();
        Rel { vars: self.vars.clone(), cols, len: rows.len(), sorted: self.sorted, key: self.key.clone() }
    }

    /// Keeps only these variables (those it has), in this order. Rows may repeat
    /// afterwards: see [`Rel::distinct`].
    pub(crate) fn project(&self, keep: &[Var]) -> Rel {
        let vars: Vec<Var> = keep.iter().copied().filter(|v| self.has(*v)).collect();
        if vars == self.vars {
            return self.clone();
        }
        let cols = vars.iter().map(|v| self.cols[self.position(*v).expect("filtered")].clone()).collect();
        let len = if vars.is_empty() { self.len.min(1) } else { self.len };
        let key = match &self.key {
            _ if vars.is_empty() => Some(vec![]),
            Some(k) if k.iter().all(|v| vars.contains(v)) => Some(k.clone()),
            _ => None,
        };
        let sorted = self.sorted.filter(|s| vars.contains(s));
        Rel { vars, cols, len, sorted, key }
    }

    /// Drops repeated rows, keeping the first of each.
    pub(crate) fn distinct(self, budget: &Budget) -> Result<Rel, QueryError> {
        if self.key.is_some() {
            return Ok(self);
        }
        if self.vars.is_empty() || self.len <= 1 {
            return Ok(Rel { key: Some(vec![]), ..self });
        }
        let idx = first_rows(&self.cols, self.len, budget)?;
        let key = Some(self.vars.clone());
        if idx.len() == self.len {
            Ok(self.keyed(key))
        } else {
            Ok(self.take(&idx, true, true, budget).keyed(key))
        }
    }

    /// Renames variables by `f`; the results must be distinct.
    pub(crate) fn rename(mut self, f: impl Fn(Var) -> Var) -> Rel {
        self.vars.iter_mut().for_each(|v| *v = f(*v));
        self.sorted = self.sorted.map(&f);
        if let Some(k) = &mut self.key {
            k.iter_mut().for_each(|v| *v = f(*v));
        }
        self
    }

    /// The rows of all parts over the variables of the first, which all must have.
    pub(crate) fn union(parts: Vec<Rel>, vars: &[Var], budget: &Budget) -> Result<Rel, QueryError> {
        let mut parts: Vec<Rel> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        match parts.len() {
            0 => return Ok(Rel::empty(vars, budget)),
            1 => return Ok(parts.remove(0).project(vars)),
            _ if vars.is_empty() => return Ok(Rel::unit()),
            _ => {}
        }
        let len: usize = parts.iter().map(|p| p.len).sum();
        budget.spend(0, len * 8 * vars.len())?;
        let cols = vars
            .iter()
            .map(|v| {
                let mut c = Vec::with_capacity(len);
                for p in &parts {
                    c.extend_from_slice(p.col(*v).expect("every part has the variables"));
                }
                c
            })
            .collect();
        Ok(Rel::new(vars.to_vec(), cols, budget))
    }
}

/// Hash of row `i` over these columns.
pub(crate) fn hash_row(hasher: &Hasher, cols: &[&[Cell]], i: usize) -> u64 {
    match cols {
        [a] => hasher.hash_one(a[i]),
        [a, b] => hasher.hash_one((a[i], b[i])),
        _ => {
            let mut h = hasher.hash_one(cols.len());
            for c in cols {
                h = hasher.hash_one((h, c[i]));
            }
            h
        }
    }
}

/// Indices of the first of each group of equal rows, ascending.
pub(crate) fn first_rows(cols: &[Col], len: usize, budget: &Budget) -> Result<Vec<u32>, QueryError> {
    let cols: Vec<&[Cell]> = cols.iter().map(|c| &**c).collect();
    if let [only] = cols[..]
        && only.is_sorted()
    {
        let mut idx = Vec::new();
        for i in 0..len {
            if i == 0 || only[i] != only[i - 1] {
                idx.push(i as u32);
            }
        }
        return Ok(idx);
    }
    if len > u32::MAX as usize {
        return Err(QueryError::RowLimit { limit: u64::from(u32::MAX), used: budget.usage() });
    }
    let hasher = Hasher::default();
    let mut idx = Vec::new();
    match cols[..] {
        [a] => {
            let mut set = hashbrown::HashSet::with_capacity_and_hasher(len / 4, hasher);
            for (i, cell) in a.iter().enumerate() {
                if i % BATCH == 0 {
                    budget.spend(0, set.capacity() * 9 + idx.len() * 4)?;
                }
                if set.insert(*cell) {
                    idx.push(i as u32);
                }
            }
        }
        [a, b] => {
            let mut set = hashbrown::HashSet::with_capacity_and_hasher(len / 4, hasher);
            for i in 0..len {
                if i % BATCH == 0 {
                    budget.spend(0, set.capacity() * 17 + idx.len() * 4)?;
                }
                if set.insert((a[i], b[i])) {
                    idx.push(i as u32);
                }
            }
        }
        _ => {
            let mut table: HashTable<u32> = HashTable::with_capacity(len / 4);
            for i in 0..len {
                if i % BATCH == 0 {
                    budget.spend(0, table.capacity() * 5 + idx.len() * 4)?;
                }
                let h = hash_row(&hasher, &cols, i);
                let eq = |&j: &u32| cols.iter().all(|c| c[j as usize] == c[i]);
                let entry = table.entry(h, eq, |&j| hash_row(&hasher, &cols, j as usize));
                if let hashbrown::hash_table::Entry::Vacant(e) = entry {
                    e.insert(i as u32);
                    idx.push(i as u32);
                }
            }
        }
    }
    Ok(idx)
}
