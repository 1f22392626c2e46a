//! The index file read without LMDB: every page checked before it is believed.
//!
//! LMDB trusts its pages; a flipped bit can crash it. `verify` must not crash,
//! so it reads the file (format of LMDB 0.9, 64 bit) through this reader:
//!
//! | what | where |
//! |---|---|
//! | page | number u64, pad u16, flags u16, lower u16, upper u16, then offsets of nodes |
//! | meta (pages 0 and 1; the one of the later commit counts) | magic, version, …, two trees, last page, commit |
//! | tree | pad u32, flags u16, depth u16, three page counts, entries, root: 48 bytes |
//! | node | 32 bits of size or page number, flags u16, key size u16, key, data |
//!
//! 1. No byte outside the file is read, no page twice, no number is trusted.
//! 2. It never writes, and it is only used while nobody commits.

use crate::error::{Damage, Res, StorageError};
use std::{fs::File, os::unix::fs::FileExt, path::Path};

const MAGIC: u32 = 0xBEEF_C0DE;
const HEADER: usize = 16;
const TREE: usize = 48;
const NONE: u64 = u64::MAX;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const OVERFLOW: u16 = 4;
const BIG: u16 = 1;
const SUBTREE: u16 = 2;
const MAX_DEPTH: usize = 32;

/// An index file and the pages of it seen so far.
pub(crate) struct Pages {
    file: File,
    size: usize,
    last: u64,
    seen: Vec<u64>,
    main: Tree,
}

#[derive(Clone, Copy)]
struct Tree {
    entries: u64,
    root: u64,
}

fn bad(what: &'static str) -> StorageError {
    StorageError::index(Damage::Layout(what))
}

fn number(b: &[u8], at: usize, n: usize) -> Res<u64> {
    let bytes = b.get(at..at + n).ok_or_else(|| bad("a page is cut off"))?;
    Ok(bytes.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b)))
}

fn tree(b: &[u8]) -> Res<Tree> {
    Ok(Tree { entries: number(b, 32, 8)?, root: number(b, 40, 8)? })
}

type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> Res<()> + 'v;

impl Pages {
    /// Opens the index file in a folder.
    pub fn open(dir: &Path) -> Res<Pages> {
        let path = dir.join("data.mdb");
        let file = File::open(&path).map_err(|e| StorageError::io("open", &path, e))?;
        let len = file.metadata().map_err(|e| StorageError::io("read", &path, e))?.len();
        let mut best: Option<(u64, Pages)> = None;
        for meta in 0..2u64 {
            let mut b = [0; HEADER + 24 + 2 * TREE + 16];
            // The second meta page lies a page behind the first, which says how large pages are.
            let size = match &best {
                Some((_, p)) => p.size,
                None if meta == 1 => 4096,
                None => 0,
            };
            file.read_exact_at(&mut b, meta * size as u64).map_err(|_| bad("it has no meta page"))?;
            let size = number(&b, HEADER + 24, 4)? as usize;
            let sound = number(&b, HEADER, 4)? == u64::from(MAGIC)
                && number(&b, HEADER + 4, 4)? == 1
                && size.is_power_of_two()
                && (512..=65536).contains(&size);
            if !sound {
                return Err(bad("a meta page is not one"));
            }
            let last = number(&b, HEADER + 24 + 2 * TREE, 8)?;
            let commit = number(&b, HEADER + 24 + 2 * TREE + 8, 8)?;
            if last.checked_add(1).and_then(|n| n.checked_mul(size as u64)).is_none_or(|n| n > len) {
                return Err(bad("the index file was cut off"));
            }
            let main = tree(&b[HEADER + 24 + TREE..])?;
            let file = file.try_clone().map_err(|e| StorageError::io("open", &path, e))?;
            let seen = vec![0; last as usize / 64 + 1];
            if best.as_ref().is_none_or(|(c, _)| commit > *c) {
                best = Some((commit, Pages { file, size, last, seen, main }));
            }
        }
        Ok(best.expect("both meta pages were looked at").1)
    }

    /// Visits the rows of a named tree in order; says how many there are.
    pub fn rows(&mut self, name: &str, visit: &mut Visit<'_>) -> Res<u64> {
        let mut found = None;
        self.seen.fill(0);
        let main = self.main;
        self.walk_tree(main, true, &mut |k, v| {
            if k == name.as_bytes() {
                found = Some(tree(v)?);
            }
            Ok(())
        })?;
        let t = found.ok_or_else(|| bad("a tree is missing from the index file"))?;
        self.walk_tree(t, false, visit)
    }

    fn walk_tree(&mut self, t: Tree, subtrees: bool, visit: &mut Visit<'_>) -> Res<u64> {
        let mut n = 0;
        let mut last: Option<Vec<u8>> = None;
        if t.root != NONE {
            self.walk(t.root, 0, subtrees, &mut |k, v| {
                if last.as_ref().is_some_and(|l| k <= &l[..]) {
                    return Err(bad("the keys of a tree are out of order"));
                }
                let l = last.get_or_insert_default();
                l.clear();
                l.extend_from_slice(k);
                n += 1;
                visit(k, v)
            })?;
        }
        if n == t.entries { Ok(n) } else { Err(bad("a tree has not the number of rows it says")) }
    }

    fn read(&mut self, page: u64, n: usize) -> Res<Vec<u8>> {
        let inside = page >= 2 && page.checked_add(n as u64 - 1).is_some_and(|p| p <= self.last);
        if !inside {
            return Err(bad("a page number is outside the file"));
        }
        for p in page..page + n as u64 {
            let (word, bit) = (&mut self.seen[p as usize / 64], 1 << (p % 64));
            if *word & bit != 0 {
                return Err(bad("a page is in two places"));
            }
            *word |= bit;
        }
        let mut b = vec![0; n * self.size];
        self.file.read_exact_at(&mut b, page * self.size as u64).map_err(|_| bad("a page is cut off"))?;
        if number(&b, 0, 8)? != page {
            return Err(bad("a page has another page's number"));
        }
        Ok(b)
    }

    fn walk(&mut self, page: u64, depth: usize, subtrees: bool, visit: &mut Visit<'_>) -> Res<()> {
        if depth > MAX_DEPTH {
            return Err(bad("a tree is too deep"));
        }
        let b = self.read(page, 1)?;
        let kind = number(&b, 10, 2)? as u16;
        let lower = number(&b, 12, 2)? as usize;
        if lower < HEADER || lower > b.len() {
            return Err(bad("a page's header is wrong"));
        }
        for i in 0..(lower - HEADER) / 2 {
            let at = number(&b, HEADER + 2 * i, 2)? as usize;
            if at < lower {
                return Err(bad("a node lies outside its page"));
            }
            let (size, flags) = (number(&b, at, 4)?, number(&b, at + 4, 2)?);
            let key_len = number(&b, at + 6, 2)? as usize;
            let key = b.get(at + 8..at + 8 + key_len).ok_or_else(|| bad("a key lies outside its page"))?;
            match kind & !0x10 {
                BRANCH => self.walk(size | flags << 32, depth + 1, subtrees, visit)?,
                LEAF => {
                    let flags = flags as u16;
                    if (flags & SUBTREE != 0) != subtrees || flags & !(BIG | SUBTREE) != 0 {
                        return Err(bad("a node is of the wrong kind"));
                    }
                    let from = at + 8 + key_len;
                    if flags & BIG == 0 {
                        let end = from + size as usize;
                        visit(key, b.get(from..end).ok_or_else(|| bad("a value lies outside its page"))?)?;
                    } else {
                        let first = number(&b, from, 8)?;
                        let n = (size as usize + HEADER).div_ceil(self.size);
                        let big = self.read(first, n)?;
                        if number(&big, 10, 2)? as u16 != OVERFLOW || number(&big, 12, 4)? != n as u64 {
                            return Err(bad("a large value's pages are wrong"));
                        }
                        visit(key, &big[HEADER..HEADER + size as usize])?;
                    }
                }
                _ => return Err(bad("a page is of the wrong kind")),
            }
        }
        Ok(())
    }
}
