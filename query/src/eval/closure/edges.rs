//! The edges of a walk: bodies over two variables, read for the nodes at hand.
//!
//! Most graphs are one attribute. Those edges are read straight from its column or by a
//! probe; a body would build relations and choose between one clause for every hop.

use super::{Edges, Way};
use crate::error::QueryError;
use crate::eval::Run;
use crate::eval::access::{Hint, Locator, Slab, entity_key};
use crate::eval::rel::Rel;
use crate::mem::entity_cell;
use crate::resolve::ir::{Attr, Kind, Slot, Term};
use annals_model::{AttrId, Cell, Order};

/// Edges that are the datoms of one attribute; `by` is the end that is given.
#[derive(Clone, Copy)]
pub(super) struct Direct {
    slot: Slot,
    a: AttrId,
    by: Order,
}

impl Run<'_> {
    /// The attribute that these edges are, if they are one.
    pub(super) fn direct(&self, edges: &Edges, way: Way) -> Option<Direct> {
        let [(body, x, y)] = &edges[..] else { return None };
        let [clause] = &body.clauses[..] else { return None };
        let Kind::Pattern(p) = &clause.kind else { return None };
        let (Attr::Known(a), Term::Blank, Term::Blank) = (&p.a, &p.tx, &p.op) else { return None };
        if self.db(p.src).view().history {
            return None;
        }
        let here = if way == Way::Forward { x } else { y };
        let by = match (&p.e, &p.v) {
            (Term::Var(e), Term::Var(v)) if e != v && (e == here) => Order::Eav,
            (Term::Var(e), Term::Var(v)) if e != v && (v == here) => Order::Ave,
            _ => return None,
        };
        Some(Direct { slot: p.src, a: *a, by })
    }

    /// Visits the edges at `nodes` (sorted): the node, and the other end.
    pub(super) fn hop(
        &self,
        d: Direct,
        nodes: &[Cell],
        mut visit: impl FnMut(Cell, Cell),
    ) -> Result<(), QueryError> {
        debug_assert!(nodes.is_sorted());
        let key_of = |c: Cell| if d.by == Order::Eav { entity_key(c) } else { c };
        let slab = if self.probes(d.slot, d.a, d.by, nodes.len()) {
            let keys: Vec<u64> = nodes.iter().map(|c| key_of(*c)).collect();
            self.probe(d.slot, d.a, d.by, &keys, false)?
        } else {
            Slab::Whole(self.column(d.slot, d.a, d.by)?)
        };
        // What is no entity has the greatest key of all, wherever it stands among the words.
        let locator = Locator::new(slab.keys(), 1, d.by == Order::Ave);
        let mut hint = Hint::default();
        let ends = |lo: usize, hi: usize, node: Cell, visit: &mut dyn FnMut(Cell, Cell)| match d.by {
            Order::Eav => slab.v()[lo..hi].iter().for_each(|v| visit(node, *v)),
            Order::Ave => slab.e()[lo..hi].iter().for_each(|e| visit(node, entity_cell(*e))),
        };
        let gallop = Locator::new(slab.keys(), nodes.len(), true);
        for node in nodes {
            let key = key_of(*node);
            let way = if key == u64::MAX { &locator } else { &gallop };
            let (lo, hi) = way.find(key, &mut hint);
            ends(lo, hi, *node, &mut visit);
        }
        Ok(())
    }

    /// Edges of a relation that leave these nodes (or arrive, backward): pairs (node, neighbour).
    pub(super) fn neighbours(
        &self,
        edges: &Edges,
        from: Option<&[Cell]>,
        way: Way,
    ) -> Result<Vec<(Cell, Cell)>, QueryError> {
        if let (Some(nodes), Some(d)) = (from, self.direct(edges, way)) {
            let mut out = Vec::new();
            self.hop(d, nodes, |a, b| out.push((a, b)))?;
            self.budget.spend(0, out.len() * 16)?;
            return Ok(out);
        }
        let mut out = Vec::new();
        for (body, x, y) in edges {
            let (here, there) = if way == Way::Forward { (*x, *y) } else { (*y, *x) };
            let outside = match from {
                Some(nodes) => {
                    let sorted = nodes.is_sorted().then_some(here);
                    vec![
                        Rel::new(vec![here], vec![nodes.to_vec()], self.budget)
                            .keyed(Some(vec![here]))
                            .sorted_by(sorted),
                    ]
                }
                None => vec![],
            };
            let r = self.body(body, outside, &[here, there])?;
            if r.is_empty() {
                continue;
            }
            let (a, b) = (r.col(here).expect("needed"), r.col(there).expect("needed"));
            self.budget.spend(0, r.len * 16)?;
            out.extend(a.iter().copied().zip(b.iter().copied()));
        }
        if edges.len() > 1 {
            out.sort_unstable();
            out.dedup();
        }
        Ok(out)
    }
}
