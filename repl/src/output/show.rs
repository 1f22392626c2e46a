//! Rows for people: a table with types, head and tail of long answers, trees for
//! pulled entities.

use super::{
    Rows, Shape, chart,
    data::field,
    table::{Cell, Head, Layout, Table, counted, thousands},
};
use crate::{
    backend::Db,
    shell::highlight,
    term::{Screen, theme},
};
use annals::{Value, edn};
use anstyle::Style;
use std::fmt::Write as _;

/// How rows are shown.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Most rows drawn.
    pub rows: usize,
    /// Columns or records.
    pub layout: Layout,
    /// Names instead of numbers for entities that have one.
    pub idents: bool,
}

impl Default for Look {
    fn default() -> Look {
        Look { rows: 40, layout: Layout::Fit, idents: true }
    }
}

/// The rows drawn, with a newline at the end; the count stands below.
pub fn rows(r: &Rows, db: Option<&Db>, look: Look, screen: &Screen) -> String {
    if r.columns.len() == 1
        && !matches!(r.shape, Shape::Maps | Shape::Map)
        && !r.rows.is_empty()
        && r.rows.iter().all(|row| matches!(row[0], Value::Map(_)))
    {
        return trees(r, look, screen);
    }
    match (r.shape, r.rows.first()) {
        (Shape::Scalar, first) => {
            let v = first.map_or(Value::Nil, |row| row[0].clone());
            return format!("{}\n", tree(&v, screen));
        }
        (Shape::Tuple | Shape::Map, None) => return "nil\n".to_owned(),
        _ => {}
    }
    let mut t = Table::new((0..r.columns.len()).map(|i| head(r, i)));
    if r.listed {
        // A list of the shell's own: nobody asks for the types.
        for h in &mut t.heads {
            h.name = h.name.trim_start_matches(':').replace('-', " ");
            h.under = String::new();
        }
    }
    let (shown, gap) = head_and_tail(r.rows.len(), look.rows);
    t.gap = gap;
    for i in shown {
        t.rows.push(r.rows[i].iter().map(|v| cell(v, db.filter(|_| look.idents), screen)).collect());
    }
    if r.rows.is_empty() {
        return format!("{}\n", screen.paint(theme::DIM, "0 rows"));
    }
    let mut out = t.draw(screen, look.layout);
    let _ = writeln!(out, "{}", screen.paint(theme::DIM, count(r.rows.len(), t.rows.len())));
    out
}

/// `12,304 rows, 40 shown`.
pub fn count(all: usize, shown: usize) -> String {
    let all_text = counted(all as u64, "row");
    if shown < all { format!("{all_text}, {} shown", thousands(shown as u64)) } else { all_text }
}

/// The first and last of `n` rows when not all are drawn, and where the gap is.
pub fn head_and_tail(n: usize, most: usize) -> (Vec<usize>, Option<usize>) {
    // Leaving out a row or two to print a gap gains nothing.
    if n <= most.saturating_add(2) {
        return ((0..n).collect(), None);
    }
    let tail = most / 2;
    let front = most - tail;
    ((0..front).chain(n - tail..n).collect(), Some(front))
}

/// The heading of a column: its name, the type of its values, numbers to the right.
pub fn head(r: &Rows, i: usize) -> Head {
    let mut kinds: Vec<&'static str> = Vec::new();
    for row in &r.rows {
        let kind = row[i].kind();
        if kind != "nil" && !kinds.contains(&kind) {
            kinds.push(kind);
            if kinds.len() > 1 {
                break;
            }
        }
    }
    let number = |k: &&str| matches!(*k, "long" | "double" | "bigint" | "bigdec");
    let under = match &kinds[..] {
        [one] => (*one).to_owned(),
        [] => String::new(),
        _ => "any".to_owned(),
    };
    Head { name: r.columns[i].name.clone(), under, right: kinds.iter().all(number) && !kinds.is_empty() }
}

/// A value in a table: without quotes, entities by name.
pub fn cell(v: &Value, db: Option<&Db>, screen: &Screen) -> Cell {
    let _ = screen;
    match v {
        Value::Nil => Cell::new("nil", theme::DIM),
        Value::Ref(e) => match db.and_then(|db| db.ident(*e)) {
            Some(k) => Cell::new(k.to_string(), theme::KEYWORD),
            None => match e.as_t() {
                Some(t) if t.0 > 0 => Cell::new(format!("t{t}"), theme::DIM),
                _ => Cell::new(e.to_string(), theme::DIM),
            },
        },
        Value::Keyword(_) | Value::Symbol(_) => Cell::new(field(v), theme::KEYWORD),
        Value::Bool(_) => Cell::new(field(v), theme::NUMBER),
        Value::Long(n) => Cell::plain(n.to_string()),
        Value::Double(d) => Cell::plain(edn::print(&Value::Double(*d))),
        Value::Instant(i) => Cell::plain(instant(&i.to_string())),
        Value::String(_) => Cell::plain(field(v)),
        _ => Cell::new(field(v), Style::new()),
    }
}

/// An instant for people: a blank for the T, no empty fraction.
pub fn instant(text: &str) -> String {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let text = text.strip_suffix(".000").unwrap_or(text);
    text.strip_suffix("T00:00:00").unwrap_or(text).replacen('T', " ", 1)
}

/// An instant where the eye goes along many: always to the millisecond.
pub fn moment(i: annals::Instant) -> String {
    let text = annals::Instant(i.0 - i.0.rem_euclid(1_000)).to_string();
    text.trim_end_matches('Z').replacen('T', " ", 1)
}

/// A value over several lines, in colour.
pub fn tree(v: &Value, screen: &Screen) -> String {
    let one = edn::print(v);
    let text = if unicode_width::UnicodeWidthStr::width(one.as_str()) <= screen.width() {
        one
    } else {
        edn::print_pretty(v, screen.width())
    };
    highlight::paint(&super::table::visible_lines(&text), None, None, screen)
}

fn trees(r: &Rows, look: Look, screen: &Screen) -> String {
    let mut out = String::new();
    let (shown, gap) = head_and_tail(r.rows.len(), look.rows);
    let n = shown.len();
    for (k, i) in shown.into_iter().enumerate() {
        if gap == Some(k) {
            let _ = writeln!(out, "{}", screen.paint(theme::DIM, "…"));
        }
        let _ = writeln!(out, "{}", tree(&r.rows[i][0], screen));
    }
    if r.shape != Shape::Scalar {
        let _ = writeln!(out, "{}", screen.paint(theme::DIM, count(r.rows.len(), n)));
    }
    out
}

/// Labels and numbers of rows, for charts: the last numeric column, labelled by the columns before it.
pub fn chart_items(r: &Rows) -> Option<Vec<(String, f64)>> {
    let number = |v: &Value| match v {
        Value::Long(n) => Some(*n as f64),
        Value::Double(d) => Some(*d),
        Value::BigDec(_) | Value::BigInt(_) => field(v).parse().ok(),
        _ => None,
    };
    let column = (0..r.columns.len())
        .rev()
        .find(|i| !r.rows.is_empty() && r.rows.iter().all(|row| number(&row[*i]).is_some()))?;
    let label = |row: &[Value]| {
        let parts: Vec<String> = row
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != column)
            .map(|(_, v)| match v {
                Value::Instant(i) => instant(&i.to_string()),
                v => field(v),
            })
            .collect();
        parts.join(" ")
    };
    r.rows.iter().map(|row| number(&row[column]).map(|n| (label(row), n))).collect()
}

/// Bars or a sparkline of rows.
pub fn chart(r: &Rows, spark: bool, look: Look, screen: &Screen) -> Option<String> {
    let items = chart_items(r)?;
    if spark {
        let values: Vec<f64> = items.iter().map(|(_, n)| *n).collect();
        let low = values.iter().copied().fold(f64::MAX, f64::min);
        let high = values.iter().copied().fold(f64::MIN, f64::max);
        let line = chart::sparkline(&values, screen);
        let range = format!(
            "{} to {}, {}",
            chart::number(low),
            chart::number(high),
            counted(values.len() as u64, "value")
        );
        return Some(format!(
            "{}\n{}\n",
            screen.paint(theme::KEYWORD, line),
            screen.paint(theme::DIM, range)
        ));
    }
    let shown = items.len().min(look.rows);
    let mut out = chart::bars(&items[..shown], screen);
    if shown < items.len() {
        let _ = writeln!(out, "{}", screen.paint(theme::DIM, count(items.len(), shown)));
    }
    Some(out)
}
