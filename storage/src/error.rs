//! What can go wrong below the database, by name and with data.

use annals_model::{Datom, T, codec::CodecError};
use std::{io, path::PathBuf, sync::Arc};

/// A failure of storage. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another process, or this one, has the database open.
    #[error("the database {path} is in use{}", .pid.map(|p| format!(" by process {p}")).unwrap_or_default())]
    Locked {
        /// The database's folder.
        path: PathBuf,
        /// Who has it, when known.
        pid: Option<u32>,
    },
    /// Written by a later version of this program.
    #[error("{path} has format {found}; this program knows formats up to {known}")]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The folder holds something, but no database of ours.
    #[error("{path} is not a database")]
    NotADatabase {
        /// The folder, or the file in it that is wrong.
        path: PathBuf,
    },
    /// There is no database, and none was to be made.
    #[error("there is no database at {path}")]
    NoDatabase {
        /// The folder.
        path: PathBuf,
    },
    /// A part of the database is gone or empty.
    #[error("the database's file {path} is missing or empty")]
    Missing {
        /// What is gone.
        path: PathBuf,
    },
    /// A file belongs to another database.
    #[error("{path} belongs to another database")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A log record is damaged, and it is not the torn end of the log.
    #[error("log record {t} at byte {offset} of {segment} is damaged: {problem}")]
    BadRecord {
        /// The segment file.
        segment: PathBuf,
        /// Where the record begins.
        offset: u64,
        /// Which record it should be.
        t: T,
        /// What is wrong with it.
        problem: Damage,
    },
    /// A log segment's header is damaged, or a segment is missing.
    #[error("log segment {segment} is damaged: {problem}")]
    BadSegment {
        /// The segment file.
        segment: PathBuf,
        /// What is wrong with it.
        problem: Damage,
    },
    /// The indexes hold bytes they cannot hold. Rebuild them from the log.
    #[error("the indexes are damaged ({problem}); rebuild them from the log")]
    BadIndex {
        /// What is wrong.
        problem: Damage,
    },
    /// A row of the indexes is not what a fold of the log says.
    #[error("tree {tree}: row {row} {}", if *.missing { "is missing" } else { "should not be there, or not so" })]
    IndexDiffers {
        /// Which tree.
        tree: &'static str,
        /// The row's key in hexadecimal, or what it is.
        row: String,
        /// The log has it and the index has not.
        missing: bool,
    },
    /// The indexes know more than the log holds: the log lost its end.
    #[error("the log ends at t {log}, but t {indexed} had been written")]
    LogShort {
        /// Last record of the log.
        log: T,
        /// Last record known elsewhere.
        indexed: T,
    },
    /// An earlier write failed in a way that leaves the file's state unknown.
    #[error("writing is refused since an earlier failure ({because}); reopen the database")]
    Poisoned {
        /// The failure.
        because: Arc<StorageError>,
    },
    /// A background checkpoint fails and novelty has reached its limit.
    #[error("moving facts into the indexes fails ({because})")]
    CheckpointFailed {
        /// The failure.
        because: Arc<StorageError>,
    },
    /// An operating system call failed.
    #[error("cannot {op} {path}: {error}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: Arc<io::Error>,
    },
    /// The disk is full.
    #[error("the disk is full: cannot {op} {path}")]
    DiskFull {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The indexes have reached the size they were opened with.
    #[error("the indexes fill their map of {map_size_bytes} bytes; open with a larger one")]
    MapFull {
        /// The size.
        map_size_bytes: usize,
    },
    /// More readers at once than the indexes have slots for.
    #[error("too many readers at once")]
    TooManyReaders,
    /// LMDB failed in another way.
    #[error("the indexes failed: {message} ({code})")]
    Lmdb {
        /// Its error number.
        code: i32,
        /// Its message.
        message: String,
    },
    /// The folder cannot be written.
    #[error("the folder {path} cannot be written; open it read-only")]
    ReadOnlyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The store was opened read-only.
    #[error("the database was opened read-only")]
    ReadOnly,
    /// The operation needs files, and this database is in memory.
    #[error("a database in memory has no files to {op}")]
    InMemory {
        /// What was asked for.
        op: &'static str,
    },
    /// The record does not follow the last one.
    #[error("record {t} offered where {expected} is next")]
    OutOfOrder {
        /// The number offered.
        t: T,
        /// The number expected.
        expected: T,
    },
    /// The record's instant is before the last one's.
    #[error("the instant of record {t} is before that of the record before")]
    ClockBack {
        /// The record.
        t: T,
    },
    /// A retraction of a fact that does not hold.
    #[error("record {t} retracts what does not hold: {datom:?}")]
    RetractsNothing {
        /// The record.
        t: T,
        /// The retraction.
        datom: Box<Datom>,
    },
    /// A fact asserted twice under one transaction, or filed under a later one.
    #[error("record {t} cannot assert {datom:?}")]
    BadDatom {
        /// The record.
        t: T,
        /// The assertion.
        datom: Box<Datom>,
    },
    /// Over the limit of one log record, [`crate::MAX_RECORD_BYTES`].
    #[error("record {t} is {bytes} bytes long")]
    RecordTooLarge {
        /// The record.
        t: T,
        /// Its size.
        bytes: usize,
    },
    /// A side row's key is over [`crate::Row::MAX_KEY`].
    #[error("a side row's key is {bytes} bytes long")]
    RowKeyTooLong {
        /// Its size.
        bytes: usize,
    },
    /// A t past the newest one.
    #[error("t {t} is past the newest, {newest}")]
    UnknownT {
        /// What was asked for.
        t: T,
        /// The newest there is.
        newest: T,
    },
    /// The destination of a backup or restore is in the way.
    #[error("{path} is not empty")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
}

/// What is wrong with damaged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// They end too soon.
    #[error("it ends too soon")]
    Short,
    /// The checksum is not theirs.
    #[error("its checksum does not match")]
    Checksum,
    /// They do not continue the hash chain.
    #[error("it does not continue the hash chain")]
    Chain,
    /// A number in them is not the one that belongs there.
    #[error("it holds t {found}")]
    WrongT {
        /// The number found.
        found: T,
    },
    /// A value in them is none.
    #[error("{0}")]
    Value(#[from] CodecError),
    /// They are not laid out as they should be.
    #[error("{0}")]
    Layout(&'static str),
    /// Something they refer to is not there.
    #[error("a long value is missing")]
    MissingBlob,
    /// A segment between two others is gone.
    #[error("the segment before it ends at t {before}")]
    Gap {
        /// Last record of the segment before.
        before: T,
    },
}

/// What a program can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The caller asked for what cannot be.
    Caller,
    /// It may work later or elsewhere: locks, full disks, permissions.
    Environment,
    /// Stored bytes are not what was written.
    Damage,
}

impl StorageError {
    /// The stable code, listed in docs/errors.md.
    pub fn code(&self) -> &'static str {
        use StorageError::*;
        match self {
            Locked { .. } => "storage/locked",
            NewerFormat { .. } => "storage/newer-format",
            NotADatabase { .. } => "storage/not-a-database",
            NoDatabase { .. } => "storage/no-database",
            Missing { .. } => "storage/missing-file",
            Foreign { .. } => "storage/foreign-file",
            BadRecord { .. } => "storage/bad-record",
            BadSegment { .. } => "storage/bad-segment",
            BadIndex { .. } => "storage/bad-index",
            IndexDiffers { .. } => "storage/index-differs",
            LogShort { .. } => "storage/log-short",
            Poisoned { .. } => "storage/poisoned",
            CheckpointFailed { .. } => "storage/checkpoint-failed",
            Io { .. } => "storage/io",
            DiskFull { .. } => "storage/disk-full",
            MapFull { .. } => "storage/map-full",
            TooManyReaders => "storage/too-many-readers",
            Lmdb { .. } => "storage/lmdb",
            ReadOnlyFolder { .. } => "storage/read-only-folder",
            ReadOnly => "storage/read-only",
            InMemory { .. } => "storage/in-memory",
            OutOfOrder { .. } => "storage/out-of-order",
            ClockBack { .. } => "storage/clock-back",
            RetractsNothing { .. } => "storage/retracts-nothing",
            BadDatom { .. } => "storage/bad-datom",
            RecordTooLarge { .. } => "storage/record-too-large",
            RowKeyTooLong { .. } => "storage/row-key-too-long",
            UnknownT { .. } => "storage/unknown-t",
            NotEmpty { .. } => "storage/not-empty",
        }
    }

    /// What a program can do about it.
    pub fn class(&self) -> Class {
        use StorageError::*;
        match self {
            NoDatabase { .. }
            | ReadOnly
            | InMemory { .. }
            | OutOfOrder { .. }
            | ClockBack { .. }
            | RetractsNothing { .. }
            | BadDatom { .. }
            | RecordTooLarge { .. }
            | RowKeyTooLong { .. }
            | UnknownT { .. }
            | NotEmpty { .. } => Class::Caller,
            Locked { .. }
            | NewerFormat { .. }
            | Poisoned { .. }
            | CheckpointFailed { .. }
            | Io { .. }
            | DiskFull { .. }
            | MapFull { .. }
            | TooManyReaders
            | Lmdb { .. }
            | ReadOnlyFolder { .. } => Class::Environment,
            NotADatabase { .. }
            | Missing { .. }
            | Foreign { .. }
            | BadRecord { .. }
            | BadSegment { .. }
            | BadIndex { .. }
            | IndexDiffers { .. }
            | LogShort { .. } => Class::Damage,
        }
    }

    /// Names an I/O failure: full disks and unwritable folders have names of their own.
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, error: io::Error) -> StorageError {
        let path = path.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::DiskFull { op, path },
            io::ErrorKind::ReadOnlyFilesystem => StorageError::ReadOnlyFolder { path },
            _ => StorageError::Io { op, path, error: Arc::new(error) },
        }
    }

    pub(crate) fn index(problem: impl Into<Damage>) -> StorageError {
        StorageError::BadIndex { problem: problem.into() }
    }
}

pub(crate) type Res<A> = Result<A, StorageError>;
