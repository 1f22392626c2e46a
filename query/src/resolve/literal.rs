//! Literals by their place: what a constant means as an entity, a transaction, an attribute or a
//! value of some type, by the schema of a source. Lookup refs are answered when the query runs.

use super::{Resolver, ir::*};
use annals_model::{Attribute, Diagnostic, EntityId, Keyword, Schema, Span, T, Value, ValueType};
use std::sync::Arc;

/// The transaction's entity, from what may stand for one: its entity or its t.
pub(crate) fn tx_entity(n: i64) -> Option<EntityId> {
    let raw = u64::try_from(n).ok()?;
    let e = EntityId::from_raw(raw);
    match e.partition() {
        Some(annals_model::Partition::Db) => Some(T(raw).entity()),
        _ => Some(e),
    }
}

/// A value as one of this type: itself, or a number converted without loss.
pub(crate) fn fit(v: &Value, to: ValueType) -> Option<Value> {
    use num_traits::ToPrimitive;
    if v.value_type() == Some(to) {
        return Some(v.clone());
    }
    match (v, to) {
        (Value::Long(n), ValueType::Double) => {
            let d = *n as f64;
            (d as i128 == i128::from(*n)).then(|| Value::double(d)).flatten()
        }
        (Value::Long(n), ValueType::BigInt) => Some(Value::BigInt(Arc::new((*n).into()))),
        (Value::Long(n), ValueType::BigDec) => Some(Value::BigDec(Arc::new((*n).into()))),
        (Value::Long(n), ValueType::Ref) => u64::try_from(*n).ok().map(|n| Value::Ref(EntityId::from_raw(n))),
        (Value::Double(d), ValueType::Long) if d.fract() == 0.0 && d.abs() < 9.0e15 => {
            Some(Value::Long(*d as i64))
        }
        (Value::BigInt(n), ValueType::Long) => n.to_i64().map(Value::Long),
        (Value::String(s), ValueType::Uri) => Some(Value::Uri(s.clone())),
        _ => None,
    }
}

impl Resolver<'_> {
    /// The schema of a source, if a database is there.
    pub(super) fn schema(&self, slot: Slot) -> Option<Arc<Schema>> {
        match &self.slots[slot].1 {
            SlotKind::Db(s) => Some(s.clone()),
            SlotKind::Tuples => None,
        }
    }

    /// A literal as an entity; none (without complaint) if it names no entity.
    pub(super) fn entity_const(&mut self, c: &Value, slot: Slot, span: Span) -> Option<Term> {
        let Some(schema) = self.schema(slot) else { return Some(Term::Const(c.clone())) };
        match c {
            Value::Long(n) => u64::try_from(*n).ok().map(|n| Term::Ent(Ent::Id(n))),
            Value::Ref(e) => Some(Term::Ent(Ent::Id(e.raw()))),
            Value::Keyword(k) => entid(&schema, k).map(|e| Term::Ent(Ent::Id(e))),
            Value::Vector(pair) => match &pair[..] {
                [a, v] => {
                    let attr = match a {
                        Value::Keyword(k) => match schema.attribute_named(k) {
                            Some(a) => a.clone(),
                            None => {
                                self.unknown_attribute(&schema, k, span);
                                return None;
                            }
                        },
                        Value::Long(n) => {
                            let e = EntityId::from_raw(u64::try_from(*n).ok()?);
                            schema.attribute_of(e)?.clone()
                        }
                        _ => {
                            self.not_an_entity(c, span);
                            return None;
                        }
                    };
                    if attr.unique.is_none() {
                        let d = Diagnostic::new(
                            "query/type",
                            format!("{} is not unique, so it cannot identify an entity", attr.ident),
                        )
                        .help("a lookup ref needs an attribute with :db/unique");
                        self.error(d, span, "not a lookup ref");
                        return None;
                    }
                    if attr.is_ref() {
                        return match self.entity_const(v, slot, span)? {
                            Term::Ent(Ent::Id(e)) => {
                                Some(Term::Ent(Ent::Lookup(slot, attr.id, Value::Ref(EntityId::from_raw(e)))))
                            }
                            _ => None,
                        };
                    }
                    fit(v, attr.value_type).map(|v| Term::Ent(Ent::Lookup(slot, attr.id, v)))
                }
                _ => {
                    self.not_an_entity(c, span);
                    None
                }
            },
            _ => {
                self.not_an_entity(c, span);
                None
            }
        }
    }

    /// A literal as a transaction: its t, or what names its entity; none (without complaint) if
    /// it names none.
    pub(super) fn tx_const(&mut self, c: &Value, slot: Slot, span: Span) -> Option<Term> {
        match c {
            Value::Long(n) => tx_entity(*n).map(|e| Term::Ent(Ent::Id(e.raw()))),
            c => self.entity_const(c, slot, span),
        }
    }

    fn not_an_entity(&mut self, c: &Value, span: Span) {
        let d = Diagnostic::new("query/type", format!("a {} cannot be an entity", c.kind()))
            .help("an entity is an id, an ident keyword, or a lookup ref [:unique/attribute value]");
        self.error(d, span, "in an entity place");
    }

    fn unknown_attribute(&mut self, schema: &Schema, k: &Keyword, span: Span) {
        let d = Diagnostic::new("query/unknown-attribute", format!("unknown attribute {k}"));
        let d = match schema.nearest(k) {
            Some(near) => d.help(format!("did you mean {near}?")),
            None => {
                d.help("install it in a transaction, or check the database and the view that the query reads")
            }
        };
        self.error(d, span, "not installed at this basis");
    }

    /// The attribute that a literal names.
    pub(super) fn attr_const(&mut self, c: &Value, slot: Slot, span: Span) -> Option<Arc<Attribute>> {
        let schema = self.schema(slot)?;
        let found = match c {
            Value::Keyword(k) => {
                let a = schema.attribute_named(k).cloned();
                if a.is_none() {
                    self.unknown_attribute(&schema, k, span);
                }
                return a;
            }
            Value::Long(n) => u64::try_from(*n).ok().map(EntityId::from_raw),
            Value::Ref(e) => Some(*e),
            _ => None,
        };
        let a = found.and_then(|e| schema.attribute_of(e)).cloned();
        if a.is_none() {
            let d = Diagnostic::new("query/unknown-attribute", format!("{c:?} is not an attribute"));
            self.error(d, span, "in an attribute place");
        }
        a
    }
}
