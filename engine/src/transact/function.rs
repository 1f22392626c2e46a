//! Host code that transactions may name: transaction functions and predicates,
//! and the fixed library of predicates that need no registration.
//!
//! 1. Host code may fail and may panic; neither harms the database or the
//!    transactions of others.
//! 2. A name that is registered hides the built-in of that name.

use super::{
    error::{Place, TransactError},
    op::Res,
};
use crate::{Db, options::HostError};
use annals_model::{EntityId, Keyword, Value, diagnostic::nearest, tx::TxData};
use num_traits::{Signed, Zero};
use std::{collections::BTreeMap, panic, sync::Arc};

/// A transaction function.
pub type TxFunction = dyn Fn(&Db, &[Value]) -> Result<TxData, HostError> + Send + Sync;
/// A predicate on values.
pub type AttrPredicate = dyn Fn(&Value) -> Result<(), HostError> + Send + Sync;
/// A predicate on entities of the database after the transaction.
pub type EntityPredicate = dyn Fn(&Db, EntityId) -> Result<(), HostError> + Send + Sync;

/// Registered host code, by name.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    pub functions: BTreeMap<Keyword, Arc<TxFunction>>,
    pub attr_predicates: BTreeMap<Keyword, Arc<AttrPredicate>>,
    pub entity_predicates: BTreeMap<Keyword, Arc<EntityPredicate>>,
}

/// Runs host code; a panic becomes an error.
pub(crate) fn guarded<R>(what: impl Fn() -> String, f: impl FnOnce() -> R) -> Res<R> {
    panic::catch_unwind(panic::AssertUnwindSafe(f)).map_err(|p| {
        let why = p.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let why = why.or_else(|| p.downcast_ref::<String>().cloned()).unwrap_or_default();
        TransactError::HostPanic { what: what(), why }
    })
}

type Builtin = (&'static str, fn(&Value) -> bool, &'static str);

/// Predicates every database knows, usable in `:db.attr/preds`.
pub const BUILTIN_PREDICATES: &[Builtin] = &[
    ("pred/positive", |v| sign(v).is_some_and(|s| s > 0), "it must be greater than 0"),
    ("pred/negative", |v| sign(v).is_some_and(|s| s < 0), "it must be less than 0"),
    ("pred/not-negative", |v| sign(v).is_some_and(|s| s >= 0), "it must not be less than 0"),
    ("pred/not-zero", |v| sign(v).is_some_and(|s| s != 0), "it must not be 0"),
    ("pred/finite", |v| !matches!(v, Value::Double(d) if !d.is_finite()), "it must be finite"),
    ("pred/not-empty", |v| text(v).is_some_and(|s| !s.is_empty()), "it must not be empty"),
    ("pred/not-blank", |v| text(v).is_some_and(|s| !s.trim().is_empty()), "it must not be blank"),
    ("pred/trimmed", |v| text(v).is_some_and(|s| s.trim() == s), "it must not begin or end with white space"),
    ("pred/lower-case", |v| text(v).is_some_and(|s| s.to_lowercase() == s), "it must be in lower case"),
    ("pred/upper-case", |v| text(v).is_some_and(|s| s.to_uppercase() == s), "it must be in upper case"),
    ("pred/one-line", |v| text(v).is_some_and(|s| !s.contains(['\n', '\r'])), "it must be one line"),
    ("pred/email", |v| text(v).is_some_and(email), "it must look like an e-mail address"),
];

fn sign(v: &Value) -> Option<i8> {
    let of = |zero: bool, negative: bool| if zero { 0 } else { 1 - 2 * i8::from(negative) };
    Some(match v {
        Value::Long(n) => of(*n == 0, *n < 0),
        Value::Double(d) => of(*d == 0.0, *d < 0.0),
        Value::BigInt(n) => of(n.is_zero(), n.is_negative()),
        Value::BigDec(n) => of(n.is_zero(), n.is_negative()),
        _ => return None,
    })
}

fn text(v: &Value) -> Option<&str> {
    match v {
        Value::String(s) | Value::Uri(s) => Some(s),
        Value::Keyword(k) => Some(k.as_str()),
        Value::Symbol(s) => Some(s.as_str()),
        _ => None,
    }
}

fn email(s: &str) -> bool {
    match s.split_once('@') {
        Some((user, host)) => {
            !user.is_empty()
                && host.contains('.')
                && !host.starts_with('.')
                && !host.ends_with('.')
                && !s.chars().any(char::is_whitespace)
                && !host.contains('@')
        }
        None => false,
    }
}

/// A predicate found by name.
pub(crate) enum FoundPredicate<'a> {
    Host(&'a AttrPredicate),
    Builtin(fn(&Value) -> bool, &'static str),
}

impl FoundPredicate<'_> {
    /// Why a value does not pass, if it does not.
    pub fn refuses(&self, name: &Keyword, v: &Value) -> Res<Option<String>> {
        Ok(match self {
            FoundPredicate::Builtin(f, why) => (!f(v)).then(|| (*why).to_owned()),
            FoundPredicate::Host(f) => guarded(|| format!("predicate {name}"), || f(v))?.err(),
        })
    }
}

impl Registry {
    /// The attribute predicate of this name.
    pub fn attr_predicate(&self, name: &Keyword, at: impl Fn() -> Place) -> Res<FoundPredicate<'_>> {
        if let Some(f) = self.attr_predicates.get(name) {
            return Ok(FoundPredicate::Host(&**f));
        }
        if let Some((_, f, why)) = BUILTIN_PREDICATES.iter().find(|(n, _, _)| *n == name.as_str()) {
            return Ok(FoundPredicate::Builtin(*f, why));
        }
        let names = self.attr_predicates.keys().map(Keyword::as_str);
        let names = names.chain(BUILTIN_PREDICATES.iter().map(|(n, _, _)| *n));
        Err(TransactError::UnknownPredicate {
            pred: name.clone(),
            nearest: nearest(name.as_str(), names).map(Keyword::new),
            at: at(),
        })
    }

    /// The entity predicate of this name.
    pub fn entity_predicate(&self, name: &Keyword, at: impl Fn() -> Place) -> Res<&Arc<EntityPredicate>> {
        self.entity_predicates.get(name).ok_or_else(|| TransactError::UnknownPredicate {
            pred: name.clone(),
            nearest: nearest(name.as_str(), self.entity_predicates.keys().map(Keyword::as_str))
                .map(Keyword::new),
            at: at(),
        })
    }
}
