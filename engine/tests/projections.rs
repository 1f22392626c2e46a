//! Projections where time plays a part: dropped and registered again, read late, replayed
//! after what was parked, and asked how far an older database value is complete.

use annals::{
    Connection, Value,
    event::{
        Append, Before, Facts, Item, Mode, NewEvent, OnError, Position, Projection, ProjectionError,
        ProjectionSpec, ProjectionState, Recorded, Subject, Upcaster,
    },
};
use std::collections::BTreeSet;

fn say(conn: &Connection, stream: &str, ty: &str, data: &str) -> annals::T {
    conn.append(Append::to(stream).event(ty, data).unwrap()).unwrap().t
}
fn texts(db: &annals::Db, q: &str) -> BTreeSet<String> {
    let text = |v: &Value| match v {
        Value::String(s) => s.to_string(),
        other => format!("{other:?}"),
    };
    db.query(q, ()).unwrap().rows.iter().map(|r| r.iter().map(text).collect::<Vec<_>>().join(" ")).collect()
}
fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

const ITEMS: &str = r#"{:projection/name :items :projection/version 1
  :projection/mode :async :projection/on-error :park
  :projection/schema
  [{:db/ident :item/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
    :db/unique :db.unique/identity}
   {:db/ident :item/left :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
   {:db/ident :item/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
   {:db/ident :item/flag :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
  :projection/on
  [{:event "Counted" :assert [{:item/id $data.id :item/left $data.n}]}
   {:event "Named" :assert [{:item/id $data.id :item/name $data.name}]}
   {:event "Gone" :retract [[[:item/id $data.id] :item/left]]}
   {:event "Checked" :assert [{:item/id $data.id
                               :item/flag (if (< (current :item/left 0) 3) "low" "fine")}]}]}"#;

/// Reads a count that was written as text.
struct Mend;
impl Upcaster for Mend {
    fn from(&self) -> (&str, u32) {
        ("Counted", 1)
    }
    fn upcast(&self, e: NewEvent) -> Vec<NewEvent> {
        let data = match (e.data.field("id"), e.data.field("n")) {
            (Ok(Some(Value::String(id))), Ok(Some(Value::String(_)))) => {
                annals::event::Data::from_json(&serde_json::json!({"id": &*id, "n": 1})).unwrap()
            }
            _ => e.data.clone(),
        };
        vec![NewEvent { data, schema: 2, ..e }]
    }
}

#[test]
fn a_dropped_projection_is_registered_again_under_its_names() {
    let conn = annals::in_memory().unwrap();
    conn.add_projection(ITEMS).unwrap();
    say(&conn, "a-1", "Counted", r#"{"id": "x", "n": 4}"#);
    conn.catch_up("items").unwrap();
    conn.drop_projection("items").unwrap();
    let again = conn.add_projection(ITEMS).unwrap();
    assert_eq!((again.state, again.declared), (ProjectionState::Live, 1));
    assert_eq!(texts(&conn.db(), "[:find ?i :where [?e :item/id ?i]]"), set(["x"]));
    // And its names are free for plain facts, once it is dropped.
    conn.drop_projection("items").unwrap();
    let plain = "[{:db/ident :item/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]";
    conn.transact(plain).unwrap();
    let taken = conn.add_projection(ITEMS).unwrap_err();
    assert_eq!(taken.code(), "projection/owned", "now they are somebody's");
}

#[test]
fn a_definition_that_never_answered_is_mended_under_its_number() {
    let conn = annals::in_memory().unwrap();
    say(&conn, "a-1", "Counted", r#"{"id": "x", "n": "four"}"#);
    let halts = ITEMS.replace(":park", ":halt").replace(":async", ":inline");
    assert_eq!(conn.add_projection(&halts).unwrap_err().code(), "projection/poison");
    let mended = halts.replace(":item/left $data.n", ":item/left (count $data.n)");
    assert_eq!(conn.add_projection(&mended).unwrap().state, ProjectionState::Live);
    assert_eq!(texts(&conn.db(), "[:find ?n :where [?e :item/left ?n]]"), set(["4"]));
}

#[test]
fn a_version_and_its_attributes_are_one_transaction() {
    let conn = annals::in_memory().unwrap();
    let before = conn.db().t();
    conn.add_projection(ITEMS).unwrap();
    // A stop between attributes and version would leave attributes that belong to nobody, and
    // the next start could not register the projection.
    let named = |t| {
        let db = conn.db_at(annals::T(t)).unwrap();
        db.schema().attribute_named(&annals::Keyword::new("item/id")).is_some()
    };
    let seen: Vec<bool> = (before.0..=conn.db().t().0).map(named).collect();
    assert_eq!(seen, [false, true, true], "what it is, and then that it answers");
}

#[test]
fn an_inline_projection_that_parks_is_refused() {
    let conn = annals::in_memory().unwrap();
    for policy in [":park", "[:retry 2 :park]"] {
        let inline =
            ITEMS.replace(":async", ":inline").replace(":on-error :park", &format!(":on-error {policy}"));
        let e = conn.add_projection(&inline).unwrap_err();
        assert_eq!(e.code(), "projection/inline-parks");
        assert!(matches!(e, ProjectionError::InlineParks(name) if name.as_str() == "items"));
    }
    assert!(conn.projections().unwrap().is_empty());
}

/// Bills at the price that plain transactions set.
struct Bills(Mode);
impl Projection for Bills {
    const NAME: &'static str = "bills";
    const VERSION: u32 = 1;
    fn schema(&self) -> &str {
        "[{:db/ident :bill/price :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]"
    }
    fn wants(&self) -> Vec<Item> {
        vec![Item::types(["Ordered"]).unwrap()]
    }
    fn mode(&self) -> Mode {
        self.0
    }
    fn on_error(&self) -> OnError {
        OnError::Halt
    }
    fn project(&self, _: &Recorded, before: &mut Before<'_, '_>, out: &mut Facts) -> Result<(), String> {
        let price = before.value(("price/id", "x"), "price/is")?.ok_or("no price")?;
        out.assert(Subject::New(0), "bill/price", price);
        Ok(())
    }
}

#[test]
fn facts_of_others_are_read_as_of_the_event_whenever_the_projection_runs() {
    let conn = annals::in_memory().unwrap();
    conn.transact(
        "[{:db/ident :price/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
           :db/unique :db.unique/identity}
          {:db/ident :price/is :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]",
    )
    .unwrap();
    conn.register(ProjectionSpec::rust(Bills(Mode::Inline)).unwrap()).unwrap();
    for price in ["ten", "twenty"] {
        conn.transact(format!(r#"[{{:price/id "x" :price/is "{price}"}}]"#).as_str()).unwrap();
        say(&conn, "order-1", "Ordered", "{}");
    }
    // The order that comes with its price has that.
    let with = Append::to("order-1").event("Ordered", "{}").unwrap();
    conn.append(with).unwrap();
    conn.transact(r#"[[:db/retractEntity [:price/id "x"]]]"#).unwrap();
    let bills = "[:find ?b ?p :where [?b :bill/price ?p]]";
    let inline = conn.db().query(bills, ()).unwrap().rows.len();
    let prices = "[:find ?t ?p :where [?b :bill/price ?p ?t]]";
    let as_inline = texts(&conn.db(), prices);
    assert_eq!((inline, as_inline.len()), (3, 3));
    conn.rebuild_projection("bills").unwrap();
    assert_eq!(texts(&conn.db(), prices), as_inline, "built again from the first event");
}

#[test]
fn a_parked_event_is_not_replayed_when_a_later_one_has_read_what_it_writes() {
    let conn = annals::in_memory().unwrap();
    conn.add_projection(ITEMS).unwrap();
    say(&conn, "a-1", "Counted", r#"{"id": "x", "n": 10}"#);
    say(&conn, "b-1", "Counted", r#"{"id": "x", "n": "one"}"#);
    say(&conn, "c-1", "Checked", r#"{"id": "x"}"#);
    conn.catch_up("items").unwrap();
    assert_eq!(conn.parked("items").unwrap().len(), 1);
    conn.upcast(Mend).unwrap();
    let e = conn.replay_parked("items").unwrap_err();
    assert_eq!(e.code(), "projection/entangled");
    assert!(e.to_string().contains(":item/left"), "{e}");
    assert_eq!(texts(&conn.db(), "[:find ?f :where [?e :item/flag ?f]]"), set(["fine"]));
    conn.rebuild_projection("items").unwrap();
    assert_eq!(texts(&conn.db(), "[:find ?f :where [?e :item/flag ?f]]"), set(["low"]));
}

#[test]
fn a_parked_event_is_replayed_past_later_ones_that_have_nothing_to_do_with_it() {
    let conn = annals::in_memory().unwrap();
    conn.add_projection(ITEMS).unwrap();
    say(&conn, "a-1", "Counted", r#"{"id": "x", "n": 10}"#);
    say(&conn, "a-2", "Counted", r#"{"id": "y", "n": 10}"#);
    say(&conn, "b-1", "Counted", r#"{"id": "x", "n": "one"}"#);
    // Of the same entity, and of another one.
    say(&conn, "c-1", "Named", r#"{"id": "x", "name": "Ex"}"#);
    say(&conn, "c-1", "Checked", r#"{"id": "y"}"#);
    conn.catch_up("items").unwrap();
    conn.upcast(Mend).unwrap();
    assert_eq!(conn.replay_parked("items").unwrap().taken, 1);
    assert_eq!(
        texts(&conn.db(), "[:find ?i ?n :where [?e :item/id ?i] [?e :item/left ?n]]"),
        set(["x 1", "y 10"])
    );
    assert_eq!(conn.db().complete_to().unwrap(), conn.db().t());
}

/// What a history says of the counts: value, t and op, as stored.
fn counts(conn: &Connection) -> Vec<(Value, annals::T, bool)> {
    let db = conn.db().history();
    let of = db.datoms("aevt", &[Value::keyword("item/left")]).unwrap();
    of.into_iter().map(|d| (d.v, d.t, d.added)).collect()
}

#[test]
fn parked_events_of_one_transaction_are_replayed_as_one() {
    let counted = |a: Append| a.event("Counted", r#"{"id": "x", "n": "one"}"#).unwrap();
    let gone = |a: Append| a.event("Gone", r#"{"id": "x"}"#).unwrap();
    // Said, taken back, and said again; or taken back again: then it was never so.
    for again in [true, false] {
        let run = |parks: bool| {
            let conn = annals::in_memory().unwrap();
            conn.add_projection(ITEMS).unwrap();
            if !parks {
                conn.upcast(Mend).unwrap();
            }
            say(&conn, "a-1", "Named", r#"{"id": "x", "name": "Ex"}"#);
            let append = counted(gone(counted(Append::to("b-1"))));
            conn.append(if again { append } else { gone(append) }).unwrap();
            conn.catch_up("items").unwrap();
            if parks {
                assert_eq!(conn.parked("items").unwrap().len(), if again { 3 } else { 4 });
                conn.upcast(Mend).unwrap();
                let replayed = conn.replay_parked("items").unwrap();
                assert_eq!((replayed.taken, replayed.left), (if again { 3 } else { 4 }, vec![]));
            }
            counts(&conn)
        };
        let clean = run(false);
        assert_eq!(clean.len(), usize::from(again));
        assert_eq!(run(true), clean, "as if they had never been parked");
    }
}

#[test]
fn of_parked_events_of_one_transaction_those_are_taken_that_can_be() {
    let conn = annals::in_memory().unwrap();
    conn.add_projection(ITEMS).unwrap();
    let mut append = Append::new();
    for (stream, data) in [
        ("b-1", r#"{"id": "x", "n": "one"}"#),
        ("b-2", r#"{"id": [5], "n": {}}"#),
        ("b-3", r#"{"id": "y", "n": "one"}"#),
    ] {
        append = append.and_to(stream).event("Counted", data).unwrap();
        if stream == "b-2" {
            append = append.event("Counted", r#"{"id": "z", "n": "one"}"#).unwrap();
        }
    }
    let t = conn.append(append).unwrap().t;
    conn.catch_up("items").unwrap();
    assert_eq!(conn.parked("items").unwrap().len(), 4);
    conn.upcast(Mend).unwrap();
    let replayed = conn.replay_parked("items").unwrap();
    assert_eq!(replayed.taken, 2);
    let left: Vec<(&str, bool)> =
        replayed.left.iter().map(|p| (p.stream.as_str(), p.why.contains("earlier event"))).collect();
    assert_eq!(left, [("b-2", false), ("b-2", true)]);
    assert_eq!(counts(&conn), [(Value::Long(1), t, true), (Value::Long(1), t, true)]);
    assert_eq!(conn.parked("items").unwrap(), replayed.left);
}

#[test]
fn pages_of_some_types_leave_nothing_out_whatever_their_size() {
    let conn = annals::in_memory().unwrap();
    // Of one type many, of another few, of a third none; others between.
    let appends = (0..600).map(|i| {
        let ty = match i % 200 {
            7 => "Rare",
            n if n % 2 == 0 => "Often",
            _ => "Other",
        };
        Append::to("a-1").event(ty, "{}").unwrap()
    });
    let (_, refused) = conn.append_all(appends.collect());
    assert!(refused.is_none(), "{refused:?}");
    let items = [Item::types(["Often", "Rare", "Never"]).unwrap()];
    let log = conn.db().events();
    let head = log.head().unwrap();
    let (all, _) = log.all(&items, Position::ZERO, usize::MAX).unwrap();
    assert_eq!(all.len(), 303);
    for limit in [1, 2, 63, 64, 65, 100, 302, 303, 304] {
        let (mut after, mut paged) = (Position::ZERO, Vec::new());
        while after < head {
            let (page, upto) = log.all(&items, after, limit).unwrap();
            assert!(upto > after && page.len() <= limit, "it goes on");
            paged.extend(page.iter().map(|e| e.position));
            after = upto;
        }
        assert_eq!(paged, all.iter().map(|e| e.position).collect::<Vec<_>>(), "{limit} a page");
    }
}

#[test]
fn how_far_a_value_is_complete_does_not_change_with_what_projections_do_later() {
    let conn = annals::in_memory().unwrap();
    conn.add_projection(&ITEMS.replace(":async", ":inline").replace(":projection/on-error :park", ""))
        .unwrap();
    say(&conn, "a-1", "Counted", r#"{"id": "x", "n": 10}"#);
    let whole = conn.db();
    assert_eq!(whole.complete_to().unwrap(), whole.t());
    conn.pause_projection("items").unwrap();
    assert_eq!(whole.complete_to().unwrap(), whole.t(), "it was live then");
    let t = say(&conn, "a-1", "Counted", r#"{"id": "x", "n": 11}"#);
    let lacking = conn.db();
    assert_eq!(lacking.complete_to().unwrap().0, t.0 - 1);
    conn.resume_projection("items").unwrap();
    assert_eq!(lacking.complete_to().unwrap().0, t.0 - 1, "it does not have what came later");
    assert_eq!(conn.db().complete_to().unwrap(), conn.db().t());
}

/// A late projection ends facts before its own t: to a value taken before that they have not ended, whichever
/// moment of the write its reads meet.
#[test]
fn a_value_answers_alike_while_a_late_projection_goes_on() {
    let conn = annals::in_memory().unwrap();
    let spec = r#"{:projection/name :count, :projection/version 1, :projection/mode :async, :projection/batch 3
        :projection/schema [{:db/ident :count/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                            {:db/ident :count/n :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
        :projection/on [{:event "Added" :assert [{:count/id $stream.key :count/n (+ (current :count/n 0) 1)}]}]}"#;
    conn.add_projection(spec).unwrap();
    let (writer, projecting) = (conn.clone(), conn.clone());
    let writer = std::thread::spawn(move || {
        for i in 0..2_000 {
            let e = Append::to(format!("count-{}", i % 5)).event("Added", "{}").unwrap();
            writer.append(e).unwrap();
        }
    });
    let projecting = std::thread::spawn(move || {
        while projecting.db().events().head().unwrap().0 < 2_000 {
            projecting.catch_up("count").unwrap();
        }
    });
    let attr = [Value::keyword("count/n")];
    let rows = |db: &annals::Db| {
        annals::edn::print(&db.query("[:find ?e ?n :where [?e :count/n ?n]]", ()).unwrap().value())
    };
    while !writer.is_finished() {
        let db = conn.db();
        let first = rows(&db);
        let mut scanned: Vec<_> = db.datoms("aevt", &attr).unwrap().into_iter().map(|d| (d.e, d.v)).collect();
        let again = rows(&db);
        let uncached = rows(&db.uncached());
        assert_eq!(first, again, "basis {:?}", db.t());
        assert_eq!(first, uncached, "basis {:?}", db.t());
        scanned.sort();
        let scanned = scanned.into_iter().map(|(e, n)| Value::vector([Value::Ref(e), n]));
        assert_eq!(first, annals::edn::print(&Value::vector(scanned)), "basis {:?}", db.t());
    }
    writer.join().unwrap();
    projecting.join().unwrap();
}

#[test]
fn a_version_is_built_in_large_batches_whatever_its_own_size() {
    let conn = annals::in_memory().unwrap();
    let spec = |version: u8| {
        format!(
            r#"{{:projection/name :seen, :projection/version {version}, :projection/mode :async, :projection/batch 1
                :projection/schema [{{:db/ident :seen/v :db/valueType :db.type/long :db/cardinality :db.cardinality/many}}]
                :projection/on [{{:event "Seen" :assert [{{:seen/v $version}}]}}]}}"#
        )
    };
    conn.add_projection(&spec(1)).unwrap();
    let (_, refused) =
        conn.append_all((0..2_000).map(|_| Append::to("a-1").event("Seen", "{}").unwrap()).collect());
    assert!(refused.is_none(), "{refused:?}");
    let before = conn.db().t();
    conn.add_projection(&spec(2)).unwrap();
    assert!(conn.db().t().0 - before.0 < 10, "a commit an event would never catch up with busy writers");
    let count = "[:find (count ?v) . :where [_ :seen/v ?v]]";
    assert_eq!(conn.db().query(count, ()).unwrap().scalar(), Some(Value::Long(2_000)));
}
