//! Seeking in an index, both ways, is a part of the whole index: on every view, with speculation and filters.

use annals::{Connection, Datom, Db, Index, Value};
use std::{cmp::Ordering, ops::ControlFlow};

const SCHEMA: &str = "[{:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/index true}
 {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
 {:db/ident :p/friends :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]";

fn database() -> Connection {
    let conn = annals::in_memory().unwrap();
    conn.transact(SCHEMA).unwrap();
    for round in 0..3 {
        let people: String = (0..40)
            .map(|i| {
                let (boss, friend) = ((i * 7 + round) % 40, (i + round + 1) % 40);
                format!(r#"{{:db/id "p{i}" :p/name "n{i}" :p/age {} :p/boss "p{boss}" :p/friends ["p{friend}"]}}"#, i % 5 + round)
            })
            .collect();
        conn.transact(format!("[{people}]").as_str()).unwrap();
    }
    conn.transact(r#"[[:db/retract [:p/name "n3"] :p/age] [:db/retractEntity [:p/name "n4"]]]"#).unwrap();
    conn
}

type Key = (Ordering, Ordering, Ordering, Ordering);

/// A datom against the first `n` components of another, in the order of an index.
fn compare(index: Index, x: &Datom, y: &Datom, n: usize) -> Ordering {
    let (e, a, v, t) = (x.e.cmp(&y.e), x.a.cmp(&y.a), x.v.cmp(&y.v), x.t.cmp(&y.t));
    let key: Key = match index {
        Index::Eavt => (e, a, v, t),
        Index::Aevt => (a, e, v, t),
        Index::Avet => (a, v, e, t),
        Index::Vaet => (v, a, e, t),
    };
    [key.0, key.1, key.2, key.3].into_iter().take(n).fold(Ordering::Equal, Ordering::then)
}

fn check(db: &Db, what: &str) {
    let everything = db.datoms("eavt", &[]).unwrap();
    assert!(everything.len() > 20, "{what}");
    for index in Index::ALL {
        let holds = |d: &&Datom| {
            let a = db.schema().attribute(d.a).expect("installed");
            match index {
                Index::Eavt | Index::Aevt => true,
                Index::Avet => a.index || a.unique.is_some(),
                Index::Vaet => a.is_ref(),
            }
        };
        let mut all: Vec<Datom> = everything.iter().filter(holds).cloned().collect();
        all.sort_by(|x, y| compare(index, x, y, 4).then(x.added.cmp(&y.added)));
        assert_eq!(db.datoms(index, &[]).unwrap(), all, "{what}, all of {index}");
        for from in all.iter().step_by(41) {
            let (e, a, v) = (Value::Ref(from.e), Value::Ref(from.a.entity()), from.v.clone());
            let components = match index {
                Index::Eavt => [e, a, v],
                Index::Aevt => [a, e, v],
                Index::Avet => [a, v, e],
                Index::Vaet => [v, a, e],
            };
            for n in 0..=3 {
                let given = &components[..n];
                // The first few tell an index that begins right from one that is read whole and right.
                for limit in [3, usize::MAX] {
                    let read = |back: bool| {
                        let mut found = Vec::new();
                        let visit = &mut |d: Datom| {
                            found.push(d);
                            if found.len() == limit {
                                ControlFlow::Break(())
                            } else {
                                ControlFlow::Continue(())
                            }
                        };
                        match back {
                            false => db.seek_datoms(index, given, visit).unwrap(),
                            true => db.rseek_datoms(index, given, visit).unwrap(),
                        }
                        found
                    };
                    let wanted = |keep: Ordering| {
                        all.iter().filter(move |d| compare(index, d, from, n) != keep).cloned()
                    };
                    let forward: Vec<Datom> = wanted(Ordering::Less).take(limit).collect();
                    assert_eq!(read(false), forward, "{what}: {index} from {given:?}");
                    let backward: Vec<Datom> = wanted(Ordering::Greater).rev().take(limit).collect();
                    assert_eq!(read(true), backward, "{what}: {index} back from {given:?}");
                }
            }
        }
    }
}

#[test]
fn a_seek_is_a_part_of_the_index_on_every_view() {
    let conn = database();
    let db = conn.db();
    let t = annals::T(2);
    check(&db, "now");
    check(&db.as_of(t), "as of");
    check(&db.since(t), "since");
    check(&db.history(), "history");
    check(&db.history().as_of(t), "history as of");
    let with = db.with(r#"[{:p/name "n5" :p/age 1} {:p/name "new" :p/boss [:p/name "n6"]} [:db/retractEntity [:p/name "n9"]]]"#);
    check(with.unwrap().db_after(), "speculated");
    check(&db.filter(|_, d| d.e.raw() % 3 != 0), "filtered");
}
