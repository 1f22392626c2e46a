//! `GET /v1/db/{name}/log` and `/datoms`: the transactions, and the indexes.

use crate::{
    answer::{self, Answer},
    call::Call,
    extract::bad,
    failure::OrProblem,
    routes::transact::datom,
    token::Scope,
    wire::{
        problem::Problem,
        tree::{Doc, Tree},
    },
};
use annals::{
    T, TxReport, Value,
    event::{EventLog, Position},
};
use axum::http::StatusCode;
use std::ops::ControlFlow;

/// Transactions in one answer, at most.
const PAGE: u64 = 1_000;
/// Datoms in one answer, at most, unless one transaction alone has more.
const PAGE_DATOMS: usize = 50_000;

/// `GET …/log?from=&to=&limit=&datoms=`: transactions `[from, to)`, oldest first.
pub async fn log(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["from", "to", "limit", "datoms"])?;
    let format = call.accept_tree(None)?;
    let point = |name: &'static str| params.get(name).map(str::to_owned).map(|text| (name, text));
    let (from, to) = (point("from"), point("to"));
    let limit = params.number("limit")?.unwrap_or(PAGE).min(PAGE);
    let brief = params.number("datoms")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let (basis, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = database.conn.db();
            let basis = db.t();
            let at = |p: Option<(&'static str, String)>, default: T| -> Result<T, Problem> {
                match p {
                    None => Ok(default),
                    // A number past the basis is a fine end of a range; a date means the first t after it.
                    Some((name, text)) => match text.parse::<u64>() {
                        Ok(n) => Ok(T(n.min(basis.0 + 1))),
                        Err(_) => db
                            .t_of(text.as_str())
                            .map_err(|_| bad(name, "is not a point in time"))
                            .map(T::next),
                    },
                }
            };
            let (from, to) = (at(from, T::GENESIS)?, at(to, basis.next())?);
            let events = db.events();
            let mut transactions = Vec::new();
            let (mut n, mut next) = (0, None);
            if from < to {
                for report in database.conn.tx_range(from, to).or_problem()? {
                    let report = report.or_problem()?;
                    if transactions.len() as u64 >= limit || n > PAGE_DATOMS {
                        next = Some(report.t());
                        break;
                    }
                    n += report.tx_data().len().min(brief.unwrap_or(usize::MAX));
                    transactions
                        .push(transaction(&report, brief).maybe("events", events_of(&events, report.t())?));
                }
            }
            let doc = Doc::new()
                .with("basis-t", basis)
                .with("transactions", Tree::from_iter(transactions))
                .maybe("next", next);
            Ok((basis, doc))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, basis, doc))
}

/// The events a transaction recorded, at most [`PAGE`], if it recorded any.
fn events_of(log: &EventLog, t: T) -> Result<Option<Tree>, Problem> {
    let Some((first, last)) = log.positions_of(t).or_problem()? else { return Ok(None) };
    let mut found = Vec::new();
    for p in (first.0..=last.0).take(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
        for e in log.at(Position(p)).or_problem()? {
            found.push(
                Doc::new()
                    .with("stream", e.stream.as_str())
                    .with("version", e.version.0)
                    .with("position", e.position.0)
                    .with("type", e.ty()),
            );
        }
    }
    Ok(Some(Tree::from_iter(found)))
}

/// One transaction: who, when, what. Of its datoms the first `brief`, its own instant aside.
pub fn transaction(report: &TxReport, brief: Option<usize>) -> Doc {
    let schema = report.db_after().schema();
    let own = |name: &str| {
        report.tx_data().iter().find_map(|d| {
            let named = d.e == report.tx() && schema.attribute(d.a).is_some_and(|a| a.ident.as_str() == name);
            named.then(|| d.v.clone())
        })
    };
    let facts = report.tx_data().iter().filter(|d| d.e != report.tx()).count();
    let shown: Vec<Tree> = match brief {
        None => report.tx_data().iter().map(|d| datom(d, schema).into()).collect(),
        Some(n) => report
            .tx_data()
            .iter()
            .filter(|d| d.e != report.tx())
            .take(n)
            .map(|d| datom(d, schema).into())
            .collect(),
    };
    Doc::new()
        .with("t", report.t())
        .with("tx", Value::Ref(report.tx()))
        .with("tx-instant", report.tx_instant())
        .maybe("principal", own("tx/principal").or_else(|| own("tx/by")))
        .with("datom-count", facts)
        .with("datoms", Tree::List(shown))
}

/// `GET …/datoms?index=eavt&components=[…]&as_of=&limit=`: an index, from a prefix.
pub async fn datoms(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&[
        "index",
        "components",
        "e",
        "a",
        "v",
        "as_of",
        "since",
        "history",
        "limit",
        "offset",
    ])?;
    let format = call.accept_tree(None)?;
    let most = call.limits().result_rows;
    let (basis, doc) = call
        .server
        .readers
        .run(move |_| {
            let db = crate::ask::view(database.conn.db(), &params)?;
            let components = components(&params)?;
            let name = params.get("index").map_or("eavt", |n| n).to_ascii_lowercase();
            let index: annals::Index =
                name.parse().map_err(|_| bad("index", "is none of eavt, aevt, avet, vaet"))?;
            let limit = params.number("limit")?.unwrap_or(1_000).min(most);
            let offset = params.number("offset")?.unwrap_or(0);
            let schema = db.schema().clone();
            let (mut skip, mut taken, mut next) = (offset, Vec::new(), None);
            db.visit_datoms(index, &components, &mut |d| {
                if skip > 0 {
                    skip -= 1;
                } else if (taken.len() as u64) < limit {
                    taken.push(Tree::Value(datom(&d, &schema)));
                } else {
                    next = Some(offset + limit);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })
            .or_problem()?;
            Ok((
                db.t(),
                Doc::new()
                    .with("basis-t", db.t())
                    .with("datoms", Tree::List(taken))
                    .maybe("next-offset", next),
            ))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, basis, doc))
}

/// `components` as an EDN vector, or `e`, `a`, `v` one by one.
fn components(params: &crate::extract::Params) -> Result<Vec<Value>, Problem> {
    let edn = |name: &str, text: &str| annals::edn::read_value(text).map_err(|_| bad(name, "is not EDN"));
    if let Some(text) = params.get("components") {
        return match edn("components", text)? {
            Value::Vector(items) | Value::List(items) => Ok(items.to_vec()),
            _ => Err(bad("components", "is not a vector")),
        };
    }
    let order: &[&str] = match params.get("index").unwrap_or("eavt").to_ascii_lowercase().as_str() {
        "aevt" => &["a", "e", "v"],
        "avet" => &["a", "v", "e"],
        "vaet" => &["v", "a", "e"],
        _ => &["e", "a", "v"],
    };
    let given = order.iter().take_while(|name| params.get(name).is_some()).count();
    if let Some(name) = order[given..].iter().find(|name| params.get(name).is_some()) {
        return Err(bad(name, "stands behind a component that is not given")
            .hint(format!("this index takes {} in this order", order.join(", "))));
    }
    order[..given].iter().map(|name| edn(name, params.get(name).unwrap_or(""))).collect()
}
