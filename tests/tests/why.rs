//! Proofs of rows, and the first clause that a missing row fails.

use annals::{Connection, Input, ProofStep, Value};

const RULES: &str = "[[(under ?x ?y) [?x :p/boss ?y]] [(under ?x ?y) (under ?x ?z) (under ?z ?y)]]";
const QUERY: &str = "[:find ?n ?m :in $ % :where [?x :p/name ?n] [?y :p/name ?m] (under ?x ?y)]";

/// A reports to B, B to C, and C to A: a cycle, on which proofs must still end.
fn people() -> Connection {
    let conn = annals::in_memory().unwrap();
    conn.transact(
        "[{:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
          {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}]",
    )
    .unwrap();
    conn.transact(
        r#"[{:db/id "a" :p/name "A" :p/boss "b"} {:db/id "b" :p/name "B" :p/boss "c"}
            {:db/id "c" :p/name "C" :p/boss "a"} {:db/id "d" :p/name "D"}]"#,
    )
    .unwrap();
    conn
}

fn rules() -> (Input,) {
    (Input::Rules(RULES.into()),)
}

/// The facts a proof rests on, and the deepest nesting of rules in it.
fn facts(steps: &[ProofStep], depth: usize, out: &mut Vec<annals::Datom>) -> usize {
    let mut deepest = depth;
    for s in steps {
        match s {
            ProofStep::Fact { datom, .. } => out.push(datom.clone()),
            ProofStep::Branch { proof, .. } => deepest = deepest.max(facts(&proof.steps, depth, out)),
            ProofStep::Rule { proof, .. } => deepest = deepest.max(facts(&proof.steps, depth + 1, out)),
            _ => {}
        }
    }
    deepest
}

#[test]
fn every_answer_over_a_cycle_has_a_finite_proof_of_real_facts() {
    let conn = people();
    let db = conn.db();
    let answer = db.query(QUERY, rules()).unwrap();
    assert_eq!(answer.rows.len(), 9);
    for row in answer.rows.iter() {
        let proof = db.prove(QUERY, rules(), &row).unwrap().expect("it is an answer");
        let mut rests_on = Vec::new();
        let depth = facts(&proof.steps, 0, &mut rests_on);
        assert!((1..=8).contains(&depth), "{row:?} has rules nested {depth} deep");
        for d in rests_on {
            assert!(db.datoms("eavt", &[Value::Ref(d.e)]).unwrap().contains(&d), "{d:?} is no fact");
        }
    }
}

#[test]
fn a_row_that_is_no_answer_has_no_proof_and_names_a_clause() {
    let conn = people();
    let db = conn.db();
    let row = [Value::string("D"), Value::string("A")];
    assert_eq!(db.prove(QUERY, rules(), &row).unwrap(), None);
    let missing = db.why_not(QUERY, rules(), &row).unwrap().expect("it is missing");
    assert_eq!(missing.clause, "(under ?x ?y)");
    assert_eq!((missing.rows_before, missing.satisfied.len()), (1, 2));
    let there = [Value::string("A"), Value::string("C")];
    assert_eq!(db.why_not(QUERY, rules(), &there).unwrap(), None);
}

#[test]
fn a_proof_as_of_a_time_rests_on_what_held_then() {
    let conn = people();
    let before = conn.db().t();
    conn.transact(r#"[[:db/retract [:p/name "A"] :p/boss [:p/name "B"]]]"#).unwrap();
    let row = [Value::string("A"), Value::string("B")];
    assert_eq!(conn.db().prove(QUERY, rules(), &row).unwrap(), None);
    assert!(conn.db().as_of(before).prove(QUERY, rules(), &row).unwrap().is_some());
}
