//! Reading events over all streams that have a type or a tag, by way of the indexes of both.
//!
//! 1. What an index gives are candidates: an event is judged as it reads, upcast and opened.
//! 2. Candidates are listed page by page: whoever asks for one event of a long backlog does not have all
//!    of it listed.

use crate::DbError;
use crate::event::{
    append::{Item, matches},
    id::Position,
    log::EventLog,
    record::Recorded,
    table::{self, Key},
};
use std::ops::ControlFlow;

/// Positions of an index that are listed in one go, when fewer events are asked for.
const PAGE: usize = 64;
/// Events that room is made for at once.
const MOST_ROOM: usize = 1 << 16;

impl EventLog {
    /// Up to `limit` events after a position that match one of the items (all, when
    /// there are none), and the position up to which nothing was left out.
    pub fn all(
        &self,
        items: &[Item],
        after: Position,
        limit: usize,
    ) -> Result<(Vec<Recorded>, Position), DbError> {
        let head = self.head()?;
        let mut events = Vec::new();
        if after >= head || limit == 0 {
            return Ok((events, head));
        }
        let mut seen = after;
        while seen < head {
            // Whoever asks for one event of a long backlog does not have all of it listed.
            let Some((positions, upto)) = self.some_candidates(items, seen, head, limit.max(PAGE))? else {
                if items.is_empty() {
                    let left = usize::try_from(head.0 - after.0).unwrap_or(limit);
                    events.reserve_exact(left.min(limit).min(MOST_ROOM));
                }
                let reached = self.each(after, head, &mut |r| {
                    let before = events.len();
                    self.present_to(r, &mut events)?;
                    if !items.is_empty() {
                        let parts = events.split_off(before);
                        events.extend(parts.into_iter().filter(|e| matches(items, e)));
                    }
                    Ok(if events.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
                })?;
                return Ok((events, reached));
            };
            for p in positions {
                events.extend(self.at(p)?.into_iter().filter(|e| matches(items, e)));
                if events.len() >= limit {
                    return Ok((events, p));
                }
            }
            seen = upto;
        }
        Ok((events, head))
    }

    /// The last event before a position that matches, looking backwards.
    pub fn all_back(&self, items: &[Item], before: Position, limit: usize) -> Result<Vec<Recorded>, DbError> {
        let mut events = Vec::new();
        let end = before.0.min(self.head()?.0 + 1);
        for p in (1..end).rev() {
            let mut found: Vec<_> = self.at(Position(p))?.into_iter().filter(|e| matches(items, e)).collect();
            found.reverse();
            events.append(&mut found);
            if events.len() >= limit {
                break;
            }
        }
        Ok(events)
    }

    /// Positions in `(after, upto]` that may match, from the indexes by type and
    /// tag; none when only reading everything will do.
    pub(crate) fn candidates(
        &self,
        items: &[Item],
        after: Position,
        upto: Position,
    ) -> Result<Option<Vec<Position>>, DbError> {
        Ok(self.some_candidates(items, after, upto, usize::MAX)?.map(|(all, _)| all))
    }

    /// The first of them, some `most` for each index that is looked at, and the position up to
    /// which there are no others.
    fn some_candidates(
        &self,
        items: &[Item],
        after: Position,
        upto: Position,
        most: usize,
    ) -> Result<Option<(Vec<Position>, Position)>, DbError> {
        if items.is_empty() || items.iter().any(|i| i.types.is_empty() && i.tags.is_empty()) {
            return Ok(None);
        }
        let mut found = Vec::new();
        let mut whole = upto;
        let mut look = |table, name: &str| -> Result<(), DbError> {
            whole = whole.min(self.index(table, name, (after, upto), most, &mut found)?);
            Ok(())
        };
        for item in items {
            if let Some(tag) = item.tags.first() {
                look(table::TAG, tag.as_str())?;
            } else {
                for ty in &item.types {
                    look(table::TYPE, ty.as_str())?;
                }
            }
        }
        // Whatever an upcaster takes may come out as anything.
        for ty in self.upcasters.sources() {
            look(table::TYPE, ty)?;
        }
        found.retain(|p| *p <= whole);
        found.sort_unstable();
        found.dedup();
        Ok(Some((found, whole)))
    }

    /// Positions in `(after, upto]` under a name, at most so many; up to where they are all.
    fn index(
        &self,
        table: u8,
        name: &str,
        (after, upto): (Position, Position),
        most: usize,
        found: &mut Vec<Position>,
    ) -> Result<Position, DbError> {
        let (mut left, mut whole) = (most, upto);
        let prefix = Key::new().text(name);
        let n = prefix.clone().done().len();
        let (from, to) = (prefix.clone().number(after.0 + 1).done(), prefix.number(upto.0 + 1).done());
        self.tables.rows(table, &from, &to, false, &mut |k, _| {
            let Some(p) = table::last_number(k, n).map(Position) else { return ControlFlow::Continue(()) };
            found.push(p);
            left -= 1;
            if left > 0 {
                return ControlFlow::Continue(());
            }
            whole = p;
            ControlFlow::Break(())
        })?;
        Ok(whole)
    }
}
