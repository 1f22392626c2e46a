//! The interactive shell.

pub mod complete;
pub mod dispatch;
pub mod help;
pub mod helper;
pub mod highlight;
pub mod prompt;
pub mod spec;
pub mod stream;
pub mod topics;
pub mod vocabulary;
