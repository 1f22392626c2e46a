//! Bytes to values, and past them without making any. Every byte sequence is a value or an error.

use super::{part::*, write::complement, *};
use crate::{Instant, Keyword, Symbol};
use bigdecimal::BigDecimal;
use num_bigint::{BigInt, BigUint, Sign};
use std::sync::Arc;
use uuid::Uuid;

/// A long whose first byte `tag` stands before `at`, and how many bytes it takes from there;
/// `zero` is the tag of zero.
#[inline]
pub(super) fn long(bytes: &[u8], at: usize, zero: u8, tag: u8) -> Result<(i64, usize), CodecError> {
    let (negative, len) = if tag >= zero { (false, tag - zero) } else { (true, zero - 1 - tag) };
    let n = number(bytes, at, usize::from(len))?;
    // The bytes of a negative number that are not written are all ones.
    let fill = if negative { u64::MAX.checked_shl(8 * u32::from(len)).unwrap_or(0) } else { 0 };
    Ok(((n | fill) as i64, usize::from(len)))
}

pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, CodecError> {
        let b = *self.bytes.get(self.at).ok_or(CodecError::Short)?;
        self.at += 1;
        Ok(b)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        let end = self.at.checked_add(n).ok_or(CodecError::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(CodecError::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn text(&mut self) -> Result<Vec<u8>, CodecError> {
        let (text, len) = get_text(&self.bytes[self.at..])?;
        self.at += len;
        Ok(text)
    }

    fn utf8(&mut self) -> Result<String, CodecError> {
        String::from_utf8(self.text()?)
            .map_err(|e| CodecError::Bad { byte: e.as_bytes()[e.utf8_error().valid_up_to()] })
    }

    fn str(&mut self) -> Result<Arc<str>, CodecError> {
        let len = text_len(&self.bytes[self.at..])?;
        let raw = &self.bytes[self.at..self.at + len - 1];
        if raw.contains(&1) {
            return Ok(self.utf8()?.into());
        }
        self.at += len;
        let text = std::str::from_utf8(raw).map_err(|e| CodecError::Bad { byte: raw[e.valid_up_to()] })?;
        Ok(Arc::from(text))
    }

    fn name(&mut self) -> Result<(Option<String>, String), CodecError> {
        let namespace = self.utf8()?;
        let name = self.utf8()?;
        Ok((if namespace.is_empty() { None } else { Some(namespace) }, name))
    }

    /// A long whose first byte `tag` has been read; `zero` is the tag of zero.
    fn long(&mut self, zero: u8, tag: u8) -> Result<i64, CodecError> {
        let (n, len) = long(self.bytes, self.at, zero, tag)?;
        self.at += len;
        Ok(n)
    }

    /// As many bytes as a number has, most significant first.
    fn number(&mut self, len: usize) -> Result<u64, CodecError> {
        let n = number(self.bytes, self.at, len)?;
        self.at += len;
        Ok(n)
    }

    fn wide(&mut self, flip: bool) -> Result<i128, CodecError> {
        let mask = if flip { 0xFF } else { 0 };
        let tag = self.byte()? ^ mask;
        let (fill, len) = if tag >= 0x80 { (0, tag - 0x80) } else { (0xFF, 0x7F - tag) };
        if len > 16 {
            return Err(CodecError::Bad { byte: tag });
        }
        let mut wide = [fill; 16];
        wide[16 - usize::from(len)..].copy_from_slice(self.take(usize::from(len))?);
        if flip {
            complement(&mut wide[16 - usize::from(len)..]);
        }
        Ok(i128::from_be_bytes(wide))
    }

    fn bigint(&mut self, tag: u8) -> Result<BigInt, CodecError> {
        if tag == BIGINT {
            return Ok(BigInt::ZERO);
        }
        let rest = &self.bytes[self.at..];
        if tag > BIGINT {
            let (len, used) = get_uint(rest)?;
            self.at += used;
            let len = usize::try_from(len).map_err(|_| CodecError::Short)?;
            return Ok(BigInt::from_bytes_be(Sign::Plus, self.take(len)?));
        }
        let head: Vec<u8> = rest.iter().take(9).map(|b| !b).collect();
        let (len, used) = get_uint(&head)?;
        self.at += used;
        let len = usize::try_from(len).map_err(|_| CodecError::Short)?;
        let mut magnitude = self.take(len)?.to_vec();
        complement(&mut magnitude);
        Ok(BigInt::from_bytes_be(Sign::Minus, &magnitude))
    }

    fn bigdec(&mut self, tag: u8) -> Result<BigDecimal, CodecError> {
        if tag == BIGDEC {
            return Ok(BigDecimal::new(BigInt::ZERO, self.scale()?));
        }
        let negative = tag < BIGDEC;
        let exponent = self.wide(negative)?;
        let mut digits = Vec::new();
        loop {
            let byte = self.byte()?;
            let pair = if negative { !byte } else { byte };
            match pair {
                END => break,
                1..=100 => digits.extend_from_slice(&[(pair - 1) / 10, (pair - 1) % 10]),
                _ => return Err(CodecError::Bad { byte }),
            }
        }
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let scale = self.scale()?;
        // The integer had trailing zeros cut off; the scale says how many.
        let zeros = exponent - digits.len() as i128 + i128::from(scale);
        let zeros =
            u32::try_from(zeros).ok().filter(|&z| z <= MAX_ZEROS).ok_or(CodecError::Bad { byte: tag })?;
        let int = BigUint::from_radix_be(&digits, 10).ok_or(CodecError::Bad { byte: tag })?
            * BigUint::from(10u8).pow(zeros);
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        Ok(BigDecimal::new(BigInt::from_biguint(sign, int), scale))
    }

    fn scale(&mut self) -> Result<i64, CodecError> {
        i64::try_from(self.wide(false)?).map_err(|_| CodecError::Bad { byte: BIGDEC })
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Value>, CodecError> {
        let mut items = Vec::new();
        while *self.bytes.get(self.at).ok_or(CodecError::Short)? != END {
            items.push(self.value(depth + 1)?);
        }
        self.at += 1;
        Ok(items)
    }

    pub fn value(&mut self, depth: usize) -> Result<Value, CodecError> {
        if depth > MAX_DEPTH {
            return Err(CodecError::Deep);
        }
        let tag = self.byte()?;
        Ok(match tag {
            NIL => Value::Nil,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            0x1F..=0x30 => Value::Long(self.long(LONG, tag)?),
            0x34..=0x36 => Value::BigInt(Arc::new(self.bigint(tag)?)),
            DOUBLE => {
                let flipped = self.number(8)?;
                let bits = if flipped >> 63 == 1 { flipped & !(1 << 63) } else { !flipped };
                Value::double(f64::from_bits(bits)).ok_or(CodecError::Bad { byte: tag })?
            }
            0x3A..=0x3C => Value::BigDec(Arc::new(self.bigdec(tag)?)),
            0x40..=0x51 => Value::Instant(Instant(self.long(INSTANT, tag)?)),
            UUID => {
                let bytes = self.take(16)?.try_into().expect("took 16 bytes");
                Value::Uuid(Uuid::from_bytes(bytes))
            }
            KEYWORD => {
                let (namespace, name) = self.name()?;
                Value::Keyword(Keyword::from_parts(namespace.as_deref(), &name))
            }
            SYMBOL => {
                let (namespace, name) = self.name()?;
                Value::Symbol(Symbol::from_parts(namespace.as_deref(), &name))
            }
            STRING => Value::String(self.str()?),
            URI => Value::Uri(self.str()?),
            REF => {
                let (e, used) = get_entity(&self.bytes[self.at..])?;
                self.at += used;
                Value::Ref(e)
            }
            BYTES => Value::Bytes(self.text()?.into()),
            CHAR => {
                let code = self.number(3)? as u32;
                Value::Char(char::from_u32(code).ok_or(CodecError::Bad { byte: tag })?)
            }
            VECTOR => Value::Vector(self.items(depth)?.into()),
            LIST => Value::List(self.items(depth)?.into()),
            SET => Value::Set(self.items(depth)?.into()),
            MAP => {
                let mut entries = Vec::new();
                while *self.bytes.get(self.at).ok_or(CodecError::Short)? != END {
                    entries.push((self.value(depth + 1)?, self.value(depth + 1)?));
                }
                self.at += 1;
                Value::Map(entries.into())
            }
            TAGGED => {
                let (namespace, name) = self.name()?;
                let v = self.value(depth + 1)?;
                Value::Tagged(Arc::new((Symbol::from_parts(namespace.as_deref(), &name), v)))
            }
            byte => return Err(CodecError::Bad { byte }),
        })
    }

    pub fn skip(&mut self, depth: usize) -> Result<(), CodecError> {
        if depth > MAX_DEPTH {
            return Err(CodecError::Deep);
        }
        let tag = self.byte()?;
        match tag {
            NIL | FALSE | TRUE => {}
            0x1F..=0x27 => drop(self.take(usize::from(0x27 - tag))?),
            0x28..=0x30 => drop(self.take(usize::from(tag - 0x28))?),
            0x40..=0x48 => drop(self.take(usize::from(0x48 - tag))?),
            0x49..=0x51 => drop(self.take(usize::from(tag - 0x49))?),
            DOUBLE => drop(self.take(8)?),
            UUID => drop(self.take(16)?),
            CHAR => drop(self.take(3)?),
            STRING | URI | BYTES => self.at += text_len(&self.bytes[self.at..])?,
            KEYWORD | SYMBOL => {
                self.at += text_len(&self.bytes[self.at..])?;
                self.at += text_len(&self.bytes[self.at..])?;
            }
            REF => self.at += get_entity(&self.bytes[self.at..])?.1,
            VECTOR | LIST | SET | MAP => {
                while *self.bytes.get(self.at).ok_or(CodecError::Short)? != END {
                    self.skip(depth + 1)?;
                }
                self.at += 1;
            }
            TAGGED => {
                self.at += text_len(&self.bytes[self.at..])?;
                self.at += text_len(&self.bytes[self.at..])?;
                self.skip(depth + 1)?;
            }
            0x34..=0x36 => drop(self.bigint(tag)?),
            0x3A..=0x3C => drop(self.bigdec(tag)?),
            byte => return Err(CodecError::Bad { byte }),
        }
        Ok(())
    }
}
