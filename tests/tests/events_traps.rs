//! What implementers of event stores get wrong, where no scenario of the acceptance list shows it;
//! and that the tables of `docs/internals/traps.md`, which name a test for each, are true.

use annals::{
    Connection, Instant, Options, Value,
    event::{
        Aggregate, Append, AppendError, Decide, Decision, Dispatch, Event, Expected, Feed, Item, NewEvent,
        Position, Start, StreamId, Tag, Upcaster, Version,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

fn memory() -> Connection {
    annals::in_memory().unwrap()
}
fn event(ty: &str, data: serde_json::Value) -> NewEvent {
    NewEvent::new(ty, data).unwrap()
}
fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

#[test]
fn trap_6_where_a_reader_stopped_paging_is_no_basis_and_the_head_is() {
    let conn = memory();
    let items = || vec![Item::types(["Seen"]).unwrap()];
    for n in 0..3 {
        conn.append(Append::to("a-1").push(event("Seen", json!({ "n": n })))).unwrap();
    }
    conn.append(Append::to("a-2").push(event("Other", json!({})))).unwrap();
    let log = conn.db().events();
    let (page, cursor) = log.all(&items(), Position::ZERO, 1).unwrap();
    assert_eq!((page.len(), cursor), (1, Position(1)));
    // The basis is the t of the same value, whatever was left unread: what is beyond the page is in it,
    let basis = log.t();
    conn.append(Append::to("b-1").push(event("Done", json!({}))).none_match(items(), basis)).unwrap();
    // and what comes later is a conflict, though it is beyond the page too.
    let late = conn.append(Append::to("a-1").push(event("Seen", json!({ "n": 3 })))).unwrap();
    let e =
        conn.append(Append::to("b-2").push(event("Done", json!({}))).none_match(items(), basis)).unwrap_err();
    assert!(matches!(&e, AppendError::ConditionFailed { witness, .. } if *witness == [late.last]), "{e}");
    // A basis at the last match, further back than the head, is as good.
    let last_match = late.t;
    conn.append(Append::to("c-1").push(event("Other", json!({})))).unwrap();
    conn.append(Append::to("b-2").push(event("Done", json!({}))).none_match(items(), last_match)).unwrap();
}

#[derive(Serialize, Deserialize)]
enum Seat {
    Taken { by: u32 },
}
impl Event for Seat {
    const TYPES: &'static [(&'static str, u32)] = &[("Taken", 1)];
}
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
enum Never {
    #[error("never")]
    Never,
}
#[derive(Serialize)]
struct TakeSeat {
    by: u32,
}
impl Decision for TakeSeat {
    const NAME: &'static str = "seats";
    type Event = Seat;
    type Error = Never;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Seat)>, Never> {
        // The same boundary in every way there is, twice each; what is written lies within it.
        let q = "[:find ?e :where [?e :event/type \"Taken\"]]";
        let taken = || vec![Item::types(["Taken"]).unwrap()];
        let seen = [
            cx.db.count(q, ()),
            cx.db.count(q, ()),
            cx.db.events(taken()).len(),
            cx.db.events(taken()).len(),
        ];
        assert!(seen.iter().all(|n| *n == seen[0]));
        Ok(vec![
            ("seat-1".to_owned(), Seat::Taken { by: self.by }),
            ("seat-2".to_owned(), Seat::Taken { by: self.by }),
        ])
    }
}

#[test]
fn trap_7_a_rule_that_reads_one_boundary_twice_and_writes_in_it_is_in_nobodys_way() {
    let conn = memory();
    for by in 0..10 {
        let done = conn.decide(&TakeSeat { by }, Dispatch::new()).unwrap();
        assert_eq!(done.retries, 0, "its own reads and writes are no conflict");
    }
    assert_eq!(conn.command_stats().conflicts, 0);
    assert_eq!(conn.db().events().head().unwrap(), Position(20));
}

#[test]
fn trap_11_what_a_deleted_stream_expects_is_stated() {
    let conn = memory();
    let name = stream("s-1");
    let append = |expected| {
        conn.append(Append::to("s-1").expect(expected).push(event("E", json!({})))).map(|done| done.version())
    };
    append(Expected::NoStream).unwrap();
    append(Expected::Exact(Version(1))).unwrap();
    conn.delete_stream(&name, false).unwrap();
    // Softly: nothing is shown, and versions go on.
    assert!(conn.db().events().stream(&name, Version(1), 10).is_err());
    assert!(matches!(append(Expected::NoStream), Err(AppendError::WrongVersion { actual: Version(2), .. })));
    assert!(matches!(append(Expected::Exists), Err(AppendError::WrongVersion { .. })));
    assert_eq!(append(Expected::Exact(Version(2))).unwrap(), Version(3));
    let shown = conn.db().events().stream(&name, Version(1), 10).unwrap();
    assert_eq!(shown.iter().map(|e| e.version.0).collect::<Vec<_>>(), [3]);
    // For good: nobody writes there again, whatever is expected.
    conn.delete_stream(&name, true).unwrap();
    for expected in [Expected::Any, Expected::NoStream, Expected::Exists, Expected::Exact(Version(3))] {
        let e = append(expected).unwrap_err();
        assert_eq!(e.code(), "event/tombstoned", "{e}");
    }
    assert_eq!(conn.db().events().head().unwrap(), Position(3), "positions stay dense");
}

const SHARED: &str = r#"{:projection/name :board :projection/version V :projection/mode :inline
    :projection/schema [{:db/ident :board/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                         :db/unique :db.unique/identity}
                        {:db/ident :board/last :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
                        {:db/ident :board/trail :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
    :projection/on [{:event "Moved" :assert [{:board/id "the one" :board/last $data.n
                     :board/trail (str (current :board/trail "") $stream.key)}]}]}"#;

#[test]
fn trap_20_a_rebuild_follows_the_global_order_and_not_stream_by_stream() {
    let conn = memory();
    conn.add_projection(&SHARED.replace('V', "1")).unwrap();
    let mut ts = Vec::new();
    for n in 0..30 {
        let key = ["a", "b", "c"][n * 7 % 3];
        ts.push(
            conn.append(Append::to(format!("piece-{key}")).push(event("Moved", json!({ "n": n }))))
                .unwrap()
                .t,
        );
    }
    let rows = |conn: &Connection| -> Vec<Vec<Value>> {
        let q = "[:find ?n ?trail :where [?b :board/last ?n] [?b :board/trail ?trail]]";
        ts.iter()
            .flat_map(|t| conn.db().as_of(*t).query(q, ()).unwrap().rows.iter().collect::<Vec<_>>())
            .collect()
    };
    let live = rows(&conn);
    assert_eq!(live.len(), 30);
    conn.add_projection(&SHARED.replace('V', "2")).unwrap();
    assert_eq!(rows(&conn), live, "at every t");
}

/// One old event, two new ones, with a tag that the stored event does not have.
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
        let make = |ty: &str, key: &str, part: &str| NewEvent {
            ty: ty.try_into().unwrap(),
            data: annals::event::Data::from_json(&json!({ key: part })).unwrap(),
            schema: 2,
            tags: vec![Tag::new(format!("{key}:{part}")).unwrap()],
            ..e.clone()
        };
        vec![make("FirstNamed", "first", first), make("LastNamed", "last", last)]
    }
}
#[derive(Serialize, Deserialize)]
enum Naming {
    FirstNamed { first: String },
    LastNamed { last: String },
}
impl Event for Naming {
    const TYPES: &'static [(&'static str, u32)] = &[("FirstNamed", 2), ("LastNamed", 2)];
}
#[derive(Default)]
struct Person(Vec<String>);
impl Aggregate for Person {
    const CATEGORY: &'static str = "person";
    type Command = ();
    type Event = Naming;
    type Error = Never;
    fn apply(&mut self, e: &Naming) {
        let (Naming::FirstNamed { first: name } | Naming::LastNamed { last: name }) = e;
        self.0.push(name.clone());
    }
    fn handle(&self, (): (), _: &Decide<'_>) -> Result<Vec<Naming>, Never> {
        Ok(vec![])
    }
}

fn bytes_of(dir: &Path) -> Vec<u8> {
    let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all.iter().flat_map(|p| if p.is_dir() { bytes_of(p) } else { std::fs::read(p).unwrap() }).collect()
}

#[test]
fn a22_trap_22_fold_projection_subscription_query_and_condition_see_the_new_shape_and_its_tags() {
    let dir = tempfile::tempdir().unwrap();
    let conn = Options::new().open(dir.path().join("db")).unwrap();
    conn.append(Append::to("person-1").push(event("Named", json!({ "name": "Ada Lovelace" })))).unwrap();
    conn.append(Append::to("person-2").push(Naming::FirstNamed { first: "Bob".into() }.to_new().unwrap()))
        .unwrap();
    let log = bytes_of(&dir.path().join("db/log"));
    let before = conn.db().basis_t();
    conn.upcast(Split).unwrap();

    assert_eq!(conn.repository::<Person>().load("1").unwrap().state.0, ["Ada", "Lovelace"], "fold");
    let mut feed = conn.subscribe(vec![Item::types(["LastNamed"]).unwrap()], Start::Beginning).unwrap();
    let first = feed.next_within(Duration::from_secs(20)).unwrap();
    assert!(
        matches!(first, Some(Feed::Event(e)) if e.position == Position(1) && e.part == 1),
        "subscription"
    );
    let found =
        conn.db().events().all(&[Item::tags(["last:Lovelace"]).unwrap()], Position::ZERO, 10).unwrap().0;
    assert_eq!(found.len(), 1, "reading by a tag that only the new shape has");
    let tagged = "[:find (count ?e) . :where [?e :event/tag \"last:Lovelace\"]]";
    assert_eq!(conn.db().query(tagged, ()).unwrap().scalar(), Some(Value::Long(1)), "Datalog");
    let refused = conn
        .append(
            Append::to("x-1")
                .push(event("X", json!({})))
                .none_match(vec![Item::tags(["first:Ada"]).unwrap()], annals::T(0)),
        )
        .unwrap_err();
    assert!(
        matches!(&refused, AppendError::ConditionFailed { witness, .. } if *witness == [Position(1)]),
        "{refused}"
    );
    assert_eq!(bytes_of(&dir.path().join("db/log")), log, "what is stored is as it was");
    assert_eq!(conn.db().basis_t(), before);
    conn.add_projection(
        r#"{:projection/name :names
            :projection/schema [{:db/ident :name/part :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
            :projection/on [{:event "FirstNamed" :assert [{:name/part $data.first}]}
                            {:event "LastNamed" :assert [{:name/part $data.last}]}]}"#,
    )
    .unwrap();
    let rows = conn.db().query("[:find ?p :where [_ :name/part ?p]]", ()).unwrap();
    let names: BTreeSet<Value> = rows.rows.iter().map(|r| r[0].clone()).collect();
    assert_eq!(names, ["Ada", "Lovelace", "Bob"].map(Value::from).into(), "projection");
    assert_eq!(conn.db().events().head().unwrap(), Position(2));
}

#[test]
fn trap_26_s21_equal_and_backward_clocks_keep_the_order_and_never_go_back() {
    let clock = Arc::new(AtomicI64::new(1_000_000_000));
    let now = clock.clone();
    let conn = Options::new().clock(move || Instant(now.load(Ordering::SeqCst))).in_memory().unwrap();
    let mut ts = Vec::new();
    for n in 0..20 {
        // The clock stands still, and then goes back an hour.
        if n == 10 {
            clock.fetch_sub(3_600_000_000, Ordering::SeqCst);
        }
        ts.push(
            conn.append(Append::to(format!("s-{}", n % 3)).push(event("E", json!({ "n": n })))).unwrap().t,
        );
    }
    let events = conn.db().events().all(&[], Position::ZERO, 100).unwrap().0;
    let numbers: Vec<_> = events.iter().map(|e| e.data().field("n").unwrap().unwrap()).collect();
    assert_eq!(numbers, (0..20).map(Value::Long).collect::<Vec<_>>(), "by position");
    assert!(events.windows(2).all(|w| w[0].recorded_at <= w[1].recorded_at), "recorded-at never goes back");
    for (n, t) in ts.iter().enumerate() {
        assert_eq!(conn.db().as_of(*t).events().head().unwrap().0, n as u64 + 1, "as of a t, not of a clock");
    }
    // As of an instant is as of the last t at it or before.
    let last = events.last().unwrap().recorded_at;
    assert_eq!(conn.db().as_of(last).unwrap().events().head().unwrap(), Position(20));
}

/// `file::test` as written in the tables.
fn named_tests(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        if let Some((file, test)) = quoted.split_once(".rs::") {
            found.insert((format!("{file}.rs"), test.to_owned()));
        }
    }
    found
}

#[test]
fn every_test_that_the_tables_name_is_there() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/internals/traps.md")).unwrap();
    let named = named_tests(&text);
    assert!(named.len() > 40, "{} tests are named", named.len());
    let missing: Vec<_> = named
        .iter()
        .filter(|(file, test)| {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            !source.contains(&format!("fn {test}("))
        })
        .collect();
    assert!(missing.is_empty(), "not found: {missing:#?}");
    // One line for each trap and each scenario.
    for n in 1..=27 {
        assert!(text.contains(&format!("\n| {n} |")), "trap {n}");
    }
    for n in 1..=25 {
        assert!(text.contains(&format!("\n| A{n} |")), "scenario A{n}");
    }
}
