//! A map in the order of its keys whose newest changes wait in a list until somebody reads in order.
//!
//! 1. What the map holds is `sorted` with `pending` over it: of the changes of a key the last counts.
//! 2. The order of what waits is made by the first reader that needs it, and moves into `sorted` with the
//!    next change. So a load that nobody reads sorts every key once, at its checkpoint, in the thread that
//!    makes it; and a map that is read after each change costs what one kept in order does.
//! 3. Changes take `&mut`, reads `&`: a reader that makes the order holds up the others that need it, and
//!    the next change, for as long as it takes to sort [`MAX_PENDING`] keys, some 150 ms.
//!
//! Not here: reads of a few keys that need no order (`grouped`), and a map whose changes are those of another
//! (`mirror`).

use super::changes::{Changes, Place};
use crate::key::Key;
use crate::read::Range;
use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound,
    sync::OnceLock,
};

/// Changes that wait at most.
pub(super) const MAX_PENDING: usize = 1 << 20;
/// Keys from which on they move into the tree together, when the tree is not much larger.
const MANY: usize = 256;

pub(crate) struct Buffered<V> {
    pub(super) sorted: BTreeMap<Key, V>,
    pub(super) pending: Changes<V>,
    /// Changes that have moved into the tree: the number of the first that waits.
    moved: u64,
    /// The last change of each key that waits, in order.
    order: OnceLock<Vec<Place>>,
}

impl<V> Default for Buffered<V> {
    fn default() -> Buffered<V> {
        Buffered { sorted: BTreeMap::new(), pending: Changes::default(), moved: 0, order: OnceLock::new() }
    }
}

impl<V: Copy> Buffered<V> {
    /// An empty map, with room for as many waiting changes as this one has.
    pub fn with_room_of(&self) -> Buffered<V> {
        Buffered { pending: Changes::with_room_of(&self.pending), ..Buffered::default() }
    }

    /// Gives the key that `write` appends a value, or takes it out. It need not be known whether it is
    /// there.
    pub fn set(&mut self, write: impl FnOnce(&mut Vec<u8>), to: Option<V>) {
        self.make_room();
        self.pending.push(write, to);
    }

    /// Gives the key of a change that waits, the last one of that key, another value, as if it had been given
    /// at once. Changes are numbered as they are made, from 0 on. To be called after [`Buffered::make_room`].
    pub fn amend(&mut self, number: u64, to: Option<V>) {
        debug_assert!(self.order.get().is_none());
        let at = self.place(number).expect("the change waits");
        self.pending.amend(at, to);
    }

    /// Does the change of a number wait?
    pub fn waits(&self, number: u64) -> bool {
        self.place(number).is_some()
    }

    fn place(&self, number: u64) -> Option<u32> {
        let at = number.checked_sub(self.moved)?;
        (at < self.pending.len() as u64).then_some(at as u32)
    }

    /// The number of a change that waits.
    pub(super) fn number(&self, at: u32) -> u64 {
        self.moved + u64::from(at)
    }

    /// Before a change: moves what waits into the tree if somebody has read its order, or if it is much.
    /// Says whether it did.
    pub fn make_room(&mut self) -> bool {
        let ripe = self.is_ripe();
        if ripe {
            self.absorb();
        }
        ripe
    }

    /// Will what waits move into the tree before the next change?
    pub fn is_ripe(&self) -> bool {
        self.pending.len() >= MAX_PENDING || self.order.get().is_some()
    }

    fn absorb(&mut self) {
        let order = self.order.take().unwrap_or_else(|| self.pending.places(!self.sorted.is_empty()));
        let pending = std::mem::take(&mut self.pending);
        self.moved += pending.len() as u64;
        let taken = order.into_iter().map(|(_, at)| {
            let (key, to) = pending.get(at).expect("the place is one of a change");
            (Key::from_slice(key), to)
        });
        let n = taken.len();
        if n < MANY || self.sorted.len() > 2 * n {
            for (key, to) in taken {
                match to {
                    Some(v) => drop(self.sorted.insert(key, v)),
                    None => drop(self.sorted.remove(&key)),
                }
            }
            return;
        }
        let mut more = Vec::with_capacity(n);
        for (key, to) in taken {
            match to {
                Some(v) => more.push((key, v)),
                None => drop(self.sorted.remove(&key)),
            }
        }
        self.sorted.append(&mut more.into_iter().collect());
    }

    /// What waits, in order.
    pub(super) fn order(&self) -> &[Place] {
        if self.pending.len() == 0 {
            return &[];
        }
        // Where there is no tree, nothing needs to be taken out of it.
        self.order.get_or_init(|| self.pending.places(!self.sorted.is_empty()))
    }

    /// Tells the order of what waits.
    pub(super) fn set_order(&mut self, order: Vec<Place>) {
        self.order = OnceLock::from(order);
    }

    /// The value of a key, by way of the order.
    pub fn get(&self, key: &[u8]) -> Option<V> {
        let order = self.order();
        let at = self.pending.place_of(order, key);
        match order.get(at).and_then(|(_, at)| self.pending.get(*at)) {
            Some((k, to)) if k == key => to,
            _ => self.sorted.get(key).copied(),
        }
    }

    /// The rows of a range in order.
    pub fn range<'m>(&'m self, range: &'m Range) -> Rows<'m, V> {
        Rows::within(&self.sorted, &self.pending, self.order(), range, false)
    }

    /// The rows of a range from its end on.
    pub fn range_back<'m>(&'m self, range: &'m Range) -> Rows<'m, V> {
        Rows::within(&self.sorted, &self.pending, self.order(), range, true)
    }

    /// All rows in order.
    pub fn iter(&self) -> Rows<'_, V> {
        Rows::all(&self.sorted, &self.pending, self.order())
    }
}

/// Rows in order, or backwards: a tree, and over it what waits.
pub(crate) struct Rows<'m, V> {
    pending: &'m Changes<V>,
    sorted: Option<btree_map::Range<'m, Key, V>>,
    /// A row of the tree that has been read too early.
    held: Option<(&'m [u8], V)>,
    order: &'m [Place],
    to: Option<&'m Key>,
    back: bool,
    /// How many rows are still to come of those read ahead; none where nothing is.
    ahead: Option<usize>,
}

/// Rows whose memory is asked for together.
const AHEAD: usize = 16;

impl<'m, V: Copy> Rows<'m, V> {
    /// The rows of a range.
    pub(super) fn within(
        tree: &'m BTreeMap<Key, V>,
        pending: &'m Changes<V>,
        mut order: &'m [Place],
        range: &'m Range,
        back: bool,
    ) -> Rows<'m, V> {
        if range.is_empty() {
            return Rows { pending, sorted: None, held: None, order: &[], to: None, back, ahead: None };
        }
        // Forwards it is looked for the beginning only: looking for the end as well would double the cost
        // of a short range.
        let end = if back { range.bounds().1 } else { Bound::Unbounded };
        let from = Bound::Included(&range.from);
        let sorted = (!tree.is_empty()).then(|| tree.range::<Key, _>((from, end)));
        if !order.is_empty() {
            let to = range.to.as_ref().map_or(order.len(), |to| pending.place_of(order, to));
            order = &order[pending.place_of(order, &range.from)..to];
        }
        Rows { pending, sorted, held: None, order, to: range.to.as_ref(), back, ahead: None }
    }

    /// All rows.
    pub(super) fn all(
        tree: &'m BTreeMap<Key, V>,
        pending: &'m Changes<V>,
        order: &'m [Place],
    ) -> Rows<'m, V> {
        let sorted = (!tree.is_empty()).then(|| tree.range::<Key, _>(..));
        Rows { pending, sorted, held: None, order, to: None, back: false, ahead: Some(0) }
    }

    /// Touches some of the rows that come next. In order of their keys they lie far apart: waiting for each in
    /// turn takes as long as all that is done with it, and waiting for all together not much longer than for one.
    fn read_ahead(&mut self) {
        let Some(left) = &mut self.ahead else { return };
        if *left == 0 {
            let touched = self.order.iter().take(AHEAD).fold(0, |sum, (_, at)| sum ^ self.pending.touch(*at));
            std::hint::black_box(touched);
            *left = AHEAD;
        }
        *left -= 1;
    }

    fn next_sorted(&mut self) -> Option<(&'m [u8], V)> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        let rows = self.sorted.as_mut()?;
        let row = if self.back { rows.next_back() } else { rows.next() };
        let row = row.filter(|(k, _)| self.back || self.to.is_none_or(|to| *k < to));
        if row.is_none() {
            self.sorted = None;
        }
        row.map(|(k, v)| (&k[..], *v))
    }
}

impl<'m, V: Copy> Iterator for Rows<'m, V> {
    type Item = (&'m [u8], V);

    fn next(&mut self) -> Option<(&'m [u8], V)> {
        loop {
            let sorted = self.next_sorted();
            let waits = if self.back { self.order.split_last() } else { self.order.split_first() };
            let Some(((_, at), rest)) = waits else { return sorted };
            let (key, to) = self.pending.get(*at).expect("the place is one of a change");
            if let Some((k, _)) = sorted
                && k != key
            {
                if (k < key) != self.back {
                    return sorted;
                }
                self.held = sorted;
            }
            self.order = rest;
            self.read_ahead();
            if let Some(v) = to {
                return Some((key, v));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> Key {
        // Some share their first words, some are each other's beginnings.
        Key::from_slice(&vec![n % 3; usize::from(n / 3) * 5])
    }

    proptest! {
        /// Whatever is read in between, the map is the one of the standard library.
        #[test]
        fn it_is_a_map(
            steps in proptest::collection::vec((0u8..30, proptest::option::of(any::<u8>()), 0u8..8), 0..600),
            from in 0u8..30, to in proptest::option::of(0u8..30),
        ) {
            let (mut map, mut model) = (Buffered::default(), BTreeMap::new());
            let (mut numbers, mut next) = (BTreeMap::new(), 0);
            let range = Range { from: key(from), to: to.map(key) };
            for (n, to, read) in steps {
                // Some changes are amended: that of this key, while it waits.
                map.make_room();
                match numbers.get(&key(n)).filter(|number| read % 2 == 0 && map.waits(**number)) {
                    Some(number) => map.amend(*number, to),
                    None => {
                        numbers.insert(key(n), next);
                        next += 1;
                        map.set(|out| out.extend_from_slice(&key(n)), to);
                    }
                }
                match to {
                    Some(v) => drop(model.insert(key(n), v)),
                    None => drop(model.remove(&key(n))),
                }
                let inside = |k: &Key| *k >= range.from && range.to.as_ref().is_none_or(|to| k < to);
                let expected: Vec<_> = model.iter().filter(|(k, _)| inside(k)).map(|(k, v)| (&k[..], *v)).collect();
                match read {
                    0 => prop_assert_eq!(map.range(&range).collect::<Vec<_>>(), expected),
                    1 => {
                        let back: Vec<_> = expected.into_iter().rev().collect();
                        prop_assert_eq!(map.range_back(&range).collect::<Vec<_>>(), back);
                    }
                    2 => prop_assert_eq!(map.get(&key(n)), to),
                    _ => {}
                }
            }
            let expected: Vec<_> = model.iter().map(|(k, v)| (&k[..], *v)).collect();
            prop_assert_eq!(map.iter().collect::<Vec<_>>(), expected);
            map.absorb();
            prop_assert_eq!(&map.sorted, &model);
        }
    }

    #[test]
    fn only_so_much_waits() {
        let mut map = Buffered::default();
        for n in 0..MAX_PENDING as u32 + 10 {
            map.set(|out| out.extend(n.wrapping_mul(0x9E37_79B1).to_be_bytes()), Some(n));
        }
        assert_eq!((map.sorted.len(), map.pending.len()), (MAX_PENDING, 10));
        assert_eq!(map.iter().count(), MAX_PENDING + 10);
    }
}
