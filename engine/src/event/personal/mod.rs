//! Personal values: sealed under the key of their subject, kept in a key ring, erased.

pub(crate) mod erase;
pub(crate) mod keys;
pub mod seal;
