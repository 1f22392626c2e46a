//! The server over real sockets.
//!
//! `client`: the Rust client. `http`: routes of facts, refusals, access, limits, live answers. `events`:
//! streams, conditions, feeds, projections. The browser's part is `console.mjs`.

mod client;
mod commands;
mod common;
mod events;
mod hostile;
mod http;
mod live;
mod looked_after;
#[cfg(feature = "otel")]
mod otel;
mod process;
mod proof;
mod tls;
