//! Why a projection could not be registered, steered, rebuilt or replayed.

use crate::event::{batch::BatchError, id::Position, runtime::Runtime};
use crate::{DbError, TransactError};
use annals_model::{Diagnostic, Keyword};
use std::sync::Arc;

/// A projection could not be registered or steered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// Its text is wrong.
    #[error("the projection is malformed: {}", .0.first().map(|d| d.message.as_str()).unwrap_or_default())]
    Malformed(Vec<Diagnostic>),
    /// This version is stored with another definition.
    #[error("projection {name} version {version} is stored with another definition")]
    VersionTaken {
        /// Its name.
        name: Keyword,
        /// Its version.
        version: u32,
    },
    /// A later version is live.
    #[error("projection {name} is at version {live}; version {version} is older")]
    VersionOld {
        /// Its name.
        name: Keyword,
        /// The version given.
        version: u32,
        /// The version that answers.
        live: u32,
    },
    /// An inline projection is to park events it cannot take.
    #[error("projection {0} is inline and cannot park: an append whose event it cannot take is refused")]
    InlineParks(Keyword),
    /// An attribute belongs to somebody else.
    #[error("{attr} belongs to {owner}: an attribute belongs to one projection")]
    Owned {
        /// The attribute.
        attr: Keyword,
        /// Whose it is.
        owner: String,
    },
    /// There is no such projection.
    #[error("there is no projection {0}")]
    Unknown(Keyword),
    /// It is written in Rust, and this process has not registered it.
    #[error("projection {0} is written in Rust and not registered in this process: register it first")]
    NotRegistered(Keyword),
    /// An event could not be taken.
    #[error("projection {name} stopped at event {at}: {why}")]
    Poison {
        /// Its name.
        name: Keyword,
        /// The event.
        at: Position,
        /// What was wrong.
        why: String,
    },
    /// Facts that a parked event is about have changed since.
    #[error(
        "event {at} cannot be replayed in place: {attr}, which it reads or writes, has changed since; rebuild projection {name} instead"
    )]
    Entangled {
        /// The projection.
        name: Keyword,
        /// The parked event.
        at: Position,
        /// The attribute.
        attr: Keyword,
    },
    /// Nothing is stored at a position.
    #[error("there is no event at position {at}; the newest is {head}")]
    NoEvent {
        /// The position given.
        at: Position,
        /// The newest position.
        head: Position,
    },
    /// Whoever asked for a preview went away.
    #[error("somebody stopped the preview")]
    Cancelled,
    /// A preview would hold more facts than it may.
    #[error("the projection says more than {max_facts} facts, which is what a preview may hold")]
    TooLarge {
        /// What it may hold.
        max_facts: u64,
    },
    /// The system gave no thread for the runner.
    #[error("no thread for the runner of projections: {0}")]
    NoThread(Arc<std::io::Error>),
    /// A transaction that goes with it was refused.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// The database could not be read.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl ProjectionError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ProjectionError::Malformed(all) => all.first().map_or("projection/malformed", |d| d.code),
            ProjectionError::VersionTaken { .. } => "projection/version-taken",
            ProjectionError::VersionOld { .. } => "projection/version-old",
            ProjectionError::InlineParks(_) => "projection/inline-parks",
            ProjectionError::Owned { .. } => "projection/owned",
            ProjectionError::Unknown(_) => "projection/unknown",
            ProjectionError::NotRegistered(_) => "projection/not-registered",
            ProjectionError::Poison { .. } => "projection/poison",
            ProjectionError::Entangled { .. } => "projection/entangled",
            ProjectionError::NoEvent { .. } => "projection/no-event",
            ProjectionError::Cancelled => "projection/cancelled",
            ProjectionError::TooLarge { .. } => "projection/too-large",
            ProjectionError::NoThread(_) => "projection/no-thread",
            ProjectionError::Transact(e) => e.code(),
            ProjectionError::Db(e) => e.code(),
        }
    }

    /// Why a version did not take a batch.
    pub(crate) fn of_batch(r: &Runtime, e: BatchError) -> ProjectionError {
        match e {
            BatchError::Poison(p) => ProjectionError::Poison { name: r.name.clone(), at: p.at, why: p.why },
            BatchError::Db(e) => e.into(),
            BatchError::Transact(e) => e.into(),
        }
    }
}

impl From<crate::event::data::DataError> for ProjectionError {
    fn from(e: crate::event::data::DataError) -> ProjectionError {
        ProjectionError::Db(e.into())
    }
}
