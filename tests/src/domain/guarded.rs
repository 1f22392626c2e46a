//! Rules that read the database, and rules that make ids.

use annals::{
    Value,
    event::{Aggregate, Decide, Event},
};
use serde::{Deserialize, Serialize};
use std::{cell::RefCell, rc::Rc};
use uuid::Uuid;

thread_local! {
    static HOOK: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

/// What this thread does after a rule has read, to get in its way.
pub fn on_handle(f: impl Fn() + 'static) {
    HOOK.with(|h| *h.borrow_mut() = Some(Rc::new(f)));
}

/// Takes amounts up to the limit of the day, which is a fact.
#[derive(Debug, Default, PartialEq)]
pub struct Guarded;

/// How much.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// How much.
    pub amount: i64,
}

/// It was taken.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taken {
    amount: i64,
}

impl Event for Taken {
    const TYPES: &'static [(&'static str, u32)] = &[("Taken", 1)];
}

/// It is too much.
#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("over the limit")]
pub struct OverLimit;

impl Aggregate for Guarded {
    const CATEGORY: &'static str = "guarded";
    type Command = Ask;
    type Event = Taken;
    type Error = OverLimit;
    fn apply(&mut self, _: &Taken) {}
    fn handle(&self, c: Ask, cx: &Decide<'_>) -> Result<Vec<Taken>, OverLimit> {
        let limit = cx.db.value(("limit/name", "day"), "limit/value");
        // The same again is one condition.
        let same = cx.db.value(("limit/name", "day"), "limit/value");
        assert_eq!(limit, same);
        if c.amount == 1 {
            cx.db.value(("limit/name", "day"), "no/such");
        }
        let hook = HOOK.with(|h| h.borrow().clone());
        if let Some(hook) = hook {
            hook();
        }
        match limit {
            Some(Value::Long(limit)) if c.amount > limit => Err(OverLimit),
            _ => Ok(vec![Taken { amount: c.amount }]),
        }
    }
}

/// Makes ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Made {
    /// Those made.
    pub ids: Vec<Uuid>,
}

/// Two, please.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MadeAsk;

/// One was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WasMade {
    id: String,
}

impl Event for WasMade {
    const TYPES: &'static [(&'static str, u32)] = &[("WasMade", 1)];
}

impl Aggregate for Made {
    const CATEGORY: &'static str = "made";
    type Command = MadeAsk;
    type Event = WasMade;
    type Error = OverLimit;
    fn apply(&mut self, e: &WasMade) {
        self.ids.extend(Uuid::parse_str(&e.id));
    }
    fn handle(&self, _: MadeAsk, cx: &Decide<'_>) -> Result<Vec<WasMade>, OverLimit> {
        Ok((0..2).map(|_| WasMade { id: cx.new_id().to_string() }).collect())
    }
}

/// Somebody with a name of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// The name; none when it was erased.
    pub name: Option<String>,
}

/// Call them so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonAsk {
    /// The name.
    pub name: String,
}

/// They have a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Called {
    id: String,
    name: Option<String>,
}

impl Event for Called {
    const TYPES: &'static [(&'static str, u32)] = &[("Called", 1)];
    const PERSONAL: bool = true;
    fn personal(&self) -> Vec<(&'static str, String)> {
        vec![("name", format!("person-{}", self.id))]
    }
}

impl Aggregate for Person {
    const CATEGORY: &'static str = "person";
    type Command = PersonAsk;
    type Event = Called;
    type Error = OverLimit;
    fn apply(&mut self, e: &Called) {
        self.name.clone_from(&e.name);
    }
    fn handle(&self, c: PersonAsk, _: &Decide<'_>) -> Result<Vec<Called>, OverLimit> {
        Ok(vec![Called { id: "7".into(), name: Some(c.name) }])
    }
}
