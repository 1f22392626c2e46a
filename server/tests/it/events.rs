//! Streams over HTTP: versions in headers and bodies, pages, server-sent events.

use crate::common::{Reply, Running};
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};

const DB: &str = "/v1/db/orders";

fn append(s: &Running, stream: &str, headers: &[(&str, &str)], body: Json) -> Reply {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    s.request("POST", &format!("{DB}/streams/{stream}/events"), &all, body.to_string().as_bytes())
}

fn placed(n: u64) -> Json {
    json!([{"type": "OrderPlaced", "data": {"n": n}, "tags": ["customer:ada"]}])
}

#[test]
fn versions_in_headers_and_tags() {
    let s = Running::start();
    let two = json!([{"id": "e-1", "type": "OrderPlaced", "data": {"total": 12}}, {"id": "e-2", "type": "OrderPaid", "data": {}}]);
    let first = append(&s, "order-1", &[("if-none-match", "*")], two.clone());
    assert_eq!(
        (first.status, first.header("etag"), first.header("location")),
        (201, "\"v2\"", "/v1/db/orders/streams/order-1")
    );
    let doc = first.json();
    assert_eq!(
        (&doc["first"], &doc["last"], &doc["version"], &doc["replayed"]),
        (&json!(1), &json!(2), &json!(2), &json!(false))
    );
    // The same again is the same answer, whatever it expects.
    let again = append(&s, "order-1", &[("if-match", "\"v0\"")], two);
    assert_eq!(
        (again.status, again.json()["replayed"].clone(), again.json()["t"].clone()),
        (200, json!(true), doc["t"].clone())
    );
    let stale =
        append(&s, "order-1", &[("if-match", "\"v1\"")], placed(3)).refused(412, "event/wrong-version");
    assert_eq!(stale["actual_version"], 2);
    append(&s, "order-1", &[("if-none-match", "*")], placed(3)).refused(412, "event/wrong-version");
    append(&s, "order-2", &[("if-match", "*")], placed(3)).refused(412, "event/wrong-version");
    append(&s, "order-1", &[("if-match", "v2")], placed(3)).refused(400, "request/precondition");
    assert_eq!(append(&s, "order-1", &[("if-match", "\"v2\"")], placed(3)).header("etag"), "\"v3\"");
    append(&s, "order-1", &[], json!([{"id": "e-1", "type": "OrderPlaced", "data": {"total": 13}}]))
        .refused(409, "event/id-reused");
    append(&s, "order-1", &[], json!([{"data": 1}])).refused(400, "event/form");
    let nameless = append(&s, "order-1", &[], json!([{"type": ""}])).refused(400, "event/form");
    assert_eq!(
        nameless["detail"],
        "events[0]: event type \"\" is not 1 to 400 bytes without control characters"
    );
    append(&s, "order-1", &[], json!([])).refused(400, "event/none");

    let page = s.get(&format!("{DB}/streams/order-1"));
    assert_eq!(page.header("etag"), "\"v3\"");
    let tag = page.header("etag").to_owned();
    let events = page.ok();
    let seen: Vec<(&Json, &Json)> =
        events["events"].as_array().unwrap().iter().map(|e| (&e["streamversion"], &e["type"])).collect();
    assert_eq!(
        seen,
        [
            (&json!(1), &json!("OrderPlaced")),
            (&json!(2), &json!("OrderPaid")),
            (&json!(3), &json!("OrderPlaced"))
        ]
    );
    assert_eq!(
        (&events["events"][0]["subject"], &events["events"][0]["data"]),
        (&json!("order-1"), &json!({"total": 12}))
    );
    assert_eq!(s.get_with(&format!("{DB}/streams/order-1"), &[("if-none-match", &tag)]).status, 304);
    let full = s.get(&format!("{DB}/streams/order-1?limit=2"));
    assert!(full.header("cache-control").contains("immutable"));
    assert_eq!(full.ok()["next"], 3);
    assert_eq!(s.get(&format!("{DB}/streams/order-1?as_of={}", doc["t"])).ok()["version"], 2);
    s.get(&format!("{DB}/streams/order-9")).refused(404, "event/no-stream");
    assert_eq!(s.get(&format!("{DB}/events/e-2")).ok()["events"][0]["type"], "OrderPaid");
    s.get(&format!("{DB}/events/e-9")).refused(404, "event/no-event");
    assert_eq!(s.get(&format!("{DB}/streams")).ok()["streams"], json!([{"stream": "order-1", "version": 3}]));
    // Whoever appended is on the transaction.
    let who = json!({"query": "[:find ?who . :in $ ?t :where [?t :tx/principal ?who]]", "args": [doc["t"].as_u64().unwrap() + (1 << 44)]});
    assert_eq!(s.json(&format!("{DB}/query"), who).ok()["rows"], "local");
}

#[test]
fn conditions_in_bodies_are_409_with_their_witness() {
    let s = Running::start();
    let post = |body: Json| s.json(&format!("{DB}/append"), body);
    let register = |stream: &str, after: u64| {
        json!({
            "writes": [{"stream": stream, "expected": "none", "events": [{"type": "Registered", "data": {}, "tags": ["username:ada"]}]}],
            "conditions": [{"none_match": {"items": [{"types": ["Registered"], "tags": ["username:ada"]}]}, "after": after}],
        })
    };
    let t = s.conn.db().t().0;
    assert_eq!(post(register("user-1", t)).status, 201);
    let lost = post(register("user-2", t)).refused(409, "event/condition-failed");
    assert_eq!((&lost["failed"], &lost["witness"]), (&json!(0), &json!([1])));
    let wrong = post(json!({"writes": [{"stream": "user-1", "expected": 7, "events": [{"type": "X"}]}]}))
        .refused(409, "event/wrong-version");
    assert_eq!(wrong["actual_version"], 1);
    let both = post(json!({
        "writes": [{"stream": "a-1", "events": [{"type": "X"}]}, {"stream": "b-1", "events": [{"type": "Y"}]}],
        "facts": [{":order/id": "F-1"}],
    }));
    assert_eq!((both.status, &both.json()["versions"]), (201, &json!({"a-1": 1, "b-1": 1})));
    assert_eq!(
        s.json(&format!("{DB}/query"), json!({"query": "[:find ?id . :where [_ :order/id ?id]]"})).ok()["rows"],
        "F-1"
    );
    post(json!({"writes": [], "facts": [{":db/id": "datomic.tx", ":tx/principal": "root"}]}))
        .refused(422, "access/reserved-attribute");
    post(json!({"wrote": []})).refused(400, "request/member");
}

#[test]
fn a_feed_resumes_after_the_position_it_saw() {
    let s = Running::start();
    for n in 0..5 {
        append(&s, &format!("order-{}", n % 2), &[], placed(n));
    }
    let mut feed = s.events("GET", &format!("{DB}/all"), &[], b"");
    let ids: Vec<Option<u64>> = (0..5).map(|_| feed.next().unwrap().id).collect();
    assert_eq!(ids, (1..=5).map(Some).collect::<Vec<_>>());
    assert_eq!(feed.next().unwrap().event, "caught-up");
    append(&s, "order-0", &[], placed(5));
    let e = feed.next().unwrap();
    assert_eq!((e.id, e.event.as_str(), &e.data["data"]), (Some(6), "OrderPlaced", &json!({"n": 5})));
    let mut feed = s.events("GET", &format!("{DB}/all"), &[("last-event-id", "4")], b"");
    assert_eq!(feed.next().unwrap().id, Some(5));
    // One stream only, from where it was left.
    let mut one = s.events("GET", &format!("{DB}/streams/order-0"), &[("last-event-id", "1")], b"");
    assert_eq!((one.next().unwrap().id, one.next().unwrap().id), (Some(3), Some(5)));
    // A filter that nothing matches is told how far it is.
    let mut none = s.events("GET", &format!("{DB}/all?types=Nothing"), &[], b"");
    assert_eq!(none.next().unwrap().event, "caught-up");
    assert_eq!(none.next().map(|e| (e.event, e.id)), Some(("checkpoint".into(), Some(6))));
    s.get_with(&format!("{DB}/all?after=99"), &[("accept", "text/event-stream")]).status.to_string();
    assert_eq!(s.get(&format!("{DB}/all?after=4&tags=customer:ada")).ok()["head"], 6);
    let began = Instant::now();
    append(&s, "order-1", &[], placed(6));
    while one.next().unwrap().id != Some(6) {
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_query_waits_for_an_async_projection_or_says_how_far_it_is() {
    let s = Running::start();
    let projection = r#"{:projection/name :spent :projection/version 1 :projection/mode :async
      :projection/schema [{:db/ident :spent/order :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                          {:db/ident :spent/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
      :projection/on [{:event "OrderPlaced" :assert [{:spent/order $stream.key :spent/n $data.n}]}]}"#;
    let added = s.edn(&format!("{DB}/projections"), projection);
    assert_eq!(added.status, 201, "{}", added.text());
    let query = "[:find ?n . :where [?e :spent/order \"1\"] [?e :spent/n ?n]]";
    let ask = |position: u64, wait: &str| {
        s.json(&format!("{DB}/query"), json!({"query": query, "min_position": position, "wait": wait}))
    };
    append(&s, "order-1", &[], placed(41));
    assert_eq!(ask(1, "5s").ok()["rows"], 41);
    assert_eq!(s.request("POST", &format!("{DB}/projections/spent/pause"), &[], b"").status, 200);
    append(&s, "order-1", &[], placed(42));
    let behind = ask(2, "100ms").refused(503, "basis/behind");
    assert_eq!(behind["complete_to"], 1);
    let list = s.get(&format!("{DB}/projections")).ok();
    assert_eq!(
        (&list["head"], &list["projections"][0]["state"], &list["projections"][0]["lag"]),
        (&json!(2), &json!("paused"), &json!(1))
    );
    assert_eq!(s.request("POST", &format!("{DB}/projections/spent/resume"), &[], b"").status, 200);
    assert_eq!(s.request("POST", &format!("{DB}/projections/spent/catch-up"), &[], b"").status, 200);
    let answer = ask(2, "5s").ok();
    assert_eq!((&answer["rows"], &answer["complete-to"]), (&json!(42), &answer["basis-t"]));
    s.request("POST", &format!("{DB}/projections/nothing/pause"), &[], b"")
        .refused(404, "projection/unknown");
    s.edn(&format!("{DB}/projections"), "{:projection/name 5}").json();
    // A stream that is ended for good is gone.
    assert_eq!(s.request("DELETE", &format!("{DB}/streams/order-1?tombstone=true"), &[], b"").status, 204);
    s.get(&format!("{DB}/streams/order-1")).refused(410, "event/tombstoned");
    append(&s, "order-1", &[], placed(43)).refused(410, "event/tombstoned");
}

#[test]
fn a_backup_goes_to_the_configured_folder_and_nowhere_else() {
    let s = Running::start();
    s.request("POST", &format!("{DB}/backup"), &[], b"").refused(403, "server/no-backup-folder");
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let conn = annals::open(from.path().join("orders")).unwrap();
    conn.transact(crate::common::SCHEMA).unwrap();
    let config = annals_server::Config { backup_dir: Some(to.path().into()), ..Default::default() };
    let mut s = Running::over(config, conn);
    s.request("POST", &format!("{DB}/backup"), &[], b"").ok();
    assert!(to.path().join("orders").exists());
    s.stop();
}

#[test]
fn what_is_parked_is_listed_replayed_skipped_and_rebuilt() {
    let s = Running::start();
    let projection = r#"{:projection/name :spent :projection/version 1 :projection/mode :async :projection/on-error :park
      :projection/schema [{:db/ident :spent/order :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                          {:db/ident :spent/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
      :projection/on [{:event "OrderPlaced" :assert [{:spent/order $stream.key :spent/n $data.n}]}]}"#;
    let added = s.edn(&format!("{DB}/projections"), projection);
    assert_eq!(added.status, 201, "{}", added.text());
    let post = |rest: &str, body: &str| {
        let json_type = [("content-type", "application/json")];
        s.request("POST", &format!("{DB}/projections/spent/{rest}"), &json_type, body.as_bytes())
    };
    append(&s, "order-1", &[], placed(1));
    // A total that is no number is poison; what follows it in its stream waits behind it.
    append(&s, "order-2", &[], json!([{"type": "OrderPlaced", "data": {"n": "many"}}]));
    append(&s, "order-2", &[], placed(3));
    append(&s, "order-3", &[], placed(4));
    assert_eq!(post("catch-up", "").status, 200);
    let doc = s.get(&format!("{DB}/projections/spent/parked")).ok();
    let positions: Vec<u64> =
        doc["parked"].as_array().unwrap().iter().map(|p| p["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [2, 3], "{doc}");
    let list = s.get(&format!("{DB}/projections")).ok();
    assert_eq!(
        (&list["projections"][0]["parked"], &list["projections"][0]["state"]),
        (&json!(2), &json!("live"))
    );
    // Replaying without a remedy leaves them; with the culprit on the skip list the other is taken.
    assert_eq!(post("parked/replay", "").ok()["taken"], 0);
    post("skip", r#"{"position": 2}"#).refused(400, "request/member");
    post("skip", r#"{"position": 99, "why": "x"}"#).refused(404, "projection/no-event");
    post("skip", r#"{"position": 2, "why": "typed by hand"}"#).ok();
    let doc = post("parked/replay", "").ok();
    assert_eq!((&doc["taken"], &doc["left"]), (&json!(1), &json!([])), "{doc}");
    let skipped = &s.get(&format!("{DB}/projections/spent/parked")).ok()["skipped"][0];
    assert_eq!((&skipped["by"], &skipped["why"]), (&json!("local"), &json!("typed by hand")));
    let query =
        json!({"query": "[:find ?o ?n :where [?e :spent/order ?o] [?e :spent/n ?n]]", "min_position": 4});
    let rows = s.json(&format!("{DB}/query"), query.clone()).ok()["rows"].clone();
    assert_eq!(rows, json!([["1", 1], ["2", 3], ["3", 4]]));

    let reply = post("rebuild", "");
    assert_eq!((reply.status, reply.header("location")), (202, &*format!("{DB}/projections")));
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let list = s.get(&format!("{DB}/projections")).ok();
        let newest = list["projections"].as_array().unwrap().last().unwrap().clone();
        if newest["version"] == 2 && newest["state"] == "live" {
            break;
        }
        assert!(Instant::now() < until, "{list}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(s.json(&format!("{DB}/query"), query).ok()["rows"], rows);
    s.request("POST", &format!("{DB}/projections/nothing/rebuild"), &[], b"")
        .refused(404, "projection/unknown");

    // What stands behind a fact: its event, the projection, and nothing for a plain fact.
    let why = s.get(&format!("{DB}/facts/%5B:spent%2Forder%20%221%22%5D/:spent%2Fn/why")).ok();
    let support = &why["facts"][0]["support"][0];
    assert_eq!(
        (&why["facts"][0]["value"], &support["event"]["subject"]),
        (&json!(1), &json!("order-1")),
        "{why}"
    );
    assert_eq!(support["projection"]["name"], "spent");
    s.edn(
        &format!("{DB}/transact"),
        r#"[{:order/id "A" :order/status :paid} {:db/id "datomic.tx" :tx/why "by phone"}]"#,
    )
    .ok();
    let plain = s.get(&format!("{DB}/facts/%5B:order%2Fid%20%22A%22%5D/order%2Fstatus/why")).ok();
    assert_eq!(
        (&plain["facts"][0]["principal"], &plain["facts"][0]["because"]),
        (&json!("local"), &json!("by phone"))
    );
    assert_eq!(plain["facts"][0]["support"], json!([]));
    s.get(&format!("{DB}/facts/%5B:order%2Fid%20%22A%22%5D/order%2Fstatsu/why"))
        .refused(422, "db/unknown-attribute");
    s.get(&format!("{DB}/facts/%5B:order%2Fid%20%22no%22%5D/order%2Fstatus/why")).json();

    assert_eq!(post("drop", "").ok()["dropped"], true);
    assert_eq!(s.get(&format!("{DB}/projections")).ok()["projections"], json!([]));
}

#[test]
fn a_backup_is_restored_beside_the_database_as_of_any_t() {
    let dir = tempfile::tempdir().unwrap();
    let conn = annals::open(dir.path().join("orders")).unwrap();
    conn.transact(crate::common::SCHEMA).unwrap();
    let first = conn.transact(r#"[{:order/id "A"}]"#).unwrap().t();
    conn.transact(r#"[{:order/id "B"}]"#).unwrap();
    let config = annals_server::Config {
        backup_dir: Some(dir.path().join("backups")),
        restore_dir: Some(dir.path().join("restored")),
        ..Default::default()
    };
    std::fs::create_dir(dir.path().join("backups")).unwrap();
    std::fs::create_dir(dir.path().join("restored")).unwrap();
    let mut s = Running::over(config, conn);
    let restore = |body: serde_json::Value| s.json(&format!("{DB}/restore"), body);
    restore(json!({"as": "then"})).refused(404, "server/no-backup");
    s.request("POST", &format!("{DB}/backup"), &[], b"").ok();
    for bad in ["../x", "A", "", "x/y"] {
        restore(json!({"as": bad})).refused(400, "request/database-name");
    }
    restore(json!({"as": "orders"})).refused(409, "server/name-taken");
    restore(json!({"as": "x", "to": "/etc"})).refused(400, "request/unknown-member");
    let made = restore(json!({"as": "then", "t": first.0}));
    assert_eq!((made.status, made.header("location")), (201, "/v1/db/then"), "{}", made.text());
    restore(json!({"as": "then"})).refused(409, "server/name-taken");
    assert_eq!(restore(json!({"as": "all"})).status, 201);
    let ids = |db: &str| {
        let query = json!({"query": "[:find [?id ...] :where [_ :order/id ?id]]"});
        s.json(&format!("/v1/db/{db}/query"), query).ok()["rows"].clone()
    };
    assert_eq!(
        (ids("then"), ids("all"), ids("orders")),
        (json!(["A"]), json!(["A", "B"]), json!(["A", "B"]))
    );
    s.edn("/v1/db/then/transact", r#"[{:order/id "C"}]"#).ok();
    assert_eq!((ids("then"), ids("orders")), (json!(["A", "C"]), json!(["A", "B"])));
    s.stop();
}
