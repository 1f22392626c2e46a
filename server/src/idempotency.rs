//! Requests that may be sent again: one key, one execution, one answer.
//!
//! 1. A key belongs to a principal; nobody meets another's keys.
//! 2. While the first request with a key runs, a second one is told so (409).
//!    Afterwards it gets the stored answer, if it is the same request, else 422.
//! 3. Answers stay in memory for the configured time. The key itself and the hash
//!    of the request stand on the transaction, so that even after a restart the
//!    same request is not carried out twice.
//! 4. An answer that may be different next time (429, 503, …) is not kept.

use crate::wire::problem::{Class, Problem};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// What a finished request was answered.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The transaction.
    pub t: u64,
    /// The answer.
    pub tree: crate::wire::tree::Tree,
}

#[derive(Debug)]
enum Entry {
    Running([u8; 32]),
    Done([u8; 32], Instant, Box<Stored>),
}

/// The keys of one database.
#[derive(Debug, Default)]
pub struct Keys(Mutex<HashMap<String, Entry>>);

/// Keys remembered at a time; the oldest answers make room.
const MOST: usize = 100_000;

/// The right to carry out the request of a key.
pub struct Claim<'a> {
    keys: &'a Keys,
    key: String,
    hash: [u8; 32],
    kept: bool,
}

/// What is known of a key.
pub enum Known<'a> {
    /// Nothing: carry it out.
    New(Claim<'a>),
    /// It was carried out by this process.
    Done(Box<Stored>),
}

impl Keys {
    /// Claims a key for a request with this hash.
    pub fn claim(&self, key: String, hash: [u8; 32], keep: Duration) -> Result<Known<'_>, Problem> {
        let mut map = self.0.lock();
        match map.get(&key) {
            Some(Entry::Running(h) | Entry::Done(h, ..)) if *h != hash => return Err(reused()),
            Some(Entry::Running(_)) => {
                return Err(Problem::new(
                    Class::Conflict,
                    "idempotency/in-flight",
                    "the first request with this key is still running",
                )
                .hint("ask again in a moment"));
            }
            Some(Entry::Done(_, at, stored)) if at.elapsed() < keep => {
                return Ok(Known::Done(stored.clone()));
            }
            Some(Entry::Done(..)) | None => {}
        }
        if map.len() >= MOST {
            map.retain(|_, e| {
                matches!(e, Entry::Running(_))
                    || matches!(e, Entry::Done(_, at, _) if at.elapsed() < keep / 2)
            });
            if map.len() >= MOST {
                return Err(Problem::new(
                    Class::TooMany,
                    "idempotency/too-many-keys",
                    "too many keys are remembered",
                ));
            }
        }
        map.insert(key.clone(), Entry::Running(hash));
        Ok(Known::New(Claim { keys: self, key, hash, kept: false }))
    }
}

impl Claim<'_> {
    /// Keeps the answer for whoever sends the request again.
    pub fn keep(mut self, stored: Stored) {
        self.kept = true;
        let done = Entry::Done(self.hash, Instant::now(), Box::new(stored));
        self.keys.0.lock().insert(std::mem::take(&mut self.key), done);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.keys.0.lock().remove(&self.key);
        }
    }
}

/// The complaint about a key that came with another request before.
pub fn reused() -> Problem {
    Problem::new(Class::Meaning, "idempotency/key-reused", "this key was used for another request")
        .hint("make a new key for a new request")
}

/// Reads the header: 1 to 200 visible characters.
pub fn key(headers: &axum::http::HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or("").trim().trim_matches('"');
    if text.is_empty() || text.len() > 200 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::new(
            Class::Syntax,
            "idempotency/key",
            "Idempotency-Key is 1 to 200 visible ASCII characters",
        ));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tree::Tree;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn one_execution_and_its_answer() {
        let keys = Keys::default();
        let Ok(Known::New(claim)) = keys.claim("k".into(), [1; 32], HOUR) else { panic!("the key is new") };
        let code = |r: Result<Known<'_>, Problem>| r.err().map(|p| p.code.to_string());
        assert_eq!(code(keys.claim("k".into(), [1; 32], HOUR)).as_deref(), Some("idempotency/in-flight"));
        assert_eq!(code(keys.claim("k".into(), [2; 32], HOUR)).as_deref(), Some("idempotency/key-reused"));
        claim.keep(Stored { t: 7, tree: Tree::from(7u64) });
        assert!(matches!(keys.claim("k".into(), [1; 32], HOUR), Ok(Known::Done(s)) if s.t == 7));
        assert_eq!(code(keys.claim("k".into(), [2; 32], HOUR)).as_deref(), Some("idempotency/key-reused"));
    }

    #[test]
    fn a_request_that_failed_gives_its_key_back() {
        let keys = Keys::default();
        drop(keys.claim("k".into(), [1; 32], HOUR));
        assert!(matches!(keys.claim("k".into(), [2; 32], HOUR), Ok(Known::New(_))));
    }
}
