//! EDN: text to values with their places, and back.
//!
//! All of EDN, and these additions: namespaced maps `#:ns{…}`, `##Inf`, quotes
//! `'form` (read as `(quote form)`), `#uri`, and `#bytes` with hexadecimal
//! digits. Left out on purpose: ratios and `##NaN`, which no value can hold.

mod atom;
mod form;
mod printer;
mod reader;
mod scan;
#[cfg(test)]
mod tests;

pub use atom::MAX_DIGITS;
pub use form::{Form, FormKind};
pub use printer::{print, print_pretty, write};
pub use reader::{read_all, read_all_with, read_one, read_value};

/// What the reader accepts at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of nesting; prefixes such as tags count.
    pub depth: usize,
    /// Bytes of text.
    pub bytes: usize,
    /// Complaints after which it stops.
    pub errors: usize,
}

/// Levels of nesting that a text may have, unless said otherwise.
pub const MAX_DEPTH: usize = 256;

impl Default for Limits {
    /// 256 levels, 256 MiB, 20 complaints.
    fn default() -> Limits {
        Limits { depth: MAX_DEPTH, bytes: 256 << 20, errors: 20 }
    }
}
