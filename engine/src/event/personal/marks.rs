//! Personal values that were seen in the clear, so that what is made of them is stored sealed too.
//!
//! 1. A process that takes an event reads its personal values opened. What it then writes (its
//!    state, its timers, its commands) is searched for them, and each value that holds one is
//!    stored under the key of the same subject. With it, under the same key, stands which of them it
//!    holds: read again, these are marks again, and nothing else of the value is.
//! 2. A value is held by one that is equal to it, or, being text, by text that contains it. Of a short
//!    text (a name, an address) each word counts: greetings are made of first names. What is shorter
//!    than four bytes, written out, tells nothing of anybody and is not searched for.
//! 3. A set, or a map with such a value in a key, has no place for a seal of its own inside, and
//!    is sealed whole. A value that holds several subjects' is sealed under each: erasing one of them
//!    is enough to make it unreadable.
//! 4. Searching costs one look for each byte of text and each other value, however many marks there
//!    are. An instance has no more marks than its state and the event at hand have texts and words.

use annals_model::Value;
use hashbrown::HashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Shortest text that tells something, in bytes.
pub(crate) const TELLING: usize = 4;
/// Longest text of which each word tells something, in bytes.
const SHORT: usize = 64;

/// Subjects, in order of their names.
type Owners = BTreeSet<Arc<str>>;

/// Personal values and whose they are. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Marks(Arc<Found>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Found {
    texts: HashMap<Arc<str>, Owners>,
    /// How long the texts are that begin with these bytes.
    lengths: HashMap<[u8; TELLING], BTreeSet<usize>>,
    others: HashMap<Value, Owners>,
}

impl Marks {
    pub fn is_empty(&self) -> bool {
        self.0.texts.is_empty() && self.0.others.is_empty()
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

    /// Notes one value as it is, without its words.
    pub fn add(&mut self, subject: &Arc<str>, v: &Value) {
        if !tells(v) {
            return;
        }
        let found = Arc::make_mut(&mut self.0);
        let owners = match v {
            Value::String(s) => {
                if let Some(first) = s.as_bytes().first_chunk() {
                    found.lengths.entry(*first).or_default().insert(s.len());
                }
                found.texts.entry(s.clone()).or_default()
            }
            v => found.others.entry(v.clone()).or_default(),
        };
        owners.insert(subject.clone());
    }

    /// Takes in what others have noted.
    pub fn extend(&mut self, others: &Marks) {
        if self.is_empty() {
            self.clone_from(others);
            return;
        }
        let texts = others.0.texts.iter().map(|(s, owners)| (Value::String(s.clone()), owners));
        for (v, owners) in texts.chain(others.0.others.iter().map(|(v, owners)| (v.clone(), owners))) {
            owners.iter().for_each(|subject| self.add(subject, &v));
        }
    }

    /// Whose values a value holds, and which, when it is to be sealed as one; nothing when its parts
    /// are to be sealed by themselves, or it holds none.
    pub fn held(&self, v: &Value) -> BTreeMap<Arc<str>, BTreeSet<Value>> {
        let mut held: BTreeMap<Arc<str>, BTreeSet<Value>> = BTreeMap::new();
        let in_parts = match v {
            Value::Map(entries) => !entries.iter().any(|(k, _)| self.holds_any(k)),
            Value::Vector(_) | Value::List(_) => true,
            _ => false,
        };
        if !in_parts && !self.is_empty() {
            self.find(v, &mut |mark, owners| {
                for subject in owners {
                    held.entry(subject.clone()).or_default().insert(mark.clone());
                }
            });
        }
        held
    }

    fn holds_any(&self, v: &Value) -> bool {
        let mut any = false;
        self.find(v, &mut |_, _| any = true);
        any
    }

    /// Tells the marks that stand anywhere in a value.
    fn find(&self, v: &Value, tell: &mut dyn FnMut(&Value, &Owners)) {
        match v {
            Value::String(s) => {
                for (at, first) in s.as_bytes().windows(TELLING).enumerate() {
                    let Some(lengths) =
                        <[u8; TELLING]>::try_from(first).ok().and_then(|f| self.0.lengths.get(&f))
                    else {
                        continue;
                    };
                    for n in lengths.iter().take_while(|n| at + **n <= s.len()) {
                        if let Some((mark, owners)) =
                            s.get(at..at + n).and_then(|part| self.0.texts.get_key_value(part))
                        {
                            tell(&Value::String(mark.clone()), owners);
                        }
                    }
                }
            }
            Value::Map(entries) => entries.iter().for_each(|(k, v)| {
                self.find(k, tell);
                self.find(v, tell);
            }),
            Value::Vector(items) | Value::List(items) | Value::Set(items) => {
                items.iter().for_each(|v| self.find(v, tell));
            }
            Value::Tagged(t) => self.find(&t.1, tell),
            v => {
                if let Some((mark, owners)) = self.0.others.get_key_value(v) {
                    tell(mark, owners);
                }
            }
        }
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

    /// Whose values it holds when it is sealed as one, and which, as text.
    fn held(marks: &Marks, text: &str) -> Vec<(String, Vec<Value>)> {
        let held = marks.held(&read_edn(text).unwrap());
        held.into_iter().map(|(s, all)| (s.to_string(), all.into_iter().collect())).collect()
    }

    #[test]
    fn what_holds_a_personal_value_is_found_and_nothing_else() {
        let mut marks = Marks::default();
        marks.note(&Arc::from("ada"), &read_edn(r#"{:name "Ada Lovelace" :born [1815 true "x"]}"#).unwrap());
        marks.note(&Arc::from("bob"), &Value::from("Babbage"));
        let one = |who: &str, what: &[Value]| vec![(who.to_owned(), what.to_vec())];
        let (whole, last) = (Value::from("Ada Lovelace"), Value::from("Lovelace"));
        for (text, wanted) in [
            (r#""Ada Lovelace""#, one("ada", &[whole.clone(), last.clone()])),
            (r#""Lovelace!""#, one("ada", std::slice::from_ref(&last))),
            (r#""Ada""#, vec![]),
            ("3", vec![]),
            ("1815", one("ada", &[Value::Long(1815)])),
            (r#"#{"Babbage"}"#, one("bob", &[Value::from("Babbage")])),
            (r#"{"Babbage" 1}"#, one("bob", &[Value::from("Babbage")])),
            (r#"["Babbage"]"#, vec![]),
            (r#"{:by "Babbage"}"#, vec![]),
        ] {
            assert_eq!(held(&marks, text), wanted, "{text}");
        }
        let both = held(&marks, r#""Dear Ada Lovelace and Babbage, née Lovelace""#);
        assert_eq!(
            both,
            [("ada".to_owned(), vec![whole, last]), ("bob".to_owned(), vec![Value::from("Babbage")])]
        );
        assert!(held(&Marks::default(), r#""Ada Lovelace""#).is_empty());
    }

    #[test]
    fn many_marks_in_many_texts_are_one_look_a_byte() {
        let mut marks = Marks::default();
        let list: Vec<Value> = (0..20_000).map(|i| Value::string(format!("person-{i:05} of Town"))).collect();
        for (i, v) in list.iter().enumerate() {
            marks.note(&Arc::from(format!("s-{}", i % 100)), v);
        }
        // Compared with each other these would be a thousand million searches.
        for v in &list {
            assert!(!marks.held(v).is_empty());
        }
    }
}
