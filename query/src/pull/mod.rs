//! Pull: entities as trees, by a pattern.
//!
//! The entities of one level of a pattern are fetched together: one sorted probe
//! an attribute for all of them, then one for all of their children. Two thousand
//! pulls cost as many probes as one.
//!
//! 1. Missing attributes are absent keys. An entity with nothing to show is nil,
//!    or left out of the list it would stand in.
//! 2. Values of a cardinality-many attribute come in value order, at most
//!    `:limit` of them (a thousand unless said).
//! 3. A component without a pattern is shown whole. An entity that is already on
//!    the path from the root shows only its `:db/id`, so cycles end.
//! 4. A tree is at most [`MAX_DEPTH`] deep, so that what is printed can be read back.
//!
//! Not here: the grammar of patterns (`parse::pull`).

mod error;
mod level;
mod plan;
#[cfg(test)]
mod tests;

pub use error::PullError;

use crate::ast::PullPattern;
use crate::budget::Budget;
use crate::error::QueryError;
use crate::eval::function::Library;
use crate::source::Source;
use annals_model::{EntityId, Value};

/// How deep a pulled tree may be nested.
pub const MAX_DEPTH: usize = 200;

/// Pulls each of `entities`; nil for none, and for one with nothing to show.
pub fn pull_many(
    source: &dyn Source,
    pattern: &PullPattern,
    entities: &[Option<EntityId>],
    library: &Library,
    budget: &Budget,
) -> Result<Vec<Value>, QueryError> {
    if source.view().history {
        return Err(PullError::History.into());
    }
    let plan = plan::Plan::of(pattern, source, library)?;
    let found = entities.iter().copied().flatten();
    let mut trees = level::Puller::new(source, budget).roots(&plan, found)?.into_iter();
    Ok(entities.iter().map(|e| e.and_then(|_| trees.next().flatten()).unwrap_or(Value::Nil)).collect())
}

/// Pulls one entity.
pub fn pull(
    source: &dyn Source,
    pattern: &PullPattern,
    entity: EntityId,
    library: &Library,
    budget: &Budget,
) -> Result<Value, QueryError> {
    Ok(pull_many(source, pattern, &[Some(entity)], library, budget)?.swap_remove(0))
}
