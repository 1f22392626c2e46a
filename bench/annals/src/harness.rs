//! Timing, data files, scratch folders.

use annals::{Connection, Db, EntityId, Query, Value};
use std::{env, fs, os::unix::fs::MetadataExt, path::PathBuf, sync::LazyLock, time::Instant};

pub struct Bench {
    pub workload: String,
    pub size: String,
    only: Vec<String>,
    skip: Vec<String>,
}

/// What an operation answers: rows, checksum, and more JSON fields.
pub struct Outcome(pub u64, pub u64, pub String);

impl From<(u64, u64)> for Outcome {
    fn from((rows, sum): (u64, u64)) -> Outcome {
        Outcome(rows, sum, String::new())
    }
}

fn list(name: &str) -> Vec<String> {
    env::var(name).unwrap_or_default().split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

impl Bench {
    pub fn new(workload: &str, size: &str) -> Bench {
        Bench { workload: workload.into(), size: size.into(), only: list("ONLY"), skip: list("SKIP") }
    }
    pub fn small(&self) -> bool {
        self.size == "S"
    }
    pub fn wants(&self, op: &str) -> bool {
        let named =
            |o: &String| o.strip_suffix('$').map_or_else(|| op.starts_with(o.as_str()), |whole| op == whole);
        (self.only.is_empty() || self.only.iter().any(named)) && !self.skip.iter().any(|s| s == op)
    }
    pub fn wants_any(&self, ops: &[&str]) -> bool {
        ops.iter().any(|op| self.wants(op))
    }
    /// At least three runs, until 2.5 s are spent or 200 runs made; setup is not timed.
    pub fn op<S, O: Into<Outcome>>(
        &self,
        op: &str,
        mut setup: impl FnMut() -> S,
        mut f: impl FnMut(&mut S) -> O,
    ) {
        if !self.wants(op) {
            return;
        }
        if env::var_os("PERF_COUNT").is_some() {
            for _ in 0..5 {
                f(&mut setup()); // plans, columns and pages are there, as in all runs but the first
            }
            let mut s = setup();
            let outcome = counted(|| f(&mut s)).into();
            println!("{{\"op\": \"{op}\", \"rows\": {}}}", outcome.0);
            return;
        }
        let (mut times, begun) = (Vec::new(), Instant::now());
        let last: Outcome = loop {
            let mut s = setup();
            let t = Instant::now();
            let outcome = f(&mut s);
            times.push(t.elapsed().as_secs_f64() * 1e3);
            drop(s);
            let enough = times.len() >= 3 && begun.elapsed().as_secs_f64() > 2.5;
            if times[0] > 20_000.0 || times.len() >= 200 || enough {
                break outcome.into();
            }
        };
        let first = times[0];
        times.sort_by(f64::total_cmp);
        println!(
            "{{\"peer\": \"annals\", \"workload\": \"{}\", \"size\": \"{}\", \"op\": \"{op}\", \"runs\": {}, \
             \"first_ms\": {first:.4}, \"min_ms\": {:.4}, \"median_ms\": {:.4}, \"rows\": {}, \"sum\": {}, \
             \"rss_mb\": {}{}}}",
            self.workload,
            self.size,
            times.len(),
            times[0],
            times[times.len() / 2],
            last.0,
            last.1,
            peak_mb(),
            last.2
        );
    }
    pub fn tsv(&self, name: &str) -> Tsv {
        Tsv::read(name, &self.size)
    }
}

/// A data file: its text and nothing else, as long as somebody needs it. A million rows of owned strings would be
/// most of what the process holds, and peers do not hold them.
pub struct Tsv(String);

impl Tsv {
    pub fn read(name: &str, size: &str) -> Tsv {
        let folder = env::var("PERF_DATA").unwrap_or_else(|_| "data".into());
        let path = PathBuf::from(folder).join(format!("{name}-{size}.tsv"));
        Tsv(fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e} (run bench/setup)", path.display())))
    }
    pub fn rows(&self) -> impl Iterator<Item = Line<'_>> {
        self.0.lines().map(Line)
    }
    pub fn len(&self) -> usize {
        self.rows().count()
    }
    /// The rows, as many at a time as one transaction of a load takes: in parts, so that the peak of a workload is
    /// not the memory of one huge transaction.
    pub fn parts(&self) -> impl Iterator<Item = Vec<Line<'_>>> {
        let mut rows = self.rows();
        std::iter::from_fn(move || {
            let part: Vec<Line<'_>> = rows.by_ref().take(PER_TRANSACTION).collect();
            (!part.is_empty()).then_some(part)
        })
    }
}

/// A line of a file, whose fields are found when they are asked for.
#[derive(Clone, Copy)]
pub struct Line<'a>(&'a str);

impl<'a> Line<'a> {
    pub fn field(self, field: usize) -> &'a str {
        self.0.split('\t').nth(field).expect("a line has all fields")
    }
}

impl std::ops::Index<usize> for Line<'_> {
    type Output = str;
    fn index(&self, field: usize) -> &str {
        self.field(field)
    }
}

/// An empty folder for a database.
pub fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env::var("PERF_SCRATCH").unwrap_or_else(|_| "tmp".into()))
        .join(format!("annals-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(path.parent().expect("scratch has a parent")).expect("scratch folder");
    path
}

/// How databases are opened here. `PERF_MAP_BYTES` keeps the map of the indexes small enough for tools
/// that watch every access.
pub fn options() -> annals::Options {
    let options = annals::Options::new().durability(annals::Durability::Relaxed);
    match env::var("PERF_MAP_BYTES").ok().and_then(|n| n.parse().ok()) {
        Some(bytes) => options.map_size_bytes(bytes),
        None => options,
    }
}

/// Bytes allotted on disk below a folder.
pub fn disk(path: &PathBuf) -> u64 {
    let mut total = 0;
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let meta = entry.metadata().expect("metadata");
        total += if meta.is_dir() { disk(&entry.path()) } else { meta.blocks() * 512 };
    }
    total
}

fn peak_mb() -> u64 {
    memory_mb("VmHWM")
}

/// What the process holds now, in MiB.
pub fn rss_mb() -> u64 {
    memory_mb("VmRSS")
}

fn memory_mb(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// The numbers of a data file against the entities they became. Both ways are arrays: what a checksum
/// costs counts against us, and the peers sum what they have.
#[derive(Default)]
pub struct Ids {
    /// Entities by number, in pages: numbers of different kinds begin a million apart.
    to: Vec<Vec<EntityId>>,
    /// Numbers by entity, from the first one entered on.
    from: Vec<u64>,
    base: u64,
}

const PAGE: usize = 4096;

impl Ids {
    pub fn enter(&mut self, number: u64, e: EntityId) {
        if self.from.is_empty() {
            self.base = e.raw();
        }
        if e.raw() < self.base {
            let more = (self.base - e.raw()) as usize;
            self.from.splice(0..0, std::iter::repeat_n(0, more));
            self.base = e.raw();
        }
        let at = (e.raw() - self.base) as usize;
        if at >= self.from.len() {
            self.from.resize(at + 1, 0);
        }
        self.from[at] = number;
        let (page, at) = (number as usize / PAGE, number as usize % PAGE);
        if self.to.len() <= page {
            self.to.resize(page + 1, Vec::new());
        }
        self.to[page].resize(PAGE, EntityId::from_raw(0));
        self.to[page][at] = e;
    }
    pub fn entity(&self, number: u64) -> EntityId {
        self.to[number as usize / PAGE][number as usize % PAGE]
    }
    pub fn number_of(&self, e: EntityId) -> u64 {
        self.from[(e.raw() - self.base) as usize]
    }
    pub fn number(&self, v: &Value) -> u64 {
        match v {
            Value::Ref(e) => self.number_of(*e),
            Value::Long(n) => *n as u64,
            other => panic!("not a number: {other:?}"),
        }
    }
}

/// Entities, or facts, of one transaction of a load.
pub const PER_TRANSACTION: usize = 5_000;

/// Loads facts between numbered nodes, entering the ids. Each node also gets its
/// number as `:node/number`: an entity that nothing is said about does not exist.
pub fn load_links(conn: &Connection, links: &[(&str, u64, u64)]) -> Ids {
    conn.transact(
        "[{:db/ident :node/number :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
    )
    .expect("schema");
    let mut nodes: Vec<u64> = links.iter().flat_map(|(_, a, b)| [*a, *b]).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut ids = Ids::default();
    for part in nodes.chunks(PER_TRANSACTION) {
        let mut tx = annals::tx();
        for n in part {
            tx = tx.add(n.to_string().as_str(), "node/number", Value::Long(*n as i64));
        }
        let report = conn.transact(tx).expect("nodes load");
        for n in part {
            ids.enter(*n, report.tempid(&n.to_string()).expect("every node has a tempid"));
        }
    }
    for part in links.chunks(PER_TRANSACTION) {
        let mut tx = annals::tx();
        for (attr, a, b) in part {
            tx = tx.add(Value::Ref(ids.entity(*a)), attr, Value::Ref(ids.entity(*b)));
        }
        conn.transact(tx).expect("links load");
    }
    ids
}

/// One row of an answer.
pub struct Row<'a> {
    rows: &'a annals::Rows,
    at: usize,
}

impl Row<'_> {
    pub fn get(&self, column: usize) -> Value {
        self.rows.get(self.at, column).expect("a value in every column")
    }
    pub fn long(&self, column: usize) -> u64 {
        match self.get(column) {
            Value::Long(n) => n as u64,
            other => panic!("not a long: {other:?}"),
        }
    }
}

/// The one call whose instructions `bench/instructions.py` counts.
#[inline(never)]
fn counted<O>(f: impl FnOnce() -> O) -> O {
    f()
}

/// With `PERF_EXPLAIN` in the environment: the steps of every run, to standard error.
fn explain(answer: &annals::Answer) {
    static ASKED: LazyLock<bool> = LazyLock::new(|| env::var_os("PERF_EXPLAIN").is_some());
    if *ASKED {
        eprintln!("{}total ms={:.3}", answer.stats.plan(), answer.stats.used.elapsed_us as f64 / 1e3);
    }
}

/// Runs a prepared query to its whole answer and reads every row through `each`.
pub fn run(
    db: &Db,
    q: &Query,
    args: impl annals::IntoInputs,
    mut each: impl FnMut(&Row<'_>) -> u64,
) -> (u64, u64) {
    let answer = db.query_with(q, args, query_options()).expect("the workload's queries run");
    explain(&answer);
    let sum = (0..answer.rows.len()).map(|at| each(&Row { rows: &answer.rows, at })).sum();
    (answer.rows.len() as u64, sum)
}

/// How queries run here: rows in no order, as no peer puts them in order either. `PERF_THREADS=1` and
/// `PERF_JOINS=pairwise|leapfrog` compare ways of running.
fn query_options() -> &'static annals::QueryOptions {
    // The environment is read once: what reading it costs is not the query's.
    static OPTIONS: LazyLock<annals::QueryOptions> = LazyLock::new(|| {
        let threads = match env::var("PERF_THREADS").ok().and_then(|n| n.parse().ok()) {
            Some(n) => annals::Threads::Exactly(n),
            None => annals::Threads::Auto,
        };
        let joins = match env::var("PERF_JOINS").as_deref() {
            Ok("pairwise") => annals::JoinChoice::Pairwise,
            Ok("leapfrog") => annals::JoinChoice::Leapfrog,
            _ => annals::JoinChoice::Best,
        };
        annals::QueryOptions { sorted: false, threads, joins, ..Default::default() }
    });
    &OPTIONS
}

/// Runs a prepared query whose columns are all entities to its whole answer, and sums their
/// numbers, each column with its weight.
pub fn run_entities(
    db: &Db,
    q: &Query,
    args: impl annals::IntoInputs,
    ids: &Ids,
    weights: &[u64],
) -> (u64, u64) {
    let answer = db.query_with(q, args, query_options()).expect("the workload's queries run");
    explain(&answer);
    let mut sum = 0;
    for (col, weight) in weights.iter().enumerate() {
        let entities = answer.rows.entities(col).expect("a column of entities");
        sum += weight * entities.map(|e| ids.number_of(e)).sum::<u64>();
    }
    (answer.rows.len() as u64, sum)
}
