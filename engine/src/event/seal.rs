//! Erasure: personal values are stored encrypted under a key of their subject,
//! and forgetting the key forgets the values, in every copy of the log.
//!
//! 1. Keys live beside the log, in a file of their own that is rewritten when one
//!    is forgotten; they are in no log record, index or backup of the log.
//! 2. A sealed value is `#annals/sealed [subject bytes]` in the stored payload.
//!    Readers see the value while the key is there, and `:annals/erased` after.
//! 3. The nonce comes from the event id and the field's path: one key never
//!    meets one nonce twice with different values, since ids are unique.
//! 4. A forgotten subject stays in the file as forgotten: its name gets no new key.

use super::{
    data::{Data, DataError, put_bytes},
    id::EventId,
    record::Recorded,
};
use annals_model::{Symbol, Value};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, aead::Aead};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The tag of a value to be sealed: `#annals/personal [subject value]`.
pub(crate) const PERSONAL: &str = "annals/personal";
const SEALED: &str = "annals/sealed";
/// What stands in place of a value whose subject was erased.
pub const ERASED: &str = "annals/erased";

/// The file in the database's folder.
const FILE: &str = "subject-keys";

/// Keys could not be read, written, or used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key file could not be read or written.
    #[error("subject keys in {path}: {why}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The key file is not one.
    #[error("subject keys in {path} are damaged at line {line}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// The subject was erased.
    #[error("subject {0} has been erased: nothing personal is stored under its name any more")]
    Erased(Arc<str>),
    /// No randomness for a new key.
    #[error("no random bytes for a new key: {0}")]
    Random(String),
    /// The payload is not one.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl SealError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            SealError::Io { .. } => "event/keys-io",
            SealError::Damaged { .. } => "event/keys-damaged",
            SealError::Erased(_) => "event/subject-erased",
            SealError::Random(_) => "event/no-randomness",
            SealError::Data(_) => "event/bad-data",
        }
    }
}

/// A value to be stored under a subject's key.
///
/// ```
/// use annals::{Value, event::personal};
/// let name = personal("person-7", "Ada");
/// assert!(matches!(name, Value::Tagged(_)));
/// ```
pub fn personal(subject: &str, value: impl Into<Value>) -> Value {
    Value::Tagged(Arc::new((Symbol::new(PERSONAL), Value::vector([Value::string(subject), value.into()]))))
}

/// What stands in place of a tagged value, given its place; none to leave it.
type Replace<'r> = dyn FnMut(&(Symbol, Value), &[u8]) -> Result<Option<Value>, SealError> + 'r;

type Keys = HashMap<Arc<str>, Option<[u8; 32]>>;

/// The keys of the subjects of one database.
#[derive(Default)]
pub(crate) struct Seals {
    file: Option<PathBuf>,
    keys: RwLock<Keys>,
}

impl Seals {
    /// Keys of a database without files.
    pub fn in_memory() -> Seals {
        Seals::default()
    }

    /// The keys kept in a database's folder.
    pub fn open(folder: &Path) -> Result<Seals, SealError> {
        let path = folder.join(FILE);
        let mut keys = Keys::new();
        match fs::read_to_string(&path) {
            Ok(text) => {
                for (i, line) in text.lines().enumerate() {
                    let damaged = || SealError::Damaged { path: path.clone(), line: i + 1 };
                    let (key, subject) = line.split_once(' ').ok_or_else(damaged)?;
                    let key = if key == "forgotten" { None } else { Some(unhex(key).ok_or_else(damaged)?) };
                    keys.insert(Arc::from(subject), key);
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(SealError::Io { path, why: e.to_string() }),
        }
        Ok(Seals { file: Some(path), keys: RwLock::new(keys) })
    }

    fn write(&self, keys: &Keys) -> Result<(), SealError> {
        let Some(path) = &self.file else { return Ok(()) };
        let write = || -> std::io::Result<()> {
            let draft = path.with_extension("new");
            let mut f = fs::File::create(&draft)?;
            let mut lines: Vec<_> = keys.iter().collect();
            lines.sort();
            for (subject, key) in lines {
                match key {
                    Some(key) => writeln!(f, "{} {subject}", hex(key))?,
                    None => writeln!(f, "forgotten {subject}")?,
                }
            }
            f.sync_all()?;
            // Blank the old file first: renaming over it would leave its blocks as they are.
            if let Ok(old) = fs::OpenOptions::new().write(true).open(path) {
                let n = old.metadata()?.len();
                let mut old = old;
                old.write_all(&vec![0; usize::try_from(n).unwrap_or(0)])?;
                old.sync_all()?;
            }
            fs::rename(&draft, path)?;
            if let Some(folder) = path.parent() {
                fs::File::open(folder)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|e| SealError::Io { path: path.clone(), why: e.to_string() })
    }

    /// The subject's key, made when it has none.
    fn key(&self, subject: &str) -> Result<[u8; 32], SealError> {
        if let Some(known) = self.keys.read().get(subject) {
            return known.ok_or_else(|| SealError::Erased(Arc::from(subject)));
        }
        let mut keys = self.keys.write();
        if let Some(known) = keys.get(subject) {
            return known.ok_or_else(|| SealError::Erased(Arc::from(subject)));
        }
        // Two random UUIDs hold 244 random bits; hashed, they make a key.
        let seed = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
        let key = *blake3::hash(&seed).as_bytes();
        keys.insert(Arc::from(subject), Some(key));
        self.write(&keys)?;
        Ok(key)
    }

    /// Every subject with its key in hex; none for one that was forgotten. In order of subjects.
    pub fn exported(&self) -> Vec<(Arc<str>, Option<String>)> {
        let keys = self.keys.read();
        let mut all: Vec<_> = keys.iter().map(|(s, k)| (s.clone(), k.as_ref().map(|k| hex(k)))).collect();
        all.sort();
        all
    }

    /// Takes in what [`Seals::exported`] gave; a subject that is known here stays as it is. False
    /// when a key is none.
    pub fn adopt(&self, exported: &[(Arc<str>, Option<String>)]) -> Result<bool, SealError> {
        let mut keys = self.keys.write();
        for (subject, key) in exported {
            let key = match key.as_deref().map(unhex) {
                None => None,
                Some(Some(key)) => Some(key),
                Some(None) => return Ok(false),
            };
            keys.entry(subject.clone()).or_insert(key);
        }
        self.write(&keys)?;
        Ok(true)
    }

    /// Forgets a subject's key. True when there was one.
    pub fn forget(&self, subject: &str) -> Result<bool, SealError> {
        let mut keys = self.keys.write();
        let had = keys.insert(Arc::from(subject), None).flatten().is_some();
        self.write(&keys)?;
        Ok(had)
    }

    /// The payload as it is stored: what is personal sealed.
    pub fn seal(&self, id: EventId, data: &Data) -> Result<Option<Data>, SealError> {
        if !mentions(data, PERSONAL) {
            return Ok(None);
        }
        let sealed = self.walk(&data.value()?, &mut Vec::new(), &mut |t, path| {
            let Value::Vector(pair) = &t.1 else { return Ok(None) };
            let (PERSONAL, [Value::String(subject), v]) = (t.0.as_str(), &pair[..]) else { return Ok(None) };
            let key = self.key(subject)?;
            let mut plain = Vec::new();
            super::data::encode(v, &mut plain, 0)?;
            let cipher = ChaCha20Poly1305::new(&Key::from(key));
            let bytes = cipher
                .encrypt(&nonce(id, path), plain.as_slice())
                .map_err(|_| SealError::Data(DataError::Serialize("value too large to seal".into())))?;
            let parts = Value::vector([Value::String(subject.clone()), Value::Bytes(bytes.into())]);
            Ok(Some(Value::Tagged(Arc::new((Symbol::new(SEALED), parts)))))
        })?;
        Ok(Some(Data::of(&sealed)?))
    }

    /// The event with what is sealed opened, or marked as erased.
    pub fn open_event(&self, mut r: Recorded) -> Result<Recorded, SealError> {
        if !mentions(&r.event.data, SEALED) {
            return Ok(r);
        }
        let id = r.event.id;
        let opened = self.walk(&r.event.data.value()?, &mut Vec::new(), &mut |t, path| {
            let Value::Vector(pair) = &t.1 else { return Ok(None) };
            let (SEALED, [Value::String(subject), Value::Bytes(bytes)]) = (t.0.as_str(), &pair[..]) else {
                return Ok(None);
            };
            let key = self.keys.read().get(subject).copied().flatten();
            let plain = key.and_then(|key| {
                ChaCha20Poly1305::new(&Key::from(key)).decrypt(&nonce(id, path), bytes.as_ref()).ok()
            });
            Ok(Some(match plain {
                Some(plain) => Data::stored(&plain).value()?,
                None => Value::keyword(ERASED),
            }))
        })?;
        r.event.data = Data::of(&opened)?;
        Ok(r)
    }

    /// Replaces tagged values; `path` tells the places apart.
    fn walk(&self, v: &Value, path: &mut Vec<u8>, replace: &mut Replace<'_>) -> Result<Value, SealError> {
        let n = path.len();
        Ok(match v {
            Value::Tagged(t) => match replace(t, path)? {
                Some(v) => v,
                None => v.clone(),
            },
            Value::Map(entries) => {
                let mut out = Vec::with_capacity(entries.len());
                for (k, v) in entries.iter() {
                    super::data::encode(k, path, 0)?;
                    out.push((k.clone(), self.walk(v, path, replace)?));
                    path.truncate(n);
                }
                Value::Map(out.into())
            }
            Value::Vector(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (i, v) in items.iter().enumerate() {
                    path.extend_from_slice(&(i as u64).to_be_bytes());
                    out.push(self.walk(v, path, replace)?);
                    path.truncate(n);
                }
                Value::Vector(out.into())
            }
            v => v.clone(),
        })
    }
}

/// A cheap test that never misses.
fn mentions(data: &Data, tag: &str) -> bool {
    data.bytes().windows(tag.len()).any(|w| w == tag.as_bytes())
}

fn nonce(id: EventId, path: &[u8]) -> Nonce {
    let mut bytes = Vec::with_capacity(32);
    put_bytes(&mut bytes, id.0.as_bytes());
    put_bytes(&mut bytes, path);
    let hash = blake3::hash(&bytes);
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&hash.as_bytes()[..12]);
    Nonce::from(nonce)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

/// The payload with personal values as their readers see them; none when nothing is personal.
pub(crate) fn opened(data: &Data) -> Option<Data> {
    fn strip(v: &Value) -> Value {
        match v {
            Value::Tagged(t) => match (&t.1, t.0.as_str()) {
                (Value::Vector(pair), PERSONAL) if pair.len() == 2 => pair[1].clone(),
                _ => v.clone(),
            },
            Value::Map(m) => Value::Map(m.iter().map(|(k, v)| (k.clone(), strip(v))).collect()),
            Value::Vector(items) => Value::Vector(items.iter().map(strip).collect()),
            v => v.clone(),
        }
    }
    if !mentions(data, PERSONAL) {
        return None;
    }
    Data::of(&strip(&data.value().ok()?)).ok()
}

/// Does the payload hold sealed values?
pub(crate) fn is_sealed(data: &Data) -> bool {
    mentions(data, SEALED)
}

/// Does the payload hold values of a subject that was erased?
pub(crate) fn is_erased(data: &Data) -> bool {
    mentions(data, ERASED)
}
