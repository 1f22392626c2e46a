//! Schema changes: which are safe, and what to do about those that are not.
//!
//! 1. Always allowed: install, rename, document, index, noHistory, predicates,
//!    cardinality one to many, dropping uniqueness, uniqueness from value to
//!    identity and back.
//! 2. Allowed when the facts fit: many to one, adding uniqueness (both judged on
//!    the database after the transaction), component on a reference.
//! 3. Never: another value type, another tuple, taking an attribute away. Facts
//!    of the past could not be read any more; one without facts can still be named
//!    by what looks at the past.

use super::{
    Before,
    error::{Place, TransactError},
    op::{Change, Res},
};
use crate::{
    bootstrap as boot,
    schema_cache::{SchemaInfo, is_schema_attr, keywords, named_type},
    snapshot::Snapshot,
    store::Prefix,
};
use annals_model::{
    AttrId, Attribute, Datom, EntityId, Keyword, TupleKind, Value, ValueType, View, diagnostic::nearest,
};
use std::{collections::BTreeSet, ops::ControlFlow};

/// The schema after the transaction, or why it may not be.
pub(crate) fn check(
    before: &Before<'_>,
    changes: &[Change],
    datoms: &[Datom],
    after: &Snapshot,
) -> Res<SchemaInfo> {
    let info = before.info.apply(datoms);
    let touched: BTreeSet<EntityId> = datoms.iter().filter(|d| is_schema_attr(d.a)).map(|d| d.e).collect();
    let check = Check { before, changes, datoms, after, info: &info };
    for e in touched {
        check.entity(e)?;
    }
    Ok(info)
}

struct Check<'a> {
    before: &'a Before<'a>,
    changes: &'a [Change],
    datoms: &'a [Datom],
    after: &'a Snapshot,
    info: &'a SchemaInfo,
}

impl Check<'_> {
    fn place(&self, e: EntityId, a: Option<AttrId>) -> Place {
        let found = self.changes.iter().find(|c| c.e == e && a.is_none_or(|a| c.a.id == a));
        found.map_or_else(Place::default, Change::place)
    }

    fn of(&self, e: EntityId) -> impl Iterator<Item = &Datom> {
        self.datoms.iter().filter(move |d| d.e == e)
    }

    fn says(&self, e: EntityId, a: AttrId) -> Option<&Value> {
        self.of(e).find(|d| d.a == a && d.added).map(|d| &d.v)
    }

    fn entity(&self, e: EntityId) -> Res<()> {
        self.names(e)?;
        self.values(e)?;
        let old = self.before.info.schema.attribute_of(e);
        let new = self.info.schema.attribute_of(e);
        match (old, new) {
            (None, None) => self.incomplete(e),
            (None, Some(new)) => self.install(e, new),
            (Some(old), Some(new)) => self.alter(e, old, new),
            (Some(old), None) => Err(self.refuse(
                old,
                boot::IDENT,
                why_it_stays(self.before.snap, old)?.into(),
                "rename it out of the way instead: {:db/id :old/name :db/ident :unused/name}",
            )),
        }
    }

    fn names(&self, e: EntityId) -> Res<()> {
        match self.says(e, boot::IDENT) {
            Some(Value::Keyword(k)) if boot::reserved_name(k) => Err(TransactError::SchemaValue {
                what: "name for users: the namespaces db, db.… and event belong to the database",
                value: Value::Keyword(k.clone()),
                nearest: None,
                at: self.place(e, Some(boot::IDENT)),
            }),
            _ => Ok(()),
        }
    }

    /// Values that must name something the database knows.
    fn values(&self, e: EntityId) -> Res<()> {
        let bad = |what, a: AttrId, v: &Value, names: Vec<String>| {
            let shown = match v {
                Value::Ref(e) => self.info.schema.ident(*e).cloned(),
                Value::Keyword(k) => Some(k.clone()),
                _ => None,
            };
            let nearest = shown
                .as_ref()
                .and_then(|k| nearest(k.as_str(), names.iter().map(String::as_str)))
                .map(Keyword::new);
            Err(TransactError::SchemaValue {
                what,
                value: shown.map_or_else(|| v.clone(), Value::Keyword),
                nearest,
                at: self.place(e, Some(a)),
            })
        };
        let types = || ValueType::ALL.iter().map(|t| format!("db.type/{}", t.name())).collect::<Vec<_>>();
        for d in self.of(e).filter(|d| d.added) {
            match (d.a, &d.v) {
                (boot::VALUE_TYPE, Value::Ref(x)) if boot::type_of_entity(*x).is_none() => {
                    return bad("value type", d.a, &d.v, types());
                }
                (boot::CARDINALITY, Value::Ref(x)) if boot::cardinality_of_entity(*x).is_none() => {
                    let names = ["db.cardinality/one", "db.cardinality/many"].map(str::to_owned);
                    return bad("cardinality", d.a, &d.v, names.into());
                }
                (boot::UNIQUE, Value::Ref(x)) if boot::unique_of_entity(*x).is_none() => {
                    let names = ["db.unique/identity", "db.unique/value"].map(str::to_owned);
                    return bad("kind of uniqueness", d.a, &d.v, names.into());
                }
                (boot::TUPLE_TYPE, v @ Value::Keyword(k)) if !slot_type(k) => {
                    return bad("type for tuple slots", d.a, v, types());
                }
                (boot::TUPLE_TYPES, v) => {
                    if let Some(k) = keywords(v).find(|k| !slot_type(k)) {
                        return bad("type for tuple slots", d.a, &Value::Keyword(k.clone()), types());
                    }
                }
                (boot::ATTR_PREDS, Value::Keyword(k)) => {
                    self.before.registry.attr_predicate(k, || self.place(e, Some(d.a)))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn incomplete(&self, e: EntityId) -> Res<()> {
        let describes =
            self.of(e).any(|d| d.added && is_schema_attr(d.a) && !matches!(d.a, boot::IDENT | boot::DOC));
        if !describes {
            return Ok(());
        }
        let needed = [
            (boot::IDENT, "db/ident"),
            (boot::VALUE_TYPE, "db/valueType"),
            (boot::CARDINALITY, "db/cardinality"),
        ];
        let mut missing = Vec::new();
        for (a, name) in needed {
            if self.after.first(View::NOW, &Prefix::Ea(e, a))?.is_none() {
                missing.push(Keyword::new(name));
            }
        }
        if missing.is_empty() {
            // Complete, yet no attribute: the entity was made before as something else.
            return Err(TransactError::UnsafeAlteration {
                attr: self.info.schema.ident(e).cloned().unwrap_or_else(|| Keyword::new("db/id")),
                why: "the entity exists and is no attribute".into(),
                todo: "install the attribute with a tempid and a name of its own",
                at: self.place(e, Some(boot::VALUE_TYPE)),
            });
        }
        Err(TransactError::SchemaIncomplete { entity: e, missing, at: self.place(e, None) })
    }

    fn install(&self, e: EntityId, new: &Attribute) -> Res<()> {
        let tuple_kinds = [boot::TUPLE_ATTRS, boot::TUPLE_TYPES, boot::TUPLE_TYPE];
        let given = tuple_kinds.iter().filter(|a| self.says(e, **a).is_some()).count();
        if (new.value_type == ValueType::Tuple) != (given == 1) || given > 1 {
            let why = match new.value_type {
                ValueType::Tuple => {
                    "a tuple needs exactly one of :db/tupleAttrs, :db/tupleTypes, :db/tupleType"
                }
                _ => {
                    "only attributes of type :db.type/tuple have :db/tupleAttrs, :db/tupleTypes or :db/tupleType"
                }
            };
            return Err(self.refuse(
                new,
                boot::VALUE_TYPE,
                why.into(),
                "describe the tuple when installing it",
            ));
        }
        self.component(new)?;
        match &new.tuple {
            Some(TupleKind::Composite(parts)) => self.composite(e, new, parts),
            Some(TupleKind::Heterogeneous(types)) if !(2..=8).contains(&types.len()) => Err(self.refuse(
                new,
                boot::TUPLE_TYPES,
                "a tuple has 2 to 8 slots".into(),
                "name 2 to 8 types",
            )),
            _ => Ok(()),
        }
    }

    fn composite(&self, e: EntityId, new: &Attribute, parts: &[AttrId]) -> Res<()> {
        let Some(v) = self.says(e, boot::TUPLE_ATTRS) else { return Ok(()) };
        let schema = &self.info.schema;
        let refuse = |why: String| {
            self.refuse(new, boot::TUPLE_ATTRS, why, "name 2 to 8 installed attributes of cardinality one")
        };
        for k in keywords(v) {
            match schema.attribute_named(k) {
                None => return Err(refuse(format!("{k} is not installed"))),
                Some(a) if a.is_many() => return Err(refuse(format!("{k} has cardinality many"))),
                Some(a) if a.value_type == ValueType::Tuple => {
                    return Err(refuse(format!("{k} is a tuple itself")));
                }
                Some(a) if boot::is_virtual(a.id) => return Err(refuse(format!("{k} is computed"))),
                Some(_) => {}
            }
        }
        if !(2..=8).contains(&parts.len()) {
            return Err(refuse(format!("a composite has 2 to 8 parts, not {}", parts.len())));
        }
        if new.is_many() {
            return Err(refuse("a composite has cardinality one".into()));
        }
        Ok(())
    }

    fn component(&self, new: &Attribute) -> Res<()> {
        if new.is_component && !new.is_ref() {
            let why = format!("a component is a reference, and it holds {}", new.value_type.name());
            return Err(self.refuse(
                new,
                boot::IS_COMPONENT,
                why,
                "drop :db/isComponent, or use :db.type/ref",
            ));
        }
        Ok(())
    }

    fn alter(&self, e: EntityId, old: &Attribute, new: &Attribute) -> Res<()> {
        if old.value_type != new.value_type || self.retracts(e, boot::VALUE_TYPE) {
            let why = format!("its facts are of type {}", old.value_type.name());
            let todo = "install a new attribute, copy the facts, and rename both";
            return Err(self.refuse(old, boot::VALUE_TYPE, why, todo));
        }
        if old.tuple != new.tuple {
            let todo = "install a new tuple attribute beside it";
            return Err(self.refuse(old, boot::TUPLE_ATTRS, "its tuples have another shape".into(), todo));
        }
        if self.retracts(e, boot::CARDINALITY) && self.says(e, boot::CARDINALITY).is_none() {
            let why = "an attribute always has a cardinality".into();
            return Err(self.refuse(old, boot::CARDINALITY, why, "assert the other cardinality"));
        }
        self.component(new)?;
        if !old.is_many() && new.is_many() && self.before.info.composites.contains_key(&old.id) {
            let why = "it is part of a composite tuple".into();
            return Err(self.refuse(old, boot::CARDINALITY, why, "use another attribute for many values"));
        }
        if old.is_many() && !new.is_many() {
            self.one_each(old)?;
        }
        if old.unique.is_none() && new.unique.is_some() {
            self.all_unique(old)?;
        }
        Ok(())
    }

    fn retracts(&self, e: EntityId, a: AttrId) -> bool {
        self.of(e).any(|d| d.a == a && !d.added)
    }

    fn one_each(&self, a: &Attribute) -> Res<()> {
        let mut last: Option<EntityId> = None;
        let mut twice = None;
        self.after.scan(View::NOW, &Prefix::A(a.id), &mut |d| {
            if last == Some(d.e) {
                twice = Some(d.e);
                return ControlFlow::Break(());
            }
            last = Some(d.e);
            ControlFlow::Continue(())
        })?;
        match twice {
            None => Ok(()),
            Some(e) => Err(self.refuse(
                a,
                boot::CARDINALITY,
                format!("{e} has several values"),
                "retract all but one value of each entity first",
            )),
        }
    }

    fn all_unique(&self, a: &Attribute) -> Res<()> {
        let mut last: Option<(Value, EntityId)> = None;
        let mut twice = None;
        self.after.range(
            View::NOW,
            a.id,
            std::ops::Bound::Unbounded,
            std::ops::Bound::Unbounded,
            false,
            &mut |d| {
                if let Some((v, e)) = &last
                    && *v == d.v
                {
                    twice = Some((d.v, *e, d.e));
                    return ControlFlow::Break(());
                }
                last = Some((d.v, d.e));
                ControlFlow::Continue(())
            },
        )?;
        match twice {
            None => Ok(()),
            Some((v, x, y)) => Err(self.refuse(
                a,
                boot::UNIQUE,
                format!("{x} and {y} both hold {v:?}"),
                "retract the duplicates first",
            )),
        }
    }

    fn refuse(&self, a: &Attribute, by: AttrId, why: String, todo: &'static str) -> TransactError {
        TransactError::UnsafeAlteration {
            attr: a.ident.clone(),
            why,
            todo,
            at: self.place(a.id.entity(), Some(by)),
        }
    }
}

/// Why an attribute is not taken away.
pub(super) fn why_it_stays(snap: &Snapshot, a: &Attribute) -> Res<&'static str> {
    let ever = View { history: true, ..View::NOW };
    Ok(match snap.first(ever, &Prefix::A(a.id))? {
        Some(_) => "facts, of now or of the past, still use it",
        None => "an attribute stays, used or not: views of the past and stored rules may name it",
    })
}

fn slot_type(k: &Keyword) -> bool {
    named_type(k).is_some_and(|t| t != ValueType::Tuple)
}
