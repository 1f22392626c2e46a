//! Events: one to be appended, and one as the log holds it.
//!
//! Stored form (table `event::table::EVENT`, key: position, 8 bytes big-endian):
//! version byte, flags, t, version, recorded instant, schema, id, stream, type,
//! then what the flags announce, tags, meta, data. Numbers are varints.
//!
//! 1. What is stored never changes: upcasters and sealing work on what is read.
//! 2. `fingerprint` covers type, schema, data, tags, occurred-at and meta: the
//!    same id with another fingerprint is another event under a used id.

use crate::event::{
    data::{Data, DataError, IntoData, Reader, put_bytes, put_signed, put_varint},
    id::{BadName, EventId, EventType, Position, StreamId, Tag, Version},
};
use annals_model::{Instant, T, Value};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// What surrounds an event: why it happened and who did it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The conversation it belongs to. Any text; often a UUID.
    pub correlation: Option<Arc<str>>,
    /// The id of the event or command that caused it.
    pub causation: Option<Uuid>,
    /// Who asked for it.
    pub actor: Option<Arc<str>>,
    /// Anything else, by name.
    pub more: BTreeMap<Arc<str>, Value>,
}

/// An event not yet stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// Unique; appending it again stores nothing.
    pub id: EventId,
    /// What happened.
    pub ty: EventType,
    /// Which shape of `data`, counted by the owner of the type from 1.
    pub schema: u32,
    /// The payload.
    pub data: Data,
    /// What it is about.
    pub tags: Vec<Tag>,
    /// When it happened, if that is not when it is recorded.
    pub occurred_at: Option<Instant>,
    /// Why and by whom.
    pub meta: Meta,
}

impl NewEvent {
    /// An event with a fresh id, schema 1, no tags.
    pub fn new<N>(ty: N, data: impl IntoData) -> Result<NewEvent, BadEvent>
    where
        N: TryInto<EventType, Error: Into<BadEvent>>,
    {
        Ok(NewEvent {
            id: EventId::fresh(),
            ty: ty.try_into().map_err(Into::into)?,
            schema: 1,
            data: data.into_data()?,
            tags: Vec::new(),
            occurred_at: None,
            meta: Meta::default(),
        })
    }
    /// Sets the id.
    pub fn id(mut self, id: impl Into<EventId>) -> NewEvent {
        self.id = id.into();
        self
    }
    /// Sets the schema number.
    pub fn schema(mut self, schema: u32) -> NewEvent {
        self.schema = schema;
        self
    }
    /// Adds a tag.
    pub fn tag(mut self, tag: Tag) -> NewEvent {
        self.tags.push(tag);
        self
    }
    /// Sets when it happened.
    pub fn occurred_at(mut self, at: Instant) -> NewEvent {
        self.occurred_at = Some(at);
        self
    }
    /// Names the event or command that caused it.
    pub fn caused_by(mut self, cause: Uuid) -> NewEvent {
        self.meta.causation = Some(cause);
        self
    }
    /// Names the conversation.
    pub fn correlation(mut self, id: impl AsRef<str>) -> NewEvent {
        self.meta.correlation = Some(Arc::from(id.as_ref()));
        self
    }
    /// Names who asked.
    pub fn actor(mut self, actor: impl AsRef<str>) -> NewEvent {
        self.meta.actor = Some(Arc::from(actor.as_ref()));
        self
    }
    /// Adds an entry of metadata.
    pub fn meta(mut self, name: &str, value: impl Into<Value>) -> NewEvent {
        self.meta.more.insert(Arc::from(name), value.into());
        self
    }
    /// What tells this event from another under the same id.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(128 + self.data.bytes().len());
        put_bytes(&mut bytes, self.ty.as_str().as_bytes());
        self.put_body(&mut bytes);
        *blake3::hash(&bytes).as_bytes()
    }
    fn put_body(&self, out: &mut Vec<u8>) {
        let m = &self.meta;
        out.push(
            u8::from(self.occurred_at.is_some())
                | u8::from(m.correlation.is_some()) << 1
                | u8::from(m.causation.is_some()) << 2
                | u8::from(m.actor.is_some()) << 3,
        );
        put_varint(out, u64::from(self.schema));
        if let Some(at) = self.occurred_at {
            put_signed(out, at.0);
        }
        if let Some(c) = &m.correlation {
            put_bytes(out, c.as_bytes());
        }
        if let Some(c) = &m.causation {
            out.extend_from_slice(c.as_bytes());
        }
        if let Some(a) = &m.actor {
            put_bytes(out, a.as_bytes());
        }
        put_varint(out, self.tags.len() as u64);
        for tag in &self.tags {
            put_bytes(out, tag.as_str().as_bytes());
        }
        put_varint(out, m.more.len() as u64);
        for (name, value) in &m.more {
            put_bytes(out, name.as_bytes());
            let mut v = Vec::new();
            // A value too deep to encode was refused when the event was checked.
            let _ = crate::event::data::encode(value, &mut v, 0);
            put_bytes(out, &v);
        }
        put_bytes(out, self.data.bytes());
    }
}

/// An event that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadEvent {
    /// A name is not one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The payload is not one.
    #[error(transparent)]
    Data(#[from] DataError),
}
impl From<std::convert::Infallible> for BadEvent {
    fn from(never: std::convert::Infallible) -> BadEvent {
        match never {}
    }
}

/// An event as the log holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What was appended, after upcasting.
    pub event: NewEvent,
    /// Its stream.
    pub stream: StreamId,
    /// Its number in the stream, from 1.
    pub version: Version,
    /// Its number over all streams, from 1.
    pub position: Position,
    /// The transaction that stored it.
    pub t: T,
    /// That transaction's instant.
    pub recorded_at: Instant,
    /// Which part, when an upcaster made several events of one; else 0.
    pub part: u16,
}

impl Recorded {
    /// When it happened: what the caller said, else when it was recorded.
    pub fn time(&self) -> Instant {
        self.event.occurred_at.unwrap_or(self.recorded_at)
    }
    /// Its type's name.
    pub fn ty(&self) -> &str {
        self.event.ty.as_str()
    }
    /// Its id.
    pub fn id(&self) -> EventId {
        self.event.id
    }
    /// Its payload.
    pub fn data(&self) -> &Data {
        &self.event.data
    }
    /// The stored form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + self.event.data.bytes().len());
        out.push(FORMAT);
        put_varint(&mut out, self.t.0);
        put_varint(&mut out, self.version.0);
        put_signed(&mut out, self.recorded_at.0);
        out.extend_from_slice(self.event.id.0.as_bytes());
        put_bytes(&mut out, self.stream.as_str().as_bytes());
        put_bytes(&mut out, self.event.ty.as_str().as_bytes());
        self.event.put_body(&mut out);
        out
    }
    /// From the stored form.
    pub(crate) fn decode(position: Position, bytes: &[u8]) -> Result<Recorded, DataError> {
        Recorded::decode_with(position, bytes, &mut Names::once())
    }
    /// From the stored form, its stream's and its type's names shared with events read before.
    pub(crate) fn decode_with(
        position: Position,
        bytes: &[u8],
        names: &mut Names,
    ) -> Result<Recorded, DataError> {
        let mut r = Reader::new(bytes);
        if r.u8()? != FORMAT {
            return Err(DataError::Damaged(0));
        }
        let t = T(r.varint()?);
        let version = Version(r.varint()?);
        let recorded_at = Instant(r.signed()?);
        let id = EventId(uuid(&mut r)?);
        let stream = StreamId::stored(names.shared(r.text()?));
        let ty = EventType::stored(names.shared(r.text()?));
        let flags = r.u8()?;
        let schema = u32::try_from(r.varint()?).map_err(|_| DataError::Damaged(r.at))?;
        let occurred_at = if flags & 1 != 0 { Some(Instant(r.signed()?)) } else { None };
        let correlation = if flags & 2 != 0 { Some(Arc::from(r.text()?)) } else { None };
        let causation = if flags & 4 != 0 { Some(uuid(&mut r)?) } else { None };
        let actor = if flags & 8 != 0 { Some(Arc::from(r.text()?)) } else { None };
        let n = r.varint()?;
        let mut tags = Vec::with_capacity(n.min(64) as usize);
        for _ in 0..n {
            tags.push(Tag::stored(names.shared(r.text()?)));
        }
        let mut more = BTreeMap::new();
        for _ in 0..r.varint()? {
            let name = Arc::from(r.text()?);
            more.insert(name, Reader::new(r.slice()?).value(0)?);
        }
        let data = Data::stored(r.slice()?);
        let meta = Meta { correlation, causation, actor, more };
        let event = NewEvent { id, ty, schema, data, tags, occurred_at, meta };
        Ok(Recorded { event, stream, version, position, t, recorded_at, part: 0 })
    }
}

const FORMAT: u8 = 1;

/// Names that events read one after another share: a stream's, a type's, a tag's. A name that is
/// met again is not allotted again. Bounded: of two names in one slot the later stays.
#[derive(Default)]
pub(crate) struct Names {
    /// A power of two of them, or none.
    slots: Vec<Option<Arc<str>>>,
    missed: usize,
    /// Only one event is read: nothing is kept.
    once: bool,
}

impl Names {
    const FEWEST: usize = 16;
    const MOST: usize = 4096;

    /// For a single event.
    fn once() -> Names {
        Names { once: true, ..Names::default() }
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if self.once {
            return Arc::from(text);
        }
        if self.missed >= self.slots.len() && self.slots.len() < Names::MOST {
            let more = (4 * self.slots.len()).max(Names::FEWEST);
            self.missed = 0;
            self.slots.clear();
            self.slots.resize(more, None);
        }
        // The ends of a name tell it from most others, and a slot taken by another costs an allocation, no more.
        let bytes = text.as_bytes();
        let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => (bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0),
        };
        let hash = (first ^ last.rotate_left(29) ^ bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let at = (hash >> 48) as usize & (self.slots.len() - 1);
        match &mut self.slots[at] {
            Some(held) if &**held == text => held.clone(),
            slot => {
                self.missed += 1;
                slot.insert(Arc::from(text)).clone()
            }
        }
    }
}

fn uuid(r: &mut Reader<'_>) -> Result<Uuid, DataError> {
    let at = r.at;
    Uuid::from_slice(r.take(16)?).map_err(|_| DataError::Damaged(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_stored_is_read_back_and_any_difference_changes_the_fingerprint() {
        let event = NewEvent::new("OrderShipped", json!({"carrier": "x", "n": 3}))
            .unwrap()
            .tag(Tag::new("order:7").unwrap())
            .occurred_at(Instant(-5))
            .caused_by(Uuid::from_u128(9))
            .correlation("batch-1")
            .actor("ada")
            .meta("ip", "::1")
            .schema(2);
        let r = Recorded {
            event: event.clone(),
            stream: StreamId::new("order-7").unwrap(),
            version: Version(3),
            position: Position(12),
            t: T(5),
            recorded_at: Instant(77),
            part: 0,
        };
        assert_eq!(Recorded::decode(Position(12), &r.encode()).unwrap(), r);
        let other = NewEvent { schema: 3, ..event.clone() };
        assert_ne!(other.fingerprint(), event.fingerprint());
        assert_ne!(event.clone().actor("bob").fingerprint(), event.fingerprint());
        for cut in 0..r.encode().len() {
            assert!(Recorded::decode(Position(12), &r.encode()[..cut]).is_err());
        }
    }
}
