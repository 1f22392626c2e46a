//! EDN values as JSON, as contract.md maps them: strings, numbers and booleans as
//! themselves, keywords `":ns/name"`, instants RFC 3339, references numbers,
//! integers beyond 2^53 strings.

use annals::{Value, edn};
use serde_json::{Map, Number, Value as Json};

/// Largest integer a reader of doubles holds exactly.
const EXACT: i64 = 1 << 53;

/// The JSON of a value.
pub fn of(v: &Value) -> Json {
    match v {
        Value::Nil => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Long(n) if (-EXACT..=EXACT).contains(n) => Json::from(*n),
        Value::Long(n) => Json::String(n.to_string()),
        Value::Double(d) => Number::from_f64(*d).map_or_else(|| Json::String(edn::print(v)), Json::Number),
        Value::BigInt(n) => Json::String(n.to_string()),
        Value::BigDec(_) => Json::String(edn::print(v).trim_end_matches('M').to_owned()),
        Value::Instant(i) => Json::String(i.to_string()),
        Value::Uuid(u) => Json::String(u.to_string()),
        Value::Ref(e) => Json::from(e.raw()),
        Value::String(s) | Value::Uri(s) => Json::String(s.to_string()),
        Value::Char(c) => Json::String(c.to_string()),
        Value::Keyword(_) | Value::Symbol(_) | Value::Bytes(_) => Json::String(bare(v)),
        Value::Vector(items) | Value::List(items) | Value::Set(items) => {
            Json::Array(items.iter().map(of).collect())
        }
        Value::Map(entries) => {
            let entries = entries.iter().map(|(k, v)| (key(k), of(v)));
            Json::Object(entries.collect::<Map<String, Json>>())
        }
        Value::Tagged(t) => of(&t.1),
    }
}

fn key(k: &Value) -> String {
    match k {
        Value::String(s) => s.to_string(),
        other => bare(other),
    }
}

fn bare(v: &Value) -> String {
    match v {
        Value::Bytes(b) => b.iter().map(|byte| format!("{byte:02x}")).collect(),
        other => edn::print(other),
    }
}

/// JSON as an EDN value: object keys become strings.
pub fn to_value(j: &Json) -> Value {
    match j {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64().and_then(Value::double)) {
            (Some(n), _) => Value::Long(n),
            (None, Some(d)) => d,
            (None, None) => Value::Nil,
        },
        Json::String(s) => Value::string(s),
        Json::Array(items) => Value::vector(items.iter().map(to_value)),
        Json::Object(entries) => Value::map(entries.iter().map(|(k, v)| (Value::string(k), to_value(v)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_map_as_the_contract_says() {
        for (text, want) in [
            ("9007199254740993", r#""9007199254740993""#),
            ("12", "12"),
            (":a/b", r#"":a/b""#),
            ("#inst \"2026-01-01\"", r#""2026-01-01T00:00:00.000Z""#),
            ("[1 nil true \"x\"]", r#"[1,null,true,"x"]"#),
            ("{:a {:b 1}}", r#"{":a":{":b":1}}"#),
            ("1.50M", r#""1.50""#),
        ] {
            assert_eq!(of(&edn::read_value(text).unwrap()).to_string(), want, "{text}");
        }
    }
}
