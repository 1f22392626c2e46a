//! Verify: is the log what was written, and are the indexes what the log says?
//!
//! 1. The log is read whole: checksums, numbers, chain.
//! 2. The indexes are compared, row by row and both ways, with a fold of the
//!    log up to their checkpoint, reading pages by `pages` and not by LMDB.
//! 3. Damage is reported, never repaired, and never a panic.
//! 4. Memory is bounded: a log whose fold would be larger than
//!    [`VerifyOptions::memory_bytes`] is folded in parts, by entity. Each part reads log and
//!    indexes again and compares the rows of its entities, so every row is compared once.
//!    What stays beside a part is one record, one attribute's counts each, and a bit a page.

use crate::counts::Stats;
use crate::error::{Res, StorageError};
use crate::index;
use crate::key::{self, HASH, Parts, Tree};
use crate::log::{FileLog, Log, Position, log_start};
use crate::novelty::{Below, Delta, Open};
use crate::pages::Pages;
use crate::rows::put_known;
use crate::store::{Core, Store};
use crate::types::Record;
use annals_model::{AttrId, Datom, EntityId, Instant, T, Value, codec};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How to verify.
pub struct VerifyOptions<'p> {
    /// About how much memory the fold of the log may take. (The longest record comes on top.)
    pub memory_bytes: usize,
    /// Told now and then how far it is.
    pub progress: Option<&'p mut dyn FnMut(VerifyProgress)>,
}

impl Default for VerifyOptions<'_> {
    fn default() -> Self {
        VerifyOptions { memory_bytes: 1 << 30, progress: None }
    }
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Which reading of the log, from 1 on.
    pub pass: u32,
    /// How many there will be, as far as is known.
    pub passes: u32,
    /// The record it is at.
    pub t: T,
    /// The last record there is.
    pub upto: T,
}

/// Records between two tellings of progress.
const TELL: u64 = 10_000;

/// What [`Store::verify`] found.
#[derive(Clone, Debug)]
pub struct VerifyReport {
    /// Sound records from genesis on.
    pub records: u64,
    /// Datoms in them.
    pub datoms: u64,
    /// The chain hash after the last of them: two logs with the same are the same.
    pub chain: [u8; 32],
    /// The record the indexes stand at; what is newer is in memory only.
    pub indexed: T,
    /// Rows of the indexes compared.
    pub rows: u64,
    /// What is wrong; empty when all is well. At most [`VerifyReport::MAX_PROBLEMS`].
    pub problems: Vec<StorageError>,
}

impl VerifyReport {
    /// After so many problems the comparison stops.
    pub const MAX_PROBLEMS: usize = 100;

    /// Is everything as it should be?
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Nothing lies below a fold that begins at genesis.
pub(crate) struct Nothing;

impl Below for Nothing {
    fn open(&self, _: &Parts<'_>, _: &dyn Fn(&[u8]) -> bool) -> Res<Option<Open>> {
        Ok(None)
    }

    fn precede(&self, _: AttrId, _: T) -> bool {
        true
    }
}

/// A log folded into trees in memory.
#[derive(Default)]
pub(crate) struct Fold {
    pub delta: Delta,
    pub stats: Stats,
    pub instants: Vec<(T, Instant)>,
}

impl Fold {
    pub fn apply(&mut self, r: &Record, below: &dyn Below) -> Res<()> {
        let mut undo = Vec::new();
        self.delta.apply_record(r, below, &mut undo)?;
        self.stats.apply(r);
        self.instants.push((r.t, r.instant));
        Ok(())
    }
}

/// The rows of which a pass over the log takes care.
#[derive(Clone, Copy)]
struct Part {
    of: u64,
    this: u64,
}

impl Part {
    const WHOLE: Part = Part { of: 1, this: 0 };

    fn has(self, hash: u64) -> bool {
        self.of == 1 || hash % self.of == self.this
    }
    fn entity(self, e: EntityId) -> bool {
        self.has(e.raw().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20)
    }
    /// Side rows, long values, blocks of instants: by key.
    fn bytes(self, key: &[u8]) -> bool {
        self.has(u64::from(crc32c::crc32c(key)))
    }
    /// Keys that cannot be read are the first part's: it reports them.
    fn fact(self, tree: Tree, k: &[u8]) -> bool {
        key::parse(tree, k).map_or(self.this == 0, |p| self.entity(p.e))
    }
}

/// What the rows of one part should be.
#[derive(Default)]
struct Expected {
    fold: Fold,
    blobs: BTreeMap<[u8; HASH], Arc<[u8]>>,
    /// About the memory all this takes.
    bytes: usize,
}

/// What a fact takes in two trees of novelty, its keys being short.
const FACT_BYTES: usize = 240;
const ROW_BYTES: usize = 120;

impl Expected {
    fn apply(&mut self, mut r: Record, part: Part) -> Res<()> {
        for d in &r.datoms {
            let Some((hash, full)) = long_value(&d.v) else { continue };
            if part.bytes(&hash) && !self.blobs.contains_key(&hash) {
                self.bytes += ROW_BYTES + full.len();
                self.blobs.insert(hash, full.into());
            }
        }
        r.datoms.retain(|d| part.entity(d.e));
        r.rows.retain(|row| part.bytes(&key::of_row(row.table, &row.key, r.t)));
        self.bytes += r.datoms.iter().map(fact_bytes).sum::<usize>();
        let row_bytes = |row: &crate::types::Row| row.key.len() + row.value.as_ref().map_or(0, Vec::len);
        self.bytes += r.rows.iter().map(|row| ROW_BYTES + row_bytes(row)).sum::<usize>();
        self.fold.apply(&r, &Nothing)?;
        if part.bytes(&index::block_key(r.t)) {
            self.bytes += size_of::<(T, Instant)>();
        } else {
            self.fold.instants.pop();
        }
        self.fold.delta.blobs.clear();
        Ok(())
    }
}

fn fact_bytes(d: &Datom) -> usize {
    let value = match &d.v {
        Value::String(s) | Value::Uri(s) => s.len(),
        Value::Bytes(b) => b.len(),
        v if is_short(v) => 0,
        v => codec::encoded(v).len(),
    };
    // An assertion adds a row to two trees, a retraction moves one. Keys past 36 bytes are on the heap.
    if d.added { FACT_BYTES + if value > 16 { 2 * value.min(key::VALUE_MAX) } else { 0 } } else { 0 }
}

/// Values whose encoding is never cut.
fn is_short(v: &Value) -> bool {
    use Value::{Bool, Char, Double, Instant, Long, Nil, Ref, Uuid};
    matches!(v, Nil | Bool(_) | Long(_) | Double(_) | Instant(_) | Uuid(_) | Ref(_) | Char(_))
}

fn long_value(v: &Value) -> Option<key::Cut> {
    if is_short(v) { None } else { key::value_in_key(codec::encoded(v)).1 }
}

impl Store {
    /// Checks the log and compares the indexes with it. Checkpoints wait meanwhile.
    pub fn verify(&self) -> Res<VerifyReport> {
        self.verify_with(VerifyOptions::default())
    }

    /// The same, within so much memory, telling how far it is.
    pub fn verify_with(&self, options: VerifyOptions<'_>) -> Res<VerifyReport> {
        self.core.verify(options)
    }
}

impl Core {
    fn verify(&self, mut options: VerifyOptions<'_>) -> Res<VerifyReport> {
        let _one = self.checkpoints.one.lock();
        let mut report = VerifyReport {
            records: 0,
            datoms: 0,
            chain: [0; 32],
            indexed: T(0),
            rows: 0,
            problems: Vec::new(),
        };
        let basis = self.basis();
        let (Log::Files(log), Some(folder)) = (&self.log, &self.folder) else {
            for r in self.log.read(T(0), basis.next())? {
                report.records += 1;
                report.datoms += r?.datoms.len() as u64;
            }
            report.indexed = basis;
            return Ok(report);
        };
        let read_about = |mut pages: Pages| -> Res<_> {
            let about = index::about_in_pages(&mut pages)?;
            let dropped = index::dropped_in_pages(&mut pages)?;
            Ok((pages, about, dropped))
        };
        let index = match Pages::open(&folder.index()).and_then(read_about) {
            Ok(index) => Some(index),
            Err(e) => {
                report.problems.push(e);
                None
            }
        };
        let about = index.as_ref().and_then(|i| i.1.as_ref());
        let indexed = about.and_then(|a| a.position.t);
        report.indexed = indexed.unwrap_or(T(0));

        let (mut pass, mut passes) = (1, 1);
        let mut tell = |pass, passes, t: T| {
            if let Some(progress) = &mut options.progress
                && (t.0.is_multiple_of(TELL) || t == basis)
            {
                progress(VerifyProgress { pass, passes, t, upto: basis });
            }
        };
        // The whole is folded as long as it fits; what it would take is counted in any case.
        let (mut expected, mut stats, mut bytes) = (Some(Expected::default()), Stats::default(), 0);
        let mut met: Option<Position> = None;
        let end = read_log(log, basis, &mut report, &mut |r, at| {
            let t = r.t;
            tell(pass, passes, t);
            if indexed.is_some_and(|upto| t <= upto) {
                stats.apply(&r);
                match &mut expected {
                    Some(whole) => {
                        whole.apply(r, Part::WHOLE)?;
                        bytes = whole.bytes;
                        if bytes > options.memory_bytes {
                            expected = None;
                        }
                    }
                    None => {
                        bytes += size_of::<(T, Instant)>() + r.datoms.iter().map(fact_bytes).sum::<usize>();
                        bytes += r.rows.iter().map(|row| ROW_BYTES + row.key.len()).sum::<usize>();
                    }
                }
            }
            if Some(t) == indexed {
                met = Some(*at);
            }
            Ok(())
        });
        if let Err(e) = end {
            // What lies behind damage cannot be folded, so there is nothing to compare with.
            report.problems.push(e);
            return Ok(report);
        }
        let Some((mut pages, Some(about), dropped)) = index else { return Ok(report) };
        match met {
            Some(at) if at == about.position => {}
            Some(_) => report.problems.push(differs("meta", "the position in the log", false)),
            None => report.problems.push(StorageError::LogShort {
                log: T(report.records.saturating_sub(1)),
                indexed: report.indexed,
            }),
        }
        if about.stats.counters != stats.counters || about.stats.sorted() != stats.sorted() {
            report.problems.push(differs("meta", "the counts", false));
        }
        if let Some(whole) = expected {
            compare_part(&mut pages, &whole, Part::WHOLE, &dropped, &mut report);
            return Ok(report);
        }
        let of = (bytes / options.memory_bytes.max(1)) as u64 + 2;
        passes = 1 + u32::try_from(of).unwrap_or(u32::MAX);
        for this in 0..of {
            pass += 1;
            let part = Part { of, this };
            let mut expected = Expected::default();
            log.replay(log_start(), &mut |r| {
                let t = r.record.t;
                if t <= basis {
                    tell(pass, passes, t);
                }
                if indexed.is_some_and(|upto| t <= upto) { expected.apply(r.record, part) } else { Ok(()) }
            })?;
            compare_part(&mut pages, &expected, part, &dropped, &mut report);
            if report.problems.len() >= VerifyReport::MAX_PROBLEMS {
                break;
            }
        }
        Ok(report)
    }
}

/// Compares the rows of a part with what they should be.
fn compare_part(
    pages: &mut Pages,
    expected: &Expected,
    part: Part,
    dropped: &BTreeSet<AttrId>,
    report: &mut VerifyReport,
) {
    let Expected { fold, blobs, .. } = expected;
    let mut all = || -> Res<()> {
        for tree in Tree::ALL {
            let rows = fold.delta.added(tree).map(|(k, known)| {
                let p = key::parse(tree, k)?;
                let mut value = Vec::new();
                put_known(p.start, p.end, known, &mut value);
                Ok((k.to_vec(), value))
            });
            let optional =
                |k: &[u8]| key::parse(tree, k).is_ok_and(|p| p.end != T::MAX && dropped.contains(&p.a));
            compare(pages, NAMES[tree as usize], rows, &|k| part.fact(tree, k), &optional, report)?;
        }
        let rows = fold.delta.rows.iter().map(|(k, v)| {
            let mut value = vec![u8::from(v.is_some())];
            value.extend_from_slice(v.as_deref().unwrap_or_default());
            Ok((k.to_vec(), value))
        });
        let mine = |k: &[u8]| part.bytes(k);
        compare(pages, "rows", rows, &mine, &|_| false, report)?;
        let rows = blobs.iter().map(|(k, v)| Ok((k.to_vec(), v.to_vec())));
        compare(pages, "blob", rows, &mine, &|_| false, report)?;
        let rows = index::instant_rows(&fold.instants).into_iter().filter(|(k, _)| mine(k)).map(Ok);
        compare(pages, "times", rows, &mine, &|_| false, report)
    };
    if let Err(e) = all() {
        report.problems.push(e);
    }
}

const NAMES: [&str; 4] = ["eav", "ave", "heav", "have"];

/// Reads every record up to the basis, counting.
fn read_log(
    log: &FileLog,
    basis: T,
    report: &mut VerifyReport,
    each: &mut dyn FnMut(Record, &Position) -> Res<()>,
) -> Res<()> {
    let mut newest = None;
    log.replay(log_start(), &mut |r| {
        if r.record.t <= basis {
            report.records += 1;
            report.datoms += r.record.datoms.len() as u64;
            report.chain = r.at.chain;
            newest = Some(r.record.t);
            each(r.record, r.at)?;
        }
        Ok(())
    })?;
    match newest {
        Some(t) if t == basis => Ok(()),
        _ => Err(StorageError::LogShort { log: newest.unwrap_or(T(0)), indexed: basis }),
    }
}

fn differs(tree: &'static str, row: impl Into<String>, missing: bool) -> StorageError {
    StorageError::IndexDiffers { tree, row: row.into(), missing }
}

/// Compares those rows of a tree that are `mine` with what they should be; both are in order.
fn compare(
    pages: &mut Pages,
    tree: &'static str,
    rows: impl Iterator<Item = Res<(Vec<u8>, Vec<u8>)>>,
    mine: &dyn Fn(&[u8]) -> bool,
    optional: &dyn Fn(&[u8]) -> bool,
    report: &mut VerifyReport,
) -> Res<()> {
    let mut rows = rows.peekable();
    let hex = |k: &[u8]| k.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let problems = &mut report.problems;
    let mut wrong = |row: String, missing| -> Res<()> {
        let problem = differs(tree, row, missing);
        if problems.len() >= VerifyReport::MAX_PROBLEMS {
            return Err(problem);
        }
        problems.push(problem);
        Ok(())
    };
    let checked = &mut report.rows;
    pages.rows(tree, &mut |k, v| {
        if !mine(k) {
            return Ok(());
        }
        *checked += 1;
        loop {
            match rows.next_if(|r| r.as_ref().is_ok_and(|(want, _)| &want[..] <= k)) {
                Some(Ok((want, value))) if want == k => {
                    return if value == v { Ok(()) } else { wrong(hex(k), false) };
                }
                Some(Ok((want, _))) if optional(&want) => {}
                Some(Ok((want, _))) => wrong(hex(&want), true)?,
                _ => return wrong(hex(k), false),
            }
        }
    })?;
    for left in rows {
        let (key, _) = left?;
        if !optional(&key) {
            wrong(hex(&key), true)?;
        }
    }
    Ok(())
}
