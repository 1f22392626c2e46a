//! The driver: a thread that keeps async projections caught up.
//!
//! 1. It wakes on appends, not on a clock, and takes one batch of each projection in turn:
//!    none waits for another to finish.
//! 2. An event that cannot be taken is the projection's policy's affair; a failure of the
//!    database is tried again, with pauses that double from 50 ms to 30 s.
//! 3. It ends when its [`Runner`] is dropped, or when the connection is closed; dropping
//!    waits for the batch under way.

use crate::Connection;
use crate::event::{
    projection::Code,
    projection_error::ProjectionError,
    registry::Events,
    runtime::{ProjectionState, Runtime},
};
use hashbrown::HashMap;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant as Clock},
};

/// The first pause after a failure.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after failures in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long it sleeps when nothing happens, before it looks around again.
const IDLE: Duration = Duration::from_secs(60);

/// Keeps async projections caught up until it is dropped.
///
/// ```
/// use annals::event::Append;
/// use std::time::Duration;
/// let conn = annals::in_memory()?;
/// conn.add_projection(r#"
/// {:projection/name :seen, :projection/version 1, :projection/mode :async
///  :projection/schema [{:db/ident :seen/key :db/valueType :db.type/string
///                       :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}]
///  :projection/on [{:event :any, :assert [{:seen/key $stream.key}]}]}"#)?;
/// let runner = conn.run_projections()?;
/// let done = conn.append(Append::to("order-A-1").event("OrderPlaced", "{}")?)?;
/// assert!(conn.wait_for("seen", done.last, Duration::from_secs(10))?);
/// assert_eq!(conn.db().complete_to()?, conn.db().t());
/// runner.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Runner {
    stop: Arc<AtomicBool>,
    events: Arc<Events>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("stopped", &self.stop).finish_non_exhaustive()
    }
}

impl Runner {
    /// Ends it; returns when the batch under way is done. Dropping it does the same.
    pub fn stop(self) {}
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.events.announce();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told there; nothing is left to undo.
            let _ = thread.join();
        }
    }
}

impl Connection {
    /// Drives the async projections of the database on a thread of their own, until the
    /// [`Runner`] is dropped. Versions whose build a crash cut short are finished too.
    /// Several runners do no harm and no good.
    ///
    /// # Errors
    /// `projection/no-thread`: the system gave no thread.
    pub fn run_projections(&self) -> Result<Runner, ProjectionError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (conn, stopped) = (self.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("annals-projections".into());
        let spawned = thread.spawn(move || run(&conn, &stopped));
        let thread = spawned.map_err(|e| ProjectionError::NoThread(Arc::new(e)))?;
        Ok(Runner { stop, events: self.shared().events().clone(), thread: Some(thread) })
    }
}

/// When a version that failed is tried again, and the pause after that.
struct Backoff {
    until: Clock,
    pause: Duration,
}

fn run(conn: &Connection, stop: &AtomicBool) {
    let events = conn.shared().events().clone();
    let mut waiting: HashMap<(annals_model::Keyword, u32), Backoff> = HashMap::new();
    loop {
        let beat = events.beat();
        let (mut moved, mut nap) = (false, IDLE);
        for r in events.runtimes().iter() {
            if stop.load(Ordering::Acquire) || events.closed.load(Ordering::Acquire) {
                return;
            }
            let key = (r.name.clone(), r.version);
            let now = Clock::now();
            if let Some(b) = waiting.get(&key).filter(|b| b.until > now) {
                nap = nap.min(b.until - now);
                continue;
            }
            match step(conn, &events, r) {
                Ok(more) => {
                    moved |= more;
                    if waiting.remove(&key).is_some() {
                        *r.trouble.lock() = None;
                    }
                }
                // It stands where its policy has put it: halted, until somebody resumes it.
                Err(ProjectionError::Poison { .. }) if r.state() != ProjectionState::Building => {}
                Err(e) => {
                    *r.trouble.lock() = Some(e.to_string());
                    let pause = waiting.get(&key).map_or(PAUSE, |b| (b.pause * 2).min(LONGEST_PAUSE));
                    waiting.insert(key, Backoff { until: now + pause, pause });
                    nap = nap.min(pause);
                }
            }
        }
        if stop.load(Ordering::Acquire) || events.closed.load(Ordering::Acquire) {
            return;
        }
        if !moved {
            events.wait(beat, nap);
        }
    }
}

/// One batch of one version. True when there may be more.
fn step(conn: &Connection, events: &Arc<Events>, r: &Arc<Runtime>) -> Result<bool, ProjectionError> {
    if matches!(r.code(), Code::Absent) {
        return Ok(false);
    }
    match r.state() {
        ProjectionState::Live if !r.is_inline() => conn.drive(r),
        ProjectionState::Building => {
            // Whoever registers it is at work, or a crash cut that short.
            let Some(_one) = events.registering.try_lock() else { return Ok(false) };
            if r.state() == ProjectionState::Building {
                conn.build(events, r)?;
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}
