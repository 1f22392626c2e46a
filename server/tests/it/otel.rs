//! Traces against a collector made here: what a span says, and that a collector that
//! is away costs nothing but spans.

use crate::common::{Running, request};
use annals_server::Config;
use serde_json::Value as Json;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
    time::Duration,
};

/// Takes messages on a port and hands them over.
fn collector() -> (String, mpsc::Receiver<(String, Json)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, messages) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            loop {
                let (mut head, mut length) = (String::new(), 0);
                while reader.read_line(&mut head).is_ok_and(|n| n > 2) {}
                if head.is_empty() {
                    break;
                }
                for line in head.lines() {
                    if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                        length = n.parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let first = head.lines().next().unwrap().to_owned();
                if sender.send((first, serde_json::from_slice(&body).unwrap())).is_err() {
                    return;
                }
                reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
            }
        }
    });
    (url, messages)
}

#[test]
fn a_request_is_a_span_that_continues_its_callers_trace() {
    let (url, messages) = collector();
    let s = Running::with(Config { otlp_endpoint: Some(url), ..Config::default() });
    let query = r#"{"query": "[:find ?e :where [?e :order/id \"secret literal\"]]"}"#;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("content-type", "application/json"), ("traceparent", trace)];
    let reply = s.raw(&request("POST", "/v1/db/orders/query", &headers, query.as_bytes()));
    let request_id = reply.header("x-request-id").to_owned();
    assert_eq!(reply.status, 200);
    s.get("/v1/db/nobody/schema").refused(404, "request/no-database");
    let mut spans = Vec::new();
    while spans.len() < 2 {
        let (first, message) = messages.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first, "POST /v1/traces HTTP/1.1");
        assert!(!message.to_string().contains("secret"), "{message}");
        let resource = &message["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "annals");
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    let of = |span: &Json, key: &str| {
        let found = span["attributes"].as_array().unwrap().iter().find(|a| a["key"] == key).cloned();
        found.map(|a| a["value"].as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned())
    };
    let span = &spans[0];
    assert_eq!(span["name"], "POST /v1/db/{name}/query");
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(of(span, "annals.request_id").as_deref(), Some(&*request_id));
    assert_eq!(of(span, "annals.basis_t").as_deref(), Some("1"));
    assert_eq!(of(span, "db.response.returned_rows").as_deref(), Some("0"));
    assert_eq!(of(span, "annals.query.hash").map(|h| h.len()), Some(16));
    let at = |name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
    assert!(at("startTimeUnixNano") < at("endTimeUnixNano"));
    assert_eq!(of(&spans[1], "http.response.status_code").as_deref(), Some("404"));
    assert!(spans[1].get("parentSpanId").is_none());
}

#[test]
fn a_collector_that_is_away_costs_nothing_but_spans() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let s = Running::with(Config { otlp_endpoint: Some(format!("http://{closed}")), ..Config::default() });
    for _ in 0..50 {
        s.get("/health").ok();
    }
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while s.server.traces.get().unwrap().dropped() == 0 {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    s.get("/health").ok();
}
