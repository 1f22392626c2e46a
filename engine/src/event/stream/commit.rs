//! The append: one transaction, judged and made inside the commit.
//!
//! 1. a known command answers its stored outcome;
//! 2. known event ids answer the first result, and are checked before versions, so
//!    that the retry of a success is a success;
//! 3. expected versions; 4. conditions; 5. t and positions are taken;
//! 6. event rows; 7. inline projections in the order of registration, each seeing
//!    the facts of those before; 8. provenance, outcome, tracking; 9. the commit.
//!
//! Any refusal drops all of it, numbers included. Numbers are allotted here, where
//! one transaction at a time is made: the order of positions is the order of commits.

use crate::event::{
    append::{Append, AppendError, Appended},
    command::{CommandOutcome, CommandStatus},
    id::{Position, StreamId},
    inline::undo_all,
    judge::{check_tracking, check_version, judge, known_command, known_ids},
    log::EventLog,
    record::Recorded,
    registry::{Events, Memory},
    table::{self, Head, Key},
};
use crate::{
    Db, DbError, TransactError,
    transact::{Author, Txn},
};
use annals_model::{Instant, T};

/// Why an append writes nothing.
pub(crate) enum Stop {
    /// It was done before.
    Replayed(Appended),
    /// It is refused.
    Refused(AppendError),
}
impl From<TransactError> for Stop {
    fn from(e: TransactError) -> Stop {
        Stop::Refused(e.into())
    }
}
impl<E: Into<AppendError>> From<Wrap<E>> for Stop {
    fn from(e: Wrap<E>) -> Stop {
        Stop::Refused(e.0.into())
    }
}
/// Marks an error that refuses the append.
pub(crate) struct Wrap<E>(pub E);
impl From<AppendError> for Stop {
    fn from(e: AppendError) -> Stop {
        Stop::Refused(e)
    }
}
impl From<DbError> for Stop {
    fn from(e: DbError) -> Stop {
        Stop::Refused(e.into())
    }
}

/// What an append is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be written.
    Commit,
    /// To be looked at: nothing outside the transaction may notice.
    Speculate,
}

impl Events {
    /// The log of the staged database.
    pub(crate) fn log(&self, db: &Db) -> EventLog {
        EventLog::new(db.snapshot().clone(), db.view(), self.upcasters.read().clone(), self.seals.clone())
    }

    /// Makes an append part of a transaction.
    pub(crate) fn append(&self, txn: &mut Txn, a: &Append) -> Result<Appended, Stop> {
        self.append_as(Purpose::Commit, txn, a)
    }

    /// Makes an append part of a transaction that is, or is not, to be written.
    pub(crate) fn append_as(&self, purpose: Purpose, txn: &mut Txn, a: &Append) -> Result<Appended, Stop> {
        a.check()?;
        let before = txn.db_before().clone();
        let log = self.log(&before);
        let (mut shared_memory, mut own_memory);
        let memory: &mut Memory = match purpose {
            Purpose::Commit => {
                shared_memory = self.memory(txn.t());
                &mut shared_memory
            }
            Purpose::Speculate => {
                own_memory = Memory::default();
                &mut own_memory
            }
        };
        if let Some(c) = &a.command {
            known_command(&log, c)?;
        }
        known_ids(self, &log, a)?;
        let mut heads = Vec::with_capacity(a.writes.len());
        for w in &a.writes {
            let head = match memory.heads.get(&w.stream) {
                Some(h) => *h,
                None => log.tables.head(&w.stream)?,
            };
            check_version(&log, &w.stream, w.expected, &head)?;
            heads.push(head);
        }
        for (which, c) in a.conditions.iter().enumerate() {
            judge(&before, &log, which, c)?;
        }
        if let Some(tr) = &a.tracking {
            check_tracking(&log, tr)?;
        }

        let now = match a.instant {
            Some(i) => {
                let i = if a.not_before_last { i.max(txn.last_instant()) } else { i };
                txn.set_instant(i);
                i
            }
            None => txn.now().max(Instant(txn.last_instant().0 + 1)),
        };
        txn.facts(&a.facts, Author::User)?;
        let t = txn.t();
        let last = match memory.last {
            Some(p) => p,
            None => log.tables.last_position()?,
        };
        let mut position = last;
        let mut versions = Vec::with_capacity(a.writes.len());
        let mut recorded = Vec::new();
        let mut causes = 0usize;
        for (w, head) in a.writes.iter().zip(&mut heads) {
            for e in &w.events {
                position = position.next();
                head.version = head.version.next();
                head.last = position;
                let mut event = e.clone();
                let stored = match purpose {
                    Purpose::Commit => self.seals.seal(e.id, &e.data).map_err(|e| Wrap(DbError::from(e)))?,
                    // No key is made for what is not kept.
                    Purpose::Speculate => crate::event::seal::opened(&e.data),
                };
                if let Some(stored) = stored {
                    event.data = stored;
                }
                let r = Recorded {
                    event,
                    stream: w.stream.clone(),
                    version: head.version,
                    position,
                    t,
                    recorded_at: now,
                    part: 0,
                };
                causes += 1;
                write_event(txn, &r);
                recorded.push(r);
            }
            if !w.events.is_empty() {
                txn.row(table::put(table::HEAD, Key::new().text(w.stream.as_str()), head.encode()));
            }
            versions.push((w.stream.clone(), head.version));
        }
        let shared = causes > 1;
        let undo = self.run_inline(purpose, txn, &before, &recorded, shared)?;

        let first = if causes == 0 { Position::ZERO } else { last.next() };
        let end = if causes == 0 { Position::ZERO } else { position };
        let done = Appended { t, first, last: end, versions, replayed: false };
        let finish = |txn: &mut Txn| -> Result<(), Stop> {
            if let Some(c) = &a.command {
                let status = match &c.status {
                    CommandStatus::Done(_) => CommandStatus::Done(done.clone()),
                    rejected => rejected.clone(),
                };
                let outcome = CommandOutcome { status, ..c.clone() };
                let bytes = outcome.encode().map_err(|e| Wrap(DbError::from(e)))?;
                txn.row(table::put(table::COMMAND, Key::new().bytes(c.id.0.as_bytes()), bytes));
            }
            if let Some(c) = a.command.as_ref().filter(|_| recorded.iter().any(|r| !names_command(r))) {
                txn.row(table::put(table::BY, crate::event::steer::by_key(t), c.id.0.as_bytes().to_vec()));
            }
            if let Some(tr) = &a.tracking {
                let key = Key::new().text(tr.source.as_str());
                txn.row(table::put(table::TRACKING, key, table::number(tr.number)));
            }
            for row in &a.rows {
                txn.row(row.clone());
            }
            Ok(())
        };
        if let Err(e) = finish(txn) {
            undo_all(undo);
            return Err(e);
        }
        remember(memory, t, position, a.writes.iter().map(|w| &w.stream), heads);
        Ok(done)
    }
}

/// Does the event say itself which command it came of?
fn names_command(r: &Recorded) -> bool {
    r.event.meta.more.contains_key("command")
}

fn remember<'a>(
    memory: &mut Memory,
    t: T,
    last: Position,
    streams: impl Iterator<Item = &'a StreamId>,
    heads: Vec<Head>,
) {
    memory.t = t;
    memory.last = Some(last);
    for (stream, head) in streams.zip(heads) {
        memory.heads.insert(stream.clone(), head);
    }
}

/// Writes one event and its index rows.
pub(crate) fn write_event(txn: &mut Txn, r: &Recorded) {
    let p = r.position.0;
    txn.row(table::put(table::EVENT, Key::new().number(p), r.encode()));
    txn.row(table::put(
        table::STREAM,
        Key::new().text(r.stream.as_str()).number(r.version.0),
        table::number(p),
    ));
    txn.row(table::put(table::ID, Key::new().bytes(r.event.id.0.as_bytes()), table::number(p)));
    txn.row(table::put(table::TYPE, Key::new().text(r.ty()).number(p), Vec::new()));
    for tag in &r.event.tags {
        txn.row(table::put(table::TAG, Key::new().text(tag.as_str()).number(p), Vec::new()));
    }
}
