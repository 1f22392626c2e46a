//! Answers: a tree or a problem as a response, in the format asked for.

use crate::{
    extract::Format,
    wire::{
        problem::{Class, Problem},
        tree::Tree,
    },
};
use annals::T;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// What a route returns.
pub type Answer = Result<Response, Refusal>;

/// A problem on its way out.
pub struct Refusal(pub Problem);

impl From<Problem> for Refusal {
    fn from(p: Problem) -> Refusal {
        Refusal(p)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        respond(self.0)
    }
}

/// A problem as a response.
pub fn respond(problem: Problem) -> Response {
    let mut response = Response::new(Body::from(problem.to_json().to_string()));
    *response.status_mut() =
        StatusCode::from_u16(problem.class.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.class == Class::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"annals\""));
    }
    if let Some(t) = problem.more.get("basis-t").and_then(serde_json::Value::as_u64) {
        headers.insert(BASIS_T, HeaderValue::from(t));
    }
    response
}

/// The header that says which transaction an answer is based on.
pub const BASIS_T: HeaderName = HeaderName::from_static("x-basis-t");

/// A tree as a response with its basis.
pub fn tree(status: StatusCode, format: Format, basis: T, tree: impl Into<Tree>) -> Response {
    let tree = tree.into();
    let body = match format {
        Format::Edn => annals::edn::print(&tree.to_edn()),
        _ => {
            let mut out = String::new();
            tree.write_json(&mut out);
            out
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let media = if format == Format::Edn { Format::Edn } else { Format::Json };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media.media_type()));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    basis_header(headers, basis);
    response
}

/// Sets `X-Basis-T`.
pub fn basis_header(headers: &mut HeaderMap, basis: T) {
    headers.insert(BASIS_T, HeaderValue::from(basis.0));
}

/// Sets a header whose value was made here.
pub fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Marks an answer that will be the same for ever.
pub fn immutable(response: &mut Response, etag: &str) {
    set(response, header::ETAG, etag);
    set(response, header::CACHE_CONTROL, "private, max-age=31536000, immutable");
}

/// Does `If-None-Match` name this tag?
pub fn none_match(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH);
    given.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

/// 304 with the tag.
pub fn not_modified(etag: &str, basis: T) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    basis_header(response.headers_mut(), basis);
    immutable(&mut response, etag);
    response
}
