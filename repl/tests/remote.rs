//! The same shell on a server: what a command prints of a database over HTTP is what it prints of
//! the folder, and what only a folder can do says so.

use annals::{
    Value,
    event::{Aggregate, CommandId, CommandRequest, Decide, Dispatch, Event},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};
use uuid::Uuid;

const BIN: &str = env!("CARGO_BIN_EXE_annals");

/// A server of one folder, gone when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn of(dir: &Path, db: &str) -> Server {
        // The port is free when asked; nothing else on this machine is given it in between.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let child = Command::new(BIN)
            .args(["serve", db, "--listen", &format!("127.0.0.1:{port}")])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Server { child, url: format!("http://127.0.0.1:{port}/v1/db/{db}") };
        let until = Instant::now() + Duration::from_secs(60);
        while annals_server::client::connect(&server.url).is_err() {
            assert!(Instant::now() < until, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

fn shell(dir: &Path, db: &str, script: &str, args: &[&str]) -> Output {
    let mut child = Command::new(BIN)
        .arg(db)
        .args(args)
        .current_dir(dir)
        .env("COLUMNS", "100")
        .env("HOME", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("the script is read");
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const SETUP: &str = r#"
[{:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
 {:db/ident :p/tag :db/valueType :db.type/keyword :db/cardinality :db.cardinality/many}
 {:db/ident :p/pay :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
[{:db/id "a" :p/name "Ada" :p/tag [:x :y] :p/pay 7} {:p/name "Ben" :p/boss "a" :p/pay 5}]
[[:db/retract [:p/name "Ada"] :p/tag :x] {:p/name "Cid" :p/boss [:p/name "Ben"] :p/pay 5}]
[{:p/name "Ben" :p/pay 6}]
:projections add p.edn
:send order-1 Placed {:total 12}
:send order-1 Paid {:total 13}
"#;

const PROJECTION: &str = r#"{:projection/name :o, :projection/version 1
 :projection/schema
 [{:db/ident :o/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :o/total :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
 :projection/on [{:event ["Placed" "Paid"] :assert [{:o/id $stream, :o/total $data.total}]}]}"#;

/// Everything that reads, in data and drawn.
const READS: &str = r#"
[:find ?n ?b :where [?e :p/name ?n] [?e :p/boss ?b]]
[:find [?n ...] :where [_ :p/name ?n]]
[:find (sum ?p) . :with ?e :where [?e :p/pay ?p]]
[:find ?n ?t :keys name tag :where [?e :p/name ?n] [?e :p/tag ?t]]
[:find (pull ?e [:p/name {:p/boss [:p/name]}]) :where [?e :p/name "Cid"]]
:rules [[(under ?a ?b) [?a :p/boss ?b]] [(under ?a ?b) [?a :p/boss ?c] (under ?c ?b)]]
[:find ?n ?m :where [?a :p/name ?n] (under ?a ?b) [?b :p/name ?m]]
:let ?who "Ben"
[:find ?p . :in $ ?who :where [?e :p/name ?who] [?e :p/pay ?p]]
:as-of 2
[:find ?n ?p :where [?e :p/name ?n] [?e :p/pay ?p]]
:now
:since 3
[:find ?p :where [_ :p/pay ?p]]
:now
:history on
[:find ?t ?op :where [?e :p/name "Ada"] [?e :p/tag :x ?t ?op]]
:now
[:p/name "Ben"]
:pull [*] [:p/name "Ada"]
:schema p
:attrs p
:history [:p/name "Ben"] :p/pay
:diff 2 now [:find ?n ?p :where [?e :p/name ?n] [?e :p/pay ?p]]
:why [:p/name "Ben"] :p/pay
:why [:o/id "order-1"] :o/total
:why-not [:find ?e :where [?e :p/name "Bne"]]
:plan [:find ?n ?p :where [?e :p/name ?n] [?e :p/pay ?p]]
[:find ?n ?m :where [?a :p/name ?n] (under ?a ?b) [?b :p/name ?m]]
:why 1
:why-not ["Ada" "Ben"]
[:find ?e ?b :where [?e :p/boss ?b] (not [?e :p/tag _])]
:why 2
:projections parked o
:projections skipped o
:projections preview p2.edn
:tx 3
:undo-tx 4
:streams
:streams order-1
:chart [:find ?n ?p :where [?e :p/name ?n] [?e :p/pay ?p]]
:timeline [:p/name "Ben"] :p/pay
*2
"#;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("p.edn"), PROJECTION).expect("written");
    let changed = PROJECTION.replace("$data.total", "(* 2 $data.total)");
    fs::write(dir.path().join("p2.edn"), changed).expect("written");
    let out = shell(dir.path(), "shop", SETUP, &["-q"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    dir
}

#[test]
fn every_reading_command_prints_the_same_of_a_server() {
    let dir = folder();
    for mode in ["edn", "table", "json"] {
        let script = format!(":mode {mode}\n{READS}");
        let here = shell(dir.path(), "shop", &script, &["--read-only", "-q"]);
        assert!(here.status.success(), "{}", text(&here.stderr));
        let server = Server::of(dir.path(), "shop");
        let there = shell(dir.path(), &server.url, &script, &["--read-only", "-q"]);
        assert!(there.status.success(), "{}", text(&there.stderr));
        let (here, there) = (text(&here.stdout), text(&there.stdout));
        let (here, there): (Vec<&str>, Vec<&str>) = (here.lines().collect(), there.lines().collect());
        for (i, (h, t)) in here.iter().zip(&there).enumerate() {
            assert_eq!(
                h,
                t,
                "line {i} in mode {mode}\n--- here\n{}\n--- there\n{}",
                here.join("\n"),
                there.join("\n")
            );
        }
        assert_eq!(here.len(), there.len());
    }
}

/// Parcels that nobody ships here.
#[derive(Default)]
struct Parcel;

#[derive(Clone, Serialize, Deserialize)]
enum Ask {
    Ship { n: i64 },
}

#[derive(Serialize, Deserialize)]
enum Said {}

impl Event for Said {
    const TYPES: &'static [(&'static str, u32)] = &[];
}

#[derive(Debug, Serialize, Deserialize)]
struct No;

impl std::fmt::Display for No {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no")
    }
}

impl std::error::Error for No {}

impl Aggregate for Parcel {
    const CATEGORY: &'static str = "parcel";
    type Command = Ask;
    type Event = Said;
    type Error = No;
    fn apply(&mut self, _: &Said) {}
    fn handle(&self, _: Ask, _: &Decide<'_>) -> Result<Vec<Said>, No> {
        Err(No)
    }
}

/// Two commands that wait in the database `shop`: its program has accepted them and stopped.
fn queued(dir: &Path) {
    let conn = annals::open(dir.join("shop")).expect("it opens");
    conn.register_commands::<Parcel>().expect("a new category");
    for n in 1..=2u128 {
        let payload = Value::map([(Value::keyword("n"), Value::Long(n as i64))]);
        let dispatch = Dispatch { id: CommandId(Uuid::from_u128(n)), ..Dispatch::new() };
        let request = CommandRequest {
            category: "parcel".into(),
            id: Some(format!("p-{n}")),
            ty: "Ship".into(),
            payload,
            dispatch,
        };
        conn.submit(request).expect("accepted");
    }
}

#[test]
fn the_queue_of_commands_is_listed_and_one_is_dropped_here_and_on_a_server() {
    let dir = folder();
    queued(dir.path());
    let id = |n: u128| Uuid::from_u128(n).to_string();
    let both = |db: &str, script: &str| {
        let out = shell(dir.path(), db, script, &[]);
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let waiting = |n: u128, status: &str| {
        let to = format!(":category \"parcel\", :id \"p-{n}\", :type \"Ship\"");
        format!("{{:command \"{}\", {to}, :status \"{status}\", :sender nil}}\n", id(n))
    };

    let (code, out, err) = both("shop", ":commands\n");
    assert_eq!((code, out), (Some(0), waiting(1, "accepted") + &waiting(2, "accepted")), "{err}");
    let (code, _, err) = both("shop", ":commands drop\n:commands sing\n");
    assert_eq!((code, err.matches("usage: :commands [drop ID WHY]").count()), (Some(2), 2), "{err}");
    let (code, _, err) = both("shop", &format!(":commands drop {}\n", id(1)));
    assert!(code == Some(2) && err.contains("dropping a command wants a reason"), "{err}");
    let (code, _, err) = both("shop", ":commands drop 17 \"too late\"\n");
    assert!(code == Some(1) && err.contains("command/unknown") && err.contains("a UUID"), "{err}");
    let (code, out, err) = both("shop", &format!(":commands drop {} \"ticket 4711\"\n:commands\n", id(1)));
    assert_eq!((code, out), (Some(0), waiting(2, "accepted")), "{err}");
    assert!(err.contains(&format!("{} is dropped; its sender is told that it was refused", id(1))), "{err}");

    let server = Server::of(dir.path(), "shop");
    let (code, out, err) = both(&server.url, ":commands\n");
    // The server has no program for parcels: the command stays, and is tried again.
    let as_it_stands = ["accepted", "running", "failed"].map(|status| waiting(2, status));
    assert!(code == Some(0) && as_it_stands.contains(&out), "{out}{err}");
    let (code, _, err) = both(&server.url, &format!(":commands drop {} x\n", id(1)));
    assert!(code == Some(1) && err.contains("command/decided"), "{err}");
    let (code, _, err) = both(&server.url, ":commands drop 17 x\n");
    assert!(code == Some(1) && err.contains(":commands lists the queue"), "{err}");
    let (code, out, err) = both(&server.url, &format!(":commands drop {} x\n:commands\n", id(2)));
    assert_eq!((code, out), (Some(0), String::new()), "{err}");
}

#[test]
fn a_slip_is_told_and_nothing_is_done_instead() {
    let dir = folder();
    let newest = shell(dir.path(), "shop", ":stats\n", &["--format", "json"]);
    for (line, code, told) in [
        (":tx 99", 1, "there is no transaction t99"),
        (":undo-tx 99 !", 1, "there is no transaction t99"),
        (":now please", 2, "usage: :now\n"),
        (":stats now", 2, "usage: :stats\n"),
        (":chart pie", 2, "usage: :chart [bars|spark] [QUERY]"),
        (":explain nope", 2, "nope is not a query"),
        (":watch nope", 2, "nope is not a query"),
        (":pull [*]", 2, "as in  :pull"),
        (":send \"\" Placed", 2, "usage: :send STREAM TYPE"),
        (":schema nix", 1, "no attribute is in the namespace nix"),
        (":schema :p/nmae", 1, "did you mean :p/name?"),
        (":import", 2, "formats: events cloudevents"),
        (":import foo x", 2, "no format is called foo"),
        (":open htp://127.0.0.1/v1/db/x", 2, "htp is no way to reach a database"),
    ] {
        let out = shell(dir.path(), "shop", &format!("{line}\n"), &[]);
        let err = text(&out.stderr);
        assert!(out.status.code() == Some(code) && err.contains(told), "{line}: {:?} {err}", out.status);
    }
    // A text that is no query is not taken for the last one either.
    let out =
        shell(dir.path(), "shop", "[:find ?n :where [_ :p/name ?n]]\n:chart pie\n:diff 2 now\n", &["-q"]);
    assert!(text(&out.stdout).contains("Cid"), "{out:?}");
    let after = shell(dir.path(), "shop", ":stats\n", &["--format", "json"]);
    assert_eq!(text(&after.stdout), text(&newest.stdout), "nothing was written");
    assert!(!dir.path().join("htp:").exists());
}

#[test]
fn writes_errors_and_exit_codes_cross_the_wire() {
    let dir = folder();
    let server = Server::of(dir.path(), "shop");
    let run = |script: &str| shell(dir.path(), &server.url, script, &["-q"]);

    let out = run("[{:p/name \"Eve\" :p/pay 9}]\n[:find ?p . :where [?e :p/name \"Eve\"] [?e :p/pay ?p]]\n");
    assert!(out.status.success() && text(&out.stdout).ends_with("9\n"), "{out:?}");

    let out = run("[:find ?x :where [?e :p/nmae ?x]]\n");
    assert_eq!(out.status.code(), Some(1));
    let err = text(&out.stderr);
    assert!(err.contains("query/unknown-attribute") && err.contains("did you mean :p/name?"), "{err}");
    assert!(err.contains("standard input:1:22"), "{err}");

    let out = run("[{:p/name \"Eve\" :p/pay \"much\"}]\n");
    let err = text(&out.stderr);
    assert!(out.status.code() == Some(1) && err.contains("tx/wrong-type"), "{err}");

    for line in [":verify", ":backup x", ":export --history x.edn"] {
        let out = run(&format!("[:find ?n :where [_ :p/name ?n]]\n{line}\n"));
        let err = text(&out.stderr);
        assert!(out.status.code() == Some(1) && err.contains("shell/local-only"), "{line}: {err}");
    }

    // Single commands take an address as they take a folder.
    let query = Command::new(BIN)
        .args(["query", &server.url, "[:find (count ?e) . :where [?e :p/name]]"])
        .output()
        .expect("it runs");
    assert_eq!(text(&query.stdout), "4\n");
    fs::write(dir.path().join("more.csv"), "name,pay\nFay,1\nGus,2\n").expect("written");
    let import = Command::new(BIN)
        .args(["import", &server.url, "csv", "more.csv", "--ns", "p", "--key", "name"])
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert!(import.status.success(), "{}", text(&import.stderr));
    let query = Command::new(BIN)
        .args(["query", &server.url, "[:find (count ?e) . :where [?e :p/name]]"])
        .output()
        .expect("it runs");
    assert_eq!(text(&query.stdout), "6\n");
}

#[test]
fn an_address_that_does_not_answer_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let out = Command::new(BIN)
        .arg(format!("http://127.0.0.1:{port}/v1/db/shop"))
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let err = text(&out.stderr);
    assert!(
        out.status.code() == Some(1) && err.contains("client/unreachable") && err.contains("help"),
        "{err}"
    );
    let out =
        Command::new(BIN).arg("http://127.0.0.1:1/shop").stdin(Stdio::null()).output().expect("it runs");
    assert!(out.status.code() == Some(2) && text(&out.stderr).contains("client/url"), "{out:?}");
}

#[test]
fn settings_are_shown_with_their_origin_and_a_server_is_asked_for_its_health() {
    let dir = folder();
    let server = Server::of(dir.path(), "shop");
    let address = server.url.split('/').nth(2).expect("an address").to_owned();
    let serve = |args: &[&str]| {
        let mut all = vec!["serve"];
        all.extend(args);
        Command::new(BIN)
            .args(all)
            .env("ANNALS_LIMITS_RUNNING", "7")
            .current_dir(dir.path())
            .output()
            .expect("it runs")
    };
    let shown = serve(&["--show-config", "--listen", "127.0.0.1:9"]);
    let text_of = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(text_of.contains("listen = \"127.0.0.1:9\"  # flag"), "{text_of}");
    assert!(text_of.contains("limits.running = 7  # environment ANNALS_LIMITS_RUNNING"), "{text_of}");
    assert!(text_of.contains("limits.queued = 256  # default"), "{text_of}");
    // What could not be served is not shown as if it could.
    assert_eq!(serve(&["--show-config", "--listen", "0.0.0.0:9"]).status.code(), Some(2));
    assert_eq!(serve(&[]).status.code(), Some(2));

    assert!(serve(&["--probe", "--listen", &address]).status.success());
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").to_string();
    let dead = serve(&["--probe", "--listen", &free]);
    assert!(dead.status.code() == Some(1) && text(&dead.stderr).contains("serve/not-healthy"), "{dead:?}");
}

#[test]
fn a_map_that_is_too_small_is_said_and_a_larger_one_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = "[{:db/ident :n/v :db/valueType :db.type/string :db/cardinality :db.cardinality/many}]\n";
    let out = shell(dir.path(), "small", setup, &["-q", "--map-size", "1MiB"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let bad = shell(dir.path(), "small", "", &["--map-size", "7"]);
    assert_eq!(bad.status.code(), Some(2), "{}", text(&bad.stderr));
    // Larger than the map: what is acknowledged is in the log, and a larger map takes it in.
    let mut forms = String::new();
    for i in 0..40 {
        let values: Vec<String> = (0..100).map(|j| format!("\"{i} {j} {}\"", "x".repeat(400))).collect();
        forms.push_str(&format!("[{{:db/id \"a\" :n/v [{}]}}]\n", values.join(" ")));
    }
    let full = shell(dir.path(), "small", &forms, &["-q", "--map-size", "1MiB"]);
    let acknowledged = text(&full.stdout).matches(":tx-instant").count() as i64;
    let count = "[:find (count ?v) . :where [_ :n/v ?v]]\n";
    let out = shell(dir.path(), "small", count, &["-q", "--map-size", "64MiB"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let found: i64 = text(&out.stdout).trim().parse().unwrap_or(0);
    assert!(found >= acknowledged * 100, "{found} values, {acknowledged} transactions acknowledged");
}
