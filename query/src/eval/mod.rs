//! From a resolved query to rows: relations of cells, joined clause by clause.
//!
//! Reading order: `rel` (what flows), `join`, `access`, `pattern` and `extend` (reading
//! datoms; `arrange` puts rows in their order), `body` (a conjunction: which clause next, and how), `table`,
//! `fixpoint` and its operators (rules), `call` (functions), `bind` (inputs and
//! results taken apart), `answer` (`:find`), `pipe` (a conjunction answered block by block).
//!
//! 1. Between a clause and the next there is always a whole relation (of some of the rows, where
//!    an answer is streamed); every operator spends the budget per batch while it makes one.
//! 2. Of several inputs in the same order, results are in the same order: nothing
//!    here depends on addresses, threads or seeds.

pub(crate) mod access;
pub mod aggregate;
pub(crate) mod answer;
mod anyattr;
mod arrange;
pub(crate) mod bind;
pub(crate) mod body;
pub(crate) mod call;
mod closure;
mod extend;
mod facts;
mod fixpoint;
mod fold;
pub mod function;
mod guard;
mod join;
pub(crate) mod leapfrog;
pub(crate) mod parallel;
pub(crate) mod pattern;
pub(crate) mod pipe;
pub(crate) mod quick;
pub(crate) mod rel;
mod seminaive;
mod table;

use crate::budget::Budget;
use crate::error::QueryError;
use crate::plan::trace::Trace;
use crate::resolve::ir::{Program, Slot};
use access::Db;
pub(crate) use access::Sampled;
use annals_model::{AttrId, Cell, Column, Dict, EntityId, Order, Value, cell};
use hashbrown::HashMap;
pub use leapfrog::JoinChoice;
pub use parallel::Threads;
pub(crate) use pattern::Place;
use std::cell::RefCell;
use std::sync::Arc;

/// What an input slot holds while a query runs.
#[derive(Clone)]
pub(crate) enum Given {
    Db(Db),
    /// A collection of tuples.
    Tuples(Value),
}

/// One run of a query: what it reads, what it may use, what it has found out so far.
pub(crate) struct Run<'q> {
    pub(crate) slots: &'q [Given],
    pub(crate) dict: Arc<Dict>,
    pub(crate) budget: &'q Budget,
    pub(crate) program: Arc<Program>,
    /// Choose the order of clauses (else: as written), and demand for rules.
    pub(crate) optimise: bool,
    pub(crate) operator: FixpointChoice,
    pub(crate) threads: Threads,
    pub(crate) joins: JoinChoice,
    pub(crate) trace: RefCell<Trace>,
    columns: RefCell<HashMap<(Slot, AttrId, Order), Arc<Column>>>,
    calls: RefCell<fixpoint::Calls>,
    /// The fixpoint whose rule is being run, if any.
    pub(crate) frame: RefCell<Option<fixpoint::Frame>>,
    pub(crate) library: &'q Arc<function::Library>,
    depth: std::cell::Cell<u32>,
    /// For a plan: no column is read that is not in memory.
    pub(crate) counts_only: std::cell::Cell<bool>,
    visited: RefCell<std::collections::BTreeSet<crate::resolve::ir::Pred>>,
}

/// Which operator runs recursive rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FixpointChoice {
    /// Whatever fits the rules best.
    #[default]
    Best,
    /// Hash tables with row ranges as deltas.
    Hash,
    /// Sorted batches, by datafrog.
    Sorted,
}

/// What a run has found out and a later one over the same inputs goes on with.
#[derive(Default)]
pub(crate) struct Kept {
    columns: HashMap<(Slot, AttrId, Order), Arc<Column>>,
    pub(crate) trace: Trace,
}

/// Bodies within bodies: as deep as the stack of a small thread allows.
pub(crate) const MAX_DEPTH: u32 = 48;

impl<'q> Run<'q> {
    pub(crate) fn new(
        slots: &'q [Given],
        dict: Arc<Dict>,
        budget: &'q Budget,
        program: Arc<Program>,
        library: &'q Arc<function::Library>,
    ) -> Run<'q> {
        Run {
            slots,
            dict,
            budget,
            program,
            optimise: true,
            operator: FixpointChoice::Best,
            threads: Threads::Auto,
            joins: JoinChoice::Best,
            trace: RefCell::default(),
            columns: RefCell::default(),
            calls: RefCell::default(),
            frame: RefCell::default(),
            library,
            depth: std::cell::Cell::new(0),
            counts_only: std::cell::Cell::new(false),
            visited: RefCell::default(),
        }
    }

    /// Goes on with what an earlier run has found out, or leaves it for a later one.
    pub(crate) fn exchange(&self, kept: &mut Kept) {
        std::mem::swap(&mut *self.columns.borrow_mut(), &mut kept.columns);
        std::mem::swap(&mut *self.trace.borrow_mut(), &mut kept.trace);
    }

    /// The database in a slot; resolution made sure that it is one.
    pub(crate) fn db(&self, slot: Slot) -> &Db {
        match &self.slots[slot] {
            Given::Db(db) => db,
            Given::Tuples(_) => unreachable!("patterns over tuples are resolved as such"),
        }
    }

    /// What a cell means as an entity of a slot: an id, an ident, a lookup ref.
    pub(crate) fn entity_of(&self, slot: Slot, c: Cell) -> Result<Option<EntityId>, QueryError> {
        if let Some(e) = cell::as_ref(c) {
            return Ok(Some(e));
        }
        self.entity_of_value(slot, &self.dict.decode(c))
    }

    pub(crate) fn entity_of_value(&self, slot: Slot, v: &Value) -> Result<Option<EntityId>, QueryError> {
        let Given::Db(db) = &self.slots[slot] else { return Ok(None) };
        Ok(match v {
            Value::Ref(e) => Some(*e),
            Value::Long(n) => u64::try_from(*n).ok().filter(|n| *n < 1 << 52).map(EntityId::from_raw),
            Value::Keyword(k) => db.entid(k),
            Value::Vector(pair) => match &pair[..] {
                [a, v] => {
                    let attr = match a {
                        Value::Keyword(k) => db.schema().attribute_named(k).cloned(),
                        Value::Long(_) | Value::Ref(_) => {
                            self.entity_of_value(slot, a)?.and_then(|e| db.schema().attribute_of(e).cloned())
                        }
                        _ => None,
                    };
                    let Some(attr) = attr.filter(|a| a.unique.is_some()) else { return Ok(None) };
                    let v = if attr.is_ref() {
                        self.entity_of_value(slot, v)?.map(Value::Ref)
                    } else {
                        crate::resolve::fit(v, attr.value_type)
                    };
                    match v {
                        Some(v) => self.lookup(slot, attr.id, self.dict.encode(&v))?.map(EntityId::from_raw),
                        None => None,
                    }
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// Is this the first time a plan shows the rules of this predicate?
    pub(crate) fn first_visit(&self, pred: crate::resolve::ir::Pred) -> bool {
        self.visited.borrow_mut().insert(pred)
    }

    /// Natural join.
    pub(crate) fn join(&self, a: &rel::Rel, b: &rel::Rel) -> Result<rel::Rel, QueryError> {
        join::natural(a, b, self.budget)
    }

    /// Counts nesting from where another run stands.
    pub(crate) fn enter_from(&self, outer: &Run<'_>) {
        self.depth.set(outer.depth.get());
    }

    /// Goes one level deeper into nested bodies and queries.
    pub(crate) fn deeper<R>(&self, f: impl FnOnce() -> Result<R, QueryError>) -> Result<R, QueryError> {
        let depth = self.depth.get();
        if depth >= MAX_DEPTH {
            let d = annals_model::Diagnostic::new(
                "query/unsupported",
                format!("clauses are nested deeper than {MAX_DEPTH}"),
            );
            return Err(QueryError::Invalid(vec![d]));
        }
        self.depth.set(depth + 1);
        let out = f();
        self.depth.set(depth);
        out
    }
}
