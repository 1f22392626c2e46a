//! Why a transaction was refused: one variant a mistake, each with the place.
//!
//! 1. Nothing was written when one of these is returned, except for
//!    [`TransactError::Storage`], which says what storage says.
//! 2. A place is a path into the forms, `tx[3] :person/name`; when the forms
//!    came from text the diagnostic points into the text as well.

use crate::{ErrorClass, error::storage_class, store::StorageError};
use annals_model::{Diagnostic, EntityId, Instant, Keyword, T, Value};
use std::{fmt, sync::Arc};

/// Where in a transaction: the form, and the attribute or argument within it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place(Box<PlaceInner>);

#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct PlaceInner {
    form: Option<usize>,
    steps: Vec<Keyword>,
    slot: Option<usize>,
    text: Option<Arc<str>>,
}

impl Place {
    /// The `i`-th form.
    pub fn form(i: usize) -> Place {
        Place(Box::new(PlaceInner { form: Some(i), ..Default::default() }))
    }
    /// An attribute within this place.
    pub fn attr(&self, a: &Keyword) -> Place {
        let mut p = self.clone();
        p.0.steps.push(a.clone());
        p
    }
    /// Which form, counted from zero; none when the place is the whole transaction.
    pub fn form_index(&self) -> Option<usize> {
        self.0.form
    }
    /// The attributes that lead to the place within its form.
    pub fn steps(&self) -> &[Keyword] {
        &self.0.steps
    }
    /// A slot, counted from zero, of the tuple in this place.
    pub(crate) fn slot(mut self, i: usize) -> Place {
        self.0.slot = Some(i);
        self
    }
    /// Which slot of a tuple it is, counted from zero; none when it is none.
    pub fn slot_index(&self) -> Option<usize> {
        self.0.slot
    }
    pub(crate) fn set_text(&mut self, text: &Arc<str>) {
        self.0.text = Some(text.clone());
    }
    /// The text the transaction was read from.
    pub fn text(&self) -> Option<&Arc<str>> {
        self.0.text.as_ref()
    }
}

impl Place {
    fn slot_of(&self) -> String {
        self.0.slot.map_or_else(String::new, |i| format!("slot {i} of "))
    }
}

fn named(e: EntityId, name: Option<&Keyword>) -> String {
    name.map_or_else(|| e.to_string(), Keyword::to_string)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.form {
            Some(i) => write!(f, "tx[{i}]")?,
            None => write!(f, "tx")?,
        }
        for a in &self.0.steps {
            write!(f, " {a}")?;
        }
        if let Some(i) = self.0.slot {
            write!(f, " slot {i}")?;
        }
        Ok(())
    }
}

/// Why a transaction was refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields are named for what they hold; each message says the rest")]
pub enum TransactError {
    #[error("the transaction cannot be read: {}", .0.first().map_or("", |d| d.message.as_str()))]
    Syntax(Vec<Diagnostic>),
    #[error("expected one transaction, found {found}")]
    NotOneTransaction { found: usize },
    #[error("not a transaction form: {form:?}")]
    BadForm { form: Value, why: &'static str, at: Place },
    #[error("unknown operation {op:?}")]
    UnknownOperation { op: Value, nearest: Option<Keyword>, at: Place },
    #[error("{op} takes {expected}, not {found} arguments")]
    WrongArity { op: Keyword, expected: &'static str, found: usize, at: Place },
    #[error("unknown attribute {attr}")]
    UnknownAttribute { attr: Keyword, nearest: Option<Keyword>, at: Place },
    #[error("{attr} is installed by this same transaction")]
    AttributeTooNew { attr: Keyword, at: Place },
    #[error("not an attribute: {found:?}")]
    BadAttribute { found: Value, at: Place },
    #[error("not an entity: {found:?}")]
    BadEntity { found: Value, at: Place },
    #[error("no entity has the id {id}")]
    NoSuchEntity { id: EntityId, at: Place },
    #[error("no entity is named {ident}")]
    UnknownIdent { ident: Keyword, nearest: Option<Keyword>, at: Place },
    #[error("no entity has {attr} {value:?}")]
    LookupMissing { attr: Keyword, value: Value, at: Place },
    #[error("{attr} is not unique, so [{attr} …] names no entity")]
    LookupNotUnique { attr: Keyword, at: Place },
    #[error("nothing is asserted about tempid {tempid:?}")]
    TempidOnlyValue { tempid: Arc<str>, at: Place },
    #[error("{tempid:?} is not a tempid")]
    BadTempid { tempid: Arc<str>, why: &'static str, at: Place },
    #[error("a tempid may not stand here")]
    TempidRefused { op: Keyword, at: Place },
    #[error("{}{attr} holds values of type {expected}, not {}", at.slot_of(), value.kind())]
    WrongType { attr: Keyword, expected: &'static str, value: Value, at: Place },
    #[error("nil is not a value")]
    NilValue { attr: Keyword, at: Place },
    #[error("NaN is not a value")]
    NaN { attr: Keyword, at: Place },
    #[error("the value of {attr} is {bytes} bytes long; the limit is {limit}")]
    Oversize { attr: Keyword, bytes: usize, limit: usize, at: Place },
    #[error("{attr} takes one value an entity, not a collection")]
    ManyForOne { attr: Keyword, at: Place },
    #[error("the tuple for {attr} does not fit: {why}")]
    BadTuple { attr: Keyword, value: Value, why: String, at: Place },
    #[error("the text does not read as rules: {}", why.message)]
    BadRules { why: Box<Diagnostic>, at: Place },
    #[error("{attr} is kept by the database from {parts:?}")]
    CompositeWritten { attr: Keyword, parts: Vec<Keyword>, at: Place },
    #[error("{attr} is computed by the database")]
    VirtualWritten { attr: Keyword, at: Place },
    #[error("{attr} belongs to projection {owner}")]
    OwnedAttribute { attr: Keyword, owner: Arc<str>, at: Place },
    #[error("reverse attribute {attr}: {forward} is not a reference")]
    ReverseNotRef { attr: Keyword, forward: Keyword, at: Place },
    #[error("a nested map under {attr} needs a unique attribute inside")]
    NestedNotIdentified { attr: Keyword, at: Place },
    #[error("transaction data is nested deeper than {limit}")]
    TooDeep { limit: usize, at: Place },
    #[error("two different values for {attr} of {entity}: {first:?} and {second:?}")]
    DatomsConflict { entity: EntityId, attr: Keyword, first: Value, second: Value, at: Place, other: Place },
    #[error("the transaction both asserts and retracts {attr} {value:?} of {entity}")]
    AddRetractConflict { entity: EntityId, attr: Keyword, value: Value, at: Place, other: Place },
    #[error("{attr} {value:?} belongs to {holder} already")]
    UniqueConflict { attr: Keyword, value: Value, holder: EntityId, entity: EntityId, at: Place },
    #[error("tempid {tempid:?} means two entities: {first} by {first_by}, {second} by {second_by}")]
    UpsertConflict {
        tempid: Arc<str>,
        first: EntityId,
        first_by: Keyword,
        second: EntityId,
        second_by: Keyword,
        at: Place,
    },
    #[error("compare-and-swap of {attr}: expected {expected:?}, found {found:?}")]
    CasFailed { entity: EntityId, attr: Keyword, expected: Value, found: Value, at: Place },
    #[error(":db/cas needs an attribute of cardinality one; {attr} has many")]
    CasMany { attr: Keyword, at: Place },
    #[error("{entity} lacks {}", list(missing))]
    EnsureMissing { spec: Keyword, entity: EntityId, missing: Vec<Keyword>, at: Place },
    #[error("{entity} does not pass {pred}: {why}")]
    EntityPredicate { pred: Keyword, entity: EntityId, why: String, at: Place },
    #[error("{attr} {value:?} does not pass {pred}: {why}")]
    AttributePredicate { attr: Keyword, pred: Keyword, value: Value, why: String, at: Place },
    #[error("no predicate is called {pred}")]
    UnknownPredicate { pred: Keyword, nearest: Option<Keyword>, at: Place },
    #[error("{spec:?} is not an entity spec")]
    BadSpec { spec: Value, at: Place },
    #[error("transaction function {function} refused: {why}")]
    FunctionRefused { function: Keyword, why: String, at: Place },
    #[error("host code panicked in {what}: {why}")]
    HostPanic { what: String, why: String },
    #[error("an attribute needs {}", list(missing))]
    SchemaIncomplete { entity: EntityId, missing: Vec<Keyword>, at: Place },
    #[error("{value:?} is not a {what}")]
    SchemaValue { what: &'static str, value: Value, nearest: Option<Keyword>, at: Place },
    #[error("cannot change {attr}: {why}")]
    UnsafeAlteration { attr: Keyword, why: String, todo: &'static str, at: Place },
    #[error("{} is part of the database and stays as it is", named(*entity, name.as_ref()))]
    Reserved { entity: EntityId, name: Option<Keyword>, at: Place },
    #[error("transaction instant {given} is before the last one, {last}")]
    InstantBackwards { given: Instant, last: Instant, at: Place },
    #[error("transaction instant {given} lies in the future of the clock, {now}")]
    InstantFuture { given: Instant, now: Instant, at: Place },
    #[error("only the transaction itself may be given a :db/txInstant")]
    InstantElsewhere { entity: EntityId, at: Place },
    #[error("the transaction has {datoms} facts; the limit is {limit}")]
    TooLarge { datoms: usize, limit: usize },
    #[error("a transaction needs the present: this database is a view of the past")]
    NotPresent { basis: T },
    #[error("the database is open for reading only")]
    ReadOnly,
    #[error("the database has been closed")]
    Closed,
    #[error("host code inside a transaction tried to transact")]
    Reentrant,
    #[error(transparent)]
    Storage(#[from] Arc<StorageError>),
}

fn list(names: &[Keyword]) -> String {
    names.iter().map(Keyword::to_string).collect::<Vec<_>>().join(", ")
}

impl From<StorageError> for TransactError {
    fn from(e: StorageError) -> TransactError {
        TransactError::Storage(Arc::new(e))
    }
}

impl TransactError {
    fn parts(&self) -> (&'static str, ErrorClass, Option<&Place>) {
        use ErrorClass::{Conflict, Environment, Meaning, Syntax};
        use TransactError as E;
        match self {
            E::Syntax(_) => ("tx/syntax", Syntax, None),
            E::NotOneTransaction { .. } => ("tx/not-one-transaction", Syntax, None),
            E::BadForm { at, .. } => ("tx/bad-form", Syntax, Some(at)),
            E::UnknownOperation { at, .. } => ("tx/unknown-operation", Meaning, Some(at)),
            E::WrongArity { at, .. } => ("tx/wrong-arity", Syntax, Some(at)),
            E::UnknownAttribute { at, .. } => ("tx/unknown-attribute", Meaning, Some(at)),
            E::AttributeTooNew { at, .. } => ("tx/attribute-too-new", Meaning, Some(at)),
            E::BadAttribute { at, .. } => ("tx/bad-attribute", Syntax, Some(at)),
            E::BadEntity { at, .. } => ("tx/bad-entity", Syntax, Some(at)),
            E::NoSuchEntity { at, .. } => ("tx/no-such-entity", Meaning, Some(at)),
            E::UnknownIdent { at, .. } => ("tx/unknown-ident", Meaning, Some(at)),
            E::LookupMissing { at, .. } => ("tx/lookup-missing", Meaning, Some(at)),
            E::LookupNotUnique { at, .. } => ("tx/lookup-not-unique", Meaning, Some(at)),
            E::TempidOnlyValue { at, .. } => ("tx/tempid-only-value", Meaning, Some(at)),
            E::BadTempid { at, .. } => ("tx/bad-tempid", Meaning, Some(at)),
            E::TempidRefused { at, .. } => ("tx/tempid-refused", Meaning, Some(at)),
            E::WrongType { at, .. } => ("tx/wrong-type", Meaning, Some(at)),
            E::NilValue { at, .. } => ("tx/nil-value", Meaning, Some(at)),
            E::NaN { at, .. } => ("tx/nan", Meaning, Some(at)),
            E::Oversize { at, .. } => ("tx/oversize", Meaning, Some(at)),
            E::ManyForOne { at, .. } => ("tx/many-for-one", Meaning, Some(at)),
            E::BadTuple { at, .. } => ("tx/bad-tuple", Meaning, Some(at)),
            E::BadRules { at, .. } => ("tx/bad-rules", Meaning, Some(at)),
            E::CompositeWritten { at, .. } => ("tx/composite-written", Meaning, Some(at)),
            E::VirtualWritten { at, .. } => ("tx/virtual-written", Meaning, Some(at)),
            E::OwnedAttribute { at, .. } => ("tx/owned-attribute", Meaning, Some(at)),
            E::ReverseNotRef { at, .. } => ("tx/reverse-not-ref", Meaning, Some(at)),
            E::NestedNotIdentified { at, .. } => ("tx/nested-not-identified", Meaning, Some(at)),
            E::TooDeep { at, .. } => ("tx/too-deep", Syntax, Some(at)),
            E::DatomsConflict { at, .. } => ("tx/datoms-conflict", Conflict, Some(at)),
            E::AddRetractConflict { at, .. } => ("tx/add-retract-conflict", Conflict, Some(at)),
            E::UniqueConflict { at, .. } => ("tx/unique-conflict", Conflict, Some(at)),
            E::UpsertConflict { at, .. } => ("tx/upsert-conflict", Conflict, Some(at)),
            E::CasFailed { at, .. } => ("tx/cas-failed", Conflict, Some(at)),
            E::CasMany { at, .. } => ("tx/cas-many", Meaning, Some(at)),
            E::EnsureMissing { at, .. } => ("tx/ensure-missing", Meaning, Some(at)),
            E::EntityPredicate { at, .. } => ("tx/entity-predicate", Meaning, Some(at)),
            E::AttributePredicate { at, .. } => ("tx/attribute-predicate", Meaning, Some(at)),
            E::UnknownPredicate { at, .. } => ("tx/unknown-predicate", Meaning, Some(at)),
            E::BadSpec { at, .. } => ("tx/bad-spec", Meaning, Some(at)),
            E::FunctionRefused { at, .. } => ("tx/function-refused", Meaning, Some(at)),
            E::HostPanic { .. } => ("tx/host-panic", Environment, None),
            E::SchemaIncomplete { at, .. } => ("tx/schema-incomplete", Meaning, Some(at)),
            E::SchemaValue { at, .. } => ("tx/schema-value", Meaning, Some(at)),
            E::UnsafeAlteration { at, .. } => ("tx/unsafe-alteration", Meaning, Some(at)),
            E::Reserved { at, .. } => ("tx/reserved", Meaning, Some(at)),
            E::InstantBackwards { at, .. } => ("tx/instant-backwards", Meaning, Some(at)),
            E::InstantFuture { at, .. } => ("tx/instant-future", Meaning, Some(at)),
            E::InstantElsewhere { at, .. } => ("tx/instant-elsewhere", Meaning, Some(at)),
            E::TooLarge { .. } => ("tx/too-large", ErrorClass::Budget, None),
            E::NotPresent { .. } => ("tx/not-present", Meaning, None),
            E::ReadOnly => ("tx/read-only", Environment, None),
            E::Closed => ("tx/closed", Environment, None),
            E::Reentrant => ("tx/reentrant", Meaning, None),
            E::Storage(e) => (e.code(), storage_class(e), None),
        }
    }
    /// Stable code, listed in docs/errors.md.
    pub fn code(&self) -> &'static str {
        self.parts().0
    }
    /// Whose fault.
    pub fn class(&self) -> ErrorClass {
        self.parts().1
    }
    /// Where, when one place is to blame.
    pub fn place(&self) -> Option<&Place> {
        self.parts().2
    }
    pub(crate) fn with_text(mut self, text: Option<&Arc<str>>) -> TransactError {
        if let (Some(text), Some(at)) = (text, self.parts().2.cloned()) {
            let mut at = at;
            at.set_text(text);
            self.replace_place(at);
        }
        self
    }
    fn replace_place(&mut self, place: Place) {
        use TransactError as E;
        match self {
            E::BadForm { at, .. }
            | E::UnknownOperation { at, .. }
            | E::WrongArity { at, .. }
            | E::UnknownAttribute { at, .. }
            | E::AttributeTooNew { at, .. }
            | E::BadAttribute { at, .. }
            | E::BadEntity { at, .. }
            | E::NoSuchEntity { at, .. }
            | E::UnknownIdent { at, .. }
            | E::LookupMissing { at, .. }
            | E::LookupNotUnique { at, .. }
            | E::TempidOnlyValue { at, .. }
            | E::BadTempid { at, .. }
            | E::TempidRefused { at, .. }
            | E::WrongType { at, .. }
            | E::NilValue { at, .. }
            | E::NaN { at, .. }
            | E::Oversize { at, .. }
            | E::ManyForOne { at, .. }
            | E::BadTuple { at, .. }
            | E::BadRules { at, .. }
            | E::CompositeWritten { at, .. }
            | E::VirtualWritten { at, .. }
            | E::OwnedAttribute { at, .. }
            | E::ReverseNotRef { at, .. }
            | E::NestedNotIdentified { at, .. }
            | E::TooDeep { at, .. }
            | E::DatomsConflict { at, .. }
            | E::AddRetractConflict { at, .. }
            | E::UniqueConflict { at, .. }
            | E::UpsertConflict { at, .. }
            | E::CasFailed { at, .. }
            | E::CasMany { at, .. }
            | E::EnsureMissing { at, .. }
            | E::EntityPredicate { at, .. }
            | E::AttributePredicate { at, .. }
            | E::UnknownPredicate { at, .. }
            | E::BadSpec { at, .. }
            | E::FunctionRefused { at, .. }
            | E::SchemaIncomplete { at, .. }
            | E::SchemaValue { at, .. }
            | E::UnsafeAlteration { at, .. }
            | E::Reserved { at, .. }
            | E::InstantBackwards { at, .. }
            | E::InstantFuture { at, .. }
            | E::InstantElsewhere { at, .. } => *at = place,
            _ => {}
        }
    }
    fn help(&self) -> Option<String> {
        use TransactError as E;
        let did_you_mean = |n: &Option<Keyword>| n.as_ref().map(|n| format!("did you mean {n}?"));
        Some(match self {
            E::NotOneTransaction { found: 0 } => "write one vector of forms: [{:a/b 1}]".into(),
            E::NotOneTransaction { .. } => "each top-level vector is a transaction: send them one by one".into(),
            E::BadForm { why, .. } => (*why).into(),
            E::UnknownOperation { nearest: Some(n), .. }
            | E::UnknownAttribute { nearest: Some(n), .. }
            | E::UnknownIdent { nearest: Some(n), .. }
            | E::UnknownPredicate { nearest: Some(n), .. }
            | E::SchemaValue { nearest: Some(n), .. } => return did_you_mean(&Some(n.clone())),
            E::UnknownAttribute { attr, .. } => format!(
                "install it first, in a transaction of its own: {{:db/ident {attr} :db/valueType :db.type/string :db/cardinality :db.cardinality/one}}"
            ),
            E::AttributeTooNew { .. } => "install attributes in one transaction and use them in the next".into(),
            E::UnknownOperation { .. } => {
                "operations are :db/add :db/retract :db/retractEntity :db/cas and registered functions".into()
            }
            E::UnknownPredicate { .. } => "use a built-in one, or register it with Options".into(),
            E::LookupMissing { .. } => {
                "lookup refs are resolved against the database before the transaction; use a tempid for a new entity"
                    .into()
            }
            E::LookupNotUnique { attr, .. } => format!("add {{:db/id {attr} :db/unique :db.unique/identity}} first"),
            E::TempidOnlyValue { tempid, .. } => format!("assert something about {tempid:?}, or name an existing entity"),
            E::BadTempid { why, .. } => (*why).into(),
            E::TempidRefused { .. } => "name an existing entity: by id, ident or lookup ref".into(),
            E::NilValue { .. } => "retract the value instead of asserting nil".into(),
            E::ManyForOne { attr, .. } => {
                format!("give one value, or make {attr} of cardinality many; a lookup ref is [attribute value]")
            }
            E::BadRules { .. } => "write [[(name ?x) clause …] …]; inside the string, quotes are written \\\"".into(),
            E::CompositeWritten { parts, .. } => format!("assert its parts instead: {}", list(parts)),
            E::NestedNotIdentified { attr, .. } => {
                format!("make {attr} a component (:db/isComponent true), or give the nested map a unique attribute")
            }
            E::DatomsConflict { other, .. } | E::AddRetractConflict { other, .. } => {
                format!("a transaction is a set without order; the other form is {other}")
            }
            E::UniqueConflict { holder, attr, .. } => {
                format!("retract {attr} of {holder} in the same transaction, or change {holder} instead")
            }
            E::UpsertConflict { .. } => "split the map, or correct the value that names the wrong entity".into(),
            E::CasFailed { .. } => "read the value again and retry".into(),
            E::CasMany { .. } => "use :db/add and :db/retract".into(),
            E::SchemaIncomplete { .. } => {
                "an attribute is installed with :db/ident, :db/valueType and :db/cardinality together".into()
            }
            E::UnsafeAlteration { todo, .. } => (*todo).into(),
            E::Reserved { .. } => "say it of an entity of your own: a tempid makes one".into(),
            E::InstantBackwards { .. } => {
                "transactions are in order of time: import old data into a new database, oldest first".into()
            }
            E::InstantFuture { .. } => "leave :db/txInstant out, or keep future dates in an attribute of your own".into(),
            E::InstantElsewhere { .. } => "write {:db/id \"datomic.tx\" :db/txInstant …}".into(),
            E::TooLarge { .. } => "split it into several transactions".into(),
            E::Reentrant => "return the forms from the function; they become part of the transaction".into(),
            E::NotPresent { .. } => "transact through the connection, or take a speculative `with` of the present".into(),
            _ => return None,
        })
    }
    /// The attribute that should not be named there at all, whatever its value.
    fn blamed_name(&self) -> Option<&Keyword> {
        use TransactError as E;
        match self {
            E::UnknownAttribute { attr, .. }
            | E::AttributeTooNew { attr, .. }
            | E::CompositeWritten { attr, .. }
            | E::VirtualWritten { attr, .. }
            | E::OwnedAttribute { attr, .. }
            | E::ReverseNotRef { attr, .. } => Some(attr),
            _ => None,
        }
    }
    /// What to show: all complaints, the first one first.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        if let TransactError::Syntax(all) = self {
            return all.clone();
        }
        let mut d = Diagnostic::new(self.code(), self.to_string());
        if let Some(at) = self.place() {
            d = d.path(at.to_string());
            let span = at.text().and_then(|text| {
                let name = self.blamed_name().and_then(|attr| super::locate::name(text, at, attr));
                name.or_else(|| super::locate::span(text, at))
            });
            if let Some(span) = span {
                d = d.at(span, "here");
            }
        }
        if let Some(help) = self.help() {
            d = d.help(help);
        }
        vec![d]
    }
    /// The first of [`TransactError::diagnostics`].
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostics()
            .into_iter()
            .next()
            .unwrap_or_else(|| Diagnostic::new(self.code(), self.to_string()))
    }
}
