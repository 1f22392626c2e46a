//! Help on the language: clauses, functions, aggregates, and a few larger words.
//!
//! Every example is a query on an empty database or on inputs of its own, and
//! a test runs them all and compares the answers.

/// What a topic is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A part of a query.
    Clause,
    /// `[(p x)]`: keeps or drops rows.
    Predicate,
    /// `[(f x) ?y]`: binds.
    Function,
    /// `(f ?x)` in `:find`.
    Aggregate,
    /// A form of a transaction.
    Transaction,
    /// A word of the field.
    Word,
}

/// One topic.
#[derive(Debug)]
pub struct Topic {
    /// What one asks for.
    pub name: &'static str,
    /// What it is.
    pub sort: Sort,
    /// Its form.
    pub usage: &'static str,
    /// What it means.
    pub text: &'static str,
    /// A query and its answer in EDN; empty: none.
    pub example: (&'static str, &'static str),
}

const fn t(
    name: &'static str,
    sort: Sort,
    usage: &'static str,
    text: &'static str,
    query: &'static str,
    answer: &'static str,
) -> Topic {
    Topic { name, sort, usage, text, example: (query, answer) }
}

/// Every topic.
pub const TOPICS: &[Topic] = &[
    t(
        "find",
        Sort::Clause,
        ":find ?a ?b  |  [?a ...]  |  [?a ?b]  |  ?a .",
        "What is asked: a relation, a collection, one row, or one value. Elements are variables, (pull ?e pattern) and aggregates.",
        "[:find [?x ...] :where [(ground [1 2]) [?x ...]]]",
        "[1 2]",
    ),
    t(
        "with",
        Sort::Clause,
        ":with ?x …",
        "Keeps rows apart that :find alone would merge, before aggregates are computed.",
        "[:find (sum ?n) . :with ?k :where [(ground [[1 5] [2 5]]) [[?k ?n]]]]",
        "10",
    ),
    t(
        "keys",
        Sort::Clause,
        ":keys name …  |  :strs …  |  :syms …",
        "Rows as maps; one name for each element of :find.",
        "[:find ?x :keys n :where [(ground 1) ?x]]",
        "[{:n 1}]",
    ),
    t(
        "in",
        Sort::Clause,
        ":in $ % ?x [?x ...] [?x ?y] [[?x ?y]]",
        "What is passed: databases ($), rules (%), values, collections, tuples, relations. Parameters of :let are passed by name.",
        "",
        "",
    ),
    t(
        "where",
        Sort::Clause,
        ":where clause …",
        "Clauses that must all hold. Their order never matters to the answer. A pattern is [entity attribute value transaction op]; _ is anything.",
        "[:find ?x . :where [(ground 3) ?x] [(odd? ?x)]]",
        "3",
    ),
    t(
        "not",
        Sort::Clause,
        "(not clause …)",
        "Drops rows for which the clauses hold. Variables shared with the outside must be bound there.",
        "[:find [?x ...] :where [(ground [1 2 3]) [?x ...]] (not [(odd? ?x)])]",
        "[2]",
    ),
    t(
        "not-join",
        Sort::Clause,
        "(not-join [?x …] clause …)",
        "As not, but only the listed variables are shared with the outside.",
        "[:find [?x ...] :where [(ground [1 2 3]) [?x ...]] (not-join [?x] [(ground [2 3]) [?x ...]])]",
        "[1]",
    ),
    t(
        "or",
        Sort::Clause,
        "(or clause (and clause …) …)",
        "Rows for which a branch holds. Every branch uses the same variables.",
        "[:find [?x ...] :where [(ground [1 2 3 4]) [?x ...]] (or [(< ?x 2)] [(> ?x 3)])]",
        "[1 4]",
    ),
    t(
        "or-join",
        Sort::Clause,
        "(or-join [?x …] branch …)",
        "As or, but only the listed variables are shared with the outside.",
        "[:find [?x ...] :where (or-join [?x] [(ground 1) ?x] (and [(ground 1) ?y] [(inc ?y) ?x]))]",
        "[1 2]",
    ),
    t(
        "and",
        Sort::Clause,
        "(and clause …)",
        "Several clauses as one branch of or, or-join.",
        "[:find [?x ...] :where [(ground [1 2 3]) [?x ...]] (or [(= ?x 1)] (and [(odd? ?x)] [(> ?x 2)]))]",
        "[1 3]",
    ),
    t(
        "order-by",
        Sort::Clause,
        ":order-by [?a :desc ?b]",
        "Orders rows. Without it they come in a fixed order of their own.",
        "[:find ?x :where [(ground [1 2]) [?x ...]] :order-by [?x :desc]]",
        "[[2] [1]]",
    ),
    t(
        "limit",
        Sort::Clause,
        ":limit n :offset m",
        "At most n rows, after m. Together with :order-by.",
        "[:find ?x :where [(ground [1 2 3]) [?x ...]] :order-by [?x] :offset 1 :limit 1]",
        "[[2]]",
    ),
    t("timeout", Sort::Clause, ":timeout ms", "Stops the query after so many milliseconds.", "", ""),
    t(
        "rules",
        Sort::Clause,
        "[[(name ?x ?y) clause …] …]",
        "Named sets of clauses. Several rules of one name are alternatives; a rule may call itself. Pass them as % in :in, or keep them with :rules.",
        "",
        "",
    ),
    t(
        "pull",
        Sort::Clause,
        "(pull ?e [:a {:b [:c]} :d/_back *])",
        "An entity as a tree: attributes, * for all, {:ref pattern} for what it refers to, :a/_b for what refers to it, {:a 3} or {:a ...} to recurse; [:a :as k :default v :limit n].",
        "",
        "",
    ),
    t(
        "=",
        Sort::Predicate,
        "[(= a b)]",
        "Equal; numbers by value, whatever their type.",
        "[:find ?x . :where [(ground [1 2]) [?x ...]] [(= ?x 2.0)]]",
        "2",
    ),
    t(
        "!=",
        Sort::Predicate,
        "[(!= a b)]",
        "Not equal. Also not=.",
        "[:find ?x . :where [(ground [1 2]) [?x ...]] [(!= ?x 2)]]",
        "1",
    ),
    t(
        "<",
        Sort::Predicate,
        "[(< a b)]",
        "Less: numbers, strings, instants, keywords, in the order of their type.",
        "[:find ?x . :where [(ground [1 2]) [?x ...]] [(< ?x 2)]]",
        "1",
    ),
    t(
        "<=",
        Sort::Predicate,
        "[(<= a b)]",
        "Less or equal.",
        "[:find [?x ...] :where [(ground [1 2 3]) [?x ...]] [(<= ?x 2)]]",
        "[1 2]",
    ),
    t(
        ">",
        Sort::Predicate,
        "[(> a b)]",
        "Greater.",
        "[:find ?x . :where [(ground [1 2]) [?x ...]] [(> ?x 1)]]",
        "2",
    ),
    t(
        ">=",
        Sort::Predicate,
        "[(>= a b)]",
        "Greater or equal.",
        "[:find [?x ...] :where [(ground [1 2 3]) [?x ...]] [(>= ?x 2)]]",
        "[2 3]",
    ),
    t(
        "missing?",
        Sort::Predicate,
        "[(missing? $ ?e :attr)]",
        "The entity has no such fact in this view.",
        "",
        "",
    ),
    t(
        "contains?",
        Sort::Predicate,
        "[(contains? coll x)]",
        "A set holds the value, a map the key.",
        "[:find ?x . :where [(ground [1 2]) [?x ...]] [(contains? #{2 3} ?x)]]",
        "2",
    ),
    t(
        "starts-with?",
        Sort::Predicate,
        "[(starts-with? s prefix)]",
        "The string begins so. Also ends-with?, includes?.",
        "[:find ?s . :where [(ground [\"ab\" \"cd\"]) [?s ...]] [(starts-with? ?s \"a\")]]",
        "\"ab\"",
    ),
    t(
        "ends-with?",
        Sort::Predicate,
        "[(ends-with? s suffix)]",
        "The string ends so.",
        "[:find ?s . :where [(ground [\"ab\" \"cd\"]) [?s ...]] [(ends-with? ?s \"d\")]]",
        "\"cd\"",
    ),
    t(
        "includes?",
        Sort::Predicate,
        "[(includes? s part)]",
        "The string holds this part.",
        "[:find ?s . :where [(ground [\"abc\" \"d\"]) [?s ...]] [(includes? ?s \"b\")]]",
        "\"abc\"",
    ),
    t(
        "re-find",
        Sort::Predicate,
        "[(re-find pattern s)]",
        "A regular expression matches somewhere in the string.",
        "[:find ?s . :where [(ground [\"a1\" \"b\"]) [?s ...]] [(re-find \"[0-9]\" ?s)]]",
        "\"a1\"",
    ),
    t(
        "re-matches",
        Sort::Predicate,
        "[(re-matches pattern s)]",
        "A regular expression matches the whole string.",
        "[:find ?s . :where [(ground [\"a1\" \"1\"]) [?s ...]] [(re-matches \"[0-9]\" ?s)]]",
        "\"1\"",
    ),
    t(
        "even?",
        Sort::Predicate,
        "[(even? n)]",
        "Even; also odd?, pos?, neg?, zero?.",
        "[:find ?x . :where [(ground [1 2]) [?x ...]] [(even? ?x)]]",
        "2",
    ),
    t(
        "odd?",
        Sort::Predicate,
        "[(odd? n)]",
        "Odd.",
        "[:find ?x . :where [(ground [1 2]) [?x ...]] [(odd? ?x)]]",
        "1",
    ),
    t(
        "pos?",
        Sort::Predicate,
        "[(pos? n)]",
        "Greater than zero.",
        "[:find ?x . :where [(ground [-1 1]) [?x ...]] [(pos? ?x)]]",
        "1",
    ),
    t(
        "neg?",
        Sort::Predicate,
        "[(neg? n)]",
        "Less than zero.",
        "[:find ?x . :where [(ground [-1 1]) [?x ...]] [(neg? ?x)]]",
        "-1",
    ),
    t(
        "zero?",
        Sort::Predicate,
        "[(zero? n)]",
        "Zero.",
        "[:find ?x . :where [(ground [0 1]) [?x ...]] [(zero? ?x)]]",
        "0",
    ),
    t(
        "+",
        Sort::Function,
        "[(+ a b …) ?x]",
        "Sum. Overflow is an error, never a wrap.",
        "[:find ?x . :where [(+ 1 2 3) ?x]]",
        "6",
    ),
    t("-", Sort::Function, "[(- a b) ?x]", "Difference.", "[:find ?x . :where [(- 5 2) ?x]]", "3"),
    t("*", Sort::Function, "[(* a b …) ?x]", "Product.", "[:find ?x . :where [(* 2 3) ?x]]", "6"),
    t(
        "/",
        Sort::Function,
        "[(/ a b) ?x]",
        "Quotient; of two integers, an integer.",
        "[:find ?x . :where [(/ 6 3) ?x]]",
        "2",
    ),
    t(
        "quot",
        Sort::Function,
        "[(quot a b) ?x]",
        "Integer quotient, towards zero; see rem, mod.",
        "[:find ?x . :where [(quot 7 2) ?x]]",
        "3",
    ),
    t(
        "rem",
        Sort::Function,
        "[(rem a b) ?x]",
        "Remainder, with the sign of a.",
        "[:find ?x . :where [(rem -7 2) ?x]]",
        "-1",
    ),
    t(
        "mod",
        Sort::Function,
        "[(mod a b) ?x]",
        "Modulus, with the sign of b.",
        "[:find ?x . :where [(mod -7 2) ?x]]",
        "1",
    ),
    t("inc", Sort::Function, "[(inc n) ?x]", "One more.", "[:find ?x . :where [(inc 1) ?x]]", "2"),
    t("dec", Sort::Function, "[(dec n) ?x]", "One less.", "[:find ?x . :where [(dec 1) ?x]]", "0"),
    t("abs", Sort::Function, "[(abs n) ?x]", "Without sign.", "[:find ?x . :where [(abs -3) ?x]]", "3"),
    t(
        "str",
        Sort::Function,
        "[(str a b …) ?s]",
        "One string of all.",
        "[:find ?s . :where [(str \"a\" 1) ?s]]",
        "\"a1\"",
    ),
    t(
        "subs",
        Sort::Function,
        "[(subs s from to) ?x]",
        "Part of a string; `to` may be left out.",
        "[:find ?s . :where [(subs \"hello\" 1 3) ?s]]",
        "\"el\"",
    ),
    t(
        "upper-case",
        Sort::Function,
        "[(upper-case s) ?x]",
        "In capitals; see lower-case.",
        "[:find ?s . :where [(upper-case \"ab\") ?s]]",
        "\"AB\"",
    ),
    t(
        "lower-case",
        Sort::Function,
        "[(lower-case s) ?x]",
        "In small letters.",
        "[:find ?s . :where [(lower-case \"AB\") ?s]]",
        "\"ab\"",
    ),
    t(
        "name",
        Sort::Function,
        "[(name k) ?s]",
        "The name of a keyword.",
        "[:find ?s . :where [(name :a/b) ?s]]",
        "\"b\"",
    ),
    t(
        "namespace",
        Sort::Function,
        "[(namespace k) ?s]",
        "The namespace of a keyword.",
        "[:find ?s . :where [(namespace :a/b) ?s]]",
        "\"a\"",
    ),
    t(
        "keyword",
        Sort::Function,
        "[(keyword s) ?k]",
        "A keyword; two arguments: namespace and name.",
        "[:find ?k . :where [(keyword \"a\" \"b\") ?k]]",
        ":a/b",
    ),
    t(
        "compare",
        Sort::Function,
        "[(compare a b) ?n]",
        "-1, 0 or 1, by the order of all values.",
        "[:find ?n . :where [(compare 1 2) ?n]]",
        "-1",
    ),
    t(
        "ground",
        Sort::Function,
        "[(ground constant) ?x]  |  [(ground [..]) [?x ...]]",
        "Binds a constant.",
        "[:find ?x . :where [(ground :a) ?x]]",
        ":a",
    ),
    t(
        "identity",
        Sort::Function,
        "[(identity x) ?y]",
        "The same value.",
        "[:find ?y . :where [(identity 1) ?y]]",
        "1",
    ),
    t(
        "get-else",
        Sort::Function,
        "[(get-else $ ?e :attr default) ?v]",
        "The value of a cardinality-one attribute, or the default.",
        "",
        "",
    ),
    t(
        "get-some",
        Sort::Function,
        "[(get-some $ ?e :a :b …) [?attr ?v]]",
        "The first of the attributes that the entity has.",
        "",
        "",
    ),
    t(
        "tuple",
        Sort::Function,
        "[(tuple a b …) ?t]",
        "A tuple of the values; see untuple.",
        "[:find ?t . :where [(tuple 1 2) ?t]]",
        "[1 2]",
    ),
    t(
        "untuple",
        Sort::Function,
        "[(untuple ?t) [?a ?b]]",
        "The values of a tuple.",
        "[:find [?a ?b] :where [(ground [[1 2]]) [?t ...]] [(untuple ?t) [?a ?b]]]",
        "[1 2]",
    ),
    t(
        "vector",
        Sort::Function,
        "[(vector a b …) ?v]",
        "A vector of the values.",
        "[:find ?v . :where [(vector 1 2) ?v]]",
        "[1 2]",
    ),
    t(
        "count",
        Sort::Aggregate,
        "(count ?x)",
        "Number of rows in the group. With no rows at all the answer is nil, not 0. Also a function on collections and strings.",
        "[:find (count ?x) . :where [(ground [1 2]) [?x ...]]]",
        "2",
    ),
    t(
        "count-distinct",
        Sort::Aggregate,
        "(count-distinct ?x)",
        "Number of different values.",
        "[:find (count-distinct ?n) . :with ?k :where [(ground [[1 5] [2 5]]) [[?k ?n]]]]",
        "1",
    ),
    t(
        "sum",
        Sort::Aggregate,
        "(sum ?x)",
        "Sum over the rows; remember :with.",
        "[:find (sum ?x) . :where [(ground [1 2]) [?x ...]]]",
        "3",
    ),
    t(
        "avg",
        Sort::Aggregate,
        "(avg ?x)",
        "Mean, a double.",
        "[:find (avg ?x) . :where [(ground [1 2]) [?x ...]]]",
        "1.5",
    ),
    t(
        "min",
        Sort::Aggregate,
        "(min ?x)  |  (min n ?x)",
        "Least value, of any type that compares; with n, the n least.",
        "[:find (min 2 ?x) . :where [(ground [3 1 2]) [?x ...]]]",
        "[1 2]",
    ),
    t(
        "max",
        Sort::Aggregate,
        "(max ?x)  |  (max n ?x)",
        "Greatest value; with n, the n greatest.",
        "[:find (max ?x) . :where [(ground [3 1 2]) [?x ...]]]",
        "3",
    ),
    t(
        "median",
        Sort::Aggregate,
        "(median ?x)",
        "Middle value; of an even count, the mean of the middle two.",
        "[:find (median ?x) . :where [(ground [1 5 9]) [?x ...]]]",
        "5",
    ),
    t(
        "variance",
        Sort::Aggregate,
        "(variance ?x)",
        "Population variance.",
        "[:find (variance ?x) . :where [(ground [1 3]) [?x ...]]]",
        "1.0",
    ),
    t(
        "stddev",
        Sort::Aggregate,
        "(stddev ?x)",
        "Population standard deviation.",
        "[:find (stddev ?x) . :where [(ground [1 3]) [?x ...]]]",
        "1.0",
    ),
    t(
        "distinct",
        Sort::Aggregate,
        "(distinct ?x)",
        "The set of values.",
        "[:find (distinct ?x) . :where [(ground [2 1]) [?x ...]]]",
        "#{1 2}",
    ),
    t("sample", Sort::Aggregate, "(sample n ?x)", "n values, none twice.", "", ""),
    t("rand", Sort::Aggregate, "(rand n ?x)", "n values, with repetition.", "", ""),
    t(
        ":db/add",
        Sort::Transaction,
        "[:db/add e :attr value]",
        "Asserts a fact. e is a number, an ident, a lookup ref, or a string that stands for a new entity.",
        "",
        "",
    ),
    t(
        ":db/retract",
        Sort::Transaction,
        "[:db/retract e :attr value?]",
        "Retracts a fact; without a value, every value of the attribute.",
        "",
        "",
    ),
    t(
        ":db/retractEntity",
        Sort::Transaction,
        "[:db/retractEntity e]",
        "Retracts all facts of an entity, all that point to it, and its components.",
        "",
        "",
    ),
    t(
        ":db/cas",
        Sort::Transaction,
        "[:db/cas e :attr old new]",
        "Replaces old by new, or refuses the transaction; nil is no value.",
        "",
        "",
    ),
    t(
        "tx",
        Sort::Word,
        "[[:db/add …] {:a v} …]  |  {:a v}",
        "A transaction: a vector of adds, retracts and maps, typed as it is. A map alone is a transaction of one entity. It is a set judged against the database before it, applied whole or not at all.",
        "",
        "",
    ),
    t(
        "event",
        Sort::Word,
        "{:stream \"order-A-1\" :type \"OrderPlaced\" :data {…}}",
        "An event, typed as it is, or with :send. Projections turn it into facts in the same transaction; :why leads back to it.",
        "",
        "",
    ),
    t(
        "time",
        Sort::Word,
        ":as-of  :since  :history  :now  :diff",
        "A query sees one moment. The prompt shows which. t is a transaction number; dates mean the last transaction not after them.",
        "",
        "",
    ),
    t(
        "lookup-ref",
        Sort::Word,
        "[:order/id \"A-1\"]",
        "Names an entity by a unique attribute, wherever an entity may stand.",
        "",
        "",
    ),
    t(
        "keys-of-the-editor",
        Sort::Word,
        "Tab  Alt-Enter  Ctrl-R  Ctrl-C  Ctrl-D  Right",
        "Tab completes, and indents at the start of a line. Enter runs what is complete and else starts a line; an empty line runs it as it is. Alt-Enter always starts a line. Ctrl-R searches the history, Right accepts the grey hint, Ctrl-X Ctrl-E opens $EDITOR, Ctrl-C stops a query or clears the input, Ctrl-D leaves.",
        "",
        "",
    ),
];

/// The topic of this name.
pub fn find(name: &str) -> Option<&'static Topic> {
    let bare = name.trim_start_matches(':').trim_matches(['(', ')']);
    let alias = match bare {
        "transaction" | "transact" => "tx",
        "lookup" => "lookup-ref",
        "not=" => "!=",
        "editor" | "editing" | "shortcuts" => "keys-of-the-editor",
        "strs" | "syms" => "keys",
        "offset" => "limit",
        "rule" => "rules",
        other => other,
    };
    TOPICS
        .iter()
        .find(|t| t.name == alias)
        .or_else(|| TOPICS.iter().find(|t| t.name.trim_start_matches(':') == alias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Given, ask};

    #[test]
    fn every_example_answers_what_it_says() {
        let db = annals::in_memory().expect("a database in memory").db();
        for t in TOPICS.iter().filter(|t| !t.example.0.is_empty()) {
            let (query, want) = t.example;
            match ask(query, &db.clone().into(), &Given::default()) {
                Ok(a) => assert_eq!(annals::edn::print(&a.rows.to_value()), want, "{query}"),
                Err(f) => panic!("{query}: {:?}", f.diagnostics),
            }
        }
    }

    #[test]
    fn names_are_found_however_they_are_written() {
        for name in ["find", ":find", "(count)", "not=", "transaction", ":db/cas", "offset"] {
            assert!(find(name).is_some(), "{name}");
        }
    }
}
