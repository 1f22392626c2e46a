//! Annals over HTTP: queries as of any time, transactions, streams of events, live
//! answers, and the console that shows history.
//!
//! A library: the shell's `annals serve` is a thin caller of [`run()`]. Tests build
//! [`Server`] and [`serve`] it on a port of their own.
//!
//! Modules in the order a request meets them: [`listen`], [`edge`], [`call`],
//! `routes`, [`blocking`], [`answer`], with the shapes on the wire in [`wire`].
//!
//! **Invariant:** only [`blocking`] calls into the engine from async code.
//! **Invariant:** a failure leaves as a problem document made in [`failure`] or at
//! the place that saw it; nothing else picks a status.

pub mod answer;
pub mod ask;
pub mod blocking;
pub mod call;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
pub mod console;
pub mod edge;
pub mod extract;
pub mod failure;
pub mod idempotency;
pub mod listen;
pub mod metrics;
pub mod openapi;
#[cfg(feature = "otel")]
pub mod otel;
pub mod prepared;
pub mod routes;
pub mod run;
pub mod sse;
pub mod stall;
pub mod state;
pub mod token;
pub mod touch;
pub mod wire;

pub use config::{Config, ConfigError, Limits, LogFormat};
pub use run::{ServeError, run, serve};
pub use state::Server;
pub use token::{Scope, Token, TokenFile};

use axum::{Router, middleware};
use std::sync::Arc;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};

/// The whole service as a router: every route, with all that stands before and after it.
pub fn router(server: Arc<Server>) -> Router {
    let mut router: Router<Arc<Server>> = Router::new();
    for route in routes::table() {
        router = router.route(route.path, route.handler);
    }
    router
        .fallback(routes::meta::nothing)
        .method_not_allowed_fallback(routes::meta::wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(server.clone(), edge::edge))
        .layer(CompressionLayer::new())
        .with_state(server)
}

/// A panic in a handler: a fault of ours, told without its text.
fn panicked(_what: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    tracing::error!("a handler panicked");
    answer::respond(wire::problem::Problem::new(
        wire::problem::Class::Internal,
        "server/internal",
        "the server failed; the failure is logged",
    ))
}
