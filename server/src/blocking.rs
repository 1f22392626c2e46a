//! The one bridge from async to the engine.
//!
//! 1. Engine work runs on blocking threads, at most `running` at a time per pool,
//!    `queued` waiting behind them; whoever comes then is told 429 at once.
//! 2. A caller that goes away stops its work: the future holds a guard that raises
//!    the cancel flag, which the engine looks at between batches.
//! 3. A panic below is caught here and becomes a 500 without its text.

use crate::wire::problem::{Class, Problem};
use annals::Cancel;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// A bounded pool of blocking work.
#[derive(Debug)]
pub struct Pool {
    permits: Arc<Semaphore>,
    running_max: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
    wait: Duration,
}

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// A pool of `running` workers with `queued` places to wait in, `wait` at most.
    pub fn new(running: usize, queued: usize, wait: Duration) -> Pool {
        Pool {
            permits: Arc::new(Semaphore::new(running)),
            running_max: running,
            waiting: AtomicUsize::new(0),
            waiting_max: queued,
            wait,
        }
    }

    /// Running and waiting now.
    pub fn load(&self) -> (usize, usize) {
        (self.running_max - self.permits.available_permits(), self.waiting.load(Ordering::Relaxed))
    }

    /// Runs `work` on a blocking thread. The flag it is given is raised when this
    /// future is dropped before the work is done.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Cancel) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    return Err(busy());
                }
                let _place = Waiting(&self.waiting);
                match tokio::time::timeout(self.wait, self.permits.clone().acquire_owned()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) | Err(_) => return Err(busy()),
                }
            }
        };
        let cancel = Cancel::new();
        let guard = CancelOnDrop(cancel.clone());
        let done = tokio::task::spawn_blocking(move || {
            let answer = work(cancel);
            drop(permit);
            answer
        })
        .await;
        drop(guard);
        match done {
            Ok(answer) => answer,
            Err(e) => {
                tracing::error!(panicked = e.is_panic(), "engine work ended without an answer");
                Err(Problem::new(
                    Class::Internal,
                    "server/internal",
                    "the server failed; the failure is logged",
                ))
            }
        }
    }
}

fn busy() -> Problem {
    Problem::new(Class::TooMany, "server/busy", "too many requests are running and waiting")
        .hint("try again after a moment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded_and_a_dropped_caller_cancels() {
        let pool = Arc::new(Pool::new(1, 1, Duration::from_secs(5)));
        let (seen_tx, seen) = std::sync::mpsc::channel();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move |cancel| {
                    seen_tx.send(cancel.clone()).unwrap();
                    while !cancel.is_cancelled() {
                        std::thread::yield_now();
                    }
                    Ok(())
                })
                .await
            }
        });
        let cancel = tokio::task::spawn_blocking(move || seen.recv().unwrap()).await.unwrap();
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|_| Ok(2)).await }
        });
        while pool.load().1 == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|_| Ok(3)).await.unwrap_err().class, Class::TooMany);
        first.abort();
        assert_eq!(second.await.unwrap().unwrap(), 2);
        assert!(cancel.is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_is_a_500_without_its_text() {
        let pool = Pool::new(1, 1, Duration::from_secs(1));
        let answer: Result<(), Problem> = pool.run(|_| panic!("secret text")).await;
        let problem = answer.unwrap_err();
        assert_eq!(problem.class, Class::Internal);
        assert!(!problem.to_json().to_string().contains("secret"));
        assert!(pool.run(|_| Ok(())).await.is_ok());
    }
}
