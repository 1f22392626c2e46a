//! `GET /v1/db/{name}/entity/{id}` and its `/history`.
//!
//! `{id}` is an entity id, an ident `:color/red`, or a lookup ref
//! `[:order/id "A-1"]`, percent-encoded.

use crate::{
    answer::{self, Answer},
    ask,
    call::Call,
    failure::OrProblem,
    token::Scope,
    wire::{
        problem::{Class, Problem},
        tree::{Doc, Tree},
        value,
    },
};
use annals::{Change, Db, Eid, EntityId, Instant, T, Unique, Value};
use axum::http::StatusCode;
use std::collections::BTreeMap;

/// Reads an entity out of a path or a member.
pub fn eid(text: &str) -> Result<Eid, Problem> {
    annals::edn::read_value(text).ok().as_ref().and_then(Eid::from_value).ok_or_else(|| {
        Problem::new(Class::Syntax, "request/entity", "not an entity")
            .hint("write an id, :an/ident, or [:unique/attribute \"value\"]")
    })
}

/// The entity meant, or 404.
pub fn resolve(db: &Db, eid: Eid) -> Result<EntityId, Problem> {
    let missing = || Problem::new(Class::NotFound, "db/unknown-entity", "no such entity at this time");
    db.resolve(eid).or_problem()?.ok_or_else(missing)
}

/// `GET …/entity/{id}?as_of=`: what it says at one time.
pub async fn entity(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["as_of", "since"])?;
    let format = call.accept_tree(None)?;
    let eid = eid(call.part("id"))?;
    let (basis, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = ask::view(database.conn.db(), &params)?;
            let e = resolve(&db, eid)?;
            let entity = db.entity(e).or_problem()?;
            let mut facts = vec![(Value::keyword("db/id"), Value::Ref(e))];
            for (attr, values) in entity.into_iter().flat_map(|e| e.attributes) {
                let many = db.schema().attribute_named(&attr).is_some_and(|a| a.is_many());
                let v = if many {
                    Value::vector(values)
                } else {
                    values.into_iter().next().unwrap_or(Value::Nil)
                };
                facts.push((Value::Keyword(attr), v));
            }
            Ok((
                db.t(),
                Doc::new().with("basis-t", db.t()).with("e", Value::Ref(e)).with("entity", Value::map(facts)),
            ))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, basis, doc))
}

/// One value's time: from its assertion until its retraction.
struct Held {
    value: Value,
    from: (T, Instant),
    to: Option<(T, Instant)>,
}

/// `GET …/entity/{id}/history?attr=`: its life as intervals, and as changes.
pub async fn history(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["attr", "as_of"])?;
    let format = call.accept_tree(None)?;
    let eid = eid(call.part("id"))?;
    let (basis, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = ask::view(database.conn.db(), &params)?;
            let e = resolve(&db, eid)?;
            let changes = db.history_of(e, params.get("attr")).or_problem()?;
            let values = intervals(&changes).into_iter().flat_map(|(attr, held)| {
                let unique =
                    db.schema().attribute_named(&attr).is_some_and(|a| a.unique == Some(Unique::Identity));
                held.into_iter().map(move |h| {
                    Doc::new()
                        .with("attr", Value::Keyword(attr.clone()))
                        .with("type", h.value.kind())
                        .with("value", h.value)
                        .maybe("unique", unique.then_some(true))
                        .with("from-t", h.from.0)
                        .with("from", h.from.1)
                        .with("to-t", h.to.map_or(Tree::Value(Value::Nil), |t| t.0.into()))
                        .with("to", h.to.map_or(Tree::Value(Value::Nil), |t| t.1.into()))
                })
            });
            let values = Tree::from_iter(values);
            let log: Tree = changes
                .iter()
                .map(|c| {
                    Doc::new()
                        .with("t", c.datom.t)
                        .with("tx-instant", c.instant)
                        .with("attr", Value::Keyword(c.attr.clone()))
                        .with("value", c.datom.v.clone())
                        .with("added", c.datom.added)
                })
                .collect();
            Ok((
                db.t(),
                Doc::new()
                    .with("basis-t", db.t())
                    .with("e", Value::Ref(e))
                    .with("values", values)
                    .with("changes", log),
            ))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, basis, doc))
}

/// Assertions and retractions, oldest first, as the times values held.
fn intervals(changes: &[Change]) -> BTreeMap<annals::Keyword, Vec<Held>> {
    let mut all: BTreeMap<annals::Keyword, Vec<Held>> = BTreeMap::new();
    for c in changes {
        let held = all.entry(c.attr.clone()).or_default();
        let open = held.iter_mut().rev().find(|h| h.to.is_none() && h.value == c.datom.v);
        match (c.datom.added, open) {
            (true, None) => {
                held.push(Held { value: c.datom.v.clone(), from: (c.datom.t, c.instant), to: None })
            }
            (false, Some(h)) => h.to = Some((c.datom.t, c.instant)),
            // An assertion of what holds, or a retraction of what does not, changes nothing.
            (true, Some(_)) | (false, None) => {}
        }
    }
    all
}

/// A value named in a URL: EDN, or failing that the text itself.
pub fn loose_value(text: &str) -> Value {
    annals::edn::read_value(text).unwrap_or_else(|_| value::key(text))
}
