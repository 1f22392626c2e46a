//! The domains of the tests of commands and processes: small ones, each with the rules
//! that its scenarios need.

pub mod bank;
pub mod guarded;
pub mod impure;
pub mod orders;
pub mod stock;
pub mod task;
