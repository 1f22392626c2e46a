//! Transactions: from a stream of forms, from the prompt, speculative, inverse.

use super::facts;
use crate::{
    backend::{Conn, Report},
    fail::{Exit, Failure, Origin, Outcome},
    output::{Rows, Shape},
    script::{Item, ItemKind, Script},
    session::Session,
    term::theme,
};
use annals::{Datom, Diagnostic, Span, T, Value, edn};
use std::{io::BufRead, sync::Arc};

/// Datoms shown under a transaction at the prompt.
const SHOWN: usize = 20;

/// `annals transact`: each top-level vector is one transaction; stops at the first refused one.
pub fn transact_stream(s: &Session, input: impl BufRead, name: &str) -> Outcome {
    s.writable()?;
    let mut script = Script::forms_only(input);
    while let Some(item) = script.next_item()? {
        let text = form_text(&item, name)?;
        let report = s.conn.transact(text.as_str()).map_err(|f| at_item(f, &item, name))?;
        s.print(&report_row(&report))?;
    }
    Ok(())
}

/// The text of a transaction form; anything else is refused with its place.
fn form_text(item: &Item, name: &str) -> Outcome<String> {
    match &item.kind {
        ItemKind::Form if item.text.starts_with('[') => Ok(item.text.clone()),
        ItemKind::Form if item.text.starts_with('{') => Ok(format!("[{}]", item.text)),
        ItemKind::Broken { why, at } => {
            let d = Diagnostic::new("edn/syntax", why.clone()).at(Span::new(at.0, at.1), "here");
            Err(at_item(Failure::new(Exit::Refused, d), item, name))
        }
        ItemKind::Form | ItemKind::Command => {
            let d = Diagnostic::new("tx/form", "a transaction is a vector of forms")
                .at(Span::new(0, item.text.len()), "this is none");
            Err(at_item(Failure::new(Exit::Refused, d), item, name))
        }
    }
}

/// Points a failure at an item of a file.
pub fn at_item(mut f: Failure, item: &Item, name: &str) -> Failure {
    f.origin = Some(Origin { name: name.to_owned(), text: Arc::from(item.text.as_str()), line: item.line });
    for d in &mut f.diagnostics {
        if d.labels.is_empty() && d.path.is_none() {
            let end = item.text.find('\n').unwrap_or(item.text.len());
            *d = d.clone().at(Span::new(0, end), "in this form");
        }
    }
    f
}

/// `{:t … :tx-instant … :tempids {…} :datoms n}`.
pub fn report_row(r: &Report) -> Rows {
    let mut rows = Rows::new([":t", ":tx-instant", ":tempids", ":datoms"], Shape::Maps);
    let tempids = r.tempids().map(|(n, e)| (Value::string(n), Value::Ref(e)));
    rows.rows.push(vec![
        Value::Long(i64::try_from(r.t().0).unwrap_or(i64::MAX)),
        Value::Instant(r.tx_instant()),
        Value::map(tempids),
        Value::Long(r.tx_data().len() as i64),
    ]);
    rows
}

/// A transaction typed at the prompt.
pub fn transact(s: &mut Session, text: &str) -> Outcome {
    s.writable()?;
    if !s.is_now() {
        s.note(s.err.paint(theme::DIM, "the transaction extends the present, not the moment in the prompt"));
    }
    let report = s.conn.transact(text).map_err(|f| f.of("transaction", text))?;
    show_report(s, &report)
}

/// A report: drawn for people, else as a map.
pub fn show_report(s: &Session, r: &Report) -> Outcome {
    if !s.draws() {
        return s.print(&report_row(r));
    }
    s.say(headline(s, r))?;
    let rest = content(r);
    s.page(&facts::datoms(&rest, r.db_after(), r.db_before(), SHOWN, &s.out))
}

/// `t12  2026-03-01 10:00:00  +3 -1`.
pub fn headline(s: &Session, r: &Report) -> String {
    let rest = content(r);
    let added = rest.iter().filter(|d| d.added).count();
    let when = crate::output::show::moment(r.tx_instant());
    let changes = if rest.is_empty() {
        s.out.paint(theme::DIM, "nothing changed").to_string()
    } else {
        format!(
            "{} {}",
            s.out.paint(theme::GOOD, format!("+{added}")),
            s.out.paint(theme::BAD, format!("-{}", rest.len() - added))
        )
    };
    format!(
        "{}  {}  {changes}",
        s.out.paint(theme::HEAD, format!("t{}", r.t())),
        s.out.paint(theme::DIM, when)
    )
}

/// The datoms of a transaction besides its own instant.
pub fn content(r: &Report) -> Vec<Datom> {
    let instant = r.db_after().attribute("db/txInstant").map(|a| a.id).ok();
    r.tx_data().iter().filter(|d| !(d.e == r.tx() && Some(d.a) == instant)).cloned().collect()
}

/// `:with`: what a transaction would do, and what a query would answer after it.
pub fn with(s: &mut Session, tx: &str, query: Option<&str>) -> Outcome {
    let report = s.conn.db()?.with(tx).map_err(|f| f.of("transaction", tx))?;
    s.note(s.err.paint(theme::DIM, "not written"));
    match query {
        None => show_report(s, &report),
        Some(q) => {
            let after = report.askable().cloned().ok_or_else(|| {
                Failure::refused("shell/local-only", "a query after a speculative transaction works on a database of this machine, not on a server's")
                    .help(":with TX alone shows what it would change; or POST /with with a query")
            })?;
            let db = s.view(after)?;
            let answered = crate::ask::ask(q, &db, &s.given())?;
            s.answer(answered.rows)
        }
    }
}

/// The transaction that takes `t` back: what it asserted and still holds is
/// retracted, what it retracted and does not hold again is asserted. The second
/// list is what later transactions changed, and so is left alone.
pub fn inverse(conn: &Conn, t: T) -> Outcome<(Vec<Value>, Vec<Datom>)> {
    let report = transaction(conn, t)?;
    let db = conn.db()?;
    let schema = db.schema()?;
    let (mut forms, mut left) = (Vec::new(), Vec::new());
    // What the transaction says of itself, who and why, stays said.
    let data: Vec<Datom> = content(&report).into_iter().filter(|d| d.e != report.tx()).collect();
    for d in &data {
        let attr = schema.attribute(d.a).map(|a| (a.ident.clone(), a.is_many()));
        let Some((ident, many)) = attr else {
            left.push(d.clone());
            continue;
        };
        let holds = super::time::holds(&db, d)?;
        let op = match (d.added, holds) {
            (true, true) => {
                // A replaced value comes back by its own assertion below.
                let replaced = !many && data.iter().any(|o| !o.added && o.e == d.e && o.a == d.a);
                if replaced {
                    continue;
                }
                "db/retract"
            }
            (false, false) => {
                let now = if many { None } else { db.value(d.e, ident.as_str())? };
                let ours = data.iter().find(|o| o.added && o.e == d.e && o.a == d.a).map(|o| &o.v);
                if now.is_some() && now.as_ref() != ours {
                    left.push(d.clone());
                    continue;
                }
                "db/add"
            }
            (true, false) | (false, true) => {
                left.push(d.clone());
                continue;
            }
        };
        forms.push(Value::vector([Value::keyword(op), Value::Ref(d.e), Value::Keyword(ident), d.v.clone()]));
    }
    Ok((forms, left))
}

/// One transaction of the log.
pub fn transaction(conn: &Conn, t: T) -> Outcome<Report> {
    let mut found = None;
    conn.transactions(t, t.next(), &mut |r| {
        found.get_or_insert(r);
        Ok(())
    })?;
    match found {
        Some(r) => Ok(r),
        None => Err(Failure::refused("shell/no-transaction", format!("there is no transaction t{t}"))
            .help(format!("the newest is t{}", conn.db()?.basis_t()))),
    }
}

/// `:undo-tx`: proposes, and with `!` transacts what was proposed.
pub fn undo(s: &mut Session, t: T, go: bool) -> Outcome {
    if go {
        let Some((of, text)) = s.proposal.clone().filter(|(of, _)| *of == t) else {
            return Err(Failure::usage(format!("nothing was proposed for t{t}"))
                .help(format!("look first: :undo-tx {t}")));
        };
        s.proposal = None;
        let _ = of;
        return transact(s, &text);
    }
    let (forms, left) = inverse(&s.conn, t)?;
    let db = s.conn.db()?;
    if !left.is_empty() {
        s.note(s.err.paint(theme::DIM, "changed since then, left alone:"));
        if !s.quiet {
            eprint!("{}", facts::datoms(&left, &db, &db, SHOWN, &s.err));
        }
    }
    if forms.is_empty() {
        return Err(Failure::refused("shell/nothing-to-undo", format!("nothing of t{t} still stands")));
    }
    let lines: Vec<String> = forms.iter().map(edn::print).collect();
    let text = format!("[{}]", lines.join("\n "));
    s.say(crate::shell::highlight::paint(&text, None, None, &s.out))?;
    s.note(s.err.paint(theme::DIM, format!("nothing is written yet: `:undo-tx {t} !` transacts it")));
    s.proposal = Some((t, text));
    Ok(())
}
