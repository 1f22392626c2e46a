//! The server as a process of its own: signals, exit codes, and what its log, its
//! command line and its metrics tell about tokens (nothing).
//!
//! The child is this test's own binary: [`serves_when_told`] serves instead of testing
//! when the environment says so.

use crate::common::Reply;
use annals_server::{Config, Scope, Token, TokenFile};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const TOLD: &str = "ANNALS_TEST_SERVES";

/// Not a test: what the child process runs.
#[test]
fn serves_when_told() {
    let Ok(folder) = std::env::var(TOLD) else { return };
    let conn = annals::open(folder).unwrap();
    let config = match Config::load(None) {
        Ok(config) => config,
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(2);
        }
    };
    match annals_server::run(config, vec![("orders".into(), conn)]) {
        Ok(()) => std::process::exit(0),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(2);
        }
    }
}

struct Served {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    /// Starts a child on a free port and waits until it says where it listens.
    fn start(folder: &std::path::Path, env: &[(&str, &str)]) -> Served {
        let mut child = spawn(folder, env);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the child ended before it served");
            let plain = line.replace("\u{1b}", "");
            if let Some(rest) = plain.split("address=").nth(1) {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        let log = Arc::new(Mutex::new(line));
        let kept = log.clone();
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Served { child, address, log, reader: Some(reader) }
    }
    fn send(&self, text: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        Reply::read(&mut BufReader::new(stream)).expect("an answer")
    }
    fn get(&self, path: &str, token: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"))
    }
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
    fn ends(&mut self, within: Duration) -> Option<i32> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // All that it logged has been read.
                if let Some(reader) = self.reader.take() {
                    reader.join().unwrap();
                }
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end: {}", self.log.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &std::path::Path, env: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["process::serves_when_told", "--exact", "--nocapture"]);
    command.env(TOLD, folder).env("ANNALS_LISTEN", "127.0.0.1:0").env("NO_COLOR", "1");
    command.envs(env.iter().copied());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn tokens_are_in_no_log_no_metric_no_error_and_no_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (token, good) =
        Token::create("ci\u{1b}[31m", vec![Scope::Read, Scope::Write], vec!["orders".into()], None);
    TokenFile::new(&file).add(token).unwrap();
    let bad = format!("{}ffff", &good[..good.len() - 4]);
    let mut s = Served::start(
        &dir.path().join("orders"),
        &[("ANNALS_TOKEN_FILE", file.to_str().unwrap()), ("ANNALS_LOG", "trace")],
    );
    let mut seen = String::new();
    for (path, token) in [
        ("/v1/db/orders/schema", &good),
        ("/v1/db/orders/schema", &bad),
        ("/v1/db/hr/schema", &good),
        ("/metrics", &good),
        ("/metrics", &bad),
        ("/v1/db/orders/%1b%5b31mred%0aforged", &good),
    ] {
        seen.push_str(s.get(path, token).text());
    }
    // A token where it does not belong: refused, and not repeated.
    seen.push_str(s.get(&format!("/v1/db/orders/schema?token={good}"), "x").text());
    seen.push_str(s.get(&format!("/v1/db/orders/schema?token={good}"), &good).text());
    seen.push_str(&std::fs::read_to_string(format!("/proc/{}/cmdline", s.child.id())).unwrap());
    seen.push_str(&std::fs::read_to_string(format!("/proc/{}/environ", s.child.id())).unwrap());
    s.signal("TERM");
    assert_eq!(s.ends(Duration::from_secs(12)), Some(0));
    let log = s.log();
    assert!(log.contains("denied") && log.contains("answered"), "{log}");
    for secret in [good.rsplit('_').next().unwrap(), bad.rsplit('_').next().unwrap()] {
        assert!(!log.contains(secret), "a secret is in the log");
        assert!(!seen.contains(secret), "a secret was told");
    }
    // What users name cannot speak to the terminal that shows the log.
    let raw: Vec<&str> = log.lines().filter(|l| l.contains('\u{1b}')).collect();
    assert!(raw.is_empty(), "an escape character is in the log: {raw:?}");
    assert!(!log.lines().any(|l| l.trim_start().starts_with("forged")), "a line of the log was forged");
}

#[test]
fn an_address_that_others_reach_needs_tokens_and_tls() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    TokenFile::new(&file).add(Token::create("a", vec![Scope::Read], vec!["*".into()], None).0).unwrap();
    let refused = |n: u32, env: &[(&str, &str)]| {
        let env: Vec<_> = [("ANNALS_LISTEN", "0.0.0.0:0")].iter().chain(env).copied().collect();
        let output = spawn(&dir.path().join(n.to_string()), &env).wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, why) = refused(1, &[]);
    assert!(code == Some(2) && why.contains("--token-file"), "{code:?} {why}");
    let token_file = ("ANNALS_TOKEN_FILE", file.to_str().unwrap());
    let (code, why) = refused(2, &[token_file]);
    assert!(code == Some(2) && why.contains("--behind-proxy"), "{code:?} {why}");
    let (code, why) =
        refused(3, &[token_file, ("ANNALS_TLS_CERT", "/nowhere"), ("ANNALS_TLS_KEY", "/nowhere")]);
    assert!(code == Some(2) && why.contains("certificate /nowhere"), "{code:?} {why}");
}

#[test]
fn the_first_term_finishes_what_runs_and_the_second_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = Served::start(&dir.path().join("orders"), &[]);
    let mut slow = TcpStream::connect(s.address).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A request whose body is still on its way when the signal comes.
    let body = "[{:db/id \"x\" :db/doc \"kept\"}]";
    slow.write_all(format!("POST /v1/db/orders/transact HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/edn\r\ncontent-length: {}\r\n\r\n{}", body.len(), &body[..5]).as_bytes()).unwrap();
    let mut stream = TcpStream::connect(s.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
        .write_all(
            b"GET /v1/db/orders/changes HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n",
        )
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    s.signal("TERM");
    let until = Instant::now() + Duration::from_secs(2);
    while s.send("GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n").status != 503 {
        assert!(Instant::now() < until);
    }
    slow.write_all(&body.as_bytes()[5..]).unwrap();
    let answer = Reply::read(&mut BufReader::new(slow)).expect("what ran is finished");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The stream of events ends.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(s.ends(Duration::from_secs(12)), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10));
    // It was kept.
    let conn = annals::open(dir.path().join("orders")).unwrap();
    let kept = conn.db().query("[:find ?e . :where [?e :db/doc \"kept\"]]", ()).unwrap();
    assert!(kept.scalar().is_some());
    drop(conn);

    let mut s = Served::start(&dir.path().join("orders"), &[]);
    let mut stuck = TcpStream::connect(s.address).unwrap();
    stuck.write_all(b"POST /v1/db/orders/transact HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/edn\r\ncontent-length: 50\r\n\r\n[").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    s.signal("TERM");
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    s.signal("TERM");
    assert_eq!(s.ends(Duration::from_secs(8)), Some(143));
    assert!(began.elapsed() < Duration::from_secs(4), "the second signal waited for what was running");
}

#[test]
fn a_hangup_reads_the_tokens_again_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let (token, first) = Token::create("first", vec![Scope::Read], vec!["*".into()], None);
    TokenFile::new(&file).add(token).unwrap();
    let mut s = Served::start(&dir.path().join("orders"), &[("ANNALS_TOKEN_FILE", file.to_str().unwrap())]);
    s.get("/v1/db/orders/schema", &first).ok();
    let (token, second) = Token::create("second", vec![Scope::Read], vec!["*".into()], None);
    TokenFile::new(&file).add(token).unwrap();
    s.signal("HUP");
    let until = Instant::now() + Duration::from_secs(5);
    while s.get("/v1/db/orders/schema", &second).status != 200 {
        assert!(Instant::now() < until);
    }
    s.get("/v1/db/orders/schema", &first).ok();
    while !s.log().contains("reloaded") {
        assert!(Instant::now() < until);
    }
    s.signal("TERM");
    assert_eq!(s.ends(Duration::from_secs(12)), Some(0));
}
