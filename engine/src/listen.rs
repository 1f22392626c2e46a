//! Following a database: every transaction, in order of the log, none twice.
//!
//! 1. A listener's queue is bounded. What does not fit is not lost and does not
//!    hold up the writer: the listener reads it from the log instead.
//! 2. A listener sees transactions only once they are durable.

use crate::{DbError, TxReport, db::Shared};
use annals_model::T;
use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
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
}

impl Listeners {
    pub fn publish(&self, report: &TxReport) {
        let mut all = self.all.lock();
        all.retain(|q| {
            let Some(q) = q.upgrade() else { return false };
            let mut s = q.state.lock();
            s.newest = report.t();
            if s.reports.len() < q.capacity {
                s.reports.push_back(report.clone());
            }
            q.bell.notify_all();
            true
        });
    }

    pub fn close(&self) {
        for q in self.all.lock().iter().filter_map(Weak::upgrade) {
            q.state.lock().closed = true;
            q.bell.notify_all();
        }
    }

    pub fn add(&self, shared: Arc<Shared>, capacity: usize, from: T) -> Listener {
        let mut all = self.all.lock();
        // Under the lock that publishing takes: nothing falls between.
        let newest = shared.store().basis();
        let queue = Arc::new(Queue {
            capacity,
            state: Mutex::new(QueueState { reports: VecDeque::new(), newest, closed: false }),
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

    fn take(&mut self, deadline: Option<Clock>) -> Result<Option<TxReport>, DbError> {
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
            if self.next <= s.newest {
                let to = T((self.next.0 + LOG_BATCH).min(s.newest.0 + 1));
                drop(s);
                self.read_log(to)?;
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
