//! Events at library level: scenarios of the acceptance list by their numbers. The known answers
//! of the real logs are in `events_datasets.rs`.

use annals::{
    Connection, T, Value,
    event::{
        Append, AppendError, EventId, Expected, Feed, GuardQuery, Item, NewEvent, Position, Projection,
        ProjectionSpec, Start, StreamId, Tag, Upcaster, Version, personal,
    },
};
use serde_json::json;
use std::{
    sync::{Arc, Barrier},
    time::Duration,
};

fn memory() -> Connection {
    annals::in_memory().expect("a database in memory opens")
}
fn event(ty: &str, data: serde_json::Value) -> NewEvent {
    NewEvent::new(ty, data).unwrap()
}
fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}
fn count(conn: &Connection) -> u64 {
    conn.db().events().head().unwrap().0
}
fn scalar(db: &annals::Db, q: &str) -> i64 {
    match db.query(q, ()).unwrap().scalar() {
        Some(Value::Long(n)) => n,
        None => 0,
        other => panic!("{q}: {other:?}"),
    }
}

#[test]
fn a1_versions_and_positions_are_dense_and_a_second_new_stream_is_refused() {
    let conn = memory();
    let two = || Append::to("order-1").expect_new().push(event("A", json!({}))).push(event("B", json!({})));
    let done = conn.append(two()).unwrap();
    assert_eq!((done.version(), done.first, done.last), (Version(2), Position(1), Position(2)));
    let again = conn.append(two());
    assert!(matches!(again, Err(AppendError::WrongVersion { actual: Version(2), .. })), "{again:?}");
    let said = conn.append(Append::to("order-1").expect_version(3).push(event("C", json!({})))).unwrap_err();
    assert_eq!(said.to_string(), "stream order-1 is at version 2, expected 3");
    assert_eq!(count(&conn), 2);
}

#[test]
fn a2_of_two_writers_at_one_version_exactly_one_succeeds() {
    let conn = memory();
    for round in 0..100u64 {
        let barrier = Arc::new(Barrier::new(2));
        let racers: Vec<_> = (0..2)
            .map(|_| {
                let (conn, barrier) = (conn.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    conn.append(Append::to("s-1").expect_version(round).push(event("E", json!({})))).is_ok()
                })
            })
            .collect();
        let won = racers.into_iter().filter(|_| true).map(|r| r.join().unwrap()).filter(|won| *won).count();
        assert_eq!(won, 1, "round {round}");
    }
    let all = conn.db().events().stream(&stream("s-1"), Version(1), 1000).unwrap();
    let numbers: Vec<_> = all.iter().map(|e| (e.version.0, e.position.0)).collect();
    assert_eq!(numbers, (1..=100).map(|n| (n, n)).collect::<Vec<_>>());
}

#[test]
fn a4_a_retry_is_answered_and_other_content_order_or_parts_are_three_errors() {
    let conn = memory();
    let (a, b, c) = (event("A", json!({"n": 1})), event("B", json!({})), event("C", json!({})));
    let batch = |events: Vec<NewEvent>, e| {
        conn.append(events.into_iter().fold(Append::to("s-1").expect(e), Append::push))
    };
    let first = batch(vec![a.clone(), b.clone()], Expected::Exact(Version(0))).unwrap();
    for _ in 0..10 {
        conn.append(Append::to("s-1").push(event("X", json!({})))).unwrap();
    }
    for e in [Expected::Exact(Version(0)), Expected::Any] {
        let again = batch(vec![a.clone(), b.clone()], e).unwrap();
        assert!(again.replayed);
        assert_eq!((again.t, again.first, again.last), (first.t, first.first, first.last));
    }
    let basis = conn.db().basis_t();
    assert_eq!(batch(vec![b.clone(), a.clone()], Expected::Any).unwrap_err().code(), "event/other-order");
    assert_eq!(batch(vec![a.clone(), c], Expected::Any).unwrap_err().code(), "event/partly-stored");
    let other = event("A", json!({"n": 2})).id(a.id);
    assert_eq!(batch(vec![other, b], Expected::Any).unwrap_err().code(), "event/id-reused");
    assert_eq!(conn.db().basis_t(), basis);
}

#[test]
fn a5_a6_a_condition_by_tag_lets_one_through_and_does_not_block_others() {
    let conn = memory();
    let after = conn.db().basis_t();
    let racers: Vec<_> = (0..16)
        .map(|i| {
            let conn = conn.clone();
            std::thread::spawn(move || {
                let tag = Tag::new("username:ada").unwrap();
                conn.append(
                    Append::to(format!("user-{i}"))
                        .push(event("Registered", json!({})).tag(tag))
                        .none_match(vec![Item::tags(["username:ada"]).unwrap()], after),
                )
            })
        })
        .collect();
    let answers: Vec<_> = racers.into_iter().map(|r| r.join().unwrap()).collect();
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
    for e in answers.iter().filter_map(|a| a.as_ref().err()) {
        assert!(
            matches!(e, AppendError::ConditionFailed { witness, .. } if witness == &[Position(1)]),
            "{e:?}"
        );
    }
    let bob = Tag::new("username:bob").unwrap();
    conn.append(
        Append::to("user-99")
            .push(event("Registered", json!({})).tag(bob))
            .none_match(vec![Item::tags(["username:bob"]).unwrap()], after),
    )
    .unwrap();
    let full = GuardQuery::new("[:find (count ?e) . :where [?e :event/type \"Registered\"]]", []);
    let stale = conn
        .append(Append::to("user-100").push(event("Registered", json!({}))).unchanged(full.clone(), after));
    assert_eq!(stale.unwrap_err().code(), "event/condition-failed");
    let now = conn.db().basis_t();
    conn.append(Append::to("user-100").push(event("Registered", json!({}))).unchanged(full.clone(), now))
        .unwrap();
    // A decision cannot have been made on what has not happened: such a condition would check nothing.
    let ahead = conn.db().basis_t().next();
    for append in [
        Append::to("user-101").none_match(vec![Item::tags(["username:ada"]).unwrap()], ahead),
        Append::to("user-101").unchanged(full, ahead),
    ] {
        let refused = conn.append(append.push(event("Registered", json!({})))).unwrap_err();
        assert_eq!(refused.code(), "event/bad-guard");
        assert!(refused.to_string().contains("has not happened"), "{refused}");
    }
}

const ORDERS: &str = r#"
{:projection/name :orders
 :projection/schema [{:db/ident :order/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                      :db/unique :db.unique/identity}
                     {:db/ident :order/status :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
                     {:db/ident :order/total :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
 :projection/on [{:event "OrderPlaced"
                  :assert [{:order/id $stream.key :order/status :placed :order/total $data.total}]}
                 {:event "LineAdded"
                  :assert [{:order/id $stream.key
                            :order/total (+ (current :order/total 0) $data.amount)}]}
                 {:event "OrderCancelled"
                  :assert [{:order/id $stream.key :order/status :cancelled}]}]}"#;

#[test]
fn a7_inline_facts_are_there_at_once_and_an_error_refuses_the_append() {
    let conn = memory();
    conn.add_projection(ORDERS).unwrap();
    let place = |n: serde_json::Value| {
        conn.append(Append::to("order-7").push(event("OrderPlaced", json!({"total": n}))))
    };
    place(json!(5)).unwrap();
    let total = "[:find ?t . :where [?o :order/id \"7\"] [?o :order/total ?t]]";
    assert_eq!(scalar(&conn.db(), total), 5);
    let e = place(json!("many")).unwrap_err();
    assert_eq!(e.code(), "event/inline-projection");
    assert_eq!(count(&conn), 1);
    conn.append(
        Append::to("order-7")
            .push(event("LineAdded", json!({"amount": 2})))
            .push(event("LineAdded", json!({"amount": 3}))),
    )
    .unwrap();
    assert_eq!(scalar(&conn.db(), total), 10);
    assert_eq!(count(&conn), 3);
    let owned = conn.transact(r#"[{:order/id "7" :order/total 1}]"#).unwrap_err();
    assert_eq!(owned.code(), "tx/owned-attribute");
}

#[test]
fn a9_a_subscription_sees_every_event_once_in_order_while_others_append() {
    let conn = memory();
    const WRITERS: u64 = 4;
    const EACH: u64 = 100;
    const BATCH: u64 = 5;
    let writers: Vec<_> = (0..WRITERS)
        .map(|w| {
            let conn = conn.clone();
            std::thread::spawn(move || {
                for _ in 0..EACH {
                    let batch =
                        (0..BATCH).fold(Append::to(format!("w-{w}")), |a, _| a.push(event("E", json!({}))));
                    conn.append(batch).unwrap();
                }
            })
        })
        .collect();
    let mut feed = conn.subscribe(Vec::new(), Start::Beginning).unwrap();
    let mut last = 0;
    while last < WRITERS * EACH * BATCH {
        if let Some(Feed::Event(e)) = feed.next_within(Duration::from_secs(20)).unwrap() {
            assert_eq!(e.position.0, last + 1);
            last += 1;
        }
    }
    writers.into_iter().for_each(|w| w.join().unwrap());
    assert_eq!(feed.next_within(Duration::from_secs(1)).unwrap(), Some(Feed::CaughtUp(Position(last))));
    assert_eq!(feed.next_within(Duration::from_millis(1)).unwrap(), None);
}

#[test]
fn a12_a_filtered_subscription_moves_its_checkpoint_without_a_match() {
    let conn = memory();
    let ty = |n: u64| if n == 5_000 { "Rare" } else { "Noise" };
    let many = (1..=10_000).fold(Append::to("noise-1"), |a, n| a.push(event(ty(n), json!({}))));
    conn.append(many).unwrap();
    let rare = || vec![Item::types(["Rare"]).unwrap()];
    let mut feed = conn.subscribe(rare(), Start::Beginning).unwrap();
    let mut next = || feed.next_within(Duration::ZERO).unwrap();
    assert!(matches!(next(), Some(Feed::Event(e)) if e.position == Position(5_000)));
    assert_eq!(next(), Some(Feed::Checkpoint(Position(10_000))));
    assert_eq!(next(), Some(Feed::CaughtUp(Position(10_000))));
    // Who begins again there reads nothing again.
    let mut feed = conn.subscribe(rare(), Start::After(Position(10_000))).unwrap();
    assert_eq!(feed.next_within(Duration::ZERO).unwrap(), Some(Feed::CaughtUp(Position(10_000))));
    let mut feed = conn.subscribe(rare(), Start::After(Position(5_000))).unwrap();
    assert_eq!(feed.next_within(Duration::ZERO).unwrap(), Some(Feed::Checkpoint(Position(10_000))));
}

#[test]
fn a14_a_rebuilt_version_takes_over_in_one_transaction() {
    let conn = memory();
    conn.add_projection(ORDERS).unwrap();
    let placed = conn.append(Append::to("order-1").push(event("OrderPlaced", json!({"total": 4})))).unwrap();
    conn.append(Append::to("order-1").push(event("OrderCancelled", json!({})))).unwrap();
    let old = conn.db();
    let v2 = ORDERS
        .replace(":projection/schema", ":projection/version 2 :projection/schema")
        .replace(":order/total $data.total", ":order/total (* 10 $data.total)");
    conn.add_projection(&v2).unwrap();
    let total = "[:find ?t . :where [?o :order/id \"1\"] [?o :order/total ?t]]";
    assert_eq!(scalar(&old, total), 4, "a value taken before the flip keeps its answer");
    assert_eq!(scalar(&conn.db(), total), 40);
    assert_eq!(scalar(&conn.db().as_of(placed.t), "[:find ?t . :where [?o :order.v2/total ?t]]"), 40);
    conn.append(Append::to("order-2").push(event("OrderPlaced", json!({"total": 1})))).unwrap();
    assert_eq!(scalar(&conn.db(), "[:find ?t . :where [?o :order/id \"2\"] [?o :order/total ?t]]"), 10);
}

struct Split;
impl Upcaster for Split {
    fn from(&self) -> (&str, u32) {
        ("Named", 1)
    }
    fn upcast(&self, e: NewEvent) -> Vec<NewEvent> {
        let name = match e.data.field("name") {
            Ok(Some(Value::String(s))) => s.to_string(),
            _ => String::new(),
        };
        let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
        let make = |ty: &str, data| NewEvent { ty: ty.try_into().unwrap(), data, schema: 2, ..e.clone() };
        let data = |v: serde_json::Value| annals::event::Data::from_json(&v).unwrap();
        vec![
            make("FirstNamed", data(json!({ "first": first }))),
            make("LastNamed", data(json!({ "last": last }))),
        ]
    }
}

#[test]
fn a22_every_read_path_sees_the_new_shape() {
    let conn = memory();
    conn.append(Append::to("p-1").push(event("Named", json!({"name": "Ada Lovelace"})))).unwrap();
    let before = conn.db().basis_t();
    conn.upcast(Split).unwrap();
    let read = conn.db().events().stream(&stream("p-1"), Version(1), 10).unwrap();
    let shapes: Vec<_> =
        read.iter().map(|e| (e.ty().to_owned(), e.position.0, e.version.0, e.part)).collect();
    assert_eq!(shapes, [("FirstNamed".to_owned(), 1, 1, 0), ("LastNamed".to_owned(), 1, 1, 1)]);
    let refused = conn.append(
        Append::to("p-2")
            .push(event("X", json!({})))
            .none_match(vec![Item::types(["LastNamed"]).unwrap()], T(0)),
    );
    assert_eq!(refused.unwrap_err().code(), "event/condition-failed");
    assert_eq!(conn.db().basis_t(), before);
}

#[test]
fn a24_a_forgotten_subject_is_unreadable_in_events() {
    let conn = memory();
    let data =
        Value::map([(Value::keyword("name"), personal("p-7", "Ada")), (Value::keyword("n"), Value::Long(1))]);
    let e = NewEvent::new("Joined", data).unwrap();
    conn.append(Append::to("club-1").push(e.clone())).unwrap();
    let name = || conn.db().events().at(Position(1)).unwrap()[0].data().field("name").unwrap();
    assert_eq!(name(), Some("Ada".into()));
    assert!(conn.append(Append::to("club-1").push(e)).unwrap().replayed);
    assert!(conn.forget_subject("p-7").unwrap());
    assert_eq!(name(), Some(Value::keyword("annals/erased")));
    assert_eq!(count(&conn), 1);
    let again =
        NewEvent::new("Joined", Value::map([(Value::keyword("name"), personal("p-7", "x"))])).unwrap();
    assert!(conn.append(Append::to("club-1").push(again)).is_err());
}

struct Never;
impl Projection for Never {
    const NAME: &'static str = "never";
    const VERSION: u32 = 1;
    fn schema(&self) -> &str {
        "[{:db/ident :never/x :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]"
    }
    fn wants(&self) -> Vec<Item> {
        vec![Item::types(["Poison"]).unwrap()]
    }
    fn project(
        &self,
        _: &annals::event::Recorded,
        _: &mut annals::event::Before<'_, '_>,
        _: &mut annals::event::Facts,
    ) -> Result<(), String> {
        panic!("on purpose")
    }
}

#[test]
fn a13_a_panicking_projection_refuses_the_event_and_names_it() {
    let conn = memory();
    conn.register(ProjectionSpec::rust(Never).unwrap()).unwrap();
    conn.append(Append::to("s-1").push(event("Fine", json!({})))).unwrap();
    let e = conn.append(Append::to("s-1").push(event("Poison", json!({})))).unwrap_err();
    assert!(e.to_string().contains("panicked: on purpose"), "{e}");
    assert_eq!(count(&conn), 1);
}

#[test]
fn ids_are_the_same_when_made_again() {
    assert_eq!(EventId::of_text("x"), EventId::of_text("x"));
}
