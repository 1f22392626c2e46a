//! Transactions: forms in, one log record out, or nothing.
//!
//! ```text
//! forms --expand--> ops --upsert--> changes --diff--> datoms --checks--> record
//! ```
//!
//! 1. Everything is judged against one [`Db`] value, the database before, or for
//!    end-of-transaction checks against that value with the datoms on top.
//! 2. Nothing here writes: a [`Txn`] ends as a [`Record`] that the writer stages,
//!    or that a speculative database keeps.
//! 3. The order of forms never matters.

pub mod error;
pub mod function;

mod alter;
mod composite;
mod diff;
mod ensure;
mod expand;
pub(crate) mod locate;
mod op;
mod read;
mod unique;
mod upsert;
mod value;

pub use read::read_all;
pub(crate) use read::read_one;

use crate::{
    Db, bootstrap as boot,
    schema_cache::SchemaInfo,
    snapshot::Snapshot,
    store::{Record, Row},
};
use annals_model::{AttrId, Datom, EntityId, Instant, Keyword, T, Value, View, tx::TxData};
use error::{Place, TransactError};
use function::Registry;
use hashbrown::HashMap;
use op::{Change, Res};
use std::sync::Arc;

/// Most datoms of one transaction.
pub(crate) const MAX_DATOMS: usize = 16 << 20;

/// The next ids to give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub user: u64,
    pub attr: u64,
}

impl Counters {
    /// As a store left them.
    pub fn of(store: &crate::store::Store) -> Counters {
        use annals_model::Partition;
        Counters {
            user: (store.max_counter(Partition::User) + 1).max(boot::FIRST_USER_ENTITY),
            attr: (store.max_counter(Partition::Db) + 1).max(u64::from(boot::FIRST_USER_ATTR)),
        }
    }
}

/// The database a transaction is judged against.
pub(crate) struct Before<'a> {
    pub db: &'a Db,
    pub snap: &'a Snapshot,
    pub info: &'a SchemaInfo,
    pub registry: &'a Registry,
    pub t: T,
    pub counters: Counters,
    data: &'a TxData,
    author: Author<'a>,
}

/// Who asserts: attributes of a projection are written by that projection alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author<'a> {
    /// A user's transaction.
    User,
    /// The projection of this name.
    Projection(&'a str),
}

impl Before<'_> {
    /// A datom of this transaction.
    pub fn datom(&self, e: EntityId, a: AttrId, v: Value, added: bool) -> Datom {
        Datom { e, a, v, t: self.t, added }
    }

    /// The projection that owns an attribute, when it is not the author.
    pub fn foreign_owner(&self, a: AttrId) -> Option<Arc<str>> {
        let owner = self.db.shared().hook()?.owner(a)?;
        match self.author {
            Author::Projection(name) if *name == *owner => None,
            Author::Projection(_) | Author::User => Some(owner),
        }
    }

    /// Does this very transaction install an attribute or ident of this name?
    pub fn installs(&self, k: &Keyword) -> bool {
        let ident = Keyword::new("db/ident");
        let (ident, k) = (Value::Keyword(ident), Value::Keyword(k.clone()));
        self.data.forms.iter().any(|f| match f {
            Value::Map(_) => f.get(&ident) == Some(&k),
            Value::Vector(items) | Value::List(items) => {
                items.get(2) == Some(&ident) && items.get(3) == Some(&k)
            }
            _ => false,
        })
    }
}

/// A transaction in the making: one or more batches of facts, and rows of side
/// tables, that become one record.
///
/// Later batches see the facts of earlier ones ([`Txn::db`]); what one batch
/// asserts and a later one takes back leaves no trace, since between them the
/// database had no state.
pub(crate) struct Txn {
    before: Db,
    t: T,
    now: Instant,
    counters: Counters,
    explicit: Option<(Instant, Place)>,
    datoms: Vec<Datom>,
    rows: Vec<Row>,
    tempids: Vec<(Arc<str>, EntityId)>,
    schema_after: Option<SchemaInfo>,
    current: Option<Db>,
    last_instant: Instant,
}

/// What a [`Txn`] came to.
pub(crate) struct Finished {
    pub record: Arc<Record>,
    pub tempids: Vec<(Arc<str>, EntityId)>,
    pub counters: Counters,
    /// The schema after, when the transaction changed it.
    pub schema: Option<SchemaInfo>,
}

impl Txn {
    /// Starts a transaction on the present of `before`.
    pub fn new(before: Db, counters: Counters, last_instant: Instant) -> Txn {
        let t = before.snapshot().t().next();
        let now = before.shared().now();
        Txn {
            before,
            t,
            now,
            counters,
            explicit: None,
            datoms: Vec::new(),
            rows: Vec::new(),
            tempids: Vec::new(),
            schema_after: None,
            current: None,
            last_instant,
        }
    }

    /// Has any fact been said, as against rows of side tables?
    pub fn has_facts(&self) -> bool {
        !self.datoms.is_empty()
    }

    /// The counter of the next user entity.
    pub fn next_user(&self) -> u64 {
        self.counters.user
    }

    /// Notes that user entities below this counter have been given out.
    pub fn set_next_user(&mut self, next: u64) {
        self.counters.user = self.counters.user.max(next);
    }

    /// The number the transaction will have.
    pub fn t(&self) -> T {
        self.t
    }

    /// The clock when the transaction began.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The instant of the transaction before.
    pub fn last_instant(&self) -> Instant {
        self.last_instant
    }

    /// The database before the transaction.
    pub fn db_before(&self) -> &Db {
        &self.before
    }

    /// The database with the facts given so far.
    pub fn db(&mut self) -> &Db {
        if self.current.is_none() {
            let info = self.schema_after.clone();
            self.current = Some(if self.datoms.is_empty() && self.rows.is_empty() {
                self.before.clone()
            } else {
                let record = self.draft();
                self.before.overlaid(Arc::new(record), info, self.counters)
            });
        }
        self.current.as_ref().expect("just set")
    }

    fn draft(&self) -> Record {
        Record {
            t: self.t,
            instant: self.explicit.as_ref().map_or(self.now, |(i, _)| *i),
            datoms: self.datoms.clone(),
            rows: self.rows.clone(),
        }
    }

    /// Adds one change of a side table.
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Gives the transaction its instant, as `:db/txInstant` would.
    pub fn set_instant(&mut self, instant: Instant) {
        self.explicit = Some((instant, Place::default()));
    }

    /// Adds a datom as it is: diffed already, possibly filed under an older t.
    pub fn raw(&mut self, d: Datom) {
        self.current = None;
        self.datoms.push(d);
    }

    /// Adds datoms as they are, as [`Txn::raw`].
    pub fn raw_all(&mut self, datoms: Vec<Datom>) {
        self.current = None;
        match self.datoms.is_empty() {
            true => self.datoms = datoms,
            false => self.datoms.extend(datoms),
        }
    }

    /// Adds facts. Fails as a whole: nothing of `data` stays.
    pub fn facts(&mut self, data: &TxData, author: Author<'_>) -> Result<(), TransactError> {
        self.try_facts(data, author).map_err(|e| e.with_text(data.text.as_ref()))
    }

    fn try_facts(&mut self, data: &TxData, author: Author<'_>) -> Res<()> {
        if data.forms.is_empty() {
            return Ok(());
        }
        let first = self.datoms.is_empty();
        let before_db = if first { self.before.clone() } else { self.db().clone() };
        let before = Before {
            db: &before_db,
            snap: before_db.snapshot(),
            info: self.before.info(),
            registry: before_db.shared().registry(),
            t: self.t,
            counters: self.counters,
            data,
            author,
        };
        let mut counters = self.counters;
        let mut expanded = expand::Expander::new(&before).expand(data)?;
        let ids = upsert::resolve(&before, &expanded, &mut counters)?;

        let explicit = instant(&before, &mut expanded.ops)?;
        let mut changes: Vec<Change> = Vec::with_capacity(expanded.ops.len());
        for op in expanded.ops {
            let (e, fresh) = ids.ent(op.e);
            changes.push(Change { e, v: ids.value(op.v), a: op.a, added: op.added, form: op.form, fresh });
        }
        diff::settle(&mut changes)?;
        let mut datoms = Vec::with_capacity(changes.len() + 1);
        diff::diff(&before, &changes, &mut datoms)?;
        composite::maintain(&before, &changes, &mut datoms)?;
        if self.datoms.len() + datoms.len() > MAX_DATOMS {
            let datoms = self.datoms.len() + datoms.len();
            return Err(TransactError::TooLarge { datoms, limit: MAX_DATOMS });
        }
        unique::check(&before, &changes, &datoms)?;
        ensure::attribute_predicates(&before, &changes, &datoms)?;

        let schema_changes = SchemaInfo::concerns(&datoms);
        let mut schema_after = None;
        if schema_changes || !expanded.ensures.is_empty() {
            let record = Record { t: self.t, instant: self.now, datoms: datoms.clone(), rows: Vec::new() };
            let after = before_db.overlaid(Arc::new(record), None, counters);
            if schema_changes {
                schema_after = Some(alter::check(&before, &changes, &datoms, after.snapshot())?);
            }
            ensure::entity_specs(&before, &after, &expanded.ensures, &ids)?;
        }

        for (i, info) in expanded.temps.iter().enumerate() {
            if let Some(name) = &info.name {
                self.tempids.push((name.clone(), ids.temp(op::Temp(i as u32)).0));
            }
        }
        self.counters = counters;
        self.explicit = explicit.or(self.explicit.take());
        self.schema_after = schema_after.or(self.schema_after.take());
        self.current = None;
        if first {
            self.datoms = datoms;
        } else {
            self.absorb(datoms);
        }
        Ok(())
    }

    /// Adds the datoms of a later batch to the net effect of the earlier ones.
    fn absorb(&mut self, datoms: Vec<Datom>) {
        let mut at: HashMap<(EntityId, AttrId, Value), usize> =
            self.datoms.iter().enumerate().map(|(i, d)| ((d.e, d.a, d.v.clone()), i)).collect();
        let mut gone = Vec::new();
        for d in datoms {
            let key = (d.e, d.a, d.v.clone());
            match at.remove(&key) {
                // Asserted and taken back, or the other way round: no change at all.
                Some(i) => gone.push(i),
                None => {
                    at.insert(key, self.datoms.len());
                    self.datoms.push(d);
                }
            }
        }
        gone.sort_unstable();
        for i in gone.into_iter().rev() {
            self.datoms.remove(i);
        }
    }

    /// Ends the transaction: its instant is decided and becomes its first datom.
    pub fn finish(mut self) -> Result<Finished, TransactError> {
        let instant = match self.explicit.take() {
            None => self.now.max(Instant(self.last_instant.0 + 1)),
            Some((given, at)) if given < self.last_instant => {
                return Err(TransactError::InstantBackwards { given, last: self.last_instant, at });
            }
            Some((given, at)) if given > self.now => {
                return Err(TransactError::InstantFuture { given, now: self.now, at });
            }
            Some((given, _)) => given,
        };
        let stamp = Datom {
            e: self.t.entity(),
            a: boot::TX_INSTANT,
            v: Value::Instant(instant),
            t: self.t,
            added: true,
        };
        self.datoms.insert(0, stamp);
        Ok(Finished {
            record: Arc::new(Record { t: self.t, instant, datoms: self.datoms, rows: self.rows }),
            tempids: self.tempids,
            counters: self.counters,
            schema: self.schema_after,
        })
    }
}

/// Takes an explicit `:db/txInstant` out of the ops.
fn instant(before: &Before<'_>, ops: &mut Vec<op::Op>) -> Res<Option<(Instant, Place)>> {
    if !ops.iter().any(|op| op.a.id == boot::TX_INSTANT) {
        return Ok(None);
    }
    let mut found: Option<(Instant, Place)> = None;
    for op in ops.iter().filter(|op| op.a.id == boot::TX_INSTANT) {
        let at = op.place();
        let entity = match op.e {
            op::Ent::Id(e) => e,
            op::Ent::Temp(_) => {
                return Err(TransactError::InstantElsewhere { entity: before.t.entity(), at });
            }
        };
        let (true, true, op::Val::Known(Value::Instant(i))) = (op.added, entity == before.t.entity(), &op.v)
        else {
            return Err(TransactError::InstantElsewhere { entity, at });
        };
        match &found {
            Some((other, place)) if other != i => {
                return Err(TransactError::DatomsConflict {
                    entity,
                    attr: op.a.ident.clone(),
                    first: Value::Instant(*other),
                    second: Value::Instant(*i),
                    at,
                    other: place.clone(),
                });
            }
            Some(_) => {}
            None => found = Some((*i, at)),
        }
    }
    ops.retain(|op| op.a.id != boot::TX_INSTANT);
    Ok(found)
}

/// Runs one user transaction on `db` without writing it.
pub(crate) fn speculate(db: &Db, data: &TxData) -> Result<(Db, Finished), TransactError> {
    let (after, finished, ()) = speculate_with(db, |txn| txn.facts(data, Author::User))?;
    Ok((after, finished))
}

/// Runs one transaction on `db` without writing it.
pub(crate) fn speculate_with<R, E: From<TransactError>>(
    db: &Db,
    f: impl FnOnce(&mut Txn) -> Result<R, E>,
) -> Result<(Db, Finished, R), E> {
    if db.view().history {
        return Err(TransactError::NotPresent { basis: db.basis_t() }.into());
    }
    let present = db.present();
    let last = present.snapshot().instant_of(present.snapshot().t()).map_err(TransactError::from)?;
    let counters = present.counters();
    let mut txn = Txn::new(present.clone(), counters, last.unwrap_or_default());
    let made = f(&mut txn)?;
    let finished = txn.finish()?;
    let after = present.overlaid(finished.record.clone(), finished.schema.clone(), finished.counters);
    let view = db.view();
    let after = if view == View::NOW { after } else { after.viewed(view) };
    let after = match db.the_filter() {
        Some(filter) => after.with_filter(Some(filter.clone())),
        None => after,
    };
    Ok((after, finished, made))
}

/// A value as another type, when nothing is lost.
pub(crate) fn lossless(t: annals_model::ValueType, v: &Value) -> Option<Value> {
    value::lossless(t, v)
}
