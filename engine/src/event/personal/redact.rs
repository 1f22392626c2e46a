//! Texts of an erased subject that stand in the clear in rows beside the facts: states of
//! processes, timers, queued commands, outcomes of commands.
//!
//! 1. Every version of such a row goes, from the log too; what holds now is put back without the
//!    texts, in the transaction that signs. So nothing under way is lost, and no outcome is forgotten.
//! 2. Names stay: of aggregates, instances, timers, senders. They are never personal values.
//! 3. What is sealed is not touched: with the key it can no longer be read.

use crate::event::{
    command::{CommandOutcome, CommandStatus},
    data::Data,
    id::CommandId,
    log::EventLog,
    marks::holds,
    seal,
    table::{self, END, Key},
};
use crate::{DbError, store::Excise};
use annals_model::Value;
use annals_storage::{Record, Row, StorageError};
use hashbrown::HashSet;
use std::{collections::BTreeSet, sync::Arc};
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
}

const TABLES: [(u8, &str); 4] = [
    (table::PROCESS, "process"),
    (table::TIMER, "timer"),
    (table::OUTBOX, "queued"),
    (table::COMMAND, "command"),
];

/// Looks through the log for rows that hold one of the texts.
pub(crate) fn plan(
    records: impl Iterator<Item = Result<Record, StorageError>>,
    log: &EventLog,
    texts: &HashSet<Value>,
) -> Result<Redaction, DbError> {
    let texts: Vec<Arc<str>> = texts.iter().filter_map(text_of).collect();
    let mut found: BTreeSet<(u8, Vec<u8>)> = BTreeSet::new();
    let mut redaction = Redaction::default();
    if texts.is_empty() {
        return Ok(redaction);
    }
    for record in records {
        for row in record?.rows {
            let Some(value) = row.value.filter(|_| TABLES.iter().any(|(n, _)| *n == row.table)) else {
                continue;
            };
            if texts.iter().any(|t| contains(&value, t.as_bytes())) {
                found.insert((row.table, row.key));
            }
        }
    }
    for (table, key) in found {
        let what = TABLES.iter().find(|(n, _)| *n == table).map_or("", |(_, what)| *what);
        redaction.names.push(format!("{what} {}", name(table, &key)));
        if let Some(stored) = log.tables.row(table, Key::new().bytes(&key))? {
            let value = Some(without(table, &key, &stored, &texts)?);
            redaction.rows.push(Row { table, key: key.clone(), value });
        }
        redaction.plan.push(Excise::Row { table, key });
    }
    Ok(redaction)
}

fn text_of(v: &Value) -> Option<Arc<str>> {
    match v {
        Value::String(s) => Some(s.clone()),
        _ => None,
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let Some(first) = text.first() else { return false };
    bytes.windows(text.len()).any(|w| w[0] == *first && w == text)
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
fn without(table: u8, key: &[u8], stored: &[u8], texts: &[Arc<str>]) -> Result<Vec<u8>, DbError> {
    if table == table::COMMAND {
        let id = CommandId(Uuid::from_slice(key).unwrap_or_default());
        let mut outcome = CommandOutcome::decode(id, stored)?;
        if let CommandStatus::Rejected { message, detail, .. } = &mut outcome.status {
            if texts.iter().any(|t| message.contains(&**t)) {
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
fn redacted_command(v: &Value, texts: &[Arc<str>]) -> Value {
    let Value::Map(entries) = v else { return v.clone() };
    Value::map(entries.iter().map(|(k, v)| {
        let field = match k {
            Value::Keyword(k) => k.as_str(),
            _ => "",
        };
        let v = match (field, v) {
            ("payload" | "meta" | "tx", v) => redacted(v, texts),
            ("actor" | "correlation", Value::String(s)) if texts.iter().any(|t| s.contains(&**t)) => {
                Value::string(seal::ERASED)
            }
            (_, v) => v.clone(),
        };
        (k.clone(), v)
    }))
}

/// The value with `:annals/erased` in place of everything that holds one of the texts.
fn redacted(v: &Value, texts: &[Arc<str>]) -> Value {
    let held = |v: &Value| texts.iter().any(|t| holds(v, &Value::String(t.clone())));
    match v {
        Value::Map(entries) if entries.iter().any(|(k, _)| held(k)) => Value::keyword(seal::ERASED),
        Value::Map(entries) => Value::map(entries.iter().map(|(k, v)| (k.clone(), redacted(v, texts)))),
        Value::Vector(items) => Value::vector(items.iter().map(|v| redacted(v, texts))),
        Value::List(items) => Value::List(items.iter().map(|v| redacted(v, texts)).collect()),
        v if held(v) => Value::keyword(seal::ERASED),
        v => v.clone(),
    }
}
