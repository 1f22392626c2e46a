//! Where rows go that an import refuses.
//!
//! A line each: place, reason and, where it could be read, the row, separated by tabs; so the
//! third column of a rejects file, mended, can be imported again.

use crate::fail::{Failure, Outcome};
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

/// The rejects file of an import, if there is one.
#[derive(Default)]
pub struct Rejects {
    file: Option<BufWriter<File>>,
    n: u64,
}

impl Rejects {
    /// Opens the file; without one nothing is set aside.
    pub fn open(file: Option<&Path>) -> Outcome<Rejects> {
        let file = match file {
            Some(f) => Some(BufWriter::new(File::create(f).map_err(|e| Failure::file(f, &e))?)),
            None => None,
        };
        Ok(Rejects { file, n: 0 })
    }

    /// Is there a file?
    pub fn are_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Sets a row aside; without a file, that is the failure.
    pub fn put(&mut self, name: &str, line: u64, why: &str, row: &str) -> Outcome {
        let Some(file) = &mut self.file else {
            return Err(Failure::refused("import/row", format!("{name}:{line}: {why}"))
                .help("--rejects FILE sets such rows aside and goes on"));
        };
        let flat = |text: &str| text.trim().replace(['\n', '\t', '\r'], " ");
        let tab = if row.is_empty() { "" } else { "\t" };
        writeln!(file, "{name}:{line}\t{}{tab}{}", flat(why), flat(row))?;
        self.n += 1;
        Ok(())
    }

    /// How many were set aside, once they are written.
    pub fn finish(self) -> Outcome<u64> {
        if let Some(mut f) = self.file {
            f.flush()?;
        }
        Ok(self.n)
    }
}
