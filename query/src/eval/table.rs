//! A growing set of rows: what fixpoints derive into.
//!
//! 1. Rows are numbered in order of arrival and never change; no two are equal.
//!    So "stable", "delta" and "all" are ranges of row numbers, not copies.
//! 2. Indexes are made on first use and extended on the next; a chain runs from
//!    the newest row to the oldest.

use super::rel::{Hasher, Rel, Var, hash_row};
use crate::budget::{BATCH, Budget};
use crate::error::QueryError;
use annals_model::Cell;
use hashbrown::{HashMap, HashSet, HashTable, hash_table};
use std::ops::Range;

const NONE: u32 = u32::MAX;

/// Which rows exist already, packed as tightly as the arity allows.
#[derive(Debug)]
enum Members {
    Unary(HashSet<Cell, Hasher>),
    Pair(HashSet<(Cell, Cell), Hasher>),
    Wide(HashTable<u32>),
}

#[derive(Debug)]
struct Index {
    on: Vec<usize>,
    heads: HashMap<u64, u32, Hasher>,
    next: Vec<u32>,
}

/// A set of rows of one arity.
#[derive(Debug)]
pub(crate) struct Table {
    arity: usize,
    cols: Vec<Vec<Cell>>,
    len: usize,
    members: Members,
    indexes: Vec<Index>,
    hasher: Hasher,
    paid: u64,
}

impl Table {
    pub(crate) fn new(arity: usize) -> Table {
        let hasher = Hasher::default();
        let members = match arity {
            1 => Members::Unary(HashSet::with_hasher(hasher.clone())),
            2 => Members::Pair(HashSet::with_hasher(hasher.clone())),
            _ => Members::Wide(HashTable::new()),
        };
        Table { arity, cols: vec![Vec::new(); arity], len: 0, members, indexes: Vec::new(), hasher, paid: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
    pub(crate) fn col(&self, i: usize) -> &[Cell] {
        &self.cols[i]
    }

    /// The cells of a column in these rows.
    pub(crate) fn fetch(&self, i: usize, rows: &[u32]) -> Vec<Cell> {
        let c = self.col(i);
        rows.iter().map(|r| c[*r as usize]).collect()
    }

    /// Bytes held, indexes included.
    fn bytes(&self) -> u64 {
        let rows = self.len as u64;
        rows * (8 * self.arity as u64)
            + match &self.members {
                Members::Unary(s) => s.capacity() as u64 * 9,
                Members::Pair(s) => s.capacity() as u64 * 17,
                Members::Wide(s) => s.capacity() as u64 * 5,
            }
            + self
                .indexes
                .iter()
                .map(|i| i.heads.capacity() as u64 * 13 + i.next.len() as u64 * 4)
                .sum::<u64>()
    }

    /// Adds the rows of `cols` that are new.
    pub(crate) fn insert(&mut self, cols: &[&[Cell]], len: usize, budget: &Budget) -> Result<(), QueryError> {
        debug_assert_eq!(cols.len(), self.arity);
        for start in (0..len).step_by(BATCH) {
            let before = self.len;
            for i in start..len.min(start + BATCH) {
                self.insert_row(cols, i);
            }
            if self.len > before || start % (64 * BATCH) == 0 {
                let bytes = self.bytes();
                budget.spend(self.len - before, bytes.saturating_sub(self.paid) as usize)?;
            }
            if self.len >= NONE as usize {
                return Err(QueryError::RowLimit { limit: u64::from(NONE), used: budget.usage() });
            }
        }
        self.pay(budget);
        Ok(())
    }

    fn pay(&mut self, budget: &Budget) {
        let bytes = self.bytes();
        if bytes > self.paid {
            budget.meter().take(bytes - self.paid);
            self.paid = bytes;
        }
    }

    fn insert_row(&mut self, cols: &[&[Cell]], i: usize) {
        let fresh = match &mut self.members {
            Members::Unary(s) => s.insert(cols[0][i]),
            Members::Pair(s) => s.insert((cols[0][i], cols[1][i])),
            Members::Wide(s) => {
                let (h, hasher, mine) = (hash_row(&self.hasher, cols, i), &self.hasher, &self.cols);
                let eq = |&j: &u32| cols.iter().zip(mine).all(|(c, m)| c[i] == m[j as usize]);
                let rehash = |&j: &u32| {
                    let views: Vec<&[Cell]> = mine.iter().map(Vec::as_slice).collect();
                    hash_row(hasher, &views, j as usize)
                };
                match s.entry(h, eq, rehash) {
                    hash_table::Entry::Vacant(e) => {
                        e.insert(self.len as u32);
                        true
                    }
                    hash_table::Entry::Occupied(_) => false,
                }
            }
        };
        if fresh {
            for (c, from) in self.cols.iter_mut().zip(cols) {
                c.push(from[i]);
            }
            self.len += 1;
        }
    }

    /// The rows of a range as a relation over `vars`.
    pub(crate) fn rows(&self, vars: &[Var], range: Range<usize>, budget: &Budget) -> Rel {
        debug_assert_eq!(vars.len(), self.arity);
        if self.arity == 0 {
            return if range.is_empty() { Rel::empty(&[], budget) } else { Rel::unit() };
        }
        let cols = self.cols.iter().map(|c| c[range.clone()].to_vec()).collect();
        Rel::new(vars.to_vec(), cols, budget).keyed(Some(vars.to_vec()))
    }

    /// Makes sure there is an index on these columns that knows every row.
    pub(crate) fn index(&mut self, on: &[usize], budget: &Budget) {
        let at = match self.indexes.iter().position(|x| x.on == on) {
            Some(at) => at,
            None => {
                let heads = HashMap::with_hasher(self.hasher.clone());
                self.indexes.push(Index { on: on.to_vec(), heads, next: Vec::new() });
                self.indexes.len() - 1
            }
        };
        let keys: Vec<&[Cell]> = on.iter().map(|&c| self.cols[c].as_slice()).collect();
        let index = &mut self.indexes[at];
        for i in index.next.len()..self.len {
            let h = if let [k] = keys[..] { k[i] } else { hash_row(&self.hasher, &keys, i) };
            index.next.push(index.heads.insert(h, i as u32).unwrap_or(NONE));
        }
        self.pay(budget);
    }

    /// Pairs (row of `probe`, row of the table within `range`) that agree on `on`.
    /// The index must have been made by [`Table::index`].
    pub(crate) fn probe(
        &self,
        on: &[usize],
        probe: &[&[Cell]],
        len: usize,
        range: Range<usize>,
        budget: &Budget,
    ) -> Result<(Vec<u32>, Vec<u32>), QueryError> {
        let index = self.indexes.iter().find(|x| x.on == on).expect("index made before probing");
        let (mut left, mut right) = (Vec::new(), Vec::new());
        let mut spent = 0;
        for i in 0..len {
            let h = if let [k] = probe { k[i] } else { hash_row(&self.hasher, probe, i) };
            let mut at = index.heads.get(&h).copied().unwrap_or(NONE);
            while at != NONE && at as usize >= range.start {
                let row = at as usize;
                at = index.next[row];
                let hit = row < range.end
                    && (on.len() == 1 || on.iter().zip(probe).all(|(&c, p)| self.cols[c][row] == p[i]));
                if hit {
                    left.push(i as u32);
                    right.push(row as u32);
                }
            }
            if left.len() - spent >= BATCH || i % BATCH == 0 {
                budget.spend(left.len() - spent, left.len() * (8 + 8 * self.arity))?;
                spent = left.len();
            }
        }
        Ok((left, right))
    }
}
