//! Planning: what a step would cost, and what steps were taken.
//!
//! There is no plan apart from the run: `eval::body` asks `estimate` at each
//! step and [`trace`] records what it did. `dry` takes the same steps on sizes
//! alone, to show what a run would do.

pub(crate) mod dry;
pub(crate) mod estimate;
pub mod trace;

pub use trace::{Plan, Step};
