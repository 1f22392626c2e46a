//! What an aggregate has seen of a group, value by value.

use super::bag::{Last, mean, order_cells};
use super::total::Total;
use crate::eval::function::FnError;
use annals_model::{Cell, Dict, Value, cell};
use std::cmp::Ordering;

/// What has been seen of a group.
#[derive(Clone)]
pub enum Group {
    /// `count`.
    Count(u64),
    /// `sum`.
    Sum(Total),
    /// `avg`: the total and how many.
    Avg(Total, u64),
    /// `min`, `max`: the cell no other beats, and how one beats another.
    Best(Option<Cell>, Ordering),
    /// Everything that needs all values at once.
    Bag {
        /// The values seen.
        cells: Vec<Cell>,
        /// What to do with them.
        kind: Last,
    },
}

impl Group {
    /// Takes one more value.
    pub fn push(&mut self, c: Cell, dict: &Dict) -> Result<(), FnError> {
        match self {
            Group::Count(n) => *n += 1,
            Group::Sum(total) => total.push(c, dict)?,
            Group::Avg(total, n) => {
                total.push(c, dict)?;
                *n += 1;
            }
            Group::Best(best, beats) => match best {
                Some(b) if order_cells(c, *b, dict) != *beats => {}
                _ => *best = Some(c),
            },
            Group::Bag { cells, .. } => cells.push(c),
        }
        Ok(())
    }

    /// Takes a run of values.
    pub fn push_all(&mut self, cells: &[Cell], dict: &Dict) -> Result<(), FnError> {
        match self {
            Group::Count(n) => *n += cells.len() as u64,
            Group::Bag { cells: bag, .. } => bag.extend_from_slice(cells),
            Group::Best(best, beats) => {
                // Cells of one inline type order as words do.
                let one = cells.first().map(|c| cell::tag(*c));
                let inline = one.is_some_and(|t| (cell::TAG_LONG..=cell::TAG_DOUBLE).contains(&t));
                if inline && cells.iter().all(|c| Some(cell::tag(*c)) == one) {
                    let beats = *beats;
                    let found = if beats == Ordering::Less { cells.iter().min() } else { cells.iter().max() };
                    if let Some(c) = found {
                        self.push(*c, dict)?;
                    }
                } else {
                    for c in cells {
                        match best {
                            Some(b) if order_cells(*c, *b, dict) != *beats => {}
                            _ => *best = Some(*c),
                        }
                    }
                }
            }
            Group::Sum(total) => cells.iter().try_for_each(|c| total.push(*c, dict))?,
            Group::Avg(total, n) => {
                cells.iter().try_for_each(|c| total.push(*c, dict))?;
                *n += cells.len() as u64;
            }
        }
        Ok(())
    }

    /// Bytes held beyond its own size, for budgets.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Group::Bag { cells, .. } => cells.capacity() * size_of::<Cell>(),
            _ => 0,
        }
    }

    /// The answer.
    pub fn finish(self, dict: &Dict) -> Result<Value, FnError> {
        match self {
            Group::Count(n) => Ok(Value::Long(i64::try_from(n).map_err(|_| FnError::Overflow("long"))?)),
            Group::Sum(total) => total.value(),
            Group::Avg(total, n) => mean(total.double(), n),
            Group::Best(best, _) => Ok(best.map_or(Value::Nil, |c| dict.decode(c))),
            Group::Bag { cells, kind } => kind.of(cells, dict),
        }
    }
}
