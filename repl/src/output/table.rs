//! Tables fitted to the screen.
//!
//! 1. No line is wider than the screen, whatever is in the cells: wide columns
//!    give way first, cut cells end in `…`, and a table that cannot be cut to fit is drawn as
//!    records, one column a line.
//! 2. Text is measured in terminal columns, by grapheme; control characters are
//!    shown, never sent.
//! 3. Types stand under the headers; numbers are right-aligned.

use crate::term::{Screen, theme};
use anstyle::Style;
use std::fmt::Write as _;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// Narrowest a column is cut to before the table becomes records.
const MIN_COLUMN: usize = 6;

/// A column's heading.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// First line.
    pub name: String,
    /// Second line, dimmed; empty for all columns: no such line.
    pub under: String,
    /// Align to the right.
    pub right: bool,
}

impl Head {
    /// A heading without a second line.
    pub fn new(name: &str) -> Head {
        Head { name: name.to_owned(), ..Head::default() }
    }
    /// The same, for numbers.
    pub fn right(name: &str) -> Head {
        Head { right: true, ..Head::new(name) }
    }
}

/// What stands in one place.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// Its text, on one line.
    pub text: String,
    /// Its colour.
    pub style: Style,
}

impl Cell {
    /// Text in a style.
    pub fn new(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }
    /// Plain text.
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell::new(text, Style::new())
    }
}

/// A table to draw: the rows shown, and where rows were left out.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The columns.
    pub heads: Vec<Head>,
    /// The rows shown; each as long as `heads`.
    pub rows: Vec<Vec<Cell>>,
    /// Rows were left out before this index.
    pub gap: Option<usize>,
}

/// How to lay a table out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Columns if they fit, else records.
    #[default]
    Fit,
    /// One column a line.
    Records,
}

impl Table {
    /// A table with these columns.
    pub fn new(heads: impl IntoIterator<Item = Head>) -> Table {
        Table { heads: heads.into_iter().collect(), ..Table::default() }
    }

    /// Draws, with a newline at the end of every line.
    pub fn draw(&self, screen: &Screen, layout: Layout) -> String {
        match (layout, self.fit(screen.width())) {
            (Layout::Fit, Some(widths)) => self.columns(screen, &widths),
            _ => self.records(screen),
        }
    }

    /// Column widths that fit into `width`, if any do without cutting a column to nothing.
    fn fit(&self, width: usize) -> Option<Vec<usize>> {
        let mut widths: Vec<usize> = self.heads.iter().map(|h| h.name.width().max(h.under.width())).collect();
        for row in &self.rows {
            for (w, cell) in widths.iter_mut().zip(row) {
                *w = (*w).max(visible(&cell.text).width());
            }
        }
        let room = width.checked_sub(3 * widths.len() + 1)?;
        let least: usize = widths.iter().map(|w| (*w).min(MIN_COLUMN)).sum();
        if least > room {
            return None;
        }
        // Take columns off the widest until the rest fits.
        let mut excess = widths.iter().sum::<usize>().saturating_sub(room);
        while excess > 0 {
            let widest = *widths.iter().max()?;
            let second =
                widths.iter().copied().filter(|w| *w < widest).max().unwrap_or(MIN_COLUMN).max(MIN_COLUMN);
            let several = widths.iter().filter(|w| **w == widest).count();
            let step = (widest - second).min(excess.div_ceil(several)).max(1);
            for w in widths.iter_mut().filter(|w| **w == widest) {
                let take = step.min(excess);
                *w -= take;
                excess -= take;
            }
        }
        Some(widths)
    }

    fn columns(&self, screen: &Screen, widths: &[usize]) -> String {
        let b = if screen.unicode { &BOX } else { &ASCII };
        let mut out = String::new();
        let rule = |out: &mut String, [left, mid, right]: [&str; 3]| {
            let line: Vec<String> = widths.iter().map(|w| b.line.repeat(w + 2)).collect();
            let _ = writeln!(out, "{}", screen.paint(theme::DIM, format!("{left}{}{right}", line.join(mid))));
        };
        let bar = screen.paint(theme::DIM, b.bar).to_string();
        let line = |out: &mut String, cells: &mut dyn Iterator<Item = (String, Style)>| {
            out.push_str(&bar);
            for (text, style) in cells {
                let _ = write!(out, " {} {bar}", screen.paint(style, text));
            }
            out.push('\n');
        };
        rule(&mut out, b.top);
        let head = |text: &str, i: usize| pad(text, widths[i], self.heads[i].right, screen);
        line(&mut out, &mut self.heads.iter().enumerate().map(|(i, h)| (head(&h.name, i), theme::HEAD)));
        if self.heads.iter().any(|h| !h.under.is_empty()) {
            line(&mut out, &mut self.heads.iter().enumerate().map(|(i, h)| (head(&h.under, i), theme::DIM)));
        }
        rule(&mut out, b.mid);
        for (n, row) in self.rows.iter().enumerate() {
            if self.gap == Some(n) {
                line(&mut out, &mut widths.iter().map(|w| (center(b.dots, *w), theme::DIM)));
            }
            line(
                &mut out,
                &mut row
                    .iter()
                    .enumerate()
                    .map(|(i, c)| (pad(&c.text, widths[i], self.heads[i].right, screen), c.style)),
            );
        }
        rule(&mut out, b.bottom);
        out
    }

    fn records(&self, screen: &Screen) -> String {
        let b = if screen.unicode { &BOX } else { &ASCII };
        let width = screen.width();
        let names = self.heads.iter().map(|h| h.name.width()).max().unwrap_or(0).min(width / 2);
        let mut out = String::new();
        for (n, row) in self.rows.iter().enumerate() {
            if self.gap == Some(n) {
                let _ = writeln!(out, "{}", screen.paint(theme::DIM, b.dots));
            }
            let title = format!("{}{} {} ", b.line, b.line, n + 1);
            let rest = b.line.repeat(width.min(60).saturating_sub(title.width()));
            let _ = writeln!(out, "{}", screen.paint(theme::DIM, format!("{title}{rest}")));
            for (head, cell) in self.heads.iter().zip(row) {
                let name = pad(&head.name, names, false, screen);
                let room = width.saturating_sub(names + 2).max(1);
                let text = cut(&visible(&cell.text), room, screen);
                let _ =
                    writeln!(out, "{}  {}", screen.paint(theme::HEAD, name), screen.paint(cell.style, text));
            }
        }
        out
    }
}

struct Borders {
    top: [&'static str; 3],
    mid: [&'static str; 3],
    bottom: [&'static str; 3],
    line: &'static str,
    bar: &'static str,
    dots: &'static str,
}

const BOX: Borders = Borders {
    top: ["╭", "┬", "╮"],
    mid: ["├", "┼", "┤"],
    bottom: ["╰", "┴", "╯"],
    line: "─",
    bar: "│",
    dots: "·",
};
const ASCII: Borders = Borders {
    top: ["+", "+", "+"],
    mid: ["+", "+", "+"],
    bottom: ["+", "+", "+"],
    line: "-",
    bar: "|",
    dots: ":",
};

/// Text as it may be sent to a terminal: on one line, without control characters.
pub fn visible(text: &str) -> String {
    if !text.chars().any(|c| c.is_control() || is_invisible(c)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push('⇥'),
            c if c.is_control() || is_invisible(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// The same for text of several lines: only line breaks stay.
pub fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

/// Characters that reorder or hide their neighbours.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` in at most `width` columns; what is cut ends in `…`.
pub fn cut(text: &str, width: usize, screen: &Screen) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mark = if screen.unicode { "…" } else { "~" };
    let mut out = String::new();
    let mut used = 0;
    for g in text.graphemes(true) {
        if used + g.width() + 1 > width {
            break;
        }
        used += g.width();
        out.push_str(g);
    }
    out.push_str(mark);
    out
}

fn pad(text: &str, width: usize, right: bool, screen: &Screen) -> String {
    let text = cut(&visible(text), width, screen);
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    if right { blanks + &text } else { text + &blanks }
}

fn center(text: &str, width: usize) -> String {
    let left = width.saturating_sub(text.width()) / 2;
    let right = width.saturating_sub(text.width() + left);
    format!("{}{text}{}", " ".repeat(left), " ".repeat(right))
}

/// `12304` as `12,304`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1 row`, `12,304 rows`.
pub fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", thousands(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cell: &str) -> Table {
        let mut t = Table::new([
            Head { under: "string".into(), ..Head::new("?name") },
            Head { under: "long".into(), ..Head::right("?n") },
        ]);
        t.rows.push(vec![Cell::plain(cell), Cell::plain("7")]);
        t.rows.push(vec![Cell::plain("b"), Cell::plain("12,304")]);
        t
    }

    #[test]
    fn small_tables_are_as_wide_as_their_cells() {
        let text = sample("a").draw(&Screen::plain(80), Layout::Fit);
        let want = "\
╭────────┬────────╮
│ ?name  │     ?n │
│ string │   long │
├────────┼────────┤
│ a      │      7 │
│ b      │ 12,304 │
╰────────┴────────╯
";
        assert_eq!(text, want);
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for cell in [
            "x".repeat(500),
            "漢字".repeat(90),
            "👩‍👩‍👧‍👦".repeat(60),
            "e\u{301}".repeat(300),
            "a\nb\u{1b}[31m".repeat(40),
        ] {
            for width in [20, 33, 80, 160] {
                for layout in [Layout::Fit, Layout::Records] {
                    let text = sample(&cell).draw(&Screen::plain(width), layout);
                    for line in text.lines() {
                        assert!(line.width() <= width, "{width}: {line}");
                        assert!(!line.contains('\u{1b}'));
                    }
                }
            }
        }
    }

    #[test]
    fn many_columns_on_a_narrow_screen_become_records() {
        let mut t = Table::new((0..9).map(|i| Head::new(&format!("?column{i}"))));
        t.rows.push(vec![Cell::plain("value value"); 9]);
        let text = t.draw(&Screen::plain(20), Layout::Fit);
        assert_eq!(text.lines().count(), 10);
        assert!(text.lines().all(|l| l.width() <= 20), "{text}");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 1234567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "row"), "1 row");
    }
}
