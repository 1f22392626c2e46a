//! Rule sets that queries call by name: stored ones, as of any time, and built-in ones.

use annals::{Connection, QueryOptions, T, Value, edn};

fn family() -> Connection {
    let conn = annals::in_memory().unwrap();
    conn.transact(
        r#"[{:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
            {:db/ident :p/parent :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}]"#,
    )
    .unwrap();
    conn.transact(
        r#"[{:db/id "a" :p/name "A"} {:db/id "b" :p/name "B" :p/parent "a"} {:p/name "C" :p/parent "b"}]"#,
    )
    .unwrap();
    conn
}

const KIN: &str = r#"[:find [?n ...] :rules [:rules/kin] :where (kin ?e [:p/name "A"]) [?e :p/name ?n]]"#;
const DIRECT: &str = r#"[{:db/ident :rules/kin :db/rules "[[(kin ?x ?y) [?x :p/parent ?y]]]"}]"#;
const DEEP: &str = r#"[{:db/ident :rules/kin
   :db/rules "[[(kin ?x ?y) [?x :p/parent ?y]] [(kin ?x ?y) [?x :p/parent ?z] (kin ?z ?y)]]"}]"#;

fn names(db: &annals::Db) -> String {
    edn::print(&db.query(KIN, ()).unwrap().value())
}

#[test]
fn a_stored_set_is_a_fact_and_a_past_query_uses_the_rules_of_its_time() {
    let conn = family();
    let direct = conn.transact(DIRECT).unwrap().t();
    let deep = conn.transact(DEEP).unwrap().t();
    let db = conn.db();
    assert_eq!(names(&db), r#"["B" "C"]"#);
    assert_eq!(names(&db.as_of(direct)), r#"["B"]"#);
    assert_eq!(names(&db.as_of(deep)), r#"["B" "C"]"#);
    let before = db.as_of(T(direct.0 - 1)).query(KIN, ()).unwrap_err();
    assert_eq!(before.code(), "query/unknown-rule");
    // Every way to ask finds them: explain, timeline, proof, and the naive evaluator.
    assert!(!db.explain(KIN, ()).unwrap().steps.is_empty());
    let q = r#"[:find ?n :rules [:rules/kin] :where (kin ?e [:p/name "A"]) [?e :p/name ?n]]"#;
    assert_eq!(db.timeline(q, ()).unwrap().len(), 2);
    assert!(db.prove(q, (), &[Value::string("C")]).unwrap().is_some());
    let checked = QueryOptions { check: true, ..QueryOptions::default() };
    assert_eq!(db.query_with(q, (), &checked).unwrap().rows.len(), 2);
    assert_eq!(db.rule_sets().unwrap().len(), 1);
    // A history shows both texts; the newest is the set.
    assert_eq!(db.history().rule_sets().unwrap(), db.rule_sets().unwrap());
    // Nor does since or a filter hide them, as neither hides the schema.
    assert_eq!(db.since(deep).rule_sets().unwrap(), db.rule_sets().unwrap());
    let rules = db.attribute("db/rules").unwrap().id;
    assert_eq!(names(&db.filter(move |_, d| d.a != rules)), r#"["B" "C"]"#);
    conn.transact("[[:db/retract :rules/kin :db/rules]]").unwrap();
    assert!(conn.db().rule_sets().unwrap().is_empty());
    assert!(conn.db().history().rule_sets().unwrap().is_empty());
}

#[test]
fn a_text_that_does_not_read_as_rules_is_refused_where_it_stands() {
    let conn = family();
    for wrong in ["[[(k ?x) [?x :p/name]] [(k ?x ?y) [?x :p/name ?y]]]", "[[(kin ?x)", "{}", "17"] {
        let tx = format!("[{{:db/ident :rules/kin :db/rules {}}}]", edn::print(&Value::string(wrong)));
        let e = conn.transact(&tx).unwrap_err();
        assert_eq!(e.code(), "tx/bad-rules", "{wrong}");
        assert!(e.place().is_some());
        assert!(e.diagnostic().message.contains("rules"));
    }
    assert!(conn.db().rule_sets().unwrap().is_empty());
}

/// The thirteen relations exclude one another and cover every pair of intervals.
#[test]
fn of_two_intervals_exactly_one_relation_of_allen_holds() {
    let db = annals::in_memory().unwrap().db();
    let relations = [
        "before",
        "after",
        "meets",
        "met-by",
        "overlaps",
        "overlapped-by",
        "starts",
        "started-by",
        "during",
        "contains",
        "finishes",
        "finished-by",
        "same-interval",
    ];
    for s1 in 0..4i64 {
        for e1 in s1 + 1..5 {
            for s2 in 0..4i64 {
                for e2 in s2 + 1..5 {
                    let holds = |name: &str| {
                        let q = format!(
                            "[:find ?a . :in $ ?a ?b ?c ?d :rules [:annals/allen] :where ({name} ?a ?b ?c ?d)]"
                        );
                        db.query(&q, (s1, e1, s2, e2)).unwrap().scalar().is_some()
                    };
                    let found: Vec<&str> = relations.into_iter().filter(|r| holds(r)).collect();
                    assert_eq!(found.len(), 1, "[{s1} {e1}) [{s2} {e2}): {found:?}");
                    assert_eq!(holds("intersects"), s1 < e2 && s2 < e1);
                }
            }
        }
    }
}
