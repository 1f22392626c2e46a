//! Looking after the indexes: rebuild them from the log, compact them, say how
//! large everything is.
//!
//! New indexes are written beside the old ones and take their place by
//! `Folder::swap`; a crash leaves the old or the new, never a mixture.

use crate::error::{Res, StorageError};
use crate::folder::{Folder, Holds};
use crate::index::{self, About};
use crate::kv::{Db, Env};
use crate::log::{FileLog, Log};
use crate::lower::Lower;
use crate::open::{log_options, open_index};
use crate::read::SharedDelta;
use crate::starts::Starts;
use crate::store::{Base, Core, Shot, Store};
use crate::types::{Hints, StoreOptions};
use crate::verify::Fold;
use annals_model::{AttrId, T};
use std::{
    cell::RefCell,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

/// Facts folded in memory at a time while indexes are rebuilt.
const REBUILD_FACTS: usize = 2_000_000;

/// What a rebuild read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuildReport {
    /// The newest record.
    pub t: T,
    /// Records in the log.
    pub records: u64,
    /// Datoms in them.
    pub datoms: u64,
}

/// Sizes and counts.
#[derive(Clone, Debug)]
pub struct StoreStats {
    /// The newest published record.
    pub basis: T,
    /// The record the indexes stand at.
    pub indexed: T,
    /// Facts that hold.
    pub current: u64,
    /// Intervals that have ended.
    pub closed: u64,
    /// Both by attribute.
    pub attributes: Vec<(AttrId, u64, u64)>,
    /// Log segments.
    pub segments: usize,
    /// Bytes of records.
    pub log_bytes: u64,
    /// Bytes of the log's files, preallocated ones included.
    pub log_disk_bytes: u64,
    /// Bytes of the index file in use.
    pub index_bytes: u64,
    /// Rows and bytes of each tree.
    pub trees: Vec<(&'static str, u64, u64)>,
    /// Changes not yet in the indexes.
    pub novelty_facts: usize,
    /// Memory taken by cached columns.
    pub cache_bytes: usize,
}

/// Fills empty indexes from a log; where it ends, and what it read.
pub(crate) fn index_log(
    dir: &Path,
    uuid: uuid::Uuid,
    options: &StoreOptions,
    env: &Arc<Env>,
    hints: &Hints,
) -> Res<(FileLog, RebuildReport)> {
    let mut report = RebuildReport { t: T(0), records: 0, datoms: 0 };
    let mut fold = Fold::default();
    let mut late_end = T(0);
    let mut last = None;
    let starts = RefCell::new(Starts::default());
    let flush = |fold: &mut Fold, late_end: &mut T, position: Option<crate::log::Position>| -> Res<()> {
        let Some(position) = position else { return Ok(()) };
        *late_end = (*late_end).max(fold.delta.late_end);
        let about = About { position, stats: fold.stats.clone(), late_end: *late_end };
        index::write(env, &fold.delta, &fold.instants, &about, hints)?;
        starts.borrow_mut().absorb(&fold.delta.starts);
        *fold = Fold { stats: std::mem::take(&mut fold.stats), ..Fold::default() };
        Ok(())
    };
    let log = FileLog::open(dir, uuid, log_options(options), None, &mut |r| {
        report.records += 1;
        report.datoms += r.record.datoms.len() as u64;
        report.t = r.record.t;
        let snapshot = env.read()?;
        let below = starts.borrow();
        fold.apply(&r.record, &Lower::new(Some(&snapshot), None, &below, r.record.datoms.len()))?;
        last = Some(*r.at);
        drop((snapshot, below));
        if fold.delta.n_facts >= REBUILD_FACTS {
            flush(&mut fold, &mut late_end, last.take())?;
        }
        Ok(())
    })?;
    flush(&mut fold, &mut late_end, last)?;
    Ok((log, report))
}

impl Store {
    /// Makes the indexes of a closed database anew from its log alone, whatever
    /// state they are in.
    pub fn rebuild(path: &Path, options: &StoreOptions) -> Res<RebuildReport> {
        let folder = Folder::own(path, false, false)?;
        let Holds::Database(uuid) = folder.holds(false)? else {
            return Err(StorageError::NoDatabase { path: path.into() });
        };
        let next = folder.next("index")?;
        let env = Env::open(&next, options.map_size_bytes, false, true)?;
        let (log, report) = index_log(&folder.log(), uuid, options, &env, &Hints::default())?;
        drop((env, log));
        folder.swap(&["index"])?;
        Ok(report)
    }

    /// Rewrites the indexes without the space that changes have left in them.
    pub fn compact(&self) -> Res<()> {
        let core = &self.core;
        let Some(folder) = &core.folder else { return Err(StorageError::InMemory { op: "compact" }) };
        self.checkpoint()?;
        let _one = core.checkpoints.one.lock();
        let shot = core.shot.load_full();
        let Some(base) = &shot.base else { return Err(StorageError::InMemory { op: "compact" }) };
        let next = folder.next("index")?;
        base.env.copy_compact(&next)?;
        crate::segment::sync_dir(&next)?;
        folder.swap(&["index"])?;
        let env = open_index(&folder.index(), core.options.map_size_bytes, false)?;
        let txn_id = env.read()?.txn_id();
        let base = Base { env, txn_id, t: base.t };
        core.shot.store(Arc::new(Shot {
            base: Some(base),
            frozen: shot.frozen.clone(),
            active: shot.active.clone(),
            starts: shot.starts.clone(),
        }));
        Ok(())
    }

    /// Sizes and counts.
    pub fn stats(&self) -> Res<StoreStats> {
        let core = &self.core;
        let layers = core.layers()?;
        let counts = core.stats.read().clone();
        let mut stats = StoreStats {
            basis: core.basis(),
            indexed: layers.base_t,
            current: counts.attrs.values().map(|r| r.current).sum(),
            closed: counts.attrs.values().map(|r| r.closed).sum(),
            attributes: counts.sorted(),
            segments: 0,
            log_bytes: 0,
            log_disk_bytes: 0,
            index_bytes: 0,
            trees: Vec::new(),
            novelty_facts: layers.deltas.iter().map(|d| d.read().n_facts).sum(),
            cache_bytes: core.cache.bytes(),
        };
        if let Log::Files(log) = &core.log {
            let files = log.files()?;
            stats.segments = files.len();
            stats.log_bytes = files.iter().map(|f| f.1).sum();
            stats.log_disk_bytes = log.disk_bytes()?;
        }
        if let Some(base) = &layers.base {
            for (db, name) in Db::ALL {
                let (rows, bytes) = base.size(db)?;
                stats.trees.push((name, rows, bytes));
            }
        }
        if let Some(base) = &core.shot.load().base {
            stats.index_bytes = base.env.used_bytes();
        }
        Ok(stats)
    }
}

impl Core {
    /// Goes on with new indexes that stand at the end of the log. The caller
    /// holds the writer and `Checkpoints::one`, and nothing is staged.
    pub fn adopt_index(&self, env: Arc<Env>) -> Res<()> {
        let snapshot = env.read()?;
        let about = index::about(&snapshot)?;
        let (stats, late_end, t) = match about {
            Some(a) => (a.stats, a.late_end, a.position.t.unwrap_or(T(0))),
            None => Default::default(),
        };
        let base = Base { txn_id: snapshot.txn_id(), env: env.clone(), t };
        drop(snapshot);
        self.cache.clear();
        let starts = Starts::upto(t, stats.attrs.keys().copied());
        *self.stats.write() = stats;
        self.late_end.store(late_end.0, Ordering::Release);
        self.shot.store(Arc::new(Shot {
            base: Some(base),
            frozen: None,
            active: SharedDelta::default(),
            starts: starts.into(),
        }));
        let mut times = self.times.write();
        times.instants.clear();
        times.first = t.0 + 1;
        Ok(())
    }
}
