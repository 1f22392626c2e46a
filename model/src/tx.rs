//! Transaction data as data: a list of EDN forms, read from text or built in Rust.
//!
//! What a form means depends on the schema (a string under a reference
//! attribute is a tempid, elsewhere a string), so forms stay plain values
//! until the engine expands them.

use crate::{EntityId, Keyword, Value};
use std::sync::Arc;

/// The forms of one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TxData {
    /// `[:db/add …]`, `{…}` and their kin, in the order written (which has no meaning).
    pub forms: Vec<Value>,
    /// The text they were read from, so that errors can point into it.
    pub text: Option<Arc<str>>,
}

/// Starts an empty transaction.
pub fn tx() -> TxData {
    TxData::default()
}

fn attr(name: &str) -> Value {
    Value::Keyword(Keyword::new(name.strip_prefix(':').unwrap_or(name)))
}

impl TxData {
    /// Asserts a fact. `e` is an entity id, a tempid string, an ident or a lookup ref.
    pub fn add(self, e: impl Into<Value>, a: &str, v: impl Into<Value>) -> TxData {
        self.form(Value::vector([Value::keyword("db/add"), e.into(), attr(a), v.into()]))
    }
    /// Retracts a fact.
    pub fn retract(self, e: impl Into<Value>, a: &str, v: impl Into<Value>) -> TxData {
        self.form(Value::vector([Value::keyword("db/retract"), e.into(), attr(a), v.into()]))
    }
    /// Retracts everything an entity says, what points to it, and its components.
    pub fn retract_entity(self, e: impl Into<Value>) -> TxData {
        self.form(Value::vector([Value::keyword("db/retractEntity"), e.into()]))
    }
    /// Replaces `old` by `new` if the database before the transaction holds `old` (nil: no value).
    pub fn cas(self, e: EntityId, a: &str, old: impl Into<Value>, new: impl Into<Value>) -> TxData {
        self.form(Value::vector([Value::keyword("db/cas"), e.into(), attr(a), old.into(), new.into()]))
    }
    /// Asserts several facts of one entity: the map form.
    pub fn entity<'a>(self, entries: impl IntoIterator<Item = (&'a str, Value)>) -> TxData {
        self.form(Value::map(entries.into_iter().map(|(a, v)| (attr(a), v))))
    }
    /// Adds any form.
    pub fn form(mut self, form: Value) -> TxData {
        self.forms.push(form);
        self
    }
}
