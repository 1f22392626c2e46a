//! `:find`, `:in`, return maps, order and the other parts, in list and map form.

use super::*;
use crate::ast::{FindElem, FindSpec, HavingArg, Input, PullArg, ReturnKind};

#[test]
fn shapes_that_are_no_query() {
    fails("7", "query/form", "7", "not a long");
    fails("[]", "query/form", "[]", "an empty query");
    fails("[?x :where [?x :a]]", "query/form", "?x", "begins with a keyword");
    fails("{1 [?x] :find [?x]}", "query/form", "1", "keys of a query are keywords");
    fails("{:find ?x}", "query/form", "?x", "wrap it");
    fails("[:where [?e :crew/name ?n]]", "query/no-find", "[:where [?e :crew/name ?n]]", ":find");
    fails("[:find :where [?e :crew/name ?n]]", "query/no-find", ":find", "finds nothing");
    fails("[:find ?x :find ?y]", "query/duplicate-key", ":find", "twice");
    fails("[:find ?x :wher [?x :a]]", "query/unknown-key", ":wher", "did you mean :where?");
    fails("[:find ?x :zzzzzzzz 1]", "query/unknown-key", ":zzzzzzzz", "there are :find");
    fails("{:find [?x] :wheer []}", "query/unknown-key", ":wheer", ":where");
}

#[test]
fn find_elements() {
    fails("[:find 5 :where [?e :a ?n]]", "query/find", "5", "a long cannot be found");
    fails("[:find []]", "query/find", "[]", "an empty tuple");
    fails("[:find ?x . ?y :where [?x :a ?y]]", "query/find", ".", "symbol");
    fails("[:find (\"count\" ?x) :where [?x :a]]", "query/find", "\"count\"", "begins with its name");
    let two = "[:find [?n ...] [?e ...] :where [?e :crew/name ?n]]";
    let found = complaints(query(two), two);
    assert_eq!(
        found.iter().map(|(c, at, _)| (*c, at.as_str())).collect::<Vec<_>>(),
        [("query/find", "[?n ...]"), ("query/find", "[?e ...]"),]
    );
    fails("[:find (pull ?x) :where [?x :a]]", "query/find", "(pull ?x)", "an entity and a pattern");
    fails("[:find (pull 5 [*]) :where [?x :a]]", "query/find", "5", "pull needs a variable");
    fails("[:find (pull ?x [{}]) :where [?x :a]]", "pull/form", "{}", "empty map");
}

#[test]
fn aggregates() {
    fails("[:find (count) :where [?e :a ?n]]", "query/aggregate", "(count)", "write (count ?x)");
    fails("[:find (cuont ?n) :where [?e :a ?n]]", "query/unknown-aggregate", "cuont", "did you mean count?");
    fails("[:find (mean ?n) :where [?e :a ?n]]", "query/unknown-aggregate", "mean", "did you mean avg?");
    fails("[:find (zzzzzz ?n) :where [?e :a ?n]]", "query/unknown-aggregate", "zzzzzz", "docs/functions.md");
    fails("[:find (sum 5) :where [?e :a ?n]]", "query/aggregate", "5", "ends with a variable");
    fails("[:find (min x ?n) :where [?e :a ?n]]", "query/aggregate", "x", "constant");
    fails("[:find (min (f) ?n) :where [?e :a ?n]]", "query/aggregate", "(f)", "constant");
    fails("[:find (sum 2 ?n) :where [?e :a ?n]]", "query/aggregate", "(sum 2 ?n)", "write");
    fails("[:find (min \"2\" ?n) :where [?e :a ?n]]", "query/aggregate", "(min \"2\" ?n)", "min");
    fails("[:find (min -1 ?n) :where [?e :a ?n]]", "query/aggregate", "(min -1 ?n)", "min");
    // A registered aggregate has a namespace and is known when the query runs.
    reads("[:find (my/mode ?n) :where [?e :a ?n]]");
    reads("[:find (min ?k ?n) :in $ ?k :where [?e :a ?n]]");
}

#[test]
fn find_specs() {
    let spec = |text: &str| {
        let q = reads(text);
        (q.find.spec, q.find.elems.len())
    };
    assert_eq!(spec("[:find ?a ?b :where [?a :x ?b]]"), (FindSpec::Rel, 2));
    assert_eq!(spec("[:find [?a ...] :where [?a :x]]"), (FindSpec::Coll, 1));
    assert_eq!(spec("[:find [?a ?b] :where [?a :x ?b]]"), (FindSpec::Tuple, 2));
    assert_eq!(spec("[:find ?a . :where [?a :x]]"), (FindSpec::Scalar, 1));
    assert_eq!(spec("[:find (count ?a) . :where [?a :x]]"), (FindSpec::Scalar, 1));
    assert_eq!(spec("{:find [[?a ...]] :where [[?a :x]]}"), (FindSpec::Coll, 1));
    assert_eq!(spec("{:find [?a .] :where [[?a :x]]}"), (FindSpec::Scalar, 1));
    let pull = |text: &str| match reads(text).find.elems.swap_remove(0) {
        FindElem::Pull { src, pattern, .. } => {
            (src.map(|s| s.to_string()), matches!(pattern, PullArg::Input(_)))
        }
        other => panic!("{other}"),
    };
    assert_eq!(pull("[:find (pull ?a [*]) :where [?a :x]]"), (None, false));
    assert_eq!(pull("[:find (pull $h ?a [*]) :in $h :where [$h ?a :x]]"), (Some("$h".into()), false));
    assert_eq!(pull("[:find (pull ?a p) :in $ p :where [?a :x]]"), (None, true));
    assert_eq!(pull("[:find (pull ?a ?p) :in $ ?p :where [?a :x]]"), (None, true));
}

#[test]
fn map_form_says_the_same() {
    let list = "[:find ?a ?b :keys x y :with ?w :in $ ?n :where [?a :x ?b] [?a :w ?w] [?a :n ?n]
                 :having [(> ?b 1)] :order-by ?b :desc :offset 2 :limit 5 :timeout 100]";
    let map = "{:timeout 100 :limit 5 :offset 2 :order-by [?b :desc] :having [[(> ?b 1)]]
                :where [[?a :x ?b] [?a :w ?w] [?a :n ?n]] :in [$ ?n] :with [?w] :keys [x y] :find [?a ?b]}";
    assert_eq!(reads(list).to_string(), reads(map).to_string());
    assert_eq!(
        reads("(:find ?x :where [?x :a])").to_string(),
        reads("[:find ?x :where [?x :a]]").to_string()
    );
    assert_eq!(
        reads("'[:find ?x :where [?x :a]]").to_string(),
        reads("[:find ?x :where [?x :a]]").to_string()
    );
}

#[test]
fn return_maps() {
    let q = reads("[:find ?a ?b :strs x y :where [?a :n ?b]]");
    assert_eq!(q.ret.as_ref().map(|r| r.kind), Some(ReturnKind::Strs));
    assert_eq!(q.ret.unwrap().keys(), [Value::string("x"), Value::string("y")]);
    assert_eq!(reads("[:find [?a] :keys x :where [?a :n]]").ret.unwrap().keys(), [Value::keyword("x")]);
    reads("[:find ?a :syms x :where [?a :n]]");
    let code = "query/return-map";
    fails("[:find ?n ?a :keys name :where [?e :n ?n] [?e :a ?a]]", code, ":keys", "1 names for 2");
    fails("[:find ?n :keys name age :where [?e :n ?n]]", code, ":keys", "one name for each");
    fails("[:find ?n :keys a :strs b :where [?e :n ?n]]", code, ":strs", "only one of");
    fails("[:find ?n . :keys a :where [?e :n ?n]]", code, ":keys", "single values");
    fails("[:find [?n ...] :keys a :where [?e :n ?n]]", code, ":keys", "single values");
    fails("[:find ?n :keys \"a\" :where [?e :n ?n]]", code, "\"a\"", "written as a symbol");
    fails("{:find [?n] :keys [:a] :where [[?e :n ?n]]}", code, ":a", "written as a symbol");
}

#[test]
fn with() {
    assert_eq!(reads("[:find (sum ?n) :with ?e :where [?e :n ?n]]").with.len(), 1);
    fails("[:find ?n :with :where [?e :n ?n]]", "query/with", ":with", "names no variable");
    fails("[:find ?n :with 5 :where [?e :n ?n]]", "query/with", "5", "holds variables");
    fails("[:find ?n :with ?n :where [?e :n ?n]]", "query/with", "?n", "in :find already");
    fails("[:find (sum ?n) :with ?e ?e :where [?e :n ?n]]", "query/with", "?e", "twice in :with");
}

#[test]
fn inputs() {
    let kinds = |text: &str| -> Vec<&'static str> {
        let kind = |i: &Input| match i {
            Input::Src(_) => "source",
            Input::Rules => "rules",
            Input::Binding(_) => "binding",
            Input::Pattern(_) => "pattern",
        };
        reads(text).inputs.iter().map(|i| kind(&i.node)).collect()
    };
    let all = "[:find ?a :in $ $h % ?a [?b ...] [?c _] [[?d ?e]] [[?f ?g] ...] _ p :where [?a :x]]";
    let bindings = ["binding"; 6];
    assert_eq!(kinds(all), [&["source", "source", "rules"][..], &bindings, &["pattern"]].concat());
    assert_eq!(kinds("[:find ?a :where [?a :x]]"), ["source"]);
    assert_eq!(kinds("[:find ?a :where [(ground 1) ?a]]"), Vec::<&str>::new());
    assert_eq!(kinds("[:find ?a :where [(missing? $ 1 :x)] [(ground 1) ?a]]"), ["source"]);
    assert_eq!(kinds("[:find (pull ?a [*]) :where [(ground 1) ?a]]"), ["source"]);
    assert_eq!(kinds("[:find ?a :in :where [(ground 1) ?a]]"), Vec::<&str>::new());
    fails("[:find ?n :in $ \"x\" :where [?e :n ?n]]", "query/in", "\"x\"", "a string cannot be an input");
    fails("[:find ?n :in $ :foo :where [?e :n ?n]]", "query/unknown-key", ":foo", "");
    fails("{:find [?n] :in [$ :foo] :where [[?e :n ?n]]}", "query/in", ":foo", "keyword cannot be an input");
    fails("[:find ?n :in $ [] :where [?e :n ?n]]", "query/binding", "[]", "an empty binding");
    fails("[:find ?n :in $ ... :where [?e :n ?n]]", "query/binding", "...", "cannot be bound to");
    fails("[:find ?n :in $ $ :where [?e :n ?n]]", "query/duplicate-var", "$", "$ stands twice");
    fails("[:find ?n :in % % $ :where [?e :n ?n]]", "query/duplicate-var", "%", "% stands twice");
    fails("[:find ?n :in $ ?a [?a ...] :where [?e :n ?n]]", "query/duplicate-var", "[?a ...]", "?a");
}

#[test]
fn order_and_its_kin() {
    let q =
        reads("[:find ?a (count ?b) :where [?a :n ?b] :order-by (count ?b) :desc ?a 0 :limit 0 :offset 1]");
    let keys: Vec<_> = q.order_by.iter().map(|k| (k.column, k.descending)).collect();
    assert_eq!(keys, [(1, true), (0, false), (0, false)]);
    assert_eq!((q.limit.map(|n| n.node), q.offset.map(|n| n.node)), (Some(0), Some(1)));
    assert_eq!(reads("[:find ?a :where [?a :n] :order-by [?a :asc]]").order_by.len(), 1);
    let with = |part: &str| format!("[:find ?a (count ?b) :where [?a :n ?b] {part}]");
    for (part, at, words) in [
        (":order-by", ":order-by", "names no column"),
        (":order-by :desc", ":desc", "follows a variable"),
        (":order-by ?b", "?b", "not a column"),
        (":order-by 2", "2", "not a column"),
        (":order-by (max ?b)", "(max ?b)", "not a column"),
        (":order-by \"a\"", "\"a\"", "not a column"),
        (":limit", ":limit", "one number"),
        (":limit 1 2", ":limit", "one number"),
        (":limit ?n", "?n", "a number from 0"),
        (":offset -1", "-1", "a number from 0"),
        (":timeout 1.5", "1.5", "write :timeout 10"),
        (":having 5", "5", "is a predicate"),
        (":having [(\"x\" ?a)]", "\"x\"", "begins with its name"),
        (":having [(> ?b 1)]", "?b", "not a column"),
    ] {
        fails(&with(part), "query/order", at, words);
    }
    reads(&with(":having [[(> (count ?b) 1)] [(< ?a 9)]]"));
    fails(&with(":having [(even ?a)]"), "query/unknown-function", "even", "did you mean even??");
    let q = reads(&with(":having [(> (count ?b) 1)] (< ?a 9)"));
    let args: Vec<_> = q.having.iter().map(|h| h.args[0].node.clone()).collect();
    assert_eq!(args, [HavingArg::Column(1), HavingArg::Column(0)]);
}

#[test]
fn rules_of_the_query_itself() {
    let count = |text: &str| {
        let q = reads(text);
        (q.rules.inline.rules.len(), q.rules.stored.len())
    };
    assert_eq!(count("[:find ?x :rules :app/rules :where (r ?x)]"), (0, 1));
    assert_eq!(count("[:find ?x :rules [(r ?x) [?x :a]] :where (r ?x)]"), (1, 0));
    assert_eq!(count("[:find ?x :rules [[(r ?x) [?x :a]] :app/rules] :where (r ?x)]"), (1, 1));
    assert_eq!(count("[:find ?x :rules [[(r ?x) [?x :a]] [(r ?x) [?x :b]]] :where (r ?x)]"), (2, 0));
    assert_eq!(count("{:find [?x] :rules [[(r ?x) [?x :a]] :app/rules] :where [(r ?x)]}"), (1, 1));
    fails("[:find ?x :rules 7 :where (r ?x)]", "query/rule", "7", "a rule is");
}
