//! Decisions: what a rule may read, and the conditions that follow from its reading.
//!
//! 1. Everything is read from one database value; its basis is the head, not the
//!    last event that matched, so nothing that came between can be missed.
//! 2. Each query read through [`Decide::db`] becomes one condition of the append
//!    ([`Guard::Same`]), judged inside the commit; the same query read twice is one.
//! 3. What the decision writes itself does not break its conditions: they are judged
//!    before anything of the append is there.
//! 4. A read that fails makes the dispatch fail, whatever the rule answers.
//! 5. Ids made by a rule derive from the command's: a retry makes the same ones.

use crate::event::{
    append::{Append, AppendError, Expected, Guard, Item, StreamWrite},
    command::{CommandTo, Dispatch},
    dispatch::{Dispatched, Extra, Request, carry_out, command_event, event_meta, guarded},
    dispatch_error::DispatchError,
    event_type::{self, Event},
    id::{CommandId, Position, StreamId},
    log::EventLog,
    record::Recorded,
    wire, wire_name,
};
use crate::{Connection, Db, DbError, Eid, Input, IntoInputs};
use annals_model::{Instant, Value};
use annals_query::{
    error::QueryError,
    rows::{Answer, Rows, Shape, Stats},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};
use uuid::Uuid;

/// A rule over whatever it needs to read, with no aggregate of its own: the dynamic
/// consistency boundary. What it reads through [`Decide::db`] is its boundary.
///
/// ```
/// use annals::event::{Decide, Decision, Dispatch, Event};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum Accounts {
///     Registered { name: String },
/// }
/// impl Event for Accounts {
///     const TYPES: &'static [(&'static str, u32)] = &[("Registered", 1)];
///     fn tags(&self) -> Vec<String> {
///         let Accounts::Registered { name } = self;
///         vec![format!("username:{name}")]
///     }
/// }
/// #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
/// #[error("the name is taken")]
/// struct Taken;
/// #[derive(Serialize)]
/// struct Register { user: String, name: String }
/// impl Decision for Register {
///     const NAME: &'static str = "accounts";
///     type Event = Accounts;
///     type Error = Taken;
///     fn decide(&self, cx: &Decide) -> Result<Vec<(String, Accounts)>, Taken> {
///         let taken = "[:find ?e :in $ ?tag :where [?e :event/tag ?tag]]";
///         if cx.db.count(taken, (format!("username:{}", self.name),)) > 0 {
///             return Err(Taken);
///         }
///         Ok(vec![(format!("user-{}", self.user), Accounts::Registered { name: self.name.clone() })])
///     }
/// }
///
/// let conn = annals::in_memory()?;
/// let ada = |user: &str| Register { user: user.into(), name: "ada".into() };
/// conn.decide(&ada("1"), Dispatch::new())?;
/// assert_eq!(conn.decide(&ada("2"), Dispatch::new()).unwrap_err().code(), "accounts/taken");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Decision: Serialize {
    /// What the codes of its refusals begin with, and what its events' metadata names.
    /// Written to disk: never change it.
    const NAME: &'static str;
    /// What it makes happen.
    type Event: Event;
    /// Why it refuses. A type that is no enum has the code `NAME/its-name`.
    type Error: std::error::Error + Serialize + DeserializeOwned + 'static;

    /// Decides: events, each with the name of its stream. None: there is nothing to do.
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Self::Event)>, Self::Error>;
}

impl Connection {
    /// Carries out a decision: runs its rule, and appends what it decides if all that it
    /// read is still so at the commit; if not, the rule is run again on fresh data.
    ///
    /// `if_version` holds the first stream it writes to a version.
    ///
    /// # Errors
    /// As for [`crate::event::Repository::dispatch`].
    pub fn decide<D: Decision>(
        &self,
        decision: &D,
        dispatch: Dispatch,
    ) -> Result<Dispatched, DispatchError<D::Error>> {
        event_type::check::<D::Event>()?;
        let payload = wire::to_value(decision).map_err(|e| crate::event::data::DataError::Serialize(e.0))?;
        let ty = wire_name::of_struct(decision).map_or_else(wire::type_name::<D>, str::to_owned);
        let to = CommandTo { category: D::NAME.to_owned(), id: String::new(), ty, payload };
        let meta = event_meta(&dispatch, D::NAME, &to.ty);
        let digest = to.digest(dispatch.if_version)?;
        let request = Request { dispatch: &dispatch, digest, area: D::NAME, extra: Extra::default() };
        carry_out(self, &request, &mut |_, cx| {
            let about = || (D::NAME.to_owned(), to.ty.clone());
            let events = match guarded(about, || decision.decide(cx))? {
                Ok(events) => events,
                Err(refused) => return Ok(Err(refused)),
            };
            let mut writes: Vec<StreamWrite> = Vec::new();
            for (n, (stream, e)) in events.iter().enumerate() {
                let stream = StreamId::new(stream).map_err(AppendError::from)?;
                let event = command_event(&dispatch, &meta, n as u64, e)?;
                match writes.iter_mut().find(|w| w.stream == stream) {
                    Some(w) => w.events.push(event),
                    None => writes.push(StreamWrite { stream, expected: Expected::Any, events: vec![event] }),
                }
            }
            if let (Some(first), Some(v)) = (writes.first_mut(), dispatch.if_version) {
                first.expected = Expected::Exact(v);
            }
            Ok(Ok(writes.into_iter().fold(Append::new(), Append::write)))
        })
    }
}

/// A query as a decision read it: its text, its inputs, and the digest of its rows.
#[derive(Clone, Debug)]
pub struct ReadQuery {
    query: Arc<str>,
    inputs: Vec<Input>,
    digest: [u8; 32],
}

impl ReadQuery {
    /// Has it the same rows in this database?
    pub(crate) fn holds(&self, db: &Db) -> Result<bool, String> {
        let limits = crate::event::guard_options();
        let answer = db.query_with(&*self.query, self.inputs.clone(), &limits).map_err(|e| e.to_string())?;
        Ok(digest(&answer).map_err(|e| e.to_string())? == self.digest)
    }
    /// The text of the query.
    pub fn query(&self) -> &str {
        &self.query
    }
}

/// The digest of an answer's rows, in whatever order.
fn digest(answer: &Answer) -> Result<[u8; 32], crate::event::data::DataError> {
    let mut rows: Vec<Value> = answer.rows.iter().map(Value::vector).collect();
    rows.sort();
    let mut bytes = Vec::new();
    crate::event::data::encode(&Value::vector(rows), &mut bytes, 0)?;
    Ok(*blake3::hash(&bytes).as_bytes())
}

/// What a command's rule is given beside the state: the database, the clock, and the command.
pub struct Decide<'a> {
    /// The database the decision is made on. What is read here must still be so at the commit.
    pub db: Reads<'a>,
    /// The clock when the command was taken up.
    pub now: Instant,
    /// The command.
    pub command: CommandId,
    made: Cell<u64>,
}

impl<'a> Decide<'a> {
    pub(crate) fn new(db: &'a Db, now: Instant, command: CommandId) -> Decide<'a> {
        Decide { db: Reads::new(db), now, command, made: Cell::new(0) }
    }
    /// A new id, the same when the command is carried out again.
    pub fn new_id(&self) -> Uuid {
        let n = self.made.get();
        self.made.set(n + 1);
        CommandId::derived(self.command.0, "made", n).0
    }
}

/// A database read by a decision, which remembers what was asked.
pub struct Reads<'a> {
    db: &'a Db,
    said: RefCell<Said>,
}

#[derive(Default)]
struct Said {
    queries: Vec<ReadQuery>,
    items: Vec<Item>,
    failed: Option<ReadError>,
}

/// A decision could not read what it asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The query is wrong or failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The database could not be read.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A query was given a database of its own, which the commit cannot judge.
    #[error("a query of a decision reads the database it is decided on, and no other")]
    OtherDatabase,
}

impl ReadError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            ReadError::Query(e) => e.code(),
            ReadError::Db(e) => e.code(),
            ReadError::OtherDatabase => "command/other-database",
        }
    }
}

impl<'a> Reads<'a> {
    fn new(db: &'a Db) -> Reads<'a> {
        Reads { db, said: RefCell::default() }
    }

    /// Runs a query, and holds the commit to its rows. A query that fails answers
    /// nothing here and makes the whole dispatch fail.
    pub fn query(&self, query: &str, inputs: impl IntoInputs) -> Answer {
        let inputs = inputs.into_inputs();
        if inputs.iter().any(|i| matches!(i, Input::Db(_))) {
            return self.fail(ReadError::OtherDatabase);
        }
        let answer = match self.db.query(query, inputs.clone()) {
            Ok(answer) => answer,
            Err(e) => return self.fail(e.into()),
        };
        let digest = match digest(&answer) {
            Ok(digest) => digest,
            Err(e) => return self.fail(DbError::from(e).into()),
        };
        let read = ReadQuery { query: Arc::from(query), inputs, digest };
        let mut said = self.said.borrow_mut();
        let same = |q: &ReadQuery| q.query == read.query && same_inputs(&q.inputs, &read.inputs);
        if !said.queries.iter().any(same) {
            said.queries.push(read);
        }
        answer
    }

    /// The one value a query finds.
    pub fn scalar(&self, query: &str, inputs: impl IntoInputs) -> Option<Value> {
        let answer = self.query(query, inputs);
        answer.rows.get(0, 0)
    }

    /// How many rows a query finds.
    pub fn count(&self, query: &str, inputs: impl IntoInputs) -> usize {
        self.query(query, inputs).rows.len()
    }

    /// The value an entity holds; none when it, or the entity, is not there.
    pub fn value(&self, eid: impl Into<Eid>, attr: &str) -> Option<Value> {
        let a = match self.db.attribute(attr) {
            Ok(a) => &a.ident,
            Err(e) => return self.fail(e.into()).scalar(),
        };
        // The entity is looked up in the query, so that the commit looks it up again.
        match eid.into() {
            Eid::Lookup(k, x) => match self.db.attribute(k.as_str()) {
                Ok(k) => {
                    let found = format!("[:find ?v . :in $ ?x :where [?e {} ?x] [?e {a} ?v]]", k.ident);
                    self.scalar(&found, (x,))
                }
                Err(e) => self.fail(e.into()).scalar(),
            },
            Eid::Ident(k) => {
                let found = format!("[:find ?v . :in $ ?k :where [?e :db/ident ?k] [?e {a} ?v]]");
                self.scalar(&found, (k,))
            }
            Eid::Id(e) => self.scalar(&format!("[:find ?v . :in $ ?e :where [?e {a} ?v]]"), (e,)),
        }
    }

    /// The events that match one of the items, and holds the commit to there being no more of them.
    pub fn events(&self, items: Vec<Item>) -> Vec<Recorded> {
        let log: EventLog = self.db.events();
        match log.all(&items, Position::ZERO, usize::MAX) {
            Ok((found, _)) => {
                let mut said = self.said.borrow_mut();
                for item in items {
                    if !said.items.contains(&item) {
                        said.items.push(item);
                    }
                }
                found
            }
            Err(e) => {
                let _ = self.fail(e.into());
                Vec::new()
            }
        }
    }

    /// The database itself: what is read here may have changed by the time of the commit.
    pub fn unguarded(&self) -> &'a Db {
        self.db
    }

    fn fail(&self, e: ReadError) -> Answer {
        self.said.borrow_mut().failed.get_or_insert(e);
        Answer {
            shape: Shape::Rel,
            rows: Rows::of_values(0, Vec::new()),
            basis_t: self.db.basis_t(),
            stats: Stats::default(),
            warnings: Vec::new(),
        }
    }

    /// What went wrong, if anything did.
    pub(crate) fn failure(&self) -> Option<ReadError> {
        self.said.borrow().failed.clone()
    }

    /// The conditions that follow from what was read.
    pub(crate) fn guards(&self) -> Vec<Guard> {
        let said = self.said.borrow();
        let mut guards: Vec<Guard> = said.queries.iter().cloned().map(Guard::Same).collect();
        if !said.items.is_empty() {
            guards.push(Guard::NoneMatch(said.items.clone()));
        }
        guards
    }
}

fn same_inputs(a: &[Input], b: &[Input]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| match pair {
            (Input::Value(x), Input::Value(y)) => x == y,
            (Input::Rules(x), Input::Rules(y)) => x == y,
            _ => false,
        })
}
