//! Pull: entities as trees, by a pattern.
//!
//! The entities of one level of a pattern are fetched together: one sorted probe
//! an attribute for all of them, then one for all of their children. Two thousand
//! pulls cost as many probes as one.
//!
//! 1. Missing attributes are absent keys. An entity with nothing to show is nil,
//!    or left out of the list it would stand in.
//! 2. Values of a cardinality-many attribute come in value order, at most
//!    `:limit` of them (a thousand unless said).
//! 3. A component without a pattern is shown whole. An entity that is already on
//!    the path from the root shows only its `:db/id`, so cycles end.
//! 4. A tree is at most [`MAX_DEPTH`] deep, so that what is printed can be read back.
//!
//! Not here: the grammar of patterns (`parse::pull`).

use crate::ast::{PullAttr, PullItem, PullLimit, PullPattern, PullSub, Spanned};
use crate::budget::Budget;
use crate::error::{Fault, QueryError};
use crate::eval::function::{FnError, Function, Library};
use crate::source::{Probe, Source};
use annals_model::{
    AttrId, Attribute, Diagnostic, Dict, EntityId, Keyword, Order, Span, Symbol, Value, cell,
};
use std::{collections::BTreeMap, rc::Rc, sync::Arc};

/// How deep a pulled tree may be nested.
pub const MAX_DEPTH: usize = 200;
/// From this many entities on, a wildcard reads attribute by attribute instead of entity by entity.
const BATCH_WILDCARD: usize = 8;
/// Up to this many attributes, that is.
const BATCH_ATTRS: usize = 256;

/// Why a pull has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The database has no such attribute.
    #[error("unknown attribute {attr}")]
    UnknownAttribute {
        /// As written.
        attr: Keyword,
        /// Where.
        at: Span,
        /// The attribute with the most similar name.
        nearest: Option<Keyword>,
    },
    /// `:a/_b` or a pattern below an attribute that is not a reference.
    #[error("{attr} is not a reference")]
    NotRef {
        /// The attribute.
        attr: Keyword,
        /// Followed backwards?
        reverse: bool,
        /// Where.
        at: Span,
    },
    /// No function of this name for `:xform`.
    #[error("unknown function {name}")]
    UnknownXform {
        /// As written.
        name: Symbol,
        /// Where.
        at: Span,
        /// The function with the most similar name.
        nearest: Option<String>,
    },
    /// The `:xform` function failed on a value.
    #[error("{name}: {error}")]
    Xform {
        /// The function.
        name: Symbol,
        /// What it says.
        error: FnError,
        /// Where.
        at: Span,
    },
    /// The source is a history view: an entity has no single state there.
    #[error("a history view cannot be pulled from")]
    History,
    /// The tree is nested too deep.
    #[error("the tree is deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl PullError {
    /// The stable code, a row of [`crate::error::CODES`].
    pub fn code(&self) -> &'static str {
        match self {
            PullError::UnknownAttribute { .. } => "query/unknown-attribute",
            PullError::NotRef { reverse: true, .. } => "pull/reverse",
            PullError::NotRef { reverse: false, .. } => "pull/nested",
            PullError::UnknownXform { .. } => "pull/unknown-xform",
            PullError::Xform { error, .. } => error.code(),
            PullError::History => "pull/history",
            PullError::TooDeep => "pull/too-large",
        }
    }
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            PullError::TooDeep => Fault::Budget,
            PullError::UnknownAttribute { .. }
            | PullError::NotRef { .. }
            | PullError::UnknownXform { .. }
            | PullError::Xform { .. }
            | PullError::History => Fault::Meaning,
        }
    }
    /// What there is to say about it.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let d = Diagnostic::new(self.code(), self.to_string());
        let placed = |d: Diagnostic, at: &Span, label: &str| {
            if *at == Span::default() { d } else { d.at(*at, label) }
        };
        vec![match self {
            PullError::UnknownAttribute { at, nearest, .. } => {
                let d = placed(d, at, "not installed in this view");
                match nearest {
                    Some(n) => d.help(format!("did you mean {n}?")),
                    None => d,
                }
            }
            PullError::NotRef { at, .. } => placed(d, at, "its values are not entities"),
            PullError::UnknownXform { at, nearest, .. } => {
                let d = placed(d, at, "no such function");
                match nearest {
                    Some(n) => d.help(format!("did you mean {n}?")),
                    None => d,
                }
            }
            PullError::Xform { at, .. } => placed(d, at, "in this transformation"),
            PullError::History => d.help("pull from the present, or from as-of a time"),
            PullError::TooDeep => d.help("give the recursion a depth: {:a/next 20}"),
        }]
    }
}

/// Pulls each of `entities`; nil for none, and for one with nothing to show.
pub fn pull_many(
    source: &dyn Source,
    pattern: &PullPattern,
    entities: &[Option<EntityId>],
    library: &Library,
    budget: &Budget,
) -> Result<Vec<Value>, QueryError> {
    if source.view().history {
        return Err(PullError::History.into());
    }
    let plan = Plan::of(pattern, source, library)?;
    let puller = Puller { source, dict: Dict::current(), budget };
    let tasks: Vec<Task> = entities.iter().flatten().map(|e| Task { e: e.raw(), path: None }).collect();
    let mut trees = puller.level(&plan, &tasks, &Depths::default(), 0)?.into_iter();
    Ok(entities.iter().map(|e| e.and_then(|_| trees.next().flatten()).unwrap_or(Value::Nil)).collect())
}

/// Pulls one entity.
pub fn pull(
    source: &dyn Source,
    pattern: &PullPattern,
    entity: EntityId,
    library: &Library,
    budget: &Budget,
) -> Result<Value, QueryError> {
    Ok(pull_many(source, pattern, &[Some(entity)], library, budget)?.swap_remove(0))
}

/// A pattern with its names looked up.
struct Plan {
    wildcard: bool,
    id: Option<Value>,
    items: Vec<Item>,
}

struct Item {
    attr: Arc<Attribute>,
    reverse: bool,
    key: Value,
    limit: PullLimit,
    default: Option<Value>,
    xform: Option<(Spanned<Symbol>, Arc<Function>)>,
    sub: Sub,
}

enum Sub {
    /// Scalars, `{:db/id n}`, or components whole.
    Plain,
    Pattern(Plan),
    Again(Option<usize>),
}

impl Plan {
    fn of(pattern: &PullPattern, source: &dyn Source, library: &Library) -> Result<Plan, PullError> {
        let mut plan = Plan { wildcard: false, id: None, items: Vec::new() };
        for item in &pattern.items {
            match item {
                PullItem::Wildcard(_) => plan.wildcard = true,
                PullItem::Id { key, .. } => plan.id = Some(key.clone()),
                PullItem::Attr(a) => plan.items.push(Item::of(a, source, library)?),
            }
        }
        Ok(plan)
    }
}

impl Item {
    fn of(a: &PullAttr, source: &dyn Source, library: &Library) -> Result<Item, PullError> {
        let schema = source.schema();
        let Some(attr) = schema.attribute_named(&a.attr.node) else {
            let attr = a.attr.node.clone();
            let nearest = schema.nearest(&attr);
            return Err(PullError::UnknownAttribute { attr, at: a.attr.span, nearest });
        };
        if !attr.is_ref() && (a.reverse || a.sub != PullSub::None) {
            return Err(PullError::NotRef { attr: attr.ident.clone(), reverse: a.reverse, at: a.attr.span });
        }
        let xform = match &a.xform {
            None => None,
            Some(name) => Some(match library.function(name.as_str()) {
                Some(f) => (name.clone(), f.clone()),
                None => {
                    let nearest = library.nearest_function(name.as_str()).map(str::to_owned);
                    return Err(PullError::UnknownXform { name: name.node.clone(), at: name.span, nearest });
                }
            }),
        };
        let sub = match &a.sub {
            PullSub::None => Sub::Plain,
            PullSub::Pattern(p) => Sub::Pattern(Plan::of(p, source, library)?),
            PullSub::Recursion(depth) => Sub::Again(*depth),
        };
        Ok(Item {
            attr: attr.clone(),
            reverse: a.reverse,
            key: a.key.clone(),
            limit: a.limit,
            default: a.default.clone(),
            xform,
            sub,
        })
    }
}

/// An entity to show, and the entities above it.
struct Task {
    e: u64,
    path: Option<Rc<Path>>,
}

struct Path {
    e: u64,
    above: Option<Rc<Path>>,
}

impl Task {
    fn below(&self, e: u64) -> Task {
        Task { e, path: Some(Rc::new(Path { e: self.e, above: self.path.clone() })) }
    }
    /// Is `e` this entity or one above it?
    fn on_path(&self, e: u64) -> bool {
        let mut at = self.path.as_ref();
        while let Some(p) = at {
            if p.e == e {
                return true;
            }
            at = p.above.as_ref();
        }
        self.e == e
    }
}

/// Levels left of each bounded recursion (by index of its item), where one has begun.
type Depths = BTreeMap<usize, usize>;

struct Puller<'a> {
    source: &'a dyn Source,
    dict: Arc<Dict>,
    budget: &'a Budget,
}

fn id_key() -> Value {
    Value::keyword("db/id")
}

fn only_id(e: u64) -> Value {
    Value::map([(id_key(), Value::Ref(EntityId::from_raw(e)))])
}

type Entries = Vec<(Value, Value)>;

impl Puller<'_> {
    /// The trees of one level's entities; none where there is nothing to show.
    fn level(
        &self,
        plan: &Plan,
        tasks: &[Task],
        depths: &Depths,
        depth: usize,
    ) -> Result<Vec<Option<Value>>, QueryError> {
        if depth > MAX_DEPTH {
            return Err(PullError::TooDeep.into());
        }
        self.budget.spend(tasks.len(), tasks.len() * 96)?;
        let mut trees: Vec<Entries> = tasks.iter().map(|_| Entries::new()).collect();
        if plan.wildcard {
            self.wildcard(plan, tasks, &mut trees, depth)?;
        }
        if let Some(key) = &plan.id {
            for (tree, task) in trees.iter_mut().zip(tasks) {
                tree.push((key.clone(), Value::Ref(EntityId::from_raw(task.e))));
            }
        }
        for (n, item) in plan.items.iter().enumerate() {
            let left = depths.get(&n).copied();
            if left == Some(0) {
                continue;
            }
            let values = match (&item.sub, item.attr.is_ref()) {
                (_, false) => self.scalars(item, tasks)?,
                (sub, true) => {
                    let children = self.children(item, tasks)?;
                    match sub {
                        Sub::Plain => self.plain(item, tasks, children, depth)?,
                        Sub::Pattern(p) => self.nested(p, tasks, children, &Depths::new(), false, depth)?,
                        Sub::Again(bound) => {
                            let mut depths = depths.clone();
                            if let Some(bound) = bound {
                                depths.insert(n, left.unwrap_or(*bound) - 1);
                            }
                            self.nested(plan, tasks, children, &depths, true, depth)?
                        }
                    }
                }
            };
            for (tree, found) in trees.iter_mut().zip(values) {
                let value = self.one_or_many(item, found);
                let shown = match (&item.xform, value) {
                    (Some((name, f)), v) => {
                        let v = f.call(&[v.unwrap_or(Value::Nil)]).map_err(|error| PullError::Xform {
                            name: name.node.clone(),
                            error,
                            at: name.span,
                        })?;
                        if matches!(v, Value::Nil) { item.default.clone() } else { Some(v) }
                    }
                    (None, v) => v.or_else(|| item.default.clone()),
                };
                if let Some(v) = shown {
                    tree.push((item.key.clone(), v));
                }
            }
        }
        Ok(trees.into_iter().map(|t| if t.is_empty() { None } else { Some(Value::map(t)) }).collect())
    }

    fn one_or_many(&self, item: &Item, mut found: Vec<Value>) -> Option<Value> {
        let single = if item.reverse { item.attr.is_component } else { !item.attr.is_many() };
        match (single, found.is_empty()) {
            (_, true) => None,
            (true, false) => Some(found.swap_remove(0)),
            (false, false) => Some(Value::vector(found)),
        }
    }

    /// For each task the values of an attribute, in value order.
    fn scalars(&self, item: &Item, tasks: &[Task]) -> Result<Vec<Vec<Value>>, QueryError> {
        let mut out: Vec<Vec<Value>> = tasks.iter().map(|_| Vec::new()).collect();
        self.probe(item.attr.id, Order::Eav, tasks, |i, _, v| out[i].push(self.dict.decode(v)))?;
        for values in &mut out {
            values.sort();
            values.truncate(item.limit.max());
        }
        Ok(out)
    }

    /// For each task the entities that an attribute leads to, forwards or backwards.
    fn children(&self, item: &Item, tasks: &[Task]) -> Result<Vec<Vec<u64>>, QueryError> {
        let mut out: Vec<Vec<u64>> = tasks.iter().map(|_| Vec::new()).collect();
        let order = if item.reverse { Order::Ave } else { Order::Eav };
        self.probe(item.attr.id, order, tasks, |i, e, v| {
            let to = if item.reverse { Some(e) } else { cell::as_ref(v).map(EntityId::raw) };
            out[i].extend(to);
        })?;
        for entities in &mut out {
            entities.sort_unstable();
            entities.truncate(item.limit.max());
        }
        Ok(out)
    }

    /// One sorted probe for all tasks; calls back with the task's index, entity and value of each datom.
    fn probe(
        &self,
        a: AttrId,
        order: Order,
        tasks: &[Task],
        mut found: impl FnMut(usize, u64, annals_model::Cell),
    ) -> Result<(), QueryError> {
        let key = |e: u64| match order {
            Order::Eav => e,
            Order::Ave => cell::of_ref(EntityId::from_raw(e)),
        };
        let mut by_key: Vec<(u64, usize)> = tasks.iter().enumerate().map(|(i, t)| (key(t.e), i)).collect();
        by_key.sort_unstable();
        let mut keys: Vec<u64> = by_key.iter().map(|(k, _)| *k).collect();
        keys.dedup();
        let mut out = Probe::default();
        self.source.probe(a, order, &keys, &self.dict, &mut out)?;
        self.budget.spend(out.key.len(), out.key.len() * 40)?;
        let mut at = 0;
        for i in 0..out.key.len() {
            let k = keys[out.key[i] as usize];
            while by_key[at].0 < k {
                at += 1;
            }
            for (_, task) in by_key[at..].iter().take_while(|(x, _)| *x == k) {
                found(*task, out.e[i], out.v[i]);
            }
        }
        Ok(())
    }

    /// References without a pattern: ids, or components whole.
    fn plain(
        &self,
        item: &Item,
        tasks: &[Task],
        children: Vec<Vec<u64>>,
        depth: usize,
    ) -> Result<Vec<Vec<Value>>, QueryError> {
        if item.attr.is_component && !item.reverse {
            return self.nested(&whole(), tasks, children, &Depths::new(), true, depth);
        }
        Ok(children.into_iter().map(|c| c.into_iter().map(only_id).collect()).collect())
    }

    /// Children shown by a pattern, all tasks' children as one level. With `cut`,
    /// those on the path above show only their ids.
    fn nested(
        &self,
        plan: &Plan,
        tasks: &[Task],
        children: Vec<Vec<u64>>,
        depths: &Depths,
        cut: bool,
        depth: usize,
    ) -> Result<Vec<Vec<Value>>, QueryError> {
        let mut below = Vec::new();
        for (task, entities) in tasks.iter().zip(&children) {
            below.extend(entities.iter().filter(|e| !(cut && task.on_path(**e))).map(|e| task.below(*e)));
        }
        let mut trees =
            if below.is_empty() { Vec::new() } else { self.level(plan, &below, depths, depth + 1)? }
                .into_iter();
        let mut out = Vec::with_capacity(tasks.len());
        for (task, entities) in tasks.iter().zip(children) {
            let shown = entities.into_iter().filter_map(|e| {
                if cut && task.on_path(e) { Some(only_id(e)) } else { trees.next().flatten() }
            });
            out.push(shown.collect());
        }
        Ok(out)
    }

    /// Every attribute of every task that no item of the pattern shows already.
    fn wildcard(
        &self,
        plan: &Plan,
        tasks: &[Task],
        trees: &mut [Entries],
        depth: usize,
    ) -> Result<(), QueryError> {
        let schema = self.source.schema();
        let named = |a: AttrId| plan.items.iter().any(|i| i.attr.id == a && !i.reverse);
        let attrs: Vec<Arc<Attribute>> = if tasks.len() >= BATCH_WILDCARD
            && schema.attributes().count() <= BATCH_ATTRS
        {
            schema
                .attributes()
                .filter(|a| !named(a.id) && self.source.stats(a.id).rows > 0)
                .cloned()
                .collect()
        } else {
            let mut of_tasks: Vec<AttrId> = Vec::new();
            for t in tasks {
                of_tasks.extend(self.source.entity(EntityId::from_raw(t.e))?.iter().map(|d| d.a));
            }
            of_tasks.sort_unstable();
            of_tasks.dedup();
            of_tasks.into_iter().filter(|a| !named(*a)).filter_map(|a| schema.attribute(a).cloned()).collect()
        };
        for (tree, task) in trees.iter_mut().zip(tasks) {
            tree.push((id_key(), Value::Ref(EntityId::from_raw(task.e))));
        }
        for attr in attrs {
            let key = Value::Keyword(attr.ident.clone());
            let item = Item {
                attr,
                reverse: false,
                key: key.clone(),
                limit: PullLimit::Default,
                default: None,
                xform: None,
                sub: Sub::Plain,
            };
            let values = if item.attr.is_ref() {
                let children = self.children(&item, tasks)?;
                self.plain(&item, tasks, children, depth)?
            } else {
                self.scalars(&item, tasks)?
            };
            for (tree, found) in trees.iter_mut().zip(values) {
                tree.extend(self.one_or_many(&item, found).map(|v| (key.clone(), v)));
            }
        }
        Ok(())
    }
}

/// The pattern `[*]`.
fn whole() -> Plan {
    Plan { wildcard: true, id: None, items: Vec::new() }
}
