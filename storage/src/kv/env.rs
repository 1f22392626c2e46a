//! The environment: opened once a folder and process, lending readers and the one writer.
//!
//! Readers are parked between uses: beginning a transaction, finding the trees in it and opening cursors cost as much
//! as a short read.

use super::{
    Db,
    read::{Reader, Snapshot},
    write::WriteTxn,
};
use crate::error::{Damage, Res, StorageError};
use lmdb::{Environment, EnvironmentFlags};
use lmdb_sys as ffi;
use parking_lot::{Condvar, Mutex};
use std::{
    cell::Cell,
    collections::HashSet,
    ffi::CString,
    marker::PhantomData,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, OnceLock},
};

const MAX_READERS: u32 = 1024;
/// Readers at once; further ones wait. Below [`MAX_READERS`], which would be an error.
const MAX_SNAPSHOTS: usize = 1000;
const PARKED: usize = 64;

static OPEN: Mutex<Option<HashSet<(u64, u64)>>> = Mutex::new(None);

/// An open environment.
pub(crate) struct Env {
    env: Environment,
    dbs: OnceLock<[ffi::MDB_dbi; Db::ALL.len()]>,
    map_size: usize,
    path: PathBuf,
    parked: Mutex<Parked>,
    freed: Condvar,
    /// After `env`, so that the folder is free only when the environment is closed.
    _registered: Registered,
}

#[derive(Default)]
struct Parked {
    readers: Vec<Reader>,
    live: usize,
    /// Commits made through this environment. Readers that began before the last are stale.
    commits: u64,
}

impl Env {
    /// Opens the environment in `path`, making it when `create` and absent.
    pub fn open(path: &Path, map_size: usize, read_only: bool, create: bool) -> Res<Arc<Env>> {
        let io = |e| StorageError::io("open", path, e);
        let held = std::fs::File::open(path).map_err(io)?;
        let meta = held.metadata().map_err(io)?;
        let inode = (meta.dev(), meta.ino());
        if !OPEN.lock().get_or_insert_default().insert(inode) {
            return Err(StorageError::Locked { path: path.into(), pid: Some(std::process::id()) });
        }
        let registered = Registered { inode, _held: held };
        let mut flags = EnvironmentFlags::NO_TLS;
        if read_only {
            // The folder may be unwritable, and our own lock excludes writers.
            flags |= EnvironmentFlags::READ_ONLY | EnvironmentFlags::NO_LOCK;
        }
        let mut size = map_size;
        let env = loop {
            let opened = Environment::new()
                .set_flags(flags)
                .set_max_dbs(Db::ALL.len() as u32)
                .set_max_readers(MAX_READERS)
                .set_map_size(size)
                .open_with_permissions(path, 0o644);
            match opened {
                Ok(env) => break env,
                // No room for so large a map (ENOMEM: a limit on address space; EINVAL: a debugger's): try a
                // smaller one.
                Err(lmdb::Error::Other(12 | 22)) if size > 1 << 28 => size /= 4,
                Err(e) => return Err(error(e.to_err_code(), path, size)),
            }
        };
        let mut dead = 0;
        // SAFETY: `env` is open; `dead` outlives the call.
        check(unsafe { ffi::mdb_reader_check(env.env(), &mut dead) }, path, size)?;
        let opened = Arc::new(Env {
            env,
            dbs: OnceLock::new(),
            map_size: size,
            path: path.into(),
            parked: Mutex::default(),
            freed: Condvar::new(),
            _registered: registered,
        });
        if create {
            opened.open_dbs(true)?;
        }
        Ok(opened)
    }

    /// Finds the trees of an environment that was not opened to create them.
    pub fn open_trees(&self) -> Res<()> {
        self.open_dbs(false)
    }

    /// Bytes of the file that the last commit uses.
    pub fn used_bytes(&self) -> u64 {
        // SAFETY: plain data, filled in by the calls; the environment is open.
        unsafe {
            let (mut info, mut stat) =
                (std::mem::zeroed::<ffi::MDB_envinfo>(), std::mem::zeroed::<ffi::MDB_stat>());
            ffi::mdb_env_info(self.env.env(), &mut info);
            ffi::mdb_env_stat(self.env.env(), &mut stat);
            (info.me_last_pgno as u64 + 1) * u64::from(stat.ms_psize)
        }
    }

    fn open_dbs(&self, create: bool) -> Res<()> {
        let mut dbs = [0; Db::ALL.len()];
        let mut txn = ptr::null_mut();
        let flags = if create { 0 } else { ffi::MDB_RDONLY };
        // SAFETY: the environment is open and `txn` outlives the call.
        self.check(unsafe { ffi::mdb_txn_begin(self.env.env(), ptr::null_mut(), flags, &mut txn) })?;
        for (i, (_, name)) in Db::ALL.into_iter().enumerate() {
            let name = CString::new(name).expect("no zero byte in the names above");
            let create = if create { ffi::MDB_CREATE } else { 0 };
            // SAFETY: the transaction is live; name and slot outlive the call.
            let rc = unsafe { ffi::mdb_dbi_open(txn, name.as_ptr(), create, &mut dbs[i]) };
            if rc != 0 {
                // SAFETY: the transaction is live and ends here.
                unsafe { ffi::mdb_txn_abort(txn) };
                return Err(match rc {
                    ffi::MDB_NOTFOUND => {
                        StorageError::index(Damage::Layout("a tree is missing from the index file"))
                    }
                    _ => self.error(rc),
                });
            }
        }
        // SAFETY: the transaction is live and ends here; the handles stay open.
        self.check(unsafe { ffi::mdb_txn_commit(txn) })?;
        self.dbs.get_or_init(|| dbs);
        Ok(())
    }

    pub(super) fn check(&self, rc: i32) -> Res<()> {
        check(rc, &self.path, self.map_size)
    }

    /// The error that a code of LMDB means here.
    pub(super) fn error(&self, rc: i32) -> StorageError {
        error(rc, &self.path, self.map_size)
    }

    pub(super) fn dbi(&self, db: Db) -> ffi::MDB_dbi {
        self.dbs.get().expect("the trees are opened before anything is read")[db as usize]
    }

    /// A consistent view of the last commit.
    pub fn read(self: &Arc<Env>) -> Res<Snapshot> {
        let (parked, commits) = {
            let mut p = self.parked.lock();
            while p.live >= MAX_SNAPSHOTS {
                self.freed.wait(&mut p);
            }
            p.live += 1;
            (p.readers.pop(), p.commits)
        };
        match self.begin(parked, commits) {
            Ok(reader) => Ok(Snapshot { env: self.clone(), idle: reader.idle.map(Cell::new), reader }),
            Err(e) => {
                self.parked.lock().live -= 1;
                self.freed.notify_one();
                Err(e)
            }
        }
    }

    /// A reader of the last commit, of a parked one or anew. `commits` was counted before it begins, so at
    /// worst a fresh one is taken for stale.
    fn begin(&self, parked: Option<Reader>, commits: u64) -> Res<Reader> {
        let Some(mut reader) = parked else {
            let mut txn = ptr::null_mut();
            // SAFETY: the environment is open; `txn` outlives the call.
            let rc =
                unsafe { ffi::mdb_txn_begin(self.env.env(), ptr::null_mut(), ffi::MDB_RDONLY, &mut txn) };
            self.check(rc)?;
            let idle = [ptr::null_mut(); Db::ALL.len()];
            return Ok(Reader { txn, idle, commits: Some(commits) });
        };
        if reader.commits == Some(commits) {
            return Ok(reader);
        }
        reader.reset();
        // SAFETY: `txn` is reset and belongs to this environment.
        let rc = unsafe { ffi::mdb_txn_renew(reader.txn) };
        if rc != 0 {
            reader.abort();
            return Err(self.error(rc));
        }
        reader.commits = Some(commits);
        Ok(reader)
    }

    /// Notes a commit: no parked reader may keep pages from before it.
    pub(super) fn committed(&self) {
        let mut p = self.parked.lock();
        p.commits += 1;
        p.readers.iter_mut().for_each(Reader::reset);
    }

    /// Takes a reader back: parked while there is room, ended otherwise.
    pub(super) fn park(&self, mut reader: Reader) {
        let mut p = self.parked.lock();
        p.live -= 1;
        if p.readers.len() < PARKED {
            if reader.commits != Some(p.commits) {
                reader.reset();
            }
            p.readers.push(reader);
            drop(p);
        } else {
            drop(p);
            reader.abort();
        }
        self.freed.notify_one();
    }

    /// Begins the one write transaction; waits for another to end.
    pub fn write(self: &Arc<Env>) -> Res<WriteTxn> {
        let mut txn = ptr::null_mut();
        // SAFETY: as in `read`.
        self.check(unsafe { ffi::mdb_txn_begin(self.env.env(), ptr::null_mut(), 0, &mut txn) })?;
        Ok(WriteTxn { env: self.clone(), txn, thread: PhantomData })
    }

    /// Writes a compacted copy of the last commit into the empty folder `to`.
    pub fn copy_compact(&self, to: &Path) -> Res<()> {
        let c = CString::new(to.as_os_str().as_encoded_bytes())
            .map_err(|_| StorageError::NotADatabase { path: to.into() })?;
        // SAFETY: the environment is open, `c` outlives the call.
        let rc = unsafe { ffi::mdb_env_copy2(self.env.env(), c.as_ptr(), ffi::MDB_CP_COMPACT) };
        check(rc, to, self.map_size)
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        // Snapshots hold the environment alive, so all readers are parked ones.
        self.parked.get_mut().readers.drain(..).for_each(Reader::abort);
    }
}

/// A folder that has an environment. Held open, so that its number is not given to another
/// folder if it is removed (as compaction does) before the environment is closed.
struct Registered {
    inode: (u64, u64),
    _held: std::fs::File,
}
impl Drop for Registered {
    fn drop(&mut self) {
        OPEN.lock().get_or_insert_default().remove(&self.inode);
    }
}

fn check(rc: i32, path: &Path, map_size: usize) -> Res<()> {
    if rc == 0 { Ok(()) } else { Err(error(rc, path, map_size)) }
}

fn error(rc: i32, path: &Path, map_size: usize) -> StorageError {
    match rc {
        ffi::MDB_MAP_FULL => StorageError::MapFull { map_size_bytes: map_size },
        ffi::MDB_READERS_FULL => StorageError::TooManyReaders,
        ffi::MDB_CORRUPTED | ffi::MDB_PAGE_NOTFOUND => {
            StorageError::index(Damage::Layout("a page of the index file is damaged"))
        }
        ffi::MDB_INVALID => StorageError::index(Damage::Layout("the index file is not one")),
        ffi::MDB_VERSION_MISMATCH => StorageError::index(Damage::Layout("the index file has another format")),
        ffi::MDB_PANIC => StorageError::index(Damage::Layout("writing the index file failed half way")),
        rc if rc > 0 => StorageError::io("use", path, std::io::Error::from_raw_os_error(rc)),
        rc => StorageError::Lmdb { code: rc, message: lmdb::Error::from_err_code(rc).to_string() },
    }
}
