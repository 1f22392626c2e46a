//! Projections at work: driven, halted, parked, skipped, rebuilt, dropped, previewed; facts
//! that know their events; subjects erased. Scenarios carry their numbers of the acceptance list.

use annals::{
    Connection, EntityId, Options, T, Value,
    event::{
        Append, AppendError, Cause, CommandId, CommandOutcome, Feed, Item, NewEvent, Position,
        PreviewOptions, Projection, ProjectionSpec, ProjectionState, Start, StreamId, Upcaster, Version,
        personal,
    },
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};

fn memory() -> Connection {
    annals::in_memory().expect("a database in memory opens")
}
fn event(ty: &str, data: serde_json::Value) -> NewEvent {
    NewEvent::new(ty, data).unwrap()
}
fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}
fn rows(db: &annals::Db, q: &str) -> BTreeSet<Vec<Value>> {
    db.query(q, ()).unwrap().rows.iter().map(|r| r.to_vec()).collect()
}
fn longs(db: &annals::Db, q: &str) -> Vec<i64> {
    let of = |r: Vec<Value>| if let Value::Long(n) = r[0] { n } else { panic!("{r:?}") };
    rows(db, q).into_iter().map(of).collect()
}
fn append(conn: &Connection, to: &str, ty: &str, data: serde_json::Value) -> annals::event::Appended {
    conn.append(Append::to(to).push(event(ty, data))).unwrap()
}
fn entity(db: &annals::Db, q: &str) -> EntityId {
    match db.query(q, ()).unwrap().scalar() {
        Some(Value::Ref(e)) => e,
        other => panic!("{q}: {other:?}"),
    }
}
fn state(conn: &Connection, name: &str) -> ProjectionState {
    conn.projections().unwrap().into_iter().rfind(|p| p.name.as_str() == name).unwrap().state
}

/// Sums amounts per account; an amount that is no number cannot be taken.
fn sums(name: &str, head: &str) -> String {
    format!(
        r#"{{:projection/name :{name} :projection/version 1 {head}
            :projection/schema
            [{{:db/ident :{name}/key :db/valueType :db.type/string :db/cardinality :db.cardinality/one
               :db/unique :db.unique/identity}}
             {{:db/ident :{name}/sum :db/valueType :db.type/long :db/cardinality :db.cardinality/one}}]
            :projection/on
            [{{:event "Paid" :assert [{{:{name}/key $stream.key
                                       :{name}/sum (+ (current :{name}/sum 0) $data.amount)}}]}}]}}"#
    )
}
fn all_sums(db: &annals::Db, name: &str) -> BTreeSet<Vec<Value>> {
    rows(db, &format!("[:find ?k ?s :where [?e :{name}/key ?k] [?e :{name}/sum ?s]]"))
}

/// 1,000 events over ten streams, the 500th of them poison.
fn with_poison(conn: &Connection) -> Vec<T> {
    let pay = |i: u64| {
        let amount = if i == 500 { json!("many") } else { json!(i) };
        Append::to(format!("acc-{}", i % 10)).push(event("Paid", json!({ "amount": amount })))
    };
    let (done, refused) = conn.append_all((1..=1000).map(pay).collect());
    assert!(refused.is_none(), "{refused:?}");
    done.iter().map(|a| a.t).collect()
}

/// Mends the poison: what is no number counts as 500.
struct Mend;
impl Upcaster for Mend {
    fn from(&self) -> (&str, u32) {
        ("Paid", 1)
    }
    fn upcast(&self, e: NewEvent) -> Vec<NewEvent> {
        let data = match e.data.field("amount") {
            Ok(Some(Value::String(_))) => annals::event::Data::from_json(&json!({"amount": 500})).unwrap(),
            _ => e.data.clone(),
        };
        vec![NewEvent { data, schema: 2, ..e }]
    }
}

#[test]
fn a13_halt_stops_at_the_poison_and_others_go_on() {
    let conn = memory();
    let ts = with_poison(&conn);
    let halting = conn.add_projection(&sums("halts", ":projection/mode :async")).unwrap_err();
    assert_eq!(halting.code(), "projection/poison");
    assert!(halting.to_string().contains("event 500"), "{halting}");
    assert!(matches!(state(&conn, "halts"), ProjectionState::Halted { at: Position(500), .. }));
    conn.add_projection(&sums("parks", ":projection/mode :async :projection/on-error :park")).unwrap();
    assert_eq!(conn.parked("parks").unwrap().len(), 51, "the poison and the later events of its stream");
    let status = conn.projections().unwrap();
    assert_eq!(status[0].position, Position(499));
    assert_eq!((status[1].position, status[1].parked), (Position(1000), 51));
    assert_eq!(conn.db().complete_to().unwrap(), ts[498]);
    // Mended and resumed it takes the rest.
    conn.upcast(Mend).unwrap();
    conn.resume_projection("halts").unwrap();
    assert_eq!(conn.catch_up("halts").unwrap().lag, 0);
    assert_eq!(all_sums(&conn.db(), "halts").len(), 10);
}

#[test]
fn a13_parked_events_replayed_after_a_fix_equal_a_clean_run() {
    let conn = memory();
    let ts = with_poison(&conn);
    conn.add_projection(&sums("s", ":projection/mode :async :projection/on-error :park")).unwrap();
    let parked = conn.parked("s").unwrap();
    assert_eq!(parked[0].position, Position(500));
    assert!(parked[0].why.contains("many"), "{}", parked[0].why);
    assert!(parked.iter().all(|p| p.stream == stream("acc-0") && p.position.0 % 10 == 0));
    let again = conn.replay_parked("s").unwrap();
    assert_eq!((again.taken, again.left.len()), (0, 51), "nothing was mended");
    // The stream stays aside while it is parked.
    append(&conn, "acc-0", "Paid", json!({"amount": 1}));
    append(&conn, "acc-1", "Paid", json!({"amount": 1}));
    conn.catch_up("s").unwrap();
    assert_eq!(conn.parked("s").unwrap().len(), 52);

    conn.upcast(Mend).unwrap();
    let again = conn.replay_parked("s").unwrap();
    assert_eq!((again.taken, again.left.len()), (52, 0));
    let clean = memory();
    with_poison(&clean);
    append(&clean, "acc-0", "Paid", json!({"amount": 1}));
    append(&clean, "acc-1", "Paid", json!({"amount": 1}));
    clean.upcast(Mend).unwrap();
    clean.add_projection(&sums("s", ":projection/mode :async")).unwrap();
    assert_eq!(all_sums(&conn.db(), "s"), all_sums(&clean.db(), "s"));
    for t in ts {
        assert_eq!(all_sums(&conn.db().as_of(t), "s"), all_sums(&clean.db().as_of(t), "s"), "as of {t}");
    }
    assert_eq!(conn.db().complete_to().unwrap(), conn.db().t());
    append(&conn, "acc-0", "Paid", json!({"amount": 1}));
    conn.catch_up("s").unwrap();
    assert!(conn.parked("s").unwrap().is_empty(), "the stream is let in again");
}

#[test]
fn a_parked_event_whose_facts_have_changed_since_asks_for_a_rebuild() {
    let one = r#"{:projection/name :total :projection/version 1 :projection/mode :async :projection/on-error [:retry 1 :park]
        :projection/schema [{:db/ident :total/key :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                             :db/unique :db.unique/identity}
                            {:db/ident :total/sum :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
        :projection/on [{:event "Paid" :assert [{:total/key "all" :total/sum (+ (current :total/sum 0) $data.amount)}]}]}"#;
    let conn = memory();
    with_poison(&conn);
    conn.add_projection(one).unwrap();
    conn.upcast(Mend).unwrap();
    let e = conn.replay_parked("total").unwrap_err();
    assert_eq!(e.code(), "projection/entangled");
    assert_eq!(conn.parked("total").unwrap().len(), 51, "nothing was taken");
    let rebuilt = conn.rebuild_projection("total").unwrap();
    assert_eq!((rebuilt.version, rebuilt.declared, rebuilt.parked), (2, 1, 0));
    assert_eq!(longs(&conn.db(), "[:find ?s :where [_ :total/sum ?s]]"), [(1..=1000).sum::<i64>()]);
    // The same text registered again is the version that is there, not an older one.
    assert_eq!(conn.add_projection(one).unwrap().version, 2);
}

#[test]
fn s20_a_paused_projection_is_waited_for_and_catches_up_when_resumed() {
    let conn = memory();
    conn.add_projection(&sums("s", ":projection/mode :async")).unwrap();
    let runner = conn.run_projections().unwrap();
    let first = append(&conn, "acc-1", "Paid", json!({"amount": 1}));
    assert!(conn.wait_for("s", first.last, Duration::from_secs(20)).unwrap());
    conn.pause_projection("s").unwrap();
    let second = append(&conn, "acc-1", "Paid", json!({"amount": 2}));
    assert!(!conn.wait_for("s", second.last, Duration::from_millis(30)).unwrap());
    assert_eq!(conn.db().complete_to().unwrap(), T(second.t.0 - 1));
    conn.resume_projection("s").unwrap();
    assert!(conn.wait_for("s", second.last, Duration::from_secs(20)).unwrap());
    assert_eq!(longs(&conn.db(), "[:find ?s :where [_ :s/sum ?s]]"), [3]);
    assert_eq!(conn.db().complete_to().unwrap(), conn.db().t());
    runner.stop();
}

#[test]
fn a_paused_inline_projection_misses_nothing() {
    let conn = memory();
    conn.add_projection(&sums("s", "")).unwrap();
    append(&conn, "acc-1", "Paid", json!({"amount": 1}));
    conn.pause_projection("s").unwrap();
    let missed = append(&conn, "acc-1", "Paid", json!({"amount": 2}));
    assert_eq!(longs(&conn.db(), "[:find ?s :where [_ :s/sum ?s]]"), [1]);
    assert_eq!(conn.projections().unwrap()[0].lag, 1);
    conn.resume_projection("s").unwrap();
    append(&conn, "acc-1", "Paid", json!({"amount": 4}));
    assert_eq!(longs(&conn.db(), "[:find ?s :where [_ :s/sum ?s]]"), [7]);
    assert_eq!(longs(&conn.db().as_of(missed.t), "[:find ?s :where [_ :s/sum ?s]]"), [3]);
}

#[test]
fn states_parked_events_and_skips_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    {
        let conn = Options::new().open(dir.path()).unwrap();
        with_poison(&conn);
        conn.add_projection(&sums("parks", ":projection/mode :async :projection/on-error :park")).unwrap();
        conn.add_projection(&sums("halts", ":projection/mode :async")).unwrap_err();
        conn.skip_event("halts", Position(500), "ada", "a bad patch").unwrap();
    }
    let conn = Options::new().open(dir.path()).unwrap();
    assert_eq!(conn.parked("parks").unwrap().len(), 51);
    append(&conn, "acc-0", "Paid", json!({"amount": 1}));
    conn.catch_up("parks").unwrap();
    assert_eq!(conn.parked("parks").unwrap().len(), 52, "the stream is still aside");
    assert!(matches!(state(&conn, "halts"), ProjectionState::Halted { .. }));
    conn.resume_projection("halts").unwrap();
    conn.catch_up("halts").unwrap();
    let (skipped, clean) = (all_sums(&conn.db(), "halts"), (1..=1000).filter(|i| *i != 500));
    let of =
        |k: u64| Value::Long(clean.clone().filter(|i| i % 10 == k).sum::<u64>() as i64 + i64::from(k == 0));
    assert_eq!(skipped, (0..10).map(|k| vec![Value::from(k.to_string()), of(k)]).collect());
}

const TAGS: &str = r#"{:projection/name :tags :projection/version 1
    :projection/schema [{:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                         :db/unique :db.unique/identity}
                        {:db/ident :person/tag :db/valueType :db.type/keyword :db/cardinality :db.cardinality/many}]
    :projection/on [{:event ["Tagged" "TaggedAgain"]
                     :assert [{:person/name $stream.key :person/tag (keyword $data.tag)}]}]}"#;

#[test]
fn a23_s35_support_is_counted_skips_are_audited_and_a_rebuild_applies_them() {
    let conn = memory();
    conn.add_projection(TAGS).unwrap();
    let first = append(&conn, "person-ada", "Tagged", json!({"tag": "vip"}));
    let second = append(&conn, "person-ada", "TaggedAgain", json!({"tag": "vip"}));
    append(&conn, "person-ada", "Tagged", json!({"tag": "other"}));
    let ada = |db: &annals::Db| entity(db, "[:find ?e . :where [?e :person/name \"ada\"]]");
    let why = |db: &annals::Db| -> Vec<(u64, u32)> {
        let all = db.fact_support(ada(db), ":person/tag", &Value::keyword("vip")).unwrap();
        all.iter().map(|s| (s.event.position.0, s.projection.as_ref().unwrap().1)).collect()
    };
    assert_eq!(why(&conn.db()), [(1, 1), (2, 1)], "each event that says it");
    assert_eq!(why(&conn.db().as_of(first.t)), [(1, 1)], "as of the first there was one");

    let t = conn.skip_event("tags", Position(1), "eve", "the import of May was wrong").unwrap();
    let audit = format!("[:find ?by ?why :where [{} :tx/by ?by] [{0} :tx/why ?why]]", t.entity().raw());
    let said = vec![Value::from("eve"), Value::from("the import of May was wrong")];
    assert_eq!(rows(&conn.db(), &audit), BTreeSet::from([said]));
    let listed = conn.skipped("tags").unwrap();
    assert_eq!((listed[0].position, &*listed[0].by, listed[0].t), (Position(1), "eve", t));
    assert_eq!(why(&conn.db()), [(1, 1), (2, 1)], "what was made of it stays until a rebuild");

    let before = conn.db();
    assert_eq!(conn.rebuild_projection("tags").unwrap().version, 2);
    assert_eq!(why(&conn.db()), [(2, 2)], "one event still says it");
    assert_eq!(why(&before), [(1, 1), (2, 1)], "a value of before keeps its answer");
    let tags = "[:find ?t :where [?e :person/tag ?t]]";
    assert_eq!(rows(&conn.db().as_of(first.t), tags).len(), 0, "the new version answers for the past");
    assert_eq!(rows(&conn.db().as_of(second.t), tags).len(), 1);
    assert_eq!(rows(&conn.db(), "[:find ?t :where [?e :person.v1/tag ?t]]").len(), 2, "v1 keeps it");

    conn.skip_event("tags", Position(2), "eve", "and that of June").unwrap();
    conn.rebuild_projection("tags").unwrap();
    assert_eq!(rows(&conn.db(), tags), BTreeSet::from([vec![Value::keyword("other")]]));
    assert_eq!(conn.db().events().all(&[], Position::ZERO, 10).unwrap().0.len(), 3, "the log keeps all");
    assert_eq!(conn.skip_event("tags", Position(9), "eve", "").unwrap_err().code(), "projection/no-event");
    assert_eq!(conn.skip_event("nope", Position(1), "eve", "").unwrap_err().code(), "projection/unknown");
}

#[test]
fn support_of_one_event_among_several_in_a_transaction_is_exact() {
    let conn = memory();
    conn.add_projection(TAGS).unwrap();
    let two = Append::to("person-ada")
        .push(event("Tagged", json!({"tag": "a"})))
        .push(event("Tagged", json!({"tag": "b"})));
    conn.append(two).unwrap();
    let db = conn.db();
    let ada = entity(&db, "[:find ?e . :where [?e :person/name \"ada\"]]");
    let of = |attr: &str, v: Value| -> Vec<u64> {
        db.fact_support(ada, attr, &v).unwrap().iter().map(|s| s.event.position.0).collect()
    };
    assert_eq!(of("person/tag", Value::keyword("a")), [1]);
    assert_eq!(of("person/tag", Value::keyword("b")), [2]);
    assert_eq!(of("person/name", Value::from("ada")), [1, 2]);
    assert_eq!(of("person/tag", Value::keyword("c")), [0u64; 0]);
    // "Which event made this fact?" in one query: a projected fact has its event's transaction.
    let q = "[:find ?p :where [?e :person/tag :b ?tx] [?ev :event/t ?tx] [?ev :event/position ?p]]";
    assert_eq!(longs(&db, q), [1, 2]);
}

#[test]
fn s24_the_chain_behind_a_fact_leads_through_commands_and_events() {
    let conn = memory();
    conn.add_projection(TAGS).unwrap();
    let ordered = event("Ordered", json!({}));
    let (order, id) = (CommandId::fresh(), ordered.id);
    conn.append(Append::to("order-1").push(ordered).command(CommandOutcome::done(order, b"order"))).unwrap();
    let tag = CommandId::fresh();
    let tagged = event("Tagged", json!({"tag": "vip"})).caused_by(id.0);
    conn.append(Append::to("person-ada").push(tagged).command(CommandOutcome::done(tag, b"tag"))).unwrap();
    let db = conn.db();
    let ada = entity(&db, "[:find ?e . :where [?e :person/name \"ada\"]]");
    let why = db.fact_support(ada, ":person/tag", &Value::keyword("vip")).unwrap();
    assert_eq!(why[0].command.as_ref().unwrap().id, tag);
    let chain: Vec<String> = why[0]
        .chain
        .iter()
        .map(|c| match c {
            Cause::Event(e) => e.ty().to_owned(),
            Cause::Command(c) => c.id.0.to_string(),
            Cause::Outside(id) => format!("outside {id}"),
        })
        .collect();
    assert_eq!(chain, [tag.0.to_string(), "Ordered".to_owned(), order.0.to_string()]);
}

#[test]
fn a_dropped_projection_gives_up_its_facts_and_names_and_the_past_keeps_them() {
    let conn = memory();
    conn.add_projection(TAGS).unwrap();
    let tagged = append(&conn, "person-ada", "Tagged", json!({"tag": "vip"}));
    let tags = "[:find ?t :where [?e :person/tag ?t]]";
    let dropped = conn.drop_projection(":tags").unwrap();
    assert_eq!(dropped.facts, 2);
    assert_eq!(state(&conn, "tags"), ProjectionState::Dropped);
    append(&conn, "person-eve", "Tagged", json!({"tag": "vip"}));
    assert_eq!(rows(&conn.db(), "[:find ?t :where [?e :person.v1/tag ?t]]").len(), 0);
    assert_eq!(rows(&conn.db().as_of(tagged.t), tags).len(), 1, "what was so then");
    // Its names are free: for the same projection again, or for anybody.
    conn.add_projection(TAGS).unwrap();
    assert_eq!(rows(&conn.db(), "[:find ?n :where [?e :person/name ?n]]").len(), 2);
    conn.drop_projection("tags").unwrap();
    conn.transact(
        "[{:db/ident :person/tag :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]",
    )
    .unwrap();
    assert_eq!(conn.drop_projection("nope").unwrap_err().code(), "projection/unknown");
}

#[test]
fn projections_registered_before_an_import_do_not_hold_its_clock() {
    let conn = memory();
    conn.add_projection(&sums("inline", "")).unwrap();
    conn.add_projection(&sums("late", ":projection/mode :async")).unwrap();
    let runner = conn.run_projections().unwrap();
    let line = |i: i64| {
        json!({"stream": format!("acc-{}", i % 3), "type": "Paid", "seq": i, "time_unix": 86_400 * i,
               "data": {"amount": 1}})
        .to_string()
    };
    let log: String = (1..=3000).map(|i| line(i) + "\n").collect();
    assert_eq!(conn.import_events(log.as_bytes()).unwrap().stored, 3000);
    assert!(conn.wait_for("late", Position(3000), Duration::from_secs(60)).unwrap());
    runner.stop();
    let total = |db: &annals::Db, name: &str| {
        longs(db, &format!("[:find (sum ?s) :with ?e :where [?e :{name}/sum ?s]]"))
    };
    for day in [1, 999, 2500] {
        let then = conn.db().as_of(annals::Instant::from_millis(86_400_000 * day)).unwrap();
        assert_eq!(total(&then, "inline"), [day], "as of day {day}");
        assert_eq!(total(&then, "late"), [day], "as of day {day}");
    }
}

#[test]
fn what_if_a_changed_projection_is_compared_and_nothing_is_written() {
    let conn = memory();
    conn.add_projection(&sums("s", "")).unwrap();
    for i in 1..=30 {
        append(&conn, &format!("acc-{}", i % 3), "Paid", json!({"amount": i}));
    }
    let t = conn.db().basis_t();
    let changed = sums("s", "").replace("\"Paid\" :assert", "\"Paid\" :when (> $data.amount 28) :assert");
    let diff = conn.preview_projection(ProjectionSpec::edn(&changed).unwrap()).unwrap();
    assert_eq!((diff.live, diff.events, diff.refused.len()), (Some(1), 30, 0));
    let key = |k: &str| Value::vector([Value::keyword("s/key"), Value::from(k)]);
    let added: Vec<_> = diff.added.iter().map(|f| (f.entity.clone(), f.value.clone())).collect();
    assert_eq!(added, [(key("0"), Value::Long(30)), (key("2"), Value::Long(29))]);
    assert_eq!(diff.removed.len(), 4, "the sums of three, and the key of one: {:?}", diff.removed);
    assert_eq!(diff.same, 2);
    let poison = sums("s", "").replace("$data.amount)", "$data.nothing)");
    let diff = conn.preview_projection(ProjectionSpec::edn(&poison).unwrap()).unwrap();
    assert_eq!(diff.refused.len(), 30, "every event that it cannot take is listed");
    assert!(diff.refused[0].why.contains("$data.nothing"), "{}", diff.refused[0].why);
    assert_eq!(conn.db().basis_t(), t, "nothing was written");
    let same = conn.preview_projection(ProjectionSpec::edn(&sums("s", "")).unwrap()).unwrap();
    assert_eq!((same.added.len(), same.removed.len(), same.same), (0, 0, 6));
    // Who asks may go away, and is not given more than was agreed.
    let within = |cancel: &annals::Cancel, max_facts| {
        let options = PreviewOptions { cancel: cancel.clone(), max_facts };
        conn.preview_projection_with(ProjectionSpec::edn(&changed).unwrap(), &options)
    };
    assert_eq!(within(&annals::Cancel::new(), 6).unwrap().added.len(), 2);
    assert_eq!(within(&annals::Cancel::new(), 3).unwrap_err().code(), "projection/too-large");
    let gone = annals::Cancel::new();
    gone.cancel();
    assert_eq!(within(&gone, 6).unwrap_err().code(), "projection/cancelled");
    // Entities without identity are told apart by what made them.
    let log = r#"{:projection/name :log :projection/version 1
        :projection/schema [{:db/ident :log/amount :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
        :projection/on [{:event "Paid" :assert [{:log/amount $data.amount}]}]}"#;
    conn.add_projection(log).unwrap();
    let half = log.replace("\"Paid\" :assert", "\"Paid\" :when (<= $data.amount 15) :assert");
    let diff = conn.preview_projection(ProjectionSpec::edn(&half).unwrap()).unwrap();
    assert_eq!((diff.added.len(), diff.removed.len(), diff.same), (0, 15, 15));
    let twice = log.replace("$data.amount}", "(* 2 $data.nothing)}");
    let diff = conn.preview_projection(ProjectionSpec::edn(&twice).unwrap()).unwrap();
    assert_eq!(&*diff.refused[0].why, ":log/amount needs $data.nothing, which the event does not have");
}

#[test]
fn s23_speculative_appends_are_judged_asked_and_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let conn = Options::new().open(dir.path()).unwrap();
    conn.add_projection(&sums("s", "")).unwrap();
    append(&conn, "acc-1", "Paid", json!({"amount": 1}));
    conn.checkpoint().unwrap();
    let bytes = || -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        let mut folders = vec![dir.path().to_owned()];
        while let Some(f) = folders.pop() {
            for e in std::fs::read_dir(f).unwrap().map(Result::unwrap) {
                match e.file_type().unwrap().is_dir() {
                    true => folders.push(e.path()),
                    // LMDB's lock file counts readers.
                    false if e.path().to_string_lossy().contains("lock") => {}
                    false => all.push((e.path(), std::fs::read(e.path()).unwrap())),
                }
            }
        }
        all.sort();
        all
    };
    let before = bytes();
    let mut db = conn.db();
    for (i, amount) in [10, 20, 30].into_iter().enumerate() {
        let paid = event("Paid", json!({ "amount": amount }));
        let secret =
            NewEvent::new("Noted", Value::map([(Value::keyword("who"), personal("p-1", "Ada"))])).unwrap();
        let a = Append::to("acc-1").expect_version(1 + 2 * i as u64).push(paid).push(secret);
        let (report, appended) = db.with_append(a).unwrap();
        assert_eq!(appended.version(), Version(3 + 2 * i as u64));
        db = report.db_after().clone();
    }
    assert_eq!(longs(&db, "[:find ?s :where [_ :s/sum ?s]]"), [61]);
    assert_eq!(db.events().head().unwrap(), Position(7));
    let versions: Vec<_> =
        db.events().stream(&stream("acc-1"), Version(1), 10).unwrap().iter().map(|e| e.version.0).collect();
    assert_eq!(versions, (1..=7).collect::<Vec<_>>());
    let back = db.events().stream_back(&stream("acc-1"), Version(7), 3).unwrap();
    assert_eq!(back.iter().map(|e| e.version.0).collect::<Vec<_>>(), [7, 6, 5]);
    let stale =
        db.with_append(Append::to("acc-1").expect_version(1).push(event("Paid", json!({"amount": 1}))));
    let Err(AppendError::WrongVersion { actual: Version(7), since, .. }) = stale else { panic!("{stale:?}") };
    assert_eq!(since, (2..=7).map(Position).collect::<Vec<_>>(), "S36: what came between");
    assert_eq!(bytes(), before, "not a byte of the files has changed");
    assert_eq!(longs(&conn.db(), "[:find ?s :where [_ :s/sum ?s]]"), [1]);
    append(&conn, "acc-1", "Paid", json!({"amount": 5}));
    assert_eq!(longs(&conn.db(), "[:find ?s :where [_ :s/sum ?s]]"), [6]);
}

#[test]
fn s37_a_copied_stream_folds_equal_names_its_originals_and_the_source_has_ended() {
    let conn = memory();
    for i in 1..=5 {
        append(&conn, "acc-1", "Paid", json!({"amount": i}));
    }
    let secret =
        NewEvent::new("Noted", Value::map([(Value::keyword("who"), personal("p-1", "Ada"))])).unwrap();
    conn.append(Append::to("acc-1").push(secret)).unwrap();
    let originals = conn.db().events().stream(&stream("acc-1"), Version(1), 10).unwrap();
    let done = conn
        .copy_stream(&stream("acc-1"), &stream("account-1"), |e| {
            vec![e.event.clone(); usize::from(e.version.0 != 2)]
        })
        .unwrap();
    assert_eq!((done.first, done.last), (Position(7), Position(11)));
    let log = conn.db().events();
    let copies = log.stream(&stream("account-1"), Version(1), 10).unwrap();
    let kept: Vec<_> = originals.iter().filter(|e| e.version.0 != 2).collect();
    for (copy, original) in copies.iter().zip(&kept) {
        assert_eq!((copy.data(), copy.ty()), (original.data(), original.ty()));
        assert_eq!(copy.event.meta.causation, Some(original.id().0));
        assert_eq!(copy.event.occurred_at, Some(original.time()));
    }
    assert_eq!(log.stream(&stream("acc-1"), Version(1), 10).unwrap_err().code(), "event/tombstoned");
    assert_eq!(
        log.all(&[], Position::ZERO, 100).unwrap().0.len(),
        11,
        "the originals stay at their positions"
    );
    let again = conn.copy_stream(&stream("acc-1"), &stream("account-2"), |_| Vec::new());
    assert_eq!(again.unwrap_err().code(), "event/tombstoned");
    conn.forget_subject("p-1").unwrap();
    let copies = conn.db().events().stream(&stream("account-1"), Version(5), 1).unwrap();
    assert_eq!(copies[0].data().field("who").unwrap(), Some(Value::keyword("annals/erased")), "sealed again");
}

#[test]
fn s33_strict_tracking_refuses_gaps_and_old_numbers() {
    let conn = memory();
    let send = |number, gapless| {
        let tracking = annals::event::Tracking { source: stream("shop-1"), number, gapless };
        conn.append(Append::to("in-1").push(event("Got", json!({ "n": number }))).tracking(tracking))
    };
    send(1, true).unwrap();
    assert_eq!(send(3, true).unwrap_err().code(), "event/tracking-gap");
    send(2, true).unwrap();
    send(3, true).unwrap();
    assert_eq!(send(3, true).unwrap_err().code(), "event/tracking-behind");
    send(7, false).unwrap();
    assert_eq!(conn.db().events().tracking(&stream("shop-1")).unwrap(), 7);
    assert_eq!(conn.db().events().head().unwrap(), Position(4));
}

#[test]
fn s56_a_checkpoint_stream_keeps_one() {
    let conn = memory();
    conn.retain(&stream("checkpoint-1"), 1, 0).unwrap();
    for i in 1..=20 {
        append(&conn, "checkpoint-1", "At", json!({ "position": i }));
    }
    let log = conn.db().events();
    let shown = log.stream(&stream("checkpoint-1"), Version(1), 100).unwrap();
    assert_eq!(shown.iter().map(|e| e.version.0).collect::<Vec<_>>(), [20]);
    assert_eq!(log.stream_back(&stream("checkpoint-1"), Version(u64::MAX), 100).unwrap().len(), 1);
    assert_eq!(log.head().unwrap(), Position(20), "positions stay dense");
    conn.append(Append::to("checkpoint-1").expect_version(20).push(event("At", json!({})))).unwrap();
}

const PEOPLE: &str = r#"{:projection/name :people :projection/version 1
    :projection/schema [{:db/ident :person/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                         :db/unique :db.unique/identity}
                        {:db/ident :person/email :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                         :db/unique :db.unique/identity}
                        {:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
                        {:db/ident :person/greeting :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
                        {:db/ident :person/visits :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
    :projection/on [{:event ["Registered" "Renamed"]
                     :assert [{:person/id $stream.key :person/name $data.name :person/email $data.email
                               :person/greeting (str "Dear " $data.name)
                               :person/visits (+ 1 (current :person/visits 0))}]}]}"#;

#[test]
fn a24_an_erased_subject_is_gone_from_events_facts_history_and_files_and_projections_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let conn = Options::new().open(dir.path()).unwrap();
    conn.add_projection(PEOPLE).unwrap();
    let register = |ty: &str, who: &str, name: &str, email: &str| {
        let data = Value::map([
            (Value::keyword("name"), personal(who, name)),
            (Value::keyword("email"), personal(who, email)),
        ]);
        conn.append(Append::to(format!("person-{who}")).push(NewEvent::new(ty, data).unwrap())).unwrap()
    };
    let first = register("Registered", "p7", "Ada Lovelace", "ada@example.org");
    register("Registered", "p8", "Charles Babbage", "charles@example.org");
    register("Renamed", "p7", "Ada King-Noel", "ada@example.org");
    register("Renamed", "p8", "Ada King-Noel", "charles@example.org");
    conn.rebuild_projection("people").unwrap();
    conn.checkpoint().unwrap();
    let holds = |text: &str| -> bool {
        let mut folders = vec![dir.path().to_owned()];
        while let Some(f) = folders.pop() {
            for e in std::fs::read_dir(f).unwrap().map(Result::unwrap) {
                if e.file_type().unwrap().is_dir() {
                    folders.push(e.path());
                } else if std::fs::read(e.path()).unwrap().windows(text.len()).any(|w| w == text.as_bytes()) {
                    return true;
                }
            }
        }
        false
    };
    assert!(holds("Ada Lovelace"), "as a fact, before");

    let erased = conn.erase_subject("p7").unwrap();
    assert!(erased.known);
    assert_eq!((erased.events, erased.facts), (2, 10), "name twice, greeting twice, email: of two versions");
    let elsewhere: BTreeSet<Value> = erased.elsewhere.iter().map(|d| d.v.clone()).collect();
    assert_eq!(elsewhere, BTreeSet::from([Value::from("Ada King-Noel")]), "the other person of that name");

    let names = "[:find ?n :where [_ :person/name ?n]]";
    for db in [conn.db(), conn.db().as_of(first.t), conn.db().history()] {
        let all = rows(&db, names);
        assert!(!all.contains(&vec![Value::from("Ada Lovelace")]), "{all:?}");
    }
    let history = rows(&conn.db().history(), "[:find ?n :where [_ :person.v1/name ?n]]");
    assert!(!history.contains(&vec![Value::from("Ada Lovelace")]), "a retired version too: {history:?}");
    let p7 = "[:find ?v . :where [?e :person/id \"p7\"] [?e :person/visits ?v]]";
    assert_eq!(conn.db().query(p7, ()).unwrap().scalar(), Some(Value::Long(2)), "what is not personal stays");
    let log = conn.db().events();
    let events = log.all(&[], Position::ZERO, 100).unwrap().0;
    assert_eq!(events.iter().map(|e| e.position.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(events[0].data().field("name").unwrap(), Some(Value::keyword("annals/erased")));
    assert_eq!(events[1].data().field("name").unwrap(), Some(Value::from("Charles Babbage")));

    conn.compact().unwrap();
    for text in ["Ada Lovelace", "ada@example.org"] {
        assert!(!holds(text), "{text} is in a file");
    }
    conn.rebuild_projection("people").unwrap();
    let all = rows(&conn.db(), "[:find ?id ?v :where [?e :person/id ?id] [?e :person/visits ?v]]");
    let two = |id: &str| vec![Value::from(id), Value::Long(2)];
    assert_eq!(all, BTreeSet::from([two("p7"), two("p8")]));
    assert_eq!(rows(&conn.db(), names), BTreeSet::from([vec![Value::from("Ada King-Noel")]]));
    // Nothing more is stored under the name; appends of others go on.
    let data = Value::map([(Value::keyword("name"), personal("p7", "Ada again"))]);
    let again = conn.append(Append::to("person-p7").push(NewEvent::new("Noted", data).unwrap()));
    assert_eq!(again.unwrap_err().code(), "event/subject-erased");
    register("Renamed", "p8", "Charles B.", "charles@example.org");
    assert!(conn.verify().is_ok());
    let nobody = conn.erase_subject("nobody").unwrap();
    assert_eq!((nobody.known, nobody.events, nobody.facts), (false, 0, 0));
}

struct Fails(std::sync::Arc<std::sync::atomic::AtomicBool>);
impl Projection for Fails {
    const NAME: &'static str = "fragile";
    const VERSION: u32 = 1;
    fn schema(&self) -> &str {
        "[{:db/ident :fragile/n :db/valueType :db.type/long :db/cardinality :db.cardinality/many}]"
    }
    fn wants(&self) -> Vec<Item> {
        vec![Item::types(["Paid"]).unwrap()]
    }
    fn mode(&self) -> annals::event::Mode {
        annals::event::Mode::Async { batch: 100 }
    }
    fn project(
        &self,
        e: &annals::event::Recorded,
        _: &mut annals::event::Before<'_, '_>,
        out: &mut annals::event::Facts,
    ) -> Result<(), String> {
        if e.position.0 == 7 && self.0.load(std::sync::atomic::Ordering::Relaxed) {
            return Err("not yet".into());
        }
        out.assert(annals::event::Subject::New(0), "fragile/n", e.position.0 as i64);
        Ok(())
    }
}

#[test]
fn a_projection_in_rust_that_halted_goes_on_when_mended_code_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    {
        let conn = Options::new().open(dir.path()).unwrap();
        for i in 1..=10 {
            append(&conn, "acc-1", if i == 3 { "Other" } else { "Paid" }, json!({}));
        }
        let e = conn.register(ProjectionSpec::rust(Fails(broken.clone())).unwrap()).unwrap_err();
        assert_eq!(e.to_string(), "projection :fragile stopped at event 7: not yet");
    }
    let conn = Options::new().open(dir.path()).unwrap();
    let absent = conn.rebuild_projection("fragile").unwrap_err();
    assert_eq!(absent.code(), "projection/not-registered");
    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    let mended = conn.register(ProjectionSpec::rust(Fails(broken)).unwrap()).unwrap();
    assert_eq!((mended.state, mended.position, mended.lag), (ProjectionState::Live, Position(10), 0));
    let q = "[:find ?n :where [_ :fragile/n ?n]]";
    assert_eq!(longs(&conn.db(), q), [1, 2, 4, 5, 6, 7, 8, 9, 10], "and only of events it asks for");
}

#[test]
fn a_definition_that_never_answered_may_be_mended_under_its_version() {
    let conn = memory();
    append(&conn, "acc-1", "Paid", json!({"amount": "x"}));
    let e = conn.add_projection(&sums("s", "")).unwrap_err();
    assert_eq!(e.code(), "projection/poison");
    let mended = sums("s", "").replace("$data.amount", "(count $data.amount)");
    let added = conn.add_projection(&mended).unwrap();
    assert_eq!((added.declared, added.state), (1, ProjectionState::Live));
    assert_eq!(longs(&conn.db(), "[:find ?s :where [_ :s/sum ?s]]"), [1]);
    assert_eq!(conn.add_projection(&sums("s", "")).unwrap_err().code(), "projection/version-taken");
}

#[test]
fn a_feed_of_one_type_ends_where_the_log_does() {
    let conn = memory();
    append(&conn, "acc-1", "Paid", json!({}));
    let mut feed = conn.subscribe(vec![Item::types(["Paid"]).unwrap()], Start::Beginning).unwrap();
    assert!(matches!(feed.next_within(Duration::ZERO).unwrap(), Some(Feed::Event(_))));
    assert_eq!(feed.next_within(Duration::ZERO).unwrap(), Some(Feed::Checkpoint(Position(1))));
}
