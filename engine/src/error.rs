//! `annals::Error`: the union of the errors of each operation, for `?` in `main`.
//!
//! Programs branch on the variant and on [`Error::code`]; people read the
//! [`Diagnostic`]. [`Error::class`] says whose fault it is, exhaustively: the
//! shell's exit codes and the server's status table are built on it.

use crate::store::{Class, StorageError};
use crate::{BadTimePoint, TransactError};
use annals_model::{Diagnostic, Keyword, Value};
use annals_query::{
    error::{Fault, ParseErrors, QueryError},
    source::SourceError,
};
use std::{path::PathBuf, sync::Arc};

/// Whose fault an error is, and so what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request cannot be read.
    Syntax,
    /// The request can be read and makes no sense for this database.
    Meaning,
    /// The request lost against the state of the database: compare-and-swap, uniqueness.
    Conflict,
    /// The request used up its rows, facts or memory.
    Budget,
    /// The request's time ran out.
    Deadline,
    /// The caller stopped the request.
    Cancelled,
    /// Something asked for does not exist.
    NotFound,
    /// The environment: I/O, permissions, a full disk.
    Environment,
    /// Another process owns the database.
    Locked,
    /// Stored data is damaged or missing.
    Damaged,
    /// The files were written by a newer version.
    TooNew,
    /// Writing has stopped until the database is opened again.
    Poisoned,
}

/// A database could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none, and it was not to be created.
    #[error("no database at {}", path.display())]
    Missing {
        /// Where one was expected.
        path: PathBuf,
    },
    /// The store below refused.
    #[error(transparent)]
    Storage(#[from] Arc<StorageError>),
    /// Its schema cannot be read.
    #[error("the schema cannot be read: {0}")]
    Schema(Box<DbError>),
}

impl From<StorageError> for OpenError {
    fn from(e: StorageError) -> OpenError {
        OpenError::Storage(Arc::new(e))
    }
}

impl From<DbError> for OpenError {
    /// Reading the schema at open can only fail in storage.
    fn from(e: DbError) -> OpenError {
        match e {
            DbError::Storage(e) => OpenError::Storage(e),
            other => OpenError::Schema(Box::new(other)),
        }
    }
}

impl OpenError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            OpenError::Missing { .. } => "open/missing",
            OpenError::Storage(e) => e.code(),
            OpenError::Schema(_) => "open/schema",
        }
    }
    /// What to show.
    pub fn diagnostic(&self) -> Diagnostic {
        let d = Diagnostic::new(self.code(), self.to_string());
        match self {
            OpenError::Missing { .. } => d.help("check the path, or let the database be created"),
            OpenError::Storage(_) | OpenError::Schema(_) => d,
        }
    }
}

/// A question about the database could not be answered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// Not a point in time.
    #[error(transparent)]
    TimePoint(#[from] BadTimePoint),
    /// No such attribute.
    #[error("unknown attribute {attr}")]
    UnknownAttribute {
        /// As written.
        attr: Keyword,
        /// The likely intention.
        nearest: Option<Keyword>,
    },
    /// A lookup ref through an attribute that is not unique.
    #[error("{attr} is not unique, so [{attr} …] names no entity")]
    LookupNotUnique {
        /// The attribute.
        attr: Keyword,
    },
    /// The value has another type than the attribute.
    #[error("{attr} holds values of type {expected}, not {}", value.kind())]
    WrongType {
        /// The attribute.
        attr: Keyword,
        /// Name of its type.
        expected: &'static str,
        /// What was given.
        value: Value,
    },
    /// An entity named by ident or lookup ref that does not exist in this view.
    #[error("no entity {0:?} in this view")]
    UnknownEntity(Value),
    /// The index holds indexed and unique attributes only.
    #[error("{attr} is neither indexed nor unique, so AVET does not hold it")]
    NotIndexed {
        /// The attribute.
        attr: Keyword,
    },
    /// The operation has no meaning on a history view.
    #[error("{operation} has no meaning on a history view: it shows assertions and retractions, not facts")]
    History {
        /// What was asked.
        operation: &'static str,
    },
    /// The components given do not fit the index.
    #[error("{message}")]
    BadComponents {
        /// What is wrong.
        message: String,
    },
    /// The store below failed.
    #[error(transparent)]
    Storage(#[from] Arc<StorageError>),
    /// Reading for a query failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A stored event could not be read.
    #[error(transparent)]
    Event(#[from] crate::event::EventError),
}

impl From<StorageError> for DbError {
    fn from(e: StorageError) -> DbError {
        DbError::Storage(Arc::new(e))
    }
}

impl DbError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            DbError::TimePoint(_) => "db/bad-time",
            DbError::UnknownAttribute { .. } => "db/unknown-attribute",
            DbError::LookupNotUnique { .. } => "db/lookup-not-unique",
            DbError::WrongType { .. } => "db/wrong-type",
            DbError::UnknownEntity(_) => "db/unknown-entity",
            DbError::NotIndexed { .. } => "db/not-indexed",
            DbError::History { .. } => "db/history-view",
            DbError::BadComponents { .. } => "db/bad-components",
            DbError::Storage(e) => e.code(),
            DbError::Source(_) => "db/source",
            DbError::Event(e) => e.code(),
        }
    }
    /// Whose fault.
    pub fn class(&self) -> ErrorClass {
        match self {
            DbError::TimePoint(_) => ErrorClass::Syntax,
            DbError::UnknownAttribute { .. }
            | DbError::LookupNotUnique { .. }
            | DbError::WrongType { .. }
            | DbError::NotIndexed { .. }
            | DbError::History { .. }
            | DbError::BadComponents { .. } => ErrorClass::Meaning,
            DbError::UnknownEntity(_) => ErrorClass::NotFound,
            DbError::Storage(e) => storage_class(e),
            DbError::Source(_) => ErrorClass::Environment,
            DbError::Event(e) => e.class(),
        }
    }
    /// What to show.
    pub fn diagnostic(&self) -> Diagnostic {
        let d = Diagnostic::new(self.code(), self.to_string());
        match self {
            DbError::UnknownAttribute { nearest: Some(n), .. } => d.help(format!("did you mean {n}?")),
            DbError::NotIndexed { attr } => d.help(format!("install {{:db/id {attr} :db/index true}} first")),
            DbError::LookupNotUnique { attr } => d.help(format!(
                "install {{:db/id {attr} :db/unique :db.unique/identity}}, or find it by a query"
            )),
            _ => d,
        }
    }
}

/// Anything that can go wrong with a database.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Opening.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Transacting.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// Asking.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Querying and pulling.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Below everything.
    #[error(transparent)]
    Storage(#[from] Arc<StorageError>),
}

impl From<StorageError> for Error {
    fn from(e: StorageError) -> Error {
        Error::Storage(Arc::new(e))
    }
}
impl From<ParseErrors> for Error {
    fn from(e: ParseErrors) -> Error {
        Error::Query(QueryError::Parse(e))
    }
}
impl From<BadTimePoint> for Error {
    fn from(e: BadTimePoint) -> Error {
        Error::Db(DbError::TimePoint(e))
    }
}

impl Error {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Open(e) => e.code(),
            Error::Transact(e) => e.code(),
            Error::Db(e) => e.code(),
            Error::Query(e) => e.code(),
            Error::Storage(e) => e.code(),
        }
    }
    /// Whose fault.
    pub fn class(&self) -> ErrorClass {
        match self {
            Error::Open(OpenError::Missing { .. }) => ErrorClass::NotFound,
            Error::Open(OpenError::Storage(e)) | Error::Storage(e) => storage_class(e),
            Error::Open(OpenError::Schema(e)) => e.class(),
            Error::Transact(e) => e.class(),
            Error::Db(e) => e.class(),
            Error::Query(e) => query_class(e),
        }
    }
    /// What to show, the most telling complaint first.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            Error::Open(e) => vec![e.diagnostic()],
            Error::Transact(e) => e.diagnostics(),
            Error::Db(e) => vec![e.diagnostic()],
            Error::Query(e) => e.diagnostics(),
            Error::Storage(e) => vec![Diagnostic::new(e.code(), e.to_string())],
        }
    }
}

/// Whose fault a failed query is.
pub fn query_class(e: &QueryError) -> ErrorClass {
    match e.fault() {
        Fault::Syntax => ErrorClass::Syntax,
        Fault::Meaning => ErrorClass::Meaning,
        Fault::Budget => ErrorClass::Budget,
        Fault::Deadline => ErrorClass::Deadline,
        Fault::Cancelled => ErrorClass::Cancelled,
        Fault::Internal => ErrorClass::Environment,
    }
}

/// Whose fault an error of the store is.
pub(crate) fn storage_class(e: &StorageError) -> ErrorClass {
    match e {
        StorageError::Locked { .. } => ErrorClass::Locked,
        StorageError::NewerFormat { .. } => ErrorClass::TooNew,
        StorageError::Poisoned { .. } => ErrorClass::Poisoned,
        StorageError::NoDatabase { .. } => ErrorClass::NotFound,
        _ => match e.class() {
            Class::Caller => ErrorClass::Meaning,
            Class::Environment => ErrorClass::Environment,
            Class::Damage => ErrorClass::Damaged,
        },
    }
}
