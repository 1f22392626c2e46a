//! Rows that are made while they are taken.
//!
//! 1. A query without aggregates, order, `:having` and (unless rows may come in any order) `:limit` and
//!    `:offset` is joined block by block as rows are asked for: nothing is made for rows that nobody
//!    takes. Any other is joined whole before its first row, and only its values are made later.
//! 2. The rows are those of [`Query::run`], in the order in which they are found.
//! 3. A stream that fails ends with the failure; rows before it are rows of the answer.

use crate::ast::{self, FindElem, FindSpec};
use crate::budget::Budget;
use crate::error::QueryError;
use crate::eval::function::Library;
use crate::eval::pipe::Pipe;
use crate::eval::{Given, Kept, Run, answer};
use crate::query::{Input, Query, QueryOptions, Ready, basis, bind_inputs};
use crate::resolve::ir::Resolved;
use crate::rows::{Rows, Shape, Stats};
use annals_model::{Diagnostic, Dict, T, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// An answer on its way: batches of rows, or what went wrong. See [`Query::stream`].
pub struct RowStream {
    /// The shape of the answer.
    pub shape: Shape,
    /// The newest transaction that the first database of the query knew.
    pub basis_t: T,
    /// What the user should know although there is an answer.
    pub warnings: Vec<Diagnostic>,
    /// Most rows of a batch.
    size: usize,
    block: Rows,
    /// Rows of the block that have been taken.
    at: usize,
    /// Rows still to be passed over, and to be given.
    skip: usize,
    left: usize,
    more: Option<Box<Producer>>,
    failed: Option<QueryError>,
    stats: Stats,
}

/// What makes the next block.
struct Producer {
    ast: Arc<ast::Query>,
    resolved: Arc<Resolved>,
    given: Vec<Input>,
    slots: Vec<Given>,
    library: Arc<Library>,
    budget: Budget,
    dict: Arc<Dict>,
    options: QueryOptions,
    kept: Kept,
    pipe: Pipe,
}

impl Producer {
    fn next(&mut self) -> Result<Option<Rows>, QueryError> {
        let program = self.resolved.program.clone();
        let mut run = Run::new(&self.slots, self.dict.clone(), &self.budget, program, &self.library);
        run.configure(&self.options);
        run.exchange(&mut self.kept);
        let found = self.pipe.next(&run, &self.resolved.body);
        let rows = match found {
            Ok(Some(rel)) => answer::block(&run, &self.ast, &self.resolved, &self.given, &rel).map(Some),
            Ok(None) => Ok(None),
            Err(e) => Err(e),
        };
        run.exchange(&mut self.kept);
        rows
    }

    fn stats(&self, prepare_us: u64) -> Stats {
        Stats { used: self.budget.usage(), steps: self.kept.trace.clone().into_steps(), prepare_us }
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream")
            .field("shape", &self.shape)
            .field("basis_t", &self.basis_t)
            .field("pipelined", &self.more.is_some())
            .finish_non_exhaustive()
    }
}

impl Query {
    /// Runs the query as far as its rows are taken, at most `size` (at least 1) at a time.
    ///
    /// The rows are those of [`Query::run`], in the order in which they are found:
    /// `options.sorted` does not apply, `:order-by` does. With `:limit` or `:offset` they are the
    /// same rows too unless `options.sorted` is off; then they are any, and no more are made than
    /// are given.
    ///
    /// # Errors
    /// All that is known before the run. What happens later (a limit, the deadline, the flag,
    /// storage) is the last item of the stream. The deadline counts from this call, the time that
    /// the taker spends included.
    pub fn stream(
        &self,
        inputs: &[Input],
        options: &QueryOptions,
        size: usize,
    ) -> Result<RowStream, QueryError> {
        let ast = self.ast();
        if !is_pipelined(ast, options) {
            let answer = self.run(inputs, options)?;
            return Ok(RowStream {
                shape: answer.shape,
                basis_t: answer.basis_t,
                warnings: answer.warnings,
                size: size.max(1),
                block: answer.rows,
                at: 0,
                skip: 0,
                left: usize::MAX,
                more: None,
                failed: None,
                stats: answer.stats,
            });
        }
        let start = Instant::now();
        let Ready { budget, library, given, resolved, slots } = self.ready(inputs, options)?;
        let library = library.clone();
        let dict = Dict::current();
        let pipe = {
            let mut run = Run::new(&slots, dict.clone(), &budget, resolved.program.clone(), &library);
            run.configure(options);
            let parts = bind_inputs(&run, ast, &resolved, &given)?;
            Pipe::new(&resolved.body, parts, answer::needed(&resolved))
        };
        let width = resolved.find.len();
        let limit = options.limit.or(ast.limit.as_ref().map(|l| l.node));
        let offset = options.offset.or(ast.offset.as_ref().map(|o| o.node));
        Ok(RowStream {
            shape: answer::shape(ast),
            basis_t: basis(&given),
            warnings: resolved.warnings.clone(),
            size: size.max(1),
            block: Rows::of_values(width, Vec::new()),
            at: 0,
            skip: offset.unwrap_or(0),
            left: limit.unwrap_or(usize::MAX),
            failed: None,
            stats: Stats { prepare_us: start.elapsed().as_micros() as u64, ..Stats::default() },
            more: Some(Box::new(Producer {
                ast: ast.clone(),
                resolved,
                given,
                slots,
                library,
                budget,
                dict,
                options: options.clone(),
                kept: Kept::default(),
                pipe,
            })),
        })
    }
}

/// May rows be given before all are known?
fn is_pipelined(ast: &ast::Query, options: &QueryOptions) -> bool {
    let cut =
        ast.limit.is_some() || ast.offset.is_some() || options.limit.is_some() || options.offset.is_some();
    matches!(ast.find.spec, FindSpec::Rel | FindSpec::Coll)
        && !ast.find.elems.iter().any(|e| matches!(e, FindElem::Aggregate { .. }))
        && ast.order_by.is_empty()
        && ast.having.is_empty()
        && !options.check
        && !(cut && options.sorted)
}

impl RowStream {
    /// What has been used and done so far; all of it once the stream has ended.
    pub fn stats(&self) -> Stats {
        match &self.more {
            Some(producer) => producer.stats(self.stats.prepare_us),
            None => self.stats.clone(),
        }
    }

    /// The most rows that are still to come, if that is known: all joins have run.
    pub fn remaining(&self) -> Option<usize> {
        self.more.is_none().then(|| (self.block.len() - self.at).min(self.left))
    }

    /// Has the block rows to give, after making the next one if it must?
    fn ready(&mut self) -> Result<bool, QueryError> {
        loop {
            let here = self.block.len() - self.at;
            let skipped = here.min(self.skip);
            self.at += skipped;
            self.skip -= skipped;
            if self.left == 0 {
                self.finish();
                return Ok(false);
            }
            if self.at < self.block.len() {
                return Ok(true);
            }
            let Some(producer) = &mut self.more else { return Ok(false) };
            match producer.next() {
                Ok(Some(rows)) => (self.block, self.at) = (rows, 0),
                Ok(None) => {
                    self.finish();
                    return Ok(false);
                }
                Err(e) => {
                    self.finish();
                    return Err(e);
                }
            }
        }
    }

    /// Lets go of all that is held: nothing more is made.
    fn finish(&mut self) {
        if let Some(producer) = self.more.take() {
            self.stats = producer.stats(self.stats.prepare_us);
        }
        self.block = Rows::of_values(0, Vec::new());
        self.at = 0;
    }
}

impl Iterator for RowStream {
    /// At most as many rows as were asked for at a time, at least one; or the failure that ended the stream.
    type Item = Result<Vec<Vec<Value>>, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(e) = self.failed.take() {
            return Some(Err(e));
        }
        let mut batch = Vec::new();
        while batch.len() < self.size {
            match self.ready() {
                Ok(true) => {
                    let n = (self.size - batch.len()).min(self.block.len() - self.at).min(self.left);
                    batch.extend((self.at..self.at + n).map(|row| self.block.row(row)));
                    self.at += n;
                    self.left -= n;
                }
                Ok(false) => break,
                // What was found before goes first.
                Err(e) if batch.is_empty() => return Some(Err(e)),
                Err(e) => {
                    self.failed = Some(e);
                    break;
                }
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }
}

impl std::iter::FusedIterator for RowStream {}
