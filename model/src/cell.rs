//! Cells: any value as one `u64`, so that joins compare machine words.
//!
//! | tag (top 4 bits) | payload (60 bits) |
//! |---|---|
//! | 0 | nil 0, false 1, true 2 |
//! | 1 | long, biased by 2^59, when it fits |
//! | 2 | instant in microseconds, biased, when it fits |
//! | 3 | entity id |
//! | 4 | double whose low 4 mantissa bits are zero: order-flipped bits >> 4 |
//! | 5 | keyword: number in the dictionary |
//! | 6 | string: number in the dictionary |
//! | 7 | long or double that does not fit: number in the dictionary |
//! | 8 | anything else: number in the dictionary |
//!
//! 1. Within one [`Dict`], two cells are equal iff their values are.
//! 2. Cells of tags 1, 2, 3 and 4 order among themselves as their values do;
//!    dictionary numbers have no order.
//! 3. A dictionary only grows. When it is too large the process starts a new
//!    one ([`Dict::current`]); holders of the old one keep it alive.

use crate::{EntityId, Instant, Value};
use hashbrown::HashTable;
use parking_lot::RwLock;
use std::hash::BuildHasher;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A value in 64 bits; see the module's table.
pub type Cell = u64;

const TAG_SHIFT: u32 = 60;
const PAYLOAD: u64 = (1 << TAG_SHIFT) - 1;
const BIAS: i64 = 1 << 59;

/// Tag of small longs.
pub const TAG_LONG: u64 = 1;
/// Tag of instants.
pub const TAG_INSTANT: u64 = 2;
/// Tag of references.
pub const TAG_REF: u64 = 3;
/// Tag of doubles held inline.
pub const TAG_DOUBLE: u64 = 4;
/// Tag of keywords.
pub const TAG_KEYWORD: u64 = 5;
/// Tag of strings.
pub const TAG_STRING: u64 = 6;
/// Tag of numbers and instants too wide for a cell.
pub const TAG_WIDE: u64 = 7;
/// Tag of all other values.
pub const TAG_OTHER: u64 = 8;

/// The cell of nil.
pub const NIL: Cell = 0;
/// The cell of false.
pub const FALSE: Cell = 1;
/// The cell of true.
pub const TRUE: Cell = 2;

/// The tag of a cell.
#[inline]
pub const fn tag(c: Cell) -> u64 {
    c >> TAG_SHIFT
}
/// The cell of an entity.
#[inline]
pub const fn of_ref(e: EntityId) -> Cell {
    (TAG_REF << TAG_SHIFT) | e.raw()
}
/// The entity in a cell, if it holds one.
#[inline]
pub const fn as_ref(c: Cell) -> Option<EntityId> {
    if tag(c) == TAG_REF { Some(EntityId::from_raw(c & PAYLOAD)) } else { None }
}
/// The cell of a small long.
#[inline]
pub const fn of_long(n: i64) -> Option<Cell> {
    if n >= -BIAS && n < BIAS { Some((TAG_LONG << TAG_SHIFT) | (n + BIAS) as u64) } else { None }
}
/// The long in a cell, if it is held inline.
#[inline]
pub const fn as_long(c: Cell) -> Option<i64> {
    if tag(c) == TAG_LONG { Some((c & PAYLOAD) as i64 - BIAS) } else { None }
}
/// The instant in a cell, if it is held inline.
#[inline]
pub const fn as_instant(c: Cell) -> Option<Instant> {
    if tag(c) == TAG_INSTANT { Some(Instant((c & PAYLOAD) as i64 - BIAS)) } else { None }
}
/// The cell of a boolean.
#[inline]
pub const fn of_bool(b: bool) -> Cell {
    if b { TRUE } else { FALSE }
}
/// The double in a cell, if it is held inline.
pub fn as_double(c: Cell) -> Option<f64> {
    if tag(c) != TAG_DOUBLE {
        return None;
    }
    let flipped = (c & PAYLOAD) << 4;
    let bits = if flipped >> 63 == 1 { flipped & !(1 << 63) } else { !(flipped | 0xF) };
    Some(f64::from_bits(bits))
}
fn of_double(d: f64) -> Option<Cell> {
    let bits = d.to_bits();
    if bits & 0xF != 0 {
        return None;
    }
    let flipped = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
    Some((TAG_DOUBLE << TAG_SHIFT) | (flipped >> 4))
}

const SHARDS: usize = 16;

/// A growing two-way dictionary between cells and the values that do not fit one.
pub struct Dict {
    values: boxcar::Vec<Value>,
    shards: [RwLock<HashTable<u32>>; SHARDS],
    hasher: foldhash::fast::RandomState,
    bytes: AtomicUsize,
}

static CURRENT: RwLock<Option<Arc<Dict>>> = RwLock::new(None);

/// Bytes of values after which the process starts a new dictionary.
pub const DICT_BYTES: usize = 2 << 30;

impl Default for Dict {
    fn default() -> Self {
        Dict {
            values: boxcar::Vec::new(),
            shards: std::array::from_fn(|_| RwLock::new(HashTable::new())),
            hasher: foldhash::fast::RandomState::default(),
            bytes: AtomicUsize::new(0),
        }
    }
}

impl Dict {
    /// The process's dictionary. A query takes it once and uses it throughout;
    /// columns remember which one they are coded in.
    pub fn current() -> Arc<Dict> {
        if let Some(d) = CURRENT.read().as_ref().filter(|d| d.bytes() < DICT_BYTES) {
            return d.clone();
        }
        let mut current = CURRENT.write();
        match current.as_ref().filter(|d| d.bytes() < DICT_BYTES) {
            Some(d) => d.clone(),
            None => {
                let fresh = Arc::new(Dict::default());
                *current = Some(fresh.clone());
                fresh
            }
        }
    }

    /// Starts a new dictionary for the process, so that values held by none but the
    /// old one are let go with its last holder.
    pub fn retire() {
        *CURRENT.write() = None;
    }

    /// Approximate bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn inline(v: &Value) -> Result<Cell, u64> {
        Ok(match v {
            Value::Nil => NIL,
            Value::Bool(b) => of_bool(*b),
            Value::Long(n) => return of_long(*n).ok_or(TAG_WIDE),
            Value::Double(d) => return of_double(*d).ok_or(TAG_WIDE),
            Value::Instant(i) if i.0 >= -BIAS && i.0 < BIAS => {
                (TAG_INSTANT << TAG_SHIFT) | (i.0 + BIAS) as u64
            }
            Value::Instant(_) => return Err(TAG_WIDE),
            Value::Ref(e) => of_ref(*e),
            Value::Keyword(_) => return Err(TAG_KEYWORD),
            Value::String(_) => return Err(TAG_STRING),
            _ => return Err(TAG_OTHER),
        })
    }

    /// The cell of a value, entering it when new.
    pub fn encode(&self, v: &Value) -> Cell {
        match Dict::inline(v) {
            Ok(c) => c,
            Err(tag) => (tag << TAG_SHIFT) | u64::from(self.intern(v)),
        }
    }

    /// The cell of a value, unless it would have to be entered: then no cell
    /// made so far can equal it.
    pub fn lookup(&self, v: &Value) -> Option<Cell> {
        match Dict::inline(v) {
            Ok(c) => Some(c),
            Err(tag) => {
                let hash = self.hasher.hash_one(v);
                let shard = self.shards[hash as usize % SHARDS].read();
                let id = *shard.find(hash, |&id| self.values[id as usize] == *v)?;
                Some((tag << TAG_SHIFT) | u64::from(id))
            }
        }
    }

    fn intern(&self, v: &Value) -> u32 {
        let hash = self.hasher.hash_one(v);
        let lock = &self.shards[hash as usize % SHARDS];
        if let Some(&id) = lock.read().find(hash, |&id| self.values[id as usize] == *v) {
            return id;
        }
        let mut shard = lock.write();
        if let Some(&id) = shard.find(hash, |&id| self.values[id as usize] == *v) {
            return id;
        }
        let id = u32::try_from(self.values.push(v.clone())).expect("DICT_BYTES keeps numbers below 2^32");
        self.bytes.fetch_add(std::mem::size_of::<Value>() + 16 + heap_bytes(v), Ordering::Relaxed);
        shard.insert_unique(hash, id, |&id| self.hasher.hash_one(&self.values[id as usize]));
        id
    }

    /// The value of a cell made by this dictionary.
    pub fn decode(&self, c: Cell) -> Value {
        match tag(c) {
            0 => match c {
                NIL => Value::Nil,
                _ => Value::Bool(c == TRUE),
            },
            TAG_LONG => Value::Long(as_long(c).expect("tag checked")),
            TAG_INSTANT => Value::Instant(as_instant(c).expect("tag checked")),
            TAG_REF => Value::Ref(EntityId::from_raw(c & PAYLOAD)),
            TAG_DOUBLE => Value::Double(as_double(c).expect("tag checked")),
            _ => self.values[(c & PAYLOAD) as usize].clone(),
        }
    }

    /// The value behind a dictionary cell, without cloning it; none for inline cells.
    pub fn entry(&self, c: Cell) -> Option<&Value> {
        if tag(c) >= TAG_KEYWORD { self.values.get((c & PAYLOAD) as usize) } else { None }
    }
}

fn heap_bytes(v: &Value) -> usize {
    match v {
        Value::String(s) | Value::Uri(s) => s.len() + 16,
        Value::Keyword(k) => k.as_str().len() + 16,
        Value::Symbol(s) => s.as_str().len() + 16,
        Value::Bytes(b) => b.len() + 16,
        Value::Vector(v) | Value::List(v) | Value::Set(v) => {
            v.iter().map(|v| std::mem::size_of::<Value>() + heap_bytes(v)).sum()
        }
        Value::Map(m) => m.iter().map(|(k, v)| 48 + heap_bytes(k) + heap_bytes(v)).sum(),
        _ => 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_round_trip_and_inline_ones_keep_order() {
        let d = Dict::default();
        for x in [-1e300, -2.5, -0.1, 0.0, 0.1, 2.5, 98.5, f64::MAX, f64::INFINITY] {
            let v = Value::double(x).unwrap();
            assert_eq!(d.decode(d.encode(&v)), v);
        }
        for n in [i64::MIN, -(1 << 59), -1, 0, 1, (1 << 59) - 1, 1 << 59, i64::MAX] {
            assert_eq!(d.decode(d.encode(&Value::Long(n))), Value::Long(n));
        }
        assert!(of_long(-5) < of_long(3));
        assert!(of_double(-2.5) < of_double(-1.0) && of_double(-1.0) < of_double(0.0));
        assert!(of_double(0.0) < of_double(2.5));
        assert_eq!(d.encode(&"a".into()), d.encode(&"a".into()));
        assert_ne!(d.encode(&"a".into()), d.encode(&Value::keyword("a")));
    }
}
