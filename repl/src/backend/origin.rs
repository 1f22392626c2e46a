//! Where a fact comes from: the event, the projection, the command, and what led to it.

use super::{Conn, Db};
use crate::fail::Outcome;
use annals::{
    Datom, Keyword,
    event::{Cause, Recorded, Support},
};

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
    /// The events that support a fact of `db`; none when it was transacted without any. A server
    /// names the events of the fact's transaction, and not what is behind them.
    pub fn origins(&self, db: &Db, d: &Datom, attr: &Keyword) -> Outcome<Vec<Origin>> {
        if let Db::Local(db) = db {
            let support = db.fact_support(d.e, attr.as_str(), &d.v)?;
            return Ok(support.into_iter().map(of_support).collect());
        }
        let owner = self.projections()?.into_iter().find(|p| p.attributes.contains(attr));
        let Some(owner) = owner else { return Ok(Vec::new()) };
        let of = |event: Recorded| Origin {
            event,
            projection: Some((owner.name.clone(), owner.version)),
            command: None,
            chain: Vec::new(),
        };
        Ok(self.events_of(d.t)?.into_iter().map(of).collect())
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
        Cause::Event(e) => format!("event {} ({} version {})", e.ty(), e.stream, e.version),
        Cause::Command(c) => format!("command {}", c.id),
        Cause::Outside(id) => format!("{id}, not of this database"),
    }
}
