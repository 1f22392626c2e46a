//! Stage 1: forms become assertions and retractions.
//!
//! 1. Idents, lookup refs, attributes and functions see only the database
//!    before the transaction.
//! 2. After this stage every attribute is resolved and every value is coerced
//!    to its attribute's type, tempids aside.
//!
//! `names` says what a name in a form means, `builtin` holds the functions that read facts first.
//! Not here: which entity a tempid is (`upsert`), what holds already (`diff`).

mod builtin;
mod names;

use super::{
    Before,
    error::{Place, TransactError},
    function,
    op::{Ent, Expanded, Op, Res, Temp, Val},
};
use crate::bootstrap as boot;
use annals_model::{
    Attribute, EntityId, Keyword, TupleKind, Unique, Value, ValueType, diagnostic::nearest, tx::TxData,
};
use hashbrown::HashMap;
use std::sync::{Arc, LazyLock};

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
            let name = self.before.info.schema.ident(e).cloned();
            return Err(TransactError::Reserved { entity: e, name, at: self.at().attr(&a.ident) });
        }
        if a.id == boot::TX_INSTANT && e != self.before.t.entity() {
            return Err(TransactError::InstantElsewhere { entity: e, at: self.at() });
        }
        Ok(())
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
}
