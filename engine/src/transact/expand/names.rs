//! What the names in a form mean: attributes, tempids, entities by number, ident or lookup ref, and values of an
//! attribute's type.
//!
//! 1. Names are looked up in the database before the transaction; only tempids are new.
//! 2. An unknown name is an error that offers the nearest one.

use super::{Expander, TX_TEMPID};
use crate::{
    store::Prefix,
    transact::{
        Before,
        error::TransactError,
        op::{Ent, Res, Temp, TempInfo, Val},
        value,
    },
};
use annals_model::{Attribute, EntityId, Keyword, Partition, Value, View, diagnostic::nearest};
use std::{ops::ControlFlow, sync::Arc};

impl<'a> Expander<'a> {
    /// The attribute a value names.
    pub(super) fn attribute(&mut self, a: &Value) -> Res<Arc<Attribute>> {
        let schema = &self.before.info.schema;
        match a {
            Value::Keyword(k) => {
                if let Some((last, a)) = &self.last_attr
                    && last == k
                {
                    return Ok(a.clone());
                }
                let Some(found) = schema.attribute_named(k) else { return Err(self.unknown_attribute(k)) };
                self.last_attr = Some((k.clone(), found.clone()));
                Ok(found.clone())
            }
            Value::Long(n) => u64::try_from(*n)
                .ok()
                .and_then(|n| schema.attribute_of(EntityId::from_raw(n)))
                .cloned()
                .ok_or_else(|| TransactError::BadAttribute { found: a.clone(), at: self.at() }),
            Value::Ref(e) => schema
                .attribute_of(*e)
                .cloned()
                .ok_or_else(|| TransactError::BadAttribute { found: a.clone(), at: self.at() }),
            _ => Err(TransactError::BadAttribute { found: a.clone(), at: self.at() }),
        }
    }

    pub(super) fn unknown_attribute(&self, k: &Keyword) -> TransactError {
        let at = self.at().attr(k);
        if self.before.installs(k) {
            return TransactError::AttributeTooNew { attr: k.clone(), at };
        }
        TransactError::UnknownAttribute { attr: k.clone(), nearest: self.before.info.schema.nearest(k), at }
    }

    /// `:person/_boss` as `:person/boss`, unless an attribute is really called so.
    pub(super) fn reverse(&mut self, a: &Value) -> Res<Option<(Keyword, Arc<Attribute>)>> {
        let Value::Keyword(k) = a else { return Ok(None) };
        let Some(bare) = k.name().strip_prefix('_') else { return Ok(None) };
        if bare.is_empty() || self.before.info.schema.attribute_named(k).is_some() {
            return Ok(None);
        }
        let forward = Keyword::from_parts(k.namespace(), bare);
        let Some(attr) = self.before.info.schema.attribute_named(&forward).cloned() else {
            return Err(self.unknown_attribute(&forward));
        };
        if !attr.is_ref() {
            return Err(TransactError::ReverseNotRef { attr: k.clone(), forward, at: self.at() });
        }
        Ok(Some((k.clone(), attr)))
    }

    pub(super) fn anonymous(&mut self) -> Temp {
        let t = Temp(u32::try_from(self.out.temps.len()).expect("forms are fewer than 2^32"));
        self.out.temps.push(TempInfo { name: None, is_entity: false });
        t
    }

    pub fn tempid(&mut self, name: &Arc<str>) -> Res<Ent> {
        if **name == *TX_TEMPID {
            return Ok(Ent::Id(self.before.t.entity()));
        }
        if let Some(t) = self.names.get(name) {
            return Ok(Ent::Temp(*t));
        }
        let why = match &**name {
            n if n.starts_with(':') => "a tempid may not begin with a colon; write a keyword without quotes",
            n if n.starts_with("datomic") => {
                "names that begin with datomic are reserved; the transaction is \"datomic.tx\""
            }
            "" => "a tempid may not be empty",
            _ => {
                let t = self.anonymous();
                self.out.temps[t.0 as usize].name = Some(name.clone());
                self.names.insert(name.clone(), t);
                return Ok(Ent::Temp(t));
            }
        };
        Err(TransactError::BadTempid { tempid: name.clone(), why, at: self.at() })
    }

    /// An entity in any of its forms. With `make`, a string is a tempid.
    pub fn entity(&mut self, v: &Value, make: bool) -> Res<Ent> {
        match v {
            Value::String(s) if make => self.tempid(s),
            Value::String(s) if **s == *TX_TEMPID => Ok(Ent::Id(self.before.t.entity())),
            Value::String(_) => {
                Err(TransactError::TempidRefused { op: Keyword::new("db/retractEntity"), at: self.at() })
            }
            Value::Ref(e) => self.known(*e).map(Ent::Id),
            Value::Long(n) if *n < 0 => Err(TransactError::BadTempid {
                tempid: n.to_string().into(),
                why: "tempids are strings: \"new\"",
                at: self.at(),
            }),
            Value::Long(n) => self.known(EntityId::from_raw(*n as u64)).map(Ent::Id),
            Value::Keyword(k) => self.ident(k).map(Ent::Id),
            Value::Vector(items) | Value::List(items) => match &items[..] {
                [Value::Keyword(a), value] => {
                    let a = self.attribute(&Value::Keyword(a.clone()))?;
                    self.lookup(&a, value).map(Ent::Id)
                }
                _ => Err(TransactError::BadEntity { found: v.clone(), at: self.at() }),
            },
            _ => Err(TransactError::BadEntity { found: v.clone(), at: self.at() }),
        }
    }

    pub(super) fn existing(&mut self, op: &Keyword, v: &Value) -> Res<EntityId> {
        match self.entity(v, false) {
            Ok(Ent::Id(e)) => Ok(e),
            Ok(Ent::Temp(_)) | Err(TransactError::TempidRefused { .. }) => {
                Err(TransactError::TempidRefused { op: op.clone(), at: self.at() })
            }
            Err(e) => Err(e),
        }
    }

    /// An id is an entity only if it has been given out.
    pub fn known(&self, e: EntityId) -> Res<EntityId> {
        let c = e.counter();
        let given = match e.partition() {
            Some(Partition::Db) => c > 0 && c < self.before.counters.attr,
            Some(Partition::Tx) => c <= self.before.t.0,
            Some(Partition::User) => c > 0 && c < self.before.counters.user,
            Some(Partition::Event) => true,
            None => false,
        };
        if given { Ok(e) } else { Err(TransactError::NoSuchEntity { id: e, at: self.at() }) }
    }

    pub fn ident(&self, k: &Keyword) -> Res<EntityId> {
        let schema = &self.before.info.schema;
        schema.entid(k).ok_or_else(|| TransactError::UnknownIdent {
            ident: k.clone(),
            nearest: nearest(k.as_str(), schema.idents().map(|(k, _)| k.as_str())).map(Keyword::new),
            at: self.at(),
        })
    }

    /// The entity with a unique value, in the database before.
    pub fn lookup(&mut self, a: &Arc<Attribute>, value: &Value) -> Res<EntityId> {
        if a.unique.is_none() {
            return Err(TransactError::LookupNotUnique { attr: a.ident.clone(), at: self.at() });
        }
        self.deeper()?;
        let v = match self.value(a, value)? {
            Val::Known(v) => v,
            Val::Temp(_) | Val::Tuple(_) => {
                return Err(TransactError::TempidRefused { op: Keyword::new("db/add"), at: self.at() });
            }
        };
        self.depth -= 1;
        let holder = self.before.holder(a, &v)?;
        holder.ok_or_else(|| TransactError::LookupMissing { attr: a.ident.clone(), value: v, at: self.at() })
    }

    /// A value as its attribute holds it.
    pub fn value(&mut self, a: &Arc<Attribute>, v: &Value) -> Res<Val> {
        value::coerce(self, a, v)
    }
}

impl Before<'_> {
    /// The entity that holds a unique value.
    pub fn holder(&self, a: &Attribute, v: &Value) -> Res<Option<EntityId>> {
        let mut found = None;
        self.snap.scan(View::NOW, &Prefix::Av(a.id, v.clone()), &mut |d| {
            found = Some(d.e);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}
