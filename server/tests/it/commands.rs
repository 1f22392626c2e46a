//! Commands over HTTP: carried out once, refused with the rule's code, asked after.

use crate::common::{Reply, Running, SCHEMA};
use annals::event::{Aggregate, Append, Decide, Event};
use annals_server::{Config, Scope, Token, TokenFile};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::{path::Path, sync::Barrier};

const DB: &str = "/v1/db/orders";

/// Stock of one item: what is there, and what was ordered of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Stock {
    left: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Ask {
    Receive { amount: i64 },
    Order { amount: i64 },
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Said {
    Received { amount: i64 },
    Ordered { amount: i64 },
}

impl Event for Said {
    const TYPES: &'static [(&'static str, u32)] = &[("Received", 1), ("Ordered", 1)];
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum No {
    #[error("only {left} left")]
    OutOfStock { left: i64 },
}

impl Aggregate for Stock {
    const CATEGORY: &'static str = "stock";
    type Command = Ask;
    type Event = Said;
    type Error = No;
    fn apply(&mut self, e: &Said) {
        match e {
            Said::Received { amount } => self.left += amount,
            Said::Ordered { amount } => self.left -= amount,
        }
    }
    fn handle(&self, c: Ask, _: &Decide<'_>) -> Result<Vec<Said>, No> {
        match c {
            Ask::Receive { amount } => Ok(vec![Said::Received { amount }]),
            Ask::Order { amount } if amount <= self.left => Ok(vec![Said::Ordered { amount }]),
            Ask::Order { .. } => Err(No::OutOfStock { left: self.left }),
            Ask::Nothing => Ok(Vec::new()),
        }
    }
}

/// The aggregate of the OpenAPI document's example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    total: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OrderAsk {
    Place { total: i64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OrderSaid {
    OrderOpened { total: i64 },
}

impl Event for OrderSaid {
    const TYPES: &'static [(&'static str, u32)] = &[("OrderOpened", 1)];
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Command = OrderAsk;
    type Event = OrderSaid;
    type Error = No;
    fn apply(&mut self, e: &OrderSaid) {
        let OrderSaid::OrderOpened { total } = e;
        self.total += total;
    }
    fn handle(&self, c: OrderAsk, _: &Decide<'_>) -> Result<Vec<OrderSaid>, No> {
        let OrderAsk::Place { total } = c;
        Ok(vec![OrderSaid::OrderOpened { total }])
    }
}

fn shop() -> Running {
    let conn = annals::in_memory().unwrap();
    conn.transact(SCHEMA).unwrap();
    conn.register_commands::<Stock>().unwrap();
    Running::over(Config::default(), conn)
}

fn send(s: &Running, headers: &[(&str, &str)], body: &Json) -> Reply {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    s.request("POST", &format!("{DB}/commands"), &all, body.to_string().as_bytes())
}

fn order(item: &str, amount: i64) -> Json {
    json!({"category": "stock", "id": item, "type": "Order", "payload": {"amount": amount}})
}

fn receive(item: &str, amount: i64) -> Json {
    json!({"category": "stock", "id": item, "type": "Receive", "payload": {"amount": amount}})
}

fn done(reply: Reply, status: u16) -> (Json, String) {
    assert_eq!(reply.status, status, "{}", reply.text());
    (reply.json(), reply.header("location").to_owned())
}

#[test]
fn a_command_makes_events_and_a_rule_refuses_with_its_code() {
    let s = shop();
    let reply = send(&s, &[], &receive("bolt", 5));
    assert_eq!(reply.header("etag"), "\"v1\"");
    let (doc, location) = done(reply, 201);
    assert_eq!(location, format!("{DB}/streams/stock-bolt"));
    assert_eq!((doc["version"].as_u64(), doc["events"].as_u64()), (Some(1), Some(1)));
    let events = s.get(&location).ok();
    assert_eq!(events["events"][0]["type"], "Received");
    assert_eq!(events["events"][0]["actor"], "local");
    done(send(&s, &[], &order("bolt", 3)), 200);
    let refused = send(&s, &[], &order("bolt", 4)).refused(422, "stock/out-of-stock");
    assert_eq!(
        (refused["rejected"].as_bool(), refused["detail"].as_str()),
        (Some(true), Some("only 2 left"))
    );
    // Nothing to do is done, and changes nothing.
    let nothing = json!({"category": "stock", "id": "bolt", "type": "Nothing", "payload": null});
    let (doc, _) = done(send(&s, &[], &nothing), 200);
    assert_eq!((doc["version"].as_u64(), doc["events"].as_u64()), (Some(2), Some(0)));
    // EDN says the same; a version that does not hold is 412 from either place.
    let edn = "{:category \"stock\" :id \"bolt\" :type \"Order\" :payload {:amount 1}}";
    assert_eq!(s.edn(&format!("{DB}/commands"), edn).ok()["version"], 3);
    let doc = send(&s, &[("if-match", "\"v1\"")], &order("bolt", 1)).refused(412, "command/wrong-version");
    assert_eq!(doc["actual_version"], 3);
    let mut stale = order("bolt", 1);
    stale["if_version"] = json!(2);
    send(&s, &[], &stale).refused(412, "command/wrong-version");
    send(&s, &[("if-match", "\"v3\"")], &order("bolt", 1)).ok();
}

#[test]
fn resolves_names_are_taken_and_what_is_unknown_is_named() {
    let s = shop();
    let body =
        json!({"aggregateName": "stock", "aggregateId": "nut", "type": "Receive", "payload": {"amount": 1}});
    done(send(&s, &[], &body), 201);
    let doc = send(&s, &[], &json!({"category": "cellar", "type": "Open", "payload": {}}))
        .refused(422, "command/unknown-category");
    assert_eq!(doc["known"], json!(["stock"]));
    let doc =
        send(&s, &[], &json!({"category": "stock", "type": "Burn"})).refused(422, "command/unknown-type");
    assert!(doc["known"].as_array().unwrap().contains(&json!("Order")));
    send(&s, &[], &json!({"category": "stock", "type": "Order", "payload": {"amount": "x"}}))
        .refused(422, "command/bad-payload");
    send(&s, &[], &json!({"type": "Order"})).refused(400, "request/member");
    send(&s, &[], &json!({"category": "stock", "type": "Order", "surprise": 1}))
        .refused(400, "request/unknown-member");
    // A server without aggregates says so.
    let bare = Running::start();
    let doc = send(&bare, &[], &order("a", 1)).refused(422, "command/unknown-category");
    assert_eq!(doc["known"], json!([]));
}

#[test]
fn a_key_is_carried_out_once_among_eight_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orders");
    let open = || {
        // The threads of the server before let go of the database a moment after it stopped.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let conn = loop {
            match annals::open(&path) {
                Ok(conn) => break conn,
                Err(e) if e.code() == "storage/locked" && std::time::Instant::now() < until => {
                    std::thread::yield_now()
                }
                Err(e) => panic!("{e}"),
            }
        };
        conn.register_commands::<Stock>().unwrap();
        conn
    };
    let conn = open();
    let mut s = Running::over(Config::default(), conn);
    done(send(&s, &[], &receive("bolt", 10)), 201);
    let key = "5f0c6f2e-0000-4000-8000-000000000001";
    let barrier = Barrier::new(8);
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let one = || {
            barrier.wait();
            send(&s, &[("idempotency-key", key)], &order("bolt", 2))
        };
        let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let bodies: Vec<Json> = replies.into_iter().filter(|r| r.status != 409).map(|r| r.ok()).collect();
    assert!(!bodies.is_empty());
    assert!(bodies.iter().all(|b| b["t"] == bodies[0]["t"] && b["first"] == bodies[0]["first"]));
    assert_eq!(bodies.iter().filter(|b| b["replayed"] == false).count(), 1);
    assert_eq!(s.get(&format!("{DB}/streams/stock-bolt")).ok()["version"], 2);
    send(&s, &[("idempotency-key", key)], &order("bolt", 3)).refused(422, "event/command-reused");
    let refused = "5f0c6f2e-0000-4000-8000-000000000002";
    send(&s, &[("idempotency-key", refused)], &order("bolt", 99)).refused(422, "stock/out-of-stock");
    s.stop();
    drop(s);
    let s = Running::over(Config::default(), open());
    let again = send(&s, &[("idempotency-key", key)], &order("bolt", 2)).ok();
    assert_eq!((&again["t"], &again["replayed"]), (&bodies[0]["t"], &json!(true)));
    // A refusal is an outcome too, though there is stock enough by now.
    send(&s, &[], &receive("bolt", 1_000)).ok();
    let doc =
        send(&s, &[("idempotency-key", refused)], &order("bolt", 99)).refused(422, "stock/out-of-stock");
    assert_eq!(doc["replayed"], true);
    let status = s.get(&format!("{DB}/commands/{key}")).ok();
    assert_eq!((&status["status"], &status["t"]), (&json!("done"), &bodies[0]["t"]));
    let status = s.get(&format!("{DB}/commands/{refused}")).ok();
    assert_eq!((&status["status"], &status["code"]), (&json!("rejected"), &json!("stock/out-of-stock")));
    s.get(&format!("{DB}/commands/{}", key.replace('1', "9"))).refused(404, "command/unknown");
}

#[test]
fn an_aggregate_without_an_id_gets_one_and_a_retry_the_same() {
    let s = shop();
    let body = json!({"category": "stock", "type": "Receive", "payload": {"amount": 1}});
    let (first, place) = done(send(&s, &[("idempotency-key", "k-1")], &body), 201);
    let (again, _) = done(send(&s, &[("idempotency-key", "k-1")], &body), 201);
    assert_eq!((&again["stream"], &again["replayed"]), (&first["stream"], &json!(true)));
    assert!(place.ends_with(first["stream"].as_str().unwrap()));
    let (other, _) = done(send(&s, &[], &body), 201);
    assert_ne!(other["stream"], first["stream"]);
    let strict = {
        let conn = annals::in_memory().unwrap();
        conn.register_commands::<Stock>().unwrap();
        Running::over(Config { commands_need_key: true, ..Config::default() }, conn)
    };
    send(&strict, &[], &body).refused(400, "command/no-key");
    done(send(&strict, &[("idempotency-key", "k-1")], &body), 201);
}

/// A token to read and write everywhere, as it is sent.
fn writer(file: &Path, name: &str) -> String {
    let (token, text) = Token::create(name, vec![Scope::Read, Scope::Write], vec!["*".into()], None);
    TokenFile::new(file).add(token).unwrap();
    format!("Bearer {text}")
}

#[test]
fn a_key_is_of_its_principal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (ada, ben) = (writer(&file, "ada"), writer(&file, "ben"));
    let conn = annals::in_memory().unwrap();
    conn.transact(SCHEMA).unwrap();
    conn.register_commands::<Stock>().unwrap();
    let s = Running::over(Config { token_file: Some(file.clone()), ..Config::default() }, conn);
    let ask =
        |who: &str, body: &Json| send(&s, &[("authorization", who), ("idempotency-key", "order-1")], body);
    ask(&ada, &order("bolt", 1)).refused(422, "stock/out-of-stock");
    let status = |who: &str, key: &str| {
        s.request("GET", &format!("{DB}/commands/{key}"), &[("authorization", who)], b"")
    };
    let id = status(&ada, "order-1").ok()["command"].as_str().unwrap().to_owned();
    // The same key of somebody else is another command, and tells nothing of this one.
    status(&ben, "order-1").refused(404, "command/unknown");
    status(&ben, &id).refused(404, "command/unknown");
    let (done, _) = done(ask(&ben, &receive("bolt", 5)), 201);
    assert_ne!(done["command"].as_str(), Some(id.as_str()));
    assert_eq!(status(&ada, "order-1").ok()["status"], "rejected");
    assert_eq!(status(&ben, "order-1").ok()["status"], "done");
}

#[test]
fn a_command_that_waits_is_dropped_by_who_sent_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (ada, ben) = (writer(&file, "ada"), writer(&file, "ben"));
    let conn = annals::in_memory().unwrap();
    conn.register_commands::<Stock>().unwrap();
    // An event that cannot be read: whatever is asked of this stock waits until somebody mends it.
    conn.append(Append::to("stock-bolt").event("Received", r#"{"amount": "some"}"#).unwrap()).unwrap();
    let s = Running::over(Config { token_file: Some(file.clone()), ..Config::default() }, conn);
    let by = |who: &str, method: &str, rest: &str| {
        s.request(method, &format!("{DB}/commands/order-1{rest}"), &[("authorization", who)], b"")
    };
    let headers =
        [("authorization", ada.as_str()), ("idempotency-key", "order-1"), ("prefer", "respond-async")];
    done(send(&s, &headers, &order("bolt", 1)), 202);
    let queued = || s.conn.queued_commands().unwrap().len();
    let status = || by(&ada, "GET", "").ok()["status"].as_str().unwrap().to_owned();
    assert_eq!((queued(), ["accepted", "running", "failed"].contains(&&*status())), (1, true));
    by(&ben, "DELETE", "?why=mine").refused(404, "command/unknown");
    assert_eq!(queued(), 1);
    assert_eq!(by(&ada, "DELETE", "?why=too+late").status, 204);
    assert_eq!(queued(), 0);
    let outcome = by(&ada, "GET", "").ok();
    assert_eq!((&outcome["status"], &outcome["code"]), (&json!("rejected"), &json!("command/dropped")));
    assert!(outcome["message"].as_str().unwrap().ends_with(":ada: too late"), "{outcome}");
    by(&ada, "DELETE", "").refused(409, "command/decided");
}

#[test]
fn an_accepted_command_is_carried_out_and_its_status_tells() {
    let s = shop();
    let later = |key: &str, body: &Json| {
        let reply = send(&s, &[("prefer", "respond-async"), ("idempotency-key", key)], body);
        assert_eq!(reply.header("retry-after"), "1");
        done(reply, 202)
    };
    let (doc, place) = later("r-1", &receive("bolt", 5));
    assert!(place.ends_with("/commands/r-1"), "{place}");
    // Who runs the server may ask by the command's id too.
    let by_id = s.get(&format!("{DB}/commands/{}?wait=10s", doc["command"].as_str().unwrap())).ok();
    assert_eq!(by_id["command"], doc["command"]);
    let status = s.get(&format!("{place}?wait=10s")).ok();
    assert_eq!((&status["status"], status["events"].as_u64()), (&json!("done"), Some(1)));
    let t = status["t"].as_u64().unwrap();
    assert!(
        s.json(
            &format!("{DB}/query"),
            json!({"query": "[:find ?e :where [?e :event/type \"Received\"]]", "min_t": t})
        )
        .ok()["rows"]
            .as_array()
            .unwrap()
            .len()
            == 1
    );
    // The same key asks after it by its own text.
    assert_eq!(s.get(&format!("{DB}/commands/r-1")).ok()["t"], t);
    let (_, place) = later("r-2", &order("bolt", 6));
    let status = s.get(&format!("{place}?wait=10s")).ok();
    assert_eq!((&status["status"], &status["code"]), (&json!("rejected"), &json!("stock/out-of-stock")));
    // Sent again it is not carried out again.
    let (doc, _) = later("r-1", &receive("bolt", 5));
    assert_eq!(doc["status"], "done");
    assert_eq!(s.get(&format!("{DB}/streams/stock-bolt")).ok()["version"], 1);
    // What cannot be carried out is not accepted.
    send(&s, &[("prefer", "respond-async")], &json!({"category": "none", "type": "X"}))
        .refused(422, "command/unknown-category");
}
