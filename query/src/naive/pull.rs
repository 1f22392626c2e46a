//! Pull, naively: one entity, one attribute at a time, over the list of datoms.
//!
//! 1. A missing attribute is an absent key; an entity with nothing to show is nil
//!    and is left out where it would stand. The wildcard shows at least the id.
//! 2. Many values come in value order, a thousand unless `:limit` says otherwise.
//! 3. Where a pattern repeats (recursion, whole components), an entity already
//!    on the path from the root shows only its id.
//!
//! Not here: `:xform`.

use super::{NaiveDb, NaiveError, Result, is, items, wrong};
use annals_model::{AttrId, EntityId, Keyword, Value};

/// Values shown of a many-valued attribute when the pattern sets no limit.
const LIMIT: usize = 1000;

/// Pulls a pattern, given as an EDN value, of an entity.
pub fn pull(db: &NaiveDb, pattern: &Value, e: EntityId) -> Result<Value> {
    entity(db, pattern, e, &mut Vec::new())
}

/// An attribute as a pattern names it, with its options.
struct Spec {
    attribute: AttrId,
    reverse: bool,
    key: Value,
    default: Option<Value>,
    limit: Option<usize>,
}

/// What to show of the entities an attribute leads to.
#[derive(Clone)]
enum Below<'p> {
    /// Their ids, or all of them if they are components.
    Usual,
    Pattern(&'p Value),
    /// The pattern around, so many times more.
    Again(&'p Value, usize),
}

fn id_only(e: EntityId) -> Value {
    Value::map([(Value::keyword("db/id"), Value::Ref(e))])
}

fn entity(db: &NaiveDb, pattern: &Value, e: EntityId, path: &mut Vec<EntityId>) -> Result<Value> {
    let Some(parts) = items(pattern) else { return wrong("a pull pattern is a vector") };
    path.push(e);
    let mut shown: Vec<(Value, Value)> = Vec::new();
    // Later items win over earlier ones, and any item over the wildcard.
    let (stars, named): (Vec<&Value>, Vec<&Value>) = parts.iter().partition(|p| is(p, "*"));
    if !stars.is_empty() {
        let own: Vec<AttrId> = db.datoms.iter().filter(|d| d.e == e).map(|d| d.a).collect();
        shown.push((Value::keyword("db/id"), Value::Ref(e)));
        for a in own {
            let key = db.schema.attribute(a).map(|a| Value::Keyword(a.ident.clone()));
            let key = key.ok_or_else(|| NaiveError::Wrong("a datom without an attribute".into()))?;
            let spec =
                Spec { attribute: a, reverse: false, key: key.clone(), default: None, limit: Some(LIMIT) };
            shown.retain(|(k, _)| *k != key);
            shown.extend(attribute(db, &spec, Below::Usual, e, path)?.map(|v| (key, v)));
        }
    }
    for part in named {
        if *part == Value::keyword("db/id") {
            shown.push((part.clone(), Value::Ref(e)));
            continue;
        }
        let entries = match part {
            Value::Map(entries) => entries
                .iter()
                .map(|(k, below)| Ok((k, deeper(pattern, k, below)?)))
                .collect::<Result<Vec<_>>>()?,
            part => vec![(part, Below::Usual)],
        };
        for (name, below) in entries {
            let spec = spec(db, name)?;
            // An item for an attribute replaces what the wildcard showed of it.
            shown.retain(|(k, _)| *k != spec.key && *k != plain_key(db, &spec));
            let value = match attribute(db, &spec, below, e, path)? {
                None => spec.default.clone(),
                found => found,
            };
            shown.extend(value.map(|v| (spec.key.clone(), v)));
        }
    }
    path.pop();
    Ok(if shown.is_empty() { Value::Nil } else { Value::map(shown) })
}

fn plain_key(db: &NaiveDb, spec: &Spec) -> Value {
    match db.schema.attribute(spec.attribute) {
        Some(a) if !spec.reverse => Value::Keyword(a.ident.clone()),
        _ => Value::Nil,
    }
}

/// The pattern below a map entry: a pattern, a depth, or `...`.
fn deeper<'p>(around: &'p Value, key: &Value, below: &'p Value) -> Result<Below<'p>> {
    match below {
        Value::Vector(_) => Ok(Below::Pattern(below)),
        Value::Long(n) => Ok(Below::Again(around, usize::try_from(*n).unwrap_or(0))),
        v if is(v, "...") => Ok(Below::Again(around, usize::MAX)),
        _ => wrong(format!("not a pattern below {key:?}")),
    }
}

/// `:a`, `:a/_reverse`, `[:a :as k :default d :limit n]`.
fn spec(db: &NaiveDb, form: &Value) -> Result<Spec> {
    let (name, options) = match form {
        Value::Keyword(_) => (form, &[][..]),
        form => match items(form) {
            Some([name, options @ ..]) => (name, options),
            _ => return wrong(format!("not an attribute of a pattern: {form:?}")),
        },
    };
    let Value::Keyword(k) = name else { return wrong("an attribute is a keyword") };
    let (forward, reverse) = match k.name().strip_prefix('_') {
        Some(name) => (Keyword::from_parts(k.namespace(), name), true),
        None => (k.clone(), false),
    };
    let Some(a) = db.schema.attribute_named(&forward) else {
        return wrong(format!("unknown attribute {forward}"));
    };
    let mut spec = Spec { attribute: a.id, reverse, key: name.clone(), default: None, limit: Some(LIMIT) };
    for option in options.chunks(2) {
        match option {
            [Value::Keyword(o), v] if o.as_str() == "as" => spec.key = v.clone(),
            [Value::Keyword(o), v] if o.as_str() == "default" => spec.default = Some(v.clone()),
            [Value::Keyword(o), Value::Nil] if o.as_str() == "limit" => spec.limit = None,
            [Value::Keyword(o), Value::Long(n)] if o.as_str() == "limit" => {
                spec.limit = usize::try_from(*n).ok()
            }
            _ => return Err(NaiveError::Unsupported("a pull option".into())),
        }
    }
    Ok(spec)
}

/// What an entity has for an attribute; none if nothing.
fn attribute(
    db: &NaiveDb,
    spec: &Spec,
    below: Below,
    e: EntityId,
    path: &mut Vec<EntityId>,
) -> Result<Option<Value>> {
    let Some(a) = db.schema.attribute(spec.attribute) else { return wrong("unknown attribute") };
    let mut values: Vec<Value> = if spec.reverse {
        let pointing = db.datoms.iter().filter(|d| d.a == a.id && d.v == Value::Ref(e));
        pointing.map(|d| Value::Ref(d.e)).collect()
    } else {
        db.values(e, a.id).cloned().collect()
    };
    values.sort();
    values.truncate(spec.limit.unwrap_or(usize::MAX));
    let mut shown = Vec::new();
    for v in values {
        let v = match v {
            Value::Ref(other) if a.is_ref() => {
                follow(db, a.is_component && !spec.reverse, &below, spec, other, path)?
            }
            v => v,
        };
        if v != Value::Nil {
            shown.push(v);
        }
    }
    let several = if spec.reverse { !a.is_component } else { a.is_many() };
    Ok(match several {
        _ if shown.is_empty() => None,
        true => Some(Value::vector(shown)),
        false => shown.into_iter().next(),
    })
}

fn follow(
    db: &NaiveDb,
    component: bool,
    below: &Below,
    spec: &Spec,
    other: EntityId,
    path: &mut Vec<EntityId>,
) -> Result<Value> {
    let star = Value::vector([Value::Symbol(super::symbol_of("*"))]);
    match below {
        Below::Usual if component && !path.contains(&other) => entity(db, &star, other, path),
        Below::Usual => Ok(id_only(other)),
        Below::Again(_, 0) => Ok(Value::Nil),
        Below::Pattern(p) => entity(db, p, other, path),
        Below::Again(..) if path.contains(&other) => Ok(id_only(other)),
        Below::Again(p, n) => {
            let p = if *n == usize::MAX { (*p).clone() } else { counted_down(db, p, spec, *n - 1) };
            entity(db, &p, other, path)
        }
    }
}

/// The pattern with the depth of one attribute's recursion replaced.
fn counted_down(db: &NaiveDb, pattern: &Value, of: &Spec, left: usize) -> Value {
    let same = |k: &Value| spec(db, k).is_ok_and(|s| s.attribute == of.attribute && s.reverse == of.reverse);
    let part = |p: &Value| match p {
        Value::Map(entries) => Value::map(entries.iter().map(|(k, v)| match v {
            Value::Long(_) if same(k) => (k.clone(), Value::Long(left as i64)),
            v => (k.clone(), v.clone()),
        })),
        p => p.clone(),
    };
    Value::vector(items(pattern).unwrap_or(&[]).iter().map(part))
}
