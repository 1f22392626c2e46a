//! Composite tuples: kept by the database from attributes of the same entity.
//!
//! 1. After a transaction that names a part of an entity, each composite of that
//!    part equals the tuple of its parts, nil for a missing one; when all are
//!    missing there is no tuple.
//! 2. A composite installed over existing facts is filled in as their entities
//!    are next touched.

use super::{
    Before,
    op::{Change, Res},
};
use crate::store::Prefix;
use annals_model::{Attribute, Datom, EntityId, TupleKind, Value, View};
use std::{collections::BTreeMap, sync::Arc};

/// Adds the datoms that bring composites up to date with `datoms`.
pub(crate) fn maintain(before: &Before<'_>, changes: &[Change], datoms: &mut Vec<Datom>) -> Res<()> {
    if before.info.composites.is_empty() {
        return Ok(());
    }
    let mut touched: BTreeMap<(EntityId, u32), (Arc<Attribute>, bool)> = BTreeMap::new();
    for c in changes {
        for composite in before.info.composites.get(&c.a.id).into_iter().flatten() {
            touched.insert((c.e, composite.id.raw()), (composite.clone(), c.fresh));
        }
    }
    // Changes are sorted by entity, so the datoms made of them are too.
    let net = datoms.len();
    for ((e, _), (a, fresh)) in touched {
        let Some(TupleKind::Composite(parts)) = &a.tuple else { continue };
        let mut slots = Vec::with_capacity(parts.len());
        for part in parts {
            let from = datoms[..net].partition_point(|d| d.e < e);
            let mine = datoms[from..net].iter().take_while(|d| d.e == e).filter(|d| d.a == *part);
            let mut value = None;
            let mut gone = false;
            for d in mine {
                match d.added {
                    true => value = Some(d.v.clone()),
                    false => gone = true,
                }
            }
            if value.is_none() && !gone && !fresh {
                value = before.snap.first(View::NOW, &Prefix::Ea(e, *part))?.map(|d| d.v);
            }
            slots.push(value.unwrap_or(Value::Nil));
        }
        let new = slots.iter().any(|v| *v != Value::Nil).then(|| Value::vector(slots));
        let old = match fresh {
            true => None,
            false => before.snap.first(View::NOW, &Prefix::Ea(e, a.id))?.map(|d| d.v),
        };
        if old == new {
            continue;
        }
        datoms.extend(old.map(|v| before.datom(e, a.id, v, false)));
        datoms.extend(new.map(|v| before.datom(e, a.id, v, true)));
    }
    Ok(())
}
