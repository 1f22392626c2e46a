//! Payloads as JSON, both ways.

use annals_model::Value;
use std::sync::Arc;

/// JSON as a value: objects become maps with keyword keys.
pub fn of_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as J;
    match json {
        J::Null => Value::Nil,
        J::Bool(b) => Value::Bool(*b),
        J::String(s) => Value::string(s),
        J::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), _, _) => Value::Long(n),
            (None, Some(n), _) => Value::BigInt(Arc::new(n.into())),
            (None, None, Some(d)) => Value::double(d).unwrap_or(Value::Nil),
            (None, None, None) => Value::Nil,
        },
        J::Array(items) => Value::vector(items.iter().map(of_json)),
        J::Object(entries) => Value::map(entries.iter().map(|(k, v)| (Value::keyword(k), of_json(v)))),
    }
}

/// A value as JSON; see contract.md for the mapping.
pub fn to_json(v: &Value) -> serde_json::Value {
    use serde_json::Value as J;
    match v {
        Value::Nil => J::Null,
        Value::Bool(b) => J::Bool(*b),
        Value::Long(n) => J::from(*n),
        Value::Double(d) => J::from(*d),
        Value::Ref(e) => J::from(e.raw()),
        Value::String(s) | Value::Uri(s) => J::from(s.as_ref()),
        Value::Instant(i) => J::from(i.to_string()),
        Value::Uuid(u) => J::from(u.to_string()),
        Value::Keyword(k) => J::from(k.to_string()),
        Value::Symbol(s) => J::from(s.to_string()),
        Value::BigInt(n) => J::from(n.to_string()),
        Value::BigDec(n) => J::from(n.to_string()),
        Value::Char(c) => J::from(c.to_string()),
        Value::Bytes(b) => J::from(b.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        Value::Vector(items) | Value::List(items) | Value::Set(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => J::Object(entries.iter().map(|(k, v)| (json_key(k), to_json(v))).collect()),
        Value::Tagged(t) => serde_json::json!({ format!("#{}", t.0): to_json(&t.1) }),
    }
}

fn json_key(k: &Value) -> String {
    match k {
        Value::Keyword(k) => k.as_str().to_owned(),
        Value::String(s) => s.to_string(),
        other => format!("{other:?}"),
    }
}
