//! Reading payloads from bytes: whole, or a field without the rest. Damaged bytes are an error, never a panic.

use super::{DEPTH, DataError, unzigzag};
use annals_model::{EntityId, Instant, Keyword, Symbol, Value};
use std::sync::Arc;
use uuid::Uuid;

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
    pub(super) fn enter(&mut self, key: &str) -> Result<bool, DataError> {
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
