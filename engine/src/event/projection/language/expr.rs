//! Expressions and conditions: values computed from one event, and from what holds.
//!
//! 1. What is missing, or nil, is no value: [`Expr::value`] answers none, and who needs one
//!    says for what it was needed ([`Expr::needed`]).
//! 2. Nothing is converted unasked; comparisons alone take a long and a double for numbers.

use super::function::Fun;
use crate::event::{
    facts::{ProjectError, Target, is_erased},
    record::Recorded,
};
use annals_model::{EntityId, Keyword, Value};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Const(Value),
    Data(Vec<Arc<str>>),
    Meta(Vec<Arc<str>>),
    Item(Vec<Arc<str>>),
    Of(Part),
    Call(Fun, Vec<Expr>),
    Vector(Vec<Expr>),
    If(Box<Cond>, Box<Expr>, Box<Expr>),
    Current(Keyword, Option<Box<Expr>>),
    Get(Box<Expr>, Vec<Value>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Stream,
    Category,
    Key,
    Type,
    Schema,
    Id,
    Version,
    Position,
    Tags,
    Time,
    RecordedAt,
    OccurredAt,
    Actor,
    Correlation,
    Causation,
    Event,
}

#[derive(Clone, Debug)]
pub(super) enum Cond {
    Compare(Cmp, Expr, Expr),
    Present(Expr),
    In(Expr, Vec<Value>),
    StartsWith(Expr, Arc<str>),
    Not(Box<Cond>),
    All(Vec<Cond>),
    AnyOf(Vec<Cond>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

pub(super) struct Scope<'a> {
    pub(super) event: &'a Recorded,
    pub(super) item: Option<&'a Value>,
}

pub(super) type Here = Option<EntityId>;

impl Expr {
    pub(super) fn needed(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        here: Here,
        what: impl Fn() -> String,
    ) -> Result<Value, ProjectError> {
        match self.value(scope, out, here)? {
            Some(v) => Ok(v),
            None => Err(ProjectError::Missing { what: what(), field: self.name() }),
        }
    }

    /// The value that names an entity.
    pub(super) fn named(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        here: Here,
        what: impl Fn() -> String,
    ) -> Result<Value, ProjectError> {
        let v = self.needed(scope, out, here, what)?;
        if is_erased(&v) { Err(ProjectError::Erased) } else { Ok(v) }
    }

    /// The value; none when it is missing or nil.
    pub(super) fn value(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        here: Here,
    ) -> Result<Option<Value>, ProjectError> {
        let e = scope.event;
        let found = match self {
            Expr::Const(v) => Some(v.clone()),
            Expr::Data(path) => e.event.data.path(path)?,
            Expr::Meta(path) => {
                path.split_first().and_then(|(first, rest)| dig(e.event.meta.more.get(first)?.clone(), rest))
            }
            Expr::Item(path) => scope.item.and_then(|v| dig(v.clone(), path)),
            Expr::Of(part) => part.value(e),
            Expr::Vector(items) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    values.push(item.needed(scope, out, here, || "vector".into())?);
                }
                Some(Value::Vector(values.into()))
            }
            Expr::If(c, yes, no) => {
                let chosen = if c.holds(scope, out, here)? { yes } else { no };
                chosen.value(scope, out, here)?
            }
            Expr::Current(attr, default) => {
                let Some(entity) = here else {
                    return Err(ProjectError::Said(format!(
                        "(current {attr}) needs an entity: use it in a map"
                    )));
                };
                let held = out.read(entity, attr)?;
                match held.len() {
                    0 => match default {
                        Some(d) => d.value(scope, out, here)?,
                        None => None,
                    },
                    1 => held.into_iter().next(),
                    _ => Some(Value::set(held)),
                }
            }
            Expr::Get(from, keys) => {
                let mut at = from.value(scope, out, here)?;
                for key in keys {
                    at = at.and_then(|v| entry(&v, key));
                }
                at
            }
            Expr::Call(Fun::Or, args) => {
                for arg in args {
                    if let Some(v) = arg.value(scope, out, here)? {
                        return Ok(Some(v));
                    }
                }
                None
            }
            Expr::Call(f, args) => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    match arg.value(scope, out, here)? {
                        // What is made of an erased value is erased.
                        Some(v) if is_erased(&v) => return Ok(Some(v)),
                        Some(v) => values.push(v),
                        None => return Ok(None),
                    }
                }
                Some(f.call(values)?)
            }
        };
        Ok(found.filter(|v| *v != Value::Nil))
    }

    /// What to call it in a message.
    fn name(&self) -> String {
        let path = |root: &str, path: &[Arc<str>]| {
            path.iter().fold(root.to_owned(), |mut name, part| {
                name.push('.');
                name.push_str(part);
                name
            })
        };
        match self {
            Expr::Data(p) => path("$data", p),
            Expr::Meta(p) => path("$meta", p),
            Expr::Item(p) => path("?item", p),
            Expr::Of(part) => format!("${part:?}").to_lowercase(),
            // Of a call with a constant, it is not the constant that is missing.
            Expr::Call(_, args) => {
                let fields = args.iter().filter(|a| !matches!(a, Expr::Const(_)));
                fields.map(Expr::name).collect::<Vec<_>>().join(" or ")
            }
            Expr::Current(attr, _) => format!("(current {attr})"),
            Expr::Get(from, _) => from.name(),
            Expr::Const(v) => format!("{v:?}"),
            Expr::Vector(_) => "vector".into(),
            Expr::If(..) => "(if …)".into(),
        }
    }
}

fn dig(v: Value, path: &[Arc<str>]) -> Option<Value> {
    path.iter().try_fold(v, |v, key| entry(&v, &Value::keyword(key)))
}

fn entry(v: &Value, key: &Value) -> Option<Value> {
    match (v, key) {
        (Value::Vector(items) | Value::List(items), Value::Long(i)) => {
            usize::try_from(*i).ok().and_then(|i| items.get(i)).cloned()
        }
        _ => v.get(key).cloned(),
    }
}

impl Part {
    pub(super) fn value(self, e: &Recorded) -> Option<Value> {
        let m = &e.event.meta;
        Some(match self {
            Part::Stream => Value::String(e.stream.shared()),
            Part::Category => Value::string(e.stream.category()),
            Part::Key => Value::string(e.stream.key()),
            Part::Type => Value::String(e.event.ty.shared()),
            Part::Schema => Value::Long(e.event.schema.into()),
            Part::Id => Value::Uuid(e.event.id.0),
            Part::Version => Value::Long(e.version.0 as i64),
            Part::Position => Value::Long(e.position.0 as i64),
            Part::Tags => Value::set(e.event.tags.iter().map(|t| Value::String(t.shared()))),
            Part::Time => Value::Instant(e.time()),
            Part::RecordedAt => Value::Instant(e.recorded_at),
            Part::OccurredAt => Value::Instant(e.event.occurred_at?),
            Part::Actor => Value::String(m.actor.clone()?),
            Part::Correlation => Value::String(m.correlation.clone()?),
            Part::Causation => Value::Uuid(m.causation?),
            Part::Event => Value::Ref(e.position.entity()),
        })
    }
}

impl Cond {
    pub(super) fn holds(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        here: Here,
    ) -> Result<bool, ProjectError> {
        Ok(match self {
            Cond::Present(e) => e.value(scope, out, here)?.is_some(),
            Cond::In(e, set) => e.value(scope, out, here)?.is_some_and(|v| set.contains(&v)),
            Cond::StartsWith(e, start) => {
                matches!(e.value(scope, out, here)?, Some(Value::String(s)) if s.starts_with(&**start))
            }
            Cond::Not(c) => !c.holds(scope, out, here)?,
            Cond::All(all) => {
                for c in all {
                    if !c.holds(scope, out, here)? {
                        return Ok(false);
                    }
                }
                true
            }
            Cond::AnyOf(any) => {
                for c in any {
                    if c.holds(scope, out, here)? {
                        return Ok(true);
                    }
                }
                false
            }
            Cond::Compare(cmp, a, b) => {
                let (a, b) = (a.value(scope, out, here)?, b.value(scope, out, here)?);
                match cmp {
                    Cmp::Eq => same(&a, &b),
                    Cmp::Ne => !same(&a, &b),
                    // What is missing is neither smaller nor larger.
                    _ => match (a, b) {
                        (Some(a), Some(b)) => order(&a, &b).is_some_and(|o| match cmp {
                            Cmp::Lt => o.is_lt(),
                            Cmp::Le => o.is_le(),
                            Cmp::Gt => o.is_gt(),
                            _ => o.is_ge(),
                        }),
                        _ => false,
                    },
                }
            }
        })
    }
}

fn same(a: &Option<Value>, b: &Option<Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || order(a, b).is_some_and(std::cmp::Ordering::is_eq),
        (None, None) => true,
        _ => false,
    }
}

/// Values of one type, and numbers among each other, have an order.
fn order(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Long(x), Value::Double(y)) => (*x as f64).partial_cmp(y),
        (Value::Double(x), Value::Long(y)) => x.partial_cmp(&(*y as f64)),
        _ if a.kind() == b.kind() => Some(a.cmp(b)),
        _ => None,
    }
}
