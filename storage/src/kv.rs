//! The only file that names LMDB.
//!
//! 1. Opened without thread-local readers (`NO_TLS`) and without a writable map.
//! 2. No iterator of `lmdb-rkv` is used: [`Snapshot::walk`] holds transaction
//!    and cursor together, and lends each row for the length of one call.
//! 3. What leaves is owned bytes; no LMDB type is seen outside.
//! 4. One environment a folder and process: a registry by device and inode
//!    refuses a second one.
//! 5. Readers are short. A parked one shows the newest commit, and is reset when there is a newer: it
//!    never keeps a page that a later commit could reuse.
//!
//! Not here: what the bytes mean.
#![allow(unsafe_code)]

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

/// The trees of the environment, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Db {
    Eav = 0,
    Ave = 1,
    Heav = 2,
    Have = 3,
    Rows = 4,
    Blob = 5,
    Times = 6,
    Meta = 7,
}

impl Db {
    pub const ALL: [(Db, &'static str); 8] = [
        (Db::Eav, "eav"),
        (Db::Ave, "ave"),
        (Db::Heav, "heav"),
        (Db::Have, "have"),
        (Db::Rows, "rows"),
        (Db::Blob, "blob"),
        (Db::Times, "times"),
        (Db::Meta, "meta"),
    ];
}

impl From<crate::key::Tree> for Db {
    fn from(t: crate::key::Tree) -> Db {
        Db::ALL[t as usize].0
    }
}

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

/// A read transaction with cursors that nobody uses now, by tree. What makes a short read cheap: beginning
/// a transaction, finding the trees in it and opening cursors cost as much as the read.
struct Reader {
    txn: *mut ffi::MDB_txn,
    idle: [*mut ffi::MDB_cursor; Db::ALL.len()],
    /// Of [`Parked`], when it began; none while it is reset.
    commits: Option<u64>,
}
// SAFETY: a read transaction of a NO_TLS environment and its cursors may move between threads;
// each is owned by one `Snapshot` or by the pool, never by two.
unsafe impl Send for Reader {}

impl Reader {
    /// Lets go of cursors and pages; keeps the transaction's slot.
    fn reset(&mut self) {
        self.close_cursors();
        if self.commits.take().is_some() {
            // SAFETY: the transaction is live; reset, it only keeps its reader slot.
            unsafe { ffi::mdb_txn_reset(self.txn) };
        }
    }

    fn close_cursors(&mut self) {
        for cursor in &mut self.idle {
            let cursor = std::mem::replace(cursor, ptr::null_mut());
            if !cursor.is_null() {
                // SAFETY: the cursor is open, its transaction not yet ended, and nobody else has it.
                unsafe { ffi::mdb_cursor_close(cursor) };
            }
        }
    }

    fn abort(mut self) {
        self.close_cursors();
        // SAFETY: the transaction is live or reset, and nobody else has it.
        unsafe { ffi::mdb_txn_abort(self.txn) };
    }
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
                    _ => error(rc, &self.path, self.map_size),
                });
            }
        }
        // SAFETY: the transaction is live and ends here; the handles stay open.
        self.check(unsafe { ffi::mdb_txn_commit(txn) })?;
        self.dbs.get_or_init(|| dbs);
        Ok(())
    }

    fn check(&self, rc: i32) -> Res<()> {
        check(rc, &self.path, self.map_size)
    }

    fn dbi(&self, db: Db) -> ffi::MDB_dbi {
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
            return Err(error(rc, &self.path, self.map_size));
        }
        reader.commits = Some(commits);
        Ok(reader)
    }

    /// Notes a commit: no parked reader may keep pages from before it.
    fn committed(&self) {
        let mut p = self.parked.lock();
        p.commits += 1;
        p.readers.iter_mut().for_each(Reader::reset);
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

fn val(bytes: &[u8]) -> ffi::MDB_val {
    ffi::MDB_val { mv_size: bytes.len(), mv_data: bytes.as_ptr() as *mut _ }
}

fn empty() -> ffi::MDB_val {
    ffi::MDB_val { mv_size: 0, mv_data: ptr::null_mut() }
}

/// What a visitor of rows wants next.
pub(crate) enum Step {
    /// The next row.
    Next,
    /// No more rows.
    Stop,
    /// The first row at or after this key (forward walks only).
    Seek(crate::key::Key),
}

/// Called with each key and value of a walk.
pub(crate) type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> Res<Step> + 'v;

/// A consistent view of one commit. Short-lived: it keeps old pages from being reused.
pub(crate) struct Snapshot {
    env: Arc<Env>,
    reader: Reader,
    /// The reader's cursors while it is here: a seek from near the last place stays on its page.
    idle: [Cell<*mut ffi::MDB_cursor>; Db::ALL.len()],
}

impl Snapshot {
    /// The number of the commit it shows.
    pub fn txn_id(&self) -> u64 {
        // SAFETY: the transaction is live.
        unsafe { ffi::mdb_txn_id(self.reader.txn) as u64 }
    }

    /// The bytes under a key.
    pub fn get(&self, db: Db, key: &[u8]) -> Res<Option<Vec<u8>>> {
        get(&self.env, self.reader.txn, db, key)
    }

    /// Number of rows of a tree, and pages it takes.
    pub fn size(&self, db: Db) -> Res<(u64, u64)> {
        // SAFETY: plain data, filled in by the call.
        let mut st: ffi::MDB_stat = unsafe { std::mem::zeroed() };
        // SAFETY: transaction and handle are live.
        self.env.check(unsafe { ffi::mdb_stat(self.reader.txn, self.env.dbi(db), &mut st) })?;
        let pages = st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages;
        Ok((st.ms_entries as u64, pages as u64 * u64::from(st.ms_psize)))
    }

    /// Visits the rows with `from <= key < to` in order, or backwards.
    pub fn walk(
        &self,
        db: Db,
        from: &[u8],
        to: Option<&[u8]>,
        back: bool,
        visit: &mut Visitor<'_>,
    ) -> Res<()> {
        let slot = &self.idle[db as usize];
        let mut cursor = match slot.replace(ptr::null_mut()) {
            idle if idle.is_null() => Cursor::open(&self.env, self.reader.txn, db)?,
            idle => Cursor { env: &self.env, cursor: idle },
        };
        let done = walk(&mut cursor, from, to, back, visit);
        // A walk within this one may have put its cursor back first: that one is closed.
        let idle = slot.replace(std::mem::replace(&mut cursor.cursor, ptr::null_mut()));
        cursor.cursor = idle;
        done
    }
}

fn walk(
    cursor: &mut Cursor<'_>,
    from: &[u8],
    to: Option<&[u8]>,
    back: bool,
    visit: &mut Visitor<'_>,
) -> Res<()> {
    let mut found = match (back, to) {
        (false, _) => cursor.seek(from)?,
        (true, None) => cursor.go(ffi::MDB_LAST)?,
        (true, Some(to)) => match cursor.seek(to)? {
            Some(_) => cursor.go(ffi::MDB_PREV)?,
            None => cursor.go(ffi::MDB_LAST)?,
        },
    };
    while let Some((key, value)) = found {
        let inside = if back { key >= from } else { to.is_none_or(|to| key < to) };
        if !inside {
            break;
        }
        found = match visit(key, value)? {
            Step::Next => cursor.go(if back { ffi::MDB_PREV } else { ffi::MDB_NEXT })?,
            Step::Stop => break,
            Step::Seek(to) => cursor.seek(&to)?,
        };
    }
    Ok(())
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let idle = std::array::from_fn(|i| self.idle[i].get());
        let mut reader = Reader { txn: self.reader.txn, idle, commits: self.reader.commits };
        let mut p = self.env.parked.lock();
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
        self.env.freed.notify_one();
    }
}

fn get(env: &Env, txn: *mut ffi::MDB_txn, db: Db, key: &[u8]) -> Res<Option<Vec<u8>>> {
    let (mut k, mut v) = (val(key), empty());
    // SAFETY: transaction and handle are live; on success `v` points into pages
    // that stay as they are until the bytes are copied here.
    unsafe {
        match ffi::mdb_get(txn, env.dbi(db), &mut k, &mut v) {
            0 => Ok(Some(std::slice::from_raw_parts(v.mv_data as *const u8, v.mv_size).to_vec())),
            ffi::MDB_NOTFOUND => Ok(None),
            rc => Err(error(rc, &env.path, env.map_size)),
        }
    }
}

/// A position in a tree of a read transaction.
pub(crate) struct Cursor<'s> {
    env: &'s Env,
    cursor: *mut ffi::MDB_cursor,
}

impl<'s> Cursor<'s> {
    fn open(env: &'s Env, txn: *mut ffi::MDB_txn, db: Db) -> Res<Cursor<'s>> {
        let mut cursor = ptr::null_mut();
        // SAFETY: transaction and handle are live.
        env.check(unsafe { ffi::mdb_cursor_open(txn, env.dbi(db), &mut cursor) })?;
        Ok(Cursor { env, cursor })
    }

    /// The first row at or after `key`.
    pub fn seek(&mut self, key: &[u8]) -> Res<Option<(&'s [u8], &'s [u8])>> {
        self.at(val(key), if key.is_empty() { ffi::MDB_FIRST } else { ffi::MDB_SET_RANGE })
    }

    fn go(&mut self, op: u32) -> Res<Option<(&'s [u8], &'s [u8])>> {
        self.at(empty(), op)
    }

    fn at(&mut self, mut k: ffi::MDB_val, op: u32) -> Res<Option<(&'s [u8], &'s [u8])>> {
        let mut v = empty();
        // SAFETY: the cursor is open. On success key and value point into pages of a read
        // transaction, which stay as they are as long as it lives, and 's is within that.
        unsafe {
            match ffi::mdb_cursor_get(self.cursor, &mut k, &mut v, op) {
                0 => Ok(Some((
                    std::slice::from_raw_parts(k.mv_data as *const u8, k.mv_size),
                    match v.mv_size {
                        0 => &[],
                        n => std::slice::from_raw_parts(v.mv_data as *const u8, n),
                    },
                ))),
                ffi::MDB_NOTFOUND => Ok(None),
                rc => Err(error(rc, &self.env.path, self.env.map_size)),
            }
        }
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        if !self.cursor.is_null() {
            // SAFETY: the cursor is open, its transaction still live.
            unsafe { ffi::mdb_cursor_close(self.cursor) };
        }
    }
}

/// The write transaction. Dropped without [`WriteTxn::commit`], it writes nothing.
pub(crate) struct WriteTxn {
    env: Arc<Env>,
    txn: *mut ffi::MDB_txn,
    /// LMDB's write lock belongs to the thread that took it.
    thread: PhantomData<*mut ()>,
}

impl WriteTxn {
    /// Writes a row, in place of one under the same key.
    pub fn put(&mut self, db: Db, key: &[u8], value: &[u8]) -> Res<()> {
        self.put_with(db, key, value, 0)
    }

    /// Writes a row whose key is after all others of the tree.
    pub fn append(&mut self, db: Db, key: &[u8], value: &[u8]) -> Res<()> {
        self.put_with(db, key, value, ffi::MDB_APPEND)
    }

    fn put_with(&mut self, db: Db, key: &[u8], value: &[u8], flags: u32) -> Res<()> {
        let (mut k, mut v) = (val(key), val(value));
        // SAFETY: transaction and handle are live; LMDB copies key and value.
        self.env.check(unsafe { ffi::mdb_put(self.txn, self.env.dbi(db), &mut k, &mut v, flags) })
    }

    /// Removes a row; says whether it was there.
    pub fn del(&mut self, db: Db, key: &[u8]) -> Res<bool> {
        let mut k = val(key);
        // SAFETY: transaction and handle are live.
        match unsafe { ffi::mdb_del(self.txn, self.env.dbi(db), &mut k, ptr::null_mut()) } {
            ffi::MDB_NOTFOUND => Ok(false),
            rc => self.env.check(rc).map(|()| true),
        }
    }

    /// The bytes under a key.
    pub fn get(&self, db: Db, key: &[u8]) -> Res<Option<Vec<u8>>> {
        get(&self.env, self.txn, db, key)
    }

    /// The last key of a tree.
    pub fn last_key(&self, db: Db) -> Res<Option<Vec<u8>>> {
        let mut cursor = Cursor::open(&self.env, self.txn, db)?;
        Ok(cursor.go(ffi::MDB_LAST)?.map(|(k, _)| k.to_vec()))
    }

    /// Makes everything written durable and visible; the number of the commit.
    pub fn commit(mut self) -> Res<u64> {
        let txn = std::mem::replace(&mut self.txn, ptr::null_mut());
        // SAFETY: the transaction is live and ends here, whatever the result.
        unsafe {
            let id = ffi::mdb_txn_id(txn) as u64;
            let done = self.env.check(ffi::mdb_txn_commit(txn));
            self.env.committed();
            done.map(|()| id)
        }
    }
}

impl Drop for WriteTxn {
    fn drop(&mut self) {
        if !self.txn.is_null() {
            // SAFETY: the transaction is live and ends here.
            unsafe { ffi::mdb_txn_abort(self.txn) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_the_one_bundled() {
        let (mut a, mut b, mut c) = (0, 0, 0);
        // SAFETY: fills in three numbers.
        unsafe { ffi::mdb_version(&mut a, &mut b, &mut c) };
        assert_eq!((a, b, c), (0, 9, 24));
    }

    #[test]
    fn walks_are_bounded_and_go_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::open(dir.path(), 1 << 30, false, true).unwrap();
        assert!(matches!(Env::open(dir.path(), 1 << 30, false, true), Err(StorageError::Locked { .. })));
        let mut w = env.write().unwrap();
        for i in 0..10u8 {
            w.put(Db::Eav, &[i], &[i, i]).unwrap();
        }
        w.commit().unwrap();
        let seen = |from: &[u8], to: Option<&[u8]>, back| {
            let mut out = vec![];
            let s = env.read().unwrap();
            s.walk(Db::Eav, from, to, back, &mut |k, _| {
                out.push(k[0]);
                Ok(if k[0] == 5 && !back {
                    Step::Seek(crate::key::Key::from_slice(&[7]))
                } else {
                    Step::Next
                })
            })
            .unwrap();
            out
        };
        assert_eq!(seen(&[3], Some(&[9]), false), [3, 4, 5, 7, 8]);
        assert_eq!(seen(&[3], Some(&[9]), true), [8, 7, 6, 5, 4, 3]);
        assert_eq!(seen(&[], None, true).len(), 10);
        drop(env);
        Env::open(dir.path(), 1 << 30, false, false).unwrap();
    }
}
