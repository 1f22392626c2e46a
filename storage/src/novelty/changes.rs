//! Changes of a map in the order they were made, and the order of their keys.
//!
//! 1. Keys stand in one block of bytes: a change costs little more than its bytes.
//! 2. They are ordered by two words of each key at a time, as numbers. Where two words do not decide, as for
//!    one value of many entities, the two that follow do: no key is compared byte by byte with many others.

/// Keys from which on they are sorted by further words.
const SOME: usize = 16;

/// A key's first word, and where its last change stands in the list.
pub(super) type Place = (u64, u32);
/// Two words of a key, and where a change of it stands in the list.
type Words = (u64, u64, u32);

/// Changes in the order they were made.
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
    /// The key of a change.
    pub fn key(&self, at: u32) -> &[u8] {
        let from = if at == 0 { 0 } else { self.ends[at as usize - 1] };
        &self.keys[from as usize..self.ends[at as usize] as usize]
    }
    /// The key of a change, and the value it is to have.
    pub fn get(&self, at: u32) -> Option<(&[u8], Option<V>)> {
        let to = self.to.get(at as usize)?;
        Some((self.key(at), *to))
    }
    /// A byte made of a change, so that it comes near.
    pub fn touch(&self, at: u32) -> u8 {
        let (key, to) = (self.key(at), &self.to[at as usize]);
        key.first().copied().unwrap_or_default() ^ u8::from(to.is_some())
    }
    /// Gives the key of a change another value.
    pub fn amend(&mut self, at: u32, to: Option<V>) {
        self.to[at as usize] = to;
    }
    /// Two words of the key of a change from a byte on, and its place.
    fn words(&self, at: u32, from: usize) -> Words {
        let begin = if at == 0 { 0 } else { self.ends[at as usize - 1] } as usize;
        let end = self.ends[at as usize] as usize;
        (self.word(begin + from, end), self.word(begin + from + 8, end), at)
    }
    /// Eight bytes of a key that ends at `end`. What follows it in the block is read with it and left out, which
    /// is quicker than to read so many bytes only.
    fn word(&self, from: usize, end: usize) -> u64 {
        let there = match end.checked_sub(from) {
            None | Some(0) => return 0,
            Some(there) => there.min(8),
        };
        match self.keys[from..].first_chunk() {
            Some(word) => u64::from_be_bytes(*word) & (u64::MAX << (64 - 8 * there)),
            None => word(&self.keys[from..end], 0),
        }
    }
    /// Puts changes in the order of their keys, those of one key in the order they were made. All have the same
    /// bytes before `from`, and stand in their order; their words are those from there on.
    fn sort(&self, order: &mut [Words], from: usize) {
        if !order.is_sorted() {
            order.sort_unstable();
        }
        let next = from + 16;
        for run in order.chunk_by_mut(|x, y| (x.0, x.1) == (y.0, y.1)) {
            if run.len() < SOME {
                if run.len() > 1 {
                    run.sort_unstable_by(|x, y| self.key(x.2).cmp(self.key(y.2)).then(x.2.cmp(&y.2)));
                }
            } else if run.iter().any(|x| self.key(x.2).len() > next) {
                let (first, second) = (run[0].0, run[0].1);
                run.iter_mut().for_each(|x| *x = self.words(x.2, next));
                self.sort(run, next);
                run.iter_mut().for_each(|x| (x.0, x.1) = (first, second));
            } else {
                // They differ by zeros at their ends at most.
                run.sort_unstable_by_key(|x| (self.key(x.2).len(), x.2));
            }
        }
    }
    /// The last changes in the order of their keys; those that take a key out only when it may be `below`.
    pub fn places(&self, below: bool) -> Vec<Place> {
        let mut order: Vec<Words> = (0..self.len() as u32).map(|at| self.words(at, 0)).collect();
        self.sort(&mut order, 0);
        let mut places: Vec<Place> = Vec::with_capacity(order.len());
        for (i, (first, second, at)) in order.iter().enumerate() {
            let newer = order
                .get(i + 1)
                .is_some_and(|(f, s, n)| (f, s) == (first, second) && self.key(*n) == self.key(*at));
            if !newer && (below || self.to[*at as usize].is_some()) {
                places.push((*first, *at));
            }
        }
        places
    }
    /// The first of some places in order whose key is not less than `key`.
    pub fn place_of(&self, order: &[Place], key: &[u8]) -> usize {
        let first = word(key, 0);
        order.partition_point(|(w, at)| *w < first || (*w == first && self.key(*at) < key))
    }
    /// These changes, with room for others.
    pub fn and_room_for(&self, others: &Changes<V>) -> Changes<V> {
        let mut keys = Vec::with_capacity(self.keys.len() + others.keys.len());
        keys.extend_from_slice(&self.keys);
        let mut ends = Vec::with_capacity(self.len() + others.len());
        ends.extend_from_slice(&self.ends);
        let mut to = Vec::with_capacity(self.len() + others.len());
        to.extend_from_slice(&self.to);
        Changes { keys, ends, to }
    }
    /// Adds a change of the key that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>), to: Option<V>) {
        write(&mut self.keys);
        self.ends.push(self.keys.len() as u32);
        self.to.push(to);
    }
}

impl<V> Changes<V> {
    /// None yet, with room for about as many as in others.
    pub fn with_room_of(other: &Changes<V>) -> Changes<V> {
        Changes {
            keys: Vec::with_capacity(other.keys.len()),
            ends: Vec::with_capacity(other.ends.len()),
            to: Vec::with_capacity(other.to.len()),
        }
    }
}

impl<V> Default for Changes<V> {
    fn default() -> Changes<V> {
        Changes { keys: Vec::new(), ends: Vec::new(), to: Vec::new() }
    }
}

/// Eight bytes of a key as a number that is ordered like them; bytes that are not there count as 0.
pub(super) fn word(key: &[u8], at: usize) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few bytes, so that many keys share words, begin with one another, or end with zeros.
        #[test]
        fn they_are_ordered_by_their_keys(
            keys in proptest::collection::vec((0usize..6, 0u8..3, 0u8..3, 0usize..3), 0..400),
            below in any::<bool>(),
        ) {
            let (mut changes, mut last) = (Changes::default(), std::collections::BTreeMap::new());
            for (i, (same, byte, end, zeros)) in keys.iter().enumerate() {
                let mut key = vec![7; same * 8];
                key.extend([*byte, *end]);
                key.resize(key.len() + zeros * 9, 0);
                let to = (i % 3 > 0).then_some(i);
                changes.push(|out| out.extend_from_slice(&key), to);
                last.insert(key, (i, to));
            }
            let expected: Vec<_> =
                last.into_iter().filter(|(_, (_, to))| below || to.is_some()).map(|(k, (i, _))| (k, i)).collect();
            let places = changes.places(below);
            let found: Vec<_> =
                places.iter().map(|(_, at)| (changes.key(*at).to_vec(), *at as usize)).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(places.iter().all(|(first, at)| *first == word(changes.key(*at), 0)));
        }
    }
}
