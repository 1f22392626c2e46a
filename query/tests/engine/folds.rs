//! Rules that fold: over time, in proofs and plans, within the budget; and values that grow.

use super::*;
use annals_query::timeline::{Proof, Spans, Step, TimelineRow};

/// S of semantics.md, and how far one is under another: C under B under A, from t2 on B under
/// itself too (no shorter), and from t3 on C directly under A.
fn company() -> MemSource {
    let s = schema();
    let d = |e, a, v: Value, t, added| datom(&s, e, a, v, t, added);
    let mut datoms = vec![
        d(1, "p/name", "A".into(), 1, true),
        d(2, "p/name", "B".into(), 1, true),
        d(3, "p/name", "C".into(), 1, true),
        d(1, "p/age", 30.into(), 1, true),
        d(2, "p/age", 30.into(), 1, true),
        d(2, "g/edge", user(1).into(), 1, true),
        d(3, "g/edge", user(2).into(), 1, true),
        d(2, "g/edge", user(2).into(), 2, true),
        d(3, "g/edge", user(1).into(), 3, true),
        d(3, "p/age", 4.into(), 3, true),
    ];
    datoms.sort_by_key(|d| d.t);
    MemSource::new(s, datoms)
}

const HOPS: &str = "[[(hops ?x ?y (min ?d)) [?x :g/edge ?y] [(ground 1) ?d]] \
                     [(hops ?x ?y (min ?d)) (hops ?x ?z ?e) [?z :g/edge ?y] [(inc ?e) ?d]]]";
const AGES: &str = "[[(ages (sum ?a) (count ?e)) [?e :p/age ?a]]]";

fn history(m: MemSource) -> Input {
    source(m.view_as(View { history: true, ..View::NOW }))
}

#[test]
fn folds_over_time_are_exact() {
    let text = "[:find ?d :in $ % :where [?x :p/name \"C\"] [?y :p/name \"A\"] (hops ?x ?y ?d)]";
    let q = Query::parse(text).unwrap();
    let rows = q.timeline(&[history(company()), edn(HOPS)], T(3), &QueryOptions::default()).unwrap();
    let expected = [
        TimelineRow { values: vec![Value::Long(1)], times: Spans::one(T(3), T(4)) },
        TimelineRow { values: vec![Value::Long(2)], times: Spans::one(T(1), T(3)) },
    ];
    assert_eq!(rows, expected, "two steps, until there is one");

    let q = Query::parse("[:find ?s ?n :in $ % :where (ages ?s ?n)]").unwrap();
    let rows = q.timeline(&[history(company()), edn(AGES)], T(3), &QueryOptions::default()).unwrap();
    let seen: Vec<String> =
        rows.iter().map(|r| format!("{:?} {:?}", r.values, r.times.iter().collect::<Vec<_>>())).collect();
    assert_eq!(seen.len(), 2, "{seen:?}: 30 twice is one row with ?e apart: a sum of 60, then 64");
    for t in 1..=3 {
        let at = source(company().view_as(View { as_of: Some(T(t)), ..View::NOW }));
        let answer = q.run(&[at, edn(AGES)], &QueryOptions::default()).unwrap();
        let expected: Vec<Vec<Value>> =
            rows.iter().filter(|r| r.times.contains(T(t))).map(|r| r.values.clone()).collect();
        assert_eq!(answer.rows.iter().collect::<Vec<_>>(), expected, "as of t{t}");
    }
}

/// Facts of a proof, with all below it.
fn facts(p: &Proof) -> usize {
    p.steps
        .iter()
        .map(|s| match s {
            Step::Fact { .. } => 1,
            Step::Branch { proof, .. } | Step::Rule { proof, .. } => facts(proof),
            Step::Test { .. } | Step::Absent { .. } => 0,
        })
        .sum()
}

#[test]
fn a_fold_is_proved_by_the_rows_behind_it() {
    let o = QueryOptions::default();
    let q = Query::parse("[:find ?d :in $ % :where [?x :p/name \"C\"] [?y :p/name \"A\"] (hops ?x ?y ?d)]")
        .unwrap();
    let inputs = [history(company()), edn(HOPS)];
    let proof = q.why(&inputs, T(2), &[Value::Long(2)], &o).unwrap().expect("it is an answer");
    assert_eq!(facts(&proof), 4, "two names, two steps: {proof:?}");
    assert_eq!(q.why(&inputs, T(3), &[Value::Long(2)], &o).unwrap(), None, "there is a shorter way at t3");
    let missing = q.why_not(&inputs, T(3), &[Value::Long(2)], &o).unwrap().expect("no answer");
    assert!(missing.clause.contains("hops"), "{missing:?}");

    let q = Query::parse("[:find ?s :in $ % :where (ages ?s _)]").unwrap();
    let inputs = [history(company()), edn(AGES)];
    let proof = q.why(&inputs, T(3), &[Value::Long(64)], &o).unwrap().expect("it is an answer");
    assert_eq!(facts(&proof), 3, "the sum rests on each age: {proof:?}");
}

#[test]
fn a_proof_of_two_folds_shows_each_application_once() {
    let s = schema();
    let n = 40;
    let edges = (0..n).map(|i| datom(&s, i, "g/edge", user(i + 1), 1, true)).collect();
    let inputs = [history(MemSource::new(s.clone(), edges)), edn(PATHS)];
    let text = "[:find ?d ?p :in $ % ?x ?y :where (path ?x ?y ?d ?p)]";
    let q = Query::parse(text).unwrap();
    let ends = [user(0), user(n)].map(|e| Input::Value(Value::Ref(e)));
    let inputs = [inputs, ends].concat();
    let (d, p) = (Value::Long(n as i64), Value::vector((0..=n).map(|i| Value::Ref(user(i)))));
    let o = QueryOptions { timeout_ms: Some(60_000), ..QueryOptions::default() };
    let proof = q.why(&inputs, T(1), &[d, p], &o).unwrap().expect("it is an answer");
    let mut seen = Vec::new();
    applications(&proof, &mut seen);
    let shown: Vec<_> = seen.iter().filter(|(_, steps)| *steps > 0).map(|(args, _)| args).collect();
    let again: Vec<_> = seen.iter().filter(|(_, steps)| *steps == 0).map(|(args, _)| args).collect();
    assert_eq!(shown.len(), n as usize, "each once");
    assert!((1..=shown.len()).contains(&again.len()), "{} stand a second time", again.len());
    assert!(again.iter().all(|a| shown.contains(a)), "what is not shown again was shown");
    assert!(facts(&proof) <= 2 * n as usize, "{} facts", facts(&proof));
    let o = QueryOptions { max_bytes: 20_000, ..o };
    let e = q.why(&inputs, T(1), &[Value::Long(n as i64), Value::Nil], &o).unwrap_err();
    assert_eq!(e.code(), "query/memory-limit");
}

const PATHS: &str = "[[(path ?x ?y (min ?d) (shortest ?p)) [?x :g/edge ?y] [(ground 1) ?d] [(vector ?x ?y) ?p]] \
                      [(path ?x ?y (min ?d) (shortest ?p)) (path ?x ?z ?e ?q) [?z :g/edge ?y] [(inc ?e) ?d] [(conj ?q ?y) ?p]]]";

/// The arguments of each application of a recursive rule in a proof, with the steps under it.
fn applications(p: &Proof, out: &mut Vec<(Vec<Value>, usize)>) {
    for s in &p.steps {
        if let Step::Rule { args, proof, .. } = s {
            out.push((args.clone(), proof.steps.len()));
        }
        if let Step::Branch { proof, .. } | Step::Rule { proof, .. } = s {
            applications(proof, out);
        }
    }
}

/// Beyond some hundred clauses a rule is no longer written out where it is called.
#[test]
fn a_fold_means_the_same_behind_many_clauses() {
    let rules = "[[(from ?x (count ?y)) [?y :g/edge ?x]]]";
    let padding: String = (0..420).map(|i| format!("[(ground 0) ?pad{i}] ")).collect();
    let db = || source(company().view_as(View::NOW));
    let keys = edn("[[:p/name \"A\"] [:p/name \"B\"] [:p/name \"nobody\"]]");
    for (find, clauses, expected) in [
        ("?n", "(from [:p/name \"A\"] ?n)", "[[2]]"),
        ("?n", "(from [:p/name \"nobody\"] ?n)", "[]"),
        ("?n", "(from :color/red ?n)", "[]"),
        ("?k ?n", "[(ground [[:p/name \"A\"] [:p/name \"B\"]]) [?k ...]] (from ?k ?n)", ""),
        ("?g ?n", "(from ?g ?n)", ""),
        ("?a", "[?x :p/name \"A\"] (from ?x 2) [?x :p/age ?a]", ""),
    ] {
        let near = format!("[:find {find} :in $ % [?g ...] :where {clauses}]");
        let far = format!("[:find {find} :in $ % [?g ...] :where {padding} {clauses}]");
        let o = QueryOptions::default();
        let run = |text: &str| {
            let answer = Query::parse(text).unwrap().run(&[db(), edn(rules), keys.clone()], &o).unwrap();
            print(&answer.value())
        };
        let answer = run(&near);
        assert_eq!(run(&far), answer, "{clauses}");
        assert!(expected.is_empty() || answer == expected, "{clauses}: {answer}");
        assert!(!expected.is_empty() || answer.len() > 2, "{clauses}: {answer}");
    }
}

#[test]
fn a_plan_shows_folds() {
    let o = QueryOptions::default();
    let q = Query::parse("[:find ?s :in $ % :where (ages ?s _)]").unwrap();
    let inputs = [source(company()), edn(AGES)];
    let plan = q.explain(&inputs, &o).unwrap().to_string();
    assert!(plan.contains("group") && plan.contains(":p/age"), "{plan}");
    let ran = q.run(&inputs, &o).unwrap().stats.steps;
    assert!(ran.iter().any(|s| s.how == "group" && s.rows == 1), "{ran:?}");
}

#[test]
fn a_fold_that_gets_better_for_ever_is_stopped() {
    // Every round trip costs one less.
    let down = "[[(cost ?x (min ?d)) [?x :g/edge ?x] [(ground 0) ?d]] [(cost ?x (min ?d)) (cost ?x ?e) [(dec ?e) ?d]]]";
    let q = Query::parse("[:find ?d :in $ % :where (cost ?x ?d)]").unwrap();
    let inputs = [source(company()), edn(down)];
    let short = QueryOptions { timeout_ms: Some(50), ..QueryOptions::default() };
    assert_eq!(q.run(&inputs, &short).unwrap_err().code(), "query/timeout");
    let few = QueryOptions { max_rows: 10_000, ..QueryOptions::default() };
    assert_eq!(q.run(&inputs, &few).unwrap_err().code(), "query/row-limit");
    let small = QueryOptions { max_bytes: 1 << 20, ..QueryOptions::default() };
    assert_eq!(q.run(&inputs, &small).unwrap_err().code(), "query/memory-limit");
}

#[test]
fn values_that_grow_without_end_are_refused() {
    let grow = |seed: &str, f: &str| format!("[[(s ?n) [(ground {seed}) ?n]] [(s ?m) (s ?n) [({f}) ?m]]]");
    let q = Query::parse("[:find (count ?n) :in $ % :where (s ?n)]").unwrap();
    for (rules, why) in [
        (grow("1", "vector ?n ?n"), "256 MiB"),
        (grow("1", "vector ?n"), "256 levels"),
        (grow("\"aaaa\"", "replace ?n \"a\" ?n"), "256 MiB"),
        (grow("\"aaaa\"", "replace ?n #regex \"a\" ?n"), "256 MiB"),
    ] {
        let e = q.run(&[source(company()), edn(&rules)], &QueryOptions::default()).unwrap_err();
        assert_eq!(e.code(), "query/function", "{rules}: {e}");
        assert!(e.to_string().contains(why), "{rules}: {e}");
    }
    // Values count as memory.
    let rules = grow("\"a\"", "str ?n ?n");
    let small = QueryOptions { max_bytes: 1 << 20, ..QueryOptions::default() };
    let e = q.run(&[source(company()), edn(&rules)], &small).unwrap_err();
    assert_eq!(e.code(), "query/memory-limit", "{e}");
}

#[test]
fn what_is_no_time_is_no_time() {
    let db = source(company());
    for (clause, expected) in [
        ("[(tx-ids $ \"a\" 2) [?x ...]]", "query/type"),
        ("[(tx-ids $ 1 :b) [?x ...]]", "query/type"),
        ("[(tx-data $ \"a\") [[?x]]]", "query/type"),
        ("[?x :p/name \"A\"] [(tx-data $ ?x) [[?y]]]", "query/type"),
        ("[(tx-ids $ 1 -5) [?x ...]]", "[]"),
    ] {
        assert_eq!(
            ask(std::slice::from_ref(&db), &format!("[:find [?x ...] :where {clause}]")),
            expected,
            "{clause}"
        );
    }
}

#[test]
fn nested_queries_stand_in_rules_too() {
    let db = source(company());
    let rules = "[[(older ?x ?n) [?x :p/age ?a] [(q [:find (count ?e) . :in $ ?than :where [?e :p/age ?b] [(< ?b ?than)]] $ ?a) ?n]] \
                  [(chain ?x ?n) (older ?x ?n)] [(chain ?x ?n) [?x :g/edge ?y] (chain ?y ?n)]]";
    let text = "[:find ?name ?n :in $ % :where [?x :p/name ?name] (chain ?x ?n)]";
    assert_eq!(ask(&[db.clone(), edn(rules)], text), r#"[["A" 1] ["B" 1] ["C" 1]]"#);
    let rules = "[[(deep ?x) [(q [:find ?x :in $ % :where (deep ?x)] $ %) [[?x]]]]]";
    let code = ask(&[db, edn(rules)], "[:find ?x :in $ % :where (deep ?x)]");
    assert!(code.starts_with("query/"), "a nested query has no rules of the outer one: {code}");
}

/// A source that counts what is read of it, and keeps nothing in memory.
struct Counted(MemSource, std::sync::atomic::AtomicUsize);

impl Source for Counted {
    fn basis_t(&self) -> T {
        self.0.basis_t()
    }
    fn view(&self) -> View {
        self.0.view()
    }
    fn schema(&self) -> &Arc<Schema> {
        self.0.schema()
    }
    fn stats(&self, a: AttrId) -> annals_query::source::AttrStats {
        annals_query::source::AttrStats { cached: false, ..self.0.stats(a) }
    }
    fn may_have(&self, a: AttrId) -> bool {
        self.0.may_have(a)
    }
    fn column(
        &self,
        a: AttrId,
        order: Order,
        dict: &Arc<Dict>,
    ) -> Result<Arc<Column>, annals_query::source::SourceError> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.column(a, order, dict)
    }
    fn probe(
        &self,
        a: AttrId,
        by: Order,
        keys: &[u64],
        dict: &Arc<Dict>,
        out: &mut annals_query::source::Probe,
    ) -> Result<(), annals_query::source::SourceError> {
        self.0.probe(a, by, keys, dict, out)
    }
    fn entity(&self, e: EntityId) -> Result<Vec<Datom>, annals_query::source::SourceError> {
        self.0.entity(e)
    }
    fn t_at(&self, i: Instant) -> Result<T, annals_query::source::SourceError> {
        self.0.t_at(i)
    }
    fn log(&self, from: T, to: T) -> Result<Vec<(T, Vec<Datom>)>, annals_query::source::SourceError> {
        self.0.log(from, to)
    }
}

#[test]
fn a_plan_reads_no_column() {
    let counted = Arc::new(Counted(company(), std::sync::atomic::AtomicUsize::new(0)));
    let inputs = [Input::Source(counted.clone() as Arc<dyn Source>)];
    let triangle = "[:find ?a ?b ?c :where [?a :g/edge ?b] [?b :g/edge ?c] [?c :g/edge ?a]]";
    for text in [triangle, "[:find ?n ?m :where [?x :p/name ?n] [?x :g/edge ?y] [?y :p/name ?m]]"] {
        let plan = Query::parse(text).unwrap().explain(&inputs, &QueryOptions::default()).unwrap();
        assert!(plan.steps.len() >= 2 || text == triangle, "{plan}");
    }
    assert_eq!(counted.1.load(std::sync::atomic::Ordering::Relaxed), 0, "columns read");
}

/// Text and numbers in one group: which of them a round keeps would decide what is found.
#[test]
fn a_fold_through_recursion_refuses_what_does_not_compare() {
    let best = "[[(best ?x (max ?d)) [(ground [[1 5] [1 \"a\"] [2 7]]) [[?x ?d] ...]]] \
                 [(best ?x (max ?d)) [(ground [[3 1] [4 2]]) [[?x ?y] ...]] (best ?y ?e) [(min ?e 6) ?d]]]";
    let two = best.replace(" [1 \"a\"]", "");
    let q = Query::parse("[:find ?x ?d :in $ % :where (best ?x ?d)]").unwrap();
    for options in ways() {
        let e = q.run(&[source(company()), edn(best)], &options).unwrap_err();
        assert_eq!(e.code(), "query/type");
        assert!(e.to_string().contains("through recursion"), "{e}");
        let a = q.run(&[source(company()), edn(&two)], &options).unwrap();
        assert_eq!(print(&a.value()), "[[1 5] [2 7] [3 5] [4 6]]");
    }
    let o = QueryOptions::default();
    assert!(q.run(&[source(company()), edn(&two)], &o.check(true)).unwrap().warnings.is_empty());
    let e = q.timeline(&[history(company()), edn(best)], T(3), &QueryOptions::default()).unwrap_err();
    assert_eq!(e.code(), "query/type");
    // Outside of recursion everything has an order.
    let all = "[[(best ?x (max ?d)) [(ground [[1 5] [1 \"a\"] [2 7]]) [[?x ?d] ...]]]]";
    let a = q.run(&[source(company()), edn(all)], &QueryOptions::default()).unwrap();
    assert_eq!(print(&a.value()), "[[1 \"a\"] [2 7]]");
}
