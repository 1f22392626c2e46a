//! Transactions: any text is refused whole or makes a database in which all that it
//! says holds. Several are separated by a zero byte, each upon the one before.

#![no_main]

use annals::{Db, Value};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static DB: LazyLock<Db> = LazyLock::new(|| {
    let conn = annals::in_memory().expect("a database in memory");
    conn.transact(
        "[{:db/ident :n :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
          {:db/ident :u :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/value}
          {:db/ident :a :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
          {:db/ident :m :db/valueType :db.type/long :db/cardinality :db.cardinality/many}
          {:db/ident :b :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
          {:db/ident :k :db/valueType :db.type/ref :db/cardinality :db.cardinality/many :db/isComponent true}
          {:db/ident :p :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one :db/tupleAttrs [:n :a]}]",
    )
    .expect("the schema is sound");
    conn.transact(r#"[{:n "x" :u "1" :a 1 :m [1 2]} {:n "y" :a 2 :k [{:a 3}]}]"#)
        .expect("the facts are sound");
    conn.db()
});

fuzz_target!(|data: &[u8]| {
    let mut db = DB.clone();
    for part in data.split(|b| *b == 0).take(6) {
        let Ok(text) = std::str::from_utf8(part) else { continue };
        let report = match db.with(text) {
            Ok(report) => report,
            Err(e) => {
                assert!(!e.diagnostics().is_empty(), "a refusal says why");
                continue;
            }
        };
        let after = report.db_after();
        assert_eq!(report.db_before().t(), db.t());
        for d in report.tx_data() {
            let now = after
                .datoms("eavt", &[Value::Ref(d.e), Value::Ref(d.a.entity())])
                .expect("memory is readable");
            let holds = now.iter().any(|x| x.v == d.v);
            assert_eq!(holds, d.added, "{d:?}");
        }
        // Said again, it says nothing new, unless it makes entities or compares.
        db = after.clone();
    }
});
