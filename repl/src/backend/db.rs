//! A database value, of this process or of a server.

use crate::fail::{Failure, Outcome};
use annals::{
    Answer, Attribute, Change, Datom, DiffRow, Eid, Entity, EntityId, Input, Instant, Keyword, Missing,
    Proof, Query, QueryOptions, Schema, T, TimePoint, Unique, Value,
};
use annals_server::client::{self, PlanStep};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Names of entities kept for one database value.
const NAMES: usize = 100_000;

/// A database as of one moment.
#[derive(Clone)]
pub enum Db {
    /// Of this process.
    Local(annals::Db),
    /// Of a server.
    Remote(Remote),
}

/// A database value of a server, with the names it was asked for before: each is a request.
#[derive(Clone)]
pub struct Remote {
    db: client::Db,
    names: Arc<Mutex<HashMap<EntityId, Name>>>,
}

/// A unique attribute of an entity with its value, if it has one.
type Name = Option<(Keyword, Value)>;

/// The part of time that a database value shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// Nothing asserted up to this.
    pub since: Option<T>,
    /// Assertions and retractions instead of facts.
    pub history: bool,
}

impl Remote {
    pub(super) fn fact_support(
        &self,
        e: EntityId,
        attr: &str,
        v: &Value,
    ) -> Outcome<Vec<client::FactSupport>> {
        Ok(self.db.fact_support(e, attr, v)?)
    }
}

impl Db {
    pub(super) fn remote(db: client::Db) -> Db {
        Db::Remote(Remote { db, names: Arc::default() })
    }

    /// The newest transaction it knows.
    pub fn basis_t(&self) -> T {
        match self {
            Db::Local(db) => db.basis_t(),
            Db::Remote(r) => r.db.basis_t(),
        }
    }
    /// The newest transaction its view shows.
    pub fn t(&self) -> T {
        match self {
            Db::Local(db) => db.t(),
            Db::Remote(r) => r.db.t(),
        }
    }
    /// What its view shows.
    pub fn shown(&self) -> Shown {
        match self {
            Db::Local(db) => Shown { since: db.view().since, history: db.view().history },
            Db::Remote(r) => Shown { since: r.db.since_t(), history: r.db.is_history() },
        }
    }
    /// The transaction a point in time means.
    pub fn t_of(&self, p: TimePoint) -> Outcome<T> {
        Ok(match self {
            Db::Local(db) => db.t_of(p)?,
            Db::Remote(r) => r.db.t_of(p)?,
        })
    }
    /// As it was.
    pub fn as_of(&self, p: TimePoint) -> Outcome<Db> {
        Ok(match self {
            Db::Local(db) => Db::Local(db.as_of(p)?),
            Db::Remote(r) => Db::remote(r.db.as_of(p)?),
        })
    }
    /// What was asserted after a moment.
    pub fn since(&self, p: TimePoint) -> Outcome<Db> {
        Ok(match self {
            Db::Local(db) => Db::Local(db.since(p)?),
            Db::Remote(r) => Db::remote(r.db.since(p)?),
        })
    }
    /// Assertions and retractions.
    pub fn history(&self) -> Db {
        match self {
            Db::Local(db) => Db::Local(db.history()),
            Db::Remote(r) => Db::Remote(Remote { db: r.db.history(), names: r.names.clone() }),
        }
    }

    /// The schema as of the view.
    pub fn schema(&self) -> Outcome<Arc<Schema>> {
        Ok(match self {
            Db::Local(db) => db.schema().clone(),
            Db::Remote(r) => r.db.schema()?,
        })
    }
    /// An attribute, or what is wrong with its name.
    pub fn attribute(&self, name: &str) -> Outcome<Arc<Attribute>> {
        Ok(match self {
            Db::Local(db) => db.attribute(name)?.clone(),
            Db::Remote(r) => r.db.attribute(name)?,
        })
    }
    /// The name of an entity.
    pub fn ident(&self, e: EntityId) -> Option<Keyword> {
        match self {
            Db::Local(db) => db.ident(e).cloned(),
            Db::Remote(r) => r.db.ident(e).ok().flatten(),
        }
    }
    /// The entity of a name.
    pub fn entid(&self, ident: &str) -> Option<EntityId> {
        match self {
            Db::Local(db) => db.entid(ident),
            Db::Remote(r) => r.db.entid(ident).ok().flatten(),
        }
    }
    /// A unique identity of an entity in this view.
    pub fn unique_name(&self, e: EntityId) -> Name {
        if let Db::Remote(r) = self
            && let Some(known) = r.names.lock().unwrap_or_else(PoisonError::into_inner).get(&e)
        {
            return known.clone();
        }
        let schema = self.schema().ok()?;
        let mut unique = schema
            .attributes()
            .filter(|a| a.unique == Some(Unique::Identity) && a.ident.namespace() != Some("db"));
        match self {
            Db::Local(db) => unique.find_map(|a| {
                let v = db.value(e, a.ident.as_str()).ok().flatten()?;
                Some((a.ident.clone(), v))
            }),
            Db::Remote(r) => {
                let entity = r.db.entity(e).ok().flatten();
                let name = entity.and_then(|x| {
                    unique.find_map(|a| Some((a.ident.clone(), x.get(a.ident.as_str())?.clone())))
                });
                let mut names = r.names.lock().unwrap_or_else(PoisonError::into_inner);
                if names.len() < NAMES {
                    names.insert(e, name.clone());
                }
                name
            }
        }
    }

    /// The entity that an id, a name or a lookup ref means.
    pub fn resolve(&self, eid: Eid) -> Outcome<Option<EntityId>> {
        Ok(match self {
            Db::Local(db) => db.resolve(eid)?,
            Db::Remote(r) => r.db.resolve(eid)?,
        })
    }
    /// Everything an entity says.
    pub fn entity(&self, e: EntityId) -> Outcome<Option<Entity>> {
        Ok(match self {
            Db::Local(db) => db.entity(e)?,
            Db::Remote(r) => r.db.entity(e)?,
        })
    }
    /// One value of an entity.
    pub fn value(&self, e: EntityId, attr: &str) -> Outcome<Option<Value>> {
        Ok(match self {
            Db::Local(db) => db.value(e, attr)?,
            Db::Remote(r) => r.db.value(e, attr)?,
        })
    }
    /// The life of an entity.
    pub fn history_of(&self, e: EntityId, attr: Option<&str>) -> Outcome<Vec<Change>> {
        Ok(match self {
            Db::Local(db) => db.history_of(e, attr)?,
            Db::Remote(r) => r.db.history_of(e, attr)?,
        })
    }
    /// Datoms with these leading components, in the order of the index.
    pub fn datoms(&self, index: &str, components: &[Value]) -> Outcome<Vec<Datom>> {
        Ok(match self {
            Db::Local(db) => db.datoms(index, components)?,
            Db::Remote(r) => r.db.datoms(index, components)?,
        })
    }
    /// How many datoms have these leading components.
    pub fn count(&self, index: &str, components: &[Value]) -> Outcome<u64> {
        Ok(match self {
            Db::Local(db) => db.count(index, components)?,
            Db::Remote(_) => self.datoms(index, components)?.len() as u64,
        })
    }
    /// When a transaction was made.
    pub fn instant_of(&self, t: T) -> Option<Instant> {
        match self {
            Db::Local(db) => db.instant_of(t).ok().flatten(),
            Db::Remote(r) => r.db.instant_of(t).ok().flatten(),
        }
    }

    /// Runs a query; `text` is what `q` was read from.
    pub fn query_with(&self, q: &Query, text: &str, inputs: Vec<Input>, o: &QueryOptions) -> Outcome<Answer> {
        Ok(match self {
            Db::Local(db) => db.query_with(q, inputs, o)?,
            Db::Remote(r) => r.db.query_with(text, inputs, o)?,
        })
    }
    /// The steps a query would take; `text` is what `q` was read from.
    pub fn plan(
        &self,
        q: &Query,
        text: &str,
        inputs: Vec<Input>,
        o: &QueryOptions,
    ) -> Outcome<Vec<PlanStep>> {
        Ok(match self {
            Db::Local(db) => {
                let step = |s: annals::Step| PlanStep {
                    depth: s.depth,
                    clause: s.clause.to_string(),
                    how: s.how.to_owned(),
                    expected: s.estimated,
                };
                db.explain_with(q, inputs, o)?.steps.into_iter().map(step).collect()
            }
            Db::Remote(r) => r.db.plan(text, inputs)?,
        })
    }
    /// How a run went, told by the server for people.
    pub fn explained(&self, text: &str, inputs: Vec<Input>) -> Option<Outcome<Value>> {
        match self {
            Db::Local(_) => None,
            Db::Remote(r) => Some(r.db.explain(text, inputs).map_err(Failure::from)),
        }
    }
    /// Why a row is in the answer.
    pub fn prove(
        &self,
        q: &Query,
        text: &str,
        inputs: Vec<Input>,
        row: &[Value],
        o: &QueryOptions,
    ) -> Outcome<Option<Proof>> {
        Ok(match self {
            Db::Local(db) => db.prove_with(q, inputs, row, o)?,
            Db::Remote(r) => r.db.prove(text, inputs, row, o)?,
        })
    }
    /// Why a row is not in the answer.
    pub fn why_not(
        &self,
        q: &Query,
        text: &str,
        inputs: Vec<Input>,
        row: &[Value],
        o: &QueryOptions,
    ) -> Outcome<Option<Missing>> {
        Ok(match self {
            Db::Local(db) => db.why_not_with(q, inputs, row, o)?,
            Db::Remote(r) => r.db.why_not(text, inputs, row, o)?,
        })
    }
    /// Rows gained and lost.
    pub fn diff_with(
        &self,
        q: &Query,
        text: &str,
        inputs: Vec<Input>,
        (from, to): (T, T),
        o: &QueryOptions,
    ) -> Outcome<Vec<DiffRow>> {
        Ok(match self {
            Db::Local(db) => db.diff_with(q, inputs, from, to, o)?,
            Db::Remote(r) => r.db.diff(text, inputs, from, to)?,
        })
    }
    /// A tree of facts.
    pub fn pull(&self, pattern: &str, e: EntityId) -> Outcome<Value> {
        Ok(match self {
            Db::Local(db) => db.pull(pattern, e)?,
            Db::Remote(r) => r.db.pull(pattern, e)?,
        })
    }
    /// What a transaction would do.
    pub fn with(&self, tx: &str) -> Outcome<super::Report> {
        Ok(match self {
            Db::Local(db) => super::Report::local(&db.with(tx)?),
            Db::Remote(r) => super::Report::speculated(self, &r.db.with(tx)?),
        })
    }
}

impl From<annals::Db> for Db {
    fn from(db: annals::Db) -> Db {
        Db::Local(db)
    }
}
