//! Equality and order as queries see them.
//!
//! 1. Numbers compare by value whatever their types: `(= 1 1.0)`, `(= 1.0M 1.00M)`.
//!    The comparison is exact: the double `0.1` is a little more than `0.1M`.
//! 2. A reference compares with integers as its number.
//! 3. Vectors and lists are equal when their elements are.
//! 4. Values of kinds without a common order do not compare.

use annals_model::{Cell, Dict, Value, cell};
use num_bigint::BigInt;
use num_traits::FromPrimitive;
use std::cmp::Ordering;

/// Are they the same to `=`?
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Vector(x) | Value::List(x), Value::Vector(y) | Value::List(y)) => {
            x.len() == y.len() && x.iter().zip(y.iter()).all(|(x, y)| equal(x, y))
        }
        _ if is_numeric(a) && is_numeric(b) => numbers(a, b) == Some(Ordering::Equal),
        _ => a == b,
    }
}

/// How they compare, if they do.
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Long(a), Value::Long(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        _ if is_numeric(a) && is_numeric(b) => numbers(a, b),
        (Value::Vector(x), Value::Vector(y)) => {
            for (x, y) in x.iter().zip(y.iter()) {
                // A slot of a tuple may be nil, and nil sorts lowest.
                let order = match (x, y) {
                    (Value::Nil, _) | (_, Value::Nil) => x.cmp(y),
                    _ => compare(x, y)?,
                };
                if order != Ordering::Equal {
                    return Some(order);
                }
            }
            Some(x.len().cmp(&y.len()))
        }
        _ if std::mem::discriminant(a) == std::mem::discriminant(b) && *a != Value::Nil => Some(a.cmp(b)),
        _ => None,
    }
}

/// A total order that agrees with [`compare`] where that has an answer: for sorting.
/// Numbers stand together, whatever their types; of equal ones the type decides.
pub fn total_order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Vector(x), Value::Vector(y)) => {
            let differ = x.iter().zip(y.iter()).map(|(x, y)| total_order(x, y)).find(|o| o.is_ne());
            differ.unwrap_or_else(|| x.len().cmp(&y.len()))
        }
        _ => match (is_numeric(a), is_numeric(b)) {
            (true, true) => numbers(a, b).unwrap_or(Ordering::Equal).then_with(|| a.cmp(b)),
            // References sort among the numbers, before all other kinds.
            (true, false) => Value::Long(0).cmp(b),
            (false, true) => a.cmp(&Value::Long(0)),
            (false, false) => a.cmp(b),
        },
    }
}

/// [`equal`] of two cells of one dictionary, without decoding where words suffice.
pub fn cells_equal(a: Cell, b: Cell, dict: &Dict) -> bool {
    if a == b {
        return true;
    }
    let exact = |c| matches!(cell::tag(c), 0 | cell::TAG_INSTANT | cell::TAG_KEYWORD | cell::TAG_STRING);
    match (cell::tag(a), cell::tag(b)) {
        // Distinct cells of one inline type are distinct values.
        (x, y) if x == y && x < cell::TAG_WIDE => false,
        _ if exact(a) || exact(b) => false,
        _ => equal(&dict.decode(a), &dict.decode(b)),
    }
}

/// [`compare`] of two cells of one dictionary, without decoding where words suffice.
pub fn compare_cells(a: Cell, b: Cell, dict: &Dict) -> Option<Ordering> {
    match (cell::tag(a), cell::tag(b)) {
        (x, y) if x == y && (cell::TAG_LONG..=cell::TAG_DOUBLE).contains(&x) => Some(a.cmp(&b)),
        (cell::TAG_STRING | cell::TAG_KEYWORD, _) | (_, cell::TAG_STRING | cell::TAG_KEYWORD) => {
            match (dict.entry(a), dict.entry(b)) {
                (Some(a), Some(b)) => compare(a, b),
                _ => None,
            }
        }
        _ => compare(&dict.decode(a), &dict.decode(b)),
    }
}

fn is_numeric(v: &Value) -> bool {
    matches!(v, Value::Long(_) | Value::BigInt(_) | Value::Double(_) | Value::BigDec(_) | Value::Ref(_))
}

/// The order of two numbers.
fn numbers(a: &Value, b: &Value) -> Option<Ordering> {
    use Value::*;
    match (a, b) {
        (Ref(a), Ref(b)) => Some(a.cmp(b)),
        (Ref(e), other) => numbers(&Long(e.raw() as i64), other),
        (other, Ref(e)) => numbers(other, &Long(e.raw() as i64)),
        (Long(a), Long(b)) => Some(a.cmp(b)),
        (Double(a), Double(b)) => a.partial_cmp(b),
        (BigInt(a), BigInt(b)) => Some(a.cmp(b)),
        (BigDec(a), BigDec(b)) => Some(a.as_ref().cmp(b.as_ref())),
        (Long(a), BigInt(b)) => Some(num_bigint::BigInt::from(*a).cmp(b)),
        (Long(a), Double(b)) => integer_double(&num_bigint::BigInt::from(*a), *b),
        (BigInt(a), Double(b)) => integer_double(a, *b),
        (Long(a), BigDec(b)) => Some(bigdecimal::BigDecimal::from(*a).cmp(b)),
        (BigInt(a), BigDec(b)) => Some(bigdecimal::BigDecimal::from(a.as_ref().clone()).cmp(b)),
        (Double(a), BigDec(_)) if a.is_infinite() => a.partial_cmp(&0.0),
        (Double(a), BigDec(b)) => Some(bigdecimal::BigDecimal::from_f64(*a)?.cmp(b)),
        (Double(_) | BigInt(_) | BigDec(_), _) => numbers(b, a).map(Ordering::reverse),
        _ => None,
    }
}

/// An integer against a double, exactly.
fn integer_double(a: &BigInt, b: f64) -> Option<Ordering> {
    if b.is_infinite() {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = BigInt::from_f64(b.trunc())?;
    Some(a.cmp(&whole).then_with(|| 0.0f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal)))
}
