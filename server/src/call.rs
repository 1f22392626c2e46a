//! One request to one route: who, which database, what was sent, what is wanted.

use crate::{
    config::Limits,
    edge::RequestId,
    extract::{self, Format, Params},
    state::{Database, Server},
    token::{Principal, Scope},
    wire::problem::{Class, Problem},
};
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    http::HeaderMap,
};
use bytes::Bytes;
use std::sync::Arc;

/// A request, taken apart.
pub struct Call {
    /// What all requests share.
    pub server: Arc<Server>,
    /// Who asks.
    pub who: Principal,
    /// The id of this request.
    pub id: RequestId,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The parameters of the URL.
    pub params: Params,
    path: Vec<(Arc<str>, String)>,
    body: Option<Body>,
}

impl FromRequest<Arc<Server>> for Call {
    type Rejection = crate::answer::Refusal;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Call, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        let raw = RawPathParams::from_request_parts(&mut parts, server)
            .await
            .map_err(|_| Problem::new(Class::Syntax, "request/path", "the path is not UTF-8"))?;
        let path = raw.iter().map(|(k, v)| (Arc::from(k), v.to_owned())).collect();
        let params = Params::parse(parts.uri.query())?;
        let missing = || Problem::new(Class::Internal, "server/internal", "a request passed by the edge");
        let who = parts.extensions.remove::<Principal>().ok_or_else(missing)?;
        let id = parts.extensions.remove::<RequestId>().ok_or_else(missing)?;
        Ok(Call { server: server.clone(), who, id, headers: parts.headers, params, path, body: Some(body) })
    }
}

impl Call {
    /// A part of the path.
    pub fn part(&self, name: &str) -> &str {
        self.path.iter().find(|(k, _)| &**k == name).map_or("", |(_, v)| v)
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.server.limits
    }

    /// The database in the path, if the caller may do this with it.
    pub fn database(&self, scope: Scope) -> Result<Arc<Database>, Problem> {
        self.server.database(&self.who, self.part("name"), scope)
    }

    /// Reads the body as text of a type we read.
    pub async fn body(&mut self, max: u64) -> Result<(Format, Bytes), Problem> {
        let format = extract::body_format(&self.headers)?;
        Ok((format, self.bytes(max).await?))
    }

    /// Reads the body, of whatever type.
    pub async fn bytes(&mut self, max: u64) -> Result<Bytes, Problem> {
        let body = self.body.take().unwrap_or_default();
        extract::read_body(&self.headers, body, max, &self.server.limits).await
    }

    /// The format to answer in.
    pub fn accept(&self, offered: &[Format], sent: Option<Format>) -> Result<Format, Problem> {
        extract::accept(&self.headers, offered, sent)
    }

    /// EDN or JSON.
    pub fn accept_tree(&self, sent: Option<Format>) -> Result<Format, Problem> {
        self.accept(&[Format::Json, Format::Edn], sent)
    }
}
