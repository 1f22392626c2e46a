//! Excision: facts taken out of the log itself, for ever, on the record.
//!
//! 1. A *fact* is excised whole: its assertion, its retraction, and with them
//!    its intervals in every tree and its long value.
//! 2. The log is rewritten beside the old one, record by record; t and instants
//!    stay. The chain is another from the first changed record on. The last
//!    record signs for it: it is the caller's, with a row in table
//!    [`Row::STORAGE`] that says what was taken out (values by hash only), how
//!    much, and which chain hash the log had before.
//! 3. Old and new log change places in one step (`Folder::swap`), indexes with
//!    them; a crash leaves all as before or all done.
//! 4. What was copied elsewhere before, backups too, is out of reach; the next
//!    backup into the same folder starts over.

use crate::error::{Damage, Res, StorageError};
use crate::key::hash_of;
use crate::kv::Env;
use crate::log::{FileLog, Log, log_start};
use crate::maintain::index_log;
use crate::open::{log_options, open_index};
use crate::record::put_varint;
use crate::store::{Core, Store};
use crate::types::{At, Durability, Prefix, Record, Row, StoreOptions};
use annals_model::{AttrId, Datom, EntityId, T, Value, View, codec};
use hashbrown::HashMap;
use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

/// What to take out. Facts must match every part that is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Excise {
    /// Facts.
    Facts {
        /// Of this entity.
        e: Option<EntityId>,
        /// Of this attribute.
        a: Option<AttrId>,
        /// With this value.
        v: Option<Value>,
        /// Asserted before this t.
        before: Option<T>,
    },
    /// Every version of a side row.
    Row {
        /// Its table.
        table: u8,
        /// Its key.
        key: Vec<u8>,
    },
    /// What every version of a side row holds; the row stays, at its time, and holds this.
    Content {
        /// Its table.
        table: u8,
        /// Its key.
        key: Vec<u8>,
        /// What it holds from now on.
        value: Vec<u8>,
    },
}

impl Excise {
    fn is_fact(&self, d: &Datom) -> bool {
        match self {
            Excise::Facts { e, a, v, .. } => {
                e.is_none_or(|e| e == d.e)
                    && a.is_none_or(|a| a == d.a)
                    && v.as_ref().is_none_or(|v| *v == d.v)
            }
            Excise::Row { .. } | Excise::Content { .. } => false,
        }
    }

    fn started(&self, t: T) -> bool {
        matches!(self, Excise::Facts { before, .. } if before.is_none_or(|b| t < b))
    }

    fn is_row(&self, r: &Row) -> bool {
        matches!(self, Excise::Row { table, key } if *table == r.table && *key == r.key)
    }

    /// What the row is to hold instead of what it holds.
    fn instead(&self, r: &Row) -> Option<&Vec<u8>> {
        match self {
            Excise::Content { table, key, value } if *table == r.table && *key == r.key => {
                r.value.as_ref().filter(|held| *held != value).map(|_| value)
            }
            _ => None,
        }
    }

    /// How the signing record names it: values and row keys by hash only.
    fn sign(&self, out: &mut Vec<u8>) {
        match self {
            Excise::Facts { e, a, v, before } => {
                out.push(0);
                let mut option = |n: Option<u64>| put_varint(n.map_or(0, |n| n + 1), out);
                option(e.map(EntityId::raw));
                option(a.map(|a| u64::from(a.raw())));
                option(before.map(|t| t.0));
                match v {
                    Some(v) => out.extend_from_slice(&hash_of(&codec::encoded(v))),
                    None => out.extend_from_slice(&[0; 16]),
                }
            }
            Excise::Row { table, key } => {
                out.extend_from_slice(&[1, *table]);
                out.extend_from_slice(&hash_of(key));
            }
            Excise::Content { table, key, .. } => {
                out.extend_from_slice(&[2, *table]);
                out.extend_from_slice(&hash_of(key));
            }
        }
    }
}

/// What an excision did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExciseReport {
    /// The record that signs for it.
    pub t: T,
    /// Datoms taken out of the log.
    pub datoms: u64,
    /// Versions of side rows taken out, or whose content was.
    pub rows: u64,
    /// The log's chain hash before.
    pub chain_before: [u8; 32],
}

/// Decides datom by datom, in log order, what goes; a retraction goes with the
/// fact it closes.
struct Sieve<'w> {
    what: &'w [Excise],
    /// Open facts that match but for their start: start, and does it go?
    open: HashMap<(EntityId, AttrId, Value), Vec<(T, bool)>>,
    datoms: u64,
    rows: u64,
}

impl Sieve<'_> {
    fn goes(&mut self, d: &Datom) -> bool {
        let mut matching = self.what.iter().filter(|w| w.is_fact(d)).peekable();
        if matching.peek().is_none() {
            return false;
        }
        let open = self.open.entry((d.e, d.a, d.v.clone())).or_default();
        if d.added {
            let goes = matching.any(|w| w.started(d.t));
            open.push((d.t, goes));
            return goes;
        }
        let closed = open.iter().enumerate().filter(|(_, o)| o.0 <= d.t).max_by_key(|(_, o)| o.0);
        match closed.map(|(i, _)| i) {
            Some(i) => open.swap_remove(i).1,
            None => false,
        }
    }

    fn sift(&mut self, mut r: Record) -> Record {
        let (datoms, rows) = (r.datoms.len(), r.rows.len());
        r.datoms.retain(|d| !self.goes(d));
        r.rows.retain(|row| !self.what.iter().any(|w| w.is_row(row)));
        self.datoms += (datoms - r.datoms.len()) as u64;
        self.rows += (rows - r.rows.len()) as u64;
        for row in &mut r.rows {
            if let Some(value) = self.what.iter().find_map(|w| w.instead(row)) {
                row.value = Some(value.clone());
                self.rows += 1;
            }
        }
        r
    }
}

impl Store {
    /// Takes facts and side rows out of the log and everything made from it.
    /// `record` follows the last one and signs for it. Reads and writes wait
    /// while the log is rewritten.
    pub fn excise(&self, what: &[Excise], record: Record) -> Res<ExciseReport> {
        self.core.excise(what, record)
    }

    /// How much of what should be gone is still there: datoms and rows in the
    /// log, and facts in the indexes. Zero is the proof of absence.
    pub fn still_there(&self, what: &[Excise]) -> Res<u64> {
        let mut sieve = Sieve { what, open: HashMap::new(), datoms: 0, rows: 0 };
        for r in self.log(T(0), self.basis().next())? {
            sieve.sift(r?);
        }
        let mut found = sieve.datoms + sieve.rows;
        let at = At { basis: self.basis(), view: View { history: true, ..View::NOW } };
        self.scan(at, &Prefix::All, &mut |d| {
            found += u64::from(d.added && what.iter().any(|w| w.is_fact(&d) && w.started(d.t)));
            ControlFlow::Continue(())
        })?;
        for w in what {
            let (Excise::Row { table, key } | Excise::Content { table, key, .. }) = w else { continue };
            let held = self.row(self.basis(), *table, key)?;
            found += match w {
                Excise::Content { value, .. } => u64::from(held.is_some_and(|held| held != *value)),
                _ => u64::from(held.is_some()),
            };
        }
        Ok(found)
    }
}

impl Core {
    fn excise(&self, what: &[Excise], mut record: Record) -> Res<ExciseReport> {
        let (Log::Files(log), Some(folder)) = (&self.log, &self.folder) else {
            return Err(StorageError::InMemory { op: "excise from" });
        };
        if self.options.read_only {
            return Err(StorageError::ReadOnly);
        }
        let _one = self.checkpoints.one.lock();
        let mut w = self.writer.lock();
        while !w.is_settled() {
            self.settled.wait(&mut w);
        }
        w.check(&record)?;

        let options = StoreOptions { durability: Durability::Relaxed, ..self.options.clone() };
        let (next_log, next_index) = (folder.next("log")?, folder.next("index")?);
        let new = FileLog::create(&next_log, log.uuid(), log_options(&options))?;
        let mut sieve = Sieve { what, open: HashMap::new(), datoms: 0, rows: 0 };
        let mut batch = Vec::new();
        let end = log.replay(log_start(), &mut |r| {
            batch.push(Arc::new(sieve.sift(r.record)));
            if batch.len() >= 1000 {
                new.append(&batch)?;
                batch.clear();
            }
            Ok(())
        })?;
        if end.t != Some(self.basis()) {
            return Err(StorageError::LogShort { log: end.t.unwrap_or(T(0)), indexed: self.basis() });
        }
        let mut row = Vec::new();
        put_varint(sieve.datoms, &mut row);
        put_varint(sieve.rows, &mut row);
        row.extend_from_slice(&end.chain);
        for w in what {
            w.sign(&mut row);
        }
        let mut key = Vec::new();
        codec::put_uint(record.t.0, &mut key);
        record.rows.push(Row { table: Row::STORAGE, key, value: Some(row) });
        let report =
            ExciseReport { t: record.t, datoms: sieve.datoms, rows: sieve.rows, chain_before: end.chain };
        let last = (record.t, record.instant);
        batch.push(Arc::new(record));
        new.append(&batch)?;
        new.sync()?;
        drop(new);
        let env = Env::open(&next_index, self.options.map_size_bytes, false, true)?;
        drop(index_log(&next_log, log.uuid(), &options, &env, &self.hints.load())?);
        drop(env);

        folder.swap(&["log", "index"])?;
        // From here on the disk has the new log. Should reopening it fail, this
        // process must not write to the old one.
        let adopted = (|| -> Res<()> {
            let env = open_index(&folder.index(), self.options.map_size_bytes, false)?;
            let from = crate::index::about(&env.read()?)?.map(|a| a.position);
            let new = FileLog::open(
                &folder.log(),
                log.uuid(),
                log_options(&self.options),
                from.as_ref(),
                &mut |_| {
                    Err(StorageError::index(Damage::Layout(
                        "the new indexes do not reach the end of the log",
                    )))
                },
            )?;
            log.adopt(new);
            self.adopt_index(env)
        })();
        if let Err(e) = adopted {
            w.poison(&e);
            return Err(e);
        }
        w.last = Some(last);
        self.newest.store(last.0.0, Ordering::Release);
        self.published.store(last.0.0, Ordering::Release);
        Ok(report)
    }
}
