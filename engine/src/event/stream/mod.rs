//! Streams: what is appended, how it is judged and stored, and how it is read.
//!
//! [`append`] says what (`append_error` why not), `judge` whether it may be, `commit` makes it; `table` is the rows,
//! [`record`] an event in them. [`log`] reads (`one` stream, or the `matching` events of all), as does [`subscribe`], the latter as an `async_feed` too; [`upcast`] shows old shapes as
//! new ones; `virtual_source` shows events to Datalog. `face` is a connection's calls, `copy`,
//! [`import`] and `speculate` are appends made of something else.

pub mod append;
pub(crate) mod append_error;
pub(crate) mod async_feed;
pub(crate) mod commit;
pub(crate) mod copy;
pub mod face;
pub mod import;
pub(crate) mod judge;
pub mod log;
pub(crate) mod matching;
pub(crate) mod one;
pub mod record;
pub(crate) mod speculate;
pub mod subscribe;
pub mod table;
pub mod upcast;
pub(crate) mod virtual_source;
