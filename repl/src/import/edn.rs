//! Transactions as EDN: what `annals export` writes, and Datomic-style files.
//!
//! Each top-level vector is one transaction. A map `{:t … :tx-instant … :tx-data […]}`
//! is a line of a full-history export.

use super::source::Source;
use crate::{
    commands::write::at_item,
    fail::{Exit, Failure, Outcome},
    output::table::{counted, thousands},
    progress::Progress,
    script::{Item, ItemKind, Script},
    session::{Session, read_text},
};
use annals::{Diagnostic, Span};
use std::path::Path;

/// `import edn`.
pub fn run(s: &mut Session, file: &str, schema: Option<&Path>) -> Outcome {
    if let Some(f) = schema {
        let name = f.display().to_string();
        let text = read_text(&name)?;
        for tx in annals::read_transactions(&text).map_err(|e| Failure::from(e).of(&name, &text))? {
            s.conn.transact(tx).map_err(|e| Failure::from(e).of(&name, &text))?;
        }
    }
    let mut source = Source::open(file)?;
    let reader = std::mem::replace(&mut source.reader, Box::new(std::io::empty()));
    let mut script = Script::forms_only(reader);
    let mut progress = Progress::new(s, "transactions", source.size);
    let mut datoms = 0u64;
    let mut restore = crate::import::history::Restore::new(s);
    while let Some(item) = script.next_item()? {
        let text = checked(&item, &source.name)?;
        if crate::import::history::is_line(text) {
            datoms += restore.line(s, text).map_err(|f| at_item(f, &item, &source.name))?;
        } else {
            let report = s.conn.transact(text).map_err(|e| at_item(e.into(), &item, &source.name))?;
            datoms += report.tx_data().len() as u64 - 1;
        }
        progress.add(1, source.position());
    }
    let n = progress.count();
    let took = progress.done();
    let speed = (datoms as f64 / took.as_secs_f64().max(1e-3)) as u64;
    s.note(format!("{}, {} ({}/s)", counted(n, "transaction"), counted(datoms, "fact"), thousands(speed)));
    Ok(())
}

fn checked<'a>(item: &'a Item, name: &str) -> Outcome<&'a str> {
    match &item.kind {
        ItemKind::Form => Ok(&item.text),
        ItemKind::Command => Ok(&item.text),
        ItemKind::Broken { why, at } => {
            let d = Diagnostic::new("edn/syntax", why.clone()).at(Span::new(at.0, at.1), "here");
            Err(at_item(Failure::new(Exit::Refused, d), item, name))
        }
    }
}
