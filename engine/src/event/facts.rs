//! From what a projection says to datoms: entities found or made, values
//! compared with what holds, provenance noted.
//!
//! 1. A projection writes only attributes it owns, so what it wrote last is
//!    what holds: `Cache` is exact, and saves reading the store per event.
//! 2. What is said of one event is applied in order, each line seeing those
//!    before; the datoms of a transaction are the difference between its
//!    beginning and its end, so nothing is both asserted and retracted in it.
//! 3. Anything refused leaves the cache as it was (`Cache::undo`).
//! 4. What others say is read as of the event's transaction: whoever runs late, or again,
//!    reads what the first run read.
//! 5. Support that cannot be read off the datom's t is noted as a row: a
//!    repeated assertion, or one of several events of a transaction.

use super::{id::Position, record::Recorded};
use crate::DbError;
use annals_model::{AttrId, Attribute, Datom, EntityId, Keyword, Schema, T, Unique, Value, ValueType};
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// What a projection may read while it runs.
pub(crate) trait FactBase {
    /// The values an entity holds as of a transaction; now, when none is given.
    fn values(&self, e: EntityId, a: AttrId, at: Option<T>) -> Result<Vec<Value>, DbError>;
    /// The entity that holds a value as of a transaction; now, when none is given.
    fn holder(&self, a: AttrId, v: &Value, at: Option<T>) -> Result<Option<EntityId>, DbError>;
    /// An entity id never used.
    fn fresh(&self) -> EntityId;
}

/// Why a projection could not take an event.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// A field that the template needs is not in the event.
    #[error("{what} needs {field}, which the event does not have")]
    Missing {
        /// Where it was needed.
        what: String,
        /// The field.
        field: String,
    },
    /// A value cannot be converted.
    #[error("{value:?} is not a {wanted}{}", wanted_by(by))]
    Convert {
        /// The value.
        value: Value,
        /// The type.
        wanted: &'static str,
        /// By which attribute or function.
        by: String,
    },
    /// The attribute belongs to another projection, or to none.
    #[error("{attr} is not among the attributes of this projection")]
    NotOwned {
        /// The attribute.
        attr: Keyword,
    },
    /// There is no such attribute.
    #[error("unknown attribute {attr}")]
    UnknownAttribute {
        /// As written.
        attr: Keyword,
    },
    /// The attribute identifies nothing.
    #[error("{attr} is not unique, so [{attr} …] names no entity")]
    NotUnique {
        /// The attribute.
        attr: Keyword,
    },
    /// A lookup through another's attribute found nothing.
    #[error("no entity has {attr} {value:?}")]
    NoEntity {
        /// The attribute.
        attr: Keyword,
        /// The value.
        value: Value,
    },
    /// Another entity has the unique value.
    #[error("{attr} {value:?} already belongs to entity {holder}")]
    Taken {
        /// The attribute.
        attr: Keyword,
        /// The value.
        value: Value,
        /// Whose it is.
        holder: EntityId,
    },
    /// Several values for an attribute of cardinality one.
    #[error("{attr} holds one value, got several")]
    ManyForOne {
        /// The attribute.
        attr: Keyword,
    },
    /// An entity is named by a value that was erased: nothing can be said of it.
    #[error("the value that names the entity was erased")]
    Erased,
    /// Arithmetic went out of range or was no arithmetic.
    #[error("{0}")]
    Arithmetic(String),
    /// What a projection written in Rust said.
    #[error("{0}")]
    Said(String),
    /// It panicked.
    #[error("panicked: {0}")]
    Panicked(String),
    /// It is written in Rust, and this process has not registered it.
    #[error("it is written in Rust and not registered in this process")]
    Absent,
    /// Reading the event failed.
    #[error(transparent)]
    Data(#[from] super::data::DataError),
    /// Reading the database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

fn wanted_by(by: &str) -> String {
    if by.is_empty() { String::new() } else { format!(", which {by} wants") }
}

impl From<String> for ProjectError {
    fn from(why: String) -> ProjectError {
        ProjectError::Said(why)
    }
}
impl From<&str> for ProjectError {
    fn from(why: &str) -> ProjectError {
        ProjectError::Said(why.to_owned())
    }
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

/// An entity as a projection names it.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// By id.
    Id(EntityId),
    /// By a unique attribute. Through an attribute of the projection's own, the
    /// entity is made when it does not exist.
    Lookup(Keyword, Value),
    /// New, the same for equal numbers within one event.
    New(u32),
}

impl From<EntityId> for Subject {
    fn from(e: EntityId) -> Subject {
        Subject::Id(e)
    }
}
impl<V: Into<Value>> From<(&str, V)> for Subject {
    fn from((attr, v): (&str, V)) -> Subject {
        Subject::Lookup(keyword(attr), v.into())
    }
}

fn keyword(name: &str) -> Keyword {
    Keyword::new(name.strip_prefix(':').unwrap_or(name))
}

/// A value, or an entity that a reference is to point to.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A value.
    Value(Value),
    /// An entity.
    Entity(Subject),
}

impl<V: Into<Value>> From<V> for Object {
    fn from(v: V) -> Object {
        Object::Value(v.into())
    }
}
impl From<Subject> for Object {
    fn from(e: Subject) -> Object {
        Object::Entity(e)
    }
}

/// One line of what a projection says.
#[derive(Clone, Debug, PartialEq)]
pub enum FactOp {
    /// It is so.
    Assert(Subject, Keyword, Object),
    /// It is no longer so.
    Retract(Subject, Keyword, Object),
    /// No value of the attribute any longer.
    Clear(Subject, Keyword),
    /// Nothing that this projection says of the entity any longer.
    Forget(Subject),
}

impl FactOp {
    /// Is its entity one that only an erased value could name?
    fn is_erased(&self) -> bool {
        let erased = |e: &Subject| matches!(e, Subject::Lookup(_, v) if is_erased(v));
        match self {
            FactOp::Assert(e, _, v) | FactOp::Retract(e, _, v) => {
                erased(e) || matches!(v, Object::Entity(e) if erased(e))
            }
            FactOp::Clear(e, _) | FactOp::Forget(e) => erased(e),
        }
    }
}

/// Does this stand in place of a value whose subject was erased?
pub(crate) fn is_erased(v: &Value) -> bool {
    matches!(v, Value::Keyword(k) if k.as_str() == super::seal::ERASED)
}

/// What a projection written in Rust says of one event.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub(crate) ops: Vec<FactOp>,
}

impl Facts {
    /// Asserts a value; of an attribute of cardinality one it replaces the old.
    pub fn assert(&mut self, e: impl Into<Subject>, attr: &str, v: impl Into<Object>) -> &mut Facts {
        self.ops.push(FactOp::Assert(e.into(), keyword(attr), v.into()));
        self
    }
    /// Retracts a value.
    pub fn retract(&mut self, e: impl Into<Subject>, attr: &str, v: impl Into<Object>) -> &mut Facts {
        self.ops.push(FactOp::Retract(e.into(), keyword(attr), v.into()));
        self
    }
    /// Retracts every value of an attribute.
    pub fn clear(&mut self, e: impl Into<Subject>, attr: &str) -> &mut Facts {
        self.ops.push(FactOp::Clear(e.into(), keyword(attr)));
        self
    }
    /// Retracts all that this projection says of an entity.
    pub fn forget(&mut self, e: impl Into<Subject>) -> &mut Facts {
        self.ops.push(FactOp::Forget(e.into()));
        self
    }
}

/// What a projection knows of its own facts: exact, because nobody else writes them.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    values: HashMap<(EntityId, AttrId), Vec<Value>>,
    holders: HashMap<(AttrId, Value), Option<EntityId>>,
    /// Everything the projection ever wrote is here: what is not, does not exist.
    complete: bool,
}

/// Entries after which a cache is emptied between transactions.
const CACHE_ENTRIES: usize = 4_000_000;

impl Cache {
    /// The cache of a projection that has written nothing yet.
    pub fn of_new_projection() -> Cache {
        Cache { complete: true, ..Cache::default() }
    }
    /// Every fact that holds: of one that is complete, all the projection ever said and still does.
    pub fn facts(&self) -> impl Iterator<Item = (EntityId, AttrId, &Value)> {
        self.values.iter().flat_map(|((e, a), values)| values.iter().map(|v| (*e, *a, v)))
    }
    /// Takes back what a refused transaction did.
    pub fn undo(&mut self, undo: Undo) {
        for (key, old) in undo.values.into_iter().rev() {
            match old {
                Some(values) => self.values.insert(key, values),
                None => self.values.remove(&key),
            };
        }
        for (key, old) in undo.holders.into_iter().rev() {
            match old {
                Some(holder) => self.holders.insert(key, holder),
                None => self.holders.remove(&key),
            };
        }
    }
    /// Keeps memory bounded; called between transactions.
    pub fn trim(&mut self) {
        if self.values.len() + self.holders.len() > CACHE_ENTRIES {
            *self = Cache::default();
        }
    }
}

/// A key and what stood under it, if anything did.
type Before<K, V> = (K, Option<V>);

/// How to take a transaction's work back out of a cache.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    values: Vec<Before<(EntityId, AttrId), Vec<Value>>>,
    holders: Vec<Before<(AttrId, Value), Option<EntityId>>>,
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
    /// Values at the beginning of the transaction, in order of first touch.
    before: Vec<((EntityId, AttrId), Vec<Value>)>,
    touched: HashSet<(EntityId, AttrId)>,
    temps: HashMap<u32, EntityId>,
    position: Position,
    /// The transaction of the event.
    origin: T,
    /// Do several events share the transaction?
    shared: bool,
    supports: Vec<Support>,
    /// What was read or written, when somebody wants to know.
    watch: Option<Watched>,
}

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
            before: Vec::new(),
            touched: HashSet::new(),
            temps: HashMap::new(),
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
        let other = |((e, a), old): &&((EntityId, AttrId), Vec<Value>)| {
            let now = &self.cache.values[&(*e, *a)];
            now.len() != old.len() || !old.iter().all(|v| now.contains(v))
        };
        let moved = |(key, old): &&Before<_, _>| old.as_ref() != self.cache.holders.get(key);
        Watched {
            values: self.before.iter().filter(other).map(|(key, _)| *key).collect(),
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
            Subject::New(n) => Ok(match self.temps.get(n) {
                Some(e) => *e,
                None => {
                    let e = self.base.fresh();
                    self.temps.insert(*n, e);
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
        if self.cache.complete {
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
        if !self.cache.values.contains_key(&(e, a)) {
            let values = if self.cache.complete { Vec::new() } else { self.base.values(e, a, None)? };
            self.cache.values.insert((e, a), values);
        }
        Ok(&self.cache.values[&(e, a)])
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

    /// Remembers how `(e, a)` was, once for the transaction and for taking back.
    fn touch(&mut self, e: EntityId, a: AttrId) -> Result<(), ProjectError> {
        if !self.touched.contains(&(e, a)) {
            let known = self.cache.values.contains_key(&(e, a));
            let old = self.values(e, a)?.to_vec();
            self.undo.values.push(((e, a), known.then(|| old.clone())));
            self.before.push(((e, a), old));
            self.touched.insert((e, a));
        }
        Ok(())
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
        self.touch(e, a.id)?;
        if self.cache.values[&(e, a.id)].contains(&value) {
            self.supports.push(Support { e, a: a.id, v: value, position: self.position });
            return Ok(());
        }
        if a.unique.is_some() {
            if let Some(holder) = self.holder(a.id, value.clone())?.filter(|h| *h != e) {
                return Err(ProjectError::Taken { attr: attr.clone(), value, holder });
            }
            if !a.is_many() {
                for old in self.cache.values[&(e, a.id)].clone() {
                    self.set_holder(a.id, &old, None);
                }
            }
            self.set_holder(a.id, &value, Some(e));
        }
        if self.shared {
            self.supports.push(Support { e, a: a.id, v: value.clone(), position: self.position });
        }
        let values = self.cache.values.get_mut(&(e, a.id)).expect("touch loads the values");
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
            self.touch(e, a.id)?;
            if a.unique.is_some() {
                self.set_holder(a.id, &value, None);
            }
            if let Some(values) = self.cache.values.get_mut(&(e, a.id)) {
                values.retain(|v| *v != value);
            }
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

    /// The transaction's datoms, filed under `t`, and the support to be noted.
    pub fn finish(self, t: T) -> (Vec<Datom>, Vec<Support>, Undo) {
        let mut datoms = Vec::with_capacity(self.before.len() * 2);
        for ((e, a), before) in self.before {
            let after = &self.cache.values[&(e, a)];
            for v in before.iter().filter(|v| !after.contains(v)) {
                datoms.push(Datom { e, a, v: v.clone(), t, added: false });
            }
            for v in after.iter().filter(|v| !before.contains(v)) {
                datoms.push(Datom { e, a, v: v.clone(), t, added: true });
            }
        }
        (datoms, self.supports, self.undo)
    }

    /// Gives up: the cache is to be as it was.
    pub fn abandon(self) {
        self.cache.undo(self.undo);
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
