//! Values as bytes that sort like the values.
//!
//! 1. For any values `a` and `b`: `encode(a) < encode(b)` iff `a < b`.
//! 2. [`decode`] is the inverse of [`encode`].
//! 3. The code is self-delimiting: no encoding is a prefix of another, so
//!    values can stand in the middle of a key ([`skip`] finds where they end).
//!
//! | first byte | value | payload |
//! |---|---|---|
//! | 08 | nil | |
//! | 10, 11 | false, true | |
//! | 1F..30 | long | sign and length in the first byte, then that many bytes |
//! | 34 35 36 | bigint: negative, zero, positive | length, magnitude; complemented when negative |
//! | 38 | double | 8 bytes, sign-flipped |
//! | 3A 3B 3C | bigdec: negative, zero, positive | exponent, digit pairs, then scale |
//! | 40..51 | instant | as long |
//! | 58 | uuid | 16 bytes |
//! | 5A 5B | keyword, symbol | namespace (empty when absent), name: two texts |
//! | 5C 5D | string, uri | text |
//! | 60 | ref | entity |
//! | 70 | bytes | text |
//! | 72 | character | 3 bytes |
//! | 74 75 76 | vector, list, set | values, then 00 |
//! | 77 | map | keys and values in turn, then 00 |
//! | 78 | tagged | symbol, value |
//!
//! *Text* is the bytes with 00 written as 01 01 and 01 as 01 02, ended by 00.
//! *Entity* is one byte `partition << 4 | n`, then the counter in `n` bytes
//! (a partition past 14 is written F and in a byte of its own before the counter).
//!
//! Not here: keys, trees, and what to do with values too long for a key (storage).

use crate::{EntityId, Instant, Keyword, Symbol, Value, id::COUNTER_BITS};
use bigdecimal::BigDecimal;
use num_bigint::{BigInt, BigUint, Sign};
use std::sync::Arc;
use uuid::Uuid;

/// Bytes that are not the encoding of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// They end too soon.
    #[error("the bytes of a value end too soon")]
    Short,
    /// No value begins or goes on like this.
    #[error("byte {byte:#04x} where no value has it")]
    Bad {
        /// The offending byte.
        byte: u8,
    },
    /// Nested more deeply than [`MAX_DEPTH`].
    #[error("a value nested too deeply")]
    Deep,
}

/// Deepest nesting that [`decode`] accepts.
pub const MAX_DEPTH: usize = 256;

/// Most trailing zeros a decimal is read with: more can only be damage.
const MAX_ZEROS: u32 = 1 << 24;

const NIL: u8 = 0x08;
const FALSE: u8 = 0x10;
const TRUE: u8 = 0x11;
/// First byte of a long with no payload and not negative.
const LONG: u8 = 0x28;
const BIGINT: u8 = 0x35;
const DOUBLE: u8 = 0x38;
const BIGDEC: u8 = 0x3B;
const INSTANT: u8 = 0x49;
const UUID: u8 = 0x58;
const KEYWORD: u8 = 0x5A;
const SYMBOL: u8 = 0x5B;
const STRING: u8 = 0x5C;
const URI: u8 = 0x5D;
const REF: u8 = 0x60;
const BYTES: u8 = 0x70;
const CHAR: u8 = 0x72;
const VECTOR: u8 = 0x74;
const LIST: u8 = 0x75;
const SET: u8 = 0x76;
const MAP: u8 = 0x77;
const TAGGED: u8 = 0x78;
const END: u8 = 0x00;

/// Appends a value.
pub fn encode(v: &Value, out: &mut Vec<u8>) {
    match v {
        Value::Nil => out.push(NIL),
        Value::Bool(b) => out.push(if *b { TRUE } else { FALSE }),
        Value::Long(n) => put_long(LONG, *n, out),
        Value::BigInt(n) => put_bigint(n, out),
        Value::Double(d) => {
            let bits = d.to_bits();
            let flipped = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
            out.push(DOUBLE);
            out.extend_from_slice(&flipped.to_be_bytes());
        }
        Value::BigDec(d) => put_bigdec(d, out),
        Value::Instant(i) => put_long(INSTANT, i.0, out),
        Value::Uuid(u) => {
            out.push(UUID);
            out.extend_from_slice(u.as_bytes());
        }
        Value::Keyword(k) => {
            out.push(KEYWORD);
            put_text(k.namespace().unwrap_or("").as_bytes(), out);
            put_text(k.name().as_bytes(), out);
        }
        Value::Symbol(s) => {
            out.push(SYMBOL);
            put_symbol(s, out);
        }
        Value::String(s) => {
            out.push(STRING);
            put_text(s.as_bytes(), out);
        }
        Value::Uri(s) => {
            out.push(URI);
            put_text(s.as_bytes(), out);
        }
        Value::Ref(e) => {
            out.push(REF);
            put_entity(*e, out);
        }
        Value::Bytes(b) => {
            out.push(BYTES);
            put_text(b, out);
        }
        Value::Char(c) => {
            out.push(CHAR);
            out.extend_from_slice(&u32::from(*c).to_be_bytes()[1..]);
        }
        Value::Vector(items) => put_items(VECTOR, items, out),
        Value::List(items) => put_items(LIST, items, out),
        Value::Set(items) => put_items(SET, items, out),
        Value::Map(entries) => {
            out.push(MAP);
            for (k, v) in entries.iter() {
                encode(k, out);
                encode(v, out);
            }
            out.push(END);
        }
        Value::Tagged(t) => {
            out.push(TAGGED);
            put_symbol(&t.0, out);
            encode(&t.1, out);
        }
    }
}

/// A value's bytes on their own.
pub fn encoded(v: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    encode(v, &mut out);
    out
}

/// Reads the value that `bytes` begin with; also says how many bytes it takes.
pub fn decode(bytes: &[u8]) -> Result<(Value, usize), CodecError> {
    let mut r = Reader { bytes, at: 0 };
    let v = r.value(0)?;
    Ok((v, r.at))
}

/// How many bytes the value that `bytes` begin with takes.
pub fn skip(bytes: &[u8]) -> Result<usize, CodecError> {
    let mut r = Reader { bytes, at: 0 };
    r.skip(0)?;
    Ok(r.at)
}

/// Appends an unsigned number in 1 to 9 bytes that sort like the numbers.
pub fn put_uint(n: u64, out: &mut Vec<u8>) {
    match n {
        0..=240 => out.push(n as u8),
        241..=2287 => {
            let m = n - 240;
            out.extend_from_slice(&[241 + (m >> 8) as u8, m as u8]);
        }
        2288..=67823 => {
            let m = n - 2288;
            out.extend_from_slice(&[249, (m >> 8) as u8, m as u8]);
        }
        _ => {
            let len = minimal_len(n).max(3);
            out.push(247 + len as u8);
            out.extend_from_slice(&n.to_be_bytes()[8 - len..]);
        }
    }
}

/// Reads a number written by [`put_uint`]; also says how many bytes it took.
pub fn get_uint(bytes: &[u8]) -> Result<(u64, usize), CodecError> {
    let first = *bytes.first().ok_or(CodecError::Short)?;
    match first {
        0..=240 => Ok((u64::from(first), 1)),
        241..=248 => {
            let b = *bytes.get(1).ok_or(CodecError::Short)?;
            Ok((240 + (u64::from(first - 241) << 8) + u64::from(b), 2))
        }
        249 => {
            let b = bytes.get(1..3).ok_or(CodecError::Short)?;
            Ok((2288 + u64::from(u16::from_be_bytes([b[0], b[1]])), 3))
        }
        _ => {
            let len = usize::from(first - 247);
            Ok((big_endian(bytes.get(1..1 + len).ok_or(CodecError::Short)?), 1 + len))
        }
    }
}

/// Appends an entity id in 1 to 9 bytes that sort like the ids.
pub fn put_entity(e: EntityId, out: &mut Vec<u8>) {
    let (partition, counter) = (e.raw() >> COUNTER_BITS, e.counter());
    let len = minimal_len(counter);
    if partition < 15 {
        out.push((partition as u8) << 4 | len as u8);
    } else {
        // Ids past partition 14 are never allotted; they only arise from user input.
        out.push(0xF0 | minimal_len(partition) as u8);
        out.extend_from_slice(&partition.to_be_bytes()[8 - minimal_len(partition)..]);
        out.push(len as u8);
    }
    out.extend_from_slice(&counter.to_be_bytes()[8 - len..]);
}

/// Reads an entity written by [`put_entity`]; also says how many bytes it took.
pub fn get_entity(bytes: &[u8]) -> Result<(EntityId, usize), CodecError> {
    let first = *bytes.first().ok_or(CodecError::Short)?;
    let (mut at, mut partition, mut len) = (1, u64::from(first >> 4), usize::from(first & 0xF));
    if partition == 15 {
        partition = big_endian(bytes.get(1..1 + len).ok_or(CodecError::Short)?);
        at += len;
        len = usize::from(*bytes.get(at).ok_or(CodecError::Short)?);
        at += 1;
    }
    if len > 6 || partition > u64::MAX >> COUNTER_BITS {
        return Err(CodecError::Bad { byte: first });
    }
    let counter = big_endian(bytes.get(at..at + len).ok_or(CodecError::Short)?);
    Ok((EntityId::from_raw(partition << COUNTER_BITS | counter), at + len))
}

/// Appends bytes escaped and terminated so that they sort as they are and end where they end.
pub fn put_text(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|&b| b > 1) {
        out.extend_from_slice(bytes);
        return out.push(END);
    }
    for &b in bytes {
        if b <= 1 {
            out.extend_from_slice(&[1, b + 1]);
        } else {
            out.push(b);
        }
    }
    out.push(END);
}

/// Reads bytes written by [`put_text`]; also says how many bytes they took.
pub fn get_text(bytes: &[u8]) -> Result<(Vec<u8>, usize), CodecError> {
    let len = text_len(bytes)?;
    let raw = &bytes[..len - 1];
    if !raw.contains(&1) {
        return Ok((raw.to_vec(), len));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut escaped = false;
    for &b in raw {
        match (escaped, b) {
            (true, 1 | 2) => out.push(b - 1),
            (true, _) => return Err(CodecError::Bad { byte: b }),
            (false, 1) => {
                escaped = true;
                continue;
            }
            (false, _) => out.push(b),
        }
        escaped = false;
    }
    if escaped { Err(CodecError::Bad { byte: 1 }) } else { Ok((out, len)) }
}

fn text_len(bytes: &[u8]) -> Result<usize, CodecError> {
    bytes.iter().position(|&b| b == END).map(|i| i + 1).ok_or(CodecError::Short)
}

fn minimal_len(n: u64) -> usize {
    8 - n.leading_zeros() as usize / 8
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b))
}

fn put_long(zero: u8, n: i64, out: &mut Vec<u8>) {
    if n >= 0 {
        let len = minimal_len(n as u64);
        out.push(zero + len as u8);
        out.extend_from_slice(&n.to_be_bytes()[8 - len..]);
    } else {
        let len = minimal_len(!n as u64);
        out.push(zero - 1 - len as u8);
        out.extend_from_slice(&n.to_be_bytes()[8 - len..]);
    }
}

/// Signed numbers of up to 128 bits: the exponents and scales of decimals.
fn put_wide(n: i128, out: &mut Vec<u8>) {
    let m = if n >= 0 { n } else { !n };
    let len = 16 - m.leading_zeros() as usize / 8;
    out.push(if n >= 0 { 0x80 + len as u8 } else { 0x7F - len as u8 });
    out.extend_from_slice(&n.to_be_bytes()[16 - len..]);
}

fn put_bigint(n: &BigInt, out: &mut Vec<u8>) {
    let (sign, magnitude) = n.to_bytes_be();
    match sign {
        Sign::NoSign => out.push(BIGINT),
        Sign::Plus => {
            out.push(BIGINT + 1);
            put_uint(magnitude.len() as u64, out);
            out.extend_from_slice(&magnitude);
        }
        Sign::Minus => {
            out.push(BIGINT - 1);
            let from = out.len();
            put_uint(magnitude.len() as u64, out);
            out.extend_from_slice(&magnitude);
            complement(&mut out[from..]);
        }
    }
}

/// Zero, or `0.d1d2d3… × 10^exponent` with `d1 ≠ 0`, then the scale.
fn put_bigdec(d: &BigDecimal, out: &mut Vec<u8>) {
    let (int, scale) = d.as_bigint_and_exponent();
    if int.sign() == Sign::NoSign {
        out.push(BIGDEC);
        return put_wide(i128::from(scale), out);
    }
    let negative = int.sign() == Sign::Minus;
    out.push(if negative { BIGDEC - 1 } else { BIGDEC + 1 });
    let from = out.len();
    let digits = int.magnitude().to_str_radix(10);
    put_wide(digits.len() as i128 - i128::from(scale), out);
    let digits = digits.trim_end_matches('0').as_bytes();
    for pair in digits.chunks(2) {
        let low = pair.get(1).map_or(0, |d| d - b'0');
        out.push((pair[0] - b'0') * 10 + low + 1);
    }
    out.push(END);
    if negative {
        complement(&mut out[from..]);
    }
    put_wide(i128::from(scale), out);
}

fn complement(bytes: &mut [u8]) {
    for b in bytes {
        *b = !*b;
    }
}

fn put_symbol(s: &Symbol, out: &mut Vec<u8>) {
    put_text(s.namespace().unwrap_or("").as_bytes(), out);
    put_text(s.name().as_bytes(), out);
}

fn put_items(tag: u8, items: &[Value], out: &mut Vec<u8>) {
    out.push(tag);
    for v in items {
        encode(v, out);
    }
    out.push(END);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
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
        let (fill, len) = if tag >= zero { (0, tag - zero) } else { (0xFF, zero - 1 - tag) };
        let mut wide = [fill; 8];
        wide[8 - usize::from(len)..].copy_from_slice(self.take(usize::from(len))?);
        Ok(i64::from_be_bytes(wide))
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

    fn value(&mut self, depth: usize) -> Result<Value, CodecError> {
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
                let flipped = big_endian(self.take(8)?);
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
                let code = big_endian(self.take(3)?) as u32;
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

    fn skip(&mut self, depth: usize) -> Result<(), CodecError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c]{0,3}", "[\\x00-\\x02é]{0,4}", ".{0,12}"]
    }

    fn leaf() -> impl Strategy<Value = Value> {
        let name = "[a-c]{1,2}(/[a-c]{1,2})?";
        prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Bool),
            prop_oneof![any::<i64>(), -300i64..300].prop_map(Value::Long),
            (any::<i128>(), 0u32..3).prop_map(|(n, p)| Value::BigInt(Arc::new(BigInt::from(n).pow(p)))),
            any::<f64>().prop_filter_map("NaN", Value::double),
            (prop_oneof![-1000i64..1000, any::<i64>()], -6i64..6)
                .prop_map(|(n, s)| Value::BigDec(Arc::new(BigDecimal::new(BigInt::from(n), s)))),
            any::<i64>().prop_map(|n| Value::Instant(Instant(n))),
            any::<u128>().prop_map(|n| Value::Uuid(Uuid::from_u128(n))),
            name.prop_map(|s| Value::Keyword(Keyword::new(s))),
            name.prop_map(|s| Value::Symbol(Symbol::new(s))),
            text().prop_map(Value::string),
            text().prop_map(|s| Value::Uri(s.into())),
            prop_oneof![0u64..1 << 53, 0u64..5000, any::<u64>()]
                .prop_map(|n| Value::Ref(EntityId::from_raw(n))),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|b| Value::Bytes(b.into())),
            any::<char>().prop_map(Value::Char),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        leaf().prop_recursive(3, 12, 4, |inner| {
            let items = proptest::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                items.clone().prop_map(Value::vector),
                items.clone().prop_map(|v| Value::List(v.into())),
                items.prop_map(Value::set),
                proptest::collection::vec((inner.clone(), inner.clone()), 0..3).prop_map(Value::map),
                inner.prop_map(|v| Value::Tagged(Arc::new((Symbol::new("x/t"), v)))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn byte_order_is_value_order(a in value(), b in value()) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
        }

        #[test]
        fn order_holds_within_a_kind(n in any::<(i64, i64)>(), s in (-8i64..8, -8i64..8)) {
            let dec = |n: i64, s| Value::BigDec(Arc::new(BigDecimal::new(BigInt::from(n % 200), s)));
            let (a, b) = (dec(n.0, s.0), dec(n.1, s.1));
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
            let (a, b) = (Value::Long(n.0 >> (n.1 & 63)), Value::Long(n.1 >> (n.0 & 63)));
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
        }

        #[test]
        fn round_trip_and_self_delimiting(v in value(), rest in proptest::collection::vec(any::<u8>(), 0..8)) {
            let alone = encoded(&v);
            let mut bytes = alone.clone();
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(decode(&bytes), Ok((v, alone.len())));
            prop_assert_eq!(skip(&bytes), Ok(alone.len()));
            for cut in 0..alone.len() {
                prop_assert!(skip(&alone[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((v, n)) = decode(&bytes) {
                prop_assert!(n <= bytes.len());
                prop_assert_eq!(decode(&encoded(&v)).map(|d| d.0), Ok(v));
            }
        }

        #[test]
        fn numbers_and_entities_keep_their_order(a in any::<u64>(), b in any::<u64>(), s in 0u32..60) {
            let (a, b) = (a >> s, b >> s);
            let code = |n| { let mut o = Vec::new(); put_uint(n, &mut o); o };
            prop_assert_eq!(get_uint(&code(a)), Ok((a, code(a).len())));
            prop_assert_eq!(code(a).cmp(&code(b)), a.cmp(&b));
            let code = |n| { let mut o = Vec::new(); put_entity(EntityId::from_raw(n), &mut o); o };
            prop_assert_eq!(get_entity(&code(a)), Ok((EntityId::from_raw(a), code(a).len())));
            prop_assert_eq!(code(a).cmp(&code(b)), a.cmp(&b));
        }
    }

    #[test]
    fn the_bytes_are_what_the_table_says() {
        let hex = |v: Value| encoded(&v).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(Value::Long(0)), "28");
        assert_eq!(hex(Value::Long(-1)), "27");
        assert_eq!(hex(Value::Long(300)), "2a012c");
        assert_eq!(hex(Value::Long(i64::MIN)), "1f8000000000000000");
        assert_eq!(hex("a\0b".into()), "5c6101016200");
        assert_eq!(hex(Value::keyword("a/b")), "5a61006200");
        assert_eq!(hex(Value::vector([Value::Nil, Value::Long(1)])), "74082901".to_owned() + "00");
    }
}
