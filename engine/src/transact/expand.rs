//! Stage 1: forms become assertions and retractions.
//!
//! 1. Idents, lookup refs, attributes and functions see only the database
//!    before the transaction.
//! 2. After this stage every attribute is resolved and every value is coerced
//!    to its attribute's type, tempids aside.
//!
//! Not here: which entity a tempid is (`upsert`), what holds already (`diff`).

use super::{
    Before,
    error::{Place, TransactError},
    function,
    op::{Ensure, Ent, Expanded, Op, Res, Temp, TempInfo, Val},
    value,
};
use crate::{bootstrap as boot, store::Prefix};
use annals_model::{
    Attribute, EntityId, Keyword, Partition, TupleKind, Unique, Value, ValueType, View, diagnostic::nearest,
    tx::TxData,
};
use hashbrown::HashMap;
use std::{
    ops::ControlFlow,
    sync::{Arc, LazyLock},
};

/// Deepest nesting of maps and of functions calling functions.
pub(crate) const MAX_DEPTH: usize = 64;

/// The key that names an entity in a map form.
static DB_ID: LazyLock<Keyword> = LazyLock::new(|| Keyword::new("db/id"));

pub(crate) const TX_TEMPID: &str = "datomic.tx";

/// The state of expansion: forms in, [`Expanded`] out.
pub(crate) struct Expander<'a> {
    pub before: &'a Before<'a>,
    pub out: Expanded,
    names: HashMap<Arc<str>, Temp, foldhash::fast::RandomState>,
    last_attr: Option<(Keyword, Arc<Attribute>)>,
    form: u32,
    depth: usize,
}

impl<'a> Expander<'a> {
    pub fn new(before: &'a Before<'a>) -> Expander<'a> {
        Expander {
            before,
            out: Expanded::default(),
            names: HashMap::default(),
            last_attr: None,
            form: 0,
            depth: 0,
        }
    }

    /// Expands every form.
    pub fn expand(mut self, data: &TxData) -> Res<Expanded> {
        self.out.ops.reserve(data.forms.len() * 2);
        for (i, form) in data.forms.iter().enumerate() {
            self.form = u32::try_from(i).unwrap_or(u32::MAX);
            self.form(form)?;
        }
        Ok(self.out)
    }

    pub fn at(&self) -> Place {
        Place::form(self.form as usize)
    }

    fn deeper(&mut self) -> Res<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TransactError::TooDeep { limit: MAX_DEPTH, at: self.at() });
        }
        Ok(())
    }

    fn form(&mut self, form: &Value) -> Res<()> {
        match form {
            Value::Map(entries) => self.map(entries, None).map(|_| ()),
            Value::Vector(items) | Value::List(items) => self.list(form, items),
            _ => Err(TransactError::BadForm {
                form: form.clone(),
                why: "write [:db/add e a v], [:db/retract e a v], … or a map of attributes",
                at: self.at(),
            }),
        }
    }

    fn list(&mut self, form: &Value, items: &[Value]) -> Res<()> {
        let Some((op, args)) = items.split_first() else {
            return Err(TransactError::BadForm {
                form: form.clone(),
                why: "a list form begins with an operation such as :db/add",
                at: self.at(),
            });
        };
        let op = match op {
            Value::Keyword(k) => k.clone(),
            Value::Symbol(s) => Keyword::new(s.as_str()),
            _ => {
                return Err(TransactError::UnknownOperation { op: op.clone(), nearest: None, at: self.at() });
            }
        };
        let arity = |expected: &'static str, ok: bool| match ok {
            true => Ok(()),
            false => Err(TransactError::WrongArity {
                op: op.clone(),
                expected,
                found: args.len(),
                at: Place::form(self.form as usize),
            }),
        };
        match op.as_str() {
            "db/add" => {
                arity("an entity, an attribute and a value", args.len() == 3)?;
                self.add_or_retract(true, &args[0], &args[1], &args[2])
            }
            "db/retract" => {
                arity("an entity, an attribute and at most one value", args.len() == 2 || args.len() == 3)?;
                match args.get(2) {
                    Some(v) => self.add_or_retract(false, &args[0], &args[1], v),
                    None => self.retract_all(&op, &args[0], &args[1]),
                }
            }
            "db/retractEntity" | "db.fn/retractEntity" => {
                arity("one entity", args.len() == 1)?;
                let e = self.existing(&op, &args[0])?;
                self.retract_entity(e)
            }
            "db/cas" | "db.fn/cas" => {
                arity("an entity, an attribute, the old value and the new one", args.len() == 4)?;
                self.cas(&op, &args[0], &args[1], &args[2], &args[3])
            }
            _ => self.call(&op, args),
        }
    }

    fn call(&mut self, op: &Keyword, args: &[Value]) -> Res<()> {
        let registry = self.before.registry;
        let Some(f) = registry.functions.get(op) else {
            let known = ["db/add", "db/retract", "db/retractEntity", "db/cas"];
            let names = known.into_iter().chain(registry.functions.keys().map(Keyword::as_str));
            return Err(TransactError::UnknownOperation {
                op: Value::Keyword(op.clone()),
                nearest: nearest(op.as_str(), names).map(Keyword::new),
                at: self.at(),
            });
        };
        self.deeper()?;
        let data = function::guarded(|| format!("transaction function {op}"), || f(self.before.db, args))?
            .map_err(|why| TransactError::FunctionRefused { function: op.clone(), why, at: self.at() })?;
        for form in &data.forms {
            self.form(form)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn add_or_retract(&mut self, added: bool, e: &Value, a: &Value, v: &Value) -> Res<()> {
        if let Some((_, forward)) = self.reverse(a)? {
            let target = self.entity(v, true)?;
            let v = self.value(&forward, e)?;
            return self.push(added, target, forward, v);
        }
        let a = self.attribute(a)?;
        let e = self.entity(e, true)?;
        if a.id == boot::ENSURE {
            return self.ensure(e, v);
        }
        let v = self.value(&a, v)?;
        self.push(added, e, a, v)
    }

    fn push(&mut self, added: bool, e: Ent, a: Arc<Attribute>, v: Val) -> Res<()> {
        self.writable(&a)?;
        match e {
            Ent::Temp(t) => self.out.temps[t.0 as usize].is_entity |= added,
            Ent::Id(id) => self.touchable(id, &a)?,
        }
        self.out.ops.push(Op { added, e, a, v, form: self.form });
        Ok(())
    }

    fn writable(&self, a: &Attribute) -> Res<()> {
        let at = || self.at().attr(&a.ident);
        if let Some(TupleKind::Composite(parts)) = &a.tuple {
            let schema = &self.before.info.schema;
            let parts = parts.iter().filter_map(|p| schema.attribute(*p)).map(|p| p.ident.clone()).collect();
            return Err(TransactError::CompositeWritten { attr: a.ident.clone(), parts, at: at() });
        }
        if boot::is_virtual(a.id) {
            return Err(TransactError::VirtualWritten { attr: a.ident.clone(), at: at() });
        }
        if let Some(owner) = self.before.foreign_owner(a.id) {
            return Err(TransactError::OwnedAttribute { attr: a.ident.clone(), owner, at: at() });
        }
        Ok(())
    }

    fn touchable(&self, e: EntityId, a: &Attribute) -> Res<()> {
        if boot::is_builtin(e) {
            return Err(TransactError::Reserved { entity: e, at: self.at().attr(&a.ident) });
        }
        if a.id == boot::TX_INSTANT && e != self.before.t.entity() {
            return Err(TransactError::InstantElsewhere { entity: e, at: self.at() });
        }
        Ok(())
    }

    fn retract_all(&mut self, op: &Keyword, e: &Value, a: &Value) -> Res<()> {
        let a = self.attribute(a)?;
        let e = self.existing(op, e)?;
        for d in self.before.snap.datoms(View::NOW, &Prefix::Ea(e, a.id))? {
            self.push(false, Ent::Id(e), a.clone(), Val::Known(d.v))?;
        }
        self.writable(&a)?;
        self.touchable(e, &a)
    }

    /// Its own facts, facts that point to it, and its components likewise.
    fn retract_entity(&mut self, root: EntityId) -> Res<()> {
        let schema = self.before.info.schema.clone();
        let ref_attrs: Vec<Arc<Attribute>> =
            schema.attributes().filter(|a| a.is_ref() && !boot::is_virtual(a.id)).cloned().collect();
        if schema.attribute_of(root).is_some() && !boot::is_builtin(root) {
            return Err(TransactError::UnsafeAlteration {
                attr: schema.ident(root).cloned().unwrap_or_else(|| DB_ID.clone()),
                why: "facts of the past still use it".into(),
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

    fn cas(&mut self, op: &Keyword, e: &Value, a: &Value, old: &Value, new: &Value) -> Res<()> {
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

    fn map(&mut self, entries: &[(Value, Value)], inherited: Option<Temp>) -> Res<Ent> {
        self.deeper()?;
        let id = entries.iter().find(|(k, _)| matches!(k, Value::Keyword(k) if *k == *DB_ID));
        let e = match (id, inherited) {
            (Some((_, id)), _) => self.entity(id, true)?,
            (None, Some(t)) => Ent::Temp(t),
            (None, None) => Ent::Temp(self.anonymous()),
        };
        for (k, v) in entries {
            if matches!(k, Value::Keyword(k) if *k == *DB_ID) {
                continue;
            }
            self.entry(e, k, v)?;
        }
        self.depth -= 1;
        Ok(e)
    }

    fn entry(&mut self, e: Ent, k: &Value, v: &Value) -> Res<()> {
        if let Some((named, forward)) = self.reverse(k)? {
            let sources: &[Value] = match v {
                Value::Vector(items) | Value::List(items) | Value::Set(items)
                    if !self.is_lookup(items) || matches!(v, Value::Set(_)) =>
                {
                    items
                }
                one => std::slice::from_ref(one),
            };
            for s in sources {
                let source = match s {
                    Value::Map(inner) => self.nested(&forward, &named, inner)?,
                    s => self.entity(s, true)?,
                };
                let v = match e {
                    Ent::Id(id) => Val::Known(Value::Ref(id)),
                    Ent::Temp(t) => Val::Temp(t),
                };
                self.push(true, source, forward.clone(), v)?;
            }
            return Ok(());
        }
        let a = self.attribute(k)?;
        let items: &[Value] = match v {
            Value::Vector(items) | Value::List(items) | Value::Set(items)
                if self.is_collection(&a, v, items)? =>
            {
                items
            }
            one => std::slice::from_ref(one),
        };
        for v in items {
            match v {
                Value::Map(inner) if a.is_ref() && a.id != boot::ENSURE => {
                    let ident = a.ident.clone();
                    let target = match self.nested(&a, &ident, inner)? {
                        Ent::Id(id) => Val::Known(Value::Ref(id)),
                        Ent::Temp(t) => Val::Temp(t),
                    };
                    self.push(true, e, a.clone(), target)?;
                }
                v if a.id == boot::ENSURE => self.ensure(e, v)?,
                v => {
                    let v = self.value(&a, v)?;
                    self.push(true, e, a.clone(), v)?;
                }
            }
        }
        Ok(())
    }

    /// Are these the values of a cardinality-many attribute, rather than one value?
    fn is_collection(&self, a: &Attribute, v: &Value, items: &[Value]) -> Res<bool> {
        let at = || self.at().attr(&a.ident);
        if !a.is_many() {
            let one_value = match a.value_type {
                ValueType::Tuple => true,
                ValueType::Ref => self.is_lookup(items),
                _ => false,
            };
            if one_value && !matches!(v, Value::Set(_)) {
                return Ok(false);
            }
            return Err(TransactError::ManyForOne { attr: a.ident.clone(), at: at() });
        }
        if a.value_type == ValueType::Tuple && !matches!(v, Value::Set(_)) {
            return Ok(items.iter().all(|i| matches!(i, Value::Vector(_) | Value::List(_))));
        }
        if a.is_ref() && a.id != boot::ENSURE && !matches!(v, Value::Set(_)) && self.is_lookup(items) {
            return Err(TransactError::BadForm {
                form: v.clone(),
                why: "under an attribute of cardinality many a lookup ref needs an outer list: [[attribute value]]",
                at: at(),
            });
        }
        Ok(true)
    }

    /// Does this vector read as a lookup ref, `[:unique/attribute value]`?
    fn is_lookup(&self, items: &[Value]) -> bool {
        match items {
            [Value::Keyword(k), _] => {
                self.before.info.schema.attribute_named(k).is_some_and(|a| a.unique.is_some())
            }
            _ => false,
        }
    }

    /// A map in the place of an entity: needs a component attribute around it or
    /// something unique inside it, or an explicit id.
    fn nested(&mut self, a: &Attribute, named: &Keyword, inner: &[(Value, Value)]) -> Res<Ent> {
        let schema = &self.before.info.schema;
        let identified = inner.iter().any(|(k, _)| match k {
            Value::Keyword(k) if *k == *DB_ID => true,
            Value::Keyword(k) => schema.attribute_named(k).is_some_and(|a| a.unique.is_some()),
            _ => false,
        });
        let composite = || {
            inner.iter().any(|(k, _)| match k {
                Value::Keyword(k) => schema.attribute_named(k).is_some_and(|part| {
                    let of = self.before.info.composites.get(&part.id);
                    of.is_some_and(|all| all.iter().any(|c| c.unique == Some(Unique::Identity)))
                }),
                _ => false,
            })
        };
        if !a.is_component && !identified && !composite() {
            return Err(TransactError::NestedNotIdentified {
                attr: named.clone(),
                at: self.at().attr(named),
            });
        }
        self.map(inner, None)
    }

    fn ensure(&mut self, e: Ent, spec: &Value) -> Res<()> {
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

    /// The attribute a value names.
    fn attribute(&mut self, a: &Value) -> Res<Arc<Attribute>> {
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

    fn unknown_attribute(&self, k: &Keyword) -> TransactError {
        let at = self.at().attr(k);
        if self.before.installs(k) {
            return TransactError::AttributeTooNew { attr: k.clone(), at };
        }
        TransactError::UnknownAttribute { attr: k.clone(), nearest: self.before.info.schema.nearest(k), at }
    }

    /// `:person/_boss` as `:person/boss`, unless an attribute is really called so.
    fn reverse(&mut self, a: &Value) -> Res<Option<(Keyword, Arc<Attribute>)>> {
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

    fn anonymous(&mut self) -> Temp {
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

    fn existing(&mut self, op: &Keyword, v: &Value) -> Res<EntityId> {
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
