//! Where the log ends: is what stands behind the last sound record a torn write, or damage?
//!
//! A record that was acknowledged had been synced whole. One that was not may have reached the disk in
//! part. Every flush writes over zeros (a file's new end, or zeros written ahead), so of a torn write each
//! sector is there, or still zeros, or behind the end of the file; a write stopped by a signal ends anywhere,
//! with zeros from there:
//!
//! | behind the last sound record | verdict |
//! |---|---|
//! | nothing, or only zeros | the log ends |
//! | somewhere, a sound record of a later sync group | damage: what stood here had been synced before that was written |
//! | a record one flipped bit away from sound | damage: it was written whole |
//! | a record that fits the file, and in each sector has data to the end of its part | damage: nothing of it is missing |
//! | anything else | torn: the log ends |
//!
//! 1. A write of which whole sectors, or all from some byte on, are missing is never called damage.
//! 2. One flipped bit in a record that was written whole is never called torn, unless it was the only bit
//!    between there and the end of the sector. (Checksum and chain link must both come right when the bit
//!    is turned back, so nothing else is mistaken for it.)
//!
//! Not here: damage before the last sync group, which no sound record can follow (`log`).

use crate::MAX_RECORD_BYTES;
use crate::error::Res;
use crate::record::{self, Chain, FRAME, LINK};
use crate::segment::{READ_BYTES, Segment};
use annals_model::T;

/// What a disk writes whole or not at all. Larger sectors are whole numbers of these.
const SECTOR: u64 = 512;

/// Is there more than zeros from `at` on?
pub(crate) fn data_behind(s: &Segment, mut at: u64) -> Res<bool> {
    let mut buffer = Vec::new();
    loop {
        s.read_at(at, READ_BYTES, &mut buffer)?;
        if buffer.is_empty() {
            return Ok(false);
        }
        if buffer.iter().any(|&b| b != 0) {
            return Ok(true);
        }
        at += buffer.len() as u64;
    }
}

/// Had the record `missing`, which is not sound at `at` of the last segment, been written whole?
/// `chain` is the hash before it.
pub(crate) fn was_whole(s: &Segment, at: u64, missing: T, chain: &Chain) -> Res<bool> {
    let rest = usize::try_from(s.len()?.saturating_sub(at)).unwrap_or(usize::MAX);
    if rest <= FRAME || !data_behind(s, at)? {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    s.read_at(at, rest, &mut bytes)?;
    Ok(synced_behind(&bytes, missing)
        || one_bit_off(&bytes, at, missing, chain)
        || nothing_missing(&bytes, at))
}

/// Is there a sound record of a sync group that began after `missing`?
fn synced_behind(bytes: &[u8], missing: T) -> bool {
    (1..bytes.len().saturating_sub(FRAME)).any(|i| {
        if bytes[i + FRAME] != record::VERSION {
            return false;
        }
        let payload = record::payload_len(&bytes[i..]).and_then(|n| bytes.get(i + FRAME..i + FRAME + n));
        let Some(payload) = payload else { return false };
        let later = record::head(payload).is_ok_and(|(t, group)| t > missing && group > missing);
        later && record::sound(&bytes[i..i + FRAME], payload)
    })
}

/// Do these bytes begin with a record that fits, no part of which ends in zeros at the end of a sector?
/// (One sound record in some hundred has such a zero of its own; damage to it is taken for a torn write.)
fn nothing_missing(bytes: &[u8], at: u64) -> bool {
    let fits = |n: &usize| *n <= MAX_RECORD_BYTES && *n > LINK && FRAME + n <= bytes.len();
    let Some(n) = record::payload_len(bytes).filter(fits) else { return false };
    let mut from = 0;
    while from < FRAME + n {
        let to = sector_end(at, from, FRAME + n);
        if bytes[to - 1] == 0 {
            return false;
        }
        from = to;
    }
    true
}

/// The end of the part of a record of `n` bytes at `at` that lies in one sector with byte `i` of it.
fn sector_end(at: u64, i: usize, n: usize) -> usize {
    (i + (SECTOR - (at + i as u64) % SECTOR) as usize).min(n)
}

/// Is there one bit that, turned, makes these bytes (at `at` of the file) begin with the record `t`
/// behind `chain`?
fn one_bit_off(bytes: &[u8], at: u64, t: T, chain: &Chain) -> bool {
    let Some((frame, behind)) = bytes.split_at_checked(FRAME) else { return false };
    let word = |b: &[u8]| b.iter().rev().fold(0u32, |n, &b| n << 8 | u32::from(b));
    let (len, stored) = (word(&frame[..4]), word(&frame[4..]));
    let checksum =
        |len: u32, payload: &[u8]| crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), payload);
    let follows = |payload: &[u8]| {
        let is_t = record::head(payload).is_ok_and(|(found, _)| found == t);
        let linked = |(body, link): (&[u8], &[u8])| record::link(chain, body)[..LINK] == *link;
        is_t && record::body_and_link(payload).is_ok_and(linked)
    };
    let of_length = |len: u32| {
        let n = usize::try_from(len).ok().filter(|n| (LINK + 1..=MAX_RECORD_BYTES).contains(n))?;
        behind.get(..n)
    };
    let in_length = (0..32).map(|bit| len ^ 1 << bit).any(|len| {
        of_length(len).is_some_and(|payload| checksum(len, payload) == stored && follows(payload))
    });
    if in_length {
        return true;
    }
    let Some(payload) = of_length(len) else { return false };
    let difference = checksum(len, payload) ^ stored;
    if difference.count_ones() == 1 {
        return follows(payload);
    }
    let Some((from_end, bit)) = flipped_bit(difference, payload.len()) else { return false };
    let i = payload.len() - 1 - from_end;
    let sector = sector_end(at, FRAME + i, FRAME + payload.len());
    if bytes[FRAME + i..sector].iter().all(|&b| b == 0) {
        return false; // a write that was cut short here looks the same
    }
    let mut turned = payload.to_vec();
    turned[i] ^= 1 << bit;
    follows(&turned)
}

/// The bit (counted in bytes from the end) of a message of `n` bytes that, flipped, changes its crc32c by
/// `difference`; crc is linear, so this does not depend on the message. At most one bit of any record does.
fn flipped_bit(difference: u32, n: usize) -> Option<(usize, u8)> {
    const TABLE: [u32; 256] = table();
    let step = |e: u32| TABLE[(e & 0xFF) as usize] ^ (e >> 8);
    let mut effects: [u32; 8] = std::array::from_fn(|bit| TABLE[1 << bit]);
    for from_end in 0..n {
        if let Some(bit) = effects.iter().position(|e| *e == difference) {
            return Some((from_end, bit as u8));
        }
        effects = effects.map(step);
    }
    None
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut e = i as u32;
        let mut bit = 0;
        while bit < 8 {
            e = if e & 1 == 1 { e >> 1 ^ 0x82F6_3B78 } else { e >> 1 };
            bit += 1;
        }
        table[i] = e;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Record;
    use annals_model::{AttrId, Datom, EntityId, Instant, Partition, Value};

    const BEFORE: Chain = [3; 32];

    fn record(value_bytes: usize) -> Vec<u8> {
        let v = Value::string("é".repeat(value_bytes / 2));
        let e = EntityId::new(Partition::User, 9);
        let d = Datom { e, a: AttrId::new(70), v, t: T(7), added: true };
        let r = Record { t: T(7), instant: Instant(1), datoms: vec![d], rows: vec![] };
        let (mut chain, mut out) = (BEFORE, vec![]);
        record::write(&r, T(7), &mut chain, &mut out);
        out
    }

    fn is_damage(bytes: &[u8], at: u64) -> bool {
        synced_behind(bytes, T(7)) || one_bit_off(bytes, at, T(7), &BEFORE) || nothing_missing(bytes, at)
    }

    #[test]
    fn every_flipped_bit_of_a_whole_record_is_damage() {
        for (value_bytes, step) in [(2, 1), (100, 3), (700, 31), (2_000, 97)] {
            let whole = record(value_bytes);
            let mut file = whole.clone();
            file.resize(whole.len() + 600, 0);
            for at in [72, 500, 511] {
                for bit in (0..64).chain((64..whole.len() * 8).step_by(step)) {
                    file[bit / 8] ^= 1 << (bit % 8);
                    let sector = sector_end(at, bit / 8, whole.len());
                    let looks_cut = bit / 8 >= FRAME && file[bit / 8..sector].iter().all(|&b| b == 0);
                    let off = one_bit_off(&file, at, T(7), &BEFORE);
                    assert_eq!(off, !looks_cut, "bit {bit} of {value_bytes} bytes at {at}");
                    assert!(looks_cut || is_damage(&file, at));
                    file[bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
    }

    #[test]
    fn a_write_cut_at_any_byte_is_torn() {
        for value_bytes in [100, 700] {
            let whole = record(value_bytes);
            for cut in 0..whole.len() {
                let mut file = whole[..cut].to_vec();
                file.resize(whole.len() + 1000, 0);
                let same = file[..whole.len()] == whole[..];
                assert!(same || !is_damage(&file, 72), "cut at {cut}");
            }
        }
    }

    #[test]
    fn no_missing_sector_is_damage() {
        for value_bytes in [100, 700, 2_000] {
            let whole = record(value_bytes);
            for at in [72u64, 500, 511, 512] {
                let first = at / SECTOR;
                let sectors = (at + whole.len() as u64 - 1) / SECTOR - first + 1;
                // Every choice of sectors that did not reach the disk, but none.
                for missing in 1..1u32 << sectors {
                    let mut file = whole.clone();
                    for (i, b) in file.iter_mut().enumerate() {
                        let sector = (at + i as u64) / SECTOR - first;
                        if missing >> sector & 1 == 1 {
                            *b = 0;
                        }
                    }
                    file.resize(whole.len() + 1000, 0);
                    assert!(!is_damage(&file, at), "{value_bytes} bytes at {at}, sectors {missing:b}");
                    // And where the file ends before the record does.
                    for cut in [0, 5, FRAME, whole.len() / 2, whole.len() - 1] {
                        assert!(!is_damage(&file[..cut], at));
                    }
                }
            }
        }
    }

    #[test]
    fn garbled_bytes_of_a_whole_record_are_damage() {
        let mut file = record(100);
        file.resize(2_000, 0);
        for b in &mut file[20..40] {
            *b = b.wrapping_mul(17) | 1;
        }
        assert!(!one_bit_off(&file, 72, T(7), &BEFORE));
        assert!(is_damage(&file, 72));
    }
}
