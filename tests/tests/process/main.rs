//! Process managers, timers, reactors and decisions: the scenarios of the acceptance
//! list by their numbers, with a stop between any two steps.

mod boundary;
mod failure;
mod order;
mod reactor;
mod timer;
mod transfer;

use annals::{
    Connection, Input, Instant, Options, Value,
    event::{
        Append, CommandId, CommandRequest, CommandStatus, CommandTo, Decide, Decision, Dispatch,
        DispatchError, Event, Item, ProcessFixture, ProcessManager, ProcessState, Reactor, Recorded, Start,
        Step, StreamId, Version,
    },
};
use annals_tests::domain::{
    bank::{Account, AccountCommand, AccountEvent, Transfer, TransferEvent},
    orders::{
        DAY, Order, OrderCommand, OrderEvent, OrderProcess, Payment, PaymentCommand, PaymentEvent, Standing,
    },
    reopen,
};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    process::Command,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

const NOON: i64 = 1_767_268_800_000_000;

fn command(n: u128) -> CommandId {
    CommandId(Uuid::from_u128(n))
}
fn drain(conn: &Connection) -> usize {
    let mut n = 0;
    while conn.step_processes().unwrap().is_some() {
        n += 1;
        assert!(n < 10_000, "it does not come to rest");
    }
    n
}
fn types(conn: &Connection, stream: &str) -> Vec<String> {
    let all =
        conn.db().events().stream(&StreamId::new(stream).unwrap(), Version(1), 1000).unwrap_or_default();
    all.iter().map(|e| e.ty().to_owned()).collect()
}

/// A clock that the test sets.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);
impl Hand {
    fn at(now: i64) -> Hand {
        Hand(Arc::new(AtomicI64::new(now)))
    }
    fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }
    fn options(&self) -> Options {
        let hand = self.0.clone();
        Options::new().clock(move || Instant(hand.load(Ordering::SeqCst)))
    }
}

fn shop(path: &Path, hand: &Hand) -> Connection {
    let conn = reopen(&hand.options(), path);
    conn.register_commands::<Order>().unwrap();
    conn.register_commands::<Payment>().unwrap();
    conn.register_process(OrderProcess).unwrap();
    conn
}

fn bank(path: &Path) -> Connection {
    let conn = reopen(&Options::new(), path);
    conn.register_commands::<Account>().unwrap();
    conn.register_process(Transfer).unwrap();
    conn
}
fn balance(conn: &Connection, id: &str) -> i64 {
    conn.repository::<Account>().load(id).unwrap().state.balance
}
fn transfer(conn: &Connection, n: u128, from: &str, to: &str, amount: i64) {
    let e = TransferEvent::Requested { from: from.into(), to: to.into(), amount }.to_new().unwrap();
    let id = annals::event::EventId(Uuid::from_u128(n));
    conn.append(Append::to(format!("transfer-{n}")).push(e.id(id))).unwrap();
}

/// Cannot take an event of type `Bad`, until it is told that it can.
struct Picky(Arc<AtomicU32>);
impl ProcessManager for Picky {
    const NAME: &'static str = "picky";
    type State = u32;
    fn start(&self) -> Start {
        Start::Beginning
    }
    fn route(&self, e: &Recorded) -> Vec<annals::event::Route> {
        use annals::event::Route;
        match e.ty() {
            "Begun" => vec![Route::Start(e.stream.to_string())],
            "Gone" => vec![Route::Stop(e.stream.to_string())],
            _ => vec![Route::Continue(e.stream.to_string())],
        }
    }
    fn handle(&self, _: &u32, e: &Recorded, out: &mut annals::event::Out) {
        assert!(e.ty() != "Bad" || self.0.load(Ordering::SeqCst) > 0, "not this one");
        if e.ty() == "Begun" {
            out.send_at::<Account>(Instant(NOON + DAY), "later", "x", &AccountCommand::Close);
        }
    }
    fn apply(&self, s: &mut u32, _: &Recorded) {
        *s += 1;
    }
}
