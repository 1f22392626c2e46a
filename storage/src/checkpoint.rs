//! Checkpoints: novelty moves into LMDB, in the background, in large sorted batches.
//!
//! ```text
//! active ──freeze (nothing staged)──▶ frozen ──one LMDB commit──▶ base
//! ```
//!
//! 1. Only flushed records are frozen, and the log is synced before LMDB is.
//! 2. Readers see a frozen delta until the commit, the indexes after it, never
//!    both and never neither (`Core::layers`).
//! 3. A checkpoint that fails leaves the frozen delta in place; the next one
//!    tries it again. Nothing is lost: the log has it.

use crate::error::{Res, StorageError};
use crate::index::{self, About};
use crate::log::Log;
use crate::novelty::Delta;
use crate::starts::Starts;
use crate::store::{Base, Core, Frozen, Shot};
use crate::types::Checkpoint;
use annals_model::{Instant, T};
use parking_lot::{Condvar, Mutex};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Where writers and the background meet.
#[derive(Default)]
pub(crate) struct Checkpoints {
    /// Held by whoever makes a checkpoint, or changes the layers otherwise.
    pub one: Mutex<()>,
    state: Mutex<State>,
    /// Something was written, or the store closes.
    work: Condvar,
    /// A checkpoint ended, well or not.
    done: Condvar,
    /// Bytes that the indexes took when the last checkpoint began.
    index_bytes: AtomicU64,
}

#[derive(Default)]
struct State {
    stop: bool,
    written: bool,
    failed: Option<Arc<StorageError>>,
}

/// Novelty at which writers wait, in multiples of what starts a checkpoint: at least, and at most.
const BACK_PRESSURE: std::ops::RangeInclusive<usize> = 4..=20;
/// In between they wait at a fact for so many bytes of the indexes, so that novelty takes a fifth of what they
/// take. What a checkpoint costs is mostly the pages that it copies: a thousand values in no order lie on nearly
/// as many pages of a large index. The larger the index, the more must go there together.
const BYTES_A_FACT: u64 = 1 << 9;

impl Core {
    fn novelty_facts(&self) -> usize {
        let shot = self.shot.load();
        let frozen = shot.frozen.as_ref().map_or(0, |f| f.delta.read().n_facts);
        shot.active.read().n_facts + frozen
    }

    /// Novelty at which writers wait.
    fn most_novelty(&self, facts: usize) -> usize {
        let (least, most) = BACK_PRESSURE.into_inner();
        let share = self.checkpoints.index_bytes.load(Ordering::Relaxed) / BYTES_A_FACT;
        usize::try_from(share)
            .unwrap_or(usize::MAX)
            .clamp(facts.saturating_mul(least), facts.saturating_mul(most))
    }

    /// Refuses writes when novelty is at its limit and checkpoints fail.
    pub fn refuse_if_stuck(&self) -> Res<()> {
        let Checkpoint::Auto { facts, .. } = self.options.checkpoint else { return Ok(()) };
        let failed = self.checkpoints.state.lock().failed.clone();
        match failed {
            Some(because) if self.novelty_facts() >= self.most_novelty(facts) => {
                // The disk may have room again: ask for another try.
                self.checkpoints.work.notify_one();
                Err(StorageError::CheckpointFailed { because })
            }
            _ => Ok(()),
        }
    }

    /// What follows every flush.
    pub fn after_flush(&self) -> Res<()> {
        if self.folder.is_none() {
            return Ok(());
        }
        match self.options.checkpoint {
            Checkpoint::Never => Ok(()),
            Checkpoint::Always => self.checkpoint(),
            Checkpoint::Auto { facts, .. } => {
                let n = self.novelty_facts();
                let mut state = self.checkpoints.state.lock();
                if n >= facts || !state.written {
                    state.written = true;
                    self.checkpoints.work.notify_one();
                }
                let most = self.most_novelty(facts);
                while state.failed.is_none() && !state.stop && self.novelty_facts() >= most {
                    self.checkpoints.work.notify_one();
                    self.checkpoints.done.wait_for(&mut state, Duration::from_millis(50));
                }
                Ok(())
            }
        }
    }

    /// Moves everything published into the indexes.
    pub fn checkpoint(&self) -> Res<()> {
        if self.folder.is_none() {
            return Ok(());
        }
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        let _one = self.checkpoints.one.lock();
        let done = self.checkpoint_all();
        let mut state = self.checkpoints.state.lock();
        state.failed = done.as_ref().err().map(|e| Arc::new(e.clone()));
        drop(state);
        self.checkpoints.done.notify_all();
        done
    }

    fn checkpoint_all(&self) -> Res<()> {
        if self.shot.load().frozen.is_some() {
            self.thaw()?;
        }
        if self.freeze() { self.thaw() } else { Ok(()) }
    }

    /// Sets the active delta aside; false when there is nothing in it.
    fn freeze(&self) -> bool {
        let Log::Files(log) = &self.log else { return false };
        let mut w = self.writer.lock();
        while !w.is_settled() {
            self.settled.wait(&mut w);
        }
        let shot = self.shot.load_full();
        let Some(base) = &shot.base else { return false };
        let basis = self.basis();
        let position = log.end();
        let first = self.times.read().first;
        let nothing = position.t.is_none_or(|t| t.0 < first);
        if nothing {
            return false;
        }
        let stats = self.stats.read().clone();
        self.checkpoints.index_bytes.store(base.env.used_bytes(), Ordering::Relaxed);
        let about = About { position, stats, late_end: T(self.late_end.load(Ordering::Acquire)) };
        let times = self.times.read();
        let instants: Vec<(T, Instant)> =
            times.instants.iter().enumerate().map(|(i, x)| (T(first + i as u64), *x)).collect();
        drop(times);
        debug_assert_eq!(about.position.t, Some(basis));
        let mut starts = Starts::clone(&shot.starts);
        let active = shot.active.read();
        starts.absorb(&active.starts);
        // Whoever wrote so much while the last checkpoint was made goes on writing.
        let next = match self.options.checkpoint {
            Checkpoint::Auto { facts, .. } if active.n_facts >= 2 * facts => Delta::after(&active),
            _ => Delta::default(),
        };
        drop(active);
        let frozen = Frozen { delta: shot.active.clone(), about: Arc::new(about), instants: instants.into() };
        self.shot.store(Arc::new(Shot {
            base: Some(base.clone()),
            frozen: Some(frozen),
            active: Arc::new(next.into()),
            starts: starts.into(),
        }));
        true
    }

    /// Writes the frozen delta into LMDB and drops it.
    fn thaw(&self) -> Res<()> {
        let shot = self.shot.load_full();
        let (Some(base), Some(frozen)) = (&shot.base, &shot.frozen) else { return Ok(()) };
        if let Log::Files(log) = &self.log {
            log.sync()?;
        }
        let hints = self.hints.load();
        let delta = frozen.delta.read();
        let txn_id = index::write(&base.env, &delta, &frozen.instants, &frozen.about, &hints)?;
        drop(delta);
        let t = frozen.about.position.t.unwrap_or(T(0));
        let base = Base { env: base.env.clone(), txn_id, t };
        self.shot.store(Arc::new(Shot {
            base: Some(base),
            frozen: None,
            active: shot.active.clone(),
            starts: shot.starts.clone(),
        }));
        let mut times = self.times.write();
        let n = (t.0 + 1).saturating_sub(times.first).min(times.instants.len() as u64);
        times.instants.drain(..n as usize);
        times.first += n;
        Ok(())
    }
}

/// The background thread of a store, stopped when this drops.
pub(crate) struct Background {
    core: Arc<Core>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub fn start(core: &Arc<Core>) -> Background {
        let wanted = core.folder.is_some() && !core.options.read_only;
        let thread = match core.options.checkpoint {
            Checkpoint::Auto { facts, idle_ms } if wanted => {
                let core = core.clone();
                // Without a thread, checkpoints happen at close only.
                std::thread::Builder::new()
                    .name("annals-checkpoint".into())
                    .spawn(move || run(&core, facts, Duration::from_millis(idle_ms.max(1))))
                    .ok()
            }
            _ => None,
        };
        Background { core: core.clone(), thread }
    }
}

fn run(core: &Core, facts: usize, idle: Duration) {
    loop {
        {
            let mut state = core.checkpoints.state.lock();
            // Nothing written: sleep until there is. Else until full, or quiet for long enough.
            while !state.stop && !state.written {
                core.checkpoints.work.wait(&mut state);
            }
            while !state.stop && core.novelty_facts() < facts {
                let before = core.basis();
                let timed_out = core.checkpoints.work.wait_for(&mut state, idle).timed_out();
                if timed_out && core.basis() == before {
                    break;
                }
            }
            if state.stop {
                return;
            }
            state.written = false;
        }
        if core.checkpoint().is_err() {
            // `refuse_if_stuck` reports it. Try again when asked, or after a while.
            let mut state = core.checkpoints.state.lock();
            state.written = true;
            if !state.stop {
                core.checkpoints.work.wait_for(&mut state, idle.max(Duration::from_millis(100)));
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.core.checkpoints.state.lock().stop = true;
        self.core.checkpoints.work.notify_all();
        self.core.checkpoints.done.notify_all();
        if let Some(thread) = self.thread.take() {
            // A checkpoint thread that panicked has nothing to say that the log does not know.
            drop(thread.join());
        }
        self.core.unstage();
        if matches!(self.core.options.checkpoint, Checkpoint::Auto { .. }) && !self.core.options.read_only {
            // The next open then has no tail to replay. If it fails, the log has everything.
            drop(self.core.checkpoint());
        }
    }
}
