//! `:db/noHistory`: the present is always right; what a view of the past shows was true then.

use annals::{Checkpoint, Connection, Options, Value};

const SCHEMA: &str = "[{:db/ident :k/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :k/seen :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/noHistory true}
 {:db/ident :k/tags :db/valueType :db.type/string :db/cardinality :db.cardinality/many :db/noHistory true}
 {:db/ident :k/kept :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";

fn open(dir: &std::path::Path) -> Connection {
    Options::new().checkpoint(Checkpoint::Never).open(dir).unwrap()
}

#[test]
fn every_view_shows_the_present_and_nothing_that_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = open(dir.path());
    conn.transact(SCHEMA).unwrap();
    // What is checkpointed has forgotten its past, what is not has it still: every mixture of both.
    let mut when = Vec::new();
    for n in 0..12 {
        let old =
            if n > 0 { format!(r#"[:db/retract [:k/id 1] :k/tags "t{}"]"#, n - 1) } else { String::new() };
        let r = conn.transact(
            format!(r#"[{{:k/id 1 :k/seen {n} :k/kept {n} :k/tags ["t{n}" "always"]}} {old}]"#).as_str(),
        );
        when.push(r.unwrap().t());
        if n % 3 == 2 {
            conn.checkpoint().unwrap();
        }
        if n == 7 {
            drop(conn);
            conn = open(dir.path());
        }
        let db = conn.db();
        let e = db.resolve(("k/id", Value::Long(1))).unwrap().unwrap();
        assert_eq!(db.value(e, "k/seen").unwrap(), Some(Value::Long(n)));
        let count = "[:find (count ?t) . :where [?e :k/id 1] [?e :k/tags ?t]]";
        assert_eq!(db.query(count, ()).unwrap().scalar(), Some(Value::Long(2)));
        assert_eq!(db.datoms("eavt", &[Value::Ref(e), Value::keyword("k/tags")]).unwrap().len(), 2);
        for (then, t) in when.iter().enumerate() {
            let past = db.as_of(*t);
            let seen = past.value(e, "k/seen").unwrap();
            assert!(seen.is_none() || seen == Some(Value::Long(then as i64)), "as of {t}: {seen:?}");
            assert_eq!(past.value(e, "k/kept").unwrap(), Some(Value::Long(then as i64)));
            assert_eq!(past.datoms("aevt", &[Value::keyword("k/kept")]).unwrap().len(), 1);
            // What holds still, held then.
            let always =
                past.datoms("eavt", &[Value::Ref(e), Value::keyword("k/tags"), "always".into()]).unwrap();
            assert_eq!(always.len(), 1);
            // The newest value shows since any earlier point.
            let since = db.since(*t).value(e, "k/seen").unwrap();
            assert_eq!(since, ((then as i64) < n).then_some(Value::Long(n)));
        }
        // In history, every retraction has its assertion, and each datom is one that was made.
        let history = db.history().datoms("aevt", &[Value::keyword("k/seen")]).unwrap();
        for d in &history {
            let Value::Long(v) = d.v else { panic!("{d:?}") };
            let made = if d.added { v as usize } else { v as usize + 1 };
            assert_eq!(d.t, when[made], "{d:?}");
            let same = |x: &&annals::Datom| x.v == d.v && x.added;
            assert_eq!(history.iter().filter(same).count(), 1, "{d:?}");
        }
        assert!(history.iter().any(|d| d.v == Value::Long(n) && d.added));
        assert!(conn.verify().unwrap().is_sound());
    }
    // The log forgets nothing.
    let all: usize =
        conn.tx_range(when[0], annals::T(u64::MAX)).unwrap().map(|r| r.unwrap().tx_data().len()).sum();
    assert!(all > 12 * 5, "{all}");
}
