//! Personal values: sealed under the key of their subject, kept in a key ring, erased; and
//! `marks`, by which what processes make of them is sealed too.

pub(crate) mod erase;
pub(crate) mod keys;
pub(crate) mod marks;
pub(crate) mod redact;
pub mod seal;
