//! Aggregates, decisions and commands: the scenarios of the acceptance list by their
//! numbers. The domains stand in `tests/src/domain.rs`.

mod carried;
mod conflict;
mod fixture;
mod fold;
mod later;
mod names;
mod outcome;
mod rules;
mod state;
mod task;

use annals::{
    Connection, Instant, Options, Value,
    event::{
        Aggregate, Append, CommandId, CommandRequest, CommandStatus, Decide, Dispatch, DispatchError, Event,
        EventId, Fixture, LoadError, NewEvent, SnapshotPolicy, StreamId, Tracking, Version,
    },
};
use annals_tests::domain::{
    bank::{Account, AccountCommand, AccountError, AccountEvent},
    reopen,
    stock::{Item, ItemCommand, ItemError, ItemEvent},
    task::{Task, TaskCommand, TaskError, TaskEvent},
};
use proptest::prelude::*;
use serde_json::json;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

fn memory() -> Connection {
    annals::in_memory().expect("a database in memory opens")
}
fn events_of(conn: &Connection, stream: &str) -> Vec<String> {
    let stream = StreamId::new(stream).unwrap();
    let all = conn.db().events().stream(&stream, Version(1), 10_000).unwrap_or_default();
    all.iter().map(|e| e.ty().to_owned()).collect()
}
fn command(n: u128) -> CommandId {
    CommandId(Uuid::from_u128(n))
}

type Tasks = Fixture<Task>;
fn named(name: &str) -> TaskEvent {
    TaskEvent::Created { name: name.into() }
}
fn create(name: &str) -> TaskCommand {
    TaskCommand::Create { name: name.into() }
}
fn rename(name: &str) -> TaskCommand {
    TaskCommand::Rename { name: name.into() }
}

fn request(id: u128, ty: &str, payload: Value) -> CommandRequest {
    let dispatch = Dispatch::id(command(id).0);
    CommandRequest { category: "account".into(), id: Some("1".into()), ty: ty.into(), payload, dispatch }
}
fn amount(n: i64) -> Value {
    Value::map([(Value::keyword("amount"), Value::Long(n))])
}
