//! Aggregates that need all values of a group at once.

use super::total::{Exact, Total};
use super::{Best, Kind};
use crate::eval::function::{FnError, total_order};
use annals_model::{Cell, Dict, Value, cell};
use std::{
    cmp::Ordering,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Most values that `(rand n ?x)` makes.
const MAX_RAND: usize = 1_000_000;

/// What to do with a full bag.
#[derive(Clone)]
pub struct Last(Kind, Option<usize>, Vec<Value>);

impl Last {
    pub(super) fn new(kind: Kind, n: Option<usize>, args: Vec<Value>) -> Last {
        Last(kind, n, args)
    }
}

impl Last {
    pub(super) fn of(self, mut cells: Vec<Cell>, dict: &Dict) -> Result<Value, FnError> {
        let Last(kind, n, args) = self;
        let decode = |cells: &[Cell]| cells.iter().map(|c| dict.decode(*c)).collect::<Vec<Value>>();
        let distinct = |cells: &mut Vec<Cell>| {
            cells.sort_unstable();
            cells.dedup();
        };
        match kind {
            Kind::CountDistinct => {
                distinct(&mut cells);
                Ok(Value::Long(cells.len() as i64))
            }
            Kind::Distinct => {
                distinct(&mut cells);
                Ok(Value::set(decode(&cells)))
            }
            Kind::Min | Kind::Max => {
                let n = n.unwrap_or(1).min(cells.len());
                let order = |a: &Cell, b: &Cell| match kind {
                    Kind::Min => order_cells(*a, *b, dict),
                    _ => order_cells(*b, *a, dict),
                };
                if n > 0 && n < cells.len() {
                    cells.select_nth_unstable_by(n - 1, order);
                }
                cells.truncate(n);
                cells.sort_by(order);
                Ok(Value::vector(decode(&cells)))
            }
            Kind::Shortest => Ok(Best::Shortest.among(&cells, dict)?.map_or(Value::Nil, |c| dict.decode(c))),
            Kind::Median => median(cells, dict),
            Kind::Variance | Kind::Stddev => {
                let variance = variance(&cells, dict)?;
                let d = if matches!(kind, Kind::Stddev) { variance.sqrt() } else { variance };
                Value::double(d).ok_or(FnError::NotANumber)
            }
            Kind::Sample => {
                distinct(&mut cells);
                let mut values = decode(&cells);
                values.sort();
                let mut random = Random::seeded(&values);
                let n = n.unwrap_or(1).min(values.len());
                for i in 0..n {
                    let rest = values.len() - i;
                    values.swap(i, i + random.below(rest));
                }
                values.truncate(n);
                Ok(Value::vector(values))
            }
            Kind::Rand => {
                let mut values = decode(&cells);
                values.sort();
                let mut random = Random::seeded(&values);
                match n {
                    None => Ok(values.get(random.below(values.len())).cloned().unwrap_or(Value::Nil)),
                    Some(n) if n > MAX_RAND => Err(FnError::Range { arg: 0, expected: "at most a million" }),
                    Some(_) if values.is_empty() => Ok(Value::vector([])),
                    Some(n) => Ok(Value::vector((0..n).map(|_| values[random.below(values.len())].clone()))),
                }
            }
            Kind::Registered(fold) => {
                let mut values = decode(&cells);
                values.sort();
                fold(&args, &values)
            }
            Kind::Count | Kind::Sum | Kind::Avg => unreachable!("folded value by value"),
        }
    }
}

fn median(mut cells: Vec<Cell>, dict: &Dict) -> Result<Value, FnError> {
    cells.sort_unstable_by(|a, b| order_cells(*a, *b, dict));
    let Some(&upper) = cells.get(cells.len() / 2) else { return Ok(Value::Nil) };
    if cells.len() % 2 == 1 {
        return Ok(dict.decode(upper));
    }
    let lower = cells[cells.len() / 2 - 1];
    let mut total = Total::default();
    total.push(lower, dict)?;
    total.push(upper, dict)?;
    mean(total.double(), 2)
}

/// Population variance, in two passes.
fn variance(cells: &[Cell], dict: &Dict) -> Result<f64, FnError> {
    let mut total = Total::default();
    cells.iter().try_for_each(|c| total.push(*c, dict))?;
    let n = cells.len() as f64;
    let mean = total.double() / n;
    let mut squares = Exact::default();
    for c in cells {
        let mut one = Total::default();
        one.push(*c, dict)?;
        let d = one.double() - mean;
        squares.add(d * d);
    }
    Ok(squares.value() / n)
}

pub(super) fn mean(total: f64, n: u64) -> Result<Value, FnError> {
    Value::double(total / n as f64).ok_or(FnError::NotANumber)
}

pub(super) fn order_cells(a: Cell, b: Cell, dict: &Dict) -> Ordering {
    let (x, y) = (cell::tag(a), cell::tag(b));
    if x == y && (cell::TAG_LONG..=cell::TAG_DOUBLE).contains(&x) {
        return a.cmp(&b);
    }
    match (dict.entry(a), dict.entry(b)) {
        (Some(a), Some(b)) => total_order(a, b),
        _ => total_order(&dict.decode(a), &dict.decode(b)),
    }
}

/// SplitMix64, seeded by values: the same choice for the same rows.
struct Random(u64);

impl Random {
    fn seeded(values: &[Value]) -> Random {
        let mut h = DefaultHasher::new();
        values.hash(&mut h);
        Random(h.finish())
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number below `n`, or 0.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}
