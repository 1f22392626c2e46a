//! What crosses crates: generators, the model of transactions, the runner of
//! conformance cases. The tests themselves are in `tests/`.

pub mod checker;
pub mod conformance;
pub mod domain;
pub mod generate;
pub mod txmodel;
