//! The one door to `annals-storage`: everything here names it through this file.

pub(crate) use annals_storage::{At, Class, Hints, LogIter, Prefix, ProbeOut, Store};
pub use annals_storage::{
    BackupReport, Checkpoint, Durability, Excise, Faults, FileOp, RebuildReport, Record, Row, StorageError,
    StoreOptions, StoreStats, VerifyOptions, VerifyProgress, VerifyReport,
};
