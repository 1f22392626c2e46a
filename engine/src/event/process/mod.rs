//! Processes: what is to be done because of events.
//!
//! `manager` takes events and sends commands; [`timer`] and `outbox` hold what is to be sent,
//! `send` carries it out; [`reactor`] acts outside of the database; `step` makes one step, `wants` knows
//! what was wanted before, [`runner`] runs them in threads, and `status` is what they report.

pub(crate) mod manager;
pub(crate) mod outbox;
pub mod reactor;
pub mod runner;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod step;
pub mod timer;
pub(crate) mod wants;

pub(crate) use manager::{AnyProcess, Fault, Work, checkpoint, checkpoint_key, guarded, instances};
pub use manager::{Out, Outgoing, ProcessError, ProcessManager, Route};
