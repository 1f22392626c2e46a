//! What `/explain`, `/plan`, `/prove` and `/why-not` begin and end with: a posted query and the database it asks, on a
//! reader, answered with a document that says its basis first.

use crate::{
    answer::{self, Answer},
    ask::Ask,
    call::Call,
    failure::Failure,
    prepared::{inputs, placed},
    routes::query::options,
    state::Server,
    token::Scope,
    wire::{problem::Problem, tree::Doc},
};
use annals::{Cancel, Db, Input, Query, QueryError, QueryOptions};
use axum::http::StatusCode;
use std::sync::Arc;

/// A query as it was posted, ready to be examined.
pub struct Asked {
    pub(super) server: Arc<Server>,
    pub(super) db: Db,
    pub(super) query: Query,
    pub(super) ask: Ask,
    pub(super) cancel: Cancel,
}

impl Asked {
    /// Its inputs in the order of `:in`.
    pub fn inputs(&self) -> Vec<Input> {
        inputs(&self.query, &self.ask)
    }
    /// How it may be run.
    pub fn options(&self) -> QueryOptions {
        options(&self.server, &self.ask, &self.query, self.cancel.clone())
    }
    /// The engine's refusal, at its place in what was posted.
    pub fn refused(&self, e: QueryError) -> Problem {
        placed(e.problem(), &self.ask.query)
    }
}

/// Answers a posted query with what `work` adds to the document.
pub async fn examined(
    mut call: Call,
    work: impl FnOnce(&Asked, Doc) -> Result<Doc, Problem> + Send + 'static,
) -> Answer {
    let database = call.database(Scope::Read)?;
    let (sent, ask, _) = Ask::post(&mut call).await?;
    let format = call.accept_tree(Some(sent))?;
    let server = call.server.clone();
    let (t, doc) = call
        .server
        .readers
        .run(move |cancel| {
            let db = ask.view(database.conn.db())?;
            let query = server.prepared.query(&ask.query)?;
            let asked = Asked { server, db, query, ask, cancel };
            let t = asked.db.t();
            Ok((t, work(&asked, Doc::new().with("basis-t", t))?))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}
