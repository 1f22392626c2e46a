//! Keywords and symbols: `:ns/name` and `ns/name`, held as one shared string.
//!
//! Order is by namespace, then name; a name without a namespace comes first.

use std::{cmp::Ordering, fmt, sync::Arc};

/// Where the namespace ends, when there is one.
fn slash(text: &str) -> Option<usize> {
    let at = text.bytes().position(|b| b == b'/')?;
    (at > 0 && text.len() > 1).then_some(at)
}

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
                slash(&self.0).map(|i| &self.0[..i])
            }
            /// What stands after the slash.
            pub fn name(&self) -> &str {
                slash(&self.0).map_or(&self.0, |i| &self.0[i + 1..])
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
                match (slash(&self.0), slash(&other.0)) {
                    // With slashes in the same place, texts are ordered as their parts are.
                    (i, j) if i == j => self.0.cmp(&other.0),
                    (None, _) => Ordering::Less,
                    (_, None) => Ordering::Greater,
                    (Some(i), Some(j)) => self.0[..i].cmp(&other.0[..j]),
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_namespace_then_name() {
        let texts = [
            "", "/", "//", "a", "b", "/a", "a/", "a/b", "a/c", "a-b/a", "a.b/a", "aa/a", "b/a", "a/b/c", "ab",
        ];
        for x in texts.map(Keyword::new) {
            for y in texts.map(Keyword::new) {
                let parts = |k: &Keyword| (k.namespace().map(str::to_owned), k.name().to_owned());
                assert_eq!(x.cmp(&y), parts(&x).cmp(&parts(&y)), "{x} {y}");
            }
        }
    }
}
