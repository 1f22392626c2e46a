//! HTTP bodies: whatever is sent to a route, the answer is in the format it says, is no
//! fault of ours, and a refusal names its code. Input: a byte that picks the route, one
//! that picks the media types, and the body.

#![no_main]

use annals_server::{Config, Server};
use axum::{Router, body::Body, http::Request};
use libfuzzer_sys::fuzz_target;
use std::{
    cell::RefCell,
    sync::{Arc, LazyLock},
};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

/// Routes that take a body. `/with` is `/transact` without the growth of the database.
const ROUTES: [&str; 8] =
    ["with", "query", "pull", "explain", "diff", "transact", "append", "streams/s/events"];
/// After so many requests the database is made anew: what was written must not slow the rest.
const REQUESTS_A_SERVER: u32 = 4_000;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime"));

thread_local! {
    static SERVICE: RefCell<(u32, Router)> = RefCell::new((0, service()));
}

fn service() -> Router {
    let conn = annals::in_memory().expect("a database in memory");
    conn.transact(
        "[{:db/ident :n :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
          {:db/ident :a :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
          {:db/ident :i :db/valueType :db.type/instant :db/cardinality :db.cardinality/one}
          {:db/ident :y :db/valueType :db.type/bytes :db/cardinality :db.cardinality/one}
          {:db/ident :b :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
          {:db/ident :p :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one :db/tupleTypes [:db.type/long :db.type/string]}]",
    )
    .expect("the schema is sound");
    conn.transact(r#"[{:db/id "x" :n "x" :a 1 :b ["y"]} {:db/id "y" :n "y" :b ["x"]}]"#)
        .expect("the facts are sound");
    let mut config = Config::default();
    (config.limits.query_default_ms, config.limits.query_max_ms) = (500, 500);
    let server = Server::new(config, vec![("d".into(), conn)]).expect("a server");
    annals_server::router(Arc::clone(&server))
}

fuzz_target!(|data: &[u8]| {
    let [route, kinds, body @ ..] = data else { return };
    let router = SERVICE.with_borrow_mut(|(n, router)| {
        *n += 1;
        if *n > REQUESTS_A_SERVER {
            (*n, *router) = (0, service());
        }
        router.clone()
    });
    let path = format!("/v1/db/d/{}", ROUTES[usize::from(*route) % ROUTES.len()]);
    let sent = ["application/json", "application/edn", "application/x-ndjson"][usize::from(kinds & 3) % 3];
    let accept = ["application/json", "application/edn", "application/x-ndjson", "text/csv"]
        [usize::from(kinds >> 2) % 4];
    let request = Request::post(path)
        .header("host", "127.0.0.1:7407")
        .header("content-type", sent)
        .header("accept", accept)
        .body(Body::from(body.to_vec()))
        .expect("a request");
    RUNTIME.block_on(async {
        let answer = router.oneshot(request).await.expect("a router does not fail");
        let status = answer.status();
        let kind =
            answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let body = axum::body::to_bytes(answer.into_body(), 64 << 20).await.expect("the whole answer");
        let text = std::str::from_utf8(&body).expect("an answer is UTF-8");
        assert!(status.as_u16() < 500 || status.as_u16() == 503, "{status}: {text}");
        if kind.contains("json") && !kind.contains("ndjson") {
            let tree: serde_json::Value =
                serde_json::from_str(text).expect("an answer that says JSON is JSON");
            assert!(status.is_success() || tree["code"].is_string(), "{status} without a code: {text}");
        }
        if kind.contains("ndjson") {
            let last = text.lines().last().expect("a closing record");
            assert!(last.contains("\"done\":true") || last.contains("\"code\""), "no closing record: {last}");
        }
        if kind.contains("edn") {
            annals_query::edn::read_value(text).expect("an answer that says EDN is EDN");
        }
    });
});
