//! Part of `annals`; no stability promise of its own.
//!
//! The log and its indexes.

mod columns;
mod error;
mod key;
mod kv;
mod log;
mod novelty;
mod read;
mod scan;
mod store;
mod types;

pub use error::{Class, Damage, StorageError};
pub use log::LogIter;
pub use scan::Visit;
pub use store::Store;
pub use types::{At, Checkpoint, Durability, Prefix, ProbeOut, Record, Row, StoreOptions};

/// Longest log record.
pub const MAX_RECORD_BYTES: usize = 1 << 30;
