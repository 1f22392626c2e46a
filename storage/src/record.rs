//! Log records as bytes.
//!
//! | part | bytes |
//! |---|---|
//! | length of what follows the checksum | 4, little-endian; 0 is the end of the log |
//! | crc32c of length and rest | 4, little-endian |
//! | version | 1 |
//! | t | varint |
//! | t minus the first t of its sync group | varint |
//! | instant | zigzag varint |
//! | number of datoms, datoms | varint, see below |
//! | number of rows, rows | varint; table, key length, key, 0 or 1 + length, value |
//! | chain link | the first 8 bytes of the chain hash that includes this record |
//!
//! A datom is one byte of flags (1: assertion; 2: filed under an older t; 4: same
//! entity as the datom before; upper 5 bits: attribute, 31 for one that follows
//! as a varint), the entity's distance from the one before (zigzag varint),
//! how much older (varint), and the value by `model::codec`.
//!
//! The chain: `hash(n) = blake3(hash(n-1) ‖ record n from version to rows)`.
//! The *sync group* are the records since the last sync: of two damaged records
//! it tells one that was acknowledged from one that was torn with its group.

use crate::error::Damage;
use crate::types::{Record, Row};
use annals_model::{AttrId, Datom, EntityId, Instant, T, Value, codec};

pub(crate) const VERSION: u8 = 1;
/// Length and checksum.
pub(crate) const FRAME: usize = 8;
pub(crate) const LINK: usize = 8;

/// The running hash of the log.
pub(crate) type Chain = [u8; 32];

const ASSERTED: u8 = 1;
const OLDER: u8 = 2;
const SAME_ENTITY: u8 = 4;
const LONG_ATTR: u32 = 31;

/// Appends a record; `group` is the first t of its sync group. The chain moves on.
pub(crate) fn write(r: &Record, group: T, chain: &mut Chain, out: &mut Vec<u8>) {
    let frame = out.len();
    out.extend_from_slice(&[0; FRAME]);
    let body = out.len();
    out.push(VERSION);
    put_varint(r.t.0, out);
    put_varint(r.t.0 - group.0, out);
    put_signed(r.instant.0, out);
    put_varint(r.datoms.len() as u64, out);
    let mut before = EntityId::from_raw(0);
    for d in &r.datoms {
        let a = d.a.raw().min(LONG_ATTR);
        let mut flags = (a as u8) << 3;
        flags |= if d.added { ASSERTED } else { 0 };
        flags |= if d.t != r.t { OLDER } else { 0 };
        flags |= if d.e == before { SAME_ENTITY } else { 0 };
        out.push(flags);
        if a == LONG_ATTR {
            put_varint(u64::from(d.a.raw()), out);
        }
        if d.e != before {
            put_signed(d.e.raw().wrapping_sub(before.raw()) as i64, out);
            before = d.e;
        }
        if d.t != r.t {
            put_varint(r.t.0 - d.t.0, out);
        }
        codec::encode(&d.v, out);
    }
    put_varint(r.rows.len() as u64, out);
    for row in &r.rows {
        out.push(row.table);
        put_varint(row.key.len() as u64, out);
        out.extend_from_slice(&row.key);
        match &row.value {
            None => out.push(0),
            Some(v) => {
                out.push(1);
                put_varint(v.len() as u64, out);
                out.extend_from_slice(v);
            }
        }
    }
    *chain = link(chain, &out[body..]);
    out.extend_from_slice(&chain[..LINK]);
    let len = (out.len() - body) as u32;
    out[frame..frame + 4].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), &out[body..]);
    out[frame + 4..body].copy_from_slice(&crc.to_le_bytes());
}

/// The chain's next hash.
pub(crate) fn link(chain: &Chain, body: &[u8]) -> Chain {
    let mut h = blake3::Hasher::new();
    h.update(chain);
    h.update(body);
    *h.finalize().as_bytes()
}

/// The length of the payload, from a frame; none at the end of the log.
pub(crate) fn payload_len(frame: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(frame.get(..4)?.try_into().ok()?) as usize;
    (len != 0).then_some(len)
}

/// Does a frame's checksum match its payload?
pub(crate) fn sound(frame: &[u8], payload: &[u8]) -> bool {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), payload);
    crc.to_le_bytes() == frame[4..8]
}

/// A payload's t and the first t of its sync group, without reading the rest.
pub(crate) fn head(payload: &[u8]) -> Result<(T, T), Damage> {
    let mut r = Bytes { b: payload, at: 0 };
    if r.byte()? != VERSION {
        return Err(Damage::Layout("its version is unknown"));
    }
    let t = r.varint()?;
    let group = t.checked_sub(r.varint()?).ok_or(Damage::Layout("its sync group begins before genesis"))?;
    Ok((T(t), T(group)))
}

/// The part of a payload that the chain hashes, and its link.
pub(crate) fn body_and_link(payload: &[u8]) -> Result<(&[u8], &[u8]), Damage> {
    payload.split_last_chunk::<LINK>().map(|(b, l)| (b, &l[..])).ok_or(Damage::Short)
}

/// Reads a payload whose checksum has been found right.
pub(crate) fn read(payload: &[u8]) -> Result<Record, Damage> {
    let (body, _) = body_and_link(payload)?;
    let mut r = Bytes { b: body, at: 0 };
    if r.byte()? != VERSION {
        return Err(Damage::Layout("its version is unknown"));
    }
    let t = r.varint()?;
    r.varint()?;
    let instant = Instant(r.signed()?);
    let n = r.count()?;
    let mut datoms = Vec::with_capacity(n);
    let mut before = EntityId::from_raw(0);
    for _ in 0..n {
        let flags = r.byte()?;
        let mut a = u32::from(flags >> 3);
        if a == LONG_ATTR {
            a = u32::try_from(r.varint()?).map_err(|_| Damage::Layout("an attribute id is too large"))?;
        }
        if flags & SAME_ENTITY == 0 {
            before = EntityId::from_raw(before.raw().wrapping_add(r.signed()? as u64));
        }
        let older = if flags & OLDER != 0 { r.varint()? } else { 0 };
        let filed = t.checked_sub(older).ok_or(Damage::Layout("a fact is filed before genesis"))?;
        let (a, t, added) = (AttrId::new(a), T(filed), flags & ASSERTED != 0);
        // Read with the link behind it, so that the last value too has room for a load.
        let bytes = &payload[r.at..];
        // Longs and refs, which most values are, go from registers to their place: made as any value
        // first and moved from there, each takes twice as long.
        r.at += if let Some((n, used)) = codec::decode_long(bytes)? {
            datoms.push(Datom { e: before, a, v: Value::Long(n), t, added });
            used
        } else if let Some((to, used)) = codec::decode_ref(bytes)? {
            datoms.push(Datom { e: before, a, v: Value::Ref(to), t, added });
            used
        } else {
            let (v, used) = codec::decode(bytes)?;
            datoms.push(Datom { e: before, a, v, t, added });
            used
        };
    }
    let n = r.count()?;
    let mut rows = Vec::with_capacity(n);
    for _ in 0..n {
        let table = r.byte()?;
        let key = r.bytes()?.to_vec();
        let value = match r.byte()? {
            0 => None,
            1 => Some(r.bytes()?.to_vec()),
            _ => return Err(Damage::Layout("a side row is neither bytes nor a deletion")),
        };
        rows.push(Row { table, key, value });
    }
    if r.at != body.len() {
        return Err(Damage::Layout("it is longer than what it holds"));
    }
    Ok(Record { t: T(t), instant, datoms, rows })
}

pub(crate) fn put_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(crate) fn put_signed(n: i64, out: &mut Vec<u8>) {
    put_varint(((n << 1) ^ (n >> 63)) as u64, out);
}

/// A reader of varints and byte strings; also used for what the indexes keep about themselves.
pub(crate) struct Bytes<'a> {
    pub b: &'a [u8],
    pub at: usize,
}

impl<'a> Bytes<'a> {
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Damage> {
        let b = *self.b.get(self.at).ok_or(Damage::Short)?;
        self.at += 1;
        Ok(b)
    }
    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, Damage> {
        const LAST: u64 = 0x8080_8080_8080_8080;
        if let Some(word) = self.b.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let word = u64::from_le_bytes(*word);
            let last = !word & LAST;
            if last != 0 {
                // Seven bits of each byte up to the last, moved together: pairs, fours, eight.
                let n = word & (last ^ (last - 1)) & !LAST;
                let n = (n & 0x007F_007F_007F_007F) | (n & 0x7F00_7F00_7F00_7F00) >> 1;
                let n = (n & 0x0000_3FFF_0000_3FFF) | (n & 0x3FFF_0000_3FFF_0000) >> 2;
                let n = (n & 0x0FFF_FFFF) | (n & 0x0FFF_FFFF_0000_0000) >> 4;
                self.at += last.trailing_zeros() as usize / 8 + 1;
                return Ok(n);
            }
        }
        self.long_varint()
    }

    /// One that takes more than eight bytes, or stands at the end.
    fn long_varint(&mut self) -> Result<u64, Damage> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            n |= u64::from(b & 0x7F) << shift;
            if b < 0x80 {
                return Ok(n);
            }
        }
        Err(Damage::Layout("a number is too long"))
    }
    #[inline]
    pub fn signed(&mut self) -> Result<i64, Damage> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }
    /// A number of things that each take at least a byte.
    fn count(&mut self) -> Result<usize, Damage> {
        let n = self.varint()?;
        usize::try_from(n).ok().filter(|&n| n <= self.b.len() - self.at).ok_or(Damage::Short)
    }
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Damage> {
        let end = self.at.checked_add(n).ok_or(Damage::Short)?;
        let taken = self.b.get(self.at..end).ok_or(Damage::Short)?;
        self.at = end;
        Ok(taken)
    }
    fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let n = usize::try_from(self.varint()?).map_err(|_| Damage::Short)?;
        self.take(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_model::Partition;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let datom = (any::<u64>(), any::<u32>(), any::<i64>(), 0u64..9, any::<bool>());
        let row = (any::<u8>(), any::<Vec<u8>>(), any::<Option<Vec<u8>>>());
        let datoms = proptest::collection::vec(datom, 0..6);
        (9u64..1 << 40, any::<i64>(), datoms, proptest::collection::vec(row, 0..4)).prop_map(
            |(t, i, ds, rows)| {
                let datom = |(e, a, v, older, added): (u64, u32, i64, u64, bool)| Datom {
                    e: EntityId::from_raw(e % 3 + (e >> 60 << 40)),
                    a: AttrId::new(a % 40),
                    v: if v % 2 == 0 { Value::Long(v) } else { Value::string(format!("{v}")) },
                    t: T(t - older),
                    added,
                };
                let row = |(table, key, value)| Row { table, key, value };
                Record {
                    t: T(t),
                    instant: Instant(i),
                    datoms: ds.into_iter().map(datom).collect(),
                    rows: rows.into_iter().map(row).collect(),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip(r in record()) {
            let (mut chain, mut out) = ([7; 32], vec![]);
            write(&r, T(r.t.0 - 3), &mut chain, &mut out);
            let n = payload_len(&out).unwrap();
            prop_assert_eq!(out.len(), FRAME + n);
            let (frame, payload) = out.split_at(FRAME);
            prop_assert!(sound(frame, payload));
            prop_assert_eq!(head(payload), Ok((r.t, T(r.t.0 - 3))));
            let (body, l) = body_and_link(payload).unwrap();
            prop_assert_eq!(link(&[7; 32], body), chain);
            prop_assert_eq!(l, &chain[..LINK]);
            prop_assert_eq!(read(payload), Ok(r));
        }

        #[test]
        fn damaged_bytes_are_an_error_or_a_record(bytes in any::<Vec<u8>>(), r in record(), at in any::<prop::sample::Index>()) {
            drop(read(&bytes));
            let (mut chain, mut out) = ([7; 32], vec![]);
            write(&r, r.t, &mut chain, &mut out);
            let i = at.index(out.len());
            out[i] ^= 1 << (i % 8);
            let (frame, payload) = out.split_at(FRAME);
            prop_assert!(!sound(frame, payload));
            drop(read(payload));
        }
    }

    #[test]
    fn the_bytes_are_what_the_table_says() {
        let e = EntityId::new(Partition::User, 1);
        let d = |v: Value, added| Datom { e, a: AttrId::new(40), v, t: T(5), added };
        let r = Record {
            t: T(5),
            instant: Instant(-1),
            datoms: vec![d(7.into(), false), d("x".into(), true)],
            rows: vec![Row { table: 2, key: b"k".to_vec(), value: Some(b"v".to_vec()) }],
        };
        let mut out = vec![];
        write(&r, T(4), &mut [0; 32], &mut out);
        let hex: String = out[FRAME..out.len() - LINK].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "0105010102f828828080808080102907fd285c78000102016b010176");
    }
}
