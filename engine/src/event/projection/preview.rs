//! What a changed projection would say: run over all events in memory, and compared with
//! what the live version says, before anything is committed.
//!
//! 1. Nothing is written: no attribute is installed, no entity made, no key of the database moves.
//! 2. Two versions make entities of their own. Facts are compared under names that do not
//!    depend on ids: the identity an entity has, else the transaction that first said
//!    something of it and its number among those.
//! 3. It is run within bounds: whoever asked may go away, and the facts held at one moment are counted
//!    ([`PreviewOptions`]); both are looked at after each transaction's events and every thousand
//!    facts.
//! 4. An event that cannot be taken is listed, and later ones of its stream with it, whatever
//!    the policy: a preview shows all that is wrong at once.

use crate::event::{
    batch::{Aside, Parked, Taken, take_group},
    facts::{Binding, Cache, Target, is_identity},
    id::Position,
    inline::Staged,
    language::BATCH,
    projection::ProjectionSpec,
    projection_error::ProjectionError,
    register::{attribute_forms, names_beside},
    runtime::{ProjectionState, Runtime},
};
use crate::{Connection, Db, DbError, store::Prefix, transact::speculate};
use annals_model::{AttrId, Attribute, Datom, EntityId, Keyword, T, Value, View, tx::TxData};
use annals_query::budget::Cancel;
use hashbrown::{HashMap, HashSet};
use std::{cell::Cell, collections::BTreeSet, ops::ControlFlow, sync::Arc};

/// Within what bounds a preview runs.
#[derive(Clone, Debug)]
pub struct PreviewOptions {
    /// Stops it from another thread.
    pub cancel: Cancel,
    /// Facts that it may hold of each version, and events that it may list as refused: some 100 to
    /// 200 bytes each.
    pub max_facts: u64,
}

impl Default for PreviewOptions {
    /// Nobody stops it; ten million facts.
    fn default() -> PreviewOptions {
        PreviewOptions { cancel: Cancel::new(), max_facts: 10_000_000 }
    }
}

impl PreviewOptions {
    /// May it go on, holding so many facts?
    fn check(&self, held: usize) -> Result<(), ProjectionError> {
        if self.cancel.is_cancelled() {
            return Err(ProjectionError::Cancelled);
        }
        match held as u64 > self.max_facts {
            true => Err(ProjectionError::TooLarge { max_facts: self.max_facts }),
            false => Ok(()),
        }
    }
}

/// Facts between two looks at the bounds.
const LOOK: usize = 1_024;

/// A fact that one of two versions says, without the ids that only it uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PreviewFact {
    /// The entity: a lookup ref `[:order/id "A-1"]`, `[:db/id "t12.1"]` for the first of those
    /// without identity that transaction 12 said something of, or the entity itself when it is
    /// not the projection's.
    pub entity: Value,
    /// The attribute, by the author's name.
    pub attr: Keyword,
    /// The value; entities of the projection are named as in `entity`.
    pub value: Value,
}

/// How the facts of a changed projection differ from those of the live version, as of now.
#[derive(Clone, Debug, PartialEq)]
pub struct FactDiff {
    /// The projection.
    pub name: Keyword,
    /// The version that answers now; none when there is none.
    pub live: Option<u32>,
    /// Events looked at.
    pub events: u64,
    /// Facts that only the changed definition says.
    pub added: Vec<PreviewFact>,
    /// Facts that only the live version says.
    pub removed: Vec<PreviewFact>,
    /// Facts that both say.
    pub same: u64,
    /// Events that the changed definition cannot take.
    pub refused: Vec<Parked>,
}

impl Connection {
    /// Runs a definition over all events in memory and compares its facts with those of the version
    /// that answers. Nothing is written; register it to make it so.
    ///
    /// ```
    /// use annals::event::{Append, ProjectionSpec};
    /// let conn = annals::in_memory()?;
    /// let orders = r#"
    /// {:projection/name :orders, :projection/version 1
    ///  :projection/schema [{:db/ident :order/id :db/valueType :db.type/string
    ///                       :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
    ///                      {:db/ident :order/total :db/valueType :db.type/long
    ///                       :db/cardinality :db.cardinality/one}]
    ///  :projection/on [{:event "OrderPlaced" :assert [{:order/id $stream.key :order/total $data.total}]}]}"#;
    /// conn.add_projection(orders)?;
    /// conn.append(Append::to("order-A-1").event("OrderPlaced", r#"{"total": 12}"#)?)?;
    /// let changed = orders.replace("$data.total", "(* 100 $data.total)");
    /// let spec = ProjectionSpec::edn(&changed).map_err(annals::event::ProjectionError::Malformed)?;
    /// let diff = conn.preview_projection(spec)?;
    /// assert_eq!(diff.added[0].value, annals::Value::Long(1200));
    /// assert_eq!(diff.removed[0].value, annals::Value::Long(12));
    /// assert_eq!(diff.same, 1); // :order/id
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `projection/owned` when an attribute belongs to somebody else, what its schema may be refused
    /// with; or the database could not be read.
    pub fn preview_projection(&self, spec: ProjectionSpec) -> Result<FactDiff, ProjectionError> {
        self.preview_projection_with(spec, &PreviewOptions::default())
    }

    /// As [`Connection::preview_projection`], within bounds of the caller's.
    ///
    /// ```
    /// use annals::event::{Append, PreviewOptions, ProjectionError, ProjectionSpec};
    /// let conn = annals::in_memory()?;
    /// conn.append(Append::to("order-1").event("Placed", "{}")?)?;
    /// conn.append(Append::to("order-2").event("Placed", "{}")?)?;
    /// let spec = ProjectionSpec::edn(r#"
    /// {:projection/name :orders, :projection/version 1
    ///  :projection/schema [{:db/ident :order/id :db/valueType :db.type/string
    ///                       :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}]
    ///  :projection/on [{:event "Placed" :assert [{:order/id $stream.key}]}]}"#);
    /// let few = PreviewOptions { max_facts: 1, ..Default::default() };
    /// let refused = conn.preview_projection_with(spec.map_err(ProjectionError::Malformed)?, &few);
    /// assert_eq!(refused.unwrap_err().code(), "projection/too-large");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As there; `projection/cancelled` when somebody raised the flag, `projection/too-large` when there
    /// are more facts than it may hold.
    pub fn preview_projection_with(
        &self,
        spec: ProjectionSpec,
        options: &PreviewOptions,
    ) -> Result<FactDiff, ProjectionError> {
        let events = self.shared().events().clone();
        let db = self.db();
        let all = events.runtimes();
        let same_name = || all.iter().filter(|r| r.name == spec.name);
        let live = same_name().filter(|r| r.state().serves()).max_by_key(|r| r.version).cloned();
        let number = same_name().map(|r| r.version + 1).max().unwrap_or(1).max(spec.version);
        let beside = same_name().any(|r| r.state() != ProjectionState::Dropped);
        let names = names_beside(&db, &events, &spec, number, beside)?;
        let forms = TxData { forms: attribute_forms(&spec, &names), text: None };
        let (installed, _) = speculate(&db, &forms)?;
        let attrs: Vec<(Keyword, Arc<Attribute>)> = names
            .into_iter()
            .filter_map(|(name, by)| installed.schema().attribute_named(&by).map(|a| (name, a.clone())))
            .collect();

        let said = run(&events, &db, &spec, &attrs, options)?;
        let mut refused = said.refused;
        refused.sort_by_key(|p| p.position);
        let own = |e: EntityId| Ok(e.counter() < said.counter);
        let after = Named::new(&attrs, said.facts, said.first, own, options)?;
        let before = match &live {
            Some(live) => facts_of(&db, live, options)?,
            None => BTreeSet::new(),
        };
        Ok(FactDiff {
            name: spec.name.clone(),
            live: live.map(|r| r.version),
            events: said.events,
            added: after.difference(&before).cloned().collect(),
            removed: before.difference(&after).cloned().collect(),
            same: after.intersection(&before).count() as u64,
            refused,
        })
    }
}

/// What a definition says of all events.
struct Said {
    facts: Vec<(EntityId, AttrId, Value)>,
    /// When something was first said of an entity.
    first: HashMap<EntityId, T>,
    /// Entities from this counter on are its own.
    counter: u64,
    events: u64,
    refused: Vec<Parked>,
}

fn run(
    events: &crate::event::registry::Events,
    db: &Db,
    spec: &ProjectionSpec,
    attrs: &[(Keyword, Arc<Attribute>)],
    options: &PreviewOptions,
) -> Result<Said, ProjectionError> {
    let binding = Binding::new(attrs.iter().cloned());
    let schema = db.schema().clone();
    let counter = db.counters().user;
    let staged = Staged { snap: db.snapshot(), view: View::NOW, next: Cell::new(counter) };
    let mut cache = Cache::of_new_projection();
    let skipped = events.skipped(&spec.name);
    let mut aside = Aside::default();
    let mut refused = Vec::new();
    let mut first: HashMap<EntityId, T> = HashMap::new();
    let log = db.events();
    let (mut after, head) = (Position::ZERO, log.head()?);
    while after < head {
        let (batch, upto): (Vec<Taken>, _) = events.complete_batch(&log, after, BATCH)?;
        for group in batch.chunk_by(|a, b| a.stored.t == b.stored.t) {
            options.check(cache.entries() + refused.len())?;
            let refused_before = refused.len();
            loop {
                let mut target = Target::new(&staged, &binding, &schema, &mut cache, group[0].shared);
                match take_group(&spec.code, group, &mut target, &skipped, &aside, &mut refused) {
                    Ok(()) => {
                        let mut datoms = Vec::new();
                        target.finish(group[0].stored.t, &mut datoms, &mut Vec::new());
                        for d in datoms.iter().filter(|d| d.added) {
                            first.entry(d.e).or_insert(d.t);
                        }
                        break;
                    }
                    Err(poison) => {
                        target.abandon();
                        refused.truncate(refused_before);
                        aside.set(poison);
                    }
                }
            }
        }
        after = upto;
    }
    let facts: Vec<_> = cache.facts().map(|(e, a, v)| (e, a, v.clone())).collect();
    options.check(facts.len())?;
    Ok(Said { facts, first, counter, events: head.0, refused })
}

/// What a version says now.
fn facts_of(
    db: &Db,
    r: &Runtime,
    options: &PreviewOptions,
) -> Result<BTreeSet<PreviewFact>, ProjectionError> {
    let schema = db.schema();
    let attrs: Vec<(Keyword, Arc<Attribute>)> =
        r.attrs.iter().filter_map(|(name, a)| Some((name.clone(), schema.attribute(*a)?.clone()))).collect();
    let own: HashSet<AttrId> = attrs.iter().map(|(_, a)| a.id).collect();
    let mut facts = Vec::new();
    let mut first: HashMap<EntityId, T> = HashMap::new();
    let each = |view: View, a: AttrId, take: &mut dyn FnMut(Datom) -> usize| {
        let (mut looked, mut may) = (0, Ok(()));
        let visited = db.snapshot().scan(view, &Prefix::A(a), &mut |d| {
            let held = take(d);
            looked += 1;
            if looked % LOOK == 0 {
                may = options.check(held);
            }
            if may.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        visited.map_err(DbError::from)?;
        may
    };
    for (_, a) in &attrs {
        each(View::NOW, a.id, &mut |d| {
            facts.push((d.e, d.a, d.v));
            facts.len()
        })?;
        options.check(facts.len())?;
        each(View { history: true, ..View::NOW }, a.id, &mut |d| {
            if d.added {
                let t = first.entry(d.e).or_insert(d.t);
                *t = d.t.min(*t);
            }
            0
        })?;
    }
    // An entity that others say something of is not the projection's own.
    let foreign = |e: EntityId| -> Result<bool, DbError> {
        Ok(e.as_t().is_some()
            || Position::of_entity(e).is_some()
            || db.snapshot().datoms(View::NOW, &Prefix::E(e))?.iter().any(|d: &Datom| !own.contains(&d.a)))
    };
    Named::new(&attrs, facts, first, foreign, options)
}

/// Facts under names that do not depend on ids.
struct Named<'a> {
    attrs: HashMap<AttrId, &'a (Keyword, Arc<Attribute>)>,
    names: HashMap<EntityId, Value>,
}

impl Named<'_> {
    #[expect(clippy::new_ret_no_self, reason = "the names are only needed to make the facts")]
    fn new(
        attrs: &[(Keyword, Arc<Attribute>)],
        facts: Vec<(EntityId, AttrId, Value)>,
        first: HashMap<EntityId, T>,
        foreign: impl Fn(EntityId) -> Result<bool, DbError>,
        options: &PreviewOptions,
    ) -> Result<BTreeSet<PreviewFact>, ProjectionError> {
        let by_id = attrs.iter().map(|pair| (pair.1.id, pair)).collect();
        let mut named = Named { attrs: by_id, names: HashMap::new() };
        // Identities in the order they are declared in; one that points to another entity is none.
        for (name, a) in attrs.iter().filter(|(_, a)| is_identity(a) && !a.is_ref()) {
            for (e, _, v) in facts.iter().filter(|f| f.1 == a.id) {
                let label = || Value::vector([Value::Keyword(name.clone()), v.clone()]);
                named.names.entry(*e).or_insert_with(label);
            }
        }
        let mut nameless: Vec<(T, EntityId)> = Vec::new();
        let mut seen = HashSet::new();
        for (i, (e, _, _)) in facts.iter().enumerate() {
            if i % LOOK == 0 {
                options.check(0)?;
            }
            if seen.insert(*e) && !named.names.contains_key(e) && !foreign(*e)? {
                nameless.push((first.get(e).copied().unwrap_or_default(), *e));
            }
        }
        nameless.sort_unstable();
        for group in nameless.chunk_by(|a, b| a.0 == b.0) {
            for (i, (t, e)) in group.iter().enumerate() {
                let label = Value::string(format!("t{}.{}", t.0, i + 1));
                named.names.insert(*e, Value::vector([Value::keyword("db/id"), label]));
            }
        }
        Ok(facts.into_iter().filter_map(|(e, a, v)| named.fact(e, a, v)).collect())
    }

    fn fact(&self, e: EntityId, a: AttrId, v: Value) -> Option<PreviewFact> {
        let value = match v {
            Value::Ref(to) => self.name(to),
            v => v,
        };
        Some(PreviewFact { entity: self.name(e), attr: self.attrs.get(&a)?.0.clone(), value })
    }

    fn name(&self, e: EntityId) -> Value {
        self.names.get(&e).cloned().unwrap_or(Value::Ref(e))
    }
}
