//! Personal values beyond the events: what processes, timers, queued commands, refusals and
//! snapshots keep of them, before and after their subject is erased (A24). Whether a text is there
//! is looked up in the bytes of all files, but for the file of the keys.

use annals::{
    Connection, Instant, Options, Value,
    event::{
        Aggregate, Append, CommandId, CommandRequest, CommandStatus, CommandTo, Decide, Dispatch, Event,
        NewEvent, Out, ProcessManager, ProcessState, Recorded, Refusal, Route, SnapshotPolicy, Start,
        TextErasure, personal,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use uuid::Uuid;

const NAME: &str = "Ada Lovelace";

/// Is the text in any file of the database?
fn holds(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().map(Result::unwrap).any(|e| match e.file_type().unwrap().is_dir() {
        true => holds(&e.path(), text),
        false => {
            let bytes = std::fs::read(e.path()).unwrap();
            let at = bytes.windows(text.len()).position(|w| w == text.as_bytes());
            if let Some(at) = at {
                let around = &bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())];
                println!("{}: {}", e.path().display(), String::from_utf8_lossy(around));
            }
            at.is_some()
        }
    })
}

/// After everything has reached the files, and what was overwritten is gone from them.
fn settled(conn: &Connection) {
    conn.checkpoint().unwrap();
    conn.compact().unwrap();
}

fn registered(conn: &Connection, who: &str, name: &str) {
    let data =
        Value::map([(Value::keyword("name"), personal(who, name)), (Value::keyword("n"), Value::Long(1))]);
    conn.append(Append::to(format!("person-{who}")).push(NewEvent::new("Registered", data).unwrap()))
        .unwrap();
}

fn drain(conn: &Connection) {
    while conn.step_processes().unwrap().is_some() {}
}

/// Letters, of which only the number is an event.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Letters {
    sent: u32,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Write {
    Letter { text: String },
    Complaint { about: String },
}
#[derive(Debug, Serialize, Deserialize)]
enum Written {
    Sent,
}
impl Event for Written {
    const TYPES: &'static [(&'static str, u32)] = &[("Sent", 1)];
}
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
enum Refused {
    #[error("nobody complains about {about}")]
    NoComplaints { about: String },
}
impl Aggregate for Letters {
    const CATEGORY: &'static str = "letters";
    type Command = Write;
    type Event = Written;
    type Error = Refused;
    fn apply(&mut self, _: &Written) {
        self.sent += 1;
    }
    fn handle(&self, c: Write, _: &Decide<'_>) -> Result<Vec<Written>, Refused> {
        match c {
            Write::Letter { text } if text.is_empty() => Ok(vec![]),
            Write::Letter { .. } => Ok(vec![Written::Sent]),
            Write::Complaint { about } => Err(Refused::NoComplaints { about }),
        }
    }
}

/// Greets who registers, and writes again a day later.
struct Welcome;
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Greeted {
    name: Option<String>,
    times: u32,
    refused: Vec<String>,
}
const DAY: i64 = 86_400_000_000;
impl ProcessManager for Welcome {
    const NAME: &'static str = "welcome";
    type State = Greeted;
    fn start(&self) -> Start {
        Start::Beginning
    }
    fn route(&self, e: &Recorded) -> Vec<Route> {
        match e.ty() {
            "Registered" => vec![Route::Start(e.stream.key().into())],
            "Asked" => vec![Route::Continue(e.stream.key().into())],
            _ => vec![],
        }
    }
    fn handle(&self, s: &Greeted, e: &Recorded, out: &mut Out) {
        let name = match e.data().field("name").unwrap() {
            Some(Value::String(name)) => name.to_string(),
            _ => s.name.clone().unwrap_or_default(),
        };
        let first = name.split(' ').next_back().unwrap_or_default().to_owned();
        out.send::<Letters>("1", &Write::Letter { text: format!("Dear {name}, welcome") });
        out.send_at::<Letters>(
            Instant(e.recorded_at.0 + DAY),
            "again",
            "1",
            &Write::Letter { text: format!("{first}, are you there?") },
        );
    }
    fn apply(&self, s: &mut Greeted, e: &Recorded) {
        if let Some(Value::String(name)) = e.data().field("name").unwrap() {
            s.name = Some(name.to_string());
        }
        s.times += 1;
    }
    fn rejected(&self, _: &Greeted, _: &CommandTo, refusal: &Refusal, out: &mut Out) {
        assert_eq!(refusal.code, "command/erased");
        out.send::<Letters>("2", &Write::Letter { text: String::new() });
    }
}

/// Without anybody who writes letters: they wait in the queue.
fn greeter(dir: &Path, clock: &Arc<AtomicI64>) -> Connection {
    let now = clock.clone();
    let conn =
        Options::new().clock(move || Instant(now.load(Ordering::SeqCst))).open(dir.join("db")).unwrap();
    conn.register_process(Welcome).unwrap();
    conn
}

fn shop(dir: &Path, clock: &Arc<AtomicI64>) -> Connection {
    let conn = greeter(dir, clock);
    conn.register_commands::<Letters>().unwrap();
    conn
}

#[test]
fn a24_what_a_process_makes_of_personal_values_is_sealed_and_unreadable_when_erased() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000_000_000));
    let conn = greeter(dir.path(), &clock);
    registered(&conn, "ada", NAME);
    registered(&conn, "bob", "Charles Babbage");
    // The process has taken both; the commands are queued, the timers set.
    drain(&conn);
    assert_eq!(conn.queued_commands().unwrap().len(), 2);
    let state = |who: &str| conn.process_state::<Welcome>(who).unwrap().unwrap();
    assert_eq!(state("ada").name.as_deref(), Some(NAME), "who reads it sees it");
    let texts = |conn: &Connection| {
        conn.queued_commands().unwrap().iter().map(|q| format!("{:?}", q.to.payload)).collect::<String>()
    };
    assert!(texts(&conn).contains("Dear Ada Lovelace, welcome"));
    assert_eq!(conn.timers().unwrap().len(), 2);
    settled(&conn);
    for text in [NAME, "Lovelace", "Babbage", "Dear "] {
        assert!(!holds(dir.path(), text), "{text} stands in a file in the clear");
    }

    let erased = conn.erase_subject("ada").unwrap();
    assert_eq!(
        (erased.known, erased.events, erased.processes.len()),
        (true, 1, 0),
        "nothing was in the clear"
    );
    drop(conn);
    let conn = shop(dir.path(), &clock);
    let state = |who: &str| conn.process_state::<Welcome>(who).unwrap().unwrap();
    assert_eq!(state("ada"), Greeted { name: None, times: 1, refused: vec![] });
    assert_eq!(state("bob").name.as_deref(), Some("Charles Babbage"));
    // Bob's letters go out; those to Ada can no longer be written, and the process is told.
    let adas = conn.queued_commands().unwrap().iter().map(|q| q.id).collect::<Vec<_>>();
    drain(&conn);
    clock.fetch_add(2 * DAY, Ordering::SeqCst);
    drain(&conn);
    assert!(conn.queued_commands().unwrap().is_empty() && conn.timers().unwrap().is_empty());
    assert_eq!(conn.repository::<Letters>().load("1").unwrap().state.sent, 2);
    let outcomes: Vec<_> = adas.iter().map(|id| conn.command_status(*id).unwrap().unwrap().status).collect();
    let refused =
        |s: &CommandStatus| matches!(s, CommandStatus::Rejected { code, .. } if &**code == "command/erased");
    assert_eq!(outcomes.iter().filter(|s| refused(s)).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().any(|s| matches!(s, CommandStatus::Done(_))));

    // The state goes on being sealed when an event without personal values changes it.
    conn.append(Append::to("person-bob").event("Asked", "{}").unwrap()).unwrap();
    conn.append(Append::to("person-ada").event("Asked", "{}").unwrap()).unwrap();
    drain(&conn);
    assert_eq!((state("bob").times, state("ada").times), (2, 2));
    settled(&conn);
    assert!(!holds(dir.path(), "Babbage"));
    assert!(conn.verify().is_ok());
}

fn request(n: u128, ty: &str, field: &str, text: Value) -> CommandRequest {
    CommandRequest {
        category: "letters".into(),
        id: Some("1".into()),
        ty: ty.into(),
        payload: Value::map([(Value::keyword(field), text)]),
        dispatch: Dispatch::id(Uuid::from_u128(n)),
    }
}

#[test]
fn a24_rows_of_others_with_an_equal_text_stay_and_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000_000_000));
    let conn = shop(dir.path(), &clock);
    registered(&conn, "ada", NAME);
    drain(&conn);
    // Marked values are sealed, and read like others.
    conn.submit(request(1, "Letter", "text", personal("ada", format!("{NAME}, marked")))).unwrap();
    conn.submit(request(1, "Letter", "text", Value::from(format!("{NAME}, marked"))))
        .expect("the same request");
    settled(&conn);
    assert!(!holds(dir.path(), NAME));
    drain(&conn);
    assert!(matches!(
        conn.command_status(CommandId(Uuid::from_u128(1))).unwrap().unwrap().status,
        CommandStatus::Done(_)
    ));

    // Unmarked: a refusal that was stored, a command that was carried out, and one that waits. Nothing
    // says that they are hers: somebody else may be called so.
    let e = conn.command(request(2, "Complaint", "about", Value::from(NAME))).unwrap_err();
    assert_eq!(e.to_string(), format!("nobody complains about {NAME}"));
    conn.submit(request(3, "Letter", "text", Value::from(format!("To {NAME}")))).unwrap();
    drain(&conn);
    let mut waits = request(4, "Letter", "text", Value::from(format!("Once more to {NAME}")));
    waits.dispatch.meta.actor = Some(NAME.into());
    conn.submit(waits).unwrap();

    let erased = conn.erase_subject("ada").unwrap();
    let kinds: Vec<&str> = erased.elsewhere_rows.iter().filter_map(|p| p.split(' ').next()).collect();
    assert_eq!(kinds, ["command", "queued", "queued"], "{:?}", erased.elsewhere_rows);
    assert_eq!(erased.processes, Vec::<String>::new());
    let again = conn.command(request(2, "Complaint", "about", Value::from(NAME))).unwrap_err();
    assert_eq!(again.to_string(), format!("nobody complains about {NAME}"));
    drain(&conn);
    let status = |n| conn.command_status(CommandId(Uuid::from_u128(n))).unwrap().unwrap().status;
    assert!(matches!(status(3), CommandStatus::Done(_)));
    assert!(
        matches!(status(4), CommandStatus::Done(_)),
        "an accepted command is carried out: {:?}",
        status(4)
    );
    assert!(conn.queued_commands().unwrap().is_empty());
    assert!(conn.verify().is_ok());
}

#[test]
fn a24_what_stands_in_the_clear_in_rows_of_a_subjects_instances_is_taken_out() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000_000_000));
    let conn = greeter(dir.path(), &clock);
    // Told in the clear at first, of two people with one name.
    for who in ["ada", "bob"] {
        let told = Append::to(format!("person-{who}")).event("Registered", r#"{"name": "Ada Lovelace"}"#);
        conn.append(told.unwrap()).unwrap();
    }
    drain(&conn);
    let asked = Value::map([(Value::keyword("name"), personal("ada", NAME))]);
    conn.append(Append::to("person-ada").push(NewEvent::new("Asked", asked).unwrap())).unwrap();
    drain(&conn);
    let of_ada: Vec<_> = conn.queued_commands().unwrap().iter().map(|q| (q.id, q.sender.clone())).collect();
    let (of_ada, of_bob): (Vec<_>, Vec<_>) =
        of_ada.into_iter().partition(|(_, sender)| sender.as_ref().is_some_and(|s| s.1 == "ada"));
    assert_eq!((of_ada.len(), of_bob.len()), (2, 1));

    let erased = conn.erase_subject("ada").unwrap();
    let kinds =
        |names: &[String]| names.iter().map(|p| p.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    let mut own = kinds(&erased.processes);
    let mut others = kinds(&erased.elsewhere_rows);
    own.sort();
    others.sort();
    // The timers say a part of the name only, which is not told apart from any other word.
    assert_eq!(own, ["process", "queued"], "{erased:?}");
    assert_eq!(others, ["process", "queued"], "{erased:?}");
    drop(conn);
    let conn = shop(dir.path(), &clock);
    let state = |who: &str| conn.process_state::<Welcome>(who).unwrap().unwrap();
    assert_eq!((state("ada").name, state("bob").name.as_deref()), (None, Some(NAME)));
    clock.fetch_add(2 * DAY, Ordering::SeqCst);
    drain(&conn);
    let status = |id| conn.command_status(id).unwrap().unwrap().status;
    for (id, _) in of_ada {
        assert!(matches!(status(id), CommandStatus::Rejected { code, .. } if &*code == "command/erased"));
    }
    assert!(matches!(status(of_bob[0].0), CommandStatus::Done(_)));
    assert_eq!(conn.repository::<Letters>().load("1").unwrap().state.sent, 2, "both of Bob's");
    assert!(conn.verify().is_ok());
}

/// Keeps what was billed, in a field that must be there.
struct Bills;
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Billed {
    total: i64,
    times: u32,
}
impl ProcessManager for Bills {
    const NAME: &'static str = "bills";
    type State = Billed;
    fn route(&self, e: &Recorded) -> Vec<Route> {
        match e.ty() {
            "Billed" => vec![Route::Start(e.stream.key().into())],
            _ => vec![Route::Continue(e.stream.key().into())],
        }
    }
    fn handle(&self, _: &Billed, _: &Recorded, _: &mut Out) {}
    fn apply(&self, s: &mut Billed, e: &Recorded) {
        if let Some(Value::Long(total)) = e.data().field("total").unwrap() {
            s.total = total;
        }
        s.times += 1;
    }
}

#[test]
fn a24_a_state_that_cannot_be_read_after_an_erasure_ends_its_instance_and_halts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let conn = annals::Options::new().open(dir.path().join("db")).unwrap();
    conn.register_process(Bills).unwrap();
    let bill = |who: &str, total: i64| {
        let data = Value::map([(Value::keyword("total"), personal(who, total))]);
        conn.append(Append::to(format!("bill-{who}")).push(NewEvent::new("Billed", data).unwrap())).unwrap();
    };
    let ask = |who: &str| {
        conn.append(Append::to(format!("bill-{who}")).event("Asked", "{}").unwrap()).unwrap();
    };
    bill("ada", 5_000);
    bill("bob", 7_000);
    drain(&conn);
    assert_eq!(conn.process_state::<Bills>("ada").unwrap(), Some(Billed { total: 5_000, times: 1 }));
    conn.erase_subject("ada").unwrap();
    assert_eq!(conn.process_state::<Bills>("ada").unwrap_err().code(), "process/bad-state");
    ask("ada");
    ask("bob");
    drain(&conn);
    let now = &conn.processes().unwrap()[0];
    assert_eq!((&now.state, now.lag, now.instances, now.ended), (&ProcessState::Running, 0, 1, 1));
    assert_eq!(conn.process_state::<Bills>("ada").unwrap(), None);
    assert_eq!(conn.process_state::<Bills>("bob").unwrap(), Some(Billed { total: 7_000, times: 2 }));
    // It may begin anew.
    conn.append(Append::to("bill-ada").event("Billed", r#"{"total": 6}"#).unwrap()).unwrap();
    drain(&conn);
    assert_eq!(conn.process_state::<Bills>("ada").unwrap(), Some(Billed { total: 6, times: 1 }));
}

/// A reader of registrations that does not say that they are personal.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Person {
    name: Option<String>,
    visits: u32,
}
#[derive(Debug, Serialize, Deserialize)]
enum Happened {
    Registered { name: Option<String>, n: u32 },
    Visited,
}
impl Event for Happened {
    const TYPES: &'static [(&'static str, u32)] = &[("Registered", 1), ("Visited", 1)];
}
impl Aggregate for Person {
    const CATEGORY: &'static str = "person";
    type Command = ();
    type Event = Happened;
    type Error = Refused;
    fn apply(&mut self, e: &Happened) {
        match e {
            Happened::Registered { name, .. } => self.name.clone_from(name),
            Happened::Visited => self.visits += 1,
        }
    }
    fn handle(&self, (): (), _: &Decide<'_>) -> Result<Vec<Happened>, Refused> {
        Ok(vec![Happened::Visited])
    }
}

#[test]
fn a24_a_snapshot_that_kept_a_personal_value_goes_with_its_past_versions() {
    let dir = tempfile::tempdir().unwrap();
    let conn = Options::new().open(dir.path().join("db")).unwrap();
    let people = conn.repository::<Person>().snapshots(SnapshotPolicy { every: 2, schema: 1 });
    registered(&conn, "ada", NAME);
    registered(&conn, "bob", "Charles Babbage");
    for _ in 0..5 {
        people.dispatch("ada", (), Dispatch::new()).unwrap();
        people.dispatch("bob", (), Dispatch::new()).unwrap();
    }
    assert_eq!(people.load("ada").unwrap().state.name.as_deref(), Some(NAME));
    settled(&conn);
    assert!(holds(dir.path(), NAME), "the snapshot keeps it, and the log its older versions");
    let erased = conn.erase_subject("ada").unwrap();
    assert_eq!((erased.snapshots, erased.facts), (1, 0));
    settled(&conn);
    assert!(!holds(dir.path(), NAME));
    assert_eq!(people.load("ada").unwrap().state, Person { name: None, visits: 5 });
    assert_eq!(people.load("bob").unwrap().state.name.as_deref(), Some("Charles Babbage"));
    // Snapshots go on, without the name.
    for _ in 0..2 {
        people.dispatch("ada", (), Dispatch::new()).unwrap();
    }
    settled(&conn);
    assert!(!holds(dir.path(), NAME));
    assert_eq!(people.load("ada").unwrap().state.visits, 7);
    assert!(conn.verify().is_ok());
}

const TICKETS: &str = r#"{:projection/name :tickets :projection/version 1
 :projection/schema [{:db/ident :ticket/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                     {:db/ident :ticket/by :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
                     {:db/ident :ticket/city :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
 :projection/on [{:event "Opened" :assert [{:ticket/id $stream.key :ticket/by (maybe $data.by) :ticket/city $data.city}]}]}"#;

#[test]
fn a24_texts_in_the_clear_are_named_by_an_erasure_and_taken_out_of_events_and_rows_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicI64::new(1_000_000_000));
    let conn = shop(dir.path(), &clock);
    conn.add_projection(TICKETS).unwrap();
    registered(&conn, "ada", NAME);
    drain(&conn);
    // Nobody marked these. The second is of somebody else who is called so; the third has nothing to do with it.
    let opened = |n: u8, by: &str| {
        let data =
            Value::map([("by", by), ("city", "Bern")].map(|(k, v)| (Value::keyword(k), Value::from(v))));
        let e = NewEvent::new("Opened", data).unwrap().actor(by).meta("said", format!("{by} called"));
        conn.append(Append::to(format!("ticket-{n}")).push(e)).unwrap()
    };
    let (hers, namesake) = (opened(1, NAME), opened(2, NAME));
    opened(3, "Charles Babbage");
    conn.command(request(2, "Complaint", "about", Value::from(NAME))).unwrap_err();
    let before = conn.db();
    let head = before.events().head().unwrap();
    let as_appended = before.events().at(hers.first).unwrap().remove(0).event;
    let asked = |db: &annals::Db| {
        let by = "[:find ?id ?by ?city :where [?t :ticket/id ?id] [?t :ticket/city ?city] [(get-else $ ?t :ticket/by \"?\") ?by]]";
        annals::edn::print(&db.query(by, ()).unwrap().value())
    };
    let said = |db: &annals::Db, at: &annals::event::Appended| {
        let e = db.events().at(at.first).unwrap().remove(0);
        (e.version.0, format!("{:?} {:?}", e.event.data.value().unwrap(), e.event.meta))
    };
    assert!(asked(&before).contains(&format!(r#"["1" "{NAME}" "Bern"]"#)));

    let erased = conn.erase_subject("ada").unwrap();
    assert_eq!(erased.elsewhere_events, [hers.first, namesake.first]);
    assert_eq!(erased.elsewhere_rows.len(), 1, "{erased:?}");
    assert!(said(&conn.db(), &hers).1.contains(NAME), "an erasure names it and leaves it");

    let what =
        TextErasure { values: vec![NAME.into()], events: vec![hers.first], rows: erased.elsewhere_rows };
    let done = conn.erase_texts(&what).unwrap();
    assert_eq!((done.events, done.facts, done.processes.len()), (1, 1, 1), "{done:?}");
    assert_eq!((done.elsewhere_events, done.elsewhere.len()), (vec![namesake.first], 1));
    for db in [conn.db(), conn.db().as_of(hers.t), before.clone()] {
        let (version, text) = said(&db, &hers);
        assert_eq!((version, text.matches("annals/erased").count()), (1, 3), "{text}");
        assert!(!text.contains("Lovelace") && text.contains("Bern"), "{text}");
    }
    let rest = format!(r#"[["1" "?" "Bern"] ["2" "{NAME}" "Bern"] ["3" "Charles Babbage" "Bern"]]"#);
    assert_eq!(asked(&conn.db()), rest);
    assert!(said(&conn.db(), &namesake).1.contains(NAME));
    assert!(conn.append(Append::to("ticket-1").push(as_appended)).unwrap().replayed, "nobody brings it back");
    let again = conn.erase_texts(&what).unwrap();
    assert_eq!((again.events, again.facts, again.t), (0, 0, None));
    let refused = conn.command(request(2, "Complaint", "about", Value::from(NAME))).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "nobody complains about annals/erased",
        "the stored answer, without the name"
    );

    // Of all that hold it: then it is in no file, and what is left goes on.
    let events = vec![namesake.first];
    conn.erase_texts(&TextErasure { values: vec![NAME.into()], events, ..TextErasure::default() }).unwrap();
    conn.rebuild_projection("tickets").unwrap();
    settled(&conn);
    assert!(!holds(dir.path(), "Lovelace"));
    assert!(conn.verify().is_ok());
    drop((before, conn));
    let conn = shop(dir.path(), &clock);
    assert_eq!(asked(&conn.db()), r#"[["1" "?" "Bern"] ["2" "?" "Bern"] ["3" "Charles Babbage" "Bern"]]"#);
    let next =
        conn.append(Append::to("ticket-4").event("Opened", r#"{"city": "Rome"}"#).unwrap()).unwrap().first;
    assert_eq!(next.0, head.0 + 1, "positions go on");
}
