//! Projections of a database, and what only admins do to streams and subjects.

use crate::{
    answer::{self, Answer},
    call::Call,
    failure,
    routes::streams::append_problem,
    state::Database,
    token::Scope,
    wire::{
        event::stream_id,
        problem::{Class, Problem},
        tree::{Doc, Tree},
    },
};
use annals::{
    ErrorClass,
    event::{Mode, Position, ProjectionError, ProjectionState, ProjectionStatus},
};
use axum::{body::Body, http::StatusCode, response::Response};
use std::time::{Duration, Instant};

/// A projection's refusal.
pub(super) fn projection_problem(e: &ProjectionError) -> Problem {
    let class = match e {
        ProjectionError::Malformed(all) => return Problem::from_diagnostics(Class::Meaning, all.clone()),
        ProjectionError::Transact(e) => return failure::Failure::problem(e),
        ProjectionError::Db(e) => return failure::Failure::problem(e),
        ProjectionError::VersionTaken { .. }
        | ProjectionError::VersionOld { .. }
        | ProjectionError::Owned { .. } => ErrorClass::Conflict,
        ProjectionError::Unknown(_) => ErrorClass::NotFound,
        _ => ErrorClass::Meaning,
    };
    failure::problem(class, e.code(), vec![annals::Diagnostic::new(e.code(), e.to_string())])
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
            let shown: Tree =
                all.iter().filter(|p| p.state != ProjectionState::Retired).map(status).collect();
            let head = db.events().head().map_err(|e| failure::Failure::problem(&e))?;
            Ok((db.t(), Doc::new().with("basis-t", db.t()).with("head", head.0).with("projections", shown)))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// `POST …/projections`: registers one, as EDN.
pub async fn add(mut call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let max = call.limits().body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    if sent != crate::extract::Format::Edn {
        return Err(Problem::new(Class::MediaType, "request/media-type", "a projection is written in EDN")
            .hint("send Content-Type: application/edn")
            .into());
    }
    let (t, doc) = call
        .server
        .writers
        .run(move |_| {
            let added = database
                .conn
                .add_projection(crate::extract::utf8(&body)?)
                .map_err(|e| projection_problem(&e))?;
            let t = database.conn.db().t();
            Ok((t, status(&added).with("basis-t", t)))
        })
        .await?;
    Ok(answer::tree(StatusCode::CREATED, format, t, doc))
}

/// What can be done to a projection.
pub const VERBS: [&str; 3] = ["pause", "resume", "catch-up"];

/// `POST …/projections/{projection}/{verb}`: `pause`, `resume`, `catch-up`.
pub async fn steer(call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let format = call.accept_tree(None)?;
    let (name, verb) = (call.part("projection").to_owned(), call.part("verb").to_owned());
    let (t, doc) = call
        .server
        .writers
        .run(move |_| {
            let conn = &database.conn;
            match verb.as_str() {
                "pause" => conn.pause_projection(&name),
                "resume" => conn.resume_projection(&name),
                "catch-up" => conn.catch_up(&name).map(drop),
                _ => {
                    return Err(Problem::new(
                        Class::NotFound,
                        "request/no-route",
                        "a projection can be paused, resumed, and made to catch up",
                    ));
                }
            }
            .map_err(|e| projection_problem(&e))?;
            let all = conn.projections().map_err(|e| projection_problem(&e))?;
            let bare = name.strip_prefix(':').unwrap_or(&name);
            let now = all.iter().rev().find(|p| p.name.as_str() == bare).map(status).unwrap_or_default();
            let t = conn.db().t();
            Ok((t, now.with("basis-t", t)))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// `DELETE …/streams/{id}?tombstone`
pub async fn delete_stream(mut call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let params = std::mem::take(&mut call.params).only(&["tombstone"])?;
    let tombstone = params.flag("tombstone")?;
    let stream = stream_id(call.part("id"))?;
    let t = call
        .server
        .writers
        .run(move |_| database.conn.delete_stream(&stream, tombstone).map_err(|e| append_problem(&e, false)))
        .await?;
    Ok(done(StatusCode::NO_CONTENT, t))
}

/// `POST …/erase/{subject}`: forgets the key of a subject's personal values.
pub async fn erase(call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let subject = call.part("subject").to_owned();
    let t = call
        .server
        .writers
        .run(move |_| {
            match database.conn.forget_subject(&subject).map_err(|e| failure::Failure::problem(&e))? {
                true => Ok(database.conn.db().t()),
                false => Err(Problem::new(
                    Class::NotFound,
                    "event/no-subject",
                    "nothing personal is stored under this name",
                )),
            }
        })
        .await?;
    Ok(done(StatusCode::ACCEPTED, t))
}

/// `POST …/backup`: copies the database into the configured folder, under its own name.
pub async fn backup(call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let format = call.accept_tree(None)?;
    let dir = call.server.config.backup_dir.clone().ok_or_else(|| {
        Problem::new(Class::Forbidden, "server/no-backup-folder", "no folder for backups is configured")
            .hint("set backup_dir in the configuration")
    })?;
    let t = call
        .server
        .writers
        .run(move |_| {
            // The name is one of ours, made of letters, digits, - and _: it cannot leave the folder.
            database.conn.backup(dir.join(&database.name)).map_err(|e| failure::Failure::problem(&e))?;
            Ok(database.conn.db().t())
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, Doc::new().with("basis-t", t).with("backup", "done")))
}

fn done(status: StatusCode, t: annals::T) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    answer::basis_header(response.headers_mut(), t);
    response
}
