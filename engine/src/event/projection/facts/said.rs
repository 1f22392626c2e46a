//! What a projection written in Rust says of one event, line by line.

use annals_model::{EntityId, Keyword, Value};

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
    pub(crate) fn is_erased(&self) -> bool {
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
    matches!(v, Value::Keyword(k) if k.as_str() == crate::event::seal::ERASED)
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
