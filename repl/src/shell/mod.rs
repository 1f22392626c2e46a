//! The interactive shell.

pub mod complete;
pub mod helper;
pub mod highlight;
pub mod spec;
pub mod topics;
pub mod vocabulary;
