//! Who may do what: hosts and origins, tokens and scopes, names that stay in their folder.

use crate::common::{Running, path};
use annals_server::{Config, Scope, Token, TokenFile};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

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
