//! The rules of transactions (semantics.md §2.3), each in every order of its forms.

use annals::{Connection, Db, EntityId, Instant, Options, T, TransactError, TxData, TxReport, Value, edn};

const SCHEMA: &str = r#"[
 {:db/ident :p/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/mail :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/code :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/value}
 {:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :p/pay :db/valueType :db.type/double :db/cardinality :db.cardinality/one}
 {:db/ident :p/big :db/valueType :db.type/bigint :db/cardinality :db.cardinality/one}
 {:db/ident :p/dec :db/valueType :db.type/bigdec :db/cardinality :db.cardinality/one}
 {:db/ident :p/tag :db/valueType :db.type/string :db/cardinality :db.cardinality/many}
 {:db/ident :p/boss :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
 {:db/ident :p/pals :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}
 {:db/ident :p/kid :db/valueType :db.type/ref :db/cardinality :db.cardinality/many :db/isComponent true}
 {:db/ident :p/ok :db/valueType :db.type/boolean :db/cardinality :db.cardinality/one}
 {:db/ident :p/twin :db/valueType :db.type/ref :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
 {:db/ident :p/at :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one :db/tupleTypes [:db.type/long :db.type/string]}
 {:db/ident :p/path :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one :db/tupleType :db.type/long}
 {:db/ident :p/even :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db.attr/preds [:my/even :pred/positive]}
 {:db/ident :audit/by :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
 {:db/ident :seat/row :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
 {:db/ident :seat/col :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
]"#;

const COMPOSITE: &str = r#"[{:db/ident :seat/at :db/valueType :db.type/tuple :db/cardinality :db.cardinality/one
  :db/unique :db.unique/identity :db/tupleAttrs [:seat/row :seat/col]}]"#;

fn options() -> Options {
    Options::new()
        .attr_predicate("my/even", |v| match v {
            Value::Long(n) if n % 2 == 0 => Ok(()),
            _ => Err("it is odd".into()),
        })
        .entity_predicate("my/adult", |db, e| match db.value(e, "p/age") {
            Ok(Some(Value::Long(n))) if n >= 18 => Ok(()),
            _ => Err("too young".into()),
        })
        .tx_function("my/birthday", |db, args| {
            let name = args.first().cloned().ok_or("a name is missing")?;
            let e = db.resolve(("p/name", name)).map_err(|e| e.to_string())?.ok_or("nobody")?;
            let Some(Value::Long(age)) = db.value(e, "p/age").map_err(|e| e.to_string())? else {
                return Err("no age".into());
            };
            Ok(annals::tx().add(e, "p/age", age + 1))
        })
        .tx_function("my/panic", |_, _| panic!("on purpose"))
}

fn people() -> Connection {
    let conn = options().in_memory().unwrap();
    conn.transact(SCHEMA).unwrap();
    conn.transact(COMPOSITE).unwrap();
    conn.transact(
        r#"[{:p/name "A" :p/age 30 :p/tag ["x" "y"]} {:p/name "B" :p/age 30} {:p/name "C" :p/code "c"}]"#,
    )
    .unwrap();
    conn
}

fn id(db: &Db, name: &str) -> EntityId {
    db.resolve(("p/name", name)).unwrap().unwrap_or_else(|| panic!("no {name}"))
}

/// `+[A :p/age 31]`-like lines of a report, without the instant, names for ids.
fn shown(r: &TxReport) -> Vec<String> {
    let db = r.db_after();
    let name = |e: EntityId| {
        let known = db.value(e, "p/name").unwrap().or(r.db_before().value(e, "p/name").unwrap());
        match known {
            Some(Value::String(s)) => s.to_string(),
            _ if e == r.tx() => "tx".into(),
            _ => "?".into(),
        }
    };
    r.tx_data()[1..]
        .iter()
        .map(|d| {
            let v = match &d.v {
                Value::Ref(e) => format!("@{}", name(*e)),
                v => edn::print(v),
            };
            let a = db.ident(d.a.entity()).unwrap();
            format!("{}[{} {a} {v}]", if d.added { '+' } else { '-' }, name(d.e))
        })
        .collect()
}

/// Runs the forms in every order (up to 24) on fresh databases; all must agree.
fn every_order(text: &str, check: impl Fn(&Connection, Result<TxReport, TransactError>)) {
    let forms = annals::read_transactions(text).unwrap().remove(0).forms;
    let mut orders = vec![vec![]];
    for i in 0..forms.len().min(4) {
        orders = orders
            .into_iter()
            .flat_map(|o: Vec<usize>| {
                (0..=o.len()).map(move |at| {
                    let mut o = o.clone();
                    o.insert(at, i);
                    o
                })
            })
            .collect();
    }
    for order in orders {
        let conn = people();
        let mut data = TxData { forms: order.iter().map(|i| forms[*i].clone()).collect(), text: None };
        data.forms.extend(forms.iter().skip(4).cloned());
        let before = conn.db().basis_t();
        let result = conn.transact(data);
        if result.is_err() {
            assert_eq!(conn.db().basis_t(), before, "a refused transaction leaves nothing");
        }
        check(&conn, result);
    }
}

fn refused(text: &str, code: &str) {
    every_order(text, |_, r| match r {
        Ok(r) => panic!("{text} passed: {:?}", shown(&r)),
        Err(e) => assert_eq!(e.code(), code, "{text}: {e}"),
    });
}

fn gives(text: &str, expected: &[&str]) {
    every_order(text, |_, r| {
        let mut found = shown(&r.unwrap_or_else(|e| panic!("{text}: {}", e.diagnostic())));
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(found, expected, "{text}");
    });
}

#[test]
fn list_forms_vectors_and_lists() {
    gives(r#"[[:db/add "n" :p/name "N"] (:db/add "n" :p/age 1)]"#, &["+[N :p/name \"N\"]", "+[N :p/age 1]"]);
}

#[test]
fn upsert_replaces_and_redundancy_writes_nothing() {
    gives(r#"[{:p/name "A" :p/age 31}]"#, &["-[A :p/age 30]", "+[A :p/age 31]"]);
    gives(r#"[{:p/name "A" :p/age 30 :p/tag "x"}]"#, &[]);
    gives(r#"[[:db/retract [:p/name "A"] :p/tag "nope"]]"#, &[]);
    let conn = people();
    let t2 = conn.transact(r#"[{:p/name "A" :p/age 31}]"#).unwrap();
    let t3 = conn.transact(r#"[{:p/name "A" :p/age 31}]"#).unwrap();
    assert_eq!(t3.tx_data().len(), 1);
    let db = conn.db();
    let d = db.datoms("eavt", &[Value::Ref(id(&db, "A")), Value::keyword("p/age")]).unwrap();
    assert_eq!(d[0].t, t2.t());
}

#[test]
fn set_semantics_conflicts() {
    refused(r#"[[:db/add [:p/name "A"] :p/age 1] [:db/add [:p/name "A"] :p/age 2]]"#, "tx/datoms-conflict");
    refused(
        r#"[[:db/add [:p/name "A"] :p/tag "z"] [:db/retract [:p/name "A"] :p/tag "z"]]"#,
        "tx/add-retract-conflict",
    );
    refused(
        r#"[[:db/add [:p/name "A"] :p/age 30] [:db/retract [:p/name "A"] :p/age 30]]"#,
        "tx/add-retract-conflict",
    );
    refused(r#"[{:p/name "A" :p/age 1} {:p/name "A" :p/age 2}]"#, "tx/datoms-conflict");
    gives(
        r#"[[:db/retract [:p/name "A"] :p/age 30] [:db/add [:p/name "A"] :p/age 5]]"#,
        &["-[A :p/age 30]", "+[A :p/age 5]"],
    );
    gives(
        r#"[[:db/add [:p/name "A"] :p/age 1] [:db/add [:p/name "A"] :p/age 1]]"#,
        &["-[A :p/age 30]", "+[A :p/age 1]"],
    );
}

#[test]
fn retract_with_and_without_value() {
    gives(r#"[[:db/retract [:p/name "A"] :p/tag]]"#, &["-[A :p/tag \"x\"]", "-[A :p/tag \"y\"]"]);
    gives(r#"[[:db/retract [:p/name "A"] :p/ok]]"#, &[]);
    let conn = people();
    conn.transact(r#"[{:p/name "A" :p/ok true} {:p/name "B" :p/ok false}]"#).unwrap();
    let r = conn.transact(r#"[[:db/retract [:p/name "A"] :p/ok false]]"#).unwrap();
    assert_eq!(shown(&r), Vec::<String>::new(), "false is a value, not the absence of one");
    let r = conn.transact(r#"[[:db/retract [:p/name "B"] :p/ok false]]"#).unwrap();
    assert_eq!(shown(&r), ["-[B :p/ok false]"]);
    refused(r#"[[:db/retract "new" :p/age]]"#, "tx/tempid-refused");
    // A tempid that another form identifies may be retracted from, before or after that form.
    gives(r#"[[:db/retract "a" :p/tag "x"] {:db/id "a" :p/name "A"}]"#, &["-[A :p/tag \"x\"]"]);
    gives(r#"[[:db/retract "n" :p/tag "x"] {:db/id "n" :p/name "N"}]"#, &["+[N :p/name \"N\"]"]);
    refused(r#"[[:db/retract "n" :p/tag "x"] {:p/name "A" :p/boss "n"}]"#, "tx/tempid-only-value");
}

#[test]
fn tempids_meet_and_upsert_to_a_fixpoint() {
    every_order(
        r#"[{:db/id "x" :p/name "N"} {:db/id "y" :p/name "N" :p/age 1} [:db/add "y" :p/tag "t"]]"#,
        |_, r| {
            let r = r.unwrap();
            assert_eq!(r.tempid("x"), r.tempid("y"));
            assert_eq!(r.tx_data().len(), 4);
        },
    );
    // "u" is A by name; "v" has A's new twin, so "v" and "w" are one as well.
    every_order(
        r#"[{:db/id "u" :p/name "A"} {:db/id "v" :p/twin "u" :p/age 7} {:db/id "w" :p/twin [:p/name "A"]}]"#,
        |_, r| {
            let r = r.unwrap();
            assert_eq!(r.tempid("v"), r.tempid("w"));
            assert_eq!(r.tempid("u"), Some(id(r.db_after(), "A")));
        },
    );
    every_order(r#"[[:db/add "m" :p/mail "a@x.y"] [:db/add "m" :p/name "A"]]"#, |_, r| {
        assert_eq!(shown(&r.unwrap()), ["+[A :p/mail \"a@x.y\"]"]);
    });
    refused(r#"[[:db/add "m" :p/name "A"] [:db/add "m" :p/name "B"]]"#, "tx/upsert-conflict");
    refused(r#"[[:db/add [:p/name "A"] :p/boss "nobody"]]"#, "tx/tempid-only-value");
    refused(r#"[[:db/add ":x" :p/age 1]]"#, "tx/bad-tempid");
    refused(r#"[[:db/add "datomic.foo" :p/age 1]]"#, "tx/bad-tempid");
    refused(r#"[[:db/add -1 :p/age 1]]"#, "tx/bad-tempid");
}

#[test]
fn uniqueness_is_judged_on_the_database_after() {
    refused(r#"[{:p/name "N" :p/code "c"}]"#, "tx/unique-conflict");
    refused(r#"[{:p/name "N" :p/code "z"} {:p/name "M" :p/code "z"}]"#, "tx/unique-conflict");
    refused(r#"[[:db/add [:p/name "B"] :p/name "A"]]"#, "tx/unique-conflict");
    every_order(r#"[[:db/add [:p/name "A"] :p/name "B"] [:db/add [:p/name "B"] :p/name "A"]]"#, |_, r| {
        let r = r.unwrap();
        assert_eq!(id(r.db_before(), "A"), id(r.db_after(), "B"));
        assert_eq!(id(r.db_before(), "B"), id(r.db_after(), "A"));
    });
    every_order(r#"[[:db/retract [:p/name "C"] :p/code "c"] {:p/name "N" :p/code "c"}]"#, |_, r| {
        r.unwrap();
    });
}

#[test]
fn explicit_id_against_identity_is_a_conflict_naming_the_holder() {
    let conn = people();
    let (a, b) = (id(&conn.db(), "A"), id(&conn.db(), "B"));
    match conn.transact(format!(r#"[{{:db/id {} :p/name "A"}}]"#, b.raw())) {
        Err(TransactError::UniqueConflict { holder, entity, .. }) => assert_eq!((holder, entity), (a, b)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lookup_refs_and_idents_see_the_database_before() {
    refused(r#"[[:db/add [:p/name "N"] :p/age 1] {:p/name "N"}]"#, "tx/lookup-missing");
    refused(r#"[[:db/add [:p/age 30] :p/age 1]]"#, "tx/lookup-not-unique");
    refused(r#"[{:p/name "N" :p/boss :no/such}]"#, "tx/unknown-ident");
    refused(
        r#"[{:db/ident :x/new :db/valueType :db.type/long :db/cardinality :db.cardinality/one} {:p/name "A" :x/new 1}]"#,
        "tx/attribute-too-new",
    );
    refused(r#"[{:p/name "A" :p/nmae "x"}]"#, "tx/unknown-attribute");
    refused(r#"[[:db/add 17592186044999999 :p/age 1]]"#, "tx/no-such-entity");
    refused(r#"[[:db/add 1 :p/age 1]]"#, "tx/reserved");
}

#[test]
fn references_in_all_forms() {
    every_order(
        r#"[{:p/name "N" :p/boss "m" :p/pals [[:p/name "A"] "m"]} {:db/id "m" :p/name "M" :p/_pals [[:p/name "B"]]}]"#,
        |_, r| {
            let mut s = shown(&r.unwrap());
            s.sort();
            assert_eq!(
                s,
                [
                    "+[B :p/pals @M]",
                    "+[M :p/name \"M\"]",
                    "+[N :p/boss @M]",
                    "+[N :p/name \"N\"]",
                    "+[N :p/pals @A]",
                    "+[N :p/pals @M]"
                ]
            );
        },
    );
    refused(r#"[{:p/name "N" :p/pals [:p/name "A"]}]"#, "tx/bad-form");
    refused(r#"[{:p/name "N" :p/_age 1}]"#, "tx/reverse-not-ref");
    gives(
        r#"[{:p/name "N" :p/boss {:p/name "A" :p/age 3}}]"#,
        &["+[N :p/name \"N\"]", "+[N :p/boss @A]", "-[A :p/age 30]", "+[A :p/age 3]"],
    );
    refused(r#"[{:p/name "N" :p/boss {:p/age 3}}]"#, "tx/nested-not-identified");
    refused(r#"[{:p/name "N" :p/age {:p/name "M"}}]"#, "tx/wrong-type");
    gives(
        r#"[{:p/name "N" :p/kid [{:p/age 3}]}]"#,
        &["+[N :p/name \"N\"]", "+[N :p/kid @?]", "+[? :p/age 3]"],
    );
}

#[test]
fn components_go_with_their_whole() {
    let conn = people();
    conn.transact(r#"[{:p/name "P" :p/boss [:p/name "A"] :p/kid [{:db/id "k" :p/name "K" :p/kid [{:p/name "L" :p/kid ["k"]}]}]}
                      {:p/name "A" :p/boss "p2"} {:db/id "p2" :p/name "Q"} [:db/add [:p/name "B"] :p/pals "p2"]]"#)
        .unwrap();
    conn.transact(r#"[[:db/add [:p/name "B"] :p/pals [:p/name "P"]]]"#).unwrap();
    let before = conn.db();
    let r = conn.transact(r#"[[:db/retractEntity [:p/name "P"]]]"#).unwrap();
    for n in ["P", "K", "L"] {
        assert_eq!(r.db_after().resolve(("p/name", n)).unwrap(), None);
        assert!(before.resolve(("p/name", n)).unwrap().is_some());
    }
    assert!(shown(&r).contains(&"-[B :p/pals @P]".to_string()));
    assert!(r.db_after().resolve(("p/name", "A")).unwrap().is_some(), "a plain reference stays");
}

#[test]
fn compare_and_swap() {
    gives(r#"[[:db/cas [:p/name "A"] :p/age 30 31]]"#, &["-[A :p/age 30]", "+[A :p/age 31]"]);
    gives(r#"[[:db.fn/cas [:p/name "C"] :p/age nil 1]]"#, &["+[C :p/age 1]"]);
    gives(
        r#"[[:db/cas [:p/name "A"] :p/age 30 31] [:db/cas [:p/name "A"] :p/age 30 31]]"#,
        &["-[A :p/age 30]", "+[A :p/age 31]"],
    );
    refused(
        r#"[[:db/cas [:p/name "A"] :p/age 30 31] [:db/cas [:p/name "A"] :p/age 30 32]]"#,
        "tx/datoms-conflict",
    );
    refused(r#"[[:db/cas [:p/name "A"] :p/age nil 31]]"#, "tx/cas-failed");
    refused(r#"[[:db/cas [:p/name "A"] :p/age 29 31] {:p/name "N"}]"#, "tx/cas-failed");
    refused(r#"[[:db/cas [:p/name "A"] :p/tag "x" "z"]]"#, "tx/cas-many");
    refused(r#"[[:db/cas "new" :p/age nil 31]]"#, "tx/tempid-refused");
}

#[test]
fn malformed_data() {
    refused(r#"[[:db/frobnicate [:p/name "A"] :p/age 1]]"#, "tx/unknown-operation");
    refused(r#"[[:db/add [:p/name "A"]]]"#, "tx/wrong-arity");
    refused(r#"[[]]"#, "tx/bad-form");
    refused(r#"[5]"#, "tx/bad-form");
    refused(r#"[[:db/add [:p/name "A"] :p/age nil]]"#, "tx/nil-value");
    refused(r#"[{:p/name "A" :p/age [1 2]}]"#, "tx/many-for-one");
    refused(r#"[[:db/add {} :p/age 1]]"#, "tx/bad-entity");
    refused(r#"[[:db/add [:p/name "A"] "p/age" 1]]"#, "tx/bad-attribute");
    let conn = people();
    assert_eq!(conn.transact("[{:a").unwrap_err().code(), "tx/syntax");
    assert_eq!(conn.transact("[] []").unwrap_err().code(), "tx/not-one-transaction");
    assert_eq!(conn.transact("").unwrap_err().code(), "tx/not-one-transaction");
    let nan = annals::tx().add(id(&conn.db(), "A"), "p/pay", Value::Double(f64::NAN));
    assert_eq!(conn.transact(nan).unwrap_err().code(), "tx/nan");
    let deep = (0..100).fold(Value::map([]), |m, _| Value::map([(Value::keyword("p/kid"), m)]));
    assert_eq!(conn.transact(vec![deep]).unwrap_err().code(), "tx/too-deep");
}

#[test]
fn values_are_coerced_only_without_loss() {
    gives(
        r#"[{:p/name "A" :p/pay 3 :p/big 4 :p/dec 5}]"#,
        &["+[A :p/pay 3.0]", "+[A :p/big 4N]", "+[A :p/dec 5M]"],
    );
    refused(r#"[{:p/name "A" :p/pay 9007199254740993}]"#, "tx/wrong-type");
    refused(r#"[{:p/name "A" :p/age 3.0}]"#, "tx/wrong-type");
    refused(r#"[{:p/name "A" :p/age "3"}]"#, "tx/wrong-type");
}

#[test]
fn tuples() {
    gives(
        r#"[{:p/name "A" :p/at [1 "x"] :p/path [1 2 3]}]"#,
        &["+[A :p/at [1 \"x\"]]", "+[A :p/path [1 2 3]]"],
    );
    gives(r#"[{:p/name "A" :p/at [nil "x"]}]"#, &["+[A :p/at [nil \"x\"]]"]);
    refused(r#"[{:p/name "A" :p/at [1]}]"#, "tx/bad-tuple");
    refused(r#"[{:p/name "A" :p/at ["x" 1]}]"#, "tx/wrong-type");
    refused(r#"[{:p/name "A" :p/path [1]}]"#, "tx/bad-tuple");
    refused(r#"[{:p/name "A" :seat/at [1 "x"]}]"#, "tx/composite-written");
}

#[test]
fn composites_follow_their_parts() {
    let conn = people();
    let r = conn.transact(r#"[{:db/id "s" :seat/row 1 :seat/col "a"}]"#).unwrap();
    let s = r.tempid("s").unwrap();
    let at = |db: &Db| db.value(s, "seat/at").unwrap().map(|v| edn::print(&v));
    assert_eq!(at(r.db_after()).as_deref(), Some("[1 \"a\"]"));
    // Giving all the parts finds the entity, in either order of the forms.
    let r = conn
        .transact(r#"[[:db/add "x" :seat/col "a"] [:db/add "x" :seat/row 1] [:db/add "x" :p/name "S"]]"#)
        .unwrap();
    assert_eq!(r.tempid("x"), Some(s));
    assert_eq!(conn.db().resolve(("seat/at", Value::vector([Value::Long(1), "a".into()]))).unwrap(), Some(s));
    let r = conn.transact(format!("[[:db/retract {} :seat/col]]", s.raw())).unwrap();
    assert_eq!(at(r.db_after()).as_deref(), Some("[1 nil]"));
    let r = conn.transact(format!("[[:db/retract {} :seat/row]]", s.raw())).unwrap();
    assert_eq!(at(r.db_after()), None);
    assert_eq!(
        conn.transact(r#"[{:db/id "s" :seat/row 2 :seat/col "b"} {:p/name "T" :seat/row 2 :seat/col "b"}]"#)
            .map(|r| r.tempids().count())
            .unwrap(),
        1,
        "two new entities with the same parts are one"
    );
}

#[test]
fn the_transaction_is_an_entity() {
    let conn = people();
    let r = conn.transact(r#"[{:p/name "A" :p/age 5} {:db/id "datomic.tx" :audit/by "kim"}]"#).unwrap();
    assert_eq!(conn.db().value(r.tx(), "audit/by").unwrap(), Some("kim".into()));
    let r = conn.transact("[]").unwrap();
    assert_eq!(r.tx_data().len(), 1, "an empty transaction exists");
}

#[test]
fn instants() {
    let now = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(1_000_000));
    let clock = now.clone();
    let conn = options()
        .clock(move || Instant(clock.load(std::sync::atomic::Ordering::SeqCst)))
        .in_memory()
        .unwrap();
    let set = |i| now.store(i, std::sync::atomic::Ordering::SeqCst);
    let explicit = |i: i64| {
        annals::tx().form(Value::map([
            (Value::keyword("db/id"), "datomic.tx".into()),
            (Value::keyword("db/txInstant"), Value::Instant(Instant(i))),
        ]))
    };
    assert_eq!(conn.transact("[]").unwrap().tx_instant(), Instant(1_000_000));
    assert_eq!(conn.transact("[]").unwrap().tx_instant(), Instant(1_000_001), "strictly increasing");
    set(5);
    assert_eq!(conn.transact("[]").unwrap().tx_instant(), Instant(1_000_002), "whatever the clock does");
    assert_eq!(conn.transact(explicit(1_000_001)).unwrap_err().code(), "tx/instant-backwards");
    set(3_000_000);
    assert_eq!(conn.transact(explicit(3_000_001)).unwrap_err().code(), "tx/instant-future");
    assert_eq!(conn.transact(explicit(2_000_000)).unwrap().tx_instant(), Instant(2_000_000));
    let t = conn.transact(explicit(2_000_000)).unwrap().t();
    assert_eq!(conn.db().t_of(Instant(2_000_000)).unwrap(), t, "of equal instants as-of means the last");
    let old = conn.transact("[]").unwrap();
    let meddle = annals::tx().add(old.tx(), "db/txInstant", Instant(2_500_000));
    assert_eq!(conn.transact(meddle).unwrap_err().code(), "tx/instant-elsewhere");
}

#[test]
fn host_functions_and_predicates() {
    gives(r#"[[:my/birthday "A"]]"#, &["-[A :p/age 30]", "+[A :p/age 31]"]);
    gives(r#"[[:my/birthday "A"] [:my/birthday "A"]]"#, &["-[A :p/age 30]", "+[A :p/age 31]"]);
    refused(r#"[[:my/birthday "Z"]]"#, "tx/function-refused");
    refused(r#"[[:my/birthdya "Z"]]"#, "tx/unknown-operation");
    refused(r#"[[:my/panic]]"#, "tx/host-panic");
    gives(r#"[{:p/name "A" :p/even 2}]"#, &["+[A :p/even 2]"]);
    refused(r#"[{:p/name "A" :p/even 3}]"#, "tx/attribute-predicate");
    refused(r#"[{:p/name "A" :p/even -2}]"#, "tx/attribute-predicate");
}

#[test]
fn entity_specs() {
    let conn = people();
    conn.transact("[{:db/ident :spec/adult :db.entity/attrs [:p/name :p/age] :db.entity/preds [my/adult]}]")
        .unwrap();
    let bad = |text: &str, code: &str| assert_eq!(conn.transact(text).unwrap_err().code(), code, "{text}");
    bad(r#"[{:p/name "N" :db/ensure :spec/adult}]"#, "tx/ensure-missing");
    bad(r#"[{:p/name "N" :p/age 17 :db/ensure :spec/adult}]"#, "tx/entity-predicate");
    bad(r#"[{:p/name "N" :db/ensure :p/name}]"#, "tx/bad-spec");
    // The check sees the database after, whatever form brings the fact.
    let r = conn
        .transact(r#"[{:db/id "n" :p/name "N" :db/ensure :spec/adult} [:db/add "n" :p/age 18]]"#)
        .unwrap();
    assert_eq!(shown(&r), ["+[N :p/name \"N\"]", "+[N :p/age 18]"], ":db/ensure is not stored");
    bad(
        r#"[[:db/add [:p/name "A"] :p/age 3] {:db/id [:p/name "A"] :db/ensure :spec/adult}]"#,
        "tx/entity-predicate",
    );
}

#[test]
fn errors_point_at_place_and_text() {
    let conn = people();
    let text = "[{:p/name \"A\"}\n {:p/name \"B\" :p/age \"old\"}]";
    let d = conn.transact(text).unwrap_err().diagnostic();
    assert_eq!(d.path.as_deref(), Some("tx[1] :p/age"));
    assert_eq!(&text[d.labels[0].span.start..d.labels[0].span.end], "\"old\"");
    let d = conn.transact(r#"[{:p/nmae "A"}]"#).unwrap_err().diagnostic();
    assert_eq!(d.help.as_deref(), Some("did you mean :p/name?"));
    // What should not be named is pointed at itself, not the value under it.
    for (text, code, at) in [
        (r#"[{:p/name "A"} {:p/name "B" :p/nmae ":p/nmae"}]"#, "tx/unknown-attribute", ":p/nmae"),
        (r#"[[:db/add "x" :p/nmae "A"]]"#, "tx/unknown-attribute", ":p/nmae"),
        (r#"[{:p/name "A" :p/_bsos "x"}]"#, "tx/unknown-attribute", ":p/_bsos"),
        (r#"[{:p/name "A" :p/kid [{:p/nmae "B"}]}]"#, "tx/unknown-attribute", ":p/nmae"),
        (
            r#"[{:db/ident :p/new :db/valueType :db.type/long :db/cardinality :db.cardinality/one} {:p/new 1}]"#,
            "tx/attribute-too-new",
            ":p/new",
        ),
    ] {
        let d = conn.transact(text).unwrap_err().diagnostic();
        let span = d.labels[0].span;
        assert_eq!((d.code, &text[span.start..span.end]), (code, at), "{text}");
    }
    let built = annals::tx().entity([("p/name", "A".into()), ("p/age", "old".into())]);
    assert_eq!(conn.transact(built).unwrap_err().diagnostic().path.as_deref(), Some("tx[0] :p/age"));
}

#[test]
fn errors_name_the_slot_and_what_belongs_to_the_database() {
    let said = |tx: &str| {
        let e = people().transact(tx).unwrap_err();
        format!("{e} / {}", e.diagnostics()[0].path.clone().unwrap_or_default())
    };
    assert_eq!(
        said(r#"[{:p/name "A" :p/at [1 2]}]"#),
        "slot 1 of :p/at holds values of type string, not long / tx[0] :p/at slot 1"
    );
    assert!(said("[[:db/add :db/ident :db/doc \"mine\"]]").starts_with(":db/ident is part of the database"));
}

#[test]
fn an_attribute_stays_and_the_reason_is_the_true_one() {
    let conn = people();
    let refused = |text: &str| {
        let e = conn.transact(text).unwrap_err();
        assert_eq!(e.code(), "tx/unsafe-alteration", "{text}");
        e.to_string()
    };
    conn.transact(r#"[{:db/id "n" :p/name "N" :p/age 3}]"#).unwrap();
    conn.transact(r#"[[:db/retract [:p/name "N"] :p/age]]"#).unwrap();
    for (attr, used) in [("p/name", true), ("p/age", true), ("p/big", false)] {
        for form in
            [format!("[[:db/retract :{attr} :db/ident :{attr}]]"), format!("[[:db/retractEntity :{attr}]]")]
        {
            let said = refused(&form);
            let (facts, stays) = (said.contains("still use it"), said.contains("used or not"));
            assert_eq!((facts, stays), (used, !used), "{form}: {said}");
        }
    }
}

#[test]
fn ids_are_not_reused_and_t_is_dense() {
    let conn = people();
    let t0 = conn.db().t();
    let a = conn.transact(r#"[{:db/id "n" :p/name "N"}]"#).unwrap();
    conn.transact(r#"[[:db/retractEntity [:p/name "N"]]]"#).unwrap();
    let b = conn.transact(r#"[{:db/id "n" :p/name "N"}]"#).unwrap();
    assert_ne!(a.tempid("n"), b.tempid("n"));
    assert_eq!(b.t(), T(t0.0 + 3));
}
