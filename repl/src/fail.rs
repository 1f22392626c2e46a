//! How a command fails: what to show, and the exit code.
//!
//! Exit codes are a contract: 0 ok, 1 refused, 2 usage, 3 damaged data, 4 newer
//! format, 5 locked by another process.

use annals::{Diagnostic, ErrorClass};
use std::{io, path::Path, sync::Arc};

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the contract")]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Refused = 1,
    Usage = 2,
    Damaged = 3,
    NewerFormat = 4,
    Locked = 5,
}

/// What one diagnostic points into.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// `query`, or a file's name.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
    /// Line of the file at which the text begins.
    pub line: usize,
}

/// A command that did not succeed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What to show, most telling first.
    pub diagnostics: Vec<Diagnostic>,
    /// What the diagnostics point into.
    pub origin: Option<Origin>,
    /// The reader of our output went away: say nothing.
    pub closed_pipe: bool,
}

/// The result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with one diagnostic.
    pub fn new(exit: Exit, d: Diagnostic) -> Failure {
        Failure { exit, diagnostics: vec![d], origin: None, closed_pipe: false }
    }
    /// The request was refused.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(Exit::Refused, Diagnostic::new(code, message))
    }
    /// The command was not written right.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, Diagnostic::new("shell/usage", message))
    }
    /// Adds what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Failure {
        if let Some(d) = self.diagnostics.first_mut() {
            d.help = Some(help.into());
        }
        self
    }
    /// Says what the diagnostics point into.
    pub fn of(mut self, name: &str, text: &str) -> Failure {
        self.origin = Some(Origin { name: name.to_owned(), text: Arc::from(text), line: 1 });
        self
    }
    /// A file that could not be read or written.
    pub fn file(path: &Path, e: &io::Error) -> Failure {
        Failure::refused("shell/file", format!("{}: {}", path.display(), io_words(e)))
    }
}

/// What an I/O error says, without the error number.
pub fn io_words(e: &io::Error) -> String {
    let text = e.to_string();
    match text.find(" (os error") {
        Some(i) => text[..i].to_lowercase(),
        None => text,
    }
}

impl From<annals::Error> for Failure {
    fn from(e: annals::Error) -> Failure {
        let exit = match e.class() {
            ErrorClass::Damaged => Exit::Damaged,
            ErrorClass::TooNew => Exit::NewerFormat,
            ErrorClass::Locked => Exit::Locked,
            _ => Exit::Refused,
        };
        Failure { exit, diagnostics: e.diagnostics(), origin: None, closed_pipe: false }
    }
}

macro_rules! through_error {
    ($($t:ty),*) => {$(
        impl From<$t> for Failure {
            fn from(e: $t) -> Failure {
                Failure::from(annals::Error::from(e))
            }
        }
    )*};
}
through_error!(annals::OpenError, annals::TransactError, annals::DbError, annals::QueryError);

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        let closed_pipe = e.kind() == io::ErrorKind::BrokenPipe;
        let mut f = Failure::refused("shell/io", io_words(&e));
        f.closed_pipe = closed_pipe;
        if closed_pipe {
            f.exit = Exit::Ok;
        }
        f
    }
}

impl From<annals::event::AppendError> for Failure {
    fn from(e: annals::event::AppendError) -> Failure {
        use annals::event::AppendError as E;
        match e {
            E::Transact(e) => e.into(),
            E::Db(e) => e.into(),
            other => Failure::refused(other.code(), other.to_string()),
        }
    }
}

impl From<annals::event::ProjectionError> for Failure {
    fn from(e: annals::event::ProjectionError) -> Failure {
        use annals::event::ProjectionError as E;
        match e {
            E::Malformed(diagnostics) if !diagnostics.is_empty() => {
                Failure { exit: Exit::Refused, diagnostics, origin: None, closed_pipe: false }
            }
            E::Transact(e) => e.into(),
            E::Db(e) => e.into(),
            other => Failure::refused(other.code(), other.to_string()),
        }
    }
}
