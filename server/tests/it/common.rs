//! A server of one's own on a free port, and an HTTP client small enough to be
//! rude with: it sends exactly the bytes it is given.

use annals::Connection;
use annals_server::{Config, Server};
use serde_json::{Value as Json, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

/// A running server; stopped when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub conn: Connection,
    pub server: Arc<Server>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub const SCHEMA: &str = r#"[
  {:db/ident :order/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :order/status :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
  {:db/ident :order/total :db/valueType :db.type/double :db/cardinality :db.cardinality/one}
  {:db/ident :order/count :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
  {:db/ident :order/at :db/valueType :db.type/instant :db/cardinality :db.cardinality/one}
  {:db/ident :order/tag :db/valueType :db.type/string :db/cardinality :db.cardinality/many}
  {:db/ident :order/next :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
]"#;

/// Where the database is.
pub const DB: &str = "/v1/db/orders";
/// Every order with its status.
pub const STATUS: &str = "[:find ?id ?s :where [?o :order/id ?id] [?o :order/status ?s]]";

/// A path below it.
pub fn path(rest: &str) -> String {
    format!("{DB}{rest}")
}

/// Places an order, or changes its status; answers the t.
pub fn place(s: &Running, id: &str, status: &str) -> u64 {
    let doc = s.edn(&path("/transact"), &format!("[{{:order/id {id:?} :order/status :{status}}}]")).ok();
    doc["t"].as_u64().unwrap()
}

/// The rows of a query; `more` are members of the request.
pub fn rows(s: &Running, query: &str, more: Json) -> Json {
    let mut body = json!({"query": query});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    s.json(&path("/query"), body).ok()["rows"].clone()
}

impl Running {
    /// A server over a fresh database in memory with [`SCHEMA`], called `orders`.
    pub fn start() -> Running {
        Running::with(Config::default())
    }

    pub fn with(config: Config) -> Running {
        let conn = annals::in_memory().unwrap();
        conn.transact(SCHEMA).unwrap();
        Running::over(config, conn)
    }

    pub fn over(config: Config, conn: Connection) -> Running {
        let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..config };
        let server = Server::new(config, vec![("orders".into(), conn.clone())]).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let of = server.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let stop = async move { drop(stopped.await) };
                annals_server::serve(of, listener, stop).await.unwrap();
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        Running { address: told.recv().unwrap(), conn, server, stop: Some(stop), thread: Some(thread) }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends these bytes and reads one answer.
    pub fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Reply::read(&mut BufReader::new(stream)).expect("an answer")
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.raw(&request(method, path, headers, body))
    }

    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.request("GET", path, headers, b"")
    }

    pub fn edn(&self, path: &str, body: &str) -> Reply {
        self.request(
            "POST",
            path,
            &[("content-type", "application/edn"), ("accept", "application/json")],
            body.as_bytes(),
        )
    }

    pub fn json(&self, path: &str, body: Json) -> Reply {
        self.request("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Opens a stream of server-sent events.
    pub fn events(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Events {
        let mut stream = self.connect();
        let mut all = vec![("accept", "text/event-stream")];
        all.extend(headers);
        stream.write_all(&request(method, path, &all, body)).unwrap();
        let mut reader = BufReader::new(stream);
        let (status, headers) = head(&mut reader).unwrap();
        if status != 200 {
            let body = body_of(&mut reader, &headers).unwrap();
            panic!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Events { reader, rest: String::new() }
    }

    /// Asks the server to stop and waits for it.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Asks the server to stop and does not wait.
    pub fn begin_stop(&mut self) {
        let _ = self.stop.take().map(|s| s.send(()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.begin_stop();
        // The thread ends by itself; a test need not wait for the drain.
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        head.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" && !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("transfer-encoding")) {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// One answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

fn head(reader: &mut impl BufRead) -> Option<(u16, BTreeMap<String, String>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => drop(headers.insert(name.to_ascii_lowercase(), value.to_owned())),
            None => return Some((status, headers)),
        }
    }
}

fn body_of(reader: &mut impl BufRead, headers: &BTreeMap<String, String>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(n) = headers.get("content-length") {
        body.resize(n.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if headers.get("transfer-encoding").is_some_and(|t| t == "chunked") {
        while let Some(chunk) = chunk(reader)? {
            body.extend(chunk);
        }
    }
    Some(body)
}

fn chunk(reader: &mut impl BufRead) -> Option<Option<Vec<u8>>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let n = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut bytes = vec![0; n + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(n);
    Some((n > 0).then_some(bytes))
}

impl Reply {
    pub fn read(reader: &mut impl BufRead) -> Option<Reply> {
        let (status, headers) = head(reader)?;
        let body = if status == 304 { Vec::new() } else { body_of(reader, &headers)? };
        Some(Reply { status, headers, body })
    }
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
    #[track_caller]
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
    /// The answer, after checking its status.
    #[track_caller]
    pub fn ok(self) -> Json {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
    /// Checks that it is a problem document with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Json {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let doc = self.json();
        assert_eq!(doc["status"], status);
        assert_eq!(doc["code"], code, "{doc}");
        assert!(doc["detail"].as_str().is_some_and(|d| !d.is_empty()));
        doc
    }
}

/// A stream of server-sent events.
pub struct Events {
    reader: BufReader<TcpStream>,
    rest: String,
}

#[derive(Debug, PartialEq)]
pub struct Event {
    pub id: Option<u64>,
    pub event: String,
    pub data: Json,
}

impl Events {
    /// The next event; comments are skipped. None when the stream ended.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.rest.find("\n\n") {
                let block: String = self.rest.drain(..end + 2).collect();
                let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
                let Some(data) = field("data: ") else { continue };
                return Some(Event {
                    id: field("id: ").and_then(|id| id.parse().ok()),
                    event: field("event: ").unwrap_or_default(),
                    data: serde_json::from_str(&data).unwrap(),
                });
            }
            let bytes = chunk(&mut self.reader)??;
            self.rest.push_str(&String::from_utf8(bytes).unwrap());
        }
    }
}
