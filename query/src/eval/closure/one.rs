//! Everything reached from one node: breadth first, a level at a time.

use super::{Path, Way};
use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::rel::Hasher;
use annals_model::Cell;
use hashbrown::HashSet;

/// The nodes seen: a set while they are few, then bits over the range that they lie in.
struct Seen {
    few: HashSet<Cell, Hasher>,
    base: Cell,
    bits: Vec<u64>,
    /// At how many to look for a range.
    look: usize,
}

impl Seen {
    fn new() -> Seen {
        Seen { few: HashSet::with_hasher(Hasher::default()), base: 0, bits: Vec::new(), look: 2048 }
    }

    /// Enters a node; was it new?
    fn insert(&mut self, c: Cell) -> bool {
        let at = c.wrapping_sub(self.base);
        if let Some(word) = self.bits.get_mut((at / 64) as usize) {
            let bit = 1 << (at % 64);
            let new = *word & bit == 0;
            *word |= bit;
            return new;
        }
        let new = self.few.insert(c);
        if new && self.bits.is_empty() && self.few.len() >= self.look {
            self.densify();
        }
        new
    }

    /// Moves to bits if the nodes lie close together: entities are numbered densely.
    fn densify(&mut self) {
        let (Some(&min), Some(&max)) = (self.few.iter().min(), self.few.iter().max()) else { return };
        let span = max - min;
        if span > 256 * self.few.len() as u64 {
            self.look *= 4;
            return;
        }
        // As much room again on both sides; what lies outside stays in the set.
        self.base = min.saturating_sub(span);
        self.bits = vec![0; ((max - self.base + span) / 64 + 1) as usize];
        for c in std::mem::take(&mut self.few) {
            self.insert(c);
        }
    }

    /// The nodes in order.
    fn sorted(self) -> Vec<Cell> {
        let mut out: Vec<Cell> = self.few.into_iter().collect();
        for (i, word) in self.bits.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                out.push(self.base + (i * 64) as u64 + u64::from(rest.trailing_zeros()));
                rest &= rest - 1;
            }
        }
        if !out.is_sorted() {
            out.sort_unstable();
        }
        out
    }
}

impl Run<'_> {
    /// Everything reached from one node, in order.
    pub(super) fn walk_one(
        &self,
        path: &Path,
        from: Cell,
        way: Way,
        base_first: bool,
    ) -> Result<Vec<Cell>, QueryError> {
        let mut seen = Seen::new();
        let mut frontier: Vec<Cell> = if base_first {
            self.neighbours(&path.base, Some(&[from]), way)?.into_iter().map(|(_, b)| b).collect()
        } else {
            vec![from]
        };
        frontier.retain(|c| seen.insert(*c));
        let direct = self.direct(&path.step, way);
        let mut reached = 0;
        while !frontier.is_empty() {
            frontier.sort_unstable();
            reached += frontier.len();
            self.budget.spend(frontier.len(), reached * 24)?;
            let mut next: Vec<Cell> = Vec::new();
            match direct {
                Some(d) => self.hop(d, &frontier, |_, b| {
                    if seen.insert(b) {
                        next.push(b);
                    }
                })?,
                None => {
                    let found = self.neighbours(&path.step, Some(&frontier), way)?;
                    next.extend(found.into_iter().map(|(_, b)| b).filter(|b| seen.insert(*b)));
                }
            }
            frontier = next;
        }
        let order = seen.sorted();
        if base_first {
            return Ok(order);
        }
        let mut ends: Vec<Cell> =
            self.neighbours(&path.base, Some(&order), way)?.into_iter().map(|(_, b)| b).collect();
        ends.sort_unstable();
        ends.dedup();
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_seen_are_a_set_however_they_are_held() {
        for stride in [1, 3, 1 << 20] {
            let mut seen = Seen::new();
            let mut all: Vec<Cell> = (0..5000).map(|i| 1_000_000 + i * stride).collect();
            all.extend([7, u64::MAX, 3 << 60]);
            for c in &all {
                assert!(seen.insert(*c), "{c}");
            }
            for c in &all {
                assert!(!seen.insert(*c), "{c}");
            }
            all.sort_unstable();
            assert_eq!(seen.bits.is_empty(), stride > 256);
            assert_eq!(seen.sorted(), all);
        }
    }
}
