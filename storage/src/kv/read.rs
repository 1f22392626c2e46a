//! Reading one commit: rows under a key, and walks over many.

use super::{Db, empty, env::Env, val};
use crate::error::Res;
use lmdb_sys as ffi;
use std::{cell::Cell, ptr, sync::Arc};

/// A read transaction with cursors that nobody uses now, by tree. What makes a short read cheap: beginning
/// a transaction, finding the trees in it and opening cursors cost as much as the read.
pub(super) struct Reader {
    pub(super) txn: *mut ffi::MDB_txn,
    pub(super) idle: [*mut ffi::MDB_cursor; Db::ALL.len()],
    /// Of [`Parked`], when it began; none while it is reset.
    pub(super) commits: Option<u64>,
}
// SAFETY: a read transaction of a NO_TLS environment and its cursors may move between threads;
// each is owned by one `Snapshot` or by the pool, never by two.
unsafe impl Send for Reader {}

impl Reader {
    /// Lets go of cursors and pages; keeps the transaction's slot.
    pub(super) fn reset(&mut self) {
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

    pub(super) fn abort(mut self) {
        self.close_cursors();
        // SAFETY: the transaction is live or reset, and nobody else has it.
        unsafe { ffi::mdb_txn_abort(self.txn) };
    }
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
    pub(super) env: Arc<Env>,
    pub(super) reader: Reader,
    /// The reader's cursors while it is here: a seek from near the last place stays on its page.
    pub(super) idle: [Cell<*mut ffi::MDB_cursor>; Db::ALL.len()],
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
        self.env.park(Reader { txn: self.reader.txn, idle, commits: self.reader.commits });
    }
}

pub(super) fn get(env: &Env, txn: *mut ffi::MDB_txn, db: Db, key: &[u8]) -> Res<Option<Vec<u8>>> {
    let (mut k, mut v) = (val(key), empty());
    // SAFETY: transaction and handle are live; on success `v` points into pages
    // that stay as they are until the bytes are copied here.
    unsafe {
        match ffi::mdb_get(txn, env.dbi(db), &mut k, &mut v) {
            0 => Ok(Some(std::slice::from_raw_parts(v.mv_data as *const u8, v.mv_size).to_vec())),
            ffi::MDB_NOTFOUND => Ok(None),
            rc => Err(env.error(rc)),
        }
    }
}

/// A position in a tree of a read transaction.
pub(super) struct Cursor<'s> {
    env: &'s Env,
    cursor: *mut ffi::MDB_cursor,
}

impl<'s> Cursor<'s> {
    pub(super) fn open(env: &'s Env, txn: *mut ffi::MDB_txn, db: Db) -> Res<Cursor<'s>> {
        let mut cursor = ptr::null_mut();
        // SAFETY: transaction and handle are live.
        env.check(unsafe { ffi::mdb_cursor_open(txn, env.dbi(db), &mut cursor) })?;
        Ok(Cursor { env, cursor })
    }

    /// The first row at or after `key`.
    pub(super) fn seek(&mut self, key: &[u8]) -> Res<Option<(&'s [u8], &'s [u8])>> {
        self.at(val(key), if key.is_empty() { ffi::MDB_FIRST } else { ffi::MDB_SET_RANGE })
    }

    pub(super) fn go(&mut self, op: u32) -> Res<Option<(&'s [u8], &'s [u8])>> {
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
                rc => Err(self.env.error(rc)),
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
