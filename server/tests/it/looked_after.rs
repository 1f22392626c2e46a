//! Projections, streams, commands and subjects looked after over HTTP: preview, parked events,
//! copies, commands dropped from the queue, erasure.

use crate::common::Running;
use annals::event::{Append, Position};
use annals_server::{
    Config, Limits,
    client::{Connection, connect},
};
use serde_json::json;

const DB: &str = "/v1/db/orders";

const ARRIVALS: &str = r#"{:projection/name :arrivals :projection/version 1
  :projection/on-error :park
  :projection/mode :async
  :projection/schema [{:db/ident :arrival/order :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                      {:db/ident :arrival/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
  :projection/on [{:event "Arrived" :assert [{:arrival/order $stream.key :arrival/n $data.n}]}]}"#;

fn started() -> (Running, Connection) {
    let s = Running::start();
    let conn = connect(&format!("http://{}{DB}", s.address)).unwrap();
    (s, conn)
}

fn arrive(s: &Running, key: &str, data: &str) {
    s.conn.append(Append::to(format!("order-{key}")).event("Arrived", data).unwrap()).unwrap();
}

#[test]
fn a_preview_tells_the_difference_and_writes_nothing() {
    let (s, conn) = started();
    conn.add_projection(ARRIVALS).unwrap();
    arrive(&s, "a", r#"{"n": 1}"#);
    arrive(&s, "b", r#"{"n": 2}"#);
    s.conn.catch_up("arrivals").unwrap();
    let t = s.conn.db().t();
    let changed = ARRIVALS.replace("$data.n}", "(* 10 $data.n)}");
    let preview = conn.preview_projection(&changed, 100, None).unwrap();
    assert_eq!((preview.n_added, preview.n_removed, preview.same, preview.live), (2, 2, 2, Some(1)));
    assert_eq!(preview.added[0][1], annals::Value::keyword("arrival/n"));
    assert!(preview.added.iter().any(|f| f[2] == annals::Value::Long(20)));
    assert_eq!(s.conn.db().t(), t);
    // Fewer are listed, all are counted.
    let few = conn.preview_projection(&changed, 1, None).unwrap();
    assert_eq!((few.added.len(), few.n_added), (1, 2));
    let refused = conn.preview_projection("{:projection/name :x}", 1, None).unwrap_err();
    assert_eq!(refused.class(), annals::ErrorClass::Meaning, "{refused}");
    let json = s.json(&format!("{DB}/projections/preview"), json!({"projection/name": "x"}));
    json.refused(415, "request/media-type");
}

#[test]
fn a_preview_holds_no_more_facts_than_a_query_may_rows() {
    let limits = Limits { query_rows: 9, ..Limits::default() };
    let s = Running::with(Config { limits, ..Config::default() });
    for n in 0..6 {
        arrive(&s, &n.to_string(), &format!("{{\"n\": {n}}}"));
    }
    let refused = s.edn(&format!("{DB}/projections/preview"), ARRIVALS).refused(422, "projection/too-large");
    assert!(refused["detail"].as_str().unwrap().contains("more than 9 facts"), "{refused}");
}

#[test]
fn parked_events_are_listed_replayed_and_skipped() {
    let (s, conn) = started();
    conn.add_projection(ARRIVALS).unwrap();
    arrive(&s, "a", r#"{"n": 1}"#);
    arrive(&s, "b", r#"{"n": "many"}"#);
    s.conn.catch_up("arrivals").unwrap();
    let parked = conn.parked("arrivals").unwrap();
    assert_eq!(parked, s.conn.parked("arrivals").unwrap());
    assert_eq!((parked.len(), parked[0].stream.as_str(), parked[0].position), (1, "order-b", Position(2)));
    assert_eq!(conn.projections().unwrap()[0].parked, 1);
    let again = conn.replay_parked("arrivals").unwrap();
    assert_eq!((again.taken, again.left.len()), (0, 1));
    assert!(conn.skipped("arrivals").unwrap().is_empty());
    conn.skip_event("arrivals", Position(2), "recorded by mistake").unwrap();
    assert_eq!(conn.skipped("arrivals").unwrap(), s.conn.skipped("arrivals").unwrap());
    assert_eq!(conn.skip_event("arrivals", Position(2), " ").unwrap_err().code(), "request/unknown-member");
    assert_eq!(conn.parked("nothing").unwrap_err().code(), "projection/unknown");
}

#[test]
fn a_stream_is_copied_filtered_and_renamed_and_the_original_ends() {
    let (s, _) = started();
    s.conn
        .append(
            Append::to("order-1")
                .event("Placed", r#"{"n": 1}"#)
                .unwrap()
                .event("Typo", r#"{"n": 2}"#)
                .unwrap()
                .event("Paid", r#"{"n": 3}"#)
                .unwrap(),
        )
        .unwrap();
    let url = format!("{DB}/streams/order-1/copy");
    s.json(&url, json!({"too": "order-2"})).refused(400, "request/unknown-member");
    s.json(&url, json!({"types": []})).refused(400, "request/member");
    s.json(&url, json!({"to": "order-2", "rename": {"Paid": 3}})).refused(400, "request/unknown-member");
    let body = json!({"to": "order-2", "types": ["Placed", "Paid"], "rename": {"Paid": "Settled"}});
    let copied = s.json(&url, body.clone());
    assert_eq!((copied.status, copied.header("location")), (201, "/v1/db/orders/streams/order-2"));
    let page = s.get(&format!("{DB}/streams/order-2")).ok();
    let types: Vec<&str> =
        page["events"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["Placed", "Settled"]);
    assert_eq!(page["events"][1]["data"], json!({"n": 3}));
    s.get(&format!("{DB}/streams/order-1")).refused(410, "event/tombstoned");
    s.json(&url, body).refused(410, "event/tombstoned");
}

#[test]
fn a_subject_is_erased_with_what_was_made_of_it() {
    let (s, _) = started();
    // In EDN the payload is kept as it is written: the name is sealed, the keyword a keyword.
    let body =
        r#"[{:type "Registered" :data {:name #annals/personal ["p-1" "Ada Lovelace"] :kind :person}}]"#;
    assert_eq!(s.edn(&format!("{DB}/streams/person-1/events"), body).status, 201);
    // JSON says it with an escape.
    let escaped =
        json!([{"type": "Renamed", "data": {"name": {"#edn": "#annals/personal [\"p-1\" \"Ada King\"]"}}}]);
    assert_eq!(s.json(&format!("{DB}/streams/person-1/events"), escaped).status, 201);
    let names = |s: &Running| {
        let page = s.get(&format!("{DB}/streams/person-1")).ok();
        (page["events"][0]["data"].clone(), page["events"][1]["data"].clone())
    };
    assert_eq!(names(&s), (json!({"name": "Ada Lovelace", "kind": ":person"}), json!({"name": "Ada King"})));
    let erased = s.request("POST", &format!("{DB}/erase/p-1"), &[], b"");
    assert_eq!(erased.status, 202);
    assert_eq!((&erased.json()["events"], &erased.json()["processes"]), (&json!(2), &json!([])));
    let (first, second) = names(&s);
    assert_ne!(first["name"], "Ada Lovelace");
    assert_ne!(second["name"], "Ada King");
    // Asked again, it says the same; of nobody it says that there is nothing.
    assert_eq!(s.request("POST", &format!("{DB}/erase/p-1"), &[], b"").status, 202);
    s.request("POST", &format!("{DB}/erase/p-9"), &[], b"").refused(404, "event/no-subject");
}

#[test]
fn a_queued_command_can_be_dropped_once() {
    let (s, conn) = started();
    let unknown = conn.drop_command("order-17", "nobody wants it").unwrap_err();
    assert_eq!(unknown.code(), "command/unknown");
    s.conn.register_commands::<crate::commands::Order>().unwrap();
    let place = json!({"category": "order", "id": "17", "type": "Place", "payload": {"total": 3}});
    let headers = [("content-type", "application/json"), ("idempotency-key", "order-17")];
    let url = format!("{DB}/commands");
    assert_eq!(s.request("POST", &url, &headers, place.to_string().as_bytes()).status, 201);
    assert_eq!(conn.drop_command("order-17", "too late").unwrap_err().code(), "command/decided");
}
