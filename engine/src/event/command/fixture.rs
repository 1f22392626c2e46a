//! Given, when, then: rules tested without files, and held to being pure.
//!
//! 1. What happened is compared exactly: an event more, or in another order, fails.
//! 2. Every `apply` and every `handle` is run twice, on two folds of the same events;
//!    a difference fails, and so does a `handle` that changed the state.
//! 3. Events go through the form they are stored in, so that one that cannot be read
//!    back fails here and not in production.
//!
//! This is for tests: where another part of the crate answers an error, this panics
//! at the caller's line, with what was expected and what was found.

use crate::event::{
    aggregate::{Aggregate, fold, stream_of},
    append::Append,
    command::{CommandTo, Dispatch},
    data::Data,
    decision::Decide,
    dispatch::{command_event, event_meta},
    event_type::{Event, new_event},
    id::{CommandId, EventId, StreamId, Version},
    process::{AnyProcess, Outgoing, ProcessManager, Work},
    record::{Meta, NewEvent, Recorded},
    refusal::refusal,
    wire,
};
use crate::{Connection, IntoInputs, Options};
use annals_model::{Instant, Value};
use annals_query::edn;
use parking_lot::Mutex;
use std::{fmt::Debug, sync::Arc};
use uuid::Uuid;

/// The id of the aggregate under test.
const ID: &str = "fixture";
/// The command under test: ids made from it are the same in each run.
const COMMAND: CommandId = CommandId(Uuid::from_u128(0xf1c7_0000_0000_5000_8000_0000_0000_0001));
/// The clock, unless [`Fixture::at`] sets it: 2026-01-01T00:00:00Z.
const NOW: Instant = Instant(1_767_225_600_000_000);

/// What has happened to an aggregate before a command.
///
/// ```
/// # use annals::event::{Aggregate, Decide, Event};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Default, Debug, PartialEq)]
/// # struct Task { created: bool, done: bool }
/// # #[derive(Clone, Serialize, Deserialize)]
/// # enum TaskCommand { Create, Complete }
/// # #[derive(Serialize, Deserialize)]
/// # enum TaskEvent { Created, Completed }
/// # impl Event for TaskEvent { const TYPES: &'static [(&'static str, u32)] = &[("Created", 1), ("Completed", 1)]; }
/// # #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
/// # enum TaskError { #[error("not yet created")] NotYetCreated }
/// # impl Aggregate for Task {
/// #     const CATEGORY: &'static str = "task";
/// #     type Command = TaskCommand; type Event = TaskEvent; type Error = TaskError;
/// #     fn apply(&mut self, e: &TaskEvent) { match e { TaskEvent::Created => self.created = true, TaskEvent::Completed => self.done = true } }
/// #     fn handle(&self, c: TaskCommand, _: &Decide) -> Result<Vec<TaskEvent>, TaskError> {
/// #         match c {
/// #             TaskCommand::Create => Ok(vec![TaskEvent::Created]),
/// #             TaskCommand::Complete if !self.created => Err(TaskError::NotYetCreated),
/// #             TaskCommand::Complete if self.done => Ok(vec![]),
/// #             TaskCommand::Complete => Ok(vec![TaskEvent::Completed]),
/// #         }
/// #     }
/// # }
/// use annals::event::Fixture;
///
/// Fixture::<Task>::given([]).when(TaskCommand::Complete).then_error(TaskError::NotYetCreated);
/// Fixture::<Task>::given([TaskEvent::Created]).when(TaskCommand::Complete).then([TaskEvent::Completed]);
/// ```
pub struct Fixture<A: Aggregate> {
    given: Vec<A::Event>,
    others: Vec<(String, NewEvent)>,
    facts: Vec<String>,
    projections: Vec<String>,
    now: Instant,
}

/// What came of a command.
pub struct When<A: Aggregate> {
    conn: Connection,
    before: Vec<Recorded>,
    after: Vec<Recorded>,
    answer: Result<Vec<NewEvent>, (A::Error, String)>,
    state: A,
}

fn text(v: &Value) -> String {
    edn::print(v)
}

/// A value as it is written, to compare and to show.
fn written<S: serde::Serialize + serde::de::DeserializeOwned>(s: &S) -> (String, Value) {
    match wire::write(s) {
        Ok((name, payload)) => (name.unwrap_or_else(wire::type_name::<S>), payload),
        Err(e) => panic!("{} cannot be written: {}", std::any::type_name::<S>(), e.0),
    }
}

fn shown(all: &[(String, Value)]) -> String {
    if all.is_empty() {
        return "  nothing".into();
    }
    all.iter().map(|(name, v)| format!("  {name} {}", text(v))).collect::<Vec<_>>().join("\n")
}

fn payload(data: &Data) -> Value {
    data.value().unwrap_or(Value::Nil)
}

impl<A: Aggregate + PartialEq + Debug> Fixture<A> {
    /// The events of the aggregate so far.
    pub fn given(events: impl IntoIterator<Item = A::Event>) -> Fixture<A> {
        Fixture {
            given: events.into_iter().collect(),
            others: Vec::new(),
            facts: Vec::new(),
            projections: Vec::new(),
            now: NOW,
        }
    }
    /// Facts, or schema, as the text of a transaction.
    pub fn given_facts(mut self, tx: &str) -> Fixture<A> {
        self.facts.push(tx.to_owned());
        self
    }
    /// A projection, as EDN.
    pub fn given_projection(mut self, definition: &str) -> Fixture<A> {
        self.projections.push(definition.to_owned());
        self
    }
    /// An event of another stream.
    #[track_caller]
    pub fn given_other<E: Event>(mut self, stream: &str, e: E) -> Fixture<A> {
        let new = e.to_new().unwrap_or_else(|e| panic!("given: {e}"));
        self.others.push((stream.to_owned(), new));
        self
    }
    /// The clock.
    pub fn at(mut self, now: Instant) -> Fixture<A> {
        self.now = now;
        self
    }

    /// Runs a command.
    ///
    /// # Panics
    /// When `handle` or `apply` give two answers, when `handle` changes the state, or when
    /// something given cannot be stored.
    #[track_caller]
    pub fn when(self, command: A::Command) -> When<A> {
        let conn = database(self.now);
        for tx in &self.facts {
            conn.transact(tx.as_str()).unwrap_or_else(|e| panic!("given facts: {e}"));
        }
        for p in &self.projections {
            conn.add_projection(p).unwrap_or_else(|e| panic!("given projection: {e}"));
        }
        for (stream, e) in self.others {
            conn.append(Append::to(stream).push(e)).unwrap_or_else(|e| panic!("given: {e}"));
        }
        let stream = stream_of::<A>(ID).unwrap_or_else(|e| panic!("{e}"));
        for (n, e) in self.given.iter().enumerate() {
            let id = EventId::derived(COMMAND.0, "given", n as u64);
            let new = new_event(e, id, &Meta::default()).unwrap_or_else(|e| panic!("given: {e}"));
            conn.append(Append::to(stream.as_str()).push(new)).unwrap_or_else(|e| panic!("given: {e}"));
        }
        let before = stored(&conn, &stream);
        let folded = || fold(A::default(), &before).unwrap_or_else(|e| panic!("given: {e}"));
        let (state, same) = (folded(), folded());
        assert!(
            state == same,
            "apply is not pure: two folds of the same events differ\n  {state:?}\n  {same:?}"
        );

        let db = conn.db();
        let run = || {
            let cx = Decide::new(&db, self.now, COMMAND);
            let answer = state.handle(command.clone(), &cx);
            if let Some(e) = cx.db.failure() {
                panic!("a read of the rule failed: {e}");
            }
            answer
        };
        let (first, second) = (run(), run());
        assert!(state == same, "handle changed the state\n  from {same:?}\n  to   {state:?}");
        let said = |r: &Result<Vec<A::Event>, A::Error>| match r {
            Ok(events) => Ok(events.iter().map(written).collect::<Vec<_>>()),
            Err(e) => Err(written(e)),
        };
        assert!(
            said(&first) == said(&second),
            "handle is not pure: two runs answered\n  {:?}\n  {:?}",
            said(&first),
            said(&second)
        );

        let d = Dispatch::id(COMMAND.0);
        let to = CommandTo::new::<A>(ID, &command).unwrap_or_else(|e| panic!("when: {e}"));
        let meta = event_meta(&d, A::CATEGORY, &to.ty);
        let answer = match first {
            Ok(events) => Ok(events
                .iter()
                .enumerate()
                .map(|(n, e)| command_event(&d, &meta, n as u64, e).unwrap_or_else(|e| panic!("then: {e}")))
                .collect::<Vec<_>>()),
            Err(e) => {
                let code = refusal(A::CATEGORY, &e).map(|r| r.code).unwrap_or_else(|e| panic!("{e}"));
                Err((e, code))
            }
        };
        if let Ok(events) = &answer {
            let append = events.iter().cloned().fold(Append::to(stream.as_str()), Append::push);
            conn.append(append).unwrap_or_else(|e| panic!("then: {e}"));
        }
        let after = stored(&conn, &stream).split_off(before.len());
        let state = fold(state, &after).unwrap_or_else(|e| panic!("then: {e}"));
        let same = fold(same, &after).unwrap_or_else(|e| panic!("then: {e}"));
        assert!(
            state == same,
            "apply is not pure: two folds of the same events differ\n  {state:?}\n  {same:?}"
        );
        When { conn, before, after, answer, state }
    }
}

fn database(now: Instant) -> Connection {
    let conn = Options::new().clock(move || now).in_memory();
    conn.unwrap_or_else(|e| panic!("a database in memory: {e}"))
}

fn stored(conn: &Connection, stream: &StreamId) -> Vec<Recorded> {
    let log = conn.db().events();
    match log.version(stream) {
        Ok(Version::ZERO) => Vec::new(),
        _ => log.stream(stream, Version(1), usize::MAX).unwrap_or_else(|e| panic!("{stream}: {e}")),
    }
}

impl<A: Aggregate> When<A> {
    /// Exactly these events happened, in this order.
    #[track_caller]
    pub fn then(self, events: impl IntoIterator<Item = A::Event>) -> When<A> {
        let expected: Vec<_> = events.into_iter().map(|e| written(&e)).collect();
        match &self.answer {
            Ok(found) => {
                let found: Vec<_> =
                    found.iter().map(|e| (e.ty.as_str().to_owned(), payload(&e.data))).collect();
                assert!(found == expected, "expected\n{}\ngot\n{}", shown(&expected), shown(&found));
            }
            Err((e, code)) => panic!("expected\n{}\ngot the refusal {code}: {e}", shown(&expected)),
        }
        self
    }
    /// It was accepted, and there was nothing to do.
    #[track_caller]
    pub fn then_nothing(self) -> When<A> {
        self.then([])
    }
    /// It was refused with exactly this error.
    #[track_caller]
    pub fn then_error(self, expected: A::Error) -> When<A> {
        match &self.answer {
            Ok(found) => {
                let found: Vec<_> =
                    found.iter().map(|e| (e.ty.as_str().to_owned(), payload(&e.data))).collect();
                panic!("expected the refusal: {expected}\ngot\n{}", shown(&found));
            }
            Err((e, _)) => {
                assert!(
                    written(e) == written(&expected),
                    "expected the refusal: {expected}\ngot the refusal: {e}"
                );
            }
        }
        self
    }
    /// It was refused with this code.
    #[track_caller]
    pub fn then_code(self, expected: &str) -> When<A> {
        match &self.answer {
            Ok(_) => panic!("expected the refusal {expected}, got events"),
            Err((e, code)) => assert!(code == expected, "expected the refusal {expected}, got {code}: {e}"),
        }
        self
    }
    /// The state after it.
    pub fn state(&self) -> &A {
        &self.state
    }
    /// The state survives being written as a snapshot and read back: no field of it is left out.
    #[track_caller]
    pub fn then_snapshot(self) -> When<A>
    where
        A: PartialEq + Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let value =
            wire::to_value(&self.state).unwrap_or_else(|e| panic!("the state cannot be written: {e}"));
        let read: A =
            wire::from_value(&value).unwrap_or_else(|e| panic!("the state cannot be read back: {e}"));
        assert!(read == self.state, "the snapshot lost something\n  {:?}\n  {read:?}", self.state);
        self
    }
    /// A query over the database after it finds exactly these rows, in whatever order.
    #[track_caller]
    pub fn then_rows(
        self,
        query: &str,
        inputs: impl IntoInputs,
        rows: impl IntoIterator<Item = Vec<Value>>,
    ) -> When<A> {
        let answer = self.conn.db().query(query, inputs).unwrap_or_else(|e| panic!("{e}"));
        let mut found: Vec<Vec<Value>> = answer.rows.iter().collect();
        let mut expected: Vec<Vec<Value>> = rows.into_iter().collect();
        found.sort();
        expected.sort();
        let show = |rows: &[Vec<Value>]| {
            rows.iter()
                .map(|r| format!("  {}", text(&Value::vector(r.clone()))))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(found == expected, "expected the rows\n{}\ngot\n{}", show(&expected), show(&found));
        self
    }
    /// A process manager that sees the events sends exactly these commands for the new ones.
    #[track_caller]
    pub fn then_sent<P: ProcessManager>(
        self,
        process: P,
        commands: impl IntoIterator<Item = CommandTo>,
    ) -> When<A> {
        let mut f = ProcessFixture::of(process);
        for e in &self.before {
            f.feed(e);
        }
        let mut sent = Vec::new();
        for e in &self.after {
            sent.extend(f.feed(e).sent);
        }
        let commands: Vec<_> = commands.into_iter().map(Outgoing::Command).collect();
        let sent: Vec<_> = sent.into_iter().filter(|o| matches!(o, Outgoing::Command(_))).collect();
        assert!(sent == commands, "expected\n{commands:#?}\ngot\n{sent:#?}");
        self
    }
}

/// What has happened before an event that a process manager takes.
///
/// Routing, handling and state go through the code that the runner uses; nothing is sent.
pub struct ProcessFixture<P: ProcessManager> {
    process: P,
    conn: Connection,
    clock: Arc<Mutex<Instant>>,
}

/// What a process manager made of an event.
pub struct Taken<P: ProcessManager> {
    conn: Connection,
    sent: Vec<Outgoing>,
    process: std::marker::PhantomData<P>,
}

impl<P: ProcessManager> ProcessFixture<P> {
    /// A process to which nothing has happened.
    pub fn of(process: P) -> ProcessFixture<P> {
        let clock = Arc::new(Mutex::new(NOW));
        let shown = clock.clone();
        let conn = Options::new().clock(move || *shown.lock()).in_memory();
        ProcessFixture { process, conn: conn.unwrap_or_else(|e| panic!("a database in memory: {e}")), clock }
    }
    /// The clock from here on: what is recorded, is recorded then.
    pub fn at(self, now: Instant) -> ProcessFixture<P> {
        *self.clock.lock() = now;
        self
    }
    /// An event it has taken.
    #[track_caller]
    pub fn given<E: Event>(mut self, stream: &str, e: E) -> ProcessFixture<P> {
        self.record(stream, &e);
        self
    }
    /// Gives it an event.
    #[track_caller]
    pub fn when<E: Event>(mut self, stream: &str, e: E) -> Taken<P> {
        self.record(stream, &e)
    }

    #[track_caller]
    fn record<E: Event>(&mut self, stream: &str, e: &E) -> Taken<P> {
        let id = match self.conn.db().events().head() {
            Ok(p) => EventId::derived(COMMAND.0, "given", p.0),
            Err(e) => panic!("{e}"),
        };
        let new = new_event(e, id, &Meta::default()).unwrap_or_else(|e| panic!("given: {e}"));
        let done = self.conn.append(Append::to(stream).push(new)).unwrap_or_else(|e| panic!("given: {e}"));
        let recorded = self.conn.db().events().at(done.first).unwrap_or_else(|e| panic!("given: {e}"));
        self.feed(&recorded[0])
    }

    /// Takes one event twice, and keeps what it made of it.
    #[track_caller]
    fn feed(&mut self, e: &Recorded) -> Taken<P> {
        let log = self.conn.db().events();
        let take = || {
            let mut work = Work::new(log.clone(), P::NAME);
            AnyProcess::take(&self.process, e, &mut work).unwrap_or_else(|why| {
                panic!("{} cannot take event {} ({}): {why}", P::NAME, e.position, e.ty())
            });
            work
        };
        let (work, again) = (take(), take());
        let t = e.t.next();
        let rows = |w: &Work| w.rows(t, 0).unwrap_or_else(|e| panic!("{e}"));
        let (rows, same) = (rows(&work), rows(&again));
        let plain = |rows: &[annals_storage::Row]| {
            rows.iter().map(|r| (r.table, r.key.clone(), r.value.clone())).collect::<Vec<_>>()
        };
        assert!(
            plain(&rows) == plain(&same),
            "{} is not pure: two runs over event {} ({}) differ",
            P::NAME,
            e.position,
            e.ty()
        );
        let written = self.conn.write(move |txn| -> Result<(), crate::event::append::AppendError> {
            for row in rows {
                txn.row(row);
            }
            Ok(())
        });
        written.unwrap_or_else(|e| panic!("{e}"));
        Taken { conn: self.conn.clone(), sent: work.sent(), process: std::marker::PhantomData }
    }
}

impl<P: ProcessManager> Taken<P> {
    /// Exactly these commands are sent, now, in this order.
    #[track_caller]
    pub fn then_sent(self, commands: impl IntoIterator<Item = CommandTo>) -> Taken<P> {
        let expected: Vec<_> = commands.into_iter().map(Outgoing::Command).collect();
        let found: Vec<_> = self.sent.iter().filter(|o| matches!(o, Outgoing::Command(_))).cloned().collect();
        assert!(found == expected, "expected\n{expected:#?}\ngot\n{found:#?}");
        self
    }
    /// Exactly these timers are set after it: instance, name and instant.
    #[track_caller]
    pub fn then_timers<'t>(self, timers: impl IntoIterator<Item = (&'t str, &'t str, Instant)>) -> Taken<P> {
        let found = self.conn.timers().unwrap_or_else(|e| panic!("{e}"));
        let found: Vec<_> = found.iter().map(|t| (t.instance.as_str(), t.name.as_str(), t.when)).collect();
        let mut expected: Vec<_> = timers.into_iter().collect();
        expected.sort();
        assert!(found == expected, "expected the timers\n  {expected:?}\ngot\n  {found:?}");
        self
    }
    /// The state of an instance after it; none when it is not there.
    #[track_caller]
    pub fn state(&self, instance: &str) -> Option<P::State> {
        self.conn.process_state::<P>(instance).unwrap_or_else(|e| panic!("{e}"))
    }
}
