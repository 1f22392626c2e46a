//! Texts of an erased subject that stand in the clear in rows beside the facts: states of
//! processes, timers, queued commands, outcomes of commands.
//!
//! 1. Rows go by provenance, as facts do: those of the instances that the subject's events were
//!    routed to, of the commands and timers these sent, of commands whose payload was sealed
//!    under the subject, and of those that decided the subject's events. Others' rows with an
//!    equal text stay, whatever they hold, and are named: nobody's work is lost by a coincidence.
//! 2. Every version of such a row goes, from the log too; what holds now is put back without the
//!    texts, in the transaction that signs. So nothing under way is lost, and no outcome is forgotten.
//! 3. Names stay: of aggregates, instances, timers, senders. They are never personal values.
//! 4. What is sealed is not touched: with the key it can no longer be read.

use crate::event::{
    command::{CommandOutcome, CommandStatus},
    data::Data,
    id::CommandId,
    log::EventLog,
    marks::holds,
    queued::Queued,
    seal,
    table::{self, END, Key},
};
use crate::{DbError, store::Excise};
use annals_model::{T, Value};
use annals_storage::{Record, Row, StorageError};
use hashbrown::HashSet;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// What is to be done about the rows.
#[derive(Default)]
pub(crate) struct Redaction {
    /// All versions of these go.
    pub plan: Vec<Excise>,
    /// These are put back.
    pub rows: Vec<Row>,
    /// What they are, for people.
    pub names: Vec<String>,
    /// Rows with such a text that have nothing to do with the subject; at most `ELSEWHERE`.
    pub elsewhere: Vec<String>,
}

/// Most rows from elsewhere that are named.
pub(crate) const ELSEWHERE: usize = 100;

const TABLES: [(u8, &str); 4] = [
    (table::PROCESS, "process"),
    (table::TIMER, "timer"),
    (table::OUTBOX, "queued"),
    (table::COMMAND, "command"),
];

/// What the subject's events have to do with rows.
#[derive(Default)]
pub(crate) struct Ties {
    /// The events,
    pub events: HashSet<Uuid>,
    /// the transactions that stored them,
    pub times: HashSet<T>,
    /// the instances they were routed to, with their processes,
    pub instances: BTreeSet<(String, String)>,
    /// and the commands that made them or follow from them.
    pub commands: HashSet<Uuid>,
    /// Rows that somebody says are the subject's, as `Redaction::elsewhere` names them.
    pub named: BTreeSet<String>,
}

impl Ties {
    /// Follows a row to the instances and commands that belong to the subject by themselves.
    fn follow(&mut self, t: T, row: &Row, subject: &str) -> Result<(), DbError> {
        let Some(value) = &row.value else { return Ok(()) };
        match row.table {
            // An outcome is stored with the events it names.
            table::COMMAND if self.times.contains(&t) => self.commands.extend(Uuid::from_slice(&row.key)),
            table::OUTBOX | table::TIMER => {
                let Some(q) = queued(row.table, value)? else { return Ok(()) };
                let caused = q.meta.causation.is_some_and(|c| self.events.contains(&c));
                if caused || seal::is_sealed_under(&q.to.payload, subject) {
                    self.commands.insert(q.id.0);
                    self.instances.extend(q.sender);
                }
            }
            table::PROCESS if seal::is_sealed_under(&Data::stored(value).value()?, subject) => {
                self.instances.extend(instance(&row.key));
            }
            _ => {}
        }
        Ok(())
    }

    /// Is the row the subject's? Of outcomes that is known when all commands are.
    fn hold(&mut self, row: &Row, value: &[u8]) -> Result<bool, DbError> {
        Ok(match row.table {
            table::PROCESS => instance(&row.key).is_some_and(|i| self.instances.contains(&i)),
            table::OUTBOX | table::TIMER => match queued(row.table, value)? {
                Some(q) if q.sender.as_ref().is_some_and(|s| self.instances.contains(s)) => {
                    self.commands.insert(q.id.0);
                    true
                }
                Some(q) => self.commands.contains(&q.id.0),
                None => false,
            },
            _ => false,
        })
    }
}

/// The command in a row of the queue or of a timer, as it is stored.
fn queued(table: u8, value: &[u8]) -> Result<Option<Queued>, DbError> {
    Ok(match (table, Data::stored(value).value()?) {
        (table::TIMER, Value::Vector(pair)) if pair.len() == 2 => Queued::of_value(&pair[1]),
        (_, v) => Queued::of_value(&v),
    })
}

/// The process and the instance that a key of a state names.
fn instance(key: &[u8]) -> Option<(String, String)> {
    let mut parts = key.split(|b| *b == END).map(|b| String::from_utf8_lossy(b).into_owned());
    Some((parts.next()?, parts.next()?))
}

/// Looks through the log, twice, for rows of the subject that hold one of the texts.
pub(crate) fn plan<R>(
    records: impl Fn() -> Result<R, StorageError>,
    log: &EventLog,
    subject: &str,
    texts: &HashSet<Value>,
    mut ties: Ties,
) -> Result<Redaction, DbError>
where
    R: Iterator<Item = Result<Record, StorageError>>,
{
    let texts: Vec<Value> = texts.iter().filter(|v| text_of(v).is_some()).cloned().collect();
    let mut redaction = Redaction::default();
    if texts.is_empty() {
        return Ok(redaction);
    }
    for record in records()? {
        let record = record?;
        for row in &record.rows {
            ties.follow(record.t, row, subject)?;
        }
    }
    // Whether it is the subject's, of every row that holds a text in some version.
    let mut found: BTreeMap<(u8, Vec<u8>), bool> = BTreeMap::new();
    for record in records()? {
        for row in record?.rows {
            let Some(value) = row.value.as_deref().filter(|_| TABLES.iter().any(|(n, _)| *n == row.table))
            else {
                continue;
            };
            let own = ties.hold(&row, value)?;
            if stands_in(value, &texts) {
                *found.entry((row.table, row.key)).or_default() |= own;
            }
        }
    }
    for ((table, key), own) in found {
        let what = TABLES.iter().find(|(n, _)| *n == table).map_or("", |(_, what)| *what);
        let name = format!("{what} {}", name(table, &key));
        let decided = || Uuid::from_slice(&key).is_ok_and(|id| ties.commands.contains(&id));
        let hers = own || (table == table::COMMAND && decided()) || ties.named.contains(&name);
        if !hers {
            if redaction.elsewhere.len() < ELSEWHERE {
                redaction.elsewhere.push(name);
            }
            continue;
        }
        redaction.names.push(name);
        if let Some(stored) = log.tables.row(table, Key::new().bytes(&key))? {
            let value = Some(without(table, &key, &stored, &texts)?);
            redaction.rows.push(Row { table, key: key.clone(), value });
        }
        redaction.plan.push(Excise::Row { table, key });
    }
    Ok(redaction)
}

/// A text that is held by something: none is held by everything.
fn text_of(v: &Value) -> Option<&Arc<str>> {
    match v {
        Value::String(s) if !s.is_empty() => Some(s),
        _ => None,
    }
}

/// Does one of the texts stand in bytes as they are stored?
pub(crate) fn stands_in(stored: &[u8], texts: &[Value]) -> bool {
    texts.iter().filter_map(text_of).any(|t| memchr::memmem::find(stored, t.as_bytes()).is_some())
}

fn name(table: u8, key: &[u8]) -> String {
    match Uuid::from_slice(key) {
        Ok(id) if table == table::COMMAND => id.to_string(),
        _ => {
            let parts: Vec<_> = key.split(|b| *b == END).map(String::from_utf8_lossy).collect();
            parts.join(" ").trim_end().to_owned()
        }
    }
}

/// A row without the texts.
fn without(table: u8, key: &[u8], stored: &[u8], texts: &[Value]) -> Result<Vec<u8>, DbError> {
    if table == table::COMMAND {
        let id = CommandId(Uuid::from_slice(key).unwrap_or_default());
        let mut outcome = CommandOutcome::decode(id, stored)?;
        if let CommandStatus::Rejected { message, detail, .. } = &mut outcome.status {
            if in_text(message, texts) {
                *message = Arc::from(seal::ERASED);
            }
            *detail = redacted(detail, texts);
        }
        return Ok(outcome.encode()?);
    }
    let value = Data::stored(stored).value()?;
    let value = match (table, &value) {
        (table::PROCESS, v) => redacted(v, texts),
        (table::TIMER, Value::Vector(pair)) if pair.len() == 2 => {
            Value::vector([pair[0].clone(), redacted_command(&pair[1], texts)])
        }
        (_, v) => redacted_command(v, texts),
    };
    Ok(Data::of(&value)?.bytes().to_vec())
}

/// A queued command: its payload as data, who and what it is about as text.
fn redacted_command(v: &Value, texts: &[Value]) -> Value {
    let Value::Map(entries) = v else { return v.clone() };
    Value::map(entries.iter().map(|(k, v)| {
        let field = match k {
            Value::Keyword(k) => k.as_str(),
            _ => "",
        };
        let v = match (field, v) {
            ("payload" | "meta", v) => redacted(v, texts),
            // A fact about a transaction keeps the type of its attribute.
            ("tx", Value::Vector(facts)) => Value::vector(facts.iter().map(|fact| match fact {
                Value::Vector(pair) if pair.len() == 2 && held(&pair[1], texts) => {
                    Value::vector([pair[0].clone(), Value::string(seal::ERASED)])
                }
                fact => fact.clone(),
            })),
            ("actor" | "correlation", Value::String(s)) if in_text(s, texts) => Value::string(seal::ERASED),
            (_, v) => v.clone(),
        };
        (k.clone(), v)
    }))
}

/// Does a value hold one of the texts, or is it one of the other values?
fn held(v: &Value, texts: &[Value]) -> bool {
    texts.iter().any(|t| holds(v, t))
}

pub(crate) fn in_text(text: &str, texts: &[Value]) -> bool {
    texts.iter().filter_map(text_of).any(|t| text.contains(&**t))
}

/// The value with `:annals/erased` in place of everything that holds one of the texts.
pub(crate) fn redacted(v: &Value, texts: &[Value]) -> Value {
    match v {
        // The name of its subject is no secret, and what it holds cannot be read here.
        Value::Tagged(t) if t.0.as_str() == seal::SEALED => v.clone(),
        Value::Map(entries) if entries.iter().any(|(k, _)| held(k, texts)) => Value::keyword(seal::ERASED),
        Value::Map(entries) => Value::map(entries.iter().map(|(k, v)| (k.clone(), redacted(v, texts)))),
        Value::Vector(items) => Value::vector(items.iter().map(|v| redacted(v, texts))),
        Value::List(items) => Value::List(items.iter().map(|v| redacted(v, texts)).collect()),
        v if held(v, texts) => Value::keyword(seal::ERASED),
        v => v.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_transaction_says_of_itself_keeps_its_type() {
        let texts = [Value::string("alice")];
        let given =
            r#"{:payload {:to "alice" :n 1} :actor "alice-crm" :tx [[:tx/principal "alice-crm"] [:tx/n 7]]}"#;
        let wanted = r#"{:payload {:to :annals/erased :n 1} :actor "annals/erased"
                         :tx [[:tx/principal "annals/erased"] [:tx/n 7]]}"#;
        let read = |text: &str| crate::event::read_edn(text).unwrap();
        assert_eq!(redacted_command(&read(given), &texts), read(wanted));
    }
}
