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
//! Not here: what a transaction means ([`crate::transact`]).

use crate::{
    Db, TransactError, TxReport,
    db::Shared,
    listen::Listeners,
    schema_cache::SchemaInfo,
    store::{Record, StorageError, Store},
    transact::{Author, Counters, Txn, function},
};
use annals_model::{Instant, T, tx::TxData};
use parking_lot::{Condvar, Mutex};
use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Most jobs of one group.
const MAX_GROUP: usize = 1024;

/// What the next transaction builds on.
struct State {
    staged: T,
    info: SchemaInfo,
    counters: Counters,
    last_instant: Instant,
    poisoned: Option<Arc<StorageError>>,
}

thread_local! {
    /// This thread is inside a transaction: host code of it may read, not write.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn refuse_reentry() -> Result<(), TransactError> {
    if INSIDE.get() { Err(TransactError::Reentrant) } else { Ok(()) }
}

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

/// A job in a group: run, then told how the flush went.
trait Job: Send {
    fn run(&mut self, writer: &Writer, state: &mut State);
    fn staged(&self) -> &[Staged];
    fn answer(&mut self, flushed: &Result<(), Arc<StorageError>>);
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

/// A staged transaction that waits for the flush.
struct Staged {
    report: TxReport,
    schema: Option<SchemaInfo>,
    counters: Counters,
}

/// Where the answer to a job appears.
type Answer<R, E> = Mutex<Option<Result<(TxReport, R), E>>>;

struct Task<F, R, E> {
    f: Option<F>,
    staged: Option<Staged>,
    result: Option<R>,
    out: Arc<Answer<R, E>>,
}

impl<F, R, E> Job for Task<F, R, E>
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

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        listeners: Arc<Listeners>,
        read_only: bool,
    ) -> Result<Writer, StorageError> {
        let store = shared.store();
        let staged = store.basis();
        let last_instant = store.instant_of(staged)?.unwrap_or_default();
        let info = shared.schemas().at(staged);
        let counters = shared.counters();
        Ok(Writer {
            state: Mutex::new(State { staged, info, counters, last_instant, poisoned: None }),
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
        let out = Arc::new(Mutex::new(None));
        let task = Task { f: Some(f), staged: None, result: None, out: out.clone() };
        if let Some(mut state) = self.state.try_lock() {
            let mut mine = task;
            self.lead(&mut state, &mut mine);
            drop(state);
            self.hand_over();
        } else {
            let wake = Arc::new(Wake::default());
            self.queue.lock().push_back(Queued { job: Box::new(task), wake: wake.clone() });
            self.wait(&wake);
        }
        let answer = out.lock().take();
        answer.unwrap_or_else(|| Err(TransactError::Closed.into()))
    }

    /// Commits transactions in order with one sync, up to the first refused one.
    pub fn write_all(&self, txs: Vec<TxData>) -> (Vec<TxReport>, Option<TransactError>) {
        if let Err(e) = refuse_reentry() {
            return (Vec::new(), Some(e));
        }
        let mut batch = Batch { txs, staged: Vec::new(), done: Vec::new(), refused: None };
        {
            let mut state = self.state.lock();
            self.lead(&mut state, &mut batch);
        }
        self.hand_over();
        (batch.done, batch.refused)
    }

    /// Runs each function on a transaction of its own, up to the first refusal; one sync.
    pub fn write_each<F, R, E>(&self, fs: Vec<F>) -> (Vec<R>, Option<E>)
    where
        F: FnOnce(&mut Txn) -> Result<R, E> + Send,
        R: Send,
        E: From<TransactError> + Send,
    {
        if let Err(e) = refuse_reentry() {
            return (Vec::new(), Some(e.into()));
        }
        let mut each = Each { fs, staged: Vec::new(), made: Vec::new(), refused: None };
        {
            let mut state = self.state.lock();
            self.lead(&mut state, &mut each);
        }
        self.hand_over();
        (each.made, each.refused)
    }

    /// Commits records that were made elsewhere, as they are, with one sync, up to the first
    /// refusal: for restoring an export. Each is made from the database before it. Gives how
    /// many were committed.
    pub fn replay<F, E>(&self, makers: Vec<F>) -> (usize, Option<E>)
    where
        F: FnOnce(&Db) -> Result<Record, E> + Send,
        E: From<TransactError> + Send,
    {
        if let Err(e) = refuse_reentry() {
            return (0, Some(e.into()));
        }
        let mut replay = Replay { makers, staged: Vec::new(), done: 0, refused: None };
        {
            let mut state = self.state.lock();
            self.lead(&mut state, &mut replay);
        }
        self.hand_over();
        (replay.done, replay.refused)
    }

    /// Stages a record as it is on top of what is staged.
    fn stage_record(&self, state: &mut State, before: Db, record: Record) -> Result<Staged, TransactError> {
        let record = Arc::new(record);
        let (t, instant) = (record.t, record.instant);
        self.shared.store().stage(record.clone()).map_err(TransactError::from)?;
        let mut schema = None;
        if SchemaInfo::concerns(&record.datoms) {
            let mut mine = record.datoms.clone();
            mine.sort_by(|x, y| (x.e, x.a, x.added, &x.v).cmp(&(y.e, y.a, y.added, &y.v)));
            let info = state.info.apply(&mine);
            self.shared.schemas().record(t, info.clone(), &record.datoms);
            state.info = info.clone();
            schema = Some(info);
        }
        (state.staged, state.last_instant) = (t, instant);
        state.counters = Counters::of(self.shared.store());
        let after = self.shared.db_with(t, state.info.clone());
        let report = TxReport::new(record, before, after, Vec::new());
        Ok(Staged { report, schema, counters: state.counters })
    }

    /// May anything be written?
    fn open(&self, state: &State) -> Result<(), TransactError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(TransactError::Closed);
        }
        if self.read_only {
            return Err(TransactError::ReadOnly);
        }
        match &state.poisoned {
            Some(because) => {
                let because = because.clone();
                Err(TransactError::Storage(Arc::new(StorageError::Poisoned { because })))
            }
            None => Ok(()),
        }
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

    fn stage<F, R, E>(&self, state: &mut State, f: F) -> Result<(Staged, R), E>
    where
        F: FnOnce(&mut Txn) -> Result<R, E>,
        E: From<TransactError>,
    {
        let stage = |record| self.shared.store().stage(record).map_err(|e| TransactError::from(e).into());
        let (staged, (r, ())) = self.stage_by(state, f, stage)?;
        Ok((staged, r))
    }

    /// Makes a transaction and gives its record to `put`; on success the next one
    /// builds on it.
    fn stage_by<F, R, P, E>(
        &self,
        state: &mut State,
        f: F,
        put: impl FnOnce(Arc<Record>) -> Result<P, E>,
    ) -> Result<(Staged, (R, P)), E>
    where
        F: FnOnce(&mut Txn) -> Result<R, E>,
        E: From<TransactError>,
    {
        self.open(state)?;
        let before = self.shared.db_with(state.staged, state.info.clone());
        let mut txn = Txn::new(before.clone(), state.counters, state.last_instant);
        INSIDE.set(true);
        let made = function::guarded(|| "a transaction".to_owned(), || f(&mut txn));
        INSIDE.set(false);
        let r = made??;
        let done = txn.finish()?;
        let record = done.record;
        let (t, instant) = (record.t, record.instant);
        let p = put(record.clone())?;
        state.staged = t;
        state.counters = done.counters;
        state.last_instant = instant;
        if let Some(info) = &done.schema {
            self.shared.schemas().record(t, info.clone(), &record.datoms);
            state.info = info.clone();
        }
        let after = self.shared.db_with(t, state.info.clone());
        let report = TxReport::new(record, before, after, done.tempids);
        Ok((Staged { report, schema: done.schema, counters: done.counters }, (r, p)))
    }
}

/// Several transactions of one caller.
struct Batch {
    txs: Vec<TxData>,
    staged: Vec<Staged>,
    done: Vec<TxReport>,
    refused: Option<TransactError>,
}

impl Job for Batch {
    fn run(&mut self, writer: &Writer, state: &mut State) {
        for data in std::mem::take(&mut self.txs) {
            match writer.stage(state, |txn| txn.facts(&data, Author::User)) {
                Ok((staged, ())) => self.staged.push(staged),
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
        let staged = std::mem::take(&mut self.staged);
        match flushed {
            Ok(()) => self.done = staged.into_iter().map(|s| s.report).collect(),
            Err(e) => self.refused = Some(TransactError::Storage(e.clone())),
        }
    }
}

/// Several transactions made by functions.
struct Each<F, R, E> {
    fs: Vec<F>,
    staged: Vec<Staged>,
    made: Vec<R>,
    refused: Option<E>,
}

impl<F, R, E> Job for Each<F, R, E>
where
    F: FnOnce(&mut Txn) -> Result<R, E> + Send,
    R: Send,
    E: From<TransactError> + Send,
{
    fn run(&mut self, writer: &Writer, state: &mut State) {
        for f in std::mem::take(&mut self.fs) {
            match writer.stage(state, f) {
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
        if let Err(e) = flushed {
            self.made.clear();
            self.refused = Some(TransactError::Storage(e.clone()).into());
        }
        self.staged.clear();
    }
}

/// Several records of one caller, committed as they are.
struct Replay<F, E> {
    makers: Vec<F>,
    staged: Vec<Staged>,
    done: usize,
    refused: Option<E>,
}

impl<F, E> Job for Replay<F, E>
where
    F: FnOnce(&Db) -> Result<Record, E> + Send,
    E: From<TransactError> + Send,
{
    fn run(&mut self, writer: &Writer, state: &mut State) {
        for make in std::mem::take(&mut self.makers) {
            let staged = writer.open(state).map_err(E::from).and_then(|()| {
                let before = writer.shared.db_with(state.staged, state.info.clone());
                let record = make(&before)?;
                Ok(writer.stage_record(state, before, record)?)
            });
            match staged {
                Ok(staged) => self.staged.push(staged),
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
        match flushed {
            Ok(()) => self.done = self.staged.len(),
            Err(e) => self.refused = Some(TransactError::Storage(e.clone()).into()),
        }
        self.staged.clear();
    }
}

/// The leader's own job when it has none.
struct Nothing;

impl Job for Nothing {
    fn run(&mut self, _: &Writer, _: &mut State) {}
    fn staged(&self) -> &[Staged] {
        &[]
    }
    fn answer(&mut self, _: &Result<(), Arc<StorageError>>) {}
}

impl Db {
    /// The newest durable transaction of the database this value came from, which
    /// may be later than the value's own basis.
    pub fn newest_t(&self) -> T {
        self.shared().store().basis()
    }
}
