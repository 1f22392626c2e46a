//! Schema: what the attributes mean. A value built from datoms by the engine;
//! queries and storage only read it.

use crate::{AttrId, EntityId, Keyword, ValueType};
use std::{collections::BTreeMap, sync::Arc};

/// How many values of an attribute one entity may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after :db.cardinality")]
pub enum Cardinality {
    One,
    Many,
}

/// Whether a value identifies its entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unique {
    /// A second entity with the value is refused.
    Value,
    /// A tempid with the value becomes the entity that has it (upsert).
    Identity,
}

/// The kind of a tuple attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TupleKind {
    /// Kept by the engine from other attributes of the same entity (`:db/tupleAttrs`).
    Composite(Vec<AttrId>),
    /// Fixed slots, each of its own type (`:db/tupleTypes`).
    Heterogeneous(Vec<ValueType>),
    /// Two to eight slots of one type (`:db/tupleType`).
    Homogeneous(ValueType),
}

/// An installed attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its id; also an entity.
    pub id: AttrId,
    /// Its present name.
    pub ident: Keyword,
    /// Type of its values.
    pub value_type: ValueType,
    /// One or many values an entity.
    pub cardinality: Cardinality,
    /// Uniqueness, if any.
    pub unique: Option<Unique>,
    /// `:db/index true` (unique attributes count as indexed).
    pub index: bool,
    /// Values are parts: they go with their whole.
    pub is_component: bool,
    /// Old values may be forgotten.
    pub no_history: bool,
    /// For tuples: which kind.
    pub tuple: Option<TupleKind>,
    /// Names of predicates that each value must pass (`:db.attr/preds`).
    pub preds: Vec<Keyword>,
    /// Documentation.
    pub doc: Option<Arc<str>>,
}

impl Attribute {
    /// Are values references to entities?
    pub fn is_ref(&self) -> bool {
        self.value_type == ValueType::Ref
    }
    /// May an entity hold several values?
    pub fn is_many(&self) -> bool {
        self.cardinality == Cardinality::Many
    }
}

/// All attributes and idents of a database at one basis. Cheap to share.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    attributes: BTreeMap<AttrId, Arc<Attribute>>,
    idents: BTreeMap<Keyword, EntityId>,
    names: BTreeMap<EntityId, Keyword>,
    /// Counts changes of schema: equal versions of one database mean equal schemas.
    pub version: u64,
}

impl Schema {
    /// A schema of these attributes; each one's ident is entered too.
    pub fn new(attributes: impl IntoIterator<Item = Attribute>) -> Schema {
        let mut s = Schema::default();
        for a in attributes {
            s.insert(a);
        }
        s
    }
    /// Adds or replaces an attribute.
    pub fn insert(&mut self, a: Attribute) {
        self.name(a.ident.clone(), a.id.entity());
        self.attributes.insert(a.id, Arc::new(a));
    }
    /// Forgets an attribute; its idents stay.
    pub fn remove(&mut self, id: AttrId) {
        self.attributes.remove(&id);
    }
    /// Enters a name. The last name entered for an entity is its present one;
    /// earlier names go on resolving (aliases after a rename).
    pub fn name(&mut self, ident: Keyword, e: EntityId) {
        self.names.insert(e, ident.clone());
        self.idents.insert(ident, e);
    }
    /// Forgets a name, unless it now means another entity.
    pub fn unname(&mut self, ident: &Keyword, e: EntityId) {
        if self.idents.get(ident) == Some(&e) {
            self.idents.remove(ident);
        }
        if self.names.get(&e) == Some(ident) {
            self.names.remove(&e);
        }
    }
    /// The attribute with this id.
    pub fn attribute(&self, id: AttrId) -> Option<&Arc<Attribute>> {
        self.attributes.get(&id)
    }
    /// The attribute with this name, present or former.
    pub fn attribute_named(&self, ident: &Keyword) -> Option<&Arc<Attribute>> {
        self.idents.get(ident).and_then(|e| AttrId::of_entity(*e)).and_then(|a| self.attribute(a))
    }
    /// The attribute that an entity is, if it is one.
    pub fn attribute_of(&self, e: EntityId) -> Option<&Arc<Attribute>> {
        AttrId::of_entity(e).and_then(|a| self.attribute(a))
    }
    /// The entity with this ident.
    pub fn entid(&self, ident: &Keyword) -> Option<EntityId> {
        self.idents.get(ident).copied()
    }
    /// The present ident of an entity.
    pub fn ident(&self, e: EntityId) -> Option<&Keyword> {
        self.names.get(&e)
    }
    /// Every attribute, in order of id.
    pub fn attributes(&self) -> impl Iterator<Item = &Arc<Attribute>> {
        self.attributes.values()
    }
    /// Every ident with its entity, in order of name.
    pub fn idents(&self) -> impl Iterator<Item = (&Keyword, EntityId)> {
        self.idents.iter().map(|(k, e)| (k, *e))
    }
    /// The attribute whose name is nearest to a misspelt one.
    pub fn nearest(&self, wanted: &Keyword) -> Option<Keyword> {
        let names = self.attributes.values().map(|a| a.ident.as_str());
        crate::diagnostic::nearest(wanted.as_str(), names).map(Keyword::new)
    }
}
