//! Stage 3: changes against what holds.
//!
//! 1. A transaction is a set: the order of its forms never matters, so a
//!    contradiction between two of them is a conflict, not a sequence.
//! 2. What holds already is not asserted again and keeps its t; what does not
//!    hold is not retracted.
//! 3. Asserting another value of a cardinality-one attribute retracts the old one.

use super::{
    Before,
    error::TransactError,
    op::{Change, Res},
};
use crate::store::Prefix;
use annals_model::{Datom, Value, View};

/// Sorts and dedups changes, and refuses contradictions.
pub(crate) fn settle(changes: &mut Vec<Change>) -> Res<()> {
    if !changes.is_sorted_by(|x, y| key(x) <= key(y)) {
        changes.sort_by(|x, y| key(x).cmp(&key(y)));
    }
    changes.dedup_by(|x, y| key(x) == key(y));
    for pair in changes.windows(2) {
        let [x, y] = pair else { continue };
        if (x.e, x.a.id) != (y.e, y.a.id) {
            continue;
        }
        if x.v == y.v && x.added != y.added {
            return Err(TransactError::AddRetractConflict {
                entity: x.e,
                attr: x.a.ident.clone(),
                value: x.v.clone(),
                at: x.place(),
                other: y.place(),
            });
        }
    }
    for group in changes.chunk_by(|x, y| x.e == y.e && x.a.id == y.a.id).filter(|g| g.len() > 1) {
        let mut adds = group.iter().filter(|c| c.added && !c.a.is_many());
        if let (Some(x), Some(y)) = (adds.next(), adds.next()) {
            return Err(TransactError::DatomsConflict {
                entity: x.e,
                attr: x.a.ident.clone(),
                first: x.v.clone(),
                second: y.v.clone(),
                at: x.place(),
                other: y.place(),
            });
        }
    }
    Ok(())
}

fn key(c: &Change) -> (annals_model::EntityId, annals_model::AttrId, &Value, bool) {
    (c.e, c.a.id, &c.v, c.added)
}

/// The datoms that make settled changes hold.
pub(crate) fn diff(before: &Before<'_>, changes: &[Change], out: &mut Vec<Datom>) -> Res<()> {
    let groups = || changes.chunk_by(|x, y| x.e == y.e && x.a.id == y.a.id);
    // What the attributes of cardinality one hold is read together, in the order of the changes.
    let single = groups().map(|g| &g[0]).filter(|c| !c.fresh && !c.a.is_many());
    let pairs: Vec<_> = single.map(|c| (c.e, c.a.id)).collect();
    let mut held = match pairs.is_empty() {
        true => Vec::new(),
        false => before.snap.held(&pairs)?,
    }
    .into_iter();
    for group in groups() {
        let first = &group[0];
        if first.fresh {
            out.extend(
                group.iter().filter(|c| c.added).map(|c| before.datom(c.e, c.a.id, c.v.clone(), true)),
            );
        } else if first.a.is_many() {
            for c in group {
                let p = Prefix::Eav(c.e, c.a.id, c.v.clone());
                let holds = before.snap.first(View::NOW, &p)?.is_some();
                if holds != c.added {
                    out.push(before.datom(c.e, c.a.id, c.v.clone(), c.added));
                }
            }
        } else {
            one(before, group, held.next().flatten(), out);
        }
    }
    Ok(())
}

/// The same for an attribute of cardinality one, which holds `current`.
fn one(before: &Before<'_>, group: &[Change], current: Option<Value>, out: &mut Vec<Datom>) {
    let (e, a) = (group[0].e, group[0].a.id);
    let add = group.iter().find(|c| c.added);
    let retracted = |v: &Value| group.iter().any(|c| !c.added && c.v == *v);
    match (current, add) {
        (Some(old), Some(new)) if old == new.v => {}
        (Some(old), Some(new)) => {
            out.push(before.datom(e, a, old, false));
            out.push(before.datom(e, a, new.v.clone(), true));
        }
        (Some(old), None) if retracted(&old) => out.push(before.datom(e, a, old, false)),
        (None, Some(new)) => out.push(before.datom(e, a, new.v.clone(), true)),
        (Some(_) | None, None) => {}
    }
}
