//! May the append be made? Command and event ids, versions, conditions, tracking: judged on
//! the staged database, inside the commit.
//!
//! 1. Ids are looked at before versions: the retry of a success is a success.
//! 2. A refusal says what was found: the actual version, the witnesses, the stored number.

use crate::event::{
    append::{Append, AppendError, Appended, Condition, Guard, matches},
    command::{CommandOutcome, CommandStatus},
    commit::{Stop, Wrap},
    id::{Position, StreamId, Version},
    log::EventLog,
    registry::Events,
    table::{Head, StreamState},
};
use crate::{Db, DbError};
use annals_model::Value;

/// Most events that an error lists as having come between.
const SHOWN_CONFLICTS: u64 = 16;

/// Meets `expected`, and may be written at all.
pub(super) fn check_version(
    log: &EventLog,
    stream: &StreamId,
    expected: crate::event::append::Expected,
    head: &Head,
) -> Result<(), AppendError> {
    use crate::event::append::Expected;
    if head.state == StreamState::Tombstoned {
        return Err(AppendError::Tombstoned(stream.clone()));
    }
    let gone = head.state == StreamState::Deleted && head.shown_from() > head.version;
    let holds = match expected {
        // A softly deleted stream is none to its readers, but its versions go on.
        Expected::Exists if gone => false,
        other => other.holds(head.version),
    };
    if holds {
        return Ok(());
    }
    let since = match expected {
        Expected::Exact(v) if v < head.version => {
            let last = Version(head.version.0.min(v.0 + SHOWN_CONFLICTS));
            log.positions_in(stream, v.next(), last)?
        }
        _ => Vec::new(),
    };
    Err(AppendError::WrongVersion { stream: stream.clone(), expected, actual: head.version, since })
}

pub(super) fn known_command(log: &EventLog, c: &CommandOutcome) -> Result<(), Stop> {
    let Some(stored) = log.command(c.id)? else { return Ok(()) };
    if stored.request != c.request {
        return Err(AppendError::CommandReused { id: c.id }.into());
    }
    match stored.status {
        CommandStatus::Done(a) => Err(Stop::Replayed(a)),
        // It waits to be carried out: that is what happens now.
        CommandStatus::Accepted => Ok(()),
        _ => Err(Stop::Replayed(Appended { replayed: true, ..crate::event::command::nothing() })),
    }
}

/// Are the events stored already: all, some, or none of them?
pub(super) fn known_ids(events: &Events, log: &EventLog, a: &Append) -> Result<(), Stop> {
    let mut stored = Vec::new();
    let mut n = 0;
    let mut seen = hashbrown::HashSet::new();
    for w in &a.writes {
        for e in &w.events {
            n += 1;
            if !seen.insert(e.id) {
                return Err(AppendError::IdTwice(e.id).into());
            }
            if let Some(p) = log.tables.position_of(e.id)? {
                stored.push((w, e, p));
            }
        }
    }
    if stored.is_empty() {
        return Ok(());
    }
    let mut found = Vec::with_capacity(stored.len());
    for (w, e, p) in stored {
        let Some(r) = log.tables.event(p)? else { continue };
        let plain = events.seals.open_event(r).map_err(|e| Wrap(DbError::from(e)))?;
        // What was erased cannot be compared any more.
        let erased = crate::event::seal::is_erased(&plain.event.data);
        if !erased && plain.event.fingerprint() != plain_fingerprint(e) {
            return Err(AppendError::IdReused { id: e.id, at: p }.into());
        }
        found.push((w, e, plain));
    }
    if found.len() < n {
        let stored = found.iter().map(|(_, e, _)| e.id).collect();
        return Err(AppendError::PartlyStored { stored }.into());
    }
    let t = found[0].2.t;
    let mut next = Vec::new();
    for (w, e, r) in &found {
        let expected =
            next.iter().find(|(s, _)| *s == &w.stream).map(|(_, v): &(&StreamId, Version)| v.next());
        if r.stream != w.stream || r.t != t || expected.is_some_and(|v| v != r.version) {
            return Err(AppendError::OtherOrder { id: e.id, at: r.position }.into());
        }
        next.retain(|(s, _)| *s != &w.stream);
        next.push((&w.stream, r.version));
    }
    let versions = next.iter().map(|(s, v)| ((*s).clone(), *v)).collect();
    let positions = found.iter().map(|(_, _, r)| r.position);
    Err(Stop::Replayed(Appended {
        t,
        first: positions.clone().min().unwrap_or_default(),
        last: positions.max().unwrap_or_default(),
        versions,
        replayed: true,
    }))
}

/// The fingerprint of an event as it reads once stored: personal values opened.
fn plain_fingerprint(e: &crate::event::record::NewEvent) -> [u8; 32] {
    match crate::event::seal::opened(&e.data) {
        Some(data) => crate::event::record::NewEvent { data, ..e.clone() }.fingerprint(),
        None => e.fingerprint(),
    }
}

pub(super) fn check_tracking(log: &EventLog, tr: &crate::event::append::Tracking) -> Result<(), AppendError> {
    let stored = log.tracking(&tr.source)?;
    if tr.number <= stored {
        return Err(AppendError::TrackingBehind {
            source_name: tr.source.clone(),
            stored,
            number: tr.number,
        });
    }
    if tr.gapless && tr.number != stored + 1 {
        return Err(AppendError::TrackingGap { source_name: tr.source.clone(), stored, number: tr.number });
    }
    Ok(())
}

/// Judges a condition on the staged database.
pub(super) fn judge(db: &Db, log: &EventLog, which: usize, c: &Condition) -> Result<(), AppendError> {
    let failed = |witness| AppendError::ConditionFailed { which, witness, t: log.t() };
    let wrong = |why: String| AppendError::Guard { which, why };
    if c.after > db.t() {
        return Err(wrong(format!(
            "it was decided after t{}, which has not happened; the newest is t{}",
            c.after,
            db.t()
        )));
    }
    match &c.guard {
        Guard::NoneMatch(items) => {
            let from = EventLog { upto: c.after, ..log.clone() }.head()?;
            let head = log.head()?;
            let mut witness = Vec::new();
            let mut look = |p: Position| -> Result<(), DbError> {
                if log.at(p)?.iter().any(|e| matches(items, e)) {
                    witness.push(p);
                }
                Ok(())
            };
            match log.candidates(items, from, head)? {
                Some(found) => {
                    for p in found {
                        look(p)?;
                    }
                }
                None => {
                    for p in from.0 + 1..=head.0 {
                        look(Position(p))?;
                    }
                }
            }
            if witness.is_empty() { Ok(()) } else { Err(failed(witness)) }
        }
        Guard::Holds(q) => {
            if guard_rows(db, q).map_err(wrong)?.is_empty() {
                return Err(failed(Vec::new()));
            }
            Ok(())
        }
        Guard::Same(q) => match c.after == db.t() || q.holds(db).map_err(wrong)? {
            true => Ok(()),
            false => Err(failed(Vec::new())),
        },
        Guard::Unchanged(q) => {
            if c.after == db.t() {
                // Nothing has happened since: the query need not even run twice.
                guard_rows(db, q).map_err(wrong)?;
                return Ok(());
            }
            let then = db.as_of(c.after);
            let (now, then) = (guard_rows(db, q).map_err(wrong)?, guard_rows(&then, q).map_err(wrong)?);
            if now == then { Ok(()) } else { Err(failed(Vec::new())) }
        }
    }
}

/// The rows of a guard's query, in a fixed order.
pub(crate) fn guard_rows(db: &Db, q: &crate::event::append::GuardQuery) -> Result<Vec<Value>, String> {
    crate::event::query_rows(db, &q.query, &q.args)
}
