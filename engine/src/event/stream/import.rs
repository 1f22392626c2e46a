//! Imports of event logs: NDJSON, one event a line, in order of time.
//!
//! Fields: `stream`, `type`, `id` (made from stream and `seq` when absent), `time`
//! (RFC 3339) or `time_unix` (seconds), `data`, `meta`, `tags`, `tx`, `seq`.
//!
//! 1. In a database without events, the time of an event becomes the instant of its
//!    transaction, but never earlier than the transaction before. Registering projections
//!    does not move the clock while there are no events, nor do projections that run during
//!    the import; a transaction of a user's does, so transact schema with an instant of its
//!    own, or after the import. In a database with events the time is kept as `occurred-at` only.
//! 2. Neighbouring lines with one `tx` are one transaction; others one each.
//! 3. Events already stored are skipped: importing again adds nothing.

use crate::Connection;
use crate::event::{
    append::{Append, AppendError, Expected, StreamWrite},
    id::{EventId, StreamId, Tag},
    record::NewEvent,
};
use annals_model::Instant;
use serde_json::Value as Json;
use std::{collections::HashMap, io::BufRead};

/// Transactions made durable together.
const GROUP: usize = 2048;

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines read.
    pub lines: u64,
    /// Events stored.
    pub stored: u64,
    /// Events that were there already.
    pub known: u64,
    /// Transactions made.
    pub transactions: u64,
}

/// Why an import stopped. What was made durable before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The source could not be read.
    #[error("line {line}: {error}")]
    Io {
        /// Where.
        line: u64,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line is no event.
    #[error("line {line}: {why}")]
    Line {
        /// Where.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// An append was refused.
    #[error("near line {line}: {error}")]
    Append {
        /// Up to where lines had been read.
        line: u64,
        /// Why.
        error: AppendError,
    },
}

impl ImportError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ImportError::Io { .. } => "import/io",
            ImportError::Line { .. } => "import/bad-line",
            ImportError::Append { error, .. } => error.code(),
        }
    }
}

struct Line {
    stream: StreamId,
    event: NewEvent,
    tx: Option<String>,
}

impl Connection {
    /// Reads an event log of NDJSON lines into the database.
    pub fn import_events(&self, from: impl BufRead) -> Result<Imported, ImportError> {
        let db = self.db();
        let empty = db.events().head().is_ok_and(|p| p.0 == 0);
        let mut clock =
            empty.then(|| db.snapshot().instant_of(db.basis_t()).ok().flatten().unwrap_or_default());
        // Projections that run meanwhile do not move the clock on.
        let _importing = clock.is_some().then(|| self.shared().events().import());
        let mut done = Imported::default();
        let mut group: Vec<Append> = Vec::new();
        let mut open: Option<(String, Vec<Line>)> = None;
        for line in from.lines() {
            let n = done.lines + 1;
            let text = line.map_err(|error| ImportError::Io { line: n, error })?;
            done.lines = n;
            if text.trim().is_empty() {
                continue;
            }
            let line = read(&text).map_err(|why| ImportError::Line { line: n, why })?;
            match (&line.tx, &mut open) {
                (Some(tx), Some((current, lines))) if tx == current => lines.push(line),
                _ => {
                    if let Some((_, lines)) = open.take() {
                        group.extend(append(lines, &mut clock));
                    }
                    match line.tx.clone() {
                        Some(tx) => open = Some((tx, vec![line])),
                        None => group.extend(append(vec![line], &mut clock)),
                    }
                }
            }
            if group.len() >= GROUP {
                self.flush(&mut group, &mut done)?;
            }
        }
        if let Some((_, lines)) = open.take() {
            group.extend(append(lines, &mut clock));
        }
        self.flush(&mut group, &mut done)?;
        Ok(done)
    }

    fn flush(&self, group: &mut Vec<Append>, done: &mut Imported) -> Result<(), ImportError> {
        let appends = std::mem::take(group);
        let sizes: Vec<u64> =
            appends.iter().map(|a| a.writes().iter().map(|w| w.events.len() as u64).sum()).collect();
        let (made, refused) = self.append_all(appends);
        for (a, n) in made.iter().zip(&sizes) {
            if a.replayed {
                done.known += n;
            } else {
                done.stored += n;
                done.transactions += 1;
            }
        }
        match refused {
            None => Ok(()),
            Some(error) => Err(ImportError::Append { line: done.lines, error }),
        }
    }
}

/// One transaction of lines; its instant follows the events' time in a new database.
fn append(lines: Vec<Line>, clock: &mut Option<Instant>) -> Option<Append> {
    let time = lines.iter().filter_map(|l| l.event.occurred_at).max();
    let mut writes: Vec<StreamWrite> = Vec::new();
    let mut at: HashMap<StreamId, usize> = HashMap::new();
    for l in lines {
        let i = *at.entry(l.stream.clone()).or_insert_with(|| {
            writes.push(StreamWrite {
                stream: l.stream.clone(),
                expected: Expected::Any,
                events: Vec::new(),
            });
            writes.len() - 1
        });
        writes[i].events.push(l.event);
    }
    let mut a = writes.into_iter().fold(Append::new(), Append::write);
    if let (Some(last), Some(time)) = (clock.as_mut(), time) {
        *last = time.max(*last);
        a = a.instant_not_before_last(*last);
    }
    Some(a)
}

fn read(text: &str) -> Result<Line, String> {
    let json: Json = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    let string = |key: &str| json.get(key).and_then(Json::as_str);
    let stream = StreamId::new(string("stream").ok_or("no \"stream\"")?).map_err(|e| e.to_string())?;
    let data = json.get("data").cloned().unwrap_or_else(|| Json::Object(serde_json::Map::new()));
    let mut event = NewEvent::new(string("type").ok_or("no \"type\"")?, data).map_err(|e| e.to_string())?;
    event.id = match (string("id"), json.get("seq")) {
        (Some(id), _) => EventId::of_text(id),
        (None, Some(seq)) => EventId::of_text(&format!("{stream}#{seq}")),
        (None, None) => return Err("neither \"id\" nor \"seq\": importing again would store it again".into()),
    };
    event.occurred_at = match (json.get("time"), json.get("time_unix")) {
        (Some(Json::String(s)), _) => {
            Some(Instant::parse(s).ok_or_else(|| format!("\"time\" {s:?} is not a date-time"))?)
        }
        (_, Some(secs)) => {
            let secs = secs.as_i64().ok_or("\"time_unix\" is not a number of seconds")?;
            Some(Instant::from_millis(secs.checked_mul(1000).ok_or("\"time_unix\" is out of range")?))
        }
        _ => None,
    };
    for tag in json.get("tags").and_then(Json::as_array).into_iter().flatten() {
        event.tags.push(Tag::new(tag.as_str().ok_or("a tag is not text")?).map_err(|e| e.to_string())?);
    }
    for (k, v) in json.get("meta").and_then(Json::as_object).into_iter().flatten() {
        match (k.as_str(), v) {
            (_, Json::Null) => {}
            ("correlation", Json::String(s)) => event = event.correlation(s),
            ("causation", Json::String(s)) => event = event.caused_by(EventId::of_text(s).0),
            ("actor", Json::String(s)) => event = event.actor(s),
            _ => event = event.meta(k, crate::event::data::of_json(v)),
        }
    }
    let tx = json.get("tx").filter(|v| !v.is_null()).map(Json::to_string);
    Ok(Line { stream, event, tx })
}
