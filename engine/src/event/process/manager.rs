//! Process managers (sagas): what follows over several aggregates, as a state
//! machine over events that sends commands and sets timers.
//!
//! ```text
//! event ── route ──> instance: handle (state before, event) ──> commands, timers
//!                              apply  (state, event)         ──> state after
//! ```
//!
//! 1. For each event the states, the timers, the outgoing commands and the checkpoint
//!    are one transaction: an event is taken once, whenever the process stops.
//! 2. The id of a command follows from the process, the instance, the event and its
//!    number, so that even taken twice it would be one command, and two are never one.
//! 3. `route`, `handle` and `apply` are pure. A panic or an error in them halts this
//!    process at the event, named; the others go on.
//! 4. `Start` of an instance that is there goes on with it; `Continue` and `Stop` of one
//!    that is not there do nothing. `Stop` handles the event, then removes the state and
//!    the instance's timers, whether or not anything of it is in memory.
//!
//! 5. A state, timer or command that holds a personal value of an event is stored sealed, under
//!    the key of the same subject (`personal::marks`). Once that is forgotten, the instance reads
//!    `:annals/erased` there (`None`, in an optional field), and what was to be sent is refused.
//!    An instance whose state cannot be read so ends, with its timers, at its next event: for
//!    that event it is as if it had stopped (`ProcessStatus::ended` counts them).
//!
//! Not here: the rows that follow (`work`), registering (`register`), carrying out the commands (`outbox`), time ([`crate::event::timer`]), and
//! who calls all this ([`crate::event::runner`]).

use crate::DbError;
use crate::event::{
    aggregate::Aggregate,
    append::Item,
    command::CommandTo,
    data::DataError,
    id::{BadName, Tag},
    projection::panic_text,
    queued::Queued,
    record::Recorded,
    refusal::Refusal,
    seal::has_erased,
    subscribe::Start,
    wire,
    work::{Kept, Work},
};
use annals_model::{Instant, Value};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use uuid::Uuid;

/// Which instance of a process an event is for, and what it does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Starts it, or goes on with it.
    Start(String),
    /// Goes on with it if it is there.
    Continue(String),
    /// Is its last event.
    Stop(String),
}

/// What an instance sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    /// A command, now.
    Command(CommandTo),
    /// A command, at an instant.
    At {
        /// When.
        when: Instant,
        /// The timer's name within the instance: set again, it is moved.
        name: String,
        /// The command.
        command: CommandTo,
    },
    /// Takes a timer away; nothing when it is not set.
    Cancel {
        /// The timer.
        name: String,
    },
}

/// Where an instance puts what it sends. A command that cannot be written halts the process.
#[derive(Debug, Default)]
pub struct Out {
    sent: Vec<Outgoing>,
    failed: Option<DataError>,
}

impl Out {
    /// Sends a command to an aggregate.
    pub fn send<A: Aggregate>(&mut self, id: impl Into<String>, command: &A::Command) {
        if let Some(to) = self.to::<A>(id, command) {
            self.sent.push(Outgoing::Command(to));
        }
    }
    /// Sends it at an instant, unless the timer of this name is cancelled or moved before.
    pub fn send_at<A: Aggregate>(
        &mut self,
        when: Instant,
        name: &str,
        id: impl Into<String>,
        command: &A::Command,
    ) {
        if let Some(command) = self.to::<A>(id, command) {
            self.sent.push(Outgoing::At { when, name: name.to_owned(), command });
        }
    }
    /// Takes a timer of this instance away.
    pub fn cancel(&mut self, name: &str) {
        self.sent.push(Outgoing::Cancel { name: name.to_owned() });
    }
    /// Sends what is at hand as data.
    pub fn push(&mut self, outgoing: Outgoing) {
        self.sent.push(outgoing);
    }
    fn to<A: Aggregate>(&mut self, id: impl Into<String>, command: &A::Command) -> Option<CommandTo> {
        CommandTo::new::<A>(id, command).map_err(|e| self.failed.get_or_insert(e)).ok()
    }
    /// What was sent, or what could not be.
    pub(crate) fn finish(self) -> Result<Vec<Outgoing>, DataError> {
        match self.failed {
            Some(e) => Err(e),
            None => Ok(self.sent),
        }
    }
}

/// A process over several aggregates.
///
/// ```
/// use annals::event::{Append, Item, Out, ProcessManager, Recorded, Route};
/// use serde::{Deserialize, Serialize};
/// # use annals::event::{Aggregate, Decide, Event};
/// # #[derive(Default)]
/// # struct Parcel;
/// # #[derive(Clone, Serialize, Deserialize)]
/// # enum Ask { Pack }
/// # #[derive(Serialize, Deserialize)]
/// # enum Packed { Packed }
/// # impl Event for Packed { const TYPES: &'static [(&'static str, u32)] = &[("Packed", 1)]; }
/// # #[derive(Debug, thiserror::Error, Serialize, Deserialize)]
/// # #[error("no")]
/// # struct No;
/// # impl Aggregate for Parcel {
/// #     const CATEGORY: &'static str = "parcel";
/// #     type Command = Ask; type Event = Packed; type Error = No;
/// #     fn apply(&mut self, _: &Packed) {}
/// #     fn handle(&self, _: Ask, _: &Decide) -> Result<Vec<Packed>, No> { Ok(vec![Packed::Packed]) }
/// # }
/// struct Shipping;
/// #[derive(Default, Serialize, Deserialize)]
/// struct Progress { packed: bool }
/// impl ProcessManager for Shipping {
///     const NAME: &'static str = "shipping";
///     type State = Progress;
///     fn route(&self, e: &Recorded) -> Vec<Route> {
///         match e.ty() {
///             "OrderPaid" => vec![Route::Start(e.stream.key().into())],
///             "Packed" => vec![Route::Stop(e.stream.key().into())],
///             _ => vec![],
///         }
///     }
///     fn handle(&self, _: &Progress, e: &Recorded, out: &mut Out) {
///         if e.ty() == "OrderPaid" {
///             out.send::<Parcel>(e.stream.key(), &Ask::Pack);
///         }
///     }
///     fn apply(&self, s: &mut Progress, e: &Recorded) {
///         s.packed |= e.ty() == "Packed";
///     }
/// }
///
/// let conn = annals::in_memory()?;
/// conn.register_commands::<Parcel>()?;
/// conn.register_process(Shipping)?;
/// conn.append(Append::to("order-7").event("OrderPaid", "{}")?)?;
/// while conn.step_processes()?.is_some() {} // or, in a thread of its own: conn.run_processes()
/// assert_eq!(conn.repository::<Parcel>().load("7")?.version.0, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait ProcessManager: Send + Sync + 'static {
    /// Its name. Written to disk: never change it.
    const NAME: &'static str;
    /// What an instance remembers. Stored as data: keep old states readable
    /// (`#[serde(default)]`), or the process halts at the instance's next event.
    type State: Default + Serialize + DeserializeOwned;

    /// Which events it looks at; all, when none are given. A program that wants more than the one before
    /// it meets those to come: of the events stored when it is registered it is offered what that one
    /// wanted too. This goes by what is named here, not by what `route` answers to.
    fn wants(&self) -> Vec<Item> {
        Vec::new()
    }
    /// Where it begins when it is registered for the first time. From then on it goes on
    /// where it stopped. The default is with the events to come: what it sends is real.
    fn start(&self) -> Start {
        Start::Now
    }
    /// Whom an event is for.
    fn route(&self, e: &Recorded) -> Vec<Route>;
    /// What follows from an event, given the state before it.
    fn handle(&self, state: &Self::State, e: &Recorded, out: &mut Out);
    /// The state after the event.
    fn apply(&self, state: &mut Self::State, e: &Recorded);
    /// What follows when a command it sent was refused by a rule, can never be carried out,
    /// or was dropped by hand. Nothing, by default. An instance that has stopped is not asked.
    ///
    /// A panic here halts the process, and the command stays in the queue undecided; so it does
    /// while the process is halted or not registered: a refusal is never lost.
    fn rejected(&self, state: &Self::State, command: &CommandTo, refusal: &Refusal, out: &mut Out) {
        let _ = (state, command, refusal, out);
    }
}

/// Why a process halted.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0} panicked: {1}")]
    Panicked(&'static str, String),
    #[error("the state of instance {0} cannot be read: {1}")]
    State(String, String),
    #[error("the state of instance {0} cannot be written: {1}")]
    Unwritable(String, String),
    #[error(transparent)]
    Name(#[from] BadName),
    #[error("a command cannot be written: {0}")]
    Data(#[from] DataError),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A process manager without its types.
pub(crate) trait AnyProcess: Send + Sync {
    fn name(&self) -> &'static str;
    fn wants(&self) -> Vec<Item>;
    /// The instances that an event is for; none when it cannot be told.
    fn instances(&self, e: &Recorded) -> Vec<String>;
    /// Takes one event.
    fn take(&self, e: &Recorded, work: &mut Work) -> Result<(), Fault>;
    /// Takes the refusal of a command that an instance sent.
    fn refused(&self, instance: &str, sent: &Queued, refusal: &Refusal, work: &mut Work)
    -> Result<(), Fault>;
}

/// Runs the program's code; a panic in it is a fault.
pub(crate) fn guarded<R>(what: &'static str, f: impl FnOnce() -> R) -> Result<R, Fault> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| Fault::Panicked(what, panic_text(&*panic)))
}

fn read_state<P: ProcessManager>(instance: &str, stored: Option<&Value>) -> Result<P::State, Fault> {
    match stored {
        Some(v) => wire::from_value(v).map_err(|e| Fault::State(instance.to_owned(), e.0)),
        None => Ok(P::State::default()),
    }
}

/// Can a state no longer be read because a value in it was erased?
fn is_lost<P: ProcessManager>(kept: &Kept) -> bool {
    has_erased(&kept.state) && read_state::<P>("", Some(&kept.state)).is_err()
}

/// What an instance that `route` named does with an event: commands, and its state after.
pub(crate) fn step<P: ProcessManager>(
    p: &P,
    state: &mut P::State,
    e: &Recorded,
) -> Result<Vec<Outgoing>, Fault> {
    let mut out = Out::default();
    guarded("handle", || p.handle(state, e, &mut out))?;
    let sent = out.finish()?;
    guarded("apply", || p.apply(state, e))?;
    Ok(sent)
}

impl<P: ProcessManager> AnyProcess for P {
    fn name(&self) -> &'static str {
        P::NAME
    }
    fn wants(&self) -> Vec<Item> {
        ProcessManager::wants(self)
    }
    fn instances(&self, e: &Recorded) -> Vec<String> {
        let routes = guarded("route", || self.route(e)).unwrap_or_default().into_iter();
        let names = routes.map(|r| match r {
            Route::Start(i) | Route::Continue(i) | Route::Stop(i) => i,
        });
        names.collect()
    }
    fn take(&self, e: &Recorded, work: &mut Work) -> Result<(), Fault> {
        let seen = work.seen(e)?;
        // An event may be for one instance more than once: `Start` and `Stop` of it, say.
        let mut named: BTreeMap<String, u32> = BTreeMap::new();
        for route in guarded("route", || self.route(e))? {
            let (instance, must_be_there, stops) = match route {
                Route::Start(i) => (i, false, false),
                Route::Continue(i) => (i, true, false),
                Route::Stop(i) => (i, true, true),
            };
            Tag::new(&instance)?;
            let mut stored = work.state(&instance)?;
            if stored.as_ref().is_some_and(|kept| is_lost::<P>(kept)) {
                // With its value gone it can never be read again: the instance has ended.
                work.stop(&instance)?;
                work.ended += 1;
                stored = None;
            }
            if stored.is_none() && must_be_there {
                if stops {
                    // Nothing to handle; what may be left of it goes all the same.
                    work.stop(&instance)?;
                }
                continue;
            }
            let mut marks = seen.clone();
            if let Some(kept) = &stored {
                marks.extend(&kept.marks);
            }
            let mut state = read_state::<P>(&instance, stored.as_ref().map(|k| &k.state))?;
            let sent = step(self, &mut state, e)?;
            let again = named.entry(instance.clone()).and_modify(|n| *n += 1).or_insert(0);
            // No name holds a NUL: different senders have different labels.
            let label = format!("{}\0{instance}\0{}\0{again}", P::NAME, e.part);
            let correlation =
                e.event.meta.correlation.clone().or_else(|| Some(Arc::from(e.id().to_string())));
            work.take(&instance, sent, e.id().0, &label, correlation, &marks)?;
            if stops {
                work.stop(&instance)?;
            } else {
                let value = wire::to_value(&state).map_err(|e| Fault::Unwritable(instance.clone(), e.0))?;
                read_state::<P>(&instance, Some(&value))
                    .map_err(|e| Fault::Unwritable(instance.clone(), e.to_string()))?;
                let id = Uuid::new_v5(&e.id().0, label.as_bytes());
                work.states.insert(instance, Some(Kept { state: value, marks, id }));
            }
        }
        Ok(())
    }
    fn refused(
        &self,
        instance: &str,
        sent: &Queued,
        refusal: &Refusal,
        work: &mut Work,
    ) -> Result<(), Fault> {
        let Some(stored) = work.state(instance)?.filter(|kept| !is_lost::<P>(kept)) else { return Ok(()) };
        let state = read_state::<P>(instance, Some(&stored.state))?;
        let mut marks = stored.marks;
        marks.extend(&sent.marks);
        let mut out = Out::default();
        guarded("rejected", || self.rejected(&state, &sent.to, refusal, &mut out))?;
        let label = format!("{}/{instance}/rejected", P::NAME);
        work.take(instance, out.finish()?, sent.id.0, &label, sent.meta.correlation.clone(), &marks)?;
        Ok(())
    }
}
