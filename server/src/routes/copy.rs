//! `POST …/streams/{id}/copy` `{to, types, rename}`: a log mended without rewriting it.
//!
//! The events of a stream go into a new one, some left out or under another type, and the original
//! is tombstoned, in one transaction (`annals::Connection::copy_stream`). Each copy names the
//! event it comes from as its cause. What `types` and `rename` cannot say (payloads of another
//! shape) is an upcaster's or a program's work.

use crate::{
    answer::Answer,
    call::Call,
    extract::{self, Format},
    routes::{
        append::{append_problem, appended_response},
        streams::encode,
    },
    token::Scope,
    wire::{
        event::stream_id,
        problem::{Class, Problem},
    },
};
use annals::{
    Value,
    event::{EventType, NewEvent, Recorded, StreamId},
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of the events.
struct Copy {
    to: StreamId,
    /// Those taken; all when there are none.
    types: BTreeSet<String>,
    rename: BTreeMap<String, EventType>,
}

/// The route.
pub async fn copy(mut call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    call.params = std::mem::take(&mut call.params).only(&[])?;
    let from = stream_id(call.part("id"))?;
    let max = call.limits().body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    let asked = asked(sent, &body)?;
    let location = format!("/v1/db/{}/streams/{}", database.name, encode(asked.to.as_str()));
    let appended = call
        .server
        .writers
        .run(move |_| {
            database
                .conn
                .copy_stream(&from, &asked.to, |r| asked.of(r))
                .map_err(|e| append_problem(&e, false))
        })
        .await?;
    Ok(appended_response(format, &appended, Some(&location)))
}

impl Copy {
    fn of(&self, r: &Recorded) -> Vec<NewEvent> {
        let ty = r.event.ty.as_str();
        if !self.types.is_empty() && !self.types.contains(ty) {
            return Vec::new();
        }
        let mut event = r.event.clone();
        if let Some(other) = self.rename.get(ty) {
            event.ty = other.clone();
        }
        vec![event]
    }
}

fn asked(sent: Format, body: &Bytes) -> Result<Copy, Problem> {
    let known = "to, a stream; types, names of types to take; rename, an object of types and their new names";
    let (mut to, mut types, mut rename) = (None, BTreeSet::new(), BTreeMap::new());
    for (member, v) in extract::members(sent, body)? {
        match (member.as_str(), v) {
            ("types" | "rename", Value::Nil) => {}
            ("to", Value::String(s)) => to = Some(stream_id(&s)?),
            ("types", Value::Vector(items)) => {
                for item in items.iter() {
                    types.insert(name(item).ok_or_else(|| extract::unknown_member("types", known))?);
                }
            }
            ("rename", Value::Map(entries)) => {
                for (k, v) in entries.iter() {
                    let both =
                        name(k).zip(name(v)).ok_or_else(|| extract::unknown_member("rename", known))?;
                    let ty = EventType::new(&both.1)
                        .map_err(|e| Problem::new(Class::Meaning, "event/type", e.to_string()))?;
                    rename.insert(both.0, ty);
                }
            }
            (member, _) => return Err(extract::unknown_member(member, known)),
        }
    }
    Ok(Copy { to: to.ok_or_else(|| extract::missing_member("to"))?, types, rename })
}

fn name(v: &Value) -> Option<String> {
    match v {
        Value::String(s) => Some(s.to_string()),
        Value::Keyword(k) => Some(k.as_str().to_owned()),
        _ => None,
    }
}
