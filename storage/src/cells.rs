//! Bytes of values to cells.

use crate::error::{Res, StorageError};
use annals_model::{Dict, Value, codec};

/// Cells of values that come sorted: equal ones are decoded once.
pub(crate) struct Cells<'d> {
    dict: &'d Dict,
    last: Vec<u8>,
    cell: u64,
}

impl Cells<'_> {
    pub fn new(dict: &Dict) -> Cells<'_> {
        Cells { dict, last: Vec::new(), cell: 0 }
    }

    /// The cell of a value's encoding.
    pub fn of(&mut self, bytes: &[u8]) -> Res<u64> {
        if self.last != bytes {
            self.last.clear();
            self.last.extend_from_slice(bytes);
            let v = match codec::decode_long(bytes).map_err(StorageError::index)? {
                Some((n, _)) => Value::Long(n),
                None => codec::decode(bytes).map_err(StorageError::index)?.0,
            };
            self.cell = self.dict.encode(&v);
        }
        Ok(self.cell)
    }
}
