//! The one write transaction: everything of it becomes visible at once, or nothing.

use super::{
    Db, empty,
    env::Env,
    read::{Cursor, get},
    val,
};
use crate::error::Res;
use lmdb_sys as ffi;
use std::{marker::PhantomData, ptr, sync::Arc};

/// The write transaction. Dropped without [`WriteTxn::commit`], it writes nothing.
pub(crate) struct WriteTxn {
    pub(super) env: Arc<Env>,
    pub(super) txn: *mut ffi::MDB_txn,
    /// LMDB's write lock belongs to the thread that took it.
    pub(super) thread: PhantomData<*mut ()>,
}

impl WriteTxn {
    /// Writes a row, in place of one under the same key.
    pub fn put(&mut self, db: Db, key: &[u8], value: &[u8]) -> Res<()> {
        let (mut k, mut v) = (val(key), val(value));
        // SAFETY: transaction and handle are live; LMDB copies key and value.
        self.env.check(unsafe { ffi::mdb_put(self.txn, self.env.dbi(db), &mut k, &mut v, 0) })
    }

    /// A place in a tree to write from. Rows in the order of their keys are written fastest: one that
    /// belongs on the page of the row before is not looked for from the tree's root.
    pub fn rows(&mut self, db: Db) -> Res<Writer<'_>> {
        let mut cursor = ptr::null_mut();
        // SAFETY: transaction and handle are live.
        self.env.check(unsafe { ffi::mdb_cursor_open(self.txn, self.env.dbi(db), &mut cursor) })?;
        Ok(Writer { txn: self, cursor })
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

/// Writes rows of one tree. While it is there nothing else writes in the transaction.
pub(crate) struct Writer<'w> {
    txn: &'w mut WriteTxn,
    cursor: *mut ffi::MDB_cursor,
}

impl Writer<'_> {
    /// Writes a row, in place of one under the same key.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Res<()> {
        self.put_with(key, value, 0)
    }

    /// Writes a row whose key is after all others of the tree.
    pub fn append(&mut self, key: &[u8], value: &[u8]) -> Res<()> {
        self.put_with(key, value, ffi::MDB_APPEND)
    }

    fn put_with(&mut self, key: &[u8], value: &[u8], flags: u32) -> Res<()> {
        let (mut k, mut v) = (val(key), val(value));
        // SAFETY: the cursor is open, its transaction live; LMDB copies key and value.
        self.txn.env.check(unsafe { ffi::mdb_cursor_put(self.cursor, &mut k, &mut v, flags) })
    }

    /// Removes a row; says whether it was there.
    pub fn del(&mut self, key: &[u8]) -> Res<bool> {
        let (mut k, mut v) = (val(key), empty());
        // SAFETY: the cursor is open, its transaction live; nothing of what is found is kept.
        match unsafe { ffi::mdb_cursor_get(self.cursor, &mut k, &mut v, ffi::MDB_SET) } {
            ffi::MDB_NOTFOUND => return Ok(false),
            rc => self.txn.env.check(rc)?,
        }
        // SAFETY: the cursor stands at a row.
        self.txn.env.check(unsafe { ffi::mdb_cursor_del(self.cursor, 0) }).map(|()| true)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // SAFETY: the cursor is open, its transaction still live.
        unsafe { ffi::mdb_cursor_close(self.cursor) };
    }
}
