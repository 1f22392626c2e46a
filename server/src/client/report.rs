//! What a write did, as far as the server tells.

use super::{decode::Members, error::ClientError};
use annals::{
    Datom, EntityId, Instant, Schema, T, Value,
    event::{Appended, Position, StreamId, Version},
};

/// The outcome of one transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    t: T,
    tx_instant: Instant,
    tempids: Vec<(String, EntityId)>,
    tx_data: Vec<Datom>,
    n_datoms: usize,
    replayed: bool,
}

impl Report {
    pub(super) fn read(doc: &Members, schema: &Schema) -> Result<Report, ClientError> {
        let tempids = doc.entries("tempids")?.iter().map(|(name, e)| match (name, e) {
            (Value::String(name), Value::Long(e)) => {
                let e = u64::try_from(*e).map_err(|_| ClientError::answer("a tempid became no entity"))?;
                Ok((name.to_string(), EntityId::from_raw(e)))
            }
            _ => Err(ClientError::answer("a tempid has no name")),
        });
        let datoms = doc.list_or_empty("tx-data");
        Ok(Report {
            t: T(doc.number("t")?),
            tx_instant: doc.instant("tx-instant")?,
            tempids: tempids.collect::<Result<_, _>>()?,
            tx_data: datoms.iter().map(|d| super::decode::datom(d, schema)).collect::<Result<_, _>>()?,
            n_datoms: usize::try_from(doc.number("datoms")?).unwrap_or(usize::MAX),
            replayed: doc.flag("replayed"),
        })
    }
    /// The number of the transaction; of a speculative one, the number it would have.
    pub fn t(&self) -> T {
        self.t
    }
    /// The transaction as an entity.
    pub fn tx(&self) -> EntityId {
        self.t.entity()
    }
    /// Its `:db/txInstant`.
    pub fn tx_instant(&self) -> Instant {
        self.tx_instant
    }
    /// The entity a tempid became.
    pub fn tempid(&self, name: &str) -> Option<EntityId> {
        self.tempids.iter().find(|(n, _)| n == name).map(|(_, e)| *e)
    }
    /// Every tempid with its entity.
    pub fn tempids(&self) -> impl Iterator<Item = (&str, EntityId)> {
        self.tempids.iter().map(|(n, e)| (n.as_str(), *e))
    }
    /// What it asserted and retracted. Empty when the server answered from memory
    /// ([`Report::replayed`]); [`Report::n_datoms`] says how many there are.
    pub fn tx_data(&self) -> &[Datom] {
        &self.tx_data
    }
    /// How many datoms it has.
    pub fn n_datoms(&self) -> usize {
        self.n_datoms
    }
    /// Was it made by an earlier request with the same idempotency key?
    pub fn replayed(&self) -> bool {
        self.replayed
    }
}

/// What an append of events did, as the library says it.
pub(super) fn appended(doc: &Members) -> Result<Appended, ClientError> {
    let versions = doc.entries("versions")?.iter().map(|(name, v)| match (name, v) {
        (Value::String(name), Value::Long(v)) => {
            let stream = StreamId::new(name).map_err(|_| ClientError::answer("a stream has no name"))?;
            Ok((stream, Version(u64::try_from(*v).unwrap_or(0))))
        }
        _ => Err(ClientError::answer("a stream has no version")),
    });
    Ok(Appended {
        t: T(doc.number("t")?),
        first: Position(doc.number("first")?),
        last: Position(doc.number("last")?),
        versions: versions.collect::<Result<_, _>>()?,
        replayed: doc.flag("replayed"),
    })
}
