//! W5: joins and aggregates over artists, releases and tracks; triangles.

use crate::harness::{Bench, Ids, Line, Outcome, Tsv, disk, options, run, run_entities, scratch};
use annals::{Connection, Query, Value};
use std::path::PathBuf;

const SCHEMA: &str = "[{:db/ident :artist/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/index true}
 {:db/ident :artist/country :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
 {:db/ident :artist/start :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :release/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
 {:db/ident :release/year :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :track/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
 {:db/ident :track/release :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
 {:db/ident :track/dur :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :track/artists :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]";

fn long(s: &str) -> Value {
    Value::Long(s.parse().expect("number"))
}

/// The facts of an entity, from the line it stands on.
type Facts = Vec<(&'static str, Value)>;

/// The data files, read once: what a run reads it keeps.
struct Files {
    artists: Tsv,
    releases: Tsv,
    tracks: Tsv,
    links: Tsv,
}

impl Files {
    fn new(b: &Bench) -> Files {
        let [artists, releases, tracks, links] =
            ["artists", "releases", "tracks", "trackartists"].map(|name| b.tsv(name));
        Files { artists, releases, tracks, links }
    }
}

fn open() -> (Connection, PathBuf) {
    let path = scratch("w5");
    let conn = options().open(&path).expect("open");
    conn.transact(SCHEMA).expect("schema");
    (conn, path)
}

fn load(conn: &Connection, files: &Files) -> (Ids, u64) {
    let mut ids = Ids::default();
    let mut facts = 0;
    let mut enter = |rows: &Tsv, facts_each: u64, make: &dyn Fn(&Ids, &Line<'_>) -> Facts| {
        for part in rows.parts() {
            let mut tx = annals::tx();
            for r in &part {
                tx = tx.entity(std::iter::once(("db/id", Value::string(&r[0]))).chain(make(&ids, r)));
            }
            let report = conn.transact(tx).expect("load");
            for r in &part {
                ids.enter(r[0].parse().expect("id"), report.tempid(&r[0]).expect("tempid"));
            }
            facts += part.len() as u64 * facts_each;
        }
    };
    enter(&files.artists, 3, &|_, r| {
        vec![
            ("artist/name", Value::string(&r[1])),
            ("artist/country", Value::string(&r[2])),
            ("artist/start", long(&r[3])),
        ]
    });
    enter(&files.releases, 2, &|_, r| {
        vec![("release/name", Value::string(&r[1])), ("release/year", long(&r[2]))]
    });
    enter(&files.tracks, 3, &|ids, r| {
        vec![
            ("track/name", Value::string(&r[1])),
            ("track/release", Value::Ref(ids.entity(r[2].parse().expect("release")))),
            ("track/dur", long(&r[3])),
        ]
    });
    for part in files.links.parts() {
        let mut tx = annals::tx();
        for r in &part {
            let (t, a) =
                (ids.entity(r[0].parse().expect("track")), ids.entity(r[1].parse().expect("artist")));
            tx = tx.add(Value::Ref(t), "track/artists", Value::Ref(a));
        }
        conn.transact(tx).expect("links");
        facts += part.len() as u64;
    }
    (ids, facts)
}

pub fn run_workload(b: &Bench) {
    if b.wants_any(&["load", "artist-tracks", "collab", "collab-tracks", "collab-2hop", "agg"]) {
        let files = Files::new(b);
        b.op("load", open, |(conn, path)| {
            let (_, facts) = load(conn, &files);
            Outcome(facts, 0, format!(", \"bytes_per_fact\": {:.1}", disk(path) as f64 / facts as f64))
        });
        let (conn, _path) = open();
        let (ids, _) = load(&conn, &files);
        drop(files);
        let db = conn.db();
        let named = |op: &str, text: &str, artist: &'static str| {
            let q = Query::parse(text).expect("parses");
            b.op(op, || (), |_| run(&db, &q, (artist,), |r| ids.number(&r.get(0))));
        };
        named(
            "artist-tracks",
            "[:find ?t ?n ?y :in $ ?a :where [?x :artist/name ?a] [?t :track/artists ?x] [?t :track/release ?r] [?r :release/year ?y] [(< ?y 1990)] [?t :track/name ?n]]",
            "Artist 17",
        );
        named(
            "collab",
            "[:find ?b ?n :in $ ?a :where [?x :artist/name ?a] [?t :track/artists ?x] [?t :track/artists ?b] [(not= ?b ?x)] [?b :artist/name ?n]]",
            "Artist 17",
        );
        named(
            "collab-tracks",
            "[:find ?t2 ?n ?tn ?rn ?y :in $ ?a :where [?x :artist/name ?a] [?t :track/artists ?x] [?t :track/artists ?b] [(not= ?b ?x)] [?b :artist/name ?n] [?t2 :track/artists ?b] [?t2 :track/release ?r] [?r :release/year ?y] [(< ?y 1960)] [?t2 :track/name ?tn] [?r :release/name ?rn]]",
            "Artist 17",
        );
        named(
            "collab-2hop",
            "[:find ?c ?n :in $ ?a :where [?x :artist/name ?a] [?t :track/artists ?x] [?t :track/artists ?b] [(not= ?b ?x)] [?u :track/artists ?b] [?u :track/artists ?c] [(not= ?c ?x)] [?c :artist/name ?n]]",
            "Artist 517",
        );
        let agg = Query::parse("[:find ?c (count ?t) :with ?a :where [?t :track/dur ?d] [(> ?d 300)] [?t :track/release ?r] [?r :release/year ?y] [(< ?y 1980)] [?t :track/artists ?a] [?a :artist/country ?c]]").expect("parses");
        b.op("agg", || (), |_| run(&db, &agg, (), |r| ids.number(&r.get(1))));
    }
    if b.wants("triangles") {
        let (conn, ids) = crate::recursion::graph(b, "tri");
        let db = conn.db();
        let q = Query::parse("[:find ?a ?b ?c :where [?a :edge ?b] [?b :edge ?c] [?a :edge ?c]]")
            .expect("parses");
        b.op("triangles", || (), |_| run_entities(&db, &q, (), &ids, &[1, 1, 1]));
    }
}
