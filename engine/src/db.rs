//! A database value: a basis and a view of time over a store. Immutable, cheap
//! to clone and keep, safe to share.
//!
//! 1. A `Db` holds a basis, never a reader of the store: keeping one for a year
//!    costs nothing.
//! 2. The same question to the same `Db` gets the same answer, except for
//!    attributes of late or rebuilt projections, which file facts under the past.
//! 3. Its schema is the schema as of its view.

use crate::{
    DbError, Eid, IntoTimePoint, IntoTx, TimePoint, TransactError, TxReport, bootstrap as boot,
    filter::Filter,
    schema_cache::{SchemaInfo, pad},
    shared::Shared,
    snapshot::{Overlay, Snapshot},
    store::{Prefix, Record},
    transact::{self, Counters},
};
use annals_model::{
    AttrId, Attribute, Datom, EntityId, Keyword, Partition, Schema, T, Value, ValueType, View,
};
use std::{
    fmt,
    ops::{Bound, ControlFlow},
    sync::{Arc, OnceLock},
};

/// A database as of one moment: a value.
///
/// ```
/// let conn = annals::in_memory()?;
/// let before = conn.db();
/// conn.transact("[{:db/ident :color/red}]")?;
/// assert_eq!(before.entid(":color/red"), None);
/// assert!(conn.db().entid(":color/red").is_some());
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct Db(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    snap: Snapshot,
    view: View,
    /// The schema as of the view.
    info: SchemaInfo,
    /// The schema of the basis.
    newest: SchemaInfo,
    /// What queries resolve names with.
    named: OnceLock<Arc<Schema>>,
    /// Of speculative databases.
    counters: Option<Counters>,
    /// What of it is shown at all.
    filter: Option<Filter>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("basis_t", &self.basis_t())
            .field("view", &self.0.view)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// The database as it stood at `basis`, whose schema is `info`.
    pub(crate) fn new(shared: Arc<Shared>, basis: T, info: SchemaInfo) -> Db {
        let snap = Snapshot { store: shared.store().clone(), basis, overlay: None };
        Db(Arc::new(Inner {
            shared,
            snap,
            view: View::NOW,
            named: OnceLock::from(info.schema.clone()),
            info: info.clone(),
            newest: info,
            counters: None,
            filter: None,
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.0.snap
    }
    pub(crate) fn info(&self) -> &SchemaInfo {
        &self.0.info
    }
    pub(crate) fn counters(&self) -> Counters {
        self.0.counters.unwrap_or_else(|| self.0.shared.counters())
    }
    /// The schema that names in queries are resolved with: this view's, and what
    /// was installed later, so that naming it finds nothing.
    pub(crate) fn named_schema(&self) -> &Arc<Schema> {
        let projected = |a| self.0.shared.hook().is_some_and(|hook| hook.owner(a).is_some());
        self.0.named.get_or_init(|| pad(&self.0.info.schema, &self.0.newest.schema, projected))
    }

    /// This database without its view of time and its filter.
    pub(crate) fn present(&self) -> Db {
        if self.0.view == View::NOW && self.0.filter.is_none() {
            return self.clone();
        }
        let newest = self.0.newest.clone();
        Db(Arc::new(Inner {
            shared: self.0.shared.clone(),
            snap: self.0.snap.clone(),
            view: View::NOW,
            named: OnceLock::from(newest.schema.clone()),
            info: newest.clone(),
            newest,
            counters: self.0.counters,
            filter: None,
        }))
    }

    /// This database with this filter, or with none.
    pub(crate) fn with_filter(&self, filter: Option<Filter>) -> Db {
        Db(Arc::new(Inner {
            shared: self.0.shared.clone(),
            snap: self.0.snap.clone(),
            view: self.0.view,
            named: self.0.named.clone(),
            info: self.0.info.clone(),
            newest: self.0.newest.clone(),
            counters: self.0.counters,
            filter,
        }))
    }
    pub(crate) fn the_filter(&self) -> Option<&Filter> {
        self.0.filter.as_ref()
    }

    /// This database with one more transaction on top, unwritten.
    pub(crate) fn overlaid(&self, record: Arc<Record>, schema: Option<SchemaInfo>, counters: Counters) -> Db {
        let overlay = Overlay::with(self.0.snap.overlay.as_ref(), record);
        let snap = Snapshot { overlay: Some(Arc::new(overlay)), ..self.0.snap.clone() };
        let info = schema.unwrap_or_else(|| self.0.newest.clone());
        Db(Arc::new(Inner {
            shared: self.0.shared.clone(),
            snap,
            view: View::NOW,
            named: OnceLock::from(info.schema.clone()),
            info: info.clone(),
            newest: info,
            counters: Some(counters),
            filter: self.0.filter.clone(),
        }))
    }

    pub(crate) fn viewed(&self, view: View) -> Db {
        let snap = self.0.snap.clone();
        let upto = view.upto(snap.t());
        let info = match upto >= snap.basis {
            true => self.0.newest.clone(),
            false => self.0.shared.schemas().at(upto),
        };
        Db(Arc::new(Inner {
            shared: self.0.shared.clone(),
            snap,
            view,
            info,
            newest: self.0.newest.clone(),
            named: OnceLock::new(),
            counters: self.0.counters,
            filter: self.0.filter.clone(),
        }))
    }

    /// The newest transaction this value knows, whatever its view shows.
    pub fn basis_t(&self) -> T {
        self.0.snap.t()
    }
    /// The newest transaction its view shows.
    pub fn t(&self) -> T {
        self.0.view.upto(self.0.snap.t())
    }
    /// The view of time.
    pub fn view(&self) -> View {
        self.0.view
    }
    /// The schema as of the view.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.0.info.schema
    }

    /// The transaction a point in time means. A future one is pinned to the basis.
    pub fn t_of(&self, point: impl IntoTimePoint) -> Result<T, DbError> {
        Ok(match point.into_time_point()? {
            TimePoint::T(t) => t.min(self.basis_t()),
            TimePoint::Instant(i) => self.0.snap.t_at(i)?,
        })
    }

    /// The database as it was right after a transaction (a [`T`]: a database), or
    /// at an instant, a transaction's entity id, or a text (a result).
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// let r = conn.transact("[{:db/ident :color/red}]")?;
    /// assert_eq!(conn.db().as_of(annals::T(0)).entid(":color/red"), None);
    /// assert!(conn.db().as_of(r.tx_instant())?.entid(":color/red").is_some());
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn as_of<P: IntoTimePoint>(&self, point: P) -> P::Db {
        P::settle(self.t_of(point).map(|t| self.as_of_t(t)))
    }

    fn as_of_t(&self, t: T) -> Db {
        let t = self.0.view.as_of.map_or(t, |earlier| earlier.min(t));
        self.viewed(View { as_of: Some(t), ..self.0.view })
    }

    /// Only what was asserted after a point in time.
    pub fn since<P: IntoTimePoint>(&self, point: P) -> P::Db {
        P::settle(self.t_of(point).map(|t| self.since_t(t)))
    }

    fn since_t(&self, t: T) -> Db {
        let t = self.0.view.since.map_or(t, |later| later.max(t));
        self.viewed(View { since: Some(t), ..self.0.view })
    }

    /// The same database, whose reads of the past leave nothing in the column cache. For walking
    /// over many times, each of which is asked for once, as a live query does that has fallen
    /// behind: it would push out of the cache what others come back to. Answers are the same.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// conn.transact("[{:db/ident :color/red}]")?;
    /// let q = "[:find [?i ...] :where [_ :db/ident ?i]]";
    /// let before = conn.db_at(annals::T(0))?;
    /// assert_eq!(before.uncached().query(q, ())?.rows.len(), before.query(q, ())?.rows.len());
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn uncached(&self) -> Db {
        let snap = Snapshot { store: self.0.snap.store.uncached(), ..self.0.snap.clone() };
        Db(Arc::new(Inner {
            shared: self.0.shared.clone(),
            snap,
            view: self.0.view,
            info: self.0.info.clone(),
            newest: self.0.newest.clone(),
            named: self.0.named.clone(),
            counters: self.0.counters,
            filter: self.0.filter.clone(),
        }))
    }

    /// Every assertion and retraction instead of what holds.
    pub fn history(&self) -> Db {
        let mut view = self.0.view;
        view.history = true;
        Db(Arc::new(Inner {
            shared: self.0.shared.clone(),
            snap: self.0.snap.clone(),
            view,
            info: self.0.info.clone(),
            newest: self.0.newest.clone(),
            named: self.0.named.clone(),
            counters: self.0.counters,
            filter: self.0.filter.clone(),
        }))
    }

    /// The database this would be after a transaction that nobody makes. The
    /// report's `db_after` can be speculated on in turn. A view of time is applied
    /// after the speculation: as-of is not a branch.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// let what_if = conn.db().with("[{:db/ident :color/red}]")?;
    /// assert!(what_if.db_after().entid(":color/red").is_some());
    /// assert_eq!(conn.db().entid(":color/red"), None);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn with(&self, tx: impl IntoTx) -> Result<TxReport, TransactError> {
        let data = tx.into_tx()?;
        let (after, done) = transact::speculate(self, &data)?;
        Ok(TxReport::new(done.record, self.clone(), after, done.tempids))
    }

    /// The attribute with this name, or an error with a suggestion.
    pub fn attribute(&self, name: impl AsRef<str>) -> Result<&Arc<Attribute>, DbError> {
        let name = name.as_ref();
        let k = Keyword::new(name.strip_prefix(':').unwrap_or(name));
        let schema = self.named_schema();
        let found = schema.attribute_named(&k);
        found.ok_or_else(|| DbError::UnknownAttribute { nearest: schema.nearest(&k), attr: k })
    }

    /// The present ident of an entity.
    pub fn ident(&self, e: EntityId) -> Option<&Keyword> {
        self.0.info.schema.ident(e)
    }

    /// The entity with this ident: `entid("color/red")`.
    pub fn entid(&self, ident: impl AsRef<str>) -> Option<EntityId> {
        let ident = ident.as_ref();
        self.0.info.schema.entid(&Keyword::new(ident.strip_prefix(':').unwrap_or(ident)))
    }

    /// The entity an identifier means in this view; none when a lookup ref or
    /// ident finds nothing.
    pub fn resolve(&self, eid: impl Into<Eid>) -> Result<Option<EntityId>, DbError> {
        match eid.into() {
            Eid::Id(e) => Ok(Some(e)),
            Eid::Ident(k) => Ok(self.named_schema().entid(&k)),
            Eid::Lookup(a, v) => self.lookup(&a, &v),
        }
    }

    fn lookup(&self, attr: &Keyword, v: &Value) -> Result<Option<EntityId>, DbError> {
        let a = self.attribute(attr.as_str())?.clone();
        if a.unique.is_none() {
            return Err(DbError::LookupNotUnique { attr: attr.clone() });
        }
        let Some(v) = self.coerced(&a, v)? else { return Ok(None) };
        let mut found = None;
        self.visit(&Prefix::Av(a.id, v), &mut |d| {
            found = Some(d.e);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// A value as the attribute would hold it; none when it names no entity.
    pub(crate) fn coerced(&self, a: &Attribute, v: &Value) -> Result<Option<Value>, DbError> {
        let wrong =
            || DbError::WrongType { attr: a.ident.clone(), expected: a.value_type.name(), value: v.clone() };
        Ok(match (a.value_type, v) {
            (ValueType::Ref, v) => {
                let eid = Eid::from_value(v).ok_or_else(wrong)?;
                self.resolve(eid)?.map(Value::Ref)
            }
            (ValueType::Tuple, Value::Vector(_)) => Some(v.clone()),
            (ValueType::Tuple, Value::List(items)) => Some(Value::Vector(items.clone())),
            (t, v) if v.value_type() == Some(t) => Some(v.clone()),
            (t, v) => Some(crate::transact::lossless(t, v).ok_or_else(wrong)?),
        })
    }

    /// Every visible datom with the prefix, computed attributes included.
    pub(crate) fn visit(&self, p: &Prefix, visit: crate::snapshot::Visit) -> Result<(), DbError> {
        if let Some(filter) = &self.0.filter {
            let whole = self.with_filter(None);
            return whole.visit(p, &mut filter.around(&whole, visit));
        }
        if let Some(hook) = self.0.shared.hook() {
            let computed = match p {
                Prefix::A(a) | Prefix::Av(a, _) | Prefix::Ea(_, a) | Prefix::Eav(_, a, _) => {
                    boot::is_virtual(*a)
                }
                Prefix::E(_) | Prefix::All => false,
            };
            if computed {
                return Ok(hook.scan(self, p, visit)?);
            }
            if let Prefix::E(e) = p
                && e.partition() == Some(Partition::Event)
            {
                let mut stopped = false;
                hook.scan(self, p, &mut |d| {
                    let flow = visit(d);
                    stopped = flow.is_break();
                    flow
                })?;
                if stopped {
                    return Ok(());
                }
            }
        }
        Ok(self.0.snap.scan(self.0.view, p, visit)?)
    }

    /// Every visible stored datom of an entity and of those after it; or, backwards, of it and those before.
    pub(crate) fn seek(&self, e: EntityId, back: bool, visit: crate::snapshot::Visit) -> Result<(), DbError> {
        let (view, snap) = (self.0.view, &self.0.snap);
        match &self.0.filter {
            None => snap.seek(view, e, back, visit)?,
            Some(filter) => {
                let whole = self.with_filter(None);
                snap.seek(view, e, back, &mut filter.around(&whole, visit))?;
            }
        }
        Ok(())
    }

    /// Every visible datom of a stored attribute with a value in the range, in order of value.
    pub(crate) fn range(
        &self,
        a: AttrId,
        from: Bound<&Value>,
        to: Bound<&Value>,
        reverse: bool,
        visit: crate::snapshot::Visit,
    ) -> Result<(), DbError> {
        let (view, snap) = (self.0.view, &self.0.snap);
        match &self.0.filter {
            None => snap.range(view, a, from, to, reverse, visit)?,
            Some(filter) => {
                let whole = self.with_filter(None);
                snap.range(view, a, from, to, reverse, &mut filter.around(&whole, visit))?;
            }
        }
        Ok(())
    }

    /// The visible datoms with the prefix.
    pub(crate) fn collect(&self, p: &Prefix) -> Result<Vec<Datom>, DbError> {
        let mut found = Vec::new();
        self.visit(p, &mut |d| {
            found.push(d);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}
