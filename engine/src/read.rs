//! Reading a [`Db`] without a query: datoms by index, entities, one entity's life.

use crate::{Db, DbError, Eid, bootstrap as boot, snapshot::Visit, store::Prefix};
use annals_model::{AttrId, Attribute, Datom, EntityId, Instant, Keyword, T, Value, View};
use std::{
    collections::BTreeMap,
    fmt,
    ops::{Bound, ControlFlow},
    str::FromStr,
    sync::Arc,
};

/// The orders in which datoms can be read, by their components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Index {
    /// By entity: everything about one entity together.
    Eavt,
    /// By attribute: one attribute of all entities together.
    Aevt,
    /// By attribute and value; holds indexed and unique attributes only.
    Avet,
    /// By referenced entity: who points to it.
    Vaet,
}

impl Index {
    /// Every index.
    pub const ALL: [Index; 4] = [Index::Eavt, Index::Aevt, Index::Avet, Index::Vaet];
    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Index::Eavt => "eavt",
            Index::Aevt => "aevt",
            Index::Avet => "avet",
            Index::Vaet => "vaet",
        }
    }
}

impl FromStr for Index {
    type Err = DbError;
    fn from_str(s: &str) -> Result<Index, DbError> {
        let bare = s.strip_prefix(':').unwrap_or(s);
        Index::ALL.into_iter().find(|i| i.name().eq_ignore_ascii_case(bare)).ok_or_else(|| {
            DbError::BadComponents {
                message: format!("no index is called {s}; there are eavt, aevt, avet and vaet"),
            }
        })
    }
}

/// Anything that names an index.
pub trait IntoIndex {
    /// The index.
    fn into_index(self) -> Result<Index, DbError>;
}
impl IntoIndex for Index {
    fn into_index(self) -> Result<Index, DbError> {
        Ok(self)
    }
}
impl IntoIndex for &str {
    fn into_index(self) -> Result<Index, DbError> {
        self.parse()
    }
}

/// Everything one entity says: its attributes with their values.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// The entity.
    pub id: EntityId,
    /// Values by attribute, in order; one for cardinality one.
    pub attributes: BTreeMap<Keyword, Vec<Value>>,
}

impl Entity {
    /// The value of an attribute, the least of several.
    pub fn get(&self, attr: &str) -> Option<&Value> {
        self.all(attr).first()
    }
    /// All values of an attribute.
    pub fn all(&self, attr: &str) -> &[Value] {
        let key = Keyword::new(attr.strip_prefix(':').unwrap_or(attr));
        self.attributes.get(&key).map_or(&[], Vec::as_slice)
    }
    /// Does it say nothing at all?
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }
}

/// One change in an entity's life.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The datom.
    pub datom: Datom,
    /// The attribute's name in the view.
    pub attr: Keyword,
    /// When the transaction was made.
    pub instant: Instant,
}

pub(crate) struct Components {
    pub e: Option<EntityId>,
    pub a: Option<Arc<Attribute>>,
    pub v: Option<Value>,
    pub t: Option<T>,
}

/// What the components given to an index come to.
pub(crate) enum Found {
    Components(Components),
    /// One of them names an entity that does not exist: nothing matches.
    Nothing,
}

impl Db {
    /// The visible datoms with exactly these leading components, in the order of
    /// the index. Entities may be ids, idents or lookup refs, attributes idents or ids.
    ///
    /// ```
    /// let conn = annals::in_memory()?;
    /// let db = conn.db();
    /// let datoms = db.datoms("aevt", &[annals::Value::keyword("db/txInstant")])?;
    /// assert_eq!(datoms.len(), 1); // genesis
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn datoms(&self, index: impl IntoIndex, components: &[Value]) -> Result<Vec<Datom>, DbError> {
        let mut found = Vec::new();
        self.visit_datoms(index, components, &mut |d| {
            found.push(d);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The same, one at a time, until `visit` breaks.
    pub fn visit_datoms(
        &self,
        index: impl IntoIndex,
        components: &[Value],
        visit: &mut dyn FnMut(Datom) -> ControlFlow<()>,
    ) -> Result<(), DbError> {
        let index = index.into_index()?;
        let Found::Components(c) = self.components(index, components)? else { return Ok(()) };
        let t = c.t;
        let mut visit = |d: Datom| match t {
            Some(t) if d.t != t => ControlFlow::Continue(()),
            _ => visit(d),
        };
        match (index, c.e, c.a, c.v) {
            (Index::Vaet, None, None, None) => self.by_reference(None, false, &mut visit),
            (Index::Vaet, None, None, Some(v)) => {
                for a in self.ref_attributes() {
                    if self.stopping(&Prefix::Av(a, v.clone()), &mut visit)? {
                        break;
                    }
                }
                Ok(())
            }
            (Index::Avet, None, None, None) => {
                for a in self.indexed_attributes() {
                    if self.by_value(a, Bound::Unbounded, &mut visit)? {
                        break;
                    }
                }
                Ok(())
            }
            (Index::Avet, None, Some(a), None) => {
                self.by_value(a.id, Bound::Unbounded, &mut visit).map(|_| ())
            }
            (Index::Aevt, None, None, None) => {
                let all: Vec<AttrId> = self.schema().attributes().map(|a| a.id).collect();
                for a in all {
                    if self.stopping(&Prefix::A(a), &mut visit)? {
                        break;
                    }
                }
                Ok(())
            }
            (_, None, None, _) => self.visit(&Prefix::All, &mut visit),
            (_, Some(e), None, _) => self.visit(&Prefix::E(e), &mut visit),
            (_, None, Some(a), None) => self.visit(&Prefix::A(a.id), &mut visit),
            (_, None, Some(a), Some(v)) => self.visit(&Prefix::Av(a.id, v), &mut visit),
            (_, Some(e), Some(a), None) => self.visit(&Prefix::Ea(e, a.id), &mut visit),
            (_, Some(e), Some(a), Some(v)) => self.visit(&Prefix::Eav(e, a.id, v), &mut visit),
        }
    }

    /// The visible datoms of an indexed attribute with values in a range, in order
    /// of value.
    pub fn index_range(
        &self,
        attr: &str,
        from: Bound<&Value>,
        to: Bound<&Value>,
        visit: &mut dyn FnMut(Datom) -> ControlFlow<()>,
    ) -> Result<(), DbError> {
        self.index_range_in(attr, from, to, false, visit)
    }

    /// The same, upwards or downwards.
    pub(crate) fn index_range_in(
        &self,
        attr: &str,
        from: Bound<&Value>,
        to: Bound<&Value>,
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), DbError> {
        let a = self.attribute(attr)?.clone();
        self.must_be_indexed(&a)?;
        if boot::is_virtual(a.id) {
            use std::ops::RangeBounds;
            let mut found = self.collect(&Prefix::A(a.id))?;
            found.retain(|d| (from, to).contains(&d.v));
            found.sort_by(|x, y| (&x.v, x.e, x.t).cmp(&(&y.v, y.e, y.t)));
            if reverse {
                found.reverse();
            }
            let _ = found.into_iter().try_for_each(visit);
            return Ok(());
        }
        self.range(a.id, from, to, reverse, visit)
    }

    fn must_be_indexed(&self, a: &Attribute) -> Result<(), DbError> {
        match a.index || a.unique.is_some() {
            true => Ok(()),
            false => Err(DbError::NotIndexed { attr: a.ident.clone() }),
        }
    }

    pub(crate) fn indexed_attributes(&self) -> Vec<AttrId> {
        let held = |a: &&Arc<Attribute>| (a.index || a.unique.is_some()) && !boot::is_virtual(a.id);
        self.schema().attributes().filter(held).map(|a| a.id).collect()
    }

    pub(crate) fn ref_attributes(&self) -> Vec<AttrId> {
        let held = |a: &&Arc<Attribute>| a.is_ref() && !boot::is_virtual(a.id);
        self.schema().attributes().filter(held).map(|a| a.id).collect()
    }

    /// Scans; says whether the visitor broke.
    pub(crate) fn stopping(&self, p: &Prefix, visit: Visit<'_>) -> Result<bool, DbError> {
        let mut stopped = false;
        self.visit(p, &mut |d| {
            let flow = visit(d);
            stopped = flow.is_break();
            flow
        })?;
        Ok(stopped)
    }

    fn by_value(&self, a: AttrId, from: Bound<&Value>, visit: Visit<'_>) -> Result<bool, DbError> {
        let mut stopped = false;
        self.range(a, from, Bound::Unbounded, false, &mut |d| {
            let flow = visit(d);
            stopped = flow.is_break();
            flow
        })?;
        Ok(stopped)
    }

    pub(crate) fn components(&self, index: Index, given: &[Value]) -> Result<Found, DbError> {
        let order: [char; 4] = match index {
            Index::Eavt => ['e', 'a', 'v', 't'],
            Index::Aevt => ['a', 'e', 'v', 't'],
            Index::Avet => ['a', 'v', 'e', 't'],
            Index::Vaet => ['v', 'a', 'e', 't'],
        };
        if given.len() > order.len() {
            return Err(DbError::BadComponents {
                message: format!("{} has 4 components, not {}", index.name(), given.len()),
            });
        }
        let mut c = Components { e: None, a: None, v: None, t: None };
        for (slot, v) in order.into_iter().zip(given) {
            match slot {
                'e' => match self.entity_of(v)? {
                    Some(e) => c.e = Some(e),
                    None => return Ok(Found::Nothing),
                },
                'a' => {
                    let a = self.attribute_of(v)?;
                    if index == Index::Avet {
                        self.must_be_indexed(&a)?;
                    }
                    c.a = Some(a);
                }
                'v' => {
                    let v = match &c.a {
                        Some(a) => self.coerced(a, v)?,
                        None => self.entity_of(v)?.map(Value::Ref),
                    };
                    match v {
                        Some(v) => c.v = Some(v),
                        None => return Ok(Found::Nothing),
                    }
                }
                _ => c.t = Some(self.t_of(v)?),
            }
        }
        Ok(Found::Components(c))
    }

    fn entity_of(&self, v: &Value) -> Result<Option<EntityId>, DbError> {
        let eid = Eid::from_value(v).ok_or_else(|| DbError::BadComponents {
            message: format!("not an entity: {}", crate::edn::print(v)),
        })?;
        self.resolve(eid)
    }

    fn attribute_of(&self, v: &Value) -> Result<Arc<Attribute>, DbError> {
        let by_id = |e: EntityId| self.named_schema().attribute_of(e).cloned();
        let found = match v {
            Value::Keyword(k) => return self.attribute(k.as_str()).cloned(),
            Value::Ref(e) => by_id(*e),
            Value::Long(n) => u64::try_from(*n).ok().and_then(|n| by_id(EntityId::from_raw(n))),
            _ => None,
        };
        found.ok_or_else(|| DbError::BadComponents {
            message: format!("not an attribute: {}", crate::edn::print(v)),
        })
    }

    /// The value of a cardinality-one attribute of an entity; the least value when
    /// there are several.
    pub fn value(&self, e: EntityId, attr: &str) -> Result<Option<Value>, DbError> {
        self.facts_only("reading a value")?;
        let a = self.attribute(attr)?.id;
        let mut found = None;
        self.visit(&Prefix::Ea(e, a), &mut |d| {
            found = Some(d.v);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    pub(crate) fn facts_only(&self, operation: &'static str) -> Result<(), DbError> {
        match self.view().history {
            true => Err(DbError::History { operation }),
            false => Ok(()),
        }
    }

    /// Everything an entity says in this view; none when the identifier finds nothing.
    pub fn entity(&self, eid: impl Into<Eid>) -> Result<Option<Entity>, DbError> {
        self.facts_only("an entity")?;
        let Some(id) = self.resolve(eid)? else { return Ok(None) };
        let mut attributes: BTreeMap<Keyword, Vec<Value>> = BTreeMap::new();
        self.visit(&Prefix::E(id), &mut |d| {
            if let Some(a) = self.named_schema().attribute(d.a) {
                attributes.entry(a.ident.clone()).or_default().push(d.v);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Some(Entity { id, attributes }))
    }

    /// What was asserted and retracted about an entity, oldest first; of one
    /// attribute or of all.
    pub fn history_of(&self, eid: impl Into<Eid>, attr: Option<&str>) -> Result<Vec<Change>, DbError> {
        // An entity that is gone is still found by what named it once.
        let history = self.history();
        let eid = eid.into();
        let e = match self.resolve(eid.clone())? {
            Some(e) => Some(e),
            None => history.resolve(eid)?,
        };
        let Some(e) = e else { return Ok(Vec::new()) };
        let prefix = match attr {
            Some(name) => Prefix::Ea(e, self.attribute(name)?.id),
            None => Prefix::E(e),
        };
        let mut datoms = history.collect(&prefix)?;
        datoms.sort_by(|x, y| (x.t, x.a, x.added, &x.v).cmp(&(y.t, y.a, y.added, &y.v)));
        let mut changes = Vec::with_capacity(datoms.len());
        for datom in datoms {
            let Some(a) = self.named_schema().attribute(datom.a) else { continue };
            let instant = self.snapshot().instant_of(datom.t)?.unwrap_or_default();
            changes.push(Change { attr: a.ident.clone(), instant, datom });
        }
        Ok(changes)
    }

    /// The transactions of `[from, to)` that this value knows, with their datoms.
    pub fn log(&self, from: T, to: T) -> Result<Vec<(T, Vec<Datom>)>, DbError> {
        let upto = View { as_of: self.view().as_of, ..View::NOW }.upto(self.basis_t());
        let records = self.snapshot().log(from, to.min(upto.next()))?;
        Ok(records.into_iter().map(|r| (r.t, r.datoms.clone())).collect())
    }

    /// When a transaction was made.
    pub fn instant_of(&self, t: T) -> Result<Option<Instant>, DbError> {
        Ok(self.snapshot().instant_of(t)?)
    }

    /// How many datoms are visible with these leading components.
    pub fn count(&self, index: impl IntoIndex, components: &[Value]) -> Result<u64, DbError> {
        let mut n = 0;
        self.visit_datoms(index, components, &mut |_| {
            n += 1;
            ControlFlow::Continue(())
        })?;
        Ok(n)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
