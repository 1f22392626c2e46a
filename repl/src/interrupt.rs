//! Ctrl-C: stops what runs, not the shell.
//!
//! 1. One handler for the process. While something runs under [`cancellable`],
//!    an interrupt raises its flag; otherwise the process ends as usual (the line
//!    editor reads Ctrl-C as a key, so at the prompt no signal arrives).
//! 2. The work runs on its own thread and the caller waits for it, so a query that
//!    does not look at its flag for a while still cannot be lost.

use annals::Cancel;
use std::{
    panic,
    sync::{Mutex, Once},
    thread,
};

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

/// Runs `work` on another thread with a flag that Ctrl-C raises.
pub fn cancellable<R: Send>(work: impl FnOnce(&Cancel) -> R + Send) -> R {
    install();
    let cancel = Cancel::new();
    *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) = Some(cancel.clone());
    let result = thread::scope(|s| {
        let handle = thread::Builder::new()
            .name("query".into())
            .stack_size(64 << 20)
            .spawn_scoped(s, || work(&cancel));
        match handle.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(r)) => r,
            Ok(Err(payload)) => panic::resume_unwind(payload),
            Err(e) => panic!("no thread for the query: {e}"),
        }
    });
    *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) = None;
    result
}
