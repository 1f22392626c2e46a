//! What happens to every request before a route sees it, and to every answer after.
//!
//! 1. Each request gets an id made here; a client cannot choose it.
//! 2. `Host` must be a name of ours (against DNS rebinding). A browser page of
//!    another origin is refused unless that origin is listed.
//! 3. Everything under `/v1` knows its principal. The console's own files,
//!    `/health`, `/ready` and `/openapi.json` do not ask.
//! 4. Every answer carries the request id, its timing and the headers that keep a
//!    browser from guessing.

use crate::{
    answer::respond,
    listen::Peer,
    state::{Phase, Server},
    token::Principal,
    wire::problem::{Class, Problem},
};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use std::{sync::Arc, time::Instant};

/// The id of a request, as it will stand in logs and in `:tx/request-id`.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// The middleware.
pub async fn edge(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = RequestId(uuid::Uuid::now_v7().to_string().into());
    let method = method_name(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "(none)".to_owned(), |p| p.as_str().to_owned());
    let peer = request.extensions().get::<Peer>().map(|p| p.0);
    let path = request.uri().path().to_owned();

    #[cfg(feature = "otel")]
    let (clock, parent) = (std::time::SystemTime::now(), crate::otel::parent(request.headers()));
    let asked_from = listed_origin(&server, request.headers());
    if let Some(origin) = &asked_from
        && request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return preflight(origin);
    }
    let admitted = admit(&server, &mut request, peer.map(|p| p.ip()));
    let mut response = match admitted {
        Ok(principal) => {
            let name = principal.name.clone();
            request.extensions_mut().insert(principal);
            request.extensions_mut().insert(id.clone());
            let response = next.run(request).await;
            tracing::debug!(request_id = %id.0, method, path = %path.escape_debug(), principal = %name, status = response.status().as_u16(), us = begun.elapsed().as_micros() as u64, "answered");
            response
        }
        Err(problem) => {
            tracing::debug!(request_id = %id.0, method, route, code = %problem.code, peer = ?peer, "refused");
            respond(problem)
        }
    };
    let took = begun.elapsed();
    server.metrics.request(method, &route, response.status().as_u16(), took);
    #[cfg(feature = "otel")]
    if let Some(traces) = server.traces.get() {
        traces.export(crate::otel::Span {
            method,
            route,
            status: response.status().as_u16(),
            began: clock,
            took,
            request_id: id.0.clone(),
            parent,
            query: response.extensions_mut().remove(),
        });
    }

    let headers = response.headers_mut();
    if let Some(origin) = asked_from {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("x-basis-t, x-request-id, etag, location, retry-after"),
        );
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert("x-request-id", value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("total;dur={:.3}", took.as_secs_f64() * 1e3)) {
        // A query has said what it read and made.
        headers.append("server-timing", value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static("default-src 'none'"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The `Origin` of a page that the configuration lists.
fn listed_origin(server: &Server, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    server.config.origins_allowed.iter().any(|o| o.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// The answer to a browser that asks before it sends.
fn preflight(origin: &HeaderValue) -> Response {
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, prefer",
        ),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    response
}

fn admit(
    server: &Server,
    request: &mut Request,
    peer: Option<std::net::IpAddr>,
) -> Result<Principal, Problem> {
    let path = request.uri().path();
    host(server, request)?;
    origin(server, request.method(), request.headers(), path)?;
    let phase = *server.phase().borrow();
    if phase > Phase::Ready && !matches!(path, "/health" | "/ready" | "/metrics") {
        return Err(Problem::new(Class::Unavailable, "server/stopping", "the server is stopping"));
    }
    if !path.starts_with("/v1/") && path != "/metrics" {
        return Ok(Principal::local());
    }
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    server.principal(peer, authorization)
}

/// Is the request meant for us?
fn host(server: &Server, request: &Request) -> Result<(), Problem> {
    let host = match request.uri().authority() {
        Some(a) => Some(a.as_str()),
        None => request.headers().get(header::HOST).and_then(|v| v.to_str().ok()),
    };
    match host {
        Some(h) if server.config.knows_host(h) => Ok(()),
        // Behind a proxy, with tokens: the proxy decides on names.
        Some(_) if server.config.behind_proxy && server.config.hosts.is_empty() => Ok(()),
        _ => Err(Problem::new(Class::Misdirected, "access/host", "this server does not go by that name")
            .hint("add the name to `hosts` in the configuration")),
    }
}

/// Did a page of another origin send it?
fn origin(server: &Server, method: &Method, headers: &HeaderMap, path: &str) -> Result<(), Problem> {
    let refused = || {
        Problem::new(
            Class::Forbidden,
            "access/cross-origin",
            "requests from pages of other origins are refused",
        )
        .hint("list the origin in `origins_allowed` in the configuration")
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().map_err(|_| refused())?;
        let listed = server.config.origins_allowed.iter().any(|o| o == origin);
        let own = headers.get(header::HOST).and_then(|h| h.to_str().ok()).is_some_and(|host| {
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
        });
        return if listed || own { Ok(()) } else { Err(refused()) };
    }
    // A browser that sends no Origin still says where the request comes from. Following a link to
    // a page of ours is fine; anything else across sites is not.
    match headers.get("sec-fetch-site").and_then(|v| v.to_str().ok()) {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) if method == Method::GET && !path.starts_with("/v1/") => Ok(()),
        Some(_) => Err(refused()),
    }
}

fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "OTHER",
    }
}
