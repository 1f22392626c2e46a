//! Random queries: well typed, every variable bound, clauses in any order.
//! Rules that fold are in `fold`, rules that look at an argument in two ways in `given`.

mod fold;
mod given;

use super::{Rng, data::Attr, data::identity, value};
use annals_model::{EntityId, Symbol, Value, ValueType};

/// What a variable holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ty {
    Of(ValueType),
    Entity,
    Attribute,
    Tx,
    /// Of any type: shown, but joined with nothing.
    Data,
}

/// What goes to one place of `:in`.
#[derive(Clone, Debug)]
pub enum Arg {
    /// The database under test.
    Db,
    /// The same database as of an earlier transaction.
    AsOf(annals_model::T),
    /// A value, a collection, a relation or rules.
    Value(Value),
}

/// A generated query with its inputs.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The sections in order: `:find`, `:with`, `:in`, and so on, without `:where`.
    head: Vec<Value>,
    /// The clauses.
    pub clauses: Vec<Value>,
    /// One for each place of `:in`.
    pub args: Vec<Arg>,
    /// `:order-by`, `:offset` and `:limit`, if it has them.
    pub slice: Option<Slice>,
}

/// Which rows of the answer are wanted, in which order.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// The column that orders; among equals all columns from the left do.
    pub column: usize,
    /// The greatest first?
    pub descending: bool,
    /// Rows passed over.
    pub offset: usize,
    /// Rows wanted.
    pub limit: usize,
}

impl Slice {
    /// The wanted rows of all rows.
    pub fn of(&self, mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
        rows.sort_by(|a, b| {
            let by = a[self.column].cmp(&b[self.column]);
            if self.descending { by.reverse() } else { by }.then_with(|| a.cmp(b))
        });
        rows.into_iter().skip(self.offset).take(self.limit).collect()
    }
}

impl Generated {
    /// The query in vector form.
    pub fn form(&self) -> Value {
        let mut parts = self.head.clone();
        if !self.clauses.is_empty() {
            parts.push(Value::keyword("where"));
            parts.extend(self.clauses.iter().cloned());
        }
        Value::vector(parts)
    }
    /// Does it aggregate, or keep duplicates with `:with`?
    pub fn is_aggregated(&self) -> bool {
        self.head.iter().any(|p| matches!(p, Value::List(_)) || *p == Value::keyword("with"))
            || self
                .head
                .iter()
                .any(|p| matches!(p, Value::Vector(v) if v.iter().any(|x| matches!(x, Value::List(_)))))
    }
    /// The same query with its clauses, and those of every nested clause, in another order.
    pub fn shuffled(&self, rng: &mut Rng) -> Generated {
        let mut other = self.clone();
        rng.shuffle(&mut other.clauses);
        for c in &mut other.clauses {
            *c = shuffle_nested(rng, c);
        }
        other
    }
}

fn shuffle_nested(rng: &mut Rng, clause: &Value) -> Value {
    let Value::List(parts) = clause else { return clause.clone() };
    let fixed = match parts.first() {
        Some(Value::Symbol(s)) if ["not", "or", "and"].contains(&s.as_str()) => 1,
        Some(Value::Symbol(s)) if ["not-join", "or-join"].contains(&s.as_str()) => 2,
        _ => return clause.clone(),
    };
    let mut inner: Vec<Value> = parts[fixed..].iter().map(|c| shuffle_nested(rng, c)).collect();
    rng.shuffle(&mut inner);
    list(parts[..fixed].iter().cloned().chain(inner))
}

/// What the generator knows of the data.
#[derive(Clone, Debug)]
pub struct World<'a> {
    /// The attributes.
    pub attrs: &'a [Attr],
    /// Entities that occur.
    pub entities: &'a [EntityId],
    /// The last transaction.
    pub basis: annals_model::T,
    /// Is the view a history? Then ops are worth asking for, and defaults have no meaning.
    pub history: bool,
}

/// A query over this world.
pub fn query(rng: &mut Rng, world: &World<'_>) -> Generated {
    let mut g = Gen {
        rng,
        world,
        vars: Vec::new(),
        clauses: Vec::new(),
        ins: vec![sym("$")],
        args: vec![Arg::Db],
        rules: Vec::new(),
        n: 0,
        hidden: Vec::new(),
    };
    g.body();
    g.finish()
}

fn sym(name: &str) -> Value {
    Value::Symbol(Symbol::new(name))
}
fn list(items: impl IntoIterator<Item = Value>) -> Value {
    Value::List(items.into_iter().collect())
}
fn call(name: &str, args: impl IntoIterator<Item = Value>) -> Value {
    list(std::iter::once(sym(name)).chain(args))
}
fn vector(items: impl IntoIterator<Item = Value>) -> Value {
    Value::vector(items)
}

struct Gen<'a, 'w> {
    rng: &'a mut Rng,
    world: &'a World<'w>,
    vars: Vec<(String, Ty)>,
    clauses: Vec<Value>,
    ins: Vec<Value>,
    args: Vec<Arg>,
    rules: Vec<Value>,
    n: usize,
    /// Variables that are not to be shown: lookup refs given as inputs.
    hidden: Vec<String>,
}

impl Gen<'_, '_> {
    fn fresh(&mut self, prefix: &str) -> String {
        self.n += 1;
        format!("?{prefix}{}", self.n)
    }
    fn new_var(&mut self, ty: Ty) -> Value {
        let name = self.fresh(match ty {
            Ty::Entity => "e",
            Ty::Attribute => "a",
            Ty::Tx => "tx",
            Ty::Data => "data",
            Ty::Of(of) => &of.name()[..2],
        });
        self.vars.push((name.clone(), ty));
        sym(&name)
    }
    fn bound(&mut self, ty: Ty) -> Option<Value> {
        let names: Vec<&String> = self.vars.iter().filter(|(_, t)| *t == ty).map(|(n, _)| n).collect();
        self.rng.some(&names).map(|n| sym(n))
    }
    fn entity(&mut self) -> Value {
        match self.bound(Ty::Entity) {
            Some(e) => e,
            None => self.new_var(Ty::Entity),
        }
    }
    fn attr(&mut self, want: impl Fn(&Attr) -> bool) -> Option<Attr> {
        let fits: Vec<&Attr> = self.world.attrs.iter().filter(|a| want(a)).collect();
        self.rng.some(&fits).map(|a| (*a).clone())
    }
    fn any_attr(&mut self) -> Attr {
        self.attr(|a| a.writable()).expect("a schema has attributes")
    }
    fn ref_attr(&mut self) -> Attr {
        self.attr(|a| a.of == ValueType::Ref).expect("a schema has a reference")
    }
    fn ty(a: &Attr) -> Ty {
        if a.of == ValueType::Ref { Ty::Entity } else { Ty::Of(a.of) }
    }
    fn constant(&mut self, a: &Attr) -> Value {
        match a.of {
            ValueType::Ref => self.entity_constant(),
            _ if a.ident == "x/id" => identity(self.rng.below(9)),
            of => value(self.rng, of),
        }
    }
    fn entity_constant(&mut self) -> Value {
        match self.rng.some(self.world.entities) {
            Some(e) if self.rng.chance(40) => Value::Long(e.raw() as i64),
            _ => vector([Value::keyword("x/id"), identity(self.rng.below(9))]),
        }
    }
    /// A constant, or an input that holds it among others.
    fn given(&mut self, a: &Attr) -> Value {
        let c = self.constant(a);
        if self.ins.len() > 3 || !self.rng.chance(30) {
            return c;
        }
        let name = self.fresh("in");
        if a.of == ValueType::Ref {
            self.hidden.push(name.clone());
        }
        if self.rng.chance(50) {
            self.ins.push(sym(&name));
            self.args.push(Arg::Value(c));
        } else {
            let mut several = vec![c, self.constant(a)];
            several.dedup();
            self.ins.push(vector([sym(&name), sym("...")]));
            self.args.push(Arg::Value(vector(several)));
        }
        sym(&name)
    }

    /// `[e :attr v]` with `e` given; `local` variables are not known outside.
    fn pattern(&mut self, e: Value, local: bool) -> Value {
        let a = self.any_attr();
        let ty = Gen::ty(&a);
        let v = match self.rng.below(100) {
            0..=13 => self.given(&a),
            14..=37 => match self.bound(ty) {
                Some(v) if v != e || self.rng.chance(5) => v,
                _ => self.value_var(ty, local),
            },
            38..=47 => sym("_"),
            48..=54 => return vector([e, a.key()]),
            _ => self.value_var(ty, local),
        };
        vector([e, a.key(), v])
    }
    fn value_var(&mut self, ty: Ty, local: bool) -> Value {
        if local {
            let name = self.fresh("z");
            return sym(&name);
        }
        self.new_var(ty)
    }

    fn body(&mut self) {
        let root = self.new_var(Ty::Entity);
        let first = self.pattern(root, false);
        self.clauses.push(first);
        for _ in 0..self.rng.within(0, 2) {
            let e = self.entity();
            let c = self.pattern(e, false);
            self.clauses.push(c);
        }
        if self.rng.chance(8) {
            // An entity that is a constant.
            let e = self.entity_constant();
            let c = self.pattern(e, false);
            self.clauses.push(c);
        }
        for _ in 0..*self.rng.pick(&[0, 1, 1, 2, 2, 3]) {
            self.extra();
        }
        if self.rng.chance(30) {
            self.recursion();
        }
        if self.rng.chance(25) {
            self.folded();
        }
        if self.rng.chance(15) {
            self.as_given();
        }
    }

    fn extra(&mut self) {
        match self.rng.below(26) {
            0 | 1 => self.comparison(),
            2 => self.arithmetic(),
            3 | 4 => self.negation(),
            5 => self.negation_joined(),
            6 | 7 => self.disjunction(),
            8 => self.disjunction_joined(),
            9 => self.with_default(),
            10 => self.missing(),
            11 => self.ground(),
            12 => self.attribute_variable(),
            13 => self.transaction_place(),
            14 => self.other_time(),
            15 => self.relation_input(),
            16 => self.boolean_result(),
            17 => self.first_present(),
            18 => self.tuples(),
            19 => self.attribute_input(),
            20 => self.nested_query(),
            21 | 22 => self.nested_negation(),
            23 => self.nested_disjunction(),
            24 => self.instant_of_transaction(),
            _ if self.rng.chance(30) => self.self_join(),
            _ => self.disjunction_joined(),
        }
    }

    fn comparison(&mut self) {
        let of = *self.rng.pick(&[ValueType::Long, ValueType::Long, ValueType::String, ValueType::Double]);
        let Some(x) = self.bound(Ty::Of(of)) else { return };
        let op = *self.rng.pick(&["<", "<=", ">", ">=", "!=", "="]);
        let other = match self.rng.below(3) {
            0 => self.bound(Ty::Of(of)).expect("just seen"),
            1 if of != ValueType::String => self
                .bound(Ty::Of(if of == ValueType::Long { ValueType::Double } else { ValueType::Long }))
                .unwrap_or_else(|| value(self.rng, of)),
            _ => value(self.rng, of),
        };
        let args = if self.rng.chance(20) { [other, x] } else { [x, other] };
        self.clauses.push(vector([call(op, args)]));
    }

    fn arithmetic(&mut self) {
        let Some(x) = self.bound(Ty::Of(ValueType::Long)) else { return };
        let n = Value::Long(self.rng.within(1, 3));
        let result = match self.bound(Ty::Of(ValueType::Long)) {
            Some(v) if self.rng.chance(30) && v != x => v,
            _ => self.new_var(Ty::Of(ValueType::Long)),
        };
        let op = *self.rng.pick(&["+", "-", "*"]);
        // Overflow is an error, and tested on its own: here the operand is made small.
        let clamped = self.fresh("c");
        self.clauses.push(vector([call("mod", [x, Value::Long(7)]), sym(&clamped)]));
        self.clauses.push(vector([call(op, [sym(&clamped), n]), result]));
    }

    fn negation(&mut self) {
        let e = self.entity();
        let mut body = vec![self.pattern(e.clone(), true)];
        if self.rng.chance(30) {
            body.push(self.pattern(e, true));
        }
        self.clauses.push(call("not", body));
    }

    fn negation_joined(&mut self) {
        let e = self.entity();
        let other = sym(&self.fresh("w"));
        let a = self.ref_attr();
        let mut body = vec![vector([other.clone(), a.key(), e.clone()])];
        if self.rng.chance(50) {
            let b = self.any_attr();
            let c = self.constant(&b);
            body.push(vector([other, b.key(), c]));
        }
        self.clauses.push(call("not-join", std::iter::once(vector([e])).chain(body)));
    }

    fn disjunction(&mut self) {
        let e = self.entity();
        let tests = self.rng.chance(60);
        let result = if tests { None } else { Some(self.new_var(Ty::Of(ValueType::Long))) };
        let mut branches = Vec::new();
        for _ in 0..self.rng.within(2, 3) {
            let branch = match &result {
                None => {
                    let a = self.any_attr();
                    let c = self.constant(&a);
                    let one = vector([e.clone(), a.key(), c]);
                    if self.rng.chance(30) {
                        let b = self.any_attr();
                        call("and", [one, vector([e.clone(), b.key(), sym("_")])])
                    } else {
                        one
                    }
                }
                Some(v) => match self.attr(|a| a.of == ValueType::Long) {
                    Some(a) => vector([e.clone(), a.key(), v.clone()]),
                    None => call(
                        "and",
                        [
                            vector([e.clone(), Value::keyword("x/id"), sym("_")]),
                            vector([call("ground", [Value::Long(3)]), v.clone()]),
                        ],
                    ),
                },
            };
            branches.push(branch);
        }
        self.clauses.push(call("or", branches));
    }

    fn disjunction_joined(&mut self) {
        let e = self.entity();
        let to = self.new_var(Ty::Entity);
        let (a, b) = (self.ref_attr(), self.ref_attr());
        let middle = sym(&self.fresh("z"));
        let first = vector([e.clone(), a.key(), to.clone()]);
        let second = if self.rng.chance(50) {
            vector([to.clone(), b.key(), e.clone()])
        } else {
            call("and", [vector([e.clone(), a.key(), middle.clone()]), vector([middle, b.key(), to.clone()])])
        };
        self.clauses.push(call("or-join", [vector([e, to]), first, second]));
    }

    fn with_default(&mut self) {
        if self.world.history {
            return;
        }
        let Some(a) = self.attr(|a| !a.many && a.of != ValueType::Ref && a.writable()) else { return };
        let e = self.entity();
        let default = value(self.rng, a.of);
        let v = self.new_var(Ty::Of(a.of));
        self.clauses.push(vector([call("get-else", [sym("$"), e, a.key(), default]), v]));
    }

    fn missing(&mut self) {
        let (e, a) = (self.entity(), self.any_attr());
        self.clauses.push(vector([call("missing?", [sym("$"), e, a.key()])]));
    }

    fn ground(&mut self) {
        let of = *self.rng.pick(&[ValueType::Long, ValueType::Keyword]);
        let mut values = vec![value(self.rng, of), value(self.rng, of)];
        values.dedup();
        let v = match self.bound(Ty::Of(of)) {
            Some(v) if self.rng.chance(50) => v,
            _ => self.new_var(Ty::Of(of)),
        };
        self.clauses.push(vector([call("ground", [vector(values)]), vector([v, sym("...")])]));
    }

    fn attribute_variable(&mut self) {
        let e = self.entity();
        let a = self.new_var(Ty::Attribute);
        let v = sym(&self.fresh("any"));
        let mut places = vec![e, a.clone(), if self.rng.chance(50) { v } else { sym("_") }];
        if self.rng.chance(40) {
            let tx = self.new_var(Ty::Tx);
            self.time_places(tx, &mut places);
        }
        self.clauses.push(vector(places));
        if self.rng.chance(60) {
            let ident = self.new_var(Ty::Of(ValueType::Keyword));
            self.clauses.push(vector([a, Value::keyword("db/ident"), ident]));
        }
    }

    fn transaction_place(&mut self) {
        let (e, a) = (self.entity(), self.any_attr());
        let tx = match self.bound(Ty::Tx) {
            Some(tx) if self.rng.chance(50) => tx,
            _ => self.new_var(Ty::Tx),
        };
        let v = match self.bound(Gen::ty(&a)) {
            Some(v) if self.rng.chance(40) => v,
            _ => self.new_var(Gen::ty(&a)),
        };
        let mut places = vec![e, a.key(), v];
        self.time_places(tx, &mut places);
        self.clauses.push(vector(places));
    }

    /// The fourth place of a pattern, and perhaps the fifth.
    fn time_places(&mut self, tx: Value, places: &mut Vec<Value>) {
        places.push(tx);
        if self.world.history || self.rng.chance(20) {
            places.push(match self.rng.below(3) {
                0 => self.new_var(Ty::Of(ValueType::Boolean)),
                n => Value::Bool(n == 1),
            });
        }
    }

    fn other_time(&mut self) {
        if self.args.iter().any(|a| matches!(a, Arg::AsOf(_))) {
            return;
        }
        let n = self.rng.below(self.world.basis.0 as usize + 1) as u64;
        // Before the attributes were there, naming one is an error.
        self.ins.push(sym("$then"));
        self.args.push(Arg::AsOf(annals_model::T(n.max(2))));
        let e = self.entity();
        let Value::Vector(p) = self.pattern(e.clone(), false) else { unreachable!("patterns are vectors") };
        self.clauses.push(vector(std::iter::once(sym("$then")).chain(p.iter().cloned())));
        if self.rng.chance(40) {
            let p = self.pattern(e, true);
            self.clauses.push(list([sym("$then"), sym("not"), p]));
        }
    }

    fn relation_input(&mut self) {
        let Some(a) = self.attr(|a| !a.many && matches!(a.of, ValueType::Long | ValueType::Keyword)) else {
            return;
        };
        let (x, y) = (self.new_var(Ty::Of(a.of)), self.new_var(Ty::Of(ValueType::Long)));
        let mut rows: Vec<Value> = (0..self.rng.within(0, 3))
            .map(|_| {
                let first = self.constant(&a);
                vector([first, value(self.rng, ValueType::Long)])
            })
            .collect();
        rows.dedup();
        let e = self.entity();
        if self.rng.chance(70) {
            self.clauses.push(vector([e, a.key(), x.clone()]));
        }
        if self.rng.chance(30) {
            self.ins.push(vector([x, y]));
            let first = self.constant(&a);
            self.args.push(Arg::Value(vector([first, value(self.rng, ValueType::Long)])));
        } else {
            self.ins.push(vector([vector([x, y])]));
            self.args.push(Arg::Value(vector(rows)));
        }
    }

    /// A predicate whose answer is a value: false is kept.
    fn boolean_result(&mut self) {
        let Some(x) = self.bound(Ty::Of(ValueType::Long)) else { return };
        let n = Value::Long(self.rng.within(0, 4));
        let b = match self.bound(Ty::Of(ValueType::Boolean)) {
            Some(b) if self.rng.chance(40) => b,
            _ => self.new_var(Ty::Of(ValueType::Boolean)),
        };
        self.clauses.push(vector([call("<", [x, n]), b]));
    }

    fn first_present(&mut self) {
        if self.world.history {
            return;
        }
        let of = *self.rng.pick(&[ValueType::Long, ValueType::String, ValueType::Keyword]);
        let fits = |a: &&Attr| !a.many && a.of == of && a.writable();
        let mut keys: Vec<Value> = self.world.attrs.iter().filter(fits).map(Attr::key).collect();
        if keys.is_empty() {
            return;
        }
        self.rng.shuffle(&mut keys);
        let e = self.entity();
        let a = if self.rng.chance(50) { self.new_var(Ty::Attribute) } else { sym("_") };
        let v = self.new_var(Ty::Of(of));
        let args = [sym("$"), e].into_iter().chain(keys);
        self.clauses.push(vector([call("get-some", args), vector([a, v])]));
    }

    /// Values put into a tuple and taken out again, one slot thrown away or bound already.
    fn tuples(&mut self) {
        let (Some(x), Some(e)) = (self.bound(Ty::Of(ValueType::Keyword)), self.bound(Ty::Entity)) else {
            return;
        };
        let t = sym(&self.fresh("t"));
        self.clauses.push(vector([call("tuple", [x.clone(), Value::Long(1), e.clone()]), t.clone()]));
        let out = match self.rng.below(3) {
            0 => x,
            1 => sym("_"),
            _ => self.new_var(Ty::Of(ValueType::Keyword)),
        };
        let back = if self.rng.chance(50) { e } else { self.new_var(Ty::Entity) };
        self.clauses.push(vector([call("untuple", [t]), vector([out, sym("_"), back])]));
    }

    /// An attribute that comes as an input.
    fn attribute_input(&mut self) {
        let e = self.entity();
        let (a, b) = (self.any_attr(), self.any_attr());
        let name = self.fresh("in");
        self.hidden.push(name.clone());
        if self.rng.chance(50) {
            self.ins.push(sym(&name));
            self.args.push(Arg::Value(a.key()));
        } else {
            let mut both = vec![a.key(), b.key()];
            both.dedup();
            self.ins.push(vector([sym(&name), sym("...")]));
            self.args.push(Arg::Value(vector(both)));
        }
        let v = sym(&self.fresh("any"));
        self.clauses.push(vector([e, sym(&name), v]));
    }

    fn nested_query(&mut self) {
        let Some(a) = self.attr(|a| a.of == ValueType::Long) else { return };
        let [x, e] = ["?x", "?e"].map(sym);
        let f = *self.rng.pick(&["max", "min", "count"]);
        let inner = vector([
            Value::keyword("find"),
            call(f, [x.clone()]),
            sym("."),
            Value::keyword("where"),
            vector([e, a.key(), x]),
        ]);
        let result = self.new_var(Ty::Of(ValueType::Long));
        self.clauses.push(vector([call("q", [call("quote", [inner]), sym("$")]), result]));
    }

    /// `not` within `not`, `or` within `not`, a rule of its own variables within `not-join`.
    fn nested_negation(&mut self) {
        let e = self.entity();
        let first = self.pattern(e.clone(), true);
        let inner = match self.rng.below(3) {
            0 => {
                let a = self.any_attr();
                let c = self.constant(&a);
                call("not", [vector([e.clone(), a.key(), c])])
            }
            1 => {
                let (a, b) = (self.any_attr(), self.any_attr());
                let (c, d) = (self.constant(&a), self.constant(&b));
                call("or", [vector([e.clone(), a.key(), c]), vector([e.clone(), b.key(), d])])
            }
            _ => {
                let (a, w) = (self.ref_attr(), sym(&self.fresh("w")));
                call("not-join", [vector([e.clone()]), vector([w, a.key(), e.clone()])])
            }
        };
        if self.rng.chance(50) {
            self.clauses.push(call("not", [first, inner]));
        } else {
            self.clauses.push(call("not-join", [vector([e]), first, inner]));
        }
    }

    /// `or-join` with a required variable, a negation in a branch, and an `or` within.
    fn nested_disjunction(&mut self) {
        let e = self.entity();
        let to = self.new_var(Ty::Entity);
        let (a, b) = (self.ref_attr(), self.ref_attr());
        let c = self.any_attr();
        let value = self.constant(&c);
        let branch = call(
            "and",
            [vector([e.clone(), a.key(), to.clone()]), call("not", [vector([to.clone(), c.key(), value])])],
        );
        let other =
            call("or", [vector([to.clone(), b.key(), e.clone()]), vector([e.clone(), b.key(), to.clone()])]);
        let head = if self.rng.chance(50) { vector([vector([e]), to]) } else { vector([e, to]) };
        self.clauses.push(call("or-join", [head, branch, other]));
    }

    fn instant_of_transaction(&mut self) {
        let (e, a) = (self.entity(), self.any_attr());
        let tx = self.new_var(Ty::Tx);
        let at = self.new_var(Ty::Of(ValueType::Instant));
        self.clauses.push(vector([e, a.key(), sym("_"), tx.clone()]));
        self.clauses.push(vector([tx, Value::keyword("db/txInstant"), at]));
    }

    fn self_join(&mut self) {
        let (e, a) = (self.entity(), self.ref_attr());
        self.clauses.push(vector([e.clone(), a.key(), e]));
    }

    /// A call of a recursive rule, in one of the ways to write it.
    fn recursion(&mut self) {
        let [x, y, z] = ["?x", "?y", "?z"].map(sym);
        let a = self.ref_attr().key();
        let b = self.ref_attr().key();
        let edge = |f: &Value, a: &Value, t: &Value| vector([f.clone(), a.clone(), t.clone()]);
        let head = |n: &str| call(n, [x.clone(), y.clone()]);
        let of = |n: &str, f: &Value, t: &Value| call(n, [f.clone(), t.clone()]);
        let base = vector([head("reach"), edge(&x, &a, &y)]);
        let (rules, name) = match self.rng.below(8) {
            0 | 1 => (vec![base, vector([head("reach"), edge(&x, &a, &z), of("reach", &z, &y)])], "reach"),
            2 => (vec![base, vector([head("reach"), of("reach", &x, &z), edge(&z, &a, &y)])], "reach"),
            3 => (vec![base, vector([head("reach"), of("reach", &x, &z), of("reach", &z, &y)])], "reach"),
            4 => (
                // Odd and even steps: mutual recursion.
                vec![
                    vector([head("odd"), edge(&x, &a, &y)]),
                    vector([head("odd"), edge(&x, &b, &z), of("even", &z, &y)]),
                    vector([head("even"), edge(&x, &a, &z), of("odd", &z, &y)]),
                ],
                if self.rng.chance(50) { "odd" } else { "even" },
            ),
            5 => {
                // Two kinds of step, one of them backwards, avoiding some nodes.
                let avoid = vector([z.clone(), Value::keyword("x/id"), identity(self.rng.below(9))]);
                (
                    vec![
                        base,
                        vector([head("reach"), of("reach", &x, &z), call("not", [avoid]), edge(&z, &a, &y)]),
                        vector([head("reach"), edge(&y, &b, &x)]),
                    ],
                    "reach",
                )
            }
            6 => (
                // Same generation: non-linear through another rule.
                vec![
                    vector([head("sib"), edge(&x, &a, &z), edge(&y, &a, &z)]),
                    vector([
                        head("sib"),
                        edge(&x, &a, &sym("?p")),
                        of("sib", &sym("?p"), &sym("?q")),
                        edge(&y, &a, &sym("?q")),
                    ]),
                ],
                "sib",
            ),
            _ => (
                // A rule that needs its first argument.
                vec![
                    vector([call("from", [vector([x.clone()]), y.clone()]), edge(&x, &a, &y)]),
                    vector([
                        call("from", [vector([x.clone()]), y.clone()]),
                        edge(&x, &a, &z),
                        of("from", &z, &y),
                    ]),
                ],
                "from",
            ),
        };
        self.rules.extend(rules);
        let from = self.entity();
        let from = if self.rng.chance(15) { self.entity_constant() } else { from };
        let to = match self.rng.below(10) {
            0 => sym("_"),
            1 => self.entity_constant(),
            2 | 3 => self.bound(Ty::Entity).expect("there is a root"),
            _ => self.new_var(Ty::Entity),
        };
        let forward = name == "from" || self.rng.chance(70);
        if !forward && (to == sym("_") || !matches!(&to, Value::Symbol(_))) {
            self.clauses.push(call(name, [from, to]));
        } else {
            self.clauses.push(call(name, if forward { [from.clone(), to] } else { [to, from.clone()] }));
        }
        if self.rng.chance(20) && name != "from" {
            let e = self.bound(Ty::Entity).expect("there is a root");
            let f = self.bound(Ty::Entity).expect("there is a root");
            self.clauses.push(call("not", [call(name, [e, f])]));
        }
    }

    fn finish(mut self) -> Generated {
        let shown: Vec<(String, Ty)> =
            self.vars.iter().filter(|(n, _)| !self.hidden.contains(n)).cloned().collect();
        let mut columns = shown.clone();
        self.rng.shuffle(&mut columns);
        columns.truncate(self.rng.within(1, 3) as usize);
        let mut find: Vec<Value> = columns.iter().map(|(n, _)| sym(n)).collect();
        let mut with = Vec::new();
        let roll = self.rng.below(100);
        if roll < 28 {
            let longs: Vec<&(String, Ty)> =
                shown.iter().filter(|(_, t)| *t == Ty::Of(ValueType::Long)).collect();
            let group = if self.rng.chance(60) { vec![find[0].clone()] } else { vec![] };
            let aggregate = match self.rng.some(&longs) {
                Some((v, _)) if self.rng.chance(75) => {
                    let f = *self.rng.pick(&[
                        "min",
                        "max",
                        "avg",
                        "count",
                        "count-distinct",
                        "distinct",
                        "median",
                    ]);
                    if self.rng.chance(20) {
                        call(["min", "max"][self.rng.below(2)], [Value::Long(self.rng.within(1, 3)), sym(v)])
                    } else {
                        call(f, [sym(v)])
                    }
                }
                _ => call(["count", "count-distinct", "min", "max"][self.rng.below(4)], [find[0].clone()]),
            };
            if self.rng.chance(40) {
                let w = sym(&self.rng.pick(&shown).0.clone());
                if !group.contains(&w) && !matches!(&aggregate, Value::List(l) if l.contains(&w)) {
                    with.push(w);
                }
            }
            find = group;
            find.push(aggregate);
        } else if roll < 36 {
            find = vec![vector([find[0].clone(), sym("...")])];
        } else if roll < 41 {
            find = vec![vector(find)];
        } else if roll < 46 {
            find = vec![find[0].clone(), sym(".")];
        } else if roll < 52 {
            let w = sym(&self.rng.pick(&shown).0.clone());
            if !find.contains(&w) {
                with.push(w);
            }
        }
        if !self.rules.is_empty() {
            self.ins.push(sym("%"));
            self.args.push(Arg::Value(vector(self.rules.iter().cloned())));
        }
        let mut head = vec![Value::keyword("find")];
        head.extend(find);
        if !with.is_empty() {
            head.push(Value::keyword("with"));
            head.extend(with);
        }
        if self.ins.len() > 1 {
            head.push(Value::keyword("in"));
            head.extend(self.ins.iter().cloned());
        }
        let columns = head.iter().skip(1).take_while(|p| !matches!(p, Value::Keyword(_))).count();
        let relation =
            columns > 0 && head.iter().all(|p| *p != sym(".")) && !matches!(head[1], Value::Vector(_));
        // Averages may differ in their last digit: rows with aggregates are compared as a bag only.
        let plain = !head.iter().any(|p| matches!(p, Value::List(_)));
        let slice = if relation && plain && self.rng.chance(15) {
            let slice = Slice {
                column: self.rng.below(columns),
                descending: self.rng.chance(50),
                offset: self.rng.below(3),
                limit: self.rng.below(6),
            };
            let direction = Value::keyword(if slice.descending { "desc" } else { "asc" });
            head.push(Value::keyword("order-by"));
            head.push(vector([Value::Long(slice.column as i64), direction]));
            head.extend([Value::keyword("limit"), Value::Long(slice.limit as i64)]);
            head.extend([Value::keyword("offset"), Value::Long(slice.offset as i64)]);
            Some(slice)
        } else {
            None
        };
        let mut clauses = self.clauses;
        self.rng.shuffle(&mut clauses);
        Generated { head, clauses, args: self.args, slice }
    }
}
