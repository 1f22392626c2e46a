//! Accepting connections: limits that must hold before a request exists.
//!
//! 1. A connection has `header_read_ms` to send a request head (and to finish the
//!    TLS handshake), also between requests; half-sent heads do not pile up.
//! 2. At most `connections` at a time, and never more than the process has file
//!    descriptors for; the next one is told 503 and closed.
//! 3. Running out of descriptors makes the loop wait, not spin.
//! 4. Over TLS the protocol is chosen by ALPN, in the clear it is HTTP/1.1: no
//!    guessing from the first bytes, hence no stage without a timeout.
//! 5. A peer that takes nothing of an answer for `write_stall_ms` is let go ([`Unstalled`]).
//! 6. After `stop`, open connections finish the request they are in and close.

use crate::{
    config::{Config, ConfigError, Limits},
    stall::Unstalled,
    wire::problem::{Class, Problem},
};
use axum::{Router, extract::Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// The address a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Descriptors kept for the database's own files, logs and the listener.
const RESERVED_DESCRIPTORS: usize = 64;

/// Certificate and key, ready to accept with, and replaceable while the server runs.
pub struct Tls(RwLock<TlsAcceptor>);

impl Tls {
    /// Reads what the configuration names. None without TLS.
    ///
    /// # Errors
    /// [`ConfigError::File`] names the file that cannot be used, and why.
    pub fn read(config: &Config) -> Result<Option<Tls>, ConfigError> {
        Ok(acceptor(config)?.map(|a| Tls(RwLock::new(a))))
    }

    /// Reads the files again. Connections made before keep the old certificate; when
    /// the files cannot be used everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<(), ConfigError> {
        if let Some(fresh) = acceptor(config)? {
            *self.0.write() = fresh;
        }
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.0.read().clone()
    }
}

fn acceptor(config: &Config) -> Result<Option<TlsAcceptor>, ConfigError> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let file = |what, path: &std::path::Path, message: String| ConfigError::File {
        what,
        path: path.into(),
        message,
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| file("certificate", cert, e.to_string()))?;
    if chain.is_empty() {
        return Err(file("certificate", cert, "there is no certificate in PEM form in it".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| file("key", key, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // The default versions are 1.3 and 1.2, and nothing older is in rustls at all.
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                file("key", key, "it is not the key of the certificate".into())
            }
            e => file("certificate", cert, e.to_string()),
        })?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

/// Serves until `stop` turns true, then until the open requests are done.
pub async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    limits: Arc<Limits>,
    mut stop: watch::Receiver<bool>,
) {
    let slots = connection_slots(limits.connections);
    let permits = Arc::new(Semaphore::new(slots));
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stop) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(pair) => pair,
            Err(e) => {
                // Out of descriptors, or the client is gone already.
                tracing::warn!(error = %e, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tokio::spawn(turn_away(stream, tls.is_some()));
            continue;
        };
        let (tls, router, limits, stop) = (tls.clone(), router.clone(), limits.clone(), stop.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let handshake = Duration::from_millis(limits.header_read_ms);
            let stream = Unstalled::new(stream, Duration::from_millis(limits.write_stall_ms.max(1)));
            match tls {
                None => serve_one(stream, peer, false, router, limits, stop).await,
                Some(tls) => {
                    let accepting = tls.acceptor().accept(stream);
                    if let Ok(Ok(stream)) = tokio::time::timeout(handshake, accepting).await {
                        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        serve_one(stream, peer, h2, router, limits, stop).await;
                    }
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    // Whoever holds no permit is done.
    let all = u32::try_from(slots).unwrap_or(u32::MAX);
    let _ = permits.acquire_many(all).await;
}

async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    h2: bool,
    router: Router,
    limits: Arc<Limits>,
    mut stop: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let io = TokioIo::new(stream);
    if h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(20)))
            .keep_alive_timeout(Duration::from_millis(limits.header_read_ms))
            .max_concurrent_streams(128)
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX));
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            done = connection.as_mut() => log_end(done),
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                log_end(connection.await);
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(limits.header_read_ms))
            .max_headers(limits.header_count)
            .max_buf_size(limits.header_bytes.max(8_192))
            .half_close(false);
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            done = connection.as_mut() => log_end(done),
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                log_end(connection.await);
            }
        }
    }
}

/// Done when it is time to stop, or nobody is left to say so.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|s| *s).await);
}

fn log_end(done: hyper::Result<()>) {
    if let Err(e) = done {
        tracing::debug!(error = %e, "connection ended");
    }
}

async fn turn_away(mut stream: TcpStream, tls: bool) {
    if tls {
        return;
    }
    let problem =
        Problem::new(Class::Unavailable, "server/connections", "too many connections").to_json().to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{problem}",
        problem.len()
    );
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// The configured number, or as many as this process has descriptors for.
fn connection_slots(wanted: usize) -> usize {
    let limit = std::fs::read_to_string("/proc/self/limits").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("Max open files"))?;
        line.split_whitespace().nth(3)?.parse::<usize>().ok()
    });
    let slots = limit.map_or(wanted, |n| wanted.min(n.saturating_sub(RESERVED_DESCRIPTORS).max(8)));
    if slots < wanted {
        tracing::warn!(wanted, slots, "fewer connections than configured: too few file descriptors");
    }
    slots
}
