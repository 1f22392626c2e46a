//! Transaction data in JSON, read with the schema at hand.
//!
//! The forms are those of EDN: `{":order/id": "A-1", ":order/total": 12.5}` and
//! `[":db/add", "tempid", ":order/status", ":placed"]`. What JSON cannot say, the
//! attribute's type does:
//!
//! | type of the attribute | JSON |
//! |---|---|
//! | keyword, symbol | a string, colon or not |
//! | string, uri | a string, always taken as it is |
//! | instant | RFC 3339, or milliseconds |
//! | uuid | its text |
//! | long, bigint, bigdec, double | a number, or its digits as a string |
//! | bytes | base64 |
//! | ref | a number, a tempid, `":ident"`, `[":unique/attr", value]`, a nested object |
//! | tuple | an array |
//!
//! `{"#edn": "…"}` says any value exactly. An array under an attribute of
//! cardinality many is many values.

use super::{
    problem::{Class, Problem},
    value,
};
use annals::{Attribute, Instant, Keyword, Schema, Value, ValueType};
use serde_json::Value as Json;

/// The forms of one transaction.
pub fn forms(json: &Json, schema: &Schema) -> Result<Vec<Value>, Problem> {
    let list = match json {
        Json::Array(list) => list,
        Json::Object(o) => o
            .get("tx")
            .or_else(|| o.get("tx-data"))
            .or_else(|| o.get("tx_data"))
            .and_then(Json::as_array)
            .ok_or_else(|| wrong("tx", "the body is an array of forms, or {\"tx\": [forms]}"))?,
        _ => return Err(wrong("tx", "the body is an array of forms, or {\"tx\": [forms]}")),
    };
    list.iter().enumerate().map(|(i, form)| one(form, schema, &format!("tx[{i}]"))).collect()
}

fn one(form: &Json, schema: &Schema, path: &str) -> Result<Value, Problem> {
    match form {
        Json::Object(members) => match value::escaped(members)? {
            Some(v) => Ok(v),
            None => entity(members, schema, path),
        },
        Json::Array(items) => list(items, schema, path),
        _ => Err(wrong(path, "a form is an object or an array")),
    }
}

fn entity(members: &serde_json::Map<String, Json>, schema: &Schema, path: &str) -> Result<Value, Problem> {
    let mut entries = Vec::with_capacity(members.len());
    for (name, json) in members {
        let attr = Keyword::new(name.strip_prefix(':').unwrap_or(name));
        let path = format!("{path} {attr}");
        let v = if attr.as_str() == "db/id" {
            named(json, schema, &path)?
        } else {
            attribute_value(&attr, json, schema, &path)?
        };
        entries.push((Value::Keyword(attr), v));
    }
    Ok(Value::map(entries))
}

fn list(items: &[Json], schema: &Schema, path: &str) -> Result<Value, Problem> {
    let op = items
        .first()
        .and_then(Json::as_str)
        .ok_or_else(|| wrong(path, "a form begins with an operation such as \":db/add\""))?;
    let op = Keyword::new(op.strip_prefix(':').unwrap_or(op));
    let mut out = vec![Value::Keyword(op.clone())];
    let about_a_fact =
        matches!(op.as_str(), "db/add" | "db/retract" | "db/cas" | "db.fn/cas" | "db.fn/retractAttribute");
    if about_a_fact {
        for (i, json) in items.iter().enumerate().skip(1) {
            let path = format!("{path}[{i}]");
            out.push(match i {
                1 => named(json, schema, &path)?,
                2 => match json {
                    Json::String(s) => Value::Keyword(Keyword::new(s.strip_prefix(':').unwrap_or(s))),
                    other => value::read(other)?,
                },
                _ if json.is_null() => Value::Nil,
                _ => match &out[2] {
                    Value::Keyword(attr) => attribute_value(&attr.clone(), json, schema, &path)?,
                    _ => value::read(json)?,
                },
            });
        }
    } else {
        for json in &items[1..] {
            out.push(named(json, schema, path)?);
        }
    }
    Ok(Value::vector(out))
}

/// An entity: a number, a tempid, an ident, a lookup ref.
fn named(json: &Json, schema: &Schema, path: &str) -> Result<Value, Problem> {
    match json {
        Json::Array(pair) if pair.len() == 2 => match pair[0].as_str() {
            Some(attr) => {
                let attr = Keyword::new(attr.strip_prefix(':').unwrap_or(attr));
                let v = attribute_value(&attr, &pair[1], schema, path)?;
                Ok(Value::vector([Value::Keyword(attr), v]))
            }
            None => value::read(json),
        },
        other => value::read(other),
    }
}

fn attribute_value(attr: &Keyword, json: &Json, schema: &Schema, path: &str) -> Result<Value, Problem> {
    // A reverse attribute `:order/_items` takes entities, as any reference does.
    let (ident, reverse) = match attr.name().strip_prefix('_') {
        Some(name) => (Keyword::from_parts(attr.namespace(), name), true),
        None => (attr.clone(), false),
    };
    let Some(a) = schema.attribute_named(&ident) else {
        // An operation's own key, or an attribute the engine will complain about.
        return value::read(json);
    };
    match json {
        Json::Array(items) if reverse || a.is_many() && !is_lookup(a, items) => {
            items.iter().map(|j| typed(a, j, schema, path)).collect::<Result<Vec<_>, _>>().map(Value::vector)
        }
        json => typed(a, json, schema, path),
    }
}

/// `[":order/id", "A-1"]` under a reference is one entity, not two tempids.
fn is_lookup(a: &Attribute, items: &[Json]) -> bool {
    a.is_ref() && items.len() == 2 && items[0].as_str().is_some_and(|s| s.starts_with(':'))
}

fn typed(a: &Attribute, json: &Json, schema: &Schema, path: &str) -> Result<Value, Problem> {
    if let Json::Object(members) = json {
        return match value::escaped(members)? {
            Some(v) => Ok(v),
            None => entity(members, schema, path),
        };
    }
    let no = |what: &str| {
        let mut p = Problem::new(
            Class::Meaning,
            "json/type",
            format!("{} holds values of type {}; {what}", a.ident, a.value_type.name()),
        );
        p.path = Some(path.to_owned());
        p
    };
    let text = json.as_str();
    Ok(match (a.value_type, text) {
        (ValueType::String, Some(s)) => Value::string(s),
        (ValueType::Uri, Some(s)) => Value::Uri(s.into()),
        (ValueType::Keyword, Some(s)) => Value::Keyword(Keyword::new(s.strip_prefix(':').unwrap_or(s))),
        (ValueType::Symbol, Some(s)) => Value::Symbol(annals::Symbol::new(s)),
        (ValueType::Instant, Some(s)) => {
            Value::Instant(Instant::parse(s).ok_or_else(|| no("this is not an RFC 3339 date-time"))?)
        }
        (ValueType::Instant, None) => match json.as_i64() {
            Some(ms) => {
                Value::Instant(Instant(ms.checked_mul(1_000).ok_or_else(|| no("this is out of range"))?))
            }
            None => return Err(no("write an RFC 3339 date-time")),
        },
        (ValueType::Uuid, Some(s)) => Value::Uuid(s.parse().map_err(|_| no("this is not a UUID"))?),
        (ValueType::Bytes, Some(s)) => {
            Value::Bytes(value::from_base64(s).ok_or_else(|| no("write base64"))?.into())
        }
        (ValueType::Long, Some(s)) => Value::Long(s.parse().map_err(|_| no("this is not a 64-bit integer"))?),
        (ValueType::BigInt, _) => digits(json, "N").ok_or_else(|| no("write an integer or its digits"))?,
        (ValueType::BigDec, _) => digits(json, "M").ok_or_else(|| no("write a number or its digits"))?,
        (ValueType::Double, Some(s)) => match s {
            "##Inf" => Value::Double(f64::INFINITY),
            "##-Inf" => Value::Double(f64::NEG_INFINITY),
            s => s.parse().ok().and_then(Value::double).ok_or_else(|| no("this is not a number"))?,
        },
        (ValueType::Double, None) => match json.as_f64().and_then(Value::double) {
            Some(d) => d,
            None => value::read(json)?,
        },
        (ValueType::Ref, _) => named(json, schema, path)?,
        _ => value::read(json)?,
    })
}

fn digits(json: &Json, suffix: &str) -> Option<Value> {
    let text = match json {
        Json::Number(n) => n.to_string(),
        Json::String(s) => s.clone(),
        _ => return None,
    };
    let clean = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let ok = !clean.is_empty()
        && clean.len() < 4_096
        && clean.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    annals::edn::read_value(&format!("{text}{suffix}")).ok().filter(|_| ok)
}

fn wrong(path: &str, what: &str) -> Problem {
    let mut p = Problem::new(Class::Syntax, "tx/form", what);
    p.path = Some(path.to_owned());
    p
}
