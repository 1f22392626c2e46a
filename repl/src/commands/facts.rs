//! Datoms for people: `+ [:order/id "A-1"]  :order/status  :placed`.

use super::{label, value_text};
use crate::{
    backend::Db,
    term::{Screen, theme},
};
use annals::Datom;
use std::{collections::HashMap, fmt::Write as _};
use unicode_width::UnicodeWidthStr as _;

/// Datoms, one a line, entities and attributes by name; at most `most` of them.
/// Names are those of `db`, falling back to `before` for what a transaction took away.
pub fn datoms(list: &[Datom], db: &Db, before: &Db, most: usize, screen: &Screen) -> String {
    let mut names: HashMap<u64, String> = HashMap::new();
    let mut name = |e: annals::EntityId| -> String {
        names
            .entry(e.raw())
            .or_insert_with(|| {
                let now = label(db, e);
                if now == e.to_string() { label(before, e) } else { now }
            })
            .clone()
    };
    let shown: Vec<&Datom> = list.iter().take(most).collect();
    let rows: Vec<(String, String, String, bool)> = shown
        .iter()
        .map(|d| {
            let attr = db
                .ident(d.a.entity())
                .or_else(|| before.ident(d.a.entity()))
                .map_or_else(|| d.a.entity().to_string(), |k| k.to_string());
            let value = match &d.v {
                annals::Value::Ref(e) => name(*e),
                v => value_text(db, v, true),
            };
            (name(d.e), attr, value, d.added)
        })
        .collect();
    let width = screen.width();
    let wide = |f: fn(&(String, String, String, bool)) -> &String| {
        rows.iter().map(|r| f(r).width()).max().unwrap_or(0).min(width / 3)
    };
    let (entities, attrs) = (wide(|r| &r.0), wide(|r| &r.1));
    let mut out = String::new();
    for (e, a, v, added) in &rows {
        let (sign, style) = if *added { ("+", theme::GOOD) } else { ("-", theme::BAD) };
        let e = fit(e, entities, screen);
        let a = fit(a, attrs, screen);
        let room = width.saturating_sub(entities + attrs + 6).max(4);
        let v = crate::output::table::cut(&crate::output::table::visible(v), room, screen);
        let _ = writeln!(out, "{} {e}  {}  {v}", screen.paint(style, sign), screen.paint(theme::KEYWORD, a));
    }
    if list.len() > most {
        let _ = writeln!(
            out,
            "{}",
            screen.paint(
                theme::DIM,
                format!("… {} more", crate::output::table::thousands((list.len() - most) as u64))
            )
        );
    }
    out
}

fn fit(text: &str, width: usize, screen: &Screen) -> String {
    let text = crate::output::table::cut(&crate::output::table::visible(text), width, screen);
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}
