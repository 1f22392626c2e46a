//! Part of `annals`; no stability promise of its own.
//!
//! Text to rows, over anything that implements [`source::Source`].

pub mod ast;
pub mod edn;
pub mod naive;
pub mod source;
