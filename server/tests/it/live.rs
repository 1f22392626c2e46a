//! Live queries over generated histories: after every update the rows are those of the
//! same query run again as of that t, whatever the query, also when resumed.

use crate::common::Running;
use annals::{Input, T, Value};
use annals_server::client::{LiveQuery, Update, connect};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

const RULES: &str = "[[(reach ?a ?b) [?a :order/next ?b]] [(reach ?a ?b) [?a :order/next ?c] (reach ?c ?b)]]";

/// A join, a negation, aggregates, a disjunction, recursion, a pull, a collection, a scalar.
const QUERIES: [&str; 8] = [
    "[:find ?o ?id ?s :where [?o :order/id ?id] [?o :order/status ?s]]",
    "[:find ?id :where [?o :order/id ?id] (not [?o :order/next _])]",
    "[:find ?s (count ?o) (sum ?n) :where [?o :order/status ?s] [?o :order/count ?n]]",
    "[:find ?id :where [?o :order/id ?id] (or [?o :order/status :paid] [?o :order/tag \"x\"])]",
    "[:find ?a ?b :in $ % :where (reach ?x ?y) [?x :order/id ?a] [?y :order/id ?b]]",
    "[:find (pull ?o [:order/id :order/tag]) :where [?o :order/tag]]",
    "[:find [?t ...] :where [_ :order/tag ?t]]",
    "[:find (max ?n) . :where [_ :order/count ?n]]",
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// One transaction of a history: sometimes one that changes nothing.
fn transaction(dice: &mut Dice) -> String {
    let id = dice.roll(6);
    let other = dice.roll(6);
    match dice.roll(9) {
        0 => format!(
            "[{{:order/id \"o{id}\" :order/status :{}}}]",
            ["placed", "paid", "sent"][dice.roll(3) as usize]
        ),
        1 => format!("[{{:order/id \"o{id}\" :order/count {}}}]", dice.roll(5)),
        2 => format!("[{{:order/id \"o{id}\" :order/tag [\"{}\"]}}]", ["x", "y", "z"][dice.roll(3) as usize]),
        3 => format!("[{{:order/id \"o{id}\" :order/next {{:order/id \"o{other}\"}}}}]"),
        4 => format!("[{{:order/id \"o{id}\"}} [:db/retract [:order/id \"o{id}\"] :order/next]]"),
        5 => format!("[{{:order/id \"o{id}\"}} [:db/retract [:order/id \"o{id}\"] :order/tag]]"),
        6 => format!("[{{:order/id \"o{id}\"}} [:db/retract [:order/id \"o{id}\"] :order/status]]"),
        7 => format!("[{{:db/id \"n\" :db/doc \"touches nothing {id}\"}}]"),
        _ => format!("[[:db/retractEntity [:order/id \"o{id}\"]]]"),
    }
}

fn inputs(query: &str) -> Vec<Input> {
    if query.contains('%') { vec![Input::Rules(RULES.into())] } else { Vec::new() }
}

fn rows(s: &Running, query: &str, t: T) -> BTreeSet<Vec<Value>> {
    let answer = s.conn.db().as_of(t).query(query, inputs(query)).unwrap();
    answer.rows.iter().collect()
}

/// Follows a live query until `last`, checking it at each t; resumes it at `resume`.
fn follow(s: &Running, mut live: LiveQuery, query: &str, last: T, resume: T, seed: u64) {
    let mut held = BTreeSet::new();
    let mut told = T(0);
    let mut resumed = false;
    while told < last {
        let update = live.next_timeout(Duration::from_secs(20)).unwrap().expect("an update");
        assert!(update.t() > told || told == T(0), "seed {seed}: {query}: {update:?} after t {told}");
        told = update.t();
        match update {
            Update::Snapshot { rows, .. } => held = rows.into_iter().collect(),
            Update::Change { added, removed, .. } => {
                assert!(!added.is_empty() || !removed.is_empty(), "seed {seed}: nothing changed at {told}");
                for row in removed {
                    assert!(held.remove(&row), "seed {seed}: {query}: {row:?} was not there at {told}");
                }
                for row in added {
                    assert!(held.insert(row), "seed {seed}: {query}: twice at {told}");
                }
            }
            Update::Checkpoint { .. } => {}
        }
        assert_eq!(held, rows(s, query, told), "seed {seed}: {query} at {told}");
        if !resumed && told >= resume {
            resumed = true;
            live = connect(&format!("http://{}/v1/db/orders", s.address))
                .unwrap()
                .resume(query, inputs(query), told)
                .unwrap();
        }
    }
}

#[test]
fn live_queries_equal_running_them_again_over_generated_histories() {
    for seed in 1..=6u64 {
        let s = Running::start();
        let mut dice = Dice(seed);
        let mut write = |n: u64, s: &Running| {
            let mut t = s.conn.db().t();
            for _ in 0..n {
                // A retraction of what is not there may be refused: then nothing happened.
                if let Ok(report) = s.conn.transact(transaction(&mut dice)) {
                    t = report.t();
                }
            }
            t
        };
        write(20, &s);
        let conn = connect(&format!("http://{}/v1/db/orders", s.address)).unwrap();
        let start = s.conn.db().t().0;
        let live: Vec<LiveQuery> = QUERIES.iter().map(|q| conn.subscribe(q, inputs(q)).unwrap()).collect();
        // What every subscriber must see last: a change of a fact nobody asks for moves the checkpoint.
        let last = std::thread::scope(|scope| scope.spawn(|| write(60, &s)).join().unwrap());
        for (i, (query, live)) in QUERIES.iter().zip(live).enumerate() {
            follow(&s, live, query, last, T(start + 7 * i as u64), seed);
        }
    }
}

#[test]
fn a_live_query_loses_the_rows_that_were_excised() {
    // Only a database on disk can be excised from.
    let folder = tempfile::tempdir().unwrap();
    let conn = annals::open(folder.path()).unwrap();
    conn.transact(crate::common::SCHEMA).unwrap();
    let s = Running::over(annals_server::Config::default(), conn);
    s.conn
        .transact("[{:order/id \"kept\" :order/status :placed} {:order/id \"gone\" :order/status :placed}]")
        .unwrap();
    let query = "[:find ?id :where [?o :order/id ?id] [?o :order/status :placed]]";
    let mut live =
        connect(&format!("http://{}/v1/db/orders", s.address)).unwrap().subscribe(query, ()).unwrap();
    let mut next = || live.next_timeout(Duration::from_secs(20)).unwrap().expect("an update");
    assert!(matches!(next(), Update::Snapshot { rows, .. } if rows.len() == 2));
    let gone = annals::Eid::from(("order/id", "gone"));
    // Its transaction says why and not what: no fact of an order is among its datoms.
    let excised = s.conn.excise(&[annals::Excision::Entity(gone)], "[]").unwrap().report.t();
    loop {
        match next() {
            Update::Change { t, added, removed } => {
                assert_eq!((t, added.len()), (excised, 0));
                assert_eq!(removed, [vec![annals::Value::string("gone")]]);
                break;
            }
            Update::Checkpoint { t } => assert!(t < excised, "the excision was passed over"),
            other => panic!("{other:?}"),
        }
    }
    // Who was away meanwhile cannot be told what is gone, so it begins anew.
    let before = T(excised.0 - 1);
    let mut back =
        connect(&format!("http://{}/v1/db/orders", s.address)).unwrap().resume(query, (), before).unwrap();
    let update = back.next_timeout(Duration::from_secs(20)).unwrap().expect("an update");
    assert!(matches!(&update, Update::Snapshot { rows, .. } if rows.len() == 1), "{update:?}");
}

#[test]
fn rules_among_the_arguments_count_as_read() {
    let s = Running::start();
    let query = "[:find ?id :in $ % :where (paid ?id)]";
    let rules = "[[(paid ?id) [?o :order/status :paid] [?o :order/id ?id]]]";
    let body = json!({"query": query, "args": [rules]}).to_string();
    let mut feed =
        s.events("POST", "/v1/db/orders/subscribe", &[("content-type", "application/json")], body.as_bytes());
    feed.next().expect("a snapshot");
    s.conn.transact("[{:order/id \"a\" :order/status :paid}]").unwrap();
    let change = feed.next().expect("a change");
    assert_eq!(change.data["added"], json!([["a"]]), "{change:?}");
}
