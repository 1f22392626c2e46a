//! A command that waits, and how it is stored: a map, so that a person can read it. Timers store the
//! commands that they will send in the same form.
//!
//! 1. What is personal in a payload is stored sealed, each time it is stored under another id; a command
//!    with an erased value is refused.
//!
//! Not here: the queue (`outbox`).

use crate::DbError;
use crate::event::{
    command::{CommandOutcome, CommandStatus, CommandTo, Dispatch, Retry},
    data::Data,
    id::{CommandId, Version},
    log::EventLog,
    marks::Marks,
    record::Meta,
    seal::{Seals, has_erased},
    table::{self, Key},
};
use annals_model::{Instant, Keyword, Value};
use annals_storage::Row;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// A command in the queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Queued {
    pub to: CommandTo,
    pub id: CommandId,
    pub meta: Meta,
    pub if_version: Option<Version>,
    pub retry: Retry,
    pub keep_until: Option<Instant>,
    /// Facts about the transaction that is to decide it.
    pub tx: Vec<(Keyword, Value)>,
    /// Personal values that its payload may hold: what holds one is stored sealed.
    pub marks: Marks,
    /// A value of its payload was erased: it can no longer be carried out.
    pub erased: bool,
    /// The process manager and the instance that sent it.
    pub sender: Option<(String, String)>,
}

/// The field with the id under which the payload is sealed.
const SEAL: &str = "seal";

fn k(name: &str) -> Value {
    Value::keyword(name)
}

impl Queued {
    pub fn dispatch(&self) -> Dispatch {
        Dispatch {
            id: self.id,
            meta: self.meta.clone(),
            if_version: self.if_version,
            retry: self.retry,
            keep_until: self.keep_until,
            tx: self.tx.clone(),
            wait_for: None,
        }
    }

    /// As it is stored: what is personal in its payload sealed, under an id that is stored with
    /// it. A timer that fires is stored again, with other marks perhaps: each time takes an id of its own.
    pub fn stored(&self, seals: &Seals) -> Result<Value, DbError> {
        let id = Uuid::new_v4();
        Ok(Value::map(match seals.seal_held(id, &self.to.payload, &self.marks)? {
            None => self.entries(&self.to.payload),
            Some(payload) => {
                let mut map = self.entries(&payload);
                map.push((k(SEAL), Value::Uuid(id)));
                map
            }
        }))
    }

    /// What was stored, opened; none when it is not a command.
    pub fn opened(v: &Value, seals: &Seals) -> Result<Option<Queued>, DbError> {
        let Some(mut queued) = Queued::of_value(v) else { return Ok(None) };
        if let Some(Value::Uuid(id)) = v.get(&k(SEAL)) {
            queued.to.payload = seals.open_value(*id, &queued.to.payload, &mut queued.marks)?;
        }
        queued.erased = has_erased(&queued.to.payload);
        Ok(Some(queued))
    }

    /// The fields, with this for a payload.
    fn entries(&self, payload: &Value) -> Vec<(Value, Value)> {
        let mut map = vec![
            (k("id"), Value::Uuid(self.id.0)),
            (k("category"), Value::string(&self.to.category)),
            (k("key"), Value::string(&self.to.id)),
            (k("type"), Value::string(&self.to.ty)),
            (k("payload"), payload.clone()),
            (k("retry"), Value::Long(self.retry.0.into())),
        ];
        let text = |s: &Arc<str>| Value::String(s.clone());
        let m = &self.meta;
        map.extend(m.correlation.as_ref().map(|c| (k("correlation"), text(c))));
        map.extend(m.causation.map(|c| (k("causation"), Value::Uuid(c))));
        map.extend(m.actor.as_ref().map(|a| (k("actor"), text(a))));
        if !m.more.is_empty() {
            map.push((
                k("meta"),
                Value::map(m.more.iter().map(|(n, v)| (Value::String(n.clone()), v.clone()))),
            ));
        }
        map.extend(self.if_version.map(|v| (k("if-version"), Value::Long(v.0 as i64))));
        map.extend(self.keep_until.map(|i| (k("keep-until"), Value::Instant(i))));
        if !self.tx.is_empty() {
            let facts = self.tx.iter().map(|(a, v)| Value::vector([Value::Keyword(a.clone()), v.clone()]));
            map.push((k("tx"), Value::vector(facts)));
        }
        if let Some((process, instance)) = &self.sender {
            map.push((k("sender"), Value::vector([Value::string(process), Value::string(instance)])));
        }
        map
    }

    /// What was stored, sealed as it is; none when it is not a command.
    pub fn of_value(v: &Value) -> Option<Queued> {
        let get = |name: &str| v.get(&k(name));
        let string = |name: &str| match get(name) {
            Some(Value::String(s)) => Some(s.clone()),
            _ => None,
        };
        let uuid = |name: &str| match get(name) {
            Some(Value::Uuid(u)) => Some(*u),
            _ => None,
        };
        let long = |name: &str| match get(name) {
            Some(Value::Long(n)) => Some(*n),
            _ => None,
        };
        let mut more = BTreeMap::new();
        if let Some(Value::Map(entries)) = get("meta") {
            for (name, v) in entries.iter() {
                let Value::String(name) = name else { return None };
                more.insert(name.clone(), v.clone());
            }
        }
        let mut tx = Vec::new();
        if let Some(Value::Vector(facts)) = get("tx") {
            for fact in facts.iter() {
                match fact {
                    Value::Vector(pair) => match &pair[..] {
                        [Value::Keyword(a), v] => tx.push((a.clone(), v.clone())),
                        _ => return None,
                    },
                    _ => return None,
                }
            }
        }
        let sender = match get("sender") {
            Some(Value::Vector(pair)) => match &pair[..] {
                [Value::String(p), Value::String(i)] => Some((p.to_string(), i.to_string())),
                _ => return None,
            },
            _ => None,
        };
        Some(Queued {
            to: CommandTo {
                category: string("category")?.to_string(),
                id: string("key")?.to_string(),
                ty: string("type")?.to_string(),
                payload: get("payload")?.clone(),
            },
            id: CommandId(uuid("id")?),
            meta: Meta {
                correlation: string("correlation"),
                causation: uuid("causation"),
                actor: string("actor"),
                more,
            },
            if_version: long("if-version").map(|n| Version(n as u64)),
            retry: Retry(u32::try_from(long("retry")?).ok()?),
            keep_until: match get("keep-until") {
                Some(Value::Instant(i)) => Some(*i),
                _ => None,
            },
            tx,
            marks: Marks::default(),
            erased: false,
            sender,
        })
    }

    /// The rows that queue it as the `n`-th of about transaction `t`; none when it is known already.
    pub fn rows(&self, log: &EventLog, t: annals_model::T, n: u64) -> Result<Vec<Row>, DbError> {
        let id = Key::new().bytes(self.id.0.as_bytes());
        if log.tables.row(table::COMMAND, id.clone())?.is_some() {
            return Ok(Vec::new());
        }
        let digest = self.to.digest(self.if_version)?;
        let outcome = CommandOutcome {
            keep_until: self.keep_until,
            ..CommandOutcome::of(self.id, digest, CommandStatus::Accepted)
        };
        let data = Data::of(&self.stored(&log.seals)?)?;
        Ok(vec![
            table::put(table::COMMAND, id, outcome.encode()?),
            table::put(
                table::OUTBOX,
                Key::new().number(t.0).number(n).bytes(self.id.0.as_bytes()),
                data.bytes(),
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare() -> Queued {
        Queued {
            to: CommandTo {
                category: "order".into(),
                id: "7".into(),
                ty: "Cancel".into(),
                payload: Value::map([(k("why"), Value::string("late"))]),
            },
            id: CommandId(Uuid::from_u128(1)),
            meta: Meta::default(),
            if_version: None,
            retry: Retry(2),
            keep_until: None,
            tx: Vec::new(),
            marks: Marks::default(),
            erased: false,
            sender: None,
        }
    }

    #[test]
    fn what_is_queued_is_read_back() {
        let mut meta = Meta { causation: Some(Uuid::from_u128(4)), ..Meta::default() };
        meta.more.insert(Arc::from("ip"), Value::string("::1"));
        let bare = bare();
        let full = Queued {
            meta,
            if_version: Some(Version(3)),
            keep_until: Some(Instant(9)),
            tx: vec![(Keyword::new("tx/principal"), Value::string("ada"))],
            sender: Some(("shipping".into(), "order-7".into())),
            ..bare.clone()
        };
        for q in [bare, full] {
            assert_eq!(Queued::of_value(&Value::map(q.entries(&q.to.payload))), Some(q));
        }
    }

    #[test]
    fn a_payload_stored_twice_meets_two_nonces() {
        let seals = Seals::in_memory();
        let mut marks = Marks::default();
        marks.note(&Arc::from("zoe"), &Value::string("Nightingale"));
        let mut q = bare();
        q.to.payload = Value::map([(k("to"), Value::string("Ada and Nightingale"))]);
        q.marks = marks.clone();
        // As a timer, and, when it fires, in the queue: by then another of the text is known.
        let timer = q.stored(&seals).unwrap();
        q.marks.note(&Arc::from("ada"), &Value::string("Ada and"));
        let queued = q.stored(&seals).unwrap();
        let id = |v: &Value| v.get(&k(SEAL)).cloned().unwrap();
        assert_ne!(id(&timer), id(&queued));
        for (stored, marks) in [(timer, marks), (queued, q.marks.clone())] {
            let opened = Queued::opened(&stored, &seals).unwrap().unwrap();
            assert_eq!((&opened.to.payload, opened.erased), (&q.to.payload, false));
            let to = q.to.payload.get(&k("to")).unwrap();
            assert_eq!(opened.marks.held(to).len(), marks.held(to).len());
        }
    }
}
