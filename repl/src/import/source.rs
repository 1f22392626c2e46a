//! What an importer reads: a file, compressed or not, or standard input, with its
//! size for progress.

use crate::fail::{Failure, Outcome};
use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Longest line accepted, in bytes.
const MAX_LINE: u64 = 64 << 20;

/// A source of bytes.
pub struct Source {
    /// What to call it in errors.
    pub name: String,
    /// Its bytes, decompressed.
    pub reader: Box<dyn BufRead + Send>,
    /// Bytes of the file, compressed as it is; none for a pipe.
    pub size: Option<u64>,
    read: Arc<AtomicU64>,
    line: usize,
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Source {
    /// Opens a file, or `-` for standard input; gzip is known by its first bytes.
    pub fn open(file: &str) -> Outcome<Source> {
        let read = Arc::new(AtomicU64::new(0));
        let (raw, size): (Box<dyn Read + Send>, Option<u64>) = match file {
            "-" => (Box::new(io::stdin()), None),
            path => {
                let f = File::open(path).map_err(|e| Failure::file(Path::new(path), &e))?;
                let size = f.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
                (Box::new(f), size)
            }
        };
        let name = if file == "-" { "standard input".to_owned() } else { file.to_owned() };
        let mut counted = BufReader::with_capacity(1 << 16, Counted { inner: raw, read: read.clone() });
        let gzip =
            counted.fill_buf().map_err(|e| crate::session::reading(&name, &e))?.starts_with(&[0x1f, 0x8b]);
        let reader: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(counted)))
        } else {
            Box::new(counted)
        };
        Ok(Source { name, reader, size, read, line: 0 })
    }

    /// Bytes already in memory.
    pub fn of_bytes(name: &str, bytes: &'static [u8]) -> Source {
        let size = Some(bytes.len() as u64);
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: bytes, read: read.clone() };
        let reader: Box<dyn BufRead + Send> = match bytes.starts_with(&[0x1f, 0x8b]) {
            true => Box::new(BufReader::new(MultiGzDecoder::new(counted))),
            false => Box::new(BufReader::new(counted)),
        };
        Source { name: name.to_owned(), reader, size, read, line: 0 }
    }

    /// Bytes of the file read so far, to compare with its size.
    pub fn position(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The number of the line read last, from 1.
    pub fn line_number(&self) -> usize {
        self.line
    }

    /// The next line that is not blank, without its end.
    pub fn next_line(&mut self) -> Outcome<Option<String>> {
        loop {
            let mut bytes = Vec::new();
            let n = io::Read::take(&mut self.reader, MAX_LINE)
                .read_until(b'\n', &mut bytes)
                .map_err(|e| self.failed(&e))?;
            if n == 0 {
                return Ok(None);
            }
            self.line += 1;
            if n as u64 == MAX_LINE {
                return Err(self.wrong("the line is longer than 64 MiB"));
            }
            if self.line == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
                bytes.drain(..3);
            }
            while matches!(bytes.last(), Some(b'\n' | b'\r')) {
                bytes.pop();
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(e) => Err(self.wrong(&format!("byte {} is not UTF-8", e.utf8_error().valid_up_to() + 1))),
            };
        }
    }

    /// All of it as text.
    pub fn text(&mut self) -> Outcome<String> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes).map_err(|e| self.failed(&e))?;
        String::from_utf8(bytes)
            .map_err(|e| self.wrong(&format!("byte {} is not UTF-8", e.utf8_error().valid_up_to() + 1)))
    }

    /// Something is wrong with the line read last.
    pub fn wrong(&self, why: &str) -> Failure {
        Failure::refused("import/line", format!("{}:{}: {why}", self.name, self.line))
    }

    fn failed(&self, e: &io::Error) -> Failure {
        crate::session::reading(&self.name, e)
    }
}
