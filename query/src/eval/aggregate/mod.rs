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
//!
//! Here: the table, and what an aggregate takes. What it has seen of a group (`group`), what
//! needs all values at once (`bag`), exact sums (`total`), folds that keep one value (`best`).

mod bag;
mod best;
mod group;
mod total;

use super::function::{FnError, Kinds};
use annals_model::{Cell, Dict, Value};
pub use bag::Last;
pub(crate) use best::Best;
pub use group::Group;
use std::{cmp::Ordering, fmt, ops::RangeInclusive, sync::Arc};
pub use total::Total;

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
    Shortest,
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
            "shortest",
            Shortest,
            0..=0,
            Kinds::COLL.or(Kinds::STRING).or(Kinds::BYTES),
            Kinds::COLL.or(Kinds::STRING).or(Kinds::BYTES),
            "?x",
            "the value with the fewest elements or characters, the least of those",
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
            (kind, n) => Group::Bag { cells: Vec::new(), kind: Last::new(kind.clone(), n, args.to_vec()) },
        }
    }

    /// The answers of `n` groups at once, given the group of each row, for the aggregate that
    /// looks at no value; none for the others.
    pub(crate) fn counts(&self, group_of: &[u32], n: usize) -> Option<Vec<Value>> {
        let Kind::Count = self.kind else { return None };
        let mut counts = vec![0i64; n];
        group_of.iter().for_each(|g| counts[*g as usize] += 1);
        Some(counts.into_iter().map(Value::Long).collect())
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
            ("shortest", "[]", "[[1 2 3] [9] [4 5] [8]]", "[8]"),
            ("shortest", "[]", "[\"ccc\" \"b\" \"aa\"]", "\"b\""),
            ("shortest", "[]", "[7]", "query/type"),
            ("shortest", "[2]", "[[1] [2]]", "query/arity"),
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
            ("median", "[]", "[4611686018427387904 -4611686018427387905]", "-0.5"),
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
