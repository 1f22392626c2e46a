//! The routes over real sockets: what they answer, and how they refuse.

use crate::common::{Event, Reply, Running, STATUS, path, place, rows};
use annals_server::{Config, Limits};
use serde_json::{Value as Json, json};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

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
    // What the database takes, as the library tells it.
    let log = s.conn.stats().unwrap().log_bytes;
    for gauge in [
        "annals_cache_bytes{db=\"orders\"} ",
        "annals_novelty_facts{db=\"orders\"} ",
        "annals_index_bytes{db=\"orders\"} ",
        &format!("annals_log_bytes{{db=\"orders\"}} {log}"),
    ] {
        assert!(metrics.text().contains(gauge), "{gauge} in {}", metrics.text());
    }
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
