//! What a connection knows of the domain: the handlers of its commands, the
//! commands being carried out, and what was counted. None of it is stored.
//!
//! 1. A category has one handler; a second is an error when it is registered.
//! 2. One command is carried out at a time under one id: who sends it again
//!    meanwhile waits and is answered the stored outcome. That is a courtesy that
//!    saves work; what makes it happen once is the commit.

use super::{door::Handler, id::CommandId};
use hashbrown::HashSet;
use parking_lot::{Condvar, Mutex, RwLock};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant as Clock},
};

/// Longest wait for the same command in another thread.
const WAIT: Duration = Duration::from_secs(30);

/// The domain's code as registered with one connection.
#[derive(Default)]
pub(crate) struct Domain {
    pub handlers: RwLock<BTreeMap<&'static str, Arc<dyn Handler>>>,
    running: Mutex<HashSet<CommandId>>,
    done: Condvar,
    pub counts: Counts,
}

/// What has happened to commands since the database was opened.
#[derive(Default)]
pub(crate) struct Counts {
    pub dispatched: AtomicU64,
    pub done: AtomicU64,
    pub rejected: AtomicU64,
    pub replayed: AtomicU64,
    pub conflicts: AtomicU64,
    pub gave_up: AtomicU64,
}

impl Counts {
    /// One more.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Holds a command as running until dropped.
pub(crate) struct Running<'d> {
    domain: &'d Domain,
    id: CommandId,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.domain.running.lock().remove(&self.id);
        self.domain.done.notify_all();
    }
}

impl Domain {
    /// Marks a command as running; waits while another thread is at it.
    pub fn run(&self, id: CommandId) -> Running<'_> {
        let until = Clock::now() + WAIT;
        let mut running = self.running.lock();
        while running.contains(&id) {
            if self.done.wait_until(&mut running, until).timed_out() {
                break;
            }
        }
        running.insert(id);
        Running { domain: self, id }
    }

    /// Is a thread of this process carrying it out?
    pub fn is_running(&self, id: CommandId) -> bool {
        self.running.lock().contains(&id)
    }
}
