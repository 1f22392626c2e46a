//! A full-history export, line by line, back into a database.
//!
//! A line is `{:t n, :tx-instant #inst …, :tx-data [[e attr v added] …], :events […], :rows #bytes …}`;
//! a line `{:subject-keys {…}}` may stand before them.
//!
//! 1. Lines come in order of t into a database that ends right before them. Every line becomes
//!    the transaction of the same t at the same instant, with the same entity ids, facts of
//!    projections included: nothing is projected again.
//! 2. `:events` are there to be read; what is restored of them is in `:rows`. A line with events
//!    and without rows was edited, and is refused.
//! 3. A datom `[e attr v added t]` of five is filed under an older t.
//! 4. Lines of transactions that are there already are passed over, so an import goes on where
//!    it was left.

use crate::{
    fail::{Failure, Outcome},
    script::Item,
    session::{Session, read_edn},
};
use annals::{DumpError, Dumped, DumpedFact, EntityId, T, Value, edn};
use std::sync::Arc;

/// Transactions made durable together.
const TOGETHER: usize = 1_024;
/// Facts held for one sync.
const TOGETHER_FACTS: usize = 200_000;

/// What is said of it to somebody on a server.
const RESTORE: &str = "the import of a full history";

/// Does a form look like a line of a full-history export?
pub fn is_line(text: &str) -> bool {
    text.starts_with('{')
        && (text.contains(":tx-data") && text.contains(":tx-instant") || text.starts_with("{:subject-keys"))
}

/// Lines on their way in.
pub struct Restore {
    pending: Vec<(Item, Dumped)>,
    facts: usize,
    /// The transaction the next line must be, once the first was seen.
    next: Option<T>,
}

impl Restore {
    /// Nothing read yet.
    pub fn new() -> Restore {
        Restore { pending: Vec::new(), facts: 0, next: None }
    }

    /// One line; gives the number of facts that became durable with it.
    pub fn line(&mut self, s: &Session, item: &Item) -> Outcome<u64> {
        let line = read_edn(&item.text, "line")?;
        if let Some(keys) = line.get(&Value::keyword("subject-keys")) {
            return s
                .conn
                .local(RESTORE)?
                .load_subject_keys(&subject_keys(keys)?)
                .map_err(Failure::from)
                .map(|()| 0);
        }
        let dumped = parsed(&line)?;
        let here = s.conn.db()?.basis_t();
        let next = *self.next.get_or_insert_with(|| here.next());
        if dumped.t < next {
            return Ok(0);
        }
        if dumped.t != next {
            return Err(wrong(&format!(
                "the line is t{}, and t{next} must come next: lines come in order, into a database of their own",
                dumped.t
            )));
        }
        self.next = Some(next.next());
        self.facts += dumped.facts.len();
        self.pending.push((item.clone(), dumped));
        if self.pending.len() < TOGETHER && self.facts < TOGETHER_FACTS {
            return Ok(0);
        }
        self.finish(s).map_err(|(f, _)| f)
    }

    /// Commits what is left; gives the number of facts. A failure comes with the line it is about.
    pub fn finish(&mut self, s: &Session) -> Result<u64, (Failure, Option<Item>)> {
        let (items, all): (Vec<Item>, Vec<Dumped>) = std::mem::take(&mut self.pending).into_iter().unzip();
        self.facts = 0;
        if all.is_empty() {
            return Ok(0);
        }
        let sizes: Vec<u64> = all.iter().map(|d| d.facts.len() as u64).collect();
        let (done, refused) = s.conn.local(RESTORE).map_err(|f| (f, None))?.load_dump(all);
        match refused {
            None => Ok(sizes[..done].iter().sum()),
            Some(e) => Err((e.into(), items.get(done).cloned())),
        }
    }
}

impl Default for Restore {
    fn default() -> Restore {
        Restore::new()
    }
}

impl From<DumpError> for Failure {
    fn from(e: DumpError) -> Failure {
        match e {
            DumpError::Transact(e) => e.into(),
            DumpError::Db(e) => e.into(),
            other => Failure::refused(other.code(), other.to_string()),
        }
    }
}

fn wrong(why: &str) -> Failure {
    Failure::refused("import/history", why.to_owned())
}

fn subject_keys(v: &Value) -> Outcome<Vec<annals::SubjectKey>> {
    let Value::Map(entries) = v else { return Err(wrong(":subject-keys is a map from subjects to keys")) };
    entries
        .iter()
        .map(|(subject, key)| match (subject, key) {
            (Value::String(s), Value::String(k)) => Ok((s.clone(), Some(k.to_string()))),
            (Value::String(s), Value::Nil) => Ok((s.clone(), None)),
            _ => Err(wrong("a subject and its key are text")),
        })
        .collect()
}

/// A line as the transaction it stands for.
fn parsed(line: &Value) -> Outcome<Dumped> {
    let get = |k: &str| line.get(&Value::keyword(k));
    let (Some(Value::Long(t)), Some(Value::Instant(instant))) = (get("t"), get("tx-instant")) else {
        return Err(wrong("a line of a full-history export has :t and :tx-instant"));
    };
    let t = u64::try_from(*t).map(T).map_err(|_| wrong(":t is a number from 1"))?;
    let Some(Value::Vector(data)) = get("tx-data") else {
        return Err(wrong(":tx-data is a vector of datoms"));
    };
    let rows = match get("rows") {
        Some(Value::Bytes(b)) => b.to_vec(),
        Some(_) => return Err(wrong(":rows are bytes")),
        None if get("events").is_some() => {
            return Err(wrong("the line has :events and no :rows")
                .help("events are restored from :rows; to append them anew: annals import DB events"));
        }
        None => Vec::new(),
    };
    let facts: Outcome<Vec<DumpedFact>> = data
        .iter()
        .map(|d| {
            fact(d, t).ok_or_else(|| wrong(&format!("a datom is [e attr v added], not {}", edn::print(d))))
        })
        .collect();
    let mut facts = facts?;
    // The instant of the transaction itself stands in :tx-instant.
    let stamp: Arc<str> = Arc::from("db/txInstant");
    facts.retain(|f| !(f.e == t.entity() && matches!(&f.a, Value::Keyword(k) if *k.as_str() == *stamp)));
    Ok(Dumped { t, instant: *instant, facts, rows })
}

fn fact(d: &Value, t: T) -> Option<DumpedFact> {
    let (Value::Vector(parts) | Value::List(parts)) = d else { return None };
    let number = |v: &Value| match v {
        Value::Long(n) => u64::try_from(*n).ok(),
        Value::Ref(e) => Some(e.raw()),
        _ => None,
    };
    let (e, a, v, added, filed) = match &parts[..] {
        [e, a, v, Value::Bool(added)] => (e, a, v, *added, t),
        [e, a, v, Value::Bool(added), filed] => (e, a, v, *added, T(number(filed)?)),
        _ => return None,
    };
    (filed <= t).then_some(())?;
    Some(DumpedFact { e: EntityId::from_raw(number(e)?), a: a.clone(), v: v.clone(), added, t: filed })
}
