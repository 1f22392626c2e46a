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

use annals_model::{EntityId, Instant, Keyword, Symbol, Value};
use std::{fmt, sync::Arc};
use uuid::Uuid;

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

/// Reads values from bytes.
pub(crate) struct Reader<'a> {
    /// Everything.
    pub bytes: &'a [u8],
    /// The next byte to read.
    pub at: usize,
}

impl<'a> Reader<'a> {
    /// A reader from the first byte on.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }
    fn damaged<X>(&self) -> Result<X, DataError> {
        Err(DataError::Damaged(self.at))
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DataError> {
        let Some(b) = self.bytes.get(self.at) else { return self.damaged() };
        self.at += 1;
        Ok(*b)
    }
    /// A varint.
    pub fn varint(&mut self) -> Result<u64, DataError> {
        let (mut n, mut shift) = (0u64, 0);
        loop {
            let b = self.u8()?;
            n |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(n);
            }
            shift += 7;
            if shift > 63 {
                return self.damaged();
            }
        }
    }
    /// Exactly `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DataError> {
        let Some(end) = self.at.checked_add(n).filter(|end| *end <= self.bytes.len()) else {
            return self.damaged();
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }
    /// A length and its bytes.
    pub fn slice(&mut self) -> Result<&'a [u8], DataError> {
        let n = self.varint()?;
        match usize::try_from(n) {
            Ok(n) => self.take(n),
            Err(_) => self.damaged(),
        }
    }
    /// A length and its text.
    pub fn text(&mut self) -> Result<&'a str, DataError> {
        let at = self.at;
        std::str::from_utf8(self.slice()?).map_err(|_| DataError::Damaged(at))
    }
    /// A number and its sign.
    pub fn signed(&mut self) -> Result<i64, DataError> {
        self.varint().map(unzigzag)
    }
    /// Moves to the value under `key` when this is a map that has it.
    fn enter(&mut self, key: &str) -> Result<bool, DataError> {
        if self.u8()? != 17 {
            return Ok(false);
        }
        for _ in 0..self.varint()? {
            let tag = self.bytes.get(self.at).copied();
            if matches!(tag, Some(7 | 9)) {
                self.at += 1;
                if self.slice()? == key.as_bytes() {
                    return Ok(true);
                }
            } else {
                self.skip(0)?;
            }
            self.skip(0)?;
        }
        Ok(false)
    }
    fn skip(&mut self, depth: usize) -> Result<(), DataError> {
        if depth > DEPTH {
            return Err(DataError::TooDeep);
        }
        match self.u8()? {
            0..=2 => {}
            3 | 5 | 11 | 13 => {
                self.varint()?;
            }
            4 => {
                self.take(8)?;
            }
            6 => {
                self.take(16)?;
            }
            7..=10 | 12 | 19 | 20 => {
                self.slice()?;
            }
            14..=16 => {
                for _ in 0..self.varint()? {
                    self.skip(depth + 1)?;
                }
            }
            17 => {
                for _ in 0..self.varint()? {
                    self.skip(depth + 1)?;
                    self.skip(depth + 1)?;
                }
            }
            18 => {
                self.slice()?;
                self.skip(depth + 1)?;
            }
            _ => return self.damaged(),
        }
        Ok(())
    }
    /// One value.
    pub fn value(&mut self, depth: usize) -> Result<Value, DataError> {
        if depth > DEPTH {
            return Err(DataError::TooDeep);
        }
        let start = self.at;
        let damaged = || DataError::Damaged(start);
        Ok(match self.u8()? {
            0 => Value::Nil,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Long(self.signed()?),
            4 => {
                let bits = u64::from_be_bytes(self.take(8)?.try_into().map_err(|_| damaged())?);
                Value::double(f64::from_bits(bits)).ok_or_else(damaged)?
            }
            5 => Value::Instant(Instant(self.signed()?)),
            6 => Value::Uuid(Uuid::from_slice(self.take(16)?).map_err(|_| damaged())?),
            7 => Value::Keyword(Keyword::new(self.text()?)),
            8 => Value::Symbol(Symbol::new(self.text()?)),
            9 => Value::string(self.text()?),
            10 => Value::Uri(Arc::from(self.text()?)),
            11 => Value::Ref(EntityId::from_raw(self.varint()?)),
            12 => Value::Bytes(Arc::from(self.slice()?)),
            13 => {
                Value::Char(u32::try_from(self.varint()?).ok().and_then(char::from_u32).ok_or_else(damaged)?)
            }
            tag @ 14..=16 => {
                let n = self.varint()?;
                let mut items = Vec::with_capacity(n.min(1024) as usize);
                for _ in 0..n {
                    items.push(self.value(depth + 1)?);
                }
                match tag {
                    14 => Value::Vector(items.into()),
                    15 => Value::List(items.into()),
                    _ => Value::set(items),
                }
            }
            17 => {
                let n = self.varint()?;
                let mut entries = Vec::with_capacity(n.min(1024) as usize);
                for _ in 0..n {
                    entries.push((self.value(depth + 1)?, self.value(depth + 1)?));
                }
                Value::Map(entries.into())
            }
            18 => Value::Tagged(Arc::new((Symbol::new(self.text()?), self.value(depth + 1)?))),
            19 => Value::BigInt(Arc::new(self.text()?.parse().map_err(|_| damaged())?)),
            20 => Value::BigDec(Arc::new(self.text()?.parse().map_err(|_| damaged())?)),
            _ => return Err(damaged()),
        })
    }
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
