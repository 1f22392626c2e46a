//! Transactions as EDN: what `annals export` writes, and Datomic-style files.
//!
//! Each top-level vector is one transaction. A map `{:t … :tx-instant … :tx-data […]}`
//! is a line of a full-history export.
//!
//! 1. Transactions are made durable many at a time, and reported as if one by one: a refused one
//!    is named with file, line and place, and those before it stay.
//! 2. A full-history export goes on where it was left: lines that are there already are passed over.
//!    Other files go on with `--skip`, whose number a stopped import prints.

use super::{
    history::{self, Restore},
    rejects::Rejects,
    source::Source,
};
use crate::{
    cli::EdnArgs,
    commands::write::at_item,
    fail::{Exit, Failure, Outcome},
    output::table::{counted, thousands},
    progress::Progress,
    script::{Item, ItemKind, Script},
    session::{Session, read_text},
};
use annals::{Diagnostic, IntoTx as _, Span, TxData};

/// Transactions made durable together.
const TOGETHER: usize = 1_024;
/// Bytes of text held for one sync.
const TOGETHER_BYTES: usize = 16 << 20;

/// `import edn`.
pub fn run(s: &mut Session, args: &EdnArgs) -> Outcome {
    if let Some(f) = &args.schema {
        let name = f.display().to_string();
        let text = read_text(&name)?;
        for tx in annals::read_transactions(&text).map_err(|e| Failure::from(e).of(&name, &text))? {
            s.conn.transact(tx).map_err(|f| f.of(&name, &text))?;
        }
    }
    let mut source = Source::open(&args.file)?;
    let reader = std::mem::replace(&mut source.reader, Box::new(std::io::empty()));
    let mut script = Script::forms_only(reader);
    let mut import = Import {
        progress: Progress::new(s, "transactions", source.size),
        rejects: Rejects::open(args.rejects.as_deref())?,
        restore: Restore::new(),
        pending: Vec::new(),
        bytes: 0,
        facts: 0,
        read: 0,
        s,
        source: &source,
    };
    let result = import.all(&mut script, args.skip);
    let Import { progress, rejects, facts, read, .. } = import;
    let n = progress.count();
    let took = progress.done();
    let rejected = rejects.finish()?;
    result.map_err(|f| match read {
        0 => f,
        _ if f.diagnostics.iter().any(|d| d.help.is_some()) => f,
        _ => f.help(format!(
            "the {} before it stay; `--skip {read}` goes on after them, `--rejects FILE` sets such ones aside",
            counted(read, "transaction")
        )),
    })?;
    let speed = (facts as f64 / took.as_secs_f64().max(1e-3)) as u64;
    let rejected = if rejected > 0 { format!(", {rejected} rejected") } else { String::new() };
    s.note(format!(
        "{}, {} ({}/s){rejected}",
        counted(n, "transaction"),
        counted(facts, "fact"),
        thousands(speed)
    ));
    Ok(())
}

/// An import under way.
struct Import<'i> {
    s: &'i Session,
    source: &'i Source,
    progress: Progress,
    rejects: Rejects,
    restore: Restore,
    /// Plain transactions read and not yet committed.
    pending: Vec<(Item, TxData)>,
    bytes: usize,
    facts: u64,
    /// Transactions committed, passed over or set aside.
    read: u64,
}

impl Import<'_> {
    fn all(&mut self, script: &mut Script<Box<dyn std::io::BufRead + Send>>, skip: u64) -> Outcome {
        while let Some(item) = script.next_item()? {
            if self.read + (self.pending.len() as u64) < skip {
                self.read += 1;
                continue;
            }
            if let ItemKind::Broken { why, at } = &item.kind {
                let d = Diagnostic::new("edn/syntax", why.clone()).at(Span::new(at.0, at.1), "here");
                let f = at_item(Failure::new(Exit::Refused, d), &item, &self.source.name);
                self.commit()?;
                self.refused(&item, f)?;
                continue;
            }
            if history::is_line(&item.text) {
                self.commit()?;
                self.facts +=
                    self.restore.line(self.s, &item).map_err(|f| at_item(f, &item, &self.source.name))?;
                self.read += 1;
                self.progress.add(1, self.source.position());
                continue;
            }
            match item.text.as_str().into_tx() {
                Ok(tx) => {
                    self.bytes += item.text.len();
                    self.pending.push((item, tx));
                    if self.pending.len() >= TOGETHER || self.bytes >= TOGETHER_BYTES {
                        self.commit()?;
                    }
                }
                Err(e) => {
                    self.commit()?;
                    self.refused(&item, at_item(e.into(), &item, &self.source.name))?;
                }
            }
        }
        self.commit()?;
        let restored = self.restore.finish(self.s);
        self.facts += restored.map_err(|(f, item)| match item {
            Some(item) => at_item(f, &item, &self.source.name),
            None => f,
        })?;
        Ok(())
    }

    /// Commits what is pending; a refused transaction is set aside, or ends the import.
    fn commit(&mut self) -> Outcome {
        self.bytes = 0;
        let (mut items, mut txs): (Vec<Item>, Vec<TxData>) =
            std::mem::take(&mut self.pending).into_iter().unzip();
        while !txs.is_empty() {
            let rest = if self.rejects.are_kept() { txs.clone() } else { Vec::new() };
            let (done, refused) = self.s.conn.transact_all(txs);
            self.facts += done.iter().map(|n| *n as u64 - 1).sum::<u64>();
            self.read += done.len() as u64;
            self.progress.add(done.len() as u64, self.source.position());
            let Some(f) = refused else { return Ok(()) };
            let n = done.len();
            let Some(item) = items.get(n).cloned() else { return Err(f) };
            self.refused(&item, at_item(f, &item, &self.source.name))?;
            items.drain(..=n);
            txs = rest.into_iter().skip(n + 1).collect();
        }
        Ok(())
    }

    fn refused(&mut self, item: &Item, f: Failure) -> Outcome {
        if !self.rejects.are_kept() {
            return Err(f);
        }
        let why = f.diagnostics.first().map_or("refused", |d| d.message.as_str()).to_owned();
        self.rejects.put(&self.source.name, item.line as u64, &why, &item.text)?;
        self.read += 1;
        Ok(())
    }
}
