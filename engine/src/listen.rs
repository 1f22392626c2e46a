//! Following a database: every transaction, in order of the log, none twice.
//!
//! 1. A listener's queue is bounded. What does not fit is not lost and does not
//!    hold up the writer: the listener reads it from the log instead.
//! 2. A listener sees transactions only once they are durable.

use crate::{DbError, TxReport, shared::Shared};
use annals_model::T;
use futures_core::Stream;
use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::{Duration, Instant as Clock},
};

/// Most records a lagging listener reads from the log at once.
const LOG_BATCH: u64 = 256;

/// All listeners of a database.
#[derive(Default)]
pub(crate) struct Listeners {
    all: Mutex<Vec<Weak<Queue>>>,
}

struct Queue {
    capacity: usize,
    state: Mutex<QueueState>,
    bell: Condvar,
}

struct QueueState {
    reports: VecDeque<TxReport>,
    newest: T,
    closed: bool,
    /// The task that waits, when the listener is a stream.
    task: Option<Waker>,
}

impl Listeners {
    pub fn publish(&self, report: &TxReport) {
        let mut tasks = Vec::new();
        self.all.lock().retain(|q| {
            let Some(q) = q.upgrade() else { return false };
            let mut s = q.state.lock();
            s.newest = report.t();
            if s.reports.len() < q.capacity {
                s.reports.push_back(report.clone());
            }
            tasks.extend(s.task.take());
            q.bell.notify_all();
            true
        });
        // Not under the locks: waking is code of somebody's executor.
        tasks.into_iter().for_each(Waker::wake);
    }

    pub fn close(&self) {
        for q in self.all.lock().iter().filter_map(Weak::upgrade) {
            let mut s = q.state.lock();
            s.closed = true;
            let task = s.task.take();
            drop(s);
            q.bell.notify_all();
            task.into_iter().for_each(Waker::wake);
        }
    }

    pub fn add(&self, shared: Arc<Shared>, capacity: usize, from: T) -> Listener {
        let mut all = self.all.lock();
        // Under the lock that publishing takes: nothing falls between.
        let newest = shared.store().basis();
        let queue = Arc::new(Queue {
            capacity,
            state: Mutex::new(QueueState { reports: VecDeque::new(), newest, closed: false, task: None }),
            bell: Condvar::new(),
        });
        all.push(Arc::downgrade(&queue));
        Listener { shared, queue, next: from, batch: VecDeque::new() }
    }
}

/// Receives the report of every transaction, in order.
///
/// ```
/// let conn = annals::in_memory()?;
/// let mut listener = conn.listen();
/// conn.transact("[{:db/ident :color/red}]")?;
/// let report = listener.try_next()?.expect("one transaction");
/// assert_eq!(report.t(), annals::T(1));
/// # Ok::<(), annals::Error>(())
/// ```
pub struct Listener {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    next: T,
    batch: VecDeque<TxReport>,
}

impl Listener {
    /// The transaction it will deliver next.
    pub fn position(&self) -> T {
        self.next
    }

    /// The next report, if there is one now.
    pub fn try_next(&mut self) -> Result<Option<TxReport>, DbError> {
        self.take(Some(Clock::now()))
    }

    /// Waits so long at most.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<TxReport>, DbError> {
        self.take(Some(Clock::now() + timeout))
    }

    /// The same as an asynchronous stream, from where it stands.
    pub fn into_stream(self) -> TxStream {
        TxStream(self)
    }

    fn take(&mut self, deadline: Option<Clock>) -> Result<Option<TxReport>, DbError> {
        loop {
            if let Some(report) = self.look()? {
                return Ok(Some(report));
            }
            let mut s = self.queue.state.lock();
            if self.next <= s.newest {
                continue;
            }
            if s.closed {
                return Ok(None);
            }
            match deadline {
                None => self.queue.bell.wait(&mut s),
                Some(at) if Clock::now() >= at => return Ok(None),
                Some(at) => {
                    self.queue.bell.wait_until(&mut s, at);
                }
            }
        }
    }

    /// The next report there is now.
    fn look(&mut self) -> Result<Option<TxReport>, DbError> {
        loop {
            if let Some(report) = self.batch.pop_front() {
                self.next = report.t().next();
                return Ok(Some(report));
            }
            let mut s = self.queue.state.lock();
            while s.reports.front().is_some_and(|r| r.t() < self.next) {
                s.reports.pop_front();
            }
            if s.reports.front().is_some_and(|r| r.t() == self.next) {
                let report = s.reports.pop_front();
                self.next = self.next.next();
                return Ok(report);
            }
            if self.next > s.newest {
                return Ok(None);
            }
            let to = T((self.next.0 + LOG_BATCH).min(s.newest.0 + 1));
            drop(s);
            self.read_log(to)?;
        }
    }

    fn read_log(&mut self, to: T) -> Result<(), DbError> {
        for record in self.shared.store().log(self.next, to)? {
            let record = record?;
            self.batch.push_back(self.shared.report_of(record));
        }
        Ok(())
    }
}

/// Waits for each next report; ends when the database is closed.
impl Iterator for Listener {
    type Item = Result<TxReport, DbError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.take(None).transpose()
    }
}

/// Transactions as they come, as a `Stream` ([`crate::event::Stream`]), for any executor: what
/// [`Listener::into_stream`] gives. Each once, in order; a reader that lags reads the log. It has no
/// thread: the task is woken by the commit. It ends when the database is closed and everything has
/// been handed out.
///
/// ```
/// use annals::event::Stream;
/// # use std::{pin::pin, task::{Context, Poll, Waker}};
/// let conn = annals::in_memory()?;
/// let mut reports = conn.listen().into_stream();
/// conn.transact("[{:db/ident :color/red}]")?;
/// // In an async function: while let Some(report) = reports.next().await { … }
/// # let mut cx = Context::from_waker(Waker::noop());
/// let Poll::Ready(Some(report)) = pin!(reports).poll_next(&mut cx) else { panic!("one transaction") };
/// assert_eq!(report?.t(), annals::T(1));
/// # Ok::<(), annals::Error>(())
/// ```
pub struct TxStream(Listener);

impl TxStream {
    /// The transaction it will deliver next: where to resume.
    pub fn position(&self) -> T {
        self.0.position()
    }
    /// The blocking iterator again, from where it stands.
    pub fn into_blocking(self) -> Listener {
        self.0
    }
}

impl Stream for TxStream {
    type Item = Result<TxReport, DbError>;
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let listener = &mut self.get_mut().0;
        loop {
            match listener.look() {
                Ok(None) => {}
                Ok(Some(report)) => return Poll::Ready(Some(Ok(report))),
                Err(e) => return Poll::Ready(Some(Err(e))),
            }
            // Under the lock that publishing takes: nothing falls between looking and sleeping.
            let mut s = listener.queue.state.lock();
            if listener.next > s.newest {
                if s.closed {
                    return Poll::Ready(None);
                }
                s.task = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    }
}
