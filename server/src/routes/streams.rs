//! Reading events: `/streams`, `/streams/{id}`, `/all`, `/events/{id}`, as pages and as they come.
//!
//! 1. `ETag` of a stream is its version, `"v5"`; a full page of events never changes.
//! 2. As server-sent events the id is the position; history and what comes after it
//!    are one stream without a seam, since both are read from the log.

use crate::{
    answer::{self, Answer, none_match},
    call::Call,
    extract::{Format, Params, bad},
    failure::OrProblem,
    sse::{self, Gone, Sink},
    state::{Database, Server},
    token::Scope,
    wire::{
        event::{cloud, item_of, stream_id},
        problem::{Class, Problem},
        tree::{Doc, Tree},
    },
};
use annals::{
    Db, Value,
    event::{EventId, EventLog, Item, Position, Recorded, StreamError, StreamId, Version},
};
use axum::{
    http::{StatusCode, header},
    response::Response,
};
use std::sync::Arc;

/// Events in one page, at most.
const PAGE: u64 = 1_000;
/// Events read for a server-sent stream at a time.
const BATCH: usize = 200;

fn log_of(db: &Db) -> EventLog {
    db.events()
}

pub(super) fn source(database: &Database) -> String {
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
