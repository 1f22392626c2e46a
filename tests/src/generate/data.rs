//! Random schemas and transactions, sound and unsound ones.

use super::{Rng, TYPES, value};
use annals_model::{EntityId, Value, ValueType};

/// A generated attribute.
#[derive(Clone, Debug)]
pub struct Attr {
    /// `x/long0`, without the colon.
    pub ident: String,
    /// Its type.
    pub of: ValueType,
    /// Several values an entity?
    pub many: bool,
    /// `:db.unique/identity`, `:db.unique/value`, or not unique.
    pub unique: Option<&'static str>,
    /// Are its values parts?
    pub component: bool,
    /// `:db/index`?
    pub index: bool,
    /// The attributes of a composite tuple.
    pub composite: Vec<String>,
}

impl Attr {
    /// The attribute as a keyword.
    pub fn key(&self) -> Value {
        Value::keyword(&self.ident)
    }
    /// Can it be asserted by hand?
    pub fn writable(&self) -> bool {
        self.composite.is_empty()
    }
}

/// A schema: `:x/id` is an identity, the others are drawn.
pub fn schema(rng: &mut Rng) -> Vec<Attr> {
    let plain = |ident: String, of| Attr {
        ident,
        of,
        many: false,
        unique: None,
        component: false,
        index: false,
        composite: Vec::new(),
    };
    let mut all = vec![Attr { unique: Some("identity"), ..plain("x/id".into(), ValueType::Keyword) }];
    for i in 0..rng.within(3, 6) {
        let of = *rng.pick(&TYPES);
        let unique = if of != ValueType::Boolean && rng.chance(12) {
            Some(if rng.chance(50) { "value" } else { "identity" })
        } else {
            None
        };
        let many = unique.is_none() && rng.chance(35);
        let index = rng.chance(30);
        all.push(Attr { many, unique, index, ..plain(format!("x/{}{i}", of.name()), of) });
    }
    for i in 0..rng.within(1, 3) {
        let (many, component) = (rng.chance(50), rng.chance(25));
        all.push(Attr { many, component, ..plain(format!("x/ref{i}"), ValueType::Ref) });
    }
    let single: Vec<String> =
        all.iter().filter(|a| !a.many && a.of != ValueType::Ref).map(|a| a.ident.clone()).collect();
    if single.len() >= 2 && rng.chance(25) {
        let composite = vec![single[single.len() - 1].clone(), single[0].clone()];
        all.push(Attr { composite, ..plain("x/pair".into(), ValueType::Tuple) });
    }
    all
}

/// The transactions that install a schema (composite tuples need their parts installed first).
pub fn schema_txs(attrs: &[Attr]) -> Vec<Vec<Value>> {
    let (composite, plain): (Vec<&Attr>, Vec<&Attr>) = attrs.iter().partition(|a| !a.composite.is_empty());
    let form = |a: &&Attr| {
        let kw = Value::keyword;
        let mut m = vec![
            (kw("db/ident"), a.key()),
            (kw("db/valueType"), kw(&format!("db.type/{}", a.of.name()))),
            (kw("db/cardinality"), kw(if a.many { "db.cardinality/many" } else { "db.cardinality/one" })),
        ];
        if let Some(u) = a.unique {
            m.push((kw("db/unique"), kw(&format!("db.unique/{u}"))));
        }
        if a.component {
            m.push((kw("db/isComponent"), Value::Bool(true)));
        }
        if a.index {
            m.push((kw("db/index"), Value::Bool(true)));
        }
        if !a.composite.is_empty() {
            m.push((kw("db/tupleAttrs"), Value::vector(a.composite.iter().map(|p| kw(p)))));
        }
        Value::map(m)
    };
    let mut txs = vec![plain.iter().map(form).collect::<Vec<_>>()];
    if !composite.is_empty() {
        txs.push(composite.iter().map(form).collect());
    }
    txs
}

/// The identity of the `i`-th thing of a case.
pub fn identity(i: usize) -> Value {
    Value::keyword(&format!("k/{i}"))
}

/// What a transaction may refer to.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Entities that exist.
    pub entities: Vec<EntityId>,
    /// Percent of values that are of a wrong type, or otherwise asking for a refusal.
    pub mistakes: usize,
}

/// A transaction over these attributes.
pub fn transaction(rng: &mut Rng, attrs: &[Attr], known: &Known) -> Vec<Value> {
    let mut gen_tx = TxGen { rng, attrs, known };
    (0..gen_tx.rng.within(1, 5)).map(|_| gen_tx.form()).collect()
}

/// A first transaction that fills the database: `n` things with identities,
/// most attributes and some references among them.
pub fn seed_transaction(rng: &mut Rng, attrs: &[Attr], n: usize) -> Vec<Value> {
    let name = |i: usize| Value::string(format!("n{i}"));
    let mut forms = Vec::new();
    for i in 0..n {
        let mut m = vec![(Value::keyword("db/id"), name(i)), (Value::keyword("x/id"), identity(i))];
        for a in attrs.iter().filter(|a| a.ident != "x/id" && a.writable() && a.unique.is_none()) {
            if !rng.chance(85) {
                continue;
            }
            let mut one = || match a.of {
                ValueType::Ref => name(rng.below(n)),
                of => value(rng, of),
            };
            let v = if a.many {
                let first = one();
                let second = one();
                Value::vector(if first == second { vec![first] } else { vec![first, second] })
            } else {
                one()
            };
            m.push((a.key(), v));
        }
        forms.push(Value::map(m));
    }
    forms
}

struct TxGen<'a> {
    rng: &'a mut Rng,
    attrs: &'a [Attr],
    known: &'a Known,
}

impl TxGen<'_> {
    fn tempid(&mut self) -> Value {
        Value::string(format!("t{}", self.rng.below(4)))
    }
    fn lookup(&mut self) -> Value {
        Value::vector([Value::keyword("x/id"), identity(self.rng.below(9))])
    }
    fn who(&mut self) -> Value {
        match self.rng.below(20) {
            0 => Value::string("datomic.tx"),
            1..=3 => self.lookup(),
            4..=11 => match self.rng.some(&self.known.entities) {
                Some(e) => Value::Ref(*e),
                None => self.tempid(),
            },
            _ => self.tempid(),
        }
    }
    /// Mostly an entity that is there.
    fn someone(&mut self) -> Value {
        match self.rng.some(&self.known.entities) {
            Some(e) if self.rng.chance(85) => Value::Ref(*e),
            _ => self.who(),
        }
    }
    fn attr(&mut self) -> Attr {
        let attrs: Vec<&Attr> = self.attrs.iter().filter(|a| a.writable()).collect();
        if self.rng.chance(18) { attrs[0].clone() } else { (*self.rng.pick(&attrs)).clone() }
    }
    fn value(&mut self, a: &Attr) -> Value {
        if self.rng.chance(self.known.mistakes) {
            return Value::Uuid(Default::default()); // no attribute has this type
        }
        match a.of {
            // A tempid that is only a value is refused: mostly name what is there.
            ValueType::Ref if self.rng.chance(75) && !self.known.entities.is_empty() => {
                Value::Ref(*self.rng.pick(&self.known.entities))
            }
            ValueType::Ref => self.who(),
            _ if a.ident == "x/id" => identity(self.rng.below(9)),
            of => value(self.rng, of),
        }
    }
    /// The value of a fact that may well hold: retractions of nothing teach little.
    fn form(&mut self) -> Value {
        let op = |name: &str| Value::keyword(&format!("db/{name}"));
        let a = self.attr();
        match self.rng.below(100) {
            0..=39 => {
                let (e, v) = (self.who(), self.value(&a));
                Value::vector([op("add"), e, a.key(), v])
            }
            40..=71 => {
                let id = if self.rng.chance(70) { self.tempid() } else { self.who() };
                self.map(id, true)
            }
            72..=83 => {
                let (e, v) = (self.someone(), self.value(&a));
                Value::vector([op("retract"), e, a.key(), v])
            }
            84..=88 => {
                let e = self.someone();
                Value::vector([op("retract"), e, a.key()])
            }
            89..=92 => {
                let e = self.someone();
                Value::vector([op("retractEntity"), e])
            }
            _ => {
                let e = self.someone();
                let new = self.value(&a);
                let old = if self.rng.chance(40) { Value::Nil } else { self.value(&a) };
                Value::vector([op("cas"), e, a.key(), old, new])
            }
        }
    }
    fn map(&mut self, id: Value, nest: bool) -> Value {
        let mut m = vec![(Value::keyword("db/id"), id)];
        for _ in 0..self.rng.within(1, 3) {
            let a = self.attr();
            let v = match a.of {
                ValueType::Ref if nest && self.rng.chance(30) => {
                    let child = self.tempid();
                    self.map(child, false)
                }
                ValueType::Ref if a.many => {
                    let (one, two) = (self.who(), self.who());
                    Value::vector([one, two])
                }
                _ if a.many && self.rng.chance(60) => {
                    let (one, two) = (self.value(&a), self.value(&a));
                    Value::vector([one, two])
                }
                _ => self.value(&a),
            };
            let key = if a.of == ValueType::Ref && !matches!(v, Value::Map(_)) && self.rng.chance(20) {
                Value::keyword(&a.ident.replace('/', "/_"))
            } else {
                a.key()
            };
            if m.iter().all(|(k, _)| *k != key) {
                m.push((key, v));
            }
        }
        Value::map(m)
    }
}
