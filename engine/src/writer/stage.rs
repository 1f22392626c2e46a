//! One record on top of the last: a function makes a transaction from the database before it, or a
//! record comes as it is, and the store stages it.
//!
//! 1. [`State`] moves on only when the store has taken the record: a refused transaction leaves
//!    the next one where it would have been.
//! 2. Host code inside a transaction may read, and is refused when it writes; a panic of it is an
//!    error of its transaction.

use super::Writer;
use crate::{
    Db, TransactError, TxReport,
    schema_cache::SchemaInfo,
    shared::Shared,
    store::{Record, StorageError},
    transact::{Counters, Txn, function},
};
use annals_model::{Instant, T};
use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering},
};

/// What the next transaction builds on.
pub(super) struct State {
    staged: T,
    info: SchemaInfo,
    counters: Counters,
    last_instant: Instant,
    pub poisoned: Option<Arc<StorageError>>,
}

impl State {
    pub fn new(shared: &Shared) -> Result<State, StorageError> {
        let store = shared.store();
        let staged = store.basis();
        Ok(State {
            staged,
            info: shared.schemas().at(staged),
            counters: shared.counters(),
            last_instant: store.instant_of(staged)?.unwrap_or_default(),
            poisoned: None,
        })
    }
}

thread_local! {
    /// This thread is inside a transaction: host code of it may read, not write.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn refuse_reentry() -> Result<(), TransactError> {
    if INSIDE.get() { Err(TransactError::Reentrant) } else { Ok(()) }
}

/// A staged transaction that waits for the flush.
pub(super) struct Staged {
    pub report: TxReport,
    pub schema: Option<SchemaInfo>,
    pub counters: Counters,
}

impl Writer {
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

    /// Makes a transaction and stages its record.
    pub(super) fn stage<F, R, E>(&self, state: &mut State, f: F) -> Result<(Staged, R), E>
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
    pub(super) fn stage_by<F, R, P, E>(
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

    /// Stages the record that `make` gives for the database before it.
    pub(super) fn stage_made<E>(
        &self,
        state: &mut State,
        make: impl FnOnce(&Db) -> Result<Record, E>,
    ) -> Result<(Staged, ()), E>
    where
        E: From<TransactError>,
    {
        self.open(state)?;
        let before = self.shared.db_with(state.staged, state.info.clone());
        let record = make(&before)?;
        Ok((self.stage_record(state, before, record)?, ()))
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
}
