//! End-of-transaction checks: attribute predicates on every value asserted, and
//! `:db/ensure` against the database after the transaction.

use super::{
    Before,
    error::{Place, TransactError},
    function,
    op::{Change, Ensure, Res},
    upsert::Resolved,
};
use crate::{Db, bootstrap as boot, store::Prefix};
use annals_model::{Datom, Keyword, Value, View};

/// Runs `:db.attr/preds` on each new value.
pub(crate) fn attribute_predicates(before: &Before<'_>, changes: &[Change], datoms: &[Datom]) -> Res<()> {
    let schema = &before.info.schema;
    for d in datoms.iter().filter(|d| d.added) {
        let Some(a) = schema.attribute(d.a).filter(|a| !a.preds.is_empty()) else { continue };
        let place = || {
            let cause = changes.iter().find(|c| c.e == d.e && c.a.id == d.a && c.v == d.v);
            cause.map_or_else(Place::default, Change::place)
        };
        for name in &a.preds {
            if let Some(why) = before.registry.attr_predicate(name, place)?.refuses(name, &d.v)? {
                return Err(TransactError::AttributePredicate {
                    attr: a.ident.clone(),
                    pred: name.clone(),
                    value: d.v.clone(),
                    why,
                    at: place(),
                });
            }
        }
    }
    Ok(())
}

/// Checks every entity that a `:db/ensure` names against its spec.
pub(crate) fn entity_specs(before: &Before<'_>, after: &Db, ensures: &[Ensure], ids: &Resolved) -> Res<()> {
    let schema = &before.info.schema;
    for ensure in ensures {
        let (e, _) = ids.ent(ensure.e);
        let at = || Place::form(ensure.form as usize).attr(&Keyword::new("db/ensure"));
        let named = |a| -> Res<Vec<Keyword>> {
            let found = before.snap.datoms(View::NOW, &Prefix::Ea(ensure.spec, a))?;
            Ok(found
                .into_iter()
                .filter_map(|d| match d.v {
                    Value::Keyword(k) => Some(k),
                    _ => None,
                })
                .collect())
        };
        let mut missing = Vec::new();
        for k in named(boot::ENTITY_ATTRS)? {
            let held = match schema.attribute_named(&k) {
                Some(a) => after.snapshot().first(View::NOW, &Prefix::Ea(e, a.id))?.is_some(),
                None => false,
            };
            if !held {
                missing.push(k);
            }
        }
        if !missing.is_empty() {
            let spec = schema.ident(ensure.spec).cloned();
            return Err(TransactError::EnsureMissing {
                spec: spec.unwrap_or_else(|| Keyword::new(ensure.spec.to_string())),
                entity: e,
                missing,
                at: at(),
            });
        }
        for pred in named(boot::ENTITY_PREDS)? {
            let f = before.registry.entity_predicate(&pred, at)?;
            let verdict = function::guarded(|| format!("predicate {pred}"), || f(after, e))?;
            if let Err(why) = verdict {
                return Err(TransactError::EntityPredicate { pred, entity: e, why, at: at() });
            }
        }
    }
    Ok(())
}
