//! One file of the log: its header, its records as frames, and how to get near one of them.
//!
//! | header | bytes |
//! |---|---|
//! | magic `ANNALSEG` | 8 |
//! | format | 4, little-endian |
//! | first t | 8, little-endian |
//! | uuid of the database | 16 |
//! | chain hash before the first record | 32 |
//! | crc32c of the above | 4, little-endian |
//!
//! 1. A segment is begun by renaming a synced file into place, so a header that
//!    is wrong is damage and never a torn write.
//! 2. Frames are read through a buffer, in order, and not checked here.
//!
//! Not here: what a record is (`record`), which segments make a log (`log`), where a log ends (`tail`).

use crate::error::{Damage, Res, StorageError};
use crate::fault::{Faults, FileOp};
use crate::record::{self, Chain, FRAME};
use crate::{FORMAT, MAX_RECORD_BYTES};
use annals_model::T;
use parking_lot::Mutex;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use uuid::Uuid;

const MAGIC: &[u8; 8] = b"ANNALSEG";
/// Bytes before the first record.
pub(crate) const HEADER: u64 = 72;
/// How much is read at once, at most: the first read of a range is small, since many a range is, and
/// each one after it twice as large.
pub(crate) const READ_BYTES: usize = 256 << 10;
const FIRST_READ_BYTES: usize = 32 << 10;
/// Distance of the entries of the sparse index: what is passed over, at most, to get to a record.
const SPARSE_BYTES: u64 = 16 << 10;

pub(crate) struct Segment {
    pub path: PathBuf,
    file: File,
    pub first: T,
    /// The chain before its first record.
    pub chain: Chain,
    sparse: Mutex<Sparse>,
}

/// Offsets of some records, found as far as anybody had to look.
struct Sparse {
    entries: Vec<(T, u64)>,
    next_t: T,
    upto: u64,
}

impl Segment {
    pub fn name(first: T) -> String {
        format!("{:020}.seg", first.0)
    }

    pub fn create(dir: &Path, uuid: Uuid, first: T, chain: &Chain, faults: &Faults) -> Res<Segment> {
        let path = dir.join(Segment::name(first));
        let temporary = path.with_extension("tmp");
        let mut header = Vec::with_capacity(HEADER as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&first.0.to_le_bytes());
        header.extend_from_slice(uuid.as_bytes());
        header.extend_from_slice(chain);
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        let make = || -> io::Result<File> {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
            faults.check(FileOp::Write)?;
            file.write_all_at(&header, 0)?;
            faults.check(FileOp::Sync)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            Ok(file)
        };
        let file = make().map_err(|e| StorageError::io("create", &path, e))?;
        sync_dir(dir)?;
        Ok(Segment::of(path, file, first, *chain))
    }

    fn of(path: PathBuf, file: File, first: T, chain: Chain) -> Segment {
        let sparse = Sparse { entries: Vec::new(), next_t: first, upto: HEADER };
        Segment { path, file, first, chain, sparse: Mutex::new(sparse) }
    }

    pub fn open(path: &Path, uuid: Uuid, read_only: bool) -> Res<Segment> {
        let bad = |problem| StorageError::BadSegment { segment: path.into(), problem };
        let file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(path)
            .map_err(|e| StorageError::io("open", path, e))?;
        let mut h = [0; HEADER as usize];
        file.read_exact_at(&mut h, 0).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => bad(Damage::Short),
            _ => StorageError::io("read", path, e),
        })?;
        let number = |r: std::ops::Range<usize>| h[r].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        if &h[..8] != MAGIC {
            return Err(bad(Damage::Layout("it does not begin as a segment does")));
        }
        if crc32c::crc32c(&h[..68]).to_le_bytes() != h[68..72] {
            return Err(bad(Damage::Checksum));
        }
        let format = number(8..12) as u32;
        if format > FORMAT {
            return Err(StorageError::NewerFormat { path: path.into(), found: format, known: FORMAT });
        }
        let first = T(number(12..20));
        if h[20..36] != uuid.as_bytes()[..] {
            return Err(StorageError::Foreign { path: path.into() });
        }
        if path.file_name().is_none_or(|n| n != Segment::name(first).as_str()) {
            return Err(bad(Damage::WrongT { found: first }));
        }
        Ok(Segment::of(path.into(), file, first, h[36..68].try_into().expect("32 bytes")))
    }

    pub fn len(&self) -> Res<u64> {
        Ok(self.file.metadata().map_err(|e| StorageError::io("read", &self.path, e))?.len())
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    pub fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    pub fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Fills `out` with up to `n` bytes from `at`.
    pub fn read_at(&self, at: u64, n: usize, out: &mut Vec<u8>) -> Res<()> {
        out.resize(n, 0);
        let mut got = 0;
        while got < n {
            match self.file.read_at(&mut out[got..], at + got as u64) {
                Ok(0) => break,
                Ok(k) => got += k,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(StorageError::io("read", &self.path, e)),
            }
        }
        out.truncate(got);
        Ok(())
    }

    pub fn bad(&self, offset: u64, t: T, problem: Damage) -> StorageError {
        StorageError::BadRecord { segment: self.path.clone(), offset, t, problem }
    }

    /// The offset of a record at or before `t`, and which; looks no further than `t`.
    pub fn near(&self, t: T) -> Res<(T, u64)> {
        let mut s = self.sparse.lock();
        if t >= s.next_t {
            let mut frames = Frames::new(self, s.upto);
            while s.next_t <= t {
                let at = frames.at;
                let next_t = s.next_t;
                if s.entries.last().is_none_or(|(_, o)| at - o >= SPARSE_BYTES) {
                    s.entries.push((next_t, at));
                }
                frames.next()?.ok_or_else(|| self.bad(at, next_t, Damage::Short))?;
                s.next_t = next_t.next();
                s.upto = frames.at;
            }
        }
        let i = s.entries.partition_point(|(x, _)| *x <= t);
        Ok(if i == 0 { (self.first, HEADER) } else { s.entries[i - 1] })
    }
}

/// Frames of a segment one after the other, through a buffer.
pub(crate) struct Frames<'s> {
    segment: &'s Segment,
    buffer: Vec<u8>,
    /// Offset of the buffer in the file.
    base: u64,
    /// Offset of the next frame in the file.
    pub at: u64,
}

impl<'s> Frames<'s> {
    pub fn new(segment: &'s Segment, at: u64) -> Frames<'s> {
        Frames { segment, buffer: Vec::new(), base: at, at }
    }

    /// The next frame and payload, unchecked; none where the log ends, or the file.
    pub fn next(&mut self) -> Res<Option<(&[u8], &[u8])>> {
        let Some(n) = frame_at(self.segment, &mut self.buffer, &mut self.base, self.at)? else {
            return Ok(None);
        };
        let i = (self.at - self.base) as usize;
        self.at += n as u64;
        Ok(Some(self.buffer[i..i + n].split_at(FRAME)))
    }
}

/// Makes the buffer hold the whole frame at `at`; its length, or none at the end.
pub(crate) fn frame_at(
    segment: &Segment,
    buffer: &mut Vec<u8>,
    base: &mut u64,
    at: u64,
) -> Res<Option<usize>> {
    let have = |buffer: &Vec<u8>, base: u64| (base + buffer.len() as u64).saturating_sub(at) as usize;
    if have(buffer, *base) < FRAME {
        segment.read_at(at, ahead(buffer), buffer)?;
        *base = at;
    }
    let i = (at - *base) as usize;
    let Some(len) = buffer.get(i..i + FRAME).and_then(record::payload_len) else { return Ok(None) };
    if len > MAX_RECORD_BYTES {
        return Ok(None);
    }
    let n = FRAME + len;
    if have(buffer, *base) < n {
        segment.read_at(at, n.max(ahead(buffer)), buffer)?;
        *base = at;
        if buffer.len() < n {
            return Ok(None);
        }
    }
    Ok(Some(n))
}

/// How much the next read fetches, from what the last one did.
fn ahead(buffer: &[u8]) -> usize {
    (2 * buffer.len()).clamp(FIRST_READ_BYTES, READ_BYTES)
}

pub(crate) fn sync_dir(dir: &Path) -> Res<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| StorageError::io("sync", dir, e))
}

/// Segment files of a folder in order; half-made ones are left out.
pub(crate) fn segment_files(dir: &Path) -> Res<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => StorageError::Missing { path: dir.into() },
        _ => StorageError::io("list", dir, e),
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| StorageError::io("list", dir, e))?.path();
        if path.extension().is_some_and(|x| x == "seg") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
