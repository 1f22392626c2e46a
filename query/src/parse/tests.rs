//! What is read, and what is said about what cannot be.

use super::*;
use crate::edn::read_value;

mod clauses;
mod print;
mod pulls;
mod queries;
mod rules;

/// The complaints about a query: code, what the first label points at, message and help.
fn complaints(found: Result<Query, ParseErrors>, text: &str) -> Vec<(&'static str, String, String)> {
    let Err(e) = found else { panic!("{text} was read") };
    e.0.iter()
        .map(|d| (d.code, pointed(d, text), format!("{}; {}", d.message, d.help.as_deref().unwrap_or(""))))
        .collect()
}

/// The text under the first label.
fn pointed(d: &Diagnostic, text: &str) -> String {
    d.labels.first().map_or_else(String::new, |l| {
        text.get(l.span.start..l.span.end).unwrap_or("outside of the text").to_owned()
    })
}

/// The query is refused with exactly this complaint, whose message or help says `words`.
#[track_caller]
fn fails(text: &str, code: &str, at: &str, words: &str) {
    let found = complaints(query(text), text);
    assert_eq!(found.len(), 1, "{text}: {found:#?}");
    let (c, a, w) = &found[0];
    assert_eq!((*c, a.as_str()), (code, at), "{text}: {w}");
    assert!(w.contains(words), "{text}: {w:?} does not say {words:?}");
}

/// The same with a clause alone.
#[track_caller]
fn clause_fails(clause: &str, code: &str, at: &str, words: &str) {
    fails(&format!("[:find ?x :where [?x :a] {clause}]"), code, at, words);
}

#[track_caller]
fn reads(text: &str) -> Query {
    query(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn every_complaint_of_a_stage_is_made_once_in_order_of_place() {
    let text = "[:find ?x (cuont ?y) :in ?z :foo :where [?x :a nil] (or) [(f ?x) ?y ?z] :limit -1]";
    let found: Vec<_> = complaints(query(text), text).into_iter().map(|(c, at, _)| (c, at)).collect();
    let expected = [
        ("query/unknown-aggregate", "cuont"),
        ("query/unknown-key", ":foo"),
        ("query/pattern", "nil"),
        ("query/clause", "(or)"),
        ("query/clause", "[(f ?x) ?y ?z]"),
        ("query/order", "-1"),
    ];
    assert_eq!(found, expected.map(|(c, at)| (c, at.to_owned())));
}

#[test]
fn a_complaint_about_the_columns_is_not_echoed() {
    let text = "[:find ?a (nope ?b) :keys a b :where [?a :b ?b] :order-by 1 :having [(> ?c 1)]]";
    let found: Vec<_> = complaints(query(text), text).into_iter().map(|(c, ..)| c).collect();
    assert_eq!(found, ["query/unknown-aggregate"]);
}

#[test]
fn text_that_is_no_edn_says_so() {
    fails("[:find ?x", "edn/unclosed", "[", "");
    fails("", "edn/one-form", "", "");
    fails("[:find ?x] [:find ?y]", "edn/one-form", "[:find ?y]", "");
    fails("[:find ?x)", "edn/mismatched", ")", "");
}

#[test]
fn values_read_like_text_without_places() {
    let text = "[:find ?x :in $ ?n :where [?x :a ?n]]";
    let value = read_value(text).unwrap();
    assert_eq!(query_value(&value).unwrap().to_string(), reads(text).to_string());
    assert_eq!(query_value(&Value::string(text)).unwrap(), reads(text));
    let e = query_value(&read_value("[:find ?x :where 7]").unwrap()).unwrap_err();
    assert_eq!(e.code(), "query/clause");
    assert!(e.0[0].labels.iter().all(|l| l.span == annals_model::Span::default()));
    assert!(rules_value(&Value::string("[[(r ?x) [?x :a]]]")).is_ok());
    assert!(rules_value(&read_value("[[(r ?x) [?x :a]]]").unwrap()).is_ok());
    assert!(pull_value(&Value::string("[*]")).is_ok());
    assert!(pull_value(&read_value("[:a/b {:c [*]}]").unwrap()).is_ok());
}

#[test]
fn transactions_are_top_level_collections() {
    let all = transactions("[{:a 1}] ([:db/add 1 :a 2] [:db/add 2 :a 3]) []").unwrap();
    assert_eq!(all.iter().map(|t| t.forms.len()).collect::<Vec<_>>(), [1, 2, 0]);
    assert!(transactions("").unwrap().is_empty());
    let e = transactions("[] {:a 1} 7").unwrap_err();
    assert_eq!(e.0.iter().map(|d| d.code).collect::<Vec<_>>(), ["tx/form", "tx/form"]);
    assert_eq!(pointed(&e.0[0], "[] {:a 1} 7"), "{:a 1}");
}
