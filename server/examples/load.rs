//! Load on a server of its own: speed, crowds, and a soak. Everything on loopback.
//!
//! ```text
//! cargo run --release -p annals-server --example load -- speed        # a few minutes
//! cargo run --release -p annals-server --example load -- crowd        # 1,000 idle beside 200 busy
//! cargo run --release -p annals-server --example load -- soak 20      # minutes
//! ```
//!
//! The server is a child process over a database on disk; the generator is this
//! process, beside it on the same machine. Numbers are medians or rates of one run.

use axum::{Router, body::Bytes, routing::post};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Orders in the database.
const ORDERS: usize = 10_000;
/// How often a soak looks at the server's memory in a minute.
const LOOKS: u32 = 12;
/// What the server may keep of columns.
const CACHE_BYTES: usize = 64 << 20;
const QUERY: &str = "/v1/db/load/query";
const POINT: &str = "[:find ?s . :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s]]";

const SCHEMA: &str = r#"[
  {:db/ident :order/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :order/status :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one :db/index true}
  {:db/ident :order/total :db/valueType :db.type/double :db/cardinality :db.cardinality/one}
]"#;

fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", folder] => serve(folder),
        ["speed"] => speed(),
        ["crowd"] => crowd(),
        ["soak", minutes] => soak(minutes.parse()?),
        _ => Err("load speed | load crowd | load soak MINUTES".into()),
    }
}

/// The child: the server on one port, a bare axum handler on another.
fn serve(folder: &str) -> Fallible<()> {
    // Columns of the past are kept up to this limit: a soak should come to rest at it.
    let conn = annals::Options::new().cache_bytes(CACHE_BYTES).open(folder)?;
    if conn.db().t().0 < 2 {
        conn.transact(SCHEMA)?;
        for chunk in (0..ORDERS).collect::<Vec<_>>().chunks(1_000) {
            let forms: Vec<String> = chunk
                .iter()
                .map(|i| format!("{{:order/id \"A-{i}\" :order/status :placed :order/total {i}.5}}"))
                .collect();
            conn.transact(format!("[{}]", forms.join("\n")))?;
        }
    }
    // What the library alone takes for the same question.
    let (db, query) = (conn.db(), annals::Query::parse(POINT)?);
    let mut times = Vec::new();
    for i in 0..20_000 {
        let began = Instant::now();
        let answer = db.query(&query, (format!("A-{}", i % ORDERS),))?;
        times.push(began.elapsed());
        assert_eq!(answer.scalar(), Some(annals::Value::keyword("placed")));
    }
    println!("library {}", median(&mut times).as_nanos());
    let bare = thread::spawn(|| -> Fallible<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            println!("bare {}", listener.local_addr()?);
            let app = Router::new().route("/", post(|body: Bytes| async move { body }));
            Ok(axum::serve(listener, app).await?)
        })
    });
    let config =
        annals_server::Config { listen: "127.0.0.1:0".parse()?, ..annals_server::Config::load(None)? };
    annals_server::run(config, vec![("load".into(), conn)])?;
    drop(bare);
    Ok(())
}

/// The server process, stopped when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    bare: SocketAddr,
    library: Duration,
    folder: std::path::PathBuf,
}

impl Server {
    fn start() -> Fallible<Server> {
        let folder = std::env::temp_dir().join(format!("annals-load-{}", std::process::id()));
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(&folder)
            .env("NO_COLOR", "1")
            // As the binary is built (decision 20), and as docs/deploy/annals.service and the Dockerfile run it.
            .env("MIMALLOC_ALLOW_THP", "0")
            .env("MIMALLOC_PURGE_DELAY", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut log = BufReader::new(child.stderr.take().ok_or("no log")?);
        let field = |reader: &mut dyn BufRead, before: &str| -> Fallible<String> {
            let mut line = String::new();
            loop {
                line.clear();
                if reader.read_line(&mut line)? == 0 {
                    return Err("the server did not start".into());
                }
                if let Some(rest) = line.split(before).nth(1) {
                    return Ok(rest.split_whitespace().next().unwrap_or("").to_owned());
                }
            }
        };
        let library = Duration::from_nanos(field(&mut out, "library ")?.parse()?);
        let bare = field(&mut out, "bare ")?.parse()?;
        let address = field(&mut log, "address=")?.parse()?;
        thread::spawn(move || drop(io::copy(&mut log, &mut io::stderr())));
        Ok(Server { child, address, bare, library, folder })
    }

    fn status(&self, name: &str) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        text.lines().find(|l| l.starts_with(name))?.split_whitespace().nth(1)?.parse().ok()
    }
    fn resident_kib(&self) -> u64 {
        self.status("VmRSS:").unwrap_or(0)
    }
    /// Memory of its own: heaps and stacks.
    fn heap_mib(&self) -> f64 {
        self.status("RssAnon:").unwrap_or(0) as f64 / 1_024.0
    }
    /// Pages of files that it has mapped: of the index, above all. They grow with the database, and
    /// the system takes them back whenever it needs them.
    fn mapped_mib(&self) -> f64 {
        self.status("RssFile:").unwrap_or(0) as f64 / 1_024.0
    }
    /// Of its own memory, what cached columns take, as far as the server has the time to look.
    fn cache_mib(&self) -> Fallible<Option<f64>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let Some(line) = text.lines().find(|l| l.starts_with("annals_cache_bytes{")) else { return Ok(None) };
        Ok(Some(line.rsplit(' ').next().unwrap_or("").parse::<f64>()? / f64::from(1 << 20)))
    }
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }
    fn disk_kib(&self) -> u64 {
        fn under(folder: &std::path::Path) -> u64 {
            use std::os::unix::fs::MetadataExt as _;
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let size = |f: std::fs::DirEntry| match f.metadata() {
                Ok(m) if m.is_dir() => under(&f.path()),
                Ok(m) => m.blocks() / 2,
                Err(_) => 0,
            };
            files.map(size).sum()
        }
        under(&self.folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One kept-alive connection.
struct Client {
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Client { reader: BufReader::new(stream), body: Vec::new() })
    }
    fn post(&mut self, path: &str, media: &str, body: &str) -> io::Result<u16> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.reader.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }
    fn answer(&mut self) -> io::Result<u16> {
        let (mut line, mut status, mut length, mut chunked) = (String::new(), 0, 0usize, false);
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if status == 0 {
                status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
            }
            if let Some(n) = text.strip_prefix("content-length: ") {
                length = n.parse().map_err(io::Error::other)?;
            }
            chunked |= text == "transfer-encoding: chunked";
        }
        self.body.clear();
        loop {
            if chunked {
                line.clear();
                self.reader.read_line(&mut line)?;
                length = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)? + 2;
            }
            let at = self.body.len();
            self.body.resize(at + length, 0);
            self.reader.read_exact(&mut self.body[at..])?;
            if !chunked || length == 2 {
                return Ok(status);
            }
        }
    }
}

fn point(i: usize) -> String {
    format!("{{\"query\": {POINT:?}, \"args\": [\"A-{}\"]}}", i % ORDERS)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn quantile(times: &mut [Duration], q: f64) -> Duration {
    times.sort();
    times.get(((times.len() as f64) * q) as usize).or(times.last()).copied().unwrap_or_default()
}

/// Runs `clients` threads for a while; each calls `work` with its number and a counter. Returns calls a second.
fn rate(
    clients: usize,
    time: Duration,
    address: SocketAddr,
    work: impl Fn(&mut Client, usize, usize) -> io::Result<()> + Sync,
) -> Fallible<f64> {
    let (stop, done, barrier) = (AtomicBool::new(false), AtomicU64::new(0), Barrier::new(clients + 1));
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for n in 0..clients {
            let (stop, done, barrier, work) = (&stop, &done, &barrier, &work);
            threads.push(scope.spawn(move || -> io::Result<()> {
                let mut client = Client::new(address)?;
                barrier.wait();
                for i in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    work(&mut client, n, i)?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        barrier.wait();
        let began = Instant::now();
        thread::sleep(time);
        let n = done.load(Ordering::Relaxed);
        let took = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        for t in threads {
            t.join().map_err(|_| "a client panicked")??;
        }
        Ok(n as f64 / took.as_secs_f64())
    })
}

fn ok(status: u16, body: &[u8]) -> io::Result<()> {
    match status {
        200 | 201 => Ok(()),
        status => Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(body)))),
    }
}

/// Latency against the library and bare axum, reads a second, writers that share syncs.
fn speed() -> Fallible<()> {
    let s = Server::start()?;
    println!("point query over {ORDERS} orders, one client, median of 20,000, interleaved");
    let (mut bare, mut server) = (Client::new(s.bare)?, Client::new(s.address)?);
    let (mut bare_times, mut server_times) = (Vec::new(), Vec::new());
    for i in 0..22_000 {
        let body = point(i);
        let began = Instant::now();
        ok(bare.post("/", "application/json", &body)?, &bare.body)?;
        let middle = Instant::now();
        ok(server.post(QUERY, "application/json", &body)?, &server.body)?;
        if i >= 2_000 {
            bare_times.push(middle - began);
            server_times.push(middle.elapsed());
        }
    }
    let (b, h) = (median(&mut bare_times), median(&mut server_times));
    println!("  library {:?}  bare axum {b:?}  over HTTP {h:?}", s.library);
    println!(
        "  over HTTP beyond library + bare axum: {:.1} µs",
        (h.as_nanos() as f64 - b.as_nanos() as f64 - s.library.as_nanos() as f64) / 1e3
    );
    for clients in [1, 4, 16, 64] {
        let reads = rate(clients, Duration::from_secs(5), s.address, |c, n, i| {
            ok(c.post(QUERY, "application/json", &point(n * 7_919 + i))?, &c.body)
        })?;
        println!("small reads, {clients} clients: {reads:.0}/s");
    }
    let write = |c: &mut Client, n: usize, i: usize| {
        let body = format!("[{{:order/id \"W-{n}-{i}\" :order/status :placed}}]");
        ok(c.post("/v1/db/load/transact", "application/edn", &body)?, &c.body)
    };
    let mut alone = 0.0;
    for clients in [1, 16, 256] {
        let writes = rate(clients, Duration::from_secs(5), s.address, write)?;
        if clients == 1 {
            alone = writes;
        }
        println!("durable transactions, {clients} writers: {writes:.0}/s ({:.1}× one)", writes / alone);
    }
    Ok(())
}

/// 1,000 idle connections beside 200 that ask without a pause.
fn crowd() -> Fallible<()> {
    let s = Server::start()?;
    let before = (s.resident_kib(), s.descriptors());
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(TcpStream::connect(s.address)?);
    }
    let times = Mutex::new(Vec::new());
    let asked = rate(200, Duration::from_secs(8), s.address, |c, n, i| {
        let began = Instant::now();
        ok(c.post(QUERY, "application/json", &point(n * 31 + i))?, &c.body)?;
        times.lock().map_err(|_| io::Error::other("poisoned"))?.push(began.elapsed());
        Ok(())
    })?;
    let mut times = times.into_inner().map_err(|_| "poisoned")?;
    println!(
        "1,000 idle and 200 busy connections: {asked:.0} queries/s, none failed; p50 {:?} p99 {:?}",
        median(&mut times),
        quantile(&mut times, 0.99)
    );
    drop(idle);
    thread::sleep(Duration::from_secs(2));
    println!(
        "resident {} → {} KiB, descriptors {} → {}",
        before.0,
        s.resident_kib(),
        before.1,
        s.descriptors()
    );
    Ok(())
}

/// By how much the values grow from one to the next: the line of least squares through them.
fn slope(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let (mid, mean) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let from_mid = |i: usize| i as f64 - mid;
    let (over, under) = values.iter().enumerate().fold((0.0, 0.0), |(over, under), (i, v)| {
        (over + from_mid(i) * (v - mean), under + from_mid(i) * from_mid(i))
    });
    over / under
}

/// Mixed load for minutes: readers, some of them of the past, writers that update and append, live streams
/// that come and go.
fn soak(minutes: u64) -> Fallible<()> {
    let s = Server::start()?;
    let stop = Arc::new(AtomicBool::new(false));
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let (writes, errors, events) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let address = s.address;
    let mut threads = Vec::new();
    for n in 0..4 {
        let (stop, times, errors, writes) = (stop.clone(), times.clone(), errors.clone(), writes.clone());
        threads.push(thread::spawn(move || {
            let mut client = Client::new(address).ok();
            for i in 0usize.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let began = Instant::now();
                let body = match i % 20 {
                    0 => "{\"query\": \"[:find ?s (count ?o) :where [?o :order/status ?s]]\"}".to_owned(),
                    1 => format!(
                        "{{\"query\": {POINT:?}, \"args\": [\"A-{}\"], \"as_of\": {}}}",
                        i % ORDERS,
                        3 + i % 8
                    ),
                    // Moments that nobody comes back to: as of a little while ago, or since then.
                    2 if i % 100 == 2 => {
                        let then = (13 + writes.load(Ordering::Relaxed)).saturating_sub(20 + i as u64 % 7);
                        let view = ["as_of", "since"][i / 100 % 2];
                        let counts = "[:find ?s (count ?o) :where [?o :order/status ?s]]";
                        format!("{{\"query\": {counts:?}, \"{view}\": {then}}}")
                    }
                    _ => point(n * 131 + i),
                };
                let fine = client
                    .as_mut()
                    .is_some_and(|c| c.post(QUERY, "application/json", &body).is_ok_and(|s| s == 200));
                if !fine {
                    errors.fetch_add(1, Ordering::Relaxed);
                    client = Client::new(address).ok();
                }
                if i % 20 > 1
                    && i % 100 != 2
                    && let Ok(mut t) = times.lock()
                {
                    t.push(began.elapsed());
                }
                thread::sleep(Duration::from_millis(4));
            }
        }));
    }
    for n in 0..2 {
        let (stop, writes, errors) = (stop.clone(), writes.clone(), errors.clone());
        threads.push(thread::spawn(move || {
            let mut client = Client::new(address).ok();
            for i in 0usize.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let status = ["placed", "paid", "shipped"][i % 3];
                let (path, media, body) = match i % 4 {
                    3 => (
                        "/v1/db/load/append",
                        "application/json",
                        format!("{{\"writes\": [{{\"stream\": \"order-{}\", \"events\": [{{\"type\": \"Moved\", \"data\": {{\"n\": {i}}}}}]}}]}}", i % 50),
                    ),
                    _ => (
                        "/v1/db/load/transact",
                        "application/edn",
                        format!("[{{:order/id \"A-{}\" :order/status :{status}}}]", (n * 5_003 + i * 7) % ORDERS),
                    ),
                };
                match client.as_mut().map(|c| c.post(path, media, &body)) {
                    Some(Ok(200 | 201)) => drop(writes.fetch_add(1, Ordering::Relaxed)),
                    _ => {
                        errors.fetch_add(1, Ordering::Relaxed);
                        client = Client::new(address).ok();
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
        }));
    }
    // Streams are cut after some seconds and opened again.
    for n in 0..6u64 {
        let (stop, events) = (stop.clone(), events.clone());
        threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let live = "{\"query\": \"[:find ?s (count ?o) :where [?o :order/status ?s]]\"}";
                let request = match n % 3 {
                    0 => "GET /v1/db/load/changes HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
                    1 => "GET /v1/db/load/all HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n".to_owned(),
                    _ => format!("POST /v1/db/load/subscribe HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{live}", live.len()),
                };
                let Ok(mut stream) = TcpStream::connect(address) else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let until = Instant::now() + Duration::from_secs(5 + n);
                if stream.write_all(request.as_bytes()).is_err() {
                    continue;
                }
                let mut buffer = [0; 16 << 10];
                while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                    match stream.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(_) => drop(events.fetch_add(1, Ordering::Relaxed)),
                        Err(_) => {}
                    }
                }
            }
        }));
    }
    println!(
        "minute  heap MiB  cache MiB  mapped MiB  descriptors  disk MiB  reads  p50 µs  p99 µs  writes  errors  stream reads"
    );
    let (mut heap, mut mapped, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    let mut p99 = Vec::new();
    for minute in 1..=minutes {
        // What is not in the index yet comes and goes with every checkpoint: the mean of the minute.
        let mut held = 0.0;
        for _ in 0..LOOKS {
            thread::sleep(Duration::from_secs(60) / LOOKS);
            held += s.heap_mib() / f64::from(LOOKS);
        }
        let mut seen = std::mem::take(&mut *times.lock().map_err(|_| "poisoned")?);
        let (p, q) = (median(&mut seen), quantile(&mut seen, 0.99));
        heap.push(held);
        mapped.push(s.mapped_mib());
        disk.push(s.disk_kib() as f64 / 1_024.0);
        p99.push(q);
        println!(
            "{minute:>6}  {:>8.1}  {:>9}  {:>10.1}  {:>11}  {:>8.1}  {:>5}  {:>6}  {:>6}  {:>6}  {:>6}  {:>12}",
            heap[heap.len() - 1],
            s.cache_mib()?.map_or_else(|| "busy".to_owned(), |mib| format!("{mib:.1}")),
            mapped[mapped.len() - 1],
            s.descriptors(),
            disk[disk.len() - 1],
            seen.len(),
            p.as_micros(),
            q.as_micros(),
            writes.load(Ordering::Relaxed),
            errors.load(Ordering::Relaxed),
            events.load(Ordering::Relaxed)
        );
    }
    stop.store(true, Ordering::Relaxed);
    for t in threads {
        t.join().map_err(|_| "a client panicked")?;
    }
    if minutes > 6 {
        println!(
            "after minute 5, a minute: heap {:+.2} MiB, mapped files {:+.2} MiB, disk {:+.2} MiB; p99 of the last minute is {:.2}× that of the second",
            slope(&heap[4..]),
            slope(&mapped[4..]),
            slope(&disk[4..]),
            p99[p99.len() - 1].as_secs_f64() / p99[1].as_secs_f64().max(1e-9)
        );
    }
    match errors.load(Ordering::Relaxed) {
        0 => Ok(()),
        n => Err(format!("{n} requests failed").into()),
    }
}
