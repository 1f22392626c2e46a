//! Verification within so much memory, telling how far it is. (`Connection::verify` is the same with what is usual.)

use crate::{Connection, Error};

pub use crate::store::{VerifyOptions, VerifyProgress, VerifyReport};

impl Connection {
    /// Recomputes the log's chain and compares every index with a fold of the log, as [`Connection::verify`]
    /// does, holding about [`VerifyOptions::memory_bytes`] of that fold at a time.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// let conn = annals::open(dir.path().join("db"))?;
    /// conn.transact("[{:db/ident :color/red}]")?;
    /// let mut last = None;
    /// let progress = &mut |p| last = Some(p);
    /// let options = annals::VerifyOptions { memory_bytes: 64 << 20, progress: Some(progress) };
    /// assert!(conn.verify_with(options)?.is_sound());
    /// assert_eq!(last.map(|p| (p.t, p.pass)), Some((conn.db().basis_t(), 1)));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn verify_with(&self, options: VerifyOptions<'_>) -> Result<VerifyReport, Error> {
        Ok(self.shared().store().verify_with(options)?)
    }
}
