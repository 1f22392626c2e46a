//! Serves a small made-up shop, so that the console has something to show:
//!
//! ```text
//! cargo run --release -p annals-server --example serve -- 127.0.0.1:7407 [orders]
//! ```
//!
//! The second argument is the number of orders; each lives through a few transactions.

use annals::{
    Clock, Instant,
    event::{Aggregate, Append, Decide, Event},
};
use annals_server::Config;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

const SCHEMA: &str = r#"[
  {:db/ident :order/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity :db/doc "The number printed on the parcel."}
  {:db/ident :order/status :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one :db/index true}
  {:db/ident :order/total :db/valueType :db.type/double :db/cardinality :db.cardinality/one}
  {:db/ident :order/customer :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
  {:db/ident :order/tag :db/valueType :db.type/string :db/cardinality :db.cardinality/many}
  {:db/ident :customer/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
  {:db/ident :customer/tier :db/valueType :db.type/keyword :db/cardinality :db.cardinality/one}
  {:db/ident :customer/referred-by :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
]"#;

const PROJECTION: &str = r#"{:projection/name :parcels :projection/version 1 :projection/mode :async
  :projection/schema [{:db/ident :parcel/order :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                      {:db/ident :parcel/carrier :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]
  :projection/on [{:event "OrderShipped" :assert [{:parcel/order $stream.key :parcel/carrier $data.carrier}]}]}"#;

/// An order as commands know it: `POST /commands {"category": "order", "type": "Place", …}`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Order {
    placed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Ask {
    Place { total: i64 },
    Ship { carrier: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Said {
    OrderAccepted { total: i64 },
    OrderShipped { carrier: String },
}

impl Event for Said {
    const TYPES: &'static [(&'static str, u32)] = &[("OrderAccepted", 1), ("OrderShipped", 1)];
}

#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
enum No {
    #[error("the order was not placed yet")]
    NotPlaced,
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Command = Ask;
    type Event = Said;
    type Error = No;
    fn apply(&mut self, _: &Said) {
        self.placed = true;
    }
    fn handle(&self, c: Ask, _: &Decide<'_>) -> Result<Vec<Said>, No> {
        match c {
            Ask::Place { total } => Ok(vec![Said::OrderAccepted { total }]),
            Ask::Ship { .. } if !self.placed => Err(No::NotPlaced),
            Ask::Ship { carrier } => Ok(vec![Said::OrderShipped { carrier }]),
        }
    }
}

/// A clock that the example winds forward, so that history spans months.
struct Wound(Arc<AtomicI64>);

impl Clock for Wound {
    fn now(&self) -> Instant {
        match self.0.load(Ordering::Relaxed) {
            0 => annals::SystemClock.now(),
            at => Instant(at),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:7407".into()).parse()?;
    let orders: u64 = args.next().unwrap_or_else(|| "300".into()).parse()?;
    let day = 86_400_000_000i64;
    let now = annals::SystemClock.now().0;
    let hand = Arc::new(AtomicI64::new(now - 270 * day));
    let conn = annals::Options::new().clock(Wound(hand.clone())).in_memory()?;
    conn.transact(SCHEMA)?;
    let names = ["Ada", "Grace", "Barbara", "Edsger", "Tony", "Leslie", "Jim", "Frances", "John", "Radia"];
    for (i, name) in names.iter().enumerate() {
        let tier = ["gold", "silver", "bronze"][i % 3];
        let by = if i == 0 {
            String::new()
        } else {
            format!(":customer/referred-by [:customer/name {:?}]", names[i / 2])
        };
        conn.transact(format!("[{{:customer/name {name:?} :customer/tier :{tier} {by}}}]"))?;
    }
    let mut x = 42u64;
    let mut roll = move |n: u64| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) % n
    };
    let step = 260 * day / i64::try_from(orders * 3)?;
    for i in 0..orders {
        let name = names[roll(10) as usize];
        let total = roll(90_000) as f64 / 100.0;
        hand.fetch_add(step * (1 + i64::try_from(roll(3))?) / 2, Ordering::Relaxed);
        conn.transact(format!(
            "[{{:order/id \"A-{}\" :order/status :placed :order/total {total:?} :order/customer [:customer/name {name:?}] :order/tag [\"web\"]}}
              {{:db/id \"datomic.tx\" :tx/by \"shop\"}}]",
            1000 + i
        ))?;
        if i > 5 {
            hand.fetch_add(step, Ordering::Relaxed);
            let old = i - 1 - roll(5);
            let status = ["paid", "shipped", "delivered", "returned"][roll(4) as usize];
            conn.transact(format!("[{{:order/id \"A-{}\" :order/status :{status}}} {{:db/id \"datomic.tx\" :tx/by \"warehouse\"}}]", 1000 + old))?;
        }
    }
    conn.register_commands::<Order>()?;
    conn.add_projection(PROJECTION)?;
    for i in 0..orders.min(60) {
        let stream = format!("order-A-{}", 1000 + i);
        let mut append = Append::to(&stream).event("OrderPlaced", json!({"items": 1 + roll(4)}))?;
        if i % 3 > 0 {
            let carrier = ["DHL", "Post"][roll(2) as usize];
            append = append.event("OrderShipped", json!({"carrier": carrier}))?;
        }
        hand.fetch_add(day / 20, Ordering::Relaxed);
        conn.append(append)?;
    }
    hand.store(0, Ordering::Relaxed);
    let config = Config { listen, ..Config::load(None)? };
    annals_server::run(config, vec![("shop".into(), conn)])?;
    Ok(())
}
