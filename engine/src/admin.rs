//! Looking after a database: verification, backups, space, and excision.

use crate::{
    Connection, DbError, Eid, Error, IntoTx, Options, TransactError, TxReport, bootstrap as boot,
    store::{Excise, Prefix, Row, Store},
    transact::{Author, Txn},
};
use annals_model::{AttrId, Attribute, Dict, EntityId, T, TupleKind, Value, View};
use std::{path::Path, sync::Arc};

pub use crate::store::{BackupReport, RebuildReport, StoreStats, VerifyReport};

/// What to take out of a database for ever.
#[derive(Clone, Debug, PartialEq)]
pub enum Excision {
    /// Everything an entity ever said, and every reference to it.
    Entity(Eid),
    /// Every fact of an attribute, or those asserted before a transaction.
    Attribute {
        /// Its name.
        attr: String,
        /// Facts of this and later transactions stay.
        before: Option<T>,
    },
    /// One value of an attribute, of one entity or of all.
    Value {
        /// The entity; all when none is given.
        entity: Option<Eid>,
        /// The attribute's name.
        attr: String,
        /// The value.
        value: Value,
    },
}

/// What an excision did.
#[derive(Clone, Debug)]
pub struct ExciseReport {
    /// The transaction that signs for it.
    pub report: TxReport,
    /// Datoms taken out of the log, retractions included.
    pub datoms: u64,
    /// Hash of the log's chain before, as the signing record holds it.
    pub chain_before: [u8; 32],
    what: Vec<Excise>,
}

impl ExciseReport {
    /// The proof to ask for with [`Connection::still_there`].
    pub fn proof(&self) -> ExcisionProof {
        ExcisionProof(self.what.clone())
    }
}

/// Names what was excised, by id and value, to prove its absence.
#[derive(Clone, Debug)]
pub struct ExcisionProof(Vec<Excise>);

impl Connection {
    /// Recomputes the log's chain and compares every index with a fold of the log.
    pub fn verify(&self) -> Result<VerifyReport, Error> {
        Ok(self.shared().store().verify()?)
    }

    /// Copies the log into a folder while the database goes on: all of it, or what
    /// is new since the last backup there.
    pub fn backup(&self, dir: impl AsRef<Path>) -> Result<BackupReport, Error> {
        Ok(self.shared().store().backup(dir.as_ref())?)
    }

    /// Rewrites the indexes without the space that changes have left in them.
    pub fn compact(&self) -> Result<(), Error> {
        Ok(self.shared().store().compact()?)
    }

    /// Moves what only the log holds into the indexes.
    pub fn checkpoint(&self) -> Result<(), Error> {
        Ok(self.shared().store().checkpoint()?)
    }

    /// Sizes and counts.
    pub fn stats(&self) -> Result<StoreStats, Error> {
        Ok(self.shared().store().stats()?)
    }

    /// Takes facts out of log, indexes, caches and later backups, for ever. A
    /// transaction signs for it; `reason` are its facts:
    /// `[{:db/id "datomic.tx" :tx/why "request 17"}]`. Values that other
    /// attributes or other copies of the data hold stay: name them too.
    pub fn excise(&self, what: &[Excision], reason: impl IntoTx) -> Result<ExciseReport, Error> {
        let reason = reason.into_tx()?;
        let mut plan = Vec::new();
        for w in what {
            self.plan(w, &mut plan)?;
        }
        self.excise_planned(plan, Vec::new(), reason)
    }

    /// Takes out what has been named by ids and keys; `rows` are put back in the same step.
    pub(crate) fn excise_planned(
        &self,
        plan: Vec<Excise>,
        rows: Vec<Row>,
        reason: annals_model::tx::TxData,
    ) -> Result<ExciseReport, Error> {
        let wanted = plan.clone();
        let (report, done) = self.exclusive(
            |txn: &mut Txn| {
                // What projections remember of their facts may be about to go.
                self.shared().events().forget_facts();
                for row in rows {
                    txn.row(row);
                }
                txn.facts(&reason, Author::User)
            },
            move |store, record| store.excise(&wanted, record),
        )?;
        // Values live on in these until they are let go.
        Dict::retire();
        self.shared().prepared().clear();
        Ok(ExciseReport { report, datoms: done.datoms, chain_before: done.chain_before, what: plan })
    }

    /// How much of what was excised can still be found in log and indexes: zero is
    /// the proof of absence.
    pub fn still_there(&self, proof: &ExcisionProof) -> Result<u64, Error> {
        Ok(self.shared().store().still_there(&proof.0)?)
    }

    fn plan(&self, what: &Excision, plan: &mut Vec<Excise>) -> Result<(), Error> {
        let db = self.db();
        let fact = |e, a, v, before| Excise::Facts { e, a, v, before };
        let entity = |eid: &Eid| -> Result<EntityId, Error> {
            let found = match db.resolve(eid.clone())? {
                Some(e) => Some(e),
                None => db.history().resolve(eid.clone())?,
            };
            let e = found.ok_or_else(|| DbError::UnknownEntity(eid.to_value()))?;
            let schema = db.schema();
            if boot::is_builtin(e) || schema.attribute_of(e).is_some() || e.as_t().is_some() {
                return Err(TransactError::Reserved {
                    entity: e,
                    name: db.ident(e).cloned(),
                    at: Default::default(),
                }
                .into());
            }
            Ok(e)
        };
        let attribute = |name: &str| -> Result<Arc<Attribute>, Error> {
            let a = db.attribute(name)?.clone();
            if boot::is_builtin(a.id.entity()) {
                return Err(TransactError::Reserved {
                    entity: a.id.entity(),
                    name: Some(a.ident.clone()),
                    at: Default::default(),
                }
                .into());
            }
            Ok(a)
        };
        match what {
            Excision::Entity(eid) => {
                let e = entity(eid)?;
                plan.push(fact(Some(e), None, None, None));
                for a in db.schema().attributes().filter(|a| a.is_ref() && !boot::is_virtual(a.id)) {
                    plan.push(fact(None, Some(a.id), Some(Value::Ref(e)), None));
                }
            }
            Excision::Attribute { attr, before } => {
                let a = attribute(attr)?;
                plan.push(fact(None, Some(a.id), None, *before));
                for c in db.info().composites.get(&a.id).into_iter().flatten() {
                    plan.push(fact(None, Some(c.id), None, *before));
                }
            }
            Excision::Value { entity: of, attr, value } => {
                let a = attribute(attr)?;
                let e = of.as_ref().map(entity).transpose()?;
                let v = db.coerced(&a, value)?.ok_or_else(|| DbError::UnknownEntity(value.clone()))?;
                plan.push(fact(e, Some(a.id), Some(v.clone()), None));
                for c in db.info().composites.get(&a.id).into_iter().flatten() {
                    self.tuples_with(c, a.id, e, &v, plan)?;
                }
            }
        }
        Ok(())
    }

    /// Composite tuples, past ones too, that hold the value as a part.
    fn tuples_with(
        &self,
        composite: &Attribute,
        part: AttrId,
        e: Option<EntityId>,
        v: &Value,
        plan: &mut Vec<Excise>,
    ) -> Result<(), Error> {
        let Some(TupleKind::Composite(parts)) = &composite.tuple else { return Ok(()) };
        let Some(slot) = parts.iter().position(|p| *p == part) else { return Ok(()) };
        let all = View { history: true, ..View::NOW };
        let prefix = match e {
            Some(e) => Prefix::Ea(e, composite.id),
            None => Prefix::A(composite.id),
        };
        for d in self.db().snapshot().datoms(all, &prefix)? {
            let holds = matches!(&d.v, Value::Vector(slots) if slots.get(slot) == Some(v));
            if holds {
                let (e, a) = (Some(d.e), Some(d.a));
                plan.push(Excise::Facts { e, a, v: Some(d.v), before: None });
            }
        }
        Ok(())
    }
}

/// Makes the indexes of a closed database anew from its log alone.
pub fn rebuild(path: impl AsRef<Path>) -> Result<RebuildReport, Error> {
    Ok(Store::rebuild(path.as_ref(), &Options::new().storage)?)
}

/// Makes a database in the empty or absent folder `to` from a backup, as it was
/// right after transaction `upto` (the newest when none is given).
pub fn restore(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    upto: Option<T>,
) -> Result<RebuildReport, Error> {
    Ok(Store::restore(from.as_ref(), to.as_ref(), upto, &Options::new().storage)?)
}
