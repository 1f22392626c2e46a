//! Cyclic joins all at once: Leapfrog Triejoin (Veldhuizen, *Leapfrog Triejoin: a simple,
//! worst-case optimal join algorithm*, ICDT 2014).
//!
//! Joining two patterns of a triangle at a time first makes every path of two edges, of
//! which there may be far more than edges or triangles. Here one *variable* at a time is
//! bound: a value for it must stand in every pattern that has it, which is an intersection
//! of sorted lists, leapfrogging over what the others do not have.
//!
//! A pattern over two variables is a trie of two levels: its column sorted by whichever
//! place comes first in the order of variables, the heads, each with a sorted run of leaves.
//!
//! 1. Only patterns of a known attribute with two different variables take part, in views
//!    without history: there no pair stands twice, so no row does.
//! 2. Departing from the paper, heads met after the first variable are not leapt over but
//!    looked up, in an array when they lie close together.
//!    The last variable, when two lists have it and one of them stays, is found by bits.
//! 3. Rows come out in order of the variables, whatever the threads: they share the values
//!    of the first variable.

use super::Run;
use super::body::State;
use super::parallel::joined;
use super::rel::{Hasher, Rel, Var};
use crate::budget::{BATCH, Held};
use crate::error::QueryError;
use crate::plan::estimate;
use crate::resolve::ir::{Attr, Kind, Pattern, Term};
use annals_model::{Cell, Column, Order, cell};
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// How cyclic patterns are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum JoinChoice {
    /// By what either way is expected to cost.
    #[default]
    Best,
    /// Two relations at a time, always.
    Pairwise,
    /// All at once wherever it can be done.
    Leapfrog,
}

/// Patterns whose variables form cycles, to be joined at once.
pub(crate) struct Core {
    /// Their clauses.
    pub(crate) clauses: Vec<usize>,
    /// Their variables, in the order in which they are bound.
    pub(crate) vars: Vec<Var>,
    /// Rows that are expected.
    pub(crate) rows: f64,
}

/// A pattern that can be a trie: its two variables, entity first.
fn edge(run: &Run<'_>, kind: &Kind) -> Option<(Var, Var)> {
    let Kind::Pattern(p) = kind else { return None };
    let (Attr::Known(_), Term::Blank, Term::Blank) = (&p.a, &p.tx, &p.op) else { return None };
    match (&p.e, &p.v) {
        (Term::Var(e), Term::Var(v)) if e != v && !run.db(p.src).view().history => Some((*e, *v)),
        _ => None,
    }
}

/// Patterns to be joined, as far as counting tells.
struct Paths {
    /// Their rows, added up.
    rows: f64,
    /// Rows that the first join of two of them would leave at the least.
    count: f64,
    /// Where those paths begin, and what is in their middle.
    along: [Var; 2],
}

impl Run<'_> {
    /// The cyclic patterns that clause `first`, which is the best to begin with, is one of, if
    /// joining them at once is expected to be less work.
    pub(crate) fn core(&self, s: &State<'_>, first: usize) -> Result<Option<Core>, QueryError> {
        if self.joins == JoinChoice::Pairwise || !self.optimise || s.left.len() < 3 {
            return Ok(None);
        }
        let clauses = &s.body.clauses;
        if edge(self, &clauses[first].kind).is_none() {
            return Ok(None);
        }
        // Patterns that touch what is bound are better extended from there.
        let free = |(e, v): &(Var, Var)| !s.bound.has(*e) && !s.bound.has(*v);
        let mut edges: Vec<(usize, (Var, Var))> = s
            .left
            .iter()
            .filter_map(|&i| edge(self, &clauses[i].kind).filter(free).map(|vars| (i, vars)))
            .collect();
        // What hangs on a cycle by one variable is no part of it.
        let degree = |edges: &[(usize, (Var, Var))], v: Var| {
            edges.iter().filter(|(_, (a, b))| *a == v || *b == v).count()
        };
        loop {
            let before = edges.len();
            let kept: Vec<_> = edges
                .iter()
                .copied()
                .filter(|(_, (a, b))| degree(&edges, *a) > 1 && degree(&edges, *b) > 1)
                .collect();
            edges = kept;
            if edges.len() == before {
                break;
            }
        }
        if !edges.iter().any(|(i, _)| *i == first) {
            return Ok(None);
        }
        // The part that hangs together with the first.
        let (_, (a, b)) = *edges.iter().find(|(i, _)| *i == first).expect("just seen");
        let mut part = vec![a, b];
        while let Some(v) = edges.iter().find_map(|(_, (x, y))| match (part.contains(x), part.contains(y)) {
            (true, false) => Some(*y),
            (false, true) => Some(*x),
            _ => None,
        }) {
            part.push(v);
        }
        edges.retain(|(_, (x, _))| part.contains(x));
        if part.len() < 3 {
            return Ok(None);
        }
        let paths = self.paths(s, &edges)?;
        if self.joins == JoinChoice::Best && paths.count <= 2.0 * paths.rows {
            return Ok(None);
        }
        // Along the fewest paths of two edges, then where a variable meets as many earlier ones as
        // can be: so whichever clause is written first, the order is the same.
        let mut vars = paths.along.to_vec();
        loop {
            let meets = |v: Var| {
                let to = |(_, (x, y)): &&(usize, (Var, Var))| {
                    (*x == v && vars.contains(y)) || (*y == v && vars.contains(x))
                };
                edges.iter().filter(to).count()
            };
            let next = edges
                .iter()
                .flat_map(|(_, (x, y))| [*x, *y])
                .filter(|v| !vars.contains(v) && meets(*v) > 0)
                .max_by_key(|v| (meets(*v), std::cmp::Reverse(*v)));
            match next {
                Some(v) => vars.push(v),
                None => break,
            }
        }
        let clauses = edges.into_iter().map(|(i, _)| i).collect();
        Ok(Some(Core { clauses, vars, rows: paths.rows }))
    }

    /// What is known of the patterns together before they are joined.
    fn paths(&self, s: &State<'_>, edges: &[(usize, (Var, Var))]) -> Result<Paths, QueryError> {
        let pattern = |i: usize| -> &Pattern {
            match &s.body.clauses[i].kind {
                Kind::Pattern(p) => p,
                _ => unreachable!("edges are patterns"),
            }
        };
        let (_, (e, v)) = edges[0];
        let mut paths = Paths { rows: 0.0, count: f64::INFINITY, along: [e, v] };
        for (i, (e, v)) in edges {
            let (n, _) = estimate::fanout(self, pattern(*i), None)?;
            paths.rows += n;
            for (j, (e2, v2)) in edges {
                for (mine, theirs, order) in [(v, e2, Order::Eav), (v, v2, Order::Ave), (e, e2, Order::Eav)] {
                    if i == j || mine != theirs {
                        continue;
                    }
                    let from = if mine == v { Order::Ave } else { Order::Eav };
                    let (_, each) = estimate::fanout(self, pattern(*j), Some((pattern(*i), from, order)))?;
                    if n * each < paths.count {
                        let other = if mine == v { *e } else { *v };
                        (paths.count, paths.along) = (n * each, [other, *mine]);
                    }
                }
            }
        }
        Ok(paths)
    }

    /// The rows of a core over its variables.
    pub(crate) fn leapfrog(&self, s: &State<'_>, core: &Core) -> Result<Rel, QueryError> {
        let mut tries = Vec::new();
        let at = |v: Var| core.vars.iter().position(|x| *x == v).expect("a variable of the core");
        for &i in &core.clauses {
            let Kind::Pattern(p) = &s.body.clauses[i].kind else { unreachable!("edges are patterns") };
            let (Attr::Known(a), Some(e), Some(v)) = (&p.a, p.e.var(), p.v.var()) else {
                unreachable!("edges have an attribute and two variables")
            };
            let order = if at(e) < at(v) { Order::Eav } else { Order::Ave };
            let (first, second) = if order == Order::Eav { (at(e), at(v)) } else { (at(v), at(e)) };
            tries.push(Trie::new(self.column(p.src, *a, order)?, first, second));
        }
        let join = Join::new(tries, core.vars.len());
        let budget = self.budget;
        // The first variable has heads only.
        let mut starts: Vec<Cell> = Vec::new();
        let lists = join.levels[0].heads.iter().map(|t| List { words: &join.tries[*t].heads, tag: 0 });
        let mut leap = Leap::new(lists.collect());
        while let Some(c) = leap.next() {
            starts.push(c);
        }
        let rows: usize = join.tries.iter().map(|t| t.column.len()).sum();
        budget.spend(0, starts.len() * 8 + rows * 8)?;
        let pieces = self.threads.map(starts.len(), rows, |piece| {
            let mut walk = Walk {
                join: &join,
                range: vec![0..0; join.tries.len()],
                cols: vec![Vec::new(); join.levels.len()],
                spare: Vec::new(),
                marks: Marks::default(),
                steps: 0,
                spent: 0,
                held: budget.held(),
            };
            for c in &starts[piece] {
                walk.bind(0, *c)?;
            }
            walk.spend()?;
            Ok(walk.cols)
        })?;
        let mut cols: Vec<Vec<Vec<Cell>>> = vec![Vec::new(); core.vars.len()];
        for piece in pieces {
            for (col, part) in cols.iter_mut().zip(piece) {
                col.push(part);
            }
        }
        let cols = cols.into_iter().map(joined).collect();
        Ok(Rel::new(core.vars.clone(), cols, self.budget)
            .keyed(Some(core.vars.clone()))
            .sorted_by(core.vars.first().copied()))
    }
}

/// Where a head is, for lookups.
enum Heads {
    /// One more than the number of a head, by its word less the least; 0 where there is none.
    Dense(u64, Vec<u32>),
    Sparse(HashMap<u64, u32, Hasher>),
}

/// A pattern as a trie of two levels.
struct Trie {
    column: Arc<Column>,
    /// Which variable its heads are, and which its leaves.
    first: usize,
    second: usize,
    /// Distinct heads as words, ascending.
    heads: Vec<Cell>,
    /// Where the leaves of each head start, and the end of the last.
    starts: Vec<u32>,
    find: Heads,
}

impl Trie {
    fn new(column: Arc<Column>, first: usize, second: usize) -> Trie {
        let tag = tag_of(column.order == Order::Eav);
        let (mut heads, mut starts) = (Vec::new(), Vec::new());
        let keys = column.keys();
        for (row, k) in keys.iter().enumerate() {
            if row == 0 || keys[row - 1] != *k {
                heads.push(k | tag);
                starts.push(row as u32);
            }
        }
        starts.push(keys.len() as u32);
        let span = heads.last().map_or(0, |last| last - heads[0]);
        let find = if span <= 8 * heads.len() as u64 + 1024 {
            let least = heads.first().copied().unwrap_or(0);
            let mut number = vec![0; span as usize + 1];
            for (i, h) in heads.iter().enumerate() {
                number[(h - least) as usize] = i as u32 + 1;
            }
            Heads::Dense(least, number)
        } else {
            Heads::Sparse(heads.iter().copied().zip(0..).collect())
        };
        Trie { column, first, second, heads, starts, find }
    }

    /// The rows of a head.
    #[inline]
    fn rows(&self, head: Cell) -> Option<Range<usize>> {
        let i = match &self.find {
            Heads::Dense(least, number) => {
                let i = *number.get(usize::try_from(head.checked_sub(*least)?).ok()?)?;
                i.checked_sub(1)? as usize
            }
            Heads::Sparse(map) => *map.get(&head)? as usize,
        };
        Some(self.starts[i] as usize..self.starts[i + 1] as usize)
    }

    /// The least word among the leaves, and how far the greatest is from it; none if the words lie
    /// too far apart for an array of bits.
    fn leaf_span(&self) -> Option<(Cell, u64)> {
        let all = self.leaves(0..self.column.len());
        let (min, max) = (all.words.iter().min()?, all.words.iter().max()?);
        (max - min <= 64 * all.words.len() as u64 + 4096).then_some((min | all.tag, max - min))
    }

    fn leaves(&self, rows: Range<usize>) -> List<'_> {
        match self.column.order {
            Order::Eav => List { words: &self.column.v[rows], tag: tag_of(false) },
            Order::Ave => List { words: &self.column.e[rows], tag: tag_of(true) },
        }
    }
}

/// What makes the word of an id: nothing for what is a word already.
const fn tag_of(id: bool) -> u64 {
    if id { cell::TAG_REF << 60 } else { 0 }
}

/// Words in ascending order, without repeats.
#[derive(Clone, Copy)]
struct List<'a> {
    words: &'a [u64],
    tag: u64,
}

/// The intersection of lists, one word after another.
#[derive(Default)]
struct Leap<'a> {
    lists: Vec<List<'a>>,
    at: Vec<usize>,
}

impl<'a> Leap<'a> {
    fn new(lists: Vec<List<'a>>) -> Leap<'a> {
        let at = vec![0; lists.len()];
        Leap { lists, at }
    }

    /// The next word that all lists have.
    #[inline]
    fn next(&mut self) -> Option<Cell> {
        let (first, rest) = self.lists.split_first()?;
        let mut word = first.words.get(self.at[0])? | first.tag;
        'word: loop {
            for (i, list) in rest.iter().enumerate() {
                let at = &mut self.at[i + 1];
                *at = seek(list, *at, word);
                let found = list.words.get(*at)? | list.tag;
                if found != word {
                    self.at[0] = seek(first, self.at[0], found);
                    word = first.words.get(self.at[0])? | first.tag;
                    continue 'word;
                }
            }
            self.at[0] += 1;
            return Some(word);
        }
    }
}

/// The first place at or after `from` whose word is not less.
#[inline]
fn seek(list: &List<'_>, from: usize, word: Cell) -> usize {
    let below = |i: usize| list.words[i] | list.tag < word;
    let n = list.words.len();
    let mut at = from;
    // Most leaps are short.
    while at < n && at < from + 4 {
        if !below(at) {
            return at;
        }
        at += 1;
    }
    let mut step = 4;
    while at + step < n && below(at + step) {
        at += step;
        step *= 2;
    }
    let (mut lo, mut hi) = (at, (at + step).min(n));
    while lo < hi {
        let mid = (lo + hi) / 2;
        if below(mid) { lo = mid + 1 } else { hi = mid }
    }
    lo
}

/// Which tries have a variable as their heads, and which as their leaves.
struct Level {
    heads: Vec<usize>,
    leaves: Vec<usize>,
}

struct Join {
    tries: Vec<Trie>,
    levels: Vec<Level>,
    /// If two tries have the last variable, and the leaves of one stay while those of the other
    /// change with each binding: that one, and the other.
    marked: Option<(usize, usize)>,
}

impl Join {
    fn new(tries: Vec<Trie>, levels: usize) -> Join {
        let mut join = Join { tries, levels: Vec::with_capacity(levels), marked: None };
        let which = |of: &dyn Fn(&Trie) -> usize, l: usize| -> Vec<usize> {
            (0..join.tries.len()).filter(|t| of(&join.tries[*t]) == l).collect()
        };
        let made =
            (0..levels).map(|l| Level { heads: which(&|t| t.first, l), leaves: which(&|t| t.second, l) });
        join.levels = made.collect();
        if let Some([a, b]) = join.levels.last().map(|l| &l.leaves[..]) {
            let (kept, moves) = if join.tries[*a].first < join.tries[*b].first { (*a, *b) } else { (*b, *a) };
            let changes = join.tries[kept].first + 2 < levels && join.tries[moves].first + 2 == levels;
            if changes && join.tries[kept].leaf_span().is_some() {
                join.marked = Some((kept, moves));
            }
        }
        join
    }
}

/// The leaves of one head as bits, so that another list is intersected with them word by word
/// however long they are.
#[derive(Default)]
struct Marks {
    rows: Range<usize>,
    least: Cell,
    bits: Vec<u64>,
}

impl Marks {
    /// Marks the leaves at these rows of a trie, which is the same in every call.
    fn of(&mut self, trie: &Trie, rows: &Range<usize>) {
        if self.rows == *rows {
            return;
        }
        if self.bits.is_empty() {
            let (least, span) = trie.leaf_span().expect("looked at before");
            (self.least, self.bits) = (least, vec![0; (span / 64 + 1) as usize]);
        }
        let place = |w: &u64, tag: u64| ((w | tag) - self.least) as usize;
        let old = trie.leaves(std::mem::replace(&mut self.rows, rows.clone()));
        old.words.iter().map(|w| place(w, old.tag)).for_each(|at| self.bits[at / 64] = 0);
        let new = trie.leaves(rows.clone());
        new.words.iter().map(|w| place(w, new.tag)).for_each(|at| self.bits[at / 64] |= 1 << (at % 64));
    }

    /// Adds the words of a list that are marked.
    fn select(&self, list: List<'_>, out: &mut Vec<Cell>) {
        // Written whether marked or not: what comes next writes over it, and nothing is guessed.
        let mut n = out.len();
        out.resize(n + list.words.len(), 0);
        for w in list.words {
            let word = w | list.tag;
            let at = word.wrapping_sub(self.least);
            let bits = self.bits.get((at / 64) as usize).copied().unwrap_or(0);
            out[n] = word;
            n += (bits >> (at % 64) & 1) as usize;
        }
        out.truncate(n);
    }
}

/// The walk through all tries of one thread.
struct Walk<'j, 'b> {
    join: &'j Join,
    /// Rows under the head that each trie stands at.
    range: Vec<Range<usize>>,
    cols: Vec<Vec<Cell>>,
    /// Lists that are not in use, for their room.
    spare: Vec<Leap<'j>>,
    marks: Marks,
    steps: usize,
    spent: usize,
    held: Held<'b>,
}

impl<'j> Walk<'j, '_> {
    /// Binds variable `level` to `c`, which its leaves have, and finds what follows.
    fn bind(&mut self, level: usize, c: Cell) -> Result<(), QueryError> {
        for &t in &self.join.levels[level].heads {
            match self.join.tries[t].rows(c) {
                Some(rows) => self.range[t] = rows,
                None => return Ok(()),
            }
        }
        self.steps += 1;
        if self.steps.is_multiple_of(BATCH) || self.made() - self.spent >= BATCH {
            self.spend()?;
        }
        if level + 2 == self.join.levels.len() {
            self.last();
        } else {
            let mut leap = self.lists(level + 1);
            while let Some(c) = leap.next() {
                self.bind(level + 1, c)?;
            }
            self.spare.push(leap);
        }
        let made = self.made();
        self.cols[level].resize(made, c);
        Ok(())
    }

    /// The leaves that the variable of a level must be among, the shortest first.
    fn lists(&mut self, level: usize) -> Leap<'j> {
        let join = self.join;
        let mut leap = self.spare.pop().unwrap_or_default();
        leap.lists.clear();
        for t in &join.levels[level].leaves {
            leap.lists.push(join.tries[*t].leaves(self.range[*t].clone()));
        }
        leap.lists.sort_by_key(|l| l.words.len());
        leap.at.clear();
        leap.at.resize(leap.lists.len(), 0);
        leap
    }

    /// Every value of the last variable, under those of the others.
    fn last(&mut self) {
        let join = self.join;
        let level = join.levels.len() - 1;
        if let Some((kept, moves)) = join.marked {
            let (kept_rows, rows) = (&self.range[kept], &self.range[moves]);
            if rows.len() <= 8 * kept_rows.len() {
                self.marks.of(&join.tries[kept], kept_rows);
                self.marks.select(join.tries[moves].leaves(rows.clone()), &mut self.cols[level]);
                return;
            }
        }
        let mut leap = self.lists(level);
        let out = &mut self.cols[level];
        while let Some(c) = leap.next() {
            out.push(c);
        }
        self.spare.push(leap);
    }

    /// Rows so far.
    fn made(&self) -> usize {
        self.cols.last().map_or(0, Vec::len)
    }

    fn spend(&mut self) -> Result<(), QueryError> {
        let made = self.made();
        self.held.spend(made - self.spent, made * 8 * self.cols.len())?;
        self.spent = made;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaping_finds_what_all_lists_have() {
        let a: Vec<u64> = (0..1000).map(|i| i * 2).collect();
        let b: Vec<u64> = (0..1000).map(|i| i * 3).collect();
        let c: Vec<u64> = vec![0, 5, 6, 7, 600, 1200, 1998, 4000];
        for lists in [[&a, &b, &c], [&c, &a, &b], [&b, &c, &a]] {
            let lists = lists.iter().map(|l| List { words: l, tag: 0 }).collect();
            let mut leap = Leap::new(lists);
            let found: Vec<u64> = std::iter::from_fn(|| leap.next()).collect();
            assert_eq!(found, [0, 6, 600, 1200, 1998]);
        }
        let mut nothing = Leap::new(vec![List { words: &a, tag: 0 }, List { words: &[], tag: 0 }]);
        assert_eq!(nothing.next(), None);
    }
}
