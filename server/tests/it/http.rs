//! The routes over real sockets: what they answer, and how they refuse.

use crate::common::{Event, Reply, Running, request};
use annals_server::{Config, Limits, Scope, Token, TokenFile};
use serde_json::{Value as Json, json};
use std::{
    collections::BTreeSet,
    io::{BufReader, Read, Write},
    time::{Duration, Instant},
};

const DB: &str = "/v1/db/orders";
const STATUS: &str = "[:find ?id ?s :where [?o :order/id ?id] [?o :order/status ?s]]";

fn path(rest: &str) -> String {
    format!("{DB}{rest}")
}

fn place(s: &Running, id: &str, status: &str) -> u64 {
    let doc = s.edn(&path("/transact"), &format!("[{{:order/id {id:?} :order/status :{status}}}]")).ok();
    doc["t"].as_u64().unwrap()
}

fn rows(s: &Running, query: &str, more: Json) -> Json {
    let mut body = json!({"query": query});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    s.json(&path("/query"), body).ok()["rows"].clone()
}

#[test]
fn a_transaction_reports_and_a_query_answers_in_every_format() {
    let s = Running::start();
    let report = s.edn(
        &path("/transact"),
        r#"[{:db/id "new" :order/id "A-1" :order/status :placed :order/total 12.5}]"#,
    );
    let basis = report.header("x-basis-t").to_owned();
    let report = report.ok();
    assert_eq!(report["t"].to_string(), basis);
    assert_eq!(report["basis-t"], report["t"]);
    let order = report["tempids"]["new"].as_u64().expect("the tempid became an entity");

    let body = json!({"query": "[:find ?o ?s ?total :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s] [?o :order/total ?total]]", "args": ["A-1"], "types": true});
    let ask = |accept: &str| {
        s.request(
            "POST",
            &path("/query"),
            &[("content-type", "application/json"), ("accept", accept)],
            body.to_string().as_bytes(),
        )
    };
    let doc = ask("application/json").ok();
    assert_eq!(doc["rows"], json!([[order, ":placed", 12.5]]));
    assert_eq!(doc["columns"], json!(["?o", "?s", "?total"]));
    assert_eq!(doc["types"], json!(["ref", "keyword", "double"]));
    assert_eq!(doc["basis-t"], report["t"]);
    let edn = ask("application/edn");
    assert_eq!(edn.header("content-type"), "application/edn");
    assert_eq!(
        edn.text(),
        format!(
            "{{:basis-t {basis} :shape \"rel\" :columns [\"?o\" \"?s\" \"?total\"] :types [\"ref\" \"keyword\" \"double\"] :rows [[{order} :placed 12.5]]}}"
        )
    );
    let ndjson = ask("application/x-ndjson");
    assert_eq!(
        ndjson.text(),
        format!("[{order},\":placed\",12.5]\n{{\"done\":true,\"rows\":1,\"basis-t\":{basis}}}\n")
    );
    assert_eq!(ask("text/csv").text(), format!("?o,?s,?total\r\n{order},:placed,12.5\r\n"));
    ask("image/png").refused(406, "request/not-acceptable");
}

#[test]
fn edn_bodies_ask_the_same_as_json_ones() {
    let s = Running::start();
    place(&s, "A-1", "placed");
    let bare = s.edn(&path("/query"), STATUS).ok();
    let map = s.edn(&path("/query"), &format!("{{:query {STATUS} :args [] :timeout-ms 1000}}")).ok();
    assert_eq!(bare["rows"], json!([["A-1", ":placed"]]));
    assert_eq!(bare, map);
    let doc = s
        .edn(&path("/query"), "{:query [:find ?id :where [_ :order/idd ?id]]}")
        .refused(422, "query/unknown-attribute");
    assert_eq!(doc["of"], "body");
    let (start, end) =
        (doc["span"]["start"].as_u64().unwrap() as usize, doc["span"]["end"].as_u64().unwrap() as usize);
    assert_eq!(&"{:query [:find ?id :where [_ :order/idd ?id]]}"[start..end], ":order/idd");
    assert!(doc["hint"].as_str().unwrap().contains(":order/id"));
}

#[test]
fn shapes_rules_inputs_and_limits() {
    let s = Running::start();
    s.edn(&path("/transact"), r#"[{:db/id "a" :order/id "A" :order/next "b"} {:db/id "b" :order/id "B" :order/next "c"} {:db/id "c" :order/id "C"}]"#).ok();
    assert_eq!(
        rows(&s, "[:find ?id . :where [?o :order/id ?id] [?o :order/next]]", json!({"limit": 1}))
            .as_str()
            .map(str::len),
        Some(1)
    );
    assert_eq!(rows(&s, "[:find ?id . :where [?o :order/id ?id] [?o :order/status]]", json!({})), Json::Null);
    assert_eq!(rows(&s, "[:find [?id ...] :where [_ :order/id ?id]]", json!({})), json!(["A", "B", "C"]));
    assert_eq!(
        rows(&s, "[:find ?id :keys id :where [_ :order/id ?id]]", json!({"limit": 1})),
        json!([{":id": "A"}])
    );
    let reach =
        "[:find [?id ...] :in $ % ?from :where [?a :order/id ?from] (reach ?a ?b) [?b :order/id ?id]]";
    let rules = "[[(reach ?a ?b) [?a :order/next ?b]] [(reach ?a ?b) [?a :order/next ?c] (reach ?c ?b)]]";
    assert_eq!(rows(&s, reach, json!({"rules": rules, "args": ["A"]})), json!(["B", "C"]));
    assert_eq!(rows(&s, reach, json!({"args": [rules, "B"]})), json!(["C"]));
    assert_eq!(
        rows(
            &s,
            "[:find [?id ...] :in $ [?id ...] :where [_ :order/id ?id]]",
            json!({"args_edn": "[[\"A\" \"Z\"]]"})
        ),
        json!(["A"])
    );
    s.json(&path("/query"), json!({"query": reach, "args": []})).refused(422, "query/inputs");
}

#[test]
fn json_transactions_are_read_with_the_schema() {
    let s = Running::start();
    let tx = json!([
        {":db/id": "a", ":order/id": ":not-a-keyword", "order/status": "placed", ":order/total": 3, ":order/count": "9007199254740993",
         ":order/at": "2026-03-01T10:00:00Z", ":order/tag": ["x", "y"], ":order/next": "b"},
        [":db/add", "b", ":order/id", "B"]
    ]);
    s.json(&path("/transact"), tx).ok();
    let found = rows(
        &s,
        "[:find ?id ?s ?total ?count ?at :where [?o :order/id ?id] [?o :order/status ?s] [?o :order/total ?total] [?o :order/count ?count] [?o :order/at ?at]]",
        json!({}),
    );
    assert_eq!(
        found,
        json!([[":not-a-keyword", ":placed", 3.0, "9007199254740993", "2026-03-01T10:00:00.000Z"]])
    );
    assert_eq!(rows(&s, "[:find [?t ...] :where [_ :order/tag ?t]]", json!({})), json!(["x", "y"]));
    assert_eq!(rows(&s, "[:find ?id . :where [_ :order/next ?b] [?b :order/id ?id]]", json!({})), "B");
    let exact = s
        .json(&path("/query"), json!({"query": "[:find ?s . :where [_ :order/status ?s]]", "exact": true}))
        .ok();
    assert_eq!(exact["rows"], json!({"#edn": ":placed"}));
    s.json(&path("/transact"), json!([{":order/id": "X", ":order/at": "yesterday"}]))
        .refused(422, "json/type");
    s.json(&path("/transact"), json!({"no": []})).refused(400, "tx/form");
    s.edn(&path("/transact"), "[{:order/id").refused(400, "edn/unclosed");
}

#[test]
fn the_past_is_immutable_and_cacheable() {
    let s = Running::start();
    let t1 = place(&s, "A-1", "placed");
    place(&s, "A-1", "shipped");
    assert_eq!(rows(&s, STATUS, json!({})), json!([["A-1", ":shipped"]]));
    assert_eq!(rows(&s, STATUS, json!({"as_of": t1})), json!([["A-1", ":placed"]]));
    assert_eq!(rows(&s, STATUS, json!({"as-of": t1 - 1})), json!([]));
    let history = "[:find ?s ?op :where [?o :order/status ?s _ ?op]]";
    assert_eq!(
        rows(&s, history, json!({"history": true})),
        json!([[":placed", false], [":placed", true], [":shipped", true]])
    );

    let url =
        path(&format!("/query?as-of={t1}&q=%5B%3Afind+%3Fs+.+%3Awhere+%5B_+%3Aorder%2Fstatus+%3Fs%5D%5D"));
    let first = s.get(&url);
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && first.header("cache-control").contains("immutable"), "{first:?}");
    assert_eq!(first.ok()["rows"], ":placed");
    place(&s, "A-2", "placed");
    let again = s.get_with(&url, &[("if-none-match", &tag)]);
    assert_eq!((again.status, again.header("etag"), again.body.len()), (304, tag.as_str(), 0));
    assert_eq!(s.get(&url).header("etag"), tag);
    // The present changes: no tag, no cache.
    let now = s.get(&path("/query?q=%5B%3Afind+%3Fs+.+%3Awhere+%5B_+%3Aorder%2Fstatus+%3Fs%5D%5D"));
    assert_eq!((now.header("etag"), now.header("cache-control")), ("", "no-store"));
    s.get(&path("/query?q=%5B%3Afind+%3Fx%5D&as_off=1")).refused(400, "request/parameter");
}

#[test]
fn min_t_waits_for_a_transaction_or_says_how_far_it_is() {
    let s = Running::start();
    let basis = s.conn.db().t().0;
    let doc = s
        .json(&path("/query"), json!({"query": STATUS, "min_t": basis + 1, "wait": "50ms"}))
        .refused(503, "basis/behind");
    assert_eq!(doc["basis-t"], basis);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| rows(&s, STATUS, json!({"min_t": basis + 1, "wait": "10s"})));
        std::thread::sleep(Duration::from_millis(50));
        place(&s, "A-1", "placed");
        assert_eq!(asked.join().unwrap(), json!([["A-1", ":placed"]]));
    });
}

#[test]
fn conflicts_are_409_and_nonsense_is_422() {
    let s = Running::start();
    place(&s, "A-1", "placed");
    let cas = |old: &str, new: &str| {
        s.edn(&path("/transact"), &format!(r#"[[:db/cas [:order/id "A-1"] :order/status {old} {new}]]"#))
    };
    cas(":placed", ":paid").ok();
    assert_eq!(cas(":placed", ":paid").status, 409);
    let both =
        r#"[[:db/add [:order/id "A-1"] :order/status :x] [:db/add [:order/id "A-1"] :order/status :y]]"#;
    assert!([409, 422].contains(&s.edn(&path("/transact"), both).status));
    assert_eq!(s.edn(&path("/transact"), "[{:order/id 5}]").status, 422);
    assert_eq!(s.edn(&path("/transact"), "[{:order/idd \"x\"}]").status, 422);
    assert_eq!(rows(&s, STATUS, json!({})), json!([["A-1", ":paid"]]));
}

#[test]
fn what_the_server_writes_about_a_transaction_cannot_be_forged() {
    let s = Running::start();
    let report = s.edn(&path("/transact"), r#"[{:order/id "A-1"}]"#);
    let id = report.header("x-request-id").to_owned();
    let t = report.ok()["t"].clone();
    let q = "[:find ?who ?id ?from :in $ ?t :where [?t :tx/principal ?who] [?t :tx/request-id ?id] [?t :tx/source ?from]]";
    assert_eq!(
        rows(&s, q, json!({"args": [t.as_u64().unwrap() + (1 << 44)]})),
        json!([["local", id, "http"]])
    );
    for forged in [
        r#"[{:db/id "datomic.tx" :tx/principal "root"}]"#,
        r#"[[:db/add "datomic.tx" :tx/request-id "x"]]"#,
        r#"[{:order/id "x" :order/next {:tx/principal "root" :order/id "y"}}]"#,
        r#"[[:db/add "datomic.tx" 22 "root"]]"#,
    ] {
        s.edn(&path("/transact"), forged).refused(422, "access/reserved-attribute");
    }
    let retract = format!("[[:db/retractEntity {}]]", t.as_u64().unwrap() + (1 << 44));
    s.edn(&path("/transact"), &retract).refused(422, "access/reserved-attribute");
    s.json(&path("/transact"), json!([{":db/id": "datomic.tx", "tx/principal": "root"}]))
        .refused(422, "access/reserved-attribute");
}

#[test]
fn an_idempotency_key_makes_one_transaction() {
    let conn = annals::in_memory().unwrap();
    conn.transact(crate::common::SCHEMA).unwrap();
    let s = Running::over(Config::default(), conn.clone());
    let send = |s: &Running, key: &str, body: &str| {
        s.request(
            "POST",
            &path("/transact"),
            &[("content-type", "application/edn"), ("accept", "application/json"), ("idempotency-key", key)],
            body.as_bytes(),
        )
    };
    let first = send(&s, "k-1", r#"[{:order/id "A-1" :order/count 1}]"#).ok();
    let again = send(&s, "k-1", r#"[{:order/id "A-1" :order/count 1}]"#).ok();
    assert_eq!(
        (&again["t"], &again["tempids"], &again["replayed"]),
        (&first["t"], &first["tempids"], &json!(true))
    );
    send(&s, "k-1", r#"[{:order/id "A-1" :order/count 2}]"#).refused(422, "idempotency/key-reused");
    send(&s, "k 2", "[]").refused(400, "idempotency/key");
    // Eight at once: one execution, the others its answer or 409 while it runs.
    let basis = conn.db().t().0;
    let answers: Vec<Reply> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| send(&s, "k-8", r#"[{:order/id "A-8"}]"#))).collect();
        all.into_iter().map(|h| h.join().unwrap()).collect()
    });
    assert_eq!(conn.db().t().0, basis + 1);
    assert!(answers.iter().all(|a| a.status == 200 || a.status == 409), "{answers:?}");
    // A refusal gives the key back.
    send(&s, "k-3", "[{:order/idd 1}]").refused(422, "tx/unknown-attribute");
    send(&s, "k-3", r#"[{:order/id "A-3"}]"#).ok();
    // Another server over the same database, as after a restart.
    let t = conn.db().t().0;
    let restarted = Running::over(Config::default(), conn.clone());
    let later = send(&restarted, "k-1", r#"[{:order/id "A-1" :order/count 1}]"#).ok();
    assert_eq!((&later["t"], &later["replayed"]), (&first["t"], &json!(true)));
    send(&restarted, "k-1", "[]").refused(422, "idempotency/key-reused");
    assert_eq!(conn.db().t().0, t);
}

#[test]
fn with_speculates_and_writes_nothing() {
    let s = Running::start();
    let basis = s.conn.db().t();
    let doc = s.edn(&path("/with"), r#"[{:db/id "x" :order/id "A-1"}]"#).ok();
    assert_eq!(doc["speculative"], true);
    assert_eq!(doc["tx-data"].as_array().unwrap().len(), 2);
    assert_eq!(s.conn.db().t(), basis);
}

#[test]
fn pull_entity_history_datoms_log_schema_timeline() {
    let s = Running::start();
    let t1 = place(&s, "A-1", "placed");
    let t2 = place(&s, "A-1", "shipped");
    let pulled = s
        .json(&path("/pull"), json!({"pattern": "[:order/id :order/status]", "entity": [":order/id", "A-1"]}))
        .ok();
    assert_eq!(pulled["entity"], json!({":order/id": "A-1", ":order/status": ":shipped"}));
    let then = s
        .edn(&path("/pull"), &format!("{{:pattern [:order/status] :entity [:order/id \"A-1\"] :as-of {t1}}}"))
        .ok();
    assert_eq!(then["entity"], json!({":order/status": ":placed"}));
    s.json(&path("/pull"), json!({"pattern": "[*]", "entity": [":order/id", "A-9"]}))
        .refused(404, "db/unknown-entity");

    let lookup = "%5B%3Aorder%2Fid%20%22A-1%22%5D";
    let entity = s.get(&path(&format!("/entity/{lookup}"))).ok();
    assert_eq!(entity["entity"][":order/status"], ":shipped");
    let e = entity["e"].as_u64().unwrap();
    let life = s.get(&path(&format!("/entity/{e}/history?attr=%3Aorder%2Fstatus"))).ok();
    let lanes: Vec<(Json, Json, Json)> = life["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["value"].clone(), v["from-t"].clone(), v["to-t"].clone()))
        .collect();
    assert_eq!(lanes, [(json!(":placed"), json!(t1), json!(t2)), (json!(":shipped"), json!(t2), Json::Null)]);
    s.get(&path("/entity/nonsense")).refused(400, "request/entity");

    let datoms = s.get(&path("/datoms?index=avet&a=:order/id")).ok();
    assert_eq!(datoms["datoms"], json!([[e, ":order/id", "A-1", t1, true]]));
    let all = s.get(&path("/datoms?limit=2")).ok();
    assert_eq!((all["datoms"].as_array().unwrap().len(), &all["next-offset"]), (2, &json!(2)));
    s.get(&path("/datoms?index=xyz")).refused(400, "request/parameter");

    let log = s.get(&path(&format!("/log?from={t1}&to={}", t2 + 1))).ok();
    let ts: Vec<&Json> = log["transactions"].as_array().unwrap().iter().map(|t| &t["t"]).collect();
    assert_eq!(ts, [&json!(t1), &json!(t2)]);
    assert_eq!(log["transactions"][0]["principal"], "local");
    let page = s.get(&path("/log?limit=1")).ok();
    assert_eq!((&page["transactions"][0]["t"], &page["next"]), (&json!(0), &json!(1)));

    let schema = s.get(&path("/schema?counts")).ok();
    let id = schema["attributes"].as_array().unwrap().iter().find(|a| a["ident"] == ":order/id").unwrap();
    assert_eq!((&id["type"], &id["unique"], &id["rows"]), (&json!("string"), &json!("identity"), &json!(1)));
    assert!(!s.get(&path("/schema?as_of=0")).text().contains(":order/id"));
    let line = s.get(&path("/timeline")).ok();
    assert_eq!(
        line["buckets"].as_array().unwrap().iter().map(|b| b["transactions"].as_u64().unwrap()).sum::<u64>(),
        t2
    );
}

#[test]
fn diff_names_the_transaction_and_explain_the_steps() {
    let s = Running::start();
    let t1 = place(&s, "A-1", "placed");
    let t2 = place(&s, "A-1", "shipped");
    let doc = s.json(&path("/diff"), json!({"query": STATUS, "t1": t1, "t2": t2, "types": true})).ok();
    assert_eq!(doc["added"], json!([{"row": ["A-1", ":shipped"], "t": t2}]));
    assert_eq!(doc["removed"], json!([{"row": ["A-1", ":placed"], "t": t2}]));
    let doc = s.json(&path("/explain"), json!({"query": STATUS})).ok();
    assert!(doc["text"].as_str().unwrap().contains(":order/status"), "{doc}");
    assert!(!doc["plan"].as_array().unwrap().is_empty());
}

#[test]
fn changes_are_complete_and_resume_without_gap() {
    let s = Running::start();
    let start = s.conn.db().t().0;
    let mut feed = s.events("GET", &path("/changes"), &[], b"");
    for i in 0..20 {
        place(&s, &format!("A-{i}"), "placed");
    }
    let ids = |feed: &mut crate::common::Events, n: usize| -> Vec<u64> {
        (0..n).map(|_| feed.next().unwrap().id.unwrap()).collect()
    };
    assert_eq!(ids(&mut feed, 8), (start + 1..=start + 8).collect::<Vec<_>>());
    drop(feed);
    let mut feed = s.events("GET", &path("/changes"), &[("last-event-id", &(start + 8).to_string())], b"");
    assert_eq!(ids(&mut feed, 12), (start + 9..=start + 20).collect::<Vec<_>>());
    place(&s, "A-20", "placed");
    let e = feed.next().unwrap();
    assert_eq!((e.id, e.event.as_str()), (Some(start + 21), "transaction"));
    assert!(e.data["datoms"].to_string().contains("A-20"));
    // Filtered: what does not touch the attribute is passed over by a checkpoint.
    let mut feed =
        s.events("GET", &path(&format!("/changes?after={}&attr=:order/total", start + 19)), &[], b"");
    s.edn(&path("/transact"), r#"[{:order/id "A-0" :order/total 1.0}]"#).ok();
    let seen: Vec<Event> =
        std::iter::from_fn(|| feed.next()).take_while(|e| e.event != "transaction").collect();
    assert!(seen.iter().all(|e| e.event == "checkpoint"));
    s.get_with(&path(&format!("/changes?after={}", start + 999)), &[("accept", "text/event-stream")])
        .refused(400, "request/parameter");
}

#[test]
fn a_live_query_equals_running_it_again_at_every_t() {
    let s = Running::start();
    let query = "[:find ?a ?b :in $ % :where (reach ?x ?y) [?x :order/id ?a] [?y :order/id ?b]]";
    let rules = "[[(reach ?a ?b) [?a :order/next ?b]] [(reach ?a ?b) [?a :order/next ?c] (reach ?c ?b)]]";
    let body = json!({"query": query, "rules": rules}).to_string();
    let json_type = ("content-type", "application/json");
    let link = |a: u64, b: u64| {
        s.edn(&path("/transact"), &format!(r#"[{{:order/id "{a}" :order/next {{:order/id "{b}"}}}}]"#)).ok()["t"].as_u64().unwrap()
    };
    link(0, 1);
    let mut live = s.events("POST", &path("/subscribe"), &[json_type], body.as_bytes());
    let first = live.next().unwrap();
    assert_eq!(first.event, "snapshot");
    let set =
        |rows: &Json| -> BTreeSet<String> { rows.as_array().unwrap().iter().map(Json::to_string).collect() };
    let mut held = set(&first.data["rows"]);
    // A walk that links, relinks and closes cycles; the seed is the sequence itself.
    let mut x = 7u64;
    let mut last = 0;
    for i in 0..30 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        last = link((x >> 33) % 6, (x >> 50) % 6);
        if i % 5 == 0 {
            last = s
                .edn(&path("/transact"), &format!(r#"[[:db/retract [:order/id "{}"] :order/next]]"#, 0))
                .ok()["t"]
                .as_u64()
                .unwrap();
        }
    }
    let mut at = first.id.unwrap();
    let mut resumed = false;
    while at < last {
        let e = live.next().unwrap();
        at = e.id.unwrap();
        if e.event == "change" {
            let (added, removed) = (set(&e.data["added"]), set(&e.data["removed"]));
            assert!(added.is_disjoint(&held) && removed.is_subset(&held), "t{at}");
            held = held.difference(&removed).chain(&added).cloned().collect();
        }
        assert_eq!(held, set(&rows(&s, query, json!({"rules": rules, "as_of": at}))), "t{at}");
        if !resumed && at > last - 15 {
            resumed = true;
            live = s.events(
                "POST",
                &path("/subscribe"),
                &[json_type, ("last-event-id", &at.to_string())],
                body.as_bytes(),
            );
        }
    }
    assert!(resumed);
    s.json(&path("/subscribe"), json!({"query": query, "rules": rules, "as_of": 1}))
        .refused(422, "subscribe/as-of");
}

#[test]
fn hostile_requests_get_their_status_and_leak_nothing() {
    let s = Running::with(Config {
        limits: Limits { body_bytes: 20_000, transact_body_bytes: 20_000, ..Limits::default() },
        ..Config::default()
    });
    for name in ["..%2f..%2fetc", "%2e%2e", "a%00b", &"x".repeat(300), "CON", "-a", "a.b"] {
        s.get(&format!("/v1/db/{name}/schema")).refused(400, "request/database-name");
    }
    s.get("/v1/db/%ff/schema").refused(400, "request/path");
    s.get("/v1/db/nobody/schema").refused(404, "request/no-database");
    s.get("/v1/nothing").refused(404, "request/no-route");
    s.request("DELETE", &path("/query"), &[], b"").refused(405, "request/method");
    let post = |content_type: &str, body: &[u8]| {
        s.request("POST", &path("/query"), &[("content-type", content_type)], body)
    };
    post("text/plain", b"[:find ?x]").refused(415, "request/media-type");
    post("application/x-www-form-urlencoded", b"q=1").refused(415, "request/media-type");
    post("application/json; charset=utf-16", b"{}").refused(415, "request/media-type");
    post("application/json", b"{\"query\": ").refused(400, "json/syntax");
    post("application/json", b"[]").refused(400, "request/member");
    post("application/json", b"{}").refused(400, "request/no-query");
    post("application/json", br#"{"query": "[:find ?x]", "as_off": 1}"#)
        .refused(400, "request/unknown-member");
    post("application/json", b"\xff\xfe").refused(400, "request/utf8");
    post("application/json", &[b'['; 10_000]).refused(400, "json/syntax");
    post("application/edn", &[b'['; 10_000]).refused(400, "edn/too-deep");
    post("application/json", &vec![b' '; 30_000]).refused(413, "request/body-too-large");
    assert_eq!(post("application/edn", b"[:find ?x :where [?x :order/id \"\\u0000\x1b[31m\"]]").status, 200);
    // A body that lies about its length, chunked and endless.
    let chunked = request(
        "POST",
        &path("/query"),
        &[("content-type", "application/json"), ("transfer-encoding", "chunked")],
        b"",
    );
    let mut stream = s.connect();
    stream.write_all(&chunked).unwrap();
    for _ in 0..10 {
        let _ = stream.write_all(&[b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat());
    }
    assert_eq!(Reply::read(&mut BufReader::new(stream)).unwrap().status, 413);
    // Junk in place of HTTP, a long URL, many headers: refused, not served, not 5xx.
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        request("GET", &format!("/{}", "a".repeat(100_000)), &[], b""),
        request("GET", "/health", &vec![("x-y", "z"); 10_000], b""),
        b"POST /v1/db/orders/query HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_vec(),
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n".to_vec(),
    ] {
        let mut stream = s.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        if let Some(reply) = Reply::read(&mut BufReader::new(stream)) {
            assert!((400..500).contains(&reply.status), "{reply:?}");
        }
    }
    // None of what was refused says anything about the inside.
    for body in
        ["[:find ?x :where [?x :nope/a 1]]", "[", "[:find (pull ?e [nonsense]) :where [?e]]", "{:query 5}"]
    {
        let text = String::from_utf8(s.edn(&path("/query"), body).body).unwrap();
        assert!(!["/work", "panicked", ".rs:", "thread '"].iter().any(|leak| text.contains(leak)), "{text}");
    }
    s.get("/health").ok();
}

#[test]
fn slow_clients_are_let_go_and_others_do_not_notice() {
    let limits = Limits { header_read_ms: 3_000, body_idle_ms: 2_500, ..Limits::default() };
    let s = Running::with(Config { limits, ..Config::default() });
    let mut half: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = s.connect();
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: loc").unwrap();
            stream
        })
        .collect();
    let mut stalled = s.connect();
    stalled.write_all(b"POST /v1/db/orders/query HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{").unwrap();
    let began = Instant::now();
    s.get("/health").ok();
    assert!(began.elapsed() < Duration::from_secs(2), "health waited for idle clients");
    let reply = Reply::read(&mut BufReader::new(stalled)).unwrap();
    reply.refused(408, "request/body-idle");
    for stream in &mut half {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "half-sent heads stayed open");
}

#[test]
fn a_query_bomb_is_stopped_by_its_deadline_and_by_its_client() {
    let s = Running::start();
    let mut tx = String::from("[");
    for i in 0..2_000 {
        tx.push_str(&format!("{{:order/id \"{i}\" :order/count {i}}}"));
    }
    s.edn(&path("/transact"), &(tx + "]")).ok();
    let bomb = "[:find (count ?a) . :where [?a :order/count ?x] [?b :order/count ?y] [?c :order/count ?z] [?d :order/count ?w] [(< ?x ?y)] [(< ?z ?w)] [(not= ?a ?d)]]";
    let began = Instant::now();
    let reply = s.json(&path("/query"), json!({"query": bomb, "timeout_ms": 400}));
    assert!([408, 422].contains(&reply.status), "{}", reply.text());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // A client that leaves stops its query.
    let mut stream = s.connect();
    stream
        .write_all(&request(
            "POST",
            &path("/query"),
            &[("content-type", "application/json")],
            json!({"query": bomb, "timeout_ms": 60_000}).to_string().as_bytes(),
        ))
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(stream);
    let began = Instant::now();
    while s.server.readers.load().0 > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "the query goes on without anyone to read it");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn overload_says_429_and_health_stays_quick() {
    let limits = Limits { running: 1, queued: 1, ..Limits::default() };
    let s = Running::with(Config { limits, ..Config::default() });
    let mut tx = String::from("[");
    for i in 0..1_500 {
        tx.push_str(&format!("{{:order/id \"{i}\" :order/count {i}}}"));
    }
    s.edn(&path("/transact"), &(tx + "]")).ok();
    let bomb = json!({"query": "[:find (count ?a) . :where [?a :order/count ?x] [?b :order/count ?y] [?c :order/count ?z] [(< ?x ?y)] [(< ?y ?z)]]", "timeout_ms": 3_000});
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| s.json(&path("/query"), bomb.clone()))).collect();
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        s.get("/health").ok();
        assert!(began.elapsed() < Duration::from_secs(2), "health waited for queries");
        all.into_iter().map(|h| h.join().unwrap()).collect()
    });
    let busy = replies
        .into_iter()
        .filter(|r| r.status == 429)
        .map(|r| (r.header("retry-after").to_owned(), r.refused(429, "server/busy")))
        .collect::<Vec<_>>();
    assert!(!busy.is_empty() && busy.iter().all(|(after, _)| after == "1"), "{busy:?}");
}

#[test]
fn hosts_and_origins_are_checked() {
    let s =
        Running::with(Config { origins_allowed: vec!["https://app.example".into()], ..Config::default() });
    let get = |headers: &[(&str, &str)]| s.request("GET", "/v1/db", headers, b"");
    get(&[("host", "evil.example")]).refused(421, "access/host");
    s.raw(b"GET /v1/db HTTP/1.1\r\n\r\n").refused(421, "access/host");
    get(&[("origin", "https://evil.example")]).refused(403, "access/cross-origin");
    get(&[("origin", "null")]).refused(403, "access/cross-origin");
    get(&[("sec-fetch-site", "cross-site")]).refused(403, "access/cross-origin");
    get(&[("sec-fetch-site", "same-origin")]).ok();
    get(&[("origin", "http://localhost")]).ok();
    let allowed = get(&[("origin", "https://app.example")]);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://app.example");
    allowed.ok();
    let preflight = s.request(
        "OPTIONS",
        &path("/query"),
        &[("origin", "https://app.example"), ("access-control-request-method", "POST")],
        b"",
    );
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-methods")),
        (204, "GET, POST, DELETE")
    );
    assert_eq!(get(&[]).header("access-control-allow-origin"), "");
    // The page itself may be linked to.
    assert_eq!(s.request("GET", "/", &[("sec-fetch-site", "cross-site")], b"").status, 200);
}

#[test]
fn tokens_decide_who_may_do_what() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let make = |name: &str, scopes: Vec<Scope>, databases: &str| {
        let (token, text) = Token::create(name, scopes, vec![databases.into()], None);
        TokenFile::new(&file).add(token).unwrap();
        text
    };
    let reader = make("reader", vec![Scope::Read], "orders");
    let writer = make("writer", vec![Scope::Read, Scope::Write], "orders");
    let stranger = make("stranger", vec![Scope::Admin], "hr");
    let admin = make("admin", vec![Scope::Admin], "*");
    let s = Running::with(Config { token_file: Some(file.clone()), ..Config::default() });
    let with = |token: &str, method: &str, rest: &str, body: &str| {
        let auth = format!("Bearer {token}");
        s.request(
            method,
            &path(rest),
            &[("authorization", &auth), ("content-type", "application/edn"), ("accept", "application/json")],
            body.as_bytes(),
        )
    };
    s.get(&path("/schema")).refused(401, "access/token");
    assert_eq!(s.get(&path("/schema")).header("www-authenticate"), "Bearer realm=\"annals\"");
    with("annals_0_0", "GET", "/schema", "").refused(401, "access/token");
    s.get(&format!("{}?token={reader}", path("/schema"))).refused(401, "access/token");
    s.get("/metrics").refused(401, "access/token");
    s.get("/health").ok();
    with(&reader, "GET", "/schema", "").ok();
    with(&reader, "POST", "/transact", "[]").refused(403, "access/scope");
    with(&stranger, "GET", "/schema", "").refused(404, "request/no-database");
    let report = with(&writer, "POST", "/transact", r#"[{:order/id "A"}]"#).ok();
    with(
        &writer,
        "POST",
        "/transact",
        "[{:db/ident :a/b :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]",
    )
    .refused(403, "access/scope");
    with(
        &admin,
        "POST",
        "/transact",
        "[{:db/ident :a/b :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]",
    )
    .ok();
    let who = format!("[:find ?w . :where [{} :tx/principal ?w]]", report["tx"]);
    assert!(with(&reader, "POST", "/query", &who).ok()["rows"].as_str().unwrap().ends_with(":writer"));
    // Revoked: dead within a second.
    assert!(TokenFile::new(&file).revoke("reader").unwrap());
    let began = Instant::now();
    while with(&reader, "GET", "/schema", "").status != 401 {
        assert!(began.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(50));
    }
    // Guessing is slowed down.
    let limit = s.server.limits.failed_auth_per_minute;
    for _ in 0..limit {
        with("annals_0_0", "GET", "/schema", "");
    }
    with("annals_0_0", "GET", "/schema", "").refused(429, "access/too-many-failures");
    // Whoever has a token is not kept out by those who guess, though all come from one address.
    with(&admin, "GET", "/schema", "").ok();
}

/// Everything below a folder, with sizes.
fn tree(folder: &std::path::Path) -> BTreeSet<std::path::PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(tree(&entry.path()));
        }
        found.insert(entry.path());
    }
    found
}

#[test]
fn names_cannot_leave_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("backups")).unwrap();
    let conn = annals::open(dir.path().join("orders")).unwrap();
    let s = Running::over(Config { backup_dir: Some(dir.path().join("backups")), ..Config::default() }, conn);
    let before = tree(dir.path());
    let long = "x".repeat(300);
    for name in
        ["..%2fx", "%2e%2e", "..", "a%00b", &long, "CON", "orders%2f..%2fx", "%c0%ae", "orders%20", "\\x"]
    {
        for (method, rest) in
            [("POST", "/backup"), ("POST", "/transact"), ("GET", "/schema"), ("POST", "/restore")]
        {
            let reply = s.request(
                method,
                &format!("/v1/db/{name}{rest}"),
                &[("content-type", "application/edn")],
                b"[]",
            );
            assert!(matches!(reply.status, 400 | 404), "{method} {name}{rest}: {}", reply.status);
            assert!(!reply.text().contains(dir.path().to_str().unwrap()), "{}", reply.text());
        }
    }
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn bombs_and_junk_do_no_more_with_a_read_token_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (token, text) = Token::create("reader", vec![Scope::Read], vec!["orders".into()], None);
    TokenFile::new(&file).add(token).unwrap();
    let limits = Limits { query_rows: 100_000, query_default_ms: 500, ..Limits::default() };
    let s = Running::with(Config { token_file: Some(file), limits, ..Config::default() });
    let forms: Vec<String> = (0..200).map(|i| format!("{{:order/id \"o{i}\"}}")).collect();
    s.conn.transact(format!("[{}]", forms.join(""))).unwrap();
    let auth = format!("Bearer {text}");
    let bomb = "[:find ?a ?b ?c ?d :where [?a :order/id] [?b :order/id] [?c :order/id] [?d :order/id]]";
    let many: String = (0..500).map(|i| format!("[?e{i} :order/id] ")).collect();
    let count = "[:find ?n :in $ % :where (up 0 ?n)]";
    let up = "[[(up ?a ?b) [(+ ?a 1) ?b]] [(up ?a ?b) (up ?a ?c) [(+ ?c 1) ?b]]]";
    for (query, answered) in [
        (json!({"query": bomb}), false),
        // Clauses that share nothing are a test each: this one may end in an answer.
        (json!({"query": format!("[:find ?e0 :where {many}]")}), true),
        (json!({"query": count, "rules": up}), false),
        (json!({"query": bomb, "timeout_ms": 10_000_000}), false),
    ] {
        let send = |headers: &[(&str, &str)]| {
            let mut all = vec![("content-type", "application/json")];
            all.extend(headers);
            s.request("POST", &path("/query"), &all, query.to_string().as_bytes())
        };
        send(&[]).refused(401, "access/token");
        let began = Instant::now();
        let reply = send(&[("authorization", &auth)]);
        let stopped = matches!(reply.status, 408 | 413 | 422);
        assert!(stopped || (answered && reply.status == 200), "{}: {}", reply.status, reply.text());
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    for (rest, status) in [
        ("/transact", 403),
        ("/append", 403),
        ("/commands", 403),
        ("/backup", 403),
        ("/projections", 403),
        ("/erase/x", 403),
    ] {
        let reply = s.request(
            "POST",
            &path(rest),
            &[("authorization", &auth), ("content-type", "application/edn")],
            b"[]",
        );
        assert_eq!(reply.status, status, "{rest}: {}", reply.text());
    }
    let until = Instant::now() + Duration::from_secs(5);
    while s.server.readers.load().0 > 0 {
        assert!(Instant::now() < until, "a query goes on");
    }
}

#[test]
fn large_answers_stream_and_small_ones_compress() {
    let limits = Limits { result_rows: 1_000, ..Limits::default() };
    let s = Running::with(Config { limits, ..Config::default() });
    let mut tx = String::from("[");
    for i in 0..5_000 {
        tx.push_str(&format!("{{:order/id \"order number {i}\" :order/count {i}}}"));
    }
    s.edn(&path("/transact"), &(tx + "]")).ok();
    let query = json!({"query": "[:find ?id ?n :where [?o :order/id ?id] [?o :order/count ?n]]"}).to_string();
    let ask = |accept: &str, encoding: &str| {
        s.request(
            "POST",
            &path("/query"),
            &[("content-type", "application/json"), ("accept", accept), ("accept-encoding", encoding)],
            query.as_bytes(),
        )
    };
    ask("application/json", "identity").refused(422, "query/too-many-rows");
    let lines = ask("application/x-ndjson", "identity");
    assert_eq!(lines.header("transfer-encoding"), "chunked");
    assert_eq!(lines.text().lines().count(), 5_001);
    assert!(lines.text().lines().last().unwrap().starts_with("{\"done\":true,\"rows\":5000,"));
    assert_eq!(ask("text/csv", "identity").text().lines().count(), 5_001);
    let zipped = ask("application/x-ndjson", "gzip");
    assert_eq!(zipped.header("content-encoding"), "gzip");
    assert!(zipped.body.len() * 3 < lines.body.len());
    assert_eq!(ask("application/x-ndjson", "zstd").header("content-encoding"), "zstd");
}

#[test]
fn stopping_says_so_first_and_ends_streams() {
    let mut s = Running::start();
    s.get("/ready").ok();
    let mut feed = s.events("GET", &path("/changes"), &[], b"");
    place(&s, "A", "placed");
    feed.next().unwrap();
    s.begin_stop();
    let began = Instant::now();
    while s.get("/ready").status != 503 {
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    s.get(&path("/schema")).refused(503, "server/stopping");
    s.get("/health").ok();
    assert!(feed.next().is_none());
    s.stop();
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_server_describes_itself() {
    let s = Running::start();
    s.conn.register_commands::<crate::commands::Order>().unwrap();
    assert_eq!(s.get("/v1/limits").ok()["running"], 64);
    assert_eq!(s.get("/v1/db").ok()["databases"][0]["name"], "orders");
    let page = s.get("/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").contains("script-src 'self'"));
    assert_eq!(s.get("/console/js/main.js").header("content-type"), "text/javascript; charset=utf-8");
    s.get("/console/../Cargo.toml").refused(404, "request/no-route");
    let metrics = s.get("/metrics");
    assert!(
        metrics
            .text()
            .contains("annals_http_requests_total{method=\"GET\",route=\"/v1/db\",status=\"200\"} 1"),
        "{}",
        metrics.text()
    );
    assert!(!s.get("/health").header("x-request-id").is_empty());
    let doc = s.get("/openapi.json").ok();
    // Every example in the document does what it says on this very server.
    let mut tried = 0;
    for (route, item) in doc["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(content) = operation["requestBody"]["content"].as_object() else { continue };
            // Streams do not end; the others need an event, a stream and a backup.
            if operation["responses"]["200"]["content"].get("text/event-stream").is_some()
                || ["skipEvent", "copyStream", "restore"]
                    .contains(&operation["operationId"].as_str().unwrap())
            {
                continue;
            }
            let url = route.replace("{name}", "orders").replace("{id}", "order-9");
            assert_eq!(method, "post");
            for (media, body) in content {
                let text =
                    body["example"].as_str().map_or_else(|| body["example"].to_string(), str::to_owned);
                let reply = s.request("POST", &url, &[("content-type", media)], text.as_bytes());
                assert!([200, 201].contains(&reply.status), "{url} {media} {text}: {}", reply.text());
                tried += 1;
            }
        }
    }
    assert!(tried >= 10, "{tried}");
}
