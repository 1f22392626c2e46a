//! W6: what projections cost. Two read models of the workload's events, each as EDN:
//! `facts` says three new facts of every event, `state` keeps the newest of each stream.

use crate::{
    events::{Event, append, open},
    harness::{Bench, Outcome, scratch},
};
use annals::{
    Connection, Durability, Options,
    event::{Append, Data},
};
use std::time::Instant;

/// A projection named `name`, its attributes in a namespace of that name.
fn definition(model: &str, name: &str, mode: &str) -> String {
    let attr = |attr: &str, ty: &str, more: &str| {
        format!(
            "{{:db/ident :{name}/{attr} :db/valueType :db.type/{ty} :db/cardinality :db.cardinality/one{more}}}"
        )
    };
    let key = attr("stream", "string", " :db/unique :db.unique/identity");
    let (amount, text) = (attr("amount", "long", ""), attr("ref", "string", ""));
    let (schema, template) = match model {
        "facts" => (
            format!("{amount} {text} {}", attr("note", "string", "")),
            format!("{{:{name}/amount $data.amount :{name}/ref $data.ref :{name}/note $data.note}}"),
        ),
        "state" => (
            format!("{key} {amount} {text}"),
            format!("{{:{name}/stream $stream :{name}/amount $data.amount :{name}/ref $data.ref}}"),
        ),
        other => panic!("no read model {other}"),
    };
    let batch = match std::env::var("PERF_BATCH") {
        Ok(n) if mode == "async" => format!(":projection/batch {n}"),
        _ => String::new(),
    };
    format!(
        "{{:projection/name :{name} :projection/version 1 :projection/mode :{mode} {batch}
           :projection/schema [{schema}] :projection/on [{{:event :any :assert [{template}]}}]}}"
    )
}

/// Appends with a projection in the same transaction.
pub fn inline(b: &Bench, events: &[Event], n: usize) {
    for model in ["facts", "state"] {
        for (sync, durable, count) in [("durable", true, n), ("nosync", false, events.len())] {
            b.op(
                &format!("append-inline-{model}-{sync}"),
                || {
                    let (conn, path) = open(durable);
                    conn.add_projection(&definition(model, "m", "inline")).expect("a sound projection");
                    (conn, path)
                },
                |(conn, _)| {
                    append(conn, &events[..count], 1);
                    Outcome(count as u64, 0, String::new())
                },
            );
        }
    }
}

/// Projections over what is stored: the first time, and again beside the version that serves.
pub fn replays(b: &Bench, conn: &Connection) {
    for model in ["facts", "state"] {
        let mut n = 0;
        b.op(
            &format!("project-first-{model}"),
            || {
                n += 1;
                n
            },
            |n| {
                let name = format!("{model}{n}");
                conn.add_projection(&definition(model, &name, "async")).expect("a sound projection");
                let done = conn.catch_up(&name).expect("it catches up");
                (done.position.0, 0)
            },
        );
        let again = format!("{model}-again");
        let op = format!("project-rebuild-{model}");
        if b.wants(&op) {
            conn.add_projection(&definition(model, &again, "async")).expect("a sound projection");
            conn.catch_up(&again).expect("it catches up");
        }
        b.op(&op, || (), |()| (conn.rebuild_projection(&again).expect("it is built").position.0, 0));
    }
}

/// Events a second at a number of events: `annals-bench growth replay N`.
pub fn growth(n: u64, say: impl Fn(&str, f64)) {
    let path = scratch("growth-replay");
    let conn = Options::new().durability(Durability::Relaxed).open(&path).expect("open");
    let payload = |i: u64| {
        let text = format!("{:032x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let data = serde_json::json!({"amount": i * 7919 % 1_000_000, "ref": text, "note": "thirty characters of payload.."});
        Data::from_json(&data).expect("payload")
    };
    let t = Instant::now();
    // One event a transaction, 1,000 a sync: as a log that grew has them.
    for first in (0..n).step_by(1000) {
        let appends = (first..n.min(first + 1000))
            .map(|i| Append::to(format!("s-{}", i % 1000)).event("Added", &payload(i)).expect("an event"));
        let (_, refused) = conn.append_all(appends.collect());
        assert!(refused.is_none(), "{refused:?}");
    }
    say("append, events a second", n as f64 / t.elapsed().as_secs_f64());
    for model in ["facts", "state"] {
        let rate = |what: &str, f: &dyn Fn()| {
            let t = Instant::now();
            f();
            say(&format!("{model}, {what}, events a second"), n as f64 / t.elapsed().as_secs_f64());
        };
        rate("first run", &|| {
            conn.add_projection(&definition(model, model, "async")).expect("a sound projection");
            assert_eq!(conn.catch_up(model).expect("it catches up").position.0, n);
        });
        rate("rebuild", &|| drop(conn.rebuild_projection(model).expect("it is built")));
    }
}
