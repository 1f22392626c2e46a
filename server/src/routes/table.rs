//! The table. Adding a route is adding a line here: it is then served and documented.

use super::{
    admin, append, changes, commands, console, copy, entity, log, meta, preview, projections, proof, query,
    schema, streams, subscribe, timeline, transact, why,
};
use crate::state::Server;
use axum::routing::{MethodRouter, get, post};
use std::sync::Arc;

/// A path with what is served under it.
pub struct Route {
    /// The pattern.
    pub path: &'static str,
    /// Serves it.
    pub handler: MethodRouter<Arc<Server>>,
    /// Its methods, for the OpenAPI document.
    pub operations: Vec<Operation>,
}

/// One method of a path, described.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// `get`, `post`, `delete`.
    pub method: &'static str,
    /// Name for generated clients.
    pub id: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Group.
    pub tag: &'static str,
    /// Query parameters: name, type, meaning.
    pub params: Vec<(&'static str, &'static str, &'static str)>,
    /// Request headers with a meaning here.
    pub headers: Vec<(&'static str, &'static str)>,
    /// Name of the schema of the JSON body, when there is one.
    pub body: Option<&'static str>,
    /// Name of the schema of the JSON answer.
    pub answer: Option<&'static str>,
    /// Statuses of success.
    pub ok: Vec<u16>,
    /// Statuses of refusal besides those every route has.
    pub refusals: Vec<u16>,
    /// Media types of success.
    pub media: Vec<&'static str>,
}

const ROWS: [&str; 4] = ["application/json", "application/edn", "application/x-ndjson", "text/csv"];
const TREE: [&str; 2] = ["application/json", "application/edn"];
const SSE: [&str; 1] = ["text/event-stream"];

const AS_OF: (&str, &str, &str) =
    ("as_of", "time", "A t, a transaction's id, or a date-time: the database as it was then.");
const SINCE: (&str, &str, &str) = ("since", "time", "Only what was asserted after this time.");
const HISTORY: (&str, &str, &str) =
    ("history", "boolean", "Assertions and retractions instead of what holds.");
const LIMIT: (&str, &str, &str) = ("limit", "integer", "Rows at most.");

fn op(method: &'static str, id: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation { method, id, summary, tag, ok: vec![200], media: TREE.to_vec(), ..Operation::default() }
}

impl Operation {
    fn params(mut self, params: &[(&'static str, &'static str, &'static str)]) -> Operation {
        self.params = params.to_vec();
        self
    }
    fn headers(mut self, headers: &[(&'static str, &'static str)]) -> Operation {
        self.headers = headers.to_vec();
        self
    }
    fn body(mut self, schema: &'static str) -> Operation {
        self.body = Some(schema);
        self
    }
    fn answer(mut self, schema: &'static str) -> Operation {
        self.answer = Some(schema);
        self
    }
    fn media(mut self, media: &[&'static str]) -> Operation {
        self.media = media.to_vec();
        self
    }
    fn ok(mut self, statuses: &[u16]) -> Operation {
        self.ok = statuses.to_vec();
        self
    }
    fn refuses(mut self, statuses: &[u16]) -> Operation {
        self.refusals = statuses.to_vec();
        self
    }
}

fn route(
    path: &'static str,
    handler: MethodRouter<Arc<Server>>,
    operations: impl IntoIterator<Item = Operation>,
) -> Route {
    Route { path, handler, operations: operations.into_iter().collect() }
}

/// Every route.
pub fn table() -> Vec<Route> {
    let asks = [408, 422, 503];
    vec![
        route("/", get(console::index), []),
        route("/console/{*path}", get(console::asset), []),
        route(
            "/health",
            get(meta::health),
            [op("get", "health", "server", "The process lives.").answer("Status")],
        ),
        route(
            "/ready",
            get(meta::ready),
            [op("get", "ready", "server", "New work is welcome.").answer("Status").refuses(&[503])],
        ),
        route(
            "/metrics",
            get(meta::metrics),
            [op("get", "metrics", "server", "Counters, as Prometheus reads them.").media(&["text/plain"])],
        ),
        route(
            "/openapi.json",
            get(meta::openapi),
            [op("get", "openapi", "server", "This document.").media(&["application/json"])],
        ),
        route(
            "/v1/limits",
            get(meta::limits),
            [op("get", "limits", "server", "Every ceiling, with its unit in its name.").answer("Limits")],
        ),
        route(
            "/v1/db",
            get(meta::databases),
            [op("get", "databases", "server", "The databases you may know of.").answer("Databases")],
        ),
        route(
            "/v1/db/{name}",
            get(meta::database),
            [op("get", "database", "server", "One database and its basis.")
                .params(&[
                    ("at", "time", "A date-time: which t it means."),
                    ("min_t", "integer", "Wait until the database has reached this t."),
                    ("wait", "duration", "How long: 5s, 200ms."),
                ])
                .answer("Database")
                .refuses(&[422, 503])],
        ),
        route(
            "/v1/db/{name}/transact",
            post(transact::transact),
            [op("post", "transact", "facts", "Makes a transaction.")
                .params(&[("tx_data", "boolean", "Answer with the datoms too.")])
                .headers(&[(
                    "Idempotency-Key",
                    "Sent again with the same key, the transaction is made once.",
                )])
                .body("Transaction")
                .answer("Report")
                .refuses(&[409, 422, 503, 507])],
        ),
        route(
            "/v1/db/{name}/with",
            post(transact::with),
            [op("post", "with", "facts", "What a transaction would do; nothing is written.")
                .params(&[AS_OF])
                .body("Transaction")
                .answer("Report")
                .refuses(&[409, 422])],
        ),
        route(
            "/v1/db/{name}/query",
            get(query::get).post(query::post),
            [
                op("post", "query", "facts", "Answers a Datalog query, as of any time.")
                    .body("Query")
                    .answer("Rows")
                    .media(&ROWS)
                    .refuses(&asks),
                op("get", "queryByUrl", "facts", "The same with the query in the URL: cacheable, linkable.")
                    .params(&[
                        ("q", "edn", "The query, EDN."),
                        ("args", "edn", "An EDN vector of inputs."),
                        ("rules", "edn", "EDN."),
                        AS_OF,
                        SINCE,
                        HISTORY,
                        ("min_t", "integer", "Wait until the database has reached this t."),
                        ("timeout_ms", "integer", "Deadline."),
                        LIMIT,
                        ("types", "boolean", "Say the type of each column."),
                        ("exact", "boolean", "Lossless JSON."),
                    ])
                    .answer("Rows")
                    .media(&ROWS)
                    .ok(&[200, 304])
                    .refuses(&asks),
            ],
        ),
        route(
            "/v1/db/{name}/pull",
            post(query::pull),
            [op("post", "pull", "facts", "A tree of what an entity says.")
                .body("Pull")
                .answer("Pulled")
                .refuses(&[404, 422])],
        ),
        route(
            "/v1/db/{name}/diff",
            post(query::diff),
            [op("post", "diff", "facts", "Rows gained and lost between two times.")
                .body("Diff")
                .answer("Difference")
                .refuses(&asks)],
        ),
        route(
            "/v1/db/{name}/explain",
            post(query::explain),
            [op("post", "explain", "facts", "How a query is run.")
                .body("Query")
                .answer("Plan")
                .refuses(&asks)],
        ),
        route(
            "/v1/db/{name}/plan",
            post(proof::plan),
            [op(
                "post",
                "plan",
                "facts",
                "The steps a query would take, with the rows expected; nothing is run.",
            )
            .body("Query")
            .answer("Plan")
            .refuses(&asks)],
        ),
        route(
            "/v1/db/{name}/prove",
            post(proof::prove),
            [op(
                "post",
                "prove",
                "facts",
                "Why a row is in an answer: the facts, tests and rules it rests on.",
            )
            .body("Row")
            .answer("Proof")
            .refuses(&asks)],
        ),
        route(
            "/v1/db/{name}/why-not",
            post(proof::why_not),
            [op("post", "whyNot", "facts", "The clause that keeps a row out of an answer.")
                .body("Row")
                .answer("WhyNot")
                .refuses(&asks)],
        ),
        route(
            "/v1/db/{name}/datoms",
            get(log::datoms),
            [op("get", "datoms", "facts", "An index, from a prefix.")
                .params(&[
                    ("index", "index", "eavt, aevt, avet or vaet."),
                    ("components", "edn", "An EDN vector, in the index's order."),
                    ("e", "edn", "EDN."),
                    ("a", "edn", "EDN."),
                    ("v", "edn", "EDN."),
                    AS_OF,
                    SINCE,
                    HISTORY,
                    LIMIT,
                    ("offset", "integer", "Datoms to skip."),
                ])
                .answer("Datoms")
                .refuses(&[422])],
        ),
        route(
            "/v1/db/{name}/log",
            get(log::log),
            [op("get", "log", "facts", "Transactions [from, to), oldest first.")
                .params(&[
                    ("from", "time", "A t or a date-time."),
                    ("to", "time", "A t or a date-time; exclusive."),
                    LIMIT,
                    ("datoms", "integer", "Datoms shown of each, at most."),
                ])
                .answer("Log")],
        ),
        route(
            "/v1/db/{name}/entity/{id}",
            get(entity::entity),
            [op("get", "entity", "facts", "What an entity says.")
                .params(&[AS_OF, SINCE])
                .answer("Entity")
                .refuses(&[422])],
        ),
        route(
            "/v1/db/{name}/entity/{id}/history",
            get(entity::history),
            [op("get", "entityHistory", "facts", "An entity's life.")
                .params(&[("attr", "names", "Only this attribute."), AS_OF])
                .answer("History")
                .refuses(&[422])],
        ),
        route(
            "/v1/db/{name}/schema",
            get(schema::schema),
            [op("get", "schema", "facts", "Attributes and idents.")
                .params(&[
                    AS_OF,
                    ("counts", "boolean", "Count the facts of each."),
                    ("names", "boolean", "Every name with its entity, former ones included."),
                ])
                .answer("Schema")],
        ),
        route(
            "/v1/db/{name}/timeline",
            get(timeline::timeline),
            [op("get", "timeline", "facts", "How transactions are spread over time.")
                .params(&[("buckets", "integer", "How many.")])
                .answer("Timeline")],
        ),
        route(
            "/v1/db/{name}/changes",
            get(changes::changes),
            [op("get", "changes", "live", "Every transaction as a server-sent event; id = t.")
                .params(&[
                    ("after", "integer", "Resume after this t."),
                    ("from", "integer", "Begin with this t."),
                    ("attr", "names", "Only transactions that touch these attributes, with commas."),
                    ("brief", "boolean", "Leave the datoms out."),
                ])
                .headers(&[("Last-Event-ID", "Resume after this t.")])
                .media(&SSE)
                .refuses(&[422])],
        ),
        route(
            "/v1/db/{name}/subscribe",
            post(subscribe::subscribe),
            [op(
                "post",
                "subscribe",
                "live",
                "A live query: its rows, then what each transaction adds and removes; id = t.",
            )
            .headers(&[("Last-Event-ID", "Resume after this t.")])
            .body("Query")
            .media(&SSE)
            .refuses(&asks)],
        ),
        route(
            "/v1/db/{name}/streams",
            get(streams::list),
            [op("get", "streams", "events", "Every stream with its version.")
                .params(&[AS_OF])
                .answer("Streams")],
        ),
        route(
            "/v1/db/{name}/streams/{id}",
            get(streams::stream).delete(admin::delete_stream),
            [
                op(
                    "get",
                    "stream",
                    "events",
                    "A page of a stream; as server-sent events, the stream as it grows.",
                )
                .params(&[("from", "integer", "First version."), LIMIT, AS_OF])
                .headers(&[("Last-Event-ID", "Resume after this position.")])
                .answer("Events")
                .media(&["application/json", "application/edn", "text/event-stream"])
                .ok(&[200, 304])
                .refuses(&[410]),
                op("delete", "deleteStream", "events", "Ends a stream, softly or for good.")
                    .params(&[("tombstone", "boolean", "For good.")])
                    .ok(&[204])
                    .refuses(&[409, 410, 422]),
            ],
        ),
        route(
            "/v1/db/{name}/streams/{id}/events",
            post(append::append_to),
            [op("post", "appendTo", "events", "Appends events to a stream.")
                .headers(&[
                    ("If-Match", "\"v3\": the version it must be at; *: it must exist."),
                    ("If-None-Match", "*: it must not exist."),
                ])
                .body("Events")
                .answer("Appended")
                .ok(&[200, 201])
                .refuses(&[409, 410, 412, 422])],
        ),
        route(
            "/v1/db/{name}/streams/{id}/copy",
            post(copy::copy),
            [op(
                "post",
                "copyStream",
                "events",
                "Copies a stream into a new one, filtered and renamed, and tombstones it.",
            )
            .body("Copy")
            .answer("Appended")
            .ok(&[200, 201])
            .refuses(&[409, 410, 422])],
        ),
        route(
            "/v1/db/{name}/append",
            post(append::append),
            [op(
                "post",
                "append",
                "events",
                "Appends to several streams under conditions, in one transaction.",
            )
            .body("Append")
            .answer("Appended")
            .ok(&[200, 201])
            .refuses(&[409, 410, 422])],
        ),
        route(
            "/v1/db/{name}/all",
            get(streams::all),
            [op(
                "get",
                "all",
                "events",
                "Events over all streams, and the head; as server-sent events, from there on.",
            )
            .params(&[
                ("after", "integer", "Position."),
                LIMIT,
                ("types", "texts", "With commas."),
                ("tags", "texts", "With commas; all of them."),
                AS_OF,
            ])
            .headers(&[("Last-Event-ID", "Resume after this position.")])
            .answer("Events")
            .media(&["application/json", "application/edn", "text/event-stream"])],
        ),
        route(
            "/v1/db/{name}/events/{id}",
            get(streams::event),
            [op("get", "event", "events", "The event with an id.").answer("Events")],
        ),
        route(
            "/v1/db/{name}/commands",
            get(commands::queued).post(commands::command),
            [
                op("get", "queuedCommands", "events", "Commands that wait to be carried out.")
                    .answer("Queued"),
                op("post", "command", "events", "Asks the domain to do something, once.")
                    .headers(&[
                        ("Idempotency-Key", "The command's id: sent again, the first outcome is answered."),
                        ("If-Match", "\"v3\": the version the user saw."),
                        ("Prefer", "respond-async: accept it now, carry it out later."),
                    ])
                    .body("Command")
                    .answer("Commanded")
                    .ok(&[200, 201, 202])
                    .refuses(&[409, 410, 412, 422]),
            ],
        ),
        route(
            "/v1/db/{name}/commands/{key}",
            get(commands::status).delete(commands::drop_queued),
            [
                op("get", "commandStatus", "events", "What came of a command, or how far it is.")
                    .params(&[("wait", "duration", "Wait until it is decided, this long at most.")])
                    .answer("CommandStatus")
                    .refuses(&[410]),
                op("delete", "dropCommand", "events", "Takes a command out of the queue, undone.")
                    .params(&[("why", "name", "Why; it is kept with the outcome.")])
                    .ok(&[204])
                    .refuses(&[409]),
            ],
        ),
        route(
            "/v1/db/{name}/projections",
            get(projections::list).post(projections::add),
            [
                op("get", "projections", "events", "Every projection: state, position, lag.")
                    .answer("Projections"),
                op("post", "addProjection", "events", "Registers a projection, written in EDN.")
                    .body("Projection")
                    .ok(&[201])
                    .refuses(&[409, 422]),
            ],
        ),
        route(
            "/v1/db/{name}/projections/preview",
            post(preview::preview),
            [op(
                "post",
                "previewProjection",
                "events",
                "What a changed projection would say, compared with what the live one says.",
            )
            .params(&[("limit", "integer", "Facts listed on each side.")])
            .body("Projection")
            .answer("Preview")
            .refuses(&[409, 422])],
        ),
        route(
            "/v1/db/{name}/projections/{projection}/parked",
            get(projections::parked),
            [op("get", "parked", "events", "Events a projection has set aside, and those it skips.")
                .answer("Parked")],
        ),
        route(
            "/v1/db/{name}/projections/{projection}/parked/replay",
            post(projections::replay),
            [op("post", "replayParked", "events", "Takes the events set aside again.")
                .answer("Replayed")
                .refuses(&[409, 422])],
        ),
        route(
            "/v1/db/{name}/projections/{projection}/skip",
            post(projections::skip),
            [op(
                "post",
                "skipEvent",
                "events",
                "Puts an event on the skip list: the next version leaves it out.",
            )
            .body("Skip")
            .refuses(&[409, 422])],
        ),
        route(
            "/v1/db/{name}/facts/{e}/{a}/why",
            get(why::why),
            [op(
                "get",
                "why",
                "facts",
                "What stands behind a fact: transaction, events, projection, commands.",
            )
            .params(&[("v", "edn", "Only this value."), AS_OF])
            .answer("Why")
            .refuses(&[422])],
        ),
        route(
            "/v1/db/{name}/projections/{projection}/{verb}",
            post(projections::steer),
            [op("post", "steerProjection", "events", "pause, resume, catch-up, rebuild or drop.")
                .ok(&[200, 202])
                .refuses(&[409, 422])],
        ),
        route(
            "/v1/db/{name}/backup",
            post(admin::backup),
            [op("post", "backup", "server", "Copies the database into the configured folder.")],
        ),
        route(
            "/v1/db/{name}/restore",
            post(admin::restore),
            [op(
                "post",
                "restore",
                "server",
                "A new database from the backup of this one, served under its own name.",
            )
            .body("Restore")
            .answer("Database")
            .ok(&[201])
            .refuses(&[409])],
        ),
        route(
            "/v1/db/{name}/erase/{subject}",
            post(admin::erase),
            [op(
                "post",
                "erase",
                "events",
                "Forgets a subject: its key, and the facts and snapshots made of its values.",
            )
            .answer("Erased")
            .ok(&[202])],
        ),
    ]
}
