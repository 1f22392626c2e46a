//! The transaction functions that look at facts before they say anything: retracting all values or a whole entity,
//! compare-and-set, and the promise of an entity spec.
//!
//! 1. They read the database before the transaction, like all of expansion.
//! 2. What they retract is known to hold, so it needs no check in `diff`.

use super::{DB_ID, Expander};
use crate::{
    bootstrap as boot,
    store::Prefix,
    transact::{
        alter,
        error::TransactError,
        op::{Ensure, Ent, Res, Val},
    },
};
use annals_model::{Attribute, EntityId, Keyword, TupleKind, Value, View};
use std::sync::Arc;

impl Expander<'_> {
    pub(super) fn retract_all(&mut self, op: &Keyword, e: &Value, a: &Value) -> Res<()> {
        let a = self.attribute(a)?;
        let e = self.existing(op, e)?;
        for d in self.before.snap.datoms(View::NOW, &Prefix::Ea(e, a.id))? {
            self.push(false, Ent::Id(e), a.clone(), Val::Known(d.v))?;
        }
        self.writable(&a)?;
        self.touchable(e, &a)
    }

    /// Its own facts, facts that point to it, and its components likewise.
    pub(super) fn retract_entity(&mut self, root: EntityId) -> Res<()> {
        let schema = self.before.info.schema.clone();
        let ref_attrs: Vec<Arc<Attribute>> =
            schema.attributes().filter(|a| a.is_ref() && !boot::is_virtual(a.id)).cloned().collect();
        if let Some(a) = schema.attribute_of(root).filter(|_| !boot::is_builtin(root)) {
            return Err(TransactError::UnsafeAlteration {
                attr: schema.ident(root).cloned().unwrap_or_else(|| DB_ID.clone()),
                why: alter::why_it_stays(self.before.snap, a)?.into(),
                todo: "rename it out of the way and retract its facts instead",
                at: self.at(),
            });
        }
        let mut seen = std::collections::BTreeSet::from([root]);
        let mut todo = vec![root];
        while let Some(e) = todo.pop() {
            for d in self.before.snap.datoms(View::NOW, &Prefix::E(e))? {
                let Some(a) = schema.attribute(d.a) else { continue };
                if let (true, Value::Ref(part)) = (a.is_component, &d.v)
                    && seen.insert(*part)
                {
                    todo.push(*part);
                }
                if matches!(a.tuple, Some(TupleKind::Composite(_))) {
                    continue; // follows from its parts
                }
                self.push(false, Ent::Id(e), a.clone(), Val::Known(d.v))?;
            }
            for a in &ref_attrs {
                for d in self.before.snap.datoms(View::NOW, &Prefix::Av(a.id, Value::Ref(e)))? {
                    if d.e != e {
                        self.push(false, Ent::Id(d.e), a.clone(), Val::Known(d.v))?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn cas(&mut self, op: &Keyword, e: &Value, a: &Value, old: &Value, new: &Value) -> Res<()> {
        let a = self.attribute(a)?;
        let at = self.at().attr(&a.ident);
        if a.is_many() {
            return Err(TransactError::CasMany { attr: a.ident.clone(), at });
        }
        let e = self.existing(op, e)?;
        let expected = match old {
            Value::Nil => Value::Nil,
            old => match self.value(&a, old)? {
                Val::Known(v) => v,
                Val::Temp(_) | Val::Tuple(_) => {
                    return Err(TransactError::TempidRefused { op: op.clone(), at });
                }
            },
        };
        let found = self.before.snap.first(View::NOW, &Prefix::Ea(e, a.id))?.map_or(Value::Nil, |d| d.v);
        if found != expected {
            return Err(TransactError::CasFailed { entity: e, attr: a.ident.clone(), expected, found, at });
        }
        let new = self.value(&a, new)?;
        self.push(true, Ent::Id(e), a, new)
    }

    pub(super) fn ensure(&mut self, e: Ent, spec: &Value) -> Res<()> {
        let bad = |x: &Self| TransactError::BadSpec { spec: spec.clone(), at: x.at() };
        let spec_id = match self.entity(spec, false)? {
            Ent::Id(id) => id,
            Ent::Temp(_) => return Err(bad(self)),
        };
        let snap = &self.before.snap;
        let has = |a| snap.first(View::NOW, &Prefix::Ea(spec_id, a)).map(|d| d.is_some());
        if !has(boot::ENTITY_ATTRS)? && !has(boot::ENTITY_PREDS)? {
            return Err(bad(self));
        }
        if let Ent::Temp(t) = e {
            self.out.temps[t.0 as usize].is_entity = true;
        }
        self.out.ensures.push(Ensure { e, spec: spec_id, form: self.form });
        Ok(())
    }
}
