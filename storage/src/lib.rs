//! Part of `annals`; no stability promise of its own.
//!
//! The log of facts, its indexes in LMDB, and the novelty between them.
//!
//! ```text
//! Record ─▶ Store::stage ─▶ novelty (visible to a basis that includes it)
//!             Store::flush ─▶ log: one write, one sync ─▶ published
//!                               background checkpoint ─▶ LMDB, in large sorted batches
//! read at (basis, view) = LMDB snapshot + novelty, opened and closed within one call
//! ```
//!
//! Modules in reading order: `types`, `error`, `record`, `segment`, `tail`, `log`, `key`, `novelty`,
//! `read`, `rows`, `side`, `scan`, `columns`, `kv`, `index`, `counts`, `store`, `checkpoint`, `folder`, `open`;
//! then `pages` and `verify`, `maintain`, `backup`, `excise`; `fault` for tests.
//!
//! **Invariant:** knows no schema and no queries. What the schema promises comes
//! in as [`Hints`], and no answer depends on them.
//! **Invariant:** LMDB is named in `kv` alone.
//!
//! ```
//! use annals_model::{AttrId, Datom, EntityId, Instant, Partition, T};
//! use annals_storage::{At, Prefix, Record, Store, StoreOptions};
//!
//! # fn main() -> Result<(), annals_storage::StorageError> {
//! let genesis = Record { t: T(0), instant: Instant(0), datoms: vec![], rows: vec![] };
//! let store = Store::in_memory(StoreOptions::default(), genesis)?;
//! let e = EntityId::new(Partition::User, 1);
//! let fact = Datom { e, a: AttrId::new(64), v: "Ada".into(), t: T(1), added: true };
//! store.stage(Record { t: T(1), instant: Instant(1), datoms: vec![fact], rows: vec![] })?;
//! assert_eq!(store.basis(), T(0));
//! store.flush()?;
//! assert_eq!(store.count(At::now(store.basis()), &Prefix::E(e))?, 1);
//! assert_eq!(store.count(At::now(T(0)), &Prefix::E(e))?, 0);
//! # Ok(())
//! # }
//! ```

mod backup;
mod cells;
mod checkpoint;
mod columns;
mod counts;
mod error;
mod excise;
mod fault;
mod folder;
mod held;
mod index;
mod key;
mod kv;
mod log;
mod lower;
mod maintain;
mod novelty;
mod open;
mod pages;
mod read;
mod record;
mod rows;
mod scan;
mod segment;
mod side;
mod starts;
mod store;
mod tail;
mod types;
mod verify;

pub use backup::BackupReport;
pub use error::{Class, Damage, StorageError};
pub use excise::{Excise, ExciseReport};
pub use fault::{Faults, FileOp};
pub use log::LogIter;
pub use maintain::{RebuildReport, StoreStats};
pub use scan::{Visit, VisitCells, VisitRow};
pub use store::Store;
pub use types::{At, Checkpoint, Durability, Hints, Prefix, ProbeOut, Record, Row, StoreOptions};
pub use verify::{VerifyOptions, VerifyProgress, VerifyReport};

/// Longest log record.
pub const MAX_RECORD_BYTES: usize = 1 << 30;

/// The format of log, indexes and identity that this program writes.
pub const FORMAT: u32 = 1;
