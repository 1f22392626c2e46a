//! Events as Rust types: an enum that serde can write and read, with the names
//! and schema numbers that stand in the log.
//!
//! 1. What is stored is the variant's name from [`Event::TYPES`] and its payload;
//!    no name of a Rust type or module. Renaming the enum changes nothing, renaming
//!    a variant without its entry is refused before anything is written.
//! 2. An event that cannot be read back is refused before it is stored.
//! 3. An event is read at the schema that `TYPES` names; older ones are brought
//!    there by upcasters, which run before.

use crate::event::{
    data::{Data, DataError},
    id::{BadName, EventId, EventType, Position, Tag},
    record::{Meta, NewEvent, Recorded},
    seal::personal,
    wire,
};
use annals_model::{Instant, Value};
use serde::{Serialize, de::DeserializeOwned};

/// A kind of event, usually an enum with one variant for each thing that can happen.
///
/// ```
/// use annals::event::Event;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum AccountEvent {
///     Opened { owner: String },
///     Deposited { amount: i64 },
/// }
/// impl Event for AccountEvent {
///     const TYPES: &'static [(&'static str, u32)] = &[("Opened", 1), ("Deposited", 1)];
///     fn tags(&self) -> Vec<String> {
///         match self {
///             AccountEvent::Opened { owner } => vec![format!("owner:{owner}")],
///             AccountEvent::Deposited { .. } => vec![],
///         }
///     }
/// }
/// let e = AccountEvent::Deposited { amount: 5 }.to_new()?;
/// assert_eq!((e.ty.as_str(), e.schema), ("Deposited", 1));
/// # Ok::<(), annals::event::EventTypeError>(())
/// ```
pub trait Event: Serialize + DeserializeOwned + 'static {
    /// The stored name of each variant, as serde names it (`#[serde(rename = "…")]` gives
    /// it another than Rust's), with the number of its present schema, counted from 1.
    /// They are written to disk: never change a name, and raise the number when the
    /// shape changes. A type that is no enum has one entry.
    const TYPES: &'static [(&'static str, u32)];

    /// Some of its fields are personal ([`Event::personal`]). Aggregates of such events take
    /// no snapshots: one would keep in plain text what erasing a subject is to forget.
    const PERSONAL: bool = false;

    /// What the event is about, for conditions and filters: `course:logic`.
    fn tags(&self) -> Vec<String> {
        Vec::new()
    }
    /// When it happened, if that is not when it is recorded.
    fn occurred_at(&self) -> Option<Instant> {
        None
    }
    /// Fields of the payload that are personal, each with the subject under whose key its
    /// value is stored; see [`crate::event::personal`]. Only with [`Event::PERSONAL`].
    ///
    /// Make such fields `Option`s: once their subject is erased they read `None`. A plain text field
    /// reads `annals/erased` then, and a field of another type cannot be read at all.
    fn personal(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// The event with a fresh id, ready to be appended.
    fn to_new(&self) -> Result<NewEvent, EventTypeError> {
        new_event(self, EventId::fresh(), &Meta::default())
    }
}

/// An event does not have the shape its type says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EventTypeError {
    /// The stored type is none of those the Rust type knows.
    #[error("event {at} is of type {ty}, and {} is not among {}", .ty, known.join(", "))]
    Unknown {
        /// The stored type.
        ty: String,
        /// Where it stands.
        at: Position,
        /// The types known.
        known: Vec<&'static str>,
    },
    /// It is of an old schema, and no upcaster took it.
    #[error("event {at} is {ty} of schema {schema}, and nothing brings it to schema {wanted}")]
    NotUpcast {
        /// The type.
        ty: String,
        /// Where it stands.
        at: Position,
        /// Its schema.
        schema: u32,
        /// The schema that this program reads.
        wanted: u32,
    },
    /// It was written by a program newer than this one.
    #[error("event {at} is {ty} of schema {schema}; this program knows schema {wanted}")]
    Newer {
        /// The type.
        ty: String,
        /// Where it stands.
        at: Position,
        /// Its schema.
        schema: u32,
        /// The schema that this program reads.
        wanted: u32,
    },
    /// Its payload does not fit the variant.
    #[error("event {at} of type {ty} cannot be read: {why}")]
    Shape {
        /// The type.
        ty: String,
        /// Where it stands.
        at: Position,
        /// What does not fit.
        why: String,
    },
    /// A variant has no entry in `TYPES`, or an entry no variant.
    #[error("{ty} is {}", if *declared { "in TYPES but no variant of the enum" } else { "a variant of the enum but not in TYPES" })]
    Undeclared {
        /// The name.
        ty: String,
        /// It is in `TYPES`, and no variant has its name.
        declared: bool,
    },
    /// A type that is no enum has other than one entry in `TYPES`, or an enum is not tagged externally.
    #[error(
        "an event type is an enum tagged externally, or a type with exactly one entry in TYPES; TYPES has {0}"
    )]
    NotAnEnum(usize),
    /// It cannot be written, or not be read back.
    #[error("{ty} cannot be stored: {why}")]
    Unwritable {
        /// The type.
        ty: String,
        /// Why.
        why: String,
    },
    /// A field is said to be personal and is not in the payload.
    #[error("{ty} has no field {field} that could be personal")]
    NoField {
        /// The type.
        ty: String,
        /// The field.
        field: &'static str,
    },
    /// Fields are said to be personal, and the type is said to have none.
    #[error("{0} has personal fields, and PERSONAL is false for its type")]
    NotPersonal(String),
    /// A name is not one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The payload is damaged.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl EventTypeError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            EventTypeError::Unknown { .. } => "event/unknown-type",
            EventTypeError::NotUpcast { .. } => "event/not-upcast",
            EventTypeError::Newer { .. } => "event/newer-schema",
            EventTypeError::Shape { .. } => "event/other-shape",
            EventTypeError::Undeclared { .. } => "event/undeclared",
            EventTypeError::NotAnEnum(_) => "event/no-enum",
            EventTypeError::Unwritable { .. } => "event/unwritable",
            EventTypeError::NoField { .. } => "event/no-field",
            EventTypeError::NotPersonal(_) => "event/not-personal",
            EventTypeError::Name(_) => "event/bad-name",
            EventTypeError::Data(_) => "event/damaged",
        }
    }
    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            EventTypeError::Unknown { .. } => {
                "add the variant, or register an upcaster that gives no event for it"
            }
            EventTypeError::NotUpcast { .. } => "register an upcaster from this schema before reading",
            EventTypeError::Newer { .. } => "run the newer program",
            EventTypeError::Shape { .. } => {
                "raise the schema number and register an upcaster for the old shape"
            }
            EventTypeError::Undeclared { .. } => {
                "names in TYPES are on disk: give a renamed variant #[serde(rename = \"its old name\")]"
            }
            EventTypeError::NotAnEnum(_) => {
                "derive Serialize and Deserialize on an enum without #[serde(tag)]"
            }
            EventTypeError::Unwritable { .. } => {
                "every field must serialize, and deserialize from what was written"
            }
            EventTypeError::NoField { .. } => "name a field of the variant",
            EventTypeError::NotPersonal(_) => "set PERSONAL, so that nothing keeps a copy of these fields",
            EventTypeError::Name(_) | EventTypeError::Data(_) => return None,
        })
    }
}

/// Do the variants and the entries of `TYPES` agree?
pub(crate) fn check<E: Event>() -> Result<(), EventTypeError> {
    let Some(variants) = wire::variants::<E>() else {
        return if E::TYPES.len() == 1 { Ok(()) } else { Err(EventTypeError::NotAnEnum(E::TYPES.len())) };
    };
    for v in variants {
        if !E::TYPES.iter().any(|(ty, _)| ty == v) {
            return Err(EventTypeError::Undeclared { ty: (*v).to_owned(), declared: false });
        }
    }
    for (ty, _) in E::TYPES {
        if !variants.contains(ty) {
            return Err(EventTypeError::Undeclared { ty: (*ty).to_owned(), declared: true });
        }
    }
    Ok(())
}

/// A typed event as one to be appended.
pub(crate) fn new_event<E: Event>(e: &E, id: EventId, meta: &Meta) -> Result<NewEvent, EventTypeError> {
    check::<E>()?;
    let first = E::TYPES.first().map_or("", |(ty, _)| *ty);
    let (name, payload) = wire::write(e).map_err(|why| EventTypeError::Unwritable {
        ty: std::any::type_name::<E>().to_owned(),
        why: why.0,
    })?;
    let name = name.unwrap_or_else(|| first.to_owned());
    let Some((ty, schema)) = E::TYPES.iter().find(|(ty, _)| *ty == name) else {
        return Err(EventTypeError::Undeclared { ty: name, declared: false });
    };
    let personal = e.personal();
    if !personal.is_empty() && !E::PERSONAL {
        return Err(EventTypeError::NotPersonal(name));
    }
    let payload = seal_fields(ty, payload, personal)?;
    Ok(NewEvent {
        id,
        ty: EventType::new(ty)?,
        schema: *schema,
        data: Data::of(&payload)?,
        tags: e.tags().iter().map(Tag::new).collect::<Result<_, _>>()?,
        occurred_at: e.occurred_at(),
        meta: meta.clone(),
    })
}

fn seal_fields(
    ty: &str,
    payload: Value,
    fields: Vec<(&'static str, String)>,
) -> Result<Value, EventTypeError> {
    if fields.is_empty() {
        return Ok(payload);
    }
    let missing = |field| EventTypeError::NoField { ty: ty.to_owned(), field };
    let Value::Map(entries) = payload else { return Err(missing(fields[0].0)) };
    let mut entries = entries.to_vec();
    for (field, subject) in fields {
        let key = Value::keyword(field);
        match entries.iter_mut().find(|(k, _)| *k == key) {
            Some((_, v)) => *v = personal(&subject, v.clone()),
            None => return Err(missing(field)),
        }
    }
    Ok(Value::map(entries))
}

impl Recorded {
    /// The event as a Rust type.
    ///
    /// ```
    /// # use annals::event::{Append, Event, Version, StreamId};
    /// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    /// enum Door { Opened, Closed }
    /// impl Event for Door {
    ///     const TYPES: &'static [(&'static str, u32)] = &[("Opened", 1), ("Closed", 1)];
    /// }
    /// let conn = annals::in_memory()?;
    /// conn.append(Append::to("door-1").push(Door::Opened.to_new()?))?;
    /// let events = conn.db().events().stream(&StreamId::new("door-1")?, Version(1), 10)?;
    /// assert_eq!(events[0].read::<Door>()?, Door::Opened);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read<E: Event>(&self) -> Result<E, EventTypeError> {
        let (ty, at, schema) = (self.ty().to_owned(), self.position, self.event.schema);
        let Some((_, wanted)) = E::TYPES.iter().find(|(known, _)| *known == ty) else {
            return Err(EventTypeError::Unknown {
                ty,
                at,
                known: E::TYPES.iter().map(|(ty, _)| *ty).collect(),
            });
        };
        let wanted = *wanted;
        if schema < wanted {
            return Err(EventTypeError::NotUpcast { ty, at, schema, wanted });
        }
        if schema > wanted {
            return Err(EventTypeError::Newer { ty, at, schema, wanted });
        }
        wire::read(&ty, &self.event.data.value()?).map_err(|why| EventTypeError::Shape { ty, at, why: why.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Forgetful {
        A,
        B,
    }
    impl Event for Forgetful {
        const TYPES: &'static [(&'static str, u32)] = &[("A", 1)];
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Stale {
        A,
    }
    impl Event for Stale {
        const TYPES: &'static [(&'static str, u32)] = &[("A", 1), ("Gone", 1)];
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Single {
        n: i64,
    }
    impl Event for Single {
        const TYPES: &'static [(&'static str, u32)] = &[("Counted", 2)];
        const PERSONAL: bool = true;
        fn personal(&self) -> Vec<(&'static str, String)> {
            vec![("n", "person-1".into())]
        }
    }

    #[test]
    fn variants_and_types_must_agree_before_anything_is_written() {
        let e = Forgetful::A.to_new().unwrap_err();
        assert_eq!(e, EventTypeError::Undeclared { ty: "B".into(), declared: false });
        assert_eq!(e.to_string(), "B is a variant of the enum but not in TYPES");
        let e = Stale::A.to_new().unwrap_err();
        assert_eq!(e.to_string(), "Gone is in TYPES but no variant of the enum");
        assert!(e.help().unwrap().contains("rename"));
    }

    #[test]
    fn a_type_that_is_no_enum_is_one_event_and_its_personal_fields_are_marked() {
        let e = Single { n: 4 }.to_new().unwrap();
        assert_eq!((e.ty.as_str(), e.schema), ("Counted", 2));
        let n = e.data.field("n").unwrap().unwrap();
        assert_eq!(n, personal("person-1", 4));
    }
}
