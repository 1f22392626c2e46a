//! `POST /v1/db/{name}/commands` and `GET …/commands/{key}`: asking the domain.
//!
//! 1. A command is carried out by the aggregate that the program which serves the
//!    database registered (`annals::Connection::register_commands`). Without one the
//!    answer names the categories there are.
//! 2. The principal and its `Idempotency-Key` make the command's id: sent again, the stored
//!    outcome is answered, after a restart too; with another request it is refused. Nobody
//!    meets another's keys: two principals may use the same one, and neither learns of the
//!    other's outcome. Only who holds the scope `admin` may ask after a command by its id.
//! 3. A rule that refuses is 422 with the rule's own code; a version that does not hold
//!    is 412, whether it stood in a header or in the body; a conflict that stayed is 409.
//! 4. `Prefer: respond-async` stores the command and answers 202; it is carried out even
//!    when the server is stopped in between.

use crate::{
    answer::{self, Answer},
    call::Call,
    extract::{self, Format},
    failure::{self, Failure, OrProblem},
    idempotency,
    routes::{append::append_problem, streams::encode, transact::json},
    state::{Database, Server},
    token::{Principal, Scope},
    wire::{
        problem::{Class, Problem},
        tree::{Doc, Tree},
    },
};
use annals::{
    T, Value,
    event::{
        Appended, CommandAnswer, CommandError, CommandId, CommandOutcome, CommandRequest, CommandStatus,
        Data, Dispatch, DispatchError, Mode, QueuedCommand,
    },
};
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// A command as it was sent.
struct Asked {
    category: String,
    id: Option<String>,
    ty: String,
    payload: Value,
    if_version: Option<u64>,
}

/// `POST …/commands`
pub async fn command(mut call: Call) -> Answer {
    let database = call.database(Scope::Write)?;
    call.params = std::mem::take(&mut call.params).only(&[])?;
    let max = call.limits().body_bytes;
    let (sent, body) = call.body(max).await?;
    let format = call.accept_tree(Some(sent))?;
    let asked = asked(sent, &body)?;
    let key = idempotency::key(&call.headers)?;
    if key.is_none() && call.server.config.commands_need_key {
        return Err(Problem::new(
            Class::Syntax,
            "command/no-key",
            "this server takes commands with an Idempotency-Key alone",
        )
        .hint("send Idempotency-Key: a fresh UUID, and the same one when you send the command again")
        .into());
    }
    let key = key.map_or_else(|| CommandId::fresh().to_string(), str::to_owned);
    let id = command_id(&call.who, &key);
    // Who, which request, from where: on the transaction, as on any other (`transact`).
    let mut dispatch = Dispatch::id(id)
        .actor(&*call.who.name)
        .tx("tx/principal", &*call.who.name)
        .tx("tx/request-id", &*call.id.0)
        .tx("tx/source", "http");
    let version = match (if_version(&call.headers)?, asked.if_version) {
        (Some(header), Some(body)) if header != body => {
            return Err(Problem::new(
                Class::Syntax,
                "request/precondition",
                format!("If-Match says version {header}, the body says {body}"),
            )
            .hint("send one of them")
            .into());
        }
        (header, body) => header.or(body),
    };
    if let Some(version) = version {
        dispatch = dispatch.if_version(version);
    }
    dispatch.meta.more.insert("request-id".into(), Value::string(&call.id.0));
    let request = CommandRequest {
        category: asked.category,
        id: asked.id,
        ty: asked.ty,
        payload: asked.payload,
        dispatch,
    };
    let of = database.clone();
    if prefers_async(&call.headers) {
        let work = move |_| {
            of.conn.submit(request).map_err(|e| command_problem(&e))?;
            // Sent again it may be decided already.
            Ok((of.conn.command_status(id).or_problem()?, of.conn.db().t()))
        };
        let (outcome, t) = call.server.writers.run(work).await?;
        return Ok(accepted(format, &database, (id, &key), outcome.as_ref(), t));
    }
    let done =
        call.server.writers.run(move |_| of.conn.command(request).map_err(|e| command_problem(&e))).await?;
    Ok(carried_out(format, &database, &key, &done))
}

/// `GET …/commands/{key}?wait=`
pub async fn status(mut call: Call) -> Answer {
    let database = call.database(Scope::Read)?;
    let params = std::mem::take(&mut call.params).only(&["wait"])?;
    let format = call.accept_tree(None)?;
    let wait = params.get("wait").map(|w| extract::duration("wait", w)).transpose()?.unwrap_or_default();
    let until = Instant::now() + wait.min(Duration::from_millis(call.limits().query_max_ms));
    let ids = ids(&call.who, call.part("key"));
    let mut basis = database.basis.clone();
    loop {
        let seen = *basis.borrow_and_update();
        let (of, ids) = (database.clone(), ids.clone());
        let find = move |_| {
            for id in ids {
                if let Some(outcome) = of.conn.command_status(id).or_problem()? {
                    return Ok(Some(outcome));
                }
            }
            Ok::<_, Problem>(None)
        };
        let outcome = call.server.readers.run(find).await?.ok_or_else(unknown)?;
        let left = until.saturating_duration_since(Instant::now());
        if outcome.status.is_final() || left.is_zero() {
            return shown(call.server.clone(), database, outcome, format).await;
        }
        // An outcome comes with a transaction; a failure that may pass comes without one.
        let moved = async { basis.wait_for(|t| *t > seen).await.is_ok() };
        let _ = tokio::time::timeout(left.min(Duration::from_millis(200)), moved).await;
    }
}

/// `GET …/commands`: what waits to be carried out, without what it holds. Scope admin.
pub async fn queued(mut call: Call) -> Answer {
    let database = call.database(Scope::Admin)?;
    call.params = std::mem::take(&mut call.params).only(&[])?;
    let format = call.accept_tree(None)?;
    let (t, doc) = call
        .server
        .readers
        .run(move |_| {
            let t = database.conn.db().t();
            let one = |q: &QueuedCommand| {
                let sender = q.sender.as_ref().map(|(process, instance)| format!("{process} {instance}"));
                Doc::new()
                    .with("command", q.id.to_string())
                    .with("category", q.to.category.as_str())
                    .with("id", q.to.id.as_str())
                    .with("type", q.to.ty.as_str())
                    .with("status", q.status.name())
                    .maybe("sender", sender)
            };
            let all = database.conn.queued_commands().or_problem()?;
            Ok((t, Doc::new().with("basis-t", t).with("commands", all.iter().map(one).collect::<Tree>())))
        })
        .await?;
    Ok(answer::tree(StatusCode::OK, format, t, doc))
}

/// `DELETE …/commands/{key}?why=`: takes a command out of the queue without carrying it out.
/// One's own by its key; who holds the scope `admin` any by its id.
pub async fn drop_queued(mut call: Call) -> Answer {
    let database = call.database(Scope::Write)?;
    let params = std::mem::take(&mut call.params).only(&["why"])?;
    let why = match params.get("why").map(str::trim).filter(|w| !w.is_empty()) {
        Some(why) => format!("{}: {why}", call.who.name),
        None => format!("dropped by {}", call.who.name),
    };
    let ids = ids(&call.who, call.part("key"));
    let t = call
        .server
        .writers
        .run(move |_| {
            let conn = &database.conn;
            for id in &ids {
                if conn.drop_command(*id, &why).map_err(|e| command_problem(&e))? {
                    return Ok(conn.db().t());
                }
            }
            for id in ids {
                if let Some(outcome) = conn.command_status(id).or_problem()? {
                    return Err(Problem::new(
                        Class::Conflict,
                        "command/decided",
                        "the command is decided: there is nothing to drop",
                    )
                    .with("status", outcome.status.name()));
                }
            }
            Err(unknown())
        })
        .await?;
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    answer::basis_header(response.headers_mut(), t);
    Ok(response)
}

/// What a principal may mean by a key.
fn ids(who: &Principal, key: &str) -> Vec<CommandId> {
    let mut ids = vec![command_id(who, key)];
    if who.has(Scope::Admin) {
        ids.extend(Uuid::parse_str(key).map(CommandId));
    }
    ids
}

fn unknown() -> Problem {
    Problem::new(Class::NotFound, "command/unknown", "no command with this key of yours was ever seen")
        .hint("it was not received: send it again with the same key")
}

async fn shown(
    server: Arc<Server>,
    database: Arc<Database>,
    outcome: CommandOutcome,
    format: Format,
) -> Answer {
    if let CommandStatus::Forgotten { since } = &outcome.status {
        return Err(Problem::new(
            Class::Gone,
            "command/forgotten",
            "what came of this command is not kept any more",
        )
        .with("since", since.to_string())
        .into());
    }
    let of = database.clone();
    let views = server
        .readers
        .run(move |_| {
            let all = of.conn.projections().map_err(|e| super::projections::projection_problem(&e))?;
            let late = all.iter().filter(|p| !matches!(p.mode, Mode::Inline));
            Ok(late.map(|p| (p.name.to_string(), long(p.position.0))).collect::<Vec<_>>())
        })
        .await?;
    let t = database.conn.db().t();
    let mut doc = Doc::new()
        .with("basis-t", t)
        .with("command", outcome.id.to_string())
        .with("status", outcome.status.name());
    match &outcome.status {
        CommandStatus::Done(appended) => doc = with_appended(doc, appended),
        CommandStatus::Rejected { code, message, detail } => {
            doc = doc.with("code", &**code).with("message", &**message).with("detail", detail.clone());
        }
        CommandStatus::Failed { code, message, attempts, retry_at } => {
            doc = doc
                .with("code", &**code)
                .with("message", &**message)
                .with("attempts", u64::from(*attempts))
                .with("retry-at", *retry_at);
        }
        _ => {}
    }
    Ok(answer::tree(StatusCode::OK, format, t, doc.with("views", Tree::Table(views))))
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let wishes = headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok());
    wishes.flat_map(|v| v.split(',')).any(|w| w.trim().eq_ignore_ascii_case("respond-async"))
}

/// 202: stored, to be carried out.
fn accepted(
    format: Format,
    database: &Database,
    (id, key): (CommandId, &str),
    outcome: Option<&CommandOutcome>,
    t: T,
) -> Response {
    let status = outcome.map_or("accepted", |o| o.status.name());
    let doc = Doc::new().with("basis-t", t).with("command", id.to_string()).with("status", status);
    let mut response = answer::tree(StatusCode::ACCEPTED, format, t, doc);
    answer::set(&mut response, header::LOCATION, &location(database, key));
    answer::set(&mut response, header::RETRY_AFTER, "1");
    answer::set(&mut response, axum::http::HeaderName::from_static("preference-applied"), "respond-async");
    response
}

/// Under which the ids of commands are made from principals and their keys.
const KEYS: Uuid = Uuid::from_u128(0x7f0c_94d1_6a3b_4c58_9e27_51d6_83b0_2fa4);

/// The id of the command that a principal sends under a key.
fn command_id(who: &Principal, key: &str) -> CommandId {
    // Neither holds a control character.
    CommandId::derived(KEYS, &format!("{}\0{key}", who.name), 0)
}

/// The path of a command's status.
fn location(database: &Database, key: &str) -> String {
    format!("/v1/db/{}/commands/{}", database.name, encode(key))
}

fn carried_out(format: Format, database: &Database, key: &str, done: &CommandAnswer) -> Response {
    let t = match done.appended.t {
        // Nothing was written: the answer is based on what there is.
        T::GENESIS => database.conn.db().t(),
        t => t,
    };
    let doc = Doc::new()
        .with("basis-t", t)
        .with("command", done.id.to_string())
        .with("status", "done")
        .with("id", done.key.as_str())
        .with("stream", done.stream.as_str())
        .with("version", done.version.0)
        .with("retries", u64::from(done.retries));
    let status = if done.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = answer::tree(status, format, t, with_appended(doc, &done.appended));
    answer::set(&mut response, header::ETAG, &format!("\"v{}\"", done.version.0));
    let stream = format!("/v1/db/{}/streams/{}", database.name, encode(done.stream.as_str()));
    let place = if done.created { stream } else { location(database, key) };
    let name = if done.created { header::LOCATION } else { header::CONTENT_LOCATION };
    answer::set(&mut response, name, &place);
    response
}

fn with_appended(doc: Doc, a: &Appended) -> Doc {
    let versions: Vec<(String, Value)> = a.versions.iter().map(|(s, v)| (s.to_string(), long(v.0))).collect();
    let n = if a.first.0 == 0 { 0 } else { a.last.0 + 1 - a.first.0 };
    doc.with("t", a.t)
        .maybe("first", (n > 0).then_some(a.first.0))
        .maybe("last", (n > 0).then_some(a.last.0))
        .with("events", n)
        .with("versions", Tree::Table(versions))
        .with("replayed", a.replayed)
}

fn long(n: u64) -> Value {
    Value::Long(i64::try_from(n).unwrap_or(i64::MAX))
}

/// `If-Match: "v3"`
fn if_version(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(tag) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let tag = tag.to_str().unwrap_or("").trim();
    let version = tag.strip_prefix("\"v").and_then(|t| t.strip_suffix('"')).and_then(|n| n.parse().ok());
    version.map(Some).ok_or_else(|| {
        Problem::new(Class::Syntax, "request/precondition", "If-Match of a command is \"v3\": a version")
            .hint("the tag is the one the stream's ETag gave")
    })
}

/// `{category, id?, type, payload, if_version?}`, or reSolve's names for them.
fn asked(sent: Format, body: &Bytes) -> Result<Asked, Problem> {
    let entries: Vec<(String, Value)> = match sent {
        Format::Edn => {
            match annals::edn::read_value(extract::utf8(body)?).map_err(|e| crate::ask::syntax(e, "body"))? {
                Value::Map(entries) => entries
                    .iter()
                    .map(|(k, v)| match k {
                        Value::Keyword(k) => Ok((k.as_str().replace('-', "_"), v.clone())),
                        _ => Err(member("body", "has keywords for keys")),
                    })
                    .collect::<Result<_, _>>()?,
                _ => return Err(member("body", "is a map with :category, :type and :payload")),
            }
        }
        _ => match json(body)? {
            serde_json::Value::Object(members) => members
                .iter()
                .map(|(k, v)| {
                    // As events' payloads are read: strings stay strings, keys become keywords.
                    let data = Data::from_json(v).and_then(|d| d.value());
                    Ok((k.replace('-', "_"), data.map_err(|e| member(k, &e.to_string()))?))
                })
                .collect::<Result<_, Problem>>()?,
            _ => return Err(member("body", "is an object with category, type and payload")),
        },
    };
    let text = |name: &str, v: Value| match v {
        Value::String(s) => Ok(s.to_string()),
        Value::Keyword(k) => Ok(k.as_str().to_owned()),
        _ => Err(member(name, "is a string")),
    };
    let (mut category, mut id, mut ty, mut payload, mut if_version) = (None, None, None, None, None);
    for (name, v) in entries {
        match (name.as_str(), v) {
            ("id" | "aggregateId" | "if_version", Value::Nil) => {}
            ("category" | "aggregateName", v) => category = Some(text(&name, v)?),
            ("id" | "aggregateId", v) => id = Some(text(&name, v)?).filter(|id| !id.is_empty()),
            ("type", v) => ty = Some(text(&name, v)?),
            ("payload", v) => payload = Some(v),
            ("if_version", Value::Long(n)) => {
                if_version = Some(u64::try_from(n).map_err(|_| member(&name, "is a version"))?);
            }
            ("if_version", _) => return Err(member(&name, "is a version")),
            (name, _) => {
                let name: String = name.chars().take(40).collect();
                return Err(Problem::new(
                    Class::Syntax,
                    "request/unknown-member",
                    format!("there is no member {name:?}"),
                )
                .hint("known: category, id, type, payload, if_version; or aggregateName, aggregateId"));
            }
        }
    }
    Ok(Asked {
        category: category.ok_or_else(|| member("category", "is missing"))?,
        id,
        ty: ty.ok_or_else(|| member("type", "is missing"))?,
        payload: payload.unwrap_or(Value::Nil),
        if_version,
    })
}

fn member(name: &str, what: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    Problem::new(Class::Syntax, "request/member", format!("member {name:?} {what}"))
}

/// A command that was not carried out.
fn command_problem(e: &CommandError) -> Problem {
    let plain = || failure::problem(e.class(), "command/failed", e.diagnostics());
    match e {
        DispatchError::Rejected { error, code, replayed } => {
            rejected(code, &error.message, &error.detail).with("replayed", *replayed)
        }
        DispatchError::RejectedBefore(r) => rejected(&r.code, &r.message, &r.detail).with("replayed", true),
        DispatchError::WrongVersion { actual, expected, .. } => {
            let mut p = plain().with("actual_version", actual.0).with("expected_version", expected.0);
            p.class = Class::Precondition;
            p
        }
        DispatchError::TooManyConflicts { attempts, .. } => plain().with("attempts", *attempts),
        DispatchError::Forgotten { .. } => {
            let mut p = plain();
            p.class = Class::Gone;
            p
        }
        DispatchError::UnknownCategory { known, .. } => {
            let mut p = plain().with("known", known.clone());
            p.class = Class::Meaning;
            p
        }
        DispatchError::UnknownCommand { known, .. } => plain().with("known", known.clone()),
        DispatchError::Append(e) => append_problem(e, false),
        DispatchError::Panicked { about, command, message } => {
            tracing::error!(%about, %command, %message, "a rule panicked");
            Problem::new(
                Class::Internal,
                "command/panicked",
                "the rule for this command failed; nothing was stored",
            )
        }
        _ => plain(),
    }
}

fn rejected(code: &str, message: &str, detail: &Value) -> Problem {
    Problem::new(Class::Meaning, code.to_owned(), message)
        .with("rejected", true)
        .with("detail-data", crate::wire::value::to_json(detail))
}

impl Failure for CommandError {
    fn problem(&self) -> Problem {
        command_problem(self)
    }
}
