//! Pull over datoms in memory: shapes, limits, recursion, refusals.

use super::*;
use crate::budget::{Budget, Cancel};
use crate::edn::{print, read_value};
use crate::eval::function::{Function, Library};
use crate::mem::MemSource;
use annals_model::{AttrId, Attribute, Cardinality, Datom, Keyword, Schema, T, Unique, ValueType, View};

const NAME: u32 = 1;
const NICK: u32 = 2;
const BOSS: u32 = 3;
const KNOWS: u32 = 4;
const HOME: u32 = 5;
const PARTS: u32 = 6;

fn attribute(id: u32, ident: &str, value_type: ValueType, many: bool, is_component: bool) -> Attribute {
    Attribute {
        id: AttrId::new(id),
        ident: Keyword::new(ident),
        value_type,
        cardinality: if many { Cardinality::Many } else { Cardinality::One },
        unique: (ident == "p/name").then_some(Unique::Identity),
        index: false,
        is_component,
        no_history: false,
        tuple: None,
        preds: Vec::new(),
        doc: None,
    }
}

fn schema() -> Schema {
    Schema::new([
        attribute(NAME, "p/name", ValueType::String, false, false),
        attribute(NICK, "p/nick", ValueType::String, true, false),
        attribute(BOSS, "p/boss", ValueType::Ref, false, false),
        attribute(KNOWS, "p/knows", ValueType::Ref, true, false),
        attribute(HOME, "p/home", ValueType::Ref, false, true),
        attribute(PARTS, "p/parts", ValueType::Ref, true, true),
    ])
}

fn fact(e: u64, a: u32, v: impl Into<Value>) -> Datom {
    Datom { e: EntityId::from_raw(e), a: AttrId::new(a), v: v.into(), t: T(1), added: true }
}

fn to(e: u64) -> Value {
    Value::Ref(EntityId::from_raw(e))
}

/// 10 Ann; 11 Bob, under Ann; 12 Cy, under Bob. Ann and Bob know one another, Cy
/// knows himself. Ann lives in 20, which has the parts 21 and 22.
fn people() -> MemSource {
    MemSource::new(
        schema(),
        vec![
            fact(10, NAME, "Ann"),
            fact(11, NAME, "Bob"),
            fact(12, NAME, "Cy"),
            fact(10, NICK, "z"),
            fact(10, NICK, "a"),
            fact(10, NICK, "m"),
            fact(11, BOSS, to(10)),
            fact(12, BOSS, to(11)),
            fact(10, KNOWS, to(11)),
            fact(11, KNOWS, to(10)),
            fact(12, KNOWS, to(12)),
            fact(10, HOME, to(20)),
            fact(20, NAME, "House"),
            fact(20, PARTS, to(22)),
            fact(20, PARTS, to(21)),
            fact(21, NAME, "Door"),
            fact(22, NAME, "Roof"),
        ],
    )
}

fn ask(source: &dyn Source, pattern: &str, e: u64) -> Result<Value, QueryError> {
    let pattern = crate::parse::pull(pattern)?;
    pull(source, &pattern, EntityId::from_raw(e), Library::standard(), &Budget::unlimited())
}

#[track_caller]
fn check(pattern: &str, e: u64, expected: &str) {
    let found = ask(&people(), pattern, e).unwrap_or_else(|e| panic!("{pattern}: {e}"));
    assert_eq!(print(&found), print(&read_value(expected).unwrap()), "{pattern} of {e}");
}

#[track_caller]
fn fails(source: &dyn Source, pattern: &str, code: &str, words: &str) {
    let Err(e) = ask(source, pattern, 10) else { panic!("{pattern} was answered") };
    assert_eq!(e.code(), code, "{pattern}: {e}");
    let said = e.diagnostics().iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains(words), "{pattern}: {said} does not say {words}");
}

#[test]
fn attributes_and_what_is_missing() {
    check("[:p/name]", 10, r#"{:p/name "Ann"}"#);
    check("[:p/name :p/boss]", 10, r#"{:p/name "Ann"}"#);
    check("[:p/boss]", 10, "nil");
    check("[:p/name]", 99, "nil");
    check("[:db/id]", 99, "{:db/id 99}");
    check("[[:db/id :as :id] :p/name]", 11, r#"{:id 11 :p/name "Bob"}"#);
    check("[:p/boss]", 11, "{:p/boss {:db/id 10}}");
    check("[:p/knows]", 12, "{:p/knows [{:db/id 12}]}");
}

#[test]
fn many_values_come_in_order_up_to_a_limit() {
    check("[:p/nick]", 10, r#"{:p/nick ["a" "m" "z"]}"#);
    check("[[:p/nick :limit 2]]", 10, r#"{:p/nick ["a" "m"]}"#);
    check("[(limit :p/nick 1)]", 10, r#"{:p/nick ["a"]}"#);
    let many = (0..1_500).map(|n| fact(10, NICK, format!("{n:04}")));
    let source = MemSource::new(schema(), many.collect());
    let count = |pattern: &str| match ask(&source, pattern, 10).unwrap().get(&Value::keyword("p/nick")) {
        Some(Value::Vector(v)) => v.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((count("[:p/nick]"), count("[[:p/nick :limit nil]]"), count("[*]")), (1_000, 1_500, 1_000));
}

#[test]
fn names_defaults_and_transformations() {
    check("[[:p/name :as \"n\"] [:p/boss :default :none]]", 10, r#"{"n" "Ann" :p/boss :none}"#);
    check("[[:p/name :xform upper-case]]", 10, r#"{:p/name "ANN"}"#);
    check("[[:p/nick :xform count]]", 10, "{:p/nick 3}");
    // A transformation sees nil when there is no value; its nil leaves the default.
    check("[[:p/nick :xform nil?]]", 11, "{:p/nick true}");
    check("[[:p/nick :xform identity :default 0]]", 11, "{:p/nick 0}");
    check("[[:p/nick :default [\"x\"] :xform count]]", 11, "{:p/nick 0}");
    // Of two items for one key the later wins.
    check("[[:p/name :as :n] [:p/nick :as :n]]", 10, r#"{:n ["a" "m" "z"]}"#);
}

#[test]
fn nested_patterns_forwards_and_backwards() {
    check("[{:p/boss [:p/name]}]", 11, r#"{:p/boss {:p/name "Ann"}}"#);
    check("[{:p/boss [{:p/boss [:p/name]}]}]", 12, r#"{:p/boss {:p/boss {:p/name "Ann"}}}"#);
    check("[:p/_boss]", 10, "{:p/_boss [{:db/id 11}]}");
    check(
        "[{:p/_boss [:p/name {:p/_boss [:p/name]}]}]",
        10,
        r#"{:p/_boss [{:p/name "Bob" :p/_boss [{:p/name "Cy"}]}]}"#,
    );
    // Children with nothing to show leave no trace.
    check("[{:p/boss [:p/home]}]", 12, "nil");
    check(
        "[:p/name {:p/knows [:p/home]}]",
        11,
        r#"{:p/name "Bob" :p/knows [{:p/home {:db/id 20 :p/name "House"
            :p/parts [{:db/id 21 :p/name "Door"} {:db/id 22 :p/name "Roof"}]}}]}"#,
    );
}

#[test]
fn components_are_shown_whole() {
    let house =
        r#"{:db/id 20 :p/name "House" :p/parts [{:db/id 21 :p/name "Door"} {:db/id 22 :p/name "Roof"}]}"#;
    check("[:p/home]", 10, &format!("{{:p/home {house}}}"));
    check("[{:p/home [:p/name]}]", 10, r#"{:p/home {:p/name "House"}}"#);
    // A part has one whole: backwards a component is a single entity.
    check("[:p/_parts]", 21, "{:p/_parts {:db/id 20}}");
    check("[:p/_home]", 20, "{:p/_home {:db/id 10}}");
}

#[test]
fn wildcards() {
    check("[*]", 12, r#"{:db/id 12 :p/name "Cy" :p/boss {:db/id 11} :p/knows [{:db/id 12}]}"#);
    check("[*]", 99, "{:db/id 99}");
    check(
        "[* {:p/boss [:p/name]}]",
        12,
        r#"{:db/id 12 :p/name "Cy" :p/boss {:p/name "Bob"} :p/knows [{:db/id 12}]}"#,
    );
    check(
        "[* :p/_boss]",
        11,
        r#"{:db/id 11 :p/name "Bob" :p/boss {:db/id 10} :p/knows [{:db/id 10}] :p/_boss [{:db/id 12}]}"#,
    );
    check("[* [:p/name :as :n]]", 21, r#"{:db/id 21 :n "Door"}"#);
}

#[test]
fn many_entities_at_once_look_like_each_alone() {
    let source = people();
    let library = Library::standard();
    for pattern in ["[*]", "[:p/name {:p/_boss ...}]", "[{:p/knows [*]}]", "[:p/home]"] {
        let pattern = crate::parse::pull(pattern).unwrap();
        let ids = [10, 11, 12, 20, 21, 22, 10, 99, 11].map(|e| Some(EntityId::from_raw(e)));
        let all: Vec<_> = ids.into_iter().chain([None]).collect();
        let together = pull_many(&source, &pattern, &all, library, &Budget::unlimited()).unwrap();
        for (e, found) in all.iter().zip(&together) {
            let alone =
                e.map_or(Value::Nil, |e| pull(&source, &pattern, e, library, &Budget::unlimited()).unwrap());
            assert_eq!(*found, alone, "{pattern} of {e:?}");
        }
    }
}

#[test]
fn recursion_ends_at_its_depth_and_in_cycles() {
    check("[:p/name {:p/boss ...}]", 12, r#"{:p/name "Cy" :p/boss {:p/name "Bob" :p/boss {:p/name "Ann"}}}"#);
    check("[:p/name {:p/boss 1}]", 12, r#"{:p/name "Cy" :p/boss {:p/name "Bob"}}"#);
    check(
        "[:p/name {:p/_boss ...}]",
        10,
        r#"{:p/name "Ann" :p/_boss [{:p/name "Bob" :p/_boss [{:p/name "Cy"}]}]}"#,
    );
    check(
        "[:p/name {:p/knows ...}]",
        10,
        r#"{:p/name "Ann" :p/knows [{:p/name "Bob" :p/knows [{:db/id 10}]}]}"#,
    );
    check("[:p/name {:p/knows ...}]", 12, r#"{:p/name "Cy" :p/knows [{:db/id 12}]}"#);
    check("[:p/name {:p/knows 5}]", 12, r#"{:p/name "Cy" :p/knows [{:db/id 12}]}"#);
    // Two recursions in one pattern count their own levels.
    check(
        "[:p/name {:p/boss 1 :p/_boss 1}]",
        11,
        r#"{:p/name "Bob" :p/boss {:p/name "Ann" :p/_boss [{:db/id 11}]} :p/_boss [{:p/name "Cy" :p/boss {:db/id 11}}]}"#,
    );
}

#[test]
fn component_cycles_end() {
    let source = MemSource::new(schema(), vec![fact(10, HOME, to(11)), fact(11, HOME, to(10))]);
    let found = ask(&source, "[:p/home]", 10).unwrap();
    assert_eq!(print(&found), "{:p/home {:db/id 11, :p/home {:db/id 10}}}");
}

/// A chain of bosses from 1000 on.
fn chain(n: u64) -> MemSource {
    let links =
        (0..n).map(|i| if i == 0 { fact(10, BOSS, to(1_001)) } else { fact(1_000 + i, BOSS, to(1_001 + i)) });
    MemSource::new(schema(), links.chain([fact(1_000 + n, NAME, "top")]).collect())
}

#[test]
fn trees_are_bounded() {
    let limit = MAX_DEPTH as u64;
    assert!(ask(&chain(limit), "[:p/name {:p/boss ...}]", 10).is_ok());
    fails(&chain(limit + 1), "[:p/name {:p/boss ...}]", "pull/too-large", "{:a/next 20}");
    assert!(ask(&chain(limit + 1), "[:p/name {:p/boss 20}]", 10).is_ok());
}

#[test]
fn a_tree_of_every_path_stays_within_the_budget() {
    // Each knows the next four: the paths, not the people, are many.
    let all = (0..40u64).flat_map(|i| (1..5).map(move |d| fact(10 + i, KNOWS, to(10 + i + d))));
    let source = MemSource::new(schema(), all.collect());
    let pattern = crate::parse::pull("[:db/id {:p/knows ...}]").unwrap();
    let budget = Budget::new(None, 100_000, u64::MAX, Cancel::new());
    let e = pull(&source, &pattern, EntityId::from_raw(10), Library::standard(), &budget).unwrap_err();
    assert_eq!(e.code(), "query/row-limit");
}

#[test]
fn refusals_name_the_place() {
    let source = people();
    fails(&source, "[:p/nmae]", "query/unknown-attribute", "did you mean :p/name?");
    fails(&source, "[{:p/knows [:p/nmae]}]", "query/unknown-attribute", ":p/name");
    fails(&source, "[:p/_name]", "pull/reverse", "not a reference");
    fails(&source, "[{:p/name [*]}]", "pull/nested", "not a reference");
    fails(&source, "[{:p/name ...}]", "pull/nested", "not a reference");
    fails(&source, "[[:p/name :xform uper-case]]", "pull/unknown-xform", "did you mean upper-case?");
    fails(&source, "[[:p/nick :xform upper-case]]", "query/type", "upper-case");
    let history = source.view_as(View { history: true, ..View::NOW });
    fails(&history, "[*]", "pull/history", "as-of");
    let Err(e) = ask(&source, "[:p/name :p/nmae]", 10) else { panic!("unknown") };
    let span = e.diagnostics()[0].labels[0].span;
    assert_eq!((span.start, span.end), (9, 16));
}

#[test]
fn registered_functions_transform() {
    let mut library = (**Library::standard()).clone();
    library.register(Function::new("my/len", 1..=1, |a| {
        Ok(Value::Long(match &a[0] {
            Value::String(s) => s.len() as i64,
            _ => -1,
        }))
    }));
    let pattern = crate::parse::pull("[[:p/name :xform my/len] [:p/boss :xform my/len]]").unwrap();
    let found = pull(&people(), &pattern, EntityId::from_raw(10), &library, &Budget::unlimited()).unwrap();
    assert_eq!(print(&found), "{:p/boss -1, :p/name 3}");
}
