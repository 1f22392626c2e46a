//! What callers want done: one transaction, or several in order. A job is run, then told how the
//! flush of its group went.
//!
//! 1. A job stages what it can and keeps its first refusal; what is staged is told of only after
//!    the flush, and as the flush's error when that failed.

use super::{Staged, State, Writer};
use crate::{TransactError, TxReport, store::StorageError, transact::Txn};
use parking_lot::Mutex;
use std::sync::Arc;

/// A job in a group: run, then told how the flush went.
pub(super) trait Job: Send {
    fn run(&mut self, writer: &Writer, state: &mut State);
    fn staged(&self) -> &[Staged];
    fn answer(&mut self, flushed: &Result<(), Arc<StorageError>>);
}

/// Where the answer to a job appears.
pub(super) type Answer<R, E> = Mutex<Option<Result<(TxReport, R), E>>>;

/// One transaction, by a function.
pub(super) struct One<F, R, E> {
    f: Option<F>,
    staged: Option<Staged>,
    result: Option<R>,
    out: Arc<Answer<R, E>>,
}

impl<F, R, E> One<F, R, E> {
    pub fn new(f: F) -> (One<F, R, E>, Arc<Answer<R, E>>) {
        let out = Arc::new(Mutex::new(None));
        (One { f: Some(f), staged: None, result: None, out: out.clone() }, out)
    }
}

impl<F, R, E> Job for One<F, R, E>
where
    F: FnOnce(&mut Txn) -> Result<R, E> + Send,
    R: Send,
    E: From<TransactError> + Send,
{
    fn run(&mut self, writer: &Writer, state: &mut State) {
        let Some(f) = self.f.take() else { return };
        match writer.stage(state, f) {
            Ok((staged, r)) => (self.staged, self.result) = (Some(staged), Some(r)),
            Err(e) => *self.out.lock() = Some(Err(e)),
        }
    }
    fn staged(&self) -> &[Staged] {
        self.staged.as_slice()
    }
    fn answer(&mut self, flushed: &Result<(), Arc<StorageError>>) {
        if let (Some(staged), Some(r)) = (self.staged.take(), self.result.take()) {
            *self.out.lock() = Some(match flushed {
                Ok(()) => Ok((staged.report, r)),
                Err(e) => Err(TransactError::Storage(e.clone()).into()),
            });
        }
    }
}

/// Several transactions of one caller: each item is staged on top of those before it, up to the
/// first refusal.
pub(super) struct Many<I, S, R, E> {
    items: Vec<I>,
    stage: S,
    staged: Vec<Staged>,
    made: Vec<R>,
    done: Vec<(TxReport, R)>,
    refused: Option<E>,
}

impl<I, S, R, E> Many<I, S, R, E> {
    pub fn new(items: Vec<I>, stage: S) -> Many<I, S, R, E> {
        Many { items, stage, staged: Vec::new(), made: Vec::new(), done: Vec::new(), refused: None }
    }

    /// What was committed, and what ended it.
    pub fn done(self) -> (Vec<(TxReport, R)>, Option<E>) {
        (self.done, self.refused)
    }
}

impl<I, S, R, E> Job for Many<I, S, R, E>
where
    I: Send,
    S: Fn(&Writer, &mut State, I) -> Result<(Staged, R), E> + Send,
    R: Send,
    E: From<TransactError> + Send,
{
    fn run(&mut self, writer: &Writer, state: &mut State) {
        for item in std::mem::take(&mut self.items) {
            match (self.stage)(writer, state, item) {
                Ok((staged, r)) => {
                    self.staged.push(staged);
                    self.made.push(r);
                }
                Err(e) => {
                    self.refused = Some(e);
                    break;
                }
            }
        }
    }
    fn staged(&self) -> &[Staged] {
        &self.staged
    }
    fn answer(&mut self, flushed: &Result<(), Arc<StorageError>>) {
        let reports = self.staged.drain(..).map(|s| s.report);
        match flushed {
            Ok(()) => self.done = reports.zip(self.made.drain(..)).collect(),
            Err(e) => self.refused = Some(TransactError::Storage(e.clone()).into()),
        }
    }
}

/// The leader's own job when it has none.
pub(super) struct Nothing;

impl Job for Nothing {
    fn run(&mut self, _: &Writer, _: &mut State) {}
    fn staged(&self) -> &[Staged] {
        &[]
    }
    fn answer(&mut self, _: &Result<(), Arc<StorageError>>) {}
}
