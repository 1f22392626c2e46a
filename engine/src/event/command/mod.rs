//! Commands: decided on what the events say, carried out once.
//!
//! [`event_type`] and `wire` make data of Rust enums; [`aggregate`] folds, [`decision`] reads;
//! [`repository`] loads (with `snapshot`), [`state`] does so over facts. `request` is a command and
//! its outcome as stored; [`dispatch`] carries it out; `door` takes those that come as data.
//! [`fixture`] tests all this without files.

pub mod aggregate;
pub mod decision;
pub mod dispatch;
pub(crate) mod dispatch_error;
pub(crate) mod domain;
pub(crate) mod door;
pub mod event_type;
pub mod fixture;
pub(crate) mod outcomes;
pub(crate) mod refusal;
pub mod repository;
pub(crate) mod request;
pub(crate) mod snapshot;
pub mod state;
pub(crate) mod wire;
pub(crate) mod wire_name;

pub(crate) use request::nothing;
pub use request::{CommandOutcome, CommandStatus, CommandTo, Dispatch, Retry, WaitFor};
