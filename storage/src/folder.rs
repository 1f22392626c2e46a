//! The folder of a database: who owns it, what it is, and its half-done moves.
//!
//! ```text
//! DB/identity     format, uuid; written last when a database is made
//! DB/lock         locked while open; holds the owner's process id
//! DB/creating     there while a database is being made, and only then
//! DB/log/         segments
//! DB/index/       LMDB
//! DB/*.next       a new log or index being written; dropped at open unless
//! DB/swap         names it: then it takes the place of the old one
//! ```
//!
//! 1. A folder with an identity is never made into a fresh database.
//! 2. A move is decided by the one rename that makes `swap`; open finishes it.

use crate::FORMAT;
use crate::error::{Res, StorageError};
use crate::segment::sync_dir;
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// An owned database folder.
pub(crate) struct Folder {
    pub path: PathBuf,
    /// Held for its lock; none for a read-only folder that has no lock file.
    _lock: Option<File>,
}

/// What a folder holds.
pub(crate) enum Holds {
    Nothing,
    Database(Uuid),
}

impl Folder {
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }
    pub fn index(&self) -> PathBuf {
        self.path.join("index")
    }
    fn identity(&self) -> PathBuf {
        self.path.join("identity")
    }
    fn creating(&self) -> PathBuf {
        self.path.join("creating")
    }

    /// Takes ownership of a folder; makes it when `create` and absent.
    pub fn own(path: &Path, read_only: bool, create: bool) -> Res<Folder> {
        match fs::metadata(path) {
            Ok(m) if !m.is_dir() => return Err(StorageError::NotADatabase { path: path.into() }),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if !create {
                    return Err(StorageError::NoDatabase { path: path.into() });
                }
                fs::create_dir_all(path).map_err(|e| unwritable(path, "create", e))?;
                if let Some(parent) = path.canonicalize().ok().as_deref().and_then(Path::parent) {
                    sync_dir(parent)?;
                }
            }
            Err(e) => return Err(StorageError::io("open", path, e)),
        }
        let file = path.join("lock");
        let opened = if read_only {
            OpenOptions::new().read(true).open(&file)
        } else {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file)
        };
        let mut lock = match opened {
            Ok(lock) => lock,
            Err(e) if read_only && e.kind() == io::ErrorKind::NotFound => {
                return Ok(Folder { path: path.into(), _lock: None });
            }
            Err(e) => return Err(unwritable(path, "open", e)),
        };
        match if read_only { lock.try_lock_shared() } else { lock.try_lock() } {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                drop(lock.read_to_string(&mut text));
                return Err(StorageError::Locked { path: path.into(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(e)) => return Err(StorageError::io("lock", &file, e)),
        }
        if !read_only {
            lock.set_len(0)
                .and_then(|()| write!(lock, "{}", std::process::id()))
                .map_err(|e| unwritable(path, "write", e))?;
        }
        Ok(Folder { path: path.into(), _lock: Some(lock) })
    }

    /// What is here, after finishing or dropping what was under way.
    pub fn holds(&self, read_only: bool) -> Res<Holds> {
        if !read_only {
            if self.creating().exists() {
                // Nobody was ever told that this database exists.
                for part in [self.log(), self.index()] {
                    remove_dir(&part)?;
                }
                remove_file(&self.identity())?;
                remove_file(&self.path.join("identity.tmp"))?;
                remove_file(&self.creating())?;
            }
            self.finish_swap()?;
        }
        let text = match fs::read_to_string(self.identity()) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if self.log().exists() || self.index().exists() {
                    return Err(StorageError::Missing { path: self.identity() });
                }
                let strange = self.entries()?.into_iter().any(|name| name != "lock");
                return if strange {
                    Err(StorageError::NotADatabase { path: self.path.clone() })
                } else {
                    Ok(Holds::Nothing)
                };
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(StorageError::NotADatabase { path: self.identity() });
            }
            Err(e) => return Err(StorageError::io("read", self.identity(), e)),
        };
        if text.is_empty() {
            return Err(StorageError::Missing { path: self.identity() });
        }
        parse_identity(&text, &self.identity()).map(Holds::Database)
    }

    fn entries(&self) -> Res<Vec<String>> {
        let list = fs::read_dir(&self.path).map_err(|e| StorageError::io("list", &self.path, e))?;
        Ok(list.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Marks that a database is being made here.
    pub fn begin_creating(&self) -> Res<()> {
        File::create(self.creating()).map_err(|e| unwritable(&self.path, "create", e))?;
        sync_dir(&self.path)
    }

    /// From now on this is a database.
    pub fn finish_creating(&self, uuid: Uuid) -> Res<()> {
        write_identity(&self.path, uuid)?;
        remove_file(&self.creating())?;
        sync_dir(&self.path)
    }

    /// Puts `parts.next` in the place of each part (`log`, `index`), all or none.
    /// A part without a `.next` is removed. The caller has synced what is in them.
    pub fn swap(&self, parts: &[&str]) -> Res<()> {
        write_synced(&self.path, "swap", parts.join("\n").as_bytes())?;
        self.finish_swap()
    }

    /// Where the new version of a part is written; emptied.
    pub fn next(&self, part: &str) -> Res<PathBuf> {
        let path = self.path.join(format!("{part}.next"));
        remove_dir(&path)?;
        fs::create_dir(&path).map_err(|e| StorageError::io("create", &path, e))?;
        Ok(path)
    }

    fn finish_swap(&self) -> Res<()> {
        let swap = self.path.join("swap");
        match fs::read_to_string(&swap) {
            Ok(parts) => {
                for part in parts.lines() {
                    let (old, new) = (self.path.join(part), self.path.join(format!("{part}.next")));
                    if new.exists() {
                        remove_dir(&old)?;
                        fs::rename(&new, &old).map_err(|e| StorageError::io("rename", &new, e))?;
                    }
                }
                sync_dir(&self.path)?;
                remove_file(&swap)?;
                sync_dir(&self.path)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StorageError::io("read", swap, e)),
        }
        for part in ["log", "index"] {
            remove_dir(&self.path.join(format!("{part}.next")))?;
        }
        Ok(())
    }
}

/// The identity file's text.
pub(crate) fn write_identity(dir: &Path, uuid: Uuid) -> Res<()> {
    write_synced(dir, "identity", format!("annals database\nformat {FORMAT}\nuuid {uuid}\n").as_bytes())
}

pub(crate) fn parse_identity(text: &str, path: &Path) -> Res<Uuid> {
    let strange = || StorageError::NotADatabase { path: path.into() };
    let mut lines = text.lines();
    if lines.next() != Some("annals database") {
        return Err(strange());
    }
    let mut field = |name: &str| lines.next().and_then(|l| l.strip_prefix(name)).map(str::trim);
    let format: u32 = field("format ").and_then(|f| f.parse().ok()).ok_or_else(strange)?;
    if format > FORMAT {
        return Err(StorageError::NewerFormat { path: path.into(), found: format, known: FORMAT });
    }
    field("uuid ").and_then(|u| u.parse().ok()).ok_or_else(strange)
}

/// Writes a small file whole, durably, or not at all.
pub(crate) fn write_synced(dir: &Path, name: &str, bytes: &[u8]) -> Res<()> {
    let (path, temporary) = (dir.join(name), dir.join(format!("{name}.tmp")));
    let write = || -> io::Result<()> {
        let mut f = File::create(&temporary)?;
        f.write_all(bytes)?;
        f.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(|e| unwritable(dir, "write", e))?;
    sync_dir(dir)
}

fn unwritable(dir: &Path, op: &'static str, e: io::Error) -> StorageError {
    match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StorageError::ReadOnlyFolder { path: dir.into() }
        }
        _ => StorageError::io(op, dir, e),
    }
}

fn remove_dir(path: &Path) -> Res<()> {
    ignore_absent(fs::remove_dir_all(path)).map_err(|e| StorageError::io("remove", path, e))
}

fn remove_file(path: &Path) -> Res<()> {
    ignore_absent(fs::remove_file(path)).map_err(|e| StorageError::io("remove", path, e))
}

fn ignore_absent(r: io::Result<()>) -> io::Result<()> {
    match r {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        r => r,
    }
}
