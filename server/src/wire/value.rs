//! Values as JSON, both ways.
//!
//! | EDN | JSON |
//! |---|---|
//! | nil, boolean, string | itself |
//! | long, bigint | a number up to ±2^53, beyond as a string of digits |
//! | double | a number with a fraction; `"##Inf"`, `"##-Inf"` |
//! | bigdec | a string of digits, so that scale survives |
//! | keyword | `":ns/name"` |
//! | instant | RFC 3339 |
//! | uuid, symbol, uri, character | a string |
//! | ref | a number |
//! | bytes | a string, base64 |
//! | vector, list, set | an array |
//! | map | an object; a key that is no keyword or string is its EDN text |
//!
//! 1. That mapping (`Style::Plain`) reads well and is not one to one. In
//!    `Style::Exact` whatever JSON cannot tell apart is `{"#edn": "…"}`, a reference
//!    is `{"#ref": n}`, and [`read`] of what [`write()`] wrote is the same value.
//! 2. Reading without a schema, a string that starts with a colon and reads as a
//!    keyword is one; `{"#string": ":x"}` is how to say the string.

use super::problem::{Class, Problem};
use annals::{Keyword, Value};
use serde_json::Value as Json;
use std::fmt::Write as _;

/// The largest integer JSON readers hold exactly.
pub const EXACT: u64 = 1 << 53;

/// How faithful the JSON is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// The table above.
    #[default]
    Plain,
    /// Nothing is lost.
    Exact,
}

/// Appends `v` as JSON.
pub fn write(out: &mut String, v: &Value, style: Style) {
    match v {
        Value::Nil => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Long(n) if n.unsigned_abs() <= EXACT => drop(write!(out, "{n}")),
        Value::Double(d) if d.is_finite() => drop(write!(out, "{d:?}")),
        Value::String(s) if style == Style::Plain || !s.starts_with(':') => write_str(out, s),
        Value::Vector(items) => write_items(out, items, style),
        Value::Ref(e) if style == Style::Exact => drop(write!(out, "{{\"#ref\":{}}}", e.raw())),
        _ if style == Style::Exact => write_exact(out, v),
        Value::Long(n) => drop(write!(out, "\"{n}\"")),
        Value::BigInt(n) => match i64::try_from(n.as_ref()) {
            Ok(small) if small.unsigned_abs() <= EXACT => drop(write!(out, "{small}")),
            _ => drop(write!(out, "\"{n}\"")),
        },
        Value::Double(d) => write_str(out, if *d > 0.0 { "##Inf" } else { "##-Inf" }),
        Value::BigDec(d) => drop(write!(out, "\"{}\"", d.to_plain_string())),
        Value::Instant(i) => drop(write!(out, "\"{i}\"")),
        Value::Uuid(u) => drop(write!(out, "\"{u}\"")),
        Value::Keyword(k) => write_display(out, k),
        Value::Symbol(s) => write_display(out, s),
        Value::String(s) | Value::Uri(s) => write_str(out, s),
        Value::Ref(e) => drop(write!(out, "{}", e.raw())),
        Value::Bytes(b) => write_str(out, &base64(b)),
        Value::Char(c) => write_str(out, c.encode_utf8(&mut [0; 4])),
        Value::List(items) | Value::Set(items) => write_items(out, items, style),
        Value::Map(entries) => {
            out.push('{');
            for (i, (k, v)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_key(out, k);
                out.push(':');
                write(out, v, style);
            }
            out.push('}');
        }
        Value::Tagged(t) => {
            out.push('{');
            write_str(out, &format!("#{}", t.0));
            out.push(':');
            write(out, &t.1, style);
            out.push('}');
        }
    }
}

fn write_exact(out: &mut String, v: &Value) {
    out.push_str("{\"#edn\":");
    write_str(out, &annals::edn::print(v));
    out.push('}');
}

fn write_items(out: &mut String, items: &[Value], style: Style) {
    out.push('[');
    for (i, v) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(out, v, style);
    }
    out.push(']');
}

fn write_key(out: &mut String, key: &Value) {
    match key {
        Value::String(s) => write_str(out, s),
        Value::Keyword(k) => write_display(out, k),
        other => write_str(out, &annals::edn::print(other)),
    }
}

fn write_display(out: &mut String, text: &impl std::fmt::Display) {
    write_str(out, &text.to_string());
}

/// Appends a JSON string.
pub fn write_str(out: &mut String, s: &str) {
    out.push('"');
    let mut clean = 0;
    for (i, b) in s.bytes().enumerate() {
        let escape: Option<&str> = match b {
            b'"' => Some("\\\""),
            b'\\' => Some("\\\\"),
            b'\n' => Some("\\n"),
            b'\r' => Some("\\r"),
            b'\t' => Some("\\t"),
            0..0x20 | 0x7f => None,
            _ => continue,
        };
        out.push_str(&s[clean..i]);
        match escape {
            Some(e) => out.push_str(e),
            None => drop(write!(out, "\\u{b:04x}")),
        }
        clean = i + 1;
    }
    out.push_str(&s[clean..]);
    out.push('"');
}

/// A value as a JSON tree, for small documents.
pub fn to_json(v: &Value) -> Json {
    let mut text = String::new();
    write(&mut text, v, Style::Plain);
    serde_json::from_str(&text).expect("write makes JSON")
}

/// Reads a JSON tree as a value, without a schema to consult.
pub fn read(json: &Json) -> Result<Value, Problem> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => Value::Long(i),
            (None, Some(f)) if n.is_f64() => Value::double(f).ok_or_else(|| bad("a number is not finite"))?,
            _ => edn(&format!("{n}N"))?,
        },
        Json::String(s) => match keyword(s) {
            Some(k) => Value::Keyword(k),
            None => Value::string(s),
        },
        Json::Array(items) => Value::vector(items.iter().map(read).collect::<Result<Vec<_>, _>>()?),
        Json::Object(members) => {
            if let Some(escaped) = escaped(members)? {
                return Ok(escaped);
            }
            let entries = members.iter().map(|(k, v)| Ok((key(k), read(v)?)));
            Value::map(entries.collect::<Result<Vec<_>, Problem>>()?)
        }
    })
}

/// `{"#edn": "…"}`, `{"#string": "…"}` and `{"#ref": n}`.
pub fn escaped(members: &serde_json::Map<String, Json>) -> Result<Option<Value>, Problem> {
    if members.len() != 1 {
        return Ok(None);
    }
    if let Some(text) = members.get("#edn") {
        return edn(text.as_str().ok_or_else(|| bad("#edn takes a string"))?).map(Some);
    }
    if let Some(text) = members.get("#string") {
        return Ok(Some(Value::string(text.as_str().ok_or_else(|| bad("#string takes a string"))?)));
    }
    if let Some(e) = members.get("#ref") {
        let e = e.as_u64().ok_or_else(|| bad("#ref takes an entity's id"))?;
        return Ok(Some(Value::Ref(annals::EntityId::from_raw(e))));
    }
    Ok(None)
}

/// A map key: a keyword when it looks like one, else a string.
pub fn key(text: &str) -> Value {
    keyword(text).map_or_else(|| Value::string(text), Value::Keyword)
}

/// `":ns/name"` as a keyword, if the whole text reads as one.
pub fn keyword(text: &str) -> Option<Keyword> {
    let name = text.strip_prefix(':')?;
    let ordinary = |c: char| c.is_alphanumeric() || "*!_?$%&=<>.+-/#'|:".contains(c);
    (!name.is_empty() && !name.starts_with([':', '/']) && !name.ends_with('/') && name.chars().all(ordinary))
        .then(|| Keyword::new(name))
}

fn edn(text: &str) -> Result<Value, Problem> {
    annals::edn::read_value(text)
        .map_err(|e| Problem::from_diagnostics(Class::Syntax, e.0).with("of", "#edn"))
}

fn bad(what: &str) -> Problem {
    Problem::new(Class::Syntax, "json/value", what)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = BASE64[(n >> (18 - 6 * i) & 63) as usize] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

/// Bytes of a base64 text; None when it is not one.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(body.len() * 3 / 4);
    let (mut n, mut bits) = (0u32, 0);
    for b in body.bytes() {
        n = n << 6 | u32::try_from(BASE64.iter().position(|d| *d == b)?).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((n >> bits) as u8);
            n &= (1 << bits) - 1;
        }
    }
    (n == 0).then_some(out)
}
