//! Standard functions that run on cells, without making values of them.
//!
//! 1. What is none here (another kind of value, an overflow, a division by zero) is for the function itself, which
//!    has the whole meaning and the errors.

use super::function;
use annals_model::{Cell, Dict, cell};
use std::cmp::Ordering;

/// A comparison that runs on cells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Comparison {
    Equal(bool),
    Order(fn(Ordering) -> bool),
}

impl Comparison {
    /// Does it hold between two cells? Values without an order between them are in none.
    #[inline]
    pub(crate) fn holds(self, a: Cell, b: Cell, dict: &Dict) -> bool {
        match self {
            Comparison::Equal(wanted) => (a == b || function::cells_equal(a, b, dict)) == wanted,
            Comparison::Order(test) => {
                let tag = cell::tag(a);
                if tag == cell::tag(b) && (cell::TAG_LONG..=cell::TAG_DOUBLE).contains(&tag) {
                    test(a.cmp(&b))
                } else {
                    function::compare_cells(a, b, dict).is_some_and(test)
                }
            }
        }
    }
}

/// The comparison of two values that a standard name means.
pub(crate) fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "=" | "==" => Comparison::Equal(true),
        "!=" | "not=" => Comparison::Equal(false),
        "<" => Comparison::Order(Ordering::is_lt),
        "<=" => Comparison::Order(Ordering::is_le),
        ">" => Comparison::Order(Ordering::is_gt),
        ">=" => Comparison::Order(Ordering::is_ge),
        _ => return None,
    })
}

/// What a standard name makes of two longs.
pub(crate) fn of_two_longs(name: &str) -> Option<fn(i64, i64) -> Option<i64>> {
    Some(match name {
        "+" => i64::checked_add,
        "-" => i64::checked_sub,
        "*" => i64::checked_mul,
        "quot" => i64::checked_div,
        "rem" => i64::checked_rem,
        _ => return None,
    })
}

/// What a standard name makes of one value.
pub(crate) fn of_one(name: &str) -> Option<fn(Cell) -> Option<Cell>> {
    Some(match name {
        "long" => |c| match cell::as_ref(c) {
            Some(e) => i64::try_from(e.raw()).ok().and_then(cell::of_long),
            None => cell::as_long(c).map(|_| c),
        },
        "inc" => |c| cell::as_long(c)?.checked_add(1).and_then(cell::of_long),
        "dec" => |c| cell::as_long(c)?.checked_sub(1).and_then(cell::of_long),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_model::{EntityId, Value};

    #[test]
    fn what_is_quick_is_what_the_function_says() {
        let library = function::Library::standard();
        let dict = Dict::current();
        let longs = [0, 1, -1, 2, 7, -7, 1 << 40, -(1 << 59), i64::MAX, i64::MIN];
        for name in ["+", "-", "*", "quot", "rem"] {
            let (op, f) = (of_two_longs(name).unwrap(), library.function(name).unwrap());
            for (x, y) in longs.iter().flat_map(|x| longs.map(|y| (*x, y))) {
                let said = f.call(&[Value::Long(x), Value::Long(y)]);
                if let Some(n) = op(x, y) {
                    assert_eq!(said.unwrap(), Value::Long(n), "({name} {x} {y})");
                }
            }
        }
        let others = [
            Value::Ref(EntityId::from_raw(77)),
            Value::string("12"),
            Value::double(2.5).unwrap(),
            Value::Nil,
        ];
        for name in ["long", "inc", "dec"] {
            let (op, f) = (of_one(name).unwrap(), library.function(name).unwrap());
            for v in longs.map(Value::Long).into_iter().chain(others.clone()) {
                if let Some(c) = op(dict.encode(&v)) {
                    assert_eq!(f.call(std::slice::from_ref(&v)).unwrap(), dict.decode(c), "({name} {v:?})");
                }
            }
        }
    }
}
