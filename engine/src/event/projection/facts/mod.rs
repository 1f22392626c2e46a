//! From what a projection says to datoms: entities found or made, values
//! compared with what holds, provenance noted.
//!
//! 1. A projection writes only attributes it owns, so what it wrote last is
//!    what holds: `Cache` is exact, and saves reading the store per event.
//! 2. What is said of one event is applied in order, each line seeing those
//!    before; the datoms of a transaction are the difference between its
//!    beginning and its end, so nothing is both asserted and retracted in it.
//! 3. Anything refused leaves the cache as it was (`Cache::undo`).
//! 4. What others say is read as of the event's transaction: whoever runs late, or again,
//!    reads what the first run read.
//! 5. Support that cannot be read off the datom's t is noted as a row: a
//!    repeated assertion, or one of several events of a transaction.

mod cache;
mod error;
mod said;
mod target;

pub(crate) use cache::{Cache, Undo};
pub use error::ProjectError;
pub(crate) use said::is_erased;
pub use said::{FactOp, Facts, Object, Subject};
pub(crate) use target::{Binding, FactBase, Support, Target, Watched, is_identity};
