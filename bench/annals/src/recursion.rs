//! W3: closures, same generation, reachability, points-to.

use crate::harness::{Bench, Ids, load_links, options, run_entities, scratch};
use annals::{Connection, Query};

const TC: &str = "[[(tc ?a ?b) [?a :edge ?b]] [(tc ?a ?b) [?a :edge ?t] (tc ?t ?b)]]";
const TC_LEFT: &str = "[[(tc ?a ?b) [?a :edge ?b]] [(tc ?a ?b) (tc ?a ?t) [?t :edge ?b]]]";
const SG: &str =
    "[[(sg ?a ?b) [?p :edge ?a] [?p :edge ?b]] [(sg ?a ?b) [?p :edge ?a] (sg ?p ?q) [?q :edge ?b]]]";
const POINTS_TO: &str = "[[(pt ?y ?x) [?y :addr ?x]] [(pt ?y ?x) [?y :assign ?z] (pt ?z ?x)]
 [(pt ?y ?x) [?y :load ?p] (pt ?p ?z) (pt ?z ?x)] [(pt ?y ?x) [?p :store ?w] (pt ?p ?y) (pt ?w ?x)]]";

fn refs(names: &[&str]) -> String {
    let one = |n: &&str| {
        format!("{{:db/ident :{n} :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}}")
    };
    format!("[{}]", names.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn open(names: &[&str]) -> Connection {
    let conn = options().open(scratch("w3")).expect("open");
    conn.transact(refs(names).as_str()).expect("schema");
    conn
}

pub fn graph(b: &Bench, name: &str) -> (Connection, Ids) {
    let conn = open(&["edge"]);
    let rows = b.tsv(name);
    let edges: Vec<(&str, u64, u64)> =
        rows.rows().map(|r| ("edge", r[0].parse().expect("a"), r[1].parse().expect("b"))).collect();
    let ids = load_links(&conn, &edges);
    (conn, ids)
}

fn all_pairs(b: &Bench, op: &str, graph_name: &str, rule: &str, rules: &str) {
    if b.wants(op) {
        let (conn, ids) = graph(b, graph_name);
        let db = conn.db();
        let q = Query::parse(&format!("[:find ?a ?b :in $ % :where ({rule} ?a ?b)]")).expect("parses");
        b.op(op, || (), |_| run_entities(&db, &q, (annals::Input::Rules(rules.into()),), &ids, &[7, 1]));
    }
}

pub fn run_workload(b: &Bench) {
    for g in ["chain", "rand", "grid", "tree"] {
        all_pairs(b, &format!("tc-{g}"), g, "tc", TC);
    }
    all_pairs(b, "sg", "sg", "sg", SG);
    let forward = Query::parse("[:find ?b :in $ % ?s :where (tc ?s ?b)]").expect("parses");
    let backward = Query::parse("[:find ?a :in $ % ?s :where (tc ?a ?s)]").expect("parses");
    if b.wants_any(&["reach", "reach-leftrec"]) {
        let (conn, ids) = graph(b, "reach");
        let db = conn.db();
        let one = |op: &str, rules: &str| {
            b.op(
                op,
                || (),
                |_| {
                    let args = (annals::Input::Rules(rules.into()), ids.entity(1));
                    run_entities(&db, &forward, args, &ids, &[1])
                },
            );
        };
        one("reach", TC);
        one("reach-leftrec", TC_LEFT);
    }
    if b.wants_any(&["local", "local-rev"]) {
        let (conn, ids) = graph(b, "local");
        let db = conn.db();
        let source = 7 * if b.small() { 50 } else { 100 } + 1;
        for (op, q, from) in [("local", &forward, source), ("local-rev", &backward, source + 40)] {
            b.op(
                op,
                || (),
                |_| {
                    let args = (annals::Input::Rules(TC.into()), ids.entity(from));
                    run_entities(&db, q, args, &ids, &[1])
                },
            );
        }
    }
    if b.wants("andersen") {
        let conn = open(&["addr", "assign", "load", "store"]);
        let rows = b.tsv("andersen");
        let links: Vec<(&str, u64, u64)> =
            rows.rows().map(|r| (r.field(0), r[1].parse().expect("y"), r[2].parse().expect("x"))).collect();
        let ids = load_links(&conn, &links);
        let db = conn.db();
        let q = Query::parse("[:find ?y ?x :in $ % :where (pt ?y ?x)]").expect("parses");
        b.op(
            "andersen",
            || (),
            |_| run_entities(&db, &q, (annals::Input::Rules(POINTS_TO.into()),), &ids, &[7, 1]),
        );
    }
}
