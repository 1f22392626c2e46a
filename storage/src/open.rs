//! Opening: own the folder, know what it is, open the indexes at their
//! checkpoint, replay the log behind it into novelty.
//!
//! 1. Files that are missing, empty, foreign or newer are an error, never a
//!    fresh database.
//! 2. The log must contain the position the indexes stand at, with that chain
//!    hash; what follows is checked record by record.

use crate::counts::Stats;
use crate::error::{Damage, Res, StorageError};
use crate::folder::{Folder, Holds};
use crate::index;
use crate::kv::Env;
use crate::log::{FileLog, Log, LogOptions};
use crate::lower::Lower;
use crate::novelty::Delta;
use crate::read::SharedDelta;
use crate::starts::Starts;
use crate::store::{Base, Core, Shot, Store};
use crate::types::{Record, StoreOptions};
use annals_model::{Instant, T};
use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::Ordering},
};
use uuid::Uuid;

impl Store {
    /// Opens the database in a folder.
    pub fn open(path: &Path, options: StoreOptions) -> Res<Store> {
        let folder = Folder::own(path, options.read_only, false)?;
        match folder.holds(options.read_only)? {
            Holds::Nothing => Err(StorageError::NoDatabase { path: path.into() }),
            Holds::Database(uuid) => open(folder, uuid, options),
        }
    }

    /// Opens the database in a folder, or makes one there when the folder is
    /// absent or empty. `genesis` is the new database's record 0.
    pub fn create_or_open(
        path: &Path,
        options: StoreOptions,
        genesis: impl FnOnce() -> Record,
    ) -> Res<Store> {
        let folder = Folder::own(path, options.read_only, !options.read_only)?;
        match folder.holds(options.read_only)? {
            Holds::Nothing if options.read_only => Err(StorageError::NoDatabase { path: path.into() }),
            Holds::Nothing => create(folder, options, genesis()),
            Holds::Database(uuid) => open(folder, uuid, options),
        }
    }
}

pub(crate) fn log_options(o: &StoreOptions) -> LogOptions {
    LogOptions {
        durability: o.durability,
        segment_bytes: o.segment_bytes,
        faults: o.faults.clone(),
        read_only: o.read_only,
    }
}

fn create(folder: Folder, options: StoreOptions, genesis: Record) -> Res<Store> {
    folder.begin_creating()?;
    let uuid = Uuid::new_v4();
    let log = FileLog::create(&folder.log(), uuid, log_options(&options))?;
    fs::create_dir_all(folder.index()).map_err(|e| StorageError::io("create", folder.index(), e))?;
    let env = Env::open(&folder.index(), options.map_size_bytes, false, true)?;
    let base = Base { txn_id: env.read()?.txn_id(), env, t: T(0) };
    let shot =
        Shot { base: Some(base), frozen: None, active: SharedDelta::default(), starts: Arc::default() };
    let core = Core::new(options, Log::Files(Arc::new(log)), Some(folder), shot, Stats::default(), None);
    let store = Store::of(core);
    store.stage(genesis)?;
    store.flush()?;
    store.core.folder.as_ref().expect("given above").finish_creating(uuid)?;
    Ok(store)
}

/// Opens the index file after looking at its size: LMDB would make a fresh one
/// of an empty file, and crash on one that was cut off.
pub(crate) fn open_index(dir: &Path, map_size: usize, read_only: bool) -> Res<Arc<Env>> {
    let data = dir.join("data.mdb");
    let size = match fs::metadata(&data) {
        Ok(m) => m.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(StorageError::io("open", data, e)),
    };
    if size == 0 {
        return Err(StorageError::Missing { path: data });
    }
    let env = Env::open(dir, map_size, read_only, false)?;
    if size < env.used_bytes() {
        return Err(StorageError::index(Damage::Layout("the index file was cut off")));
    }
    env.open_trees()?;
    Ok(env)
}

fn open(folder: Folder, uuid: Uuid, options: StoreOptions) -> Res<Store> {
    let env = open_index(&folder.index(), options.map_size_bytes, options.read_only)?;
    let snapshot = env.read()?;
    let about = index::about(&snapshot)?;
    let (mut stats, late_end) = about.as_ref().map(|a| (a.stats.clone(), a.late_end)).unwrap_or_default();
    let position = about.map(|a| a.position);
    let base_t = position.and_then(|p| p.t);

    let starts = Starts::upto(base_t.unwrap_or(T(0)), stats.attrs.keys().copied());
    let mut delta = Delta::default();
    let mut instants = Vec::new();
    let log = {
        let lower = Lower::new(Some(&snapshot), None, &starts, 0);
        FileLog::open(&folder.log(), uuid, log_options(&options), position.as_ref(), &mut |r| {
            let mut undo = Vec::new();
            delta.apply_record(&r.record, &lower, &mut undo)?;
            stats.apply(&r.record);
            instants.push(r.record.instant);
            Ok(())
        })?
    };
    let end = log.end();
    let Some(last) = end.t else {
        // Genesis is written before the identity is.
        return Err(StorageError::LogShort { log: T(0), indexed: T(0) });
    };
    let last_instant: Instant = match (instants.last(), base_t) {
        (Some(i), _) => *i,
        (None, t) => index::instant_of(&snapshot, t.unwrap_or(T(0)))?
            .ok_or(StorageError::index(Damage::Layout("an instant is missing")))?,
    };
    let late_end = late_end.max(delta.late_end);
    let base = Base { txn_id: snapshot.txn_id(), env, t: base_t.unwrap_or(T(0)) };
    drop(snapshot);
    let active = Arc::new(parking_lot::RwLock::new(delta));
    let shot = Shot { base: Some(base), frozen: None, active, starts: starts.into() };
    let last = Some((last, last_instant));
    let core = Core::new(options, Log::Files(Arc::new(log)), Some(folder), shot, stats, last);
    core.late_end.store(late_end.0, Ordering::Release);
    {
        let mut times = core.times.write();
        times.first = base_t.map_or(0, |t| t.0 + 1);
        times.instants = instants.into();
    }
    Ok(Store::of(core))
}
