//! Columns of the past that are kept, and which of them are let go.
//!
//! Most moments are asked about once: "as of an hour ago" is another moment each time. So a column is not kept
//! for having been used, but for being used again, as pages are by 2Q (Johnson and Shasha, *2Q: A Low Overhead High
//! Performance Buffer Management Replacement Algorithm*, VLDB 1994, the full version):
//!
//! 1. A new column is *young*. The young take a small part of the cache and leave it in the order they came; that
//!    one is used again meanwhile counts for nothing, since one query may read a column many times.
//! 2. Of those that left, the names are remembered, a fixed number of them.
//! 3. A column that is asked for while its name is remembered is *old*: the old leave by how long ago they were
//!    used, and take at most half of the cache, which belongs to the present.
//!
//! Departing from 2Q: sizes are bytes, since columns are no pages. A column that is larger than the room of the
//! young is but a name at once.

use super::Pin;
use annals_model::{AttrId, Column, Dict, Order, T, View};
use hashbrown::HashMap;
use std::{collections::BTreeMap, sync::Arc};

/// The part of the cache, of how many, that the young may take.
const YOUNG: usize = 64;
/// The part that the old may take.
const OLD: usize = 2;
/// Names that are remembered.
const NAMES: usize = 1024;
/// What a column takes beside its rows: one without any must not be kept for nothing.
const OVERHEAD: usize = 256;

fn size(column: &Column) -> usize {
    column.bytes() + OVERHEAD
}

/// Columns of the past.
#[derive(Default)]
pub(super) struct Pins {
    columns: HashMap<Pin, Pinned>,
    young: Queue,
    old: Queue,
    /// What left the young: when.
    names: HashMap<Pin, u64>,
    by_leaving: BTreeMap<u64, Pin>,
}

struct Pinned {
    dict: Arc<Dict>,
    column: Arc<Column>,
    /// When it was put in, of a young one; when it was last used, of an old one.
    at: u64,
    is_old: bool,
}

/// Columns in the order they are to leave.
#[derive(Default)]
struct Queue {
    order: BTreeMap<u64, Pin>,
    bytes: usize,
}

impl Pins {
    /// The column under a name, if it is kept; `now` is a moment of a clock that never stands.
    pub fn get(&mut self, pin: &Pin, dict: &Arc<Dict>, now: u64) -> Option<Arc<Column>> {
        let p = self.columns.get_mut(pin).filter(|p| Arc::ptr_eq(&p.dict, dict))?;
        if p.is_old {
            self.old.order.remove(&p.at);
            self.old.order.insert(now, *pin);
            p.at = now;
        }
        Some(p.column.clone())
    }

    /// Keeps a column, within what columns of the past may take of a cache of `limit` bytes.
    pub fn put(&mut self, pin: Pin, dict: &Arc<Dict>, column: &Arc<Column>, now: u64, limit: usize) {
        self.remove(&pin);
        let is_old = match self.names.remove(&pin) {
            Some(left) => self.by_leaving.remove(&left).is_some(),
            None => false,
        };
        let queue = if is_old { &mut self.old } else { &mut self.young };
        queue.order.insert(now, pin);
        queue.bytes += size(column);
        self.columns.insert(pin, Pinned { dict: dict.clone(), column: column.clone(), at: now, is_old });
        while self.young.bytes > limit / YOUNG {
            let Some((at, pin)) = self.young.order.first_key_value().map(|(at, pin)| (*at, *pin)) else {
                break;
            };
            self.remove(&pin);
            self.names.insert(pin, at);
            self.by_leaving.insert(at, pin);
        }
        while self.by_leaving.len() > NAMES {
            if let Some((_, pin)) = self.by_leaving.pop_first() {
                self.names.remove(&pin);
            }
        }
        while self.old.bytes > limit / OLD && self.drop_oldest() {}
    }

    /// When the column was last used that is the next of the old to leave.
    pub fn oldest(&self) -> Option<u64> {
        self.old.order.first_key_value().map(|(at, _)| *at)
    }

    /// Lets go of the old one that was used longest ago; false when there is none.
    pub fn drop_oldest(&mut self) -> bool {
        match self.old.order.first_key_value().map(|(_, pin)| *pin) {
            Some(pin) => {
                self.remove(&pin);
                true
            }
            None => false,
        }
    }

    fn remove(&mut self, pin: &Pin) {
        if let Some(p) = self.columns.remove(pin) {
            let queue = if p.is_old { &mut self.old } else { &mut self.young };
            queue.order.remove(&p.at);
            queue.bytes -= size(&p.column);
        }
    }

    /// Lets go of an attribute's columns: its past has changed.
    pub fn forget(&mut self, a: AttrId) {
        let of: Vec<Pin> = self.columns.keys().filter(|pin| pin.0 == a).copied().collect();
        for pin in of {
            self.remove(&pin);
        }
    }

    /// Is the attribute's column kept as a view shows it, in one order or the other?
    pub fn has(&self, a: AttrId, upto: T, view: View) -> bool {
        [Order::Eav, Order::Ave].into_iter().any(|order| self.columns.contains_key(&(a, order, upto, view)))
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Bytes of all columns.
    pub fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 64_000;

    fn pin(t: u64) -> Pin {
        (AttrId::new(7), Order::Eav, T(t), View { as_of: Some(T(t)), ..View::NOW })
    }

    /// A column of so many rows, of 24 bytes each.
    fn column(rows: usize) -> Arc<Column> {
        let cells = vec![0; rows];
        Arc::new(Column { order: Order::Eav, e: cells.clone(), v: cells.clone(), t: cells, added: None })
    }

    struct Cache {
        pins: Pins,
        dict: Arc<Dict>,
        now: u64,
    }

    impl Cache {
        fn new() -> Cache {
            Cache { pins: Pins::default(), dict: Dict::current(), now: 0 }
        }
        /// Asks for the column of a moment, makes it when it is not there; was it?
        fn ask(&mut self, t: u64, rows: usize) -> bool {
            self.now += 1;
            if self.pins.get(&pin(t), &self.dict, self.now).is_some() {
                return true;
            }
            self.pins.put(pin(t), &self.dict, &column(rows), self.now, LIMIT);
            let sum = |old| -> usize {
                self.pins.columns.values().filter(|p| p.is_old == old).map(|p| size(&p.column)).sum()
            };
            assert_eq!((sum(false), sum(true)), (self.pins.young.bytes, self.pins.old.bytes));
            assert!(sum(false) <= LIMIT / YOUNG && sum(true) <= LIMIT / OLD);
            assert!(self.pins.names.len() <= NAMES && self.pins.names.len() == self.pins.by_leaving.len());
            false
        }
    }

    #[test]
    fn moments_asked_once_take_no_more_than_the_room_of_the_young() {
        let mut c = Cache::new();
        assert!((0..10_000).all(|t| !c.ask(t, t as usize % 20)));
        assert!(c.pins.bytes() <= LIMIT / YOUNG && c.pins.columns.len() < 5, "{}", c.pins.bytes());
    }

    #[test]
    fn a_moment_asked_again_is_kept_while_others_pass() {
        let mut c = Cache::new();
        // At once: it is young still, and leaves as the others do.
        assert!(!c.ask(1, 10) && c.ask(1, 10) && c.ask(1, 10));
        assert!((100..200).all(|t| !c.ask(t, 10)));
        // After it left: now it stays.
        assert!(!c.ask(1, 10));
        assert!((200..5_000).all(|t| !c.ask(t, 10) && (t % 100 > 0 || c.ask(1, 10))));
        assert!(c.ask(1, 10));
    }

    #[test]
    fn one_too_large_for_the_young_is_kept_from_the_second_time() {
        let mut c = Cache::new();
        assert!(!c.ask(1, 1_000) && !c.ask(1, 1_000) && c.ask(1, 1_000));
    }

    #[test]
    fn of_the_old_those_leave_that_were_used_longest_ago() {
        let mut c = Cache::new();
        for _ in 0..2 {
            assert!((1..=3).all(|t| !c.ask(t, 400)));
        }
        assert!(c.ask(2, 400) && c.ask(1, 400));
        assert!(
            !c.ask(4, 400) && !c.ask(4, 400),
            "a fourth of some 10,000 bytes is more than half of the cache"
        );
        assert!(c.ask(1, 400) && c.ask(2, 400) && c.ask(4, 400));
        assert!(!c.pins.has(AttrId::new(7), T(3), pin(3).3));
    }

    #[test]
    fn what_is_forgotten_takes_nothing() {
        let mut c = Cache::new();
        for _ in 0..2 {
            assert!((1..=2).all(|t| !c.ask(t, 400)));
        }
        c.ask(3, 10);
        c.pins.forget(AttrId::new(8));
        assert!(c.pins.bytes() > 0);
        c.pins.forget(AttrId::new(7));
        assert!(c.pins.is_empty() && c.pins.bytes() == 0 && c.pins.oldest().is_none());
    }
}
