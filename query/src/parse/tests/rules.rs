//! Rule sets.

use super::*;

#[track_caller]
fn fails(text: &str, code: &str, at: &str, words: &str) {
    let Err(e) = rules(text) else { panic!("{text} was read") };
    assert_eq!(e.0.len(), 1, "{text}: {e}");
    let d = &e.0[0];
    assert_eq!((d.code, pointed(d, text).as_str()), (code, at), "{text}: {d}");
    assert!(d.to_string().contains(words), "{text}: {d}");
}

#[test]
fn definitions() {
    let set =
        rules("[[(r ?x) [?x :a]] [(r ?x) [?x :b]] [(s [?a] ?b (min ?c)) [?a :x ?b] [?b :y ?c]]]").unwrap();
    assert_eq!(set.rules.len(), 3);
    let s = &set.rules[2];
    assert_eq!((s.arity(), s.required.len(), s.clauses.len()), (3, 1, 2));
    assert_eq!(s.free[1].fold.as_ref().map(|f| f.name.as_str()), Some("min"));
    assert_eq!(rules("[(r ?x) [?x :a]]").unwrap().rules.len(), 1, "a single one");
    assert_eq!(rules("'[[(r ?x) [?x :a]]]").unwrap().rules.len(), 1, "a quoted set");
    assert!(rules("[]").unwrap().rules.is_empty());
}

#[test]
fn what_is_no_rule() {
    let code = "query/rule";
    fails("5", code, "5", "a vector of rules");
    fails("[5]", code, "5", "a rule is");
    fails("[[]]", code, "[]", "a rule is");
    fails("[[5 [?x :a]]]", code, "5", "the head is a list");
    fails("[[() [?x :a]]]", code, "()", "the head is a list");
    fails("[[(\"r\" ?x) [?x :a]]]", code, "\"r\"", "plain symbol");
    fails("[[(?r ?x) [?x :a]]]", code, "?r", "plain symbol");
    fails("[[(or ?x) [?x :a]]]", code, "or", "choose another name");
    fails("[[(r ?x)]]", code, "[(r ?x)]", "has no clauses");
    fails("[[(r) [?x :a]]]", code, "(r)", "has no variables");
    fails("[[(r :k) [?x :a]]]", code, ":k", "a head holds variables");
    fails("[[(r [5] ?x) [?x :a]]]", code, "5", "a head holds variables");
    fails("[[(r [] ?x) [?x :a]]]", code, "[]", "leave out the empty vector");
    fails("[[(r ?x [?y]) [?x :a ?y]]]", code, "[?y]", "a head holds variables");
    fails("[[(r (min ?x 5)) [?x :a]]]", code, "(min ?x 5)", "variables and folds");
    fails("[[(r (5 ?x)) [?x :a]]]", code, "(5 ?x)", "variables and folds");
    fails("[[(r (min ?n ?x)) [?x :a ?n]]]", code, "?n", "is a constant");
    fails("[[(r [(min ?x)] ?y) [?x :a ?y]]]", code, "(min ?x)", "cannot be folded");
    fails("[[(r ?x :with ?y) [?x :a ?y]]]", code, "(r ?x :with ?y)", "folds nothing");
    fails("[[(r ?x (sum ?y) :with) [?x :a ?y]]]", code, ":with", "no variable");
    fails("[[(r ?x (sum ?y) :with 5) [?x :a ?y]]]", code, "5", "holds variables");
    fails("[[(r ?x (sum ?y) :with ?x) [?x :a ?y]]]", "query/duplicate-var", "?x", "use two names");
    fails("[[(r ?x (sum 3 ?y)) [?x :a ?y]]]", "query/aggregate", "(sum 3 ?y)", "sum");
    fails("[[(r ?x (max -3 ?y)) [?x :a ?y]]]", "query/aggregate", "(max -3 ?y)", "max");
    fails("[[(r ?x ?x) [?x :a]]]", "query/duplicate-var", "?x", "use two names");
    fails("[[(r [?x] ?x) [?x :a]]]", "query/duplicate-var", "?x", "use two names");
    fails("[[(r ?x) 7]]", "query/clause", "7", "no clause");
}

#[test]
fn definitions_of_one_name_agree() {
    let code = "query/rule-heads";
    fails("[[(r ?x) [?x :a]] [(r ?x ?y) [?x :a ?y]]]", code, "(r ?x ?y)", "same number");
    fails("[[(r ?x ?y) [?x :a ?y]] [(r [?x] ?y) [?x :a ?y]]]", code, "(r [?x] ?y)", "required");
    fails("[[(r ?x (min ?y)) [?x :a ?y]] [(r ?x ?y) [?x :b ?y]]]", code, "(r ?x ?y)", "do not agree");
    fails(
        "[[(r ?x (min ?y)) [?x :a ?y]] [(r ?x (max ?y)) [?x :b ?y]]]",
        code,
        "(r ?x (max ?y))",
        "do not agree",
    );
    fails(
        "[[(r ?x (min 2 ?y)) [?x :a ?y]] [(r ?x (min 3 ?y)) [?x :b ?y]]]",
        code,
        "(r ?x (min 3 ?y))",
        "do not",
    );
    fails(
        "[[(r ?x (sum ?y)) [?x :a ?y]] [(r ?x (sum ?y) :with ?z) [?z :b ?y] [?z :c ?x]]]",
        code,
        "(r ?x (sum ?y) :with ?z)",
        "do not",
    );
}
