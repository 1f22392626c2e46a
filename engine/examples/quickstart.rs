//! The first ten minutes: schema, facts, queries, pull, and a look back.
//!
//! `cargo run -p annals --example quickstart`

fn main() -> Result<(), annals::Error> {
    let conn = annals::in_memory()?;

    // Schema is facts like any others, installed in a transaction of its own.
    conn.transact(
        r#"[{:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
            {:db/ident :person/city :db/valueType :db.type/string :db/cardinality :db.cardinality/one}
            {:db/ident :person/boss :db/valueType :db.type/ref    :db/cardinality :db.cardinality/one}]"#,
    )?;

    // Maps assert facts. A string is a name for a new entity within the transaction.
    let hired = conn.transact(
        r#"[{:db/id "ada" :person/name "Ada" :person/city "Oslo"}
            {:person/name "Bo"  :person/city "Oslo"  :person/boss "ada"}
            {:person/name "Cy"  :person/city "Cadiz" :person/boss "ada"}]"#,
    )?;
    let ada = hired.tempid("ada");
    println!("Ada is entity {}", ada.map(|e| e.to_string()).unwrap_or_default());

    // A unique attribute finds the entity again: this moves Ada.
    let moved = conn.transact(r#"[{:person/name "Ada" :person/city "Bergen"}]"#)?;

    let db = conn.db();
    let q = annals::Query::parse(
        "[:find ?name ?city :in $ ?boss :where [?b :person/name ?boss] [?p :person/boss ?b] [?p :person/name ?name] [?p :person/city ?city]]",
    )?;
    for row in db.query(&q, ("Ada",))?.rows.iter() {
        println!("{} in {}", annals::edn::print(&row[0]), annals::edn::print(&row[1]));
    }

    let tree = db.pull("[:person/name {:person/_boss [:person/name]}]", ("person/name", "Ada"))?;
    println!("{}", annals::edn::print(&tree));

    let city = "[:find ?c . :where [?p :person/name \"Ada\"] [?p :person/city ?c]]";
    let now = db.query(city, ())?.scalar();
    let then = db.as_of(hired.t()).query(city, ())?.scalar();
    println!("Ada lives in {now:?}; as of t {} it was {then:?}", hired.t());

    for row in
        db.diff("[:find ?n ?c :where [?p :person/name ?n] [?p :person/city ?c]]", (), hired.t(), moved.t())?
    {
        let sign = if row.gained { '+' } else { '-' };
        println!("{sign} {:?} by t {}", row.values, row.t);
    }
    Ok(())
}

#[test]
fn it_runs() {
    main().expect("the example runs");
}
