//! What a query may use: time, rows, bytes, and a flag to stop it.
//!
//! 1. Every operator spends here per batch, also within fixpoints; nothing runs
//!    longer than one batch after its budget is gone.
//! 2. Bytes are those of the relations alive at one moment; they are given back
//!    when a relation is dropped. Rows are counted as they are made, and never given back.
//! 3. Rows read of attributes are counted beside them, for those who want to know what a query cost:
//!    no limit looks at them. What a cache holds counts as read when a run first uses it.
//!
//! The only reader of a clock in this crate.

use crate::error::QueryError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Rows between two checks of the budget inside an operator.
pub const BATCH: usize = 1024;

/// A flag that stops a running query from another thread, and what that thread can see of it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    raised: AtomicBool,
    rows: AtomicU64,
    rows_read: AtomicU64,
}

impl Cancel {
    /// A flag that is down.
    pub fn new() -> Cancel {
        Cancel::default()
    }
    /// Stops every query that was given this flag.
    pub fn cancel(&self) {
        self.0.raised.store(true, Ordering::Relaxed);
    }
    /// Has it been raised?
    pub fn is_cancelled(&self) -> bool {
        self.0.raised.load(Ordering::Relaxed)
    }
    /// Rows made so far by the query that runs with this flag: for showing progress. Of several
    /// queries with one flag, those of the one that made rows last.
    pub fn rows(&self) -> u64 {
        self.0.rows.load(Ordering::Relaxed)
    }
    /// Rows read so far of attributes: see [`Cancel::rows`].
    pub fn rows_read(&self) -> u64 {
        self.0.rows_read.load(Ordering::Relaxed)
    }
}

/// What a query had used when it ended or was stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Rows made by all operators together.
    pub rows: u64,
    /// Rows of attributes that were read: whole ones, and those found by their keys.
    pub rows_read: u64,
    /// The most bytes of relations alive at one moment.
    pub peak_bytes: u64,
    /// Microseconds since the start.
    pub elapsed_us: u64,
}

/// Counts bytes alive; shared by a budget and the relations it pays for.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    live: AtomicU64,
    peak: AtomicU64,
}

impl Meter {
    pub(crate) fn take(&self, bytes: u64) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }
    pub(crate) fn give_back(&self, bytes: u64) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes alive in an operator that is not done, on whichever thread; given back with it.
pub(crate) struct Held<'b> {
    budget: &'b Budget,
    bytes: u64,
}

impl Held<'_> {
    /// Pays for `rows` more rows, says how many bytes are held in all by now, and checks every limit.
    pub(crate) fn spend(&mut self, rows: usize, bytes: usize) -> Result<(), QueryError> {
        let bytes = bytes as u64;
        if bytes > self.bytes {
            self.budget.meter.take(bytes - self.bytes);
            self.bytes = bytes;
        }
        self.budget.spend(rows, 0)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.meter.give_back(self.bytes);
    }
}

/// The limits of one run and what is used of them.
#[derive(Debug)]
pub struct Budget {
    start: Instant,
    timeout: Option<Duration>,
    max_rows: u64,
    max_bytes: u64,
    cancel: Cancel,
    rows: AtomicU64,
    rows_read: AtomicU64,
    meter: Arc<Meter>,
}

impl Budget {
    /// Starts the clock.
    pub fn new(timeout_ms: Option<u64>, max_rows: u64, max_bytes: u64, cancel: Cancel) -> Budget {
        Budget {
            start: Instant::now(),
            timeout: timeout_ms.map(Duration::from_millis),
            max_rows,
            max_bytes,
            cancel,
            rows: AtomicU64::new(0),
            rows_read: AtomicU64::new(0),
            meter: Arc::default(),
        }
    }

    /// A budget without limits.
    pub fn unlimited() -> Budget {
        Budget::new(None, u64::MAX, u64::MAX, Cancel::new())
    }

    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Bytes that an operator holds while it works; none so far.
    pub(crate) fn held(&self) -> Held<'_> {
        Held { budget: self, bytes: 0 }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What has been used so far.
    pub fn usage(&self) -> Usage {
        Usage {
            rows: self.rows.load(Ordering::Relaxed),
            rows_read: self.rows_read.load(Ordering::Relaxed),
            peak_bytes: self.meter.peak.load(Ordering::Relaxed),
            elapsed_us: u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Pays for `rows` new rows and checks every limit. `pending` bytes are held
    /// by the operator but not yet part of a relation.
    pub fn spend(&self, rows: usize, pending: usize) -> Result<(), QueryError> {
        let made = self.rows.fetch_add(rows as u64, Ordering::Relaxed) + rows as u64;
        self.cancel.0.rows.store(made, Ordering::Relaxed);
        if made > self.max_rows {
            return Err(QueryError::RowLimit { limit: self.max_rows, used: self.usage() });
        }
        let live = self.meter.live.load(Ordering::Relaxed) + pending as u64;
        if live > self.max_bytes {
            return Err(QueryError::MemoryLimit { limit: self.max_bytes, used: self.usage() });
        }
        self.check()
    }

    /// Notes rows that were read.
    pub(crate) fn read(&self, rows: usize) {
        let read = self.rows_read.fetch_add(rows as u64, Ordering::Relaxed) + rows as u64;
        self.cancel.0.rows_read.store(read, Ordering::Relaxed);
    }

    /// Checks the clock and the flag.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.cancel.is_cancelled() {
            return Err(QueryError::Cancelled { used: self.usage() });
        }
        match self.timeout {
            Some(t) if self.elapsed() > t => {
                let limit_ms = u64::try_from(t.as_millis()).unwrap_or(u64::MAX);
                Err(QueryError::Timeout { limit_ms, used: self.usage() })
            }
            _ => Ok(()),
        }
    }
}
