//! Values: what an attribute accepts, and the conversions that lose nothing.
//!
//! 1. A long fits a double, bigint or bigdec attribute when it is exactly that
//!    number; a bigint that fits a long is one. Nothing else changes type.
//! 2. NaN and nil are never stored; -0.0 is stored as 0.0.
//! 3. Under a reference attribute a number is an entity id, a keyword an ident,
//!    a string a tempid, `[attribute value]` a lookup ref.

use super::{
    error::TransactError,
    expand::Expander,
    op::{Ent, Res, Val},
};
use crate::bootstrap as boot;
use annals_model::{Attribute, Keyword, TupleKind, Value, ValueType};
use bigdecimal::BigDecimal;
use num_bigint::BigInt;
use num_traits::ToPrimitive;
use std::sync::Arc;

/// Longest string, URI or byte array, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 256 << 20;
/// Most slots of a tuple.
const MAX_SLOTS: usize = 8;

/// `v` as a value of `a`.
pub(crate) fn coerce(x: &mut Expander<'_>, a: &Arc<Attribute>, v: &Value) -> Res<Val> {
    if let Value::Nil = v {
        return Err(TransactError::NilValue { attr: a.ident.clone(), at: x.at().attr(&a.ident) });
    }
    if a.value_type == ValueType::Tuple {
        return tuple(x, a, v);
    }
    let v = of_type(x, a, a.value_type, v)?;
    if let Val::Known(Value::Keyword(k)) = &v {
        named(x, a, k)?;
    }
    if a.id == boot::RULES
        && let Val::Known(Value::String(text)) = &v
    {
        let why = crate::rules::check(text);
        why.map_err(|why| TransactError::BadRules { why: Box::new(why), at: x.at().attr(&a.ident) })?;
    }
    Ok(v)
}

/// Keywords that name something must name something.
fn named(x: &Expander<'_>, a: &Attribute, k: &Keyword) -> Res<()> {
    if a.id == boot::ENTITY_ATTRS
        && x.before.info.schema.attribute_named(k).is_none()
        && !x.before.installs(k)
    {
        let nearest = x.before.info.schema.nearest(k);
        return Err(TransactError::UnknownAttribute { attr: k.clone(), nearest, at: x.at().attr(&a.ident) });
    }
    Ok(())
}

fn of_type(x: &mut Expander<'_>, a: &Arc<Attribute>, t: ValueType, v: &Value) -> Res<Val> {
    let wrong = |x: &Expander<'_>| TransactError::WrongType {
        attr: a.ident.clone(),
        expected: t.name(),
        value: v.clone(),
        at: x.at().attr(&a.ident),
    };
    let sized = |x: &Expander<'_>, bytes: usize| match bytes <= MAX_VALUE_BYTES {
        true => Ok(Val::Known(v.clone())),
        false => Err(TransactError::Oversize {
            attr: a.ident.clone(),
            bytes,
            limit: MAX_VALUE_BYTES,
            at: x.at().attr(&a.ident),
        }),
    };
    Ok(match (t, v) {
        (ValueType::Ref, v) => return reference(x, a, v),
        (ValueType::Double, Value::Double(d)) => match Value::double(*d) {
            Some(v) => Val::Known(v),
            None => return Err(TransactError::NaN { attr: a.ident.clone(), at: x.at().attr(&a.ident) }),
        },
        (ValueType::String, Value::String(s)) | (ValueType::Uri, Value::Uri(s)) => return sized(x, s.len()),
        (ValueType::Bytes, Value::Bytes(b)) => return sized(x, b.len()),
        // Predicates are named by symbols in Datomic.
        (ValueType::Keyword, Value::Symbol(s)) if matches!(a.id, boot::ATTR_PREDS | boot::ENTITY_PREDS) => {
            Val::Known(Value::Keyword(Keyword::new(s.as_str())))
        }
        (t, v) if v.value_type() == Some(t) => Val::Known(v.clone()),
        (t, v) => Val::Known(lossless(t, v).ok_or_else(|| wrong(x))?),
    })
}

/// A number as another type of number, when nothing is lost.
pub(crate) fn lossless(t: ValueType, v: &Value) -> Option<Value> {
    Some(match (t, v) {
        (ValueType::Double, Value::Long(n)) if (*n as f64) as i128 == i128::from(*n) => {
            Value::Double(*n as f64)
        }
        (ValueType::Long, Value::BigInt(n)) => Value::Long(n.to_i64()?),
        (ValueType::BigInt, Value::Long(n)) => Value::BigInt(Arc::new(BigInt::from(*n))),
        (ValueType::BigDec, Value::Long(n)) => Value::BigDec(Arc::new(BigDecimal::from(*n))),
        (ValueType::BigDec, Value::BigInt(n)) => Value::BigDec(Arc::new(BigDecimal::from((**n).clone()))),
        _ => return None,
    })
}

fn reference(x: &mut Expander<'_>, a: &Arc<Attribute>, v: &Value) -> Res<Val> {
    match v {
        Value::Ref(_)
        | Value::Long(_)
        | Value::Keyword(_)
        | Value::String(_)
        | Value::Vector(_)
        | Value::List(_) => Ok(match x.entity(v, true)? {
            Ent::Id(e) => Val::Known(Value::Ref(e)),
            Ent::Temp(t) => Val::Temp(t),
        }),
        _ => Err(TransactError::WrongType {
            attr: a.ident.clone(),
            expected: "ref",
            value: v.clone(),
            at: x.at().attr(&a.ident),
        }),
    }
}

fn tuple(x: &mut Expander<'_>, a: &Arc<Attribute>, v: &Value) -> Res<Val> {
    let bad = |x: &Expander<'_>, why: String| TransactError::BadTuple {
        attr: a.ident.clone(),
        value: v.clone(),
        why,
        at: x.at().attr(&a.ident),
    };
    let (Value::Vector(items) | Value::List(items)) = v else {
        return Err(bad(x, format!("a tuple is a vector, not a {}", v.kind())));
    };
    let types: Vec<ValueType> = match &a.tuple {
        Some(TupleKind::Heterogeneous(types)) if types.len() != items.len() => {
            return Err(bad(x, format!("it has {} slots, not {}", types.len(), items.len())));
        }
        Some(TupleKind::Heterogeneous(types)) => types.clone(),
        Some(TupleKind::Homogeneous(t)) if (2..=MAX_SLOTS).contains(&items.len()) => vec![*t; items.len()],
        // The tuples of :db/tupleAttrs and :db/tupleTypes themselves.
        None if (1..=MAX_SLOTS).contains(&items.len()) => vec![ValueType::Keyword; items.len()],
        Some(TupleKind::Composite(parts)) if parts.len() == items.len() => {
            let schema = &x.before.info.schema;
            parts.iter().filter_map(|p| schema.attribute(*p)).map(|p| p.value_type).collect()
        }
        Some(TupleKind::Composite(parts)) => {
            return Err(bad(x, format!("it has {} slots, not {}", parts.len(), items.len())));
        }
        Some(TupleKind::Homogeneous(_)) | None => {
            return Err(bad(x, format!("it has 2 to {MAX_SLOTS} slots, not {}", items.len())));
        }
    };
    let mut slots = Vec::with_capacity(items.len());
    for (i, (t, item)) in types.into_iter().zip(items.iter()).enumerate() {
        slots.push(match item {
            Value::Nil => Val::Known(Value::Nil),
            item => of_type(x, a, t, item).map_err(|e| match e {
                TransactError::WrongType { attr, expected, value, at } => {
                    TransactError::WrongType { attr, expected, value, at: at.slot(i) }
                }
                e => e,
            })?,
        });
    }
    if slots.iter().any(|s| matches!(s, Val::Temp(_))) {
        return Ok(Val::Tuple(slots));
    }
    let known = slots.into_iter().map(|s| match s {
        Val::Known(v) => v,
        Val::Temp(_) | Val::Tuple(_) => Value::Nil,
    });
    Ok(Val::Known(Value::vector(known)))
}
