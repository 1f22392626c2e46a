//! Server-sent events: framing, heartbeats, and a bounded queue per client.
//!
//! 1. A client that does not read is not waited for: its queue is bounded, the
//!    producer stops asking for more, and after `limits.write_stall_ms` the stream is ended. It
//!    can resume by the last id it saw.
//! 2. A comment line goes out every heartbeat, so that both ends notice a dead peer.
//! 3. Streams end when the server stops.

use crate::{
    answer,
    call::Call,
    state::{Phase, Server},
    wire::problem::{Class, Problem},
};
use annals::T;
use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// Events waiting for a client.
const QUEUE: usize = 64;

/// Where a producer puts its events.
pub struct Sink {
    server: Arc<Server>,
    sender: mpsc::Sender<Bytes>,
}

/// The client is gone, or too slow, or the server stops.
#[derive(Debug)]
pub struct Gone;

impl Sink {
    /// Sends one event.
    pub async fn event(&self, id: Option<u64>, event: &str, data: &str) -> Result<(), Gone> {
        let mut text = String::with_capacity(data.len() + 48);
        if let Some(id) = id {
            text.push_str(&format!("id: {id}\n"));
        }
        // A line break in a name would forge a field; names of events come from users.
        let name: String = event.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("event: {name}\n"));
        for line in data.split('\n') {
            text.push_str("data: ");
            text.push_str(line.trim_end_matches('\r'));
            text.push('\n');
        }
        text.push('\n');
        self.server.metrics.events_sent.fetch_add(1, Ordering::Relaxed);
        self.send(Bytes::from(text)).await
    }

    async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        let stall = Duration::from_millis(self.server.limits.write_stall_ms.max(1));
        match tokio::time::timeout(stall, self.sender.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Waits for `wake`, sending heartbeats meanwhile.
    pub async fn idle<T>(&self, wake: impl Future<Output = T>) -> Result<T, Gone> {
        let beat = Duration::from_millis(self.server.limits.sse_heartbeat_ms.max(100));
        let mut phase = self.server.phase();
        let mut wake = std::pin::pin!(wake);
        loop {
            tokio::select! {
                done = &mut wake => return Ok(done),
                () = async { drop(phase.wait_for(|p| *p >= Phase::Draining).await) } => return Err(Gone),
                () = self.sender.closed() => return Err(Gone),
                () = tokio::time::sleep(beat) => self.send(Bytes::from_static(b": still here\n\n")).await?,
            }
        }
    }

    /// Sends a problem as the last event.
    pub async fn fail(&self, problem: &Problem) -> Result<(), Gone> {
        self.event(None, "problem", &problem.to_json().to_string()).await
    }
}

/// Waits until a database has moved past `t`; none when it never will.
pub async fn beyond(basis: &mut watch::Receiver<T>, t: T) -> Option<T> {
    basis.wait_for(|now| *now > t).await.ok().map(|now| *now)
}

struct Events {
    receiver: mpsc::Receiver<Bytes>,
    server: Arc<Server>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.server.metrics.streams_open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl futures_util::Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|b| b.map(Ok))
    }
}

/// Answers with a stream that `produce` fills.
pub fn stream<F, P>(call: &Call, basis: T, produce: P) -> Result<Response, Problem>
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
    P: FnOnce(Sink) -> F,
{
    let server = call.server.clone();
    let place = server.subscriptions.clone().try_acquire_owned().map_err(|_| {
        Problem::new(Class::TooMany, "server/subscriptions", "too many event streams are open")
    })?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    server.metrics.streams_open.fetch_add(1, Ordering::Relaxed);
    let produced = produce(Sink { server: server.clone(), sender });
    tokio::spawn(async move {
        let _ = produced.await;
    });
    let mut response = Response::new(Body::from_stream(Events { receiver, server, _place: place }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer::basis_header(headers, basis);
    Ok(response)
}

/// The id the client saw last: header `Last-Event-ID`, or else parameter `after`. Both are
/// read, so that neither can be nonsense.
pub fn last_event_id(call: &Call) -> Result<Option<u64>, Problem> {
    let after = call.params.number("after")?;
    let Some(header) = call.headers.get("last-event-id") else { return Ok(after) };
    header.to_str().ok().and_then(|v| v.trim().parse().ok()).map(Some).ok_or_else(|| {
        Problem::new(Class::Syntax, "request/last-event-id", "Last-Event-ID is not an id of this stream")
    })
}
