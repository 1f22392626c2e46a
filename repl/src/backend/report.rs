//! What a transaction did, told by this process or by a server.

use super::Db;
use crate::fail::Outcome;
use annals::{Datom, EntityId, Instant, T, TxReport};
use annals_server::client;

/// The outcome of one transaction.
#[derive(Clone)]
pub struct Report {
    t: T,
    instant: Instant,
    datoms: Vec<Datom>,
    tempids: Vec<(String, EntityId)>,
    before: Db,
    after: Db,
    /// The database after it cannot be asked: it was only speculated about, elsewhere.
    hidden: bool,
}

impl Report {
    /// As this process tells.
    pub fn local(r: &TxReport) -> Report {
        Report {
            t: r.t(),
            instant: r.tx_instant(),
            datoms: r.tx_data().to_vec(),
            tempids: r.tempids().map(|(n, e)| (n.to_owned(), e)).collect(),
            before: r.db_before().clone().into(),
            after: r.db_after().clone().into(),
            hidden: false,
        }
    }

    pub(super) fn remote(conn: &client::Connection, r: &client::Report) -> Outcome<Report> {
        let newest = conn.db()?;
        let (before, after) = around(&newest, r.t())?;
        Ok(Report { hidden: false, ..Report::of_client(r, before, after) })
    }

    pub(super) fn speculated(db: &Db, r: &client::Report) -> Report {
        Report { hidden: true, ..Report::of_client(r, db.clone(), db.clone()) }
    }

    pub(super) fn of_log(newest: &client::Db, tx: client::Transaction) -> Outcome<Report> {
        let (before, after) = around(newest, tx.t)?;
        Ok(Report {
            t: tx.t,
            instant: tx.tx_instant,
            datoms: tx.datoms,
            tempids: Vec::new(),
            before,
            after,
            hidden: false,
        })
    }

    fn of_client(r: &client::Report, before: Db, after: Db) -> Report {
        Report {
            t: r.t(),
            instant: r.tx_instant(),
            datoms: r.tx_data().to_vec(),
            tempids: r.tempids().map(|(n, e)| (n.to_owned(), e)).collect(),
            before,
            after,
            hidden: false,
        }
    }

    /// The number of the transaction.
    pub fn t(&self) -> T {
        self.t
    }
    /// The transaction as an entity.
    pub fn tx(&self) -> EntityId {
        self.t.entity()
    }
    /// Its instant.
    pub fn tx_instant(&self) -> Instant {
        self.instant
    }
    /// What it asserted and retracted.
    pub fn tx_data(&self) -> &[Datom] {
        &self.datoms
    }
    /// What tempids became.
    pub fn tempids(&self) -> impl Iterator<Item = (&str, EntityId)> {
        self.tempids.iter().map(|(n, e)| (n.as_str(), *e))
    }
    /// The database before.
    pub fn db_before(&self) -> &Db {
        &self.before
    }
    /// The database after; of a transaction speculated about on a server, the one before.
    pub fn db_after(&self) -> &Db {
        &self.after
    }
    /// The database after, to be asked; none when that cannot be.
    pub fn askable(&self) -> Option<&Db> {
        (!self.hidden).then_some(&self.after)
    }
}

fn around(newest: &client::Db, t: T) -> Outcome<(Db, Db)> {
    let before = newest.as_of(T(t.0.saturating_sub(1)))?;
    Ok((Db::remote(before), Db::remote(newest.as_of(t)?)))
}
