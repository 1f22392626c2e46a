//! What the stages of a transaction pass on: forms become [`Op`]s, ops become
//! [`Change`]s, changes become datoms.

use super::error::{Place, TransactError};
use annals_model::{Attribute, EntityId, Value};
use std::sync::Arc;

/// A tempid of this transaction, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Temp(pub u32);

/// An entity that may not have its id yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Ent {
    Id(EntityId),
    Temp(Temp),
}

/// A value that may hold tempids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Val {
    Known(Value),
    Temp(Temp),
    /// A tuple with tempids among its slots.
    Tuple(Vec<Val>),
}

/// An assertion or retraction, its attribute resolved, its tempids not.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub added: bool,
    pub e: Ent,
    pub a: Arc<Attribute>,
    pub v: Val,
    /// The form it came from.
    pub form: u32,
}

impl Op {
    pub fn place(&self) -> Place {
        Place::form(self.form as usize).attr(&self.a.ident)
    }
}

/// An assertion or retraction with nothing left to resolve.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub e: EntityId,
    pub a: Arc<Attribute>,
    pub v: Value,
    pub added: bool,
    pub form: u32,
    /// The entity is new in this transaction: nothing holds of it yet.
    pub fresh: bool,
}

impl Change {
    pub fn place(&self) -> Place {
        Place::form(self.form as usize).attr(&self.a.ident)
    }
}

/// `:db/ensure`: an entity to be checked against a spec.
#[derive(Clone, Debug)]
pub(crate) struct Ensure {
    pub e: Ent,
    pub spec: EntityId,
    pub form: u32,
}

/// What a tempid was written as, and how it was used.
#[derive(Clone, Debug)]
pub(crate) struct TempInfo {
    /// None for maps without a `:db/id`.
    pub name: Option<Arc<str>>,
    /// Something is asserted about it.
    pub is_entity: bool,
}

impl TempInfo {
    pub fn shown(&self) -> Arc<str> {
        self.name.clone().unwrap_or_else(|| Arc::from("(map without :db/id)"))
    }
}

/// All forms of a transaction, expanded.
#[derive(Default)]
pub(crate) struct Expanded {
    pub ops: Vec<Op>,
    pub ensures: Vec<Ensure>,
    pub temps: Vec<TempInfo>,
}

pub(crate) type Res<X> = Result<X, TransactError>;
