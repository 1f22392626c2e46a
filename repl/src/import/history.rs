//! A full-history export, line by line, back into a database.
//!
//! A line is `{:t n, :tx-instant #inst …, :tx-data [[e attr v added] …], :events [{…} …]}`.
//!
//! 1. Lines come in order of t into a database that has none of them; every line
//!    becomes the transaction of the same t, at the same instant.
//! 2. Entities keep their identity through a map from the ids of the file to ids
//!    here; in a new database they come out the same.
//! 3. Facts that a projection owns are not written: appending the events makes them again.

use crate::{
    commands::events,
    fail::{Failure, Outcome},
    session::{Session, read_edn},
};
use annals::{Db, EntityId, Keyword, Partition, T, TxData, Value, ValueType, edn};
use std::collections::{HashMap, HashSet};

/// Does a form look like a line of a full-history export?
pub fn is_line(text: &str) -> bool {
    text.starts_with('{') && text.contains(":tx-data") && text.contains(":tx-instant")
}

/// What is known while lines are read.
pub struct Restore {
    ids: HashMap<u64, EntityId>,
    /// Attributes that projections own.
    owned: HashSet<Keyword>,
    /// The database before its first transaction: what every database has.
    genesis: Option<Db>,
}

impl Restore {
    /// Starts with what the database has.
    pub fn new(s: &Session) -> Restore {
        Restore {
            ids: HashMap::new(),
            owned: events::owned_attributes(s),
            genesis: s.conn.db_at(T::GENESIS).ok(),
        }
    }

    /// One line; gives the number of facts written.
    pub fn line(&mut self, s: &Session, text: &str) -> Outcome<u64> {
        let line = read_edn(text, "line")?;
        let get = |k: &str| line.get(&Value::keyword(k)).cloned();
        let wrong = |why: &str| Failure::refused("import/history", why.to_owned());
        let (Some(Value::Long(t)), Some(Value::Instant(instant))) = (get("t"), get("tx-instant")) else {
            return Err(wrong("a line of a full-history export has :t and :tx-instant"));
        };
        let Some(Value::Vector(data)) = get("tx-data") else {
            return Err(wrong(":tx-data is a vector of datoms"));
        };
        let t = T(u64::try_from(t).unwrap_or(0));
        let here = s.conn.db().basis_t();
        if t <= here {
            // Again into the same database: what is there already stays.
            return Ok(0);
        }
        if t != here.next() {
            return Err(wrong(&format!(
                "the line is t{t}, the database is at t{here}: lines must come in order, into a database of their own"
            )));
        }
        let mut forms: Vec<Value> = Vec::new();
        let mut fresh: Vec<u64> = Vec::new();
        for d in data.iter() {
            let (Value::Vector(parts) | Value::List(parts)) = d else {
                return Err(wrong("a datom is [e attr v added]"));
            };
            let [e, Value::Keyword(a), v, Value::Bool(added)] = &parts[..] else {
                return Err(wrong(&format!("a datom is [e attr v added], not {}", edn::print(d))));
            };
            if a.as_str() == "db/txInstant" || self.owned.contains(a) {
                continue;
            }
            let e = self
                .entity(e, t, &mut fresh)
                .ok_or_else(|| wrong(&format!("no entity: {}", edn::print(e))))?;
            let reference =
                s.conn.db().schema().attribute_named(a).is_some_and(|x| x.value_type == ValueType::Ref);
            let v = match reference {
                true => self.entity(v, t, &mut fresh).unwrap_or_else(|| v.clone()),
                false => v.clone(),
            };
            let op = if *added { "db/add" } else { "db/retract" };
            forms.push(Value::vector([Value::keyword(op), e, Value::Keyword(a.clone()), v]));
        }
        let n = forms.len() as u64;
        let events = match get("events") {
            Some(Value::Vector(list)) => list.to_vec(),
            _ => Vec::new(),
        };
        let facts = TxData { forms, text: None };
        if events.is_empty() {
            let mut facts = facts;
            facts.forms.push(Value::map([
                (Value::keyword("db/id"), Value::string("datomic.tx")),
                (Value::keyword("db/txInstant"), Value::Instant(instant)),
            ]));
            let report = s.conn.transact(facts)?;
            for old in fresh {
                if let Some(new) = report.tempid(&tempid(old)) {
                    self.ids.insert(old, new);
                }
            }
            self.owned = events::owned_attributes(s);
            return Ok(n);
        }
        events::restore(s, &events, facts, instant)?;
        Ok(n)
    }

    /// An id of the file as what stands for it in a transaction here.
    fn entity(&self, v: &Value, t: T, fresh: &mut Vec<u64>) -> Option<Value> {
        let raw = match v {
            Value::Long(n) => u64::try_from(*n).ok()?,
            Value::Ref(e) => e.raw(),
            _ => return None,
        };
        let e = EntityId::from_raw(raw);
        if let Some(here) = self.ids.get(&raw) {
            return Some(Value::Ref(*here));
        }
        match e.partition()? {
            Partition::Tx if e.as_t() == Some(t) => Some(Value::string("datomic.tx")),
            Partition::Tx | Partition::Event => Some(Value::Ref(e)),
            // What every database has from the beginning.
            Partition::Db if self.genesis.as_ref().is_some_and(|g| g.ident(e).is_some()) => {
                Some(Value::Ref(e))
            }
            Partition::Db | Partition::User => {
                if !fresh.contains(&raw) {
                    fresh.push(raw);
                }
                Some(Value::string(tempid(raw)))
            }
        }
    }
}

fn tempid(raw: u64) -> String {
    format!("e{raw}")
}
