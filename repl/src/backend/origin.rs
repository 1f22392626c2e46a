//! Where a fact comes from: the event, the projection, the command, and what led to it.

use super::{Conn, Db};
use crate::fail::Outcome;
use annals::{
    Datom, Keyword,
    event::{Cause, Recorded, Support},
};
use annals_server::client::{FactSupport, SupportCause};

/// One event that supports a fact.
pub struct Origin {
    /// The event.
    pub event: Recorded,
    /// The projection and its version.
    pub projection: Option<(Keyword, u64)>,
    /// The command that the event came of.
    pub command: Option<String>,
    /// What led to it, nearest first, a line each.
    pub chain: Vec<String>,
}

impl Conn {
    /// The events that support a fact of `db`; none when it was transacted without any.
    pub fn origins(&self, db: &Db, d: &Datom, attr: &Keyword) -> Outcome<Vec<Origin>> {
        Ok(match db {
            Db::Local(db) => {
                let support = db.fact_support(d.e, attr.as_str(), &d.v)?;
                support.into_iter().map(of_support).collect()
            }
            Db::Remote(r) => r.fact_support(d.e, attr.as_str(), &d.v)?.into_iter().map(told).collect(),
        })
    }
}

fn told(s: FactSupport) -> Origin {
    let cause = |c: &SupportCause| match c {
        SupportCause::Event(e) => event_line(e),
        SupportCause::Command(id) => format!("command {id}"),
        SupportCause::Outside(id) => outside_line(id),
    };
    Origin {
        event: s.event,
        projection: s.projection.map(|(name, version)| (Keyword::new(&name), version)),
        command: s.command,
        chain: s.chain.iter().map(cause).collect(),
    }
}

fn of_support(s: Support) -> Origin {
    Origin {
        event: s.event,
        projection: s.projection.map(|(name, version)| (name, version.into())),
        command: s.command.map(|c| c.id.to_string()),
        chain: s.chain.iter().map(cause).collect(),
    }
}

fn cause(c: &Cause) -> String {
    match c {
        Cause::Event(e) => event_line(e),
        Cause::Command(c) => format!("command {}", c.id),
        Cause::Outside(id) => outside_line(&id.to_string()),
    }
}

fn event_line(e: &Recorded) -> String {
    format!("event {} ({} version {})", e.ty(), e.stream, e.version)
}

fn outside_line(id: &str) -> String {
    format!("{id}, not of this database")
}
