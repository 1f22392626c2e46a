//! The `annals` binary as a library, for its tests: the command line, the shell,
//! importers and exporters over the public face of package `annals`.
//!
//! Reading order: [`cli`] (what can be typed), [`run`] (what it does), [`session`]
//! (what a command works on), [`backend`]
//! (the database: here or on a server), [`ask`] (queries), [`commands`], [`import`], [`output`]
//! (how answers look), [`lexer`] and [`script`] (text to forms), [`shell`] (the
//! prompt), [`demo`].
//!
//! **Invariant:** answers go to standard output, everything else to standard error.
//! **Invariant:** nothing here knows storage, the planner or HTTP: what is missing in
//! the face of `annals` is added there.

pub mod ask;
pub mod backend;
pub mod cli;
pub mod commands;
pub mod demo;
pub mod diagnose;
pub mod fail;
pub mod form;
pub mod import;
pub mod interrupt;
pub mod lexer;
pub mod moment;
pub mod output;
pub mod progress;
pub mod run;
pub mod script;
pub mod session;
pub mod shell;
pub mod term;
