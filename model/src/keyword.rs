//! Keywords and symbols: `:ns/name` and `ns/name`, held as one shared string.
//!
//! Order is by namespace, then name; a name without a namespace comes first.

use std::{cmp::Ordering, fmt, sync::Arc};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $sigil:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// From its text without the sigil: `"person/name"`.
            pub fn new(text: impl AsRef<str>) -> Self {
                $name(Arc::from(text.as_ref()))
            }
            /// The text without the sigil.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// What stands before the slash. The name `/` itself has none.
            pub fn namespace(&self) -> Option<&str> {
                match self.0.find('/') {
                    Some(i) if i > 0 && self.0.len() > 1 => Some(&self.0[..i]),
                    _ => None,
                }
            }
            /// What stands after the slash.
            pub fn name(&self) -> &str {
                match self.0.find('/') {
                    Some(i) if i > 0 && self.0.len() > 1 => &self.0[i + 1..],
                    _ => &self.0,
                }
            }
            /// From namespace and name.
            pub fn from_parts(namespace: Option<&str>, name: &str) -> Self {
                match namespace {
                    Some(ns) => $name(Arc::from(format!("{ns}/{name}"))),
                    None => $name(Arc::from(name)),
                }
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                (self.namespace(), self.name()).cmp(&(other.namespace(), other.name()))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($sigil, "{}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

named!(
    /// `:order/status`.
    Keyword, ":"
);
named!(
    /// `db.fn/cas`, `?x`, `count`.
    Symbol, ""
);
