//! Published records of a range of t, in order.
//!
//! Checksums and numbers are checked as records are read; the chain was when the log was opened.

use super::{FileLog, Log};
use crate::error::{Damage, Res};
use crate::record::{self, FRAME};
use crate::segment::{HEADER, Segment, frame_at};
use crate::types::Record;
use annals_model::T;
use parking_lot::RwLock;
use std::sync::Arc;

impl Log {
    /// The records of `[from, to)`; the caller knows that they are published.
    pub fn read(&self, from: T, to: T) -> Res<LogIter> {
        Ok(LogIter(match self {
            Log::Memory(all) => Iter::Memory { all: all.clone(), next: from, to },
            Log::Files(f) if from < to => Iter::Files(Box::new(f.reader(from, to)?)),
            Log::Files(_) => Iter::Done,
        }))
    }
}

/// Published records in order.
pub struct LogIter(Iter);

enum Iter {
    Memory { all: Arc<RwLock<Vec<Arc<Record>>>>, next: T, to: T },
    Files(Box<FileReader>),
    Done,
}

impl Iterator for LogIter {
    type Item = Res<Record>;

    fn next(&mut self) -> Option<Res<Record>> {
        match &mut self.0 {
            Iter::Done => None,
            Iter::Memory { next, to, .. } if *next >= *to => None,
            Iter::Memory { all, next, .. } => {
                let r = all.read().get(next.0 as usize)?.as_ref().clone();
                *next = next.next();
                Some(Ok(r))
            }
            Iter::Files(reader) => {
                let r = reader.next();
                if !matches!(r, Some(Ok(_))) {
                    self.0 = Iter::Done;
                }
                r
            }
        }
    }
}

impl FileLog {
    fn reader(self: &Arc<Self>, from: T, to: T) -> Res<FileReader> {
        let segments = self.segments.read().clone();
        let i = segments.partition_point(|s| s.first <= from).saturating_sub(1);
        let (next, at) = segments[i].near(from)?;
        let mut reader = FileReader { segments, segment: i, buffer: Vec::new(), base: at, at, next, to };
        while reader.next < from {
            reader.advance()?;
        }
        Ok(reader)
    }
}

/// Reads records of a known range.
struct FileReader {
    segments: Vec<Arc<Segment>>,
    segment: usize,
    buffer: Vec<u8>,
    base: u64,
    at: u64,
    next: T,
    to: T,
}

impl FileReader {
    /// Moves past the next record; where its frame is in the buffer.
    fn advance(&mut self) -> Res<(usize, usize)> {
        if self.segments.get(self.segment + 1).is_some_and(|s| s.first <= self.next) {
            self.segment += 1;
            self.buffer.clear();
            (self.base, self.at) = (HEADER, HEADER);
        }
        let s = &self.segments[self.segment];
        let Some(n) = frame_at(s, &mut self.buffer, &mut self.base, self.at)? else {
            return Err(s.bad(self.at, self.next, Damage::Short));
        };
        let i = (self.at - self.base) as usize;
        self.at += n as u64;
        self.next = self.next.next();
        Ok((i, n))
    }

    fn next(&mut self) -> Option<Res<Record>> {
        if self.next >= self.to {
            return None;
        }
        let (t, at) = (self.next, self.at);
        Some(self.advance().and_then(|(i, n)| {
            let s = &self.segments[self.segment];
            let at = if at > self.at { HEADER } else { at };
            let (frame, payload) = self.buffer[i..i + n].split_at(FRAME);
            if !record::sound(frame, payload) {
                return Err(s.bad(at, t, Damage::Checksum));
            }
            let r = record::read(payload).map_err(|d| s.bad(at, t, d))?;
            if r.t == t { Ok(r) } else { Err(s.bad(at, t, Damage::WrongT { found: r.t })) }
        }))
    }
}
