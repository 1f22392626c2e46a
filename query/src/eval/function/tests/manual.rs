//! docs/functions.md holds the tables of functions and aggregates as they are.
//!
//! What stands between its markers is made here: `UPDATE=1 cargo test -p annals-query
//! manual` writes it. The rest of the page is written by hand.

use super::super::{Kinds, Relation, table};
use super::Library;
use std::{fmt::Write, fs, path::Path};

/// The first function of each group of the table, and what the group is called.
const GROUPS: [(&str, &str); 8] = [
    ("=", "Equality and order"),
    ("nil?", "Truth"),
    ("+", "Numbers"),
    ("str", "Strings"),
    ("name", "Names"),
    ("inst", "Time"),
    ("count", "Collections"),
    ("type", "Kinds of values"),
];

fn kinds(k: Kinds) -> String {
    if k == Kinds::ANY {
        return "any".to_owned();
    }
    let singles = [
        (Kinds::BOOLEAN, "boolean"),
        (Kinds::INTEGER, "integer"),
        (Kinds::FRACTION, "fraction"),
        (Kinds::STRING, "string"),
        (Kinds::NAMED, "name"),
        (Kinds::INSTANT, "instant"),
        (Kinds::REF, "ref"),
        (Kinds::COLL, "collection"),
        (Kinds::BYTES, "bytes"),
        (Kinds::OTHER, "other"),
        (Kinds::NIL, "nil"),
    ];
    let names: Vec<&str> = singles.iter().filter(|(one, _)| k.meets(*one)).map(|(_, n)| *n).collect();
    names.join(", ").replace("integer, fraction", "number")
}

/// Text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn functions() -> String {
    let mut out = String::new();
    for f in table::functions() {
        if let Some((_, title)) = GROUPS.iter().find(|(first, _)| *first == &*f.name) {
            let head = "| call | takes | answers | what it does |\n|---|---|---|---|\n";
            write!(out, "\n### {title}\n\n{head}").expect("a string grows");
        }
        let takes: Vec<String> = f.params.iter().map(|k| kinds(*k)).collect();
        let together = if f.relation == Relation::Ordered { ", comparable" } else { "" };
        let call = cell(&format!("({} {})", f.name, f.usage)).replace(" )", ")");
        writeln!(
            out,
            "| `{call}` | {}{together} | {} | {} |",
            takes.join("; then "),
            kinds(f.result),
            cell(&f.doc)
        )
        .expect("a string grows");
    }
    out
}

fn aggregates() -> String {
    let mut out = "\n| call | takes | answers | what it is |\n|---|---|---|---|\n".to_owned();
    for a in Library::standard().aggregates() {
        let (takes, result) = (kinds(a.takes), kinds(a.result));
        writeln!(out, "| `({} {})` | {takes} | {result} | {} |", a.name, a.usage, cell(&a.doc))
            .expect("a string grows");
    }
    out
}

/// The page with what stands between `<!-- name -->` and `<!-- /name -->` replaced.
fn with_part(page: &str, name: &str, part: &str) -> String {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (head, rest) = page.split_once(&open).unwrap_or_else(|| panic!("{open} is missing"));
    let (_, tail) = rest.split_once(&close).unwrap_or_else(|| panic!("{close} is missing"));
    format!("{head}{open}{part}\n{close}{tail}")
}

#[test]
fn the_manual_has_every_function_and_aggregate() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/functions.md");
    let page = fs::read_to_string(&path).expect("docs/functions.md");
    let wanted = with_part(&with_part(&page, "functions", &functions()), "aggregates", &aggregates());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).expect("docs/functions.md is writable");
        return;
    }
    assert!(page == wanted, "docs/functions.md is behind the tables: run this test with UPDATE=1");
}

#[test]
fn every_group_begins_with_a_function() {
    let names: Vec<_> = table::functions().map(|f| f.name).collect();
    assert!(GROUPS.iter().all(|(first, _)| names.iter().any(|n| &**n == *first)));
    assert_eq!(names.first().map(|n| &**n), Some(GROUPS[0].0), "the table begins with the first group");
}

#[test]
fn every_function_and_aggregate_says_what_it_does() {
    let silent = Library::standard().functions().filter(|f| f.doc.is_empty()).map(|f| f.name.clone());
    let silent: Vec<_> = silent
        .chain(Library::standard().aggregates().filter(|a| a.doc.is_empty()).map(|a| a.name.clone()))
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}
