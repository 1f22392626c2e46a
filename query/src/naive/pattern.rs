//! A data pattern against every datom, or against every tuple of a collection.

use super::{Env, From, NaiveDb, Result, is, items, unify, variable};
use annals_model::{AttrId, Datom, Value};

/// Every way to match `[e a v tx op]` against every datom.
pub(super) fn pattern(from: &From, places: &[Value], env: &Env) -> Result<Vec<Env>> {
    let db = match from {
        From::Db(db) => db,
        From::Rows(rows) => {
            return Ok(rows.iter().filter_map(|row| tuple_pattern(row, places, env)).collect());
        }
    };
    let place = |i: usize| places.get(i).filter(|p| !is(p, "_"));
    // A place that is known: a constant, or a variable with a value.
    let known = |i: usize| {
        place(i).and_then(|p| match variable(p) {
            Some(v) => env.get(v),
            None => Some(p),
        })
    };
    let a = match known(1) {
        Some(v) => match db.attribute(v)? {
            Some(a) => Some(a),
            None => return Ok(vec![]),
        },
        None => None,
    };
    let named = a.is_some() && place(1).is_some_and(|p| variable(p).is_none());
    let mut out = Vec::new();
    for d in &db.datoms {
        if a.is_some_and(|a| a != d.a) {
            continue;
        }
        if let Some(found) = datom_pattern(db, d, named, &place, &known, env) {
            out.push(found);
        }
    }
    Ok(out)
}

fn datom_pattern<'p>(
    db: &NaiveDb,
    d: &Datom,
    attribute_named: bool,
    place: &dyn Fn(usize) -> Option<&'p Value>,
    known: &dyn Fn(usize) -> Option<&'p Value>,
    env: &Env,
) -> Option<Env> {
    let here = [
        Value::Ref(d.e),
        Value::Ref(d.a.entity()),
        d.v.clone(),
        Value::Ref(d.t.entity()),
        Value::Bool(d.added),
    ];
    let mut env = env.clone();
    for (i, here) in here.iter().enumerate() {
        let Some(p) = place(i) else { continue };
        match (known(i), variable(p)) {
            (Some(_), _) if i == 1 => {} // the attribute was compared already
            (Some(v), _) => {
                // Entities are known by id, ident or lookup ref, in the places where an entity
                // stands; a value counts as such a place when the attribute is named and a ref.
                let entity = i == 0 || i == 3 || (i == 2 && attribute_named && db.is_ref(d.a));
                let same = if entity {
                    db.entity(v).map(Value::Ref).as_ref() == Some(here)
                } else {
                    same_value(d.a, db, v, here)
                };
                if !same {
                    return None;
                }
            }
            // The same variable may stand in two places.
            (None, Some(var)) => env = unify(&env, var, here)?,
            (None, None) => return None,
        }
    }
    Some(env)
}

/// A whole number means the double of the same value under a double attribute.
fn same_value(a: AttrId, db: &NaiveDb, given: &Value, here: &Value) -> bool {
    match (given, here) {
        (Value::Long(n), Value::Double(d)) => db.schema.attribute(a).is_some() && *n as f64 == *d,
        _ => given == here,
    }
}

fn tuple_pattern(row: &Value, places: &[Value], env: &Env) -> Option<Env> {
    let row = items(row)?;
    let mut env = env.clone();
    for (i, p) in places.iter().enumerate().filter(|(_, p)| !is(p, "_")) {
        let here = row.get(i)?;
        match variable(p) {
            Some(var) => env = unify(&env, var, here)?,
            None if p == here => {}
            None => return None,
        }
    }
    Some(env)
}
