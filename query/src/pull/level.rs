//! One level of a pattern for many entities at once.
//!
//! 1. A level asks the source once an attribute, whatever the number of entities.
//! 2. What a level reads is counted against the budget before trees are made of it.

use super::{
    MAX_DEPTH, PullError,
    plan::{Item, Plan, Sub},
};
use crate::ast::PullLimit;
use crate::budget::Budget;
use crate::error::QueryError;
use crate::source::{Probe, Source};
use annals_model::{AttrId, Attribute, Dict, EntityId, Order, Value, cell};
use std::{collections::BTreeMap, rc::Rc, sync::Arc};

/// From this many entities on, a wildcard reads attribute by attribute instead of entity by entity.
const BATCH_WILDCARD: usize = 8;
/// Up to this many attributes, that is.
const BATCH_ATTRS: usize = 256;

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

/// What every level reads from and spends.
pub(super) struct Puller<'a> {
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

impl<'a> Puller<'a> {
    pub(super) fn new(source: &'a dyn Source, budget: &'a Budget) -> Puller<'a> {
        Puller { source, dict: Dict::current(), budget }
    }

    /// The trees of these entities, that nothing is above of.
    pub(super) fn roots(
        &self,
        plan: &Plan,
        entities: impl Iterator<Item = EntityId>,
    ) -> Result<Vec<Option<Value>>, QueryError> {
        let tasks: Vec<Task> = entities.map(|e| Task { e: e.raw(), path: None }).collect();
        self.level(plan, &tasks, &Depths::new(), 0)
    }

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
            schema.attributes().filter(|a| !named(a.id) && self.source.may_have(a.id)).cloned().collect()
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
