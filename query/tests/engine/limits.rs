//! What values made by functions cost: memory for those that are new, and time to look through them.

use super::*;
use std::time::{Duration, Instant as Clock};

#[test]
fn a_value_that_is_passed_on_costs_no_memory() {
    let lines = Value::vector((0..300).map(Value::Long));
    let rows = (0..500).map(|i| {
        let own = Value::vector([Value::Long(i)].into_iter().chain((0..300).map(Value::Long)));
        Value::vector([Value::map([(Value::keyword("lines"), own)]), lines.clone(), Value::Long(i)])
    });
    let inputs = [Input::Value(Value::vector(rows))];
    let o = QueryOptions { max_bytes: 1 << 20, ..QueryOptions::default() };
    let run = |call: &str| {
        let text = format!("[:find (count ?r) . :with ?i :in [[?d ?l ?i] ...] :where [{call} ?r]]");
        Query::parse(&text).unwrap().run(&inputs, &o).map(|a| print(&a.value()))
    };
    for call in ["(get ?d :lines)", "(min ?l ?l)", "(nth [?l ?l] 0)"] {
        assert_eq!(run(call).unwrap(), "500", "{call}");
    }
    let e = run("(conj ?l ?i)").unwrap_err();
    assert_eq!(e.code(), "query/memory-limit", "five hundred new values of nine kilobytes are 4.8 MB");
}

#[test]
fn large_shared_values_do_not_outlast_the_deadline() {
    let mut doubling = String::new();
    for i in 0..18 {
        doubling += &format!("[(vector ?v{i} ?v{i}) ?v{}] ", i + 1);
    }
    let text = format!("[:find (count ?x) . :in ?v0 [?x ...] :where {doubling} [(vector ?v18 ?x) ?y]]");
    let many = Value::vector((0..1_000).map(Value::Long));
    let o = QueryOptions { timeout_ms: Some(500), ..QueryOptions::default() };
    let start = Clock::now();
    let e = Query::parse(&text).unwrap().run(&[edn("1"), Input::Value(many)], &o).unwrap_err();
    assert_eq!(e.code(), "query/timeout");
    assert!(start.elapsed() < Duration::from_secs(3), "stopped after {:?}", start.elapsed());
}

#[test]
fn one_mistake_in_five_hundred_clauses_is_not_told_five_hundred_times() {
    let clauses: String = (0..500).map(|i| format!("[?e :p/nmae ?v{i}] ")).collect();
    let text = format!("[:find ?e :where [?e :p/agee _] {clauses}]");
    let e = Query::parse(&text).unwrap().run(&[source(people())], &QueryOptions::default()).unwrap_err();
    let QueryError::Invalid(all) = e else { panic!("{e}") };
    let told = all.iter().filter(|d| d.message.contains(":p/nmae")).count();
    assert_eq!((all.len(), told), (21, 20), "and the other mistake is told too");
    assert_eq!(all[20].help.as_deref(), Some("did you mean :p/name? (… and 480 more like this)"));
    assert_eq!(all[19].help.as_deref(), Some("did you mean :p/name?"));
}
