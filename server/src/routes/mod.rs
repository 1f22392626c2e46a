//! One table of all routes: the router and the OpenAPI document are both made of it.
//!
//! One file a concept; a handler extracts, calls the engine through the blocking
//! bridge, and answers.

pub mod admin;
pub mod append;
pub mod changes;
pub mod commands;
pub mod console;
pub mod copy;
pub mod entity;
pub mod examine;
pub mod log;
pub mod meta;
pub mod preview;
pub mod projections;
pub mod proof;
pub mod query;
pub mod schema;
pub mod streams;
pub mod subscribe;
pub mod table;
pub mod timeline;
pub mod transact;
pub mod why;

pub use table::{Operation, Route, table};
