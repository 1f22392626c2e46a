//! Proofs, missing rows and plans over HTTP, through the client: what the library says, told whole.

use crate::common::Running;
use annals::{ProofStep, QueryOptions, Value};
use annals_server::client::{Connection, connect};
use serde_json::json;

const DB: &str = "/v1/db/orders";
const STATUS: &str = "[:find ?o ?s :where [?o :order/status ?s] (not [?o :order/next _])]";
const REACH: &str = "[:find ?a ?b :in $ % :where (reach ?x ?y) [?x :order/id ?a] [?y :order/id ?b]]";
const RULES: &str = "[[(reach ?a ?b) [?a :order/next ?b]] [(reach ?a ?b) [?a :order/next ?c] (reach ?c ?b)]]";

fn chain() -> (Running, Connection) {
    let s = Running::start();
    s.conn.transact(r#"[{:order/id "a" :order/status :paid :order/next {:order/id "b" :order/status :paid :order/next {:order/id "c" :order/status :placed}}}]"#).unwrap();
    let conn = connect(&format!("http://{}{DB}", s.address)).unwrap();
    (s, conn)
}

fn rules() -> Vec<annals::Input> {
    vec![annals::Input::Rules(RULES.into())]
}

#[test]
fn a_proof_over_http_is_the_librarys() {
    let (s, conn) = chain();
    let (here, there, options) = (s.conn.db(), conn.db().unwrap(), QueryOptions::default());
    let c = here.resolve(("order/id", "c")).unwrap().unwrap();
    for (query, inputs, row) in [
        (STATUS, Vec::new(), vec![Value::Ref(c), Value::keyword("placed")]),
        (REACH, rules(), vec![Value::string("a"), Value::string("c")]),
    ] {
        let wanted = here.prove(query, inputs.clone(), &row).unwrap().expect("a proof");
        let told = there.prove(query, inputs.clone(), &row, &options).unwrap().expect("a proof");
        assert_eq!(told, wanted, "{query}");
        assert!(told.steps.len() > 1);
        // A row that is not in the answer has no proof, and why-not names the clause.
        let mut other = row.clone();
        *other.last_mut().unwrap() = Value::string("nothing");
        assert_eq!(there.prove(query, inputs.clone(), &other, &options).unwrap(), None);
        assert_eq!(
            there.why_not(query, inputs.clone(), &other, &options).unwrap(),
            here.why_not(query, inputs.clone(), &other).unwrap()
        );
        assert_eq!(there.why_not(query, inputs, &row, &options).unwrap(), None);
    }
}

#[test]
fn the_past_is_proved_as_it_was() {
    let (s, conn) = chain();
    let t = s.conn.db().t();
    s.conn.transact(r#"[{:order/id "c" :order/status :sent}]"#).unwrap();
    let c = s.conn.db().resolve(("order/id", "c")).unwrap().unwrap();
    let row = [Value::Ref(c), Value::keyword("placed")];
    let now = conn.db().unwrap();
    assert_eq!(now.prove(STATUS, (), &row, &QueryOptions::default()).unwrap(), None);
    let then = now.as_of(t).unwrap().prove(STATUS, (), &row, &QueryOptions::default()).unwrap().unwrap();
    assert!(matches!(&then.steps[0], ProofStep::Fact { datom, .. } if datom.t == t));
}

#[test]
fn a_plan_tells_the_steps_and_runs_nothing() {
    let (s, conn) = chain();
    let wanted = s.conn.db().explain(REACH, rules()).unwrap();
    let told = conn.db().unwrap().plan(REACH, rules()).unwrap();
    let flat = |depth: u32, clause: &str, how: &str, n: u64| (depth, clause.to_owned(), how.to_owned(), n);
    assert_eq!(
        told.iter().map(|p| flat(p.depth, &p.clause, &p.how, p.expected)).collect::<Vec<_>>(),
        wanted.steps.iter().map(|p| flat(p.depth, &p.clause, p.how, p.estimated)).collect::<Vec<_>>()
    );
    // A product that would take for ever has a plan at once.
    let bomb = "[:find ?a ?b ?c ?d :where [?a _ ?v] [?b _ ?w] [?c _ ?x] [?d _ ?y]]";
    let plan = s.json(&format!("{DB}/plan"), json!({"query": bomb, "timeout_ms": 1000})).ok();
    assert_eq!(plan["plan"].as_array().unwrap().len(), 4);
}

#[test]
fn a_row_is_asked_for_as_answers_show_it() {
    let (s, _) = chain();
    let rows = s.json(&format!("{DB}/query"), json!({"query": STATUS})).ok();
    let row = rows["rows"][0].clone();
    let proof = s.json(&format!("{DB}/prove"), json!({"query": STATUS, "row": row})).ok();
    assert_eq!(proof["because"][0]["fact"][1], ":order/status");
    assert_eq!(proof["because"][1]["absent"], true);
    let not = s.json(&format!("{DB}/why-not"), json!({"query": STATUS, "row": [row[0], ":gone"]})).ok();
    assert_eq!((&not["present"], &not["clause"]), (&json!(false), &json!("[?o :order/status ?s]")));
    let (start, end) = (not["span"]["start"].as_u64().unwrap(), not["span"]["end"].as_u64().unwrap());
    assert_eq!(&STATUS[start as usize..end as usize], "[?o :order/status ?s]");
    s.json(&format!("{DB}/prove"), json!({"query": STATUS})).refused(400, "request/member");
    s.json(&format!("{DB}/prove"), json!({"query": STATUS, "row": [1]})).refused(422, "query/inputs");
    s.json(&format!("{DB}/prove"), json!({"query": STATUS, "row": [1, 2]})).refused(404, "query/no-such-row");
    s.json(&format!("{DB}/plan"), json!({"query": "[:find ?x :where [?x :no/such ?y]]"}))
        .refused(422, "query/unknown-attribute");
}

#[test]
fn a_deep_proof_arrives_whole_and_one_too_deep_is_refused() {
    let s = Running::start();
    let mut tx = String::from("[");
    for i in 0..300 {
        tx.push_str(&format!("{{:db/id \"n{i}\" :order/id \"n{i}\" :order/next \"n{}\"}}", i + 1));
    }
    tx.push_str("{:db/id \"n300\" :order/id \"n300\"}]");
    s.conn.transact(tx).unwrap();
    let conn = connect(&format!("http://{}{DB}", s.address)).unwrap();
    let prove = |last: &str| {
        let row = [Value::string("n0"), Value::string(last)];
        let here = s.conn.db().prove(REACH, rules(), &row);
        // A busy machine is not what is tested.
        let patient = QueryOptions { timeout_ms: Some(60_000), ..QueryOptions::default() };
        let there = conn.db().unwrap().prove(REACH, rules(), &row, &patient);
        (here, there)
    };
    let (here, there) = prove("n40");
    assert_eq!(there.unwrap(), here.unwrap());
    let (here, there) = prove("n300");
    assert_eq!(there.unwrap_err().code(), here.unwrap_err().code());
}
