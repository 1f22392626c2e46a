//! A map in the order of its keys whose newest changes wait in a list until somebody reads in order.
//!
//! 1. What the map holds is `sorted` with `pending` over it: of the changes of a key the last counts.
//! 2. The order of what waits is made by the first reader that needs it, and moves into `sorted` with the
//!    next change. So a load that nobody reads sorts every key once, at its checkpoint, in the thread that
//!    makes it; and a map that is read after each change costs what one kept in order does.
//! 3. Changes take `&mut`, reads `&`: a reader that makes the order holds up the others that need it, and
//!    the next change, for as long as it takes to sort [`MAX_PENDING`] keys, some 80 ms.
//!
//! Not here: reads of a few keys that need no order (`grouped`).

use crate::key::Key;
use crate::read::Range;
use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound,
    sync::OnceLock,
};

/// Changes that wait at most.
pub(super) const MAX_PENDING: usize = 1 << 19;
/// Keys from which on they move into the tree together, when the tree is not much larger.
const MANY: usize = 256;

/// Changes in the order they were made; their keys stand in one block of bytes, so that one costs little
/// more than its bytes.
pub(super) struct Changes<V> {
    keys: Vec<u8>,
    /// Where the key of each ends.
    ends: Vec<u32>,
    /// The value that each key is to have; none where it is to go.
    to: Vec<Option<V>>,
}

impl<V: Copy> Changes<V> {
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    fn key(&self, at: u32) -> &[u8] {
        let from = if at == 0 { 0 } else { self.ends[at as usize - 1] };
        &self.keys[from as usize..self.ends[at as usize] as usize]
    }
    /// The key of a change, and the value it is to have.
    pub fn get(&self, at: u32) -> Option<(&[u8], Option<V>)> {
        let to = self.to.get(at as usize)?;
        Some((self.key(at), *to))
    }
    /// Gives the key of a change another value.
    pub fn amend(&mut self, at: u32, to: Option<V>) {
        self.to[at as usize] = to;
    }
    /// Adds a change of the key that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>), to: Option<V>) {
        write(&mut self.keys);
        self.ends.push(self.keys.len() as u32);
        self.to.push(to);
    }
}

impl<V> Default for Changes<V> {
    fn default() -> Changes<V> {
        Changes { keys: Vec::new(), ends: Vec::new(), to: Vec::new() }
    }
}

/// A key's first word, and where its last change stands in the list.
type Place = (u64, u32);

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
        let much = self.pending.len() >= MAX_PENDING;
        if much || self.order.get().is_some() {
            self.absorb();
            return true;
        }
        false
    }

    fn absorb(&mut self) {
        let order = self.order.take().unwrap_or_else(|| self.places());
        let pending = std::mem::take(&mut self.pending);
        self.moved += pending.len() as u64;
        let taken =
            order.into_iter().map(|(_, at)| (Key::from_slice(pending.key(at)), pending.to[at as usize]));
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

    fn order(&self) -> &[Place] {
        if self.pending.len() == 0 { &[] } else { self.order.get_or_init(|| self.places()) }
    }

    /// The last changes in the order of their keys. Two words of each key are sorted instead of it, and
    /// decide nearly always.
    fn places(&self) -> Vec<Place> {
        let key = |at: u32| self.pending.key(at);
        let mut order: Vec<(u64, u64, u32)> =
            (0..self.pending.len() as u32).map(|at| (word(key(at), 0), word(key(at), 8), at)).collect();
        order.sort_unstable_by(|x, y| {
            let words = (x.0, x.1).cmp(&(y.0, y.1));
            words.then_with(|| key(x.2).cmp(key(y.2))).then(x.2.cmp(&y.2))
        });
        let mut places: Vec<Place> = Vec::with_capacity(order.len());
        for (i, (first, second, at)) in order.iter().enumerate() {
            let newer =
                order.get(i + 1).is_some_and(|(f, s, n)| (f, s) == (first, second) && key(*n) == key(*at));
            // Where there is no tree, nothing needs to be taken out of it.
            let says = self.pending.to[*at as usize].is_some() || !self.sorted.is_empty();
            if !newer && says {
                places.push((*first, *at));
            }
        }
        places
    }

    /// The value of a key, by way of the order.
    pub fn get(&self, key: &[u8]) -> Option<V> {
        let order = self.order();
        let at = self.place_of(order, key);
        match order.get(at).and_then(|(_, at)| self.pending.get(*at)) {
            Some((k, to)) if k == key => to,
            _ => self.sorted.get(key).copied(),
        }
    }

    /// The first place whose key is not less than `key`.
    fn place_of(&self, order: &[Place], key: &[u8]) -> usize {
        let first = word(key, 0);
        order.partition_point(|(w, at)| *w < first || (*w == first && self.pending.key(*at) < key))
    }

    /// The rows of a range in order.
    pub fn range<'m>(&'m self, range: &'m Range) -> Rows<'m, V> {
        self.rows(range, false)
    }

    /// The rows of a range from its end on.
    pub fn range_back<'m>(&'m self, range: &'m Range) -> Rows<'m, V> {
        self.rows(range, true)
    }

    fn rows<'m>(&'m self, range: &'m Range, back: bool) -> Rows<'m, V> {
        if range.is_empty() {
            return Rows { pending: &self.pending, sorted: None, held: None, order: &[], to: None, back };
        }
        // Forwards it is looked for the beginning only: looking for the end as well would double the cost
        // of a short range.
        let end = if back { range.bounds().1 } else { Bound::Unbounded };
        let from = Bound::Included(&range.from);
        let sorted = (!self.sorted.is_empty()).then(|| self.sorted.range::<Key, _>((from, end)));
        let mut order = self.order();
        if !order.is_empty() {
            let to = range.to.as_ref().map_or(order.len(), |to| self.place_of(order, to));
            order = &order[self.place_of(order, &range.from)..to];
        }
        Rows { pending: &self.pending, sorted, held: None, order, to: range.to.as_ref(), back }
    }

    /// All rows in order.
    pub fn iter(&self) -> Rows<'_, V> {
        let sorted = (!self.sorted.is_empty()).then(|| self.sorted.range::<Key, _>(..));
        Rows { pending: &self.pending, sorted, held: None, order: self.order(), to: None, back: false }
    }
}

/// Eight bytes of a key as a number that is ordered like them; bytes that are not there count as 0.
fn word(key: &[u8], at: usize) -> u64 {
    let bytes = key.get(at..).unwrap_or_default();
    match bytes.first_chunk() {
        Some(word) => u64::from_be_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(word)
        }
    }
}

/// Rows of a [`Buffered`] in order, or backwards: its tree, and over it what waits.
pub(crate) struct Rows<'m, V> {
    pending: &'m Changes<V>,
    sorted: Option<btree_map::Range<'m, Key, V>>,
    /// A row of the tree that has been read too early.
    held: Option<(&'m [u8], V)>,
    order: &'m [Place],
    to: Option<&'m Key>,
    back: bool,
}

impl<'m, V: Copy> Rows<'m, V> {
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
            let (key, to) = (self.pending.key(*at), self.pending.to[*at as usize]);
            if let Some((k, _)) = sorted
                && k != key
            {
                if (k < key) != self.back {
                    return sorted;
                }
                self.held = sorted;
            }
            self.order = rest;
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
