//! The file of the subjects' keys: one line a subject, `<64 hex digits> <subject>` or
//! `forgotten <subject>`.
//!
//! 1. A key is known only when its line is synced: nothing is ever sealed under a key that
//!    a crash could take back.
//! 2. A new key is a line at the end. A last line without its line feed was never answered
//!    for, and is passed over at open.
//! 3. To forget, the file is written anew, takes the place of the old one, and only then is
//!    the old one overwritten with zeros: at every moment there is one whole file under the
//!    name. What a crash leaves behind (`.new`, `.old`) is overwritten and removed at open.
//! 4. The keys in memory change after the file did, or not at all.

use crate::event::seal::SealError;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file in the database's folder.
const FILE: &str = "subject-keys";
/// Readable by its owner alone.
const MODE: u32 = 0o600;

/// A key; none when it was forgotten.
pub(super) type SubjectSecret = Option<[u8; 32]>;

/// The keys of one database, and the file that keeps them.
#[derive(Default)]
pub(super) struct KeyRing {
    file: Option<PathBuf>,
    keys: BTreeMap<Arc<str>, SubjectSecret>,
    /// Bytes of the file that are whole lines.
    len: u64,
    /// An append failed: what is behind `len` is unknown.
    torn: bool,
}

impl KeyRing {
    /// The keys kept in a database's folder; none when it has no such file.
    pub fn open(folder: &Path) -> Result<KeyRing, SealError> {
        let path = folder.join(FILE);
        let io = |e: io::Error| SealError::Io { path: path.clone(), why: e.to_string() };
        for left in [with(&path, "new"), with(&path, "old")] {
            shred(&left).map_err(io)?;
        }
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io(e)),
        };
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        let mut keys = BTreeMap::new();
        for (i, line) in text[..whole].split_terminator('\n').enumerate() {
            let damaged = || SealError::Damaged { path: path.clone(), line: i + 1 };
            let (key, subject) = line.split_once(' ').ok_or_else(damaged)?;
            let key = if key == "forgotten" { None } else { Some(unhex(key).ok_or_else(damaged)?) };
            keys.insert(Arc::from(subject), key);
        }
        let torn = whole < text.len();
        Ok(KeyRing { file: Some(path), keys, len: whole as u64, torn })
    }

    /// What is known of a subject.
    pub fn get(&self, subject: &str) -> Option<SubjectSecret> {
        self.keys.get(subject).copied()
    }

    /// Every subject, in order.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, &SubjectSecret)> {
        self.keys.iter()
    }

    /// Gives subjects their keys. All of them are kept, or none.
    pub fn add(&mut self, fresh: Vec<(Arc<str>, SubjectSecret)>) -> Result<(), SealError> {
        if let Some((subject, _)) = fresh.iter().find(|(s, _)| s.is_empty() || s.contains(char::is_control)) {
            return Err(SealError::BadSubject(subject.clone()));
        }
        if self.torn {
            let keys = self.keys.clone();
            self.rewrite(&keys)?;
        }
        let mut lines = String::new();
        for (subject, key) in &fresh {
            line(&mut lines, subject, key);
        }
        if let Some(path) = &self.file {
            let append = || -> io::Result<()> {
                let created = !path.exists();
                let f = options().open(path)?;
                f.write_all_at(lines.as_bytes(), self.len)?;
                f.sync_all()?;
                if created { sync_folder(path) } else { Ok(()) }
            };
            if let Err(e) = append() {
                self.torn = true;
                return Err(SealError::Io { path: path.clone(), why: e.to_string() });
            }
        }
        self.len += lines.len() as u64;
        self.keys.extend(fresh);
        Ok(())
    }

    /// Forgets a subject's key, for good. True when there was one.
    pub fn forget(&mut self, subject: &str) -> Result<bool, SealError> {
        if self.get(subject) == Some(None) {
            return Ok(false);
        }
        let mut keys = self.keys.clone();
        let had = keys.insert(Arc::from(subject), None).is_some();
        self.rewrite(&keys)?;
        self.keys = keys;
        Ok(had)
    }

    fn rewrite(&mut self, keys: &BTreeMap<Arc<str>, SubjectSecret>) -> Result<(), SealError> {
        let mut lines = String::new();
        for (subject, key) in keys {
            line(&mut lines, subject, key);
        }
        if let Some(path) = &self.file {
            let write = || -> io::Result<()> {
                let (draft, old) = (with(path, "new"), with(path, "old"));
                let mut f = options().truncate(true).open(&draft)?;
                f.write_all(lines.as_bytes())?;
                f.sync_all()?;
                // The old file keeps a name, so that its bytes can be found again after a crash.
                if path.exists() {
                    fs::hard_link(path, &old)?;
                }
                fs::rename(&draft, path)?;
                sync_folder(path)?;
                shred(&old)
            };
            write().map_err(|e| SealError::Io { path: path.clone(), why: e.to_string() })?;
        }
        self.len = lines.len() as u64;
        self.torn = false;
        Ok(())
    }
}

fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(MODE);
    options
}

fn with(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Overwrites a file with zeros and removes it, if it is there.
fn shred(path: &Path) -> io::Result<()> {
    let f = match fs::OpenOptions::new().write(true).open(path) {
        Ok(f) => f,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let n = usize::try_from(f.metadata()?.len()).unwrap_or(0);
    f.write_all_at(&vec![0; n], 0)?;
    f.sync_all()?;
    fs::remove_file(path)?;
    sync_folder(path)
}

fn line(out: &mut String, subject: &str, key: &SubjectSecret) {
    match key {
        Some(key) => out.push_str(&hex(key)),
        None => out.push_str("forgotten"),
    }
    out.push(' ');
    out.push_str(subject);
    out.push('\n');
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(ring: &mut KeyRing, subject: &str, byte: u8) -> Result<(), SealError> {
        ring.add(vec![(Arc::from(subject), Some([byte; 32]))])
    }

    fn shown(folder: &Path) -> Vec<(String, Option<u8>)> {
        let ring = KeyRing::open(folder).unwrap();
        ring.all().map(|(s, k)| (s.to_string(), k.map(|k| k[0]))).collect()
    }

    #[test]
    fn keys_come_back_and_a_forgotten_one_is_in_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = KeyRing::open(dir.path()).unwrap();
        add(&mut ring, "ada", 1).unwrap();
        add(&mut ring, "a subject with spaces", 2).unwrap();
        assert!(ring.forget("ada").unwrap());
        assert!(!ring.forget("ada").unwrap());
        add(&mut ring, "bob", 3).unwrap();
        let all = [("a subject with spaces", Some(2)), ("ada", None), ("bob", Some(3))];
        assert_eq!(shown(dir.path()), all.map(|(s, k)| (s.to_owned(), k)));
        let secret = hex(&[1; 32]);
        for file in fs::read_dir(dir.path()).unwrap() {
            assert!(!fs::read_to_string(file.unwrap().path()).unwrap().contains(&secret));
        }
    }

    #[test]
    fn a_name_that_would_break_the_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = KeyRing::open(dir.path()).unwrap();
        for bad in ["a\nb", "a\r", "", "\u{7}"] {
            assert!(matches!(add(&mut ring, bad, 1), Err(SealError::BadSubject(_))), "{bad:?}");
        }
        assert!(shown(dir.path()).is_empty());
    }

    #[test]
    fn a_torn_line_is_passed_over_and_the_next_key_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut ring = KeyRing::open(dir.path()).unwrap();
        add(&mut ring, "ada", 1).unwrap();
        add(&mut ring, "bob", 2).unwrap();
        let text = fs::read(&path).unwrap();
        for cut in text.len() / 2 + 1..text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            assert_eq!(shown(dir.path()), [("ada".to_owned(), Some(1))]);
            let mut ring = KeyRing::open(dir.path()).unwrap();
            add(&mut ring, "cy", 3).unwrap();
            assert_eq!(shown(dir.path()), [("ada".to_owned(), Some(1)), ("cy".to_owned(), Some(3))]);
        }
    }

    #[test]
    fn what_a_crash_leaves_is_shredded_and_the_file_under_the_name_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = KeyRing::open(dir.path()).unwrap();
        add(&mut ring, "ada", 1).unwrap();
        fs::write(dir.path().join("subject-keys.new"), "forgotten ada\n").unwrap();
        fs::write(dir.path().join("subject-keys.old"), "x").unwrap();
        assert_eq!(shown(dir.path()), [("ada".to_owned(), Some(1))]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_could_not_be_written_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut ring = KeyRing::open(dir.path()).unwrap();
        add(&mut ring, "ada", 1).unwrap();
        // A folder in the place of the file: every write fails, whoever we are.
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        assert!(matches!(add(&mut ring, "bob", 2), Err(SealError::Io { .. })));
        assert!(matches!(ring.forget("ada"), Err(SealError::Io { .. })));
        assert_eq!((ring.get("bob"), ring.get("ada")), (None, Some(Some([1; 32]))));
        fs::remove_dir(dir.path().join(FILE)).unwrap();
        add(&mut ring, "bob", 2).unwrap();
        assert_eq!(shown(dir.path()), [("ada".to_owned(), Some(1)), ("bob".to_owned(), Some(2))]);
    }
}
