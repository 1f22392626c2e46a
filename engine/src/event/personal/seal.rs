//! Erasure: personal values are stored encrypted under a key of their subject,
//! and forgetting the key forgets the values, in every copy of the log.
//!
//! 1. Keys live beside the log, in a file of their own that is rewritten when one
//!    is forgotten; they are in no log record, index or backup of the log.
//! 2. A sealed value is `#annals/sealed [subject bytes]` in the stored payload. One that is not
//!    personal itself but holds what is (`marks`) has a third part: what it holds, sealed likewise.
//!    Readers see the value while the key is there, and `:annals/erased` after.
//! 3. The nonce comes from an id, the field's path, and which of the two parts it is: one key never
//!    meets one nonce twice with different values, since an id is of one sealing: an event's
//!    own, or one that was made for it.
//! 4. A forgotten subject stays in the file as forgotten: its name gets no new key.

use crate::event::{
    data::{Data, DataError, put_bytes},
    id::EventId,
    keys::{KeyRing, hex, unhex},
    marks::Marks,
    record::Recorded,
};
use annals_model::{Symbol, Value};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, aead::Aead};
use hashbrown::HashSet;
use parking_lot::RwLock;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};
use uuid::Uuid;

/// The tag of a value to be sealed: `#annals/personal [subject value]`.
pub(crate) const PERSONAL: &str = "annals/personal";
pub(crate) const SEALED: &str = "annals/sealed";
/// What stands in place of a value whose subject was erased.
pub const ERASED: &str = "annals/erased";

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
    /// The name cannot be kept.
    #[error("{0:?} names no subject: a name has at least one character, and no control characters")]
    BadSubject(Arc<str>),
    /// A personal value without a place of its own.
    #[error("a personal value stands in a set, in a key of a map, or inside another tagged value")]
    Unplaced,
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
            SealError::BadSubject(_) => "event/bad-subject",
            SealError::Unplaced => "event/personal-unplaced",
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

/// What stands in place of a value, given its place; none to look into it.
type Replace<'r> = dyn FnMut(&Value, &[u8]) -> Result<Option<Value>, SealError> + 'r;

/// What stands in place of a sealed value, given its subject, its place and, while the key is there,
/// what it is.
type Read<'r> = dyn FnMut(&Arc<str>, &[u8], Option<Plain>) -> Result<Value, SealError> + 'r;

/// A sealed value, opened.
struct Plain {
    value: Value,
    /// What in it is personal; none when all of it is.
    held: Option<Value>,
}

/// Which part of a sealed value.
#[derive(Clone, Copy)]
enum Part {
    Value,
    Held,
}

/// The keys of the subjects of one database.
#[derive(Default)]
pub(crate) struct Seals {
    keys: RwLock<KeyRing>,
    /// Subjects that are being erased.
    closing: RwLock<HashSet<Arc<str>>>,
}

impl Seals {
    /// Keys of a database without files.
    pub fn in_memory() -> Seals {
        Seals::default()
    }

    /// The keys kept in a database's folder.
    pub fn open(folder: &Path) -> Result<Seals, SealError> {
        Ok(Seals { keys: RwLock::new(KeyRing::open(folder)?), ..Seals::default() })
    }

    /// The subject's key, made when it has none.
    fn key(&self, subject: &str) -> Result<[u8; 32], SealError> {
        if self.closing.read().contains(subject) {
            return Err(SealError::Erased(Arc::from(subject)));
        }
        if let Some(known) = self.keys.read().get(subject) {
            return known.ok_or_else(|| SealError::Erased(Arc::from(subject)));
        }
        let mut keys = self.keys.write();
        if let Some(known) = keys.get(subject) {
            return known.ok_or_else(|| SealError::Erased(Arc::from(subject)));
        }
        // Two random UUIDs hold 244 random bits; hashed, they make a key.
        let seed = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
        let key = *blake3::hash(&seed).as_bytes();
        keys.add(vec![(Arc::from(subject), Some(key))])?;
        Ok(key)
    }

    /// Every subject with its key in hex; none for one that was forgotten. In order of subjects.
    pub fn exported(&self) -> Vec<(Arc<str>, Option<String>)> {
        let keys = self.keys.read();
        keys.all().map(|(subject, key)| (subject.clone(), key.as_ref().map(|k| hex(k)))).collect()
    }

    /// Takes in what [`Seals::exported`] gave; a subject that is known here stays as it is. False
    /// when a key is none.
    pub fn adopt(&self, exported: &[(Arc<str>, Option<String>)]) -> Result<bool, SealError> {
        let mut keys = self.keys.write();
        let mut fresh = Vec::new();
        for (subject, key) in exported {
            let key = match key.as_deref().map(unhex) {
                None => None,
                Some(Some(key)) => Some(key),
                Some(None) => return Ok(false),
            };
            if keys.get(subject).is_none() {
                fresh.push((subject.clone(), key));
            }
        }
        keys.add(fresh)?;
        Ok(true)
    }

    /// Forgets a subject's key. True when there was one.
    pub fn forget(&self, subject: &str) -> Result<bool, SealError> {
        self.keys.write().forget(subject)
    }

    /// The payload as it is stored: what is personal sealed.
    pub fn seal(&self, id: EventId, data: &Data) -> Result<Option<Data>, SealError> {
        if !mentions(data, PERSONAL) {
            return Ok(None);
        }
        let given = data.value()?;
        if unplaced(&given) {
            return Err(SealError::Unplaced);
        }
        Ok(Some(Data::of(&self.seal_value(id.0, &given)?)?))
    }

    /// A value with what is marked as personal sealed. `id` tells it from every other value that is
    /// sealed: under one id, one place never holds two values.
    fn seal_value(&self, id: Uuid, given: &Value) -> Result<Value, SealError> {
        self.walk(given, &mut Vec::new(), &mut |v, path| {
            let Value::Tagged(t) = v else { return Ok(None) };
            let Value::Vector(pair) = &t.1 else { return Ok(None) };
            let (PERSONAL, [Value::String(subject), v]) = (t.0.as_str(), &pair[..]) else { return Ok(None) };
            let bytes = self.encrypt(subject, id, path, Part::Value, v)?;
            Ok(Some(sealed([Value::String(subject.clone()), bytes])))
        })
    }

    /// A value with everything sealed that holds one of these marks; none when nothing does. An id is
    /// for one sealing: the same value sealed again takes another.
    pub fn seal_held(&self, id: Uuid, given: &Value, marks: &Marks) -> Result<Option<Value>, SealError> {
        let mut any = false;
        let stored = self.walk(given, &mut Vec::new(), &mut |v, path| {
            let held: Vec<_> = marks.held(v).into_iter().collect();
            any |= !held.is_empty();
            Ok(if held.is_empty() { None } else { Some(self.seal_under(id, path, v, &held)?) })
        })?;
        Ok(any.then_some(stored))
    }

    /// A value under the keys of several subjects, the last outermost, each with what it holds of them.
    fn seal_under(
        &self,
        id: Uuid,
        path: &[u8],
        v: &Value,
        held: &[(Arc<str>, BTreeSet<Value>)],
    ) -> Result<Value, SealError> {
        let Some(((subject, marks), within)) = held.split_last() else { return Ok(v.clone()) };
        let v = self.seal_under(Uuid::new_v5(&id, path), &[], v, within)?;
        let bytes = self.encrypt(subject, id, path, Part::Value, &v)?;
        let marks = self.encrypt(subject, id, path, Part::Held, &Value::vector(marks.iter().cloned()))?;
        Ok(sealed([Value::String(subject.clone()), bytes, marks]))
    }

    fn encrypt(
        &self,
        subject: &str,
        id: Uuid,
        path: &[u8],
        part: Part,
        v: &Value,
    ) -> Result<Value, SealError> {
        let cipher = ChaCha20Poly1305::new(&Key::from(self.key(subject)?));
        let mut plain = Vec::new();
        crate::event::data::encode(v, &mut plain, 0)?;
        let bytes = cipher
            .encrypt(&nonce(id, path, part), plain.as_slice())
            .map_err(|_| SealError::Data(DataError::Serialize("value too large to seal".into())))?;
        Ok(Value::Bytes(bytes.into()))
    }

    /// A value sealed under this id with everything opened, and noted what in it is personal;
    /// `:annals/erased` stands for what nobody can read any more.
    pub fn open_value(&self, id: Uuid, v: &Value, marks: &mut Marks) -> Result<Value, SealError> {
        self.open_places(id, v, &mut |subject, path, plain| {
            let Some(Plain { value, held }) = plain else { return Ok(Value::keyword(ERASED)) };
            match held {
                Some(Value::Vector(held)) => {
                    held.iter().for_each(|mark| marks.add(subject, mark));
                    self.open_value(Uuid::new_v5(&id, path), &value, marks)
                }
                _ => {
                    marks.note(subject, &value);
                    Ok(value)
                }
            }
        })
    }

    /// The personal values of a stored event that can be read.
    pub fn marks(&self, r: &Recorded) -> Result<Marks, SealError> {
        let mut marks = Marks::default();
        if mentions(&r.event.data, SEALED) {
            self.open_value(r.event.id.0, &r.event.data.value()?, &mut marks)?;
        }
        Ok(marks)
    }

    /// The event with what is sealed opened, or marked as erased.
    pub fn open_event(&self, r: Recorded) -> Result<Recorded, SealError> {
        self.open_as(r, &mut |_, plain| plain.unwrap_or_else(|| Value::keyword(ERASED)))
    }

    /// The event as its readers see it when this subject has been erased.
    pub fn open_without(&self, r: Recorded, subject: &str) -> Result<Recorded, SealError> {
        self.open_as(r, &mut |of, plain| {
            plain.filter(|_| of != subject).unwrap_or_else(|| Value::keyword(ERASED))
        })
    }

    /// The event as it was given: what is sealed marked as personal again, to be sealed anew.
    pub fn unsealed(&self, r: Recorded) -> Result<Recorded, SealError> {
        self.open_as(r, &mut |of, plain| match plain {
            Some(v) => personal(of, v),
            None => Value::keyword(ERASED),
        })
    }

    /// The personal values of a subject in a stored event, as far as its key still opens them;
    /// none when the event holds nothing of the subject.
    pub fn of_subject(&self, r: &Recorded, subject: &str) -> Result<Option<Vec<Value>>, SealError> {
        let mut found = None;
        if mentions(&r.event.data, subject) {
            self.open_as(r.clone(), &mut |of, plain| {
                if of == subject {
                    found.get_or_insert_with(Vec::new).extend(plain);
                }
                Value::keyword(ERASED)
            })?;
        }
        Ok(found)
    }

    /// The event with sealed values replaced, given their subject and, while its key is there, the value.
    fn open_as(
        &self,
        mut r: Recorded,
        read: &mut dyn FnMut(&str, Option<Value>) -> Value,
    ) -> Result<Recorded, SealError> {
        if !is_sealed(&r.event.data) {
            return Ok(r);
        }
        let opened = self.open_places(r.event.id.0, &r.event.data.value()?, &mut |subject, _, plain| {
            Ok(read(subject, plain.map(|p| p.value)))
        })?;
        r.event.data = Data::of(&opened)?;
        Ok(r)
    }

    /// A value with sealed places replaced, given subject, place and, while its key is there, the value.
    fn open_places(&self, id: Uuid, v: &Value, read: &mut Read<'_>) -> Result<Value, SealError> {
        self.walk(v, &mut Vec::new(), &mut |v, path| {
            let Value::Tagged(t) = v else { return Ok(None) };
            let Value::Vector(parts) = &t.1 else { return Ok(None) };
            let (SEALED, [Value::String(subject), Value::Bytes(bytes), rest @ ..]) =
                (t.0.as_str(), &parts[..])
            else {
                return Ok(None);
            };
            let key = self.keys.read().get(subject).flatten();
            let open = |bytes: &[u8], part| -> Result<Option<Value>, SealError> {
                let cipher = key.map(|key| ChaCha20Poly1305::new(&Key::from(key)));
                let plain = cipher.and_then(|c| c.decrypt(&nonce(id, path, part), bytes).ok());
                Ok(plain.map(|plain| Data::stored(&plain).value()).transpose()?)
            };
            let held = match rest {
                [Value::Bytes(held)] => open(held, Part::Held)?,
                _ => None,
            };
            let plain = open(bytes, Part::Value)?.map(|value| Plain { value, held });
            Ok(Some(read(subject, path, plain)?))
        })
    }

    /// Is there a key of this subject?
    pub fn knows(&self, subject: &str) -> bool {
        self.keys.read().get(subject).flatten().is_some()
    }

    /// Stores nothing more under a subject, while what is stored can still be read.
    pub fn close(&self, subject: &str) {
        self.closing.write().insert(Arc::from(subject));
    }

    /// Takes [`Seals::close`] back.
    pub fn reopen(&self, subject: &str) {
        self.closing.write().remove(subject);
    }

    /// Replaces values; `path` tells the places apart.
    fn walk(&self, v: &Value, path: &mut Vec<u8>, replace: &mut Replace<'_>) -> Result<Value, SealError> {
        if let Some(other) = replace(v, path)? {
            return Ok(other);
        }
        let n = path.len();
        Ok(match v {
            Value::Map(entries) => {
                let mut out = Vec::with_capacity(entries.len());
                for (k, v) in entries.iter() {
                    crate::event::data::encode(k, path, 0)?;
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
            Value::List(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (i, v) in items.iter().enumerate() {
                    path.extend_from_slice(&(i as u64).to_be_bytes());
                    out.push(self.walk(v, path, replace)?);
                    path.truncate(n);
                }
                Value::List(out.into())
            }
            v => v.clone(),
        })
    }
}

/// Does a personal value stand where it has no place that tells it from others: in a set, as a
/// key, inside another tagged value?
fn unplaced(v: &Value) -> bool {
    fn personal(v: &Value) -> bool {
        match v {
            Value::Tagged(t) => t.0.as_str() == PERSONAL || personal(&t.1),
            Value::Map(m) => m.iter().any(|(k, v)| personal(k) || personal(v)),
            Value::Vector(items) | Value::List(items) | Value::Set(items) => items.iter().any(personal),
            _ => false,
        }
    }
    match v {
        Value::Tagged(t) => match &t.1 {
            Value::Vector(pair) if t.0.as_str() == PERSONAL => pair.iter().any(personal),
            inner => personal(inner),
        },
        Value::Map(m) => m.iter().any(|(k, v)| personal(k) || unplaced(v)),
        Value::Vector(items) | Value::List(items) => items.iter().any(unplaced),
        Value::Set(items) => items.iter().any(personal),
        _ => false,
    }
}

/// A cheap test that never misses.
fn mentions(data: &Data, tag: &str) -> bool {
    !tag.is_empty() && memchr::memmem::find(data.bytes(), tag.as_bytes()).is_some()
}

/// A sealed value of its parts: subject, bytes and perhaps what it holds.
fn sealed<const N: usize>(parts: [Value; N]) -> Value {
    Value::Tagged(Arc::new((Symbol::new(SEALED), Value::vector(parts))))
}

fn nonce(id: Uuid, path: &[u8], part: Part) -> Nonce {
    let mut bytes = Vec::with_capacity(32);
    put_bytes(&mut bytes, id.as_bytes());
    put_bytes(&mut bytes, path);
    if let Part::Held = part {
        bytes.push(1);
    }
    let hash = blake3::hash(&bytes);
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&hash.as_bytes()[..12]);
    Nonce::from(nonce)
}

/// The payload with personal values as their readers see them; none when nothing is personal.
pub(crate) fn opened(data: &Data) -> Option<Data> {
    if !mentions(data, PERSONAL) {
        return None;
    }
    Data::of(&unmarked(&data.value().ok()?, &mut Marks::default())).ok()
}

/// The value without its marks of personal values, which are noted.
pub(crate) fn unmarked(v: &Value, marks: &mut Marks) -> Value {
    match v {
        Value::Tagged(t) => match (&t.1, t.0.as_str()) {
            (Value::Vector(pair), PERSONAL) if pair.len() == 2 => {
                if let Value::String(subject) = &pair[0] {
                    marks.note(subject, &pair[1]);
                }
                pair[1].clone()
            }
            _ => v.clone(),
        },
        Value::Map(m) => Value::Map(m.iter().map(|(k, v)| (k.clone(), unmarked(v, marks))).collect()),
        Value::Vector(items) => Value::Vector(items.iter().map(|v| unmarked(v, marks)).collect()),
        Value::List(items) => Value::List(items.iter().map(|v| unmarked(v, marks)).collect()),
        v => v.clone(),
    }
}

/// Does `:annals/erased` stand anywhere in a value?
pub(crate) fn has_erased(v: &Value) -> bool {
    match v {
        Value::Keyword(k) => k.as_str() == ERASED,
        Value::Map(m) => m.iter().any(|(_, v)| has_erased(v)),
        Value::Vector(items) | Value::List(items) | Value::Set(items) => items.iter().any(has_erased),
        _ => false,
    }
}

/// Does a stored value hold one that is sealed under this subject?
pub(crate) fn is_sealed_under(v: &Value, subject: &str) -> bool {
    match v {
        Value::Tagged(t) => match &t.1 {
            Value::Vector(pair) if t.0.as_str() == SEALED => pair.first() == Some(&Value::string(subject)),
            inner => is_sealed_under(inner, subject),
        },
        Value::Map(m) => m.iter().any(|(_, v)| is_sealed_under(v, subject)),
        Value::Vector(items) | Value::List(items) | Value::Set(items) => {
            items.iter().any(|v| is_sealed_under(v, subject))
        }
        _ => false,
    }
}

/// Does the payload hold sealed values?
pub(crate) fn is_sealed(data: &Data) -> bool {
    // Every event read is looked through: the searcher is made once.
    static SEARCHER: LazyLock<memchr::memmem::Finder<'static>> =
        LazyLock::new(|| memchr::memmem::Finder::new(SEALED));
    SEARCHER.find(data.bytes()).is_some()
}

/// Does the payload hold values of a subject that was erased?
pub(crate) fn is_erased(data: &Data) -> bool {
    mentions(data, ERASED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Data {
        Data::of(&crate::event::read_edn(text).unwrap()).unwrap()
    }

    #[test]
    fn every_place_is_sealed_and_what_has_no_place_is_refused() {
        let seals = Seals::in_memory();
        let id = EventId(Uuid::from_u128(7));
        let given = data(
            r##"{:a #annals/personal ["ada" 1] :b [2 #annals/personal ["ada" "x"]] :c (#annals/personal ["bob" :k])}"##,
        );
        let stored = seals.seal(id, &given).unwrap().unwrap();
        assert!(is_sealed(&stored) && !mentions(&stored, PERSONAL));
        for bad in [
            r##"{:a #{#annals/personal ["ada" 1]}}"##,
            r##"{#annals/personal ["ada" 1] 1}"##,
            r##"{:a #other/tag #annals/personal ["ada" 1]}"##,
            r##"{:a #annals/personal ["ada" #annals/personal ["bob" 1]]}"##,
        ] {
            assert!(matches!(seals.seal(id, &data(bad)), Err(SealError::Unplaced)), "{bad}");
        }
    }

    #[test]
    fn what_is_sealed_with_a_personal_value_is_no_mark_itself() {
        let (seals, id) = (Seals::in_memory(), Uuid::from_u128(7));
        let mut marks = Marks::default();
        marks.note(&Arc::from("ada"), &Value::from("Ada Lovelace"));
        marks.note(&Arc::from("zoe"), &Value::from("Zoe Nightingale"));
        let state = crate::event::read_edn(
            r#"{:text "Dear Ada Lovelace, order shipped to Zoe Nightingale" :status "shipped" :last "Lovelace"}"#,
        );
        let state = state.unwrap();
        let stored = seals.seal_held(id, &state, &marks).unwrap().unwrap();
        let mut again = Marks::default();
        assert_eq!(seals.open_value(id, &stored, &mut again).unwrap(), state);
        // What is read back is what was seen, of both; and the text around it is nobody's.
        assert_eq!(again.held(&Value::from("shipped")), Default::default());
        assert_eq!(again.held(&Value::from("order")), Default::default());
        for text in ["Ada Lovelace", "Lovelace", "Nightingale"] {
            assert_eq!(again.held(&Value::from(text)), marks.held(&Value::from(text)), "{text}");
        }
        // Erasing one of two makes it unreadable, and leaves what is the other's.
        seals.forget("ada").unwrap();
        let mut left = Marks::default();
        let opened = seals.open_value(id, &stored, &mut left).unwrap();
        assert_eq!(opened.get(&Value::keyword("text")), Some(&Value::keyword(ERASED)));
        assert_eq!(opened.get(&Value::keyword("status")), Some(&Value::from("shipped")));
        assert!(left.held(&Value::from("Lovelace")).is_empty());
    }
}
