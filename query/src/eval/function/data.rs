//! Comparison, logic, names, and collections.

use super::{FnError, compare, equal, text::index};
use crate::edn;
use annals_model::{Keyword, Symbol, Value};
use std::cmp::Ordering;

type Answer = Result<Value, FnError>;

/// Most elements that `range` makes.
const MAX_RANGE: u64 = 1_000_000;

pub(super) fn is_equal(args: &[Value]) -> Answer {
    Ok(Value::Bool(args.windows(2).all(|p| equal(&p[0], &p[1]))))
}
pub(super) fn is_unequal(args: &[Value]) -> Answer {
    Ok(Value::Bool(!args.windows(2).all(|p| equal(&p[0], &p[1]))))
}
pub(super) fn is_distinct(args: &[Value]) -> Answer {
    let distinct = args.iter().enumerate().all(|(i, a)| args[..i].iter().all(|b| !equal(a, b)));
    Ok(Value::Bool(distinct))
}

/// True when every neighbouring pair is in order; nil when some pair does not compare.
fn chain(args: &[Value], holds: fn(Ordering) -> bool) -> Answer {
    let mut all = true;
    for p in args.windows(2) {
        match compare(&p[0], &p[1]) {
            Some(o) => all &= holds(o),
            None => return Ok(Value::Nil),
        }
    }
    Ok(Value::Bool(all))
}
pub(super) fn less(args: &[Value]) -> Answer {
    chain(args, Ordering::is_lt)
}
pub(super) fn less_or_equal(args: &[Value]) -> Answer {
    chain(args, Ordering::is_le)
}
pub(super) fn greater(args: &[Value]) -> Answer {
    chain(args, Ordering::is_gt)
}
pub(super) fn greater_or_equal(args: &[Value]) -> Answer {
    chain(args, Ordering::is_ge)
}
pub(super) fn three_way(args: &[Value]) -> Answer {
    Ok(compare(&args[0], &args[1]).map_or(Value::Nil, |o| Value::Long(o as i64)))
}

/// The first of the arguments that no other one beats.
fn best(args: &[Value], beats: Ordering) -> Answer {
    let mut best = &args[0];
    for v in &args[1..] {
        match compare(v, best) {
            Some(o) if o == beats => best = v,
            Some(_) => {}
            None => return Ok(Value::Nil),
        }
    }
    Ok(best.clone())
}
pub(super) fn min(args: &[Value]) -> Answer {
    best(args, Ordering::Less)
}
pub(super) fn max(args: &[Value]) -> Answer {
    best(args, Ordering::Greater)
}

pub(super) fn is_nil(args: &[Value]) -> Answer {
    Ok(Value::Bool(args[0] == Value::Nil))
}
pub(super) fn is_some(args: &[Value]) -> Answer {
    Ok(Value::Bool(args[0] != Value::Nil))
}
pub(super) fn is_true(args: &[Value]) -> Answer {
    Ok(Value::Bool(args[0] == Value::Bool(true)))
}
pub(super) fn is_false(args: &[Value]) -> Answer {
    Ok(Value::Bool(args[0] == Value::Bool(false)))
}
pub(super) fn not(args: &[Value]) -> Answer {
    Ok(Value::Bool(args[0].is_falsy()))
}
/// The first falsy argument, else the last.
pub(super) fn and(args: &[Value]) -> Answer {
    let decisive = args.iter().find(|v| v.is_falsy()).or(args.last());
    Ok(decisive.cloned().unwrap_or(Value::Bool(true)))
}
/// The first argument that is not falsy, else the last.
pub(super) fn or(args: &[Value]) -> Answer {
    let decisive = args.iter().find(|v| !v.is_falsy()).or(args.last());
    Ok(decisive.cloned().unwrap_or(Value::Nil))
}
pub(super) fn identity(args: &[Value]) -> Answer {
    Ok(args[0].clone())
}

macro_rules! kind_tests {
    ($($name:ident => $pattern:pat),* $(,)?) => {
        $(pub(super) fn $name(args: &[Value]) -> Answer {
            Ok(Value::Bool(matches!(&args[0], $pattern)))
        })*
    };
}
kind_tests! {
    is_boolean => Value::Bool(_),
    is_string => Value::String(_),
    is_number => Value::Long(_) | Value::BigInt(_) | Value::Double(_) | Value::BigDec(_),
    is_integer => Value::Long(_) | Value::BigInt(_),
    is_double => Value::Double(_),
    is_decimal => Value::BigDec(_),
    is_keyword => Value::Keyword(_),
    is_symbol => Value::Symbol(_),
    is_inst => Value::Instant(_),
    is_uuid => Value::Uuid(_),
    is_uri => Value::Uri(_),
    is_bytes => Value::Bytes(_),
    is_char => Value::Char(_),
    is_ref => Value::Ref(_),
    is_vector => Value::Vector(_),
    is_list => Value::List(_),
    is_set => Value::Set(_),
    is_map => Value::Map(_),
    is_coll => Value::Vector(_) | Value::List(_) | Value::Set(_) | Value::Map(_),
}
pub(super) fn kind(args: &[Value]) -> Answer {
    Ok(Value::keyword(args[0].kind()))
}

pub(super) fn name(args: &[Value]) -> Answer {
    match &args[0] {
        Value::Keyword(k) => Ok(k.name().into()),
        Value::Symbol(s) => Ok(s.name().into()),
        v @ Value::String(_) => Ok(v.clone()),
        v => Err(FnError::Type { arg: 0, expected: "keyword, symbol or string", found: v.kind() }),
    }
}
pub(super) fn namespace(args: &[Value]) -> Answer {
    match &args[0] {
        Value::Keyword(k) => Ok(k.namespace().map_or(Value::Nil, Value::from)),
        Value::Symbol(s) => Ok(s.namespace().map_or(Value::Nil, Value::from)),
        v => Err(FnError::Type { arg: 0, expected: "keyword or symbol", found: v.kind() }),
    }
}

/// The full name made of the arguments: one name, or a namespace and a name.
fn full_name(args: &[Value]) -> Result<String, FnError> {
    let part = |arg: usize| match &args[arg] {
        Value::String(s) => Ok(s.strip_prefix(':').unwrap_or(s).to_owned()),
        Value::Keyword(k) => Ok(k.as_str().to_owned()),
        Value::Symbol(s) => Ok(s.as_str().to_owned()),
        v => Err(FnError::Type { arg, expected: "string, keyword or symbol", found: v.kind() }),
    };
    match args {
        [_] => part(0),
        [Value::Nil, _] => part(1),
        _ => Ok(format!("{}/{}", part(0)?, part(1)?)),
    }
}
pub(super) fn keyword(args: &[Value]) -> Answer {
    let name = full_name(args)?;
    match edn::read_value(&format!(":{name}")) {
        Ok(Value::Keyword(k)) if k.as_str() == name => Ok(Value::Keyword(Keyword::new(name))),
        _ => Err(FnError::Range { arg: args.len() - 1, expected: "the text of a keyword" }),
    }
}
pub(super) fn symbol(args: &[Value]) -> Answer {
    let name = full_name(args)?;
    match edn::read_value(&name) {
        Ok(Value::Symbol(s)) if s.as_str() == name => Ok(Value::Symbol(Symbol::new(name))),
        _ => Err(FnError::Range { arg: args.len() - 1, expected: "the text of a symbol" }),
    }
}

/// The elements of a collection that is not a map.
pub(super) fn items(v: &Value) -> Option<&[Value]> {
    match v {
        Value::Vector(v) | Value::List(v) | Value::Set(v) => Some(v),
        _ => None,
    }
}
fn not_a_collection(arg: usize, v: &Value) -> FnError {
    FnError::Type { arg, expected: "collection", found: v.kind() }
}

/// Length of a string in characters, of bytes in bytes, of a collection in elements; 0 for nil.
pub(crate) fn size(v: &Value) -> Result<usize, FnError> {
    match v {
        Value::Nil => Ok(0),
        Value::String(s) => Ok(s.chars().count()),
        Value::Bytes(b) => Ok(b.len()),
        Value::Map(m) => Ok(m.len()),
        v => items(v).map(<[Value]>::len).ok_or_else(|| not_a_collection(0, v)),
    }
}
pub(super) fn count(args: &[Value]) -> Answer {
    size(&args[0]).map(|n| Value::Long(n as i64))
}
pub(super) fn is_empty(args: &[Value]) -> Answer {
    size(&args[0]).map(|n| Value::Bool(n == 0))
}
pub(super) fn not_empty(args: &[Value]) -> Answer {
    size(&args[0]).map(|n| if n == 0 { Value::Nil } else { args[0].clone() })
}

/// What a collection holds under a key: an entry of a map, an element of a set, a
/// place of a vector.
fn entry(coll: &Value, key: &Value) -> Result<Option<Value>, FnError> {
    match coll {
        Value::Nil => Ok(None),
        Value::Map(m) => {
            Ok(coll.get(key).or_else(|| m.iter().find(|(k, _)| equal(k, key)).map(|(_, v)| v)).cloned())
        }
        Value::Set(s) => Ok(s.iter().find(|v| equal(v, key)).cloned()),
        Value::Vector(v) => match key {
            Value::Long(i) => Ok(usize::try_from(*i).ok().and_then(|i| v.get(i)).cloned()),
            _ => Ok(None),
        },
        v => Err(FnError::Type { arg: 0, expected: "map, set or vector", found: v.kind() }),
    }
}
pub(super) fn get(args: &[Value]) -> Answer {
    Ok(entry(&args[0], &args[1])?.or(args.get(2).cloned()).unwrap_or(Value::Nil))
}
pub(super) fn contains(args: &[Value]) -> Answer {
    match &args[0] {
        Value::String(_) => super::text::includes(args),
        coll => Ok(Value::Bool(entry(coll, &args[1])?.is_some())),
    }
}
pub(super) fn nth(args: &[Value]) -> Answer {
    let i = index(args, 1)?;
    match &args[0] {
        Value::String(s) => Ok(s.chars().nth(i).map_or(Value::Nil, Value::Char)),
        v => {
            let found = items(v).ok_or_else(|| not_a_collection(0, v))?.get(i);
            Ok(found.or(args.get(2)).cloned().unwrap_or(Value::Nil))
        }
    }
}
pub(super) fn first(args: &[Value]) -> Answer {
    nth(&[args[0].clone(), Value::Long(0)])
}
pub(super) fn last(args: &[Value]) -> Answer {
    match &args[0] {
        Value::String(s) => Ok(s.chars().last().map_or(Value::Nil, Value::Char)),
        v => Ok(items(v).ok_or_else(|| not_a_collection(0, v))?.last().cloned().unwrap_or(Value::Nil)),
    }
}
pub(super) fn rest(args: &[Value]) -> Answer {
    let all = items(&args[0]).ok_or_else(|| not_a_collection(0, &args[0]))?;
    Ok(Value::vector(all.iter().skip(1).cloned()))
}
fn entries(arg: usize, v: &Value) -> Result<&[(Value, Value)], FnError> {
    match v {
        Value::Map(m) => Ok(m),
        v => Err(FnError::Type { arg, expected: "map", found: v.kind() }),
    }
}
pub(super) fn keys(args: &[Value]) -> Answer {
    Ok(Value::vector(entries(0, &args[0])?.iter().map(|(k, _)| k.clone())))
}
pub(super) fn vals(args: &[Value]) -> Answer {
    Ok(Value::vector(entries(0, &args[0])?.iter().map(|(_, v)| v.clone())))
}

/// As in Clojure for vectors and lists. Sets are left out on purpose: the number of elements
/// of the result must grow with each argument, or recursive folds by `shortest` had no meaning.
pub(super) fn conj(args: &[Value]) -> Answer {
    let (Some(coll), more) = (args.first(), args.get(1..).unwrap_or(&[])) else {
        return Ok(Value::vector([]));
    };
    match coll {
        Value::Vector(items) => Ok(Value::vector(items.iter().chain(more).cloned())),
        Value::List(items) => Ok(Value::List(more.iter().rev().chain(items.iter()).cloned().collect())),
        Value::Nil => Ok(Value::List(more.iter().rev().cloned().collect())),
        other => Err(FnError::Type { arg: 0, expected: "vector or list", found: other.kind() }),
    }
}
pub(super) fn vector(args: &[Value]) -> Answer {
    Ok(Value::Vector(args.into()))
}
pub(super) fn list(args: &[Value]) -> Answer {
    Ok(Value::List(args.into()))
}
pub(super) fn set(args: &[Value]) -> Answer {
    match items(&args[0]) {
        Some(items) => Ok(Value::set(items.iter().cloned())),
        None => Err(not_a_collection(0, &args[0])),
    }
}
pub(super) fn hash_map(args: &[Value]) -> Answer {
    match args.len() % 2 {
        0 => Ok(Value::map(args.chunks_exact(2).map(|p| (p[0].clone(), p[1].clone())))),
        _ => Err(FnError::Arity { got: args.len(), min: args.len() + 1, max: None }),
    }
}
pub(super) fn untuple(args: &[Value]) -> Answer {
    match &args[0] {
        v @ (Value::Vector(_) | Value::List(_) | Value::Nil) => Ok(v.clone()),
        v => Err(FnError::Type { arg: 0, expected: "tuple", found: v.kind() }),
    }
}
pub(super) fn range(args: &[Value]) -> Answer {
    let number = |arg: usize| match &args[arg] {
        Value::Long(n) => Ok(*n),
        v => Err(FnError::Type { arg, expected: "integer", found: v.kind() }),
    };
    let (from, to, step) = match args.len() {
        1 => (0, number(0)?, 1),
        2 => (number(0)?, number(1)?, 1),
        _ => (number(0)?, number(1)?, number(2)?),
    };
    if step == 0 {
        return Err(FnError::Range { arg: 2, expected: "a step that is not zero" });
    }
    let distance =
        if step > 0 { i128::from(to) - i128::from(from) } else { i128::from(from) - i128::from(to) };
    let stride = i128::from(step).abs();
    let n = (distance.max(0) + stride - 1) / stride;
    if n > i128::from(MAX_RANGE) {
        return Err(FnError::Range { arg: 0, expected: "a range of at most a million numbers" });
    }
    Ok(Value::vector((0..n as i64).map(|i| Value::Long(from + i * step))))
}
pub(super) fn inst_ms(args: &[Value]) -> Answer {
    match &args[0] {
        Value::Instant(i) => Ok(Value::Long(i.0.div_euclid(1_000))),
        v => Err(FnError::Type { arg: 0, expected: "instant", found: v.kind() }),
    }
}
pub(super) fn inst(args: &[Value]) -> Answer {
    match &args[0] {
        v @ Value::Instant(_) => Ok(v.clone()),
        Value::Long(ms) => match ms.checked_mul(1_000) {
            Some(us) => Ok(Value::Instant(annals_model::Instant(us))),
            None => Err(FnError::Overflow("instant")),
        },
        Value::String(s) => Ok(annals_model::Instant::parse(s).map_or(Value::Nil, Value::Instant)),
        v => Err(FnError::Type { arg: 0, expected: "instant, milliseconds or string", found: v.kind() }),
    }
}
