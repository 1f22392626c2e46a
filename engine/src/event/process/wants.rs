//! What a process or reactor wanted before: a program that comes to want more events meets those to
//! come, and none that the program before it has passed over.
//!
//! Stored form (table `COUNTER`, beside the place it has got to): `[wants [[upto wants]…]]`, what it wants
//! now and what it wanted up to a position, items being `[[type…] [tag…]]` in order of their names.
//!
//! 1. Up to the newest event at the registration of a program that wants others, an event is offered only
//!    when the programs before would have been offered it too. So it does not matter how far they had
//!    looked, whether that was stored, or what became of them: what they had still to do is
//!    done, and what they did not want is never done behind anybody's back.
//! 2. Whoever wants the old ones registers under another name, with [`crate::event::Start::Beginning`].
//!
//! Not here: types that `route` alone tells apart. To this they are wanted, all of them.

use crate::DbError;
use crate::event::{
    append::{Item, matches},
    data::{Data, DataError},
    id::{EventType, Position, Tag},
    record::Recorded,
    table::{self, Key, Tables},
};
use annals_model::Value;
use annals_storage::Row;

/// What a process or reactor wants, and what it wanted up to some positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wants {
    now: Vec<Item>,
    before: Vec<(Position, Vec<Item>)>,
}

fn key(name: &str) -> Key {
    Key::new().text("wants").text(name)
}

impl Wants {
    /// What is stored of it; none before it was registered.
    pub fn stored(tables: &Tables, name: &str) -> Result<Option<Wants>, DbError> {
        let Some(bytes) = tables.row(table::COUNTER, key(name))? else { return Ok(None) };
        let damaged = || DbError::from(DataError::Damaged(0));
        Ok(Some(Wants::of_value(&Data::stored(&bytes).value()?).ok_or_else(damaged)?))
    }

    /// The row to be stored when a program registers that wants these; none when nothing changes.
    /// `done` is how far it has got for certain, `head` the newest event.
    pub fn register(
        stored: Option<Wants>,
        name: &str,
        now: Vec<Item>,
        done: Position,
        head: Position,
    ) -> Result<Option<Row>, DbError> {
        let now = in_order(now);
        let before = match stored {
            Some(old) if old.now == now => return Ok(None),
            Some(old) => {
                let mut before = old.before;
                before.push((head, old.now));
                before.retain(|(upto, _)| *upto > done);
                before
            }
            None => Vec::new(),
        };
        let stored = Data::of(&Wants { now, before }.to_value())?;
        Ok(Some(table::put(table::COUNTER, key(name), stored.bytes())))
    }

    /// Was the event there before somebody wanted it?
    pub fn passes_over(&self, e: &Recorded) -> bool {
        self.before.iter().any(|(upto, wanted)| e.position <= *upto && !matches(wanted, e))
    }

    fn to_value(&self) -> Value {
        let items = |items: &[Item]| {
            Value::vector(items.iter().map(|i| {
                let types = Value::vector(i.types.iter().map(|t| Value::string(t.as_str())));
                Value::vector([types, Value::vector(i.tags.iter().map(|t| Value::string(t.as_str())))])
            }))
        };
        let before = self.before.iter().map(|(upto, wanted)| {
            Value::vector([Value::Long(upto.0.try_into().unwrap_or(i64::MAX)), items(wanted)])
        });
        Value::vector([items(&self.now), Value::vector(before)])
    }

    fn of_value(v: &Value) -> Option<Wants> {
        fn list(v: &Value) -> Option<&[Value]> {
            match v {
                Value::Vector(items) => Some(items),
                _ => None,
            }
        }
        fn names<N, E>(v: &Value, name: impl Fn(&str) -> Result<N, E>) -> Option<Vec<N>> {
            let one = |v: &Value| match v {
                Value::String(s) => name(s).ok(),
                _ => None,
            };
            list(v)?.iter().map(one).collect()
        }
        let item = |v: &Value| match list(v)? {
            [types, tags] => Some(Item {
                types: names(types, |s| EventType::new(s))?,
                tags: names(tags, |s| Tag::new(s))?,
            }),
            _ => None,
        };
        let items = |v: &Value| list(v)?.iter().map(item).collect::<Option<Vec<_>>>();
        let [now, before] = list(v)? else { return None };
        let window = |v: &Value| match list(v)? {
            [Value::Long(upto), wanted] => Some((Position(u64::try_from(*upto).ok()?), items(wanted)?)),
            _ => None,
        };
        Some(Wants { now: items(now)?, before: list(before)?.iter().map(window).collect::<Option<_>>()? })
    }
}

/// The same choice written in one way.
fn in_order(mut items: Vec<Item>) -> Vec<Item> {
    for i in &mut items {
        i.types.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        i.types.dedup();
        i.tags.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        i.tags.dedup();
    }
    let text = |i: &Item| {
        let types: Vec<String> = i.types.iter().map(|t| t.as_str().to_owned()).collect();
        (types, i.tags.iter().map(|t| t.as_str().to_owned()).collect::<Vec<String>>())
    };
    items.sort_by_key(text);
    items.dedup();
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered(stored: Option<&Wants>, types: &[&str], done: u64, head: u64) -> Option<Wants> {
        let now = vec![Item::types(types).unwrap()];
        let row = Wants::register(stored.cloned(), "p", now, Position(done), Position(head)).unwrap()?;
        Wants::of_value(&Data::stored(&row.value.unwrap()).value().unwrap())
    }

    #[test]
    fn what_was_wanted_is_kept_until_all_of_that_time_is_done() {
        let first = registered(None, &["Shipped"], 0, 5).unwrap();
        assert_eq!(first.before, []);
        // The same choice, written otherwise.
        assert_eq!(registered(Some(&first), &["Shipped", "Shipped"], 0, 7), None);
        let more = registered(Some(&first), &["Placed", "Shipped"], 3, 9).unwrap();
        assert_eq!(more.before, [(Position(9), vec![Item::types(["Shipped"]).unwrap()])]);
        let most = registered(Some(&more), &["Paid"], 8, 20).unwrap();
        assert_eq!(most.before.len(), 2);
        let later = registered(Some(&more), &["Paid"], 9, 20).unwrap();
        assert_eq!(later.before.len(), 1, "the first window is done with");
    }
}
