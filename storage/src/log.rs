//! The log: the truth, in segment files that are only ever appended to.
//!
//! ```text
//! log/00000000000000000000.seg    header · records t0 … · (zeros, preallocated)
//! log/00000000000000081920.seg    named by its first t
//! ```
//!
//! 1. One flush is one write at the end of the last segment and one sync.
//! 2. Bytes past the last sound record are dropped at open when they can only be a
//!    write that was cut short (`tail`); else the record is named as damaged.
//! 3. Reading never locks out writing: a reader stops at the t it was given,
//!    which was published, hence written, before.
//!
//! Not here: the files (`segment`), the bytes of a record (`record`).

mod reader;

use crate::MAX_RECORD_BYTES;
use crate::error::{Damage, Res, StorageError};
use crate::fault::{Faults, FileOp};
use crate::record::{self, Chain, FRAME};
use crate::segment::{Frames, HEADER, Segment, segment_files};
use crate::tail;
use crate::types::{Durability, Record};
use annals_model::T;
use parking_lot::{Mutex, RwLock};
pub use reader::LogIter;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use uuid::Uuid;

const MIN_AHEAD: u64 = 64 << 10;
const MAX_AHEAD: u64 = 4 << 20;

/// A place between two records: right after record `t`, which begins at `record_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The record before; none before genesis.
    pub t: Option<T>,
    /// First t of the segment.
    pub segment: T,
    pub record_at: u64,
    pub offset: u64,
    pub chain: Chain,
}

/// Where records are kept.
pub(crate) enum Log {
    Memory(Arc<RwLock<Vec<Arc<Record>>>>),
    Files(Arc<FileLog>),
}

impl Log {
    pub fn memory() -> Log {
        Log::Memory(Arc::default())
    }

    pub fn append(&self, records: &[Arc<Record>]) -> Res<()> {
        match self {
            Log::Memory(all) => {
                all.write().extend_from_slice(records);
                Ok(())
            }
            Log::Files(f) => f.append(records),
        }
    }
}

/// A log in a folder.
pub(crate) struct FileLog {
    dir: PathBuf,
    uuid: Uuid,
    options: LogOptions,
    segments: RwLock<Vec<Arc<Segment>>>,
    tail: Mutex<Tail>,
}

#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    pub durability: Durability,
    pub segment_bytes: u64,
    pub faults: Faults,
    pub read_only: bool,
}

struct Tail {
    end: Position,
    allocated: u64,
    /// First t that is not yet synced, when there is one.
    group: Option<T>,
    buffer: Vec<u8>,
}

/// What a replay tells of each record.
pub(crate) struct Replayed<'r> {
    pub record: Record,
    pub at: &'r Position,
}

/// Called with each record of a replay.
pub(crate) type Each<'e> = dyn FnMut(Replayed<'_>) -> Res<()> + 'e;

impl FileLog {
    /// Makes an empty log in a new folder.
    pub fn create(dir: &Path, uuid: Uuid, options: LogOptions) -> Res<FileLog> {
        fs::create_dir_all(dir).map_err(|e| StorageError::io("create", dir, e))?;
        let segment = Segment::create(dir, uuid, T(0), &[0; 32], &options.faults)?;
        let end = Position { t: None, segment: T(0), record_at: HEADER, offset: HEADER, chain: [0; 32] };
        let tail = Tail { end, allocated: HEADER, group: None, buffer: Vec::new() };
        let segments = RwLock::new(vec![Arc::new(segment)]);
        Ok(FileLog { dir: dir.into(), uuid, options, segments, tail: Mutex::new(tail) })
    }

    /// Opens a log and replays it from a position (from its beginning when none),
    /// checking checksums, numbers and chain; drops a torn end.
    pub fn open(
        dir: &Path,
        uuid: Uuid,
        options: LogOptions,
        from: Option<&Position>,
        each: &mut Each<'_>,
    ) -> Res<FileLog> {
        let mut segments = Vec::new();
        for path in segment_files(dir)? {
            segments.push(Arc::new(Segment::open(&path, uuid, options.read_only)?));
        }
        if segments.is_empty() {
            return Err(StorageError::Missing { path: dir.join(Segment::name(T(0))) });
        }
        if segments[0].first != T(0) {
            return Err(StorageError::Missing { path: dir.join(Segment::name(T(0))) });
        }
        let mut log = FileLog {
            dir: dir.into(),
            uuid,
            options,
            segments: RwLock::new(segments),
            tail: Mutex::new(Tail { end: log_start(), allocated: 0, group: None, buffer: Vec::new() }),
        };
        let start = match from {
            Some(p) => {
                log.check_position(p)?;
                *p
            }
            None => log_start(),
        };
        let end = log.replay(start, each)?;
        let last = log.segments.get_mut().last().expect("not empty, checked above").clone();
        if !log.options.read_only {
            let io = |e| StorageError::io("truncate", &last.path, e);
            if last.len()? > end.offset && tail::data_behind(&last, end.offset)? {
                last.set_len(end.offset).map_err(io)?;
            }
            // What was read from here on counts as written, whoever wrote it and however.
            last.sync_all().map_err(io)?;
        }
        let allocated = last.len()?.max(end.offset);
        *log.tail.get_mut() = Tail { end, allocated, group: None, buffer: Vec::new() };
        Ok(log)
    }

    /// Is the record that a position stands behind there, with that chain?
    pub fn check_position(&self, p: &Position) -> Res<()> {
        let segments = self.segments.read();
        let Some(s) = segments.iter().find(|s| s.first == p.segment) else {
            let newest = segments.last().map_or(T(0), |s| s.first);
            return Err(match p.t {
                Some(t) if newest < p.segment => StorageError::LogShort { log: newest, indexed: t },
                _ => StorageError::Missing { path: self.dir.join(Segment::name(p.segment)) },
            });
        };
        let Some(t) = p.t else { return Ok(()) };
        if p.offset == HEADER {
            // The segment begins right behind the record: its header has the chain.
            return if s.chain == p.chain { Ok(()) } else { Err(s.bad(HEADER, t, Damage::Chain)) };
        }
        let mut frames = Frames::new(s, p.record_at);
        let end = |payload: &[u8]| p.record_at + (FRAME + payload.len()) as u64;
        let problem = match frames.next()? {
            None => Damage::Short,
            Some((frame, payload)) if !record::sound(frame, payload) => Damage::Checksum,
            Some((_, payload)) => match (record::head(payload), record::body_and_link(payload)) {
                (Ok((found, _)), _) if found != t => Damage::WrongT { found },
                (Ok(_), Ok((_, link))) if link == &p.chain[..link.len()] && end(payload) == p.offset => {
                    return Ok(());
                }
                (Ok(_), Ok(_)) => Damage::Chain,
                (Err(d), _) | (_, Err(d)) => d,
            },
        };
        Err(s.bad(p.record_at, t, problem))
    }

    /// Reads every record behind a position; where the log ends.
    pub fn replay(&self, from: Position, each: &mut Each<'_>) -> Res<Position> {
        let segments = self.segments.read().clone();
        let mut at = from;
        let first = segments.partition_point(|s| s.first < from.segment);
        for (i, s) in segments.iter().enumerate().skip(first) {
            let last = i + 1 == segments.len();
            if s.first != at.segment {
                let next = at.t.map_or(T(0), T::next);
                if s.first != next {
                    let before = at.t.unwrap_or(T(0));
                    return Err(StorageError::BadSegment {
                        segment: s.path.clone(),
                        problem: Damage::Gap { before },
                    });
                }
                if s.chain != at.chain {
                    return Err(StorageError::BadSegment { segment: s.path.clone(), problem: Damage::Chain });
                }
                at = Position { segment: s.first, record_at: HEADER, offset: HEADER, ..at };
            }
            self.replay_segment(s, last, &mut at, each)?;
        }
        Ok(at)
    }

    fn replay_segment(&self, s: &Segment, last: bool, at: &mut Position, each: &mut Each<'_>) -> Res<()> {
        let mut frames = Frames::new(s, at.offset);
        loop {
            let t = at.t.map_or(T(0), T::next);
            let record_at = frames.at;
            let problem = match frames.next()? {
                Some((frame, payload)) if record::sound(frame, payload) => {
                    let bad = |problem| s.bad(record_at, t, problem);
                    let (found, _) = record::head(payload).map_err(bad)?;
                    if found != t {
                        return Err(bad(Damage::WrongT { found }));
                    }
                    let (body, link) = record::body_and_link(payload).map_err(bad)?;
                    let chain = record::link(&at.chain, body);
                    if link != &chain[..link.len()] {
                        return Err(bad(Damage::Chain));
                    }
                    let r = record::read(payload).map_err(bad)?;
                    let offset = record_at + (FRAME + payload.len()) as u64;
                    *at = Position { t: Some(t), segment: s.first, record_at, offset, chain };
                    each(Replayed { record: r, at })?;
                    continue;
                }
                Some(_) => Damage::Checksum,
                None => Damage::Short,
            };
            // No sound record here: the end of the log, a torn write, or damage.
            let len = s.len()?;
            let ended = len == record_at;
            if !(ended || last) || (last && tail::was_whole(s, record_at, t, &at.chain)?) {
                return Err(s.bad(record_at, t, problem));
            }
            return Ok(());
        }
    }

    /// Writes records at the end and syncs.
    pub fn append(&self, records: &[Arc<Record>]) -> Res<()> {
        let mut tail = self.tail.lock();
        let tail = &mut *tail;
        let first = records.first().map_or(T(0), |r| r.t);
        let group = *tail.group.get_or_insert(first);
        let mut segment = self.segments.read().last().expect("a log has a segment").clone();
        let (mut end, mut buffer) = (tail.end, std::mem::take(&mut tail.buffer));
        buffer.clear();
        let base = end.offset;
        for r in records {
            end.record_at = base + buffer.len() as u64;
            record::write(r, group, &mut end.chain, &mut buffer);
            let bytes = buffer.len() - (end.record_at - base) as usize - FRAME;
            if bytes > MAX_RECORD_BYTES {
                return Err(StorageError::RecordTooLarge { t: r.t, bytes });
            }
            end.t = Some(r.t);
        }
        if base > HEADER && base + buffer.len() as u64 > self.options.segment_bytes {
            segment = self.roll(&segment, tail, first)?;
            let shift = base - HEADER;
            end.record_at -= shift;
            end.segment = first;
        }
        let at = tail.end.offset;
        end.offset = at + buffer.len() as u64;
        if end.offset > tail.allocated {
            // Zeros ahead, written now: later syncs need not change the file's size. Where few syncs follow, to
            // write all twice would cost more.
            let ahead = match self.options.durability {
                Durability::Full => end.offset.clamp(MIN_AHEAD, MAX_AHEAD),
                Durability::Relaxed => 0,
            };
            let zeros = self.options.segment_bytes.max(end.offset).min(end.offset + ahead) - end.offset;
            tail.allocated = end.offset + zeros;
            buffer.resize(buffer.len() + zeros as usize, 0);
        }
        let faults = &self.options.faults;
        faults
            .check(FileOp::Write)
            .and_then(|()| segment.write_at(&buffer, at))
            .map_err(|e| StorageError::io("write", &segment.path, e))?;
        if self.options.durability == Durability::Full {
            self.sync_segment(&segment)?;
            tail.group = None;
        }
        tail.end = end;
        if buffer.capacity() <= 1 << 20 {
            tail.buffer = buffer;
        }
        Ok(())
    }

    fn sync_segment(&self, s: &Segment) -> Res<()> {
        let sync = self.options.faults.check(FileOp::Sync).and_then(|()| s.sync_data());
        sync.map_err(|e| StorageError::io("sync", &s.path, e))
    }

    /// Makes everything written durable, whatever the durability.
    pub fn sync(&self) -> Res<()> {
        if self.options.read_only {
            return Ok(());
        }
        let mut tail = self.tail.lock();
        if tail.group.is_some() {
            let last = self.segments.read().last().expect("a log has a segment").clone();
            self.sync_segment(&last)?;
            tail.group = None;
        }
        Ok(())
    }

    fn roll(&self, old: &Segment, tail: &mut Tail, first: T) -> Res<Arc<Segment>> {
        old.set_len(tail.end.offset)
            .and_then(|()| self.options.faults.check(FileOp::Sync))
            .and_then(|()| old.sync_all())
            .map_err(|e| StorageError::io("close", &old.path, e))?;
        let chain = tail.end.chain;
        let new = Arc::new(Segment::create(&self.dir, self.uuid, first, &chain, &self.options.faults)?);
        self.segments.write().push(new.clone());
        tail.end = Position { segment: first, record_at: HEADER, offset: HEADER, ..tail.end };
        tail.allocated = HEADER;
        tail.group = tail.group.map(|_| first);
        Ok(new)
    }

    /// Where the log ends.
    pub fn end(&self) -> Position {
        self.tail.lock().end
    }

    /// Goes on as another log, which has taken the place of this one's files.
    /// Readers under way keep the files they have open.
    pub fn adopt(&self, other: FileLog) {
        *self.segments.write() = other.segments.into_inner();
        *self.tail.lock() = other.tail.into_inner();
    }

    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Segment files with the bytes of each that hold records, oldest first.
    pub fn files(&self) -> Res<Vec<(Arc<Segment>, u64)>> {
        let end = self.end();
        let segments = self.segments.read().clone();
        segments
            .into_iter()
            .filter(|s| s.first <= end.segment)
            .map(|s| {
                let n = if s.first == end.segment { end.offset } else { s.len()? };
                Ok((s, n))
            })
            .collect()
    }

    /// Bytes on disk, preallocated ones included.
    pub fn disk_bytes(&self) -> Res<u64> {
        self.segments.read().iter().map(|s| s.len()).sum()
    }
}

/// The place before genesis.
pub(crate) fn log_start() -> Position {
    Position { t: None, segment: T(0), record_at: HEADER, offset: HEADER, chain: [0; 32] }
}
