//! State-stored aggregates: the same rules, and no events kept. What is stored is the
//! state, as facts of one entity; its version is the t that changed it last.
//!
//! 1. A field of the state is the attribute `:CATEGORY/field`; `None` is no fact, a list
//!    is the values of an attribute of cardinality many. The schema is the caller's.
//! 2. Only what changed is asserted and retracted, so as-of and history of the entity
//!    are those of the state.
//! 3. A save is held to the facts that were read ([`crate::event::Reads`]): a state changed
//!    meanwhile is a conflict, and the decision is made again.
//!    Held to a version (`if_version`), the command is refused when that is another, and decided
//!    again when only facts of others on the entity changed.
//! 4. Who wants to know what happened listens to transactions ([`Connection::listen`]).

use crate::event::{
    aggregate::{Aggregate, LoadError, Loaded, apply, stream_of},
    append::Append,
    command::{CommandTo, Dispatch},
    data::DataError,
    dispatch::{Dispatched, Extra, Request, carry_out, guarded},
    dispatch_error::DispatchError,
    id::Version,
    wire,
};
use crate::{Connection, Db, DbError, Index};
use annals_model::{Attribute, Instant, Keyword, T, Value, ValueType, tx::TxData};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, marker::PhantomData};

/// An aggregate whose state can be facts of one entity.
///
/// ```
/// # use annals::event::{Aggregate, Decide, Event};
/// use annals::event::{Dispatch, StateStored};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Default, Serialize, Deserialize)]
/// struct Counter { count: i64 }
/// # #[derive(Clone, Serialize, Deserialize)]
/// # enum Count { Up }
/// # #[derive(Serialize, Deserialize)]
/// # enum Counted { Counted }
/// # impl Event for Counted { const TYPES: &'static [(&'static str, u32)] = &[("Counted", 1)]; }
/// # #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
/// # #[error("never")]
/// # struct Never;
/// # impl Aggregate for Counter {
/// #     const CATEGORY: &'static str = "counter";
/// #     type Command = Count; type Event = Counted; type Error = Never;
/// #     fn apply(&mut self, _: &Counted) { self.count += 1; }
/// #     fn handle(&self, _: Count, _: &Decide) -> Result<Vec<Counted>, Never> { Ok(vec![Counted::Counted]) }
/// # }
/// impl StateStored for Counter {
///     const KEY: &'static str = "counter/id";
/// }
/// let conn = annals::in_memory()?;
/// conn.transact("[{:db/ident :counter/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
///                 {:db/ident :counter/count :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]")?;
/// let counters = conn.state_repository::<Counter>();
/// let done = counters.dispatch("visits", Count::Up, Dispatch::new())?;
/// counters.dispatch("visits", Count::Up, Dispatch::new())?;
/// assert_eq!(counters.load("visits")?.state.count, 2);
/// assert_eq!(counters.load_in(&conn.db().as_of(done.appended.t), "visits")?.state.count, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait StateStored: Aggregate + Serialize + DeserializeOwned {
    /// The attribute that holds the id: of type string, unique, of identity.
    const KEY: &'static str;
}

/// Aggregates of one kind whose states are facts.
pub struct StateRepository<A: StateStored> {
    conn: Connection,
    kind: PhantomData<fn() -> A>,
}

impl Connection {
    /// The aggregates of one kind, stored as their states. See [`StateStored`] for an example.
    pub fn state_repository<A: StateStored>(&self) -> StateRepository<A> {
        StateRepository { conn: self.clone(), kind: PhantomData }
    }
}

type Fields = BTreeMap<String, Value>;

impl<A: StateStored> StateRepository<A> {
    /// The aggregate now. One that is not there is its default at version 0.
    ///
    /// # Errors
    /// A state that the facts do not fit, an attribute that is not installed.
    pub fn load(&self, id: &str) -> Result<Loaded<A>, LoadError> {
        self.load_in(&self.conn.db(), id)
    }

    /// The aggregate in a database value, as-of included.
    pub fn load_in(&self, db: &Db, id: &str) -> Result<Loaded<A>, LoadError> {
        let stream = stream_of::<A>(id)?;
        let unfit = |why: String| LoadError::State { stream: stream.clone(), why };
        let mut fields = fields(&A::default()).map_err(|e| unfit(e.to_string()))?;
        let mut version = Version::ZERO;
        if let Some(e) = db.resolve((A::KEY, id))? {
            let mut held: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for d in db.datoms(Index::Eavt, &[Value::Ref(e)])? {
                let Some(attr) = db.schema().attribute(d.a) else { continue };
                if attr.ident.namespace() == Some(A::CATEGORY) {
                    held.entry(attr.ident.name().to_owned()).or_default().push(d.v);
                }
            }
            for (name, default) in &mut fields {
                match (held.remove(name), &*default) {
                    (Some(all), Value::Vector(_)) => *default = Value::vector(all),
                    (Some(mut one), _) => *default = one.pop().unwrap_or(Value::Nil),
                    (None, Value::Vector(_)) => *default = Value::vector([]),
                    (None, _) => {}
                }
            }
            // What others say of the entity under names of their own is no change of this state.
            let key = db.attribute(A::KEY)?.id;
            for d in db.history().datoms(Index::Eavt, &[Value::Ref(e)])? {
                let own = |a: &Attribute| a.ident.namespace() == Some(A::CATEGORY);
                if d.a == key || db.schema().attribute(d.a).is_some_and(|a| own(a)) {
                    version = version.max(Version(d.t.0));
                }
            }
        }
        let map = Value::map(fields.into_iter().map(|(name, v)| (Value::keyword(&name), v)));
        let state = wire::from_value(&map).map_err(|e| unfit(e.0))?;
        Ok(Loaded { state, version, t: db.t(), stream, from_snapshot: Version::ZERO })
    }

    /// Carries out a command and saves the state. The version is the t that changed it.
    ///
    /// # Errors
    /// As for [`crate::event::Repository::dispatch`]; and what transacting facts may answer.
    pub fn dispatch(
        &self,
        id: &str,
        command: A::Command,
        dispatch: Dispatch,
    ) -> Result<Dispatched, DispatchError<A::Error>> {
        let mut attempts = 0;
        loop {
            let done = self.attempt(id, command.clone(), &dispatch);
            let (Some(expected), Err(DispatchError::Append(last))) = (dispatch.if_version, &done) else {
                return done;
            };
            if !last.is_conflict() {
                return done;
            }
            // Somebody was faster. Is it another version, or something else that was read?
            let loaded = self.load(id)?;
            if loaded.version != expected {
                let (stream, actual) = (loaded.stream, loaded.version);
                return Err(DispatchError::WrongVersion { stream, expected, actual });
            }
            attempts += 1;
            if attempts > dispatch.retry.0 {
                return Err(DispatchError::TooManyConflicts { attempts, last: Box::new(last.clone()) });
            }
        }
    }

    fn attempt(
        &self,
        id: &str,
        command: A::Command,
        dispatch: &Dispatch,
    ) -> Result<Dispatched, DispatchError<A::Error>> {
        let to = CommandTo::new::<A>(id, &command)?;
        let digest = to.digest(dispatch.if_version)?;
        let request = Request { dispatch, digest, area: A::CATEGORY, extra: Extra::default() };
        let mut done = carry_out(&self.conn, &request, &mut |db, cx| {
            let loaded = self.load_in(db, id)?;
            if let Some(expected) = dispatch.if_version.filter(|v| *v != loaded.version) {
                let (stream, actual) = (loaded.stream, loaded.version);
                return Err(DispatchError::WrongVersion { stream, expected, actual });
            }
            // What the state was made of must still be so at the commit.
            let key = db.attribute(A::KEY)?.ident.clone();
            let all = format!("[:find ?a ?v ?t :in $ ?id :where [?e {key} ?id] [?e ?a ?v ?t]]");
            cx.db.query(&all, (id,));
            let about = || (loaded.stream.to_string(), to.ty.clone());
            let events = match guarded(about, || loaded.state.handle(command.clone(), cx))? {
                Ok(events) => events,
                Err(refused) => return Ok(Err(refused)),
            };
            if events.is_empty() {
                return Ok(Ok(Append::new()));
            }
            let before = fields(&loaded.state)?;
            let mut state = loaded.state;
            for e in &events {
                state = apply(state, e).map_err(|message| DispatchError::Panicked {
                    about: loaded.stream.to_string(),
                    command: "apply".into(),
                    message,
                })?;
            }
            let stored = loaded.version != Version::ZERO;
            Ok(Ok(Append::new().facts(changes(db, &key, id, stored, &before, &fields(&state)?)?)))
        })?;
        if done.appended.t > T::GENESIS {
            done.version = Version(done.appended.t.0);
        }
        Ok(done)
    }
}

/// The fields of a state.
fn fields<A: StateStored>(state: &A) -> Result<Fields, DataError> {
    match wire::to_value(state).map_err(|e| DataError::Serialize(e.0))? {
        Value::Map(entries) => Ok(entries
            .iter()
            .filter_map(|(k, v)| match k {
                Value::Keyword(k) => Some((k.as_str().to_owned(), v.clone())),
                _ => None,
            })
            .collect()),
        other => Err(DataError::Serialize(format!("a state is a struct with fields, got {}", other.kind()))),
    }
}

/// The facts that bring an entity from one state to another.
fn changes(
    db: &Db,
    key: &Keyword,
    id: &str,
    stored: bool,
    before: &Fields,
    after: &Fields,
) -> Result<TxData, DbError> {
    let mut map = vec![(Value::Keyword(key.clone()), Value::string(id))];
    let mut forms = Vec::new();
    let lookup = Value::vector([Value::Keyword(key.clone()), Value::string(id)]);
    let ns = key.namespace().unwrap_or_default();
    for (field, new) in after {
        let old = before.get(field).filter(|_| stored);
        if old == Some(new) {
            continue;
        }
        let attr = db.attribute(format!("{ns}/{field}"))?;
        let ident = Value::Keyword(attr.ident.clone());
        let values = |v: &Value| -> Vec<Value> {
            match v {
                Value::Nil => Vec::new(),
                Value::Vector(items) => items.iter().map(|v| typed(attr, v)).collect(),
                one => vec![typed(attr, one)],
            }
        };
        let (old, new) = (old.map(&values).unwrap_or_default(), values(new));
        let gone = old.iter().filter(|v| !new.contains(v) && (attr.is_many() || new.is_empty()));
        for v in gone {
            let retract = Value::keyword("db/retract");
            forms.push(Value::vector([retract, lookup.clone(), ident.clone(), v.clone()]));
        }
        let came: Vec<Value> = new.into_iter().filter(|v| !old.contains(v)).collect();
        match (attr.is_many(), came.is_empty()) {
            (_, true) => {}
            (true, false) => map.push((ident, Value::vector(came))),
            (false, false) => map.extend(came.into_iter().map(|v| (ident.clone(), v))),
        }
    }
    forms.push(Value::map(map));
    Ok(TxData { forms, text: None })
}

/// A field's value in the type of its attribute: text where JSON has nothing better.
fn typed(attr: &Attribute, v: &Value) -> Value {
    let text = match v {
        Value::String(s) => s,
        other => return other.clone(),
    };
    let made = match attr.value_type {
        ValueType::Keyword => Some(Value::keyword(text.strip_prefix(':').unwrap_or(text))),
        ValueType::Uuid => uuid::Uuid::parse_str(text).ok().map(Value::Uuid),
        ValueType::Instant => Instant::parse(text).map(Value::Instant),
        _ => None,
    };
    // What does not fit is refused by the transaction, with the attribute named.
    made.unwrap_or_else(|| v.clone())
}
