//! Why a fact holds: the transaction, event and projection that made it.

use super::{label, value_text};
use crate::{
    fail::{Failure, Outcome},
    output::{Rows, Shape, show},
    session::{Session, read_edn},
    term::theme,
};
use annals::{EntityId, T, Value, edn};

/// `annals why`.
pub fn why(s: &mut Session, e: EntityId, attr: &str, value: Option<&str>) -> Outcome {
    let db = s.view_without_history()?;
    let attr = super::attribute(&db, attr)?;
    let values = match value {
        Some(text) => vec![read_edn(text, "value")?],
        None => {
            let of = [Value::Ref(e), Value::Keyword(attr.clone())];
            db.datoms("eavt", &of)?.into_iter().map(|d| d.v).collect()
        }
    };
    if values.is_empty() {
        return Err(Failure::refused(
            "shell/no-fact",
            format!("{} has no {attr} in this view", label(&db, e)),
        )
        .help(format!("what it had before: :history {} {attr}", e.raw())));
    }
    let columns =
        [":value", ":t", ":tx-instant", ":event", ":type", ":stream", ":version", ":projection", ":actor"];
    let mut rows = Rows::new(columns, Shape::Maps);
    let owner = s
        .conn
        .projections()?
        .into_iter()
        .find(|p| p.attributes.contains(&attr))
        .map(|p| format!("{} v{}", p.name, p.version));
    let text = |t: Option<String>| t.map_or(Value::Nil, Value::from);
    for v in &values {
        for d in db.datoms("eavt", &[Value::Ref(e), Value::Keyword(attr.clone()), v.clone()])? {
            let instant = db.instant_of(d.t).map_or(Value::Nil, Value::Instant);
            let t = Value::Long(i64::try_from(d.t.0).unwrap_or(i64::MAX));
            // A projected fact is filed under the transaction of the event it comes from.
            let events = if owner.is_some() { s.conn.events_of(d.t)? } else { Vec::new() };
            let mut causes: Vec<Option<&annals::event::Recorded>> = events.iter().map(Some).collect();
            if causes.is_empty() {
                causes.push(None);
            }
            for event in causes {
                rows.rows.push(vec![
                    v.clone(),
                    t.clone(),
                    instant.clone(),
                    event.map_or(Value::Nil, |ev| Value::Uuid(ev.id().0)),
                    text(event.map(|ev| ev.ty().to_owned())),
                    text(event.map(|ev| ev.stream.to_string())),
                    event.map_or(Value::Nil, |ev| Value::Long(ev.version.0 as i64)),
                    text(event.and(owner.clone())),
                    text(event.and_then(|ev| ev.event.meta.actor.as_deref().map(str::to_owned))),
                ]);
            }
        }
    }
    if rows.rows.is_empty() {
        return Err(Failure::refused(
            "shell/no-fact",
            format!("{} has no {attr} {} in this view", label(&db, e), edn::print(&values[0])),
        ));
    }
    if !s.draws() {
        return s.answer(rows);
    }
    for row in &rows.rows {
        s.say(format!(
            "{}  {}  {}",
            s.out.paint(theme::HEAD, label(&db, e)),
            s.out.paint(theme::KEYWORD, &attr),
            value_text(&db, &row[0], true)
        ))?;
        let plain = |v: &Value| show::cell(v, None, &s.out).text;
        let mut lines = vec![("transaction", format!("t{} at {}", plain(&row[1]), plain(&row[2])))];
        if row[3] != Value::Nil {
            lines.push((
                "event",
                format!("{} ({} version {})", plain(&row[4]), plain(&row[5]), plain(&row[6])),
            ));
            lines.push(("event id", plain(&row[3])));
        }
        if row[7] != Value::Nil {
            lines.push(("projection", plain(&row[7])));
        }
        if row[8] != Value::Nil {
            lines.push(("actor", plain(&row[8])));
        }
        for (name, text) in lines {
            s.say(format!("  {}  {text}", s.out.paint(theme::DIM, format!("{name:11}"))))?;
        }
        if row[3] == Value::Nil {
            // A plain transaction may say itself who and why.
            let t = if let Value::Long(t) = row[1] { T(t as u64) } else { T(0) };
            let tx = db.entity(t.entity())?;
            for (k, vs) in tx.iter().flat_map(|x| &x.attributes).filter(|(k, _)| k.as_str() != "db/txInstant")
            {
                for v in vs {
                    s.say(format!(
                        "  {}  {} {}",
                        s.out.paint(theme::DIM, format!("{:11}", "")),
                        s.out.paint(theme::KEYWORD, k),
                        value_text(&db, v, true)
                    ))?;
                }
            }
        }
    }
    s.keep(rows);
    Ok(())
}
