//! Generators: schemas, transactions and queries from a seed.
//!
//! 1. The same seed gives the same case on every machine and in every version
//!    of a library: the generator of numbers is our own.
//! 2. What is generated is EDN values, so that the text printer and both
//!    readers are on the path of every case.
//! 3. Small pools of values: joins must meet, duplicates and conflicts must happen.

pub mod data;
pub mod pull;
pub mod query;

use annals_model::{Value, ValueType};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A generator of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Starts at a seed.
    pub fn new(seed: u64) -> Rng {
        let mut rng = Rng(seed ^ 0x9e37_79b9_7f4a_7c15);
        rng.draw();
        rng
    }
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.draw() % n.max(1) as u64) as usize
    }
    /// A number from `from` to `to`, both included.
    pub fn within(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as usize) as i64
    }
    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
    /// One of the items.
    pub fn pick<'a, X>(&mut self, items: &'a [X]) -> &'a X {
        &items[self.below(items.len())]
    }
    /// One of the items, if there is any.
    pub fn some<'a, X>(&mut self, items: &'a [X]) -> Option<&'a X> {
        if items.is_empty() { None } else { Some(self.pick(items)) }
    }
    /// Puts the items in any order.
    pub fn shuffle<X>(&mut self, items: &mut [X]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// How many cases a test runs: `ANNALS_CASES_COUNT`, else what CI can afford.
pub fn count(in_ci: u64) -> u64 {
    std::env::var("ANNALS_CASES_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(in_ci)
}

/// The first seed of a run: `ANNALS_SEED`, else 1.
pub fn first_seed() -> u64 {
    std::env::var("ANNALS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Runs a case for every seed of the run and fails at the end, naming each seed
/// that failed: one bug must not hide the next.
pub fn each_seed(cases: u64, case: impl Fn(u64)) {
    let first = first_seed();
    // A case shares nothing with the next but counters, so going on after a panic is safe.
    let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| case(*seed))).is_err();
    let failed: Vec<u64> = (first..first + cases).filter(fails).collect();
    println!("seeds {first} to {}: {} failed", first + cases - 1, failed.len());
    assert!(failed.is_empty(), "failed with ANNALS_SEED of {failed:?} (ANNALS_CASES_COUNT=1 runs one alone)");
}

/// A value of a type, from a small pool that has the awkward ones in it.
/// References are not values of their own: see [`data`].
pub fn value(rng: &mut Rng, of: ValueType) -> Value {
    match of {
        ValueType::Long => match rng.below(40) {
            0 => Value::Long(i64::MAX),
            1 => Value::Long(i64::MIN),
            2 => Value::Long(-1),
            _ => Value::Long(rng.within(0, 4)),
        },
        ValueType::Double => Value::double(*rng.pick(&[-1.5, 0.0, 0.1, 2.5, 3.0, 1e300])).expect("not NaN"),
        ValueType::String => match rng.below(30) {
            0 => Value::string(""),
            1 => Value::string("x".repeat(300) + *rng.pick(&["a", "b"])),
            _ => Value::string(*rng.pick(&["ash", "bay", "elm", "fir"])),
        },
        ValueType::Keyword => Value::keyword(["t/p", "t/q", "t/r", "u/p", "p"][rng.below(5)]),
        ValueType::Boolean => Value::Bool(rng.chance(50)),
        ValueType::Instant => Value::Instant(annals_model::Instant(*rng.pick(&[
            -86_400_000_000,
            0,
            1_767_225_600_000_000,
            1_767_225_600_000_001,
        ]))),
        _ => Value::Long(rng.within(0, 6)),
    }
}

/// Types that the generators use.
pub const TYPES: [ValueType; 6] = [
    ValueType::Long,
    ValueType::Double,
    ValueType::String,
    ValueType::Keyword,
    ValueType::Boolean,
    ValueType::Instant,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_case() {
        let numbers = |seed| {
            let mut rng = Rng::new(seed);
            (0..4).map(|_| rng.draw()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}
