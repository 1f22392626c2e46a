//! Planning: what a step would cost, and what steps were taken.
//!
//! There is no plan apart from the run: `eval::body` asks [`estimate`] at each
//! step and [`trace`] records what it did. `explain` shows either the steps a
//! run took, with actual rows and times, or those it would take by estimates.

pub(crate) mod estimate;
pub mod trace;
