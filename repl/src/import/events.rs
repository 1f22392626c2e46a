//! Events into streams: NDJSON, CloudEvents, XES, and what other importers make.
//!
//! 1. Events of one `tx` that follow each other are one transaction; else every
//!    event is its own.
//! 2. In a database whose last transaction is not later, the event's time becomes the
//!    transaction's instant: as-of by date then means the date of the events. Else the
//!    time is kept as the event's `:event/occurred-at` alone.
//! 3. An event that is stored already is not stored again.

use super::{rejects::Rejects, source::Source};
use crate::{
    backend::Group,
    commands::projections,
    fail::{Failure, Outcome},
    output::{
        json,
        table::{counted, thousands},
    },
    progress::Progress,
    session::{Session, read_text},
};
use annals::{
    Instant, Value,
    event::{EventId, NewEvent, ProjectionError, ProjectionSpec, StreamId, Tag},
};
use serde_json::{Map, Value as Json};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// An event on its way in.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its stream.
    pub stream: String,
    /// What it says.
    pub event: NewEvent,
    /// When it happened.
    pub time: Option<Instant>,
    /// Events of the same group are one transaction.
    pub group: Option<String>,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Events stored.
    pub appended: u64,
    /// Events that were there.
    pub known: u64,
    /// Transactions made.
    pub transactions: u64,
}

/// `import events`, `import cloudevents`.
pub fn run(s: &mut Session, file: &str, projections: &[PathBuf], rejects: Option<&Path>) -> Outcome {
    let texts = read_projections(projections)?;
    let mut rejects = Rejects::open(rejects)?;
    let done = load(s, &mut Source::open(file)?, &mut rejects)?;
    let rejected = rejects.finish()?;
    install(s, &texts)?;
    report(s, done);
    report_rejected(s, rejected, "line");
    Ok(())
}

/// Says how many lines, events or changes were set aside, if any were.
pub fn report_rejected(s: &Session, n: u64, what: &str) {
    if n > 0 {
        s.note(format!("{} rejected", counted(n, what)));
    }
}

/// A name that a stream may have: what an append would refuse is refused with its line.
pub fn stream_name(name: String) -> Result<String, String> {
    match StreamId::new(&name) {
        Ok(_) => Ok(name),
        Err(e) => Err(e.to_string()),
    }
}

/// The texts of projections, by file: a mistake in one shows before anything is imported.
pub fn read_projections(files: &[PathBuf]) -> Outcome<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for f in files {
        let name = f.display().to_string();
        let text = read_text(&name)?;
        ProjectionSpec::edn(&text)
            .map_err(|d| Failure::from(ProjectionError::Malformed(d)).of(&name, &text))?;
        texts.push((name, text));
    }
    Ok(texts)
}

/// Installs projections after an import, so that the times of the events could become
/// instants of transactions: installing is a transaction of the present. What they say is
/// filed under the events it comes from, as if they had been there first.
pub fn install(s: &Session, texts: &[(String, String)]) -> Outcome {
    for (name, text) in texts {
        projections::install(s, text, name)?;
    }
    Ok(())
}

/// Says what was done.
pub fn report(s: &Session, d: Done) {
    let known = if d.known > 0 { format!(", {} already there", thousands(d.known)) } else { String::new() };
    s.note(format!("{} in {}{known}", counted(d.appended, "event"), counted(d.transactions, "transaction")));
}

/// Reads events, one JSON object a line, or one JSON array of them, into streams. Lines that are
/// no events are set aside, or end it.
pub fn load(s: &Session, source: &mut Source, rejects: &mut Rejects) -> Outcome<Done> {
    let mut sink = Sink::new(s, source.size);
    let mut first = true;
    let mut seen: HashMap<EventId, u64> = HashMap::new();
    while let Some(line) = source.next_line()? {
        // A CloudEvents batch is one array, over as many lines as it likes.
        if first && line.trim_start().starts_with('[') {
            let text = line + "\n" + &source.text()?;
            let all: Vec<Json> =
                serde_json::from_str(&text).map_err(|e| source.wrong(&format!("not a JSON array: {e}")))?;
            for j in all {
                match incoming(&j, None) {
                    Ok(event) => sink.push(event, source.position(), source)?,
                    Err(why) if rejects.are_kept() => {
                        rejects.put(&source.name, source.line_number() as u64, &why, &j.to_string())?;
                    }
                    Err(why) => return Err(source.wrong(&why)),
                }
            }
            break;
        }
        first = false;
        match of_line(&line, &mut seen) {
            Ok(event) => sink.push(event, source.position(), source)?,
            Err(why) if rejects.are_kept() => {
                rejects.put(&source.name, source.line_number() as u64, &why, &line)?;
            }
            Err(why) => {
                let help = "what was read before stays: mend the line and import again, or set it aside with --rejects FILE";
                return Err(source.wrong(&why).help(help));
            }
        }
    }
    sink.finish(source)
}

/// The event of a line.
fn of_line(line: &str, seen: &mut HashMap<EventId, u64>) -> Result<Incoming, String> {
    let j: Json =
        serde_json::from_str(line).map_err(|e| format!("column {}: {}", e.column(), json_words(&e)))?;
    let mut event = incoming(&j, None)?;
    if j.get("id").is_none_or(Json::is_null) {
        event.event.id = id_of_line(line, seen);
    }
    Ok(event)
}

/// The id of an event without one: made from its line, so that importing the line again
/// adds nothing, while the same line twice in one file is two events.
fn id_of_line(line: &str, seen: &mut HashMap<EventId, u64>) -> EventId {
    let of_line = EventId::of_text(&format!("line:{}", line.trim()));
    let n = seen.entry(of_line).or_default();
    *n += 1;
    if *n == 1 { of_line } else { EventId::derived(of_line.0, "again", *n) }
}

fn json_words(e: &serde_json::Error) -> String {
    let text = e.to_string();
    text.find(" at line").map_or(text.clone(), |i| text[..i].to_owned())
}

/// One JSON object as an event; `stream` is for objects that do not name theirs.
pub fn incoming(j: &Json, stream: Option<&str>) -> Result<Incoming, String> {
    let Json::Object(o) = j else { return Err("an event is a JSON object".into()) };
    if o.contains_key("specversion") {
        return cloud_event(o);
    }
    let text = |k: &str| -> Result<Option<&str>, String> {
        match o.get(k) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(s)) => Ok(Some(s)),
            Some(other) => Err(format!("\"{k}\" is text, not {other}")),
        }
    };
    let stream = text("stream")?.or(stream).ok_or("the event has no \"stream\"")?;
    let stream = stream_name(stream.to_owned())?;
    let ty = text("type")?.ok_or("the event has no \"type\"")?;
    let data = o.get("data").cloned().unwrap_or_else(|| Json::Object(Map::new()));
    let mut e = NewEvent::new(ty, data).map_err(|e| e.to_string())?;
    if let Some(id) = text("id")? {
        e = e.id(EventId::of_text(id));
    }
    let time = match (text("time")?, o.get("time_unix").and_then(Json::as_i64)) {
        (Some(t), _) => {
            Some(Instant::parse(t).ok_or_else(|| format!("\"time\" is no RFC 3339 date-time: {t}"))?)
        }
        (None, Some(seconds)) => seconds.checked_mul(1_000_000).map(Instant),
        (None, None) => None,
    };
    if let Some(n) = o.get("schema").and_then(Json::as_u64) {
        e = e.schema(u32::try_from(n).map_err(|_| "\"schema\" is too large".to_owned())?);
    }
    match o.get("tags") {
        None | Some(Json::Null) => {}
        Some(Json::Array(tags)) => {
            for t in tags {
                let t = t.as_str().ok_or_else(|| format!("a tag is text, not {t}"))?;
                e = e.tag(Tag::new(t).map_err(|e| e.to_string())?);
            }
        }
        Some(other) => return Err(format!("\"tags\" is an array, not {other}")),
    }
    match o.get("meta") {
        None | Some(Json::Null) => {}
        Some(Json::Object(meta)) => e = with_meta(e, meta)?,
        Some(other) => return Err(format!("\"meta\" is an object, not {other}")),
    }
    if let Some(t) = time {
        e = e.occurred_at(t);
    }
    let group =
        o.get("tx").filter(|v| !v.is_null()).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    Ok(Incoming { stream, event: e, time, group })
}

fn with_meta(mut e: NewEvent, meta: &Map<String, Json>) -> Result<NewEvent, String> {
    for (k, v) in meta {
        match (k.as_str(), v) {
            (_, Json::Null) => {}
            ("correlation", Json::String(t)) => e = e.correlation(t),
            ("actor", Json::String(t)) => e = e.actor(t),
            ("causation", Json::String(t)) => e = e.caused_by(EventId::of_text(t).0),
            (k, v) => {
                let v = json::to_value(v);
                e.meta.more.insert(Arc::from(k), v);
            }
        }
    }
    Ok(e)
}

/// A CloudEvent in structured mode: `subject` is the stream, `id` with `source` the identity.
fn cloud_event(o: &Map<String, Json>) -> Result<Incoming, String> {
    let text = |k: &str| o.get(k).and_then(Json::as_str);
    let id = text("id").ok_or("a CloudEvent has an \"id\"")?;
    let source = text("source").ok_or("a CloudEvent has a \"source\"")?;
    let ty = text("type").ok_or("a CloudEvent has a \"type\"")?;
    let stream = stream_name(text("subject").unwrap_or(source).to_owned())?;
    let data = match (o.get("data"), text("data_base64")) {
        (Some(d), _) => d.clone(),
        (None, Some(b)) => Json::Object(Map::from_iter([("base64".to_owned(), Json::String(b.to_owned()))])),
        (None, None) => Json::Object(Map::new()),
    };
    let mut e = NewEvent::new(ty, data)
        .map_err(|e| e.to_string())?
        .id(EventId::of_text(&format!("{source}\u{0}{id}")));
    let time = match text("time") {
        Some(t) => Some(Instant::parse(t).ok_or_else(|| format!("\"time\" is no RFC 3339 date-time: {t}"))?),
        None => None,
    };
    if let Some(t) = time {
        e = e.occurred_at(t);
    }
    let core =
        ["specversion", "id", "source", "type", "subject", "time", "data", "data_base64", "datacontenttype"];
    e = e.meta("source", source);
    for (k, v) in o.iter().filter(|(k, _)| !core.contains(&k.as_str())) {
        match (k.as_str(), v.as_str()) {
            ("correlationid", Some(t)) => e = e.correlation(t),
            ("causationid", Some(t)) => e = e.caused_by(EventId::of_text(t).0),
            _ => e = e.meta(k, json::to_value(v)),
        }
    }
    Ok(Incoming { stream, event: e, time, group: None })
}

/// Appends made durable together.
const TOGETHER: usize = 1_024;

/// Appends what is pushed, group by group.
pub struct Sink<'s> {
    s: &'s Session,
    group: Vec<Incoming>,
    /// Appends ready to be made durable together, and their numbers of events.
    pending: Vec<(Group, u64)>,
    progress: Progress,
    done: Done,
    /// Instant of the newest transaction: times before it cannot become instants.
    last: Instant,
}

impl<'s> Sink<'s> {
    /// Appends to the session's database; `total` is what positions are compared with.
    pub fn new(s: &'s Session, total: Option<u64>) -> Sink<'s> {
        let last = s.conn.db().ok().and_then(|db| db.instant_of(db.t())).unwrap_or_default();
        Sink {
            s,
            group: Vec::new(),
            pending: Vec::new(),
            progress: Progress::new(s, "events", total),
            done: Done::default(),
            last,
        }
    }

    /// Takes an event.
    pub fn push(&mut self, e: Incoming, at: u64, source: &Source) -> Outcome {
        if self.group.first().is_some_and(|g| g.group.is_none() || g.group != e.group) {
            self.close_group();
            if self.pending.len() >= TOGETHER {
                self.flush().map_err(|f| in_line(f, source))?;
            }
        }
        self.group.push(e);
        self.progress.add(1, at);
        Ok(())
    }

    /// Appends what is left, and says what was done.
    pub fn finish(mut self, source: &Source) -> Outcome<Done> {
        self.close_group();
        self.flush().map_err(|f| in_line(f, source))?;
        self.progress.done();
        Ok(self.done)
    }

    /// The events of the group become one append.
    fn close_group(&mut self) {
        let group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return;
        }
        let n = group.len() as u64;
        let time = group.iter().filter_map(|e| e.time).max();
        let mut out = Group::default();
        for e in group {
            match out.streams.iter_mut().find(|(s, _)| *s == e.stream) {
                Some((_, list)) => list.push(e.event),
                None => out.streams.push((e.stream, vec![e.event])),
            }
        }
        if let Some(t) = time.filter(|t| *t >= self.last && *t <= crate::moment::now()) {
            out.instant = Some(t);
            self.last = t;
        }
        self.pending.push((out, n));
    }

    /// Makes what is pending durable, with one sync.
    fn flush(&mut self) -> Outcome {
        let (appends, counts): (Vec<Group>, Vec<u64>) = std::mem::take(&mut self.pending).into_iter().unzip();
        let (done, refused) = self.s.conn.append_all(appends);
        for (replayed, n) in done.iter().zip(counts) {
            if *replayed {
                self.done.known += n;
            } else {
                self.done.appended += n;
                self.done.transactions += 1;
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

fn in_line(mut f: Failure, source: &Source) -> Failure {
    if let Some(d) = f.diagnostics.first_mut() {
        d.message = format!("{}:{}: {}", source.name, source.line_number(), d.message);
    }
    f
}

/// Metadata of an event as EDN.
pub fn meta_value(e: &NewEvent) -> Value {
    let m = &e.meta;
    let mut entries: Vec<(Value, Value)> =
        m.more.iter().map(|(k, v)| (Value::string(&**k), v.clone())).collect();
    if let Some(c) = &m.correlation {
        entries.push((Value::string("correlation"), Value::string(&**c)));
    }
    if let Some(c) = &m.causation {
        entries.push((Value::string("causation"), Value::Uuid(*c)));
    }
    if let Some(a) = &m.actor {
        entries.push((Value::string("actor"), Value::string(&**a)));
    }
    Value::map(entries)
}
