//! W6: commands to an aggregate, and steps of a process, through the library's own dispatch.

use crate::{events::open, harness::Bench};
use annals::event::{Aggregate, Append, Decide, Dispatch, Event, Out, ProcessManager, Recorded, Route};
use serde::{Deserialize, Serialize};

/// A counter.
#[derive(Debug, Default)]
struct Counter {
    sum: i64,
}

#[derive(Clone, Serialize, Deserialize)]
enum Ask {
    Add { n: i64 },
}

#[derive(Debug, Serialize, Deserialize)]
enum Happened {
    Added { n: i64 },
}
impl Event for Happened {
    const TYPES: &'static [(&'static str, u32)] = &[("Added", 1)];
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
enum Refused {
    #[error("{sum} is too much")]
    TooMuch { sum: i64 },
}

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    type Command = Ask;
    type Event = Happened;
    type Error = Refused;
    fn apply(&mut self, e: &Happened) {
        let Happened::Added { n } = e;
        self.sum += n;
    }
    fn handle(&self, ask: Ask, _: &Decide) -> Result<Vec<Happened>, Refused> {
        let Ask::Add { n } = ask;
        if self.sum + n > 1 << 40 {
            Err(Refused::TooMuch { sum: self.sum })
        } else {
            Ok(vec![Happened::Added { n }])
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Asked {
    n: i64,
}
impl Event for Asked {
    const TYPES: &'static [(&'static str, u32)] = &[("Asked", 1)];
}

/// Answers each event with a command.
struct Relay;

impl ProcessManager for Relay {
    const NAME: &'static str = "relay";
    type State = i64;
    fn wants(&self) -> Vec<annals::event::Item> {
        vec![annals::event::Item::types(["Asked"]).expect("a name")]
    }
    fn route(&self, e: &Recorded) -> Vec<Route> {
        vec![Route::Start(e.stream.to_string())]
    }
    fn handle(&self, _: &i64, e: &Recorded, out: &mut Out) {
        if let Ok(Asked { n }) = e.read() {
            out.send::<Counter>(e.stream.key(), &Ask::Add { n });
        }
    }
    fn apply(&self, state: &mut i64, e: &Recorded) {
        *state += e.read::<Asked>().map_or(0, |a| a.n);
    }
}

pub fn run(b: &Bench, n: usize) {
    for (op, durable) in [("dispatch-durable", true), ("dispatch-nosync", false)] {
        b.op(
            op,
            || open(durable).0,
            |conn| {
                let counters = conn.repository::<Counter>();
                for i in 0..n {
                    let id = (i % 100).to_string();
                    counters.dispatch(&id, Ask::Add { n: 1 }, Dispatch::new()).expect("it is accepted");
                }
                (n as u64, 0)
            },
        );
    }
    // A thousand events, the commands they cause, and the events of those.
    b.op(
        "process-nosync",
        || {
            let (conn, _) = open(false);
            conn.register_commands::<Counter>().expect("one handler");
            conn.register_process(Relay).expect("one process");
            for i in 0..1000 {
                let asked = Asked { n: 1 }.to_new().expect("an event");
                conn.append(Append::to(format!("ask-{}", i % 100)).push(asked)).expect("append");
            }
            conn
        },
        |conn| {
            let mut steps = 0;
            while conn.step_processes().expect("a step").is_some() {
                steps += 1;
            }
            assert_eq!(conn.db().events().head().expect("a head").0, 2000);
            (steps, 0)
        },
    );
}
