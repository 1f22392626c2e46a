//! When two answers are the same, by the rules of the case files.
//!
//! 1. Numbers compare by value across types, with a relative tolerance of 1e-9;
//!    a reference equals the number that users see of it.
//! 2. A set is unordered; inside a map (a pulled entity) vectors are bags.
//! 3. Elsewhere a vector is ordered: a tuple's slots, `(min n ?x)`, `(max n ?x)`.
//! 4. A list is as good as a vector.

use annals_model::Value;
use num_traits::ToPrimitive;

/// How the `:expect` of a case is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A set of tuples or of maps; duplicates in the answer are wrong.
    Set,
    /// A bag of values; duplicates in the answer are wrong.
    Coll,
    /// One value: scalar, tuple, map.
    One,
    /// A pulled tree: like one value, and an empty map is as good as nil.
    Pull,
}

impl Shape {
    /// The shape called `:rel`, `:coll`, `:tuple`, `:scalar`, `:maps`, `:map` or `:pull`.
    pub fn named(name: &str) -> Option<Shape> {
        Some(match name {
            "rel" | "maps" => Shape::Set,
            "coll" => Shape::Coll,
            "tuple" | "scalar" | "map" => Shape::One,
            "pull" => Shape::Pull,
            _ => return None,
        })
    }
}

/// Is `actual` what the case expects?
pub fn same(shape: Shape, expected: &Value, actual: &Value) -> bool {
    match shape {
        Shape::Set | Shape::Coll => match (items(expected), items(actual)) {
            (Some(e), Some(a)) => bags_match(&e, &a, false),
            _ => matches(expected, actual, false),
        },
        Shape::One => matches(expected, actual, false),
        Shape::Pull => (is_empty(expected) && is_empty(actual)) || matches(expected, actual, true),
    }
}

fn is_empty(v: &Value) -> bool {
    matches!(v, Value::Nil) || matches!(v, Value::Map(m) if m.is_empty())
}

fn items(v: &Value) -> Option<Vec<&Value>> {
    match v {
        Value::Vector(v) | Value::List(v) | Value::Set(v) => Some(v.iter().collect()),
        _ => None,
    }
}

/// The number in a value, if it is one.
fn number(v: &Value) -> Option<f64> {
    match v {
        Value::Long(n) => Some(*n as f64),
        Value::Double(d) => Some(*d),
        Value::BigInt(n) => n.to_f64(),
        Value::BigDec(d) => d.to_f64(),
        Value::Ref(e) => Some(e.raw() as f64),
        _ => None,
    }
}

fn matches(expected: &Value, actual: &Value, in_map: bool) -> bool {
    if expected == actual {
        return true;
    }
    if let (Some(a), Some(b)) = (number(expected), number(actual)) {
        return a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    }
    match (expected, actual) {
        (Value::Map(e), Value::Map(a)) => {
            e.len() == a.len()
                && e.iter()
                    .all(|(k, v)| a.iter().any(|(ak, av)| matches(k, ak, true) && matches(v, av, true)))
        }
        (Value::Set(_), _) | (_, Value::Set(_)) => match (items(expected), items(actual)) {
            (Some(e), Some(a)) => bags_match(&e, &a, in_map),
            _ => false,
        },
        (Value::Tagged(e), Value::Tagged(a)) => e.0 == a.0 && matches(&e.1, &a.1, in_map),
        _ => match (items(expected), items(actual)) {
            (Some(e), Some(a)) if in_map => bags_match(&e, &a, true),
            (Some(e), Some(a)) => e.len() == a.len() && e.iter().zip(&a).all(|(e, a)| matches(e, a, false)),
            _ => false,
        },
    }
}

/// One-to-one, in any order. Greedy is right because equality is as good as transitive.
fn bags_match(expected: &[&Value], actual: &[&Value], in_map: bool) -> bool {
    let mut left: Vec<&&Value> = actual.iter().collect();
    expected.len() == actual.len()
        && expected.iter().all(|e| match left.iter().position(|a| matches(e, a, in_map)) {
            Some(i) => {
                left.swap_remove(i);
                true
            }
            None => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_model::EntityId;

    fn v(items: &[i64]) -> Value {
        Value::vector(items.iter().map(|n| Value::Long(*n)))
    }

    #[test]
    fn numbers_compare_by_value_and_refs_as_their_number() {
        assert!(same(Shape::One, &Value::Long(30), &Value::Double(30.0)));
        assert!(same(Shape::One, &Value::Long(7), &Value::Ref(EntityId::from_raw(7))));
        assert!(!same(Shape::One, &Value::Long(7), &Value::Double(7.1)));
        assert!(!same(Shape::One, &Value::Long(7), &"7".into()));
    }

    #[test]
    fn order_matters_in_tuples_only() {
        assert!(!same(Shape::One, &v(&[1, 2]), &v(&[2, 1])));
        assert!(same(Shape::Coll, &v(&[1, 2]), &v(&[2, 1])));
        assert!(!same(Shape::Coll, &v(&[1, 2]), &v(&[2, 1, 1])));
        let pulled = |n: &[i64]| Value::map([(Value::keyword("a"), v(n))]);
        assert!(same(Shape::Pull, &pulled(&[1, 2]), &pulled(&[2, 1])));
        assert!(same(Shape::Pull, &Value::Nil, &Value::map([])));
    }

    #[test]
    fn a_duplicate_row_is_wrong() {
        let rows = |r: &[&[i64]]| Value::vector(r.iter().map(|r| v(r)));
        assert!(same(Shape::Set, &Value::set([v(&[1]), v(&[2])]), &rows(&[&[2], &[1]])));
        assert!(!same(Shape::Set, &Value::set([v(&[1])]), &rows(&[&[1], &[1]])));
    }
}
