//! The Rust client against a running server: what it answers is what the library
//! answers over the same database, and its streams survive cut connections.

use crate::common::{Running, SCHEMA};
use annals::{
    EntityId, QueryOptions, T, Value,
    event::{Expected, NewEvent, Position, StreamId, StreamWrite, Version},
};
use annals_server::{
    Config, Limits, Scope, Token, TokenFile,
    client::{ClientError, ConnectOptions, Connection, Update, connect, connect_with},
};
use serde_json::json;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

fn url(address: SocketAddr) -> String {
    format!("http://{address}/v1/db/orders")
}

fn client(s: &Running) -> Connection {
    connect(&url(s.address)).unwrap()
}

/// Some history with every kind of value.
fn filled() -> (Running, Connection) {
    let s = Running::start();
    let c = client(&s);
    c.transact(
        r#"[{:db/ident :item/pair :db/valueType :db.type/tuple :db/tupleTypes [:db.type/ref :db.type/long] :db/cardinality :db.cardinality/one}
            {:db/ident :item/amount :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}
            {:db/ident :item/key :db/valueType :db.type/uuid :db/cardinality :db.cardinality/one :db/unique :db.unique/value}
            {:db/ident :item/raw :db/valueType :db.type/bytes :db/cardinality :db.cardinality/one}]"#,
    )
    .unwrap();
    c.transact(
        r#"[{:db/id "a" :order/id "A" :order/status :placed :order/total 1.5 :order/tag ["x" "y\n\"z\""] :order/next "b" :order/at #inst "2026-01-02T03:04:05Z"}
            {:db/id "b" :order/id "B" :order/count 9007199254740993 :item/amount 1.50M :item/raw #bytes "00ff"
             :item/key #uuid "00000000-0000-0000-0000-000000000001" :item/pair ["a" 7]}]"#,
    )
    .unwrap();
    c.transact(r#"[{:order/id "A" :order/status :paid} [:db/retract [:order/id "A"] :order/tag "x"]]"#)
        .unwrap();
    (s, c)
}

#[test]
fn queries_answer_as_the_library_does() {
    let (s, c) = filled();
    let (local, remote) = (s.conn.db(), c.db().unwrap());
    assert_eq!(remote.t(), local.t());
    for q in [
        "[:find ?e ?a ?v :where [?e ?a ?v] [?e :order/id]]",
        "[:find ?e ?v :where [?e :order/next ?v]]",
        "[:find [?v ...] :where [_ :order/next ?v]]",
        "[:find [?e ?n] :where [?e :order/next ?n]]",
        "[:find ?e . :where [?e :order/id \"B\"]]",
        "[:find ?e . :where [?e :order/id \"none\"]]",
        "[:find [?e ?n] :where [?e :order/id \"none\"] [?e :order/next ?n]]",
        "[:find ?e ?id :keys entity id :where [?e :order/id ?id]]",
        "[:find [?e ?id] :strs entity id :where [?e :order/id ?id] [?e :order/next]]",
        "[:find (count ?e) . :where [?e :order/id]]",
        "[:find ?id ?when :where [?e :order/id ?id ?tx] [?tx :db/txInstant ?when]]",
    ] {
        let (here, there) = (local.query(q, ()).unwrap(), remote.query(q, ()).unwrap());
        assert_eq!(there.shape, here.shape, "{q}");
        let exact = !q.contains("?a ?v");
        match exact {
            true => assert_eq!(there.value(), here.value(), "{q}"),
            // A column of mixed types shows references as the numbers they are in EDN.
            false => assert_eq!(annals::edn::print(&there.value()), annals::edn::print(&here.value()), "{q}"),
        }
        assert_eq!(there.basis_t, here.basis_t);
    }
    let rules = "[[(reach ?a ?b) [?a :order/next ?b]]]";
    let q = "[:find ?id . :in $ % ?from :where [?a :order/id ?from] (reach ?a ?b) [?b :order/id ?id]]";
    let inputs = vec![annals::Input::Rules(rules.into()), annals::Input::from("A")];
    assert_eq!(remote.query(q, inputs).unwrap().scalar(), Some("B".into()));
}

#[test]
fn the_past_the_indexes_and_the_schema_are_those_of_the_library() {
    let (s, c) = filled();
    let (local, remote) = (s.conn.db(), c.db().unwrap());
    let q = "[:find ?s . :where [?e :order/id \"A\"] [?e :order/status ?s]]";
    for t in 0..=local.t().0 {
        let (here, there) = (local.as_of(T(t)), remote.as_of(T(t)).unwrap());
        assert_eq!(there.t(), here.t());
        let schema = there.schema().unwrap();
        assert!(schema.attributes().eq(here.schema().attributes()), "t {t}");
        assert!(schema.idents().eq(here.schema().idents()), "t {t}");
        if t >= 1 {
            assert_eq!(there.query(q, ()).unwrap().scalar(), here.query(q, ()).unwrap().scalar(), "t {t}");
        }
        let all = [Value::keyword("db/ident")];
        assert_eq!(there.datoms("aevt", &all).unwrap(), here.datoms("aevt", &all).unwrap());
    }
    let instant = s.conn.db().instant_of(T(3)).unwrap().unwrap();
    assert_eq!(remote.as_of(instant).unwrap().t(), T(3));
    assert_eq!(remote.instant_of(T(3)).unwrap(), Some(instant));
    for index in ["eavt", "aevt", "avet", "vaet"] {
        assert_eq!(remote.datoms(index, &[]).unwrap(), local.datoms(index, &[]).unwrap(), "{index}");
    }
    let (since, history) = (remote.since(T(2)).unwrap(), remote.history());
    assert_eq!(since.datoms("eavt", &[]).unwrap(), local.since(T(2)).datoms("eavt", &[]).unwrap());
    assert_eq!(history.datoms("eavt", &[]).unwrap(), local.history().datoms("eavt", &[]).unwrap());

    let a = local.resolve(("order/id", "A")).unwrap().unwrap();
    assert_eq!(remote.resolve(("order/id", "A")).unwrap(), Some(a));
    assert_eq!(remote.resolve(("order/id", "nobody")).unwrap(), None);
    assert_eq!(remote.entity(a).unwrap(), local.entity(a).unwrap());
    assert_eq!(remote.history_of(a, None).unwrap(), local.history_of(a, None).unwrap());
    assert_eq!(
        remote.history_of(("order/id", "A"), Some(":order/tag")).unwrap(),
        local.history_of(a, Some(":order/tag")).unwrap()
    );
    for pattern in ["[*]", "[:order/id {:order/next [:order/id :item/pair]}]", "[{:order/_next [:order/id]}]"]
    {
        let b = ("order/id", "B");
        assert_eq!(remote.pull(pattern, a).unwrap(), local.pull(pattern, a).unwrap(), "{pattern}");
        assert_eq!(remote.pull(pattern, b).unwrap(), local.pull(pattern, b).unwrap(), "{pattern}");
    }
    let diff = "[:find ?t :where [_ :order/tag ?t]]";
    assert_eq!(
        remote.diff(diff, (), T(1), local.t()).unwrap().len(),
        local.diff(diff, (), T(1), local.t()).unwrap().len()
    );
    let log = c.log(T(1), local.t().next()).unwrap();
    assert_eq!(log.iter().map(|tx| tx.t).collect::<Vec<_>>(), (1..=local.t().0).map(T).collect::<Vec<_>>());
    for (tx, report) in log.iter().zip(s.conn.tx_range(T(1), local.t().next()).unwrap()) {
        assert_eq!(tx.datoms, report.unwrap().tx_data());
    }
}

#[test]
fn a_database_value_stays_what_it_was() {
    let (_s, c) = filled();
    let before = c.db().unwrap();
    let q = "[:find (count ?e) . :where [?e :order/id]]";
    assert_eq!(before.query(q, ()).unwrap().scalar(), Some(Value::Long(2)));
    let report = c.transact(r#"[{:db/id "new" :order/id "C"}]"#).unwrap();
    assert_eq!(before.query(q, ()).unwrap().scalar(), Some(Value::Long(2)));
    let after = c.db_at(report.t()).unwrap();
    assert_eq!(after.query(q, ()).unwrap().scalar(), Some(Value::Long(3)));
    assert_eq!(after.resolve(("order/id", "C")).unwrap(), report.tempid("new"));
    assert_eq!(report.tx_data().len(), report.n_datoms());

    let speculative = after.with(r#"[[:db/retractEntity [:order/id "C"]]]"#).unwrap();
    assert!(speculative.tx_data().iter().any(|d| !d.added));
    assert_eq!(c.db().unwrap().t(), report.t());
}

#[test]
fn refusals_keep_code_place_and_hint() {
    let (s, c) = filled();
    let db = c.db().unwrap();
    let q = "[:find ?e :where [?e :order/statsu :paid]]";
    let e = db.query(q, ()).unwrap_err();
    assert_eq!(e.code(), "query/unknown-attribute");
    let d = &e.diagnostics()[0];
    let span = d.labels[0].span;
    assert_eq!(&q[span.start..span.end], ":order/statsu");
    assert!(d.help.as_deref().unwrap().contains(":order/status"));
    let tx = "[{:order/id \"A\" :order/statsu :paid}]";
    let e = c.transact(tx).unwrap_err();
    assert_eq!(e.refusal().unwrap().status, 422);
    let e2 = s.conn.transact(tx).unwrap_err();
    assert_eq!(e.code(), e2.code());
    assert_eq!(
        e.diagnostics()[0].labels.first().map(|l| l.span),
        e2.diagnostics()[0].labels.first().map(|l| l.span)
    );
    // What cannot be read is not sent, and says where.
    let e = c.transact("[{:order/id").unwrap_err();
    assert!(matches!(e, ClientError::Input(_)) && !e.diagnostics()[0].labels.is_empty());
    assert_eq!(db.attribute("order/statsu").unwrap_err().code(), "db/unknown-attribute");
    assert_eq!(db.query("[:find ?x :in $ ?x]", (s.conn.db(),)).unwrap_err().code(), "client/input");
}

#[test]
fn a_key_makes_one_transaction() {
    let (_s, c) = filled();
    let first = c.transact_once("k-1", r#"[{:order/id "K"}]"#).unwrap();
    let again = c.transact_once("k-1", r#"[{:order/id "K"}]"#).unwrap();
    assert_eq!((again.t(), again.replayed()), (first.t(), true));
    assert_eq!(c.transact_once("k-1", r#"[{:order/id "L"}]"#).unwrap_err().code(), "idempotency/key-reused");
}

#[test]
fn addresses_and_tokens_are_checked_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens");
    let (token, text) = Token::create("reader", vec![Scope::Read], vec!["orders".into()], None);
    TokenFile::new(&path).add(token).unwrap();
    let s = Running::with(Config { token_file: Some(path), ..Config::default() });
    let code = |url: &str, token: Option<&str>| {
        let options = ConnectOptions { token: token.map(str::to_owned), ..ConnectOptions::default() };
        let e = connect_with(url, options).map(drop).unwrap_err();
        assert!(!format!("{e} {e:?}").contains(text.rsplit('_').next().unwrap()));
        assert!(e.help().is_some(), "{e}");
        e.code().to_owned()
    };
    for bad in [
        "",
        "orders",
        "ftp://x/v1/db/orders",
        "http:///v1/db/orders",
        "http://localhost/orders",
        "http://localhost/v1/db/../etc",
        "http://a:b@localhost/v1/db/orders",
        "http://localhost/v1/db/orders?x=1",
    ] {
        assert_eq!(code(bad, None), "client/url", "{bad}");
    }
    assert_eq!(code("http://db.example/v1/db/orders", Some(&text)), "client/url");
    assert_eq!(code(&url(s.address), None), "access/token");
    assert_eq!(code(&url(s.address), Some("annals_x_y")), "access/token");
    assert_eq!(code(&url(s.address), Some("two\nlines")), "client/input");
    assert_eq!(code(&format!("http://{}/v1/db/other", s.address), Some(&text)), "request/no-database");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(code(&url(closed), None), "client/unreachable");
    let options = ConnectOptions { token: Some(text.clone()), ..ConnectOptions::default() };
    assert!(!format!("{options:?}").contains(&text));
    let c = connect_with(&url(s.address), options).unwrap();
    assert_eq!(c.transact("[{:order/id \"A\"}]").unwrap_err().code(), "access/scope");
}

#[test]
fn something_that_is_no_server_of_ours_is_said_to_be_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
            "HTTP/1.1 502 Bad\r\ncontent-length: 2\r\n\r\nno",
            "HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{:basis-t 1",
            "garbage\r\n\r\n",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let codes: Vec<String> = (0..4).map(|_| connect(&url(address)).unwrap_err().code().to_owned()).collect();
    assert_eq!(codes, ["client/answer", "client/answer", "client/unreachable", "client/unreachable"]);
}

#[test]
fn a_query_ends_by_its_deadline_and_by_its_flag() {
    let limits = Limits { query_rows: u64::MAX >> 1, query_bytes: 1 << 40, ..Limits::default() };
    let s = Running::with(Config { limits, ..Config::default() });
    let forms: Vec<String> = (0..400).map(|i| format!("{{:order/id \"o{i}\"}}")).collect();
    s.conn.transact(format!("[{}]", forms.join(""))).unwrap();
    let db = client(&s).db().unwrap();
    let bomb = "[:find (count ?a) . :with ?b ?c ?d :where [?a :order/id ?i] [?b :order/id ?j] [?c :order/id ?k] [?d :order/id ?l] [(str ?i ?j ?k ?l) ?s] [(= ?s \"no\")]]";
    let options = QueryOptions { timeout_ms: Some(100), ..QueryOptions::default() };
    let begun = Instant::now();
    let e = db.query_with(bomb, (), &options).unwrap_err();
    assert!(
        matches!(e.code(), "query/timeout" | "query/deadline")
            || e.refusal().is_some_and(|r| r.status == 408),
        "{e:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));

    let options = QueryOptions { timeout_ms: Some(60_000), ..QueryOptions::default() };
    let flag = options.cancel.clone();
    let (begun, raised) = (Instant::now(), Duration::from_millis(200));
    std::thread::spawn(move || {
        std::thread::sleep(raised);
        flag.cancel();
    });
    assert_eq!(db.query_with(bomb, (), &options).unwrap_err().code(), "client/cancelled");
    assert!(begun.elapsed() < raised + Duration::from_secs(5), "{:?}", begun.elapsed());
    // The server stopped it too: nothing runs any more.
    let until = Instant::now() + Duration::from_secs(5);
    while s.server.readers.load().0 > 0 {
        assert!(Instant::now() < until, "the query goes on without its client");
        std::thread::yield_now();
    }
}

#[test]
fn calls_work_from_async_code_too() {
    let (s, _) = filled();
    let address = s.address;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let c = connect(&url(address)).unwrap();
        assert!(c.db().unwrap().t() > T(0));
    });
}

/// A way to a server that is cut again and again.
struct Cutter {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Cutter {
    /// Passes on at most `bytes` of each answer, then closes.
    fn before(server: SocketAddr, bytes: usize) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (mut near, mut far) = (stream.unwrap(), TcpStream::connect(server).unwrap());
                let (mut near2, mut far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || drop(std::io::copy(&mut near2, &mut far2)));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut (&mut far).take(bytes as u64), &mut near);
                    let _ = near.shutdown(std::net::Shutdown::Both);
                    let _ = far.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Cutter { address, stop }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

#[test]
fn transactions_come_once_and_in_order_over_cut_connections() {
    let s = Running::start();
    let cutter = Cutter::before(s.address, 40_000);
    let c = connect(&url(cutter.address)).unwrap();
    let mut changes = c.changes(T(1)).unwrap();
    let writer = s.conn.clone();
    let writing = std::thread::spawn(move || {
        for i in 0..300 {
            writer.transact(format!("[{{:order/id \"o{i}\" :order/count {i}}}]")).unwrap();
        }
    });
    for t in 2..302 {
        let tx = changes.next_timeout(Duration::from_secs(20)).unwrap().expect("a transaction");
        assert_eq!(tx.t, T(t));
        assert!(tx.datoms.len() >= 2);
    }
    writing.join().unwrap();
    assert_eq!(changes.next_timeout(Duration::from_millis(50)).unwrap(), None);
    assert_eq!(changes.position(), T(301));
}

#[test]
fn a_live_query_equals_its_rows_over_cut_connections() {
    let s = Running::start();
    let cutter = Cutter::before(s.address, 6_000);
    let c = connect(&url(cutter.address)).unwrap();
    let q = "[:find ?o ?id ?s :where [?o :order/id ?id] [?o :order/status ?s]]";
    let mut live = c.subscribe(q, ()).unwrap();
    let mut rows: std::collections::BTreeSet<Vec<Value>> = Default::default();
    let writer = s.conn.clone();
    let writing = std::thread::spawn(move || {
        for i in 0..200 {
            let status = ["placed", "paid", "shipped"][i % 3];
            writer.transact(format!("[{{:order/id \"o{}\" :order/status :{status}}}]", i % 7)).unwrap();
        }
    });
    let last = T(201);
    while live.position().is_none_or(|t| t < last) {
        match live.next_timeout(Duration::from_secs(20)).unwrap().expect("an update") {
            Update::Snapshot { rows: all, columns, .. } => {
                assert_eq!(columns, ["?o", "?id", "?s"]);
                rows = all.into_iter().collect();
            }
            Update::Change { added, removed, t } => {
                for row in removed {
                    assert!(rows.remove(&row), "{row:?} was not there at {t}");
                }
                for row in added {
                    assert!(rows.insert(row), "twice at {t}");
                }
                let then = s.conn.db().as_of(t).query(q, ()).unwrap();
                assert_eq!(
                    rows.iter().cloned().collect::<Vec<_>>(),
                    then.rows.iter().collect::<Vec<_>>(),
                    "{t}"
                );
            }
            Update::Checkpoint { .. } => {}
        }
    }
    writing.join().unwrap();
    assert!(rows.iter().all(|r| matches!(r[0], Value::Ref(_)) && matches!(r[2], Value::Keyword(_))));
    let mut resumed = client(&s).resume(q, (), last).unwrap();
    assert_eq!(resumed.next_timeout(Duration::from_millis(50)).unwrap(), None);
}

#[test]
fn events_go_there_and_come_back() {
    let s = Running::start();
    let c = client(&s);
    let event = |n: i64| {
        NewEvent::new("Placed", json!({"n": n, "text": "ä\n"}))
            .unwrap()
            .correlation("talk")
            .actor("ada")
            .meta("kind", Value::keyword("a/b"))
    };
    let write = |expected, n| StreamWrite {
        stream: StreamId::new("order-1").unwrap(),
        expected,
        events: vec![event(n)],
    };
    let first = c.append(&[write(Expected::NoStream, 1)]).unwrap();
    assert_eq!((first.first, first.replayed), (Position(1), false));
    let e = c.append(&[write(Expected::Exact(Version(5)), 2)]).unwrap_err();
    assert_eq!(e.refusal().unwrap().more["actual_version"], 1);
    let cutter = Cutter::before(s.address, 2_500);
    let far = connect(&url(cutter.address)).unwrap();
    let mut feed = far.events(Position::ZERO).unwrap();
    for n in 2..60 {
        c.append(&[write(Expected::Exact(Version(n - 1)), n as i64)]).unwrap();
    }
    for n in 1..60 {
        let e = feed.next_timeout(Duration::from_secs(20)).unwrap().expect("an event");
        assert_eq!((e.position, e.version), (Position(n), Version(n)));
    }
    let local = s.conn.db().events().stream(&StreamId::new("order-1").unwrap(), Version(1), 100).unwrap();
    let remote = c.stream("order-1", Version(1), 100).unwrap();
    assert_eq!(remote, local);
    assert_eq!(c.all(Position(57), 10).unwrap().len(), 2);
    assert_eq!(c.streams().unwrap(), [(StreamId::new("order-1").unwrap(), Version(59))]);
    assert_eq!(c.stream("nobody", Version(1), 1).unwrap_err().class(), annals::ErrorClass::NotFound);
}

#[test]
fn the_rest_can_be_asked_for_by_path() {
    let (_s, c) = filled();
    let doc = c.request("GET", "/timeline", &[("buckets", "4")], None).unwrap();
    assert!(doc.get(&Value::keyword("basis-t")).is_some());
    assert_eq!(c.request("GET", "/nothing", &[], None).unwrap_err().code(), "request/no-route");
    assert_eq!((c.name(), c.projections().unwrap().len()), ("orders", 0));
    assert!(SCHEMA.contains(":order/id") && EntityId::from_raw(1).raw() == 1);
    let e = c.request("GET", "/a b", &[], None).unwrap_err();
    assert_eq!(e.code(), "client/input");
}
