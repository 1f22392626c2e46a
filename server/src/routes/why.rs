//! `GET /v1/db/{name}/facts/{e}/{a}/why`: what stands behind a fact.
//!
//! For each value that the entity has for the attribute: the transaction that filed it,
//! the events that support it with the projection that made the fact of them, and the
//! chain of commands and events that led there. A plain fact has its transaction alone.

use crate::{
    answer::{self, Answer},
    ask,
    call::Call,
    failure::OrProblem,
    routes::entity,
    token::Scope,
    wire::{
        event::cloud,
        problem::Problem,
        tree::{Doc, Tree},
    },
};
use annals::{
    Db, EntityId, Value,
    event::{Cause, CommandOutcome, Support},
};
use axum::http::StatusCode;

/// The route.
pub async fn why(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["v", "as_of"])?;
    let format = call.accept_tree(None)?;
    let (eid, attr) = (entity::eid(call.part("e"))?, call.part("a").to_owned());
    let wanted = params.get("v").map(entity::loose_value);
    let source = format!("/v1/db/{}", database.name);
    let (t, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = ask::view(database.conn.db(), &params)?;
            let e = entity::resolve(&db, eid)?;
            let attribute = db.attribute(&attr).or_problem()?.ident.clone();
            let datoms =
                db.datoms("eavt", &[Value::Ref(e), Value::Keyword(attribute.clone())]).or_problem()?;
            let held = datoms.iter().filter(|d| {
                wanted.as_ref().is_none_or(|w| annals::edn::print(w) == annals::edn::print(&d.v))
            });
            let facts = held
                .map(|d| {
                    let support = db.fact_support(e, attribute.as_str(), &d.v).or_problem()?;
                    let support = support.iter().map(|s| one(s, &source)).collect::<Result<Vec<_>, _>>()?;
                    Ok(Doc::new()
                        .with("value", d.v.clone())
                        .with("t", d.t)
                        .maybe("tx-instant", db.instant_of(d.t).or_problem()?)
                        .maybe("principal", said(&db, d.t.entity(), "tx/principal")?)
                        .maybe("because", said(&db, d.t.entity(), "tx/why")?)
                        .with("support", Tree::from_iter(support)))
                })
                .collect::<Result<Vec<Doc>, Problem>>()?;
            let doc = Doc::new()
                .with("basis-t", db.t())
                .with("e", Value::Ref(e))
                .with("attr", Value::Keyword(attribute))
                .with("facts", Tree::from_iter(facts));
            Ok((db.t(), doc))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// What a transaction says of itself.
fn said(db: &Db, tx: EntityId, attr: &str) -> Result<Option<Value>, Problem> {
    db.value(tx, attr).or_problem()
}

fn one(s: &Support, source: &str) -> Result<Doc, Problem> {
    let projection = s
        .projection
        .as_ref()
        .map(|(name, version)| Doc::new().with("name", name.as_str()).with("version", u64::from(*version)));
    let chain = s
        .chain
        .iter()
        .map(|cause| {
            Ok(match cause {
                Cause::Event(e) => Doc::new().with("event", Tree::Json(cloud(e, source)?)),
                Cause::Command(c) => Doc::new().with("command", command(c)),
                Cause::Outside(id) => Doc::new().with("outside", id.to_string()),
            })
        })
        .collect::<Result<Vec<Doc>, Problem>>()?;
    Ok(Doc::new()
        .with("event", Tree::Json(cloud(&s.event, source)?))
        .maybe("projection", projection)
        .maybe("command", s.command.as_ref().map(command))
        .with("chain", Tree::from_iter(chain)))
}

fn command(c: &CommandOutcome) -> Doc {
    Doc::new().with("id", c.id.to_string()).with("status", c.status.name())
}
