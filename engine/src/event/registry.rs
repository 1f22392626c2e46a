//! The projections, upcasters and writer's memory of one connection.
//!
//! 1. Inline projections run in the order in which they were first registered.
//! 2. What the writer remembers ([`Memory`]) is a cache of the staged database:
//!    when a transaction it planned was dropped after all, everything is forgotten.

use super::{
    facts::Cache,
    id::{Position, StreamId},
    runtime::{ParkedStreams, ProjectionState, Runtime},
    seal::Seals,
    table::{self, Head, Key, Tables},
    upcast::Upcasters,
};
use crate::{DbError, transact::Txn};
use annals_model::{AttrId, Keyword, T, Value};
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, RwLock};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
    time::{Duration, Instant as Clock},
};

/// Streams whose heads are remembered.
const HEADS: usize = 1 << 20;

/// Positions that a projection passes over.
pub(crate) type Skips = Arc<BTreeSet<Position>>;

/// What the writer knows of the staged database without reading it.
#[derive(Default)]
pub(crate) struct Memory {
    /// The transaction planned last.
    pub t: T,
    pub heads: HashMap<StreamId, Head>,
    pub last: Option<Position>,
}

/// Events, as one connection works with them.
pub(crate) struct Events {
    pub upcasters: RwLock<Arc<Upcasters>>,
    pub seals: Arc<Seals>,
    /// In order of first registration; all versions.
    runtimes: RwLock<Arc<Vec<Arc<Runtime>>>>,
    owners: RwLock<HashMap<AttrId, Arc<str>>>,
    memory: Mutex<Memory>,
    /// Counts publications that may concern readers.
    beat: AtomicU64,
    sleepers: Mutex<Sleepers>,
    wake: Condvar,
    pub closed: AtomicBool,
    /// Registrations one at a time; taken before any version's `driving`.
    pub registering: Mutex<()>,
    skips: RwLock<HashMap<Keyword, Skips>>,
    /// Imports under way that give transactions the instants of old events.
    importing: AtomicUsize,
    /// The aggregates, processes and reactors of this connection.
    pub domain: super::domain::Domain,
}

impl Events {
    pub fn new(seals: Seals) -> Events {
        Events {
            upcasters: RwLock::new(Arc::default()),
            seals: Arc::new(seals),
            runtimes: RwLock::new(Arc::default()),
            owners: RwLock::new(HashMap::new()),
            memory: Mutex::new(Memory::default()),
            beat: AtomicU64::new(0),
            sleepers: Mutex::default(),
            wake: Condvar::new(),
            closed: AtomicBool::new(false),
            registering: Mutex::new(()),
            skips: RwLock::default(),
            importing: AtomicUsize::new(0),
            domain: super::domain::Domain::default(),
        }
    }

    /// Reads the registered projections of a database.
    pub fn load(&self, tables: &Tables) -> Result<(), DbError> {
        let mut found = Vec::new();
        for (key, value) in tables.under(table::PROJECTION, Key::new())? {
            let name = key.split_last().map(|(_, name)| String::from_utf8_lossy(name).into_owned());
            let name = Keyword::new(name.unwrap_or_default());
            let damaged = || DbError::from(super::data::DataError::Damaged(0));
            let Value::Map(row) = super::data::Data::stored(&value).value()? else { return Err(damaged()) };
            let row = Value::Map(row);
            let order = match row.get(&Value::keyword("order")) {
                Some(Value::Long(n)) => *n,
                _ => return Err(damaged()),
            };
            let Some(Value::Vector(versions)) = row.get(&Value::keyword("versions")) else {
                return Err(damaged());
            };
            for v in versions.iter() {
                let r = Runtime::restore(&name, v).ok_or_else(damaged)?;
                if let Some(bytes) = tables.row(table::COUNTER, checkpoint_key(&r.name, r.version))? {
                    *r.checkpoint.lock() = Position(table::read_number(&bytes)?);
                }
                *r.parked.lock() = parked_streams(tables, &r)?;
                found.push((order, Arc::new(r)));
            }
        }
        *self.skips.write() = super::skip::load(tables)?;
        found.sort_by_key(|(order, r)| (*order, r.version));
        self.replace(found.into_iter().map(|(_, r)| r).collect());
        Ok(())
    }

    /// All versions of all projections.
    pub fn runtimes(&self) -> Arc<Vec<Arc<Runtime>>> {
        self.runtimes.read().clone()
    }

    /// Installs another list of versions.
    pub fn replace(&self, all: Vec<Arc<Runtime>>) {
        let mut owners = HashMap::new();
        for r in all.iter().filter(|r| r.state() != ProjectionState::Dropped) {
            for (_, a) in &r.attrs {
                owners.insert(*a, Arc::from(r.name.as_str()));
            }
        }
        *self.owners.write() = owners;
        *self.runtimes.write() = Arc::new(all);
    }

    /// The version that answers under a projection's name, else the newest that may yet.
    pub fn live(&self, name: &Keyword) -> Option<Arc<Runtime>> {
        let all = self.runtimes();
        let of_name = || all.iter().filter(|r| r.name == *name);
        let serving = of_name().filter(|r| r.state().serves()).max_by_key(|r| r.version);
        let building =
            || of_name().filter(|r| r.state() == ProjectionState::Building).max_by_key(|r| r.version);
        serving.or_else(building).cloned()
    }

    /// The positions that a projection passes over.
    pub fn skipped(&self, name: &Keyword) -> Skips {
        self.skips.read().get(name).cloned().unwrap_or_default()
    }

    /// Notes that a projection passes over an event from now on.
    pub fn note_skip(&self, name: &Keyword, at: Position) {
        let mut skips = self.skips.write();
        let of_name = skips.entry(name.clone()).or_default();
        Arc::make_mut(of_name).insert(at);
    }

    /// Notes a stream's head as the transaction being planned leaves it, after [`Events::memory`]
    /// was taken for it.
    pub fn remember_head(&self, stream: StreamId, head: Head) {
        self.memory.lock().heads.insert(stream, head);
    }

    /// Forgets what projections remember of their facts: they read them again.
    pub fn forget_facts(&self) {
        for r in self.runtimes().iter() {
            *r.cache.lock() = Cache::default();
        }
    }

    /// Says that an import is under way, until the answer is dropped.
    pub fn import(self: &Arc<Self>) -> Importing {
        self.importing.fetch_add(1, Ordering::AcqRel);
        Importing(self.clone())
    }

    /// Gives a transaction about projections, which is no happening of its own, an instant
    /// that old events can still come after: that of the transaction before, while there are
    /// no events yet or old ones are being imported.
    pub fn settle_instant(&self, txn: &mut Txn) -> Result<(), DbError> {
        let old = self.importing.load(Ordering::Acquire) > 0
            || Tables::new(txn.db_before().snapshot().clone()).last_position()? == Position::ZERO;
        if old && txn.last_instant() <= txn.now() {
            txn.set_instant(txn.last_instant());
        }
        Ok(())
    }

    /// The projection an attribute belongs to.
    pub fn owner_of(&self, a: AttrId) -> Option<Arc<str>> {
        self.owners.read().get(&a).cloned()
    }

    /// Locks the writer's memory for planning transaction `t`.
    pub fn memory(&self, t: T) -> parking_lot::MutexGuard<'_, Memory> {
        let mut m = self.memory.lock();
        if t <= m.t {
            // What was planned under this number never happened.
            *m = Memory::default();
            for r in self.runtimes().iter() {
                *r.cache.lock() = Cache::default();
            }
        }
        if m.heads.len() > HEADS {
            m.heads.clear();
        }
        m
    }

    /// Drops the writer's memory, before a record is committed that does not come through it:
    /// an append right behind would otherwise number its events from what it remembers.
    pub fn forget_memory(&self) {
        // No transaction is numbered 0.
        drop(self.memory(T::GENESIS));
    }

    /// Tells everybody who waits that something was published.
    pub fn announce(&self) {
        self.beat.fetch_add(1, Ordering::AcqRel);
        let tasks = {
            let mut held = self.sleepers.lock();
            self.wake.notify_all();
            std::mem::take(&mut held.tasks)
        };
        // Not under the lock: waking is code of somebody's executor.
        tasks.into_values().for_each(Waker::wake);
    }

    /// The number of announcements so far: to be read before looking, and then waited past.
    pub fn beat(&self) -> u64 {
        self.beat.load(Ordering::Acquire)
    }

    /// Waits until something is announced after `beat`, or for so long. False when time ran out.
    pub fn wait(&self, beat: u64, timeout: Duration) -> bool {
        let until = Clock::now() + timeout;
        let mut held = self.sleepers.lock();
        while self.beat() == beat && !self.closed.load(Ordering::Acquire) {
            if self.wake.wait_until(&mut held, until).timed_out() {
                return self.beat() != beat;
            }
        }
        true
    }

    /// Waits like [`Events::wait`], and not at all when `over` says so: asked after the
    /// sleepers are locked, so that who ends a wait is never missed.
    pub fn wait_unless(&self, beat: u64, timeout: Duration, over: &dyn Fn() -> bool) {
        let until = Clock::now() + timeout;
        let mut held = self.sleepers.lock();
        while self.beat() == beat && !over() {
            if self.wake.wait_until(&mut held, until).timed_out() {
                return;
            }
        }
    }

    /// A place among those that wait without a thread.
    pub fn seat(self: &Arc<Self>) -> Seat {
        let mut held = self.sleepers.lock();
        held.seats += 1;
        Seat { events: self.clone(), id: held.seats }
    }

    /// Stops runners and subscriptions.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.announce();
    }
}

/// Who waits for an announcement.
#[derive(Default)]
struct Sleepers {
    /// Tasks, by their seats; threads wait on the condition.
    tasks: HashMap<u64, Waker>,
    /// Seats given out so far.
    seats: u64,
}

/// The place of a task that waits for announcements; given up when it is dropped.
pub(crate) struct Seat {
    events: Arc<Events>,
    id: u64,
}

impl Seat {
    /// Has the task woken at the next announcement after `beat`. False when there has been one:
    /// look again.
    pub fn wake_after(&self, beat: u64, task: &Waker) -> bool {
        // Cloning and dropping a waker is code of somebody's executor, and may drop a task with a
        // seat of its own: not under the lock.
        let task = task.clone();
        let mut held = self.events.sleepers.lock();
        if self.events.beat() != beat {
            drop(held);
            return false;
        }
        let old = held.tasks.insert(self.id, task);
        drop(held);
        drop(old);
        true
    }
    /// What is announced.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let old = self.events.sleepers.lock().tasks.remove(&self.id);
        drop(old);
    }
}

/// An import under way.
pub(crate) struct Importing(Arc<Events>);

impl Drop for Importing {
    fn drop(&mut self) {
        self.0.importing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The streams that a version has set aside.
pub(crate) fn parked_streams(tables: &Tables, r: &Runtime) -> Result<ParkedStreams, DbError> {
    let mut streams = ParkedStreams::new();
    let prefix = parked_key(r).done().len();
    for (k, _) in tables.under(table::PARKED, parked_key(r))? {
        let Some(p) = table::last_number(&k, prefix).map(Position) else { continue };
        if let Some(e) = tables.event(p)? {
            // In order of positions: the first of a stream comes first.
            streams.entry(e.stream.shared()).or_insert(p);
        }
    }
    Ok(streams)
}

/// Where a version's checkpoint is kept.
pub(crate) fn checkpoint_key(name: &Keyword, version: u32) -> Key {
    Key::new().text("checkpoint").text(name.as_str()).number(version.into())
}
/// Under which a version's parked events are kept.
pub(crate) fn parked_key(r: &Runtime) -> Key {
    parked_under(&r.name, r.version)
}
/// The same, of a version that need not be at work.
pub(crate) fn parked_under(name: &Keyword, version: u32) -> Key {
    Key::new().text(name.as_str()).number(version.into())
}

/// A version that answers, as a database value has it.
pub(crate) struct Serving {
    pub name: Keyword,
    pub version: u32,
    /// It takes each event in the append's own transaction.
    pub is_complete: bool,
}

/// The versions that answer in the database value of some tables, whatever they do now.
pub(crate) fn serving(tables: &Tables) -> Result<Vec<Serving>, DbError> {
    let mut found = Vec::new();
    for (key, value) in tables.under(table::PROJECTION, Key::new())? {
        let name = key.split_last().map(|(_, name)| String::from_utf8_lossy(name).into_owned());
        let name = Keyword::new(name.unwrap_or_default());
        let damaged = || DbError::from(super::data::DataError::Damaged(0));
        let row = super::data::Data::stored(&value).value()?;
        let Some(Value::Vector(versions)) = row.get(&Value::keyword("versions")) else {
            return Err(damaged());
        };
        for v in versions.iter() {
            let word = |key: &str| match v.get(&Value::keyword(key)) {
                Some(Value::Keyword(k)) => Ok(k.as_str().to_owned()),
                _ => Err(damaged()),
            };
            let Some(Value::Long(n)) = v.get(&Value::keyword("version")) else { return Err(damaged()) };
            let version = u32::try_from(*n).map_err(|_| damaged())?;
            let state = word("state")?;
            if matches!(state.as_str(), "live" | "paused" | "halted") {
                let is_complete = state == "live" && word("mode")? == "inline";
                found.push(Serving { name: name.clone(), version, is_complete });
            }
        }
    }
    Ok(found)
}

/// The row of one projection with all its versions; `order` is that of registration.
pub(crate) fn projection_row(
    name: &Keyword,
    order: usize,
    versions: &[Arc<Runtime>],
) -> Result<annals_storage::Row, DbError> {
    let row = Value::map([
        (Value::keyword("order"), Value::Long(order as i64)),
        (Value::keyword("versions"), super::runtime::encode_versions(versions)?.value()?),
    ]);
    let data = super::data::Data::of(&row)?;
    Ok(table::put(table::PROJECTION, Key::new().text(name.as_str()), data.bytes()))
}
