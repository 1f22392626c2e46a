//! Part of `annals`; no stability promise of its own.
//!
//! The log of facts, its indexes in LMDB, and the novelty between them.

mod checkpoint;
mod columns;
mod error;
mod fault;
mod folder;
mod index;
mod key;
mod kv;
mod log;
mod novelty;
mod open;
mod read;
mod record;
mod scan;
mod store;
mod types;

pub use error::{Class, Damage, StorageError};
pub use fault::{Faults, FileOp};
pub use log::LogIter;
pub use scan::Visit;
pub use store::Store;
pub use types::{At, Checkpoint, Durability, Prefix, ProbeOut, Record, Row, StoreOptions};

/// Longest log record.
pub const MAX_RECORD_BYTES: usize = 1 << 30;

/// The format of log, indexes and identity that this program writes.
pub const FORMAT: u32 = 1;
