//! A database of which only some datoms are shown: [`Db::filter`].
//!
//! 1. A filter hides datoms; it never makes one visible that the view hides.
//! 2. It is asked about visible datoms only, after the view of time: a filter of a
//!    filter shows what both let through.
//! 3. What it is handed is the database without it, so that it may ask questions
//!    without end or circle.
//! 4. The schema, the log and the instants of transactions are not filtered.
//!
//! The meaning is Datomic's `d/filter`. A filter is code, so it cannot be given over
//! HTTP or in the shell; there a clause or a rule says the same.

use crate::{Db, snapshot::Visit};
use annals_model::Datom;
use std::{ops::ControlFlow, sync::Arc};

/// Says whether a datom is shown.
type Keep = dyn Fn(&Db, &Datom) -> bool + Send + Sync;

/// Filters laid over one another, the first one innermost.
#[derive(Clone)]
pub(crate) struct Filter(Arc<[Arc<Keep>]>);

impl Filter {
    fn shows(&self, whole: &Db, d: &Datom) -> bool {
        self.0.iter().all(|keep| keep(whole, d))
    }

    /// A visitor that passes on what is shown.
    pub fn around<'a>(
        &'a self,
        whole: &'a Db,
        visit: Visit<'a>,
    ) -> impl FnMut(Datom) -> ControlFlow<()> + use<'a> {
        move |d| match self.shows(whole, &d) {
            true => visit(d),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Db {
    /// The same database, of which only those datoms are shown that `keep` says yes to.
    /// It is handed the database without the filter, and each datom that the view of time
    /// shows; it must answer the same for the same datom. Views of time may be laid over it,
    /// and further filters.
    ///
    /// Every read goes through it (queries, pulls, entities, lookup refs, index scans) and is
    /// a scan with a call for each datom looked at: nothing comes from cached columns.
    /// [`Db::with`] judges the transaction on the whole database, then filters the result. A
    /// timeline, [`Db::prove`] and [`Db::why_not`] refuse a filtered database
    /// (`query/unsupported`), since a filter may tell an assertion from its retraction.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// conn.transact(r#"[{:db/ident :note/text :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]"#)?;
    /// conn.transact(r#"[{:note/text "kept"}]"#)?;
    /// conn.transact(r#"[{:note/text "later"} {:db/id "datomic.tx" :db/doc "draft"}]"#)?;
    /// // Only what no draft wrote.
    /// let final_only = conn.db().filter(move |db, d| {
    ///     db.entity(d.t.entity()).is_ok_and(|tx| tx.is_none_or(|tx| tx.get("db/doc").is_none()))
    /// });
    /// let texts = final_only.query("[:find [?t ...] :where [_ :note/text ?t]]", ())?.value();
    /// assert_eq!(annals::edn::print(&texts), "[\"kept\"]");
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn filter(&self, keep: impl Fn(&Db, &Datom) -> bool + Send + Sync + 'static) -> Db {
        let mut all: Vec<Arc<Keep>> = self.the_filter().map_or_else(Vec::new, |f| f.0.to_vec());
        all.push(Arc::new(keep));
        self.with_filter(Some(Filter(all.into())))
    }

    /// Is a part of the database hidden by [`Db::filter`]?
    pub fn is_filtered(&self) -> bool {
        self.the_filter().is_some()
    }
}
