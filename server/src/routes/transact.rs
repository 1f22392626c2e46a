//! `POST /v1/db/{name}/transact` and `/with`.
//!
//! 1. Who did it, which request it was and where it came from stand on the
//!    transaction, written here; a client that names those attributes is refused.
//! 2. A transaction that touches the schema needs the scope for it.
//! 3. With an `Idempotency-Key` it happens once, across retries and restarts.

use crate::{
    answer::{self, Answer},
    call::Call,
    extract::{self, Format},
    failure::OrProblem,
    idempotency::{self, Known, Stored},
    state::Database,
    token::Scope,
    wire::{
        self,
        problem::{Class, Problem},
        tree::{Doc, Tree},
    },
};
use annals::{Datom, Db, Eid, EntityId, Keyword, Partition, Schema, TxData, TxReport, Value};
use axum::http::StatusCode;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// Attributes of a transaction that only the server writes.
const OURS: [&str; 5] =
    ["tx/principal", "tx/request-id", "tx/source", "tx/idempotency-key", "tx/request-hash"];

/// `POST …/transact`
pub async fn transact(mut call: Call) -> Answer {
    let database = call.database(Scope::Write)?;
    let max = call.limits().transact_body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    call.params = std::mem::take(&mut call.params).only(&["tx_data"])?;
    let with_data = call.params.flag("tx_data")?;
    let key = idempotency::key(&call.headers)?.map(|k| format!("{}/{k}", call.who.name));
    let hash = *blake3::hash(&body).as_bytes();
    let keep = Duration::from_secs(call.limits().idempotency_keep_s);

    let claim = match &key {
        None => None,
        Some(key) => match database.keys.claim(key.clone(), hash, keep)? {
            Known::New(claim) => Some(claim),
            Known::Done(stored) => return Ok(replayed(format, *stored)),
        },
    };
    let may_change_schema = call.who.has(Scope::Schema);
    let request_id = call.id.0.clone();
    let who = call.who.name.clone();
    let work = {
        let (database, key) = (database.clone(), key.clone());
        move |_cancel| {
            let conn = &database.conn;
            let db = conn.db();
            if let Some(key) = &key
                && let Some(stored) = earlier(&database, &db, key, &hash)?
            {
                return Ok((stored, true));
            }
            let mut data = read(sent, &body, &db)?;
            reserved(&data, &db, may_change_schema)?;
            data.forms.push(provenance(&who, &request_id, key.as_deref(), &hash));
            let report = conn.transact(data).or_problem()?;
            Ok((Stored { t: report.t().0, tree: report_tree(&report, with_data).into() }, false))
        }
    };
    let (stored, again) = call.server.writers.run(work).await?;
    if let Some(claim) = claim {
        claim.keep(stored.clone());
    }
    Ok(if again {
        replayed(format, stored)
    } else {
        answer::tree(StatusCode::OK, format, annals::T(stored.t), stored.tree)
    })
}

/// `POST …/with`: what the transaction would do. Nothing is written.
pub async fn with(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let max = call.limits().body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    let params = std::mem::take(&mut call.params).only(&["as_of"])?;
    let as_of = params.get("as_of").map(str::to_owned);
    let tree = call
        .server
        .readers
        .run(move |_| {
            let db = match &as_of {
                None => database.conn.db(),
                Some(t) => database.conn.db().as_of(t.as_str()).or_problem()?,
            };
            let data = read(sent, &body, &db)?;
            reserved(&data, &db, true)?;
            let report = db.with(data).or_problem()?;
            Ok((db.basis_t(), report_tree(&report, true).with("speculative", true)))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, tree.0, tree.1))
}

/// The forms of a body.
pub fn read(sent: Format, body: &Bytes, db: &Db) -> Result<TxData, Problem> {
    use annals::IntoTx as _;
    match sent {
        Format::Edn => extract::utf8(body)?.into_tx().or_problem(),
        _ => {
            let json = json(body)?;
            Ok(TxData { forms: wire::tx::forms(&json, db.schema())?, text: None })
        }
    }
}

/// A body as JSON; the place of what is wrong with it as a span.
pub fn json(body: &Bytes) -> Result<serde_json::Value, Problem> {
    let text = extract::utf8(body)?;
    serde_json::from_str(text).map_err(|e| {
        let mut p = Problem::new(Class::Syntax, "json/syntax", format!("the body is not JSON: {e}"));
        let before: usize = text.lines().take(e.line().saturating_sub(1)).map(|l| l.len() + 1).sum();
        let at = match e.is_eof() {
            true => text.len(),
            false => (before + e.column().saturating_sub(1)).min(text.len()),
        };
        p.span = Some((at, at));
        p
    })
}

/// Refuses what only the server may say, and schema without the scope for it.
pub fn reserved(data: &TxData, db: &Db, may_change_schema: bool) -> Result<(), Problem> {
    let schema = db.schema();
    for (i, form) in data.forms.iter().enumerate() {
        let mut complaint = None;
        visit_attributes(form, schema, &mut |attr| {
            if OURS.contains(&attr.as_str()) {
                complaint.get_or_insert_with(|| {
                    let mut p = Problem::new(
                        Class::Meaning,
                        "access/reserved-attribute",
                        format!("{attr} is written by the server alone"),
                    );
                    p.path = Some(format!("tx[{i}] {attr}"));
                    p
                });
            }
            if !may_change_schema && touches_schema(attr) {
                complaint.get_or_insert_with(|| {
                    let mut p = Problem::new(
                        Class::Forbidden,
                        "access/scope",
                        format!("{attr} changes the schema, which needs a token with scope schema"),
                    );
                    p.path = Some(format!("tx[{i}] {attr}"));
                    p
                });
            }
        });
        if let Value::Vector(items) | Value::List(items) = form
            && let [Value::Keyword(op), e, ..] = &items[..]
            && matches!(op.as_str(), "db/retractEntity" | "db.fn/retractEntity")
            && let Some(e) = entity(e, db)
        {
            match e.partition() {
                Some(Partition::Tx) => {
                    return Err(Problem::new(
                        Class::Meaning,
                        "access/reserved-attribute",
                        "a transaction's own facts cannot be retracted as a whole",
                    ));
                }
                Some(Partition::Db) if !may_change_schema => {
                    return Err(Problem::new(
                        Class::Forbidden,
                        "access/scope",
                        "this changes the schema, which needs a token with scope schema",
                    ));
                }
                _ => {}
            }
        }
        if let Some(problem) = complaint {
            return Err(problem);
        }
    }
    Ok(())
}

fn entity(v: &Value, db: &Db) -> Option<EntityId> {
    db.resolve(Eid::from_value(v)?).ok().flatten()
}

/// Every attribute a form speaks of, by its present name.
fn visit_attributes(form: &Value, schema: &Schema, visit: &mut dyn FnMut(&Keyword)) {
    let name = |v: &Value, visit: &mut dyn FnMut(&Keyword)| match v {
        Value::Keyword(k) => {
            let plain = match k.name().strip_prefix('_') {
                Some(name) => Keyword::from_parts(k.namespace(), name),
                None => k.clone(),
            };
            // A former name means the attribute of today.
            let now = schema.attribute_named(&plain).map_or(plain, |a| a.ident.clone());
            visit(&now);
        }
        Value::Long(n) => {
            if let Some(a) = u64::try_from(*n).ok().and_then(|n| schema.attribute_of(EntityId::from_raw(n))) {
                visit(&a.ident);
            }
        }
        Value::Ref(e) => {
            if let Some(a) = schema.attribute_of(*e) {
                visit(&a.ident);
            }
        }
        _ => {}
    };
    match form {
        Value::Map(entries) => {
            for (k, v) in entries.iter() {
                name(k, visit);
                nested(v, schema, visit);
            }
        }
        Value::Vector(items) | Value::List(items) => {
            if let [Value::Keyword(op), _, a, rest @ ..] = &items[..]
                && op.as_str().starts_with("db")
            {
                name(a, visit);
                for v in rest {
                    nested(v, schema, visit);
                }
            }
        }
        _ => {}
    }
}

fn nested(v: &Value, schema: &Schema, visit: &mut dyn FnMut(&Keyword)) {
    match v {
        Value::Map(_) => visit_attributes(v, schema, visit),
        Value::Vector(items) | Value::List(items) | Value::Set(items) => {
            for v in items.iter().filter(|v| matches!(v, Value::Map(_) | Value::Vector(_) | Value::List(_))) {
                nested(v, schema, visit);
            }
        }
        _ => {}
    }
}

fn touches_schema(attr: &Keyword) -> bool {
    match attr.namespace() {
        Some("db") => !matches!(attr.name(), "id" | "txInstant" | "ensure" | "doc"),
        Some(ns) => ns.starts_with("db."),
        None => false,
    }
}

/// The facts the server adds about a transaction.
pub fn provenance(who: &str, request_id: &str, key: Option<&str>, hash: &[u8; 32]) -> Value {
    let mut facts = vec![
        (Value::keyword("db/id"), Value::string("datomic.tx")),
        (Value::keyword("tx/principal"), Value::string(who)),
        (Value::keyword("tx/request-id"), Value::string(request_id)),
        (Value::keyword("tx/source"), Value::string("http")),
    ];
    if let Some(key) = key {
        facts.push((Value::keyword("tx/idempotency-key"), Value::string(key)));
        facts.push((Value::keyword("tx/request-hash"), Value::string(crate::token::hex(hash))));
    }
    Value::map(facts)
}

/// The transaction that a key stands on already, made before this process started.
fn earlier(database: &Arc<Database>, db: &Db, key: &str, hash: &[u8; 32]) -> Result<Option<Stored>, Problem> {
    let Some(tx) = db.resolve(("tx/idempotency-key", key)).or_problem()? else { return Ok(None) };
    let Some(t) = tx.as_t() else { return Ok(None) };
    let Some(report) = database.conn.tx_range(t, t.next()).or_problem()?.next() else { return Ok(None) };
    let report = report.or_problem()?;
    let stored = report.tx_data().iter().find_map(|d| match &d.v {
        Value::String(s) if attribute_is(&report, d, "tx/request-hash") => Some(s.to_string()),
        _ => None,
    });
    if stored.as_deref() != Some(crate::token::hex(hash).as_str()) {
        return Err(idempotency::reused());
    }
    Ok(Some(Stored { t: t.0, tree: report_tree(&report, false).into() }))
}

fn attribute_is(report: &TxReport, d: &Datom, name: &str) -> bool {
    report.db_after().schema().attribute(d.a).is_some_and(|a| a.ident.as_str() == name)
}

fn replayed(format: Format, stored: Stored) -> axum::response::Response {
    let tree = match stored.tree {
        Tree::Doc(doc) => Tree::Doc(doc.with("replayed", true)),
        other => other,
    };
    let mut response = answer::tree(StatusCode::OK, format, annals::T(stored.t), tree);
    answer::set(&mut response, axum::http::HeaderName::from_static("idempotency-replayed"), "true");
    response
}

/// `{:t :tx-instant :tempids :datoms :basis-t}`, and the datoms themselves when asked for.
fn report_tree(report: &TxReport, with_data: bool) -> Doc {
    let tempids =
        report.tempids().filter(|(n, _)| *n != "datomic.tx").map(|(n, e)| (n.to_owned(), Value::Ref(e)));
    Doc::new()
        .with("basis-t", report.t())
        .with("t", report.t())
        .with("tx", Value::Ref(report.tx()))
        .with("tx-instant", report.tx_instant())
        .with("tempids", Tree::Table(tempids.collect()))
        .with("datoms", report.tx_data().len())
        .maybe("tx-data", with_data.then(|| datoms(report.tx_data(), report.db_after().schema())))
}

/// Datoms as `[e a v t added]`, attributes by name.
pub fn datoms<'a>(all: impl IntoIterator<Item = &'a Datom>, schema: &Schema) -> Tree {
    all.into_iter().map(|d| Tree::Value(datom(d, schema))).collect()
}

/// One datom as `[e a v t added]`.
pub fn datom(d: &Datom, schema: &Schema) -> Value {
    let a = schema.attribute(d.a).map_or(Value::Ref(d.a.entity()), |a| Value::Keyword(a.ident.clone()));
    let t = i64::try_from(d.t.0).unwrap_or(i64::MAX);
    Value::vector([Value::Ref(d.e), a, d.v.clone(), Value::Long(t), Value::Bool(d.added)])
}
