//! Processes: what is to be done because of events.
//!
//! `manager` takes events and sends commands, `work` is what follows from it; `register` begins them; [`timer`] and `outbox` hold what is to be sent,
//! `send` carries it out; [`reactor`] acts outside of the database; `step` makes one step, `wants` knows
//! what was wanted before, [`runner`] runs them in threads, and `status` is what they report.

pub(crate) mod manager;
pub(crate) mod outbox;
pub(crate) mod queued;
pub mod reactor;
pub(crate) mod register;
pub mod runner;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod step;
pub mod timer;
pub(crate) mod wants;
pub(crate) mod work;

pub(crate) use manager::{AnyProcess, Fault, guarded};
pub use manager::{Out, Outgoing, ProcessManager, Route};
pub use register::ProcessError;
pub(crate) use register::{checkpoint, checkpoint_key};
pub(crate) use work::{Work, instances};
