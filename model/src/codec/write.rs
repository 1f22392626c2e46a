//! Values to bytes.

use super::{part::*, *};
use crate::Symbol;
use bigdecimal::BigDecimal;
use num_bigint::{BigInt, Sign};

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

pub(super) fn complement(bytes: &mut [u8]) {
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
