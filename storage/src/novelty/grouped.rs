//! A [`Buffered`] map whose keys come in groups that can be read without an order: the facts of one
//! attribute of one entity, which every transaction asks for.
//!
//! 1. The changes of a group that wait are chained from the last one back, while they are few.
//! 2. A group of many waiting changes is read by way of the order, as ranges are.
//! 3. In a chain of few each key is there once. What was opened and closed again before anybody read it in
//!    order leaves nothing, so that a fact that changes all the time makes no long chain.
//!
//! Two groups under one number do no harm: keys tell them apart.

use super::buffered::{Buffered, Rows};
use crate::error::Res;
use crate::key::Key;
use crate::read::Range;
use hashbrown::HashMap;
use smallvec::SmallVec;

/// Waiting changes of a group up to which they are looked through one by one.
const FEW: u32 = 32;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// What is called with each key and its value.
type VisitRow<'v, V> = dyn FnMut(&[u8], V) -> Res<()> + 'v;

pub(crate) struct Grouped<V> {
    map: Buffered<V>,
    /// By the number of a group.
    chains: HashMap<u64, Chain>,
    /// For each waiting change the one before it in its group.
    before: Vec<u32>,
}

/// A waiting change that was found in a chain.
#[derive(Clone, Copy)]
pub(super) struct Found {
    at: u32,
    /// The one that follows it in the chain.
    after: u32,
    /// Its number, as [`Buffered::amend`] counts.
    pub number: u64,
}

#[derive(Clone, Copy)]
struct Chain {
    last: u32,
    n: u32,
}

impl<V> Default for Grouped<V> {
    fn default() -> Grouped<V> {
        Grouped { map: Buffered::default(), chains: HashMap::new(), before: Vec::new() }
    }
}

impl<V: Copy> Grouped<V> {
    /// An empty map, with room for as many waiting changes as this one has.
    pub fn with_room_of(&self) -> Grouped<V> {
        Grouped {
            map: self.map.with_room_of(),
            chains: HashMap::with_capacity(self.chains.len()),
            before: Vec::with_capacity(self.before.len()),
        }
    }

    /// The rows, without the groups.
    pub fn map(&self) -> &Buffered<V> {
        &self.map
    }

    /// Before a change, as [`Buffered::make_room`].
    pub fn make_room(&mut self) {
        if self.map.make_room() {
            self.before.clear();
            // Clearing costs by its capacity.
            match self.chains.capacity() > 4 * self.chains.len() + 64 {
                true => self.chains = HashMap::new(),
                false => self.chains.clear(),
            }
        }
    }

    /// The waiting change of a key, where it is among few: for [`Grouped::push`] and [`Grouped::amend`], that
    /// follow before anything else changes. To be called after [`Grouped::make_room`].
    pub fn find(&self, group: u64, key: &[u8]) -> Option<Found> {
        let chain = self.chains.get(&group).filter(|chain| chain.n <= FEW)?;
        let (mut at, mut after) = (chain.last, NONE);
        while let Some((k, _)) = self.map.pending.get(at) {
            if k == key {
                return Some(Found { at, after, number: self.map.number(at) });
            }
            (at, after) = (self.before[at as usize], at);
        }
        None
    }

    /// Gives a key of a group a value, or takes it out: a change more. `older` is what was found of the key.
    pub fn push(&mut self, group: u64, key: &[u8], to: Option<V>, older: Option<Found>) {
        // The chain has each key once, as long as it is looked through.
        if let Some(older) = older {
            self.unlink(group, older);
        }
        let at = self.map.pending.len() as u32;
        let chain = self.chains.entry(group).or_insert(Chain { last: NONE, n: 0 });
        self.before.push(chain.last);
        *chain = Chain { last: at, n: chain.n + 1 };
        self.map.pending.push(|out| out.extend_from_slice(key), to);
    }

    /// Gives the key of a change that waits another value.
    pub fn amend(&mut self, group: u64, found: Found, to: Option<V>) {
        self.map.pending.amend(found.at, to);
        if to.is_none() && self.map.sorted.is_empty() {
            self.unlink(group, found);
        }
    }

    /// Takes a change out of its chain.
    fn unlink(&mut self, group: u64, found: Found) {
        let before = self.before[found.at as usize];
        let chain = self.chains.get_mut(&group).expect("it is in the chain");
        chain.n -= 1;
        match found.after {
            NONE => chain.last = before,
            after => self.before[after as usize] = before,
        }
    }

    /// The value of a key of a group.
    pub fn get(&self, group: u64, key: &[u8]) -> Option<V> {
        match self.chains.get(&group) {
            Some(chain) if chain.n > FEW => self.map.get(key),
            chain => match self.waiting(chain).find(|(k, _)| *k == key) {
                Some((_, to)) => to,
                None if self.map.sorted.is_empty() => None,
                None => self.map.sorted.get(key).copied(),
            },
        }
    }

    /// Visits the rows of a range that lies within a group, in any order.
    pub fn each(&self, group: u64, range: &Range, visit: &mut VisitRow<'_, V>) -> Res<()> {
        let chain = self.chains.get(&group);
        if chain.is_some_and(|chain| chain.n > FEW) {
            return self.map.range(range).try_for_each(|(k, v)| visit(k, v));
        }
        let mut seen: SmallVec<[&[u8]; 8]> = SmallVec::new();
        for (k, to) in self.waiting(chain) {
            let inside = *k >= *range.from && range.to.as_ref().is_none_or(|to| *k < **to);
            if inside && !seen.contains(&k) {
                seen.push(k);
                if let Some(v) = to {
                    visit(k, v)?;
                }
            }
        }
        if self.map.sorted.is_empty() {
            return Ok(());
        }
        let rest = self.map.sorted.range::<Key, _>(&range.from..);
        for (k, v) in rest.take_while(|(k, _)| range.to.as_ref().is_none_or(|to| *k < to)) {
            if !seen.contains(&&k[..]) {
                visit(k, *v)?;
            }
        }
        Ok(())
    }

    /// The waiting changes of a chain, the last one first.
    fn waiting(&self, chain: Option<&Chain>) -> impl Iterator<Item = (&[u8], Option<V>)> {
        let mut at = chain.map_or(NONE, |chain| chain.last);
        std::iter::from_fn(move || {
            let change = self.map.pending.get(at)?;
            at = self.before[at as usize];
            Some(change)
        })
    }

    /// The rows of a range in order.
    pub fn range<'m>(&'m self, range: &'m Range) -> Rows<'m, V> {
        self.map.range(range)
    }

    /// The rows of a range from its end on.
    pub fn range_back<'m>(&'m self, range: &'m Range) -> Rows<'m, V> {
        self.map.range_back(range)
    }

    /// All rows in order.
    pub fn iter(&self) -> Rows<'_, V> {
        self.map.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Groups of few and of many changes, two of them under one number.
        #[test]
        fn groups_are_parts_of_a_map(
            steps in proptest::collection::vec((0u8..4, 0u8..12, proptest::option::of(any::<u8>()), 0u8..40), 0..400),
        ) {
            let (mut map, mut model) = (Grouped::default(), BTreeMap::new());
            for (group, n, to, read) in steps {
                let key = Key::from_slice(&[group, n]);
                let number = u64::from(group / 2 * 2);
                map.make_room();
                match map.find(number, &key) {
                    Some(found) if read % 2 == 0 => map.amend(number, found, to),
                    older => map.push(number, &key, to, older),
                }
                match to {
                    Some(v) => drop(model.insert(key.clone(), v)),
                    None => drop(model.remove(&key)),
                }
                prop_assert_eq!(map.get(number, &key), to);
                let range = Range { from: key, to: Some(Key::from_slice(&[group, 9])) };
                let mut found = BTreeMap::new();
                map.each(number, &range, &mut |k, v| {
                    assert!(found.insert(Key::from_slice(k), v).is_none(), "a row is shown once");
                    Ok(())
                }).unwrap();
                let expected: BTreeMap<_, _> = model
                    .iter()
                    .filter(|(k, _)| **k >= range.from && Some(*k) < range.to.as_ref())
                    .map(|(k, v)| (k.clone(), *v))
                    .collect();
                prop_assert_eq!(found, expected);
                if read == 0 {
                    let expected: Vec<_> = model.iter().map(|(k, v)| (&k[..], *v)).collect();
                    prop_assert_eq!(map.iter().collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
