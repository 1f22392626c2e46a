//! The facts of one projection in one transaction, while they are being made: entities are
//! found or made, values compared with what holds. The rules are those of `facts`.

use super::{
    cache::{Before, Cache, Undo, Values},
    error::ProjectError,
    said::{FactOp, Object, Subject, is_erased},
};
use crate::{
    DbError,
    event::{id::Position, record::Recorded},
};
use annals_model::{AttrId, Attribute, Datom, EntityId, Keyword, Schema, T, Unique, Value, ValueType};
use hashbrown::{HashMap, HashSet, hash_map::Entry};
use smallvec::SmallVec;
use std::sync::Arc;

/// What a projection may read while it runs.
pub(crate) trait FactBase {
    /// The values an entity holds as of a transaction; now, when none is given.
    fn values(&self, e: EntityId, a: AttrId, at: Option<T>) -> Result<Vec<Value>, DbError>;
    /// The entity that holds a value as of a transaction; now, when none is given.
    fn holder(&self, a: AttrId, v: &Value, at: Option<T>) -> Result<Option<EntityId>, DbError>;
    /// An entity id never used.
    fn fresh(&self) -> EntityId;
    /// The one that [`FactBase::fresh`] gives next; later ones are larger.
    fn next_fresh(&self) -> EntityId;
}

/// The attributes of one version of a projection, by the names its author uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binding {
    attrs: HashMap<Keyword, Arc<Attribute>>,
}

impl Binding {
    pub fn new(attrs: impl IntoIterator<Item = (Keyword, Arc<Attribute>)>) -> Binding {
        Binding { attrs: attrs.into_iter().collect() }
    }
    pub fn get(&self, name: &Keyword) -> Option<&Arc<Attribute>> {
        self.attrs.get(name)
    }
    pub fn attributes(&self) -> impl Iterator<Item = (&Keyword, &Arc<Attribute>)> {
        self.attrs.iter()
    }
}

/// A fact that an event supports, to be noted as a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Support {
    pub e: EntityId,
    pub a: AttrId,
    pub v: Value,
    pub position: Position,
}

/// The facts of one projection in one transaction, being made.
pub(crate) struct Target<'a> {
    base: &'a dyn FactBase,
    binding: &'a Binding,
    schema: &'a Schema,
    cache: &'a mut Cache,
    undo: Undo,
    /// In order of first touch. What it says of them is in the cache when it is finished.
    touched: Vec<Touched>,
    /// The places in `touched`, once there are more than a few.
    places: HashMap<(EntityId, AttrId), usize>,
    /// Entities from here on were made in this transaction.
    first_fresh: EntityId,
    /// Those of them that no unique value names.
    nameless: SmallVec<[EntityId; 4]>,
    temps: SmallVec<[(u32, EntityId); 4]>,
    position: Position,
    /// The transaction of the event.
    origin: T,
    /// Do several events share the transaction?
    shared: bool,
    supports: Vec<Support>,
    /// What was read or written, when somebody wants to know.
    watch: Option<Watched>,
}

/// Values that the transaction may change.
struct Touched {
    key: (EntityId, AttrId),
    /// At its beginning.
    old: Values,
    now: Values,
    /// Were they in the cache?
    known: bool,
}

/// So many keys are looked through one by one.
const FEW: usize = 8;

/// What a projection read or wrote of its own facts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub values: HashSet<(EntityId, AttrId)>,
    pub holders: HashSet<(AttrId, Value)>,
}

impl<'a> Target<'a> {
    pub fn new(
        base: &'a dyn FactBase,
        binding: &'a Binding,
        schema: &'a Schema,
        cache: &'a mut Cache,
        shared: bool,
    ) -> Target<'a> {
        Target {
            base,
            binding,
            schema,
            cache,
            undo: Undo::default(),
            touched: Vec::new(),
            places: HashMap::new(),
            first_fresh: base.next_fresh(),
            nameless: SmallVec::new(),
            temps: SmallVec::new(),
            position: Position::ZERO,
            origin: T::GENESIS,
            shared,
            supports: Vec::new(),
            watch: None,
        }
    }

    /// Notes from now on what is read and written.
    pub fn watch(&mut self) {
        self.watch = Some(Watched::default());
    }
    /// What was read and written since [`Target::watch`].
    pub fn watched(&self) -> Watched {
        self.watch.clone().unwrap_or_default()
    }
    /// What is another now than when the transaction began.
    pub fn written(&self) -> Watched {
        let other = |Touched { old, now, .. }: &&Touched| {
            now.len() != old.len() || !old.iter().all(|v| now.contains(v))
        };
        let moved = |(key, old): &&Before<_, _>| old.as_ref() != self.cache.holders.get(key);
        Watched {
            values: self.touched.iter().filter(other).map(|t| t.key).collect(),
            holders: self.undo.holders.iter().filter(moved).map(|(key, _)| key.clone()).collect(),
        }
    }

    /// What follows is said of this event.
    pub fn begin(&mut self, e: &Recorded) {
        self.position = e.position;
        self.origin = e.t;
        self.temps.clear();
    }

    /// An owned attribute by the author's name.
    pub fn owned(&self, attr: &Keyword) -> Result<&'a Arc<Attribute>, ProjectError> {
        self.binding.get(attr).ok_or_else(|| {
            if self.schema.attribute_named(attr).is_some() {
                ProjectError::NotOwned { attr: attr.clone() }
            } else {
                ProjectError::UnknownAttribute { attr: attr.clone() }
            }
        })
    }

    /// The entity meant, made when it may be.
    pub fn entity(&mut self, subject: &Subject) -> Result<EntityId, ProjectError> {
        match subject {
            Subject::Id(e) => Ok(*e),
            Subject::New(n) => Ok(match self.temps.iter().find(|(of, _)| of == n) {
                Some((_, e)) => *e,
                None => {
                    let e = self.base.fresh();
                    self.temps.push((*n, e));
                    self.nameless.push(e);
                    e
                }
            }),
            Subject::Lookup(attr, value) => {
                if let Some(e) = self.find(attr, value)? {
                    return Ok(e);
                }
                let Some(a) = self.binding.get(attr) else {
                    return Err(ProjectError::NoEntity { attr: attr.clone(), value: value.clone() });
                };
                let a = a.clone();
                let e = self.base.fresh();
                self.assert(e, attr, &a, value.clone())?;
                Ok(e)
            }
        }
    }

    /// The entity that a unique attribute names, if there is one.
    pub fn find(&mut self, attr: &Keyword, value: &Value) -> Result<Option<EntityId>, ProjectError> {
        let (a, owned) = match self.binding.get(attr) {
            Some(a) => (a, true),
            None => match self.schema.attribute_named(attr) {
                Some(a) => (a, false),
                None => return Err(ProjectError::UnknownAttribute { attr: attr.clone() }),
            },
        };
        if a.unique.is_none() {
            return Err(ProjectError::NotUnique { attr: attr.clone() });
        }
        let value = coerce(attr, a, value.clone())?;
        if !owned {
            return Ok(self.base.holder(a.id, &value, Some(self.origin))?);
        }
        self.holder(a.id, value)
    }

    fn holder(&mut self, a: AttrId, value: Value) -> Result<Option<EntityId>, ProjectError> {
        let key = (a, value);
        if let Some(w) = &mut self.watch {
            w.holders.insert(key.clone());
        }
        if let Some(holder) = self.cache.holders.get(&key) {
            return Ok(*holder);
        }
        if self.cache.all_holders {
            return Ok(None);
        }
        let holder = self.base.holder(a, &key.1, None)?;
        self.cache.holders.insert(key, holder);
        Ok(holder)
    }

    /// The values of an owned attribute, as the projection has them now.
    pub fn values(&mut self, e: EntityId, a: AttrId) -> Result<&[Value], ProjectError> {
        if let Some(w) = &mut self.watch {
            w.values.insert((e, a));
        }
        match self.place((e, a)) {
            Some(at) => Ok(&self.touched[at].now),
            None => Ok(self.load(e, a)?.0),
        }
    }

    /// Where `(e, a)` stands in `touched`.
    fn place(&self, key: (EntityId, AttrId)) -> Option<usize> {
        match self.touched.len() <= FEW {
            true => self.touched.iter().position(|t| t.key == key),
            false => self.places.get(&key).copied(),
        }
    }

    /// Was the entity made in this transaction? Then nothing is known of it but what is touched.
    fn is_fresh(&self, e: EntityId) -> bool {
        (self.first_fresh..self.base.next_fresh()).contains(&e)
    }

    /// The values before the transaction, by way of the cache, and whether they were there already.
    fn load(&mut self, e: EntityId, a: AttrId) -> Result<(&Values, bool), ProjectError> {
        let nothing = self.cache.all_values || self.is_fresh(e);
        match self.cache.values.entry((e, a)) {
            Entry::Occupied(held) => Ok((held.into_mut(), true)),
            Entry::Vacant(slot) => {
                let values = if nothing { Vec::new() } else { self.base.values(e, a, None)? };
                Ok((slot.insert(values.into()), false))
            }
        }
    }

    /// Any attribute's values: owned ones as they are now, others as of the event.
    pub fn read(&mut self, e: EntityId, attr: &Keyword) -> Result<Vec<Value>, ProjectError> {
        if let Some(a) = self.binding.get(attr) {
            return Ok(self.values(e, a.id)?.to_vec());
        }
        match self.schema.attribute_named(attr) {
            Some(a) => Ok(self.base.values(e, a.id, Some(self.origin))?),
            None => Err(ProjectError::UnknownAttribute { attr: attr.clone() }),
        }
    }

    /// The values of `(e, a)`, to be changed; how they were is remembered, for the datoms and for taking back.
    fn touch(&mut self, e: EntityId, a: AttrId) -> Result<usize, ProjectError> {
        let key = (e, a);
        if let Some(at) = self.place(key) {
            return Ok(at);
        }
        if let Some(w) = &mut self.watch {
            w.values.insert(key);
        }
        let (old, known) = match self.is_fresh(e) {
            true => (Values::new(), false),
            false => {
                let (values, known) = self.load(e, a)?;
                (values.clone(), known)
            }
        };
        let at = self.touched.len();
        self.touched.push(Touched { key, now: old.clone(), old, known });
        match at + 1 {
            n if n <= FEW => {}
            n if n == FEW + 1 => {
                self.places.extend(self.touched.iter().enumerate().map(|(at, t)| (t.key, at)));
            }
            _ => drop(self.places.insert(key, at)),
        }
        Ok(at)
    }

    fn set_holder(&mut self, a: AttrId, v: &Value, holder: Option<EntityId>) {
        let key = (a, v.clone());
        let old = self.cache.holders.insert(key.clone(), holder);
        self.undo.holders.push((key, old));
    }

    /// Asserts one value of an owned attribute.
    pub fn assert(
        &mut self,
        e: EntityId,
        attr: &Keyword,
        a: &Arc<Attribute>,
        value: Value,
    ) -> Result<(), ProjectError> {
        if is_erased(&value) {
            // Of a value that nobody can read any more, nothing is said.
            return Ok(());
        }
        let value = coerce(attr, a, value)?;
        let at = self.touch(e, a.id)?;
        if self.touched[at].now.contains(&value) {
            self.supports.push(Support { e, a: a.id, v: value, position: self.position });
            return Ok(());
        }
        if a.unique.is_some() {
            if let Some(holder) = self.holder(a.id, value.clone())?.filter(|h| *h != e) {
                return Err(ProjectError::Taken { attr: attr.clone(), value, holder });
            }
            if !a.is_many() {
                for old in self.touched[at].now.clone() {
                    self.set_holder(a.id, &old, None);
                }
            }
            self.set_holder(a.id, &value, Some(e));
            self.nameless.retain(|n| *n != e);
        }
        if self.shared {
            self.supports.push(Support { e, a: a.id, v: value.clone(), position: self.position });
        }
        let values = &mut self.touched[at].now;
        if !a.is_many() {
            values.clear();
        }
        values.push(value);
        Ok(())
    }

    /// Retracts one value, if it holds.
    pub fn retract(
        &mut self,
        e: EntityId,
        attr: &Keyword,
        a: &Arc<Attribute>,
        value: Value,
    ) -> Result<(), ProjectError> {
        if is_erased(&value) {
            return Ok(());
        }
        let value = coerce(attr, a, value)?;
        if self.values(e, a.id)?.contains(&value) {
            let at = self.touch(e, a.id)?;
            if a.unique.is_some() {
                self.set_holder(a.id, &value, None);
            }
            self.touched[at].now.retain(|v| *v != value);
        }
        Ok(())
    }

    /// Retracts every value of an owned attribute.
    pub fn clear(&mut self, e: EntityId, attr: &Keyword, a: &Arc<Attribute>) -> Result<(), ProjectError> {
        for value in self.values(e, a.id)?.to_vec() {
            self.retract(e, attr, a, value)?;
        }
        Ok(())
    }

    /// Retracts all that the projection says of an entity.
    pub fn forget(&mut self, e: EntityId) -> Result<(), ProjectError> {
        let binding = self.binding;
        for (name, a) in binding.attributes() {
            self.clear(e, name, a)?;
        }
        Ok(())
    }

    /// Carries out what a projection written in Rust said.
    pub fn apply(&mut self, ops: &[FactOp]) -> Result<(), ProjectError> {
        for op in ops.iter().filter(|op| !op.is_erased()) {
            match op {
                FactOp::Assert(e, attr, v) => {
                    let a = self.owned(attr)?;
                    let e = self.entity(e)?;
                    let v = self.object(v)?;
                    self.assert(e, attr, a, v)?;
                }
                FactOp::Retract(e, attr, v) => {
                    let a = self.owned(attr)?;
                    let (e, v) = (self.entity(e)?, self.object(v)?);
                    self.retract(e, attr, a, v)?;
                }
                FactOp::Clear(e, attr) => {
                    let a = self.owned(attr)?;
                    let e = self.entity(e)?;
                    self.clear(e, attr, a)?;
                }
                FactOp::Forget(e) => {
                    let e = self.entity(e)?;
                    self.forget(e)?;
                }
            }
        }
        Ok(())
    }

    fn object(&mut self, v: &Object) -> Result<Value, ProjectError> {
        Ok(match v {
            Object::Value(v) => v.clone(),
            Object::Entity(e) => Value::Ref(self.entity(e)?),
        })
    }

    /// Adds the transaction's datoms, filed under `t`, and the support to be noted. The cache knows it now.
    pub fn finish(self, t: T, datoms: &mut Vec<Datom>, supports: &mut Vec<Support>) -> Undo {
        let Target { touched, cache, supports: more, mut undo, nameless, .. } = self;
        supports.extend(more);
        undo.values.reserve(touched.len());
        for Touched { key: (e, a), old, now, known } in touched {
            for v in old.iter().filter(|v| !now.contains(v)) {
                datoms.push(Datom { e, a, v: v.clone(), t, added: false });
            }
            for v in now.iter().filter(|v| !old.contains(v)) {
                datoms.push(Datom { e, a, v: v.clone(), t, added: true });
            }
            if nameless.contains(&e) {
                cache.nameless.push((e, a));
            }
            cache.values.insert((e, a), now);
            undo.values.push(((e, a), known.then_some(old)));
        }
        undo
    }

    /// Gives up: the cache is to be as it was.
    pub fn abandon(self) {
        let Target { cache, undo, .. } = self;
        cache.undo(undo);
    }
}

/// The value as the attribute wants it. Longs become doubles; nothing else changes.
fn coerce(name: &Keyword, a: &Attribute, v: Value) -> Result<Value, ProjectError> {
    if v.value_type() == Some(a.value_type) {
        return Ok(v);
    }
    match (a.value_type, v) {
        (ValueType::Double, Value::Long(n)) => Ok(Value::double(n as f64).unwrap_or(Value::Long(n))),
        (wanted, value) => Err(ProjectError::Convert { value, wanted: wanted.name(), by: name.to_string() }),
    }
}

/// Is the attribute one by which an entity is found or made?
pub(crate) fn is_identity(a: &Attribute) -> bool {
    a.unique == Some(Unique::Identity)
}
