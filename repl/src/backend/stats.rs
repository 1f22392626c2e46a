//! Sizes and counts of a database, by name.

use super::{Conn, Db};
use crate::fail::Outcome;
use annals::{StoreStats, Value};

impl Conn {
    /// Sizes and counts; bytes under names that end in `bytes`. A server tells what it tells.
    pub fn stats(&self) -> Outcome<Vec<(String, Value)>> {
        match self {
            Conn::Local(c) => {
                let (db, stats) = (c.db().into(), c.stats()?);
                Ok(lines(&db, &stats).into_iter().map(|(n, v)| (n.to_owned(), v)).collect())
            }
            Conn::Remote(c) => {
                let Value::Map(entries) = c.request("GET", "", &[], None)? else { return Ok(Vec::new()) };
                let named = entries.iter().filter_map(|(k, v)| match k {
                    Value::Keyword(k) => Some((k.as_str().to_owned(), v.clone())),
                    _ => None,
                });
                Ok(named.collect())
            }
        }
    }
}

fn lines(db: &Db, st: &StoreStats) -> Vec<(&'static str, Value)> {
    let long = |n: u64| Value::Long(i64::try_from(n).unwrap_or(i64::MAX));
    let own = st
        .attributes
        .iter()
        .filter(|(a, now, past)| {
            now + past > 0 && db.ident(a.entity()).is_some_and(|k| k.namespace() != Some("db"))
        })
        .count();
    let mut lines = vec![("t", long(st.basis.0))];
    if let Some(i) = db.instant_of(st.basis) {
        lines.push(("tx-instant", Value::Instant(i)));
    }
    lines.extend([
        ("facts", long(st.current)),
        ("facts-ended", long(st.closed)),
        ("attributes-used", long(own as u64)),
        ("indexed-to-t", long(st.indexed.0)),
        ("facts-not-yet-indexed", long(st.novelty_facts as u64)),
        ("log-segments", long(st.segments as u64)),
        ("log-bytes", long(st.log_bytes)),
        ("log-disk-bytes", long(st.log_disk_bytes)),
        ("index-bytes", long(st.index_bytes)),
        ("cache-bytes", long(st.cache_bytes as u64)),
    ]);
    lines
}
