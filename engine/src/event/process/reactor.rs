//! Reactors: effects outside the database (mail, calls, files), told of each event
//! at least once.
//!
//! 1. The checkpoint moves after the effect: a crash between the two tells it again,
//!    under the same key. The receiver drops what it has seen under a key.
//!    An event that it does not want may be passed over without the checkpoint being stored.
//! 2. Events come in order; one whose effect failed is tried again, with growing
//!    pauses, and those behind it wait.
//! 3. A reactor begins with the events to come and goes on where it stopped. Rebuilding
//!    a projection does not tell it anything: it follows the log, not the projections.

use crate::Connection;
use crate::event::{
    append::Item,
    process::{ProcessError, guarded},
    record::Recorded,
    subscribe::Start,
};
use uuid::Uuid;

/// An effect outside the database.
///
/// ```
/// use annals::event::{Append, Item, Reactor, Recorded};
/// use std::sync::{Arc, Mutex};
///
/// struct Mail(Arc<Mutex<Vec<String>>>);
/// impl Reactor for Mail {
///     const NAME: &'static str = "mail";
///     fn wants(&self) -> Vec<Item> {
///         Item::types(["OrderShipped"]).into_iter().collect()
///     }
///     fn react(&self, e: &Recorded, key: uuid::Uuid) -> Result<(), String> {
///         self.0.lock().map_err(|e| e.to_string())?.push(format!("{key}: {} is on its way", e.stream));
///         Ok(())
///     }
/// }
///
/// let conn = annals::in_memory()?;
/// let sent = Arc::new(Mutex::new(vec![]));
/// conn.append(Append::to("order-1").event("OrderShipped", "{}")?)?; // before the reactor
/// conn.register_reactor(Mail(sent.clone()))?;
/// conn.append(Append::to("order-2").event("OrderShipped", "{}")?)?;
/// while conn.step_processes()?.is_some() {}
/// assert_eq!(sent.lock().unwrap().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Reactor: Send + Sync + 'static {
    /// Its name. Written to disk: never change it.
    const NAME: &'static str;
    /// Which events it is told of; all, when none are given. A program that wants more than the one
    /// before it is told of those to come, not of what was stored when it is registered.
    fn wants(&self) -> Vec<Item> {
        Vec::new()
    }
    /// Where it begins when it is registered for the first time.
    fn start(&self) -> Start {
        Start::Now
    }
    /// Does what the event asks for. The key is the same each time it is told of the same
    /// event. An error, or a panic, is tried again.
    fn react(&self, e: &Recorded, key: Uuid) -> Result<(), String>;
}

/// The key under which a reactor is told of an event.
pub(crate) fn delivery_key(reactor: &str, e: &Recorded) -> Uuid {
    let label = match e.part {
        0 => reactor.to_owned(),
        part => format!("{reactor}/{part}"),
    };
    Uuid::new_v5(&e.id().0, label.as_bytes())
}

/// A reactor without its types.
pub(crate) trait AnyReactor: Send + Sync {
    fn name(&self) -> &'static str;
    fn wants(&self) -> Vec<Item>;
    fn react(&self, e: &Recorded) -> Result<(), String>;
}

impl<R: Reactor> AnyReactor for R {
    fn name(&self) -> &'static str {
        R::NAME
    }
    fn wants(&self) -> Vec<Item> {
        Reactor::wants(self)
    }
    fn react(&self, e: &Recorded) -> Result<(), String> {
        let key = delivery_key(R::NAME, e);
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Reactor::react(self, e, key)));
        told.unwrap_or_else(|panic| {
            Err(format!("it panicked: {}", crate::event::projection::panic_text(&*panic)))
        })
    }
}

impl Connection {
    /// Registers a reactor; [`Connection::run_processes`] or
    /// [`Connection::step_processes`] drives it. The first time, its place in the log is stored.
    ///
    /// # Errors
    /// A name in use or that is not one; a database that cannot be written.
    pub fn register_reactor<R: Reactor>(&self, reactor: R) -> Result<(), ProcessError> {
        self.begin(R::NAME, reactor.start(), guarded("wants", || Reactor::wants(&reactor)).ok())?;
        let domain = &self.shared().events().domain;
        domain.add_reactor(Box::new(reactor)).map_err(ProcessError::Twice)?;
        // A runner that is at work gives it a thread.
        self.shared().events().announce();
        Ok(())
    }
}
