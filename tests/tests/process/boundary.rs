//! The dynamic consistency boundary: the seven examples, each as a race, and what a late projection changes.

use super::*;

fn tagged(conn: &Connection, tag: &str) -> usize {
    conn.db().query("[:find ?e :in $ ?t :where [?e :event/tag ?t]]", (tag,)).unwrap().rows.len()
}
/// Runs `n` of a thing at once; how many were done, and the codes of the refusals.
fn race<E: std::error::Error + Send>(
    n: usize,
    f: impl Fn(usize) -> Result<annals::event::Dispatched, DispatchError<E>> + Sync,
) -> (usize, Vec<String>) {
    let barrier = Barrier::new(n);
    let answers: Vec<_> = std::thread::scope(|s| {
        let all: Vec<_> = (0..n)
            .map(|i| {
                let (f, barrier) = (&f, &barrier);
                s.spawn(move || {
                    barrier.wait();
                    f(i).map_err(|e| e.code().to_owned())
                })
            })
            .collect();
        all.into_iter().map(|a| a.join().unwrap()).collect()
    });
    let done = answers.iter().filter(|a| a.is_ok()).count();
    (done, answers.into_iter().filter_map(Result::err).collect())
}

const TAGGED: &str = "[:find ?e :in $ ?tag ?type :where [?e :event/tag ?tag] [?e :event/type ?type]]";

macro_rules! happenings {
    ($name:ident { $($variant:ident { $($field:ident : $ty:ty),* } => $tags:expr;)* }) => {
        #[derive(Clone, Debug, Serialize, Deserialize)]
        enum $name { $($variant { $($field: $ty),* }),* }
        impl Event for $name {
            const TYPES: &'static [(&'static str, u32)] = &[$((stringify!($variant), 1)),*];
            #[allow(unused_variables, reason = "not every tag needs every field")]
            fn tags(&self) -> Vec<String> {
                match self { $($name::$variant { $($field),* } => $tags),* }
            }
        }
    };
}

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
enum No {
    #[error("the course is full")]
    Full,
    #[error("the student has too many courses")]
    TooMany,
    #[error("the name is taken")]
    Taken,
    #[error("no such token")]
    UnknownToken,
    #[error("the token was used")]
    Used,
    #[error("the price is not valid any more")]
    OldPrice,
    #[error("it is recorded already")]
    Duplicate,
}

happenings!(Course {
    CourseDefined { course: String, capacity: usize } => vec![format!("course:{course}")];
    Subscribed { course: String, student: String } => vec![format!("course:{course}"), format!("student:{student}")];
});

#[derive(Serialize)]
struct Subscribe {
    course: String,
    student: String,
}
impl Decision for Subscribe {
    const NAME: &'static str = "subscription";
    type Event = Course;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Course)>, No> {
        let capacity = "[:find (max ?n) . :in $ ?tag :where [?e :event/tag ?tag] [?e :event/type \"CourseDefined\"] [?e :event/data ?d] [(get ?d :capacity) ?n]]";
        let course = format!("course:{}", self.course);
        let Some(Value::Long(capacity)) = cx.db.scalar(capacity, (course.as_str(),)) else {
            return Err(No::Full);
        };
        if cx.db.count(TAGGED, (course.as_str(), "Subscribed")) as i64 >= capacity {
            return Err(No::Full);
        }
        if cx.db.count(TAGGED, (format!("student:{}", self.student), "Subscribed")) >= 2 {
            return Err(No::TooMany);
        }
        let e = Course::Subscribed { course: self.course.clone(), student: self.student.clone() };
        Ok(vec![(format!("student-{}", self.student), e)])
    }
}

#[test]
fn dcb_1_course_subscription_holds_both_limits_under_a_race() {
    let conn = annals::in_memory().unwrap();
    for (course, capacity) in [("logic", 3), ("music", 99), ("dance", 99)] {
        let e = Course::CourseDefined { course: course.into(), capacity }.to_new().unwrap();
        conn.append(Append::to(format!("course-{course}")).push(e)).unwrap();
    }
    let subscribe = |course: &str, student: String| {
        conn.decide(&Subscribe { course: course.into(), student }, Dispatch::new().retry(100))
    };
    let (done, refused) = race(12, |i| subscribe("logic", format!("s{i}")));
    assert_eq!((done, refused.len()), (3, 9));
    assert!(refused.iter().all(|c| c == "subscription/full"), "{refused:?}");
    // One student, many courses: two at most, whichever they are.
    let (done, refused) = race(6, |i| subscribe(["music", "dance"][i % 2], "ann".into()));
    assert_eq!(done, 2);
    assert!(refused.iter().all(|c| c == "subscription/too-many"), "{refused:?}");
    // Another course does not get in the way: nobody had to decide twice for it.
    let before = conn.command_stats().conflicts;
    subscribe("music", "ben".into()).unwrap();
    assert_eq!(conn.command_stats().conflicts, before);
}

happenings!(User {
    UserRegistered { name: String } => vec![format!("username:{name}")];
    UserLeft { name: String } => vec![format!("username:{name}")];
});
#[derive(Serialize)]
struct Register {
    name: String,
    user: usize,
}
impl Decision for Register {
    const NAME: &'static str = "users";
    type Event = User;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, User)>, No> {
        // Read as events: the condition is then by tag, and costs an index lookup.
        let said = cx
            .db
            .events(vec![annals::event::Item::tags([format!("username:{}", self.name)]).expect("a tag")]);
        match said.last().map(|e| e.ty()) {
            Some("UserRegistered") => Err(No::Taken),
            _ => Ok(vec![(format!("user-{}", self.user), User::UserRegistered { name: self.name.clone() })]),
        }
    }
}

#[test]
fn dcb_2_a_username_is_unique_and_free_again_when_its_user_has_left() {
    let conn = annals::in_memory().unwrap();
    let register = |user: usize| conn.decide(&Register { name: "ada".into(), user }, Dispatch::new());
    let (done, refused) = race(16, register);
    assert_eq!((done, refused.len()), (1, 15));
    assert!(refused.iter().all(|c| c == "users/taken"), "{refused:?}");
    conn.append(Append::to("user-0").push(User::UserLeft { name: "ada".into() }.to_new().unwrap())).unwrap();
    register(99).unwrap();
    assert_eq!(tagged(&conn, "username:ada"), 3);
}

happenings!(Invoice {
    InvoiceIssued { number: i64 } => vec!["invoice".to_owned()];
});
#[derive(Serialize)]
struct Issue(usize);
impl Decision for Issue {
    const NAME: &'static str = "invoices";
    type Event = Invoice;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Invoice)>, No> {
        let last = cx.db.scalar("[:find (max ?n) . :where [?e :event/type \"InvoiceIssued\"] [?e :event/data ?d] [(get ?d :number) ?n]]", ());
        let number = match last {
            Some(Value::Long(n)) => n + 1,
            _ => 1,
        };
        Ok(vec![(format!("invoice-{number}"), Invoice::InvoiceIssued { number })])
    }
}

#[test]
fn dcb_3_invoice_numbers_have_no_gaps_and_no_doubles() {
    let conn = annals::in_memory().unwrap();
    let (done, _) = race(8, |i| {
        let issue = |n| conn.decide(&Issue(i * 10 + n), Dispatch::new().retry(1000));
        (0..5).map(issue).collect::<Result<Vec<_>, _>>().map(|mut five| five.remove(4))
    });
    assert_eq!(done, 8);
    let (all, _) = conn.db().events().all(&[], annals::event::Position::ZERO, 1000).unwrap();
    let numbers: Vec<i64> = all
        .iter()
        .map(|e| match e.read().unwrap() {
            Invoice::InvoiceIssued { number } => number,
        })
        .collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
}

happenings!(OptIn {
    OptInAsked { token: String, mail: String } => vec![format!("token:{token}")];
    OptInConfirmed { token: String } => vec![format!("token:{token}")];
});
#[derive(Serialize)]
struct Confirm {
    token: String,
}
impl Decision for Confirm {
    const NAME: &'static str = "opt-in";
    type Event = OptIn;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, OptIn)>, No> {
        let tag = format!("token:{}", self.token);
        if cx.db.count(TAGGED, (tag.as_str(), "OptInAsked")) == 0 {
            return Err(No::UnknownToken);
        }
        if cx.db.count(TAGGED, (tag.as_str(), "OptInConfirmed")) > 0 {
            return Err(No::Used);
        }
        Ok(vec![(format!("optin-{}", self.token), OptIn::OptInConfirmed { token: self.token.clone() })])
    }
}

#[test]
fn dcb_4_an_opt_in_token_is_used_once_and_must_have_been_given() {
    let conn = annals::in_memory().unwrap();
    let confirm = |token: &str| conn.decide(&Confirm { token: token.into() }, Dispatch::new());
    assert_eq!(confirm("x").unwrap_err().code(), "opt-in/unknown-token");
    conn.append(
        Append::to("optin-x")
            .push(OptIn::OptInAsked { token: "x".into(), mail: "a@b".into() }.to_new().unwrap()),
    )
    .unwrap();
    let (done, refused) = race(8, |_| confirm("x"));
    assert_eq!(done, 1);
    assert!(refused.iter().all(|c| c == "opt-in/used"), "{refused:?}");
}

happenings!(Price {
    PriceSet { product: String, price: i64 } => vec![format!("product:{product}")];
    Ordered { product: String, price: i64 } => vec![format!("ordered:{product}")];
});
/// The customer saw a price. The old one is honoured for ten minutes after a change.
#[derive(Serialize)]
struct Buy {
    product: String,
    seen: i64,
}
impl Decision for Buy {
    const NAME: &'static str = "prices";
    type Event = Price;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Price)>, No> {
        let said = cx
            .db
            .events(vec![annals::event::Item::tags([format!("product:{}", self.product)]).expect("a tag")]);
        let prices: Vec<(i64, Instant)> = said
            .iter()
            .filter_map(|e| match e.read() {
                Ok(Price::PriceSet { price, .. }) => Some((price, e.recorded_at)),
                _ => None,
            })
            .collect();
        let valid = prices.iter().enumerate().any(|(i, (price, _))| {
            let replaced = prices.get(i + 1).map(|(_, at)| *at);
            *price == self.seen && replaced.is_none_or(|at| cx.now.0 - at.0 <= 600_000_000)
        });
        if !valid {
            return Err(No::OldPrice);
        }
        let e = Price::Ordered { product: self.product.clone(), price: self.seen };
        Ok(vec![(format!("orders-{}", self.product), e)])
    }
}

#[test]
fn dcb_5_a_changed_price_is_honoured_for_ten_minutes() {
    let hand = Hand::at(NOON);
    let conn = hand.options().in_memory().unwrap();
    let set = |price| {
        let e = Price::PriceSet { product: "lamp".into(), price }.to_new().unwrap();
        conn.append(Append::to("product-lamp").push(e)).unwrap();
    };
    let buy = |seen| {
        conn.decide(&Buy { product: "lamp".into(), seen }, Dispatch::new()).map_err(|e| e.code().to_owned())
    };
    set(100);
    buy(100).unwrap();
    hand.set(NOON + 1_000_000);
    set(120);
    hand.set(NOON + 300_000_000);
    buy(100).unwrap();
    buy(120).unwrap();
    hand.set(NOON + 700_000_000);
    assert_eq!(buy(100).unwrap_err(), "prices/old-price");
    buy(120).unwrap();
    assert_eq!(buy(99).unwrap_err(), "prices/old-price");
    // That others order meanwhile is no change of the price: nobody decides twice.
    let (done, _) =
        race(8, |_| conn.decide(&Buy { product: "lamp".into(), seen: 120 }, Dispatch::new().retry(0)));
    assert_eq!((done, conn.command_stats().conflicts), (8, 0));
}

happenings!(Record {
    Recorded_ { key: String } => vec![format!("record:{key}")];
});
#[derive(Serialize)]
struct Note {
    key: String,
}
impl Decision for Note {
    const NAME: &'static str = "records";
    type Event = Record;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Record)>, No> {
        if cx.db.count("[:find ?e :in $ ?tag :where [?e :event/tag ?tag]]", (format!("record:{}", self.key),))
            > 0
        {
            return Err(No::Duplicate);
        }
        Ok(vec![("log-1".into(), Record::Recorded_ { key: self.key.clone() })])
    }
}

#[test]
fn dcb_6_a_record_sent_twice_is_recorded_once() {
    let conn = annals::in_memory().unwrap();
    let (done, refused) =
        race(12, |i| conn.decide(&Note { key: format!("k{}", i % 3) }, Dispatch::new().retry(100)));
    assert_eq!(done, 3);
    assert!(refused.iter().all(|c| c == "records/duplicate"), "{refused:?}");
    // The same client, sending the same again under its own id, is answered what it was answered.
    let again = |n| conn.decide(&Note { key: "own".into() }, Dispatch::id(command(n).0));
    assert!(!again(1).unwrap().is_replay());
    assert!(again(1).unwrap().is_replay());
    assert_eq!(again(2).unwrap_err().code(), "records/duplicate");
}

/// An aggregate, said as a decision: its boundary is the events of its tag.
#[derive(Serialize)]
struct Pay {
    account: String,
    amount: i64,
}
happenings!(Ledger {
    Paid { account: String, amount: i64 } => vec![format!("account:{account}")];
});
impl Decision for Pay {
    const NAME: &'static str = "ledger";
    type Event = Ledger;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Ledger)>, No> {
        let of = annals::event::Item::tags([format!("account:{}", self.account)]).expect("a tag");
        let balance: i64 = cx
            .db
            .events(vec![of])
            .iter()
            .filter_map(|e| e.read().ok())
            .map(|Ledger::Paid { amount, .. }| amount)
            .sum();
        if balance + self.amount < 0 {
            return Err(No::TooMany);
        }
        let e = Ledger::Paid { account: self.account.clone(), amount: self.amount };
        Ok(vec![(format!("ledger-{}", self.account), e)])
    }
}

#[test]
fn dcb_7_an_aggregate_as_a_decision_is_never_overdrawn() {
    let conn = annals::in_memory().unwrap();
    let pay = |account: &str, amount| {
        conn.decide(&Pay { account: account.into(), amount }, Dispatch::new().retry(100))
    };
    pay("a", 100).unwrap();
    let (done, refused) = race(16, |_| pay("a", -30));
    assert_eq!((done, refused.len()), (3, 13));
    assert!(refused.iter().all(|c| c == "ledger/too-many"), "{refused:?}");
}

// What a late projection says is not what the rule read.

#[derive(Serialize)]
struct Late<'a> {
    #[serde(skip)]
    conn: &'a Connection,
    #[serde(skip)]
    runs: &'a AtomicU32,
}
happenings!(Closing {
    Closed { sum: i64 } => vec![];
});
impl Decision for Late<'_> {
    const NAME: &'static str = "closing";
    type Event = Closing;
    type Error = No;
    fn decide(&self, cx: &Decide<'_>) -> Result<Vec<(String, Closing)>, No> {
        let sum = cx.db.scalar("[:find (sum ?n) . :with ?e :where [?e :entry/amount ?n]]", ());
        if self.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            // The facts of an event from before the decision come now, under that event's t.
            self.conn.catch_up("entries").unwrap();
        }
        let sum = if let Some(Value::Long(n)) = sum { n } else { 0 };
        Ok(vec![("closing-1".into(), Closing::Closed { sum })])
    }
}

#[test]
fn facts_that_a_late_projection_files_under_the_past_make_a_rule_decide_again() {
    const ENTRIES: &str = r#"
    {:projection/name :entries :projection/mode :async
     :projection/schema [{:db/ident :entry/id :db/valueType :db.type/string :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}
                         {:db/ident :entry/amount :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]
     :projection/on [{:event "Entered" :assert [{:entry/id (str $id) :entry/amount $data.amount}]}]}"#;
    let conn = annals::in_memory().unwrap();
    conn.add_projection(ENTRIES).unwrap();
    conn.append(Append::to("book-1").event("Entered", r#"{"amount": 40}"#).unwrap()).unwrap();
    let runs = AtomicU32::new(0);
    conn.decide(&Late { conn: &conn, runs: &runs }, Dispatch::new()).unwrap();
    assert_eq!(runs.into_inner(), 2);
    let closed = conn.db().events().stream(&StreamId::new("closing-1").unwrap(), Version(1), 9).unwrap();
    let Closing::Closed { sum } = closed[0].read().unwrap();
    assert_eq!((closed.len(), sum), (1, 40));
}
