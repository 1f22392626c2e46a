//! Looking around: schema, counts, entities, pulls.

use super::{label, value_text};
use crate::{
    backend::Db,
    fail::{Failure, Outcome},
    output::{
        Rows, Shape, show,
        table::{Cell, Head, Table, thousands},
    },
    session::Session,
    term::theme,
};
use annals::{Attribute, Cardinality, EntityId, Unique, Value, edn};
use std::sync::Arc;

/// The user's attributes, or all; of one namespace or name.
fn attributes(s: &Session, db: &Db, all: bool, only: Option<&str>) -> Outcome<Vec<Arc<Attribute>>> {
    let (genesis, schema) = (s.conn.genesis()?.schema()?, db.schema()?);
    let only = only.map(|o| o.trim_start_matches(':'));
    let own = |a: &Attribute| genesis.attribute(a.id).is_none();
    let fits = |a: &Attribute| match only {
        None => all || own(a),
        Some(o) => a.ident.as_str() == o || a.ident.namespace() == Some(o),
    };
    let mut list: Vec<Arc<Attribute>> = schema.attributes().filter(|a| fits(a)).cloned().collect();
    list.sort_by(|a, b| a.ident.cmp(&b.ident));
    if let (Some(o), true) = (only, list.is_empty()) {
        // A name says which is near; a word without a namespace is one of those, or nothing.
        if o.contains('/') {
            db.attribute(o)?;
        } else {
            let mut known: Vec<String> = schema
                .attributes()
                .filter(|a| own(a))
                .filter_map(|a| a.ident.namespace().map(str::to_owned))
                .collect();
            known.sort();
            known.dedup();
            let f = Failure::refused("shell/no-namespace", format!("no attribute is in the namespace {o}"));
            return Err(match annals::diagnostic::nearest(o, known.iter().map(String::as_str)) {
                Some(near) => f.help(format!("did you mean {near}?")),
                None => f.help(":schema shows all there are"),
            });
        }
    }
    Ok(list)
}

/// `annals schema`.
pub fn schema(s: &mut Session, all: bool, only: Option<&str>) -> Outcome {
    let db = s.db()?;
    let list = attributes(s, &db, all, only)?;
    // Maps that can be transacted elsewhere as they are.
    let mut rows = Rows::new(["attribute"], Shape::Collection);
    for a in &list {
        let db = |name: &str| Value::keyword(&format!("db/{name}"));
        let mut map = vec![
            (db("ident"), Value::Keyword(a.ident.clone())),
            (db("valueType"), Value::keyword(&format!("db.type/{}", a.value_type.name()))),
            (
                db("cardinality"),
                Value::keyword(if a.cardinality == Cardinality::Many {
                    "db.cardinality/many"
                } else {
                    "db.cardinality/one"
                }),
            ),
        ];
        match a.unique {
            Some(Unique::Identity) => map.push((db("unique"), Value::keyword("db.unique/identity"))),
            Some(Unique::Value) => map.push((db("unique"), Value::keyword("db.unique/value"))),
            None => {}
        }
        for (name, yes) in [
            ("index", a.index && a.unique.is_none()),
            ("isComponent", a.is_component),
            ("noHistory", a.no_history),
        ] {
            if yes {
                map.push((db(name), Value::Bool(true)));
            }
        }
        if let Some(doc) = &a.doc {
            map.push((db("doc"), Value::string(&**doc)));
        }
        rows.rows.push(vec![Value::map(map)]);
    }
    if !s.draws() {
        return s.answer(rows);
    }
    if list.is_empty() {
        s.keep(rows);
        return s.say(
            s.out.paint(theme::DIM, "no attributes yet: transact some, or import a table (:help import)"),
        );
    }
    let mut t = Table::new(["attribute", "type", "cardinality", "", "doc"].map(Head::new));
    for a in &list {
        let mut marks = Vec::new();
        match a.unique {
            Some(Unique::Identity) => marks.push("identity"),
            Some(Unique::Value) => marks.push("unique"),
            None if a.index => marks.push("indexed"),
            None => {}
        }
        if a.is_component {
            marks.push("component");
        }
        if a.no_history {
            marks.push("no history");
        }
        t.rows.push(vec![
            Cell::new(a.ident.to_string(), theme::KEYWORD),
            Cell::plain(a.value_type.name()),
            Cell::plain(if a.is_many() { "many" } else { "one" }),
            Cell::new(marks.join(", "), theme::CLAUSE),
            Cell::new(a.doc.as_deref().unwrap_or(""), theme::DIM),
        ]);
    }
    if t.rows.iter().all(|r| r[4].text.is_empty()) {
        t.heads.pop();
        t.rows.iter_mut().for_each(|r| drop(r.pop()));
    }
    s.page(&t.draw(&s.out, s.look().layout))?;
    s.keep(rows);
    Ok(())
}

/// `:attrs`: attributes with the number of facts each holds.
pub fn attrs(s: &mut Session, only: Option<&str>) -> Outcome {
    let db = s.db()?;
    let mut rows = Rows::list([":attr", ":type", ":facts"]);
    for a in attributes(s, &db, false, only)? {
        let n = db.count("aevt", &[Value::Keyword(a.ident.clone())])?;
        rows.rows.push(vec![
            Value::Keyword(a.ident.clone()),
            Value::keyword(a.value_type.name()),
            Value::Long(n as i64),
        ]);
    }
    s.answer(rows)
}

/// `:entity`.
pub fn entity(s: &mut Session, e: EntityId) -> Outcome {
    let db = s.view_without_history()?;
    let Some(found) = db.entity(e)?.filter(|f| !f.is_empty()) else {
        return s.say(s.out.paint(theme::DIM, format!("{} says nothing in this view", label(&db, e))));
    };
    let mut rows = Rows::list([":attr", ":value"]);
    for (k, values) in &found.attributes {
        for v in values {
            rows.rows.push(vec![Value::Keyword(k.clone()), v.clone()]);
        }
    }
    if !s.draws() {
        let schema = db.schema()?;
        let map = found.attributes.iter().map(|(k, vs)| {
            let many = schema.attribute_named(k).is_some_and(|a| a.is_many());
            let v = if many {
                Value::vector(vs.iter().cloned())
            } else {
                vs.first().cloned().unwrap_or(Value::Nil)
            };
            (Value::Keyword(k.clone()), v)
        });
        let mut one = Rows::new(["entity"], Shape::Scalar);
        one.rows.push(vec![Value::map([(Value::keyword("db/id"), Value::Ref(e))].into_iter().chain(map))]);
        return s.answer(one);
    }
    s.say(format!("{} {}", s.out.paint(theme::HEAD, label(&db, e)), s.out.paint(theme::DIM, e)))?;
    let mut t = Table::new([Head::new("attribute"), Head::new("value")]);
    let (shown, gap) = show::head_and_tail(rows.rows.len(), s.settings.rows);
    t.gap = gap;
    for row in shown.into_iter().map(|i| &rows.rows[i]) {
        let value = Cell { text: value_text(&db, &row[1], false), ..show::cell(&row[1], Some(&db), &s.out) };
        t.rows.push(vec![show::cell(&row[0], None, &s.out), value]);
    }
    s.page(&t.draw(&s.out, s.look().layout))?;
    s.keep(rows);
    Ok(())
}

/// `annals pull`.
pub fn pull(s: &mut Session, pattern: &str, entity: &str) -> Outcome {
    let db = s.db()?;
    // What is not there pulls nothing; that is an answer.
    let v = match super::found(&db, entity)? {
        Some(e) => db.pull(pattern, e).map_err(|f| f.of("pattern", pattern))?,
        None => Value::Nil,
    };
    let mut rows = Rows::new(["pull"], Shape::Scalar);
    rows.rows.push(vec![v]);
    s.answer(rows)
}

/// `annals stats`.
pub fn stats(s: &mut Session) -> Outcome {
    let mut rows = Rows::list([":what", ":value"]);
    for (name, value) in s.conn.stats()? {
        rows.rows.push(vec![Value::keyword(&name), value]);
    }
    if !s.draws() {
        let mut one = Rows::new(["stats"], Shape::Scalar);
        one.rows.push(vec![Value::map(rows.rows.iter().map(|r| (r[0].clone(), r[1].clone())))]);
        return s.answer(one);
    }
    let width = rows.rows.iter().map(|r| edn::print(&r[0]).len()).max().unwrap_or(0);
    for row in &rows.rows {
        let text = match &row[1] {
            Value::Long(n) if edn::print(&row[0]).ends_with("bytes") => bytes(*n as u64),
            Value::Long(n) => thousands(n.unsigned_abs()),
            v => show::cell(v, None, &s.out).text,
        };
        let name = edn::print(&row[0]).trim_start_matches(':').replace('-', " ");
        s.say(format!("{}  {text}", s.out.paint(theme::DIM, format!("{name:width$}"))))?;
    }
    s.keep(rows);
    Ok(())
}

/// `12.3 MB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let mut size = n as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} bytes") } else { format!("{size:.1} {}", UNITS[unit]) }
}
