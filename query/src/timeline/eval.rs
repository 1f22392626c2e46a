//! A body over time: relations whose rows carry the times at which they hold.
//!
//! A fact holds at its interval; a join holds where both sides do, a negation
//! where the inside does not, an alternative where any branch does. What does
//! not look at the database (comparisons, arithmetic, binding) is the same at
//! every time and is left to the ordinary operators.
//!
//! 1. Sources are history views: their columns hold every assertion and
//!    retraction, from which the intervals are made.
//! 2. Rules run semi-naively in rounds until no row and no time is new; a call
//!    with bound arguments asks only for those (demand).
//! 3. What cannot be said exactly is refused ([`unsupported`]), never guessed.

use super::rel::{Row, TimeRel};
use super::spans::Spans;
use crate::budget::BATCH;
use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::rel::{Hasher, Rel, Var};
use crate::resolve::VarSet;
use crate::resolve::check::ready;
use crate::resolve::ir::{
    Arg, Attr, Bind, Body, Clause, Ent, Expr, Kind, Meaning, Pattern, Pred, Slot, Term,
};
use annals_model::{AttrId, Cell, Diagnostic, EntityId, Order, Span, T, Value, cell};
use hashbrown::HashMap;

/// A call of a rule: which, and which of its arguments are bound.
type Goal = (Pred, Vec<bool>);

/// What is known of a goal: the argument tuples asked for, and the rows found.
struct Table {
    asked: TimeRel,
    found: TimeRel,
}

/// One evaluation over time.
pub(super) struct Timeline<'r, 'q> {
    run: &'r Run<'q>,
    /// All times looked at.
    all: Spans,
    tables: HashMap<Goal, Table, Hasher>,
    grew: bool,
    /// Fixpoints that are running: 0 or 1.
    depth: u32,
    /// For what a running fixpoint negates: its rules belong to lower strata and
    /// are computed to their end before they are used.
    lower: Option<Box<Timeline<'r, 'q>>>,
    /// When each tuple of a rule was first derived, counted in rule applications.
    /// A derivation uses only tuples of smaller rank.
    ranks: HashMap<(Pred, Row), u64, Hasher>,
    n_applied: u64,
    /// While a proof is looked for: calls are answered from tuples of smaller rank.
    below: Option<u64>,
}

/// A part of the language whose answer over time is not computed.
fn unsupported(what: &str, at: Span) -> QueryError {
    let d = Diagnostic::new("query/unsupported", format!("{what} has no timeline"))
        .help("ask for single times with as-of, or leave it out");
    QueryError::Invalid(vec![if at == Span::default() {
        d
    } else {
        d.at(at, "cannot be followed through time")
    }])
}

impl<'r, 'q> Timeline<'r, 'q> {
    pub fn new(run: &'r Run<'q>, all: Spans) -> Self {
        Timeline {
            run,
            all,
            tables: HashMap::with_hasher(Hasher::default()),
            grew: false,
            depth: 0,
            lower: None,
            ranks: HashMap::with_hasher(Hasher::default()),
            n_applied: 0,
            below: None,
        }
    }

    /// All times looked at.
    pub(super) fn all(&self) -> &Spans {
        &self.all
    }

    /// The tuple of a rule that fits `known`, of smallest rank below `rank`, with its rank.
    pub(super) fn earliest(&self, pred: Pred, known: &[Option<Cell>], rank: u64) -> Option<(Row, u64)> {
        let fits = |row: &Row| known.iter().zip(row.iter()).all(|(k, c)| k.is_none_or(|k| k == *c));
        self.ranks
            .iter()
            .filter(|((p, row), r)| *p == pred && **r < rank && fits(row))
            .map(|((_, row), r)| (row.clone(), *r))
            .min_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)))
    }

    /// The rows of a body, with rule calls answered from what has been derived before `rank`.
    pub(super) fn body_below(
        &mut self,
        rank: u64,
        body: &Body,
        start: TimeRel,
    ) -> Result<TimeRel, QueryError> {
        let before = self.below.replace(rank);
        let out = self.body(body, start);
        self.below = before;
        out
    }

    /// The rows of a body, extending the rows of `start`.
    pub fn body(&mut self, body: &Body, start: TimeRel) -> Result<TimeRel, QueryError> {
        let mut bound: VarSet = start.vars.iter().copied().collect();
        let mut left: Vec<&Clause> = body.clauses.iter().collect();
        let mut rel = start;
        while !left.is_empty() {
            self.run.budget.spend(0, rel.bytes())?;
            let Some(at) = self.next(&left, &bound)? else {
                // Resolution shows that an order exists; no guess is made if that fails.
                return Err(unsupported("a clause whose variables are not bound", left[0].span));
            };
            let c = left.remove(at);
            rel = self.clause(c, rel)?;
            bound.extend(rel.vars.iter().copied());
        }
        Ok(rel)
    }

    /// The cheapest clause that is ready: tests, then patterns with most bound
    /// and the fewest datoms, then rules, then negations.
    pub(super) fn next(&self, left: &[&Clause], bound: &VarSet) -> Result<Option<usize>, QueryError> {
        let mut best: Option<((u8, u64), usize)> = None;
        for (i, c) in left.iter().enumerate() {
            if !ready(c, bound, &self.run.program) {
                continue;
            }
            let cost = match &c.kind {
                Kind::Predicate(_) | Kind::Meaning { .. } | Kind::Never(_) => (0, 0),
                Kind::Function(..) => (1, 0),
                Kind::Tuples { .. } => (2, 0),
                Kind::Pattern(p) => {
                    let known = |t: &Term| match t {
                        Term::Var(v) => bound.has(*v),
                        Term::Blank => false,
                        Term::Const(_) | Term::Ent(_) => true,
                    };
                    let rows = match p.a {
                        Attr::Known(a) => self.run.db(p.src).stats(a).rows,
                        Attr::Var(_) | Attr::Any => u64::MAX / 2,
                    };
                    match (known(&p.e), known(&p.v)) {
                        (true, true) => (2, rows),
                        (true, false) | (false, true) => (3, rows),
                        (false, false) => (if p.e.var().is_some_and(|v| bound.has(v)) { 4 } else { 6 }, rows),
                    }
                }
                Kind::Or { .. } => (5, 0),
                Kind::Call { .. } | Kind::Facts { .. } => (7, 0),
                Kind::Not { .. } => (8, 0),
            };
            if best.is_none_or(|(b, _)| cost < b) {
                best = Some((cost, i));
            }
        }
        Ok(best.map(|(_, i)| i))
    }

    pub(super) fn clause(&mut self, c: &Clause, rel: TimeRel) -> Result<TimeRel, QueryError> {
        match &c.kind {
            Kind::Pattern(p) => self.pattern(p, rel),
            Kind::Tuples { .. } => Err(unsupported("a collection as a source", c.span)),
            Kind::Predicate(Expr::Missing { src, e, a }) => {
                let (rel, held) = self.held(rel, *src, e, *a)?;
                let mut out = TimeRel::new(rel.vars.clone());
                for (row, times) in rel.rows {
                    let gone =
                        held.get(&row).into_iter().flatten().fold(Spans::default(), |s, (_, t)| s.or(t));
                    out.add(row, times.minus(&gone));
                }
                Ok(out)
            }
            Kind::Predicate(e) => {
                self.timeless(e, c.span)?;
                self.ordinary(rel, |run, r| run.filter(e, r, c.span))
            }
            Kind::Function(Expr::GetElse { src, e, a, default }, bind) => {
                let (rel, held) = self.held(rel, *src, e, *a)?;
                let Bind::Var(to) = bind else { return Err(unsupported("get-else into a pattern", c.span)) };
                let default_at = match default {
                    Arg::Var(v) => rel.position(*v),
                    _ => None,
                };
                let constant = match default {
                    Arg::Const(v) => self.run.dict.encode(v),
                    _ => cell::NIL,
                };
                let mut out = Extended::new(&rel, *to);
                for (row, times) in &rel.rows {
                    let mut rest = times.clone();
                    for (v, t) in held.get(row).into_iter().flatten() {
                        out.add(row, *v, times.and(t));
                        rest = rest.minus(t);
                    }
                    out.add(row, default_at.map_or(constant, |i| row[i]), rest);
                }
                Ok(out.rel)
            }
            Kind::Function(e, bind) => {
                self.timeless(e, c.span)?;
                self.ordinary(rel, |run, r| run.function(e, bind, r, c.span))
            }
            Kind::Meaning { from, to, as_what } => self.meaning(rel, *from, *to, as_what),
            Kind::Not { join, body } => {
                let seed = rel.project(join);
                let inside = if self.depth == 0 && self.below.is_none() {
                    self.body(body, seed)?
                } else {
                    let (run, all) = (self.run, self.all.clone());
                    self.lower.get_or_insert_with(|| Box::new(Timeline::new(run, all))).body(body, seed)?
                };
                Ok(rel.minus(&inside.project(join)))
            }
            Kind::Or { vars, branches, .. } => {
                let bound: Vec<Var> = vars.iter().copied().filter(|v| rel.position(*v).is_some()).collect();
                let mut all = TimeRel::new(vars.clone());
                for b in branches {
                    let seed = rel.project(&bound);
                    for (row, times) in self.body(b, seed)?.project(vars).rows {
                        all.add(row, times);
                    }
                }
                rel.join(&all, self.run.budget)
            }
            Kind::Call { pred, args } => self.call(*pred, args, rel),
            Kind::Facts { .. } => {
                unreachable!("only the fixpoint operators put these into bodies of their own")
            }
            Kind::Never(_) => {
                Ok(TimeRel::new(rel.vars.iter().chain(&c.vars).copied().collect::<Vec<_>>()).deduped())
            }
        }
    }

    /// Refuses expressions whose value changes with the time asked.
    fn timeless(&self, e: &Expr, at: Span) -> Result<(), QueryError> {
        match e {
            Expr::Call { .. } | Expr::Ground(_) => Ok(()),
            Expr::GetElse { .. } | Expr::Missing { .. } | Expr::GetSome { .. } => {
                Err(unsupported(&format!("{} in this place", e.name()), at))
            }
            Expr::Query { .. } | Expr::TxIds { .. } | Expr::TxData { .. } => Err(unsupported(e.name(), at)),
        }
    }

    /// Runs an operator that does not look at times: rows go through it with a
    /// number, by which the results find their times again.
    fn ordinary(
        &self,
        rel: TimeRel,
        f: impl FnOnce(&Run<'_>, &Rel) -> Result<Rel, QueryError>,
    ) -> Result<TimeRel, QueryError> {
        const NUMBER: Var = Var::MAX;
        let rows: Vec<(Row, Spans)> = rel.rows.into_iter().collect();
        let mut cols: Vec<Vec<Cell>> =
            (0..rel.vars.len()).map(|i| rows.iter().map(|(r, _)| r[i]).collect()).collect();
        cols.push((0..rows.len() as u64).collect());
        let vars: Vec<Var> = rel.vars.iter().copied().chain([NUMBER]).collect();
        let out = f(self.run, &Rel::new(vars, cols, self.run.budget))?;
        let vars: Vec<Var> = out.vars.iter().copied().filter(|v| *v != NUMBER).collect();
        let mut back = TimeRel::new(vars.clone());
        let numbers = out.col(NUMBER).expect("operators keep the columns they are given");
        for i in 0..out.len {
            let row = vars.iter().map(|v| out.col(*v).expect("its own variable")[i]).collect();
            back.add(row, rows[numbers[i] as usize].1.clone());
        }
        Ok(back)
    }

    /// The intervals of an attribute as `(e, v, start, end)`, all or for these keys.
    pub(super) fn facts(
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
    fn entities(&self, src: Slot, e: &Ent) -> Result<Vec<(u64, Spans)>, QueryError> {
        match e {
            Ent::Id(raw) => Ok(vec![(*raw, self.all.clone())]),
            Ent::Lookup(a, v) => {
                let key = self.run.dict.encode(v);
                let facts = self.facts(src, *a, Some((Order::Ave, vec![key])))?;
                Ok(facts.into_iter().map(|f| (f.e, Spans::one(f.start, f.end))).collect())
            }
        }
    }

    fn pattern(&self, p: &Pattern, rel: TimeRel) -> Result<TimeRel, QueryError> {
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
                Term::Ent(e) => Some(self.entities(p.src, e)?),
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
    fn held(
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

    fn meaning(&self, rel: TimeRel, from: Var, to: Var, as_what: &Meaning) -> Result<TimeRel, QueryError> {
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
    fn lookup(&self, src: Slot, pair: &[Value]) -> Result<Vec<(u64, Spans)>, QueryError> {
        let [Value::Keyword(name), v] = pair else { return Ok(vec![]) };
        let schema = self.run.db(src).schema().clone();
        let Some(a) = schema.attribute_named(name).filter(|a| a.unique.is_some()) else { return Ok(vec![]) };
        let v = match a.is_ref() {
            true => self.run.entity_of_value(src, v)?.map(Value::Ref),
            false => crate::resolve::fit(v, a.value_type),
        };
        v.map_or(Ok(vec![]), |v| self.entities(src, &Ent::Lookup(a.id, v)))
    }

    // -- rules ---------------------------------------------------------------------------------

    fn call(&mut self, pred: Pred, args: &[Term], mut rel: TimeRel) -> Result<TimeRel, QueryError> {
        let slot = self.run.program.preds[pred].rules.iter().find_map(|r| source(&r.body)).unwrap_or(0);
        let vars = rel.vars.clone();
        // A lookup ref becomes a variable of its own: what it means depends on the time.
        let mut args = args.to_vec();
        for (i, t) in args.iter_mut().enumerate() {
            if let Term::Ent(e @ Ent::Lookup(..)) = t {
                let hidden = Var::MAX - 1 - i as Var;
                let mut meant = TimeRel::new(vec![hidden]);
                for (e, times) in self.entities(slot, e)? {
                    meant.add([cell::of_ref(EntityId::from_raw(e))].into(), times);
                }
                rel = rel.join(&meant, self.run.budget)?;
                *t = Term::Var(hidden);
            }
        }
        let out = self.call_plain(pred, &args, rel)?;
        let hidden = |v: &Var| *v >= Var::MAX - 1 - args.len() as Var;
        let keep: Vec<Var> = out.vars.iter().copied().filter(|v| vars.contains(v) || !hidden(v)).collect();
        Ok(out.project(&keep))
    }

    fn call_plain(&mut self, pred: Pred, args: &[Term], rel: TimeRel) -> Result<TimeRel, QueryError> {
        let value = |t: &Term| match t {
            Term::Const(c) => Some(self.run.dict.encode(c)),
            Term::Ent(Ent::Id(raw)) => Some(cell::of_ref(EntityId::from_raw(*raw))),
            Term::Ent(Ent::Lookup(..)) | Term::Var(_) | Term::Blank => None,
        };
        let fixed: Vec<Option<Cell>> = args.iter().map(value).collect();
        if let Some(rank) = self.below {
            let derived =
                self.ranks.iter().filter(|((p, _), r)| *p == pred && **r < rank).map(|((_, row), _)| row);
            let found = derived.map(|row| (row.clone(), self.all.clone())).collect();
            let found = TimeRel { vars: (0..args.len() as Var).collect(), rows: found };
            return rel.join(&as_called(args, &fixed, &found), self.run.budget);
        }
        let at: Vec<Option<usize>> = args.iter().map(|t| t.var().and_then(|v| rel.position(v))).collect();
        let bound: Vec<bool> = fixed.iter().zip(&at).map(|(f, a)| f.is_some() || a.is_some()).collect();
        let goal: Goal = (pred, bound.clone());
        let n = args.len() as Var;
        let asked_vars: Vec<Var> = (0..n).filter(|i| bound[*i as usize]).collect();
        let table = self.tables.entry(goal.clone()).or_insert_with(|| Table {
            asked: TimeRel::new(asked_vars.clone()),
            found: TimeRel::new((0..n).collect()),
        });
        for row in rel.rows.keys() {
            let key: Row = asked_vars
                .iter()
                .map(|i| fixed[*i as usize].unwrap_or_else(|| row[at[*i as usize].expect("bound by either")]))
                .collect();
            // What is asked is asked for all times: times of the answer come from the facts.
            self.grew |= table.asked.add(key, self.all.clone());
        }
        if self.depth == 0 {
            self.fixpoint()?;
        }
        let found = as_called(args, &fixed, &self.tables[&goal].found);
        rel.join(&found, self.run.budget)
    }

    /// Runs every goal asked so far, and those they ask, until nothing is new.
    fn fixpoint(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        let program = self.run.program.clone();
        let done = loop {
            self.grew = false;
            let goals: Vec<Goal> = self.tables.keys().cloned().collect();
            let known = goals.len();
            for goal in goals {
                for rule in &program.preds[goal.0].rules {
                    let seed = {
                        let asked = &self.tables[&goal].asked;
                        let vars: Vec<Var> = asked.vars.iter().map(|i| rule.head[*i as usize]).collect();
                        TimeRel { vars, rows: asked.rows.clone() }
                    };
                    let rows = match self.body(&rule.body, seed) {
                        Ok(r) => r.project(&rule.head),
                        Err(e) => {
                            self.depth -= 1;
                            return Err(e);
                        }
                    };
                    let table = self.tables.get_mut(&goal).expect("goals are never removed");
                    self.n_applied += 1;
                    for (row, times) in rows.rows {
                        self.ranks.entry((goal.0, row.clone())).or_insert(self.n_applied);
                        self.grew |= table.found.add(row, times);
                    }
                    let bytes = table.found.bytes();
                    self.run.budget.spend(BATCH, bytes)?;
                }
            }
            if !self.grew && self.tables.len() == known {
                break Ok(());
            }
        };
        self.depth -= 1;
        done
    }
}

/// One interval of one fact.
pub(super) struct Fact {
    pub e: u64,
    pub v: Cell,
    pub start: T,
    pub end: T,
}

/// Tuples of a rule as rows over the variables of a call; those that do not fit it are left out.
fn as_called(args: &[Term], fixed: &[Option<Cell>], found: &TimeRel) -> TimeRel {
    let mut vars: Vec<Var> = Vec::new();
    for v in args.iter().filter_map(Term::var) {
        if !vars.contains(&v) {
            vars.push(v);
        }
    }
    let mut out = TimeRel::new(vars.clone());
    for (row, times) in &found.rows {
        if fixed.iter().zip(row.iter()).all(|(f, c)| f.is_none_or(|f| f == *c)) {
            let places: Vec<(Option<Var>, Cell)> =
                args.iter().zip(row.iter()).map(|(t, c)| (t.var(), *c)).collect();
            if let Some(row) = unify(&vars, &places) {
                out.add(row, times.clone());
            }
        }
    }
    out
}

/// The source that a body reads first.
fn source(body: &Body) -> Option<Slot> {
    body.clauses.iter().find_map(|c| match &c.kind {
        Kind::Pattern(p) => Some(p.src),
        Kind::Not { body, .. } => source(body),
        Kind::Or { branches, .. } => branches.iter().find_map(source),
        _ => None,
    })
}

/// The cells of places as a row over `vars`, unless one variable would get two cells.
fn unify(vars: &[Var], places: &[(Option<Var>, Cell)]) -> Option<Row> {
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
struct Extended {
    rel: TimeRel,
    at: Option<usize>,
}

impl Extended {
    fn new(rel: &TimeRel, to: Var) -> Extended {
        let at = rel.position(to);
        let extra = if at.is_none() { Some(to) } else { None };
        Extended { rel: TimeRel::new(rel.vars.iter().copied().chain(extra).collect()), at }
    }
    fn add(&mut self, row: &Row, c: Cell, times: Spans) {
        match self.at {
            Some(i) if row[i] != c => {}
            Some(_) => drop(self.rel.add(row.clone(), times)),
            None => drop(self.rel.add(row.iter().copied().chain([c]).collect(), times)),
        }
    }
}

impl TimeRel {
    /// Without repeated variables; only for relations without rows.
    fn deduped(mut self) -> TimeRel {
        let mut seen = VarSet::default();
        self.vars.retain(|v| seen.insert(*v));
        self
    }
}
