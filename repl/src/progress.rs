//! Progress of anything long, on standard error, when somebody is looking.

use crate::{
    output::table::{cut, thousands},
    session::Session,
    term::{Screen, theme},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::Write as _,
    time::{Duration, Instant},
};

/// One line that says how far a query is, drawn over and over.
pub struct Ticker<'s> {
    screen: &'s Screen,
    frame: usize,
}

impl Ticker<'_> {
    /// Draws on standard error, whose screen this is.
    pub fn new(screen: &Screen) -> Ticker<'_> {
        Ticker { screen, frame: 0 }
    }

    /// Draws the line anew.
    pub fn draw(&mut self, read: u64, rows: u64, elapsed: Duration, stopping: bool) {
        const TURNS: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
        const ASCII: [&str; 4] = ["|", "/", "-", "\\"];
        let shapes: &[&str] = if self.screen.unicode { &TURNS } else { &ASCII };
        let shape = shapes[self.frame % shapes.len()];
        self.frame += 1;
        let end = if stopping { "stopping" } else { "Ctrl-C stops it" };
        let (s, read, rows) = (elapsed.as_secs_f64(), thousands(read), thousands(rows));
        let text = format!("{s:.1} s · {read} rows read, {rows} rows made · {end}");
        let text = if self.screen.unicode { text } else { text.replace('·', "-") };
        let text = cut(&text, self.screen.width().saturating_sub(3), self.screen);
        let mut err = std::io::stderr().lock();
        let (turn, text) = (self.screen.paint(theme::CLAUSE, shape), self.screen.paint(theme::DIM, text));
        // A drawing that fails hides progress, nothing else.
        let _ = write!(err, "\r\u{1b}[2K{turn} {text}").and_then(|()| err.flush());
    }

    /// Takes the line away.
    pub fn clear(&self) {
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "\r\u{1b}[2K").and_then(|()| err.flush());
    }
}

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
        let bar = s.progress_screen().is_some().then(|| {
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
