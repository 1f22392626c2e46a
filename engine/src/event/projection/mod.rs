//! Projections: facts made of events.
//!
//! [`language`] (EDN) or `code` (Rust) says what; [`facts`] turns it into datoms; `inline` does so
//! in the append's transaction, `batch` in one of its own, under the t of the event. `driver` keeps
//! async ones caught up. `register`, `steer`, `parked`, `skip` and `preview` look after versions;
//! `runtime` is one version at work; `support` says which events a fact rests on.

pub(crate) mod batch;
pub(crate) mod code;
pub(crate) mod driver;
pub(crate) mod error;
pub mod facts;
pub(crate) mod inline;
pub mod language;
pub(crate) mod parked;
pub(crate) mod preview;
pub(crate) mod register;
pub(crate) mod runtime;
pub(crate) mod skip;
pub(crate) mod steer;
pub(crate) mod support;

pub use code::{Before, Projection, ProjectionSpec};
pub(crate) use code::{Code, panic_text, schema_of};
