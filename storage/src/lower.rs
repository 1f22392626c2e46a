//! The layers below the active delta, as the writer asks them: which fact a datom ends, and whether one is
//! there already.
//!
//! 1. What it can know without a search it does not search for: facts of entities made since these layers
//!    were filled, facts that begin after all that lie here (`starts`), and what has been found already
//!    (`held`).
//!
//! Not here: how these layers look to readers (`read`).

use crate::error::Res;
use crate::held::Notes;
use crate::key::{self, Parts, Tree};
use crate::kv::{Db, Snapshot, Step};
use crate::novelty::{Below, Delta, Open};
use crate::read::Range;
use crate::rows::read_known;
use crate::starts::Starts;
use annals_model::{AttrId, EntityId, T, codec};
use parking_lot::RwLockReadGuard;
use std::cell::OnceCell;

/// Datoms of a record from which on it is worth looking for where new entities begin.
const MANY: usize = 256;

/// The layers below the active delta, for the writer.
pub(crate) struct Lower<'l> {
    base: Option<&'l Snapshot>,
    frozen: Option<RwLockReadGuard<'l, Delta>>,
    /// From which entity on its partition holds no open fact: looked for once, from the first
    /// entity asked for; not at all for a record that is too small to gain by it.
    new_from: OnceCell<Option<EntityId>>,
    /// When the facts in them begin.
    starts: &'l Starts,
    /// What has been found in these layers already.
    pub notes: Option<&'l Notes>,
}

impl<'l> Lower<'l> {
    /// The layers below a record of so many datoms.
    pub fn new(
        base: Option<&'l Snapshot>,
        frozen: Option<RwLockReadGuard<'l, Delta>>,
        starts: &'l Starts,
        n_datoms: usize,
    ) -> Lower<'l> {
        let new_from = if n_datoms < MANY { OnceCell::from(None) } else { OnceCell::new() };
        Lower { base, frozen, new_from, starts, notes: None }
    }

    /// Is the entity one of those made since these layers were filled? Late facts of a projection
    /// are mostly about such, in rising order: none of them needs to be looked for.
    fn is_new(&self, e: EntityId) -> Res<bool> {
        let from = match self.new_from.get() {
            Some(from) => *from,
            None => {
                let from = self.nothing_from(e)?.then_some(e);
                *self.new_from.get_or_init(|| from)
            }
        };
        Ok(from.is_some_and(|from| e >= from && e.partition() == from.partition()))
    }

    /// Is there no open fact of this entity, nor of any after it in its partition?
    fn nothing_from(&self, e: EntityId) -> Res<bool> {
        if e.partition().is_none() {
            return Ok(false);
        }
        if self.frozen.as_ref().is_some_and(|f| !f.nothing_from(e)) {
            return Ok(false);
        }
        let from = key::built(|out| codec::put_entity(e, out));
        // Keys begin with the partition and the length of the counter: larger entities come later.
        let range = Range { to: key::after(&[from[0] | 0x0F]), from };
        let mut nothing = true;
        if let Some(base) = self.base {
            base.walk(Db::Eav, &range.from, range.to.as_deref(), false, &mut |_, _| {
                nothing = false;
                Ok(Step::Stop)
            })?;
        }
        Ok(nothing)
    }
}

impl Below for Lower<'_> {
    fn open(&self, p: &Parts<'_>, masked: &dyn Fn(&[u8]) -> bool) -> Res<Option<Open>> {
        if let Some(note) = self.notes.and_then(|notes| notes.of(p.e, p.a)) {
            let start = note.open.start;
            let holds = note.v[..] == *p.v && start <= p.start;
            return Ok((holds && !masked(&key::of(Tree::Eav, &Parts { start, ..*p }))).then_some(note.open));
        }
        if self.is_new(p.e)? {
            return Ok(None);
        }
        let mut best = match &self.frozen {
            Some(f) => f.newest_open(p, masked)?,
            None => None,
        };
        let Some(base) = self.base else { return Ok(best) };
        let from = key::of(Tree::Eav, &Parts { start: T(0), ..*p });
        let mut to = key::of(Tree::Eav, p);
        to.push(0);
        base.walk(Db::Eav, &from, Some(&to), true, &mut |k, known| {
            if masked(k) || self.frozen.as_ref().is_some_and(|f| f.masks(p.e, p.a, k)) {
                return Ok(Step::Next);
            }
            let start = key::parse(Tree::Eav, k)?.start;
            if best.is_none_or(|b| b.start < start) {
                best = Some(Open { start, known: read_known(start, T::MAX, known)?.start });
            }
            Ok(Step::Stop)
        })?;
        Ok(best)
    }

    fn precede(&self, a: AttrId, t: T) -> bool {
        self.starts.precede(a, t)
    }
}
