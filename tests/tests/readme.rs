//! The README's example, run. The lines between the marks are those of the
//! README, word for word; the last test compares them.

use annals::{Input, Value};
use std::{fs, path::Path};

/// The example, and what its answers were.
fn example() -> Result<Vec<Value>, annals::Error> {
    let mut shown = Vec::new();
    let mut show = |v: Value| shown.push(v);
    // README begins
    let conn = annals::in_memory()?; // or annals::open("orders")?
    conn.transact(r#"[
      {:db/ident :order/id       :db/valueType :db.type/string  :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
      {:db/ident :order/status   :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
      {:db/ident :order/replaces :db/valueType :db.type/ref     :db/cardinality :db.cardinality/one}]"#)?;

    let placed = conn.transact(r#"[{:order/id "A-1" :order/status :placed}]"#)?;
    // The same identity is the same entity: a new value, and the old one stays in history.
    conn.transact(r#"[{:order/id "A-1" :order/status :cancelled}]"#)?;
    conn.transact(r#"[{:order/id "A-2" :order/replaces [:order/id "A-1"]}]"#)?;
    conn.transact(r#"[{:order/id "A-3" :order/replaces [:order/id "A-2"]}]"#)?;

    let status = "[:find ?s . :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s]]";
    let now = conn.db();
    show(now.query(status, ("A-1",))?.value()); // :cancelled
    show(now.as_of(placed.t()).query(status, ("A-1",))?.value()); // :placed

    // Every status there ever was: when it came, when it went.
    let life = "[:find ?s ?t ?added :where [_ :order/status ?s ?t ?added]]";
    show(now.history().query(life, ())?.value());

    // Rules may recurse, in any form: what came of A-1?
    let rules = "[[(from ?a ?b) [?a :order/replaces ?b]] [(from ?a ?b) (from ?a ?x) (from ?x ?b)]]";
    let heirs = r#"[:find [?id ...] :in $ % :where (from ?o [:order/id "A-1"]) [?o :order/id ?id]]"#;
    show(now.query(heirs, (Input::Rules(rules.into()),))?.value()); // ["A-2" "A-3"]

    show(now.pull("[:order/id {:order/_replaces ...}]", ("order/id", "A-1"))?);
    // README ends
    Ok(shown)
}

#[test]
fn the_example_of_the_readme_does_what_it_says() {
    let shown = example().expect("the README's example runs");
    assert_eq!(shown[0], Value::keyword("cancelled"));
    assert_eq!(shown[1], Value::keyword("placed"));
    let Value::Vector(life) = &shown[2] else { panic!("rows: {:?}", shown[2]) };
    assert_eq!(life.len(), 3, "placed came and went, cancelled came");
    assert_eq!(shown[3], Value::vector(["A-2".into(), "A-3".into()]));
    let tree = annals::edn::print(&shown[4]);
    assert!(tree.contains(r#"{:order/_replaces [{:order/id "A-3"}], :order/id "A-2"}"#), "{tree}");
}

#[test]
fn the_readme_shows_this_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace");
    let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
    let shown = readme
        .split("```rust\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("it has an example");
    let source = include_str!("readme.rs");
    let run = source.split("// README begins\n").nth(1).and_then(|rest| rest.split("// README ends").next());
    let bare = |text: &str| {
        text.lines()
            .map(|l| {
                l.trim().replace("show(", "").replace(")?);", ")?;").replace("?.value());", "?.value();")
            })
            .filter(|l| !l.is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(bare(shown), bare(run.expect("the marks are there")));
}
