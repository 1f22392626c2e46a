//! Opens a folder, installs a schema, transacts, closes, reopens, and reads facts
//! as of past transactions.
//!
//! `cargo run -p annals --example time_travel [FOLDER]`

use annals::{Connection, Db, Error, T};

const SCHEMA: &str = r#"[
  {:db/ident :order/id     :db/valueType :db.type/string  :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :order/status :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
  {:db/ident :order/line   :db/valueType :db.type/ref     :db/cardinality :db.cardinality/many :db/isComponent true}
  {:db/ident :line/item    :db/valueType :db.type/string  :db/cardinality :db.cardinality/one}
  {:db/ident :line/count   :db/valueType :db.type/long    :db/cardinality :db.cardinality/one}]"#;

fn first_run(conn: &Connection) -> Result<(), Error> {
    conn.transact(SCHEMA)?;
    conn.transact(
        r#"[{:order/id "A-1" :order/status :placed :order/line [{:line/item "lamp" :line/count 2}]}]"#,
    )?;
    conn.transact(r#"[{:order/id "A-1" :order/status :paid} {:db/id "datomic.tx" :tx/by "till 3"}]"#)?;
    conn.transact(r#"[{:order/id "A-1" :order/status :shipped}]"#)?;
    Ok(())
}

fn status(db: &Db) -> Result<String, Error> {
    let Some(order) = db.entity(("order/id", "A-1"))? else { return Ok("not there yet".into()) };
    Ok(order.get("order/status").map_or_else(|| "without status".into(), annals::edn::print))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = std::env::temp_dir().join(format!("annals-time-travel-{}", std::process::id()));
    let (folder, keep) = match std::env::args_os().nth(1) {
        Some(f) => (f.into(), true),
        None => (scratch, false),
    };

    let conn = annals::open(&folder)?;
    if conn.db().t() == T::GENESIS {
        first_run(&conn)?;
    }
    conn.close();
    drop(conn);

    // Another day: everything is still there, and so is the past.
    let conn = annals::open(&folder)?;
    let now = conn.db();
    println!("now (t {}): {}", now.t(), status(&now)?);
    for t in (1..=now.t().0).map(T) {
        let then = now.as_of(t);
        let at = now.instant_of(t)?.unwrap_or_default();
        println!("as of t {t} ({at}): {}", status(&then)?);
    }
    println!("its life:");
    for change in now.history_of(("order/id", "A-1"), Some("order/status"))? {
        let did = if change.datom.added { "asserted" } else { "retracted" };
        println!("  t {} {did} {}", change.datom.t, annals::edn::print(&change.datom.v));
    }
    let what_if = now.with(r#"[[:db/retractEntity [:order/id "A-1"]]]"#)?;
    println!("were it deleted: {}; it is: {}", status(what_if.db_after())?, status(&conn.db())?);

    drop((conn, now, what_if));
    if !keep {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}
