//! The skip list: events that a projection passes over, with who said so and why.
//!
//! 1. A version that takes an event after it was skipped passes over it. What a version
//!    made of it before stays until the projection is rebuilt: the log and the past keep
//!    what was said, a rebuilt version lacks it.
//! 2. Who and why are stored with the position, and as `:tx/by` and `:tx/why` of the
//!    transaction, so that the audit is a query.

use crate::event::{
    data::{Data, DataError},
    id::Position,
    projection_error::ProjectionError,
    registry::Skips,
    table::{self, Key, Tables},
};
use crate::{Connection, DbError, transact::Author};
use annals_model::{Keyword, T, Value, tx::TxData};
use hashbrown::HashMap;
use std::{collections::BTreeSet, sync::Arc};

/// An event that a projection passes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The event.
    pub position: Position,
    /// The transaction that said so.
    pub t: T,
    /// Who said so.
    pub by: Arc<str>,
    /// Why.
    pub why: Arc<str>,
}

impl Skipped {
    fn encode(&self) -> Result<Data, DataError> {
        Data::of(&Value::map([
            (Value::keyword("t"), Value::Long(self.t.0 as i64)),
            (Value::keyword("by"), Value::String(self.by.clone())),
            (Value::keyword("why"), Value::String(self.why.clone())),
        ]))
    }
    fn decode(position: Position, bytes: &[u8]) -> Result<Skipped, DataError> {
        let row = Data::stored(bytes);
        match (row.field("t")?, row.field("by")?, row.field("why")?) {
            (Some(Value::Long(t)), Some(Value::String(by)), Some(Value::String(why))) => {
                Ok(Skipped { position, t: T(t as u64), by, why })
            }
            _ => Err(DataError::Damaged(0)),
        }
    }
}

fn key(name: &Keyword) -> Key {
    Key::new().text(name.as_str())
}

/// What every projection passes over.
pub(crate) fn load(tables: &Tables) -> Result<HashMap<Keyword, Skips>, DbError> {
    let mut all: HashMap<Keyword, BTreeSet<Position>> = HashMap::new();
    for (k, _) in tables.under(table::SKIP, Key::new())? {
        let damaged = || DbError::from(DataError::Damaged(0));
        let end = k.iter().position(|b| *b == table::END).ok_or_else(damaged)?;
        let name = std::str::from_utf8(&k[..end]).map_err(|_| damaged())?;
        let at = table::last_number(&k, end + 1).ok_or_else(damaged)?;
        all.entry(Keyword::new(name)).or_default().insert(Position(at));
    }
    Ok(all.into_iter().map(|(name, set)| (name, Arc::new(set))).collect())
}

impl Connection {
    /// Has a projection pass over an event from now on, and notes who said so and why. A
    /// version that has taken the event already keeps what it made of it: rebuild it to be
    /// rid of that ([`Connection::rebuild_projection`]). A projection halted at the event
    /// goes on when it is resumed.
    ///
    /// # Errors
    /// `projection/unknown`, `projection/no-event` when nothing is stored at the position,
    /// and what a transaction may fail with.
    pub fn skip_event(
        &self,
        name: &str,
        position: Position,
        by: &str,
        why: &str,
    ) -> Result<T, ProjectionError> {
        let r = self.projection(name)?;
        if self.db().events().t_of(position)?.is_none() {
            return Err(ProjectionError::NoEvent { at: position, head: self.db().events().head()? });
        }
        let events = self.shared().events().clone();
        let name = r.name.clone();
        let skipped = Skipped { position, t: T::GENESIS, by: Arc::from(by), why: Arc::from(why) };
        let (report, ()) = self.write(move |txn| -> Result<(), ProjectionError> {
            let signed = Skipped { t: txn.t(), ..skipped };
            let tx = Value::map([
                (Value::keyword("db/id"), Value::string("datomic.tx")),
                (Value::keyword("tx/by"), Value::String(signed.by.clone())),
                (Value::keyword("tx/why"), Value::String(signed.why.clone())),
            ]);
            txn.facts(&TxData { forms: vec![tx], text: None }, Author::User)?;
            txn.row(table::put(table::SKIP, key(&name).number(position.0), signed.encode()?.bytes()));
            Ok(())
        })?;
        events.note_skip(&r.name, position);
        Ok(report.t())
    }

    /// The events that a projection passes over, in order of position.
    ///
    /// # Errors
    /// `projection/unknown`; or the database could not be read.
    pub fn skipped(&self, name: &str) -> Result<Vec<Skipped>, ProjectionError> {
        let r = self.projection(name)?;
        let prefix = key(&r.name).done().len();
        let tables = Tables::new(self.db().snapshot().clone());
        let mut found = Vec::new();
        for (k, v) in tables.under(table::SKIP, key(&r.name))? {
            if let Some(at) = table::last_number(&k, prefix) {
                found.push(Skipped::decode(Position(at), &v).map_err(DbError::from)?);
            }
        }
        Ok(found)
    }
}
