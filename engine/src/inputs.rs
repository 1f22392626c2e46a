//! What callers may pass: transactions, points in time, entities and query
//! inputs in the shapes that are natural in Rust.

use crate::{Db, DbError, TransactError};
use annals_model::{EntityId, Instant, Keyword, T, Value, id::COUNTER_BITS, tx::TxData};
use std::sync::Arc;

/// Anything that is one transaction: text, [`TxData`], or EDN forms.
pub trait IntoTx {
    /// The transaction.
    fn into_tx(self) -> Result<TxData, TransactError>;
}

impl IntoTx for TxData {
    fn into_tx(self) -> Result<TxData, TransactError> {
        Ok(self)
    }
}
impl IntoTx for &TxData {
    fn into_tx(self) -> Result<TxData, TransactError> {
        Ok(self.clone())
    }
}
impl IntoTx for Vec<Value> {
    fn into_tx(self) -> Result<TxData, TransactError> {
        Ok(TxData { forms: self, text: None })
    }
}
impl IntoTx for &str {
    fn into_tx(self) -> Result<TxData, TransactError> {
        crate::transact::read_one(self)
    }
}
impl IntoTx for String {
    fn into_tx(self) -> Result<TxData, TransactError> {
        self.as_str().into_tx()
    }
}
impl IntoTx for &String {
    fn into_tx(self) -> Result<TxData, TransactError> {
        self.as_str().into_tx()
    }
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimePoint {
    /// Right after this transaction.
    T(T),
    /// After the last transaction whose instant is not later.
    Instant(Instant),
}

impl TimePoint {
    /// A number as users write it: a `t`, or the entity id of a transaction.
    pub fn from_number(n: u64) -> TimePoint {
        match EntityId::from_raw(n).as_t() {
            Some(t) if n >> COUNTER_BITS != 0 => TimePoint::T(t),
            _ => TimePoint::T(T(n)),
        }
    }

    /// Reads `17`, `17592186044433` (a transaction's entity id), `#inst "2026-01-01"`,
    /// `2026-01-01` or `2026-01-01T10:00:00Z`.
    pub fn parse(text: &str) -> Option<TimePoint> {
        let text = text.trim();
        let text = match text.strip_prefix("#inst") {
            Some(rest) => rest.trim(),
            None if !text.is_empty() && text.len() != 4 && text.bytes().all(|b| b.is_ascii_digit()) => {
                return text.parse().ok().map(TimePoint::from_number);
            }
            None => text,
        };
        let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        // Four digits are a t, not a year, unless marked as an instant.
        if bare.len() == text.len() && bare.bytes().all(|b| b.is_ascii_digit()) {
            return bare.parse().ok().map(TimePoint::from_number);
        }
        Instant::parse(bare).map(TimePoint::Instant)
    }
}

/// A time that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a point in time: {text}; write a t, a transaction id, or a date-time such as 2026-01-31T10:00:00Z"
)]
pub struct BadTimePoint {
    /// What was given.
    pub text: String,
}

/// Anything that names a point in time.
pub trait IntoTimePoint {
    /// What a view at such a point is: a [`Db`] when nothing can be wrong with the
    /// point, otherwise a result.
    type Db;
    /// The point.
    fn into_time_point(self) -> Result<TimePoint, BadTimePoint>;
    /// Turns the attempt into what a caller gets.
    fn settle(view: Result<Db, DbError>) -> Self::Db;
}
impl IntoTimePoint for TimePoint {
    type Db = Result<Db, DbError>;
    fn settle(view: Result<Db, DbError>) -> Self::Db {
        view
    }
    fn into_time_point(self) -> Result<TimePoint, BadTimePoint> {
        Ok(self)
    }
}
impl IntoTimePoint for T {
    type Db = Db;
    fn settle(view: Result<Db, DbError>) -> Db {
        view.expect("every t is a point in time, and schemas are in memory")
    }
    fn into_time_point(self) -> Result<TimePoint, BadTimePoint> {
        Ok(TimePoint::T(self))
    }
}
impl IntoTimePoint for Instant {
    type Db = Result<Db, DbError>;
    fn settle(view: Result<Db, DbError>) -> Self::Db {
        view
    }
    fn into_time_point(self) -> Result<TimePoint, BadTimePoint> {
        Ok(TimePoint::Instant(self))
    }
}
impl IntoTimePoint for u64 {
    type Db = Result<Db, DbError>;
    fn settle(view: Result<Db, DbError>) -> Self::Db {
        view
    }
    fn into_time_point(self) -> Result<TimePoint, BadTimePoint> {
        Ok(TimePoint::from_number(self))
    }
}
impl IntoTimePoint for EntityId {
    type Db = Result<Db, DbError>;
    fn settle(view: Result<Db, DbError>) -> Self::Db {
        view
    }
    fn into_time_point(self) -> Result<TimePoint, BadTimePoint> {
        self.as_t().map(TimePoint::T).ok_or_else(|| BadTimePoint { text: self.to_string() })
    }
}
impl IntoTimePoint for &str {
    type Db = Result<Db, DbError>;
    fn settle(view: Result<Db, DbError>) -> Self::Db {
        view
    }
    fn into_time_point(self) -> Result<TimePoint, BadTimePoint> {
        TimePoint::parse(self).ok_or_else(|| BadTimePoint { text: self.to_owned() })
    }
}
impl IntoTimePoint for &Value {
    type Db = Result<Db, DbError>;
    fn settle(view: Result<Db, DbError>) -> Self::Db {
        view
    }
    fn into_time_point(self) -> Result<TimePoint, BadTimePoint> {
        match self {
            Value::Long(n) => u64::try_from(*n)
                .map(TimePoint::from_number)
                .map_err(|_| BadTimePoint { text: n.to_string() }),
            Value::Ref(e) => e.into_time_point(),
            Value::Instant(i) => Ok(TimePoint::Instant(*i)),
            Value::String(s) => (&**s).into_time_point(),
            other => Err(BadTimePoint { text: format!("{other:?}") }),
        }
    }
}

/// How an entity may be named.
#[derive(Clone, Debug, PartialEq)]
pub enum Eid {
    /// By id.
    Id(EntityId),
    /// By its `:db/ident`.
    Ident(Keyword),
    /// By a unique attribute and its value.
    Lookup(Keyword, Value),
}

impl Eid {
    /// An entity as EDN names it: `17`, `:color/red`, `[:order/id "A-1"]`.
    pub fn from_value(v: &Value) -> Option<Eid> {
        match v {
            Value::Ref(e) => Some(Eid::Id(*e)),
            Value::Long(n) => u64::try_from(*n).ok().map(|n| Eid::Id(EntityId::from_raw(n))),
            Value::Keyword(k) => Some(Eid::Ident(k.clone())),
            Value::Vector(items) | Value::List(items) => match &items[..] {
                [Value::Keyword(a), v] => Some(Eid::Lookup(a.clone(), v.clone())),
                _ => None,
            },
            _ => None,
        }
    }
    /// The same as EDN.
    pub fn to_value(&self) -> Value {
        match self {
            Eid::Id(e) => Value::Ref(*e),
            Eid::Ident(k) => Value::Keyword(k.clone()),
            Eid::Lookup(a, v) => Value::vector([Value::Keyword(a.clone()), v.clone()]),
        }
    }
}

impl From<EntityId> for Eid {
    fn from(e: EntityId) -> Eid {
        Eid::Id(e)
    }
}
impl From<u64> for Eid {
    fn from(e: u64) -> Eid {
        Eid::Id(EntityId::from_raw(e))
    }
}
impl From<Keyword> for Eid {
    fn from(k: Keyword) -> Eid {
        Eid::Ident(k)
    }
}
impl From<&Keyword> for Eid {
    fn from(k: &Keyword) -> Eid {
        Eid::Ident(k.clone())
    }
}
impl From<T> for Eid {
    fn from(t: T) -> Eid {
        Eid::Id(t.entity())
    }
}
impl<V: Into<Value>> From<(&str, V)> for Eid {
    fn from((a, v): (&str, V)) -> Eid {
        Eid::Lookup(Keyword::new(a.strip_prefix(':').unwrap_or(a)), v.into())
    }
}
impl<V: Into<Value>> From<(Keyword, V)> for Eid {
    fn from((a, v): (Keyword, V)) -> Eid {
        Eid::Lookup(a, v.into())
    }
}

/// One input of a query, matched with `:in` by position. Databases that are not
/// given are filled in: `$` is the database asked.
#[derive(Clone, Debug)]
pub enum Input {
    /// A database: `$`, `$since`.
    Db(Db),
    /// A value for `?x`, `[?x ...]`, `[?x ?y]` or `[[?x ?y]]`.
    Value(Value),
    /// Rules for `%`, as text.
    Rules(Arc<str>),
}

impl<V: Into<Value>> From<V> for Input {
    fn from(v: V) -> Input {
        Input::Value(v.into())
    }
}
impl From<Db> for Input {
    fn from(db: Db) -> Input {
        Input::Db(db)
    }
}
impl From<&Db> for Input {
    fn from(db: &Db) -> Input {
        Input::Db(db.clone())
    }
}

/// Anything that can be the inputs of a query: `()`, a tuple, a `Vec<Input>`.
pub trait IntoInputs {
    /// The inputs in order.
    fn into_inputs(self) -> Vec<Input>;
}
impl IntoInputs for () {
    fn into_inputs(self) -> Vec<Input> {
        Vec::new()
    }
}
impl IntoInputs for Vec<Input> {
    fn into_inputs(self) -> Vec<Input> {
        self
    }
}
impl IntoInputs for &[Input] {
    fn into_inputs(self) -> Vec<Input> {
        self.to_vec()
    }
}
impl IntoInputs for Vec<Value> {
    fn into_inputs(self) -> Vec<Input> {
        self.into_iter().map(Input::Value).collect()
    }
}
impl<const N: usize> IntoInputs for [Value; N] {
    fn into_inputs(self) -> Vec<Input> {
        self.into_iter().map(Input::Value).collect()
    }
}
macro_rules! tuples {
    ($($($name:ident)+;)+) => {$(
        impl<$($name: Into<Input>),+> IntoInputs for ($($name,)+) {
            #[expect(non_snake_case, reason = "type parameters name the fields")]
            fn into_inputs(self) -> Vec<Input> {
                let ($($name,)+) = self;
                vec![$($name.into()),+]
            }
        }
    )+};
}
tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
}
