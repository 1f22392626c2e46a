//! Arguments of recursive rules from outside: an entity where an entity stands, themselves elsewhere.

use super::*;
use annals_query::timeline::Step;

/// C under B under A, as edges; pays of A and B.
fn chain() -> MemSource {
    let s = schema();
    let d = |e, a, v: Value| datom(&s, e, a, v, 1, true);
    let datoms = vec![
        d(1, "p/name", "A".into()),
        d(2, "p/name", "B".into()),
        d(3, "p/name", "C".into()),
        d(2, "g/edge", user(1).into()),
        d(3, "g/edge", user(2).into()),
        d(1, "p/pay", Value::double(5.0).expect("a number")),
        d(2, "p/pay", Value::double(7.0).expect("a number")),
    ];
    MemSource::new(s, datoms)
}

/// Every shape of recursion whose rows hold what was given for `?y`.
const SHAPES: [(&str, &str); 6] = [
    (
        "right",
        "[[(r ?x ?y ?p) [?x :g/edge ?y] [(vector ?y) ?p]] \
               [(r ?x ?y ?p) [?x :g/edge ?z] (r ?z ?y _) [(vector ?y) ?p]]]",
    ),
    (
        "left",
        "[[(r ?x ?y ?p) [?x :g/edge ?y] [(vector ?y) ?p]] \
              [(r ?x ?y ?p) (r ?x ?z _) [?z :g/edge ?y] [(vector ?y) ?p]]]",
    ),
    (
        "non-linear",
        "[[(r ?x ?y ?p) [?x :g/edge ?y] [(vector ?y) ?p]] \
                    [(r ?x ?y ?p) (r ?x ?z _) (r ?z ?y _) [(vector ?y) ?p]]]",
    ),
    (
        "mutual",
        "[[(r ?x ?y ?p) [?x :g/edge ?y] [(vector ?y) ?p]] \
                [(r ?x ?y ?p) [?x :g/edge ?z] (s ?y ?z _) [(vector ?y) ?p]] \
                [(s ?y ?x ?p) (r ?x ?y ?p)]]",
    ),
    (
        "folded",
        "[[(r ?x ?y (shortest ?p)) [?x :g/edge ?y] [(vector ?y) ?p]] \
                [(r ?x ?y (shortest ?p)) [?x :g/edge ?z] (r ?z ?y ?q) [(vector ?y) ?p]]]",
    ),
    (
        "negated",
        "[[(r ?x ?y ?p) [?x :g/edge ?y] (not [?y :p/age _]) [(vector ?y) ?p]] \
                 [(r ?x ?y ?p) [?x :g/edge ?z] (r ?z ?y _) (not [?y :p/tag _]) [(vector ?y) ?p]]]",
    ),
];

#[test]
fn a_recursive_rule_passes_on_what_it_was_given() {
    let db = source(chain());
    let a = user(1).raw();
    for (shape, rules) in SHAPES {
        for (given, shown) in
            [("[:p/name \"A\"]".to_owned(), "[:p/name \"A\"]".to_owned()), (a.to_string(), a.to_string())]
        {
            let expected = format!("[[\"B\" [{shown}]] [\"C\" [{shown}]]]");
            let call = format!("[:find ?n ?p :in $ % :where (r ?x {given} ?p) [?x :p/name ?n]]");
            agree(&call, &[db.clone(), edn(rules)], &expected, shape);
            let call = "[:find ?n ?p :in $ % ?y :where (r ?x ?y ?p) [?x :p/name ?n]]";
            agree(call, &[db.clone(), edn(rules), edn(&given)], &expected, shape);
        }
        // Two names of one entity are one entity and two data.
        let call = "[:find ?n ?p :in $ % [?y ...] :where (r ?x ?y ?p) [?x :p/name ?n]]";
        let names = format!("[[:p/name \"A\"] {a} [:p/name \"nobody\"]]");
        let expected =
            format!("[[\"B\" [{a}]] [\"B\" [[:p/name \"A\"]]] [\"C\" [{a}]] [\"C\" [[:p/name \"A\"]]]]");
        agree(call, &[db.clone(), edn(rules), edn(&names)], &expected, shape);
        // What the query finds is the entity.
        let call = "[:find ?n :in $ % :where [?y :p/name \"A\"] (r ?x ?y ?p) [(nth ?p 0) ?q] [(= ?q ?y)] [?x :p/name ?n]]";
        agree(call, &[db.clone(), edn(rules)], "[[\"B\"] [\"C\"]]", shape);
    }
}

#[test]
fn what_is_given_stands_for_itself_in_a_negated_call_too() {
    let rules = SHAPES[0].1;
    let call = "[:find ?n :in $ % ?y :where [?x :p/name ?n] (not (r ?x ?y [[:p/name \"A\"]]))]";
    agree(call, &[source(chain()), edn(rules), edn("[:p/name \"A\"]")], "[[\"A\"]]", "not");
    let call = "[:find ?n :in $ % ?y :where [?x :p/name ?n] (not (r ?x ?y [17]))]";
    agree(call, &[source(chain()), edn(rules), edn("[:p/name \"A\"]")], "[[\"A\"] [\"B\"] [\"C\"]]", "not");
}

/// An input is as good as a variable of the query: what it means is shared with the outside.
#[test]
fn a_not_over_an_input_alone_is_a_test_of_it() {
    for (x, expected) in [("[:p/name \"A\"]", "[]"), ("[:p/name \"C\"]", "[[\"A\"] [\"B\"] [\"C\"]]")] {
        let text = "[:find ?n :in $ ?x :where [_ :p/name ?n] (not [?x :p/pay _])]";
        agree(text, &[source(chain()), edn(x)], expected, "not");
    }
}

/// A number is that of the attribute's type where it is a value, and itself elsewhere.
#[test]
fn a_number_given_to_a_recursive_rule_fits_the_attribute() {
    let paid = "[[(paid ?x ?n) [?x :p/pay ?n]] [(paid ?x ?n) [?x :g/edge ?y] (paid ?y ?n)]]";
    let call = "[:find ?n :in $ % ?pay :where (paid ?x ?pay) [?x :p/name ?n]]";
    for pay in ["5", "5.0"] {
        agree(call, &[source(chain()), edn(paid), edn(pay)], "[[\"A\"] [\"B\"] [\"C\"]]", pay);
        let literal = call.replace(" ?pay :where (paid ?x ?pay)", &format!(" :where (paid ?x {pay})"));
        agree(&literal, &[source(chain()), edn(paid)], "[[\"A\"] [\"B\"] [\"C\"]]", pay);
    }
    let kept = "[[(paid ?x ?n ?p) [?x :p/pay ?n] [(vector ?n) ?p]] \
                [(paid ?x ?n ?p) [?x :g/edge ?y] (paid ?y ?n ?p)]]";
    let call = "[:find ?p :in $ % ?pay :where (paid _ ?pay ?p)]";
    agree(call, &[source(chain()), edn(kept), edn("7")], "[[[7]]]", "a long stays one");
    agree(call, &[source(chain()), edn(kept), edn("7.0")], "[[[7.0]]]", "a double stays one");
}

/// A lookup ref is looked up in the source that the rule is called for.
#[test]
fn a_lookup_ref_means_an_entity_of_the_rules_own_source() {
    let s = schema();
    // Elsewhere "A" is what is "C" here.
    let other = || MemSource::new(s.clone(), vec![datom(&s, 3, "p/name", "A", 1, true)]);
    let under = "[[(under ?x ?y) [?x :g/edge ?y]] [(under ?x ?y) [?x :g/edge ?z] (under ?z ?y)]]";
    for call in ["(under ?x [:p/name \"A\"])", "(under ?x ?a)"] {
        let text = format!("[:find ?n :in $ $b % ?a :where ($b {} [$b ?x :p/name ?n]]", &call[1..]);
        let inputs = [source(other()), source(chain()), edn(under), edn("[:p/name \"A\"]")];
        for options in ways() {
            let answer = Query::parse(&text).unwrap().run(&inputs, &options).unwrap();
            assert_eq!(print(&answer.value()), "[[\"B\"] [\"C\"]]", "{text}");
        }
    }
}

#[test]
fn what_was_given_is_in_the_timeline_and_in_the_proof() {
    let at_all_times = source(chain().view_as(View { history: true, ..View::NOW }));
    let q = Query::parse("[:find ?p :in $ % ?x ?y :where (r ?x ?y ?p)]").unwrap();
    let o = QueryOptions::default();
    for (shape, rules) in SHAPES {
        let inputs = [at_all_times.clone(), edn(rules), edn("[:p/name \"C\"]"), edn("[:p/name \"A\"]")];
        let rows = q.timeline(&inputs, T(1), &o).unwrap();
        let row = vec![edn_value("[[:p/name \"A\"]]")];
        assert_eq!(rows.iter().map(|r| &r.values).collect::<Vec<_>>(), [&row], "{shape}");
        let proof = q.why(&inputs, T(1), &row, &o).unwrap().expect("it is an answer");
        let applied = proof.steps.iter().find_map(|s| match s {
            Step::Rule { args, .. } => Some(args[1].clone()),
            _ => None,
        });
        assert_eq!(applied, Some(edn_value("[:p/name \"A\"]")), "{shape}: {proof:?}");
        let none = [Value::vector([Value::Ref(user(1))])];
        assert_eq!(q.why(&inputs, T(1), &none, &o).unwrap(), None, "{shape}");
    }
}

/// The proof of a call with a lookup ref is of that entity, not of the first that was found.
#[test]
fn a_proof_is_of_the_entity_that_was_asked_for() {
    let under = "[[(under ?x ?y) [?x :g/edge ?y]] [(under ?x ?y) [?x :g/edge ?z] (under ?z ?y)]]";
    let q = Query::parse("[:find ?n :in $ % :where [?x :p/name ?n] (under ?x [:p/name \"A\"])]").unwrap();
    let inputs = [source(chain().view_as(View { history: true, ..View::NOW })), edn(under)];
    let proof = q.why(&inputs, T(1), &["C".into()], &QueryOptions::default()).unwrap().expect("an answer");
    let args = proof.steps.iter().find_map(|s| match s {
        Step::Rule { args, .. } => Some(args.clone()),
        _ => None,
    });
    assert_eq!(args, Some(vec![Value::Ref(user(3)), Value::Ref(user(1))]), "not B, which is nearer");
}

/// docs/differences.md: what a function made is data.
#[test]
fn a_lookup_ref_made_by_a_function_is_not_looked_up() {
    for (clauses, expected) in [
        ("[(ground [:p/name \"A\"]) ?x] [?x :p/pay ?n]", "[[5.0]]"),
        ("[(vector :p/name \"A\") ?x] [?x :p/pay ?n]", "[]"),
        ("[?y :p/name \"A\"] [(identity ?y) ?x] [?x :p/pay ?n]", "[[5.0]]"),
    ] {
        assert_eq!(ask(&[source(chain())], &format!("[:find ?n :where {clauses}]")), expected, "{clauses}");
    }
}

#[test]
fn what_cannot_be_an_entity_is_a_mistake_in_a_call_too() {
    let q = Query::parse("[:find ?p :in $ % :where (r ?x \"A\" ?p)]").unwrap();
    let e = q.run(&[source(chain()), edn(SHAPES[0].1)], &QueryOptions::default()).unwrap_err();
    assert_eq!(e.code(), "query/type");
}

fn edn_value(text: &str) -> Value {
    read_value(text).expect("EDN")
}

/// Every way of running gives these rows, the naive evaluator among them.
fn agree(text: &str, inputs: &[Input], expected: &str, about: &str) {
    let q = Query::parse(text).unwrap();
    for options in ways() {
        let answer = q.run(inputs, &options).unwrap();
        assert_eq!(print(&answer.value()), expected, "{about}: {text}");
    }
    let answer = q.run(inputs, &QueryOptions::default().check(true)).unwrap();
    assert!(answer.warnings.is_empty(), "{about}: {:?}", answer.warnings);
}
