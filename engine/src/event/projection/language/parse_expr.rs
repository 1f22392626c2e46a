//! From EDN to what stands inside a rule: entities, templates, expressions, conditions.

use super::{
    expr::{Cmp, Cond, Expr, Part},
    function::FUNCTIONS,
    parse::Parser,
    rule::{Entity, Slot, Template},
};
use annals_model::{Keyword, Symbol, Value};
use std::sync::Arc;

impl Parser {
    pub(super) fn entity(&mut self, path: &str, v: &Value) -> Option<Entity> {
        match v {
            Value::Vector(pair) => {
                if let [Value::Keyword(attr), e] = &pair[..] {
                    return Some(Entity::Lookup(attr.clone(), self.expr(path, e)?));
                }
            }
            Value::String(s) => return Some(Entity::Name(self.name(s))),
            Value::Symbol(s) if s.as_str() == "$event" => return Some(Entity::Event),
            _ => {}
        }
        self.error(
            path,
            format!("{v:?} names no entity"),
            "write a lookup [:order/id $data.id], a \"name\", or $event",
        );
        None
    }

    pub(super) fn template(&mut self, path: &str, form: &Value, declared: &[Keyword]) -> Option<Template> {
        let Value::Map(map) = form else {
            self.error(path, format!("expected a map about one entity, got {}", form.kind()), "");
            return None;
        };
        let (mut entity, mut attrs) = (None, Vec::new());
        for (k, v) in map.iter() {
            let Value::Keyword(attr) = k else {
                self.error(path, format!("attributes are keywords, got {k:?}"), "");
                continue;
            };
            if attr.as_str() == "db/id" {
                entity = self.entity(path, v);
                continue;
            }
            self.attr(path, attr, declared);
            if let Some(slot) = self.slot(&format!("{path} {attr}"), v, declared) {
                attrs.push((attr.clone(), slot));
            }
        }
        Some(Template { entity, attrs, fresh: self.next() })
    }

    fn slot(&mut self, path: &str, v: &Value, declared: &[Keyword]) -> Option<Slot> {
        Some(match v {
            Value::Map(_) => Slot::Nested(self.template(path, v, declared)?),
            Value::String(s) => match self.names.get(s) {
                Some(n) => Slot::Name(s.clone(), *n),
                None => Slot::Expr(Expr::Const(v.clone())),
            },
            Value::Vector(items) => match &items[..] {
                [Value::Keyword(attr), value] => {
                    let value = self.expr(path, value)?;
                    let whole = Expr::Vector(vec![Expr::Const(Value::Keyword(attr.clone())), value.clone()]);
                    Slot::Lookup(attr.clone(), value, whole)
                }
                _ => {
                    let mut slots = Vec::with_capacity(items.len());
                    for (i, item) in items.iter().enumerate() {
                        slots.push(self.slot(&format!("{path}[{i}]"), item, declared)?);
                    }
                    Slot::Many(slots)
                }
            },
            _ => Slot::Expr(self.expr(path, v)?),
        })
    }

    pub(super) fn expr(&mut self, path: &str, v: &Value) -> Option<Expr> {
        Some(match v {
            Value::Symbol(s) => self.symbol(path, s)?,
            Value::List(list) => {
                let Some((Value::Symbol(head), args)) = list.split_first() else {
                    self.error(path, format!("{v:?} is not a call"), "write (function argument …)");
                    return None;
                };
                self.call(path, head.as_str(), args)?
            }
            Value::Vector(items) => {
                let mut all = Vec::with_capacity(items.len());
                for item in items.iter() {
                    all.push(self.expr(path, item)?);
                }
                Expr::Vector(all)
            }
            literal => Expr::Const(literal.clone()),
        })
    }

    fn symbol(&mut self, path: &str, s: &Symbol) -> Option<Expr> {
        let mut parts = s.as_str().split('.');
        let root = parts.next().unwrap_or_default();
        let rest: Vec<Arc<str>> = parts.map(Arc::from).collect();
        if rest.iter().any(|p| p.is_empty()) {
            self.error(path, format!("{s} has an empty part"), "");
            return None;
        }
        match root {
            "$data" => return Some(Expr::Data(rest)),
            "$meta" if !rest.is_empty() => return Some(Expr::Meta(rest)),
            _ if self.each.as_deref() == Some(root) => return Some(Expr::Item(rest)),
            _ => {}
        }
        let part = match s.as_str() {
            "$stream" => Part::Stream,
            "$stream.category" => Part::Category,
            "$stream.key" => Part::Key,
            "$type" => Part::Type,
            "$schema" => Part::Schema,
            "$id" => Part::Id,
            "$version" => Part::Version,
            "$position" => Part::Position,
            "$tags" => Part::Tags,
            "$time" => Part::Time,
            "$recorded-at" => Part::RecordedAt,
            "$occurred-at" => Part::OccurredAt,
            "$actor" => Part::Actor,
            "$correlation" => Part::Correlation,
            "$causation" => Part::Causation,
            "$event" => Part::Event,
            other => {
                const KNOWN: [&str; 19] = [
                    "$data",
                    "$meta.name",
                    "$stream",
                    "$stream.category",
                    "$stream.key",
                    "$type",
                    "$schema",
                    "$id",
                    "$version",
                    "$position",
                    "$tags",
                    "$time",
                    "$recorded-at",
                    "$occurred-at",
                    "$actor",
                    "$correlation",
                    "$causation",
                    "$event",
                    "?item",
                ];
                self.unknown(path, "symbol", other, &KNOWN);
                return None;
            }
        };
        Some(Expr::Of(part))
    }

    fn call(&mut self, path: &str, head: &str, args: &[Value]) -> Option<Expr> {
        match head {
            "field" => {
                let mut keys = Vec::new();
                for a in args {
                    match a {
                        Value::Keyword(k) => keys.push(Arc::from(k.as_str())),
                        Value::String(s) => keys.push(s.clone()),
                        other => {
                            self.error(path, format!("(field …) takes keywords, got {other:?}"), "");
                            return None;
                        }
                    }
                }
                return Some(Expr::Data(keys));
            }
            "get" if args.len() >= 2 => {
                return Some(Expr::Get(Box::new(self.expr(path, &args[0])?), args[1..].to_vec()));
            }
            "current" => {
                return match args {
                    [Value::Keyword(a)] => Some(Expr::Current(a.clone(), None)),
                    [Value::Keyword(a), d] => {
                        Some(Expr::Current(a.clone(), Some(Box::new(self.expr(path, d)?))))
                    }
                    _ => {
                        self.error(path, "expected (current :attribute) or (current :attribute default)", "");
                        None
                    }
                };
            }
            "if" => {
                return match args {
                    [c, a, b] => Some(Expr::If(
                        Box::new(self.cond(path, c)?),
                        Box::new(self.expr(path, a)?),
                        Box::new(self.expr(path, b)?),
                    )),
                    _ => {
                        self.error(path, "expected (if condition then else)", "");
                        None
                    }
                };
            }
            _ => {}
        }
        let Some((_, fun, least, most)) = FUNCTIONS.iter().find(|f| f.0 == head) else {
            let mut known: Vec<&str> = FUNCTIONS.iter().map(|f| f.0).collect();
            known.extend(["field", "get", "current", "if"]);
            self.unknown(path, "function", head, &known);
            return None;
        };
        if args.len() < *least || args.len() > *most {
            self.error(path, format!("({head} …) takes {least} or more arguments, got {}", args.len()), "");
            return None;
        }
        let mut all = Vec::with_capacity(args.len());
        for a in args {
            all.push(self.expr(path, a)?);
        }
        Some(Expr::Call(*fun, all))
    }

    pub(super) fn cond(&mut self, path: &str, v: &Value) -> Option<Cond> {
        let parts = match v {
            Value::List(l) => l.to_vec(),
            _ => Vec::new(),
        };
        let Some((Value::Symbol(head), args)) = parts.split_first() else {
            self.error(path, format!("{v:?} is not a condition"), "write (= $data.kind \"web\")");
            return None;
        };
        let compare = |cmp| move |a, b| Cond::Compare(cmp, a, b);
        let cmp = match head.as_str() {
            "=" => Some(Cmp::Eq),
            "not=" => Some(Cmp::Ne),
            "<" => Some(Cmp::Lt),
            "<=" => Some(Cmp::Le),
            ">" => Some(Cmp::Gt),
            ">=" => Some(Cmp::Ge),
            _ => None,
        };
        match (head.as_str(), args) {
            (_, [a, b]) if cmp.is_some() => {
                let make = compare(cmp?);
                Some(make(self.expr(path, a)?, self.expr(path, b)?))
            }
            ("present", [e]) => Some(Cond::Present(self.expr(path, e)?)),
            ("missing", [e]) => Some(Cond::Not(Box::new(Cond::Present(self.expr(path, e)?)))),
            ("in", [e, Value::Set(s) | Value::Vector(s)]) => Some(Cond::In(self.expr(path, e)?, s.to_vec())),
            ("starts-with", [e, Value::String(s)]) => Some(Cond::StartsWith(self.expr(path, e)?, s.clone())),
            ("not", [c]) => Some(Cond::Not(Box::new(self.cond(path, c)?))),
            ("and" | "or", all) => {
                let mut conds = Vec::with_capacity(all.len());
                for c in all {
                    conds.push(self.cond(path, c)?);
                }
                Some(if head.as_str() == "and" { Cond::All(conds) } else { Cond::AnyOf(conds) })
            }
            (other, args) => {
                const KNOWN: [&str; 13] = [
                    "=",
                    "not=",
                    "<",
                    "<=",
                    ">",
                    ">=",
                    "present",
                    "missing",
                    "in",
                    "starts-with",
                    "not",
                    "and",
                    "or",
                ];
                if KNOWN.contains(&other) {
                    self.error(path, format!("({other} …) does not take {} such arguments", args.len()), "");
                } else {
                    self.unknown(path, "condition", other, &KNOWN);
                }
                None
            }
        }
    }
}
