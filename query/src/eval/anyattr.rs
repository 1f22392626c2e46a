//! Patterns without a known attribute, and patterns over collections of tuples.
//!
//! The attributes worth reading are narrowed first: by the attribute variable if
//! something bound it, by the entities if they are few, by the type of a constant
//! value. What is left is one scan an attribute, or one join of it with the entities.

use super::Run;
use super::pattern::{By, Place, pattern_vars};
use super::rel::{Rel, Var};
use crate::error::QueryError;
use crate::mem::entity_cell;
use crate::resolve::ir::{Attr, Pattern, Slot, Term};
use crate::source::EntityRows;
use annals_model::{AttrId, Cell, Diagnostic, T, Value, cell};
use std::collections::BTreeSet;

/// Entities up to which each is read whole instead of every attribute.
const FEW: usize = 256;

impl Run<'_> {
    /// The rows of a pattern whose attribute is a variable or blank, at least those that
    /// can join `entities` (a relation with its entity variable) and `attrs` (with its
    /// attribute variable).
    pub(crate) fn any_attribute(
        &self,
        p: &Pattern,
        entities: Option<&Rel>,
        attrs: Option<&Rel>,
    ) -> Result<Rel, QueryError> {
        let mut vars = pattern_vars(p);
        if let Attr::Var(a) = p.a
            && !vars.contains(&a)
        {
            vars.push(a);
        }
        let Some(probe) = self.places(p)? else { return Ok(Rel::empty(&vars, self.budget)) };
        let db = self.db(p.src);
        let wanted: Option<BTreeSet<AttrId>> = match (attrs, &p.a) {
            (Some(rel), Attr::Var(a)) => {
                let col = rel.col(*a).expect("given because it has it");
                Some(col.iter().filter_map(|c| cell::as_ref(*c)).filter_map(AttrId::of_entity).collect())
            }
            _ => None,
        };
        let known: Option<Vec<Cell>> = match (probe.places[0], entities) {
            (Place::Is(c), _) => Some(vec![c]),
            (Place::Var(e), Some(rel)) => {
                let col = rel.col(e).expect("given because it has it");
                let refs = col.iter().copied().filter(|c| cell::as_ref(*c).is_some());
                let mut distinct: Vec<Cell> = refs.collect();
                distinct.sort_unstable();
                distinct.dedup();
                Some(distinct)
            }
            _ => None,
        };
        // Few entities are read whole, unless few attributes are wanted; else each attribute is joined with them.
        let whole = |ids: &Vec<Cell>| ids.len() <= FEW && wanted.as_ref().is_none_or(|w| w.len() > 4);
        let (by_entity, among) = match known {
            Some(ids) if whole(&ids) => (Some(ids), None),
            Some(ids) if probe.places[0].var().is_some() => {
                let rel = Rel::new(vec![0], vec![ids], self.budget);
                (None, Some(rel.keyed(Some(vec![0])).sorted_by(Some(0))))
            }
            _ => (None, None),
        };
        let mut rows = Rows { cols: vec![Vec::new(); vars.len()], len: 0 };
        let place = |v: Var| -> usize { probe.places.iter().position(|x| *x == Place::Var(v)).unwrap_or(4) };
        let at: Vec<usize> = vars.iter().map(|v| place(*v)).collect();
        let a_var = p.a.var();
        // What a row has to pass: a constant, or the same value in another place.
        let mut constants: Vec<(usize, Cell)> = Vec::new();
        let mut same: Vec<(usize, usize)> = Vec::new();
        for (i, x) in probe.places.iter().enumerate() {
            match x {
                Place::Is(c) => constants.push((i, *c)),
                Place::Var(v) => {
                    if place(*v) != i {
                        same.push((i, place(*v)));
                    }
                    if a_var == Some(*v) {
                        same.push((i, 4));
                    }
                }
                Place::Any => {}
            }
        }
        let emit = |row: [Cell; 5], rows: &mut Rows| {
            if constants.iter().all(|(i, c)| row[*i] == *c) && same.iter().all(|(i, j)| row[*i] == row[*j]) {
                for (col, at) in rows.cols.iter_mut().zip(&at) {
                    col.push(row[*at]);
                }
                rows.len += 1;
            }
        };
        // Of no entity is a row made twice; of no attribute where facts are shown and not their history.
        let no_repeats = by_entity.is_some() || !db.view().history;
        let one_entity = by_entity.as_ref().is_some_and(|ids| ids.len() == 1);
        if let Some(ids) = by_entity {
            let mut found = EntityRows::with_capacity(64);
            for c in ids {
                let Some(e) = cell::as_ref(c) else { continue };
                self.budget.check()?;
                db.entity_rows(e, &self.dict, &mut found)?;
                rows.cols.iter_mut().for_each(|col| col.reserve(found.len()));
                for i in 0..found.len() {
                    let a = found.a[i];
                    // A fact filed late can give the same datom twice in a history, one after the other.
                    if i > 0 && found.same(i - 1, i) {
                        continue;
                    }
                    if wanted.as_ref().is_none_or(|w| w.contains(&a)) {
                        let tx = entity_cell(T(found.t[i]).entity().raw());
                        let op = cell::of_bool(found.added[i]);
                        emit([c, found.v[i], tx, op, entity_cell(a.entity().raw())], &mut rows);
                    }
                }
                self.budget.spend(0, rows.len * vars.len() * 8)?;
            }
        } else {
            let schema = db.schema().clone();
            let constant = match &p.v {
                Term::Const(v) => v.value_type(),
                _ => None,
            };
            for attr in schema.attributes() {
                if wanted.as_ref().is_some_and(|w| !w.contains(&attr.id)) {
                    continue;
                }
                // Never by `stats`: an estimate of the present says nothing of the past.
                if constant.is_some_and(|t| t != attr.value_type) {
                    continue;
                }
                let one = self.of_attribute(p, attr.id, &probe.places, among.as_ref())?;
                let a_cell = entity_cell(attr.id.entity().raw());
                let n = one.len;
                for i in 0..n {
                    let get = |k: usize| one.cols[k][i];
                    emit([get(0), get(1), get(2), get(3), a_cell], &mut rows);
                    if i % 1024 == 0 {
                        self.budget.spend(0, rows.len * vars.len() * 8)?;
                    }
                }
            }
        }
        self.budget.spend(rows.len, 0)?;
        if vars.is_empty() {
            return Ok(if rows.len == 0 { Rel::empty(&[], self.budget) } else { Rel::unit() });
        }
        // Such rows differ in some place of five, and facts in one of three: if each of these is a
        // variable or a constant, they differ in the variables. (One entity is a constant too.)
        let told = |i: usize| match probe.places[i] {
            Place::Any => i >= 2 && !db.view().history,
            Place::Is(_) | Place::Var(_) => true,
        };
        let key = (no_repeats && a_var.is_some() && (0..4).all(told)).then(|| {
            let e = probe.places[0].var().filter(|e| one_entity && place(*e) == 0 && a_var != Some(*e));
            vars.iter().copied().filter(|v| e != Some(*v)).collect()
        });
        Ok(Rel::new(vars.clone(), rows.cols, self.budget).keyed(key))
    }

    /// Entity, value, transaction and op of one attribute's rows, narrowed by constants and to `entities`.
    fn of_attribute(
        &self,
        p: &Pattern,
        a: AttrId,
        places: &[Place; 4],
        entities: Option<&Rel>,
    ) -> Result<Rel, QueryError> {
        let constant = |i: usize, own: &Term| match places[i] {
            Place::Is(_) => own.clone(),
            _ => Term::Var(i as Var),
        };
        let all = Pattern {
            src: p.src,
            e: constant(0, &p.e),
            a: Attr::Known(a),
            v: constant(1, &p.v),
            tx: Term::Var(2),
            op: Term::Var(3),
            one: false,
            unique: false,
            is_ref: false,
        };
        let rel = match entities {
            Some(entities) => self.extend(entities, &all, a, By::Entity, &[])?,
            None => self.scan(&all, a, &[])?,
        };
        let cols = (0..4)
            .map(|i| match (rel.col(i as Var), places[i]) {
                (Some(c), _) => c.to_vec(),
                (None, Place::Is(c)) => vec![c; rel.len],
                (None, _) => unreachable!("every place that is no constant is a variable"),
            })
            .collect();
        Ok(Rel::new(vec![0, 1, 2, 3], cols, self.budget))
    }

    /// The rows of a collection of tuples, over the variables of `terms`.
    pub(crate) fn tuples(&self, slot: Slot, terms: &[Term]) -> Result<Rel, QueryError> {
        let super::Given::Tuples(value) = &self.slots[slot] else {
            unreachable!("resolved against a collection")
        };
        let mut vars: Vec<Var> = Vec::new();
        for t in terms {
            if let Term::Var(v) = t
                && !vars.contains(v)
            {
                vars.push(*v);
            }
        }
        let wanted: Vec<Option<Cell>> = terms
            .iter()
            .map(|t| match t {
                Term::Const(c) => Some(self.dict.encode(c)),
                Term::Ent(_) | Term::Var(_) | Term::Blank => None,
            })
            .collect();
        let mut cols: Vec<Vec<Cell>> = vec![Vec::new(); vars.len()];
        let mut found = 0usize;
        for (n, item) in elements(value).unwrap_or_default().iter().enumerate() {
            if n % 1024 == 0 {
                self.budget.spend(0, found * 8 * vars.len())?;
            }
            let Some(items) = elements(item) else {
                let d =
                    Diagnostic::new("query/inputs", format!("a {} where a tuple was expected", item.kind()))
                        .help("a collection used as a source holds tuples");
                return Err(QueryError::Invalid(vec![d]));
            };
            if items.len() < terms.len() {
                continue;
            }
            let row: Vec<Cell> = items[..terms.len()].iter().map(|v| self.dict.encode(v)).collect();
            let fits = terms.iter().enumerate().all(|(i, t)| match t {
                Term::Const(_) => wanted[i] == Some(row[i]),
                Term::Var(v) => {
                    let first = terms.iter().position(|x| x == &Term::Var(*v)).expect("it is one of them");
                    row[first] == row[i]
                }
                Term::Ent(_) | Term::Blank => true,
            });
            if fits {
                found += 1;
                for (col, v) in cols.iter_mut().zip(&vars) {
                    let at = terms.iter().position(|x| x == &Term::Var(*v)).expect("it is one of them");
                    col.push(row[at]);
                }
            }
        }
        self.budget.spend(found, 0)?;
        if vars.is_empty() {
            return Ok(if found == 0 { Rel::empty(&[], self.budget) } else { Rel::unit() });
        }
        Ok(Rel::new(vars, cols, self.budget))
    }
}

/// Rows under construction, a column a variable.
struct Rows {
    cols: Vec<Vec<Cell>>,
    len: usize,
}

/// The elements of a collection.
pub(crate) fn elements(v: &Value) -> Option<&[Value]> {
    match v {
        Value::Vector(v) | Value::List(v) | Value::Set(v) => Some(v),
        _ => None,
    }
}
