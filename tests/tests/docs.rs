//! Runs the manual: every `edn,…` block of docs/*.md, page by page, each page on a fresh database in memory.
//!
//! | block | meaning |
//! |---|---|
//! | `edn,tx` | is transacted |
//! | `edn,tx-error` | is refused, with the code after `;=>` |
//! | `edn,query[,as-of=T][,since=T][,history][,in=[…]][,rules=[…]]` | answers what stands after `;=>` |
//! | `edn,query-error` | is refused, with the code after `;=>` |
//! | `edn` alone | is at least readable |
//!
//! Relations and collections compare as sets unless the query orders its rows.

use annals::{Db, Input, Value};
use std::{fs, path::Path};

struct Block {
    line: usize,
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (i, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: i + 1, info: info.trim().into(), text: String::new() })
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(b), None) => {
                b.text.push_str(line);
                b.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// The value of `key=` in a block's info string; a bracketed value may hold commas.
fn option<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    let rest = &info[info.find(&format!(",{key}="))? + key.len() + 2..];
    if rest.starts_with('[') {
        let mut depth = 0;
        for (i, c) in rest.char_indices() {
            match c {
                '[' => depth += 1,
                ']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(&rest[..=i]);
            }
        }
    }
    Some(rest.split(',').next().expect("split yields one"))
}

/// Numbers of any size compare as the printer shows them; sets of rows lose their order.
fn unordered(v: &Value) -> Value {
    match v {
        Value::Vector(items) => Value::set(items.iter().cloned()),
        other => other.clone(),
    }
}

fn run_page(name: &str, page: &str) -> usize {
    let conn = annals::in_memory().expect("a database in memory");
    let mut n = 0;
    for b in blocks(page) {
        let place = format!("docs/{name}:{}", b.line);
        let (body, expected) = match b.text.split_once(";=>") {
            Some((body, expected)) => (body.trim(), Some(expected.trim())),
            None => (b.text.trim(), None),
        };
        let kind = b.info.split(',').take(2).collect::<Vec<_>>().join(",");
        match kind.as_str() {
            "edn,tx" => {
                conn.transact(body).unwrap_or_else(|e| panic!("{place}: {e}"));
            }
            "edn,tx-error" => {
                let e = conn.transact(body).err().unwrap_or_else(|| panic!("{place}: was accepted"));
                assert_eq!(e.code(), expected.expect("a code is expected"), "{place}: {e}");
            }
            "edn,query-error" => {
                let e = conn.db().query(body, ()).err().unwrap_or_else(|| panic!("{place}: was accepted"));
                assert_eq!(e.code(), expected.expect("a code is expected"), "{place}: {e}");
            }
            "edn,query" => {
                let found = answer(&conn.db(), &b.info, body).unwrap_or_else(|e| panic!("{place}: {e}"));
                let expected =
                    annals::edn::read_value(expected.unwrap_or_else(|| panic!("{place}: no answer given")))
                        .unwrap_or_else(|e| panic!("{place}: {e:?}"));
                let ordered = body.contains(":order-by");
                let (found, expected) =
                    if ordered { (found, expected) } else { (unordered(&found), unordered(&expected)) };
                assert_eq!(annals::edn::print(&found), annals::edn::print(&expected), "{place}");
            }
            "edn" => {
                annals::edn::read_all(body).unwrap_or_else(|e| panic!("{place}: {e:?}"));
            }
            _ => continue,
        }
        n += 1;
    }
    n
}

fn answer(db: &Db, info: &str, query: &str) -> Result<Value, annals::Error> {
    let mut db = db.clone();
    if let Some(t) = option(info, "as-of") {
        db = db.as_of(t)?;
    }
    if let Some(t) = option(info, "since") {
        db = db.since(t)?;
    }
    if info.contains(",history") {
        db = db.history();
    }
    let mut args = Vec::new();
    if let Some(rules) = option(info, "rules") {
        args.push(Input::Rules(rules.into()));
    }
    if let Some(input) = option(info, "in") {
        args.push(Input::from(annals::edn::read_value(input).expect("the input is EDN")));
    }
    Ok(db.query(query, args)?.value())
}

#[test]
fn the_manual_is_true() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut pages: Vec<_> = fs::read_dir(folder)
        .expect("docs/")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|x| x == "md"))
        .collect();
    pages.sort();
    let mut n = 0;
    for path in pages {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        n += run_page(&name, &fs::read_to_string(&path).expect("readable"));
    }
    assert!(n > 40, "only {n} blocks ran: has the form of the manual changed?");
}
