//! `GET /v1/db/{name}/changes`: every transaction as a server-sent event.
//!
//! 1. `id:` is t; ids ascend by one. Resuming after t gives t+1 next, whether it
//!    happened before or after the connection.
//! 2. With `attr=:a/b,:c/d` only transactions that touch one of these are sent; a
//!    `checkpoint` carries the id past what was left out.
//! 3. With `brief` the datoms are left out: the log has them.

use crate::{
    answer::Answer,
    call::Call,
    extract::{Format, bad},
    failure::OrProblem,
    routes::log::transaction,
    sse::{self, Gone, Sink},
    state::Database,
    token::Scope,
    wire::tree::Tree,
};
use annals::{AttrId, T};
use std::sync::Arc;

/// Transactions read from the log at a time.
const BATCH: u64 = 64;

/// The route.
pub async fn changes(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    call.params = std::mem::take(&mut call.params).only(&["after", "from", "attr", "brief"])?;
    let brief = call.params.flag("brief")?.then_some(0);
    call.accept(&[Format::Sse], None)?;
    let db = database.conn.db();
    let after = match (sse::last_event_id(&call)?, call.params.number("from")?) {
        (Some(id), _) => T(id),
        (None, Some(from)) => T(from.saturating_sub(1)),
        (None, None) => db.t(),
    };
    if after > db.t() {
        return Err(bad("after", "is a t this database has not reached").with("basis-t", db.t().0).into());
    }
    let attributes = match call.params.get("attr") {
        None => None,
        Some(list) => Some(
            list.split(',')
                .map(|name| db.attribute(name.trim()).map(|a| a.id))
                .collect::<Result<Vec<AttrId>, _>>()
                .or_problem()?,
        ),
    };
    let server = call.server.clone();
    Ok(sse::stream(&call, db.t(), move |sink| follow(server, database, sink, after, attributes, brief))?)
}

async fn follow(
    server: Arc<crate::state::Server>,
    database: Arc<Database>,
    sink: Sink,
    after: T,
    attributes: Option<Vec<AttrId>>,
    brief: Option<usize>,
) -> Result<(), Gone> {
    let mut basis = database.basis.clone();
    let mut last = after;
    loop {
        let newest = sink.idle(sse::beyond(&mut basis, last)).await?.ok_or(Gone)?;
        while last < newest {
            let (from, to) = (last.next(), T(newest.0.min(last.0 + BATCH)));
            let (of, wanted) = (database.clone(), attributes.clone());
            let read = move |_| {
                let mut events = Vec::new();
                for report in of.conn.tx_range(from, to.next()).or_problem()? {
                    let report = report.or_problem()?;
                    let touches = |ids: &Vec<AttrId>| report.tx_data().iter().any(|d| ids.contains(&d.a));
                    let data = wanted.as_ref().is_none_or(touches).then(|| {
                        let mut text = String::new();
                        Tree::from(transaction(&report, brief)).write_json(&mut text);
                        text
                    });
                    events.push((report.t(), data));
                }
                Ok(events)
            };
            let events = match server.readers.run(read).await {
                Ok(events) => events,
                Err(problem) => return sink.fail(&problem).await,
            };
            let mut skipped = None;
            for (t, data) in events {
                match data {
                    Some(data) => {
                        sink.event(Some(t.0), "transaction", &data).await?;
                        skipped = None;
                    }
                    None => skipped = Some(t),
                }
            }
            if let Some(t) = skipped {
                sink.event(Some(t.0), "checkpoint", &format!("{{\"t\":{}}}", t.0)).await?;
            }
            last = to;
        }
    }
}
