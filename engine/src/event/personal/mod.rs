//! Personal values: sealed under the key of their subject, kept in a key ring, erased; `marks`, by
//! which what processes make of them is sealed too; and texts that were stored without a mark (`clear`).

pub(crate) mod clear;
pub(crate) mod erase;
pub(crate) mod keys;
pub(crate) mod marks;
pub(crate) mod redact;
pub mod seal;
