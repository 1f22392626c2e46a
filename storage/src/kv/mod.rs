//! The only folder that names LMDB.
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

mod env;
mod read;
mod write;

pub(crate) use env::Env;
pub(crate) use read::{Snapshot, Step};
pub(crate) use write::{WriteTxn, Writer};

use lmdb_sys as ffi;
use std::ptr;

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

fn val(bytes: &[u8]) -> ffi::MDB_val {
    ffi::MDB_val { mv_size: bytes.len(), mv_data: bytes.as_ptr() as *mut _ }
}

fn empty() -> ffi::MDB_val {
    ffi::MDB_val { mv_size: 0, mv_data: ptr::null_mut() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::StorageError;

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
