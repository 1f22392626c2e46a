//! `/query`, `/pull`, `/diff`, `/explain`.
//!
//! 1. An answer as of a past time never changes: it carries a strong ETag and may
//!    be kept for ever; `If-None-Match` with that tag costs no query. That holds
//!    for POST too, where it is our own addition: the request only reads.
//! 2. Rows leave in chunks, encoded as they go; what fits one chunk is one body.
//! 3. Only NDJSON and CSV may be longer than `result_rows`: in the other formats a
//!    cut cannot be seen.

use crate::{
    answer::{self, Answer, none_match, not_modified},
    ask::Ask,
    call::Call,
    extract::{self, Format, Params},
    failure::{Failure, OrProblem},
    prepared::{inputs, placed},
    routes::{entity, examine::examined, projections},
    state::{Database, Server},
    token::Scope,
    wire::{
        problem::{Class, Problem},
        rows::{Encoder, Encoding, Lines, Shape, Table},
        tree::{Doc, Tree},
        value::Style,
    },
};
use annals::{Cancel, Db, Eid, IntoTimePoint, Query, QueryOptions, T, Value};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Bytes of one chunk of an answer.
const CHUNK: usize = 64 << 10;

const ROWS: [Format; 4] = [Format::Json, Format::Edn, Format::Ndjson, Format::Csv];

/// `POST …/query`
pub async fn post(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    call.params = std::mem::take(&mut call.params).only(&[])?;
    let (sent, ask, body) = Ask::post(&mut call).await?;
    let format = call.accept(&ROWS, Some(sent))?;
    answer(call, database, ask, &body, format).await
}

/// `GET …/query?q=…`
pub async fn get(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params: Params = std::mem::take(&mut call.params).only(&[
        "q",
        "query",
        "args",
        "rules",
        "as_of",
        "since",
        "history",
        "min_t",
        "min_position",
        "wait",
        "timeout_ms",
        "limit",
        "types",
        "exact",
    ])?;
    let ask = Ask::get(&params)?;
    let format = call.accept(&ROWS, None)?;
    let identity = Bytes::from(format!("{ask:?}"));
    answer(call, database, ask, &identity, format).await
}

async fn answer(call: Call, database: Arc<Database>, ask: Ask, identity: &[u8], format: Format) -> Answer {
    let wait =
        ask.wait.unwrap_or(Duration::from_secs(5)).min(Duration::from_millis(call.limits().query_max_ms));
    database.reach(ask.min_t, wait).await?;
    if let Some(position) = ask.min_position {
        let of = database.clone();
        call.server.readers.run(move |_| projections::reach(&of, position, wait)).await?;
    }
    let newest = database.conn.db();
    let fixed = ask.is_fixed(&newest);
    let db = ask.view(newest)?;
    let tag = fixed.then(|| etag(&database, &db, identity, format)).transpose()?;
    if let Some(tag) = &tag
        && none_match(&call.headers, tag)
    {
        return Ok(not_modified(tag, db.t()));
    }
    let server = call.server.clone();
    let (basis, mut encoder, first, facts, used) = call
        .server
        .readers
        .run(move |cancel| {
            let query = server.prepared.query(&ask.query)?;
            let (table, used) = table(&server, &db, &query, &ask, cancel)?;
            let most = server.limits.result_rows;
            if matches!(format, Format::Json | Format::Edn) && table.rows.len() as u64 > most {
                return Err(Problem::new(
                    Class::Meaning,
                    "query/too-many-rows",
                    format!(
                        "the answer has {} rows; at most {most} are sent in this format",
                        table.rows.len()
                    ),
                )
                .hint("ask for application/x-ndjson, or set a limit")
                .with("rows", table.rows.len()));
            }
            server.metrics.rows_sent.fetch_add(table.rows.len() as u64, Ordering::Relaxed);
            let encoding = match format {
                Format::Edn => Encoding::Edn,
                Format::Ndjson => Encoding::Ndjson,
                Format::Csv => Encoding::Csv,
                Format::Json | Format::Sse => Encoding::Json,
            };
            let rows = table.rows.len() as u64;
            let mut encoder = Encoder::new(table, encoding);
            let first = encoder.chunk(CHUNK).unwrap_or_default();
            Ok((db.t(), encoder, first, facts(&ask, &db, rows, used.rows), used))
        })
        .await?;
    let mut response = match encoder.is_done() {
        true => Response::new(Body::from(first)),
        false => {
            let chunks = std::iter::once(first).chain(std::iter::from_fn(move || encoder.chunk(CHUNK)));
            Response::new(Body::from_stream(futures_util::stream::iter(chunks.map(Ok::<String, Infallible>))))
        }
    };
    traced(&mut response, facts);
    let headers = response.headers_mut();
    let work = format!("rows-read;desc=\"{}\", rows-made;desc=\"{}\"", used.rows_read, used.rows);
    if let Ok(value) = HeaderValue::from_str(&work) {
        headers.insert("server-timing", value);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    answer::basis_header(headers, basis);
    if let Some(tag) = tag {
        answer::immutable(&mut response, &tag);
    }
    Ok(response)
}

#[cfg(feature = "otel")]
fn facts(ask: &Ask, db: &Db, rows: u64, rows_made: u64) -> crate::otel::QueryFacts {
    let hash = blake3::hash(ask.query.text.as_bytes()).to_hex();
    crate::otel::QueryFacts { hash: hash[..16].to_owned(), basis: db.t().0, rows, rows_made }
}

/// Tells the edge what its span should say of the query.
#[cfg(feature = "otel")]
fn traced(response: &mut Response, facts: crate::otel::QueryFacts) {
    response.extensions_mut().insert(facts);
}

#[cfg(not(feature = "otel"))]
fn facts(_: &Ask, _: &Db, _: u64, _: u64) {}

#[cfg(not(feature = "otel"))]
fn traced(_: &mut Response, (): ()) {}

/// The tag of an answer that cannot change: of the database's past and the request.
fn etag(database: &Database, db: &Db, identity: &[u8], format: Format) -> Result<String, Problem> {
    let mut hash = blake3::Hasher::new();
    hash.update(database.name.as_bytes());
    hash.update(&db.t().0.to_be_bytes());
    // Another database restored under the same name has other instants.
    hash.update(&db.instant_of(db.t()).or_problem()?.unwrap_or_default().0.to_be_bytes());
    hash.update(format.media_type().as_bytes());
    hash.update(identity);
    Ok(format!("\"{}\"", &hash.finalize().to_hex()[..32]))
}

/// The options of a run for a client.
pub fn options(server: &Server, ask: &Ask, query: &Query, cancel: Cancel) -> QueryOptions {
    let limits = &server.limits;
    let timeout = limits.query_timeout(ask.timeout_ms);
    let own = query.ast().limit.as_ref().map(|l| l.node);
    let asked = ask.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    QueryOptions {
        timeout_ms: Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        max_rows: limits.query_rows,
        max_bytes: limits.query_bytes,
        cancel,
        limit: match (asked, own) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, None) => a,
            (None, Some(_)) => None,
        },
        ..QueryOptions::default()
    }
}

/// Runs a query.
pub fn run(
    server: &Server,
    db: &Db,
    query: &Query,
    ask: &Ask,
    cancel: Cancel,
) -> Result<annals::Answer, Problem> {
    let began = std::time::Instant::now();
    let options = options(server, ask, query, cancel);
    let answer = db.query_with(query, inputs(query, ask), &options);
    let took = began.elapsed();
    if took.as_millis() >= u128::from(server.limits.slow_query_ms) {
        server.metrics.slow_queries.fetch_add(1, Ordering::Relaxed);
        // Clauses and arguments hold users' data: the log gets a hash and the shape of the plan.
        let hash = blake3::hash(ask.query.text.as_bytes()).to_hex();
        let plan = answer.as_ref().map(plan_brief).unwrap_or_default();
        tracing::warn!(query = &hash[..16], ms = took.as_millis() as u64, t = db.t().0, ok = answer.is_ok(), %plan, "slow query");
    }
    answer.map_err(|e| placed(e.problem(), &ask.query))
}

fn plan_brief(a: &annals::Answer) -> String {
    let steps = a.stats.steps.iter().map(|s| format!("{} rows={} us={}", s.how, s.rows, s.micros));
    steps.collect::<Vec<_>>().join("; ")
}

/// Runs a query and lays its answer out for the wire.
fn table(
    server: &Server,
    db: &Db,
    query: &Query,
    ask: &Ask,
    cancel: Cancel,
) -> Result<(Table, annals::Usage), Problem> {
    let answer = run(server, db, query, ask, cancel)?;
    let used = answer.stats.used;
    let (shape, keys) = shape(answer.shape);
    let mut head = vec![("basis-t", long(db.t()))];
    if ask.min_position.is_some() {
        // Who cares how far the projections are is told how far all of them are.
        head.push(("complete-to", long(db.complete_to().or_problem()?)));
    }
    let columns = match keys.is_empty() {
        true => columns(query),
        false => keys
            .iter()
            .map(|k| match k {
                Value::Keyword(k) => k.to_string(),
                Value::String(s) => s.to_string(),
                other => annals::edn::print(other),
            })
            .collect(),
    };
    let table = Table {
        shape,
        columns,
        keys,
        rows: Lines::Answer(answer.rows),
        head,
        types: ask.types,
        style: if ask.exact { Style::Exact } else { Style::Plain },
    };
    Ok((table, used))
}

fn shape(of: annals::Shape) -> (Shape, Vec<Value>) {
    match of {
        annals::Shape::Rel => (Shape::Rel, Vec::new()),
        annals::Shape::Coll => (Shape::Coll, Vec::new()),
        annals::Shape::Tuple => (Shape::Tuple, Vec::new()),
        annals::Shape::Scalar => (Shape::Scalar, Vec::new()),
        annals::Shape::Maps(keys) => (Shape::Maps, keys),
        annals::Shape::Map(keys) => (Shape::Map, keys),
    }
}

/// The find elements as written: what the columns are called.
pub fn columns(query: &Query) -> Vec<String> {
    query.ast().find.elems.iter().map(ToString::to_string).collect()
}

fn long(t: T) -> Value {
    Value::Long(i64::try_from(t.0).unwrap_or(i64::MAX))
}

/// `POST …/diff`: rows gained and lost between `t1` and `t2`, and by which transaction.
pub async fn diff(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let (sent, ask, _) = Ask::post(&mut call).await?;
    let format = call.accept_tree(Some(sent))?;
    let server = call.server.clone();
    let (t, doc) = call
        .server
        .readers
        .run(move |cancel| {
            let newest = database.conn.db();
            let query = server.prepared.query(&ask.query)?;
            let missing = || Problem::new(Class::Syntax, "request/member", "member \"t1\" is missing");
            let at = |v: &Value| newest.t_of(v).or_problem();
            let t1 = at(ask.t1.as_ref().ok_or_else(missing)?)?;
            let t2 = ask.t2.as_ref().map_or(Ok(newest.t()), at)?;
            let options = options(&server, &ask, &query, cancel);
            let rows = newest
                .diff_with(&query, inputs(&query, &ask), t1, t2, &options)
                .map_err(|e| placed(e.problem(), &ask.query))?;
            let most = usize::try_from(server.limits.result_rows).unwrap_or(usize::MAX);
            if rows.len() > most {
                return Err(Problem::new(
                    Class::Meaning,
                    "query/too-many-rows",
                    format!("the difference has more than {most} rows"),
                ));
            }
            let list = |gained: bool| -> Tree {
                rows.iter()
                    .filter(|r| r.gained == gained)
                    .map(|r| Doc::new().with("row", Value::vector(r.values.iter().cloned())).with("t", r.t))
                    .collect()
            };
            let mut doc = Doc::new()
                .with("basis-t", t1.max(t2))
                .with("t1", t1)
                .with("t2", t2)
                .with("columns", columns(&query).into_iter().map(Tree::from).collect::<Tree>());
            if ask.types {
                doc = doc
                    .with("types", types(rows.iter().map(|r| &r.values[..]), query.ast().find.elems.len()));
            }
            Ok((t1.max(t2), doc.with("added", list(true)).with("removed", list(false))))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

fn types<'a>(rows: impl Iterator<Item = &'a [Value]> + Clone, width: usize) -> Tree {
    (0..width)
        .map(|i| {
            let mut kinds = rows.clone().filter_map(|r| r.get(i)).map(Value::kind).filter(|k| *k != "nil");
            match kinds.next() {
                None => "nil",
                Some(k) if kinds.all(|other| other == k) => k,
                Some(_) => "mixed",
            }
        })
        .collect()
}

/// `POST …/pull` `{pattern, entity, as_of, min_t}`
pub async fn pull(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let max = call.limits().body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    let (pattern, eid, as_of, min_t) = pull_request(sent, &body)?;
    database.reach(min_t, Duration::from_secs(5)).await?;
    let (t, doc) = call
        .server
        .readers
        .run(move |_| {
            let mut db = database.conn.db();
            if let Some(as_of) = &as_of {
                db = db.as_of(as_of).or_problem()?;
            }
            let e = entity::resolve(&db, eid)?;
            let tree = db.pull(pattern.as_str(), e).or_problem()?;
            Ok((db.t(), Doc::new().with("basis-t", db.t()).with("entity", tree)))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

type PullRequest = (String, Eid, Option<Value>, Option<u64>);

fn pull_request(sent: Format, body: &Bytes) -> Result<PullRequest, Problem> {
    let need = |what: &str| Problem::new(Class::Syntax, "request/member", what.to_owned());
    let (mut pattern, mut eid, mut as_of, mut min_t) = (None, None, None, None);
    for (name, v) in extract::members(sent, body)? {
        match (name.as_str(), v) {
            ("pattern", Value::String(s)) => pattern = Some(s.to_string()),
            ("pattern", v) => pattern = Some(annals::edn::print(&v)),
            ("entity" | "eid" | "id", Value::String(s)) => eid = Some(entity::eid(&s)?),
            ("entity" | "eid" | "id", v) => {
                eid = Some(Eid::from_value(&v).ok_or_else(|| need("member \"entity\" names no entity"))?)
            }
            ("as_of", Value::Nil) | ("min_t", Value::Nil) => {}
            ("as_of", v) => {
                (&v).into_time_point().map_err(|e| need(&e.to_string()))?;
                as_of = Some(v);
            }
            ("min_t", Value::Long(n)) if n >= 0 => min_t = u64::try_from(n).ok(),
            (name, _) => {
                return Err(extract::unknown_member(name, "pattern, entity, as_of, min_t"));
            }
        }
    }
    Ok((
        pattern.ok_or_else(|| extract::missing_member("pattern"))?,
        eid.ok_or_else(|| extract::missing_member("entity"))?,
        as_of,
        min_t,
    ))
}

/// `POST …/explain`: runs the query and says what each step did.
pub async fn explain(call: Call) -> Answer {
    examined(call, |asked, doc| {
        let answer = run(&asked.server, &asked.db, &asked.query, &asked.ask, asked.cancel.clone())?;
        let mut text = String::new();
        for s in &answer.stats.steps {
            let pad = "  ".repeat(s.depth as usize);
            text.push_str(&format!(
                "{pad}{} {} rows={} us={} runs={}\n",
                s.how, s.clause, s.rows, s.micros, s.runs
            ));
        }
        let steps: Vec<(u32, Doc)> = answer
            .stats
            .steps
            .iter()
            .map(|s| {
                let doc = Doc::new()
                    .with("op", s.how)
                    .with("detail", &*s.clause)
                    .with("actual", s.rows)
                    .with("runs", s.runs)
                    .with("us", s.micros);
                (s.depth, doc)
            })
            .collect();
        let used = answer.stats.used;
        Ok(doc
            .with("text", text)
            .with("plan", nested(&steps))
            .with("rows", answer.rows.len())
            .with("rows-read", used.rows_read)
            .with("rows-made", used.rows)
            .with("peak-bytes", used.peak_bytes)
            .with("prepare-us", answer.stats.prepare_us)
            .with("elapsed-us", used.elapsed_us)
            .with(
                "warnings",
                answer.warnings.iter().map(|w| Tree::from(w.message.as_str())).collect::<Tree>(),
            ))
    })
    .await
}

/// Steps with their depths as a tree.
pub(super) fn nested(steps: &[(u32, Doc)]) -> Tree {
    let Some((depth, _)) = steps.first() else { return Tree::List(Vec::new()) };
    let mut out = Vec::new();
    let mut i = 0;
    while i < steps.len() {
        let end = steps[i + 1..].iter().position(|(d, _)| d <= depth).map_or(steps.len(), |n| i + 1 + n);
        out.push(steps[i].1.clone().with("children", nested(&steps[i + 1..end])));
        i = end;
    }
    Tree::from_iter(out)
}
