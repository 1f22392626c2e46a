//! Traces for OpenTelemetry: one span a request, sent to a collector as OTLP over
//! HTTP in JSON (`/v1/traces`). Behind the feature `otel`.
//!
//! 1. A request never waits for the collector: spans go into a bounded queue, and
//!    what does not fit or cannot be sent is dropped and counted.
//! 2. Of a query a span has a hash, the basis and what it read; never its text.
//! 3. A caller's `traceparent` (W3C) is continued; otherwise a trace begins here.
//!
//! Written against the protocol instead of its SDK: a server that makes one kind of
//! span needs no pipeline of processors, and the SDK brings some forty crates.

use crate::config::ConfigError;
use axum::http::HeaderMap;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri, header::CONTENT_TYPE};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value as Json, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;

/// Spans that wait to be sent.
const QUEUE: usize = 4_096;
/// Spans of one message.
const BATCH: usize = 512;
/// How long a span may wait for others.
const EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One request, finished.
#[derive(Clone, Debug)]
pub struct Span {
    /// `POST`
    pub method: &'static str,
    /// The route's pattern: no name of a user's gets into the span's name.
    pub route: String,
    /// The HTTP status.
    pub status: u16,
    /// When it began.
    pub began: SystemTime,
    /// How long it took to the head of the answer.
    pub took: Duration,
    /// Our id of the request.
    pub request_id: Arc<str>,
    /// The caller's trace and span.
    pub parent: Option<([u8; 16], [u8; 8])>,
    /// What the query was, when it was one.
    pub query: Option<QueryFacts>,
}

/// What a span says of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryFacts {
    /// A hash of its text.
    pub hash: String,
    /// The transaction it was answered as of.
    pub basis: u64,
    /// Rows of the answer.
    pub rows: u64,
    /// Rows made on the way.
    pub rows_made: u64,
}

/// Where spans go.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

impl Exporter {
    /// Starts sending to a collector: `http://localhost:4318`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when the endpoint is no http or https URL.
    pub fn start(endpoint: &str, service: &str) -> Result<Exporter, ConfigError> {
        let wrong = |message: String| ConfigError::Value { name: "otlp_endpoint".into(), message };
        let url: Uri = format!("{}/v1/traces", endpoint.trim_end_matches('/'))
            .parse()
            .map_err(|e| wrong(format!("{endpoint:?} is not a URL: {e}")))?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(wrong(format!("{endpoint:?} is neither http nor https")));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        if url.scheme_str() == Some("https") {
            for certificate in rustls_native_certs::load_native_certs().certs {
                let _ = roots.add(certificate);
            }
        }
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let http: Http = Client::builder(TokioExecutor::new()).build(connector);
        let (queue, spans) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        tokio::spawn(send(http, url, service.to_owned(), spans, dropped.clone()));
        Ok(Exporter { queue, dropped })
    }

    /// Hands a span over. Never waits.
    pub fn export(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that were not sent.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn send(
    http: Http,
    url: Uri,
    service: String,
    mut spans: mpsc::Receiver<Span>,
    dropped: Arc<AtomicU64>,
) {
    let mut batch = Vec::new();
    let mut failing = false;
    while spans.recv_many(&mut batch, BATCH).await > 0 {
        // A little patience makes fewer and larger messages.
        let more = async { while batch.len() < BATCH && spans.recv_many(&mut batch, BATCH).await > 0 {} };
        let _ = tokio::time::timeout(EVERY, more).await;
        let body = message(&service, &batch).to_string();
        let request = Request::post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .expect("the URL was parsed before");
        let sent = tokio::time::timeout(TIMEOUT, async {
            let response = http.request(request).await.map_err(|e| e.to_string())?;
            let status = response.status();
            let _ = response.into_body().collect().await;
            if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
        });
        match sent.await.unwrap_or_else(|_| Err("no answer".into())) {
            Ok(()) => failing = false,
            Err(why) => {
                dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                // Once, not once a second for as long as the collector is away.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%why, "the collector takes no traces");
                }
            }
        }
        batch.clear();
    }
}

/// Spans as an `ExportTraceServiceRequest`.
fn message(service: &str, spans: &[Span]) -> Json {
    let text = |key: &str, v: &str| json!({"key": key, "value": {"stringValue": v}});
    // Numbers of 64 bits are strings in the JSON of protocol buffers.
    let number = |key: &str, v: u64| json!({"key": key, "value": {"intValue": v.to_string()}});
    let spans: Vec<Json> = spans
        .iter()
        .map(|s| {
            let began = s.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let mut attributes = vec![
                text("http.request.method", s.method),
                text("http.route", &s.route),
                number("http.response.status_code", s.status.into()),
                text("annals.request_id", &s.request_id),
            ];
            if let Some(q) = &s.query {
                attributes.push(text("db.system.name", "annals"));
                attributes.push(text("annals.query.hash", &q.hash));
                attributes.push(number("annals.basis_t", q.basis));
                attributes.push(number("db.response.returned_rows", q.rows));
                attributes.push(number("annals.rows_made", q.rows_made));
            }
            let trace = s.parent.map_or_else(rand::random::<[u8; 16]>, |(trace, _)| trace);
            let mut span = json!({
                "traceId": crate::token::hex(&trace),
                "spanId": crate::token::hex(&rand::random::<[u8; 8]>()),
                "name": format!("{} {}", s.method, s.route),
                "kind": 2,
                "startTimeUnixNano": began.as_nanos().to_string(),
                "endTimeUnixNano": (began + s.took).as_nanos().to_string(),
                "attributes": attributes,
                // Only a fault of ours is an error of a server's span.
                "status": if s.status >= 500 { json!({"code": 2}) } else { json!({}) },
            });
            if let Some((_, parent)) = &s.parent {
                span["parentSpanId"] = crate::token::hex(parent).into();
            }
            span
        })
        .collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", service), text("service.version", env!("CARGO_PKG_VERSION"))]},
        "scopeSpans": [{"scope": {"name": "annals-server"}, "spans": spans}],
    }]})
}

/// The caller's trace and span, of `traceparent: 00-<trace>-<span>-<flags>`.
pub fn parent(headers: &HeaderMap) -> Option<([u8; 16], [u8; 8])> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.trim().split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    (version.len() == 2 && version != "ff" && parts.next()?.len() == 2).then_some(())?;
    let (trace, span) = (bytes::<16>(trace)?, bytes::<8>(span)?);
    (trace != [0; 16] && span != [0; 8]).then_some((trace, span))
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    if hex.len() != 2 * N || !hex.is_ascii() {
        return None;
    }
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_trace_is_read_and_junk_is_not() {
        let of = |text: &str| {
            parent(&HeaderMap::from_iter([("traceparent".parse().unwrap(), text.parse().unwrap())]))
        };
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(of(good).map(|(t, s)| (t[0], s[1])), Some((0x4b, 0xf0)));
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf9-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473+-00f067aa0ba902b7-01",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
