//! Joins of relations with relations: natural, semi, anti, product, theta.
//!
//! Hash joins build on the smaller side. The order of rows depends on the inputs only.

use super::rel::{Hasher, Rel, Var, hash_row};
use crate::budget::{BATCH, Budget};
use crate::error::QueryError;
use annals_model::Cell;
use hashbrown::HashMap;

const NONE: u32 = u32::MAX;

/// A hash index of rows by key columns: the first row of each key, and the next with the same one.
pub(crate) struct RowIndex<'a> {
    keys: Vec<&'a [Cell]>,
    hasher: Hasher,
    heads: HashMap<u64, u32, Hasher>,
    next: Vec<u32>,
}

impl<'a> RowIndex<'a> {
    pub(crate) fn build(keys: Vec<&'a [Cell]>, len: usize, budget: &Budget) -> Result<Self, QueryError> {
        if len >= NONE as usize {
            return Err(QueryError::RowLimit { limit: u64::from(NONE), used: budget.usage() });
        }
        budget.spend(0, len * 24)?;
        let hasher = Hasher::default();
        let mut heads = HashMap::with_capacity_and_hasher(len, hasher.clone());
        let mut next = vec![NONE; len];
        for i in (0..len).rev() {
            let h = if let [k] = keys[..] { k[i] } else { hash_row(&hasher, &keys, i) };
            if let Some(head) = heads.insert(h, i as u32) {
                next[i] = head;
            }
        }
        Ok(RowIndex { keys, hasher, heads, next })
    }

    /// Rows whose key equals row `i` of `probe`, ascending.
    pub(crate) fn matches<'b>(&'b self, probe: &'b [&'b [Cell]], i: usize) -> impl Iterator<Item = u32> + 'b {
        let h = if let [k] = probe[..] { k[i] } else { hash_row(&self.hasher, probe, i) };
        let exact = probe.len() == 1;
        let mut at = self.heads.get(&h).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            while at != NONE {
                let row = at;
                at = self.next[row as usize];
                if exact || self.keys.iter().zip(probe).all(|(k, p)| k[row as usize] == p[i]) {
                    return Some(row);
                }
            }
            None
        })
    }
}

fn key_cols<'a>(r: &'a Rel, on: &[Var]) -> Vec<&'a [Cell]> {
    on.iter().map(|v| &**r.col(*v).expect("a shared variable")).collect()
}

/// Variables of both.
pub(crate) fn shared(a: &Rel, b: &Rel) -> Vec<Var> {
    a.vars.iter().copied().filter(|v| b.has(*v)).collect()
}

/// Natural join; a product when nothing is shared.
pub(crate) fn natural(a: &Rel, b: &Rel, budget: &Budget) -> Result<Rel, QueryError> {
    if a.is_empty() || b.is_empty() {
        let mut vars = a.vars.clone();
        vars.extend(b.vars.iter().filter(|v| !a.has(**v)));
        return Ok(Rel::empty(&vars, budget));
    }
    let on = shared(a, b);
    if on.is_empty() {
        return product(a, b, budget);
    }
    // The larger side is streamed, so its order survives.
    let (big, small) = if a.len >= b.len { (a, b) } else { (b, a) };
    if small.vars.len() == on.len() {
        return semi(big, small, true, budget);
    }
    let index = RowIndex::build(key_cols(small, &on), small.len, budget)?;
    let probe = key_cols(big, &on);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let width = (big.vars.len() + small.vars.len()) * 8;
    let mut spent = 0;
    for i in 0..big.len {
        for j in index.matches(&probe, i) {
            left.push(i as u32);
            right.push(j);
        }
        if left.len() - spent >= BATCH || i % BATCH == 0 {
            budget.spend(left.len() - spent, left.len() * (8 + width))?;
            spent = left.len();
        }
    }
    let small_rest: Vec<Var> = small.vars.iter().copied().filter(|v| !on.contains(v)).collect();
    let key = join_key(big, small, &on);
    let mut out = big.take(&left, false, true, budget);
    let rest = small.project(&small_rest).take(&right, false, false, budget);
    out.vars.extend(rest.vars);
    out.cols.extend(rest.cols);
    Ok(out.keyed(key))
}

fn join_key(a: &Rel, b: &Rel, on: &[Var]) -> Option<Vec<Var>> {
    let (ka, kb) = (a.key.as_ref()?, b.key.as_ref()?);
    if kb.iter().all(|v| on.contains(v)) {
        return Some(ka.clone());
    }
    if ka.iter().all(|v| on.contains(v)) {
        return Some(kb.clone());
    }
    let mut k = ka.clone();
    k.extend(kb.iter().filter(|v| !ka.contains(v)));
    Some(k)
}

/// Cartesian product. Without columns on a side: the other, if that side is true.
pub(crate) fn product(a: &Rel, b: &Rel, budget: &Budget) -> Result<Rel, QueryError> {
    if a.vars.is_empty() || b.vars.is_empty() {
        let (unit, other) = if a.vars.is_empty() { (a, b) } else { (b, a) };
        return Ok(if unit.is_empty() { Rel::empty(&other.vars, budget) } else { other.clone() });
    }
    let rows = a.len.saturating_mul(b.len);
    let width = 8 * (a.vars.len() + b.vars.len());
    budget.spend(rows, rows.saturating_mul(width))?;
    let mut cols: Vec<Vec<Cell>> = Vec::new();
    for c in &a.cols {
        let mut out = Vec::with_capacity(rows);
        for (i, cell) in c.iter().enumerate() {
            out.extend(std::iter::repeat_n(*cell, b.len));
            if i % BATCH == 0 {
                budget.check()?;
            }
        }
        cols.push(out);
    }
    for c in &b.cols {
        let mut out = Vec::with_capacity(rows);
        for i in 0..a.len {
            out.extend_from_slice(c);
            if i % BATCH == 0 {
                budget.check()?;
            }
        }
        cols.push(out);
    }
    let vars: Vec<Var> = a.vars.iter().chain(&b.vars).copied().collect();
    let key = join_key(a, b, &[]);
    Ok(Rel::new(vars, cols, budget).keyed(key).sorted_by(a.sorted))
}

/// Rows of `a` that have (`keep`) or have not a partner in `b` on the variables both have.
/// With none shared, `b` is only asked whether it has rows.
pub(crate) fn semi(a: &Rel, b: &Rel, keep: bool, budget: &Budget) -> Result<Rel, QueryError> {
    let on = shared(a, b);
    if on.is_empty() || a.is_empty() || b.is_empty() {
        return Ok(if b.is_empty() != keep || a.is_empty() {
            a.clone()
        } else {
            Rel::empty(&a.vars, budget)
        });
    }
    let probe = key_cols(a, &on);
    let build = key_cols(b, &on);
    let mut idx = Vec::new();
    if let ([p], [k]) = (&probe[..], &build[..]) {
        budget.spend(0, k.len() * 9)?;
        let mut set: hashbrown::HashSet<Cell, Hasher> =
            hashbrown::HashSet::with_capacity_and_hasher(k.len().min(1 << 16), Hasher::default());
        set.extend(k.iter().copied());
        for (i, cell) in p.iter().enumerate() {
            if set.contains(cell) == keep {
                idx.push(i as u32);
            }
            if i % BATCH == 0 {
                budget.check()?;
            }
        }
    } else {
        let index = RowIndex::build(build, b.len, budget)?;
        for i in 0..a.len {
            if index.matches(&probe, i).next().is_some() == keep {
                idx.push(i as u32);
            }
            if i % BATCH == 0 {
                budget.check()?;
            }
        }
    }
    budget.spend(idx.len(), idx.len() * (4 + 8 * a.vars.len()))?;
    if idx.len() == a.len {
        return Ok(a.clone());
    }
    Ok(a.take(&idx, true, true, budget))
}

/// Pairs of rows for which `test` holds, block by block, so that the product is never whole.
/// `test` gets a block of the product and answers with the rows to keep, ascending.
pub(crate) fn theta(
    a: &Rel,
    b: &Rel,
    budget: &Budget,
    mut test: impl FnMut(&Rel) -> Result<Rel, QueryError>,
) -> Result<Rel, QueryError> {
    const BLOCK: usize = 1 << 16;
    if a.vars.is_empty() || b.vars.is_empty() || a.len.saturating_mul(b.len) <= BLOCK {
        return test(&product(a, b, budget)?);
    }
    let (outer, inner) = if a.len <= b.len { (a, b) } else { (b, a) };
    let inner_step = inner.len.min(BLOCK);
    let outer_step = (BLOCK / inner_step).max(1);
    let mut parts = Vec::new();
    for o in (0..outer.len).step_by(outer_step) {
        let orows: Vec<u32> = (o..(o + outer_step).min(outer.len)).map(|i| i as u32).collect();
        let oblock = outer.take(&orows, true, true, budget);
        for i in (0..inner.len).step_by(inner_step) {
            let irows: Vec<u32> = (i..(i + inner_step).min(inner.len)).map(|i| i as u32).collect();
            let block = product(&oblock, &inner.take(&irows, true, true, budget), budget)?;
            let kept = test(&block)?;
            if !kept.is_empty() {
                parts.push(kept);
            }
        }
    }
    let vars = match parts.first() {
        Some(p) => p.vars.clone(),
        None => test(&product(&a.take(&[], true, true, budget), b, budget)?)?.vars,
    };
    let key = join_key(a, b, &[]);
    let out = Rel::union(parts, &vars, budget)?;
    Ok(if out.key.is_none() { out.keyed(key) } else { out })
}
