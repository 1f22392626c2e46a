//! A filtered database shows, on every way of reading, what the same database shows less
//! the datoms that the filter hides; and pulling along an index agrees with the index.

use annals::{Connection, Datom, Db, Index, Page, Value};
use std::collections::BTreeSet;

const SCHEMA: &str = r#"[
  {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :p/age  :db/valueType :db.type/long   :db/cardinality :db.cardinality/one :db/index true}
  {:db/ident :p/tag  :db/valueType :db.type/string :db/cardinality :db.cardinality/many :db/index true}
  {:db/ident :p/boss :db/valueType :db.type/ref    :db/cardinality :db.cardinality/one}]"#;

fn people() -> Connection {
    let conn = annals::in_memory().unwrap();
    conn.transact(SCHEMA).unwrap();
    conn.transact(r#"[{:p/name "A" :p/age 30 :p/tag ["x" "y"]} {:p/name "B" :p/age 20 :p/tag ["x"]}]"#)
        .unwrap();
    conn.transact(r#"[{:p/name "C" :p/age 40 :p/boss [:p/name "A"]} {:p/name "A" :p/age 31}]"#).unwrap();
    conn.transact(r#"[[:db/retract [:p/name "A"] :p/tag "x"] {:p/name "B" :p/boss [:p/name "C"]}]"#).unwrap();
    conn
}

fn edn(v: &Value) -> String {
    annals::edn::print(v)
}

fn all(db: &Db, index: Index) -> BTreeSet<Datom> {
    db.datoms(index, &[]).unwrap().into_iter().collect()
}

#[test]
fn every_index_and_view_shows_what_both_filter_and_view_show() {
    let conn = people();
    let name = conn.db().attribute("p/name").unwrap().id;
    let keeps: [fn(&Db, &Datom) -> bool; 4] = [
        |_, d| d.t.0 != 3,
        |_, d| d.v != Value::string("x"),
        |db, d| db.ident(d.e).is_none() && d.e.raw() % 2 == 0,
        |_, _| false,
    ];
    for keep in keeps {
        let now = conn.db();
        let views = [now.clone(), now.as_of(annals::T(2)), now.since(annals::T(2)), now.history()];
        for whole in views {
            let filtered = whole.filter(keep);
            for index in Index::ALL {
                let expected: BTreeSet<Datom> =
                    all(&whole, index).into_iter().filter(|d| keep(&whole, d)).collect();
                assert_eq!(all(&filtered, index), expected, "{index:?}");
            }
            let q = "[:find ?e ?v ?t :where [?e :p/age ?v ?t]]";
            let rows: BTreeSet<Vec<Value>> = filtered.query(q, ()).unwrap().rows.iter().collect();
            let expected = whole.datoms("aevt", &[Value::keyword("p/age")]).unwrap();
            let expected: BTreeSet<Vec<Value>> = expected
                .into_iter()
                .filter(|d| keep(&whole, d))
                .map(|d| vec![Value::Ref(d.e), d.v, Value::Ref(d.t.entity())])
                .collect();
            assert_eq!(rows, expected);
            assert!(filtered.check(q, ()).is_ok());
        }
    }
    // A view laid over a filter is the filter laid over the view.
    let one = conn.db().filter(|_, d| d.t.0 != 3).as_of(annals::T(3));
    let other = conn.db().as_of(annals::T(3)).filter(|_, d| d.t.0 != 3);
    assert_eq!(all(&one, Index::Eavt), all(&other, Index::Eavt));
    // Two filters hide what either hides; a hidden identity names nobody.
    let two = one.filter(move |_, d| d.a != name);
    assert!(two.datoms("aevt", &[Value::keyword("p/name")]).unwrap().is_empty());
    assert_eq!(two.resolve(("p/name", "A")).unwrap(), None);
}

#[test]
fn a_speculation_is_judged_on_the_whole_and_shown_through_the_filter() {
    let conn = people();
    let hidden = conn.db().filter(|_, d| d.v != Value::string("A"));
    assert_eq!(hidden.resolve(("p/name", "A")).unwrap(), None);
    // "A" is taken, though it cannot be seen: the upsert finds it.
    let after =
        hidden.with(r#"[{:p/name "A" :p/age 99} {:p/name "D" :p/age 1}]"#).unwrap().db_after().clone();
    assert!(after.is_filtered());
    let ages = after.query("[:find [?a ...] :where [_ :p/age ?a]]", ()).unwrap().value();
    assert_eq!(edn(&ages), "[1 20 40 99]");
    assert_eq!(after.resolve(("p/name", "A")).unwrap(), None);
    assert!(after.resolve(("p/name", "D")).unwrap().is_some());
}

#[test]
fn a_filtered_database_has_no_timeline_but_a_diff() {
    let conn = people();
    let q = "[:find ?n ?a :where [?e :p/name ?n] [?e :p/age ?a]]";
    let db = conn.db().filter(|_, d| d.v != Value::Long(40));
    assert_eq!(db.timeline(q, ()).unwrap_err().code(), "query/unsupported");
    let rows = db.diff(q, (), annals::T(2), annals::T(4)).unwrap();
    let shown: Vec<String> = rows
        .iter()
        .map(|r| format!("{} {} {}", r.gained, r.t.0, edn(&Value::vector(r.values.clone()))))
        .collect();
    assert_eq!(shown, [r#"false 3 ["A" 30]"#, r#"true 3 ["A" 31]"#]);
}

#[test]
fn pulling_along_an_index_agrees_with_the_index() {
    let conn = people();
    let db = conn.db();
    let page = |start: &[Value], index: &str, page: Page| {
        edn(&Value::vector(db.index_pull(index, "[:p/name]", start, page).unwrap()))
    };
    let age = Value::keyword("p/age");
    let whole = Page::default();
    assert_eq!(
        page(std::slice::from_ref(&age), "avet", whole),
        r#"[{:p/name "B"} {:p/name "A"} {:p/name "C"}]"#
    );
    assert_eq!(page(&[age.clone(), Value::Long(31)], "avet", whole), r#"[{:p/name "A"} {:p/name "C"}]"#);
    assert_eq!(
        page(&[age.clone(), Value::Long(35)], "avet", Page { reverse: true, ..whole }),
        r#"[{:p/name "A"} {:p/name "B"}]"#
    );
    assert_eq!(page(std::slice::from_ref(&age), "avet", Page::last(1)), r#"[{:p/name "C"}]"#);
    assert_eq!(page(std::slice::from_ref(&age), "avet", Page::first(1).skip(1)), r#"[{:p/name "A"}]"#);
    assert_eq!(page(std::slice::from_ref(&age), "avet", Page::first(0)), "[]");
    // An entity comes once a value.
    let tag = Value::keyword("p/tag");
    conn.transact(r#"[{:p/name "B" :p/tag ["z"]}]"#).unwrap();
    assert_eq!(
        edn(&Value::vector(
            conn.db().index_pull("avet", "[:p/name]", std::slice::from_ref(&tag), whole).unwrap()
        )),
        r#"[{:p/name "B"} {:p/name "A"} {:p/name "B"}]"#
    );
    // By entity, from one of them on.
    let b = db.resolve(("p/name", "B")).unwrap().unwrap();
    assert_eq!(page(&[age.clone(), Value::Ref(b)], "aevt", whole), r#"[{:p/name "B"} {:p/name "C"}]"#);
}

#[test]
fn what_cannot_be_walked_is_refused_by_name() {
    let conn = people();
    let db = conn.db();
    let refused = |index: &str, start: &[Value], page: Page| {
        db.index_pull(index, "[*]", start, page).unwrap_err().code().to_owned()
    };
    let age = [Value::keyword("p/age")];
    assert_eq!(refused("eavt", &age, Page::default()), "db/bad-components");
    assert_eq!(refused("avet", &[], Page::default()), "db/bad-components");
    assert_eq!(refused("aevt", &age, Page::last(1)), "db/bad-components");
    assert_eq!(refused("avet", &[Value::keyword("p/boss")], Page::default()), "db/not-indexed");
    assert_eq!(refused("avet", &[Value::keyword("p/aeg")], Page::default()), "db/unknown-attribute");
    assert_eq!(refused("avet", &[age[0].clone(), Value::string("x")], Page::default()), "db/wrong-type");
    assert_eq!(
        db.history().index_pull("avet", "[*]", &age, Page::default()).unwrap_err().code(),
        "db/history-view"
    );
}
