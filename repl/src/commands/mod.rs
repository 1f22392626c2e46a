//! What the commands do, for the command line and the shell alike: each takes a
//! session, prints its answer, and says how it failed.

pub mod admin;
pub mod events;
pub mod explain;
pub mod export;
pub mod facts;
pub mod look;
pub mod projections;
pub mod proof;
pub mod serve;
pub mod time;
pub mod token;
pub mod why;
pub mod write;

use crate::{
    backend::Db,
    fail::{Failure, Outcome},
    output::data::field,
    session::read_edn,
};
use annals::{Eid, EntityId, Keyword, Value, edn};

/// The entity that a text names: a number, an ident, a lookup ref.
pub fn entity(db: &Db, text: &str) -> Outcome<EntityId> {
    let text = text.trim();
    let v = read_edn(text, "entity")?;
    entity_of(db, &v).map_err(|f| f.of("entity", text))
}

/// The entity that a text names, if it is there.
pub fn found(db: &Db, text: &str) -> Outcome<Option<EntityId>> {
    let v = read_edn(text.trim(), "entity")?;
    db.resolve(eid(&v)?).map_err(|f| f.of("entity", text.trim()))
}

fn eid(v: &Value) -> Outcome<Eid> {
    Eid::from_value(v).ok_or_else(|| {
        Failure::usage(format!("not an entity: {}", edn::print(v)))
            .help("write a number, an ident (:color/red), or a lookup ref ([:order/id \"A-1\"])")
    })
}

/// The entity that a value names.
pub fn entity_of(db: &Db, v: &Value) -> Outcome<EntityId> {
    db.resolve(eid(v)?)?.ok_or_else(|| {
        Failure::refused("db/unknown-entity", format!("no entity {} in this view", edn::print(v)))
            .help("it may be there at another moment: :now, or another --as-of")
    })
}

/// The attribute that a text names.
pub fn attribute(db: &Db, text: &str) -> Outcome<Keyword> {
    Ok(db.attribute(text.trim())?.ident.clone())
}

/// How people would name an entity: its ident, a unique value it has, else its number.
pub fn label(db: &Db, e: EntityId) -> String {
    if let Some(k) = db.ident(e) {
        return k.to_string();
    }
    if let Some(t) = e.as_t() {
        return format!("t{t}");
    }
    db.unique_name(e).map_or_else(|| e.to_string(), |(a, v)| format!("[{a} {}]", edn::print(&v)))
}

/// The shortest name of a value: of an entity, the value that identifies it.
pub fn short_text(db: &Db, v: &Value) -> String {
    match v {
        Value::Ref(e) if db.ident(*e).is_none() => {
            db.unique_name(*e).map_or_else(|| label(db, *e), |(_, v)| field(&v))
        }
        v => value_text(db, v, false),
    }
}

/// A value for people: entities by name, the rest without quotes only if asked.
pub fn value_text(db: &Db, v: &Value, quotes: bool) -> String {
    match v {
        Value::Ref(e) => label(db, *e),
        v if quotes => edn::print(v),
        v => field(v),
    }
}
