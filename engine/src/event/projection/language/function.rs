//! The functions of the language: values in, a value out, or a refusal that says why.

use crate::event::facts::ProjectError;
use annals_model::{Instant, Keyword, Value};
use std::sync::Arc;

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fun {
    String,
    Long,
    Double,
    Boolean,
    Instant,
    Uuid,
    BigDec,
    Keyword,
    Or,
    Maybe,
    Str,
    Lower,
    Upper,
    Trim,
    Split,
    Add,
    Sub,
    Mul,
    Count,
}

/// Name, function, least and most arguments.
pub(super) const FUNCTIONS: [(&str, Fun, usize, usize); 19] = [
    ("string", Fun::String, 1, 1),
    ("long", Fun::Long, 1, 1),
    ("double", Fun::Double, 1, 1),
    ("boolean", Fun::Boolean, 1, 1),
    ("instant", Fun::Instant, 1, 1),
    ("uuid", Fun::Uuid, 1, 1),
    ("bigdec", Fun::BigDec, 1, 1),
    ("keyword", Fun::Keyword, 1, 2),
    ("or", Fun::Or, 1, usize::MAX),
    ("maybe", Fun::Maybe, 1, 1),
    ("str", Fun::Str, 1, usize::MAX),
    ("lower", Fun::Lower, 1, 1),
    ("upper", Fun::Upper, 1, 1),
    ("trim", Fun::Trim, 1, 1),
    ("split", Fun::Split, 3, 3),
    ("+", Fun::Add, 2, usize::MAX),
    ("-", Fun::Sub, 2, 2),
    ("*", Fun::Mul, 2, usize::MAX),
    ("count", Fun::Count, 1, 1),
];

impl Fun {
    pub(super) fn call(self, mut args: Vec<Value>) -> Result<Value, ProjectError> {
        let name = FUNCTIONS.iter().find(|f| f.1 == self).map_or("", |f| f.0);
        let refuse = |value: Value, wanted: &'static str| ProjectError::Convert {
            value,
            wanted,
            by: format!("({name} …)"),
        };
        let text = |v: Value| match v {
            Value::String(s) => Ok(s),
            v => Err(refuse(v, "string")),
        };
        let mut first = || args.swap_remove(0);
        Ok(match self {
            Fun::Or | Fun::Maybe => first(),
            Fun::String => Value::string(plain(&first())),
            Fun::Long => match first() {
                Value::Long(n) => Value::Long(n),
                Value::Double(d) if d.fract() == 0.0 && d.abs() < 9.0e15 => Value::Long(d as i64),
                Value::String(s) => match s.trim().parse() {
                    Ok(n) => Value::Long(n),
                    Err(_) => return Err(refuse(Value::String(s), "long")),
                },
                Value::Instant(i) => Value::Long(i.0.div_euclid(1000)),
                v => return Err(refuse(v, "long")),
            },
            Fun::Double => match first() {
                Value::Double(d) => Value::Double(d),
                Value::Long(n) => Value::double(n as f64).ok_or_else(|| refuse(Value::Long(n), "double"))?,
                Value::String(s) => s
                    .trim()
                    .parse()
                    .ok()
                    .and_then(Value::double)
                    .ok_or_else(|| refuse(Value::String(s), "double"))?,
                v => return Err(refuse(v, "double")),
            },
            Fun::Boolean => match first() {
                Value::Bool(b) => Value::Bool(b),
                Value::String(s) if &*s == "true" => Value::Bool(true),
                Value::String(s) if &*s == "false" => Value::Bool(false),
                v => return Err(refuse(v, "boolean")),
            },
            Fun::Instant => match first() {
                Value::Instant(i) => Value::Instant(i),
                Value::String(s) => {
                    Value::Instant(instant(&s).ok_or_else(|| refuse(Value::String(s), "instant"))?)
                }
                Value::Long(ms) => Value::Instant(Instant::from_millis(ms)),
                v => return Err(refuse(v, "instant")),
            },
            Fun::Uuid => match first() {
                Value::Uuid(u) => Value::Uuid(u),
                Value::String(s) => Value::Uuid(s.parse().map_err(|_| refuse(Value::String(s), "uuid"))?),
                v => return Err(refuse(v, "uuid")),
            },
            Fun::BigDec => match first() {
                v @ Value::BigDec(_) => v,
                Value::Long(n) => Value::BigDec(Arc::new(n.into())),
                Value::String(s) => {
                    Value::BigDec(Arc::new(s.trim().parse().map_err(|_| refuse(Value::String(s), "bigdec"))?))
                }
                v => return Err(refuse(v, "bigdec")),
            },
            Fun::Keyword => {
                let last = args.pop().unwrap_or(Value::Nil);
                let name = match last {
                    Value::Keyword(k) if args.is_empty() => return Ok(Value::Keyword(k)),
                    Value::Keyword(k) => k.name().to_owned(),
                    v => text(v)?
                        .trim()
                        .trim_start_matches(':')
                        .to_lowercase()
                        .replace(char::is_whitespace, "-"),
                };
                if name.is_empty() {
                    return Err(refuse(Value::string(""), "keyword"));
                }
                match args.pop() {
                    Some(ns) => Value::Keyword(Keyword::from_parts(Some(&text(ns)?), &name)),
                    None => Value::Keyword(Keyword::new(name)),
                }
            }
            Fun::Str => Value::string(args.iter().map(plain).collect::<String>()),
            Fun::Lower => Value::string(text(first())?.to_lowercase()),
            Fun::Upper => Value::string(text(first())?.to_uppercase()),
            Fun::Trim => Value::string(text(first())?.trim()),
            Fun::Split => {
                let (n, sep, from) = (args.pop(), args.pop(), args.pop());
                let (Some(Value::Long(n)), Some(sep), Some(from)) = (n, sep, from) else {
                    return Err(refuse(Value::Nil, "text, a separator and a number"));
                };
                let (sep, from) = (text(sep)?, text(from)?);
                match usize::try_from(n).ok().and_then(|n| from.split(&*sep).nth(n)) {
                    Some(part) => Value::string(part),
                    None => Value::Nil,
                }
            }
            Fun::Count => match first() {
                Value::Vector(v) | Value::List(v) | Value::Set(v) => Value::Long(v.len() as i64),
                Value::Map(m) => Value::Long(m.len() as i64),
                Value::String(s) => Value::Long(s.chars().count() as i64),
                v => return Err(refuse(v, "collection")),
            },
            Fun::Add | Fun::Sub | Fun::Mul => {
                let mut rest = args.into_iter();
                let mut sum = rest.next().unwrap_or(Value::Nil);
                for v in rest {
                    sum = arithmetic(self, name, sum, v)?;
                }
                sum
            }
        })
    }
}

fn arithmetic(f: Fun, name: &str, a: Value, b: Value) -> Result<Value, ProjectError> {
    let wrong =
        || ProjectError::Arithmetic(format!("({name} {a:?} {b:?}) is out of range or not about numbers"));
    let double = |a: f64, b: f64| {
        Value::double(match f {
            Fun::Add => a + b,
            Fun::Sub => a - b,
            _ => a * b,
        })
        .ok_or_else(wrong)
    };
    match (&a, &b) {
        (Value::Long(x), Value::Long(y)) => match f {
            Fun::Add => x.checked_add(*y),
            Fun::Sub => x.checked_sub(*y),
            _ => x.checked_mul(*y),
        }
        .map(Value::Long)
        .ok_or_else(wrong),
        (Value::Double(x), Value::Double(y)) => double(*x, *y),
        (Value::Long(x), Value::Double(y)) => double(*x as f64, *y),
        (Value::Double(x), Value::Long(y)) => double(*x, *y as f64),
        (Value::BigDec(x), Value::BigDec(y)) => Ok(Value::BigDec(Arc::new(match f {
            Fun::Add => x.as_ref() + y.as_ref(),
            Fun::Sub => x.as_ref() - y.as_ref(),
            _ => x.as_ref() * y.as_ref(),
        }))),
        _ => Err(wrong()),
    }
}

/// Dates as people and JSON write them; a space may stand for the `T`.
fn instant(text: &str) -> Option<Instant> {
    Instant::parse(text).or_else(|| Instant::parse(&text.replacen(' ', "T", 1)))
}

/// A value as text, strings without quotes.
fn plain(v: &Value) -> String {
    match v {
        Value::String(s) | Value::Uri(s) => s.to_string(),
        Value::Instant(i) => i.to_string(),
        Value::Uuid(u) => u.to_string(),
        Value::BigInt(n) => n.to_string(),
        Value::BigDec(n) => n.to_string(),
        Value::Ref(e) => e.to_string(),
        v => format!("{v:?}"),
    }
}
