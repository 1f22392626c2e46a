//! Aggregates: many values of one group to one value.
//!
//! 1. The values come as a bag: duplicates that `:with` keeps are counted. Their
//!    order never matters: sums of doubles are exact before they are rounded once,
//!    and integer sums overflow only if the total does.
//! 2. `avg`, `variance` and `stddev` are doubles; `sum` is of the latest type among
//!    its values (long, bigint, decimal, double).
//! 3. `min` and `max` take anything that has an order; the order is total, so they
//!    never fail.
//! 4. `rand` and `sample` choose pseudo-randomly but always alike for equal values:
//!    a query has one answer.
//! 5. A group is never empty: no rows, no groups.

use super::function::{FnError, Kinds, total_order};
use annals_model::{Cell, Dict, Value, cell};
use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use num_traits::{FromPrimitive, ToPrimitive, Zero};
use std::{
    cmp::Ordering,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
    sync::Arc,
};

/// Most values that `(rand n ?x)` makes.
const MAX_RAND: usize = 1_000_000;

/// A registered aggregate: constant arguments and the bag of a group.
pub type Fold = Arc<dyn Fn(&[Value], &[Value]) -> Result<Value, FnError> + Send + Sync>;

/// An aggregate of `:find`.
#[derive(Clone)]
pub struct Aggregate {
    /// The name in queries.
    pub name: Arc<str>,
    /// How many constants may stand before the variable.
    pub args: RangeInclusive<usize>,
    /// What the aggregated values may be.
    pub takes: Kinds,
    /// What it answers.
    pub result: Kinds,
    /// Its arguments by name, for `:help`.
    pub usage: Arc<str>,
    /// One sentence on what it does.
    pub doc: Arc<str>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    CountDistinct,
    Distinct,
    Median,
    Variance,
    Stddev,
    Sample,
    Rand,
    Registered(Fold),
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {})", self.name, self.usage)
    }
}

/// The standard aggregates, in the order the manual shows them.
pub(super) fn standard() -> impl Iterator<Item = Aggregate> {
    use Kind::*;
    const ANY: Kinds = Kinds::ANY;
    const NUM: Kinds = Kinds::NUMBER;
    let row = |name: &str, kind, args, takes, result, usage: &str, doc: &str| Aggregate {
        name: name.into(),
        args,
        takes,
        result,
        usage: usage.into(),
        doc: doc.into(),
        kind,
    };
    [
        row("count", Count, 0..=0, ANY, Kinds::INTEGER, "?x", "how many rows"),
        row("count-distinct", CountDistinct, 0..=0, ANY, Kinds::INTEGER, "?x", "how many different values"),
        row("distinct", Distinct, 0..=0, ANY, Kinds::COLL, "?x", "the set of values"),
        row("sum", Sum, 0..=0, NUM, NUM, "?x", "the sum; integer overflow is an error"),
        row("avg", Avg, 0..=0, NUM, NUM, "?x", "the mean, a double"),
        row("min", Min, 0..=1, ANY, ANY, "n? ?x", "the least value, or a vector of the n least, least first"),
        row(
            "max",
            Max,
            0..=1,
            ANY,
            ANY,
            "n? ?x",
            "the greatest value, or a vector of the n greatest, greatest first",
        ),
        row(
            "median",
            Median,
            0..=0,
            ANY,
            ANY,
            "?x",
            "the middle value; of an even number the mean of the middle two",
        ),
        row("variance", Variance, 0..=0, NUM, NUM, "?x", "the variance of the whole population, a double"),
        row(
            "stddev",
            Stddev,
            0..=0,
            NUM,
            NUM,
            "?x",
            "the standard deviation of the whole population, a double",
        ),
        row(
            "sample",
            Sample,
            1..=1,
            ANY,
            Kinds::COLL,
            "n ?x",
            "up to n different values, chosen at random, always alike",
        ),
        row(
            "rand",
            Rand,
            0..=1,
            ANY,
            ANY,
            "n? ?x",
            "a value chosen at random, or n of them with repeats, always alike",
        ),
    ]
    .into_iter()
}

impl Aggregate {
    /// An aggregate to be registered; narrow it by its public fields.
    pub fn new(
        name: &str,
        args: RangeInclusive<usize>,
        fold: impl Fn(&[Value], &[Value]) -> Result<Value, FnError> + Send + Sync + 'static,
    ) -> Aggregate {
        Aggregate {
            name: name.into(),
            args,
            takes: Kinds::ANY,
            result: Kinds::ANY,
            usage: "?x".into(),
            doc: "".into(),
            kind: Kind::Registered(Arc::new(fold)),
        }
    }

    /// Complains when the constants do not fit.
    pub fn check_args(&self, args: &[Value]) -> Result<(), FnError> {
        if !self.args.contains(&args.len()) {
            let (min, max) = (self.args.start() + 1, self.args.end() + 1);
            return Err(FnError::Arity { got: args.len() + 1, min, max: Some(max) });
        }
        if matches!(self.kind, Kind::Registered(_)) {
            return Ok(());
        }
        match args.first() {
            None | Some(Value::Long(0..)) => Ok(()),
            Some(Value::Long(_)) => Err(FnError::Range { arg: 0, expected: "0 or more" }),
            Some(v) => Err(FnError::Type { arg: 0, expected: "integer", found: v.kind() }),
        }
    }

    /// A group without values so far. `args` have passed [`Aggregate::check_args`].
    pub fn start(&self, args: &[Value]) -> Group {
        let n = args.first().map(|n| match n {
            Value::Long(n) => usize::try_from(*n).unwrap_or(0),
            _ => 0,
        });
        match (&self.kind, n) {
            (Kind::Count, _) => Group::Count(0),
            (Kind::Sum, _) => Group::Sum(Total::default()),
            (Kind::Avg, _) => Group::Avg(Total::default(), 0),
            (Kind::Min, None) => Group::Best(None, Ordering::Less),
            (Kind::Max, None) => Group::Best(None, Ordering::Greater),
            (kind, n) => Group::Bag { cells: Vec::new(), kind: Last(kind.clone(), n, args.to_vec()) },
        }
    }

    /// The answer for a bag of cells of one dictionary.
    pub fn of_cells(&self, args: &[Value], cells: &[Cell], dict: &Dict) -> Result<Value, FnError> {
        let mut group = self.start(args);
        group.push_all(cells, dict)?;
        group.finish(dict)
    }

    /// The answer for a bag of values.
    pub fn of_values(&self, args: &[Value], values: &[Value]) -> Result<Value, FnError> {
        let dict = Dict::default();
        let cells: Vec<Cell> = values.iter().map(|v| dict.encode(v)).collect();
        self.of_cells(args, &cells, &dict)
    }
}

/// What has been seen of a group.
#[derive(Clone)]
pub enum Group {
    /// `count`.
    Count(u64),
    /// `sum`.
    Sum(Total),
    /// `avg`: the total and how many.
    Avg(Total, u64),
    /// `min`, `max`: the cell no other beats, and how one beats another.
    Best(Option<Cell>, Ordering),
    /// Everything that needs all values at once.
    Bag {
        /// The values seen.
        cells: Vec<Cell>,
        /// What to do with them.
        kind: Last,
    },
}

/// What to do with a full bag.
#[derive(Clone)]
pub struct Last(Kind, Option<usize>, Vec<Value>);

impl Group {
    /// Takes one more value.
    pub fn push(&mut self, c: Cell, dict: &Dict) -> Result<(), FnError> {
        match self {
            Group::Count(n) => *n += 1,
            Group::Sum(total) => total.push(c, dict)?,
            Group::Avg(total, n) => {
                total.push(c, dict)?;
                *n += 1;
            }
            Group::Best(best, beats) => match best {
                Some(b) if order_cells(c, *b, dict) != *beats => {}
                _ => *best = Some(c),
            },
            Group::Bag { cells, .. } => cells.push(c),
        }
        Ok(())
    }

    /// Takes a run of values.
    pub fn push_all(&mut self, cells: &[Cell], dict: &Dict) -> Result<(), FnError> {
        match self {
            Group::Count(n) => *n += cells.len() as u64,
            Group::Bag { cells: bag, .. } => bag.extend_from_slice(cells),
            Group::Best(best, beats) => {
                // Cells of one inline type order as words do.
                let one = cells.first().map(|c| cell::tag(*c));
                let inline = one.is_some_and(|t| (cell::TAG_LONG..=cell::TAG_DOUBLE).contains(&t));
                if inline && cells.iter().all(|c| Some(cell::tag(*c)) == one) {
                    let beats = *beats;
                    let found = if beats == Ordering::Less { cells.iter().min() } else { cells.iter().max() };
                    if let Some(c) = found {
                        self.push(*c, dict)?;
                    }
                } else {
                    for c in cells {
                        match best {
                            Some(b) if order_cells(*c, *b, dict) != *beats => {}
                            _ => *best = Some(*c),
                        }
                    }
                }
            }
            Group::Sum(total) => cells.iter().try_for_each(|c| total.push(*c, dict))?,
            Group::Avg(total, n) => {
                cells.iter().try_for_each(|c| total.push(*c, dict))?;
                *n += cells.len() as u64;
            }
        }
        Ok(())
    }

    /// Bytes held beyond its own size, for budgets.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Group::Bag { cells, .. } => cells.capacity() * size_of::<Cell>(),
            _ => 0,
        }
    }

    /// The answer.
    pub fn finish(self, dict: &Dict) -> Result<Value, FnError> {
        match self {
            Group::Count(n) => Ok(Value::Long(i64::try_from(n).map_err(|_| FnError::Overflow("long"))?)),
            Group::Sum(total) => total.value(),
            Group::Avg(total, n) => mean(total.double(), n),
            Group::Best(best, _) => Ok(best.map_or(Value::Nil, |c| dict.decode(c))),
            Group::Bag { cells, kind } => kind.of(cells, dict),
        }
    }
}

fn mean(total: f64, n: u64) -> Result<Value, FnError> {
    Value::double(total / n as f64).ok_or(FnError::NotANumber)
}

fn order_cells(a: Cell, b: Cell, dict: &Dict) -> Ordering {
    let (x, y) = (cell::tag(a), cell::tag(b));
    if x == y && (cell::TAG_LONG..=cell::TAG_DOUBLE).contains(&x) {
        return a.cmp(&b);
    }
    match (dict.entry(a), dict.entry(b)) {
        (Some(a), Some(b)) => total_order(a, b),
        _ => total_order(&dict.decode(a), &dict.decode(b)),
    }
}

impl Last {
    fn of(self, mut cells: Vec<Cell>, dict: &Dict) -> Result<Value, FnError> {
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

/// A sum of numbers of any type.
#[derive(Clone, Default, Debug)]
pub struct Total {
    /// Longs.
    longs: i128,
    /// Doubles that are multiples of 2^-20 and not too large, in units of 2^-20.
    fixed: i128,
    /// Were there doubles?
    doubles: bool,
    /// Everything else.
    wide: Option<Box<Wide>>,
}

#[derive(Clone, Default, Debug)]
struct Wide {
    bigint: Option<BigInt>,
    decimal: Option<BigDecimal>,
    exact: Exact,
}

/// 2^20.
const UNIT: f64 = 1_048_576.0;

impl Total {
    /// Adds a cell's number.
    pub fn push(&mut self, c: Cell, dict: &Dict) -> Result<(), FnError> {
        if let Some(n) = cell::as_long(c) {
            self.longs += i128::from(n);
            return Ok(());
        }
        if let Some(d) = cell::as_double(c) {
            self.double_in(d);
            return Ok(());
        }
        match dict.decode(c) {
            Value::Long(n) => self.longs += i128::from(n),
            Value::Double(d) => self.double_in(d),
            Value::BigInt(n) => *self.wide().bigint.get_or_insert_with(BigInt::zero) += n.as_ref(),
            Value::BigDec(d) => {
                let sum = self.wide().decimal.get_or_insert_with(BigDecimal::zero);
                *sum += d.as_ref();
            }
            v => return Err(FnError::Type { arg: 0, expected: "number", found: v.kind() }),
        }
        Ok(())
    }

    fn wide(&mut self) -> &mut Wide {
        self.wide.get_or_insert_with(Box::default)
    }

    fn double_in(&mut self, d: f64) {
        self.doubles = true;
        let units = d * UNIT;
        if units.abs() < 9.0e15 && units.trunc() == units {
            self.fixed += i128::from(units as i64);
        } else {
            self.wide().exact.add(d);
        }
    }

    /// The sum as the nearest double.
    fn double(&self) -> f64 {
        let mut exact = self.wide.as_ref().map(|w| w.exact.clone()).unwrap_or_default();
        exact.add_integer(self.fixed, 1.0 / UNIT);
        exact.add_integer(self.longs, 1.0);
        if let Some(w) = &self.wide {
            exact.add(w.bigint.as_ref().and_then(ToPrimitive::to_f64).unwrap_or(0.0));
            exact.add(w.decimal.as_ref().and_then(ToPrimitive::to_f64).unwrap_or(0.0));
        }
        exact.value()
    }

    /// The sum in the latest type among what was added.
    fn value(&self) -> Result<Value, FnError> {
        if self.doubles {
            return Value::double(self.double()).ok_or(FnError::NotANumber);
        }
        let wide = self.wide.as_deref();
        let (bigint, decimal) = (wide.and_then(|w| w.bigint.clone()), wide.and_then(|w| w.decimal.clone()));
        let integers = BigInt::from(self.longs) + bigint.clone().unwrap_or_default();
        Ok(match (decimal, bigint) {
            (Some(d), _) if integers.is_zero() => Value::BigDec(Arc::new(d)),
            (Some(d), _) => Value::BigDec(Arc::new(d + BigDecimal::from(integers))),
            (None, Some(_)) => Value::BigInt(Arc::new(integers)),
            (None, None) => Value::Long(i64::try_from(self.longs).map_err(|_| FnError::Overflow("long"))?),
        })
    }
}

/// A sum of doubles without rounding errors (Shewchuk 1997): parts that do not
/// overlap, smallest first, whose sum is exact.
#[derive(Clone, Default, Debug)]
struct Exact {
    parts: Vec<f64>,
    /// Sum of what is infinite or has become so.
    infinite: f64,
}

impl Exact {
    fn add(&mut self, mut x: f64) {
        if !x.is_finite() {
            self.infinite += x;
            return;
        }
        let mut kept = 0;
        for i in 0..self.parts.len() {
            let mut y = self.parts[i];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            if !high.is_finite() {
                self.infinite += high;
                self.parts.clear();
                return;
            }
            let low = y - (high - x);
            if low != 0.0 {
                self.parts[kept] = low;
                kept += 1;
            }
            x = high;
        }
        self.parts.truncate(kept);
        self.parts.push(x);
    }

    /// Adds `n * scale`; `scale` is a power of two.
    fn add_integer(&mut self, n: i128, scale: f64) {
        const HALF: i128 = 1 << 52;
        // Digits to the base 2^52 are doubles exactly.
        let (mut rest, mut weight) = (n, scale);
        while rest != 0 {
            if let Some(digit) = f64::from_i128(rest % HALF) {
                self.add(digit * weight);
            }
            rest /= HALF;
            weight *= HALF as f64;
        }
    }

    /// The sum, rounded once.
    fn value(&self) -> f64 {
        if self.infinite != 0.0 {
            return self.infinite;
        }
        let mut parts = self.parts.iter().rev().copied();
        let Some(mut sum) = parts.next() else { return 0.0 };
        let mut rest = 0.0;
        for part in parts.by_ref() {
            let high = sum + part;
            rest = part - (high - sum);
            sum = high;
            if rest != 0.0 {
                break;
            }
        }
        // A tie was rounded to even; the next part says which way it should have gone.
        if let Some(next) = parts.next()
            && ((rest < 0.0 && next < 0.0) || (rest > 0.0 && next > 0.0))
        {
            let doubled = rest * 2.0;
            let corrected = sum + doubled;
            if corrected - sum == doubled {
                sum = corrected;
            }
        }
        sum
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

#[cfg(test)]
mod tests {
    use super::super::function::Library;
    use super::*;
    use crate::edn::{print, read_value};

    fn fold(name: &str, args: &str, values: &str) -> String {
        let list = |text: &str| match read_value(text).unwrap() {
            Value::Vector(v) => v.to_vec(),
            v => panic!("{v:?}"),
        };
        let a = Library::standard().aggregate(name).unwrap();
        let args = list(args);
        match a.check_args(&args).and_then(|()| a.of_values(&args, &list(values))) {
            Ok(v) => print(&v),
            Err(e) => e.code().to_owned(),
        }
    }

    #[test]
    fn every_aggregate() {
        for (name, args, values, expected) in [
            ("count", "[]", "[1 1 2]", "3"),
            ("count-distinct", "[]", "[1 1 2 \"a\" \"a\" 1.0]", "4"),
            ("distinct", "[]", "[:b :a :b]", "#{:a :b}"),
            ("sum", "[]", "[3 1 1 1]", "6"),
            ("sum", "[]", "[1 2N]", "3N"),
            ("sum", "[]", "[1 0.50M 2]", "3.50M"),
            ("sum", "[]", "[1 0.5M 0.25]", "1.75"),
            ("sum", "[]", "[0.1 0.2 0.3]", "0.6"),
            ("sum", "[]", "[9223372036854775807 1]", "query/overflow"),
            ("sum", "[]", "[9223372036854775807 1 -1]", "9223372036854775807"),
            ("sum", "[]", "[1 \"a\"]", "query/type"),
            ("sum", "[]", "[##Inf ##-Inf]", "query/function"),
            ("avg", "[]", "[10 15 20 35 75]", "31.0"),
            ("avg", "[]", "[1 2]", "1.5"),
            ("avg", "[]", "[1.0M 2N]", "1.5"),
            ("min", "[]", "[3 1.5 2]", "1.5"),
            ("min", "[]", "[\"b\" \"a\"]", "\"a\""),
            ("max", "[]", "[:a/z :b/a]", ":b/a"),
            ("max", "[]", "[1 \"a\" nil]", "\"a\""),
            ("min", "[2]", "[5 3 3 9]", "[3 3]"),
            ("max", "[2]", "[19 67 52]", "[67 52]"),
            ("max", "[9]", "[1 2]", "[2 1]"),
            ("max", "[0]", "[1 2]", "[]"),
            ("max", "[-1]", "[1 2]", "query/function"),
            ("max", "[\"2\"]", "[1 2]", "query/type"),
            ("sum", "[1]", "[1 2]", "query/arity"),
            ("sample", "[]", "[1 2]", "query/arity"),
            ("median", "[]", "[9 1 5 7 3]", "5"),
            ("median", "[]", "[4 1 10 2]", "3.0"),
            ("median", "[]", "[\"a\" \"c\" \"b\"]", "\"b\""),
            ("median", "[]", "[\"a\" \"b\"]", "query/type"),
            ("variance", "[]", "[10 15 20 35 75]", "554.0"),
            ("stddev", "[]", "[7]", "0.0"),
        ] {
            assert_eq!(fold(name, args, values), expected, "({name} {args} {values})");
        }
    }

    #[test]
    fn the_order_of_rows_does_not_change_a_sum() {
        let mut values: Vec<Value> = (0..500)
            .map(|i| Value::Double((f64::from(i) * 0.1).exp() * if i % 3 == 0 { -1.0 } else { 1.0 }))
            .chain([Value::Long(3), Value::Double(0.25), Value::Double(1e-300)])
            .collect();
        for name in ["sum", "avg", "variance", "stddev", "median"] {
            let a = Library::standard().aggregate(name).unwrap();
            let first = a.of_values(&[], &values).unwrap();
            for i in 0..20 {
                values.rotate_left(17 * i + 1);
                values.swap(0, 100 + i);
                assert_eq!(a.of_values(&[], &values).unwrap(), first, "{name}");
            }
        }
    }

    #[test]
    fn random_choices_are_members_and_repeatable() {
        let once = fold("sample", "[3]", "[1 2 3 4 5 5 5]");
        assert_eq!(once, fold("sample", "[3]", "[5 4 3 5 2 1 5]"));
        let Value::Vector(v) = read_value(&once).unwrap() else { panic!() };
        assert_eq!(Value::set(v.to_vec()), Value::set(v.iter().cloned()));
        assert_eq!(v.len(), 3);
        assert_eq!(fold("sample", "[9]", "[1 1]"), "[1]");
        let Value::Vector(v) = read_value(&fold("rand", "[5]", "[7]")).unwrap() else { panic!() };
        assert_eq!(v.len(), 5);
        assert_eq!(fold("rand", "[]", "[7 7]"), "7");
        assert_eq!(fold("rand", "[1000001]", "[7]"), "query/function");
    }

    #[test]
    fn groups_by_run_and_by_value_agree() {
        let dict = Dict::default();
        let cells: Vec<Cell> = [5i64, -3, 9, 9, 0].iter().map(|n| dict.encode(&Value::Long(*n))).collect();
        for a in Library::standard().aggregates() {
            let args = if *a.args.start() == 1 { vec![Value::Long(2)] } else { vec![] };
            let mut one = a.start(&args);
            cells.iter().for_each(|c| one.push(*c, &dict).unwrap());
            assert_eq!(one.finish(&dict), a.of_cells(&args, &cells, &dict), "{}", a.name);
        }
    }

    #[test]
    fn registered_aggregates_see_the_bag() {
        let mut lib = Library::standard().as_ref().clone();
        lib.register_aggregate(Aggregate::new("span", 0..=0, |_, values| {
            match (values.first(), values.last()) {
                (Some(Value::Long(a)), Some(Value::Long(b))) => Ok(Value::Long(b - a)),
                _ => Err(FnError::User("span takes longs".into())),
            }
        }));
        let span = lib.aggregate("span").unwrap();
        assert_eq!(span.of_values(&[], &[Value::Long(9), Value::Long(2)]), Ok(Value::Long(7)));
    }
}
