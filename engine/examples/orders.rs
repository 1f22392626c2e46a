//! Orders: a projection written as EDN, asked now, as of an earlier transaction, and why.
//!
//! `cargo run -p annals --example orders`

use annals::{Value, event::Append};

const ORDERS: &str = r#"
{:projection/name :orders
 :projection/schema [{:db/ident :order/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one
                      :db/unique :db.unique/identity}
                     {:db/ident :order/status :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}]
 :projection/on [{:event "OrderPlaced" :assert [{:order/id $stream.key :order/status :placed}]}
                 {:event "OrderShipped" :assert [{:order/id $stream.key :order/status :shipped}]}]}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let conn = annals::in_memory()?;
    conn.add_projection(ORDERS)?;
    let placed =
        conn.append(Append::to("order-A-1").expect_new().event("OrderPlaced", r#"{"total": 12}"#)?)?;
    conn.append(Append::to("order-A-1").expect_version(1).event("OrderShipped", r#"{"carrier": "DHL"}"#)?)?;
    let status = "[:find ?s . :in $ ?id :where [?o :order/id ?id] [?o :order/status ?s]]";
    assert_eq!(conn.db().query(status, ("A-1",))?.scalar(), Some(Value::keyword("shipped")));
    assert_eq!(conn.db().as_of(placed.t).query(status, ("A-1",))?.scalar(), Some(Value::keyword("placed")));

    // Each fact knows the events it rests on, and the projection that made it of them.
    let db = conn.db();
    let order = db.resolve(("order/id", "A-1"))?.expect("it was placed");
    let why = db.fact_support(order, "order/status", &Value::keyword("shipped"))?;
    assert_eq!((why.len(), why[0].event.ty()), (1, "OrderShipped"));
    assert!(
        why[0].projection.as_ref().is_some_and(|(name, version)| name.as_str() == "orders" && *version == 1)
    );
    Ok(())
}

#[test]
fn it_runs() {
    main().expect("the example runs");
}
