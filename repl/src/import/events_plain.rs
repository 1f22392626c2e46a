//! Event importers in a build without the feature `events`: they say so.

use super::source::Source;
use crate::{
    fail::{Failure, Outcome},
    session::Session,
};
use std::path::PathBuf;

/// What an import did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Events stored.
    pub appended: u64,
    /// Events that were there.
    pub known: u64,
    /// Transactions made.
    pub transactions: u64,
    /// Facts written.
    pub facts: u64,
}

/// This build has no events.
pub fn none() -> Failure {
    Failure::refused("shell/no-events", "this build has no events").help("build with the feature `events`")
}

/// `import events`.
pub fn run(_: &mut Session, _: &str, _: &[PathBuf]) -> Outcome {
    Err(none())
}

/// Reads events into streams.
pub fn load(_: &Session, _: &mut Source) -> Outcome<Done> {
    Err(none())
}
