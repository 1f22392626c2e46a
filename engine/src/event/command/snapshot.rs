//! Snapshots: the state of an aggregate at a version, so that its next load folds
//! the tail only.
//!
//! Stored form (table `event::table::SNAPSHOT`, key: stream): format byte, digest
//! (32 bytes), version, state as data.
//!
//! 1. A snapshot is a cache: without it every state is the same.
//! 2. It is written with the events that led to it, in their transaction.
//! 3. Its digest covers the policy's schema number, the category, the types and
//!    schemas of the events, the stream, the version, the id of the event at that
//!    version, and the state's bytes. One that does not match all of these is
//!    ignored, never half-read.
//! 4. One stream has one snapshot, its newest. Loads of older versions that it is
//!    too new for fold from the first event.

use crate::DbError;
use crate::event::{
    aggregate::Aggregate,
    data::{Data, Reader, put_bytes, put_varint},
    event_type::Event,
    id::{EventId, Position, StreamId, Version},
    table::{self, Key, Tables},
    wire,
};
use serde::{Serialize, de::DeserializeOwned};

/// How often a snapshot is taken, and of what shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// One each time the version passes a multiple of this.
    pub every: u32,
    /// The shape of the state, counted from 1: raise it when the state's fields, or what
    /// `apply` makes of events, change; older snapshots are then ignored.
    pub schema: u32,
}

impl Default for SnapshotPolicy {
    /// Every 100 events, schema 1.
    fn default() -> SnapshotPolicy {
        SnapshotPolicy { every: 100, schema: 1 }
    }
}

/// A policy, and how to write and read the state.
pub(crate) struct Snapshots<A> {
    pub policy: SnapshotPolicy,
    write: fn(&A) -> Option<Data>,
    read: fn(&Data) -> Option<A>,
}

impl<A> Clone for Snapshots<A> {
    fn clone(&self) -> Snapshots<A> {
        Snapshots { policy: self.policy, write: self.write, read: self.read }
    }
}

const FORMAT: u8 = 1;

impl<A: Aggregate> Snapshots<A> {
    pub fn new(policy: SnapshotPolicy) -> Snapshots<A>
    where
        A: Serialize + DeserializeOwned,
    {
        Snapshots {
            policy,
            write: |state| Data::of(&wire::to_value(state).ok()?).ok(),
            read: |data| wire::from_value(&data.value().ok()?).ok(),
        }
    }

    /// Is one due when a stream goes from one version to another?
    pub fn is_due(&self, before: Version, after: Version) -> bool {
        let every = u64::from(self.policy.every.max(1));
        before.0 / every < after.0 / every
    }

    /// The row of a snapshot. None when the state cannot be written, or not be read back.
    pub fn row(
        &self,
        stream: &StreamId,
        version: Version,
        last: EventId,
        state: &A,
    ) -> Option<annals_storage::Row> {
        let data = (self.write)(state)?;
        (self.read)(&data)?;
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.digest(stream, version, last, data.bytes()));
        put_varint(&mut out, version.0);
        put_bytes(&mut out, data.bytes());
        Some(table::put(table::SNAPSHOT, Key::new().text(stream.as_str()), out))
    }

    /// The newest usable snapshot at a version or before.
    pub fn find(
        &self,
        tables: &Tables,
        stream: &StreamId,
        upto: Version,
    ) -> Result<Option<(A, Version)>, DbError> {
        let Some(bytes) = tables.row(table::SNAPSHOT, Key::new().text(stream.as_str()))? else {
            return Ok(None);
        };
        let Some((digest, version, data)) = decode(&bytes) else { return Ok(None) };
        if version > upto || version == Version::ZERO {
            return Ok(None);
        }
        let at = Key::new().text(stream.as_str()).number(version.0);
        let Some(position) = tables.row(table::STREAM, at)? else { return Ok(None) };
        let Some(last) = tables.event(Position(table::read_number(&position)?))? else { return Ok(None) };
        if digest != self.digest(stream, version, last.event.id, data.bytes()) {
            return Ok(None);
        }
        Ok((self.read)(&data).map(|state| (state, version)))
    }

    fn digest(&self, stream: &StreamId, version: Version, last: EventId, state: &[u8]) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        let mut head = Vec::with_capacity(256);
        put_bytes(&mut head, A::CATEGORY.as_bytes());
        put_varint(&mut head, u64::from(self.policy.schema));
        for (ty, schema) in <A::Event as Event>::TYPES {
            put_bytes(&mut head, ty.as_bytes());
            put_varint(&mut head, u64::from(*schema));
        }
        put_bytes(&mut head, stream.as_str().as_bytes());
        put_varint(&mut head, version.0);
        head.extend_from_slice(last.0.as_bytes());
        hash.update(&head);
        hash.update(state);
        *hash.finalize().as_bytes()
    }
}

fn decode(bytes: &[u8]) -> Option<([u8; 32], Version, Data)> {
    let mut r = Reader::new(bytes);
    if r.u8().ok()? != FORMAT {
        return None;
    }
    let digest = r.take(32).ok()?.try_into().ok()?;
    let version = Version(r.varint().ok()?);
    Some((digest, version, Data::stored(r.slice().ok()?)))
}
