//! The genesis transaction, t0: the attributes that describe attributes, and
//! the idents every database knows.
//!
//! 1. Numbers below [`FIRST_USER_ATTR`] are given here once and never change:
//!    they are in every log.
//! 2. Genesis is record 0 of the log, at 1970-01-01, byte-identical everywhere.
//! 3. `:event/*` attributes are installed here but hold no datoms: they are
//!    computed from event records (see [`crate::hook`]).

use crate::store::Record;
use annals_model::{
    AttrId, Cardinality, Datom, EntityId, Instant, Keyword, Partition, T, Unique, Value, ValueType,
};

/// `:db/ident`.
pub const IDENT: AttrId = AttrId::new(1);
/// `:db/valueType`.
pub const VALUE_TYPE: AttrId = AttrId::new(2);
/// `:db/cardinality`.
pub const CARDINALITY: AttrId = AttrId::new(3);
/// `:db/unique`.
pub const UNIQUE: AttrId = AttrId::new(4);
/// `:db/isComponent`.
pub const IS_COMPONENT: AttrId = AttrId::new(5);
/// `:db/index`.
pub const INDEX: AttrId = AttrId::new(6);
/// `:db/noHistory`.
pub const NO_HISTORY: AttrId = AttrId::new(7);
/// `:db/doc`.
pub const DOC: AttrId = AttrId::new(8);
/// `:db/tupleAttrs`.
pub const TUPLE_ATTRS: AttrId = AttrId::new(9);
/// `:db/tupleTypes`.
pub const TUPLE_TYPES: AttrId = AttrId::new(10);
/// `:db/tupleType`.
pub const TUPLE_TYPE: AttrId = AttrId::new(11);
/// `:db/txInstant`.
pub const TX_INSTANT: AttrId = AttrId::new(12);
/// `:db.attr/preds`.
pub const ATTR_PREDS: AttrId = AttrId::new(13);
/// `:db/ensure`: named in transactions, never stored.
pub const ENSURE: AttrId = AttrId::new(14);
/// `:db.entity/attrs`.
pub const ENTITY_ATTRS: AttrId = AttrId::new(15);
/// `:db.entity/preds`.
pub const ENTITY_PREDS: AttrId = AttrId::new(16);
/// `:db/fulltext`.
pub const FULLTEXT: AttrId = AttrId::new(17);
/// `:db/rules`.
pub const RULES: AttrId = AttrId::new(26);

/// Attributes whose datoms make the schema.
pub const SCHEMA_ATTRS: [AttrId; 13] = [
    IDENT,
    VALUE_TYPE,
    CARDINALITY,
    UNIQUE,
    IS_COMPONENT,
    INDEX,
    NO_HISTORY,
    DOC,
    TUPLE_ATTRS,
    TUPLE_TYPES,
    TUPLE_TYPE,
    ATTR_PREDS,
    FULLTEXT,
];

/// The first number for attributes of users.
pub const FIRST_USER_ATTR: u32 = 256;
/// The first number for entities of users.
pub const FIRST_USER_ENTITY: u64 = 1;

const TYPE_BASE: u64 = 32;
const CARDINALITY_BASE: u64 = 64;
const UNIQUE_BASE: u64 = 66;
const PART_BASE: u64 = 68;
/// The first computed attribute.
pub const EVENT_BASE: u32 = 128;

struct Builtin {
    id: u32,
    ident: &'static str,
    value_type: ValueType,
    many: bool,
    unique: Option<Unique>,
    index: bool,
    doc: &'static str,
}

const fn one(id: u32, ident: &'static str, value_type: ValueType, doc: &'static str) -> Builtin {
    Builtin { id, ident, value_type, many: false, unique: None, index: false, doc }
}
const fn many(id: u32, ident: &'static str, value_type: ValueType, doc: &'static str) -> Builtin {
    Builtin { many: true, ..one(id, ident, value_type, doc) }
}
const fn indexed(b: Builtin) -> Builtin {
    Builtin { index: true, ..b }
}
const fn identity(b: Builtin) -> Builtin {
    Builtin { unique: Some(Unique::Identity), ..b }
}

const ATTRIBUTES: &[Builtin] = &[
    identity(one(1, "db/ident", ValueType::Keyword, "The name of an entity.")),
    one(2, "db/valueType", ValueType::Ref, "The type of an attribute's values."),
    one(3, "db/cardinality", ValueType::Ref, "One or many values an entity."),
    one(4, "db/unique", ValueType::Ref, "Whether a value identifies its entity."),
    one(5, "db/isComponent", ValueType::Boolean, "Values are parts of their entity and go with it."),
    one(6, "db/index", ValueType::Boolean, "Values are indexed for ranges."),
    one(7, "db/noHistory", ValueType::Boolean, "Old values may be forgotten."),
    one(8, "db/doc", ValueType::String, "Documentation."),
    one(9, "db/tupleAttrs", ValueType::Tuple, "The attributes a composite tuple is kept from."),
    one(10, "db/tupleTypes", ValueType::Tuple, "The types of a tuple's slots."),
    one(11, "db/tupleType", ValueType::Keyword, "The type of all slots of a tuple."),
    indexed(one(12, "db/txInstant", ValueType::Instant, "When a transaction was made.")),
    many(13, "db.attr/preds", ValueType::Keyword, "Predicates that each value must pass."),
    many(14, "db/ensure", ValueType::Ref, "Entity specs to check at the end of a transaction; not stored."),
    many(15, "db.entity/attrs", ValueType::Keyword, "Attributes an entity of this spec must have."),
    many(16, "db.entity/preds", ValueType::Keyword, "Predicates an entity of this spec must pass."),
    one(17, "db/fulltext", ValueType::Boolean, "Words of the values are indexed."),
    one(18, "tx/by", ValueType::String, "Who made a transaction."),
    one(19, "tx/why", ValueType::String, "Why a transaction was made."),
    one(20, "tx/source", ValueType::String, "Where the data of a transaction came from."),
    one(21, "tx/command", ValueType::String, "The command that a transaction carries out."),
    one(
        22,
        "tx/principal",
        ValueType::String,
        "Who made a transaction, as the server knows it; clients cannot set it.",
    ),
    one(
        23,
        "tx/request-id",
        ValueType::String,
        "The request that made a transaction; clients cannot set it.",
    ),
    identity(one(
        24,
        "tx/idempotency-key",
        ValueType::String,
        "Principal and key of a request that may be sent again.",
    )),
    one(25, "tx/request-hash", ValueType::String, "Hash of the request that made a transaction."),
    one(26, "db/rules", ValueType::String, "A set of rules, which queries call by the entity's ident."),
    identity(one(EVENT_BASE, "event/id", ValueType::String, "The unique id of an event.")),
    indexed(one(EVENT_BASE + 1, "event/type", ValueType::String, "What happened.")),
    indexed(one(EVENT_BASE + 2, "event/stream", ValueType::String, "The stream an event belongs to.")),
    one(EVENT_BASE + 3, "event/version", ValueType::Long, "The number of an event in its stream, from 1."),
    indexed(one(
        EVENT_BASE + 4,
        "event/position",
        ValueType::Long,
        "The number of an event over all streams, from 1.",
    )),
    one(EVENT_BASE + 5, "event/t", ValueType::Ref, "The transaction that recorded an event."),
    indexed(one(EVENT_BASE + 6, "event/recorded-at", ValueType::Instant, "When an event was recorded.")),
    indexed(one(
        EVENT_BASE + 7,
        "event/occurred-at",
        ValueType::Instant,
        "When an event happened, as its producer says.",
    )),
    indexed(many(EVENT_BASE + 8, "event/tag", ValueType::String, "A tag of an event.")),
    one(EVENT_BASE + 9, "event/data", ValueType::Tuple, "The payload of an event: a map with keyword keys."),
    indexed(one(EVENT_BASE + 10, "event/correlation", ValueType::String, "What an event belongs to.")),
    indexed(one(
        EVENT_BASE + 11,
        "event/causation",
        ValueType::String,
        "The event or command that caused an event.",
    )),
    indexed(one(EVENT_BASE + 12, "event/actor", ValueType::String, "Who caused an event.")),
    one(EVENT_BASE + 13, "event/schema", ValueType::Long, "The version of an event's payload schema."),
    one(
        EVENT_BASE + 14,
        "event/meta",
        ValueType::Tuple,
        "Further metadata of an event: a map with keyword keys.",
    ),
];

/// Is this attribute computed from event records?
pub fn is_virtual(a: AttrId) -> bool {
    (EVENT_BASE..FIRST_USER_ATTR).contains(&a.raw())
}

/// Was this entity made by genesis?
pub fn is_builtin(e: EntityId) -> bool {
    e.partition() == Some(Partition::Db) && e.counter() < u64::from(FIRST_USER_ATTR)
}

/// The ident entity of a value type.
pub fn type_entity(t: ValueType) -> EntityId {
    let i = ValueType::ALL.iter().position(|x| *x == t).expect("ALL lists every type");
    EntityId::new(Partition::Db, TYPE_BASE + i as u64)
}
/// The value type an ident entity means.
pub fn type_of_entity(e: EntityId) -> Option<ValueType> {
    ValueType::ALL.into_iter().find(|t| type_entity(*t) == e)
}
/// The ident entity of a cardinality.
pub fn cardinality_entity(c: Cardinality) -> EntityId {
    EntityId::new(Partition::Db, CARDINALITY_BASE + u64::from(c == Cardinality::Many))
}
/// The cardinality an ident entity means.
pub fn cardinality_of_entity(e: EntityId) -> Option<Cardinality> {
    [Cardinality::One, Cardinality::Many].into_iter().find(|c| cardinality_entity(*c) == e)
}
/// The ident entity of a kind of uniqueness.
pub fn unique_entity(u: Unique) -> EntityId {
    EntityId::new(Partition::Db, UNIQUE_BASE + u64::from(u == Unique::Identity))
}
/// The kind of uniqueness an ident entity means.
pub fn unique_of_entity(e: EntityId) -> Option<Unique> {
    [Unique::Value, Unique::Identity].into_iter().find(|u| unique_entity(*u) == e)
}

fn named_entities() -> Vec<(EntityId, String)> {
    let mut all: Vec<(EntityId, String)> =
        ValueType::ALL.into_iter().map(|t| (type_entity(t), format!("db.type/{}", t.name()))).collect();
    all.push((cardinality_entity(Cardinality::One), "db.cardinality/one".into()));
    all.push((cardinality_entity(Cardinality::Many), "db.cardinality/many".into()));
    all.push((unique_entity(Unique::Value), "db.unique/value".into()));
    all.push((unique_entity(Unique::Identity), "db.unique/identity".into()));
    for (i, part) in ["db.part/db", "db.part/tx", "db.part/user", "db.part/event"].into_iter().enumerate() {
        all.push((EntityId::new(Partition::Db, PART_BASE + i as u64), part.into()));
    }
    all
}

/// The record of t0.
pub fn genesis() -> Record {
    let mut datoms = Vec::new();
    let mut add = |e: EntityId, a: AttrId, v: Value| {
        datoms.push(Datom { e, a, v, t: T::GENESIS, added: true });
    };
    add(T::GENESIS.entity(), TX_INSTANT, Value::Instant(Instant(0)));
    for b in ATTRIBUTES {
        let e = AttrId::new(b.id).entity();
        let cardinality = if b.many { Cardinality::Many } else { Cardinality::One };
        add(e, IDENT, Value::keyword(b.ident));
        add(e, VALUE_TYPE, Value::Ref(type_entity(b.value_type)));
        add(e, CARDINALITY, Value::Ref(cardinality_entity(cardinality)));
        if let Some(u) = b.unique {
            add(e, UNIQUE, Value::Ref(unique_entity(u)));
        }
        if b.index {
            add(e, INDEX, Value::Bool(true));
        }
        add(e, DOC, Value::string(b.doc));
        if matches!(b.id, 9 | 10) {
            add(e, TUPLE_TYPE, Value::keyword("db.type/keyword"));
        }
    }
    for (e, name) in named_entities() {
        add(e, IDENT, Value::keyword(&name));
    }
    datoms.sort();
    Record { t: T::GENESIS, instant: Instant(0), datoms, rows: Vec::new() }
}

/// May users name their own attributes and idents in this namespace?
pub fn reserved_name(k: &Keyword) -> bool {
    k.namespace().is_some_and(|ns| ns == "db" || ns.starts_with("db.") || ns == "event")
}
