//! Pull patterns.

use super::*;
use crate::ast::{PullItem, PullLimit, PullSub};
use annals_model::Keyword;

#[track_caller]
fn fails(text: &str, code: &str, at: &str, words: &str) {
    let Err(e) = pull(text) else { panic!("{text} was read") };
    assert_eq!(e.0.len(), 1, "{text}: {e}");
    let d = &e.0[0];
    assert_eq!((d.code, pointed(d, text).as_str()), (code, at), "{text}: {d}");
    assert!(d.to_string().contains(words), "{text}: {d}");
}

fn items(text: &str) -> Vec<PullItem> {
    pull(text).unwrap_or_else(|e| panic!("{text}: {e}")).items
}

#[test]
fn items_of_every_kind() {
    assert!(matches!(items("[* \"*\"]")[..], [PullItem::Wildcard(_), PullItem::Wildcard(_)]));
    assert!(matches!(&items("[:db/id]")[0], PullItem::Id { key, .. } if *key == Value::keyword("db/id")));
    assert!(
        matches!(&items("[[:db/id :as :id]]")[0], PullItem::Id { key, .. } if *key == Value::keyword("id"))
    );
    let PullItem::Attr(a) = items("[:a/_b]").swap_remove(0) else { panic!("an attribute") };
    assert!(a.reverse && a.attr.node == Keyword::new("a/b") && a.key == Value::keyword("a/_b"));
    let text = "[[:a :as \"A\" :limit 5 :default 0 :xform upper-case]]";
    let PullItem::Attr(a) = items(text).swap_remove(0) else { panic!("an attribute") };
    assert_eq!((a.key, a.limit, a.default), (Value::string("A"), PullLimit::N(5), Some(Value::Long(0))));
    assert_eq!(a.xform.map(|x| x.to_string()), Some("upper-case".into()));
}

#[test]
fn older_forms_mean_the_same() {
    let option = |text: &str| match items(text).swap_remove(0) {
        PullItem::Attr(a) => (a.limit, a.default, a.key),
        other => panic!("{other}"),
    };
    assert_eq!(option("[(limit :a 3)]"), option("[[:a :limit 3]]"));
    assert_eq!(option("[(default :a 3)]"), option("[[:a :default 3]]"));
    assert_eq!(option("[(:a :limit nil)]"), option("[[:a :limit nil]]"));
    assert_eq!(option("[[(limit :a 3) :as :b]]"), option("[[:a :limit 3 :as :b]]"));
    assert_eq!(option("[[:a :limit nil]]").0, PullLimit::All);
}

#[test]
fn nesting() {
    let sub = |text: &str| match items(text).swap_remove(0) {
        PullItem::Attr(a) => a.sub,
        other => panic!("{other}"),
    };
    assert!(matches!(sub("[{:a [*]}]"), PullSub::Pattern(p) if p.items.len() == 1));
    assert_eq!(sub("[{:a ...}]"), PullSub::Recursion(None));
    assert_eq!(sub("[{:a 3}]"), PullSub::Recursion(Some(3)));
    assert!(matches!(sub("[{[:a :limit 2] [:b]}]"), PullSub::Pattern(_)));
    assert_eq!(items("[{:a [*] :b [*]}]").len(), 2);
}

#[test]
fn what_is_no_pattern() {
    fails("5", "pull/form", "5", "a vector");
    fails("[]", "pull/form", "[]", "[*]");
    fails("[5]", "pull/form", "5", "no part of a pull pattern");
    fails("[[]]", "pull/form", "[]", "no part of a pull pattern");
    fails("[{}]", "pull/form", "{}", "an empty map");
    fails("[{:a 5.5}]", "pull/form", "5.5", "a vector");
    fails("[{:db/id [*]}]", "pull/form", ":db/id", "only a reference");
    fails("[{* [*]}]", "pull/form", "*", "only a reference");
    fails("[{5 [*]}]", "pull/form", "5", "no part");
    fails("[{:a 0}]", "pull/recursion", "0", "from 1, or ...");
    fails("[{:a -2}]", "pull/recursion", "-2", "at least one level");
    fails("[[5 :as :x]]", "pull/form", "5", "options follow an attribute");
    fails("[[* :as :x]]", "pull/form", "*", "options follow an attribute");
    fails("[[:a :limit]]", "pull/option", ":limit", "without a value");
    fails("[[:a 5 6]]", "pull/option", "5", "an option is a keyword");
    fails("[[:a :limit 0]]", "pull/option", "0", "a positive number");
    fails("[[:a :limit \"3\"]]", "pull/option", "\"3\"", "a positive number");
    fails("[[:a :xform \"up\"]]", "pull/option", "\"up\"", "name of a function");
    fails("[[:a :limti 3]]", "pull/option", ":limti", "did you mean :limit?");
    fails("[[:a :zzzzzz 3]]", "pull/option", ":zzzzzz", "there are :as");
    fails("[[:db/id :limit 3]]", "pull/option", "3", "only :as may follow it");
}
