//! Uniqueness, judged on the database after the transaction: swapping two
//! unique values passes, taking a value that is given up passes.

use super::{
    Before,
    error::{Place, TransactError},
    op::{Change, Res},
};
use crate::store::Prefix;
use annals_model::{AttrId, Attribute, Datom, EntityId, Value, View};
use hashbrown::{HashMap, HashSet};
use std::ops::ControlFlow;

/// Refuses a value that two entities would hold.
pub(crate) fn check(before: &Before<'_>, changes: &[Change], datoms: &[Datom]) -> Res<()> {
    let schema = &before.info.schema;
    let unique = |a: AttrId| schema.attribute(a).filter(|a| a.unique.is_some());
    if !datoms.iter().any(|d| d.added && unique(d.a).is_some()) {
        return Ok(());
    }
    let mut given_up: HashSet<(EntityId, AttrId, &Value), foldhash::fast::RandomState> = HashSet::default();
    for d in datoms.iter().filter(|d| !d.added && unique(d.a).is_some()) {
        given_up.insert((d.e, d.a, &d.v));
    }
    let mut taken: HashMap<(AttrId, &Value), EntityId, foldhash::fast::RandomState> = HashMap::default();
    for d in datoms.iter().filter(|d| d.added) {
        let Some(a) = unique(d.a) else { continue };
        if let Some(other) = taken.insert((d.a, &d.v), d.e).filter(|other| *other != d.e) {
            return Err(conflict(a, d, other, changes));
        }
        let mut holder = None;
        before.snap.scan(View::NOW, &Prefix::Av(d.a, d.v.clone()), &mut |held| {
            if held.e != d.e && !given_up.contains(&(held.e, held.a, &d.v)) {
                holder = Some(held.e);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if let Some(holder) = holder {
            return Err(conflict(a, d, holder, changes));
        }
    }
    Ok(())
}

fn conflict(a: &Attribute, d: &Datom, holder: EntityId, changes: &[Change]) -> TransactError {
    let cause = changes.iter().find(|c| c.e == d.e && c.a.id == d.a && c.v == d.v);
    let cause = cause.or_else(|| changes.iter().find(|c| c.e == d.e));
    TransactError::UniqueConflict {
        attr: a.ident.clone(),
        value: d.v.clone(),
        holder,
        entity: d.e,
        at: cause.map_or_else(Place::default, |c| Place::form(c.form as usize).attr(&a.ident)),
    }
}
