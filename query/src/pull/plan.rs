//! A pattern with its names looked up in one database and one library.

use super::PullError;
use crate::ast::{PullAttr, PullItem, PullLimit, PullPattern, PullSub, Spanned};
use crate::eval::function::{Function, Library};
use crate::source::Source;
use annals_model::{Attribute, Symbol, Value};
use std::sync::Arc;

/// A pattern with its names looked up.
pub(super) struct Plan {
    pub wildcard: bool,
    pub id: Option<Value>,
    pub items: Vec<Item>,
}

pub(super) struct Item {
    pub attr: Arc<Attribute>,
    pub reverse: bool,
    pub key: Value,
    pub limit: PullLimit,
    pub default: Option<Value>,
    pub xform: Option<(Spanned<Symbol>, Arc<Function>)>,
    pub sub: Sub,
}

pub(super) enum Sub {
    /// Scalars, `{:db/id n}`, or components whole.
    Plain,
    Pattern(Plan),
    Again(Option<usize>),
}

impl Plan {
    pub fn of(pattern: &PullPattern, source: &dyn Source, library: &Library) -> Result<Plan, PullError> {
        let mut plan = Plan { wildcard: false, id: None, items: Vec::new() };
        for item in &pattern.items {
            match item {
                PullItem::Wildcard(_) => plan.wildcard = true,
                PullItem::Id { key, .. } => plan.id = Some(key.clone()),
                PullItem::Attr(a) => plan.items.push(Item::of(a, source, library)?),
            }
        }
        Ok(plan)
    }
}

impl Item {
    fn of(a: &PullAttr, source: &dyn Source, library: &Library) -> Result<Item, PullError> {
        let schema = source.schema();
        let Some(attr) = schema.attribute_named(&a.attr.node) else {
            let attr = a.attr.node.clone();
            let nearest = schema.nearest(&attr);
            return Err(PullError::UnknownAttribute { attr, at: a.attr.span, nearest });
        };
        if !attr.is_ref() && (a.reverse || a.sub != PullSub::None) {
            return Err(PullError::NotRef { attr: attr.ident.clone(), reverse: a.reverse, at: a.attr.span });
        }
        let xform = match &a.xform {
            None => None,
            Some(name) => Some(match library.function(name.as_str()) {
                Some(f) => (name.clone(), f.clone()),
                None => {
                    let nearest = library.nearest_function(name.as_str()).map(str::to_owned);
                    return Err(PullError::UnknownXform { name: name.node.clone(), at: name.span, nearest });
                }
            }),
        };
        let sub = match &a.sub {
            PullSub::None => Sub::Plain,
            PullSub::Pattern(p) => Sub::Pattern(Plan::of(p, source, library)?),
            PullSub::Recursion(depth) => Sub::Again(*depth),
        };
        Ok(Item {
            attr: attr.clone(),
            reverse: a.reverse,
            key: a.key.clone(),
            limit: a.limit,
            default: a.default.clone(),
            xform,
            sub,
        })
    }
}
