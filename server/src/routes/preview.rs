//! `POST …/projections/preview`: what a changed projection would say, before it is registered.
//!
//! 1. Nothing is written. It runs over all events in memory, so it needs the scope of those who
//!    register projections.
//! 2. It ends when its client goes away, and holds no more facts than a query may rows.
//! 3. Counts are those of the whole difference; of the facts `limit` are listed on each side.

use crate::{
    answer::{self, Answer},
    call::Call,
    extract,
    routes::projections::{definition, projection_problem, set_aside},
    token::Scope,
    wire::tree::{Doc, Tree},
};
use annals::event::{PreviewFact, PreviewOptions, ProjectionError, ProjectionSpec};
use axum::http::StatusCode;

/// Facts listed on each side, unless `limit` says otherwise.
const LISTED: u64 = 1_000;

/// The route.
pub async fn preview(mut call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    let params = std::mem::take(&mut call.params).only(&["limit"])?;
    let (format, body) = definition(&mut call).await?;
    let limit = params.number("limit")?.unwrap_or(LISTED).min(call.limits().result_rows);
    let max_facts = call.limits().query_rows;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (t, doc) = call
        .server
        .readers
        .run(move |cancel| {
            let spec = ProjectionSpec::edn(extract::utf8(&body)?)
                .map_err(|e| projection_problem(&ProjectionError::Malformed(e)))?;
            let t = database.conn.db().t();
            let diff = database
                .conn
                .preview_projection_with(spec, &PreviewOptions { cancel, max_facts })
                .map_err(|e| projection_problem(&e))?;
            let doc = Doc::new()
                .with("basis-t", t)
                .with("name", diff.name.as_str())
                .maybe("live", diff.live.map(u64::from))
                .with("events", diff.events)
                .with("n-added", diff.added.len())
                .with("n-removed", diff.removed.len())
                .with("same", diff.same)
                .with("added", facts(&diff.added, limit))
                .with("removed", facts(&diff.removed, limit))
                .with("refused", set_aside(&diff.refused[..diff.refused.len().min(limit)]));
            Ok((t, doc))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

fn facts(all: &[PreviewFact], limit: usize) -> Tree {
    let one = |f: &PreviewFact| {
        Doc::new()
            .with("entity", f.entity.clone())
            .with("attr", annals::Value::Keyword(f.attr.clone()))
            .with("value", f.value.clone())
    };
    all.iter().take(limit).map(one).collect()
}
