//! From EDN to a [`Definition`]: the head and the rules. Everything that is wrong is reported,
//! each with the path to it.
//!
//! Not here: entities, values and conditions (`parse_expr`).

use super::{BATCH, Definition, Mode, OnError, rule::Rule};
use crate::event::id::{EventType, Tag};
use annals_model::{Diagnostic, Keyword, Value, diagnostic::nearest};
use hashbrown::HashMap;
use std::sync::Arc;

/// What reading a definition has come to.
pub(super) struct Parser {
    pub(super) errors: Vec<Diagnostic>,
    pub(super) names: HashMap<Arc<str>, u32>,
    pub(super) fresh: u32,
    pub(super) each: Option<Arc<str>>,
}

const HEAD: [&str; 8] = [
    "projection/name",
    "projection/version",
    "projection/mode",
    "projection/on-error",
    "projection/batch",
    "projection/schema",
    "projection/on",
    "projection/doc",
];
const RULE: [&str; 9] =
    ["event", "category", "schema", "tag", "when", "each", "assert", "retract", "retract-entity"];

impl Parser {
    /// Reads a definition; reports everything that is wrong with it.
    pub(super) fn read(source: &Value) -> Result<Definition, Vec<Diagnostic>> {
        let mut p = Parser { errors: Vec::new(), names: HashMap::new(), fresh: 0, each: None };
        match p.definition(source) {
            Some(d) if p.errors.is_empty() => Ok(d),
            _ => Err(p.errors),
        }
    }

    pub(super) fn error(&mut self, path: &str, message: impl Into<String>, help: &str) {
        let d = Diagnostic::new("projection/malformed", message).path(path);
        self.errors.push(if help.is_empty() { d } else { d.help(help) });
    }

    pub(super) fn unknown(&mut self, path: &str, what: &str, given: &str, known: &[&str]) {
        let help = match nearest(given, known.iter().copied()) {
            Some(n) => format!("did you mean {n}?"),
            None => format!("known: {}", known.join(" ")),
        };
        self.error(path, format!("unknown {what} {given}"), &help);
    }

    fn keys(&mut self, path: &str, map: &[(Value, Value)], known: &[&str]) {
        for (k, _) in map {
            match k {
                Value::Keyword(k) if known.contains(&k.as_str()) => {}
                other => {
                    let given = format!("{other:?}");
                    self.unknown(path, "key", given.trim_start_matches(':'), known);
                }
            }
        }
    }

    fn definition(&mut self, source: &Value) -> Option<Definition> {
        let Value::Map(map) = source else {
            self.error(
                "",
                format!("a projection is a map, got {}", source.kind()),
                "write {:projection/name …}",
            );
            return None;
        };
        self.keys("", map, &HEAD);
        let get = |key: &str| source.get(&Value::keyword(key));
        let name = match get("projection/name") {
            Some(Value::Keyword(k)) => Some(k.clone()),
            Some(Value::String(s)) if !s.is_empty() => Some(Keyword::new(s)),
            other => {
                self.error(":projection/name", format!("expected a keyword, got {other:?}"), "");
                None
            }
        };
        let version = match get("projection/version") {
            None => 1,
            Some(Value::Long(n)) if (1..=i64::from(u32::MAX)).contains(n) => *n as u32,
            Some(other) => {
                self.error(":projection/version", format!("expected a number from 1 on, got {other:?}"), "");
                1
            }
        };
        let batch = match get("projection/batch") {
            None => BATCH,
            Some(Value::Long(n)) if (1..=100_000).contains(n) => *n as usize,
            Some(other) => {
                self.error(":projection/batch", format!("expected 1 to 100000, got {other:?}"), "");
                BATCH
            }
        };
        let mode = match get("projection/mode") {
            None => Mode::Inline,
            Some(Value::Keyword(k)) if k.as_str() == "inline" => Mode::Inline,
            Some(Value::Keyword(k)) if k.as_str() == "async" => Mode::Async { batch },
            Some(other) => {
                self.error(":projection/mode", format!("expected :inline or :async, got {other:?}"), "");
                Mode::Inline
            }
        };
        let on_error = self.on_error(get("projection/on-error"));
        let schema = match get("projection/schema") {
            Some(Value::Vector(v)) if !v.is_empty() => v.to_vec(),
            other => {
                let got = other.map_or("nothing", Value::kind);
                self.error(
                    ":projection/schema",
                    format!("expected a vector of attribute maps, got {got}"),
                    "declare every attribute the projection writes: {:db/ident … :db/valueType … :db/cardinality …}",
                );
                Vec::new()
            }
        };
        let mut declared = Vec::new();
        for (i, a) in schema.iter().enumerate() {
            match a.get(&Value::keyword("db/ident")) {
                Some(Value::Keyword(k)) => declared.push(k.clone()),
                _ => self.error(&format!(":projection/schema[{i}]"), "an attribute map needs :db/ident", ""),
            }
        }
        let mut rules = Vec::new();
        match get("projection/on") {
            Some(Value::Vector(v)) if !v.is_empty() => {
                for (i, rule) in v.iter().enumerate() {
                    if let Some(rule) = self.rule(&format!(":projection/on[{i}]"), rule, &declared) {
                        rules.push(rule);
                    }
                }
            }
            _ => self.error(
                ":projection/on",
                "expected a vector of rules",
                "write [{:event \"Type\" :assert [{…}]}]",
            ),
        }
        let (mut by_type, mut any) = (HashMap::<Arc<str>, Vec<usize>>::new(), Vec::new());
        for (i, rule) in rules.iter().enumerate() {
            match &rule.types {
                None => any.push(i),
                Some(types) => {
                    for ty in types {
                        by_type.entry(ty.shared()).or_default().push(i);
                    }
                }
            }
        }
        Some(Definition {
            name: name?,
            version,
            mode,
            on_error,
            schema,
            source: source.clone(),
            rules,
            by_type,
            any,
        })
    }

    fn on_error(&mut self, given: Option<&Value>) -> OnError {
        let plain = |v: &Value| match v {
            Value::Keyword(k) if k.as_str() == "halt" => Some(OnError::Halt),
            Value::Keyword(k) if k.as_str() == "park" => Some(OnError::Park),
            _ => None,
        };
        let Some(given) = given else { return OnError::Halt };
        if let Some(policy) = plain(given) {
            return policy;
        }
        if let Value::Vector(v) = given
            && let [Value::Keyword(k), Value::Long(n @ 1..=255), then] = &v[..]
            && k.as_str() == "retry"
        {
            match plain(then) {
                Some(OnError::Halt) => return OnError::RetryThenHalt(*n as u8),
                Some(OnError::Park) => return OnError::RetryThenPark(*n as u8),
                _ => {}
            }
        }
        self.error(
            ":projection/on-error",
            format!("expected :halt, :park or [:retry n :park], got {given:?}"),
            "",
        );
        OnError::Halt
    }

    fn rule(&mut self, path: &str, rule: &Value, declared: &[Keyword]) -> Option<Rule> {
        let Value::Map(map) = rule else {
            self.error(path, format!("a rule is a map, got {}", rule.kind()), "");
            return None;
        };
        self.keys(path, map, &RULE);
        self.names.clear();
        self.fresh = 0;
        self.each = None;
        let get = |key: &str| rule.get(&Value::keyword(key));
        let types = match get("event") {
            Some(Value::Keyword(k)) if k.as_str() == "any" => None,
            Some(Value::String(s)) => Some(vec![self.event_type(path, s)?]),
            Some(Value::Vector(v) | Value::Set(v)) if !v.is_empty() => {
                let mut types = Vec::new();
                for ty in v.iter() {
                    match ty {
                        Value::String(s) => types.extend(self.event_type(path, s)),
                        other => self.error(path, format!(":event holds type names, got {other:?}"), ""),
                    }
                }
                Some(types)
            }
            other => {
                self.error(
                    path,
                    format!("expected :event with a type name, got {other:?}"),
                    "write :event \"Type\" or :event :any",
                );
                None
            }
        };
        let category = match get("category") {
            None => None,
            Some(Value::String(s)) => Some(s.clone()),
            Some(other) => {
                self.error(path, format!(":category is a string, got {other:?}"), "");
                None
            }
        };
        let schema = match get("schema") {
            None => None,
            Some(Value::Long(n)) if u32::try_from(*n).is_ok() => Some(*n as u32),
            Some(other) => {
                self.error(path, format!(":schema is a number, got {other:?}"), "");
                None
            }
        };
        let mut tags = Vec::new();
        for tag in one_or_many(get("tag")) {
            match tag {
                Value::String(s) => match Tag::new(s) {
                    Ok(t) => tags.push(t),
                    Err(e) => self.error(path, e.to_string(), ""),
                },
                other => self.error(path, format!(":tag is a string, got {other:?}"), ""),
            }
        }
        let each = match get("each") {
            None => None,
            Some(Value::Vector(v)) => match &v[..] {
                [Value::Symbol(s), e] if s.as_str().starts_with('?') && s.as_str().len() > 1 => {
                    let e = self.expr(&format!("{path} :each"), e);
                    self.each = Some(Arc::from(s.as_str()));
                    e
                }
                _ => {
                    self.error(path, ":each is [?name expression]", "");
                    None
                }
            },
            Some(other) => {
                self.error(path, format!(":each is [?name expression], got {}", other.kind()), "");
                None
            }
        };
        let mut when = Vec::new();
        let conditions = match get("when") {
            Some(Value::Vector(v)) => v.to_vec(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        };
        for (i, c) in conditions.iter().enumerate() {
            when.extend(self.cond(&format!("{path} :when[{i}]"), c));
        }
        let mut assert = Vec::new();
        for (i, form) in self.forms(path, ":assert", get("assert")).iter().enumerate() {
            assert.extend(self.template(&format!("{path} :assert[{i}]"), form, declared));
        }
        let mut retract = Vec::new();
        for (i, form) in self.forms(path, ":retract", get("retract")).iter().enumerate() {
            let path = format!("{path} :retract[{i}]");
            let parts = match form {
                Value::Vector(v) => v.to_vec(),
                _ => Vec::new(),
            };
            match &parts[..] {
                [e, Value::Keyword(attr), value @ ..] if value.len() <= 1 => {
                    self.attr(&path, attr, declared);
                    let e = self.entity(&path, e);
                    let v = value.first().map(|v| self.expr(&path, v));
                    match (e, v) {
                        (Some(e), None) => retract.push((e, attr.clone(), None)),
                        (Some(e), Some(Some(v))) => retract.push((e, attr.clone(), Some(v))),
                        _ => {}
                    }
                }
                _ => self.error(&path, "expected [entity attribute] or [entity attribute value]", ""),
            }
        }
        let mut forget = Vec::new();
        for (i, form) in self.forms(path, ":retract-entity", get("retract-entity")).iter().enumerate() {
            forget.extend(self.entity(&format!("{path} :retract-entity[{i}]"), form));
        }
        if assert.is_empty() && retract.is_empty() && forget.is_empty() && self.errors.is_empty() {
            self.error(path, "the rule says nothing", "give it :assert, :retract or :retract-entity");
        }
        Some(Rule { types, category, schema, tags, when, each, forget, retract, assert })
    }

    fn forms(&mut self, path: &str, key: &str, given: Option<&Value>) -> Vec<Value> {
        match given {
            None => Vec::new(),
            Some(Value::Vector(v)) => v.to_vec(),
            Some(other) => {
                self.error(path, format!("{key} is a vector, got {}", other.kind()), "");
                Vec::new()
            }
        }
    }

    fn event_type(&mut self, path: &str, s: &str) -> Option<EventType> {
        EventType::new(s).map_err(|e| self.error(path, e.to_string(), "")).ok()
    }

    pub(super) fn attr(&mut self, path: &str, attr: &Keyword, declared: &[Keyword]) {
        if declared.contains(attr) {
            return;
        }
        let help = match nearest(attr.as_str(), declared.iter().map(Keyword::as_str)) {
            Some(n) => format!("did you mean :{n}?"),
            None => format!("add {{:db/ident {attr} …}} to :projection/schema"),
        };
        self.errors.push(
            Diagnostic::new("projection/not-owned", format!("{attr} is not in :projection/schema"))
                .path(path)
                .help(help),
        );
    }

    pub(super) fn name(&mut self, s: &Arc<str>) -> u32 {
        match self.names.get(s) {
            Some(n) => *n,
            None => {
                let n = self.next();
                self.names.insert(s.clone(), n);
                n
            }
        }
    }

    pub(super) fn next(&mut self) -> u32 {
        self.fresh += 1;
        self.fresh
    }
}

fn one_or_many(v: Option<&Value>) -> Vec<Value> {
    match v {
        None => Vec::new(),
        Some(Value::Vector(v) | Value::Set(v)) => v.to_vec(),
        Some(one) => vec![one.clone()],
    }
}
