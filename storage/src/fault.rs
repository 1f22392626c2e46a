//! The I/O seam: every write and sync of the log passes here, so that tests can
//! make the n-th one fail.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// What the log is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// Write bytes.
    Write,
    /// Sync them.
    Sync,
}

/// A plan of failures. The default plan is that nothing fails.
#[derive(Clone, Debug, Default)]
pub struct Faults(Option<Arc<Plan>>);

#[derive(Debug)]
struct Plan {
    op: FileOp,
    left: AtomicI64,
    errno: i32,
}

impl Faults {
    /// The `n`-th (from 1) operation of a kind fails with an error number, and every later one too.
    pub fn nth(op: FileOp, n: i64, errno: i32) -> Faults {
        Faults(Some(Arc::new(Plan { op, left: AtomicI64::new(n), errno })))
    }

    /// Fails when the plan says so.
    pub(crate) fn check(&self, op: FileOp) -> io::Result<()> {
        match &self.0 {
            Some(p) if p.op == op && p.left.fetch_sub(1, Ordering::Relaxed) <= 1 => {
                Err(io::Error::from_raw_os_error(p.errno))
            }
            _ => Ok(()),
        }
    }
}
