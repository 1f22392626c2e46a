//! What is too much, too slow, too deep or no request at all: refused with its status, and noticed by nobody else.

use crate::common::{Reply, Running, path, request};
use annals_server::{Config, Limits, Scope, Token, TokenFile};
use serde_json::json;
use std::{
    io::{BufReader, Read, Write},
    time::{Duration, Instant},
};

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
    let inner = br##"{"query": "[:find ?x . :in ?x]", "args": [{"#edn": "[1 ##NaN]"}]}"##;
    let inner = post("application/json", inner).refused(400, "edn/nan");
    assert_eq!((&inner["span"]["start"], &inner["of"]), (&3.into(), &"#edn".into()), "{inner}");
    let cut = post("application/json", b"{\"query\": ").refused(400, "json/syntax");
    assert_eq!((&cut["span"]["start"], &cut["of"]), (&10.into(), &"body".into()), "{cut}");
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
