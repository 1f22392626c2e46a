//! The shell.

pub mod cli;
pub mod lexer;
pub mod output;
pub mod script;
pub mod shell;
pub mod term;
