//! Queries, pulls, diffs and timelines through the facade.

use annals::{Connection, Eid, Error, Input, Keyword, Query, QueryOptions, Shape, T, Value, edn};

fn people() -> Connection {
    let conn = annals::in_memory().unwrap();
    conn.transact(
        "[{:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
          {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
          {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}]",
    )
    .unwrap();
    conn.transact(r#"[{:db/id "a" :p/name "A" :p/age 30} {:p/name "B" :p/age 30 :p/boss "a"} {:p/name "C" :p/boss "a"}]"#)
        .unwrap();
    conn.transact(r#"[{:p/name "A" :p/age 31}]"#).unwrap();
    conn
}

const AGES: &str = "[:find ?n ?a :where [?e :p/name ?n] [?e :p/age ?a]]";

#[test]
fn what_a_query_read_is_counted_beside_what_it_made() {
    let conn = people();
    let cancel = annals::Cancel::new();
    let options = QueryOptions { cancel: cancel.clone(), ..QueryOptions::default() };
    let used = conn.db().query_with(AGES, (), &options).unwrap().stats.used;
    // Three names and two ages, whole or by their keys; two rows of them.
    assert!((4..=5).contains(&used.rows_read), "{used:?}");
    assert!(used.rows >= 2, "{used:?}");
    assert_eq!((cancel.rows_read(), cancel.rows()), (used.rows_read, used.rows));
}

#[test]
fn inputs_are_matched_and_the_database_filled_in() {
    let conn = people();
    let db = conn.db();
    let one = "[:find ?a . :in $ ?n :where [?e :p/name ?n] [?e :p/age ?a]]";
    assert_eq!(db.query(one, ("A",)).unwrap().scalar(), Some(Value::Long(31)));
    assert_eq!(db.query(one, (&db.as_of(T(2)), "A")).unwrap().scalar(), Some(Value::Long(30)));
    let then = "[:find ?a . :in ?n $ :where [?e :p/name ?n] [?e :p/age ?a]]";
    assert_eq!(db.query(then, ("A",)).unwrap().scalar(), Some(Value::Long(31)), "wherever $ stands");
    let two = "[:find ?a :in $ $then :where [$ ?e :p/name \"A\"] [$then ?e :p/age ?a]]";
    assert_eq!(db.query(two, (db.as_of(T(2)),)).unwrap().rows.len(), 1);
    let rules = Input::Rules("[[(old ?e) [?e :p/age ?a] [(> ?a 30)]]]".into());
    let q = "[:find [?n ...] :in $ % :where (old ?e) [?e :p/name ?n]]";
    assert_eq!(edn::print(&db.query(q, vec![rules]).unwrap().value()), "[\"A\"]");
    let ratio = "[:find ?x . :in ?x]";
    assert_eq!(db.query(ratio, (5,)).unwrap().scalar(), Some(Value::Long(5)));
    assert_eq!(db.query(one, ("A", 5)).unwrap_err().code(), "query/inputs");
    assert_eq!(db.query("[:find ?e :where [?e :p/nmae]]", ()).unwrap_err().code(), "query/unknown-attribute");
}

#[test]
fn an_attribute_of_the_future_matches_nothing() {
    let conn = people();
    let db = conn.db().as_of(T(0));
    assert_eq!(db.query(AGES, ()).unwrap().rows.len(), 0);
    assert!(db.query("[:find ?n :where [?e :p/never ?n]]", ()).is_err());
}

#[test]
fn prepared_queries_run_anywhere_and_explain() {
    let conn = people();
    let q = Query::parse(AGES).unwrap();
    for (t, rows) in [(0, 0), (1, 0), (2, 2), (3, 2)] {
        assert_eq!(conn.db().as_of(T(t)).query(&q, ()).unwrap().rows.len(), rows);
    }
    let answer = conn.db().query(&q, ()).unwrap();
    assert_eq!((answer.shape, answer.basis_t), (Shape::Rel, T(3)));
    assert!(!conn.db().explain(&q, ()).unwrap().steps.is_empty());
    let none = QueryOptions { max_rows: 1, ..QueryOptions::default() };
    assert_eq!(conn.db().query_with(&q, (), &none).unwrap_err().code(), "query/row-limit");
    let speculative = conn.db().with(r#"[{:p/name "D" :p/age 1}]"#).unwrap();
    assert_eq!(speculative.db_after().query(&q, ()).unwrap().rows.len(), 3);
    let history = conn.db().history().query("[:find ?a ?t ?op :where [?e :p/age ?a ?t ?op]]", ()).unwrap();
    assert_eq!(history.rows.len(), 3, "30 and 31 asserted, 30 retracted: a set of rows");
}

#[test]
fn pulls() -> Result<(), Error> {
    let db = people().db();
    let tree = db.pull("[:p/name {:p/_boss [:p/name]}]", ("p/name", "A"))?;
    assert_eq!(edn::print(&tree), r#"{:p/_boss [{:p/name "B"} {:p/name "C"}], :p/name "A"}"#);
    assert_eq!(db.pull("[:p/name]", ("p/name", "Z"))?, Value::Nil);
    let eids = [Eid::from(("p/name", "C")), Eid::from(("p/name", "Z")), Eid::from(("p/name", "A"))];
    let all = db.pull_many("[:p/age]", eids, &QueryOptions::default())?;
    assert_eq!(all, [Value::Nil, Value::Nil, Value::map([(Value::keyword("p/age"), Value::Long(31))])]);
    assert!(db.history().pull("[*]", ("p/name", "A")).is_err());
    assert!(db.pull("[*]", Keyword::new("p/age"))?.get(&Value::keyword("db/ident")).is_some());
    Ok(())
}

#[test]
fn diffs_name_the_transaction() -> Result<(), Error> {
    let conn = people();
    let gone = conn.transact(r#"[[:db/retractEntity [:p/name "B"]]]"#)?.t();
    conn.transact(r#"[{:p/name "E" :p/age 5}]"#)?;
    let show = |rows: Vec<annals::DiffRow>| -> Vec<String> {
        rows.iter()
            .map(|r| format!("{}{} {}", if r.gained { '+' } else { '-' }, edn::print(&r.values[0]), r.t))
            .collect()
    };
    let q = "[:find ?n ?a :where [?e :p/name ?n] [?e :p/age ?a]]";
    let rows = show(conn.db().diff(q, (), T(2), conn.db().t())?);
    assert_eq!(rows, ["-\"A\" 3", "+\"A\" 3", "-\"B\" 4", "+\"E\" 5"]);
    let back = show(conn.db().diff(q, (), gone, T(3))?);
    assert_eq!(back, ["+\"B\" 4"]);
    // A pull has no timeline: the search by halves finds the same.
    let q = "[:find (pull ?e [:p/age]) :where [?e :p/name \"A\"]]";
    let rows = conn.db().diff(q, (), T(2), conn.db().t())?;
    assert_eq!(rows.iter().map(|r| (r.gained, r.t)).collect::<Vec<_>>(), [(false, T(3)), (true, T(3))]);
    let life = conn.db().timeline(AGES, ())?;
    let b = life.iter().find(|r| r.values[0] == "B".into()).expect("it was a row");
    assert_eq!(b.times.iter().collect::<Vec<_>>(), [(T(2), gone)]);
    Ok(())
}

#[test]
fn host_code_that_transacts_is_refused() {
    let conn = std::sync::Arc::new(std::sync::OnceLock::<Connection>::new());
    let inside = conn.clone();
    let opened = annals::Options::new()
        .tx_function("my/loop", move |_, _| {
            let conn = inside.get().ok_or("not open yet")?;
            conn.transact("[]").map_err(|e| e.code().to_owned())?;
            Ok(annals::tx())
        })
        .in_memory()
        .unwrap();
    conn.set(opened.clone()).unwrap();
    let e = opened.transact("[[:my/loop]]").unwrap_err();
    assert_eq!(e.code(), "tx/function-refused");
    assert!(e.to_string().contains("tx/reentrant"));
}

#[test]
fn an_error_in_a_clause_does_not_make_errors_of_what_it_would_have_bound() {
    let db = people().db();
    let codes = |q: &str| match db.query(q, ()).unwrap_err() {
        annals::QueryError::Invalid(all) => all.iter().map(|d| d.code).collect::<Vec<_>>(),
        other => panic!("{other}"),
    };
    assert_eq!(codes("[:find ?n :where [?e :p/nmae ?n]]"), ["query/unknown-attribute"]);
    assert_eq!(
        codes("[:find ?n :where [?e :p/name ?n] [?e :p/aeg ?a] [(> ?a 5)]]"),
        ["query/unknown-attribute"]
    );
    // What no clause mentions is still named, and both unknown attributes are.
    assert_eq!(codes("[:find ?x :where [?e :p/nmae ?n]]"), ["query/unknown-attribute", "query/unbound"]);
    assert_eq!(
        codes("[:find ?n :where [?e :p/nmae ?n] [?e :p/aeg 5]]"),
        ["query/unknown-attribute", "query/unknown-attribute"]
    );
    assert_eq!(codes("[:find ?n :where [?e :p/name ?n] [(> ?a 5)]]"), ["query/unbound"]);
}
