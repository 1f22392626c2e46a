//! When the newest fact of each attribute begins, in some layers: what makes it needless to look for a
//! fact in them.
//!
//! 1. A bound from above: no fact of the attribute, open or ended, that these layers hold begins later.
//!    Undoing and excision leave it as it is.
//! 2. An attribute that is not in it has no facts there.
//!
//! A projection that goes over old events writes late facts in rising order of t. Each must not be there
//! yet, and ends one that began before it: with this bound neither needs a search in LMDB, unless the
//! facts before it have gone there.

use annals_model::{AttrId, T};
use hashbrown::HashMap;

/// By attribute, when its newest fact begins at the latest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts {
    of: HashMap<AttrId, T>,
}

impl Starts {
    /// Of layers up to a record that hold facts of these attributes and of no others.
    pub fn upto(t: T, attrs: impl IntoIterator<Item = AttrId>) -> Starts {
        Starts { of: attrs.into_iter().map(|a| (a, t)).collect() }
    }

    /// Notes a fact.
    pub fn saw(&mut self, a: AttrId, start: T) {
        let newest = self.of.entry(a).or_insert(start);
        *newest = start.max(*newest);
    }

    /// Notes all that others have noted.
    pub fn absorb(&mut self, others: &Starts) {
        others.of.iter().for_each(|(a, t)| self.saw(*a, *t));
    }

    /// Do all facts of an attribute begin before `t`?
    pub fn precede(&self, a: AttrId, t: T) -> bool {
        self.of.get(&a).is_none_or(|newest| *newest < t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_only_rise() {
        let (a, b, c) = (AttrId::new(70), AttrId::new(71), AttrId::new(72));
        let mut below = Starts::upto(T(5), [a]);
        let mut delta = Starts::default();
        delta.saw(a, T(3));
        delta.saw(b, T(9));
        delta.saw(b, T(7));
        assert!(delta.precede(a, T(4)) && !delta.precede(b, T(9)) && delta.precede(b, T(10)));
        below.absorb(&delta);
        assert!(!below.precede(a, T(5)) && below.precede(a, T(6)));
        assert!(!below.precede(b, T(9)) && below.precede(b, T(10)));
        assert!(below.precede(c, T(0)));
    }
}
