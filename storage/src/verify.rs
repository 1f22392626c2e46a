//! Verify: is the log what was written, and are the indexes what the log says?
//!
//! 1. The log is read whole: checksums, numbers, chain.
//! 2. The indexes are compared, row by row and both ways, with a fold of the
//!    log up to their checkpoint, reading pages by `pages` and not by LMDB.
//! 3. Damage is reported, never repaired, and never a panic.

use crate::error::{Res, StorageError};
use crate::index;
use crate::key::{self, Key, Parts, Tree};
use crate::log::{FileLog, Log, Position, log_start};
use crate::novelty::{Below, Delta, Open};
use crate::pages::Pages;
use crate::read::known_bytes;
use crate::store::{Core, Stats, Store};
use crate::types::Record;
use annals_model::{Instant, T};
use std::collections::BTreeMap;

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
    fn open(&self, _: &Parts<'_>, _: &BTreeMap<Key, ()>) -> Res<Option<Open>> {
        Ok(None)
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

impl Store {
    /// Checks the log and compares the indexes with it. Checkpoints wait meanwhile.
    pub fn verify(&self) -> Res<VerifyReport> {
        self.core.verify()
    }
}

impl Core {
    fn verify(&self) -> Res<VerifyReport> {
        let _one = self.checkpoints.one.lock();
        let mut report = VerifyReport {
            records: 0,
            datoms: 0,
            chain: [0; 32],
            indexed: T(0),
            rows: 0,
            problems: Vec::new(),
        };
        let (Log::Files(log), Some(folder)) = (&self.log, &self.folder) else {
            for r in self.log.read(T(0), self.basis().next())? {
                report.records += 1;
                report.datoms += r?.datoms.len() as u64;
            }
            report.indexed = self.basis();
            return Ok(report);
        };
        let mut pages = match Pages::open(&folder.index()) {
            Ok(pages) => Some(pages),
            Err(e) => {
                report.problems.push(e);
                None
            }
        };
        let about = match pages.as_mut().map(index::about_in_pages) {
            Some(Ok(about)) => about,
            Some(Err(e)) => {
                report.problems.push(e);
                pages = None;
                None
            }
            None => None,
        };
        let indexed = about.as_ref().and_then(|a| a.position.t);
        report.indexed = indexed.unwrap_or(T(0));

        let mut fold = Fold::default();
        let mut met: Option<Position> = None;
        let end = read_log(log, self.basis(), &mut report, &mut |r, at| {
            if indexed.is_some_and(|t| r.t <= t) {
                fold.apply(r, &Nothing)?;
            }
            if Some(r.t) == indexed {
                met = Some(*at);
            }
            Ok(())
        });
        match end {
            Ok(()) => {}
            Err(e) => {
                // What lies behind damage cannot be folded, so there is nothing to compare with.
                report.problems.push(e);
                return Ok(report);
            }
        }
        let (Some(mut pages), Some(about)) = (pages, about) else { return Ok(report) };
        match met {
            Some(at) if at == about.position => {}
            Some(_) => report.problems.push(differs("meta", "the position in the log", false)),
            None => report.problems.push(StorageError::LogShort {
                log: T(report.records.saturating_sub(1)),
                indexed: report.indexed,
            }),
        }
        if about.stats.counters != fold.stats.counters || about.stats.sorted() != fold.stats.sorted() {
            report.problems.push(differs("meta", "the counts", false));
        }
        let mut checked = 0;
        let hints = self.hints.load();
        let mut all = |report: &mut VerifyReport| -> Res<()> {
            for tree in Tree::ALL {
                let rows = fold.delta.trees[tree as usize].iter().map(|(k, known)| {
                    let p = key::parse(tree, k)?;
                    Ok((k.to_vec(), known_bytes(p.start, p.end, *known).to_vec()))
                });
                let optional = |k: &[u8]| {
                    key::parse(tree, k).is_ok_and(|p| p.end != T::MAX && hints.no_history.contains(&p.a))
                };
                checked += compare(&mut pages, NAMES[tree as usize], rows, &optional, report)?;
            }
            let rows = fold.delta.rows.iter().map(|(k, v)| {
                let mut value = vec![u8::from(v.is_some())];
                value.extend_from_slice(v.as_deref().unwrap_or_default());
                Ok((k.to_vec(), value))
            });
            checked += compare(&mut pages, "rows", rows, &|_| false, report)?;
            let blobs: BTreeMap<_, _> = fold.delta.blobs.iter().collect();
            let rows = blobs.into_iter().map(|(k, v)| Ok((k.to_vec(), v.to_vec())));
            checked += compare(&mut pages, "blob", rows, &|_| false, report)?;
            let rows = index::instant_rows(&fold.instants).into_iter().map(Ok);
            checked += compare(&mut pages, "times", rows, &|_| false, report)?;
            Ok(())
        };
        if let Err(e) = all(&mut report) {
            report.problems.push(e);
        }
        report.rows = checked;
        Ok(report)
    }
}

const NAMES: [&str; 4] = ["eav", "ave", "heav", "have"];

/// Reads every record up to the basis, counting.
fn read_log(
    log: &FileLog,
    basis: T,
    report: &mut VerifyReport,
    each: &mut dyn FnMut(&Record, &Position) -> Res<()>,
) -> Res<()> {
    let mut newest = None;
    log.replay(log_start(), &mut |r| {
        if r.record.t <= basis {
            report.records += 1;
            report.datoms += r.record.datoms.len() as u64;
            report.chain = r.at.chain;
            newest = Some(r.record.t);
            each(&r.record, r.at)?;
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

/// Compares a tree with the rows it should have; both are in order.
fn compare(
    pages: &mut Pages,
    tree: &'static str,
    rows: impl Iterator<Item = Res<(Vec<u8>, Vec<u8>)>>,
    optional: &dyn Fn(&[u8]) -> bool,
    report: &mut VerifyReport,
) -> Res<u64> {
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
    let n = pages.rows(tree, &mut |k, v| {
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
    Ok(n)
}
