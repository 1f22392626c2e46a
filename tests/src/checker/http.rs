//! A run over HTTP against a server process that is killed again and again.
//!
//! 1. Clients are threads with a connection each; the server is a child, ended by
//!    SIGKILL at random times and started again on the same folder and port.
//! 2. A client whose connection ends either gives up ([`Outcome::Unknown`]) or sends the
//!    request again under the same `Idempotency-Key` until it is answered: it happened once.
//! 3. After the last kill the folder is opened by the library and the log read.

use super::{
    Call, History, Outcome, Question, Row, What, library,
    workload::{self, Memory, Request},
};
use crate::generate::Rng;
use annals::{Datom, EntityId, Schema, T, Value};
use annals_query::edn::{print, read_value};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server: a command and its arguments, in which `{dir}` and `{address}` are filled in.
    /// The database must be served under the folder's name.
    pub server: Vec<String>,
    /// The folder of the database.
    pub dir: PathBuf,
    /// Clients at a time.
    pub clients: usize,
    /// How often the server is killed.
    pub kills: usize,
    /// The longest time between two kills; the shortest is a tenth of it.
    pub between: Duration,
    /// Where randomness starts.
    pub seed: u64,
}

/// What a run did besides its history.
#[derive(Clone, Copy, Debug, Default)]
pub struct Storm {
    /// Kills.
    pub kills: usize,
    /// The longest time from start to the first accepted connection.
    pub slowest_start: Duration,
    /// Requests that were sent again after their connection ended.
    pub sent_again: u64,
}

/// Runs the plan. Panics when the server does not come back, or answers what it should not.
pub fn run(plan: &Plan) -> (History, Storm) {
    let address = free_address();
    let mut storm = Storm::default();
    let mut server = Server::start(plan, address, &mut storm);
    let name = plan.dir.file_name().expect("the folder has a name").to_string_lossy().into_owned();
    let shared = Shared {
        address,
        path: format!("/v1/db/{name}"),
        clock: Instant::now(),
        ops: AtomicI64::new(1),
        known: AtomicU64::new(0),
        sent_again: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let mut first = Client::new(&shared, usize::MAX);
    let installed =
        first.post("/transact", workload::SCHEMA, None).expect("a server that just started answers");
    assert_eq!(installed.status, 200, "the workload's schema is sound: {}", installed.body);
    let start = T(number(&installed.read(), "t").expect("an acknowledgement has a t"));
    let text = workload::opening();
    let Value::Vector(forms) = read_value(&text).expect("the opening is sound") else {
        unreachable!("a transaction is a vector")
    };
    let mut rng = Rng::new(plan.seed);
    let began = shared.now();
    let outcome = first.write(0, &forms, true);
    let mut calls = vec![Call {
        client: usize::MAX,
        began,
        ended: shared.now(),
        what: What::Write { op: 0, forms: forms.to_vec(), outcome },
    }];
    let mut told = std::mem::take(&mut first.told);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.clients)
            .map(|number| {
                let (shared, seed) = (&shared, plan.seed);
                scope.spawn(move || Client::new(shared, number).run(seed, start))
            })
            .collect();
        for _ in 0..plan.kills {
            let most = u64::try_from(plan.between.as_millis()).expect("a short time").max(10);
            std::thread::sleep(Duration::from_millis(most / 10 + rng.draw() % (most - most / 10)));
            server.kill();
            storm.kills += 1;
            server = Server::start(plan, address, &mut storm);
        }
        // However slow the machine is, something has to have happened.
        let least = start.0 + 100;
        let begun = Instant::now();
        while shared.known.load(SeqCst) < least && begun.elapsed() < Duration::from_secs(120) {
            std::thread::sleep(plan.between / 2);
        }
        shared.over.store(true, SeqCst);
        for thread in threads {
            let (of_client, datoms) = thread.join().expect("a client does not panic");
            calls.extend(of_client);
            told.extend(datoms);
        }
    });
    server.kill();
    storm.sent_again = shared.sent_again.load(SeqCst);
    let conn = annals::open(&plan.dir).expect("the folder opens after the last kill");
    let schema = (**conn.db().schema()).clone();
    resolve(&mut calls, &told, &schema);
    (History { schema, start, calls, log: library::log(&conn, start) }, storm)
}

/// Puts the datoms that were told, whose attributes came as names, into their calls.
fn resolve(calls: &mut [Call], told: &BTreeMap<i64, Value>, schema: &Schema) {
    let datom = |v: &Value| -> Option<Datom> {
        let Value::Vector(parts) = v else { return None };
        let [e, Value::Keyword(a), v, Value::Long(t), Value::Bool(added)] = &parts[..] else { return None };
        let (e, a) = (entity(e)?, schema.attribute_named(a)?.id);
        Some(Datom { e, a, v: v.clone(), t: T(u64::try_from(*t).ok()?), added: *added })
    };
    for call in calls {
        if let What::Write { op, outcome: Outcome::Done { datoms, .. }, .. } = &mut call.what
            && let Some(Value::Vector(items)) = told.get(op)
        {
            let all: Option<Vec<Datom>> = items.iter().map(datom).collect();
            *datoms = Some(all.unwrap_or_else(|| panic!("datoms that cannot be read: {items:?}")));
        }
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address")
}

/// The server process; killed when dropped.
struct Server(Child);

impl Server {
    fn start(plan: &Plan, address: SocketAddr, storm: &mut Storm) -> Server {
        let fill = |s: &String| {
            s.replace("{dir}", &plan.dir.to_string_lossy()).replace("{address}", &address.to_string())
        };
        let words: Vec<String> = plan.server.iter().map(fill).collect();
        let begun = Instant::now();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr_of(&plan.dir))
            .spawn()
            .unwrap_or_else(|e| panic!("{words:?}: {e}"));
        let mut server = Server(child);
        while TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
            if let Some(status) = server.0.try_wait().expect("a child can be asked") {
                let said = std::fs::read_to_string(stderr_path(&plan.dir)).unwrap_or_default();
                panic!("the server ended at its start, {status}: {said}");
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not listen after 60 s");
            std::thread::sleep(Duration::from_millis(3));
        }
        storm.slowest_start = storm.slowest_start.max(begun.elapsed());
        server
    }

    fn kill(&mut self) {
        // It may have ended by itself, which the next start will show.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn stderr_path(dir: &Path) -> PathBuf {
    dir.with_extension("stderr")
}

fn stderr_of(dir: &Path) -> Stdio {
    std::fs::File::create(stderr_path(dir)).map_or_else(|_| Stdio::null(), Stdio::from)
}

struct Shared {
    address: SocketAddr,
    path: String,
    clock: Instant,
    ops: AtomicI64,
    known: AtomicU64,
    sent_again: AtomicU64,
    over: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).expect("a run takes less than centuries")
    }
}

struct Client<'a> {
    shared: &'a Shared,
    number: usize,
    stream: Option<BufReader<TcpStream>>,
    /// The datoms of each acknowledgement, attributes by name.
    told: BTreeMap<i64, Value>,
}

/// An answer.
struct Reply {
    status: u16,
    body: String,
}

impl Reply {
    fn read(&self) -> Value {
        read_value(&self.body).unwrap_or_else(|e| panic!("an answer that is not EDN: {e}: {}", self.body))
    }
    /// Whether asking again may bring another answer.
    fn passing(&self) -> bool {
        matches!(self.status, 429 | 503) || self.body.contains("idempotency/in-flight")
    }
}

impl<'a> Client<'a> {
    fn new(shared: &'a Shared, number: usize) -> Client<'a> {
        Client { shared, number, stream: None, told: BTreeMap::new() }
    }

    fn run(mut self, seed: u64, start: T) -> (Vec<Call>, BTreeMap<i64, Value>) {
        let mut rng = Rng::new(seed.wrapping_mul(1_000_003).wrapping_add(self.number as u64));
        let (mut memory, mut calls) = (Memory::default(), Vec::new());
        while !self.shared.over.load(SeqCst) {
            let op = self.shared.ops.fetch_add(1, SeqCst);
            let known = T(self.shared.known.load(SeqCst));
            let request = workload::next(&mut rng, op, &memory, start, known);
            let began = self.shared.now();
            let what = match request {
                Request::Write(op, forms) => {
                    let outcome = self.write(op, &forms, rng.chance(70));
                    Some(What::Write { op, forms, outcome })
                }
                Request::Read(question, as_of) => self.read(question, as_of, &mut memory),
            };
            let ended = self.shared.now();
            calls.extend(what.map(|what| Call { client: self.number, began, ended, what }));
        }
        (calls, self.told)
    }

    /// Sends a transaction, again and again under its key if `stubborn`.
    fn write(&mut self, op: i64, forms: &[Value], stubborn: bool) -> Outcome {
        let text = print(&Value::vector(forms.to_vec()));
        let key = format!("op-{op}");
        for attempt in 0..2_000 {
            match self.post("/transact?tx_data=true", &text, Some(&key)) {
                Ok(reply) if reply.status == 200 => {
                    let done = reply.read();
                    let t = T(number(&done, "t").expect("an acknowledgement has a t"));
                    self.shared.known.fetch_max(t.0, SeqCst);
                    if let Some(datoms) = member(&done, "tx-data") {
                        self.told.insert(op, datoms.clone());
                    }
                    return Outcome::Done { t, datoms: None, tempids: tempids(&done) };
                }
                Ok(reply) if reply.passing() => {}
                Ok(reply) if (400..500).contains(&reply.status) => return Outcome::Refused(reply.body),
                Ok(reply) => panic!("{} to a transaction: {}", reply.status, reply.body),
                Err(_) if !stubborn => return Outcome::Unknown,
                Err(_) => {}
            }
            if attempt == 0 {
                self.shared.sent_again.fetch_add(1, SeqCst);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Outcome::Unknown
    }

    fn read(&mut self, question: Question, as_of: Option<T>, memory: &mut Memory) -> Option<What> {
        let of = as_of.map_or(String::new(), |t| format!(" :as-of {}", t.0));
        let history = if question.of_history() { " :history true" } else { "" };
        let body = format!("{{:query {}{of}{history}}}", question.query());
        let reply = self.post("/query", &body, None).ok()?;
        if reply.passing() {
            return None;
        }
        assert_eq!(reply.status, 200, "{body}: {}", reply.body);
        let answer = reply.read();
        let basis = T(number(&answer, "basis-t").expect("an answer has a basis"));
        let rows = rows(&answer, &question);
        if question == Question::Balances && as_of.is_none() {
            memory.saw(&rows);
        }
        Some(What::Read { question, as_of, basis, rows })
    }

    /// One request and its answer, over the connection of the last one if it still stands.
    fn post(&mut self, path: &str, body: &str, key: Option<&str>) -> io::Result<Reply> {
        let key = key.map_or(String::new(), |k| format!("Idempotency-Key: {k}\r\n"));
        let request = format!(
            "POST {}{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/edn\r\nAccept: application/edn\r\n\
             {key}Content-Length: {}\r\n\r\n{body}",
            self.shared.path,
            self.shared.address,
            body.len()
        );
        let reply = self.exchange(request.as_bytes());
        if reply.is_err() {
            self.stream = None;
            std::thread::sleep(Duration::from_millis(2));
        }
        reply
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.shared.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            self.stream = Some(BufReader::new(stream));
        }
        let stream = self.stream.as_mut().expect("it was just made");
        stream.get_mut().write_all(request)?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let status =
            line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| broken("no status"))?;
        let (mut length, mut close) = (None, false);
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(broken("the head ended"));
            }
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(n) = header.strip_prefix("content-length:") {
                length = n.trim().parse::<usize>().ok();
            }
            close |= header == "connection: close";
        }
        let mut body = vec![0; length.ok_or_else(|| broken("no length"))?];
        stream.read_exact(&mut body)?;
        if close {
            self.stream = None;
        }
        Ok(Reply { status, body: String::from_utf8(body).map_err(|_| broken("not UTF-8"))? })
    }
}

// -- reading answers ------------------------------------------------------------------

fn member<'v>(answer: &'v Value, name: &str) -> Option<&'v Value> {
    let Value::Map(entries) = answer else { return None };
    entries.iter().find(|(k, _)| *k == Value::keyword(name)).map(|(_, v)| v)
}

fn number(answer: &Value, name: &str) -> Option<u64> {
    match member(answer, name)? {
        Value::Long(n) => u64::try_from(*n).ok(),
        _ => None,
    }
}

fn entity(v: &Value) -> Option<EntityId> {
    match v {
        Value::Long(n) => u64::try_from(*n).ok().map(EntityId::from_raw),
        Value::Ref(e) => Some(*e),
        _ => None,
    }
}

fn tempids(answer: &Value) -> Option<BTreeMap<String, EntityId>> {
    let Value::Map(entries) = member(answer, "tempids")? else { return None };
    let each = entries.iter().filter_map(|(k, v)| match k {
        Value::String(name) => Some((name.to_string(), entity(v)?)),
        _ => None,
    });
    Some(each.collect())
}

fn rows(answer: &Value, question: &Question) -> BTreeSet<Row> {
    let Some(Value::Vector(items) | Value::List(items)) = member(answer, "rows") else {
        panic!("an answer without rows: {answer:?}")
    };
    let row = |v: &Value| -> Row {
        let Value::Vector(cells) = v else { panic!("a row that is no vector: {v:?}") };
        let mut row = cells.to_vec();
        // EDN writes a transaction as its number.
        if question.of_history()
            && let Some(t) = entity(&row[1])
        {
            row[1] = Value::Ref(t);
        }
        row
    };
    items.iter().map(row).collect()
}
