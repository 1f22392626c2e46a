//! Projections of a database: their state, and what admins do with them.
//!
//! 1. A rebuild goes on behind the answer (202); the old version answers until the new
//!    one has caught up. Its state is in the list.
//! 2. What is parked, why, and that somebody skipped an event can be read by all who
//!    may read the database.

use crate::{
    answer::{self, Answer},
    call::Call,
    extract::{self, Format},
    failure,
    state::{Database, Server},
    token::Scope,
    wire::{
        problem::{Class, Problem},
        tree::{Doc, Tree},
    },
};
use annals::{
    ErrorClass, Value,
    event::{Mode, Parked, Position, ProjectionError, ProjectionState, ProjectionStatus},
};
use axum::http::{StatusCode, header};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A projection's refusal.
pub(super) fn projection_problem(e: &ProjectionError) -> Problem {
    let class = match e {
        ProjectionError::Malformed(all) => return Problem::from_diagnostics(Class::Meaning, all.clone()),
        ProjectionError::Transact(e) => return failure::Failure::problem(e),
        ProjectionError::Db(e) => return failure::Failure::problem(e),
        ProjectionError::VersionTaken { .. }
        | ProjectionError::VersionOld { .. }
        | ProjectionError::Entangled { .. }
        | ProjectionError::Owned { .. } => ErrorClass::Conflict,
        ProjectionError::Unknown(_) | ProjectionError::NoEvent { .. } => ErrorClass::NotFound,
        ProjectionError::NoThread(_) => ErrorClass::Environment,
        ProjectionError::Cancelled => ErrorClass::Cancelled,
        ProjectionError::TooLarge { .. } => ErrorClass::Budget,
        _ => ErrorClass::Meaning,
    };
    failure::problem(class, e.code(), vec![annals::Diagnostic::new(e.code(), e.to_string())])
}

/// Is it of the past: replaced, or taken out of use?
fn over(p: &ProjectionStatus) -> bool {
    matches!(p.state, ProjectionState::Retired | ProjectionState::Dropped)
}

fn status(p: &ProjectionStatus) -> Doc {
    let (halted_at, why) = match &p.state {
        ProjectionState::Halted { at, why } => (Some(at.0), Some(why.as_str())),
        _ => (None, None),
    };
    Doc::new()
        .with("name", p.name.as_str())
        .with("version", u64::from(p.version))
        .with("mode", if matches!(p.mode, Mode::Inline) { "inline" } else { "async" })
        .with("state", p.state.name())
        .with("position", p.position.0)
        .with("lag", p.lag)
        .with("parked", p.parked)
        .maybe("trouble", p.trouble.as_deref())
        .maybe("halted-at", halted_at)
        .maybe("why", why)
        .with("attributes", p.attributes.iter().map(|k| Tree::Value(k.clone().into())).collect::<Tree>())
}

/// Waits until every async projection that answers has taken the event at a position.
/// One that is paused or halted will not: that is told at once, with how far it is.
pub fn reach(database: &Database, position: u64, wait: Duration) -> Result<(), Problem> {
    let behind = |at: Position| {
        Problem::new(
            Class::Unavailable,
            "basis/behind",
            format!("the projections have not reached position {position} in time"),
        )
        .with("complete_to", at.0)
    };
    let until = Instant::now() + wait;
    for p in database.conn.projections().map_err(|e| projection_problem(&e))? {
        let answers = matches!(
            p.state,
            ProjectionState::Live | ProjectionState::Paused | ProjectionState::Halted { .. }
        );
        if matches!(p.mode, Mode::Inline) || !answers || p.position.0 >= position {
            continue;
        }
        let left = match p.state {
            ProjectionState::Live => until.saturating_duration_since(Instant::now()),
            _ => Duration::ZERO,
        };
        if !database
            .conn
            .wait_for(p.name.as_str(), Position(position), left)
            .map_err(|e| projection_problem(&e))?
        {
            return Err(behind(p.position));
        }
    }
    match database.conn.db().events().head().map_err(|e| failure::Failure::problem(&e))? {
        head if head.0 < position => Err(behind(head)),
        _ => Ok(()),
    }
}

/// `GET …/projections`
pub async fn list(call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let format = call.accept_tree(None)?;
    let (t, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = database.conn.db();
            let all = database.conn.projections().map_err(|e| projection_problem(&e))?;
            let shown: Tree = all.iter().filter(|p| !over(p)).map(status).collect();
            let head = db.events().head().map_err(|e| failure::Failure::problem(&e))?;
            Ok((db.t(), Doc::new().with("basis-t", db.t()).with("head", head.0).with("projections", shown)))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// The body of a request that sends a projection, and the form of its answer.
pub(super) async fn definition(call: &mut Call) -> Result<(Format, Bytes), Problem> {
    let max = call.limits().body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    if sent != Format::Edn {
        return Err(Problem::new(Class::MediaType, "request/media-type", "a projection is written in EDN")
            .hint("send Content-Type: application/edn"));
    }
    Ok((format, body))
}

/// `POST …/projections`: registers one, as EDN.
pub async fn add(mut call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let (format, body) = definition(&mut call).await?;
    let (t, doc) = call
        .server
        .writers
        .run(move |_| {
            let added =
                database.conn.add_projection(extract::utf8(&body)?).map_err(|e| projection_problem(&e))?;
            let t = database.conn.db().t();
            Ok((t, status(&added).with("basis-t", t)))
        })
        .await?;
    Ok(answer::tree(StatusCode::CREATED, format, t, doc))
}

/// What can be done to a projection.
pub const VERBS: [&str; 5] = ["pause", "resume", "catch-up", "rebuild", "drop"];

/// The projection that answers under a name.
fn named(database: &Database, name: &str) -> Result<ProjectionStatus, Problem> {
    let bare = name.strip_prefix(':').unwrap_or(name);
    let all = database.conn.projections().map_err(|e| projection_problem(&e))?;
    let found = all.into_iter().rev().find(|p| p.name.as_str() == bare && !over(p));
    found.ok_or_else(|| projection_problem(&ProjectionError::Unknown(annals::Keyword::new(bare))))
}

/// `POST …/projections/{projection}/{verb}`: `pause`, `resume`, `catch-up`, `rebuild`, `drop`.
pub async fn steer(call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let format = call.accept_tree(None)?;
    let (name, verb) = (call.part("projection").to_owned(), call.part("verb").to_owned());
    if verb == "rebuild" {
        return rebuild(call.server.clone(), database, name, format).await;
    }
    let (t, doc) = call
        .server
        .writers
        .run(move |_| {
            let conn = &database.conn;
            let problem = |e| projection_problem(&e);
            let mut doc = Doc::new();
            match verb.as_str() {
                "pause" => conn.pause_projection(&name).map_err(problem)?,
                "resume" => conn.resume_projection(&name).map_err(problem)?,
                "catch-up" => drop(conn.catch_up(&name).map_err(problem)?),
                "drop" => {
                    let last = named(&database, &name)?;
                    let dropped = conn.drop_projection(&name).map_err(problem)?;
                    doc = status(&last).with("dropped", true).with("facts", dropped.facts);
                }
                _ => {
                    return Err(Problem::new(
                        Class::NotFound,
                        "request/no-route",
                        format!("a projection knows {}", VERBS.join(", ")),
                    ));
                }
            }
            if verb != "drop" {
                doc = status(&named(&database, &name)?);
            }
            let t = conn.db().t();
            Ok((t, doc.with("basis-t", t)))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// Begins a rebuild; it goes on behind the answer.
async fn rebuild(server: Arc<Server>, database: Arc<Database>, name: String, format: Format) -> Answer {
    let of = database.clone();
    let asked = name.clone();
    let now = server.readers.run(move |_| named(&of, &asked)).await?;
    let of = database.clone();
    tokio::spawn(async move {
        let shown = name.clone();
        let work = move |_| of.conn.rebuild_projection(&name).map_err(|e| projection_problem(&e));
        match server.writers.run(work).await {
            Ok(p) => tracing::info!(projection = %shown, version = p.version, "rebuilt"),
            Err(e) => {
                tracing::error!(projection = %shown, code = %e.code, why = %e.detail, "a rebuild failed")
            }
        }
    });
    let t = database.conn.db().t();
    let mut response = answer::tree(StatusCode::ACCEPTED, format, t, status(&now).with("basis-t", t));
    answer::set(&mut response, header::LOCATION, &format!("/v1/db/{}/projections", database.name));
    answer::set(&mut response, header::RETRY_AFTER, "1");
    Ok(response)
}

pub(super) fn set_aside(parked: &[Parked]) -> Tree {
    let one = |p: &Parked| {
        Doc::new()
            .with("position", p.position.0)
            .with("stream", p.stream.as_str())
            .with("id", p.id.to_string())
            .with("type", p.ty.as_str())
            .with("why", &*p.why)
    };
    parked.iter().map(one).collect()
}

/// `GET …/projections/{projection}/parked`: the events it has set aside, and those it skips.
pub async fn parked(call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let format = call.accept_tree(None)?;
    let name = call.part("projection").to_owned();
    let (t, doc) = call
        .server
        .readers
        .run(move |_| {
            let t = database.conn.db().t();
            let parked = database.conn.parked(&name).map_err(|e| projection_problem(&e))?;
            let skipped = database.conn.skipped(&name).map_err(|e| projection_problem(&e))?;
            let skipped: Tree = skipped
                .iter()
                .map(|s| {
                    Doc::new()
                        .with("position", s.position.0)
                        .with("t", s.t)
                        .with("by", &*s.by)
                        .with("why", &*s.why)
                })
                .collect();
            Ok((t, Doc::new().with("basis-t", t).with("parked", set_aside(&parked)).with("skipped", skipped)))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// `POST …/projections/{projection}/parked/replay`: takes them again.
pub async fn replay(call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let format = call.accept_tree(None)?;
    let name = call.part("projection").to_owned();
    let (t, doc) = call
        .server
        .writers
        .run(move |_| {
            let done = database.conn.replay_parked(&name).map_err(|e| projection_problem(&e))?;
            let t = database.conn.db().t();
            let doc =
                Doc::new().with("basis-t", t).with("taken", done.taken).with("left", set_aside(&done.left));
            Ok((t, doc))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// `POST …/projections/{projection}/skip` `{position, why}`: the next version leaves the event out.
pub async fn skip(mut call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let max = call.limits().body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    let name = call.part("projection").to_owned();
    let (mut position, mut why) = (None, None);
    for (member, v) in extract::members(sent, &body)? {
        match (member.as_str(), v) {
            ("position", Value::Long(n)) if n >= 0 => position = u64::try_from(n).ok(),
            ("why", Value::String(s)) if !s.trim().is_empty() => why = Some(s.to_string()),
            (member, _) => return Err(extract::unknown_member(member, "position, why").into()),
        }
    }
    let position = position.ok_or_else(|| extract::missing_member("position"))?;
    let why = why.ok_or_else(|| extract::missing_member("why"))?;
    let by = call.who.name.clone();
    let t = call
        .server
        .writers
        .run(move |_| {
            let skipped = database.conn.skip_event(&name, Position(position), &by, &why);
            skipped.map_err(|e| projection_problem(&e))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, Doc::new().with("basis-t", t).with("t", t)))
}
