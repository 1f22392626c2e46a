//! The store: one log, its indexes, novelty over them, and one writer.
//!
//! 1. A record is staged (visible to reads whose basis includes it), then
//!    flushed (durable), and only then published ([`Store::basis`]).
//! 2. Only the writer changes novelty; readers never wait for it longer than
//!    one record takes.
//! 3. No reader holds an LMDB transaction between calls.
//! 4. After a failed write or sync the writer is poisoned: every later write is
//!    refused, reads go on.

use crate::MAX_RECORD_BYTES;
use crate::checkpoint::{Background, Checkpoints};
use crate::columns::Cache;
use crate::counts::Stats;
use crate::error::{Damage, Res, StorageError};
use crate::folder::Folder;
use crate::held::Notes;
use crate::index::{self, About};
use crate::kv::Env;
use crate::log::{Log, LogIter};
use crate::lower::Lower;
use crate::novelty::Undo;
use crate::read::{Layers, SharedDelta};
use crate::record;
use crate::scan::{Visit, VisitCells, VisitRow};
use crate::starts::Starts;
use crate::types::{At, Hints, Prefix, ProbeOut, Record, Row, StoreOptions};
use annals_model::{AttrId, Column, Datom, Dict, EntityId, Instant, Order, Partition, T, Value};
use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, RwLock};
use smallvec::SmallVec;
use std::{
    ops::{Bound, ControlFlow},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A log of facts and its indexes, in a folder or in memory. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) core: Arc<Core>,
    /// Do columns of the past that this handle reads stay in the cache?
    keep: bool,
    /// Stops the background when the last clone goes.
    _background: Arc<Background>,
}

pub(crate) struct Core {
    pub options: StoreOptions,
    pub shot: ArcSwap<Shot>,
    pub writer: Mutex<Writer>,
    pub stats: RwLock<Stats>,
    pub times: RwLock<Times>,
    pub log: Log,
    pub published: AtomicU64,
    pub newest: AtomicU64,
    pub late_end: AtomicU64,
    pub checkpoints: Checkpoints,
    pub cache: Cache,
    pub hints: ArcSwap<Hints>,
    /// What the next record asks for again.
    pub notes: Mutex<Notes>,
    /// Signalled when nothing is staged any more; goes with `writer`.
    pub settled: Condvar,
    /// Owned as long as the store is open; dropped last.
    pub folder: Option<Folder>,
}

/// Which layers there are. Swapped as a whole, by whoever holds `Checkpoints::one`.
pub(crate) struct Shot {
    /// The indexes; none in memory.
    pub base: Option<Base>,
    /// Novelty being moved into LMDB.
    pub frozen: Option<Frozen>,
    /// Novelty being written.
    pub active: SharedDelta,
    /// When the facts below it begin.
    pub starts: Arc<Starts>,
}

/// The indexes as of their last commit that readers have been told of.
#[derive(Clone)]
pub(crate) struct Base {
    pub env: Arc<Env>,
    pub txn_id: u64,
    /// Last record in them.
    pub t: T,
}

/// A delta that no longer changes.
#[derive(Clone)]
pub(crate) struct Frozen {
    pub delta: SharedDelta,
    pub about: Arc<About>,
    pub instants: Arc<[(T, Instant)]>,
}

pub(crate) struct Writer {
    staged: Vec<Staged>,
    pub last: Option<(T, Instant)>,
    poisoned: Option<Arc<StorageError>>,
}

struct Staged {
    record: Arc<Record>,
    undo: Vec<Undo>,
    counters: [u64; 4],
}

impl Writer {
    pub fn new(last: Option<(T, Instant)>) -> Writer {
        Writer { staged: Vec::new(), last, poisoned: None }
    }
    /// What is staged of an attribute.
    pub fn staged_of(&self, a: AttrId) -> Vec<(T, Datom)> {
        let of = |s: &Staged| {
            let t = s.record.t;
            s.record.datoms.iter().filter(|d| d.a == a).map(|d| (t, d.clone())).collect::<Vec<_>>()
        };
        self.staged.iter().flat_map(of).collect()
    }
    pub fn poison(&mut self, because: &StorageError) {
        self.poisoned = Some(Arc::new(because.clone()));
    }
    /// May this record be the next?
    pub fn check(&self, r: &Record) -> Res<()> {
        self.refuse_if_poisoned()?;
        let expected = self.last.map_or(T(0), |(t, _)| t.next());
        if r.t != expected {
            return Err(StorageError::OutOfOrder { t: r.t, expected });
        }
        if self.last.is_some_and(|(_, i)| r.instant < i) {
            return Err(StorageError::ClockBack { t: r.t });
        }
        if weight(r) > MAX_RECORD_BYTES {
            let mut bytes = Vec::new();
            record::write(r, r.t, &mut [0; 32], &mut bytes);
            if bytes.len() > MAX_RECORD_BYTES {
                return Err(StorageError::RecordTooLarge { t: r.t, bytes: bytes.len() });
            }
        }
        for row in &r.rows {
            let bytes = codec_text_len(&row.key);
            if bytes > Row::MAX_KEY {
                return Err(StorageError::RowKeyTooLong { bytes });
            }
        }
        Ok(())
    }
    pub fn is_settled(&self) -> bool {
        self.staged.is_empty()
    }
}

/// Instants of the records after the indexes' checkpoint (all, in memory).
#[derive(Default)]
pub(crate) struct Times {
    pub first: u64,
    pub instants: std::collections::VecDeque<Instant>,
}

impl Core {
    /// A store at rest whose last record is `last`.
    pub fn new(
        options: StoreOptions,
        log: Log,
        folder: Option<Folder>,
        shot: Shot,
        stats: Stats,
        last: Option<(T, Instant)>,
    ) -> Core {
        let t = AtomicU64::new(last.map_or(0, |l| l.0.0));
        Core {
            cache: Cache::new(options.cache_bytes),
            hints: ArcSwap::default(),
            notes: Mutex::default(),
            options,
            shot: ArcSwap::from_pointee(shot),
            writer: Mutex::new(Writer::new(last)),
            stats: RwLock::new(stats),
            times: RwLock::default(),
            log,
            newest: AtomicU64::new(t.load(Ordering::Relaxed)),
            published: t,
            late_end: AtomicU64::new(0),
            checkpoints: Checkpoints::default(),
            settled: Condvar::new(),
            folder,
        }
    }

    /// The layers of a read that starts now.
    pub fn layers(&self) -> Res<Layers> {
        // Asked for last: a late end is announced before a checkpoint can hold it, so that what the layers
        // hold is known. Of the deltas, which go on changing, `Layers::lock` asks again.
        let late_end = || T(self.late_end.load(Ordering::Acquire));
        loop {
            let shot = self.shot.load();
            let hints = self.hints.load_full();
            let mut deltas: SmallVec<[SharedDelta; 2]> = SmallVec::new();
            let Some(base) = &shot.base else {
                deltas.push(shot.active.clone());
                return Ok(Layers { base: None, base_t: T(0), late_end: late_end(), deltas, hints });
            };
            let snapshot = base.env.read()?;
            let id = snapshot.txn_id();
            let base_t = match &shot.frozen {
                // Committed, and about to be announced: what was frozen is in the indexes.
                Some(f) if id == base.txn_id + 1 => f.about.position.t.unwrap_or(T(0)),
                frozen if id == base.txn_id => {
                    deltas.extend(frozen.iter().map(|f| f.delta.clone()));
                    base.t
                }
                // The shot is old by now.
                _ => {
                    std::thread::yield_now();
                    continue;
                }
            };
            deltas.push(shot.active.clone());
            return Ok(Layers { base: Some(snapshot), base_t, late_end: late_end(), deltas, hints });
        }
    }

    /// The newest record there is, staged ones included.
    pub fn newest(&self) -> T {
        T(self.newest.load(Ordering::Acquire))
    }

    /// The newest published record.
    pub fn basis(&self) -> T {
        T(self.published.load(Ordering::Acquire))
    }

    /// Rows of an attribute when counts answer exactly: the present, nothing staged.
    pub fn settled_rows(&self, at: &At, a: AttrId) -> Option<u64> {
        let stats = self.stats.read();
        let newest = self.newest();
        let settled = at.is_moment() && at.basis >= newest && at.view.upto(at.basis) >= newest;
        settled.then(|| stats.attrs.get(&a).map_or(0, |r| r.current))
    }

    fn writable(&self) -> Res<()> {
        if self.options.read_only { Err(StorageError::ReadOnly) } else { Ok(()) }
    }

    fn stage(&self, record: Arc<Record>) -> Res<()> {
        self.writable()?;
        self.refuse_if_stuck()?;
        let mut w = self.writer.lock();
        w.check(&record)?;
        let layers = self.layers()?;
        let (active, frozen) = layers.deltas.split_last().expect("a store always has an active delta");
        let mut undo = Vec::with_capacity(record.datoms.len());
        {
            let frozen = frozen.first().map(|f| f.read());
            let notes = std::mem::take(&mut *self.notes.lock());
            // Whose shot this is does not matter: what is active changes under the writer's lock only.
            let starts = self.shot.load().starts.clone();
            let mut lower = Lower::new(layers.base.as_ref(), frozen, &starts, record.datoms.len());
            lower.notes = notes.below(active);
            let mut delta = active.write();
            if let Err(e) = delta.apply_record(&record, &lower, &mut undo) {
                delta.undo(&record.datoms, &undo);
                return Err(e);
            }
            self.late_end.fetch_max(delta.late_end.0, Ordering::AcqRel);
        }
        let mut stats = self.stats.write();
        let counters = stats.counters;
        stats.apply(&record);
        drop(stats);
        self.cache.stage(record.t, &record.datoms);
        self.newest.store(record.t.0, Ordering::Release);
        w.last = Some((record.t, record.instant));
        w.staged.push(Staged { record, undo, counters });
        Ok(())
    }

    fn flush(&self) -> Res<()> {
        self.writable()?;
        let mut w = self.writer.lock();
        w.refuse_if_poisoned()?;
        if w.staged.is_empty() {
            return Ok(());
        }
        let records = w.staged.iter().map(|s| s.record.clone()).collect::<Vec<_>>();
        if let Err(e) = self.log.append(&records) {
            w.poison(&e);
            return Err(e);
        }
        w.staged.clear();
        self.times.write().instants.extend(records.iter().map(|r| r.instant));
        let last = records.last().expect("something was staged").t;
        self.published.store(last.0, Ordering::Release);
        self.settled.notify_all();
        drop(w);
        self.after_flush()
    }

    pub fn unstage(&self) {
        let mut w = self.writer.lock();
        let staged = std::mem::take(&mut w.staged);
        if staged.is_empty() {
            return;
        }
        let shot = self.shot.load();
        let mut delta = shot.active.write();
        let mut stats = self.stats.write();
        for s in staged.into_iter().rev() {
            delta.undo_rows(&s.record);
            delta.undo(&s.record.datoms, &s.undo);
            stats.undo(&s.record, s.counters);
        }
        let basis = self.basis();
        drop((delta, stats));
        self.cache.unstage(basis);
        self.newest.store(basis.0, Ordering::Release);
        self.settled.notify_all();
        w.last = self.instant_of(basis).ok().flatten().map(|i| (basis, i));
    }

    fn instant_of(&self, t: T) -> Res<Option<Instant>> {
        if t > self.basis() {
            return Ok(None);
        }
        loop {
            let first = {
                let times = self.times.read();
                if let Some(i) = t.0.checked_sub(times.first) {
                    return Ok(times.instants.get(i as usize).copied());
                }
                times.first
            };
            if let Some(base) = &self.layers()?.base
                && let Some(i) = index::instant_of(base, t)?
            {
                return Ok(Some(i));
            }
            if self.times.read().first == first {
                return Err(StorageError::index(Damage::Layout("an instant is missing")));
            }
        }
    }

    fn t_at(&self, i: Instant) -> Res<T> {
        let basis = self.basis();
        {
            let times = self.times.read();
            let n = times.instants.partition_point(|x| *x <= i) as u64;
            if n > 0 || times.first == 0 {
                return Ok(T((times.first + n).saturating_sub(1)).min(basis));
            }
        }
        let layers = self.layers()?;
        match &layers.base {
            Some(base) => Ok(index::t_at(base, i, layers.base_t)?.min(basis)),
            None => Ok(T(0)),
        }
    }
}

/// At least the bytes a record takes in the log.
fn weight(r: &Record) -> usize {
    fn value(v: &Value) -> usize {
        let inner = match v {
            Value::String(s) | Value::Uri(s) => 2 * s.len(),
            Value::Bytes(b) => 2 * b.len(),
            Value::Keyword(k) => 2 * k.as_str().len(),
            Value::Symbol(s) => 2 * s.as_str().len(),
            Value::BigInt(n) => n.bits() as usize,
            Value::BigDec(d) => d.digits() as usize,
            Value::Vector(items) | Value::List(items) | Value::Set(items) => items.iter().map(value).sum(),
            Value::Map(entries) => entries.iter().map(|(k, v)| value(k) + value(v)).sum(),
            Value::Tagged(t) => 2 * t.0.as_str().len() + value(&t.1),
            _ => 0,
        };
        inner + 32
    }
    let rows = r.rows.iter().map(|r| r.key.len() + r.value.as_ref().map_or(0, Vec::len) + 24);
    64 + r.datoms.iter().map(|d| value(&d.v) + 32).sum::<usize>() + rows.sum::<usize>()
}

fn codec_text_len(key: &[u8]) -> usize {
    key.len() + key.iter().filter(|&&b| b <= 1).count()
}

impl Writer {
    fn refuse_if_poisoned(&self) -> Res<()> {
        match &self.poisoned {
            Some(because) => Err(StorageError::Poisoned { because: because.clone() }),
            None => Ok(()),
        }
    }
}

impl Store {
    pub(crate) fn of(core: Core) -> Store {
        let core = Arc::new(core);
        Store { _background: Arc::new(Background::start(&core)), keep: true, core }
    }

    /// A store without files. `genesis` is its record 0.
    pub fn in_memory(options: StoreOptions, genesis: Record) -> Res<Store> {
        let options = StoreOptions { read_only: false, ..options };
        let base = Shot { base: None, frozen: None, active: SharedDelta::default(), starts: Arc::default() };
        let core = Core::new(options, Log::memory(), None, base, Stats::default(), None);
        let store = Store::of(core);
        store.stage(genesis)?;
        store.flush()?;
        Ok(store)
    }

    /// The newest published (flushed) record.
    pub fn basis(&self) -> T {
        self.core.basis()
    }

    /// The newest record there is, staged ones included.
    pub fn newest(&self) -> T {
        self.core.newest()
    }

    /// Adds a record to what the next [`Store::flush`] writes. It must follow the
    /// last one staged. Until flushed, only reads whose basis includes it see it.
    pub fn stage(&self, record: impl Into<Arc<Record>>) -> Res<()> {
        self.core.stage(record.into())
    }

    /// Writes and syncs everything staged, at once, and publishes it. A failure
    /// poisons the writer.
    pub fn flush(&self) -> Res<()> {
        self.core.flush()
    }

    /// Moves what is published into the indexes and returns when it is there.
    /// Waits until nothing is staged. Does nothing in memory.
    pub fn checkpoint(&self) -> Res<()> {
        self.core.checkpoint()
    }

    /// Tells what the schema promises of attributes, in place of what was told before.
    pub fn set_hints(&self, hints: Hints) {
        self.core.hints.store(Arc::new(hints));
    }

    /// Drops what is staged and not flushed.
    pub fn unstage(&self) {
        self.core.unstage()
    }

    /// Visits the datoms of a prefix in its order.
    pub fn scan(&self, at: At, p: &Prefix, visit: &mut Visit<'_>) -> Res<()> {
        if let Prefix::Ea(e, a) = p
            && self.core.point(&at, *e, *a, self.keep, visit)?
        {
            return Ok(());
        }
        self.core.scan(at, p, visit)
    }

    /// Calls with each datom of an entity in order of attribute, value and t, its value as a cell.
    pub fn entity_cells(&self, at: At, e: EntityId, dict: &Dict, each: &mut VisitCells<'_>) -> Res<()> {
        self.core.entity_cells(&at, e, dict, each)
    }

    /// Calls for each pair that has one with the pair's place and the value of the first fact that holds at a
    /// basis: what scanning [`Prefix::Ea`] of each would show first. For whoever is about to change
    /// them: staging a record that does is cheaper then.
    pub fn held(
        &self,
        basis: T,
        pairs: &[(EntityId, AttrId)],
        each: &mut dyn FnMut(usize, Value),
    ) -> Res<()> {
        self.core.held(basis, pairs, each)
    }

    /// Visits the datoms of an entity and of those after it, in the order of [`Prefix::All`];
    /// or, in reverse, of it and those before it, exactly backwards.
    pub fn seek(&self, at: At, e: EntityId, reverse: bool, visit: &mut Visit<'_>) -> Res<()> {
        self.core.seek(at, e, reverse, visit)
    }

    /// Visits the datoms of an attribute whose values lie between bounds, in the
    /// order of values, then entities, then t; or exactly backwards.
    pub fn range(
        &self,
        at: At,
        a: AttrId,
        from: Bound<&Value>,
        to: Bound<&Value>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Res<()> {
        self.core.range(at, a, from, to, reverse, visit)
    }

    /// How many datoms a prefix has, exactly.
    pub fn count(&self, at: At, p: &Prefix) -> Res<u64> {
        self.core.count(at, p)
    }

    /// About how many datoms an attribute has; costs nothing.
    pub fn attr_rows(&self, at: At, a: AttrId) -> u64 {
        let rows = self.core.stats.read().attrs.get(&a).copied().unwrap_or_default();
        if at.view.history { rows.current + 2 * rows.closed } else { rows.current }
    }

    /// Is the attribute's column in memory as a view shows it? One of the past is when it was asked for
    /// before and kept; to make it from the present one costs reading all of that.
    pub fn is_cached(&self, at: At, a: AttrId) -> bool {
        self.core.is_cached(&at, a)
    }

    /// The same store through a handle whose reads leave no column of the past in the cache: for
    /// walking over many times, each of which is asked for once. The present is kept as ever.
    pub fn uncached(&self) -> Store {
        Store { keep: false, ..self.clone() }
    }

    /// All datoms of an attribute that the view shows, as arrays.
    pub fn column(&self, at: At, a: AttrId, order: Order, dict: &Arc<Dict>) -> Res<Arc<Column>> {
        self.core.column(&at, a, order, dict, self.keep)
    }

    /// The datoms of an attribute whose entity or value cell is among `keys`
    /// (sorted, distinct), appended in the order of keys.
    pub fn probe(
        &self,
        at: At,
        a: AttrId,
        order: Order,
        keys: &[u64],
        dict: &Arc<Dict>,
        out: &mut ProbeOut,
    ) -> Res<()> {
        self.core.probe(&at, a, order, keys, dict, self.keep, out)
    }

    /// The records of `[from, to)` that are published.
    pub fn log(&self, from: T, to: T) -> Res<LogIter> {
        self.core.log.read(from, to.min(self.basis().next()))
    }

    /// When a published record was made.
    pub fn instant_of(&self, t: T) -> Res<Option<Instant>> {
        self.core.instant_of(t)
    }

    /// The newest published record not after an instant; genesis if none.
    pub fn t_at(&self, i: Instant) -> Res<T> {
        self.core.t_at(i)
    }

    /// The bytes of a side row as of a basis.
    pub fn row(&self, basis: T, table: u8, key: &[u8]) -> Res<Option<Vec<u8>>> {
        self.core.row(basis, table, key)
    }

    /// Visits side rows of a table by keys as of a basis, each with its place among the keys;
    /// those that are not there are passed over. Cheaper than [`Store::row`] for each, most so
    /// when the keys rise.
    pub fn rows_of(
        &self,
        basis: T,
        table: u8,
        keys: &[Vec<u8>],
        visit: &mut dyn FnMut(usize, &[u8]) -> ControlFlow<()>,
    ) -> Res<()> {
        self.core.rows_of(basis, table, keys, visit)
    }

    /// Visits the side rows of a table with `from <= key < to` (no end when `to`
    /// is empty) as of a basis, in order of keys or backwards.
    pub fn rows(
        &self,
        basis: T,
        table: u8,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: &mut VisitRow<'_>,
    ) -> Res<()> {
        self.core.rows(basis, table, from, to, reverse, visit)
    }

    /// The largest counter of a partition that any datom, staged ones included,
    /// has mentioned as entity or reference; 0 when none.
    pub fn max_counter(&self, p: Partition) -> u64 {
        self.core.stats.read().counters[p as usize]
    }
}
