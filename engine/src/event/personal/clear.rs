//! Texts in the clear: what was personal and not marked so, taken out of the events and rows
//! that an operator names.
//!
//! 1. Nothing ties an unmarked text to a person but the text, and others may be called so. So
//!    nothing goes by likeness alone: the operator names the events and rows, which an erasure
//!    lists (`Erased::elsewhere_events`, `elsewhere_rows`), and the texts.
//! 2. Of a named event the values that hold a text go, from payload and metadata, in log and indexes and for
//!    every time; the event stays, with its id, type, tags, version, position and t.
//! 3. What followed goes as in an erasure: facts that projections made of the texts, what stands in
//!    rows of the instances and commands of these events, snapshots of their aggregates.
//! 4. Facts go first, then events, rows and snapshots in one step: what was cut short can be begun again.

use crate::event::{
    data::Data,
    erase::{Erased, reason, snapshots, tie},
    id::{Position, StreamId},
    record::Recorded,
    redact::{self, Ties, in_text, redacted, stands_in},
    seal::{ERASED, SealError},
    table::{self, Key},
};
use crate::{Connection, DbError, Error, store::Excise};
use annals_model::{T, Value};
use hashbrown::HashSet;
use std::{collections::BTreeSet, sync::Arc};

/// What [`Connection::erase_texts`] takes out, and of what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextErasure {
    /// A text goes with every text that contains it, any other value (a number, an instant) where it stands
    /// alone. The empty text is held by nothing.
    pub values: Vec<Value>,
    /// Positions of the events, as in [`Erased::elsewhere_events`].
    pub events: Vec<Position>,
    /// Names of states, timers, commands and outcomes, as in [`Erased::elsewhere_rows`]; only texts are
    /// looked for in them.
    pub rows: Vec<String>,
}

impl Connection {
    /// Takes values that stand in the clear out of events and rows, for ever: in the log, the indexes and every
    /// past time, readers find `:annals/erased` in their place. Facts that projections made of them are
    /// excised. For personal values that were appended without [`personal`](crate::event::personal); what is
    /// sealed is left to [`Connection::erase_subject`], whose answer names what to give here.
    ///
    /// `Erased::events` counts the events that held one of the values: a position where none does is
    /// passed over. Appending such an event again under its id stores nothing, since a digest of what was appended
    /// stays with the id. Types, tags and names of streams stay, and so do backups made before. It reads the
    /// log twice and rewrites it.
    ///
    /// # Errors
    /// A database in memory has nothing to excise from; reading, writing or excising failed. Until it succeeds it can
    /// be begun again.
    ///
    /// ```
    /// use annals::event::{Append, Position, TextErasure};
    /// # let dir = std::env::temp_dir().join(format!("annals-erase-texts-{}", std::process::id()));
    /// let conn = annals::open(&dir)?;
    /// let opened = conn.append(Append::to("ticket-1").event("Opened", r#"{"by": "Ada Lovelace", "about": "a lamp"}"#)?)?;
    /// let done = conn.erase_texts(&TextErasure {
    ///     values: vec!["Ada Lovelace".into()],
    ///     events: vec![opened.first],
    ///     ..TextErasure::default()
    /// })?;
    /// assert_eq!(done.events, 1);
    /// let event = conn.db().as_of(opened.t).events().at(Position(1))?.remove(0);
    /// assert_eq!(annals::edn::print(&event.data().value()?), r#"{:about "a lamp", :by :annals/erased}"#);
    /// # drop(conn);
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn erase_texts(&self, what: &TextErasure) -> Result<Erased, Error> {
        let registry = self.shared().events().clone();
        // No process writes a state that it read before.
        let _steps = registry.domain.stepping.lock();
        let _one = registry.registering.lock();
        let runtimes = registry.runtimes();
        let _driving: Vec<_> = runtimes.iter().map(|r| r.driving.lock()).collect();
        let mut done = Erased::default();
        let values: Vec<Value> = what.values.iter().filter(|v| **v != Value::string("")).cloned().collect();
        let db = self.db();
        let log = db.events();
        let (mut found, mut plan) = (Vec::new(), Vec::new());
        for p in what.events.iter().copied().collect::<BTreeSet<Position>>() {
            let Some(stored) = log.tables.event(p)? else { continue };
            let cleared = cleared(&stored, &values).map_err(DbError::from)?;
            if cleared != stored {
                let (key, value) = (Key::new().number(p.0).done(), cleared.encode());
                plan.push(Excise::Content { table: table::EVENT, key, value });
                found.push(stored);
            }
        }
        done.events = found.len() as u64;
        let named: HashSet<Position> = found.iter().map(|e| e.position).collect();
        let without = |e: &Recorded| match named.contains(&e.position) {
            true => cleared(e, &values),
            false => Ok(e.clone()),
        };
        self.excise_facts(&registry, &runtimes, &db, &found, &without, &mut done)?;
        let mut ties = Ties { named: what.rows.iter().cloned().collect(), ..Ties::default() };
        tie(&registry, &found, &mut ties);
        let texts: HashSet<Value> = values.iter().cloned().collect();
        let db = self.db();
        let records = || self.shared().store().log(T(0), db.t().next());
        // No subject has this name, so nothing is tied to it by a seal.
        let redaction = redact::plan(records, &db.events(), "", &texts, ties)?;
        let streams: BTreeSet<StreamId> = found.iter().map(|e| e.stream.clone()).collect();
        let snapshots = snapshots(&db, &streams)?;
        done.snapshots = snapshots.len() as u64;
        plan.extend(snapshots);
        plan.extend(redaction.plan);
        if !plan.is_empty() {
            done.t = Some(self.excise_planned(plan, redaction.rows, reason())?.report.t());
        }
        registry.forget_facts();
        done.processes = redaction.names;
        done.elsewhere_rows = redaction.elsewhere;
        done.look_elsewhere(&self.db(), &texts)?;
        Ok(done)
    }
}

/// The event, as it is stored, without what holds one of the values.
fn cleared(e: &Recorded, values: &[Value]) -> Result<Recorded, SealError> {
    let mut e = e.clone();
    let data = e.event.data.value()?;
    let without = redacted(&data, values);
    if without != data {
        e.event.data = Data::of(&without)?;
    }
    let meta = &mut e.event.meta;
    meta.more.values_mut().for_each(|v| *v = redacted(v, values));
    for said in [&mut meta.actor, &mut meta.correlation] {
        if said.as_ref().is_some_and(|s| in_text(s, values)) {
            *said = Some(Arc::from(ERASED));
        }
    }
    Ok(e)
}

/// Does an event, as it is stored, hold one of the texts in the clear?
pub(crate) fn in_event(e: &Recorded, texts: &[Value]) -> Result<bool, DbError> {
    let meta = &e.event.meta;
    let said = |s: &Option<Arc<str>>| s.as_ref().is_some_and(|s| in_text(s, texts));
    if !stands_in(e.event.data.bytes(), texts)
        && !said(&meta.actor)
        && !said(&meta.correlation)
        && meta.more.is_empty()
    {
        return Ok(false);
    }
    // The name of a seal's subject is no text of it.
    Ok(cleared(e, texts).map_err(DbError::from)? != *e)
}
