//! Values: everything EDN can say, and the part of it that a datom can hold.
//!
//! 1. One total order over all values, by type tag first (the order of the
//!    variants below), then by value. Storage keys sort the same way (`codec`).
//! 2. Equality is by type and value: `1` and `1.0` differ. The predicate `=`
//!    of queries compares numbers across types; that is the query's business.
//! 3. A double is never NaN and never -0.0: [`Value::double`] is the only door.
//! 4. Two decimals of different scale are different values (`1.0M`, `1.00M`),
//!    next to each other in the order.
//! 5. Sets and maps are sorted and hold no duplicates: build them with
//!    [`Value::set`] and [`Value::map`].

use crate::{EntityId, Instant, Keyword, Symbol};
use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use std::{cmp::Ordering, fmt, hash, sync::Arc};
use uuid::Uuid;

/// Any EDN value.
#[derive(Clone)]
pub enum Value {
    /// `nil`: never stored on its own, only as a slot of a tuple.
    Nil,
    /// `true`, `false`.
    Bool(bool),
    /// 64-bit integer.
    Long(i64),
    /// Integer of any size, `42N`.
    BigInt(Arc<BigInt>),
    /// IEEE double; never NaN, never -0.0.
    Double(f64),
    /// Decimal of any precision, with its scale, `1.50M`.
    BigDec(Arc<BigDecimal>),
    /// `#inst`, microseconds UTC.
    Instant(Instant),
    /// `#uuid`.
    Uuid(Uuid),
    /// `:ns/name`.
    Keyword(Keyword),
    /// `ns/name`.
    Symbol(Symbol),
    /// UTF-8 text.
    String(Arc<str>),
    /// A URI, held as written.
    Uri(Arc<str>),
    /// An entity.
    Ref(EntityId),
    /// Bytes, compared as unsigned.
    Bytes(Arc<[u8]>),
    /// `\c`.
    Char(char),
    /// A vector; as a stored value, a tuple.
    Vector(Arc<[Value]>),
    /// `(…)`; equal only to another list.
    List(Arc<[Value]>),
    /// Sorted, without duplicates.
    Set(Arc<[Value]>),
    /// Sorted by key, keys unique.
    Map(Arc<[(Value, Value)]>),
    /// `#tag value`, for tags we do not know.
    Tagged(Arc<(Symbol, Value)>),
}

impl Value {
    /// A double, unless it is NaN. Negative zero becomes zero.
    pub fn double(d: f64) -> Option<Value> {
        if d.is_nan() { None } else { Some(Value::Double(if d == 0.0 { 0.0 } else { d })) }
    }
    /// A keyword from its text without the colon.
    pub fn keyword(text: &str) -> Value {
        Value::Keyword(Keyword::new(text))
    }
    /// A string.
    pub fn string(text: impl AsRef<str>) -> Value {
        Value::String(Arc::from(text.as_ref()))
    }
    /// A vector.
    pub fn vector(items: impl IntoIterator<Item = Value>) -> Value {
        Value::Vector(items.into_iter().collect())
    }
    /// A set: sorted, duplicates dropped.
    pub fn set(items: impl IntoIterator<Item = Value>) -> Value {
        let mut items: Vec<Value> = items.into_iter().collect();
        items.sort();
        items.dedup();
        Value::Set(items.into())
    }
    /// A map: sorted by key; of equal keys the last wins.
    pub fn map(entries: impl IntoIterator<Item = (Value, Value)>) -> Value {
        let mut entries: Vec<(Value, Value)> = entries.into_iter().collect();
        entries.reverse();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, kept| later.0 == kept.0);
        Value::Map(entries.into())
    }
    /// The entry of a map under `key`.
    pub fn get(&self, key: &Value) -> Option<&Value> {
        match self {
            Value::Map(m) => m.binary_search_by(|(k, _)| k.cmp(key)).ok().map(|i| &m[i].1),
            _ => None,
        }
    }
    /// True for `nil` and `false`.
    pub fn is_falsy(&self) -> bool {
        matches!(self, Value::Nil | Value::Bool(false))
    }
    /// The value type a datom would need to hold this, if any does. A vector answers
    /// [`ValueType::Tuple`] whatever is in it.
    pub fn value_type(&self) -> Option<ValueType> {
        Some(match self {
            Value::Bool(_) => ValueType::Boolean,
            Value::Long(_) => ValueType::Long,
            Value::BigInt(_) => ValueType::BigInt,
            Value::Double(_) => ValueType::Double,
            Value::BigDec(_) => ValueType::BigDec,
            Value::Instant(_) => ValueType::Instant,
            Value::Uuid(_) => ValueType::Uuid,
            Value::Keyword(_) => ValueType::Keyword,
            Value::Symbol(_) => ValueType::Symbol,
            Value::String(_) => ValueType::String,
            Value::Uri(_) => ValueType::Uri,
            Value::Ref(_) => ValueType::Ref,
            Value::Bytes(_) => ValueType::Bytes,
            Value::Vector(_) => ValueType::Tuple,
            Value::Nil
            | Value::Char(_)
            | Value::List(_)
            | Value::Set(_)
            | Value::Map(_)
            | Value::Tagged(_) => return None,
        })
    }
    /// What to call this kind of value in a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "boolean",
            Value::Long(_) => "long",
            Value::BigInt(_) => "bigint",
            Value::Double(_) => "double",
            Value::BigDec(_) => "bigdec",
            Value::Instant(_) => "instant",
            Value::Uuid(_) => "uuid",
            Value::Keyword(_) => "keyword",
            Value::Symbol(_) => "symbol",
            Value::String(_) => "string",
            Value::Uri(_) => "uri",
            Value::Ref(_) => "ref",
            Value::Bytes(_) => "bytes",
            Value::Char(_) => "character",
            Value::Vector(_) => "vector",
            Value::List(_) => "list",
            Value::Set(_) => "set",
            Value::Map(_) => "map",
            Value::Tagged(_) => "tagged value",
        }
    }
    fn tag(&self) -> u8 {
        match self {
            Value::Nil => 0,
            Value::Bool(_) => 1,
            Value::Long(_) => 2,
            Value::BigInt(_) => 3,
            Value::Double(_) => 4,
            Value::BigDec(_) => 5,
            Value::Instant(_) => 6,
            Value::Uuid(_) => 7,
            Value::Keyword(_) => 8,
            Value::Symbol(_) => 9,
            Value::String(_) => 10,
            Value::Uri(_) => 11,
            Value::Ref(_) => 12,
            Value::Bytes(_) => 13,
            Value::Char(_) => 14,
            Value::Vector(_) => 15,
            Value::List(_) => 16,
            Value::Set(_) => 17,
            Value::Map(_) => 18,
            Value::Tagged(_) => 19,
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        use Value::*;
        match (self, other) {
            (Nil, Nil) => Ordering::Equal,
            (Bool(a), Bool(b)) => a.cmp(b),
            (Long(a), Long(b)) => a.cmp(b),
            (BigInt(a), BigInt(b)) => a.cmp(b),
            (Double(a), Double(b)) => a.total_cmp(b),
            (BigDec(a), BigDec(b)) => a
                .as_ref()
                .cmp(b.as_ref())
                .then_with(|| a.fractional_digit_count().cmp(&b.fractional_digit_count())),
            (Instant(a), Instant(b)) => a.cmp(b),
            (Uuid(a), Uuid(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Keyword(a), Keyword(b)) => a.cmp(b),
            (Symbol(a), Symbol(b)) => a.cmp(b),
            (String(a), String(b)) | (Uri(a), Uri(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Ref(a), Ref(b)) => a.cmp(b),
            (Bytes(a), Bytes(b)) => a.cmp(b),
            (Char(a), Char(b)) => a.cmp(b),
            (Vector(a), Vector(b)) | (List(a), List(b)) | (Set(a), Set(b)) => a.cmp(b),
            (Map(a), Map(b)) => a.cmp(b),
            (Tagged(a), Tagged(b)) => a.cmp(b),
            _ => self.tag().cmp(&other.tag()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Value {}

impl hash::Hash for Value {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        use Value::*;
        state.write_u8(self.tag());
        match self {
            Nil => {}
            Bool(b) => b.hash(state),
            Long(n) => n.hash(state),
            BigInt(n) => n.hash(state),
            Double(d) => d.to_bits().hash(state),
            BigDec(d) => {
                d.normalized().hash(state);
                d.fractional_digit_count().hash(state);
            }
            Instant(i) => i.hash(state),
            Uuid(u) => u.hash(state),
            Keyword(k) => k.hash(state),
            Symbol(s) => s.hash(state),
            String(s) | Uri(s) => s.hash(state),
            Ref(e) => e.hash(state),
            Bytes(b) => b.hash(state),
            Char(c) => c.hash(state),
            Vector(v) | List(v) | Set(v) => v.hash(state),
            Map(m) => m.hash(state),
            Tagged(t) => t.hash(state),
        }
    }
}

impl fmt::Debug for Value {
    /// Close to EDN; the exact printer is `query::edn`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => write!(f, "nil"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Long(n) => write!(f, "{n}"),
            Value::BigInt(n) => write!(f, "{n}N"),
            Value::Double(d) => write!(f, "{d:?}"),
            Value::BigDec(d) => write!(f, "{d}M"),
            Value::Instant(i) => write!(f, "#inst \"{i}\""),
            Value::Uuid(u) => write!(f, "#uuid \"{u}\""),
            Value::Keyword(k) => write!(f, "{k}"),
            Value::Symbol(s) => write!(f, "{s}"),
            Value::String(s) => write!(f, "{s:?}"),
            Value::Uri(s) => write!(f, "#uri {s:?}"),
            Value::Ref(e) => write!(f, "{e:?}"),
            Value::Bytes(b) => write!(f, "#bytes {b:02x?}"),
            Value::Char(c) => write!(f, "\\{c}"),
            Value::Vector(v) => f.debug_list().entries(v.iter()).finish(),
            Value::List(v) => f.debug_tuple("").field(v).finish(),
            Value::Set(v) => f.debug_set().entries(v.iter()).finish(),
            Value::Map(m) => f.debug_map().entries(m.iter().map(|(k, v)| (k, v))).finish(),
            Value::Tagged(t) => write!(f, "#{} {:?}", t.0, t.1),
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Value::string(s)
    }
}
impl From<String> for Value {
    fn from(s: String) -> Value {
        Value::String(s.into())
    }
}
impl From<i64> for Value {
    fn from(n: i64) -> Value {
        Value::Long(n)
    }
}
impl From<i32> for Value {
    fn from(n: i32) -> Value {
        Value::Long(n.into())
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Bool(b)
    }
}
impl From<EntityId> for Value {
    fn from(e: EntityId) -> Value {
        Value::Ref(e)
    }
}
impl From<Keyword> for Value {
    fn from(k: Keyword) -> Value {
        Value::Keyword(k)
    }
}
impl From<Instant> for Value {
    fn from(i: Instant) -> Value {
        Value::Instant(i)
    }
}
impl From<Uuid> for Value {
    fn from(u: Uuid) -> Value {
        Value::Uuid(u)
    }
}

/// The type of an attribute's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named after its :db.type")]
pub enum ValueType {
    Boolean,
    Long,
    BigInt,
    Double,
    BigDec,
    Instant,
    Uuid,
    Keyword,
    Symbol,
    String,
    Uri,
    Ref,
    Bytes,
    Tuple,
}

impl ValueType {
    /// Every type, in the order of values.
    pub const ALL: [ValueType; 14] = [
        ValueType::Boolean,
        ValueType::Long,
        ValueType::BigInt,
        ValueType::Double,
        ValueType::BigDec,
        ValueType::Instant,
        ValueType::Uuid,
        ValueType::Keyword,
        ValueType::Symbol,
        ValueType::String,
        ValueType::Uri,
        ValueType::Ref,
        ValueType::Bytes,
        ValueType::Tuple,
    ];

    /// The name within `db.type/`.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::Boolean => "boolean",
            ValueType::Long => "long",
            ValueType::BigInt => "bigint",
            ValueType::Double => "double",
            ValueType::BigDec => "bigdec",
            ValueType::Instant => "instant",
            ValueType::Uuid => "uuid",
            ValueType::Keyword => "keyword",
            ValueType::Symbol => "symbol",
            ValueType::String => "string",
            ValueType::Uri => "uri",
            ValueType::Ref => "ref",
            ValueType::Bytes => "bytes",
            ValueType::Tuple => "tuple",
        }
    }

    /// The type called `db.type/NAME`.
    pub fn from_name(name: &str) -> Option<ValueType> {
        ValueType::ALL.into_iter().find(|t| t.name() == name)
    }
}
