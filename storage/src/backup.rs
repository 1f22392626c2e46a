//! Backup while writing goes on, and restore to any t.
//!
//! A backup is an identity file, a copy of the log up to one record, and a
//! `backup` file that says which. It has no indexes: restore makes them.
//! A second backup into the same folder copies only what was written since,
//! when the log still contains the record (and chain hash) the first one ended at.

use crate::error::{Res, StorageError};
use crate::folder::{self, Folder, Holds};
use crate::index::{read_position, write_position};
use crate::kv::Env;
use crate::log::{FileLog, Log, Position, log_start};
use crate::maintain::{RebuildReport, index_log};
use crate::open::log_options;
use crate::segment::sync_dir;
use crate::store::Store;
use crate::types::{Durability, Hints, Record, StoreOptions};
use annals_model::T;
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

const COPY_BYTES: u64 = 1 << 20;

/// What a backup holds and what it took to bring it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The newest record in it.
    pub t: T,
    /// Bytes copied this time.
    pub copied_bytes: u64,
    /// Was an earlier backup continued?
    pub incremental: bool,
}

impl Store {
    /// Copies the log as published into a folder: a new or empty one, or one
    /// that holds an earlier backup of this database.
    pub fn backup(&self, dir: &Path) -> Res<BackupReport> {
        let Log::Files(log) = &self.core.log else { return Err(StorageError::InMemory { op: "back up" }) };
        let io = |op: &'static str| move |e: io::Error| StorageError::io(op, dir, e);
        fs::create_dir_all(dir).map_err(io("create"))?;
        let log_dir = dir.join("log");
        let earlier = match fs::read_to_string(dir.join("identity")) {
            Ok(text) => {
                if folder::parse_identity(&text, &dir.join("identity"))? != log.uuid() {
                    return Err(StorageError::Foreign { path: dir.into() });
                }
                read_manifest(dir)?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if fs::read_dir(dir).map_err(io("list"))?.next().is_some() {
                    return Err(StorageError::NotEmpty { path: dir.into() });
                }
                None
            }
            Err(e) => return Err(StorageError::io("read", dir.join("identity"), e)),
        };
        // Published before the files are listed: every byte up to here is in them.
        let end = log.end();
        // After an excision, or damage, the chain no longer passes there: start over.
        let earlier = earlier.filter(|p| log.check_position(p).is_ok());
        if earlier.is_none() {
            match fs::remove_dir_all(&log_dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io("remove")(e)),
                _ => fs::create_dir_all(&log_dir).map_err(io("create"))?,
            }
        }
        folder::write_identity(dir, log.uuid())?;
        let from = earlier.unwrap_or(Position { offset: 0, ..log_start() });
        let mut copied_bytes = 0;
        for (segment, n) in log.files()? {
            if segment.first < from.segment || segment.first > end.segment {
                continue;
            }
            let start = if segment.first == from.segment { from.offset } else { 0 };
            let stop = if segment.first == end.segment { end.offset } else { n };
            let name = segment.path.file_name().expect("a segment has a name");
            let path = log_dir.join(name);
            let copy = || -> io::Result<()> {
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
                file.set_len(start)?;
                let mut buffer = Vec::new();
                let mut at = start;
                while at < stop {
                    let n = COPY_BYTES.min(stop - at) as usize;
                    segment.read_at(at, n, &mut buffer).map_err(io::Error::other)?;
                    if buffer.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    file.write_all_at(&buffer, at)?;
                    at += buffer.len() as u64;
                }
                file.sync_all()
            };
            copy().map_err(|e| StorageError::io("copy", &path, e))?;
            copied_bytes += stop - start;
        }
        sync_dir(&log_dir)?;
        folder::write_synced(dir, "backup", &write_position(&end))?;
        Ok(BackupReport { t: end.t.unwrap_or(T(0)), copied_bytes, incremental: earlier.is_some() })
    }

    /// Makes a database in the empty or absent folder `to` from a backup (or a
    /// closed database), as it was right after record `upto`. Damage behind `upto`
    /// does not matter: so what precedes damage can be saved.
    pub fn restore(from: &Path, to: &Path, upto: Option<T>, options: &StoreOptions) -> Res<RebuildReport> {
        let path = from.join("identity");
        let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StorageError::NoDatabase { path: from.into() },
            _ => StorageError::io("read", &path, e),
        })?;
        let uuid = folder::parse_identity(&text, &path)?;
        let folder = Folder::own(to, false, true)?;
        if !matches!(folder.holds(false)?, Holds::Nothing) {
            return Err(StorageError::NotEmpty { path: to.into() });
        }
        folder.begin_creating()?;
        let mut source = StoreOptions { read_only: true, ..options.clone() };
        source.faults = Default::default();
        let target = StoreOptions { durability: Durability::Relaxed, read_only: false, ..options.clone() };
        let log = FileLog::create(&folder.log(), uuid, log_options(&target))?;
        let manifest = read_manifest(from)?.and_then(|p| p.t);
        let mut batch: Vec<Arc<Record>> = Vec::new();
        let mut newest = T(0);
        let read = FileLog::open(&from.join("log"), uuid, log_options(&source), None, &mut |r| {
            newest = r.record.t;
            if upto.is_none_or(|t| r.record.t <= t) {
                batch.push(Arc::new(r.record));
            }
            if batch.len() >= 1000 {
                log.append(&batch)?;
                batch.clear();
            }
            Ok(())
        });
        match read {
            Err(StorageError::BadRecord { t, .. }) if upto.is_some_and(|upto| upto < t) => {}
            read => drop(read?),
        }
        match (upto, manifest) {
            (Some(t), _) if newest < t => return Err(StorageError::UnknownT { t, newest }),
            (None, Some(t)) if newest < t => return Err(StorageError::LogShort { log: newest, indexed: t }),
            _ => {}
        }
        if !batch.is_empty() {
            log.append(&batch)?;
        }
        log.sync()?;
        drop(log);
        fs::create_dir_all(folder.index()).map_err(|e| StorageError::io("create", folder.index(), e))?;
        let env = Env::open(&folder.index(), options.map_size_bytes, false, true)?;
        let (_, report) = index_log(&folder.log(), uuid, &target, &env, &Hints::default())?;
        folder.finish_creating(uuid)?;
        Ok(report)
    }
}

fn read_manifest(dir: &Path) -> Res<Option<Position>> {
    let path = dir.join("backup");
    match fs::read(&path) {
        Ok(bytes) => read_position(&bytes)
            .map(Some)
            .map_err(|problem| StorageError::BadSegment { segment: path, problem }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StorageError::io("read", path, e)),
    }
}
