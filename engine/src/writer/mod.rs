//! The write path: one transaction at a time is checked, many are synced at once.
//!
//! Group commit without a writer thread. A caller that finds the writer free
//! leads: it runs its own job and every job queued meanwhile, each on top of the
//! ones before it, then flushes once and answers all. A caller that finds the
//! writer busy queues its job and sleeps until it is answered, or until it is
//! woken to lead the next group. So a lone writer pays no hand-off between
//! threads, and n writers pay one sync for many commits.
//!
//! 1. Jobs run in the order of the queue; job `k` sees what jobs before it staged.
//! 2. A refused job fails alone and stages nothing.
//! 3. No job is answered with success before its record is durable.
//! 4. After a failed flush every job is refused until the database is opened
//!    again: what the disk holds is not known.
//!
//! [`job`] is what a caller wants done, [`stage`] how one record of it comes on top
//! of the last. Not here: what a transaction means ([`crate::transact`]).

mod job;
mod stage;

use self::{
    job::{Job, Many, Nothing, One},
    stage::{Staged, State, refuse_reentry},
};
use crate::{
    Db, TransactError, TxReport,
    listen::Listeners,
    shared::Shared,
    store::{Record, StorageError, Store},
    transact::{Author, Txn},
};
use annals_model::{T, tx::TxData};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Most jobs of one group.
const MAX_GROUP: usize = 1024;

/// The only writer of a database.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    state: Mutex<State>,
    queue: Mutex<VecDeque<Queued>>,
    listeners: Arc<Listeners>,
    closed: AtomicBool,
    read_only: bool,
}

struct Queued {
    job: Box<dyn Job>,
    wake: Arc<Wake>,
}

/// How a waiting caller is woken.
#[derive(Default)]
struct Wake {
    state: Mutex<Woken>,
    bell: Condvar,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Woken {
    #[default]
    Waiting,
    Lead,
    Answered,
}

impl Wake {
    fn set(&self, to: Woken) {
        let mut state = self.state.lock();
        if *state != Woken::Answered {
            *state = to;
        }
        self.bell.notify_one();
    }
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        listeners: Arc<Listeners>,
        read_only: bool,
    ) -> Result<Writer, StorageError> {
        Ok(Writer {
            state: Mutex::new(State::new(&shared)?),
            shared,
            queue: Mutex::default(),
            listeners,
            closed: AtomicBool::new(false),
            read_only,
        })
    }

    /// Refuses everything from now on. Waits for a group under way.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(self.state.lock());
    }

    /// Runs `f` on a transaction and commits what it made. Returns when durable.
    pub fn write<F, R, E>(&self, f: F) -> Result<(TxReport, R), E>
    where
        F: FnOnce(&mut Txn) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<TransactError> + Send + 'static,
    {
        refuse_reentry()?;
        let (mut one, answer) = One::new(f);
        if let Some(mut state) = self.state.try_lock() {
            self.lead(&mut state, &mut one);
            drop(state);
            self.hand_over();
        } else {
            let wake = Arc::new(Wake::default());
            self.queue.lock().push_back(Queued { job: Box::new(one), wake: wake.clone() });
            self.wait(&wake);
        }
        let answer = answer.lock().take();
        answer.unwrap_or_else(|| Err(TransactError::Closed.into()))
    }

    /// Commits transactions in order with one sync, up to the first refused one.
    pub fn write_all(&self, txs: Vec<TxData>) -> (Vec<TxReport>, Option<TransactError>) {
        let stage = |writer: &Writer, state: &mut State, data: TxData| {
            writer.stage(state, |txn| txn.facts(&data, Author::User))
        };
        let (done, refused) = self.many(txs, stage);
        (done.into_iter().map(|(report, ())| report).collect(), refused)
    }

    /// Runs each function on a transaction of its own, up to the first refusal; one sync.
    pub fn write_each<F, R, E>(&self, fs: Vec<F>) -> (Vec<R>, Option<E>)
    where
        F: FnOnce(&mut Txn) -> Result<R, E> + Send,
        R: Send,
        E: From<TransactError> + Send,
    {
        let (done, refused) = self.many(fs, |writer, state, f| writer.stage(state, f));
        (done.into_iter().map(|(_, r)| r).collect(), refused)
    }

    /// Commits records that were made elsewhere, as they are, with one sync, up to the first
    /// refusal: for restoring an export. Each is made from the database before it. Gives how
    /// many were committed.
    pub fn replay<F, E>(&self, makers: Vec<F>) -> (usize, Option<E>)
    where
        F: FnOnce(&Db) -> Result<Record, E> + Send,
        E: From<TransactError> + Send,
    {
        let (done, refused) = self.many(makers, |writer, state, make| writer.stage_made(state, make));
        (done.len(), refused)
    }

    /// Stages something for each of the items, in order, up to the first refusal, and syncs once.
    fn many<I, R, E>(
        &self,
        items: Vec<I>,
        stage: impl Fn(&Writer, &mut State, I) -> Result<(Staged, R), E> + Send,
    ) -> (Vec<(TxReport, R)>, Option<E>)
    where
        I: Send,
        R: Send,
        E: From<TransactError> + Send,
    {
        if let Err(e) = refuse_reentry() {
            return (Vec::new(), Some(e.into()));
        }
        let mut many = Many::new(items, stage);
        {
            let mut state = self.state.lock();
            self.lead(&mut state, &mut many);
        }
        self.hand_over();
        many.done()
    }

    /// Runs `f` on a transaction and hands its record to `commit`, which makes it
    /// durable in its own way, while nobody else writes.
    pub fn exclusive<R>(
        &self,
        f: impl FnOnce(&mut Txn) -> Result<(), TransactError>,
        commit: impl FnOnce(&Store, Record) -> Result<R, StorageError>,
    ) -> Result<(TxReport, R), TransactError> {
        refuse_reentry()?;
        let done = {
            let mut state = self.state.lock();
            let put = |record: Arc<Record>| {
                commit(self.shared.store(), Record::clone(&record)).map_err(TransactError::from)
            };
            let (staged, ((), r)) = self.stage_by(&mut state, f, put)?;
            self.announce(&staged);
            (staged.report, r)
        };
        self.hand_over();
        Ok(done)
    }

    fn announce(&self, staged: &Staged) {
        self.shared.published(staged.report.t(), staged.counters, staged.schema.as_ref());
        self.listeners.publish(&staged.report);
    }

    fn wait(&self, wake: &Wake) {
        loop {
            // The leader may have gone before it could see this job.
            if let Some(mut state) = self.state.try_lock() {
                if *wake.state.lock() != Woken::Answered {
                    self.lead(&mut state, &mut Nothing);
                }
                drop(state);
                self.hand_over();
            }
            let mut woken = wake.state.lock();
            while *woken == Woken::Waiting {
                wake.bell.wait(&mut woken);
            }
            if *woken == Woken::Answered {
                return;
            }
            *woken = Woken::Waiting;
        }
    }

    /// Wakes the first of those who queued too late for the last group.
    fn hand_over(&self) {
        let next = self.queue.lock().front().map(|q| q.wake.clone());
        if let Some(wake) = next {
            wake.set(Woken::Lead);
        }
    }

    fn lead(&self, state: &mut State, mine: &mut dyn Job) {
        mine.run(self, state);
        let mut group: Vec<Queued> = Vec::new();
        loop {
            let Some(mut next) = self.queue.lock().pop_front() else { break };
            next.job.run(self, state);
            group.push(next);
            if group.len() >= MAX_GROUP {
                break;
            }
        }
        let jobs = || std::iter::once(&*mine).chain(group.iter().map(|q| &*q.job));
        let any = jobs().any(|j| !j.staged().is_empty());
        let flushed = if any { self.flush(state) } else { Ok(()) };
        if flushed.is_ok() {
            for staged in jobs().flat_map(Job::staged) {
                self.announce(staged);
            }
        }
        mine.answer(&flushed);
        for mut q in group {
            q.job.answer(&flushed);
            q.wake.set(Woken::Answered);
        }
    }

    fn flush(&self, state: &mut State) -> Result<(), Arc<StorageError>> {
        self.shared.store().flush().map_err(|e| {
            let e = Arc::new(e);
            self.shared.store().unstage();
            state.poisoned = Some(e.clone());
            e
        })
    }
}

impl Db {
    /// The newest durable transaction of the database this value came from, which
    /// may be later than the value's own basis.
    pub fn newest_t(&self) -> T {
        self.shared().store().basis()
    }
}
