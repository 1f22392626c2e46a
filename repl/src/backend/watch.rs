//! Transactions as they come.

use super::{Conn, Report};
use crate::fail::Outcome;
use annals_server::client;
use std::time::Duration;

/// Follows the transactions of a database.
pub enum Watch {
    /// Of this process: what it writes itself.
    Local(annals::Listener),
    /// Of a server: what anybody writes there.
    Remote(client::Connection, Box<client::Changes>),
}

impl Conn {
    /// Every transaction from now on.
    pub fn watch(&self) -> Outcome<Watch> {
        Ok(match self {
            Conn::Local(c) => Watch::Local(c.listen()),
            Conn::Remote(c) => Watch::Remote(c.clone(), Box::new(c.changes(c.db()?.basis_t())?)),
        })
    }
}

impl Watch {
    /// The next transaction; none when none came in time.
    pub fn next_timeout(&mut self, timeout: Duration) -> Outcome<Option<Report>> {
        match self {
            Watch::Local(l) => Ok(l.next_timeout(timeout)?.map(|r| Report::local(&r))),
            Watch::Remote(conn, changes) => match changes.next_timeout(timeout)? {
                Some(tx) => Ok(Some(Report::of_log(&conn.db()?, tx)?)),
                None => Ok(None),
            },
        }
    }
}
