//! Time (semantics.md §2.4): views, their compositions, speculation, the log,
//! schema as of a view.

use annals::{Connection, Db, Listener, T, TimePoint, Value, View};
use std::time::Duration;

const SCHEMA: &str = r#"[
 {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/index true}
 {:db/ident :p/tag :db/valueType :db.type/string :db/cardinality :db.cardinality/many}
 {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
]"#;

fn people() -> Connection {
    let conn = annals::in_memory().unwrap();
    conn.transact(SCHEMA).unwrap();
    conn.transact(r#"[{:p/name "A" :p/age 30 :p/tag ["x" "y"]} {:p/name "B" :p/age 30}]"#).unwrap();
    conn
}

fn age(db: &Db, name: &str) -> Option<Value> {
    let e = db.resolve(("p/name", name)).unwrap()?;
    db.value(e, "p/age").unwrap()
}

fn ages(db: &Db) -> Vec<(Value, T, bool)> {
    db.datoms("aevt", &[Value::keyword("p/age")]).unwrap().into_iter().map(|d| (d.v, d.t, d.added)).collect()
}

#[test]
fn as_of_is_inclusive_and_since_exclusive() {
    let conn = people();
    let t1 = conn.db().t();
    let t2 = conn.transact(r#"[{:p/name "A" :p/age 31}]"#).unwrap().t();
    let db = conn.db();
    assert_eq!(age(&db.as_of(t1), "A"), Some(Value::Long(30)));
    assert_eq!(age(&db.as_of(t2), "A"), Some(Value::Long(31)));
    assert_eq!(age(&db.as_of(t2.entity()).unwrap(), "A"), Some(Value::Long(31)), "a tx id");
    assert_eq!(age(&db.as_of("1971-01-01").unwrap(), "A"), None);
    let since = db.since(t1);
    assert_eq!(ages(&since), [(Value::Long(31), t2, true)]);
    assert_eq!(since.resolve(("p/name", "A")).unwrap(), None, "the identity is older than the point");
    assert_eq!(ages(&db.since(t2)), []);
    let window = db.as_of(t1).since(T(1));
    assert_eq!(ages(&window).len(), 2);
}

#[test]
fn as_of_an_instant_is_the_last_transaction_not_after_it() {
    let conn = people();
    let r = conn.transact(r#"[{:p/name "A" :p/age 31}]"#).unwrap();
    let next = conn.transact(r#"[{:p/name "A" :p/age 32}]"#).unwrap();
    let db = conn.db();
    assert_eq!(db.as_of(r.tx_instant()).unwrap().t(), r.t());
    assert_eq!(db.as_of(annals::Instant(next.tx_instant().0 - 1)).unwrap().t(), r.t());
    let future = db.as_of("2999-01-01").unwrap();
    conn.transact(r#"[{:p/name "A" :p/age 33}]"#).unwrap();
    assert_eq!(age(&future, "A"), Some(Value::Long(32)), "a future instant is pinned to the basis");
}

#[test]
fn history_shows_both_sides_of_a_change() {
    let conn = people();
    let t1 = conn.db().t();
    let t2 = conn.transact(r#"[{:p/name "A" :p/age 31}]"#).unwrap().t();
    let db = conn.db();
    let e = db.resolve(("p/name", "A")).unwrap().unwrap();
    let life: Vec<_> = db
        .history_of(e, Some("p/age"))
        .unwrap()
        .into_iter()
        .map(|c| (c.datom.v, c.datom.t, c.datom.added))
        .collect();
    assert_eq!(
        life,
        [(Value::Long(30), t1, true), (Value::Long(30), t2, false), (Value::Long(31), t2, true)]
    );
    assert_eq!(db.history().entity(e).unwrap_err().code(), "db/history-view");
    assert!(db.history().with("[]").is_err());
    let window = db.history().since(t1);
    assert_eq!(ages(&window).len(), 2);
    assert_eq!(ages(&db.as_of(t1).history()).len(), 2);
}

#[test]
fn history_finds_what_is_gone() {
    let conn = people();
    conn.transact(r#"[[:db/retractEntity [:p/name "A"]]]"#).unwrap();
    let life = conn.db().history_of(("p/name", "A"), None).unwrap();
    assert_eq!(life.len(), 8);
    assert_eq!(conn.db().entity(("p/name", "A")).unwrap(), None);
}

#[test]
fn with_writes_nothing_and_stacks() {
    let conn = people();
    let db = conn.db();
    let t = db.t();
    let one = db.with(r#"[{:db/id "d" :p/name "D" :p/age 1} {:p/name "A" :p/age 99}]"#).unwrap();
    let d = one.tempid("d").unwrap();
    let two = one
        .db_after()
        .with(r#"[{:p/name "D" :p/age 2 :p/boss [:p/name "A"]} [:db/retract [:p/name "B"] :p/age]]"#)
        .unwrap();
    assert_eq!(two.t(), T(t.0 + 2));
    let after = two.db_after();
    assert_eq!(age(after, "D"), Some(Value::Long(2)));
    assert_eq!(age(after, "A"), Some(Value::Long(99)));
    assert_eq!(age(after, "B"), None);
    assert_eq!(after.resolve(("p/name", "D")).unwrap(), Some(d));
    assert_eq!(ages(after).len(), 2);
    // Views of time see the speculated transactions as they see real ones.
    assert_eq!(age(&after.as_of(one.t()), "D"), Some(Value::Long(1)));
    assert_eq!(age(&after.as_of(t), "A"), Some(Value::Long(30)));
    assert_eq!(ages(&after.since(t)).len(), 2);
    assert_eq!(after.history_of(d, Some("p/age")).unwrap().len(), 3);
    let range: Vec<Value> = {
        let mut found = Vec::new();
        after
            .index_range("p/age", std::ops::Bound::Unbounded, std::ops::Bound::Unbounded, &mut |d| {
                found.push(d.v);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        found
    };
    assert_eq!(range, [Value::Long(2), Value::Long(99)]);
    assert_eq!(conn.db().t(), t);
    assert_eq!(conn.db().resolve(("p/name", "D")).unwrap(), None);
    // As-of is not a branch: with, then as-of.
    let past = db.as_of(T(1)).with(r#"[{:p/name "Z"}]"#).unwrap();
    assert_eq!(past.db_after().resolve(("p/name", "Z")).unwrap(), None);
}

#[test]
fn with_speculates_on_schema() {
    let conn = people();
    let one = conn
        .db()
        .with("[{:db/ident :p/new :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]")
        .unwrap();
    let two = one.db_after().with(r#"[{:p/name "A" :p/new 5}]"#).unwrap();
    let e = two.db_after().resolve(("p/name", "A")).unwrap().unwrap();
    assert_eq!(two.db_after().value(e, "p/new").unwrap(), Some(Value::Long(5)));
    assert!(conn.db().attribute("p/new").is_err());
}

#[test]
fn the_schema_travels_with_the_view() {
    let conn = people();
    let t1 = conn.db().t();
    conn.transact("[{:db/id :p/age :db/ident :p/years}]").unwrap();
    conn.transact("[{:db/id :p/tag :db/doc \"labels\"}]").unwrap();
    let db = conn.db();
    let a = db.attribute("p/years").unwrap().clone();
    assert_eq!(db.attribute("p/age").unwrap().id, a.id, "the former name still works");
    assert_eq!(db.ident(a.id.entity()).unwrap().as_str(), "p/years");
    let then = db.as_of(t1);
    assert_eq!(then.ident(a.id.entity()).unwrap().as_str(), "p/age");
    assert_eq!(
        then.attribute("p/years").unwrap().id,
        a.id,
        "naming what came later finds the same attribute"
    );
    assert_eq!(then.schema().attribute_named(&annals::Keyword::new("p/years")), None);
    let before = db.as_of(T(0));
    assert!(before.schema().attribute_named(&annals::Keyword::new("p/age")).is_none());
    assert_eq!(before.datoms("aevt", &[Value::keyword("p/age")]).unwrap(), []);
    // A freed name can be given to another attribute; the old alias gives way.
    conn.transact("[{:db/ident :p/age :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]")
        .unwrap();
    assert_ne!(conn.db().attribute("p/age").unwrap().id, a.id);
    assert_eq!(conn.db().as_of(t1).attribute("p/age").unwrap().id, a.id);
}

#[test]
fn schema_alterations_safe_and_unsafe() {
    let conn = people();
    conn.transact(r#"[{:p/name "A" :p/boss [:p/name "B"]}]"#).unwrap();
    let refused = |text: &str| {
        let e = conn.transact(text).unwrap_err();
        assert_eq!(e.code(), "tx/unsafe-alteration", "{text}: {e}");
        assert!(e.diagnostic().help.is_some());
    };
    refused("[{:db/id :p/age :db/valueType :db.type/string}]");
    refused("[{:db/id :p/tag :db/cardinality :db.cardinality/one}]");
    refused("[{:db/id :p/age :db/unique :db.unique/value}]");
    refused("[{:db/id :p/age :db/isComponent true}]");
    refused("[[:db/retractEntity :p/age]]");
    refused("[[:db/retract :p/age :db/ident :p/age]]");
    refused("[[:db/retract :p/age :db/cardinality]]");
    let ok = |text: &str| drop(conn.transact(text).unwrap_or_else(|e| panic!("{text}: {}", e.diagnostic())));
    ok("[{:db/id :p/boss :db/isComponent true}]");
    ok("[{:db/id :p/age :db/cardinality :db.cardinality/many :db/noHistory true}]");
    ok("[{:db/id :p/age :db/cardinality :db.cardinality/one}]");
    ok("[{:db/id :p/name :db/unique :db.unique/value}]");
    ok("[[:db/retract :p/name :db/unique :db.unique/value]]");
    assert_eq!(conn.db().attribute("p/name").unwrap().unique, None);
    // Judged on the database after: the duplicate goes in the same transaction.
    ok(r#"[[:db/retract [:p/name "B"] :p/age] {:db/id :p/age :db/unique :db.unique/identity}]"#
        .replace(
            "[:p/name \"B\"]",
            &conn.db().datoms("aevt", &[Value::keyword("p/name")]).unwrap()[1].e.to_string(),
        )
        .as_str());
    for (text, code) in [
        ("[{:db/ident :p/half :db/valueType :db.type/string}]", "tx/schema-incomplete"),
        (
            "[{:db/ident :p/odd :db/valueType :db.type/quux :db/cardinality :db.cardinality/one}]",
            "tx/unknown-ident",
        ),
        (
            "[{:db/ident :p/odd :db/valueType :db.cardinality/one :db/cardinality :db.cardinality/one}]",
            "tx/schema-value",
        ),
        (
            "[{:db/ident :db/mine :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
            "tx/schema-value",
        ),
        (
            "[{:db/ident :p/t :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one}]",
            "tx/unsafe-alteration",
        ),
        (
            "[{:db/ident :p/c :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one :db/tupleAttrs [:p/age :p/tag]}]",
            "tx/unsafe-alteration",
        ),
        (
            "[{:db/ident :p/x :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db.attr/preds [:pred/postive]}]",
            "tx/unknown-predicate",
        ),
        (
            "[{:db/ident :p/c :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one :db/tupleAttrs [:p/age :p/none]}]",
            "tx/unsafe-alteration",
        ),
        ("[{:db/id :db/doc :db/cardinality :db.cardinality/many}]", "tx/reserved"),
    ] {
        assert_eq!(conn.transact(text).unwrap_err().code(), code, "{text}");
    }
}

#[test]
fn the_log_is_half_open_and_listeners_miss_nothing() {
    let conn = annals::Options::new().listener_capacity(2).in_memory().unwrap();
    let mut late = conn.listen_from(T(0));
    let mut live = conn.listen();
    for i in 0..10 {
        conn.transact(format!("[{{:db/ident :n/i{i}}}]")).unwrap();
    }
    let drain = |l: &mut Listener| {
        let mut ts = Vec::new();
        while let Some(r) = l.next_timeout(Duration::ZERO).unwrap() {
            assert_eq!(r.db_after().t(), r.t());
            ts.push(r.t().0);
        }
        ts
    };
    assert_eq!(drain(&mut late), (0..=10).collect::<Vec<_>>());
    assert_eq!(drain(&mut live), (1..=10).collect::<Vec<_>>(), "a slow listener is served from the log");
    let range: Vec<u64> = conn.tx_range(T(3), T(6)).unwrap().map(|r| r.unwrap().t().0).collect();
    assert_eq!(range, [3, 4, 5]);
    conn.close();
    assert!(live.next().is_none());
    assert_eq!(conn.transact("[]").unwrap_err().code(), "tx/closed");
}

#[test]
fn points_in_time_as_text() {
    assert_eq!(TimePoint::parse("17"), Some(TimePoint::T(T(17))));
    assert_eq!(TimePoint::parse("2026"), Some(TimePoint::T(T(2026))));
    assert_eq!(TimePoint::parse("17592186044417"), Some(TimePoint::T(T(1))));
    let day = annals::Instant::parse("2026-01-31").map(TimePoint::Instant);
    assert_eq!(TimePoint::parse("#inst \"2026-01-31\""), day);
    assert_eq!(TimePoint::parse("2026-01-31T00:00:00Z"), day);
    assert_eq!(TimePoint::parse("yesterday"), None);
    let db = annals::in_memory().unwrap().db();
    assert_eq!(db.as_of("yesterday").unwrap_err().code(), "db/bad-time");
    assert_eq!(db.view(), View::NOW);
}

#[test]
fn writers_in_many_threads_group_and_keep_order() {
    let conn = people();
    let start = conn.db().t().0;
    std::thread::scope(|s| {
        for w in 0..8 {
            let conn = &conn;
            s.spawn(move || {
                for i in 0..50 {
                    let r = conn.transact(format!(r#"[{{:p/name "w{w}-{i}" :p/age {i}}}]"#)).unwrap();
                    assert_eq!(age(r.db_after(), &format!("w{w}-{i}")), Some(Value::Long(i)));
                    assert!(conn.db().t() >= r.t(), "what is acknowledged is visible");
                    if i % 10 == 0 {
                        assert!(conn.transact(r#"[[:db/add [:p/name "A"] :p/age "no"]]"#).is_err());
                    }
                }
            });
        }
    });
    assert_eq!(conn.db().t().0, start + 400, "refused transactions take no number");
}

#[test]
fn one_cas_of_many_wins() {
    let conn = people();
    let wins: usize = std::thread::scope(|s| {
        let tries: Vec<_> = (0..16)
            .map(|i| {
                let conn = &conn;
                s.spawn(move || {
                    conn.transact(format!(r#"[[:db/cas [:p/name "A"] :p/age 30 {}]]"#, 100 + i)).is_ok()
                })
            })
            .collect();
        tries.into_iter().filter(|_| true).map(|t| usize::from(t.join().unwrap())).sum()
    });
    assert_eq!(wins, 1);
}

#[test]
fn a_wildcard_over_many_shows_what_an_attribute_held_before_it_held_nothing() {
    let conn = annals::in_memory().unwrap();
    conn.transact(
        "[{:db/ident :x/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
          {:db/ident :x/s :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]",
    )
    .unwrap();
    let one = |i: i64| format!("{{:db/id \"e{i}\" :x/n {i} :x/s \"s\"}}");
    let made = conn.transact(format!("[{}]", (0..20).map(one).collect::<String>()).as_str()).unwrap();
    let entities: Vec<annals::EntityId> = (0..20).map(|i| made.tempid(&format!("e{i}")).unwrap()).collect();
    let older = conn.db();
    let gone: String = entities.iter().map(|e| format!("[:db/retract {} :x/n]", e.raw())).collect();
    conn.transact(format!("[{gone}]").as_str()).unwrap();
    let n = annals::Value::keyword("x/n");
    for db in [conn.db().as_of(made.t()), older] {
        let ids = entities.iter().map(|e| annals::Eid::from(*e));
        let trees = db.pull_many("[*]", ids, &Default::default()).unwrap();
        for (i, tree) in trees.iter().enumerate() {
            assert_eq!(tree.get(&n), Some(&annals::Value::Long(i as i64)));
        }
    }
    let ids = entities.iter().map(|e| annals::Eid::from(*e));
    let trees = conn.db().pull_many("[*]", ids, &Default::default()).unwrap();
    assert!(trees.iter().all(|tree| tree.get(&n).is_none()));
}
