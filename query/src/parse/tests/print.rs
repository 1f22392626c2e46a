//! A tree that is printed reads back as the same tree, spans apart.

use super::*;
use crate::edn::Form;

/// The tree of a text whose places are all alike.
fn tree(text: &str) -> Query {
    query_value(&read_value(text).unwrap()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[track_caller]
fn round(text: &str) {
    let q = tree(text);
    let printed = q.to_string();
    let again = query(&printed).unwrap_or_else(|e| panic!("{text} printed as {printed}: {e}"));
    assert_eq!(again.to_string(), printed, "{text}");
    assert_eq!(tree(&printed), q, "{text} printed as {printed}");
}

#[test]
fn queries() {
    for text in [
        "[:find ?x :where [?x :a]]",
        "[:find [?x ...] :where [?x :a _ ?t true]]",
        "[:find [?x ?y] :where [?x :a ?y]]",
        "[:find ?x . :in :where [(ground 5) ?x]]",
        "[:find ?x (count ?y) (min 2 ?z) (my/agg ?k \"a\" ?z) :in $ ?k :where [?x :a ?y] [?x :b ?z]]",
        "[:find (pull ?x [*]) (pull $h ?x p) (pull ?x ?q) :in $ $h p ?q :where [$h ?x :a]]",
        "[:find ?x ?y :keys a b :with ?z :where [?x :a ?y] [?x :b ?z]]",
        "[:find ?x :strs a :where [?x :a]]",
        "[:find ?x :syms a :where [?x :a]]",
        "[:find ?x :in $ $h % _ ?a [?b ...] [?c _] [[?d [?e ...]]] [[?f] ...] :where [?x :a]]",
        "[:find ?x :where (or [?x :a] (and [?x :b] [?x :c])) (or-join [[?x]] [?x :a])]",
        "[:find ?x ?y :where [?x :k] ($h or-join [[?x] ?y] [?x :a ?y]) ($h not [?x :b]) (not-join [?x] [?x :z ?q])]",
        "[:find ?x :in $ % :where (r ?x _ 5 \"s\" :k) ($ r ?x)]",
        "[:find ?x :rules [[(r [?a] ?b (min ?c)) [?a :x ?b] [?b :y ?c]] :app/rules] :where (r ?x ?y ?z)]",
        "[:find ?x :rules [(r ?x) [?x :a]] :where (r ?x)]",
        "[:find ?x :rules :app/rules :app/more :where (r ?x)]",
        "[:find ?x (count ?y) :where [?x :a ?y] :having [(> (count ?y) 1)] [(< ?x 9 ?x)] :order-by (count ?y) :desc ?x :offset 3 :limit 7 :timeout 50]",
        "[:find ?y :where [(get-else $ ?x :a 0) ?y] [(get-some $h ?x :a :b) [?k ?v]] [(missing? $ ?x :c)]]",
        "[:find ?y :where [(tx-ids $ nil 5) [?t ...]] [(tx-data $ ?t) [[?e ?a ?y _ _]]] [(fulltext $ :a \"w\") [[?e]]]]",
        "[:find ?n :where [(q [:find (count ?e) . :in $ ?v :where [?e :a ?v]] $ 5) ?n]]",
        "[:find ?x :where [(ground [1 2.5 \"a\" :k #{1} {:a nil} sym]) [?x ...]] [(< 1N ?x 2.5M \\c)]]",
        "[:find ?x :where [?x :a 'blue] [(f 'blue '?y '$ '%) ?z] [(ground '?k) ?q] (r '_ '(1 2)) [(f '(1 2) (1 2)) ?w]]",
        "[:find ?x :where [?x :a #inst \"2024-01-02T03:04:05Z\"] [?x :b #uuid \"00000000-0000-0000-0000-000000000001\"]]",
        "[:find ?x :where [[:a/b \"k\"] :c ?x] [?x ?attr 5] [7 :d ?x]]",
    ] {
        round(text);
    }
}

#[test]
fn pull_patterns() {
    for text in [
        "[*]",
        "[:db/id]",
        "[[:db/id :as :id]]",
        "[:a :a/b :a/_b :_c]",
        "[[:a :as \"A\" :limit nil :default {:x [1]} :xform upper-case]]",
        "[(limit :a 3) (default :b nil)]",
        "[{:a [* {:b ...}]} {[:c :limit 3] 7} {:d/_e [:f]}]",
        "[[:a/_b :as :b]]",
    ] {
        let value = |t: &str| pull_value(&read_value(t).unwrap()).unwrap_or_else(|e| panic!("{t}: {e}"));
        let p = value(text);
        assert_eq!(value(&p.to_string()), p, "{text} printed as {p}");
    }
}

#[test]
fn rule_sets() {
    for text in
        ["[]", "[[(r ?x) [?x :a]]]", "[[(r [?a ?b] ?c) (r ?a ?b ?c)] [(s (shortest ?n)) [(ground 1) ?n]]]"]
    {
        let value = |t: &str| rules_value(&read_value(t).unwrap()).unwrap_or_else(|e| panic!("{t}: {e}"));
        let set = value(text);
        assert_eq!(value(&set.to_string()), set, "{text} printed as {set}");
    }
}

#[test]
fn spans_lead_to_what_was_written() {
    let text = "[:find ?x :where [?x :a] (not [?x :b 5])]";
    let q = reads(text);
    assert_eq!(q.text.as_deref(), Some(text));
    let at = |s: annals_model::Span| &text[s.start..s.end];
    assert_eq!(at(q.clauses[0].span()), "[?x :a]");
    assert_eq!(at(q.clauses[1].span()), "(not [?x :b 5])");
    assert_eq!(at(q.find.span), ":find ?x");
    assert_eq!(Form::of_value(&read_value("[1]").unwrap()).span, annals_model::Span::default());
}
