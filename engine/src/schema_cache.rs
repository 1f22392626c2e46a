//! The schema at any t, built from datoms and shared.
//!
//! 1. A schema is a fold of the schema datoms up to its t, in order of t.
//!    Committing applies one more transaction to the fold; opening and as-of
//!    views replay the history. Both run [`SchemaInfo::apply`].
//! 2. A renamed entity keeps its former names as aliases until another entity
//!    takes them.
//! 3. The schema of an as-of view is that of the view. For queries it is padded
//!    with attributes and names that came later, so that naming one in an old
//!    view matches nothing instead of being an error. Attributes of projections
//!    have their present names there.

use crate::{
    bootstrap as boot,
    snapshot::Snapshot,
    store::{Hints, Prefix, StorageError},
};
use annals_model::{
    AttrId, Attribute, Cardinality, Datom, EntityId, Keyword, Schema, T, TupleKind, Value, ValueType, View,
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// A schema, and what transacting needs to know of it at once.
#[derive(Clone, Debug)]
pub(crate) struct SchemaInfo {
    pub schema: Arc<Schema>,
    /// Composite tuples by each of their parts.
    pub composites: Arc<HashMap<AttrId, Vec<Arc<Attribute>>>>,
    /// Attributes that held many values at some t, whatever they are now.
    ever_many: Arc<HashSet<AttrId>>,
}

/// What a transaction says about one entity's schema.
#[derive(Default)]
struct Edit {
    ident: Option<Keyword>,
    unnamed: Option<Keyword>,
    datoms: Vec<usize>,
}

impl SchemaInfo {
    /// Nothing installed.
    pub fn empty() -> SchemaInfo {
        SchemaInfo { schema: Arc::default(), composites: Arc::default(), ever_many: Arc::default() }
    }

    /// Does any of these datoms change a schema?
    pub fn concerns(datoms: &[Datom]) -> bool {
        datoms.iter().any(|d| is_schema_attr(d.a))
    }

    /// The schema after the datoms of one more transaction.
    pub fn apply(&self, datoms: &[Datom]) -> SchemaInfo {
        let mut edits: BTreeMap<EntityId, Edit> = BTreeMap::new();
        for (i, d) in datoms.iter().enumerate().filter(|(_, d)| is_schema_attr(d.a)) {
            let edit = edits.entry(d.e).or_default();
            match (&d.v, d.a, d.added) {
                (Value::Keyword(k), boot::IDENT, true) => edit.ident = Some(k.clone()),
                (Value::Keyword(k), boot::IDENT, false) => edit.unnamed = Some(k.clone()),
                _ => edit.datoms.push(i),
            }
        }
        if edits.is_empty() {
            return self.clone();
        }
        let mut s = (*self.schema).clone();
        s.version += 1;
        for (e, edit) in &edits {
            if let (Some(k), None) = (&edit.unnamed, &edit.ident) {
                s.unname(k, *e);
            }
        }
        for (e, edit) in &edits {
            if let Some(k) = &edit.ident {
                s.name(k.clone(), *e);
            }
        }
        for (e, edit) in &edits {
            let Some(id) = AttrId::of_entity(*e) else { continue };
            let old = s.attribute(id).map(|a| (**a).clone());
            let Some(ident) = s.ident(*e).cloned() else {
                s.remove(id);
                continue;
            };
            let mut draft = Draft::of(old.as_ref());
            for i in &edit.datoms {
                draft.edit(&datoms[*i], &s);
            }
            if let Some(a) = draft.attribute(id, ident) {
                s.insert(a);
            }
        }
        SchemaInfo::of(s, &self.ever_many)
    }

    /// What storage may rely on.
    pub fn hints(&self) -> Hints {
        let mut hints = Hints::default();
        for a in self.schema.attributes() {
            if !self.ever_many.contains(&a.id) {
                hints.single.insert(a.id);
            }
            if a.no_history {
                hints.no_history.insert(a.id);
            }
        }
        hints
    }

    fn of(schema: Schema, many_before: &Arc<HashSet<AttrId>>) -> SchemaInfo {
        let many = schema.attributes().filter(|a| a.is_many()).map(|a| a.id);
        let fresh: Vec<AttrId> = many.filter(|a| !many_before.contains(a)).collect();
        let ever_many = if fresh.is_empty() {
            many_before.clone()
        } else {
            Arc::new(many_before.iter().copied().chain(fresh).collect())
        };
        let mut composites: HashMap<AttrId, Vec<Arc<Attribute>>> = HashMap::new();
        for a in schema.attributes() {
            if let Some(TupleKind::Composite(parts)) = &a.tuple {
                for p in parts {
                    composites.entry(*p).or_default().push(a.clone());
                }
            }
        }
        SchemaInfo { schema: Arc::new(schema), composites: Arc::new(composites), ever_many }
    }
}

/// Do datoms of this attribute make the schema?
pub(crate) fn is_schema_attr(a: AttrId) -> bool {
    boot::SCHEMA_ATTRS.contains(&a)
}

/// An attribute under construction.
#[derive(Default)]
struct Draft {
    value_type: Option<ValueType>,
    cardinality: Option<Cardinality>,
    unique: Option<annals_model::Unique>,
    index: bool,
    is_component: bool,
    no_history: bool,
    tuple: Option<TupleKind>,
    preds: Vec<Keyword>,
    doc: Option<Arc<str>>,
}

impl Draft {
    fn of(a: Option<&Attribute>) -> Draft {
        a.map_or_else(Draft::default, |a| Draft {
            value_type: Some(a.value_type),
            cardinality: Some(a.cardinality),
            unique: a.unique,
            index: a.index,
            is_component: a.is_component,
            no_history: a.no_history,
            tuple: a.tuple.clone(),
            preds: a.preds.clone(),
            doc: a.doc.clone(),
        })
    }

    /// Takes one datom in. A retraction that accompanies an assertion of the same
    /// attribute comes before it (datoms are sorted so), hence cannot undo it.
    fn edit(&mut self, d: &Datom, s: &Schema) {
        let flag = d.added && d.v == Value::Bool(true);
        let keep = |entity: Option<EntityId>| entity.filter(|_| d.added);
        let entity = match d.v {
            Value::Ref(e) => Some(e),
            _ => None,
        };
        match d.a {
            boot::VALUE_TYPE => {
                self.value_type = keep(entity).and_then(boot::type_of_entity).or(self.value_type)
            }
            boot::CARDINALITY => {
                self.cardinality = keep(entity).and_then(boot::cardinality_of_entity).or(self.cardinality);
            }
            boot::UNIQUE => {
                let named = entity.and_then(boot::unique_of_entity);
                if d.added {
                    self.unique = named;
                } else if self.unique == named {
                    self.unique = None;
                }
            }
            boot::INDEX => self.index = flag || (!d.added && d.v == Value::Bool(false) && self.index),
            boot::IS_COMPONENT => {
                self.is_component = flag || (!d.added && d.v == Value::Bool(false) && self.is_component);
            }
            boot::NO_HISTORY => {
                self.no_history = flag || (!d.added && d.v == Value::Bool(false) && self.no_history);
            }
            boot::DOC => match &d.v {
                Value::String(text) if d.added => self.doc = Some(text.clone()),
                Value::String(text) if self.doc.as_ref() == Some(text) => self.doc = None,
                _ => {}
            },
            boot::ATTR_PREDS => {
                if let Value::Keyword(k) = &d.v {
                    self.preds.retain(|p| p != k);
                    if d.added {
                        self.preds.push(k.clone());
                    }
                }
            }
            boot::TUPLE_ATTRS if d.added => {
                let parts = keywords(&d.v).filter_map(|k| s.entid(k)).filter_map(AttrId::of_entity);
                self.tuple = Some(TupleKind::Composite(parts.collect()));
            }
            boot::TUPLE_TYPES if d.added => {
                self.tuple = Some(TupleKind::Heterogeneous(keywords(&d.v).filter_map(named_type).collect()));
            }
            boot::TUPLE_TYPE if d.added => {
                if let Value::Keyword(k) = &d.v {
                    self.tuple = named_type(k).map(TupleKind::Homogeneous);
                }
            }
            _ => {}
        }
    }

    fn attribute(self, id: AttrId, ident: Keyword) -> Option<Attribute> {
        Some(Attribute {
            id,
            ident,
            value_type: self.value_type?,
            cardinality: self.cardinality?,
            unique: self.unique,
            index: self.index,
            is_component: self.is_component,
            no_history: self.no_history,
            tuple: self.tuple,
            preds: self.preds,
            doc: self.doc,
        })
    }
}

/// The keywords in a tuple.
pub(crate) fn keywords(v: &Value) -> impl Iterator<Item = &Keyword> {
    let items = match v {
        Value::Vector(items) => &items[..],
        _ => &[],
    };
    items.iter().filter_map(|v| match v {
        Value::Keyword(k) => Some(k),
        _ => None,
    })
}

/// The type that `:db.type/…` names.
pub(crate) fn named_type(k: &Keyword) -> Option<ValueType> {
    (k.namespace() == Some("db.type")).then(|| ValueType::from_name(k.name())).flatten()
}

/// Schemas kept besides the newest one.
const KEPT: usize = 64;

/// The schemas of one database. Holds every schema datom ever written, so that
/// asking for an old schema cannot fail.
pub(crate) struct SchemaCache {
    /// By t, retractions of one t before assertions; begins with genesis.
    history: RwLock<Vec<Datom>>,
    built: Mutex<BTreeMap<T, SchemaInfo>>,
}

impl SchemaCache {
    /// Reads the schema history of a store.
    pub fn load(snap: &Snapshot) -> Result<SchemaCache, StorageError> {
        Ok(SchemaCache { history: RwLock::new(history(snap)?), built: Mutex::default() })
    }

    /// Notes that transaction `t` changed the schema to this.
    pub fn record(&self, t: T, info: SchemaInfo, datoms: &[Datom]) {
        let mut mine: Vec<Datom> = datoms.iter().filter(|d| is_schema_attr(d.a)).cloned().collect();
        sort(&mut mine);
        self.history.write().append(&mut mine);
        self.keep(t, info);
    }

    fn keep(&self, t: T, info: SchemaInfo) {
        let mut built = self.built.lock();
        if built.len() >= KEPT {
            // The newest is asked for most.
            built.pop_first();
        }
        built.insert(t, info);
    }

    /// The schema right after transaction `t`.
    pub fn at(&self, t: T) -> SchemaInfo {
        let history = self.history.read();
        let known = &history[..history.partition_point(|d| d.t <= t)];
        let change = known.last().map_or(T::GENESIS, |d| d.t);
        if let Some(info) = self.built.lock().get(&change) {
            return info.clone();
        }
        let info = fold(known);
        drop(history);
        self.keep(change, info.clone());
        info
    }
}

/// Every schema datom of a store.
fn history(snap: &Snapshot) -> Result<Vec<Datom>, StorageError> {
    let view = View { history: true, ..View::NOW };
    let mut all = Vec::new();
    for a in boot::SCHEMA_ATTRS {
        all.append(&mut snap.datoms(view, &Prefix::A(a))?);
    }
    sort(&mut all);
    Ok(all)
}

fn sort(datoms: &mut [Datom]) {
    datoms.sort_by(|x, y| (x.t, x.e, x.a, x.added, &x.v).cmp(&(y.t, y.e, y.a, y.added, &y.v)));
}

fn fold(history: &[Datom]) -> SchemaInfo {
    history.chunk_by(|x, y| x.t == y.t).fold(SchemaInfo::empty(), |s, datoms| s.apply(datoms))
}

/// A view's schema with everything that came later and is not in its way, for
/// queries: see invariant 3. Attributes of projections (`projected`) are named as they are
/// now: a rebuilt version files its facts under the past, and answers for it.
pub(crate) fn pad(
    view: &Arc<Schema>,
    newest: &Arc<Schema>,
    projected: impl Fn(AttrId) -> bool,
) -> Arc<Schema> {
    if Arc::ptr_eq(view, newest) {
        return view.clone();
    }
    let mut s = Schema::default();
    s.version = view.version;
    let later = |a: &Arc<Attribute>| view.attribute(a.id).is_none() || projected(a.id);
    let old = |e: EntityId| !view.attribute_of(e).is_some_and(|a| projected(a.id));
    for a in newest.attributes().filter(|a| later(a)) {
        s.insert((**a).clone());
    }
    for (k, e) in newest.idents().filter(|(_, e)| newest.attribute_of(*e).is_some()) {
        s.name(k.clone(), e);
    }
    for (k, e) in view.idents().filter(|(_, e)| old(*e)) {
        s.name(k.clone(), e);
    }
    for a in view.attributes().filter(|a| !projected(a.id)) {
        s.insert((**a).clone());
    }
    // Present names last: a name entered last is the one shown.
    let free = |k: &Keyword| view.entid(k).is_none_or(|e| !old(e));
    for a in newest.attributes().filter(|a| later(a) && free(&a.ident)) {
        s.name(a.ident.clone(), a.id.entity());
    }
    for (k, e) in view.idents().filter(|(_, e)| old(*e)) {
        if view.ident(e) == Some(k) {
            s.name(k.clone(), e);
        }
    }
    Arc::new(s)
}
