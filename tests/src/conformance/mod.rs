//! The runner of conformance cases: data files that say what a query, a pull or
//! a transaction must give. Everything goes through the public face of `annals`,
//! on a database in memory.
//!
//! What a case is, and when two answers are the same, is written in the README
//! beside the case files and, shorter, in `tests/cases/README.md`.

pub mod case;
pub mod compare;
pub mod run;

pub use case::Case;
pub use run::{Outcome, run};
