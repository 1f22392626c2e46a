//! Why a fact holds, while events have no public face: the transaction alone.

use super::{label, value_text};
use crate::{
    fail::{Failure, Outcome},
    output::{Rows, Shape, show},
    session::{Session, read_edn},
    term::theme,
};
use annals::{EntityId, Value, edn};

/// `annals why`.
pub fn why(s: &mut Session, e: EntityId, attr: &str, value: Option<&str>) -> Outcome {
    let db = s.view_without_history()?;
    let attr = super::attribute(&db, attr)?;
    let mut of = vec![Value::Ref(e), Value::Keyword(attr.clone())];
    if let Some(text) = value {
        of.push(read_edn(text, "value")?);
    }
    let found = db.datoms("eavt", &of)?;
    if found.is_empty() {
        return Err(Failure::refused(
            "shell/no-fact",
            format!("{} has no such {attr} in this view", label(&db, e)),
        )
        .help(format!("what it had before: :history {} {attr}", e.raw())));
    }
    let mut rows = Rows::new([":value", ":t", ":tx-instant", ":tx"], Shape::Maps);
    for d in found {
        let instant = db.instant_of(d.t)?.map_or(Value::Nil, Value::Instant);
        let tx = db.entity(d.t.entity())?;
        let about = tx.iter().flat_map(|x| &x.attributes).filter(|(k, _)| k.as_str() != "db/txInstant");
        let about = about.map(|(k, v)| (Value::Keyword(k.clone()), v.first().cloned().unwrap_or(Value::Nil)));
        rows.rows.push(vec![
            d.v,
            Value::Long(i64::try_from(d.t.0).unwrap_or(i64::MAX)),
            instant,
            Value::map(about),
        ]);
    }
    if !s.draws() {
        return s.answer(rows);
    }
    for row in &rows.rows {
        let fact = value_text(&db, &row[0], true);
        s.say(format!(
            "{}  {}  {fact}",
            s.out.paint(theme::HEAD, label(&db, e)),
            s.out.paint(theme::KEYWORD, &attr)
        ))?;
        let plain = |v: &Value| show::cell(v, None, &s.out).text;
        s.say(format!(
            "  {}  t{} at {}",
            s.out.paint(theme::DIM, "transaction"),
            plain(&row[1]),
            plain(&row[2])
        ))?;
        if let Value::Map(about) = &row[3] {
            for (k, v) in about.iter() {
                s.say(format!(
                    "  {}  {} {}",
                    s.out.paint(theme::DIM, "           "),
                    edn::print(k),
                    value_text(&db, v, true)
                ))?;
            }
        }
    }
    s.keep(rows);
    Ok(())
}
