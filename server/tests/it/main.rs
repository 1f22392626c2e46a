//! The server over real sockets.
//!
//! `http`: routes of facts. `proof`: why and why not. `live`: live queries against running them again.
//! `events`, `commands`, `looked_after`: streams, conditions, feeds, projections, the queue. `client`: the
//! Rust client. `access`, `refusals`, `hostile`: who may what, what is refused, who misbehaves. `process`,
//! `tls`, `otel`: signals, certificates, traces. The browser's part is `console.mjs`.

mod access;
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
mod refusals;
mod tls;
