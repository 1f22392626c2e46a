//! The terminal we draw on: its size, whether it takes colour, and the colours.
//!
//! 1. Nothing here is guessed per call: a [`Screen`] is made once per output and
//!    asked for its width each time something is drawn (windows are resized).
//! 2. Colour needs a terminal, no `NO_COLOR`, no `TERM=dumb`, no `CLICOLOR=0`;
//!    `CLICOLOR_FORCE` or `--color always` override. Line drawing needs UTF-8.

use crate::cli::When;
use anstyle::{AnsiColor, Style};
use std::{
    env,
    fmt::{self, Display},
    io::{self, IsTerminal as _},
};

/// Narrowest screen we lay out for.
pub const MIN_WIDTH: usize = 20;

/// An output and what it can show.
#[derive(Clone, Debug)]
pub struct Screen {
    /// Somebody is looking.
    pub tty: bool,
    /// Escape sequences for colour may be used.
    pub color: bool,
    /// Box drawing and block characters may be used.
    pub unicode: bool,
    /// The cursor can be moved: a line can be drawn over.
    pub cursor: bool,
    /// A width that overrides the terminal's.
    pub fixed_width: Option<usize>,
}

impl Screen {
    /// Standard output.
    pub fn stdout(when: When) -> Screen {
        Screen::of(io::stdout().is_terminal(), when)
    }
    /// Standard error.
    pub fn stderr(when: When) -> Screen {
        Screen::of(io::stderr().is_terminal(), when)
    }
    /// For tests and files: this wide, plain.
    pub fn plain(width: usize) -> Screen {
        Screen { tty: false, color: false, unicode: true, cursor: false, fixed_width: Some(width) }
    }

    fn of(tty: bool, when: When) -> Screen {
        let set = |name: &str| env::var_os(name).is_some_and(|v| !v.is_empty());
        let zero = |name: &str| env::var_os(name).is_some_and(|v| v == "0");
        let dumb = env::var_os("TERM").is_some_and(|t| t == "dumb");
        let color = match when {
            When::Always => true,
            When::Never => false,
            When::Auto if set("NO_COLOR") => false,
            When::Auto if set("CLICOLOR_FORCE") && !zero("CLICOLOR_FORCE") => true,
            When::Auto => tty && !dumb && !zero("CLICOLOR"),
        };
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|n| env::var(n).ok().filter(|v| !v.is_empty()));
        let ascii_locale = matches!(locale.as_deref(), Some("C" | "POSIX"));
        Screen {
            tty,
            color,
            unicode: !(dumb || tty && ascii_locale),
            cursor: tty && !dumb,
            fixed_width: None,
        }
    }

    /// Columns to draw in. A pipe has no width: tables go as wide as they need up to this.
    pub fn width(&self) -> usize {
        self.fixed_width
            .or_else(|| env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|_| !self.tty))
            .or_else(|| terminal_size::terminal_size().filter(|_| self.tty).map(|(w, _)| w.0.into()))
            .unwrap_or(if self.tty { 80 } else { 200 })
            .max(MIN_WIDTH)
    }

    /// Rows to draw in.
    pub fn height(&self) -> usize {
        terminal_size::terminal_size().filter(|_| self.tty).map_or(40, |(_, h)| usize::from(h.0)).max(10)
    }

    /// `text` in a style, if colour is on.
    pub fn paint<D: Display>(&self, style: Style, text: D) -> Painted<D> {
        Painted { style: self.color.then_some(style), text }
    }
}

/// Text in a style, ready to be written.
pub struct Painted<D> {
    style: Option<Style>,
    text: D,
}

impl<D: Display> Display for Painted<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Some(s) => write!(f, "{s}{}{s:#}", self.text),
            None => self.text.fmt(f),
        }
    }
}

/// The colours, by meaning. All from the sixteen of the terminal's own theme, so
/// they read on dark and on light.
pub mod theme {
    use super::{AnsiColor, Style};

    const fn fg(c: AnsiColor) -> Style {
        Style::new().fg_color(Some(anstyle::Color::Ansi(c)))
    }
    /// Attribute names, idents.
    pub const KEYWORD: Style = fg(AnsiColor::Cyan);
    /// `:find`, `:where` and their kin; commands.
    pub const CLAUSE: Style = fg(AnsiColor::Magenta);
    /// Strings.
    pub const STRING: Style = fg(AnsiColor::Green);
    /// Numbers and constants.
    pub const NUMBER: Style = fg(AnsiColor::Yellow);
    /// `?x`.
    pub const VARIABLE: Style = fg(AnsiColor::Blue);
    /// Functions and rules at the head of a list.
    pub const FUNCTION: Style = Style::new().bold();
    /// Comments, hints, borders, types under headers.
    pub const DIM: Style = Style::new().dimmed();
    /// Headings.
    pub const HEAD: Style = Style::new().bold();
    /// Errors, retractions, rows lost.
    pub const BAD: Style = fg(AnsiColor::Red);
    /// Assertions, rows gained.
    pub const GOOD: Style = fg(AnsiColor::Green);
    /// The prompt now.
    pub const NOW: Style = fg(AnsiColor::Green).bold();
    /// The prompt in the past: another colour, so nobody forgets where they are.
    pub const PAST: Style = fg(AnsiColor::Yellow).bold();
    /// The bracket that belongs to the one at the cursor.
    pub const MATCH: Style = Style::new().bold().underline();
}
