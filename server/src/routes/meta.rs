//! The server about itself: health, readiness, metrics, limits, databases.

use crate::{
    answer::{self, Answer},
    call::Call,
    extract::Format,
    failure::OrProblem,
    state::{Database, Phase, Server},
    token::Scope,
    wire::{
        problem::{Class, Problem},
        tree::{Doc, Tree},
    },
};
use annals::{StoreStats, T};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use std::{sync::Arc, time::Duration};

/// `GET /health`: the process lives and answers. Touches no database.
pub async fn health(call: Call) -> Answer {
    let format = call.accept_tree(None)?;
    Ok(answer::tree(
        StatusCode::OK,
        format,
        T::GENESIS,
        Doc::new().with("status", "ok").with("version", env!("CARGO_PKG_VERSION")),
    ))
}

/// `GET /ready`: new work is welcome.
pub async fn ready(call: Call) -> Answer {
    let format = call.accept_tree(None)?;
    if *call.server.phase().borrow() > Phase::Ready {
        return Err(Problem::new(Class::Unavailable, "server/stopping", "the server is stopping").into());
    }
    Ok(answer::tree(StatusCode::OK, format, T::GENESIS, Doc::new().with("status", "ready")))
}

/// `GET /metrics`: Prometheus text. With tokens configured it needs one.
pub async fn metrics(call: Call) -> Answer {
    let server = &call.server;
    let mut gauges = Vec::new();
    for d in server.databases() {
        gauges.push((
            "annals_basis_t",
            "Newest durable transaction.",
            format!("{{db=\"{}\"}}", d.name),
            d.basis.borrow().0,
        ));
    }
    gauges.extend(sizes(server).await);
    for (pool, (running, waiting)) in [("read", server.readers.load()), ("write", server.writers.load())] {
        let label = |state: &str| format!("{{pool=\"{pool}\",state=\"{state}\"}}");
        gauges.push(("annals_pool", "Engine calls.", label("running"), running as u64));
        gauges.push(("annals_pool", "Engine calls.", label("waiting"), waiting as u64));
    }
    if let Some(bytes) = resident_bytes() {
        gauges.push(("process_resident_memory_bytes", "Resident memory.", String::new(), bytes));
    }
    if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
        gauges.push(("process_open_fds", "Open file descriptors.", String::new(), fds.count() as u64));
    }
    let mut response = Response::new(Body::from(server.metrics.render(&gauges)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}

type Gauge = (&'static str, &'static str, String, u64);

/// What each database takes, in memory and on disk; nothing when the readers are too busy to look.
async fn sizes(server: &Server) -> Vec<Gauge> {
    let databases = server.databases();
    let look = server.readers.run(move |_| {
        let of = |d: &Arc<Database>| Some((format!("{{db=\"{}\"}}", d.name), d.conn.stats().ok()?));
        Ok(databases.iter().filter_map(of).collect::<Vec<_>>())
    });
    let Ok(Ok(found)) = tokio::time::timeout(LOOK, look).await else { return Vec::new() };
    let mut gauges = Vec::new();
    for (name, help, get) in SIZES {
        gauges.extend(found.iter().map(|(label, stats)| (name, help, label.clone(), get(stats))));
    }
    gauges
}

/// How long metrics wait for a look at the databases.
const LOOK: Duration = Duration::from_secs(1);

/// Name, help, and where it is found.
type Size = (&'static str, &'static str, fn(&StoreStats) -> u64);

const SIZES: [Size; 4] = [
    ("annals_cache_bytes", "Memory of cached columns.", |s| s.cache_bytes as u64),
    ("annals_novelty_facts", "Changes not in the indexes yet.", |s| s.novelty_facts as u64),
    ("annals_index_bytes", "Bytes of the index file in use.", |s| s.index_bytes),
    ("annals_log_bytes", "Bytes of records in the log.", |s| s.log_bytes),
];

fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// `GET /v1/limits`: every ceiling, with its unit in its name.
pub async fn limits(call: Call) -> Answer {
    let format = call.accept_tree(None)?;
    let json = serde_json::to_value(&*call.server.limits).expect("limits are plain data");
    Ok(answer::tree(StatusCode::OK, format, T::GENESIS, Tree::Json(json)))
}

/// `GET /v1/db`: the databases this principal may know of.
pub async fn databases(call: Call) -> Answer {
    let format = call.accept_tree(None)?;
    let all = call.server.databases();
    let seen = all.iter().filter(|d| call.who.sees(&d.name));
    let list: Tree =
        seen.map(|d| Doc::new().with("name", d.name.as_str()).with("basis-t", *d.basis.borrow())).collect();
    let doc = Doc::new().with("databases", list).with("open", call.server.open_to_all());
    Ok(answer::tree(StatusCode::OK, format, T::GENESIS, doc))
}

/// `GET /v1/db/{name}?at=&min_t=&wait=`: one database: its basis, and which t a time means.
pub async fn database(mut call: Call) -> Answer {
    let format = call.accept_tree(None)?;
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["at", "min_t", "wait"])?;
    let wait = params.get("wait").map(|w| crate::extract::duration("wait", w)).transpose()?;
    let wait = wait.unwrap_or(Duration::from_secs(5)).min(Duration::from_millis(call.limits().query_max_ms));
    database.reach(params.number("min_t")?, wait).await?;
    let db = database.conn.db();
    let at = match params.get("at") {
        None => None,
        Some(at) => {
            let (at, of) = (at.to_owned(), db.clone());
            Some(call.server.readers.run(move |_| of.t_of(at.as_str()).or_problem()).await?)
        }
    };
    let doc = Doc::new()
        .with("name", database.name.as_str())
        .with("basis-t", db.t())
        .maybe("t", at)
        .with("read-only", call.server.config.read_only);
    Ok(answer::tree(StatusCode::OK, format, db.t(), doc))
}

/// Anything that is no route.
pub async fn nothing(_call: Call) -> Answer {
    Err(Problem::new(Class::NotFound, "request/no-route", "there is nothing here")
        .hint("see /openapi.json")
        .into())
}

/// A route of another method.
pub async fn wrong_method(_call: Call) -> Answer {
    Err(Problem::new(Class::Method, "request/method", "this route does not take that method")
        .hint("see /openapi.json")
        .into())
}

/// `GET /openapi.json`
pub async fn openapi(call: Call) -> Answer {
    call.accept(&[Format::Json], None)?;
    let mut response = Response::new(Body::from(crate::openapi::document().to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
