//! Whole transactions out of one database and into another.

use annals::{Connection, Datom, Eid, Excision, T, Value, event::Append, tx};

/// What the writer remembers of streams must not outlive records that did not come through it.
#[test]
fn an_append_behind_a_loaded_dump_takes_the_next_position() {
    let append = |conn: &annals::Connection, id: u128| {
        let event = annals::event::NewEvent::new("Ticked", r#"{"n": 1}"#).unwrap();
        conn.append(Append::to("clock-1").push(event.id(uuid::Uuid::from_u128(id)))).unwrap()
    };
    let (from, to) = (annals::in_memory().unwrap(), annals::in_memory().unwrap());
    let first = append(&to, 9);
    append(&from, 1);
    append(&from, 2);
    assert_eq!((first.first.0, first.version().0), (1, 1));
    // Loaded where the database ends: positions and versions are those of the dump.
    let last = from.db().t();
    let dumped: Vec<_> = from.dump(T(2), last.next()).unwrap().collect::<Result<_, _>>().unwrap();
    let (loaded, refused) = to.load_dump(dumped);
    assert!(loaded == 1 && refused.is_none(), "{refused:?}");
    let next = append(&to, 10);
    assert_eq!((next.first.0, next.version().0), (3, 3));
}

/// Every datom that a database shows, in the order of its index.
fn all(db: &annals::Db) -> Vec<Datom> {
    db.datoms("eavt", &[]).unwrap()
}

/// What an excision took out is in no dump, and what it left answers the same at every t.
#[test]
fn a_dump_after_an_excision_answers_the_same_at_every_t() {
    let dir = tempfile::tempdir().unwrap();
    let from = annals::open(dir.path()).unwrap();
    let steps = [
        r#"[{:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
            {:db/ident :p/mail :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
            {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
            {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
            {:db/ident :tx/why :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]"#,
        r#"[{:db/id "a" :p/name "A" :p/mail "a@x" :p/age 1} {:p/name "B" :p/mail "a@x" :p/boss "a"}]"#,
        r#"[{:p/name "A" :p/mail "b@x" :p/age 2}]"#,
        r#"[{:p/name "A" :p/mail "a@x"} {:p/name "C" :p/age 3 :p/boss [:p/name "B"]}]"#,
        r#"[[:db/retract [:p/name "B"] :p/mail "a@x"]]"#,
    ];
    for text in steps {
        from.transact(text).unwrap();
    }
    from.append(Append::to("s-1").event("Opened", r#"{"n": 1}"#).unwrap()).unwrap();
    let a = from.db().resolve(("p/name", "A")).unwrap().unwrap();
    let mail = Excision::Value { entity: Some(Eid::Id(a)), attr: "p/mail".into(), value: "a@x".into() };
    from.excise(&[mail], r#"[{:db/id "datomic.tx" :tx/why "request 17"}]"#).unwrap();
    from.transact(r#"[{:p/name "A" :p/mail "c@x"}]"#).unwrap();
    from.excise(&[Excision::Attribute { attr: "p/age".into(), before: Some(T(4)) }], tx()).unwrap();
    from.excise(&[Excision::Entity(Eid::from(("p/name", "C")))], tx()).unwrap();
    from.append(Append::to("s-1").event("Closed", "{}").unwrap()).unwrap();

    let to = annals::in_memory().unwrap();
    let dump = |conn: &Connection| -> Vec<_> {
        let end = conn.db().t().next();
        conn.dump(T(1), end).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let dumped = dump(&from);
    let (loaded, refused) = to.load_dump(dumped.clone());
    assert!(loaded == dumped.len() && refused.is_none(), "{refused:?}");
    assert_eq!(dump(&to), dumped);
    let (f, t) = (from.db(), to.db());
    assert_eq!(f.t(), t.t());
    for at in 0..=f.t().0 {
        assert_eq!(all(&f.as_of(T(at))), all(&t.as_of(T(at))), "as of {at}");
        assert_eq!(all(&f.since(T(at))), all(&t.since(T(at))), "since {at}");
    }
    assert_eq!(all(&f.history()), all(&t.history()));
    assert!(
        all(&t.history()).iter().all(|d| d.e != a || d.v != Value::from("a@x")),
        "it is gone from the copy too"
    );
    assert!(
        all(&t.history()).iter().any(|d| d.v == Value::from("a@x")),
        "another entity's equal value stays"
    );
    assert_eq!(
        f.events().all(&[], Default::default(), 9).unwrap(),
        t.events().all(&[], Default::default(), 9).unwrap()
    );
    // The copy goes on where the original does.
    let closed = |conn: &Connection| {
        let id = uuid::Uuid::from_u128(5);
        let event = annals::event::NewEvent::new("Archived", "{}").unwrap().id(id);
        conn.append(Append::to("s-1").push(event)).unwrap()
    };
    assert_eq!(closed(&from), closed(&to));
}
