//! Sets of transaction times as sorted disjoint half-open intervals.
//!
//! 1. Intervals are not empty, ascend, and neither touch nor overlap: a set has
//!    one representation, so equality of sets is equality of vectors.

use annals_model::T;

/// A set of times.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct Spans(Vec<(T, T)>);

impl Spans {
    /// `[start, end)`; empty when `start >= end`.
    pub fn one(start: T, end: T) -> Spans {
        if start < end { Spans(vec![(start, end)]) } else { Spans::default() }
    }
    /// Is no time in it?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The intervals in order.
    pub fn iter(&self) -> impl Iterator<Item = (T, T)> + '_ {
        self.0.iter().copied()
    }
    /// Is `t` in it?
    pub fn contains(&self, t: T) -> bool {
        let i = self.0.partition_point(|(start, _)| *start <= t);
        i > 0 && t < self.0[i - 1].1
    }

    /// The times in both.
    pub fn and(&self, other: &Spans) -> Spans {
        let (mut i, mut j, mut out) = (0, 0, Vec::new());
        while let (Some(a), Some(b)) = (self.0.get(i), other.0.get(j)) {
            let (start, end) = (a.0.max(b.0), a.1.min(b.1));
            if start < end {
                out.push((start, end));
            }
            if a.1 < b.1 { i += 1 } else { j += 1 }
        }
        Spans(out)
    }

    /// The times in either.
    pub fn or(&self, other: &Spans) -> Spans {
        let mut all: Vec<(T, T)> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        let mut out: Vec<(T, T)> = Vec::with_capacity(all.len());
        for (start, end) in all {
            match out.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => out.push((start, end)),
            }
        }
        Spans(out)
    }

    /// The times in this and not in the other.
    pub fn minus(&self, other: &Spans) -> Spans {
        let mut out = Vec::new();
        let mut j = 0;
        for &(mut start, end) in &self.0 {
            while other.0.get(j).is_some_and(|b| b.1 <= start) {
                j += 1;
            }
            let mut k = j;
            while let Some(b) = other.0.get(k).filter(|b| b.0 < end) {
                if start < b.0 {
                    out.push((start, b.0));
                }
                start = start.max(b.1);
                k += 1;
            }
            if start < end {
                out.push((start, end));
            }
        }
        Spans(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(bits: u32) -> Spans {
        (0..32)
            .filter(|i| bits >> i & 1 == 1)
            .fold(Spans::default(), |s, i| s.or(&Spans::one(T(i), T(i + 1))))
    }

    proptest! {
        /// Interval sets behave as sets of single times, kept as bits.
        #[test]
        fn set_operations_agree_with_bits(a: u32, b: u32) {
            prop_assert_eq!(of(a).and(&of(b)), of(a & b));
            prop_assert_eq!(of(a).or(&of(b)), of(a | b));
            prop_assert_eq!(of(a).minus(&of(b)), of(a & !b));
            for i in 0..32 {
                prop_assert_eq!(of(a).contains(T(i)), a >> i & 1 == 1);
            }
        }
    }
}
