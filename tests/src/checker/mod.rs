//! The serial-replay checker: is what concurrent clients were told, with crashes in
//! between, what one client after another could have been told?
//!
//! There is one writer and every answer carries its `t`, so nothing has to be guessed:
//! the log gives the order, and the checker replays it through the naive model of
//! transactions ([`crate::txmodel`]). Linear in the history, and complete: a history
//! that passes is strictly serializable.
//!
//! 1. A [`History`] holds what clients sent and were told, with the times of a clock
//!    that never goes back, and the log as it was read when everything was over.
//! 2. [`check()`] says every way in which the history cannot be: [`Violation`].
//! 3. The checker trusts nothing that the database computed: the log's datoms are
//!    compared with the model's too.
//!
//! [`workload`] makes requests from a seed, [`library`] sends them through threads,
//! [`http`] to a server process that is killed; [`plant`] breaks sound histories, to
//! show that the checker sees it. Not here: schema changes, excision.

pub mod http;
pub mod library;
pub mod plant;
mod replay;
pub mod workload;

pub use replay::{Summary, Violation, check};
pub use workload::{Question, Row};

use annals_model::{Datom, EntityId, Instant, Schema, T, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that was said during a run, and the log afterwards.
#[derive(Clone, Debug)]
pub struct History {
    /// The schema, which does not change during the run.
    pub schema: Schema,
    /// The last transaction before the run.
    pub start: T,
    /// What the clients did, in any order.
    pub calls: Vec<Call>,
    /// The transactions after `start`, as the database tells them at the end.
    pub log: Vec<Entry>,
}

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asked.
    pub client: usize,
    /// When it was sent (the first time, if it was sent again), in nanoseconds of one clock.
    pub began: u64,
    /// When its answer was there, or it was given up.
    pub ended: u64,
    /// What was asked and answered.
    pub what: What,
}

/// What a client can do.
#[derive(Clone, Debug)]
pub enum What {
    /// A transaction. Its forms put [`workload::OP`] `op` on the transaction.
    Write {
        /// Its number; no two requests share one.
        op: i64,
        /// What was sent.
        forms: Vec<Value>,
        /// What came of it, as far as the client knows.
        outcome: Outcome,
    },
    /// A question, answered.
    Read {
        /// What was asked.
        question: Question,
        /// About which time, if not the newest.
        as_of: Option<T>,
        /// The newest transaction that the answer can depend on: for one about the past, that past or later.
        basis: T,
        /// The answer.
        rows: BTreeSet<Row>,
    },
}

/// What a client knows about its transaction.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Acknowledged.
    Done {
        /// As which transaction.
        t: T,
        /// The datoms reported, when they were: an answer given again after a restart has none.
        datoms: Option<Vec<Datom>>,
        /// What each tempid became, when it was told.
        tempids: Option<BTreeMap<String, EntityId>>,
    },
    /// Refused: nothing was written.
    Refused(String),
    /// The connection ended before the answer: it is in the log whole, or not at all.
    Unknown,
}

/// A transaction of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number.
    pub t: T,
    /// Its instant.
    pub instant: Instant,
    /// Its datoms.
    pub datoms: Vec<Datom>,
}
