//! Where events live: side tables of the store, written in the same log record
//! as the facts the events cause.
//!
//! | table | key | value |
//! |---|---|---|
//! | 1 event | position | the event ([`crate::event::record`]) |
//! | 2 stream | stream, version | position |
//! | 3 id | event id | position |
//! | 4 type | type, position | nothing |
//! | 5 tag | tag, position | nothing |
//! | 6 head | stream | [`Head`] |
//! | 7 command | command id | [`crate::event::command::CommandOutcome`] |
//! | 8 tracking | source | number |
//! | 9 projection | name | `event::registry` |
//! | 10 support | entity, attribute, hash of value, position | nothing |
//! | 11 parked | projection, position | why |
//! | 12 snapshot | stream | `event::snapshot` |
//! | 13 outbox | t, number | a command to be carried out, `event::outbox` |
//! | 14 process | process, instance | its state |
//! | 15 timer | process, instance, name | when, and what to send |
//! | 16 due | instant, process, instance, name | nothing |
//! | 18 counter | name | number |
//! | 19 skip | projection, position | who and why, `event::skip` |
//! | 20 by | t | the command whose events these are, when they do not name it |
//!
//! 1. Numbers in keys are a length byte and big-endian bytes: short, in order, and
//!    free of the bytes 0 and 1, which a key pays for twice.
//! 2. Text in keys ends with byte 2, which no name contains.

use crate::event::{
    data::{DataError, Reader, put_varint},
    id::{Position, StreamId, Version},
};
use crate::{DbError, snapshot::Snapshot};
use annals_storage::Row;
use std::ops::ControlFlow;

pub(crate) const EVENT: u8 = 1;
pub(crate) const STREAM: u8 = 2;
pub(crate) const ID: u8 = 3;
pub(crate) const TYPE: u8 = 4;
pub(crate) const TAG: u8 = 5;
pub(crate) const HEAD: u8 = 6;
pub(crate) const COMMAND: u8 = 7;
pub(crate) const TRACKING: u8 = 8;
pub(crate) const PROJECTION: u8 = 9;
pub(crate) const SUPPORT: u8 = 10;
pub(crate) const PARKED: u8 = 11;
pub(crate) const SNAPSHOT: u8 = 12;
pub(crate) const OUTBOX: u8 = 13;
pub(crate) const PROCESS: u8 = 14;
pub(crate) const TIMER: u8 = 15;
pub(crate) const DUE: u8 = 16;
pub(crate) const COUNTER: u8 = 18;
pub(crate) const SKIP: u8 = 19;
pub(crate) const BY: u8 = 20;

/// Ends a text in a key.
pub(crate) const END: u8 = 2;

/// Builds a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    pub fn new() -> Key {
        Key(Vec::with_capacity(40))
    }
    pub fn number(mut self, n: u64) -> Key {
        let bytes = n.to_be_bytes();
        let skip = (n.leading_zeros() / 8) as usize;
        self.0.push(0x10 + (8 - skip) as u8);
        self.0.extend_from_slice(&bytes[skip..]);
        self
    }
    pub fn text(mut self, text: &str) -> Key {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(END);
        self
    }
    pub fn bytes(mut self, bytes: &[u8]) -> Key {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn done(self) -> Vec<u8> {
        self.0
    }
    /// Just past every key that begins with this one.
    pub fn after(self) -> Vec<u8> {
        let mut key = self.0;
        key.push(0xff);
        key
    }
}

/// The number at the end of a key.
pub(crate) fn last_number(key: &[u8], prefix: usize) -> Option<u64> {
    let rest = key.get(prefix..)?;
    let (len, bytes) = rest.split_first()?;
    if usize::from(len.checked_sub(0x10)?) != bytes.len() || bytes.len() > 8 {
        return None;
    }
    Some(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// A row to be written.
pub(crate) fn put(table: u8, key: Key, value: impl Into<Vec<u8>>) -> Row {
    Row { table, key: key.done(), value: Some(value.into()) }
}
/// A number as a row's value.
pub(crate) fn number(n: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(4);
    put_varint(&mut out, n);
    out
}
/// The number in a row's value.
pub(crate) fn read_number(bytes: &[u8]) -> Result<u64, DataError> {
    Reader::new(bytes).varint()
}

/// What has become of a stream's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StreamState {
    /// It is in use.
    #[default]
    Live,
    /// Softly deleted: readers see nothing before `first`; writing goes on at the next version.
    Deleted,
    /// Closed for good.
    Tombstoned,
}

/// A stream at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// How many events it was ever given.
    pub version: Version,
    /// Events before this version are no longer shown.
    pub first: Version,
    /// Position of its newest event.
    pub last: Position,
    /// Its state.
    pub state: StreamState,
    /// Show at most this many events: retention for technical streams; 0 keeps all.
    pub max_count: u64,
    /// Show events of the last so many seconds only; 0 keeps all.
    pub max_age_secs: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12);
        out.push(match self.state {
            StreamState::Live => 0,
            StreamState::Deleted => 1,
            StreamState::Tombstoned => 2,
        });
        for n in [self.version.0, self.first.0, self.last.0, self.max_count, self.max_age_secs] {
            put_varint(&mut out, n);
        }
        out
    }
    pub(crate) fn decode(bytes: &[u8]) -> Result<Head, DataError> {
        let mut r = Reader::new(bytes);
        let state = match r.u8()? {
            0 => StreamState::Live,
            1 => StreamState::Deleted,
            2 => StreamState::Tombstoned,
            _ => return Err(DataError::Damaged(0)),
        };
        Ok(Head {
            state,
            version: Version(r.varint()?),
            first: Version(r.varint()?),
            last: Position(r.varint()?),
            max_count: r.varint()?,
            max_age_secs: r.varint()?,
        })
    }
    /// The first version still shown.
    pub(crate) fn shown_from(&self) -> Version {
        let by_count = match self.max_count {
            0 => 0,
            n => (self.version.0 + 1).saturating_sub(n),
        };
        Version(self.first.0.max(by_count).max(1))
    }
}

/// Receives keys and values until it breaks.
pub(crate) type VisitRow<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;
/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// Side tables at a fixed basis, speculated transactions on top.
#[derive(Clone)]
pub(crate) struct Tables {
    pub snap: Snapshot,
}

impl Tables {
    pub fn new(snap: Snapshot) -> Tables {
        Tables { snap }
    }

    /// One row.
    pub fn row(&self, table: u8, key: Key) -> Result<Option<Vec<u8>>, DbError> {
        let key = key.done();
        if let Some(r) = self.snap.speculated_rows().rfind(|r| r.table == table && r.key == key) {
            return Ok(r.value.clone());
        }
        Ok(self.snap.store.row(self.snap.basis, table, &key)?)
    }

    /// Rows with `from <= key < to`, in order of keys or backwards, until `visit` breaks.
    pub fn rows(
        &self,
        table: u8,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), DbError> {
        let mut over = std::collections::BTreeMap::new();
        for r in self.snap.speculated_rows().filter(|r| r.table == table && &*r.key >= from && &*r.key < to) {
            over.insert(r.key.clone(), r.value.clone());
        }
        if over.is_empty() {
            return Ok(self.snap.store.rows(self.snap.basis, table, from, to, reverse, visit)?);
        }
        let mut over: Vec<_> = over.into_iter().collect();
        if !reverse {
            over.reverse();
        }
        // What is next stands last. A speculated row comes before the stored ones that follow
        // it, and in place of the one it replaces.
        let mut stopped = false;
        self.snap.store.rows(self.snap.basis, table, from, to, reverse, &mut |k, v| {
            while let Some((key, value)) =
                over.pop_if(|(o, _)| o.as_slice() == k || (o.as_slice() < k) != reverse)
            {
                stopped = value.is_some_and(|value| visit(&key, &value).is_break());
                if stopped {
                    return ControlFlow::Break(());
                }
                if key == k {
                    return ControlFlow::Continue(());
                }
            }
            let flow = visit(k, v);
            stopped = flow.is_break();
            flow
        })?;
        while let Some((key, value)) = over.pop().filter(|_| !stopped) {
            stopped = value.is_some_and(|value| visit(&key, &value).is_break());
        }
        Ok(())
    }

    /// Every row under a prefix.
    pub fn under(&self, table: u8, prefix: Key) -> Result<Vec<Pair>, DbError> {
        let (from, to) = (prefix.clone().done(), prefix.after());
        let mut found = Vec::new();
        self.rows(table, &from, &to, false, &mut |k, v| {
            found.push((k.to_vec(), v.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// A stream's head; the default for one that never was.
    pub fn head(&self, stream: &StreamId) -> Result<Head, DbError> {
        match self.row(HEAD, Key::new().text(stream.as_str()))? {
            Some(bytes) => Ok(Head::decode(&bytes)?),
            None => Ok(Head::default()),
        }
    }

    /// The newest position.
    pub fn last_position(&self) -> Result<Position, DbError> {
        let speculated = self.snap.speculated_rows().filter(|r| r.table == EVENT && r.value.is_some());
        if let Some(last) = speculated.filter_map(|r| last_number(&r.key, 0)).max() {
            return Ok(Position(last));
        }
        // The newest there is, whatever the basis; then down to the basis, if that is older.
        // (A scan backwards would pass over every event since.)
        let (store, basis) = (&self.snap.store, self.snap.basis);
        let newest = store.newest();
        let mut last = 0;
        store.rows(newest, EVENT, &[], &[0xff], true, &mut |k, _| {
            last = last_number(k, 0).unwrap_or(0);
            ControlFlow::Break(())
        })?;
        if basis >= newest {
            return Ok(Position(last));
        }
        let known = |p: u64| store.row(basis, EVENT, &Key::new().number(p).done()).map(|r| r.is_some());
        // A basis is mostly a recent one: the steps down double.
        let (mut high, mut step) = (last, 1);
        while high > 0 && !known(high)? {
            last = high - 1;
            high = high.saturating_sub(step);
            step *= 2;
        }
        let mut low = high;
        while low < last {
            let mid = low + (last - low).div_ceil(2);
            if known(mid)? { low = mid } else { last = mid - 1 }
        }
        Ok(Position(low))
    }

    /// Where an event id is stored.
    pub fn position_of(&self, id: crate::event::id::EventId) -> Result<Option<Position>, DbError> {
        match self.row(ID, Key::new().bytes(id.0.as_bytes()))? {
            Some(bytes) => Ok(Some(Position(read_number(&bytes)?))),
            None => Ok(None),
        }
    }

    /// Visits the stored bytes of events in the order of the positions given, which is best the
    /// order of the log or the reverse. Positions that hold no event are passed over.
    pub fn events_at(
        &self,
        positions: &[Position],
        visit: &mut dyn FnMut(Position, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), DbError> {
        let key = |p: &Position| Key::new().number(p.0).done();
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else { return Ok(()) };
        let back = first > last;
        let (low, high) = if back { (last, first) } else { (first, last) };
        let sorted = positions.is_sorted_by(|a, b| if back { a > b } else { a < b });
        if sorted && high.0 - low.0 < 2 * positions.len() as u64 {
            // Most of what lies between is wanted.
            let mut wanted = positions.iter().peekable();
            return self.rows(EVENT, &key(low), &key(&high.next()), back, &mut |k, bytes| {
                let Some(p) = last_number(k, 0).map(Position) else { return ControlFlow::Continue(()) };
                while wanted.next_if(|w| if back { **w > p } else { **w < p }).is_some() {}
                match wanted.next_if(|w| **w == p) {
                    Some(_) => visit(p, bytes),
                    None => ControlFlow::Continue(()),
                }
            });
        }
        if self.snap.speculated_rows().next().is_some() {
            for p in positions {
                if let Some(bytes) = self.row(EVENT, Key::new().number(p.0))?
                    && visit(*p, &bytes).is_break()
                {
                    break;
                }
            }
            return Ok(());
        }
        let keys: Vec<_> = positions.iter().map(key).collect();
        let (store, basis) = (&self.snap.store, self.snap.basis);
        Ok(store.rows_of(basis, EVENT, &keys, &mut |i, bytes| visit(positions[i], bytes))?)
    }

    /// The stored event, without upcasting.
    pub fn event(&self, p: Position) -> Result<Option<crate::event::record::Recorded>, DbError> {
        match self.row(EVENT, Key::new().number(p.0))? {
            Some(bytes) => Ok(Some(crate::event::record::Recorded::decode(p, &bytes)?)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_keys_keep_their_order() {
        let numbers = [0, 1, 255, 256, 65_535, 65_536, 1 << 40, u64::MAX];
        let keys: Vec<_> = numbers.iter().map(|n| Key::new().text("s").number(*n).done()).collect();
        assert!(keys.is_sorted());
        for (n, k) in numbers.iter().zip(&keys) {
            assert_eq!(last_number(k, 2), Some(*n));
        }
    }

    #[test]
    fn heads_are_read_back_and_retention_moves_what_is_shown() {
        let h = Head { version: Version(10), max_count: 3, state: StreamState::Deleted, ..Head::default() };
        assert_eq!(Head::decode(&h.encode()).unwrap(), h);
        assert_eq!(h.shown_from(), Version(8));
        assert_eq!(Head { first: Version(9), ..h }.shown_from(), Version(9));
    }
}
