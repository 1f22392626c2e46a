//! Histories of entities: patterns of five places whose attribute is a variable.

use super::*;
use std::collections::BTreeSet;

/// A's age comes, goes and comes back within t 3, so that a datom stands twice in the log; B shares a tag
/// with A; C is its own boss.
fn lives() -> MemSource {
    let s = schema();
    let d = |e, a, v: Value, t, added| datom(&s, e, a, v, t, added);
    let datoms = vec![
        d(1, "p/name", "A".into(), 1, true),
        d(1, "p/age", 30.into(), 1, true),
        d(1, "p/tag", "x".into(), 1, true),
        d(2, "p/tag", "x".into(), 1, true),
        d(1, "p/age", 30.into(), 2, false),
        d(1, "p/age", 31.into(), 3, true),
        d(1, "p/age", 31.into(), 3, false),
        d(1, "p/age", 31.into(), 3, true),
        d(1, "p/tag", "x".into(), 3, false),
        d(3, "p/boss", user(3).into(), 3, true),
        d(3, "p/boss", user(1).into(), 3, true),
    ];
    MemSource::new(s, datoms)
}

/// The number of rows, the same in every way and to the naive evaluator, each row once.
fn rows(db: &Input, text: &str, given: &[Value]) -> usize {
    let inputs: Vec<Input> =
        std::iter::once(db.clone()).chain(given.iter().cloned().map(Input::Value)).collect();
    let q = Query::parse(text).unwrap();
    let counts: BTreeSet<usize> = ways()
        .into_iter()
        .map(|o| {
            let answer = q.run(&inputs, &o.check(true)).unwrap();
            assert!(answer.warnings.is_empty(), "{text}: {:?}", answer.warnings);
            let distinct: BTreeSet<Vec<Value>> = answer.rows.iter().collect();
            assert_eq!(distinct.len(), answer.rows.len(), "{text}");
            distinct.len()
        })
        .collect();
    assert_eq!(counts.len(), 1, "{text}");
    counts.into_iter().next().unwrap()
}

#[test]
fn bound_entities_show_each_datom_of_their_history_once() {
    let history = source(lives().view_as(View { history: true, ..View::NOW }));
    let one = [Value::Ref(user(1))];
    let two = [Value::vector([Value::Ref(user(1)), Value::Ref(user(2))])];
    for (text, given, n) in [
        ("[:find ?a ?v ?t :in $ ?e :where [?e ?a ?v ?t true]]", &one, 4),
        ("[:find ?a ?v ?t ?op :in $ ?e :where [?e ?a ?v ?t ?op]]", &one, 7),
        // A's tag and B's are one row where nobody asks whose.
        ("[:find ?a ?v ?t ?op :in $ [?e ...] :where [?e ?a ?v ?t ?op]]", &two, 7),
        ("[:find ?e ?a ?v ?t ?op :in $ [?e ...] :where [?e ?a ?v ?t ?op]]", &two, 8),
        ("[:find ?a ?t :in $ ?e :where [?e ?a _ ?t _]]", &one, 6),
        ("[:find ?a ?v :in $ ?e :where [?e ?a ?v]]", &one, 4),
        ("[:find ?v :in $ ?e :where [?e _ ?v _ false]]", &one, 3),
        ("[:find ?a (count ?t) :in $ ?e :where [?e ?a ?v ?t true]]", &one, 3),
    ] {
        assert_eq!(rows(&history, text, given), n, "{text}");
    }
    let count = "[:find (count ?v) . :in $ ?e :with ?t :where [?e ?a ?v ?t true]]";
    assert_eq!(ask(&[history.clone(), Input::Value(one[0].clone())], count), "4");
    // The same variable in two places.
    let itself = [Value::Ref(user(3))];
    assert_eq!(rows(&history, "[:find ?a ?t :in $ ?e :where [?e ?a ?e ?t true]]", &itself), 1);
}

#[test]
fn bound_entities_show_each_fact_of_the_present_once() {
    let now = source(lives());
    let two = [Value::vector([Value::Ref(user(1)), Value::Ref(user(2))])];
    assert_eq!(rows(&now, "[:find ?a ?v :in $ [?e ...] :where [?e ?a ?v]]", &two), 3);
    assert_eq!(rows(&now, "[:find ?e ?a ?v :in $ [?e ...] :where [?e ?a ?v]]", &two), 3);
    assert_eq!(rows(&now, "[:find ?a ?v ?t :in $ [?e ...] :where [?e ?a ?v ?t]]", &two), 3);
}
