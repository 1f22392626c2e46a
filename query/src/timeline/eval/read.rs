//! Reading datoms as facts over time: patterns, and what a value means at each time.

use super::*;

impl Timeline<'_, '_> {
    /// The intervals of an attribute as `(e, v, start, end)`, all or for these keys.
    pub(in crate::timeline) fn facts(
        &self,
        src: Slot,
        a: AttrId,
        keys: Option<(Order, Vec<u64>)>,
    ) -> Result<Vec<Fact>, QueryError> {
        let mut datoms: Vec<(u64, Cell, u64, bool)> = match keys {
            None => {
                let c = self.run.column(src, a, Order::Eav)?;
                (0..c.len()).map(|i| (c.e[i], c.v[i], c.t[i], c.op(i))).collect()
            }
            Some((order, mut keys)) => {
                keys.sort_unstable();
                keys.dedup();
                let slab = self.run.slab(src, a, order, &keys, true)?;
                let (e, v, t, k) = (slab.e(), slab.v(), slab.t(), slab.keys());
                let wanted = |i: usize| keys.binary_search(&k[i]).is_ok();
                (0..slab.len()).filter(|i| wanted(*i)).map(|i| (e[i], v[i], t[i], slab.op(i))).collect()
            }
        };
        // A retraction at t ends the interval before an assertion at t begins another.
        datoms.sort_unstable_by_key(|(e, v, t, added)| (*e, *v, *t, *added));
        let end_of_time = self.all.iter().last().map_or(T(0), |(_, end)| end);
        let mut facts: Vec<Fact> = Vec::with_capacity(datoms.len());
        let mut open = false;
        for (e, v, t, added) in datoms {
            match (added, facts.last_mut()) {
                (false, Some(f)) if open && f.e == e && f.v == v => {
                    f.end = T(t);
                    open = false;
                }
                (true, _) => {
                    facts.push(Fact { e, v, start: T(t), end: end_of_time });
                    open = true;
                }
                (false, _) => {}
            }
        }
        self.run.budget.spend(facts.len(), facts.len() * 32)?;
        Ok(facts)
    }

    /// The entities that a literal means, each at its times.
    pub(in crate::timeline) fn entities(&self, e: &Ent) -> Result<Vec<(u64, Spans)>, QueryError> {
        match e {
            Ent::Id(raw) => Ok(vec![(*raw, self.all.clone())]),
            Ent::Lookup(src, a, v) => {
                let key = self.run.dict.encode(v);
                let facts = self.facts(*src, *a, Some((Order::Ave, vec![key])))?;
                Ok(facts.into_iter().map(|f| (f.e, Spans::one(f.start, f.end))).collect())
            }
        }
    }

    pub(super) fn pattern(&self, p: &Pattern, rel: TimeRel) -> Result<TimeRel, QueryError> {
        let attrs: Vec<AttrId> = match p.a {
            Attr::Known(a) => vec![a],
            Attr::Var(_) | Attr::Any => self.run.db(p.src).schema().attributes().map(|a| a.id).collect(),
        };
        if let Term::Const(c) = &p.op
            && c.is_falsy()
        {
            return Err(unsupported("a pattern of retractions", Span::default()));
        }
        let mut vars: Vec<Var> = Vec::new();
        let a_var = if let Attr::Var(v) = p.a { Some(v) } else { None };
        for v in [p.e.var(), a_var, p.v.var(), p.tx.var(), p.op.var()].into_iter().flatten() {
            if !vars.contains(&v) {
                vars.push(v);
            }
        }
        let by_term = |t: &Term| -> Result<Option<Vec<(u64, Spans)>>, QueryError> {
            Ok(match t {
                Term::Ent(e) => Some(self.entities(e)?),
                Term::Const(c) => Some(vec![(self.run.dict.encode(c), self.all.clone())]),
                Term::Var(_) | Term::Blank => None,
            })
        };
        // As keys, entities are raw numbers in the entity place and reference cells elsewhere.
        let as_cell = |list: Option<Vec<(u64, Spans)>>, t: &Term| -> Option<Vec<(Cell, Spans)>> {
            let is_entity = matches!(t, Term::Ent(_));
            list.map(|l| {
                l.into_iter()
                    .map(|(x, s)| (if is_entity { cell::of_ref(EntityId::from_raw(x)) } else { x }, s))
                    .collect()
            })
        };
        let e_is = by_term(&p.e)?;
        let v_is = as_cell(by_term(&p.v)?, &p.v);
        let tx_is = as_cell(by_term(&p.tx)?, &p.tx);
        let bound = |t: &Term| t.var().and_then(|v| rel.position(v));
        let keys = match (&e_is, &v_is) {
            (Some(list), _) => Some((Order::Eav, list.iter().map(|(e, _)| *e).collect())),
            (_, Some(list)) => Some((Order::Ave, list.iter().map(|(v, _)| *v).collect())),
            _ => match (bound(&p.e), bound(&p.v)) {
                (Some(i), _) => {
                    let raw = |r: &Row| cell::as_ref(r[i]).map(EntityId::raw);
                    Some((Order::Eav, rel.rows.keys().filter_map(raw).collect()))
                }
                (_, Some(i)) => Some((Order::Ave, rel.rows.keys().map(|r| r[i]).collect())),
                _ => None,
            },
        };
        let times_of = |list: &Option<Vec<(u64, Spans)>>, x: u64| -> Spans {
            match list {
                None => self.all.clone(),
                Some(l) => l.iter().filter(|(y, _)| *y == x).fold(Spans::default(), |s, (_, t)| s.or(t)),
            }
        };
        let mut found = TimeRel::new(vars.clone());
        for a in attrs {
            for f in self.facts(p.src, a, keys.clone())? {
                let tx = cell::of_ref(f.start.entity());
                let times = Spans::one(f.start, f.end)
                    .and(&self.all)
                    .and(&times_of(&e_is, f.e))
                    .and(&times_of(&v_is, f.v))
                    .and(&times_of(&tx_is, tx));
                let places = [
                    (p.e.var(), cell::of_ref(EntityId::from_raw(f.e))),
                    (a_var, cell::of_ref(a.entity())),
                    (p.v.var(), f.v),
                    (p.tx.var(), tx),
                    (p.op.var(), cell::TRUE),
                ];
                if let Some(row) = unify(&vars, &places) {
                    found.add(row, times);
                }
            }
        }
        rel.join(&found, self.run.budget)
    }

    /// For each row, the values of `a` that its entity has, each with its times.
    #[expect(clippy::type_complexity, reason = "local to three callers")]
    pub(super) fn held(
        &self,
        rel: TimeRel,
        src: Slot,
        e: &Arg,
        a: AttrId,
    ) -> Result<(TimeRel, HashMap<Row, Vec<(Cell, Spans)>, Hasher>), QueryError> {
        let entity_of = |row: &Row| -> Result<Option<u64>, QueryError> {
            let c = match e {
                Arg::Var(v) => row[rel.position(*v).expect("arguments are bound")],
                Arg::Const(c) => self.run.dict.encode(c),
                Arg::Src(_) => return Ok(None),
            };
            Ok(self.run.entity_of(src, c)?.map(EntityId::raw))
        };
        let mut of_row = Vec::with_capacity(rel.rows.len());
        for row in rel.rows.keys() {
            of_row.push((row.clone(), entity_of(row)?));
        }
        let keys: Vec<u64> = of_row.iter().filter_map(|(_, e)| *e).collect();
        let mut by_entity: HashMap<u64, Vec<(Cell, Spans)>, Hasher> = HashMap::with_hasher(Hasher::default());
        for f in self.facts(src, a, Some((Order::Eav, keys)))? {
            by_entity.entry(f.e).or_default().push((f.v, Spans::one(f.start, f.end)));
        }
        let mut held = HashMap::with_hasher(Hasher::default());
        for (row, e) in of_row {
            if let Some(values) = e.and_then(|e| by_entity.get(&e)) {
                held.insert(row, values.clone());
            }
        }
        Ok((rel, held))
    }

    pub(super) fn meaning(
        &self,
        rel: TimeRel,
        from: Var,
        to: Var,
        as_what: &Meaning,
    ) -> Result<TimeRel, QueryError> {
        let at = rel.position(from).expect("a clause runs when it is ready");
        let mut lookups = Extended::new(&rel, to);
        let mut plain = TimeRel::new(rel.vars.clone());
        for (row, times) in rel.rows {
            // A lookup ref may mean different entities at different times.
            match (as_what, self.run.dict.decode(row[at])) {
                (Meaning::Entity(src), Value::Vector(pair)) => {
                    let mut nothing = times.clone();
                    for (e, t) in self.lookup(*src, &pair)? {
                        nothing = nothing.minus(&t);
                        lookups.add(&row, cell::of_ref(EntityId::from_raw(e)), times.and(&t));
                    }
                    // What means nothing is nil, which no datom holds (as in `Run::meaning`).
                    lookups.add(&row, cell::NIL, nothing);
                }
                _ => drop(plain.add(row, times)),
            }
        }
        let plain = self.ordinary(plain, |run, r| run.meaning(r, from, to, as_what))?;
        let mut out = lookups.rel;
        for (row, times) in plain.project(&out.vars).rows {
            out.add(row, times);
        }
        Ok(out)
    }

    /// The entities that `[attribute value]` means, each at its times.
    pub(super) fn lookup(&self, src: Slot, pair: &[Value]) -> Result<Vec<(u64, Spans)>, QueryError> {
        let [Value::Keyword(name), v] = pair else { return Ok(vec![]) };
        let schema = self.run.db(src).schema().clone();
        let Some(a) = schema.attribute_named(name).filter(|a| a.unique.is_some()) else { return Ok(vec![]) };
        let v = match a.is_ref() {
            true => self.run.entity_of_value(src, v)?.map(Value::Ref),
            false => crate::resolve::fit(v, a.value_type),
        };
        v.map_or(Ok(vec![]), |v| self.entities(&Ent::Lookup(src, a.id, v)))
    }
}

/// One interval of one fact.
pub(in crate::timeline) struct Fact {
    pub e: u64,
    pub v: Cell,
    pub start: T,
    pub end: T,
}

/// The cells of places as a row over `vars`, unless one variable would get two cells.
pub(super) fn unify(vars: &[Var], places: &[(Option<Var>, Cell)]) -> Option<Row> {
    let mut row: Vec<Option<Cell>> = vec![None; vars.len()];
    for (var, c) in places {
        let Some(at) = var.and_then(|v| vars.iter().position(|x| *x == v)) else { continue };
        if row[at].is_some_and(|had| had != *c) {
            return None;
        }
        row[at] = Some(*c);
    }
    row.into_iter().collect()
}

/// A relation that gains one variable, or tests it where it is bound already.
pub(super) struct Extended {
    pub(super) rel: TimeRel,
    pub(super) at: Option<usize>,
}

impl Extended {
    pub(super) fn new(rel: &TimeRel, to: Var) -> Extended {
        let at = rel.position(to);
        let extra = if at.is_none() { Some(to) } else { None };
        Extended { rel: TimeRel::new(rel.vars.iter().copied().chain(extra).collect()), at }
    }
    pub(super) fn add(&mut self, row: &Row, c: Cell, times: Spans) {
        match self.at {
            Some(i) if row[i] != c => {}
            Some(_) => drop(self.rel.add(row.clone(), times)),
            None => drop(self.rel.add(row.iter().copied().chain([c]).collect(), times)),
        }
    }
}
