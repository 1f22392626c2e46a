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

use super::{
    append::{Append, AppendError, Appended, Condition, Guard, matches},
    command::{CommandOutcome, CommandStatus},
    facts::{Cache, FactBase, ProjectError, Support, Target, Undo},
    id::{Position, StreamId, Version},
    log::EventLog,
    projection::Code,
    record::Recorded,
    registry::{Events, Memory},
    runtime::{ProjectionState, Runtime},
    table::{self, Head, Key, StreamState},
};
use crate::{
    Db, DbError, TransactError,
    snapshot::Snapshot,
    store::Prefix,
    transact::{Author, Txn},
};
use annals_model::{AttrId, EntityId, Instant, Partition, Schema, T, Value, View};
use std::{cell::Cell, ops::ControlFlow, sync::Arc};

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

/// The staged database as projections read it.
pub(crate) struct Staged<'a> {
    pub snap: &'a Snapshot,
    /// The present, but for those who ask what was.
    pub view: View,
    pub next: Cell<u64>,
}

impl Staged<'_> {
    /// The view as of a transaction; what is newest anyway is read as the present.
    fn at(&self, t: Option<T>) -> View {
        match t {
            Some(t) if t < self.view.upto(self.snap.t()) => View { as_of: Some(t), ..self.view },
            _ => self.view,
        }
    }
}

impl FactBase for Staged<'_> {
    fn values(&self, e: EntityId, a: AttrId, at: Option<T>) -> Result<Vec<Value>, DbError> {
        let mut found = Vec::new();
        self.snap.scan(self.at(at), &Prefix::Ea(e, a), &mut |d| {
            found.push(d.v);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
    fn holder(&self, a: AttrId, v: &Value, at: Option<T>) -> Result<Option<EntityId>, DbError> {
        Ok(self.snap.first(self.at(at), &Prefix::Av(a, v.clone()))?.map(|d| d.e))
    }
    fn fresh(&self) -> EntityId {
        let n = self.next.get();
        self.next.set(n + 1);
        EntityId::new(Partition::User, n)
    }
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
            judge(self, &before, &log, which, c)?;
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
                    Purpose::Speculate => super::seal::opened(&e.data),
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
                txn.row(table::put(table::BY, super::steer::by_key(t), c.id.0.as_bytes().to_vec()));
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

    /// Runs the inline projections over the events of one append.
    fn run_inline(
        &self,
        purpose: Purpose,
        txn: &mut Txn,
        before: &Db,
        recorded: &[Recorded],
        shared: bool,
    ) -> Result<Vec<(Arc<Runtime>, Undo)>, Stop> {
        let runtimes = self.runtimes();
        let mut undo: Vec<(Arc<Runtime>, Undo)> = Vec::new();
        let mut parts: Option<Vec<Recorded>> = None;
        for r in runtimes.iter().filter(|r| r.is_inline()) {
            match r.state() {
                ProjectionState::Live => {}
                // It catches up later, from its checkpoint.
                ProjectionState::Building | ProjectionState::Paused | ProjectionState::Halted { .. } => {
                    continue;
                }
                ProjectionState::Retired | ProjectionState::Dropped => continue,
            }
            if parts.is_none() {
                parts = match self.presented(recorded) {
                    Ok(parts) => Some(parts),
                    Err(e) => {
                        undo_all(undo);
                        return Err(e.into());
                    }
                };
            }
            let code = r.code();
            let events: Vec<&Recorded> = parts.iter().flatten().filter(|e| code.wants(e)).collect();
            if events.is_empty() {
                continue;
            }
            match self.project_inline(purpose, txn, before, r, &code, &events, shared) {
                Ok(u) => undo.push((r.clone(), u)),
                Err(e) => {
                    undo_all(undo);
                    return Err(e);
                }
            }
        }
        Ok(undo)
    }

    /// Events as projections see them: opened and upcast.
    pub(crate) fn presented(&self, recorded: &[Recorded]) -> Result<Vec<Recorded>, DbError> {
        let upcasters = self.upcasters.read().clone();
        let mut out = Vec::with_capacity(recorded.len());
        for r in recorded {
            let r = self.seals.open_event(r.clone())?;
            out.append(&mut upcasters.apply(r)?);
        }
        Ok(out)
    }

    #[expect(clippy::too_many_arguments, reason = "one call, and no two of a type")]
    fn project_inline(
        &self,
        purpose: Purpose,
        txn: &mut Txn,
        before: &Db,
        r: &Arc<Runtime>,
        code: &Code,
        events: &[&Recorded],
        shared: bool,
    ) -> Result<Undo, Stop> {
        // Facts given with the append, and those of projections before this one, are seen too.
        let seen = if txn.is_empty() { before.clone() } else { txn.db().clone() };
        let schema: &Arc<Schema> = &seen.info().schema;
        let binding = r.binding(schema)?;
        let staged = Staged { snap: seen.snapshot(), view: View::NOW, next: Cell::new(txn.next_user()) };
        let (mut shared_cache, mut own_cache);
        let cache: &mut Cache = match purpose {
            Purpose::Commit => {
                shared_cache = r.cache.lock();
                &mut shared_cache
            }
            Purpose::Speculate => {
                own_cache = Cache::default();
                &mut own_cache
            }
        };
        let mut target = Target::new(&staged, &binding, schema, cache, shared);
        for e in events {
            if let Err(why) = code.project(e, &mut target) {
                target.abandon();
                return Err(refusal(r, e, why));
            }
        }
        let (datoms, supports, undo) = target.finish(txn.t());
        let next = staged.next.get();
        txn.set_next_user(next);
        for d in datoms {
            txn.raw(d);
        }
        write_supports(txn, supports);
        Ok(undo)
    }
}

/// Does the event say itself which command it came of?
fn names_command(r: &Recorded) -> bool {
    r.event.meta.more.contains_key("command")
}

fn undo_all(undo: Vec<(Arc<Runtime>, Undo)>) {
    for (r, u) in undo.into_iter().rev() {
        r.cache.lock().undo(u);
    }
}

fn refusal(r: &Runtime, e: &Recorded, why: ProjectError) -> Stop {
    match why {
        ProjectError::Db(e) => Stop::Refused(e.into()),
        why => Stop::Refused(AppendError::InlineProjection {
            projection: Arc::from(r.name.as_str()),
            id: e.event.id,
            ty: e.event.ty.clone(),
            why: why.to_string(),
        }),
    }
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

pub(crate) fn write_supports(txn: &mut Txn, supports: Vec<Support>) {
    for s in supports {
        let key = support_key(s.e, s.a, &s.v).number(s.position.0);
        txn.row(table::put(table::SUPPORT, key, Vec::new()));
    }
}

/// Under which the events that support a fact are noted.
pub(crate) fn support_key(e: EntityId, a: AttrId, v: &Value) -> Key {
    let mut bytes = Vec::with_capacity(32);
    // Stored values are never deeper than a payload may be.
    let _ = super::data::encode(v, &mut bytes, 0);
    let hash = blake3::hash(&bytes);
    Key::new().number(e.raw()).number(a.raw().into()).bytes(&hash.as_bytes()[..8])
}

/// Most events that an error lists as having come between.
const SHOWN_CONFLICTS: u64 = 16;

/// Meets `expected`, and may be written at all.
fn check_version(
    log: &EventLog,
    stream: &StreamId,
    expected: super::append::Expected,
    head: &Head,
) -> Result<(), AppendError> {
    use super::append::Expected;
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

fn known_command(log: &EventLog, c: &CommandOutcome) -> Result<(), Stop> {
    let Some(stored) = log.command(c.id)? else { return Ok(()) };
    if stored.request != c.request {
        return Err(AppendError::CommandReused { id: c.id }.into());
    }
    match stored.status {
        CommandStatus::Done(a) => Err(Stop::Replayed(a)),
        // It waits to be carried out: that is what happens now.
        CommandStatus::Accepted => Ok(()),
        _ => Err(Stop::Replayed(Appended { replayed: true, ..super::command::nothing() })),
    }
}

/// Are the events stored already: all, some, or none of them?
fn known_ids(events: &Events, log: &EventLog, a: &Append) -> Result<(), Stop> {
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
        let erased = super::seal::is_erased(&plain.event.data);
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
fn plain_fingerprint(e: &super::record::NewEvent) -> [u8; 32] {
    match super::seal::opened(&e.data) {
        Some(data) => super::record::NewEvent { data, ..e.clone() }.fingerprint(),
        None => e.fingerprint(),
    }
}

fn check_tracking(log: &EventLog, tr: &super::append::Tracking) -> Result<(), AppendError> {
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
fn judge(events: &Events, db: &Db, log: &EventLog, which: usize, c: &Condition) -> Result<(), AppendError> {
    let failed = |witness| AppendError::ConditionFailed { which, witness, t: log.t() };
    let wrong = |why: String| AppendError::Guard { which, why };
    match &c.guard {
        Guard::NoneMatch(items) => {
            let from = EventLog { upto: c.after.min(log.upto), ..log.clone() }.head()?;
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
        Guard::Same(q) => match c.after >= db.t() || q.holds(db).map_err(wrong)? {
            true => Ok(()),
            false => Err(failed(Vec::new())),
        },
        Guard::Unchanged(q) => {
            if c.after >= db.t() {
                // Nothing has happened since: the query need not even run twice.
                guard_rows(db, q).map_err(wrong)?;
                return Ok(());
            }
            let then = db.as_of(c.after);
            let (now, then) = (guard_rows(db, q).map_err(wrong)?, guard_rows(&then, q).map_err(wrong)?);
            if now == then {
                return Ok(());
            }
            let _ = events;
            Err(failed(Vec::new()))
        }
    }
}

/// The rows of a guard's query, in a fixed order.
pub(crate) fn guard_rows(db: &Db, q: &super::append::GuardQuery) -> Result<Vec<Value>, String> {
    super::query_rows(db, &q.query, &q.args)
}
