//! A run through the library: every client a thread with its clone of the connection.

use super::{
    Call, Entry, History, Outcome, Row, What,
    workload::{self, Memory, Request},
};
use crate::generate::Rng;
use annals::{Connection, Db, T, Value};
use annals_query::edn::print;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    time::Instant,
};

/// Runs `clients` threads of `requests` requests each against a connection without the
/// workload's schema, and reads the log.
pub fn run(conn: &Connection, clients: usize, requests: usize, seed: u64) -> History {
    conn.transact(workload::SCHEMA).expect("the workload's schema is sound");
    let start = conn.db().t();
    let clock = Instant::now();
    let now = || u64::try_from(clock.elapsed().as_nanos()).expect("a run takes less than centuries");
    let ops = AtomicI64::new(1);
    let mut calls = vec![opening(conn, &now)];
    let known = AtomicU64::new(conn.db().t().0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let (now, ops, known) = (&now, &ops, &known);
                let client = Client { number: client, conn: conn.clone(), start };
                scope.spawn(move || {
                    let mut rng = Rng::new(seed.wrapping_mul(1_000_003).wrapping_add(client.number as u64));
                    let mut memory = Memory::default();
                    let each = |_| client.one(&mut rng, ops, &mut memory, known, now);
                    (0..requests).map(each).collect::<Vec<Call>>()
                })
            })
            .collect();
        for thread in threads {
            calls.extend(thread.join().expect("a client does not panic"));
        }
    });
    History { schema: (**conn.db().schema()).clone(), start, calls, log: log(conn, start) }
}

/// The log after `start`.
pub fn log(conn: &Connection, start: T) -> Vec<Entry> {
    let range = conn.tx_range(start.next(), conn.db().t().next()).expect("the log can be read");
    range
        .map(|r| r.expect("a sound log can be read"))
        .map(|r| Entry { t: r.t(), instant: r.tx_instant(), datoms: r.tx_data().to_vec() })
        .collect()
}

fn opening(conn: &Connection, now: &impl Fn() -> u64) -> Call {
    let began = now();
    let text = workload::opening();
    let outcome = write(conn, &text);
    let forms = match annals_query::edn::read_value(&text).expect("the opening is sound") {
        Value::Vector(forms) => forms.to_vec(),
        other => unreachable!("a transaction is a vector: {other:?}"),
    };
    Call { client: usize::MAX, began, ended: now(), what: What::Write { op: 0, forms, outcome } }
}

fn write(conn: &Connection, text: &str) -> Outcome {
    match conn.transact(text) {
        Ok(report) => Outcome::Done {
            t: report.t(),
            datoms: Some(report.tx_data().to_vec()),
            tempids: Some(report.tempids().map(|(n, e)| (n.to_owned(), e)).collect()),
        },
        Err(e) => Outcome::Refused(e.code().to_string()),
    }
}

struct Client {
    number: usize,
    conn: Connection,
    start: T,
}

impl Client {
    fn one(
        &self,
        rng: &mut Rng,
        ops: &AtomicI64,
        memory: &mut Memory,
        known: &AtomicU64,
        now: &impl Fn() -> u64,
    ) -> Call {
        // The number before the clock: what is sent under it is sent later.
        let request =
            workload::next(rng, ops.fetch_add(1, SeqCst), memory, self.start, T(known.load(SeqCst)));
        let began = now();
        let what = match request {
            Request::Write(op, forms) => {
                let outcome = write(&self.conn, &print(&Value::vector(forms.clone())));
                if let Outcome::Done { t, .. } = &outcome {
                    known.fetch_max(t.0, SeqCst);
                }
                What::Write { op, forms, outcome }
            }
            Request::Read(question, as_of) => {
                let db = self.conn.db();
                let rows = ask(&db, &question, as_of);
                if question == workload::Question::Balances && as_of.is_none() {
                    memory.saw(&rows);
                }
                What::Read { question, as_of, basis: db.basis_t(), rows }
            }
        };
        Call { client: self.number, began, ended: now(), what }
    }
}

fn ask(db: &Db, question: &workload::Question, as_of: Option<T>) -> BTreeSet<Row> {
    let view = match as_of {
        _ if question.of_history() => db.history(),
        Some(t) => db.as_of(t),
        None => db.clone(),
    };
    let answer = view.query(question.query(), ()).expect("the workload's questions can be answered");
    answer.rows.iter().map(|row| row.into_iter().collect()).collect()
}
