//! Pulling along an index: [`Db::index_pull`], Datomic's `index-pull`.
//!
//! 1. The walk stays within one attribute and starts at the components given.
//! 2. One tree a datom, in the order of the index: an entity that has several values
//!    of a many-valued attribute comes several times, as it does in the index.
//! 3. A page costs what it skips and shows, not what the attribute holds.

use crate::{Db, DbError, Eid, Error, Index, IntoIndex, IntoPattern};
use annals_model::{EntityId, Value};
use annals_query::{error::QueryError, query::QueryOptions};
use std::ops::{Bound, ControlFlow};

/// Which part of the index [`Db::index_pull`] walks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Datoms passed over first.
    pub offset: usize,
    /// At most so many trees; all when none.
    pub limit: Option<usize>,
    /// From the end of the attribute, or from the start component, downwards. AVET only.
    pub reverse: bool,
}

impl Page {
    /// The first `n`.
    pub fn first(n: usize) -> Page {
        Page { limit: Some(n), ..Page::default() }
    }
    /// The last `n`, the last one first.
    pub fn last(n: usize) -> Page {
        Page { limit: Some(n), reverse: true, ..Page::default() }
    }
    /// After passing over `n`.
    pub fn skip(mut self, n: usize) -> Page {
        self.offset = n;
        self
    }
}

impl Db {
    /// Pulls a tree for each datom of one attribute, in the order of `avet` (by value; indexed
    /// and unique attributes) or `aevt` (by entity). `start` is the attribute, and if wanted the
    /// value (AVET) or the entity (AEVT) to start at, inclusive.
    ///
    /// # Errors
    /// [`DbError::BadComponents`] when `start` names no attribute, the index is another, or
    /// `reverse` is asked of AEVT; [`DbError::NotIndexed`]; [`DbError::History`] on a history view.
    ///
    /// ```
    /// use annals::{Page, Value};
    /// let conn = annals::in_memory()?;
    /// conn.transact(r#"[{:db/ident :score :db/valueType :db.type/long :db/cardinality :db.cardinality/one :db/index true}]"#)?;
    /// conn.transact("[{:score 3} {:score 9} {:score 5}]")?;
    /// let best = conn.db().index_pull("avet", "[:score]", &[Value::keyword("score")], Page::last(2))?;
    /// assert_eq!(annals::edn::print(&Value::vector(best)), "[{:score 9} {:score 5}]");
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn index_pull(
        &self,
        index: impl IntoIndex,
        pattern: impl IntoPattern,
        start: &[Value],
        page: Page,
    ) -> Result<Vec<Value>, Error> {
        self.facts_only("index-pull")?;
        let pattern = pattern.into_pattern(self).map_err(QueryError::from)?;
        let index = index.into_index()?;
        let ids = self.walk(index, start, page)?;
        let eids = ids.into_iter().map(Eid::Id);
        self.pull_many(pattern, eids, &QueryOptions::default())
    }

    fn walk(&self, index: Index, start: &[Value], page: Page) -> Result<Vec<EntityId>, DbError> {
        let bad = |message: &str| DbError::BadComponents { message: message.to_owned() };
        let attr = match start {
            [Value::Keyword(attr)] | [Value::Keyword(attr), _] => attr.clone(),
            _ => {
                return Err(bad(
                    "index-pull starts at an attribute, then if wanted a value (avet) or an entity (aevt)",
                ));
            }
        };
        let mut ids = Vec::new();
        let mut left = page.offset;
        let limit = page.limit.unwrap_or(usize::MAX);
        if limit == 0 {
            return Ok(ids);
        }
        let mut take = |e: EntityId| {
            if left > 0 {
                left -= 1;
                return ControlFlow::Continue(());
            }
            ids.push(e);
            match ids.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        match index {
            Index::Avet => {
                let a = self.attribute(attr.as_str())?.clone();
                let first = match start.get(1) {
                    None => None,
                    Some(v) => match self.coerced(&a, v)? {
                        Some(v) => Some(v),
                        None => return Ok(ids),
                    },
                };
                let bound = first.as_ref().map_or(Bound::Unbounded, Bound::Included);
                let (from, to) =
                    if page.reverse { (Bound::Unbounded, bound) } else { (bound, Bound::Unbounded) };
                self.index_range_in(attr.as_str(), from, to, page.reverse, &mut |d| take(d.e))?;
            }
            Index::Aevt if page.reverse => {
                return Err(bad("index-pull walks aevt upwards only; give :avet to walk downwards"));
            }
            Index::Aevt => {
                let a = self.attribute(attr.as_str())?.id;
                self.seek_datoms(Index::Aevt, start, &mut |d| match d.a == a {
                    true => take(d.e),
                    false => ControlFlow::Break(()),
                })?;
            }
            Index::Eavt | Index::Vaet => return Err(bad("index-pull walks :avet or :aevt")),
        }
        Ok(ids)
    }
}
