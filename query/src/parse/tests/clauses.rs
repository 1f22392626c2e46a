//! Clauses: patterns, calls, bindings, `not` and `or`, rule calls.

use super::*;
use crate::ast::{Binding, Clause, Expr};

#[test]
fn what_is_no_clause() {
    clause_fails("7", "query/clause", "7", "a long is no clause");
    clause_fails("?x", "query/clause", "?x", "a symbol is no clause");
    clause_fails("()", "query/clause", "()", "an empty list");
    clause_fails("($)", "query/clause", "($)", "an empty list");
    clause_fails("(5 ?x)", "query/clause", "5", "begins with a name");
    clause_fails("(?r ?x)", "query/clause", "?r", "not the name of a rule");
    clause_fails("(% ?x)", "query/clause", "%", "not the name of a rule");
    clause_fails("(and)", "query/clause", "(and)", "without clauses");
    clause_fails("{:a 1}", "query/clause", "{:a 1}", "a map is no clause");
}

#[test]
fn and_is_part_of_the_conjunction_around_it() {
    let q = reads("[:find ?x :where (and [?x :a] (and [?x :b]) [?x :c])]");
    assert_eq!(q.clauses.len(), 3);
}

#[test]
fn patterns() {
    clause_fails("[]", "query/pattern", "[]", "without terms");
    clause_fails("[$]", "query/pattern", "[$]", "without terms");
    clause_fails("[?x :a ?v ?t ?o ?more]", "query/pattern", "[?x :a ?v ?t ?o ?more]", "this has 6");
    clause_fails("[?x $ ?v]", "query/pattern", "$", "a source comes first");
    clause_fails("[?x :a v]", "query/pattern", "v", "?v");
    clause_fails("[?x :a nil]", "query/pattern", "nil", "missing?");
    clause_fails("[?x % 1]", "query/clause", "%", "called by name");
    let text = "[:find ?x :where [foo nil ?x]]";
    assert_eq!(complaints(query(text), text).len(), 2, "each place is complained about");
    // A relation as a source has as many places as it has columns.
    reads("[:find ?a :in $r :where [$r ?a _ _ _ _ _ _]]");
    let q = reads("[:find ?x :where [?x :a 'blue]]");
    let Clause::Pattern(p) = &q.clauses[0] else { panic!("a pattern") };
    assert_eq!(p.terms[2].as_const(), Some(&Value::Symbol(annals_model::Symbol::new("blue"))));
}

#[test]
fn calls() {
    clause_fails("[()]", "query/clause", "()", "an empty call");
    clause_fails("[(5 ?x)]", "query/clause", "5", "name of a function");
    clause_fails("[(?f ?x)]", "query/unknown-function", "?f", "cannot be called");
    clause_fails("[($ ?x)]", "query/unknown-function", "$", "cannot be called");
    clause_fails("[(+ ?x 1) ?y ?z]", "query/clause", "[(+ ?x 1) ?y ?z]", "one binding at most");
    clause_fails("[(count ?x) 3]", "query/binding", "3", "cannot be bound to");
    clause_fails("[(+ % 1) ?y]", "query/clause", "%", "called by name");
}

#[test]
fn calls_that_read_a_database() {
    for (call, usage) in [
        ("(get-else $ ?x :a)", "(get-else $ ?e :attribute default)"),
        ("(get-some)", "(get-some $ ?e :a :b …)"),
        ("(get-some $ ?x)", "(get-some $ ?e :a :b …)"),
        ("(missing? $ ?x)", "(missing? $ ?e :attribute)"),
        ("(ground)", "(ground constant)"),
        ("(q)", "(q [:find …] $ ?x …)"),
        ("(tx-ids $ 1)", "(tx-ids $ from to)"),
        ("(tx-data $)", "(tx-data $ ?tx)"),
        ("(fulltext $ :a)", "(fulltext $ :attribute"),
    ] {
        clause_fails(&format!("[{call} ?y]"), "query/arity", call, usage);
    }
    clause_fails("[(get-else ?x ?x :a 1) ?y]", "query/clause", "?x", "a source is needed");
    clause_fails("[(get-else $ ?x :a nil) ?y]", "query/type", "nil", "missing?");
    clause_fails("[(get-else $ ?x \"a\" 1) ?y]", "query/type", "\"a\"", "an attribute is needed");
    clause_fails("[(missing? $ ?x 1.5)]", "query/type", "1.5", "an attribute is needed");
    clause_fails("[(ground ?x) ?y]", "query/clause", "?x", "identity");
    clause_fails("[(ground $) ?y]", "query/clause", "$", "constant");
    let q = reads("[:find ?y :where [(ground [:a 'b]) [?y ...]] [(get-some $ ?y :a :b) ?z]]");
    assert_eq!(q.clauses.len(), 2);
}

#[test]
fn nested_queries() {
    let q = reads("[:find ?n :where [(q [:find (count ?e) . :where [?e :a]] $) ?n]]");
    let Clause::Function(call, _) = &q.clauses[0] else { panic!("a function") };
    let Expr::Query { query: inner, args } = &call.expr else { panic!("a query") };
    assert_eq!((inner.find.elems.len(), args.len()), (1, 1));
    clause_fails("[(q [:find (cuont ?e) :where [?e :a]] $) ?n]", "query/unknown-aggregate", "cuont", "count");
    // One in a string is pointed at as a whole: there is no other place in this text.
    let text = "\"[:find (cuont ?e) :where [?e :a]]\"";
    clause_fails(&format!("[(q {text} $) ?n]"), "query/unknown-aggregate", text, "count");
    clause_fails("[(q \"[:find\" $) ?n]", "edn/unclosed", "\"[:find\"", "");
    clause_fails("[(q 5 $) ?n]", "query/form", "5", "vector or a map");
}

#[test]
fn bindings() {
    let binding = |b: &str| match reads(&format!("[:find ?a :where [(f 1) {b}]]")).clauses.swap_remove(0) {
        Clause::Function(_, b) => b.node,
        other => panic!("{other}"),
    };
    assert!(matches!(binding("?a"), Binding::Var(_)));
    assert!(matches!(binding("_"), Binding::Blank));
    assert!(matches!(binding("[?a ...]"), Binding::Coll(_)));
    assert!(matches!(binding("[?a _]"), Binding::Tuple(_)));
    assert_eq!(binding("[[?a ?b]]").as_relation().map(<[_]>::len), Some(2));
    assert_eq!(binding("[[?a ?b] ...]").as_relation().map(<[_]>::len), Some(2));
    assert_eq!(binding("[[?a ...] ?b]").vars().len(), 2);
    for (b, at) in
        [("[]", "[]"), ("[?a ?b ...]", "..."), ("[...]", "..."), (":k", ":k"), ("[?a 5]", "5"), ("x", "x")]
    {
        clause_fails(&format!("[(f 1) {b}]"), "query/binding", at, "write ?x, [?x ...]");
    }
}

#[test]
fn not_and_not_join() {
    reads("[:find ?x :where [?x :a] (not [?x :b] [?x :c]) ($ not [?x :d]) (not-join [?x] [?x :e ?y])]");
    clause_fails("(not)", "query/clause", "(not)", "a negation without clauses");
    clause_fails("(not-join [?x])", "query/clause", "(not-join [?x])", "a negation without clauses");
    clause_fails("(not-join)", "query/join-vars", "not-join", "needs a vector of variables");
    clause_fails("(not-join ?x [?x :b])", "query/join-vars", "not-join", "write (not-join [?x] …)");
    clause_fails("(not-join [] [?x :b])", "query/join-vars", "[]", "at least one variable");
    clause_fails("(not-join [[?x]] [?x :b])", "query/join-vars", "?x", "no required variables");
    clause_fails("(not-join [?x 5] [?x :b])", "query/join-vars", "5", "only variables");
    clause_fails("(not-join [?x ?y] [?x :b])", "query/join-vars", "?y", "not used inside");
    // Clauses within are complained about like those outside.
    clause_fails("(not 5)", "query/clause", "5", "no clause");
}

#[test]
fn or_and_or_join() {
    reads("[:find ?x :where (or [?x :a] (and [?x :b] [?x :c]) ($ or [?x :d]))]");
    reads("[:find ?x :where (or-join [?x] [?x :a ?y] (and [?x :b ?z] [?z :c]))]");
    reads("[:find ?x :where [?r :a] (or-join [[?r] ?x] [?x :a ?r])]");
    reads("[:find ?x :where [?x :a] (or-join [[?x]] [?x :a])]");
    clause_fails("(or)", "query/clause", "(or)", "without branches");
    clause_fails("(or-join [?x])", "query/clause", "(or-join [?x])", "without branches");
    clause_fails("(or [?x :b] (and))", "query/clause", "(and)", "without clauses");
    clause_fails("(or-join)", "query/join-vars", "or-join", "needs a vector");
    clause_fails("(or-join [] [?x :b])", "query/join-vars", "[]", "at least one variable");
    clause_fails("(or-join [[]] [?x :b])", "query/join-vars", "[[]]", "at least one variable");
    clause_fails("(or-join [:a] [?x :b])", "query/join-vars", ":a", "only variables");
    clause_fails("(or-join [?x ?y] [?x :b ?y] [?x :c])", "query/join-vars", "?y", "not used inside");
    clause_fails("(or [?x :b ?y] [?x :c])", "query/join-vars", "[?x :c]", "use or-join");
}

#[test]
fn the_variables_of_a_branch_are_those_it_shares() {
    // What a list keeps inside is nobody else's; blanks are no variables.
    reads("[:find ?x :where (or [?x :a _] (or-join [?x] [?x :b ?y]))]");
    reads("[:find ?x :where (or [?x :a] (and [?x :b] (not-join [?x] [?x :c ?z])))]");
    reads("[:find ?x ?y :where (or (and [?x :a] [?y :a]) [?y :b ?x])]");
    let text = "[:find ?x :where (or [?x :a] [?x :b ?y] [?x :c ?z])]";
    assert_eq!(complaints(query(text), text).len(), 2, "each branch that differs from the first");
}

#[test]
fn rule_calls() {
    reads("[:find ?x :in $ % :where (r ?x _ 5 \"a\") ($ r ?x)]");
    clause_fails("(r)", "query/arity", "(r)", "without arguments");
    clause_fails("(r (f ?x))", "query/clause", "(f ?x)", "variables and constants");
    clause_fails("(> (count ?x) 1)", "query/clause", "(count ?x)", "a predicate stands in a vector");
    clause_fails("(r $ ?x)", "query/rule", "$", "($ r …)");
}
