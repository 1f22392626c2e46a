//! Part of `annals`; no stability promise of its own.
//!
//! The log of facts, its indexes in LMDB, and the novelty between them.

mod backup;
mod checkpoint;
mod columns;
mod error;
mod excise;
mod fault;
mod folder;
mod index;
mod key;
mod kv;
mod log;
mod maintain;
mod novelty;
mod open;
mod pages;
mod read;
mod record;
mod scan;
mod store;
mod types;
mod verify;

pub use backup::BackupReport;
pub use error::{Class, Damage, StorageError};
pub use excise::{Excise, ExciseReport};
pub use fault::{Faults, FileOp};
pub use log::LogIter;
pub use maintain::{RebuildReport, StoreStats};
pub use scan::{Visit, VisitRow};
pub use store::Store;
pub use types::{At, Checkpoint, Durability, Hints, Prefix, ProbeOut, Record, Row, StoreOptions};
pub use verify::VerifyReport;

/// Longest log record.
pub const MAX_RECORD_BYTES: usize = 1 << 30;

/// The format of log, indexes and identity that this program writes.
pub const FORMAT: u32 = 1;
