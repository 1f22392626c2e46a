//! A socket whose peer must go on reading.
//!
//! 1. Bytes that the peer does not take for `limit` end the connection, whatever they are part of: an
//!    answer of many rows, a stream of events. What the answer holds is then let go.
//! 2. A connection with nothing to write is never ended by this.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// See the head of the file.
pub struct Unstalled<S> {
    inner: S,
    limit: Duration,
    /// Until when bytes may wait; none while none do.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    /// The socket, with a limit on how long it may take nothing.
    pub fn new(inner: S, limit: Duration) -> Unstalled<S> {
        Unstalled { inner, limit, until: None }
    }

    /// What a write came to: one that has to wait may wait until the limit.
    fn bounded<T>(&mut self, done: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.until = None;
            return done;
        }
        let limit = self.limit;
        let until =
            self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        match until.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.bounded(done, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_flush(cx);
        self.bounded(done, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bounded(done, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.bounded(done, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_peer_that_reads_slowly_is_served_and_one_that_does_not_is_not() {
        let (mut near, far) = tokio::io::duplex(16);
        let limit = Duration::from_millis(1_500);
        let mut far = Unstalled::new(far, limit);
        // A byte now and then keeps it alive, for longer than the limit in all.
        let writing = tokio::spawn(async move {
            let done = far.write_all(&[7; 40]).await;
            (far, done)
        });
        let mut byte = [0];
        for _ in 0..24 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            near.read_exact(&mut byte).await.unwrap();
        }
        let (mut far, done) = writing.await.unwrap();
        done.unwrap();
        // Nothing to write: it may be quiet for as long as it likes.
        tokio::time::sleep(limit + Duration::from_millis(100)).await;
        let began = Instant::now();
        let refused = far.write_all(&[7; 40]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= limit);
    }
}
