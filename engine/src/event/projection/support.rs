//! Provenance: from a fact to the events that support it, and from there to the commands
//! and events behind them.
//!
//! 1. A projected fact is filed under the transaction of its event. When that transaction
//!    has one event, the datom's t names it; several events of a transaction, and events
//!    that say again what holds already, are noted as rows (`event::facts`, 4).
//! 2. Support counts from the assertion of the fact as it holds: what supported it before
//!    it was retracted and asserted again does not.

use crate::event::{
    command::CommandOutcome,
    id::{CommandId, EventId, Position},
    inline::support_key,
    log::EventLog,
    record::Recorded,
    runtime::Runtime,
    steer::by_key,
    table,
};
use crate::{Db, DbError, store::Prefix};
use annals_model::{AttrId, Datom, EntityId, Keyword, Value};
use std::{ops::ControlFlow, sync::Arc};
use uuid::Uuid;

/// Longest chain of causes that is followed.
const CHAIN: usize = 1000;

/// What stands behind an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// An event.
    Event(Box<Recorded>),
    /// A command, as stored with what came of it.
    Command(Box<CommandOutcome>),
    /// Something that this database has not stored.
    Outside(Uuid),
}

/// One event that supports a fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Support {
    /// The event.
    pub event: Recorded,
    /// The projection, and which version of it, that made the fact of the event; none for
    /// a fact that was given with the append.
    pub projection: Option<(Keyword, u32)>,
    /// The command that the event came of.
    pub command: Option<CommandOutcome>,
    /// What led to it, nearest first: the command, what caused that, and so on.
    pub chain: Vec<Cause>,
}

impl Db {
    /// The events that support a fact as this value shows it, in order of position: none when the
    /// fact does not hold, or was transacted without events.
    ///
    /// ```
    /// use annals::{Value, event::Append};
    /// let conn = annals::in_memory()?;
    /// conn.add_projection(r#"
    /// {:projection/name :orders, :projection/version 1
    ///  :projection/schema [{:db/ident :order/id :db/valueType :db.type/string
    ///                       :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
    ///                      {:db/ident :order/status :db/valueType :db.type/keyword
    ///                       :db/cardinality :db.cardinality/one}]
    ///  :projection/on [{:event "OrderPlaced" :assert [{:order/id $stream.key :order/status :placed}]}]}"#)?;
    /// conn.append(Append::to("order-A-1").event("OrderPlaced", "{}")?)?;
    /// let db = conn.db();
    /// let order = db.query(r#"[:find ?o . :where [?o :order/id "A-1"]]"#, ())?.scalar();
    /// let Some(Value::Ref(order)) = order else { panic!("{order:?}") };
    /// let why = db.fact_support(order, ":order/status", &Value::keyword("placed"))?;
    /// assert_eq!(why[0].event.ty(), "OrderPlaced");
    /// assert_eq!(why[0].projection.as_ref().unwrap().1, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// An attribute that does not exist, a value of another type; or the database could not be read.
    pub fn fact_support(&self, e: EntityId, attr: &str, value: &Value) -> Result<Vec<Support>, DbError> {
        let attr = self.attribute(attr)?.clone();
        let Some(v) = self.coerced(&attr, value)? else { return Ok(Vec::new()) };
        let fact = self.collect(&Prefix::Eav(e, attr.id, v))?.into_iter().rfind(|d| d.added);
        let Some(fact) = fact else { return Ok(Vec::new()) };
        let log = self.events();
        let events = self.shared().events();
        let maker = maker(events, attr.id);
        let mut found = Vec::new();
        for p in supporting(&log, &fact, maker.as_deref())? {
            let Some(event) = log.at(p)?.into_iter().next() else { continue };
            let command = command_of(&log, &event)?;
            let chain = chain(&log, &event, command.as_ref())?;
            let projection = maker.as_ref().map(|r| (r.name.clone(), r.version));
            found.push(Support { event, projection, command, chain });
        }
        Ok(found)
    }
}

/// The positions of the events that support a fact.
fn supporting(log: &EventLog, fact: &Datom, maker: Option<&Runtime>) -> Result<Vec<Position>, DbError> {
    let mut found = noted(log, fact.e, fact.a, &fact.v, fact.t)?;
    if let Some((first, last)) = log.positions_of(fact.t)? {
        // A plain fact goes with all the events of its append.
        if first == last || maker.is_none() {
            found.extend((first.0..=last.0).map(Position));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Support of a fact that is noted as rows, from its assertion on.
fn noted(
    log: &EventLog,
    e: EntityId,
    a: AttrId,
    v: &Value,
    since: annals_model::T,
) -> Result<Vec<Position>, DbError> {
    let key = support_key(e, a, v);
    let prefix = key.clone().done().len();
    let mut found = Vec::new();
    let (from, to) = (key.clone().done(), key.after());
    log.tables.rows(table::SUPPORT, &from, &to, false, &mut |k, _| {
        found.extend(table::last_number(k, prefix).map(Position));
        ControlFlow::Continue(())
    })?;
    let mut kept = Vec::with_capacity(found.len());
    for p in found {
        if log.t_of(p)?.is_some_and(|t| t >= since) {
            kept.push(p);
        }
    }
    Ok(kept)
}

/// The command that an event came of, when one is stored.
fn command_of(log: &EventLog, e: &Recorded) -> Result<Option<CommandOutcome>, DbError> {
    let named = match e.event.meta.more.get("command") {
        Some(Value::String(id)) => Uuid::parse_str(id).ok(),
        Some(Value::Uuid(id)) => Some(*id),
        _ => None,
    };
    let id = match named {
        Some(id) => Some(id),
        None => log.tables.row(table::BY, by_key(e.t))?.and_then(|id| Uuid::from_slice(&id).ok()),
    };
    match id.or(e.event.meta.causation) {
        Some(id) => log.command(CommandId(id)),
        None => Ok(None),
    }
}

/// What led to an event, nearest first.
fn chain(log: &EventLog, e: &Recorded, command: Option<&CommandOutcome>) -> Result<Vec<Cause>, DbError> {
    let mut chain: Vec<Cause> = Vec::new();
    let mut seen = vec![e.event.id.0];
    let (mut at, mut by) = (e.clone(), command.cloned());
    while chain.len() < CHAIN {
        let cause = at.event.meta.causation;
        if let Some(c) = by.take() {
            let id = c.id.0;
            chain.push(Cause::Command(Box::new(c)));
            if cause.is_none_or(|cause| cause == id) {
                break;
            }
        }
        let Some(cause) = cause.filter(|c| !seen.contains(c)) else { break };
        seen.push(cause);
        if let Some(event) = log.event(EventId(cause))?.into_iter().next() {
            chain.push(Cause::Event(Box::new(event.clone())));
            by = command_of(log, &event)?;
            at = event;
        } else {
            chain.push(match log.command(CommandId(cause))? {
                Some(c) => Cause::Command(Box::new(c)),
                None => Cause::Outside(cause),
            });
            break;
        }
    }
    Ok(chain)
}

/// The maker of an attribute's facts, whatever has become of it since.
fn maker(events: &crate::event::registry::Events, a: AttrId) -> Option<Arc<Runtime>> {
    events.runtimes().iter().find(|r| r.attrs.iter().any(|(_, id)| *id == a)).cloned()
}
