//! Why a fact holds: the transaction, event and projection that made it.

use super::{label, value_text};
use crate::{
    fail::{Failure, Outcome},
    output::{
        Rows, Shape, show,
        table::{cut, visible},
    },
    session::{Session, read_edn},
    term::theme,
};
use annals::{EntityId, T, Value, edn};
use unicode_width::UnicodeWidthStr as _;

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
    let columns = [
        ":value",
        ":t",
        ":tx-instant",
        ":event",
        ":type",
        ":stream",
        ":version",
        ":projection",
        ":actor",
        ":command",
        ":causes",
    ];
    let mut rows = Rows::new(columns, Shape::Maps);
    let text = |t: Option<String>| t.map_or(Value::Nil, Value::from);
    for v in &values {
        for d in db.datoms("eavt", &[Value::Ref(e), Value::Keyword(attr.clone()), v.clone()])? {
            let instant = db.instant_of(d.t).map_or(Value::Nil, Value::Instant);
            let t = Value::Long(i64::try_from(d.t.0).unwrap_or(i64::MAX));
            let origins = s.conn.origins(&db, &d, &attr)?;
            if origins.is_empty() {
                let mut row = vec![v.clone(), t, instant];
                row.resize(columns.len(), Value::Nil);
                rows.rows.push(row);
                continue;
            }
            for o in origins {
                let ev = &o.event;
                rows.rows.push(vec![
                    v.clone(),
                    t.clone(),
                    instant.clone(),
                    Value::Uuid(ev.id().0),
                    Value::string(ev.ty()),
                    Value::string(ev.stream.as_str()),
                    Value::Long(ev.version.0 as i64),
                    text(o.projection.map(|(name, version)| format!("{name} v{version}"))),
                    text(ev.event.meta.actor.as_deref().map(str::to_owned)),
                    text(o.command),
                    match o.chain.is_empty() {
                        true => Value::Nil,
                        false => Value::vector(o.chain.iter().map(|c| Value::string(c.as_str()))),
                    },
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
        let (name, value) = (label(&db, e), visible(&value_text(&db, &row[0], true)));
        let room = s.out.width().saturating_sub(name.width() + attr.to_string().width() + 4);
        let (head, attr) = (s.out.paint(theme::HEAD, &name), s.out.paint(theme::KEYWORD, &attr));
        if value.width() <= room {
            s.say(format!("{head}  {attr}  {value}"))?;
        } else {
            // On a line of its own, cut only by the screen.
            let value = cut(&value, s.out.width().saturating_sub(2), &s.out);
            s.say(format!("{head}  {attr}\n  {value}"))?;
        }
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
        if row[9] != Value::Nil {
            lines.push(("command", plain(&row[9])));
        }
        if let Value::Vector(causes) = &row[10] {
            let mut label = "caused by";
            for c in causes.iter() {
                lines.push((label, plain(c)));
                label = "";
            }
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
