//! Counts kept with the indexes: what planning, new ids and exact answers to "how many" need.
//!
//! 1. They follow from the log: a fold of it gives the same (`verify` compares).
//! 2. They change as records are staged, and change back when those are not flushed.

use crate::types::Record;
use annals_model::{AttrId, EntityId, T, Value};
use hashbrown::HashMap;

/// Counts kept with the indexes.
#[derive(Clone, Default)]
pub(crate) struct Stats {
    /// Largest counter seen, by partition.
    pub counters: [u64; 4],
    pub attrs: HashMap<AttrId, AttrRows>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct AttrRows {
    pub current: u64,
    pub closed: u64,
    /// Newest record with a datom filed under an older t.
    pub late: T,
}

impl Stats {
    pub fn apply(&mut self, r: &Record) {
        for d in &r.datoms {
            self.saw(d.e);
            if let Value::Ref(e) = d.v {
                self.saw(e);
            }
            let rows = self.attrs.entry(d.a).or_default();
            if d.added {
                rows.current += 1;
            } else {
                rows.current -= 1;
                rows.closed += 1;
            }
            if d.t < r.t {
                rows.late = rows.late.max(r.t);
            }
        }
    }

    /// Takes a record back that was applied last; `counters` are those before it. The last datom
    /// goes first: one may end what another of the same record began.
    pub fn undo(&mut self, r: &Record, counters: [u64; 4]) {
        self.counters = counters;
        for d in r.datoms.iter().rev() {
            let rows = self.attrs.entry(d.a).or_default();
            if d.added {
                rows.current -= 1;
            } else {
                rows.current += 1;
                rows.closed -= 1;
            }
        }
    }

    /// Rows by attribute, in order, without those that never had any.
    pub fn sorted(&self) -> Vec<(AttrId, u64, u64)> {
        let all = self.attrs.iter().map(|(a, r)| (*a, r.current, r.closed));
        let mut all: Vec<_> = all.filter(|r| r.1 + r.2 > 0).collect();
        all.sort_unstable();
        all
    }

    fn saw(&mut self, e: EntityId) {
        if let Some(p) = e.partition() {
            let c = &mut self.counters[p as usize];
            *c = (*c).max(e.counter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_model::{Datom, Instant, Partition};

    #[test]
    fn a_record_that_ends_what_it_began_is_taken_back() {
        let e = EntityId::new(Partition::User, 1);
        let datom = |added| Datom { e, a: AttrId::new(70), v: Value::Long(1), t: T(1), added };
        let datoms = vec![datom(true), datom(false)];
        let r = Record { t: T(1), instant: Instant(0), datoms, rows: vec![] };
        let mut stats = Stats::default();
        let counters = stats.counters;
        stats.apply(&r);
        assert_eq!(stats.sorted(), [(AttrId::new(70), 0, 1)]);
        stats.undo(&r, counters);
        assert_eq!((stats.sorted(), stats.counters), (vec![], counters));
    }
}
