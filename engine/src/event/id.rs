//! The names and numbers of event sourcing.
//!
//! 1. [`Position`] counts events over all streams and [`Version`] those of one
//!    stream; both are dense and start at 1. Version 0 is a stream that does not exist.
//! 2. A [`StreamId`] is 1 to 400 bytes without control characters, so it can
//!    stand in a key before a zero byte.
//! 3. Ids that are made here from other ids ([`EventId::derived`]) are the same
//!    whenever they are made again: a retry stores nothing twice.

use annals_model::{EntityId, Partition};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// Longest name of a stream, event type or tag, in bytes.
pub const NAME_BYTES: usize = 400;

/// The namespace of ids derived from text that is not a UUID.
const TEXT_NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_6d3e_52a4_5b7e_9c1d_2f7a_4be0_11d7);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $sigil:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: $name = $name(0);
            /// The next one.
            pub const fn next(self) -> $name {
                $name(self.0 + 1)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($sigil, "{}"), self.0)
            }
        }
    };
}

number!(
    /// The number of an event over all streams: the axis of subscriptions.
    Position, "#"
);
number!(
    /// How many events a stream holds; the version of an event is the version
    /// its stream had right after it.
    Version, "v"
);

impl Position {
    /// The event as an entity.
    pub const fn entity(self) -> EntityId {
        EntityId::new(Partition::Event, self.0)
    }
    /// The position of an entity that is an event.
    pub fn of_entity(e: EntityId) -> Option<Position> {
        (e.partition() == Some(Partition::Event)).then(|| Position(e.counter()))
    }
}

/// A name was empty, too long, or held a control character.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not 1 to 400 bytes without control characters")]
pub struct BadName {
    /// What it was to name.
    pub what: &'static str,
    /// The text given.
    pub name: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and holds the name.
            pub fn new(text: impl AsRef<str>) -> Result<$name, BadName> {
                let text = text.as_ref();
                if text.is_empty() || text.len() > NAME_BYTES || text.chars().any(char::is_control) {
                    return Err(BadName { what: $what, name: text.chars().take(80).collect() });
                }
                Ok($name(Arc::from(text)))
            }
            /// A name read back from storage, where only checked ones are written.
            pub(crate) fn stored(text: impl Into<Arc<str>>) -> $name {
                $name(text.into())
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// The text, shared.
            pub(crate) fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = BadName;
            fn try_from(text: &str) -> Result<$name, BadName> {
                $name::new(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<$name, BadName> {
                $name::new(text)
            }
        }
        impl TryFrom<&String> for $name {
            type Error = BadName;
            fn try_from(text: &String) -> Result<$name, BadName> {
                $name::new(text)
            }
        }
        impl TryFrom<&$name> for $name {
            type Error = BadName;
            fn try_from(name: &$name) -> Result<$name, BadName> {
                Ok(name.clone())
            }
        }
    };
}

name!(
    /// The name of a stream: a category and an id, `order-A-1`.
    StreamId, "stream"
);
name!(
    /// The stable name of a kind of event, `OrderShipped`. Never a Rust type name.
    EventType, "event type"
);
name!(
    /// What an event is about, for conditions and filters: `username:ada`.
    Tag, "tag"
);

impl StreamId {
    /// What stands before the first `-`: the category of the aggregate.
    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&self.0, |(category, _)| category)
    }
    /// What stands after the first `-`; empty without one.
    pub fn key(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, key)| key)
    }
    /// The stream of one aggregate.
    pub fn of(category: &str, key: &str) -> Result<StreamId, BadName> {
        StreamId::new(format!("{category}-{key}"))
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new one, ordered by time.
            pub fn fresh() -> $name {
                $name(Uuid::now_v7())
            }
            /// From a UUID's text; other text gets a UUID made from it, the same each time.
            pub fn of_text(text: &str) -> $name {
                $name(Uuid::parse_str(text).unwrap_or_else(|_| Uuid::new_v5(&TEXT_NAMESPACE, text.as_bytes())))
            }
            /// The `n`-th id that follows from `from` for the purpose `label`.
            pub fn derived(from: Uuid, label: &str, n: u64) -> $name {
                $name(Uuid::new_v5(&from, format!("{label}/{n}").as_bytes()))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl From<Uuid> for $name {
            fn from(id: Uuid) -> $name {
                $name(id)
            }
        }
    };
}

uuid_id!(
    /// Identifies an event wherever it goes. Unique in a database.
    EventId
);
uuid_id!(
    /// Identifies a command. Sent twice, it is carried out once.
    CommandId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_streams_split_at_the_first_dash() {
        assert!(StreamId::new("").is_err());
        assert!(StreamId::new("a\0b").is_err());
        let s = StreamId::new("order-A-1").unwrap();
        assert_eq!((s.category(), s.key()), ("order", "A-1"));
        assert_eq!(StreamId::new("lone").unwrap().key(), "");
    }

    #[test]
    fn ids_made_from_the_same_text_are_the_same() {
        assert_eq!(EventId::of_text("commit-1"), EventId::of_text("commit-1"));
        assert_ne!(EventId::of_text("commit-1"), EventId::of_text("commit-2"));
        let id = EventId::fresh();
        assert_eq!(EventId::of_text(&id.to_string()), id);
        assert_eq!(CommandId::derived(id.0, "pm", 1), CommandId::derived(id.0, "pm", 1));
        assert_ne!(CommandId::derived(id.0, "pm", 1), CommandId::derived(id.0, "pm", 2));
    }
}
