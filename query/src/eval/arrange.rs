//! Rows put in the order of a column before they are looked up in a large array.
//!
//! A lookup that lands somewhere else each time waits for memory; lookups that ascend find
//! their rows beside the last ones. Sorting words that lie close together by radix costs less
//! than the waiting, and every later step by the same column finds it in order.
//!
//! 1. Rows with equal cells keep their order, so the result depends on the rows only.

use super::Run;
use super::rel::{Col, Rel, Var};
use crate::error::QueryError;
use annals_model::Cell;

/// Lookups that are worth putting in order.
const LOOKUPS: usize = 1 << 15;
/// Rows of an array that is too large for the caches next to a core.
const LARGE: usize = 1 << 17;
/// Columns that are moved for it at most.
const WIDEST: usize = 4;
/// Bits of one pass: counts that fit the nearest cache.
const DIGIT: u32 = 11;

impl Run<'_> {
    /// The rows in order of `var`, if they are to be looked up in an array of `rows` rows, are in
    /// no order yet, and it pays.
    pub(crate) fn arranged(&self, rel: &Rel, var: Var, rows: usize) -> Result<Option<Rel>, QueryError> {
        let small = rel.len < LOOKUPS || rows < LARGE || rel.vars.len() > WIDEST;
        if small || rel.len > u32::MAX as usize || rel.sorted == Some(var) {
            return Ok(None);
        }
        let col: &[Cell] = rel.col(var).expect("looked up by a variable it has");
        let Some(idx) = order_of(col) else { return Ok(None) };
        self.budget.spend(0, rel.len * (20 + 8 * rel.vars.len()))?;
        let cols = rel.cols.iter().map(|c| Col::new(self.threads.gather(c, &idx), self.budget)).collect();
        Ok(Some(Rel { vars: rel.vars.clone(), cols, len: rel.len, sorted: Some(var), key: rel.key.clone() }))
    }
}

/// Row numbers in order of their cells; none unless those lie close together.
fn order_of(col: &[Cell]) -> Option<Vec<u32>> {
    let (min, max) = (col.iter().min()?, col.iter().max()?);
    let span = max - min;
    if span > u64::from(u32::MAX) {
        return None;
    }
    let mut rows: Vec<u64> = col.iter().zip(0u64..).map(|(c, row)| (c - min) << 32 | row).collect();
    let mut sorted = vec![0u64; rows.len()];
    let bits = 64 - span.leading_zeros();
    for pass in 0..bits.div_ceil(DIGIT) {
        let digit = |word: u64| ((word >> (32 + pass * DIGIT)) & ((1 << DIGIT) - 1)) as usize;
        let mut next = vec![0u32; (1 << DIGIT) + 1];
        rows.iter().for_each(|w| next[digit(*w) + 1] += 1);
        for i in 1..next.len() {
            next[i] += next[i - 1];
        }
        for w in &rows {
            let at = &mut next[digit(*w)];
            sorted[*at as usize] = *w;
            *at += 1;
        }
        std::mem::swap(&mut rows, &mut sorted);
    }
    Some(rows.into_iter().map(|w| w as u32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_ascend_and_equal_ones_keep_their_order() {
        for span in [1, 2, 3_000, 1 << 23, u64::from(u32::MAX)] {
            let base = 3 << 60;
            let mut x = 9u64;
            let col: Vec<Cell> = (0..5_000)
                .map(|_| {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    base + (x >> 20) % span
                })
                .collect();
            let mut expected: Vec<u32> = (0..5_000).collect();
            expected.sort_by_key(|i| col[*i as usize]);
            assert_eq!(order_of(&col), Some(expected), "{span}");
        }
        assert_eq!(order_of(&[1, 1 << 40]), None);
        assert_eq!(order_of(&[]), None);
    }
}
