//! Streams that go on: transactions, live queries, events.
//!
//! 1. Each element comes once and in order. A broken connection is opened again
//!    after the last element that arrived, at most `reconnects` times in a row.
//! 2. `next` blocks; `next_timeout` gives up waiting, not the stream.
//! 3. After an error the stream has ended, and its position is before what it could not read.
//! 4. An event is at most as large as an answer may be.

use super::{
    connection::{Connection, Transaction, query_body},
    decode,
    error::{ClientError, Refusal},
    transport::{Ask, Chunks, Media, Piece},
};
use annals::{
    Input, T, Value,
    event::{Position, Recorded},
};
use serde_json::Value as Json;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A server sends something every 15 s; one that is silent for longer is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// One server-sent event.
#[derive(Debug, PartialEq)]
struct Sent {
    id: Option<u64>,
    name: String,
    data: String,
}

/// What stream to open, after which id.
type Open = Box<dyn Fn(&Connection, Option<u64>) -> Result<Chunks, ClientError> + Send>;

/// A stream of server-sent events that survives broken connections.
struct Feed {
    conn: Connection,
    open: Open,
    chunks: Option<Chunks>,
    text: Vec<u8>,
    /// How much of `text` is known to hold no end of an event.
    searched: usize,
    last: Option<u64>,
    failures: u32,
    /// Not before this is the stream opened again.
    retry_at: Option<Instant>,
    ended: bool,
}

impl Feed {
    fn new(conn: Connection, last: Option<u64>, open: Open) -> Result<Feed, ClientError> {
        let chunks = Some(open(&conn, last)?);
        Ok(Feed {
            conn,
            open,
            chunks,
            text: Vec::new(),
            searched: 0,
            last,
            failures: 0,
            retry_at: None,
            ended: false,
        })
    }

    /// The next event that `read` makes something of; None when `until` passed.
    fn next<X>(
        &mut self,
        until: Option<Instant>,
        mut read: impl FnMut(&Sent) -> Result<Option<X>, ClientError>,
    ) -> Result<Option<X>, ClientError> {
        loop {
            let Some(sent) = self.sent(until)? else { return Ok(None) };
            let read = read(&sent).inspect_err(|_| self.ended = true)?;
            if sent.id.is_some() {
                self.last = sent.id;
            }
            if read.is_some() {
                return Ok(read);
            }
        }
    }

    /// The next event; None when `until` passed.
    fn sent(&mut self, until: Option<Instant>) -> Result<Option<Sent>, ClientError> {
        let mut heard = Instant::now();
        loop {
            let taken = take_event(&mut self.text, &mut self.searched);
            if let Some(sent) = taken.inspect_err(|_| self.ended = true)? {
                self.failures = 0;
                if sent.name == "problem" {
                    self.ended = true;
                    let doc: Json = serde_json::from_str(&sent.data).unwrap_or(Json::Null);
                    let status = doc.get("status").and_then(Json::as_u64).unwrap_or(500);
                    let status = u16::try_from(status).unwrap_or(500);
                    return Err(match Refusal::read(status, &doc) {
                        Some(refusal) => ClientError::Refused(Box::new(refusal)),
                        None => ClientError::answer("the stream ended with something unreadable"),
                    });
                }
                return Ok(Some(sent));
            }
            if self.text.len() > self.conn.max_answer_bytes() {
                self.ended = true;
                return Err(ClientError::answer("an event is larger than an answer may be"));
            }
            let silence = heard + SILENCE;
            let wait = until.map_or(silence, |at| at.min(silence));
            let piece = match &mut self.chunks {
                Some(chunks) => chunks.next(Some(wait)),
                None => Ok(Piece::End),
            };
            match piece {
                Ok(Piece::Bytes(bytes)) => {
                    heard = Instant::now();
                    self.text.extend_from_slice(&bytes);
                }
                Ok(Piece::Late) if until.is_some_and(|at| Instant::now() >= at) => return Ok(None),
                Ok(Piece::Late | Piece::End) => self.again(None, until)?,
                Err(e) => self.again(Some(e), until)?,
            }
            if self.chunks.is_none() && until.is_some_and(|at| Instant::now() >= at) {
                return Ok(None);
            }
        }
    }

    /// Opens the stream again after the last event that was read. When `until` comes first it
    /// waits until then, and the next call goes on where this one stopped.
    fn again(&mut self, why: Option<ClientError>, until: Option<Instant>) -> Result<(), ClientError> {
        self.chunks = None;
        self.text.clear();
        self.searched = 0;
        let mut why = why;
        loop {
            let at = match self.retry_at {
                Some(at) => at,
                None => {
                    self.failures += 1;
                    if self.failures > self.conn.reconnects() {
                        self.ended = true;
                        return Err(why.unwrap_or_else(|| ClientError::Unreachable {
                            server: self.conn.url().to_owned(),
                            why: "the stream ended".into(),
                        }));
                    }
                    // 0, 100, 300, 700 … ms, so that a server that restarts is met again.
                    let pause = Duration::from_millis(50 << self.failures.min(7))
                        .saturating_sub(Duration::from_millis(100));
                    *self.retry_at.insert(Instant::now() + pause)
                }
            };
            let now = Instant::now();
            if let Some(until) = until.filter(|until| *until < at) {
                std::thread::sleep(until.saturating_duration_since(now));
                return Ok(());
            }
            std::thread::sleep(at.saturating_duration_since(now));
            self.retry_at = None;
            match (self.open)(&self.conn, self.last) {
                Ok(chunks) => {
                    self.chunks = Some(chunks);
                    return Ok(());
                }
                Err(e @ (ClientError::Unreachable { .. } | ClientError::TimedOut { .. })) => why = Some(e),
                Err(ClientError::Refused(r)) if r.retryable => why = Some(ClientError::Refused(r)),
                Err(e) => {
                    self.ended = true;
                    return Err(e);
                }
            }
        }
    }
}

/// Takes one whole event off the front of what has arrived. Comments are dropped.
/// Up to `searched` there is no end of one.
fn take_event(text: &mut Vec<u8>, searched: &mut usize) -> Result<Option<Sent>, ClientError> {
    while let Some(end) = text[*searched..].windows(2).position(|w| w == b"\n\n") {
        let end = *searched + end;
        *searched = 0;
        let block: Vec<u8> = text.drain(..end + 2).collect();
        let block = std::str::from_utf8(&block).map_err(|_| ClientError::answer("an event is not UTF-8"))?;
        let mut sent = Sent { id: None, name: String::new(), data: String::new() };
        let mut any = false;
        for line in block.lines() {
            let Some((field, value)) = line.split_once(':') else { continue };
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => sent.id = value.parse().ok(),
                "event" => sent.name = value.to_owned(),
                "data" => {
                    if any {
                        sent.data.push('\n');
                    }
                    sent.data.push_str(value);
                    any = true;
                }
                _ => {}
            }
        }
        if any {
            return Ok(Some(sent));
        }
    }
    *searched = text.len().saturating_sub(1);
    Ok(None)
}

fn json(text: &str) -> Result<Json, ClientError> {
    serde_json::from_str(text).map_err(|e| ClientError::answer(format!("an event is not JSON: {e}")))
}

/// Every transaction after a t. Blocks while there is none.
pub struct Changes {
    feed: Feed,
    waiting: VecDeque<Transaction>,
    /// Given to the caller, or waiting for it.
    last: T,
    /// Known to exist.
    newest: T,
}

/// Transactions read from the log at a time.
const PAGE: u64 = 64;

impl Changes {
    pub(super) fn open(conn: Connection, after: T) -> Result<Changes, ClientError> {
        let open: Open = Box::new(|conn, last| {
            let ask = Ask::get("/changes").param("brief", "true").accept(Media::Events);
            conn.transport().open(ask.header("last-event-id", last.unwrap_or(0).to_string()))
        });
        let feed = Feed::new(conn, Some(after.0), open)?;
        Ok(Changes { feed, waiting: VecDeque::new(), last: after, newest: after })
    }
    /// The transaction given last: where to go on after.
    pub fn position(&self) -> T {
        self.waiting.front().map_or(self.last, |tx| T(tx.t.0.saturating_sub(1)))
    }
    /// The next transaction; None when none came in time.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Transaction>, ClientError> {
        self.until(Instant::now().checked_add(timeout))
    }
    fn until(&mut self, until: Option<Instant>) -> Result<Option<Transaction>, ClientError> {
        loop {
            if let Some(tx) = self.waiting.pop_front() {
                return Ok(Some(tx));
            }
            if self.last < self.newest {
                // The events say that there is something; the log says it exactly.
                let to = T(self.newest.0.min(self.last.0 + PAGE));
                match self.feed.conn.log(self.last.next(), to.next()) {
                    Ok(page) => {
                        (self.waiting, self.last) = (page.into(), to);
                        self.feed.failures = 0;
                    }
                    Err(e @ (ClientError::Unreachable { .. } | ClientError::TimedOut { .. })) => {
                        self.feed.again(Some(e), until)?;
                        if until.is_some_and(|at| Instant::now() >= at) {
                            return Ok(None);
                        }
                    }
                    Err(e) => {
                        self.feed.ended = true;
                        return Err(e);
                    }
                }
                continue;
            }
            let Some(t) = self.feed.next(until, |sent| Ok(sent.id))? else { return Ok(None) };
            self.newest = self.newest.max(T(t));
        }
    }
}

impl Iterator for Changes {
    type Item = Result<Transaction, ClientError>;
    fn next(&mut self) -> Option<Self::Item> {
        match self.feed.ended {
            true => None,
            false => self.until(None).transpose(),
        }
    }
}

/// What happened to the rows of a live query.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The rows as of t. Comes first, unless the query was resumed; again when facts were excised meanwhile.
    Snapshot {
        /// As of when.
        t: T,
        /// Names of the columns.
        columns: Vec<String>,
        /// The rows, in order.
        rows: Vec<Vec<Value>>,
    },
    /// A transaction changed the rows.
    Change {
        /// Which.
        t: T,
        /// Rows that are there now.
        added: Vec<Vec<Value>>,
        /// Rows that are not there any more.
        removed: Vec<Vec<Value>>,
    },
    /// Nothing changed up to this t: where to resume.
    Checkpoint {
        /// Up to and including.
        t: T,
    },
}

impl Update {
    /// The transaction up to which the rows are known now.
    pub fn t(&self) -> T {
        match self {
            Update::Snapshot { t, .. } | Update::Change { t, .. } | Update::Checkpoint { t } => *t,
        }
    }
}

/// A query that goes on answering. Blocks while nothing happens.
pub struct LiveQuery(Feed);

impl LiveQuery {
    pub(super) fn open(
        conn: Connection,
        q: &str,
        inputs: Vec<Input>,
        after: Option<T>,
    ) -> Result<LiveQuery, ClientError> {
        let body = query_body(q, inputs, &[("exact", Value::Bool(true))])?;
        let open: Open = Box::new(move |conn, last| {
            let mut ask = Ask::post("/subscribe", Media::Edn, body.clone()).accept(Media::Events);
            if let Some(last) = last {
                ask = ask.header("last-event-id", last.to_string());
            }
            conn.transport().open(ask)
        });
        Ok(LiveQuery(Feed::new(conn, after.map(|t| t.0), open)?))
    }
    /// The t to resume after.
    pub fn position(&self) -> Option<T> {
        self.0.last.map(T)
    }
    /// The next update; None when none came in time.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Update>, ClientError> {
        self.until(Instant::now().checked_add(timeout))
    }
    fn until(&mut self, until: Option<Instant>) -> Result<Option<Update>, ClientError> {
        self.0.next(until, |sent| {
            let Some(t) = sent.id.map(T) else { return Ok(None) };
            let doc = json(&sent.data)?;
            Ok(Some(match sent.name.as_str() {
                "snapshot" => {
                    let columns = doc.get("columns").and_then(Json::as_array).into_iter().flatten();
                    let columns = columns.filter_map(Json::as_str).map(str::to_owned).collect();
                    Update::Snapshot { t, columns, rows: rows(&doc, "rows")? }
                }
                "change" => {
                    Update::Change { t, added: rows(&doc, "added")?, removed: rows(&doc, "removed")? }
                }
                "checkpoint" => Update::Checkpoint { t },
                _ => return Ok(None),
            }))
        })
    }
}

impl Iterator for LiveQuery {
    type Item = Result<Update, ClientError>;
    fn next(&mut self) -> Option<Self::Item> {
        match self.0.ended {
            true => None,
            false => self.until(None).transpose(),
        }
    }
}

fn rows(doc: &Json, name: &str) -> Result<Vec<Vec<Value>>, ClientError> {
    let missing = || ClientError::answer(format!("an update has no proper {name}"));
    let list = doc.get(name).and_then(Json::as_array).ok_or_else(missing)?;
    let row = |row: &Json| {
        let values = row.as_array().ok_or_else(missing)?;
        values.iter().map(|v| crate::wire::value::read(v).map_err(|_| missing())).collect()
    };
    list.iter().map(row).collect()
}

/// Every event after a position. Blocks while there is none.
pub struct EventFeed(Feed);

impl EventFeed {
    pub(super) fn open(conn: Connection, after: Position) -> Result<EventFeed, ClientError> {
        let open: Open = Box::new(|conn, last| {
            let ask = Ask::get("/all").accept(Media::Events);
            conn.transport().open(ask.header("last-event-id", last.unwrap_or(0).to_string()))
        });
        Ok(EventFeed(Feed::new(conn, Some(after.0), open)?))
    }
    /// The position to resume after.
    pub fn position(&self) -> Position {
        Position(self.0.last.unwrap_or(0))
    }
    /// The next event; None when none came in time.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Recorded>, ClientError> {
        self.until(Instant::now().checked_add(timeout))
    }
    fn until(&mut self, until: Option<Instant>) -> Result<Option<Recorded>, ClientError> {
        self.0.next(until, |sent| {
            // `caught-up` and `checkpoint` carry no event.
            let doc = json(&sent.data)?;
            match doc.get("specversion") {
                Some(_) => decode::event(&doc).map(Some),
                None => Ok(None),
            }
        })
    }
}

impl Iterator for EventFeed {
    type Item = Result<Recorded, ClientError>;
    fn next(&mut self) -> Option<Self::Item> {
        match self.0.ended {
            true => None,
            false => self.until(None).transpose(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole_and_comments_dropped() {
        let mut text = b": hello\n\nid: 4\nevent: change\ndata: {\"a\":\ndata: 1}\n\nid: 5\nev".to_vec();
        let mut searched = 0;
        let sent = take_event(&mut text, &mut searched).unwrap().unwrap();
        assert_eq!(sent, Sent { id: Some(4), name: "change".into(), data: "{\"a\":\n1}".into() });
        assert_eq!(take_event(&mut text, &mut searched).unwrap(), None);
        assert_eq!(text, b"id: 5\nev");
        // What was searched is not searched again, and an end across two pieces is found.
        assert_eq!(searched, text.len() - 1);
        text.extend_from_slice(b"ent: x\ndata: 2\n");
        assert_eq!(take_event(&mut text, &mut searched).unwrap(), None);
        text.push(b'\n');
        assert_eq!(take_event(&mut text, &mut searched).unwrap().unwrap().data, "2");
    }
}
