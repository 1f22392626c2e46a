//! A rule, and carrying it out over one event.
//!
//! 1. A rule's lines are carried out in the order forget, retract, assert, each seeing the
//!    ones before it ([`Target`] keeps what was said so far).
//! 2. What an erased value names, nothing is said of; that is no error.
//!
//! Not here: reading a rule (`parse`), computing values (`expr`).

use super::{
    expr::{Cond, Expr, Scope},
    function::Fun,
};
use crate::event::{
    facts::{ProjectError, Subject, Target, is_identity},
    id::{EventType, Tag},
    record::Recorded,
};
use annals_model::{Attribute, Keyword, Value};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) types: Option<Vec<EventType>>,
    pub(super) category: Option<Arc<str>>,
    pub(super) schema: Option<u32>,
    pub(super) tags: Vec<Tag>,
    pub(super) when: Vec<Cond>,
    pub(super) each: Option<Expr>,
    pub(super) forget: Vec<Entity>,
    pub(super) retract: Vec<(Entity, Keyword, Option<Expr>)>,
    pub(super) assert: Vec<Template>,
}

#[derive(Clone, Debug)]
pub(super) enum Entity {
    Lookup(Keyword, Expr),
    Name(u32),
    Event,
}

#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) entity: Option<Entity>,
    pub(super) attrs: Vec<(Keyword, Slot)>,
    /// Number of the new entity, when neither `:db/id` nor an identity names one.
    pub(super) fresh: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Slot {
    Expr(Expr),
    Nested(Template),
    Lookup(Keyword, Expr, Expr),
    Many(Vec<Slot>),
    Name(Arc<str>, u32),
}

impl Rule {
    pub(super) fn run(&self, e: &Recorded, out: &mut Target<'_>) -> Result<(), ProjectError> {
        if self.category.as_deref().is_some_and(|c| c != e.stream.category())
            || self.schema.is_some_and(|s| s != e.event.schema)
            || !self.tags.iter().all(|t| e.event.tags.contains(t))
        {
            return Ok(());
        }
        match &self.each {
            None => self.once(&Scope { event: e, item: None }, out, 0),
            Some(items) => {
                let scope = Scope { event: e, item: None };
                match items.value(&scope, out, None)? {
                    None => Ok(()),
                    Some(Value::Vector(items) | Value::Set(items) | Value::List(items)) => {
                        for (i, item) in items.iter().enumerate() {
                            self.once(&Scope { event: e, item: Some(item) }, out, (i as u32 + 1) << 12)?;
                        }
                        Ok(())
                    }
                    Some(value) => Err(ProjectError::Convert { value, wanted: "vector", by: ":each".into() }),
                }
            }
        }
    }

    /// `round` keeps the new entities of each item apart.
    fn once(&self, scope: &Scope<'_>, out: &mut Target<'_>, round: u32) -> Result<(), ProjectError> {
        for c in &self.when {
            if !c.holds(scope, out, None)? {
                return Ok(());
            }
        }
        for entity in &self.forget {
            if let Some(e) = entity.existing(scope, out, round)? {
                out.forget(e)?;
            }
        }
        for (entity, attr, value) in &self.retract {
            let a = out.owned(attr)?;
            let Some(e) = entity.existing(scope, out, round)? else { continue };
            match value {
                None => out.clear(e, attr, a)?,
                Some(v) => {
                    let v = v.needed(scope, out, Some(e), || format!(":retract {attr}"))?;
                    out.retract(e, attr, a, v)?;
                }
            }
        }
        for template in &self.assert {
            match template.assert(scope, out, round) {
                // Of an entity that only an erased value could name, nothing is said.
                Ok(_) | Err(ProjectError::Erased) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Entity {
    fn subject(&self, scope: &Scope<'_>, out: &mut Target<'_>, round: u32) -> Result<Subject, ProjectError> {
        Ok(match self {
            Entity::Lookup(attr, v) => {
                Subject::Lookup(attr.clone(), v.named(scope, out, None, || format!("lookup {attr}"))?)
            }
            Entity::Name(n) => Subject::New(n + round),
            Entity::Event => Subject::Id(scope.event.position.entity()),
        })
    }
    /// For retraction: what is not there is not made.
    fn existing(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        round: u32,
    ) -> Result<Option<annals_model::EntityId>, ProjectError> {
        match self.subject(scope, out, round) {
            Ok(Subject::Lookup(attr, v)) => out.find(&attr, &v),
            Ok(s) => out.entity(&s).map(Some),
            Err(ProjectError::Erased) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Template {
    fn assert(
        &self,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        round: u32,
    ) -> Result<annals_model::EntityId, ProjectError> {
        let subject = match &self.entity {
            Some(entity) => entity.subject(scope, out, round)?,
            None => self.identity(scope, out)?.unwrap_or(Subject::New(self.fresh + round)),
        };
        let e = out.entity(&subject)?;
        for (attr, slot) in &self.attrs {
            let a = out.owned(attr)?;
            slot.assert(e, attr, a, scope, out, round)?;
        }
        Ok(e)
    }
    fn identity(&self, scope: &Scope<'_>, out: &mut Target<'_>) -> Result<Option<Subject>, ProjectError> {
        let mut erased = false;
        for (attr, slot) in &self.attrs {
            if !is_identity(out.owned(attr)?) {
                continue;
            }
            if let Slot::Expr(v) = slot {
                match v.named(scope, out, None, || attr.to_string()) {
                    Ok(v) => return Ok(Some(Subject::Lookup(attr.clone(), v))),
                    // Another identity may still name it.
                    Err(ProjectError::Erased) => erased = true,
                    Err(e) => return Err(e),
                }
            }
        }
        if erased {
            return Err(ProjectError::Erased);
        }
        Ok(None)
    }
}

impl Slot {
    fn assert(
        &self,
        e: annals_model::EntityId,
        attr: &Keyword,
        a: &Arc<Attribute>,
        scope: &Scope<'_>,
        out: &mut Target<'_>,
        round: u32,
    ) -> Result<(), ProjectError> {
        let value = match self {
            Slot::Expr(Expr::Call(Fun::Maybe, args)) => match args[0].value(scope, out, Some(e))? {
                Some(v) => v,
                None => return Ok(()),
            },
            Slot::Expr(expr) => expr.needed(scope, out, Some(e), || attr.to_string())?,
            Slot::Nested(t) => match t.assert(scope, out, round) {
                Ok(e) => Value::Ref(e),
                Err(ProjectError::Erased) => return Ok(()),
                Err(e) => return Err(e),
            },
            // A pair of keyword and expression is a lookup under a reference, and a value elsewhere.
            Slot::Lookup(unique, v, whole) => {
                if a.is_ref() {
                    let v = match v.named(scope, out, Some(e), || format!("{attr} [{unique} …]")) {
                        Err(ProjectError::Erased) => return Ok(()),
                        v => v?,
                    };
                    Value::Ref(out.entity(&Subject::Lookup(unique.clone(), v))?)
                } else {
                    whole.needed(scope, out, Some(e), || attr.to_string())?
                }
            }
            Slot::Name(text, n) => {
                if a.is_ref() {
                    Value::Ref(out.entity(&Subject::New(n + round))?)
                } else {
                    Value::String(text.clone())
                }
            }
            Slot::Many(slots) => {
                if !a.is_many() {
                    return Err(ProjectError::ManyForOne { attr: attr.clone() });
                }
                for slot in slots {
                    slot.assert(e, attr, a, scope, out, round)?;
                }
                return Ok(());
            }
        };
        match value {
            Value::Vector(items) | Value::Set(items) if a.is_many() => {
                for item in items.iter() {
                    out.assert(e, attr, a, item.clone())?;
                }
                Ok(())
            }
            v => out.assert(e, attr, a, v),
        }
    }
}
