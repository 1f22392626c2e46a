//! Progress of anything long, on standard error, when somebody is looking.

use crate::{output::table::thousands, session::Session};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// A count that grows, with a bar when the total is known.
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    what: &'static str,
    n: u64,
}

impl Progress {
    /// Counts `what`; `total` in the same unit as the counter.
    pub fn new(s: &Session, what: &'static str, total: Option<u64>) -> Progress {
        let bar = (s.err.tty && !s.quiet).then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
            let template = if total.is_some() { "{bar:30} {percent:>3}% {msg}" } else { "{spinner} {msg}" };
            let shapes = if s.err.unicode { "━╸─" } else { "#>-" };
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars(shapes));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { bar, started: Instant::now(), what, n: 0 }
    }

    /// So many more were done; `at` is how far along the total that is.
    pub fn add(&mut self, n: u64, at: u64) {
        self.n += n;
        if let Some(bar) = &self.bar {
            bar.set_position(at);
            bar.set_message(format!("{} {}  {}/s", thousands(self.n), self.what, thousands(self.rate())));
        }
    }

    /// How many so far.
    pub fn count(&self) -> u64 {
        self.n
    }

    /// How many a second.
    pub fn rate(&self) -> u64 {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        (self.n as f64 / seconds) as u64
    }

    /// Takes the bar away; gives the time taken.
    pub fn done(self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.started.elapsed()
    }
}
