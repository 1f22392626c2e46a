//! Small answers: a tree of our own names around values, written as EDN or JSON.
//!
//! A name is `:basis-t` in EDN and `"basis-t"` in JSON; values inside follow
//! [`super::value`]. Names are ours and static, values are the users'.

use super::value::{self, Style};
use annals::Value;

/// An answer, or a part of one.
#[derive(Clone, Debug)]
pub enum Tree {
    /// Data.
    Value(Value),
    /// Things in a row.
    List(Vec<Tree>),
    /// Named things, in this order.
    Doc(Doc),
    /// Data under names that are not ours: tempids.
    Table(Vec<(String, Value)>),
    /// JSON that came as JSON: event payloads, metadata.
    Json(serde_json::Value),
}

/// Named things, in this order.
#[derive(Clone, Debug, Default)]
pub struct Doc(Vec<(&'static str, Tree)>);

impl Doc {
    /// Nothing yet.
    pub fn new() -> Doc {
        Doc::default()
    }
    /// Adds a name.
    pub fn with(mut self, name: &'static str, tree: impl Into<Tree>) -> Doc {
        self.0.push((name, tree.into()));
        self
    }
    /// Adds a name, if there is something to name.
    pub fn maybe(self, name: &'static str, tree: Option<impl Into<Tree>>) -> Doc {
        match tree {
            Some(tree) => self.with(name, tree),
            None => self,
        }
    }
}

impl From<Doc> for Tree {
    fn from(d: Doc) -> Tree {
        Tree::Doc(d)
    }
}
impl From<Value> for Tree {
    fn from(v: Value) -> Tree {
        Tree::Value(v)
    }
}
impl From<&str> for Tree {
    fn from(s: &str) -> Tree {
        Tree::Value(Value::string(s))
    }
}
impl From<String> for Tree {
    fn from(s: String) -> Tree {
        Tree::Value(Value::from(s))
    }
}
impl From<bool> for Tree {
    fn from(b: bool) -> Tree {
        Tree::Value(Value::Bool(b))
    }
}
impl From<u64> for Tree {
    fn from(n: u64) -> Tree {
        Tree::Value(i64::try_from(n).map_or_else(|_| Value::string(n.to_string()), Value::Long))
    }
}
impl From<usize> for Tree {
    fn from(n: usize) -> Tree {
        Tree::from(n as u64)
    }
}
impl From<annals::T> for Tree {
    fn from(t: annals::T) -> Tree {
        Tree::from(t.0)
    }
}
impl From<annals::Instant> for Tree {
    fn from(i: annals::Instant) -> Tree {
        Tree::Value(Value::Instant(i))
    }
}
impl<T: Into<Tree>> FromIterator<T> for Tree {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Tree {
        Tree::List(items.into_iter().map(Into::into).collect())
    }
}

impl Tree {
    /// Appends the tree as JSON.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Tree::Value(v) => value::write(out, v, Style::Plain),
            Tree::List(items) => {
                out.push('[');
                for (i, t) in items.iter().enumerate() {
                    comma(out, i);
                    t.write_json(out);
                }
                out.push(']');
            }
            Tree::Doc(doc) => {
                out.push('{');
                for (i, (name, t)) in doc.0.iter().enumerate() {
                    comma(out, i);
                    value::write_str(out, name);
                    out.push(':');
                    t.write_json(out);
                }
                out.push('}');
            }
            Tree::Table(entries) => {
                out.push('{');
                for (i, (name, v)) in entries.iter().enumerate() {
                    comma(out, i);
                    value::write_str(out, name);
                    out.push(':');
                    value::write(out, v, Style::Plain);
                }
                out.push('}');
            }
            Tree::Json(json) => out.push_str(&json.to_string()),
        }
    }

    /// The tree as EDN.
    pub fn to_edn(&self) -> Value {
        match self {
            Tree::Value(v) => v.clone(),
            Tree::List(items) => Value::vector(items.iter().map(Tree::to_edn)),
            Tree::Doc(doc) => Value::map(doc.0.iter().map(|(n, t)| (Value::keyword(n), t.to_edn()))),
            Tree::Table(entries) => Value::map(entries.iter().map(|(n, v)| (Value::string(n), v.clone()))),
            Tree::Json(json) => of_json(json),
        }
    }
}

/// JSON as EDN: objects become maps with keyword keys, strings stay strings.
pub fn of_json(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64().and_then(Value::double)) {
            (Some(i), _) => Value::Long(i),
            (None, Some(d)) => d,
            (None, None) => Value::string(n.to_string()),
        },
        Json::String(s) => Value::string(s),
        Json::Array(items) => Value::vector(items.iter().map(of_json)),
        Json::Object(members) => Value::map(members.iter().map(|(k, v)| (Value::keyword(k), of_json(v)))),
    }
}

fn comma(out: &mut String, i: usize) {
    if i > 0 {
        out.push(',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bare_in_json_and_keywords_in_edn() {
        let tree = Tree::from(
            Doc::new().with("basis-t", 5u64).with("rows", Tree::from_iter([Value::keyword("a/b")])),
        );
        let mut json = String::new();
        tree.write_json(&mut json);
        assert_eq!(json, r#"{"basis-t":5,"rows":[":a/b"]}"#);
        assert_eq!(
            annals::edn::print(&tree.to_edn()),
            "{:basis-t 5, :rows [:a/b]}".replace(", ", annals_separator())
        );
    }

    /// The printer's own taste in map separators.
    fn annals_separator() -> &'static str {
        let sample =
            annals::edn::print(&Value::map([(Value::Long(1), Value::Nil), (Value::Long(2), Value::Nil)]));
        if sample.contains(',') { ", " } else { " " }
    }
}
