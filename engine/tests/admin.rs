//! Verification, backup and restore, compaction, excision, bulk loading.

use annals::{Connection, Eid, Excision, Keyword, T, Value, tx};

const SCHEMA: &str = r#"[
 {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/mail :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
 {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
]"#;
const COMPOSITE: &str = "[{:db/ident :p/both :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one :db/tupleAttrs [:p/mail :p/age]}]";

fn people(dir: &std::path::Path) -> Connection {
    let conn = annals::open(dir.join("db")).unwrap();
    conn.transact(SCHEMA).unwrap();
    conn.transact(COMPOSITE).unwrap();
    conn.transact(r#"[{:p/name "A" :p/mail "a@x" :p/age 1} {:p/name "B" :p/mail "b@x" :p/age 2 :p/boss "c"} {:db/id "c" :p/name "C" :p/mail "a@x"}]"#).unwrap();
    conn.transact(r#"[{:p/name "A" :p/mail "a2@x"}]"#).unwrap();
    conn.transact(r#"[{:p/name "C" :p/age 7}]"#).unwrap();
    conn
}

fn dump(conn: &Connection) -> Vec<annals::Datom> {
    conn.db().history().datoms("eavt", &[]).unwrap()
}

#[test]
fn verify_backup_restore_compact() {
    let dir = tempfile::tempdir().unwrap();
    let conn = people(dir.path());
    assert!(conn.verify().unwrap().is_sound());
    let all = dump(&conn);
    let t = conn.db().t();
    conn.backup(dir.path().join("backup")).unwrap();
    conn.transact(r#"[{:p/name "A" :p/age 99}]"#).unwrap();
    assert!(conn.backup(dir.path().join("backup")).unwrap().incremental);
    conn.compact().unwrap();
    assert!(conn.stats().unwrap().current > 0);
    assert!(conn.verify().unwrap().is_sound());

    annals::restore(dir.path().join("backup"), dir.path().join("then"), Some(t)).unwrap();
    let then = annals::open(dir.path().join("then")).unwrap();
    assert_eq!(then.db().t(), t);
    assert_eq!(dump(&then), all);
    let newest = conn.db().t();
    drop(conn);
    annals::rebuild(dir.path().join("db")).unwrap();
    let conn = annals::open(dir.path().join("db")).unwrap();
    assert_eq!(conn.db().t(), newest);
    assert!(conn.verify().unwrap().is_sound());
}

#[test]
fn excision_leaves_nothing_but_its_signature() {
    let dir = tempfile::tempdir().unwrap();
    let conn = people(dir.path());
    let a = conn.db().resolve(("p/name", "A")).unwrap().unwrap();
    let old = conn.db();
    let done = conn
        .excise(
            &[Excision::Value { entity: Some(Eid::Id(a)), attr: "p/mail".into(), value: "a@x".into() }],
            r#"[{:db/id "datomic.tx" :tx/why "request 17"}]"#,
        )
        .unwrap();
    // The value, its retraction, and the composite tuples that held it.
    assert_eq!(done.datoms, 4);
    assert_eq!(conn.still_there(&done.proof()).unwrap(), 0);
    for db in [conn.db().history(), old.history()] {
        let mails = db.datoms("eavt", &[Value::Ref(a), Value::keyword("p/mail")]).unwrap();
        assert!(mails.iter().all(|d| d.v != "a@x".into()), "{mails:?}");
    }
    let c = conn.db().entity(("p/name", "C")).unwrap().unwrap();
    assert_eq!(c.get("p/mail"), Some(&"a@x".into()), "another entity's equal value stays");
    let why = conn.db().value(done.report.tx(), "tx/why").unwrap();
    assert_eq!(why, Some("request 17".into()));
    assert!(conn.verify().unwrap().is_sound());

    let c = conn.db().resolve(("p/name", "C")).unwrap().unwrap();
    let done = conn.excise(&[Excision::Entity(Eid::Id(c))], tx()).unwrap();
    assert_eq!(conn.still_there(&done.proof()).unwrap(), 0);
    let left = dump(&conn);
    assert!(left.iter().all(|d| d.e != c && d.v != Value::Ref(c)));
    let done =
        conn.excise(&[Excision::Attribute { attr: "p/age".into(), before: Some(T(4)) }], tx()).unwrap();
    assert!(done.datoms > 0);
    // Life goes on, also after reopening.
    conn.transact(r#"[{:p/name "A" :p/mail "new@x"}]"#).unwrap();
    drop((conn, old, done, a));
}

#[test]
fn excision_spares_the_database_itself() {
    let dir = tempfile::tempdir().unwrap();
    let conn = people(dir.path());
    for what in [
        Excision::Entity(Eid::Ident(Keyword::new("p/name"))),
        Excision::Entity(Eid::Id(T(1).entity())),
        Excision::Attribute { attr: "db/ident".into(), before: None },
    ] {
        assert_eq!(conn.excise(&[what], tx()).unwrap_err().code(), "tx/reserved");
    }
    let unknown = Excision::Entity(Eid::from(("p/name", "Z")));
    assert_eq!(conn.excise(&[unknown], tx()).unwrap_err().code(), "db/unknown-entity");
}

#[test]
fn batches_share_a_sync_and_stop_at_the_first_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let conn = people(dir.path());
    let t = conn.db().t();
    let mut txs: Vec<_> = (0..50)
        .map(|b| {
            (0..100)
                .fold(tx(), |d, i| d.entity([("p/name", format!("n{b}-{i}").into()), ("p/age", i.into())]))
        })
        .collect();
    txs.push(tx().entity([("p/name", "A".into()), ("p/age", "old".into())]));
    txs.push(tx().entity([("p/name", "never".into())]));
    let (reports, refused) = conn.transact_all(txs);
    assert_eq!(reports.len(), 50);
    assert_eq!(refused.unwrap().code(), "tx/wrong-type");
    assert_eq!(conn.db().t(), T(t.0 + 50));
    assert_eq!(conn.db().resolve(("p/name", "never")).unwrap(), None);
    let n = conn.db().count("aevt", &[Value::keyword("p/name")]).unwrap();
    assert_eq!(n, 5003);
}

#[test]
fn a_failed_sync_poisons_writing_until_reopened() {
    let dir = tempfile::tempdir().unwrap();
    drop(people(dir.path()));
    let faults = annals::Faults::nth(annals::FileOp::Sync, 2, 5);
    let conn = annals::Options::new().faults(faults).open(dir.path().join("db")).unwrap();
    conn.transact(r#"[{:p/name "A" :p/age 10}]"#).unwrap();
    let t = conn.db().t();
    let failed = conn.transact(r#"[{:p/name "A" :p/age 11}]"#).unwrap_err();
    assert!(matches!(failed, annals::TransactError::Storage(_)), "{failed}");
    let e = conn.transact(r#"[{:p/name "A" :p/age 12}]"#).unwrap_err();
    assert_eq!(e.class(), annals::ErrorClass::Poisoned);
    // Reading goes on, at what was durable.
    assert_eq!(conn.db().t(), t);
    let a = conn.db().entity(("p/name", "A")).unwrap().unwrap();
    assert_eq!(a.get("p/age"), Some(&Value::Long(10)));
    drop(conn);
    let conn = annals::open(dir.path().join("db")).unwrap();
    assert!(conn.db().t() >= t);
    conn.transact(r#"[{:p/name "A" :p/age 13}]"#).unwrap();
    assert!(conn.verify().unwrap().is_sound());
}
