//! What admins alone do: end streams, forget subjects, back up and restore.
//!
//! 1. No path comes from a request: backups and restored databases lie in configured
//!    folders under names made of letters, digits, `-` and `_`.
//! 2. A database that is being served is never replaced.

use crate::{
    answer::{self, Answer},
    call::Call,
    extract::{self, Format},
    failure,
    routes::{append::append_problem, transact::datoms},
    token::Scope,
    wire::{
        event::stream_id,
        problem::{Class, Problem},
        tree::{Doc, Tree},
    },
};
use annals::{T, Value};
use axum::{
    body::Body,
    http::{StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use std::path::PathBuf;

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

/// `POST …/erase/{subject}`: forgets a subject: the key of its personal values, the facts made of
/// them, the snapshots that hold them. Says what was found, and what still names it elsewhere.
pub async fn erase(call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let format = call.accept_tree(None)?;
    let subject = call.part("subject").to_owned();
    let (t, doc) = call
        .server
        .writers
        .run(move |_| {
            let conn = &database.conn;
            let erased = conn.erase_subject(&subject).map_err(|e| failure::Failure::problem(&e))?;
            if !erased.known && erased.events == 0 && erased.facts == 0 {
                return Err(Problem::new(
                    Class::NotFound,
                    "event/no-subject",
                    "nothing personal is stored under this name",
                ));
            }
            let db = conn.db();
            let names = erased.processes.iter().map(|p| Tree::from(p.as_str()));
            let others = erased.elsewhere_rows.iter().map(|p| Tree::from(p.as_str()));
            let clear = erased.elsewhere_events.iter().map(|p| Tree::from(p.0));
            let doc = Doc::new()
                .with("basis-t", db.t())
                .with("events", erased.events)
                .with("facts", erased.facts)
                .with("snapshots", erased.snapshots)
                .maybe("t", erased.t)
                .with("elsewhere", datoms(&erased.elsewhere, db.schema()))
                .with("processes", names.collect::<Tree>())
                .with("elsewhere-rows", others.collect::<Tree>())
                .with("elsewhere-events", clear.collect::<Tree>());
            Ok((db.t(), doc))
        })
        .await?;
    Ok(answer::tree(StatusCode::ACCEPTED, format, t, doc))
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

/// `POST …/restore` `{as, t?}`: a new database from the backup of this one, as it was
/// after `t` (the newest when none is given), served at once under its own name. What
/// is being served is never replaced.
pub async fn restore(mut call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let max = call.limits().body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    let configured = |dir: &Option<PathBuf>, code: &'static str, what: &str, name: &str| {
        dir.clone().ok_or_else(|| {
            Problem::new(Class::Forbidden, code, format!("no folder for {what} is configured"))
                .hint(format!("set {name} in the configuration"))
        })
    };
    let config = &call.server.config;
    let from = configured(&config.backup_dir, "server/no-backup-folder", "backups", "backup_dir")?;
    let to =
        configured(&config.restore_dir, "server/no-restore-folder", "restored databases", "restore_dir")?;
    let (name, t) = restore_request(sent, &body)?;
    call.server.may_create(&call.who, &name)?;
    let (server, of) = (call.server.clone(), database.clone());
    let (from, to) = (from.join(&of.name), to.join(&name));
    let t = call
        .server
        .writers
        .run(move |_| {
            if !from.exists() {
                return Err(Problem::new(
                    Class::NotFound,
                    "server/no-backup",
                    "there is no backup of this database",
                )
                .hint("POST …/backup makes one"));
            }
            if to.exists() {
                return Err(Problem::new(
                    Class::Conflict,
                    "server/name-taken",
                    "there is something under this name already",
                )
                .hint("choose another name for `as`"));
            }
            annals::restore(&from, &to, t).map_err(|e| failure::Failure::problem(&e))?;
            let conn = annals::open(&to).map_err(|e| failure::Failure::problem(&annals::Error::from(e)))?;
            let t = conn.db().t();
            server.serve_also(&name, conn)?;
            tracing::info!(database = %of.name, restored_as = %name, t = t.0, "restored");
            Ok((t, name))
        })
        .await?;
    let (t, name) = t;
    let doc = Doc::new().with("basis-t", t).with("name", name.as_str());
    let mut response = answer::tree(StatusCode::CREATED, format, t, doc);
    answer::set(&mut response, header::LOCATION, &format!("/v1/db/{name}"));
    Ok(response)
}

/// `{"as": name, "t": 42}`
fn restore_request(sent: Format, body: &Bytes) -> Result<(String, Option<T>), Problem> {
    let (mut name, mut t) = (None, None);
    for (member, v) in extract::members(sent, body)? {
        match (member.as_str(), v) {
            ("as", Value::String(s)) => name = Some(s.to_string()),
            ("t", Value::Long(n)) => t = u64::try_from(n).ok().map(T),
            ("t", Value::Nil) => {}
            (member, _) => return Err(extract::unknown_member(member, "as, a name; t, a t")),
        }
    }
    Ok((name.ok_or_else(|| extract::missing_member("as"))?, t))
}

fn done(status: StatusCode, t: annals::T) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    answer::basis_header(response.headers_mut(), t);
    response
}
