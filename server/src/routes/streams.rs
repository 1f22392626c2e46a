//! Streams of events: `/streams`, `/streams/{id}`, `/streams/{id}/events`,
//! `/append`, `/all`, `/events/{id}`.
//!
//! 1. A precondition that stood in a header fails with 412, one in the body with 409.
//! 2. `ETag` of a stream is its version, `"v5"`; a full page of events never changes.
//! 3. As server-sent events the id is the position; history and what comes after it
//!    are one stream without a seam, since both are read from the log.

use crate::{
    answer::{self, Answer, none_match},
    call::Call,
    extract::{Format, Params, bad},
    failure::OrProblem,
    routes::transact::{json, provenance, reserved},
    sse::{self, Gone, Sink},
    state::{Database, Server},
    token::Scope,
    wire::{
        event::{cloud, events, expected, item_of, items, stream_id},
        problem::{Class, Problem},
        tree::{Doc, Tree},
        tx, value,
    },
};
use annals::{
    Db, IntoTx as _, T, TxData, Value,
    event::{
        Append, AppendError, Appended, EventId, EventLog, Expected, Guard, GuardQuery, Item, Position,
        Recorded, StreamError, StreamId, StreamWrite, Tracking, Version,
    },
};
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde_json::Value as Json;
use std::sync::Arc;

/// Events in one page, at most.
const PAGE: u64 = 1_000;
/// Events read for a server-sent stream at a time.
const BATCH: usize = 200;

fn log_of(db: &Db) -> EventLog {
    db.events()
}

fn source(database: &Database) -> String {
    format!("/v1/db/{}", database.name)
}

fn stream_problem(e: &StreamError) -> Problem {
    match e {
        StreamError::Missing(_) => Problem::new(Class::NotFound, e.code(), e.to_string()),
        StreamError::Tombstoned(_) => Problem::new(Class::Gone, e.code(), e.to_string()),
        StreamError::Db(e) => crate::failure::Failure::problem(e),
        other => Problem::new(Class::Internal, other.code(), "the stream cannot be read"),
    }
}

/// An append's refusal; `header` tells whether the precondition stood in a header.
pub fn append_problem(e: &AppendError, header: bool) -> Problem {
    let mut p = crate::failure::problem(e.class(), e.code(), e.diagnostics());
    match e {
        AppendError::WrongVersion { actual, .. } => {
            if header {
                p.class = Class::Precondition;
            }
            p = p.with("actual_version", actual.0);
        }
        AppendError::ConditionFailed { which, witness, t } => {
            let positions: Vec<u64> = witness.iter().map(|w| w.0).collect();
            p = p.with("failed", *which).with("witness", positions).with("t", t.0);
        }
        AppendError::Tombstoned(_) => p.class = Class::Gone,
        _ => {}
    }
    p
}

/// `POST …/streams/{id}/events`
pub async fn append_to(mut call: Call) -> Answer {
    let database = call.database(Scope::Write)?;
    call.params = std::mem::take(&mut call.params).only(&[])?;
    let stream = stream_id(call.part("id"))?;
    let (expected, in_header) = precondition(&call.headers)?;
    let max = call.limits().transact_body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    let (who, id) = (call.who.name.clone(), call.id.0.clone());
    let location = format!("{}/streams/{}", source(&database), encode(stream.as_str()));
    let appended = call
        .server
        .writers
        .run(move |_| {
            let events = events(&body_json(sent, &body)?)?;
            if events.is_empty() {
                return Err(Problem::new(Class::Syntax, "event/none", "there is no event to append"));
            }
            let append = Append::default()
                .write(StreamWrite { stream, expected, events })
                .facts(TxData { forms: vec![provenance(&who, &id, None, &[0; 32])], text: None });
            database.conn.append(append).map_err(|e| append_problem(&e, in_header))
        })
        .await?;
    Ok(appended_response(format, &appended, Some(&location)))
}

/// `POST …/append`: several streams, conditions and facts in one transaction.
pub async fn append(mut call: Call) -> Answer {
    let database = call.database(Scope::Write)?;
    call.params = std::mem::take(&mut call.params).only(&[])?;
    let max = call.limits().transact_body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    let (who, id) = (call.who.name.clone(), call.id.0.clone());
    let may_change_schema = call.who.has(Scope::Schema);
    let appended = call
        .server
        .writers
        .run(move |_| {
            let db = database.conn.db();
            let Json::Object(members) = body_json(sent, &body)? else {
                return Err(member("body", "is an object with writes"));
            };
            if !members.contains_key("writes") {
                return Err(member("writes", "is missing"));
            }
            let mut append = Append::default();
            let mut facts = TxData { forms: Vec::new(), text: None };
            for (name, v) in &members {
                match name.as_str() {
                    "writes" => {
                        for w in v.as_array().ok_or_else(|| member("writes", "is an array"))? {
                            let stream = stream_id(
                                w["stream"].as_str().ok_or_else(|| member("stream", "is missing"))?,
                            )?;
                            let events =
                                events(w.get("events").ok_or_else(|| member("events", "is missing"))?)?;
                            append = append.write(StreamWrite {
                                stream,
                                expected: expected(w.get("expected"))?,
                                events,
                            });
                        }
                    }
                    "conditions" => {
                        for c in v.as_array().ok_or_else(|| member("conditions", "is an array"))? {
                            let (guard, after) = condition(c, db.t())?;
                            append = append.condition(guard, after);
                        }
                    }
                    "facts" => {
                        facts = match v {
                            Json::String(text) => text.as_str().into_tx().or_problem()?,
                            v => TxData { forms: tx::forms(v, db.schema())?, text: None },
                        };
                        reserved(&facts, &db, may_change_schema)?;
                    }
                    "tracking" => {
                        let from = v["source"].as_str().ok_or_else(|| member("tracking", "has no source"))?;
                        let number =
                            v["number"].as_u64().ok_or_else(|| member("tracking", "has no number"))?;
                        let gapless = v["gapless"].as_bool().unwrap_or(false);
                        append = append.tracking(Tracking { source: stream_id(from)?, number, gapless });
                    }
                    other => {
                        return Err(member(
                            other,
                            "means nothing here; known: writes, conditions, facts, tracking",
                        ));
                    }
                }
            }
            facts.forms.push(provenance(&who, &id, None, &[0; 32]));
            database.conn.append(append.facts(facts)).map_err(|e| append_problem(&e, false))
        })
        .await?;
    Ok(appended_response(format, &appended, None))
}

/// `{none_match: {items}, after}`, `{unchanged: q, after}`, `{holds: q}`.
fn condition(c: &Json, now: T) -> Result<(Guard, T), Problem> {
    let after = match c.get("after") {
        None => now,
        Some(v) => T(v.as_u64().ok_or_else(|| member("after", "is a t"))?),
    };
    let query = |v: &Json| -> Result<GuardQuery, Problem> {
        let (text, args) = match v {
            Json::String(text) => (text.as_str(), &Json::Null),
            v => (v["query"].as_str().ok_or_else(|| member("query", "is missing"))?, &v["args"]),
        };
        let args = args.as_array().map_or(Ok(Vec::new()), |a| a.iter().map(value::read).collect())?;
        Ok(GuardQuery::new(text, args))
    };
    let guard = match (c.get("none_match"), c.get("unchanged"), c.get("holds")) {
        (Some(m), None, None) => Guard::NoneMatch(items(m.get("items").or(Some(m)))?),
        (None, Some(q), None) => Guard::Unchanged(query(q)?),
        (None, None, Some(q)) => Guard::Holds(query(q)?),
        _ => return Err(member("conditions", "has one of none_match, unchanged, holds each")),
    };
    Ok((guard, after))
}

pub(super) fn appended_response(format: Format, a: &Appended, location: Option<&str>) -> Response {
    let versions: Vec<(String, Value)> = a
        .versions
        .iter()
        .map(|(s, v)| (s.to_string(), Value::Long(i64::try_from(v.0).unwrap_or(i64::MAX))))
        .collect();
    let mut doc =
        Doc::new().with("basis-t", a.t).with("t", a.t).with("first", a.first.0).with("last", a.last.0);
    if let Some((_, v)) = a.versions.first() {
        doc = doc.with("version", v.0);
    }
    doc = doc.with("versions", Tree::Table(versions)).with("replayed", a.replayed);
    let status = if a.replayed { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = answer::tree(status, format, a.t, doc);
    if let Some(location) = location {
        answer::set(&mut response, header::LOCATION, location);
        if let Some((_, v)) = a.versions.first() {
            answer::set(&mut response, header::ETAG, &format!("\"v{}\"", v.0));
        }
    }
    response
}

/// What the headers expect of the stream, and whether they expect anything.
fn precondition(headers: &HeaderMap) -> Result<(Expected, bool), Problem> {
    let text = |name| headers.get(name).map(|v: &axum::http::HeaderValue| v.to_str().unwrap_or("?").trim());
    let malformed = || {
        Problem::new(Class::Syntax, "request/precondition", "If-Match is \"v3\" or *, If-None-Match is *")
            .hint("the tag is the one the stream's ETag gave")
    };
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok((Expected::Any, false)),
        (None, Some("*")) => Ok((Expected::NoStream, true)),
        (Some("*"), None) => Ok((Expected::Exists, true)),
        (Some(tag), None) => {
            let n = tag.strip_prefix("\"v").and_then(|t| t.strip_suffix('"')).and_then(|n| n.parse().ok());
            Ok((Expected::Exact(Version(n.ok_or_else(malformed)?)), true))
        }
        _ => Err(malformed()),
    }
}

/// `GET …/streams`: every stream with its version.
pub async fn list(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["as_of"])?;
    let format = call.accept_tree(None)?;
    let (t, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = crate::ask::view(database.conn.db(), &params)?;
            let q = "[:find ?s (max ?v) :where [?e :event/stream ?s] [?e :event/version ?v]]";
            let rows = db.query(q, ()).or_problem()?.rows;
            let streams: Tree = rows
                .iter()
                .map(|mut row| {
                    let version = row.pop().unwrap_or(Value::Nil);
                    Doc::new().with("stream", row.pop().unwrap_or(Value::Nil)).with("version", version)
                })
                .collect();
            Ok((db.t(), Doc::new().with("basis-t", db.t()).with("streams", streams)))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// `GET …/streams/{id}`: a page, or the stream as it grows.
pub async fn stream(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let stream = stream_id(call.part("id"))?;
    let last = sse::last_event_id(&call)?;
    let format = call.accept(&[Format::Json, Format::Edn, Format::Sse], None)?;
    if format == Format::Sse {
        return follow_from(&call, database, last.unwrap_or(0), Vec::new(), Some(stream));
    }
    let params = std::mem::take(&mut call.params).only(&["from", "limit", "as_of"])?;
    let from = params.number("from")?.unwrap_or(1).max(1);
    let limit = params.number("limit")?.unwrap_or(100).clamp(1, PAGE);
    let (t, doc, version, full) = call
        .server
        .readers
        .run(move |_| {
            let db = crate::ask::view(database.conn.db(), &params)?;
            let log = log_of(&db);
            let page = log
                .stream(&stream, Version(from), usize::try_from(limit).unwrap_or(usize::MAX))
                .map_err(|e| stream_problem(&e))?;
            let version = log.version(&stream).or_problem()?;
            let last = page.last().map_or(from.saturating_sub(1), |e| e.version.0);
            let full = page.len() as u64 >= limit;
            let events = clouds(&page, &database)?;
            let doc = Doc::new()
                .with("basis-t", db.t())
                .with("stream", stream.as_str())
                .with("version", version.0)
                .with("events", events)
                .maybe("next", (last < version.0).then_some(last + 1));
            Ok((db.t(), doc, version, full))
        })
        .await?;
    let tag = if full { format!("\"v{from}+{limit}\"") } else { format!("\"v{}\"", version.0) };
    if none_match(&call.headers, &tag) {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        answer::set(&mut response, header::ETAG, &tag);
        return Ok(response);
    }
    let mut response = answer::tree(StatusCode::OK, format, t, doc);
    if full {
        answer::immutable(&mut response, &tag);
    } else {
        answer::set(&mut response, header::ETAG, &tag);
        answer::set(&mut response, header::CACHE_CONTROL, "no-cache");
    }
    Ok(response)
}

/// `GET …/all?after=&types=&tags=`: events over all streams.
pub async fn all(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let last = sse::last_event_id(&call)?;
    let params = std::mem::take(&mut call.params).only(&["after", "limit", "types", "tags", "as_of"])?;
    let filter = filter(&params)?;
    let format = call.accept(&[Format::Json, Format::Edn, Format::Sse], None)?;
    if format == Format::Sse {
        return follow_from(&call, database, last.unwrap_or(0), filter, None);
    }
    let after = params.number("after")?.unwrap_or(0);
    let limit = params.number("limit")?.unwrap_or(100).clamp(1, PAGE);
    let (t, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = crate::ask::view(database.conn.db(), &params)?;
            let (page, _) = log_of(&db)
                .all(&filter, Position(after), usize::try_from(limit).unwrap_or(usize::MAX))
                .or_problem()?;
            let head = log_of(&db).head().or_problem()?;
            Ok((
                db.t(),
                Doc::new()
                    .with("basis-t", db.t())
                    .with("events", clouds(&page, &database)?)
                    .with("head", head.0),
            ))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// `GET …/events/{id}`
pub async fn event(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    call.params = std::mem::take(&mut call.params).only(&[])?;
    let format = call.accept_tree(None)?;
    let id = EventId::of_text(call.part("id"));
    let (t, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = database.conn.db();
            let found = log_of(&db).event(id).or_problem()?;
            if found.is_empty() {
                return Err(Problem::new(
                    Class::NotFound,
                    "event/no-event",
                    "there is no event with this id",
                ));
            }
            let head = log_of(&db).head().or_problem()?;
            Ok((
                db.t(),
                Doc::new()
                    .with("basis-t", db.t())
                    .with("events", clouds(&found, &database)?)
                    .with("head", head.0),
            ))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

fn filter(params: &Params) -> Result<Vec<Item>, Problem> {
    let list = |name: &str| {
        params
            .get(name)
            .map(|v| v.split(',').filter(|s| !s.is_empty()).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let (types, tags) = (list("types"), list("tags"));
    if types.is_empty() && tags.is_empty() { Ok(Vec::new()) } else { Ok(vec![item_of(&types, &tags)?]) }
}

fn clouds(events: &[Recorded], database: &Database) -> Result<Tree, Problem> {
    let source = source(database);
    let list: Vec<Tree> =
        events.iter().map(|e| cloud(e, &source).map(Tree::Json)).collect::<Result<_, _>>()?;
    Ok(Tree::List(list))
}

fn follow_from(
    call: &Call,
    database: Arc<Database>,
    after: u64,
    filter: Vec<Item>,
    only: Option<StreamId>,
) -> Answer {
    let db = database.conn.db();
    let head = log_of(&db).head().or_problem()?;
    if after > head.0 {
        return Err(bad("after", "is a position this database has not reached").with("head", head.0).into());
    }
    if let Some(stream) = &only {
        // A stream that is not there, or is closed, is told before the answer begins.
        log_of(&db).stream(stream, Version(1), 1).map_err(|e| stream_problem(&e))?;
    }
    let server = call.server.clone();
    Ok(sse::stream(call, db.t(), move |sink| follow(server, database, sink, Position(after), filter, only))?)
}

async fn follow(
    server: Arc<Server>,
    database: Arc<Database>,
    sink: Sink,
    after: Position,
    filter: Vec<Item>,
    only: Option<StreamId>,
) -> Result<(), Gone> {
    let mut basis = database.basis.clone();
    let (mut at, mut told, mut caught_up) = (after, after, false);
    loop {
        let seen = *basis.borrow_and_update();
        // Everything up to `seen`, batch by batch.
        loop {
            let (of, filter, only, from) = (database.clone(), filter.clone(), only.clone(), at);
            let read = move |_| {
                let db = of.conn.db();
                let log = log_of(&db);
                let (page, covered) = match &only {
                    None => log.all(&filter, from, BATCH).or_problem()?,
                    Some(stream) => {
                        let head = log.head().or_problem()?;
                        (after_position(&log, stream, from)?, head)
                    }
                };
                let source = source(&of);
                let events: Vec<(u64, String, String)> = page
                    .iter()
                    .map(|e| Ok((e.position.0, e.ty().to_owned(), cloud(e, &source)?.to_string())))
                    .collect::<Result<_, Problem>>()?;
                Ok((events, covered))
            };
            let (events, covered) = match sink.idle(server.readers.run(read)).await? {
                Ok(read) => read,
                Err(problem) => return sink.fail(&problem).await,
            };
            let more = events.len() >= BATCH;
            for (position, ty, data) in events {
                sink.event(Some(position), &ty, &data).await?;
                told = Position(position);
            }
            at = if more { told } else { covered.max(told) };
            if !more {
                break;
            }
        }
        if !caught_up {
            caught_up = true;
            sink.event(None, "caught-up", &format!("{{\"position\":{}}}", at.0)).await?;
        }
        if told < at {
            // Nothing matched up to here: resuming need not look again.
            sink.event(Some(at.0), "checkpoint", &format!("{{\"position\":{}}}", at.0)).await?;
            told = at;
        }
        sink.idle(sse::beyond(&mut basis, seen)).await?.ok_or(Gone)?;
    }
}

/// The events of a stream after a position over all streams.
fn after_position(log: &EventLog, stream: &StreamId, after: Position) -> Result<Vec<Recorded>, Problem> {
    let mut from = Version(1);
    if after > Position::ZERO {
        // Versions and positions rise together: find the first version past the position.
        let (mut low, mut high) = (1, log.version(stream).or_problem()?.0 + 1);
        while low < high {
            let mid = low + (high - low) / 2;
            let page = log.stream(stream, Version(mid), 1).map_err(|e| stream_problem(&e))?;
            match page.first() {
                Some(e) if e.position <= after => low = e.version.0 + 1,
                Some(_) | None => high = mid,
            }
        }
        from = Version(low);
    }
    log.stream(stream, from, BATCH).map_err(|e| stream_problem(&e))
}

pub(super) fn body_json(sent: Format, body: &Bytes) -> Result<Json, Problem> {
    match sent {
        Format::Edn => {
            let v = annals::edn::read_value(crate::extract::utf8(body)?)
                .map_err(|e| crate::ask::syntax(e, "body"))?;
            Ok(bare(value::to_json(&crate::wire::event::exact_data(&v))))
        }
        Format::Ndjson => {
            let lines = crate::extract::utf8(body)?.lines().filter(|l| !l.trim().is_empty());
            lines
                .map(|l| json(&Bytes::copy_from_slice(l.as_bytes())))
                .collect::<Result<Vec<_>, _>>()
                .map(Json::Array)
        }
        _ => json(body),
    }
}

/// EDN's keyword keys without their colons.
fn bare(json: Json) -> Json {
    match json {
        Json::Array(items) => items.into_iter().map(bare).collect(),
        Json::Object(members) => Json::Object(
            members
                .into_iter()
                .map(|(k, v)| (k.strip_prefix(':').unwrap_or(&k).to_owned(), bare(v)))
                .collect(),
        ),
        other => other,
    }
}

/// Percent-encodes a name for a path.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

fn member(name: &str, what: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    Problem::new(Class::Syntax, "request/member", format!("member {name:?} {what}"))
}
