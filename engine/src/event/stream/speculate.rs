//! What if: an append that nobody makes.
//!
//! 1. Conditions, versions, ids and inline projections are judged as by a commit; refusals
//!    are the same errors.
//! 2. Nothing outside the answer changes: no file, no key for personal values, no memory of
//!    the writer or of projections.

use crate::event::{
    append::{Append, AppendError, Appended},
    commit::{Purpose, Stop},
};
use crate::{Db, TxReport, transact::speculate_with};

impl Db {
    /// The database this would be after an append that nobody makes: its events, the facts of
    /// inline projections, its own facts. The report's `db_after` can be asked like any other, and
    /// speculated on in turn. An append whose events are stored already changes nothing.
    ///
    /// ```
    /// use annals::event::Append;
    /// let conn = annals::in_memory()?;
    /// let placed = Append::to("order-A-1").expect_new().event("OrderPlaced", "{}")?;
    /// let (what_if, appended) = conn.db().with_append(placed)?;
    /// assert_eq!(appended.version().0, 1);
    /// assert_eq!(what_if.db_after().events().head()?.0, 1);
    /// assert_eq!(conn.db().events().head()?.0, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What [`crate::Connection::append`] would be refused with.
    pub fn with_append(&self, a: Append) -> Result<(TxReport, Appended), AppendError> {
        let events = self.shared().events().clone();
        let made = speculate_with(self, |txn| events.append_as(Purpose::Speculate, txn, &a));
        match made {
            Ok((after, done, appended)) => {
                Ok((TxReport::new(done.record, self.clone(), after, done.tempids), appended))
            }
            Err(Stop::Refused(e)) => Err(e),
            Err(Stop::Replayed(appended)) => {
                let nothing = speculate_with(self, |_| -> Result<(), crate::TransactError> { Ok(()) })?;
                let report = TxReport::new(nothing.1.record, self.clone(), self.clone(), Vec::new());
                Ok((report, appended))
            }
        }
    }
}
