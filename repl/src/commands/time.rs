//! The log, the life of an entity, timelines and diffs.

use super::{facts, label, value_text, write};
use crate::{
    ask,
    backend::{Db, Report},
    fail::{Failure, Outcome},
    moment,
    output::{
        Rows, Shape,
        chart::{Stretch, lanes},
        show,
        table::{Cell, Head, Table, counted},
    },
    session::Session,
    term::theme,
};
use annals::{Datom, EntityId, Instant, T, Value};
use std::collections::BTreeMap;

/// Does the fact of this datom hold in a view?
pub fn holds(db: &Db, d: &Datom) -> Outcome<bool> {
    Ok(!db.datoms("eavt", &[Value::Ref(d.e), Value::Ref(d.a.entity()), d.v.clone()])?.is_empty())
}

/// Transactions of `[from, to)`.
pub fn log(s: &Session, from: T, to: T) -> Outcome {
    let mut rows = Rows::new([":t", ":tx-instant", ":tx-data"], Shape::Maps);
    let mut drawn = Table::new([
        Head::right("t"),
        Head::new("when"),
        Head::right("+"),
        Head::right("-"),
        Head::new("about"),
    ]);
    s.conn.transactions(from, to, &mut |r| {
        if s.draws() {
            drawn.rows.push(log_row(s, &r));
            return Ok(());
        }
        rows.rows.push(vec![t_value(r.t()), Value::Instant(r.tx_instant()), data_value(&r)]);
        // Rows go out as they are read: a log may be long.
        s.print(&rows)?;
        rows.rows.clear();
        Ok(())
    })?;
    if !s.draws() {
        return Ok(());
    }
    if drawn.rows.is_empty() {
        return s.say(s.out.paint(theme::DIM, "no transactions"));
    }
    s.page(&drawn.draw(&s.out, s.look().layout))
}

fn log_row(s: &Session, r: &Report) -> Vec<Cell> {
    let data = write::content(r);
    let added = data.iter().filter(|d| d.added).count();
    vec![
        Cell::new(r.t().to_string(), theme::HEAD),
        Cell::new(show::moment(r.tx_instant()), theme::DIM),
        Cell::new(added.to_string(), theme::GOOD),
        Cell::new((data.len() - added).to_string(), theme::BAD),
        Cell::plain(about(s, r, &data)),
    ]
}

/// What a transaction is about, in a few words: its own facts, else the entities it touches, else its events.
fn about(s: &Session, r: &Report, data: &[Datom]) -> String {
    if data.is_empty() {
        let events = s.conn.events_of(r.t()).unwrap_or_default();
        let mut names: Vec<String> =
            events.iter().take(3).map(|e| format!("{} {}", e.ty(), e.stream)).collect();
        if events.len() > names.len() {
            names.push("…".into());
        }
        return names.join(", ");
    }
    let db = r.db_after();
    let own: Vec<String> = data
        .iter()
        .filter(|d| d.e == r.tx())
        .map(|d| format!("{} {}", attr_name(db, d), value_text(db, &d.v, false)))
        .collect();
    if !own.is_empty() {
        return own.join(", ");
    }
    let mut names: Vec<String> = Vec::new();
    for d in data {
        if names.len() > 3 {
            names.push("…".into());
            break;
        }
        let mut name = label(db, d.e);
        if name == d.e.to_string() {
            name = label(r.db_before(), d.e);
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" ")
}

fn attr_name(db: &Db, d: &Datom) -> String {
    db.ident(d.a.entity()).map_or_else(|| d.a.entity().to_string(), |k| k.to_string())
}

fn t_value(t: T) -> Value {
    Value::Long(i64::try_from(t.0).unwrap_or(i64::MAX))
}

fn data_value(r: &Report) -> Value {
    let db = r.db_after();
    Value::vector(r.tx_data().iter().map(|d| {
        let a = db.ident(d.a.entity()).map_or(Value::Ref(d.a.entity()), Value::Keyword);
        Value::vector([Value::Ref(d.e), a, d.v.clone(), Value::Bool(d.added)])
    }))
}

/// `:tx T`.
pub fn show_tx(s: &Session, t: T) -> Outcome {
    let r = write::transaction(&s.conn, t)?;
    if !s.draws() {
        let mut rows = Rows::new([":t", ":tx-instant", ":tx-data"], Shape::Maps);
        rows.rows.push(vec![t_value(r.t()), Value::Instant(r.tx_instant()), data_value(&r)]);
        return s.print(&rows);
    }
    let data = write::content(&r);
    s.say(write::headline(s, &r))?;
    s.page(&facts::datoms(&data, r.db_after(), r.db_before(), usize::MAX, &s.out))
}

/// `annals history`.
pub fn history(s: &mut Session, e: EntityId, attr: Option<&str>) -> Outcome {
    let db = s.view_without_history()?;
    let mut rows = Rows::new([":t", ":tx-instant", ":attr", ":value", ":op"], Shape::Maps);
    for c in db.history_of(e, attr)? {
        let d = c.datom;
        rows.rows.push(vec![
            t_value(d.t),
            Value::Instant(c.instant),
            Value::Keyword(c.attr),
            d.v,
            Value::Bool(d.added),
        ]);
    }
    if !s.draws() {
        return s.answer(rows);
    }
    if rows.rows.is_empty() {
        return s.say(s.out.paint(theme::DIM, "no history in this view"));
    }
    let title = match attr {
        Some(a) => format!(
            "{}  {}",
            s.out.paint(theme::HEAD, label(&db, e)),
            s.out.paint(theme::KEYWORD, keyword(a))
        ),
        None => s.out.paint(theme::HEAD, label(&db, e)).to_string(),
    };
    s.say(title)?;
    let mut heads = vec![Head::right("t"), Head::new("when"), Head::new("")];
    if attr.is_none() {
        heads.push(Head::new("attribute"));
    }
    heads.push(Head::new("value"));
    let mut drawn = Table::new(heads);
    let lines = replaced(&rows.rows);
    let (shown, gap) = show::head_and_tail(lines.len(), s.settings.rows);
    drawn.gap = gap;
    for (sign, row) in shown.into_iter().map(|i| &lines[i]) {
        let style = match sign {
            Sign::Asserted => theme::GOOD,
            Sign::Retracted => theme::BAD,
            Sign::Replaced => theme::NUMBER,
        };
        let when = if let Value::Instant(i) = row[1] { show::moment(i) } else { String::new() };
        let mut cells = vec![
            show::cell(&row[0], None, &s.out),
            Cell::new(when, theme::DIM),
            Cell::new(sign.mark(), style),
        ];
        if attr.is_none() {
            cells.push(show::cell(&row[2], None, &s.out));
        }
        let gone = *sign == Sign::Retracted;
        let text = value_text(&db, &row[3], false);
        cells.push(Cell::new(text, if gone { theme::DIM } else { anstyle::Style::new() }));
        drawn.rows.push(cells);
    }
    s.page(&drawn.draw(&s.out, s.look().layout))?;
    let legend = match lines.iter().any(|(sign, _)| *sign == Sign::Replaced) {
        true => " · ~ takes the place of the value before it",
        false => "",
    };
    s.note(s.err.paint(theme::DIM, format!("{}{legend}", counted(lines.len() as u64, "change"))));
    s.keep(rows);
    Ok(())
}

fn keyword(attr: &str) -> String {
    if attr.starts_with(':') { attr.to_owned() } else { format!(":{attr}") }
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Asserted,
    Retracted,
    /// Asserted where the same transaction retracted the one before.
    Replaced,
}

impl Sign {
    fn mark(self) -> &'static str {
        match self {
            Sign::Asserted => "+",
            Sign::Retracted => "-",
            Sign::Replaced => "~",
        }
    }
}

/// The rows `t instant attr value op` of a life as they are drawn: a retraction and the one
/// assertion that replaces it in the same transaction are one line.
fn replaced(rows: &[Vec<Value>]) -> Vec<(Sign, &Vec<Value>)> {
    let mut out = Vec::with_capacity(rows.len());
    for same in rows.chunk_by(|a, b| a[0] == b[0] && a[2] == b[2]) {
        match same {
            [lost, gained] if lost[4] == Value::Bool(false) && gained[4] == Value::Bool(true) => {
                out.push((Sign::Replaced, gained));
            }
            _ => out.extend(
                same.iter()
                    .map(|r| (if r[4] == Value::Bool(true) { Sign::Asserted } else { Sign::Retracted }, r)),
            ),
        }
    }
    out
}

/// `:timeline`: a lane an attribute, by clock time.
pub fn timeline(s: &Session, e: EntityId, attrs: &[String]) -> Outcome {
    let db = s.view_without_history()?;
    let mut axis: Option<(Instant, Instant)> = None;
    let mut all: Vec<(String, Vec<Stretch>)> = Vec::new();
    let mut starts: BTreeMap<(String, Value), usize> = BTreeMap::new();
    for c in db.history_of(e, None)? {
        let attr = c.attr.to_string();
        if !attrs.is_empty() && !attrs.contains(&attr) {
            continue;
        }
        let at = c.instant;
        axis = Some(axis.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
        let lane = match all.iter().position(|(n, _)| *n == attr) {
            Some(i) => i,
            None => {
                all.push((attr.clone(), Vec::new()));
                all.len() - 1
            }
        };
        let key = (attr, c.datom.v);
        if c.datom.added {
            starts.insert(key.clone(), all[lane].1.len());
            all[lane].1.push(Stretch { label: super::short_text(&db, &key.1), from: at.0, to: None });
        } else if let Some(i) = starts.remove(&key) {
            all[lane].1[i].to = Some(at.0);
        }
    }
    let Some((first, last)) = axis else {
        return s.say(s.out.paint(theme::DIM, "nothing to draw: no facts in this view"));
    };
    let end = last.max(Instant(first.0 + 1));
    // What still holds goes on a little beyond the last change.
    let past_end = end.0 + (end.0 - first.0) / 12 + 1;
    let many: Vec<(String, Vec<Stretch>)> = all.into_iter().flat_map(split_lane).collect();
    // As much of the ends as tells them apart.
    let (a, b) = (show::moment(first), show::moment(end));
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let shown = if same >= 19 {
        23
    } else if same >= 16 {
        19
    } else {
        16
    };
    let text = |i: Instant| show::moment(i).chars().take(shown).collect::<String>();
    s.say(s.out.paint(theme::HEAD, label(&db, e)))?;
    s.page(&lanes(&many, (first.0, past_end), (&text(first), &text(end)), &s.out))
}

/// Values that hold at the same time get a lane each.
fn split_lane((name, stretches): (String, Vec<Stretch>)) -> Vec<(String, Vec<Stretch>)> {
    let mut out: Vec<(String, Vec<Stretch>)> = Vec::new();
    for s in stretches {
        let free =
            out.iter().position(|(_, l)| l.last().is_none_or(|last| last.to.is_some_and(|to| to <= s.from)));
        match free {
            Some(i) => out[i].1.push(s),
            None => {
                let name = if out.is_empty() { name.clone() } else { String::new() };
                out.push((name, vec![s]));
            }
        }
    }
    out
}

/// `annals diff`: rows gained and lost, with the transaction that did it.
pub fn diff(s: &mut Session, query: &str, t1: &str, t2: &str) -> Outcome {
    let (a, b) = (moment::parse(t1)?, moment::parse(t2)?);
    let db = s.conn.db()?;
    let (t1, t2) = (db.t_of(a)?, db.t_of(b)?);
    if t1 > t2 {
        return Err(Failure::usage(format!("t{t1} is after t{t2}")).help("the earlier time comes first"));
    }
    let given = s.given();
    let found = ask::diff(query, &db, t1, t2, &given)?;
    if !s.draws() {
        return s.answer(found);
    }
    if found.rows.is_empty() {
        return s.say(s.out.paint(theme::DIM, format!("the same rows at t{t1} and t{t2}")));
    }
    let heads = (1..found.columns.len()).map(|i| Head { under: String::new(), ..show::head(&found, i) });
    let mut drawn = Table::new([Head::new("")].into_iter().chain(heads));
    if let Some(t) = drawn.heads.last_mut() {
        t.name = "t".to_owned();
    }
    let (mut gained, mut lost) = (0, 0);
    let (shown, gap) = show::head_and_tail(found.rows.len(), s.settings.rows);
    drawn.gap = gap;
    for row in &found.rows {
        if row[0] == Value::keyword("gained") { gained += 1 } else { lost += 1 }
    }
    for row in shown.into_iter().map(|i| &found.rows[i]) {
        let (sign, style) =
            if row[0] == Value::keyword("gained") { ("+", theme::GOOD) } else { ("-", theme::BAD) };
        let cells = row[1..].iter().map(|v| Cell { style, ..show::cell(v, Some(&db), &s.out) });
        drawn.rows.push([Cell::new(sign, style)].into_iter().chain(cells).collect());
    }
    s.page(&drawn.draw(&s.out, s.look().layout))?;
    s.note(s.err.paint(theme::DIM, format!("{} gained, {} lost between t{t1} and t{t2}", gained, lost)));
    s.keep(found);
    Ok(())
}
