//! Queries over datoms in memory: the first hour of semantics.md, every way of
//! running a query against every other, and what happens when there is too much.

#[path = "engine/folds.rs"]
mod folds;
#[path = "engine/given.rs"]
mod given;
#[path = "engine/history.rs"]
mod history;
#[path = "engine/limits.rs"]
mod limits;
#[path = "engine/streams.rs"]
mod streams;

use annals_model::*;
use annals_query::budget::Cancel;
use annals_query::edn::{print, read_value};
use annals_query::error::QueryError;
use annals_query::eval::{FixpointChoice, JoinChoice, Threads};
use annals_query::mem::MemSource;
use annals_query::source::Source;
use annals_query::{Input, Query, QueryOptions};
use proptest::prelude::*;
use std::sync::Arc;

fn attribute(n: u32, name: &str, of: ValueType, many: bool, unique: bool) -> Attribute {
    Attribute {
        id: AttrId::new(100 + n),
        ident: Keyword::new(name),
        value_type: of,
        cardinality: if many { Cardinality::Many } else { Cardinality::One },
        unique: unique.then_some(Unique::Identity),
        index: false,
        is_component: false,
        no_history: false,
        tuple: None,
        preds: vec![],
        doc: None,
    }
}

fn schema() -> Schema {
    let mut s = Schema::new([
        attribute(0, "p/name", ValueType::String, false, true),
        attribute(1, "p/age", ValueType::Long, false, false),
        attribute(2, "p/tag", ValueType::String, true, false),
        attribute(3, "p/boss", ValueType::Ref, false, false),
        attribute(4, "p/ok", ValueType::Boolean, false, false),
        attribute(5, "g/edge", ValueType::Ref, true, false),
        attribute(6, "p/pay", ValueType::Double, false, false),
    ]);
    s.name(Keyword::new("color/red"), EntityId::new(Partition::Db, 900));
    s
}

fn user(n: u64) -> EntityId {
    EntityId::new(Partition::User, n)
}

fn datom(s: &Schema, e: u64, a: &str, v: impl Into<Value>, t: u64, added: bool) -> Datom {
    let a = s.attribute_named(&Keyword::new(a)).expect("an attribute of the fixture").id;
    Datom { e: user(e), a, v: v.into(), t: T(t), added }
}

/// Fixture S of semantics.md: A 30, B 30 under A, C under B; at t2 A is 31.
fn people() -> MemSource {
    let s = schema();
    let d = |e, a, v: Value, t, added| datom(&s, e, a, v, t, added);
    let datoms = vec![
        d(1, "p/name", "A".into(), 1, true),
        d(1, "p/age", 30.into(), 1, true),
        d(1, "p/tag", "x".into(), 1, true),
        d(1, "p/tag", "y".into(), 1, true),
        d(2, "p/name", "B".into(), 1, true),
        d(2, "p/age", 30.into(), 1, true),
        d(2, "p/boss", user(1).into(), 1, true),
        d(3, "p/name", "C".into(), 1, true),
        d(3, "p/boss", user(2).into(), 1, true),
        d(1, "p/age", 30.into(), 2, false),
        d(1, "p/age", 31.into(), 2, true),
        d(2, "p/ok", false.into(), 2, true),
    ];
    MemSource::new(s, datoms)
}

fn source(m: MemSource) -> Input {
    Input::Source(Arc::new(m) as Arc<dyn Source>)
}

/// Every way of running a query that must not change its answer.
fn ways() -> Vec<QueryOptions> {
    let o = QueryOptions::default;
    let mut ways = vec![o(), QueryOptions { optimise: false, ..o() }, QueryOptions { cache: false, ..o() }];
    ways.push(QueryOptions { threads: Threads::Exactly(3), ..o() });
    ways.push(QueryOptions { joins: JoinChoice::Pairwise, ..o() });
    ways.push(QueryOptions { joins: JoinChoice::Leapfrog, ..o() });
    ways.push(QueryOptions { joins: JoinChoice::Leapfrog, threads: Threads::Exactly(3), ..o() });
    for fixpoint in [FixpointChoice::Hash, FixpointChoice::Sorted] {
        ways.push(QueryOptions { fixpoint, ..o() });
        ways.push(QueryOptions { fixpoint, optimise: false, ..o() });
    }
    ways
}

/// Runs text in every way; the answer as EDN, or the code of the error.
fn ask(inputs: &[Input], text: &str) -> String {
    let mut first: Option<String> = None;
    for o in ways() {
        let q = match Query::parse(text) {
            Ok(q) => q,
            Err(e) => return e.code().to_owned(),
        };
        let got = match q.run(inputs, &o) {
            Ok(a) => print(&a.value()),
            Err(e) => e.code().to_owned(),
        };
        assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{text}");
    }
    first.expect("there are ways")
}

fn edn(text: &str) -> Input {
    Input::Value(read_value(text).expect("EDN"))
}

#[test]
fn the_first_hour() {
    let db = source(people());
    let under = "[[(under ?x ?y) [?x :p/boss ?y]] [(under ?x ?y) [?x :p/boss ?z] (under ?z ?y)]]";
    let left = "[[(under ?x ?y) [?x :p/boss ?y]] [(under ?x ?y) (under ?x ?z) [?z :p/boss ?y]]]";
    for (q, more, expected) in [
        ("[:find ?n :where [_ :p/name ?n]]", vec![], r#"[["A"] ["B"] ["C"]]"#),
        ("[:find (sum ?a) . :where [?e :p/age ?a]]", vec![], "61"),
        ("[:find (count ?e) . :where [?e :p/name \"Z\"]]", vec![], "nil"),
        ("[:find [?n ...] :where [?e :p/tag \"x\"] [?e :p/name ?n]]", vec![], r#"["A"]"#),
        (
            "[:find ?n ?a :where [?e :p/name ?n] [(get-else $ ?e :p/age -1) ?a]]",
            vec![],
            r#"[["A" 31] ["B" 30] ["C" -1]]"#,
        ),
        ("[:find ?n ?a :where [?e :p/name ?n] [(get-else $ ?e :p/tag -1) ?a]]", vec![], "query/cardinality"),
        ("[:find [?n ...] :where [?e :p/name ?n] [(missing? $ ?e :p/boss)]]", vec![], r#"["A"]"#),
        ("[:find [?n ...] :where (not [?e :p/tag]) [?e :p/name ?n]]", vec![], r#"["B" "C"]"#),
        ("[:find [?n ...] :where (not-join [?e] [?x :p/boss ?e]) [?e :p/name ?n]]", vec![], r#"["C"]"#),
        (
            "[:find [?n ...] :where [?e :p/name ?n] (or [?e :p/tag \"x\"] [?e :p/age 30])]",
            vec![],
            r#"["A" "B"]"#,
        ),
        (
            "[:find [?n ...] :in $ % :where (under ?e [:p/name \"A\"]) [?e :p/name ?n]]",
            vec![edn(under)],
            r#"["B" "C"]"#,
        ),
        (
            "[:find [?n ...] :in $ % :where (under ?e [:p/name \"A\"]) [?e :p/name ?n]]",
            vec![edn(left)],
            r#"["B" "C"]"#,
        ),
        ("[:find ?n :in $ [?n ...] :where [_ :p/name ?n]]", vec![edn(r#"["A" "Z"]"#)], r#"[["A"]]"#),
        (
            "[:find ?n :in $ [[?n ?a]] :where [?e :p/name ?n] [?e :p/age ?a]]",
            vec![edn(r#"[["A" 31] ["B" 31]]"#)],
            r#"[["A"]]"#,
        ),
        ("[:find ?a . :in $ ?e :where [?e :p/age ?a]]", vec![edn(r#"[:p/name "B"]"#)], "30"),
        ("[:find ?a . :in $ ?e :where [?e :p/age ?a]]", vec![edn(r#"[:p/name "Q"]"#)], "nil"),
        ("[:find ?e :where [?e :p/nmae _]]", vec![], "query/unknown-attribute"),
        ("[:find ?e :where [?e :p/age \"30\"]]", vec![], "query/type"),
        ("[:find ?e :where [?e :p/age 30.5]]", vec![], "[]"),
        ("[:find ?e :where [?e :p/pay 30]]", vec![], "[]"),
        ("[:find ?a :where [?a :p/boss ?a]]", vec![], "[]"),
        ("[:find ?n :where [?e :p/ok false] [?e :p/name ?n]]", vec![], r#"[["B"]]"#),
        ("[:find ?v . :where [?e :p/name \"B\"] [(get-else $ ?e :p/ok true) ?v]]", vec![], "false"),
        ("[:find ?x :where [(ground 5) ?x] [(< ?x 3)]]", vec![], "[]"),
        ("[:find ?zz :where [_ :p/name ?n]]", vec![], "query/unbound"),
        ("[:find ?n :where [_ :p/name ?n] (not [?zz :p/age 19])]", vec![], "query/unbound"),
        ("[:find ?n :where [$b _ :p/name ?n]]", vec![], "query/unknown-source"),
        ("[:find ?n :in $ ?x :where [_ :p/name ?n]]", vec![], "query/inputs"),
        ("[:find ?n :where [_ :p/name ?n] [(frobnicate ?n)]]", vec![], "query/unknown-function"),
    ] {
        let inputs: Vec<Input> = std::iter::once(db.clone()).chain(more).collect();
        assert_eq!(ask(&inputs, q), expected, "{q}");
    }
}

#[test]
fn views_of_time() {
    let m = people();
    let at = |as_of: Option<u64>, since: Option<u64>, history| {
        source(m.view_as(View { as_of: as_of.map(T), since: since.map(T), history }))
    };
    let age = "[:find ?a . :where [?e :p/name \"A\"] [?e :p/age ?a]]";
    assert_eq!(ask(&[at(Some(1), None, false)], age), "30");
    assert_eq!(ask(&[at(Some(2), None, false)], age), "31");
    assert_eq!(ask(&[at(Some(0), None, false)], age), "nil");
    assert_eq!(ask(&[at(None, Some(1), false)], "[:find ?a :where [_ :p/age ?a]]"), "[[31]]");
    assert_eq!(ask(&[at(None, Some(1), false)], age), "nil");
    let both = "[:find ?a . :in $ $s :where [?e :p/name \"A\"] [$s ?e :p/age ?a]]";
    assert_eq!(ask(&[at(None, None, false), at(None, Some(1), false)], both), "31");
    let history = "[:find ?v ?tx ?op :where [?e :p/name \"A\" _ true] [?e :p/age ?v ?tx ?op]]";
    let expected = "[[30 17592186044417 true] [30 17592186044418 false] [31 17592186044418 true]]";
    assert_eq!(ask(&[at(None, None, true)], history), expected);
}

#[test]
fn rules_of_every_shape_agree() {
    let s = schema();
    let edges = [(1, 2), (2, 3), (3, 1), (3, 4), (4, 5), (6, 6), (7, 6)];
    let datoms = edges.iter().map(|(a, b)| datom(&s, *a, "g/edge", user(*b), 1, true)).collect();
    let db = source(MemSource::new(s, datoms));
    let base = "[(r ?x ?y) [?x :g/edge ?y]]";
    let shapes = [
        format!("[{base} [(r ?x ?y) [?x :g/edge ?z] (r ?z ?y)]]"),
        format!("[{base} [(r ?x ?y) (r ?x ?z) [?z :g/edge ?y]]]"),
        format!("[{base} [(r ?x ?y) (r ?x ?z) (r ?z ?y)]]"),
        format!("[{base} [(r ?x ?y) (or-join [?x ?y] [?x :g/edge ?y] (and (r ?x ?z) (r ?z ?y)))]]"),
        "[[(r ?a ?b) [?a :g/edge ?b]] [(r ?p ?q) (s ?p ?q)] [(s ?x ?y) [?x :g/edge ?z] (r ?z ?y)]]"
            .to_owned(),
    ];
    for find in [
        "[:find ?x ?y :in $ % ?n :where (r ?x ?y) [(!= ?x ?n)]]",
        "[:find [?y ...] :in $ % ?n :where (r ?n ?y)]",
        "[:find [?x ...] :in $ % ?n :where (r ?x ?n)]",
        "[:find ?x :in $ % ?n :where (r ?x ?x) [(!= ?x ?n)]]",
        "[:find ?x :in $ % ?n :where [?x :g/edge] (not (r ?x ?n))]",
        "[:find ?n :in $ % ?n :where (r ?n ?n)]",
    ] {
        for n in 1..8 {
            let n = Input::Value(Value::Ref(user(n)));
            let answers: Vec<String> = shapes
                .iter()
                .map(|r| ask(&[db.clone(), Input::rules(r).unwrap(), n.clone()], find))
                .collect();
            assert!(answers.windows(2).all(|w| w[0] == w[1]), "{find}: {answers:?}");
        }
    }
    let negated = "[[(p ?x) [?x :g/edge] (not (q ?x))] [(q ?x) [?x :g/edge] (p ?x)]]";
    assert_eq!(ask(&[db.clone(), edn(negated)], "[:find ?x :in $ % :where (p ?x)]"), "query/not-stratified");
    let required = "[[(r [?x] ?y) [?x :g/edge ?y]]]";
    assert_eq!(ask(&[db, edn(required)], "[:find ?y :in $ % :where (r ?x ?y)]"), "query/unbound");
}

#[test]
fn what_never_ends_is_stopped_and_says_what_it_used() {
    let db = source(people());
    let endless = edn("[[(n ?x) [(ground 0) ?x]] [(n ?y) (n ?x) [(+ ?x 1) ?y]]]");
    for fixpoint in [FixpointChoice::Best, FixpointChoice::Sorted] {
        let q = Query::parse("[:find (count ?x) :in $ % :where (n ?x)]").unwrap();
        let o = QueryOptions { timeout_ms: Some(150), fixpoint, ..QueryOptions::default() };
        match q.run(&[db.clone(), endless.clone()], &o) {
            Err(QueryError::Timeout { used, .. }) => assert!(used.rows > 0),
            other => panic!("{other:?}"),
        }
        let o = QueryOptions { max_rows: 10_000, fixpoint, ..QueryOptions::default() };
        assert!(matches!(q.run(&[db.clone(), endless.clone()], &o), Err(QueryError::RowLimit { .. })));
    }
    let many: Vec<Value> = (0..3_000).map(Value::Long).collect();
    let bomb = Query::parse("[:find ?a ?b ?c :in [?a ...] [?b ...] [?c ...]]").unwrap();
    let inputs: Vec<Input> = (0..3).map(|_| Input::Value(Value::vector(many.clone()))).collect();
    let o = QueryOptions { max_bytes: 64 << 20, ..QueryOptions::default() };
    assert!(matches!(bomb.run(&inputs, &o), Err(QueryError::MemoryLimit { .. })));
    let cancel = Cancel::new();
    cancel.cancel();
    let o = QueryOptions { cancel, ..QueryOptions::default() };
    assert!(matches!(bomb.run(&inputs, &o), Err(QueryError::Cancelled { .. })));
}

#[test]
fn a_plan_names_the_index_and_expects_rows() {
    let inputs = [source(people())];
    let q = Query::parse("[:find ?n :where [?e :p/age ?a] [?e :p/name ?n] [?e :p/tag \"x\"]]").unwrap();
    let plan = q.explain(&inputs, &QueryOptions::default()).unwrap();
    assert_eq!(plan.steps[0].how, "lookup AVET");
    assert!(plan.steps[1..].iter().all(|s| s.how == "probe EAVT" && s.runs == 0));
    let answer = q.run(&inputs, &QueryOptions::default()).unwrap();
    let steps = &answer.stats.steps;
    assert_eq!(
        steps.iter().map(|s| &s.clause).collect::<Vec<_>>(),
        plan.steps.iter().map(|s| &s.clause).collect::<Vec<_>>()
    );
    assert!(steps.iter().all(|s| s.runs == 1 && s.rows == 1));
}

#[test]
fn order_limits_and_having() {
    let db = [source(people())];
    for (q, expected) in [
        (
            "[:find ?n ?a :where [?e :p/name ?n] [?e :p/age ?a] :order-by [?a :desc]]",
            r#"[["A" 31] ["B" 30]]"#,
        ),
        ("[:find ?n :where [_ :p/name ?n] :order-by [?n :desc] :limit 1 :offset 1]", r#"[["B"]]"#),
        ("[:find ?n :where [_ :p/name ?n] :limit 0]", "[]"),
        ("[:find ?a (count ?e) :where [?e :p/age ?a] :having [(> ?a 30)]]", "[[31 1]]"),
        (
            "[:find ?n ?a :keys name age :where [?e :p/name ?n] [?e :p/age ?a]]",
            r#"[{:age 31, :name "A"} {:age 30, :name "B"}]"#,
        ),
    ] {
        assert_eq!(ask(&db, q), expected, "{q}");
    }
}

/// A random conjunction over the graph and the people, with its clauses in two orders.
fn clauses() -> impl Strategy<Value = Vec<String>> {
    let var = prop::sample::select(vec!["?a", "?b", "?c", "?d"]);
    let edge = (var.clone(), var.clone()).prop_map(|(x, y)| format!("[{x} :g/edge {y}]"));
    let age = (var.clone(), prop::sample::select(vec!["?n", "?m", "30"]))
        .prop_map(|(x, n)| format!("[{x} :p/age {n}]"));
    let not = (var.clone(), var.clone()).prop_map(|(x, y)| format!("(not [{x} :g/edge {y}])"));
    let or = (var.clone(), var.clone())
        .prop_map(|(x, y)| format!("(or [{x} :g/edge {y}] (and [{y} :g/edge {x}] [{x} :p/age _]))"));
    let pred = (var.clone(), var.clone()).prop_map(|(x, y)| format!("[(not= {x} {y})]"));
    let rule = (var.clone(), var).prop_map(|(x, y)| format!("(r {x} {y})"));
    prop::collection::vec(prop_oneof![4 => edge, 2 => age, 1 => not, 1 => or, 1 => pred, 1 => rule], 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Neither the order of clauses nor the way of running changes an answer.
    #[test]
    fn order_and_way_do_not_matter(
        list in clauses(),
        edges in prop::collection::vec((1u64..7, 1u64..7), 0..16),
        ages in prop::collection::vec((1u64..7, 29i64..32), 0..6),
        seed in any::<u64>(),
    ) {
        let s = schema();
        let mut datoms: Vec<Datom> = edges.iter().map(|(a, b)| datom(&s, *a, "g/edge", user(*b), 1, true)).collect();
        datoms.extend(ages.iter().map(|(e, n)| datom(&s, *e, "p/age", *n, 1, true)));
        datoms.sort();
        datoms.dedup();
        let mut seen = std::collections::BTreeSet::new();
        datoms.retain(|d| d.a != AttrId::new(101) || seen.insert(d.e));
        let inputs = [
            source(MemSource::new(s, datoms)),
            Input::rules("[[(r ?x ?y) [?x :g/edge ?y]] [(r ?x ?y) (r ?x ?z) (r ?z ?y)]]").unwrap(),
        ];
        let mut vars: Vec<&str> = ["?a", "?b", "?c", "?d", "?n", "?m"].into_iter().filter(|v| list.iter().any(|c| c.contains(v))).collect();
        if vars.is_empty() {
            vars.push("?a");
        }
        let text = |list: &[String]| format!("[:find {} :in $ % :where {}]", vars.join(" "), list.join(" "));
        let mut other = list.clone();
        let mut x = seed | 1;
        for i in (1..other.len()).rev() {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            other.swap(i, (x >> 33) as usize % (i + 1));
        }
        prop_assert_eq!(ask(&inputs, &text(&list)), ask(&inputs, &text(&other)));
    }
}

#[test]
fn deep_nesting_and_many_clauses_end_in_an_answer_or_an_error() {
    let db = [source(people())];
    let first = |r: Result<annals_query::Answer, QueryError>| r.map_or_else(|e| e.code(), |_| "rows");
    for depth in [10, 60, 120, 240, 1_000, 100_000] {
        for (open, close) in
            [("(not [?e :p/age] ", ")"), ("(or ", " [?e :p/tag])"), ("(or (and [?e :p/name] ", "))")]
        {
            let text = format!(
                "[:find ?e :where [?e :p/name] {}[?e :p/age 30]{}]",
                open.repeat(depth),
                close.repeat(depth)
            );
            let got = match Query::parse(&text) {
                Ok(q) => first(q.run(&db, &QueryOptions::default())),
                Err(e) => e.code(),
            };
            assert!(["rows", "query/unsupported", "edn/too-deep"].contains(&got), "{depth} {open}: {got}");
        }
    }
    let clauses: String = (0..500).map(|i| format!("[?e{} :p/boss ?e{}] ", i, i + 1)).collect();
    let q = Query::parse(&format!("[:find ?e0 :where {clauses}]")).unwrap();
    assert_eq!(first(q.run(&db, &QueryOptions::default())), "rows");
    let rules: String = (0..20).map(|i| format!("[(r{i} ?x) (r{} ?x) (r{} ?x)]", i + 1, i + 1)).collect();
    let rules = format!("[{rules} [(r20 ?x) [?x :p/name]]]");
    assert_eq!(
        ask(&[db[0].clone(), Input::rules(&rules).unwrap()], "[:find (count ?x) . :in $ % :where (r0 ?x)]"),
        "3"
    );
    let rules: String = (0..200).map(|i| format!("[(r{i} ?x) (r{} ?x) (r{} ?x)]", i + 1, i + 1)).collect();
    let rules = format!("[{rules} [(r200 ?x) [?x :p/name]]]");
    let q = Query::parse("[:find ?x :in $ % :where (r0 ?x)]").unwrap();
    let got = first(q.run(&[db[0].clone(), Input::rules(&rules).unwrap()], &QueryOptions::default()));
    assert!(["rows", "query/unsupported"].contains(&got), "{got}");
}

/// Cycles of every shape that a few clauses make, with what hangs on them.
const CYCLES: &[&str] = &[
    "[:find ?a ?b ?c :where [?a :g/edge ?b] [?b :g/edge ?c] [?a :g/edge ?c]]",
    "[:find ?a ?b ?c :where [?a :g/edge ?b] [?b :g/edge ?c] [?c :g/edge ?a]]",
    "[:find ?a ?b ?c ?d :where [?a :g/edge ?b] [?b :g/edge ?c] [?c :g/edge ?d] [?d :g/edge ?a]]",
    "[:find ?a ?c :where [?a :g/edge ?b] [?b :g/edge ?c] [?c :g/edge ?d] [?d :g/edge ?a] [?a :g/edge ?c]]",
    "[:find ?a ?b ?c ?d :where [?a :g/edge ?b] [?a :g/edge ?c] [?a :g/edge ?d] [?b :g/edge ?c] [?b :g/edge ?d] [?c :g/edge ?d]]",
    "[:find ?a ?b ?c :where [?a :g/edge ?b] [?b :p/boss ?c] [?a :g/edge ?c] [?b :g/edge ?c]]",
    "[:find ?a ?b ?n :where [?a :p/age ?n] [?b :p/age ?n] [?a :g/edge ?b]]",
    "[:find ?a ?b ?n ?m :where [?a :p/age ?n] [?b :p/age ?n] [?a :g/edge ?b] [?b :g/edge ?m] [(< ?n 3)] [(!= ?a ?m)]]",
    "[:find (count ?c) . :where [?a :g/edge ?b] [?b :g/edge ?c] [?a :g/edge ?c] (not [?c :g/edge ?a])]",
    "[:find ?a ?b ?c ?d ?e ?f :where [?a :g/edge ?b] [?b :g/edge ?c] [?a :g/edge ?c] [?d :g/edge ?e] [?e :g/edge ?f] [?d :g/edge ?f] [?a :p/boss ?d]]",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Joined at once or two at a time, on one thread or several, as the oracle says.
    #[test]
    fn cycles_have_one_answer(
        edges in prop::collection::btree_set((1u64..8, 1u64..8), 0..24),
        bosses in prop::collection::btree_map(1u64..8, 1u64..8, 0..6),
        ages in prop::collection::btree_map(1u64..8, 0i64..4, 0..8),
    ) {
        let s = schema();
        let mut datoms: Vec<Datom> =
            edges.iter().map(|(a, b)| datom(&s, *a, "g/edge", user(*b), 1, true)).collect();
        datoms.extend(bosses.iter().map(|(a, b)| datom(&s, *a, "p/boss", user(*b), 1, true)));
        datoms.extend(ages.iter().map(|(a, n)| datom(&s, *a, "p/age", *n, 1, true)));
        let db = source(MemSource::new(s, datoms));
        for text in CYCLES {
            let expected = ask(std::slice::from_ref(&db), text);
            let leapfrog = QueryOptions { joins: JoinChoice::Leapfrog, ..QueryOptions::default() }.check(true);
            let answer = Query::parse(text).unwrap().run(std::slice::from_ref(&db), &leapfrog);
            prop_assert_eq!(answer.map(|a| print(&a.value())).map_err(|e| e.to_string()), Ok(expected), "{}", text);
        }
    }
}

/// The operator that is chosen: leapfrog where pairs would be many more than edges.
#[test]
fn dense_cycles_are_joined_at_once_and_sparse_ones_by_pairs() {
    let text = "[:find ?a ?b ?c :where [?a :g/edge ?b] [?b :g/edge ?c] [?a :g/edge ?c]]";
    let triangles = |edges: Vec<(u64, u64)>, joins: JoinChoice| {
        let s = schema();
        let datoms = edges.iter().map(|(a, b)| datom(&s, *a, "g/edge", user(*b), 1, true)).collect();
        let db = source(MemSource::new(s, datoms));
        let q = Query::parse(text).unwrap();
        let options = QueryOptions { joins, ..QueryOptions::default() };
        let planned = q.explain(std::slice::from_ref(&db), &options).unwrap();
        let answer = q.run(&[db], &options).unwrap();
        let how: Vec<&str> = answer.stats.steps.iter().map(|s| s.how).collect();
        assert_eq!(how, planned.steps.iter().map(|s| s.how).collect::<Vec<_>>());
        (answer.rows.len(), how.contains(&"leapfrog"))
    };
    let complete: Vec<(u64, u64)> =
        (1..=30).flat_map(|a| (1..=30).filter(move |b| a != *b).map(move |b| (a, b))).collect();
    assert_eq!(triangles(complete.clone(), JoinChoice::Best), (30 * 29 * 28, true));
    assert_eq!(triangles(complete, JoinChoice::Pairwise), (30 * 29 * 28, false));
    let ring: Vec<(u64, u64)> = (1..=30).map(|a| (a, a % 30 + 1)).collect();
    assert_eq!(triangles(ring.clone(), JoinChoice::Best), (0, false));
    assert_eq!(triangles(ring, JoinChoice::Leapfrog), (0, true));
}

/// Rules whose two columns grow apart from one another, and some that only look so.
const GROWTHS: &[&str] = &[
    "[[(p ?a ?b) [?c :g/edge ?a] [?c :g/edge ?b]] [(p ?a ?b) [?c :g/edge ?a] (p ?c ?d) [?d :g/edge ?b]]]",
    "[[(p ?a ?b) [?a :p/boss ?b]] [(p ?a ?b) [?a :g/edge ?c] (p ?c ?d) [?b :g/edge ?d]]]",
    "[[(p ?a ?b) [?a :g/edge ?b]] [(p ?a ?b) (p ?c ?b) [?a :p/boss ?c]] [(p ?a ?b) [?c :g/edge ?b] (p ?a ?c)]]",
    "[[(p ?a ?b) [?a :g/edge ?b]] [(p ?b ?a) [?b :p/boss ?x] [?x :g/edge ?c] (p ?c ?d) (or [?d :p/boss ?a] [?a :p/boss ?d])]]",
    "[[(p ?a ?n) [?a :p/age ?n]] [(p ?a ?n) [?a :p/boss ?c] (p ?c ?m) [?e :p/age ?m] [?e :g/edge ?f] [?f :p/age ?n]]]",
    "[[(p ?a ?b) [?a :g/edge ?b]] [(p ?a ?b) (p ?b ?a)]]",
    "[[(p ?a ?b) [?a :g/edge ?b]] [(p ?a ?b) [?a :g/edge ?c] (p ?c ?d) [?d :g/edge ?b] [?a :p/boss ?b]]]",
    "[[(p ?a ?b) [?a :g/edge ?b]] [(p ?a ?b) [?a :g/edge ?c] (p ?c ?d) [?d :g/edge ?b] [_ :p/age 2]]]",
    "[[(p ?a ?b) [?a :g/edge ?b]] [(p ?a ?b) [?a :g/edge ?c] (p ?c ?d) [?d :g/edge ?b] [(not= ?d ?b)]]]",
    "[[(p ?a ?b) [?a :g/edge ?b]] [(p ?a ?b) [?a :g/edge ?c] (p ?c ?c) [?c :g/edge ?b]]]",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Both ends at once or by a general fixpoint, on one thread or several, as the oracle says.
    #[test]
    fn pairs_that_grow_at_both_ends_have_one_answer(
        edges in prop::collection::btree_set((1u64..8, 1u64..8), 0..16),
        bosses in prop::collection::btree_map(1u64..8, 1u64..8, 0..6),
        ages in prop::collection::btree_map(1u64..8, 0i64..4, 0..8),
    ) {
        let s = schema();
        let mut datoms: Vec<Datom> =
            edges.iter().map(|(a, b)| datom(&s, *a, "g/edge", user(*b), 1, true)).collect();
        datoms.extend(bosses.iter().map(|(a, b)| datom(&s, *a, "p/boss", user(*b), 1, true)));
        datoms.extend(ages.iter().map(|(a, n)| datom(&s, *a, "p/age", *n, 1, true)));
        let db = source(MemSource::new(s, datoms));
        for rules in GROWTHS {
            let inputs = [db.clone(), edn(rules)];
            for text in ["[:find ?a ?b :in $ % :where (p ?a ?b)]", "[:find ?a :in $ % :where (p ?a ?b) (p ?b ?a)]"] {
                let expected = ask(&inputs, text);
                let answer = Query::parse(text).unwrap().run(&inputs, &QueryOptions::default().check(true));
                prop_assert_eq!(answer.map(|a| print(&a.value())).map_err(|e| e.to_string()), Ok(expected), "{}", rules);
            }
        }
    }
}

#[test]
fn pairs_that_grow_for_many_rounds_agree_and_spend_the_budget() {
    let s = schema();
    // A ring with chords: every pair in the end, few of them a round.
    let n = 150;
    let edges = (0..n).flat_map(|i| [(i, (i + 1) % n), (i, (i * 7 + 3) % n)]);
    let mut datoms: Vec<Datom> =
        edges.map(|(a, b)| datom(&s, a + 1, "g/edge", user(b + 1), 1, true)).collect();
    datoms.sort();
    datoms.dedup();
    let inputs = [source(MemSource::new(s, datoms)), edn(GROWTHS[0])];
    let q = Query::parse("[:find ?a ?b :in $ % :where (p ?a ?b)]").unwrap();
    let o = QueryOptions::default;
    let rows = |o: QueryOptions| q.run(&inputs, &o).map(|a| a.rows.iter().collect::<Vec<_>>());
    let best = rows(o()).unwrap();
    assert!(best.len() > 10_000, "{}", best.len());
    assert_eq!(best, rows(QueryOptions { fixpoint: FixpointChoice::Hash, ..o() }).unwrap());
    assert_eq!(best, rows(QueryOptions { threads: Threads::Exactly(3), ..o() }).unwrap());
    for threads in [Threads::Exactly(1), Threads::Exactly(3)] {
        let few = rows(QueryOptions { max_rows: 5_000, threads, ..o() });
        assert!(matches!(few, Err(QueryError::RowLimit { .. })), "{few:?}");
        let little = rows(QueryOptions { max_bytes: 20_000, threads, ..o() });
        assert!(matches!(little, Err(QueryError::MemoryLimit { .. })), "{little:?}");
    }
}
