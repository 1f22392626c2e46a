//! Functions and predicates: those that ask a database, and the plain ones.

use super::{Env, Given, NaiveError, Result, Rows, World, each, items, run, variable, wrong};
use annals_model::{Symbol, Value};
use num_traits::ToPrimitive;
use std::cmp::Ordering;

/// Keeps the rows for which the call is neither false nor nil.
pub(super) fn predicate(world: &World<'_>, source: &Symbol, call: &[Value], rows: &Rows) -> Result<Rows> {
    each(rows, |env| {
        let v = value(world, source, call, env)?;
        Ok(if v.is_falsy() { vec![] } else { vec![env.clone()] })
    })
}

/// The result of the call for every row.
pub(super) fn call(
    world: &World<'_>,
    source: &Symbol,
    call: &[Value],
    rows: &Rows,
) -> Result<Vec<(Env, Value)>> {
    rows.iter().map(|env| Ok((env.clone(), value(world, source, call, env)?))).collect()
}

fn is_source(v: &Value) -> Option<&Symbol> {
    match v {
        Value::Symbol(s) if s.as_str().starts_with('$') => Some(s),
        _ => None,
    }
}

fn argument(v: &Value, env: &Env) -> Result<Value> {
    match variable(v) {
        Some(var) => env.get(var).cloned().ok_or_else(|| NaiveError::Unbound(var.to_string())),
        None => Ok(v.clone()),
    }
}

fn value(world: &World<'_>, source: &Symbol, call: &[Value], env: &Env) -> Result<Value> {
    let [Value::Symbol(name), args @ ..] = call else { return wrong("a call begins with a name") };
    if name.as_str() == "q" {
        return nested(world, args, env);
    }
    let (db, args) = match args {
        [s, rest @ ..] if is_source(s).is_some() => (is_source(s).unwrap_or(source), rest),
        args => (source, args),
    };
    let args: Vec<Value> = args.iter().map(|a| argument(a, env)).collect::<Result<_>>()?;
    match (name.as_str(), &args[..]) {
        ("missing?", [e, a]) => Ok(Value::Bool(found(world, db, e, a)?.is_none())),
        ("get-else", [_, _, Value::Nil]) => wrong("the default of get-else is nil"),
        ("get-else", [e, a, default]) => {
            let schema = &world.db(db)?.schema;
            if matches!(a, Value::Keyword(a) if schema.attribute_named(a).is_some_and(|a| a.is_many())) {
                return wrong("get-else of a many-valued attribute");
            }
            Ok(found(world, db, e, a)?.unwrap_or_else(|| default.clone()))
        }
        ("get-some", [e, attributes @ ..]) => {
            for a in attributes {
                if let Some(v) = found(world, db, e, a)? {
                    let a = world.db(db)?.attribute(a)?.expect("it has a value, so it exists");
                    return Ok(Value::vector([Value::Ref(a.entity()), v]));
                }
            }
            Ok(Value::Nil)
        }
        (name, args) => match plain(name, args)? {
            Some(v) => Ok(v),
            None => match (world.library)(name, args) {
                Some(Ok(v)) => Ok(v),
                Some(Err(why)) => Err(NaiveError::Wrong(why)),
                None => Err(NaiveError::Unsupported(format!("function {name}"))),
            },
        },
    }
}

/// A value that the entity has for the attribute.
fn found(world: &World<'_>, db: &Symbol, e: &Value, a: &Value) -> Result<Option<Value>> {
    let db = world.db(db)?;
    Ok(match (db.entity(e), db.attribute(a)?) {
        (Some(e), Some(a)) => db.values(e, a).next().cloned(),
        _ => None,
    })
}

/// `(q '[…] $ arg …)`: the answer of another query.
fn nested(world: &World<'_>, args: &[Value], env: &Env) -> Result<Value> {
    let [query, inputs @ ..] = args else { return wrong("q takes a query") };
    let query = match query {
        Value::List(quoted) if quoted.len() == 2 => &quoted[1],
        query => query,
    };
    let given = |input: &Value| match is_source(input) {
        Some(s) => match world.source(s)? {
            super::From::Db(db) => Ok(Given::Db(db.clone())),
            super::From::Rows(rows) => Ok(Given::Value(Value::vector(rows.iter().cloned()))),
        },
        None => Ok(Given::Value(argument(input, env)?)),
    };
    let inputs: Vec<Given> = inputs.iter().map(given).collect::<Result<_>>()?;
    Ok(run(query, &inputs, world.library)?.value())
}

/// A number's value when numbers of different types are compared.
pub(super) fn number(v: &Value) -> Option<f64> {
    match v {
        Value::Long(n) => Some(*n as f64),
        Value::Double(d) => Some(*d),
        Value::BigInt(n) => n.to_f64(),
        Value::BigDec(d) => d.to_f64(),
        _ => None,
    }
}

/// How two values compare, if they are of one kind; numbers are of one kind.
pub(super) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Long(a), Value::Long(b)) => Some(a.cmp(b)),
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ if a.value_type().is_some() && a.value_type() == b.value_type() => Some(a.cmp(b)),
            _ => None,
        },
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    a == b || (number(a).is_some() && number(b).is_some() && compare(a, b) == Some(Ordering::Equal))
}

/// The functions that need nothing but their arguments; none if the name is not among them.
fn plain(name: &str, args: &[Value]) -> Result<Option<Value>> {
    use Value::{Bool, Double, Long};
    // An order that does not exist drops the row, as false does.
    let in_order = |want: fn(Ordering) -> bool| {
        let holds = args.windows(2).all(|pair| compare(&pair[0], &pair[1]).is_some_and(want));
        Ok(Some(Bool(holds)))
    };
    let arithmetic = |long: fn(i64, i64) -> Option<i64>, double: fn(f64, f64) -> f64| {
        let mut total = args[0].clone();
        for arg in &args[1..] {
            total = match (&total, arg) {
                (Long(a), Long(b)) => match long(*a, *b) {
                    Some(n) => Long(n),
                    None => return wrong("integer overflow"),
                },
                (Long(_) | Double(_), Long(_) | Double(_)) => {
                    let (a, b) = (number(&total).unwrap_or(0.0), number(arg).unwrap_or(0.0));
                    Value::double(double(a, b)).ok_or(NaiveError::Wrong("not a number".into()))?
                }
                _ => return Ok(None),
            };
        }
        Ok(Some(total))
    };
    let text = |f: fn(&str, &str) -> bool| match args {
        [Value::String(a), Value::String(b)] => Some(Bool(f(a, b))),
        _ => None,
    };
    match (name, args) {
        ("=", [first, rest @ ..]) => Ok(Some(Bool(rest.iter().all(|v| equal(first, v))))),
        ("!=" | "not=", [a, b]) => Ok(Some(Bool(!equal(a, b)))),
        ("<", [_, _, ..]) => in_order(Ordering::is_lt),
        ("<=", [_, _, ..]) => in_order(Ordering::is_le),
        (">", [_, _, ..]) => in_order(Ordering::is_gt),
        (">=", [_, _, ..]) => in_order(Ordering::is_ge),
        ("+", [_, _, ..]) => arithmetic(i64::checked_add, |a, b| a + b),
        ("-", [_, _, ..]) => arithmetic(i64::checked_sub, |a, b| a - b),
        ("*", [_, _, ..]) => arithmetic(i64::checked_mul, |a, b| a * b),
        ("inc", [Long(n)]) => Ok(n.checked_add(1).map(Long)),
        ("dec", [Long(n)]) => Ok(n.checked_sub(1).map(Long)),
        ("even?", [Long(n)]) => Ok(Some(Bool(n % 2 == 0))),
        ("odd?", [Long(n)]) => Ok(Some(Bool(n % 2 != 0))),
        ("pos?", [v]) => Ok(number(v).map(|n| Bool(n > 0.0))),
        ("neg?", [v]) => Ok(number(v).map(|n| Bool(n < 0.0))),
        ("zero?", [v]) => Ok(number(v).map(|n| Bool(n == 0.0))),
        ("identity" | "ground", [v]) => Ok(Some(v.clone())),
        ("tuple" | "vector", args) => Ok(Some(Value::vector(args.iter().cloned()))),
        ("untuple", [v @ Value::Vector(_)]) => Ok(Some(v.clone())),
        ("count", [Value::String(s)]) => Ok(Some(Long(s.chars().count() as i64))),
        ("count", [v]) => Ok(items(v).map(|v| Long(v.len() as i64))),
        ("starts-with?", _) => Ok(text(|a, b| a.starts_with(b))),
        ("ends-with?", _) => Ok(text(|a, b| a.ends_with(b))),
        ("includes?" | "contains?", [Value::String(_), _]) => Ok(text(|a, b| a.contains(b))),
        ("upper-case", [Value::String(s)]) => Ok(Some(Value::string(s.to_uppercase()))),
        ("name", [Value::Keyword(k)]) => Ok(Some(Value::string(k.name()))),
        ("namespace", [Value::Keyword(k)]) => Ok(Some(k.namespace().map_or(Value::Nil, Value::string))),
        ("some?", [v]) => Ok(Some(Bool(*v != Value::Nil))),
        ("nil?", [v]) => Ok(Some(Bool(*v == Value::Nil))),
        ("true?", [v]) => Ok(Some(Bool(*v == Bool(true)))),
        ("false?", [v]) => Ok(Some(Bool(*v == Bool(false)))),
        _ => Ok(None),
    }
}
