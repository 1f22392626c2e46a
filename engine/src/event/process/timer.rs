//! Timers of process managers: a command to be sent at an instant, unless cancelled.
//!
//! | table | key | value |
//! |---|---|---|
//! | `TIMER` | process, instance, name | when, and the command |
//! | `DUE` | process, instant, instance, name | nothing |
//!
//! 1. A timer is set and cancelled in the transaction of the event that asks for it,
//!    and fires in the transaction that queues its command: it fires once.
//! 2. One name is one timer of an instance: setting it again moves it. When an instance
//!    stops, its timers go with it.
//! 3. The clock is the connection's ([`crate::Options::clock`]). A timer that came due
//!    while nothing ran fires when the runner starts, after the events stored by then
//!    were taken.
//! 4. It fires only while its process is registered and running: what the process has not
//!    looked at might have cancelled it.

use crate::DbError;
use crate::event::{
    data::Data,
    log::EventLog,
    outbox::gone,
    queued::Queued,
    seal::Seals,
    table::{self, Key, Tables},
};
use annals_model::{Instant, Value};
use annals_storage::Row;
use std::ops::ControlFlow;

/// A timer as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timer {
    pub when: Instant,
    pub send: Queued,
}

/// Which timer: the process, the instance, the name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    pub process: String,
    pub instance: String,
    pub name: String,
}

/// A timer that is set, as [`crate::Connection::timers`] lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingTimer {
    /// The process manager.
    pub process: String,
    /// The instance.
    pub instance: String,
    /// Its name.
    pub name: String,
    /// When it fires.
    pub when: Instant,
    /// What is sent then.
    pub send: crate::event::command::CommandTo,
}

/// Instants in the order of numbers.
fn ordered(i: Instant) -> u64 {
    (i.0 as u64) ^ (1 << 63)
}

impl TimerId {
    fn key(&self) -> Key {
        Key::new().text(&self.process).text(&self.instance).text(&self.name)
    }
    fn due_key(&self, when: Instant) -> Key {
        Key::new().text(&self.process).number(ordered(when)).text(&self.instance).text(&self.name)
    }
    fn parse(rest: &[u8]) -> Option<TimerId> {
        let mut parts = rest.split(|b| *b == 2).map(|b| String::from_utf8_lossy(b).into_owned());
        Some(TimerId { process: parts.next()?, instance: parts.next()?, name: parts.next()? })
    }
}

/// The timer as stored, if it is set.
pub(crate) fn find(log: &EventLog, id: &TimerId) -> Result<Option<Timer>, DbError> {
    match log.tables.row(table::TIMER, id.key())? {
        Some(bytes) => decode(&bytes, &log.seals).map(Some),
        None => Ok(None),
    }
}

fn decode(bytes: &[u8], seals: &Seals) -> Result<Timer, DbError> {
    let damaged = || DbError::from(crate::event::data::DataError::Damaged(0));
    let Value::Vector(pair) = Data::stored(bytes).value()? else { return Err(damaged()) };
    match &pair[..] {
        [Value::Instant(when), send] => {
            Ok(Timer { when: *when, send: Queued::opened(send, seals)?.ok_or_else(damaged)? })
        }
        _ => Err(damaged()),
    }
}

/// The rows that set a timer, move it, or (none) take it away.
pub(crate) fn change(log: &EventLog, id: &TimerId, to: Option<&Timer>) -> Result<Vec<Row>, DbError> {
    let mut rows = Vec::with_capacity(3);
    let old = find(log, id)?;
    if let Some(old) = &old
        && to.is_none_or(|t| t.when != old.when)
    {
        rows.push(gone(table::DUE, id.due_key(old.when).done()));
    }
    match to {
        Some(t) => {
            let data = Data::of(&Value::vector([Value::Instant(t.when), t.send.stored(&log.seals)?]))?;
            rows.push(table::put(table::TIMER, id.key(), data.bytes()));
            rows.push(table::put(table::DUE, id.due_key(t.when), Vec::new()));
        }
        None if old.is_some() => rows.push(gone(table::TIMER, id.key().done())),
        None => {}
    }
    Ok(rows)
}

/// The timers of an instance, or of every instance of a process, or of all.
pub(crate) fn of(
    log: &EventLog,
    process: Option<&str>,
    instance: Option<&str>,
) -> Result<Vec<(TimerId, Timer)>, DbError> {
    let mut prefix = Key::new();
    for part in [process, instance].into_iter().flatten() {
        prefix = prefix.text(part);
    }
    let mut found = Vec::new();
    for (key, bytes) in log.tables.under(table::TIMER, prefix)? {
        if let Some(id) = TimerId::parse(&key) {
            found.push((id, decode(&bytes, &log.seals)?));
        }
    }
    Ok(found)
}

/// The first timer of a process, and when it is due.
pub(crate) fn next(tables: &Tables, process: &str) -> Result<Option<(Instant, TimerId)>, DbError> {
    let from = Key::new().text(process).done();
    let mut to = from.clone();
    if let Some(end) = to.last_mut() {
        // A name ends with a byte of its own.
        *end += 1;
    }
    let mut found = None;
    tables.rows(table::DUE, &from, &to, false, &mut |key, _| {
        let rest = key.get(from.len()..).unwrap_or_default();
        let n = rest.first().map_or(0, |len| usize::from(len.saturating_sub(0x10)) + 1).min(rest.len());
        let when = table::last_number(&rest[..n], 0).map(|n| Instant((n ^ (1 << 63)) as i64));
        let mut names =
            rest[n..].split(|b| *b == table::END).map(|b| String::from_utf8_lossy(b).into_owned());
        match (when, names.next(), names.next()) {
            (Some(when), Some(instance), Some(name)) => {
                found = Some((when, TimerId { process: process.to_owned(), instance, name }));
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}

impl crate::Connection {
    /// The timers that are set, by process, instance and name.
    pub fn timers(&self) -> Result<Vec<PendingTimer>, DbError> {
        let all = of(&self.db().events(), None, None)?;
        Ok(all
            .into_iter()
            .map(|(id, t)| PendingTimer {
                process: id.process,
                instance: id.instance,
                name: id.name,
                when: t.when,
                send: t.send.to,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_by_instant_are_in_the_order_of_time() {
        let id = TimerId { process: "p".into(), instance: "i-1".into(), name: "n".into() };
        let instants = [i64::MIN, -5, 0, 7, 1_700_000_000_000_000, i64::MAX];
        let keys: Vec<_> = instants.iter().map(|i| id.due_key(Instant(*i)).done()).collect();
        assert!(keys.is_sorted());
        let bare = id.key().done();
        assert_eq!(TimerId::parse(&bare), Some(id));
    }
}
