//! Predicates and functions over relations.
//!
//! Comparisons and small arithmetic run on cells; everything else decodes the
//! arguments of each row and asks the function table. What asks a database
//! (`get-else`, `missing?`, …) is one sorted probe for the whole relation.

use super::Run;
use super::access::{Hint, Locator, entity_key};
use super::bind::Binder;
use super::function::{self, FnError, Function};
use super::guard::Guard;
use super::quick::{self, Comparison};
use super::rel::{Rel, Var};
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::resolve::ir::{Arg, Bind, Expr, Slot};
use crate::resolve::tx_entity;
use annals_model::{AttrId, Cell, Diagnostic, Order, Span, Symbol, T, Value, cell};
use hashbrown::HashMap;
use std::sync::Arc;

/// What an expression gives for each row.
enum Computed {
    Cells(Vec<Cell>),
    Values(Vec<Value>),
    /// The same for every row.
    One(Value),
}

/// One argument over all rows.
enum ArgCol<'a> {
    Col(&'a [Cell]),
    Const(Cell),
}

impl ArgCol<'_> {
    #[inline]
    fn get(&self, i: usize) -> Cell {
        match self {
            ArgCol::Col(c) => c[i],
            ArgCol::Const(c) => *c,
        }
    }
}

impl Run<'_> {
    fn arg<'a>(&self, a: &Arg, rel: &'a Rel) -> ArgCol<'a> {
        match a {
            Arg::Var(v) => ArgCol::Col(rel.col(*v).expect("arguments are bound")),
            Arg::Const(c) => ArgCol::Const(self.dict.encode(c)),
            Arg::Src(_) => ArgCol::Const(cell::NIL),
        }
    }

    /// The comparison that a name means, unless something else is registered in its place.
    pub(crate) fn comparison(&self, name: &Symbol) -> Option<Comparison> {
        let how = quick::comparison(name.as_str())?;
        let standard = function::Library::standard().function(name.as_str())?;
        self.library.function(name.as_str()).is_some_and(|f| Arc::ptr_eq(f, standard)).then_some(how)
    }

    /// The test of one variable that an expression makes of the values it may have.
    pub(crate) fn guard(&self, e: &Expr) -> Option<(Var, Guard)> {
        let Expr::Call { name, args } = e else { return None };
        let how = self.comparison(name)?;
        let (v, c, flipped) = match &args[..] {
            [Arg::Var(v), Arg::Const(c)] => (*v, c, false),
            [Arg::Const(c), Arg::Var(v)] => (*v, c, true),
            _ => return None,
        };
        Some((v, Guard { how, with: self.dict.encode(c), flipped }))
    }

    /// The rows for which the expression is neither nil nor false.
    pub(crate) fn filter(&self, e: &Expr, rel: &Rel, at: Span) -> Result<Rel, QueryError> {
        let quick = match e {
            Expr::Call { name, args } => self.comparison(name).zip(<&[Arg; 2]>::try_from(&args[..]).ok()),
            _ => None,
        };
        let keep: Vec<u32> = match quick {
            Some((how, [a, b])) => {
                let (a, b) = (self.arg(a, rel), self.arg(b, rel));
                let (dict, budget) = (&*self.dict, self.budget);
                let pieces = self.threads.map(rel.len, rel.len, |piece| {
                    let mut keep = Vec::with_capacity(piece.len());
                    for start in piece.clone().step_by(BATCH) {
                        let rows = start..piece.end.min(start + BATCH);
                        let hits = rows.filter(|&i| how.holds(a.get(i), b.get(i), dict));
                        keep.extend(hits.map(|i| i as u32));
                        budget.check()?;
                    }
                    Ok(keep)
                })?;
                super::parallel::joined(pieces)
            }
            None => match self.compute(e, rel, at)? {
                Computed::Cells(c) => (0..rel.len as u32).filter(|&i| c[i as usize] > cell::FALSE).collect(),
                Computed::Values(v) => (0..rel.len as u32).filter(|&i| !v[i as usize].is_falsy()).collect(),
                Computed::One(v) if v.is_falsy() => vec![],
                Computed::One(_) => return Ok(rel.clone()),
            },
        };
        self.budget.spend(keep.len(), keep.len() * 8 * rel.vars.len())?;
        if keep.len() == rel.len {
            return Ok(rel.clone());
        }
        Ok(rel.take(&keep, true, true, self.budget))
    }

    /// The rows of `rel` with what the expression gives, taken apart by `bind`.
    pub(crate) fn function(&self, e: &Expr, bind: &Bind, rel: &Rel, at: Span) -> Result<Rel, QueryError> {
        let computed = self.compute(e, rel, at)?;
        let misfit = |m: super::bind::Misfit| {
            let d = Diagnostic::new(
                "query/type",
                format!("{} gives a {}, and the binding wants {}", e.name(), m.found, m.wanted),
            );
            QueryError::Invalid(vec![if at == Span::default() {
                d
            } else {
                d.at(at, "does not fit its binding")
            }])
        };
        if let (Computed::Cells(cells), Bind::Var(v)) = (&computed, bind) {
            let keep: Vec<u32> = match rel.col(*v) {
                Some(had) => (0..rel.len)
                    .filter(|&i| cells[i] != cell::NIL && cells[i] == had[i])
                    .map(|i| i as u32)
                    .collect(),
                None => (0..rel.len).filter(|&i| cells[i] != cell::NIL).map(|i| i as u32).collect(),
            };
            self.budget.spend(keep.len(), keep.len() * 8 * (1 + rel.vars.len()))?;
            let all = keep.len() == rel.len;
            let out = if all { rel.clone() } else { rel.take(&keep, true, true, self.budget) };
            if rel.has(*v) {
                return Ok(out);
            }
            let key = out.key.clone();
            let cells = if all { cells.clone() } else { keep.iter().map(|i| cells[*i as usize]).collect() };
            if rel.vars.is_empty() {
                return Ok(Rel::new(vec![*v], vec![cells], self.budget).keyed(key));
            }
            return Ok(out.with(*v, cells, self.budget).keyed(key));
        }
        let mut binder = Binder::new(bind);
        let mut one = |i: usize, v: &Value| -> Result<(), QueryError> {
            if matches!(v, Value::Nil) {
                return Ok(());
            }
            binder.add(bind, v, i as u32, self).map_err(misfit)?;
            // What has parts is looked through to find its cell.
            if i.is_multiple_of(256) || function::has_parts(v) {
                self.budget.spend(0, binder.left.len() * 8 * (1 + binder.cols.len()))?;
            }
            Ok(())
        };
        match &computed {
            Computed::Cells(cells) => {
                for (i, c) in cells.iter().enumerate() {
                    one(i, &self.dict.decode(*c))?;
                }
            }
            Computed::Values(values) => {
                for (i, v) in values.iter().enumerate() {
                    one(i, v)?;
                }
            }
            Computed::One(v) => {
                for i in 0..rel.len {
                    one(i, v)?;
                }
            }
        }
        self.bound(rel, binder)
    }

    fn compute(&self, e: &Expr, rel: &Rel, at: Span) -> Result<Computed, QueryError> {
        Ok(match e {
            Expr::Ground(v) => Computed::One(v.clone()),
            Expr::Call { name, args } => {
                let f = self.library.function(name.as_str()).expect("resolution found it").clone();
                self.call(&f, name.as_str(), args, rel, at)?
            }
            Expr::GetElse { src, e, a, default } => {
                let default = self.arg(default, rel);
                let found = self.first_values(*src, *a, e, rel)?;
                Computed::Cells(
                    found.into_iter().enumerate().map(|(i, c)| c.unwrap_or(default.get(i))).collect(),
                )
            }
            Expr::Missing { src, e, a } => {
                let found = self.first_values(*src, *a, e, rel)?;
                Computed::Cells(found.into_iter().map(|c| cell::of_bool(c.is_none())).collect())
            }
            Expr::GetSome { src, e, attrs } => {
                let mut out = vec![Value::Nil; rel.len];
                for a in attrs {
                    for (i, c) in self.first_values(*src, *a, e, rel)?.into_iter().enumerate() {
                        if let (Value::Nil, Some(c)) = (&out[i], c) {
                            out[i] = Value::vector([Value::Ref(a.entity()), self.dict.decode(c)]);
                        }
                    }
                }
                Computed::Values(out)
            }
            Expr::Query { query, args } => {
                let mut known: HashMap<Vec<Cell>, Value> = HashMap::new();
                let mut out = Vec::with_capacity(rel.len);
                let cols: Vec<ArgCol<'_>> = args.iter().map(|a| self.arg(a, rel)).collect();
                for i in 0..rel.len {
                    let key: Vec<Cell> = cols.iter().map(|c| c.get(i)).collect();
                    let v = match known.get(&key) {
                        Some(v) => v.clone(),
                        None => {
                            let v = self.deeper(|| crate::query::nested(self, query, args, &key))?;
                            known.insert(key, v.clone());
                            v
                        }
                    };
                    out.push(v);
                }
                Computed::Values(out)
            }
            Expr::TxIds { src, from, to } => {
                let (from, to) = (self.arg(from, rel), self.arg(to, rel));
                let db = self.db(*src);
                let end = db.view().upto(db.basis_t()).next();
                let mut out = Vec::with_capacity(rel.len);
                for i in 0..rel.len {
                    let start = self.time(*src, from.get(i), 0, e, at)?.unwrap_or(T::GENESIS);
                    let stop = self.time(*src, to.get(i), 1, e, at)?.unwrap_or(end).min(end);
                    let n = stop.0.saturating_sub(start.0) as usize;
                    self.budget.spend(n, n * 32)?;
                    out.push(Value::vector((start.0..stop.0).map(|t| Value::Ref(T(t).entity()))));
                }
                Computed::Values(out)
            }
            Expr::TxData { src, tx } => {
                let tx = self.arg(tx, rel);
                let mut out = Vec::with_capacity(rel.len);
                for i in 0..rel.len {
                    let datoms = match self.time(*src, tx.get(i), 0, e, at)? {
                        Some(t) => {
                            self.db(*src).log(t, t.next())?.into_iter().flat_map(|(_, ds)| ds).collect()
                        }
                        None => vec![],
                    };
                    self.budget.spend(datoms.len(), datoms.len() * 160)?;
                    out.push(Value::vector(datoms.into_iter().map(|d| {
                        Value::vector([
                            Value::Ref(d.e),
                            Value::Ref(d.a.entity()),
                            d.v,
                            Value::Ref(d.t.entity()),
                            Value::Bool(d.added),
                        ])
                    })));
                }
                Computed::Values(out)
            }
        })
    }

    /// A point in time as t: t, a transaction, an instant; nil is none.
    fn time(&self, slot: Slot, c: Cell, arg: usize, e: &Expr, at: Span) -> Result<Option<T>, QueryError> {
        let v = self.dict.decode(c);
        let known = match &v {
            Value::Nil => return Ok(None),
            // A time before the first transaction is the first.
            Value::Long(..0) => Some(T::GENESIS),
            Value::Long(n) => tx_entity(*n).and_then(|e| e.as_t()),
            Value::Ref(e) => e.as_t(),
            Value::Instant(i) => {
                // The first transaction not before the instant.
                let t = self.db(slot).t_at(annals_model::Instant(i.0.saturating_sub(1)))?;
                Some(t.next())
            }
            _ => None,
        };
        let found = match v {
            Value::Long(_) | Value::Ref(_) => "entity that is no transaction",
            v => v.kind(),
        };
        let error = FnError::Type { arg, expected: "t, transaction or instant", found };
        let fail = || QueryError::Function { name: e.name().to_owned(), error, at };
        known.map(Some).ok_or_else(fail)
    }

    /// The first value of attribute `a` for the entity in each row.
    fn first_values(
        &self,
        slot: Slot,
        a: AttrId,
        e: &Arg,
        rel: &Rel,
    ) -> Result<Vec<Option<Cell>>, QueryError> {
        let col = self.arg(e, rel);
        let mut keys = Vec::with_capacity(rel.len);
        for i in 0..rel.len {
            let c = col.get(i);
            keys.push(match cell::as_ref(c) {
                Some(_) => entity_key(c),
                None => self.entity_of(slot, c)?.map_or(u64::MAX, |e| e.raw()),
            });
        }
        let sorted = keys.is_sorted();
        let slab = self.slab(slot, a, Order::Eav, &keys, sorted)?;
        let locator = Locator::new(slab.keys(), keys.len(), sorted);
        let mut hint = Hint::default();
        let mut out = Vec::with_capacity(keys.len());
        for (i, k) in keys.iter().enumerate() {
            let (lo, hi) = locator.find(*k, &mut hint);
            out.push((lo < hi).then(|| slab.v()[lo]));
            if i % BATCH == 0 {
                self.budget.check()?;
            }
        }
        Ok(out)
    }

    /// Pays for a value that a function gave, while the function's arguments are alive. The bytes of one
    /// that it made: the dictionary keeps it as long as the run lasts. And the time to look through one with
    /// parts, of which a single one may take as long as many rows.
    fn pay_value(&self, v: &Value) -> Result<(), QueryError> {
        let bytes = function::heap_bytes(v);
        if bytes > 0 && function::is_made(v) {
            self.budget.meter().take(bytes as u64);
        }
        if bytes >= 1 << 16 || function::has_parts(v) { self.budget.spend(0, 0) } else { Ok(()) }
    }

    fn call(
        &self,
        f: &Arc<Function>,
        name: &str,
        args: &[Arg],
        rel: &Rel,
        at: Span,
    ) -> Result<Computed, QueryError> {
        let cols: Vec<ArgCol<'_>> = args.iter().map(|a| self.arg(a, rel)).collect();
        let fail = |error: FnError| QueryError::Function { name: name.to_owned(), error, at };
        // What is known of the standard functions does not hold for one registered in their place.
        let standard = function::Library::standard().function(name).is_some_and(|s| Arc::ptr_eq(s, f));
        let encoded = |args: &[Cell]| {
            let values: Vec<Value> = args.iter().map(|c| self.dict.decode(*c)).collect();
            let v = f.call(&values).map_err(fail)?;
            self.pay_value(&v)?;
            Ok(self.dict.encode(&v))
        };
        let each = |cell_of: &dyn Fn(usize) -> Result<Cell, QueryError>| {
            let mut out = Vec::with_capacity(rel.len);
            for i in 0..rel.len {
                out.push(cell_of(i)?);
                if i % BATCH == 0 {
                    self.budget.spend(0, out.len() * 8)?;
                }
            }
            Ok(Computed::Cells(out))
        };
        match &cols[..] {
            [a, b] if standard => {
                if let Some(how) = quick::comparison(name) {
                    return each(&|i| Ok(cell::of_bool(how.holds(a.get(i), b.get(i), &self.dict))));
                }
                if let Some(op) = quick::of_two_longs(name) {
                    let quick = |x, y| op(cell::as_long(x)?, cell::as_long(y)?).and_then(cell::of_long);
                    return each(&|i| {
                        let (x, y) = (a.get(i), b.get(i));
                        quick(x, y).map_or_else(|| encoded(&[x, y]), Ok)
                    });
                }
            }
            [a] if standard => {
                if let Some(op) = quick::of_one(name) {
                    return each(&|i| op(a.get(i)).map_or_else(|| encoded(&[a.get(i)]), Ok));
                }
            }
            _ => {}
        }
        if cols.iter().all(|c| matches!(c, ArgCol::Const(_))) {
            let values: Vec<Value> = cols.iter().map(|c| self.dict.decode(c.get(0))).collect();
            return f.call(&values).map(Computed::One).map_err(fail);
        }
        if let [ArgCol::Col(_)] = &cols[..]
            && standard
        {
            // A pure function of one argument: once for each distinct value.
            let mut known: HashMap<Cell, Value> = HashMap::new();
            let mut out = Vec::with_capacity(rel.len);
            for i in 0..rel.len {
                let c = cols[0].get(i);
                let v = match known.get(&c) {
                    Some(v) => v.clone(),
                    None => {
                        let arg = [self.dict.decode(c)];
                        let v = f.call(&arg).map_err(fail)?;
                        self.pay_value(&v)?;
                        known.insert(c, v.clone());
                        v
                    }
                };
                out.push(v);
                if i % BATCH == 0 {
                    self.budget.spend(0, out.len() * 32)?;
                }
            }
            return Ok(Computed::Values(out));
        }
        let mut row: Vec<Value> = Vec::with_capacity(cols.len());
        let mut out = Vec::with_capacity(rel.len);
        for i in 0..rel.len {
            row.clear();
            row.extend(cols.iter().map(|c| self.dict.decode(c.get(i))));
            let v = f.call(&row).map_err(fail)?;
            self.pay_value(&v)?;
            out.push(v);
            if i % BATCH == 0 {
                self.budget.spend(0, out.len() * 32)?;
            }
        }
        Ok(Computed::Values(out))
    }
}
