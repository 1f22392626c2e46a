//! Appending events: `POST /streams/{id}/events` and `POST /append`.
//!
//! 1. A precondition that stood in a header fails with 412, one in the body with 409.
//! 2. The facts about the transaction are the server's, as for `/transact`.
//! 3. Payloads in EDN are kept as they are written (`wire::event::exact_data`).

use crate::{
    answer::{self, Answer},
    call::Call,
    extract::Format,
    failure::OrProblem,
    routes::{
        streams::{encode, source},
        transact::{json, provenance, reserved},
    },
    token::Scope,
    wire::{
        event::{events, expected, items, stream_id},
        problem::{Class, Problem},
        tree::{Doc, Tree},
        tx, value,
    },
};
use annals::{
    IntoTx as _, T, TxData, Value,
    event::{Append, AppendError, Appended, Expected, Guard, GuardQuery, StreamWrite, Tracking, Version},
};
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde_json::Value as Json;

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

fn member(name: &str, what: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    Problem::new(Class::Syntax, "request/member", format!("member {name:?} {what}"))
}
