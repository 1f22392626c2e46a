//! EDN answers as the library's types.
//!
//! 1. EDN shows a reference as a number. Where the schema or a column's type says
//!    that a number is one, it becomes [`Value::Ref`] again.
//! 2. An answer that lacks what it should have is [`ClientError::Answer`]; nothing is guessed.

use super::error::ClientError;
use annals::{
    AttrId, Attribute, Cardinality, Datom, EntityId, Instant, Keyword, Schema, T, TupleKind, Unique, Value,
    ValueType,
    event::{Data, EventId, EventType, Meta, NewEvent, Position, Recorded, StreamId, Tag, Version},
};
use serde_json::Value as Json;

/// A map with keyword keys.
#[derive(Clone, Debug)]
pub(super) struct Members(Value);

impl Members {
    pub fn read(text: &str) -> Result<Members, ClientError> {
        let v = annals::edn::read_value(text).map_err(|e| {
            ClientError::answer(format!("it is not EDN: {}", e.0.first().map_or("", |d| &d.message)))
        })?;
        Members::of(v)
    }
    pub fn of(v: Value) -> Result<Members, ClientError> {
        match v {
            Value::Map(_) => Ok(Members(v)),
            _ => Err(ClientError::answer("it is not a map")),
        }
    }
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(&Value::keyword(name)).filter(|v| **v != Value::Nil)
    }
    pub fn need(&self, name: &str) -> Result<&Value, ClientError> {
        self.get(name).ok_or_else(|| lacks(name))
    }
    pub fn number(&self, name: &str) -> Result<u64, ClientError> {
        number(self.need(name)?).ok_or_else(|| lacks(name))
    }
    pub fn maybe_number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(number)
    }
    pub fn instant(&self, name: &str) -> Result<Instant, ClientError> {
        match self.need(name)? {
            Value::Instant(i) => Ok(*i),
            _ => Err(lacks(name)),
        }
    }
    pub fn text(&self, name: &str) -> Result<&str, ClientError> {
        match self.need(name)? {
            Value::String(s) => Ok(s),
            _ => Err(lacks(name)),
        }
    }
    pub fn maybe_text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::String(s)) => Some(s),
            _ => None,
        }
    }
    pub fn keyword(&self, name: &str) -> Result<Keyword, ClientError> {
        match self.need(name)? {
            Value::Keyword(k) => Ok(k.clone()),
            _ => Err(lacks(name)),
        }
    }
    pub fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }
    pub fn list(&self, name: &str) -> Result<&[Value], ClientError> {
        list(self.need(name)?).ok_or_else(|| lacks(name))
    }
    pub fn list_or_empty(&self, name: &str) -> &[Value] {
        self.get(name).and_then(list).unwrap_or(&[])
    }
    pub fn entries(&self, name: &str) -> Result<&[(Value, Value)], ClientError> {
        match self.need(name)? {
            Value::Map(entries) => Ok(entries),
            _ => Err(lacks(name)),
        }
    }
    pub fn into_value(self) -> Value {
        self.0
    }
}

fn lacks(name: &str) -> ClientError {
    ClientError::answer(format!("it has no proper {name}"))
}

pub(super) fn list(v: &Value) -> Option<&[Value]> {
    match v {
        Value::Vector(items) | Value::List(items) | Value::Set(items) => Some(items),
        _ => None,
    }
}

fn number(v: &Value) -> Option<u64> {
    match v {
        Value::Long(n) => u64::try_from(*n).ok(),
        _ => None,
    }
}

/// A number as the entity it names.
pub(super) fn entity_id(v: &Value) -> Option<EntityId> {
    match v {
        Value::Ref(e) => Some(*e),
        v => number(v).map(EntityId::from_raw),
    }
}

/// A value of a column whose type the server named.
pub(super) fn of_kind(v: Value, kind: &str) -> Value {
    match kind {
        "ref" => reference(v),
        _ => v,
    }
}

fn reference(v: Value) -> Value {
    entity_id(&v).map_or(v, Value::Ref)
}

/// A value under an attribute.
pub(super) fn of_attribute(v: Value, a: &Attribute, schema: &Schema) -> Value {
    let slot = |i: usize| match a.tuple.as_ref() {
        Some(TupleKind::Composite(attrs)) => {
            attrs.get(i).and_then(|a| schema.attribute(*a)).map(|a| a.value_type)
        }
        Some(TupleKind::Heterogeneous(types)) => types.get(i).copied(),
        Some(TupleKind::Homogeneous(ty)) => Some(*ty),
        None => None,
    };
    match (a.value_type, v) {
        (ValueType::Ref, v) => reference(v),
        (ValueType::Tuple, Value::Vector(items)) => {
            Value::vector(items.iter().enumerate().map(|(i, v)| match slot(i) {
                Some(ValueType::Ref) => reference(v.clone()),
                _ => v.clone(),
            }))
        }
        (_, v) => v,
    }
}

/// `[e a v t added]`
pub(super) fn datom(v: &Value, schema: &Schema) -> Result<Datom, ClientError> {
    let wrong = || ClientError::answer(format!("{} is not a datom", annals::edn::print(v)));
    let Some([e, a, value, t, Value::Bool(added)]) = list(v) else { return Err(wrong()) };
    let attribute = match a {
        Value::Keyword(k) => schema.attribute_named(k).cloned(),
        a => entity_id(a).and_then(|a| schema.attribute_of(a)).cloned(),
    };
    let attribute = attribute.ok_or_else(wrong)?;
    Ok(Datom {
        e: entity_id(e).ok_or_else(wrong)?,
        a: attribute.id,
        v: of_attribute(value.clone(), &attribute, schema),
        t: T(number(t).ok_or_else(wrong)?),
        added: *added,
    })
}

/// What a pull gave: entities are references again.
pub(super) fn pulled(v: Value, schema: &Schema) -> Value {
    match v {
        Value::Map(entries) => Value::map(entries.iter().map(|(k, v)| {
            let v = match k {
                Value::Keyword(k) if k.as_str() == "db/id" => reference(v.clone()),
                Value::Keyword(k) => {
                    let plain = k.name().strip_prefix('_').map(|n| Keyword::from_parts(k.namespace(), n));
                    match schema.attribute_named(plain.as_ref().unwrap_or(k)) {
                        Some(a) if a.value_type == ValueType::Tuple => of_attribute(v.clone(), a, schema),
                        Some(a) if a.is_ref() => match v {
                            Value::Long(_) => reference(v.clone()),
                            v => pulled(v.clone(), schema),
                        },
                        _ => pulled(v.clone(), schema),
                    }
                }
                _ => pulled(v.clone(), schema),
            };
            (k.clone(), v)
        })),
        Value::Vector(items) => Value::vector(items.iter().map(|v| pulled(v.clone(), schema))),
        v => v,
    }
}

/// The answer of `/schema?names`.
pub(super) fn schema(doc: &Members) -> Result<Schema, ClientError> {
    let mut schema = Schema::default();
    for pair in doc.list("names")? {
        let Some([Value::Keyword(name), e]) = list(pair) else { return Err(lacks("names")) };
        schema.name(name.clone(), entity_id(e).ok_or_else(|| lacks("names"))?);
    }
    let mut attributes = Vec::new();
    for a in doc.list("attributes")? {
        attributes.push(attribute(&Members::of(a.clone())?)?);
    }
    for a in attributes {
        schema.insert(a);
    }
    Ok(schema)
}

fn attribute(a: &Members) -> Result<Attribute, ClientError> {
    let ty = |name: &str| ValueType::from_name(name).ok_or_else(|| lacks("type"));
    let id = |v: &Value| entity_id(v).and_then(AttrId::of_entity).ok_or_else(|| lacks("id"));
    let names = |v: &[Value]| -> Result<Vec<ValueType>, ClientError> {
        v.iter().map(|v| if let Value::String(s) = v { ty(s) } else { Err(lacks("tuple")) }).collect()
    };
    let tuple = match (a.get("tuple-attrs"), a.get("tuple-types"), a.maybe_text("tuple-type")) {
        (Some(attrs), ..) => {
            Some(TupleKind::Composite(list(attrs).unwrap_or(&[]).iter().map(id).collect::<Result<_, _>>()?))
        }
        (_, Some(types), _) => Some(TupleKind::Heterogeneous(names(list(types).unwrap_or(&[]))?)),
        (.., Some(name)) => Some(TupleKind::Homogeneous(ty(name)?)),
        _ => None,
    };
    Ok(Attribute {
        id: id(a.need("id")?)?,
        ident: a.keyword("ident")?,
        value_type: ty(a.text("type")?)?,
        cardinality: match a.text("cardinality")? {
            "many" => Cardinality::Many,
            _ => Cardinality::One,
        },
        unique: match a.maybe_text("unique") {
            Some("identity") => Some(Unique::Identity),
            Some(_) => Some(Unique::Value),
            None => None,
        },
        index: a.flag("index"),
        is_component: a.flag("component"),
        no_history: a.flag("no-history"),
        tuple,
        preds: a
            .list_or_empty("preds")
            .iter()
            .filter_map(|v| if let Value::Keyword(k) = v { Some(k.clone()) } else { None })
            .collect(),
        doc: a.maybe_text("doc").map(Into::into),
    })
}

/// A CloudEvent as the library's event.
pub(super) fn event(doc: &Json) -> Result<Recorded, ClientError> {
    let text = |name: &str| doc.get(name).and_then(Json::as_str);
    let need = |name: &'static str| text(name).ok_or_else(|| lacks(name));
    let number = |name: &'static str| doc.get(name).and_then(Json::as_u64).ok_or_else(|| lacks(name));
    let bad = |e: &dyn std::fmt::Display| ClientError::answer(format!("an event: {e}"));
    let schema = need("dataschema")?.rsplit_once('/').and_then(|(_, n)| n.parse().ok());
    let tags = doc.get("tags").and_then(Json::as_array).into_iter().flatten();
    let more = doc.get("meta").and_then(Json::as_object).into_iter().flatten();
    let event = NewEvent {
        id: EventId::of_text(need("id")?),
        ty: EventType::new(need("type")?).map_err(|e| bad(&e))?,
        schema: schema.ok_or_else(|| lacks("dataschema"))?,
        data: Data::from_json(doc.get("data").unwrap_or(&Json::Null)).map_err(|e| bad(&e))?,
        tags: tags
            .map(|t| Tag::new(t.as_str().unwrap_or("")).map_err(|e| bad(&e)))
            .collect::<Result<_, _>>()?,
        occurred_at: text("occurredat").and_then(Instant::parse),
        meta: Meta {
            correlation: text("correlationid").map(Into::into),
            causation: text("causationid").map(|id| EventId::of_text(id).0),
            actor: text("actor").map(Into::into),
            more: more
                .map(|(k, v)| {
                    Ok((k.as_str().into(), crate::wire::value::read(v).map_err(|e| bad(&e.detail))?))
                })
                .collect::<Result<_, ClientError>>()?,
        },
    };
    Ok(Recorded {
        event,
        stream: StreamId::new(need("subject")?).map_err(|e| bad(&e))?,
        version: Version(number("streamversion")?),
        position: Position(number("position")?),
        t: T(number("t")?),
        recorded_at: Instant::parse(need("time")?).ok_or_else(|| lacks("time"))?,
        part: 0,
    })
}
