//! Charts of characters: bars, a sparkline, and lanes of validity.
//!
//! Every line fits the screen; without UTF-8 the shapes are ASCII.

use crate::{
    output::table::{cut, visible},
    term::{Screen, theme},
};
use anstyle::Style;
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

/// Horizontal bars, one a label; the number stands behind its bar.
pub fn bars(items: &[(String, f64)], screen: &Screen) -> String {
    let width = screen.width();
    let numbers: Vec<String> = items.iter().map(|(_, n)| number(*n)).collect();
    let number_width = numbers.iter().map(|n| n.width()).max().unwrap_or(0);
    let label_room = (width / 3).min(width.saturating_sub(number_width + 4)).max(1);
    let labels: Vec<String> = items.iter().map(|(l, _)| cut(&visible(l), label_room, screen)).collect();
    let label_width = labels.iter().map(|l| l.width()).max().unwrap_or(0);
    let room = width.saturating_sub(label_width + number_width + 3).clamp(1, 60);
    let most = items.iter().map(|(_, n)| n.abs()).fold(0.0, f64::max);
    let mut out = String::new();
    for ((label, text), (_, n)) in labels.iter().zip(&numbers).zip(items) {
        let part = if most > 0.0 { n.abs() / most } else { 0.0 };
        let style = if *n < 0.0 { theme::BAD } else { theme::KEYWORD };
        let blanks = " ".repeat(label_width - label.width());
        let bar = bar(part, room, screen.unicode);
        let _ = writeln!(out, "{label}{blanks} {} {text}", screen.paint(style, bar));
    }
    out
}

/// A bar over `part` (0 to 1) of `room` columns, in eighths of a column.
fn bar(part: f64, room: usize, unicode: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if !unicode {
        let full = (part * room as f64).round() as usize;
        return "#".repeat(full.max(usize::from(part > 0.0)));
    }
    let eighths = ((part * room as f64 * 8.0).round() as usize).max(usize::from(part > 0.0));
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// One character a value, by height; more values than columns are averaged.
pub fn sparkline(values: &[f64], screen: &Screen) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 8] = ['_', '.', '-', '=', '+', 'o', 'x', '#'];
    let shapes = if screen.unicode { BLOCKS } else { ASCII };
    let room = screen.width().saturating_sub(1).max(1);
    let per = values.len().div_ceil(room).max(1);
    let points: Vec<f64> = values.chunks(per).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
    let (low, high) = points.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let span = high - low;
    points
        .iter()
        .map(|v| if span > 0.0 { shapes[(((v - low) / span) * 7.0).round() as usize] } else { shapes[3] })
        .collect()
}

/// One value of one attribute, over a stretch of time.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// What held.
    pub label: String,
    /// From this moment, on any scale.
    pub from: i64,
    /// Until this moment, if it ended.
    pub to: Option<i64>,
}

/// A lane a name, each with the stretches that held, over one common time axis.
pub fn lanes(
    lanes: &[(String, Vec<Stretch>)],
    axis: (i64, i64),
    ends: (&str, &str),
    screen: &Screen,
) -> String {
    let width = screen.width();
    let names = lanes.iter().map(|(n, _)| visible(n).width()).max().unwrap_or(0).min(width / 3);
    let room = width.saturating_sub(names + 2).max(4);
    let (first, last) = axis;
    let span = (last - first).max(1) as f64;
    let column =
        |at: i64| ((((at - first) as f64 / span) * (room - 1) as f64).round() as usize).min(room - 1);
    let mut out = String::new();
    for (name, stretches) in lanes {
        let name = cut(&visible(name), names, screen);
        let mut lane = vec![(' ', Style::new()); room];
        for (n, s) in stretches.iter().enumerate() {
            let (from, to) = (column(s.from), s.to.map_or(room, column).max(column(s.from) + 1).min(room));
            let style = if n % 2 == 0 { theme::KEYWORD } else { theme::CLAUSE };
            draw_stretch(&mut lane[from..to], &s.label, s.to.is_none(), style, screen);
        }
        let _ = write!(out, "{}{}  ", screen.paint(theme::HEAD, &name), " ".repeat(names - name.width()));
        push_lane(&mut out, &lane, screen);
        out.push('\n');
    }
    let (left, right) = ends;
    let axis = if left.width() + right.width() < room {
        format!("{left}{}{right}", " ".repeat(room - left.width() - right.width()))
    } else {
        cut(left, room, screen)
    };
    let _ = writeln!(out, "{}  {}", " ".repeat(names), screen.paint(theme::DIM, axis));
    out
}

/// `├─ label ───` over the cells; open at the right while the fact still holds.
fn draw_stretch(cells: &mut [(char, Style)], label: &str, open: bool, style: Style, screen: &Screen) {
    let (start, line, end) = match (screen.unicode, open) {
        (true, true) => ('├', '─', '▶'),
        (true, false) => ('├', '─', '┤'),
        (false, true) => ('|', '-', '>'),
        (false, false) => ('|', '-', '|'),
    };
    let n = cells.len();
    for c in cells.iter_mut() {
        *c = (line, style);
    }
    cells[0] = (start, style);
    if n > 1 {
        cells[n - 1] = (end, style);
    }
    // A label of wide characters would shift the lane: only narrow ones are written in.
    let text = visible(label);
    if n >= 6 && text.width() == text.chars().count() {
        let room = n - 4;
        let text = cut(&text, room, screen);
        let mut at = 2;
        cells[1] = (' ', style);
        for c in text.chars() {
            cells[at] = (c, Style::new());
            at += 1;
        }
        cells[at] = (' ', style);
    }
}

fn push_lane(out: &mut String, lane: &[(char, Style)], screen: &Screen) {
    for run in lane.chunk_by(|a, b| a.1 == b.1) {
        let text: String = run.iter().map(|(c, _)| *c).collect();
        let _ = write!(out, "{}", screen.paint(run[0].1, text));
    }
    let kept = out.trim_end_matches(' ').len();
    out.truncate(kept);
}

/// A number without needless digits.
pub fn number(n: f64) -> String {
    if n.fract() == 0.0 && n.abs() < 1e15 {
        let whole = super::table::thousands(n.abs() as u64);
        if n < 0.0 { format!("-{whole}") } else { whole }
    } else {
        format!("{n:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_fit() {
        let items = [("one".to_owned(), 50.0), ("two".to_owned(), 100.0), ("none".to_owned(), 0.0)];
        assert_eq!(bars(&items, &Screen::plain(20)), "one  █████ 50\ntwo  ██████████ 100\nnone  0\n");
        for width in [20, 80] {
            let text = bars(
                &[("a very long label indeed".to_owned(), 1e9), ("b".to_owned(), -1.5)],
                &Screen::plain(width),
            );
            assert!(text.lines().all(|l| l.width() <= width), "{text}");
        }
    }

    #[test]
    fn sparklines_rise_and_fall() {
        assert_eq!(sparkline(&[0.0, 7.0, 3.5, 0.0], &Screen::plain(80)), "▁█▅▁");
        assert_eq!(sparkline(&[2.0, 2.0], &Screen::plain(80)), "▄▄");
        assert_eq!(sparkline(&[1.0; 1000], &Screen::plain(20)).chars().count(), 19);
        assert_eq!(sparkline(&[], &Screen::plain(20)), "");
    }

    #[test]
    fn lanes_show_who_held_when() {
        let s = |label: &str, from, to| Stretch { label: label.to_owned(), from, to };
        let data = [
            (":order/status".to_owned(), vec![s(":placed", 0, Some(50)), s(":shipped", 50, None)]),
            (":order/id".to_owned(), vec![s("A-1", 0, None)]),
        ];
        let text = lanes(&data, (0, 100), ("t1", "t100"), &Screen::plain(60));
        let want = "\
:order/status  ├─ :placed ──────────┤├─ :shipped ──────────▶
:order/id      ├─ A-1 ─────────────────────────────────────▶
               t1                                       t100
";
        assert!(text.lines().all(|l| l.width() <= 60), "{text}");
        assert_eq!(text.lines().count(), want.lines().count(), "{text}");
    }
}
