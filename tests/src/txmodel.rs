//! The naive model of transactions: a list of datoms and the rules of what a
//! transaction means, written to be obviously right.
//!
//! 1. Every step reads the database *before* the transaction; only uniqueness
//!    is checked on the one after.
//! 2. A transaction is a set: the order of its forms has no meaning, and adding
//!    and retracting one fact is a conflict.
//! 3. What holds already is not written again; what does not hold is not retracted.
//! 4. The model picks no ids for new entities: the caller says which id each
//!    tempid got (from the engine's report) and the model checks that it could.
//!
//! Not here: schema changes, transaction functions, `:db/ensure`, clocks.

use annals_model::{
    AttrId, Attribute, Datom, EntityId, Keyword, Partition, Schema, T, TupleKind, Unique, Value, ValueType,
};
use std::collections::{BTreeMap, BTreeSet};

/// Why the model refuses a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a form of a transaction.
    Malformed,
    /// No such attribute.
    UnknownAttribute,
    /// An ident or lookup ref that means no entity before the transaction.
    UnknownEntity,
    /// A value of another type than the attribute's.
    Type,
    /// A tempid that no assertion is about.
    TempidOnlyAsValue,
    /// A transaction retracted as an entity.
    Transaction,
    /// A tempid where only an existing entity can stand.
    TempidRefused,
    /// A tempid that would have to be two entities.
    TempidConflict,
    /// The same fact added and retracted, or two values for one place.
    Conflict,
    /// Two entities with one unique value.
    NotUnique,
    /// The old value of a `:db/cas` is not the current one, or the attribute is many-valued.
    Cas,
    /// A nested map that nothing owns and nothing identifies.
    NestedMap,
    /// A composite tuple asserted by hand.
    Composite,
    /// The id a tempid was given is impossible.
    WrongId(String),
}

/// An entity in a form: known, or to be found out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Id(EntityId),
    Temp(String),
}

/// A value in a form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Value(Value),
    Who(Who),
}

enum Op {
    Add(Who, AttrId, What),
    Retract(Who, AttrId, Option<What>),
    RetractEntity(Who),
    Cas(Who, AttrId, Option<What>, What),
}

/// A fact that holds: entity, attribute, value, and since when.
type Fact = (EntityId, AttrId, Value, T);

/// A database as a list.
#[derive(Clone, Debug)]
pub struct Model {
    schema: Schema,
    facts: Vec<Fact>,
    log: Vec<Datom>,
    t: T,
    anonymous: usize,
    names: BTreeMap<String, EntityId>,
}

impl Model {
    /// A database that holds nothing after transaction `t`, under a fixed schema.
    pub fn new(schema: Schema, t: T) -> Model {
        Model { schema, facts: Vec::new(), log: Vec::new(), t, anonymous: 0, names: BTreeMap::new() }
    }

    /// The last transaction.
    pub fn t(&self) -> T {
        self.t
    }

    /// What each tempid of the last transaction became.
    pub fn names(&self) -> &BTreeMap<String, EntityId> {
        &self.names
    }

    /// Everything ever written, in order.
    pub fn log(&self) -> &[Datom] {
        &self.log
    }

    /// The schema, which transactions here do not change.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The facts that hold now, each with the transaction that asserted it.
    pub fn facts(&self) -> &[(EntityId, AttrId, Value, T)] {
        &self.facts
    }

    /// The facts that hold after transaction `t`, by replaying the log.
    pub fn as_of(&self, t: T) -> BTreeSet<(EntityId, AttrId, Value, T)> {
        let mut facts = BTreeSet::new();
        for d in self.log.iter().filter(|d| d.t <= t) {
            if d.added {
                facts.insert((d.e, d.a, d.v.clone(), d.t));
            } else {
                facts.retain(|(e, a, v, _)| (e, a, v) != (&d.e, &d.a, &d.v));
            }
        }
        facts
    }

    /// Entities that appear in any fact that holds.
    pub fn entities(&self) -> BTreeSet<EntityId> {
        self.facts.iter().map(|f| f.0).collect()
    }

    /// The values an entity has for an attribute.
    pub fn values(&self, e: EntityId, a: AttrId) -> Vec<&Value> {
        self.facts.iter().filter(|f| f.0 == e && f.1 == a).map(|f| &f.2).collect()
    }

    /// Applies one transaction. `ids` says which entity each named tempid became;
    /// names missing there get ids of the model's own making.
    pub fn transact(
        &mut self,
        forms: &[Value],
        ids: &BTreeMap<String, EntityId>,
    ) -> Result<Vec<Datom>, Refusal> {
        let t = self.t.next();
        let mut ops = Vec::new();
        for form in forms {
            self.expand(form, &mut ops)?;
        }
        let names = self.resolve_tempids(&ops, ids, t)?;
        let datoms = self.diff(&ops, &names, t)?;
        let after = apply(&self.facts, &datoms);
        self.check_unique(&after)?;
        self.facts = after;
        self.log.extend(datoms.iter().cloned());
        self.t = t;
        self.names = names;
        Ok(datoms)
    }

    // -- forms to operations ------------------------------------------------

    fn expand(&mut self, form: &Value, ops: &mut Vec<Op>) -> Result<(), Refusal> {
        match form {
            Value::Map(entries) => self.expand_map(entries, ops).map(drop),
            Value::Vector(parts) | Value::List(parts) => {
                let Some(Value::Keyword(op)) = parts.first() else { return Err(Refusal::Malformed) };
                let op = match (op.as_str(), &parts[1..]) {
                    ("db/add", [e, a, v]) => {
                        let a = self.attr(a)?;
                        Op::Add(self.who(e)?, a.id, self.what(&a, v)?)
                    }
                    ("db/retract", [e, a, v]) => {
                        let a = self.attr(a)?;
                        Op::Retract(self.who(e)?, a.id, Some(self.what(&a, v)?))
                    }
                    ("db/retract", [e, a]) => Op::Retract(self.who(e)?, self.attr(a)?.id, None),
                    ("db/retractEntity", [e]) => Op::RetractEntity(self.who(e)?),
                    ("db/cas", [e, a, old, new]) => {
                        let a = self.attr(a)?;
                        let old = if *old == Value::Nil { None } else { Some(self.what(&a, old)?) };
                        // Which entity a tempid is, is not known before the comparison.
                        if let Some(What::Who(Who::Temp(_))) = old {
                            return Err(Refusal::TempidRefused);
                        }
                        Op::Cas(self.who(e)?, a.id, old, self.what(&a, new)?)
                    }
                    _ => return Err(Refusal::Malformed),
                };
                ops.push(op);
                Ok(())
            }
            _ => Err(Refusal::Malformed),
        }
    }

    fn expand_map(&mut self, entries: &[(Value, Value)], ops: &mut Vec<Op>) -> Result<Who, Refusal> {
        let me = match entries.iter().find(|(k, _)| *k == Value::keyword("db/id")) {
            Some((_, id)) => self.who(id)?,
            None => {
                self.anonymous += 1;
                Who::Temp(format!("(anonymous {})", self.anonymous))
            }
        };
        for (key, value) in entries {
            let Value::Keyword(k) = key else { return Err(Refusal::Malformed) };
            if k.as_str() == "db/id" {
                continue;
            }
            if let Some(forward) = forward_of(k) {
                let a = self.attr(&Value::Keyword(forward))?;
                for other in self.many(&a, value) {
                    match self.value_in_map(&a, &other, ops)? {
                        What::Who(other) => ops.push(Op::Add(other, a.id, What::Who(me.clone()))),
                        What::Value(_) => return Err(Refusal::Type),
                    }
                }
            } else {
                let a = self.attr(key)?;
                let values = if a.is_many() { self.many(&a, value) } else { vec![value.clone()] };
                for v in values {
                    let v = self.value_in_map(&a, &v, ops)?;
                    ops.push(Op::Add(me.clone(), a.id, v));
                }
            }
        }
        Ok(me)
    }

    /// The values meant by what stands under a key: a vector lists them, unless
    /// under a reference attribute it is one lookup ref.
    fn many(&self, a: &Attribute, v: &Value) -> Vec<Value> {
        match v {
            Value::Vector(items) | Value::List(items) | Value::Set(items) => {
                let lookup = a.is_ref() && matches!(v, Value::Vector(_)) && self.is_lookup(items);
                if lookup { vec![v.clone()] } else { items.to_vec() }
            }
            _ => vec![v.clone()],
        }
    }

    fn is_lookup(&self, items: &[Value]) -> bool {
        matches!(items, [Value::Keyword(k), _]
            if self.schema.attribute_named(k).is_some_and(|a| a.unique.is_some()))
    }

    fn value_in_map(&mut self, a: &Attribute, v: &Value, ops: &mut Vec<Op>) -> Result<What, Refusal> {
        let Value::Map(child) = v else { return self.what(a, v) };
        if !a.is_ref() {
            return Err(Refusal::Type);
        }
        let identified = child.iter().any(|(k, _)| match k {
            Value::Keyword(k) => {
                k.as_str() == "db/id" || self.schema.attribute_named(k).is_some_and(|a| a.unique.is_some())
            }
            _ => false,
        });
        if !a.is_component && !identified {
            return Err(Refusal::NestedMap);
        }
        Ok(What::Who(self.expand_map(child, ops)?))
    }

    fn attr(&self, v: &Value) -> Result<Attribute, Refusal> {
        match v {
            Value::Keyword(k) => {
                self.schema.attribute_named(k).map(|a| (**a).clone()).ok_or(Refusal::UnknownAttribute)
            }
            _ => Err(Refusal::UnknownAttribute),
        }
    }

    fn who(&self, v: &Value) -> Result<Who, Refusal> {
        match v {
            Value::String(s) if s.as_ref() == "datomic.tx" => Ok(Who::Id(self.t.next().entity())),
            Value::String(s) => Ok(Who::Temp(s.to_string())),
            Value::Ref(e) => Ok(Who::Id(*e)),
            Value::Long(n) if *n >= 0 => Ok(Who::Id(EntityId::from_raw(*n as u64))),
            Value::Keyword(k) => self.ident(k).map(Who::Id).ok_or(Refusal::UnknownEntity),
            Value::Vector(items) => match &items[..] {
                [Value::Keyword(k), key] => {
                    let a = self.schema.attribute_named(k).ok_or(Refusal::UnknownAttribute)?;
                    let holder = self.facts.iter().find(|f| f.1 == a.id && f.2 == *key).map(|f| f.0);
                    holder.map(Who::Id).ok_or(Refusal::UnknownEntity)
                }
                _ => Err(Refusal::Malformed),
            },
            _ => Err(Refusal::Malformed),
        }
    }

    fn ident(&self, k: &Keyword) -> Option<EntityId> {
        let named = |a: AttrId| self.schema.attribute(a).is_some_and(|a| a.ident.as_str() == "db/ident");
        let held = self.facts.iter().find(|f| named(f.1) && f.2 == Value::Keyword(k.clone()));
        held.map(|f| f.0).or_else(|| self.schema.entid(k))
    }

    fn what(&self, a: &Attribute, v: &Value) -> Result<What, Refusal> {
        if matches!(a.tuple, Some(TupleKind::Composite(_))) {
            return Err(Refusal::Composite);
        }
        if a.is_ref() {
            return self.who(v).map(What::Who).map_err(|e| match e {
                Refusal::Malformed => Refusal::Type,
                other => other,
            });
        }
        match (a.value_type, v) {
            (ValueType::Double, Value::Long(n)) => Ok(What::Value(Value::Double(*n as f64))),
            (want, v) if v.value_type() == Some(want) => Ok(What::Value(v.clone())),
            _ => Err(Refusal::Type),
        }
    }

    // -- tempids --------------------------------------------------------------

    /// Finds out which entity each tempid is: those that share an identity value
    /// are one, and one whose identity value somebody holds is that somebody.
    fn resolve_tempids(
        &self,
        ops: &[Op],
        ids: &BTreeMap<String, EntityId>,
        t: T,
    ) -> Result<BTreeMap<String, EntityId>, Refusal> {
        let mut class: BTreeMap<String, String> = BTreeMap::new(); // tempid -> representative
        let mut asserted = BTreeSet::new();
        for op in ops {
            for who in mentions(op) {
                if let Who::Temp(s) = who {
                    class.insert(s.clone(), s.clone());
                }
            }
            match op {
                Op::Add(Who::Temp(s), ..) => drop(asserted.insert(s.clone())),
                Op::Cas(Who::Temp(_), ..)
                | Op::RetractEntity(Who::Temp(_))
                | Op::Retract(Who::Temp(_), _, None) => {
                    return Err(Refusal::TempidRefused);
                }
                _ => {}
            }
        }
        if class.keys().any(|s| !asserted.contains(s)) {
            return Err(Refusal::TempidOnlyAsValue);
        }
        let mut known: BTreeMap<String, EntityId> = BTreeMap::new(); // representative -> entity
        loop {
            let mut holders: BTreeMap<(AttrId, What), String> = BTreeMap::new();
            let mut changed = false;
            for op in ops {
                let Op::Add(Who::Temp(s), a, v) = op else { continue };
                if self.schema.attribute(*a).is_none_or(|a| a.unique != Some(Unique::Identity)) {
                    continue;
                }
                let me = class[s].clone();
                let v = match v {
                    What::Who(Who::Temp(other)) => match known.get(&class[other]) {
                        Some(e) => What::Value(Value::Ref(*e)),
                        None => What::Who(Who::Temp(class[other].clone())),
                    },
                    What::Who(Who::Id(e)) => What::Value(Value::Ref(*e)),
                    v => v.clone(),
                };
                if let What::Value(v) = &v
                    && let Some(holder) = self.facts.iter().find(|f| f.1 == *a && f.2 == *v).map(|f| f.0)
                {
                    match known.get(&me) {
                        Some(e) if *e != holder => return Err(Refusal::TempidConflict),
                        Some(_) => {}
                        None => {
                            known.insert(me.clone(), holder);
                            changed = true;
                        }
                    }
                }
                match holders.get(&(*a, v.clone())) {
                    Some(other) if *other != me => {
                        let (keep, gone) = (other.clone(), me);
                        for c in class.values_mut().filter(|c| **c == gone) {
                            *c = keep.clone();
                        }
                        if let Some(e) = known.remove(&gone) {
                            match known.get(&keep) {
                                Some(k) if *k != e => return Err(Refusal::TempidConflict),
                                _ => drop(known.insert(keep, e)),
                            }
                        }
                        changed = true;
                        break; // names moved: look again from the start
                    }
                    Some(_) => {}
                    None => drop(holders.insert((*a, v), me)),
                }
            }
            if !changed {
                break;
            }
        }
        self.name_classes(&class, known, ids, t)
    }

    /// Gives every class of tempids its entity: the known one, else the caller's.
    fn name_classes(
        &self,
        class: &BTreeMap<String, String>,
        mut known: BTreeMap<String, EntityId>,
        ids: &BTreeMap<String, EntityId>,
        t: T,
    ) -> Result<BTreeMap<String, EntityId>, Refusal> {
        let used: BTreeSet<EntityId> = self.log.iter().map(|d| d.e).collect();
        let mut fresh: BTreeSet<EntityId> = BTreeSet::new();
        let mut next =
            used.iter().filter(|e| e.partition() == Some(Partition::User)).map(|e| e.counter()).max();
        for (name, representative) in class {
            match (known.get(representative), ids.get(name)) {
                (Some(e), Some(given)) if e != given => {
                    return Err(Refusal::WrongId(format!("{name} is {e:?}, was given {given:?}")));
                }
                (Some(_), _) => {}
                (None, given) => {
                    let e = match given {
                        Some(e) => *e,
                        None => {
                            next = Some(next.unwrap_or(1 << 40) + 1 + t.0);
                            EntityId::new(Partition::User, next.expect("just set"))
                        }
                    };
                    if used.contains(&e) || !fresh.insert(e) {
                        return Err(Refusal::WrongId(format!("{name} is new, was given {e:?}")));
                    }
                    known.insert(representative.clone(), e);
                }
            }
        }
        Ok(class.iter().map(|(name, r)| (name.clone(), known[r])).collect())
    }

    // -- operations to datoms ---------------------------------------------------

    fn diff(&self, ops: &[Op], names: &BTreeMap<String, EntityId>, t: T) -> Result<Vec<Datom>, Refusal> {
        let who = |w: &Who| match w {
            Who::Id(e) => *e,
            Who::Temp(s) => names[s],
        };
        let what = |w: &What| match w {
            What::Value(v) => v.clone(),
            What::Who(w) => Value::Ref(who(w)),
        };
        let mut adds: BTreeSet<(EntityId, AttrId, Value)> = BTreeSet::new();
        let mut retracts: BTreeSet<(EntityId, AttrId, Value)> = BTreeSet::new();
        let mut gone: BTreeSet<EntityId> = BTreeSet::new();
        for op in ops {
            match op {
                Op::Add(e, a, v) => drop(adds.insert((who(e), *a, what(v)))),
                Op::Retract(e, a, Some(v)) => drop(retracts.insert((who(e), *a, what(v)))),
                Op::Retract(e, a, None) => {
                    let e = who(e);
                    retracts.extend(self.values(e, *a).into_iter().map(|v| (e, *a, v.clone())));
                }
                Op::RetractEntity(e) => self.retract_entity(who(e), &mut gone, &mut retracts),
                Op::Cas(e, a, old, new) => {
                    let e = who(e);
                    if self.is_many(*a)
                        || self.values(e, *a).first().copied() != old.as_ref().map(&what).as_ref()
                    {
                        return Err(Refusal::Cas);
                    }
                    adds.insert((e, *a, what(new)));
                }
            }
        }
        if adds.intersection(&retracts).next().is_some() {
            return Err(Refusal::Conflict);
        }
        for (e, a, v) in &adds {
            if !self.is_many(*a) {
                if adds.iter().any(|(e2, a2, v2)| (e2, a2) == (e, a) && v2 != v) {
                    return Err(Refusal::Conflict);
                }
                retracts.extend(
                    self.values(*e, *a).into_iter().filter(|old| *old != v).map(|old| (*e, *a, old.clone())),
                );
            }
        }
        // A transaction keeps its instant: it cannot be retracted, not even as a part of something.
        if gone.iter().any(|e| e.as_t().is_some_and(|t| t <= self.t)) {
            return Err(Refusal::Transaction);
        }
        let holds = |f: &(EntityId, AttrId, Value)| {
            self.facts.iter().any(|g| (&g.0, &g.1, &g.2) == (&f.0, &f.1, &f.2))
        };
        retracts.retain(&holds);
        adds.retain(|f| !holds(f));
        let datom = |added| move |(e, a, v): (EntityId, AttrId, Value)| Datom { e, a, v, t, added };
        let mut datoms: Vec<Datom> = retracts.into_iter().map(datom(false)).collect();
        datoms.extend(adds.into_iter().map(datom(true)));
        self.keep_composites(&mut datoms, t);
        Ok(datoms)
    }

    fn is_many(&self, a: AttrId) -> bool {
        self.schema.attribute(a).is_some_and(|a| a.is_many())
    }

    /// What an entity says, what points to it, and the same for its components.
    fn retract_entity(
        &self,
        e: EntityId,
        seen: &mut BTreeSet<EntityId>,
        retracts: &mut BTreeSet<(EntityId, AttrId, Value)>,
    ) {
        if !seen.insert(e) {
            return;
        }
        for (e2, a, v, _) in &self.facts {
            let attribute = self.schema.attribute(*a).expect("facts have installed attributes");
            if *e2 == e {
                retracts.insert((e, *a, v.clone()));
                if let (true, Value::Ref(child)) = (attribute.is_component, v) {
                    self.retract_entity(*child, seen, retracts);
                }
            } else if *v == Value::Ref(e) {
                retracts.insert((*e2, *a, v.clone()));
            }
        }
    }

    /// Adds what keeps composite tuples equal to their parts.
    fn keep_composites(&self, datoms: &mut Vec<Datom>, t: T) {
        let after = apply(&self.facts, datoms);
        let touched: BTreeSet<EntityId> = datoms.iter().map(|d| d.e).collect();
        for attribute in self.schema.attributes() {
            let Some(TupleKind::Composite(parts)) = &attribute.tuple else { continue };
            for e in &touched {
                let slot = |p: &AttrId| {
                    after.iter().find(|f| f.0 == *e && f.1 == *p).map_or(Value::Nil, |f| f.2.clone())
                };
                let slots: Vec<Value> = parts.iter().map(slot).collect();
                let new = slots.iter().any(|s| *s != Value::Nil).then(|| Value::vector(slots));
                let old = self.values(*e, attribute.id).first().map(|v| (*v).clone());
                if old == new {
                    continue;
                }
                // A retractEntity has already listed the old tuple.
                datoms.retain(|d| (d.e, d.a) != (*e, attribute.id));
                let datom = |v, added| Datom { e: *e, a: attribute.id, v, t, added };
                datoms.extend(old.map(|v| datom(v, false)));
                datoms.extend(new.map(|v| datom(v, true)));
            }
        }
    }

    fn check_unique(&self, after: &[Fact]) -> Result<(), Refusal> {
        let mut holders: BTreeMap<(AttrId, &Value), EntityId> = BTreeMap::new();
        for (e, a, v, _) in after {
            if self.schema.attribute(*a).is_some_and(|a| a.unique.is_some())
                && holders.insert((*a, v), *e).is_some_and(|other| other != *e)
            {
                return Err(Refusal::NotUnique);
            }
        }
        Ok(())
    }
}

/// `:a/_b` as `:a/b`.
fn forward_of(k: &Keyword) -> Option<Keyword> {
    k.name().strip_prefix('_').map(|name| Keyword::from_parts(k.namespace(), name))
}

fn mentions(op: &Op) -> Vec<&Who> {
    let mut all = Vec::new();
    match op {
        Op::Add(e, _, v) => {
            all.push(e);
            all.extend(who_of(v));
        }
        Op::Retract(e, _, v) => {
            all.push(e);
            all.extend(v.as_ref().and_then(who_of));
        }
        Op::RetractEntity(e) => all.push(e),
        Op::Cas(e, _, old, new) => {
            all.push(e);
            all.extend(old.as_ref().and_then(who_of));
            all.extend(who_of(new));
        }
    }
    all
}

fn who_of(v: &What) -> Option<&Who> {
    match v {
        What::Who(w) => Some(w),
        What::Value(_) => None,
    }
}

fn apply(facts: &[Fact], datoms: &[Datom]) -> Vec<Fact> {
    let mut after = facts.to_vec();
    for d in datoms.iter().filter(|d| !d.added) {
        after.retain(|f| (&f.0, &f.1, &f.2) != (&d.e, &d.a, &d.v));
    }
    after.extend(datoms.iter().filter(|d| d.added).map(|d| (d.e, d.a, d.v.clone(), d.t)));
    after
}
