//! A map that holds the rows of another under other keys: a fact by its value, of which the other has it by its
//! entity. Its keys are made when somebody reads it in order, mostly by the checkpoint, in its own thread.
//!
//! 1. What it holds is `map`, and over it the changes of the other that are not there yet. Changes have the same
//!    numbers in both.
//! 2. A reader that needs the order turns the keys of what is missing, and sorts; with the next change that moves
//!    into `map`.
//! 3. Before what waits in the other moves into the other's tree, it is taken over ([`Mirror::make_room`]): the
//!    list of changes is where the keys come from.

use super::{
    buffered::{Buffered, Rows},
    changes::{Changes, Place},
};
use crate::key::{self, Tree};
use crate::read::Range;
use std::sync::OnceLock;

/// Rows of a tree by entity, which another has by value.
pub(crate) trait Mirrored: Copy {
    /// The tree by entity.
    const TREE: Tree;
}

pub(crate) struct Mirror<V> {
    map: Buffered<V>,
    /// All changes that wait, those of the other too, and their order; made by a reader.
    read: OnceLock<(Changes<V>, Vec<Place>)>,
}

impl<V> Default for Mirror<V> {
    fn default() -> Mirror<V> {
        Mirror { map: Buffered::default(), read: OnceLock::new() }
    }
}

impl<V: Mirrored> Mirror<V> {
    /// Before a change of the other, and before [`Buffered::make_room`] of it.
    pub fn make_room(&mut self, of: &Buffered<V>) {
        if let Some((changes, order)) = self.read.take() {
            self.map.pending = changes;
            self.map.set_order(order);
        }
        self.map.make_room();
        if of.is_ripe() {
            let missing = self.missing(of);
            turn(of, missing, &mut self.map.pending);
        }
    }

    /// A change of the other that waits there gets another value. To be called after [`Mirror::make_room`].
    pub fn amend(&mut self, number: u64, to: Option<V>) {
        if self.map.waits(number) {
            self.map.amend(number, to);
        }
    }

    /// Is a change of the other in no tree here, so that it can be amended?
    pub fn waits(&self, number: u64) -> bool {
        number >= self.map.number(0)
    }

    /// Changes of the other that are not here yet, by their places there.
    fn missing(&self, of: &Buffered<V>) -> std::ops::Range<u32> {
        let here = self.map.number(self.map.pending.len() as u32);
        let first = here.checked_sub(of.number(0)).expect("what leaves the other's list is here before");
        first as u32..of.pending.len() as u32
    }

    /// The changes that wait, in their order.
    fn waiting(&self, of: &Buffered<V>) -> (&Changes<V>, &[Place]) {
        let missing = self.missing(of);
        if missing.is_empty() {
            return (&self.map.pending, self.map.order());
        }
        let (changes, order) = self.read.get_or_init(|| {
            let mut changes = self.map.pending.and_room_for(&of.pending);
            turn(of, missing, &mut changes);
            let order = changes.places(!self.map.sorted.is_empty());
            (changes, order)
        });
        (changes, order)
    }

    /// The rows of a range in order; `of` is the map whose rows these are.
    pub fn range<'m>(&'m self, of: &Buffered<V>, range: &'m Range) -> Rows<'m, V> {
        let (changes, order) = self.waiting(of);
        Rows::within(&self.map.sorted, changes, order, range, false)
    }

    /// The rows of a range from its end on.
    pub fn range_back<'m>(&'m self, of: &Buffered<V>, range: &'m Range) -> Rows<'m, V> {
        let (changes, order) = self.waiting(of);
        Rows::within(&self.map.sorted, changes, order, range, true)
    }

    /// All rows in order.
    pub fn iter(&self, of: &Buffered<V>) -> Rows<'_, V> {
        let (changes, order) = self.waiting(of);
        Rows::all(&self.map.sorted, changes, order)
    }
}

/// Adds some of the changes of a map under the keys that they have in its mirror.
fn turn<V: Mirrored>(of: &Buffered<V>, places: std::ops::Range<u32>, out: &mut Changes<V>) {
    for at in places {
        let (key, to) = of.pending.get(at).expect("the place is one of a change");
        let turned = |out: &mut Vec<u8>| key::turn(V::TREE, key, out).expect("novelty holds whole keys");
        out.push(turned, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, Parts};
    use crate::novelty::Known;
    use annals_model::{AttrId, EntityId, Partition, T, codec};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Whichever of the two is read in between, the mirror holds what the other does under other keys.
        #[test]
        fn it_holds_what_the_other_does(
            steps in proptest::collection::vec((0u64..4, 0i64..4, 0u64..3, any::<bool>(), 0u8..12), 0..300),
            from in 0i64..4,
        ) {
            let (mut of, mut mirror, mut model) = (Buffered::default(), Mirror::default(), BTreeMap::new());
            let (mut numbers, mut next) = (BTreeMap::new(), 0);
            for (e, v, end, there, read) in steps {
                let v = codec::encoded(&v.into());
                let e = EntityId::new(Partition::User, e);
                let p = Parts { e, a: AttrId::new(70), v: &v, start: T(0), end: T(end) };
                let (key, turned) = (key::of(Tree::Heav, &p), key::of(Tree::Have, &p));
                let to = there.then_some(Known { start: T(next), end: T(end) });
                mirror.make_room(&of);
                of.make_room();
                match numbers.get(&key).filter(|n| read % 2 == 0 && of.waits(**n) && mirror.waits(**n)) {
                    Some(number) => {
                        of.amend(*number, to);
                        mirror.amend(*number, to);
                    }
                    None => {
                        of.set(|out| out.extend_from_slice(&key), to);
                        numbers.insert(key, next);
                        next += 1;
                    }
                }
                match to {
                    Some(to) => drop(model.insert(turned, to)),
                    None => drop(model.remove(&turned)),
                }
                let bytes = codec::encoded(&from.into());
                let low = Parts { a: AttrId::new(70), v: &bytes, e: EntityId::from_raw(0), start: T(0), end: T(0) };
                let range = Range { from: key::of(Tree::Have, &low), to: None };
                let expected: Vec<(Vec<u8>, Known)> =
                    model.iter().filter(|(k, _)| **k >= range.from).map(|(k, v): (&Key, _)| (k.to_vec(), *v)).collect();
                let found = |rows: Rows<'_, Known>| rows.map(|(k, v)| (k.to_vec(), v)).collect::<Vec<_>>();
                match read {
                    0 | 1 => prop_assert_eq!(of.iter().count(), model.len()),
                    2 | 3 => prop_assert_eq!(found(mirror.range(&of, &range)), expected),
                    4 => {
                        let back: Vec<_> = expected.into_iter().rev().collect();
                        prop_assert_eq!(found(mirror.range_back(&of, &range)), back);
                    }
                    _ => {}
                }
            }
            let expected: Vec<_> = model.iter().map(|(k, v)| (k.to_vec(), *v)).collect();
            prop_assert_eq!(mirror.iter(&of).map(|(k, v)| (k.to_vec(), v)).collect::<Vec<_>>(), expected);
        }
    }
}
