//! Event payloads: any EDN value as compact bytes, read without decoding the whole.
//!
//! | tag | value | tag | value |
//! |---|---|---|---|
//! | 0 1 2 | nil, false, true | 11 | ref: varint |
//! | 3 | long: zigzag varint | 12 | bytes: length, bytes |
//! | 4 | double: 8 bytes | 13 | char: varint |
//! | 5 | instant: zigzag varint | 14 15 16 | vector, list, set: count, items |
//! | 6 | uuid: 16 bytes | 17 | map: count, keys and values |
//! | 7 8 9 10 | keyword, symbol, string, uri: length, text | 18 | tagged: symbol text, value |
//! | | | 19 20 | bigint, bigdec: length, decimal text |
//!
//! 1. Equal values have equal bytes (sets and maps are sorted), so a payload is
//!    compared and hashed by its bytes.
//! 2. JSON objects become maps with keyword keys; the way back gives the same
//!    JSON, except that integers beyond 64 bits come back as strings.

mod json;
mod reader;

pub use json::{of_json, to_json};
pub(crate) use reader::Reader;

use annals_model::{Keyword, Value};
use std::{fmt, sync::Arc};

/// Deepest nesting of a payload.
const DEPTH: usize = 128;

/// A payload could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The text is not JSON.
    #[error("event data is not JSON: {0}")]
    Json(String),
    /// A value did not serialize.
    #[error("event data does not serialize: {0}")]
    Serialize(String),
    /// Nested deeper than 128 levels.
    #[error("event data is nested deeper than 128 levels")]
    TooDeep,
    /// Stored bytes that are not a payload.
    #[error("stored event data is damaged at byte {0}")]
    Damaged(usize),
}

/// An event's payload.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Data(Arc<[u8]>);

impl Data {
    /// Holds a value.
    pub fn of(v: &Value) -> Result<Data, DataError> {
        let mut out = Vec::with_capacity(64);
        encode(v, &mut out, 0)?;
        Ok(Data(out.into()))
    }
    /// From JSON.
    pub fn from_json(json: &serde_json::Value) -> Result<Data, DataError> {
        let mut out = Vec::with_capacity(64);
        encode_json(json, &mut out, 0)?;
        Ok(Data(out.into()))
    }
    /// From bytes that [`Data::bytes`] gave.
    pub(crate) fn stored(bytes: &[u8]) -> Data {
        Data(Arc::from(bytes))
    }
    /// The encoded bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
    /// The whole value.
    pub fn value(&self) -> Result<Value, DataError> {
        let mut r = Reader { bytes: &self.0, at: 0 };
        r.value(0)
    }
    /// The whole value as JSON.
    pub fn to_json(&self) -> Result<serde_json::Value, DataError> {
        Ok(to_json(&self.value()?))
    }
    /// The entry of a map under a keyword or string key, without decoding its neighbours.
    pub fn field(&self, key: &str) -> Result<Option<Value>, DataError> {
        self.path(std::slice::from_ref(&key))
    }
    /// Follows keys into nested maps.
    pub fn path<S: AsRef<str>>(&self, keys: &[S]) -> Result<Option<Value>, DataError> {
        let mut r = Reader { bytes: &self.0, at: 0 };
        for key in keys {
            if !r.enter(key.as_ref())? {
                return Ok(None);
            }
        }
        r.value(0).map(Some)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            Ok(v) => fmt::Debug::fmt(&v, f),
            Err(e) => write!(f, "<{e}>"),
        }
    }
}

/// What can be the payload of an event.
pub trait IntoData {
    /// The payload.
    fn into_data(self) -> Result<Data, DataError>;
}
impl IntoData for Data {
    fn into_data(self) -> Result<Data, DataError> {
        Ok(self)
    }
}
impl IntoData for &Data {
    fn into_data(self) -> Result<Data, DataError> {
        Ok(self.clone())
    }
}
impl IntoData for Value {
    fn into_data(self) -> Result<Data, DataError> {
        Data::of(&self)
    }
}
impl IntoData for &Value {
    fn into_data(self) -> Result<Data, DataError> {
        Data::of(self)
    }
}
impl IntoData for serde_json::Value {
    fn into_data(self) -> Result<Data, DataError> {
        Data::from_json(&self)
    }
}
impl IntoData for &serde_json::Value {
    fn into_data(self) -> Result<Data, DataError> {
        Data::from_json(self)
    }
}
/// JSON text.
impl IntoData for &str {
    fn into_data(self) -> Result<Data, DataError> {
        let json: serde_json::Value =
            serde_json::from_str(self).map_err(|e| DataError::Json(e.to_string()))?;
        Data::from_json(&json)
    }
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

const fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}
const fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

/// Appends a value.
pub(crate) fn encode(v: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), DataError> {
    if depth > DEPTH {
        return Err(DataError::TooDeep);
    }
    match v {
        Value::Nil => out.push(0),
        Value::Bool(b) => out.push(1 + u8::from(*b)),
        Value::Long(n) => {
            out.push(3);
            put_varint(out, zigzag(*n));
        }
        Value::Double(d) => {
            out.push(4);
            out.extend_from_slice(&d.to_bits().to_be_bytes());
        }
        Value::Instant(i) => {
            out.push(5);
            put_varint(out, zigzag(i.0));
        }
        Value::Uuid(u) => {
            out.push(6);
            out.extend_from_slice(u.as_bytes());
        }
        Value::Keyword(k) => {
            out.push(7);
            put_bytes(out, k.as_str().as_bytes());
        }
        Value::Symbol(s) => {
            out.push(8);
            put_bytes(out, s.as_str().as_bytes());
        }
        Value::String(s) => {
            out.push(9);
            put_bytes(out, s.as_bytes());
        }
        Value::Uri(s) => {
            out.push(10);
            put_bytes(out, s.as_bytes());
        }
        Value::Ref(e) => {
            out.push(11);
            put_varint(out, e.raw());
        }
        Value::Bytes(b) => {
            out.push(12);
            put_bytes(out, b);
        }
        Value::Char(c) => {
            out.push(13);
            put_varint(out, u64::from(u32::from(*c)));
        }
        Value::Vector(items) | Value::List(items) | Value::Set(items) => {
            out.push(match v {
                Value::Vector(_) => 14,
                Value::List(_) => 15,
                _ => 16,
            });
            put_varint(out, items.len() as u64);
            for item in items.iter() {
                encode(item, out, depth + 1)?;
            }
        }
        Value::Map(entries) => {
            out.push(17);
            put_varint(out, entries.len() as u64);
            for (k, v) in entries.iter() {
                encode(k, out, depth + 1)?;
                encode(v, out, depth + 1)?;
            }
        }
        Value::Tagged(t) => {
            out.push(18);
            put_bytes(out, t.0.as_str().as_bytes());
            encode(&t.1, out, depth + 1)?;
        }
        Value::BigInt(n) => {
            out.push(19);
            put_bytes(out, n.to_string().as_bytes());
        }
        Value::BigDec(n) => {
            out.push(20);
            put_bytes(out, n.to_string().as_bytes());
        }
    }
    Ok(())
}

fn encode_json(json: &serde_json::Value, out: &mut Vec<u8>, depth: usize) -> Result<(), DataError> {
    use serde_json::Value as J;
    if depth > DEPTH {
        return Err(DataError::TooDeep);
    }
    match json {
        J::Null => out.push(0),
        J::Bool(b) => out.push(1 + u8::from(*b)),
        J::String(s) => {
            out.push(9);
            put_bytes(out, s.as_bytes());
        }
        J::Number(_) => encode(&of_json(json), out, depth)?,
        J::Array(items) => {
            out.push(14);
            put_varint(out, items.len() as u64);
            for item in items {
                encode_json(item, out, depth + 1)?;
            }
        }
        J::Object(entries) => {
            let mut sorted: Vec<(Keyword, &J)> = entries.iter().map(|(k, v)| (Keyword::new(k), v)).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            out.push(17);
            put_varint(out, sorted.len() as u64);
            for (k, v) in sorted {
                out.push(7);
                put_bytes(out, k.as_str().as_bytes());
                encode_json(v, out, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// Appends a number with its sign.
pub(crate) fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, zigzag(n));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_and_fields_are_found_without_decoding() {
        let json =
            serde_json::json!({"b": [1, -2, 2.5, null, true], "a": {"x": {"y": "deep"}}, "big": i64::MAX});
        let d = Data::from_json(&json).unwrap();
        assert_eq!(d.to_json().unwrap(), json);
        assert_eq!(d, Data::of(&of_json(&json)).unwrap());
        assert_eq!(d.path(&["a", "x", "y"]).unwrap(), Some("deep".into()));
        assert_eq!(d.path(&["a", "z"]).unwrap(), None);
        assert_eq!(d.field("b").unwrap().map(|v| v.kind()), Some("vector"));
    }

    #[test]
    fn damaged_bytes_are_an_error_and_never_a_panic() {
        let d = Data::from_json(&serde_json::json!({"k": ["v", 1, {"z": 0.5}]})).unwrap();
        for cut in 0..d.bytes().len() {
            assert!(Data::stored(&d.bytes()[..cut]).value().is_err());
        }
        for i in 0..d.bytes().len() {
            let mut bytes = d.bytes().to_vec();
            bytes[i] ^= 0xff;
            let _ = Data::stored(&bytes).value();
        }
    }
}
