//! Personal values that were seen in the clear, so that what is made of them is stored sealed too.
//!
//! 1. A process that takes an event reads its personal values opened. What it then writes (its
//!    state, its timers, its commands) is searched for them, and each value that holds one is
//!    stored under the key of the same subject ([`Marks::mark`]); read again, it is a mark again.
//! 2. A value is held by one that is equal to it, or, being text, by text that contains it. Of a short
//!    text (a name, an address) each word counts: greetings are made of first names. What is shorter
//!    than four bytes, written out, tells nothing of anybody and is not searched for.
//! 3. A set, or a map with such a value in a key, has no place for a seal of its own inside, and
//!    is sealed whole. A value that holds several subjects' is sealed under each: erasing one of them
//!    is enough to make it unreadable.

use crate::event::seal::personal;
use annals_model::Value;
use std::sync::Arc;

/// Shortest text that tells something, in bytes.
pub(crate) const TELLING: usize = 4;
/// Longest text of which each word tells something, in bytes.
const SHORT: usize = 64;

/// Personal values and whose they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Marks {
    found: Vec<(Arc<str>, Value)>,
}

impl Marks {
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Notes what a personal value holds.
    pub fn note(&mut self, subject: &Arc<str>, v: &Value) {
        match v {
            Value::Map(entries) => entries.iter().for_each(|(_, v)| self.note(subject, v)),
            Value::Vector(items) | Value::List(items) | Value::Set(items) => {
                items.iter().for_each(|v| self.note(subject, v));
            }
            Value::Tagged(t) => self.note(subject, &t.1),
            Value::String(s) => {
                self.add(subject, v);
                if s.len() <= SHORT {
                    for word in s.split(|c: char| !c.is_alphanumeric()) {
                        self.add(subject, &Value::string(word));
                    }
                }
            }
            v => self.add(subject, v),
        }
    }

    fn add(&mut self, subject: &Arc<str>, v: &Value) {
        if tells(v) && !self.found.iter().any(|(s, known)| s == subject && known == v) {
            self.found.push((subject.clone(), v.clone()));
        }
    }

    /// Takes in what others have noted.
    pub fn extend(&mut self, others: &Marks) {
        for (subject, v) in &others.found {
            self.add(subject, v);
        }
    }

    /// The value with everything that holds one of these marked as personal, to be sealed.
    pub fn mark(&self, v: &Value) -> Value {
        if self.is_empty() {
            return v.clone();
        }
        match v {
            Value::Map(entries) if entries.iter().any(|(k, _)| self.held_in(k)) => self.wrap(v),
            Value::Map(entries) => {
                Value::map(entries.iter().map(|(k, v)| (k.clone(), self.mark(v))).collect::<Vec<_>>())
            }
            Value::Vector(items) => Value::vector(items.iter().map(|v| self.mark(v))),
            Value::List(items) => Value::List(items.iter().map(|v| self.mark(v)).collect()),
            v if self.held_in(v) => self.wrap(v),
            v => v.clone(),
        }
    }

    fn held_in(&self, v: &Value) -> bool {
        self.found.iter().any(|(_, mark)| holds(v, mark))
    }

    fn wrap(&self, v: &Value) -> Value {
        let mut subjects: Vec<&Arc<str>> =
            self.found.iter().filter(|(_, mark)| holds(v, mark)).map(|(s, _)| s).collect();
        subjects.sort();
        subjects.dedup();
        subjects.into_iter().fold(v.clone(), |v, subject| personal(subject, v))
    }
}

/// Does a value, somewhere in it, hold this one?
pub(crate) fn holds(v: &Value, mark: &Value) -> bool {
    match (v, mark) {
        (Value::String(s), Value::String(m)) => s.contains(&**m),
        (Value::Map(entries), _) => entries.iter().any(|(k, v)| holds(k, mark) || holds(v, mark)),
        (Value::Vector(items) | Value::List(items) | Value::Set(items), _) => {
            items.iter().any(|v| holds(v, mark))
        }
        (Value::Tagged(t), _) => holds(&t.1, mark),
        (v, mark) => v == mark,
    }
}

/// Is it long enough to tell something?
fn tells(v: &Value) -> bool {
    match v {
        Value::String(s) => s.len() >= TELLING,
        Value::Long(n) => n.unsigned_abs() >= 1_000,
        Value::Nil | Value::Bool(_) | Value::Keyword(_) | Value::Symbol(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::read_edn;

    #[test]
    fn what_holds_a_personal_value_is_marked_and_nothing_else() {
        let mut marks = Marks::default();
        marks.note(&Arc::from("ada"), &read_edn(r#"{:name "Ada Lovelace" :born [1815 true "x"]}"#).unwrap());
        marks.note(&Arc::from("bob"), &Value::from("Babbage"));
        let given = r#"{:to "Ada Lovelace" :text "Dear Ada Lovelace and Babbage" :n 3 :year 1815
                        :open true :x "x" :all #{"Babbage"} :by {"Babbage" 1} :in ["Ada"] :last "Lovelace!" :first "Ada"}"#;
        let wanted = r#"{:to #annals/personal ["ada" "Ada Lovelace"]
                         :text #annals/personal ["bob" #annals/personal ["ada" "Dear Ada Lovelace and Babbage"]]
                         :n 3 :year #annals/personal ["ada" 1815] :open true :x "x"
                         :all #annals/personal ["bob" #{"Babbage"}] :by #annals/personal ["bob" {"Babbage" 1}] :in ["Ada"]
                         :last #annals/personal ["ada" "Lovelace!"] :first "Ada"}"#;
        assert_eq!(marks.mark(&read_edn(given).unwrap()), read_edn(wanted).unwrap());
        assert_eq!(Marks::default().mark(&read_edn(given).unwrap()), read_edn(given).unwrap());
    }
}
