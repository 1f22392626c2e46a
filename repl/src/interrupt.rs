//! Ctrl-C: stops what runs, not the shell.
//!
//! 1. One handler for the process. While something runs under [`cancellable`],
//!    an interrupt raises its flag; otherwise the process ends as usual (the line
//!    editor reads Ctrl-C as a key, so at the prompt no signal arrives).
//! 2. The work runs on its own thread and the caller waits for it, so a query that
//!    does not look at its flag for a while still cannot be lost.
//! 3. The caller's thread shows how far the work is once it has taken half a second, if
//!    somebody is looking; what it drew is gone before anything else is printed.

use crate::{progress::Ticker, term::Screen};
use annals::Cancel;
use std::{
    panic,
    sync::{
        Mutex, Once,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// Work that is done sooner shows no progress.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two drawings of the progress.
const FRAME: Duration = Duration::from_millis(100);

static RUNNING: Mutex<Option<Cancel>> = Mutex::new(None);
static HANDLER: Once = Once::new();

fn install() {
    HANDLER.call_once(|| {
        // Without a handler Ctrl-C ends the process: acceptable, and not worth an error.
        let _ = ctrlc::set_handler(|| {
            let running = RUNNING.lock().unwrap_or_else(|e| e.into_inner());
            match &*running {
                Some(cancel) if !cancel.is_cancelled() => cancel.cancel(),
                // Nothing runs, or it was asked to stop before and has not: leave.
                _ => std::process::exit(130),
            }
        });
    });
}

/// Runs `work` on another thread with a flag that Ctrl-C raises; progress goes to `screen`, if any.
pub fn cancellable<R: Send>(screen: Option<&Screen>, work: impl FnOnce(&Cancel) -> R + Send) -> R {
    install();
    let cancel = Cancel::new();
    *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) = Some(cancel.clone());
    let result = thread::scope(|s| {
        let (done, finished) = mpsc::channel::<()>();
        let handle = thread::Builder::new().name("query".into()).stack_size(64 << 20).spawn_scoped(s, || {
            // Dropped when the work is done, or has panicked.
            let _done = done;
            work(&cancel)
        });
        if let Some(screen) = screen {
            show(screen, &cancel, &finished);
        }
        match handle.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(r)) => r,
            Ok(Err(payload)) => panic::resume_unwind(payload),
            Err(e) => panic!("no thread for the query: {e}"),
        }
    });
    *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) = None;
    result
}

/// Draws until the other end of `finished` is gone.
fn show(screen: &Screen, cancel: &Cancel, finished: &mpsc::Receiver<()>) {
    let started = Instant::now();
    if finished.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected) {
        return;
    }
    let mut ticker = Ticker::new(screen);
    loop {
        ticker.draw(cancel.rows_read(), cancel.rows(), started.elapsed(), cancel.is_cancelled());
        if finished.recv_timeout(FRAME) == Err(RecvTimeoutError::Disconnected) {
            return ticker.clear();
        }
    }
}
