//! Queries over datoms in memory, without storage: the kernels they come down to, how much the
//! order of clauses matters, and what it costs to plan.
//!
//! `cargo bench -p annals-query` runs everything; an argument runs what contains it; `SIZE=M`
//! makes ten times the data; `EXPLAIN=1` prints the steps of each query instead of the rest.
//! Data comes from a seed and has the shapes of `bench/gen.py`. Times are medians in
//! milliseconds (of planning: microseconds), results wholly built.

use annals_model::*;
use annals_query::eval::Threads;
use annals_query::mem::MemSource;
use annals_query::source::Source;
use annals_query::{Input, Query, QueryOptions};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

/// Numbers that are the same in every run (Knuth's MMIX generator).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
    /// From 1 to `n`, the small ones far more often.
    fn skewed(&mut self, n: u64, by: f64) -> u64 {
        let x = (self.below(1 << 24) as f64 / f64::from(1 << 24)).powf(by);
        ((n as f64).powf(x) as u64).clamp(1, n)
    }
}

/// Facts of one database.
#[derive(Default)]
struct Facts {
    attributes: Vec<Attribute>,
    datoms: Vec<Datom>,
}

impl Facts {
    fn attribute(&mut self, name: &str, value_type: ValueType, many: bool) -> AttrId {
        let id = AttrId::new(100 + self.attributes.len() as u32);
        self.attributes.push(Attribute {
            id,
            ident: Keyword::new(name),
            value_type,
            cardinality: if many { Cardinality::Many } else { Cardinality::One },
            unique: None,
            index: false,
            is_component: false,
            no_history: false,
            tuple: None,
            preds: vec![],
            doc: None,
        });
        id
    }
    fn add(&mut self, e: u64, a: AttrId, v: impl Into<Value>) {
        self.datoms.push(Datom { e: node(e), a, v: v.into(), t: T(1), added: true });
    }
    fn source(mut self) -> Input {
        self.datoms.sort();
        self.datoms.dedup();
        Input::Source(Arc::new(MemSource::new(Schema::new(self.attributes), self.datoms)) as Arc<dyn Source>)
    }
}

fn node(n: u64) -> EntityId {
    EntityId::new(Partition::User, n)
}

fn people(n: u64) -> Input {
    let (mut f, mut r) = (Facts::default(), Seeded(1));
    let name = f.attribute("name", ValueType::String, false);
    let last = f.attribute("last-name", ValueType::String, false);
    let sex = f.attribute("sex", ValueType::Keyword, false);
    let age = f.attribute("age", ValueType::Long, false);
    let salary = f.attribute("salary", ValueType::Long, false);
    let firsts = ["Ivan", "Petr", "Sergei", "Oleg", "Yuri", "Dmitry", "Fedor", "Denis"];
    let lasts = ["Ivanov", "Petrov", "Sidorov", "Kovalev", "Kuznetsov", "Voronoi"];
    for e in 1..=n {
        f.add(e, name, firsts[r.below(8) as usize]);
        f.add(e, last, lasts[r.below(6) as usize]);
        f.add(e, sex, Value::keyword(["male", "female"][r.below(2) as usize]));
        f.add(e, age, r.below(100) as i64);
        f.add(e, salary, r.below(100_000) as i64);
    }
    f.source()
}

fn tracks(artists: u64, releases: u64, tracks: u64) -> Input {
    let (mut f, mut r) = (Facts::default(), Seeded(9));
    let (text, long) = (ValueType::String, ValueType::Long);
    let artist = f.attribute("artist/name", text, false);
    let country = f.attribute("artist/country", text, false);
    let release = f.attribute("release/name", text, false);
    let year = f.attribute("release/year", long, false);
    let track = f.attribute("track/name", text, false);
    let on = f.attribute("track/release", ValueType::Ref, false);
    let dur = f.attribute("track/dur", long, false);
    let by = f.attribute("track/artists", ValueType::Ref, true);
    for i in 1..=artists {
        f.add(i, artist, format!("Artist {i}").as_str());
        f.add(i, country, format!("C{}", r.below(40)).as_str());
    }
    let main: Vec<u64> = (0..releases).map(|_| r.skewed(artists, 1.0)).collect();
    for i in 1..=releases {
        f.add(artists + i, release, format!("Release {i}").as_str());
        f.add(artists + i, year, 1950 + r.below(75) as i64);
    }
    for i in 1..=tracks {
        let (t, at) = (artists + releases + i, r.below(releases));
        f.add(t, track, format!("Track {i}").as_str());
        f.add(t, on, node(artists + 1 + at));
        f.add(t, dur, 60 + r.below(400) as i64);
        f.add(t, by, node(main[at as usize]));
        while r.below(100) < 15 {
            f.add(t, by, node(r.skewed(artists, 1.0)));
        }
    }
    f.source()
}

fn graph(edges: impl Iterator<Item = (u64, u64)>) -> Input {
    let mut f = Facts::default();
    let edge = f.attribute("edge", ValueType::Ref, true);
    edges.filter(|(a, b)| a != b).for_each(|(a, b)| f.add(a, edge, node(b)));
    f.source()
}

fn tree(depth: u32) -> Input {
    graph((2..1u64 << (depth + 1)).map(|i| (i / 2, i)))
}

fn random(nodes: u64, edges: u64) -> Input {
    let mut r = Seeded(3);
    graph((0..edges).map(move |_| (1 + r.below(nodes), 1 + r.below(nodes))))
}

fn skewed(nodes: u64, edges: u64) -> Input {
    let mut r = Seeded(11);
    graph((0..edges).map(move |_| {
        let a = r.skewed(nodes, 0.75);
        let b = if r.below(2) == 0 { 1 + r.below(nodes) } else { r.skewed(nodes, 0.75) };
        (a.min(b), a.max(b))
    }))
}

const TC: &str = "[[(tc ?a ?b) [?a :edge ?b]] [(tc ?a ?b) [?a :edge ?t] (tc ?t ?b)]]";
const SG: &str =
    "[[(sg ?a ?b) [?p :edge ?a] [?p :edge ?b]] [(sg ?a ?b) [?p :edge ?a] (sg ?p ?q) [?q :edge ?b]]]";

/// A query as its head and its clauses, with the inputs after the database.
struct Work {
    name: &'static str,
    find: &'static str,
    clauses: &'static [&'static str],
    more: Vec<Input>,
}

fn work(name: &'static str, find: &'static str, clauses: &'static [&'static str], more: Vec<Input>) -> Work {
    Work { name, find, clauses, more }
}

fn value(v: impl Into<Value>) -> Input {
    Input::Value(v.into())
}

fn over_people() -> Vec<Work> {
    let q4 = &["[?e :name \"Ivan\"]", "[?e :last-name ?l]", "[?e :age ?a]", "[?e :sex :male]"];
    vec![
        work("q1", ":find ?e", &["[?e :name \"Ivan\"]"], vec![]),
        work("q2", ":find ?e ?a", &["[?e :name \"Ivan\"]", "[?e :age ?a]"], vec![]),
        work("q3", ":find ?e ?a", &["[?e :name \"Ivan\"]", "[?e :age ?a]", "[?e :sex :male]"], vec![]),
        work("q4", ":find ?e ?l ?a", q4, vec![]),
        work("qpred1", ":find ?e ?s", &["[?e :salary ?s]", "[(> ?s 50000)]"], vec![]),
    ]
}

const ARTIST_TRACKS: &[&str] = &[
    "[?x :artist/name ?a]",
    "[?t :track/artists ?x]",
    "[?t :track/release ?r]",
    "[?r :release/year ?y]",
    "[(< ?y 1990)]",
    "[?t :track/name ?n]",
];
const COLLAB: &[&str] = &[
    "[?x :artist/name ?a]",
    "[?t :track/artists ?x]",
    "[?t :track/artists ?b]",
    "[(not= ?b ?x)]",
    "[?b :artist/name ?n]",
];
const COLLAB_TRACKS: &[&str] = &[
    "[?x :artist/name ?a]",
    "[?t :track/artists ?x]",
    "[?t :track/artists ?b]",
    "[(not= ?b ?x)]",
    "[?b :artist/name ?n]",
    "[?t2 :track/artists ?b]",
    "[?t2 :track/release ?r]",
    "[?r :release/year ?y]",
    "[(< ?y 1960)]",
    "[?t2 :track/name ?tn]",
    "[?r :release/name ?rn]",
];
const COLLAB_2HOP: &[&str] = &[
    "[?x :artist/name ?a]",
    "[?t :track/artists ?x]",
    "[?t :track/artists ?b]",
    "[(not= ?b ?x)]",
    "[?u :track/artists ?b]",
    "[?u :track/artists ?c]",
    "[(not= ?c ?x)]",
    "[?c :artist/name ?n]",
];
const AGG: &[&str] = &[
    "[?t :track/dur ?d]",
    "[(> ?d 300)]",
    "[?t :track/release ?r]",
    "[?r :release/year ?y]",
    "[(< ?y 1980)]",
    "[?t :track/artists ?a]",
    "[?a :artist/country ?c]",
];

fn over_tracks() -> Vec<Work> {
    let artist = || vec![value("Artist 17")];
    vec![
        work("artist-tracks", ":find ?t ?n ?y :in $ ?a", ARTIST_TRACKS, artist()),
        work("collab", ":find ?b ?n :in $ ?a", COLLAB, artist()),
        work("collab-tracks", ":find ?t2 ?n ?tn ?rn ?y :in $ ?a", COLLAB_TRACKS, artist()),
        work("collab-2hop", ":find ?c ?n :in $ ?a", COLLAB_2HOP, vec![value("Artist 517")]),
        work("agg", ":find ?c (count ?t) :with ?a", AGG, vec![]),
    ]
}

fn over_graph(rules: &str, name: &'static str, clauses: &'static [&'static str]) -> Vec<Work> {
    let head = if clauses.len() == 1 { ":find ?a ?b :in $ %" } else { ":find ?a ?b ?c :in $ %" };
    vec![work(name, head, clauses, vec![Input::rules(rules).expect("rules parse")])]
}

/// Everything that is measured: where it runs, and on what.
fn all(big: bool, wanted: &dyn Fn(&str) -> bool) -> Vec<(Input, Vec<Work>)> {
    let n = if big { 10 } else { 1 };
    let mut out: Vec<(Input, Vec<Work>)> = Vec::new();
    let mut add = |works: Vec<Work>, data: &dyn Fn() -> Input| {
        let works: Vec<Work> = works.into_iter().filter(|w| wanted(w.name)).collect();
        if !works.is_empty() {
            out.push((data(), works));
        }
    };
    add(over_people(), &|| people(20_000 * n));
    add(over_tracks(), &|| tracks(1_000 * n, 6_000 * n, 60_000 * n));
    add(over_graph(TC, "tc-tree", &["(tc ?a ?b)"]), &|| tree(if big { 16 } else { 11 }));
    add(over_graph(TC, "tc-random", &["(tc ?a ?b)"]), &|| random(200 * n, 400 * n));
    add(over_graph(SG, "sg", &["(sg ?a ?b)"]), &|| tree(if big { 10 } else { 7 }));
    let triangle = &["[?a :edge ?b]", "[?b :edge ?c]", "[?a :edge ?c]"];
    add(over_graph("[]", "triangles", triangle), &|| skewed(2_000 * n, 20_000 * n));
    out
}

fn options(threads: Threads) -> QueryOptions {
    QueryOptions { sorted: false, threads, ..QueryOptions::default() }
}

fn query(w: &Work, order: &[usize]) -> Query {
    let clauses: Vec<&str> = order.iter().map(|i| w.clauses[*i]).collect();
    Query::parse(&format!("[{} :where {}]", w.find, clauses.join(" "))).expect("parses")
}

/// The median of `runs` runs and the rows, after one that is not counted.
fn median(runs: usize, mut f: impl FnMut() -> usize) -> (f64, usize) {
    let rows = f();
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let begun = Clock::now();
            black_box(f());
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[runs / 2].as_secs_f64() * 1e3, rows)
}

fn inputs(db: &Input, w: &Work) -> Vec<Input> {
    std::iter::once(db.clone()).chain(w.more.iter().cloned()).collect()
}

fn kernels(data: &[(Input, Vec<Work>)]) {
    println!("{:16} {:>10} {:>10} {:>10}", "query", "rows", "1 thread", "threads");
    for (db, works) in data {
        for w in works {
            let order: Vec<usize> = (0..w.clauses.len()).collect();
            let (q, given) = (query(w, &order), inputs(db, w));
            let run = |threads| {
                let o = options(threads);
                median(15, || q.run(&given, &o).expect("runs").rows.len())
            };
            let ((one, rows), (many, _)) = (run(Threads::Exactly(1)), run(Threads::Auto));
            println!("{:16} {rows:>10} {one:>10.3} {many:>10.3}", w.name);
            if std::env::var_os("EXPLAIN").is_some() {
                print!("{}", q.run(&given, &options(Threads::Exactly(1))).expect("runs").stats.plan());
            }
        }
    }
}

/// Every order of up to four clauses, and 24 of more.
fn orders(n: usize) -> Vec<Vec<usize>> {
    let mut r = Seeded(5);
    let mut out: Vec<Vec<usize>> = vec![(0..n).collect(), (0..n).rev().collect()];
    let all = (1..=n.min(4)).product::<usize>();
    while out.len() < all {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, r.below(i as u64 + 1) as usize);
        }
        if !out.contains(&order) {
            out.push(order);
        }
    }
    out
}

/// Orders are run in turn, and of each the quickest of 15 runs counts: what else the machine does
/// hits all of them alike. `plans` is how many different plans there were.
fn clause_orders(data: &[(Input, Vec<Work>)]) {
    println!(
        "\n{:16} {:>7} {:>6} {:>10} {:>10} {:>7}",
        "clause orders", "orders", "plans", "best", "worst", "ratio"
    );
    for (db, works) in data {
        for w in works.iter().filter(|w| w.clauses.len() > 1) {
            let given = inputs(db, w);
            let o = options(Threads::Exactly(1));
            let queries: Vec<Query> = orders(w.clauses.len()).iter().map(|order| query(w, order)).collect();
            let mut times = vec![f64::MAX; queries.len()];
            let mut plans = BTreeSet::new();
            for round in 0..16 {
                for (q, least) in queries.iter().zip(&mut times) {
                    let begun = Clock::now();
                    let answer = q.run(&given, &o).expect("runs");
                    let took = begun.elapsed().as_secs_f64() * 1e3;
                    if round == 0 {
                        plans.insert(
                            answer.stats.steps.into_iter().map(|s| (s.clause, s.how)).collect::<Vec<_>>(),
                        );
                    } else {
                        *least = least.min(took);
                    }
                }
            }
            let (best, worst) = times.iter().fold((f64::MAX, 0.0_f64), |(a, b), t| (a.min(*t), b.max(*t)));
            let (n, plans) = (queries.len(), plans.len());
            println!("{:16} {n:>7} {plans:>6} {best:>10.3} {worst:>10.3} {:>7.2}", w.name, worst / best);
        }
    }
}

/// A query of ten clauses over next to no data: what is left is planning.
fn planning() {
    let db = tracks(3, 3, 3);
    let text = "[:find ?n ?tn ?rn ?y :in $ ?a :where [?x :artist/name ?a] [?t :track/artists ?x] \
                [?t :track/artists ?b] [(not= ?b ?x)] [?b :artist/name ?n] [?u :track/artists ?b] \
                [?u :track/release ?r] [?r :release/year ?y] [?u :track/name ?tn] [?r :release/name ?rn]]";
    let given = [db, value("Artist 1")];
    let q = Query::parse(text).expect("parses");
    let micros = |f: &mut dyn FnMut() -> usize| median(501, f).0 * 1e3;
    let parse = micros(&mut || Query::parse(black_box(text)).map_or(0, |_| 1));
    let o = options(Threads::Exactly(1));
    let prepared = micros(&mut || q.run(&given, &o).expect("runs").rows.len());
    let fresh = QueryOptions { cache: false, ..o.clone() };
    let resolve = micros(&mut || q.run(&given, &fresh).expect("runs").rows.len()) - prepared;
    println!(
        "\nten clauses, microseconds: parse {parse:.1}, resolve {resolve:.1}, choose and run {prepared:.1}"
    );
}

fn encoding() {
    let values: Vec<Value> = (0..100_000).map(|i| Value::string(format!("value number {i}"))).collect();
    let encode = |dict: &Dict| values.iter().map(|v| dict.encode(v)).max().map_or(0, |_| values.len());
    let known = Dict::default();
    let (again, n) = median(9, || encode(&known));
    let (first, _) = median(9, || encode(&Dict::default()));
    println!("\ndictionary, {n} strings: first {first:.3} ms, known {again:.3} ms");
}

fn main() {
    // `cargo bench` says `--bench`; what else is given chooses.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|c| name.contains(c.as_str()));
    let big = std::env::var("SIZE").is_ok_and(|s| s == "M");
    let data = all(big, &wanted);
    kernels(&data);
    if std::env::var_os("EXPLAIN").is_none() {
        clause_orders(&data);
        planning();
        encoding();
    }
}
