//! Clients that do not read, connections that are cut, descriptors that run out: others do not notice,
//! and nothing is kept for those who are gone.

use crate::common::{Running, request};
use annals_server::{Config, Limits, client::connect};
use serde_json::json;
use std::{
    io::Write,
    time::{Duration, Instant},
};

const DB: &str = "/v1/db/orders";

fn impatient() -> Running {
    let limits = Limits { write_stall_ms: 1_500, result_rows: 10_000_000, ..Limits::default() };
    Running::with(Config { limits, ..Config::default() })
}

fn metric(s: &Running, name: &str) -> u64 {
    let text = s.get("/metrics").text().to_owned();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn becomes(what: &str, mut hold: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !hold() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_consumer_that_never_reads_is_let_go_and_misses_nothing_when_it_comes_back() {
    let s = impatient();
    let start = s.conn.db().t();
    let mut deaf = s.connect();
    deaf.write_all(&request("GET", &format!("{DB}/changes"), &[("accept", "text/event-stream")], b""))
        .unwrap();
    becomes("the stream is open", || metric(&s, "annals_streams_open") == 1);
    // More than the socket's buffers hold. No write waits for the one who does not read.
    let began = Instant::now();
    let text = "x".repeat(20_000);
    for i in 0..600 {
        s.conn.transact(format!(r#"[{{:order/id "o{i}" :order/tag "{text}"}}]"#)).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    becomes("it is let go", || metric(&s, "annals_streams_open") == 0);
    drop(deaf);
    let mut back = connect(&format!("http://{}{DB}", s.address)).unwrap().changes(start).unwrap();
    for i in 0..600 {
        let tx = back.next_timeout(Duration::from_secs(20)).unwrap().expect("a transaction");
        assert_eq!(tx.t.0, start.0 + 1 + i);
    }
}

#[test]
fn a_large_answer_that_nobody_reads_is_not_kept() {
    let s = impatient();
    let values: Vec<String> = (0..20_000).map(|i| format!("\"{i} {}\"", "y".repeat(300))).collect();
    s.conn.transact(format!(r#"[{{:order/id "a" :order/tag [{}]}}]"#, values.join(" "))).unwrap();
    let body = json!({"query": "[:find ?t ?u :where [_ :order/tag ?t] [?o :order/id ?u]]"}).to_string();
    let ask = request(
        "POST",
        &format!("{DB}/query"),
        &[("content-type", "application/json"), ("accept", "application/x-ndjson")],
        body.as_bytes(),
    );
    let mut deaf: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = s.connect();
            stream.write_all(&ask).unwrap();
            stream
        })
        .collect();
    let answered = r#"annals_http_requests_total{method="POST",route="/v1/db/{name}/query",status="200"} 5"#;
    becomes("all are being answered", || s.get("/metrics").text().contains(answered));
    std::thread::sleep(Duration::from_secs(4));
    // The server has closed them: what was buffered comes, and then the end, long before all rows.
    for stream in &mut deaf {
        let mut got = Vec::new();
        let _ = std::io::Read::read_to_end(stream, &mut got);
        assert!(!String::from_utf8_lossy(&got).contains("\"done\":true"), "the whole answer came");
    }
    s.get("/health").ok();
}

#[test]
fn a_feed_over_a_hundred_cuts_is_complete_and_in_order() {
    let s = Running::start();
    let start = s.conn.db().t().0;
    for i in 0..200 {
        s.conn.transact(format!(r#"[{{:order/id "o{i}"}}]"#)).unwrap();
    }
    let (mut last, mut seen) = (start, 0);
    for _ in 0..100 {
        let header = last.to_string();
        let mut events = s.events("GET", &format!("{DB}/changes"), &[("last-event-id", &header)], b"");
        // Two events, and the connection is cut in the middle of what follows.
        for _ in 0..2 {
            let event = events.next().expect("an event");
            assert_eq!(event.id, Some(last + 1), "after {seen} events");
            last += 1;
            seen += 1;
        }
    }
    assert_eq!((seen, last), (200, start + 200));
}

#[test]
fn a_commands_transaction_names_who_asked_and_how() {
    let s = Running::start();
    s.conn.register_commands::<crate::commands::Order>().unwrap();
    let place = json!({"category": "order", "id": "17", "type": "Place", "payload": {"total": 3}});
    let done = s.json(&format!("{DB}/commands"), place.clone());
    assert_eq!(done.status, 201);
    let t = done.json()["t"].as_u64().unwrap();
    let asked = json!({"query": "[:find [?who ?id ?from] :in $ ?t :where [?t :tx/principal ?who] [?t :tx/request-id ?id] [?t :tx/source ?from]]", "args": [t + (1 << 44)]});
    let rows = s.json(&format!("{DB}/query"), asked).ok()["rows"].clone();
    assert_eq!((&rows[0], &rows[2]), (&json!("local"), &json!("http")));
    assert_eq!(rows[1].as_str().unwrap(), done.header("x-request-id"));
    // Two versions that differ are one too many.
    let both =
        json!({"category": "order", "id": "17", "type": "Place", "payload": {"total": 3}, "if_version": 1});
    let headers = [("content-type", "application/json"), ("if-match", "\"v2\"")];
    s.request("POST", &format!("{DB}/commands"), &headers, both.to_string().as_bytes())
        .refused(400, "request/precondition");
}
