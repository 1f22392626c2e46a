//! Rust types as event data and back, by serde: an enum's variant is a name, and
//! what it holds is a payload.
//!
//! 1. Only what can be read back is written: [`write`] checks it.
//! 2. A variant is named as serde names it (`#[serde(rename = "…")]` included); the
//!    enum's own name, its module and the order of its variants are never stored.
//! 3. EDN values that JSON has not (keywords, uuids, instants) are read as their
//!    text, numbers beyond 64 bits as their digits; an erased value reads as `None`.

use crate::event::data::of_json;
use annals_model::Value;
use serde::{
    Serialize,
    de::{
        self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
        SeqAccess, VariantAccess, Visitor,
    },
    forward_to_deserialize_any,
};
use std::fmt;

/// A value does not have the shape of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Shape(pub String);

impl de::Error for Shape {
    fn custom<M: fmt::Display>(msg: M) -> Shape {
        Shape(msg.to_string())
    }
}

/// A serializable value as data.
pub(crate) fn to_value<S: Serialize>(s: &S) -> Result<Value, Shape> {
    Ok(of_json(&serde_json::to_value(s).map_err(|e| Shape(e.to_string()))?))
}

/// A value of a type from data.
pub(crate) fn from_value<D: DeserializeOwned>(v: &Value) -> Result<D, Shape> {
    D::deserialize(De(v))
}

/// The name of a variant and what it holds. What is no enum has no name.
pub(crate) fn write<S: Serialize + DeserializeOwned>(s: &S) -> Result<(Option<String>, Value), Shape> {
    use serde_json::Value as J;
    let json = serde_json::to_value(s).map_err(|e| Shape(e.to_string()))?;
    let (name, payload) = match (variants::<S>(), json) {
        (Some(_), J::String(name)) => (Some(name), Value::map([])),
        (Some(_), J::Object(entries)) if entries.len() == 1 => {
            let (name, payload) = entries.into_iter().next().unwrap_or_default();
            (Some(name), of_json(&payload))
        }
        (Some(_), _) => return Err(Shape("an enum is tagged externally: no #[serde(tag, untagged)]".into())),
        (None, json) => (None, of_json(&json)),
    };
    read::<S>(name.as_deref().unwrap_or_default(), &payload)
        .map_err(|e| Shape(format!("what was written cannot be read back: {e}")))?;
    Ok((name, payload))
}

/// The value of a variant and what it holds; of what is no enum, the name is not looked at.
pub(crate) fn read<D: DeserializeOwned>(name: &str, payload: &Value) -> Result<D, Shape> {
    match variants::<D>() {
        Some(_) => D::deserialize(Named(name, payload)),
        None => from_value(payload),
    }
}

/// The names of an enum's variants; none when the type is no enum.
pub(crate) fn variants<D: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut found = None;
    let _ = D::deserialize(Spy(&mut found));
    found
}

/// The last part of a type's name: for people to read, not to be relied on.
pub(crate) fn type_name<T>() -> String {
    let name = std::any::type_name::<T>();
    let bare = name.split('<').next().unwrap_or(name);
    bare.rsplit("::").next().unwrap_or(bare).to_owned()
}

/// Listens to what a type asks of its deserializer, and gives it nothing.
struct Spy<'s>(&'s mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Spy<'_> {
    type Error = Shape;
    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Shape> {
        Err(Shape(String::new()))
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Shape> {
        v.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Shape> {
        *self.0 = Some(variants);
        Err(Shape(String::new()))
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A variant's name and content as an enum.
struct Named<'v>(&'v str, &'v Value);

impl<'de> Deserializer<'de> for Named<'_> {
    type Error = Shape;
    fn deserialize_any<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Shape> {
        v.visit_enum(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Shape> {
        v.visit_newtype_struct(self)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, 'v> EnumAccess<'de> for Named<'v> {
    type Error = Shape;
    type Variant = Content<'v>;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content<'v>), Shape> {
        let name = seed.deserialize(self.0.into_deserializer())?;
        Ok((name, Content(self.1)))
    }
}

/// What a variant holds.
struct Content<'v>(&'v Value);

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Shape;
    fn unit_variant(self) -> Result<(), Shape> {
        match self.0 {
            Value::Nil => Ok(()),
            Value::Map(entries) if entries.is_empty() => Ok(()),
            other => Err(Shape(format!("it holds nothing, got {}", other.kind()))),
        }
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Shape> {
        seed.deserialize(De(self.0))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, v: V) -> Result<V::Value, Shape> {
        De(self.0).deserialize_seq(v)
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], v: V) -> Result<V::Value, Shape> {
        De(self.0).deserialize_map(v)
    }
}

/// Data as serde reads it.
struct De<'v>(&'v Value);

/// What stands for a value whose subject was erased.
fn is_erased(v: &Value) -> bool {
    matches!(v, Value::Keyword(k) if k.as_str() == crate::event::seal::ERASED)
}

fn visit_big<'de, V: Visitor<'de>>(digits: &str, v: V) -> Result<V::Value, Shape> {
    match (digits.parse(), digits.parse()) {
        (Ok(n), _) => v.visit_u64(n),
        (_, Ok(n)) => v.visit_i128(n),
        _ => v.visit_str(digits),
    }
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Shape;
    fn deserialize_any<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Shape> {
        match self.0 {
            Value::Nil => v.visit_unit(),
            Value::Bool(b) => v.visit_bool(*b),
            Value::Long(n) => v.visit_i64(*n),
            Value::Double(d) => v.visit_f64(*d),
            Value::Ref(e) => v.visit_u64(e.raw()),
            Value::String(s) | Value::Uri(s) => v.visit_str(s),
            Value::Keyword(k) => v.visit_str(k.as_str()),
            Value::Symbol(s) => v.visit_str(s.as_str()),
            Value::Instant(i) => v.visit_string(i.to_string()),
            Value::Uuid(u) => v.visit_string(u.to_string()),
            Value::BigInt(n) => visit_big(&n.to_string(), v),
            Value::BigDec(n) => v.visit_string(n.to_string()),
            Value::Char(c) => v.visit_char(*c),
            Value::Bytes(b) => v.visit_bytes(b),
            Value::Vector(items) | Value::List(items) | Value::Set(items) => v.visit_seq(Items(items.iter())),
            Value::Map(entries) => v.visit_map(Entries { rest: entries.iter(), value: None }),
            Value::Tagged(t) => Err(Shape(format!("a value tagged #{} has no shape in Rust", t.0))),
        }
    }
    fn deserialize_option<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Shape> {
        if *self.0 == Value::Nil || is_erased(self.0) { v.visit_none() } else { v.visit_some(self) }
    }
    fn deserialize_unit<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Shape> {
        Content(self.0).unit_variant()?;
        v.visit_unit()
    }
    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Shape> {
        self.deserialize_unit(v)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Shape> {
        v.visit_newtype_struct(self)
    }
    fn deserialize_f64<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Shape> {
        match self.0 {
            Value::Long(n) => v.visit_i64(*n),
            _ => self.deserialize_any(v),
        }
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, Shape> {
        const EMPTY: &Value = &Value::Nil;
        match self.0 {
            Value::String(s) => v.visit_enum(Named(s, EMPTY)),
            Value::Keyword(k) => v.visit_enum(Named(k.as_str(), EMPTY)),
            Value::Map(entries) if entries.len() == 1 => {
                let (name, payload) = &entries[0];
                v.visit_enum(Named(&key_text(name), payload))
            }
            other => Err(Shape(format!(
                "expected a variant: its name, or a map of its name; got {}",
                other.kind()
            ))),
        }
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 char str string bytes byte_buf
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'v>(std::slice::Iter<'v, Value>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Shape;
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Shape> {
        self.0.next().map(|v| seed.deserialize(De(v))).transpose()
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'v> {
    rest: std::slice::Iter<'v, (Value, Value)>,
    value: Option<&'v Value>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Shape;
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Shape> {
        let Some((k, v)) = self.rest.next() else { return Ok(None) };
        self.value = Some(v);
        seed.deserialize(KeyDe(key_text(k))).map(Some)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Shape> {
        match self.value.take() {
            Some(v) => seed.deserialize(De(v)).map_err(|e| Shape(e.0)),
            None => Err(Shape("a value was asked for before its key".into())),
        }
    }
}

fn key_text(k: &Value) -> String {
    match k {
        Value::Keyword(k) => k.as_str().to_owned(),
        Value::String(s) => s.to_string(),
        Value::Long(n) => n.to_string(),
        other => format!("{other:?}"),
    }
}

/// A key of a map: text, or what the text reads as.
struct KeyDe(String);

macro_rules! parsed {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Shape> {
            match self.0.parse() {
                Ok(n) => v.$visit(n),
                Err(_) => v.visit_string(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for KeyDe {
    type Error = Shape;
    fn deserialize_any<V: Visitor<'de>>(self, v: V) -> Result<V::Value, Shape> {
        v.visit_string(self.0)
    }
    parsed! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i64 deserialize_i16 visit_i64 deserialize_i32 visit_i64 deserialize_i64 visit_i64
        deserialize_u8 visit_u64 deserialize_u16 visit_u64 deserialize_u32 visit_u64 deserialize_u64 visit_u64
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Shape> {
        v.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, Shape> {
        v.visit_enum(Named(&self.0, &Value::Nil))
    }
    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line {
        sku: String,
        amount: u64,
        note: Option<String>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum E {
        Opened,
        Named(String),
        Moved(i32, f64),
        Placed {
            lines: Vec<Line>,
            by: BTreeMap<u32, bool>,
        },
        #[serde(rename = "WasOpened")]
        Renamed(Box<E>),
    }

    #[test]
    fn every_shape_of_variant_is_written_and_read_back() {
        let line = Line { sku: "a b/c".into(), amount: u64::MAX, note: None };
        let all = [
            ("Opened", E::Opened),
            ("Named", E::Named(String::new())),
            ("Moved", E::Moved(-1, 2.0)),
            ("Placed", E::Placed { lines: vec![line], by: BTreeMap::from([(7, true)]) }),
            ("WasOpened", E::Renamed(Box::new(E::Opened))),
        ];
        for (name, e) in all {
            let (written, payload) = write(&e).unwrap();
            assert_eq!(written.as_deref(), Some(name));
            assert_eq!(read::<E>(name, &payload).unwrap(), e);
        }
        assert_eq!(variants::<E>().unwrap(), ["Opened", "Named", "Moved", "Placed", "WasOpened"]);
        assert_eq!(variants::<Line>(), None);
    }

    #[test]
    fn what_cannot_be_read_back_is_not_written() {
        #[derive(Debug, Serialize, Deserialize)]
        enum Odd {
            Rate(f64),
        }
        assert!(write(&Odd::Rate(f64::NAN)).is_err());
        assert!(write(&Odd::Rate(1.5)).is_ok());
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(tag = "type")]
        enum Internal {
            A { n: i64 },
        }
        assert_eq!(variants::<Internal>(), None, "it asks for anything, so it is written whole");
        assert_eq!(write(&Internal::A { n: 1 }).unwrap().0, None);
    }

    #[test]
    fn edn_reads_as_text_and_an_erased_value_as_none() {
        let map = Value::map([
            (Value::keyword("sku"), Value::keyword("red/large")),
            (Value::keyword("amount"), Value::Long(2)),
            (Value::keyword("note"), Value::keyword(crate::event::seal::ERASED)),
        ]);
        let line = Line { sku: "red/large".into(), amount: 2, note: None };
        assert_eq!(from_value::<Line>(&map).unwrap(), line);
    }
}
