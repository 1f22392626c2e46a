//! What one process changes in the transaction being made: states, timers, commands; and how the state of
//! an instance is stored.
//!
//! 1. Nothing is written here: it becomes rows, all of one transaction ([`Work::rows`]).
//! 2. A state that holds a personal value is `#annals/state [id state]`, sealed under that id
//!    (`personal::marks`); it is opened where it is read.

use super::manager::Outgoing;
use crate::DbError;
use crate::event::{
    command::{CommandTo, Retry},
    data::Data,
    id::{BadName, CommandId, Tag},
    log::EventLog,
    marks::Marks,
    outbox::gone,
    queued::Queued,
    record::{Meta, Recorded},
    seal::Seals,
    table::{self, Key, Tables},
    timer::{self, Timer, TimerId},
};
use annals_model::{Symbol, T, Value};
use annals_storage::Row;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// What one process has changed in the transaction being made.
#[derive(Clone)]
pub(crate) struct Work {
    log: EventLog,
    process: &'static str,
    pub(super) states: BTreeMap<String, Option<Kept>>,
    timers: BTreeMap<(String, String), Option<Timer>>,
    sends: Vec<Queued>,
    /// Instances that ended because their state cannot be read without what was erased.
    pub ended: u64,
}

/// The state of an instance, opened, and the personal values that it may hold.
#[derive(Clone)]
pub(super) struct Kept {
    pub state: Value,
    pub marks: Marks,
    /// What made it: it is sealed under an id of its own.
    pub id: Uuid,
}

impl Work {
    pub fn new(log: EventLog, process: &'static str) -> Work {
        let (states, timers) = (BTreeMap::new(), BTreeMap::new());
        Work { log, process, states, timers, sends: Vec::new(), ended: 0 }
    }

    pub(super) fn state(&self, instance: &str) -> Result<Option<Kept>, DbError> {
        match self.states.get(instance) {
            Some(state) => Ok(state.clone()),
            None => stored_state(&self.log, self.process, instance),
        }
    }

    /// The personal values of an event that is taken: its reader has them opened.
    pub(super) fn seen(&self, e: &Recorded) -> Result<Marks, DbError> {
        match self.log.tables.event(e.position)? {
            Some(stored) => Ok(self.log.seals.marks(&stored)?),
            None => Ok(Marks::default()),
        }
    }

    pub(super) fn stop(&mut self, instance: &str) -> Result<(), DbError> {
        self.states.insert(instance.to_owned(), None);
        for (id, _) in timer::of(&self.log, Some(self.process), Some(instance))? {
            self.timers.insert((id.instance, id.name), None);
        }
        for ((i, _), timer) in &mut self.timers {
            if i == instance {
                *timer = None;
            }
        }
        Ok(())
    }

    /// Takes in what an instance sent; ids follow from `cause` and `label`.
    pub(super) fn take(
        &mut self,
        instance: &str,
        sent: Vec<Outgoing>,
        cause: Uuid,
        label: &str,
        correlation: Option<Arc<str>>,
        marks: &Marks,
    ) -> Result<(), BadName> {
        let queued = |n: usize, to: CommandTo| {
            let mut meta =
                Meta { correlation: correlation.clone(), causation: Some(cause), ..Meta::default() };
            meta.more.insert(Arc::from("process"), Value::string(self.process));
            meta.more.insert(Arc::from("instance"), Value::string(instance));
            Queued {
                to,
                id: CommandId::derived(cause, label, n as u64),
                meta,
                if_version: None,
                retry: Retry::default(),
                keep_until: None,
                tx: Vec::new(),
                marks: marks.clone(),
                erased: false,
                sender: Some((self.process.to_owned(), instance.to_owned())),
            }
        };
        for (n, outgoing) in sent.into_iter().enumerate() {
            match outgoing {
                Outgoing::Command(to) => {
                    let q = queued(n, to);
                    self.sends.push(q);
                }
                Outgoing::At { when, name, command } => {
                    Tag::new(&name)?;
                    let send = queued(n, command);
                    self.timers.insert((instance.to_owned(), name), Some(Timer { when, send }));
                }
                Outgoing::Cancel { name } => {
                    Tag::new(&name)?;
                    self.timers.insert((instance.to_owned(), name), None);
                }
            }
        }
        Ok(())
    }

    /// Does nothing follow from what was taken?
    pub fn is_empty(&self) -> bool {
        self.states.is_empty() && self.timers.is_empty() && self.sends.is_empty()
    }

    /// The commands of this work, and the timers it sets and cancels.
    pub fn sent(&self) -> Vec<Outgoing> {
        let commands = self.sends.iter().map(|q| Outgoing::Command(q.to.clone()));
        let timers = self.timers.iter().map(|((_, name), timer)| match timer {
            Some(t) => Outgoing::At { when: t.when, name: name.clone(), command: t.send.to.clone() },
            None => Outgoing::Cancel { name: name.clone() },
        });
        commands.chain(timers).collect()
    }

    /// The rows of all of it, for transaction `t`; commands are numbered from `from`.
    pub fn rows(&self, t: T, from: u64) -> Result<Vec<Row>, DbError> {
        let mut rows = Vec::new();
        for (instance, state) in &self.states {
            let key = Key::new().text(self.process).text(instance);
            match state {
                Some(kept) => {
                    let stored = kept.stored(&self.log.seals)?;
                    rows.push(table::put(table::PROCESS, key, Data::of(&stored)?.bytes()));
                }
                None => rows.push(gone(table::PROCESS, key.done())),
            }
        }
        for ((instance, name), timer) in &self.timers {
            let id =
                TimerId { process: self.process.to_owned(), instance: instance.clone(), name: name.clone() };
            rows.extend(timer::change(&self.log, &id, timer.as_ref())?);
        }
        for (n, send) in self.sends.iter().enumerate() {
            rows.extend(send.rows(&self.log, t, from + n as u64)?);
        }
        Ok(rows)
    }
}

/// The tag of a state with sealed values: `#annals/state [id state]`.
const STATE: &str = "annals/state";

impl Kept {
    /// As it is stored: what holds a personal value sealed.
    fn stored(&self, seals: &Seals) -> Result<Value, DbError> {
        let Some(sealed) = seals.seal_held(self.id, &self.state, &self.marks)? else {
            return Ok(self.state.clone());
        };
        Ok(Value::Tagged(Arc::new((Symbol::new(STATE), Value::vector([Value::Uuid(self.id), sealed])))))
    }

    fn opened(stored: Value, seals: &Seals) -> Result<Kept, DbError> {
        let mut marks = Marks::default();
        if let Value::Tagged(t) = &stored
            && let (STATE, Value::Vector(pair)) = (t.0.as_str(), &t.1)
            && let [Value::Uuid(id), sealed] = &pair[..]
        {
            let state = seals.open_value(*id, sealed, &mut marks)?;
            return Ok(Kept { state, marks, id: *id });
        }
        Ok(Kept { state: stored, marks, id: Uuid::nil() })
    }
}

pub(super) fn stored_state(log: &EventLog, process: &str, instance: &str) -> Result<Option<Kept>, DbError> {
    match log.tables.row(table::PROCESS, Key::new().text(process).text(instance))? {
        Some(bytes) => Ok(Some(Kept::opened(Data::stored(&bytes).value()?, &log.seals)?)),
        None => Ok(None),
    }
}

/// How many instances a process has.
pub(crate) fn instances(tables: &Tables, process: &str) -> Result<u64, DbError> {
    Ok(tables.under(table::PROCESS, Key::new().text(process))?.len() as u64)
}
