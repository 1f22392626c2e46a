//! Erasing a subject: its key forgotten, and the facts that projections made of its values
//! excised, in log, indexes and history.
//!
//! 1. Facts go by provenance, not by likeness: of each event with values of the subject, what
//!    its projections say is compared with what they say when the values are erased, and the
//!    difference goes. Equal values that come from elsewhere stay, and are reported.
//! 2. The facts go first, then what stands in the clear in rows of the subject (`redact`), then the key, then
//!    the snapshots of aggregates, which need no key to be found: an erasure that was cut short can
//!    be begun again and finds what is left.
//! 3. From its beginning nothing more is stored under the subject, and no projection runs.
//! 4. Events stay at their positions, with `:annals/erased` where the values were; a rebuilt
//!    projection leaves out what it would have made of them.

use crate::event::{
    batch::Taken,
    clear,
    facts::{Cache, Target},
    id::{Position, StreamId},
    inline::Staged,
    marks::TELLING,
    projection::Code,
    record::Recorded,
    redact::{self, ELSEWHERE, Ties},
    registry::Events,
    runtime::Runtime,
    seal::SealError,
    table::{self, Key},
};
use crate::{
    Connection, Db, DbError, Eid, Error, Excision,
    store::{Excise, Prefix},
};
use annals_model::{AttrId, Datom, EntityId, Partition, T, Value, View, tx::TxData};
use hashbrown::{HashMap, HashSet};
use std::{cell::Cell, collections::BTreeSet, sync::Arc};

/// What an erasure did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Erased {
    /// Was there a key of the subject? There is none any more.
    pub known: bool,
    /// Events that hold values of the subject: unreadable from now on.
    pub events: u64,
    /// Facts taken out of the database for ever.
    pub facts: u64,
    /// Snapshots of aggregates taken out with them.
    pub snapshots: u64,
    /// The transaction that signs for the excision; none when no fact had to go.
    pub t: Option<T>,
    /// Texts of the subject that are still facts, from elsewhere: of plain transactions, or of
    /// other subjects with the same. At most 100 are listed.
    pub elsewhere: Vec<Datom>,
    /// States of process managers, timers, queued commands and outcomes of commands that belong to
    /// the subject's events and held a text of it in the clear, by name. It was taken out, from their
    /// past versions too; work under way goes on without it.
    pub processes: Vec<String>,
    /// Others' states, timers, commands and outcomes that hold an equal text, by name: they are left
    /// as they are. At most 100 are listed. [`Connection::erase_texts`] takes the texts out of those that are
    /// given back to it.
    pub elsewhere_rows: Vec<String>,
    /// Events that hold a text of the subject in the clear, in payload or metadata: the program that appended
    /// them did not mark it. They are left as they are, since somebody else may be called so. At most
    /// 100 are listed. For [`Connection::erase_texts`], too.
    pub elsewhere_events: Vec<Position>,
}

/// Opens a subject again when an erasure does not come to its end.
struct Closed<'a>(&'a Events, &'a str);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.seals.reopen(self.1);
    }
}

impl Connection {
    /// Erases a subject: its personal values become unreadable in events, in every copy of the log,
    /// and the facts that projections made of them are excised from log, indexes and history.
    /// Takes as long as reading the log and the facts of projections once.
    ///
    /// What is left to the caller: copies of the key file, and backups made before, hold key and facts
    /// until they are destroyed; tags and types of events are never personal values; facts of
    /// plain transactions are for [`Connection::excise`] (`elsewhere` lists equal texts). Payloads that
    /// were appended or submitted without marking what is personal, and refusals that repeat them, have nothing
    /// that ties them to the subject: `elsewhere_events` and `elsewhere_rows` name them, for
    /// [`Connection::erase_texts`].
    ///
    /// # Errors
    /// A database in memory has nothing to excise from; reading, writing or excising failed. Until
    /// it succeeds the erasure can be begun again.
    pub fn erase_subject(&self, subject: &str) -> Result<Erased, Error> {
        let events = self.shared().events().clone();
        // No process writes a state that it read before.
        let _steps = events.domain.stepping.lock();
        let _one = events.registering.lock();
        let runtimes = events.runtimes();
        let _driving: Vec<_> = runtimes.iter().map(|r| r.driving.lock()).collect();
        let without = |e: &Recorded| events.seals.open_without(e.clone(), subject);
        let known = events.seals.knows(subject);
        events.seals.close(subject);
        let closed = Closed(&events, subject);
        let mut done = Erased { known, ..Erased::default() };
        let mut texts: HashSet<Value> = HashSet::new();
        let mut looked = Position::ZERO;
        let mut streams: BTreeSet<StreamId> = BTreeSet::new();
        let mut ties = Ties::default();
        // Until no event is left that was under way when it began.
        loop {
            let db = self.db();
            let head = db.events().head().map_err(Error::from)?;
            if looked < head {
                let found = affected(&events, &db, subject, looked, &mut texts)?;
                done.events += found.len() as u64;
                streams.extend(found.iter().map(|e| e.stream.clone()));
                tie(&events, &found, &mut ties);
                self.excise_facts(&events, &runtimes, &db, &found, &without, &mut done)?;
                looked = head;
                continue;
            }
            break;
        }
        let db = self.db();
        let records = || self.shared().store().log(T(0), db.t().next());
        let redaction = redact::plan(records, &db.events(), subject, &texts, ties)?;
        done.processes = redaction.names;
        done.elsewhere_rows = redaction.elsewhere;
        if !redaction.plan.is_empty() {
            done.t = Some(self.excise_planned(redaction.plan, redaction.rows, reason())?.report.t());
        }
        events.seals.forget(subject).map_err(DbError::from)?;
        drop(closed);
        events.forget_facts();
        let db = self.db();
        let snapshots = snapshots(&db, &streams)?;
        if !snapshots.is_empty() {
            done.snapshots = snapshots.len() as u64;
            done.t = Some(self.excise_planned(snapshots, Vec::new(), reason())?.report.t());
        }
        done.look_elsewhere(&self.db(), &texts)?;
        Ok(done)
    }

    /// Takes out what projections made of what these events hold no more `without`.
    pub(crate) fn excise_facts(
        &self,
        events: &Events,
        runtimes: &[Arc<Runtime>],
        db: &Db,
        found: &[Recorded],
        without: Without<'_>,
        done: &mut Erased,
    ) -> Result<(), Error> {
        let mut what = Vec::new();
        for r in runtimes {
            for (e, a, v) in derived(events, db, r, found, without)? {
                let Some(attr) = db.schema().attribute(a) else { continue };
                let entity = Some(Eid::Id(e));
                what.push(Excision::Value { entity, attr: attr.ident.as_str().to_owned(), value: v });
            }
        }
        if what.is_empty() {
            return Ok(());
        }
        done.facts += what.len() as u64;
        done.t = Some(self.excise(&what, reason())?.report.t());
        Ok(())
    }
}

/// The events after a position that hold values of a subject, as they are stored.
fn affected(
    events: &Events,
    db: &Db,
    subject: &str,
    after: Position,
    texts: &mut HashSet<Value>,
) -> Result<Vec<Recorded>, DbError> {
    let log = db.events();
    let mut found = Vec::new();
    log.each(after, log.head()?, &mut |r| {
        let values = events.seals.of_subject(&r, subject)?;
        if let Some(values) = values {
            for v in values {
                collect_texts(&v, texts);
            }
            found.push(r);
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// The snapshots of the aggregates of these streams.
pub(crate) fn snapshots(db: &Db, streams: &BTreeSet<StreamId>) -> Result<Vec<Excise>, DbError> {
    let mut found = Vec::new();
    for stream in streams {
        let key = Key::new().text(stream.as_str());
        if db.events().tables.row(table::SNAPSHOT, key.clone())?.is_some() {
            found.push(Excise::Row { table: table::SNAPSHOT, key: key.done() });
        }
    }
    Ok(found)
}

/// Notes what events have to do with: the processes of this program say whom they are for.
pub(crate) fn tie(events: &Events, found: &[Recorded], ties: &mut Ties) {
    for e in found {
        ties.events.insert(e.event.id.0);
        ties.times.insert(e.t);
        let taken = events.taken(e.clone(), false);
        // What cannot be read was routed to nobody.
        for part in taken.parts().unwrap_or_default() {
            for p in events.domain.processes().iter() {
                let instances = p.instances(part).into_iter();
                ties.instances.extend(instances.map(|i| (p.name().to_owned(), i)));
            }
        }
    }
}

/// What the transaction of an excision says of itself.
pub(crate) fn reason() -> TxData {
    let why = Value::map([
        (Value::keyword("db/id"), Value::string("datomic.tx")),
        (Value::keyword("tx/why"), Value::string("erasure of a subject's personal values")),
    ]);
    TxData { forms: vec![why], text: None }
}

fn collect_texts(v: &Value, texts: &mut HashSet<Value>) {
    match v {
        Value::String(s) if s.len() >= TELLING => {
            texts.insert(v.clone());
        }
        Value::Map(entries) => entries.iter().for_each(|(_, v)| collect_texts(v, texts)),
        Value::Vector(items) | Value::List(items) | Value::Set(items) => {
            items.iter().for_each(|v| collect_texts(v, texts));
        }
        _ => {}
    }
}

type Fact = (EntityId, AttrId, Value);

/// A stored event as its readers see it when the values are gone.
pub(crate) type Without<'a> = &'a dyn Fn(&Recorded) -> Result<Recorded, SealError>;

/// The facts of a version that it would not have made of these events without the values.
fn derived(
    events: &Events,
    db: &Db,
    r: &Runtime,
    found: &[Recorded],
    without: Without<'_>,
) -> Result<Vec<Fact>, DbError> {
    let log = db.events();
    let history = View { history: true, ..View::NOW };
    let times: HashSet<T> = found.iter().map(|e| e.t).collect();
    let mut made: HashMap<(T, AttrId), Vec<(EntityId, Value)>> = HashMap::new();
    for (_, a) in &r.attrs {
        for d in db.snapshot().datoms(history, &Prefix::A(*a))? {
            if d.added && times.contains(&d.t) {
                made.entry((d.t, d.a)).or_default().push((d.e, d.v));
            }
        }
    }
    if made.is_empty() {
        return Ok(Vec::new());
    }
    let mut go: HashSet<Fact> = HashSet::new();
    for group in found.chunk_by(|a, b| a.t == b.t) {
        let t = group[0].t;
        let at = |a: AttrId| made.get(&(t, a)).map_or(&[][..], Vec::as_slice);
        let Some((first, last)) = log.positions_of(t)? else { continue };
        let mut stored = Vec::new();
        for p in first.0..=last.0 {
            stored.extend(log.tables.event(Position(p))?);
        }
        let plain = said(events, db, r, t, &stored, None)?;
        let Some(plain) = plain else {
            // Nobody knows any more what made them: all of them go.
            for (_, a) in &r.attrs {
                go.extend(at(*a).iter().map(|(e, v)| (*e, *a, v.clone())));
            }
            continue;
        };
        let erased = said(events, db, r, t, &stored, Some(without))?.unwrap_or_default();
        for (e, a, v) in plain.difference(&erased) {
            let same = at(*a).iter().filter(|(e2, v2)| v2 == v && e.is_none_or(|e| e == *e2));
            go.extend(same.map(|(e, v)| (*e, *a, v.clone())));
        }
    }
    Ok(go.into_iter().collect())
}

/// What is said of an entity, or of one that was made on the way.
type Claim = (Option<EntityId>, AttrId, Value);

/// What a version asserts of the events of a transaction, given what it said before; entities
/// made by them are not told apart. None when it cannot be run any more.
fn said(
    events: &Events,
    db: &Db,
    r: &Runtime,
    t: T,
    stored: &[Recorded],
    without: Option<Without<'_>>,
) -> Result<Option<HashSet<Claim>>, DbError> {
    let code = r.code();
    if matches!(code, Code::Absent) {
        return Ok(None);
    }
    let schema = db.schema().clone();
    let binding = r.binding(&schema)?;
    // As of a moment before: facts of projections are filed under the events they come from.
    let then = View { as_of: Some(T(t.0.saturating_sub(1))), ..View::NOW };
    let counter = db.counters().user;
    let base = Staged { snap: db.snapshot(), view: then, next: Cell::new(counter) };
    let mut cache = Cache::default();
    let mut target = Target::new(&base, &binding, &schema, &mut cache, false);
    let skipped = events.skipped(&r.name);
    for e in stored.iter().filter(|e| !skipped.contains(&e.position)) {
        let taken: Taken = match without {
            None => events.taken(e.clone(), false),
            Some(without) => events.taken(without(e)?, false),
        };
        let Ok(parts) = taken.parts() else { continue };
        for part in parts.iter().filter(|e| code.wants(e)) {
            if code.project(part, &mut target).is_err() {
                // It was parked, or is refused now: it says nothing further.
                break;
            }
        }
    }
    let mut datoms = Vec::new();
    target.finish(t, &mut datoms, &mut Vec::new());
    let fresh = |e: EntityId| e.partition() == Some(Partition::User) && e.counter() >= counter;
    let own = |d: Datom| (Some(d.e).filter(|e| !fresh(*e)), d.a, d.v);
    Ok(Some(datoms.into_iter().filter(|d| d.added).map(own).collect()))
}

impl Erased {
    /// Looks for facts and events that hold one of these texts in the clear.
    pub(crate) fn look_elsewhere(&mut self, db: &Db, texts: &HashSet<Value>) -> Result<(), DbError> {
        self.elsewhere = elsewhere(db, texts)?;
        self.elsewhere_events.clear();
        let texts: Vec<Value> = texts.iter().cloned().collect();
        if texts.is_empty() {
            return Ok(());
        }
        let log = db.events();
        log.each(Position::ZERO, log.head()?, &mut |r| {
            if clear::in_event(&r, &texts)? {
                self.elsewhere_events.push(r.position);
            }
            Ok(match self.elsewhere_events.len() < ELSEWHERE {
                true => std::ops::ControlFlow::Continue(()),
                false => std::ops::ControlFlow::Break(()),
            })
        })?;
        Ok(())
    }
}

/// Facts with one of these texts, in the present or the past.
fn elsewhere(db: &Db, texts: &HashSet<Value>) -> Result<Vec<Datom>, DbError> {
    let mut found = Vec::new();
    if texts.is_empty() {
        return Ok(found);
    }
    let history = View { history: true, ..View::NOW };
    db.snapshot().scan(history, &Prefix::All, &mut |d| {
        if d.added && texts.contains(&d.v) {
            found.push(d);
        }
        match found.len() < ELSEWHERE {
            true => std::ops::ControlFlow::Continue(()),
            false => std::ops::ControlFlow::Break(()),
        }
    })?;
    Ok(found)
}
