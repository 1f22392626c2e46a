//! Queries, rules and pull patterns: any text is read or refused with places that
//! lie within it; what is read prints to the same tree; and it is checked, planned
//! and run within a small budget against a small database.

#![no_main]

use annals::{Db, Diagnostic, QueryOptions};
use annals_query::parse;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static DB: LazyLock<Db> = LazyLock::new(|| {
    let conn = annals::in_memory().expect("a database in memory");
    conn.transact(
        "[{:db/ident :n :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
          {:db/ident :a :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
          {:db/ident :b :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
          {:db/ident :c :db/valueType :db.type/double :db/cardinality :db.cardinality/one}]",
    )
    .expect("the schema is sound");
    conn.transact(r#"[{:db/id "x" :n "x" :a 1 :b ["y" "z"]} {:db/id "y" :n "y" :a 2 :b ["z"]} {:db/id "z" :n "z" :c 0.5 :b ["x"]}]"#)
        .expect("the facts are sound");
    conn.transact(r#"[[:db/add [:n "x"] :a 3] [:db/retract [:n "y"] :a 2]]"#).expect("the facts are sound");
    conn.db()
});

fn places(text: &str, all: &[Diagnostic]) {
    assert!(!all.is_empty(), "a refusal says why");
    for label in all.iter().flat_map(|d| &d.labels) {
        assert!(text.get(label.span.start as usize..label.span.end as usize).is_some(), "{label:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(e) = parse::rules(text) {
        places(text, &e.0);
    }
    match parse::pull(text) {
        Ok(pattern) => {
            let printed = pattern.to_string();
            assert_eq!(parse::pull(&printed).map(|p| p.to_string()), Ok(printed));
            let _ = DB.pull(text, ("n", "x"));
        }
        Err(e) => places(text, &e.0),
    }
    match parse::query(text) {
        Ok(query) => {
            let printed = query.to_string();
            assert_eq!(parse::query(&printed).map(|q| q.to_string()), Ok(printed));
        }
        Err(e) => return places(text, &e.0),
    }
    if let Err(e) = DB.check(text, ()) {
        assert!(!e.diagnostics().is_empty(), "a refusal says why");
    }
    let _ = DB.explain(text, ());
    let options = QueryOptions {
        timeout_ms: Some(500),
        max_rows: 20_000,
        max_bytes: 16 << 20,
        ..QueryOptions::default()
    };
    let best = DB.query_with(text, (), &options);
    let plain = DB.query_with(text, (), &QueryOptions { optimise: false, cache: false, ..options });
    if let (Ok(best), Ok(plain)) = (best, plain) {
        assert_eq!(best.rows.len(), plain.rows.len(), "the optimiser changed the answer");
    }
});
