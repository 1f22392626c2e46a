//! The interactive shell.

mod bindings;
pub mod complete;
mod curl;
pub mod dispatch;
mod files;
pub mod help;
pub mod helper;
pub mod highlight;
mod moments;
pub mod prompt;
mod settings;
pub mod spec;
pub mod stream;
pub mod topics;
pub mod vocabulary;
