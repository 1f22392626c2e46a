//! A [`Buffered`] map whose keys come in groups that can be read without an order: the facts of one
//! attribute of one entity, which every transaction asks for.
//!
//! 1. The changes of a group that wait are chained from the last one back, while they are few.
//! 2. A group of many waiting changes is read by way of the order, as ranges are.
//! 3. In a chain of few each key is there once. What was opened and closed again before anybody read it in
//!    order leaves nothing, so that a fact that changes all the time makes no long chain.
//! 4. Changes of new keys that come by the thousand are chained when somebody asks for a group: to find a place
//!    for each costs more than all else that is done with it, and after most of them nobody asks.
//!
//! Two groups under one number do no harm: keys tell them apart.

use super::buffered::{Buffered, Rows};
use crate::error::Res;
use crate::key::Key;
use crate::read::Range;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::sync::OnceLock;

/// Waiting changes of a group up to which they are looked through one by one.
const FEW: u32 = 32;
/// The end of a chain.
const NONE: u32 = u32::MAX;

/// What is called with each key and its value.
type VisitRow<'v, V> = dyn FnMut(&[u8], V) -> Res<()> + 'v;

pub(crate) struct Grouped<V> {
    map: Buffered<V>,
    /// Of the changes before the loose ones.
    chains: Chains,
    /// The groups of the last changes, that are not chained yet.
    loose: Vec<u64>,
    /// Chains of those alone, made by a reader.
    read: OnceLock<Chains>,
}

/// Chains of consecutive changes that wait.
#[derive(Default)]
struct Chains {
    /// By the number of a group.
    of: HashMap<u64, Chain>,
    /// For each change the one before it in its group.
    before: Vec<u32>,
    /// The place of the first change.
    first: u32,
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

impl Chains {
    /// Adds the next change.
    fn push(&mut self, group: u64) {
        let at = self.first + self.before.len() as u32;
        let chain = self.of.entry(group).or_insert(Chain { last: NONE, n: 0 });
        self.before.push(chain.last);
        *chain = Chain { last: at, n: chain.n + 1 };
    }

    fn clear(&mut self) {
        self.before.clear();
        // Clearing costs by its capacity.
        match self.of.capacity() > 4 * self.of.len() + 64 {
            true => self.of = HashMap::new(),
            false => self.of.clear(),
        }
    }
}

impl<V> Default for Grouped<V> {
    fn default() -> Grouped<V> {
        Grouped {
            map: Buffered::default(),
            chains: Chains::default(),
            loose: Vec::new(),
            read: OnceLock::new(),
        }
    }
}

impl<V: Copy> Grouped<V> {
    /// An empty map, with room for as many waiting changes as this one has.
    pub fn with_room_of(&self) -> Grouped<V> {
        let of = HashMap::with_capacity(self.chains.of.len());
        let chains = Chains { of, before: Vec::with_capacity(self.chains.before.len()), first: 0 };
        let loose = Vec::with_capacity(self.loose.len());
        Grouped { map: self.map.with_room_of(), chains, loose, read: OnceLock::new() }
    }

    /// The rows, without the groups.
    pub fn map(&self) -> &Buffered<V> {
        &self.map
    }

    /// Before a change, as [`Buffered::make_room`].
    pub fn make_room(&mut self) {
        if self.map.make_room() {
            self.chains.clear();
            self.loose.clear();
            self.read.take();
        }
    }

    /// Chains what is loose: before groups are asked for that were changed just now.
    pub fn fasten(&mut self) {
        if !self.loose.is_empty() {
            self.read.take();
            self.loose.drain(..).for_each(|group| self.chains.push(group));
        }
    }

    /// The waiting change of a key, where it is among few: for [`Grouped::push`] and [`Grouped::amend`], that
    /// follow before anything else changes. To be called after [`Grouped::make_room`].
    pub fn find(&mut self, group: u64, key: &[u8]) -> Option<Found> {
        self.fasten();
        let chain = self.chains.of.get(&group).filter(|chain| chain.n <= FEW)?;
        let (mut at, mut after) = (chain.last, NONE);
        while let Some((k, _)) = self.map.pending.get(at) {
            if k == key {
                return Some(Found { at, after, number: self.map.number(at) });
            }
            (at, after) = (self.chains.before[at as usize], at);
        }
        None
    }

    /// Gives a key of a group a value, or takes it out: a change more. `older` is what was found of the key.
    pub fn push(&mut self, group: u64, key: &[u8], to: Option<V>, older: Option<Found>) {
        self.fasten();
        // The chain has each key once, as long as it is looked through.
        if let Some(older) = older {
            self.unlink(group, older);
        }
        self.chains.push(group);
        self.map.pending.push(|out| out.extend_from_slice(key), to);
    }

    /// Gives the key that `write` appends, of which nothing has been said, a value; one of many that are new.
    pub fn push_new(&mut self, group: u64, write: impl FnOnce(&mut Vec<u8>), to: V) {
        self.read.take();
        self.loose.push(group);
        self.map.pending.push(write, Some(to));
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
        let before = self.chains.before[found.at as usize];
        let chain = self.chains.of.get_mut(&group).expect("it is in the chain");
        chain.n -= 1;
        match found.after {
            NONE => chain.last = before,
            after => self.chains.before[after as usize] = before,
        }
    }

    /// The value of a key of a group.
    pub fn get(&self, group: u64, key: &[u8]) -> Option<V> {
        let Some(mut waiting) = self.waiting(group) else { return self.map.get(key) };
        match waiting.find(|(k, _)| *k == key) {
            Some((_, to)) => to,
            None if self.map.sorted.is_empty() => None,
            None => self.map.sorted.get(key).copied(),
        }
    }

    /// Visits the rows of a range that lies within a group, in any order.
    pub fn each(&self, group: u64, range: &Range, visit: &mut VisitRow<'_, V>) -> Res<()> {
        let Some(waiting) = self.waiting(group) else {
            return self.map.range(range).try_for_each(|(k, v)| visit(k, v));
        };
        let mut seen: SmallVec<[&[u8]; 8]> = SmallVec::new();
        for (k, to) in waiting {
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

    /// The waiting changes of a group, the last one first; none when they are many.
    fn waiting(&self, group: u64) -> Option<impl Iterator<Item = (&[u8], Option<V>)>> {
        let loose = (!self.loose.is_empty()).then(|| {
            self.read.get_or_init(|| {
                let first = self.chains.before.len() as u32;
                let mut chains =
                    Chains { first, before: Vec::with_capacity(self.loose.len()), ..Chains::default() };
                self.loose.iter().for_each(|group| chains.push(*group));
                chains
            })
        });
        let of = |chains: &Chains| chains.of.get(&group).copied().unwrap_or(Chain { last: NONE, n: 0 });
        let (last, older) = (loose.map(of), of(&self.chains));
        if last.map_or(0, |chain| chain.n) + older.n > FEW {
            return None;
        }
        let (mut chains, mut at) = match (loose, last) {
            (Some(chains), Some(chain)) if chain.n > 0 => (chains, chain.last),
            _ => (&self.chains, older.last),
        };
        Some(std::iter::from_fn(move || {
            let change = self.map.pending.get(at)?;
            at = chains.before[(at - chains.first) as usize];
            if at == NONE && chains.first > 0 {
                (chains, at) = (&self.chains, older.last);
            }
            Some(change)
        }))
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
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        /// Groups of few and of many changes, two of them under one number.
        #[test]
        fn groups_are_parts_of_a_map(
            steps in proptest::collection::vec((0u8..4, 0u8..60, proptest::option::of(any::<u8>()), 0u8..40), 0..400),
        ) {
            let (mut map, mut model) = (Grouped::default(), BTreeMap::new());
            let mut said = BTreeSet::new();
            for (group, n, to, read) in steps {
                let key = Key::from_slice(&[group, n]);
                let number = u64::from(group / 2 * 2);
                map.make_room();
                match (model.contains_key(&key) || said.contains(&key), to) {
                    (false, Some(to)) if read % 4 > 0 => map.push_new(number, |out| out.extend_from_slice(&key), to),
                    _ => match map.find(number, &key) {
                        Some(found) if read % 2 == 0 => map.amend(number, found, to),
                        older => map.push(number, &key, to, older),
                    },
                }
                said.insert(key.clone());
                match to {
                    Some(v) => drop(model.insert(key.clone(), v)),
                    None => drop(model.remove(&key)),
                }
                if read >= 30 {
                    continue;
                }
                prop_assert_eq!(map.get(number, &key), to);
                let range = Range { from: key, to: Some(Key::from_slice(&[group, 50])) };
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
