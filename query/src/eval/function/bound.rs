//! How large a value a function may make.
//!
//! A rule that builds values can double one in each round, or nest it one level deeper.
//! Long before memory or the stack is gone such a value is refused, wherever it was made:
//!
//! 1. It holds at most [`MAX_BYTES`], each occurrence of a shared part counted.
//! 2. It is nested at most as deep as a text that is read may be, so that it can be
//!    hashed, compared, printed and dropped by recursion.

use super::FnError;
use crate::edn::MAX_DEPTH;
use annals_model::Value;
use std::sync::Arc;

/// Bytes of text, or of elements, that a value made by a function may hold.
pub(super) const MAX_BYTES: usize = 256 << 20;
/// What an element of a collection counts besides its own parts.
const ELEMENT: usize = 32;

/// The value, if it is within the limits.
pub(super) fn bounded(v: Value) -> Result<Value, FnError> {
    let mut left = MAX_BYTES;
    walk(&v, 0, &mut left)?;
    Ok(v)
}

/// Refuses a text of this many bytes before it is made.
pub(super) fn text_of(bytes: Option<usize>) -> Result<(), FnError> {
    match bytes {
        Some(n) if n <= MAX_BYTES => Ok(()),
        _ => Err(FnError::TooLarge("more than 256 MiB")),
    }
}

/// Bytes that a value occupies beside its own word, its parts not looked into.
pub(crate) fn heap_bytes(v: &Value) -> usize {
    match v {
        Value::String(s) | Value::Uri(s) => s.len(),
        Value::Bytes(b) => b.len(),
        Value::Vector(items) | Value::List(items) | Value::Set(items) => items.len() * ELEMENT,
        Value::Map(entries) => entries.len() * 2 * ELEMENT,
        _ => 0,
    }
}

/// Whether nothing else holds the parts of a value: so it was made, and not passed on from an
/// argument, as `get`, `nth` and `min` do. To be asked while the arguments are alive.
pub(crate) fn is_made(v: &Value) -> bool {
    match v {
        Value::String(s) | Value::Uri(s) => Arc::strong_count(s) == 1,
        Value::Bytes(b) => Arc::strong_count(b) == 1,
        Value::Vector(items) | Value::List(items) | Value::Set(items) => Arc::strong_count(items) == 1,
        Value::Map(entries) => Arc::strong_count(entries) == 1,
        _ => true,
    }
}

/// Whether a value has parts, which may hold more than can be seen from outside: a shared one
/// takes as long to look through as if nothing were shared.
pub(crate) fn has_parts(v: &Value) -> bool {
    matches!(v, Value::Vector(_) | Value::List(_) | Value::Set(_) | Value::Map(_) | Value::Tagged(_))
}

fn walk(v: &Value, depth: usize, left: &mut usize) -> Result<(), FnError> {
    *left = left.checked_sub(heap_bytes(v)).ok_or(FnError::TooLarge("more than 256 MiB"))?;
    let mut part = |v: &Value| match v {
        Value::Vector(_) | Value::List(_) | Value::Set(_) | Value::Map(_) | Value::Tagged(_) => {
            if depth + 1 >= MAX_DEPTH {
                return Err(FnError::TooLarge("nested deeper than 256 levels"));
            }
            walk(v, depth + 1, left)
        }
        v => walk(v, depth, left),
    };
    match v {
        Value::Vector(items) | Value::List(items) | Value::Set(items) => items.iter().try_for_each(part),
        Value::Map(entries) => entries.iter().try_for_each(|(k, v)| part(k).and_then(|()| part(v))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_doubles_is_refused_soon() {
        let mut v = Value::Long(1);
        let error = (0..60).find_map(|_| {
            let double = Value::vector([v.clone(), v.clone()]);
            match bounded(double) {
                Ok(d) => {
                    v = d;
                    None
                }
                Err(e) => Some(e),
            }
        });
        assert_eq!(error, Some(FnError::TooLarge("more than 256 MiB")));
    }

    #[test]
    fn a_value_that_nests_is_refused_where_a_text_would_be() {
        let mut v = Value::Long(1);
        let mut depth = 0;
        while let Ok(d) = bounded(Value::vector([v.clone()])) {
            v = d;
            depth += 1;
        }
        assert_eq!(depth, MAX_DEPTH);
        let text = crate::edn::print(&v);
        assert_eq!(crate::edn::read_value(&text).ok(), Some(v), "the deepest value reads back");
        assert!(crate::edn::read_value(&format!("[{text}]")).is_err());
    }
}
