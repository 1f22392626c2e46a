//! Why a command was not carried out.
//!
//! 1. Every variant has a code; of a refusal it is the rule's own.
//! 2. The class says whose fault it is: a refusal is the request's meaning, an overtaken
//!    command is a conflict, a process that cannot be told is the environment.

use crate::event::{
    aggregate::LoadError,
    append::AppendError,
    data::DataError,
    decision::ReadError,
    event_type::EventTypeError,
    id::{CommandId, StreamId, Version},
    refusal::{Refusal, UNHEARD, Unheard},
};
use crate::{DbError, ErrorClass};
use annals_model::{Diagnostic, Instant, Keyword};

/// A command was not carried out. `E` is the error of its rules.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError<E> {
    /// A rule of the domain refused it.
    #[error("{error}")]
    Rejected {
        /// What the rule said.
        error: E,
        /// Its stable code.
        code: String,
        /// It was refused before, and this is the stored answer.
        replayed: bool,
    },
    /// A rule refused it before, with an error that this program cannot read any more.
    #[error("{}", .0.message)]
    RejectedBefore(Refusal),
    /// The stream is not at the version the user saw.
    #[error("stream {stream} is at version {actual}, expected {expected}")]
    WrongVersion {
        /// The stream.
        stream: StreamId,
        /// The version the command is held to.
        expected: Version,
        /// What it is.
        actual: Version,
    },
    /// Others were faster each time.
    #[error("given up after {attempts} attempts, each overtaken by another writer; the last: {last}")]
    TooManyConflicts {
        /// How often it was tried.
        attempts: u32,
        /// The last conflict.
        last: Box<AppendError>,
    },
    /// The command id is stored with another request.
    #[error("command {id} was used for another request")]
    Reused {
        /// The command.
        id: CommandId,
    },
    /// The command was carried out or refused, and its outcome was kept only until then.
    #[error("what came of command {id} was kept until {until}")]
    Forgotten {
        /// The command.
        id: CommandId,
        /// The end of that time.
        until: Instant,
    },
    /// Another thread is carrying it out, and has been for a while.
    #[error("command {id} is being carried out")]
    InFlight {
        /// The command.
        id: CommandId,
    },
    /// It was to wait for a projection that there is not. Nothing was decided.
    #[error("there is no projection {name} to wait for")]
    UnknownProjection {
        /// The name.
        name: Keyword,
    },
    /// Nobody handles commands of this category.
    #[error("no handler for category {category}; there {}", known_text(known))]
    UnknownCategory {
        /// The category asked for.
        category: String,
        /// Those that have one.
        known: Vec<String>,
    },
    /// The category has two handlers.
    #[error("category {category} has a handler already")]
    CategoryTwice {
        /// The category.
        category: &'static str,
    },
    /// The category knows no such command.
    #[error("{category} knows no command {ty}; it knows {}", known.join(", "))]
    UnknownCommand {
        /// The category.
        category: String,
        /// The command asked for.
        ty: String,
        /// Those it knows.
        known: Vec<String>,
    },
    /// The payload does not fit the command.
    #[error("the payload of {category}/{ty} does not fit: {why}")]
    BadPayload {
        /// The category.
        category: String,
        /// The command.
        ty: String,
        /// What does not fit.
        why: String,
    },
    /// The rule panicked.
    #[error("the rule for {command} of {about} panicked: {message}")]
    Panicked {
        /// The stream, or the name of the decision.
        about: String,
        /// The command's type.
        command: String,
        /// What the panic said.
        message: String,
    },
    /// It is refused, and the process manager that sent it cannot be told yet. Nothing is
    /// stored: it stays in the queue.
    #[error("the refusal cannot be told to process {process}, which sent the command: {why}")]
    Unheard {
        /// The process.
        process: String,
        /// What is wrong with it.
        why: String,
    },
    /// The state could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The rule read something that could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event of the rule cannot be stored.
    #[error(transparent)]
    Event(#[from] EventTypeError),
    /// The command or the refusal cannot be stored.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The append was refused.
    #[error(transparent)]
    Append(AppendError),
}

/// A command of the untyped door was not carried out.
pub type CommandError = DispatchError<Refusal>;

fn known_text(known: &[String]) -> String {
    match known {
        [] => "are none registered".into(),
        known => format!("are {}", known.join(", ")),
    }
}

impl<E> From<AppendError> for DispatchError<E> {
    fn from(e: AppendError) -> DispatchError<E> {
        match e {
            AppendError::CommandReused { id } => DispatchError::Reused { id },
            e => DispatchError::Append(e),
        }
    }
}
impl<E> From<DbError> for DispatchError<E> {
    fn from(e: DbError) -> DispatchError<E> {
        DispatchError::Append(AppendError::Db(e))
    }
}

impl<E> DispatchError<E> {
    /// Stable code; of a refusal, that of the rule.
    pub fn code(&self) -> &str {
        match self {
            DispatchError::Rejected { code, .. } => code,
            DispatchError::RejectedBefore(r) => &r.code,
            _ => self.known_code(),
        }
    }
    /// The same, but for refusals, whose codes the domain makes up.
    fn known_code(&self) -> &'static str {
        match self {
            DispatchError::Rejected { .. } | DispatchError::RejectedBefore(_) => "command/rejected",
            DispatchError::WrongVersion { .. } => "command/wrong-version",
            DispatchError::TooManyConflicts { .. } => "command/too-many-conflicts",
            DispatchError::Reused { .. } => "event/command-reused",
            DispatchError::Forgotten { .. } => "command/forgotten",
            DispatchError::InFlight { .. } => "command/running",
            DispatchError::UnknownProjection { .. } => "projection/unknown",
            DispatchError::UnknownCategory { .. } => "command/unknown-category",
            DispatchError::CategoryTwice { .. } => "command/category-twice",
            DispatchError::UnknownCommand { .. } => "command/unknown-type",
            DispatchError::BadPayload { .. } => "command/bad-payload",
            DispatchError::Panicked { .. } => "command/panicked",
            DispatchError::Unheard { .. } => UNHEARD,
            DispatchError::Load(e) => e.code(),
            DispatchError::Read(e) => e.code(),
            DispatchError::Event(e) => e.code(),
            DispatchError::Data(_) => "event/bad-data",
            DispatchError::Append(e) => e.code(),
        }
    }
    /// Whose fault.
    pub fn class(&self) -> ErrorClass {
        match self {
            DispatchError::Rejected { .. }
            | DispatchError::RejectedBefore(_)
            | DispatchError::UnknownCommand { .. }
            | DispatchError::CategoryTwice { .. }
            | DispatchError::BadPayload { .. }
            | DispatchError::Reused { .. }
            | DispatchError::Data(_)
            | DispatchError::Event(_) => ErrorClass::Meaning,
            DispatchError::WrongVersion { .. }
            | DispatchError::TooManyConflicts { .. }
            | DispatchError::InFlight { .. } => ErrorClass::Conflict,
            DispatchError::Forgotten { .. }
            | DispatchError::UnknownProjection { .. }
            | DispatchError::UnknownCategory { .. } => ErrorClass::NotFound,
            DispatchError::Panicked { .. } | DispatchError::Unheard { .. } => ErrorClass::Environment,
            DispatchError::Load(e) => e.class(),
            DispatchError::Read(ReadError::Query(e)) => crate::query_class(e),
            DispatchError::Read(ReadError::Db(e)) => e.class(),
            DispatchError::Read(ReadError::OtherDatabase) => ErrorClass::Meaning,
            DispatchError::Append(e) => e.class(),
        }
    }
    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            DispatchError::WrongVersion { .. } => "show the user the present state, and ask again",
            DispatchError::TooManyConflicts { .. } => {
                "send it again; if this happens often, the boundary is drawn too wide"
            }
            DispatchError::Reused { .. } => "a command id names one request: use a new id",
            DispatchError::Forgotten { .. } => {
                "look at the state: it was decided, and is not decided again under this id"
            }
            DispatchError::InFlight { .. } => "ask for its status, or send it again under the same id later",
            DispatchError::UnknownProjection { .. } => {
                "wait for one of those that Connection::projections lists"
            }
            DispatchError::UnknownCategory { .. } => {
                "register its aggregate with Connection::register_commands, in the program that serves the database"
            }
            DispatchError::CategoryTwice { .. } => "register an aggregate once for each connection",
            DispatchError::UnknownCommand { .. } => {
                "use one of the names listed, as serde names the variants"
            }
            DispatchError::BadPayload { .. } => "send the fields of the command's variant",
            DispatchError::Panicked { .. } => "correct the rule; nothing was stored",
            DispatchError::Unheard { .. } => {
                "register the process or resume it, or drop the command with Connection::drop_command"
            }
            DispatchError::Load(e) => return e.help(),
            DispatchError::Event(e) => return e.help(),
            DispatchError::Append(e) => return e.help(),
            DispatchError::Rejected { .. }
            | DispatchError::RejectedBefore(_)
            | DispatchError::Read(_)
            | DispatchError::Data(_) => return None,
        })
    }
    /// What the rule said, if it was a rule that refused.
    pub fn rejection(&self) -> Option<&E> {
        match self {
            DispatchError::Rejected { error, .. } => Some(error),
            _ => None,
        }
    }
    /// The same with the rule's error turned into another.
    pub(crate) fn map<F>(self, f: impl FnOnce(E, &str) -> F) -> DispatchError<F> {
        use DispatchError as D;
        match self {
            D::Rejected { error, code, replayed } => D::Rejected { error: f(error, &code), code, replayed },
            D::RejectedBefore(r) => D::RejectedBefore(r),
            D::WrongVersion { stream, expected, actual } => D::WrongVersion { stream, expected, actual },
            D::TooManyConflicts { attempts, last } => D::TooManyConflicts { attempts, last },
            D::Reused { id } => D::Reused { id },
            D::Forgotten { id, until } => D::Forgotten { id, until },
            D::InFlight { id } => D::InFlight { id },
            D::UnknownProjection { name } => D::UnknownProjection { name },
            D::UnknownCategory { category, known } => D::UnknownCategory { category, known },
            D::CategoryTwice { category } => D::CategoryTwice { category },
            D::UnknownCommand { category, ty, known } => D::UnknownCommand { category, ty, known },
            D::BadPayload { category, ty, why } => D::BadPayload { category, ty, why },
            D::Panicked { about, command, message } => D::Panicked { about, command, message },
            D::Unheard { process, why } => D::Unheard { process, why },
            D::Load(e) => D::Load(e),
            D::Read(e) => D::Read(e),
            D::Event(e) => D::Event(e),
            D::Data(e) => D::Data(e),
            D::Append(e) => D::Append(e),
        }
    }
}

impl<E: std::fmt::Display> DispatchError<E> {
    /// What to show.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            DispatchError::Append(e) => return e.diagnostics(),
            DispatchError::Read(ReadError::Query(e)) => return e.diagnostics(),
            _ => {}
        }
        let d = Diagnostic::new(self.known_code(), self.to_string());
        vec![match self.help() {
            Some(help) => d.help(help),
            None => d,
        }]
    }
}

impl<E> From<Unheard> for DispatchError<E> {
    fn from(e: Unheard) -> DispatchError<E> {
        match e {
            Unheard::Sender { process, why } => DispatchError::Unheard { process, why },
            Unheard::Db(e) => e.into(),
        }
    }
}
