//! Whole transactions out of one database and into another: what a full-history export holds.
//!
//! 1. A [`Dumped`] says everything its log record says: the facts, those of projections too and
//!    those filed under an older transaction, and the rows beside them (events, commands,
//!    projections and how far they are). Loaded in order into a new database it makes the same
//!    record: same ids, same answers at every t, whatever code is there to project.
//! 2. Attributes go by the names they had at the time, so that a dump can be read; where a name
//!    would not lead back to its attribute, the number stands.
//! 3. Loading trusts the dump as opening trusts the log: what transactions check was checked
//!    when they were made. Damage is refused, nonsense with the right form is not.
//!
//! Not here: the text of an export (the shell's), copies byte by byte (`Connection::backup`).

use crate::{
    Connection, Db, DbError, TransactError, TxRange, bootstrap as boot,
    event::{Position, Recorded, SealError, table::Tables},
    store::{Record, Row, StorageError},
};
use annals_model::{AttrId, Attribute, Datom, EntityId, Instant, Keyword, T, TupleKind, Value, ValueType};
use std::sync::Arc;

/// One transaction as a dump holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dumped {
    /// Its number.
    pub t: T,
    /// Its instant.
    pub instant: Instant,
    /// What it asserted and retracted, but for its own instant.
    pub facts: Vec<DumpedFact>,
    /// The rows of its record, as bytes; empty when it has none.
    pub rows: Vec<u8>,
}

/// One datom of a [`Dumped`].
#[derive(Clone, Debug, PartialEq)]
pub struct DumpedFact {
    /// The entity.
    pub e: EntityId,
    /// The attribute: a keyword, or a reference where its name was not its own.
    pub a: Value,
    /// The value. References may be numbers.
    pub v: Value,
    /// Asserted, or else retracted.
    pub added: bool,
    /// The transaction it is filed under: the one that holds it, or for facts of late
    /// projections an older one.
    pub t: T,
}

/// The key of a subject of personal values, in hex; none for a subject that was forgotten.
pub type SubjectKey = (Arc<str>, Option<String>);

/// Why a dump could not be written or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The transaction does not follow the newest one of the database.
    #[error("the dump goes on with t{found}, the database with t{expected}")]
    OutOfOrder {
        /// The next transaction of the database.
        expected: T,
        /// That of the dump.
        found: T,
    },
    /// An attribute that was never installed.
    #[error("t{t}: no attribute {} is installed", annals_query::edn::print(attr))]
    Attribute {
        /// In this transaction.
        t: T,
        /// As the dump names it.
        attr: Value,
    },
    /// A value of another type than its attribute's.
    #[error("t{t}: {attr} holds values of type {expected}, not {}", value.kind())]
    Value {
        /// In this transaction.
        t: T,
        /// The attribute.
        attr: Keyword,
        /// Its type.
        expected: &'static str,
        /// What the dump has.
        value: Value,
    },
    /// The bytes of a transaction's rows are not whole.
    #[error("t{t}: the rows of the transaction are damaged at byte {at}")]
    Rows {
        /// In this transaction.
        t: T,
        /// Where.
        at: usize,
    },
    /// A key of a subject is none.
    #[error("the keys of subjects are damaged")]
    Keys,
    /// Keys could not be written.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Writing.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// Reading.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl DumpError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            DumpError::OutOfOrder { .. } => "dump/out-of-order",
            DumpError::Attribute { .. } => "dump/attribute",
            DumpError::Value { .. } => "dump/value",
            DumpError::Rows { .. } => "dump/rows",
            DumpError::Keys => "dump/keys",
            DumpError::Seal(e) => e.code(),
            DumpError::Transact(e) => e.code(),
            DumpError::Db(e) => e.code(),
        }
    }
}

impl From<StorageError> for DumpError {
    fn from(e: StorageError) -> DumpError {
        DumpError::Db(e.into())
    }
}

/// The transactions of a dump, oldest first.
pub struct Dump(TxRange);

impl Iterator for Dump {
    type Item = Result<Dumped, DumpError>;
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.0.next_record()?;
        Some(record.map_err(DumpError::from).map(|r| {
            let before = self.0.shared().db_at(T(r.t.0.saturating_sub(1)));
            dumped(&before, &self.0.shared().db_at(r.t), &r)
        }))
    }
}

impl Connection {
    /// The transactions of `[from, to)` with everything they hold, oldest first.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// conn.transact("[{:db/ident :color/red}]")?;
    /// let copy = annals::in_memory()?;
    /// let all = conn.dump(annals::T(1), annals::T(2))?.collect::<Result<Vec<_>, _>>()?;
    /// let (loaded, refused) = copy.load_dump(all);
    /// assert!(loaded == 1 && refused.is_none());
    /// assert_eq!(copy.db().entid(":color/red"), conn.db().entid(":color/red"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dump(&self, from: T, to: T) -> Result<Dump, DumpError> {
        Ok(Dump(self.tx_range(from.max(T(1)), to)?))
    }

    /// The events of a transaction as they are stored: personal values sealed, old shapes as they
    /// were. What a dump shows of them beside its rows, so that it tells no more than those do.
    ///
    /// ```
    /// use annals::{Value, event::{Append, NewEvent, personal}};
    /// let conn = annals::in_memory()?;
    /// let name = Value::map([(Value::keyword("name"), personal("p-7", "Ada"))]);
    /// let done = conn.append(Append::to("person-7").push(NewEvent::new("Named", name)?))?;
    /// let stored = conn.stored_events(done.t)?;
    /// assert!(matches!(stored[0].data().field("name")?, Some(Value::Tagged(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The database could not be read.
    pub fn stored_events(&self, t: T) -> Result<Vec<Recorded>, DbError> {
        let log = self.db().events();
        let Some((first, last)) = log.positions_of(t)? else { return Ok(Vec::new()) };
        let stored = (first.0..=last.0).map(|p| log.tables.event(Position(p)));
        Ok(stored.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Commits transactions of a dump as they are, in order, with one sync; they go on where the
    /// database ends. Stops at the first refused one; the earlier ones stay. Gives how many were
    /// committed. A thousand at a time is a good number.
    pub fn load_dump(&self, all: Vec<Dumped>) -> (usize, Option<DumpError>) {
        let make = |d: Dumped| {
            move |before: &Db| {
                before.shared().events().forget_memory();
                record(before, d)
            }
        };
        let makers = all.into_iter().map(make).collect();
        let (done, refused) = self.replay(makers);
        match self.notice_events() {
            Err(e) if done > 0 => (done, Some(e.into())),
            _ => (done, refused),
        }
    }

    /// What is remembered of events and projections is read again.
    fn notice_events(&self) -> Result<(), DbError> {
        let events = self.shared().events();
        events.load(&Tables::new(self.db().snapshot().clone()))?;
        events.announce();
        Ok(())
    }

    /// The keys under which personal values are stored. Whoever has them can read those values;
    /// a copy without them reads `:annals/erased` instead.
    pub fn subject_keys(&self) -> Vec<SubjectKey> {
        self.shared().events().seals.exported()
    }

    /// Takes in keys that [`Connection::subject_keys`] gave; subjects that are known stay as they are.
    pub fn load_subject_keys(&self, keys: &[SubjectKey]) -> Result<(), DumpError> {
        match self.shared().events().seals.adopt(keys)? {
            true => Ok(()),
            false => Err(DumpError::Keys),
        }
    }
}

fn is_stamp(r: &Record, d: &Datom) -> bool {
    d.a == boot::TX_INSTANT && d.e == r.t.entity() && d.t == r.t
}

fn dumped(before: &Db, after: &Db, r: &Record) -> Dumped {
    let facts = r.datoms.iter().filter(|d| !is_stamp(r, d)).map(|d| DumpedFact {
        e: d.e,
        a: name(before, after, d.a),
        v: d.v.clone(),
        added: d.added,
        t: d.t,
    });
    Dumped { t: r.t, instant: r.instant, facts: facts.collect(), rows: rows_to_bytes(&r.rows) }
}

/// The name that [`attribute`] will find the attribute by.
fn name(before: &Db, after: &Db, a: AttrId) -> Value {
    let e = a.entity();
    let known = |db: &Db| db.ident(e).filter(|k| db.schema().entid(k) == Some(e)).cloned();
    match known(after) {
        Some(k) => Value::Keyword(k),
        None => match known(before) {
            Some(k) if after.schema().entid(&k).is_none_or(|x| x == e) => Value::Keyword(k),
            _ => Value::Ref(e),
        },
    }
}

/// A dumped transaction as a record that follows `before`.
fn record(before: &Db, d: Dumped) -> Result<Record, DumpError> {
    let expected = before.basis_t().next();
    if d.t != expected {
        return Err(DumpError::OutOfOrder { expected, found: d.t });
    }
    let named: Vec<(Keyword, EntityId)> = d
        .facts
        .iter()
        .filter(|f| f.added && f.a == Value::keyword("db/ident"))
        .filter_map(|f| match &f.v {
            Value::Keyword(k) => Some((k.clone(), f.e)),
            _ => None,
        })
        .collect();
    let mut datoms = Vec::with_capacity(d.facts.len() + 1);
    datoms.push(Datom {
        e: d.t.entity(),
        a: boot::TX_INSTANT,
        v: Value::Instant(d.instant),
        t: d.t,
        added: true,
    });
    for f in d.facts {
        let a = attribute(before, &named, &f.a)
            .ok_or_else(|| DumpError::Attribute { t: d.t, attr: f.a.clone() })?;
        let v = match before.schema().attribute(a) {
            Some(attr) => typed(before, attr, f.v).map_err(|value| DumpError::Value {
                t: d.t,
                attr: attr.ident.clone(),
                expected: attr.value_type.name(),
                value,
            })?,
            None => f.v,
        };
        datoms.push(Datom { e: f.e, a, v, t: f.t, added: f.added });
    }
    let rows = rows_of_bytes(&d.rows).map_err(|at| DumpError::Rows { t: d.t, at })?;
    Ok(Record { t: d.t, instant: d.instant, datoms, rows })
}

fn attribute(before: &Db, named: &[(Keyword, EntityId)], a: &Value) -> Option<AttrId> {
    let e = match a {
        Value::Keyword(k) => match named.iter().find(|(name, _)| name == k) {
            Some((_, e)) => *e,
            None => before.schema().entid(k)?,
        },
        Value::Ref(e) => *e,
        Value::Long(n) => EntityId::from_raw(u64::try_from(*n).ok()?),
        _ => return None,
    };
    AttrId::of_entity(e)
}

/// A value as its attribute stores it: text does not tell a reference from a number.
fn typed(before: &Db, a: &Attribute, v: Value) -> Result<Value, Value> {
    match (a.value_type, v) {
        (ValueType::Tuple, Value::Vector(slots) | Value::List(slots)) => {
            let slot = |i: usize| match &a.tuple {
                Some(TupleKind::Heterogeneous(types)) => types.get(i).copied(),
                Some(TupleKind::Homogeneous(t)) => Some(*t),
                Some(TupleKind::Composite(parts)) => {
                    parts.get(i).and_then(|p| before.schema().attribute(*p)).map(|p| p.value_type)
                }
                None => None,
            };
            let slots: Result<Vec<Value>, Value> = slots
                .iter()
                .enumerate()
                .map(|(i, v)| match (slot(i), v) {
                    (_, Value::Nil) | (None, _) => Ok(v.clone()),
                    (Some(t), v) => plain(t, v.clone()),
                })
                .collect();
            slots.map(Value::vector)
        }
        (t, v) => plain(t, v),
    }
}

fn plain(t: ValueType, v: Value) -> Result<Value, Value> {
    match (t, v) {
        (ValueType::Ref, Value::Long(n)) => match u64::try_from(n) {
            Ok(raw) => Ok(Value::Ref(EntityId::from_raw(raw))),
            Err(_) => Err(Value::Long(n)),
        },
        (t, v) if v.value_type() == Some(t) => Ok(v),
        (t, v) => crate::transact::lossless(t, &v).ok_or(v),
    }
}

/// Rows as bytes: table, length of the key, the key, 0 or 1 and length, the value.
fn rows_to_bytes(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::new();
    let part = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    for r in rows {
        out.push(r.table);
        part(&mut out, &r.key);
        out.push(u8::from(r.value.is_some()));
        if let Some(v) = &r.value {
            part(&mut out, v);
        }
    }
    out
}

/// The rows again; else where the bytes end too early or say something else than 0 or 1.
fn rows_of_bytes(bytes: &[u8]) -> Result<Vec<Row>, usize> {
    fn part<'b>(bytes: &'b [u8], at: &mut usize) -> Result<&'b [u8], usize> {
        let here = *at;
        let len = bytes.get(here..here + 4).and_then(|b| b.try_into().ok()).ok_or(here)?;
        let end = (here + 4).checked_add(u32::from_le_bytes(len) as usize).ok_or(here)?;
        let part = bytes.get(here + 4..end).ok_or(here)?;
        *at = end;
        Ok(part)
    }
    let mut rows = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let table = bytes[at];
        at += 1;
        let key = part(bytes, &mut at)?.to_vec();
        let value = match bytes.get(at) {
            Some(0) => {
                at += 1;
                None
            }
            Some(1) => {
                at += 1;
                Some(part(bytes, &mut at)?.to_vec())
            }
            _ => return Err(at),
        };
        rows.push(Row { table, key, value });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_every_cut_is_found() {
        let rows = vec![
            Row { table: 1, key: vec![1, 2, 3], value: Some(vec![9; 300]) },
            Row { table: 255, key: Vec::new(), value: None },
        ];
        let bytes = rows_to_bytes(&rows);
        assert_eq!(rows_of_bytes(&bytes), Ok(rows));
        let first = bytes.len() - 6;
        for cut in (1..bytes.len()).filter(|c| *c != first) {
            assert!(rows_of_bytes(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
