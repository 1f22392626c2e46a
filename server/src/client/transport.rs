//! Requests over the network for callers that block.
//!
//! 1. A request runs as a task on a small runtime of the connection's own; the
//!    caller sleeps until it is done, cancelled, or late. So it can be used from
//!    any thread, an async one included (where it blocks, as any blocking call does).
//! 2. Dropping the task closes the connection, and a server that loses its client
//!    stops the query: that is how cancelling reaches the other end.
//! 3. The token is sent as a header marked sensitive and appears in no error.

use super::{
    ConnectOptions,
    error::{ClientError, Refusal},
};
use annals::Cancel;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};

/// How often a sleeping caller looks whether it was cancelled.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Chunks of a stream that wait for their reader.
const CHUNKS: usize = 64;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The media type of a body or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Edn,
    Json,
    Events,
}

impl Media {
    const fn name(self) -> &'static str {
        match self {
            Media::Edn => "application/edn",
            Media::Json => "application/json",
            Media::Events => "text/event-stream",
        }
    }
}

/// One request, before it is addressed.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// Under the database: `/query`.
    pub path: &'a str,
    pub params: Vec<(&'a str, String)>,
    pub headers: Vec<(HeaderName, String)>,
    pub body: Option<(Media, String)>,
    pub accept: Media,
    pub timeout: Option<Duration>,
    pub cancel: Option<&'a Cancel>,
}

impl<'a> Ask<'a> {
    pub fn get(path: &'a str) -> Ask<'a> {
        Ask {
            method: Method::GET,
            path,
            params: Vec::new(),
            headers: Vec::new(),
            body: None,
            accept: Media::Edn,
            timeout: None,
            cancel: None,
        }
    }
    pub fn post(path: &'a str, media: Media, body: impl Into<String>) -> Ask<'a> {
        Ask { method: Method::POST, body: Some((media, body.into())), ..Ask::get(path) }
    }
    pub fn param(mut self, name: &'a str, value: impl ToString) -> Ask<'a> {
        self.params.push((name, value.to_string()));
        self
    }
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Ask<'a> {
        self.headers.push((HeaderName::from_static(name), value.into()));
        self
    }
    pub fn accept(mut self, media: Media) -> Ask<'a> {
        self.accept = media;
        self
    }
}

/// An answer that succeeded.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> Result<&str, ClientError> {
        std::str::from_utf8(&self.body).map_err(|_| ClientError::answer("it is not UTF-8"))
    }
}

type Hyper = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A way to one database.
pub(super) struct Transport {
    /// None only while it is being dropped.
    runtime: Option<Runtime>,
    client: Hyper,
    /// `http://127.0.0.1:7407/v1/db/orders`
    base: String,
    server: String,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    max_answer_bytes: usize,
}

impl Drop for Transport {
    fn drop(&mut self) {
        // A runtime may not be waited for in async code; whatever still runs is abandoned.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Transport {
    pub fn new(url: &str, options: &ConnectOptions) -> Result<Transport, ClientError> {
        let wrong = |why: &str| ClientError::Url { url: shown(url), why: why.to_owned() };
        let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| wrong("it is not a URL"))?;
        let scheme = uri.scheme_str().ok_or_else(|| wrong("it has no http:// or https://"))?;
        if !matches!(scheme, "http" | "https") {
            return Err(wrong("it is neither http nor https"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it names no server"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a token does not belong into a URL"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has parameters"));
        }
        let name = uri.path().strip_prefix("/v1/db/").filter(|n| crate::state::valid_name(n));
        let name = name.ok_or_else(|| wrong("its path is not /v1/db/ and a database's name"))?;
        let authorization = options
            .token
            .as_deref()
            .map(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| {
                    ClientError::input(
                        "the token is not one",
                        "give the text that `annals token create` printed",
                    )
                })?;
                value.set_sensitive(true);
                Ok::<_, ClientError>(value)
            })
            .transpose()?;
        if authorization.is_some() && scheme == "http" && !is_loopback(authority.host()) && !options.insecure
        {
            return Err(wrong("a token would cross the network in the clear; use https, or allow it"));
        }
        let server = format!("{scheme}://{authority}");
        let unreachable = |why: String| ClientError::Unreachable { server: server.clone(), why };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .thread_name("annals-client")
            .enable_all()
            .build()
            .map_err(|e| unreachable(e.to_string()))?;
        Ok(Transport {
            runtime: Some(runtime),
            client: hyper(scheme == "https", options)?,
            base: format!("{server}/v1/db/{name}"),
            authorization,
            timeout: options.timeout,
            max_answer_bytes: options.max_answer_bytes,
            server,
        })
    }

    /// `http://127.0.0.1:7407/v1/db/orders`
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and waits for the whole of its answer. Refusals are errors.
    pub fn call(&self, ask: Ask<'_>) -> Result<Reply, ClientError> {
        let limit = ask.timeout.unwrap_or(self.timeout);
        let cancel = ask.cancel;
        let request = self.request(&ask)?;
        let (client, max) = (self.client.clone(), self.max_answer_bytes);
        let exchange = async move {
            let response = client.request(request).await.map_err(Broken::Request)?;
            let (head, body) = response.into_parts();
            let body =
                Limited::new(body, max).collect().await.map_err(|e| match e.is::<LengthLimitError>() {
                    true => Broken::TooLarge,
                    false => Broken::Body(e.to_string()),
                })?;
            Ok((head.status.as_u16(), head.headers, body.to_bytes()))
        };
        let task = Aborted(self.spawn(exchange));
        let done = sleep_until(task, Some(Instant::now() + limit), cancel);
        let (status, headers, body) = match done {
            Slept::Done(Ok(Ok(answer))) => answer,
            Slept::Done(Ok(Err(broken))) => return Err(self.broken(&broken)),
            Slept::Done(Err(e)) => return Err(self.unreachable(e.to_string())),
            Slept::Late => return Err(ClientError::TimedOut { after: limit }),
            Slept::Cancelled => return Err(ClientError::Cancelled),
        };
        let reply = Reply { status, headers, body };
        if (200..300).contains(&status) { Ok(reply) } else { Err(refused(&reply)) }
    }

    /// Opens a stream of server-sent events. The stream itself has no deadline.
    pub fn open(&self, ask: Ask<'_>) -> Result<Chunks, ClientError> {
        let limit = ask.timeout.unwrap_or(self.timeout);
        let request = self.request(&ask)?;
        let (client, max) = (self.client.clone(), self.max_answer_bytes);
        let (sender, receiver) = mpsc::channel(CHUNKS);
        let (begun, begins) = tokio::sync::oneshot::channel();
        let task = self.spawn(async move {
            let response = match client.request(request).await {
                Ok(response) => response,
                Err(e) => return drop(begun.send(Err(Broken::Request(e)))),
            };
            let (head, mut body) = response.into_parts();
            if head.status.as_u16() != 200 {
                let whole = Limited::new(body, max).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                let reply = Reply { status: head.status.as_u16(), headers: head.headers, body: whole };
                return drop(begun.send(Ok(Err(reply))));
            }
            if begun.send(Ok(Ok(()))).is_err() {
                return;
            }
            while let Some(frame) = body.frame().await {
                let chunk = match frame {
                    Ok(frame) => frame.into_data().map_err(|_| String::new()),
                    Err(e) => Err(e.to_string()),
                };
                let ends = chunk.as_ref().is_err_and(|e| !e.is_empty());
                if chunk.as_ref().is_err_and(String::is_empty) {
                    continue;
                }
                if sender.send(chunk).await.is_err() || ends {
                    return;
                }
            }
        });
        let task = Aborted(task);
        let begun = match sleep_until(begins, Some(Instant::now() + limit), ask.cancel) {
            Slept::Done(Ok(begun)) => begun,
            Slept::Done(Err(e)) => return Err(self.unreachable(e.to_string())),
            Slept::Late => return Err(ClientError::TimedOut { after: limit }),
            Slept::Cancelled => return Err(ClientError::Cancelled),
        };
        match begun {
            Ok(Ok(())) => Ok(Chunks { receiver, server: self.server.clone(), _task: task }),
            Ok(Err(reply)) => Err(refused(&reply)),
            Err(broken) => Err(self.broken(&broken)),
        }
    }

    fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.as_ref().expect("the runtime is taken in drop alone").spawn(future)
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut uri = format!("{}{}", self.base, ask.path);
        for (i, (name, value)) in ask.params.iter().enumerate() {
            uri.push(if i == 0 { '?' } else { '&' });
            uri.push_str(name);
            uri.push('=');
            uri.push_str(&encode(value));
        }
        let mut request =
            Request::builder().method(ask.method.clone()).uri(uri).header(ACCEPT, ask.accept.name());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let body = match &ask.body {
            None => Full::default(),
            Some((media, text)) => {
                request = request.header(CONTENT_TYPE, media.name());
                Full::from(text.clone())
            }
        };
        request.body(body).map_err(|e| {
            ClientError::input(
                format!("the request cannot be sent: {e}"),
                "names in a URL are percent-encoded text; headers are ASCII",
            )
        })
    }

    fn broken(&self, broken: &Broken) -> ClientError {
        match broken {
            Broken::TooLarge => ClientError::TooLarge { limit_bytes: self.max_answer_bytes },
            Broken::Body(why) => self.unreachable(format!("the connection broke: {why}")),
            Broken::Request(e) => {
                let mut why = e.to_string();
                let mut cause = std::error::Error::source(e);
                while let Some(e) = cause {
                    why = e.to_string();
                    cause = e.source();
                }
                self.unreachable(why)
            }
        }
    }

    fn unreachable(&self, why: String) -> ClientError {
        ClientError::Unreachable { server: self.server.clone(), why }
    }
}

/// What went wrong below HTTP.
enum Broken {
    Request(hyper_util::client::legacy::Error),
    Body(String),
    TooLarge,
}

/// The body of a stream as it arrives; dropping it closes the connection.
pub(super) struct Chunks {
    receiver: mpsc::Receiver<Result<Bytes, String>>,
    server: String,
    _task: Aborted<()>,
}

impl Chunks {
    /// The next piece; None at the end, or when `until` passed without one.
    pub fn next(&mut self, until: Option<Instant>) -> Result<Piece, ClientError> {
        match sleep_until(self.receiver.recv(), until, None) {
            Slept::Done(Some(Ok(bytes))) => Ok(Piece::Bytes(bytes)),
            Slept::Done(Some(Err(why))) => Err(ClientError::Unreachable { server: self.server.clone(), why }),
            Slept::Done(None) => Ok(Piece::End),
            Slept::Late | Slept::Cancelled => Ok(Piece::Late),
        }
    }
}

/// What came of waiting for a piece of a stream.
pub(super) enum Piece {
    Bytes(Bytes),
    /// The server ended the stream.
    End,
    /// Nothing came in time.
    Late,
}

/// A task that ends with its holder.
struct Aborted<T>(JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for Aborted<T> {
    type Output = Result<T, tokio::task::JoinError>;
    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx)
    }
}

/// How a wait ended.
enum Slept<T> {
    Done(T),
    Late,
    Cancelled,
}

/// Blocks this thread until `future` is done. Needs no runtime on this thread.
fn sleep_until<T>(
    future: impl Future<Output = T>,
    until: Option<Instant>,
    cancel: Option<&Cancel>,
) -> Slept<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut cx) {
            return Slept::Done(done);
        }
        if cancel.is_some_and(Cancel::is_cancelled) {
            return Slept::Cancelled;
        }
        let left = until.map(|at| at.saturating_duration_since(Instant::now()));
        match (left, cancel) {
            (Some(Duration::ZERO), _) => return Slept::Late,
            (Some(left), None) => thread::park_timeout(left),
            (None, None) => thread::park(),
            (Some(left), Some(_)) => thread::park_timeout(left.min(LOOK_EVERY)),
            (None, Some(_)) => thread::park_timeout(LOOK_EVERY),
        }
    }
}

/// The error of an answer that is no success.
fn refused(reply: &Reply) -> ClientError {
    let doc = serde_json::from_slice(&reply.body).ok();
    match doc.and_then(|doc| Refusal::read(reply.status, &doc)) {
        Some(mut refusal) => {
            refusal.request_id =
                reply.headers.get("x-request-id").and_then(|v| v.to_str().ok()).map(str::to_owned);
            ClientError::Refused(Box::new(refusal))
        }
        None => ClientError::answer(format!("status {} without a problem document", reply.status)),
    }
}

fn hyper(tls: bool, options: &ConnectOptions) -> Result<Hyper, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = &options.root_certificates {
        let wrong = |why: String| ClientError::Certificates { path: path.clone(), why };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| wrong(e.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("there is none".into()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
    } else if tls {
        // Those of this machine; one that cannot be read is one authority less.
        for certificate in rustls_native_certs::load_native_certs().certs {
            let _ = roots.add(certificate);
        }
    }
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ClientError::answer(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT));
    http.enforce_http(false);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Ok(Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(8)).build(connector))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A URL for a message: without what stands before an `@`.
fn shown(url: &str) -> String {
    match url.split_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.chars().take(200).collect(),
    }
}

/// Percent-encodes what may not stand in a path or a parameter.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
