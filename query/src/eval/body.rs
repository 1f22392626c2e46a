//! A conjunction: from the relations bound outside to the relation of its answers.
//!
//! The order of clauses is chosen while it runs: after each step the sizes of
//! what has been found are known exactly, and the next step is the one that
//! leaves least. Groups of variables that have not met yet stay apart as
//! separate relations ([`State::parts`]), so nothing is multiplied out before
//! some clause asks for it.
//!
//! 1. No variable is in two parts.
//! 2. A part never keeps a column that no remaining clause and no caller needs.
//! 3. Predicates run as soon as their variables are in one part; functions and
//!    negations as soon as they are ready and nothing cheaper shrinks their input.

use super::Run;
use super::guard::Guard;
use super::join::{natural, product, semi, shared, theta};
use super::leapfrog::Core;
use super::pattern::By;
use super::rel::{Rel, Var};
use crate::error::QueryError;
use crate::plan::estimate::{self, Estimate};
use crate::resolve::VarSet;
use crate::resolve::check::{provides, ready};
use crate::resolve::ir::{Attr, Body, Clause, Kind, Pattern, Term};

/// What has been found of a conjunction so far.
pub(crate) struct State<'b> {
    pub(crate) body: &'b Body,
    pub(crate) parts: Vec<Rel>,
    pub(crate) left: Vec<usize>,
    pub(crate) bound: VarSet,
    pub(super) needed: &'b [Var],
    /// Some part is empty: the conjunction is.
    pub(super) empty: bool,
}

impl<'b> State<'b> {
    /// Everything still to do, with these relations bound outside.
    pub(crate) fn new(body: &'b Body, outside: Vec<Rel>, needed: &'b [Var]) -> State<'b> {
        let mut bound = VarSet::default();
        for r in &outside {
            bound.extend(r.vars.iter().copied());
        }
        let empty = outside.iter().any(Rel::is_empty);
        State { body, parts: outside, left: (0..body.clauses.len()).collect(), bound, needed, empty }
    }

    pub(crate) fn part_of(&self, v: Var) -> Option<usize> {
        self.parts.iter().position(|p| p.has(v))
    }
}

impl Run<'_> {
    /// The rows of `body` over `needed` (distinct), given relations bound outside.
    /// `outside` must not share variables among themselves.
    pub(crate) fn body(&self, body: &Body, outside: Vec<Rel>, needed: &[Var]) -> Result<Rel, QueryError> {
        self.deeper(|| self.body_inner(body, outside, needed, true))
    }

    /// As [`Run::body`] with nothing bound outside, but rows may repeat.
    pub(crate) fn body_bag(&self, body: &Body, needed: &[Var]) -> Result<Rel, QueryError> {
        self.deeper(|| self.body_inner(body, vec![], needed, false))
    }

    fn body_inner(
        &self,
        body: &Body,
        outside: Vec<Rel>,
        needed: &[Var],
        distinct: bool,
    ) -> Result<Rel, QueryError> {
        let mut s = State::new(body, outside, needed);
        while !s.left.is_empty() && !s.empty {
            self.budget.check()?;
            let (i, estimated) = self.choose(&s)?;
            match self.core(&s, i)? {
                Some(core) => self.core_step(&mut s, &core)?,
                None => {
                    s.left.retain(|x| *x != i);
                    self.step(&mut s, i, estimated)?;
                }
            }
            self.prune(&mut s)?;
        }
        if s.empty {
            return Ok(Rel::empty(needed, self.budget));
        }
        self.finish(s, distinct)
    }

    /// The product of the parts, projected; distinct if asked, or if there are several.
    pub(super) fn finish(&self, s: State<'_>, distinct: bool) -> Result<Rel, QueryError> {
        let mut out = Rel::unit();
        let mut parts: Vec<Rel> = s.parts.iter().map(|p| p.project(s.needed)).collect();
        parts.retain(|p| !p.vars.is_empty());
        if distinct || parts.len() > 1 {
            parts = parts.into_iter().map(|p| p.distinct(self.budget)).collect::<Result<_, _>>()?;
        }
        parts.sort_by_key(|p| p.len);
        for p in parts {
            out = product(&out, &p, self.budget)?;
        }
        Ok(out.project(s.needed))
    }

    /// Drops columns that nobody needs any more, and repeated rows when that pays.
    pub(super) fn prune(&self, s: &mut State<'_>) -> Result<(), QueryError> {
        s.empty = s.parts.iter().any(Rel::is_empty);
        if s.empty {
            return Ok(());
        }
        let mut live: VarSet = s.needed.iter().copied().collect();
        for &i in &s.left {
            live.extend(s.body.clauses[i].vars.iter().copied());
        }
        for p in &mut s.parts {
            if p.vars.iter().all(|v| live.has(*v)) {
                continue;
            }
            let keep: Vec<Var> = p.vars.iter().copied().filter(|v| live.has(*v)).collect();
            let was = p.len;
            *p = p.project(&keep);
            if p.key.is_none() && was > 64 && !s.left.is_empty() && repeats(p) {
                *p = std::mem::replace(p, Rel::unit()).distinct(self.budget)?;
            }
        }
        s.parts.retain(|p| !p.vars.is_empty());
        Ok(())
    }

    /// The clause to run next, and the rows it is expected to leave.
    pub(crate) fn choose(&self, s: &State<'_>) -> Result<(usize, f64), QueryError> {
        let mut best: Option<(Estimate, usize)> = None;
        for &i in &s.left {
            let c = &s.body.clauses[i];
            if !ready(c, &s.bound, &self.program) {
                continue;
            }
            if !self.optimise {
                return Ok((i, 0.0));
            }
            let e = estimate::clause(self, s, c)?;
            if e.is_free() {
                return Ok((i, 0.0));
            }
            if best.as_ref().is_none_or(|(b, _)| e.cost() < b.cost()) {
                best = Some((e, i));
            }
        }
        match best {
            Some((e, i)) => Ok((i, e.rows)),
            None => Err(self.stuck(s)),
        }
    }

    /// Resolution checks that this cannot happen; an error all the same, never a wrong answer.
    fn stuck(&self, s: &State<'_>) -> QueryError {
        let mut list = Vec::new();
        for &i in &s.left {
            let c = &s.body.clauses[i];
            list.push(
                annals_model::Diagnostic::new(
                    "query/unbound",
                    format!("nothing binds the variables of {}", c.text),
                )
                .at(c.span, "cannot be evaluated"),
            );
        }
        QueryError::Invalid(list)
    }

    /// Runs one clause, which is no longer among those left.
    pub(super) fn step(&self, s: &mut State<'_>, i: usize, estimated: f64) -> Result<(), QueryError> {
        let body = s.body;
        let c = &body.clauses[i];
        self.trace.borrow_mut().begin(c, estimated);
        let start = std::time::Instant::now();
        let how = match &c.kind {
            Kind::Pattern(p) => self.pattern_step(s, p)?,
            Kind::Tuples { src, terms } => {
                let r = self.tuples(*src, terms)?;
                self.absorb(s, r)?;
                "read the collection"
            }
            Kind::Predicate(e) => {
                let vars = e.vars();
                let parts = self.detach(s, &vars);
                let out = match <[Rel; 2]>::try_from(parts) {
                    Ok([a, b]) => theta(&a, &b, self.budget, |block| self.filter(e, block, c.span))?,
                    Err(parts) => self.filter(e, &self.multiply(parts)?, c.span)?,
                };
                s.parts.push(out);
                "filter"
            }
            Kind::Function(e, b) => {
                let parts = self.detach(s, &e.vars());
                let input = self.multiply(parts)?;
                let out = self.function(e, b, &input, c.span)?;
                self.absorb(s, out)?;
                "compute"
            }
            Kind::Meaning { from, to, as_what } => {
                let parts = self.detach(s, &[*from]);
                let out = self.meaning(&self.multiply(parts)?, *from, *to, as_what)?;
                self.absorb(s, out)?;
                "resolve"
            }
            Kind::Not { join, body } => {
                let parts = self.detach(s, join);
                let seeds = self.seeds(&parts, join)?;
                let found = self.body(body, seeds, join)?;
                let out = if found.is_empty() {
                    s.parts.extend(parts);
                    self.traced(s, "anti-join, nothing found", start);
                    return Ok(());
                } else {
                    semi(&self.multiply(parts)?, &found, false, self.budget)?
                };
                s.parts.push(out);
                "anti-join"
            }
            Kind::Or { vars, branches, .. } => {
                let refs: Vec<&Rel> =
                    s.parts.iter().filter(|p| p.vars.iter().any(|v| vars.contains(v))).collect();
                let seeds = self.seeds(&refs.into_iter().cloned().collect::<Vec<_>>(), vars)?;
                let mut found = Vec::new();
                for b in branches {
                    found.push(self.body(b, seeds.clone(), vars)?.project(vars));
                }
                let out = Rel::union(found, vars, self.budget)?;
                let out = if branches.len() > 1 { out.distinct(self.budget)? } else { out };
                self.absorb(s, out)?;
                "union"
            }
            Kind::Fold(f) => {
                let out = self.fold(f, &s.parts, c.span)?;
                self.absorb(s, out)?;
                "group"
            }
            Kind::Call { pred, args } => {
                let out = self.call_rule(s, *pred, args)?;
                self.absorb(s, out)?;
                "fixpoint"
            }
            Kind::Facts { facts, at, args } => {
                let out = self.facts_step(s, *at, *facts, args)?;
                self.absorb(s, out)?;
                "join derived rows"
            }
            Kind::Never(why) => {
                s.empty = true;
                s.parts.push(Rel::empty(&[], self.budget));
                why
            }
        };
        s.bound.extend(provides(c));
        self.traced(s, how, start);
        Ok(())
    }

    /// Runs the clauses of a cyclic core together.
    pub(super) fn core_step(&self, s: &mut State<'_>, core: &Core) -> Result<(), QueryError> {
        let start = std::time::Instant::now();
        let out = self.leapfrog(s, core)?;
        let rows = out.len;
        s.left.retain(|i| !core.clauses.contains(i));
        s.bound.extend(core.vars.iter().copied());
        s.parts.push(out);
        self.trace.borrow_mut().together(
            &core.clauses,
            s.body,
            core.rows,
            "leapfrog",
            rows,
            Some(start.elapsed()),
        );
        Ok(())
    }

    fn traced(&self, s: &State<'_>, how: &'static str, start: std::time::Instant) {
        let rows = s.parts.last().map_or(1, |p| p.len);
        self.trace.borrow_mut().end(how, rows, Some(start.elapsed()));
    }

    /// What a clause would be run by, for plans.
    pub(crate) fn how(&self, s: &State<'_>, c: &Clause) -> &'static str {
        match &c.kind {
            Kind::Pattern(p) => self.way_in(s, p).map_or("scan AEVT", |way| way.1),
            Kind::Tuples { .. } => "read the collection",
            Kind::Predicate(_) => "filter",
            Kind::Function(..) => "compute",
            Kind::Meaning { .. } => "resolve",
            Kind::Not { .. } => "anti-join",
            Kind::Or { .. } => "union",
            Kind::Fold(_) => "group",
            Kind::Call { .. } => "fixpoint",
            Kind::Facts { .. } => "join derived rows",
            Kind::Never(why) => why,
        }
    }

    /// Takes the parts that hold any of `vars` out of the state.
    fn detach(&self, s: &mut State<'_>, vars: &[Var]) -> Vec<Rel> {
        let (out, rest) =
            std::mem::take(&mut s.parts).into_iter().partition(|p| p.vars.iter().any(|v| vars.contains(v)));
        s.parts = rest;
        out
    }

    pub(crate) fn multiply(&self, parts: Vec<Rel>) -> Result<Rel, QueryError> {
        let mut out = Rel::unit();
        for p in parts {
            out = product(&out, &p, self.budget)?;
        }
        Ok(out)
    }

    /// What the parts say of `vars`, each its own relation, without repetitions.
    pub(crate) fn seeds(&self, parts: &[Rel], vars: &[Var]) -> Result<Vec<Rel>, QueryError> {
        parts
            .iter()
            .map(|p| p.project(vars))
            .filter(|p| !p.vars.is_empty())
            .map(|p| p.distinct(self.budget))
            .collect()
    }

    /// Joins a new relation with every part it shares variables with.
    fn absorb(&self, s: &mut State<'_>, rel: Rel) -> Result<(), QueryError> {
        let mut rel = rel;
        if rel.vars.is_empty() {
            if rel.is_empty() {
                s.parts.push(rel);
                s.empty = true;
            }
            return Ok(());
        }
        loop {
            let next = s
                .parts
                .iter()
                .enumerate()
                .filter(|(_, p)| !shared(p, &rel).is_empty())
                .min_by_key(|(_, p)| p.len)
                .map(|(i, _)| i);
            let Some(i) = next else { break };
            let part = s.parts.remove(i);
            rel = natural(&part, &rel, self.budget)?;
        }
        s.parts.push(rel);
        Ok(())
    }

    fn pattern_step(&self, s: &mut State<'_>, p: &Pattern) -> Result<&'static str, QueryError> {
        let Attr::Known(a) = p.a else {
            let attr_part = match p.a {
                Attr::Var(v) => s.part_of(v).map(|i| s.parts[i].clone()),
                _ => None,
            };
            let e_part = p.e.var().and_then(|v| s.part_of(v)).map(|i| s.parts[i].clone());
            let r = self.any_attribute(p, e_part.as_ref(), attr_part.as_ref())?;
            self.absorb(s, r)?;
            return Ok("scan attributes");
        };
        let guards = self.guards(s, p);
        match self.way_in(s, p)? {
            (Some((i, by)), how) => {
                let part = s.parts.swap_remove(i);
                let out = self.extend(&part, p, a, by, &guards)?;
                self.absorb(s, out)?;
                Ok(how)
            }
            (None, how) => {
                let r = self.scan(p, a, &guards)?;
                self.absorb(s, r)?;
                Ok(how)
            }
        }
    }

    /// Comparisons still to run that concern only the value this pattern finds.
    pub(crate) fn guards(&self, s: &State<'_>, p: &Pattern) -> Vec<Guard> {
        let Term::Var(v) = p.v else { return Vec::new() };
        if !self.optimise || s.bound.has(v) {
            return Vec::new();
        }
        let predicates = s.left.iter().filter_map(|&i| match &s.body.clauses[i].kind {
            Kind::Predicate(e) => self.guard(e),
            _ => None,
        });
        predicates.filter(|(on, _)| *on == v).map(|(_, g)| g).collect()
    }

    /// How a pattern is read: through which part and place, or by itself; and a name for it.
    #[expect(clippy::type_complexity, reason = "a pair of answers")]
    fn way_in(&self, s: &State<'_>, p: &Pattern) -> Result<(Option<(usize, By)>, &'static str), QueryError> {
        let Attr::Known(a) = p.a else { return Ok((None, "scan attributes")) };
        let (e_part, v_part) = (p.e.var().and_then(|v| s.part_of(v)), p.v.var().and_then(|v| s.part_of(v)));
        // A constant on the other side is often the better way in.
        let by = match (e_part, v_part) {
            (Some(i), Some(j)) if i == j => Some((i, By::Entity)),
            (Some(i), Some(j)) => {
                let entity = if self.optimise {
                    let (e, v) = estimate::ends(self, s, p, a, i, j)?;
                    e.cost() <= v.cost()
                } else {
                    s.parts[i].len <= s.parts[j].len
                };
                Some(if entity { (i, By::Entity) } else { (j, By::Value) })
            }
            (Some(i), None) => Some((i, By::Entity)),
            (None, Some(j)) => Some((j, By::Value)),
            (None, None) => None,
        };
        let scan_size = estimate::scan(self, p, a)?;
        if let Some((i, by)) = by
            && !(self.optimise && scan_size.saturating_mul(4) < s.parts[i].len as u64)
        {
            return Ok((Some((i, by)), if by == By::Entity { "probe EAVT" } else { "probe AVET" }));
        }
        let how = match (&p.e, &p.v) {
            (Term::Ent(_) | Term::Const(_), _) => "lookup EAVT",
            (_, Term::Ent(_) | Term::Const(_)) => "lookup AVET",
            _ => "scan AEVT",
        };
        Ok((None, how))
    }
}

/// Do enough rows of a sample repeat to make removing them worth while?
fn repeats(r: &Rel) -> bool {
    const SAMPLE: usize = 1024;
    if r.len <= 4 * SAMPLE {
        return true;
    }
    let mut set = hashbrown::HashSet::with_capacity_and_hasher(2 * SAMPLE, super::rel::Hasher::default());
    let cols: Vec<&[annals_model::Cell]> = r.cols.iter().map(|c| &**c).collect();
    let hasher = super::rel::Hasher::default();
    for i in 0..SAMPLE {
        set.insert(super::rel::hash_row(&hasher, &cols, i));
        set.insert(super::rel::hash_row(&hasher, &cols, r.len - 1 - i));
    }
    set.len() * 8 < 2 * SAMPLE * 7
}
