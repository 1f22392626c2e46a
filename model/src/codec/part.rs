//! The parts that values and keys are made of: counts, entities and text, each in order of its bytes and self-delimiting.

use super::{CodecError, END};
use crate::{EntityId, id::COUNTER_BITS};

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
#[inline]
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
            Ok((number(bytes, 1, len)?, 1 + len))
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
#[inline]
pub fn get_entity(bytes: &[u8]) -> Result<(EntityId, usize), CodecError> {
    let first = *bytes.first().ok_or(CodecError::Short)?;
    let (mut at, mut partition, mut len) = (1, u64::from(first >> 4), usize::from(first & 0xF));
    if partition == 15 {
        if len > 8 {
            return Err(CodecError::Bad { byte: first });
        }
        partition = number(bytes, 1, len)?;
        at += len;
        len = usize::from(*bytes.get(at).ok_or(CodecError::Short)?);
        at += 1;
    }
    if len > 6 || partition > u64::MAX >> COUNTER_BITS {
        return Err(CodecError::Bad { byte: first });
    }
    let counter = number(bytes, at, len)?;
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
    let mut out = Vec::new();
    let len = get_text_into(bytes, &mut out)?;
    Ok((out, len))
}

/// Reads bytes written by [`put_text`] in place of what `out` holds; says how many they took.
pub fn get_text_into(bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, CodecError> {
    out.clear();
    let len = text_len(bytes)?;
    let raw = &bytes[..len - 1];
    if !raw.contains(&1) {
        out.extend_from_slice(raw);
        return Ok(len);
    }
    out.reserve(raw.len());
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
    if escaped { Err(CodecError::Bad { byte: 1 }) } else { Ok(len) }
}

/// How many bytes a text written by [`put_text`] takes.
pub fn text_len(bytes: &[u8]) -> Result<usize, CodecError> {
    bytes.iter().position(|&b| b == END).map(|i| i + 1).ok_or(CodecError::Short)
}

pub(super) fn minimal_len(n: u64) -> usize {
    8 - n.leading_zeros() as usize / 8
}

/// The number that `len` bytes (at most 8) from `at` on are, the most significant one first.
#[inline]
pub(super) fn number(bytes: &[u8], at: usize, len: usize) -> Result<u64, CodecError> {
    let rest = bytes.get(at..).ok_or(CodecError::Short)?;
    // One load and a shift where more bytes follow, as they do nearly always.
    if let Some(word) = rest.first_chunk() {
        return Ok(u64::from_be_bytes(*word).checked_shr(64 - 8 * len as u32).unwrap_or(0));
    }
    let digits = rest.get(..len).ok_or(CodecError::Short)?;
    Ok(digits.iter().fold(0, |n, &b| n << 8 | u64::from(b)))
}
