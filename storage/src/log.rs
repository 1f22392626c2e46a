//! The log of a store in memory.
use crate::error::Res;
use crate::types::Record;
use annals_model::T;
use parking_lot::RwLock;
use std::sync::Arc;

/// Where records are kept.
pub(crate) enum Log {
    Memory(Arc<RwLock<Vec<Arc<Record>>>>),
}

impl Log {
    pub fn memory() -> Log {
        Log::Memory(Arc::default())
    }
    pub fn append(&self, records: &[Arc<Record>]) -> Res<()> {
        match self {
            Log::Memory(all) => all.write().extend_from_slice(records),
        }
        Ok(())
    }
    pub fn read(&self, from: T, to: T) -> Res<LogIter> {
        match self {
            Log::Memory(all) => Ok(LogIter { all: all.clone(), next: from, to }),
        }
    }
}

/// Records in order.
pub struct LogIter {
    all: Arc<RwLock<Vec<Arc<Record>>>>,
    next: T,
    to: T,
}

impl Iterator for LogIter {
    type Item = Res<Record>;
    fn next(&mut self) -> Option<Res<Record>> {
        if self.next >= self.to {
            return None;
        }
        let r = self.all.read().get(self.next.0 as usize)?.as_ref().clone();
        self.next = self.next.next();
        Some(Ok(r))
    }
}
