//! Stage 2: which entity each tempid is.
//!
//! Union-find over tempids, run to a fixpoint: a tempid with a
//! `:db.unique/identity` value that an entity holds *is* that entity; two tempids
//! with the same identity value are one; learning what one tempid is may tell
//! what another is, when the identity value is a reference or a composite tuple
//! with a reference in it. Every round binds or merges at least one tempid, so
//! there are at most as many rounds as tempids.
//!
//! Not here: whether uniqueness holds in the end (`unique`).

use super::{
    Before,
    error::{Place, TransactError},
    op::{Ent, Expanded, Op, Res, Temp, Val},
};
use crate::{Counters, bootstrap as boot};
use annals_model::{AttrId, Attribute, EntityId, Keyword, Partition, TupleKind, Unique, Value};
use hashbrown::{HashMap, hash_map::Entry};
use std::sync::Arc;

/// What became of the tempids.
pub(crate) struct Resolved {
    ids: Vec<(EntityId, bool)>,
}

impl Resolved {
    /// The entity, and whether it is new.
    pub fn temp(&self, t: Temp) -> (EntityId, bool) {
        self.ids[t.0 as usize]
    }
    pub fn ent(&self, e: Ent) -> (EntityId, bool) {
        match e {
            Ent::Id(e) => (e, false),
            Ent::Temp(t) => self.temp(t),
        }
    }
    pub fn value(&self, v: Val) -> Value {
        match v {
            Val::Known(v) => v,
            Val::Temp(t) => Value::Ref(self.temp(t).0),
            Val::Tuple(slots) => Value::vector(slots.into_iter().map(|s| self.value(s))),
        }
    }
}

/// A value as far as it is known: tempids by their representative.
#[derive(PartialEq, Eq, Hash, Clone)]
enum Key {
    Value(Value),
    Root(u32),
    Tuple(Vec<Key>),
}

struct Classes<'a> {
    x: &'a Expanded,
    parent: Vec<u32>,
    /// Of representatives: the entity, and the attribute that told.
    bound: Vec<Option<(EntityId, Keyword)>>,
    changed: bool,
}

impl Classes<'_> {
    fn find(&mut self, mut t: u32) -> u32 {
        while self.parent[t as usize] != t {
            let up = self.parent[t as usize];
            self.parent[t as usize] = self.parent[up as usize];
            t = self.parent[t as usize];
        }
        t
    }

    fn bind(&mut self, t: u32, e: EntityId, by: &Attribute, form: u32) -> Res<()> {
        let root = self.find(t);
        match &self.bound[root as usize] {
            None => {
                self.bound[root as usize] = Some((e, by.ident.clone()));
                self.changed = true;
                Ok(())
            }
            Some((held, _)) if *held == e => Ok(()),
            Some((held, held_by)) => Err(TransactError::UpsertConflict {
                tempid: self.x.temps[t as usize].shown(),
                first: *held,
                first_by: held_by.clone(),
                second: e,
                second_by: by.ident.clone(),
                at: Place::form(form as usize).attr(&by.ident),
            }),
        }
    }

    fn union(&mut self, s: u32, t: u32, by: &Attribute, form: u32) -> Res<()> {
        let (s, t) = (self.find(s), self.find(t));
        if s == t {
            return Ok(());
        }
        if let Some((e, _)) = self.bound[t as usize].clone() {
            self.bind(s, e, by, form)?;
        }
        self.parent[t as usize] = s;
        self.changed = true;
        Ok(())
    }

    fn key(&mut self, v: &Val) -> Key {
        match v {
            Val::Known(v) => Key::Value(v.clone()),
            Val::Temp(t) => {
                let root = self.find(t.0);
                match &self.bound[root as usize] {
                    Some((e, _)) => Key::Value(Value::Ref(*e)),
                    None => Key::Root(root),
                }
            }
            Val::Tuple(slots) => {
                let keys: Vec<Key> = slots.iter().map(|s| self.key(s)).collect();
                Key::tuple(keys)
            }
        }
    }
}

impl Key {
    fn tuple(keys: Vec<Key>) -> Key {
        if keys.iter().all(|k| matches!(k, Key::Value(_))) {
            return Key::Value(Value::vector(keys.into_iter().map(|k| match k {
                Key::Value(v) => v,
                Key::Root(_) | Key::Tuple(_) => Value::Nil,
            })));
        }
        Key::Tuple(keys)
    }
}

/// An assertion that can identify a tempid.
struct Identity<'a> {
    temp: Temp,
    op: &'a Op,
}

/// Resolves every tempid to an entity, giving out new ids from `counters`.
pub(crate) fn resolve(before: &Before<'_>, x: &Expanded, counters: &mut Counters) -> Res<Resolved> {
    let n = x.temps.len();
    let mut classes = Classes { x, parent: (0..n as u32).collect(), bound: vec![None; n], changed: true };
    let identities: Vec<Identity<'_>> = x
        .ops
        .iter()
        .filter(|op| op.added && op.a.unique == Some(Unique::Identity))
        .filter_map(|op| match op.e {
            Ent::Temp(temp) => Some(Identity { temp, op }),
            Ent::Id(_) => None,
        })
        .collect();
    let composite = composite_parts(before, x);
    if !identities.is_empty() || !composite.is_empty() {
        fixpoint(before, &mut classes, &identities, &composite)?;
    }
    allocate(before, x, &mut classes, counters)
}

fn fixpoint(
    before: &Before<'_>,
    classes: &mut Classes<'_>,
    identities: &[Identity<'_>],
    composite: &[(Arc<Attribute>, Vec<&Op>)],
) -> Res<()> {
    // What the database before says does not change between rounds.
    let mut known: HashMap<(AttrId, Value), Option<EntityId>, foldhash::fast::RandomState> =
        HashMap::default();
    let mut holder = |a: &Arc<Attribute>, v: &Value| -> Res<Option<EntityId>> {
        match known.entry((a.id, v.clone())) {
            Entry::Occupied(found) => Ok(*found.get()),
            Entry::Vacant(slot) => Ok(*slot.insert(before.holder(a, v)?)),
        }
    };
    while classes.changed {
        classes.changed = false;
        let mut seen: HashMap<(AttrId, Key), u32, foldhash::fast::RandomState> = HashMap::default();
        for Identity { temp, op } in identities {
            let key = classes.key(&op.v);
            if let Key::Value(v) = &key
                && let Some(e) = holder(&op.a, v)?
            {
                classes.bind(temp.0, e, &op.a, op.form)?;
            }
            match seen.entry((op.a.id, key)) {
                Entry::Occupied(other) => {
                    let other = *other.get();
                    classes.union(other, temp.0, &op.a, op.form)?;
                }
                Entry::Vacant(slot) => {
                    slot.insert(temp.0);
                }
            }
        }
        for (a, ops) in composite {
            for (temp, key, form) in tuples(classes, a, ops) {
                if let Key::Value(v) = &key
                    && let Some(e) = holder(a, v)?
                {
                    classes.bind(temp, e, a, form)?;
                }
                match seen.entry((a.id, key)) {
                    Entry::Occupied(other) => {
                        let other = *other.get();
                        classes.union(other, temp, a, form)?;
                    }
                    Entry::Vacant(slot) => {
                        slot.insert(temp);
                    }
                }
            }
        }
        // Values of one round are keyed by representatives that a merge may have
        // replaced; another round sees the new ones.
    }
    Ok(())
}

/// Composite identity attributes with the assertions of their parts on tempids.
fn composite_parts<'x>(before: &Before<'_>, x: &'x Expanded) -> Vec<(Arc<Attribute>, Vec<&'x Op>)> {
    if before.info.composites.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<(Arc<Attribute>, Vec<&Op>)> = Vec::new();
    for op in x.ops.iter().filter(|op| op.added && matches!(op.e, Ent::Temp(_))) {
        for c in before.info.composites.get(&op.a.id).into_iter().flatten() {
            if c.unique != Some(Unique::Identity) {
                continue;
            }
            match found.iter_mut().find(|(a, _)| a.id == c.id) {
                Some((_, ops)) => ops.push(op),
                None => found.push((c.clone(), vec![op])),
            }
        }
    }
    found
}

/// The tuple of each tempid that asserts all parts. (With a part missing, two
/// new entities are not told to be one: that is an error for uniqueness to find.)
fn tuples(classes: &mut Classes<'_>, a: &Attribute, ops: &[&Op]) -> Vec<(u32, Key, u32)> {
    let Some(TupleKind::Composite(parts)) = &a.tuple else { return Vec::new() };
    let mut by_root: Vec<(u32, Vec<Option<Key>>, u32)> = Vec::new();
    for op in ops {
        let Ent::Temp(t) = op.e else { continue };
        let root = classes.find(t.0);
        let key = classes.key(&op.v);
        let Some(slot) = parts.iter().position(|p| *p == op.a.id) else { continue };
        match by_root.iter_mut().find(|(r, _, _)| *r == root) {
            Some((_, slots, _)) => slots[slot] = Some(key),
            None => {
                let mut slots = vec![None; parts.len()];
                slots[slot] = Some(key);
                by_root.push((root, slots, op.form));
            }
        }
    }
    by_root
        .into_iter()
        .filter_map(|(root, slots, form)| {
            let keys: Option<Vec<Key>> = slots.into_iter().collect();
            keys.map(|k| (root, Key::tuple(k), form))
        })
        .collect()
}

fn allocate(
    before: &Before<'_>,
    x: &Expanded,
    classes: &mut Classes<'_>,
    counters: &mut Counters,
) -> Res<Resolved> {
    let n = x.temps.len();
    let mut is_entity = vec![false; n];
    let mut is_attribute = vec![false; n];
    // The first form that names a tempid as a value, or retracts something of it.
    let mut named_by: Vec<Option<u32>> = vec![None; n];
    for (i, info) in x.temps.iter().enumerate() {
        let root = classes.find(i as u32) as usize;
        is_entity[root] |= info.is_entity;
    }
    for op in &x.ops {
        if let Ent::Temp(t) = op.e
            && op.added
            && op.a.id == boot::VALUE_TYPE
        {
            let root = classes.find(t.0) as usize;
            is_attribute[root] = true;
        }
        if let Ent::Temp(t) = op.e {
            mark(classes, &Val::Temp(t), op.form, &mut named_by);
        }
        mark(classes, &op.v, op.form, &mut named_by);
    }
    let mut ids: Vec<Option<(EntityId, bool)>> = vec![None; n];
    let mut resolved = Vec::with_capacity(n);
    for i in 0..n {
        let root = classes.find(i as u32) as usize;
        let id = match (ids[root], &classes.bound[root]) {
            (Some(id), _) => id,
            (None, Some((e, _))) => (*e, false),
            (None, None) => {
                if let (false, Some(form)) = (is_entity[root], named_by[root]) {
                    return Err(TransactError::TempidOnlyValue {
                        tempid: x.temps[i].shown(),
                        at: Place::form(form as usize),
                    });
                }
                (counters.next(before, is_attribute[root]), true)
            }
        };
        ids[root] = Some(id);
        resolved.push(id);
    }
    Ok(Resolved { ids: resolved })
}

fn mark(classes: &mut Classes<'_>, v: &Val, form: u32, named_by: &mut [Option<u32>]) {
    match v {
        Val::Known(_) => {}
        Val::Temp(t) => {
            let root = classes.find(t.0) as usize;
            named_by[root].get_or_insert(form);
        }
        Val::Tuple(slots) => slots.iter().for_each(|s| mark(classes, s, form, named_by)),
    }
}

impl Counters {
    fn next(&mut self, _before: &Before<'_>, attribute: bool) -> EntityId {
        let (partition, counter) = match attribute {
            true => (Partition::Db, &mut self.attr),
            false => (Partition::User, &mut self.user),
        };
        let e = EntityId::new(partition, *counter);
        *counter += 1;
        e
    }
}
