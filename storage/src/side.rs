//! Side rows: bytes under keys, by transaction, read as of a basis.
//!
//! 1. Every version is a row of its own, `table · key · t`; the newest up to the basis counts.
//! 2. A deletion is a version too.

use crate::error::{Damage, Res, StorageError};
use crate::key::{self, Key};
use crate::kv::{Db, Step};
use crate::read::{Locked, Range};
use annals_model::T;
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

impl Locked<'_> {
    /// The newest version of a side row that the basis knows.
    pub fn side_row(&self, basis: T, table: u8, k: &[u8]) -> Res<Option<Vec<u8>>> {
        let (lo, hi) = (key::row_prefix(table, k), key::of_row(table, k, basis));
        for d in self.deltas.iter().rev() {
            let bounds = (Bound::Included(&lo[..]), Bound::Included(&hi[..]));
            if let Some((_, value)) = d.rows.range::<[u8], _>(bounds).next_back() {
                return Ok(value.as_ref().map(|v| v.to_vec()));
            }
        }
        let Some(base) = &self.layers.base else { return Ok(None) };
        let mut to = hi;
        to.push(0);
        let mut found = None;
        base.walk(Db::Rows, &lo, Some(&to), true, &mut |_, value| {
            found = read_row(value)?.map(<[u8]>::to_vec);
            Ok(Step::Stop)
        })?;
        Ok(found)
    }

    /// Up to about `n` versions of side rows in a range of keys, newest version
    /// of each row last; and where the next chunk begins (or, backwards, ends).
    pub fn side_rows(&self, range: &Range, back: bool, n: usize) -> Res<(Versions, Option<Key>)> {
        let mut found: Versions = BTreeMap::new();
        let mut end: Option<Key> = None;
        let mut take = |seen: &mut usize, group: &mut Key, k: &[u8], v: Option<&[u8]>| -> Res<bool> {
            let prefix = &k[..key::parse_row(k)?.0];
            if *seen >= n && prefix != &group[..] {
                // Forward, the next chunk begins here; backward, it ends at the group just done.
                let edge = if back { group.clone() } else { Key::from_slice(prefix) };
                let old = end.take();
                end = Some(old.map_or(edge.clone(), |o| if back { o.max(edge) } else { o.min(edge) }));
                return Ok(true);
            }
            if prefix != &group[..] {
                *group = Key::from_slice(prefix);
            }
            *seen += 1;
            found.insert(Key::from_slice(k), v.map(Arc::from));
            Ok(false)
        };
        if let Some(base) = &self.layers.base {
            let (mut seen, mut group) = (0, Key::new());
            base.walk(Db::Rows, &range.from, range.to.as_deref(), back, &mut |k, v| {
                Ok(if take(&mut seen, &mut group, k, read_row(v)?)? { Step::Stop } else { Step::Next })
            })?;
        }
        for d in &self.deltas {
            if range.is_empty() {
                break;
            }
            let (mut seen, mut group) = (0, Key::new());
            let rows = d.rows.range::<Key, _>(range.bounds());
            let rows: Box<dyn Iterator<Item = _>> = if back { Box::new(rows.rev()) } else { Box::new(rows) };
            for (k, v) in rows {
                if take(&mut seen, &mut group, k, v.as_deref())? {
                    break;
                }
            }
        }
        // What lies past the nearest edge was only read by some layers.
        if let Some(edge) = &end {
            if back {
                found = found.split_off(edge);
            } else {
                found.split_off(edge);
            }
        }
        Ok((found, end))
    }
}

/// Versions of side rows by their full keys.
pub(crate) type Versions = BTreeMap<Key, Option<Arc<[u8]>>>;

/// The bytes of a stored side row: none for a deletion.
pub(crate) fn read_row(stored: &[u8]) -> Res<Option<&[u8]>> {
    match stored.split_first() {
        Some((0, [])) => Ok(None),
        Some((1, value)) => Ok(Some(value)),
        _ => Err(StorageError::index(Damage::Layout("a side row is neither bytes nor a deletion"))),
    }
}
